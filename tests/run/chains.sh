#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Two micro-batches a step (--chains 2): every token is that of --chains 1 through deaths in each
# chain's sends, a kill, a pause, and ranks that leave and join, on the host and guarded devices and
# with ranks as threads. No healthy rank captures again.
# usage: chains.sh BUILD/experiments
set -u
bin=$1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
load=(--no-picture --quiet --ranks 4 --max-ranks 5 --slots 32 --layers 2 --hidden 64 --inner 48
    --requests 40 --rate 100 --input 4:16 --output 12:24 --seed 5)
fail() {
    echo "$1"
    cat "$2"
    exit 1
}

# Each way out is behind the way back before it.
deaths=(--die "3=dispatch@0.2" --rejoin "3@exited:3+0.2")
previous=3
for victim in 2=dispatch.1 1=combine 0=combine.1; do
    seat=${victim%=*}
    deaths+=(--die "$victim@joined:$previous+0.1" --rejoin "$seat@exited:$seat+0.2")
    previous=$seat
done
changes=(--kill 3@0.2 --rejoin "3@exited:3+0.2" --stop "2=150ms@joined:3+0.1"
    --add 4@joined:3+0.3 --drain 1@joined:4+0.1 --die "2=experts.1@exited:1+0.1")

run() { # NAME, PROCESSES THAT COME BACK OR COME, DEATHS INSIDE A STEP, OPTIONS
    local name=$1 joins=$2 num_deaths=$3 code
    shift 3
    timeout 60 "$bin/eep-run" "${load[@]}" --keep-busy 8 --chains 2 "$@" --out "$tmp/$name" >"$tmp/$name.log" 2>&1
    code=$?
    if [ $code -ne 0 ] || [ "$(grep -c '"joined":[[:space:]]*true' "$tmp/$name/summary.json")" -ne "$joins" ]; then
        fail "$name: exit code $code (0), or not $joins joined; options: $*" "$tmp/$name.log"
    fi
    python3 - "$tmp/$name/summary.json" "$joins" "$num_deaths" <<'PY' || exit 1
import json, sys
found = json.load(open(sys.argv[1], encoding="utf-8"))
captures, joins = found["captures_after_start"], int(sys.argv[2])
kinds = [fault["kind"] for fault in found["faults"]]
assert found["model"]["chains"] == 2, found["model"]
assert captures == {"healthy": 0, "joining": joins}, captures
assert kinds.count("die") == int(sys.argv[3]), kinds
assert found["tokens_wrong"] == 0 and found["requests_lost"] == 0
assert found["script"]["never_due"] == 0 and found["script"]["waiting"] == 0, found["script"]
PY
    echo "$name: $(grep -o 'GOOD.*' "$tmp/$name.log")"
}

run deaths-host 4 4 "${deaths[@]}" &
run deaths-guarded 4 4 "${deaths[@]}" --device guarded &
wait -n && wait -n || exit 1
run changes-host 2 1 "${changes[@]}" &
run changes-guarded 2 1 "${changes[@]}" --device guarded &
run threads 4 4 "${deaths[@]}" --threads --dtype fp8 &
wait -n && wait -n && wait -n || exit 1

"$bin/eep-run" "${load[@]}" --no-oracle --chains 1 --out "$tmp/one" >"$tmp/one.log" 2>&1 || fail "one chain" "$tmp/one.log"
"$bin/eep-run" "${load[@]}" --chains 2 --kill 3@0.2 --rejoin 3@0.5 --out "$tmp/two" >"$tmp/two.log" 2>&1 ||
    fail "two chains" "$tmp/two.log"
"$bin/eep-oracle" --compare "$tmp/one" "$tmp/two"
