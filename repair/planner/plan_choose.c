/* SPDX-License-Identifier: Apache-2.0 */
/* The choice of a target and a source for one expert. */
#include "repair/planner/plan_choose.h"

#include "repair/planner/plan_shift.h"

#include <string.h>

static int node_of(const eepi_plan_table *table, int seat)
{
    return table->network.seats[seat].node;
}

static void begin_sources(eepi_plan_table *table)
{
    table->stamp++;
    table->num_backups = table->num_of_sources = table->num_found = 0;
    table->out_unit_ns = UINT64_MAX;
}

static void add_part(eepi_plan_table *table, int at)
{
    const eepi_plan_part *part = &table->parts[at];
    const int num = part->end - part->from;

    table->found[table->num_found++] = at;
    memcpy(table->sources + table->num_of_sources, table->members + part->from,
           (size_t)num * sizeof *table->sources);
    table->node_stamp[part->node] = table->stamp;
    table->num_backups = table->num_of_sources += num;
    table->out_unit_ns =
        part->out_unit_ns < table->out_unit_ns ? part->out_unit_ns : table->out_unit_ns;
}

int eepi_plan_find_sources(eepi_plan_table *table, const eepi_view *view, int layer, int expert)
{
    begin_sources(table);
    for (int i = 0; i < table->num_parts; i++) {
        if (eepi_view_has_backup(view, table->members[table->parts[i].from], layer, expert)) {
            add_part(table, i);
        }
    }
    return table->num_of_sources;
}

int eepi_plan_find_copies(eepi_plan_table *table, const eepi_view *view, int layer, int expert)
{
    int num = eepi_plan_find_sources(table, view, layer, expert);

    for (int i = 0; i < table->num_members; i++) {
        const int seat = table->members[i];
        if (table->node_stamp[node_of(table, seat)] != table->stamp &&
            eepi_view_holds(view, layer, seat, expert)) {
            table->sources[num++] = seat;
        }
    }
    table->num_of_sources = num;
    return num;
}

void eepi_plan_note_sources(const eepi_plan_table *table, uint64_t *bits_out)
{
    for (int i = 0; i < table->num_parts; i++) {
        if (i % 64 == 0) {
            bits_out[i / 64] = 0;
        }
        bits_out[i / 64] |= (uint64_t)(table->node_stamp[table->parts[i].node] == table->stamp)
                            << (i % 64);
    }
}

void eepi_plan_recall_sources(eepi_plan_table *table, const uint64_t *bits)
{
    begin_sources(table);
    for (int word = 0; word < (table->num_parts + 63) / 64; word++) {
        for (uint64_t left = bits[word]; left; left &= left - 1) {
            add_part(table, word * 64 + __builtin_ctzll(left));
        }
    }
}

void eepi_plan_find_sources_of(eepi_plan_table *table, const eepi_view *view,
                               const eepi_plan_choice *choice)
{
    if (table->num_parts <= 64) {
        eepi_plan_recall_sources(table, &choice->source_parts);
    } else {
        eepi_plan_find_sources(table, view, choice->layer, choice->expert);
    }
}

bool eepi_plan_has_source(const eepi_plan_table *table)
{
    for (int i = 0; table->can_read_file && i < table->num_members; i++) {
        if (table->can_read_file[table->members[i]]) {
            return true;
        }
    }
    return table->num_of_sources > 0;
}

static eepi_plan_group *group_of(eepi_plan_table *table, int node)
{
    for (int i = table->num_groups - 1; i >= 0; i--) {
        if (table->groups[i].node == node) {
            return &table->groups[i];
        }
    }
    table->groups[table->num_groups] =
        (eepi_plan_group){.node = node, .near_seat = -1, .cross_seat = -1};
    return &table->groups[table->num_groups++];
}

/* The member whose file and way out are loaded least, the lowest seat of equal ones; -1: none can
 * read a file. */
static int lightest_reader(const eepi_plan_table *table)
{
    eepi_plan_weight least = {0};
    int best = -1;

    for (int i = 0; table->can_read_file && i < table->num_members; i++) {
        const int seat = table->members[i];
        if (!table->can_read_file[seat]) {
            continue;
        }
        const eepi_plan_weight weight = eepi_plan_weigh_reader(&table->network, seat, true);
        if (best < 0 || eepi_plan_is_lighter(weight, least)) {
            best = seat;
            least = weight;
        }
    }
    return best;
}

