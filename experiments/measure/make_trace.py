#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Make a seeded request trace of the shape of a conversation service: one JSON object a line with
`timestamp` (ms), `input_length` and `output_length` (tokens).

Requests come in bursts every 3 s, about ten in each. Prompt lengths are log-normal with median
6,900 and mean 12,000, cut at 126,000; output lengths follow a gamma distribution of shape 2 and
mean 343, cut at 2,000. Those are figures of the published Mooncake conversation trace; no line of
it is used. Scale the lengths down for a small machine (eep-run --scale-lengths).
"""

import argparse
import json
import math
import os
import random
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common

BURST_MS, PER_BURST = 3000, 10
INPUT_MEDIAN, INPUT_SIGMA, INPUT_MOST = 6900.0, 1.05, 126000
OUTPUT_SHAPE, OUTPUT_MEAN, OUTPUT_MOST = 2.0, 343.0, 2000


def make(count, seed):
    """`count` requests as dicts, by timestamp."""
    generator = random.Random(seed)
    requests, burst = [], 0
    while len(requests) < count:
        size = generator.randint(PER_BURST // 2, PER_BURST + PER_BURST // 2)
        for _ in range(min(size, count - len(requests))):
            prompt = generator.lognormvariate(math.log(INPUT_MEDIAN), INPUT_SIGMA)
            answer = generator.gammavariate(OUTPUT_SHAPE, OUTPUT_MEAN / OUTPUT_SHAPE)
            requests.append({"timestamp": burst * BURST_MS,
                             "input_length": min(max(round(prompt), 1), INPUT_MOST),
                             "output_length": min(max(round(answer), 1), OUTPUT_MOST)})
        burst += 1
    return requests


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", metavar="FILE", help="where the trace goes (JSONL)")
    parser.add_argument("--requests", type=common.positive, default=400, metavar="N",
                        help="requests (default %(default)s)")
    parser.add_argument("--seed", type=common.positive, default=1, metavar="N",
                        help="seed (default %(default)s)")
    options = parser.parse_args()
    with common.open_alone(options.file) as file:
        for request in make(options.requests, options.seed):
            file.write(json.dumps(request) + "\n")
    return 0


if __name__ == "__main__":
    common.finish(main, "make_trace.py")
