#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How many expert slots per rank an instance should have, by seeded histories of faults.

usage: simulate_faults.py OUT.csv [--faults N] [--seed N]

Each row is one width, one mean time between failures (MTBF) of a GPU, with or without spare ranks,
and one number of slots per rank, over the same history. The model:

* Each GPU fails at the same rate. 81 of 419 faults of the Llama 3 report (switch, host, NIC,
  watchdog) take a node of 8; the others take one rank. After 19 % of faults another node has a
  fault within 6 minutes. A rank without a spare is back after a time whose quartiles and ninth
  decile are those of a public trace of 400 servers; with a spare it is replaced in 15 minutes.
* Placement keeps two replicas of an expert on different nodes, where slots allow two of each. With
  n ranks and s slots each, 2 E - n s experts have one replica, once redundancy is restored. That
  takes 15 s or, if more, the bytes at 1 GB/s per rank. Until then the experts of the ranks that were
  lost have one replica less.
* A fault that takes the last replica of an expert leaves a hole. Its weights come from host backups
  in the pause, at 20 GB/s per rank. With fewer slots than experts nobody serves until a rank is
  back.
"""

import argparse
import csv
import heapq
import os
import random
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common

EXPERTS, LAYERS, EXPERT_GB = 256, 58, 0.044  # 3 x 7168 x 2048 bytes, FP8
NODE = 8
NODE_FAULTS = 81 / 419
FOLLOWED, FOLLOWED_H = 0.19, 0.1
OUT_HOURS = ((0.0, 0.1), (0.25, 2.1), (0.5, 20.4), (0.9, 309.0), (1.0, 1000.0))
SPARE_H = 0.25
DETECT_AND_AGREE_S = 0.02
RESTORE_LEAST_S, BACKGROUND_GB_S, REPAIR_GB_S = 15.0, 1.0, 20.0
SLOTS = {32: (8, 9, 10, 11, 12, 14, 16, 17, 18, 20, 24), 96: (3, 4, 5, 6, 7, 8), 320: (1, 2, 3)}
MTBF_H = (10000, 15000, 30000, 50000, 80000)


def out_hours(generator):
    """How long a rank is out of service, between the known quantiles evenly in the logarithm."""
    at = generator.random()
    for (low, shortest), (high, longest) in zip(OUT_HOURS, OUT_HOURS[1:]):
        if at <= high:
            return shortest * (longest / shortest) ** ((at - low) / (high - low))
    return OUT_HOURS[-1][1]


def make_history(width, mtbf_h, has_spares, num_faults, generator):
    """Faults as (hour, ranks lost, ranks that served before, hours since the fault before), and the
    hours with each number of ranks."""
    live = [min(NODE, width - first) for first in range(0, width, NODE)]
    back, follow = [], []
    now, last, faults, hours = 0.0, -1e9, [], {}
    while len(faults) < num_faults:
        serving = sum(live)
        step = generator.expovariate(serving / mtbf_h) if serving else 1e9
        due = min(now + step, follow[0] if follow else 1e18, back[0][0] if back else 1e18)
        hours[serving] = hours.get(serving, 0.0) + due - now
        now = due
        if back and back[0][0] == due:
            _, node, ranks = heapq.heappop(back)
            live[node] += ranks
            continue
        is_follower = bool(follow) and follow[0] == due
        if is_follower:
            heapq.heappop(follow)
        if not serving:
            continue
        node = generator.choices(range(len(live)), live)[0]
        ranks = live[node] if generator.random() < NODE_FAULTS else 1
        faults.append((now, ranks, serving, now - last))
        last = now
        live[node] -= ranks
        heapq.heappush(back, (now + (SPARE_H if has_spares else out_hours(generator)), node, ranks))
        if not is_follower and generator.random() < FOLLOWED:
            heapq.heappush(follow, now + generator.random() * FOLLOWED_H)
    return faults, hours


def judge(slots, width, history):
    """A row's figures for that many slots per rank."""
    faults, hours = history
    all_hours = sum(hours.values())
    closed_h = sum(h for ranks, h in hours.items() if ranks * slots < EXPERTS)
    degraded_h = sum(h for ranks, h in hours.items()
                     if EXPERTS <= ranks * slots < 2 * EXPERTS)
    holes = pause_s = lost_gb = closing = 0.0
    before = 0  # ranks that the fault before took
    for _, ranks, serving, since_h in faults:
        if serving * slots < EXPERTS:
            before = ranks
            continue
        singles = max(0, 2 * EXPERTS - serving * slots)
        restore_s = max(RESTORE_LEAST_S,
                        before * slots * LAYERS * EXPERT_GB / (serving * BACKGROUND_GB_S))
        if since_h * 3600 < restore_s:
            singles = min(EXPERTS, singles + before * slots)
        lost = singles * ranks / serving  # experts of a layer
        none = (1 - ranks / serving) ** (singles * LAYERS)
        left = serving - ranks
        if left * slots < EXPERTS:
            closing += 1
        holes += 1 - none
        gb = lost * LAYERS * EXPERT_GB
        lost_gb += gb
        pause_s += DETECT_AND_AGREE_S + gb / (max(left, 1) * REPAIR_GB_S)
        before = ranks
    count = len(faults)
    gpu_hours = width * all_hours
    return {
        "faults": count, "hours": round(all_hours), "slots_over_experts":
        round(width * slots / EXPERTS, 3),
        "holes_per_fault": f"{holes / count:.5f}", "gb_per_fault": f"{lost_gb / count:.3f}",
        "pause_ms_per_fault": f"{1000 * pause_s / count:.2f}",
        "closed_per_1000_faults": f"{1000 * closing / count:.2f}",
        "closed_share": f"{closed_h / all_hours:.3e}",
        "single_share": f"{degraded_h / all_hours:.4f}",
        # missing ranks are lost whatever the slots are, and not counted here
        "lost_gpu_h_per_1000": f"{1000 * (closed_h * width + pause_s / 3600 * width) / gpu_hours:.6f}",
        "slot_gb": round(slots * LAYERS * EXPERT_GB, 2),
    }


def missing_quantile(width, hours, part):
    """So many ranks or fewer are missing in that part of the time."""
    total, sum_h = sum(hours.values()), 0.0
    for ranks in sorted(hours, reverse=True):
        sum_h += hours[ranks]
        if sum_h >= part * total:
            return width - ranks
    return width


def main():
    parser = argparse.ArgumentParser(description="Simulate how many expert slots a rank should have.")
    parser.add_argument("out")
    parser.add_argument("--faults", type=int, default=20000, help="per history")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rows = []
    for width in SLOTS:
        for mtbf_h in MTBF_H:
            for has_spares in (0, 1):
                generator = random.Random(f"{options.seed} {width} {mtbf_h} {has_spares}")
                history = make_history(width, mtbf_h, has_spares, options.faults, generator)
                for slots in SLOTS[width]:
                    rows.append({"width": width, "mtbf_h": mtbf_h, "spares": has_spares,
                                 "slots": slots,
                                 "missing_p99": missing_quantile(width, history[1], 0.99),
                                 "missing_p999": missing_quantile(width, history[1], 0.999),
                                 **judge(slots, width, history)})
    with open(options.out, "w", newline="", encoding="utf-8") as file:
        file.write(f"# commit {common.commit()}\n# machine none: a seeded simulation\n"
                   f"# command experiments/measure/simulate_faults.py --faults {options.faults} "
                   f"--seed {options.seed}\n")
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return 0


if __name__ == "__main__":
    common.finish(main, "simulate_faults.py")
