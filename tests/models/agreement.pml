/* SPDX-License-Identifier: Apache-2.0 */
/* Agreement on the membership: register, promises, fault and repair views, steps that run again,
 * the sink.
 *
 * Rules covered (docs/PROTOCOL.md): M1 (REPAIRING, then a second compare-and-swap). M2 (the
 * promise, first_step). M4 (compare-and-swap, answers that are lost, any order of proposers). M5
 * (evidence is void outside the view; reports spread it). M8 (a step needs every member). M9 (the
 * sink). D3 (an aborted step emits nothing). D5 (step numbers).
 *
 * Asserted:
 * - S1: an installed epoch has one payload. S2: an epoch is written once, and installed epochs go
 *   up.
 * - S3, S4: a rank outside the view completes no step of it. Of an older view it completes only
 *   steps below the first step of the next view, so at most the one in flight. A step number is
 *   completed under one epoch only.
 * - S10: only completed steps emit. Each position reaches the client once, and none is skipped.
 * - Once nothing more can happen, every living rank that was not expelled serves the newest view.
 *
 * The model follows membership/core/core_facts.c, core_fault.c, step.c and sink.c. Left out or
 * coarser:
 * - Time. Delays, drain bound and deadlines may pass at any moment. Suspecting a rank that lives
 *   (silence, LEFT_OUT) takes from a budget, FALSE_ALARMS. Nobody is killed first: a zombie is
 *   worse.
 * - A late heartbeat takes a suspicion back HEARTBEATS times. Ranks that tell each other of it by
 *   turns could otherwise pass it on for ever.
 * - Order of proposers. A rank that a living member's report suspects comes last. It may overtake
 *   its accuser nevertheless, which takes from a budget, OVERTAKES (else it could do so for ever).
 * - A rank reads the newest value of what is in the store, at a moment of its choice.
 * - A revision is an epoch: the store loses no memory here. Joins and leaves are in flip.pml.
 * - Evidence has one strength. Whether replicas cover is a free choice; if not, every member
 *   fills.
 * - A step is: publish to all; complete if all members published it and none gave it up; or abort.
 *   How tags and rows achieve that is in fencing.pml.
 * - There is one request, and at most one token of each rank is on its way. */
#ifndef RANKS
#define RANKS 3
#endif
#ifndef STEPS
#define STEPS 3 /* highest step number; 0: no steps */
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef FALSE_ALARMS
#define FALSE_ALARMS 1
#endif
#ifndef OVERTAKES
#define OVERTAKES 1
#endif
#ifndef HEARTBEATS
#define HEARTBEATS 0
#endif
#define EPOCHS 8
#define EVERYBODY ((1 << RANKS) - 1)
#define BIT(i) (1 << (i))

/* A document: members, first step, phase. Epochs are its index in the history. */
#define DOCUMENT(members, first, repairing) ((members) | (first) << 4 | (repairing) << 8)
#define MEMBERS(d) ((d) & 15)
#define FIRST(d) (((d) >> 4) & 15)
#define IS_REPAIRING(d) ((d) >> 8)

byte newest = 1; /* epoch in the register */
short committed[EPOCHS];

#define SERVING 0
#define WEDGED 1
#define OVER 2
#define DEAD 3
byte status[RANKS];
byte known[RANKS];     /* newest epoch it has read, */
short document[RANKS]; /* and the document */
byte installed[RANKS];
byte suspects[RANKS];
byte reported[RANKS], reported_suspects[RANKS], reported_step[RANKS];
bit filled[RANKS]; /* its part of the REPAIRING view that it knows */
byte crashes = CRASHES, false_alarms = FALSE_ALARMS, overtakes = OVERTAKES, heartbeats = HEARTBEATS;

/* A compare-and-swap on its way: it may arrive at any later moment, or never. */
bit sent[RANKS];
byte base[RANKS];
short draft[RANKS];

#if STEPS > 0
byte step[RANKS]; /* highest started */
bit in_step[RANKS];
byte published[EPOCHS * (STEPS + 1)]; /* [epoch][step]: by whom */
byte gave_up[RANKS];                  /* abort word: epoch * 16 + step */
#define PUBLISHED(e, t) published[(e) * (STEPS + 1) + (t)]
#define IN_STEP(i) in_step[i]
#define CLEAR_STEP(i) in_step[i] = 0
#define STEP(i) step[i]
#else
#define IN_STEP(i) 0
#define CLEAR_STEP(i) skip
#define STEP(i) 0
#endif

#ifdef TOKENS
byte owner, next_position; /* the sink's entry */
byte read_by_launcher = 1; /* newest view that it knows */
byte position[RANKS];      /* what the owner computes next */
bit has_request[RANKS];
byte offered[RANKS];       /* position + 1 on its way to the sink; 0: nothing */
bit of_aborted_step[RANKS];
#endif

