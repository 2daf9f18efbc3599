#!/usr/bin/env bash
# Cuts the power of real file systems under the log, and judges what is left: docs/design/crash-testing.md.
#
#   ci/powercut.sh                                   a short run on each file system, of less than a minute
#   ci/powercut.sh --fs xfs --cuts 50000             a long one
#   ci/powercut.sh --fs btrfs --cuts 0 --errors 10000
#                                                    with write errors, failed flushes, file systems that stop
#   ci/powercut.sh --fs ext4 --seed 7 --sessions 1   a session again: the same calls and choices, in the kernel's timing
#   ci/powercut.sh breaks [NAME...]                  breaks the protocol, and has msync lie: each must be noticed
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
build() {
    cargo build --quiet --release --manifest-path ci/powercut/Cargo.toml --target-dir "$target" "$@"
}
lab="$target/release/mapwal-powercut"

# Notices one break: in sessions without errors, or in ones with.
notice() { # name, options
    local name=$1 code=0 output
    shift
    output=$("$lab" run --first --lanes 4 --seconds "${LIMIT:-60}" "$@" 2>&1) || code=$?
    if [[ $code == 1 ]]; then
        echo "$name: $(grep -m 1 -o 'seed=.*' <<<"$output")"
    else
        echo "$name: not noticed within ${LIMIT:-60} s, exit code $code" >&2
        return 1
    fi
}

case ${1:-short} in
short)
    build
    exec "$lab" run --cuts 100000 --seconds 8 --seed "${SEED:-1}"
    ;;
clean)
    build
    exec "$lab" clean
    ;;
breaks)
    shift
    build --features sabotage
    mapfile -t names < <((($#)) && printf '%s\n' "$@" || "$lab" breaks)
    noticed=0
    for name in "${names[@]}"; do
        errors=(--cuts 1000000)
        case $name in ErrorRetried | PoisonForgotten | CacheBelieved) errors=(--cuts 0 --errors 1000000) ;; esac
        ! notice "$name" --fs ext4 --sabotage "$name" "${errors[@]}" || noticed=$((noticed + 1))
    done
    cc -shared -fPIC -O1 -o "$target/lying.so" ci/powercut/lying.c
    notice 'an msync that lies' --fs ext4 --preload "$target/lying.so" --cuts 1000000
    echo "noticed $noticed of ${#names[@]}"
    ;;
*)
    build
    exec "$lab" run "$@"
    ;;
esac
