#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What the figures say, on rows written by hand. Needs matplotlib; without it nothing is tested,
and it says so."""

import json
import os
import subprocess
import sys
import tempfile
import unittest
import unittest.mock
import warnings

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.environ.get("EEP_FIGURES", os.path.join(ROOT, "paper-figs")))
try:
    import all_figures
    import availability
    import figure_inputs
    import pause_parts
    import plan_picture
    import predicted
    import source_mix
    import static_overhead
    import throughput_kept
    import time_to_95
    import timeline
    import per_k
except ImportError:
    print("skipped: timeline.py draws nothing without matplotlib")
    sys.exit(0)

PAUSE = {"detect_ms": 3.0, "agree_ms": 2.0, "repair_ms": 0.0, "rerun_ms": 4.0, "pause_ms": 9.0}


def fault(time_ms, rank, kind="kill", pause=True, **more):
    parts = PAUSE if pause else dict.fromkeys(PAUSE)
    return {"rank": rank, "generation": 1, "kind": kind, "time_ms": time_ms, **parts, **more}


def event(time_ms, seat, kind, value=0):
    return f"{time_ms},{seat},1,{kind},{seat},1,0,{value}\n"


RESTART = {"rank": 1, "generation": 1, "time_ms": 1500.0, "detect_ms": 2.0, "exit_ms": 10.0,
           "spawn_ms": 16.0, "open_ms": 100.0, "load_ms": 300.0, "capture_ms": 1.0,
           "enter_ms": 11.0, "token_ms": 60.0, "pause_ms": 500.0, "requests_failed": 3}


def run_of(faults, events="", joins=(), **more):
    """A timeline.Run of four seats that step every 10 ms for 2 s."""
    with tempfile.TemporaryDirectory() as folder:
        def write(name, text):
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write(text)
        write("summary.json", json.dumps({"faults": list(faults), "joins": list(joins), **more}))
        write("steps.csv", "seat,generation,begin_ms,end_ms,status\n" + "".join(
            f"{seat},1,{at},{at + 9},0\n" for at in range(0, 2000, 10) for seat in range(4)))
        write("tokens.csv", "time_ms\n" + "".join(f"{at}\n" for at in range(0, 2000, 10)))
        write("events.csv", "time_ms,seat,generation,kind,about_seat,about_generation,epoch,value\n"
              + events)
        return timeline.Run(folder)


def restarted(*restarts):
    """A run with fixed membership, in which rank 1 is killed."""
    return run_of([fault(1500.0, 1, pause=False)], baseline="restart", restarts=list(restarts),
                  requests_failed=3)


def texts_of(run, other=None):
    """Everything that the figure of the run says, or that of two runs."""
    figures = []
    save = timeline.plt.Figure.savefig
    timeline.plt.Figure.savefig = lambda self, *_, **__: figures.append(self)
    try:
        if other:
            timeline.draw_beside(run, other, "")
        else:
            timeline.draw(run, "")
    finally:
        timeline.plt.Figure.savefig = save
    figure = figures[0]
    found = [text.get_text() for axis in figure.axes for text in axis.texts]
    found += [text.get_text() for text in figure.texts]
    found += [axis.get_xlabel() for axis in figure.axes]
    found += [axis.get_title(loc="left") for axis in figure.axes]
    found += [text.get_text() for axis in figure.axes if axis.get_legend()
              for text in axis.get_legend().get_texts()]
    timeline.plt.close(figure)
    return [text for text in found if text]


class Timeline(unittest.TestCase):
    def test_seats_of_one_moment_keep_their_own_parts(self):
        """The summary lists them by seat, the events by the moment of the signal."""
        run = run_of([fault(1000.9, 1, detect_ms=1.0), fault(1000.1, 3, detect_ms=33.0)],
                     event(1000.1, 3, "kill") + event(1000.9, 1, "kill"))
        shown = timeline.first_fault(run)
        self.assertEqual((shown["rank"], shown["detect_ms"]), (3, 33.0))
        texts = texts_of(run)
        self.assertIn("time since the kill of seat 3, ms", texts)
        self.assertIn("kill seats 1, 3", texts)

    def test_a_fault_after_the_last_step_is_in_the_picture(self):
        """Its label stands on the left of its line, and the layout has room for everything."""
        run = run_of([fault(1000.0, 1, detect_ms=1.0), fault(2900.0, 3)],
                     event(1000.0, 1, "kill") + event(2900.0, 3, "kill"))
        self.assertEqual(run.end_ms, 2900.0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self.assertIn("kill seat 3", texts_of(run))

    def test_every_kind_is_shown_by_its_name(self):
        kinds = ("kill", "abort", "stop", "die", "exit", "killed", "expelled", "slow")
        run = run_of([fault(200.0 * (i + 1), i % 4, kind) for i, kind in enumerate(kinds)])
        self.assertEqual([(one.seat, one.time_ms) for one in run.marks],
                         [(i % 4, 200.0 * (i + 1)) for i in range(len(kinds))])
        self.assertEqual(run.marks[2].word, "stop")
        self.assertEqual(timeline.first_fault(run)["kind"], "kill")

    def test_the_close_up_is_of_a_fault_that_made_a_pause(self):
        """A stop that ended in time has no parts; the kill's are not drawn in its place."""
        run = run_of([fault(500.0, 2, "stop", pause=False), fault(1000.0, 1)],
                     event(500.0, 2, "stop", 100) + event(1000.0, 1, "kill"))
        self.assertIn("time since the kill of seat 1, ms", texts_of(run))
        self.assertEqual([(one.word, one.seat) for one in run.marks], [("stop", 2), ("kill", 1)])

    def test_without_any_pause_no_part_is_claimed(self):
        texts = texts_of(run_of([fault(500.0, 2, "stop", pause=False)]))
        self.assertIn("time since the stop of seat 2, ms", texts)
        self.assertIn("no pause measured", texts)

    def test_a_drain_and_a_slow_rank_are_marked_and_are_no_fault(self):
        run = run_of([], event(300.0, 1, "slow", 3000) + event(600.0, 1, "slow", 1000)
                     + event(900.0, 2, "drain"))
        self.assertEqual([(one.word, one.seat) for one in run.marks], [("slow", 1), ("drain", 2)])
        self.assertIsNone(timeline.first_fault(run))
        self.assertIn("drain seat 2", texts_of(run))

    def test_many_marks_are_named_by_their_seats(self):
        run = run_of([fault(150.0 * i + 100, i % 4) for i in range(12)])
        self.assertEqual([text for text in texts_of(run) if text.isdigit()],
                         [str(i % 4) for i in range(12)])


