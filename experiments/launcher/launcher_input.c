/* What the launcher hears: from ranks, from the store, from ended processes. */
#include "experiments/base/exec_or_tell.h"
#include "experiments/launcher/launcher_state.h"
#include "experiments/rank/rank.h"
#include "graphs/base/say.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A rank that was stopped, and is no more, may be expelled for it so much later. */
static const uint64_t STRUCK_NS = 5000000000;

uint64_t launcher_now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

double launcher_time_ms(const launcher *self)
{
    return self->run.start_ns ? (double)(launcher_now_ns() - self->run.start_ns) / 1e6 : 0;
}

/* The first reason why a run fails is in its summary too. */
static void say(const launcher *self, const char *text)
{
    char line[4 * LAUNCHER_TEXT_BYTES + 32];
    int bytes =
        snprintf(line, sizeof line, "%s%s\n",
                 self->is_tty && !self->how->quiet ? "\r\033[Keep-run: " : "eep-run: ", text);
    eepi_say(STDERR_FILENO, line, (size_t)bytes);
}

void launcher_complain(launcher *self, const char *format, ...)
{
    char text[4 * LAUNCHER_TEXT_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    say(self, text);
}

static __attribute__((format(printf, 2, 0))) void say_why(launcher *self, const char *format,
                                                          va_list args)
{
    char text[4 * LAUNCHER_TEXT_BYTES];
    vsnprintf(text, sizeof text, format, args);
    say(self, text);
    if (!*self->why) {
        snprintf(self->why, sizeof self->why, "%.*s", (int)sizeof self->why - 1, text);
    }
}

void launcher_fail(launcher *self, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say_why(self, format, args);
    va_end(args);
    self->failed = true;
}

void launcher_interrupt(launcher *self, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say_why(self, format, args);
    va_end(args);
    self->interrupted = true;
}

/* ---------------------------------------------------------------- processes and membership */

record_process *launcher_process_of(const launcher *self, int seat)
{
    int64_t index = self->process[seat];
    return index == LAUNCHER_NO_PROCESS ? NULL : &self->run.processes[index];
}

bool launcher_is_member(const launcher *self, const record_process *process)
{
    const record_view *view =
        self->run.num_views ? &self->run.views[self->run.num_views - 1] : NULL;
    return view && process->generation && view->generation[process->seat] == process->generation;
}

bool launcher_is_active(const launcher *self, int seat)
{
    const record_process *process = launcher_process_of(self, seat);
    return process && process->joined_ns && !process->kill_ns && !process->drain_ns &&
           !process->exit_ns && !launcher_is_stopped(process) && launcher_is_member(self, process);
}

bool launcher_is_stopped(const record_process *process)
{
    return process->stop_ns && !process->cont_ns && !process->exit_ns;
}

/* Began at `from`, ended at `to` (0: not yet), and may still have its effect at `now`. */
static bool has_effect(uint64_t from_ns, uint64_t to_ns, uint64_t now_ns)
{
    return from_ns && (!to_ns || now_ns < to_ns + STRUCK_NS);
}

static bool is_slow(const record_process *process, uint64_t now_ns)
{
    return has_effect(process->slow_ns, process->slow_end_ns, now_ns);
}

bool launcher_is_struck(const record_process *process, uint64_t now_ns)
{
    return process->kill_ns || process->die_ns || process->freeze_ns ||
           has_effect(process->stop_ns, process->cont_ns, now_ns) || is_slow(process, now_ns);
}

/* It is expelled, or ended by a peer, for being slow and for nothing else that we did. */
static bool was_only_slow(const record_process *process, uint64_t now_ns)
{
    return is_slow(process, now_ns) && !process->kill_ns && !process->die_ns &&
           !process->freeze_ns && !has_effect(process->stop_ns, process->cont_ns, now_ns);
}

static void note_at(launcher *self, uint64_t time_ns, const char *kind,
                    const record_process *process, uint64_t value)
{
    const record_view *view =
        self->run.num_views ? &self->run.views[self->run.num_views - 1] : NULL;
    row_event row = {.time_ns = time_ns,
                     .epoch = view ? view->epoch : 0,
                     .value = value,
                     .kind = kind,
                     .seat = process ? process->seat : -1,
                     .generation = process ? process->generation : 0,
                     .about_seat = process ? process->seat : -1,
                     .about_generation = process ? process->generation : 0};
    rows_add_event(&self->run.rows, &row);
}

void launcher_note(launcher *self, const char *kind, const record_process *process, uint64_t value)
{
    note_at(self, launcher_now_ns(), kind, process, value);
}

void launcher_add_fault(launcher *self, int seat, uint64_t time_ns, const char *kind)
{
    record_fault *fault = record_add_fault(&self->run, (size_t)self->run.max_ranks);
    if (!fault) {
        launcher_fail(self, "out of memory");
        return;
    }
    fault->process = (size_t)self->process[seat];
    fault->time_ns = fault->since_ns = time_ns;
    fault->kind = kind;
    for (int s = 0; s < self->run.max_ranks; s++) {
        if (s != seat && launcher_is_active(self, s)) {
            const record_process *process = launcher_process_of(self, s);
            record_survivor *survivor = &fault->survivors[fault->num_survivors++];
            survivor->seat = s;
            survivor->generation = process->generation;
            survivor->activity =
                scheduler_activity(self->front, s, process->generation, &survivor->request);
        }
    }
}

void launcher_open_if_active(launcher *self, int seat)
{
    if (launcher_is_active(self, seat)) {
        scheduler_seat_open(self->front, seat, launcher_process_of(self, seat)->generation);
    }
}

/* ---------------------------------------------------------------- from a rank */

static void take_joined(launcher *self, int seat, const wire_joined *joined)
{
    record_process *process = launcher_process_of(self, seat);
    process->joined_ns = joined->time_ns;
    process->captures_at_join = joined->captures;
    process->ready_ns =
        process->ready_ns ? process->ready_ns : process->spawn_ns + joined->prepare_ns;
    note_at(self, joined->time_ns, "joined", process, joined->epoch);
    launcher_open_if_active(self, seat);
    launcher_saw(self, STATE_JOINED, seat);
}

static void take_step(launcher *self, int seat, const wire_step *step, size_t bytes)
{
    const record_process *process = launcher_process_of(self, seat);
    const wire_token *tokens = (const wire_token *)(step + 1);
    uint64_t now = launcher_now_ns();
    if (self->stopping || (bytes - sizeof *step) / sizeof *tokens < step->num_tokens) {
        return;
    }
    row_step row = {.time_ns = now,
                    .step = step->step,
                    .epoch = step->epoch,
                    .begin_ns = step->begin_ns,
                    .end_ns = step->end_ns,
                    .generation = process->generation,
                    .seat = seat,
                    .status = step->status,
                    .positions = step->num_positions,
                    .reprefill = step->num_reprefill};
    for (uint32_t i = 0; i < step->num_tokens; i++) {
        if (scheduler_token(self->front, seat, process->generation, &tokens[i], step->end_ns) !=
            EEP_OK) {
            continue; /* refused and counted by the sink */
        }
        row_token token = {.time_ns = now,
                           .made_ns = step->end_ns,
                           .digest = tokens[i].digest,
                           .step = step->step,
                           .epoch = step->epoch,
                           .request = tokens[i].request,
                           .position = tokens[i].position,
                           .token = tokens[i].token,
                           .generation = process->generation,
                           .seat = seat};
        rows_add_token(&self->run.rows, &token);
        row.tokens++;
    }
    rows_add_step(&self->run.rows, &row);
    if (self->run.start_ns) {
        script_saw_step(&self->effective.script, step->step, launcher_time_ms(self));
    }
    if (self->how->plan && step->status == EEP_OK) {
        plan_saw_step(self->how->plan, seat, step->epoch);
    }
}

static void take_event(launcher *self, int seat, const wire_event *event)
{
    record_process *process = launcher_process_of(self, seat);
    const eep_event_info *info = &event->record;
    if (self->stopping) {
        return;
    }
    if (info->kind == EEP_EVENT_READY) {
        process->ready_ns = info->time_ns;
    }
    row_event row = {.time_ns = info->time_ns,
                     .epoch = info->epoch,
                     .value = info->value,
                     .kind = rows_event_name(info->kind),
                     .seat = seat,
                     .generation = process->generation,
                     .about_seat = info->seat,
                     .about_generation = info->generation};
    rows_add_event(&self->run.rows, &row);
    launcher_saw_event(self, info->kind, seat);
}

/* One packet; a malformed one is our own bug and ends the run. */
static void take_packet(launcher *self, int seat, size_t bytes)
{
    static const struct {
        uint32_t kind;
        size_t bytes;
    } sizes[] = {{WIRE_HELLO, sizeof(wire_hello)},       {WIRE_JOINED, sizeof(wire_joined)},
                 {WIRE_STEP, sizeof(wire_step)},         {WIRE_EVENT, sizeof(wire_event)},
                 {WIRE_COUNTERS, sizeof(wire_counters)}, {WIRE_FAILED, sizeof(wire_failed)},
                 {WIRE_HANDBACK, sizeof(wire_failed)},   {WIRE_FROZEN, sizeof(wire_header)},
                 {WIRE_STOPPED, sizeof(wire_header)}};
    const void *packet = self->packet;
    const wire_header *header = packet;
    const wire_failed *ended = packet;
    record_process *process = launcher_process_of(self, seat);
    size_t least = SIZE_MAX;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        least = sizes[i].kind == header->kind ? sizes[i].bytes : least;
    }
    if (bytes < least) {
        launcher_fail(self, "rank %d sent a malformed message (kind %u, %zu bytes)", seat,
                      header->kind, bytes);
        return;
    }
    switch (header->kind) {
    case WIRE_HELLO:
        process->generation = ((const wire_hello *)packet)->generation;
        launcher_saw(self, STATE_OPENED, seat);
        break;
    case WIRE_JOINED:
        take_joined(self, seat, packet);
        break;
    case WIRE_STEP:
        take_step(self, seat, packet, bytes);
        break;
    case WIRE_EVENT:
        take_event(self, seat, packet);
        break;
    case WIRE_COUNTERS:
        process->counters = ((const wire_counters *)packet)->counters;
        break;
    case WIRE_FAILED:
        scheduler_fail(self->front, seat, process->generation, ended->request);
        break;
    case WIRE_HANDBACK:
        scheduler_hand_back(self->front, seat, process->generation, ended->request);
        break;
    case WIRE_STOPPED:
        self->ranks->seat[seat].has_stopped = true;
        break;
    case WIRE_FROZEN:
        supervisor_saw_frozen(self->ranks, seat);
        break;
    }
}

