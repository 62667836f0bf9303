/* What the launcher notes of the world around the ranks: what the placement survives, and how busy
 * the machine is. */
#include "experiments/launcher_state.h"
#include "experiments/output.h"

#include <stdio.h>
#include <unistd.h>

/* Ranks count as ours also while they live. */
static bool time_now(launcher *self, machine_time *time_out)
{
    pid_t pids[EEP_MAX_RANKS + 1] = {self->ranks->host.pid};
    size_t num = 1;
    for (int s = 0; s < self->run.max_ranks; s++) {
        pids[num++] = self->ranks->seat[s].pid;
    }
    return machine_time_now(pids, num, time_out);
}

void launcher_note_machine(launcher *self)
{
    machine_time end;
    if (self->begin.all > 0 && time_now(self, &end)) {
        self->run.machine = machine_use_between(&self->begin, &end);
    }
}

/* Which deaths stop the instance is known now, and would otherwise be found out by one. */
static void tell_cover(launcher *self)
{
    cover *found = &self->run.cover;
    char text[COVER_TEXT_BYTES];
    if (!self->view || !cover_of(self->view, found)) {
        return;
    }
    cover_describe(found, (int)self->how->num_slots, text);
    if (found->adjacent == 0 && found->num_ranks > 1) {
        launcher_complain(self, "%s", text);
    } else if (!self->how->quiet && !output_is_stuck(STDOUT_FILENO)) {
        printf("%s%s\n", self->is_tty ? "\r\033[K" : "", text);
    }
}

void launcher_note_start(launcher *self)
{
    tell_cover(self);
    if (!time_now(self, &self->begin)) {
        self->begin = (machine_time){0};
    }
}
