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
import math
import os
import random
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common

COLUMNS = ("round", "kind", "seed", "begin_ms", "length_ms", "busy_ms", "prepare_ms", "steps",
           "min_ms", "p50_ms", "p90_ms", "p99_ms", "max_ms", "p50_before_ms", "aborted_in_window",
           *common.COUNTERS, "tokens_emitted", "good", "foreign_share")
KINDS = ("join", "dummy", "dummy-again")
SEAT = 3
KILL_MS, WINDOW_MS = 1500, 3000
AFTER_FLIP_MS = 1000.0
REST_MS = 500.0  # from the end of a dummy's window to the rejoin that ends its run
BAR, RESAMPLES, FEWEST_ROUNDS = 1.25, 10000, 6


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


def window_row(of_run, begin, length, seed):
    """The statistics of one window; `begin` and `length` in ms."""
    durations = of_run.durations(begin, begin + length, without_seat=SEAT)
    before = of_run.durations(begin - AFTER_FLIP_MS, begin, without_seat=SEAT)
    if not durations or not before:
        raise common.Failure("no healthy rank made a step in the window or before it")
    aborted = sum(1 for step in of_run.steps if step["seat"] != SEAT and step["status"] != 0
                  and begin <= step["begin_ms"] < begin + length)
    row = {f"p{percent}_ms": common.quantile(durations, percent) for percent in (50, 90, 99)}
    row.update({name: of_run.summary[name] for name in common.COUNTERS})
    row.update(seed=seed, begin_ms=begin, length_ms=length, steps=len(durations),
               min_ms=min(durations), max_ms=max(durations),
               p50_before_ms=common.quantile(before, 50), aborted_in_window=aborted,
               tokens_emitted=of_run.summary["tokens_emitted"],
               good=int(not common.faults_of_run(of_run)), foreign_share=of_run.foreign_share)
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
    row = window_row(joined, begin, busy + AFTER_FLIP_MS, seed)
    row.update(round=index, kind="join", busy_ms=busy, prepare_ms=join["prepare_ms"])
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
    row = window_row(burnt, begin, like["length_ms"], seed)
    row.update(round=index, kind=kind, busy_ms=like["busy_ms"], prepare_ms=None)
    return row


def interval(logs):
    """Geometric mean of ratios given by their logarithms, and its bootstrapped 95 % interval."""
    generator = random.Random(1)
    means = sorted(sum(generator.choice(logs) for _ in logs) / len(logs)
                   for _ in range(RESAMPLES))
    return tuple(math.exp(x) for x in (sum(logs) / len(logs), means[int(0.025 * RESAMPLES)],
                                       means[int(0.975 * RESAMPLES)]))


def logs_of(rounds, above, below):
    """Logarithms of p99 ratios, one per round; `below` is a list of kinds, averaged."""
    logs = []
    for rows in rounds:
        base = sum(math.log(rows[kind]["p99_ms"]) for kind in below) / len(below)
        logs.append(math.log(rows[above]["p99_ms"]) - base)
    return logs


def is_disturbed(rows):
    return any(row["foreign_share"] > common.DISTURBED_SHARE for row in rows.values())


def undisturbed(rounds):
    """The rounds that the figures come from; prints what is left out."""
    quiet = [rows for rows in rounds if not is_disturbed(rows)]
    if len(quiet) == len(rounds):
        return rounds
    if len(quiet) < FEWEST_ROUNDS:
        print(f"\n{len(rounds) - len(quiet)} of {len(rounds)} rounds were disturbed by other "
              f"programs: too few are left, all are used, expect noise")
        return rounds
    print(f"\n{len(rounds) - len(quiet)} of {len(rounds)} rounds were disturbed by other programs "
          f"and are left out")
    return quiet


def judge(rounds):
    print("\np99 of healthy ranks' steps in the window, ms")
    print("round      join     dummy     again   join/dummy   again/dummy   window ms   others %")
    for index, rows in enumerate(rounds, 1):
        a, b, c = (rows[kind]["p99_ms"] for kind in KINDS)
        print(f"{index:<5}  {a:8.2f}  {b:8.2f}  {c:8.2f}   {a / b:10.3f}   {c / b:11.3f}   "
              f"{rows['join']['length_ms']:9.0f}   "
              f"{100 * max(row['foreign_share'] for row in rows.values()):8.0f}")
    used = undisturbed(rounds)
    # Both dummies of a round are the same thing, so their mean is what a join is compared with.
    ratio, low, high = interval(logs_of(used, "join", ("dummy", "dummy-again")))
    same, same_low, same_high = interval(logs_of(used, "dummy-again", ("dummy",)))
    counted = {name: sum(row[name] for rows in rounds for row in rows.values())
               for name in common.COUNTERS}
    bad = sum(1 for rows in rounds for row in rows.values() if not row["good"])
    print(f"\nA/A     dummy / dummy {same:.3f}, 95 % interval {same_low:.3f} to {same_high:.3f}, "
          f"n {len(used)}")
    answers = [
        common.verdict("p99 join / dummy", ratio <= BAR,
                       f"{ratio:.3f} <= {BAR}, 95 % interval {low:.3f} to {high:.3f}, "
                       f"n {len(used)}"
                       + ("" if high <= BAR else "; the interval reaches beyond the bar")),
        *(common.verdict(name, count == 0, str(count)) for name, count in counted.items()),
        common.verdict("runs without a wrong or lost token", bad == 0,
                       f"{3 * len(rounds) - bad} of {3 * len(rounds)}"),
    ]
    return all(answers)


def main():
    options = parse()
    rounds, file = [], common.Rows(os.path.join(options.out, "join.csv"), COLUMNS)
    for index in range(1, options.rounds + 1):
        seed = options.seed + index - 1
        join, joined = join_row(options, index, seed)
        file.begin(joined.summary, options.note)
        file.add(join)
        rows = {"join": join}
        for kind in KINDS[1:]:
            rows[kind] = dummy_row(options, kind, index, seed, join)
            file.add(rows[kind])
        rounds.append(rows)
        print(f"round {index}: p99 " + "  ".join(
            f"{kind} {rows[kind]['p99_ms']:.2f}" for kind in KINDS) + " ms", flush=True)
    file.close()
    good = judge(rounds)
    print(f"rows: {options.out}/join.csv")
    return 0 if good else 1


if __name__ == "__main__":
    common.finish(main, "join.py")
