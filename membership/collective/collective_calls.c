/* SPDX-License-Identifier: Apache-2.0 */
/* The program's calls: arguments, and what becomes of the contributions. */
#include "eep/collectives.h"

#include "graphs/base/public_call.h"
#include "graphs/device/device_ops.h"
#include "membership/collective/collective_reduce.h"
#include "membership/collective/collective_round.h"
#include "membership/collective/collective_state.h"
#include "membership/context/context.h"
#include "membership/step/capture.h"

#include <string.h>

#define DAY_US 86400000000ull

/* Where deliver puts it. */
typedef struct place {
    uint8_t *receive;
    size_t stride; /* allgather: of a seat */
    uint64_t *bytes_out;
    const eepi_collective_what *what;
    bool is_filled; /* allreduce: by the first seat */
} place;

static void deliver_all(void *user, int seat, const void *bytes, size_t size)
{
    place *to = user;
    uint8_t *at = to->receive + (size_t)seat * to->stride;

    if (size > 0 && at != bytes) {
        memmove(at, bytes, size);
    }
    if (to->bytes_out) {
        to->bytes_out[seat] = size;
    }
}

static void deliver_nothing(void *user, int seat, const void *bytes, size_t size)
{
    (void)user, (void)seat, (void)bytes, (void)size;
}

static void deliver_reduced(void *user, int seat, const void *bytes, size_t size)
{
    place *to = user;

    (void)seat;
    if (to->is_filled) {
        eepi_reduce(to->receive, bytes, to->what->length, (eep_reduce_type)to->what->type,
                    (eep_reduce_op)to->what->op);
    } else {
        memmove(to->receive, bytes, size);
    }
    to->is_filled = true;
}

