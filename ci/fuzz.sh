#!/usr/bin/env bash
# Fuzzes one target for some seconds: ci/fuzz.sh segment|directory|control|transactions|shipment SECONDS
# Or puts what reaches more code than the kept corpus into it, made small: ci/fuzz.sh TARGET merge
#
# Needs a C++ compiler. Works with a stable compiler: the flags are what `cargo fuzz` gives, without its sanitizers. A
# finding is an input in target/fuzz/artifacts/, and a line that says how to run it; it gets a test before it is mended.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${1:?which target}
task=${2:?how many seconds, or merge}

command -v c++ >/dev/null || {
    echo "missing: a C++ compiler, for libFuzzer" >&2
    exit 2
}
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
coverage+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
coverage+=" -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing"

host=$(rustc -vV | sed -n 's/^host: //p')
work="${CARGO_TARGET_DIR:-target}/fuzz"
RUSTFLAGS="$coverage" cargo build --manifest-path fuzz/Cargo.toml --release --target "$host" --target-dir "$work"
fuzzer="$work/$host/release/$target"

# What is found on the way is kept beside the build. The kept corpus has what reached something new when it was merged.
mkdir -p "fuzz/corpus/$target" "$work/corpus/$target" "$work/artifacts/$target"
if [[ $task == merge ]]; then
    exec "$fuzzer" -merge=1 -use_counters=0 "fuzz/corpus/$target" "$work/corpus/$target"
fi
exec "$fuzzer" "$work/corpus/$target" "fuzz/corpus/$target" \
    -max_total_time="$task" -max_len=512 -len_control=10 -rss_limit_mb=2048 -timeout=10 -print_final_stats=1 -artifact_prefix="$work/artifacts/$target/"
