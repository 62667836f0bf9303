/* SPDX-License-Identifier: Apache-2.0 */
/* The loop of a run: serve, stop, and report. */
#include "experiments/launcher/launcher.h"

#include "experiments/base/monotonic.h"
#include "experiments/base/end_signals.h"
#include "experiments/base/poll_open.h"
#include "experiments/children/descriptor_limit.h"
#include "experiments/children/finish.h"
#include "experiments/launcher/launcher_control.h"
#include "experiments/launcher/launcher_experts.h"
#include "experiments/launcher/launcher_plan.h"
#include "experiments/launcher/launcher_rank.h"
#include "experiments/launcher/launcher_restart.h"
#include "experiments/launcher/launcher_script.h"
#include "experiments/launcher/launcher_setup.h"
#include "experiments/launcher/launcher_verbs.h"
#include "experiments/launcher/launcher_view.h"
#include "experiments/rows/about.h"
#include "experiments/rows/startup.h"
#include "experiments/script/plan_file.h"
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

static const uint64_t STOP_BOUND_NS = 5000000000; /* for ranks to end by themselves, */
static const uint64_t SHUT_BOUND_NS = 1000000000; /* of that to stop serving */
static const uint64_t STATUS_TTY_NS = 200000000, STATUS_PLAIN_NS = 2000000000;
/* timeout(1), and other programs that pass a signal on, send it to the process and to its group.
 * Two signals within this time are one. */
static const uint64_t SAME_SIGNAL_NS = 500000000;
static const double LONGEST_WAIT_MS = 50;
static const double FREEZE_WAIT_MS = 2; /* while a rank is about to stop itself */
static const double TRACE_WAIT_MS = 5;  /* where ranks tell by their traces */

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
    uint64_t period_ns = self->screen.is_tty ? STATUS_TTY_NS : STATUS_PLAIN_NS;
    if (self->options.quiet || now_ns - self->screen.shown_ns < period_ns) {
        return;
    }
    scheduler_counts counts = scheduler_count(self->scheduler);
    double seconds = (double)(now_ns - self->screen.shown_ns) / 1e9;
    double rate = self->screen.shown_ns
                      ? (double)(counts.tokens_emitted - self->screen.shown_tokens) / seconds
                      : 0;
    const record *run = &self->run;
    const record_view *view = launcher_last_view(self);
    char line[LAUNCHER_TEXT_BYTES];
    int bytes = snprintf(line, sizeof line,
                         "%s%6.1f s  %5.0f tok/s  %d/%d ranks  epoch %" PRIu64
                         "  %u outstanding  %u done  %zu faults%s",
                         self->screen.is_tty ? "\r\033[K" : "", launcher_time_ms(self) / 1e3, rate,
                         num_active(self), run->max_ranks, view ? view->epoch : 0,
                         counts.queued + counts.running, counts.completed, run->num_faults,
                         run->start_ns ? (self->screen.is_tty ? "" : "\n")
                                       : (self->screen.is_tty ? "  starting" : "  starting\n"));
    eepi_say(STDOUT_FILENO, line, (size_t)bytes);
    self->screen.shown_ns = now_ns;
    self->screen.shown_tokens = counts.tokens_emitted;
}

/* ---------------------------------------------------------------- the machine */

/* CPU time by now, of the machine and of what the launcher has started: ranks, store and burners.
 */
static bool machine_time_of_run(launcher *self, machine_time *time_out)
{
    const supervisor *ranks = self->ranks;
    size_t num = 0;
    pid_t *pids = malloc((size_t)(self->run.max_ranks + ranks->num_burners + 2) * sizeof *pids);
    if (!pids) {
        return false;
    }
    pids[num++] = ranks->host.pid;
    pids[num++] = store_process_pid(self->store.process);
    for (int s = 0; s < self->run.max_ranks; s++) {
        pids[num++] = ranks->seat[s].pid;
    }
    for (int i = 0; i < ranks->num_burners; i++) {
        pids[num++] = ranks->burners[i];
    }
    bool known = machine_time_now(pids, num, time_out);
    free(pids);
    return known;
}

static void note_machine(launcher *self)
{
    machine_time end;
    if (self->begin.all > 0 && machine_time_of_run(self, &end)) {
        self->run.machine = machine_use_between(&self->begin, &end);
    }
}

