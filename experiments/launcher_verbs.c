/* What can be done to a running instance, done; and what the script must know of it. */
#include "experiments/launcher_state.h"

#include "experiments/launcher_setup.h"
#include "repair/planner.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- what the script sees */

static bool sees_active(const void *user, int seat)
{
    return launcher_is_active(user, seat);
}

static bool sees_running(const void *user, int seat)
{
    const launcher *self = user;
    return self->ranks->seat[seat].pid != 0;
}

static bool sees_source(const void *user, int seat)
{
    const launcher *self = user;
    const eepi_view *view = self->view;
    for (int layer = 0; view && layer < view->shape.num_layers; layer++) {
        for (int i = 0; i < view->shape.max_ranks * view->shape.num_slots; i++) {
            const eepi_view_slot *slot = eepi_view_slot_at(view, layer, i / view->shape.num_slots,
                                                           i % view->shape.num_slots);
            if (slot->state == EEPI_SLOT_FILLING && slot->source == seat &&
                i / view->shape.num_slots != seat) {
                return launcher_is_active(self, seat);
            }
        }
    }
    return false;
}

/* The youngest process that is on its way in. */
static bool sees_joining(const void *user, int seat)
{
    const launcher *self = user;
    const record_process *mine = launcher_process_of(self, seat);
    if (!mine || mine->joined_ns || mine->exit_ns || mine->kill_ns) {
        return false;
    }
    for (int other = 0; other < self->run.max_ranks; other++) {
        const record_process *process = launcher_process_of(self, other);
        if (process && !process->joined_ns && !process->exit_ns && !process->kill_ns &&
            process->spawn_ns > mine->spawn_ns) {
            return false;
        }
    }
    return true;
}

static bool sees_covered(const void *user, const bool *without)
{
    const launcher *self = user;
    if (!self->view) {
        return false;
    }
    eepi_view *rest = eepi_view_copy(self->view);
    if (!rest) {
        return false;
    }
    for (int seat = 0; seat < self->run.max_ranks; seat++) {
        if (without[seat] || !launcher_is_active(self, seat)) {
            eepi_view_seat_at(rest, seat)->state = EEP_SEAT_VACANT;
        }
    }
    bool covered = eepi_view_num_uncovered(rest, -1) == 0;
    free(rest);
    return covered;
}

void launcher_run_script(launcher *self)
{
    script_world world = {.now_ms = launcher_time_ms(self),
                          .proposer = self->proposer,
                          .max_ranks = self->run.max_ranks,
                          .active = sees_active,
                          .running = sees_running,
                          .source = sees_source,
                          .joining = sees_joining,
                          .covered = sees_covered,
                          .user = self,
                          .seed = (uint64_t)self->how->seed};
    script_deed deed;
    while (script_next(&self->effective.script, &world, &deed)) {
        launcher_do(self, &deed);
    }
}

void launcher_saw(launcher *self, script_state state, int seat)
{
    if (self->run.start_ns) {
        script_saw_state(&self->effective.script, state, seat, launcher_time_ms(self));
    }
}

/* ---------------------------------------------------------------- ranks */

static void send_signal(launcher *self, int seat, int signal, uint64_t *time_ns_out)
{
    *time_ns_out = 0;
    if (supervisor_signal(self->ranks, seat, signal, time_ns_out) != EEP_OK) {
        *time_ns_out = launcher_now_ns(); /* it ended by itself at this moment: the same fault */
    }
}

static void tell_rank(launcher *self, int seat, const void *message, size_t bytes, const char *what)
{
    supervisor_seat *to = &self->ranks->seat[seat];
    if (to->fd < 0 || outbox_send(&to->outbox, message, bytes) != EEP_OK) {
        launcher_complain(self, "rank %d cannot be told to %s", seat, what);
    }
}

/* SIGKILL or SIGABRT. */
static void do_kill(launcher *self, int seat, int signal, const char *kind)
{
    record_process *process = launcher_process_of(self, seat);
    uint64_t time_ns = 0;
    /* The survivors first: what they do is a scan of the requests and must not delay the rest. */
    launcher_add_fault(self, seat, launcher_now_ns(), kind);
    send_signal(self, seat, signal, &time_ns);
    process->kill_ns = time_ns;
    if (self->run.num_faults) {
        self->run.faults[self->run.num_faults - 1].time_ns = time_ns;
    }
    launcher_note(self, kind, process, 0);
}

