/* What the launcher's files share. Private to them. */
#ifndef EEPX_LAUNCHER_STATE_H
#define EEPX_LAUNCHER_STATE_H

#include "eep/store.h"
#include "experiments/base/folder.h"
#include "experiments/launcher/launcher_control.h"
#include "experiments/base/machine.h"
#include "experiments/setup/options.h"
#include "experiments/base/private_dir.h"
#include "experiments/rows/record.h"
#include "experiments/load/scheduler.h"
#include "experiments/children/store_process.h"
#include "experiments/children/supervisor.h"
#include "experiments/load/trace.h"
#include "membership/store/store_client.h"
#include "membership/view/view.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LAUNCHER_TEXT_BYTES = 256,
    LAUNCHER_NO_PROCESS = -1,
    LAUNCHER_MOST_FILLED = 1 << 18, /* requests that --keep-busy adds, at most */
};

typedef struct launcher {
    options effective;  /* as they were given, with limits that suit the device, and a script that
                           advances */
    const options *how; /* the same */
    private_dir store_dir; /* of the store that the launcher runs */
    char store_path[LAUNCHER_TEXT_BYTES];
    eep_store *store; /* at most one of the two */
    store_process *store_child;
    eepi_store_client *client;
    int signal_fd;
    folder_opened out; /* the output folder is ours while this is open */
    supervisor *ranks;
    scheduler *front;
    record run;
    int64_t *process; /* [max_ranks]: index of the seat's latest in run.processes, or NO_PROCESS */
    int32_t proposer; /* of the present view; -1: none yet */
    eepi_view *view;  /* the present one; NULL: none yet */
    trace load, filler; /* arrivals; lengths of what --keep-busy adds */
    size_t num_arrived, num_filled;
    uint64_t script_done_ns; /* when script and joins were done; 0: not yet */
    uint64_t waiting_ns;     /* since when the script waits for triggers only; 0: it does not */
    uint64_t idle_ns; /* since when only a trigger is waited for, without load; 0: it is not */
    uint64_t num_changes, changed_ns; /* of script, views and processes; and the last of them */
    launcher_control *control;        /* NULL: it could not be opened */
    bool stopping; /* the ranks were told to stop: what they still say is not of the run */
    bool told_nobody_left;
    bool failed;                       /* the run broke */
    char why[2 * LAUNCHER_TEXT_BYTES]; /* it broke or was cut off; "": neither, or unknown */
    bool poll_has_failed;              /* and that was said */
    uint64_t begun_ns;                 /* the run, before it serves */
    bool interrupted;                  /* by a signal or --max-seconds */
    uint64_t signal_ns;                /* the first signal to end; 0: none */
    bool at_once;                      /* and a second one: nothing more is written or waited for */
    uint64_t status_ns;                /* last status line */
    uint64_t status_tokens;
    machine_time begin; /* when serving started */
    bool is_tty;
    uint64_t packet[WIRE_MAX_BYTES / 8];
} launcher;

uint64_t launcher_now_ns(void);
/* Milliseconds since serving started; 0 before. */
double launcher_time_ms(const launcher *self);

/* launcher_input.c: what comes in */

/* The seat's latest process; NULL: there was none. */
record_process *launcher_process_of(const launcher *self, int seat);
/* A row about something that the launcher itself did or saw. */
void launcher_note(launcher *self, const char *kind, const record_process *process, uint64_t value);
/* Read everything the seat's rank has sent. */
void launcher_read_rank(launcher *self, int seat);
/* Take what the store has to say. */
void launcher_read_store(launcher *self);
/* Observe ended processes. */
void launcher_reap(launcher *self, int seat);
/* A fault struck the seat's process at `time_ns`: remember what the survivors do. */
void launcher_add_fault(launcher *self, int seat, uint64_t time_ns, const char *kind);
/* The process is in the present view. */
bool launcher_is_member(const launcher *self, const record_process *process);
/* It serves: in the view, joined, neither killed nor stopped nor retiring nor ended. */
bool launcher_is_active(const launcher *self, int seat);
/* We have stopped it and not continued it. */
bool launcher_is_stopped(const record_process *process);
/* A verb of ours may be why it is expelled or ends now. */
bool launcher_is_struck(const record_process *process, uint64_t now_ns);
/* A rank takes requests once it said so and the view has it, while it runs. */
void launcher_open_if_active(launcher *self, int seat);
/* Nothing is under way: whoever lives has joined, whoever ended, or was expelled while stopped, is
 * out of the view. */
bool launcher_is_settled(const launcher *self);

/* launcher_script.c */

/* What script and plan ask of a seat; `user` is the launcher: it is active; a process of it runs.
 */
bool launcher_sees_active(const void *user, int seat);
bool launcher_sees_running(const void *user, int seat);
/* How many experts no living rank of the present view holds (in the layer where they are most). */
int launcher_uncovered(const launcher *self);
/* The seat's process was asked to leave, and cannot: it alone holds some expert, and the slots of
 * those that stay are fewer than the experts. Why, into `text` (NULL: not said). */
bool launcher_lacks_room(const launcher *self, int seat, char *text, size_t size);
/* Do what the script says is due. */
void launcher_run_script(launcher *self);
/* What came of all its events, at the end of the run: into self->run. */
void launcher_record_script(launcher *self);
/* What the script may wait for has come about. */
void launcher_saw(launcher *self, script_state state, int seat);
void launcher_saw_event(launcher *self, eep_event_kind kind, int seat);
/* self->view is new. */
void launcher_saw_view(launcher *self);

/* launcher_world.c */

/* Serving starts: what the first view survives is told, and the machine's time noted. */
void launcher_note_start(launcher *self);
/* Serving is over: into self->run, how busy the machine was. */
void launcher_note_machine(launcher *self);

/* launcher_plan.c */

/* Do what the plan says is due; a phase that was not as planned ends the run. Without a plan
 * nothing. */
void launcher_run_plan(launcher *self);
bool launcher_plan_is_over(const launcher *self);

/* launcher_control.c: which rank is not settled and why, for a person; false: none. */
bool launcher_unsettled_text(const launcher *self, char *text, size_t size);

/* launcher_over.c: whether and why the run is over */

/* No process is left but those that were stopped and expelled. */
bool launcher_nobody_is_left(const launcher *self);
/* True: the run is over, by its end or by giving up. *progress and *progress_ns are its own. */
bool launcher_is_over(launcher *self, uint64_t now_ns, uint64_t *progress, uint64_t *progress_ns);
/* launcher.c: what it asks */
bool launcher_arrivals_are_over(const launcher *self);
bool launcher_keeps_busy(launcher *self, uint64_t now_ns);
uint32_t launcher_outstanding(const launcher *self);

/* The run is broken, and that is why: said on standard error, and in summary.json if it is the
 * first reason. */
void launcher_fail(launcher *self, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same for a run that is cut off by who started it. */
void launcher_interrupt(launcher *self, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Say something to a person on standard error, whatever --quiet says. */
void launcher_complain(launcher *self, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
#endif
