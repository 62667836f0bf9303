#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Tests of the tests: each patch here breaks one rule of docs/PROTOCOL.md. It is applied to a copy of
# the sources; the simulator, then unit tests run until one of them objects. A mutant that lives is
# a failure: either the rule is not tested, or the code does not need it.
#
#   tests/mutants/run.sh BUILD [PATTERN...] BUILD: a build directory (no sanitizer), built;
#                                           PATTERN: of these alone, parts of their names
#   SEEDS=2000                              seeds of the simulator per mutant
# A patch may say "Sim: OPTIONS": with these the simulator finds it sooner; "Sim: none": what it
# breaks is replaced in the simulator; "Tests: NAMES": these alone (objects of others do not fit).
#   ASSERTIONS=off                          without the product's own assertions: what would the
#                                           simulator's and the tests' checks say alone?
set -u
build=$(cd "${1:?usage: tests/mutants/run.sh BUILD [PATTERN...]}" && pwd) || exit 2
shift
root=$(cd "$(dirname "$0")/../.." && pwd)
seeds=${SEEDS:-2000}
unit_tests="stepper sink core core_hosts host_cut seat_file planner background executor view link_costs own_links kernels kernel_faults kernel_forms kernel_recheck kernel_race context context_forms context_placement context_refused context_joins context_pauses fence collectives collective_hosts collective_ledger gate_epoch"
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
cc="cc -std=c17 -O1 -g -D_GNU_SOURCE -ffp-contract=off -fno-delete-null-pointer-checks"
case ${ASSERTIONS:-on} in off) cc="$cc -DNDEBUG" ;; esac
# The files of the product that assert what the rules forbid.
asserting="membership/core/core_check.c membership/stepper/stepper.c
    membership/context/bank_image.c"
libraries="-lxxhash -lcjson -lucp -lucs -lhwloc -libverbs -lsodium -lm -ldl -lpthread"
wraps=$(sed -n "/^sim_wrapped = /,/\]/p" "$root/tests/sim/meson.build" | grep -o "'[a-z_0-9]*'" |
    tr -d "'" | sed 's/^/-Wl,--wrap=/' | tr '\n' ' ')
archives="$build/tests/libeep_fixtures.a $build/experiments/libeep_lab.a $build/libeep_core.a"
test -e "$build/tests/eep-sim" || { echo "build $build first: no tests/eep-sim there"; exit 2; }

# Objects of the sources that the patch touches, for the program $1 (they come before the archive's).
mutated_objects() {
    objects=""
    for source in $(sed -n 's|^+++ b/||p' "$patch"); do
        case $source in
        *.h) case $1 in
             sim) source=tests/sim/sim_kernels.c ;;
             kernel_race) source=tests/graphs/kernels/test_kernel_race.c ;; # it compiles the bodies itself
             *) source=graphs/host/host_kernels.c ;;
             esac ;;
        esac
        object=$work/$1-$(basename "$source" .c).o
        case " $objects " in *" $object "*) continue ;; esac # two headers, one object
        # shellcheck disable=SC2086
        (cd "$work/tree" && $cc -I. -Iinclude -c "$source" -o "$object") || return 1
        objects="$objects $object"
    done
    test "${ASSERTIONS:-on}" = off || return 0
    for source in $asserting; do
        object=$work/$1-$(basename "$source" .c).o
        case " $objects " in *" $object "*) continue ;; esac
        # shellcheck disable=SC2086
        (cd "$work/tree" && $cc -I. -Iinclude -c "$source" -o "$object") || return 1
        objects="$objects $object"
    done
}

# 0: the simulator objects.
sim_catches() {
    grep -q '^Sim: none' "$patch" && return 1
    mutated_objects sim || return 2
    # an object of another folder has a name that begins with dots
    others=$(find "$build/tests/eep-sim.p" -name '*.o')
    case $objects in *sim_kernels*) others=$(echo "$others" | grep -v sim_kernels) ;; esac
    # shellcheck disable=SC2086
    $cc $others $objects $archives $libraries $wraps -o "$work/sim" || return 2
    # shellcheck disable=SC2046
    timeout 300 "$work/sim" --seeds "1..$seeds" $(sed -n 's/^Sim: //p' "$patch") >"$work/out" 2>&1 && return 1
    caught="sim: $(grep -a -m1 -o 'VIOLATION [^ ]* seed [0-9]*\|VIOLATION crash.*' "$work/out")"
    test "$caught" = "sim: " && caught="sim: no end within 300 s"
    return 0
}

# 0: that unit test objects.
test_catches() {
    mutated_objects "$1" || return 2
    others=$(ls "$build/tests/test_$1.p/"*.o)
    case $objects in *test_kernel_race*) others="" ;; esac
    # shellcheck disable=SC2086
    $cc $others $objects $archives $libraries -lcriterion \
        -o "$work/unit" || return 2
    timeout 300 "$work/unit" --timeout 60 >"$work/out" 2>&1 && return 1
    caught="test_$1: $(sed -n 's/.*\[FAIL\] [^:]*::\([A-Za-z0-9_]*\).*/\1/p' "$work/out" | head -1)"
    return 0
}

# 0: the name $1 has one of the parts that follow, or none follow.
is_meant() {
    name_of_it=$1
    shift
    test $# = 0 && return 0
    for part in "$@"; do
        case $name_of_it in *"$part"*) return 0 ;; esac
    done
    return 1
}

# What objects to unchanged sources says nothing about mutants.
sane() {
    "$@" >"$work/out" 2>&1 && return 0
    echo "$* fails without any mutant:"
    tail -20 "$work/out"
    exit 2
}
sane "$build/tests/eep-sim" --seeds "1..$seeds"
for unit in $unit_tests; do sane "$build/tests/test_$unit" --timeout 60; done

lived=0
for patch in "$root"/tests/mutants/*.patch; do
    name=$(basename "$patch" .patch)
    is_meant "$name" "$@" || continue
    rm -rf "$work/tree"
    mkdir "$work/tree"
    (cd "$root" && cp -r include membership graphs repair transport "$work/tree")
    mkdir -p "$work/tree/tests/graphs/kernels" && cp -r "$root/tests/sim" "$work/tree/tests" &&
        cp "$root/tests/graphs/kernels/test_kernel_race.c" "$work/tree/tests/graphs/kernels"
    if ! patch -s -p1 -d "$work/tree" <"$patch" >"$work/out" 2>&1; then
        echo "$name: the patch does not apply any more: make it again for the changed source"
        lived=$((lived + 1))
        continue
    fi
    caught=""
    sim_catches
    case $? in
    2) echo "$name: does not compile"; lived=$((lived + 1)); continue ;;
    1) meant=$(sed -n 's/^Tests: //p' "$patch")
       for unit in ${meant:-$unit_tests}; do test_catches "$unit" && break; done ;;
    esac
    if [ -z "$caught" ]; then
        echo "$name: LIVES ($(head -1 "$patch"))"
        lived=$((lived + 1))
    else
        printf '%-46s %s\n' "$name" "$caught"
    fi
done
test "$lived" = 0 || { echo "$lived mutants are not caught"; exit 1; }
