#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Draw what elastic membership costs while nothing fails: output rate against a fixed membership as
arXiv 2605.10670 publishes it, and the step of libeep over the same step with fixed membership, measured
on this host. Needs matplotlib and nothing else.

usage: static_overhead.py [--measured FILE] [--out FILE]
"""

import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import figure_inputs
import kept_rows
import paper_reference as paper
from figure_inputs import BLUE, GREEN, ORANGE, RED
from kept_rows import GREY, BadInput


def draw_published(axis):
    for (workload, points), colour, marker in zip(paper.STATIC_PERCENT.items(), (BLUE, ORANGE), "os"):
        axis.plot(list(points), list(points.values()), color=colour, marker=marker, label=workload)
    axis.axhline(0, color=GREY, linewidth=0.8)
    axis.set_xscale("log", base=2)
    axis.set_xticks([32, 64, 128, 256], ["32", "64", "128", "256"])
    axis.set_xlabel("requests at once")
    axis.set_ylabel("output rate, elastic over fixed, %")
    axis.set_ylim(-6, 6)
    axis.set_title(f"{paper.SOURCE}, published: whole engine, GPUs", fontsize=10.5)
    axis.legend(frameon=False, loc="upper right")


def cases_of(rows):
    """(label, percent, low, high, half width of the same twice, blocks) of each case."""
    found = {}
    for row in rows:
        tokens = re.search(r"tokens (\d+)", row["setup"])
        dtype = re.search(r"(bf16|fp8) dispatch", row["setup"])
        if tokens and dtype:
            found.setdefault((int(tokens.group(1)), dtype.group(1)), {})[row["metric"]] = row
    cases = []
    for (tokens, dtype), metrics in sorted(found.items()):
        if not {"elastic_over_fixed", "fixed_again_half_width"} <= set(metrics):
            raise BadInput(f"{tokens} tokens, {dtype}: no ratio, or no half width of the same twice")
        ratio = metrics["elastic_over_fixed"]
        cases.append((f"{tokens} token{'s' if tokens > 1 else ''}\n{dtype.upper()}",
                      *(100 * (float(ratio[key]) - 1) for key in ("value", "low", "high")),
                      100 * float(metrics["fixed_again_half_width"]["value"]),
                      int(ratio["n"])))
    return cases


def draw_measured(axis, cases):
    for i, (_, value, low, high, half, _) in enumerate(cases):
        axis.add_patch(kept_rows.plt.Rectangle((i - 0.3, -half), 0.6, 2 * half, color=GREY, alpha=0.3,
                                               linewidth=0,
                                               label="the same thing twice" if i == 0 else None))
        axis.errorbar([i], [value], yerr=[[value - low], [high - value]], color=GREEN, marker="o",
                      capsize=4, label="median, 95 % interval" if i == 0 else None)
        axis.annotate(f"{value:+.1f} %", (i, high), xytext=(0, 4), textcoords="offset points",
                      ha="center", fontsize=9)
    axis.axhline(0, color=GREY, linewidth=0.8)
    axis.axhline(1, color=RED, linewidth=1, linestyle=(0, (4, 2)), label="bar: 1 %, beside the same twice")
    axis.set_xticks(range(len(cases)), [label for label, *_ in cases])
    axis.set_xlim(-0.6, len(cases) - 0.4)
    axis.set_ylim(-1, 2)
    axis.set_ylabel("time of a step, elastic over fixed, %")
    axis.set_title("libeep, measured: 8 layers without expert computation, 2 host ranks", fontsize=10.5)
    axis.legend(frameon=False, loc="upper right", fontsize=9)


def draw(paths, picture):
    rows = figure_inputs.Rows(paths["measured"], "measured", {"setup", "metric", "n", "value", "low", "high"})
    cases = cases_of(rows)
    if not cases:
        raise BadInput(f"{paths['measured']}: no case of the overhead")
    figure, axes = kept_rows.make_figure(2, (12, 4.7), gridspec_kw={"width_ratios": [1, 1.2]})
    draw_published(axes[0])
    draw_measured(axes[1], cases)
    figure_inputs.save(figure, picture, [
        f"published: {paper.SOURCE}, output tok/s of its table; positive is faster there, slower on the right",
        rows.caption(f"{figure_inputs.count_text([blocks for *_, blocks in cases])} blocks a case")])


if __name__ == "__main__":
    figure_inputs.finish("static_overhead.py", "Draw what elastic membership costs while nothing fails.",
                         {"measured": "bench-host-overhead.csv"}, draw)
