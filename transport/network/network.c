/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing the network of a rank, and whom it reaches. */
#include "graphs/base/clock.h"
#include "graphs/base/thread.h"
#include "graphs/device/rings.h"
#include "graphs/kernels/compiler_macros.h"
#include "transport/network/network_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Per chain: an exchange that is under way, the one before, whose acknowledgements may be under way
 * still, and one of a step that was aborted. */
enum { EXCHANGES_OF_A_CHAIN = 3 };

eep_status eepi_network_plan(bool spans_hosts, eepk_shape *shape, char *why, size_t why_bytes)
{
    eepi_network_choice choice = {.kind = EEPI_NETWORK_OFF};
    const eep_status status = eepi_network_choose(spans_hosts, &choice, why, why_bytes);
    const bool is_on = status == EEP_OK && choice.kind != EEPI_NETWORK_OFF;

    /* a queue per seat for generations of either parity: a successor does not wait for what its
     * predecessor's lane holds */
    shape->num_queues = is_on ? 2 * shape->max_ranks : 0;
    shape->ring_slots =
        is_on ? shape->num_chains * EXCHANGES_OF_A_CHAIN * eepi_ring_least_slots(shape) : 0;
    return status;
}

static eepi_network *make(const eepi_network_config *config, const eepi_network_choice *choice)
{
    const eepk_shape *s = config->shape;
    eepi_network *network = calloc(1, sizeof *network + s->num_queues * sizeof(eepi_lane));
    bool is_whole = network != NULL;

    if (!network) {
        return NULL;
    }
    network->carrier = choice->kind == EEPI_NETWORK_UCX ? &eepi_ucx_carrier : &eepi_tcp_carrier;
    network->config = *config;
    network->config.shape = NULL;
    network->config.ring = NULL;
    network->shape = *s;
    network->slot_bytes = eepk_slot_bytes(s);
    network->epoll = network->wake_fd = -1;
    for (int i = 0; i < choice->num_interfaces; i++) {
        network->path[i] = (eepi_path){.interface = choice->interface[i], .listener = -1};
    }
    network->address.num_paths = (uint8_t)choice->num_interfaces;
    network->greeted = calloc(s->max_ranks, sizeof *network->greeted);
    is_whole = network->greeted != NULL;
    network->all_peers = choice->all_peers;
    network->doorbell = &((eepk_ring_limit *)config->ring[0])->doorbell;
    pthread_mutex_init(&network->lock, NULL);
    for (uint32_t i = 0; i < s->num_queues; i++) {
        eepi_lane *lane = &network->lane[i];
        lane->number = i;
        lane->seat = i % s->max_ranks;
        lane->ring = config->ring[i];
        lane->num_slots = s->ring_slots;
        lane->fd = -1;
        lane->ring_lane = eepi_ring_lane_open(lane->ring, s->ring_slots, network->slot_bytes,
                                              s->self, lane->seat);
        lane->done = calloc((s->ring_slots + 63) / 64, sizeof *lane->done);
        is_whole &= lane->ring_lane && lane->done;
    }
    if (!is_whole) {
        eepi_network_close(network);
        return NULL;
    }
    return network;
}

/* What the receiver thread waits at, and is woken by. */
static eep_status open_descriptors(eepi_network *network, char *why, size_t why_bytes)
{
    network->epoll = epoll_create1(EPOLL_CLOEXEC);
    network->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (network->epoll < 0 || network->wake_fd < 0) {
        snprintf(why, why_bytes, "epoll or eventfd: %s", strerror(errno));
        return EEP_ERR_SYSTEM;
    }
    return EEP_OK;
}

static void close_fd(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}

static eep_status start(eepi_network *network, char *why, size_t why_bytes)
{
    char text[EEPI_THREAD_ERROR_BYTES];

    network->is_sending = eepi_thread_start(&network->sender, "eep-rows-out", EEPI_STACK_BYTES,
                                            eepi_sender_run, network) == EEP_OK;
    network->is_receiving = network->is_sending &&
                            eepi_thread_start(&network->receiver, "eep-rows-in", EEPI_STACK_BYTES,
                                              network->carrier->receive, network) == EEP_OK;
    if (!network->is_receiving) {
        snprintf(why, why_bytes, "%s", eepi_thread_error(errno, text, sizeof text));
        return EEP_ERR_SYSTEM;
    }
    return EEP_OK;
}

