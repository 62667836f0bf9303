/* SPDX-License-Identifier: Apache-2.0 */
/* Verbs applied to ranks and store, and the faults that they make. */
#include "experiments/launcher/launcher_verbs.h"

#include "experiments/base/monotonic.h"
#include "experiments/launcher/launcher_experts.h"
#include "experiments/rows/placements.h"
#include "graphs/base/descriptors.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <string.h>

/* A rank that was told to freeze, and was continued before it did, may still stop for this long. */
static const uint64_t THAW_NS = 2000000000;

static_assert((int)WIRE_FILE_BYTES == (int)VERB_FILE_BYTES, "a verb's file fits into a message");

/* ---------------------------------------------------------------- start */

/* The rank orders it by itself, before its weights. What all are given is one entry. */
static void note_first_placement(launcher *self, const record_process *process)
{
    const placement_first *first = &self->options.first_placement;
    const char *file = placement_first_of(first, process->seat);
    char why[PLACEMENT_ERROR_BYTES];
    uint64_t number = 0;
    if (!file || options_read_placement(&self->options, file, true, &number, why) != EEP_OK) {
        return; /* one that is not good any more is told by the rank */
    }
    launcher_note(self, "placement", process, number);
    bool is_of_all = first->num == 1 && first->of[0].seat < 0;
    if (!self->run.start_ns && (!is_of_all || self->run.num_placements == 0) &&
        !placements_give(&self->run, number, is_of_all ? -1 : process->seat, 0)) {
        launcher_fail(self, "out of memory");
    }
}

void launcher_start_rank(launcher *self, int seat, bool joiner)
{
    const record_process *before = launcher_process_of(self, seat);
    if (before && before->generation) {
        /* Its process has ended and its socket was read to the end: it emits nothing any more. */
        (void)scheduler_seat_ended(self->scheduler, seat, before->generation);
    }
    const bool is_cut = before && before->cut_ns && !before->cut_end_ns; /* its host still is */
    double cached = joiner || !self->run.start_ns ? launcher_checkpoint_cached(self) : -1;
    uint64_t spawn_ns = now_ns();
    eep_status status = supervisor_spawn(self->ranks, seat, joiner);
    record_process *process = status == EEP_OK ? record_add_process(&self->run) : NULL;
    if (status == EEP_ERR_UNREACHABLE && self->run.start_ns) {
        launcher_complain(self, "rank %d cannot be started: its host is not reached", seat);
        return;
    }
    if (!process) {
        char why[LAUNCHER_TEXT_BYTES];
        launcher_fail(self, "rank %d cannot be started: %s", seat,
                      status == EEP_ERR_SYSTEM ? eepi_descriptors_error(errno, why, sizeof why)
                      : status == EEP_ERR_UNREACHABLE ? "its host is not reached any more"
                                                      : eep_strerror(EEP_ERR_NO_MEMORY));
        return;
    }
    process->seat = seat;
    process->spawn_ns = spawn_ns;
    process->cut_ns = is_cut ? spawn_ns : 0;
    process->rejoin = joiner;
    process->cached = cached;
    self->process[seat] = (int64_t)self->run.num_processes - 1;
    launcher_note(self, joiner ? "rejoin" : "spawn", process, 0);
    note_first_placement(self, process);
    launcher_on_state(self, STATE_SPAWNED, seat);
}

/* ---------------------------------------------------------------- signals */

/* Send a signal; when it was sent. A process that ended by itself at this moment counts as
 * signalled now. */
static uint64_t send_signal(launcher *self, int seat, int signal_number)
{
    uint64_t time_ns = supervisor_signal(self->ranks, seat, signal_number);
    return time_ns ? time_ns : now_ns();
}

static void apply_kill(launcher *self, const script_action *action)
{
    record_process *process = launcher_process_of(self, action->seat);
    process->kill_ns =
        send_signal(self, action->seat, action->verb == VERB_KILL ? SIGKILL : SIGABRT);
    process->injected_ns = process->kill_ns;
    process->injected_kind = verb_table[action->verb].name;
    launcher_note(self, verb_table[action->verb].name, process, 0);
}

/* A stopped rank may go on: it keeps its requests until it is expelled, and gets no new ones. */
static void apply_stop(launcher *self, const script_action *action)
{
    record_process *process = launcher_process_of(self, action->seat);
    bool is_new = !launcher_is_stopped(process);
    uint64_t time_ns = send_signal(self, action->seat, SIGSTOP);
    scheduler_seat_close(self->scheduler, action->seat);
    launcher_note(self, "stop", process, (uint64_t)action->duration_ms);
    if (is_new) {
        process->stop_ns = time_ns;
        process->cont_ns = 0;
        process->injected_ns = time_ns;
        process->injected_kind = "stop";
    }
}

