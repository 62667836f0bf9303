#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Kill and rejoin, again and again, in one run: nothing may be left of a process that is gone. All
seats but 0 are killed in turn; each comes back before the next one is killed. Descriptors, maps and
resident memory of the launcher and of every rank process are read from /proc on the way.

Bars: the launcher and rank 0, which is never killed, have no more descriptors and maps at the end than
at an early cycle, and neither has the median of all ranks; no token wrong, no request lost. Both
times are the least of the cycles in which each seat was killed KILLS_EACH times. Survivors that
copied slots keep their connection until one of them is killed: it is not there after each cycle, but
what is leaked stays. So cycles go on, MOST_FURTHER at most, until all is as low as it was early.
The slope of the resident memory is shown and has no bar: the launcher keeps the rows of the run in
memory.

Writes DIR/cycles.csv, a row per process and look.
Exit: 0 all bars met, 1 one missed, 2 it could not be measured.
"""

import argparse
import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(os.path.dirname(HERE)), "bindings", "python")]
import common
import eep_lab

COLUMNS = ("cycle", "elapsed_s", "process", "generation", "fds", "maps", "rss_bytes")
SETTLE_S = 60  # longest wait for a view
KILLS_EACH = 4
MOST_FURTHER = 100
SMALL = {"experts": 16, "slots": 8, "topk": 2, "layers": 2, "hidden": 128, "inner": 128,
         "input": "4:8", "output": "4:8", "requests": 1}


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=common.positive, default=2000, metavar="N",
                        help="kills, each with its rejoin (default %(default)s)")
    parser.add_argument("--early", type=common.positive, default=100, metavar="N",
                        help="cycle that the last one is compared with (default %(default)s)")
    parser.add_argument("--every", type=common.positive, default=50, metavar="N",
                        help="cycles between two looks (default %(default)s)")
    parser.add_argument("--keep-busy", type=common.positive, default=4, metavar="N",
                        help="requests outstanding at any time (default %(default)s)")
    parser.add_argument("--no-maps", action="store_true",
                        help="no bar on maps: a sanitizer's allocator has its own")
    common.add_common_options(parser, "out/cycles")
    parser.set_defaults(ranks=4)
    options = parser.parse_args()
    if options.early >= options.cycles or options.ranks < 2:
        parser.error("--early is below --cycles, and --ranks at least 2")
    return options


# ---------------------------------------------------------------- one look


def children_of(pid):
    """Process ids by the seat that their environment names."""
    seats = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                children = file.read().split()
        except FileNotFoundError:
            continue
        for child in children:
            try:
                with open(f"/proc/{child}/environ", "rb") as file:
                    for variable in file.read().split(b"\0"):
                        if variable.startswith(b"EEP_RANK="):
                            seats[int(variable.split(b"=")[1])] = int(child)
            except FileNotFoundError:
                pass  # it has just ended
    return seats


def look_at(pid):
    """Descriptors, maps and resident bytes of one process."""
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as file:
        maps = sum(1 for _ in file)
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        pages = int(file.read().split()[1])
    return {"fds": len(os.listdir(f"/proc/{pid}/fd")), "maps": maps,
            "rss_bytes": pages * os.sysconf("SC_PAGE_SIZE")}


def settled_look(run, pids):
    """The least of a few looks: a connection of our own, a buffer or a stack may be there for a
    moment, what is leaked stays."""
    looks = []
    for _ in range(5):
        looks.append({name: look_at(pid) for name, pid in pids.items()})
        time.sleep(0.02)
    return {name: {key: min(look[name][key] for look in looks) for key in looks[0][name]}
            for name in pids}


# ---------------------------------------------------------------- the run


def cycle(run, seat, generation):
    """Kill the seat's process and wait until a new one serves."""
    run.kill(seat)
    run.rejoin(seat)  # noted, until the seat is free
    run.wait("settled", SETTLE_S)
    found = run.seat(seat)
    if found["state"] != "joined" or found["generation"] <= generation:
        raise common.Failure(f"seat {seat} did not come back: {found}")
    return found["generation"]


def drive(run, options, add, is_low):
    """All cycles; add(cycle, looks by process) after those at which one is to be kept. Further ones until is_low()."""
    generations = [seat["generation"] for seat in run.status()["seats"]]
    number = 0
    while number < options.cycles or (number < options.cycles + MOST_FURTHER and not is_low()):
        number += 1
        seat = 1 + (number - 1) % (options.ranks - 1)
        generations[seat] = cycle(run, seat, generations[seat])
        is_compared = any(number in cycles for cycles in compared(options))
        if is_compared or number % options.every == 0 or number == 1:
            pids = {"launcher": run.process.pid}
            pids.update({f"rank {seat}": pid
                         for seat, pid in sorted(children_of(run.process.pid).items())})
            if len(pids) != options.ranks + 1:
                raise common.Failure(f"cycle {number}: {len(pids) - 1} rank processes live")
            add(number, settled_look(run, pids), generations)


