#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The launcher is not run while a rank joins: who the new process is, and the view that has it, wait
# to be read together. What a script waits for of that rank comes about all the same.
# Replay: tests/run/late_launcher.sh BUILD/experiments
set -u
bin=$1
tmp=$(mktemp -d)
run=
store=
trap 'kill -CONT $run 2>/dev/null; kill $run $store 2>/dev/null; wait $run $store 2>/dev/null; rm -rf "$tmp"' EXIT
fail() { echo "late_launcher.sh: $*"; cat "$tmp/log"; exit 1; }
ctl() { "$bin/eep-ctl" --out "$tmp/out" "$@" >"$tmp/answer" 2>&1 || fail "$*: $(cat "$tmp/answer")"; }
# The store and the agent, which a rank needs to open, go on meanwhile: they are no part of it.
"$bin/eep-store" --path "$tmp/store" >"$tmp/ready" 2>&1 &
store=$!
for _ in $(seq 1200); do grep -q ready "$tmp/ready" && break; sleep 0.05; done
"$bin/eep-run" --no-picture --quiet --layers 2 --hidden 64 --inner 64 --experts 16 --slots 16 --topk 4 --ranks 3 --requests 1 \
    --serve --store "$tmp/store" --log-level info --out "$tmp/out" >"$tmp/log" 2>&1 &
run=$!
for _ in $(seq 1200); do [ -S "$tmp/out/control.sock" ] && break; sleep 0.05; done
ctl wait settled --timeout 60
ctl kill 2
ctl wait settled --timeout 60
ctl burn 0.01@committed:2
ctl rejoin 2
kill -STOP $run
for _ in $(seq 1200); do grep -q "joined: rank 2 (generation 2" "$tmp/log" && break; sleep 0.05; done
kill -CONT $run
ctl wait settled --timeout 60 # the event would be pending
ctl burn 0.01@expelled:2
ctl kill 2
ctl wait settled --timeout 60
ctl finish
wait $run || fail "the run was not good"
run=
