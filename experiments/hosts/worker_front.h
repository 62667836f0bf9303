/* SPDX-License-Identifier: Apache-2.0 */
/* A worker and its front: what the front orders is done, what ranks say is passed on. One thread.
 */
#ifndef EEPX_WORKER_FRONT_H
#define EEPX_WORKER_FRONT_H

#include "experiments/hosts/worker_stream.h"
#include "experiments/hosts/worker_agent.h"
#include "experiments/hosts/worker_ranks.h"

typedef enum worker_phase {
    WORKER_IDLE,    /* no front; no rank */
    WORKER_GREETED, /* a front is connected and has not said BEGIN, or the agent is not ready */
    WORKER_SERVES,
    WORKER_DRAINS, /* the front is gone: its ranks are told to stop, then cut off, then killed */
    WORKER_ENDS,   /* the front has said END: its ranks are killed */
} worker_phase;

typedef struct worker_front {
    worker_stream stream;
    host_journal journal; /* of both ways, from BEGIN on */
    uint64_t id;          /* of the front */
    uint64_t broken_ns;   /* the connection was reset then; 0: it was not, or was made again */
    worker_phase phase;
    worker_begin begin;
    worker_ranks ranks;
    worker_agent agent;
    bool is_launched;  /* a launcher has started this worker, which ends with its first front */
    bool owns;         /* it has started this worker, which ends with it */
    bool is_over;      /* the worker ends */
    bool is_cut;       /* while it drains: nothing more is sent to any rank */
    uint64_t since_ns; /* in this phase */
    uint64_t look_ns;  /* when states of processes are looked at next */
    uint64_t often_ns; /* until then more often: something may stop or go on */
    uint64_t packet[WIRE_MAX_BYTES / 8];
} worker_front;

void worker_front_init(worker_front *self);
/* A front has proved the key: it is served from here on. The phase is IDLE. */
void worker_front_take(worker_front *self, const worker_stream *stream);
/* The front that is served has proved the key once more: it may go on where the last connection
 * broke. False: there is nothing to go on with. */
bool worker_front_take_again(worker_front *self, const worker_stream *stream);
/* Take what has come from the front, the ranks and the agent, and do what is due. */
void worker_front_step(worker_front *self);
/* The front is gone, for that reason: its ranks begin to end. */
void worker_front_lose(worker_front *self, const char *why);
/* Kill all ranks, end the agent, close. */
void worker_front_close(worker_front *self);
#endif
