/* SPDX-License-Identifier: Apache-2.0 */
/* The choice of a target and a source for one expert. */
#include "repair/planner/plan_choose.h"

static int node_of(const eepi_plan_table *table, int seat)
{
    return table->network.seats[seat].node;
}

int eepi_plan_find_sources(eepi_plan_table *table, const eepi_view *view, int layer, int expert)
{
    int node = -1;
    bool has_backup = false;

    table->stamp++;
    table->num_of_sources = 0;
    for (int i = 0; i < table->num_members; i++) {
        const int seat = table->members[i];
        if (node_of(table, seat) != node) { /* backups are of a node */
            node = node_of(table, seat);
            has_backup = eepi_view_has_backup(view, seat, layer, expert);
        }
        if (has_backup) {
            table->sources[table->num_of_sources++] = seat;
            table->source_stamp[seat] = table->stamp;
        }
    }
    table->num_backups = table->num_of_sources;
    return table->num_of_sources;
}

int eepi_plan_find_copies(eepi_plan_table *table, const eepi_view *view, int layer, int expert)
{
    int num = eepi_plan_find_sources(table, view, layer, expert);

    for (int i = 0; i < table->num_members; i++) {
        const int seat = table->members[i];
        if (table->source_stamp[seat] != table->stamp &&
            eepi_view_holds(view, layer, seat, expert)) {
            table->sources[num++] = seat;
        }
    }
    table->num_of_sources = num;
    return num;
}

void eepi_plan_note_sources(const eepi_plan_table *table, uint64_t *bits_out)
{
    for (int i = 0; i < table->num_members; i++) {
        if (i % 64 == 0) {
            bits_out[i / 64] = 0;
        }
        bits_out[i / 64] |= (uint64_t)(table->source_stamp[table->members[i]] == table->stamp)
                            << (i % 64);
    }
}

void eepi_plan_recall_sources(eepi_plan_table *table, const uint64_t *bits)
{
    table->stamp++;
    table->num_of_sources = 0;
    for (int word = 0; word < (table->num_members + 63) / 64; word++) {
        for (uint64_t left = bits[word]; left; left &= left - 1) {
            const int seat = table->members[word * 64 + __builtin_ctzll(left)];
            table->sources[table->num_of_sources++] = seat;
            table->source_stamp[seat] = table->stamp;
        }
    }
    table->num_backups = table->num_of_sources;
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
    for (int i = 0; i < table->num_groups; i++) {
        if (table->groups[i].node == node) {
            return &table->groups[i];
        }
    }
    table->groups[table->num_groups] = (eepi_plan_group){.node = node, .near_seat = -1};
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

void eepi_plan_weigh_sources(eepi_plan_table *table)
{
    table->num_groups = 0;
    table->reader = table->num_of_sources ? -1 : lightest_reader(table);
    for (int i = 0; i < table->num_of_sources; i++) {
        const int seat = table->sources[i];
        eepi_plan_group *g = group_of(table, node_of(table, seat));
        const bool is_slot = i >= table->num_backups, is_first = g->near_seat < 0;
        const eepi_plan_weight near = eepi_plan_weigh_out(&table->network, seat, is_slot, false);
        const eepi_plan_weight cross = eepi_plan_weigh_out(&table->network, seat, is_slot, true);
        g->is_slot = is_slot;
        if (is_first || eepi_plan_is_lighter(near, g->near)) {
            g->near_seat = seat;
            g->near = near;
        }
        if (is_first || eepi_plan_is_lighter(cross, g->cross)) {
            g->cross_seat = seat;
            g->cross = cross;
        }
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
    if (table->source_stamp[source] == table->stamp) {
        eepi_plan_load(&table->network, source, target);
    } else {
        eepi_plan_load_slot(&table->network, source, target);
    }
}

bool eepi_plan_is_file_faster(const eepi_plan_table *table, int target)
{
    const uint64_t file_ns = eepi_plan_path_unit_ns(&table->network, EEPI_SOURCE_FILE, target);

    for (int i = 0; i < table->num_of_sources; i++) {
        if (eepi_plan_path_unit_ns(&table->network, table->sources[i], target) <= file_ns) {
            return false;
        }
    }
    return true;
}

int eepi_plan_source_for(const eepi_plan_table *table, int target, eepi_plan_weight *weight_out)
{
    const eepi_plan_network *n = &table->network;
    int best;

    if (table->num_of_sources && table->source_stamp[target] == table->stamp) {
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

bool eepi_plan_choose(eepi_plan_table *table, const eepi_plan_layer *l, eepi_plan_choice *choice,
                      eepi_plan_weight *weight_out)
{
    int best = -1;

    eepi_plan_weigh_sources(table);
    for (int i = 0; i < table->num_members; i++) {
        const int seat = table->members[i];
        eepi_plan_weight weight;
        if (i == table->num_staying && best >= 0) {
            break; /* a RETIRING seat only where no other has a slot */
        }
        if (!eepi_plan_can_fill(l, seat)) {
            continue;
        }
        const int source = eepi_plan_source_for(table, seat, &weight);
        if (source >= 0 && (best < 0 || is_better(l, seat, source, weight, choice, *weight_out))) {
            best = choice->seat = seat;
            choice->source = source;
            *weight_out = weight;
        }
    }
    return best >= 0;
}

void eepi_plan_place(eepi_plan_table *table, eepi_plan_layer *l, eepi_plan_choice *choice)
{
    choice->slot = eepi_plan_pick_slot(l, choice->seat);
    eepi_plan_take_slot(l, choice);
    eepi_plan_load(&table->network, choice->source, choice->seat);
}

void eepi_plan_displace(eepi_plan_table *table, eepi_plan_layer *l, const eepi_plan_choice *choice)
{
    eepi_plan_return_slot(l, choice);
    eepi_plan_unload(&table->network, choice->source, choice->seat);
}
