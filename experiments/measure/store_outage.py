#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The store's process is killed under load and comes back, empty, a minute later.

    serving ---> store killed --------------------> a rank killed ---> store started ---> rejoin
           before            alone: nobody needs it              waiting             view

Serving never touches the store, so until the rank dies nothing may be lost or slower. Its death
cannot be agreed on while there is no store: the survivors stop and wait, nobody else is expelled
meanwhile, and the view changes once the store is back; so does the next one, for the rejoin.

Bars: no step aborted while only the store was gone; steps per second then >= --rate-bar of before;
the killed rank expelled after the store is back, and nobody else; its seat filled again; no wrong,
lost or failed request.

Writes DIR/store-outage.csv, a row per run.
Exit: 0 all bars met, 1 one missed, 2 it could not be measured.
"""

import argparse
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common

COLUMNS = ("run", "seed", "rank", "outage_s", "kill_s", "good", "steps_before", "steps_alone",
           "aborted_before", "aborted_alone", "aborted_later", "rate_before", "rate_alone",
           "rate_ratio", "p99_before_ms", "p99_alone_ms", "longest_gap_before_ms",
           "longest_gap_alone_ms", "detect_ms", "views_in_outage", "expelled", "expelled_living",
           "view_after_store_ms", "step_after_store_ms", "joined", "join_ms", "tokens_emitted",
           "tokens_wrong", "requests_completed", "requests_failed", "requests_lost",
           "foreign_share")
SETTLE_MS = 1000.0  # of load before anything is counted
REJOIN_AFTER_S, SERVE_AFTER_S = 3.0, 6.0  # after the store was started


def seconds(text):
    value = float(text)
    if not 1 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"'{text}': 1 to 3600 seconds")
    return value


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outage", type=seconds, default=60.0, metavar="S",
                        help="from the store's death to its start (default %(default)g)")
    parser.add_argument("--before", type=seconds, default=20.0, metavar="S",
                        help="of serving before it (default %(default)g)")
    parser.add_argument("--kill-before", type=seconds, default=10.0, metavar="S",
                        help="a rank is killed so long before the store's start "
                        "(default %(default)g)")
    parser.add_argument("--rate-bar", type=float, default=0.9, metavar="F",
                        help="least steps per second without the store, as a share of those with "
                        "it (default %(default)g)")
    parser.add_argument("--keep-busy", type=common.positive, default=16, metavar="N",
                        help="requests outstanding at any time (default %(default)s)")
    parser.add_argument("--runs", type=common.positive, default=1, metavar="N",
                        help="runs; each kills the next seat (default %(default)s)")
    common.add_common_options(parser, "out/store-outage")
    options = parser.parse_args()
    if options.kill_before >= options.outage:
        parser.error(f"--kill-before: the rank dies within the outage, so less than "
                     f"{options.outage:g} s")
    if options.before * 1e3 <= SETTLE_MS:
        parser.error(f"--before: the first {SETTLE_MS / 1e3:g} s are not counted: take more")
    if options.ranks < 2:
        parser.error("--ranks: at least 2, so that somebody survives")
    return options


def run_outage(options, index, rank, seed):
    begin = options.before
    back = begin + options.outage
    return common.run_eep(options, [
        "--requests", "1", "--keep-busy", str(options.keep_busy), "--keep-busy-seconds",
        f"{back + SERVE_AFTER_S:g}", "--store-kill", f"@{begin * 1e3:.0f}ms", "--kill",
        f"{rank}@{(back - options.kill_before) * 1e3:.0f}ms", "--store-start",
        f"@{back * 1e3:.0f}ms", "--rejoin", f"{rank}@{(back + REJOIN_AFTER_S) * 1e3:.0f}ms",
        "--seed", str(seed)], f"store-outage-{index}")


# ---------------------------------------------------------------- what a run says


def time_of(run, kind):
    """The event of the script, once in a run."""
    times = [event["time_ms"] for event in run.events if event["kind"] == kind]
    if len(times) != 1:
        raise common.Failure(f"{len(times)} events of kind {kind} in a run, expected 1")
    return times[0]


def window(run, begin_ms, end_ms):
    """Steps that began in it: OK ones, aborted ones, OK ones of all ranks per second, p99, and
    the longest time in which no rank ended one."""
    inside = [step for step in run.steps if begin_ms <= step["begin_ms"] < end_ms]
    durations = run.durations(begin_ms, end_ms)
    if not durations:
        raise common.Failure(f"no step ended well between {begin_ms:.0f} and {end_ms:.0f} ms")
    ends = sorted([begin_ms, *(step["end_ms"] for step in inside if step["status"] == 0)])
    return {"steps": len(durations), "aborted": sum(1 for step in inside if step["status"] != 0),
            "rate": 1e3 * len(durations) / (end_ms - begin_ms),
            "p99_ms": common.quantile(durations, 99),
            "longest_gap_ms": max(after - before for before, after in zip(ends, ends[1:]))}


def fault_facts(run, rank, back_ms):
    """How the killed rank's expulsion went; times from the store's start."""
    faults = [fault for fault in run.summary["faults"]
              if (fault["rank"], fault["kind"]) == (rank, "kill")]
    if len(faults) != 1:
        raise common.Failure(f"{len(faults)} kills of rank {rank} in the summary, expected 1")
    fault = faults[0]
    known = [event["time_ms"] for event in run.events if event["kind"] == "suspected" and
             (event["about_seat"], event["about_generation"]) == (rank, fault["generation"])]
    views = [event["time_ms"] for event in run.events
             if event["kind"] == "installed" and event["time_ms"] >= fault["time_ms"]]
    steps = [step["end_ms"] for step in run.steps
             if step["status"] == 0 and step["begin_ms"] >= back_ms]
    join = next((join for join in run.summary["joins"] if join["rank"] == rank), None)
    gone = {(other["rank"], other["generation"]) for other in run.summary["faults"]
            if other["expelled"]}
    return fault, {
        "detect_ms": min(known) - fault["time_ms"] if known else None,
        "expelled": int(fault["expelled"]),
        "expelled_living": len(gone - {(rank, fault["generation"])}),
        "view_after_store_ms": min(views) - back_ms if views else None,
        "step_after_store_ms": min(steps) - back_ms if steps else None,
        "joined": int(bool(join and join["joined"])),
        "join_ms": join["join_ms"] if join and join["joined"] else None}


def outage_row(options, run, index, rank, seed):
    row = {name: run.summary.get(name) for name in COLUMNS}
    gone_ms, back_ms = time_of(run, "store-kill"), time_of(run, "store-start")
    fault, facts = fault_facts(run, rank, back_ms)
    before = window(run, SETTLE_MS, gone_ms)
    alone = window(run, gone_ms, fault["time_ms"])
    for name, values in (("before", before), ("alone", alone)):
        row.update({f"steps_{name}": values["steps"], f"aborted_{name}": values["aborted"],
                    f"rate_{name}": values["rate"], f"p99_{name}_ms": values["p99_ms"],
                    f"longest_gap_{name}_ms": values["longest_gap_ms"]})
    # A step that was under way when the rank was killed began before, and is its victim.
    killed = sum(1 for step in run.steps if step["status"] != 0
                 and step["begin_ms"] < fault["time_ms"] <= step["end_ms"])
    row.update(facts, run=index, seed=seed, rank=rank, outage_s=(back_ms - gone_ms) / 1e3,
               kill_s=(fault["time_ms"] - gone_ms) / 1e3, good=int(run.summary["good"]),
               aborted_alone=alone["aborted"] - killed,
               aborted_later=run.summary["steps_aborted"] - before["aborted"] - alone["aborted"]
               + killed, rate_ratio=alone["rate"] / before["rate"],
               views_in_outage=sum(1 for event in run.events if event["kind"] == "view"
                                   and gone_ms < event["time_ms"] < back_ms),
               foreign_share=run.foreign_share)
    return row


# ---------------------------------------------------------------- verdict


def judge(options, rows, spoilt):
    def values(name):
        return [row[name] for row in rows if row[name] is not None]
    slowest = min(values("rate_ratio"))
    waited = values("view_after_store_ms")
    print()
    # Every bar is judged and shown before the answer is drawn from all of them.
    return all([
        common.verdict("steps aborted while only the store was gone",
                       sum(values("aborted_alone")) == 0,
                       f"{sum(values('aborted_alone'))} of {sum(values('steps_alone'))} "
                       f"(before: {sum(values('aborted_before'))})"),
        common.verdict("steps per second without the store", slowest >= options.rate_bar,
                       f"{slowest:.3f} >= {options.rate_bar:g} of those with it, slowest run"),
        common.verdict("views while the store was gone", sum(values("views_in_outage")) == 0,
                       str(sum(values("views_in_outage")))),
        common.verdict("the killed rank is expelled once the store is back",
                       all(values("expelled")) and len(waited) == len(rows)
                       and min(waited) >= 0,
                       f"{sum(values('expelled'))} of {len(rows)}"
                       + (f", {max(waited):.0f} ms after its start at most" if waited else "")),
        common.verdict("others expelled", sum(values("expelled_living")) == 0,
                       str(sum(values("expelled_living")))),
        common.verdict("serving went on", len(values("step_after_store_ms")) == len(rows),
                       f"{len(values('step_after_store_ms'))} of {len(rows)}"),
        common.verdict("the seat is filled again", all(values("joined")),
                       f"{sum(values('joined'))} of {len(rows)}"),
        common.verdict("runs without a wrong or lost token", not spoilt,
                       "; ".join(spoilt) or f"all {len(rows)}"),
    ])


def main():
    options = parse()
    rows, spoilt = [], []
    file = common.Rows(os.path.join(options.out, "store-outage.csv"), COLUMNS)
    for index in range(1, options.runs + 1):
        seed, rank = options.seed + index - 1, (index + 2) % options.ranks
        run = run_outage(options, index, rank, seed)
        file.begin(run.summary, options.note)
        rows.append(outage_row(options, run, index, rank, seed))
        file.add(rows[-1])
        row, wrong = rows[-1], common.faults_of_run(run)
        if wrong:
            spoilt.append(f"run {index} (seed {seed}): {wrong}")
        view = row["view_after_store_ms"]
        print(f"run {index}: steps/s {row['rate_before']:.0f} before, {row['rate_alone']:.0f} "
              f"without the store for {row['kill_s']:.0f} s; {row['aborted_alone']} aborted; "
              f"rank {rank} expelled {'never' if view is None else f'{view:.0f} ms'} after the "
              f"store's start; others used {100 * run.foreign_share:.0f} % of the machine",
              flush=True)
    file.close()
    good = judge(options, rows, spoilt)
    print(f"rows: {options.out}/store-outage.csv")
    return 0 if good else 1


if __name__ == "__main__":
    common.finish(main, "store_outage.py")
