#!/usr/bin/python3
"""Draw the recovery pauses of a campaign from its kept rows: the parts of every fault's pause, and
how pause and parts are distributed. Needs matplotlib and nothing else.

usage: pauses.py pause.csv [--out FILE]     (default: pauses.png beside the rows)
"""

import argparse
import csv
import os
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# Okabe and Ito's palette, told apart with every common colour blindness; as in timeline.py.
PARTS = (("detect", "#E69F00"), ("agree", "#56B4E9"), ("repair", "#009E73"), ("rerun", "#CC79A7"))
INK, GREY, RED = "#222222", "#8C8C8C", "#D55E00"
FLOOR_MS, STEPS_ALLOWED = 100.0, 3


class BadInput(Exception):
    """Rows that are missing or not what they should be."""


def read_rows(path):
    """The faults with a measured pause, and the file's comment lines."""
    names = ("run", "fault", "rank", "pause_ms", "median_step_ms",
             *(f"{part}_ms" for part, _ in PARTS))
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = file.read().splitlines()
        comments = [line[1:].strip() for line in lines if line.startswith("#")]
        reader = csv.DictReader(line for line in lines if not line.startswith("#"))
        missing = set(names) - set(reader.fieldnames or ())
        if missing:
            raise BadInput(f"{path}: no column {', '.join(sorted(missing))}")
        rows = [{name: float(row[name]) for name in names}
                for row in reader if row["pause_ms"] and row["median_step_ms"]]
    except (OSError, TypeError, ValueError, csv.Error) as error:
        raise BadInput(f"{path}: {error}") from error
    if not rows:
        raise BadInput(f"{path}: no fault with a measured pause")
    return rows, comments


def quantile(values, percent):
    ordered = sorted(values)
    return ordered[max(-(-len(ordered) * percent // 100), 1) - 1]


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
        shares = [100.0 * (i + 1) / len(values) for i in range(len(values))]
        axis.step([values[0], *values], [0.0, *shares], where="post", color=colour,
                  linewidth=width,
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
    axis.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axis.grid(axis="x", which="major", color=GREY, alpha=0.25, linewidth=0.6)
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=2, frameon=False,
                handlelength=1.4, columnspacing=1.4, fontsize=9)


def draw(rows, comments, path):
    plt.rcParams.update({"font.family": "DejaVu Sans", "font.size": 11, "text.color": INK,
                         "axes.edgecolor": GREY, "axes.labelcolor": INK, "xtick.color": INK,
                         "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False,
                         "legend.fontsize": 10})
    figure, axes = plt.subplots(1, 2, figsize=(12, 4.9), gridspec_kw={"width_ratios": [1.25, 1]})
    draw_faults(axes[0], rows)
    draw_distribution(axes[1], rows)
    source = ";  ".join(line for line in comments if line.startswith(("commit", "machine")))
    figure.text(0.01, 0.01, f"n {len(rows)} kills.  {source}", fontsize=7.5, color=GREY)
    figure.tight_layout(rect=(0, 0.03, 1, 1), w_pad=2.5)
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(
        description="Draw the recovery pauses of a campaign from its kept rows.")
    parser.add_argument("rows", metavar="pause.csv", help="the rows that pause.py wrote")
    parser.add_argument("--out", metavar="FILE",
                        help="picture (default: pauses.png beside the rows)")
    arguments = parser.parse_args()
    picture = arguments.out or os.path.join(os.path.dirname(arguments.rows), "pauses.png")
    try:
        draw(*read_rows(arguments.rows), picture)
    except BadInput as error:
        print(f"pauses.py: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"pauses.py: cannot write the picture: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
