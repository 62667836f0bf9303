#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# eep-info: ports of a test double of libibverbs, and what --probe measures and refuses.
#   tests/run/info.sh EEP_INFO_WITH_PORTS
set -u
info=${1:?usage: tests/run/info.sh EEP_INFO_WITH_PORTS}
tmp=$(mktemp -d)
trap 'rm -r "$tmp"' EXIT
failed=0
expect() { # STATUS TEXT ARGUMENT...: the exit status, and what must be on stderr or stdout
    wanted=$1 text=$2
    shift 2
    "$info" "$@" >"$tmp/out" 2>&1
    status=$?
    if [ "$status" -ne "$wanted" ] || ! grep -q -- "$text" "$tmp/out"; then
        echo "eep-info $*: status $status instead of $wanted, or no \"$text\" in:"
        cat "$tmp/out"
        failed=1
    fi
}
expect 0 "rdma      fake_0 port 1: active, InfiniBand, 103 Gbit/s"
expect 0 "rdma      fake_1 port 1: down, InfiniBand, 2 Gbit/s" --probe "$tmp"
grep -q "a file is read at [1-9]" "$tmp/out" || { cat "$tmp/out"; failed=1; }
expect 0 '"gbit_per_s":	103.125' --json
export EEP_RANK=2 EEP_SIZE=4
expect 0 "launch    rank 2 from EEP_RANK, 4 ranks from EEP_SIZE" --launch
expect 2 "--probe does not go with --launch" --launch --probe "$tmp"
RANK=0 LOCAL_RANK=0 expect 1 "EEP_RANK says 2 and RANK says 0" --launch
expect 1 "no file of 64 MiB can be written in $tmp/nowhere" --probe "$tmp/nowhere"
expect 2 "--probe does not go with --sizes" --sizes --layers 1 --experts 8 --slots 8 --topk 2 --hidden 64 \
    --tokens 4 --ranks 2 --probe "$tmp"
test "$(ls "$tmp")" = out || { echo "a probe left a file behind: $(ls "$tmp")"; failed=1; }
exit $failed
