#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Draw what the model of eep-plan predicts for runs of 8, 16 and 32 processes on this machine beside
what was measured, with the error: bytes and seconds of the repair inside the pause, and the throughput
that is left. Needs matplotlib and nothing else.

usage: predicted.py [--check FILE] [--modelled FILE] [--measured FILE] [--out FILE]
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import figure_inputs
import kept_rows
from figure_inputs import BLUE, GREEN, ORANGE
from kept_rows import GREY, BadInput

LOOKS = {8: (BLUE, "o"), 16: (ORANGE, "s"), 32: (GREEN, "D")}


def draw_pairs(axis, pairs, unit, is_log):
    """`pairs`: (ranks, predicted, measured)."""
    for ranks, (colour, marker) in LOOKS.items():
        mine = [(a, b) for n, a, b in pairs if n == ranks]
        if mine:
            axis.plot([a for a, _ in mine], [b for _, b in mine], color=colour, marker=marker,
                      linestyle="none", alpha=0.75, label=f"{ranks} ranks")
    values = [value for _, a, b in pairs for value in (a, b)]
    low, high = (min(values) / 1.5, max(values) * 1.5) if is_log else (0, 1.1 * max(values))
    axis.plot([low, high], [low, high], color=GREY, linestyle=(0, (4, 2)), linewidth=1, label="as predicted")
    if is_log:
        axis.set_xscale("log")
        axis.set_yscale("log")
    axis.set_xlim(low, high)
    axis.set_ylim(low, high)
    axis.set_xlabel(f"predicted, {unit}")
    axis.set_ylabel(f"measured, {unit}")
    axis.legend(loc="lower right", frameon=False, fontsize=8.5)
    errors = [100 * (a / b - 1) for _, a, b in pairs]
    return (f"error of the prediction: median {kept_rows.quantile(errors, 50):+.0f} %, "
            f"{min(errors):+.0f} to {max(errors):+.0f} %")


def kept_pairs(modelled, measured):
    """Throughput left, of the modelled placement with the same ratio of slots to experts. Modelled are
    losses of 32 ranks, so other runs have nothing to stand beside."""
    kept = {int(row["failed"]): 100 * float(row["throughput_kept"]) for row in modelled
            if row["loads"] == "even" and row["how"] == "random"}
    return [(int(row["ranks"]), kept[int(row["failed"])], float(row["kept_percent"]))
            for row in measured if int(row["failed"]) in kept and row["ranks"] == "32"]


def draw(paths, picture):
    check = figure_inputs.Rows(paths["check"], "measured and predicted",
                               {"ranks", "predicted_bytes", "measured_bytes", "predicted_ms", "measured_ms"})
    modelled = figure_inputs.Rows(paths["modelled"], "modelled", {"loads", "how", "failed", "draws", "throughput_kept"})
    measured = figure_inputs.Rows(paths["measured"], "measured with emulated expert time",
                                  {"ranks", "failed", "kept_percent"})
    moved = [row for row in check if float(row["measured_ms"]) > 0]
    figure, axes = kept_rows.make_figure(3, (13, 5.0))
    panels = (("bytes restored in the pause", "MB", True,
               [(int(row["ranks"]), float(row["predicted_bytes"]) / 1e6, float(row["measured_bytes"]) / 1e6)
                for row in moved]),
              ("time of the repair in the pause", "ms", True,
               [(int(row["ranks"]), float(row["predicted_ms"]), float(row["measured_ms"])) for row in moved]),
              ("throughput after the failure", "% of before", False, kept_pairs(modelled, measured)))
    num_kept = len(panels[2][3])
    if not num_kept:
        raise BadInput(f"{paths['measured']}: no run of 32 ranks, which {paths['modelled']} is of")
    for axis, (title, unit, is_log, pairs) in zip(axes, panels):
        error = draw_pairs(axis, pairs, unit, is_log)
        axis.set_title(f"{title}\n{error}", fontsize=10)
    figure_inputs.save(figure, picture, [
        check.caption(f"1 run a point, {len(moved)} points; rates by eep-bench-repair just before each run"),
        modelled.caption(f"{modelled[0]['draws']} losses a point, means, random, all experts alike"),
        measured.caption(f"1 run a point, {num_kept} points")])


if __name__ == "__main__":
    figure_inputs.finish("predicted.py", "Draw what the model predicts beside what was measured.",
                         {"check": "model-check/check.csv", "modelled": "paper-size/summary.csv",
                          "measured": "failed-ranks/runs.csv"}, draw)
