#include "experiments/launcher_verbs.h"

#include "experiments/launcher_setup.h"

#include <errno.h>
#include <string.h>

static void do_kill(launcher *self, int seat)
{
    record_process *process = launcher_process_of(self, seat);
    uint64_t time_ns = 0;
    /* The survivors first: what they do is a scan of the requests and must not delay the rest. */
    launcher_add_fault(self, seat, launcher_now_ns(), "kill");
    if (supervisor_kill(self->ranks, seat, &time_ns) != EEP_OK) {
        time_ns = launcher_now_ns(); /* it ended by itself at this moment: the same fault */
    }
    process->kill_ns = time_ns;
    if (self->run.num_faults) {
        self->run.faults[self->run.num_faults - 1].time_ns = time_ns;
    }
    launcher_note(self, "kill", process, 0);
}

static void do_drain(launcher *self, int seat)
{
    record_process *process = launcher_process_of(self, seat);
    wire_header message = {WIRE_DRAIN, sizeof message};
    process->drain_ns = launcher_now_ns();
    scheduler_seat_close(self->front, seat);
    launcher_note(self, "drain", process, 0);
    if (outbox_send(&self->ranks->seat[seat].outbox, &message, sizeof message) != EEP_OK) {
        launcher_complain(self, "rank %d cannot be told to drain", seat);
    }
}

void launcher_do(launcher *self, const script_deed *deed)
{
    switch (deed->verb) {
    case VERB_KILL:
        do_kill(self, deed->seat);
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
        break;
    }
}
