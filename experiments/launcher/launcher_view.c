/* SPDX-License-Identifier: Apache-2.0 */
/* Views from the store: which ranks came and left with one, and the requests of those that left. */
#include "experiments/launcher/launcher_view.h"

#include "experiments/base/monotonic.h"
#include "experiments/launcher/launcher_experts.h"
#include "experiments/launcher/launcher_rank.h"
#include "experiments/launcher/launcher_script.h"
#include "membership/view/view.h"

#include <stdlib.h>
#include <string.h>

/* Apply at once what the script does to a repair: a small one is over in a millisecond. */
static void run_script_of_repair(launcher *self)
{
    const eepi_view *view = self->view;
    if (!self->run.start_ns || self->ending.stopping || view->phase != EEPI_VIEW_REPAIRING) {
        return;
    }
    for (int s = 0; s < view->shape.max_ranks; s++) {
        if (eepi_view_is_member(view, s) && launcher_is_filling(self, s)) {
            launcher_on_state(self, STATE_REPAIRING, s);
        }
    }
    launcher_run_script(self);
}

/* The view no longer has a process that lives: because of a verb, or for no reason that is known.
 */
static void note_expulsion(launcher *self, int seat, record_process *process)
{
    if (!process->seen_in_view || process->exit_ns || process->kill_ns ||
        record_left_as_asked(process) || process->expelled_ns) {
        return;
    }
    process->expelled_ns = now_ns();
    process->expelled_injected = launcher_is_injected(process, process->expelled_ns);
    if (!process->expelled_injected) {
        launcher_complain(self, "rank %d (generation %u) was expelled while its process lives",
                          seat, process->generation);
        launcher_add_fault(self, seat, process->expelled_ns, process->expelled_ns, "expelled");
    } else if (launcher_is_only_slow(process, process->expelled_ns)) {
        launcher_add_fault(self, seat, process->expelled_ns, process->expelled_ns, "slow");
    }
}

/* Every process that joined and is not in the view: its requests move on (rule M9). Its socket is
 * read to the end first, so that what it emitted in time counts. */
static void retire_members(launcher *self)
{
    for (int seat = 0; seat < self->run.max_ranks; seat++) {
        record_process *process = launcher_process_of(self, seat);
        if (!process || !process->joined_ns || launcher_is_member(self, process)) {
            continue;
        }
        launcher_reap(self, seat);
        note_expulsion(self, seat, process);
        launcher_read_rank(self, seat);
        (void)scheduler_seat_ended(self->scheduler, seat, process->generation);
    }
    for (int seat = 0; seat < self->run.max_ranks; seat++) {
        launcher_open_if_active(self, seat);
    }
}

/* A committed view, newer than the last one. False: no memory. */
static bool add_view(launcher *self, const eepi_view *view)
{
    record_view *added = record_add_view(&self->run);
    if (!added) {
        return false;
    }
    added->time_ns = now_ns();
    added->epoch = view->epoch;
    added->phase = view->phase;
    added->cause = view->cause;
    for (int s = 0; s < self->run.max_ranks; s++) {
        added->generation[s] =
            eepi_view_is_member(view, s) ? eepi_view_seat_at(view, s)->generation : 0;
    }
    return true;
}

/* A rank has told of its generation before any view can have it. Both may wait here to be read:
 * this process was not run for a while, or it is a foreign rank, whose trace wakes nobody. */
static void hear_all(launcher *self)
{
    for (int s = 0; s < self->run.max_ranks; s++) {
        launcher_read_rank(self, s);
    }
}

static void on_view(launcher *self, const void *value, size_t size)
{
    const char *why = "";
    uint64_t *aligned = malloc(size + sizeof *aligned);
    if (!aligned) {
        return;
    }
    memcpy(aligned, value, size);
    hear_all(self);
    eepi_view *view = (eepi_view *)aligned;
    const record_view *last = launcher_last_view(self);
    if (eepi_view_check(aligned, size, &why) != EEP_OK) {
        launcher_fail(self, "the store holds a bad view: %s", why);
    } else if (view->shape.max_ranks != self->run.max_ranks) {
        launcher_fail(self,
                      "the store has an instance of %d seats, and --max-ranks is %d: give that "
                      "number or another store, or remove that instance (eep-store --forget)",
                      (int)view->shape.max_ranks, (int)self->run.max_ranks);
    } else if (!last || view->epoch > last->epoch) {
        if (!add_view(self, view)) {
            launcher_fail(self, "out of memory");
        } else {
            launcher_mark_members(self);
            launcher_note(self, "view", NULL, view->phase);
            free(self->view);
            self->view = view;
            retire_members(self);
            run_script_of_repair(self);
            return;
        }
    }
    free(aligned);
}

void launcher_read_store(launcher *self)
{
    eepi_store_reply reply;
    while (eepi_store_client_next(self->store.client, &reply) == EEP_OK) {
        bool entry = reply.kind == EEPI_STORE_ENTRY || reply.kind == EEPI_STORE_CHANGED;
        if (entry && reply.size && !self->ending.stopping && strcmp(reply.key, "view") == 0) {
            on_view(self, reply.value, reply.size);
        }
    }
}
