#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# restart.sh BUILD/experiments: --baseline restart. After a fault all ranks are killed and start again
# as new processes; what they served fails, is counted and is sent again; every token is checked. A
# fault during a restart begins another one. What needs an elastic instance is refused by name.
set -u
bin=$1
tmp=$(mktemp -d)
run=
trap 'kill $run 2>/dev/null; wait $run 2>/dev/null; rm -rf "$tmp"' EXIT
fail() { echo "restart.sh: $*"; [ -f "$tmp/log" ] && cat "$tmp/log"; exit 1; }
model=(--layers 2 --hidden 64 --inner 48 --experts 16 --topk 4)
load=(--ranks 4 --slots 8 --input 4:8 --output 8:16 --requests 20 --rate 40 --keep-busy 12)
restart() { # OPTIONS...: a run with the baseline, which must be good
    "$bin/eep-run" --no-picture --quiet --baseline restart "${model[@]}" "${load[@]}" --force --out "$tmp/out" "$@" >"$tmp/log" 2>&1
}
check() { # PYTHON: over s (summary.json), rows (startup.csv), events, requests
    /usr/bin/python3 - "$tmp/out" "$1" <<'PYTHON' || fail "not so: $1"
import csv, json, sys
def read(name):
    with open(f"{sys.argv[1]}/{name}.csv", encoding="utf-8") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))
with open(f"{sys.argv[1]}/summary.json", encoding="utf-8") as file:
    s = json.load(file)
rows, events, requests, steps = read("startup"), read("events"), read("requests"), read("steps")
parts = ("detect", "exit", "spawn", "open", "load", "capture", "enter", "token")
def whole(r): return abs(sum(r[f"{part}_ms"] for part in parts) - r["pause_ms"]) < 0.01
exec("ok = (" + sys.argv[2] + ")")
sys.exit(not ok)
PYTHON
}

# ---- one kill: all four are started again, and what failed is in the rows
restart --kill 1@600ms || fail "a run with one kill was not good"
grep -q "baseline   restart: membership is fixed" "$tmp/log" || fail "the table does not name the baseline"
grep -q "all ranks were started again: below" "$tmp/log" || fail "the fault does not say what became of it"
check 's["baseline"] == "restart" and len(s["restarts"]) == 1 and s["joins"] == []'
check 's["restarts"][0]["rank"] == 1 and s["restarts"][0]["pause_ms"] > 0 and whole(s["restarts"][0])'
check 's["restarts"][0]["requests_failed"] == s["requests_failed"] == sum(r["status"] == "failed" for r in requests) > 0'
check '[r["start"] for r in rows] == ["first"] * 4 + ["restart"] * 4 and all(r["joined_ms"] for r in rows)'
check '[r["generation"] for r in rows] == ["1"] * 4 + ["2"] * 4 and all(r["weights"] == "seed" for r in rows)'
check '[e["value"] for e in events if e["kind"] in ("restart", "restarted")] == [str(s["requests_failed"]), "4"]'
check 's["tokens_wrong"] == 0 and s["tokens_missing"] == 0 and s["captures_after_start"] == {"healthy": 0, "joining": 4}'
# nobody of the first view serves under another one than that of all four
check '{t["epoch"] for t in steps if t["generation"] == "1" and int(t["tokens"])} == {"1"}'

# ---- inside a step, by a stop that expels, and while the ranks start again
restart --die 2=combine@600ms || fail "a death inside a step was not survived"
check 'len(s["restarts"]) == 1 and s["faults"][0]["kind"] == "die" and whole(s["restarts"][0])'
restart --expel-ms 300 --stop 1@600ms || fail "a stop was not survived"
# silence counts from the last heartbeat, which was before the stop
check 'len(s["restarts"]) == 1 and s["restarts"][0]["detect_ms"] > 250'
restart --kill 1@600ms --kill 2@spawned:2 || fail "a kill during a restart was not survived"
check 'len(s["restarts"]) == 2 and s["restarts"][0]["pause_ms"] is None and whole(s["restarts"][1])'
check '[r["start"] for r in rows].count("restart") == 8'

# ---- by hand; what is elastic is refused
"$bin/eep-run" --no-picture --quiet --baseline restart "${model[@]}" "${load[@]}" --serve --force --out "$tmp/out" >"$tmp/log" 2>&1 &
run=$!
for _ in $(seq 600); do [ -S "$tmp/out/control.sock" ] && break; sleep 0.05; done
"$bin/eep-ctl" --out "$tmp/out" wait settled --timeout 30 >/dev/null || fail "it never served"
"$bin/eep-ctl" --out "$tmp/out" drain 1 >"$tmp/said" 2>&1 && fail "a drain was taken"
grep -q "drain: membership is fixed (--baseline restart)" "$tmp/said" || fail "the refusal does not say why: $(cat "$tmp/said")"
"$bin/eep-ctl" --out "$tmp/out" kill 0 >/dev/null || fail "no kill by hand"
"$bin/eep-ctl" --out "$tmp/out" wait settled --timeout 30 >/dev/null || fail "no restart by hand"
"$bin/eep-ctl" --out "$tmp/out" finish >/dev/null || fail "it does not finish"
wait $run || fail "the run by hand was not good"
run=
check 'len(s["restarts"]) == 1 and s["restarts"][0]["rank"] == 0'

# ---- from a checkpoint, whose pages are dropped once all serve
"$bin/eep-run" --quiet "${model[@]}" --checkpoint-write "$tmp/weights" || fail "no checkpoint was written"
restart --checkpoint "$tmp/weights" --kill 3@600ms || fail "a restart from a checkpoint was not good"
check 's["restarts"][0]["cached"] == 1 and {r["weights"] for r in rows} == {"checkpoint"}'
restart --checkpoint "$tmp/weights" --cold-checkpoint --kill 3@600ms || fail "a cold restart was not good"
if [ "$(stat -f -c %T "$tmp")" != tmpfs ]; then
    check 's["restarts"][0]["cached"] < 0.1 and [float(r["cached"]) < 0.1 for r in rows] == [False] * 4 + [True] * 4'
fi
# a process that cannot start again ends the run, and says why
cp -r "$tmp/weights" "$tmp/right"
"$bin/eep-run" --no-picture --quiet --baseline restart "${model[@]}" "${load[@]}" --checkpoint "$tmp/weights" --serve --force --out "$tmp/out" >"$tmp/log" 2>&1 &
run=$!
for _ in $(seq 600); do [ -S "$tmp/out/control.sock" ] && break; sleep 0.05; done
"$bin/eep-ctl" --out "$tmp/out" wait settled --timeout 30 >/dev/null || fail "it never served"
truncate -s -100 "$tmp"/weights/model-00002-of-*.safetensors
"$bin/eep-ctl" --out "$tmp/out" kill 2 >/dev/null
wait $run && fail "a run without its weights was good"
run=
grep -q "ended before all ranks served again: the run ends" "$tmp/log" || fail "why it ended is not said"
echo "a fault restarts all ranks: every part is a row, what failed was sent again, no token is wrong"
