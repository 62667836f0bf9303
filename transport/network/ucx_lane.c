/* SPDX-License-Identifier: Apache-2.0 */
/* A lane over UCX: its endpoint made and greeted, rows copied into messages, receipts taken. Rows
 * are copied since UCX may read what it was given until an endpoint fails, which may be never: so
 * the memory of a ring is its lane's alone (rule N5). */
#include "transport/network/ucx_lane.h"

#include "graphs/base/descriptors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

static_assert((int)UCX_ROWS_BYTES >= (int)EEPI_LANE_TALK_BYTES, "a message has room for talk");

enum {
    MOST_ABANDONED = 8, /* endpoints to one process that neither answered nor failed */
    CROWDED_RETRY_US = 1000000,
    DESCRIPTORS = 4, /* of a connection */
    FULL_LOOK_US = 5000,
};

static eepi_ucx_port *port_of(const eepi_network *network, const eepi_lane *lane)
{
    return network->ucx->path[lane->way % network->address.num_paths].sender;
}

/* ------------------------------------------------------------------ what comes */

ucs_status_t eepi_ucx_lane_is_answered(void *user, const void *header, size_t header_bytes,
                                       void *data, size_t bytes, const ucp_am_recv_param_t *param)
{
    eepi_ucx_link *link = eepi_ucx_link_from(user, param);

    (void)header;
    (void)header_bytes;
    if (link && bytes == sizeof link->answer) {
        memcpy(&link->answer, data, bytes);
    }
    return UCS_OK;
}

static void complete(void *lane, uint64_t claim)
{
    eepi_lane_complete(lane, claim);
}

ucs_status_t eepi_ucx_lane_hears(void *user, const void *header, size_t header_bytes, void *data,
                                 size_t bytes, const ucp_am_recv_param_t *param)
{
    eepi_ucx_link *link = eepi_ucx_link_from(user, param);
    const eepi_ucx_port *port = user;
    eepi_lane *lane = link ? link->lane : NULL;
    const size_t most =
        port->network ? eepi_lane_receipts_most(port->network->shape.ring_slots) : 0;
    uint64_t *words = port->network ? port->network->ucx->words : NULL;

    (void)header;
    (void)header_bytes;
    if (!lane || lane->state != EEPI_LANE_UP) {
        return UCS_OK;
    }
    if (bytes % sizeof *words != 0 || bytes / sizeof *words > most) {
        link->is_wrong = true;
        return UCS_OK;
    }
    memcpy(words, data, bytes); /* UCX aligns nothing */
    link->is_wrong |= !eepi_lane_receipts_read(words, bytes / sizeof *words, lane->base, lane->sent,
                                               complete, lane);
    link->has_heard = true;
    return UCS_OK;
}

/* ------------------------------------------------------------------ connecting */

void eepi_ucx_lane_drop(eepi_network *network, eepi_lane *lane)
{
    eepi_ucx_link *link = lane->link;

    (void)network;
    lane->link = NULL;
    if (!link) {
        return;
    }
    link->lane = NULL;
    if (link->answer.magic == EEPI_LANE_MAGIC && link->answer.verdict != EEPI_LANE_WELCOME) {
        eepi_ucx_link_close(link);
    }
}

static uint32_t num_abandoned(const eepi_ucx_port *port, const eepi_lane *lane)
{
    uint32_t num = 0;

    for (const eepi_ucx_link *link = port->links; link; link = link->next) {
        num += link->ep && !link->lane && link->number == lane->number;
    }
    return num;
}

static void fail(eepi_network *network, eepi_lane *lane, ucs_status_t status, uint64_t now_us)
{
    const bool is_nobody = status == UCS_ERR_REJECTED || status == UCS_ERR_UNREACHABLE ||
                           status == UCS_ERR_NOT_CONNECTED || status == UCS_ERR_CONNECTION_RESET;

    if (lane->state == EEPI_LANE_UP) {
        eepi_lane_fail(network, lane, now_us);
    } else if (status == UCS_ERR_NO_MEMORY) {
        eepi_lane_lack(network, lane, ENOMEM, now_us);
    } else {
        eepi_lane_lack_ends(lane, now_us);
        eepi_lane_fail_again(network, lane, ucs_status_string(status), is_nobody, now_us);
    }
}

void eepi_ucx_lane_begin(eepi_network *network, eepi_lane *lane, uint64_t now_us)
{
    const eepi_lane_hello hello = eepi_lane_hello_of(network, lane);
    eepi_ucx_port *port = port_of(network, lane);
    ucs_status_t why = UCS_OK;
    eepi_ucx_message *message;
    char text[200];

    eepi_lane_rewind(lane);
    if (num_abandoned(port, lane) >= MOST_ABANDONED) {
        lane->retry_at_us =
            now_us + (lane->num_ways > 1 ? (uint64_t)EEPI_LANE_ROUND_US : CROWDED_RETRY_US);
        lane->leaves_way = true; /* another one may be well */
        return;
    }
    if (eepi_descriptors_lack(DESCRIPTORS, "a connection for rows", text, sizeof text)) {
        eepi_lane_lack(network, lane, EMFILE, now_us);
        return;
    }
    lane->link = eepi_ucx_link_open(port, &lane->to, &why);
    message = lane->link ? eepi_ucx_message_get(lane->link) : NULL;
    if (!message) {
        fail(network, lane, lane->link ? UCS_ERR_NO_MEMORY : why, now_us);
        return;
    }
    lane->link->lane = lane;
    lane->link->number = lane->number;
    eepi_lane_lack_ends(lane, now_us);
    memcpy(message->payload, &hello, sizeof hello);
    eepi_ucx_message_send(message, UCX_HELLO, sizeof hello);
    lane->state = EEPI_LANE_GREETING;
    lane->retry_at_us = now_us + EEPI_LANE_GREETING_US;
}

