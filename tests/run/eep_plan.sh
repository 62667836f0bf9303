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
expect 0 "the checkpoint file" "${small[@]}" --lost 0-2,4 --backups 0 --checkpoint --fills
expect 1 "have no live copy and no free slot" "${small[@]}" --lost 0-4 --backups 2
expect 2 "--lost 9: not a list of ranks from 0 to 7" "${small[@]}" --lost 9
expect 2 "--nodes 9: more than --ranks 8" "${small[@]}" --nodes 9
expect 2 "cannot hold 40 experts" "${small[@]}" --experts 40
expect 2 "No such file" --view "$tmp/none"
expect 0 "any    2 ranks      all" "${small[@]}" --survey --backups 2
expect 0 "any    4 ranks      sample" "${small[@]}" --survey --samples 20 --backups 2
# What is dumped is planned on again: all that is being filled goes on, so there is nothing new.
expect 0 "1 local reuse" "${small[@]}" --lost 0,2,5,7 --backups 2 --dump "$tmp/view"
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
tiers = [pause[name]["fills"] for name in ("local_reuse", "relocation", "file")]
assert sum(tiers) == len(pause["fills"]) == instance["uncovered"] > 0, tiers
assert abs(max(link["ms"] for link in pause["links"]) - pause["makespan_ms"]) < 1e-6
assert pause["bound_ms"] <= pause["makespan_ms"]
given = sum(s["local_bytes"] + s.get("given_bytes", 0) + s.get("file_bytes", 0) for s in pause["sources"])
assert given == sum(tiers) * instance["expert_bytes"]
assert not set(instance["lost"]) & {fill["rank"] for fill in pause["fills"]}
PY
