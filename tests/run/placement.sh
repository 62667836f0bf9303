#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# placement.sh BUILD/experiments: ranks in processes of their own order placements from files, before
# their weights and behind live traffic. One is reached while every token stays right, and its pins
# outlive a kill and a rejoin. One that cannot be reached, two first ones that differ, and bad files
# are named.
set -u
bin=$1
tmp=$(mktemp -d)
run=
trap 'kill $run 2>/dev/null; wait $run 2>/dev/null; rm -rf "$tmp"' EXIT
fail() { echo "placement.sh: $*"; [ -f "$tmp/log" ] && cat "$tmp/log"; exit 1; }
small=(--layers 2 --hidden 64 --inner 48 --experts 16 --topk 4 --ranks 4 --input 4:8 --output 8:16
    --requests 40 --rate 40 --keep-busy 12)
eep_run() { # OPTIONS...
    rm -rf "$tmp/out"
    timeout 60 "$bin/eep-run" --no-picture --quiet "${small[@]}" --out "$tmp/out" "$@" >"$tmp/log" 2>&1
}
check() { # PYTHON: over s (summary.json), p (its placements), events
    /usr/bin/python3 - "$tmp/out" "$1" <<'PYTHON' || fail "not so: $1"
import csv, json, sys
with open(f"{sys.argv[1]}/events.csv", encoding="utf-8") as file:
    events = list(csv.DictReader(line for line in file if not line.startswith("#")))
with open(f"{sys.argv[1]}/summary.json", encoding="utf-8") as file:
    s = json.load(file)
p = s["placements"]
def rows(kind): return [int(e["value"]) for e in events if e["kind"] == kind]
exec("ok = (" + sys.argv[2] + ")")
if not ok:
    print(json.dumps(p), [(e["time_ms"], e["kind"], e["value"]) for e in events if "placement" in e["kind"]])
sys.exit(not ok)
PYTHON
}

# ---- live: reached behind traffic; pins are kept through a kill and a rejoin
cat >"$tmp/pins.json" <<'JSON'
{"number": 3, "ranks": [
  {"rank": 1, "experts": [15, 14, 13], "pinned": true},
  {"rank": 3, "experts": [0, 5, 10], "pinned": [true, true, false]},
  {"layer": 1, "rank": 0, "experts": [8, 9, 10, 11, 12]}]}
JSON
eep_run --slots 8 --keep-busy-seconds 3 --placement "2=$tmp/pins.json@0.4" --kill 1@placed+100ms --rejoin 1@exited:1+200ms ||
    fail "a live order was not good"
check 's["good"] and s["tokens_wrong"] == 0 and s["tokens_missing"] == 0 and s["requests_lost"] == 0'
check 'len(p) == 1 and p[0]["number"] == 3 and p[0]["rank"] == 2 and p[0]["state"] == "reached"'
check 'p[0]["time_ms"] >= 400 and 0 < p[0]["in_force_ms"] <= p[0]["reached_ms"]'
check 'p[0]["num_unmet"] == 0 and p[0]["num_pinned"] == 2 * (3 + 2)' # the new process of rank 1 holds its own again
check 'rows("placement") == [3] and rows("placement-reached")[:1] == [3] and not rows("placement-unreachable")'
check 's["weights_bytes_background"] > 0 and s["joins"][0]["joined"] and len(s["faults"]) == 1'
grep -q "placement  3 of rank 2: reached" "$tmp/log" || fail "the table does not tell of it"
echo "a live order is reached, its pins outlive a kill and a rejoin"

# ---- before the weights: the first view has it; a new process orders the same again
sed 's/"number": 3/"number": 1/' "$tmp/pins.json" >"$tmp/first.json"
printf '{"number": 2, "ranks": [{"rank": 3, "experts": [0, 6, 10], "pinned": [true, true, false]}]}' >"$tmp/second.json"
eep_run --slots 8 --keep-busy-seconds 2 --first-placement "$tmp/first.json" --placement "$tmp/second.json@0.5" \
    --kill 1@1 --rejoin 1@exited:1+200ms || fail "a first order was not good"
check 'len(p) == 2 and p[0]["rank"] is None and p[0]["time_ms"] == 0 and p[0]["reached_ms"] is not None'
check 'p[0]["state"] == "replaced" and p[1]["rank"] == 0 and p[1]["state"] == "reached"'
check 'rows("placement") == [1] * 4 + [2] + [1] and rows("placement-reached")[:2] == [1, 2]' # and the new process
check 's["tokens_wrong"] == 0 and p[1]["num_pinned"] == 2 * 2'
echo "a first order is there from the start, and a higher one takes its place"

# ---- no slot to spare: 4 x 4 slots for 16 experts
printf '{"number": 1, "ranks": [{"rank": 0, "experts": [12, 13]}, {"rank": 3, "experts": [0]}]}' >"$tmp/full.json"
eep_run --slots 4 --log-level warn --keep-busy-seconds 1 --placement "$tmp/full.json@0.4" || fail "an order that cannot be reached breaks the run"
check 'p[0]["state"] == "unreachable" and p[0]["num_unmet"] == p[0]["num_unreachable"] > 0 and p[0]["reached_ms"] is None'
check 'rows("placement-unreachable") == [1] and not rows("placement-reached") and s["tokens_wrong"] == 0'
grep -q "placement 1 cannot be reached: .* slots will not hold .* each expert has one replica and no slot is empty" "$tmp/log" ||
    fail "libeep's log does not name it"
