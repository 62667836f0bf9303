#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What background moves of weights cost the steps beside which they run.

Every round has three runs with the same load and the same kill. In the first, redundancy is restored
behind live traffic; its window reaches from the first flip of that to the last. In the other two
nothing is restored (--background-rate 0); instead a dummy burns the CPU time of the copies, and the
window begins as long after the kill and has the same length. The CPU time of the copies is their
bytes times CPU_S_PER_GB, which eep-bench-repair prints for shared memory, both sides together.
Compared is the p99 of the steps that begin in the window: moves over dummy is the figure, dummy over
dummy (A/A) is what the same thing twice gives.

Bar: the upper end of the 95 % interval (bootstrapped over rounds with a fixed seed) of the geometric
mean of moves / dummy <= 1.25, and no wrong or lost token.

Writes DIR/moves.csv, a row per window.
Exit: 0 all bars met, 1 one missed, 2 it could not be measured.
"""

import argparse
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common
import join

COLUMNS = ("round", "kind", "seed", "begin_ms", "length_ms", "burn_ms", "bytes", "steps", "min_ms",
           "p50_ms", "p90_ms", "p99_ms", "max_ms", "good", "foreign_share")
KINDS = ("moves", "dummy", "dummy-again")
SEAT, KILL_MS, END_MS = 3, 1500, 9000
CPU_S_PER_GB = 0.5
SHAPE = ["--layers", "6", "--experts", "96", "--slots", "64", "--inner", "384"]
BAR = 1.25


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=common.positive, default=10, metavar="N",
                        help="rounds of three runs (default %(default)s)")
    parser.add_argument("--keep-busy", type=common.positive, default=12, metavar="N",
                        help="requests outstanding at any time (default %(default)s)")
    parser.add_argument("--latency", type=common.count, default=25, metavar="PERCENT",
                        help="--background-latency of the moves (default %(default)s)")
    common.add_common_options(parser, "out/moves")
    parser.set_defaults(ranks=4)
    return parser.parse_args()


def run(options, kind, index, seed, extra):
    return common.run_eep(options, [*SHAPE, "--kill", f"{SEAT}@{KILL_MS}ms", "--requests", "1",
                                    "--keep-busy", str(options.keep_busy), "--seed", str(seed), *extra],
                          f"{kind}-{index}")


def window_row(of_run, index, kind, seed, window, cost):
    """Statistics of the steps in a window (begin, length in ms)."""
    begin, length = window
    durations = of_run.durations(begin, begin + length, without_seat=SEAT)
    if not durations:
        raise common.Failure("no rank made a step in the window")
    row = {f"p{percent}_ms": common.quantile(durations, percent) for percent in (50, 90, 99)}
    row.update(round=index, kind=kind, seed=seed, begin_ms=begin, length_ms=length,
               burn_ms=cost / 1e6 * CPU_S_PER_GB, bytes=cost, steps=len(durations), min_ms=min(durations),
               max_ms=max(durations), good=int(not common.faults_of_run(of_run)),
               foreign_share=of_run.foreign_share)
    return row


def moves_row(options, index, seed):
    # The dummy at the end only keeps the load running until then.
    moved = run(options, "moves", index, seed, ["--background-latency", str(options.latency),
                                                "--dummy-burn", f"1ms@{END_MS}ms"])
    times = [event["time_ms"] for event in moved.events
             if event["kind"] in ("rebalancing", "rebalanced", "flipped") and event["time_ms"] > KILL_MS]
    if not times or not moved.summary["weights_bytes_background"]:
        raise common.Failure(f"round {index}: nothing was moved behind traffic")
    window = (min(times), max(times) - min(times))
    return window_row(moved, index, "moves", seed, window, moved.summary["weights_bytes_background"]), moved


def dummy_row(options, kind, index, seed, like):
    burn = f"{max(like['burn_ms'], 1):.0f}ms@{like['begin_ms']:.0f}ms"
    burnt = run(options, kind, index, seed, ["--background-rate", "0", "--dummy-burn", burn,
                                             "--dummy-burn", f"1ms@{END_MS}ms"])
    return window_row(burnt, index, kind, seed, (like["begin_ms"], like["length_ms"]), like["bytes"])


def judge(rounds):
    print("\np99 of the steps in the window, ms")
    print("round     moves     dummy     again   moves/dummy   again/dummy   MB moved   others %")
    for index, rows in enumerate(rounds, 1):
        a, b, c = (rows[kind]["p99_ms"] for kind in KINDS)
        print(f"{index:<5}  {a:8.2f}  {b:8.2f}  {c:8.2f}   {a / b:11.3f}   {c / b:11.3f}   "
              f"{rows['moves']['bytes'] / 1e6:8.1f}   "
              f"{100 * max(row['foreign_share'] for row in rows.values()):8.0f}")
    used = join.undisturbed(rounds)
    ratio, low, high = join.interval(join.logs_of(used, "moves", ("dummy", "dummy-again")))
    same, same_low, same_high = join.interval(join.logs_of(used, "dummy-again", ("dummy",)))
    bad = sum(1 for rows in rounds for row in rows.values() if not row["good"])
    print(f"\nA/A     dummy / dummy {same:.3f}, 95 % interval {same_low:.3f} to {same_high:.3f}, n {len(used)}")
    answers = [common.verdict("p99 moves / dummy", high <= BAR,
                              f"{ratio:.3f}, 95 % interval {low:.3f} to {high:.3f} <= {BAR}, n {len(used)}"),
               common.verdict("runs without a wrong or lost token", bad == 0,
                              f"{3 * len(rounds) - bad} of {3 * len(rounds)}")]
    return all(answers)


def main():
    options = parse()
    rounds, file = [], common.Rows(os.path.join(options.out, "moves.csv"), COLUMNS)
    for index in range(1, options.rounds + 1):
        seed = options.seed + index - 1
        moves, moved = moves_row(options, index, seed)
        file.begin(moved.summary, options.note)
        file.add(moves)
        rows = {"moves": moves}
        for kind in KINDS[1:]:
            rows[kind] = dummy_row(options, kind, index, seed, moves)
            file.add(rows[kind])
        rounds.append(rows)
        print(f"round {index}: p99 " + "  ".join(
            f"{kind} {rows[kind]['p99_ms']:.2f}" for kind in KINDS) + " ms", flush=True)
    file.close()
    good = judge(rounds)
    print(f"rows: {options.out}/moves.csv")
    return 0 if good else 1


if __name__ == "__main__":
    common.finish(main, "moves.py")
