/* SPDX-License-Identifier: Apache-2.0 */
/* A store at one etcd: documents in pieces, what is collected, what is refused, and what a client
 * does that etcd has left behind. */
#include "tests/lib/store/etcd_fixture.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

TestSuite(etcd, .fini = end_etcd, .timeout = 110);

enum { BIG = 2600 * 1000 }; /* bytes: a view of 1,024 ranks x 61 layers */

static unsigned char *big_value(unsigned char seed)
{
    unsigned char *bytes = malloc(BIG);
    cr_assert_not_null(bytes);
    for (size_t i = 0; i < BIG; i++) {
        bytes[i] = (unsigned char)(seed + i / 1000 + i);
    }
    return bytes;
}

/* Keys of documents: all, or manifests alone. */
static int count_keys(eepi_etcd_api *api, bool manifests)
{
    eepi_etcd_text body = {0};
    cJSON *answer;
    const cJSON *kv;
    int num = 0;
    eepi_etcd_text_format(&body, "{");
    eepi_etcd_text_key(&body, "key", "test/d/");
    eepi_etcd_text_format(&body, ",");
    eepi_etcd_text_range_end(&body, "range_end", "test/d/");
    eepi_etcd_text_format(&body, ",\"keys_only\":true}");
    answer = api_call(api, "/v3/kv/range", body.bytes);
    cJSON_ArrayForEach(kv, cJSON_GetObjectItemCaseSensitive(answer, "kvs"))
    {
        eepi_etcd_entry entry = {0};
        cr_assert(eepi_etcd_api_entry(kv, 0, &entry));
        num += !manifests || entry.key[strlen(entry.key) - 1] == 'm';
        free(entry.key);
        free(entry.bytes);
    }
    cJSON_Delete(answer);
    eepi_etcd_text_free(&body);
    return num;
}

/* etcd refuses such a value in one; whoever watches gets each whole; what is older than the one
 * before the present goes. */
Test(etcd, big_values_are_stored_in_pieces_and_collected)
{
    begin_etcd(1);
    eepi_store_client *a = etcd_client(), *b = etcd_client();
    eepi_etcd_api api;
    uint64_t revision = 0;
    begin_api(&api);
    (void)etcd_answer(b, eepi_store_watch(b, "view"));
    for (unsigned char turn = 0; turn < 5; turn++) {
        unsigned char *bytes = big_value(turn);
        eepi_store_reply reply = etcd_answer(a, eepi_store_cas(a, "view", revision, bytes, BIG));
        cr_assert_eq(reply.status, EEP_OK, "%s", eep_strerror(reply.status));
        revision = reply.revision;
        reply = etcd_next(b);
        cr_assert(reply.kind == EEPI_STORE_CHANGED && reply.revision == revision);
        cr_assert(reply.size == BIG && memcmp(reply.value, bytes, BIG) == 0, "turn %d", turn);
        reply = etcd_answer(b, eepi_store_cas(b, "view", 1, "late", 4));
        cr_assert(reply.status == EEP_ERR_CONFLICT && reply.revision == revision &&
                  reply.size == BIG && memcmp(reply.value, bytes, BIG) == 0);
        (void)etcd_answer(a, eepi_store_get(a, "none")); /* collected behind the answer */
        cr_assert_eq(count_keys(&api, true), turn == 0 ? 1 : 2, "turn %d", turn);
        free(bytes);
    }
    cr_expect_eq(count_keys(&api, false), 2 * (10 + 1));
    eepi_etcd_api_close(&api);
    eepi_store_client_close(a);
    eepi_store_client_close(b);
}