static void tell(launcher *self, int seat, const void *message, size_t bytes, const char *what)
{
    supervisor_seat *receiver = &self->ranks->seat[seat];
    if (self->ranks->trace) {
        if (!trace_reader_tell(&self->ranks->trace[seat], message)) {
            launcher_complain(self, "rank %d of a foreign engine cannot be told to %s", seat, what);
        }
        return;
    }
    if (receiver->fd < 0 || send_queue_send(&receiver->send_queue, message, bytes) != EEP_OK) {
        launcher_complain(self, "rank %d cannot be told to %s", seat, what);
    }
}

static void apply_cont(launcher *self, const script_action *action)
{
    int seat = action->seat;
    record_process *process = launcher_process_of(self, seat);
    if (launcher_is_stopped(process)) {
        process->cont_ns = now_ns();
    }
    if (process->freeze_ns && !action->keeps_freeze) {
        wire_die message = {{WIRE_DIE, sizeof message}, NUM_PLACES, 1};
        tell(self, seat, &message, sizeof message, "freeze no more");
        process->freeze_ns = 0;
        process->thaw_ns = now_ns(); /* it may stop at this very moment */
    }
    (void)send_signal(self, seat, SIGCONT);
    launcher_note(self, "cont", process, 0);
    launcher_open_if_active(self, seat);
}

/* ---------------------------------------------------------------- orders */

static void apply_slow(launcher *self, const script_action *action)
{
    record_process *process = launcher_process_of(self, action->seat);
    wire_slow message = {{WIRE_SLOW, sizeof message}, action->value.factor};
    bool ends = action->value.factor <= 1;
    process->slow_ns = ends ? process->slow_ns : now_ns();
    process->slow_end_ns = ends ? now_ns() : 0;
    launcher_note(self, "slow", process, (uint64_t)(action->value.factor * 1e3));
    tell(self, action->seat, &message, sizeof message, "be slow");
}

/* The file is read here for its number, and because it may have changed since it was checked. */
static bool apply_placement(launcher *self, const script_action *action)
{
    char why[PLACEMENT_ERROR_BYTES];
    uint64_t number = 0;
    wire_place message = {{WIRE_PLACE, sizeof message}, ""};
    if (options_read_placement(&self->options, action->value.file, false, &number, why) != EEP_OK) {
        launcher_complain(self, "placement: %s", why);
        return false;
    }
    if (!placements_give(&self->run, number, action->seat, now_ns())) {
        launcher_fail(self, "out of memory");
    }
    memcpy(message.file, action->value.file, sizeof message.file);
    launcher_note(self, "placement", launcher_process_of(self, action->seat), number);
    tell(self, action->seat, &message, sizeof message, "order a placement");
    return true;
}

static void apply_die(launcher *self, const script_action *action)
{
    record_process *process = launcher_process_of(self, action->seat);
    wire_die message = {{WIRE_DIE, sizeof message}, action->value.place, 0};
    process->die_ns = now_ns();
    launcher_note(self, "die", process, action->value.place);
    tell(self, action->seat, &message, sizeof message, "die");
}

/* The rank stops in its next step with work, and stays open for that: launcher_record_freezes sees
 * when it has. */
static void apply_freeze(launcher *self, const script_action *action)
{
    record_process *process = launcher_process_of(self, action->seat);
    wire_die message = {{WIRE_DIE, sizeof message}, action->value.place, 1};
    launcher_note(self, "freeze", process, action->value.place);
    process->freeze_ns = now_ns();
    tell(self, action->seat, &message, sizeof message, "freeze");
}

/* A rank that was continued before it froze may freeze after that: it is continued again. True: it
 * may still freeze. */
static bool continue_late_freeze(launcher *self, int seat, record_process *process)
{
    if (!process->thaw_ns || process->exit_ns || launcher_is_stopped(process) ||
        now_ns() - process->thaw_ns > THAW_NS) {
        return false;
    }
    if (supervisor_state(self->ranks, seat) == 'T') {
        (void)send_signal(self, seat, SIGCONT);
    }
    return true;
}

