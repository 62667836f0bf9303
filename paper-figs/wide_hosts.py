#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Draw from kept rows what a kill, a join and the loss of a host cost an instance of many hosts: time
until all agree, messages per rank, and bytes of views per rank. Needs matplotlib and nothing else.

usage: wide_hosts.py wide-hosts.csv [--out FILE]     (default: wide-hosts.png beside the rows)
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import kept_rows
from kept_rows import GREY, BadInput

EVENTS = {"kill": ("a rank is killed", "#D55E00"), "join": ("a rank joins", "#009E73"),
          "host": ("a host loses power", "#0072B2")}
COLUMNS = ("ranks", "hosts", "event", "messages", "documents", "document_bytes", "agreed_ms")


def row_of(row):
    if row["event"] not in EVENTS:
        raise BadInput(f"no such event: {row['event']}")
    return {name: row[name] if name == "event" else float(row[name]) for name in COLUMNS}


def medians(rows, event, value_of):
    """(ranks, median) of the rows with that event."""
    widths = sorted({row["ranks"] for row in rows if row["event"] == event})
    return [(ranks, kept_rows.quantile([value_of(row) for row in rows
                                        if row["event"] == event and row["ranks"] == ranks], 50))
            for ranks in widths]


PANELS = (("until all agree, ms", lambda row: row["agreed_ms"]),
          ("messages of a rank", lambda row: row["messages"] / row["ranks"]),
          ("views to and from a rank, KB", lambda row: row["document_bytes"] / row["ranks"] / 1000))


def draw(rows_path, picture):
    rows, comments = kept_rows.read_rows(rows_path, COLUMNS, row_of)
    if not rows:
        raise BadInput(f"{rows_path}: no rows")
    figure, axes = kept_rows.make_figure(len(PANELS), (12, 4.2))
    for axis, (label, value_of) in zip(axes, PANELS):
        for event, (name, colour) in EVENTS.items():
            points = medians(rows, event, value_of)
            axis.plot([ranks for ranks, _ in points], [value for _, value in points], color=colour,
                      marker="o", markersize=4, linewidth=1.5, label=name)
        axis.set_xscale("log", base=2)
        axis.set_xlabel("ranks, 8 on each host")
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
        axis.grid(color=GREY, alpha=0.2, linewidth=0.6)
    axes[0].legend(frameon=False, fontsize=9)
    kept_rows.save_figure(figure, picture, f"{len(rows)} histories, simulated from unit costs", comments)


if __name__ == "__main__":
    kept_rows.finish(lambda: kept_rows.main(
        "wide_hosts.py", "Draw from kept rows what events cost an instance of many hosts.",
        "wide-hosts.csv", "eep-sim", "wide-hosts.png", draw), "wide_hosts.py")