/* ---------------------------------------------------------------- the loop */

static void start_serving(launcher *self, uint64_t now_ns)
{
    if (num_active(self) < self->options.num_ranks) {
        return;
    }
    self->run.start_ns = now_ns;
    self->run.load_end_ns = now_ns;
    launcher_note(self, "start", NULL, (uint64_t)self->options.num_ranks);
    launcher_record_cover(self);
    launcher_cool(self);
    if (self->ranks->links || !machine_time_of_run(self, &self->begin)) { /* or of many machines */
        self->begin = (machine_time){0};
    }
}

static double wait_ms(const launcher *self)
{
    double wait = LONGEST_WAIT_MS, now_ms = launcher_time_ms(self);
    if (!self->run.start_ns) {
        return wait;
    }
    wait = fmin(wait, script_wait_ms(&self->options.script, now_ms));
    return fmin(wait, launcher_arrival_wait_ms(self));
}

/* The first signal ends the run in order, a second one at once. */
static void read_signals(launcher *self)
{
    struct signalfd_siginfo signal;
    while (read(self->ending.signal_fd, &signal, sizeof signal) == (ssize_t)sizeof signal) {
        uint64_t time_ns = now_ns();
        if (!self->ending.signal_ns) {
            self->ending.signal_ns = time_ns;
            launcher_interrupt(self, "interrupted by signal %u (%s)%s", signal.ssi_signo,
                               strsignal((int)signal.ssi_signo),
                               self->run.start_ns ? "" : " before it served: there are no rows");
        } else if (time_ns - self->ending.signal_ns > SAME_SIGNAL_NS && !self->ending.at_once) {
            self->ending.at_once = true;
            launcher_complain(self, "interrupted again: ended at once");
        }
    }
}

/* Its signal was taken, and ends no wait for a reader that has stopped. */
static void cut_if_told_to_end(const launcher *self)
{
    if (self->ending.signal_ns) {
        end_signals_cut_stuck();
    }
}

/* Wait for input and take it. Poll entries: signal, store, then socket and process of each seat. */
static void read_input(launcher *self, double longest_ms)
{
    struct pollfd set[2 + 2 * EEP_MAX_RANKS + CONTROL_MAX_FDS];
    static_assert(sizeof set / sizeof set[0] <= POLL_OPEN_MOST, "poll_open takes them all");
    nfds_t num = 0;
    set[num++] = (struct pollfd){.fd = self->ending.signal_fd, .events = POLLIN};
    short store_events =
        eepi_store_client_wants_write(self->store.client) ? POLLIN | POLLOUT : POLLIN;
    set[num++] =
        (struct pollfd){.fd = eepi_store_client_fd(self->store.client), .events = store_events};
    for (int s = 0; s < self->run.max_ranks; s++) {
        supervisor_seat *seat = &self->ranks->seat[s];
        short pending = seat->fd >= 0 && send_queue_is_pending(&seat->send_queue) ? POLLOUT : 0;
        set[num++] = (struct pollfd){.fd = seat->fd, .events = (short)(POLLIN | pending)};
        set[num++] = (struct pollfd){.fd = seat->end_fd, .events = POLLIN};
    }
    struct pollfd *control_set = &set[num];
    launcher_control_fds(self, control_set);
    num += CONTROL_MAX_FDS;
    longest_ms = self->ranks->trace ? fmin(longest_ms, TRACE_WAIT_MS) : longest_ms;
    if (poll_open(set, num, longest_ms) < 0 && errno != EINTR) {
        if (!self->ending.poll_has_failed) {
            launcher_fail(self, "poll: %s", strerror(errno));
        }
        self->ending.poll_has_failed = true;
        return;
    }
    read_signals(self);
    launcher_read_store(self); /* also reconnects by itself */
    for (int s = 0; s < self->run.max_ranks; s++) {
        if (set[2 + 2 * s].revents & POLLOUT && self->ranks->seat[s].fd >= 0) {
            send_queue_flush(&self->ranks->seat[s].send_queue);
        }
        if (set[2 + 2 * s].revents || self->ranks->trace) {
            launcher_read_rank(self, s);
        }
        if (set[3 + 2 * s].revents) {
            launcher_reap(self, s);
        }
    }
    launcher_control_handle(self, control_set);
}

