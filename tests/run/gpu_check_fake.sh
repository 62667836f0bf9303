#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tools/gpu-check --device cuda over the fake GPU: nvcc's objects as they are, kernels as their host
# bodies. With 32 hardware queues all is well; with 4 the ring of graphs has to say that streams share
# one, and what allocates has to say that it waits for kernels. Sizes are a GPU's, so the benchmarks
# are left out. 77: no fake here (tests/fake_gpu).
#   tests/run/gpu_check_fake.sh PROGRAMS     of gpu-check --compile-only, whose objects lie beside them
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
built=$(cd "${1:?usage: tests/run/gpu_check_fake.sh PROGRAMS}" && pwd)
fake=$root/tests/fake_gpu
[ -e "$fake/fake_gpu.h" ] || { echo "no tests/fake_gpu here"; exit 77; }
cd "$root"
. tools/gpu-build.sh
gpu_dir=$built
gpu_find_compilers || exit 77
gpu_set_flags 90 strict
gpu_find_sources || exit 1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
ready=$tmp/ready
mkdir "$ready"

compile() { # SOURCE: its object's name
    local object
    object=$tmp/$(basename "$1" .c).o
    # shellcheck disable=SC2086
    "$gpu_cc" $gpu_cflags -fvisibility=default -c "$1" -o "$object"
    echo "$object"
}
own=()
for source in "$fake"/*.c; do
    case $(basename "$source") in bodies_*) ;; *) own+=("$(compile "$source")") ;; esac
done
"$gpu_cc" -shared -Wl,-soname,libeep_fake_gpu.so -o "$ready/libeep_fake_gpu.so" "${own[@]}" -lpthread
runtime=(-L"$ready" -leep_fake_gpu "-Wl,-rpath,$ready" -ldl -lrt -lpthread -lm)
mapfile -t plugin < <(gpu_objects "${gpu_plugin[@]}")
mapfile -t smoke < <(gpu_objects "${gpu_smoke[@]}")
mapfile -t probe < <(gpu_objects "${gpu_probe[@]}")
mapfile -t model < <(gpu_objects "${gpu_model_plugin[@]}")
bodies=$(compile tests/gpu/gpu_program_bodies.c)
"$gpu_cc" -shared -o "$ready/libeep_cuda.so" "${plugin[@]}" "$(compile "$fake/bodies_eep.c")" \
    "$built/libshared.a" "${runtime[@]}"
"$gpu_cc" -shared -o "$ready/libeep_model_cuda.so" "${model[@]}" "$(compile "$fake/bodies_model.c")" \
    "$(compile experiments/model/fault_kernels.c)" "$built/experiments_model_model_kernels.c.o" \
    "$built/experiments_model_model_rows.c.o" "$built/libshared.a" "${runtime[@]}"
"$gpu_cc" -o "$ready/gpu_smoke" "${smoke[@]}" "$bodies" "$built/libshared.a" "${runtime[@]}"
"$gpu_cc" -o "$ready/gpu_probe" "${probe[@]}" "$bodies" "$built/libshared.a" "${runtime[@]}"
ln -s "$built/model_check" "$built/eep-bench" "$ready"

bad() { echo "$*"; cat "$tmp/said.txt"; exit 1; }
check() { # STATUS OUT ARGUMENT...
    local wanted=$1 out=$2 status=0
    shift 2
    OUT=$tmp/$out LD_LIBRARY_PATH=$ready tools/gpu-check --device cuda --prebuilt "$ready" --build "$tmp/build" \
        --commit abc "$@" >"$tmp/said.txt" 2>&1 || status=$?
    [ "$status" -eq "$wanted" ] || bad "gpu-check $*: status $status instead of $wanted"
}
value_of() { # OUT CHECK
    awk -F, -v check="$2" '$4 == check { print $5 }' "$tmp/$1/gpu-abc-probe.csv"
}
check 0 well --only start,micro
LD_LIBRARY_PATH=$ready "$ready/gpu_probe" --device cuda --probe calls --seconds 2 --commit abc \
    --csv "$tmp/well/gpu-abc-probe.csv" >"$tmp/said.txt" 2>&1 || bad "gpu_probe calls failed"
[ "$(value_of well ring_of_8_graphs/graphs_waiting_at_once)" = 7 ] || bad "not seven graphs waited"
[ "$(value_of well calls/stream_create_kernel_goes_on)" = 1 ] || bad "a call that waits for nothing waited"
for call in malloc free host_alloc host_free; do
    [ "$(value_of well calls/${call}_kernel_goes_on)" = 0 ] || bad "$call did not wait for the device"
    [ "$(value_of well calls/${call}_longest_launch_us | cut -d. -f1)" -gt 300000 ] ||
        bad "no launch was seen to wait for $call"
done
CUDA_DEVICE_MAX_CONNECTIONS=4 check 1 few --only start --limit start=30
grep -q '^start/graphs  *FAILED' "$tmp/said.txt" || bad "shared queues went unseen"
[ "$(value_of few ring_of_8_graphs/graphs_waiting_at_once)" -lt 7 ] || bad "shared queues went unseen"
echo "over the fake GPU: 32 queues well, 4 queues seen; allocations wait for the device and hold launches up"
