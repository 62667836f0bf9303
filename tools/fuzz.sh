#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fuzz the parsers of bytes from outside (tests/fuzz) with libFuzzer, under ASan and UBSan.
#
#     tools/fuzz.sh [--seconds N] [--keep] [TARGET...]
#
# Without targets all of them, each for 60 seconds. It begins with the seeds of this build and with
# tests/fuzz/corpus. --keep: what reached new code there is merged into that corpus, at most 24 inputs
# and 16 KiB a target. An input that fails is left in build-fuzz/found and named. Needs clang with libFuzzer
# (Debian: clang, libclang-rt-dev). Exit status: 0 nothing was found, 1 something was, 77 no clang.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
seconds=60
keep=no
targets=()
while [ $# -gt 0 ]; do
    case $1 in
    --seconds) seconds=${2-}; shift; [[ $seconds =~ ^[0-9]+$ ]] || { echo "--seconds N" >&2; exit 2; } ;;
    --keep) keep=yes ;;
    --help|-h) sed -n 's/^# \{0,1\}//p' "${BASH_SOURCE[0]}" | sed -n '2,12p'; exit 0 ;;
    -*) echo "unknown option $1" >&2; exit 2 ;;
    *) targets+=("$1") ;;
    esac
    shift
done
if ! command -v clang >/dev/null || ! echo 'int LLVMFuzzerTestOneInput(const char *b, unsigned long n) { return b && n == 0; }' |
    clang -fsanitize=fuzzer -x c - -o /dev/null 2>/dev/null; then
    echo "no clang with libFuzzer here (Debian: clang, libclang-rt-dev)"
    exit 77
fi
build=$root/build-fuzz
if [ ! -f "$build/build.ninja" ]; then
    CC=${FUZZ_CC:-clang} env -u LIBRARY_PATH /usr/bin/meson setup "$build" -Dbuildtype=debug -Doptimization=1 \
        -Db_sanitize=address,undefined -Db_lundef=false -Dwerror=false -Dcuda=disabled -Ddocs=disabled -Dfuzz=true \
        -Dc_args=-fsanitize=fuzzer-no-link >/dev/null
fi
env -u LIBRARY_PATH ninja -C "$build" tests/fuzz/eep-fuzz tests/fuzz/fuzz_replay >/dev/null
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
found=$build/found
mkdir -p "$found" "$work/unpacked"
"$build/tests/fuzz/fuzz_replay" tests/fuzz/corpus --unpack "$work/unpacked" >"$work/names"
if [ ${#targets[@]} -eq 0 ]; then
    mapfile -t targets < <(cut -d: -f1 "$work/names")
fi
# --keep: inputs that together reach all that is known to be reachable, small ones first.
keep_corpus() { # TARGET FOLDER
    local kept=$work/kept/$1 out=tests/fuzz/corpus/$1.hex name total=0 num=0
    mkdir -p "$kept"
    EEP_FUZZ=$1 "$build/tests/fuzz/eep-fuzz" -merge=1 "$kept" "$work/unpacked/$1" "$2" >/dev/null 2>&1 || return
    echo "# SPDX-License-Identifier: Apache-2.0" >"$out"
    while read -r name; do
        total=$((total + $(stat -c %s "$kept/$name")))
        num=$((num + 1))
        [ "$num" -le 24 ] && [ "$total" -le 16384 ] || break
        od -An -v -tx1 "$kept/$name" | tr -d ' \n' >>"$out"
        echo >>"$out"
    done < <(cd "$kept" && find . -type f -size +0 -printf '%s %f\n' | sort -n | cut -d' ' -f2)
}
failed=0
for target in "${targets[@]}"; do
    mkdir -p "$work/corpus/$target"
    if EEP_FUZZ=$target "$build/tests/fuzz/eep-fuzz" -max_total_time="$seconds" -max_len=8192 -timeout=10 \
        -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$found/$target-" "$work/corpus/$target" \
        "$work/unpacked/$target" >"$work/log" 2>&1; then
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/log")
        echo "$target: $runs runs, nothing found"
        [ "$keep" = no ] || keep_corpus "$target" "$work/corpus/$target"
    else
        failed=1
        tail -n 40 "$work/log"
        echo "$target: FAILED; again: EEP_FUZZ=$target $build/tests/fuzz/eep-fuzz FILE, with a file of $found"
    fi
done
exit "$failed"