class Caption(unittest.TestCase):
    def test_a_run_says_how_it_was_made(self):
        run = run_of([fault(1000.0, 1)], commit="abc", seed=7, machine={"cpu": "A CPU", "cores": 2})
        self.assertIn("measured, commit abc, A CPU, 2 cores, seed 7, n 1 run", texts_of(run))

    def test_what_a_summary_does_not_have_is_not_made_up(self):
        self.assertIn("measured, commit unknown, machine unknown, n 1 run", texts_of(run_of([])))

    def test_emulated_and_modelled_runs_are_named(self):
        emulated = run_of([], commit="abc", model={"expert_us": 100})
        self.assertIn("measured with emulated expert time, commit abc", texts_of(emulated)[0])
        modelled = run_of([], modelled="eep-plan of commit abc, --seed 1")
        self.assertIn("modelled, not measured: eep-plan of commit abc, --seed 1, n 1 run", texts_of(modelled))

    def test_each_of_two_runs_has_a_line(self):
        texts = texts_of(run_of([fault(1000.0, 2)], commit="abc"), restarted(RESTART))
        self.assertIn("elastic: measured, commit abc, machine unknown, n 1 run", texts)
        self.assertIn("full restart: measured, commit unknown, machine unknown, n 1 run", texts)


class Restart(unittest.TestCase):
    def test_a_restart_is_named_and_its_parts_are_the_close_up(self):
        texts = texts_of(restarted(RESTART))
        self.assertIn("baseline restart: 3 requests failed and were sent again", texts)
        self.assertIn("time since the kill of seat 1, ms", texts)
        self.assertIn("pause 500.0 ms", texts)
        for part in ("exit 10.0 ms", "load 300.0 ms", "capture 1.0 ms"):
            self.assertIn(part, texts)

    def test_a_restart_that_came_to_no_token_claims_no_part(self):
        nothing = {name: None if name.endswith("_ms") and name != "time_ms" else value
                   for name, value in RESTART.items()}
        texts = texts_of(restarted(nothing))
        self.assertIn("no pause measured", texts)
        run = restarted(nothing, {**RESTART, "time_ms": 1600.0})
        self.assertEqual(timeline.first_pause(run).time_ms, 1600.0)

    def test_two_runs_say_pauses_and_failed_requests(self):
        elastic = run_of([fault(1000.0, 2)], throughput={"back_ms": 0.0})
        other = restarted(RESTART)
        other.summary["throughput"] = {"back_ms": 1234.0}
        other.summary["load"] = {"keep_busy": 16}
        texts = texts_of(elastic, other)
        self.assertIn("elastic: pause 9 ms, 0 requests failed", texts)
        self.assertIn("full restart: pause 500 ms, 3 requests failed and were sent again, "
                      "throughput back at 95 % after 1.23 s", texts)
        for text in (" kill of seat 2", "9 ms", "500 ms", "load 300", "open 100",
                     "time since the kill of seat 2, ms"):
            self.assertIn(text, texts)
        self.assertNotIn("capture 1", texts, "there is no room for it")

    def test_only_a_closed_load_tells_when_tokens_came_as_before(self):
        """What arrives at a rate, or in a trace, need not be the same before and after the fault."""
        for load in ({}, {"load": None}, {"load": {"keep_busy": None, "rate_per_s": 40.0}}):
            other = restarted(RESTART)
            other.summary.update({"throughput": {"back_ms": 1234.0}, **load})
            texts = texts_of(run_of([fault(1000.0, 2)]), other)
            self.assertIn("full restart: pause 500 ms, 3 requests failed and were sent again", texts)

    def test_the_second_run_is_moved_to_the_fault_of_the_first(self):
        drawn = []
        bars = timeline.draw_lanes
        timeline.draw_lanes = lambda axis, run, shift=0.0, **how: drawn.append(shift)
        try:
            texts_of(run_of([fault(1000.0, 2)]), restarted(RESTART))
        finally:
            timeline.draw_lanes = bars
        self.assertEqual(drawn, [0.0, -500.0])

    def test_a_run_without_a_fault_is_refused(self):
        with self.assertRaises(timeline.BadInput):
            timeline.draw_beside(run_of([]), restarted(RESTART), "")


