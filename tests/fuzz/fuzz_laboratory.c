/* SPDX-License-Identifier: Apache-2.0 */
/* What the laboratory reads: commands on the control socket, traces, plans, placements, verbs. */
#include "tests/fuzz/fuzz_targets.h"

#include "experiments/control/control_request.h"
#include "experiments/load/trace.h"
#include "experiments/script/placement_file.h"
#include "experiments/script/plan.h"
#include "experiments/script/script_parse.h"
#include "tests/lib/check_or_abort.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---------------------------------------------------------------- control */

static bool take_command(void *user, const script_event *event, int seats_out[SCRIPT_MAX_SEATS],
                         int *num_seats_out, int *id_out, char error[CONTROL_ERROR_BYTES])
{
    (void)event;
    (void)error;
    ++*(int *)user;
    seats_out[0] = 1;
    *num_seats_out = 1;
    *id_out = 7;
    return true;
}

static void finish(void *user)
{
    ++*(int *)user;
}

static void describe(void *user, cJSON *answer)
{
    (void)user;
    (void)cJSON_AddNumberToObject(answer, "epoch", 1);
}

static bool settled(void *user, char why[CONTROL_ERROR_BYTES])
{
    (void)user;
    if (why) {
        strcpy(why, "a rank is about to join");
    }
    return false;
}

static bool cancel(void *user, int id, char error[CONTROL_ERROR_BYTES])
{
    ++*(int *)user;
    strcpy(error, "no such number");
    return id == 7;
}

