/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the instance is settled, or which rank holds it up. */
#include "experiments/launcher/launcher_settled.h"

#include "experiments/launcher/launcher_experts.h"

#include <stdio.h>

bool launcher_runs_commands(const launcher *self)
{
    return self->ranks->links && host_commands_are_busy(host_links_commands(self->ranks->links));
}

bool launcher_is_settled(const launcher *self)
{
    for (int seat = 0; seat < self->run.max_ranks; seat++) {
        const record_process *process = launcher_process_of(self, seat);
        if (!process) {
            continue;
        }
        bool member = launcher_is_member(self, process);
        /* A thread that loads ends with its process: a run that is told to finish waits for none.
         */
        bool ends = self->ending.finishing && process->kill_ns && !process->joined_ns;
        bool ended = process->exit_ns || launcher_is_stopped(process) || ends;
        if (!ended && launcher_lacks_room(self, seat, NULL, 0)) {
            continue; /* it serves until there is room, and nothing here makes room */
        }
        if (ended ? member : !launcher_is_active(self, seat)) {
            return false;
        }
    }
    return true;
}

/* Why the seat's process is not settled; NULL: it is. */
static const char *reason_of(const launcher *self, int seat)
{
    const record_process *process = launcher_process_of(self, seat);
    if (!process) {
        return NULL;
    }
    bool member = launcher_is_member(self, process);
    if (process->exit_ns) {
        return member ? "has ended and is still in the view" : NULL;
    }
    if (launcher_is_stopped(process)) {
        return member                 ? "is stopped and still in the view"
               : process->expelled_ns ? NULL
                                      : "is stopped";
    }
    if (process->expelled_ns) {
        return launcher_is_active(self, seat) ? NULL : "was expelled and has not ended";
    }
    if (process->die_ns || process->freeze_ns) {
        return "was told to die or to freeze at its next step";
    }
    return launcher_is_active(self, seat) ? NULL
           : process->drain_ns            ? "is leaving"
           : process->kill_ns             ? "was killed and has not ended"
                                          : "is joining";
}

bool launcher_unsettled_text(const launcher *self, char *text, size_t size)
{
    for (int seat = 0; seat < self->run.max_ranks; seat++) {
        char room[SCRIPT_ERROR_BYTES / 2];
        const char *why = reason_of(self, seat);
        if (why) {
            bool lacks = launcher_lacks_room(self, seat, room, sizeof room);
            snprintf(text, size, "rank %d %s", seat, lacks ? room : why);
            return true;
        }
    }
    return false;
}
