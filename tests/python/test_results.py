#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Figures in README.md and experiments/results/README.md, computed again from the rows that are
kept beside them. A figure that its rows do not give is named, with what they give."""

import csv
import json
import math
import os
import re
import sys
import unittest

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KEPT = os.path.join(ROOT, "experiments", "results")
sys.path.insert(0, os.path.join(ROOT, "experiments", "measure"))
import beside
import chains
import common
import cycles
import pause_pair
import restart

MAIN, RESULTS = "README.md", "experiments/results/README.md"
STATUS, PLACEMENT = "docs/STATUS.md", "docs/PLACEMENT.md"


def value_of(text):
    try:
        return float(text)
    except ValueError:
        return text


def rows_of(name):
    with open(os.path.join(KEPT, name), newline="", encoding="utf-8") as file:
        lines = [line for line in file if not line.startswith("#")]
    return [{key: value_of(text) for key, text in row.items()} for row in csv.DictReader(lines)]


def json_of(name):
    with open(os.path.join(KEPT, name), encoding="utf-8") as file:
        return json.load(file)


def text_of(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        return re.sub(r"[ \t]+", " ", file.read())


def line_of(name, begin):
    """The one line of the document that begins so."""
    lines = [line for line in text_of(name).splitlines() if line.startswith(begin)]
    if len(lines) != 1:
        raise AssertionError(f"{name}: {len(lines)} lines begin with '{begin}', expected 1")
    return lines[0]


def quantiles(values, digits=1):
    """"p50 15.2, p99 20.1, max 20.1" """
    return (f"p50 {common.quantile(values, 50):.{digits}f}, "
            f"p99 {common.quantile(values, 99):.{digits}f}, max {max(values):.{digits}f}")


class Results(unittest.TestCase):
    maxDiff = None

    def says(self, name, begin, *parts):
        line = line_of(name, begin)
        for part in parts:
            self.assertIn(part, line, f"\n{name}: the rows give '{part}'")

    def test_cycles(self):
        looks = {}
        for row in rows_of("cycles-2000/cycles.csv"):
            looks.setdefault(int(row["cycle"]), {})[row["process"]] = row
        last = max(looks)
        parts = [f"{last:,} kills and rejoins"]
        for name in ("launcher", "rank 0"):
            for key in ("fds", "maps"):
                self.assertEqual(looks[100][name][key], looks[last][name][key], f"{key} of {name}")
            points = [(cycle, look[name]["rss_bytes"]) for cycle, look in sorted(looks.items())
                      if cycle >= 100]
            fds, maps = (int(looks[last][name][key]) for key in ("fds", "maps"))
            parts.append(f"{name} {fds} descriptors, {maps} maps, "
                         f"{cycles.slope(points):,.0f} bytes per cycle")
        self.says(RESULTS, "| `cycles-2000/`", *parts)

    def test_pause(self):
        rows, runs = rows_of("pause.csv"), rows_of("pause-runs.csv")
        pauses = [row["pause_ms"] for row in rows]
        parts = {part: common.quantile([row[f"{part}_ms"] for row in rows], 50)
                 for part in ("detect", "agree", "repair", "rerun")}
        text = (f"detect {parts['detect']:.1f} + agree {parts['agree']:.1f} + "
                f"repair {parts['repair']:.0f} + rerun {parts['rerun']:.1f}")
        count, emitted = f"{len(rows)} kills", int(sum(run["tokens_emitted"] for run in runs))
        bytes_moved = f"{sum(row['weights_bytes_in_pause'] for row in rows):.0f}"
        slowest = f"{max(run['step_p50_ms'] for run in runs):.1f} ms"
        self.says(MAIN, "| recovery pause", quantiles(pauses), text, count)
        self.says(MAIN, "| weight bytes", f"| 0 | {bytes_moved} |")
        self.says(MAIN, "| wrong, lost", f"0 of {emitted:,}")
        self.says(MAIN, "| median step", f"{slowest} in the slowest run")
        self.says(RESULTS, "| `pause.csv`", quantiles(pauses), text, count,
                  f"{bytes_moved} weight bytes", f"median step {slowest} at most")
        for key in ("tokens_wrong", "requests_lost", "requests_failed", "captures_healthy"):
            self.assertEqual(sum(run[key] for run in runs), 0, key)
        error = max(abs(sum(row[f"{part}_ms"] for part in parts) - row["pause_ms"]) for row in rows)
        self.assertLess(error, 0.0015, "the parts sum to the pause")

    def test_constants_of_availability(self):
        """The measured ones of eep-avail are the medians of their rows, to their last digit."""
        with open(os.path.join(ROOT, "experiments/avail/avail_constants.h"), encoding="utf-8") as file:
            told = dict(re.findall(r"#define (AVAIL_\w+_S) +([\d.]+)$", file.read(), re.M))
        pauses = rows_of("pause.csv")
        joins = [row for row in rows_of("join.csv") if row["kind"] == "join"]
        medians = {
            "AVAIL_DETECT_S": [row["detect_ms"] for row in pauses],
            "AVAIL_RECOVERY_S": [row["pause_ms"] - row["detect_ms"] for row in pauses],
            "AVAIL_REINTEGRATION_S": [row["max_ms"] - row["p50_ms"] for row in joins]}
        for name, values in medians.items():
            self.assertEqual(told[name], f"{common.quantile(values, 50) / 1e3:.4f}", name)

    def test_python_steps(self):
        rows = rows_of("python/steps.csv")

        def median(kind, column):
            return common.quantile([row[column] for row in rows if row["kind"] == kind], 50)

        shortest = [min(row["min_us"] for row in rows if row["kind"] == kind)
                    for kind in ("c", "python", "filled")]
        cpu = [median(kind, "cpu_us") for kind in ("c", "python", "filled")]
        self.assertLess(median("python", "p50_us") - median("c", "p50_us"), 50)
        self.says(RESULTS, "| `python/steps.csv`",
                  f"{median('c', 'p50_us'):.1f} us in C, {median('python', 'p50_us'):.1f} us in Python, "
                  f"{median('filled', 'p50_us'):.1f} us with 16 tokens",
                  f"(A/A) {median('c2', 'p50_us'):.1f} us",
                  f"shortest step {shortest[0]:.1f}, {shortest[1]:.1f} and {shortest[2]:.1f} us",
                  f"caller's thread {cpu[0]:.1f}, {cpu[1]:.1f} and {cpu[2]:.1f} us")

    def test_availability(self):
        rows = rows_of("availability/availability.csv")
        off = [(row["downtime_drawn"] - row["downtime_h_per_year"]) / row["downtime_error"]
               for row in rows if row["downtime_error"] > 0]
        square = math.sqrt(sum(value * value for value in off) / len(off))
        beyond = sum(row["farthest"] > 3 for row in rows)
        times = [row["downtime_correlated"] / row["downtime_h_per_year"] for row in rows
                 if (row["gpus"], row["mtbf_h"], row["pauses"]) == (1000, 30000, "paper")
                 and row["regime"] == "elastic" and row["width"] in (32, 96)]
        self.says(RESULTS, "| `availability/", f"each of {len(rows)} rows",
                  f"root mean square {square:.2f} standard errors", f"{beyond} rows with a figure",
                  f"farthest {max(row['farthest'] for row in rows):.2f}",
                  f"of {sum(row['compared'] for row in rows):,.0f} figures",
                  f"{times[0]:.1f} times as long at width 32, {times[1]:.1f} times at width 96")

    def test_constants_of_the_model(self):
        """Those that are medians of kept rows are."""
        with open(os.path.join(ROOT, "experiments/plan_tool/plan_constants.h"), encoding="utf-8") as file:
            text = file.read()
        rows = rows_of("pause.csv")
        for name in ("detect_ms", "agree_ms"):
            value = re.search(rf'"{name}", ([0-9.]+),', text).group(1)
            self.assertAlmostEqual(float(value), common.quantile([row[name] for row in rows], 50), places=3)

    def test_paper_size(self):
        rows = {row["failed"]: row for row in rows_of("paper-size/summary.csv")
                if (row["loads"], row["how"]) == ("even", "random")}
        per_failed = [rows[failed] for failed in (1, 2, 4, 8, 16)]
        self.assertTrue(all(row["draws"] == 1000 for row in rows_of("paper-size/summary.csv")))
        self.assertEqual(sum(row["refused"] for row in rows_of("paper-size/summary.csv")), 0)

        def line(name, unit, scale):
            return f"{' / '.join(f'{row[name] * scale:.0f}' for row in per_failed)} {unit}"
        self.says(RESULTS, "| `paper-size/`", line("pause_s_mean", "ms", 1e3), line("anew_s_mean", "ms", 1e3),
                  f"(most: {1e3 * max(row['pause_s_max'] for row in per_failed):.0f})")
        half = {(row["loads"], row["how"]): f"{row['pause_s_mean']:.1f} / {row['pause_s_max']:.1f} s"
                for row in rows_of("paper-size/summary.csv") if row["failed"] == 16}
        self.says(RESULTS, "| `paper-size/`",
                  f"mean / most {half['even', 'nodes']} with experts alike and {half['z0.5', 'nodes']} with",
                  f"16 neighbours: {half['even', 'adjacent']} and {half['z0.5', 'adjacent']}")

    def test_planner(self):
        """docs/STATUS.md names the time at both shapes and the makespan that is farthest from the bound."""
        rows = rows_of("planner/plan.csv")

        def slowest(ranks):
            return max(row["plan_ms"] for row in rows if row["ranks"] == ranks)
        farthest = max(row["ratio"] for row in rows)
        told = " ".join(text_of(STATUS).split())
        for part in (f"{slowest(32):.1f} ms of CPU time at 32 ranks", f"{slowest(320):.0f} ms at 320 x 61",
                     f"at most {farthest:.3f} times", f"in all {len(rows)} rows"):
            self.assertIn(part, told, f"\n{STATUS}: the rows give '{part}'")
        self.says(RESULTS, "| `planner/plan.csv`", f"{slowest(32):.1f} ms", f"{slowest(320):.0f} ms",
                  f"at most {farthest:.3f} in {len(rows)} rows")

    def test_moves(self):
        rounds = {}
        for row in rows_of("moves/moves.csv"):
            rounds.setdefault(row["round"], {})[row["kind"]] = row
        figures, same = beside.figures(list(rounds.values()), "moves")
        told = " ".join(text_of(STATUS).split())
        self.assertIn("{:.2f}, with a 95 % interval of {:.2f} to {:.2f}".format(*figures), told)
        self.assertIn("(A/A) gave {:.2f}, {:.2f} to {:.2f}".format(*same), told)
        self.says(RESULTS, "| `moves/moves.csv`", "{:.2f}, 95 % interval {:.2f} to {:.2f}".format(*figures))

    def test_chains(self):
        rows = rows_of("chains/chains.csv")
        texts = [chains.figures(rows, case) for case in chains.CASES]
        share = common.quantile([row["foreign_share"] for row in rows], 50)
        self.says(RESULTS, "| `chains/chains.csv`", *(text for text, _ in texts), f"{texts[0][1]} pairs each",
                  f"{100 * share:.0f} % of the machine")
        self.assertTrue(all(row["good"] for row in rows))

    def test_movement_of_slots(self):
        """docs/PLACEMENT.md has what best and equal shares move, of the worst law."""
        rows = rows_of("background/moves.csv")

        def worst(shape, what, name, digits=1):
            found = [row for row in rows if (row["shape"], row["what"]) == (f"{shape}x256", what)]
            return (f"{max(row[f'{name}_mean'] for row in found):.{digits}f} and "
                    f"{max(row[f'{name}_most'] for row in found):.0f}")
        self.says(PLACEMENT, "| the same with equal shares", ": ".join(("32 x 16", ", ".join(
            worst("32x16", what, "equal") for what in ("rank", "node")))), ": ".join(("17 slots", ", ".join(
                worst("32x17", what, "equal") for what in ("rank", "node")))))
        ends = {shape: max(row["ratio_worst"] for row in rows if row["shape"] == f"{shape}x256"
                           and row["what"] == "node") for shape in ("32x16", "31x16")}
        self.says(PLACEMENT, "| movement after", worst("32x16", "rank", "balance", 2),
                  worst("32x16", "node", "balance"), f"at {ends['32x16']:.3f} at 32 x 16",
                  f"at {ends['31x16']:.3f} at 31 x 16")

    def test_failed_ranks(self):
        rows = rows_of("failed-ranks/runs.csv")
        failed = sorted({row["failed"] for row in rows})
        self.assertEqual(failed, [1, 2, 4, 8, 16])
        self.assertTrue(all(row["good"] == 1 for row in rows))

        def medians(name, scale=1.0):
            return " / ".join(
                f"{common.quantile([row[name] * scale for row in rows if row['failed'] == k and row[name] != ''], 50):.1f}"
                for k in failed)
        self.says(RESULTS, "| `failed-ranks/runs.csv`", f"{len(rows)} runs", f"throughput kept {medians('kept_percent')} %",
                  f"{medians('after_percent')} % once they have come again",
                  f"pause {medians('pause_ms', 1e-3)} s", f"two steps {medians('join_gap_ms', 1e-3)} s",
                  f"a usual step {medians('step_degraded_ms', 1e-3)} s", f"95 % after {medians('back_95_s')} s")

    def test_model_check(self):
        rows = [row for row in rows_of("model-check/check.csv") if row["measured_ms"]]
        same = [row for row in rows if row["predicted_bytes"] == row["measured_bytes"]]
        self.says(RESULTS, "| `model-check/check.csv`", f"exactly as predicted in {len(same)} of {len(rows)} runs",
                  f"median {common.quantile([row['error_percent'] for row in rows], 50):.0f} %")

    def test_join(self):
        rounds = {}
        for row in rows_of("join.csv"):
            rounds.setdefault(row["round"], {})[row["kind"]] = row
        rounds = list(rounds.values())
        used = beside.undisturbed(rounds)
        figures, same = beside.figures(used, "join")
        ratio, low, high = (f"{number:.2f}" for number in figures)
        again = "{:.2f}, {:.2f} to {:.2f}".format(*same)
        self.says(MAIN, "| reintegration", f"{ratio}, 95 % interval {low} to {high}",
                  f"n {len(used)} pairs", f"A/A {again}")
        self.says(RESULTS, "| `join.csv`", f"{len(rounds)} rounds",
                  f"{ratio}, 95 % interval {low} to {high}", f"gave {again}")
        counted = [sum(row[name] for rows in rounds for row in rows.values())
                   for name in common.COUNTERS]
        self.assertEqual(counted, [0, 0])
        self.says(MAIN, "| steps aborted by a join", f"0 in {3 * len(rounds)} runs")

    def test_overhead(self):
        """Both documents name the four figures, and whether the bar is met."""
        found = {}
        for row in rows_of("bench-host-overhead.csv"):
            tokens = re.search(r"tokens (\d+)", row["setup"]).group(1)
            dtype = re.search(r"(bf16|fp8) dispatch", row["setup"]).group(1).upper()
            found.setdefault((tokens, dtype), {})[row["metric"]] = row
        for (tokens, dtype), metrics in found.items():
            ratio = metrics["elastic_over_fixed"]
            half = metrics["fixed_again_half_width"]["value"]
            self.assertEqual(ratio["verdict"], "met")
            self.assertLessEqual(ratio["high"], 1.01 + half)
            percent = [f"{100 * (ratio[key] - 1):+.1f}".replace("+0.0", "0.0").replace("-0.0", "0.0")
                       for key in ("value", "low", "high")]
            main = f"{dtype} {percent[0]} % ({percent[1]} to {percent[2]}, A/A {100 * half:.1f})"
            kept = (f"{dtype} {ratio['value']:.3f}, {ratio['low']:.3f} to {ratio['high']:.3f} "
                    f"({half:.3f})")
            for name, begin, part in ((MAIN, "| steady overhead", main),
                                      (RESULTS, "| `bench-host-overhead.csv`", kept)):
                line = line_of(name, begin)
                place = line.index("16 tokens:"), line.index("1 token:")
                where = line[place[0]:place[1]] if tokens == "16" else line[place[1]:]
                self.assertIn(part, where, f"\n{name}: {tokens} tokens: the rows give '{part}'")
                self.assertNotIn("missed", line)

    def test_window(self):
        with open(os.path.join(KEPT, "window.txt"), encoding="utf-8") as file:
            total = int(re.search(r"total +(\d+) bytes", file.read()).group(1))
        self.says(MAIN, "| window of one rank", f"{total / 1e9:.3f} GB")
        self.says(RESULTS, "| `window.txt`", f"{total / 1e6:.1f} MB")

    def chaos(self, name):
        rows = rows_of(name)
        pauses = [row["pause_ms"] for row in rows if row["expelled"] == 1]
        crashes = [row["pause_ms"] for row in rows
                   if row["kind"] in ("kill", "abort", "die") and row["scope"] == "single"
                   and row["pause_ms"] != ""]
        return rows, pauses, crashes

    def test_chaos(self):
        rows, pauses, crashes = self.chaos("chaos.csv")
        measured = [pause for pause in pauses if pause != ""]
        self.says(MAIN, "| 201 random faults", f"| {len(rows)} random faults",
                  f"pause of {len(crashes)} single crashes p50 {common.quantile(crashes, 50):.1f}, "
                  f"p99 {common.quantile(crashes, 99):.1f} ms")
        self.says(RESULTS, "| `chaos.csv`", f"{len(rows)} faults", f"{len(pauses)} expulsions: "
                  f"pause p50 {common.quantile(measured, 50):.1f}, p99 "
                  f"{common.quantile(measured, 99):.0f}, max {max(measured):.0f} ms",
                  f"{len(crashes)} single crashes p50 {common.quantile(crashes, 50):.1f}, p99 "
                  f"{common.quantile(crashes, 99):.1f} ms")
        stopped = [row["pause_ms"] for row in rows if row["kind"] == "pause" and row["expelled"] == 1]
        self.says(MAIN, "| 201 random faults",
                  f"stopped for too long {common.quantile(stopped, 50) / 1000:.2f} s")
        with open(os.path.join(KEPT, "chaos.txt"), encoding="utf-8") as file:
            tokens = int(re.search(r"(\d+) tokens: 0 wrong", file.read()).group(1))
        self.says(MAIN, "| 201 random faults", f"of {tokens:,} tokens")
        self.says(RESULTS, "| `chaos.csv`", f"of {tokens:,} tokens")

    def test_chaos_race(self):
        rows, pauses, _ = self.chaos("chaos-race.csv")
        measured = [pause for pause in pauses if pause != ""]
        self.says(RESULTS, "| `chaos-race.csv`", f"{len(rows)} faults", f"{len(pauses)} expulsions: "
                  f"pause p50 {common.quantile(measured, 50):.1f}, "
                  f"p99 {common.quantile(measured, 99):.0f} ms")

    def test_soak(self):
        rows = rows_of("soak.csv")
        steps, tokens = (int(sum(row[key] for row in rows)) for key in ("steps_ok", "tokens_emitted"))
        share = f"{100 * max(row['foreign_share'] for row in rows):.0f} %"
        for key in ("expelled", "suspicions", "fault_views", "tokens_wrong", "requests_lost"):
            self.assertEqual(sum(row[key] for row in rows), 0, key)
        self.says(MAIN, "| false expulsions", f"{sum(row['minutes'] for row in rows):.0f} minutes",
                  f"{steps:,} steps", f"0 of {tokens:,}", share)
        self.says(RESULTS, "| `soak.csv`", f"{tokens:,} tokens", share)

    def test_cycle(self):
        summary = json_of("cycle-100.json")
        pauses = [fault["pause_ms"] for fault in summary["faults"]]
        self.assertEqual(len(pauses), 100)
        self.assertEqual((summary["tokens_wrong"], summary["steps_aborted_by_join"],
                          summary["steps_waiting_on_join"]), (0, 0, 0))
        for name, begin in ((MAIN, "| 100 kill and rejoin"), (RESULTS, "| `cycle-100.json`")):
            self.says(name, begin, quantiles(pauses), f"0 wrong of {summary['tokens_emitted']:,}")

    def test_detection(self):
        rows = rows_of("detect.csv")

        def known(mode, heavy, kind, percent):
            return common.quantile([row["last_ms"] for row in rows if row["mode"] == mode and
                                    (row["ballast_mb"] >= 1000) == heavy and row["kind"] == kind],
                                   percent)
        light = [known(mode, False, "kill", 99) for mode in ("idle", "loaded")]
        heavy = [known(mode, True, "kill", 99) for mode in ("idle", "loaded")]
        stop = [known(mode, False, "stop", 99) / 1000 for mode in ("idle", "loaded")]
        self.says(MAIN, "| a kill is known", f"p99 {light[0]:.1f} ms idle, {light[1]:.1f} loaded; "
                  f"{heavy[0]:.1f} and {heavy[1]:.1f} ms")
        self.says(MAIN, "| a rank that is stopped, the same",
                  f"p99 {stop[0]:.3f} s idle, {stop[1]:.3f} s loaded")
        pairs = [f"{known(mode, is_heavy, 'kill', 50):.1f} / {known(mode, is_heavy, 'kill', 99):.1f}"
                 for is_heavy in (False, True) for mode in ("idle", "loaded")]
        self.says(RESULTS, "| `detect.csv`", f"kill {pairs[0]} idle, {pairs[1]} loaded",
                  f"{pairs[2]} and {pairs[3]}", f"all {len(rows)} faults")
        self.assertTrue(all(row["knew"] == row["survivors"] for row in rows))

    def test_store_outage(self):
        row = rows_of("store-outage.csv")[0]
        steps = f"0 of {row['steps_alone']:,.0f} steps aborted"
        self.assertEqual((row["aborted_alone"], row["tokens_wrong"], row["requests_lost"]), (0, 0, 0))
        self.says(MAIN, "| store killed", f"killed for {row['outage_s']:.0f} s", steps,
                  f"rate {row['rate_ratio']:.2f}", f"{row['view_after_store_ms']:.0f} ms")
        self.says(RESULTS, "| `store-outage.csv`", steps, f"rate {row['rate_ratio']:.3f}",
                  f"{row['view_after_store_ms']:.0f} ms")

    def test_pause_pair(self):
        rows = rows_of("pause-pair.csv")
        pauses, medians = {"before": [], "now": []}, []
        for index in sorted({row["round"] for row in rows}):
            found = {side: [row["pause_ms"] for row in rows
                            if row["round"] == index and row["side"] == side]
                     for side in pause_pair.SIDES}
            medians.append({side: common.quantile(found[side], 50) for side in found})
            for side, values in found.items():
                pauses[side.split("-")[0]] += values
        ratios = [(m["now"] * m["now-again"] / m["before"] / m["before-again"]) ** 0.5
                  for m in medians]
        same = [(m["now-again"] / m["now"]) ** 0.5 * (m["before-again"] / m["before"]) ** 0.5
                for m in medians]
        now, before = pauses["now"], pauses["before"]
        ratio, low, high = pause_pair.interval(ratios)
        self.says(RESULTS, "| `pause-pair.csv`",
                  f"{ratio:.3f}, 95 % interval {low:.3f} to {high:.3f}",
                  "(A/A) {:.3f}, {:.3f} to {:.3f}".format(*pause_pair.interval(same)),
                  f"{len(now)} kills a side",
                  f"p50 {common.quantile(now, 50):.1f} against {common.quantile(before, 50):.1f} ms",
                  f"p99 {common.quantile(now, 99):.1f} against {common.quantile(before, 99):.1f}")

    def test_single_runs(self):
        two = json_of("two-at-once/now.json")["faults"]
        copied = f"{max(fault['weights_bytes_in_pause'] for fault in two) / 1e6:.1f} MB"
        self.says(MAIN, "| two seats at once", copied)
        self.says(RESULTS, "| `two-at-once/`", copied)
        idle = json_of("conversation/as-it-is.json")["faults"][0]["pause_ms"]
        fast = json_of("conversation/12-times-faster.json")["faults"][0]["pause_ms"]
        text = " ".join(text_of(MAIN).split())
        self.assertIn(f"pause {idle:.1f} ms in an idle moment, {fast:.1f} ms at 12 times", text)

    def test_demo(self):
        """The output that README.md shows is that of the kept run."""
        summary = json_of("demo/summary.json")
        text = " ".join(text_of(MAIN).split())
        step, stall, fault = (summary["step_ms"], summary["request_stall_ms"], summary["faults"][0])
        for part in (
                f"requests {summary['requests_accepted']} accepted = "
                f"{summary['requests_completed']} completed",
                f"tokens {summary['tokens_emitted']} emitted",
                f"steps {summary['steps_ok']} ok, {summary['steps_aborted']} aborted; ms p50 "
                f"{step['p50']:.2f}, p99 {step['p99']:.2f}, max {step['max']:.2f}",
                f"ms p50 {stall['p50']:.1f}, p99 {stall['p99']:.1f}",
                f"1 {fault['rank']} {fault['kind']} {fault['time_ms'] / 1000:.3f} " + " ".join(
                    f"{fault[name]:.1f}" for name in ("pause_ms", "detect_ms", "agree_ms",
                                                      "repair_ms", "rerun_ms")),
                "tokens/s before {before:.0f} degraded {degraded:.0f} after {after:.0f}".format(
                    **summary["throughput"])):
            self.assertIn(part, text, f"\n{MAIN}: the rows give '{part}'")

    def test_restart(self):
        """One kill, elastic and as a full restart: medians of pauses and of the restart's parts."""
        rows = rows_of("restart/restart.csv")

        def median(side, weights, name, digits=0):
            return f"{restart.median(rows, side, weights, name):.{digits}f}"
        parts = []
        for weights in restart.WEIGHTS:
            pairs = [[row["pause_ms"] for row in rows
                      if (row["side"], row["weights"]) == (side, weights)] for side in restart.SIDES]
            mean, low, high = pause_pair.interval(
                [again / elastic for elastic, again in zip(*pairs)])
            parts += [f"{weights}: pause {median('elastic', weights, 'pause_ms')} against "
                      f"{median('restart', weights, 'pause_ms')} ms, {mean:.1f} times as long "
                      f"({low:.1f} to {high:.1f})"]
            self.assertEqual({len(side) for side in pairs}, {10}, weights)
        parts.append("seed: " + " + ".join(
            f"{name.removesuffix('_ms')} {median('restart', 'seed', name)}"
            for name in restart.OF_RESTART))
        parts.append(f"{median('restart', 'seed', 'requests_failed')} requests failed")
        parts.append(f"0 in {len(rows)} runs" if all(row["good"] == 1 for row in rows) else "wrong")
        self.assertEqual({row["requests_failed"] for row in rows if row["side"] == "elastic"}, {0})
        self.says(RESULTS, "| `restart/restart.csv`", *parts)

    def test_rows_with_the_others_share_are_named(self):
        """Whoever compares times wants to know what else the machine did."""
        told = re.search(r"column `foreign_share` of\s+(.*?);", text_of(RESULTS), re.S).group(1)
        having = set()
        for folder, _, names in os.walk(KEPT):
            for name in (os.path.relpath(os.path.join(folder, one), KEPT) for one in names):
                if not name.endswith(".csv"):
                    continue
                with open(os.path.join(KEPT, name), encoding="utf-8") as file:
                    first = file.readline()
                if "foreign_share" in rows_of(name)[0]:
                    having.add(name)
                own = {"summary.json", "run.json"} & set(os.listdir(os.path.dirname(
                    os.path.join(KEPT, name))))
                self.assertTrue(first.startswith("#") or own, f"{name} does not say its commit")
        self.assertEqual(having, set(re.findall(r"`([^`]+)`", told)))


if __name__ == "__main__":
    unittest.main()
