/* What the launcher notes of the world around the ranks: what the placement survives, and how busy
 * the machine is. */
#include "experiments/launcher/launcher_state.h"
#include "graphs/base/say.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const uint64_t LONGEST_COVER_NS = 200000000;

/* Whoever we have started counts as ours also while it lives: ranks, the store, and what burns. */
static bool time_now(launcher *self, machine_time *time_out)
{
    const supervisor *ranks = self->ranks;
    size_t num = 0;
    pid_t *pids = malloc((size_t)(self->run.max_ranks + ranks->num_burners + 2) * sizeof *pids);
    if (!pids) {
        return false;
    }
    pids[num++] = ranks->host.pid;
    pids[num++] = store_process_pid(self->store_child);
    for (int s = 0; s < self->run.max_ranks; s++) {
        pids[num++] = ranks->seat[s].pid;
    }
    for (int i = 0; i < ranks->num_burners; i++) {
        pids[num++] = ranks->burners[i];
    }
    bool known = machine_time_now(pids, num, time_out);
    free(pids);
    return known;
}

void launcher_note_machine(launcher *self)
{
    machine_time end;
    if (self->begin.all > 0 && time_now(self, &end)) {
        self->run.machine = machine_use_between(&self->begin, &end);
    }
}

/* Requests wait for it. */
static bool is_early(void *until_ns)
{
    return launcher_now_ns() < *(uint64_t *)until_ns;
}

/* Which deaths stop the instance is known now, and would otherwise be found out by one. */
static void tell_cover(launcher *self)
{
    cover *found = &self->run.cover;
    char text[COVER_TEXT_BYTES];
    uint64_t until_ns = launcher_now_ns() + LONGEST_COVER_NS;
    cover_status status =
        self->view ? cover_of(self->view, is_early, &until_ns, found) : COVER_NO_MEMORY;
    if (status == COVER_GIVEN_UP) {
        launcher_complain(self, "which deaths the placement survives is not known within %g s",
                          (double)LONGEST_COVER_NS / 1e9);
    }
    if (status != COVER_KNOWN) {
        return;
    }
    cover_describe(found, (int)self->how->num_slots, text);
    if (found->adjacent == 0 && found->num_ranks > 1) {
        launcher_complain(self, "%s", text);
    } else if (!self->how->quiet) {
        char line[sizeof text + 32];
        int bytes = snprintf(line, sizeof line, "%s%s\n", self->is_tty ? "\r\033[K" : "", text);
        eepi_say(STDOUT_FILENO, line, (size_t)bytes);
    }
}

void launcher_note_start(launcher *self)
{
    tell_cover(self);
    if (!time_now(self, &self->begin)) {
        self->begin = (machine_time){0};
    }
}