void launcher_read_rank(launcher *self, int seat)
{
    supervisor_seat *from = &self->ranks->seat[seat];
    while (from->fd >= 0) {
        ssize_t bytes = recv(from->fd, self->packet, sizeof self->packet, MSG_DONTWAIT);
        if (bytes >= (ssize_t)sizeof(wire_header)) {
            take_packet(self, seat, (size_t)bytes);
        } else if (bytes < 0 && errno == EINTR) {
            continue;
        } else if (bytes < 0 && errno == EAGAIN) {
            return;
        } else {
            supervisor_hang_up(self->ranks, seat); /* its process is gone and all is read */
        }
    }
}

/* ---------------------------------------------------------------- an ended process */

static const char *ending(int wait_status, char text[LAUNCHER_TEXT_BYTES])
{
    if (WIFSIGNALED(wait_status)) {
        snprintf(text, LAUNCHER_TEXT_BYTES, "was ended by signal %d (%s)", WTERMSIG(wait_status),
                 strsignal(WTERMSIG(wait_status)));
        return text;
    }
    int code = WEXITSTATUS(wait_status);
    snprintf(text, LAUNCHER_TEXT_BYTES, "exited with code %d%s", code,
             code == RANK_EXIT_EVICTED     ? " (expelled from the view)"
             : code == RANK_EXIT_UNCOVERED ? " (experts lost all copies)"
             : code == EXEC_FAILED         ? " (its program could not be started)"
                                           : "");
    return text;
}

