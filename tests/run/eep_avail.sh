#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# eep-avail models a fleet: known arithmetic, what is refused and how, and formulas that agree with
# the draws beside them.
#   tests/run/eep_avail.sh EEP_AVAIL
set -u
avail=$1
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
fail() { echo "FAIL $1"; cat "$tmp/out"; exit 1; }
expect() { # expect STATUS TEXT ARGUMENT...
    local status=$1 text=$2
    shift 2
    "$avail" "$@" >"$tmp/out" 2>&1
    [ $? -eq "$status" ] || fail "eep-avail $*: not $status"
    grep -qF -- "$text" "$tmp/out" || fail "eep-avail $*: does not say '$text'"
}
# The regimes are defined where people look first.
for regime in fixed restart failover elastic; do
    "$avail" --help | grep -qE "^  $regime +[A-Z]" || fail "--help does not define '$regime'"
done
expect 0 "a fault every 1.50 h" --mtbf 15000 --widths 32,96 --draws 0
expect 0 "a fault of a group every 156.2 h" --mtbf 15000 --widths 32,96 --draws 0
expect 0 "measured on 8 CPU ranks" --draws 0
expect 0 "the paper's (arXiv 2605.10670)" --draws 0 --pauses paper
expect 0 "smallest width on the plateau (95 % of the most): 32" --draws 0 --curve "$root/experiments/avail/flat-curve.csv"
expect 0 "$root/experiments/results/pause.csv" --draws 0 --pause-rows "$root/experiments/results/pause.csv"
expect 0 "no k meets the target" --draws 0 --widths 2 --mtbf 10 --no-spares
expect 2 "--widths: '32,x' is not a list of at most 32 whole numbers" --widths 32,x
expect 2 "--widths: '' is not a list" --widths ""
expect 2 "--widths 72: more than --gpus 40" --gpus 40
expect 2 "--redundancy 32: a width of 32 has no more ranks" --redundancy 32
expect 2 "--repair: 'x' is neither 'trace' nor a number" --repair x
expect 2 "--mtbf: '0' is not a number" --mtbf 0
expect 2 "more than all faults" --node-share 0.6 --rack-share 0.6
expect 2 "--rack 12: not a multiple of --node 8" --rack 12
expect 2 "--draws 1: one draw has no standard error" --draws 1
expect 2 "$tmp/none: No such file" --curve "$tmp/none"
expect 2 "$tmp: not a regular file" --restart-rows "$tmp"
expect 2 "no column 'pause_ms'" --restart-rows "$root/experiments/results/join.csv"
printf 'width,throughput\n32,fast\n' >"$tmp/curve.csv"
expect 2 "line 2: throughput: 'fast' is not a number" --curve "$tmp/curve.csv"
# A measured restart, as rows and as a summary; what is given by hand beats it.
printf '# commit 1\npause_ms,exit_ms\n1000,1\n3000,1\n9000,1\n' >"$tmp/restart.csv"
echo '{"restarts": [{"pause_ms": 4000, "exit_ms": 9}, {"pause_ms": null}]}' >"$tmp/summary.json"
restart_of() { "$avail" --draws 0 --json "$@" | python3 -c 'import json, sys; print(json.load(sys.stdin)["times"]["restart_s"])'; }
[ "$(restart_of --restart-rows "$tmp/restart.csv")" = 3 ] || fail "the median of rows is not taken"
[ "$(restart_of --restart-rows "$tmp/summary.json")" = 4 ] || fail "a summary's restarts are not taken"
[ "$(restart_of --restart-rows "$tmp/restart.csv" --restart 5)" = 5 ] || fail "--restart does not beat rows"
# Kept rows have elastic pauses and full restarts of the same kill: they are told apart.
python3 - "$avail" "$root/experiments/results/restart/restart.csv" <<'PY' || fail "kept rows: pauses and restarts are mixed"
import csv, json, subprocess, sys
avail, path = sys.argv[1:]
rows = list(csv.DictReader(line for line in open(path) if not line.startswith("#")))
times = json.loads(subprocess.check_output([avail, "--draws", "0", "--json", "--pause-rows", path,
                                            "--restart-rows", path]))["times"]
def median(side):
    values = sorted(float(row["pause_ms"]) for row in rows if row["side"] == side)
    return values[(len(values) + 1) // 2 - 1] / 1e3
assert abs(times["restart_s"] - median("restart")) < 1e-9, times
assert times["detect_s"] < times["detect_s"] + times["recovery_s"] < 2 * median("elastic"), times
PY
# JSON: parts add up, draws agree with formulas, a seed repeats, correlated faults are worse.
"$avail" --mtbf 15000 --widths 32,96 --pauses paper --redundancy 8 --json >"$tmp/out" &&
    "$avail" --mtbf 15000 --widths 32,96 --pauses paper --redundancy 8 --json >"$tmp/twin" &&
    cmp "$tmp/out" "$tmp/twin" || fail "--json"
python3 - "$tmp/out" <<'PY' || fail "--json: the figures do not fit"
import json, math, sys
report = json.load(open(sys.argv[1]))
assert report["kind"] == "modelled" and report["draws"]["draws"] == 10000
assert math.isclose(report["fleet"]["hours_between_faults"], 1.5)
narrow, wide = report["widths"]
assert math.isclose(wide["hours_between_faults"], 156.25)
assert [r["regime"] for r in wide["regimes"]] == ["fixed", "restart", "failover", "elastic"]
compared = 0
for width in report["widths"]:
    for regime in width["regimes"]:
        name = f"{width['width']} {regime['regime']}"
        assert math.isclose(regime["downtime_h_per_year"],
                            regime["paused_h_per_year"] + regime["stopped_h_per_year"]), name
        assert math.isclose(regime["lost_gpu_h_per_year"], sum(regime[f"lost_{part}_gpu_h"]
                            for part in ("paused", "degraded", "stopped"))), name
        for figure, drawn in regime["drawn"].items():
            if isinstance(drawn, dict) and drawn["standard_errors_off"] is not None:
                compared += 1
                assert drawn["standard_errors_off"] <= 3, (name, figure, drawn)
    down = {r["regime"]: r["downtime_h_per_year"] for r in width["regimes"]}
    assert down["elastic"] < down["failover"] < down["restart"] < down["fixed"]
    elastic = width["regimes"][3]
    assert elastic["correlated"]["downtime_h_per_year"]["over_formula"] > 2
    assert elastic["correlated"]["redundancy_for_target"] >= 8 > width["redundancy"]["ranks"]
assert compared > 45, compared
ratio = wide["regimes"][1]["downtime_h_per_year"] / narrow["regimes"][1]["downtime_h_per_year"]
assert abs(ratio - 2.9988) < 1e-4, ratio
PY
# Every constant has a source.
"$avail" --constants --json >"$tmp/out" || fail "--constants"
python3 - "$tmp/out" <<'PY' || fail "a constant lacks its source"
import json, sys
constants = json.load(open(sys.argv[1]))
assert len(constants) > 15 and all(len(one["source"]) > 5 for one in constants)
PY