bool launcher_record_freezes(launcher *self)
{
    bool waits = false;
    for (int seat = 0; seat < self->run.max_ranks; seat++) {
        record_process *process = launcher_process_of(self, seat);
        waits |= process && continue_late_freeze(self, seat, process);
        if (!process || !process->freeze_ns || process->exit_ns || !self->ranks->seat[seat].lives ||
            launcher_is_stopped(process)) {
            continue; /* one that a signal stopped is not at its place yet */
        }
        if (supervisor_state(self->ranks, seat) != 'T') {
            waits = true;
            continue;
        }
        uint64_t since_ns = process->freeze_ns;
        process->freeze_ns = process->cont_ns = 0;
        process->stop_ns = now_ns();
        scheduler_seat_close(self->scheduler, seat);
        launcher_add_fault(self, seat, since_ns, process->stop_ns, "stop");
    }
    return waits;
}

static void apply_drain(launcher *self, int seat)
{
    record_process *process = launcher_process_of(self, seat);
    wire_header message = {WIRE_DRAIN, sizeof message};
    process->drain_ns = now_ns();
    scheduler_seat_close(self->scheduler, seat);
    launcher_note(self, "drain", process, 0);
    tell(self, seat, &message, sizeof message, "drain");
    char text[LAUNCHER_TEXT_BYTES];
    if (launcher_lacks_room(self, seat, text, sizeof text)) {
        launcher_complain(self, "rank %d %s: it stays until there is", seat, text);
    }
}

/* ---------------------------------------------------------------- the store */

static bool apply_store(launcher *self, const script_action *action)
{
    const char *name = verb_table[action->verb].name;
    if (!self->store.process) {
        launcher_complain(self, "%s: the store is no process of its own (--store-process)", name);
        return false;
    }
    /* An earlier event may have killed it, or continued it before the end of this stop. */
    if (store_process_refuses(self->store.process, action->verb)) {
        return false;
    }
    launcher_note(self, name, NULL, (uint64_t)action->duration_ms);
    eep_status status = action->verb == VERB_STORE_KILL   ? store_process_kill(self->store.process)
                        : action->verb == VERB_STORE_STOP ? store_process_stop(self->store.process)
                        : action->verb == VERB_STORE_CONT
                            ? store_process_cont(self->store.process)
                            : store_process_start(self->store.process);
    if (status != EEP_OK && status != EEP_ERR_NOT_FOUND) {
        if (action->verb == VERB_STORE_START && status != EEP_ERR_STATE) {
            launcher_fail(self, "%s: %s", name, eep_strerror(status));
        } else {
            launcher_complain(self, "%s: %s", name, eep_strerror(status));
        }
    }
    return status == EEP_OK;
}

/* ---------------------------------------------------------------- hosts */

/* Something is done to the latest process of each seat on the hosts of a list. */
typedef void to_process(launcher *self, record_process *process, const char *kind);

static void for_each_on(launcher *self, const char *list, to_process *action, const char *kind)
{
    char name[HOST_NAME_BYTES];
    for (const char *rest = list; rest && *rest;) {
        rest = host_names_next(rest, name);
        int host = rest ? hosts_file_find(self->options.hosts, name) : -1;
        for (int seat = 0; host >= 0 && seat < self->run.max_ranks; seat++) {
            record_process *process = launcher_process_of(self, seat);
            if (process && host_links_host_of(self->ranks->links, seat) == host) {
                action(self, process, kind);
            }
        }
    }
}

static void mark_killed(launcher *self, record_process *process, const char *kind)
{
    (void)self;
    if (!process->exit_ns && !process->kill_ns) {
        process->injected_kind = kind;
        process->injected_ns = process->kill_ns = now_ns();
    }
}

/* As the last one, where a command does it: the fault is recorded when that has ended. */
static void mark_gone(launcher *self, record_process *process, const char *kind)
{
    mark_killed(self, process, kind);
    process->injected_kind = NULL;
}

static void mark_frozen(launcher *self, record_process *process, const char *kind)
{
    if (!launcher_is_stopped(process) && !process->kill_ns && !process->exit_ns) {
        scheduler_seat_close(self->scheduler, process->seat);
        process->stop_ns = process->injected_ns = now_ns();
        process->cont_ns = 0;
        process->injected_kind = kind;
    }
}

static void mark_continued(launcher *self, record_process *process, const char *kind)
{
    (void)kind;
    process->cont_ns = launcher_is_stopped(process) ? now_ns() : process->cont_ns;
    launcher_open_if_active(self, process->seat);
}

static void mark_cut(launcher *self, record_process *process, const char *kind)
{
    (void)self;
    (void)kind;
    process->cut_ns = now_ns();
    process->cut_end_ns = 0;
}

