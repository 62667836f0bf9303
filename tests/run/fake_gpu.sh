#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The laboratory over the CUDA plugins themselves, with host threads in the GPU's place
# (tests/fake_gpu/README.md): ranks as threads of one process and as processes, through a kill and a
# rejoin, every token checked, also with rows over a network; and what the fake's counters say of it.
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

# What eep-run sets by itself, and what a driver may refuse.
unset CUDA_DEVICE_MAX_CONNECTIONS CUDA_MODULE_LOADING EEP_CUDA_PINNED_MB
export EEP_FAKE_GPU_REFUSE_OWN_IMPORT=1
# Counters that are to be 0 in every process.
zeros=(shared_queue_waits captures_spoiled calls_after_fork calls_without_context
    device_wide_calls_while_busy launches_held imports_of_own_memory pageable_copies)

# count_of NAME FILE...: the largest value of a counter in any process.
count_of() {
    local name=$1
    shift
    grep -oh " $name=[0-9]*" "$@" | cut -d= -f2 | sort -n | tail -n 1
}
# run_job NAME NUM_PROCESSES MOST_STREAMS ARGUMENT...
run_job() {
    local name=$1 num_processes=$2 most_streams=$3 command count
    shift 3
    command=("$build/experiments/eep-run" --no-picture --device cuda --slots 32 --layers 2 --hidden 128 --inner 96
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
    if [ "$(count_of most_streams "$tmp/$name.count".*)" -gt "$most_streams" ] ||
        grep -q ' loads_eagerly=0' "$tmp/$name.count".*; then
        echo "$name: more than $most_streams streams, two of a rank or three with a network, or kernels that are loaded late:"
        cat "$tmp/$name.count".*
        exit 1
    fi
    echo "$name: $(grep -o 'GOOD.*' "$tmp/$name.log")"
    for count in most_streams most_kernels_at_once device_wide_calls; do
        echo "    $count $(count_of "$count" "$tmp/$name.count".*)"
    done
}
run_job threads 2 16 --threads --ranks 8 --kill 3@0.8 --rejoin 3@1.2
run_job processes 6 2 --ranks 3 --kill 2@0.5 --rejoin 2@0.8
run_job network 6 3 --ranks 3 --hosts-of 1 --kill 2@0.5 --rejoin 2@0.8
