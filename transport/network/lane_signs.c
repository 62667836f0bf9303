/* SPDX-License-Identifier: Apache-2.0 */
/* What the listener hears of a lane's peer, and what does not speak against it. */
#include "transport/network/network_state.h"

#include "eep/eep.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
    FIRST_RETRY_US = 1000,
    LONGEST_RETRY_US = 20000, /* a link that comes back is noticed before its host is silent */
    FAILURES_TO_TELL = 4,     /* refused so often in a row, */
    REFUSED_US = 250000,      /* and for so long: nobody is there */
};

/* ------------------------------------------------------------------ what is told */

void eepi_lane_note(const eepi_network *network, const eepi_lane *lane, const char *format, ...)
{
    char text[240], where[EEPI_LANE_TEXT_BYTES], why[120];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(why, sizeof why, format, arguments);
    va_end(arguments);
    snprintf(text, sizeof text, "rows for rank %u (generation %u) at %s: %s", lane->seat,
             lane->generation, eepi_lane_path_text(&lane->to, where), why);
    network->config.listener.note(network->config.listener.user, text);
}

static void tell_lost(const eepi_network *network, const eepi_lane *lane, int kind)
{
    const eepi_network_listener *listener = &network->config.listener;

    listener->lost(listener->user, lane->seat, lane->generation, kind);
}

/* A view may keep the peer in spite of it. So it is said again for as long as it lasts. */
void eepi_lane_tell_reset(const eepi_network *network, eepi_lane *lane, uint64_t now_us)
{
    if (lane->is_reset && now_us - lane->reset_told_us < network->config.silent_us) {
        return;
    }
    lane->is_reset = true;
    lane->reset_told_us = now_us;
    tell_lost(network, lane, EEP_FAULT_RESET);
}

/* Words are acknowledged, too: those of a new connection are sent at once. */
static bool is_owed_nothing(const eepi_lane *lane)
{
    bool has_words = false;

    for (uint32_t i = 0; i < EEPK_RING_WORDS; i++) {
        has_words |= lane->word[i].kind != 0;
    }
    return lane->base == lane->taken && !has_words;
}

/* A greeting alone shows no more than that somebody listens there: a connection that breaks after
 * each greeting carries nothing. */
void eepi_lane_hear(const eepi_network *network, eepi_lane *lane, bool is_receipt, uint64_t now_us)
{
    const eepi_network_listener *listener = &network->config.listener;

    listener->heard(listener->user, lane->seat, lane->generation);
    if (!is_receipt && !is_owed_nothing(lane)) {
        return;
    }
    lane->num_failures = lane->num_refused = lane->num_overs = 0;
    lane->num_returns = lane->way == 0 ? 0 : lane->num_returns;
    lane->waits_since_us = lane->base < lane->sent ? now_us : 0;
    if (!lane->is_heard || lane->is_silent || lane->is_reset) {
        lane->is_heard = true;
        lane->is_silent = lane->is_reset = false;
        listener->alive(listener->user, lane->seat, lane->generation);
    }
}

void eepi_lane_look_at_silence(const eepi_network *network, eepi_lane *lane, uint64_t now_us,
                               uint64_t *next_us)
{
    const uint64_t at_us = lane->waits_since_us + network->config.silent_us;

    if (lane->waits_since_us == 0 || lane->lacks_since_us != 0 || lane->is_silent) {
        return;
    }
    if (now_us >= at_us) {
        lane->is_silent = true;
        tell_lost(network, lane, EEP_FAULT_SILENT);
    } else {
        eepi_lane_by(next_us, at_us);
    }
}

/* Rule M6: what this rank could not hear is no silence of theirs. */
void eepi_lane_forgive(eepi_lane *lane, uint64_t gap_us)
{
    if (lane->waits_since_us != 0 && lane->lacks_since_us == 0) {
        lane->waits_since_us += gap_us;
    }
}

/* ------------------------------------------------------------------ failures */

void eepi_lane_fail(eepi_network *network, eepi_lane *lane, uint64_t now_us)
{
    const uint64_t wait_us = (uint64_t)FIRST_RETRY_US
                             << (lane->num_failures < 8 ? lane->num_failures : 8);

    if (lane->state == EEPI_LANE_UP) {
        if (lane->num_failures == 0 || lane->num_failures == FAILURES_TO_TELL) {
            eepi_lane_note(network, lane, "the connection broke");
        }
        lane->num_refused = 0;
    } else if (lane->state > EEPI_LANE_CONNECTING && lane->num_failures == FAILURES_TO_TELL) {
        eepi_lane_note(network, lane,
                       "it does not greet: have all ranks the same key (EEP_KEY_FILE)?");
    }
    network->carrier->drop(network, lane);
    lane->state = EEPI_LANE_DOWN;
    lane->retry_at_us = now_us + (wait_us < LONGEST_RETRY_US ? wait_us : LONGEST_RETRY_US);
    if (++lane->num_failures < lane->num_ways) {
        lane->retry_at_us = now_us;
    }
    lane->leaves_way = true;
    if (lane->waits_since_us == 0) {
        lane->waits_since_us = now_us;
    }
}

void eepi_lane_fail_again(eepi_network *network, eepi_lane *lane, const char *why, bool is_nobody,
                          uint64_t now_us)
{
    eepi_lane_fail(network, lane, now_us);
    if (lane->num_failures == FAILURES_TO_TELL) {
        eepi_lane_note(network, lane, "%s", why);
    }
    if (!is_nobody) {
        lane->num_refused = 0;
        return;
    }
    if (lane->num_refused++ == 0) {
        lane->refused_since_us = now_us;
    }
    if (lane->num_refused >= FAILURES_TO_TELL && now_us - lane->refused_since_us >= REFUSED_US) {
        eepi_lane_tell_reset(network, lane, now_us);
    }
}

void eepi_lane_fail_foreign(eepi_network *network, eepi_lane *lane, const char *why,
                            uint64_t now_us)
{
    const bool is_new = !lane->is_reset;

    eepi_lane_fail(network, lane, now_us);
    lane->retry_at_us = now_us + EEPI_LANE_FOREIGN_RETRY_US;
    if (is_new) {
        eepi_lane_note(network, lane, "%s", why);
    }
    eepi_lane_tell_reset(network, lane, now_us);
}

bool eepi_lane_is_own_lack(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS ||
           error == EAGAIN || error == EADDRNOTAVAIL || error == ENOSPC;
}

void eepi_lane_lack(eepi_network *network, eepi_lane *lane, int error, uint64_t now_us)
{
    network->carrier->drop(network, lane);
    lane->state = EEPI_LANE_DOWN;
    lane->retry_at_us = now_us + LONGEST_RETRY_US;
    lane->num_refused = 0;
    if (lane->lacks_since_us == 0) {
        lane->lacks_since_us = now_us;
        eepi_lane_note(network, lane,
                       "this rank cannot connect, which is no fault of the other one: %s",
                       strerror(error));
    }
}

void eepi_lane_lack_ends(eepi_lane *lane, uint64_t now_us)
{
    if (lane->lacks_since_us != 0 && lane->waits_since_us != 0) {
        const uint64_t both_us = lane->lacks_since_us > lane->waits_since_us ? lane->lacks_since_us
                                                                             : lane->waits_since_us;
        lane->waits_since_us += now_us - both_us; /* never beyond now */
    }
    lane->lacks_since_us = 0;
}
