#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Draw the recovery pauses of a campaign from its kept rows: the parts of every fault's pause, and
how pause and parts are distributed. Needs matplotlib and nothing else.

usage: pauses.py pause.csv [--out FILE]     (default: pauses.png beside the rows)
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import kept_rows
from matplotlib.ticker import FormatStrFormatter  # kept_rows says it if there is none
from kept_rows import GREY, INK, BadInput, quantile

# Okabe and Ito's palette, told apart with every common colour blindness; as in timeline.py.
PARTS = (("detect", "#E69F00"), ("agree", "#56B4E9"), ("repair", "#009E73"), ("rerun", "#CC79A7"))
RED = "#D55E00"
FLOOR_MS, STEPS_ALLOWED = 100.0, 3


def read_rows(path):
    """The faults with a measured pause, and the file's comment lines."""
    names = ("run", "fault", "rank", "pause_ms", "median_step_ms",
             *(f"{part}_ms" for part, _ in PARTS))

    def row_of(row):
        if not row["pause_ms"] or not row["median_step_ms"]:
            return None
        return {name: float(row[name]) for name in names}

    rows, comments = kept_rows.read_rows(path, names, row_of)
    if not rows:
        raise BadInput(f"{path}: no fault with a measured pause")
    return rows, comments


def draw_faults(axis, rows):
    """A stacked bar per fault, shortest pause first."""
    ordered = sorted(rows, key=lambda row: row["pause_ms"])
    bottom = [0.0] * len(ordered)
    for part, colour in PARTS:
        values = [row[f"{part}_ms"] for row in ordered]
        axis.bar(range(1, len(ordered) + 1), values, bottom=bottom, width=0.86, color=colour,
                 label=part)
        bottom = [low + value for low, value in zip(bottom, values)]
    median = quantile([row["pause_ms"] for row in rows], 50)
    axis.axhline(median, color=INK, linewidth=1.2, linestyle=(0, (4, 2)))
    axis.annotate(f"median {median:.1f} ms", (0.01, median), xycoords=("axes fraction", "data"),
                  xytext=(0, 4), textcoords="offset points", weight="bold")
    axis.set_xlim(0.3, len(ordered) + 0.7)
    axis.set_ylim(0, max(bottom) * 1.12)
    axis.set_xlabel("faults, shortest pause first")
    axis.set_ylabel("pause, ms")
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=len(PARTS), frameon=False,
                handlelength=1.2, columnspacing=1.4)


def draw_distribution(axis, rows):
    """For the pause and each part, the share of faults that are at most so long."""
    lines = [("pause", INK, 2.2), *((part, colour, 1.6) for part, colour in PARTS)]
    for name, colour, width in lines:
        values = sorted(row[f"{name}_ms"] for row in rows)
        if values[-1] == 0.0:
            continue  # a part that never took time has no distribution to show
        kept_rows.draw_shares(
            axis, values, color=colour, linewidth=width,
            label=f"{name}: p50 {quantile(values, 50):.1f}, p99 {quantile(values, 99):.1f}, "
                  f"max {values[-1]:.1f} ms")
    bar = max(FLOOR_MS, quantile([row["detect_ms"] for row in rows], 50) + STEPS_ALLOWED *
              quantile([row["median_step_ms"] for row in rows], 50))
    axis.axvline(bar, color=RED, linewidth=1.4, linestyle=(0, (4, 2)))
    axis.annotate(f"bar for the median: {bar:.0f} ms", (bar, 50), xytext=(-3, 0), color=RED,
                  textcoords="offset points", ha="right", va="center", weight="bold", rotation=90)
    axis.set_xscale("log")
    axis.set_ylim(0, 101)
    axis.set_xlabel("ms, logarithmic")
    axis.set_ylabel("share of faults, %")
    axis.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axis.grid(axis="x", which="major", color=GREY, alpha=0.25, linewidth=0.6)
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=2, frameon=False,
                handlelength=1.4, columnspacing=1.4, fontsize=9)


def draw(rows_path, picture):
    rows, comments = read_rows(rows_path)
    figure, axes = kept_rows.make_figure(2, (12, 4.9), gridspec_kw={"width_ratios": [1.25, 1]})
    draw_faults(axes[0], rows)
    draw_distribution(axes[1], rows)
    kept_rows.save_figure(figure, picture, f"{len(rows)} kills", comments)


if __name__ == "__main__":
    kept_rows.finish(lambda: kept_rows.main(
        "pauses.py", "Draw the recovery pauses of a campaign from its kept rows.", "pause.csv",
        "pause.py", "pauses.png", draw), "pauses.py")
