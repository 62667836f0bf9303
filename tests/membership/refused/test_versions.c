/* SPDX-License-Identifier: Apache-2.0 */
/* Processes of two releases: what the older and the newer one say to each other is refused by name,
 * and the instance that was there goes on. The other release's bytes are made by hand: each message
 * and record has its version where it is in all versions. */
#include "tests/lib/context_fixture.h"
#include "tests/lib/store/store_port.h"

#include "membership/context/records.h"
#include "membership/store/store_client.h"
#include "membership/store/store_wire.h"
#include "transport/holder/holder_wire.h"

#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

TestSuite(versions, .timeout = 50);

enum { STORE_US = 20 * 1000 * 1000, FEW = 5, VERSION_AT = 4 /* of a frame and of a record */ };

static void put(const world *w, const char *key, const void *bytes, size_t size)
{
    eepi_store_client *client = NULL;
    eepi_store_reply reply;
    cr_assert_eq(eepi_store_client_open(w->path, STORE_US, &client), EEP_OK);
    cr_assert_eq(eepi_store_client_wait(client, eepi_store_put(client, key, bytes, size, 0),
                                        STORE_US, &reply),
                 EEP_OK);
    cr_assert_eq(reply.status, EEP_OK);
    eepi_store_client_close(client);
}

/* The bytes of a key; free(). */
static void *get(const world *w, const char *key, size_t *size_out)
{
    eepi_store_client *client = NULL;
    eepi_store_reply reply;
    void *copy;
    cr_assert_eq(eepi_store_client_open(w->path, STORE_US, &client), EEP_OK);
    cr_assert_eq(eepi_store_client_wait(client, eepi_store_get(client, key), STORE_US, &reply),
                 EEP_OK);
    cr_assert_eq(reply.status, EEP_OK);
    copy = malloc(reply.size);
    memcpy(copy, reply.value, reply.size);
    *size_out = reply.size;
    eepi_store_client_close(client);
    return copy;
}

static void expect_word(const char *text, const char *word)
{
    cr_expect(strstr(text, word), "'%s' does not say '%s'", text, word);
}

/* The instance is of the next release, of this one's predecessor, and of one that had no version.
 */
Test(versions, a_rank_does_not_open_in_an_instance_of_another_release)
{
    static const int32_t others[] = {EEPI_PROTOCOL_VERSION + 1, EEPI_PROTOCOL_VERSION - 1, 2};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        eepi_instance instance;
        char word[80];
        world w;
        world_open(&w, 2, 2);
        instance = eepi_instance_of(&w.config);
        instance.numbers[0] = others[i];
        put(&w, EEPI_KEY_INSTANCE, &instance, sizeof instance);
        cr_expect_eq(rank_open(&w, 0), EEP_ERR_INVALID);
        snprintf(word, sizeof word, "protocol is %d here and %d in the instance",
                 EEPI_PROTOCOL_VERSION, others[i]);
        expect_word(w.ranks[0].error, word);
        expect_word(w.ranks[0].error, "one release");
        world_close(&w);
    }
}

/* What a rank of another release would write meanwhile is no member, and costs no step. */
Test(versions, records_of_another_release_change_nothing)
{
    size_t size = 0;
    uint32_t version;
    unsigned char *record;
    world w;
    world_open(&w, 2, 3);
    world_start(&w);
    world_set_modes(&w, 0, 1, RANK_WORK);
    world_advance(&w, 0, 1, FEW);
    record = get(&w, EEPI_KEY_MEMBER "1", &size);
    memcpy(&version, record + VERSION_AT, sizeof version);
    version++;
    memcpy(record + VERSION_AT, &version, sizeof version);
    put(&w, EEPI_KEY_MEMBER "2", record, size);
    free(record);
    record = get(&w, EEPI_KEY_VIEW, &size);
    memcpy(&version, record + VERSION_AT, sizeof version);
    version++;
    memcpy(record + VERSION_AT, &version, sizeof version);
    put(&w, EEPI_KEY_PLAN, record, size);
    free(record);
    world_advance(&w, 0, 1, FEW);
    world_check_never_aborted(&w, 0, 1);
    cr_expect_eq(rank_sees(&w.ranks[0], 2, NULL).state, EEP_SEAT_VACANT);
    world_close(&w);
}

