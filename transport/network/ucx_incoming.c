/* SPDX-License-Identifier: Apache-2.0 */
/* The receiver thread over UCX: takes connections, places what comes, and says what is placed. It
 * also sees that there is something for the sender's worker, and wakes that thread. */
#include "transport/network/ucx_lane.h"

#include "graphs/kernels/compiler_macros.h"
#include "transport/proxy/placer_batch.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

enum { EVENTS = 8, YIELDS = 16, ROUND_MS = 20, OWING_MS = 1 };

/* ------------------------------------------------------------------ greeting */

/* What the same source sends on an older connection it sends again on the new one, on whatever
 * interface. An older process does not take the place of a newer one. */
static bool replace(const eepi_network *network, const eepi_ucx_link *link,
                    const eepi_lane_hello *hello)
{
    for (uint32_t i = 0; i < network->address.num_paths; i++) {
        eepi_ucx_link *other = network->ucx->path[i].receiver->links;
        for (; other; other = other->next) {
            if (other == link || !other->is_greeted || other->source != hello->source) {
                continue;
            }
            if (other->source_generation > hello->source_generation) {
                return false;
            }
            other->is_greeted = other->owes = false;
        }
    }
    return true;
}

ucs_status_t eepi_ucx_incoming_hello(void *user, const void *header, size_t header_bytes,
                                     void *data, size_t bytes, const ucp_am_recv_param_t *param)
{
    eepi_ucx_port *port = user;
    eepi_network *network = port->network;
    eepi_ucx_link *link = eepi_ucx_link_from(port, param);
    eepi_lane_hello hello;

    (void)header;
    (void)header_bytes;
    if (!link || link->has_greeted || bytes != sizeof hello) {
        return UCS_OK;
    }
    link->has_greeted = true;
    memcpy(&hello, data, sizeof hello);
    link->verdict = eepi_lane_judge(network, &hello);
    if (link->verdict == EEPI_LANE_WELCOME &&
        (!replace(network, link, &hello) ||
         !eepi_lane_receipts_open(&link->receipts, hello.base, hello.ring_slots))) {
        link->verdict = EEPI_LANE_OTHER;
    }
    if (link->verdict == EEPI_LANE_WELCOME) {
        link->is_greeted = true;
        link->source = hello.source;
        link->source_generation = hello.source_generation;
        eepi_ways_note_greeting(network, hello.source, port->path);
    }
    return UCS_OK;
}

static void answer(eepi_ucx_link *link, uint32_t verdict)
{
    const eepi_lane_answer told = {EEPI_LANE_MAGIC, verdict};
    eepi_ucx_message *message = eepi_ucx_message_get(link);

    if (message) { /* else it asks again, on another connection */
        memcpy(message->payload, &told, sizeof told);
        eepi_ucx_message_send(message, UCX_ANSWER, sizeof told);
    }
}

void eepi_ucx_incoming_say_bye(eepi_ucx_port *port)
{
    for (eepi_ucx_link *link = port->links; link; link = link->next) {
        if (link->is_greeted && !link->has_failed) {
            link->owes = true; /* and is waited for */
            answer(link, EEPI_LANE_OTHER);
        }
    }
}

/* ------------------------------------------------------------------ rows */

static bool take(eepi_network *network, const eepi_ucx_link *link, eepi_placer_batch *batch,
                 const eepk_put *put, const void *bytes)
{
    if (put->kind == EEPK_PUT_TALK) {
        eepi_placer_batch_end(batch);
        return eepi_lane_hear_talk(network, link->source, link->source_generation, put, bytes);
    }
    return eepi_placer_batch_add(batch, put, bytes, link->source_generation) !=
           EEPI_PLACED_MALFORMED;
}

/* False: no rank sends that. */
static bool place_into(eepi_network *network, eepi_ucx_link *link, eepi_placer_batch *batch,
                       const uint8_t *from, size_t num)
{
    while (num > 0) {
        eepk_put put;
        if (num < sizeof put) {
            return false;
        }
        memcpy(&put, from, sizeof put);
        from += sizeof put;
        num -= sizeof put;
        if (!eepi_lane_has_room(network, &put) || put.bytes > num || put.source != link->source ||
            !take(network, link, batch, &put, from)) {
            return false;
        }
        if ((put.kind == EEPK_PUT_ROWS || put.kind == EEPK_PUT_TAG) &&
            (put.ready == 0 || !eepi_lane_receipts_add(&link->receipts, put.ready - 1))) {
            return false;
        }
        from += put.bytes;
        num -= put.bytes;
    }
    return true;
}