/* A stop that was too short to be noticed is no reason for peers to fence the process. */
static bool was_stopped_long(const launcher *self, const record_process *process)
{
    uint64_t to_ns = process->cont_ns ? process->cont_ns : UINT64_MAX;
    return process->stop_ns && (double)(to_ns - process->stop_ns) / 1e6 > self->how->expel_ms / 2;
}

/* By our own doing: drained, killed, died as told, fenced while stopped, or evicted after that. */
static bool is_expected(const launcher *self, const record_process *process, int wait_status)
{
    bool killed = WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGKILL &&
                  (process->die_ns || process->freeze_ns || was_stopped_long(self, process) ||
                   is_slow(process, launcher_now_ns()));
    bool evicted = WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == RANK_EXIT_EVICTED;
    /* A thread cannot be stopped from outside: its own patience ends in the middle of a step. */
    bool gave_up = self->how->threads && WIFEXITED(wait_status) &&
                   WEXITSTATUS(wait_status) == RANK_EXIT_FAILED;
    bool left = process->drain_ns && WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0;
    return process->kill_ns || left ||
           ((killed || evicted || gave_up) && launcher_is_struck(process, launcher_now_ns())) ||
           (evicted && process->expelled_struck);
}

void launcher_reap(launcher *self, int seat)
{
    char text[LAUNCHER_TEXT_BYTES];
    int wait_status = 0;
    if (!supervisor_reap(self->ranks, seat, &wait_status)) {
        return;
    }
    record_process *process = launcher_process_of(self, seat);
    launcher_read_rank(self, seat); /* what it sent before its end counts */
    supervisor_hang_up(self->ranks, seat);
    process->exit_ns = launcher_now_ns();
    process->exit_status = wait_status;
    scheduler_seat_close(self->front, seat);
    if (self->stopping) {
        return;
    }
    launcher_note(self, "exit", process, (uint64_t)(uint32_t)wait_status);
    launcher_saw(self, STATE_EXITED, seat);
    if (!is_expected(self, process, wait_status)) {
        launcher_complain(self, "rank %d (generation %u) %s", seat, process->generation,
                          ending(wait_status, text));
        if (self->run.start_ns && process->seen_in_view && !process->expelled_ns) {
            process->fenced = WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGKILL;
            launcher_add_fault(self, seat, process->exit_ns, "exit");
        }
    } else if (process->die_ns && !process->kill_ns) {
        size_t before = self->run.num_faults;
        launcher_add_fault(self, seat, process->exit_ns, "die");
        if (self->run.num_faults > before) {
            self->run.faults[before].since_ns = process->die_ns;
        }
    } else if (was_only_slow(process, process->exit_ns) && WIFSIGNALED(wait_status) &&
               self->run.start_ns && process->seen_in_view && !process->expelled_ns) {
        launcher_add_fault(self, seat, process->exit_ns, "slow");
    }
    if (!self->run.start_ns) {
        launcher_fail(self, "rank %d ended before all ranks had joined: the run ends", seat);
    }
    if (!launcher_is_member(self, process)) {
        (void)scheduler_seat_gone(self->front, seat, process->generation);
    }
}

