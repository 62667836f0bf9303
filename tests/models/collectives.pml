/* SPDX-License-Identifier: Apache-2.0 */
/* Small collectives: numbers, epochs, and what changes of view do to the one that is under way.
 *
 * Rules covered (docs/PROTOCOL.md):
 * - P13: a number ends for all members in the moment in which one of them that has seen all
 *   contributions raises the ledger. Whoever changes its view, or stops for a fault, closes the
 *   ledger of its view first. A planned view takes over what has not ended (H51). Reports name the
 *   last number; what has ended for one ends for all, the rest is repeated (H50).
 * - M2, M4: a fault view is committed after all who stay have stopped and reported.
 *
 * Asserted:
 * - Uniform: nobody takes a number under two epochs, and no two ranks take it under different ones.
 * - In order: a rank takes the numbers one after the other.
 * - Complete: who takes a number under an epoch has a contribution of each member to it, and these
 *   are not written over before all members have it.
 * - When nothing more can happen, every member has all NUMBERS, and waits for none.
 *
 * The model follows membership/collective. Ranks 0 and 1 are there at first, rank 2 joins by a
 * planned view; LEAVE: rank 1 leaves by it. Views are epochs 0, 1 (planned) and 2 (after the fault,
 * which may come before the planned view, and then takes its place). FAULTS: rank 0 or 1
 * may die once (with LEAVE: rank 1). Each rank learns of the planned commit at a time of its own.
 *
 * Left out or coarser: memory is sequentially consistent; bytes are the pair (number, epoch);
 * checksums; futexes (a waiting rank looks at any time); REPAIRING views; a store that forgets. */
#ifndef NUMBERS
#define NUMBERS 2
#endif
#ifndef FAULTS
#define FAULTS 0
#endif

#define RANKS 3
#define NONE 255
#ifdef LEAVE
#define PLANNED 5 /* ranks 0 and 2 */
#define MAY_DIE(r) ((r) == 1)
#else
#define PLANNED 7
#define MAY_DIE(r) ((r) < 2)
#endif

byte member[3];                /* bits, of each epoch */
bool plan_committed;
bool dead[RANKS], in_view[RANKS];
byte epoch[RANKS];             /* newest view that the rank knows; NONE: none yet */
bool stopped[RANKS];           /* it has promised, and reported: */
byte report[RANKS];
byte fault_number = NONE;      /* what the fault view says has ended */

/* The ledger of each epoch: begun, closed, newest number. Holder and place are left out. */
bool begun[3], closed[3];
byte ended[3];

/* Contributions: [rank][number % 2] */
typedef slots { byte number[2]; byte at[2] };
slots gave[RANKS];

byte last[RANKS];              /* newest number that the rank knows to have ended; NONE: unknown */
byte pending[RANKS];           /* the number that it has given to; 0: none */
byte bound[RANKS];             /* and the epoch */
byte taken[RANKS];             /* newest number that it took */
byte taken_under[4];           /* [number] NONE: nobody has */
byte faults = FAULTS;

#define IS_IN(e, r) (((member[e] >> (r)) & 1) == 1)
#define HAS_GIVEN(r, e, n) (!IS_IN(e, r) || (gave[r].number[(n) % 2] == (n) && gave[r].at[(n) % 2] == (e)))
#define ALL_GAVE(e, n) (HAS_GIVEN(0, e, n) && HAS_GIVEN(1, e, n) && HAS_GIVEN(2, e, n))

inline take(r, e, n)
{
    assert(ALL_GAVE(e, n));
    assert(taken_under[n] == NONE || taken_under[n] == e);
    assert(taken[r] == 0 || n == taken[r] + 1);
    taken_under[n] = e;
    taken[r] = n;
    last[r] = n;
    pending[r] = 0
}

/* No number ends under that epoch any more. */
inline close_ledger(r, e)
{
    if
    :: begun[e] && last[r] != NONE ->
#ifndef NOT_CLOSED
        closed[e] = true;
#endif
        last[r] = (ended[e] > last[r] -> ended[e] : last[r])
    :: else -> skip
    fi
}

inline begin_ledger(r, e)
{
    if
    :: !begun[e] && last[r] != NONE -> begun[e] = true; ended[e] = last[r]
    :: else -> skip
    fi
}

/* The rank hears that the planned view is committed. Service thread: one step under its lock, but
 * the ledgers are others' memory. */
inline go_over(r)
{
    atomic { close_ledger(r, 0) }
    atomic {
        epoch[r] = 1;
        if
        :: IS_IN(1, r) -> begin_ledger(r, 1)
        :: else -> in_view[r] = false
        fi;
        if
        :: pending[r] != 0 && IS_IN(1, r) && pending[r] > last[r] ->
#ifdef BOUND_FOR_EVER
            skip
#else
            bound[r] = 1;
            gave[r].at[pending[r] % 2] = 1
#endif
        :: else -> skip
        fi
    }
}

/* A member is dead: stop, promise, report. */
inline stop(r)
{
    atomic { close_ledger(r, epoch[r]) }
    atomic {
        stopped[r] = true;
#ifdef REPORT_WHAT_WAS_TAKEN
        report[r] = taken[r]
#else
        report[r] = (last[r] == NONE -> 0 : last[r])
#endif
    }
}

inline install(r)
{
    atomic {
        epoch[r] = 2;
        stopped[r] = false;
        last[r] = fault_number;
        begin_ledger(r, 2);
        if
        :: pending[r] > last[r] -> pending[r] = 0 /* ABORTED: the number is repeated */
        :: else -> skip
        fi
    }
}

