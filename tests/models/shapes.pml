/* SPDX-License-Identifier: Apache-2.0 */
/* One shape a step (rule P6): how ranks that begin a step with different shapes find one.
 *
 * Rules covered (docs/PROTOCOL.md): P6, D3 (words), D5 (jumps).
 *
 * Each rank begins steps, one after the other. A step is two exchanges, dispatch and combine, each
 * with a tag line of its own. The rank stores its tag to each of the others, in any order, and
 * waits. It ends the step OK once all tags are its own. It aborts when it sees a dispatch tag of
 * this step with another shape, a word by which a peer gave up this step or a later one, or a
 * dispatch tag of a later step. Then it stores a word to each of the others, which carries the
 * largest shape that it knows of. Whoever ended a step OK knows what all agreed on for the next
 * one. Whoever did not takes the largest shape of the tags of that step that are there, or any; and
 * none below what it knows.
 *
 * RANKS, SHAPES, STEPS: how many. EACH_ITS_OWN: no two ranks want the same. GIVE_UPS: so often may a rank give a step up by itself.
 *
 * Asserted:
 * - P6: all who end a step OK had one shape.
 * - A step behind one that all ended OK is not mixed.
 * - No livelock: no rank meets more than SHAPES - 1 mixed steps in a row, until one is given up.
 *
 * Mutants: TAG_WITHOUT_SHAPE, WORD_WITHOUT_SHAPE, JUMP_WITHOUT_SHAPE, NOTHING_IS_KEPT,
 * NOTHING_IS_AGREED. */
#ifndef RANKS
#define RANKS 3
#endif
#ifndef SHAPES
#define SHAPES 2
#endif
#ifndef STEPS
#define STEPS 3
#endif
#ifndef GIVE_UPS
#define GIVE_UPS 0
#endif

#define NONE       255
#define AT(to, of) ((to) * RANKS + (of))
#define STEP_OF(w) (((w) - 1) / SHAPES)
#define OF(w)      (((w) - 1) % SHAPES)
#define WORD(t, s) ((t) * SHAPES + (s) + 1)

byte tag[RANKS * RANKS];  /* dispatch; 0: none yet */
byte last[RANKS * RANKS]; /* combine */
byte word[RANKS * RANKS];
byte agreed[STEPS + 1]; /* on which shape for that step, once one is agreed on */
byte ended_ok[STEPS], shape_ok[STEPS];
byte give_ups = GIVE_UPS;

inline keep(shape)
{
    if
    :: shape > known -> known = shape
    :: else
    fi
}

/* What the rank chooses: `mine`. */
inline choose()
{
    seen = NONE;
    i = 0;
    do
    :: i < RANKS && i != me && tag[AT(me, i)] != 0 && STEP_OF(tag[AT(me, i)]) == t &&
           (seen == NONE || OF(tag[AT(me, i)]) > seen) ->
        seen = OF(tag[AT(me, i)]);
        i++
    :: i < RANKS && !(i != me && tag[AT(me, i)] != 0 && STEP_OF(tag[AT(me, i)]) == t &&
                      (seen == NONE || OF(tag[AT(me, i)]) > seen)) ->
        i++
    :: i == RANKS -> break
    od;
    if
    :: was_ok ->
        mine = agreed[t]
    :: !was_ok && seen != NONE ->
        mine = seen
    :: !was_ok && seen == NONE ->
#ifdef EACH_ITS_OWN
        mine = me % SHAPES
#else
        mine = 0;
        do
        :: mine < SHAPES - 1 -> mine++
        :: break
        od
#endif
    fi;
    if
    :: !was_ok && mine < known -> mine = known
    :: else
    fi;
    known = mine;
    seen = 0;
    i = 0
}

#ifdef TAG_WITHOUT_SHAPE
#define IS_MINE(w) ((w) != 0 && STEP_OF(w) == t)
#define IS_MIXED(w) false
#else
#define IS_MINE(w)  ((w) == WORD(t, mine))
#define IS_MIXED(w) ((w) != 0 && STEP_OF(w) == t && OF(w) != mine)
#endif
#ifdef WORD_WITHOUT_SHAPE
#define TOLD(w) 0
#else
#define TOLD(w) OF(w)
#endif

/* Which peer; `me` is none. */
inline any_peer()
{
    i = 0;
    do
    :: i < RANKS - 1 -> i++
    :: break
    od
}

