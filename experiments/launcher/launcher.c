#include "experiments/launcher/launcher.h"

#include "experiments/launcher/descriptor_limit.h"
#include "experiments/base/end_signals.h"
#include "experiments/launcher/finish.h"
#include "experiments/launcher/launcher_setup.h"
#include "experiments/launcher/launcher_state.h"
#include "experiments/launcher/launcher_verbs.h"
#include "experiments/script/plan_file.h"
#include "experiments/base/poll_open.h"
#include "graphs/base/say.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

static const uint64_t KEEP_BUSY_AFTER_NS = 2000000000;  /* of load after the last join */
static const uint64_t LONGEST_TRIGGER_NS = 10000000000; /* of load for a trigger to come */
static const uint64_t STOP_BOUND_NS = 5000000000;       /* for ranks to end by themselves, */
static const uint64_t SHUT_BOUND_NS = 1000000000;       /* of that to stop serving */
static const uint64_t STATUS_TTY_NS = 200000000, STATUS_PLAIN_NS = 2000000000;
/* timeout(1), and whoever passes a signal on, sends it to the process and to its group: not two. */
static const uint64_t SAME_SIGNAL_NS = 500000000;
static const double LONGEST_WAIT_MS = 50;
static const double FREEZE_WAIT_MS = 2; /* while a rank is about to stop itself */

bool launcher_is_settled(const launcher *self)
{
    for (int seat = 0; seat < self->run.max_ranks; seat++) {
        const record_process *process = launcher_process_of(self, seat);
        if (!process) {
            continue;
        }
        bool member = launcher_is_member(self, process);
        /* A thread that loads ends with its process: a run that is told to finish waits for none.
         */
        bool ends = launcher_control_is_finishing(self) && process->kill_ns && !process->joined_ns;
        bool gone = process->exit_ns || launcher_is_stopped(process) || ends;
        if (!gone && launcher_lacks_room(self, seat, NULL, 0)) {
            continue; /* it serves until there is room, which nobody here makes */
        }
        if (gone ? member : !launcher_is_active(self, seat)) {
            return false;
        }
    }
    return true;
}

/* ---------------------------------------------------------------- requests */

static void accept_request(launcher *self, uint32_t input, uint32_t output)
{
    uint32_t id = 0;
    eep_status status = scheduler_add(self->front, input, output, launcher_time_ms(self), &id);
    if (status != EEP_OK) {
        launcher_fail(self, "a request of %u + %u tokens cannot be taken: %s", input, output,
                      eep_strerror(status));
    }
}

bool launcher_arrivals_are_over(const launcher *self)
{
    return launcher_control_is_finishing(self) || self->num_arrived == self->load.num_requests ||
           (self->how->seconds > 0 && launcher_time_ms(self) >= self->how->seconds * 1e3);
}

/* The closed loop of --keep-busy still runs. It is not kept up for what may never happen. */
bool launcher_keeps_busy(launcher *self, uint64_t now_ns)
{
    bool waits = self->run.start_ns &&
                 script_waits(&self->effective.script, launcher_time_ms(self)) &&
                 launcher_is_settled(self);
    self->waiting_ns = !waits ? 0 : self->waiting_ns ? self->waiting_ns : now_ns;
    if (waits && now_ns - self->waiting_ns > LONGEST_TRIGGER_NS && !launcher_control_serves(self)) {
        return launcher_time_ms(self) < self->how->keep_busy_s * 1e3;
    }
    return self->how->keep_busy > 0 && !launcher_control_is_finishing(self) &&
           (launcher_control_serves(self) || !self->script_done_ns ||
            now_ns < self->script_done_ns + KEEP_BUSY_AFTER_NS ||
            launcher_time_ms(self) < self->how->keep_busy_s * 1e3);
}

uint32_t launcher_outstanding(const launcher *self)
{
    scheduler_counts counts = scheduler_count(self->front);
    return counts.queued + counts.running;
}

static void take_arrivals(launcher *self, uint64_t now_ns)
{
    uint64_t since_us = (now_ns - self->run.start_ns) / 1000;
    while (!launcher_arrivals_are_over(self) && !self->failed &&
           self->load.requests[self->num_arrived].arrival_us <= since_us) {
        const trace_request *request = &self->load.requests[self->num_arrived++];
        accept_request(self, request->input_length, request->output_length);
    }
    while (launcher_keeps_busy(self, now_ns) && !self->failed &&
           self->num_filled < LAUNCHER_MOST_FILLED &&
           launcher_outstanding(self) < (uint32_t)self->how->keep_busy) {
        const trace_request *request =
            &self->filler.requests[self->num_filled++ % self->filler.num_requests];
        accept_request(self, request->input_length, request->output_length);
    }
}

