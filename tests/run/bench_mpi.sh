#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# eep-bench-mpi: both jobs run and agree with MPI to the bit, rows are complete, bad options are
# refused. 77 where it says that Open MPI is missing.
#   tests/run/bench_mpi.sh EEP_BENCH_MPI
set -u
bench=${1:?usage: tests/run/bench_mpi.sh EEP_BENCH_MPI}
tmp=$(mktemp -d)
trap 'rm -r "$tmp"' EXIT
fail() {
    echo "$1"
    cat "$tmp/out"
    exit 1
}
"$bench" --quick --csv "$tmp/rows.csv" >"$tmp/out" 2>&1
status=$?
if [ "$status" -eq 77 ]; then
    grep -q "Debian: \(libopenmpi-dev\|openmpi-bin\)" "$tmp/out" || fail "77, and nothing is named"
    echo "skipped: $(cat "$tmp/out")"
    exit 77
fi
[ "$status" -eq 0 ] || fail "--quick: status $status"
for ranks in 2 8; do
    for metric in outputs_wrong,count,1,0 mpi_over_libeep fp8_over_bf16 dispatch_over_copy combine_over_copy; do
        grep -q "^mpi,ranks $ranks;.*,$metric," "$tmp/rows.csv" || fail "$ranks ranks: no row $metric"
    done
done
awk -F, '/^mpi/ && NF != 12 {exit 1}' "$tmp/rows.csv" || fail "a row has not 12 fields"
"$bench" --quick --network --ranks 3 >"$tmp/out" 2>&1 || fail "--network: status $?"
"$bench" --quick --network --ucx --ranks 3 >"$tmp/out" 2>&1 || fail "--network --ucx: status $?"
"$bench" --quick --ucx >"$tmp/out" 2>&1
[ $? -eq 2 ] || fail "--ucx without --network is not refused"
for bad in "--ranks 1" "--ranks 33" "--layers 65" "--nothing"; do
    # shellcheck disable=SC2086
    "$bench" $bad >"$tmp/out" 2>&1
    [ $? -eq 2 ] || fail "$bad is not refused"
done
"$bench" --quick --csv /nowhere/rows.csv >"$tmp/out" 2>&1 && fail "rows to nowhere, and no error"
grep -q "/nowhere/rows.csv" "$tmp/out" || fail "the file that cannot be written is not named"
exit 0
