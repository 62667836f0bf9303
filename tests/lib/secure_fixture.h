/* SPDX-License-Identifier: Apache-2.0 */
/* Two ends of a channel whose bytes a test carries, changes and keeps. */
#ifndef TESTS_SECURE_FIXTURE_H
#define TESTS_SECURE_FIXTURE_H

#include "transport/secure/secure_channel.h"

#include <criterion/criterion.h>
#include <string.h>

enum { SECURE_MESSAGE_MAX = 100 * 1000 };

static inline eepi_secure_config secure_config(bool is_server)
{
    eepi_secure_config config = {
        .is_server = is_server,
        .own = {.service = "test", .instance = "job", .seat = -1, .newest = 2, .oldest = 1},
        .wanted_seat = -1,
        .max_message_bytes = SECURE_MESSAGE_MAX,
        .max_unsent_bytes = 4 * SECURE_MESSAGE_MAX,
    };
    strcpy(config.own.role, is_server ? "server" : "client");
    memset(config.key.bytes, 7, sizeof config.key.bytes);
    return config;
}

static inline eepi_secure_channel secure_begin(const eepi_secure_config *config, int nonce)
{
    eepi_secure_channel channel;
    unsigned char bytes[EEPI_SECURE_NONCE_BYTES];
    memset(bytes, nonce, sizeof bytes);
    cr_assert_eq(eepi_secure_begin(&channel, config, bytes, 1000), EEP_OK);
    return channel;
}

/* Put the bytes into the channel, as much as it takes at a time. */
static inline eep_status secure_feed(eepi_secure_channel *channel, const void *bytes, size_t size)
{
    const unsigned char *from = bytes;
    eep_status status = EEP_ERR_TIMEOUT;
    while (size > 0 && status == EEP_ERR_TIMEOUT) {
        const void *payload;
        size_t space = 0, payload_bytes, now;
        void *to = eepi_secure_space(channel, &space);
        cr_assert(to && space > 0);
        now = size < space ? size : space;
        memcpy(to, from, now);
        eepi_secure_filled(channel, now);
        from += now;
        size -= now;
        while ((status = eepi_secure_next(channel, &payload, &payload_bytes)) == EEP_OK) {
            cr_assert_eq((uintptr_t)payload % 16, 0);
        }
    }
    return status;
}

/* All that `from` has to say, to `to`. */
static inline eep_status secure_carry(eepi_secure_channel *from, eepi_secure_channel *to)
{
    size_t bytes;
    const void *unsent = eepi_secure_unsent(from, &bytes);
    const eep_status status = secure_feed(to, unsent, bytes);
    eepi_secure_sent(from, bytes);
    return status;
}

/* Until neither has something to say. */
static inline void secure_meet(eepi_secure_channel *client, eepi_secure_channel *server)
{
    (void)!secure_carry(client, server);
    (void)!secure_carry(server, client);
    (void)!secure_carry(client, server);
}
#endif
