#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Small collectives beside gloo's, in rank processes on one machine.

The processes of both sides live through the whole run, and those of one side sleep while the other
is measured. A round has a block of each side for each operation and size, in an order that turns:
libeep twice (A/A) and gloo once. A time is what one call takes on rank 0.

Bars: the median of libeep over that of gloo <= 2.0 for allgather and broadcast of 1 KB and 64 KB.

gloo is torch's (torch.distributed on the CPU): --python names an interpreter that has it. Its
workers are started as `PYTHON beside_gloo.py --gloo-worker RANK`.

Writes DIR/collectives.csv, a row per block.
Exit: 0 all bars met, 1 one missed, 2 it could not be measured.
"""

import argparse
import os
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common

COLUMNS = ("round", "operation", "bytes", "side", "place", "calls", "min_us", "p50_us", "p90_us",
           "p99_us", "max_us")
BAR = 2.0
CASES = tuple((operation, size) for operation in ("broadcast", "allgather", "allreduce")
              for size in (1024, 65536)) + (("barrier", 0),)
BARRED = ("broadcast", "allgather")
SIDES = ("eep", "eep-again", "gloo")


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=common.positive, default=10, metavar="N",
                        help="rounds (default %(default)s)")
    parser.add_argument("--calls", type=common.positive, default=100, metavar="N",
                        help="calls of a block (default %(default)s)")
    parser.add_argument("--python", metavar="FILE", default=sys.executable,
                        help="an interpreter that has torch (default: this one)")
    common.add_common_options(parser, "out/collectives")
    return parser.parse_args()


def gloo_worker(rank, ranks, port):
    """Blocks of calls, as rank 0's standard input names them; its times go to standard output."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=ranks)
    names = [operation for operation, _ in CASES]
    order = torch.zeros(3, dtype=torch.int64)
    while True:
        if rank == 0:
            words = sys.stdin.readline().split()
            order[0] = names.index(words[0]) if words else -1
            order[1], order[2] = (int(words[1]), int(words[2])) if words else (0, 0)
        dist.broadcast(order, 0)
        if order[0] < 0:
            break
        operation, size, calls = names[int(order[0])], int(order[1]), int(order[2])
        own = torch.full((max(size, 1),), rank, dtype=torch.uint8)
        numbers = torch.full((max(size // 4, 1),), rank, dtype=torch.int32)
        rows = [torch.empty_like(own) for _ in range(ranks)]
        took = []
        for _ in range(calls):
            numbers.fill_(rank)
            begin = time.perf_counter_ns()
            if operation == "barrier":
                dist.barrier()
            elif operation == "broadcast":
                dist.broadcast(own, 0)
            elif operation == "allgather":
                dist.all_gather(rows, own)
            else:
                dist.all_reduce(numbers, dist.ReduceOp.MAX)
            took.append(time.perf_counter_ns() - begin)
        if operation == "allgather" and [int(row[-1]) for row in rows] != list(range(ranks)):
            raise SystemExit("gloo: wrong bytes")
        if rank == 0:
            print(" ".join(map(str, took)), flush=True)
    dist.destroy_process_group()


class Side:
    """A program that answers a block's line with a line of times."""

    def __init__(self, commands, **options):
        self.processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                           text=True, **options) for command in commands]

    def block(self, operation, size, calls):
        first = self.processes[0]
        first.stdin.write(f"{operation} {size} {calls}\n")
        first.stdin.flush()
        took = [int(ns) / 1000 for ns in first.stdout.readline().split()]
        if len(took) != calls:
            raise common.Failure(f"{first.args[0]} gave {len(took)} times of {calls}")
        return took

    def close(self):
        for process in self.processes:
            process.stdin.close()
        for process in self.processes:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()


def gloo(options):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return Side([[options.python, os.path.abspath(__file__), "--gloo-worker", str(rank), str(options.ranks),
                  str(port)] for rank in range(options.ranks)])


def judge(times):
    met = True
    for operation, size in CASES:
        of = {side: times[operation, size, side] for side in SIDES}
        middle = {side: common.quantile(of[side], 50) for side in SIDES}
        ratio = middle["eep"] / middle["gloo"]
        text = (f"n {len(of['eep'])}  p50 {middle['eep']:.1f} us, gloo {middle['gloo']:.1f} us: ratio "
                f"{ratio:.3f}; A/A {middle['eep-again'] / middle['eep']:.3f}; p99 "
                f"{common.quantile(of['eep'], 99):.1f} and {common.quantile(of['gloo'], 99):.1f} us")
        name = f"{operation} {size}"
        if operation in BARRED:
            met &= common.verdict(name, ratio <= BAR, text)
        else:
            print(f"        {name}: {text}")
    return met


def versions(options):
    text = subprocess.run([options.python, "-c", "import torch; print(torch.__version__)"],
                          stdout=subprocess.PIPE, text=True, check=False).stdout.strip()
    if not text:
        raise common.Failure(f"{options.python} has no torch: --python names an interpreter that has it")
    return {"commit": common.commit(), "versions": {"torch": text}}


def row_of(number, operation, size, side, place, took):
    return {"round": number + 1, "operation": operation, "bytes": size, "side": side, "place": place,
            "calls": len(took), "min_us": min(took),
            **{f"p{percent}_us": common.quantile(took, percent) for percent in (50, 90, 99)},
            "max_us": max(took)}


def main():
    options = parse()
    times = {(operation, size, side): [] for operation, size in CASES for side in SIDES}
    file = common.Rows(os.path.join(options.out, "collectives.csv"), COLUMNS)
    file.begin(versions(options), options.note)
    eep = Side([[os.path.join(options.bin, "eep-bench-collectives"), "--ranks", str(options.ranks)]])
    other = gloo(options)
    try:
        for side in (eep, other):  # one block of each, so that all are connected
            for operation, size in CASES:
                side.block(operation, size, 20)
        for number in range(options.rounds):
            for operation, size in CASES:
                for place in range(len(SIDES)):
                    name = SIDES[(place + number) % len(SIDES)]
                    took = (other if name == "gloo" else eep).block(operation, size, options.calls)
                    times[operation, size, name] += took
                    file.add(row_of(number, operation, size, name, place, took))
    finally:
        eep.close()
        other.close()
        file.close()
    good = judge(times)
    print(f"rows: {options.out}/collectives.csv")
    return 0 if good else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--gloo-worker"]:
        gloo_worker(*map(int, sys.argv[2:5]))
    else:
        common.finish(main, "beside_gloo.py")
