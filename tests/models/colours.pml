/* SPDX-License-Identifier: Apache-2.0 */
/* Colours: the memory of the rows that several ranks write, through several fault views, with
 * expelled generations that store for ever.
 *
 * Rules covered (docs/PROTOCOL.md):
 * - P7: each fault view takes a colour that no generation without a proven end has in its tables.
 *   Another colour's memory is replaced: by a planned view while all serve, or in the pause of a
 *   fault view that finds no free colour. Memory that was replaced is never used again.
 * - P8: the end of a process proves nothing about its stores. M2: a promise ends the stores under
 *   that view. M3: a planned view is committed when all members have staged it. M4: a fault view
 *   makes a plan void.
 *
 * Asserted:
 * - S5: the reader finds the row that the member of this view has stored, in the memory that the
 *   view names.
 * - L1, P7: when nothing more can happen, nobody is wedged. Generations need not end for that.
 *
 * Seat 0 reads, and is never expelled. GENERATIONS other ranks are members at first. Each may be
 * expelled at any moment: alone, without a promise. From then on it stores into all memory that
 * its tables name, at any later moment, until its stores end. That may be never. A member drops
 * its tables when it promises, and takes those of the new view at any later moment, expelled or
 * not. A step: some member that runs the view stores its row, and then seat 0 reads it.
 *
 * Left out or coarser: reports and proposers (agreement.pml), tags (fencing.pml). The planned
 * view changes no member's tables, since the colour in force stays. */
#ifndef COLOURS
#define COLOURS 2
#endif
#ifndef GENERATIONS
#define GENERATIONS 2
#endif
#define PAGES (COLOURS + 2 * GENERATIONS + 1)
#define NONE 255
#define BIT(i) (1 << (i))
#define EVERYBODY (BIT(GENERATIONS) - 1)

/* the document */
byte colour, members = EVERYBODY;
byte memory[COLOURS];  /* the memory of each colour, by its number */
byte unproven[COLOURS]; /* generations that were expelled with it in their tables: a bit each */
byte next_memory = COLOURS, released = NONE;

/* a colour that is being replaced */
byte plan = NONE, plan_memory, staged;

byte suspects;
bit wedged, in_step;
bit row[PAGES]; /* 1: the row of the running step; 0: whatever a zombie stores */
bit lasts[GENERATIONS]; /* its stores never end */
bit dead[GENERATIONS], margin[GENERATIONS], stored[GENERATIONS];
byte table[GENERATIONS];              /* the memory that its kernels store into */
byte next_table[GENERATIONS];         /* that of a view which it has not installed yet */
byte mapping[GENERATIONS * COLOURS];  /* the memory that it has mapped for each colour */

#if defined(END_OF_PROCESS_FREES)
#define PROVEN(g) dead[g]
#elif defined(MARGIN_FREES)
#define PROVEN(g) margin[g]
#else
#define PROVEN(g) stored[g]
#endif
#define NOT_PROVEN(k, g) ((unproven[k] & BIT(g)) && !PROVEN(g))
#if GENERATIONS == 3
#define ANY_UNPROVEN(k) (NOT_PROVEN(k, 0) || NOT_PROVEN(k, 1) || NOT_PROVEN(k, 2))
#else
#define ANY_UNPROVEN(k) (NOT_PROVEN(k, 0) || NOT_PROVEN(k, 1))
#endif
/* the suspects have the colour in force in their tables, whatever the document says of it */
#define SUSPECT_UNPROVEN(g) ((suspects & BIT(g)) && !PROVEN(g))
#if GENERATIONS == 3
#define ANY_SUSPECT (SUSPECT_UNPROVEN(0) || SUSPECT_UNPROVEN(1) || SUSPECT_UNPROVEN(2))
#else
#define ANY_SUSPECT (SUSPECT_UNPROVEN(0) || SUSPECT_UNPROVEN(1))
#endif
#ifdef COLOUR_OF_UNPROVEN
#define IS_FREE(k) ((k) != colour)
#else
#define IS_FREE(k) (!ANY_UNPROVEN(k) && ((k) != colour || !ANY_SUSPECT))
#endif
#if COLOURS == 3
#define ANY_FREE (IS_FREE(0) || IS_FREE(1) || IS_FREE(2))
#else
#define ANY_FREE (IS_FREE(0) || IS_FREE(1))
#endif

inline choose(k)
{
    if
    :: k = 0
    :: k = 1
#if COLOURS == 3
    :: k = 2
#endif
    fi
}

/* New memory, staged by all members. */
inline begin_replacement(k)
{
    plan = k; staged = 0;
#ifdef OLD_MEMORY_AGAIN
    if
    :: released != NONE -> plan_memory = released; released = NONE
    :: released == NONE -> plan_memory = next_memory; next_memory++
    fi
#else
    plan_memory = next_memory; next_memory++
#endif
}

inline end_replacement()
{
    released = memory[plan];
    memory[plan] = plan_memory; unproven[plan] = 0;
    plan = NONE; plan_memory = 0; staged = 0
}

