#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Draw what the return of 1, 2, 4, 8 and 16 of 32 ranks costs those that serve: the window without
throughput that arXiv 2605.10670 publishes, and here the longest time between two steps that end
while the ranks come again, beside a usual step. Needs matplotlib and nothing else.

usage: reintegration.py [--measured FILE] [--out FILE]
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import figure_inputs
import kept_rows
import paper_reference as paper
from figure_inputs import BLUE, GREEN, ORANGE
from kept_rows import INK


def medians(rows, failed, name):
    return [kept_rows.quantile([float(row[name]) / 1e3 for row in rows if int(row["failed"]) == k], 50)
            for k in failed]


def label_bars(axis, places, values, digits=1):
    for at, value in zip(places, values):
        axis.text(at, value, f"{value:.{digits}f}", ha="center", va="bottom", fontsize=8.5)


def draw_published(axis):
    axis.bar(range(len(paper.FAILED)), paper.REINTEGRATION_S, width=0.7, color=INK)
    label_bars(axis, range(len(paper.FAILED)), paper.REINTEGRATION_S, digits=0)
    axis.set_xticks(range(len(paper.FAILED)), [str(k) for k in paper.FAILED])
    axis.set_title(f"{paper.SOURCE}, published", fontsize=10.5)
    axis.set_ylabel("window without throughput, s")


def draw_measured(axis, rows):
    failed = sorted({int(row["failed"]) for row in rows})
    bars = (("step_degraded_ms", "a usual step before they come", BLUE),
            ("join_gap_ms", "longest time between the ends of two steps meanwhile", GREEN),
            ("join_ms", "from the start of the processes until they are in the view", ORANGE))
    width = 0.8 / len(bars)
    for i, (name, label, colour) in enumerate(bars):
        values = medians(rows, failed, name)
        places = [at + (i - 1) * width for at in range(len(failed))]
        axis.bar(places, values, width=width, color=colour, label=label)
        label_bars(axis, places, values)
    axis.set_xticks(range(len(failed)), [str(k) for k in failed])
    axis.set_title(f"measured with emulated expert time: {rows.processes()}, small experts",
                   fontsize=10.5)
    axis.set_ylabel("median, s")
    axis.set_ylim(0, 1.45 * axis.get_ylim()[1])
    axis.legend(loc="upper left", frameon=False, fontsize=9)


def draw(paths, picture):
    rows = figure_inputs.Rows(paths["measured"], "measured with emulated expert time",
                              {"ranks", "failed", "step_degraded_ms", "join_gap_ms", "join_ms"})
    figure, axes = kept_rows.make_figure(2, (12, 4.9), gridspec_kw={"width_ratios": [1, 1.6]})
    draw_published(axes[0])
    draw_measured(axes[1], rows)
    for axis, ranks in zip(axes, (32, rows.ranks())):
        axis.set_xlabel(f"ranks that come again, of {ranks}")
    figure_inputs.save(figure, picture, [
        f"published: {paper.SOURCE}; weights of 41 GB a rank there, of less than 1 MB here",
        rows.caption(figure_inputs.runs_each(rows, "bar"))])


if __name__ == "__main__":
    figure_inputs.finish("reintegration.py", "Draw what the return of ranks costs.",
                         {"measured": "failed-ranks/runs.csv"}, draw)
