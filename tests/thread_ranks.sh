#!/usr/bin/env bash
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
    --kill 3@0.6 --rejoin 3@0.9 --die 1=combine@1.2 --rejoin 1@1.7)
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