/* Over all members, from what rank i knows. */
#define IS_MEMBER(i, j) (MEMBERS(document[i]) & BIT(j))
#define REPORTED(i, j) (IS_MEMBER(i, j) && reported[j] >= known[i])
#define SILENT(i, j) (IS_MEMBER(i, j) && !(suspects[i] & BIT(j)) && reported[j] < known[i])
#define UNFILLED(i, j) (IS_MEMBER(i, j) && !(filled[j] && known[j] == known[i]))
#define ACCUSES(i, j) (REPORTED(i, j) && (reported_suspects[j] & BIT(i)) && status[j] != DEAD)
#define GAVE_UP(i, j)                                                                              \
    ((MEMBERS(committed[installed[i]]) & BIT(j)) && gave_up[j] / 16 == installed[i] &&             \
     gave_up[j] % 16 >= step[i])
/* something in j's report that i has not taken in */
#define TELLS_NEWS(i, j)                                                                           \
    (i != j && REPORTED(i, j) &&                                                                   \
     (status[i] == SERVING || (reported_suspects[j] & MEMBERS(document[i]) & ~BIT(i) & ~suspects[i])))
#if RANKS == 4
#define ANY(property, i) (property(i, 0) || property(i, 1) || property(i, 2) || property(i, 3))
#else
#define ANY(property, i) (property(i, 0) || property(i, 1) || property(i, 2))
#endif
#define NEWS(i) ANY(TELLS_NEWS, i)
#ifdef COMMIT_BEFORE_REPORTS
#define MAY_PROPOSE(i) 1
#else
#define MAY_PROPOSE(i) (!ANY(SILENT, i) && !NEWS(i) && reported_suspects[i] == suspects[i])
#endif
#define HAS_DRAINED(i) (!IN_STEP(i)) /* why: -DREPORT_BEFORE_DRAINED in fencing.pml */
#ifdef PROMISE_FORGOTTEN
#define HAS_PROMISED(i) 0
#else
#define HAS_PROMISED(i) (reported[i] >= known[i])
#endif
#define MAY_INSTALL(i)                                                                             \
    (known[i] > installed[i] && !IS_REPAIRING(document[i]) && suspects[i] == 0 && !HAS_PROMISED(i))

inline take_document(e, d)
{
    known[i] = e;
    document[i] = d;
    suspects[i] = suspects[i] & MEMBERS(d) & ~BIT(i); /* M5: void outside the view */
    filled[i] = 0;
    if
    :: !(MEMBERS(d) & BIT(i)) -> /* EVICTED; its graph may still run */
        status[i] = OVER; suspects[i] = 0; known[i] = 0; document[i] = 0
    :: else
    fi
}

/* What current members' reports say of others. */
inline adopt()
{
    d_step {
        do
        :: j < RANKS ->
            if
            :: j != i && REPORTED(i, j) ->
                suspects[i] = suspects[i] | (reported_suspects[j] & MEMBERS(document[i]) & ~BIT(i))
            :: else
            fi;
            j++
        :: else -> break
        od;
        j = 0
    }
}

/* What a core does behind each input: wedge, install or report. Whether it has read the others'
 * reports by now is open, so with one of them in the store it may still install. */
inline advance()
{
    if
    :: status[i] == SERVING && (suspects[i] != 0 || ANY(REPORTED, i)) ->
        status[i] = WEDGED; adopt()
    :: status[i] == SERVING && known[i] > installed[i] && IS_REPAIRING(document[i]) ->
        status[i] = WEDGED
    :: status[i] == WEDGED -> if :: adopt() :: true fi
    :: else
    fi;
    if
    :: status[i] == WEDGED && HAS_DRAINED(i) && MAY_INSTALL(i) -> install()
    :: status[i] == SERVING && !IN_STEP(i) && MAY_INSTALL(i) -> install()
    :: status[i] == WEDGED && HAS_DRAINED(i) && (!MAY_INSTALL(i) || ANY(REPORTED, i)) ->
        reported[i] = known[i]; reported_suspects[i] = suspects[i]; reported_step[i] = STEP(i)
    :: else
    fi
}

inline install()
{
    assert(document[i] == committed[known[i]]); /* S1: one payload per epoch */
    assert(known[i] > installed[i]);            /* S2: installed epochs go up */
    status[i] = SERVING;
    installed[i] = known[i];
#if STEPS > 0
    if
    :: step[i] + 1 < FIRST(document[i]) -> step[i] = FIRST(document[i]) - 1
    :: else
    fi
#endif
}

/* 1 + the highest step that any rank which stays has reported (M2: first_step; D5: no number
 * twice). */
