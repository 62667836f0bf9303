/* SPDX-License-Identifier: Apache-2.0 */
/* Clearing a store whose instance is over. */
#include "eep/store.h"
#include "graphs/base/public_call.h"
#include "membership/process/process.h"
#include "membership/context/records.h"
#include "membership/process/seat_file.h"
#include "membership/store/store_client.h"
#include "membership/store/store_socket.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FORGET_BOUND_US = 5000000 };

/* Remove all keys; how many there were, or -1. */
static int remove_all(eepi_store_client *client)
{
    char(*keys)[EEPI_STORE_KEY_MAX] = NULL;
    eepi_store_reply reply;
    int num = 0, failed = 0;

    failed = eepi_store_client_wait(client, eepi_store_list(client, ""), FORGET_BOUND_US, &reply) !=
             EEP_OK;
    while (!failed && eepi_store_client_next(client, &reply) == EEP_OK) {
        char(*more)[EEPI_STORE_KEY_MAX];
        if (reply.kind != EEPI_STORE_ENTRY) {
            continue;
        }
        more = realloc(keys, (size_t)(num + 1) * sizeof *keys);
        failed = more == NULL;
        keys = more ? more : keys;
        if (more) {
            snprintf(keys[num++], sizeof keys[0], "%s", reply.key);
        }
    }
    for (int i = 0; i < num && !failed; i++) {
        failed = eepi_store_client_wait(client, eepi_store_remove(client, keys[i]), FORGET_BOUND_US,
                                        &reply) != EEP_OK;
    }
    free(keys);
    return failed ? -1 : num;
}

/* All seats that there can be: what the store says of an instance is what is to be removed. */
static eep_status check_seats(const char *path)
{
    uint64_t home = eepi_process_home();

    for (int32_t seat = 0; seat < EEP_MAX_RANKS; seat++) {
        eepi_seat_holder holder;
        eep_status status = eepi_seat_look(path, seat, &holder);
        if (status != EEP_OK) {
            return eepi_refuse(status, "eep_store_forget: %.300s.seat%d cannot be read: %s", path,
                               seat, eepi_seat_why(errno));
        }
        if (!eepi_seat_has_ended(path, seat, home, &holder)) {
            return eepi_refuse(
                EEP_ERR_STATE,
                "eep_store_forget: process %d%s holds seat %d: end the instance first", holder.pid,
                holder.home == home ? "" : " of another pid or time namespace", seat);
        }
    }
    return EEP_OK;
}

/* Nobody takes a seat between the look at all and the removal of the last key. */
static eep_status clear(eepi_store_client *client, const char *path)
{
    int gate = -1;
    eep_status status = eepi_seats_enter(path, true, &gate);

    if (status != EEP_OK) {
        return eepi_refuse(errno == EBUSY ? EEP_ERR_STATE : status,
                           "eep_store_forget: %.300s.seats cannot be locked: %s", path,
                           errno == EBUSY ? "another process has been taking a seat for 6 s: end "
                                            "the instance first"
                                          : strerror(errno));
    }
    status = check_seats(path);
    if (status == EEP_OK && remove_all(client) < 0) {
        status = eepi_refuse(
            EEP_ERR_UNREACHABLE, "eep_store_forget: the store at %.300s does not answer%s%s", path,
            *eepi_store_client_why(client) ? ": " : "", eepi_store_client_why(client));
    }
    eepi_seats_leave(gate);
    return status;
}

static eep_status forget(const char *path)
{
    eepi_store_client *client;
    char real[PATH_MAX], why[200];
    eep_status status = eepi_check_given("eep_store_forget", "path", path);

    if (status != EEP_OK) {
        return status;
    }
    status = eepi_store_client_open(path, FORGET_BOUND_US, &client);
    if (status != EEP_OK) {
        return eepi_refuse(status, "eep_store_forget: no store answers at %.200s: %s", path,
                           eepi_store_socket_why(path, status, why, sizeof why));
    }
    status = eepi_store_local_path(path, real, why, sizeof why);
    status = status == EEP_OK ? clear(client, real)
                              : eepi_refuse(status, "eep_store_forget: %.200s: %s", path, why);
    eepi_store_client_close(client);
    return status;
}

eep_status eep_store_forget(const char *path, char *error_out, size_t error_bytes)
{
    eep_status status = forget(path);

    if (status != EEP_OK && error_out && error_bytes > 0) {
        snprintf(error_out, error_bytes, "%s", eep_error_text());
    }
    return status;
}
