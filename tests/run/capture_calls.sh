#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Captures are counted in one place because one file makes them: no other object may refer to the
# CUDA calls that begin a capture or make a graph, and no object at all to those that change one.
#   tests/run/capture_calls.sh BUILD
set -euo pipefail
build=${1:?usage: tests/run/capture_calls.sh BUILD}
capture='cuda(StreamBeginCapture|StreamBeginRecaptureToGraph|StreamEndCapture|GraphInstantiate)'
capture+='|cu(StreamBeginCapture|StreamEndCapture|GraphInstantiate)'
change='(cuda|cu)(GraphExecUpdate|Graph[A-Za-z]*SetParams|Graph[A-Za-z]*SetAttribute|Graph[A-Za-z]*NodeSetEnabled|GraphAdd|StreamUpdateCapture)'
# "OBJECT: U NAME" of all objects at once.
names=$(find "$build" -name '*.o' -print0 | xargs -0 nm -A -u 2>/dev/null | awk '{ print $1, $NF }' |
    grep -E " ($capture|$change)" || true)
wrong=0
if grep -E " ($change)" <<<"$names"; then
    echo "these change graphs that were made"
    wrong=1
fi
others=$(grep -E " ($capture)" <<<"$names" | grep -vE 'graphs_cuda_cuda_capture\.c\.o:|test_fake_gpu\.c\.o:' || true) # that one tries what captures forbid
if [ -n "$others" ]; then
    echo "these capture by themselves:"
    echo "$others"
    wrong=1
fi
[ "$wrong" = 0 ] || exit 1
if [ -e "$build/libeep_cuda.so" ]; then
    grep -q 'graphs_cuda_cuda_capture\.c\.o:' <<<"$names" ||
        { echo "libeep_cuda.so is there, but nothing was found that captures: is this check blind?"; exit 1; }
    echo "one object captures, none changes a graph"
else
    echo "no CUDA plugin in $build: nothing to look at"
    exit 77
fi