inline find_first()
{
    d_step {
        first = FIRST(document[i]);
#ifndef REUSE_STEP
        do
        :: j < RANKS ->
            if
            :: IS_MEMBER(i, j) && !(suspects[i] & BIT(j)) && reported_step[j] >= first ->
                first = reported_step[j] + 1
            :: else
            fi;
            j++
        :: else -> break
        od;
        j = 0
#endif
    }
}

inline send(members, from, repairing)
{
    sent[i] = 1;
    base[i] = known[i];
    draft[i] = DOCUMENT(members, from, repairing)
}

inline commit()
{
    assert(base[i] + 1 < EPOCHS); /* the model's own bound */
    assert(committed[base[i] + 1] == 0 || committed[base[i] + 1] == draft[i]); /* S2: once */
    newest = base[i] + 1;
    committed[newest] = draft[i]
}

inline forget_cas()
{
    sent[i] = 0; base[i] = 0; draft[i] = 0
}

/* M5: a fresh heartbeat takes back silence, if nobody else's report still tells of it. */
#define ACCUSED(i, j) (i != j && REPORTED(i, j) && (reported_suspects[j] & suspects[i]))
#define LIVES(i, j) ((suspects[i] & BIT(j)) && status[j] != DEAD)
inline take_back()
{
    d_step {
        do
        :: j < RANKS ->
            if
            :: LIVES(i, j) -> suspects[i] = suspects[i] & ~BIT(j)
            :: else
            fi;
            j++
        :: else -> break
        od;
        j = 0
    }
}

/* By a crash or, from the budget, a false alarm. */
#define MAY_SUSPECT(j)                                                                             \
    (i != j && status[i] <= WEDGED && IS_MEMBER(i, j) && !(suspects[i] & BIT(j)) &&                \
     (status[j] == DEAD || false_alarms > 0))
inline suspect(j)
{
    suspects[i] = suspects[i] | BIT(j);
    if
    :: status[j] != DEAD -> false_alarms--
    :: else
    fi
}

inline complete()
{
    assert(MEMBERS(committed[installed[i]]) & BIT(i)); /* S4: only members complete steps */
    /* S3, D5: the next view begins above, so no number is completed under two views */
    assert(committed[installed[i] + 1] == 0 || step[i] < FIRST(committed[installed[i] + 1]));
    in_step[i] = 0
}

/* The end of a step is an input (DRAINED) for a rank that is wedged. */
inline settle()
{
    if
    :: status[i] == WEDGED -> advance()
    :: else
    fi
}

