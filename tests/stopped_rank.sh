#!/usr/bin/env bash
# A rank process is stopped with SIGSTOP: for less than expel_us nothing happens to it; for longer it
# is killed, then expelled, and no token is wrong or lost.
set -u
bin=$1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
# rank_pid LAUNCHER SEAT
rank_pid() {
    local file pid
    for file in $(grep -lsE "^[0-9]+ \([^)]*\) . $1 " /proc/[0-9]*/stat); do
        pid=$(basename "$(dirname "$file")")
        tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | grep -qx "EEP_RANK=$2" && echo "$pid"
    done
}
# run NAME SECONDS EXPELLED: stop rank 3 for so long once tokens flow.
run() {
    "$bin/eep-run" --ranks 8 --requests 200 --rate 40 --out "$tmp/$1" >"$tmp/$1.log" 2>&1 &
    local launcher=$! victim=
    for _ in $(seq 200); do grep -q ' 8/8 ranks' "$tmp/$1.log" && break; sleep 0.05; done
    victim=$(rank_pid $launcher 3)
    kill -STOP "$victim"; sleep "$2"; kill -CONT "$victim" 2>/dev/null
    if ! wait $launcher || [ "$(grep -c '"kind":.*"expelled"\|"kind":.*"exit"' "$tmp/$1/summary.json")" -ne "$3" ]; then
        echo "$1: not good, or not $3 ranks expelled"; cat "$tmp/$1.log"; exit 1
    fi
    echo "stopped for $2 s: $3 expelled"; grep GOOD "$tmp/$1.log"
}
run short 0.4 0
run long 2.5 1
