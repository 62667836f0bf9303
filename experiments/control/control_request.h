/* SPDX-License-Identifier: Apache-2.0 */
/* The control as an object, and the requests of its peers. Private to control_socket.c and
 * control_request.c. */
#ifndef EEPX_CONTROL_REQUEST_H
#define EEPX_CONTROL_REQUEST_H

#include "experiments/control/control_socket.h"
#include "experiments/control/control_listen.h"
#include "experiments/control/control_path.h"
#include "experiments/control/control_peer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum wait_goal { GOAL_NONE, GOAL_SETTLED, GOAL_DONE } wait_goal;

/* The answers that a peer still waits for. */
typedef struct control_owed {
    bool watches;
    wait_goal goal;
    cJSON *id; /* of the wait */
    double timeout_s, deadline_ms;
    bool asked;      /* a whole line has come */
    uint64_t heard;  /* grows; of its last line, or of its coming */
    double since_ms; /* when the connection came */
} control_owed;

struct control {
    const control_ops *ops;
    void *user;
    control_socket socket;
    int reserve_fd; /* given up for a moment to turn a connection away when descriptors run out */
    double now_ms;
    uint64_t num_heard;
    double accept_again_ms; /* until then no connection is taken */
    char path[CONTROL_PATH_BYTES];
    control_owed owed[CONTROL_MAX_PEERS];
    control_peer peer[CONTROL_MAX_PEERS];
};

/* A new answer to the request of that id (NULL: it had none), to add members to; send and free it.
 */
cJSON *control_answer_to(const cJSON *id, bool ok);
void control_answer(control *self, int index, cJSON *answer);
/* Answer `ok: false`; `id` may be NULL. */
void control_refuse(control *self, int index, const cJSON *id, const char *error);
/* One line of the peer, of so many bytes, which the string's end follows: do it and answer. */
void control_on_line(control *self, int index, const char *line, size_t bytes);
/* A wait of the peer that is over is answered; a timeout is not a success. */
void control_settle_wait(control *self, int index);
#endif