# ---------------------------------------------------------------- what it says


def slope(points):
    """Least squares, in units of y per x."""
    count = len(points)
    mean_x, mean_y = (sum(point[i] for point in points) / count for i in (0, 1))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def median_rank(looks, key):
    values = [look[key] for name, look in looks.items() if name != "launcher"]
    return common.quantile(values, 50)


def compared(options):
    """The early cycles and the last ones, with those that were added."""
    num = KILLS_EACH * (options.ranks - 1)
    return (range(options.early - num + 1, options.early + 1),
            range(max(options.cycles - num, options.early) + 1, options.cycles + MOST_FURTHER + 1))


def least(kept, cycles):
    """By process, the least of the looks at these cycles."""
    looks = [kept[number] for number in kept if number in cycles]
    return {name: {key: min(look[name][key] for look in looks) for key in looks[0][name]}
            for name in looks[0]}


def bars(options, kept):
    """(what, early, last)"""
    early, last = (least(kept, cycles) for cycles in compared(options))
    found = []
    for key in ("fds",) if options.no_maps else ("fds", "maps"):
        found += [(f"{key} of {name}", early[name][key], last[name][key])
                  for name in ("launcher", "rank 0")]
        found.append((f"{key} of the median rank", median_rank(early, key), median_rank(last, key)))
    return found


def judge(options, kept, summary, wrong):
    """`kept`: looks by cycle."""
    for name in ("launcher", "rank 0"):
        points = [(number, looks[name]["rss_bytes"]) for number, looks in sorted(kept.items())
                  if number >= options.early]
        print(f"resident memory of {name}: {points[0][1] / 1e6:.1f} MB at cycle {points[0][0]}, "
              f"{points[-1][1] / 1e6:.1f} MB at {points[-1][0]}: "
              f"{slope(points):.0f} bytes per cycle")
    print(f"rows in the launcher's memory: {summary['steps_ok'] + summary['steps_aborted']} steps, "
          f"{summary['tokens_emitted']} tokens\n")
    held = [common.verdict(name, now <= then, f"{then} at cycle {options.early}, {now} at {max(kept)}")
            for name, then, now in bars(options, kept)]
    held.append(common.verdict("tokens and requests", not wrong, wrong or "none wrong, none lost"))
    return all(held)


def main():
    options = parse()
    program = os.path.join(options.bin, "eep-run")
    out = os.path.join(options.keep_runs, "cycles") if options.keep_runs else None
    rows = common.Rows(os.path.join(options.out, "cycles.csv"), COLUMNS)
    begin, kept = time.monotonic(), {}
    # The rows that the launcher keeps grow in its heap, and not, one by one, into maps of their own.
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(1 << 30)
    how = {**SMALL, "ranks": options.ranks, "keep_busy": options.keep_busy, "seed": options.seed}
    try:
        with eep_lab.Run(out, program=program, **how) as run:
            pending = []

            def add(number, looks, generations):
                kept[number] = looks
                for name, look in looks.items():
                    generation = generations[int(name.split()[1])] if name != "launcher" else None
                    pending.append({"cycle": number, "elapsed_s": time.monotonic() - begin,
                                    "process": name, "generation": generation, **look})
                line = "  ".join(f"{name}: {look['fds']} fds {look['maps']} maps "
                                 f"{look['rss_bytes'] / 1e6:.1f} MB"
                                 for name, look in looks.items())
                print(f"cycle {number}, {(time.monotonic() - begin) / number * 1e3:.0f} ms each: "
                      f"{line}", flush=True)

            drive(run, options, add, lambda: all(now <= then for _, then, now in bars(options, kept)))
            summary = run.finish(600)
            said = run.log()
            if run.process.returncode or "Sanitizer" in said:
                raise common.Failure(f"exit {run.process.returncode}:\n{said}")
            rows.begin(summary, options.note)
            for row in pending:
                rows.add(row)
            rows.close()
    except eep_lab.EepError as error:
        raise common.Failure(str(error)) from error
    except KeyboardInterrupt:
        raise common.Failure(f"interrupted after cycle {max(kept, default=0)}: a campaign that "
                             "did not come to its end keeps no rows") from None
    run = common.Run.__new__(common.Run)
    run.summary = summary
    good = judge(options, kept, summary, common.faults_of_run(run))
    print(f"rows: {options.out}/cycles.csv")
    return 0 if good else 1


if __name__ == "__main__":
    common.finish(main, "cycles.py")
