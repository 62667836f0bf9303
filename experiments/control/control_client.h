/* SPDX-License-Identifier: Apache-2.0 */
/* The other end of the control socket: one line of JSON out, lines of JSON in. */
#ifndef EEPX_CONTROL_CLIENT_H
#define EEPX_CONTROL_CLIENT_H

#include "eep/status.h"

#include <cjson/cJSON.h>
#include <stddef.h>

enum { CONTROL_CLIENT_LINE_BYTES = 512 * 1024 }; /* longest answer that is taken */

typedef struct control_client {
    int fd;
    size_t num_in, num_taken;
    char in[CONTROL_CLIENT_LINE_BYTES];
} control_client;

/* Connect to a run of this user (or root's). EEP_ERR_UNREACHABLE: no process listens at `path`;
 * EEP_ERR_STATE: another user's does; EEP_ERR_INVALID, EEP_ERR_NO_MEMORY, EEP_ERR_SYSTEM. */
EEP_MUST_CHECK eep_status control_client_open(const char *path, control_client **client_out);
void control_client_close(control_client *self);
/* EEP_ERR_UNREACHABLE: the run has ended. */
EEP_MUST_CHECK eep_status control_client_send(control_client *self, const cJSON *request);
/* The next line; cJSON_Delete it. timeout_s < 0: however long it takes. EEP_ERR_TIMEOUT;
 * EEP_ERR_UNREACHABLE: the run hung up; EEP_ERR_PROTOCOL: that was no JSON object. */
EEP_MUST_CHECK eep_status control_client_next(control_client *self, double timeout_s,
                                              cJSON **line_out);
#endif
