#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# --repeat: each run has its seed and its folder, a miss stops it and names the command that repeats
# it, and bad input ends with 2 and a place.
set -u
bin=$1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
bad=0
small="instance: {ranks: 2, experts: 8, slots: 8, topk: 2, layers: 2, hidden: 32, inner: 32}
load: {requests: 8, rate: 40, input: 4, output: 4}"
printf 'name: good\nabout: x\n%s\nexpect: {tokens_wrong: 0, faults.length: 0}\n' "$small" >"$tmp/good.yaml"
printf 'name: miss\nabout: x\n%s\nexpect: {faults.length: 1}\n' "$small" >"$tmp/miss.yaml"
printf 'name: bad\nabout: x\nevents:\n  - {at: {time: 1}, do: hit, ranks: 3}\n' >"$tmp/bad.yaml"
# expect STATUS TEXT COMMAND...: exit status and TEXT in what it prints.
expect() {
    local wanted=$1 text=$2 status; shift 2
    "$@" >"$tmp/said" 2>&1; status=$?
    if [ $status -ne "$wanted" ] || ! grep -qF -- "$text" "$tmp/said"; then
        echo "expected exit $wanted and '$text', got $status from: $*"; cat "$tmp/said"; bad=1
    fi
}
expect 0 "MET: all 2 expectations of 'good'" "$bin/eep-run" --quiet --scenario "$tmp/good.yaml" --out "$tmp/one"
expect 1 "MISSED  faults.length: expected '1', found 0  ($tmp/miss.yaml:5:" "$bin/eep-run" --quiet --scenario "$tmp/miss.yaml" --out "$tmp/two"
expect 0 "3 of 3 runs met" "$bin/eep-run" --quiet --scenario "$tmp/good.yaml" --repeat 3 --seed 5 --out "$tmp/many"
grep -q '"seed":.*7' "$tmp/many/0003/summary.json" || { echo "the third run's seed is not 7"; bad=1; }
[ "$(grep -c ',tokens_wrong,tokens_wrong,0$' "$tmp/many/repeat.csv")" -eq 3 ] || { echo "repeat.csv lacks runs"; bad=1; }
/usr/bin/python3 -c 'import json,sys; d=json.load(open(sys.argv[1])); assert d["statistics"]["tokens_wrong"]["n"] == 3 and [r["seed"] for r in d["runs"]] == [5,6,7]' "$tmp/many/repeat.json" || bad=1
expect 1 "0 of 1 runs met what is expected (2 asked for)" "$bin/eep-run" --quiet --scenario "$tmp/miss.yaml" --repeat 2 --seed 5 --out "$tmp/stops"
grep -qF -- "again: $bin/eep-run --quiet --scenario $tmp/miss.yaml --seed 5" "$tmp/said" || { echo "no command that repeats it"; cat "$tmp/said"; bad=1; }
expect 1 "0 of 2 runs met" "$bin/eep-run" --quiet --scenario "$tmp/miss.yaml" --repeat 2 --keep-going --same-seed --out "$tmp/goes"
[ "$(grep -c 'again: .* --seed 1$' "$tmp/said")" -eq 2 ] || { echo "--same-seed changed the seed"; cat "$tmp/said"; bad=1; }
expect 2 "$tmp/bad.yaml:4:25: unknown verb 'hit'; allowed are kill" "$bin/eep-run" --scenario "$tmp/bad.yaml" --out "$tmp/x"
expect 2 "$tmp/bad.yaml:4:25: " "$bin/eep-run" --check-only "$tmp/good.yaml" "$tmp/bad.yaml"
expect 0 "ok    good" "$bin/eep-run" --check-only "$tmp/good.yaml" "$tmp/miss.yaml"
expect 2 "No such file" "$bin/eep-run" --scenario "$tmp/none.yaml" --out "$tmp/x"
expect 2 "directory" "$bin/eep-run" --scenario "$tmp" --out "$tmp/x"
expect 2 "empty" "$bin/eep-run" --scenario /dev/null --out "$tmp/x"
expect 2 "--slots" "$bin/eep-run" --scenario "$tmp/good.yaml" --experts 64 --out "$tmp/x"
expect 2 "not empty" "$bin/eep-run" --scenario "$tmp/good.yaml" --repeat 2 --out "$tmp/many"
expect 0 "1 of 1 runs met" timeout 30 bash -c 'trap "" CHLD; exec "$@"' 0 "$bin/eep-run" --quiet --scenario "$tmp/good.yaml" --repeat 1 --out "$tmp/ignored"
[ $bad -eq 0 ] && echo "repeat, judge, check-only: as documented"
exit $bad
