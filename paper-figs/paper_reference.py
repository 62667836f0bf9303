# SPDX-License-Identifier: Apache-2.0
"""The figures that arXiv 2605.10670 gives for 32 ranks, of which 1, 2, 4, 8 and 16 failed: what ours
are drawn beside. Nothing is computed from them."""

SOURCE = "arXiv 2605.10670"
FAILED = (1, 2, 4, 8, 16)
TOTAL_S = (10.546, 10.920, 9.348, 5.783, 6.540)
METADATA_S = (0.203, 1.041, 0.039, 0.051, 2.121)
GPU_P2P_S = (6.973, 6.344, 6.007, 2.906, 1.849)
WEIGHT_LOAD_S = (2.002, 2.198, 2.114, 1.846, 2.155)
HEALTHY_TOKENS_PER_S = 7182.67
TOKENS_PER_S = (6499.72, 6130.60, 5963.46, 5876.45, 3997.64)
THROUGHPUT_KEPT_PERCENT = tuple(100 * rate / HEALTHY_TOKENS_PER_S for rate in TOKENS_PER_S)
# Of the placement after the repair: on the rank before, another GPU, host memory.
MIX_PERCENT = {"local": (9.81, 9.96, 9.83, 7.84, 5.85), "GPU": (88.79, 87.11, 83.74, 78.94, 53.61),
               "host memory": (1.39, 2.92, 6.42, 13.23, 40.53)}
REINTEGRATION_S = (4, 6, 9, 15, 15)
FULL_RESTART_S = 348
TIME_TO_95_S = {1: 52}
# Output tok/s against a fixed membership, in percent, by requests at once.
STATIC_PERCENT = {"1024 tokens in, 1024 out": {32: 4.36, 64: 0.08, 128: -1.37, 256: -3.05},
                  "4096 tokens in, 256 out": {32: 1.35, 64: 0.06, 128: 0.04, 256: 0.71}}
