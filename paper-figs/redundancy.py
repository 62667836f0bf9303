#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Draw from kept rows what expert slots per rank are good for: GPU-hours lost per width and MTBF,
and faults that take the last replica of an expert. Needs matplotlib and nothing else.

usage: redundancy.py redundancy.csv [--out FILE]     (default: redundancy.png beside the rows)
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import kept_rows
from kept_rows import GREY, BadInput

# Okabe and Ito's palette, as in detection.py.
COLOURS = ("#D55E00", "#E69F00", "#009E73", "#56B4E9", "#0072B2")
LEAST = 1e-5  # GPU-hours: what is below is drawn there
COLUMNS = ("width", "mtbf_h", "spares", "slots", "slots_over_experts", "holes_per_fault",
           "lost_gpu_h_per_1000")


def row_of(row):
    return {name: float(row[name]) for name in COLUMNS}


def pick(rows, **wanted):
    """The rows with these values, by slots."""
    mine = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    return sorted(mine, key=lambda row: row["slots"])


def values_of(rows, name):
    return sorted({row[name] for row in rows})


def finish_axis(axis, title):
    axis.set_yscale("log")
    axis.axvline(2.0, color=GREY, linewidth=0.8, linestyle=(0, (1, 2)))
    axis.set_xlabel("slots / experts")
    axis.set_title(title, fontsize=11)
    axis.grid(color=GREY, alpha=0.2, linewidth=0.6)


def draw_lost(axis, rows, width):
    """GPU-hours lost for want of slots, without spare ranks (solid) and with them (dashed)."""
    for colour, mtbf_h in zip(COLOURS, values_of(rows, "mtbf_h")):
        for spares, dashes in ((0, "solid"), (1, (0, (4, 2)))):
            mine = pick(rows, width=width, mtbf_h=mtbf_h, spares=spares)
            axis.plot([row["slots_over_experts"] for row in mine],
                      [max(row["lost_gpu_h_per_1000"], LEAST) for row in mine], color=colour,
                      linestyle=dashes, marker="o", markersize=3, linewidth=1.5,
                      label=None if spares else f"{mtbf_h / 1000:.0f},000 h")
    axis.set_ylim(LEAST * 0.7, 1000)
    finish_axis(axis, f"{width:.0f} ranks")


def draw_holes(axis, rows, mtbf_h):
    for colour, width in zip(COLOURS[::2], values_of(rows, "width")):
        for spares, dashes in ((0, "solid"), (1, (0, (4, 2)))):
            mine = pick(rows, width=width, mtbf_h=mtbf_h, spares=spares)
            axis.plot([row["slots_over_experts"] for row in mine],
                      [100 * row["holes_per_fault"] for row in mine], color=colour,
                      linestyle=dashes, marker="o", markersize=3, linewidth=1.5,
                      label=None if spares else f"{width:.0f} ranks")
    axis.set_ylabel("faults that take a last replica, %")
    axis.legend(frameon=False, fontsize=9)
    finish_axis(axis, f"MTBF {mtbf_h / 1000:.0f},000 h")


def draw(rows_path, picture):
    rows, comments = kept_rows.read_rows(rows_path, COLUMNS, row_of)
    if not rows:
        raise BadInput(f"{rows_path}: no rows")
    widths = values_of(rows, "width")
    mtbfs = values_of(rows, "mtbf_h")
    figure, axes = kept_rows.make_figure(len(widths) + 1, (4 * len(widths) + 4, 4.6))
    for axis, width in zip(axes, widths):
        draw_lost(axis, rows, width)
    axes[0].set_ylabel("GPU-hours lost per 1,000, by pauses and want of slots")
    axes[0].legend(title="MTBF of a GPU", frameon=False, fontsize=9)
    draw_holes(axes[-1], rows, mtbfs[min(1, len(mtbfs) - 1)])
    kept_rows.save_figure(figure, picture, f"{len(rows)} rows, solid: no spare ranks, dashed: spares",
                          comments)


if __name__ == "__main__":
    kept_rows.finish(lambda: kept_rows.main(
        "redundancy.py", "Draw from kept rows what expert slots per rank are good for.",
        "redundancy.csv", "simulate_faults.py", "redundancy.png", draw), "redundancy.py")
