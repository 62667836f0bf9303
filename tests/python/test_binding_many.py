#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Contexts that are opened and closed one behind the other leave no descriptor, no thread and no
memory.

    PYTHONPATH=TREE tests/python/test_binding_many.py [NUM]      1000 by default
"""
import gc
import os
import resource
import sys
import threading
import time

import numpy as np

sys.dont_write_bytecode = True
import eep

PAGE = resource.getpagesize()
MOST_BYTES, MOST_BYTES_PER_CONTEXT = 4 << 20, 1024
COUNTED = ("descriptors", "threads", "tasks")
STILL_S, LIMIT_S = 0.2, 30  # so long nothing more may go; the longest wait for that


def look():
    gc.collect()
    with open("/proc/self/statm", encoding="utf-8") as file:
        pages = int(file.read().split()[1])
    return {"descriptors": len(os.listdir("/proc/self/fd")), "threads": threading.active_count(),
            "tasks": len(os.listdir("/proc/self/task")), "bytes": pages * PAGE}


def last_look(most):
    """What is left for good. The store's end of the last context's connection is closed by a thread of the store, and
    a thread that was joined is a task until the kernel has let go of it: neither is awaited by a close. With
    `most`, until there is no more than in that look; without, until nothing has gone for a while."""
    begin = time.monotonic()
    least = look()
    since = begin
    while time.monotonic() - begin < LIMIT_S:
        if most and all(least[key] <= most[key] for key in COUNTED):
            break
        if not most and time.monotonic() - since > STILL_S:
            break
        time.sleep(0.02)
        now = look()
        since = time.monotonic() if any(now[key] < least[key] for key in COUNTED) else since
        least = {key: min(least[key], now[key]) for key in now}
    return least


def kernel(rows, results):
    results[:] = rows


def one(store, device):
    """A context that joins, steps and ends its instance."""
    with eep.Context(store, device=device, rank=0, num_ranks=1, num_experts=2, top_k=1, hidden=64,
                     num_max_tokens_per_rank=8, log=True, event=True) as context:
        for slot in range(context.num_slots):
            context.slot_alloc(0, slot, [(64,)])
        buffers = context.buffers()
        with context.capture() as graph:
            context.dispatch(0, **buffers.dispatch)
            context.stream.launch(kernel, buffers.rows, buffers.results)
            context.combine(0, **buffers.combine)
        context.join(10)
        with context.step(5):
            buffers.fill(np.ones((1, 64)), [[1]], [[2.0]])
            graph.replay()
        if buffers.out[0, 0] != 2:
            raise RuntimeError("a wrong result")
        context.poll()
        context.end_instance()
        try:
            while True:
                with context.step(5):
                    graph.replay()
        except (eep.Drained, eep.Aborted):
            pass


def main():
    num = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with eep.Store() as store, eep.Device() as device:
        for _ in range(num // 5):
            one(store, device)
        before = last_look(None)
        for _ in range(num - num // 5):
            one(store, device)
        after = last_look(before)
    grown = (after["bytes"] - before["bytes"]) / (num - num // 5)
    print(f"{num} contexts; after {num // 5}: {before}; at the end: {after}; {grown:.0f} bytes per context")
    wrong = [key for key in COUNTED if after[key] > before[key]]
    if after["bytes"] - before["bytes"] > max(MOST_BYTES, MOST_BYTES_PER_CONTEXT * num):
        wrong.append("bytes")
    if wrong:
        print("more: " + ", ".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