/* Also where etcd's gateway has begun to answer before it has read what is to be watched. */
Test(etcd, each_of_many_watches_brings_its_events)
{
    enum { TURNS = 4, CLIENTS = 6, WATCHES = 12 };
    begin_etcd(1);
    eepi_store_client *a = etcd_client();
    for (int turn = 0; turn < TURNS; turn++) {
        eepi_store_client *b[CLIENTS];
        uint64_t id[CLIENTS][WATCHES];
        char key[64];
        for (int i = 0; i < CLIENTS; i++) {
            b[i] = etcd_client();
            for (int j = 0; j < WATCHES; j++) {
                snprintf(key, sizeof key, "turn-%d/what-they-all-watch-%d/", turn, j);
                id[i][j] = eepi_store_watch(b[i], key);
            }
        }
        for (int i = 0; i < CLIENTS * WATCHES; i++) {
            const eepi_store_reply reply =
                etcd_answer(b[i / WATCHES], id[i / WATCHES][i % WATCHES]);
            cr_assert_eq(reply.status, EEP_OK);
        }
        snprintf(key, sizeof key, "turn-%d/what-they-all-watch-%d/x", turn, WATCHES - 1);
        (void)etcd_put(a, key, "x");
        (void)etcd_put(a, "newer", "x"); /* and not watched: a look (rule N18) finds no fault */
        for (int i = 0; i < CLIENTS; i++) {
            etcd_hears(b[i], EEPI_STORE_CHANGED, key);
            eepi_store_client_close(b[i]);
        }
    }
    eepi_store_client_close(a);
}

/* What a relay before etcd keeps back: what a watch's stream answers, for so long at first. */
enum { KEPT_BACK_MS = 350 };

