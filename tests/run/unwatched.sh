#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Ranks that got no descriptor for their peers' processes still see the whole end of one, in /proc: else a
# second fault on a device that outlives its process would wait for the first one's end for ever (P8).
#   tests/run/unwatched.sh BIN LIBRARY     BIN: the folder of eep-run; LIBRARY: of tests/preload/no_pidfd.c
set -euo pipefail
bin=${1:?usage: tests/run/unwatched.sh BIN LIBRARY} library=${2:?}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
LD_PRELOAD=$library EEP_TEST_NO_PIDFD=3 timeout -k 5 60 "$bin/eep-run" --no-picture --quiet --device guarded --ranks 4 --slots 64 \
    --requests 60 --rate 20 --input 4:16 --output 8:24 --keep-busy 12 --log-level warn \
    --kill 1@1 --kill 2@2 --out "$tmp/run" >"$tmp/said" 2>&1 || { cat "$tmp/said"; exit 1; }
grep -q "cannot watch process" "$tmp/said" || { echo "every process could be watched: this tests nothing"; exit 1; }
grep GOOD "$tmp/said"
