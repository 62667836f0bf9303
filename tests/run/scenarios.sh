#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Run the library of scenarios, one line each.
#   scenarios.sh BIN [quick | repair | few | rest | all | long | index]
# quick: a few that differ most; repair: every one that copies weights (EEP_BULK says over what); few:
# of these the ones that differ most;
# rest: those not marked long that copy none, and one that does; all: those not marked long; long: only
# those marked long; index: print the library's README.md. BIN: the folder of eep-run.
# A scenario that copies weights and is not among `repair` fails, as does one of these that copies none.
set -u
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bin=$1
mode=${2:-all}
cd "$root" || exit 2
library=experiments/scenarios
quick=(kill stop-short die-combine joiner-dies-ready covered-4)
repair=(covered-4 placement proposer-dies random-3 rebalance rebalance-source-dies scale-out
    source-dies sparse-seats threads threads-stuck three-kills two-joiners)
few=(covered-4 proposer-dies rebalance scale-out source-dies threads)
# Copy weights if a rank dies before redundancy is back, one joins late, or steps carry a plan in time.
sometimes=(corrupt elastic-pair idle joiner-dies-committed store-down-idle threads)
also_rest=(source-dies) # inside a pause, and behind traffic

# The value of a key that stands on a line of its own.
value() { sed -n "s/^$2: //p" "$1" | head -n 1; }

index() {
    printf '# The library of scenarios\n\n'
    printf 'Written by `tests/run/scenarios.sh BIN index`. docs/SCENARIOS.md has the format.\n'
    printf '`eep-run --scenario %s/kill.yaml --out DIR` runs one of them, and\n' "$library"
    printf '`tests/run/scenarios.sh BIN all` runs all.\n\n'
    printf '| scenario | what it shows |\n|---|---|\n'
    local file
    for file in "$library"/*.yaml; do
        printf '| [%s](%s)%s | %s |\n' "$(value "$file" name)" "$(basename "$file")" \
            "$(grep -q '^long: true' "$file" && printf ' (long)')" "$(value "$file" about)"
    done
}

# Of an event that never came, or of one that fitted nobody, the run itself is not the worse: each file asks.
unasked() {
    local file asked bad=0
    for file in $(grep -l "^events:" "$library"/*.yaml); do
        for asked in never_due waiting; do
            grep -qx "  script[.]$asked: 0" "$file" || { echo "FAIL  $file: expect: has no 'script.$asked: 0'"; bad=1; }
        done
    done
    return $bad
}

case $mode in
index) index; exit ;;
quick) files=("${quick[@]/#/$library/}"); files=("${files[@]/%/.yaml}") ;;
repair) files=("${repair[@]/#/$library/}"); files=("${files[@]/%/.yaml}") ;;
few) files=("${few[@]/#/$library/}"); files=("${files[@]/%/.yaml}") ;;
rest)
    mapfile -t files < <(grep -L '^long: true' "$library"/*.yaml | grep -vxF "$(printf "$library/%s.yaml\n" "${repair[@]}")"
        printf "$library/%s.yaml\n" "${also_rest[@]}") ;;
all) mapfile -t files < <(grep -L '^long: true' "$library"/*.yaml) ;;
long) mapfile -t files < <(grep -l '^long: true' "$library"/*.yaml) ;;
*) sed -n '2,8p' "$0" >&2; exit 2 ;;
esac
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
failed=0
# Whether a run copied weights of a peer or a backup.
copied() { grep -qE '"weights_bytes_(in_pause|background)":[[:space:]]*[1-9]' "$1/summary.json"; }
is_repair() { [[ " ${repair[*]} " == *" $1 "* ]]; }
is_steady() { [[ " ${sometimes[*]} " != *" $1 "* ]]; }
if ! "$bin/eep-run" --check-only "$library"/*.yaml >"$tmp/check" 2>&1; then
    grep -v '^ok' "$tmp/check"; exit 2
fi
if ! index | diff - "$library/README.md" >"$tmp/diff"; then
    echo "FAIL  $library/README.md is not what 'tests/run/scenarios.sh BIN index' prints"; cat "$tmp/diff"; failed=1
fi
unasked || failed=1
for file in "${files[@]}"; do
    name=$(basename "$file" .yaml)
    begin=$(date +%s%N)
    "$bin/eep-run" --quiet --no-picture --scenario "$file" --out "$tmp/$name" >"$tmp/$name.log" 2>&1
    status=$?
    took=$(($(date +%s%N) - begin))
    if [ $status -eq 0 ] && is_steady "$name" && [ "$(is_repair "$name" && echo yes)" != "$(copied "$tmp/$name" && echo yes)" ]; then
        failed=1
        printf 'FAIL  %-24s copies weights, or is in the list `repair` of tests/run/scenarios.sh, and not both\n' "$name"
    elif [ $status -eq 0 ]; then
        printf 'ok    %-24s %4d.%d s\n' "$name" $((took / 1000000000)) $((took / 100000000 % 10))
    else
        failed=1
        printf 'FAIL  %-24s exit %d; again: %s/eep-run --scenario %s\n' "$name" $status "$bin" "$file"
        grep -E 'MISSED|eep-run:' "$tmp/$name.log" || tail -n 20 "$tmp/$name.log"
    fi
    rm -rf "${tmp:?}/$name"
done
exit $failed
