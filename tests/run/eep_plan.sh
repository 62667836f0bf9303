#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# eep-plan tells how an instance is repaired: what it prints is what the planner says, a plan that
# fails names the experts, and a dumped document is planned on again.
set -u
plan=$1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
fail() { echo "FAIL $1"; cat "$tmp/out"; exit 1; }
small=(--ranks 8 --nodes 2 --layers 2 --experts 16 --slots 4)
expect() { # expect STATUS TEXT ARGUMENT...
    local status=$1 text=$2
    shift 2
    "$plan" "$@" >"$tmp/out" 2>&1
    [ $? -eq "$status" ] || fail "eep-plan $*: not $status"
    grep -qF -- "$text" "$tmp/out" || fail "eep-plan $*: does not say '$text'"
}
expect 0 "0 experts have no live replica" "${small[@]}"
expect 0 "no plan takes less than" "${small[@]}" --lost 0,2,5,7 --backups 2 --behind
expect 1 "have no live copy or backup" "${small[@]}" --lost 0-2,4 --backups 0
expect 0 "the checkpoint " "${small[@]}" --lost 0-2,4 --backups 0 --checkpoint --fills
expect 1 "have no live copy and no free slot" "${small[@]}" --lost 0-4 --backups 2
expect 2 "--lost 9: not a list of ranks from 0 to 7" "${small[@]}" --lost 9
expect 2 "--nodes 9: more than --ranks 8" "${small[@]}" --nodes 9
expect 2 "cannot hold 40 experts" "${small[@]}" --experts 40
expect 2 "No such file" --view "$tmp/none"
expect 0 "any    2 ranks      all" "${small[@]}" --survey --backups 2
expect 0 "any    4 ranks      sample" "${small[@]}" --survey --samples 20 --backups 2
# The paper's size: its shape and links unless others are given; sources add up to the survivors'
# slots; the fields of a loss that has nothing to move are whole.
expect 0 "32 ranks on 4 nodes, 58 layers of 256 experts, 16 slots a rank" --config paper --failed 1 --behind
expect 0 "throughput kept 96.9 %" --config paper --failed 1 --behind
expect 0 "8 ranks on 2 nodes" --config paper "${small[@]}" --failed 2 --how adjacent --behind
expect 2 "--how" --how some
expect 2 "--failed K says how many ranks" --draws 3
expect 0 "any    2 nodes                                512       512               24        24" --config paper --slots-for
"$plan" --config paper --failed 8 --how nodes --behind --json --loads z0.5 >"$tmp/out" &&
    python3 - "$tmp/out" <<'PY' || fail "--config paper --json: the figures do not fit"
