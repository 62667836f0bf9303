#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a joining rank costs the healthy ones beyond its CPU time.

Every round has three runs with the same load and the same kill. In the first the killed rank comes
back; its window reaches from the spawn of the new process to 1 s after the last healthy rank's
flip. In the other two nobody comes back in that time; instead a dummy burns one CPU, at the
priority of a joiner, for as long as the joiner took from spawn to flip, and the window has the
same length. Compared is the p99 of the healthy ranks' steps that begin in the window: join over
dummy is the figure, dummy over dummy (A/A) is what the same thing twice gives.

Bars: geometric mean of join / dummy over all rounds <= 1.25, and on every run no step aborted by a
join, no step that waited for one, no wrong or lost token. The 95 % intervals are bootstrapped over
rounds with a fixed seed. A round is disturbed if others used more than 8 % of the machine's CPU
time during any of its runs; disturbed rounds are kept, and left out of the figures where at least
6 rounds are undisturbed.

Writes DIR/join.csv, a row per window.
Exit: 0 all bars met, 1 one missed, 2 it could not be measured.
"""

import argparse
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import beside
import common

COLUMNS = ("round", "kind", "seed", "begin_ms", "length_ms", "busy_ms", "prepare_ms",
           *beside.STATISTICS, "p50_before_ms", "aborted_in_window", *common.COUNTERS,
           "tokens_emitted", "good", "foreign_share")
SEAT = 3
KILL_MS, WINDOW_MS = 1500, 3000
AFTER_FLIP_MS = 1000.0
REST_MS = 500.0  # from the end of a dummy's window to the rejoin that ends its run
BAR = 1.25


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=common.positive, default=10, metavar="N",
                        help="rounds of three runs (default %(default)s)")
    parser.add_argument("--keep-busy", type=common.positive, default=16, metavar="N",
                        help="requests outstanding at any time (default %(default)s)")
    common.add_common_options(parser, "out/join")
    options = parser.parse_args()
    if options.ranks <= SEAT:
        parser.error(f"--ranks: seat {SEAT} is killed, so at least {SEAT + 1} are needed")
    return options


def run(options, kind, index, seed, extra):
    return common.run_eep(options, ["--kill", f"{SEAT}@{KILL_MS}ms", "--requests", "1",
                                    "--keep-busy", str(options.keep_busy), "--seed", str(seed),
                                    *extra], f"{kind}-{index}")


def window_row(of_run, begin, length):
    """The statistics of one window; `begin` and `length` in ms."""
    row = beside.statistics(of_run, begin, length, SEAT)
    before = of_run.durations(begin - AFTER_FLIP_MS, begin, without_seat=SEAT)
    if not before:
        raise common.Failure("no healthy rank made a step before the window")
    aborted = sum(1 for step in of_run.steps if step["seat"] != SEAT and step["status"] != 0
                  and begin <= step["begin_ms"] < begin + length)
    row.update({name: of_run.summary[name] for name in common.COUNTERS})
    row.update(p50_before_ms=common.quantile(before, 50), aborted_in_window=aborted,
               tokens_emitted=of_run.summary["tokens_emitted"])
    return row


def join_row(options, index, seed):
    """Run a join; its row, and the run for the versions in the file's head."""
    joined = run(options, "join", index, seed, ["--rejoin", f"{SEAT}@{WINDOW_MS}ms"])
    join = next((join for join in joined.summary["joins"] if join["rank"] == SEAT), None)
    if not join or not join["joined"]:
        raise common.Failure(f"round {index}: rank {SEAT} did not come back")
    epoch = next((event["value"] for event in joined.events if event["kind"] == "joined"
                  and (event["seat"], event["generation"]) == (SEAT, join["generation"])), None)
    flips = [event["time_ms"] for event in joined.events
             if event["kind"] == "flipped" and event["epoch"] == epoch]
    if not flips:
        raise common.Failure(f"round {index}: no healthy rank flipped to the joiner's view")
    begin, busy = join["time_ms"], max(flips) - join["time_ms"]
    row = window_row(joined, begin, busy + AFTER_FLIP_MS)
    row.update(busy_ms=busy, prepare_ms=join["prepare_ms"])
    return row, joined


def dummy_row(options, kind, index, seed, like):
    """A dummy for the join whose row is `like`. The rejoin after the window only keeps the load
    running to its end."""
    burn = f"{like['busy_ms']:.0f}ms@{WINDOW_MS}ms"
    end = WINDOW_MS + like["length_ms"] + REST_MS
    burnt = run(options, kind, index, seed, ["--dummy-burn", burn, "--rejoin",
                                             f"{SEAT}@{end:.0f}ms"])
    begin = next((event["time_ms"] for event in burnt.events if event["kind"] == "burn"), None)
    if begin is None:
        raise common.Failure(f"round {index}: the dummy was not started")
    row = window_row(burnt, begin, like["length_ms"])
    row.update(busy_ms=like["busy_ms"], prepare_ms=None)
    return row


def judge(rounds):
    (ratio, low, high), n = beside.tell(rounds, "join", "window ms", lambda row: row["length_ms"])
    counted = {name: sum(row[name] for rows in rounds for row in rows.values())
               for name in common.COUNTERS}
    answers = [
        common.verdict("p99 join / dummy", ratio <= BAR,
                       f"{ratio:.3f} <= {BAR}, 95 % interval {low:.3f} to {high:.3f}, n {n}"
                       + ("" if high <= BAR else "; the interval reaches beyond the bar")),
        *(common.verdict(name, count == 0, str(count)) for name, count in counted.items()),
        beside.verdict_on_tokens(rounds),
    ]
    return all(answers)


def main():
    options = parse()
    good = judge(beside.measure(options, "join", COLUMNS, join_row, dummy_row))
    print(f"rows: {options.out}/join.csv")
    return 0 if good else 1


if __name__ == "__main__":
    common.finish(main, "join.py")
