/* SPDX-License-Identifier: Apache-2.0 */
/* The control socket of a running eep-run: commands and questions in, answers and events out, one
 * JSON object per line (docs/CONTROL.md). It knows verbs and their text; what they do is behind
 * control_ops, so that it is tested without a launcher. No call waits; one thread owns a control.
 */
#ifndef EEPX_CONTROL_SOCKET_H
#define EEPX_CONTROL_SOCKET_H

#include "eep/status.h"
#include "experiments/script/script.h"

#include <cjson/cJSON.h>
#include <poll.h>
#include <stdbool.h>

enum {
    CONTROL_MAX_PEERS = 16,
    CONTROL_MAX_FDS = 1 + CONTROL_MAX_PEERS,
    CONTROL_ERROR_BYTES = SCRIPT_ERROR_BYTES,
};

/* What the control asks of its owner; all are called from within control_take. */
typedef struct control_ops {
    /* Take a parsed verb. True: taken; the seats that it was done to, and, while it waits for more,
     * the number by which it can be withdrawn (else untouched). False: `error` says why not, and
     * nothing was done. It may be kept all the same, as an event that is over and was done to
     * nobody. */
    bool (*command)(void *user, const script_event *event, int seats_out[SCRIPT_MAX_SEATS],
                    int *num_seats_out, int *id_out, char error[CONTROL_ERROR_BYTES]);
    /* End the run once what has arrived is served. */
    void (*finish)(void *user);
    /* Describe the instance: add members to `answer`. */
    void (*status)(void *user, cJSON *answer);
    /* It serves, nothing scripted is left to do, and nobody is about to join or to leave. False:
     * `why`, if it is not NULL, says what is waited for. */
    bool (*settled)(void *user, char why[CONTROL_ERROR_BYTES]);
    /* List what is not done yet: add members to `answer`. */
    void (*pending)(void *user, cJSON *answer);
    /* Withdraw what has that number there. False: `error` says why not. */
    bool (*cancel)(void *user, int id, char error[CONTROL_ERROR_BYTES]);
} control_ops;

typedef struct control control;

/* Listen on a Unix socket of mode 0600 at `path`; a stale socket there is replaced. `ops` is
 * borrowed. EEP_ERR_INVALID, EEP_ERR_CONFLICT (a process listens there), EEP_ERR_SYSTEM,
 * EEP_ERR_NO_MEMORY; `error` says why. */
EEP_MUST_CHECK eep_status control_open(const char *path, const control_ops *ops, void *user,
                                       control **control_out, char error[CONTROL_ERROR_BYTES]);
/* Fill CONTROL_MAX_FDS entries for poll(). */
void control_fds(const control *self, struct pollfd set_out[CONTROL_MAX_FDS]);
/* Take what came in on the entries that control_fds filled and poll() marked; answer waits that are
 * over. `now_ms`: of any monotonic clock, the same in all calls. */
void control_handle(control *self, const struct pollfd set[CONTROL_MAX_FDS], double now_ms);
/* Somebody watches: an event is worth being described. */
bool control_is_watched(const control *self);
/* Tell an event to all peers that watch. `line`: a JSON object without a newline. */
void control_event(control *self, const char *line);
/* The run has ended: tell the peers that wait or watch, hang up, remove the socket. NULL is
 * ignored. */
void control_close(control *self, bool good);
#endif