static void mark_mended(launcher *self, record_process *process, const char *kind)
{
    (void)self;
    (void)kind;
    process->cut_end_ns = process->cut_ns ? now_ns() : 0;
}

/* An order to the worker of each host of the list. */
static void order(launcher *self, const char *list, host_message_kind kind, int value)
{
    char name[HOST_NAME_BYTES];
    for (const char *rest = list; rest && *rest;) {
        rest = host_names_next(rest, name);
        int host = rest ? hosts_file_find(self->options.hosts, name) : -1;
        if (host >= 0 &&
            host_link_order(host_links_of(self->ranks->links, host), kind, -1, value) != EEP_OK) {
            launcher_complain(self, "host %s is not reached: nothing was done there", name);
        }
    }
}

/* The verb's command: once for two sides, else once for each host. */
static void run_command(launcher *self, verb what, const host_names *names)
{
    host_commands *commands = host_links_commands(self->ranks->links);
    host_names one = {.ms = 0};
    eep_status status = EEP_OK;
    if (*names->side[1] || !*names->side[0]) {
        status = host_commands_run(commands, what, names);
    }
    for (const char *rest = names->side[0];
         !*names->side[1] && rest && *rest && status == EEP_OK;) {
        rest = host_names_next(rest, one.side[0]);
        status = rest ? host_commands_run(commands, what, &one) : EEP_OK;
    }
    if (status != EEP_OK) {
        launcher_fail(self, "%s: too many commands wait", verb_table[what].name);
    }
}

/* The seat's next process is on that host, whatever the network of the last one's is like. */
static void move_to_host(launcher *self, const script_action *action)
{
    record_process *before = launcher_process_of(self, action->seat);
    int host = hosts_file_find(self->options.hosts, action->value.hosts);
    if (before && host != host_links_host_of(self->ranks->links, action->seat)) {
        mark_mended(self, before, NULL);
    }
    host_links_move(self->ranks->links, action->seat, host);
}

static void apply_to_network(launcher *self, verb what, const host_names *names)
{
    const bool ends = what == VERB_HEAL || what == VERB_NIC_UP;
    to_process *mark = ends ? mark_mended : mark_cut;
    for_each_on(self, names->side[0], mark, NULL);
    for_each_on(self, names->side[1], mark, NULL);
    for (int i = 0; what == VERB_HEAL && !*names->side[0] && i < self->options.hosts->num_hosts;
         i++) {
        for_each_on(self, self->options.hosts->host[i].name, mark, NULL);
    }
    run_command(self, what, names);
}

static void apply_to_hosts(launcher *self, const script_action *action)
{
    const verb what = action->verb;
    const char *text = action->value.hosts;
    const char *const *command = (const char *const *)self->options.hosts->command;
    host_names names = {.ms = 0};
    verb form = what != VERB_HEAL ? what : strchr(text, ':') ? VERB_DELAY : VERB_PARTITION;
    if (*text && !host_names_parse(form, text, &names)) {
        launcher_fail(self, "%s: '%s' names no hosts", verb_table[what].name, text);
        return;
    }
    launcher_note(self, verb_table[what].name, NULL, (uint64_t)action->duration_ms);
    switch (what) {
    case VERB_HOST_KILL:
        for_each_on(self, names.side[0], command[what] ? mark_gone : mark_killed,
                    verb_table[what].name);
        if (!command[what]) {
            order(self, names.side[0], REMOTE_ALL, SIGKILL);
        }
        break;
    case VERB_HOST_START:
        if (!command[what]) {
            order(self, names.side[0], REMOTE_AGENT, 0);
        }
        break;
    case VERB_HOST_FREEZE:
        for_each_on(self, names.side[0], mark_frozen, verb_table[what].name);
        order(self, names.side[0], REMOTE_ALL, SIGSTOP);
        break;
    case VERB_HOST_CONT:
        order(self, names.side[0], REMOTE_ALL, SIGCONT);
        for_each_on(self, names.side[0], mark_continued, NULL);
        break;
    case VERB_AGENT_KILL:
        order(self, names.side[0], REMOTE_AGENT, SIGKILL);
        break;
    case VERB_AGENT_START:
        order(self, names.side[0], REMOTE_AGENT, 0);
        break;
    default:
        apply_to_network(self, what, &names);
        return;
    }
    if (command[what]) {
        run_command(self, what, &names);
    }
}

