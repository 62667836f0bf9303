/* SPDX-License-Identifier: Apache-2.0 */
/* eep-ctl's commands, and the events that its watchers are told. */
#include "experiments/launcher/launcher_control.h"

#include "experiments/base/monotonic.h"
#include "experiments/control/control_path.h"
#include "experiments/base/end_signals.h"
#include "experiments/launcher/launcher_experts.h"
#include "experiments/launcher/launcher_script.h"
#include "experiments/launcher/launcher_status.h"
#include "experiments/launcher/launcher_verbs.h"
#include "graphs/base/descriptors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A rank that starts takes a socket pair, a process descriptor and a connection to the store; what
 * is left must do for those that ask for something meanwhile. */
enum { DESCRIPTORS_OF_START = 8 };
static const uint64_t RATE_PERIOD_NS = 500000000;
static const uint64_t FINISH_JOIN_NS = 2000000000; /* what joiners have after a finish */

typedef struct launcher_control {
    control *socket;
    char path[CONTROL_PATH_BYTES];
    private_dir dir; /* that the socket has for itself, if any */
    size_t num_told; /* events that watchers were told */
    /* Tokens per second: since the older of two samples, taken half a second apart. */
    struct {
        uint64_t time_ns, tokens;
    } sample[2];
} launcher_control;

/* ---------------------------------------------------------------- commands */

/* The verb cannot be done to the seat, now or ever: true, and why. */
static bool refuse_seat(launcher *self, const script_event *event, int seat, bool now, char *error)
{
    const verb_info *info = &verb_table[event->verb];
    if (seat >= self->run.max_ranks) {
        snprintf(error, CONTROL_ERROR_BYTES, "%s: rank %d does not exist: the seats are 0 to %d",
                 info->name, seat, self->run.max_ranks - 1);
        return true;
    }
    const record_process *process = launcher_process_of(self, seat);
    bool lives = self->ranks->seat[seat].lives;
    bool leaves =
        lives && (process->kill_ns || process->die_ns || process->drain_ns || process->expelled_ns);
    if (now && lives && process->kill_ns && !info->wants_free) {
        snprintf(error, CONTROL_ERROR_BYTES, "%s: rank %d is being killed already", info->name,
                 seat);
        return true;
    }
    if (!now || (info->wants_free ? !lives || leaves : lives)) {
        return false;
    }
    snprintf(error, CONTROL_ERROR_BYTES, "%s: rank %d %s", info->name, seat,
             info->wants_free ? "still has its process: kill or drain it first" : "has no process");
    return true;
}

static bool is_for_store(verb action)
{
    return action == VERB_STORE_KILL || action == VERB_STORE_STOP || action == VERB_STORE_CONT ||
           action == VERB_STORE_START;
}

static int seats_done_to(const script_event *event, int seats_out[SCRIPT_MAX_SEATS])
{
    int num = 0;
    for (int i = 0; i < event->num_seats; i++) {
        if (event->progress.seats_applied >> i & 1) {
            seats_out[num++] = event->seat[i];
        }
    }
    return num;
}

/* The event was done to nobody: the ranks that it names have ended since, or its action failed. */
static void refuse_passed_over(const script_event *event, char *error)
{
    const char *name = verb_table[event->verb].name;
    size_t used = (size_t)snprintf(error, CONTROL_ERROR_BYTES,
                                   "%s: there is nobody to do it to: without a process, or being "
                                   "killed, is rank",
                                   name);
    for (int i = 0; i < event->num_seats && used < CONTROL_ERROR_BYTES - 16; i++) {
        used += (size_t)snprintf(error + used, CONTROL_ERROR_BYTES - used, "%s %d", i ? "," : "",
                                 event->seat[i]);
    }
    if (!event->num_seats) {
        snprintf(error, CONTROL_ERROR_BYTES, "%s: it failed; eep-run says why", name);
    }
}

/* Why the store does not take the verb; NULL: it does, or the verb is not for it. */
static const char *store_refuses(launcher *self, verb action, bool now)
{
    if (!is_for_store(action)) {
        return NULL;
    }
    if (!self->options.store_process) {
        return "the store is part of eep-run; start it with --store-process";
    }
    return now ? store_process_refuses(self->store.process, action) : NULL;
}

static bool can_be_placed(const launcher *self, const char *file, char *error)
{
    char why[PLACEMENT_ERROR_BYTES];
    uint64_t number = 0;
    if (self->options.background_mb_s == 0) {
        snprintf(error, CONTROL_ERROR_BYTES,
                 "placement: --background-rate is 0, and so nothing is moved while ranks serve");
        return false;
    }
    if (options_read_placement(&self->options, file, false, &number, why) != EEP_OK) {
        snprintf(error, CONTROL_ERROR_BYTES, "placement: %.480s", why);
        return false;
    }
    return true;
}

