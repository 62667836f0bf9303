/* SPDX-License-Identifier: Apache-2.0 */
/* Requests queue, go to the seat with most room, and move on when a seat ends. */
#include "experiments/load/scheduler.h"

#include <stdlib.h>

/* What a seat has; `positions` is what its requests have still to compute. */
typedef struct scheduler_seat {
    uint32_t generation;
    uint32_t num_requests;
    uint64_t positions;
    bool open;
} scheduler_seat;

struct scheduler {
    int num_seats;
    uint32_t max_requests, num_max_requests;
    uint32_t num_requests;
    uint32_t capacity;    /* of `request` */
    uint32_t first_alive; /* all requests before it have ended */
    uint32_t num_queued;
    eep_sink *sink;
    scheduler_request *request;
    scheduler_counts counts;
    scheduler_seat seat[];
};

eep_status scheduler_open(int num_seats, uint32_t max_requests, uint32_t num_max_requests,
                          scheduler **scheduler_out)
{
    if (num_seats < 1 || num_seats > EEP_MAX_RANKS || max_requests == 0 || num_max_requests == 0) {
        return EEP_ERR_INVALID;
    }
    scheduler *self = calloc(1, sizeof *self + (size_t)num_seats * sizeof(scheduler_seat));
    if (!self) {
        return EEP_ERR_NO_MEMORY;
    }
    self->num_seats = num_seats;
    self->max_requests = max_requests;
    self->num_max_requests = num_max_requests;
    eep_status status = eep_sink_open(max_requests, &self->sink);
    if (status != EEP_OK) {
        free(self);
        return status;
    }
    *scheduler_out = self;
    return EEP_OK;
}

void scheduler_close(scheduler *self)
{
    if (!self) {
        return;
    }
    for (uint32_t r = 0; r < self->num_requests; r++) {
        free(self->request[r].tokens);
    }
    free(self->request);
    eep_sink_close(self->sink);
    free(self);
}

static eep_status grow(scheduler *self)
{
    uint32_t capacity = self->capacity ? 2 * self->capacity : 256;
    scheduler_request *bigger = realloc(self->request, capacity * sizeof *bigger);
    if (!bigger) {
        return EEP_ERR_NO_MEMORY;
    }
    self->request = bigger;
    self->capacity = capacity;
    return EEP_OK;
}

eep_status scheduler_add(scheduler *self, uint32_t input_length, uint32_t output_length,
                         double arrival_ms, uint32_t *request_out)
{
    if (input_length == 0 || output_length == 0 || output_length > WIRE_MAX_TOKENS) {
        return EEP_ERR_INVALID;
    }
    if (self->num_requests == self->max_requests) {
        return EEP_ERR_NO_MEMORY;
    }
    if (self->num_requests == self->capacity && grow(self) != EEP_OK) {
        return EEP_ERR_NO_MEMORY;
    }
    uint32_t *tokens = calloc(output_length, sizeof *tokens);
    if (!tokens) {
        return EEP_ERR_NO_MEMORY;
    }
    *request_out = self->num_requests++;
    self->request[*request_out] = (scheduler_request){
        .input_length = input_length,
        .output_length = output_length,
        .arrival_ms = arrival_ms,
        .seat = -1,
        .tokens = tokens,
    };
    self->counts.accepted++;
    self->num_queued++;
    return EEP_OK;
}

static uint64_t positions_of(const scheduler_request *request)
{
    return (uint64_t)request->input_length + request->output_length;
}

void scheduler_seat_open(scheduler *self, int seat, uint32_t generation)
{
    if (seat < 0 || seat >= self->num_seats) {
        return;
    }
    if (self->seat[seat].generation != generation) {
        /* A newer process: whatever its predecessor still owned moves first. */
        (void)scheduler_seat_ended(self, seat, self->seat[seat].generation);
        self->seat[seat] = (scheduler_seat){.generation = generation};
    }
    self->seat[seat].open = true;
}

