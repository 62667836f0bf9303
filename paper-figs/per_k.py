#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Draw how a loss of k ranks at once is survived, straight from the folders of `eep-run --repeat`:
the parts of the pause, the tokens per second that are left, and where weights came from, by k. Needs
matplotlib and nothing else.

usage: per_k.py DIR... [--out FILE]     (default: per_k.png in the first DIR)

DIR is an --out of `eep-run --repeat`. Runs are sorted by k on their own, so one folder may have
several k, and several folders the same. Beside the picture a CSV file has the row of every run.
"""

import argparse
import csv
import glob
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import figure_inputs
import kept_rows
from kept_rows import GREY, INK, BadInput, quantile

# Okabe and Ito's palette; parts as in timeline.py.
PARTS = (("detect", "#E69F00"), ("agree", "#56B4E9"), ("repair", "#009E73"), ("rerun", "#CC79A7"))
SOURCES = (("local_reuse", "#BBBBBB"), ("kept", "#DDDDDD"), ("live_replica", "#56B4E9"),
           ("own_backup", "#009E73"), ("node_backup", "#E69F00"), ("other_backup", "#D55E00"),
           ("checkpoint", "#CC79A7"))
COLUMNS = ("run", "commit", "seed", "ranks", "k", "pause_ms", *(f"{part}_ms" for part, _ in PARTS),
           "before", "degraded", *(name for name, _ in SOURCES), "weights_bytes")


def losses_of(summary):
    """The faults of a run by the view that healed them; None: of faults that none healed."""
    by_epoch = {}
    for fault in summary.get("faults", ()):
        if fault.get("pause_ms") is not None and fault.get("expelled"):
            by_epoch.setdefault(fault["epoch"], []).append(fault)
    return list(by_epoch.values())


def row_of(name, summary):
    """What a run says of its first loss; None: it had none that was healed."""
    losses = losses_of(summary)
    if not losses:
        return None
    loss = losses[0]
    longest = max(loss, key=lambda fault: fault["pause_ms"])
    row = {"run": name, "commit": summary["commit"], "seed": summary["seed"],
           "ranks": summary["ranks"], "k": len(loss), "pause_ms": longest["pause_ms"],
           "weights_bytes": sum(fault["weights_bytes_in_pause"] for fault in loss)}
    row.update({f"{part}_ms": longest[f"{part}_ms"] for part, _ in PARTS})
    row.update({name: summary["throughput"][name] for name in ("before", "degraded")})
    for name, _ in SOURCES:
        known = all("sources" in fault for fault in loss)  # older summaries have none
        row[name] = sum(fault["sources"][name]["fills"] for fault in loss) if known else None
    return row


def read(folders):
    rows, cpus = [], set()
    for folder in folders:
        paths = sorted(glob.glob(os.path.join(folder, "[0-9]*", "summary.json")))
        if not paths:
            raise BadInput(f"{folder}: no NNNN/summary.json: not an --out of eep-run --repeat")
        for path in paths:
            try:
                with open(path, encoding="utf-8") as file:
                    summary = json.load(file)
                row = row_of(os.path.relpath(os.path.dirname(path), os.path.dirname(folder.rstrip("/"))),
                             summary)
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise BadInput(f"{path}: {error!r}") from error
            if row:
                rows.append(row)
                machine = summary.get("machine")  # older summaries have none
                cpus.add(f"{machine['cpu']}, {machine['cores']} cores" if machine else "unknown")
    if not rows:
        raise BadInput(f"{' '.join(folders)}: no run lost a rank and went on")
    return rows, cpus


def of_k(rows, k, name):
    return [row[name] for row in rows if row["k"] == k and row[name] is not None]


def draw_parts(axis, rows, ks):
    """The parts of the run with the median pause, and every run's pause. Medians of the parts would
    not add up to a pause."""
    bottom = [0.0] * len(ks)
    shown = [figure_inputs.median_run([row for row in rows if row["k"] == k]) for k in ks]
    for part, colour in PARTS:
        heights = [row[f"{part}_ms"] for row in shown]
        axis.bar(range(len(ks)), heights, bottom=bottom, width=0.6, color=colour, label=part)
        bottom = [low + height for low, height in zip(bottom, heights)]
    for at, k in enumerate(ks):
        pauses = of_k(rows, k, "pause_ms")
        axis.plot([at] * len(pauses), pauses, ".", color=INK, markersize=4)
        axis.annotate(f"n {len(pauses)}", (at, max(pauses)), xytext=(0, 4), ha="center",
                      textcoords="offset points", fontsize=8, color=GREY)
    axis.set_ylabel("pause of the median run, ms; dots: each run")
    axis.margins(y=0.12)
    axis.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.14), ncol=4, handlelength=1,
                columnspacing=1)


def draw_throughput(axis, rows, ks):
    for at, k in enumerate(ks):
        kept = [100 * row["degraded"] / row["before"] for row in rows
                if row["k"] == k and row["degraded"] is not None and row["before"]]
        axis.plot([at] * len(kept), kept, ".", color=INK, markersize=4)
        if kept:
            axis.plot(at, quantile(kept, 50), "_", color="#D55E00", markersize=22, markeredgewidth=2)
        else:
            axis.text(at, 50, "too short\nto tell", ha="center", fontsize=8, color=GREY)
    axis.axhline(100, color=GREY, linewidth=0.8)
    axis.set_ylim(bottom=0)
    axis.set_ylabel("tokens per second left, % of before")


def draw_sources(axis, rows, ks):
    """Shares by source, of all runs of a k together. Local reuse counts experts, the others slots, and
    the legend says so."""
    bottom = [0.0] * len(ks)
    for name, colour in SOURCES:
        counts = [sum(of_k(rows, k, name)) for k in ks]
        wholes = [sum(sum(of_k(rows, k, one)) for one, _ in SOURCES) for k in ks]
        shares = [100 * count / whole if whole else 0 for count, whole in zip(counts, wholes)]
        if any(shares):
            axis.bar(range(len(ks)), shares, bottom=bottom, width=0.6, color=colour,
                     label=f"{'experts' if name == 'local_reuse' else 'slots'}: {name.replace('_', ' ')}")
        bottom = [low + share for low, share in zip(bottom, shares)]
    if any(bottom):
        axis.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=2,
                    handlelength=1, columnspacing=1, fontsize=8)
    axis.set_ylabel("experts reused and slots filled in the pause, %")


def draw(rows, cpus, picture):
    ks = sorted({row["k"] for row in rows})
    figure, axes = kept_rows.make_figure(3, (14, 4.8))
    for axis, part in zip(axes, (draw_parts, draw_throughput, draw_sources)):
        part(axis, rows, ks)
        axis.set_xticks(range(len(ks)), [str(k) for k in ks])
        axis.set_xlim(-0.6, len(ks) - 0.4)
        axis.set_xlabel(f"ranks lost at once, of {'/'.join(map(str, sorted({r['ranks'] for r in rows})))}")
    seeds = [row["seed"] for row in rows]
    kept_rows.save_figure(figure, picture, len(rows), [
        f"commit {' '.join(sorted({row['commit'] for row in rows}))}, seeds {min(seeds)} to {max(seeds)}",
        f"machine {' / '.join(sorted(cpus))}; measured"])


def write_rows(rows, path):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", metavar="DIR", nargs="+", help="an --out of eep-run --repeat")
    parser.add_argument("--out", metavar="FILE", help="picture (default: per_k.png in the first DIR)")
    arguments = parser.parse_args()
    picture = arguments.out or os.path.join(arguments.folders[0], "per_k.png")
    try:
        rows, cpus = read(arguments.folders)
        write_rows(rows, os.path.splitext(picture)[0] + ".csv")
        draw(rows, cpus, picture)
    except BadInput as error:
        print(f"per_k.py: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"per_k.py: cannot write the picture or its rows: {error}", file=sys.stderr)
        return 2
    print(f"{picture}: {len(rows)} runs")
    return 0


if __name__ == "__main__":
    kept_rows.finish(main, "per_k.py")