/* What all of these calls check, and the one thread that may be inside. */
static eep_status begin(eep_context *context, const char *call,
                        const eep_collective_result *result_out)
{
    const char *other = NULL;
    eep_status status = eepi_check_context(call, context);

    if (status == EEP_OK) {
        status = eepi_check_may_wait(call);
    }
    if (status == EEP_OK && eepi_capture_is_by_this_thread(context)) {
        status = eepi_refuse(EEP_ERR_STATE,
                             "%s while a stream is captured: it works on host memory at once and "
                             "is no part of a graph; call it before the capture or after it",
                             call);
    }
    if (status == EEP_OK && result_out) {
        status = EEPI_STRUCT_CHECK_IN(call, eep_collective_result, result_out);
    }
    if (status != EEP_OK) {
        return status;
    }
    if (!__atomic_compare_exchange_n(&context->calls.collectives->call, &other, call, 0,
                                     __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        return eepi_refuse(EEP_ERR_STATE,
                           "%s while another thread is in %s of this context: one thread at a "
                           "time is in a collective",
                           call, other);
    }
    return EEP_OK;
}

/* The arguments are sound, and begin has said EEP_OK. */
static eep_status finish(eep_context *context, eepi_collective_round *round,
                         eep_collective_result *result_out)
{
    eep_collective_result result = {.struct_bytes = sizeof result};
    int cancel_state;
    eep_status status;

    round->timeout_us = round->timeout_us < DAY_US ? round->timeout_us : DAY_US;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    status = eepi_collective_run(context, round, &result);
    __atomic_store_n(&context->calls.collectives->call, NULL, __ATOMIC_RELEASE);
    pthread_setcancelstate(cancel_state, &cancel_state);
    if (result_out) {
        EEPI_STRUCT_GIVE(eep_collective_result, result_out, &result);
    }
    return status;
}

/* begin was EEP_OK, and an argument is not. */
static eep_status give_up(eep_context *context, eep_status status)
{
    __atomic_store_n(&context->calls.collectives->call, NULL, __ATOMIC_RELEASE);
    return status;
}

static eep_status check_bytes(const char *call, const char *name, size_t bytes, size_t most)
{
    return bytes <= most ? EEP_OK
                         : eepi_refuse(EEP_ERR_INVALID, "%s: %s is %zu: at most %zu are possible",
                                       call, name, bytes, most);
}

eep_status eep_collective_barrier(eep_context *context, uint64_t timeout_us,
                                  eep_collective_result *result_out)
{
    eepi_collective_round round = {.call = "eep_collective_barrier",
                                   .what = {.kind = EEPI_COLLECTIVE_BARRIER},
                                   .timeout_us = timeout_us,
                                   .deliver = deliver_nothing};
    eep_status status = begin(context, round.call, result_out);

    return status == EEP_OK ? finish(context, &round, result_out) : status;
}

eep_status eep_collective_broadcast(eep_context *context, int32_t root, void *buffer, size_t bytes,
                                    uint64_t timeout_us, eep_collective_result *result_out)
{
    place to = {.receive = buffer};
    eepi_collective_round round = {
        .call = "eep_collective_broadcast",
        .what = {.kind = EEPI_COLLECTIVE_BROADCAST, .root = root, .length = bytes},
        .send = buffer,
        .timeout_us = timeout_us,
        .deliver = deliver_all,
        .user = &to};
    eep_status status = begin(context, round.call, result_out);

    if (status != EEP_OK) {
        return status;
    }
    status = eepi_check_given(round.call, "buffer", buffer);
    if (status == EEP_OK) {
        status = check_bytes(round.call, "bytes", bytes, EEP_COLLECTIVE_MAX_BYTES);
    }
    if (status == EEP_OK && (root < 0 || root >= context->config.max_ranks)) {
        status = eepi_refuse(EEP_ERR_INVALID, "%s: root is %d: 0 to %d are possible", round.call,
                             root, context->config.max_ranks - 1);
    }
    if (status != EEP_OK) {
        return give_up(context, status);
    }
    round.bytes = root == context->config.rank ? bytes : 0;
    return finish(context, &round, result_out);
}

eep_status eep_collective_allgather(eep_context *context, const void *send, size_t bytes,
                                    void *receive, size_t stride_bytes, uint64_t *bytes_out,
                                    uint64_t timeout_us, eep_collective_result *result_out)
{
    uint64_t sizes[EEP_MAX_RANKS] = {0};
    place to = {.receive = receive, .stride = stride_bytes, .bytes_out = sizes};
    eepi_collective_round round = {
        .call = "eep_collective_allgather",
        .what = {.kind = EEPI_COLLECTIVE_ALLGATHER, .length = stride_bytes},
        .send = send,
        .bytes = bytes,
        .timeout_us = timeout_us,
        .deliver = deliver_all,
        .user = &to};
    eep_status status = begin(context, round.call, result_out);
    size_t seats;

    if (status != EEP_OK) {
        return status;
    }
    status = eepi_check_given(round.call, "send", send);
    if (status == EEP_OK) {
        status = eepi_check_given(round.call, "receive", receive);
    }
    if (status == EEP_OK) {
        status = check_bytes(round.call, "stride_bytes", stride_bytes, EEP_COLLECTIVE_MAX_BYTES);
    }
    if (status == EEP_OK) {
        status = check_bytes(round.call, "bytes", bytes, stride_bytes);
    }
    if (status != EEP_OK) {
        return give_up(context, status);
    }
    seats = (size_t)context->config.max_ranks;
    status = finish(context, &round, result_out); /* eep_close may have freed it by now */
    if (status == EEP_OK && bytes_out) {
        memcpy(bytes_out, sizes, seats * sizeof sizes[0]);
    }
    return status;
}

eep_status eep_collective_allreduce(eep_context *context, const void *send, void *receive,
                                    size_t count, eep_reduce_type type, eep_reduce_op op,
                                    uint64_t timeout_us, eep_collective_result *result_out)
{
    const size_t element = eepi_reduce_type_bytes(type);
    eepi_collective_round round = {.call = "eep_collective_allreduce",
                                   .what = {.kind = EEPI_COLLECTIVE_ALLREDUCE,
                                            .type = (uint32_t)type,
                                            .op = (uint32_t)op,
                                            .length = count},
                                   .send = send,
                                   .bytes = count * element,
                                   .timeout_us = timeout_us,
                                   .deliver = deliver_reduced};
    place to = {.receive = receive, .what = &round.what};
    eep_status status = begin(context, round.call, result_out);

    if (status != EEP_OK) {
        return status;
    }
    round.user = &to;
    status = eepi_check_given(round.call, "send", send);
    if (status == EEP_OK) {
        status = eepi_check_given(round.call, "receive", receive);
    }
    if (status == EEP_OK && !eepi_reduce_is_possible(type, op)) {
        status =
            eepi_refuse(EEP_ERR_INVALID,
                        "%s: type %d and op %d: eep_reduce_type and eep_reduce_op have what is "
                        "possible, AND and OR for integers only",
                        round.call, (int)type, (int)op);
    }
    if (status == EEP_OK) {
        status = check_bytes(round.call, "count", count, EEP_COLLECTIVE_MAX_BYTES / element);
    }
    return status == EEP_OK ? finish(context, &round, result_out) : give_up(context, status);
}