/* `now`: without @WHEN, or for a time that has come. True: it can be done, as far as is known. */
static bool is_possible(launcher *self, const script_event *event, bool now, char *error)
{
    const verb_info *info = &verb_table[event->verb];
    if (now && event->delay_ms > 0) {
        snprintf(error, CONTROL_ERROR_BYTES,
                 "%s: %g s is past: the run is at %.3f s; without @WHEN it is done at once",
                 info->name, event->delay_ms / 1e3, launcher_time_ms(self) / 1e3);
        return false;
    }
    for (int i = 0; event->target == TARGET_SEATS && i < event->num_seats; i++) {
        if (refuse_seat(self, event, event->seat[i], now, error)) {
            return false;
        }
    }
    if (event->verb == VERB_PLACEMENT && !can_be_placed(self, event->value.file, error)) {
        return false;
    }
    const char *why = store_refuses(self, event->verb, now);
    if (!options_has_place(&self->options, event)) {
        why = "a step has no second micro-batch (--chains 1)";
    }
    if (self->options.baseline == OPTIONS_RESTART && verb_is_of_elastic(event->verb)) {
        why = "membership is fixed (--baseline restart)";
    }
    char of_hosts[OPTIONS_ERROR_BYTES];
    if (!options_has_hosts(&self->options, event, of_hosts)) {
        snprintf(error, CONTROL_ERROR_BYTES, "%.480s", of_hosts);
        return false;
    }
    if (why) {
        snprintf(error, CONTROL_ERROR_BYTES, "%s: %s", info->name, why);
        return false;
    }
    if (info->wants_free && eepi_descriptors_lack(DESCRIPTORS_OF_START, "starting a rank", error,
                                                  CONTROL_ERROR_BYTES)) {
        return false;
    }
    /* A rank that brings experts back is let in even then: without it nothing is served. */
    bool mends = info->wants_free && now && launcher_uncovered(self) > 0;
    if (self->ending.stopping || (self->ending.finishing && !mends)) {
        snprintf(error, CONTROL_ERROR_BYTES, "the run is finishing: nothing new begins");
        return false;
    }
    return true;
}

static bool append(launcher *self, const script_event *event, char *error)
{
    eep_status status = script_append(&self->options.script, event);
    if (status != EEP_OK) {
        snprintf(error, CONTROL_ERROR_BYTES, "%s: %s", verb_table[event->verb].name,
                 status == EEP_ERR_NOT_FOUND
                     ? "no earlier event of that name and count is left to take its ranks from"
                 : status == EEP_ERR_INVALID
                     ? "too many events are pending: 'pending' lists them, 'cancel' withdraws one"
                     : eep_strerror(status));
    }
    return status == EEP_OK;
}

static bool on_command(void *user, const script_event *event, int seats_out[SCRIPT_MAX_SEATS],
                       int *num_seats_out, int *id_out, char error[CONTROL_ERROR_BYTES])
{
    launcher *self = user;
    const script *events = &self->options.script;
    script_event added = *event;
    double now_ms = launcher_time_ms(self);
    bool now = event->when == WHEN_TIME && event->delay_ms <= now_ms;
    added.delay_ms = now ? now_ms : added.delay_ms;
    if (script_check(event, self->run.max_ranks, error) != EEP_OK ||
        !is_possible(self, event, now, error) || !append(self, &added, error)) {
        return false;
    }
    int index = events->num_events - 1;
    if (self->run.start_ns) {
        launcher_run_script(self);
    }
    const script_event *taken = &events->event[index];
    if (!taken->progress.done) {
        *id_out = taken->order;
    }
    *num_seats_out = seats_done_to(taken, seats_out);
    if (taken->progress.done && !taken->progress.seats_applied) {
        refuse_passed_over(taken, error);
        return false;
    }
    return true;
}

/* Events that are scripted for later are dropped: a trigger that never comes would hold the run up.
 * Stops and slow-downs that have begun are still ended. */
static void finish(void *user)
{
    launcher *self = user;
    script *events = &self->options.script;
    self->ending.finish_ns = self->ending.finishing ? self->ending.finish_ns : now_ns();
    self->ending.finishing = true;
    script_withdraw(events);
}

static bool is_settled(void *user, char why[CONTROL_ERROR_BYTES])
{
    return launcher_status_is_settled(user, why);
}

static double tokens_per_s(const launcher_control *own, uint64_t tokens)
{
    uint64_t since_ns = now_ns() - own->sample[0].time_ns;
    bool known = own->sample[0].time_ns && since_ns;
    return known ? (double)(tokens - own->sample[0].tokens) * 1e9 / (double)since_ns : 0;
}

static void tell_status(void *user, cJSON *answer)
{
    const launcher *self = user;
    uint64_t tokens = scheduler_count(self->scheduler).tokens_emitted;
    launcher_status_tell(self, tokens_per_s(self->control, tokens), answer);
}

static void tell_pending(void *user, cJSON *answer)
{
    launcher_status_tell_pending(user, answer);
}

static bool cancel(void *user, int number, char error[CONTROL_ERROR_BYTES])
{
    launcher *self = user;
    if (script_cancel(&self->options.script, number) == 0) {
        snprintf(error, CONTROL_ERROR_BYTES,
                 "cancel: nothing of number %d is pending; 'pending' lists what is", number);
        return false;
    }
    return true;
}

/* ---------------------------------------------------------------- each round */

