/* SPDX-License-Identifier: Apache-2.0 */
/* Where an expert is filled, and from where: the choice that loads the links least, given what is
 * planned so far. Pure. */
#ifndef EEPI_PLAN_CHOOSE_H
#define EEPI_PLAN_CHOOSE_H

#include "repair/planner/plan_table.h"

/* Find the members that have a backup of the expert (table->sources); returns how many. */
int eepi_plan_find_sources(eepi_plan_table *table, const eepi_view *view, int layer, int expert);
/* The same, and the members that have it in a slot only, as they are in the view: with coverage
 * there is always one. A fill of theirs takes eepi_plan_load_copy. */
int eepi_plan_find_copies(eepi_plan_table *table, const eepi_view *view, int layer, int expert);
/* Keep what was found, as bits of table->parts, and find it again. */
void eepi_plan_note_sources(const eepi_plan_table *table, uint64_t *bits_out);
void eepi_plan_recall_sources(eepi_plan_table *table, const uint64_t *bits);
/* The same for the expert of a choice, which has noted them where there are not too many parts. */
void eepi_plan_find_sources_of(eepi_plan_table *table, const eepi_view *view,
                               const eepi_plan_choice *choice);
/* Some member can give it: as a backup, or from the file. After eepi_plan_find_sources. */
bool eepi_plan_has_source(const eepi_plan_table *table);

/* The source that loads the path to that target least, and that load. The target's own backup if
 * there is one; else another backup; its own file where no member has a backup, or where that is
 * faster, alone on its links, than each backup; where it reads none, the file of another member, if
 * no member has a backup. -1: none. After eepi_plan_weigh_sources. */
int eepi_plan_source_for(const eepi_plan_table *table, int target, eepi_plan_weight *weight_out);
/* Alone on its links, its own file is faster for that target than each backup, or there is none. No
 * backup is on the target's node. After eepi_plan_weigh_sources. */
bool eepi_plan_is_file_faster(const eepi_plan_table *table, int target);
/* Weigh what eepi_plan_find_sources found with the loads as they are. */
void eepi_plan_weigh_sources(eepi_plan_table *table);

/* Load the path from one of eepi_plan_find_copies. */
void eepi_plan_load_copy(eepi_plan_table *table, int source, int target);

/* The best target and source of the expert whose sources were found, if one has a slot to give:
 * compared by, in this order, a seat that stays before a RETIRING one; the most loaded link of the
 * path; the seat's own backup, then its own file; an EMPTY slot; the sum of loads on the path; the
 * lowest seat. Sets seat and source of the choice. false: no slot whose path is loaded less than
 * `below_ns` then. table->num_weighed counts the paths that were weighed. */
bool eepi_plan_choose(eepi_plan_table *table, const eepi_plan_layer *l, uint64_t below_ns,
                      eepi_plan_choice *choice, eepi_plan_weight *weight_out);
/* The best source for that seat. false: it has no slot, or there is no source for it. */
bool eepi_plan_choose_on(eepi_plan_table *table, const eepi_plan_layer *l, int seat,
                         eepi_plan_choice *choice, eepi_plan_weight *weight_out);

/* Take a slot on the choice's seat, which other fills make room for where it is only reached, and
 * load the path; and undo that, but for what made room. */
void eepi_plan_place(eepi_plan_table *table, eepi_plan_layer *l, eepi_plan_choice *choice);
void eepi_plan_displace(eepi_plan_table *table, eepi_plan_layer *l, const eepi_plan_choice *choice);
#endif
