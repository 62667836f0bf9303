#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Draw from kept rows what a fault stops, and how long instances are down in a year, by width and by
what an instance does about a fault. All of it is modelled. Needs matplotlib and nothing else.

usage: availability.py availability.csv [--out FILE]     (default: availability.png beside the rows)
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import kept_rows
from kept_rows import GREY, BadInput

# Okabe and Ito's palette, as in detection.py; and what the legend calls a regime.
LINES = {("fixed", "paper"): ("#D55E00", "fixed membership: repair of 20.4 h"),
         ("restart", "paper"): ("#E69F00", "full restart, 348 s"),
         ("failover", "paper"): ("#CC79A7", "group failover, one standby group"),
         ("elastic", "paper"): ("#009E73", "elastic, the paper's pauses of 11 + 8 s"),
         ("elastic", "measured"): ("#0072B2", "elastic, pauses of 8 CPU ranks, 20 ms")}
COLUMNS = ("gpus", "mtbf_h", "width", "blast_share_of_fleet", "downtime_h_per_year",
           "lost_gpu_h_per_fault", "downtime_correlated", "seed")
TICKS = (8, 16, 32, 64, 128, 320)
TIMES = {1 / 3600: "1 s", 1 / 60: "1 min", 1.0: "1 h", 24.0: "1 day", 720.0: "30 days"}


def row_of(row):
    return {"line": (row["regime"], row["pauses"]), **{name: float(row[name]) for name in COLUMNS}}


def pick(rows, **wanted):
    """The rows with these values, by width."""
    mine = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    return sorted(mine, key=lambda row: row["width"])


def values_of(rows, name):
    return sorted({row[name] for row in rows})


def finish_axis(axis, rows, title, label):
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    ticks = [width for width in values_of(rows, "width") if width in TICKS]
    axis.set_xticks(ticks, [f"{width:.0f}" for width in ticks])
    axis.minorticks_off()
    axis.set_xlabel("width of an instance, GPUs")
    axis.set_ylabel(label)
    axis.set_title(title, fontsize=11.5)
    axis.grid(color=GREY, alpha=0.2, linewidth=0.6)


def draw_blast(axis, rows):
    """The share of the fleet that one fault stops; of an elastic instance, for its pauses only."""
    for gpus, dashes in zip(values_of(rows, "gpus"), ("solid", (0, (4, 2)), (0, (1, 2)))):
        mine = pick(rows, gpus=gpus, mtbf_h=rows[0]["mtbf_h"], line=("restart", "paper"))
        if not mine:
            continue
        widths = [row["width"] for row in mine]
        axis.plot(widths, [100 * row["blast_share_of_fleet"] for row in mine], color="#E69F00",
                  linestyle=dashes, marker="o", markersize=3, linewidth=1.6,
                  label=f"{gpus:,.0f} GPUs: the instance")
        axis.plot(widths, [100 / gpus for _ in mine], color="#009E73", linestyle=dashes,
                  linewidth=1.6, label=f"{gpus:,.0f} GPUs: elastic, after its pause")
    axis.legend(frameon=False, fontsize=8.5, loc="upper left")
    axis.set_ylim(0.005, 300)
    finish_axis(axis, rows, "blast radius", "of the fleet, stopped by one fault, %")


def draw_cost(axis, rows):
    for line, (colour, name) in LINES.items():
        if line == ("failover", "paper"):
            continue  # a restart's: the group is down as long
        mine = pick(rows, gpus=max(values_of(rows, "gpus")), mtbf_h=rows[0]["mtbf_h"], line=line)
        axis.plot([row["width"] for row in mine], [row["lost_gpu_h_per_fault"] for row in mine],
                  color=colour, marker="o", markersize=3, linewidth=1.6, label=name)
    finish_axis(axis, rows, f"one fault, MTBF {rows[0]['mtbf_h']:,.0f} h", "GPU-hours lost")


def draw_downtime(axis, rows, gpus):
    """A band from the longest MTBF to the shortest, with a line for each; and correlated faults."""
    mtbfs = values_of(rows, "mtbf_h")
    for line, (colour, name) in LINES.items():
        curves = [pick(rows, gpus=gpus, mtbf_h=mtbf_h, line=line) for mtbf_h in mtbfs]
        if not all(curves):
            continue
        widths = [row["width"] for row in curves[0]]
        hours = [[row["downtime_h_per_year"] for row in curve] for curve in curves]
        axis.fill_between(widths, hours[0], hours[-1], color=colour, alpha=0.22, linewidth=0)
        for values in hours:
            middle = values is hours[len(hours) // 2]
            axis.plot(widths, values, color=colour, linewidth=1.8 if middle else 0.5,
                      label=name if middle else None)
        if line[0] == "elastic":  # the others' dashes would lie on their lines
            axis.plot(widths, [row["downtime_correlated"] for row in curves[len(curves) // 2]],
                      color=colour, linewidth=1.2, linestyle=(0, (4, 2)))
    axis.text(0.5, 0.02, "dashed: some faults take a node or a rack", transform=axis.transAxes,
              ha="center", color=GREY, fontsize=9)
    finish_axis(axis, rows, f"an instance in a fleet of {gpus:,.0f} GPUs",
                "downtime in a year")
    axis.set_yticks(list(TIMES), list(TIMES.values()))


def draw(rows_path, picture):
    rows, comments = kept_rows.read_rows(rows_path, COLUMNS + ("regime", "pauses"), row_of)
    if not rows:
        raise BadInput(f"{rows_path}: no rows")
    strange = {row["line"] for row in rows} - set(LINES)
    if strange:
        raise BadInput(f"{rows_path}: no such regime: {', '.join(map(str, sorted(strange)))}")
    fleets, mtbfs = values_of(rows, "gpus"), values_of(rows, "mtbf_h")
    figure, axes = kept_rows.make_figure(2 + len(fleets), (4.4 * (2 + len(fleets)), 6.0))
    draw_blast(axes[0], rows)
    draw_cost(axes[1], rows)
    for axis, gpus in zip(axes[2:], fleets):
        draw_downtime(axis, rows, gpus)
    # The empty line below the title is the legend's.
    figure.suptitle("Modelled: what a fault of one GPU stops, and for how long\n", fontsize=13)
    handles, names = axes[2].get_legend_handles_labels()
    figure.legend(handles, names, loc="upper center", bbox_to_anchor=(0.5, 0.955), ncol=len(names),
                  frameon=False, fontsize=10, columnspacing=1.6)
    kept_rows.save_figure(
        figure, picture, f"{len(rows)} rows, modelled; bands: MTBF {mtbfs[0]:,.0f} to "
        f"{mtbfs[-1]:,.0f} h, thick line {mtbfs[len(mtbfs) // 2]:,.0f} h; dashed: "
        f"drawn with faults of nodes and racks, seeds {rows[0]['seed']:.0f} to "
        f"{rows[-1]['seed']:.0f}", comments)


if __name__ == "__main__":
    kept_rows.finish(lambda: kept_rows.main(
        "availability.py", "Draw from kept rows what a fault stops and how long instances are down.",
        "availability.csv", "fleets.py", "availability.png", draw), "availability.py")
