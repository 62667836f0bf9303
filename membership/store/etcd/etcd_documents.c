/* SPDX-License-Identifier: Apache-2.0 */
#include "membership/store/etcd/etcd_documents.h"

#include <assert.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEX_BYTES = 2 * EEPI_ETCD_DIGEST_BYTES + 1, KEY_HEX = 16, PUT_TRIES = 3 };

static_assert(EEPI_ETCD_DIGEST_BYTES == crypto_hash_sha256_BYTES, "SHA-256");

static void to_hex(const unsigned char *bytes, size_t size, char *hex_out)
{
    for (size_t i = 0; i < size; i++) {
        snprintf(hex_out + 2 * i, 3, "%02x", bytes[i]);
    }
}

static void number_to(unsigned char *to, uint64_t number)
{
    for (int i = 0; i < 8; i++) {
        to[i] = (unsigned char)(number >> (8 * i));
    }
}

static uint64_t number_from(const unsigned char *from)
{
    uint64_t number = 0;
    for (int i = 7; i >= 0; i--) {
        number = number << 8 | from[i];
    }
    return number;
}

void eepi_etcd_reference_encode(const eepi_etcd_reference *reference,
                                unsigned char bytes_out[EEPI_ETCD_REFERENCE_BYTES])
{
    bytes_out[0] = 1;
    memcpy(bytes_out + 1, reference->digest, EEPI_ETCD_DIGEST_BYTES);
    number_to(bytes_out + 1 + EEPI_ETCD_DIGEST_BYTES, reference->size);
    number_to(bytes_out + 9 + EEPI_ETCD_DIGEST_BYTES, reference->manifest);
}

bool eepi_etcd_reference_decode(const unsigned char *bytes, size_t size,
                                eepi_etcd_reference *reference_out)
{
    if (size != EEPI_ETCD_REFERENCE_BYTES || bytes[0] != 1) {
        return false;
    }
    memcpy(reference_out->digest, bytes + 1, EEPI_ETCD_DIGEST_BYTES);
    reference_out->size = number_from(bytes + 1 + EEPI_ETCD_DIGEST_BYTES);
    reference_out->manifest = number_from(bytes + 9 + EEPI_ETCD_DIGEST_BYTES);
    return true;
}

/* Where all documents of a key are; returns the bytes. */
static size_t folder_of(const eepi_etcd_api *api, const char *key,
                        char folder_out[EEPI_ETCD_KEY_BYTES])
{
    unsigned char digest[EEPI_ETCD_DIGEST_BYTES];
    char hex[KEY_HEX + 1];
    crypto_hash_sha256(digest, (const unsigned char *)key, strlen(key));
    to_hex(digest, KEY_HEX / 2, hex);
    return (size_t)snprintf(folder_out, EEPI_ETCD_KEY_BYTES, "%sd/%s/", api->url->prefix, hex);
}

/* Where one document is; returns the bytes. */
static size_t place_of(const eepi_etcd_api *api, const char *key, const unsigned char *digest,
                       char place_out[EEPI_ETCD_KEY_BYTES])
{
    char hex[HEX_BYTES];
    size_t bytes = folder_of(api, key, place_out);
    to_hex(digest, EEPI_ETCD_DIGEST_BYTES, hex);
    return bytes + (size_t)snprintf(place_out + bytes, EEPI_ETCD_KEY_BYTES - bytes, "%s/", hex);
}

void eepi_etcd_manifest_key(const eepi_etcd_api *api, const char *key,
                            const eepi_etcd_reference *reference, char key_out[EEPI_ETCD_KEY_BYTES])
{
    size_t bytes = place_of(api, key, reference->digest, key_out);
    snprintf(key_out + bytes, EEPI_ETCD_KEY_BYTES - bytes, "m");
}

/* What was written or read last is read again at once, by its writer for one. */
static void keep(eepi_etcd_api *api, const unsigned char *digest, const void *bytes, size_t size)
{
    unsigned char *copy = malloc(size);
    if (copy) {
        memcpy(copy, bytes, size);
        free(api->document);
        api->document = copy;
        api->document_bytes = size;
        memcpy(api->cached, digest, sizeof api->cached);
    }
}

static size_t piece_at(size_t number, size_t size)
{
    size_t at = number * EEPI_ETCD_PIECE_BYTES;
    return at < size ? at : size;
}

static eep_status put_piece(eepi_etcd_api *api, const char *key, const void *bytes, size_t size)
{
    cJSON *answer = NULL;
    eep_status status;
    eepi_etcd_text_clear(&api->body);
    eepi_etcd_text_format(&api->body, "{");
    eepi_etcd_text_key(&api->body, "key", key);
    eepi_etcd_text_format(&api->body, ",\"value\":\"");
    eepi_etcd_text_base64(&api->body, bytes, size, NULL, 0);
    eepi_etcd_text_format(&api->body, "\"}");
    status = eepi_etcd_api_call(api, "/v3/kv/put", &answer);
    cJSON_Delete(status == EEP_OK ? answer : NULL);
    return status;
}

