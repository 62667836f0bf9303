/* SPDX-License-Identifier: Apache-2.0 */
/* The store over TCP with a key, under attack: who has not proved the key, says something twice,
 * out of order or too much, or merely holds connections, changes nothing, is counted, and costs the
 * others nothing. */
#include "tests/lib/store/store_port.h"
#include "tests/lib/store_fixture.h"

#include "membership/store/store_conn.h"
#include "transport/secure/secure_socket.h"
#include "transport/secure/tcp_socket.h"

#include <fcntl.h>
#include <sys/resource.h>

static char key_file[100], address[300];
static uint16_t port;
static eep_store *store;
static eepi_store_client *member; /* whoever is served before and after */

static void set_up(void)
{
    char error[256] = "";
    make_directory();
    write_key(key_file, sizeof key_file);
    port = (uint16_t)test_free_port();
    snprintf(address, sizeof address, "tcp://127.0.0.1:%u?local=%s&instance=job&key-file=%s",
             (unsigned)port, path, key_file);
    cr_assert_eq(eep_store_open(address, error, sizeof error, &store), EEP_OK, "%s", error);
    cr_assert_eq(eepi_store_client_open(address, BOUND_US, &member), EEP_OK);
    put(member, "key", "value");
}

static void tear_down(void)
{
    eepi_store_client_close(member);
    eep_store_close(store);
    unlink(key_file);
    remove_directory();
}

TestSuite(store_secure, .init = set_up, .fini = tear_down, .timeout = 60);

/* Nothing was changed by anybody else, and the member is served. */
static void expect_untouched(uint64_t revision)
{
    const eepi_store_reply reply = wait_for(member, eepi_store_get(member, "key"));
    cr_expect(reply.status == EEP_OK && reply.revision == revision);
    cr_expect_str_eq(reply.value, "value");
}

static uint64_t revision_now(void)
{
    return wait_for(member, eepi_store_get(member, "key")).revision;
}

static uint64_t count(eepi_secure_fault fault)
{
    return eepi_store_counts(store).of[fault];
}

/* By the store's thread, within BOUND_US. */
static void expect_count(eepi_secure_fault fault, uint64_t least)
{
    const uint64_t end_us = eepi_now_us() + BOUND_US;
    while (count(fault) < least) {
        const struct timespec nap = {.tv_nsec = 1000 * 1000};
        cr_assert_lt(eepi_now_us(), end_us, "fault %d was not counted", fault);
        nanosleep(&nap, NULL);
    }
}

static int raw_connect(void)
{
    int fd = -1;
    cr_assert_eq(eepi_tcp_connect("127.0.0.1", port, 10000, &fd), EEP_OK);
    cr_assert_eq(fcntl(fd, F_SETFL, 0), 0); /* these ends may wait */
    return fd;
}

static void expect_hang_up(int fd)
{
    struct pollfd set = {.fd = fd, .events = POLLIN};
    char bytes[512];
    ssize_t got = 1;
    while (got > 0) {
        cr_assert_eq(poll(&set, 1, BOUND_US / 1000), 1);
        got = recv(fd, bytes, sizeof bytes, 0);
    }
    close(fd);
}

/* What a client would say, as bytes: its channel is a test's. */
static eepi_secure_channel begin_client(int fd)
{
    eepi_secure_config config;
    eepi_secure_channel channel;
    eepi_store_url url;
    cr_assert_eq(eepi_store_url_parse(address, &url, NULL, 0), EEP_OK);
    cr_assert_eq(eepi_store_secure_config(&url, false, &config, NULL, 0), EEP_OK);
    cr_assert_eq(eepi_secure_start(&channel, &config), EEP_OK);
    if (fd >= 0) {
        cr_assert_eq(eepi_secure_open(&channel, fd, BOUND_US), EEP_OK);
    }
    return channel;
}

