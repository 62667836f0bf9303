#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What a run found survives whatever happens to its output: a closed pipe, a full device, a signal, a
# second run into its folder. None of that passes for success, and nothing is left behind.
#   tests/run/results_kept.sh BIN SIM     BIN: the folder of eep-run; SIM: eep-sim
set -u
bin=$1 sim=$2
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir "$tmp/t"
export TMPDIR=$tmp/t
unset XDG_RUNTIME_DIR
# As under nohup, which ./check may be run with: a run that is to end by SIGHUP is started without that.
trap '' HUP
bad=0
fail() { echo "$*" >&2; bad=1; }
small=(--quiet --ranks 2 --experts 8 --slots 8 --topk 2 --layers 2 --hidden 32 --inner 32 --input 4 --output 4:16)
# Run with a standard output that nobody reads any more, and with the usual signals.
closed() {
    /usr/bin/python3 -c 'import os, subprocess, sys
r, w = os.pipe()
os.close(r)
sys.exit(subprocess.call(sys.argv[1:], stdout=w))' "$@"
}
# expect STATUS TEXT COMMAND...: exit status, and TEXT on standard error.
expect() {
    local wanted=$1 text=$2 status; shift 2
    "$@" 2>"$tmp/said"; status=$?
    if [ $status -ne "$wanted" ] || ! grep -qF -- "$text" "$tmp/said"; then
        fail "expected exit $wanted and '$text', got $status from: $*"; cat "$tmp/said" >&2
    fi
}
rows_of() { # DIR: every file of rows is there and whole
    local name
    for name in summary.json steps.csv tokens.csv events.csv requests.csv trace.json; do
        [ -s "$1/$name" ] || fail "$1 lacks $name"
    done
}
left() { # nothing in the directory for temporary files, and no process of ours
    [ -z "$(ls "$tmp/t")" ] || fail "$1 left $(ls "$tmp/t")"
}
# Under load a start takes seconds: it is waited for as long as it takes, a minute at most.
await() {
    local end=$((SECONDS + 60))
    until "$@"; do [ $SECONDS -lt $end ] || { fail "this did not come about: $*"; return 1; }; sleep 0.02; done
}
ranks_of() { cat /proc/"$1"/task/*/children 2>/dev/null; }
tell() { # PID DIR: what a run's threads and its ranks' do, what it has said, and what it answers
    local task
    # shellcheck disable=SC2046
    for task in $(printf '/proc/%s/task/* ' "$1" $(ranks_of "$1")); do
        echo "$task: $(grep -E '^(Name|State|ShdPnd|SigBlk|SigIgn):' "$task/status" | tr '\n\t' '  ')in $(cat "$task/wchan")"
    done
    cat "$2.log"
    "$bin/eep-ctl" --out "$2" status
}
ends() { # PID DIR: a run that is to end, and its exit status in `status`; one that goes on is told of, and killed
    local end=$((SECONDS + 30))
    while jobs -rp | grep -qx "$1"; do
        [ $SECONDS -lt $end ] || { fail "the run in $2 goes on"; tell "$1" "$2" >&2; kill -KILL "$1"; break; }
        sleep 0.02
    done
    wait "$1" 2>/dev/null; status=$?
}
serve() { # DIR OPTIONS...: a run that serves, in the background; its id is in `pid`
    local dir=$1; shift
    # The shell starts background jobs with SIGINT and SIGQUIT ignored, and eep-run ends by them all the same.
    env --default-signal=HUP "$bin/eep-run" "${small[@]}" --serve --requests 20 --rate 50 --out "$dir" "$@" >"$dir.log" 2>&1 &
    pid=$!
    await test -S "$dir/control.sock"
    "$bin/eep-ctl" --out "$dir" --timeout 60 wait settled >/dev/null || fail "$dir does not serve"
}
gone() { local p; for p in $1; do [ ! -e "/proc/$p" ] || fail "process $p outlived its launcher ($2)"; done; }

# Every program: what it prints is lost, so its exit status is not 0.
for command in eep-run eep-ctl eep-chaos eep-bench eep-info eep-oracle eep-plan eep-avail eep-store; do
    expect 1 "$command: standard output cannot be written" "$bin/$command" --help >/dev/full
    expect 1 "$command: standard output cannot be written" closed "$bin/$command" --help
    # A program whose standard output is closed opens no file or socket in its place.
    expect 1 "$command: standard output cannot be written" "$bin/$command" --help >&-
done
expect 1 "eep-sim: standard output cannot be written" closed "$sim" --seeds 1..1
for script in "$root"/experiments/measure/*.py "$root"/paper-figs/{timeline,pauses,detection,availability}.py; do
    [ -x "$script" ] || continue # a module that others import
    closed /usr/bin/python3 "$script" --help 2>"$tmp/said" && fail "$script --help into a closed pipe ends well"
    grep -q "standard output cannot be written" "$tmp/said" && ! grep -q Traceback "$tmp/said" || { fail "$script --help into a closed pipe:"; cat "$tmp/said"; }
done

# Two runs into one folder: the second one is refused and touches nothing. The first one's output is
# closed on it, which costs no row.
closed "$bin/eep-run" --no-picture "${small[@]}" --serve --requests 40 --rate 20 --out "$tmp/two" 2>"$tmp/first" &
first=$!
await test -S "$tmp/two/control.sock"
"$bin/eep-ctl" --out "$tmp/two" --timeout 60 wait settled >/dev/null || fail "the first run does not serve"
expect 2 "another run writes into '$tmp/two' now" "$bin/eep-run" "${small[@]}" --force --seed 7 --out "$tmp/two"
expect 2 "another run writes into '$tmp/two' now" "$bin/eep-run" "${small[@]}" --force --repeat 2 --out "$tmp/two"
"$bin/eep-ctl" --out "$tmp/two" finish >/dev/null || fail "the first run was over before the second one"
wait $first && fail "a run whose output is lost ends with 0"
grep -q "Broken pipe" "$tmp/first" || { fail "the lost output is not named"; cat "$tmp/first"; }
rows_of "$tmp/two"
grep -q '"good":.*true' "$tmp/two/summary.json" || fail "the first run was disturbed"
left "a run"
expect 1 "standard output cannot be written" "$bin/eep-run" "${small[@]}" --no-picture --requests 4 --rate 50 --repeat 2 --out "$tmp/repeat" >/dev/full
/usr/bin/python3 -c 'import json,sys; assert len(json.load(open(sys.argv[1]))["runs"]) == 2' "$tmp/repeat/repeat.json" ||
    fail "--repeat into a full device lacks runs"

# What cannot be replaced is found before anything older is removed, and before any run is done.
mkdir -p "$tmp/old/trace.json" "$tmp/older/repeat.csv"
for name in summary.json run.json steps.csv; do echo "of an older run" >"$tmp/old/$name"; done
expect 2 "cannot remove the older '$tmp/old/trace.json': Is a directory" "$bin/eep-run" "${small[@]}" --force --requests 4 --out "$tmp/old"
for name in summary.json run.json steps.csv; do grep -q "of an older run" "$tmp/old/$name" || fail "a run that was refused removed $name"; done
expect 2 "cannot remove the older '$tmp/older/repeat.csv': Is a directory" "$bin/eep-run" "${small[@]}" --force --requests 4 --rate 50 --no-picture --repeat 2 --out "$tmp/older"
[ ! -e "$tmp/older/0001" ] || fail "a --repeat whose results cannot be written did a run"

# A reader that has stopped holds up the table at the end, not the run. Then its rows are there. A signal
# ends the wait for him, also where standard error is the same pipe, and the wait of --repeat and eep-chaos.
cat >"$tmp/stuck.py" <<'PY'
import os, signal, subprocess, sys, time
kept, ends, told = sys.argv[1], sys.argv[2] != "goes-on", sys.argv[2] == "told"
r, w = os.pipe()
os.set_blocking(w, False)
try:
    while os.write(w, b"x" * 4096):
        pass
except BlockingIOError:
    os.set_blocking(w, True)
run = subprocess.Popen(sys.argv[3:], stdout=w, stderr=w if ends else None)
os.close(w)
until = time.monotonic() + 60
while not os.path.exists(kept) and time.monotonic() < until:
    time.sleep(0.02)
if not os.path.exists(kept):
    run.kill()
    sys.exit("nothing is written while the reader is stopped")
if not ends:
    while os.read(r, 65536):
        pass
    sys.exit(run.wait())
def waits():  # in a write to the pipe; or it is told to end before that
    try:
        call = open(f"/proc/{run.pid}/syscall").read().split()
    except OSError:
        call = []  # nobody may look, or it has ended
    return run.poll() is not None or told or not call or (call[0] in ("1", "20", "64", "66") and call[1] in ("0x1", "0x2"))
while not waits() and time.monotonic() < until:
    time.sleep(0.02)
assert run.poll() is None, "it does not wait for its reader: this tests nothing"
run.send_signal(signal.SIGTERM)
try:
    run.wait(20)
except subprocess.TimeoutExpired:
    run.kill()
    sys.exit("a signal does not end the wait for a reader that has stopped")
assert run.returncode == 1, run.returncode
PY
stuck() { /usr/bin/python3 "$tmp/stuck.py" "$@" 2>"$tmp/said" || { fail "a reader that has stopped: $*"; cat "$tmp/said"; }; }
stuck "$tmp/stuck/summary.json" goes-on "$bin/eep-run" --no-picture "${small[@]:1}" --requests 20 --rate 40 --out "$tmp/stuck"
stuck "$tmp/cut/summary.json" ends "$bin/eep-run" --no-picture "${small[@]:1}" --log-level debug --requests 20 --rate 40 --kill 1@0.1 --rejoin 1@0.2 --out "$tmp/cut"
stuck "$tmp/cuts/0001/summary.json" ends "$bin/eep-run" --no-picture "${small[@]}" --requests 5 --rate 40 --repeat 9 --out "$tmp/cuts"
stuck "$tmp/told/control.sock" told "$bin/eep-run" --no-picture "${small[@]:1}" --serve --requests 20 --rate 40 --out "$tmp/told"
stuck "$tmp/tells/0001/control.sock" told "$bin/eep-run" --no-picture "${small[@]}" --serve --requests 20 --rate 40 --repeat 9 --out "$tmp/tells"
rows_of "$tmp/cut"
/usr/bin/python3 - "$tmp/cut" <<'PY' || fail "the row 'joined' and joins[].join_ms differ"
import csv, json, sys
found = json.load(open(sys.argv[1] + "/summary.json"))
rows = [row for row in csv.DictReader(line for line in open(sys.argv[1] + "/events.csv") if not line.startswith("#")) if row["kind"] == "joined"]
for join in found["joins"]:
    if join["joined"]:
        at = [float(r["time_ms"]) for r in rows if int(r["seat"]) == join["rank"] and int(r["generation"]) == join["generation"]]
        assert len(at) == 1 and abs(at[0] - join["time_ms"] - join["join_ms"]) < 0.01, (join, at)
PY
[ -s "$tmp/cuts/repeat.json" ] || fail "a --repeat whose reader has stopped lost its rows"
left "a reader that has stopped"

# A signal: the rows are written, what takes long is not begun, nothing is left.
for signal in TERM HUP QUIT INT; do
    serve "$tmp/$signal"
    ranks=$(ranks_of "$pid")
    kill -PIPE "$pid" # of no consequence
    kill -$signal "$pid"; ends "$pid" "$tmp/$signal"
    [ $status -eq 1 ] || fail "SIG$signal: exit status $status, not 1"
    rows_of "$tmp/$signal"
    grep -q '"oracle":.*"not checked: interrupted"' "$tmp/$signal/summary.json" || fail "SIG$signal: no verdict"
    grep -q "oracle     not checked: interrupted" "$tmp/$signal.log" || { fail "SIG$signal: not said"; cat "$tmp/$signal.log"; }
    [ ! -e "$tmp/$signal/timeline.png" ] || fail "SIG$signal: the picture was drawn"
    gone "$ranks" "SIG$signal"
    left "SIG$signal"
done
# --repeat: the runs so far are kept, and the one that was interrupted writes its rows. It gets the signal
# twice, from its group and from its parent, which is one.
setsid "$bin/eep-run" --no-picture "${small[@]}" --serve --requests 20 --rate 20 --repeat 50 --out "$tmp/many" >"$tmp/many.log" 2>&1 &
pid=$! # setsid makes no process here: the shell's jobs lead no group
for run in 0001 0002; do
    await test -S "$tmp/many/$run/control.sock"
    "$bin/eep-ctl" --out "$tmp/many/$run" --timeout 60 wait settled >/dev/null || fail "run $run does not serve"
    [ $run != 0001 ] || "$bin/eep-ctl" --out "$tmp/many/$run" finish >/dev/null
done
kill -TERM -- "-$pid"; ends "$pid" "$tmp/many"
[ "$(grep -c "  met *$" "$tmp/many.log")" -eq 1 ] && grep -q "interrupted: see $tmp/many/0002.log" "$tmp/many.log" ||
    { fail "--repeat: not said"; cat "$tmp/many.log"; }
/usr/bin/python3 -c 'import json,sys; assert len(json.load(open(sys.argv[1]))["runs"]) == 1' "$tmp/many/repeat.json" ||
    { fail "an interrupted --repeat does not keep the run before"; cat "$tmp/many.log"; }
rows_of "$tmp/many/0002"
left "--repeat"

# A signal while the oracle is at work, which is slow here, ends both; so does the end of the launcher.
mkdir "$tmp/slow"
cp "$bin/eep-run" "$tmp/slow"
printf '#!/bin/sh\nexec sleep 600\n' >"$tmp/slow/eep-oracle"
chmod +x "$tmp/slow/eep-oracle"
for signal in TERM KILL; do
    "$tmp/slow/eep-run" --no-picture "${small[@]}" --requests 4 --rate 50 --out "$tmp/slow/$signal" >"$tmp/slow/$signal.log" 2>&1 &
    pid=$!
    oracle=
    sleeps() { for p in $(ranks_of $pid); do [ "$(cat "/proc/$p/comm" 2>/dev/null)" != sleep ] || oracle=$p; done; [ -n "$oracle" ]; }
    await sleeps
    kill -$signal $pid; ends $pid "$tmp/slow/$signal"
    # It would go on for ten minutes.
    [ -n "$oracle" ] && await test ! -e "/proc/$oracle" || fail "SIG$signal: the oracle ('$oracle') went on"
    [ $signal = KILL ] && continue
    [ $status -eq 1 ] || fail "SIG$signal in the oracle: exit status $status"
    grep -q "oracle     not checked: interrupted" "$tmp/slow/$signal.log" || { fail "SIG$signal in the oracle: not said"; cat "$tmp/slow/$signal.log"; }
    rows_of "$tmp/slow/$signal"
done
rm -rf "$tmp"/t/*
# Started with nohup it does not end by SIGHUP; a second signal, a while after the first, ends it at
# once, whatever it does then.
"$bin/eep-run" --no-picture "${small[@]}" --serve --requests 9 --out "$tmp/nohup" >"$tmp/nohup.log" 2>&1 &
pid=$!
await test -S "$tmp/nohup/control.sock"
kill -HUP "$pid"
"$bin/eep-ctl" --out "$tmp/nohup" --timeout 60 wait settled >/dev/null || fail "nohup: SIGHUP ended it"
ranks=$(ranks_of "$pid")
kill -TERM "$pid"; sleep 0.6; kill -TERM "$pid" 2>/dev/null; ends "$pid" "$tmp/nohup"
[ $status -eq 1 ] || fail "two signals: exit status $status, not 1"
gone "$ranks" "two signals"
left "two signals"

# Files that cannot be written are named, the others are kept, and the run is not good.
serve "$tmp/full"
for file in steps.csv events.csv trace.json; do mkdir "$tmp/full/$file"; done
echo keep >"$tmp/victim"
ln -s "$tmp/victim" "$tmp/full/tokens.csv" # no link is followed, and no FIFO waited for
mkfifo "$tmp/full/requests.csv"
ln -s "$tmp/victim" "$tmp/full/summary.json"
"$bin/eep-ctl" --out "$tmp/full" finish >/dev/null; ends "$pid" "$tmp/full"
[ $status -eq 1 ] || fail "files that cannot be made: exit status $status, not 1"
for file in steps.csv events.csv trace.json; do grep -qF "'$tmp/full/$file' cannot be written: Is a directory" "$tmp/full.log" || { fail "a file, $file, is not named"; cat "$tmp/full.log"; }; done
! grep -q "did not come to its end\|rows, summary.json" "$tmp/full.log" && grep -qF "what could be written: $tmp/full" "$tmp/full.log" || { fail "the verdict of a run that lacks files"; cat "$tmp/full.log"; }
[ "$(cat "$tmp/victim")" = keep ] || fail "a row went through a link"
for file in steps.csv events.csv trace.json; do rmdir "$tmp/full/$file"; echo >"$tmp/full/$file"; done
rows_of "$tmp/full"
grep -q '"good":.*false' "$tmp/full/summary.json" || fail "a run that lacks rows is called good"
# Six pages: the files of a run have more, however few its steps are on a busy machine.
if [ "$(id -u)" -eq 0 ] && mkdir "$tmp/disk" && mount -t tmpfs -o size=24k tmpfs "$tmp/disk" 2>/dev/null; then
    "$bin/eep-run" "${small[@]}" --requests 20 --rate 50 --out "$tmp/disk/run" >"$tmp/said" 2>&1; status=$?
    [ $status -eq 1 ] && grep -qE "'$tmp/disk/run/[a-z]*[.](csv|json)' cannot be written: No space left on device" "$tmp/said" ||
        { fail "a full disk: exit status $status"; cat "$tmp/said"; }
    grep -q "NOT GOOD" "$tmp/said" || fail "a full disk passes for good"
    umount "$tmp/disk"
else
    echo "skip  a disk that is really full: no tmpfs can be mounted here"
fi
expect 2 "No space left" "$bin/eep-oracle" "$tmp/two" --json /dev/full >"$tmp/verdict"
grep -q '"tokens_wrong": 0,' "$tmp/verdict" || fail "a verdict that could not be written is lost"
expect 1 "No space left" "$bin/eep-bench" --quick --csv /dev/full memory >/dev/null

# Programs that cannot be started are named.
mkdir "$tmp/alone"
cp "$bin/eep-run" "$bin/eep-store" "$tmp/alone/"
expect 1 "eep-run: cannot start $tmp/alone/eep-oracle: No such file or directory" \
    env LD_LIBRARY_PATH="$bin/..:$bin${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" "$tmp/alone/eep-run" "${small[@]}" --requests 4 --rate 50 --no-picture --out "$tmp/noracle"
! grep -q "gave no verdict" "$tmp/said" || fail "a program that was not started has a verdict"

# Ranks that still load their weights do not hear that the run ends.
for mode in --store-process --threads; do
    "$bin/eep-run" $mode --quiet --no-picture --ranks 2 --experts 32 --slots 32 --layers 8 --hidden 512 --inner 1024 --out "$tmp/loads$mode" >"$tmp/loads$mode.log" 2>&1 & pid=$!
    starts() { [ -n "$(ranks_of $pid)" ]; }
    await starts; sleep 0.3; kill -TERM $pid; ends $pid "$tmp/loads$mode"
    # A wait that reaches the bound of 5 s is told.
    [ $status -eq 1 ] && ! grep -q "did not end when told to" "$tmp/loads$mode.log" &&
        grep -q "before it served: there are no rows" "$tmp/loads$mode.log" && [ "$(ls "$tmp/loads$mode")" = run.json ] ||
        { fail "a signal while ranks load, $mode: exit status $status"; cat "$tmp/loads$mode.log"; }
done

# A folder that others can change is not written into.
mkdir "$tmp/open"; chmod 0777 "$tmp/open"
expect 2 "all users may write into it (mode 0777); give another folder" "$bin/eep-run" "${small[@]}" --requests 4 --out "$tmp/open"
if [ "$(id -u)" -eq 0 ]; then
    chmod 0755 "$tmp/open"; chown 65534 "$tmp/open"
    expect 2 "it belongs to user 65534, and this is user 0; give another folder, or --force" "$bin/eep-run" "${small[@]}" --requests 4 --out "$tmp/open"
    expect 2 "it belongs to user 65534, and this is user 0; give another folder, or --force" env SUDO_UID=65533 "$bin/eep-run" "${small[@]}" --requests 4 --out "$tmp/open"
    # By sudo for its owner, or as root is told. A link in it is replaced all the same, the verdict's and the picture's too.
    SUDO_UID=65534 "$bin/eep-run" "${small[@]}" --requests 4 --rate 50 --no-picture --out "$tmp/open" >"$tmp/said" 2>&1 || { fail "by sudo into its user's folder"; cat "$tmp/said"; }
    (while :; do ln -s "$tmp/victim" "$tmp/open/oracle.json"; ln -s "$tmp/victim" "$tmp/open/timeline.png"; sleep 0.02; done 2>/dev/null) & links=$!
    "$bin/eep-run" "${small[@]}" --requests 4 --rate 50 --force --out "$tmp/open" >"$tmp/said" 2>&1 || { fail "with --force into another user's folder"; cat "$tmp/said"; }
    kill $links; wait $links 2>/dev/null
    [ "$(cat "$tmp/victim")" = keep ] || fail "a verdict or a picture went through a link"
    # That user puts another folder in its place, while the run serves: nothing comes into that one, and all into the first.
    mkdir "$tmp/theirs" "$tmp/theirs/out" "$tmp/roots"; chown -R 65534 "$tmp/theirs"; echo keep >"$tmp/roots/summary.json"
    exchange() { mv "$tmp/theirs/out" "$tmp/theirs/away"; ln -s "$tmp/roots" "$tmp/theirs/out"; }
    SUDO_UID=65534 "$bin/eep-run" "${small[@]}" --requests 4 --rate 50 --serve --quiet --out "$tmp/theirs/out" >"$tmp/theirs/away.log" 2>&1 & pid=$!
    can_be_asked() { [ -S "$tmp/theirs/out/control.sock" ]; }
    await can_be_asked; exchange
    "$bin/eep-ctl" --out "$tmp/theirs/away" finish; ends $pid "$tmp/theirs/away"
    [ $status -eq 0 ] || { fail "a run whose folder was exchanged: exit status $status"; cat "$tmp/theirs/away.log"; }
    [ "$(ls -A "$tmp/roots"; cat "$tmp/roots/summary.json")" = "summary.json
keep" ] || fail "a run wrote through an exchanged folder: $(ls -A "$tmp/roots")"
    [ -s "$tmp/theirs/away/summary.json" ] && [ -s "$tmp/theirs/away/oracle.json" ] && [ ! -e "$tmp/theirs/away/.held" ] ||
        fail "not all is in the folder that was exchanged: $(ls -A "$tmp/theirs/away")"
    # The same between the runs of many, and between the rounds of a campaign.
    for how in "eep-run ${small[*]} --requests 4 --rate 50 --no-picture --repeat 2" "eep-chaos --seed 1 --minutes 1 --total 1 --faults 1 --ranks 4"; do
        rm -rf "$tmp/theirs/out" "$tmp/theirs/away"; mkdir "$tmp/theirs/out"; chown 65534 "$tmp/theirs/out"
        SUDO_UID=65534 "$bin/"$how --out "$tmp/theirs/out" >"$tmp/said" 2>&1 & pid=$!
        has_begun() { [ -n "$(find "$tmp/theirs/out" -name "*log*")" ]; }
        await has_begun; exchange; wait $pid || { fail "$how, whose folder was exchanged"; cat "$tmp/said"; }
        [ "$(ls -A "$tmp/roots")" = summary.json ] || fail "$how wrote through an exchanged folder: $(ls -A "$tmp/roots")"
    done
fi

# A volume of a container, which all may write into and which has no sticky bit, is the only folder that can
# be written to: a run works there, its store's too, and leaves nothing but its output.
if [ "$(id -u)" -eq 0 ] && mkdir "$tmp/volume" && unshare -m true 2>/dev/null; then
    unshare -m sh -euc 'bin=$1 volume=$2; shift 2
        mount --bind /tmp /tmp && mount -o remount,bind,ro /tmp && mount -t tmpfs -o mode=0777 tmpfs "$volume"
        TMPDIR=$volume "$bin/eep-run" "$@" --store-process --requests 4 --rate 50 --no-picture --out "$volume/out"
        TMPDIR=$volume "$bin/eep-bench-bulk" --rounds 1
        [ "$(ls "$volume")" = out ]' \
        sh "$bin" "$tmp/volume" "${small[@]}" >"$tmp/said" 2>&1 || { fail "a volume as the only base"; cat "$tmp/said"; }
else
    echo "skip  a volume as the only base: no mounts here"
fi

# The machine's time that a run's processes take is its own, also of those that burn, and of the store.
seconds_of() { # all children of a process, in CPU seconds
    # shellcheck disable=SC2046
    cat $(ranks_of "$1" | tr ' ' '\n' | sed -n 's,..*,/proc/&/stat,p') 2>/dev/null | sed 's/.*) //' |
        awk -v per_s="$(getconf CLK_TCK)" '{ ticks += $12 + $13 } END { print (ticks + 0) / per_s }'
}
serve "$tmp/own" --no-picture --no-oracle --store-process --dummy-burn 60@0
begin=$(seconds_of "$pid")
burnt() { now=$(seconds_of "$pid"); awk "BEGIN { exit !($now > $begin + 0.4) }"; }
await burnt
"$bin/eep-ctl" --out "$tmp/own" finish >/dev/null; ends "$pid" "$tmp/own"
/usr/bin/python3 - "$tmp/own/summary.json" "$begin" "$now" <<'PY' || fail "CPU time of the run's own processes counts as others'"
import json, sys
summary, took = json.load(open(sys.argv[1])), float(sys.argv[3]) - float(sys.argv[2])
cpu = summary["cpu"]
own = cpu["own"] * cpu["cpus"] * summary["duration_ms"] / 1e3
print(f"own {own:.2f} s, processes {took:.2f} s", file=sys.stderr if own < took - 0.1 else sys.stdout)
sys.exit(own < took - 0.1)
PY

# --max-seconds counts from the start: a run that has not served by then is cut off, without rows.
"$bin/eep-run" "${small[@]}" --requests 4 --max-seconds 0.001 --out "$tmp/early" >"$tmp/early.log" 2>&1
[ $? -eq 1 ] && grep -q "cut off after --max-seconds 0.001" "$tmp/early.log" && [ "$(ls "$tmp/early")" = run.json ] ||
    fail "a run that does not serve in time: $(cat "$tmp/early.log"; ls "$tmp/early")"

# A launcher that is killed cannot clean up: the next one does.
serve "$tmp/killed"
folder=$(ls "$tmp/t")
kill -KILL "$pid"; wait "$pid" 2>/dev/null
[ -n "$folder" ] && [ -d "$tmp/t/$folder" ] || fail "the killed run's folder is not there: this tests nothing"
serve "$tmp/next"
[ ! -e "$tmp/t/$folder" ] || fail "the killed run's folder is left"
kill -TERM "$pid"; ends "$pid" "$tmp/next"
left "the next run"
[ $bad -eq 0 ] && echo "results survive closed pipes, full devices, signals and a second run"
exit $bad
