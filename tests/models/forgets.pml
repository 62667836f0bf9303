/* SPDX-License-Identifier: Apache-2.0 */
/* Forgets: a store that keeps all, until somebody restores an old snapshot of it.
 *
 * Rules covered (docs/PROTOCOL.md):
 * - N19: an older document at a newer revision is asked for again, since a read may have been
 *   answered before the commit that its rank knows. The same a second time means that the store has
 *   forgotten. Serving goes on, no seat is given and no view committed, until the store shows again
 *   what this rank knows. Another cluster id, or a lower revision, is refused.
 * - S2: no epoch is committed twice. M7: no generation is given twice.
 *
 * Asserted:
 * - S2: the register never has two documents of one epoch.
 * - M7: no two processes that a view has let in had one seat and one generation.
 * - N19: a rank that thinks that the store has forgotten is right.
 * - L1: when nothing more can happen, and an operator has brought back what was known, no rank holds
 *   back.
 *
 * RANKS members ask the store. An answer is made at one moment, and read at a later one. A rank
 * commits on top of what it knows, by compare-and-swap of the revision that it has read. All members
 * acknowledge that first (M3): each knows just the document that is replaced, and does not hold
 * back. Each view lets a process into a free seat, with a generation of the store's counter. At some
 * moment somebody takes a snapshot, and restores it later: epoch and counter go back, and the
 * revision goes on, so that no client sees it. At last an operator may bring back what was known.
 *
 * Left out: acknowledgements as messages and fault views (agreement.pml, flip.pml), ranks that die,
 * steps, which need nothing of the store. What a client refuses, never reaches a rank. */
#ifndef RANKS
#define RANKS 2
#endif
#ifndef EPOCHS
#define EPOCHS 4
#endif
#define BIT(i) (1 << (i))

/* the store: its document's epoch, who wrote it, and the counter of generations */
byte epoch = 1, counter, revision = 1;
byte old_epoch = 1, old_counter;
bit restored, repaired;

byte newest_epoch = 1, newest_counter; /* that any rank knows */
byte known[RANKS];
byte committed[EPOCHS + 1]; /* 1 + its writer; 0: none */
byte let_in, holds_back;    /* generations, and ranks, a bit each */
byte i;
bit ready, all_know;

/* Each member knows what is replaced, and acknowledges what replaces it. */
inline ask_all(self)
{
    i = 0;
    all_know = 1;
    do
    :: i < RANKS ->
#if defined(NOBODY_IS_ASKED)
        all_know = all_know && (i != self || known[i] == epoch);
#elif defined(COMMITS_THOUGH_FORGOTTEN)
        all_know = all_know && known[i] == known[self];
#else
        all_know = all_know && known[i] == epoch && !(holds_back & BIT(i));
#endif
        i++
    :: else -> break
    od;
    i = 0
}

proctype rank(byte self)
{
    byte known_revision = 1, got, got_revision, doubts; /* got 0: no answer is under way */
    bit asked; /* without a cause, once */

end:
    do
    :: d_step { got == 0 && (epoch != known[self] || revision != known_revision || doubts) ->
        got = epoch; got_revision = revision }
    :: d_step { got == 0 && !asked -> asked = 1; got = epoch; got_revision = revision }
    :: d_step { got != 0 ->
        if
        :: got >= known[self] && got_revision >= known_revision ->
            known[self] = got; known_revision = got_revision; doubts = 0;
            holds_back = holds_back & ~BIT(self)
        :: got < known[self] ->
#ifdef BELIEVES
            known[self] = got; known_revision = got_revision
#else
            doubts = (doubts < 2 -> doubts + 1 : 2);
            if
#ifdef FIRST_ANSWER_COUNTS
            :: doubts > 0 ->
#else
            :: doubts > 1 ->
#endif
                assert((holds_back & BIT(self)) || restored);
                holds_back = holds_back | BIT(self)
            :: else -> skip
            fi
#endif
        :: else -> skip
        fi;
        got = 0; got_revision = 0 }
#ifdef COMMITS_THOUGH_FORGOTTEN
    :: d_step { known[self] < EPOCHS && epoch <= known[self] ->
#else
    :: d_step { known[self] < EPOCHS && revision == known_revision && epoch == known[self] &&
                doubts == 0 ->
#endif
        ask_all(self);
        if
        :: all_know ->
            epoch = known[self] + 1; counter++; revision++;
            assert(committed[epoch] == 0);
            assert(!(let_in & BIT(counter)));
            committed[epoch] = 1 + self;
            let_in = let_in | BIT(counter);
            known[self] = epoch; known_revision = revision;
            newest_epoch = epoch; newest_counter = counter
        :: else -> skip
        fi;
        all_know = 0 }
    od
}

active proctype operator()
{
    ready;
    d_step { old_epoch = epoch; old_counter = counter };
    d_step { restored = (epoch != old_epoch); epoch = old_epoch; counter = old_counter; revision++ };
    d_step { epoch = newest_epoch; counter = newest_counter; revision++; repaired = 1 }
}

/* Asks that change nothing go on for ever: a rank that is told again what it doubts. */
active proctype judge()
{
    ready;
    do
    :: atomic { repaired && epoch == newest_epoch && holds_back == 0 -> break }
    :: timeout -> assert(!repaired || holds_back == 0); break
    od
}

init
{
    atomic {
        committed[1] = 1;
        do
        :: i < RANKS -> known[i] = 1; i++
        :: else -> break
        od;
        i = 0;
        do
        :: i < RANKS -> run rank(i); i++
        :: else -> break
        od;
        i = 0;
        ready = 1
    }
}
