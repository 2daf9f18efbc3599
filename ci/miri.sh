#!/usr/bin/env bash
# Runs the tests of src/memory/ under Miri, on memory of the heap: undefined behaviour and data races. Other tests by name:
# ci/miri.sh format::
#
# Needs a nightly toolchain with Miri and the sources of std.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo +nightly miri --version >/dev/null 2>&1 ||
    [[ ! -f $(rustc +nightly --print sysroot)/lib/rustlib/src/rust/library/Cargo.toml ]]; then
    echo "missing: Miri (rustup toolchain install nightly --component miri,rust-src)" >&2
    exit 2
fi

# Several orders of the threads, each from its seed; integers are not cast to pointers in this crate.
export MIRIFLAGS="-Zmiri-strict-provenance -Zmiri-many-seeds=0..4 ${MIRIFLAGS:-}"
exec cargo +nightly miri test --lib "${@:-memory::}"
