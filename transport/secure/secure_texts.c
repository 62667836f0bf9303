/* SPDX-License-Identifier: Apache-2.0 */
/* What people read about a channel. */
#include "transport/secure/secure_channel.h"

#include <stdio.h>
#include <string.h>

static const char *const names[EEPI_SECURE_FAULTS] = {
    [EEPI_SECURE_FINE] = "fine",
    [EEPI_SECURE_GARBAGE] = "no hello",
    [EEPI_SECURE_OTHER_KEY] = "another key",
    [EEPI_SECURE_OTHER_VERSION] = "another version",
    [EEPI_SECURE_OTHER_SERVICE] = "another service",
    [EEPI_SECURE_OTHER_INSTANCE] = "another instance",
    [EEPI_SECURE_OTHER_PEER] = "another peer wanted",
    [EEPI_SECURE_UNPROVEN] = "no proof",
    [EEPI_SECURE_CROWDED] = "crowded out",
    [EEPI_SECURE_OVERSIZED] = "oversized",
    [EEPI_SECURE_REPLAYED] = "replayed",
    [EEPI_SECURE_REORDERED] = "reordered",
    [EEPI_SECURE_FORGED] = "forged",
    [EEPI_SECURE_NO_MEMORY] = "no memory",
};

const char *eepi_secure_counts_text(const eepi_secure_counts *counts, char *text, size_t bytes)
{
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; i < EEPI_SECURE_FAULTS; i++) {
        if (counts->of[i] > 0 && used < bytes) {
            const int more = snprintf(text + used, bytes - used, "%s%s %llu", used > 0 ? ", " : "",
                                      names[i], (unsigned long long)counts->of[i]);
            used += more > 0 ? (size_t)more : 0;
        }
    }
    return text;
}

static void say_version(const eepi_secure_channel *channel, char *text, size_t bytes)
{
    const eepi_secure_identity *own = &channel->config.own, *peer = &channel->peer.identity;
    if (channel->peer.newest < EEPI_SECURE_VERSION_OLDEST ||
        channel->peer.oldest > EEPI_SECURE_VERSION) {
        snprintf(text, bytes, "it speaks versions %u to %u of the channel, this process %d to %d",
                 channel->peer.oldest, channel->peer.newest, EEPI_SECURE_VERSION_OLDEST,
                 EEPI_SECURE_VERSION);
    } else {
        snprintf(text, bytes, "it speaks versions %u to %u of '%s', this process %u to %u",
                 peer->oldest, peer->newest, peer->service, own->oldest, own->newest);
    }
}

static void say_peer(const eepi_secure_channel *channel, char *text, size_t bytes)
{
    const eepi_secure_config *config = &channel->config;
    const eepi_secure_hello *peer = &channel->peer;
    if (config->is_server) {
        snprintf(text, bytes, "it wants seat %d, generation %llu, and this is seat %d, %llu",
                 peer->wanted_seat, (unsigned long long)peer->wanted_generation, config->own.seat,
                 (unsigned long long)config->own.generation);
    } else {
        snprintf(text, bytes, "it is seat %d, generation %llu, and seat %d, %llu was wanted",
                 peer->identity.seat, (unsigned long long)peer->identity.generation,
                 config->wanted_seat, (unsigned long long)config->wanted_generation);
    }
}

const char *eepi_secure_why(const eepi_secure_channel *channel, char *text, size_t bytes)
{
    const eepi_secure_identity *own = &channel->config.own, *peer = &channel->peer.identity;
    switch (channel->fault) {
    case EEPI_SECURE_GARBAGE:
        snprintf(text, bytes, "it does not prove a key: it has none, or is something else");
        break;
    case EEPI_SECURE_OTHER_KEY:
        snprintf(text, bytes, "it has another key than this process");
        break;
    case EEPI_SECURE_OTHER_VERSION:
        say_version(channel, text, bytes);
        break;
    case EEPI_SECURE_OTHER_SERVICE:
        snprintf(text, bytes, "it is '%s', and this process speaks '%s'", peer->service,
                 own->service);
        break;
    case EEPI_SECURE_OTHER_INSTANCE:
        snprintf(text, bytes, "it is of instance '%s', and this process of '%s'", peer->instance,
                 own->instance);
        break;
    case EEPI_SECURE_OTHER_PEER:
        say_peer(channel, text, bytes);
        break;
    case EEPI_SECURE_UNPROVEN:
        snprintf(text, bytes, "it has proved no key: it has none, or another one");
        break;
    case EEPI_SECURE_FINE:
    case EEPI_SECURE_FAULTS:
        snprintf(text, bytes, "nothing is wrong");
        break;
    default:
        snprintf(text, bytes, "a message was refused: %s", names[channel->fault]);
        break;
    }
    return text;
}