#define NEWEST (fault_number != NONE -> 2 : (plan_committed -> 1 : 0))
#define ANY_DEAD (dead[0] || dead[1])
#define MUST_STOP(r) (fault_number == NONE && !stopped[r] && \
    ((dead[0] && IS_IN(epoch[r], 0)) || (dead[1] && IS_IN(epoch[r], 1) && IS_IN(NEWEST, 1))))

proctype rank(byte me)
{
    byte n;

end: /* what is blocked for ever, the judge finds */
    do
    :: dead[me] -> break
    :: !dead[me] && epoch[me] != NONE && !in_view[me] -> break
    :: !dead[me] && in_view[me] && taken[me] == NUMBERS && epoch[me] == NEWEST && fault_number != NONE -> break
    /* the views */
    :: !dead[me] && in_view[me] && plan_committed && fault_number == NONE && epoch[me] == 0 && !stopped[me] ->
        go_over(me)
    :: atomic { !dead[me] && plan_committed && fault_number == NONE && me == 2 && epoch[me] == NONE ->
        epoch[me] = 1; in_view[me] = true }
    :: !dead[me] && in_view[me] && MUST_STOP(me) -> stop(me)
    :: !dead[me] && fault_number != NONE && epoch[me] != 2 && IS_IN(2, me) && (stopped[me] || epoch[me] == NONE) ->
        in_view[me] = true; install(me)
    :: atomic { !dead[me] && in_view[me] && fault_number != NONE && !IS_IN(2, me) -> in_view[me] = false }
    /* a joiner learns the number from those who were there */
    :: atomic { !dead[me] && in_view[me] && last[me] == NONE && begun[epoch[me]] -> last[me] = ended[epoch[me]] }
    /* give */
    :: atomic { !dead[me] && in_view[me] && !stopped[me] && pending[me] == 0 && last[me] != NONE &&
        begun[epoch[me]] && last[me] < NUMBERS ->
        n = last[me] + 1;
#ifdef WRITE_OVER
        gave[me].number[0] = n; gave[me].at[0] = epoch[me];
        gave[me].number[1] = n; gave[me].at[1] = epoch[me];
#else
        gave[me].number[n % 2] = n;
        gave[me].at[n % 2] = epoch[me];
#endif
        bound[me] = epoch[me];
        pending[me] = n }
    /* all have given: raise the ledger, if it is open */
    :: atomic { !dead[me] && in_view[me] && !stopped[me] && pending[me] != 0 && pending[me] > last[me] &&
        bound[me] == epoch[me] && ALL_GAVE(bound[me], pending[me]) ->
#ifdef TAKE_WITHOUT_LEDGER
        take(me, bound[me], pending[me])
#else
        if
        :: ended[bound[me]] >= pending[me] -> last[me] = pending[me]
        :: ended[bound[me]] < pending[me] && !closed[bound[me]] ->
            ended[bound[me]] = pending[me]; last[me] = pending[me]
        :: else -> skip
        fi
#endif
        }
    /* it has ended: take it, also while stopped and afterwards */
    :: atomic { !dead[me] && in_view[me] && pending[me] != 0 && last[me] != NONE && pending[me] <= last[me] ->
        n = pending[me];
        take(me, bound[me], n) }
    /* death */
    :: atomic { faults > 0 && MAY_DIE(me) && in_view[me] && !dead[me] && !ANY_DEAD && fault_number == NONE ->
        faults--; dead[me] = true }
    od
}

/* The planned view is committed while nobody is known to be dead. */
active proctype planner()
{
end:
    atomic { !ANY_DEAD -> plan_committed = true }
}

#define HAS_STOPPED(r) (dead[r] || !IS_IN(NEWEST, r) || stopped[r] || epoch[r] == NONE)
#define REPORTED(r) (stopped[r] && !dead[r] -> report[r] : 0)
#define MORE(a, b) ((a) > (b) -> (a) : (b))

/* The fault view: who stays has promised, and one of them has been a member before. */
active proctype proposer()
{
    byte e;

end:
    atomic {
        ANY_DEAD && ((dead[0] && IS_IN(NEWEST, 0)) || (dead[1] && IS_IN(NEWEST, 1))) &&
#ifdef COMMIT_BEFORE_REPORTS
        (stopped[0] || stopped[1] || stopped[2]) ->
#else
        HAS_STOPPED(0) && HAS_STOPPED(1) && HAS_STOPPED(2) && (stopped[0] || stopped[1]) ->
#endif
        e = NEWEST;
        member[2] = member[e] & (dead[0] -> 6 : 7) & (dead[1] -> 5 : 7);
        fault_number = MORE(MORE(REPORTED(0), REPORTED(1)), REPORTED(2))
    }
}

active proctype judge()
{
    timeout;
    byte r = 0;
    do
    :: r < RANKS ->
        if
        :: !dead[r] && in_view[r] && NEWEST == epoch[r] -> assert(last[r] == NUMBERS && pending[r] == 0)
        :: else -> skip
        fi;
        r++
    :: else -> break
    od
}

init
{
    atomic {
        member[0] = 3;
        member[1] = PLANNED;
        begun[0] = true;
        epoch[2] = NONE;
        last[2] = NONE;
        in_view[0] = true;
        in_view[1] = true;
        taken_under[1] = NONE;
        taken_under[2] = NONE;
        taken_under[3] = NONE;
        run rank(0);
        run rank(1);
        run rank(2)
    }
}
