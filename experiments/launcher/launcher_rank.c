/* SPDX-License-Identifier: Apache-2.0 */
/* What the launcher hears from a rank, packet by packet, and what it makes of the rank's end. */
#include "experiments/launcher/launcher_rank.h"

#include "experiments/base/monotonic.h"
#include "experiments/base/child.h"
#include "experiments/rank/rank.h"
#include "experiments/rows/placements.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

/* ---------------------------------------------------------------- from a rank */

static void on_startup(record_process *process, const wire_startup *startup)
{
    process->startup = (record_startup){.main_ns = startup->main_ns,
                                        .open_ns = startup->open_ns,
                                        .loaded_ns = startup->loaded_ns,
                                        .captured_ns = startup->captured_ns};
}

static void on_joined(launcher *self, int seat, const wire_joined *joined)
{
    record_process *process = launcher_process_of(self, seat);
    process->joined_ns = joined->time_ns;
    process->captures_at_join = joined->captures;
    process->ready_ns =
        process->ready_ns ? process->ready_ns : process->spawn_ns + joined->prepare_ns;
    launcher_note_at(self, joined->time_ns, "joined", process, joined->epoch);
    launcher_open_if_active(self, seat);
    launcher_on_state(self, STATE_JOINED, seat);
}

static void on_step(launcher *self, int seat, const wire_step *step, size_t bytes)
{
    const record_process *process = launcher_process_of(self, seat);
    const wire_token *tokens = (const wire_token *)(step + 1);
    uint64_t now = now_ns();
    if (self->ending.stopping || (bytes - sizeof *step) / sizeof *tokens < step->num_tokens) {
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
        if (scheduler_token(self->scheduler, seat, process->generation, &tokens[i], step->end_ns) !=
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
        script_on_step(&self->options.script, step->step, launcher_time_ms(self));
    }
    if (self->options.plan && step->status == EEP_OK) {
        plan_on_step(self->options.plan, seat, step->epoch);
    }
}

/* An event that the script may wait for. */
static void tell_script(launcher *self, eep_event_kind kind, int seat)
{
    static const struct {
        eep_event_kind kind;
        script_state state;
    } states[] = {
        {EEP_EVENT_READY, STATE_READY},
        {EEP_EVENT_STAGED, STATE_STAGED},
        {EEP_EVENT_SUSPECTED, STATE_SUSPECTED},
        {EEP_EVENT_WEDGED, STATE_WEDGED},
        {EEP_EVENT_PROPOSED, STATE_PROPOSED},
        {EEP_EVENT_REPAIRED, STATE_REPAIRED},
        {EEP_EVENT_INSTALLED, STATE_INSTALLED},
        {EEP_EVENT_FLIPPED, STATE_FLIPPED},
        {EEP_EVENT_REBALANCING, STATE_REBALANCING},
    };
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        if (states[i].kind == kind) {
            launcher_on_state(self, states[i].state, seat);
        }
    }
}

/* What has come since the last such event is put down to this one. */
static void note_sources(launcher *self, record_process *process, const wire_event *event)
{
    const source_mix now = source_mix_of(&event->counters);
    const source_mix since = source_mix_since(&now, &process->mix);
    const row_source like = {.time_ns = event->record.time_ns,
                             .epoch = event->record.epoch,
                             .seat = process->seat,
                             .generation = process->generation,
                             .behind = event->record.kind == EEP_EVENT_REBALANCED};
    rows_add_sources(&self->run.rows, &like, &since);
    process->mix = now;
}

