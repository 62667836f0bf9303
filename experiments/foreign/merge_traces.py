#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Merge the traces of a folder (EEP_TRACE=FOLDER) into rows and a trace for Perfetto.

usage: merge_traces.py FOLDER [--out DIR]     (default: FOLDER)

Writes steps.csv and events.csv, as eep-run does (docs/SUMMARY.md), and trace.json for
ui.perfetto.dev. Times are milliseconds from the first row. Traces of one machine have one clock;
those of other machines are put on it by their wall clocks. A trace of a rank that lives, or was
killed, is read as far as it goes.
"""
import argparse
import csv
import json
import pathlib
import struct
import sys

MAGIC = 0x3143415254504545
HEADER = struct.Struct("<QIIiIiiQQQQQ")
ROW = struct.Struct("<QQQQQQiIii")
OPENED, JOINED, STEP, CLOSED, EVENT = 1, 2, 3, 4, 64
HEADER_BYTES = 4096
KINDS = {OPENED: "opened", JOINED: "joined", CLOSED: "closed"}
EVENTS = ("suspected", "wedged", "proposed", "repairing", "repaired", "installed", "staged", "flipped",
          "ready", "evicted", "uncovered", "store-lost", "store-back", "rebalancing", "rebalanced",
          "drain-waits", "port-down", "port-up")


class Trace:
    """The rows of one process: what was written, then what is in the ring alone."""

    def __init__(self, path):
        data = path.read_bytes()
        if len(data) < HEADER_BYTES:
            raise ValueError("too short")
        (magic, row_bytes, ring_rows, self.seat, self.generation, self.pid, _, opened_ns, real_ns,
         head, written, self.dropped) = HEADER.unpack_from(data)
        if magic != MAGIC or row_bytes != ROW.size:
            raise ValueError("no trace of libeep, or of another version")
        self.shift_ns = real_ns - opened_ns
        behind = HEADER_BYTES + ring_rows * ROW.size
        self.rows = []
        for n in range(head):
            at = behind + n * ROW.size if n < written else HEADER_BYTES + n % ring_rows * ROW.size
            if at + ROW.size > len(data):
                continue
            row = ROW.unpack_from(data, at)
            if row[0] == n + 1:  # whole, and not overwritten
                self.rows.append(row[1:])


def name_of(kind):
    if kind >= EVENT:
        return EVENTS[kind - EVENT] if kind - EVENT < len(EVENTS) else "unknown"
    return KINDS.get(kind, "unknown")


def read_folder(folder):
    traces = []
    for path in sorted(folder.glob("rank-*.trace")):
        try:
            traces.append(Trace(path))
        except ValueError as error:
            print(f"{path}: {error}", file=sys.stderr)
    return traces


def write_csv(path, head, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)


def merge(traces, out):
    first = min((row[0] + t.shift_ns for t in traces for row in t.rows), default=0)
    steps, events, perfetto = [], [], []
    for trace in traces:
        def ms(time_ns, shift=trace.shift_ns):
            return (time_ns + shift - first) / 1e6
        label = f"rank {trace.seat} (generation {trace.generation})"
        where = {"pid": trace.seat + 2, "tid": trace.seat * 1000 + trace.generation}
        perfetto.append({"ph": "M", "name": "process_name", **where,
                         "args": {"name": f"rank {trace.seat}"}})
        perfetto.append({"ph": "M", "name": "thread_name", **where, "args": {"name": label}})
        if trace.dropped:
            print(f"{label}: {trace.dropped} rows found no room", file=sys.stderr)
        for time, begin, step, epoch, value, seat, generation, status, kind in trace.rows:
            if kind == STEP:
                steps.append((f"{ms(time):.3f}", trace.seat, trace.generation, step, epoch,
                              f"{ms(begin):.3f}", f"{ms(time):.3f}", 0, 1, status))
                perfetto.append({"ph": "X", "cat": "step", **where, "ts": ms(begin) * 1e3,
                                 "name": "step" if status == 0 else "step without a result",
                                 "dur": (time - begin) / 1e3,
                                 "args": {"step": step, "epoch": epoch, "status": status}})
                continue
            events.append((f"{ms(time):.3f}", trace.seat, trace.generation, name_of(kind), seat,
                           generation, epoch, value))
            perfetto.append({"ph": "i", "s": "p", "cat": "event", **where, "ts": ms(time) * 1e3,
                             "name": name_of(kind), "args": {"epoch": epoch, "about": seat,
                                                             "value": value}})
    steps.sort(key=lambda row: float(row[0]))
    events.sort(key=lambda row: float(row[0]))
    write_csv(out / "steps.csv", ("time_ms", "seat", "generation", "step", "epoch", "begin_ms",
                                  "end_ms", "tokens", "positions", "status"), steps)
    write_csv(out / "events.csv", ("time_ms", "seat", "generation", "kind", "about_seat",
                                   "about_generation", "epoch", "value"), events)
    with open(out / "trace.json", "w", encoding="utf-8") as file:
        json.dump({"traceEvents": perfetto}, file)
    print(f"{len(traces)} processes, {len(steps)} steps, {len(events)} events: {out}/steps.csv, "
          f"events.csv, trace.json (ui.perfetto.dev)")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path)
    given = parser.parse_args()
    traces = read_folder(given.folder)
    if not traces:
        sys.exit(f"{given.folder}: no traces (rank-*.trace)")
    out = given.out or given.folder
    out.mkdir(parents=True, exist_ok=True)
    merge(traces, out)


if __name__ == "__main__":
    main()
