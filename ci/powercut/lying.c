/* Says that everything is durable, and makes nothing so: what the laboratory of power cuts must notice. */
#include <stddef.h>

int msync(void *address, size_t length, int flags) { (void)address; (void)length; (void)flags; return 0; }
int fsync(int descriptor) { (void)descriptor; return 0; }
int fdatasync(int descriptor) { (void)descriptor; return 0; }