/* The manifest, if all pieces are there. EEP_ERR_NOT_FOUND: one is not. */
static eep_status put_manifest(eepi_etcd_api *api, char place[EEPI_ETCD_KEY_BYTES],
                               size_t place_bytes, size_t num_pieces, uint64_t *revision_out)
{
    cJSON *answer = NULL;
    eep_status status;
    eepi_etcd_text_clear(&api->body);
    eepi_etcd_text_format(&api->body, "{\"compare\":[");
    for (size_t i = 0; i < num_pieces; i++) {
        snprintf(place + place_bytes, EEPI_ETCD_KEY_BYTES - place_bytes, "%06zu", i);
        eepi_etcd_text_format(&api->body, "%s{", i ? "," : "");
        eepi_etcd_text_key(&api->body, "key", place);
        eepi_etcd_text_format(&api->body,
                              ",\"target\":\"VERSION\",\"result\":\"GREATER\",\"version\":\"0\"}");
    }
    snprintf(place + place_bytes, EEPI_ETCD_KEY_BYTES - place_bytes, "m");
    eepi_etcd_text_format(&api->body, "],\"success\":[{\"request_put\":{");
    eepi_etcd_text_key(&api->body, "key", place);
    eepi_etcd_text_format(&api->body, ",\"value\":\"MQ==\"}}]}");
    status = eepi_etcd_api_call(api, "/v3/kv/txn", &answer);
    if (status != EEP_OK) {
        return status;
    }
    if (!cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(answer, "succeeded"))) {
        status = EEP_ERR_NOT_FOUND;
    }
    *revision_out =
        eepi_etcd_number(cJSON_GetObjectItemCaseSensitive(answer, "header"), "revision");
    cJSON_Delete(answer);
    return status;
}

eep_status eepi_etcd_document_put(eepi_etcd_api *api, const char *key, const void *bytes,
                                  size_t size, eepi_etcd_reference *reference_out)
{
    char place[EEPI_ETCD_KEY_BYTES];
    const size_t num_pieces = (size + EEPI_ETCD_PIECE_BYTES - 1) / EEPI_ETCD_PIECE_BYTES;
    eepi_etcd_reference reference = {.size = size};
    eep_status status = EEP_ERR_NOT_FOUND;
    size_t place_bytes;
    crypto_hash_sha256(reference.digest, bytes, size);
    place_bytes = place_of(api, key, reference.digest, place);
    for (int i = 0; i < PUT_TRIES && status == EEP_ERR_NOT_FOUND; i++) {
        status = EEP_OK;
        for (size_t k = 0; k < num_pieces && status == EEP_OK; k++) {
            const size_t at = piece_at(k, size);
            snprintf(place + place_bytes, sizeof place - place_bytes, "%06zu", k);
            status = put_piece(api, place, (const char *)bytes + at, piece_at(k + 1, size) - at);
        }
        if (status == EEP_OK) {
            status = put_manifest(api, place, place_bytes, num_pieces, &reference.manifest);
        }
    }
    if (status == EEP_OK) {
        keep(api, reference.digest, bytes, size);
        *reference_out = reference;
    }
    return status == EEP_ERR_NOT_FOUND ? EEP_ERR_UNREACHABLE : status;
}

/* All pieces, one behind the other. EEP_ERR_NOT_FOUND: they are not what the reference says. */
static eep_status read_pieces(eepi_etcd_api *api, const char *key,
                              const eepi_etcd_reference *reference, unsigned char *to)
{
    char place[EEPI_ETCD_KEY_BYTES];
    const size_t size = (size_t)reference->size;
    const size_t place_bytes = place_of(api, key, reference->digest, place);
    unsigned char digest[EEPI_ETCD_DIGEST_BYTES];
    eep_status status = EEP_OK;
    for (size_t k = 0; piece_at(k, size) < size && status == EEP_OK; k++) {
        const size_t at = piece_at(k, size), bytes = piece_at(k + 1, size) - at;
        eepi_etcd_entry entry = {0};
        snprintf(place + place_bytes, sizeof place - place_bytes, "%06zu", k);
        status = eepi_etcd_api_get(api, place, &entry);
        if (status == EEP_OK && entry.size != bytes) {
            status = EEP_ERR_NOT_FOUND;
        } else if (status == EEP_OK) {
            memcpy(to + at, entry.bytes, bytes);
        }
        free(entry.key);
        free(entry.bytes);
    }
    if (status == EEP_OK) {
        crypto_hash_sha256(digest, to, size);
        status = memcmp(digest, reference->digest, sizeof digest) == 0 ? EEP_OK : EEP_ERR_NOT_FOUND;
    }
    return status;
}

