#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Draw where the weights of the survivors' expert slots come from after 1, 2, 4, 8 and 16 of 32 ranks
failed: the mix that arXiv 2605.10670 publishes, the same way modelled with libeep's placement, and
libeep's own repair. Needs matplotlib and nothing else.

usage: source_mix.py [--modelled FILE] [--measured FILE] [--out FILE]
"""

import collections
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import figure_inputs
import kept_rows
import paper_reference as paper
from figure_inputs import BLUE, GREEN, ORANGE, RED, SKY
from kept_rows import BadInput

SOURCES = (("unchanged", "unchanged", SKY), ("live_replica", "a live replica", GREEN),
           ("own_node_backup", "backup of the own node", ORANGE),
           ("other_backup", "backup of another node", RED), ("checkpoint", "a checkpoint", BLUE))
PAPER_SOURCES = {"local": 0, "GPU": 1, "host memory": 2}


def shares_of(rows, prefix):
    """Per source, a value for each number of failed ranks."""
    by_failed = {int(row["failed"]): row for row in rows
                 if row["loads"] == "even" and row["how"] == "random"}
    missing = set(paper.FAILED) - set(by_failed)
    if missing:
        raise BadInput(f"no row of {sorted(missing)} failed ranks, random, loads even")
    return [[float(by_failed[failed][f"{prefix}{name}_percent"]) for failed in paper.FAILED]
            for name, _, _ in SOURCES]


def measured_shares(rows):
    """Means over the runs of as many failed ranks."""
    shares = [[] for _ in SOURCES]
    for failed in paper.FAILED:
        runs = [row for row in rows if int(row["failed"]) == failed]
        if not runs:
            raise BadInput(f"{rows.path}: no run with {failed} failed ranks")
        filled = [sum(100 * float(row[f"fill_{name}"]) / float(row["slots"]) for row in runs) / len(runs)
                  for name, _, _ in SOURCES[1:]]
        for column, value in zip(shares, [100 - sum(filled), *filled]):
            column.append(value)
    return shares


def draw_panel(axis, title, shares):
    bottom = [0.0] * len(paper.FAILED)
    for (_, label, colour), values in zip(SOURCES, shares):
        axis.bar(range(len(values)), values, bottom=bottom, width=0.8, color=colour, label=label)
        for i, value in enumerate(values):
            if value >= 4:
                axis.text(i, bottom[i] + value / 2, f"{value:.1f}", ha="center", va="center",
                          fontsize=8.5)
        bottom = [low + value for low, value in zip(bottom, values)]
    axis.set_xticks(range(len(paper.FAILED)), [str(failed) for failed in paper.FAILED])
    axis.set_xlabel("failed ranks of 32")
    axis.set_title(title, fontsize=10.5)
    axis.set_ylim(0, 100)


def draw(paths, picture):
    columns = {"loads", "how", "failed", "draws",
               *(f"{prefix}{name}_percent" for name, _, _ in SOURCES for prefix in ("", "anew_"))}
    rows = figure_inputs.Rows(paths["modelled"], "modelled", columns)
    measured = figure_inputs.Rows(paths["measured"], "measured with emulated expert time",
                                  {"failed"})
    has_sources = "slots" in measured[0]  # older rows do not say where weights came from
    count = figure_inputs.count_text(collections.Counter(row["failed"] for row in measured).values())
    figure, axes = kept_rows.make_figure(3 + has_sources, (12 + 3 * has_sources, 4.9), sharey=True)
    published = [[0.0] * len(paper.FAILED) for _ in SOURCES]
    for name, at in PAPER_SOURCES.items():
        published[at] = paper.MIX_PERCENT[name]
    draw_panel(axes[0], f"{paper.SOURCE}, published:\nall slots placed anew, inside the pause", published)
    draw_panel(axes[1], "modelled: all slots placed anew\nby libeep's placement", shares_of(rows, "anew_"))
    draw_panel(axes[2], "modelled: libeep's repair, live replicas\nbehind traffic, the rest in the pause",
               shares_of(rows, ""))
    if has_sources:
        draw_panel(axes[3], "measured here: libeep's repair of 32\nprocesses, until they come again",
                   measured_shares(measured))
    axes[0].set_ylabel("slots of the survivors, %")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncol=len(SOURCES), frameon=False, fontsize=9.5)
    figure_inputs.save(figure, picture, [
        f"published: {paper.SOURCE}, its table of recovery; host memory there is drawn as a backup of the own node",
        rows.caption(f"{rows[0]['draws']} losses a bar, random, all experts alike"),
        *([measured.caption(f"{count} runs a bar, whose mean it is; one layer of 64 experts")] if has_sources else [])],
                       top=0.93)


if __name__ == "__main__":
    figure_inputs.finish("source_mix.py", "Draw the sources of weights after failures.",
                         {"modelled": "paper-size/summary.csv", "measured": "failed-ranks/runs.csv"}, draw)
