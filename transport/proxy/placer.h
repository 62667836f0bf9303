/* SPDX-License-Identifier: Apache-2.0 */
/* Places what comes over a network into this rank's window, in the place of the stores that a
 * peer's kernels would make (rules N1 to N5). A network calls eepi_placer_place for each message,
 * from any number of threads and in any order that rule N3 allows, twice if it likes; the rank
 * moves the gate.
 *
 *     message -> well-formed? -> gate -+- entered -> each piece once -> write -> tag, if all are
 * there
 *                                      +- newer   -> parked until the gate has come there
 *                                      +- older, foreign: dropped and counted
 *
 * Why newer ones are parked and never dropped: nobody sends them again, and a peer may be a step or
 * a view ahead of this rank without fault. Only dispatch of layer 0 can be that far: all that
 * follows it needs this rank's own tag. */
#ifndef EEPI_PLACER_H
#define EEPI_PLACER_H

#include "graphs/kernels/placing_layout.h"
#include "transport/proxy/window_gate.h"

typedef struct eepi_placer eepi_placer;

/* How a window is written, and who hears of begins. */
typedef struct eepi_placer_ops {
    void (*rows)(void *user, uint64_t offset, const void *bytes, uint32_t num_bytes);
    /* Returns once the device that reads the window can see it. */
    void (*word)(void *user, uint64_t offset, uint64_t value);
    /* A peer begins that step with put->shape, and has ended put->completed well. Never parked.
     * NULL: nobody hears
     */
    void (*begin)(void *listener, const eepk_put *put);
    void *listener;
    /* Where rows for that offset are written by plain stores, in place of `rows`. NULL: nowhere */
    void *(*where)(void *user, uint64_t offset);
    /* What `rows` or the caller has written for these puts, at most EEPI_PLACER_AT_ONCE, is on its
     * way: returns once the device that reads the window can see it (rule N4). Until then whoever
     * writes is inside the gate (rule N1). False: it never will; the device has failed. NULL: what
     * is written is seen */
    bool (*settle)(void *user, const eepk_put *const *put, uint32_t num);
} eepi_placer_ops;
enum { EEPI_PLACER_AT_ONCE = EEPK_PLACE_AT_ONCE };

/* A window that host threads can write; `user` is its address. It tells nobody of begins. */
extern const eepi_placer_ops eepi_placer_host_ops;

typedef enum eepi_placed {
    EEPI_PLACED,
    EEPI_PLACED_PARKED,
    EEPI_PLACED_DOUBLED,   /* that piece or word is there already, or under way */
    EEPI_PLACED_OLDER,     /* of a view, a step, a generation or an exchange that is over */
    EEPI_PLACED_FOREIGN,   /* for or from a generation that the gate does not let in */
    EEPI_PLACED_MALFORMED, /* no rank of this version sends that */
    EEPI_PLACED_LOST,      /* this rank's device has failed, and does not take it */
    EEPI_NUM_PLACED,
} eepi_placed;

/* `shape` and `generation` are the window owner's; the ops are copied. The gate is
 * eepi_window_gate_open's: what comes before the first move is parked. NULL: out of memory. */
eepi_placer *eepi_placer_open(const eepk_shape *shape, uint32_t generation,
                              const eepi_placer_ops *ops, void *user);
/* Nobody places any more. */
void eepi_placer_close(eepi_placer *placer);

/* `put` as it came, and its bytes, which are read before this returns. `proven` is the generation
 * of the source that the connection has proven (rule N2). Any thread. */
eepi_placed eepi_placer_place(eepi_placer *placer, const eepk_put *put, const void *bytes,
                              uint32_t proven);
/* Rows without a copy: the caller writes the bytes of `put` to `*to_out` itself, and is inside the
 * gate until eepi_placer_end. So it waits for nothing meanwhile. Anything but EEPI_PLACED: it may
 * not, and neither is it inside nor was anything counted. The bytes are then for eepi_placer_place.
 * Any thread. */
eepi_placed eepi_placer_begin(eepi_placer *placer, const eepk_put *put, uint32_t proven,
                              void **to_out);
/* Of `num` pieces that were begun, at most EEPI_PLACER_AT_ONCE of one source, the first `num_whole`
 * are written. Those behind are not: none is placed, and whoever has the rest of one begins it
 * again. */
void eepi_placer_end(eepi_placer *placer, const eepk_put *const *put, uint32_t num,
                     uint32_t num_whole);
/* A piece of which some bytes were written, and whose rest may not be: it ended so. */
void eepi_placer_give_up(eepi_placer *placer, eepi_placed how);
/* Move the gate (eepi_window_gate_move), then place what was parked for where it stands now. Before
 * a step is launched: to that step. After a step that did not end well, and before a report: to a
 * stand that lets nothing in. */
EEP_MUST_CHECK eep_status eepi_placer_move(eepi_placer *placer, const eepi_gate_stand *to,
                                           uint64_t timeout_us);
/* Place elsewhere from now on: in the window of the view's colour (rule P7). Between a move that
 * shuts the gate and the next one: then no rows are on their way, and once that move is made no
 * word is either. The mover's thread. */
void eepi_placer_set_user(eepi_placer *placer, void *user);
eepi_window_gate *eepi_placer_gate(eepi_placer *placer);
/* How many messages ended so. Any thread. */
uint64_t eepi_placer_count(const eepi_placer *placer, eepi_placed how);
#endif