void scheduler_seat_close(scheduler *self, int seat)
{
    if (seat >= 0 && seat < self->num_seats) {
        self->seat[seat].open = false;
    }
}

/* Take the request off its rank: no rank may emit for it until it is assigned again. */
static void release(scheduler *self, scheduler_request *request)
{
    uint32_t id = (uint32_t)(request - self->request);
    if (eep_sink_revoke(self->sink, id) != EEP_OK) {
        return; /* cannot be: ids are below max_requests */
    }
    scheduler_seat *seat = &self->seat[request->seat];
    seat->num_requests--;
    seat->positions -= positions_of(request);
    request->seat = -1;
    request->generation = 0;
}

int scheduler_seat_ended(scheduler *self, int seat, uint32_t generation)
{
    int moved = 0;
    if (seat < 0 || seat >= self->num_seats || self->seat[seat].generation != generation) {
        return 0;
    }
    self->seat[seat].open = false;
    for (uint32_t r = self->first_alive; r < self->num_requests; r++) {
        scheduler_request *request = &self->request[r];
        if (request->status == REQUEST_RUNNING && request->seat == seat) {
            release(self, request);
            self->num_queued++;
            moved++;
        }
    }
    return moved;
}

/* The seat with the fewest outstanding positions; of equals the lowest. -1: none has room. */
static int best_seat(const scheduler *self)
{
    int best = -1;
    for (int s = 0; s < self->num_seats; s++) {
        const scheduler_seat *seat = &self->seat[s];
        if (!seat->open || seat->num_requests >= self->num_max_requests) {
            continue;
        }
        if (best < 0 || seat->positions < self->seat[best].positions) {
            best = s;
        }
    }
    return best;
}

/* The queue is the unassigned running requests in order of id: what is re-queued is older than
 * what has not been served yet, so it is at the head by itself. */
static scheduler_request *queue_head(scheduler *self)
{
    while (self->first_alive < self->num_requests &&
           self->request[self->first_alive].status != REQUEST_RUNNING) {
        self->first_alive++;
    }
    for (uint32_t r = self->first_alive; r < self->num_requests; r++) {
        scheduler_request *request = &self->request[r];
        if (request->status == REQUEST_RUNNING && request->seat < 0) {
            return request;
        }
    }
    return NULL;
}

bool scheduler_next(scheduler *self, wire_assign *assign_out, int *seat_out)
{
    int seat = self->num_queued ? best_seat(self) : -1;
    scheduler_request *request = seat < 0 ? NULL : queue_head(self);
    if (!request) {
        return false;
    }
    uint32_t id = (uint32_t)(request - self->request);
    uint32_t generation = self->seat[seat].generation;
    if (eep_sink_assign(self->sink, id, seat, generation) != EEP_OK) {
        return false;
    }
    request->seat = seat;
    request->generation = generation;
    request->num_assigned++;
    self->num_queued--;
    self->seat[seat].num_requests++;
    self->seat[seat].positions += positions_of(request);
    *assign_out = (wire_assign){
        .header = {WIRE_ASSIGN,
                   (uint32_t)(sizeof *assign_out + request->num_emitted * sizeof(uint32_t))},
        .request = id,
        .input_length = request->input_length,
        .output_length = request->output_length,
        .num_emitted = eep_sink_next_position(self->sink, id),
    };
    *seat_out = seat;
    return true;
}

eep_status scheduler_token(scheduler *self, int seat, uint32_t generation, const wire_token *token,
                           uint64_t made_ns)
{
    if (token->request >= self->num_requests) {
        return EEP_ERR_INVALID;
    }
    scheduler_request *request = &self->request[token->request];
    eep_status status =
        eep_sink_offer(self->sink, token->request, 0, seat, generation, token->position);
    if (status != EEP_OK) {
        return status;
    }
    request->tokens[request->num_emitted++] = token->token;
    self->counts.tokens_emitted++;
    if (request->last_token_ns && made_ns > request->last_token_ns + request->longest_gap_ns) {
        request->longest_gap_ns = made_ns - request->last_token_ns;
    }
    request->last_token_ns = made_ns;
    if (request->num_emitted == request->output_length) {
        release(self, request);
        request->status = REQUEST_COMPLETED;
        self->counts.completed++;
    }
    return EEP_OK;
}

