/* SPDX-License-Identifier: Apache-2.0 */
/* No network: all ranks are on one host, and each stores into its peers' windows. */
#include "transport/proxy/network.h"

void eepi_network_plan(eepk_shape *shape)
{
    shape->num_queues = 0;
    shape->ring_slots = 0;
}

eep_status eepi_network_open(const eepi_network_config *config, eepi_network **network_out)
{
    (void)config;
    *network_out = NULL;
    return EEP_ERR_UNSUPPORTED;
}

void eepi_network_close(eepi_network *network)
{
    (void)network;
}

uint32_t eepi_network_queue(const eepi_network *network, uint32_t seat, uint32_t generation)
{
    (void)network;
    (void)seat;
    (void)generation;
    return EEPI_NO_QUEUE;
}

void eepi_network_kick(eepi_network *network)
{
    (void)network;
}
