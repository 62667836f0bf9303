#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# eep-bench: what is wrong with its arguments is said, rows are complete, a lost device is 77.
#   tests/run/bench.sh EEP_BENCH
set -u
bench=${1:?usage: tests/run/bench.sh EEP_BENCH}
tmp=$(mktemp -d)
trap 'rm -r "$tmp"' EXIT
failed=0
expect() { # STATUS TEXT ARGUMENT...: the exit status, and what must be on stderr or stdout
    wanted=$1 text=$2
    shift 2
    "$bench" "$@" >"$tmp/out" 2>&1
    status=$?
    if [ "$status" -ne "$wanted" ] || ! grep -q -- "$text" "$tmp/out"; then
        echo "eep-bench $*: status $status instead of $wanted, or no \"$text\" in:"
        cat "$tmp/out"
        failed=1
    fi
}
expect 0 "Usage: eep-bench" --help
expect 2 "Usage: eep-bench"
expect 2 "there is none of this name" nothing
expect 2 "unknown option" --nothing 1 memory
expect 2 "needs a value" memory --ranks
expect 2 "whole number from 1" --ranks 0 memory
expect 2 "whole number from 1" --ranks 8x memory
expect 2 "numbers from 1" --tokens 1,,2 memory
expect 2 "not one of bf16|fp8" --dtype fp32 memory
expect 2 "not one of host|guarded|cuda" --device tpu memory
expect 2 "from 1 to 32" --quick --ranks 33 exchange
expect 1 "at least 2 layers" --quick --layers 1 exchange
expect 1 "bad top_k" --quick --topk 17 overhead
expect 1 "No such file" --csv "$tmp/none/rows.csv" memory
expect 0 "0 checks failed" --quick --csv "$tmp/rows.csv" --commit abc memory overhead
columns=$(grep -v '^#' "$tmp/rows.csv" | awk -F, '{ print NF }' | sort -u)
[ "$columns" = 12 ] || { echo "rows have $columns columns instead of 12"; failed=1; }
grep -q '^# commit abc$' "$tmp/rows.csv" || { echo "no commit in the rows"; failed=1; }
grep -q '^overhead,.*,elastic_over_fixed,ratio,3,' "$tmp/rows.csv" || { echo "no ratio"; failed=1; }
expect 0 "0 checks failed" --quick --repeats=1 memory
expect 2 "whole number from 1" --repeats= memory
# A lock on the rows themselves may be another user's, who can read them; one beside them is ours.
exec 8<"$tmp/rows.csv"
flock -s 8
expect 0 "0 checks failed" --quick --csv "$tmp/rows.csv" --append --commit abc memory
[ ! -e "$tmp/rows.csv.lock" ] || { echo "a lock stays behind"; failed=1; }
exec 9>"$tmp/rows.csv.lock"
flock 9
expect 1 "another eep-bench writes into it now" --quick --csv "$tmp/rows.csv" --append --commit abc memory
exec 8<&- 9>&-
[ "$(grep -c '^case,' "$tmp/rows.csv")" = 1 ] && [ "$(grep -c '^# commit abc$' "$tmp/rows.csv")" = 2 ] ||
    { echo "--append did not go on behind the rows"; failed=1; }
exit $failed
