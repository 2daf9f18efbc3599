#!/usr/bin/env bash
# Runs the tests of src/memory/ and src/format/ under Miri, on memory of the heap: undefined behaviour and data races.
#
# Needs a nightly toolchain with Miri and the sources of std:
#   rustup toolchain install nightly --component miri,rust-src
set -euo pipefail
cd "$(dirname "$0")/.."

# Several orders of the threads, each from its seed; integers are not cast to pointers in this crate.
export MIRIFLAGS="-Zmiri-strict-provenance -Zmiri-many-seeds=0..4 ${MIRIFLAGS:-}"
exec cargo +nightly miri test --lib "${@:-memory::}"
