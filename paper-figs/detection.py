#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Draw from kept rows how long it took until all survivors knew of a fault: a distribution per
mode, process size and kind. Needs matplotlib and nothing else.

usage: detection.py detect.csv [--out FILE]     (default: detection.png beside the rows)
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import kept_rows
from kept_rows import GREY, BadInput, quantile

# Okabe and Ito's palette, told apart with every common colour blindness; as in timeline.py.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
DASHES = {"idle": (0, (4, 2)), "loaded": "solid"}
KINDS = {"kill": "SIGKILL", "stop": "SIGSTOP, for good"}


def row_of(row):
    """The fault of a row, or None if not all survivors came to know of it."""
    if not row["last_ms"]:
        return None
    return {"mode": row["mode"], "kind": row["kind"], "ballast_mb": int(row["ballast_mb"]),
            "last_ms": float(row["last_ms"])}


def read_rows(path):
    """The faults that all survivors came to know of, and the file's comment lines."""
    rows, comments = kept_rows.read_rows(path, ("mode", "ballast_mb", "kind", "last_ms"), row_of)
    strange = {row["kind"] for row in rows} - set(KINDS) | {row["mode"] for row in rows} - \
        set(DASHES)
    if strange:
        raise BadInput(f"{path}: neither a mode nor a kind: {', '.join(sorted(strange))}")
    if not rows:
        raise BadInput(f"{path}: no fault that all survivors knew of")
    return rows, comments


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
            kept_rows.draw_shares(
                axis, values, linestyle=dashes, linewidth=1.8,
                color=COLOURS[sizes.index(size) % len(COLOURS)],
                label=f"{mode}, {size_text(size)}: p50 {quantile(values, 50):.0f}, "
                      f"p99 {quantile(values, 99):.0f}, max {values[-1]:.0f} ms, n {len(values)}")
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


def draw(rows_path, picture):
    rows, comments = read_rows(rows_path)
    kinds = [kind for kind in KINDS if any(row["kind"] == kind for row in rows)]
    sizes = sorted({row["ballast_mb"] for row in rows})
    figure, axes = kept_rows.make_figure(len(kinds), (6 * len(kinds), 4.9))
    for axis, kind in zip(axes, kinds):
        draw_kind(axis, rows, kind, sizes)
    kept_rows.save_figure(figure, picture, f"{len(rows)} faults", comments)


if __name__ == "__main__":
    kept_rows.finish(lambda: kept_rows.main(
        "detection.py",
        "Draw from kept rows how long it took until all survivors knew of a fault.",
        "detect.csv", "detect.py", "detection.png", draw), "detection.py")
