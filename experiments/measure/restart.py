#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""One kill, elastic and as a full restart, with the same load: pauses by their parts, failed requests.

Every round has a pair of runs for each kind of weights, elastic first in odd rounds and last in even
ones: the scenarios elastic-pair and restart-pair. Weights are computed from the seed, or read from a
checkpoint that is in the page cache (warm), or that is dropped from it before each later start
(cold; the column `cached` has the share of its pages that was left). In an elastic run the parts
from spawn to enter are the joiner's, and nobody waits for them. `silent_ms` is the longest time
without any token from the fault on, for both.

Writes DIR/restart.csv, a row per run.
Exit: 0 every run was right, 1 one was not, 2 it could not be measured.
"""

import argparse
import os
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common
import pause_pair

SIDES = ("elastic", "restart")
WEIGHTS = {"seed": [], "warm": [], "cold": ["--cold-checkpoint"]}
OF_PAUSE = ("detect_ms", "agree_ms", "repair_ms", "rerun_ms")
OF_START = ("spawn_ms", "open_ms", "load_ms", "capture_ms", "enter_ms")
OF_RESTART = ("detect_ms", "exit_ms", *OF_START, "token_ms")
MOST_TRIES = 3
COLUMNS = ("round", "side", "weights", "seed", *OF_PAUSE, "exit_ms", *OF_START, "token_ms",
           "pause_ms", "silent_ms", "back_ms", "prefill_ms", "requests_failed",
           "tokens_discarded", "cached", "good", "foreign_share")


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=common.positive, default=10, metavar="N",
                        help="rounds of six runs (default %(default)s)")
    parser.add_argument("--shape", default="", metavar="TEXT",
                        help="options of eep-run about the model, for all runs and the checkpoint")
    common.add_common_options(parser, "out/restart")
    return parser.parse_args()


def wrong_of(run, side):
    """What makes a run's figures worthless, as text; requests fail in every restart."""
    found = common.faults_of_run(run)
    if side == "restart":
        found = "; ".join(one for one in found.split("; ") if not one.startswith("requests_failed"))
    return found


def has_one_pause(run, side):
    """False: on a machine that is too busy a living rank is expelled for its silence, too."""
    what = run.summary["faults" if side == "elastic" else "restarts"]
    return len(what) == 1 and what[0].get("pause_ms") is not None


def silent_ms(times, fault_ms):
    """The longest time without a token that ends behind the fault; None: there was no token."""
    ordered = sorted(times)
    gaps = [(behind - before) for before, behind in zip(ordered, ordered[1:])
            if behind > fault_ms]
    return max(gaps) if gaps else None


def row_of(run, side, **known):
    """A row: the parts that this side has, and what both have."""
    summary = run.summary
    row = {**dict.fromkeys(COLUMNS), **known, "side": side}
    fault = (summary["restarts"] or summary["faults"])[0]
    row.update({name: fault[name] for name in (OF_RESTART if summary["restarts"] else OF_PAUSE)})
    if summary["joins"]:
        row.update({name: summary["joins"][0][name] for name in OF_START})
    started = [one for one in run.startup if one["start"] != "first" and one["cached"]]
    row.update({"pause_ms": fault["pause_ms"], "prefill_ms": fault.get("prefill_ms"),
                "silent_ms": silent_ms(run.tokens, fault["time_ms"]),
                "back_ms": summary["throughput"]["back_ms"],
                "requests_failed": summary["requests_failed"],
                "tokens_discarded": fault.get("tokens_discarded", 0),
                "cached": float(started[0]["cached"]) if started else None,
                "good": int(not wrong_of(run, side)), "foreign_share": run.foreign_share})
    return row


def write_checkpoint(options, folder):
    """The weights of the runs, as files; returns their bytes."""
    done = common.run_to_end([os.path.join(options.bin, "eep-run"), "--quiet", "--seed",
                              str(options.seed), *options.shape.split(), "--checkpoint-write",
                              folder])
    if done.returncode:
        raise common.Failure(f"no checkpoint was written: {done.stdout}")
    return sum(entry.stat().st_size for entry in os.scandir(folder))


