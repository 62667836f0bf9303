#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Pause, throughput and reintegration after k of 32 ranks failed at once, measured on this machine
with an emulated expert time (eep-run --expert-us, docs/MODEL.md).

Each run keeps as many requests outstanding as 8 a rank. k ranks, drawn by the run's seed, are killed
at KILL_S. They come again at the rejoin, REST_S later, or LONG_REST_S where half of them are killed.
Redundancy is as in arXiv 2605.10670: twice as many slots as experts. A step that is aborted ends with
the emulated time of the layer at hand, as on a GPU: agree_ms has that in it. Rates are tokens of whole steps over their time:
  before    from WARM_S to the kill
  degraded  from the last step with much prefill after the kill to the rejoin
  after     the last third of the load behind the rejoin, AGAIN_S long
slots are those of the survivors, and fill_* how many of them were filled before the rejoin, by source
(docs/SUMMARY.md): both tiers together, a slot as often as it was filled.
back_95_s is the time from the rejoin until the rate of the next 4 steps, and of all later ones, is 95 %
of before. reprefill_s is the time from the kill to the end of the last step with much prefill.

There is no bar: the figures of paper-figs/ stand beside those of the paper.
Writes DIR/runs.csv, a row per run.
Exit: 0 done, 1 a run was not good, 2 it could not be measured.
"""

import argparse
import collections
import os
import random
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common

COLUMNS = ("run", "ranks", "failed", "seed", "killed", "detect_ms", "agree_ms", "repair_ms", "rerun_ms",
           "pause_ms", "pause_bytes", "reprefill_s", "before_tok_s", "degraded_tok_s", "after_tok_s",
           "kept_percent", "after_percent", "step_before_ms", "step_degraded_ms", "step_after_ms",
           "slots", "fill_live_replica", "fill_own_node_backup", "fill_other_backup", "fill_checkpoint",
           "join_ms", "join_gap_ms", "longest_healthy_step_ms", "back_95_s", "good", "foreign_share")
FAILED = (1, 2, 4, 8, 16)
WARM_S, KILL_S, REST_S, LONG_REST_S, AGAIN_S = 5, 20, 26, 75, 45
ROLLING = 4  # steps
REQUESTS_PER_RANK = 8
SHAPE = ["--layers", "1", "--hidden", "64", "--inner", "32", "--experts", "64", "--topk", "16",
         "--tokens-per-rank", "64", "--prefill-chunk", "32", "--requests-per-rank", "32"]
LIMITS = [word for name in ("step-deadline", "expel", "drain-bound") for word in (f"--{name}-ms", "40000")]
EXPERTS = 64

SOURCES = {"fill_live_replica": ("live_replica",), "fill_own_node_backup": ("own_backup", "node_backup"),
           "fill_other_backup": ("other_backup",), "fill_checkpoint": ("checkpoint",)}

Step = collections.namedtuple("Step", "begin end tokens positions")


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=common.positive, default=3, metavar="N",
                        help="runs of each number of failed ranks (default %(default)s)")
    parser.add_argument("--expert-us", type=common.positive, default=10000, metavar="US",
                        help="emulated time of a row of the experts (default %(default)s)")
    common.add_common_options(parser, "out/failed-ranks")
    parser.set_defaults(ranks=32)
    return parser.parse_args()


def steps_of(run):
    """Steps that ended well, of all ranks together, in order (seconds)."""
    parts = collections.defaultdict(list)
    for step in run.steps:
        if step["status"] == 0:
            parts[step["epoch"], step["step"]].append(step)
    steps = [Step(min(s["begin_ms"] for s in part) / 1e3, max(s["end_ms"] for s in part) / 1e3,
                  sum(s["tokens"] for s in part), sum(s["positions"] for s in part))
             for part in parts.values()]
    return sorted(step for step in steps if step.tokens)


def within(steps, begin, end):
    return [step for step in steps if step.begin >= begin and step.end <= end]


def rate(steps):
    if not steps:
        raise common.Failure("a window has no whole step: its steps take too long")
    return sum(step.tokens for step in steps) / (steps[-1].end - steps[0].begin)


def length_ms(steps):
    return 1e3 * common.quantile([step.end - step.begin for step in steps], 50)


def first_settled(steps, rejoin_s):
    """When the last step with much prefill after the kill ended: the requests of the killed ranks are
    where they were. New requests, of 2 positions each, are no more than an eighth of the tokens."""
    after = within(steps, KILL_S, rejoin_s)
    if not after:
        raise common.Failure("no whole step between kill and rejoin: steps take too long")
    busy = [step for step in after if step.positions > 1.25 * step.tokens]
    return busy[-1].end if busy else after[0].begin


def back_95(steps, before, rejoin_s):
    """Seconds from the rejoin; None: not within the load."""
    later = within(steps, rejoin_s, rejoin_s + AGAIN_S)
    low = [i for i in range(len(later) - ROLLING + 1)
           if rate(later[i:i + ROLLING]) < 0.95 * before]
    first = low[-1] + 1 if low else 0
    return later[first].end - rejoin_s if first + ROLLING <= len(later) else None


def longest_gap_ms(steps, begin, end):
    ends = [step.end for step in steps if begin <= step.end <= end]
    return 1e3 * max((b - a for a, b in zip(ends, ends[1:])), default=0.0)


def rejoin_of(options, failed):
    """Half of the ranks need longer for the prefill of the others' requests."""
    return KILL_S + (LONG_REST_S if 2 * failed >= options.ranks else REST_S)


