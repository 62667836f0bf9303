/* SPDX-License-Identifier: Apache-2.0 */
/* Channels between two ends that a test holds: who is let in, and that nothing but what the other
 * end has said, in its order and once, is ever taken. */
#include "tests/lib/secure_fixture.h"

#include "transport/secure/secure_waiting.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct two {
    eepi_secure_channel client, server;
} two;

static two open_two(void)
{
    const eepi_secure_config as_client = secure_config(false), as_server = secure_config(true);
    two t = {.client = secure_begin(&as_client, 1), .server = secure_begin(&as_server, 2)};
    secure_meet(&t.client, &t.server);
    cr_assert(eepi_secure_is_open(&t.client) && eepi_secure_is_open(&t.server));
    return t;
}

static void close_two(two *t)
{
    eepi_secure_end(&t->client);
    eepi_secure_end(&t->server);
}

static void say(eepi_secure_channel *from, const char *text)
{
    const struct iovec part = {(void *)(uintptr_t)text, strlen(text)};
    cr_assert_eq(eepi_secure_put(from, &part, 1), EEP_OK);
}

/* What it has to say, and the bytes of each of `num` messages, taken out of it. */
static unsigned char *record(eepi_secure_channel *from, size_t *bytes_out)
{
    const void *unsent = eepi_secure_unsent(from, bytes_out);
    unsigned char *copy = malloc(*bytes_out);
    memcpy(copy, unsent, *bytes_out);
    eepi_secure_sent(from, *bytes_out);
    return copy;
}

static void expect_text(eepi_secure_channel *to, const unsigned char *bytes, size_t size,
                        const char *text)
{
    const void *payload = NULL;
    size_t space, payload_bytes = 0;
    void *at = eepi_secure_space(to, &space);
    cr_assert(space >= size);
    memcpy(at, bytes, size);
    eepi_secure_filled(to, size);
    cr_assert_eq(eepi_secure_next(to, &payload, &payload_bytes), EEP_OK);
    cr_assert(payload_bytes == strlen(text) && memcmp(payload, text, payload_bytes) == 0);
    cr_assert_eq(eepi_secure_next(to, &payload, &payload_bytes), EEP_ERR_TIMEOUT);
}

Test(secure_channel, both_ends_know_each_other_and_talk)
{
    two t = open_two();
    unsigned char *bytes;
    size_t size;
    cr_expect_str_eq(t.server.peer.identity.role, "client");
    cr_expect_str_eq(t.client.peer.identity.role, "server");
    cr_expect(t.client.version == 2 && t.server.version == 2);
    for (int i = 0; i < 3; i++) {
        say(&t.client, "a question");
        bytes = record(&t.client, &size);
        cr_expect_eq(size, 16 + 16 + 16); /* head, the text and its padding, code */
        expect_text(&t.server, bytes, size, "a question");
        free(bytes);
        say(&t.server, "");
        bytes = record(&t.server, &size);
        cr_expect_eq(size, 32);
        expect_text(&t.client, bytes, size, "");
        free(bytes);
    }
    close_two(&t);
}

