#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Bulk copies over another UCX than the one that libeep was built with: the tests of that carrier, and
# runs that repair over it. libeep is not built anew.
#
#   tests/run/ucx_newer.sh BUILD [FOLDER]
#
# FOLDER has the other libucp.so.0. Without it EEP_UCX_NEWER names the folder, or else it is that of
# the Python package libucx (libucx-cu12 is UCX 1.22), if Python finds one. 77: there is none.
set -eu
build=$1
folder=${2:-${EEP_UCX_NEWER:-}}
if [ -z "$folder" ]; then
    folder=$(python3 -c 'import libucx, os; print(os.path.join(os.path.dirname(libucx.__file__), "lib"))' 2>/dev/null) || true
fi
if [ ! -e "$folder/libucp.so.0" ]; then
    echo "no other UCX here: install the Python package libucx-cu12, or set EEP_UCX_NEWER"
    exit 77
fi
export LD_LIBRARY_PATH=$folder EEP_BULK=ucx
ldd "$build/tests/test_bulk" | grep -q "libucp.so.0 => $folder/" || { echo "$folder is not what is loaded"; exit 1; }
strings "$folder/libucp.so.0" 2>/dev/null | grep -m 1 -E '^1\.[0-9]+\.[0-9]+$' || true
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"$build/tests/test_bulk_ucx"
"$build/tests/test_bulk" --filter 'ucx/*'
"$build/tests/test_executor"
"$build/tests/test_context" --filter 'context/*repaired*'
run() {
    "$build/experiments/eep-run" --quiet --no-picture --bulk ucx --ranks 8 --requests 120 --rate 60 --input 4:16 \
        --output 8:24 --out "$tmp/$1" "${@:2}" >"$tmp/said" || { cat "$tmp/said"; exit 1; }
    python3 - "$tmp/$1/summary.json" <<'PYTHON'
import json, sys
summary = json.load(open(sys.argv[1]))
moved = summary["weights_bytes_in_pause"] + summary["weights_bytes_background"]
print(f"{summary['tokens_emitted']} tokens, {moved} bytes of weights over UCX")
sys.exit(not summary["good"] or moved == 0)
PYTHON
}
run adjacent --kill 3@1 --kill 4@1 --rejoin 3@2
run spread --kill 1@1 --kill 6@1.2 --rejoin 6@2