static void hand_out(launcher *self)
{
    wire_assign assign;
    int seat = -1;
    while (scheduler_next(self->front, &assign, &seat)) {
        char *message = (char *)self->packet; /* nothing is being read now */
        const scheduler_request *request = scheduler_request_at(self->front, assign.request);
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

/* ---------------------------------------------------------------- status */

static int num_active(const launcher *self)
{
    int num = 0;
    for (int seat = 0; seat < self->run.max_ranks; seat++) {
        num += launcher_is_active(self, seat);
    }
    return num;
}

static void show_status(launcher *self, uint64_t now_ns)
{
    uint64_t period_ns = self->is_tty ? STATUS_TTY_NS : STATUS_PLAIN_NS;
    if (self->how->quiet || now_ns - self->status_ns < period_ns) {
        return;
    }
    scheduler_counts counts = scheduler_count(self->front);
    double seconds = (double)(now_ns - self->status_ns) / 1e9;
    double rate =
        self->status_ns ? (double)(counts.tokens_emitted - self->status_tokens) / seconds : 0;
    const record *run = &self->run;
    char line[LAUNCHER_TEXT_BYTES];
    int bytes = snprintf(line, sizeof line,
                         "%s%6.1f s  %5.0f tok/s  %d/%d ranks  epoch %" PRIu64
                         "  %u outstanding  %u done  %zu faults%s",
                         self->is_tty ? "\r\033[K" : "", launcher_time_ms(self) / 1e3, rate,
                         num_active(self), run->max_ranks,
                         run->num_views ? run->views[run->num_views - 1].epoch : 0,
                         counts.queued + counts.running, counts.completed, run->num_faults,
                         run->start_ns ? (self->is_tty ? "" : "\n")
                                       : (self->is_tty ? "  starting" : "  starting\n"));
    eepi_say(STDOUT_FILENO, line, (size_t)bytes);
    self->status_ns = now_ns;
    self->status_tokens = counts.tokens_emitted;
}

/* ---------------------------------------------------------------- the loop */

static void start_serving(launcher *self, uint64_t now_ns)
{
    if (num_active(self) < self->how->num_ranks) {
        return;
    }
    self->run.start_ns = now_ns;
    self->run.load_end_ns = now_ns;
    launcher_note(self, "start", NULL, (uint64_t)self->how->num_ranks);
    launcher_note_start(self);
}

static double wait_ms(const launcher *self)
{
    double wait = LONGEST_WAIT_MS, now_ms = launcher_time_ms(self);
    if (!self->run.start_ns) {
        return wait;
    }
    wait = fmin(wait, script_wait_ms(&self->effective.script, now_ms));
    if (!launcher_arrivals_are_over(self)) {
        double due = (double)self->load.requests[self->num_arrived].arrival_us / 1e3 - now_ms;
        wait = fmin(wait, fmax(due, 0));
    }
    return wait;
}

/* The first signal ends the run in order, a second one at once. */
static void take_signals(launcher *self)
{
    struct signalfd_siginfo signal;
    while (read(self->signal_fd, &signal, sizeof signal) == (ssize_t)sizeof signal) {
        uint64_t now_ns = launcher_now_ns();
        if (!self->signal_ns) {
            self->signal_ns = now_ns;
            launcher_interrupt(self, "interrupted by signal %u (%s)%s", signal.ssi_signo,
                               strsignal((int)signal.ssi_signo),
                               self->run.start_ns ? "" : " before it served: there are no rows");
        } else if (now_ns - self->signal_ns > SAME_SIGNAL_NS && !self->at_once) {
            self->at_once = true;
            launcher_complain(self, "interrupted again: ended at once");
        }
    }
}

/* Wait for input and take it. Poll entries: signal, store, then socket and process of each seat. */
static void take_input(launcher *self, double longest_ms)
{
    struct pollfd set[2 + 2 * EEP_MAX_RANKS + CONTROL_MAX_FDS];
    static_assert(sizeof set / sizeof set[0] <= POLL_OPEN_MOST, "poll_open takes them all");
    nfds_t num = 0;
    set[num++] = (struct pollfd){.fd = self->signal_fd, .events = POLLIN};
    short store_events = eepi_store_client_wants_write(self->client) ? POLLIN | POLLOUT : POLLIN;
    set[num++] = (struct pollfd){.fd = eepi_store_client_fd(self->client), .events = store_events};
    for (int s = 0; s < self->run.max_ranks; s++) {
        supervisor_seat *seat = &self->ranks->seat[s];
        short pending = seat->fd >= 0 && send_queue_is_pending(&seat->send_queue) ? POLLOUT : 0;
        set[num++] = (struct pollfd){.fd = seat->fd, .events = (short)(POLLIN | pending)};
        set[num++] = (struct pollfd){.fd = seat->end_fd, .events = POLLIN};
    }
    struct pollfd *control_set = &set[num];
    launcher_control_fds(self, control_set);
    num += CONTROL_MAX_FDS;
    if (poll_open(set, num, longest_ms) < 0 && errno != EINTR) {
        if (!self->poll_has_failed) {
            launcher_fail(self, "poll: %s", strerror(errno));
        }
        self->poll_has_failed = true;
        return;
    }
    take_signals(self);
    launcher_read_store(self); /* also reconnects by itself */
    for (int s = 0; s < self->run.max_ranks; s++) {
        if (set[2 + 2 * s].revents & POLLOUT && self->ranks->seat[s].fd >= 0) {
            send_queue_flush(&self->ranks->seat[s].send_queue);
        }
        if (set[2 + 2 * s].revents) {
            launcher_read_rank(self, s);
        }
        if (set[3 + 2 * s].revents) {
            launcher_reap(self, s);
        }
    }
    launcher_control_take(self, control_set);
}

static void serve(launcher *self)
{
    uint64_t progress = 0, progress_ns = launcher_now_ns();
    for (;;) {
        bool freezes = launcher_saw_stopped(self);
        take_input(self, freezes ? FREEZE_WAIT_MS : wait_ms(self));
        uint64_t now_ns = launcher_now_ns();
        if (!self->run.start_ns) {
            start_serving(self, now_ns);
        }
        if (self->run.start_ns) {
            launcher_run_script(self);
            launcher_run_plan(self);
            take_arrivals(self, now_ns);
            hand_out(self);
            if (launcher_outstanding(self) >= (uint32_t)num_active(self)) {
                self->run.load_end_ns = now_ns;
            }
        }
        launcher_control_tell(self);
        show_status(self, now_ns);
        if (launcher_is_over(self, now_ns, &progress, &progress_ns)) {
            break;
        }
    }
    if (self->is_tty && !self->how->quiet) {
        fputs("\r\033[K", stdout);
    }
}

/* A rank that loads its weights or joins hears nothing until it is done, and serves nobody: it is
 * killed where the run was cut off, or was before. Threads end with their process, once none of
 * them serves. */
static void end_loaders(launcher *self)
{
    bool serves = false, loads = false, cut = self->interrupted || self->failed;
    for (int s = 0; s < self->run.max_ranks; s++) {
        record_process *process = launcher_process_of(self, s);
        if (!process || !self->ranks->seat[s].lives) {
            continue;
        }
        serves |= process->joined_ns != 0;
        if (cut && !process->joined_ns && !process->kill_ns) {
            process->kill_ns = supervisor_signal(self->ranks, s, SIGKILL);
        }
        loads |= !process->joined_ns && process->kill_ns;
    }
    if (self->how->threads && loads && !serves) {
        supervisor_kill_host(self->ranks);
    }
}

/* Tell all ranks to stop and give them time; their last counters come in here. */
static void stop(launcher *self)
{
    wire_header message = {WIRE_STOP, sizeof message};
    self->run.end_ns = launcher_now_ns();
    self->stopping = true;
    launcher_record_script(self);
    for (int s = 0; s < self->run.max_ranks; s++) {
        supervisor_seat *seat = &self->ranks->seat[s];
        if (seat->fd >= 0 &&
            send_queue_send(&seat->send_queue, &message, sizeof message) != EEP_OK) {
            launcher_read_rank(self, s); /* it has just ended */
        }
    }
    bool shut = false;
    while (!launcher_nobody_is_left(self) && !self->at_once &&
           launcher_now_ns() - self->run.end_ns < STOP_BOUND_NS) {
        end_loaders(self);
        take_input(self, LONGEST_WAIT_MS);
        for (int s = 0; s < self->run.max_ranks; s++) {
            if (self->ranks->seat[s].lives && supervisor_state(self->ranks, s) == 'T') {
                (void)supervisor_signal(self->ranks, s, SIGKILL); /* it cannot hear us */
            }
        }
        if (!shut && (supervisor_all_have_stopped(self->ranks) ||
                      launcher_now_ns() - self->run.end_ns > SHUT_BOUND_NS)) {
            supervisor_shut_all(self->ranks); /* none sees another go that still serves */
            shut = true;
        }
    }
    for (int s = 0; s < self->run.max_ranks; s++) {
        if (self->ranks->seat[s].lives && !self->at_once) {
            launcher_complain(self, "rank %d did not end when told to; it is killed", s);
        }
    }
}

/* ---------------------------------------------------------------- results */

static bool has_written(launcher *self, eep_status status, const char *name)
{
    if (status != EEP_OK) {
        launcher_complain(self, "'%s/%s' cannot be written: %s", self->how->out_dir, name,
                          status == EEP_ERR_SYSTEM ? strerror(errno) : eep_strerror(status));
    }
    return status == EEP_OK;
}

static bool write_rows(launcher *self)
{
    const char *dir = self->out.path;
    rows_failures failed;
    eep_status status = rows_write(&self->run.rows, self->front, dir, self->run.start_ns, &failed);
    bool good = status == EEP_OK;
    for (int i = 0; i < failed.num; i++) {
        errno = failed.file[i].error;
        (void)has_written(self, status, failed.file[i].name);
    }
    if (self->how->plan) {
        good &= has_written(self, plan_write(self->how->plan, dir), "plan.json");
    }
    return good;
}

/* It may take longer than whoever sends a signal waits for us, so not after one. */
static void run_oracle(launcher *self, summary_oracle *oracle)
{
    take_signals(self);
    oracle->interrupted = self->signal_ns != 0;
    if (!oracle->interrupted) {
        finish_run_oracle(self->out.path, self->signal_fd, oracle);
    }
}

static int report(launcher *self)
{
    const char *dir = self->out.path;
    summary_oracle oracle = {0}, *asked = self->how->no_oracle ? NULL : &oracle;
    summary all;
    bool kept = write_rows(self);
    if (kept && asked) {
        run_oracle(self, &oracle);
    }
    eep_status status = summary_compute(&self->run, self->front, &all);
    if (status != EEP_OK) {
        launcher_complain(self, "no summary: %s", eep_strerror(status));
        return 1;
    }
    take_signals(self);
    all.came_to_end = !self->failed && !self->interrupted;
    all.broken = !all.came_to_end || !kept;
    all.broken_why = *self->why ? self->why : kept ? NULL : "rows could not be written";
    status = summary_write(&all, asked, self->how, dir);
    kept &= has_written(self, status, "summary.json");
    end_signals_cut_output(true);
    summary_print(&all, asked);
    fflush(stdout);
    end_signals_cut_output(false);
    take_signals(self);
    bool cut = self->signal_ns && all.came_to_end;
    bool draws = kept && !self->signal_ns && !self->how->no_picture;
    if (draws) {
        finish_draw_timeline(dir, self->signal_fd);
    }
    printf("  %s%s: %s\n",
           kept ? "rows, summary.json, trace.json (ui.perfetto.dev)" : "what could be written",
           draws ? " and picture" : "", self->how->out_dir);
    bool good = summary_is_good(&all, asked) && kept && !cut;
    summary_free(&all);
    return good ? 0 : 1;
}

/* What an older run left goes last of all: a run that cannot begin leaves it as it was. */
static bool take_over(launcher *self)
{
    char error[FINISH_ERROR_BYTES];
    if (!launcher_control_open(self)) {
        return false;
    }
    if (finish_prepare_dir(self->how, self->out.path, error) != EEP_OK) {
        launcher_complain(self, "%s", error);
        return false;
    }
    return true;
}

int launcher_run(const options *how)
{
    char error[DESCRIPTOR_LIMIT_ERROR_BYTES];
    descriptor_limit_raise();
    if (!descriptor_limit_fits(how, error)) {
        fprintf(stderr, "eep-run: %s\n", error);
        return 2;
    }
    launcher *self = launcher_open(how);
    if (!self) {
        return 2;
    }
    if (!take_over(self)) {
        launcher_control_close(self, false);
        launcher_close(self);
        return 2;
    }
    if (how->slots_raised) {
        printf("slots: %" PRId64 " per rank and layer, for that many are needed%s\n",
               how->num_slots, how->plan ? " to follow the plan" : " to hold all experts");
    }
    for (int seat = 0; seat < how->num_ranks && !self->failed; seat++) {
        launcher_start_rank(self, seat, false);
    }
    if (!self->failed) {
        serve(self);
    }
    stop(self);
    launcher_note_machine(self);
    int code = self->at_once        ? 1
               : self->run.start_ns ? report(self)
                                    : (self->interrupted ? 1 : 2); /* 2: never began */
    launcher_control_close(self, code == 0);
    launcher_close(self);
    end_signals_cut_output(true); /* for what is printed last */
    return code;
}