/* Messages of all sizes, in pieces of all sizes, made by put and by seal. */
Test(secure_channel, messages_of_all_sizes_arrive)
{
    static unsigned char sent[SECURE_MESSAGE_MAX];
    two t = open_two();
    srand(5);
    for (size_t i = 0; i < sizeof sent; i++) {
        sent[i] = (unsigned char)rand();
    }
    for (int round = 0; round < 300; round++) {
        const size_t size = (size_t)rand() % (round % 10 == 0 ? sizeof sent + 1 : 300);
        const size_t first = size > 0 ? (size_t)rand() % size : 0;
        const struct iovec parts[2] = {{sent, first}, {sent + first, size - first}};
        unsigned char head[EEPI_SECURE_HEAD_BYTES], tail[EEPI_SECURE_TAIL_MAX], *all;
        size_t tail_bytes, total, at = 0, got_bytes = 0;
        const void *got = NULL;
        if (round % 2) {
            cr_assert_eq(eepi_secure_put(&t.client, parts, 2), EEP_OK);
            cr_assert_eq(eepi_secure_seal(&t.client, parts, 2, head, tail, &tail_bytes),
                         EEP_ERR_CONFLICT);
            all = record(&t.client, &total);
        } else {
            cr_assert_eq(eepi_secure_seal(&t.client, parts, 2, head, tail, &tail_bytes), EEP_OK);
            total = sizeof head + size + tail_bytes;
            all = malloc(total);
            memcpy(all, head, sizeof head);
            memcpy(all + sizeof head, sent, size);
            memcpy(all + sizeof head + size, tail, tail_bytes);
        }
        while (at < total) {
            size_t space;
            void *to;
            cr_assert_eq(eepi_secure_next(&t.server, &got, &got_bytes), EEP_ERR_TIMEOUT);
            to = eepi_secure_space(&t.server, &space);
            space = space < total - at ? space : total - at;
            space = space > 1 ? 1 + (size_t)rand() % space : space;
            memcpy(to, all + at, space);
            eepi_secure_filled(&t.server, space);
            at += space;
        }
        cr_assert_eq(eepi_secure_next(&t.server, &got, &got_bytes), EEP_OK);
        cr_assert(got_bytes == size && memcmp(got, sent, size) == 0);
        free(all);
    }
    close_two(&t);
}

/* ---------------------------------------------------------------- who is let in */

static void expect_refusal(const eepi_secure_config *as_client, const eepi_secure_config *as_server,
                           eepi_secure_fault client_fault, eepi_secure_fault server_fault,
                           const char *word)
{
    char why[EEPI_SECURE_WHY_BYTES];
    eepi_secure_channel client = secure_begin(as_client, 1), server = secure_begin(as_server, 2);
    const struct iovec none = {NULL, 0};
    secure_meet(&client, &server);
    cr_expect_eq(client.fault, client_fault, "%s", word);
    cr_expect_eq(server.fault, server_fault, "%s", word);
    cr_expect(!eepi_secure_is_open(&client) && !eepi_secure_is_open(&server));
    cr_expect_eq(eepi_secure_put(&client, &none, 1), EEP_ERR_STATE);
    cr_expect(strstr(eepi_secure_why(&client, why, sizeof why), word), "'%s' has no '%s'", why,
              word);
    eepi_secure_end(&client);
    eepi_secure_end(&server);
}

Test(secure_channel, another_key_is_refused)
{
    eepi_secure_config as_client = secure_config(false), as_server = secure_config(true);
    as_client.key.bytes[31] ^= 1;
    expect_refusal(&as_client, &as_server, EEPI_SECURE_OTHER_KEY, EEPI_SECURE_FINE, "another key");
}

Test(secure_channel, another_instance_or_service_is_refused_by_name)
{
    eepi_secure_config as_client = secure_config(false), as_server = secure_config(true);
    strcpy(as_client.own.instance, "job 2");
    expect_refusal(&as_client, &as_server, EEPI_SECURE_OTHER_INSTANCE, EEPI_SECURE_OTHER_INSTANCE,
                   "instance 'job', and this process of 'job 2'");
    as_client = secure_config(false);
    strcpy(as_client.own.service, "rows");
    expect_refusal(&as_client, &as_server, EEPI_SECURE_OTHER_SERVICE, EEPI_SECURE_OTHER_SERVICE,
                   "it is 'test'");
}

Test(secure_channel, versions_meet_or_are_refused_by_name)
{
    eepi_secure_config as_client = secure_config(false), as_server = secure_config(true);
    eepi_secure_channel client, server;
    as_client.own.newest = 3;
    as_client.own.oldest = 2;
    client = secure_begin(&as_client, 1);
    server = secure_begin(&as_server, 2);
    secure_meet(&client, &server);
    cr_expect(client.version == 2 && server.version == 2);
    eepi_secure_end(&client);
    eepi_secure_end(&server);
    as_client.own.oldest = 3;
    expect_refusal(&as_client, &as_server, EEPI_SECURE_OTHER_VERSION, EEPI_SECURE_OTHER_VERSION,
                   "versions 1 to 2 of 'test', this process 3 to 3");
}

