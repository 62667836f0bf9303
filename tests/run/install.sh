#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# install.sh BUILD: what `meson install` of a finished build gives is enough to compile and run
# a program, exports the public names and nothing else, and needs no CUDA.
set -euo pipefail
unset LIBRARY_PATH # would put another library's folder before the installed one
build=$(cd "$1" && pwd)
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
meson=$(PATH=/usr/bin:$PATH command -v meson)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
fail() { echo "$*"; exit 1; }

DESTDIR="$tmp" "$meson" install -C "$build" --no-rebuild --quiet >"$tmp/log" 2>&1 ||
    { cat "$tmp/log"; fail "meson install failed"; }
pc=$(find "$tmp" -name eep.pc)
lib=$(find "$tmp" -name libeep.so)
[ -n "$pc" ] || fail "eep.pc is not installed"
[ -n "$lib" ] || fail "libeep.so is not installed"
for header in "$root"/include/eep/*.h; do
    [ -n "$(find "$tmp" -path "*/include/eep/$(basename "$header")")" ] ||
        fail "$(basename "$header") is not installed"
done

for example in minimal.c serve.py deploy/ranks.sbatch deploy/eep-rank@.service deploy/lws.yaml; do
    [ -n "$(find "$tmp" -path "*/doc/libeep/examples/$example")" ] || fail "examples/$example is not installed"
done

# Manual pages, where the build had the tools for them.
if [ -d "$build/docs/man" ]; then
    for page in eep_open.3 eep_step_end.3 eep_store_open.3; do
        [ -n "$(find "$tmp" -path "*/man3/$page")" ] || fail "$page is not installed"
    done
    [ -n "$(find "$tmp" -path '*/doc/libeep/html/index.html')" ] || fail "no HTML reference is installed"
fi
if [ -e "$build/docs/eep-run.1" ]; then
    for page in eep-run eep-ctl eep-chaos eep-oracle eep-info eep-bench eep-plan eep-avail eep-store eep-agent; do
        [ -n "$(find "$tmp" -path "*/man1/$page.1")" ] || fail "$page.1 is not installed"
    done
fi