/* Faults that a command made, between its begin and its end. */
static void add_faults(launcher *self, const host_commands_done *done)
{
    const hosts_file *file = self->options.hosts;
    const char *lists[] = {done->names.side[0], done->names.side[1]};
    char name[HOST_NAME_BYTES];
    for (int i = 0; i < 2; i++) {
        for (const char *rest = lists[i]; rest && *rest;) {
            rest = host_names_next(rest, name);
            int host = rest ? hosts_file_find(file, name) : -1;
            for (int seat = 0; host >= 0 && seat < self->run.max_ranks; seat++) {
                const record_process *process = launcher_process_of(self, seat);
                bool is_hit = process && !process->exit_ns && self->ranks->seat[seat].lives &&
                              process->spawn_ns < done->began_ns &&
                              host_links_host_of(self->ranks->links, seat) == host;
                if (is_hit) {
                    launcher_add_fault(self, seat, done->began_ns, done->ended_ns,
                                       verb_table[done->what].name);
                }
            }
            if (host >= 0 && done->what == VERB_HOST_KILL) {
                host_link_drop(host_links_of(self->ranks->links, host));
            }
        }
    }
}

bool launcher_record_commands(launcher *self)
{
    host_commands_done done;
    if (!self->ranks->links) {
        return false;
    }
    host_commands *commands = host_links_commands(self->ranks->links);
    while (host_commands_next(commands, &done)) {
        const bool ends =
            done.what == VERB_HEAL || done.what == VERB_NIC_UP || done.what == VERB_HOST_START;
        if (*done.why) {
            launcher_fail(self, "the command of %s for %s: %s", verb_table[done.what].name,
                          *done.names.side[0] ? done.names.side[0] : "all hosts", done.why);
        } else if (!ends) {
            add_faults(self, &done);
        }
    }
    return host_commands_are_busy(commands);
}

/* ---------------------------------------------------------------- all */

/* The process has ended or was killed: nothing else can be done to it. A process that was aborted
 * while it was stopped must still be continued, or it does not end. */
static bool has_ended(const launcher *self, const script_action *action)
{
    const verb_info *info = &verb_table[action->verb];
    const record_process *process =
        info->has_seat && !info->wants_free ? launcher_process_of(self, action->seat) : NULL;
    return process && (process->kill_ns || process->exit_ns) && action->verb != VERB_CONT;
}

bool launcher_apply(launcher *self, const script_action *action)
{
    if (has_ended(self, action)) {
        return false;
    }
    switch (action->verb) {
    case VERB_KILL:
    case VERB_ABORT:
        apply_kill(self, action);
        break;
    case VERB_STOP:
        apply_stop(self, action);
        break;
    case VERB_CONT:
        apply_cont(self, action);
        break;
    case VERB_SLOW:
        apply_slow(self, action);
        break;
    case VERB_DIE:
        apply_die(self, action);
        break;
    case VERB_FREEZE:
        apply_freeze(self, action);
        break;
    case VERB_REJOIN:
    case VERB_ADD:
        if (*action->value.hosts) {
            move_to_host(self, action);
        }
        launcher_start_rank(self, action->seat, true);
        break;
    case VERB_DRAIN:
        apply_drain(self, action->seat);
        break;
    case VERB_PLACEMENT:
        return apply_placement(self, action);
    case VERB_BURN:
        launcher_note(self, "burn", NULL, (uint64_t)(action->value.seconds * 1e3));
        if (supervisor_burn(self->ranks, action->value.seconds) != EEP_OK) {
            launcher_complain(self, "cannot start the dummy burn: %s", strerror(errno));
        }
        break;
    case VERB_STORE_KILL:
    case VERB_STORE_STOP:
    case VERB_STORE_CONT:
    case VERB_STORE_START:
        return apply_store(self, action);
    case VERB_HOST_KILL:
    case VERB_HOST_START:
    case VERB_HOST_FREEZE:
    case VERB_HOST_CONT:
    case VERB_AGENT_KILL:
    case VERB_AGENT_START:
    case VERB_PARTITION:
    case VERB_ONE_WAY:
    case VERB_DELAY:
    case VERB_RESET:
    case VERB_HEAL:
    case VERB_NIC_DOWN:
    case VERB_NIC_UP:
        apply_to_hosts(self, action);
        break;
    case NUM_VERBS:
        break;
    }
    return true;
}

void launcher_record_injected(launcher *self)
{
    for (int seat = 0; seat < self->run.max_ranks; seat++) {
        record_process *process = launcher_process_of(self, seat);
        if (process && process->injected_kind) {
            launcher_add_fault(self, seat, process->injected_ns, process->injected_ns,
                               process->injected_kind);
            process->injected_kind = NULL;
        }
    }
}