static void serve(launcher *self)
{
    self->progress.moved_ns = now_ns();
    for (;;) {
        bool freezes = launcher_record_freezes(self);
        freezes |= launcher_record_commands(self);
        read_input(self, freezes ? FREEZE_WAIT_MS : wait_ms(self));
        uint64_t time_ns = now_ns();
        if (!self->run.start_ns) {
            start_serving(self, time_ns);
        }
        if (self->run.start_ns) {
            launcher_run_restart(self);
            launcher_run_script(self);
            launcher_run_plan(self);
            launcher_run_load(self, time_ns);
            if (launcher_outstanding(self) >= (uint32_t)num_active(self)) {
                self->run.load_end_ns = time_ns;
            }
        }
        launcher_control_tell(self);
        show_status(self, time_ns);
        if (launcher_is_over(self, time_ns)) {
            break;
        }
    }
    if (self->screen.is_tty && !self->options.quiet) {
        fputs("\r\033[K", stdout);
    }
}

/* A rank that loads its weights or joins hears nothing until it is done, and serves no request. It
 * is killed where the run was cut off. Ranks that are threads end with their process, once none of
 * them serves. */
static void end_loaders(launcher *self)
{
    bool serves = false, loads = false, cut = self->ending.interrupted || self->ending.failed;
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
    if (self->options.threads && loads && !serves) {
        supervisor_kill_host(self->ranks);
    }
}

/* Tell all ranks to stop and give them time; their last counters come in here. */
static void stop(launcher *self)
{
    wire_header message = {WIRE_STOP, sizeof message};
    self->run.end_ns = now_ns();
    self->ending.stopping = true;
    launcher_record_script(self);
    for (int s = 0; s < self->run.max_ranks; s++) {
        supervisor_seat *seat = &self->ranks->seat[s];
        if (self->ranks->trace) {
            (void)trace_reader_tell(&self->ranks->trace[s], &message);
        } else if (seat->fd >= 0 &&
                   send_queue_send(&seat->send_queue, &message, sizeof message) != EEP_OK) {
            launcher_read_rank(self, s); /* it has just ended */
        }
    }
    bool shut = false;
    while (!launcher_nobody_is_left(self) && !self->ending.at_once &&
           now_ns() - self->run.end_ns < STOP_BOUND_NS) {
        end_loaders(self);
        read_input(self, LONGEST_WAIT_MS);
        for (int s = 0; s < self->run.max_ranks; s++) {
            if (self->ranks->seat[s].lives && supervisor_state(self->ranks, s) == 'T') {
                (void)supervisor_signal(self->ranks, s,
                                        SIGKILL); /* a stopped process hears nothing */
            }
        }
        if (!shut && (supervisor_all_have_stopped(self->ranks) ||
                      now_ns() - self->run.end_ns > SHUT_BOUND_NS)) {
            supervisor_shut_all(self->ranks); /* no rank that still serves sees another one end */
            shut = true;
            for (int s = 0; self->ranks->trace && s < self->run.max_ranks; s++) {
                (void)supervisor_signal(self->ranks, s, SIGTERM);
            }
        }
    }
    for (int s = 0; s < self->run.max_ranks; s++) {
        if (self->ranks->seat[s].lives && !self->ending.at_once) {
            launcher_complain(self, "rank %d did not end when told to; it is killed", s);
        }
    }
}

/* ---------------------------------------------------------------- results */

static bool has_written(launcher *self, eep_status status, const char *name)
{
    if (status != EEP_OK) {
        launcher_complain(self, "'%s/%s' cannot be written: %s", self->options.out_dir, name,
                          status == EEP_ERR_SYSTEM ? strerror(errno) : eep_strerror(status));
    }
    return status == EEP_OK;
}

