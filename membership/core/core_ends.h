/* SPDX-License-Identifier: Apache-2.0 */
/* What the membership core knows of ends (rule P8), and what follows for seats and colours (P7). */
#ifndef EEPI_CORE_ENDS_H
#define EEPI_CORE_ENDS_H

#include "membership/core/core_state.h"

/* A process's first sign of its end, whoever saw it. */
void eepi_core_on_first_sign(eepi_core *core, const eepi_suspect *suspect);
/* Its whole end, as `by` said (a seat, or NOBODY: the store). */
void eepi_core_on_end(eepi_core *core, const eepi_end *end, int by);
/* The whole end of that generation and all older ones, known without being told; true: it is new.
 */
bool eepi_core_note_ended(eepi_core *core, int seat, uint32_t generation);
/* The process of the seat has flipped away from its last view to that one, which is without it: it
 * begins no other step, and none is in flight. */
void eepi_core_note_leaver(eepi_core *core, int seat, const eepi_view *view);
/* Say the newest end of the seat again, to a store that may have lost it. */
void eepi_core_republish_end(eepi_core *core, int seat);
/* Tell of ends that are due to be told. */
void eepi_core_tell_ends(eepi_core *core);

/* What is proved of the seat frees it in the draft: what its processes could store into, and its
 * quarantine. */
void eepi_core_free_seat(const eepi_core *core, eepi_view *draft, int seat);
/* Rule N7: of those that are out of the draft, what runs on a host without members reaches nobody
 * but through gates. It can be alive: nobody waits for its end, and its seat is free. */
void eepi_core_free_behind_gates(eepi_view *draft);
/* The process leaves the draft, and may store into the windows of the newest view's colour. */
void eepi_core_let_go(const eepi_core *core, eepi_view *draft, int seat);
/* A process is let into the draft, in a seat whose former processes may still store elsewhere. */
void eepi_core_take_seat(eepi_view *draft, int seat, uint32_t generation, uint64_t host);
/* Another colour than that of the newest view, for a fault view that has let go whom it expels. If
 * somebody may store into that one, it gets other memory with this view. */
void eepi_core_take_colour(const eepi_core *core, eepi_view *draft);
/* What former processes of the seat may store goes into windows that the view's steps use. */
bool eepi_core_is_blocked(const eepi_view *view, int seat);
/* Give the idle colour other memory by a planned view, so that a fault view finds it there. How
 * many changes that is. */
int eepi_core_renew_colour(eepi_core *core, eepi_view *draft);
/* The plan lapses; if it was for that, it is not made again soon. */
void eepi_core_note_renewal_lapsed(eepi_core *core);
#endif
