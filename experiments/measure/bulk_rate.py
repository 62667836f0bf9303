#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How fast a repair is beside what UCX's own benchmark reaches on the same lane.

Each round runs, in an order that turns, repairs over UCX's tcp (twice: A/A) and in shared memory,
and ucx_perftest between two processes over tcp on the loopback interface and over posix shared
memory, with active messages and tags of 1 MiB. A repair fetches 16 experts in segments, sums them
and writes them into slots; ucx_perftest sends one buffer again and again and looks at nothing. The
rate of ucx_perftest is the better one of its two tests. Nothing is paced.

In shared memory either process of both programs is bound to a CPU of its own. ucx_perftest spins, so
the scheduler gives it two. A repair sleeps between chunks, and a process that sleeps may be woken on
the CPU of its waker: then one CPU does the work of both. Over tcp nobody is bound.

Bars: median repair rate over median ucx_perftest rate >= 0.70, on either lane.

ucx_perftest is in Debian's package ucx-utils, which is not needed otherwise.

Writes DIR/bulk-rate.csv, a row per measurement.
Exit: 0 all bars met, 1 one missed, 2 it could not be measured.
"""

import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common

COLUMNS = ("round", "place", "side", "mb_per_s", "foreign_share")
BAR, MESSAGE, MESSAGES = 0.70, 1048576, 300
REPAIRS = {"repair-ucx": ["ucx"], "repair-ucx-again": ["ucx"], "repair-shm": ["shm", "--bind"]}
TESTS = {f"{test}-{lane}": (test, lane) for test in ("tag_bw", "ucp_am_bw") for lane in ("tcp", "posix")}
SIDES = (*REPAIRS, *TESTS)
LANES = {"tcp": "repair-ucx", "posix": "repair-shm"}


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=common.positive, default=10, metavar="N",
                        help="rounds (default %(default)s)")
    parser.add_argument("--experts", type=common.positive, default=16, metavar="N",
                        help="experts of a repair (default %(default)s)")
    parser.add_argument("--mb", type=common.positive, default=8, metavar="MB",
                        help="size of an expert (default %(default)s)")
    parser.add_argument("--perftest", metavar="FILE", default=shutil.which("ucx_perftest"),
                        help="ucx_perftest (default: the one in PATH)")
    common.add_common_options(parser, "out/bulk-rate")
    options = parser.parse_args()
    if not options.perftest:
        raise common.Failure("ucx_perftest is not there: it is in Debian's package ucx-utils")
    return options


def repair_rate(options, arguments):
    """The median of three repairs in one process, behind one that warms up."""
    done = subprocess.run([os.path.join(options.bin, "eep-bench-repair"), "--bulk", *arguments, "--rounds",
                           "3", "--experts", str(options.experts), "--mb", str(options.mb)],
                          stdout=subprocess.PIPE, text=True, timeout=300, check=False)
    rates = [float(rate) for rate in re.findall(r"([0-9.]+) MB/s", done.stdout)]
    if done.returncode or len(rates) != 3:
        raise common.Failure(f"eep-bench-repair: exit {done.returncode}")
    return common.quantile(rates, 50)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def bound(lane):
    """The options of ucx_perftest's two processes that bind them as those of a repair are bound."""
    cpus = sorted(os.sched_getaffinity(0))[:2]
    return [["-c", str(cpu)] for cpu in cpus] if lane == "posix" and len(cpus) == 2 else [[], []]


def perftest_rate(options, test, lane):
    """MB/s over the whole run, in millions of bytes as above."""
    variables = dict(os.environ, UCX_TLS=lane + ("" if lane == "tcp" else ",self"))
    if lane == "tcp":
        variables["UCX_NET_DEVICES"] = "lo"
    port = str(free_port())
    client_cpu, server_cpu = bound(lane)
    server = subprocess.Popen([options.perftest, "-p", port, *server_cpu], env=variables,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(20):
            time.sleep(0.1)
            done = subprocess.run([options.perftest, "127.0.0.1", "-p", port, "-t", test, "-s",
                                   str(MESSAGE), "-n", str(MESSAGES), "-w", "20", "-f", "-v", *client_cpu],
                                  env=variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                  text=True, timeout=300, check=False)
            if done.returncode == 0:
                break
        fields = done.stdout.strip().splitlines()[-1].split(",") if done.stdout.strip() else []
        if done.returncode or len(fields) != 8:
            raise common.Failure(f"ucx_perftest {test} over {lane}: exit {done.returncode}")
        return float(fields[5]) * 1.048576  # it counts in MiB
    finally:
        server.kill()
        server.wait()


def measure(options, side):
    if side in REPAIRS:
        return repair_rate(options, REPAIRS[side])
    return perftest_rate(options, *TESTS[side])


def judge(rows):
    """Show medians and bars; True: all are met."""
    medians = {side: common.quantile([row["mb_per_s"] for row in rows if row["side"] == side], 50)
               for side in SIDES}
    for side in SIDES:
        of_side = [row["mb_per_s"] for row in rows if row["side"] == side]
        print(f"{side:18} {common.describe(of_side, 'MB/s')}")
    print(f"A/A     repair-ucx-again / repair-ucx "
          f"{medians['repair-ucx-again'] / medians['repair-ucx']:.3f}")
    answers = []
    for lane, side in LANES.items():
        test = max((name for name in TESTS if TESTS[name][1] == lane), key=medians.get)
        ratio = medians[side] / medians[test]
        answers.append(common.verdict(f"{side} / {test}", ratio >= BAR,
                                      f"{ratio:.3f} >= {BAR}, medians of {len(rows) // len(SIDES)}"))
    return all(answers)


def versions(options):
    text = subprocess.run([options.perftest.replace("ucx_perftest", "ucx_info"), "-v"],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False).stdout
    found = re.search(r"version ([0-9.]+)", text, re.IGNORECASE)
    return {"commit": common.commit(), "versions": {"ucx": found.group(1) if found else "unknown"}}


def main():
    options = parse()
    rows, file = [], common.Rows(os.path.join(options.out, "bulk-rate.csv"), COLUMNS)
    for number in range(options.rounds):
        order = [SIDES[(place + number) % len(SIDES)] for place in range(len(SIDES))]
        for place, side in enumerate(order):
            meter = common.ForeignLoad()
            rate = measure(options, side)
            file.begin(versions(options), options.note)
            rows.append({"round": number + 1, "place": place, "side": side, "mb_per_s": rate,
                         "foreign_share": meter.share()})
            file.add(rows[-1])
        print(f"round {number + 1}: " + "  ".join(
            f"{row['side']} {row['mb_per_s']:.0f}" for row in rows[-len(SIDES):]) + " MB/s", flush=True)
    file.close()
    good = judge(rows)
    print(f"rows: {options.out}/bulk-rate.csv")
    return 0 if good else 1


if __name__ == "__main__":
    common.finish(main, "bulk_rate.py")
