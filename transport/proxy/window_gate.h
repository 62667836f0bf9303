/* SPDX-License-Identifier: Apache-2.0 */
/* The gate of a window (rule N1): which messages may be written into it now. Whoever places one
 * enters the gate, checks by its verdict, writes, and leaves. Whoever moves the gate shuts it first
 * and waits until nobody is inside; only then may a rank report, flip, or begin the next step. A
 * flag would not do: a thread that has looked at it may be descheduled and write much later. */
#ifndef EEPI_WINDOW_GATE_H
#define EEPI_WINDOW_GATE_H

#include "eep/status.h"
#include "graphs/kernels/ring_layout.h"

#include <stdbool.h>

typedef struct eepi_window_gate eepi_window_gate;

/* Where a gate stands. Epoch and step are whole numbers, not the truncated ones of tags. */
typedef struct eepi_gate_stand {
    uint64_t epoch, step;
    bool lets_in;           /* false: nothing of this step, as after it was aborted */
    uint32_t generation;    /* of the window's owner: what is meant for another one is void */
    const uint32_t *let_in; /* [max_ranks] generations that may write; 0: nobody of that seat */
} eepi_gate_stand;

typedef enum eepi_gate_verdict {
    EEPI_GATE_ENTERED, /* the caller is inside, and leaves when its write is visible */
    EEPI_GATE_OLDER,   /* of an epoch, a step or a generation that is over */
    EEPI_GATE_NEWER,   /* of an epoch or a step that this window has not come to */
    EEPI_GATE_FOREIGN, /* for another generation of the owner, or from one that is not let in */
} eepi_gate_verdict;

/* It stands at epoch 0 and lets nothing in, and what peers send to that generation of the owner is
 * newer: open it before anybody can know of the window. NULL: out of memory. */
eepi_window_gate *eepi_window_gate_open(uint32_t max_ranks, uint32_t generation);
void eepi_window_gate_close(eepi_window_gate *gate);

/* May this message be written? `proven` is the generation of its source that the connection has
 * proven: what the message says of it must be the same. Words (abort, begin) enter whatever the
 * step, and while the gate is moved. Any thread. */
eepi_gate_verdict eepi_window_gate_enter(eepi_window_gate *gate, const eepk_put *put,
                                         uint32_t proven);
/* By any thread, once the write can be seen by the device that reads the window. */
void eepi_window_gate_leave(eepi_window_gate *gate);

/* Shut the gate, wait until nobody is inside, and let it stand as `to`. EEP_ERR_TIMEOUT: somebody
 * stayed inside; then the gate stays shut where it was, and the caller may neither report nor
 * launch. One mover at a time. */
EEP_MUST_CHECK eep_status eepi_window_gate_move(eepi_window_gate *gate, const eepi_gate_stand *to,
                                                uint64_t timeout_us);
/* Where it stands now. `let_in` points into the gate. The mover's thread. */
eepi_gate_stand eepi_window_gate_stand(const eepi_window_gate *gate);
/* The newest epoch that a message of a member or a newer generation has named: if it is newer than
 * the rank's view, the rank reads the register at once (rule N18). Any thread. */
uint64_t eepi_window_gate_newest_epoch(eepi_window_gate *gate);
#endif
