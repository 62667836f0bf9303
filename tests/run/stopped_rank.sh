#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A rank process is stopped with SIGSTOP: for less than expel_us nothing happens to it; for longer it
# is killed, then expelled; without the fence it is expelled, finds that out when it goes on, and
# ends. No token is wrong or lost.
# usage: stopped_rank.sh BUILD/experiments
set -u
bin=$1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
# run NAME EXPELLED EVICTED OPTION...: rank 3 is expelled so often, and ends by itself so often.
run() {
    local name=$1 expelled=$2 evicted=$3 code good
    shift 3
    local command=("$bin/eep-run" --no-picture --ranks 4 --slots 32 --layers 2 --hidden 128 --inner 96
        --requests 60 --rate 30 "$@")
    timeout 60 "${command[@]}" --out "$tmp/$name" >"$tmp/$name.log" 2>&1
    code=$?
    good=$(grep -cE '"(expelled_living":[[:space:]]*0|zombies_evicted":[[:space:]]*'"$evicted"'),' \
        "$tmp/$name/summary.json")
    expelled_is=$(grep -c '"expelled":[[:space:]]*true' "$tmp/$name/summary.json")
    if [ $code -ne 0 ] || [ "$good" -ne 2 ] || [ "$expelled_is" -ne "$expelled" ] ||
        [ "$(grep -c '"kind":' "$tmp/$name/summary.json")" -ne 1 ]; then
        echo "$name: exit code $code (0), expelled $expelled_is times ($expelled), or not one fault," \
            "0 expelled_living and $evicted zombies_evicted; run: ${command[*]}"
        cat "$tmp/$name.log"
        grep -E '"(expelled|zombies|kind)' "$tmp/$name/summary.json"
        exit 1
    fi
    echo "$name: $expelled expelled, $evicted evicted: $(grep -o 'GOOD.*' "$tmp/$name.log")"
}
run short 0 0 --stop 3=0.4@1
run fenced 1 0 --stop 3=2.5@1
run zombie 1 1 --no-kill-fence --stop 3=2.5@1
