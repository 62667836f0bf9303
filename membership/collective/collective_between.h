/* SPDX-License-Identifier: Apache-2.0 */
/* How members on several hosts agree on what has ended (rule P13). They share no ledger. Each keeps
 * a word of the ledger's form in its own memory, which its peers read, mapped or in a mirror:
 *
 *     epoch       the newest epoch that it has begun
 *     number      it holds all contributions to it: a promise, which it never takes back
 *     closed      it promises nothing more under that epoch
 *
 * and `at`, the epoch of its newest view.
 *
 * A number has ended under e once all members of e have promised it. So whoever takes a result
 * knows that every other member has all the bytes, and need not be asked for them.
 *
 * A planned view. A rank that knows the commit of e+1 closes its word of e. If it has promised a
 * number that has not ended as far as it knows, others may have taken the result: it is in doubt.
 * Then it waits until all that stay are at e+1, and so promise nothing under e any more. If all of
 * them have promised the number, it has ended; if one has not, nobody has taken it, and it goes
 * over to e+1. Those that have not promised it know so at once.
 *
 * A fault. The document says what has ended: what any rank has reported to have taken. That number
 * was promised by all. */
#ifndef EEPI_COLLECTIVE_BETWEEN_H
#define EEPI_COLLECTIVE_BETWEEN_H

#include "membership/collective/collective_state.h"

/* All with the lock.
 *
 * Promise the number that is under way, if all contributions to it are here. */
void eepi_between_promise(struct eepi_collectives *all);
/* The newest number that this rank has promised, or that has ended. */
uint64_t eepi_between_held(const struct eepi_collectives *all);
/* All members of that group have promised the number under its epoch. */
bool eepi_between_has_ended(const eepi_collective_group *group, uint64_t number);
/* Close the word of the group that is left; if it `stays` in the next view, this rank may be in
 * doubt then. */
void eepi_between_close(struct eepi_collectives *all, bool stays);
/* True: this rank is in no doubt any more; all->last is what has ended. */
bool eepi_between_resolve(struct eepi_collectives *all);
/* A rank that was let in by a planned view has the number of one that was there before. */
void eepi_between_learn(struct eepi_collectives *all);
#endif