static void weigh_part(const eepi_plan_table *table, eepi_plan_part *part)
{
    const uint32_t changes = table->network.out_changes[part->node];

    if (part->cross_seat >= 0 && part->changes == changes) {
        return;
    }
    part->changes = changes;
    part->cross_seat = -1;
    for (int i = part->from; i < part->end; i++) {
        const int seat = table->members[i];
        const eepi_plan_weight cross = eepi_plan_weigh_out(&table->network, seat, false, true);
        if (part->cross_seat < 0 || eepi_plan_is_lighter(cross, part->cross)) {
            part->cross_seat = seat;
            part->cross = cross;
        }
    }
}

static void offer_cross(eepi_plan_group *g, int seat, eepi_plan_weight cross)
{
    if (g->cross_seat < 0 || eepi_plan_is_lighter(cross, g->cross)) {
        g->cross_seat = seat;
        g->cross = cross;
    }
}

static void weigh_slot(eepi_plan_table *table, int seat)
{
    eepi_plan_group *g = group_of(table, node_of(table, seat));
    const eepi_plan_weight near = eepi_plan_weigh_out(&table->network, seat, true, false);

    g->is_slot = true;
    offer_cross(g, seat, eepi_plan_weigh_out(&table->network, seat, true, true));
    if (g->near_seat < 0 || eepi_plan_is_lighter(near, g->near)) {
        g->near_seat = seat;
        g->near = near;
    }
}

/* No target on a node with a backup reads another member's. */
void eepi_plan_weigh_sources(eepi_plan_table *table)
{
    table->num_groups = 0;
    table->reader = table->num_of_sources ? -1 : lightest_reader(table);
    for (int i = 0; i < table->num_found; i++) {
        eepi_plan_part *part = &table->parts[table->found[i]];
        weigh_part(table, part);
        offer_cross(group_of(table, part->node), part->cross_seat, part->cross);
    }
    for (int i = table->num_backups; i < table->num_of_sources; i++) {
        weigh_slot(table, table->sources[i]);
    }
}

/* The best copy of others; -1: none has one. */
static int other_source_for(const eepi_plan_table *table, int target, eepi_plan_weight *weight_out)
{
    const eepi_plan_network *n = &table->network;
    const int node = node_of(table, target);
    const eepi_plan_weight near = eepi_plan_weigh_in(n, target, false, false);
    const eepi_plan_weight cross = eepi_plan_weigh_in(n, target, false, true);
    int best = -1;

    for (int i = 0; i < table->num_groups; i++) {
        const eepi_plan_group *g = &table->groups[i];
        const bool is_near = g->node == node;
        const eepi_plan_weight weight =
            !is_near ? eepi_plan_join(g->cross, cross) /* into a slot and a backup the same */
                     : eepi_plan_join(
                           g->near, g->is_slot ? eepi_plan_weigh_in(n, target, true, false) : near);
        if (best < 0 || eepi_plan_is_lighter(weight, *weight_out)) {
            best = is_near ? g->near_seat : g->cross_seat;
            *weight_out = weight;
        }
    }
    return best;
}

void eepi_plan_load_copy(eepi_plan_table *table, int source, int target)
{
    if (table->node_stamp[node_of(table, source)] == table->stamp) {
        eepi_plan_load(&table->network, source, target);
    } else {
        eepi_plan_load_slot(&table->network, source, target);
    }
}

bool eepi_plan_is_file_faster(const eepi_plan_table *table, int target)
{
    const uint64_t file_ns = eepi_plan_path_unit_ns(&table->network, EEPI_SOURCE_FILE, target);

    return table->out_unit_ns > file_ns || eepi_plan_in_unit_ns(&table->network, target) > file_ns;
}

