/* SPDX-License-Identifier: Apache-2.0 */
/* A store client's connection that speaks through a channel, until it is open. */
#include "membership/store/store_link.h"

#include "transport/secure/secure_socket.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <time.h>

eep_status eepi_store_link_read_key(eepi_store_client *client)
{
    return eepi_store_secure_config(&client->url, false, &client->secure_config,
                                    eepi_store_secure_why(), EEPI_SECURE_WHY_BYTES);
}

eep_status eepi_store_link_greet(eepi_store_client *client)
{
    client->opening = true;
    return eepi_secure_start(&client->secure, &client->secure_config);
}

/* A key, a version or a name of another kind stays so; a store that has just gone may come back. */
static eep_status refuse(eepi_store_client *client)
{
    const eepi_secure_fault fault = client->secure.fault;
    client->why[0] = '\0';
    if (fault != EEPI_SECURE_FINE) {
        (void)eepi_secure_why(&client->secure, client->why, sizeof client->why);
    }
    snprintf(eepi_store_secure_why(), EEPI_SECURE_WHY_BYTES, "%s", client->why);
    client->refusal =
        fault == EEPI_SECURE_FINE || fault == EEPI_SECURE_UNPROVEN ? EEP_OK : EEP_ERR_STATE;
    errno = ECONNREFUSED; /* for eepi_store_socket_why */
    return client->refusal == EEP_OK ? EEP_ERR_UNREACHABLE : EEP_ERR_STATE;
}

eep_status eepi_store_link_open(eepi_store_client *client)
{
    const eep_status status = eepi_secure_open(&client->secure, client->fd, 0);
    if (status == EEP_OK) {
        client->opening = false;
        client->refusal = EEP_OK;
        return EEP_OK;
    }
    if (status == EEP_ERR_TIMEOUT && eepi_secure_is_late(&client->secure, eepi_now_us())) {
        client->secure.fault = EEPI_SECURE_UNPROVEN;
        return refuse(client);
    }
    return status == EEP_ERR_TIMEOUT || status == EEP_ERR_NO_MEMORY ? status : refuse(client);
}

eep_status eepi_store_link_open_within(eepi_store_client *client, uint64_t timeout_us)
{
    const uint64_t end_us = eepi_now_us() + timeout_us;
    for (;;) {
        struct pollfd set = {.fd = client->fd, .events = POLLIN};
        const uint64_t now_us = eepi_now_us();
        const eep_status status = eepi_store_link_open(client);
        struct timespec left;
        uint64_t left_us;
        size_t unsent = 0;
        if (status != EEP_ERR_TIMEOUT) {
            return status;
        }
        if (now_us >= end_us) {
            return EEP_ERR_UNREACHABLE;
        }
        left_us = end_us - now_us < EEPI_STORE_LOOK_US ? end_us - now_us : EEPI_STORE_LOOK_US;
        left = (struct timespec){.tv_nsec = (long)left_us * 1000};
        (void)eepi_secure_unsent(&client->secure, &unsent);
        set.events |= unsent > 0 ? POLLOUT : 0;
        (void)ppoll(&set, 1, &left, NULL);
    }
}
