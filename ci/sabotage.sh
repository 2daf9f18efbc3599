#!/usr/bin/env bash
# Breaks the protocol in every way that is known, one after the other: the crash laboratory must notice each, and nothing without one.
# Names of breaks may be given: then those only.
set -euo pipefail
cd "$(dirname "$0")/.."

# How long the laboratory may take to notice, in seconds.
LIMIT=${LIMIT:-400}

# A copy of the sources, with all breaks of ci/breaks/breaks.toml: the variable MAPWAL_BREAK chooses.
target="${CARGO_TARGET_DIR:-$PWD/target}"
python3 ci/breaks/apply.py copy "$target/sabotage"
cargo build --quiet --release --manifest-path "$target/sabotage/Cargo.toml" --target-dir "$target" --example crash_lab
lab="$target/release/examples/crash_lab"
# Cargo takes what was built from the copy for what is built from the sources, if these are older: nothing is left of it.
trap 'cargo clean --quiet --release -p mapwal --target-dir "$target"' EXIT

failed=0
check() { # the name of a break, and what to tell the laboratory besides
    local name=$1 code=0 output seed
    shift
    output=$(MAPWAL_BREAK=$name timeout "$LIMIT" "$lab" "$@" --cuts 1000000 --seed 1 --threads 1 --shrink 0 --patience 40) || code=$?
    seed=$(sed -n 's/^seed \([0-9]*\) breaks.*/\1/p' <<<"$output")
    # 1 is a broken rule, 3 a history that hangs. 0 has noticed nothing; anything else is no finding.
    if [[ $code == 1 || $code == 3 ]]; then
        echo "$name: seed=${seed:-hangs} $(tail -n 1 <<<"$output")"
    else
        echo "$name: not noticed within $LIMIT s, exit code $code" >&2
        return 1
    fi
}
export lab LIMIT
export -f check

asked=" $* "
check_all() { # those of a laboratory, and its option
    "$lab" "${@:2}" --cuts 5000 >/dev/null || {
        echo "the copy breaks a rule without a break" >&2
        failed=1
    }
    # As many at a time as there are processors, each with one thread, so that it finds the same history each time.
    for name in $(python3 ci/breaks/apply.py list "$1"); do
        if [[ $asked == "  " || $asked == *" $name "* ]]; then printf '%s\n' "$name"; fi
    done | xargs --no-run-if-empty --max-procs="$(nproc)" -I {} bash -c 'check "$@"' _ {} "${@:2}" || failed=1
}

check_all logs
check_all transactions --transactions
exit "$failed"