def summary_of(*faults, **more):
    return {"commit": "c", "seed": 3, "ranks": 8, "throughput": {"before": 100.0, "degraded": 80.0},
            "faults": list(faults), **more}


def lost(rank, epoch, pause=9.0, fills=0, **more):
    sources = {name: {"fills": fills, "bytes": 0} for name, _ in per_k.SOURCES}
    return fault(100.0, rank, expelled=True, epoch=epoch, sources=sources, weights_bytes_in_pause=5,
                 **{**{"pause_ms": pause}, **more})


class PerK(unittest.TestCase):
    def test_faults_of_one_view_are_one_loss(self):
        row = per_k.row_of("r", summary_of(lost(1, 2), lost(4, 2, fills=3), lost(5, 7)))
        self.assertEqual((row["k"], row["pause_ms"], row["weights_bytes"]), (2, 9.0, 10))
        self.assertEqual((row["own_backup"], row["before"], row["degraded"]), (3, 100.0, 80.0))

    def test_what_none_healed_or_expelled_is_no_loss(self):
        self.assertIsNone(per_k.row_of("r", summary_of(fault(1.0, 1, pause=False, expelled=True))))
        self.assertIsNone(per_k.row_of("r", summary_of(fault(1.0, 1, expelled=False, epoch=2))))

    def test_folders_become_a_picture_and_rows(self):
        with tempfile.TemporaryDirectory() as folder:
            for number, summary in enumerate((summary_of(lost(1, 2)), summary_of(),
                                              summary_of(lost(1, 2), lost(2, 2), machine={
                                                  "cpu": "a CPU", "cores": 2})), 1):
                os.makedirs(os.path.join(folder, f"{number:04}"))
                with open(os.path.join(folder, f"{number:04}", "summary.json"), "w", encoding="utf-8") as file:
                    json.dump(summary, file)
            picture = os.path.join(folder, "per_k.png")
            rows, cpus = per_k.read([folder])
            self.assertEqual([row["k"] for row in rows], [1, 2])
            self.assertEqual(cpus, {"unknown", "a CPU, 2 cores"})
            per_k.draw(rows, cpus, picture)
            self.assertGreater(os.path.getsize(picture), 1000)
            with self.assertRaises(per_k.BadInput):
                per_k.read([os.path.join(folder, "0001")])


    def test_the_legend_tells_experts_from_slots(self):
        figure, (axis,) = per_k.kept_rows.make_figure(1, (4, 4))
        per_k.draw_sources(axis, [per_k.row_of("r", summary_of(lost(1, 2, fills=3)))], [1])
        labels = axis.get_legend_handles_labels()[1]
        per_k.kept_rows.plt.close(figure)
        self.assertEqual([label for label in labels if label.startswith("experts")], ["experts: local reuse"])
        self.assertIn("slots: own backup", labels)


