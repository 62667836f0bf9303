#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Python package eep beside torch on the CPU: tensors as weights, buffers and kernels.

    PYTHONPATH=SITE tests/python/test_binding_torch.py      exit status 77: no torch here
"""
import gc
import sys
import unittest

sys.dont_write_bytecode = True
try:
    import torch
except (ImportError, OSError) as error:
    print(f"no torch: {error}")
    sys.exit(77)
import eep

EXPERTS, TOP_K, HIDDEN, TOKENS, INNER = 4, 2, 64, 8, 96


class Torch(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(1)
        self.store = eep.Store()
        self.addCleanup(self.store.close)

    def context(self, **options):
        context = eep.Context(self.store, rank=0, num_ranks=1, num_experts=EXPERTS, top_k=TOP_K,
                              hidden=HIDDEN, num_max_tokens_per_rank=TOKENS, **options)
        self.addCleanup(context.close)
        return context

    def test_tensors_share_memory_both_ways(self):
        with eep.Device() as device:
            for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8):
                mine = torch.ones(4, 6, dtype=dtype)
                array = device.register(mine)
                self.assertEqual((array.address, array.shape, array.dtype),
                                 (mine.data_ptr(), (4, 6), str(dtype).split(".")[1]))
                theirs = torch.from_dlpack(device.zeros((4, 6), dtype))
                self.assertEqual((theirs.dtype, theirs.shape), (dtype, mine.shape))
                theirs += 3
                self.assertEqual(torch.from_dlpack(device.register(theirs)).data_ptr(),
                                 theirs.data_ptr())
            with self.assertRaises(eep.Invalid):
                device.register(torch.ones(4, 6).t())

    def test_a_layer_in_bfloat16_is_that_of_torch(self):
        """gate, up and down of each expert are torch's tensors; the kernel is torch's code."""
        context = self.context(dtype=torch.bfloat16)
        weights = {}
        for expert in range(EXPERTS):
            weights[expert] = [torch.randn(INNER, HIDDEN).bfloat16() / 8,
                               torch.randn(INNER, HIDDEN).bfloat16() / 8,
                               torch.randn(HIDDEN, INNER).bfloat16() / 8]
        experts = [context.slot_expert(0, slot) for slot in range(context.num_slots)]
        for slot, expert in enumerate(experts):
            context.slot_set(0, slot, weights[expert])
        b = context.buffers()
        x, out, rows, results = (torch.from_dlpack(one) for one in (b.x, b.out, b.rows, b.results))
        begin = torch.from_dlpack(b.slot_begin)

        def mlp(x, weights):
            gate, up, down = weights
            return (torch.nn.functional.silu(x @ gate.T) * (x @ up.T)) @ down.T

        def kernel():
            for slot, expert in enumerate(experts):
                here = slice(int(begin[slot]), int(begin[slot + 1]))
                if here.stop > here.start:  # one row at a time: the result of a row is its own
                    results[here] = torch.cat([mlp(row[None], weights[expert]) for row in rows[here]])

        with context.capture() as graph:
            context.dispatch(0, **b.dispatch)
            context.stream.launch(kernel)
            context.combine(0, **b.combine)
        context.join(20)
        tokens = torch.randn(TOKENS, HIDDEN).bfloat16()
        topk = torch.stack([torch.randperm(EXPERTS)[:TOP_K] for _ in range(TOKENS)])
        shares = torch.softmax(torch.randn(TOKENS, TOP_K), 1)
        with context.step(10):
            x.copy_(tokens)
            torch.from_dlpack(b.topk_idx).copy_(topk)
            torch.from_dlpack(b.topk_weights).copy_(shares)
            b.num_tokens[0] = TOKENS
            graph.replay()
        for token in range(TOKENS):
            expected = sum(shares[token, k] * mlp(tokens[token][None], weights[int(topk[token, k])])
                           .float()[0] for k in range(TOP_K))
            self.assertTrue(torch.equal(out[token], expected.bfloat16()), token)

    def test_float8_rows_and_their_scales(self):
        context = self.context(fp8_dispatch=1)
        for slot in range(context.num_slots):
            context.slot_alloc(0, slot, [(4,)])
        b = context.buffers()
        rows = torch.from_dlpack(eep.Array.__dlpack__ and _bytes_of(b.rows)).view(torch.float8_e4m3fn)
        scales, results = torch.from_dlpack(b.row_scales), torch.from_dlpack(b.results)
        with context.capture() as graph:
            context.dispatch(0, **b.dispatch)
            context.stream.launch(lambda: results.copy_(rows.float() * scales))
            context.combine(0, **b.combine)
        context.join(20)
        tokens = torch.randn(2, HIDDEN)
        with context.step(10):
            b.fill(tokens.numpy(), [[0, 1]] * 2, [[0.5, 0.5]] * 2)
            graph.replay()
        out = torch.from_dlpack(b.out)[:2]
        self.assertLess(float((out - tokens).abs().max() / tokens.abs().max()), 0.07)

    def test_a_graph_keeps_tensors(self):
        context = self.context()
        for slot in range(context.num_slots):
            context.slot_set(0, slot, [torch.zeros(16)])
        b = context.buffers()
        with context.capture() as graph:
            rows = torch.zeros(context.rows_capacity, HIDDEN)
            context.dispatch(0, **{**b.dispatch, "rows": rows})
            context.combine(0, **{**b.combine, "rows": rows})
        del rows
        gc.collect()
        noise = [torch.full((context.rows_capacity, HIDDEN), 9.0) for _ in range(20)]
        context.join(20)
        with context.step(10):
            b.fill(torch.ones(TOKENS, HIDDEN).numpy(), [[0, 1]] * TOKENS, [[0.5, 0.5]] * TOKENS)
            graph.replay()
        self.assertEqual(float(torch.from_dlpack(b.out).sum()), TOKENS * HIDDEN)
        self.assertEqual(float(noise[0].sum()), noise[0].numel() * 9.0)


class _bytes_of:
    """The same memory as uint8: a torch that knows no float8 of DLPack takes it so."""

    def __init__(self, array):
        self.array = array

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __dlpack__(self, **_):
        return self.array.numpy().__dlpack__()


if __name__ == "__main__":
    unittest.main()