/* The message that writes another value into the key. */
static size_t overwrite(eepi_secure_channel *channel, unsigned char *bytes_out, size_t bytes)
{
    const eepi_store_message message = {
        .type = EEPI_STORE_MSG_PUT, .id = 1, .key = "key", .value = "stolen!!", .value_size = 8};
    unsigned char frame[EEPI_STORE_HEAD_MAX + 8];
    const size_t head = eepi_store_wire_encode(&message, frame);
    const struct iovec part = {frame, head + 8};
    const void *unsent;
    size_t size = 0;
    memcpy(frame + head, "stolen!!", 8);
    if (!channel) { /* as if no key were needed */
        memcpy(bytes_out, frame, part.iov_len);
        return part.iov_len;
    }
    cr_assert_eq(eepi_secure_put(channel, &part, 1), EEP_OK);
    unsent = eepi_secure_unsent(channel, &size);
    cr_assert_leq(size, bytes);
    memcpy(bytes_out, unsent, size);
    eepi_secure_sent(channel, size);
    return size;
}

static void say(int fd, const void *bytes, size_t size)
{
    cr_assert_eq(send(fd, bytes, size, MSG_NOSIGNAL), (ssize_t)size);
}

/* ---------------------------------------------------------------- without the key */

Test(store_secure, what_needs_no_key_elsewhere_is_refused_here)
{
    const uint64_t revision = revision_now();
    unsigned char bytes[512];
    static const char *const strange[] = {"GET / HTTP/1.1\r\n\r\n",
                                          "\x16\x03\x01\x02\x05\x01\x01\xfc", "SSH-2.0-x\r\n"};
    const size_t size = overwrite(NULL, bytes, sizeof bytes);
    int fd = raw_connect();
    say(fd, bytes, size);
    expect_hang_up(fd);
    for (size_t i = 0; i < sizeof strange / sizeof *strange; i++) {
        fd = raw_connect();
        say(fd, strange[i], strlen(strange[i]));
        expect_hang_up(fd);
    }
    expect_count(EEPI_SECURE_GARBAGE, 4);
    expect_untouched(revision);
}

/* A store that stays unreachable is asked for a short time, and again until the word is there. */
static void expect_refusal(const char *with, eep_status expected, const char *word)
{
    const uint64_t end_us = eepi_now_us() + BOUND_US;
    char text[300] = "";
    while (!strstr(text, word) && eepi_now_us() < end_us) {
        const uint64_t wait_us = expected == EEP_ERR_UNREACHABLE ? 20 * 1000 : BOUND_US;
        eepi_store_client *client = NULL;
        const eep_status status = eepi_store_client_open(with, wait_us, &client);
        cr_assert_eq(status, expected, "%s", eep_strerror(status));
        (void)eepi_store_socket_why(with, status, text, sizeof text);
    }
    cr_expect(strstr(text, word), "'%s' does not say '%s'", text, word);
}

Test(store_secure, clients_are_told_what_they_lack)
{
    char with[400], other_key[120];
    eepi_store_client *client = NULL;
    FILE *file;
    const uint64_t revision = revision_now();
    snprintf(other_key, sizeof other_key, "%s/other", directory);
    file = fopen(other_key, "w");
    cr_assert(file && fputs("000102030405060708090a0b0c0d0eff", file) >= 0 && fclose(file) == 0);
    snprintf(with, sizeof with, "tcp://127.0.0.1:%u?instance=job&key-file=%s", (unsigned)port,
             other_key);
    expect_refusal(with, EEP_ERR_STATE, "another key");
    snprintf(with, sizeof with, "tcp://127.0.0.1:%u?instance=another&key-file=%s", (unsigned)port,
             key_file);
    expect_refusal(with, EEP_ERR_STATE, "instance 'job', and this process of 'another'");
    snprintf(with, sizeof with, "tcp://127.0.0.1:%u?instance=job&key-file=%s/none", (unsigned)port,
             directory);
    expect_refusal(with, EEP_ERR_SYSTEM, "No such file");
    unlink(other_key);
    /* Without a key the connection stands, as with any server; the first answer is the refusal. */
    snprintf(with, sizeof with, "tcp://127.0.0.1:%u", (unsigned)port);
    cr_assert_eq(eepi_store_client_open(with, BOUND_US, &client), EEP_OK);
    cr_expect_eq(wait_for(client, eepi_store_get(client, "key")).status, EEP_ERR_UNREACHABLE);
    for (uint64_t end_us = eepi_now_us() + BOUND_US; *eepi_store_client_why(client) == '\0';) {
        eepi_store_reply reply;
        (void)!eepi_store_client_next(client, &reply);
        (void)eepi_store_get(client, "key");
        cr_assert_lt(eepi_now_us(), end_us);
    }
    cr_expect(strstr(eepi_store_client_why(client), "key-file=PATH"), "%s",
              eepi_store_client_why(client));
    eepi_store_client_close(client);
    expect_untouched(revision);
}

