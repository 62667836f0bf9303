/* SPDX-License-Identifier: Apache-2.0 */
/* A full restart, from the end of one rank until all serve again.
 *
 * The end of a process is noticed by its parent, the launcher, at once: a collective library would
 * notice it later, by a reset connection at best. A rank that hangs is noticed as libeep notices
 * it, by silence or missed deadlines. No rank serves in another view than the one it began with
 * (rank.c), whatever libeep commits until all are killed. New processes take the way of a joiner;
 * they find no member that lives, so libeep begins again (docs/PROTOCOL.md). */
#include "experiments/launcher/launcher_restart.h"

#include "experiments/base/monotonic.h"
#include "experiments/base/page_cache.h"
#include "experiments/launcher/launcher_rank.h"
#include "experiments/launcher/launcher_verbs.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

/* ---------------------------------------------------------------- the checkpoint's pages */

void launcher_cool(launcher *self)
{
    if (self->options.cold_checkpoint && page_cache_drop(self->options.checkpoint) != 0) {
        launcher_complain(self, "--cold-checkpoint: '%s': %s", self->options.checkpoint,
                          strerror(errno));
    }
}

/* ---------------------------------------------------------------- the present one */

/* The restart that is under way; NULL: none is. */
static record_restart *present(const launcher *self)
{
    record_restart *last =
        self->run.num_restarts ? &self->run.restarts[self->run.num_restarts - 1] : NULL;
    return last && !last->joined_ns ? last : NULL;
}

bool launcher_restarts_now(const launcher *self)
{
    return present(self) != NULL;
}

/* The seat whose process ended, or was expelled, and was not killed by a restart; -1: none. */
static int lost_seat(const launcher *self)
{
    const record_restart *now = present(self);
    bool ending = now && !now->ended_ns;
    for (int seat = 0; !ending && seat < self->run.max_ranks; seat++) {
        const record_process *process = launcher_process_of(self, seat);
        bool expelled = process && process->left_view && process->left_by_fault;
        if (process && (process->exit_ns || expelled)) {
            return seat;
        }
    }
    return -1;
}

/* A process that ends by itself before all serve would end again after every further restart. */
static bool may_begin(launcher *self, int seat)
{
    const record_process *process = launcher_process_of(self, seat);
    if (process->joined_ns || launcher_is_injected(process, now_ns())) {
        return true;
    }
    launcher_fail(self, "rank %d ended before all ranks served again: the run ends", seat);
    return false;
}

/* A rank that was told to die may be on its way out while the view has left it out already: its end
 * is its own. */
static void kill_all(launcher *self, int lost)
{
    for (int seat = 0; seat < self->run.max_ranks; seat++) {
        record_process *process = launcher_process_of(self, seat);
        if (process && self->ranks->seat[seat].lives) {
            uint64_t time_ns = supervisor_signal(self->ranks, seat, SIGKILL);
            if (!process->kill_ns && !(seat == lost && process->die_ns)) {
                process->kill_ns = time_ns;
            }
        }
        scheduler_seat_close(self->scheduler, seat);
    }
}

static void begin(launcher *self, int seat)
{
    uint64_t noticed_ns = now_ns();
    kill_all(self, seat);
    record_restart *restart = record_add_restart(&self->run);
    if (!restart) {
        launcher_fail(self, "out of memory");
        return;
    }
    *restart = (record_restart){.process = (size_t)self->process[seat], .noticed_ns = noticed_ns};
    for (int s = 0; s < self->run.max_ranks; s++) {
        launcher_read_rank(self, s); /* what it sent before its end counts */
    }
    eep_status status =
        scheduler_fail_served(self->scheduler, launcher_time_ms(self), &restart->failed);
    if (status != EEP_OK) {
        launcher_fail(self, "the %u requests that failed cannot be sent again: %s",
                      restart->failed.num, eep_strerror(status));
    }
    launcher_note_at(self, noticed_ns, "restart", launcher_process_of(self, seat),
                     restart->failed.num);
}

static bool all_have_ended(const launcher *self)
{
    for (int seat = 0; seat < self->run.max_ranks; seat++) {
        if (self->ranks->seat[seat].lives) {
            return false;
        }
    }
    return true;
}

/* The page cache is looked at once for all, and before they are started. */
static void start_all(launcher *self, record_restart *restart)
{
    restart->ended_ns = now_ns();
    double cached = launcher_checkpoint_cached(self);
    restart->first_process = self->run.num_processes;
    restart->num_processes = (size_t)self->options.num_ranks;
    for (int seat = 0; seat < self->options.num_ranks && !self->ending.failed; seat++) {
        launcher_start_rank(self, seat, false);
        if (!self->ending.failed) {
            record_process *process = launcher_process_of(self, seat);
            process->restarted = true;
            process->cached = cached;
        }
    }
}

static bool all_serve(const launcher *self)
{
    for (int seat = 0; seat < self->options.num_ranks; seat++) {
        if (!launcher_is_active(self, seat)) {
            return false;
        }
    }
    return true;
}

void launcher_run_restart(launcher *self)
{
    if (self->options.baseline != OPTIONS_RESTART || self->ending.failed) {
        return;
    }
    int seat = lost_seat(self);
    if (seat >= 0 && may_begin(self, seat)) {
        begin(self, seat);
    }
    record_restart *now = present(self);
    if (!now || self->ending.failed) {
        return;
    }
    if (!now->ended_ns && all_have_ended(self)) {
        start_all(self, now);
    } else if (now->ended_ns && all_serve(self)) {
        now->joined_ns = now_ns();
        launcher_note(self, "restarted", NULL, (uint64_t)self->options.num_ranks);
        launcher_cool(self);
    }
}
