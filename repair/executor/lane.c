/* SPDX-License-Identifier: Apache-2.0 */
/* The choice of a lane and of a landing. */
#include "repair/executor/lane.h"

/* The first whose CUDA transports are taken; nobody has tried an older one. */
static const uint32_t first_with_cuda = EEPI_UCX_VERSION(1, 16);

eepi_lane eepi_lane_of(const eepi_lane_facts *facts)
{
    const bool is_ucx = facts->carrier == EEP_BULK_UCX;

    if (facts->memory == EEPI_MEMORY_OF_HOST) {
        return is_ucx ? EEPI_LANE_UCX_HOST : EEPI_LANE_SHM;
    }
    return facts->memory == EEPI_MEMORY_OF_CUDA && is_ucx && facts->ucx_has_cuda &&
                   facts->ucx_version >= first_with_cuda
               ? EEPI_LANE_UCX_CUDA
               : EEPI_LANE_STAGED;
}

eepi_landing eepi_landing_of(const eepi_lane_facts *facts, bool is_behind_traffic)
{
    if (is_behind_traffic) {
        return EEPI_LANDING_STAGED;
    }
    return facts->memory == EEPI_MEMORY_OF_HOST ? EEPI_LANDING_SLOT : EEPI_LANDING_STAGED;
}