static bool write_rows(launcher *self)
{
    const char *dir = self->out.path;
    rows_failures failed;
    self->run.rows.head = about_head(&self->options);
    eep_status status =
        rows_write(&self->run.rows, self->scheduler, dir, self->run.start_ns, &failed);
    bool good = status == EEP_OK;
    for (int i = 0; i < failed.num; i++) {
        errno = failed.file[i].error;
        (void)has_written(self, status, failed.file[i].name);
    }
    const char *weights = self->options.checkpoint ? "checkpoint" : "seed";
    good &= has_written(self, startup_write(&self->run, weights, dir), "startup.csv");
    if (self->options.plan) {
        good &= has_written(self, plan_write(self->options.plan, dir), "plan.json");
    }
    return good;
}

/* The oracle may take longer than the sender of a signal waits: it is not asked after one. */
static void run_oracle(launcher *self, summary_oracle *oracle)
{
    read_signals(self);
    oracle->interrupted = self->ending.signal_ns != 0;
    if (!oracle->interrupted) {
        finish_run_oracle(self->out.path, self->ending.signal_fd, oracle);
    }
}

static int report(launcher *self)
{
    const char *dir = self->out.path;
    summary_oracle oracle = {0}, *asked = self->options.no_oracle ? NULL : &oracle;
    summary all;
    bool kept = write_rows(self);
    if (kept && asked) {
        run_oracle(self, &oracle);
    }
    eep_status status = summary_compute(&self->run, self->scheduler, &all);
    if (status != EEP_OK) {
        launcher_complain(self, "no summary: %s", eep_strerror(status));
        return 1;
    }
    read_signals(self);
    all.is_restarting = self->options.baseline == OPTIONS_RESTART;
    all.came_to_end = !self->ending.failed && !self->ending.interrupted;
    all.broken = !all.came_to_end || !kept;
    all.broken_why = *self->ending.why ? self->ending.why
                     : kept            ? NULL
                                       : "rows could not be written";
    status = summary_write(&all, asked, &self->options, dir);
    kept &= has_written(self, status, "summary.json");
    cut_if_told_to_end(self);
    end_signals_cut_output(true);
    summary_print(&all, asked);
    fflush(stdout);
    end_signals_cut_output(false);
    read_signals(self);
    bool cut = self->ending.signal_ns && all.came_to_end;
    bool draws = kept && !self->ending.signal_ns && !self->options.no_picture;
    if (draws) {
        finish_draw_timeline(dir, self->ending.signal_fd);
    }
    printf("  %s%s: %s\n",
           kept ? "rows, summary.json, trace.json (ui.perfetto.dev)" : "what could be written",
           draws ? " and picture" : "", self->options.out_dir);
    bool good = summary_is_good(&all, asked) && kept && !cut;
    summary_free(&all);
    return good ? 0 : 1;
}

/* The results of an older run are removed last of all: a run that cannot begin leaves them. */
static bool claim_output(launcher *self)
{
    char error[FINISH_ERROR_BYTES];
    if (!launcher_control_open(self)) {
        return false;
    }
    if (finish_prepare_dir(&self->options, self->out.path, error) != EEP_OK) {
        launcher_complain(self, "%s", error);
        return false;
    }
    return true;
}

int launcher_run(const options *given)
{
    char error[DESCRIPTOR_LIMIT_ERROR_BYTES];
    descriptor_limit_raise();
    if (!descriptor_limit_fits(given, error)) {
        fprintf(stderr, "eep-run: %s\n", error);
        return 2;
    }
    launcher *self = launcher_open(given);
    if (!self) {
        return 2;
    }
    if (!claim_output(self)) {
        launcher_control_close(self, false);
        launcher_close(self);
        return 2;
    }
    if (given->slots_raised) {
        printf("slots: %" PRId64 " per rank and layer, for that many are needed%s\n",
               given->num_slots, given->plan ? " to follow the plan" : " to hold all experts");
    }
    for (int seat = 0; seat < given->num_ranks && !self->ending.failed; seat++) {
        launcher_start_rank(self, seat, false);
    }
    if (!self->ending.failed) {
        serve(self);
    }
    stop(self);
    note_machine(self);
    int code = self->ending.at_once ? 1
               : self->run.start_ns ? report(self)
                                    : (self->ending.interrupted ? 1 : 2); /* 2: never began */
    launcher_control_close(self, code == 0);
    cut_if_told_to_end(self);
    launcher_close(self);
    end_signals_cut_output(true); /* for what is printed last */
    return code;
}
