#!/usr/bin/env bash
# The laboratory over the CUDA plugins themselves, with host threads in the GPU's place
# (tests/fake_gpu/README.md): ranks as threads of one process and as processes, through a kill and a
# rejoin, every token checked; and what the fake's counters say of it.
# usage: fake_gpu.sh BUILD
set -u
build=$1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if [ ! -e "$build/tests/fake_gpu/libeep_cuda.so" ]; then
    echo "no plugin over the fake GPU in $build: nothing to run"
    exit 77
fi
export LD_LIBRARY_PATH=$build/tests/fake_gpu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

# What eep-run and the plugin do not do by themselves yet: the environment comes too late, and the
# service thread has no context.
export CUDA_DEVICE_MAX_CONNECTIONS=32 CUDA_MODULE_LOADING=EAGER EEP_FAKE_GPU_ALLOW_NO_CONTEXT=1
# Counters that are to be 0 in every process; not yet: calls_without_context,
# device_wide_calls_while_busy.
zeros=(shared_queue_waits captures_spoiled calls_after_fork)

# count_of NAME FILE...: the largest value of a counter in any process.
count_of() {
    local name=$1
    shift
    grep -oh " $name=[0-9]*" "$@" | cut -d= -f2 | sort -n | tail -n 1
}
# run_job NAME NUM_PROCESSES ARGUMENT...
run_job() {
    local name=$1 num_processes=$2 command count
    shift 2
    command=("$build/experiments/eep-run" --device cuda --slots 32 --layers 2 --hidden 128 --inner 96
        --quiet --requests 40 --rate 40 "$@")
    EEP_FAKE_GPU_REPORT=$tmp/$name.count timeout 60 "${command[@]}" --out "$tmp/$name" >"$tmp/$name.log" 2>&1 || {
        echo "$name: exit code $?; run: LD_LIBRARY_PATH=$LD_LIBRARY_PATH ${command[*]}"
        cat "$tmp/$name.log" "$tmp/$name.count".*
        exit 1
    }
    for count in "${zeros[@]}"; do
        if [ "$(count_of "$count" "$tmp/$name.count".*)" != 0 ]; then
            echo "$name: $count is not 0:"
            cat "$tmp/$name.count".*
            exit 1
        fi
    done
    # the launcher's probes of the device and the ranks' processes, each at its first call
    if [ "$(cat "$tmp/$name.count".* | wc -l)" -ne "$num_processes" ] ||
        [ "$(count_of queues "$tmp/$name.count".*)" != 32 ]; then
        echo "$name: not $num_processes processes with 32 queues:"
        cat "$tmp/$name.count".*
        exit 1
    fi
    echo "$name: $(grep -o 'GOOD.*' "$tmp/$name.log")"
    for count in most_streams most_kernels_at_once calls_without_context device_wide_calls_while_busy; do
        echo "    $count $(count_of "$count" "$tmp/$name.count".*)"
    done
}
run_job threads 2 --threads --ranks 3 --kill 2@0.5 --rejoin 2@0.8
run_job processes 6 --ranks 3 --kill 2@0.5 --rejoin 2@0.8
