/* SPDX-License-Identifier: Apache-2.0 */
/* What comes over sockets, from a network and out of checkpoint files. */
#include "tests/fuzz/fuzz_targets.h"

#include "graphs/device/tables.h"
#include "tests/lib/check_or_abort.h"
#include "transport/checkpoint/tensor_header.h"
#include "transport/holder/holder_socket.h"
#include "transport/holder/holder_table.h"
#include "transport/proxy/placer.h"
#include "transport/secure/secure_channel.h"

#include <string.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---------------------------------------------------------------- channels */

enum { SECURE_MOST = 2000 };

static eepi_secure_channel begin_secure(bool is_server)
{
    eepi_secure_config config = {
        .is_server = is_server,
        .own = {.service = "fuzz",
                .instance = "job",
                .seat = 1,
                .generation = 2,
                .newest = 2,
                .oldest = 1},
        .wanted_seat = -1,
        .max_message_bytes = SECURE_MOST,
        .max_unsent_bytes = 2 * FUZZ_MAX_BYTES,
    };
    unsigned char nonce[EEPI_SECURE_NONCE_BYTES];
    eepi_secure_channel channel;
    memset(config.key.bytes, 9, sizeof config.key.bytes);
    memset(nonce, is_server ? 1 : 2, sizeof nonce); /* the same each time: seeds open it */
    OK(eepi_secure_begin(&channel, &config, nonce, 0));
    return channel;
}

static void feed(eepi_secure_channel *channel, const uint8_t *bytes, size_t size)
{
    eep_status status = EEP_ERR_TIMEOUT;
    while (size > 0 && status == EEP_ERR_TIMEOUT) {
        const void *payload;
        size_t space = 0, payload_bytes;
        void *to = eepi_secure_space(channel, &space);
        CHECK(to && space > 0);
        CHECK(eepi_secure_is_open(channel) || space <= EEPI_SECURE_BEFORE_BYTES);
        space = space < size ? space : size;
        memcpy(to, bytes, space);
        eepi_secure_filled(channel, space);
        bytes += space;
        size -= space;
        while ((status = eepi_secure_next(channel, &payload, &payload_bytes)) == EEP_OK) {
            CHECK(payload_bytes <= SECURE_MOST && eepi_secure_is_open(channel));
            free(payload_bytes > 0 ? fuzz_text(payload, payload_bytes) : NULL);
        }
    }
}

/* The first bit says which end is fed. */
static bool run_secure(const uint8_t *bytes, size_t size)
{
    char why[EEPI_SECURE_WHY_BYTES];
    eepi_secure_channel channel = begin_secure(size > 0 && (bytes[0] & 1));
    bool taken;
    feed(&channel, bytes + (size > 0), size - (size > 0));
    CHECK(strlen(eepi_secure_why(&channel, why, sizeof why)) > 0);
    taken = channel.receive_sequence > 0;
    eepi_secure_end(&channel);
    return taken;
}

static size_t take_unsent(eepi_secure_channel *from, uint8_t *bytes_out)
{
    size_t size;
    const void *unsent = eepi_secure_unsent(from, &size);
    memcpy(bytes_out, unsent, size);
    eepi_secure_sent(from, size);
    return size;
}

/* A conversation as the server hears it, and as the client does. */
static size_t seed_secure(int number, uint8_t *bytes_out)
{
    eepi_secure_channel client = begin_secure(false), server = begin_secure(true);
    const struct iovec parts[2] = {{"a message", 9}, {"of two parts", 12}};
    uint8_t said[2][FUZZ_MAX_BYTES];
    size_t size[2];
    size[0] = take_unsent(&client, said[0]);
    feed(&server, said[0], size[0]);
    size[1] = take_unsent(&server, said[1]);
    feed(&client, said[1], size[1]);
    OK(eepi_secure_put(&client, parts, 2));
    OK(eepi_secure_put(&client, parts, 1));
    {
        const size_t more = take_unsent(&client, said[0] + size[0]);
        feed(&server, said[0] + size[0], more);
        size[0] += more;
    }
    CHECK(eepi_secure_is_open(&server) && server.receive_sequence == 2);
    OK(eepi_secure_put(&server, parts, 2));
    size[1] += take_unsent(&server, said[1] + size[1]);
    eepi_secure_end(&client);
    eepi_secure_end(&server);
    if (number > 1) {
        return 0;
    }
    bytes_out[0] = number == 0;
    memcpy(bytes_out + 1, said[number], size[number]);
    return 1 + size[number];
}

/* ---------------------------------------------------------------- the holder */

/* Messages of one size, of two clients in turn; the last bit of the first byte of each: with
 * memory.
 */
