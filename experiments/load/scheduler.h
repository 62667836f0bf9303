/* SPDX-License-Identifier: Apache-2.0 */
/* The front scheduler: which rank serves which request, and what every request has emitted.
 *
 * Pure (no clock, no socket); it owns the token sink, so a request's owner changes in the sink
 * before the request is handed to another rank (rule M9). One thread owns a scheduler. */
#ifndef EEPX_SCHEDULER_H
#define EEPX_SCHEDULER_H

#include "eep/sink.h"
#include "experiments/wire/wire.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct scheduler scheduler;

typedef enum request_status {
    REQUEST_RUNNING,   /* queued or on a rank */
    REQUEST_COMPLETED, /* all output_length tokens are emitted */
    REQUEST_FAILED,    /* ended with an explicit error */
    REQUEST_LOST,      /* the run ended without a rank that could serve it */
} request_status;

typedef struct scheduler_request {
    uint32_t input_length, output_length;
    double arrival_ms;
    request_status status;
    int32_t seat;        /* the rank that serves it now; -1: it waits in the queue */
    uint32_t generation; /* of that seat */
    uint32_t num_emitted;
    uint32_t num_assigned; /* times it was handed to a rank; > 1: it was re-queued */
    uint32_t *tokens;      /* [num_emitted], room for output_length */
    uint64_t last_token_ns, longest_gap_ns;
} scheduler_request;

typedef struct scheduler_counts {
    uint32_t accepted, completed, failed, lost; /* accepted: all that were ever added */
    uint32_t queued;                            /* waiting for a rank */
    uint32_t running;                           /* on a rank */
    uint64_t tokens_emitted, tokens_refused;
} scheduler_counts;

/* What scheduler_fail_served has ended. */
typedef struct scheduler_failed {
    uint32_t num;         /* requests */
    uint32_t first_retry; /* the id of the first new one; the others follow it */
    uint64_t tokens;      /* that the failed ones had emitted */
} scheduler_failed;

/* A scheduler for `num_seats` seats that takes up to `max_requests` requests and gives a rank at
 * most `num_max_requests` at once. EEP_ERR_INVALID, EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status scheduler_open(int num_seats, uint32_t max_requests,
                                         uint32_t num_max_requests, scheduler **scheduler_out);
void scheduler_close(scheduler *self);

/* A new request at the end of the queue; ids count from 0. EEP_ERR_NO_MEMORY beyond max_requests,
 * EEP_ERR_INVALID for a length of 0 or an output_length over WIRE_MAX_TOKENS. */
EEP_MUST_CHECK eep_status scheduler_add(scheduler *self, uint32_t input_length,
                                        uint32_t output_length, double arrival_ms,
                                        uint32_t *request_out);

/* (seat, generation) is in the view and takes requests from now on. */
void scheduler_seat_open(scheduler *self, int seat, uint32_t generation);
/* No new requests for the seat (its process has ended or retires); it keeps what it has. */
void scheduler_seat_close(scheduler *self, int seat);
/* (seat, generation) will emit nothing more that counts: its requests lose their owner in the sink
 * and go to the head of the queue, oldest first. What it had sent must have been offered before.
 * Returns how many requests moved. */
int scheduler_seat_ended(scheduler *self, int seat, uint32_t generation);

/* The next queued request and the rank for it: the open seat with the fewest outstanding positions
 * that has room. True: it is assigned (in the sink as well) and *assign_out is the message to send
 * to *seat_out, with scheduler_request_at(...)->tokens behind it. False: nothing to assign. */
bool scheduler_next(scheduler *self, wire_assign *assign_out, int *seat_out);

/* A token arrived from (seat, generation), which had made it at `made_ns`. EEP_OK: it is emitted.
 * EEP_ERR_CONFLICT, EEP_ERR_INVALID: refused and counted. A request that reached its output_length
 * is completed. */
EEP_MUST_CHECK eep_status scheduler_token(scheduler *self, int seat, uint32_t generation,
                                          const wire_token *token, uint64_t made_ns);
/* The rank ends the request with an error, or gives it back for another rank. Ignored unless
 * (seat, generation) serves it. */
void scheduler_fail(scheduler *self, int seat, uint32_t generation, uint32_t request);
void scheduler_hand_back(scheduler *self, int seat, uint32_t generation, uint32_t request);
/* Every rank is gone, and with it what it knew of its requests: each request that a rank serves
 * ends with an error, and its client sends another one of the same lengths, which goes to the end
 * of the queue (after arXiv 2605.10670, "requests in flight fail and are retried by the client").
 * What waits for a rank stays. EEP_ERR_NO_MEMORY: there is no room for all of the new ones. */
EEP_MUST_CHECK eep_status scheduler_fail_served(scheduler *self, double now_ms,
                                                scheduler_failed *failed_out);
/* Nobody is left to serve: everything that is not ended is lost. */
void scheduler_lose_all(scheduler *self);

/* NULL for an unknown id; valid until the next scheduler_add. */
const scheduler_request *scheduler_request_at(const scheduler *self, uint32_t request);
/* What (seat, generation) does now: 0 idle, 1 serves without a decoding request, 2 decodes; then
 * *request_out is the decoding request with most tokens to come. */
int scheduler_activity(const scheduler *self, int seat, uint32_t generation, uint32_t *request_out);
scheduler_counts scheduler_count(const scheduler *self);
const char *request_status_name(request_status status);
#endif
