#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Soak: nobody is expelled who has done nothing. Ranks serve under full load, no fault is injected,
and whatever the machine does to them (far more ranks than cores, by default) must at most raise
suspicions that are taken back.

The time is cut into runs of --chunk-minutes, so that the oracle checks every token of each and the
rows of one fit in memory.

Bars: no view after a fault, no rank suspected and expelled, no process that ended, no token wrong,
no request lost or failed, and all ranks in the view at the end of every chunk.

Writes DIR/soak.csv, a row per chunk.
Exit: 0 all bars met, 1 one missed, 2 it could not be measured.
"""

import argparse
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common

COLUMNS = ("chunk", "seed", "minutes", "ranks", "good", "fault_views", "expelled", "ended",
           "ranks_at_end", "suspicions", "suspicions_cancelled", "tokens_emitted", "tokens_wrong",
           "requests_completed", "requests_failed", "requests_lost", "steps_ok", "steps_aborted",
           "step_p50_ms", "step_p99_ms", "step_max_ms", "foreign_share")
SHORTEST_MINUTES = 0.01


def minutes(text):
    value = float(text)
    if not SHORTEST_MINUTES <= value <= 24 * 60:
        raise argparse.ArgumentTypeError(f"'{text}': {SHORTEST_MINUTES} minutes to a day")
    return value


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=minutes, default=30.0, metavar="N",
                        help="of serving, over all chunks (default %(default)g)")
    parser.add_argument("--chunk-minutes", type=minutes, default=5.0, metavar="N",
                        help="of serving in one run (default %(default)g)")
    parser.add_argument("--keep-busy", type=common.positive, metavar="N",
                        help="requests outstanding at any time (default: 2 per rank)")
    parser.add_argument("--expel-ms", type=common.positive, metavar="MS",
                        help="silence that expels (default: that of eep-run)")
    common.add_common_options(parser, "out/soak")
    parser.set_defaults(ranks=16)
    options = parser.parse_args()
    options.keep_busy = options.keep_busy or 2 * options.ranks
    return options


def run_chunk(options, index, length, seed):
    expel = ["--expel-ms", str(options.expel_ms)] if options.expel_ms else []
    return common.run_eep(options, ["--requests", "1", "--keep-busy", str(options.keep_busy),
                                    "--keep-busy-seconds", f"{60 * length:.3f}", "--seed",
                                    str(seed), *expel], f"soak-{index}")


def expulsions(run):
    """What the events say: the epochs of views after a fault; who was suspected, as (seat,
    generation) per suspecting process; and who of them was expelled."""
    # Members install the first view and those after faults; they flip to planned ones.
    first = min((event["value"] for event in run.events if event["kind"] == "joined"), default=0)
    fault_views = {event["epoch"] for event in run.events
                   if event["kind"] == "installed" and event["epoch"] > first}
    raised = {(event["seat"], event["generation"], event["about_seat"], event["about_generation"],
               event["time_ms"]) for event in run.events if event["kind"] == "suspected"}
    expelled = {(fault["rank"], fault["generation"]) for fault in run.summary["faults"]
                if fault["expelled"]}
    expelled |= {(event["seat"], event["generation"]) for event in run.events
                 if event["kind"] == "evicted"}
    cancelled = sum(1 for suspicion in raised if suspicion[2:4] not in expelled)
    return fault_views, expelled, len(raised), cancelled


def ended_early(run):
    """Processes that ended while the run served."""
    return {(event["seat"], event["generation"]) for event in run.events
            if event["kind"] == "exit" and event["time_ms"] <= run.summary["duration_ms"]}


def chunk_row(run, index, length, seed):
    summary = run.summary
    row = {name: summary.get(name) for name in COLUMNS}
    fault_views, expelled, raised, cancelled = expulsions(run)
    ended = ended_early(run)
    row.update(chunk=index, seed=seed, minutes=length, good=int(summary["good"]),
               fault_views=len(fault_views), expelled=len(expelled), ended=len(ended),
               ranks_at_end=summary["ranks"] - len({seat for seat, _ in expelled | ended}),
               suspicions=raised, suspicions_cancelled=cancelled,
               foreign_share=run.foreign_share)
    row.update({f"step_{name}_ms": summary["step_ms"][name] for name in ("p50", "p99", "max")})
    return row


def judge(options, rows, spoilt):
    def total(name):
        return sum(row[name] or 0 for row in rows)
    served = total("minutes")
    print(f"\n{served:g} minutes of {options.ranks} ranks in {len(rows)} chunks: "
          f"{total('steps_ok')} steps of ranks ({total('steps_aborted')} aborted), "
          f"{total('tokens_emitted')} tokens, {total('requests_completed')} requests")
    print(f"step ms, worst chunk: p50 {max(row['step_p50_ms'] for row in rows):.2f}  "
          f"p99 {max(row['step_p99_ms'] for row in rows):.2f}  "
          f"max {max(row['step_max_ms'] for row in rows):.2f}")
    print(f"suspicions raised {total('suspicions')}, taken back {total('suspicions_cancelled')}; "
          f"others used {100 * max(row['foreign_share'] for row in rows):.0f} % of the machine "
          f"at most\n")
    fewest = min(row["ranks_at_end"] for row in rows)
    checked = sum(1 for row in rows if row["tokens_wrong"] is not None)
    # Every bar is judged and shown before the answer is drawn from all of them.
    return all([
        common.verdict("whole time served", served >= options.minutes - SHORTEST_MINUTES,
                       f"{served:g} of {options.minutes:g} minutes"),
        common.verdict("views after a fault", total("fault_views") == 0,
                       f"{total('fault_views')} (one whose suspicion was taken back expels nobody)"
                       if total("fault_views") else "0"),
        common.verdict("expelled ranks", total("expelled") == 0, str(total("expelled"))),
        common.verdict("processes that ended", total("ended") == 0, str(total("ended"))),
        common.verdict("all ranks at the end", fewest == options.ranks,
                       f"{fewest} of {options.ranks} at least"),
        common.verdict("tokens wrong", total("tokens_wrong") == 0 and checked == len(rows),
                       f"{total('tokens_wrong')}; {checked} of {len(rows)} chunks were checked"),
        common.verdict("requests lost or failed",
                       total("requests_lost") + total("requests_failed") == 0,
                       f"{total('requests_lost')} and {total('requests_failed')}"),
        common.verdict("chunks that eep-run calls good", not spoilt,
                       "; ".join(spoilt) or f"all {len(rows)}"),
    ])


def main():
    options = parse()
    rows, spoilt, left = [], [], options.minutes
    file = common.Rows(os.path.join(options.out, "soak.csv"), COLUMNS)
    while left >= SHORTEST_MINUTES:
        index, length = len(rows) + 1, min(options.chunk_minutes, left)
        seed = options.seed + index - 1
        run = run_chunk(options, index, length, seed)
        file.begin(run.summary, options.note)
        # A run that was cut off served less than it was to.
        rows.append(chunk_row(run, index, min(length, run.summary["duration_ms"] / 60e3), seed))
        file.add(rows[-1])
        wrong = common.faults_of_run(run)
        if wrong:
            spoilt.append(f"chunk {index} (seed {seed}): {wrong}")
        row, left = rows[-1], left - length
        print(f"chunk {index}: {row['minutes']:.2f} min, {row['steps_ok']} steps, step p50 "
              f"{row['step_p50_ms']:.1f} p99 {row['step_p99_ms']:.1f} max "
              f"{row['step_max_ms']:.1f} ms, {row['suspicions']} suspicions, "
              f"{row['expelled']} expelled, {row['tokens_wrong']} wrong", flush=True)
    file.close()
    good = judge(options, rows, spoilt)
    print(f"rows: {options.out}/soak.csv")
    return 0 if good else 1


if __name__ == "__main__":
    common.finish(main, "soak.py")
