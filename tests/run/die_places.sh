#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A rank kills itself at each place inside a step, then comes back: it ends by SIGKILL, and no token
# is wrong or lost.
# usage: die_places.sh BUILD/experiments
set -u
bin=$1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
for place in dispatch experts combine; do
    command=("$bin/eep-run" --no-picture --ranks 8 --requests 120 --rate 40 --die "3=$place@1" --rejoin 3@2.5)
    timeout 120 "${command[@]}" --out "$tmp/$place" >"$tmp/$place.log" 2>&1
    code=$?
    # time_ms,seat,generation,kind,about_seat,about_generation,epoch,value: a wait status
    killed=$(grep -cE '^[0-9.]+,3,1,exit,3,1,[0-9]+,9$' "$tmp/$place/events.csv")
    back=$(grep -cE '^[0-9.]+,3,2,joined,' "$tmp/$place/events.csv")
    if [ $code -ne 0 ] || [ "$killed" -ne 1 ] || [ "$back" -ne 1 ]; then
        echo "$place: exit code $code (0), rank 3 ended by SIGKILL $killed times (1), came back" \
            "$back times (1); run: ${command[*]}"
        cat "$tmp/$place.log"
        exit 1
    fi
    echo "died in $place: $(grep -o 'GOOD.*' "$tmp/$place.log")"
done