/* A build to come, whose channel this one does not speak: its hello has the layout of today's. */
Test(secure_channel, a_channel_of_another_version_is_refused_by_name)
{
    const eepi_secure_config as_server = secure_config(true);
    eepi_secure_channel server = secure_begin(&as_server, 2);
    const eepi_secure_hello later = {.identity = as_server.own,
                                     .wanted_seat = -1,
                                     .newest = EEPI_SECURE_VERSION + 2,
                                     .oldest = EEPI_SECURE_VERSION + 1};
    unsigned char hello[EEPI_SECURE_HELLO_BYTES];
    char why[EEPI_SECURE_WHY_BYTES];
    size_t bytes;
    eepi_secure_hello_encode(EEPI_SECURE_HELLO, &later, hello);
    cr_expect_eq(secure_feed(&server, hello, sizeof hello), EEP_ERR_PROTOCOL);
    cr_expect_eq(server.fault, EEPI_SECURE_OTHER_VERSION);
    cr_expect(strstr(eepi_secure_why(&server, why, sizeof why), "versions 2 to 3 of the channel"));
    (void)eepi_secure_unsent(&server, &bytes);
    cr_expect_eq(bytes, EEPI_SECURE_HELLO_BYTES, "the answer says which versions it speaks");
    eepi_secure_end(&server);
}

/* A process that was stopped may still hold the address of a predecessor (rule N2). */
Test(secure_channel, who_wants_another_generation_is_refused)
{
    eepi_secure_config as_client = secure_config(false), as_server = secure_config(true);
    as_server.own.seat = 3;
    as_server.own.generation = 5;
    as_client.wanted_seat = 3;
    as_client.wanted_generation = 4;
    expect_refusal(&as_client, &as_server, EEPI_SECURE_OTHER_PEER, EEPI_SECURE_OTHER_PEER,
                   "seat 3, generation 5, and seat 3, 4 was wanted");
    as_client.wanted_generation = 5;
    as_client.wanted_seat = 2;
    expect_refusal(&as_client, &as_server, EEPI_SECURE_OTHER_PEER, EEPI_SECURE_OTHER_PEER,
                   "seat 2, 5 was wanted");
}

/* All that a client has ever sent, said again to the same server: the nonce is another one. */
Test(secure_channel, a_recorded_conversation_opens_nothing)
{
    const eepi_secure_config as_client = secure_config(false), as_server = secure_config(true);
    eepi_secure_channel client = secure_begin(&as_client, 1), server = secure_begin(&as_server, 2);
    eepi_secure_channel again = secure_begin(&as_server, 3);
    size_t hello_bytes, proof_bytes;
    unsigned char *hello = record(&client, &hello_bytes), *proof;
    cr_assert_eq(secure_feed(&server, hello, hello_bytes), EEP_ERR_TIMEOUT);
    (void)!secure_carry(&server, &client);
    say(&client, "a question");
    proof = record(&client, &proof_bytes);
    cr_assert_eq(secure_feed(&server, proof, proof_bytes), EEP_ERR_TIMEOUT);
    cr_expect_eq(server.receive_sequence, 1);
    cr_expect_eq(secure_feed(&again, hello, hello_bytes), EEP_ERR_TIMEOUT);
    cr_expect_eq(secure_feed(&again, proof, proof_bytes), EEP_ERR_PROTOCOL);
    cr_expect_eq(again.fault, EEPI_SECURE_OTHER_KEY);
    cr_expect_eq(again.receive_sequence, 0);
    free(hello);
    free(proof);
    eepi_secure_end(&client);
    eepi_secure_end(&server);
    eepi_secure_end(&again);
}

