/* SPDX-License-Identifier: Apache-2.0 */
/* Whom a fault view leaves out, and the kills that come before it. */
#ifndef EEPI_CORE_EXPEL_H
#define EEPI_CORE_EXPEL_H

#include "membership/core/core_state.h"

/* The engine of this rank, or its operator, says that of a process (rule P11). */
void eepi_core_on_word(eepi_core *core, const eepi_suspect *suspect);
/* A report says it. */
void eepi_core_hear_word(eepi_core *core, const eepi_report *report, const eepi_suspect *suspect);
/* A view is to follow the newest one: words that it decides on are settled. */
void eepi_core_settle_words(eepi_core *core, const eepi_view *next);

/* The next fault view leaves the member out. */
bool eepi_core_is_expelled(const eepi_core *core, int seat);
/* It is left out for words alone: its own are heard first, for they may say more. */
bool eepi_core_is_out_by_words(const eepi_core *core, int seat);
/* This rank can be in no view any more: it, or another one of its group, has ended or failed. */
bool eepi_core_is_past_help(const eepi_core *core);
/* A member that lives, which nothing but words and missed deadlines speak against, would take
 * experts along: it may stay. */
bool eepi_core_may_stay(const eepi_core *core, int seat);
/* Rule N10: who is left out where hosts do not hear each other. To be asked for before all else,
 * when something may have changed. */
void eepi_core_find_cut(eepi_core *core);
/* No word counts under the newest view any more; silence does (P11). */
void eepi_core_spare(eepi_core *core);
bool eepi_core_is_cut(const eepi_core *core, int seat);
/* Some member on another host does not hear it. */
bool eepi_core_is_in_pair(const eepi_core *core, int seat);
/* Kill those who are expelled; true once none of their ends is to be waited for any more. */
bool eepi_core_all_killed(eepi_core *core);
/* Kill those of this host that a rank of another one has expelled. */
void eepi_core_kill_behind_gates(eepi_core *core);
/* Nobody wants those killed any more who are not expelled any more. */
void eepi_core_retract_kills(eepi_core *core);
#endif
