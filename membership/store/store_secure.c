/* SPDX-License-Identifier: Apache-2.0 */
#include "membership/store/store_secure.h"

#include "transport/secure/secure_socket.h"

#include <stdio.h>
#include <string.h>

static _Thread_local char last_why[EEPI_SECURE_WHY_BYTES];

char *eepi_store_secure_why(void)
{
    return last_why;
}

eep_status eepi_store_secure_config(const eepi_store_url *url, bool is_server,
                                    eepi_secure_config *config_out, char *why, size_t why_bytes)
{
    *config_out = (eepi_secure_config){
        .is_server = is_server,
        .own = {.service = "store",
                .seat = -1,
                .newest = EEPI_STORE_VERSION,
                .oldest = EEPI_STORE_VERSION_OLDEST},
        .wanted_seat = -1,
        .max_message_bytes = EEPI_STORE_RECORD_BYTES,
        .max_unsent_bytes = 2 * EEPI_STORE_RECORD_BYTES,
    };
    strcpy(config_out->own.role, is_server ? "store" : "client");
    snprintf(config_out->own.instance, sizeof config_out->own.instance, "%s", url->instance);
    return eepi_secure_key_read(url->key_file, &config_out->key, why, why_bytes);
}

/* All whole messages that are there, to the inbox. */
static eep_status take_messages(eepi_secure_channel *channel, eepi_store_inbox *inbox,
                                size_t *bytes_out)
{
    for (;;) {
        const void *payload;
        size_t bytes;
        const eep_status status = eepi_secure_next(channel, &payload, &bytes);
        if (status != EEP_OK) {
            return status;
        }
        if (!eepi_store_inbox_put(inbox, payload, bytes)) {
            return EEP_ERR_NO_MEMORY;
        }
        *bytes_out += bytes;
    }
}

eep_status eepi_store_secure_receive(eepi_secure_channel *channel, int fd, eepi_store_inbox *inbox,
                                     size_t *bytes_out)
{
    eep_status status = eepi_secure_receive(channel, fd);
    *bytes_out = 0;
    if (status != EEP_OK) {
        if (status == EEP_ERR_UNREACHABLE && channel->state < EEPI_SECURE_OPEN) {
            channel->fault = EEPI_SECURE_UNPROVEN;
        }
        return status;
    }
    status = take_messages(channel, inbox, bytes_out);
    (void)!eepi_secure_flush(channel, fd); /* an answer, a proof; what was said before counts */
    return status == EEP_ERR_TIMEOUT ? EEP_OK : status;
}

eep_status eepi_store_secure_send(eepi_secure_channel *channel, int fd, struct iovec *parts,
                                  size_t num_parts, size_t *bytes_out)
{
    size_t unsent = 0, room = EEPI_STORE_RECORD_BYTES;
    int num = 0;
    const eep_status status = eepi_secure_flush(channel, fd);
    *bytes_out = 0;
    (void)eepi_secure_unsent(channel, &unsent);
    if (status != EEP_OK || unsent > 0 || !eepi_secure_is_open(channel)) {
        return status;
    }
    while ((size_t)num < num_parts && room > 0) {
        parts[num].iov_len = parts[num].iov_len < room ? parts[num].iov_len : room;
        room -= parts[num++].iov_len;
    }
    if (room == EEPI_STORE_RECORD_BYTES || eepi_secure_put(channel, parts, num) != EEP_OK) {
        return EEP_OK; /* no memory for it now */
    }
    *bytes_out = EEPI_STORE_RECORD_BYTES - room;
    return eepi_secure_flush(channel, fd);
}
