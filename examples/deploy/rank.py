#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An engine for a first trial of each launcher in docs/DEPLOY.md. Rank, size and store are what the
launcher says. It checks each step, and prints a line at each change of the view. SIGTERM drains it.

    EEP_STORE=/run/eep/store mpirun --enable-recovery -n 4 python3 rank.py
"""
import os
import signal
import time

import numpy as np

import eep

EXPERTS, TOP_K, HIDDEN, TOKENS = 8, 2, 16, 4
SHARES = np.tile(np.array([0.25, 0.75], np.float32), (TOKENS, 1))


def run_experts(rows, slot_begin, results, *weights):
    """Expert e multiplies its rows by e + 1."""
    for slot, weight in enumerate(weights):
        here = slice(slot_begin[slot], slot_begin[slot + 1])
        results[here] = rows[here] * weight


def open_context():
    """In place of a process that was killed: until that has given its memory back."""
    for _ in range(1500):
        try:
            return eep.Context(num_experts=EXPERTS, top_k=TOP_K, hidden=HIDDEN,
                               num_max_tokens_per_rank=TOKENS, log_level="info")
        except eep.SeatTaken:
            time.sleep(0.02)
    raise SystemExit("the seat stays taken")


def prepare(context):
    """Weights that libeep asks for, and the captured step."""
    weights = []
    for slot in range(context.num_slots):
        (weight,) = context.slot_alloc(0, slot, [(HIDDEN,)])
        weight[:] = context.slot_expert(0, slot) + 1
        weights.append(weight)
    b = context.buffers()
    with context.capture() as graph:
        context.dispatch(0, **b.dispatch)
        context.stream.launch(run_experts, b.rows, b.slot_begin, b.results, *weights)
        context.combine(0, **b.combine)
    return b, graph


def step(context, b, graph, position):
    """One step, checked; the step, or None if its position has to run again."""
    random = np.random.default_rng([context.rank, position])
    x = random.integers(-8, 8, (TOKENS, HIDDEN)).astype(np.float32)
    topk = np.array([random.choice(EXPERTS, TOP_K, replace=False) for _ in range(TOKENS)])
    try:
        with context.step(timeout=0.5) as it:
            b.fill(x, topk, SHARES)
            graph.replay()
    except (eep.Aborted, eep.Timeout, eep.Uncovered):
        return None
    if not np.array_equal(b.out.numpy(), x * ((topk + 1) @ SHARES[0])[:, None]):
        raise RuntimeError(f"step {it.number}: a wrong result")
    return it


def main():
    over = []
    signal.signal(signal.SIGTERM, lambda *_: over.append("SIGTERM"))
    with open_context() as context:
        name = f"rank {context.rank} generation {context.generation} pid {os.getpid()}"
        b, graph = prepare(context)
        context.join()
        position = epoch = 0
        try:
            while True:
                if over == ["SIGTERM"]:
                    over.append("asked")
                    context.drain()
                it = step(context, b, graph, position)
                position += it is not None
                if it is not None and it.epoch != epoch:
                    epoch = it.epoch
                    print(f"{name}: {it.num_active} ranks serve in epoch {epoch}", flush=True)
        except eep.Drained:
            print(f"{name}: drained after {position} steps, all right", flush=True)


if __name__ == "__main__":
    main()
