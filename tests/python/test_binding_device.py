#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The Python package eep: arrays, streams, kernels and graphs of a device.

    PYTHONPATH=TREE tests/python/test_binding_device.py      TREE: from bindings/python/eep_build.py --tree
"""
import ctypes
import gc
import sys
import time
import unittest
import weakref

import numpy as np

sys.dont_write_bytecode = True
import eep


class Arrays(unittest.TestCase):
    def setUp(self):
        self.device = eep.Device()
        self.addCleanup(self.device.close)

    def test_numpy_sees_the_memory(self):
        array = self.device.zeros((2, 3), "int32")
        array[1, 2] = 7
        view = array.numpy()
        self.assertEqual((view.shape, view.dtype, view[1, 2]), ((2, 3), np.int32, 7))
        self.assertEqual(view.ctypes.data, array.address)
        self.assertEqual(view.ctypes.data % 128, 0)

    def test_a_view_keeps_the_memory(self):
        view = self.device.zeros(1000).numpy()
        view[:] = 5
        self.device.close()
        gc.collect()
        self.assertEqual(view.sum(), 5000)

    def test_dlpack_out_and_in(self):
        array = self.device.zeros((2, 3), "float32")
        array[:] = 4
        other = np.from_dlpack(array)
        self.assertEqual(other.ctypes.data, array.address)
        self.assertEqual(array.__dlpack_device__(), (1, 0))
        del array
        gc.collect()
        self.assertEqual(other.sum(), 24)
        del other
        capsules = [self.device.zeros(1 << 20).__dlpack__(max_version=version)
                    for version in (None, (1, 0)) for _ in range(50)]
        del capsules  # nobody took them: their memory goes

    def test_another_librarys_memory_is_registered_in_place(self):
        mine = np.arange(6, dtype=np.float32).reshape(2, 3)
        array = self.device.register(mine)
        self.assertEqual((array.address, array.shape, array.dtype),
                         (mine.ctypes.data, (2, 3), "float32"))
        self.assertIs(self.device.register(mine)._holder, array._holder)

        class Lender:
            def __init__(self, lent):
                self.lent = lent

            def __dlpack__(self, **_):
                return self.lent.__dlpack__()

        borrowed = self.device.register(Lender(mine))
        alive = weakref.ref(mine)
        address = mine.ctypes.data
        del mine, array
        gc.collect()
        self.assertIsNotNone(alive())
        self.assertEqual((borrowed.address, borrowed[1, 2]), (address, 5))
        del borrowed
        gc.collect()
        self.assertIsNone(alive())

    def test_what_cannot_be_used_is_refused(self):
        for wrong in (np.zeros((4, 4), np.float32)[:, ::2], [1, 2], np.zeros(0, np.float32),
                      np.zeros(2, complex)):
            with self.assertRaises(eep.Invalid):
                self.device.register(wrong)
        frozen = np.zeros(4)
        frozen.flags.writeable = False
        with self.assertRaisesRegex(eep.Invalid, "read-only"):
            self.device.register(frozen)
        with self.assertRaisesRegex(eep.Invalid, "memory is 'slow'"):
            self.device.zeros(4, memory="slow")
        with self.assertRaises(eep.Unsupported):
            eep.Device("cuda", 99)
        with self.assertRaises(eep.Invalid):
            eep.Device("abacus")

    def test_guarded_memory_is_for_kernels(self):
        with eep.Device("guarded") as device:
            array = device.zeros(4, memory="device")
            with self.assertRaises(eep.Unsupported):
                array.numpy()
            with self.assertRaises(eep.Unsupported):
                np.asarray(array, dtype=np.float32).sum()
            array.write([1, 2, 3, 4])
            self.assertEqual(array.read().tolist(), [1, 2, 3, 4])
            with device.stream() as stream:
                stream.launch(lambda view: view.__imul__(2), array)
                stream.synchronize(5)
            self.assertEqual(array.read().tolist(), [2, 4, 6, 8])


class Streams(unittest.TestCase):
    def setUp(self):
        self.device = eep.Device()
        self.stream = self.device.stream()
        self.addCleanup(self.device.close)
        self.addCleanup(self.stream.close)

    def test_copies_events_and_order(self):
        a, b = self.device.zeros(4), self.device.zeros(4)
        a[:] = 3
        with self.device.event() as event, self.device.stream() as other:
            self.stream.copy(b, a)
            self.stream.record(event)
            other.wait(event)
            event.synchronize(5)
            other.synchronize(5)
        self.assertEqual(b[:].tolist(), [3] * 4)
        with self.assertRaises(eep.Invalid):
            self.stream.copy(b[:2].copy(), a)

    def test_a_kernel_of_c_gets_a_struct(self):
        seen = []

        class Grid(ctypes.Structure):
            _fields_ = [(name, ctypes.c_uint32) for name in ("block", "num", "thread", "threads")]

        class Args(ctypes.Structure):
            _fields_ = [("data", ctypes.c_void_p), ("half", ctypes.c_int32), ("all", ctypes.c_int64),
                        ("share", ctypes.c_double), ("nothing", ctypes.c_void_p)]

        @ctypes.CFUNCTYPE(None, ctypes.c_void_p, Grid)
        def body(args, grid):
            found = Args.from_address(args)
            seen.append((found.data, found.half, found.all, found.share, found.nothing, grid.block,
                         grid.num))

        array = self.device.zeros(4)
        kernel = eep.Kernel("body", body)
        self.stream.launch(kernel, array, ctypes.c_int32(7), 8, 0.5, None, blocks=2)
        self.stream.synchronize(5)
        self.stream.launch(kernel, Args(array.address, 7, 8, 0.5, None), blocks=2)
        self.stream.synchronize(5)
        expected = [(array.address, 7, 8, 0.5, None, block, 2) for block in (0, 1)] * 2
        self.assertEqual(seen, expected)

    def test_a_kernel_that_raises_is_told(self):
        self.stream.launch(lambda: 1 / 0)
        with self.assertRaisesRegex(eep.KernelFailed, "ZeroDivisionError") as caught:
            self.stream.synchronize(5)
        self.assertIsInstance(caught.exception.__cause__, ZeroDivisionError)
        self.stream.synchronize(5)

    def test_a_graph_replays_and_keeps_what_it_refers_to(self):
        array = self.device.zeros(4)
        out = array.numpy()
        with self.stream.capture() as graph:
            self.stream.launch(lambda view: view.__iadd__(1), array)
        del array
        gc.collect()
        for _ in range(3):
            graph.replay()
        self.stream.synchronize(5)
        self.assertEqual((out.tolist(), graph.num_nodes), ([3] * 4, 1))
        graph.close()
        with self.assertRaisesRegex(eep.State, "closed"):
            graph.replay()

    def test_an_exception_ends_a_capture(self):
        with self.assertRaises(KeyError):
            with self.stream.capture():
                raise KeyError("x")
        self.assertFalse(self.stream.is_capturing)
        with self.stream.capture() as graph:
            self.stream.launch(lambda: None)
        graph.replay()
        self.stream.synchronize(5)

    def test_memory_that_goes_away_ends_a_graph(self):
        """A registered array that its owner gives up is refused at replay; a graph holds its own."""
        mine = np.zeros(4, np.float32)
        with self.stream.capture() as graph:
            self.stream.copy(mine, np.ones(4, np.float32))
        gc.collect()
        graph.replay()
        self.stream.synchronize(5)
        self.assertEqual(mine.tolist(), [1] * 4)

    def test_a_stream_closes_what_is_in_it(self):
        seen = []
        stream = self.device.stream()
        stream.launch(lambda: (time.sleep(0.05), seen.append(1)))
        stream.close()
        stream.close()
        self.assertEqual(seen, [1])
        with self.assertRaisesRegex(eep.State, "closed"):
            stream.launch(seen.append, 1)


if __name__ == "__main__":
    unittest.main()
