#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Plans are followed: every example, each phase as planned and every token right; and a plan from which
# the world departs, or that is no plan, fails and says why.
set -u
bin=$1
plans=$(cd "$(dirname "$0")/../../experiments/plans" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
fail() { echo "FAIL $1; replay: eep-run $2"; cat "$tmp/log"; exit 1; }
for plan in "$plans"/*.json; do
    name=$(basename "$plan" .json)
    args="--plan $plan --hidden 64 --inner 64 --slots 48 --requests 20 --out $tmp/$name"
    # shellcheck disable=SC2086
    "$bin/eep-run" --no-picture $args >"$tmp/log" 2>&1 || fail "$name: exit $?" "$args"
    phases=$(grep -c '^ *\[[-0-9, ]*\],\?$' "$plan")
    [ "$(grep -c '^phase .* as planned' "$tmp/log")" -eq "$phases" ] || fail "$name: not $phases phases" "$args"
    grep -q '"tokens_wrong":.*0,' "$tmp/$name/summary.json" || fail "$name: wrong tokens" "$args"
    python3 - "$tmp/$name/plan.json" <<'PY' || fail "$name: plan.json" "$args"
import json, sys
plan = json.load(open(sys.argv[1]))
assert plan["good"], plan
for phase in plan["phases"]:
    assert phase["good"] and phase["active"] == phase["planned"], phase
    assert phase["faulted"] == phase["planned_deaths"], phase
PY
    grep '^phase' "$tmp/log"
done
# Without --slots there are as many as the plan needs, and that is said.
echo '[[0,1,2,3],[0,1]]' >"$tmp/plan.json"
args="--plan $tmp/plan.json --hidden 64 --inner 64 --requests 10 --no-oracle --out $tmp/few"
# shellcheck disable=SC2086
"$bin/eep-run" $args >"$tmp/log" 2>&1 || fail "a plan that shrinks to two ranks: exit $?" "$args"
grep -q '^slots: 64 per rank and layer' "$tmp/log" || fail "the number of slots is not said" "$args"
# A rank is killed that the plan does not let die.
echo '[[0,1,2,3],[0,1,2,3,4]]' >"$tmp/plan.json"
args="--plan $tmp/plan.json --hidden 64 --inner 64 --kill 2@spawned:4 --quiet --out $tmp/unplanned"
# shellcheck disable=SC2086
"$bin/eep-run" --no-picture $args >"$tmp/log" 2>&1
[ $? -eq 1 ] || fail "an unplanned death passed" "$args"
grep -q 'NOT as planned: faulted \[2\], planned \[\]' "$tmp/log" || fail "the unplanned death is not named" "$args"
# What is no plan, or does not fit the options.
refuse() { # refuse PLAN WORDS [OPTION...]
    echo "$1" >"$tmp/bad.json"
    local words=$2; shift 2
    "$bin/eep-run" --no-picture --plan "$tmp/bad.json" --out "$tmp/bad" "$@" >"$tmp/log" 2>&1
    [ $? -eq 2 ] && grep -qF -- "$words" "$tmp/log" || fail "'$words' was not said" "--plan $(cat "$tmp/bad.json") $*"
    [ ! -e "$tmp/bad" ] || fail "a folder was made" "$*"
}
refuse '[[0,1,2,3],[-0,1,2,3]]' 'bad.json: phase 2, entry 1: -0 is the same number as 0'
refuse '[[0,2,5]]' 'phase 1: rank 1 is missing'
refuse '[[0,1,2,3],[0,1]]' 'have room for 32 of 64 experts' --slots 16
refuse '[[0,1,2,3]]' '--ranks' --ranks 5
refuse '[[0,1,2,3],[0,1,2,3,9]]' '--max-ranks' --max-ranks 8
rm "$tmp/bad.json"
"$bin/eep-run" --no-picture --plan "$tmp/none.json" --out "$tmp/bad" >"$tmp/log" 2>&1
[ $? -eq 2 ] && grep -q 'none.json: No such file' "$tmp/log" || fail "a missing file was not named" ""
echo "plans are followed, and departures from them named"