/* A store without a key, and one that is not there, are another thing than a wrong key. */
Test(store_secure, a_store_without_a_key_is_not_believed)
{
    char plain[300], with[400], error[256] = "";
    const unsigned other = test_free_port();
    eep_store *keyless = NULL;
    snprintf(plain, sizeof plain, "tcp://127.0.0.1:%u?local=%s2", other, path);
    snprintf(with, sizeof with, "tcp://127.0.0.1:%u?key-file=%s", other, key_file);
    expect_refusal(with, EEP_ERR_UNREACHABLE, "refused");
    cr_assert_eq(eep_store_open(plain, error, sizeof error, &keyless), EEP_OK, "%s", error);
    expect_refusal(with, EEP_ERR_UNREACHABLE, "has proved no key");
    eep_store_close(keyless);
}

Test(store_secure, an_address_that_others_reach_needs_a_key)
{
    char with[300], error[256] = "";
    eep_store *none = NULL;
    snprintf(with, sizeof with, "tcp://192.0.2.7:%u?local=%s2", (unsigned)port, path);
    cr_expect_eq(eep_store_open(with, error, sizeof error, &none), EEP_ERR_INVALID);
    cr_expect(strstr(error, "192.0.2.7") && strstr(error, "without a key"), "%s", error);
    snprintf(with, sizeof with, "tcp://127.0.0.2:%u?local=%s2&key-file=%s/none", (unsigned)port,
             path, directory);
    cr_expect_eq(eep_store_open(with, error, sizeof error, &none), EEP_ERR_SYSTEM);
    cr_expect(strstr(error, "No such file"), "%s", error);
    cr_assert_eq(chmod(key_file, 0644), 0);
    snprintf(with, sizeof with, "tcp://127.0.0.2:%u?local=%s2&key-file=%s", (unsigned)port, path,
             key_file);
    cr_expect_eq(eep_store_open(with, error, sizeof error, &none), EEP_ERR_INVALID);
    cr_expect(strstr(error, "mode 0600"), "%s", error);
}

/* ---------------------------------------------------------------- what was heard, said again */

/* All that a member has ever said, word for word, on a new connection: that of an old generation
 * too. */
Test(store_secure, a_recorded_conversation_changes_nothing)
{
    const uint64_t revision = revision_now();
    unsigned char said[3][512], answer[EEPI_SECURE_HELLO_BYTES];
    size_t size[3], bytes;
    eepi_secure_channel channel = begin_client(-1);
    const void *unsent = eepi_secure_unsent(&channel, &size[0]), *payload;
    int fd = raw_connect();
    void *to;
    memcpy(said[0], unsent, size[0]); /* HELLO */
    eepi_secure_sent(&channel, size[0]);
    say(fd, said[0], size[0]);
    cr_assert_eq(recv(fd, answer, sizeof answer, MSG_WAITALL), sizeof answer);
    to = eepi_secure_space(&channel, &bytes);
    memcpy(to, answer, sizeof answer);
    eepi_secure_filled(&channel, sizeof answer);
    cr_assert_eq(eepi_secure_next(&channel, &payload, &bytes), EEP_ERR_TIMEOUT);
    unsent = eepi_secure_unsent(&channel, &size[1]); /* PROOF */
    memcpy(said[1], unsent, size[1]);
    eepi_secure_sent(&channel, size[1]);
    size[2] = overwrite(&channel, said[2], sizeof said[2]); /* not sent: it would be obeyed */
    close(fd);
    eepi_secure_end(&channel);

    fd = raw_connect();
    for (int i = 0; i < 3; i++) {
        say(fd, said[i], size[i]);
    }
    expect_hang_up(fd);
    expect_count(EEPI_SECURE_OTHER_KEY, 1); /* the proof is of another nonce */
    expect_untouched(revision);
}

typedef struct attack {
    eepi_secure_fault fault;
    int first, second; /* which of two messages is sent in which place */
    int at, flip;      /* the byte of the second that is changed, and its bits */
} attack;

