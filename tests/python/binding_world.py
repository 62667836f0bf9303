# SPDX-License-Identifier: Apache-2.0
"""A rank that is alone, for the tests of the Python package eep that need numpy alone."""
import time
import unittest

import numpy as np

import eep

HIDDEN, TOKENS = 8, 4
LIMIT_S = 60  # of waits for what must come; no healthy run comes near it
SHAPE = {"num_experts": 2, "top_k": 2, "hidden": HIDDEN, "num_max_tokens_per_rank": TOKENS}


def multiply(rows, slot_begin, results, *weights):
    for slot, weight in enumerate(weights):
        here = slice(slot_begin[slot], slot_begin[slot + 1])
        results[here] = rows[here] * weight


class Rank:
    """A rank that is alone, with a captured step. Expert e multiplies by e + 1."""

    def __init__(self, store, kernel=multiply, join=True, device=None, layers=1, **options):
        self.context = eep.Context(store, rank=0, num_ranks=1, device=device, num_layers=layers,
                                   **{**SHAPE, **options})
        context = self.context
        self.buffers = b = context.buffers()
        weights = []
        for layer in range(layers):
            for slot in range(context.num_slots):
                (weight,) = context.slot_alloc(layer, slot, [(HIDDEN,)])
                weight.write(context.slot_expert(layer, slot) + 1)
                weights.append(weight)
        with context.capture() as self.graph:
            for layer in range(layers):
                context.dispatch(layer, **b.dispatch)
                context.stream.launch(kernel, b.rows, b.slot_begin, b.results, *weights[:2])
                context.combine(layer, **b.combine)
        if join:
            context.join(10)

    def step(self, value=1.0, topk=(0, 1)):
        with self.context.step(5) as step:
            self.buffers.fill(np.full((1, HIDDEN), value), [topk], [[0.5, 0.5]])
            self.graph.replay()
        return step

    def right(self, test, value=3.0):
        step = self.step(value)
        test.assertTrue((self.buffers.out[0] == 1.5 * value).all(), self.buffers.out[0])
        return step

    def close(self):
        self.context.close()
        self.graph.close()


class WithStore(unittest.TestCase):
    def setUp(self):
        self.store = eep.Store()
        self.addCleanup(self.store.close)

    def rank(self, **options):
        rank = Rank(self.store, **options)
        self.addCleanup(rank.close)
        return rank

    def end(self, rank):
        """How many steps it makes until then is the machine's affair."""
        limit = time.monotonic() + LIMIT_S
        with self.assertRaises(eep.Drained):
            while time.monotonic() < limit:
                try:
                    rank.step()
                except eep.Aborted:
                    pass
