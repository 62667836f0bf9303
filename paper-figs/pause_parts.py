#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Draw the parts of the recovery pause after 1, 2, 4, 8 and 16 of 32 ranks failed: as arXiv 2605.10670
publishes them, as libeep's are at that size, and as they are measured on this machine with an emulated
expert time. Each has a panel of its own. In the second one repair and rerun are modelled, detect and
agree are measured and hatched, and the caption has a line for each. Needs matplotlib and nothing else.

usage: pause_parts.py [--modelled FILE] [--measured FILE] [--constants FILE] [--out FILE]
"""

import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import figure_inputs
import kept_rows
import paper_reference as paper
from figure_inputs import BLUE, GREEN, ORANGE, PINK, SKY
from kept_rows import GREY, BadInput

PARTS = (("detect", ORANGE), ("agree", SKY), ("repair", GREEN), ("rerun", PINK))
MEASURED = ("detect", "agree")  # of the pause at the paper's size; the other parts are modelled


def draw_stacks(axis, failed, parts, unit, digits, ranks=32):
    """`parts`: (label, colour, a value for each number of failed ranks), and a hatch or none."""
    bottom = [0.0] * len(failed)
    for label, colour, values, *hatch in parts:
        axis.bar(range(len(failed)), values, bottom=bottom, width=0.75, color=colour, label=label,
                 hatch=hatch[0] if hatch else None, edgecolor="white", linewidth=0)
        bottom = [low + value for low, value in zip(bottom, values)]
    for i, whole in enumerate(bottom):
        axis.text(i, whole, f"{whole:.{digits}f}", ha="center", va="bottom", fontsize=9, weight="bold")
    axis.set_xticks(range(len(failed)), [str(k) for k in failed])
    axis.set_ylim(0, 1.3 * max(bottom))
    axis.set_xlabel(f"failed ranks of {ranks}")
    axis.set_ylabel(f"pause, {unit}")
    axis.legend(loc="upper center", ncol=2, frameon=False, fontsize=8.5, handlelength=1.0)


def draw_published(axis):
    known = (("metadata", SKY, paper.METADATA_S), ("GPU to GPU", GREEN, paper.GPU_P2P_S),
             ("weight load", BLUE, paper.WEIGHT_LOAD_S))
    rest = [total - sum(values[i] for _, _, values in known) for i, total in enumerate(paper.TOTAL_S)]
    draw_stacks(axis, paper.FAILED, (*known, ("the rest", GREY, rest)), "s", 1)
    axis.set_title(f"{paper.SOURCE}, published", fontsize=10.5)


def constant(constants, name, member="value"):
    try:
        return next(item[member] for item in constants if item["name"] == name)
    except StopIteration:
        raise BadInput(f"no constant {name}") from None


def kind_of(part):
    return "measured" if part in MEASURED else "modelled"


def draw_modelled(axis, rows, constants):
    """Mean repair of random losses; rerun is what is left of the whole pause."""
    picked = {int(row["failed"]): row for row in rows
              if row["loads"] == "even" and row["how"] == "random"}
    if set(paper.FAILED) - set(picked):
        raise BadInput("not all numbers of failed ranks are there")
    chosen = [picked[failed] for failed in paper.FAILED]
    detect, agree = constant(constants, "detect_ms"), constant(constants, "agree_ms")
    repair = [1e3 * float(row["pause_s_mean"]) for row in chosen]
    rerun = [float(row["modelled_pause_ms"]) - detect - agree - one for row, one in zip(chosen, repair)]
    values = ([detect] * len(chosen), [agree] * len(chosen), repair, rerun)
    draw_stacks(axis, paper.FAILED, [
        (f"{name}, {kind_of(name)}", colour, one, "////" if name in MEASURED else None)
        for (name, colour), one in zip(PARTS, values)], "ms", 0)
    axis.set_title("libeep at that size: repair and rerun modelled,\ndetect and agree measured",
                   fontsize=10.5)
    return int(chosen[0]["draws"])


def draw_measured(axis, rows):
    """The parts of the run with the median pause: medians of the parts would not add up to a pause."""
    failed = sorted({int(row["failed"]) for row in rows})
    shown = [figure_inputs.median_run([row for row in rows if int(row["failed"]) == k]) for k in failed]
    parts = [(name, colour, [float(row[f"{name}_ms"]) for row in shown]) for name, colour in PARTS]
    draw_stacks(axis, failed, parts, "ms", 0, rows.ranks())
    axis.set_title(f"libeep, measured: {rows.processes()},\nsmall experts, emulated expert time",
                   fontsize=10.5)


def draw(paths, picture):
    modelled = figure_inputs.Rows(paths["modelled"], "modelled",
                                  {"loads", "how", "failed", "draws", "pause_s_mean", "modelled_pause_ms"})
    measured = figure_inputs.Rows(paths["measured"], "measured with emulated expert time",
                                  {"ranks", "failed", "pause_ms", *(f"{name}_ms" for name, _ in PARTS)})
    try:
        with open(paths["constants"], encoding="utf-8") as file:
            constants = json.load(file)["modelled"]["constants"]
    except (ValueError, KeyError) as error:
        raise BadInput(f"{paths['constants']}: {error}") from error
    figure, axes = kept_rows.make_figure(3, (13, 5.0))
    draw_published(axes[0])
    draws = draw_modelled(axes[1], modelled, constants)
    draw_measured(axes[2], measured)
    figure_inputs.save(figure, picture, [
        f"published: {paper.SOURCE}; a silent rank there, as in libeep, is detected after a deadline of 1 s, "
        "which the pause of an ended process, in the second panel, does not have",
        "measured, second panel, the same in every bar: "
        + "; ".join(f"{name} {constant(constants, name + '_ms'):.1f} ms, {constant(constants, name + '_ms', 'source')}"
                    for name in MEASURED),
        modelled.caption(f"{draws} losses a bar, random, all experts alike; repair: means of the most loaded link; "
                         "rerun: a step of the paper's, longer by what is lost"),
        measured.caption(f"{figure_inputs.runs_each(measured, 'bar')}, parts of the run with the median pause; agree has "
                         "the end of the emulated experts of the aborted step in it, rerun a whole step")])


if __name__ == "__main__":
    figure_inputs.finish("pause_parts.py", "Draw the parts of the pause after failures.",
                         {"modelled": "paper-size/summary.csv", "measured": "failed-ranks/runs.csv",
                          "constants": "paper-size/plan-1.json"}, draw)
