/* SPDX-License-Identifier: Apache-2.0 */
/* Watching the views of an instance from outside of it. */
#include "eep/watch.h"

#include "graphs/base/public_call.h"
#include "graphs/base/clock.h"
#include "membership/store/store_client.h"
#include "membership/view/view.h"
#include "membership/context/records.h"
#include "membership/store/store_socket.h"

#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    AWAY_NAP_US = 20000,  /* between two tries to connect again */
    LOOK_NAP_US = 200000, /* whether the store has ended without a sign of it */
    ANSWER_US = 1000000   /* for the store's first answer, once it is there */
};
static const uint64_t DAY_US = 86400000000;

struct eep_watch {
    int32_t opened_by; /* the process */
    eepi_store_client *client;
    uint64_t told_digest; /* of the view that was given last; 0: none was */
};

static eep_status check_watch(const char *call, const eep_watch *watch)
{
    eep_status status = eepi_check_given(call, "watch", watch);

    return status == EEP_OK ? eepi_check_process(call, "watch", watch->opened_by) : status;
}

/* Connect and begin to watch. The answer tells a store that takes us from one that does not. */
static eep_status try_watch(eep_watch *watch, const char *store_path, uint64_t timeout_us)
{
    char why[200];
    eepi_store_reply reply;
    eep_status status = eepi_store_client_open(store_path, timeout_us, &watch->client);
    uint64_t id;

    if (status != EEP_OK) {
        return eepi_refuse(status, "eep_watch_open: no store answers at %.200s: %s", store_path,
                           eepi_store_socket_why(store_path, status, why, sizeof why));
    }
    id = eepi_store_watch(watch->client, EEPI_KEY_VIEW);
    status = eepi_store_client_wait(watch->client, id,
                                    timeout_us > ANSWER_US ? timeout_us : ANSWER_US, &reply);
    if (status == EEP_OK) {
        status = reply.status;
    }
    if (status == EEP_ERR_NO_MEMORY) {
        return eepi_refuse(status, "eep_watch_open: out of memory, here or in the store");
    }
    if (status != EEP_OK) {
        return eepi_refuse(
            EEP_ERR_UNREACHABLE, "eep_watch_open: the store at %.200s %s: %s", store_path,
            status == EEP_ERR_TIMEOUT ? "does not answer" : "takes no connection",
            *eepi_store_client_why(watch->client) ? eepi_store_client_why(watch->client)
                                                  : eep_strerror(status));
    }
    return EEP_OK;
}

/* A store that ends, or has no descriptor left, may be followed by one that answers. */
static eep_status connect_watch(eep_watch *watch, const char *store_path, uint64_t timeout_us)
{
    const struct timespec pause = {.tv_nsec = AWAY_NAP_US * 1000};
    uint64_t now_us = eepi_now_us();
    uint64_t until_us = now_us + (timeout_us < DAY_US ? timeout_us : DAY_US);

    for (;;) {
        eep_status status = try_watch(watch, store_path, until_us > now_us ? until_us - now_us : 0);
        now_us = eepi_now_us();
        if (status != EEP_ERR_UNREACHABLE || now_us >= until_us ||
            (watch->client && eepi_store_client_refusal(watch->client) == EEP_ERR_STATE)) {
            return status;
        }
        eepi_store_client_close(watch->client);
        watch->client = NULL;
        nanosleep(&pause, NULL);
    }
}

eep_status eep_watch_open(const char *store_path, uint64_t timeout_us, char *error_out,
                          size_t error_bytes, eep_watch **watch_out)
{
    eep_watch *watch = NULL;
    eep_status status = eepi_check_given("eep_watch_open", "store_path", store_path);

    if (status == EEP_OK) {
        status = eepi_check_given("eep_watch_open", "watch_out", watch_out);
    }
    if (status == EEP_OK && !(watch = calloc(1, sizeof *watch))) {
        status = eepi_refuse(EEP_ERR_NO_MEMORY, "eep_watch_open: out of memory");
    }
    if (status == EEP_OK) {
        status = connect_watch(watch, store_path, timeout_us);
    }
    if (status != EEP_OK) {
        if (error_out && error_bytes > 0) {
            snprintf(error_out, error_bytes, "%s", eep_error_text());
        }
        if (watch) {
            eepi_store_client_close(watch->client);
        }
        free(watch);
        return status;
    }
    watch->opened_by = (int32_t)getpid();
    *watch_out = watch;
    return EEP_OK;
}