static bool place(eepi_network *network, eepi_ucx_link *link, const uint8_t *from, size_t num)
{
    eepi_placer_batch batch;
    bool is_well;

    eepi_placer_batch_begin(&batch, network->config.placer);
    is_well = place_into(network, link, &batch, from, num);
    eepi_placer_batch_end(&batch);
    return is_well;
}

ucs_status_t eepi_ucx_incoming_rows(void *user, const void *header, size_t header_bytes, void *data,
                                    size_t bytes, const ucp_am_recv_param_t *param)
{
    eepi_ucx_port *port = user;
    eepi_ucx_link *link = eepi_ucx_link_from(port, param);

    (void)header;
    (void)header_bytes;
    if (!link || !link->is_greeted || link->is_wrong) {
        return UCS_OK;
    }
    link->has_heard = link->owes = true;
    link->is_wrong = !place(port->network, link, data, bytes);
    return UCS_OK;
}

/* One at a time: what comes meanwhile is in the next one. */
static void say_placed(eepi_ucx_link *link)
{
    eepi_ucx_message *message = link->num_sends == 0 ? eepi_ucx_message_get(link) : NULL;

    if (message) {
        const size_t num =
            eepi_lane_receipts_write(&link->receipts, (uint64_t *)(void *)message->payload);
        link->owes = false;
        eepi_ucx_message_send(message, UCX_PLACED, num * sizeof(uint64_t));
    }
}

/* ------------------------------------------------------------------ the thread */

static void complain(const eepi_network *network, eepi_ucx_link *link)
{
    char text[120];

    snprintf(text, sizeof text,
             "rows: rank %u (generation %u) has sent what no rank sends, and is not heard any more",
             link->source, link->source_generation);
    network->config.listener.note(network->config.listener.user, text);
    link->is_greeted = link->owes = false;
}

/* True: something is owed still. */
static bool look_at(const eepi_network *network, eepi_ucx_link *link)
{
    const eepi_network_listener *listener = &network->config.listener;

    if (link->verdict != 0) {
        answer(link, link->verdict);
        link->verdict = 0;
    }
    if (link->has_heard) {
        link->has_heard = false;
        listener->heard(listener->user, link->source, link->source_generation);
    }
    if (link->is_wrong && link->is_greeted) {
        complain(network, link);
    }
    if (link->owes) {
        say_placed(link);
    }
    return link->owes;
}

/* True: there was something to do. */
static bool turn(eepi_network *network, bool *owes_out)
{
    bool any = false;

    *owes_out = false;
    for (uint32_t i = 0; i < network->address.num_paths; i++) {
        eepi_ucx_port *port = network->ucx->path[i].receiver;
        any |= eepi_ucx_port_progress(port);
        while (eepi_ucx_link_accept(port)) {
            any = true;
        }
        for (eepi_ucx_link *link = port->links; link; link = link->next) {
            *owes_out |= look_at(network, link);
        }
    }
    return any;
}

/* False: UCX has something to do. */
static bool arm(const eepi_network *network)
{
    for (uint32_t i = 0; i < network->address.num_paths; i++) {
        if (ucp_worker_arm(network->ucx->path[i].receiver->worker) != UCS_OK) {
            return false;
        }
    }
    return true;
}

void *eepi_ucx_receiver_run(void *user)
{
    eepi_network *network = user;
    struct epoll_event events[EVENTS];
    uint32_t yields = 0;

    while (!__atomic_load_n(&network->stop, __ATOMIC_ACQUIRE)) {
        bool owes;
        int num;
        if (turn(network, &owes)) {
            yields = 0;
            continue;
        }
        if (yields++ < YIELDS) {
            sched_yield();
            continue;
        }
        num = epoll_wait(network->epoll, events, EVENTS,
                         !arm(network) ? 0
                         : owes        ? OWING_MS
                                       : ROUND_MS);
        for (int i = 0; i < num; i++) {
            if (events[i].data.u64 == EEPI_UCX_TAG_LINKS) {
                eepi_ways_look(network);
            } else if (events[i].data.u64 == EEPI_UCX_TAG_SENDER) {
                eepk_doorbell_ring(network->doorbell);
            } else {
                yields = 0;
            }
        }
    }
    return NULL;
}