eep_status eepi_network_open(const eepi_network_config *config, char *why, size_t why_bytes,
                             eepi_network **network_out)
{
    eepi_network_choice choice;
    eepi_network *network;
    eep_status status = eepi_network_choose(true, &choice, why, why_bytes);

    if (status != EEP_OK) {
        return status;
    }
    network = make(config, &choice);
    if (!network) {
        snprintf(why, why_bytes, "out of memory");
        return EEP_ERR_NO_MEMORY;
    }
    status = open_descriptors(network, why, why_bytes);
    if (status == EEP_OK) {
        status = network->carrier->open(network, why, why_bytes);
    }
    if (status == EEP_OK) {
        status = start(network, why, why_bytes);
    }
    if (status != EEP_OK) {
        eepi_network_close(network);
        return status;
    }
    *network_out = network;
    return EEP_OK;
}

static void stop_threads(eepi_network *network)
{
    __atomic_store_n(&network->stop, true, __ATOMIC_RELEASE);
    if (network->is_sending) {
        eepk_doorbell_ring(network->doorbell);
        pthread_join(network->sender, NULL);
    }
    if (network->is_receiving) {
        const uint64_t one = 1;
        (void)!write(network->wake_fd, &one, sizeof one);
        pthread_join(network->receiver, NULL);
    }
}

void eepi_network_close(eepi_network *network)
{
    stop_threads(network);
    for (uint32_t i = 0; i < network->shape.num_queues; i++) {
        eepi_lane *lane = &network->lane[i];
        if (lane->ring_lane) {
            eepi_lane_abandon(network, lane);
        }
        eepi_ring_lane_close(lane->ring_lane);
        free(lane->done);
        free(lane->talk);
    }
    eepi_ways_close(network);
    network->carrier->close(network);
    close_fd(network->epoll);
    close_fd(network->wake_fd);
    pthread_mutex_destroy(&network->lock);
    eepi_secure_key_wipe(&network->key);
    free(network->greeted);
    free(network);
}

/* A lane tells of its peer once both ways between them have carried something. */
bool eepi_network_tells_beats(void)
{
    return true;
}

eepi_lane_address eepi_network_address(const eepi_network *network)
{
    return network->address;
}

uint32_t eepi_network_reach(eepi_network *network, uint32_t seat, uint32_t generation,
                            const eepi_lane_address *address, bool is_near)
{
    const uint32_t queue = seat + generation % 2 * network->shape.max_ranks;
    eepi_lane *lane = &network->lane[queue];

    if (address->kind != network->address.kind || (is_near && !network->all_peers)) {
        return EEPI_NO_QUEUE;
    }
    pthread_mutex_lock(&network->lock);
    if (lane->wanted != generation) {
        lane->address = *address;
        __atomic_store_n(&lane->wanted, generation, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&network->lock);
    eepi_network_kick(network);
    return queue;
}

void eepi_network_keep(eepi_network *network, const uint32_t *generation)
{
    pthread_mutex_lock(&network->lock);
    for (uint32_t i = 0; i < network->shape.num_queues; i++) {
        eepi_lane *lane = &network->lane[i];
        if (lane->wanted != 0 && lane->wanted != generation[lane->seat]) {
            __atomic_store_n(&lane->wanted, 0, __ATOMIC_RELEASE);
        }
    }
    pthread_mutex_unlock(&network->lock);
    eepi_network_kick(network);
}

bool eepi_lane_has_room(const eepi_network *network, const eepk_put *put)
{
    return put->kind == EEPK_PUT_TALK ? put->bytes <= EEPI_TALK_BYTES
                                      : put->bytes <= network->slot_bytes - sizeof *put;
}

bool eepi_lane_hear_talk(const eepi_network *network, uint32_t source, uint32_t generation,
                         const eepk_put *put, const void *bytes)
{
    const eepi_network_talk *talk = &network->config.talk;

    return !talk->hear || talk->hear(talk->user, source, generation, bytes, put->bytes);
}

void eepi_network_speak(eepi_network *network, uint32_t seat, uint32_t generation)
{
    eepi_lane *lane = &network->lane[seat + generation % 2 * network->shape.max_ranks];

    __atomic_store_n(&lane->has_talk, true, __ATOMIC_RELEASE);
    eepi_network_kick(network);
}

uint64_t eepi_network_blocked_us(const eepi_network *network, uint32_t queue)
{
    const uint64_t since_us =
        __atomic_load_n(&network->lane[queue].blocked_since_us, __ATOMIC_RELAXED);
    const uint64_t now_us = eepi_now_us();

    return since_us != 0 && since_us < now_us ? now_us - since_us : 0;
}

void eepi_network_kick(eepi_network *network)
{
    eepk_doorbell_ring(network->doorbell);
}
