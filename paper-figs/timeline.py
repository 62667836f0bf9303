#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Draw the timeline of a run from its kept rows: throughput, faults and joins, what each seat did,
and the first fault's pause close up. With --beside a second run is drawn on the same axis, its first
fault at the same place: an elastic run beside a full restart. Needs matplotlib and nothing else.

usage: timeline.py DIR [--beside DIR] [--out FILE]     (default: DIR/timeline.png)
"""

import argparse
import csv
import itertools
import json
import os
import sys
import textwrap
import typing

try:
    import matplotlib
except ImportError as error:
    sys.exit(f"{os.path.basename(sys.argv[0])}: {error}: the figures need matplotlib "
             "(Debian: python3-matplotlib)")

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.collections import PolyCollection
from matplotlib.patches import Patch

# Okabe and Ito's palette, told apart with every common colour blindness.
BLUE, SKY, GREEN, ORANGE, RED, PINK = (
    "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7")
INK, GREY = "#222222", "#8C8C8C"
GENERATION_COLOURS = (BLUE, ORANGE, GREEN, PINK, SKY)
YELLOW = "#F0E442"
PARTS = (("detect", ORANGE), ("agree", SKY), ("repair", GREEN), ("rerun", PINK))
RESTART_PARTS = (("detect", ORANGE), ("exit", GREY), ("spawn", YELLOW), ("open", SKY),
                 ("load", GREEN), ("capture", INK), ("enter", BLUE), ("token", PINK))
BIN_MS, FINE_BIN_MS = 100.0, 20.0
MOST_BINS = 200
BESIDE_BIN_MS, BESIDE_AFTER_MS = 250.0, 8000.0  # of two runs: bins, and what is shown at least
ZOOM_BEFORE_MS, ZOOM_AFTER_MS = 50.0, 150.0
MANY_MARKS = 8  # from here on labels name only the seats
NEAR_SHARE = 0.015  # of the width: marks that are nearer to each other share a label
LEFT_SHARE = 0.88  # of the axis: labels of what is later stand on the left of their line
# What a fault is called in a figure, where its kind in summary.json does not say it.
FAULT_WORDS = {"exit": "end of", "killed": "outside kill", "slow": "expelled, slow:"}


class BadInput(Exception):
    """A file that is missing or not what it should be."""


def read_rows(directory, name, columns):
    """The rows of a CSV file as dicts; `columns` maps a name to its type."""
    path = os.path.join(directory, name)
    rows = []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            num_comments, header = 0, file.readline()
            while header.startswith("#"):
                num_comments, header = num_comments + 1, file.readline()
            reader = csv.DictReader(itertools.chain([header], file))
            missing = set(columns) - set(reader.fieldnames or ())
            if missing:
                raise BadInput(f"{path}:{num_comments + 1}: no column {', '.join(sorted(missing))}")
            for row in reader:
                try:
                    rows.append({key: kind(row[key]) for key, kind in columns.items()})
                except (TypeError, ValueError) as error:
                    raise BadInput(f"{path}:{num_comments + reader.line_num}: {error}") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path}: {error}") from error
    return rows


def read_summary(directory):
    path = os.path.join(directory, "summary.json")
    try:
        with open(path, encoding="utf-8") as file:
            summary = json.load(file)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: {error}") from error
    if not isinstance(summary, dict):
        raise BadInput(f"{path}: not an object")
    return summary


class Mark(typing.NamedTuple):
    """Something that befell a seat: "kill" of seat 3 at 5000 ms."""
    time_ms: float
    word: str
    seat: int
    colour: str


class Pause(typing.NamedTuple):
    """What a figure shows of the first fault. `total_ms` None: no pause was measured."""
    time_ms: float
    kind: str
    seat: int
    total_ms: typing.Optional[float]
    parts: tuple  # (name, colour, ms), one behind the other


class Run:
    """What the figure shows; all times in ms since the start of the run."""

    def __init__(self, directory):
        self.summary = read_summary(directory)
        self.steps = read_rows(directory, "steps.csv", {
            "seat": int, "generation": int, "begin_ms": float, "end_ms": float, "status": int})
        self.token_times = sorted(
            row["time_ms"] for row in read_rows(directory, "tokens.csv", {"time_ms": float}))
        self.events = read_rows(directory, "events.csv", {
            "time_ms": float, "seat": int, "generation": int, "kind": str, "about_seat": int,
            "about_generation": int, "value": int})
        if not self.steps:
            raise BadInput(f"{directory}/steps.csv: no steps")
        self.seats = sorted({step["seat"] for step in self.steps})
        self.is_restart = self.summary.get("baseline") == "restart"
        self.restarts = self.summary.get("restarts", ())  # older rows have none
        self.faults = self._find_faults()
        self.marks = self._find_marks()
        self.joins = self._find_joins()
        last = max(step["end_ms"] for step in self.steps)
        self.begin_ms = min(0.0, self.token_times[0]) if self.token_times else 0.0
        marked = [mark.time_ms for mark in self.marks + self.joins]
        self.end_ms = max([last] + self.token_times[-1:] + marked)
        self.order = self._order_generations()

    def _find_faults(self):
        """The summary's faults, by time. Each carries its own seat, kind and parts, so nothing is
        ever paired with it by its place in a list."""
        faults = [fault for fault in self.summary.get("faults", ())
                  if fault.get("time_ms") is not None]
        return sorted(faults, key=lambda fault: fault["time_ms"])

    def _find_marks(self):
        """What was done to the ranks, by time: every fault, and what the script did that is none.
        `slow` and `drain` are no faults unless the rank is expelled for them."""
        marks = [Mark(fault["time_ms"], FAULT_WORDS.get(fault["kind"], fault["kind"]),
                      fault["rank"], RED) for fault in self.faults]
        for event in self.events:
            if event["kind"] == "drain" or (event["kind"] == "slow" and event["value"] > 1000):
                marks.append(Mark(event["time_ms"], event["kind"], event["seat"], PINK))
        return sorted(marks)

    def _find_joins(self):
        """A mark when each joiner's view went live: its flip, else its first step."""
        joins = []
        for join in self.summary.get("joins", ()):
            who = (join["rank"], join["generation"])
            flips = [event["time_ms"] for event in self.events
                     if event["kind"] == "flipped"
                     and (event["about_seat"], event["about_generation"]) == who]
            steps = [step["begin_ms"] for step in self.steps
                     if (step["seat"], step["generation"]) == who]
            if flips or steps:
                joins.append(Mark(min(flips or steps), "join", join["rank"], GREEN))
        return sorted(joins)

    def _order_generations(self):
        """(seat, generation) -> 0 for the first process in the seat, 1 for the second, ..."""
        order = {}
        for seat in self.seats:
            found = sorted({s["generation"] for s in self.steps if s["seat"] == seat})
            order.update({(seat, generation): i for i, generation in enumerate(found)})
        return order


