#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A seed replays to the byte: two traces of one history are identical, crashes and all.
set -eu
sim=$1
directory=$(mktemp -d)
trap 'rm -r "$directory"' EXIT
for seed in 3 5 15 27 46 141; do
    for run in first second; do
        "$sim" --seed "$seed" --trace >"$directory/$run" ||
            { echo "eep-sim --seed $seed --trace failed"; exit 1; }
    done
    cmp "$directory/first" "$directory/second" ||
        { echo "seed $seed: two traces differ: something in the simulation is not from the seed"; exit 1; }
    test "$(wc -l <"$directory/first")" -gt 20 || { echo "seed $seed: a trace of few lines"; exit 1; }
done
for bad in "--seeds 5..1" "--ranks 1 --seed 1" "--kinds crash,nonsense --seed 1" "--seed x"; do
    # shellcheck disable=SC2086
    if "$sim" $bad >"$directory/out" 2>&1; then echo "$bad is accepted"; exit 1; fi
done