static void do_stop(launcher *self, int seat)
{
    record_process *process = launcher_process_of(self, seat);
    uint64_t time_ns = 0;
    if (launcher_is_active(self, seat)) { /* else nobody waits for it */
        launcher_add_fault(self, seat, launcher_now_ns(), "stop");
    }
    send_signal(self, seat, SIGSTOP, &time_ns);
    process->stop_ns = time_ns;
    process->stopped = true;
    scheduler_seat_close(self->front, seat);
    launcher_note(self, "stop", process, 0);
}

static void do_cont(launcher *self, int seat)
{
    record_process *process = launcher_process_of(self, seat);
    uint64_t time_ns = 0;
    send_signal(self, seat, SIGCONT, &time_ns);
    launcher_note(self, "cont", process, 0);
    process->stopped = false;
    if (launcher_is_member(self, process)) {
        launcher_end_stop(self, seat, true);
    }
    launcher_open_if_active(self, seat);
}

static void do_slow(launcher *self, int seat, double factor)
{
    wire_slow message = {{WIRE_SLOW, sizeof message}, factor};
    launcher_process_of(self, seat)->slow = factor > 1;
    launcher_note(self, "slow", launcher_process_of(self, seat), (uint64_t)(factor * 1000));
    tell_rank(self, seat, &message, sizeof message, "be slow");
}

static void do_die(launcher *self, int seat, uint32_t place)
{
    wire_die message = {{WIRE_DIE, sizeof message}, place, 0};
    launcher_process_of(self, seat)->doomed = true;
    launcher_note(self, "die", launcher_process_of(self, seat), place);
    tell_rank(self, seat, &message, sizeof message, "die");
}

static void do_drain(launcher *self, int seat)
{
    record_process *process = launcher_process_of(self, seat);
    wire_header message = {WIRE_DRAIN, sizeof message};
    process->drain_ns = launcher_now_ns();
    scheduler_seat_close(self->front, seat);
    launcher_note(self, "drain", process, 0);
    tell_rank(self, seat, &message, sizeof message, "drain");
}

/* ---------------------------------------------------------------- the store */

static void do_store(launcher *self, verb what)
{
    eep_status status = EEP_ERR_NOT_FOUND;
    if (self->store_child && what == VERB_STORE_KILL) {
        status = store_process_kill(self->store_child);
    } else if (self->store_child && what == VERB_STORE_STOP) {
        status = store_process_stop(self->store_child);
    } else if (self->store_child && what == VERB_STORE_CONT) {
        status = store_process_cont(self->store_child);
    } else if (self->store_child) {
        status = store_process_start(self->store_child);
    }
    launcher_note(self, verb_table[what].name, NULL, 0);
    if (status != EEP_OK) {
        launcher_complain(self, "%s: %s", verb_table[what].name,
                          self->store_child ? eep_strerror(status)
                                            : "the store is not ours: start without --store");
    }
}

void launcher_do(launcher *self, const script_deed *deed)
{
    switch (deed->verb) {
    case VERB_KILL:
        do_kill(self, deed->seat, SIGKILL, "kill");
        break;
    case VERB_ABORT:
        do_kill(self, deed->seat, SIGABRT, "abort");
        break;
    case VERB_STOP:
        do_stop(self, deed->seat);
        break;
    case VERB_CONT:
        do_cont(self, deed->seat);
        break;
    case VERB_SLOW:
        do_slow(self, deed->seat, deed->value);
        break;
    case VERB_DIE:
        do_die(self, deed->seat, (uint32_t)deed->value);
        break;
    case VERB_REJOIN:
    case VERB_ADD:
        launcher_start_rank(self, deed->seat, true);
        break;
    case VERB_DRAIN:
        do_drain(self, deed->seat);
        break;
    case VERB_BURN:
        launcher_note(self, "burn", NULL, (uint64_t)(deed->value * 1e3));
        if (supervisor_burn(self->ranks, deed->value) != EEP_OK) {
            launcher_complain(self, "cannot start the dummy burn: %s", strerror(errno));
        }
        break;
    default:
        do_store(self, deed->verb);
        break;
    }
}