void eepi_ucx_lane_go_on(eepi_network *network, eepi_lane *lane, uint32_t events, uint64_t now_us)
{
    const eepi_ucx_link *link = lane->link;

    (void)events;
    if (link->answer.magic != 0) {
        const eepi_lane_answer answer = link->answer;
        if (answer.magic == EEPI_LANE_MAGIC && answer.verdict == EEPI_LANE_WELCOME) {
            lane->state = EEPI_LANE_UP;
            eepi_lane_hear(network, lane, false, now_us);
        } else {
            eepi_lane_fail_foreign(network, lane, eepi_lane_answer_text(&answer), now_us);
        }
    } else if (link->has_failed) {
        fail(network, lane, link->why, now_us);
    }
}

/* ------------------------------------------------------------------ sending */

static size_t put_words(eepi_lane *lane, uint8_t *to)
{
    size_t bytes = 0;

    for (uint32_t i = 0; i < EEPK_RING_WORDS; i++) {
        if (lane->word_waits[i]) {
            memcpy(to + bytes, &lane->word[i], sizeof lane->word[i]);
            bytes += sizeof lane->word[i];
            lane->word_waits[i] = false;
        }
    }
    return bytes;
}

/* The next slot that is not known placed; NULL: there is none. */
static const eepk_put *next_slot(const eepi_network *network, eepi_lane *lane)
{
    while (lane->sent < lane->taken && eepi_lane_is_done(lane, lane->sent)) {
        lane->sent++;
    }
    return lane->sent < lane->taken ? eepk_ring_slot(lane->ring, lane->sent,
                                                     network->shape.ring_slots, network->slot_bytes)
                                    : NULL;
}

/* One piece of talk a message, before its rows: neither waits for the other. */
static size_t fill(const eepi_network *network, eepi_lane *lane, uint8_t *to, size_t most)
{
    const size_t turn = EEPK_RING_WORDS * sizeof(eepk_put) + network->slot_bytes;
    size_t bytes = eepi_lane_take_talk(network, lane);
    bool any = true;

    if (bytes > 0) {
        memcpy(to, lane->talk, bytes);
    }
    while (any && most - bytes >= turn) {
        const eepk_put *slot;
        any = eepi_lane_take(lane);
        bytes += put_words(lane, to + bytes);
        slot = next_slot(network, lane);
        if (slot) {
            const size_t slot_bytes = sizeof *slot + slot->bytes;
            memcpy(to + bytes, slot, slot_bytes);
            bytes += slot_bytes;
            lane->sent++;
            any = true;
        }
    }
    return bytes;
}

/* False: there is nothing to send, or no memory for it now. */
static bool send_one(const eepi_network *network, eepi_lane *lane)
{
    eepi_ucx_message *message = eepi_ucx_message_get(lane->link);
    eepi_ucx_port *port = lane->link->port;
    size_t bytes;

    if (!message) {
        return false;
    }
    bytes = fill(network, lane, message->payload, port->message_bytes);
    if (bytes == 0) {
        message->next = port->idle;
        port->idle = message;
        return false;
    }
    eepi_ucx_message_send(message, UCX_ROWS, bytes);
    return true;
}

bool eepi_ucx_lane_carry(eepi_network *network, eepi_lane *lane, uint32_t events, uint64_t now_us,
                         uint64_t *next_us)
{
    eepi_ucx_link *link = lane->link;
    bool any = link->has_heard;

    (void)events;
    if (link->has_heard) {
        link->has_heard = false;
        eepi_lane_hear(network, lane, true, now_us);
    }
    if (link->is_wrong) {
        eepi_lane_note(network, lane, "it acknowledges what was never sent");
        eepi_lane_fail(network, lane, now_us);
        return true;
    }
    if (link->answer.verdict != EEPI_LANE_WELCOME) {
        eepi_lane_fail_foreign(network, lane, "it takes no rows any more", now_us);
        return true;
    }
    while (!link->has_failed && link->num_sends < UCX_IN_FLIGHT && send_one(network, lane)) {
        any = true;
    }
    if (link->has_failed) {
        fail(network, lane, link->why, now_us);
        return true;
    }
    lane->is_full = link->num_sends > 0; /* UCX has to go on with it */
    if (lane->is_full) {
        eepi_lane_by(next_us, now_us + FULL_LOOK_US);
    }
    return any;
}

/* ------------------------------------------------------------------ the sender's worker */

bool eepi_ucx_lane_progress(eepi_network *network)
{
    bool any = false;

    for (uint32_t i = 0; i < network->address.num_paths; i++) {
        any |= eepi_ucx_port_progress(network->ucx->path[i].sender);
    }
    return any;
}

/* A lane waits for something of UCX: then the receiver thread rings, once, when it comes. */
bool eepi_ucx_lane_may_sleep(eepi_network *network)
{
    bool wants = false;

    for (uint32_t i = 0; i < network->shape.num_queues && !wants; i++) {
        const eepi_lane *lane = &network->lane[i];
        wants = lane->link && __atomic_load_n(&lane->wants_wake, __ATOMIC_RELAXED);
    }
    for (uint32_t i = 0; i < network->address.num_paths && wants; i++) {
        const eepi_ucx_port *port = network->ucx->path[i].sender;
        struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT,
                                    .data.u64 = EEPI_UCX_TAG_SENDER};
        if (ucp_worker_arm(port->worker) != UCS_OK) {
            return false;
        }
        (void)epoll_ctl(network->epoll, EPOLL_CTL_MOD, port->fd, &event);
    }
    return true;
}
