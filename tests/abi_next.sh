#!/usr/bin/env bash
# abi_next.sh: programs of today run with the library of a next version, whose structs have a field
# more at their ends (docs/ABI.md). Builds that library, so it is no part of the quick tests.
set -euo pipefail
unset LIBRARY_PATH
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
meson=$(PATH=/usr/bin:$PATH command -v meson)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
fail() { echo "$*"; exit 1; }

all=(eep_config eep_event_info eep_dispatch_args eep_step eep_counters eep_snapshot eep_fault
    eep_window_sizes eep_bad_input eep_view_info eep_combine_args eep_kernel)
mkdir "$tmp/next"
for part in graphs membership repair transport include experiments meson.build meson_options.txt; do
    cp -r "$root/$part" "$tmp/next/$part"
done
rm -r "$tmp/next/include/eep"
python3 "$root/tests/abi_headers.py" "$root/include" "$tmp/next/include" longer "${all[@]}"
# The field that ends each struct is another one there.
sed -i -E 's/^ENDS_WITH\((\w+), \w+\)/ENDS_WITH(\1, field_of_the_next_version)/' \
    "$tmp/next/graphs/public_call.c"
"$meson" setup "$tmp/build" "$tmp/next" -Dlaboratory=false -Dcuda=disabled -Dbuildtype=debug \
    -Doptimization=0 >"$tmp/said" 2>&1 || { tail -20 "$tmp/said"; fail "meson setup failed"; }
ninja -C "$tmp/build" libeep.so.1.0.0 >"$tmp/said" 2>&1 ||
    { tail -20 "$tmp/said"; fail "the next version does not build"; }
${CC:-cc} -std=c17 -Wall -Wextra -Werror -Wno-missing-field-initializers -DSAME -I"$root/include" \
    "$root/tests/abi_program.c" -o "$tmp/program" -L"$tmp/build" -leep -Wl,-rpath,"$tmp/build"
mkdir -m 0700 "$tmp/run"
env -u EEP_RANK -u EEP_SIZE -u EEP_STORE "$tmp/program" "$tmp/run" ||
    fail "a program of today failed with the next version of the library"