/* A server's own words, sent back to it or to a client, prove nothing. */
Test(secure_channel, what_is_reflected_proves_nothing)
{
    const eepi_secure_config as_client = secure_config(false), as_server = secure_config(true);
    eepi_secure_channel client = secure_begin(&as_client, 1);
    size_t bytes;
    unsigned char *hello = record(&client, &bytes);
    cr_expect_eq(secure_feed(&client, hello, bytes), EEP_ERR_PROTOCOL);
    cr_expect_eq(client.fault, EEPI_SECURE_GARBAGE);
    free(hello);
    eepi_secure_end(&client);
    for (int as_proof = 0; as_proof < 2; as_proof++) {
        eepi_secure_channel server = secure_begin(&as_server, 2);
        unsigned char *answer, proof[EEPI_SECURE_PROOF_BYTES] = {0};
        client = secure_begin(&as_client, 1);
        (void)!secure_carry(&client, &server);
        answer = record(&server, &bytes);
        memcpy(proof, answer, 4);
        proof[4] = EEPI_SECURE_PROOF;
        memcpy(proof + 8, answer + 224, 32);
        cr_expect_eq(secure_feed(&server, as_proof ? proof : answer, sizeof proof),
                     EEP_ERR_PROTOCOL);
        cr_expect_eq(server.fault, as_proof ? EEPI_SECURE_OTHER_KEY : EEPI_SECURE_GARBAGE);
        free(answer);
        eepi_secure_end(&client);
        eepi_secure_end(&server);
    }
}

/* Each bit of the hellos counts. */
Test(secure_channel, hellos_that_were_changed_on_their_way_open_nothing)
{
    const eepi_secure_config as_client = secure_config(false), as_server = secure_config(true);
    for (size_t bit = 0; bit < 8 * EEPI_SECURE_HELLO_BYTES; bit += 7) {
        for (int way = 0; way < 2; way++) {
            eepi_secure_channel client = secure_begin(&as_client, 1);
            eepi_secure_channel server = secure_begin(&as_server, 2);
            eepi_secure_channel *from = way ? &server : &client, *to = way ? &client : &server;
            unsigned char *hello;
            size_t bytes;
            if (way) {
                (void)!secure_carry(&client, &server);
            }
            hello = record(from, &bytes);
            hello[bit / 8] ^= (unsigned char)(1 << bit % 8);
            (void)!secure_feed(to, hello, bytes);
            free(hello);
            secure_meet(&client, &server);
            cr_expect(!eepi_secure_is_open(&client) && !eepi_secure_is_open(&server),
                      "bit %zu, way %d", bit, way);
            eepi_secure_end(&client);
            eepi_secure_end(&server);
        }
    }
}

Test(secure_channel, before_the_proof_little_is_held_and_not_for_long)
{
    const eepi_secure_config as_server = secure_config(true);
    eepi_secure_channel server = secure_begin(&as_server, 2);
    size_t space = 0;
    cr_assert(eepi_secure_space(&server, &space));
    cr_expect_leq(space, EEPI_SECURE_BEFORE_BYTES);
    cr_expect_not(eepi_secure_is_late(&server, 1000 + EEPI_SECURE_BEFORE_US - 1));
    cr_expect(eepi_secure_is_late(&server, 1000 + EEPI_SECURE_BEFORE_US));
    eepi_secure_end(&server);
    server = secure_begin(&as_server, 2);
    cr_expect_eq(secure_feed(&server, "GET / H", 7), EEP_ERR_TIMEOUT);
    cr_expect_eq(secure_feed(&server, "T", 1), EEP_ERR_PROTOCOL);
    cr_expect_eq(server.fault, EEPI_SECURE_GARBAGE);
    eepi_secure_end(&server);
}

/* ---------------------------------------------------------------- attacks on an open channel */

typedef struct attack {
    const char *name;
    eepi_secure_fault fault;
    /* Change the bytes of three messages of 48 bytes each; returns how many bytes there are now. */
    size_t (*apply)(unsigned char *bytes, size_t size);
    uint64_t taken; /* messages that arrive before it shows */
} attack;

static size_t replay_one(unsigned char *bytes, size_t size)
{
    memcpy(bytes + 48, bytes, 48);
    return size;
}

static size_t leave_out(unsigned char *bytes, size_t size)
{
    memmove(bytes + 48, bytes + 96, size - 96);
    return size - 48;
}