/* ---------------------------------------------------------------- from the store */

/* The view no longer has it, and its process lives: for a reason of ours, or for none we know. */
static void note_expulsion(launcher *self, int seat, record_process *process)
{
    if (!process->seen_in_view || process->exit_ns || process->kill_ns ||
        record_left_as_asked(process) || process->expelled_ns) {
        return;
    }
    process->expelled_ns = launcher_now_ns();
    process->expelled_struck = launcher_is_struck(process, process->expelled_ns);
    if (!process->expelled_struck) {
        launcher_complain(self, "rank %d (generation %u) was expelled while its process lives",
                          seat, process->generation);
        launcher_add_fault(self, seat, process->expelled_ns, "expelled");
    } else if (was_only_slow(process, process->expelled_ns)) {
        launcher_add_fault(self, seat, process->expelled_ns, "slow");
    }
}

/* The requests of every generation that the view no longer has move on (rule M9): its socket is
 * read to the end first, so that what it emitted in time counts. */
static void move_requests(launcher *self)
{
    for (int seat = 0; seat < self->run.max_ranks; seat++) {
        record_process *process = launcher_process_of(self, seat);
        if (!process || !process->joined_ns || launcher_is_member(self, process)) {
            continue;
        }
        launcher_reap(self, seat);
        note_expulsion(self, seat, process);
        launcher_read_rank(self, seat);
        (void)scheduler_seat_gone(self->front, seat, process->generation);
    }
    for (int seat = 0; seat < self->run.max_ranks; seat++) {
        launcher_open_if_active(self, seat);
    }
}

