/* Clearing a store whose instance is over. */
#include "eep/store.h"
#include "graphs/public_call.h"
#include "membership/process.h"
#include "membership/records.h"
#include "membership/seat_file.h"
#include "membership/store_client.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FORGET_BOUND_US = 5000000 };

__attribute__((format(printf, 4, 5))) static eep_status
refuse(char *error_out, size_t bytes, eep_status status, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    if (error_out && bytes > 0)
        vsnprintf(error_out, bytes, format, arguments);
    va_end(arguments);
    return status;
}

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
        if (reply.kind != EEPI_STORE_ENTRY)
            continue;
        more = realloc(keys, (size_t)(num + 1) * sizeof(*keys));
        failed = more == NULL;
        keys = more ? more : keys;
        if (more)
            snprintf(keys[num++], sizeof(keys[0]), "%s", reply.key);
    }
    for (int i = 0; i < num && !failed; i++)
        failed = eepi_store_client_wait(client, eepi_store_remove(client, keys[i]), FORGET_BOUND_US,
                                        &reply) != EEP_OK;
    free(keys);
    return failed ? -1 : num;
}

/* The seats that the instance in the store has; all that there can be if it does not say. */
static int32_t num_seats(eepi_store_client *client)
{
    eepi_store_reply reply;
    eepi_instance instance;

    if (eepi_store_client_wait(client, eepi_store_get(client, EEPI_KEY_INSTANCE), FORGET_BOUND_US,
                               &reply) != EEP_OK ||
        reply.status != EEP_OK || reply.size != sizeof(instance))
        return EEP_MAX_RANKS;
    memcpy(&instance, reply.value, sizeof(instance));
    return instance.numbers[0];
}

eep_status eep_store_forget(const char *path, char *error_out, size_t error_bytes)
{
    eepi_store_client *client;
    char real[PATH_MAX];
    uint64_t home = eepi_process_home();
    eep_status status;
    int32_t seats;
    int num;

    status = eepi_check_given("eep_store_forget", "path", path);
    if (status != EEP_OK)
        return refuse(error_out, error_bytes, status, "%s", eep_error_text());
    status = eepi_store_client_open(path, FORGET_BOUND_US, &client);
    if (status != EEP_OK)
        return refuse(error_out, error_bytes, status, "no store answers at %s", path);
    if (!realpath(path, real))
        snprintf(real, sizeof(real), "%s", path);
    seats = num_seats(client);
    for (int32_t seat = 0; seat < seats && seat < EEP_MAX_RANKS && status == EEP_OK; seat++) {
        eepi_seat_holder holder;
        status = eepi_seat_look(real, seat, &holder);
        if (status != EEP_OK)
            (void)refuse(error_out, error_bytes, status, "%s.seat%d cannot be read", real, seat);
        else if (!eepi_seat_has_ended(real, seat, home, &holder))
            status = refuse(error_out, error_bytes, EEP_ERR_STATE,
                            "process %d holds seat %d: end the instance first", holder.pid, seat);
    }
    if (status == EEP_OK) {
        num = remove_all(client);
        status = num >= 0 ? EEP_OK
                          : refuse(error_out, error_bytes, EEP_ERR_UNREACHABLE,
                                   "the store at %s does not answer", path);
    }
    eepi_store_client_close(client);
    return status;
}
