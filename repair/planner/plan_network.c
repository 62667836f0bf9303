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
    network->out_changes = calloc(seats, sizeof *network->out_changes);
    return network->unit_ns && network->load_ns && network->seats && network->out_changes;
}

void eepi_plan_network_close(eepi_plan_network *network)
{
    free(network->unit_ns);
    free(network->load_ns);
    free(network->seats);
    free(network->out_changes);
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
        network->seats[seat] = eepi_links_of_seat(links, seat);
    }
}

int eepi_plan_path(const eepi_plan_network *network, int source, int target,
                   int32_t resources_out[EEPI_LINKS_MAX_PATH])
{
    return eepi_seat_links_path(
        &network->seats[eepi_source_seat(source, target)], &network->seats[target],
        eepi_source_is_file(source) ? EEPI_LINK_FILE : EEPI_LINK_BACKUP, resources_out);
}

static void note_change(eepi_plan_network *network, int source, int target)
{
    network->out_changes[network->seats[eepi_source_seat(source, target)].node]++;
}

static void add_units(eepi_plan_network *network, const int32_t *path, int num)
{
    for (int i = 0; i < num; i++) {
        network->load_ns[path[i]] += network->unit_ns[path[i]];
    }
}

void eepi_plan_load(eepi_plan_network *network, int source, int target)
{
    int32_t path[EEPI_LINKS_MAX_PATH];

    note_change(network, source, target);
    add_units(network, path, eepi_plan_path(network, source, target, path));
}

void eepi_plan_load_slot(eepi_plan_network *network, int source, int target)
{
    int32_t path[EEPI_LINKS_MAX_PATH];

    note_change(network, source, target);
    add_units(network, path,
              eepi_seat_links_path(&network->seats[source], &network->seats[target], EEPI_LINK_SLOT,
                                   path));
}

void eepi_plan_unload(eepi_plan_network *network, int source, int target)
{
    int32_t path[EEPI_LINKS_MAX_PATH];
    const int num = eepi_plan_path(network, source, target, path);

    note_change(network, source, target);
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