/* ---------------------------------------------------------------- the store's messages */

static int connect_to(int type, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    strcpy(address.sun_path, path);
    cr_assert_eq(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static size_t get_frame(unsigned char frame[EEPI_STORE_HEAD_MAX], int version)
{
    const eepi_store_message message = {.type = EEPI_STORE_MSG_GET, .id = 1, .key = "a"};
    const size_t bytes = eepi_store_wire_encode(&message, frame);
    frame[VERSION_AT] = (unsigned char)version;
    return bytes;
}

Test(versions, a_client_of_another_release_is_told_so_by_the_store)
{
    world w;
    world_open(&w, 1, 1);
    for (int version = 0; version < 4; version += EEPI_STORE_VERSION + 1) {
        unsigned char frame[EEPI_STORE_HEAD_MAX];
        _Alignas(8) unsigned char answer[EEPI_STORE_HEAD_MAX];
        eepi_store_message message;
        const size_t bytes = get_frame(frame, version);
        int fd = connect_to(SOCK_STREAM, w.path);
        ssize_t got;
        cr_assert_eq(send(fd, frame, bytes, 0), (ssize_t)bytes);
        got = recv(fd, answer, sizeof answer, MSG_WAITALL); /* until it hangs up */
        cr_assert_gt(got, 0);
        cr_assert_eq(eepi_store_wire_decode(answer, (size_t)got, &message), EEP_OK);
        cr_expect(message.type == EEPI_STORE_MSG_REPLY && message.id == 0 &&
                  message.status == EEP_ERR_UNSUPPORTED);
        cr_expect_eq(answer[VERSION_AT], EEPI_STORE_VERSION);
        close(fd);
    }
    world_close(&w);
}

/* A store of the next release: whatever it answers, its version is where it is in all. */
Test(versions, a_store_of_another_release_is_refused_by_its_clients)
{
    char address[64];
    unsigned char frame[EEPI_STORE_HEAD_MAX];
    const unsigned port = test_free_port();
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons((uint16_t)port)};
    eepi_store_client *client = NULL;
    struct pollfd set = {.events = POLLIN};
    eepi_store_reply reply;
    size_t bytes;
    int server;
    set.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert(bind(set.fd, (struct sockaddr *)&at, sizeof at) == 0 && listen(set.fd, 8) == 0);
    snprintf(address, sizeof address, "tcp://127.0.0.1:%u", port);
    cr_assert_eq(eepi_store_client_open(address, STORE_US, &client), EEP_OK);
    cr_assert_eq(poll(&set, 1, STORE_US / 1000), 1);
    server = accept(set.fd, NULL, NULL);
    bytes = get_frame(frame, EEPI_STORE_VERSION + 1);
    cr_assert_eq(send(server, frame, bytes, 0), (ssize_t)bytes);
    cr_assert_eq(eepi_store_client_wait(client, eepi_store_get(client, "a"), STORE_US, &reply),
                 EEP_OK);
    cr_expect_eq(reply.status, EEP_ERR_UNREACHABLE);
    expect_word(eepi_store_client_why(client), "another version of the store's messages");
    eepi_store_client_close(client);
    close(server);
    close(set.fd);
}

/* ---------------------------------------------------------------- the holder's */

Test(versions, a_client_of_another_release_is_told_so_by_the_holder)
{
    char path[128];
    eepi_holder_message hello = {.magic = EEPI_HOLDER_MAGIC,
                                 .version = EEPI_HOLDER_VERSION + 1,
                                 .kind = EEPI_HOLDER_HELLO,
                                 .id = 1};
    eepi_holder_message answer = {0};
    world w;
    int fd;
    world_open(&w, 1, 1);
    snprintf(path, sizeof path, "%s.holder", w.path);
    fd = connect_to(SOCK_SEQPACKET, path);
    cr_assert_eq(send(fd, &hello, sizeof hello, 0), (ssize_t)sizeof hello);
    cr_assert_eq(recv(fd, &answer, sizeof answer, 0), (ssize_t)sizeof answer);
    cr_expect_eq(answer.status, EEP_ERR_UNSUPPORTED, "%s", eep_strerror(answer.status));
    cr_expect_eq(answer.version, EEPI_HOLDER_VERSION);
    close(fd);
    world_close(&w);
}
