#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# abi_next.sh BUILD: programs of today run with the library of a next version, whose structs have a
# field more at their ends (docs/ABI.md). That library is built in BUILD/abi_next, which stays: the next
# run compiles what has changed since.
set -euo pipefail
unset LIBRARY_PATH
build=$(cd "$1" && pwd)/abi_next
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
meson=$(PATH=/usr/bin:$PATH command -v meson)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
fail() { echo "$*"; exit 1; }

all=(eep_config eep_event_info eep_dispatch_args eep_step eep_counters eep_snapshot eep_fault
    eep_verdict eep_memory_sizes
    eep_window_sizes eep_step_words eep_shape_info eep_launch_info eep_bad_input eep_view_info eep_combine_args eep_kernel
    eep_checkpoint_tensor eep_form_sizes eep_live_placement eep_collective_result
    eep_checkpoint_place eep_placement eep_placement_info)
mkdir -p "$tmp/next" "$build/source"
for part in docs graphs membership repair transport include experiments meson.build meson_options.txt; do
    cp -r "$root/$part" "$tmp/next/$part"
done
rm -r "$tmp/next/include/eep"
python3 "$root/tests/abi/abi_headers.py" "$root/include" "$tmp/next/include" longer "${all[@]}"
# The field that ends each struct is another one there.
sed -i -E 's/^ENDS_WITH\((\w+), \w+\)/ENDS_WITH(\1, field_of_the_next_version)/' \
    "$tmp/next/graphs/base/public_call.c"
# Only what differs, so that the rest is not compiled again.
python3 - "$tmp/next" "$build/source" <<'PYTHON'
import pathlib, shutil, sys
made, kept = map(pathlib.Path, sys.argv[1:])
for path in made.rglob("*"):
    to = kept / path.relative_to(made)
    if path.is_dir():
        to.mkdir(parents=True, exist_ok=True)
    elif not to.exists() or to.read_bytes() != path.read_bytes():
        shutil.copyfile(path, to)
PYTHON
[ -f "$build/build/build.ninja" ] ||
    "$meson" setup "$build/build" "$build/source" -Dlaboratory=false -Dcuda=disabled -Ddocs=disabled \
        -Dbuildtype=plain -Doptimization=0 >"$tmp/said" 2>&1 ||
    { tail -20 "$tmp/said"; fail "meson setup failed"; }
ninja -C "$build/build" libeep.so.1.0.0 >"$tmp/said" 2>&1 ||
    { tail -20 "$tmp/said"; fail "the next version does not build"; }
${CC:-cc} -std=c17 -Wall -Wextra -Werror -Wno-missing-field-initializers -DSAME -I"$root/include" \
    "$root/tests/abi/abi_program.c" -o "$tmp/program" -L"$build/build" -leep -Wl,-rpath,"$build/build"
mkdir -m 0700 "$tmp/run"
env -u EEP_RANK -u EEP_SIZE -u EEP_STORE "$tmp/program" "$tmp/run" ||
    fail "a program of today failed with the next version of the library"
