#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The launcher is killed with SIGKILL: its ranks end with it, nothing is left behind, and the instance
# begins again on the same store, which outlived it.
set -u
bin=$1
tmp=$(mktemp -d)
store=
trap 'kill $store 2>/dev/null; rm -rf "$tmp"' EXIT
children() { grep -lsE "^[0-9]+ \([^)]*\) . $1 " /proc/[0-9]*/stat; }
"$bin/eep-store" --path "$tmp/s" >"$tmp/store.log" 2>&1 &
store=$!
for _ in $(seq 600); do [ -S "$tmp/s" ] && break; sleep 0.05; done
for round in 1 2; do # twice: what begins again can begin again
    "$bin/eep-run" --no-picture --quiet --ranks 8 --requests 100000 --rate 60 --store "$tmp/s" --no-oracle --out "$tmp/killed$round" \
        >"$tmp/killed.log" 2>&1 &
    launcher=$!
    for _ in $(seq 600); do [ "$(children $launcher | wc -l)" -ge 8 ] && break; sleep 0.05; done
    ranks=$(children $launcher | xargs -n1 dirname | xargs -n1 basename)
    [ "$(wc -w <<<"$ranks")" -eq 8 ] || { echo "8 ranks were not started"; cat "$tmp/killed.log"; exit 1; }
    sleep 1.5 # whatever they do then: starting or serving
    kill -KILL $launcher; wait $launcher 2>/dev/null
    for _ in $(seq 100); do
        left=
        for pid in $ranks; do [ -e "/proc/$pid" ] && left="$left $pid"; done
        [ -z "$left" ] && break; sleep 0.05
    done
    [ -z "$left" ] || { echo "ranks outlived their launcher:$left"; exit 1; }
    echo "launcher killed: its 8 ranks ended"
done
if ! "$bin/eep-run" --no-picture --quiet --ranks 8 --requests 100 --rate 60 --input 4:16 --output 8:24 --store "$tmp/s" --kill 3@0.5 --rejoin 3@1 \
    --out "$tmp/again" >"$tmp/again.log" 2>&1; then
    echo "it did not begin again"; cat "$tmp/again.log"; exit 1
fi
grep GOOD "$tmp/again.log"