int eepi_plan_source_for(const eepi_plan_table *table, int target, eepi_plan_weight *weight_out)
{
    const eepi_plan_network *n = &table->network;
    int best;

    if (eepi_plan_has_own(table, target)) {
        *weight_out = eepi_plan_weigh_own(n, target);
        return target;
    }
    best = other_source_for(table, target, weight_out);
    if (table->can_read_file && table->can_read_file[target]) {
        const eepi_plan_weight file = eepi_plan_weigh_file(n, target);
        if (best < 0 ||
            (eepi_plan_is_lighter(file, *weight_out) && eepi_plan_is_file_faster(table, target))) {
            *weight_out = file;
            return EEPI_SOURCE_FILE;
        }
    }
    if (best < 0 && table->reader >= 0) { /* any backup is better than the file of another rank */
        const bool crosses = node_of(table, table->reader) != node_of(table, target);
        *weight_out = eepi_plan_join(eepi_plan_weigh_reader(n, table->reader, crosses),
                                     eepi_plan_weigh_in(n, target, false, crosses));
        return eepi_source_file_of(table->reader, target);
    }
    return best;
}

/* The own backup before the own file, and what another rank sends behind both. */
static int nearness(int source, int seat)
{
    return source == seat ? 2 : source == EEPI_SOURCE_FILE;
}

/* A seat, its source and their weight, against the best so far. */
static bool is_better(const eepi_plan_layer *l, int seat, int source, eepi_plan_weight weight,
                      const eepi_plan_choice *best, eepi_plan_weight best_weight)
{
    const int near = nearness(source, seat), best_near = nearness(best->source, best->seat);
    const bool is_empty = l->num_empty[seat] > 0;

    if (weight.most_ns != best_weight.most_ns) {
        return weight.most_ns < best_weight.most_ns;
    }
    if (near != best_near) {
        return near > best_near;
    }
    if (is_empty != (l->num_empty[best->seat] > 0)) {
        return is_empty;
    }
    return weight.sum_ns < best_weight.sum_ns;
}

bool eepi_plan_choose_on(eepi_plan_table *table, const eepi_plan_layer *l, int seat,
                         eepi_plan_choice *choice, eepi_plan_weight *weight_out)
{
    if (!eepi_plan_can_fill(l, seat)) {
        return false;
    }
    eepi_plan_weigh_sources(table);
    choice->seat = seat;
    choice->source = eepi_plan_source_for(table, seat, weight_out);
    return choice->source >= 0;
}

/* Some backup's way to another node is loaded less than `below_ns` with one expert more. */
static bool may_cross(const eepi_plan_table *table, uint64_t below_ns)
{
    for (int i = 0; i < table->num_groups; i++) {
        if (table->groups[i].cross.most_ns < below_ns) {
            return true;
        }
    }
    return false;
}

/* The target has a way that crosses no link between nodes. */
static bool has_near_way(const eepi_plan_table *table, int target)
{
    return eepi_plan_has_own(table, target) ||
           (table->can_read_file && table->can_read_file[target] &&
            eepi_plan_is_file_faster(table, target));
}

bool eepi_plan_choose(eepi_plan_table *table, const eepi_plan_layer *l, uint64_t below_ns,
                      eepi_plan_choice *choice, eepi_plan_weight *weight_out)
{
    int best = -1;

    eepi_plan_weigh_sources(table);
    const bool crosses = table->num_of_sources == 0 || may_cross(table, below_ns);
    for (int i = 0; i < table->num_members; i++) {
        const int seat = table->members[i];
        eepi_plan_weight weight;
        if (i == table->num_staying && best >= 0) {
            break; /* a RETIRING seat only where no other has a slot */
        }
        if (!eepi_plan_can_fill(l, seat) || !(crosses || has_near_way(table, seat))) {
            continue;
        }
        table->num_weighed++;
        const int source = eepi_plan_source_for(table, seat, &weight);
        if (source >= 0 && weight.most_ns < below_ns &&
            (best < 0 || is_better(l, seat, source, weight, choice, *weight_out))) {
            best = choice->seat = seat;
            choice->source = source;
            *weight_out = weight;
        }
    }
    return best >= 0;
}

void eepi_plan_place(eepi_plan_table *table, eepi_plan_layer *l, eepi_plan_choice *choice)
{
    if (l->is_reached[choice->seat]) {
        eepi_plan_shift_to(table, l, choice->seat);
    }
    eepi_plan_shift_forget(l);
    choice->slot = eepi_plan_pick_slot(l, choice->seat);
    eepi_plan_take_slot(l, choice);
    eepi_plan_load(&table->network, choice->source, choice->seat);
}

void eepi_plan_displace(eepi_plan_table *table, eepi_plan_layer *l, const eepi_plan_choice *choice)
{
    eepi_plan_return_slot(l, choice);
    eepi_plan_unload(&table->network, choice->source, choice->seat);
}
