#!/usr/bin/env bash
# Captures are counted in one place because one file makes them: no other object may refer to the
# CUDA calls that begin a capture or make a graph, and no object at all to those that change one.
#   tests/capture_calls.sh BUILD
set -euo pipefail
build=${1:?usage: tests/capture_calls.sh BUILD}
capture='^cuda(StreamBeginCapture|StreamBeginRecaptureToGraph|StreamEndCapture|GraphInstantiate)'
capture+='|^cu(StreamBeginCapture|StreamEndCapture|GraphInstantiate)'
change='^(cuda|cu)(GraphExecUpdate|Graph.*SetParams|Graph.*SetAttribute|Graph.*NodeSetEnabled|GraphAdd|StreamUpdateCapture)'
own=0
wrong=0
while IFS= read -r object; do
    names=$(nm -u "$object" 2>/dev/null | awk '{ print $NF }' || true)
    if grep -qE "$change" <<<"$names"; then
        echo "$object changes graphs that were made: $(grep -E "$change" <<<"$names" | tr '\n' ' ')"
        wrong=1
    fi
    grep -qE "$capture" <<<"$names" || continue
    case $object in
    *graphs_cuda_capture.c.o) own=$((own + 1)) ;;
    *test_fake_gpu.c.o) ;; # tries what captures forbid, on the fake GPU
    *) echo "$object captures by itself: $(grep -E "$capture" <<<"$names" | tr '\n' ' ')"; wrong=1 ;;
    esac
done < <(find "$build" -name '*.o')
[ "$wrong" = 0 ] || exit 1
if [ -e "$build/libeep_cuda.so" ]; then
    [ "$own" -gt 0 ] || { echo "libeep_cuda.so is there, but nothing was found that captures: is this check blind?"; exit 1; }
    echo "one object captures, none changes a graph"
else
    echo "no CUDA plugin in $build: nothing to look at"
    exit 77
fi