/* The request if (seat, generation) serves it now. */
static scheduler_request *served_by(scheduler *self, int seat, uint32_t generation, uint32_t id)
{
    if (id >= self->num_requests) {
        return NULL;
    }
    scheduler_request *request = &self->request[id];
    bool is = request->status == REQUEST_RUNNING && request->seat == seat && seat >= 0 &&
              request->generation == generation;
    return is ? request : NULL;
}

void scheduler_fail(scheduler *self, int seat, uint32_t generation, uint32_t id)
{
    scheduler_request *request = served_by(self, seat, generation, id);
    if (request) {
        release(self, request);
        request->status = REQUEST_FAILED;
        self->counts.failed++;
    }
}

void scheduler_hand_back(scheduler *self, int seat, uint32_t generation, uint32_t id)
{
    scheduler_request *request = served_by(self, seat, generation, id);
    if (request) {
        release(self, request);
        self->num_queued++;
    }
}

eep_status scheduler_fail_served(scheduler *self, double now_ms, scheduler_failed *failed_out)
{
    const uint32_t num = self->num_requests; /* without the new ones */
    *failed_out = (scheduler_failed){.first_retry = num};
    for (uint32_t r = self->first_alive; r < num; r++) {
        scheduler_request *request = &self->request[r];
        if (request->status != REQUEST_RUNNING || request->seat < 0) {
            continue;
        }
        uint32_t retry = 0, input = request->input_length, output = request->output_length;
        scheduler_fail(self, request->seat, request->generation, r);
        failed_out->num++;
        failed_out->tokens += request->num_emitted;
        eep_status status = scheduler_add(self, input, output, now_ms, &retry); /* may move all */
        if (status != EEP_OK) {
            return status;
        }
    }
    return EEP_OK;
}

void scheduler_lose_all(scheduler *self)
{
    for (uint32_t r = self->first_alive; r < self->num_requests; r++) {
        scheduler_request *request = &self->request[r];
        if (request->status != REQUEST_RUNNING) {
            continue;
        }
        if (request->seat >= 0) {
            release(self, request);
        } else {
            self->num_queued--;
        }
        request->status = REQUEST_LOST;
        self->counts.lost++;
    }
}

const scheduler_request *scheduler_request_at(const scheduler *self, uint32_t id)
{
    return id < self->num_requests ? &self->request[id] : NULL;
}

int scheduler_activity(const scheduler *self, int seat, uint32_t generation, uint32_t *request_out)
{
    int activity = 0;
    uint32_t max_left = 0;
    for (uint32_t r = self->first_alive; r < self->num_requests; r++) {
        const scheduler_request *request = &self->request[r];
        if (request->status != REQUEST_RUNNING || request->seat != seat ||
            request->generation != generation) {
            continue;
        }
        activity = activity ? activity : 1;
        uint32_t left = request->output_length - request->num_emitted;
        if (request->num_emitted > 0 && left > max_left) {
            activity = 2;
            max_left = left;
            *request_out = r;
        }
    }
    return activity;
}

scheduler_counts scheduler_count(const scheduler *self)
{
    scheduler_counts counts = self->counts;
    counts.queued = self->num_queued;
    counts.running =
        counts.accepted - counts.completed - counts.failed - counts.lost - counts.queued;
    counts.tokens_refused = eep_sink_refused(self->sink);
    return counts;
}

const char *request_status_name(request_status status)
{
    static const char *const names[] = {"running", "completed", "failed", "lost"};
    return names[status];
}
