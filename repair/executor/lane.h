/* SPDX-License-Identifier: Apache-2.0 */
/* The way on which a rank sends an expert's weights, and where they land. Pure. */
#ifndef EEPI_LANE_H
#define EEPI_LANE_H

#include "eep/eep.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum eepi_lane {
    EEPI_LANE_SHM,      /* out of host memory, through memory shared within the host */
    EEPI_LANE_UCX_HOST, /* out of host memory, by UCX */
    EEPI_LANE_UCX_CUDA, /* out of GPU memory, by UCX */
    EEPI_LANE_STAGED    /* through a pinned copy of the range, by either carrier */
} eepi_lane;

typedef enum eepi_memory_place {
    EEPI_MEMORY_OF_HOST,
    EEPI_MEMORY_OF_CUDA,
    EEPI_MEMORY_OF_OTHER /* the CPU cannot read it, and UCX does not know it */
} eepi_memory_place;

#define EEPI_UCX_VERSION(major, minor) ((uint32_t)(major) << 16 | (uint32_t)(minor))

typedef struct eepi_lane_facts {
    eepi_memory_place memory; /* where the weights are, or shall be */
    eep_bulk carrier;
    uint32_t ucx_version; /* EEPI_UCX_VERSION of what runs; 0: it is not UCX */
    bool ucx_has_cuda;    /* it sends out of GPU memory, as it says itself */
} eepi_lane_facts;

eepi_lane eepi_lane_of(const eepi_lane_facts *facts);

typedef enum eepi_landing {
    EEPI_LANDING_SLOT,  /* in the slot itself: the CPU writes it, and sums what it writes */
    EEPI_LANDING_STAGED /* in pinned host memory, and in the slot once the checksum is right */
} eepi_landing;

/* Where bytes land that this rank receives. Behind live traffic nothing but checked bytes is
 * written into a slot, and only when the owner of the executor lets it (rule M2). */
eepi_landing eepi_landing_of(const eepi_lane_facts *facts, bool is_behind_traffic);
#endif
