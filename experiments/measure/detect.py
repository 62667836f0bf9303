#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Detection: how long until ALL survivors know that a rank was killed (SIGKILL) or stopped
(SIGSTOP), idle and under load, with small and with large processes.

A survivor knows at its own first `suspected` event about that seat and generation, by its own
evidence or because another's report told it; one that has none was told by the view that it
installed. Kills go over all seats in turn, each rejoined before the next. Stops are for good: the
fence kills the stopped rank after the silence that expels, and it is rejoined.

Bars: every survivor came to know of every fault; kills, in each mode and size: p50 over survivors
<= --kill-median-bar and p99 <= --kill-bar, and
nobody needed the silence; stops: p99 over survivors <= --stop-bar, and nobody was quicker than
0.9 of --expel-ms (a stop so long has to pass unpunished); no wrong or lost token.

Writes DIR/detect.csv (a row per fault), DIR/detect-survivors.csv (a row per fault and survivor)
and DIR/detect-runs.csv (a row per run).
Exit: 0 all bars met, 1 one missed, 2 it could not be measured.
"""

import argparse
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common

MODES, KINDS = ("idle", "loaded"), ("kill", "stop")
FAULT_COLUMNS = ("mode", "ballast_mb", "kind", "run", "fault", "rank", "generation", "time_ms",
                 "survivors", "knew", "first_ms", "last_ms", "steps_before")
SURVIVOR_COLUMNS = ("mode", "ballast_mb", "kind", "run", "fault", "rank", "survivor", "known_ms",
                    "evidence")
RUN_COLUMNS = ("mode", "ballast_mb", "kind", "run", "seed", "faults", "good", "tokens_emitted",
               "tokens_wrong", "requests_lost", "expelled_living", "foreign_share")
# In the order of eep_fault_kind; "view" is ours: no evidence before the view without the rank.
EVIDENCE = ("exit", "reset", "device", "silent", "deadline", "left-out")
STEPS_BEFORE_MS = 200.0  # a fault after this long without a step is an idle one
FIRST_STOP_MS, REJOIN_AFTER_MS = 700, 300
# One short request: there must be something to check, and it is over before the first fault.
IDLE_LOAD = ["--keep-busy", "0", "--requests", "1", "--input", "8:8", "--output", "1:4"]


def names_of(allowed):
    """A comma-separated choice of `allowed`."""
    def parse_names(text):
        chosen = text.split(",")
        if not set(chosen) <= set(allowed) or len(set(chosen)) < len(chosen):
            raise argparse.ArgumentTypeError(f"'{text}': any of {','.join(allowed)}, each once")
        return chosen
    return parse_names


def megabytes(text):
    try:
        return [common.count(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"'{text}': megabytes, separated by commas, e.g. 0,1000") from None


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=common.count, default=24, metavar="N",
                        help="kills of a run; 0: no such runs (default %(default)s)")
    parser.add_argument("--stops", type=common.count, default=8, metavar="N",
                        help="stops of a run; 0: no such runs (default %(default)s)")
    parser.add_argument("--modes", type=names_of(MODES), default=list(MODES), metavar="LIST",
                        help="idle, loaded, or both with a comma (default both)")
    parser.add_argument("--ballast", type=megabytes, default=[0, 1000], metavar="LIST",
                        help="MB that each rank touches and keeps, a run each (default 0,1000)")
    parser.add_argument("--runs", type=common.positive, default=1, metavar="N",
                        help="runs of each combination (default %(default)s)")
    parser.add_argument("--kill-every", type=common.positive, default=700, metavar="MS",
                        help="least time between two kills (default %(default)s)")
    parser.add_argument("--stop-every", type=common.positive, default=2500, metavar="MS",
                        help="time between two stops (default %(default)s)")
    parser.add_argument("--expel-ms", type=common.positive, default=1000, metavar="MS",
                        help="silence that expels (default %(default)s)")
    parser.add_argument("--kill-median-bar", type=float, default=1.5, metavar="MS",
                        help="bar for the p50 of kills (default %(default)g)")
    parser.add_argument("--kill-bar", type=float, default=5.0, metavar="MS",
                        help="bar for the p99 of kills (default %(default)s)")
    parser.add_argument("--stop-bar", type=common.positive, metavar="MS",
                        help="bar for the p99 of stops (default: 1.25 times --expel-ms)")
    common.add_common_options(parser, "out/detect")
    options = parser.parse_args()
    if not options.kills and not options.stops:
        parser.error("--kills and --stops are both 0: nothing to measure")
    if options.ranks < 2:
        parser.error("--ranks: at least 2, so that somebody survives")
    if options.stop_every <= options.expel_ms + REJOIN_AFTER_MS:
        parser.error(f"--stop-every: a stopped rank is rejoined {REJOIN_AFTER_MS} ms after "
                     f"--expel-ms, so more than {options.expel_ms + REJOIN_AFTER_MS} is needed")
    options.stop_bar = options.stop_bar or 1.25 * options.expel_ms
    return options


# ---------------------------------------------------------------- a run


def stops_of(options):
    """The flags for the stops, over all seats in turn. Times and not states trigger them: what
    waits for a state does not keep an idle run from ending. A rejoin waits for the fence."""
    flags = []
    for index in range(options.stops):
        seat, at_ms = index % options.ranks, FIRST_STOP_MS + index * options.stop_every
        flags += ["--stop", f"{seat}@{at_ms}ms",
                  "--rejoin", f"{seat}@{at_ms + options.expel_ms + REJOIN_AFTER_MS}ms"]
    return flags


def arguments_of(options, mode, kind, ballast, seed):
    load = IDLE_LOAD if mode == "idle" else ["--keep-busy", str(2 * options.ranks)]
    faults = stops_of(options)
    if kind == "kill":
        faults = ["--kills", str(options.kills), "--kill-every", str(options.kill_every)]
    weight = ["--ballast-mb", str(ballast)] if ballast else []
    return [*load, *faults, *weight, "--expel-ms", str(options.expel_ms), "--seed", str(seed)]


# ---------------------------------------------------------------- who knew, and when


def survivors_of(run, fault):
    """The (seat, generation) of all who served when the fault struck, but for its victim."""
    alive = {}
    for event in run.events:
        if event["time_ms"] > fault["time_ms"]:
            continue
        if event["kind"] == "joined":
            alive[event["seat"]] = event["generation"]
        elif event["kind"] in ("kill", "stop", "exit") and \
                alive.get(event["seat"]) == event["generation"]:
            del alive[event["seat"]]
    alive.pop(fault["rank"], None)
    return sorted(alive.items())


def knowledge(run, fault, survivor):
    """When that survivor knew, in ms after the fault, and by what; (None, "never")."""
    own = [event for event in run.events if event["time_ms"] >= fault["time_ms"]
           and (event["seat"], event["generation"]) == survivor]
    heard = [event for event in own if event["kind"] == "suspected" and
             (event["about_seat"], event["about_generation"]) ==
             (fault["rank"], fault["generation"])]
    installed = [event for event in own if event["kind"] == "installed"]
    told = heard or installed  # a survivor installs nothing but views after faults
    if not told:
        return None, "never"
    first = min(told, key=lambda event: event["time_ms"])
    how = EVIDENCE[first["value"]] if heard else "view"
    return first["time_ms"] - fault["time_ms"], how


def rows_of(run, base):
    """The rows of one run's faults, and those of their survivors."""
    faults, survivors = [], []
    scripted = [fault for fault in run.summary["faults"] if fault["kind"] == base["kind"]]
    for number, fault in enumerate(scripted, 1):
        here = dict(base, fault=number, rank=fault["rank"])
        known = []
        for survivor in survivors_of(run, fault):
            at_ms, how = knowledge(run, fault, survivor)
            survivors.append(dict(here, survivor=survivor[0], known_ms=at_ms, evidence=how))
            known.append(at_ms)
        knew = [at_ms for at_ms in known if at_ms is not None]
        before = run.durations(fault["time_ms"] - STEPS_BEFORE_MS, fault["time_ms"])
        faults.append(dict(here, generation=fault["generation"], time_ms=fault["time_ms"],
                           survivors=len(known), knew=len(knew), steps_before=len(before),
                           first_ms=min(knew) if knew else None,
                           last_ms=max(knew) if knew and len(knew) == len(known) else None))
    return faults, survivors


