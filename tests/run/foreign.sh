#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# foreign.sh BIN LIBEEP: scenario files and eep-ctl on an engine that is not ours, in Python.
set -euo pipefail
bin=$(cd "$1" && pwd)
lib=$(realpath "$2")
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
fail() { echo "$*"; cat "$tmp"/*.txt; exit 1; }
engine="${PYTHON:-python3} $root/tests/run/foreign_engine.py $lib"

# Unchanged files: a kill and a new process, and a rank that stops inside a step and is expelled.
for name in kill stop-zombie; do
    "$bin/eep-run" --scenario "$root/experiments/scenarios/$name.yaml" --ranks 4 --quiet \
        --no-picture --engine "$engine" --out "$tmp/$name" >"$tmp/$name.txt" 2>&1 ||
        fail "$name on a foreign engine"
    grep -q "NOT JUDGED  tokens_wrong" "$tmp/$name.txt" || fail "$name: who judged its tokens?"
done
grep -q ',freeze,3,' "$tmp/stop-zombie/events.csv" || fail "the place was not reached"

# By hand.
"$bin/eep-run" --ranks 4 --serve --quiet --no-picture --engine "$engine" --out "$tmp/hand" \
    >"$tmp/hand.txt" 2>&1 &
run=$!
for _ in $(seq 100); do
    "$bin/eep-ctl" --out "$tmp/hand" wait settled --timeout 30 >/dev/null 2>&1 && break
    sleep 0.2
done
"$bin/eep-ctl" --out "$tmp/hand" die 2=combine >/dev/null || fail "eep-ctl die"
"$bin/eep-ctl" --out "$tmp/hand" wait settled --timeout 30 >/dev/null || fail "not settled: die"
"$bin/eep-ctl" --out "$tmp/hand" rejoin 2 >/dev/null || fail "eep-ctl rejoin"
"$bin/eep-ctl" --out "$tmp/hand" wait settled --timeout 30 >/dev/null || fail "not settled: rejoin"
"$bin/eep-ctl" --out "$tmp/hand" drain 1 >/dev/null || fail "eep-ctl drain"
"$bin/eep-ctl" --out "$tmp/hand" wait settled --timeout 30 >/dev/null || fail "not settled: drain"
"$bin/eep-ctl" --out "$tmp/hand" finish >/dev/null
wait "$run" || fail "the run by hand"

# What a foreign engine has no hook for is refused by name.
"$bin/eep-run" --placement order.json@1 --engine "$engine" --out "$tmp/none" >"$tmp/none.txt" 2>&1 &&
    fail "a placement was taken"
grep -q -- "--engine: --placement is for eep-run's own ranks" "$tmp/none.txt" || fail "no reason"

# The traces alone.
"${PYTHON:-python3}" "$root/experiments/foreign/merge_traces.py" "$tmp/kill/trace" \
    --out "$tmp/merged" >"$tmp/merged.txt" || fail "merge_traces.py"
test "$(grep -c ',joined,' "$tmp/merged/events.csv")" -eq 5 || fail "not five processes joined"
grep -q '"name": "step"' "$tmp/merged/trace.json" || fail "no steps for Perfetto"
