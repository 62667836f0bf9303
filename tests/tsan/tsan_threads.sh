#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# All threads of libeep and of the driver in one process, under ThreadSanitizer, through kills, a death
# inside a step, a stop and an eviction: no data race, no
# inversion of locks. UCX is not instrumented, and what TSan thinks of
# its locks is not counted; its memory hooks do not get along with TSan at all.
# usage: tsan_threads.sh BUILD/experiments (a build with -Db_sanitize=thread)
set -u
bin=$1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
printf 'called_from_lib:%s\n' libucp.so libuct.so libucs.so >"$tmp/suppressions"
printf 'race:%s\n' libucp libuct libucs >>"$tmp/suppressions"
export UCX_MEM_EVENTS=no TSAN_OPTIONS="suppressions=$tmp/suppressions exitcode=0 history_size=4"
command=("$bin/eep-run" --no-picture --quiet --threads --ranks 4 --slots 32 --layers 2 --hidden 64 --inner 48
    --requests 40 --rate 20 --input 4:8 --output 8:16 --keep-busy 4 --kill 1@1 --rejoin 1@2
    --die "2=dispatch@2.3" --rejoin 2@3 --stop 3@3.5 --kill 3@7 --rejoin 3@8)
timeout 240 "${command[@]}" --out "$tmp/out" >"$tmp/log" 2>&1
code=$?
# Each report that does not come from UCX's own constructors and locks.
reports=$(awk -v RS='==================\n' '/WARNING: ThreadSanitizer/ &&
    !/eepi_ucx_quiet|_dl_call_fini|ucm_library_init|libuc[spm]\.so/ { n++; print > "/dev/stderr" } END { print n + 0 }' \
    "$tmp/log" 2>"$tmp/reports")
if [ $code -ne 0 ] || [ "$reports" -ne 0 ]; then
    echo "exit code $code, $reports reports; run: ${command[*]}"
    head -n 200 "$tmp/reports"
    tail -n 20 "$tmp/log"
    exit 1
fi
grep -o 'GOOD.*' "$tmp/log"