void eep_watch_close(eep_watch *watch)
{
    if (!watch || check_watch("eep_watch_close", watch) != EEP_OK) {
        return;
    }
    eepi_store_client_close(watch->client);
    free(watch);
}

int eep_watch_fd(const eep_watch *watch)
{
    return watch ? eepi_store_client_fd(watch->client) : -1;
}

static void fill_out(const eepi_view *view, eep_view_info *view_out, eep_seat *seats_out,
                     int32_t num_seats)
{
    const int32_t num_active = eepi_view_num_active(view); /* 0: the instance has ended */
    const eep_view_info info = {.max_ranks = view->shape.max_ranks,
                                .num_active = num_active,
                                .is_serving = view->phase == EEPI_VIEW_SERVING && num_active > 0,
                                .epoch = view->epoch};

    for (int seat = 0; seat < num_seats && seat < view->shape.max_ranks; seat++) {
        const eepi_view_seat *at = eepi_view_seat_at(view, seat);
        seats_out[seat] = (eep_seat){(eep_seat_state)at->state, at->generation};
    }
    EEPI_STRUCT_GIVE(eep_view_info, view_out, &info);
}

/* True: the reply was a view that is new to the caller, and the outputs are set. */
static bool handle_reply(eep_watch *watch, const eepi_store_reply *reply, eep_view_info *view_out,
                         eep_seat *seats_out, int32_t num_seats)
{
    eepi_view *view;
    bool is_new;

    if ((reply->kind != EEPI_STORE_ENTRY && reply->kind != EEPI_STORE_CHANGED) ||
        strcmp(reply->key, EEPI_KEY_VIEW) != 0 || reply->size == 0) {
        return false;
    }
    view = malloc(reply->size); /* aligned */
    if (!view) {
        return false;
    }
    memcpy(view, reply->value, reply->size);
    is_new =
        eepi_view_check(view, reply->size, NULL) == EEP_OK && view->digest != watch->told_digest;
    if (is_new) {
        watch->told_digest = view->digest;
        fill_out(view, view_out, seats_out, num_seats);
    }
    free(view);
    return is_new;
}

static void nap(const eep_watch *watch, uint64_t us)
{
    const int fd = eepi_store_client_fd(watch->client);
    struct pollfd set = {
        fd, eepi_store_client_wants_write(watch->client) ? POLLIN | POLLOUT : POLLIN, 0};

    if (us > (fd < 0 ? AWAY_NAP_US : LOOK_NAP_US)) {
        us = fd < 0 ? AWAY_NAP_US : LOOK_NAP_US;
    }
    (void)poll(&set, 1, (int)((us + 999) / 1000));
}

eep_status eep_watch_next(eep_watch *watch, uint64_t timeout_us, eep_view_info *view_out,
                          eep_seat *seats_out, int32_t num_seats)
{
    uint64_t until_us = eepi_now_us() + (timeout_us < DAY_US ? timeout_us : DAY_US);
    eep_status status = check_watch("eep_watch_next", watch);

    if (status == EEP_OK) {
        status = EEPI_STRUCT_CHECK(eep_view_info, view_out);
    }
    if (status == EEP_OK && num_seats < 0) {
        status = eepi_refuse(EEP_ERR_INVALID,
                             "eep_watch_next: num_seats is %d: give 0, or how many seats seats_out "
                             "has room for",
                             num_seats);
    }
    if (status == EEP_OK && num_seats > 0) {
        status = eepi_check_given("eep_watch_next", "seats_out", seats_out);
    }
    if (status != EEP_OK) {
        return status;
    }
    for (;;) {
        eepi_store_reply reply;
        uint64_t now_us;

        while (eepi_store_client_next(watch->client, &reply) == EEP_OK) {
            if (handle_reply(watch, &reply, view_out, seats_out, num_seats)) {
                return EEP_OK;
            }
        }
        now_us = eepi_now_us();
        if (now_us >= until_us) {
            return eepi_refuse(EEP_ERR_TIMEOUT, "eep_watch_next: no other view within %llu us%s%s",
                               (unsigned long long)timeout_us,
                               *eepi_store_client_why(watch->client) ? "; the store refuses: " : "",
                               eepi_store_client_why(watch->client));
        }
        nap(watch, until_us - now_us);
    }
}
