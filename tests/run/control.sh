#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A running eep-run is controlled through eep-ctl and through the Python module: verbs do what they
# say, bad ones are refused and change nothing, and the run is good in the end.
# Replay: tests/run/control.sh BUILD/experiments
set -u
bin=$1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tmp=$(mktemp -d)
run=
trap 'kill $run 2>/dev/null; wait $run 2>/dev/null; rm -rf "$tmp"' EXIT
fail() { echo "control.sh: $*"; [ -f "$tmp/log" ] && cat "$tmp/log"; exit 1; }
ctl() { "$bin/eep-ctl" --out "$tmp/out" "$@"; }
# refused CODE TEXT COMMAND...: that exit code, and TEXT in the message.
refused() {
    local code=$1 text=$2 status; shift 2
    "$@" >"$tmp/answer" 2>&1; status=$?
    if [ $status -ne "$code" ] || ! grep -qF -- "$text" "$tmp/answer"; then
        fail "expected exit $code and '$text', got $status from: $* $(cat "$tmp/answer")"
    fi
}
state() { ctl status --json | /usr/bin/python3 -c 'import json, sys; print(json.load(sys.stdin)["seats"][int(sys.argv[1])]["state"])' "$1"; }
is() { [ "$(state "$1")" = "$2" ] || fail "rank $1 is $(state "$1"), not $2"; }
small=(--layers 2 --hidden 64 --inner 64 --experts 16 --slots 16 --topk 4 --ranks 4 --max-ranks 5 --requests 20 --rate 40
       --input 4:8 --output 8:24)

