#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# api_calls.sh BUILD: every public function with NULL in each pointer argument, and in a child of
# fork: refused with a text, never a crash or a wait.
set -euo pipefail
unset LIBRARY_PATH
build=$(cd "$1" && pwd)
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export ASAN_OPTIONS=detect_leaks=0 # the child leaves its parent's memory alone
sanitize=()
if nm -D --undefined-only "$build/libeep.so" | grep __asan_init >/dev/null; then
    sanitize=("-fsanitize=address,undefined")
fi
python3 "$root/tests/abi/api_calls.py" "$root/include" >"$tmp/api_calls.inc"
${CC:-cc} -std=c17 -D_GNU_SOURCE -Wall -Wextra -Werror -g "${sanitize[@]}" -I"$root/include" \
    -I"$tmp" "$root/tests/abi/api_calls.c" -o "$tmp/program" -L"$build" -leep -Wl,-rpath,"$build"
mkdir -m 0700 "$tmp/run"
env -u EEP_RANK -u EEP_SIZE -u EEP_STORE "$tmp/program" "$tmp/run"