import json, sys
plan = json.load(open(sys.argv[1]))
lost = plan["instance"]["lost"]
assert len(lost) == 8 and len({rank // 8 for rank in lost}) == 1, lost
for part in (plan["sources"], plan["placed_anew"]["sources"]):
    assert sum(source["slots"] for source in part.values()) == 24 * 16 * 58, part
    assert abs(sum(source["percent"] for source in part.values()) - 100) < 1e-6
behind, balance, modelled = plan["behind_traffic"], plan["balance"], plan["modelled"]
assert behind["fills"] * 44040192 == behind["bytes"] > 0 and behind["links_ms"] <= behind["ms"]
assert 1 <= balance["rest"]["mean"] <= balance["paused"]["mean"], balance
parts = [modelled[name] for name in ("detect_ms", "agree_ms", "repair_ms", "rerun_ms")]
assert abs(sum(parts) - modelled["pause_ms"]) < 1e-6
assert modelled["repair_ms"] == plan["pause"]["makespan_ms"]
assert all(constant["source"] for constant in modelled["constants"])
assert plan["placed_anew"]["bytes"] > plan["pause"]["own_node_backup"]["bytes"]
PY
# Draws: a row each, the same for the same seed, as many ranks as were asked for.
"$plan" --config paper --failed 4 --how random --draws 3 --checkpoint >"$tmp/out" &&
    "$plan" --config paper --failed 4 --how random --draws 3 --checkpoint | cmp - "$tmp/out" &&
    python3 - "$tmp/out" <<'PY' || fail "--draws"
import csv, sys
rows = list(csv.DictReader(open(sys.argv[1])))
assert [row["draw"] for row in rows] == ["1", "2", "3"]
assert all(bin(int(row["lost"], 16)).count("1") == 4 for row in rows)
assert len({row["lost"] for row in rows}) > 1
PY
# --slots-for beside an enumeration of all losses: so many slots survive, one less does not.
"$plan" --ranks 6 --nodes 3 --experts 10 --layers 1 --slots 4 --slots-for --json >"$tmp/goals" &&
    python3 - "$plan" "$tmp/goals" <<'PY' || fail "--slots-for: an enumeration says otherwise"
import json, subprocess, sys
def survives(lost, num, slots):
    spread = ["--spread", str(num)] if lost == "neighbours" else []
    done = subprocess.run([sys.argv[1], "--ranks", "6", "--nodes", "3", "--experts", "10", "--layers",
                           "1", "--slots", str(slots), "--survey", "--samples", "1000", "--json", *spread],
                          stdout=subprocess.PIPE, text=True, check=False)
    found = [loss for loss in json.loads(done.stdout)["losses"]
             if (loss["lost"], loss["num"]) == (lost, num)]
    assert all(loss["exact"] for loss in found)
    return found and found[0]["by_replicas"] == found[0]["sets"]
asked = 0
for goal in json.load(open(sys.argv[2]))["goals"]:
    lost, num, slots = goal["lost"], goal["num"], goal["slots_a_rank"]
    if slots and num <= 2 and (lost, num) != ("neighbours", 1):
        assert survives(lost, num, slots), goal
        assert slots == goal["slots_needed"] or not survives(lost, num, slots - 1), goal
        asked += 1
assert asked >= 4, asked
PY
# Modelled rows are drawn like a run's, and say that they are modelled.
"$plan" --config paper --failed 8 --checkpoint --timeline "$tmp/rows" >/dev/null &&
    grep -q "^# modelled, not measured" "$tmp/rows/steps.csv" &&
    [ "$(grep -c kill "$tmp/rows/events.csv")" = 8 ] || fail "--timeline"
# What is dumped is planned on again: all that is being filled goes on, so there is nothing new.
expect 0 "1 a backup of the own node" "${small[@]}" --lost 0,2,5,7 --backups 2 --dump "$tmp/view"
"$plan" --view "$tmp/view" --dump "$tmp/again" >/dev/null && cmp "$tmp/view" "$tmp/again" ||
    fail "a plan on a planned document changes it"
head -c 100 "$tmp/view" >"$tmp/cut"
expect 2 "view" --view "$tmp/cut"
# JSON: the tiers add up, the makespan is the most loaded link's, and the same call says the same.
"$plan" "${small[@]}" --lost 0-2,4 --backups 2 --checkpoint --rates random --fills --json >"$tmp/out" &&
    "$plan" "${small[@]}" --lost 0-2,4 --backups 2 --checkpoint --rates random --fills --json >"$tmp/twin" &&
    cmp "$tmp/out" "$tmp/twin" || fail "--json"
python3 - "$tmp/out" <<'PY' || fail "--json: the figures do not fit"
import json, sys
plan = json.load(open(sys.argv[1]))
pause, instance = plan["pause"], plan["instance"]
tiers = [pause[name]["fills"] for name in ("own_node_backup", "other_backup", "checkpoint")]
assert sum(tiers) == len(pause["fills"]) == instance["uncovered"] > 0, tiers
assert abs(max(link["ms"] for link in pause["links"]) - pause["makespan_ms"]) < 1e-6
assert pause["bound_ms"] <= pause["makespan_ms"]
given = sum(s["own_node_backup_bytes"] + s.get("other_backup_bytes", 0) + s.get("checkpoint_bytes", 0)
            for s in pause["sources"])
assert given == sum(tiers) * instance["expert_bytes"]
assert not set(instance["lost"]) & {fill["rank"] for fill in pause["fills"]}
PY
