#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The store stops answering, or dies and comes back empty, while a rank dies: nobody else is killed,
# no token is wrong or lost, and the view changes once the store is back.
set -u
bin=$1
tmp=$(mktemp -d)
store=
trap 'kill -CONT $store 2>/dev/null; kill $store 2>/dev/null; rm -rf "$tmp"' EXIT
start_store() {
    "$bin/eep-store" --path "$tmp/s" >"$tmp/store.log" 2>&1 &
    store=$!
    for _ in $(seq 600); do [ -S "$tmp/s" ] && return 0; sleep 0.05; done
    echo "the store did not start"; cat "$tmp/store.log"; exit 1
}
children() { grep -lsE "^[0-9]+ \([^)]*\) . $1 " /proc/[0-9]*/stat | wc -l; }
# run NAME: kill rank 3 at 1 s; `fault` runs beside it.
run() {
    "$bin/eep-run" --no-picture --quiet --ranks 8 --requests 150 --rate 40 --store "$tmp/s" --kill 3@1 --rejoin 3@4 \
        --out "$tmp/$1" >"$tmp/$1.log" 2>&1 &
    local pid=$!
    for _ in $(seq 600); do [ "$(children $pid)" -ge 8 ] && break; sleep 0.05; done
    fault
    if ! wait $pid || [ "$(grep -c ',evicted,' "$tmp/$1/events.csv")" -ne 0 ]; then
        echo "$1: not good, or living ranks were expelled"; cat "$tmp/$1.log"; exit 1
    fi
    grep -E 'GOOD|kill ' "$tmp/$1.log"
}
start_store
fault() { sleep 0.9; kill -STOP $store; sleep 2; kill -CONT $store; }
run stopped
kill $store; wait $store 2>/dev/null # the next instance needs a fresh store
start_store
fault() { sleep 0.9; kill -KILL $store; wait $store 2>/dev/null; sleep 1.5; start_store; }
run restarted
