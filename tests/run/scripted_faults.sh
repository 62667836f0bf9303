#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Faults by the script: several at one moment, by triggers, by every signal, and in the store. Each
# happens as written, every rank is back in the end, and no token is wrong or lost.
# usage: scripted_faults.sh BUILD/experiments
set -u
bin=$1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
small=(--ranks 8 --layers 2 --hidden 128 --inner 96 --requests 60 --rate 60)
fail() {
    echo "$1; run: ${command[*]}"
    cat "$tmp/log"
    grep -vE ',(view|installed|wedged|suspected),' "$tmp/out/events.csv"
    exit 1
}
# run OPTION...: it must be good.
run() {
    command=("$bin/eep-run" --no-picture "${small[@]}" "$@")
    rm -rf "$tmp/out"
    timeout 60 "${command[@]}" --out "$tmp/out" >"$tmp/log" 2>&1 || fail "exit code $?"
}
# rows KIND NUMBER: so many events of that kind.
rows() {
    local is
    is=$(awk -F, -v kind="$1" '$4 == kind' "$tmp/out/events.csv" | wc -l)
    [ "$is" -eq "$2" ] || fail "$is events '$1' instead of $2"
}

run --slots 32 --kill covered:4@0.5 --rejoin covered:4@1
rows kill 4
rows rejoin 4
spread=$(awk -F, '$4 == "kill" { if (!n++) first = $1; last = $1 } END { print int(last - first) }' \
    "$tmp/out/events.csv")
[ "$spread" -le 50 ] || fail "four kills at once took $spread ms"
echo "four at once: $(grep -o 'GOOD.*' "$tmp/log")"

# Ranks 0 and 4 have experts that nobody else has in a slot.
run --kill 0,4@0.5 --kill source@repairing --rejoin 0,4@1 --rejoin source@1.5
rows kill 3
echo "the source of a repair: $(grep -o 'GOOD.*' "$tmp/log")"

run --kill 3@0.5 --kill proposer@suspected --rejoin 3@1 --rejoin proposer@1
rows kill 2
echo "the proposer while it proposes: $(grep -o 'GOOD.*' "$tmp/log")"

run --kill 3@0.5 --rejoin 3@0.7 --kill joiner@staged --rejoin joiner@exited:3#2
rows kill 2
rows rejoin 2
echo "a joiner once its view is staged: $(grep -o 'GOOD.*' "$tmp/log")"

# Rank 6 is stopped when it is told to freeze: it does so behind the stop, and goes on at the freeze's end.
run --abort 2@step:20 --stop 4@0.6 --cont 4@0.8 --slow 5=2/200ms@0.6 --rejoin 2@exited:2+100ms \
    --stop 6=150ms@0.5 --freeze 6=experts/250ms@0.55
rows abort 1
rows cont 3
rows slow 2
grep -qE '"expelled_living":\s*0' "$tmp/out/summary.json" || fail "a rank is frozen for good behind a stop"
echo "abort, stop, cont, slow, freeze: $(grep -o 'GOOD.*' "$tmp/log")"

run --store-stop 200ms@0.3 --store-kill @0.7 --store-start @1 --kill 1@1.5 --kill 1@suspected:0 \
    --rejoin 1@suspected:0+200ms
rows store-cont 1
rows store-start 1
rows kill 1
grep -q "script *'--kill 1@suspected:0.*' struck nobody: rank 1" "$tmp/log" ||
    fail "the second kill of rank 1 is not named"
grep -qE '"struck_nobody":\s*1' "$tmp/out/summary.json" || fail "the second kill is not counted"
echo "the store stopped, killed, started empty: $(grep -o 'GOOD.*' "$tmp/log")"

run --slots 32 --ballast-mb 150 --drain 1@0.5 --kill 2@flipped:0+1ms
grep -qE '"expelled_living":\s*0' "$tmp/out/summary.json" ||
    fail "a rank that left as asked, and whose process was still ending, counts as expelled"
echo "a fault while a leaver's process ends: $(grep -o 'GOOD.*' "$tmp/log")"

run --slots 32 --kill 0,1,2,3,4,5,6,7@0.5 --rejoin 0,1,2,3,4,5,6,7@0.8
rows kill 8
rows rejoin 8
echo "all ranks die, and are started again: $(grep -o 'GOOD.*' "$tmp/log")"

# Nothing is wrong with a run because of it: it ends, and says what did not come.
run --kill source@repairing
grep -q "'--kill source@repairing' was not: 'repairing' was seen 0 of 1 times" "$tmp/log" ||
    fail "a trigger that never comes is not named"
grep -qE '"never_due":\s*1' "$tmp/out/summary.json" || fail "a trigger that never comes is not counted"
echo "a trigger that never comes is named: $(grep -o 'GOOD.*' "$tmp/log")"
