#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The Python package eep, in one process: members, collectives, log lines, events, forks.

    PYTHONPATH=TREE tests/python/test_binding_members.py      TREE: from bindings/python/eep_build.py --tree
"""
import asyncio
import gc
import os
import select
import sys
import threading
import time
import unittest

import numpy as np

sys.dont_write_bytecode = True
import eep
from binding_world import LIMIT_S, SHAPE, WithStore
from eep.loading import ffi, lib


class Controls(WithStore):
    def test_masks_and_what_is_ready(self):
        rank = self.rank()
        rank.right(self)
        self.assertEqual(rank.context.mask()[0].tolist(), [1])
        self.assertEqual(rank.context.mask("masked"), (np.array([0]), 1))
        self.assertNotEqual(rank.context.active_mask, 0)
        out = rank.context.device.zeros(1, "int32")
        rank.context.mask_put(out)
        rank.context.stream.synchronize(5)
        self.assertEqual(out[0], 1)
        with self.assertRaises(eep.State):
            rank.context.ready()
        fd = rank.context.ready_fileno()
        self.assertGreaterEqual(fd, 0)
        self.assertLessEqual(rank.context.ready(), {"view", "fault", "step", "over"})
        rank.context.close()
        with self.assertRaises(eep.State):
            rank.context.ready_fileno()

    def test_evidence_is_checked(self):
        rank = self.rank()
        with self.assertRaises(eep.State):
            rank.context.expel(0, 7)
        with self.assertRaises(eep.Invalid):
            rank.context.fault_report(0, 1, "rumour")
        with self.assertRaises(eep.EepError):
            rank.context.fault_report(7, 1, "bad_answer")
        rank.right(self)
        rank.context.expel(0, 1)  # oneself: the same as drain
        self.end(rank)

    def test_memory_sizes_need_no_context(self):
        sizes = eep.memory_sizes(num_ranks=4, num_experts=8, num_slots=4, top_k=2, hidden=16,
                                 num_max_tokens_per_rank=4, expert_bytes=4096)
        self.assertGreater(sizes.device_bytes, sizes.window_bytes)


class Collectives(WithStore):
    def test_alone(self):
        context = self.rank().context
        values = np.arange(4, dtype=np.int64)
        told = context.allreduce(values, "max")
        self.assertEqual((values.tolist(), told.contributors), ([0, 1, 2, 3], (0,)))
        self.assertEqual(context.allgather(b"seed", 16)[0], [b"seed"])
        self.assertEqual(context.allgather(b"", 16)[0], [b""])
        context.broadcast(0, values)
        self.assertEqual(context.barrier().contributors, (0,))
        for wrong in (values[::2], [1, 2], values.astype(np.int8)):
            with self.assertRaises(eep.Invalid):
                context.allreduce(wrong)
        with self.assertRaises(eep.Invalid):
            context.broadcast(3, values)

    def test_two_ranks(self):
        def live(seat):
            with eep.Context(self.store, rank=seat, num_ranks=2, log_level="none", **SHAPE) as context:
                for slot in range(context.num_slots):
                    context.slot_alloc(0, slot, [(4,)])
                context.join(20)
                values = np.full(3, seat + 1, np.float32)
                told = context.allreduce(values)
                found[seat] = (values.tolist(), told.contributors,
                               context.allgather(b"x" * (seat + 1), 8)[0])
                context.barrier()

        found = {}
        threads = [threading.Thread(target=live, args=(seat,)) for seat in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        expected = ([3.0] * 3, (0, 1), [b"x", b"xx"])
        self.assertEqual(found, {0: expected, 1: expected})


class Telling(WithStore):
    def test_log_and_events_come_by_poll_alone(self):
        seen = []

        def note(record):
            seen.append((threading.get_ident(), record))

        rank = self.rank(log=note, event=note, log_level="debug")
        self.assertGreaterEqual(rank.context.fileno(), 0)
        self.assertEqual(seen, [])
        while not any(isinstance(record, eep.EventRecord) and record.kind == "installed" for _, record in seen):
            # The service thread tells of the view behind what lets the join return.
            self.assertTrue(select.select([rank.context.fileno()], [], [], LIMIT_S)[0], seen)
            rank.context.poll()
        self.assertEqual({thread for thread, _ in seen}, {threading.get_ident()})
        lines = [record for _, record in seen if isinstance(record, eep.LogLine)]
        self.assertTrue(any("epoch 1" in line.text for line in lines), lines)
        self.assertEqual({line.dropped for line in lines}, {0})

    def test_a_queue_that_nobody_polls_loses_the_oldest(self):
        queue = lib.eepy_queue_open()
        for at in range(lib.EEPY_MOST_RECORDS + 10):
            lib.eepy_log(queue, lib.EEP_LOG_WARN, f"line {at}".encode())
        from eep.reports import take_records
        records = take_records(queue)
        self.assertEqual((len(records), records[0].text, records[0].dropped),
                         (lib.EEPY_MOST_RECORDS, "line 10", 10))
        self.assertEqual(select.select([lib.eepy_queue_fd(queue)], [], [], 0)[0], [])
        lib.eepy_queue_close(ffi.new("eepy_queue **", queue))

    def test_loads_waits_and_placement(self):
        rank = self.rank()
        deadline = time.monotonic() + LIMIT_S
        while rank.context.loads().sum() == 0 and time.monotonic() < deadline:
            rank.right(self)
        self.assertGreater(rank.context.loads()[0, 1], 0)
        self.assertEqual(rank.context.waits().tolist(), [0])
        rank.context.loads_set([[1, 2]])
        rank.context.loads_set(None)
        with self.assertRaises(eep.Invalid):
            rank.context.loads_set([1, 2, 3])
        placement = rank.context.placement()
        self.assertEqual((sorted(placement.experts[0, 0]), placement.own_state), ([0, 1], "none"))
        rank.context.placement_set(1, placement.experts, np.ones((1, 1, 2)))
        while rank.context.placement().own_state != "in_force" and time.monotonic() < deadline:
            rank.right(self)
        self.assertTrue(rank.context.placement().pinned.all())
        self.assertEqual(rank.context.faults(), [])
        self.assertGreater(rank.context.step_words().running, 0)

    def test_backups(self):
        context = eep.Context(self.store, rank=0, num_ranks=1, backup_copies=1, **SHAPE)
        wanted = [expert for expert in range(2) if context.backup_wanted(0, expert)]
        for expert in range(2):
            context.backup_set(0, expert, [np.full(4, expert, np.float32)])
        for slot in range(2):
            (array,) = context.slot_alloc(0, slot, [(4,)])
            array[:] = context.slot_expert(0, slot)
        context.join(10)
        self.assertEqual(wanted, [0, 1])
        context.close()

    def test_a_watch_follows_the_views(self):
        with eep.Watch(self.store.path) as watch:
            with self.assertRaises(eep.Timeout):
                watch.next(0.01)
            rank = self.rank()
            view = watch.next(5)
            while not view.is_serving:
                view = watch.next(5)
            self.assertEqual((view.num_active, view.seats[0].generation, view.seats[0].serves),
                             (1, 1, True))

            async def follow():
                states = []
                async for view in watch:
                    states.append(view.num_active)
                    if view.num_active == 0:
                        return states
                return states

            async def both():
                loop = asyncio.get_running_loop()
                following = asyncio.ensure_future(follow())
                await asyncio.sleep(0.05)
                rank.context.end_instance()
                await loop.run_in_executor(None, self.end, rank)
                return await asyncio.wait_for(following, LIMIT_S)

            self.assertEqual(asyncio.run(both())[-1], 0)

    def test_the_sink_takes_a_token_once(self):
        with eep.Sink(4) as sink:
            sink.assign(1, seat=2, generation=1)
            sink.offer(1, 0, 2, 1, 0)
            for error, arguments in ((eep.Duplicate, (1, 0, 2, 1, 0)), (eep.Ahead, (1, 0, 2, 1, 5)),
                                     (eep.NotOwner, (1, 0, 3, 1, 1))):
                with self.assertRaises(error):
                    sink.offer(*arguments)
            self.assertEqual((sink.next_position(1), sink.refused), (1, 3))
            sink.revoke(1)
            sink.release(1)
            self.assertEqual(sink.incarnation(1), 1)

    def test_a_store_of_ones_own_goes_away(self):
        store = eep.Store()
        folder = os.path.dirname(store.path)
        with self.assertRaises(eep.Conflict):
            eep.Store(store.path)
        store.close()
        store.close()
        self.assertFalse(os.path.exists(folder))


class Forks(WithStore):
    def test_a_child_can_use_nothing_of_its_parents(self):
        rank = self.rank(log=True)
        rank.right(self)
        child = os.fork()
        if child == 0:
            try:
                for call in (rank.step, rank.context.snapshot, rank.graph.replay,
                             rank.context.stream.synchronize):
                    try:
                        call()
                        os._exit(2)
                    except eep.State:
                        pass
                rank.context.poll()
                rank.close()
                self.store.close()
                del rank
                gc.collect()
                os._exit(0)
            except BaseException:
                sys.excepthook(*sys.exc_info())
                os._exit(3)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        rank.right(self)
        self.assertTrue(os.path.exists(self.store.path))


if __name__ == "__main__":
    unittest.main()