/* Store to each of the others, in any order. */
#define STORE(to, what)                                                                            \
    left = (1 << RANKS) - 1 - (1 << me);                                                           \
    do                                                                                             \
    :: atomic {                                                                                    \
        left != 0 ->                                                                               \
        any_peer();                                                                                \
        if                                                                                         \
        :: left >> i & 1 -> to[AT(i, me)] = what; left = left - (1 << i)                           \
        :: else                                                                                    \
        fi;                                                                                        \
        i = 0                                                                                      \
    }                                                                                              \
    :: left == 0 -> break                                                                          \
    od

#define GAVE_UP(w)   ((w) != 0 && STEP_OF(w) >= t)
#define IS_AHEAD(w)  ((w) != 0 && STEP_OF(w) > t)
#define ARRIVED      (combining -> IS_MINE(last[AT(me, i)]) : IS_MINE(tag[AT(me, i)]))

/* What headers wanted is the same for all who end the step OK. */
inline end_ok()
{
    assert(ended_ok[t] == 0 || shape_ok[t] == mine);
    shape_ok[t] = mine;
    if
    :: ended_ok[t] == 0 ->
        agreed[t + 1] = 0;
        do
        :: agreed[t + 1] < SHAPES - 1 -> agreed[t + 1]++
        :: break
        od
    :: else
    fi;
    ended_ok[t]++
}

/* Wait for all tags of the exchange; `goes_on` becomes false if the step is aborted. One look at a
 * peer is one reading of its lines; between two looks all others may go on. */
inline await()
{
    came = 1 << me;
    do
    :: came == (1 << RANKS) - 1 -> break
    :: atomic {
            came != (1 << RANKS) - 1 ->
            any_peer();
            if
            :: came >> i & 1 -> skip
            :: !(came >> i & 1) && ARRIVED -> came = came | (1 << i)
            :: !(came >> i & 1) && !ARRIVED && IS_MIXED(tag[AT(me, i)]) ->
                is_mixed = true;
                goes_on = false;
                keep(OF(tag[AT(me, i)]))
            :: !(came >> i & 1) && !ARRIVED && GAVE_UP(word[AT(me, i)]) ->
                is_mixed = true;
                goes_on = false;
                keep(TOLD(word[AT(me, i)]))
            :: !(came >> i & 1) && !ARRIVED && IS_AHEAD(tag[AT(me, i)]) ->
                goes_on = false;
#ifndef JUMP_WITHOUT_SHAPE
                keep(OF(tag[AT(me, i)]))
#endif
            :: !(came >> i & 1) && !ARRIVED && give_ups > 0 ->
                give_ups--;
                goes_on = false
            :: else
            fi;
            i = 0;
            if
            :: goes_on
            :: else -> came = (1 << RANKS) - 1
            fi
        }
    od;
    came = 0
}

proctype rank(byte me)
{
    byte t = 0, mine = 0, known = 0, seen = 0, i = 0, left = 0, came = 0, in_a_row = 0;
    bool was_ok = false, is_mixed = false, after_all = false, goes_on = true, combining = false;

    do
    :: t < STEPS ->
        after_all = (t > 0 && ended_ok[t - 1] == RANKS);
        atomic { choose() };
        is_mixed = false;
        was_ok = false;
        goes_on = true;
        combining = false;
        STORE(tag, WORD(t, mine));
        await();
        if
        :: goes_on ->
            combining = true;
            STORE(last, WORD(t, mine));
            await()
        :: else
        fi;
        if
        :: goes_on ->
            atomic { end_ok() };
            was_ok = true;
            in_a_row = 0
        :: else ->
            STORE(word, WORD(t, known));
            atomic {
                assert(!(is_mixed && after_all && give_ups == GIVE_UPS));
                in_a_row = (is_mixed && give_ups == GIVE_UPS -> in_a_row + 1 : 0);
                assert(in_a_row < SHAPES)
            }
        fi;
#ifdef NOTHING_IS_AGREED
        was_ok = false;
        known = 0;
#endif
#ifdef NOTHING_IS_KEPT
        known = 0;
#endif
        if
        :: was_ok -> known = 0
        :: else
        fi;
        t++
    :: else -> break
    od
}

init
{
    byte n = 0;

    atomic {
        do
        :: n < RANKS -> run rank(n); n++
        :: else -> break
        od
    }
}
