#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Ranks as threads of one process (the scenarios "threads" and "threads-stuck" are more of it): on
# memory that the CPU cannot touch, as on a GPU; and what is said when their process is killed.
# usage: thread_ranks.sh BUILD/experiments
set -u
bin=$1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
small=(--threads --ranks 4 --slots 32 --layers 2 --hidden 128 --inner 96 --quiet)
fail() {
    echo "$1"
    cat "$2"
    exit 1
}

# All tokens right through a kill, a death inside a step, and both ways back.
command=("$bin/eep-run" --no-picture "${small[@]}" --device guarded --requests 60 --rate 30
    --kill 3@0.6 --rejoin 3@0.9 --die "1=combine@1.2" --rejoin 1@1.7)
timeout 60 "${command[@]}" --out "$tmp/guarded" >"$tmp/guarded.log" 2>&1 ||
    fail "guarded: exit code $?; run: ${command[*]}" "$tmp/guarded.log"
[ "$(grep -c '"joined":[[:space:]]*true' "$tmp/guarded/summary.json")" -eq 2 ] ||
    fail "guarded: not both came back; run: ${command[*]}" "$tmp/guarded.log"
echo "guarded: $(grep -o 'GOOD.*' "$tmp/guarded.log")"

# The process that has them all is killed: that is said for each, and nothing hangs.
"$bin/eep-run" --no-picture "${small[@]}" --requests 2000 --rate 100 --max-seconds 60 --out "$tmp/host" >"$tmp/host.log" 2>&1 &
run=$!
host_of() { # the process with --rank-host that $1 has started
    local file
    for file in /proc/[0-9]*/cmdline; do
        { tr "\\0" " " <"$file"; } 2>/dev/null | grep -q -- --rank-host || continue
        grep -q "^PPid:[[:space:]]*$1\$" "${file%cmdline}status" 2>/dev/null && basename "${file%/cmdline}"
    done
}
for _ in $(seq 300); do
    host=$(host_of $run)
    [ -n "$host" ] && [ -S "$tmp/host/control.sock" ] &&
        "$bin/eep-ctl" --socket "$tmp/host/control.sock" status 2>/dev/null |
            grep -c joined | grep -qx 4 && break
    sleep 0.1
done
[ -n "${host:-}" ] || fail "no host of ranks was seen" "$tmp/host.log"
kill -KILL "$host"
wait "$run"
code=$?
if [ $code -ne 1 ] || [ "$(grep -c 'was ended by signal 9' "$tmp/host.log")" -ne 4 ] ||
    ! grep -q 'no rank is left to serve' "$tmp/host.log"; then
    fail "host: exit code $code (1), or not all four ranks were said to have ended" "$tmp/host.log"
fi
echo "host: killed, and said so"

# A thread that loads (for a minute here) hears nothing, and no signal ends it: when the others have gone its process
# ends, and nobody waits for the minute.
LD_PRELOAD=$bin/../tests/libdeaf_joiner.so "$bin/eep-run" --no-picture "${small[@]}" --serve --keep-busy 4 \
    --out "$tmp/deaf" >"$tmp/deaf.log" 2>&1 &
run=$!
ctl() { "$bin/eep-ctl" --out "$tmp/deaf" "$@" >"$tmp/ctl.log" 2>&1 || fail "eep-ctl $*" "$tmp/ctl.log"; }
for _ in $(seq 300); do
    [ -S "$tmp/deaf/control.sock" ] && break
    sleep 0.1
done
ctl wait settled --timeout 30
ctl kill 1
ctl wait settled --timeout 30
ctl rejoin 1
ctl finish
begin=$SECONDS
wait "$run"
code=$?
if [ $code -ne 0 ] || [ $((SECONDS - begin)) -gt 30 ] || ! grep -q 'rank 1 has not joined 2 s after finish' "$tmp/deaf.log" ||
    grep -q 'did not end when told to' "$tmp/deaf.log"; then
    fail "a joiner that loads when the run ends: exit code $code after $((SECONDS - begin)) s" "$tmp/deaf.log"
fi
echo "deaf: a thread that loads ends with its process"
