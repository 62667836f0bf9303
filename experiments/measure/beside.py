# SPDX-License-Identifier: Apache-2.0
"""Rounds of three runs: something that costs CPU time, and twice a dummy that burns as much.

All three have the same load, kill and seed. Each has a window of the same length, and its row has
statistics of the steps that begin there. The subject's p99 over the dummies' is the figure. One
dummy's over the other's (A/A) is what the same thing twice gives. join.py and moves.py say what
their subject is.
"""

import math
import os
import random

import common

STATISTICS = ("steps", "min_ms", "p50_ms", "p90_ms", "p99_ms", "max_ms")
DUMMIES = ("dummy", "dummy-again")
RESAMPLES, FEWEST_ROUNDS = 10000, 6


def statistics(of_run, begin_ms, length_ms, without_seat):
    """STATISTICS and others of the steps that begin in a window; common.Failure if there is none."""
    durations = of_run.durations(begin_ms, begin_ms + length_ms, without_seat=without_seat)
    if not durations:
        raise common.Failure("no healthy rank made a step in the window")
    row = {f"p{percent}_ms": common.quantile(durations, percent) for percent in (50, 90, 99)}
    row.update(begin_ms=begin_ms, length_ms=length_ms, steps=len(durations), min_ms=min(durations),
               max_ms=max(durations), good=int(not common.faults_of_run(of_run)),
               foreign_share=of_run.foreign_share)
    return row


def measure(options, subject, columns, subject_row, dummy_row):
    """All rounds, a dict of rows by kind each; the rows are written to DIR/SUBJECT.csv as they come.
    `subject_row(options, index, seed)` gives a row and its run, `dummy_row(options, kind, index, seed,
    like)` the row of a dummy for the subject's row `like`."""
    rounds, file = [], common.Rows(os.path.join(options.out, f"{subject}.csv"), columns)
    for index in range(1, options.rounds + 1):
        seed = options.seed + index - 1
        like, of_run = subject_row(options, index, seed)
        rows = {subject: like}
        for kind in (subject, *DUMMIES):
            if kind != subject:
                rows[kind] = dummy_row(options, kind, index, seed, like)
            rows[kind].update(round=index, kind=kind, seed=seed)
            file.begin(of_run.summary, options.note)
            file.add(rows[kind])
        rounds.append(rows)
        print(f"round {index}: p99 " + "  ".join(
            f"{kind} {rows[kind]['p99_ms']:.2f}" for kind in rows) + " ms", flush=True)
    file.close()
    return rounds


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


def figures(rounds, subject):
    """Subject over dummy, and dummy over dummy: each a mean and its interval. Both dummies of a round
    are the same thing, so their mean is what the subject is compared with."""
    return (interval(logs_of(rounds, subject, DUMMIES)),
            interval(logs_of(rounds, DUMMIES[1], DUMMIES[:1])))


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


def tell(rounds, subject, unit, amount):
    """Print the rounds with one more column, `amount` of the subject's row in `unit`. Gives subject
    over dummy with its interval, and the number of rounds that it comes from."""
    print(f"\np99 of healthy ranks' steps in the window, ms\nround  {subject:>8}     dummy     again"
          f"   {subject + '/dummy':>11}   again/dummy  {unit:>10}   others %")
    for index, rows in enumerate(rounds, 1):
        a, b, c = (rows[kind]["p99_ms"] for kind in (subject, *DUMMIES))
        print(f"{index:<5}  {a:8.2f}  {b:8.2f}  {c:8.2f}   {a / b:11.3f}   {c / b:11.3f}  "
              f"{amount(rows[subject]):10.1f}   "
              f"{100 * max(row['foreign_share'] for row in rows.values()):8.0f}")
    used = undisturbed(rounds)
    figure, (same, low, high) = figures(used, subject)
    print(f"\nA/A     dummy / dummy {same:.3f}, 95 % interval {low:.3f} to {high:.3f}, n {len(used)}")
    return figure, len(used)


def verdict_on_tokens(rounds):
    good = [bool(row["good"]) for rows in rounds for row in rows.values()]
    return common.verdict("runs without a wrong or lost token", all(good), f"{sum(good)} of {len(good)}")
