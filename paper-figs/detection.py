#!/usr/bin/python3
"""Draw from kept rows how long it took until all survivors knew of a fault: a distribution per
mode, process size and kind. Needs matplotlib and nothing else.

usage: detection.py detect.csv [--out FILE]     (default: detection.png beside the rows)
"""

import argparse
import csv
import os
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# Okabe and Ito's palette, told apart with every common colour blindness; as in timeline.py.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
DASHES = {"idle": (0, (4, 2)), "loaded": "solid"}
KINDS = {"kill": "SIGKILL", "stop": "SIGSTOP, for good"}
INK, GREY = "#222222", "#8C8C8C"


class BadInput(Exception):
    """Rows that are missing or not what they should be."""


def read_rows(path):
    """The faults that all survivors came to know of, and the file's comment lines."""
    names = ("mode", "ballast_mb", "kind", "last_ms")
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = file.read().splitlines()
        comments = [line[1:].strip() for line in lines if line.startswith("#")]
        reader = csv.DictReader(line for line in lines if not line.startswith("#"))
        missing = set(names) - set(reader.fieldnames or ())
        if missing:
            raise BadInput(f"{path}: no column {', '.join(sorted(missing))}")
        rows = [{"mode": row["mode"], "kind": row["kind"], "ballast_mb": int(row["ballast_mb"]),
                 "last_ms": float(row["last_ms"])} for row in reader if row["last_ms"]]
    except (OSError, TypeError, ValueError, csv.Error) as error:
        raise BadInput(f"{path}: {error}") from error
    strange = {row["kind"] for row in rows} - set(KINDS) | {row["mode"] for row in rows} - \
        set(DASHES)
    if strange:
        raise BadInput(f"{path}: neither a mode nor a kind: {', '.join(sorted(strange))}")
    if not rows:
        raise BadInput(f"{path}: no fault that all survivors knew of")
    return rows, comments


def quantile(values, percent):
    ordered = sorted(values)
    return ordered[max(-(-len(ordered) * percent // 100), 1) - 1]


def size_text(megabytes):
    return f"+{megabytes} MB" if megabytes else "small"


def draw_kind(axis, rows, kind, sizes):
    """For each mode and size, the share of faults that all survivors knew of by then."""
    mine = [row for row in rows if row["kind"] == kind]
    for mode, dashes in DASHES.items():
        for size in sizes:
            values = sorted(row["last_ms"] for row in mine
                            if (row["mode"], row["ballast_mb"]) == (mode, size))
            if not values:
                continue
            shares = [100.0 * (i + 1) / len(values) for i in range(len(values))]
            axis.step([values[0], *values], [0.0, *shares], where="post", linestyle=dashes,
                      color=COLOURS[sizes.index(size) % len(COLOURS)], linewidth=1.8,
                      label=f"{mode}, {size_text(size)}: p50 {quantile(values, 50):.0f}, "
                            f"p99 {quantile(values, 99):.0f}, max {values[-1]:.0f} ms, "
                            f"n {len(values)}")
    everything = [row["last_ms"] for row in mine]
    spread = max(everything) - min(everything)
    # A kill is compared with nothing at all, a stop with the silence that expels.
    low = 0 if kind == "kill" else min(everything) - 0.05 * spread
    axis.set_xlim(low, max(everything) + 0.05 * max(spread, 1.0))
    axis.set_ylim(0, 101)
    axis.set_xlabel(f"ms from {KINDS[kind]} until all survivors knew")
    axis.set_ylabel("share of faults, %")
    axis.grid(axis="x", color=GREY, alpha=0.25, linewidth=0.6)
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False, handlelength=2.2,
                fontsize=9)


def draw(rows, comments, path):
    plt.rcParams.update({"font.family": "DejaVu Sans", "font.size": 11, "text.color": INK,
                         "axes.edgecolor": GREY, "axes.labelcolor": INK, "xtick.color": INK,
                         "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False})
    kinds = [kind for kind in KINDS if any(row["kind"] == kind for row in rows)]
    sizes = sorted({row["ballast_mb"] for row in rows})
    figure, axes = plt.subplots(1, len(kinds), figsize=(6 * len(kinds), 4.9), squeeze=False)
    for axis, kind in zip(axes[0], kinds):
        draw_kind(axis, rows, kind, sizes)
    source = ";  ".join(line for line in comments if line.startswith(("commit", "machine")))
    figure.text(0.01, 0.01, f"n {len(rows)} faults.  {source}", fontsize=7.5, color=GREY)
    figure.tight_layout(rect=(0, 0.03, 1, 1), w_pad=2.5)
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(
        description="Draw from kept rows how long it took until all survivors knew of a fault.")
    parser.add_argument("rows", metavar="detect.csv", help="the rows that detect.py wrote")
    parser.add_argument("--out", metavar="FILE",
                        help="picture (default: detection.png beside the rows)")
    arguments = parser.parse_args()
    picture = arguments.out or os.path.join(os.path.dirname(arguments.rows), "detection.png")
    try:
        draw(*read_rows(arguments.rows), picture)
    except BadInput as error:
        print(f"detection.py: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"detection.py: cannot write the picture: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