static int connect_to(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* A connection, until one end closes it. */
static void *carry(void *argument)
{
    const struct timespec kept_back = {.tv_nsec = KEPT_BACK_MS * 1000000L};
    struct pollfd end[2] = {{.fd = (int)(intptr_t)argument, .events = POLLIN},
                            {.fd = connect_to(etcd.client_port[0]), .events = POLLIN}};
    static _Thread_local char bytes[65536];
    bool is_open = true, is_watch = false;
    while (is_open && poll(end, 2, -1) > 0) {
        for (int i = 0; i < 2 && is_open; i++) {
            ssize_t num = end[i].revents ? recv(end[i].fd, bytes, sizeof bytes, 0) : -1;
            if (i == 0 && num > 0) {
                is_watch |= memmem(bytes, (size_t)num, "POST /v3/watch", 14) != NULL;
            } else if (num > 0 && is_watch) {
                nanosleep(&kept_back, NULL);
                is_watch = false;
            }
            is_open = !end[i].revents ||
                      (num > 0 && send(end[!i].fd, bytes, (size_t)num, MSG_NOSIGNAL) == num);
        }
    }
    close(end[0].fd);
    close(end[1].fd);
    return NULL;
}

static void *relay(void *argument)
{
    int fd;
    while ((fd = accept4((int)(intptr_t)argument, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        pthread_t thread;
        cr_assert_eq(pthread_create(&thread, NULL, carry, (void *)(intptr_t)fd), 0);
        pthread_detach(thread);
    }
    return NULL;
}

/* N18: etcd confirms a watch late, and it is asked for again meanwhile: that is no watch which
 * brings nothing more. */
Test(etcd, a_watch_that_is_confirmed_late_does_not_break_off)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof address;
    char url[100];
    pthread_t thread;
    eepi_store_client *a, *b;
    begin_etcd(1);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    cr_assert_eq(listen(listener, 64), 0);
    cr_assert_eq(getsockname(listener, (struct sockaddr *)&address, &bytes), 0);
    cr_assert_eq(pthread_create(&thread, NULL, relay, (void *)(intptr_t)listener), 0);
    snprintf(url, sizeof url, "etcd://127.0.0.1:%u/test?timeout-ms=20000", ntohs(address.sin_port));
    a = etcd_client();
    cr_assert_eq(eepi_store_client_open(url, ETCD_BOUND_US, &b), EEP_OK, "no etcd at %s", url);
    (void)etcd_answer(b, eepi_store_watch(b, "late/"));
    (void)etcd_put(a, "late/1", "x");
    etcd_hears(b, EEPI_STORE_CHANGED, "late/1");
    eepi_store_client_close(a);
    eepi_store_client_close(b);
    shutdown(listener, SHUT_RDWR);
    pthread_join(thread, NULL);
    close(listener);
}

/* The key of a piece of the value that "view" has now. */
static void piece_key(eepi_etcd_api *api, char key_out[EEPI_ETCD_KEY_BYTES])
{
    eepi_etcd_entry entry = {0};
    eepi_etcd_reference reference;
    cr_assert_eq(eepi_etcd_api_get(api, "test/k/view", &entry), EEP_OK);
    cr_assert(eepi_etcd_reference_decode(entry.bytes, entry.size, &reference));
    eepi_etcd_manifest_key(api, "view", &reference, key_out);
    strcpy(key_out + strlen(key_out) - 1, "000003");
    free(entry.key);
    free(entry.bytes);
}

static void spoil(eepi_etcd_api *api, const char *call, const char *key, bool with_value)
{
    eepi_etcd_text body = {0};
    static unsigned char zeros[EEPI_ETCD_PIECE_BYTES];
    eepi_etcd_text_format(&body, "{");
    eepi_etcd_text_key(&body, "key", key);
    if (with_value) {
        eepi_etcd_text_format(&body, ",\"value\":\"");
        eepi_etcd_text_base64(&body, zeros, sizeof zeros, NULL, 0);
        eepi_etcd_text_format(&body, "\"");
    }
    eepi_etcd_text_format(&body, "}");
    cJSON_Delete(api_call(api, call, body.bytes));
    eepi_etcd_text_free(&body);
}

/* A piece that is missing or another's is an error, and never "no view" (rules N15, N17). */
Test(etcd, a_document_that_is_not_whole_is_an_error)
{
    begin_etcd(1);
    char key[EEPI_ETCD_KEY_BYTES];
    eepi_store_client *a = etcd_client(), *b = etcd_client();
    unsigned char *bytes = big_value(1);
    eepi_etcd_api api;
    eepi_store_reply reply = etcd_answer(a, eepi_store_cas(a, "view", 0, bytes, BIG));
    uint64_t revision = reply.revision;
    begin_api(&api);
    piece_key(&api, key);
    spoil(&api, "/v3/kv/put", key, true);
    cr_expect_eq(etcd_answer(b, eepi_store_get(b, "view")).status, EEP_ERR_PROTOCOL);
    spoil(&api, "/v3/kv/deleterange", key, false);
    cr_expect_eq(etcd_answer(b, eepi_store_get(b, "view")).status, EEP_ERR_PROTOCOL);
    cr_expect_eq(etcd_answer(b, eepi_store_list(b, "")).status, EEP_ERR_PROTOCOL);
    reply = etcd_answer(a, eepi_store_cas(a, "view", revision, bytes, BIG)); /* written anew */
    cr_expect_eq(reply.status, EEP_OK);
    reply = etcd_answer(b, eepi_store_get(b, "view"));
    cr_expect(reply.status == EEP_OK && memcmp(reply.value, bytes, BIG) == 0);
    free(bytes);
    eepi_etcd_api_close(&api);
    eepi_store_client_close(a);
    eepi_store_client_close(b);
}

/* A reference is not written when its document was collected before (rule N15). */
Test(etcd, a_late_reference_does_not_fit)
{
    begin_etcd(1);
    eepi_etcd_api writer, collector;
    eepi_etcd_reference reference, newer;
    eepi_etcd_value value = {0};
    unsigned char *bytes = big_value(2);
    const eepi_etcd_write write = {.key = "view", .value = bytes, .size = BIG, .compares = true};
    begin_api(&writer);
    begin_api(&collector);
    cr_assert_eq(eepi_etcd_document_put(&writer, "view", bytes, BIG, &reference), EEP_OK);
    eepi_etcd_documents_collect(&collector, "view", &reference); /* not older than itself */
    cr_expect_eq(count_keys(&collector, true), 1);
    newer = reference;
    newer.manifest++;
    eepi_etcd_documents_collect(&collector, "view", &newer);
    cr_expect_eq(count_keys(&collector, false), 0);
    cr_expect_eq(eepi_etcd_value_commit(&writer, &write, &reference, &value), EEP_ERR_TIMEOUT);
    cr_expect_eq(eepi_etcd_value_get(&writer, "view", &value), EEP_ERR_NOT_FOUND);
    cr_assert_eq(eepi_etcd_value_write(&writer, &write, &value), EEP_OK);
    cr_expect_eq(count_keys(&collector, true), 1);
    free(bytes);
    eepi_etcd_api_close(&writer);
    eepi_etcd_api_close(&collector);
}

/* The history that a watch would go on from is compacted: all begins anew with what is there. */
Test(etcd, a_compacted_watch_begins_with_what_is_there)
{
    begin_etcd(1);
    char body[64];
    eepi_store_client *a = etcd_client(), *b = etcd_client();
    eepi_etcd_api api;
    (void)etcd_put(a, "w/1", "one");
    (void)etcd_answer(b, eepi_store_watch(b, "w/"));
    etcd_hears(b, EEPI_STORE_ENTRY, "w/1");
    for (int i = 0; i < 20; i++) {
        (void)etcd_put(a, "elsewhere", "x");
    }
    begin_api(&api);
    snprintf(body, sizeof body, "{\"revision\":\"%llu\",\"physical\":true}",
             (unsigned long long)present_revision(&api));
    cJSON_Delete(api_call(&api, "/v3/kv/compaction", body));
    (void)etcd_answer(b, eepi_store_watch(b, "y/")); /* the stream begins again */
    etcd_hears(b, EEPI_STORE_DISCONNECTED, "");
    etcd_hears(b, EEPI_STORE_ENTRY, "w/1");
    etcd_hears(b, EEPI_STORE_RECONNECTED, "");
    (void)etcd_put(a, "w/2", "two");
    etcd_hears(b, EEPI_STORE_CHANGED, "w/2");
    eepi_etcd_api_close(&api);
    eepi_store_client_close(a);
    eepi_store_client_close(b);
}

/* A full store reads and does not write; the refusal is definite. */
Test(etcd, a_full_store_says_so)
{
    etcd.more[0] = "--quota-backend-bytes=3000000";
    begin_etcd(1);
    char body[128];
    cJSON *answer;
    static char bytes[20000];
    eepi_store_client *a = etcd_client();
    eepi_store_reply reply = {0};
    eepi_etcd_api api;
    for (int i = 0; i < 1000 && reply.status == EEP_OK; i++) {
        reply = etcd_answer(a, eepi_store_put(a, "big", bytes, sizeof bytes, 0));
    }
    cr_assert_eq(reply.status, EEP_ERR_NO_MEMORY, "%s", eep_strerror(reply.status));
    cr_expect_eq(etcd_answer(a, eepi_store_get(a, "big")).status, EEP_OK);
    begin_api(&api);
    snprintf(body, sizeof body, "{\"revision\":\"%llu\",\"physical\":true}",
             (unsigned long long)present_revision(&api));
    cJSON_Delete(api_call(&api, "/v3/kv/compaction", body));
    cJSON_Delete(api_call(&api, "/v3/maintenance/defragment", "{}"));
    answer = api_call(&api, "/v3/maintenance/alarm", "{\"action\":\"GET\"}");
    snprintf(
        body, sizeof body,
        "{\"action\":\"DEACTIVATE\",\"alarm\":\"NOSPACE\",\"memberID\":\"%llu\"}",
        (unsigned long long)eepi_etcd_number(
            cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(answer, "alarms"), 0), "memberID"));
    cJSON_Delete(answer);
    cJSON_Delete(api_call(&api, "/v3/maintenance/alarm", body));
    (void)etcd_put(a, "big", "small");
    eepi_etcd_api_close(&api);
    eepi_store_client_close(a);
}

/* Another etcd at the same address, empty: it has forgotten, and is not believed (rule N19). */
Test(etcd, a_store_that_has_forgotten_is_refused)
{
    begin_etcd(1);
    const struct timespec nap = {.tv_nsec = 5 * 1000 * 1000};
    char command[128];
    eepi_store_client *a = etcd_client();
    eepi_store_reply reply;
    (void)etcd_put(a, "register", "x");
    (void)etcd_answer(a, eepi_store_watch(a, "register"));
    etcd_hears(a, EEPI_STORE_ENTRY, "register");
    etcd_kill(&etcd, 0);
    snprintf(command, sizeof command, "rm -rf '%s'/n0", etcd.directory);
    cr_assert_eq(system(command), 0);
    etcd.peer_port[0] = test_free_port(); /* which makes it another cluster */
    etcd_start(&etcd, 0);
    etcd_hears(a, EEPI_STORE_DISCONNECTED, "");
    for (uint64_t end_us = eepi_now_us() + ETCD_BOUND_US;
         eepi_store_client_refusal(a) != EEP_ERR_STATE; nanosleep(&nap, NULL)) {
        cr_assert(eepi_now_us() < end_us, "it is not refused");
        cr_assert_eq(eepi_store_client_next(a, &reply), EEP_ERR_TIMEOUT, "event %d",
                     (int)reply.kind);
    }
    cr_expect(strstr(eepi_store_client_why(a), "has forgotten"), "%s", eepi_store_client_why(a));
    eepi_store_client_close(a);
}

/* N21: etcd counts from when it has heard, so the holder from when it has asked, less a tenth; and
 * a key goes with a lease that nobody renews. */
Test(etcd, a_lease_counts_from_its_sending)
{
    enum { TTL_US = 5 * 1000 * 1000, PAUSE_US = 1000 * 1000, LEAST_TTL_US = 1000 * 1000 };
    const struct timespec pause = {.tv_sec = 1};
    begin_etcd(1);
    eepi_store_client *holder = etcd_client(), *other = etcd_client();
    cr_expect_eq(eepi_store_lease_until_us(holder), 0, "it has none");
    kill(etcd.pid[0], SIGSTOP);
    cr_assert_eq(waitpid(etcd.pid[0], NULL, WUNTRACED), etcd.pid[0]); /* all of its threads */
    const uint64_t asked_us = eepi_now_us();
    const uint64_t id = eepi_store_lease(holder, TTL_US);
    nanosleep(&pause, NULL);
    kill(etcd.pid[0], SIGCONT);
    cr_assert_eq(etcd_answer(holder, id).status, EEP_OK);
    cr_expect_geq(eepi_store_lease_until_us(holder), asked_us + TTL_US - TTL_US / 10);
    cr_expect_lt(eepi_store_lease_until_us(holder), asked_us + TTL_US - TTL_US / 10 + PAUSE_US,
                 "the answer came later than that");
    cr_assert_eq(etcd_answer(holder, eepi_store_lease(holder, LEAST_TTL_US)).status, EEP_OK);
    cr_assert_eq(etcd_answer(holder, eepi_store_put(holder, "lease/1/1", "x", 1, 1)).status,
                 EEP_OK);
    const uint64_t end_us = eepi_now_us() + ETCD_BOUND_US;
    while (etcd_get(other, "lease/1/1").status != EEP_ERR_NOT_FOUND) {
        cr_assert(eepi_now_us() < end_us, "the holder says nothing any more, and its key stays");
    }
    cr_expect_gt(eepi_now_us(), eepi_store_lease_until_us(holder), "its own count ends before");
    eepi_store_client_close(holder);
    eepi_store_client_close(other);
}

Test(etcd, users_need_their_password)
{
    begin_etcd(1);
    char address[300], file[100];
    eepi_store_client *a = NULL;
    FILE *written;
    enable_users();
    snprintf(file, sizeof file, "%s/password", etcd.directory);
    written = fopen(file, "we");
    cr_assert(written && fputs("secret\n", written) > 0 && fclose(written) == 0);
    cr_expect_eq(eepi_store_client_open(etcd_at, ETCD_BOUND_US, &a), EEP_ERR_STATE);
    snprintf(address, sizeof address,
             "etcd://root@127.0.0.1:%u/test?timeout-ms=20000&password-file=%s", etcd.client_port[0],
             file);
    cr_assert_eq(chmod(file, 0644), 0);
    cr_expect_eq(eepi_store_client_open(address, ETCD_BOUND_US, &a), EEP_ERR_STATE);
    cr_expect(strstr(eepi_etcd_why(), "mode 0600"), "%s", eepi_etcd_why());
    cr_assert_eq(chmod(file, 0600), 0);
    cr_assert_eq(eepi_store_client_open(address, ETCD_BOUND_US, &a), EEP_OK, "%s", eepi_etcd_why());
    (void)etcd_answer(a, eepi_store_watch(a, "x"));
    (void)etcd_put(a, "x", "one");
    etcd_hears(a, EEPI_STORE_CHANGED, "x");
    eepi_store_client_close(a);
    setenv("EEP_ETCD_PASSWORD", "wrong", 1);
    snprintf(address, sizeof address, "etcd://root@127.0.0.1:%u/test?timeout-ms=20000",
             etcd.client_port[0]);
    cr_expect_eq(eepi_store_client_open(address, ETCD_BOUND_US, &a), EEP_ERR_STATE);
    setenv("EEP_ETCD_PASSWORD", "secret", 1);
    cr_assert_eq(eepi_store_client_open(address, ETCD_BOUND_US, &a), EEP_OK, "%s", eepi_etcd_why());
    eepi_store_client_close(a);
}