/* Rule M4: a fault view makes a plan void. What was mapped for it is let go, and never used. */
inline void_plan()
{
    g = 0;
    do
    :: g < GENERATIONS && plan != NONE ->
#ifndef VOID_PLAN_STAYS
        mapping[g * COLOURS + plan] = memory[plan];
#endif
        g++
    :: else -> break
    od;
    plan = NONE; plan_memory = 0; staged = 0; g = 0
}

#ifdef REPLACED_BEFORE_STAGED
#define ALL_STAGED(who) true
#else
#define ALL_STAGED(who) ((staged & (who)) == (who))
#endif
#define HAS_ROOM (next_memory < PAGES)

/* Register, proposer and evidence. */
proctype authority()
{
    byte k = 0, g = 0;

end:
    do
    :: atomic { !wedged && members != 0 -> /* somebody is suspected */
        if
        :: members & 1 -> suspects = 1
        :: members & 2 -> suspects = 2
#if GENERATIONS == 3
        :: members & 4 -> suspects = 4
#endif
        fi;
        wedged = 1;
        void_plan() }
    /* the fault view; all who stay have promised */
    :: atomic { wedged && !in_step && ANY_FREE ->
        choose(k);
        if
        :: IS_FREE(k) ->
            void_plan();
            unproven[colour] = unproven[colour] | suspects;
            members = members & ~suspects; suspects = 0;
            colour = k; wedged = 0;
            g = 0;
            do
            :: g < GENERATIONS ->
                if
                :: members & BIT(g) -> table[g] = NONE; next_table[g] = mapping[g * COLOURS + colour]
                :: else
                fi;
                g++
            :: else -> break
            od;
            g = 0
        :: else
        fi;
        k = 0 }
    /* a colour is replaced while all serve */
    :: atomic { !wedged && plan == NONE && HAS_ROOM ->
        choose(k);
        if
        :: k != colour && ANY_UNPROVEN(k) -> begin_replacement(k)
        :: else
        fi;
        k = 0 }
    :: atomic { !wedged && plan != NONE && ALL_STAGED(members) -> end_replacement() }
#ifndef ONLY_WHILE_SERVING
    /* no colour is free: one is replaced in the pause, by those who stay */
    :: atomic { wedged && !ANY_FREE && plan == NONE && HAS_ROOM ->
        choose(k);
        if
        :: k != colour -> begin_replacement(k)
        :: else
        fi;
        k = 0 }
    :: atomic { wedged && plan != NONE && ALL_STAGED(members & ~suspects) -> end_replacement() }
#endif
    od
}

#define IS_MEMBER (members & BIT(me))

proctype generation(byte me)
{
end:
    do
    /* whoever is out stores into what its tables name */
    :: atomic { !IS_MEMBER && !stored[me] && table[me] != NONE && row[table[me]] != 0 ->
        row[table[me]] = 0 }
    :: atomic { next_table[me] != NONE && !stored[me] -> table[me] = next_table[me]; next_table[me] = NONE }
    :: atomic { IS_MEMBER && plan != NONE && !(staged & BIT(me)) && !(suspects & BIT(me)) ->
        mapping[me * COLOURS + plan] = plan_memory; staged = staged | BIT(me) }
    :: atomic { (!IS_MEMBER || (suspects & BIT(me))) && !dead[me] -> dead[me] = 1 }
#ifdef MARGIN_FREES
    :: atomic { dead[me] && !margin[me] -> margin[me] = 1 }
#endif
    :: atomic { (!IS_MEMBER || (suspects & BIT(me))) && !stored[me] && !lasts[me] -> lasts[me] = 1 }
    :: atomic { dead[me] && !stored[me] && !lasts[me] -> stored[me] = 1; table[me] = NONE; next_table[me] = NONE }
    od
}

#define RUNS(g) ((members & BIT(g)) && next_table[g] == NONE && table[g] != NONE)
#define STORES(g) RUNS(g) -> place = table[g]
/* Seat 0: it promises behind its own step. */
proctype reader()
{
    byte place = 0;

end:
    do
    :: atomic { !wedged ->
        in_step = 1;
        if
        :: STORES(0)
        :: STORES(1)
#if GENERATIONS == 3
        :: STORES(2)
#endif
        :: place = memory[colour] /* its own expert */
        fi;
        row[place] = 1 };
        atomic {
            assert(row[memory[colour]]); /* S5: P7, P8, M3, M4 */
            row[place] = 0; in_step = 0; place = 0
        }
    od
}

init {
    byte i = 0;

    atomic {
        do
        :: i < COLOURS -> memory[i] = i; i++
        :: else -> break
        od;
        i = 0;
        do
        :: i < GENERATIONS * COLOURS -> mapping[i] = i % COLOURS; i++
        :: else -> break
        od;
        i = 0;
        do
        :: i < GENERATIONS -> next_table[i] = NONE; run generation(i); i++
        :: else -> break
        od;
        run authority(); run reader()
    };
    timeout -> assert(!wedged) /* L1: P7 */
}
