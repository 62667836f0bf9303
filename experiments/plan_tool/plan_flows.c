/* SPDX-License-Identifier: Apache-2.0 */
#include "experiments/plan_tool/plan_flows.h"

#include <stdlib.h>
#include <string.h>

struct plan_flows {
    const eepi_links *links;
    double expert_bytes;
    int ranks;
    double *link_bytes; /* [links] */
    double *rank_bytes; /* [ranks]: into it */
};

plan_flows *plan_flows_new(const plan_case *self)
{
    plan_flows *flows = calloc(1, sizeof *flows);

    if (!flows) {
        return NULL;
    }
    flows->links = self->links;
    flows->expert_bytes = (double)self->given.expert_bytes;
    flows->ranks = self->before->shape.max_ranks;
    flows->link_bytes = calloc((size_t)eepi_links_count(self->links), sizeof *flows->link_bytes);
    flows->rank_bytes = calloc((size_t)flows->ranks, sizeof *flows->rank_bytes);
    if (!flows->link_bytes || !flows->rank_bytes) {
        plan_flows_free(flows);
        return NULL;
    }
    return flows;
}

void plan_flows_free(plan_flows *flows)
{
    if (!flows) {
        return;
    }
    free(flows->link_bytes);
    free(flows->rank_bytes);
    free(flows);
}

void plan_flows_reset(plan_flows *flows)
{
    memset(flows->link_bytes, 0,
           (size_t)eepi_links_count(flows->links) * sizeof *flows->link_bytes);
    memset(flows->rank_bytes, 0, (size_t)flows->ranks * sizeof *flows->rank_bytes);
}

void plan_flows_add(plan_flows *flows, int source, int target, int kind)
{
    int32_t path[EEPI_LINKS_MAX_PATH];
    const int num = eepi_links_path(flows->links, source, target, kind, path);

    for (int i = 0; i < num; i++) {
        flows->link_bytes[path[i]] += flows->expert_bytes;
    }
    flows->rank_bytes[target] += flows->expert_bytes;
}

double plan_flows_with(const plan_flows *flows, int source, int target, int kind)
{
    int32_t path[EEPI_LINKS_MAX_PATH];
    const int num = eepi_links_path(flows->links, source, target, kind, path);
    double most = 0;

    for (int i = 0; i < num; i++) {
        const double s = (flows->link_bytes[path[i]] + flows->expert_bytes) /
                         (double)eepi_links_rate(flows->links, path[i]);
        most = s > most ? s : most;
    }
    return most;
}

double plan_flows_link_s(const plan_flows *flows)
{
    double most = 0;

    for (int32_t link = 0; link < eepi_links_count(flows->links); link++) {
        const double s = flows->link_bytes[link] / (double)eepi_links_rate(flows->links, link);
        most = s > most ? s : most;
    }
    return most;
}

double plan_flows_most_into(const plan_flows *flows)
{
    double most = 0;

    for (int rank = 0; rank < flows->ranks; rank++) {
        most = flows->rank_bytes[rank] > most ? flows->rank_bytes[rank] : most;
    }
    return most;
}
