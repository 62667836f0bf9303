/* SPDX-License-Identifier: Apache-2.0 */
/* Every number that eep-avail takes for granted, each with its source. `eep-avail --constants`
 * prints this table. tests/python/test_results.py computes the measured ones again from their kept
 * rows. */
#ifndef EEPX_AVAIL_CONSTANTS_H
#define EEPX_AVAIL_CONSTANTS_H

/* Failures. */
#define AVAIL_MTBF_H     50700
#define AVAIL_NODE_GPUS  8
#define AVAIL_RACK_GPUS  32
#define AVAIL_NODE_SHARE 0.110
#define AVAIL_RACK_SHARE 0.084
/* How long a GPU is out of service: quantiles of a trace, and its assumed ends. */
#define AVAIL_REPAIR_LEAST_H 0.1
#define AVAIL_REPAIR_P25_H   2.1
#define AVAIL_REPAIR_P50_H   20.4
#define AVAIL_REPAIR_P90_H   309
#define AVAIL_REPAIR_MOST_H  1000
/* Pauses. */
#define AVAIL_DETECT_S              0.0002
#define AVAIL_RECOVERY_S            0.0205
#define AVAIL_REINTEGRATION_S       0.0053
#define AVAIL_PAPER_DETECT_S        0
#define AVAIL_PAPER_RECOVERY_S      11
#define AVAIL_PAPER_REINTEGRATION_S 8
#define AVAIL_RESTART_S             348
#define AVAIL_FAILOVER_S            30
#define AVAIL_RETURN_S              900
/* The model that is served. */
#define AVAIL_EXPERTS       256
#define AVAIL_LOST_PER_RANK 1
#define AVAIL_HOURS_A_YEAR  8760

#define AVAIL_LLAMA "419 faults in 54 days on 16,384 GPUs (Llama 3 report, arXiv 2407.21783)"
#define AVAIL_TRACE "a public trace of 400 servers: out of service, all causes"
#define AVAIL_ASSUMED_END                                                                          \
    "assumed, as in experiments/measure/simulate_faults.py: the trace has no ends"
#define AVAIL_PAPER "arXiv 2605.10670, DeepSeek-V3 on 32 ranks, one rank killed: "

/* name, unit, source */
#define AVAIL_CONSTANTS(X)                                                                         \
    X(AVAIL_MTBF_H, "h", AVAIL_LLAMA)                                                              \
    X(AVAIL_NODE_GPUS, "GPUs", "a node of eight, as in the paper's set-up")                        \
    X(AVAIL_RACK_GPUS, "GPUs", "assumed: four nodes in a rack")                                    \
    X(AVAIL_NODE_SHARE, "", "host 32 + NIC 7 + watchdog 7 of " AVAIL_LLAMA)                        \
    X(AVAIL_RACK_SHARE, "",                                                                        \
      "switch or cable 35 of " AVAIL_LLAMA "; the most it can be, since a cable stops less")       \
    X(AVAIL_REPAIR_LEAST_H, "h", AVAIL_ASSUMED_END)                                                \
    X(AVAIL_REPAIR_P25_H, "h", AVAIL_TRACE ", p25")                                                \
    X(AVAIL_REPAIR_P50_H, "h", AVAIL_TRACE ", median")                                             \
    X(AVAIL_REPAIR_P90_H, "h", AVAIL_TRACE ", p90")                                                \
    X(AVAIL_REPAIR_MOST_H, "h", AVAIL_ASSUMED_END)                                                 \
    X(AVAIL_DETECT_S, "s",                                                                         \
      "median detect_ms of 90 kills of 8 ranks on a CPU, experiments/results/pause.csv")           \
    X(AVAIL_RECOVERY_S, "s", "median of pause_ms - detect_ms of the same rows")                    \
    X(AVAIL_REINTEGRATION_S, "s",                                                                  \
      "at most: median over 10 joins of the longest step beside one less the median step, "        \
      "experiments/results/join.csv")                                                              \
    X(AVAIL_PAPER_DETECT_S, "s", AVAIL_PAPER "contained in its recovery pause")                    \
    X(AVAIL_PAPER_RECOVERY_S, "s", AVAIL_PAPER "recovery pause, end to end")                       \
    X(AVAIL_PAPER_REINTEGRATION_S, "s", AVAIL_PAPER "reintegration pause, end to end")             \
    X(AVAIL_RESTART_S, "s", AVAIL_PAPER "full restart, from the fault until it serves again")      \
    X(AVAIL_FAILOVER_S, "s",                                                                       \
      "a silent peer is dead after 30 s in Mooncake; the example of Ray Serve's documentation "    \
      "has the same health_check_timeout_s")                                                       \
    X(AVAIL_RETURN_S, "s",                                                                         \
      "assumed, as in experiments/measure/simulate_faults.py: a spare rank comes in 15 minutes")   \
    X(AVAIL_EXPERTS, "", "routed experts of a layer of DeepSeek-V3")                               \
    X(AVAIL_LOST_PER_RANK, "GPUs",                                                                 \
      "a missing rank costs its own GPU; the paper's 6499.72 of 7182.67 tok/s is 3.04 of 32")      \
    X(AVAIL_HOURS_A_YEAR, "h", "365 days")

typedef struct avail_constant {
    const char *name, *unit, *source;
    double value;
} avail_constant;

/* The row of that number; NULL behind the last one. */
const avail_constant *avail_constant_at(int number);

/* As text, for the default of an option: AVAIL_TEXT(AVAIL_RESTART_S) is "348". */
#define AVAIL_TEXT_OF(value) #value
#define AVAIL_TEXT(value)    AVAIL_TEXT_OF(value)
#endif
