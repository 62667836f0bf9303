#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Two micro-batches a step against one, at equal work (eep-run --chains 1 and 2 in turns).

All requests come at once, one for each request slot of each rank, and have equal lengths. So from the
last prompt on each step decodes one position of every request, on every rank, with one chain as with
two. Only those steps count. The experts' time is emulated (--expert-us, docs/MODEL.md): a rank sleeps
for each row, so ranks that share cores do not compute in its place. Compared are medians and p99 of
whole steps, from the first rank's begin to the last one's end.

No bar: what two chains gain depends on what there is to hide.

Writes DIR/chains.csv, a row per run.
Exit: 0 it was measured, 1 a run was not good, 2 it could not be measured.
"""

import argparse
import collections
import math
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common

COLUMNS = ("round", "ranks", "expert_us", "chains", "seed", "steps", "p50_ms", "p99_ms", "positions_per_step",
           "tokens", "good", "foreign_share")
CASES = ((2, 0), (2, 50), (4, 50))  # ranks, microseconds of a row
REQUESTS_PER_RANK = 8
SHAPE = ["--layers", "4", "--hidden", "64", "--inner", "48", "--requests-per-rank", str(REQUESTS_PER_RANK),
         "--rate", "100000", "--input", "8:8"]


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=common.positive, default=6, metavar="N",
                        help="rounds of all cases (default %(default)s)")
    parser.add_argument("--tokens", type=common.positive, default=120, metavar="N",
                        help="tokens of each request (default %(default)s)")
    common.add_common_options(parser, "out/chains", has_ranks=False)
    return parser.parse_args()


def whole_steps(run, ranks):
    """Lengths (ms) of steps in which every rank had one decode position of each of its requests."""
    parts = collections.defaultdict(list)
    for step in run.steps:
        if step["status"] == 0 and step["tokens"] == step["positions"] == REQUESTS_PER_RANK:
            parts[step["epoch"], step["step"]].append(step)
    return [max(s["end_ms"] for s in part) - min(s["begin_ms"] for s in part)
            for part in parts.values() if len(part) == ranks]


def row_of(options, index, case, chains):
    ranks, expert_us = case
    options.ranks, seed = ranks, options.seed + index - 1
    run = common.run_eep(options, [*SHAPE, "--slots", str(96 // ranks), "--requests", str(ranks * REQUESTS_PER_RANK),
                                   "--output", f"{options.tokens}:{options.tokens}", "--expert-us", str(expert_us),
                                   "--seed", str(seed), "--chains", str(chains)],
                         f"{ranks}-{expert_us}-{chains}-{index}")
    lengths, fault = whole_steps(run, ranks), common.faults_of_run(run)
    if not lengths:
        raise common.Failure(f"round {index}: no step has a position of every request")
    if fault:
        print(f"round {index}: {fault}", file=sys.stderr)
    row = {"round": index, "ranks": ranks, "expert_us": expert_us, "chains": chains, "seed": seed,
           "steps": len(lengths), "p50_ms": common.quantile(lengths, 50), "p99_ms": common.quantile(lengths, 99),
           "positions_per_step": ranks * REQUESTS_PER_RANK, "tokens": run.summary["tokens_emitted"],
           "good": int(not fault), "foreign_share": run.foreign_share}
    return row, run


def figures(rows, case):
    """Median over runs of one and of two chains, and the geometric mean of two over one, pair by pair."""
    found = {}
    for row in rows:
        if (row["ranks"], row["expert_us"]) == case:
            found.setdefault(row["round"], {})[row["chains"]] = row
    words = []
    for name in ("p50", "p99"):
        one, two = ([pair[chains][f"{name}_ms"] for pair in found.values()] for chains in (1, 2))
        ratio = math.exp(sum(math.log(b / a) for a, b in zip(one, two)) / len(one))
        words.append(f"{name} {common.quantile(one, 50):.2f} and {common.quantile(two, 50):.2f} ms (ratio {ratio:.2f})")
    return ", ".join(words), len(found)


def tell(rows):
    for case in CASES:
        text, num = figures(rows, case)
        print(f"{case[0]} ranks, {case[1]} us a row: {text}, n {num} pairs")
    share = common.quantile([row["foreign_share"] for row in rows], 50)
    print(f"others used {100 * share:.0f} % of the machine meanwhile (median)")


def main():
    options = parse()
    rows = common.Rows(os.path.join(options.out, "chains.csv"), COLUMNS)
    kept = []
    for index in range(1, options.rounds + 1):
        for case in CASES:
            for chains in (1, 2) if index % 2 else (2, 1):
                row, run = row_of(options, index, case, chains)
                rows.begin(run.summary, options.note)
                rows.add(row)
                kept.append(row)
    rows.close()
    tell(kept)
    print(f"rows: {options.out}/chains.csv")
    return 0 if all(row["good"] for row in kept) else 1


if __name__ == "__main__":
    common.finish(main, "chains.py")
