/* SPDX-License-Identifier: Apache-2.0 */
/* The ranks that come into a view, and those that leave it. */
#ifndef EEPI_CORE_MEMBERS_H
#define EEPI_CORE_MEMBERS_H

#include "membership/core/core_state.h"

/* The processes of the group that begins at the seat may be let into the draft now. Each is ready,
 * and newer than its seat's last one, whose end was observed (M7). */
bool eepi_core_may_join(const eepi_core *core, const eepi_view *draft, int first);
/* So they may but for what may still be stored. */
bool eepi_core_wants_in(const eepi_core *core, const eepi_view *draft, int first);
/* Put it in: generation and slots. False, and `why`, if its weights are not the instance's (S6), or
 * it does not fit the others. */
bool eepi_core_admit(eepi_core *core, eepi_view *draft, int seat);
/* A record says which backups its process can read: */
void eepi_core_take_claims(eepi_core *core, const eepi_member *member);
/* those of them count whose checksums a new view has. */
void eepi_core_judge_all_claims(eepi_core *core, const eepi_view *view);
/* Then, with all members in the draft: a node has the backups that they can read, and of those that
 * the newest view names no other ones, if somebody on it has left. */
void eepi_core_count_backups(eepi_core *core, eepi_view *draft);
/* Its tensors have the sizes of those of the draft's members, and its chains mix as theirs do;
 * false: they do not, and `why`. */
bool eepi_core_fits_others(eepi_core *core, const eepi_view *draft, int seat);
/* It may not join, as `why` says. */
void eepi_core_refuse(eepi_core *core, int seat);
/* Every member of the draft that lives wants out and nobody wants in, or one has asked for the end
 * of all; */
bool eepi_core_all_leave(const eepi_core *core, const eepi_view *draft);
/* then this makes it the last view. How many members it had. */
int eepi_core_end_instance(eepi_core *core, eepi_view *draft);
#endif