eep_status eepi_etcd_document_get(eepi_etcd_api *api, const char *key,
                                  const eepi_etcd_reference *reference,
                                  const unsigned char **bytes_out)
{
    unsigned char *bytes;
    eep_status status;
    if (api->document && api->document_bytes == reference->size &&
        memcmp(api->cached, reference->digest, sizeof api->cached) == 0) {
        *bytes_out = api->document;
        return EEP_OK;
    }
    bytes = malloc((size_t)reference->size + 1);
    if (!bytes) {
        return EEP_ERR_NO_MEMORY;
    }
    status = read_pieces(api, key, reference, bytes);
    if (status != EEP_OK) {
        free(bytes);
        return status;
    }
    free(api->document);
    api->document = bytes;
    api->document_bytes = (size_t)reference->size;
    memcpy(api->cached, reference->digest, sizeof api->cached);
    *bytes_out = bytes;
    return EEP_OK;
}

/* ---------------------------------------------------------------- what nobody can need */

/* Remove one document, unless somebody has written its manifest again since `manifest` (0: it had
 * none). Failures leave it for the next collection. */
static void remove_document(eepi_etcd_api *api, const char *place, uint64_t manifest)
{
    char key[EEPI_ETCD_KEY_BYTES + 1];
    cJSON *answer = NULL;
    const size_t bytes = strlen(place);
    memcpy(key, place, bytes);
    memcpy(key + bytes, "m", 2);
    eepi_etcd_text_clear(&api->body);
    eepi_etcd_text_format(&api->body, "{\"compare\":[{");
    eepi_etcd_text_key(&api->body, "key", key);
    eepi_etcd_text_format(&api->body,
                          ",\"target\":\"MOD\",\"result\":\"EQUAL\",\"mod_revision\":\"%llu\"}],",
                          (unsigned long long)manifest);
    eepi_etcd_text_format(&api->body, "\"success\":[{\"request_delete_range\":{");
    eepi_etcd_text_key(&api->body, "key", place);
    eepi_etcd_text_format(&api->body, ",");
    eepi_etcd_text_range_end(&api->body, "range_end", place);
    eepi_etcd_text_format(&api->body, "}}]}");
    if (eepi_etcd_api_call(api, "/v3/kv/txn", &answer) == EEP_OK) {
        cJSON_Delete(answer);
    }
}

/* One after the other, in order of keys, documents come with their pieces first, then "m". */
static void collect_listed(eepi_etcd_api *api, const char *folder, const cJSON *kvs,
                           const eepi_etcd_reference *base)
{
    const size_t folder_bytes = strlen(folder), hex_bytes = HEX_BYTES; /* with the slash */
    char place[EEPI_ETCD_KEY_BYTES] = "";                              /* "": none is looked at */
    uint64_t newest = 0, manifest = 0;
    for (const cJSON *kv = cJSON_GetArrayItem(kvs, 0);; kv = kv->next) {
        eepi_etcd_entry entry = {0};
        bool is_entry =
            kv && eepi_etcd_api_entry(kv, folder_bytes, &entry) && strlen(entry.key) > hex_bytes;
        bool is_other =
            !is_entry || !place[0] || strncmp(place + folder_bytes, entry.key, hex_bytes) != 0;
        if (place[0] && is_other && newest < base->manifest) {
            remove_document(api, place, manifest);
        }
        if (is_other) {
            memset(place, 0, sizeof place);
            newest = manifest = 0;
        }
        if (is_entry && is_other && folder_bytes + hex_bytes < sizeof place) {
            memcpy(place, folder, folder_bytes);
            memcpy(place + folder_bytes, entry.key, hex_bytes);
        }
        if (is_entry) {
            newest = entry.revision > newest ? entry.revision : newest;
            manifest = strcmp(entry.key + hex_bytes, "m") == 0 ? entry.revision : manifest;
        }
        free(entry.key);
        free(entry.bytes);
        if (!kv) {
            return;
        }
    }
}

void eepi_etcd_documents_collect(eepi_etcd_api *api, const char *key,
                                 const eepi_etcd_reference *base)
{
    char folder[EEPI_ETCD_KEY_BYTES];
    cJSON *answer = NULL;
    (void)folder_of(api, key, folder);
    eepi_etcd_text_clear(&api->body);
    eepi_etcd_text_format(&api->body, "{");
    eepi_etcd_text_key(&api->body, "key", folder);
    eepi_etcd_text_format(&api->body, ",");
    eepi_etcd_text_range_end(&api->body, "range_end", folder);
    eepi_etcd_text_format(&api->body, ",\"keys_only\":true}");
    if (eepi_etcd_api_call(api, "/v3/kv/range", &answer) == EEP_OK) {
        collect_listed(api, folder, cJSON_GetObjectItemCaseSensitive(answer, "kvs"), base);
        cJSON_Delete(answer);
    }
}