def run_row(run, base, seed):
    row = {name: run.summary.get(name) for name in RUN_COLUMNS}
    row.update(base, seed=seed, faults=len(run.summary["faults"]),
               good=int(run.summary["good"]), foreign_share=run.foreign_share)
    return row


# ---------------------------------------------------------------- verdict


def show(faults, survivors):
    print("\nms from the fault               each survivor knew                    "
          "all survivors knew")
    print("mode   ballast  kind  faults     n      p50      p99      max        p50      p99"
          "      max   known by")
    for key in dict.fromkeys((row["mode"], row["ballast_mb"], row["kind"]) for row in faults):
        def mine(rows, name):
            return [row[name] for row in rows
                    if (row["mode"], row["ballast_mb"], row["kind"]) == key
                    and row[name] is not None]
        each, last, how = mine(survivors, "known_ms"), mine(faults, "last_ms"), \
            mine(survivors, "evidence")
        figures = "  ".join(" ".join(f"{common.quantile(values, percent):8.1f}"
                                     for percent in (50, 99, 100)) if values else f"{'-':>26}"
                            for values in (each, last))
        ways = ", ".join(f"{name} {how.count(name)}" for name in sorted(set(how)))
        print(f"{key[0]:<6} {key[1]:7d}  {key[2]:<4} {len(mine(faults, 'fault')):7d} "
              f"{len(each):5d} {figures}   {ways}")
    print()


