/* SPDX-License-Identifier: Apache-2.0 */
/* The ways between two ranks: pairs of an interface of either. The first is taken while it is well.
 */
#include "transport/network/network_state.h"

/* Each interface of both has a way: the last one of whoever has fewer is in several. */
static uint32_t num_ways(const eepi_network *network, const eepi_lane_address *to)
{
    const uint32_t own = network->address.num_paths;

    return own > to->num_paths ? own : to->num_paths;
}

const eepi_lane_path *eepi_lane_own_path(const eepi_network *network, const eepi_lane *lane)
{
    return &network->address.path[lane->way % network->address.num_paths];
}

void eepi_lane_take_way(eepi_network *network, eepi_lane *lane)
{
    pthread_mutex_lock(&network->lock);
    lane->num_ways = num_ways(network, &lane->address);
    lane->way %= lane->num_ways;
    lane->to = lane->address.path[lane->way % lane->address.num_paths];
    pthread_mutex_unlock(&network->lock);
}
