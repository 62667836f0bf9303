#include "experiments/launcher/launcher_verbs.h"

#include "experiments/launcher/launcher_setup.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

static const uint64_t THAW_NS = 2000000000; /* a rank that was told to stop itself may do so late */

/* ---------------------------------------------------------------- signals */

/* Send it; a process that ended by itself at this moment counts as struck now. */
static uint64_t strike(launcher *self, int seat, int signal_number)
{
    uint64_t time_ns = supervisor_signal(self->ranks, seat, signal_number);
    return time_ns ? time_ns : launcher_now_ns();
}

static void do_kill(launcher *self, const script_action *action)
{
    record_process *process = launcher_process_of(self, action->seat);
    process->kill_ns = strike(self, action->seat, action->verb == VERB_KILL ? SIGKILL : SIGABRT);
    process->struck_ns = process->kill_ns;
    process->struck_by = verb_table[action->verb].name;
    launcher_note(self, verb_table[action->verb].name, process, 0);
}

/* It keeps its requests until it is expelled, for it may go on; it gets no new ones. */
static void do_stop(launcher *self, const script_action *action)
{
    record_process *process = launcher_process_of(self, action->seat);
    bool is_new = !launcher_is_stopped(process);
    uint64_t time_ns = strike(self, action->seat, SIGSTOP);
    scheduler_seat_close(self->front, action->seat);
    launcher_note(self, "stop", process, (uint64_t)action->duration_ms);
    if (is_new) {
        process->stop_ns = time_ns;
        process->cont_ns = 0;
        process->struck_ns = time_ns;
        process->struck_by = "stop";
    }
}

static void tell(launcher *self, int seat, const void *message, size_t bytes, const char *what)
{
    supervisor_seat *to = &self->ranks->seat[seat];
    if (to->fd < 0 || send_queue_send(&to->send_queue, message, bytes) != EEP_OK) {
        launcher_complain(self, "rank %d cannot be told to %s", seat, what);
    }
}

static void do_cont(launcher *self, const script_action *action)
{
    int seat = action->seat;
    record_process *process = launcher_process_of(self, seat);
    if (launcher_is_stopped(process)) {
        process->cont_ns = launcher_now_ns();
    }
    if (process->freeze_ns && !action->keeps_freeze) {
        wire_die message = {{WIRE_DIE, sizeof message}, NUM_PLACES, 1};
        tell(self, seat, &message, sizeof message, "freeze no more");
        process->freeze_ns = 0;
        process->thaw_ns = launcher_now_ns(); /* it may be about to stop at this very moment */
    }
    (void)strike(self, seat, SIGCONT);
    launcher_note(self, "cont", process, 0);
    launcher_open_if_active(self, seat);
}

/* ---------------------------------------------------------------- orders */

static void do_slow(launcher *self, const script_action *action)
{
    record_process *process = launcher_process_of(self, action->seat);
    wire_slow message = {{WIRE_SLOW, sizeof message}, action->value};
    bool ends = action->value <= 1;
    process->slow_ns = ends ? process->slow_ns : launcher_now_ns();
    process->slow_end_ns = ends ? launcher_now_ns() : 0;
    launcher_note(self, "slow", process, (uint64_t)(action->value * 1e3));
    tell(self, action->seat, &message, sizeof message, "be slow");
}

static void do_die(launcher *self, const script_action *action)
{
    record_process *process = launcher_process_of(self, action->seat);
    wire_die message = {{WIRE_DIE, sizeof message}, (uint32_t)action->value, 0};
    process->die_ns = launcher_now_ns();
    launcher_note(self, "die", process, (uint64_t)action->value);
    tell(self, action->seat, &message, sizeof message, "die");
}

/* It stops at its next step with work, for which it stays open: launcher_saw_stopped tells when. */
static void do_freeze(launcher *self, const script_action *action)
{
    record_process *process = launcher_process_of(self, action->seat);
    wire_die message = {{WIRE_DIE, sizeof message}, (uint32_t)action->value, 1};
    launcher_note(self, "freeze", process, (uint64_t)action->value);
    process->freeze_ns = launcher_now_ns();
    tell(self, action->seat, &message, sizeof message, "freeze");
}

/* One that was continued before it had stopped has stopped all the same. True: it still may. */
static bool thaw(launcher *self, int seat, record_process *process)
{
    if (!process->thaw_ns || process->exit_ns || launcher_is_stopped(process) ||
        launcher_now_ns() - process->thaw_ns > THAW_NS) {
        return false;
    }
    if (supervisor_state(self->ranks, seat) == 'T') {
        (void)strike(self, seat, SIGCONT);
    }
    return true;
}

