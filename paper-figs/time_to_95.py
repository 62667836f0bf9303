#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Draw how long it takes until throughput is back at 95 %: the pause, the prefill of the requests of
the failed ranks, and the time after the ranks come again. Needs matplotlib and nothing else.

usage: time_to_95.py [--measured FILE] [--out FILE]
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import figure_inputs
import kept_rows
import paper_reference as paper
from figure_inputs import GREEN, ORANGE, PINK
from kept_rows import INK


def values_of(rows, failed, name):
    return [float(row[name]) for row in rows if int(row["failed"]) == failed and row[name]]


def draw_measured(axis, rows):
    failed = sorted({int(row["failed"]) for row in rows})
    bars = (("pause", lambda k: [v / 1e3 for v in values_of(rows, k, "pause_ms")], PINK),
            ("until the requests of the failed ranks are where they were",
             lambda k: values_of(rows, k, "reprefill_s"), ORANGE),
            ("from the start of new ranks to 95 % of before", lambda k: values_of(rows, k, "back_95_s"),
             GREEN))
    width = 0.8 / len(bars)
    for i, (label, pick, colour) in enumerate(bars):
        for at, k in enumerate(failed):
            found, whole = pick(k), len([row for row in rows if int(row["failed"]) == k])
            if found:
                value = kept_rows.quantile(found, 50)
                axis.bar(at + (i - 1) * width, value, width=width, color=colour,
                         label=label if at == 0 else None)
            text = f"{kept_rows.quantile(found, 50):.1f}" if found else "not"
            text += f"\n{len(found)} of {whole}" if len(found) < whole else ""
            axis.text(at + (i - 1) * width, kept_rows.quantile(found, 50) if found else 0, text,
                      ha="center", va="bottom", fontsize=8.5)
    axis.set_xticks(range(len(failed)), [str(k) for k in failed])
    axis.set_xlabel(f"failed ranks of {rows.ranks()}")
    axis.set_ylabel("median, s")
    axis.set_ylim(0, 1.4 * axis.get_ylim()[1])
    axis.set_title(f"measured with emulated expert time: {rows.processes()}, small experts",
                   fontsize=10.5)
    axis.legend(loc="upper left", frameon=False, fontsize=9)


def draw_published(axis):
    (failed, seconds), = paper.TIME_TO_95_S.items()
    axis.bar([0], [seconds], width=0.5, color=INK)
    axis.bar([1], [paper.FULL_RESTART_S], width=0.5, color="#8C8C8C")
    axis.text(0, seconds, f"{seconds} s", ha="center", va="bottom")
    axis.text(1, paper.FULL_RESTART_S, f"{paper.FULL_RESTART_S} s", ha="center", va="bottom")
    axis.set_xticks([0, 1], [f"{failed} rank failed:\nfault to 95 %", "full restart"])
    axis.set_xlim(-0.6, 1.6)
    axis.set_ylabel("time, s")
    axis.set_title(f"{paper.SOURCE}, published", fontsize=10.5)


def draw(paths, picture):
    rows = figure_inputs.Rows(paths["measured"], "measured with emulated expert time",
                              {"ranks", "failed", "pause_ms", "reprefill_s", "back_95_s"})
    figure, axes = kept_rows.make_figure(2, (12, 4.9), gridspec_kw={"width_ratios": [1, 2.4]})
    draw_published(axes[0])
    draw_measured(axes[1], rows)
    figure_inputs.save(figure, picture, [
        "new ranks start 26 s after the fault in the measured runs, 75 s where half of them failed, so that the "
        "rate in between can be measured; that wait is in no bar",
        rows.caption(f"{figure_inputs.runs_each(rows, 'bar')}, unless the bar says fewer")])


if __name__ == "__main__":
    figure_inputs.finish("time_to_95.py", "Draw the time until throughput is back.",
                         {"measured": "failed-ranks/runs.csv"}, draw)
