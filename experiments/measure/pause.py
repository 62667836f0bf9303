#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Recovery pause: kill ranks over all seats again and again, keep one row per fault, and compare
with the bars: median pause <= median detection + 3 ms + 1.1 median steps, median step <= 20 ms,
the parts sum to the whole, no weight byte moves inside a pause, and no token is wrong or lost.

Writes DIR/pause.csv (a row per fault) and DIR/pause-runs.csv (a row per run).
Exit: 0 all bars met, 1 one missed, 2 it could not be measured.
"""

import argparse
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common

PARTS = ("detect_ms", "agree_ms", "repair_ms", "rerun_ms")
FAULT_COLUMNS = ("run", "fault", "rank", "generation", "kind", "time_ms", *PARTS, "pause_ms",
                 "median_step_ms", "survivors", "weights_bytes_in_pause", "launcher_lag_ms")
RUN_COLUMNS = ("run", "seed", "faults", "good", "tokens_emitted", "tokens_wrong",
               "requests_accepted", "requests_completed", "requests_failed", "requests_lost",
               "captures_healthy", "step_p50_ms", "step_p99_ms", "window_bytes",
               "throughput_before", "throughput_degraded", "throughput_after", *common.COUNTERS,
               "foreign_share", "own_share")
STEPS_BEFORE_MS = 500.0  # steps that began this long before a kill give its median step
AGREE_MS, LONGEST_MEDIAN_STEP_MS, STEPS_ALLOWED = 3.0, 20.0, 1.1
ROUNDING_MS = 0.0025  # five figures with three digits each


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=common.positive, default=30, metavar="N",
                        help="kills of a run, over all seats in turn (default %(default)s)")
    parser.add_argument("--runs", type=common.positive, default=1, metavar="N",
                        help="runs (default %(default)s)")
    parser.add_argument("--kill-every", type=common.positive, default=700, metavar="MS",
                        help="least time between two kills (default %(default)s)")
    common.add_common_options(parser, "out/pause")
    return parser.parse_args()


def fault_row(run, index, number, fault):
    row = {name: fault.get(name) for name in FAULT_COLUMNS}
    before = run.durations(fault["time_ms"] - STEPS_BEFORE_MS, fault["time_ms"])
    row.update(run=index, fault=number,
               median_step_ms=common.quantile(before, 50) if before else None)
    return row


def run_row(run, index, seed):
    summary = run.summary
    row = {name: summary.get(name) for name in RUN_COLUMNS}
    row.update({f"throughput_{name}": summary["throughput"].get(name)
                for name in ("before", "degraded", "after")})
    row.update(foreign_share=run.foreign_share, own_share=(summary.get("cpu") or {}).get("own"))
    row.update(run=index, seed=seed, faults=len(summary["faults"]), good=int(summary["good"]),
               captures_healthy=summary["captures_after_start"]["healthy"],
               step_p50_ms=summary["step_ms"]["p50"], step_p99_ms=summary["step_ms"]["p99"])
    return row


def judge(rows, runs, wanted, spoilt):
    measured = [row for row in rows if row["pause_ms"] is not None]
    print(f"\n{len(measured)} of {wanted} faults measured")
    if not measured:
        raise common.Failure("no fault has a measured pause")
    for name in ("pause_ms", *PARTS):
        print(f"  {name:<14} {common.describe([row[name] for row in measured])}")
    steps = [row["median_step_ms"] for row in measured if row["median_step_ms"] is not None]
    if not steps:
        raise common.Failure("no step ended before any fault")
    step = common.quantile(steps, 50)
    pause = common.quantile([row["pause_ms"] for row in measured], 50)
    detect = common.quantile([row["detect_ms"] for row in measured], 50)
    bar = detect + AGREE_MS + STEPS_ALLOWED * step
    error = max(abs(sum(row[part] for part in PARTS) - row["pause_ms"]) for row in measured)
    weights = sum(row["weights_bytes_in_pause"] or 0 for row in rows)
    worst_step = max(row["step_p50_ms"] for row in runs)
    print()
    # Every bar is judged and shown before the answer is drawn from all of them.
    return all([
        common.verdict("every kill gave a measured pause", len(measured) == wanted,
                       f"{len(measured)} of {wanted}"),
        common.verdict("median pause", pause <= bar,
                       f"{pause:.1f} ms <= {detect:.1f} + {AGREE_MS:g} + {STEPS_ALLOWED} x {step:.1f} "
                       f"= {bar:.1f} ms"),
        common.verdict("median step", worst_step <= LONGEST_MEDIAN_STEP_MS,
                       f"{worst_step:.1f} <= {LONGEST_MEDIAN_STEP_MS:.0f} ms in the slowest run"),
        common.verdict("parts sum to the pause", error <= ROUNDING_MS,
                       f"largest difference {error:.4f} ms"),
        common.verdict("weight bytes inside pauses", weights == 0, f"{weights}"),
        common.verdict("runs without a wrong or lost token", not spoilt,
                       "; ".join(spoilt) or f"all {len(runs)}"),
    ])


def main():
    options = parse()
    rows, runs, spoilt = [], [], []
    fault_file = common.Rows(os.path.join(options.out, "pause.csv"), FAULT_COLUMNS)
    run_file = common.Rows(os.path.join(options.out, "pause-runs.csv"), RUN_COLUMNS)
    for index in range(1, options.runs + 1):
        seed = options.seed + index - 1
        run = common.run_eep(options, ["--kills", str(options.kills), "--kill-every",
                                       str(options.kill_every), "--seed", str(seed)],
                             f"pause-{index}")
        fault_file.begin(run.summary, options.note)
        run_file.begin(run.summary, options.note)
        for number, fault in enumerate(run.summary["faults"], 1):
            rows.append(fault_row(run, index, number, fault))
            fault_file.add(rows[-1])
        runs.append(run_row(run, index, seed))
        run_file.add(runs[-1])
        wrong = common.faults_of_run(run)
        if wrong:
            spoilt.append(f"run {index} (seed {seed}): {wrong}")
        pauses = [row["pause_ms"] for row in rows
                  if row["run"] == index and row["pause_ms"] is not None]
        if pauses:
            print(f"run {index}: pause {common.describe(pauses)}; others used "
                  f"{100 * run.foreign_share:.0f} % of the machine", flush=True)
    fault_file.close()
    run_file.close()
    good = judge(rows, runs, options.runs * options.kills, spoilt)
    print(f"rows: {options.out}/pause.csv, {options.out}/pause-runs.csv")
    return 0 if good else 1


if __name__ == "__main__":
    common.finish(main, "pause.py")
