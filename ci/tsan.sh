#!/usr/bin/env bash
# Runs the simulated crashes and the concurrent tests under ThreadSanitizer.
#
# Needs a nightly toolchain with the sources of std, which is built with the sanitizer as well:
#   rustup toolchain install nightly --component rust-src
set -euo pipefail
cd "$(dirname "$0")/.."

host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTFLAGS="-Zsanitizer=thread ${RUSTFLAGS:-}"
exec cargo +nightly test -Zbuild-std --target "$host" --target-dir target/tsan --lib --test it -- \
    memory:: crashes:: model:: synced:: truncate:: views:: "$@"
