/* SPDX-License-Identifier: Apache-2.0 */
/* How many copies each expert gets, by the goal. Only for the files of this folder. */
#ifndef EEPI_REPLICA_COUNTS_H
#define EEPI_REPLICA_COUNTS_H

#include "repair/placement/packing.h"

/* Fill p->copies, which add up to the number of slots: each expert has one at least, and its pinned
 * ones. What the goal leaves free goes to the largest load / (copies + quarters / 4), one by one: 0
 * makes the largest share least, 2 rounds the loads to whole copies. false: the slots do not
 * suffice. */
EEP_MUST_CHECK bool eepi_counts_choose(eepi_packing *p, eepi_placement_goal goal, int quarters);
/* Experts with one copy that the goal MIXED cannot do without. */
int eepi_counts_floor(const eepi_packing *p);
int eepi_counts_singles(const eepi_packing *p);
/* Of the experts with more than `least` copies, and more than pins, the one whose share stays
 * smallest with a copy less; -1: none. `but` stays out of it. */
int eepi_counts_spare(const eepi_packing *p, int least, int but);
/* The expert that misses a copy least when `to` gets one more: its share stays smallest without it.
 * -1: `to` is on every rank, or nobody would have a smaller share than `to` has now. */
int eepi_counts_giver(const eepi_packing *p, int to);
#endif
