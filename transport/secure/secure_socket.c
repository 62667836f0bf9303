/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/secure/secure_socket.h"

#include "graphs/base/clock.h"

#include <errno.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>

eep_status eepi_secure_nonce(unsigned char nonce_out[EEPI_SECURE_NONCE_BYTES])
{
    ssize_t got;
    do {
        got = getrandom(nonce_out, EEPI_SECURE_NONCE_BYTES, 0);
    } while (got < 0 && errno == EINTR);
    return got == EEPI_SECURE_NONCE_BYTES ? EEP_OK : EEP_ERR_SYSTEM; /* so few come at once */
}

eep_status eepi_secure_start(eepi_secure_channel *channel, const eepi_secure_config *config)
{
    unsigned char nonce[EEPI_SECURE_NONCE_BYTES];
    const eep_status status = eepi_secure_nonce(nonce);
    if (status != EEP_OK) {
        *channel = (eepi_secure_channel){.state = EEPI_SECURE_ENDED};
        return status;
    }
    return eepi_secure_begin(channel, config, nonce, eepi_now_us());
}

static bool is_for_later(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

eep_status eepi_secure_flush(eepi_secure_channel *channel, int fd)
{
    size_t bytes = 0;
    const void *unsent = eepi_secure_unsent(channel, &bytes);
    while (bytes > 0) {
        const ssize_t sent = send(fd, unsent, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0) {
            return is_for_later(errno) ? EEP_OK : EEP_ERR_UNREACHABLE;
        }
        eepi_secure_sent(channel, (size_t)sent);
        unsent = eepi_secure_unsent(channel, &bytes);
    }
    return EEP_OK;
}

eep_status eepi_secure_receive(eepi_secure_channel *channel, int fd)
{
    size_t space = 0;
    void *to = eepi_secure_space(channel, &space);
    ssize_t got;
    if (!to) {
        return EEP_ERR_NO_MEMORY;
    }
    got = recv(fd, to, space, MSG_DONTWAIT);
    if (got > 0) {
        eepi_secure_filled(channel, (size_t)got);
        return EEP_OK;
    }
    return got < 0 && is_for_later(errno) ? EEP_ERR_TIMEOUT : EEP_ERR_UNREACHABLE;
}

/* After `status` said that more bytes are needed: send what waits, and read once. */
static eep_status exchange(eepi_secure_channel *channel, int fd, eep_status status)
{
    const eep_status flushed = eepi_secure_flush(channel, fd); /* an answer, a proof */
    size_t unsent = 0;
    bool was_there; /* it has taken our hello: a connection was made */
    (void)eepi_secure_unsent(channel, &unsent);
    was_there = unsent == 0;
    if (status != EEP_ERR_TIMEOUT) {
        return status;
    }
    status = eepi_secure_receive(channel, fd);
    if (status == EEP_ERR_TIMEOUT && flushed != EEP_OK) {
        status = flushed;
    }
    if (status == EEP_ERR_UNREACHABLE && channel->state < EEPI_SECURE_OPEN && was_there) {
        channel->fault = EEPI_SECURE_UNPROVEN;
    }
    return status;
}

eep_status eepi_secure_take(eepi_secure_channel *channel, int fd, const void **payload_out,
                            size_t *bytes_out)
{
    for (;;) {
        eep_status status = eepi_secure_next(channel, payload_out, bytes_out);
        const bool more = status == EEP_ERR_TIMEOUT;
        status = exchange(channel, fd, status);
        if (!more || status != EEP_OK) {
            return status;
        }
    }
}

/* Until something can be done, or `left_us` is over. */
static void wait_for(const eepi_secure_channel *channel, int fd, uint64_t left_us)
{
    struct pollfd set = {.fd = fd, .events = POLLIN};
    const struct timespec left = {.tv_sec = (time_t)(left_us / 1000000),
                                  .tv_nsec = (long)(left_us % 1000000) * 1000};
    size_t unsent = 0;
    (void)eepi_secure_unsent(channel, &unsent);
    set.events |= unsent > 0 ? POLLOUT : 0;
    (void)ppoll(&set, 1, &left, NULL);
}

eep_status eepi_secure_open(eepi_secure_channel *channel, int fd, uint64_t timeout_us)
{
    const uint64_t end_us = eepi_now_us() + timeout_us;
    for (;;) {
        eep_status status = eepi_secure_greet(channel);
        const bool more = status == EEP_ERR_TIMEOUT;
        uint64_t now_us;
        status = exchange(channel, fd, status);
        if (!more || (status != EEP_OK && status != EEP_ERR_TIMEOUT)) {
            return status;
        }
        if (status == EEP_OK) {
            continue; /* something has arrived */
        }
        now_us = eepi_now_us();
        if (now_us >= end_us) {
            return EEP_ERR_TIMEOUT;
        }
        wait_for(channel, fd, end_us - now_us);
    }
}