static bool run_holder(const uint8_t *bytes, size_t size)
{
    eepi_holder holder = {
        .limits = {8, 4, 4, 1 << 20, 1000}, .listen_fd = -1, .stop_fd = -1, .most_guests = 8};
    int peer[2][2];
    holder_client *clients[2];
    bool taken = false;
    holder.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    holder.pid = getpid();
    CHECK(holder.epoll_fd >= 0);
    for (int i = 0; i < 2; i++) {
        CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, peer[i]) == 0);
        OK(eepi_holder_add_client(&holder, peer[i][1]));
        clients[i] = holder.clients;
    }
    for (size_t at = 0; at + 1 < size; at += 1 + sizeof(eepi_holder_message)) {
        const size_t left = size - at - 1;
        const size_t now = left < sizeof(eepi_holder_message) ? left : sizeof(eepi_holder_message);
        const int who = bytes[at] & 1;
        int fd = bytes[at] & 2 ? memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING) : -1;
        uint8_t answer[512];
        if (clients[who]->dropped) {
            continue;
        }
        if (fd >= 0) {
            CHECK(ftruncate(fd, 4096) == 0 && fcntl(fd, F_ADD_SEALS, EEPI_HOLDER_SEALS) == 0);
        }
        (void)!eepi_holder_send(peer[who][0], bytes + at + 1, now, fd);
        if (fd >= 0) {
            close(fd);
        }
        eepi_holder_read_client(&holder, clients[who]);
        taken = taken || holder.retained;
        for (int i = 0; i < 2; i++) {
            int got = -1;
            bool lost;
            while (eepi_holder_receive(peer[i][0], answer, sizeof answer, &got, &lost) > 0) {
                if (got >= 0) {
                    close(got);
                }
            }
        }
    }
    for (int i = 0; i < 2; i++) {
        eepi_holder_free_client(&holder, clients[i]);
        close(peer[i][0]);
    }
    (void)!eepi_holder_release_retained(&holder, "");
    while (holder.retained) {
        holder_held *next = holder.retained->next;
        close(holder.retained->fd);
        free(holder.retained);
        holder.retained = next;
    }
    close(holder.epoll_fd);
    return taken;
}

static size_t add_message(uint8_t *bytes_out, size_t at, int flags, eepi_holder_message message)
{
    message.magic = EEPI_HOLDER_MAGIC;
    message.version = EEPI_HOLDER_VERSION;
    message.id = at + 1;
    bytes_out[at] = (uint8_t)flags;
    memcpy(bytes_out + at + 1, &message, sizeof message);
    return at + 1 + sizeof message;
}

static size_t seed_holder(int number, uint8_t *bytes_out)
{
    size_t at = 0;
    if (number > 0) {
        return 0;
    }
    at = add_message(bytes_out, at, 0,
                     (eepi_holder_message){.kind = EEPI_HOLDER_HELLO, .identity = {1}});
    at = add_message(bytes_out, at, 1,
                     (eepi_holder_message){.kind = EEPI_HOLDER_HELLO, .identity = {2}});
    at = add_message(
        bytes_out, at, 2,
        (eepi_holder_message){.kind = EEPI_HOLDER_HOLD, .bytes = 4096, .name = "bulk/0"});
    at = add_message(bytes_out, at, 2,
                     (eepi_holder_message){.kind = EEPI_HOLDER_HOLD,
                                           .bytes = 4096,
                                           .flags = EEPI_HOLDER_RETAINED,
                                           .name = "backup/7/0"});
    at = add_message(bytes_out, at, 1,
                     (eepi_holder_message){.kind = EEPI_HOLDER_LOOK_UP, .name = "bulk/0"});
    at = add_message(bytes_out, at, 1,
                     (eepi_holder_message){.kind = EEPI_HOLDER_NEXT, .name = "backup/"});
    at = add_message(bytes_out, at, 1,
                     (eepi_holder_message){.kind = EEPI_HOLDER_CONNECT, .identity = {1}});
    return add_message(bytes_out, at, 0,
                       (eepi_holder_message){.kind = EEPI_HOLDER_RELEASE, .name = "bulk/0"});
}

/* ---------------------------------------------------------------- checkpoints */

static bool run_tensors(const uint8_t *bytes, size_t size)
{
    eepi_tensor_list list = {0};
    char why[EEPI_TENSOR_WHY_BYTES];
    char *text = fuzz_text(bytes, size);
    const bool taken = eepi_tensor_header_parse(text, size, 8 + size + 24, 0, &list, why) == EEP_OK;
    if (taken) {
        eepi_tensor_list_sort(&list);
        (void)eepi_tensor_list_twice(&list);
    }
    eepi_tensor_list_free(&list);
    free(text);
    return taken;
}

