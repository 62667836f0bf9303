/* SPDX-License-Identifier: Apache-2.0 */
/* Cuts round sets of nodes. */
#include "repair/planner/plan_cuts.h"

#include "repair/planner/plan_choose.h"

enum {
    MOST_NODES = 64,
    MOST_UNIONS = 4,   /* experts' sets that are joined to one */
    MOST_LOOKS = 4000, /* sets that are looked at in all: half a millisecond to a few */
};

typedef struct cut_search {
    eepi_plan_table *table;
    uint64_t bound_ns, makespan_ns;
    int num, looks;
} cut_search;

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* ---------------------------------------------------------------- which experts are where */

/* The file may be a source of some fills: alone on its links it is faster than the backups for some
 * target, whose way in is slower from another node than the file; or than every source's way out.
 */
static bool may_read_file(const eepi_plan_table *t, uint64_t out_ns)
{
    const eepi_plan_network *n = &t->network;

    for (int i = 0; t->can_read_file && i < t->num_members; i++) {
        const eepi_seat_links *to = &n->seats[t->members[i]];
        const uint64_t in_ns = larger(n->unit_ns[to->pcie_in], n->unit_ns[to->rank_in]);
        const uint64_t file_ns = larger(n->unit_ns[to->files], in_ns);
        if (t->can_read_file[t->members[i]] &&
            file_ns < larger(out_ns, larger(in_ns, n->unit_ns[to->nic_in]))) {
            return true;
        }
    }
    return false;
}

/* The nodes of the sources that were found. */
static uint64_t nodes_of_sources(const eepi_plan_table *t)
{
    uint64_t nodes = 0;

    for (int i = 0; i < t->num_found; i++) {
        nodes |= UINT64_C(1) << t->parts[t->found[i]].node;
    }
    return nodes;
}

/* Fills that have the same nodes are counted together. What finds no place is left out, which makes
 * the bound smaller. */
static void count_fill(cut_search *s, uint64_t nodes, uint64_t out_ns)
{
    for (int i = 0; i < EEPI_PLAN_CUTS; i++) {
        eepi_plan_cut *cut = &s->table->cuts[i];
        if (i == s->num) {
            *cut = (eepi_plan_cut){nodes, 0, may_read_file(s->table, out_ns)};
            s->num++;
        }
        if (cut->nodes == nodes) {
            cut->num++;
            return;
        }
    }
}

static void count_fills(cut_search *s, const eepi_view *view)
{
    eepi_plan_table *t = s->table;

    for (int i = 0; i < t->num_choices; i++) {
        const eepi_plan_choice *choice = &t->choices[i];
        if (choice->is_kept) {
            continue;
        }
        eepi_plan_find_sources_of(t, view, choice);
        if (t->num_of_sources > 0) {
            count_fill(s, nodes_of_sources(t), t->out_unit_ns);
        }
    }
}

/* ---------------------------------------------------------------- what a set carries */

/* Experts that the seats of a set read in that time, or that leave it; the memory of its nodes
 * gives so many at most. Most members that share a NIC follow one another, and so do those of a
 * node; what is counted twice makes the bound smaller. */
static int64_t carried(const eepi_plan_table *t, uint64_t nodes, bool reads_file, uint64_t ns)
{
    const eepi_plan_network *n = &t->network;
    int32_t nic_seen = -1, files_seen = -1, host_seen = -1;
    int64_t num = 0, in_memory = 0, in_files = 0;

    for (int i = 0; i < t->num_members; i++) {
        const int seat = t->members[i];
        const eepi_seat_links *k = &n->seats[seat];
        if (reads_file && t->can_read_file[seat] && k->files != files_seen) {
            in_files += (int64_t)(ns / n->unit_ns[k->files]);
            files_seen = k->files;
        }
        if (!(nodes >> k->node & 1)) {
            continue;
        }
        const uint64_t in_ns = larger(n->unit_ns[k->pcie_in], n->unit_ns[k->rank_in]);
        const int64_t in = (int64_t)(ns / in_ns) - t->fixed[seat];
        num += in < 0 ? 0 : in < t->capacity[seat] ? in : t->capacity[seat];
        num += k->nic_out == nic_seen ? 0 : (int64_t)(ns / n->unit_ns[k->nic_out]);
        nic_seen = k->nic_out;
        in_memory += k->host == host_seen ? 0 : (int64_t)(ns / n->unit_ns[k->host]);
        host_seen = k->host;
    }
    return (num < in_memory ? num : in_memory) + in_files;
}

/* All experts whose backups lie within the set must be carried: raise the bound until they can. */
static bool look(cut_search *s, uint64_t nodes)
{
    const eepi_plan_table *t = s->table;
    int64_t num = 0;
    bool reads_file = false;
    uint64_t least_ns = s->bound_ns, most_ns = s->makespan_ns;

    s->looks++;
    for (int i = 0; i < s->num; i++) {
        if ((t->cuts[i].nodes & ~nodes) == 0) {
            num += t->cuts[i].num;
            reads_file |= t->cuts[i].may_read_file;
        }
    }
    if (carried(t, nodes, reads_file, least_ns) >= num) {
        return false;
    }
    while (least_ns < most_ns) {
        const uint64_t middle_ns = least_ns + (most_ns - least_ns) / 2;
        if (carried(t, nodes, reads_file, middle_ns) >= num) {
            most_ns = middle_ns;
        } else {
            least_ns = middle_ns + 1;
        }
    }
    s->bound_ns = least_ns;
    return true;
}

/* Which of the experts' sets to join is found by trial: the one that raises the bound of the union
 * most, beginning with each. */
static void grow(cut_search *s, uint64_t nodes)
{
    for (int round = 1; round < MOST_UNIONS; round++) {
        uint64_t best = nodes;
        for (int i = 0; i < s->num && s->looks < MOST_LOOKS; i++) {
            const uint64_t more = nodes | s->table->cuts[i].nodes;
            if (more != nodes && look(s, more)) {
                best = more;
            }
        }
        if (best == nodes) {
            return;
        }
        nodes = best;
    }
}

uint64_t eepi_plan_cut_bound_ns(eepi_plan_table *table, const eepi_view *view, uint64_t least_ns,
                                uint64_t makespan_ns)
{
    cut_search s = {.table = table, .bound_ns = least_ns, .makespan_ns = makespan_ns};

    if (eepi_view_num_nodes(&table->network.shape) > MOST_NODES) {
        return 0;
    }
    count_fills(&s, view);
    (void)look(&s, UINT64_MAX);
    for (int i = 0; i < s.num && s.looks < MOST_LOOKS; i++) {
        (void)look(&s, table->cuts[i].nodes);
    }
    for (int i = 0; i < s.num && s.looks < MOST_LOOKS; i++) {
        grow(&s, table->cuts[i].nodes);
    }
    return s.bound_ns;
}