static void on_event(launcher *self, int seat, const wire_event *event)
{
    record_process *process = launcher_process_of(self, seat);
    const eep_event_info *info = &event->record;
    if (self->ending.stopping) {
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
    if (event->counters.struct_bytes) {
        note_sources(self, process, event);
    }
    tell_script(self, info->kind, seat);
}

static void on_counters(record_process *process, const wire_counters *message)
{
    process->counters = message->counters;
    process->routed = message->routed;
    process->hottest = message->hottest;
}

static void on_placement(launcher *self, int seat, const wire_placement *told)
{
    const record_process *process = launcher_process_of(self, seat);
    int change = self->ending.stopping ? 0 : placements_hear(&self->run, seat, told);
    if (change & PLACEMENTS_REFUSED) {
        launcher_note_at(self, told->time_ns, "placement-refused", process, told->own_number);
        launcher_complain(self, "rank %d: its placement %" PRIu64 " is refused", seat,
                          told->own_number);
    }
    if (change & PLACEMENTS_UNREACHABLE) {
        launcher_note_at(self, told->time_ns, "placement-unreachable", process, told->number);
        launcher_complain(self,
                          "placement %" PRIu64 " cannot be reached: %d slots lack what they are "
                          "given and will not get it (num_unmet %d)",
                          told->number, told->num_unreachable, told->num_unmet);
    }
    if (change & PLACEMENTS_REACHED) {
        launcher_note_at(self, told->time_ns, "placement-reached", process, told->number);
        launcher_on_state(self, STATE_PLACED, seat);
    }
}

/* One packet; a malformed one is a bug of eep-run and ends the run. */
static void on_packet(launcher *self, int seat, size_t bytes)
{
    static const struct {
        uint32_t kind;
        size_t bytes;
    } sizes[] = {{WIRE_HELLO, sizeof(wire_hello)},        {WIRE_JOINED, sizeof(wire_joined)},
                 {WIRE_STARTUP, sizeof(wire_startup)},    {WIRE_STEP, sizeof(wire_step)},
                 {WIRE_EVENT, sizeof(wire_event)},        {WIRE_COUNTERS, sizeof(wire_counters)},
                 {WIRE_FAILED, sizeof(wire_failed)},      {WIRE_HANDBACK, sizeof(wire_failed)},
                 {WIRE_FROZEN, sizeof(wire_header)},      {WIRE_STOPPED, sizeof(wire_header)},
                 {WIRE_PLACEMENT, sizeof(wire_placement)}};
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
        launcher_on_state(self, STATE_OPENED, seat);
        launcher_mark_members(self); /* from another host the view may have come first */
        break;
    case WIRE_STARTUP:
        on_startup(process, packet);
        break;
    case WIRE_JOINED:
        on_joined(self, seat, packet);
        break;
    case WIRE_STEP:
        on_step(self, seat, packet, bytes);
        break;
    case WIRE_EVENT:
        on_event(self, seat, packet);
        break;
    case WIRE_COUNTERS:
        on_counters(process, packet);
        break;
    case WIRE_FAILED:
        scheduler_fail(self->scheduler, seat, process->generation, ended->request);
        break;
    case WIRE_HANDBACK:
        scheduler_hand_back(self->scheduler, seat, process->generation, ended->request);
        break;
    case WIRE_STOPPED:
        self->ranks->seat[seat].has_stopped = true;
        break;
    case WIRE_PLACEMENT:
        on_placement(self, seat, packet);
        break;
    case WIRE_FROZEN:
        supervisor_on_frozen(self->ranks, seat);
        break;
    }
}

/* ---------------------------------------------------------------- from a foreign rank */

/* A row as the packet that a rank of the laboratory would have sent. */
static size_t packet_of(launcher *self, int seat, const eepi_trace_row *row)
{
    record_process *process = launcher_process_of(self, seat);
    if (row->kind == EEPI_TRACE_OPENED) {
        wire_hello hello = {{WIRE_HELLO, sizeof hello},
                            seat,
                            self->ranks->trace[seat].header->generation,
                            row->time_ns};
        memcpy(self->packet, &hello, sizeof hello);
        return sizeof hello;
    }
    if (row->kind == EEPI_TRACE_JOINED) {
        wire_joined joined = {{WIRE_JOINED, sizeof joined},
                              row->epoch,
                              row->time_ns,
                              row->time_ns - process->spawn_ns,
                              0};
        memcpy(self->packet, &joined, sizeof joined);
        return sizeof joined;
    }
    if (row->kind == EEPI_TRACE_STEP) {
        wire_step step = {.header = {WIRE_STEP, sizeof step},
                          .step = row->step,
                          .epoch = row->epoch,
                          .begin_ns = row->begin_ns,
                          .end_ns = row->time_ns,
                          .status = row->status,
                          .num_positions = 1}; /* whatever it computed: it is no empty step */
        memcpy(self->packet, &step, sizeof step);
        return sizeof step;
    }
    if (row->kind >= EEPI_TRACE_EVENT) {
        wire_event event = {.header = {WIRE_EVENT, sizeof event},
                            .record = {sizeof event.record,
                                       (eep_event_kind)(row->kind - EEPI_TRACE_EVENT),
                                       row->about_seat, row->about_generation, row->epoch,
                                       row->value, row->time_ns}};
        process->was_told_evicted |= event.record.kind == EEP_EVENT_EVICTED;
        memcpy(self->packet, &event, sizeof event);
        return sizeof event;
    }
    return 0;
}

static void read_trace(launcher *self, int seat)
{
    trace_reader *reader = &self->ranks->trace[seat];
    const supervisor_seat *foreign = &self->ranks->seat[seat];
    eepi_trace_row row;
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%.4000s/" SUPERVISOR_TRACES, self->out.path);
    if (!reader->header && foreign->pid && !trace_reader_open(reader, folder, seat, foreign->pid)) {
        return;
    }
    while (trace_reader_next(reader, &row)) {
        size_t bytes = packet_of(self, seat, &row);
        if (bytes) {
            on_packet(self, seat, bytes);
        }
    }
    if (reader->header && launcher_process_of(self, seat)) {
        launcher_process_of(self, seat)->counters = reader->header->counters;
    }
}

