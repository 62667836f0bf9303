/* SPDX-License-Identifier: Apache-2.0 */
/* What every file of the launcher asks: the time, the process in a seat and what it does now, and
 * whether the run has script, plan or load left. Rows, faults and lines for a person begin here. */
#include "experiments/launcher/launcher_state.h"

#include "experiments/base/monotonic.h"
#include "experiments/base/page_cache.h"
#include "graphs/base/say.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

/* A stop or a slow-down that has ended may still get its rank expelled for this long. */
static const uint64_t INJECTED_NS = 5000000000;

double launcher_time_ms(const launcher *self)
{
    return self->run.start_ns ? (double)(now_ns() - self->run.start_ns) / 1e6 : 0;
}

/* ---------------------------------------------------------------- for a person */

static void say(const launcher *self, const char *text)
{
    char line[4 * LAUNCHER_TEXT_BYTES + 32];
    int bytes = snprintf(
        line, sizeof line, "%s%s\n",
        self->screen.is_tty && !self->options.quiet ? "\r\033[Keep-run: " : "eep-run: ", text);
    eepi_say(STDERR_FILENO, line, (size_t)bytes);
}

void launcher_complain(const launcher *self, const char *format, ...)
{
    char text[4 * LAUNCHER_TEXT_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    say(self, text);
}

/* The first reason why a run fails is in its summary too. */
static __attribute__((format(printf, 2, 0))) void say_why(launcher *self, const char *format,
                                                          va_list args)
{
    char text[4 * LAUNCHER_TEXT_BYTES];
    vsnprintf(text, sizeof text, format, args);
    say(self, text);
    char *why = self->ending.why;
    if (!*why) {
        snprintf(why, sizeof self->ending.why, "%.*s", (int)sizeof self->ending.why - 1, text);
    }
}

void launcher_fail(launcher *self, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say_why(self, format, args);
    va_end(args);
    self->ending.failed = true;
}

void launcher_interrupt(launcher *self, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say_why(self, format, args);
    va_end(args);
    self->ending.interrupted = true;
}

/* ---------------------------------------------------------------- processes and membership */

record_process *launcher_process_of(const launcher *self, int seat)
{
    int64_t index = self->process[seat];
    return index == LAUNCHER_NO_PROCESS ? NULL : &self->run.processes[index];
}

const record_view *launcher_last_view(const launcher *self)
{
    return self->run.num_views ? &self->run.views[self->run.num_views - 1] : NULL;
}

bool launcher_is_member(const launcher *self, const record_process *process)
{
    const record_view *view = launcher_last_view(self);
    return view && process->generation && view->generation[process->seat] == process->generation;
}

bool launcher_is_active(const launcher *self, int seat)
{
    const record_process *process = launcher_process_of(self, seat);
    return process && process->joined_ns && !process->kill_ns && !process->drain_ns &&
           !process->exit_ns && !launcher_is_stopped(process) && launcher_is_member(self, process);
}

bool launcher_is_stopped(const record_process *process)
{
    return process->stop_ns && !process->cont_ns && !process->exit_ns;
}

/* A stop or slow-down from `begin_ns` to `end_ns` (0: not yet) may still have its effect. */
static bool has_effect(uint64_t begin_ns, uint64_t end_ns, uint64_t now_ns)
{
    return begin_ns && (!end_ns || now_ns < end_ns + INJECTED_NS);
}

bool launcher_is_slow(const record_process *process, uint64_t now_ns)
{
    return has_effect(process->slow_ns, process->slow_end_ns, now_ns);
}

bool launcher_is_cut(const record_process *process, uint64_t now_ns)
{
    return has_effect(process->cut_ns, process->cut_end_ns, now_ns);
}

bool launcher_is_injected(const record_process *process, uint64_t now_ns)
{
    return process->kill_ns || process->die_ns || process->freeze_ns ||
           has_effect(process->stop_ns, process->cont_ns, now_ns) ||
           launcher_is_cut(process, now_ns) || launcher_is_slow(process, now_ns);
}

bool launcher_is_only_slow(const record_process *process, uint64_t now_ns)
{
    return launcher_is_slow(process, now_ns) && !process->kill_ns && !process->die_ns &&
           !process->freeze_ns && !launcher_is_cut(process, now_ns) &&
           !has_effect(process->stop_ns, process->cont_ns, now_ns);
}

bool launcher_seat_is_active(const void *user, int seat)
{
    return launcher_is_active(user, seat);
}

bool launcher_seat_runs(const void *user, int seat)
{
    const launcher *self = user;
    return self->ranks->seat[seat].lives;
}

double launcher_checkpoint_cached(const launcher *self)
{
    return self->options.checkpoint ? page_cache_share(self->options.checkpoint) : -1;
}

/* ---------------------------------------------------------------- rows and faults */

void launcher_note_at(launcher *self, uint64_t time_ns, const char *kind,
                      const record_process *process, uint64_t value)
{
    const record_view *view = launcher_last_view(self);
    row_event row = {.time_ns = time_ns,
                     .epoch = view ? view->epoch : 0,
                     .value = value,
                     .kind = kind,
                     .seat = process ? process->seat : -1,
                     .generation = process ? process->generation : 0,
                     .about_seat = process ? process->seat : -1,
                     .about_generation = process ? process->generation : 0};
    rows_add_event(&self->run.rows, &row);
}

void launcher_note(launcher *self, const char *kind, const record_process *process, uint64_t value)
{
    launcher_note_at(self, now_ns(), kind, process, value);
}

void launcher_add_fault(launcher *self, int seat, uint64_t since_ns, uint64_t time_ns,
                        const char *kind)
{
    record_fault *fault = record_add_fault(&self->run, (size_t)self->run.max_ranks);
    if (!fault) {
        launcher_fail(self, "out of memory");
        return;
    }
    fault->process = (size_t)self->process[seat];
    fault->time_ns = time_ns;
    fault->since_ns = since_ns;
    fault->kind = kind;
    for (int s = 0; s < self->run.max_ranks; s++) {
        if (s != seat && launcher_is_active(self, s)) {
            const record_process *process = launcher_process_of(self, s);
            record_survivor *survivor = &fault->survivors[fault->num_survivors++];
            survivor->seat = s;
            survivor->generation = process->generation;
            survivor->activity =
                scheduler_activity(self->scheduler, s, process->generation, &survivor->request);
        }
    }
}

void launcher_open_if_active(launcher *self, int seat)
{
    if (launcher_is_active(self, seat)) {
        scheduler_seat_open(self->scheduler, seat, launcher_process_of(self, seat)->generation);
    }
}

/* ---------------------------------------------------------------- script, plan and control */

void launcher_on_state(launcher *self, script_state state, int seat)
{
    if (self->run.start_ns && !self->ending.stopping) {
        script_on_state(&self->options.script, state, seat, launcher_time_ms(self));
    }
}

void launcher_mark_members(launcher *self)
{
    const record_view *view = launcher_last_view(self);
    for (int seat = 0; view && seat < self->run.max_ranks; seat++) {
        record_process *process = launcher_process_of(self, seat);
        record_change change = process ? record_see_view(process, view) : RECORD_SAME;
        if (change == RECORD_CAME) {
            launcher_on_state(self, STATE_COMMITTED, seat);
        } else if (change == RECORD_LEFT && !process->drain_ns) {
            launcher_on_state(self, STATE_EXPELLED, seat);
        }
    }
}

bool launcher_plan_is_over(const launcher *self)
{
    return !self->options.plan || plan_is_over(self->options.plan);
}

bool launcher_serves_on(const launcher *self)
{
    return self->options.serve && !self->ending.finishing;
}
