#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What detect.py, soak.py, store_outage.py and rounds beside a dummy conclude from rows, on rows
written by hand."""

import argparse
import contextlib
import errno
import fcntl
import io
import os
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
                                "experiments", "measure"))
import beside
import common
import detect
import failed_ranks
import fleets
import model_check
import paper_size
import plan
import restart
import soak
import store_outage


def event(time_ms, seat, kind, about=(-1, 0), epoch=0, value=0, generation=1):
    return {"time_ms": time_ms, "seat": seat, "generation": generation, "kind": kind,
            "about_seat": about[0], "about_generation": about[1], "epoch": epoch, "value": value}


def step(begin_ms, end_ms, seat=0, status=0):
    return {"seat": seat, "generation": 1, "step": 1, "begin_ms": begin_ms, "end_ms": end_ms,
            "status": status}


def run_of(events, faults=(), steps=(), **summary):
    """A common.Run without its files."""
    run = common.Run.__new__(common.Run)
    run.foreign_share = 0.0
    run.events, run.steps = list(events), list(steps)
    run.summary = {"faults": list(faults), "joins": [], "ranks": 4, **summary}
    return run


FAULT = {"rank": 2, "generation": 1, "kind": "kill", "time_ms": 100.0, "expelled": True}
JOINED = [event(-1.0, seat, "joined", epoch=1, value=1) for seat in range(4)]
BASE = {"mode": "idle", "ballast_mb": 0, "kind": "kill", "run": 1}


class FailedRanks(unittest.TestCase):
    """Steps of 1 s and 10 tokens from 0 to 20 s; a kill at 20 s, prefill until 24 s; steps of 2 s until
    ranks come again at 46 s; then of 1.5 s until 60 s, and of 1 s again."""

    def setUp(self):
        step = failed_ranks.Step
        self.steps = [step(float(i), i + 1.0, 10, 10) for i in range(20)]
        self.steps += [step(20.0, 22.0, 10, 60), step(22.0, 24.0, 10, 30)]
        self.steps += [step(at, at + 2.0, 10, 11) for at in range(24, 46, 2)]
        self.steps += [step(46 + 1.5 * i, 47.5 + 1.5 * i, 10, 10) for i in range(10)]
        self.steps += [step(61.0 + i, 62.0 + i, 10, 10) for i in range(30)]

    def test_rates_are_of_whole_steps(self):
        before = failed_ranks.within(self.steps, 4.5, 19.5)
        self.assertEqual((before[0].begin, before[-1].end), (5.0, 19.0))
        self.assertEqual(failed_ranks.rate(before), 10.0)
        self.assertEqual(failed_ranks.length_ms(before), 1000.0)

    def test_degraded_begins_behind_the_prefill(self):
        self.assertEqual(failed_ranks.first_settled(self.steps, 46), 24.0)

    def test_back_is_when_all_that_follows_is_fast(self):
        self.assertEqual(failed_ranks.back_95(self.steps, 10.0, 46), 62.0 - 46)
        self.assertIsNone(failed_ranks.back_95(self.steps, 20.0, 46))

    def test_a_window_without_steps_is_no_figure(self):
        with self.assertRaises(common.Failure):
            failed_ranks.rate([])

    def test_steps_of_all_ranks_are_one(self):
        parts = [dict(step(begin, end, seat), epoch=1, tokens=2, positions=3)
                 for seat, (begin, end) in enumerate(((0.0, 900.0), (100.0, 1000.0)))]
        parts.append(dict(step(0.0, 50.0, 2, status=-32), epoch=1, tokens=0, positions=0))
        self.assertEqual(failed_ranks.steps_of(run_of([], steps=parts)),
                         [failed_ranks.Step(0.0, 1.0, 4, 6)])


class Beside(unittest.TestCase):
    def test_a_round_is_the_subject_and_two_dummies_like_it(self):
        asked = []

        def subject(_, index, seed):
            return {"p99_ms": 10.0 * index, "good": 1, "foreign_share": 0.0}, run_of([], commit="c",
                                                                                     versions={})

        def dummy(_, kind, index, seed, like):
            asked.append((kind, index, seed, like["p99_ms"]))
            return {"p99_ms": {"dummy": 10.0, "dummy-again": 40.0}[kind], "good": index - 1,
                    "foreign_share": 0.0}

        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            options = argparse.Namespace(out=folder, rounds=2, seed=7, note="")
            rounds = beside.measure(options, "thing", ("round", "kind", "seed", "p99_ms"), subject, dummy)
            with open(os.path.join(folder, "thing.csv"), encoding="utf-8") as file:
                lines = [line.rstrip() for line in file if not line.startswith("#")]
            figure, _ = beside.tell(rounds, "thing", "n", lambda row: 1)
            self.assertFalse(beside.verdict_on_tokens(rounds))
        self.assertEqual(asked, [("dummy", 1, 7, 10.0), ("dummy-again", 1, 7, 10.0),
                                 ("dummy", 2, 8, 20.0), ("dummy-again", 2, 8, 20.0)])
        self.assertEqual(lines, ["round,kind,seed,p99_ms", "1,thing,7,10.000", "1,dummy,7,10.000",
                                 "1,dummy-again,7,40.000", "2,thing,8,20.000", "2,dummy,8,10.000",
                                 "2,dummy-again,8,40.000"])
        self.assertAlmostEqual(figure[0], 0.5 ** 0.5)  # of 10/20 and 20/20

    def test_a_window_without_steps_is_no_figure(self):
        with self.assertRaises(common.Failure):
            beside.statistics(run_of([], steps=[step(5.0, 6.0)]), 10.0, 10.0, -1)


class Files(unittest.TestCase):
    def test_rows_that_another_campaign_writes_are_left_alone(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "rows.csv")
            with common.open_alone(path) as first:
                first.write("one\n")
                first.flush()
                with self.assertRaises(common.Failure):
                    common.open_alone(path)
            with open(path, encoding="utf-8") as file:
                self.assertEqual(file.read(), "one\n")
            common.open_alone(path).close()
            self.assertEqual(os.path.getsize(path), 0)

    def test_a_place_that_cannot_be_written_costs_no_figures(self):
        with tempfile.TemporaryDirectory() as folder:
            plain = os.path.join(folder, "plain")
            open(plain, "w", encoding="utf-8").close()
            for script in (detect, soak, store_outage):
                argv, sys.argv = sys.argv, [script.__name__, "--out", os.path.join(plain, "out")]
                real, common.run_eep = common.run_eep, lambda *_: self.fail("it measures")
                try:
                    with self.assertRaises(OSError):
                        script.main()
                finally:
                    sys.argv, common.run_eep = argv, real

    def test_kept_rows_are_not_written_over_unasked(self):
        for script in (failed_ranks, fleets, model_check, paper_size, plan):
            argv, sys.argv = sys.argv, [script.__name__]
            try:
                self.assertTrue(script.parse().out.startswith("out/"), script.__name__)
            finally:
                sys.argv = argv

    def test_older_rows_stay_until_there_are_new_ones(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "rows.csv")
            common.Rows(path, ["a"]).close()
            self.assertFalse(os.path.exists(path), "an empty file is left")
            with open(path, "w", encoding="utf-8") as file:
                file.write("older\n")
            rows = common.Rows(path, ["a"])
            with open(path, encoding="utf-8") as file:
                self.assertEqual(file.read(), "older\n")
            rows.begin({"versions": {}, "commit": "c"}, None)
            rows.begin({"versions": {}, "commit": "c"}, None)
            rows.add({"a": 1})
            rows.close()
            with open(path, encoding="utf-8") as file:
                self.assertEqual([line for line in file if line[0] != "#"], ["a\n", "1\n"])

    def test_others_locks_keep_no_campaign_out(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "rows.csv")
            with open(path, "w", encoding="utf-8"), open(path, encoding="utf-8") as readers:
                fcntl.flock(readers, fcntl.LOCK_SH)  # whoever may read it can
                rows = common.Rows(path, ["a"])
                self.assertEqual(os.stat(path + ".lock").st_mode & 0o777, 0o600)
                with self.assertRaisesRegex(common.Failure, "another campaign writes"):
                    common.Rows(path, ["a"])
                rows.close()
                self.assertEqual(os.listdir(folder), ["rows.csv"])

    def test_a_lost_output_ends_no_campaign(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            output = common.Output(full)
            print("a line", file=output, flush=True)
            print("another", file=output, flush=True)
            self.assertEqual(output.lost.errno, errno.ENOSPC)


class Detection(unittest.TestCase):
    def test_first_suspicion_of_each_survivor_counts(self):
        run = run_of(JOINED + [event(100.1, 2, "kill"), event(105.0, 0, "suspected", (2, 1)),
                               event(106.0, 0, "suspected", (2, 1), value=3),
                               event(107.0, 1, "suspected", (2, 1)),
                               event(109.0, 3, "suspected", (2, 1), value=3)], [FAULT])
        faults, survivors = detect.rows_of(run, BASE)
        self.assertEqual([row["known_ms"] for row in survivors], [5.0, 7.0, 9.0])
        self.assertEqual([row["evidence"] for row in survivors], ["exit", "exit", "silent"])
        self.assertEqual((faults[0]["first_ms"], faults[0]["last_ms"]), (5.0, 9.0))

    def test_other_generations_and_earlier_suspicions_do_not_count(self):
        run = run_of(JOINED + [event(50.0, 0, "suspected", (2, 1)),
                               event(120.0, 0, "suspected", (2, 2))], [FAULT])
        self.assertEqual(detect.knowledge(run, FAULT, (0, 1)), (None, "never"))

    def test_a_view_tells_who_had_no_evidence(self):
        run = run_of(JOINED + [event(111.0, 3, "installed", epoch=2)], [FAULT])
        self.assertEqual(detect.knowledge(run, FAULT, (3, 1)), (11.0, "view"))

    def test_who_is_gone_or_came_later_is_no_survivor(self):
        run = run_of(JOINED + [event(20.0, 1, "kill"), event(99.0, 3, "exit"),
                               event(150.0, 1, "joined", generation=2)], [FAULT])
        self.assertEqual(detect.survivors_of(run, FAULT), [(0, 1)])

    def test_all_knew_only_if_all_did(self):
        run = run_of(JOINED + [event(105.0, 0, "suspected", (2, 1))], [FAULT])
        faults, _ = detect.rows_of(run, BASE)
        self.assertEqual((faults[0]["survivors"], faults[0]["knew"]), (3, 1))
        self.assertIsNone(faults[0]["last_ms"])


class Soak(unittest.TestCase):
    def test_suspicion_that_was_taken_back(self):
        run = run_of(JOINED + [event(5.0, 0, "suspected", (2, 1), value=3)])
        self.assertEqual(soak.expulsions(run), (set(), set(), 1, 1))

    def test_expulsion(self):
        run = run_of(JOINED + [event(5.0, 0, "suspected", (2, 1), value=3),
                               event(6.0, 0, "installed", epoch=2),
                               event(6.0, 1, "installed", epoch=2)], [FAULT])
        self.assertEqual(soak.expulsions(run), ({2}, {(2, 1)}, 1, 0))

    def test_ends_after_serving_are_no_faults(self):
        run = run_of([event(10.0, 1, "exit"), event(31.0, 2, "exit")], duration_ms=30.0)
        self.assertEqual(soak.ended_early(run), {(1, 1)})


class StoreOutage(unittest.TestCase):
    def test_window(self):
        run = run_of([], steps=[step(10, 20), step(20, 30, 1), step(60, 70), step(80, 90, status=5),
                                step(100, 110)])
        self.assertEqual(store_outage.window(run, 0, 100),
                         {"steps": 3, "aborted": 1, "rate": 30.0, "p99_ms": 10,
                          "longest_gap_ms": 40})

    def test_expelled_after_the_store_is_back(self):
        other = dict(FAULT, rank=1, kind="expelled")
        run = run_of(JOINED + [event(104.0, 0, "suspected", (2, 1)),
                               event(520.0, 0, "installed", epoch=2)], [FAULT, other],
                     [step(525.0, 530.0)])
        _, facts = store_outage.fault_facts(run, 2, 500.0)
        self.assertEqual((facts["detect_ms"], facts["view_after_store_ms"],
                          facts["step_after_store_ms"]), (4.0, 20.0, 30.0))
        self.assertEqual((facts["expelled"], facts["expelled_living"], facts["joined"]), (1, 1, 0))


class Restart(unittest.TestCase):
    PARTS = dict.fromkeys(restart.OF_RESTART, 10.0)
    LEFT = {"good": True, "requests_failed": 3, "captures_after_start": {"healthy": 0},
            "throughput": {"back_ms": 900.0}}

    def run_of(self, **summary):
        run = run_of([], **{**self.LEFT, **summary})
        run.tokens = [50.0, 90.0, 100.0, 190.0, 200.0]
        run.startup = [{"start": "first", "cached": "1.000"}, {"start": "restart", "cached": "0.125"}]
        return run

    def test_a_restart_has_its_parts_and_its_failed_requests(self):
        again = {"time_ms": 95.0, "pause_ms": 80.0, "prefill_ms": 7.0, "tokens_discarded": 12,
                 **self.PARTS}
        run = self.run_of(faults=[{"pause_ms": None}], restarts=[again])
        self.assertEqual(restart.wrong_of(run, "restart"), "")
        row = restart.row_of(run, "restart", round=1, weights="cold", seed=1)
        self.assertEqual((row["exit_ms"], row["pause_ms"], row["prefill_ms"]), (10.0, 80.0, 7.0))
        self.assertEqual((row["requests_failed"], row["tokens_discarded"]), (3, 12))
        self.assertEqual((row["silent_ms"], row["back_ms"], row["cached"]), (90.0, 900.0, 0.125))
        self.assertIsNone(row["rerun_ms"])

    def test_an_elastic_run_has_its_pause_and_the_parts_of_the_join(self):
        pause = {"time_ms": 95.0, "pause_ms": 9.0, **dict.fromkeys(restart.OF_PAUSE, 2.25)}
        run = self.run_of(faults=[pause], restarts=[], requests_failed=0,
                          joins=[dict.fromkeys(restart.OF_START, 5.0)])
        run.startup = [{"start": "first", "cached": ""}, {"start": "join", "cached": ""}]
        row = restart.row_of(run, "elastic", round=1, weights="seed", seed=1)
        self.assertEqual((row["rerun_ms"], row["load_ms"], row["exit_ms"]), (2.25, 5.0, None))
        self.assertIsNone(row["cached"])

    def test_what_is_wrong_is_told_and_failed_requests_of_a_restart_are_not(self):
        one = {"pause_ms": 80.0}
        self.assertIn("requests_failed = 3",
                      restart.wrong_of(self.run_of(faults=[one], restarts=[]), "elastic"))
        self.assertIn("tokens_wrong = 1", restart.wrong_of(
            self.run_of(faults=[], restarts=[one], tokens_wrong=1), "restart"))
        two = self.run_of(faults=[one, one], restarts=[])
        self.assertFalse(restart.has_one_pause(two, "elastic"), "another rank was expelled, too")
        self.assertTrue(restart.has_one_pause(self.run_of(faults=[one], restarts=[]), "elastic"))
        nothing = self.run_of(faults=[], restarts=[{"pause_ms": None}])
        self.assertFalse(restart.has_one_pause(nothing, "restart"))

    def test_the_silence_is_the_longest_gap_that_ends_behind_the_fault(self):
        self.assertEqual(restart.silent_ms([0.0, 50.0, 60.0, 65.0], 58.0), 10.0)
        self.assertIsNone(restart.silent_ms([1.0, 2.0], 5.0))


if __name__ == "__main__":
    unittest.main()
