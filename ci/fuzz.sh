#!/usr/bin/env bash
# Fuzzes one target for some seconds: ci/fuzz.sh segment|directory|control|transactions SECONDS
#
# Needs a C++ compiler. Works with a stable compiler: the flags are what `cargo fuzz` gives, without its sanitizers. A
# finding is an input in fuzz/artifacts/, and a line that says how to run it; it gets a test before it is mended.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"

target=${1:?which target}
seconds=${2:?how many seconds}

coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
coverage+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
coverage+=" -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing"

host=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS="$coverage" cargo build --release --target "$host" --target-dir target --bin "$target"
mkdir -p "corpus/$target" "artifacts/$target"
exec "target/$host/release/$target" "corpus/$target" \
    -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -artifact_prefix="artifacts/$target/"