def measure(options, index, failed, seed):
    killed = sorted(random.Random(seed * 1000 + failed).sample(range(options.ranks), failed))
    script = [word for rank in killed for word in ("--kill", f"{rank}@{KILL_S}",
                                                   "--rejoin", f"{rank}@{rejoin_of(options, failed)}")]
    slots = 2 * EXPERTS // options.ranks
    busy = REQUESTS_PER_RANK * options.ranks
    run = common.run_eep(options, [
        *SHAPE, *LIMITS, *script, "--slots", str(slots), "--ranks-per-node", str(options.ranks // 4),
        "--expert-us", str(options.expert_us), "--requests", "1", "--keep-busy", str(busy),
        "--keep-busy-seconds", str(rejoin_of(options, failed) + AGAIN_S), "--input", "2:2", "--output", "20:28", "--seed", str(seed)],
        f"{failed}-{index}")
    return killed, run


def fills_before(run, rejoin_s):
    """Slots that were filled before the rejoin, by source."""
    return {name: sum(row["fills"] for row in run.sources
                      if row["source"] in sources and row["time_ms"] < 1e3 * rejoin_s)
            for name, sources in SOURCES.items()}


def row_of(options, index, failed, seed):
    killed, run = measure(options, index, failed, seed)
    steps, faults, joins = steps_of(run), run.summary["faults"], run.summary["joins"]
    rejoin_s = rejoin_of(options, failed)
    settled, end_s = first_settled(steps, rejoin_s), rejoin_s + AGAIN_S
    before, degraded = within(steps, WARM_S, KILL_S), within(steps, settled, rejoin_s)
    after = within(steps, end_s - AGAIN_S / 3, end_s)
    longest = max(faults, key=lambda fault: fault["pause_ms"] or 0)
    row = {"run": index, "ranks": options.ranks, "failed": failed, "seed": seed,
           "killed": " ".join(map(str, killed)),
           **{name: longest[name] for name in ("detect_ms", "agree_ms", "repair_ms", "rerun_ms",
                                               "pause_ms")},
           "pause_bytes": max(fault["weights_bytes_in_pause"] for fault in faults),
           "reprefill_s": settled - KILL_S, "before_tok_s": rate(before),
           "degraded_tok_s": rate(degraded), "after_tok_s": rate(after),
           "kept_percent": 100 * rate(degraded) / rate(before),
           "after_percent": 100 * rate(after) / rate(before), "step_before_ms": length_ms(before),
           "step_degraded_ms": length_ms(degraded), "step_after_ms": length_ms(after),
           "slots": (options.ranks - failed) * (2 * EXPERTS // options.ranks),
           **fills_before(run, rejoin_s),
           "join_ms": max(join["join_ms"] for join in joins),
           "join_gap_ms": longest_gap_ms(steps, rejoin_s, end_s),
           "longest_healthy_step_ms": max((join["longest_healthy_step_ms"] or 0 for join in joins), default=None),
           "back_95_s": back_95(steps, rate(before), rejoin_s), "good": int(bool(run.summary["good"])),
           "foreign_share": run.foreign_share}
    return row, run


def main():
    options = parse()
    rows = common.Rows(os.path.join(options.out, "runs.csv"), COLUMNS)
    is_good = True
    for index in range(1, options.runs + 1):
        for failed in (k for k in FAILED if k <= options.ranks // 2):
            row, run = row_of(options, index, failed, options.seed + index - 1)
            rows.begin(run.summary, options.note)
            rows.add(row)
            is_good &= bool(row["good"])
            print(f"{failed:2} of {options.ranks} failed: pause {row['pause_ms']:.0f} ms, throughput kept "
                  f"{row['kept_percent']:.1f} %, after {row['after_percent']:.1f} %", flush=True)
    rows.close()
    return 0 if is_good else 1


if __name__ == "__main__":
    common.finish(main, "failed_ranks.py")
