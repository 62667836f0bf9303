#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Ranks of hosts that one machine plays: rows between them go over the network, and every token is
# right through kills, a stop and rejoins, in ranks of both hosts, and the end of all ranks of a
# host; and where all ranks of one host are reached by the network. On the guarded device, too.
#   tests/run/hosts_of.sh EEP_RUN [NAME...]      NAME: of these runs alone
set -euo pipefail
run=$1
shift
wanted=" $* "
out=$(mktemp -d /dev/shm/eep-hosts-XXXXXX)
trap 'rm -rf "$out"' EXIT
try() {
    local name=$1
    shift
    [[ $wanted == "  " || $wanted == *" $name "* ]] || return 0
    if ! "$run" "$@" --out "$out/$name" > "$out/$name.txt" 2>&1; then
        cat "$out/$name.txt"
        echo "FAILED: $name"
        exit 1
    fi
    grep -q 'GOOD: nothing wrong, nothing lost' "$out/$name.txt" || { cat "$out/$name.txt"; exit 1; }
}
try kill --ranks 4 --slots 32 --hosts-of 2 --keep-busy 8 --requests 60 --kill 1@1 --rejoin 1@2 --kill 2@3 --rejoin 2@4
try host --ranks 6 --slots 32 --hosts-of 2 --ranks-per-node 2 --spread 2 --requests 60 --kill 2@1 --kill 3@1
try stop --ranks 4 --slots 32 --hosts-of 2 --keep-busy 8 --requests 40 --stop 3@1
try chains --ranks 3 --slots 64 --hosts-of 1 --chains 2 --dtype bf16 --requests 40 --kill 2@1
# Memory that the host cannot touch: rows come by the bounce buffer.
try guarded --device guarded --ranks 4 --slots 32 --hosts-of 2 --keep-busy 8 --requests 40 --kill 1@1 --rejoin 1@2
EEP_NETWORK_PEERS=all try guarded_near --device guarded --ranks 3 --slots 64 --chains 2 --requests 20 --kill 2@1
EEP_NETWORK_PEERS=all try near --ranks 3 --slots 64 --requests 40 --kill 1@1 --rejoin 1@2
