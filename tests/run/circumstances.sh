#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Odd circumstances that cost no run its correctness: another instance beside it, one CPU, few
# descriptors, a clock that is a day off, long paths, odd shapes, one rank and 64, other users, many
# kills of one seat, a death before the first view, signals at any moment.
#   tests/run/circumstances.sh BIN CLOCK [long]     BIN: the folder of eep-run; CLOCK: library of tests/preload/wrong_clock.c
set -u
bin=$1 clock=$2 size=${3:-}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir "$tmp/t"
export TMPDIR=$tmp/t
unset XDG_RUNTIME_DIR
bad=0
small=(--quiet --no-picture --ranks 4 --experts 16 --slots 8 --topk 2 --layers 2 --hidden 32 --inner 32
    --input 4 --output 4:16 --requests 20 --rate 60)
fault=(--kill 1@0.1 --rejoin 1@0.2)
fail() { echo "$*"; bad=1; }
# good NAME COMMAND...: it ends with 0, in time, and leaves nothing behind.
good() {
    local name=$1 begin=$SECONDS status; shift
    timeout -k 5 60 "$@" >"$tmp/said" 2>&1; status=$?
    if [ $status -ne 0 ]; then fail "$name: exit status $status after $((SECONDS - begin)) s"; cat "$tmp/said"; return; fi
    [ -z "$(ls "$tmp/t")" ] || fail "$name left $(ls "$tmp/t")"
    echo "ok    $name"
}
run() { good "$1" "$bin/eep-run" "${small[@]}" --out "$tmp/$1" "${@:2}"; }
ranks_of() { cat /proc/"$1"/task/*/children 2>/dev/null; }
gone() { # PIDS WHAT: they end, within a moment of a busy machine
    local p
    for _ in $(seq 500); do
        for p in $1; do [ ! -e "/proc/$p" ] || { sleep 0.02; continue 2; }; done
        return
    done
    fail "$2: process $p is left"
}

"$bin/eep-run" "${small[@]}" "${fault[@]}" --seed 2 --keep-busy 4 --out "$tmp/beside" >"$tmp/beside.log" 2>&1 &
beside=$!
"$bin/eep-run" "${small[@]}" "${fault[@]}" --out "$tmp/two" >"$tmp/said" 2>&1 || { fail "one of two instances is not good"; cat "$tmp/said"; }
wait $beside && echo "ok    two-instances" || { fail "the other of two instances is not good"; cat "$tmp/beside.log"; }
good one-cpu taskset -c 0 "$bin/eep-run" "${small[@]}" "${fault[@]}" --out "$tmp/one-cpu"
for limit in 54 64 256; do
    good descriptors-$limit bash -c 'ulimit -n "$0"; exec "$@"' $limit "$bin/eep-run" "${small[@]}" "${fault[@]}" --out "$tmp/limit$limit"
done
# As many as it asks for (one fewer is refused: bad_input.sh).
few=(--quiet --no-picture --experts 16 --slots 8 --topk 2 --layers 2 --hidden 32 --inner 32 --input 4 --output 4 --requests 8)
good descriptors-fewest bash -c 'ulimit -n 38; exec "$@"' 0 "$bin/eep-run" "${few[@]}" --ranks 2 --out "$tmp/fewest"
good descriptors-fewest-of-threads bash -c 'ulimit -n 92; exec "$@"' 0 "$bin/eep-run" "${few[@]}" --ranks 4 --threads --out "$tmp/fewest-threads"
good clocks-a-day-off env LD_PRELOAD="$clock" "$bin/eep-run" "${small[@]}" "${fault[@]}" --store-process --out "$tmp/clock"
# What a parent may leave ignored.
good child-signal-ignored bash -c 'trap "" CHLD; exec "$@"' 0 "$bin/eep-run" "${small[@]}" "${fault[@]}" --out "$tmp/ignored"
! grep "eep-run:" "$tmp/said" || fail "messages in a run whose parent ignores SIGCHLD"
run one-rank --ranks 1 --slots 16
run 64-ranks --ranks 64 --kill 5@0.1 --rejoin 5@0.2
for shape in "1 fp32 1" "7 bf16 3" "129 fp8 1" "1000 fp8 5" "1024 bf16 1024"; do
    set -- $shape
    run hidden-$1-$2 --hidden "$1" --dtype "$2" --inner "$3" --kill 1@0.1
done
run one-of-everything --ranks 2 --experts 1 --slots 1 --topk 1 --layers 1 --hidden 1 --inner 1 --vocab 2 --tokens-per-rank 1 --kill 0@0.1
# 3,996 bytes, of which a path has at most 4,095 in all.
deep=$tmp/$(printf "%0$((3995 - ${#tmp} - 20 * 190))d/" 0)$(printf '%0189d/' $(seq 19))$(printf '%0189d' 20)
good a-path-of-4-KB "$bin/eep-run" "${small[@]}" "${fault[@]}" --out "$deep"
[ ${#deep} -ge 3990 ] && [ -s "$deep/summary.json" ] || fail "the path of ${#deep} bytes has no summary"

# The same seat, as soon as its process is there, before or after it has joined.
kills=(--kill 1@0.1 --rejoin 1@exited:1#1)
for i in $(seq 49); do kills+=(--kill "1@spawned:1#$i+$((i * 4 % 60))ms" --rejoin "1@exited:1#$((i + 1))"); done
run 50-kills-of-one-seat --slots 16 --keep-busy 4 "${kills[@]}"

# A rank dies before there is a view: the run ends, by itself, and says why. They have much to load, so that there is
# none yet when the rank is killed.
"$bin/eep-run" "${small[@]}" --layers 4 --hidden 256 --inner 1024 --out "$tmp/first" >"$tmp/said" 2>&1 &
pid=$!
ranks=
for _ in $(seq 5000); do ranks=$(ranks_of $pid); [ "$(wc -w <<<"$ranks")" -ge 2 ] && break; done
kill -KILL "$(awk '{print $NF}' <<<"$ranks")" 2>/dev/null
wait $pid; status=$?
[ $status -eq 2 ] && grep -q "ended before all ranks had joined" "$tmp/said" || { fail "a death before the first view: exit status $status"; cat "$tmp/said"; }
gone "$ranks" "a death before the first view"
echo "ok    a death before the first view"

# Signals at any moment: before ranks are started, while they join, in a fault, at the end.
number=8
[ "$size" != long ] || number=40
for i in $(seq $number); do
    "$bin/eep-run" "${small[@]}" "${fault[@]}" --out "$tmp/signal$i" >"$tmp/said" 2>&1 &
    pid=$!
    sleep "$(awk -v i="$i" -v n="$number" 'BEGIN {print 0.01 + 0.5 * (i - 1) / n}')"
    ranks=$(ranks_of $pid)
    kill -TERM $pid 2>/dev/null
    wait $pid; status=$?
    case $status in 0|1|143) ;; *) fail "signal $i: exit status $status"; cat "$tmp/said" ;; esac
    gone "$ranks" "signal $i"
    [ -z "$(ls "$tmp/t")" ] || fail "signal $i: left $(ls "$tmp/t")"
done
echo "ok    signals at $number moments"

# Descriptors of the survivors run out before a joiner comes: it is said why they cannot take it.
"$bin/eep-run" "${small[@]}" --serve --out "$tmp/full" >"$tmp/said" 2>&1 &
pid=$!
for _ in $(seq 1500); do [ -S "$tmp/full/control.sock" ] && break; sleep 0.02; done
"$bin/eep-ctl" --out "$tmp/full" --timeout 20 wait settled >/dev/null || fail "it does not serve"
"$bin/eep-ctl" --out "$tmp/full" kill 1 >/dev/null
"$bin/eep-ctl" --out "$tmp/full" --timeout 20 wait settled >/dev/null || fail "it does not settle"
# shellcheck disable=SC2046
/usr/bin/python3 -c 'import os, resource, sys
for pid in map(int, sys.argv[1:]):
    if open(f"/proc/{pid}/comm").read().strip() != "eep-store":
        free = next(n for n in range(1000) if not os.path.lexists(f"/proc/{pid}/fd/{n}"))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, free))' $(ranks_of $pid)
"$bin/eep-ctl" --out "$tmp/full" rejoin 1 >/dev/null
why="cannot map the window of rank 1 (generation 2).*descriptors: limit [0-9]* (RLIMIT_NOFILE): raise it"
for _ in $(seq 1500); do grep -q "$why" "$tmp/said" && break; sleep 0.02; done
grep -q "$why" "$tmp/said" ||
    { fail "it is not said that descriptors lack for a joiner"; cat "$tmp/said"; }
ranks=$(ranks_of $pid); kill -TERM $pid; wait $pid; gone "$ranks" "without descriptors"
echo "ok    a joiner for whom descriptors lack"

# Another user may connect, where the file system lets it, but is not heard.
if [ "$(id -u)" -eq 0 ] && command -v setpriv >/dev/null; then
    chmod 755 "$tmp"
    "$bin/eep-run" "${small[@]}" --serve --out "$tmp/users" >"$tmp/said" 2>&1 &
    pid=$!
    for _ in $(seq 1500); do [ -S "$tmp/users/control.sock" ] && break; sleep 0.02; done
    "$bin/eep-ctl" --out "$tmp/users" --timeout 20 wait settled >/dev/null || fail "it does not serve"
    chmod 755 "$tmp/t" "$tmp"/t/*; chmod 666 "$tmp/users/control.sock" "$tmp"/t/*/store
    for socket in "$tmp/users/control.sock" "$tmp"/t/*/store; do
        setpriv --reuid 65534 --regid 65534 --clear-groups /usr/bin/python3 -c '
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(5)
s.connect(sys.argv[1])
try:
    s.sendall(b"{\"do\":\"kill\",\"what\":\"1\"}\n" * 4)
    said = s.recv(4096)
except (BrokenPipeError, ConnectionResetError):
    said = b""
sys.exit(b"\"ok\":true" in said)' "$socket" || fail "another user is heard at $socket"
    done
    chmod 700 "$tmp"/t/*
    "$bin/eep-ctl" --out "$tmp/users" finish >/dev/null
    wait $pid || { fail "another user disturbed the run"; cat "$tmp/said"; }
    echo "ok    other users"
else
    echo "skip  other users: needs root and setpriv"
fi
exit $bad