grep -q "eep-run: placement 1 cannot be reached: " "$tmp/log" || fail "eep-run does not name it"
echo "an order that cannot be reached is named"

# ---- two ranks with different first ones
sed 's/\[0, 5, 10\]/[0, 6, 10]/' "$tmp/first.json" >"$tmp/other.json"
eep_run --slots 8 --first-placement "$tmp/first.json" --first-placement "1=$tmp/other.json" && fail "two different first orders are taken"
grep -q "rank 1 was given another placement (number 1 (digest [0-9a-f]*)) than rank 0 (number 1 (digest [0-9a-f]*)): give all ranks of a first view the same" \
    "$tmp/log" || fail "two different first orders are not named"
echo "two different first orders are named"

# ---- by hand: a bad file is refused, a lower number too; ranks as threads
"$bin/eep-run" --no-picture --quiet "${small[@]}" --slots 8 --threads --serve --force --out "$tmp/out" >"$tmp/log" 2>&1 &
run=$!
for _ in $(seq 600); do [ -S "$tmp/out/control.sock" ] && break; sleep 0.05; done
ctl() { "$bin/eep-ctl" --out "$tmp/out" "$@"; }
ctl wait settled --timeout 30 >/dev/null || fail "it never served"
ctl placement "$tmp/absent.json" >"$tmp/said" 2>&1 && fail "an absent file is taken"
grep -q "placement: $tmp/absent.json: No such file" "$tmp/said" || fail "an absent file is not named: $(cat "$tmp/said")"
ctl watch >"$tmp/watched" &
for _ in $(seq 600); do # until it watches: of what was before that it tells nothing
    [ -s "$tmp/watched" ] && break
    ctl slow 0=1 >/dev/null; sleep 0.05
done
seen() { # KIND: within 10 s
    for _ in $(seq 200); do grep -q "$1" "$tmp/watched" && return; sleep 0.05; done
    fail "no event $1"
}
ctl placement "2=$tmp/pins.json" | grep -qw 2 || fail "an order by hand"
seen placement-reached
ctl placement "2=$tmp/first.json" >/dev/null || fail "a number that was given is for the rank to refuse"
seen placement-refused
ctl finish >/dev/null || fail "the run by hand does not finish"
wait $run || fail "the run by hand was not good"
check 'p[0]["state"] == "reached" and p[-1]["state"] == "refused" and rows("placement-refused") == [1] and s["good"]'
grep -q "rank 2: placement: .*number 1: this rank gave 3" "$tmp/log" || fail "why a number is refused is not said"
echo "by hand, to threads"

# ---- bad files
bad=0
refused() { # TEXT JSON: exit 2, and TEXT said
    printf '%s' "$2" >"$tmp/bad.json"
    for option in "--placement=$tmp/bad.json@1" "--first-placement=$tmp/bad.json"; do
        eep_run --slots 8 "$option"
        if [ $? -ne 2 ] || ! grep -qF -- "${option%%=*}: $tmp/bad.json: $1" "$tmp/log"; then
            echo "expected exit 2 and '$1' of $option"; cat "$tmp/log"; bad=1
        fi
    done
}
entry() { printf '{"number": 1, "ranks": [{"rank": 0, %s}]}' "$1"; }
refused "line 1 is no JSON" '{"number": 1'
refused "number 0: whole numbers from 1 to 2^53" '{"number": 0, "ranks": []}'
refused "'number' is missing" '{"ranks": []}'
refused "ranks[0]: slot 1: expert 16 is unknown: they are 0 to 15" "$(entry '"experts": [1, 16]')"
refused "ranks[0]: 9 experts are too many: a rank has 8 slots" "$(entry '"experts": [1, 2, 3, 4, 5, 6, 7, 8, 9]')"
refused "ranks[0]: rank 4: the ranks are 0 to 3" '{"number": 1, "ranks": [{"rank": 4, "experts": [1]}]}'
same='"experts": [0, 1, 2, 3, 4, 5, 6, 7]'
refused "layer 0: expert 8 is left without a slot: 8 experts are given none, and 0 slots of 4 ranks are free" \
    "{\"number\": 1, \"ranks\": [{\"rank\": 0, $same}, {\"rank\": 1, $same}, {\"rank\": 2, $same}, {\"rank\": 3, $same}]}"
printf '{"number": 0, "ranks": []}' >"$tmp/bad.json"
printf 'name: a\nabout: b\ninstance: {first-placement: bad.json}\n' >"$tmp/one.yaml"
printf 'name: a\nabout: b\nevents:\n  - {at: {time: 1}, do: placement, file: bad.json}\n' >"$tmp/two.yaml"
for scenario in one two; do # a relative name counts from the scenario's folder
    "$bin/eep-run" --check-only "$tmp/$scenario.yaml" >"$tmp/log" 2>&1
    { [ $? -eq 2 ] && grep -qF "$tmp/bad.json: number 0: " "$tmp/log"; } || { echo "scenario $scenario"; cat "$tmp/log"; bad=1; }
done
[ $bad -eq 0 ] || fail "bad files are not named"
echo "bad files are named"