static size_t exchange_two(unsigned char *bytes, size_t size)
{
    unsigned char first[48];
    memcpy(first, bytes, 48);
    memcpy(bytes, bytes + 48, 48);
    memcpy(bytes + 48, first, 48);
    return size;
}

static size_t renumber(unsigned char *bytes, size_t size)
{
    memcpy(bytes + 48, bytes, 48);
    bytes[48 + 8] = 1;
    return size;
}

static size_t change_payload(unsigned char *bytes, size_t size)
{
    bytes[48 + 20] ^= 1;
    return size;
}

static size_t change_padding(unsigned char *bytes, size_t size)
{
    bytes[48 + 31] = 1;
    return size;
}

static size_t change_code(unsigned char *bytes, size_t size)
{
    bytes[95] ^= 0x80;
    return size;
}

static size_t shorten(unsigned char *bytes, size_t size)
{
    bytes[48] = 9; /* the padding stays 16 in all: only the code tells */
    return size;
}

static size_t claim_much(unsigned char *bytes, size_t size)
{
    memset(bytes + 48, 0xff, 4);
    return size;
}

static size_t claim_more_than_the_cap(unsigned char *bytes, size_t size)
{
    const uint32_t more = SECURE_MESSAGE_MAX + 1;
    memcpy(bytes + 48, &more, 4);
    return size;
}

static const attack attacks[] = {
    {"replayed", EEPI_SECURE_REPLAYED, replay_one, 1},
    {"left out", EEPI_SECURE_REORDERED, leave_out, 1},
    {"exchanged", EEPI_SECURE_REORDERED, exchange_two, 0},
    {"replayed under the next number", EEPI_SECURE_FORGED, renumber, 1},
    {"payload", EEPI_SECURE_FORGED, change_payload, 1},
    {"padding", EEPI_SECURE_FORGED, change_padding, 1},
    {"code", EEPI_SECURE_FORGED, change_code, 1},
    {"shortened", EEPI_SECURE_FORGED, shorten, 1},
    {"huge", EEPI_SECURE_OVERSIZED, claim_much, 1},
    {"above the cap", EEPI_SECURE_OVERSIZED, claim_more_than_the_cap, 1},
};

Test(secure_channel, attacks_end_the_channel_and_reach_nobody)
{
    for (size_t i = 0; i < sizeof attacks / sizeof *attacks; i++) {
        for (int way = 0; way < 2; way++) {
            two t = open_two();
            eepi_secure_channel *from = way ? &t.server : &t.client;
            eepi_secure_channel *to = way ? &t.client : &t.server;
            unsigned char *bytes;
            size_t size;
            say(from, "the first!");
            say(from, "the second");
            say(from, "the third!");
            bytes = record(from, &size);
            cr_assert_eq(size, 3 * 48);
            size = attacks[i].apply(bytes, size);
            cr_expect_eq(secure_feed(to, bytes, size), EEP_ERR_PROTOCOL, "%s", attacks[i].name);
            cr_expect_eq(to->fault, attacks[i].fault, "%s", attacks[i].name);
            cr_expect_eq(to->receive_sequence, attacks[i].taken, "%s", attacks[i].name);
            cr_expect_leq(to->in.capacity, 64 * 1024, "%s: memory", attacks[i].name);
            free(bytes);
            close_two(&t);
        }
    }
}

/* A message of another connection, and one that goes back to where it came from. */
Test(secure_channel, messages_of_other_channels_are_forgeries)
{
    const eepi_secure_config as_client = secure_config(false), as_server = secure_config(true);
    two t = open_two(),
        other = {.client = secure_begin(&as_client, 3), .server = secure_begin(&as_server, 4)};
    unsigned char *bytes;
    size_t size;
    secure_meet(&other.client, &other.server);
    say(&other.client, "a question");
    bytes = record(&other.client, &size);
    cr_expect_eq(secure_feed(&t.server, bytes, size), EEP_ERR_PROTOCOL);
    cr_expect_eq(t.server.fault, EEPI_SECURE_FORGED);
    free(bytes);
    say(&t.client, "a question");
    bytes = record(&t.client, &size);
    cr_expect_eq(secure_feed(&t.client, bytes, size), EEP_ERR_PROTOCOL);
    cr_expect_eq(t.client.fault, EEPI_SECURE_FORGED);
    free(bytes);
    close_two(&t);
    close_two(&other);
}

