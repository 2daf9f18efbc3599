#!/usr/bin/env bash
# Cuts the power of real file systems under the log, and judges what is left: docs/design/crash-testing.md.
#
#   ci/powercut.sh                                   a short run on each file system, with and without errors: two minutes
#   ci/powercut.sh --fs xfs --cuts 50000             a long one
#   ci/powercut.sh --fs btrfs --cuts 0 --errors 10000
#                                                    with write errors, failed flushes, file systems that stop
#   ci/powercut.sh --fs ext4 --seed 7 --sessions 1   a session again: the same calls and choices, in the kernel's timing
#   ci/powercut.sh breaks [NAME...]                  breaks the protocol, and has msync lie: each must be noticed
#   ci/powercut.sh --fs xfs --errors 100 --tell      says what happens in each session
#   ci/powercut.sh clean                             takes down what a killed run has left; each run does so, too
#
# Needs root, FUSE, loop devices, and the programs that make the file systems. Without them it says SKIPPED and exits with 0.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() {
    echo "SKIPPED: the laboratory of power cuts needs $*"
    exit 0
}

[[ $(uname -s) == Linux ]] || skip Linux
[[ $(id -u) == 0 ]] || skip root
[[ -c /dev/fuse ]] && grep -qw fuse /proc/filesystems || skip 'FUSE (/dev/fuse)'
[[ -c /dev/loop-control ]] && losetup --find >/dev/null 2>&1 || skip 'loop devices (/dev/loop-control)'
[[ -d /dev/shm ]] || skip 'a file system in memory at /dev/shm'
for maker in mkfs.ext4 mkfs.xfs mkfs.btrfs; do
    command -v "$maker" >/dev/null || skip "$maker (e2fsprogs, xfsprogs, btrfs-progs)"
done
for kind in ext4 xfs btrfs; do
    grep -qw "$kind" /proc/filesystems || modprobe "$kind" 2>/dev/null || skip "a kernel with $kind"
done

target="${CARGO_TARGET_DIR:-$PWD/target}/powercut"
build() { # the root of the sources
    cargo build --quiet --release --manifest-path "$1/ci/powercut/Cargo.toml" --target-dir "$target"
}
lab="$target/release/mapwal-powercut"

# The breaks that power cuts show, and those that show with errors of the disk only.
breaks=(AcknowledgeBeforeSync AcknowledgeWithoutSync BatchWithoutFlag ClaimTooMuch EndAfterSync FillOverFrames HeaderAfterSync
    IncompleteBatchAccepted LinkWithoutMeta OlderSegmentsUnsynced PredecessorEndUnchecked PrepareWithoutDirectorySync
    PrepareWithoutSync RemoveBeforeLink ResumeAfterCrash TrimWithoutRetain TruncateWithoutSync UnlinkWithoutDirectorySync
    VoidUnpublished WalkWithoutChecksum)
breaks_with_errors=(CacheBelieved ErrorRetried PoisonForgotten)
# How long the laboratory may take to notice one, in seconds.
LIMIT=${LIMIT:-90}

# Has the laboratory notice a break on ext4, which takes the least time.
notice() { # name, options
    local name=$1 code=0 output
    shift
    output=$("$lab" run --fs ext4 --first --lanes 4 --seconds "$LIMIT" "$@" 2>&1) || code=$?
    if [[ $code == 1 ]]; then
        echo "$name: $(grep -m 1 -o 'cuts=[0-9]*' <<<"$output") $(grep -m 1 -o 'seed=.*' <<<"$output" | cut -c 1-120)"
    else
        echo "$name: not noticed within $LIMIT s, exit code $code" >&2
        failed=1
    fi
}

case ${1:-short} in
short)
    build .
    failed=0
    "$lab" run --cuts 100000 --seconds 8 --seed "${SEED:-1}" || failed=1
    # Without a journal ext4 promises nothing after an error: docs/design/crash-testing.md.
    "$lab" run --fs ext4 --fs xfs --fs btrfs --fs btrfs-nocow --cuts 0 --errors 100000 --seconds 6 --seed "${SEED:-1}" || failed=1
    exit "$failed"
    ;;
clean)
    build .
    exec "$lab" clean
    ;;
breaks)
    shift
    # A copy of the sources that has all breaks: the variable MAPWAL_BREAK chooses.
    copy="${CARGO_TARGET_DIR:-$PWD/target}/sabotage"
    python3 ci/breaks/apply.py copy "$copy"
    build "$copy"
    (($#)) || set -- "${breaks[@]}" "${breaks_with_errors[@]}" lying
    failed=0
    known=$(python3 ci/breaks/apply.py list logs)
    for name in "$@"; do
        if [[ $name == lying ]]; then
            cc -shared -fPIC -O1 -o "$target/lying.so" ci/powercut/lying.c
            notice 'an msync that lies' --preload "$target/lying.so" --cuts 1000000
        elif ! grep -qx "$name" <<<"$known"; then
            echo "there is no break $name" >&2
            failed=1
        elif [[ " ${breaks_with_errors[*]} " == *" $name "* ]]; then
            MAPWAL_BREAK=$name notice "$name" --cuts 0 --errors 1000000
        else
            MAPWAL_BREAK=$name notice "$name" --cuts 1000000
        fi
    done
    exit "$failed"
    ;;
*)
    build .
    exec "$lab" run "$@"
    ;;
esac
