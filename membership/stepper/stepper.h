/* SPDX-License-Identifier: Apache-2.0 */
/* The step core of one rank: what a rank does between two steps and at a step's end. A pure state
 * machine (must 5): no lock, clock, device or thread. membership/step/step.c and actions.c lock,
 * ask it, and do the device's work; the simulator does the same in virtual time.
 *
 * The rank thread calls begin, end and flip; the service thread the rest; never both at once. Rules
 * in the comments are those of docs/PROTOCOL.md. */
#ifndef EEPI_STEPPER_H
#define EEPI_STEPPER_H

#include "eep/eep.h"
#include "graphs/kernels/table_layout.h"
#include "membership/view/view.h"

enum { EEPI_HISTOGRAM_STEPS = 64 }; /* powers of sqrt 2 of a microsecond */

/* A view as the steps need it; epoch 0: none. */
typedef struct eepi_live {
    uint64_t epoch, digest;
    uint64_t first_step;
    int32_t num_active;
    uint32_t colour, serial; /* of the windows: which memory */
    bool planned;            /* it came by a planned change: joiners are those in `joined` */
    bool leaves;             /* this rank is not in it */
    uint64_t joined[EEPK_SEAT_WORDS];
} eepi_live;

/* The view as rank (seat, generation) sees it; `before[max_ranks]` are the seats that it followed
 * so far (who is new is told from them). */
eepi_live eepi_live_of(const eepi_view *view, int32_t seat, uint32_t generation,
                       const eep_seat *before);

/* What the membership core is to be told, in the order of the fields. */
enum { EEPI_STEP_TIMES = 16 };
typedef struct eepi_step_mail {
    bool flipped, accused, drained;
    bool met_newer;     /* a peer runs an epoch that this rank has not heard of (rule N18) */
    uint32_t num_steps; /* that ended OK, each view's first left out; the last ones took ... */
    uint32_t step_us[EEPI_STEP_TIMES]; /* ... so long: step i at i modulo this */
    uint64_t flipped_digest, flipped_epoch;
    uint64_t accused_step, accused_seats[EEPK_SEAT_WORDS];
    uint64_t drained_step;
} eepi_step_mail;

typedef struct eepi_stepper_config {
    uint64_t step_deadline_us, warmup_deadline_us; /* of one exchange; warm-up: a view's first */
    uint64_t expel_floor_us;
} eepi_stepper_config;

typedef struct eepi_stepper {
    eepi_stepper_config config;
    eepi_live live;      /* what steps run under */
    eepi_live pending;   /* to be flipped to at once */
    eepi_live flipping;  /* the rank thread is making it live just now; epoch 0: nothing */
    eepi_live staged;    /* planned view in the idle bank */
    eepi_live announced; /* committed planned view, told to the others in-band */
    uint64_t flip_due;   /* digest that all members agreed in-band to switch to */
    bool wedged, in_step, flip_is_in_band;
    bool warm;           /* a step under `live` has ended OK here */
    bool must_follow;    /* joiner: the first step is a peer's, never its own */
    uint64_t step;       /* last one begun, or the newest seen */
    uint64_t jump_step;  /* a peer is there; 0: none */
    uint32_t shape;      /* of the last step begun (rule P6) */
    uint32_t due_shape;  /* of step due_step: all who ended the step before agree; else the least */
    uint64_t due_step;   /* 0: the last step did not end OK */
    uint64_t heard_step; /* the newest that a host told of, and the largest shape told with it */
    uint32_t heard_shape;
    bool peers_are_newer; /* the last step met a newer epoch */
    eepi_step_mail mail;
    uint64_t began_us, typical_us; /* of steps that ended OK: a moving average */
    uint64_t expel_us;             /* silence after which a living peer is suspected (rule M5) */
    uint64_t steps_ok, steps_aborted, steps_aborted_by_join, steps_waiting_on_join;
    uint64_t histogram[EEPI_HISTOGRAM_STEPS];
} eepi_stepper;

void eepi_stepper_init(eepi_stepper *stepper, const eepi_stepper_config *config);
/* Take the mail; false: there is none. */
bool eepi_stepper_take_mail(eepi_stepper *stepper, eepi_step_mail *mail_out);

/* ---- what the service thread asks for */