Test(secure_channel, a_peer_that_reads_nothing_holds_no_more_than_the_cap)
{
    static unsigned char much[SECURE_MESSAGE_MAX];
    two t = open_two();
    const struct iovec part = {much, sizeof much};
    eep_status status = EEP_OK;
    size_t bytes;
    for (int i = 0; i < 10 && status == EEP_OK; i++) {
        status = eepi_secure_put(&t.client, &part, 1);
    }
    cr_expect_eq(status, EEP_ERR_NO_MEMORY);
    (void)eepi_secure_unsent(&t.client, &bytes);
    cr_expect_leq(bytes, 4 * SECURE_MESSAGE_MAX);
    cr_expect_eq(secure_carry(&t.client, &t.server), EEP_ERR_TIMEOUT, "what was kept is whole");
    cr_expect_eq(t.server.receive_sequence, 3);
    close_two(&t);
}

/* RFC 8439, 2.6.2 and 2.5.2 chained as here, computed by libsodium's one-call functions. */
Test(secure_channel, the_code_is_poly1305_under_a_key_of_its_own)
{
    two t = open_two();
    unsigned char once[32], nonce[12] = {0}, right[16], *bytes;
    size_t size;
    say(&t.client, "first");
    say(&t.client, "second");
    bytes = record(&t.client, &size);
    nonce[4] = 1; /* the second message */
    crypto_stream_chacha20_ietf(once, sizeof once, nonce, t.client.send_key.bytes);
    crypto_onetimeauth_poly1305(right, bytes + 48, 32, once);
    cr_expect_arr_eq(bytes + 48 + 32, right, sizeof right);
    free(bytes);
    close_two(&t);
}

/* ---------------------------------------------------------------- who waits for the proof */

Test(secure_channel, a_flood_from_one_address_crowds_out_itself)
{
    static eepi_secure_waiting waiting;
    static char owner[3 * EEPI_SECURE_BEFORE_MAX];
    uint64_t next_us;
    int num = 0;
    cr_expect_null(eepi_secure_waiting_add(&waiting, &owner[0], 7, 100));
    for (num = 1; num < EEPI_SECURE_BEFORE_MAX; num++) {
        cr_expect_null(eepi_secure_waiting_add(&waiting, &owner[num], 8, 200));
    }
    for (; num < 3 * EEPI_SECURE_BEFORE_MAX; num++) {
        cr_expect_eq(eepi_secure_waiting_add(&waiting, &owner[num], 8, 300),
                     &owner[num - EEPI_SECURE_BEFORE_MAX + 1]);
    }
    cr_expect_null(eepi_secure_waiting_expire(&waiting, EEPI_SECURE_BEFORE_US, &next_us));
    cr_expect_eq(next_us, 100 + EEPI_SECURE_BEFORE_US);
    cr_expect_eq(eepi_secure_waiting_expire(&waiting, next_us, &next_us), &owner[0]);
    cr_expect_null(eepi_secure_waiting_expire(&waiting, 100 + EEPI_SECURE_BEFORE_US, &next_us));
    for (int i = 0; i < 3 * EEPI_SECURE_BEFORE_MAX; i++) {
        eepi_secure_waiting_remove(&waiting, &owner[i]);
    }
    cr_expect_null(eepi_secure_waiting_expire(&waiting, UINT64_MAX, &next_us));
    cr_expect_eq(next_us, UINT64_MAX);
}

Test(secure_channel, counts_are_said_in_words)
{
    eepi_secure_counts counts = {.opened = 5};
    char text[200];
    cr_expect_str_eq(eepi_secure_counts_text(&counts, text, sizeof text), "");
    counts.of[EEPI_SECURE_REPLAYED] = 3;
    counts.of[EEPI_SECURE_UNPROVEN] = 1;
    cr_expect_str_eq(eepi_secure_counts_text(&counts, text, sizeof text), "no proof 1, replayed 3");
}
