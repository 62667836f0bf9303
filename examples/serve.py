#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A rank in Python, alone in its instance: two experts, three steps. docs/PYTHON.md explains it."""
import numpy as np

import eep

HIDDEN, EXPERTS = 8, 2


def experts(rows, slot_begin, results, *weights):
    """The engine's own kernel: the expert in each slot multiplies its rows by its weights."""
    for slot, weight in enumerate(weights):
        here = slice(slot_begin[slot], slot_begin[slot + 1])
        results[here] = rows[here] * weight


with eep.Store() as store, eep.Context(store, rank=0, num_ranks=1, num_experts=EXPERTS, top_k=2,
                                       hidden=HIDDEN, num_max_tokens_per_rank=4) as context:
    weights = []
    for slot in range(context.num_slots):
        (weight,) = context.slot_alloc(0, slot, [(HIDDEN,)])
        weight[:] = context.slot_expert(0, slot) + 1
        weights.append(weight)
    b = context.buffers()
    with context.capture() as graph:
        context.dispatch(0, **b.dispatch)
        context.stream.launch(experts, b.rows, b.slot_begin, b.results, *weights)
        context.combine(0, **b.combine)
    context.join()
    done = 0
    while done < 3:
        try:
            with context.step() as step:
                b.fill(x=np.full((1, HIDDEN), done + 1.0), topk_idx=[[0, 1]], topk_weights=[[0.5, 0.5]])
                graph.replay()
        except (eep.Aborted, eep.Timeout):
            continue  # a peer is gone, or the view changes: the same input again
        print(f"step {step.number} of epoch {step.epoch}: {b.out[0, 0]}")
        done += 1
