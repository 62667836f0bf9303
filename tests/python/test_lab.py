#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What eep_lab does besides talking to a run: sweeps whose runs fail, rows that are kept as they
come, durations with their units. Runs are stood in for; tests/run/control.sh has real ones."""

import csv
import functools
import os
import pathlib
import signal
import socket
import sys
import tempfile
import threading
import time
import unittest

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "bindings", "python"))
import eep_lab
from eep_lab import conditions, connection, series, words


class FakeRun:
    """Fails as told; remembers what it was given."""
    made, failing, interrupted, lock = [], set(), set(), threading.Lock()

    def __init__(self, **options):
        with FakeRun.lock:
            FakeRun.made.append(options)
        self.options = options

    def __enter__(self):
        if self.options["ranks"] in FakeRun.failing:
            raise eep_lab.EepError("eep-run ended with code 2:\nno room")
        if self.options["ranks"] in FakeRun.interrupted:
            raise KeyboardInterrupt
        return self

    def __exit__(self, *_):
        pass

    def finish(self):
        return {"good": True, "faults": [{"pause_ms": 7.5}], "step_ms": {"p50": 1, "p99": 2},
                "tokens_emitted": self.options["ranks"] * 10, "commit": "c"}


class Words(unittest.TestCase):
    def test_ranks_that_are_none_are_refused_here(self):
        self.assertEqual(words.event_text(3, "1s"), "3=1s")
        self.assertEqual(words.event_text([1, 2]), "1,2")
        self.assertEqual(words.event_text("random:2", None, "1"), "random:2@1")
        for wrong in (1.0, -1, True, [1, 2.0], [[1]]):
            with self.assertRaisesRegex(ValueError, "is no rank"):
                words.event_text(wrong)

    def test_a_child_s_exit_code_is_kept_where_sigchld_was_ignored(self):
        before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        try:
            with self.assertRaisesRegex(eep_lab.EepError, "code 7"):
                eep_lab.Run(program=self.program_that("exit 7"), start_timeout=10)
        finally:
            signal.signal(signal.SIGCHLD, before)

    def program_that(self, does):
        folder = tempfile.TemporaryDirectory(prefix="eep-lab-test-")
        self.addCleanup(folder.cleanup)
        path = pathlib.Path(folder.name) / "eep-run"
        path.write_text(f"#!/bin/sh\n{does}\n")
        path.chmod(0o755)
        return str(path)

    def test_seats_and_seconds_that_are_none_are_refused_here(self):
        run = eep_lab.Run.__new__(eep_lab.Run)
        run.status = lambda: {"seats": [{"seat": 0}, {"seat": 1}]}
        run.close = lambda: None
        self.assertEqual(eep_lab.Run.seat(run, 1), {"seat": 1})
        for wrong in (2, 99, -1, True, "0"):
            with self.assertRaisesRegex(ValueError, "none of the seats 0 to 1"):
                eep_lab.Run.seat(run, wrong)
        for wrong in ("x", 0, -1, float("nan"), True, None):
            with self.assertRaisesRegex(ValueError, "burn: .* is no number of seconds"):
                eep_lab.Run.burn(run, wrong)


    def test_verbs_of_hosts_have_the_texts_of_the_command_line(self):
        run, said = eep_lab.Run.__new__(eep_lab.Run), []
        run.do = lambda verb, what="": said.append(f"{verb} {what}")
        run.host_kill("h2", when="1.5")
        run.host_freeze("h1,h2", seconds=0.4)
        run.partition("h1|h2,h3", "4s", when="1")
        run.one_way("h1|h2")
        run.delay("h1|h2", 20, seconds=1)
        run.nic_down("h3", "300ms")
        run.heal(when="joined:3")
        self.assertEqual(said, ["host-kill h2@1.5", "host-freeze h1,h2/0.4s", "partition h1|h2,h3/4s@1",
                                "one-way h1|h2", "delay h1|h2:20/1s", "nic-down h3/300ms", "heal @joined:3"])


class Sweep(unittest.TestCase):
    def setUp(self):
        FakeRun.made, FakeRun.failing, FakeRun.interrupted = [], set(), set()
        self.real, series.Run = series.Run, FakeRun
        self.folder = tempfile.TemporaryDirectory(prefix="eep-lab-test-")
        self.out = pathlib.Path(self.folder.name) / "sweep"
        self.program = pathlib.Path(self.folder.name) / "eep-run"
        self.program.write_text("one")
        self.before = {name: os.environ.pop(name) for name in list(os.environ)
                       if name.startswith("EEP_")}
        os.environ["EEP_RUN"] = str(self.program)

    def tearDown(self):
        del os.environ["EEP_RUN"]
        os.environ.update(self.before)
        series.Run = self.real
        self.folder.cleanup()

    def kept(self):
        with open(self.out / "rows.csv", newline="") as file:
            return list(csv.DictReader(file))

    def test_a_failure_is_a_row_and_the_others_go_on(self):
        FakeRun.failing = {3}
        rows = eep_lab.sweep("ranks", [2, 3, 4], progress=False, out=self.out)
        self.assertEqual([row["ranks"] for row in rows], [2, 3, 4])
        self.assertEqual([bool(row["error"]) for row in rows], [False, True, False])
        self.assertIn("no room", rows[1]["error"])
        self.assertEqual([row["tokens"] for row in self.kept()], ["20", "", "40"])

    def test_what_drive_raises_is_a_row_too(self):
        def drive(_, ranks):
            if ranks == 2:
                raise ValueError("not so")
        rows = eep_lab.sweep("ranks", [2, 3], drive=drive, progress=False)
        self.assertEqual([row["error"] for row in rows], ["ValueError: not so", ""])

    def test_rows_are_kept_as_they_come(self):
        seen = []
        eep_lab.sweep("ranks", [2, 3, 4], out=self.out,
                      progress=lambda row: seen.append((row["ranks"], len(self.kept()))))
        self.assertEqual(seen, [(2, 1), (3, 2), (4, 3)])

    def test_an_interrupt_keeps_what_is_done(self):
        def drive(_, ranks):
            if ranks == 4:
                raise KeyboardInterrupt
        with self.assertRaises(KeyboardInterrupt):
            eep_lab.sweep("ranks", [2, 3, 4], drive=drive, progress=False, out=self.out)
        self.assertEqual(len(self.kept()), 2)

    def test_repeats_have_seeds_of_their_own(self):
        eep_lab.sweep("ranks", [2, 3], repeats=3, seed=10, progress=False)
        self.assertEqual([made["seed"] for made in FakeRun.made], [10, 10, 11, 11, 12, 12])
        eep_lab.sweep("seed", [5, 6], ranks=2, progress=False)
        self.assertEqual([made["seed"] for made in FakeRun.made[6:]], [5, 6])

    def test_a_grid_is_every_combination(self):
        given = []
        rows = eep_lab.sweep({"ranks": [2, 4], "slots": [16, 32]}, progress=False,
                             drive=lambda _, point: given.append(point))
        self.assertEqual([(row["ranks"], row["slots"]) for row in rows],
                         [(2, 16), (2, 32), (4, 16), (4, 32)])
        self.assertEqual(given[1], {"ranks": 2, "slots": 32})
        with self.assertRaisesRegex(eep_lab.EepError, "no values for 'ranks'"):
            eep_lab.sweep("ranks")

    def test_a_folder_that_is_not_empty_is_refused_or_gone_on_with(self):
        FakeRun.failing = {3}
        eep_lab.sweep("ranks", [2, 3], progress=False, out=self.out)
        with self.assertRaisesRegex(eep_lab.EepError, "holds results already.*resume=True"):
            eep_lab.sweep("ranks", [2, 3], progress=False, out=self.out)
        FakeRun.made, FakeRun.failing = [], set()
        rows = eep_lab.sweep("ranks", [2, 3, 4], progress=False, out=self.out, resume=True)
        self.assertEqual([made["ranks"] for made in FakeRun.made], [3, 4])
        self.assertEqual([row["tokens"] for row in rows], [20, 30, 40])
        self.assertIs(rows[0]["good"], True)
        self.assertEqual(len({made["out"] for made in FakeRun.made}), 2)

    def test_going_on_loses_no_row_and_no_folder(self):
        eep_lab.sweep("ranks", [2, 3, 4], progress=False, out=self.out)
        FakeRun.interrupted = {6}
        with self.assertRaises(KeyboardInterrupt):
            eep_lab.sweep("ranks", [5, 6, 4], progress=False, out=self.out, resume=True)
        FakeRun.interrupted = set()
        self.assertEqual([(row["ranks"], row["run"]) for row in self.kept()],
                         [("2", "0"), ("3", "1"), ("4", "2"), ("5", "3")])
        rows = eep_lab.sweep("ranks", [6, 4], progress=False, out=self.out, resume=True)
        self.assertEqual([(row["ranks"], row["run"], row["tokens"]) for row in rows],
                         [(6, 4, 60), (4, 2, 40)])
        self.assertEqual(len(self.kept()), 5)
        with self.assertRaisesRegex(eep_lab.EepError, "of another sweep: it has no column 'slots'"):
            eep_lab.sweep("slots", [16], ranks=2, progress=False, out=self.out, resume=True)

    def test_rows_that_were_made_otherwise_are_not_gone_on_with(self):
        def drive(_, ranks, factor=1):
            return ranks * factor

        def other(_, ranks, factor=2):
            return ranks * factor
        same = dict(progress=False, out=self.out, resume=True, slots=32, drive=drive)
        eep_lab.sweep("ranks", [2, 3], **same)
        eep_lab.sweep("ranks", [2, 3, 4], repeats=2, start_timeout=5, **same)
        for what, changes in {"option slots 32, and not with 48": {"slots": 48},
                              'option layers none, and not with 2': {"layers": 2},
                              "drive": {"drive": other}, "drive .* none": {"drive": None},
                              "measure": {"measure": lambda summary: {"good": summary["good"]}},
                              "jobs 1, and not with 2": {"jobs": 2},
                              "is_option true": {"is_option": False}}.items():
            with self.assertRaisesRegex(eep_lab.EepError, f"made otherwise: with {what}.*another out="):
                eep_lab.sweep("ranks", [2, 3], **{**same, **changes})
        os.environ["EEP_BULK"] = "ucx"
        with self.assertRaisesRegex(eep_lab.EepError, 'variable EEP_BULK none, and not with "ucx"'):
            eep_lab.sweep("ranks", [2, 3], **same)
        del os.environ["EEP_BULK"]
        self.program.write_text("another commit")
        with self.assertRaisesRegex(eep_lab.EepError, "with eep-run "):
            eep_lab.sweep("ranks", [2, 3], **same)
        self.assertEqual(len(FakeRun.made), 6)
        self.program.write_text("one")
        self.assertEqual(len(eep_lab.sweep("ranks", [2, 3], **same)), 2)
        self.assertEqual(len(FakeRun.made), 6)
        (self.out / "sweep.json").unlink()
        with self.assertRaisesRegex(eep_lab.EepError, "no 'sweep.json' beside it"):
            eep_lab.sweep("ranks", [2, 3], **same)

    def test_a_drive_is_all_that_it_is_made_of(self):
        class Driver:
            def __init__(self, seats):
                self.seats = seats

            def drive(self, _, ranks):
                return self.seats * ranks

            __call__ = drive

        class Slotted:
            __slots__ = ()

        def closure(seats):
            return lambda _, ranks: seats * ranks

        def keyword(seats):
            def drive(_, ranks, *, seats=seats):
                return seats * ranks
            return drive

        def bare(_, ranks, seats):
            return seats * ranks
        kinds = {"list": lambda n: closure([n]), "tuple": lambda n: closure((1, [n])),
                 "dict": lambda n: closure({"seat": n}), "keyword": keyword,
                 "method": lambda n: Driver(n).drive, "object": Driver,
                 "partial": lambda n: functools.partial(bare, seats=n),
                 "inner": lambda n: functools.partial(closure([n])),
                 "function in it": lambda n: functools.partial(bare, seats=closure([n]))}
        for kind, make in kinds.items():
            one, same, other = (conditions._function(make(n)) for n in (1, 1, 2))
            self.assertEqual(one, same, kind)
            self.assertNotEqual(one, other, kind)
        unknown = closure(Slotted())
        self.assertRegex(conditions._function(unknown), "holds a .*Slotted, which cannot be compared")
        self.assertNotEqual(conditions._function(unknown), conditions._function(unknown))
        endless = []
        endless.append(endless)
        self.assertIn("cannot be compared", conditions._function(closure(endless)))

    def test_programs_may_be_the_parameter(self):
        def programs(*names):
            paths = [pathlib.Path(self.folder.name) / name for name in names]
            for path in paths:
                path.write_text(path.name)
            return [str(path) for path in paths]
        same = dict(progress=False, out=self.out, resume=True, ranks=2)
        eep_lab.sweep("program", programs("a", "b"), **same)
        eep_lab.sweep("program", programs("b", "c"), **same)
        self.assertEqual(len(FakeRun.made), 3)
        (pathlib.Path(self.folder.name) / "a").write_text("other")
        with self.assertRaisesRegex(eep_lab.EepError, "with eep-run .*/a"):
            eep_lab.sweep("program", [str(pathlib.Path(self.folder.name) / "a")], **same)

    def test_several_at_once_give_the_same_rows(self):
        rows = eep_lab.sweep("ranks", range(2, 12), repeats=2, jobs=4, progress=False)
        self.assertEqual([row["ranks"] for row in rows], 2 * list(range(2, 12)))
        self.assertEqual([row["tokens"] for row in rows], [10 * row["ranks"] for row in rows])


class Trust(unittest.TestCase):
    @unittest.skipUnless(os.geteuid() == 0, "only root can become another user")
    def test_a_run_of_another_user_is_not_believed(self):
        nobody = 65534
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o777)
            path = os.path.join(folder, "control.sock")
            ready, told = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    os.setresgid(nobody, nobody, nobody)
                    os.setresuid(nobody, nobody, nobody)
                    listener = socket.socket(socket.AF_UNIX)
                    listener.bind(path)
                    listener.listen()
                    os.write(told, b"y")
                    time.sleep(20)
                finally:
                    os._exit(1)
            os.close(told)
            self.assertEqual(os.read(ready, 1), b"y")
            os.close(ready)
            try:
                with self.assertRaisesRegex(eep_lab.EepError, "of user 65534, not ours"):
                    connection.Connection(path)
            finally:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)


class Durations(unittest.TestCase):
    def setUp(self):
        self.run = eep_lab.Run.__new__(eep_lab.Run)
        self.asked = []
        self.run.do = lambda verb, what="": self.asked.append((verb, what)) or [1]

    def test_a_number_names_its_unit(self):
        self.run.stop(1, seconds=0.4)
        self.run.stop(1, "400ms")
        self.run.slow(1, 2.5, seconds=1)
        self.run.freeze(1, "combine", "0.9x")
        self.run.store_stop(seconds=2)
        self.assertEqual([what for _, what in self.asked],
                         ["1=0.4s", "1=400ms", "1=2.5/1s", "1=combine/0.9x", "2s"])

    def test_what_may_be_milliseconds_is_refused(self):
        for call in (lambda: self.run.stop(1, 400), lambda: self.run.stop(1, "400"),
                     lambda: self.run.slow(1, 2, 300), lambda: self.run.store_stop(0.4)):
            with self.assertRaisesRegex(ValueError, "has no unit: seconds=0.4"):
                call()
        with self.assertRaisesRegex(ValueError, "milliseconds"):
            self.run.stop(1, seconds=400)
        with self.assertRaisesRegex(ValueError, "both"):
            self.run.stop(1, "400ms", seconds=0.4)
        self.assertEqual(self.asked, [])


if __name__ == "__main__":
    unittest.main()
