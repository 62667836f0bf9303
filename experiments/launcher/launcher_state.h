/* SPDX-License-Identifier: Apache-2.0 */
/* The running job as one object, and what every file of the launcher asks of it. Private to them.
 */
#ifndef EEPX_LAUNCHER_STATE_H
#define EEPX_LAUNCHER_STATE_H

#include "eep/store.h"
#include "experiments/base/folder.h"
#include "experiments/base/machine.h"
#include "experiments/children/run_store.h"
#include "experiments/children/supervisor.h"
#include "experiments/launcher/launcher_load.h"
#include "experiments/launcher/launcher_over.h"
#include "experiments/load/scheduler.h"
#include "experiments/rows/record.h"
#include "experiments/setup/options.h"
#include "membership/view/view.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LAUNCHER_TEXT_BYTES = 256,
    LAUNCHER_NO_PROCESS = -1,
};

/* How the run ends: by itself, broken, or cut off by the person who started it. */
typedef struct launcher_ending {
    bool finishing;                    /* `finish` was said: nothing new begins */
    uint64_t finish_ns;                /* when */
    bool stopping;                     /* the ranks were told to stop: what they still send is not
                                          of the run */
    bool failed;                       /* the run broke */
    bool interrupted;                  /* by a signal or --max-seconds */
    char why[2 * LAUNCHER_TEXT_BYTES]; /* it broke or was cut off; "": neither, or unknown */
    bool poll_has_failed;              /* and a line said so */
    int signal_fd;                     /* SIGINT and SIGTERM */
    uint64_t signal_ns;                /* the first of them; 0: none */
    bool at_once;                      /* a second one: nothing more is written or waited for */
} launcher_ending;

/* The status line on standard output. */
typedef struct launcher_screen {
    bool is_tty;
    uint64_t shown_ns; /* the last line; 0: none */
    uint64_t shown_tokens;
} launcher_screen;

struct launcher {
    options options; /* as given, with limits that suit the device; script and plan advance */
    run_store store;
    folder_opened out; /* the output folder is ours while this is open */
    supervisor *ranks;
    scheduler *scheduler;
    launcher_load load;
    record run;
    int64_t *process; /* [max_ranks]: index of the seat's latest in run.processes, or NO_PROCESS */
    eepi_view *view;  /* the present one; NULL: none yet */
    struct launcher_control *control; /* NULL: it could not be opened */
    launcher_progress progress;
    launcher_ending ending;
    launcher_screen screen;
    machine_time begin;                  /* when serving started */
    uint64_t packet[WIRE_MAX_BYTES / 8]; /* the one that is being read or written */
};

/* Milliseconds since serving started; 0 before. */
double launcher_time_ms(const launcher *self);

/* ---------------------------------------------------------------- processes and membership */

/* The seat's latest process; NULL: there was none. */
record_process *launcher_process_of(const launcher *self, int seat);
/* The newest view, as it is recorded; NULL: none yet. */
const record_view *launcher_last_view(const launcher *self);
/* The process is in the present view. */
bool launcher_is_member(const launcher *self, const record_process *process);
/* It serves: in the view, joined, neither killed nor stopped nor retiring nor ended. */
bool launcher_is_active(const launcher *self, int seat);
/* The launcher has stopped it and not continued it. */
bool launcher_is_stopped(const record_process *process);
/* The launcher has slowed it down, and that may still have its effect. */
bool launcher_is_slow(const record_process *process, uint64_t now_ns);
/* The network of its host was disturbed, and that may still have its effect. */
bool launcher_is_cut(const record_process *process, uint64_t now_ns);
/* A verb of the launcher may be why the process is expelled or ends now. */
bool launcher_is_injected(const record_process *process, uint64_t now_ns);
/* A slow-down may be why, and no other verb. */
bool launcher_is_only_slow(const record_process *process, uint64_t now_ns);
/* The same as questions of script and plan, of which `user` is the launcher: the seat's rank
 * serves; a process runs in the seat. */
bool launcher_seat_is_active(const void *user, int seat);
bool launcher_seat_runs(const void *user, int seat);

/* The share of the checkpoint that is in the page cache; < 0: there is none, or nobody can tell. */
double launcher_checkpoint_cached(const launcher *self);

/* ---------------------------------------------------------------- rows and faults */

/* A row about something that the launcher itself did or saw, now or at a given time. */
void launcher_note(launcher *self, const char *kind, const record_process *process, uint64_t value);
void launcher_note_at(launcher *self, uint64_t time_ns, const char *kind,
                      const record_process *process, uint64_t value);
/* A fault hit the seat's process at `time_ns`: record what the survivors do. Suspicions of it count
 * from `since_ns` on: peers may know of it before the launcher does. */
void launcher_add_fault(launcher *self, int seat, uint64_t since_ns, uint64_t time_ns,
                        const char *kind);
/* A rank gets requests once it has said so and the view has it, while it runs. */
void launcher_open_if_active(launcher *self, int seat);

/* ---------------------------------------------------------------- script, plan and control */

/* The seat is in a state that the script may wait for. */
void launcher_on_state(launcher *self, script_state state, int seat);
/* Record which processes are in the newest view for the first time, and which no longer are. */
void launcher_mark_members(launcher *self);
/* No plan, or all its phases have ended. */
bool launcher_plan_is_over(const launcher *self);
/* --serve, and nobody has said `finish`: the run stays up, whatever it has to do. */
bool launcher_serves_on(const launcher *self);

/* ---------------------------------------------------------------- for a person */

/* The run is broken, and that is why: said on standard error, and in summary.json if it is the
 * first reason. */
void launcher_fail(launcher *self, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same for a run that is cut off by the person who started it. */
void launcher_interrupt(launcher *self, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* A line on standard error, whatever --quiet says. */
void launcher_complain(const launcher *self, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
#endif
