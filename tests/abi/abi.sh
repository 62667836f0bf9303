#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# abi.sh BUILD: a program that was compiled with structs one field longer than the library's runs with
# it, and so does one with the structs of the first release. One whose structs lack a field that all
# versions have is refused by name, as is a program of the first ABI (docs/ABI.md). tests/abi/abi_next.sh has the program of today with the library of tomorrow.
set -euo pipefail
unset LIBRARY_PATH
build=$(cd "$1" && pwd)
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
fail() { echo "$*"; exit 1; }
export ASAN_OPTIONS=detect_leaks=0 # the program ends with its memory

sanitize=()
if nm -D --undefined-only "$build/libeep.so" | grep __asan_init >/dev/null; then
    sanitize=("-fsanitize=address,undefined")
fi
all=(eep_config eep_event_info eep_dispatch_args eep_step eep_counters eep_snapshot eep_fault
    eep_verdict eep_memory_sizes
    eep_window_sizes eep_step_words eep_shape_info eep_launch_info eep_bad_input eep_view_info eep_combine_args eep_kernel
    eep_checkpoint_tensor eep_form_sizes eep_live_placement
    eep_checkpoint_place eep_placement eep_placement_info)
# One variant: its name, the change, how the program is compiled, the structs.
variant() {
    local name=$1 change=$2 define=$3
    shift 3
    python3 "$root/tests/abi/abi_headers.py" "$root/include" "$tmp/$name" "$change" "$@"
    ${CC:-cc} -std=c17 -Wall -Wextra -Werror -Wno-missing-field-initializers "$define" \
        "${sanitize[@]}" -I"$tmp/$name" "$root/tests/abi/abi_program.c" -o "$tmp/$name.program" \
        -L"$build" -leep -Wl,-rpath,"$build"
    mkdir -m 0700 "$tmp/$name.run"
    [ ${#sanitize[@]} -ne 0 ] || ulimit -s 256 # and with little stack
    env -u EEP_RANK -u EEP_SIZE -u EEP_STORE "$tmp/$name.program" "$tmp/$name.run" ||
        fail "a program with $name structs failed"
}
variant same longer -DSAME &
variant first first -DSAME "${all[@]}" &
variant shorter shorter -DSHORTER "${all[@]:1}" &
variant shorter_config shorter -DSHORT_CONFIG eep_config &
variant longer longer -DLONGER "${all[@]}" &
failed=0
for job in $(jobs -p); do
    wait "$job" || failed=1
done
[ $failed -eq 0 ] || fail "see above"

# The first ABI: eep_config_init(config) wrote the library's size, whatever the caller's was.
cat >"$tmp/old.c" <<'C'
void eep_config_init(void *config);
int main(void)
{
    char config[256];
    eep_config_init(config);
    return 0;
}
C
echo 'void eep_config_init(void *config); void eep_config_init(void *config) { (void)config; }' \
    >"$tmp/stub.c"
${CC:-cc} -shared -fPIC -Wl,-soname,libeep.so.0 "$tmp/stub.c" -o "$tmp/libeep.so.0"
${CC:-cc} "$tmp/old.c" -o "$tmp/old" "$tmp/libeep.so.0"
rm "$tmp/libeep.so.0"
! LD_LIBRARY_PATH="$build" "$tmp/old" 2>"$tmp/said" || fail "a program of the first ABI ran"
grep -q 'libeep.so.0' "$tmp/said" || fail "not refused by its soname: $(cat "$tmp/said")"
ln -s "$build/libeep.so" "$tmp/libeep.so.0" # by force
preload=
[ ${#sanitize[@]} -eq 0 ] || preload=$(${CC:-cc} -print-file-name=libasan.so)
! LD_PRELOAD="$preload" LD_LIBRARY_PATH="$tmp" "$tmp/old" 2>"$tmp/said" ||
    fail "a program of the first ABI ran with the library under another name"
grep -q 'undefined symbol: eep_config_init$' "$tmp/said" ||
    fail "not refused by its symbol: $(cat "$tmp/said")"