/* By somebody between a member and the store, on a connection that is open. */
Test(store_secure, messages_that_were_tampered_with_change_nothing)
{
    static const attack attacks[] = {
        {EEPI_SECURE_REORDERED, 1, 0, 0, 0},  {EEPI_SECURE_FORGED, -1, 0, 70, 1},
        {EEPI_SECURE_OVERSIZED, -1, 0, 2, 8}, {EEPI_SECURE_OVERSIZED, -1, 0, 3, 0x80},
        {EEPI_SECURE_FORGED, -1, 0, 1, 1},    {EEPI_SECURE_REORDERED, -1, 0, 15, 1},
    };
    const uint64_t revision = revision_now();
    for (size_t i = 0; i < sizeof attacks / sizeof *attacks; i++) {
        unsigned char message[2][512];
        size_t size[2];
        const uint64_t before = count(attacks[i].fault);
        int fd = raw_connect();
        eepi_secure_channel channel = begin_client(fd);
        size[0] = overwrite(&channel, message[0], sizeof message[0]);
        size[1] = overwrite(&channel, message[1], sizeof message[1]);
        if (attacks[i].first >= 0) {
            say(fd, message[attacks[i].first], size[attacks[i].first]);
        }
        message[attacks[i].second][attacks[i].at] ^= (unsigned char)attacks[i].flip;
        say(fd, message[attacks[i].second], size[attacks[i].second]);
        shutdown(fd, SHUT_WR);
        expect_hang_up(fd);
        if (attacks[i].at != 1) { /* a longer message that never comes is no message */
            expect_count(attacks[i].fault, before + 1);
        }
        eepi_secure_end(&channel);
    }
    expect_untouched(revision);
}

/* The second time it is not obeyed: the value is that of a member which wrote meanwhile. */
Test(store_secure, a_replayed_message_is_not_obeyed_again)
{
    unsigned char message[512];
    int fd = raw_connect();
    eepi_secure_channel channel = begin_client(fd);
    const size_t size = overwrite(&channel, message, sizeof message);
    uint64_t revision;
    say(fd, message, size);
    while (wait_for(member, eepi_store_get(member, "key")).size != 8) {
    }
    revision = put(member, "key", "value");
    say(fd, message, size);
    expect_hang_up(fd);
    expect_count(EEPI_SECURE_REPLAYED, 1);
    expect_untouched(revision);
    eepi_secure_end(&channel);
}

/* ---------------------------------------------------------------- who merely holds connections */

Test(store_secure, connections_without_a_proof_are_few_and_short)
{
    enum { HELD = 150 };
    static int held[HELD];
    const uint64_t revision = revision_now();
    eepi_store_client *late = NULL;
    /* short only when all are there: what is late already is not crowded out */
    __atomic_store_n(&store->waiting.bound_us, BOUND_US, __ATOMIC_RELAXED);
    for (int i = 0; i < HELD; i++) {
        held[i] = raw_connect();
        if (i % 2) {
            say(held[i], "EEPC\1\0\0\0" /* a hello that never ends */, 8);
        }
    }
    expect_count(EEPI_SECURE_CROWDED, HELD - EEPI_SECURE_BEFORE_MAX);
    cr_assert_eq(eepi_store_client_open(address, BOUND_US, &late), EEP_OK, "a member comes in");
    cr_assert_eq(wait_for(late, eepi_store_get(late, "key")).status, EEP_OK);
    __atomic_store_n(&store->waiting.bound_us, 100 * 1000, __ATOMIC_RELAXED);
    expect_untouched(revision); /* it wakes the store's thread */
    expect_count(EEPI_SECURE_UNPROVEN, EEPI_SECURE_BEFORE_MAX - 1);
    for (int i = 0; i < HELD; i++) {
        expect_hang_up(held[i]);
    }
    put(late, "key", "value");
    eepi_store_client_close(late);
}

/* The member is a guest: it has neither a lease nor a watch. The stranger has the last descriptor.
 */
Test(store_secure, a_stranger_takes_no_place_where_descriptors_have_run_out)
{
    const uint64_t revision = revision_now();
    struct rlimit limit, least;
    int ours = dup(0);
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    least = limit;
    least.rlim_cur = (rlim_t)ours + 1;
    close(ours);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &least), 0);
    const int stranger = raw_connect();
    expect_hang_up(stranger);
    cr_expect_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    expect_untouched(revision);
}
