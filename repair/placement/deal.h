/* SPDX-License-Identifier: Apache-2.0 */
/* Copies to ranks: dealing them out, making it lawful, levelling the loads. Only for the files of
 * this folder. */
#ifndef EEPI_DEAL_H
#define EEPI_DEAL_H

#include "repair/placement/share_order.h"

/* Deal the copies out, experts of large share first, each copy to the least loaded rank that has
 * room and keeps the rules; where none does, to one that breaks them least. With `any_rank` the one
 * rule is that no rank gets a second copy: eepi_deal_place does the rest. `order` is memory for
 * num_experts entries, `memory` for num_ranks numbers. */
void eepi_deal(eepi_packing *p, eepi_ranked *order, bool any_rank, int32_t *memory);
/* Let whole ranks change places, which changes no load, as long as it makes fewer experts break the
 * rules. Nothing is pinned. */
void eepi_deal_place(eepi_packing *p);
/* Exchange copies until no expert breaks the rules, or no exchange or chain of exchanges helps.
 * `path` is memory for 2 * num_ranks numbers. Returns how many experts still break them. */
int eepi_deal_repair(eepi_packing *p, int32_t *path);
/* Exchange copies so that no two ranks share more experts than the pair limit, where that is to be
 * had at all, with as little change of the loads as possible. */
void eepi_deal_part(eepi_packing *p);
/* Exchange copies until no rank carries more than `target` (a ratio in millionths), or nothing
 * helps, or `work` exchanges were made. Breaks no rule. Returns the ratio. Without `with_doubles`
 * only single exchanges are tried. */
int64_t eepi_deal_level(eepi_packing *p, int64_t target, int work, bool with_doubles);
#endif
