/* SPDX-License-Identifier: Apache-2.0 */
/* The links that a plan uses, and how long each of them will be busy with it. Each fill moves one
 * expert, all experts have the same size, and transfers that share a link share its rate. So a plan
 * takes as long as its most loaded link: the makespan is the largest load. Pure; integers. */
#ifndef EEPI_PLAN_NETWORK_H
#define EEPI_PLAN_NETWORK_H

#include "repair/link_costs.h"

typedef struct eepi_plan_network {
    eepi_view_shape shape;
    int32_t num_resources;
    uint64_t *unit_ns;      /* [num_resources]: one expert takes a link so long, at least 1 */
    uint64_t *load_ns;      /* [num_resources]: what is planned so far does */
    eepi_seat_links *seats; /* [max_ranks] */
    uint32_t *out_changes;  /* [max_ranks]: how often loads changed of links that leave the node */
} eepi_plan_network;

/* How a transfer would load its path: the most loaded link of it, then the sum over its links. */
typedef struct eepi_plan_weight {
    uint64_t most_ns, sum_ns;
} eepi_plan_weight;

static inline bool eepi_plan_is_lighter(eepi_plan_weight a, eepi_plan_weight b)
{
    return a.most_ns != b.most_ns ? a.most_ns < b.most_ns : a.sum_ns < b.sum_ns;
}

/* Memory for the links of any instance of that shape. false: no memory. */
EEP_MUST_CHECK bool eepi_plan_network_open(eepi_plan_network *network,
                                           const eepi_view_shape *shape);
void eepi_plan_network_close(eepi_plan_network *network);
/* Begin a plan: no load, and the rates of `links`. */
void eepi_plan_network_reset(eepi_plan_network *network, const eepi_links *links,
                             uint64_t expert_bytes);

/* ---- What one expert more would make of the loads. A source is a seat whose backup is read (the
 * target itself: its own), or whose slot is (`is_slot`), or a file (membership/view/view.h).
 * Inline: a plan asks for each target of each expert. */

static inline eepi_plan_weight eepi_plan_join(eepi_plan_weight a, eepi_plan_weight b)
{
    return (eepi_plan_weight){a.most_ns > b.most_ns ? a.most_ns : b.most_ns, a.sum_ns + b.sum_ns};
}

static inline eepi_plan_weight eepi_plan_weigh_link(const eepi_plan_network *n, int32_t resource)
{
    const uint64_t ns = n->load_ns[resource] + n->unit_ns[resource];

    return (eepi_plan_weight){ns, ns};
}

/* The half of a path that leaves the source, `crosses` to another node. */
static inline eepi_plan_weight eepi_plan_weigh_out(const eepi_plan_network *n, int source,
                                                   bool is_slot, bool crosses)
{
    const eepi_seat_links *from = &n->seats[source];
    eepi_plan_weight weight = eepi_plan_weigh_link(n, from->rank_out);

    if (!is_slot) {
        weight = eepi_plan_join(weight, eepi_plan_weigh_link(n, from->host));
    } else if (crosses) {
        weight = eepi_plan_join(weight, eepi_plan_weigh_link(n, from->pcie_out));
    }
    return crosses ? eepi_plan_join(weight, eepi_plan_weigh_link(n, from->nic_out)) : weight;
}

/* The other half. */
static inline eepi_plan_weight eepi_plan_weigh_in(const eepi_plan_network *n, int target,
                                                  bool is_slot, bool crosses)
{
    const eepi_seat_links *to = &n->seats[target];
    eepi_plan_weight weight = eepi_plan_weigh_link(n, to->rank_in);

    if (!is_slot || crosses) {
        weight = eepi_plan_join(weight, eepi_plan_weigh_link(n, to->pcie_in));
    }
    return crosses ? eepi_plan_join(weight, eepi_plan_weigh_link(n, to->nic_in)) : weight;
}

/* The whole path of a target's own backup, and of its own file; and a file that another rank reads:
 * the half that leaves it. */
static inline eepi_plan_weight eepi_plan_weigh_own(const eepi_plan_network *n, int target)
{
    return eepi_plan_join(eepi_plan_weigh_in(n, target, false, false),
                          eepi_plan_weigh_link(n, n->seats[target].host));
}

static inline eepi_plan_weight eepi_plan_weigh_file(const eepi_plan_network *n, int target)
{
    return eepi_plan_join(eepi_plan_weigh_in(n, target, false, false),
                          eepi_plan_weigh_link(n, n->seats[target].files));
}

static inline eepi_plan_weight eepi_plan_weigh_reader(const eepi_plan_network *n, int reader,
                                                      bool crosses)
{
    const eepi_seat_links *from = &n->seats[reader];
    const eepi_plan_weight weight = eepi_plan_join(eepi_plan_weigh_link(n, from->files),
                                                   eepi_plan_weigh_link(n, from->rank_out));

    return crosses ? eepi_plan_join(weight, eepi_plan_weigh_link(n, from->nic_out)) : weight;
}

/* The longest that one expert takes on a link of the half of a path between nodes that leaves a
 * backup, and of the half that arrives. */
static inline uint64_t eepi_plan_out_unit_ns(const eepi_plan_network *n, int source)
{
    const eepi_seat_links *from = &n->seats[source];
    const uint64_t rank_ns = n->unit_ns[from->rank_out], host_ns = n->unit_ns[from->host];
    const uint64_t nic_ns = n->unit_ns[from->nic_out],
                   most_ns = rank_ns > host_ns ? rank_ns : host_ns;

    return nic_ns > most_ns ? nic_ns : most_ns;
}

static inline uint64_t eepi_plan_in_unit_ns(const eepi_plan_network *n, int target)
{
    const eepi_seat_links *to = &n->seats[target];
    const uint64_t rank_ns = n->unit_ns[to->rank_in], pcie_ns = n->unit_ns[to->pcie_in];
    const uint64_t nic_ns = n->unit_ns[to->nic_in], most_ns = rank_ns > pcie_ns ? rank_ns : pcie_ns;

    return nic_ns > most_ns ? nic_ns : most_ns;
}

/* The links of a transfer; returns how many. */
int eepi_plan_path(const eepi_plan_network *network, int source, int target,
                   int32_t resources_out[EEPI_LINKS_MAX_PATH]);
/* Add the fill to the loads of its path, or take it away. */
void eepi_plan_load(eepi_plan_network *network, int source, int target);
void eepi_plan_load_slot(eepi_plan_network *network, int source, int target);
void eepi_plan_unload(eepi_plan_network *network, int source, int target);
/* The largest load on its path as it is; over all links. */
uint64_t eepi_plan_path_load_ns(const eepi_plan_network *network, int source, int target);
uint64_t eepi_plan_makespan_ns(const eepi_plan_network *network);
/* The longest that one expert takes on a link of its path. */
uint64_t eepi_plan_path_unit_ns(const eepi_plan_network *network, int source, int target);
#endif