void launcher_read_rank(launcher *self, int seat)
{
    if (self->ranks->trace && launcher_process_of(self, seat)) {
        read_trace(self, seat);
    }
    supervisor_seat *sender = &self->ranks->seat[seat];
    while (sender->fd >= 0) {
        ssize_t bytes = recv(sender->fd, self->packet, sizeof self->packet, MSG_DONTWAIT);
        if (bytes >= (ssize_t)sizeof(wire_header)) {
            on_packet(self, seat, (size_t)bytes);
        } else if (bytes < 0 && errno == EINTR) {
            continue;
        } else if (bytes < 0 && errno == EAGAIN) {
            return;
        } else {
            supervisor_hang_up(self->ranks, seat); /* its process has ended, and all is read */
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
             : code == CHILD_NOT_STARTED   ? " (its program could not be started)"
                                           : "");
    return text;
}

/* With --hosts: which host it was on, and where it has said more. */
static const char *where(const launcher *self, int seat, int wait_status,
                         char text[LAUNCHER_TEXT_BYTES])
{
    const host_links *links = self->ranks->links;
    *text = '\0';
    if (links) {
        snprintf(text, LAUNCHER_TEXT_BYTES, " on host %s%s",
                 self->options.hosts->host[host_links_host_of(links, seat)].name,
                 WIFEXITED(wait_status) ? "; the output of its worker says why" : "");
    }
    return text;
}

/* Peers fence no process for a stop that is too short to be noticed. */
static bool was_stopped_long(const launcher *self, const record_process *process)
{
    uint64_t end_ns = process->cont_ns ? process->cont_ns : UINT64_MAX;
    return process->stop_ns &&
           (double)(end_ns - process->stop_ns) / 1e6 > self->options.expel_ms / 2;
}

/* The launcher is the reason of the end: the rank was drained, killed, told to die, fenced while it
 * was stopped, or evicted after that. */
static bool is_expected(const launcher *self, const record_process *process, int wait_status)
{
    bool killed = WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGKILL &&
                  (process->die_ns || process->freeze_ns || was_stopped_long(self, process) ||
                   launcher_is_slow(process, now_ns()) || launcher_is_cut(process, now_ns()));
    bool evicted = WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == RANK_EXIT_EVICTED;
    /* A thread cannot be stopped from outside: it gives up by its own bound, inside a step. So does
     * a rank that reaches nobody. */
    bool gave_up = (self->options.threads || launcher_is_cut(process, now_ns())) &&
                   WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == RANK_EXIT_FAILED;
    bool left = process->drain_ns && WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0;
    return process->kill_ns || left ||
           ((killed || evicted || gave_up) && launcher_is_injected(process, now_ns())) ||
           (evicted && process->expelled_injected);
}

/* A foreign engine ends with codes of its own: its trace says whether it was expelled. */
static int foreign_status(const record_process *process, int wait_status)
{
    return process->was_told_evicted && WIFEXITED(wait_status) ? W_EXITCODE(RANK_EXIT_EVICTED, 0)
                                                               : wait_status;
}

void launcher_reap(launcher *self, int seat)
{
    char text[LAUNCHER_TEXT_BYTES], place[LAUNCHER_TEXT_BYTES];
    int wait_status = 0;
    if (!supervisor_reap(self->ranks, seat, &wait_status)) {
        return;
    }
    record_process *process = launcher_process_of(self, seat);
    launcher_read_rank(self, seat); /* what it sent before its end counts */
    supervisor_hang_up(self->ranks, seat);
    if (self->ranks->trace) {
        trace_reader_close(&self->ranks->trace[seat]);
        wait_status = foreign_status(process, wait_status);
    }
    process->exit_ns = now_ns();
    process->exit_status = wait_status;
    scheduler_seat_close(self->scheduler, seat);
    if (self->ending.stopping) {
        return;
    }
    launcher_note(self, "exit", process, (uint64_t)(uint32_t)wait_status);
    launcher_on_state(self, STATE_EXITED, seat);
    if (!is_expected(self, process, wait_status)) {
        launcher_complain(self, "rank %d (generation %u) %s%s", seat, process->generation,
                          ending(wait_status, text), where(self, seat, wait_status, place));
        if (self->run.start_ns && process->seen_in_view && !process->expelled_ns) {
            process->fenced = WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGKILL;
            launcher_add_fault(self, seat, process->exit_ns, process->exit_ns, "exit");
        }
    } else if (process->die_ns && !process->kill_ns) {
        launcher_add_fault(self, seat, process->die_ns, process->exit_ns, "die");
    } else if (launcher_is_only_slow(process, process->exit_ns) && WIFSIGNALED(wait_status) &&
               self->run.start_ns && process->seen_in_view && !process->expelled_ns) {
        launcher_add_fault(self, seat, process->exit_ns, process->exit_ns, "slow");
    }
    if (!self->run.start_ns) {
        launcher_fail(self, "rank %d ended before all ranks had joined: the run ends", seat);
    }
    if (!launcher_is_member(self, process)) {
        (void)scheduler_seat_ended(self->scheduler, seat, process->generation);
    }
}