class Paper(unittest.TestCase):
    """The figures beside arXiv 2605.10670, on rows written by hand."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.texts = []
        save = timeline.plt.Figure.savefig

        def keep(figure, *_, **__):
            found = [text.get_text() for axis in figure.axes for text in axis.texts]
            self.texts += found + [text.get_text() for text in figure.texts]
            self.texts += [axis.get_title() for axis in figure.axes]
            timeline.plt.close(figure)
        timeline.plt.Figure.savefig = keep
        self.addCleanup(setattr, timeline.plt.Figure, "savefig", save)

    def rows(self, name, columns, rows, command="x.py --seed 7"):
        path = os.path.join(self.folder.name, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write("# commit abcdef123456 (eep-run was built from x)\n# machine A CPU, 2 cores, load 3.00\n"
                       f"# command {command}\n" + ",".join(columns) + "\n")
            file.writelines(",".join(str(row.get(name, 0)) for name in columns) + "\n" for row in rows)
        return path

    def mix(self, failed=(1, 2, 4, 8, 16)):
        sources = [name for name, _, _ in source_mix.SOURCES]
        columns = ["loads", "how", "failed", "draws"] + [
            f"{prefix}{name}_percent" for name in sources for prefix in ("", "anew_")]
        return self.rows("summary.csv", columns, [
            {"loads": "even", "how": "random", "failed": k, "draws": 1000, "unchanged_percent": 90,
             "own_node_backup_percent": 10, "anew_live_replica_percent": 100} for k in failed])

    def mix_of_runs(self):
        fills = [f"fill_{name}" for name, _, _ in source_mix.SOURCES[1:]]
        return self.rows("mix.csv", ["failed", "slots", *fills], [
            {"failed": k, "slots": 40, "fill_own_node_backup": 6} for k in (1, 2, 4, 8, 16)])

    def test_a_caption_says_what_rows_are_and_how_they_were_made(self):
        source_mix.draw({"modelled": self.mix(), "measured": self.mix_of_runs()}, os.path.join(self.folder.name, "x.png"))
        caption = next(text for text in self.texts if text.startswith("modelled: "))
        for part in ("summary.csv", "commit abcdef123456", "seed 7", "n 1000"):
            self.assertIn(part, caption)
        self.assertNotIn("A CPU", caption)  # the machine has no part in it
        self.assertIn("40.5", self.texts)   # the paper's
        self.assertEqual(self.texts.count("90.0"), 5)
        self.assertEqual(self.texts.count("85.0"), 5)  # measured: 6 of 40 slots were filled

    def test_seeds_are_those_of_rows_or_of_the_command(self):
        for columns, rows, command, seeds in (
                (["a"], [{}], "x.py", ""), (["a"], [{}], "x.py --seed 7", "seed 7"),
                (["a", "seed"], [{"seed": 3}, {"seed": 3}], "x.py", "seed 3"),
                (["a", "seed"], [{"seed": 12}, {"seed": 9}], "x.py --seed 7", "seeds 9 to 12")):
            kept = figure_inputs.Rows(self.rows("s.csv", columns, rows, command), "measured", {"a"})
            self.assertEqual(kept.seeds(), seeds)
            self.assertEqual("seed" in kept.caption("2 runs"), bool(seeds))
        with self.assertRaisesRegex(figure_inputs.BadInput, "column seed"):
            figure_inputs.Rows(self.rows("s.csv", ["seed"], [{"seed": "x"}]), "measured", {"seed"}).caption("1")

    def test_n_is_the_number_of_a_bar(self):
        row = {"ranks": 8, "pause_ms": 1500, "reprefill_s": 6, "back_95_s": 2.5}
        path = self.rows("runs.csv", ["failed", *row], [{"failed": k, **row} for k in (1, 1, 2, 2, 2)])
        time_to_95.draw({"measured": path}, os.path.join(self.folder.name, "x.png"))
        self.assertTrue(any("n 2 to 3 runs a bar" in text.replace("\n", " ") for text in self.texts), self.texts)
        setup = "tokens 1; bf16 dispatch"
        path = self.rows("bench.csv", ["setup", "metric", "n", "value", "low", "high"], [
            {"setup": setup, "metric": "elastic_over_fixed", "n": 12, "value": 1, "low": 1, "high": 1},
            {"setup": setup, "metric": "fixed_again_half_width", "n": 1, "value": 0.1}])
        static_overhead.draw({"measured": path}, os.path.join(self.folder.name, "x.png"))
        self.assertTrue(any("n 12 blocks a case" in text for text in self.texts), self.texts)

    def test_a_missing_number_of_ranks_is_named(self):
        with self.assertRaisesRegex(source_mix.BadInput, r"\[8, 16\]"):
            source_mix.draw({"modelled": self.mix((1, 2, 4)), "measured": self.mix_of_runs()}, "x.png")

    def test_rows_that_were_measured_name_the_machine(self):
        path = self.rows("runs.csv", ["ranks", "failed", "pause_ms", "reprefill_s", "back_95_s"],
                         [{"ranks": 8, "failed": 4, "pause_ms": 1500, "reprefill_s": 6, "back_95_s": 2.5},
                          {"ranks": 8, "failed": 4, "pause_ms": 1700, "reprefill_s": 6, "back_95_s": ""}])
        time_to_95.draw({"measured": path}, os.path.join(self.folder.name, "x.png"))
        caption = next(text for text in self.texts if text.startswith("measured"))
        self.assertIn("emulated expert time", caption)
        self.assertIn("A CPU, 2 cores", caption)
        self.assertIn("2.5\n1 of 2", self.texts)  # one run did not get there, and it is said

    def measured(self, ranks, runs):
        """Rows of failed_ranks.py: `runs` are (failed, detect, agree, repair, rerun)."""
        names = [f"{part}_ms" for part, _ in pause_parts.PARTS]
        return self.rows("runs.csv", ["ranks", "failed", "pause_ms", "kept_percent", "after_percent", *names], [
            {"ranks": ranks, "failed": failed, "pause_ms": sum(parts), "kept_percent": 60, "after_percent": 99,
             **dict(zip(names, parts))} for failed, *parts in runs])

    def pause_bars(self, runs):
        rows = figure_inputs.Rows(self.measured(8, runs), "measured", {"failed"})
        figure, (axis,) = pause_parts.kept_rows.make_figure(1, (4, 4))
        pause_parts.draw_measured(axis, rows)
        said = [text.get_text() for text in axis.texts] + [axis.get_title(), axis.get_xlabel()]
        timeline.plt.close(figure)
        return said

    def test_the_parts_of_a_bar_add_up_to_a_pause_that_was_measured(self):
        """Medians of the parts are 1 + 10 + 1 + 100: less than the pause of any run."""
        said = self.pause_bars([(1, 1, 500, 1, 100), (1, 30, 10, 90, 200), (1, 1, 10, 1, 700)])
        self.assertEqual(said[0], "602")

    def test_rows_of_fewer_ranks_are_called_that(self):
        said = self.pause_bars([(1, 1, 2, 3, 4), (2, 1, 2, 3, 4)])
        self.assertIn("failed ranks of 8", said)
        self.assertTrue(any("8 processes on 2 cores" in text for text in said), said)
        path = self.measured(8, [(1, 1, 2, 3, 4), (2, 1, 2, 3, 4)])
        rows = figure_inputs.Rows(path, "measured", {"failed"})
        figure, (axis,) = throughput_kept.kept_rows.make_figure(1, (4, 4))
        throughput_kept.draw_measured(axis, rows)
        left, = (line for line in axis.lines if line.get_label() == "ranks left, %")
        self.assertEqual(list(left.get_ydata()), [87.5, 75.0])
        timeline.plt.close(figure)
        kept = {"loads": "even", "how": "random", "failed": "1", "throughput_kept": "0.97"}
        self.assertEqual(predicted.kept_pairs([kept], rows), [], "the model is of 32 ranks")

    def test_rows_of_several_numbers_of_ranks_are_refused(self):
        path = self.rows("runs.csv", ["ranks", "failed"], [{"ranks": 8, "failed": 1}, {"ranks": 32, "failed": 1}])
        with self.assertRaisesRegex(figure_inputs.BadInput, "column ranks.*32, 8"):
            figure_inputs.Rows(path, "measured", {"ranks"}).ranks()

    def test_a_figure_without_rows_is_one_line(self):
        figures = os.environ.get("EEP_FIGURES", os.path.join(ROOT, "paper-figs"))
        ran = subprocess.run([sys.executable, "-B", os.path.join(figures, "source_mix.py"), "--modelled",
                              "/none", "--out", "/none.png"], text=True, stderr=subprocess.PIPE, check=False)
        self.assertEqual((ran.returncode, ran.stderr.count("\n")), (2, 1))
        self.assertIn("/none", ran.stderr)

    def test_every_figure_of_the_list_has_its_script(self):
        self.assertIn("--beside", all_figures.FIGURES["restart"])
        for name, (script, *_) in all_figures.FIGURES.items():
            self.assertTrue(os.path.exists(os.path.join(ROOT, "paper-figs", script)), name)


class Availability(unittest.TestCase):
    COLUMNS = ("gpus", "mtbf_h", "width", "regime", "pauses", "blast_share_of_fleet",
               "downtime_h_per_year", "lost_gpu_h_per_fault", "downtime_correlated", "seed")

    def drawn(self, lines):
        """The figure of these regimes at two MTBFs, two fleets and two widths."""
        rows = [",".join(self.COLUMNS)] + [
            f"{gpus},{mtbf_h},{width},{regime},{pauses},{width / gpus},{3 * width / mtbf_h},"
            f"{width},{4 * width / mtbf_h},1" for gpus in (1000, 10000) for mtbf_h in (10000, 80000)
            for width in (32, 96) for regime, pauses in lines]
        figures = []
        save = availability.kept_rows.save_figure
        availability.kept_rows.save_figure = lambda figure, *_: figures.append(figure)
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, "availability.csv")
                with open(path, "w", encoding="utf-8") as file:
                    file.write("# commit 1\n" + "\n".join(rows) + "\n")
                availability.draw(path, "")
        finally:
            availability.kept_rows.save_figure = save
        self.addCleanup(timeline.plt.close, figures[0])
        return figures[0]

    def test_it_says_that_it_is_modelled_and_keeps_sources_apart(self):
        lines = list(availability.LINES)
        figure = self.drawn(lines)
        self.assertIn("Modelled", figure._suptitle.get_text())
        names = [text.get_text() for text in figure.legends[0].get_texts()]
        self.assertEqual(names, [name for _, name in availability.LINES.values()])
        downtime = figure.axes[2]
        colours = [line.get_color() for line in downtime.lines if line.get_linestyle() != "--"]
        self.assertEqual(len(set(colours)), len(lines))
        # Each line has the figures of its own fleet and MTBF.
        first = downtime.lines[0]
        self.assertEqual([list(first.get_xdata()), list(first.get_ydata())],
                         [[32, 96], [3 * 32 / 10000, 3 * 96 / 10000]])

    def test_a_regime_that_it_does_not_know_is_named(self):
        with self.assertRaisesRegex(availability.BadInput, "magic"):
            self.drawn([("restart", "paper"), ("magic", "paper")])


class PartsOfThePause(unittest.TestCase):
    def test_measured_and_modelled_parts_are_told_apart(self):
        """The legend says of each part which it is, and no caption has both kinds."""
        for module, paths in (
                (pause_parts, {"modelled": "paper-size/summary.csv", "measured": "failed-ranks/runs.csv",
                               "constants": "paper-size/plan-1.json"}),
                (plan_picture, {"plan": "paper-size/plan-16.json"})):
            said, legends = [], []

            def take(figure, _, captions, said=said, legends=legends):
                said.extend(captions)
                legends.extend(text.get_text() for axis in figure.axes if axis.get_legend()
                               for text in axis.get_legend().get_texts())
                timeline.plt.close(figure)
            with unittest.mock.patch.object(figure_inputs, "save", take):
                module.draw({name: os.path.join(figure_inputs.RESULTS, path) for name, path in paths.items()}, "")
            for part, kind in (("detect", "measured"), ("agree", "measured"), ("repair", "modelled"),
                               ("rerun", "modelled")):
                self.assertTrue(any(text.startswith(part) and text.endswith(f", {kind}") for text in legends),
                                (module.__name__, part, legends))
            self.assertTrue(any(line.startswith("measured") and "detect 6.7 ms" in line for line in said), said)
            self.assertTrue(any(line.startswith("modelled") for line in said), said)
            self.assertFalse([line for line in said if "measured" in line and "modelled" in line])


class Missing(unittest.TestCase):
    def test_no_matplotlib_is_one_line(self):
        figures = os.environ.get("EEP_FIGURES", os.path.join(ROOT, "paper-figs"))
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "matplotlib.py"), "w", encoding="utf-8") as file:
                file.write("raise ImportError('none here')\n")
            for name in ("availability.py", "detection.py", "pauses.py", "pause_parts.py", "plan_picture.py",
                         "predicted.py", "redundancy.py",
                         "reintegration.py", "source_mix.py", "static_overhead.py", "throughput_kept.py",
                         "time_to_95.py", "timeline.py", "wide_hosts.py"):
                ran = subprocess.run([sys.executable, "-B", os.path.join(figures, name)], text=True,
                                     stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": folder},
                                     check=False)
                self.assertEqual(ran.stderr, f"{name}: none here: the figures need matplotlib "
                                 "(Debian: python3-matplotlib)\n")


if __name__ == "__main__":
    unittest.main()