static size_t seed_tensors(int number, uint8_t *bytes_out)
{
    static const char *const texts[] = {
        "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2,2],"
        "\"data_offsets\":[0,16]},\"b.w\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":"
        "[16,24]}}  ",
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]},\"b\":{\"dtype\":\"F8_"
        "E4M3\","
        "\"shape\":[23],\"data_offsets\":[1,24]}}",
    };
    return fuzz_seed_text(texts, sizeof texts / sizeof *texts, number, bytes_out);
}

/* ---------------------------------------------------------------- rows */

enum { OWN = 7, RANKS = 4, SELF = 1, EPOCH = 3, STEP = 10 };

typedef struct window {
    eepk_shape shape;
    uint8_t *bytes;
} window;

static void write_rows(void *user, uint64_t offset, const void *bytes, uint32_t num_bytes)
{
    window *w = user;
    CHECK(offset <= w->shape.window_bytes && num_bytes <= w->shape.window_bytes - offset);
    memcpy(w->bytes + offset, bytes, num_bytes);
}

static void write_word(void *user, uint64_t offset, uint64_t value)
{
    window *w = user;
    CHECK(offset % 8 == 0 && offset + 8 <= w->shape.window_bytes);
    memcpy(w->bytes + offset, &value, sizeof value);
}

static void hear_begin(void *listener, const eepk_put *put)
{
    (void)listener;
    CHECK(put->source < RANKS);
}

static window *open_window(void)
{
    static window w;
    const eep_config config = {.struct_bytes = sizeof config,
                               .rank = SELF,
                               .num_ranks = RANKS,
                               .max_ranks = RANKS,
                               .num_layers = 3,
                               .num_experts = 8,
                               .num_slots = 3,
                               .top_k = 2,
                               .hidden = 16,
                               .num_max_tokens_per_rank = 4,
                               .dtype = EEP_FP32};
    const char *why;
    if (!w.bytes) {
        OK(eepi_shape_make(&config, &w.shape, &why));
        w.bytes = aligned_alloc(EEPK_LINE_BYTES, w.shape.window_bytes);
        CHECK(w.bytes);
    }
    return &w;
}

/* A network's messages, one behind the other: a put, then so many bytes as it says. */
static bool run_rows(const uint8_t *bytes, size_t size)
{
    static const uint32_t members[RANKS] = {1, OWN, 5, 3};
    window *w = open_window();
    const eepi_placer_ops ops = {write_rows, write_word, hear_begin, NULL, NULL, NULL};
    eepi_gate_stand stand = {EPOCH, STEP, true, OWN, members};
    eepi_placer *placer = eepi_placer_open(&w->shape, OWN, &ops, w);
    bool taken;
    CHECK(placer);
    OK(eepi_placer_move(placer, &stand, 1000 * 1000));
    while (size >= sizeof(eepk_put)) {
        eepk_put put;
        char *behind;
        memcpy(&put, bytes, sizeof put);
        bytes += sizeof put;
        size -= sizeof put;
        if (put.bytes > size) {
            break; /* a network hands over whole messages */
        }
        behind = fuzz_text(bytes, put.bytes);
        (void)eepi_placer_place(placer, &put, behind, put.source_generation);
        free(behind);
        bytes += put.bytes;
        size -= put.bytes;
    }
    stand.step++;
    OK(eepi_placer_move(placer, &stand, 1000 * 1000));
    stand.epoch++;
    OK(eepi_placer_move(placer, &stand, 1000 * 1000));
    taken = eepi_placer_count(placer, EEPI_PLACED) > 0;
    eepi_placer_close(placer);
    return taken;
}

static size_t seed_rows(int number, uint8_t *bytes_out)
{
    window *w = open_window();
    eepk_put put = {.epoch = EPOCH,
                    .step = STEP + (uint64_t)number,
                    .phase = EEPK_PHASE_DISPATCH,
                    .source = 2,
                    .target = SELF,
                    .source_generation = 5,
                    .target_generation = OWN,
                    .kind = EEPK_PUT_ROWS,
                    .bytes = 64};
    if (number > 1) {
        return 0;
    }
    put.offset = (uint64_t)(eepk_dispatch_row(&w->shape, w->bytes, 0, 2, 0) - w->bytes);
    memcpy(bytes_out, &put, sizeof put);
    memset(bytes_out + sizeof put, 3, 64);
    return sizeof put + 64;
}

const fuzz_target fuzz_transport_targets[] = {
    {"secure_channel", run_secure, seed_secure},
    {"holder_messages", run_holder, seed_holder},
    {"tensor_header", run_tensors, seed_tensors},
    {"network_rows", run_rows, seed_rows},
    {NULL, NULL, NULL},
};
