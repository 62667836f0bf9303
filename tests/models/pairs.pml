/* SPDX-License-Identifier: Apache-2.0 */
/* Pairs: hosts that do not hear each other, and who is left out for it.
 *
 * Rules covered (docs/PROTOCOL.md):
 * - N10: silence between hosts accuses a pair. The smallest set of hosts that touches all accused
 *   pairs is left out; of several, one without which no expert is lost, then the one with the higher
 *   seats. A host that would stay and does not answer has a bound.
 * - M2, M4: whoever stays has reported, and the register takes one view.
 *
 * Asserted:
 * - N10: no more hosts are left out than are gone, and than the accused pairs of the others need.
 * - N10: no two that stay accuse each other by a report that was made.
 * - N10: an expert is lost only if each of the smallest sets loses one.
 * - M4: who stays lives.
 * - L1: when nothing more can happen, a view was committed, if any host lives and reaches the
 *   register.
 *
 * Each way from a host to another works or is broken, up to WAYS of them. One host may have lost
 * power, and another one may not reach the register. Reports come in any order. Any host that has
 * reported may decide at any moment, by what was reported then.
 *
 * Left out: single ranks of a host, processes that are seen to end, later faults and relapse, which
 * the simulator has; words and votes to let in again. */
#ifndef HOSTS
#define HOSTS 3
#endif
#ifndef WAYS
#define WAYS 3
#endif
#define BIT(i) (1 << (i))
#define ALL (BIT(HOSTS) - 1)
#define NUM(s) (((s) & 1) + (((s) >> 1) & 1) + (((s) >> 2) & 1) + (((s) >> 3) & 1))
#define NEVER (dead | cut_off) /* they report nothing */
#define LOSES(s) ((holders & ~(s)) == 0)

byte unheard[HOSTS]; /* whom each host does not hear: a bit each */
byte dead, cut_off, holders = ALL; /* of an expert */
byte reported, view = ALL;
bit ready, committed;
/* scratch of steps that nothing interrupts */
byte set, one, best, need;
bit covers, loses_all;

/* The set touches all pairs that those of `by` accuse, both of them among `among`. */
inline look_at_pairs(by, among)
{
    covers = 1;
    one = 0;
    do
    :: one < HOSTS && (BIT(one) & (by) & (among)) && !(BIT(one) & set) &&
       (unheard[one] & (among) & ~set) -> covers = 0; break
    :: one < HOSTS && !((BIT(one) & (by) & (among)) && !(BIT(one) & set) &&
       (unheard[one] & (among) & ~set)) -> one++
    :: one == HOSTS -> break
    od;
    one = 0
}

/* The best set into `best`; whether each of the smallest loses the expert. */
inline find_best(by, among, gone)
{
    best = among;
    loses_all = 1;
    set = 0;
    do
    :: set <= ALL ->
        if
        :: (set & ~(among)) -> skip
        :: else ->
            look_at_pairs(by, among);
            if
            :: covers && NUM(set) < NUM(best) -> best = set; loses_all = LOSES(set | (gone))
            :: covers && NUM(set) == NUM(best) ->
#ifdef COVERAGE_BREAKS_NO_TIE
                best = set;
#else
                if
                :: LOSES(best | (gone)) || !LOSES(set | (gone)) -> best = set
                :: else -> skip
                fi;
#endif
                loses_all = loses_all && LOSES(set | (gone))
            :: else -> skip
            fi
        fi;
        set++
    :: else -> break
    od;
    set = 0
}

/* All hosts of accused pairs: what accuses a process would take. */
inline find_all_accused(by, among)
{
    best = 0;
    one = 0;
    do
    :: one < HOSTS ->
        if
        :: (BIT(one) & (by) & (among)) && (unheard[one] & (among)) ->
            best = best | BIT(one) | (unheard[one] & (among))
        :: else -> skip
        fi;
        one++
    :: else -> break
    od;
    one = 0
}

inline check_view()
{
    assert((view & dead) == 0);
    set = ALL & ~view;
    assert(loses_all || !LOSES(set));
    find_best(ALL & ~NEVER, ALL & ~NEVER, NEVER);
    need = NUM(best);
    assert(NUM((ALL & ~view)) <= NUM(NEVER) + need);
    best = 0; need = 0; loses_all = 0
}

proctype host(byte h)
{
    byte certain, seen_certain, seen_reported;

    if
    :: (NEVER & BIT(h)) -> goto over
    :: else -> reported = reported | BIT(h)
    fi;
    do
    :: committed -> break
#ifndef NO_BOUND
    :: atomic { !committed && certain != NEVER -> certain = NEVER } /* no answer within the bound */
#endif
    :: d_step { !committed && (reported != seen_reported || certain != seen_certain ||
                               seen_reported == 0) ->
        seen_reported = reported;
        seen_certain = certain;
#ifdef BOTH_ENDS_GO
        find_all_accused(reported, ALL & ~certain);
        loses_all = 1;
#else
        find_best(reported, ALL & ~certain, certain);
#endif
        if
        :: (BIT(h) & best) -> skip /* the others decide */
        :: else ->
#ifdef DECIDES_UNHEARD
            if
            :: true ->
#else
            if
            :: ((ALL & ~certain & ~best) & ~reported) -> skip
            :: else ->
#endif
                committed = 1;
                view = ALL & ~certain & ~best;
                check_view()
            fi
        fi;
        best = 0; loses_all = 0
       }
    od;
over:
    skip
}

active proctype judge()
{
    ready -> timeout -> d_step {
        assert(committed || NEVER == ALL);
        do
        :: committed && one < HOSTS ->
            assert(!(BIT(one) & view & reported) || (unheard[one] & view & reported) == 0);
            one++
        :: else -> break
        od
    }
}

init
{
    byte from, to, broken;

    atomic {
        if
        :: holders = ALL
        :: holders = BIT(0)
        :: holders = BIT(HOSTS - 1)
        :: holders = BIT(0) | BIT(1)
        fi;
        if
        :: dead = 0
        :: dead = BIT(0)
        :: dead = BIT(1)
        :: dead = BIT(HOSTS - 1)
        fi;
        if
        :: cut_off = 0
        :: cut_off = BIT(0)
        :: cut_off = BIT(1)
        :: cut_off = BIT(HOSTS - 1)
        fi;
        do
        :: from < HOSTS && to < HOSTS ->
            if
            :: from != to && (dead & BIT(from)) -> unheard[to] = unheard[to] | BIT(from)
            :: from != to && broken < WAYS && !(dead & BIT(from)) ->
                broken++;
                unheard[to] = unheard[to] | BIT(from)
            :: !(from != to && (dead & BIT(from))) -> skip
            fi;
            to++
        :: from < HOSTS && to == HOSTS -> to = 0; from++
        :: from == HOSTS -> break
        od;
        from = 0; to = 0; broken = 0;
        do
        :: from < HOSTS -> run host(from); from++
        :: else -> break
        od;
        ready = 1
    }
}