# Only public names, each declared in a header: all of those that the headers declare.
exported=$(nm -D --defined-only "$lib" | awk '{print $3}' | sed 's/@.*//' | sort -u)
private=$(grep -vE '^(eep_.*|LIBEEP_[0-9.]+)$' <<<"$exported" || true) # a version is a name, too
exported=$(grep '^eep_' <<<"$exported")
[ -z "$private" ] || fail "libeep.so exports what is not public: $private"
declared=$(sed 's,/\*.*\*/,,' "$root"/include/eep/*.h | tr '\n' ' ' | grep -o 'EEP_API[^;]*;' |
    grep -o 'eep_[a-z_]*(' | tr -d '(' | sort -u)
missing=$(comm -23 <(echo "$declared") <(echo "$exported"))
[ -z "$missing" ] || fail "declared, but not exported by libeep.so: $missing"
extra=$(comm -13 <(echo "$declared") <(echo "$exported"))
[ -z "$extra" ] || fail "exported, but in no public header: $extra"
if readelf -d "$lib" | grep NEEDED | grep -iE 'libcuda|libcudart|libnv'; then
    fail "libeep.so needs CUDA"
fi

cat >"$tmp/program.c" <<'C'
#include <eep/eep.h>
#include <eep/sink.h>
#include <eep/store.h>
#include <stdio.h>
#include <string.h>

/* A store, and a rank that is alone in its instance: opened, not joined, closed. */
int main(int argc, char **argv)
{
    char error[256] = "", path[100];
    eep_store *store = NULL;
    eep_device *device = NULL;
    eep_context *context = NULL;
    eep_config config;

    snprintf(path, sizeof(path), "%s/store", argc > 1 ? argv[1] : ".");
    if (eep_store_open(path, error, sizeof(error), &store) != EEP_OK ||
        eep_device_open("host", 0, &device) != EEP_OK) {
        fprintf(stderr, "no store or device: %s\n", error);
        return 1;
    }
    eep_config_init(&config);
    config.rank = 0;
    config.num_ranks = 1;
    config.store_path = path;
    config.device = device;
    config.num_layers = 1;
    config.num_experts = config.num_slots = 4;
    config.top_k = 2;
    config.hidden = 8;
    config.num_max_tokens_per_rank = 4;
    if (eep_open(&config, error, sizeof(error), &context) != EEP_OK) {
        fprintf(stderr, "eep_open: %s\n", error);
        return 1;
    }
    printf("rank %d generation %u\n", eep_rank(context), eep_generation(context));
    eep_close(context);
    eep_device_close(device);
    eep_store_close(store);
    return 0;
}
C
export PKG_CONFIG_PATH
PKG_CONFIG_PATH=$(dirname "$pc")
libdir=$(dirname "$lib")
# The prefix is not where the files lie now: replace it as the sysroot would.
read -ra flags <<<"$(PKG_CONFIG_SYSROOT_DIR=$tmp pkg-config --cflags --libs eep)"
[[ " ${flags[*]} " == *" -leep "* ]] || fail "pkg-config eep says: ${flags[*]}"
sanitize=()
if nm -D --undefined-only "$lib" | grep __asan_init >/dev/null; then
    sanitize=("-fsanitize=address,undefined")
fi
"${CC:-cc}" -std=c11 -Wall -Wextra -Werror "${sanitize[@]}" "$tmp/program.c" -o "$tmp/program" \
    "${flags[@]}" || fail "a program does not compile with: ${flags[*]}"
mkdir -m 0700 "$tmp/run"
said=$(env -u EEP_RANK -u EEP_SIZE -u EEP_STORE LD_LIBRARY_PATH="$libdir" \
    "$tmp/program" "$tmp/run") || fail "the program failed"
[ "$said" = "rank 0 generation 1" ] || fail "the program said: $said"

# The example of docs/INTEGRATION.md: two ranks, of which one is killed; with little stack.
"${CC:-cc}" -std=c11 -Wall -Wextra -Werror "${sanitize[@]}" "$root/examples/minimal.c" \
    -o "$tmp/minimal" "${flags[@]}" || fail "examples/minimal.c does not compile"
said=$(
    [ ${#sanitize[@]} -ne 0 ] || ulimit -s 256
    export ASAN_OPTIONS=detect_leaks=0 # a rank ends with its memory
    LD_LIBRARY_PATH="$libdir" "$tmp/minimal"
) || fail "examples/minimal.c failed: $said"
! ASAN_OPTIONS=detect_leaks=0 TMPDIR=/nonexistent LD_LIBRARY_PATH="$libdir" "$tmp/minimal" 2>/dev/null ||
    fail "examples/minimal.c does not heed TMPDIR"
for line in "ranks in the view: 2, epoch 1" "ranks in the view: 1, epoch 2"; do
    grep -q "^rank 0: 10 steps, $line$" <<<"$said" || fail "examples/minimal.c said: $said"
done

# The other examples, in the languages of their users.
"${CC:-cc}" -std=c11 -Wall -Wextra -Werror "${sanitize[@]}" "$root/examples/ten_lines.c" \
    -o "$tmp/ten_lines" "${flags[@]}" || fail "examples/ten_lines.c does not compile"
said=$(ASAN_OPTIONS=detect_leaks=0 LD_LIBRARY_PATH="$libdir" "$tmp/ten_lines") ||
    fail "examples/ten_lines.c failed: $said"
[ "$said" = "3 batches committed, last step 3, epoch 1" ] || fail "examples/ten_lines.c said: $said"
if cxx=$(command -v "${CXX:-c++}"); then
    "$cxx" -std=c++17 -Wall -Wextra -Werror "${sanitize[@]}" "$root/examples/embed.cpp" \
        -o "$tmp/embed" "${flags[@]}" || fail "examples/embed.cpp does not compile"
    said=$(ASAN_OPTIONS=detect_leaks=0 LD_LIBRARY_PATH="$libdir" "$tmp/embed") ||
        fail "examples/embed.cpp failed: $said"
    [ "$said" = $'step 1 of epoch 1\nstep 2 of epoch 1' ] || fail "examples/embed.cpp said: $said"
fi
