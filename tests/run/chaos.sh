#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A short round of eep-chaos passes; its command replays the same faults; bad usage is named; and a
# round whose computation is broken on purpose is a violation that can be replayed.
set -u
bin=$1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
fail() { echo "FAIL $1"; cat "$tmp/log"; exit 1; }
chaos() { "$bin/eep-chaos" "$@" >"$tmp/log" 2>&1; }
chaos --seed 1 --round 1 --faults 6 --out "$tmp/one" || fail "a round of 6 faults"
[ "$(grep -vc '^#\|^seed' "$tmp/one/chaos.csv")" -eq 6 ] || fail "chaos.csv has not 6 rows: $(cat "$tmp/one/chaos.csv")"
grep -q '^# commit' "$tmp/one/chaos.csv" || fail "chaos.csv does not name the commit"
grep -q 'no violation' "$tmp/log" || fail "no table"
tail -n 12 "$tmp/log"
chaos --seed 9 --round 4 --dry-run --out "$tmp/x" && cp "$tmp/log" "$tmp/first"
chaos --seed 9 --round 4 --dry-run --out "$tmp/x" && cmp -s "$tmp/log" "$tmp/first" || fail "the same round is not the same"
chaos --seed 9 --round 5 --dry-run --out "$tmp/x" && ! cmp -s "$tmp/log" "$tmp/first" || fail "rounds do not differ"
printf 'hosts: [{name: h1, address: "127.0.0.1:7800", ranks: 4}]\n' >"$tmp/one.yaml"
printf 'hosts: [{name: h1, address: "127.0.0.1:7800", ranks: 2}, {name: h2, address: "10.0.0.2:7800", ranks: 2}]\n' >"$tmp/two.yaml"
chaos --seed 9 --hosts "$tmp/two.yaml" --dry-run --out "$tmp/x" -- --store etcd://x || fail "the faults of hosts are not told"
grep -q "^eep-ctl --out $tmp/x/round-1 host-" "$tmp/log" || fail "no fault of a host is drawn"
grep -q 'partition.*not drawn, since .*two.yaml has no command' "$tmp/log" || fail "what cannot be drawn is not named"
for bad in '--ranks 3' '--ranks 65' '--faults 0' '--minutes -1' '--minutes 0x1' '--round 0' '--seed x' '--nonsense 1' '--seed' \
    '--mix kill' '--hosts /nonexistent' "--hosts $tmp/one.yaml" "--mix kill,nonsense --hosts $tmp/two.yaml" "--ranks 8 --hosts $tmp/two.yaml"; do
    # shellcheck disable=SC2086
    chaos $bad --out "$tmp/bad"
    [ $? -eq 2 ] && grep -q -- "${bad%% *}" "$tmp/log" || fail "'$bad' is not named"
done
chaos --seed 1 --round 1 --faults 6 --out "$tmp/one" && fail "rows of before were overwritten"
grep -q 'give another folder' "$tmp/log" || fail "an old chaos.csv is not named"
chaos --seed 1 --round 1 --faults 1 --out "$tmp/begins" -- --nonsense
[ $? -eq 2 ] && [ ! -e "$tmp/begins/chaos.csv" ] || fail "a campaign that could not begin left rows"
chaos --seed 2 --round 1 --faults 2 --out "$tmp/broken" -- --corrupt slot
[ $? -eq 1 ] || fail "a broken computation passed"
grep -q 'VIOLATION in round 1 of seed 2: [a-z]*_wrong' "$tmp/log" || fail "the violation is not named"
grep -q 'replay: eep-chaos --seed 2 --round 1 --ranks 8 --faults 2' "$tmp/log" || fail "no replay command"
[ -s "$tmp/broken/round-1/events.csv" ] || fail "the rows are not kept"
echo "eep-chaos: a round passes, a broken one is named and can be replayed"