/* Who is in the view for the first time, and who is no longer. */
static void mark_members(launcher *self)
{
    const record_view *view = &self->run.views[self->run.num_views - 1];
    for (int seat = 0; seat < self->run.max_ranks; seat++) {
        record_process *process = launcher_process_of(self, seat);
        record_change change = process ? record_see_view(process, view) : RECORD_SAME;
        if (change == RECORD_CAME) {
            launcher_saw(self, STATE_COMMITTED, seat);
        } else if (change == RECORD_LEFT && !process->drain_ns) {
            launcher_saw(self, STATE_EXPELLED, seat);
        }
    }
}

static void take_view(launcher *self, const void *value, size_t size)
{
    const char *why = "";
    uint64_t *aligned = malloc(size + sizeof *aligned);
    if (!aligned) {
        return;
    }
    memcpy(aligned, value, size);
    const eepi_view *view = (const eepi_view *)aligned;
    record_view *last = self->run.num_views ? &self->run.views[self->run.num_views - 1] : NULL;
    if (eepi_view_check(aligned, size, &why) != EEP_OK ||
        view->shape.max_ranks != self->run.max_ranks) {
        launcher_fail(self, "the store holds a bad view: %s", *why ? why : "other max_ranks");
    } else if (!last || view->epoch > last->epoch) {
        record_view *added = record_add_view(&self->run);
        if (added) {
            added->time_ns = launcher_now_ns();
            added->epoch = view->epoch;
            added->phase = view->phase;
            added->cause = view->cause;
            for (int s = 0; s < self->run.max_ranks; s++) {
                added->generation[s] =
                    eepi_view_is_member(view, s) ? eepi_view_seat_at(view, s)->generation : 0;
            }
            mark_members(self);
            self->proposer = view->proposer;
            launcher_note(self, "view", NULL, view->phase);
            free(self->view);
            self->view = (eepi_view *)aligned;
            aligned = NULL;
            move_requests(self);
            launcher_saw_view(self);
        } else {
            launcher_fail(self, "out of memory");
        }
    }
    free(aligned);
}

void launcher_read_store(launcher *self)
{
    eepi_store_reply reply;
    while (eepi_store_client_next(self->client, &reply) == EEP_OK) {
        bool entry = reply.kind == EEPI_STORE_ENTRY || reply.kind == EEPI_STORE_CHANGED;
        if (entry && reply.size && !self->stopping && strcmp(reply.key, "view") == 0) {
            take_view(self, reply.value, reply.size);
        }
    }
}
