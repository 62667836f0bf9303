#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Draw what `eep-plan --config paper --failed K --json` says of a loss: sources, the most loaded links,
balance, and the pause, whose measured parts are hatched. Needs matplotlib and nothing else.

usage: plan_picture.py [--plan FILE] [--out FILE]
"""

import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import figure_inputs
import kept_rows
from figure_inputs import BLUE, GREEN, ORANGE, PINK, RED, SKY
from kept_rows import GREY, BadInput

COLOURS = {"unchanged": SKY, "live_replica": GREEN, "own_node_backup": ORANGE,
           "other_backup": RED, "checkpoint": BLUE}
PARTS = {"detect": ORANGE, "agree": SKY, "repair": GREEN, "rerun": PINK}
MEASURED = ("detect", "agree")  # the other parts of the pause are modelled
BALANCE = {"before": "before the loss", "paused": "after the pause", "rest": "when all is moved"}
MOST_LINKS = 8


def draw_sources(axis, plan):
    rows = (("libeep's\nrepair", plan["sources"]), ("all placed\nanew", plan["placed_anew"]["sources"]))
    for at, (_, sources) in enumerate(rows):
        left = 0.0
        for name, source in sources.items():
            axis.barh(at, source["percent"], left=left, height=0.55, color=COLOURS[name],
                      label=name.replace("_", " ") if at == 0 else None)
            if source["percent"] >= 8:
                axis.text(left + source["percent"] / 2, at, f"{source['percent']:.1f}", ha="center",
                          va="center", fontsize=9)
            left += source["percent"]
    axis.set_yticks(range(len(rows)), [label for label, _ in rows])
    axis.set_xlim(0, 100)
    axis.set_ylim(-0.5, 2.1)
    axis.set_xlabel("slots of the survivors, %")
    axis.legend(loc="upper center", ncol=3, frameon=False, fontsize=8, handlelength=0.8,
                columnspacing=1.0)
    axis.set_title("where weights come from", fontsize=10.5)


def draw_links(axis, plan):
    links = sorted(plan["pause"]["links"], key=lambda link: -link["ms"])[:MOST_LINKS]
    axis.set_title("the most loaded links in the pause", fontsize=10.5)
    if not links:
        axis.text(0.5, 0.5, "nothing is moved in the pause", ha="center", transform=axis.transAxes)
        axis.set_axis_off()
        return
    axis.barh(range(len(links)), [link["ms"] for link in links], color=GREY, height=0.7)
    axis.set_yticks(range(len(links)), [link["link"] for link in links], fontsize=8.5)
    axis.axvline(plan["pause"]["bound_ms"], color=RED, linestyle=(0, (4, 2)),
                 label=f"no plan is faster: {plan['pause']['bound_ms']:.1f} ms")
    axis.invert_yaxis()
    axis.set_xlabel("ms")
    axis.set_xlim(0, 1.1 * max(links[0]["ms"], plan["pause"]["bound_ms"]))
    axis.set_ylim(len(links) - 0.4, -1.4)
    axis.legend(loc="upper left", frameon=False, fontsize=8.5)


def draw_times(axis, plan):
    modelled, left = plan["modelled"], 0.0
    for name, colour in PARTS.items():
        width = modelled[f"{name}_ms"]
        measured = name in MEASURED
        axis.barh(0, width, left=left, color=colour, height=0.5, hatch="////" if measured else None,
                  edgecolor="white", linewidth=0,
                  label=f"{name} {width:.1f}, {'measured' if measured else 'modelled'}")
        left += width
    axis.text(left, 0, f" {left:.0f}", va="center", weight="bold")
    axis.set_xlim(0, 1.2 * left)
    axis.set_ylim(-0.8, 1.1)
    axis.set_yticks([])
    axis.set_xlabel("pause, ms")
    axis.legend(loc="upper center", ncol=2, frameon=False, fontsize=8.5, handlelength=1.0)
    balance = plan["balance"]
    axis.set_title("the pause: repair and rerun modelled,\ndetect and agree measured", fontsize=10.5)
    axis.text(0.5, 0.02, "most loaded rank over the mean:\n"
              + "\n".join(f"{text} {balance[name]['mean']:.3f}" for name, text in BALANCE.items()),
              transform=axis.transAxes, ha="center", fontsize=8.5)


def draw(paths, picture):
    try:
        with open(paths["plan"], encoding="utf-8") as file:
            plan = json.load(file)
        figure, axes = kept_rows.make_figure(3, (13.5, 4.3), gridspec_kw={"width_ratios": [1, 0.9, 1.15]})
        draw_sources(axes[0], plan)
        draw_links(axes[1], plan)
        draw_times(axes[2], plan)
        instance = plan["instance"]
        moved = sum(plan["pause"][source]["bytes"] for source in ("own_node_backup", "other_backup", "checkpoint"))
        seed = f"seed {plan['seed']}, " if "seed" in plan else ""
        caption = (f"modelled: {figure_inputs.place_of(paths['plan'])}, commit "
                   f"{plan.get('commit', 'unknown')}, {seed}n 1 plan; {instance['ranks']:.0f} ranks on "
                   f"{instance['nodes']:.0f} nodes, lost {' '.join(str(rank) for rank in instance['lost'])}; "
                   f"{moved / 1e9:.1f} GB in the pause, {plan['behind_traffic']['bytes'] / 1e9:.1f} GB behind it in "
                   f"{plan['behind_traffic']['ms'] / 1e3:.2f} s, {plan['placed_anew']['bytes'] / 1e9:.0f} GB placed anew")
        constants = {item["name"]: item for item in plan["modelled"]["constants"]}
        measured = "measured: " + "; ".join(
            f"{name} {constants[name + '_ms']['value']:.1f} ms, {constants[name + '_ms']['source']}"
            for name in MEASURED)
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{paths['plan']}: not a plan with --behind --json: {error}") from error
    figure_inputs.save(figure, picture, [caption, measured])


if __name__ == "__main__":
    figure_inputs.finish("plan_picture.py", "Draw what eep-plan says of a loss.",
                         {"plan": "paper-size/plan-16.json"}, draw)