/* After a finish no joiner is waited for, unless nothing is served without it: it may hold the only
 * copies of some experts. So does a rank of the first view. The view that lets a joiner in covers
 * all experts at once, and the joiner says a little later that it has joined. */
static void end_joiners(launcher *self)
{
    bool ends = self->ending.finishing && self->run.start_ns && launcher_uncovered(self) == 0 &&
                self->options.baseline != OPTIONS_RESTART; /* there they are no joiners */
    for (int seat = 0; ends && seat < self->run.max_ranks; seat++) {
        const record_process *process = launcher_process_of(self, seat);
        uint64_t from_ns = self->ending.finish_ns;
        from_ns = process && process->spawn_ns > from_ns ? process->spawn_ns : from_ns;
        bool late = now_ns() - from_ns > FINISH_JOIN_NS;
        if (late && process && self->ranks->seat[seat].lives && !process->joined_ns &&
            !process->kill_ns && !launcher_is_member(self, process)) {
            launcher_complain(self, "rank %d has not joined %g s after finish: it is killed", seat,
                              (double)FINISH_JOIN_NS / 1e9);
            (void)launcher_apply(self,
                                 &(script_action){.verb = VERB_KILL, .seat = seat, .order = -1});
            launcher_record_injected(self);
        }
    }
}

static void tell_event(launcher *self, const row_event *row)
{
    char line[512];
    double time_ms = ((double)row->time_ns - (double)self->run.start_ns) / 1e6;
    snprintf(line, sizeof line,
             "{\"event\":\"%s\",\"time_ms\":%.3f,\"seat\":%d,\"generation\":%u,\"about_seat\":%d,"
             "\"about_generation\":%u,\"epoch\":%" PRIu64 ",\"value\":%" PRIu64 "}",
             row->kind, self->run.start_ns ? time_ms : 0, row->seat, row->generation,
             row->about_seat, row->about_generation, row->epoch, row->value);
    control_event(self->control->socket, line);
}

void launcher_control_tell(launcher *self)
{
    launcher_control *own = self->control;
    const rows *seen = &self->run.rows;
    uint64_t time_ns = now_ns();
    if (!own) {
        return;
    }
    end_joiners(self);
    if (control_is_watched(own->socket)) {
        for (size_t i = own->num_told; i < seen->num_events; i++) {
            tell_event(self, &seen->events[i]);
        }
    }
    own->num_told = seen->num_events;
    if (time_ns - own->sample[1].time_ns >= RATE_PERIOD_NS) {
        own->sample[0] = own->sample[1];
        own->sample[1].time_ns = time_ns;
        own->sample[1].tokens = scheduler_count(self->scheduler).tokens_emitted;
    }
}

void launcher_control_fds(const launcher *self, struct pollfd *set_out)
{
    if (self->control) {
        control_fds(self->control->socket, set_out);
        return;
    }
    for (int i = 0; i < CONTROL_MAX_FDS; i++) {
        set_out[i] = (struct pollfd){.fd = -1};
    }
}

void launcher_control_handle(launcher *self, const struct pollfd *set)
{
    if (self->control) {
        control_handle(self->control->socket, set, (double)now_ns() / 1e6);
    }
}

/* ---------------------------------------------------------------- open and close */

bool launcher_control_open(launcher *self)
{
    static const control_ops ops = {on_command, finish,       tell_status,
                                    is_settled, tell_pending, cancel};
    const char *out_dir = self->out.path, *given = self->options.control_path;
    char error[CONTROL_ERROR_BYTES] = "";
    launcher_control *own = calloc(1, sizeof *own);
    if (!own) {
        launcher_complain(self, "out of memory");
        return false;
    }
    /* eep-ctl finds it by the folder's name, which may be longer than the path by descriptor. */
    bool fits = strlen(self->options.out_dir) + sizeof "/control.sock" <= CONTROL_PATH_BYTES;
    eep_status status = given || fits
                            ? control_path_choose(out_dir, given, &own->dir, own->path, error)
                            : control_path_elsewhere(out_dir, &own->dir, own->path, error);
    if (status == EEP_OK) {
        status = control_open(own->path, &ops, self, &own->socket, error);
        if (status == EEP_ERR_SYSTEM && !given) { /* some file systems have no sockets */
            status = control_path_elsewhere(out_dir, &own->dir, own->path, error);
            if (status == EEP_OK) {
                status = control_open(own->path, &ops, self, &own->socket, error);
            }
        }
        if (status != EEP_OK) {
            control_path_forget(out_dir, &own->dir);
        }
    }
    if (status != EEP_OK) {
        launcher_complain(self, "control socket: %s", error);
        free(own);
        return false;
    }
    self->control = own;
    if (!given && strncmp(own->path, out_dir, strlen(out_dir)) != 0) {
        end_signals_cut_output(true);
        printf("control socket: %s\n", own->path);
        fflush(stdout);
        end_signals_cut_output(false);
    }
    return true;
}

void launcher_control_close(launcher *self, bool good)
{
    if (self->control) {
        control_close(self->control->socket, good);
        control_path_forget(self->out.path, &self->control->dir);
        free(self->control);
        self->control = NULL;
    }
}
