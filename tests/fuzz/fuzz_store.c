/* SPDX-License-Identifier: Apache-2.0 */
/* What clients and stores send to each other, where a store is, and what etcd answers. */
#include "tests/fuzz/fuzz_targets.h"

#include "membership/store/etcd/etcd_documents.h"
#include "membership/store/store_client.h"
#include "membership/store/store_url.h"
#include "membership/store/store_wire.h"
#include "tests/lib/check_or_abort.h"

#include <string.h>

/* The first byte says how many bytes come at a time, and whether they are put or read. */
static bool run_frames(const uint8_t *bytes, size_t size)
{
    eepi_store_inbox inbox = {0};
    eep_status status = EEP_ERR_TIMEOUT;
    const size_t step = size > 0 ? 1 + (bytes[0] & 0x7f) : 1;
    bool taken = false;
    const bool puts = size > 0 && (bytes[0] & 0x80);
    for (size_t at = 1; at < size && status == EEP_ERR_TIMEOUT; at += step) {
        const size_t now = size - at < step ? size - at : step;
        eepi_store_message message;
        if (puts) {
            CHECK(eepi_store_inbox_put(&inbox, bytes + at, now));
        } else {
            for (size_t done = 0; done < now && status == EEP_ERR_TIMEOUT;) {
                size_t space = 0;
                void *to = eepi_store_inbox_space(&inbox, &space);
                CHECK(to && space > 0);
                space = space < now - done ? space : now - done;
                memcpy(to, bytes + at + done, space);
                eepi_store_inbox_filled(&inbox, space);
                done += space;
            }
        }
        while ((status = eepi_store_inbox_next(&inbox, &message)) == EEP_OK) {
            CHECK(strlen(message.key) < EEPI_STORE_KEY_MAX);
            CHECK(message.value_size <= EEPI_STORE_VALUE_MAX);
            CHECK((uintptr_t)message.value % 8 == 0);
            taken = true;
            free(message.value_size ? fuzz_text(message.value, message.value_size) : NULL);
        }
    }
    eepi_store_inbox_free(&inbox);
    return taken;
}

static size_t seed_frames(int number, uint8_t *bytes_out)
{
    static const eepi_store_message messages[] = {
        {.type = EEPI_STORE_MSG_GET, .id = 1, .key = "view"},
        {.type = EEPI_STORE_MSG_PUT, .id = 2, .key = "a", .value = "12345", .value_size = 5},
        {.type = EEPI_STORE_MSG_CAS,
         .id = 3,
         .revision = 7,
         .key = "k",
         .value = "x",
         .value_size = 1},
        {.type = EEPI_STORE_MSG_LEASE, .id = 4, .lease = 9, .ttl_us = 1000, .key = ""},
        {.type = EEPI_STORE_MSG_WATCH, .id = 5, .key = ""},
        {.type = EEPI_STORE_MSG_REPLY, .id = 6, .status = EEP_ERR_CONFLICT, .key = "view"},
        {.type = EEPI_STORE_MSG_CHANGED,
         .revision = 8,
         .key = "view",
         .value = "12345678",
         .value_size = 8},
        {.type = EEPI_STORE_MSG_BYE, .key = ""},
    };
    size_t size = 1;
    if (number > 1) {
        return 0;
    }
    bytes_out[0] = number ? 0x87 : 0x7f;
    for (size_t i = 0; i < sizeof messages / sizeof *messages; i++) {
        size += eepi_store_wire_encode(&messages[i], bytes_out + size);
        if (messages[i].value_size > 0) {
            const size_t padding = eepi_store_wire_padding(messages[i].value_size);
            memcpy(bytes_out + size, messages[i].value, messages[i].value_size);
            memset(bytes_out + size + messages[i].value_size, 0, padding);
            size += messages[i].value_size + padding;
        }
    }
    return size;
}

static bool run_url(const uint8_t *bytes, size_t size)
{
    char *text = fuzz_text(bytes, size), why[64];
    eepi_store_url url;
    const bool taken = eepi_store_url_parse(text, &url, why, sizeof why) == EEP_OK;
    if (taken) {
        CHECK(strnlen(url.path, sizeof url.path) < sizeof url.path);
        CHECK(strnlen(url.key_file, sizeof url.key_file) < sizeof url.key_file);
        CHECK(url.num_endpoints <= EEPI_STORE_ENDPOINTS_MAX);
    } else {
        CHECK(strnlen(why, sizeof why) < sizeof why);
    }
    free(text);
    return taken;
}

static size_t seed_url(int number, uint8_t *bytes_out)
{
    static const char *const texts[] = {
        "/run/eep/s",
        "unix:/run/eep/s",
        "tcp://[::1]:7000?local=/run/eep/s",
        "tcp://10.0.0.1:7000?key-file=/k&instance=job&local=/s",
        "etcd://me@h1:2379,h2,[fd00::3]:4000/job/7?local=/s&tls=1&ca=/a&cert=/c&key=/k"
        "&password-file=/p&timeout-ms=20",
    };
    return fuzz_seed_text(texts, sizeof texts / sizeof *texts, number, bytes_out);
}

/* An answer of the JSON gateway, and what is taken out of it. */
static bool run_etcd(const uint8_t *bytes, size_t size)
{
    char *text = fuzz_text(bytes, size);
    cJSON *answer = cJSON_Parse(text);
    const cJSON *kv;
    bool taken = false;
    cJSON_ArrayForEach(kv, cJSON_GetObjectItemCaseSensitive(answer, "kvs"))
    {
        eepi_etcd_entry entry;
        if (eepi_etcd_api_entry(kv, size % 8, &entry)) {
            eepi_etcd_reference reference;
            taken = true;
            if (entry.size > 0 && eepi_etcd_reference_decode(entry.bytes, entry.size, &reference)) {
                unsigned char again[EEPI_ETCD_REFERENCE_BYTES];
                eepi_etcd_reference_encode(&reference, again);
                CHECK(memcmp(again, entry.bytes, sizeof again) == 0);
            }
            free(entry.key);
            free(entry.bytes);
        }
    }
    (void)eepi_etcd_number(cJSON_GetObjectItemCaseSensitive(answer, "header"), "revision");
    cJSON_Delete(answer);
    free(text);
    return taken;
}

static size_t seed_etcd(int number, uint8_t *bytes_out)
{
    static const char *const texts[] = {
        "{\"header\":{\"cluster_id\":\"14841639068965178418\",\"revision\":\"7\"},\"kvs\":[{"
        "\"key\":\"ZWVwL2sv\",\"create_revision\":\"2\",\"mod_revision\":\"3\",\"version\":\"1\","
        "\"value\":\"AGFiYw==\"}],\"count\":\"1\"}",
        "{\"kvs\":[{\"key\":\"ZWVwL2svYWJjZGVm\",\"mod_revision\":\"5\",\"lease\":\"77\",\"value\":"
        "\"AQABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fAAAQAAAAAAAJAAAAAAAAAA==\"},{}]}",
    };
    return fuzz_seed_text(texts, sizeof texts / sizeof *texts, number, bytes_out);
}

const fuzz_target fuzz_store_targets[] = {
    {"store_frames", run_frames, seed_frames},
    {"store_url", run_url, seed_url},
    {"etcd_answer", run_etcd, seed_etcd},
    {NULL, NULL, NULL},
};
