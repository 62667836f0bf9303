/* SPDX-License-Identifier: Apache-2.0 */
/* An instance by chance, with what the planner is given beside the document: links, backups of
 * nodes, and ranks that read a checkpoint file. */
#ifndef PLAN_INSTANCE_H
#define PLAN_INSTANCE_H

#include "tests/lib/planner_fixture.h"

#include <string.h>

enum { INSTANCE_MOST_RANKS = 320 };

typedef struct plan_instance {
    eepi_view *view;
    eepi_links *links;
    eepi_plan_given given;
    bool can_read_file[INSTANCE_MOST_RANKS];
} plan_instance;

/* Rates by chance; in one case of four nothing is known. */
static inline void instance_choose_rates(plan_instance *in, uint64_t *random)
{
    static const uint32_t rates[] = {0, 1000, 2500, 5000, 10000, 20000, EEPI_RATE_DOWN};
    const bool is_plain = below(random, 4) == 0;

    for (int seat = 0; seat < in->view->shape.max_ranks && !is_plain; seat++) {
        uint32_t told[EEPI_NUM_RATES];
        for (int i = 0; i < EEPI_NUM_RATES; i++) {
            told[i] = rates[below(random, 6)];
        }
        told[EEPI_RATE_NIC] = rates[below(random, 7)];
        told[EEPI_RATE_NIC_AT] = (uint32_t)below(random, 3);
        eepi_links_set_seat(in->links, seat, told);
    }
}

/* Each node keeps each expert's backup with the same chance, so that all its seats have it. */
static inline void instance_choose_backups(eepi_view *view, uint64_t *random, int of_4)
{
    const eepi_view_shape *s = &view->shape;

    for (int i = 0; i < s->num_layers * s->num_experts; i++) {
        for (int seat = 0; seat < s->max_ranks; seat++) {
            const bool follows =
                seat > 0 && eepi_view_node_of(s, seat) == eepi_view_node_of(s, seat - 1);
            const bool has = follows ? eepi_view_has_backup(view, seat - 1, i / s->num_experts,
                                                            i % s->num_experts)
                                     : below(random, 4) < of_4;
            eepi_view_set_backup(view, seat, i / s->num_experts, i % s->num_experts, has);
        }
    }
}

/* `of_experts`: slots hold experts below this number; `empty_of_8` slots of eight are EMPTY. */
static inline plan_instance new_plan_instance(const eepi_view_shape *shape, int of_experts,
                                              int empty_of_8, uint64_t *random)
{
    const bool reads_files = below(random, 2);
    plan_instance in = {.view = eepi_view_new(shape), .links = eepi_links_new(shape)};

    cr_assert(in.view && in.links);
    for (int seat = 0; seat < shape->max_ranks; seat++) {
        in.can_read_file[seat] = reads_files && below(random, 2);
        set_seat(in.view, seat, below(random, 8) ? EEP_SEAT_ACTIVE : EEP_SEAT_RETIRING);
        for (int i = 0; i < shape->num_layers * shape->num_slots; i++) {
            if (below(random, 8) >= empty_of_8) {
                set_expert(in.view, i / shape->num_slots, seat, i % shape->num_slots,
                           below(random, of_experts));
            }
        }
    }
    instance_choose_rates(&in, random);
    instance_choose_backups(in.view, random, 1 + below(random, 3));
    in.given = (eepi_plan_given){.links = in.links, .expert_bytes = 1000000};
    return in;
}

static inline void free_plan_instance(plan_instance *in)
{
    free(in->view);
    eepi_links_free(in->links);
}

/* The links of a fill as link_costs.h says it, and what one expert takes on one of them. */
static inline int instance_path(const plan_instance *in, int source, int seat,
                                int32_t path_out[EEPI_LINKS_MAX_PATH])
{
    return eepi_links_path(in->links, eepi_source_seat(source, seat), seat,
                           eepi_source_is_file(source) ? EEPI_LINK_FILE : EEPI_LINK_BACKUP,
                           path_out);
}

static inline uint64_t instance_unit_ns(const plan_instance *in, int32_t resource)
{
    return eepi_links_time_ns(in->given.expert_bytes, eepi_links_rate(in->links, resource));
}
#endif