def rate(times, begin, end, width):
    """Bin edges and tokens per second in each bin; the last bin may be a shorter one."""
    count = max(1, int((end - begin) // width))
    bins = [0] * count
    for time in times:
        index = int((time - begin) // width)
        if 0 <= index < count:
            bins[index] += 1
    return [begin + i * width for i in range(count + 1)], [n * 1000.0 / width for n in bins]


def draw_rate(axis, run, width_ms, colour, shift_ms, label, until_ms=float("inf")):
    """Its tokens per second as stairs; returns the largest value before `until_ms`."""
    edges, values = rate(run.token_times, run.begin_ms, run.end_ms, width_ms)
    edges = [(edge + shift_ms) / 1000.0 for edge in edges]
    axis.stairs(values, edges, color=colour, linewidth=1.6, zorder=2, label=label)
    axis.stairs(values, edges, color=colour, fill=True, alpha=0.12, zorder=0)
    return max([value for value, edge in zip(values, edges) if 1000.0 * edge < until_ms] or [0])


def draw_throughput(axis, run):
    # A long run has wider bins, so that each can be seen.
    width_ms = BIN_MS * max(1, round((run.end_ms - run.begin_ms) / MOST_BINS / BIN_MS))
    fine_ms = width_ms * FINE_BIN_MS / BIN_MS
    largest = draw_rate(axis, run, width_ms, BLUE, 0.0, f"{width_ms:.0f} ms bins")
    fine_edges, fine = rate(run.token_times, run.begin_ms, run.end_ms, fine_ms)
    middles = [(a + b) / 2000.0 for a, b in zip(fine_edges, fine_edges[1:])]
    axis.plot(middles, fine, color=GREY, linewidth=0.6, alpha=0.7, zorder=1,
              label=f"{fine_ms:.0f} ms bins")
    top = max(sorted(fine)[int(0.995 * (len(fine) - 1))], largest, 1.0)
    axis.set_ylim(0, top * 1.28)
    axis.set_ylabel("tokens per second")
    axis.legend(loc="lower left", ncol=2, frameon=True, framealpha=0.9, edgecolor="none")


def label_groups(marks, nearest_ms):
    """Lists of neighbours that do the same: each list gets one label, which names all its seats."""
    groups = []
    for one in sorted(marks):
        near = [group for group in groups
                if group[0].word == one.word and one.time_ms - group[-1].time_ms <= nearest_ms]
        if near:
            near[-1].append(one)
        else:
            groups.append([one])
    return groups


def label_of(group, is_short):
    """"kill seats 1, 14" """
    seats = ", ".join(str(seat) for seat in sorted({one.seat for one in group}))
    if is_short:
        return seats
    return f"{group[0].word} seat{'s' if ',' in seats else ''} {seats}"


def draw_marks(axis, marks, nearest_ms, height):
    """A vertical line per mark; labels at `height` of the axis, one below the other while they
    are too near to stand side by side."""
    for one in marks:
        axis.axvline(one.time_ms / 1000.0, color=one.colour, linewidth=1.4,
                     linestyle=(0, (4, 2)), zorder=3)
    begin, end = (1000.0 * limit for limit in axis.get_xlim())
    groups = label_groups(marks, nearest_ms)
    is_short = len(groups) > MANY_MARKS
    row, last_ms = 0, None
    for group in groups:
        near = last_ms is not None and group[0].time_ms - last_ms < 8 * nearest_ms
        row, last_ms = (row + 1) % 4 if near else 0, group[0].time_ms
        at_end = group[0].time_ms > begin + LEFT_SHARE * (end - begin)
        axis.annotate(label_of(group, is_short), (group[0].time_ms / 1000.0, height),
                      xycoords=("data", "axes fraction"), xytext=(-4 if at_end else 4, -12 * row),
                      textcoords="offset points", color=group[0].colour, va="top",
                      ha="right" if at_end else "left",
                      weight="bold", fontsize=7 if is_short else 10)


def merge(intervals, gap):
    """Sorted intervals, with neighbours that are nearer than `gap` made one."""
    merged = []
    for begin, end in sorted(intervals):
        if merged and begin - merged[-1][1] <= gap:
            merged[-1][1] = max(end, merged[-1][1])
        else:
            merged.append([begin, end])
    return merged


def add_bars(axis, intervals, lane, scale, **style):
    half = 0.36
    boxes = [[(a * scale, lane - half), (b * scale, lane - half), (b * scale, lane + half),
              (a * scale, lane + half)] for a, b in intervals]
    axis.add_collection(PolyCollection(boxes, **style))


def dress_lanes(axis, run):
    axis.set_ylim(len(run.seats) - 0.4, -0.6)
    axis.set_yticks(range(len(run.seats)))
    axis.set_yticklabels(run.seats)
    axis.set_ylabel("seat")
    axis.tick_params(axis="y", length=0)


def draw_lanes(axis, run, shift_ms=0.0, has_legend=True):
    """What each seat did, as bars in the colours of its processes."""
    gap = (run.end_ms - run.begin_ms) / 2500.0  # less than a pixel is no gap
    used = set()
    for lane, seat in enumerate(run.seats):
        for (owner, generation), index in run.order.items():
            if owner != seat:
                continue
            used.add(index)
            bars = merge([(s["begin_ms"] + shift_ms, s["end_ms"] + shift_ms) for s in run.steps
                          if s["seat"] == seat and s["generation"] == generation], gap)
            add_bars(axis, bars, lane, 1e-3, linewidth=0,
                     facecolor=GENERATION_COLOURS[index % len(GENERATION_COLOURS)])
    dress_lanes(axis, run)
    names = ("first process in the seat", "second", "third", "fourth", "fifth")
    if len(used) > 1 and has_legend:
        axis.legend(handles=[Patch(color=GENERATION_COLOURS[i], label=names[i])
                             for i in sorted(used) if i < len(names)],
                    loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=len(used), frameon=False)


def first_fault(run):
    """The first fault that made the ranks pause; the first of all if none did; None without any."""
    paused = [fault for fault in run.faults if fault.get("pause_ms") is not None]
    return (paused or run.faults or [None])[0]


def first_pause(run):
    """The first fault's pause, or that of the first restart that came to a token; None: no fault."""
    fault = first_fault(run)
    for restart in run.restarts:
        if restart["pause_ms"] is None:
            continue
        struck = [one for one in run.faults if (one["rank"], one["generation"]) ==
                  (restart["rank"], restart["generation"])]
        kind = struck[-1]["kind"] if struck else "end"
        return Pause(restart["time_ms"], kind, restart["rank"], restart["pause_ms"],
                     tuple((name, colour, restart[f"{name}_ms"]) for name, colour in RESTART_PARTS))
    if fault is None:
        return None
    return Pause(fault["time_ms"], fault["kind"], fault["rank"], fault.get("pause_ms"),
                 tuple((name, colour, fault.get(f"{name}_ms") or 0.0) for name, colour in PARTS))


def draw_close_steps(axis, run, time, low, high):
    """Every step near the fault, in its seat's lane, and a cross where a seat was struck."""
    for lane, owner in enumerate(run.seats):
        for step in run.steps:
            begin, end = step["begin_ms"] - time, step["end_ms"] - time
            if step["seat"] != owner or end < low or begin > high:
                continue
            index = run.order[owner, step["generation"]]
            colour = GENERATION_COLOURS[index % len(GENERATION_COLOURS)]
            good = step["status"] == 0
            add_bars(axis, [(begin, end)], lane, 1.0, linewidth=0.8,
                     edgecolor="white" if good else RED,
                     facecolor=colour if good else "white", hatch=None if good else "//////")
    for fault in run.faults:
        at = fault["time_ms"] - time
        if low <= at <= high and fault["rank"] in run.seats:
            axis.plot([at], [run.seats.index(fault["rank"])], marker="X", color=RED,
                      markeredgecolor="white", markersize=10, zorder=4)


def draw_zoom(axis, run, pause):
    low, high = -ZOOM_BEFORE_MS, max(ZOOM_AFTER_MS, 1.3 * (pause.total_ms or 0.0))
    draw_close_steps(axis, run, pause.time_ms, low, high)
    dress_lanes(axis, run)
    axis.set_ylim(len(run.seats) - 0.4, -1.9)
    at, handles = 0.0, []
    for name, colour, width in pause.parts:
        axis.broken_barh([(at, width)], (-1.55, 0.7), facecolors=colour)
        axis.axvspan(at, at + width, color=colour, alpha=0.10, linewidth=0, zorder=0)
        handles.append(Patch(color=colour, label=f"{name} {width:.1f} ms"))
        at += width
    if not run.is_restart:
        handles.append(Patch(facecolor="white", edgecolor=RED, hatch="//////",
                             label="aborted step"))
    axis.text(at + 0.01 * (high - low), -1.2,
              f"pause {pause.total_ms:.1f} ms" if pause.total_ms is not None else
              "no pause measured", ha="left", va="center", weight="bold")
    axis.axvline(0, color=RED, linewidth=1.4, linestyle=(0, (4, 2)))
    axis.set_xlim(low, high)
    axis.set_xlabel(f"time since the {pause.kind} of seat {pause.seat}, ms")
    axis.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0),
                ncol=len(handles) if len(handles) < 6 else 4, frameon=False, handlelength=1.2,
                columnspacing=1.4)


# ---------------------------------------------------------------- the picture

def caption_of(run, whose=""):
    """One line: whether rows are measured or modelled, and what made them."""
    modelled = run.summary.get("modelled")
    if modelled:  # that text has commit and seed
        return f"{whose}modelled, not measured: {modelled}, n 1 run"
    machine = run.summary.get("machine")  # older summaries have none
    emulated = (run.summary.get("model") or {}).get("expert_us")
    parts = ["measured with emulated expert time" if emulated else "measured",
             f"commit {run.summary.get('commit', 'unknown')}",
             f"{machine['cpu'] or 'unknown CPU'}, {machine['cores']} cores" if machine else
             "machine unknown"]
    if "seed" in run.summary:
        parts.append(f"seed {run.summary['seed']}")
    return f"{whose}{', '.join(parts)}, n 1 run"


def write_captions(figure, captions):
    """Below the axes. The share of the figure's height that they take."""
    columns = int(14 * figure.get_size_inches()[0])
    lines = [line for caption in captions for line in textwrap.wrap(caption, columns)]
    line_height = 0.19 / figure.get_size_inches()[1]
    for i, line in enumerate(reversed(lines)):
        figure.text(0.008, (i + 0.3) * line_height, line, fontsize=8, color=GREY)
    return (len(lines) + 0.5) * line_height


def save(figure, path, anew):
    """`anew`: in place of what is there. In a run's folder that may be a link or a FIFO."""
    if not anew:
        figure.savefig(path, dpi=120)
        return
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    with open(path, "xb") as file:
        figure.savefig(file, format="png", dpi=120)


def dress_figure():
    plt.rcParams.update({"font.family": "DejaVu Sans", "font.size": 11, "text.color": INK,
                         "axes.edgecolor": GREY, "axes.labelcolor": INK, "xtick.color": INK,
                         "ytick.color": INK, "axes.spines.top": False,
                         "axes.spines.right": False, "legend.fontsize": 10,
                         "hatch.linewidth": 0.7, "hatch.color": RED})


def make_axes(heights, spare=1.6, **how):
    return plt.subplots(len(heights), 1, figsize=(12, spare + sum(heights)),
                        gridspec_kw={"height_ratios": heights}, **how)


def draw(run, path, anew=False):
    dress_figure()
    pause = first_pause(run)
    lanes = 0.6 + 0.22 * len(run.seats)
    figure, axes = make_axes([3.2, lanes] + ([lanes + 0.5] if pause else []))
    draw_throughput(axes[0], run)
    draw_lanes(axes[1], run)
    axes[1].set_xlabel("time since the start of the run, s")
    for axis in axes[:2]:
        axis.set_xlim(run.begin_ms / 1000.0, run.end_ms / 1000.0)
    axes[0].tick_params(labelbottom=False)
    if run.is_restart:
        axes[0].set_title(f"baseline restart: {failed_of(run)}", loc="left")
    nearest_ms = NEAR_SHARE * (run.end_ms - run.begin_ms)
    draw_marks(axes[0], run.marks, nearest_ms, 0.99)
    draw_marks(axes[0], run.joins, nearest_ms, 0.72 if len(run.marks) > 1 else 0.91)
    for one in run.marks + run.joins:
        axes[1].axvline(one.time_ms / 1000.0, color=one.colour, linewidth=1.2,
                        linestyle=(0, (4, 2)))
    if pause:
        draw_zoom(axes[2], run, pause)
    figure.align_ylabels(axes)
    figure.tight_layout(h_pad=1.0, rect=(0, write_captions(figure, [caption_of(run)]), 1, 1))
    save(figure, path, anew)


# ---------------------------------------------------------------- two runs

def failed_of(run):
    """How many requests failed, in words."""
    failed = run.summary.get("requests_failed", 0)
    retried = sum(restart["requests_failed"] for restart in run.restarts)
    again = " and were sent again" if retried and retried == failed else ""
    return f"{failed} request{'' if failed == 1 else 's'} failed{again}"


def name_of(run):
    return "full restart" if run.is_restart else "elastic"


def length_of(time_ms):
    return f"{time_ms:.0f} ms" if time_ms < 1000.0 else f"{time_ms / 1000.0:.2f} s"


def back_of(run):
    """The time until tokens came as before the fault; 0: at once, or nobody can tell."""
    return (run.summary.get("throughput") or {}).get("back_ms") or 0.0


def is_closed(run):
    """Its load kept as many requests outstanding all the time (--keep-busy). Under another load tokens
    may come as before, or not, for reasons of the load: back_ms then says nothing."""
    return bool((run.summary.get("load") or {}).get("keep_busy"))  # older rows do not tell the load


def story_of(run):
    """"elastic: pause 39 ms, 0 requests failed" """
    pause = first_pause(run)
    total = "no pause measured" if pause is None or pause.total_ms is None \
        else f"pause {length_of(pause.total_ms)}"
    back_ms = back_of(run) if is_closed(run) else 0.0
    back = f", throughput back at 95 % after {length_of(back_ms)}" if back_ms else ""
    return f"{name_of(run)}: {total}, {failed_of(run)}{back}"


def draw_bars(axis, runs):
    """The pause of each run by its parts, on one axis. Parts too short for a label have none."""
    longest = max([pause.total_ms for pause in map(first_pause, runs)
                   if pause and pause.total_ms is not None] or [1.0])
    for lane, run in enumerate(runs):
        pause, at = first_pause(run), 0.0
        if pause is None or pause.total_ms is None:
            continue
        for name, colour, width in pause.parts:
            axis.broken_barh([(at, width)], (lane - 0.3, 0.6), facecolors=colour)
            if width > 0.045 * longest:
                axis.text(at + width / 2, lane - 0.36, f"{name} {width:.0f}", ha="center",
                          va="bottom", fontsize=9)
            at += width
        axis.text(at + 0.01 * longest, lane, length_of(pause.total_ms), va="center",
                  weight="bold")
    axis.set_yticks(range(len(runs)))
    axis.set_yticklabels([name_of(run) for run in runs])
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(len(runs) - 0.5, -0.85)
    axis.set_xlim(0, 1.1 * longest)
    axis.set_xlabel("time since the fault, ms")


def draw_beside(run, other, path, anew=False):
    """Two runs with the same first fault: throughput on one axis, seats, pauses by their parts, and
    the first run's pause close up."""
    dress_figure()
    pause, others = first_pause(run), first_pause(other)
    if pause is None or others is None:
        raise BadInput("a run without a fault cannot stand beside another one")
    shift_ms = pause.time_ms - others.time_ms
    shown = ((run, BLUE, 0.0), (other, RED, shift_ms))
    lanes = 0.5 + 0.17 * len(run.seats)
    figure, axes = make_axes([3.0, lanes, lanes, 1.5, lanes + 0.9], 2.4, layout="constrained")
    begin = min(one.begin_ms + shift for one, _, shift in shown)
    end = min(max(one.end_ms + shift for one, _, shift in shown),
              pause.time_ms + max([BESIDE_AFTER_MS] + [1.5 * back_of(one) for one, *_ in shown]))
    top = max(draw_rate(axes[0], one, BESIDE_BIN_MS, colour, shift, story_of(one), end)
              for one, colour, shift in shown)
    axes[0].set_ylim(0, 1.42 * max(top, 1.0))
    axes[0].set_ylabel("tokens per second")
    axes[0].legend(loc="upper left", frameon=True, framealpha=0.9, edgecolor="none")
    for axis, (one, _, shift) in zip(axes[1:3], shown):
        draw_lanes(axis, one, shift, has_legend=one is run)
        axis.set_ylabel(f"seat, {name_of(one)}")
    for axis in axes[:3]:
        axis.set_xlim(begin / 1000.0, end / 1000.0)
        axis.axvline(pause.time_ms / 1000.0, ymax=0.74 if axis is axes[0] else 1.0, color=INK,
                     linewidth=1.2, linestyle=(0, (4, 2)))
    for axis in axes[:2]:
        axis.tick_params(labelbottom=False)
    axes[0].annotate(f" {pause.kind} of seat {pause.seat}", (pause.time_ms / 1000.0, 0.72),
                     xycoords=("data", "axes fraction"), va="top", weight="bold")
    axes[2].set_xlabel("time since the start of the run, s")
    draw_bars(axes[3], (run, other))
    draw_zoom(axes[4], run, pause)
    figure.align_ylabels(axes)
    height = write_captions(figure, [caption_of(one, f"{name_of(one)}: ") for one in (run, other)])
    figure.get_layout_engine().set(rect=(0, height, 1, 1 - height))
    save(figure, path, anew)


def main():
    parser = argparse.ArgumentParser(
        description="Draw throughput, faults, joins and steps of a run from its kept rows.")
    parser.add_argument("dir", metavar="DIR", help="folder with summary.json and the CSV rows")
    parser.add_argument("--out", metavar="FILE", help="picture (default: DIR/timeline.png)")
    parser.add_argument("--beside", metavar="DIR",
                        help="a run with the same fault, drawn on the same axis")
    arguments = parser.parse_args()
    path = arguments.out or os.path.join(arguments.dir, "timeline.png")
    try:
        if arguments.beside:
            draw_beside(Run(arguments.dir), Run(arguments.beside), path, anew=not arguments.out)
        else:
            draw(Run(arguments.dir), path, anew=not arguments.out)
    except BadInput as error:
        print(f"timeline.py: {error}", file=sys.stderr)
        return 2
    except (KeyError, TypeError, AttributeError) as error:
        print(f"timeline.py: {arguments.dir}/summary.json: bad or missing member {error}",
              file=sys.stderr)
        return 2
    except OSError as error:
        print(f"timeline.py: cannot write the picture: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import kept_rows
    kept_rows.finish(main, "timeline.py")
