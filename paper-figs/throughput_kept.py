#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Draw the throughput that is left after 1, 2, 4, 8 and 16 of 32 ranks failed: published and modelled
at that size on the left, measured on this machine with an emulated expert time on the right. Needs
matplotlib and nothing else.

usage: throughput_kept.py [--modelled FILE] [--measured FILE] [--out FILE]
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import figure_inputs
import kept_rows
import paper_reference as paper
from figure_inputs import BLUE, GREEN, ORANGE, RED
from kept_rows import GREY, INK, BadInput

LAWS = (("even", "experts alike", BLUE), ("z0.5", "Zipf 0.5", ORANGE))


def dress(axis, title, failed=paper.FAILED, ranks=32):
    axis.set_xscale("log", base=2)
    axis.set_xticks(failed, [str(k) for k in failed])
    axis.set_xlabel(f"failed ranks of {ranks}")
    axis.set_ylim(0, 105)
    axis.set_title(title, fontsize=10.5)
    axis.grid(axis="y", color=GREY, alpha=0.25, linewidth=0.6)
    axis.plot(failed, [100 * (ranks - k) / ranks for k in failed], color=GREY,
              linestyle=(0, (1, 2)), label="ranks left, %")
    axis.legend(loc="lower left", frameon=False, fontsize=9.5)


def tell(axis, failed, values, colour, below=()):
    for k, value in zip(failed, values):
        axis.annotate(f"{value:.1f}", (k, value), xytext=(0, -14 if k in below else 6), ha="center",
                      textcoords="offset points", fontsize=8.5, color=colour)


def draw_modelled(axis, rows):
    axis.plot(paper.FAILED, paper.THROUGHPUT_KEPT_PERCENT, color=INK, marker="s", linewidth=1.8,
              label=f"{paper.SOURCE}, published")
    tell(axis, paper.FAILED, paper.THROUGHPUT_KEPT_PERCENT, INK, below=(1, 2, 4))
    for law, label, colour in LAWS:
        picked = {int(row["failed"]): row for row in rows if row["loads"] == law and row["how"] == "random"}
        if set(paper.FAILED) - set(picked):
            raise BadInput(f"{law}: not all numbers of failed ranks are there")
        axis.plot(paper.FAILED, [100 * float(picked[k]["throughput_kept"]) for k in paper.FAILED],
                  color=colour, marker="o", linewidth=1.6, label=f"libeep, modelled, {label}")
    dress(axis, "published and modelled: DeepSeek-V3 on 32 GPUs")
    return int(rows[0]["draws"])


def draw_measured(axis, rows):
    failed = sorted({int(row["failed"]) for row in rows})
    kept = [[float(row["kept_percent"]) for row in rows if int(row["failed"]) == k] for k in failed]
    for k, values in zip(failed, kept):
        axis.plot([k] * len(values), values, color=GREEN, marker="o", markersize=4, linestyle="none",
                  alpha=0.5, label="libeep, measured, each run" if k == failed[0] else None)
    medians = [kept_rows.quantile(values, 50) for values in kept]
    axis.plot(failed, medians, color=GREEN, marker="D", linewidth=1.8, label="libeep, measured, median")
    tell(axis, failed, medians, GREEN, below=failed)
    again = [kept_rows.quantile([float(row["after_percent"]) for row in rows if int(row["failed"]) == k], 50)
             for k in failed]
    axis.plot(failed, again, color=RED, marker="^", linewidth=1.2, label="once all have come again, median")
    dress(axis, f"measured with emulated expert time:\n{rows.processes()}, small experts", failed, rows.ranks())


def draw(paths, picture):
    modelled = figure_inputs.Rows(paths["modelled"], "modelled",
                                  {"loads", "how", "failed", "draws", "throughput_kept"})
    measured = figure_inputs.Rows(paths["measured"], "measured with emulated expert time",
                                  {"ranks", "failed", "kept_percent", "after_percent"})
    figure, axes = kept_rows.make_figure(2, (12, 5.2))
    draws = draw_modelled(axes[0], modelled)
    draw_measured(axes[1], measured)
    axes[0].set_ylabel("throughput after the failure, % of before")
    top = max([105.0, *(1.05 * float(row["after_percent"]) for row in measured)])
    axes[1].set_ylim(0, top)
    figure_inputs.save(figure, picture, [
        "the model takes all of a step to be expert time of the most loaded rank, once nothing is left to move",
        modelled.caption(f"{draws} losses a point, random, means"),
        measured.caption(figure_inputs.runs_each(measured, "median"))])


if __name__ == "__main__":
    figure_inputs.finish("throughput_kept.py", "Draw the throughput left after failures.",
                         {"modelled": "paper-size/summary.csv", "measured": "failed-ranks/runs.csv"}, draw)