bool launcher_saw_stopped(launcher *self)
{
    bool waits = false;
    for (int seat = 0; seat < self->run.max_ranks; seat++) {
        record_process *process = launcher_process_of(self, seat);
        waits |= process && thaw(self, seat, process);
        if (!process || !process->freeze_ns || process->exit_ns || !self->ranks->seat[seat].lives ||
            launcher_is_stopped(process)) {
            continue; /* stopped by a signal, it is not at the place yet */
        }
        if (supervisor_state(self->ranks, seat) != 'T') {
            waits = true;
            continue;
        }
        uint64_t since_ns = process->freeze_ns;
        size_t before = self->run.num_faults;
        process->freeze_ns = process->cont_ns = 0;
        process->stop_ns = launcher_now_ns();
        scheduler_seat_close(self->front, seat);
        launcher_add_fault(self, seat, process->stop_ns, "stop");
        if (self->run.num_faults > before) {
            self->run.faults[before].since_ns = since_ns; /* peers may know before we do */
        }
    }
    return waits;
}

static void do_drain(launcher *self, int seat)
{
    record_process *process = launcher_process_of(self, seat);
    wire_header message = {WIRE_DRAIN, sizeof message};
    process->drain_ns = launcher_now_ns();
    scheduler_seat_close(self->front, seat);
    launcher_note(self, "drain", process, 0);
    tell(self, seat, &message, sizeof message, "drain");
    char text[LAUNCHER_TEXT_BYTES];
    if (launcher_lacks_room(self, seat, text, sizeof text)) {
        launcher_complain(self, "rank %d %s: it stays until there is", seat, text);
    }
}

/* ---------------------------------------------------------------- the store */

static bool do_store(launcher *self, const script_action *action)
{
    const char *name = verb_table[action->verb].name;
    if (!self->store_child) {
        launcher_complain(self, "%s: the store is no process of its own (--store-process)", name);
        return false;
    }
    /* One that is gone was killed by an earlier event; the end of a stop may come after a cont. */
    if (store_process_refuses(self->store_child, action->verb)) {
        return false;
    }
    launcher_note(self, name, NULL, (uint64_t)action->duration_ms);
    eep_status status = action->verb == VERB_STORE_KILL   ? store_process_kill(self->store_child)
                        : action->verb == VERB_STORE_STOP ? store_process_stop(self->store_child)
                        : action->verb == VERB_STORE_CONT ? store_process_cont(self->store_child)
                                                          : store_process_start(self->store_child);
    if (status != EEP_OK && status != EEP_ERR_NOT_FOUND) {
        if (action->verb == VERB_STORE_START && status != EEP_ERR_STATE) {
            launcher_fail(self, "%s: %s", name, eep_strerror(status));
        } else {
            launcher_complain(self, "%s: %s", name, eep_strerror(status));
        }
    }
    return status == EEP_OK;
}

/* ---------------------------------------------------------------- all */

/* A process that was killed dies of that, and keeps that fault; one that was aborted while it was
 * stopped must still be continued to die. */
static bool is_beyond(const launcher *self, const script_action *action)
{
    const verb_info *info = &verb_table[action->verb];
    const record_process *process =
        info->has_seat && !info->wants_free ? launcher_process_of(self, action->seat) : NULL;
    return process && (process->kill_ns || process->exit_ns) && action->verb != VERB_CONT;
}

bool launcher_do(launcher *self, const script_action *action)
{
    if (is_beyond(self, action)) {
        return false;
    }
    switch (action->verb) {
    case VERB_KILL:
    case VERB_ABORT:
        do_kill(self, action);
        break;
    case VERB_STOP:
        do_stop(self, action);
        break;
    case VERB_CONT:
        do_cont(self, action);
        break;
    case VERB_SLOW:
        do_slow(self, action);
        break;
    case VERB_DIE:
        do_die(self, action);
        break;
    case VERB_FREEZE:
        do_freeze(self, action);
        break;
    case VERB_REJOIN:
    case VERB_ADD:
        launcher_start_rank(self, action->seat, true);
        break;
    case VERB_DRAIN:
        do_drain(self, action->seat);
        break;
    case VERB_BURN:
        launcher_note(self, "burn", NULL, (uint64_t)(action->value * 1e3));
        if (supervisor_burn(self->ranks, action->value) != EEP_OK) {
            launcher_complain(self, "cannot start the dummy burn: %s", strerror(errno));
        }
        break;
    case VERB_STORE_KILL:
    case VERB_STORE_STOP:
    case VERB_STORE_CONT:
    case VERB_STORE_START:
        return do_store(self, action);
    case NUM_VERBS:
        break;
    }
    return true;
}

void launcher_did(launcher *self)
{
    for (int seat = 0; seat < self->run.max_ranks; seat++) {
        record_process *process = launcher_process_of(self, seat);
        if (process && process->struck_by) {
            launcher_add_fault(self, seat, process->struck_ns, process->struck_by);
            process->struck_by = NULL;
        }
    }
}