def run_side(options, side, weights, index, folder):
    scenario = os.path.join(common.ROOT, f"experiments/scenarios/{side}-pair.yaml")
    extra = ["--checkpoint", folder, *WEIGHTS[weights]] if weights != "seed" else []
    arguments = ["--scenario", scenario, "--seed", str(options.seed), *options.shape.split()]
    run = None
    for again in range(MOST_TRIES):
        run = common.run_eep(options, arguments + extra, f"{side}-{weights}-{index}-{again}",
                             is_whole=True)
        if has_one_pause(run, side):
            return run
        print(f"  {side} {weights} {index}: not one pause: done again", flush=True)
    return run


def median(rows, side, weights, name):
    values = [row[name] for row in rows if (row["side"], row["weights"]) == (side, weights)
              and row[name] is not None]
    return common.quantile(values, 50) if values else None


def show(rows):
    """Medians of each part, elastic beside restart."""
    names = ("pause_ms", "silent_ms", "back_ms", "detect_ms", "agree_ms", "repair_ms", "rerun_ms",
             "exit_ms", *OF_START, "token_ms", "prefill_ms", "requests_failed",
             "tokens_discarded", "cached", "foreign_share")
    columns = [(side, weights) for weights in WEIGHTS for side in SIDES]
    print(f"  {'medians':<18}" + "".join(f"{side + ' ' + weights:>14}" for side, weights in columns))
    for name in names:
        found = [median(rows, side, weights, name) for side, weights in columns]
        digits = 2 if name in ("cached", "foreign_share") else 1
        print(f"  {name:<18}" + "".join(
            f"{'-':>14}" if value is None else f"{value:>14.{digits}f}" for value in found))
    for weights in WEIGHTS:
        pauses = {side: {row["round"]: row["pause_ms"] for row in rows
                         if (row["side"], row["weights"]) == (side, weights)} for side in SIDES}
        ratios = [pauses["restart"][index] / pause for index, pause in pauses["elastic"].items()
                  if pause and pauses["restart"].get(index)]
        if ratios:
            mean, low, high = pause_pair.interval(ratios)
            print(f"  restart / elastic, {weights}: pause {mean:.1f} times as long, 95 % interval "
                  f"{low:.1f} to {high:.1f}, n {len(ratios)}")


def main():
    options = parse()
    file = common.Rows(os.path.join(options.out, "restart.csv"), COLUMNS)
    scratch = tempfile.mkdtemp(prefix="eep-weights-", dir=options.out)
    rows, spoilt = [], []
    try:
        folder = os.path.join(scratch, "weights")
        print(f"  checkpoint of {write_checkpoint(options, folder) / 1e6:.0f} MB, {options.ranks} "
              "ranks")
        for index in range(1, options.rounds + 1):
            for weights in WEIGHTS:
                for side in SIDES if index % 2 else reversed(SIDES):
                    run = run_side(options, side, weights, index, folder)
                    file.begin(run.summary, options.note)
                    wrong = wrong_of(run, side)
                    if not wrong and not has_one_pause(run, side):
                        wrong = f"not one pause in {MOST_TRIES} runs"
                    if wrong:
                        spoilt.append(f"{side} {weights} {index}: {wrong}")
                        continue
                    rows.append(row_of(run, side, round=index, weights=weights, seed=options.seed))
                    file.add(rows[-1])
            print(f"round {index}: " + "  ".join(
                f"{row['side']} {row['weights']} {row['pause_ms']:.0f}" for row in rows
                if row["round"] == index), flush=True)
    finally:
        file.close()
        shutil.rmtree(scratch, ignore_errors=True)
    show(rows)
    good = common.verdict("runs without a wrong or lost token", not spoilt,
                          "; ".join(spoilt) or "all")
    print(f"rows: {options.out}/restart.csv")
    return 0 if good else 1


if __name__ == "__main__":
    common.finish(main, "restart.py")