def judge(options, faults, survivors, wanted, spoilt):
    show(faults, survivors)
    complete = [row for row in faults if row["survivors"] and row["last_ms"] is not None]
    answers = [common.verdict("every survivor knew of every fault",
                              len(complete) == len(faults) == wanted,
                              f"{len(complete)} of {wanted} faults")]
    for mode in options.modes:
        for ballast in options.ballast:
            known = [row["known_ms"] for row in survivors
                     if (row["mode"], row["ballast_mb"], row["kind"]) == (mode, ballast, "kill")
                     and row["known_ms"] is not None]
            for percent, bar in ((50, options.kill_median_bar), (99, options.kill_bar)):
                value = common.quantile(known, percent) if known else 0
                answers += [common.verdict(f"kills, {mode}, {ballast} MB: p{percent} over survivors",
                                           value <= bar, f"{value:.2f} <= {bar:g} ms, n {len(known)}")
                            ] if known else []
    for kind in KINDS:
        known = [row["known_ms"] for row in survivors
                 if row["kind"] == kind and row["known_ms"] is not None]
        if not known:
            continue
        if kind == "stop":
            p99 = common.quantile(known, 99)
            answers.append(common.verdict("stops: p99 over survivors", p99 <= options.stop_bar,
                                          f"{p99:.1f} <= {options.stop_bar:.0f} ms, n {len(known)}"))
        if kind == "kill":
            late = max(known)
            answers.append(common.verdict("kills: nobody needed the silence",
                                          late < options.expel_ms,
                                          f"max {late:.1f} < {options.expel_ms} ms"))
        else:
            early = min(known)
            answers.append(common.verdict("stops: nobody was too quick",
                                          early >= 0.9 * options.expel_ms,
                                          f"min {early:.1f} >= {0.9 * options.expel_ms:.0f} ms"))
    answers.append(common.verdict("runs without a wrong or lost token", not spoilt,
                                  "; ".join(spoilt) or "all"))
    idle = [row for row in faults if row["mode"] == "idle"]
    stepping = sum(1 for row in idle if row["steps_before"])
    if idle:
        print(f"idle: {stepping} of {len(idle)} faults with a step in the "
              f"{STEPS_BEFORE_MS:.0f} ms before (flips make some)")
    return all(answers)


def main():
    options = parse()
    faults, survivors, spoilt, wanted = [], [], [], 0
    files = [common.Rows(os.path.join(options.out, path), columns)
             for path, columns in (("detect.csv", FAULT_COLUMNS),
                                   ("detect-survivors.csv", SURVIVOR_COLUMNS),
                                   ("detect-runs.csv", RUN_COLUMNS))]
    plan = [(mode, ballast, kind, index) for mode in options.modes for ballast in options.ballast
            for kind in KINDS for index in range(1, options.runs + 1)
            if (options.kills if kind == "kill" else options.stops)]
    for number, (mode, ballast, kind, index) in enumerate(plan):
        seed, name = options.seed + number, f"detect-{mode}-{ballast}-{kind}-{index}"
        run = common.run_eep(options, arguments_of(options, mode, kind, ballast, seed), name)
        for file in files:
            file.begin(run.summary, options.note)
        base = {"mode": mode, "ballast_mb": ballast, "kind": kind, "run": index}
        of_faults, of_survivors = rows_of(run, base)
        for file, rows in zip(files, (of_faults, of_survivors, [run_row(run, base, seed)])):
            for row in rows:
                file.add(row)
        faults += of_faults
        survivors += of_survivors
        wanted += options.kills if kind == "kill" else options.stops
        wrong = common.faults_of_run(run)
        if wrong:
            spoilt.append(f"{name} (seed {seed}): {wrong}")
        last = [row["last_ms"] for row in of_faults if row["last_ms"] is not None]
        print(f"{name}: all knew {common.describe(last) if last else 'of nothing'}; others used "
              f"{100 * run.foreign_share:.0f} % of the machine", flush=True)
    for file in files:
        file.close()
    good = judge(options, faults, survivors, wanted, spoilt)
    print(f"rows: {options.out}/detect.csv, detect-survivors.csv, detect-runs.csv")
    return 0 if good else 1


if __name__ == "__main__":
    common.finish(main, "detect.py")
