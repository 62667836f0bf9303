/* SPDX-License-Identifier: Apache-2.0 */
/* Every number of a modelled instance that is not of the instance itself, each with its source.
 * None is chosen by what the model then says. */
#ifndef EEPX_PLAN_CONSTANTS_H
#define EEPX_PLAN_CONSTANTS_H

#include <cjson/cJSON.h>

#define PLAN_CONSTANTS(X)                                                                          \
    X(RANKS, "ranks", 32, "", "arXiv 2605.10670: recovery of 32 ranks")                            \
    X(NODES, "nodes", 4, "", "arXiv 2605.10670: 8 GPUs a node")                                    \
    X(LAYERS, "layers", 58, "", "DeepSeek-V3: MoE layers")                                         \
    X(EXPERTS, "experts", 256, "", "DeepSeek-V3: routed experts of a layer")                       \
    X(SLOTS, "slots", 16, "", "256 experts and 256 redundant slots over 32 ranks")                 \
    X(BACKUPS, "backups", 2, "",                                                                   \
      "nodes with a backup of an expert: backup_copies (docs/DEFAULTS.md); the paper's nodes "     \
      "have "                                                                                      \
      "one, 167.5 GB each")                                                                        \
    X(EXPERT_BYTES, "expert_bytes", 44040192, "B", "DeepSeek-V3: 3 * 7168 * 2048, FP8")            \
    X(RANK_MBS, "rank_mbs", 450000, "MB/s",                                                        \
      "NVLink 4, each way (NVIDIA H100 datasheet: 900 GB/s)")                                      \
    X(NIC_MBS, "nic_mbs", 50000, "MB/s", "400 Gbit/s a NIC, arXiv 2605.10670")                     \
    X(NICS, "nics", 8, "", "NICs of a node, arXiv 2605.10670")                                     \
    X(PCIE_MBS, "pcie_mbs", 50000, "MB/s",                                                         \
      "assumed: PCIe 5.0, 16 lanes, is 63 GB/s each way on the wire")                              \
    X(HOST_MBS, "host_mbs", 614400, "MB/s",                                                        \
      "host memory of a node: two sockets, eight channels of DDR5-4800 each, at their peak")       \
    X(FILE_MBS, "file_mbs", 1000, "MB/s",                                                          \
      "a checkpoint, for each node: libeep's default (repair/link_costs.c)")                       \
    X(BACKGROUND_MBS, "background_mbs", 1000, "MB/s",                                              \
      "into each rank behind traffic: background_bytes_per_s (docs/DEFAULTS.md)")                  \
    X(DETECT_MS, "detect_ms", 0.205, "ms",                                                         \
      "the end of a process: median of 90 kills on this host, experiments/results/pause.csv")      \
    X(AGREE_MS, "agree_ms", 1.987, "ms", "median, experiments/results/pause.csv")                  \
    X(DEADLINE_MS, "deadline_ms", 1000, "ms",                                                      \
      "a rank that lives and is silent, instead of detect_ms: arXiv 2605.10670, and "              \
      "EEP_PROFILE_QUICK")                                                                         \
    X(STEP_MS, "step_ms", 71.283, "ms",                                                            \
      "a step before the fault, run again after it: 512 requests / 7182.67 tok/s, "                \
      "arXiv 2605.10670")                                                                          \
    X(TOKENS_PER_S, "tokens_per_s", 7182.67, "tok/s", "before the fault, arXiv 2605.10670")

typedef enum plan_constant {
#define PLAN_CONSTANT_ENUM(id, name, value, unit, source) PLAN_##id,
    PLAN_CONSTANTS(PLAN_CONSTANT_ENUM)
#undef PLAN_CONSTANT_ENUM
        PLAN_NUM_CONSTANTS
} plan_constant;

double plan_constant_value(plan_constant which);
/* [{"name", "value", "unit", "source"}]; NULL: no memory. */
cJSON *plan_constants_json(void);
#endif
