#!/usr/bin/env bash
# Goes through every order of what threads do at the same time in src/memory/, and to wake a task, with loom.
set -euo pipefail
cd "$(dirname "$0")/.."

RUSTFLAGS="--cfg loom" cargo test --release --manifest-path ci/models/Cargo.toml --target-dir "${CARGO_TARGET_DIR:-$PWD/target}/loom" model
