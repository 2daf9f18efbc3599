#!/usr/bin/env bash
# Breaks the protocol in every way that is known, one after the other: the crash laboratory must notice each.
set -euo pipefail
cd "$(dirname "$0")/.."

# How long the laboratory may take to notice, in seconds.
LIMIT=120

cargo build --quiet --release --features sabotage --example crash_lab
lab="${CARGO_TARGET_DIR:-target}/release/examples/crash_lab"

failed=0
check() { # the name of a break, and what to tell the laboratory besides
    local name=$1 code=0 output seed
    output=$(timeout "$LIMIT" "$lab" --sabotage "$@" --cuts 1000000 --seed 1 --threads 1 --shrink 0) || code=$?
    seed=$(sed -n 's/^seed \([0-9]*\) breaks.*/\1/p' <<<"$output")
    # 1 is a broken rule, 3 a history that hangs. 0 has noticed nothing; anything else is no finding.
    if [[ $code == 1 || $code == 3 ]]; then
        echo "$name: seed=${seed:-hangs} $(tail -n 1 <<<"$output")"
    else
        echo "$name: not noticed within $LIMIT s, exit code $code" >&2
        failed=1
    fi
}

# TrimNewestFirst shows only where the control page is lost between two removals: `trim::files_go_oldest_first_each_durably`
# looks at the order itself.
for name in $("$lab" --sabotage list); do [[ $name == TrimNewestFirst ]] || check "$name"; done
for name in $("$lab" --sabotage list --transactions); do check "$name" --transactions; done
exit "$failed"