# ---- eep-ctl
refused 2 "no run is controlled by" ctl status
refused 2 "--control" "$bin/eep-run" --quiet "${small[@]}" --control "$(printf 'x%.0s' {1..120})" --out "$tmp/never"
# What answers like no run, or with what a terminal would obey, is not believed and not obeyed.
says() { # LINE: something listens at $tmp/odd and answers the first request with it
    rm -f "$tmp/odd"
    /usr/bin/python3 -c 'import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(20)
s.bind(sys.argv[1] + ".new"); s.listen(3); os.rename(sys.argv[1] + ".new", sys.argv[1])
c = s.accept()[0]
c.recv(4096)
c.sendall(sys.argv[2].encode() + b"\n")' "$tmp/odd" "$1" &
    for _ in $(seq 400); do [ -S "$tmp/odd" ] && break; sleep 0.02; done
}
odd() { "$bin/eep-ctl" --socket "$tmp/odd" "$@"; }
says '{"id":1,"ok":"yes"}'; refused 1 "what answers is no run" odd status
says '{"id":1,"ok":false,"error":{}}'; refused 1 "what answers is no run" odd status
says '{"id":1,"ok":false,"error":"\u001b[31mred\u0007\u009b"}'; refused 1 'eep-ctl: \x1b[31mred\x07\x9b' odd kill 3
says '{"id":1,"ok":true,"pending":[{"number":1,"what":"a\u001b]0;x","waits":"b\u0008"}]}'; refused 0 'a\x1b]0;x' odd pending
says '{"id":1,"ok":true,"waits":"\u001b[2J"}'; refused 0 'not settled: \x1b[2J' odd status
says '{"id":1,"ok":true,"leaving":[{"seat":1,"waits":"\u009b2J"}]}'; refused 0 'rank 1 \x9b2J' odd pending
says '{"id":1,"ok":true,"waits":"\u001b\u009b\u007f"}'; refused 0 '"\u001b\u009b\u007f"' odd status --json
mkdir "$tmp/pointer"; printf '/none\033[2J\233\302\233' >"$tmp/pointer/control.path"
refused 2 "by '/none\\x1b[2J\\x9b\\x9b'" "$bin/eep-ctl" --out "$tmp/pointer" status
# A rank that is stopped is asked for its state before it is expelled, however long that takes.
"$bin/eep-run" --no-picture --quiet "${small[@]}" --serve --keep-busy 6 --expel-ms 10000 --step-deadline-ms 10000 --out "$tmp/out" >"$tmp/log" 2>&1 &
run=$!
for _ in $(seq 400); do [ -S "$tmp/out/control.sock" ] && break; sleep 0.05; done
ctl wait settled --timeout 20 || fail "it never served"
[ "$(stat -c %a "$tmp/out/control.sock")" = 600 ] || fail "the socket's mode is $(stat -c %a "$tmp/out/control.sock")"
ctl watch --json >"$tmp/events" 2>"$tmp/watch.log" &
watch=$!
for s in 0 1 2 3; do is $s joined; done
is 4 vacant
refused 1 "rank 7" ctl kill 7
refused 1 "rank 4" ctl kill 4
refused 1 "rank 1" ctl rejoin 1
refused 1 "eep-ctl: kill: 'nobody'" ctl kill nobody
refused 1 "eep-ctl: burn: 'x'" ctl burn x
refused 1 "eep-ctl: stop: 'never'" ctl stop 2=never
refused 2 "kill: no rank is given" ctl kill
refused 2 "'explode' is not a command" ctl explode
refused 2 "neither 'settled' nor 'done'" ctl wait for-it
refused 1 "not done after 0.1 s" ctl wait "done" --timeout 0.1
# What can never happen is refused; what is pending is listed, explains a wait, and can be withdrawn.
refused 1 "it waits for rank 99: the seats are 0 to 4" ctl kill 1@ready:99
refused 1 "9 ranks are more than the 5 seats" ctl kill random:9
refused 1 "is past" ctl kill 1@1ms
case $(ctl kill 1@ready:4) in *"number "*) ;; *) fail "a number is given" ;; esac
number=$(ctl pending --json | /usr/bin/python3 -c 'import json, sys; print(json.load(sys.stdin)["pending"][0]["number"])')
ctl pending | grep -q "'ready' of rank 4 was seen 0 of 1 times" || fail "pending: $(ctl pending)"
refused 1 "number $number, '--kill 1@ready:4" ctl wait settled --timeout 0.2
refused 1 "nothing of number 77 is pending" ctl cancel 77
ctl cancel "$number" || fail "cancel"
[ "$(ctl pending)" = "nothing is pending" ] || fail "it is still there: $(ctl pending)"
ctl wait settled --timeout 20 || fail "not settled after the withdrawal"
[ "$(ctl kill 3)" = "kill: rank 3" ] || fail "kill 3"
ctl wait settled --timeout 20 || fail "the view did not go on without rank 3"
is 3 vacant
[ "$(ctl rejoin 3)" = "rejoin: rank 3" ] || fail "rejoin 3"
ctl wait settled --timeout 20 || fail "rank 3 did not come back"
is 3 joined
[ "$(ctl stop 1)" = "stop: rank 1" ] || fail "stop 1"
is 1 stopped
[ "$(ctl cont 1)" = "cont: rank 1" ] || fail "cont 1"
ctl wait settled --timeout 20 || fail "rank 1 did not go on"
is 1 joined
[ "$(ctl stop 1=300ms)" = "stop: rank 1" ] || fail "stop 1 for 300 ms"
ctl wait settled --timeout 20 || fail "rank 1 did not go on by itself"
is 1 joined
ctl slow 0=3 >"$tmp/answer" || fail "slow"
is 0 slow
ctl slow 0=3/300ms >"$tmp/answer" || fail "slow for 300 ms"
ctl wait settled --timeout 20 || fail "rank 0 is still slow"
is 0 joined
ctl die 1=combine >"$tmp/answer" || fail "die"
ctl wait settled --timeout 20 || fail "rank 1 did not die"
is 1 vacant
ctl rejoin 1 >"$tmp/answer" || fail "rejoin 1"
ctl wait settled --timeout 20 || fail "rank 1 did not come back"
refused 1 "--store-process" ctl store-kill
ctl add vacant || fail "add"
ctl wait settled --timeout 20 || fail "rank 4 did not join"
is 4 joined
case $(ctl rejoin 2@exited:2) in *"when its time comes"*) ;; *) fail "a trigger is noted" ;; esac
ctl kill 2 || fail "kill 2"
ctl wait settled --timeout 20 || fail "rank 2 did not come back by itself"
is 2 joined
# The answer names who was struck: not those that have ended since, nor, of two, the one that is waited for.
two=$(ctl kill random:2) || fail "kill random:2"
one=${two#kill: rank } other=${one#*, } one=${one%%,*}
ctl wait settled --timeout 20 && ctl rejoin "$one" >"$tmp/answer" && ctl wait settled --timeout 20 || fail "rank $one of '$two' did not come back"
case $(ctl rejoin random:2) in "rejoin: rank $other when its time comes; number "*) ;; *) fail "of '$two', with $one back, not $other alone: $(ctl pending)" ;; esac
ctl cancel "$(ctl pending --json | /usr/bin/python3 -c 'import json, sys; print(json.load(sys.stdin)["pending"][0]["number"])')" || fail "cancel a rejoin"
ctl wait settled --timeout 20 || fail "rank $other did not come back"
one=$(ctl stop random=20s) one=${one#stop: rank }
ctl kill "$one" >"$tmp/answer" || fail "kill $one"
for _ in $(seq 400); do [ "$(state "$one")" = vacant ] && break; sleep 0.02; done
refused 1 "cont: there is nobody to do it to: without a process, or being killed, is rank $one" ctl cont random
ctl rejoin "$one" >"$tmp/answer" && ctl wait settled --timeout 20 || fail "rank $one did not come back"
# A joiner that was stopped from outside does not hold a finish up.
ctl kill 4 >"$tmp/answer" && ctl wait settled --timeout 20 || fail "rank 4 is not gone"
ctl add 4 >"$tmp/answer" || fail "add 4"
joiner=$(cat /proc/"$run"/task/*/children | tr ' ' '\n' | sort -n | tail -n 1)
kill -STOP "${joiner:?}" || fail "the joiner is not there to be stopped"
ctl finish || fail "finish"
ctl wait "done" --timeout 30 || fail "the run was not good"
wait $run || fail "eep-run's exit code"
run=
wait $watch || fail "watch: $(cat "$tmp/watch.log")"
for kind in kill exit rejoin joined view end; do
    grep -q "\"event\":\"$kind\"" "$tmp/events" || fail "no event '$kind' was told: $(cat "$tmp/events")"
done
[ ! -e "$tmp/out/control.sock" ] || fail "the socket is still there"
grep -q '"good":[[:space:]]*true' "$tmp/out/summary.json" || fail "not good"

# ---- what can never come about ends no run badly
run_it() { "$bin/eep-run" --no-picture --quiet "${small[@]}" "$@" >"$tmp/log" 2>&1; }
run_it --out "$tmp/never-due" --kill 0@rebalancing:2 --kill joiner@0.1 || fail "events that never come make a run bad"
/usr/bin/python3 - "$tmp/never-due/summary.json" <<'PY' || fail "never-due/summary.json"
import json, sys
summary = json.load(open(sys.argv[1]))
assert summary["good"] and summary["reason"] is None, summary["reason"]
assert summary["script"]["never_due"] == 1 and summary["script"]["waiting"] == 1, summary["script"]
PY
run_it --ranks 2 --max-ranks 2 --slots 8 --out "$tmp/no-room" --drain 1@0.1 || fail "a drain without room makes a run bad"
grep -q "rank 1 is leaving, and the others have no room for its experts (layer 0, expert" "$tmp/log" || fail "nothing says why"
# The same by hand; then the leaver is killed: what is left to serve after a finish needs a rejoin.
"$bin/eep-run" --no-picture --quiet "${small[@]}" --ranks 2 --max-ranks 2 --slots 8 --serve --keep-busy 4 --no-oracle \
    --expel-ms 10000 --step-deadline-ms 10000 --store-process --out "$tmp/room" >"$tmp/log" 2>&1 &
run=$!
room() { "$bin/eep-ctl" --out "$tmp/room" "$@"; }
for _ in $(seq 400); do [ -S "$tmp/room/control.sock" ] && break; sleep 0.05; done
room wait settled --timeout 20 || fail "it never served"
refused 1 "store-start: the store runs" room store-start
refused 1 "store-cont: the store is not stopped" room store-cont
room store-kill >"$tmp/answer" || fail "store-kill"
refused 1 "store-kill: the store has no process" room store-kill
room store-start >"$tmp/answer" || fail "store-start"
room drain 1 >"$tmp/answer" || fail "drain 1"
why="rank 1 is leaving, and the others have no room for its experts (layer 0, expert"
refused 1 "$why" room wait settled --timeout 0.2
refused 0 "$why" room status
refused 0 "$why" room pending
room kill 1 >"$tmp/answer" || fail "kill 1"
for _ in $(seq 200); do room status | grep -q uncovered && break; sleep 0.05; done
room finish || fail "finish"
refused 1 "finishing" room kill 0
room rejoin 1 || fail "nothing is served, and a rejoin is refused"
# It takes longer than a finish waits for joiners without which the others serve, and its seat holds nothing until then.
joiner=$(cat /proc/"$run"/task/*/children | tr ' ' '\n' | sort -n | tail -n 1)
kill -STOP "${joiner:?}" && sleep 2.2 && refused 0 "uncovered" room status
kill -CONT "$joiner" || fail "the joiner was killed"
room wait "done" --timeout 30 || fail "the run was not good"
wait $run || fail "eep-run's exit code"
run=
[ "$(grep -v "^#" "$tmp/room/events.csv" | grep -c store-)" = 2 ] || fail "refused commands have rows: $(grep store- "$tmp/room/events.csv")"

# A finish while the ranks start, for longer than it waits for joiners: they serve first, and the run is good.
"$bin/eep-run" --no-picture --quiet "${small[@]}" --layers 8 --hidden 256 --serve --out "$tmp/early" >"$tmp/log" 2>&1 &
run=$!
ranks=
for _ in $(seq 2000); do ranks=$(cat /proc/"$run"/task/*/children); [ "$(wc -w <<<"$ranks")" -ge 4 ] && break; done
# shellcheck disable=SC2086
kill -STOP $ranks || fail "the ranks are not there to be stopped"
"$bin/eep-ctl" --out "$tmp/early" finish || fail "finish"
sleep 2.5
# shellcheck disable=SC2086
kill -CONT $ranks 2>/dev/null
wait $run || fail "a finish at the start: exit status $?"
run=

# ---- the Python module
EEP_RUN="$bin/eep-run" PYTHONPATH="$here/../../bindings/python" PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 - "$bin/eep-ctl" "$tmp" <<'PY' || fail "the Python module"
import pathlib, subprocess, sys
import eep_lab

shape = dict(layers=2, hidden=64, inner=64, experts=16, slots=16, topk=4, requests=8, rate=40, input="4:8", output="8:24",
             expel_ms=10000, step_deadline_ms=10000)  # a busy machine is no reason to expel a rank
listed = subprocess.run([sys.argv[1], "--help"], capture_output=True, text=True, check=True).stdout
verbs = [line.split()[0] for line in listed.split("Asked of it")[0].splitlines() if line.startswith("  ") and line[2] != " "]
assert len(verbs) >= 14 and all(hasattr(eep_lab.Run, verb.replace("-", "_")) for verb in verbs), verbs

# So deep a folder that the socket's path does not fit: it is elsewhere, and control.path says where.
deep = pathlib.Path(sys.argv[2]) / ("d" * 120)
with eep_lab.Run(deep, ranks=4, keep_busy=6, **shape) as run:
    socket = pathlib.Path((deep / "control.path").read_text().strip())
    assert socket.is_socket() and socket.parent.stat().st_mode & 0o777 == 0o700, socket
    with run.events() as events:
        assert run.kill(2) == [2]
        events.until("exit", seat=2)
        run.wait("settled", timeout=20)
        assert run.seat(2)["state"] == "vacant", run.seat(2)
        assert run.rejoin(2) == [2]
        assert events.until("joined", seat=2)["generation"] > 1
    run.wait("settled", timeout=20)
    assert run.seat(2)["state"] == "joined", run.seat(2)
    for _ in range(2100):  # more than are pending at once
        assert run.slow(0, 1) == [0]
    assert run.pending() == [] and run.status()["pending"] == 0
    try:
        run.kill(9)
        raise SystemExit("kill(9) was not refused")
    except eep_lab.Refused as refused:
        assert "9" in str(refused), refused
    try:
        run.wait("done", timeout=0.1)
        raise SystemExit("a wait for the end of a run that serves is over")
    except TimeoutError as late:
        assert isinstance(late, eep_lab.WaitTimeout) and "0.1 s" in str(late), late
    run.until(lambda status: status["tokens"] > 200 and status["tokens_per_s"] > 0, timeout=20)
    assert run.status()["faults"] == 1
    summary = run.finish()
assert not socket.parent.exists() and not (deep / "control.path").exists()
assert summary["good"] and len(summary["faults"]) == 1 and summary["faults"][0]["rank"] == 2, summary

rows = eep_lab.sweep("ranks", [2, 3], drive=lambda run, ranks: run.kill(ranks - 1) and None, **shape)
assert [row["ranks"] for row in rows] == [2, 3] and all(row["good"] for row in rows), rows
try:
    eep_lab.Run(ranks=0)
    raise SystemExit("ranks=0 was not refused")
except eep_lab.EepError as error:
    assert "--ranks" in str(error), error
PY
echo "control.sh: good"