/* Rule M2: no step begins until a view is installed. True: a step is in flight and is to be
 * aborted. DRAINED is in the mail behind the end of that step, or of a flip under way, or at once.
 */
bool eepi_stepper_wedge(eepi_stepper *stepper);
/* The idle bank waits for a flip that is due or under way: nothing else may be written into it. */
bool eepi_stepper_awaits_flip(const eepi_stepper *stepper);
typedef enum eepi_stage_verdict {
    EEPI_STAGE_GO,    /* the idle bank may be written; then eepi_stepper_staged */
    EEPI_STAGE_THERE, /* it holds that view, or that view is live */
    EEPI_STAGE_BUSY,  /* it waits for its own flip */
} eepi_stage_verdict;
/* May the idle bank be written? A plan that comes again is left as it stands, since the rank thread
 * may be about to flip to it; another one is withdrawn first. */
eepi_stage_verdict eepi_stepper_stage(eepi_stepper *stepper, const eepi_live *planned);
void eepi_stepper_staged(eepi_stepper *stepper, const eepi_live *planned);
/* Nobody flips to what the idle bank held: it is about to be written for an install. */
void eepi_stepper_withdraw(eepi_stepper *stepper);
/* The view takes effect from the next step on; `joining`: this rank is new in a planned one. */
void eepi_stepper_install(eepi_stepper *stepper, const eepi_live *view, bool joining);
/* The planned view is committed. */
void eepi_stepper_announce(eepi_stepper *stepper, const eepi_live *view);

/* ---- what the rank thread asks for */

/* The bank that is to be made live before the next step, or NULL. It is under way until
 * eepi_stepper_flipped; meanwhile the device may block, and a wedge may come. A rank that is not in
 * what all others switch to now has left: there is nothing live any more, and it is in the mail. */
const eepi_live *eepi_stepper_flip_to(eepi_stepper *stepper);
/* That bank is live. True: it was agreed on in-band (rule M3). */
bool eepi_stepper_flipped(eepi_stepper *stepper);
/* It could not be made live. */
void eepi_stepper_flip_failed(eepi_stepper *stepper);
/* The newest step that a peer has begun under the live view, by the tags in this rank's window; 0:
 * none newer than its own. */
uint64_t eepi_stepper_peer_step(const eepi_stepper *stepper, const eepk_shape *shape,
                                uint8_t *window);
/* A member's host tells that it begins that step, and has ended `completed` well (rule N3). Its tag
 * waits for this rank to come to that step, so nothing else tells of it. True: the running step
 * cannot complete, and is to be aborted. */
bool eepi_stepper_hear_begin(eepi_stepper *stepper, uint64_t epoch, uint64_t step,
                             uint64_t completed);
/* The largest shape with which a peer has begun the step that this rank began last, by the same
 * tags; EEPI_NO_SHAPE: none has. */
#define EEPI_NO_SHAPE UINT32_MAX
uint32_t eepi_stepper_peer_shape(const eepi_stepper *stepper, const eepk_shape *shape,
                                 uint8_t *window);
/* May a step begin, all flips done? `peer_step` as above. */
bool eepi_stepper_may_begin(const eepi_stepper *stepper, uint64_t peer_step);
/* Would it be wanted even without work? Peers wait in one, or a change of view needs it. */
bool eepi_stepper_wants(const eepi_stepper *stepper, uint64_t peer_step);
/* Begin one: its number is a rendezvous that is never used again (rule D5). */
eepk_launch eepi_stepper_begin(eepi_stepper *stepper, uint64_t peer_step, uint64_t now_us);
/* A member's host tells with which shape it begins that step, before its tags are there (N3). */
void eepi_stepper_hear_shape(eepi_stepper *stepper, uint64_t step, uint32_t shape);
/* The shape of the step that was begun just now (rule P6): what all agreed on in the step before;
 * else that of the peers, or the wanted one, and none below what is known from aborted steps. */
uint32_t eepi_stepper_take_shape(eepi_stepper *stepper, uint32_t wanted, uint32_t peer_shape);
/* It has ended; NULL: its graph was never run or is lost. True: it ended OK. */
bool eepi_stepper_end(eepi_stepper *stepper, const eepk_status *status, uint64_t now_us);
#endif