static bool run_control(const uint8_t *bytes, size_t size)
{
    static const control_ops ops = {take_command, finish, describe, settled, describe, cancel};
    control *self = calloc(1, sizeof *self);
    char *line = NULL;
    size_t line_bytes = 0;
    int pair[2], commands = 0;
    CHECK(self && socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
    self->ops = &ops;
    self->user = &commands;
    self->socket.fd = self->reserve_fd = -1;
    for (int i = 1; i < CONTROL_MAX_PEERS; i++) {
        self->peer[i].fd = -1;
    }
    control_peer_open(&self->peer[0], pair[1]);
    while (size > 0 && self->peer[0].fd >= 0) {
        const size_t now = size < 3000 ? size : 3000;
        const ssize_t sent = send(pair[0], bytes, now, MSG_NOSIGNAL);
        if (sent <= 0) {
            break;
        }
        bytes += sent;
        size -= (size_t)sent;
        control_peer_read(&self->peer[0]);
        while (self->peer[0].fd >= 0 &&
               control_peer_next(&self->peer[0], &line, &line_bytes) == LINE_TAKEN) {
            char drained[4096];
            control_on_line(self, 0, line, line_bytes);
            while (recv(pair[0], drained, sizeof drained, 0) > 0) {
            }
        }
    }
    control_peer_close(&self->peer[0]);
    cJSON_Delete(self->owed[0].id);
    close(pair[0]);
    free(self);
    return commands > 0;
}

static size_t seed_control(int number, uint8_t *bytes_out)
{
    static const char *const texts[] = {
        "{\"id\":1,\"do\":\"kill\",\"what\":\"3,5\"}\n{\"do\":\"status\"}\n",
        "{\"id\":\"a\",\"wait\":\"settled\",\"timeout_s\":1}\n{\"do\":\"pending\"}\n{\"do\":"
        "\"cancel\",\"number\":7}\n{\"do\":\"watch\"}\n{\"do\":\"finish\"}\n",
    };
    return fuzz_seed_text(texts, sizeof texts / sizeof *texts, number, bytes_out);
}

/* ---------------------------------------------------------------- files */

static bool run_trace(const uint8_t *bytes, size_t size)
{
    char path[64], error[TRACE_ERROR_BYTES] = "";
    const trace_options options = {.scale_lengths = {1, 3}, .scale_time = {2, 1}};
    trace read = {0};
    bool taken;
    int fd = memfd_create("trace", MFD_CLOEXEC);
    CHECK(fd >= 0 && write(fd, bytes, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    taken = trace_load(path, &options, &read, error) == EEP_OK;
    if (taken) {
        for (size_t i = 0; i < read.num_requests; i++) {
            CHECK(read.requests[i].input_length >= 1 &&
                  read.requests[i].input_length <= TRACE_MAX_LENGTH);
            CHECK(i == 0 || read.requests[i].arrival_us >= read.requests[i - 1].arrival_us);
        }
        trace_free(&read);
    } else {
        CHECK(error[0] != '\0');
    }
    close(fd);
    return taken;
}

static size_t seed_trace(int number, uint8_t *bytes_out)
{
    static const char *const texts[] = {
        "{\"timestamp\": 0, \"input_length\": 6758, \"output_length\": 500, \"hash_ids\": [0, 1]}\n"
        "\n{\"timestamp\": 3052.5, \"input_length\": 1, \"output_length\": 490}\n",
        "\xef\xbb\xbf{\"output_length\":1,\"input_length\":2,\"timestamp\":1e3}\r\n",
    };
    return fuzz_seed_text(texts, sizeof texts / sizeof *texts, number, bytes_out);
}

static bool run_plan(const uint8_t *bytes, size_t size)
{
    char error[PLAN_ERROR_BYTES] = "", *text = fuzz_text(bytes, size);
    plan *read = NULL;
    const bool taken = plan_parse("plan", text, size, &read, error) == EEP_OK;
    if (taken) {
        CHECK(plan_fewest_ranks(read) <= read->num_seats);
        plan_free(read);
    } else {
        CHECK(error[0] != '\0');
    }
    free(text);
    return taken;
}

static size_t seed_plan(int number, uint8_t *bytes_out)
{
    static const char *const texts[] = {"[[0, 1], [0, 1, 2, 3], [0, -1, 2, 3], [0, 2]]", "[[0]]"};
    return fuzz_seed_text(texts, sizeof texts / sizeof *texts, number, bytes_out);
}

static bool run_placement(const uint8_t *bytes, size_t size)
{
    const placement_shape shape = {2, 2, 2, 3, 2};
    char error[PLACEMENT_ERROR_BYTES] = "", *text = fuzz_text(bytes, size);
    placement_order order;
    const bool taken = placement_parse("placement", text, size, &shape, &order, error) == EEP_OK;
    if (taken) {
        for (int i = 0; i < 8; i++) {
            CHECK(order.experts[i] >= -1 && order.experts[i] < 3);
        }
        placement_free(&order);
    } else {
        CHECK(error[0] != '\0');
    }
    free(text);
    return taken;
}

static size_t seed_placement(int number, uint8_t *bytes_out)
{
    static const char *const texts[] = {
        "{\"number\": 1, \"about\": \"x\", \"ranks\": [{\"rank\": 0, \"experts\": [0, 1]}, "
        "{\"rank\": 1, "
        "\"layer\": 1, \"experts\": [2, -1], \"pinned\": [true, false]}]}",
        "{\"number\": 2, \"ranks\": [{\"rank\": 1, \"experts\": [2], \"pinned\": true}]}",
    };
    return fuzz_seed_text(texts, sizeof texts / sizeof *texts, number, bytes_out);
}

static bool run_verbs(const uint8_t *bytes, size_t size)
{
    char error[SCRIPT_ERROR_BYTES] = "", *text = fuzz_text(bytes + (size > 0), size - (size > 0));
    script_event event = {0};
    const int what = size > 0 ? bytes[0] % NUM_VERBS : 0;
    const bool taken = script_parse((verb)what, text, size % 2, &event, error) == EEP_OK;
    if (!taken) {
        CHECK(error[0] != '\0');
    }
    free(text);
    return taken;
}

/* The first byte is the verb, as in what the target gets. */
static size_t seed_verbs(int number, uint8_t *bytes_out)
{
    static const struct {
        verb what;
        const char *text;
    } seeds[] = {
        {VERB_KILL, "3,5,7@1.5"},       {VERB_ABORT, "lowest@step:20+1s"},
        {VERB_SLOW, "random:2=3/2s@2"}, {VERB_STOP, "source=0.9x@ready:1#2+400ms"},
        {VERB_DIE, "2=dispatch@1"},     {VERB_PLACEMENT, "3=placement.json@1"},
        {VERB_BURN, "1.5@2"},           {VERB_STORE_STOP, "400ms@1"},
        {VERB_ADD, "vacant:2@1500ms"},
    };
    size_t size;
    if ((size_t)number >= sizeof seeds / sizeof *seeds) {
        return 0;
    }
    size = strlen(seeds[number].text);
    bytes_out[0] = (uint8_t)seeds[number].what;
    memcpy(bytes_out + 1, seeds[number].text, size);
    return 1 + size;
}

const fuzz_target fuzz_laboratory_targets[] = {
    {"control_lines", run_control, seed_control},
    {"trace_file", run_trace, seed_trace},
    {"plan_file", run_plan, seed_plan},
    {"placement_file", run_placement, seed_placement},
    {"verbs", run_verbs, seed_verbs},
    {NULL, NULL, NULL},
};
