#!/usr/bin/env bash
# Runs the concurrent tests under ThreadSanitizer. Others by name, beside these: ci/tsan.sh crashes::, where the simulated disk makes
# segments ready in the caller's thread, and which takes far longer. Without those that measure the memory of the process, of which the
# sanitizer takes a multiple.
#
# Needs a nightly toolchain with the sources of std, which is built with the sanitizer as well.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ ! -f $(rustc +nightly --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library/Cargo.toml ]]; then
    echo "missing: a nightly with the sources of std (rustup toolchain install nightly --component rust-src)" >&2
    exit 2
fi

host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTFLAGS="-Zsanitizer=thread ${RUSTFLAGS:-}"
exec cargo +nightly test -Zbuild-std --target "$host" --target-dir "${CARGO_TARGET_DIR:-target}/tsan" --lib --test it -- \
    memory:: model:: synced:: truncate:: views:: "$@" --skip read::memory::
