/* SPDX-License-Identifier: Apache-2.0 */
/* The links of a plan and their loads. */
#include "repair/planner/plan_network.h"

#include <stdlib.h>
#include <string.h>

/* Only the order of costs counts where nobody says how large an expert is. */
#define UNKNOWN_EXPERT_BYTES ((uint64_t)1 << 20)

bool eepi_plan_network_open(eepi_plan_network *network, const eepi_view_shape *shape)
{
    const size_t seats = (size_t)shape->max_ranks;
    const size_t most = seats * EEPI_LINK_TYPES; /* no more nodes than seats */

    *network = (eepi_plan_network){.shape = *shape};
    network->unit_ns = calloc(most, sizeof *network->unit_ns);
    network->load_ns = calloc(most, sizeof *network->load_ns);
    network->seats = calloc(seats, sizeof *network->seats);
    return network->unit_ns && network->load_ns && network->seats;
}

void eepi_plan_network_close(eepi_plan_network *network)
{
    free(network->unit_ns);
    free(network->load_ns);
    free(network->seats);
}

void eepi_plan_network_reset(eepi_plan_network *network, const eepi_links *links,
                             uint64_t expert_bytes)
{
    const uint64_t bytes = expert_bytes ? expert_bytes : UNKNOWN_EXPERT_BYTES;

    network->num_resources = eepi_links_count(links);
    for (int32_t r = 0; r < network->num_resources; r++) {
        network->unit_ns[r] = eepi_links_time_ns(bytes, eepi_links_rate(links, r));
        network->load_ns[r] = 0;
    }
    for (int seat = 0; seat < network->shape.max_ranks; seat++) {
        network->seats[seat] =
            (eepi_plan_seat_links){.host = eepi_links_resource(links, seat, EEPI_LINK_HOST),
                                   .rank_out = eepi_links_resource(links, seat, EEPI_LINK_RANK_OUT),
                                   .nic_out = eepi_links_resource(links, seat, EEPI_LINK_NIC_OUT),
                                   .nic_in = eepi_links_resource(links, seat, EEPI_LINK_NIC_IN),
                                   .pcie_in = eepi_links_resource(links, seat, EEPI_LINK_PCIE_IN),
                                   .rank_in = eepi_links_resource(links, seat, EEPI_LINK_RANK_IN),
                                   .files = eepi_links_resource(links, seat, EEPI_LINK_FILES),
                                   .node = eepi_view_node_of(&network->shape, seat)};
    }
}

int eepi_plan_path(const eepi_plan_network *network, int source, int target,
                   int32_t resources_out[EEPI_LINKS_MAX_PATH])
{
    const eepi_plan_seat_links *t = &network->seats[target];
    int num = 0;

    if (source == EEPI_SOURCE_FILE) {
        resources_out[num++] = t->files;
    } else {
        const eepi_plan_seat_links *s = &network->seats[source];
        resources_out[num++] = s->host;
        if (source != target) {
            resources_out[num++] = s->rank_out;
        }
        if (s->node != t->node) {
            resources_out[num++] = s->nic_out;
            resources_out[num++] = t->nic_in;
        }
    }
    resources_out[num++] = t->pcie_in;
    resources_out[num++] = t->rank_in;
    return num;
}

void eepi_plan_load(eepi_plan_network *network, int source, int target)
{
    int32_t path[EEPI_LINKS_MAX_PATH];
    const int num = eepi_plan_path(network, source, target, path);

    for (int i = 0; i < num; i++) {
        network->load_ns[path[i]] += network->unit_ns[path[i]];
    }
}

void eepi_plan_unload(eepi_plan_network *network, int source, int target)
{
    int32_t path[EEPI_LINKS_MAX_PATH];
    const int num = eepi_plan_path(network, source, target, path);

    for (int i = 0; i < num; i++) {
        network->load_ns[path[i]] -= network->unit_ns[path[i]];
    }
}

uint64_t eepi_plan_path_load_ns(const eepi_plan_network *network, int source, int target)
{
    int32_t path[EEPI_LINKS_MAX_PATH];
    const int num = eepi_plan_path(network, source, target, path);
    uint64_t most = 0;

    for (int i = 0; i < num; i++) {
        most = network->load_ns[path[i]] > most ? network->load_ns[path[i]] : most;
    }
    return most;
}

uint64_t eepi_plan_path_unit_ns(const eepi_plan_network *network, int source, int target)
{
    int32_t path[EEPI_LINKS_MAX_PATH];
    const int num = eepi_plan_path(network, source, target, path);
    uint64_t most = 0;

    for (int i = 0; i < num; i++) {
        most = network->unit_ns[path[i]] > most ? network->unit_ns[path[i]] : most;
    }
    return most;
}

uint64_t eepi_plan_makespan_ns(const eepi_plan_network *network)
{
    uint64_t most = 0;

    for (int32_t r = 0; r < network->num_resources; r++) {
        most = network->load_ns[r] > most ? network->load_ns[r] : most;
    }
    return most;
}
