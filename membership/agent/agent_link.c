/* SPDX-License-Identifier: Apache-2.0 */
/* One authenticated connection of an agent. */
#include "membership/agent/agent_link.h"

#include "graphs/base/clock.h"
#include "transport/secure/secure_socket.h"
#include "transport/secure/tcp_socket.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A peer that does not read for a while makes us keep so much. */
enum { MOST_UNSENT_BYTES = 65536, MUCH_UNSENT_BYTES = 16384 };

bool eepi_agent_address_parse(const char *text, char host_out[EEPI_AGENT_ADDRESS_HOST_BYTES],
                              uint16_t *port_out)
{
    const char *colon = strrchr(text, ':');
    const bool is_bracketed = colon && text[0] == '[' && colon > text + 2 && colon[-1] == ']';
    const char *from = is_bracketed ? text + 1 : text;
    const size_t bytes = colon ? (size_t)(colon - from) - is_bracketed : 0;
    char *end = NULL;

    if (bytes == 0 || bytes >= EEPI_AGENT_ADDRESS_HOST_BYTES || colon[1] < '0' || colon[1] > '9') {
        return false;
    }
    const unsigned long port = strtoul(colon + 1, &end, 10);
    if (*end != '\0' || port > UINT16_MAX) {
        return false;
    }
    snprintf(host_out, EEPI_AGENT_ADDRESS_HOST_BYTES, "%.*s", (int)bytes, from);
    *port_out = (uint16_t)port;
    return true;
}

static void name_host(uint64_t host, char *text, size_t bytes)
{
    snprintf(text, bytes, "%016" PRIx64, host);
}

static eep_status begin(eepi_agent_link *link, const eepi_agent_self *self, bool is_server)
{
    const bool is_agent = self->speaker == EEPI_AGENT_SPEAKER;
    eepi_secure_config config = {.key = self->key,
                                 .is_server = is_server,
                                 .own = {.service = "agent",
                                         .seat = is_agent ? -1 : self->speaker,
                                         .generation = self->generation,
                                         .newest = EEPI_AGENT_VERSION,
                                         .oldest = EEPI_AGENT_VERSION},
                                 .wanted_seat = -1,
                                 .max_message_bytes = EEPI_AGENT_MESSAGE_BYTES,
                                 .max_unsent_bytes = MOST_UNSENT_BYTES};
    eep_status status;

    snprintf(config.own.role, sizeof config.own.role, "%s", is_agent ? "agent" : "rank");
    name_host(self->host, config.own.host, sizeof config.own.host);
    status = eepi_secure_start(&link->channel, &config);
    eepi_secure_key_wipe(&config.key);
    return status;
}

eep_status eepi_agent_link_dial(eepi_agent_link *link, const eepi_agent_self *self,
                                const char *address)
{
    char host[EEPI_AGENT_ADDRESS_HOST_BYTES];
    uint16_t port;
    eep_status status;

    if (!eepi_agent_address_parse(address, host, &port)) {
        return EEP_ERR_INVALID;
    }
    *link = (eepi_agent_link){.fd = -1, .heard_us = eepi_now_us()};
    status = eepi_tcp_connect(host, port, 0, &link->fd);
    if (status != EEP_OK) {
        link->fd = -1;
        return status;
    }
    eepi_tcp_prepare(link->fd);
    status = begin(link, self, false);
    if (status != EEP_OK) {
        eepi_agent_link_close(link);
    }
    return status;
}

bool eepi_agent_link_is_unanswered(const eepi_agent_link *link, uint32_t num_before)
{
    return eepi_now_us() - link->heard_us >= eepi_tcp_patience_us(num_before) &&
           eepi_tcp_is_under_way(link->fd);
}

eep_status eepi_agent_link_serve(eepi_agent_link *link, const eepi_agent_self *self, int fd)
{
    *link = (eepi_agent_link){.fd = fd, .heard_us = eepi_now_us()};
    eepi_tcp_prepare(fd);
    const eep_status status = begin(link, self, true);
    if (status != EEP_OK) {
        eepi_agent_link_close(link);
    }
    return status;
}

/* What was said and not sent yet must not arrive: beats from before a partition, which the kernel
 * would repeat until it is over, look like life. One that is refused may read why. */
void eepi_agent_link_close(eepi_agent_link *link)
{
    const struct linger drop = {.l_onoff = 1, .l_linger = 0};

    if (link->fd >= 0) {
        if (link->is_open) {
            (void)setsockopt(link->fd, SOL_SOCKET, SO_LINGER, &drop, sizeof drop);
        }
        eepi_secure_end(&link->channel);
        close(link->fd);
    }
    *link = (eepi_agent_link){.fd = -1};
}

/* The connection proves who speaks (rule N12); the message must say the same. */
static bool is_of(const eepi_agent_message *message, const eepi_secure_identity *peer)
{
    const bool is_agent = strcmp(peer->role, "agent") == 0;
    char host[EEPI_SECURE_HOST_BYTES];

    name_host(message->head.host, host, sizeof host);
    return strcmp(host, peer->host) == 0 && message->head.generation == peer->generation &&
           message->head.speaker == (is_agent ? EEPI_AGENT_SPEAKER : peer->seat);
}

eep_status eepi_agent_link_take(eepi_agent_link *link, eepi_agent_message *message_out, char *why,
                                size_t why_bytes)
{
    const void *payload = NULL;
    size_t bytes = 0;
    eep_status status = eepi_secure_take(&link->channel, link->fd, &payload, &bytes);

    why[0] = '\0';
    link->is_open = eepi_secure_is_open(&link->channel);
    if (status == EEP_ERR_PROTOCOL) {
        eepi_secure_why(&link->channel, why, why_bytes);
    }
    if (status != EEP_OK) {
        return status;
    }
    link->heard_us = eepi_now_us();
    status = eepi_agent_check(payload, bytes);
    if (status == EEP_OK) {
        memcpy(message_out, payload, bytes);
        status = is_of(message_out, &link->channel.peer.identity) ? EEP_OK : EEP_ERR_PROTOCOL;
    }
    if (status != EEP_OK) {
        snprintf(why, why_bytes, "a message of %zu bytes from host %.16s: %s", bytes,
                 link->channel.peer.identity.host, eep_strerror(status));
    }
    return status;
}

void eepi_agent_link_say(eepi_agent_link *link, const eepi_agent_message *message)
{
    const struct iovec part = {.iov_base = (void *)(uintptr_t)message,
                               .iov_len = eepi_agent_message_bytes(message)};
    size_t unsent = 0;

    (void)eepi_secure_unsent(&link->channel, &unsent);
    if (!link->is_open || unsent > MUCH_UNSENT_BYTES) {
        return;
    }
    if (eepi_secure_put(&link->channel, &part, 1) == EEP_OK) {
        (void)!eepi_secure_flush(&link->channel, link->fd); /* its end shows when it is read */
    }
}

bool eepi_agent_link_wants_write(const eepi_agent_link *link)
{
    size_t unsent = 0;

    (void)eepi_secure_unsent(&link->channel, &unsent);
    return unsent > 0;
}
