/* SPDX-License-Identifier: Apache-2.0 */
/* The requests of the run: those that arrive, those that --keep-busy adds, and their way to ranks.
 */
#include "experiments/launcher/launcher_load.h"

#include "experiments/launcher/launcher_settled.h"
#include "experiments/launcher/launcher_state.h"

#include <math.h>
#include <string.h>

static const uint64_t KEEP_BUSY_AFTER_NS = 2000000000;  /* of load after the last join */
static const uint64_t LONGEST_TRIGGER_NS = 10000000000; /* of load for a trigger to come */

static void accept_request(launcher *self, uint32_t input, uint32_t output)
{
    uint32_t id = 0;
    eep_status status = scheduler_add(self->scheduler, input, output, launcher_time_ms(self), &id);
    if (status != EEP_OK) {
        launcher_fail(self, "a request of %u + %u tokens cannot be taken: %s", input, output,
                      eep_strerror(status));
    }
}

bool launcher_arrivals_are_over(const launcher *self)
{
    return self->ending.finishing || self->load.num_arrived == self->load.arrivals.num_requests ||
           (self->options.seconds > 0 && launcher_time_ms(self) >= self->options.seconds * 1e3);
}

double launcher_arrival_wait_ms(const launcher *self)
{
    if (launcher_arrivals_are_over(self)) {
        return HUGE_VAL;
    }
    double due_ms = (double)self->load.arrivals.requests[self->load.num_arrived].arrival_us / 1e3;
    return fmax(due_ms - launcher_time_ms(self), 0);
}

bool launcher_keeps_busy(launcher *self, uint64_t now_ns)
{
    bool waits = self->run.start_ns &&
                 script_waits(&self->options.script, launcher_time_ms(self)) &&
                 launcher_is_settled(self);
    self->load.waiting_ns = !waits ? 0 : self->load.waiting_ns ? self->load.waiting_ns : now_ns;
    if (waits && now_ns - self->load.waiting_ns > LONGEST_TRIGGER_NS && !launcher_serves_on(self)) {
        return launcher_time_ms(self) < self->options.keep_busy_s * 1e3;
    }
    return self->options.keep_busy > 0 && !self->ending.finishing &&
           (launcher_serves_on(self) || !self->progress.script_done_ns ||
            now_ns < self->progress.script_done_ns + KEEP_BUSY_AFTER_NS ||
            launcher_time_ms(self) < self->options.keep_busy_s * 1e3);
}

uint32_t launcher_outstanding(const launcher *self)
{
    scheduler_counts counts = scheduler_count(self->scheduler);
    return counts.queued + counts.running;
}

static void accept_arrivals(launcher *self, uint64_t now_ns)
{
    uint64_t since_us = (now_ns - self->run.start_ns) / 1000;
    while (!launcher_arrivals_are_over(self) && !self->ending.failed &&
           self->load.arrivals.requests[self->load.num_arrived].arrival_us <= since_us) {
        const trace_request *request = &self->load.arrivals.requests[self->load.num_arrived++];
        accept_request(self, request->input_length, request->output_length);
    }
    while (launcher_keeps_busy(self, now_ns) && !self->ending.failed &&
           self->load.num_filled < LAUNCHER_MAX_FILLED &&
           launcher_outstanding(self) < (uint32_t)self->options.keep_busy) {
        const trace_request *request =
            &self->load.filler.requests[self->load.num_filled++ % self->load.filler.num_requests];
        accept_request(self, request->input_length, request->output_length);
    }
}

static void assign_requests(launcher *self)
{
    wire_assign assign;
    int seat = -1;
    while (scheduler_next(self->scheduler, &assign, &seat)) {
        char *message = (char *)self->packet; /* nothing is being read now */
        const scheduler_request *request = scheduler_request_at(self->scheduler, assign.request);
        memcpy(message, &assign, sizeof assign);
        memcpy(message + sizeof assign, request->tokens, request->num_emitted * sizeof(uint32_t));
        /* To a rank that has just ended: its end moves the request on. */
        eep_status status = EEP_ERR_UNREACHABLE;
        if (self->ranks->seat[seat].fd >= 0) {
            status =
                send_queue_send(&self->ranks->seat[seat].send_queue, message, assign.header.bytes);
        }
        if (status == EEP_ERR_NO_MEMORY) {
            launcher_fail(self, "out of memory");
        }
    }
}

void launcher_run_load(launcher *self, uint64_t now_ns)
{
    accept_arrivals(self, now_ns);
    assign_requests(self);
}
