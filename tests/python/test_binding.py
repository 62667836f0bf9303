#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The Python package eep, in one process: its names, its steps, and the forms of rows.

    PYTHONPATH=TREE tests/python/test_binding.py      TREE: from bindings/python/eep_build.py --tree
"""
import gc
import inspect
import os
import sys
import threading
import time
import unittest

import numpy as np

sys.dont_write_bytecode = True
import eep
from binding_world import HIDDEN, SHAPE, TOKENS, WithStore, multiply
from eep.loading import ffi, lib


class Names(unittest.TestCase):
    def test_each_status_has_a_class(self):
        constants = {name for status, name in ffi.typeof("eep_status_code").elements.items() if status}
        classes = {one.name: one for one in vars(eep).values()
                   if isinstance(one, type) and issubclass(one, eep.EepError) and one.name}
        self.assertEqual(set(classes), constants)
        for name, one in classes.items():
            self.assertEqual(one.status, getattr(lib, name))
            self.assertTrue(issubclass(one, (eep.CallError, eep.PeerError, eep.RankError,
                                             eep.WorldError)))

    def test_a_status_of_a_newer_library_is_its_group(self):
        from eep.errors import error_of
        for status, group in ((-31, eep.CallError), (-47, eep.PeerError), (-63, eep.RankError),
                              (-99, eep.WorldError)):
            error = error_of(status, "eep_new", "words")
            self.assertIs(type(error), group)
            self.assertEqual((error.status, str(error)), (status, "words"))

    def test_each_field_of_eep_config_is_a_keyword(self):
        fields = {name for name, _ in ffi.typeof("eep_config").fields}
        known = set(inspect.signature(eep.Context.__init__).parameters) - {"self", "further", "store",
                                                                           "profile"}
        self.assertEqual(known - fields, set())
        # Those of no effect, those that the package sets; others go by "further".
        self.assertEqual(fields - known, {"struct_bytes", "store_path", "user", "stores_margin_us",
                                           "num_shapes", "reserved_shapes"})

    def test_each_counter_is_told(self):
        fields = {name for name, _ in ffi.typeof("eep_counters").fields}
        self.assertEqual(set(eep.Counters.__dataclass_fields__), fields - {"struct_bytes", "reserved"})

    def test_each_function_is_reached(self):
        """A function of a new header has an entry in the module before somebody wraps it."""
        here = os.path.dirname(eep.__file__)
        text = ""
        for name in os.listdir(here):
            if name.endswith(".py"):
                with open(os.path.join(here, name), encoding="utf-8") as file:
                    text += file.read()
        # By other means: slots and memory by eep_device_alloc, backups by copies, checkpoints by names.
        other = {"py_backup_alloc", "py_slot_alloc", "py_device_alloc", "py_device_free",
                 "py_device_backend", "py_device_ordinal", "py_last_error", "py_checkpoint_set",
                 "py_physical_to_logical"}
        missing = [name for name in dir(lib) if name.startswith("py_") and name not in other
                   and f"lib.{name}" not in text and f'"{name}"' not in text]
        self.assertEqual(missing, [])

    def test_info_says_which_ucx(self):
        info = eep.info()
        self.assertEqual(info["eep"], eep.__version__)
        self.assertIn(info["ucx_from"], ("system", "wheel libucx"))
        self.assertTrue(os.path.exists(info["libeep"]) and os.path.exists(info["ucx_file"]), info)

    def test_launch_reads_what_a_launcher_says(self):
        names = ("EEP_RANK", "EEP_SIZE", "EEP_LAUNCHER", "RANK", "WORLD_SIZE", "LOCAL_RANK",
                 "LOCAL_WORLD_SIZE", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_RANK",
                 "OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "LWS_WORKER_INDEX")
        kept = {name: os.environ.pop(name) for name in names if name in os.environ}
        try:
            nothing = eep.launch()
            self.assertEqual((nothing.rank, nothing.num_ranks, nothing.local_rank, nothing.source),
                             (None, None, None, ""))
            os.environ.update(RANK="5", WORLD_SIZE="8", LOCAL_RANK="1", LOCAL_WORLD_SIZE="4")
            found = eep.launch()
            self.assertEqual((found.rank, found.num_ranks, found.local_rank, found.local_size), (5, 8, 1, 4))
            self.assertIn("rank 5 from RANK", found.source)
            os.environ["SLURM_PROCID"], os.environ["SLURM_STEP_NUM_TASKS"] = "1", "2"
            with self.assertRaisesRegex(eep.Invalid, "RANK says 5 and SLURM_PROCID says 1"):
                eep.launch()
            with self.assertRaisesRegex(eep.Invalid, "RANK says 5 and SLURM_PROCID says 1"):
                eep.Context("/nowhere", num_experts=2, top_k=1, hidden=8)
            os.environ.update(EEP_RANK="any", EEP_SIZE="3")
            self.assertEqual((eep.launch().rank, eep.launch().num_ranks), ("any", 3))
        finally:
            for name in names:
                os.environ.pop(name, None)
            os.environ.update(kept)

    def test_any_seat(self):
        shape = dict(num_ranks=2, num_experts=2, top_k=1, hidden=8, num_max_tokens_per_rank=4)
        with eep.Store() as store, eep.Context(store, rank="any", **shape) as first, \
                eep.Context(store, rank="any", **shape) as second:
            self.assertEqual((first.rank, second.rank), (0, 1))
            with self.assertRaisesRegex(eep.SeatTaken, "each of the 2 seats"):
                eep.Context(store, rank="any", **shape)

    def test_window_sizes_need_no_context(self):
        sizes = eep.window_sizes(num_ranks=4, num_experts=8, num_slots=4, top_k=2, hidden=16,
                                 num_max_tokens_per_rank=4)
        self.assertGreater(sizes["dispatch_bytes"], 0)


class Steps(WithStore):
    def test_steps_are_right(self):
        rank = self.rank()
        numbers = [rank.right(self, value).number for value in (1.0, 2.0, 3.0)]
        self.assertEqual(numbers, sorted(set(numbers)))
        counters = rank.context.snapshot().counters
        self.assertEqual((counters.steps_ok, counters.steps_aborted), (3, 0))
        self.assertEqual(rank.context.physical_to_logical().tolist(), [[0, 1]])
        self.assertEqual((rank.context.rank, rank.context.generation), (0, 1))

    def test_steps_on_a_guarded_device(self):
        with eep.Device("guarded") as device:
            self.rank(device=device).right(self)

    def test_the_same_in_halves_and_in_two_chains(self):
        context = eep.Context(self.store, rank=0, num_ranks=1, num_chains=2, **SHAPE)
        both = [context.buffers(chain=chain) for chain in (0, 1)]
        for slot in range(context.num_slots):
            context.slot_alloc(0, slot, [(HIDDEN,)])
        with context.capture() as graph:
            for b in both:
                context.dispatch_send(0, **b.dispatch)
            for b in both:
                context.dispatch_receive(0, b.chain)
                context.stream.launch(lambda x, y: y.__setitem__(slice(None), x), b.rows, b.results)
                context.combine_send(0, **b.combine)
            for b in both:
                context.combine_receive(0, b.chain)
        context.join(10)
        with context.step(5):
            for b in both:
                b.fill(np.full((2, HIDDEN), 3.0 + b.chain), [[0, 1]] * 2, [[0.5, 0.5]] * 2)
            graph.replay()
        self.assertEqual([b.out[1, 7] for b in both], [3.0, 4.0])
        context.close()

    def test_steps_of_two_shapes(self):
        context = eep.Context(self.store, rank=0, num_ranks=1, shapes=[(2 * TOKENS, 2)], **SHAPE)
        self.assertEqual((context.num_shapes, context.shape(1)),
                         (2, eep.ShapeInfo(2 * TOKENS, 2, TOKENS, context.rows_capacity)))
        with self.assertRaises(eep.Invalid):
            context.shape(2)
        parts = [context.buffers() for _ in range(2)]
        for slot in range(context.num_slots):
            context.slot_alloc(0, slot, [(HIDDEN,)])
        graphs = []
        for shape in (0, 1):
            with context.capture(shape=shape) as graph:
                for chunk in range(shape + 1):
                    b = parts[chunk]
                    context.dispatch(0, chunk=chunk, **b.dispatch)
                    context.stream.launch(lambda x, y: y.__setitem__(slice(None), x), b.rows,
                                          b.results)
                    context.combine(0, chunk=chunk, **b.combine)
            graphs.append(graph)
        context.join(10)
        seen = []
        for number, wanted in enumerate((0, 1, 1, 0, 0)):
            with context.step(5, shape=wanted) as step:
                for at, b in enumerate(parts):
                    b.fill(np.full((1, HIDDEN), number + 10 * at), [[0, 1]], [[0.5, 0.5]])
                graphs[step.shape].replay()
            seen.append(step.shape)
            self.assertEqual([b.out[0, 0] for b in parts[:step.shape + 1]],
                             [number, number + 10][:step.shape + 1])
        self.assertEqual(set(seen), {0, 1})
        context.close()

    def test_without_a_graph(self):
        rank = self.rank()
        b, context = rank.buffers, rank.context
        for value in (2.0, 4.0):
            with context.step(5):
                b.fill(np.full((1, HIDDEN), value), [[0, 1]], [[0.5, 0.5]])
                context.latch()
                context.dispatch(0, **b.dispatch)
                context.stream.launch(lambda x, y: y.__setitem__(slice(None), x), b.rows, b.results)
                context.combine(0, **b.combine)
                context.finish()
            self.assertEqual(b.out[0, 0], value)
        self.assertEqual(context.stream._eager, [])
        self.assertEqual(len(context.stream._server.tasks), 1)  # the graph's

    def test_numpy_arrays_serve_as_buffers(self):
        context = eep.Context(self.store, rank=0, num_ranks=1, **SHAPE)
        capacity = context.rows_capacity
        x, out = np.ones((TOKENS, HIDDEN), np.float32), np.zeros((TOKENS, HIDDEN), np.float32)
        topk = np.array([[0, 1]] * TOKENS, np.int32)
        shares = np.full((TOKENS, 2), 0.5, np.float32)
        num = np.array([TOKENS], np.int32)
        big = np.zeros((capacity, HIDDEN), np.float32)
        with self.assertRaisesRegex(eep.Invalid, "rows .* 1 elements, and"):
            context.dispatch(0, x=x, topk_idx=topk, num_tokens=num, rows=np.zeros(1, np.float32),
                             slot_begin=np.zeros(3, np.int32))
        with self.assertRaisesRegex(eep.Invalid, "topk_idx is uint8"):
            context.dispatch(0, x=x, topk_idx=topk.astype(np.uint8), num_tokens=num, rows=x)
        with self.assertRaisesRegex(eep.Invalid, "no field 'speed'"):
            context.dispatch(0, x=x, topk_idx=topk, num_tokens=num, rows=big, speed=1)
        for slot in range(2):
            context.slot_set(0, slot, [np.zeros(4, np.float32)])
        with context.capture() as graph:
            rows, slot_begin = np.zeros((capacity, HIDDEN), np.float32), np.zeros(3, np.int32)
            context.dispatch(0, x=x, topk_idx=topk, num_tokens=num, rows=rows, slot_begin=slot_begin)
            context.combine(0, rows=rows, topk_weights=shares, num_tokens=num, out=out)
        del rows, slot_begin
        gc.collect()
        context.join(10)
        with context.step(5):
            graph.replay()
        self.assertTrue((out == x).all())
        context.close()

    def test_bad_input_names_the_token(self):
        rank = self.rank()
        with self.assertRaises(eep.BadStepInput) as caught:
            rank.step(topk=(0, 99))
        bad = caught.exception.bad
        self.assertEqual((bad.kind, bad.token, bad.k, bad.value), ("expert_range", 0, 1, 99))
        self.assertIn("99", str(caught.exception))
        rank.right(self)

    def test_an_exception_in_the_block_ends_the_step(self):
        rank = self.rank()
        for at in (0, 1):
            with self.assertRaisesRegex(KeyError, "mine"):
                with rank.context.step(5):
                    if at:
                        rank.graph.replay()
                    raise KeyError("mine")
            rank.right(self)

    def test_a_kernel_that_raises_fails_its_step_alone(self):
        fail = []

        def kernel(*arrays):
            if fail:
                raise RuntimeError(fail.pop())
            multiply(*arrays)

        rank = self.rank(kernel=kernel)
        rank.right(self)
        fail.append("broken")
        with self.assertRaisesRegex(eep.KernelFailed, "broken"):
            rank.step()
        for _ in range(3):
            rank.right(self)

    def test_a_step_that_was_lost_is_ended_by_the_next(self):
        """A signal between a begin and the block: nobody ends that step."""
        rank = self.rank()
        self.assertEqual(lib.eepy_step_begin(rank.context._handle, 1000000, rank.context._step,
                                             rank.context._shape), 0)
        rank.right(self)
        with self.assertRaisesRegex(eep.State, "is open"):
            with rank.context.step(5):
                with rank.context.step(5):
                    pass
        rank.right(self)

    def test_an_abort_of_another_thread(self):
        rank = self.rank()
        with self.assertRaises(eep.Aborted):
            with rank.context.step(5):
                thread = threading.Thread(target=rank.context.abort)
                thread.start()
                thread.join()
                rank.graph.replay()
        rank.right(self)

    def test_leaving(self):
        rank = self.rank()
        rank.context.drain()
        self.end(rank)

    def test_joining_waits_as_long_as_it_is_told(self):
        context = eep.Context(self.store, rank=0, num_ranks=2, log_level="none", **SHAPE)
        for slot in range(context.num_slots):
            context.slot_alloc(0, slot, [(4,)])
        begin = time.monotonic()
        with self.assertRaisesRegex(eep.Timeout, "within 250 ms: .* not opened: 1"):
            context.join(0.25)
        waited = time.monotonic() - begin
        self.assertTrue(0.25 <= waited < 20, f"{waited} s")
        self.assertIsInstance(eep.Timeout(), TimeoutError)
        context.close()

    def test_a_close_by_another_thread_ends_a_join(self):
        context = eep.Context(self.store, rank=0, num_ranks=2, log_level="none", **SHAPE)
        for slot in range(context.num_slots):
            context.slot_alloc(0, slot, [(4,)])
        found = []

        def join():
            try:
                context.join(30)
            except eep.EepError as error:
                found.append(error)

        thread = threading.Thread(target=join)
        thread.start()
        time.sleep(0.1)
        context.close()
        thread.join(5)
        self.assertIsInstance(found[0], eep.State)

    def test_what_is_closed_says_so(self):
        rank = self.rank()
        rank.context.close()
        rank.context.close()
        for call in (rank.step, rank.context.join, rank.context.snapshot, rank.context.loads,
                     rank.context.physical_to_logical, rank.context.drain):
            with self.assertRaisesRegex(eep.State, "closed"):
                call()
        self.assertTrue(rank.context.closed)
        self.assertEqual(rank.context.rows_capacity, 0)
        with self.assertRaises(eep.EepError):
            rank.graph.replay()

    def test_a_refused_configuration_names_its_field(self):
        with self.assertRaisesRegex(eep.Invalid, "hidden"):
            eep.Context(self.store, rank=0, num_ranks=1, **{**SHAPE, "hidden": -1})
        with self.assertRaisesRegex(eep.Invalid, "no field 'speed'"):
            eep.Context(self.store, rank=0, num_ranks=1, speed=1, **SHAPE)
        with self.assertRaisesRegex(eep.Invalid, "profile"):
            eep.Context(self.store, rank=0, num_ranks=1, profile="fast", **SHAPE)
        with self.assertRaisesRegex(eep.SeatTaken, "rank 0|seat 0"):
            rank = self.rank()
            eep.Context(self.store, rank=0, num_ranks=1, **SHAPE)
        rank.right(self)
        with self.assertRaises(eep.Unreachable):
            eep.Watch(self.store.path + ".none", timeout=0.01)


class Forms(WithStore):
    def alone(self, form, kernel, ids_dtype="int32", **options):
        context = eep.Context(self.store, rank=0, num_ranks=1, **{**SHAPE, **options})
        self.addCleanup(context.close)
        b = context.buffers(form=form, ids_dtype=ids_dtype)
        for slot in range(2):
            context.slot_alloc(0, slot, [(4,)])
        arrays = [b.rows, b.slot_begin, b.slot_counts, b.results]
        with context.capture() as graph:
            context.dispatch(0, **b.dispatch)
            context.stream.launch(kernel, *arrays)
            context.combine(0, **b.combine)
        context.join(10)
        return context, b, graph

    def test_padded_rows_and_int64_ids(self):
        def kernel(rows, _, counts, results):
            for slot, count in enumerate(counts):
                results[slot, :count] = rows[slot, :count] * (slot + 1)

        form = eep.Form(layout="padded", slot_align=8)
        context, b, graph = self.alone(form, kernel, "int64")
        self.assertEqual((b.rows.shape, b.topk_idx.dtype), ((2, 8, HIDDEN), "int64"))
        self.assertEqual(context.form_sizes(form).rows, 16)
        with context.step(5):
            b.fill(np.full((2, HIDDEN), 4.0), [[0, 1], [1, -1]], [[0.5, 0.5], [1, 0]])
            graph.replay()
        self.assertEqual(b.out[:2, 0].tolist(), [6.0, 8.0])

    def test_physical_ids_name_their_placement(self):
        context, b, graph = self.alone(
            eep.Form(ids="physical"), lambda rows, begin, counts, results:
            results.__setitem__(slice(None), rows))
        with self.assertRaises(eep.NotFound):
            context.live_placement()
        ids = [[0, 1]]
        with self.assertRaises(eep.BadStepInput) as caught:
            with context.step(5):
                b.placement[0] = 1
                b.fill(np.ones((1, HIDDEN)), ids, [[1, 2]])
                graph.replay()
        self.assertEqual(caught.exception.bad.kind, "placement")
        live = context.live_placement()
        self.assertEqual(sorted(live.experts[0]), [0, 1])
        with context.step(5):
            b.placement[0] = live.word
            b.fill(np.ones((1, HIDDEN)), ids, [[1, 2]])
            graph.replay()
        self.assertEqual(b.out[0, 0], 3)

    def test_scales_as_packed_powers(self):
        form = eep.Form(scales="ue8m0_columns")
        context, b, graph = self.alone(form, lambda *_: None, hidden=256, fp8_dispatch=2)
        self.assertEqual((b.row_scales, b.packed_scales.shape[0], b.rows.dtype),
                         (None, 1, "float8_e4m3fn"))
        with context.step(5):
            b.fill(np.full((1, 256), 448.0), [[0, 1]], [[0.5, 0.5]])
            graph.replay()
        scales = b.packed_scales.numpy().view(np.uint8).reshape(*b.packed_scales.shape, 4)
        self.assertEqual(scales[0, 0].tolist(), [127, 127, 0, 0])
        with self.assertRaises(eep.Invalid):
            context.form_sizes(eep.Form(slot_align=-1))


if __name__ == "__main__":
    unittest.main()
