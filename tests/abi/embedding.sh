#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# embedding.sh BUILD: a Python program that unloads libeep while its threads run, and one that ends
# with an exception while a context is open, end as they would without libeep.
set -euo pipefail
unset LIBRARY_PATH
build=$(cd "$1" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
fail() { echo "$*"; exit 1; }
if nm -D --undefined-only "$build/libeep.so" | grep __asan_init >/dev/null; then
    exit 77 # the sanitizer wants to be the first library
fi
mkdir -m 0700 "$tmp/run"
cat >"$tmp/unload.py" <<'PY'
import _ctypes
import ctypes
import sys
import time

eep = ctypes.CDLL(sys.argv[1])
store, device, stream = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
if eep.eep_store_open(sys.argv[2].encode(), None, ctypes.c_size_t(0), ctypes.byref(store)) != 0:
    sys.exit("no store")
if eep.eep_device_open(b"host", 0, ctypes.byref(device)) != 0:
    sys.exit("no device")
if eep.eep_stream_open(device, ctypes.byref(stream)) != 0:
    sys.exit("no stream")
if len(sys.argv) > 3:
    raise RuntimeError("an engine's mistake")
_ctypes.dlclose(eep._handle)
time.sleep(0.05)  # the threads run on, and wait for work
print("alive")
PY
said=$(python3 "$tmp/unload.py" "$build/libeep.so.1" "$tmp/run/a") ||
    fail "a program that unloads libeep ended with $?"
[ "$said" = alive ] || fail "it said: $said"
rc=0
python3 "$tmp/unload.py" "$build/libeep.so.1" "$tmp/run/b" mistake 2>"$tmp/said" || rc=$?
[ "$rc" -eq 1 ] || fail "an exception ended the program with $rc: $(cat "$tmp/said")"