proctype rank(byte i)
{
    byte j = 0, first = 0;

end:
    do
    /* ---- the store takes our document. No answer: then we are one of those who have not read
     * it yet (M4), and a compare-and-swap on an old base is lost, whenever it arrives */
#ifdef CAS_UNCONDITIONAL
    :: atomic { sent[i] -> commit(); forget_cas() }
#else
    :: atomic { sent[i] && base[i] == newest ->
        commit();
        if
        :: status[i] < OVER && known[i] == base[i] -> take_document(newest, draft[i]); advance()
        :: true
        fi;
        forget_cas() }
    :: atomic { sent[i] && base[i] != newest -> forget_cas() }
#endif
#ifdef CAS_AMBIGUOUS_BLIND
    :: atomic { sent[i] && status[i] < OVER && known[i] == base[i] ->
        take_document(base[i] + 1, draft[i]); advance(); forget_cas() } /* no answer means yes */
#endif
    :: atomic { sent[i] -> forget_cas() } /* it never arrived */
    /* ---- inputs: the register, reports, evidence */
    :: atomic { status[i] < OVER && known[i] < newest ->
        take_document(newest, committed[newest]); advance() }
    :: atomic { status[i] < OVER && NEWS(i) -> adopt(); advance() }
    :: atomic { status[i] < OVER && heartbeats > 0 && suspects[i] != 0 && !ANY(ACCUSED, i) &&
                ANY(LIVES, i) ->
        heartbeats--; take_back(); advance() }
    :: atomic { MAY_SUSPECT(0) -> suspect(0); advance() }
    :: atomic { MAY_SUSPECT(1) -> suspect(1); advance() }
    :: atomic { MAY_SUSPECT(2) -> suspect(2); advance() }
#if RANKS == 4
    :: atomic { MAY_SUSPECT(3) -> suspect(3); advance() }
#endif
    /* ---- propose */
    :: atomic { status[i] == WEDGED && HAS_DRAINED(i) && !sent[i] && known[i] == newest &&
                reported[i] == known[i] && (!IS_REPAIRING(document[i]) || suspects[i] != 0) &&
                MAY_PROPOSE(i) && (overtakes > 0 || !ANY(ACCUSES, i)) ->
        find_first();
        if
        :: ANY(ACCUSES, i) -> overtakes--
        :: else
        fi;
        if
        :: send(MEMBERS(document[i]) & ~suspects[i], first, 0)
        :: suspects[i] != 0 -> send(MEMBERS(document[i]) & ~suspects[i], first, 1)
        fi;
        first = 0 }
    :: atomic { status[i] == WEDGED && IS_REPAIRING(document[i]) && !filled[i] -> filled[i] = 1 }
    :: atomic { status[i] == WEDGED && !sent[i] && known[i] == newest &&
                IS_REPAIRING(document[i]) && suspects[i] == 0 && !ANY(UNFILLED, i) ->
        send(MEMBERS(document[i]), FIRST(document[i]), 0) }
#if STEPS > 0
    /* ---- steps: begin (a peer's newer step of this view is jumped to), complete, abort */
    :: atomic { status[i] == SERVING && !in_step[i] && step[i] < STEPS ->
        d_step {
            step[i]++;
            j = STEPS;
            do
            :: j > step[i] && PUBLISHED(installed[i], j) == 0 -> j--
            :: else -> break
            od;
            step[i] = j; j = 0;
            in_step[i] = 1;
            PUBLISHED(installed[i], step[i]) = PUBLISHED(installed[i], step[i]) | BIT(i)
        } }
    :: atomic { status[i] != DEAD && in_step[i] &&
                PUBLISHED(installed[i], step[i]) == MEMBERS(committed[installed[i]]) &&
                !ANY(GAVE_UP, i) ->
        complete();
#ifdef TOKENS
        if
        :: has_request[i] && offered[i] == 0 -> offered[i] = position[i] + 1; position[i]++
        :: else
        fi;
#endif
        settle() }
    :: atomic { status[i] != DEAD && in_step[i] ->
        in_step[i] = 0;
        gave_up[i] = installed[i] * 16 + step[i];
#if defined(TOKENS) && defined(ABORT_ADVANCES)
        position[i] = position[i] + has_request[i];
#endif
#if defined(TOKENS) && defined(ABORT_EMITS)
        if
        :: has_request[i] && offered[i] == 0 ->
            offered[i] = position[i] + 1; position[i]++; of_aborted_step[i] = 1
        :: else
        fi;
#endif
        settle() }
#endif
    /* ---- the end, at any moment */
    :: atomic { status[i] != DEAD && crashes > 0 ->
        crashes--;
        status[i] = DEAD; suspects[i] = 0; known[i] = 0; document[i] = 0; filled[i] = 0;
        CLEAR_STEP(i) }
    od
}

#ifdef TOKENS
inline offer(r)
{
    if
#ifdef SINK_ACCEPTS_ALL
    :: true ->
#else
    :: owner == r && offered[r] == next_position + 1 ->
#endif
        assert(offered[r] == next_position + 1); /* each position once, in order */
        assert(!of_aborted_step[r]);             /* S10: an aborted step emits nothing */
        next_position++
#ifndef SINK_ACCEPTS_ALL
    :: else -> assert(owner != r) /* nothing of the owner is lost or doubled */
#endif
    fi;
    offered[r] = 0;
    of_aborted_step[r] = 0
}

/* M9: the launcher reads views and moves the request; the sink accepts an exact match. */
proctype launcher()
{
    byte to = 0;
end:
    do
    :: atomic { read_by_launcher < newest ->
        read_by_launcher = newest;
        if
        :: !(MEMBERS(committed[newest]) & BIT(owner)) ->
            do
            :: MEMBERS(committed[newest]) & BIT(to) -> break
            :: else -> to++
            od;
            owner = to; /* before it is queued again */
            has_request[to] = 1;
            position[to] = next_position;
            to = 0
        :: else
        fi }
    :: atomic { offered[0] != 0 -> offer(0) }
    :: atomic { offered[1] != 0 -> offer(1) }
    :: atomic { offered[2] != 0 -> offer(2) }
    od
}
#endif

/* When nothing more can happen, nobody waits. */
proctype monitor()
{
    byte i = 0;

    timeout;
    do
    :: i < RANKS ->
        if
        :: status[i] != DEAD && status[i] != OVER ->
            assert(status[i] == SERVING && installed[i] == newest)
        :: else
        fi;
        i++
    :: else -> break
    od
}

init {
    byte i = 0;

    atomic {
        committed[1] = DOCUMENT(EVERYBODY, 1, 0);
        do
        :: i < RANKS ->
            known[i] = 1; installed[i] = 1; document[i] = committed[1];
            run rank(i);
            i++
        :: else -> break
        od;
#ifdef TOKENS
        has_request[0] = 1;
        run launcher();
#endif
        run monitor()
    }
}
