/* SPDX-License-Identifier: Apache-2.0 */
#include "membership/store/etcd/etcd_values.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WRITE_TRIES = 3, READ_TRIES = 8 };

size_t eepi_etcd_key_of(const eepi_etcd_api *api, const char *key,
                        char key_out[EEPI_ETCD_KEY_BYTES])
{
    return (size_t)snprintf(key_out, EEPI_ETCD_KEY_BYTES, "%sk/%s", api->url->prefix, key);
}

static void free_entry(eepi_etcd_entry *entry)
{
    free(entry->key);
    free(entry->bytes);
    *entry = (eepi_etcd_entry){0};
}

void eepi_etcd_value_free(eepi_etcd_value *value)
{
    free_entry(&value->entry);
}

/* ---------------------------------------------------------------- reading */

/* EEP_ERR_NOT_FOUND: the document that it refers to is not there. */
static eep_status look(eepi_etcd_api *api, const char *key, const eepi_etcd_entry *entry,
                       eepi_etcd_value *value_out)
{
    eepi_etcd_reference reference;
    value_out->revision = entry->revision;
    if (entry->size > 0 && entry->bytes[0] == 0) {
        value_out->bytes = entry->bytes + 1;
        value_out->size = entry->size - 1;
        return EEP_OK;
    }
    if (!eepi_etcd_reference_decode(entry->bytes, entry->size, &reference)) {
        snprintf(api->why, sizeof api->why, "etcd: the value of %s is not of this store", key);
        return EEP_ERR_PROTOCOL;
    }
    value_out->size = (size_t)reference.size;
    return eepi_etcd_document_get(api, key, &reference, &value_out->bytes);
}

eep_status eepi_etcd_value_of(eepi_etcd_api *api, const char *key, eepi_etcd_entry *entry,
                              eepi_etcd_value *value_out)
{
    eep_status status = EEP_ERR_NOT_FOUND;
    char full[EEPI_ETCD_KEY_BYTES];
    uint64_t missed = 0; /* revision at which the document was not there */
    (void)eepi_etcd_key_of(api, key, full);
    *value_out = (eepi_etcd_value){.entry = *entry};
    *entry = (eepi_etcd_entry){0};
    for (int i = 0; i < READ_TRIES; i++) {
        status = look(api, key, &value_out->entry, value_out);
        if (status != EEP_ERR_NOT_FOUND) {
            break;
        }
        if (value_out->revision == missed) { /* twice at one revision (rule N17) */
            snprintf(api->why, sizeof api->why,
                     "etcd: of the document of %s at revision %llu a piece is missing", key,
                     (unsigned long long)missed);
            status = EEP_ERR_PROTOCOL;
            break;
        }
        missed = value_out->revision;
        free_entry(&value_out->entry);
        status = eepi_etcd_api_get(api, full, &value_out->entry);
        if (status != EEP_OK) {
            break;
        }
    }
    if (status != EEP_OK) {
        eepi_etcd_value_free(value_out);
        *value_out = (eepi_etcd_value){0};
    }
    return status;
}

eep_status eepi_etcd_value_get(eepi_etcd_api *api, const char *key, eepi_etcd_value *value_out)
{
    char full[EEPI_ETCD_KEY_BYTES];
    eepi_etcd_entry entry = {0};
    eep_status status;
    (void)eepi_etcd_key_of(api, key, full);
    status = eepi_etcd_api_get(api, full, &entry);
    return status == EEP_OK ? eepi_etcd_value_of(api, key, &entry, value_out) : status;
}

eep_status eepi_etcd_value_list(eepi_etcd_api *api, const char *prefix, cJSON **answer_out,
                                uint64_t *revision_out)
{
    char full[EEPI_ETCD_KEY_BYTES];
    eep_status status;
    (void)eepi_etcd_key_of(api, prefix, full);
    eepi_etcd_text_clear(&api->body);
    eepi_etcd_text_format(&api->body, "{");
    eepi_etcd_text_key(&api->body, "key", full);
    eepi_etcd_text_format(&api->body, ",");
    eepi_etcd_text_range_end(&api->body, "range_end", full);
    eepi_etcd_text_format(&api->body, "}");
    status = eepi_etcd_api_call(api, "/v3/kv/range", answer_out);
    if (status == EEP_OK) {
        *revision_out =
            eepi_etcd_number(cJSON_GetObjectItemCaseSensitive(*answer_out, "header"), "revision");
    }
    return status;
}

/* ---------------------------------------------------------------- writing */

/* The transaction: if the key is as expected, and the manifest is the one of the reference. */
static void make_transaction(eepi_etcd_api *api, const eepi_etcd_write *write, const char *full,
                             const eepi_etcd_reference *reference)
{
    eepi_etcd_text *body = &api->body;
    char manifest[EEPI_ETCD_KEY_BYTES];
    unsigned char bytes[EEPI_ETCD_REFERENCE_BYTES] = {0};
    eepi_etcd_text_clear(body);
    eepi_etcd_text_format(body, "{\"compare\":[");
    if (write->compares) {
        eepi_etcd_text_format(body, "{");
        eepi_etcd_text_key(body, "key", full);
        eepi_etcd_text_format(body,
                              ",\"target\":\"MOD\",\"result\":\"EQUAL\",\"mod_revision\":\"%llu\"}",
                              (unsigned long long)write->expected);
    }
    if (reference) {
        eepi_etcd_manifest_key(api, write->key, reference, manifest);
        eepi_etcd_text_format(body, "%s{", write->compares ? "," : "");
        eepi_etcd_text_key(body, "key", manifest);
        eepi_etcd_text_format(body,
                              ",\"target\":\"MOD\",\"result\":\"EQUAL\",\"mod_revision\":\"%llu\"}",
                              (unsigned long long)reference->manifest);
        eepi_etcd_reference_encode(reference, bytes);
    }
    eepi_etcd_text_format(body, "],\"success\":[{\"request_put\":{");
    eepi_etcd_text_key(body, "key", full);
    eepi_etcd_text_format(body, ",\"value\":\"");
    if (reference) {
        eepi_etcd_text_base64(body, bytes, sizeof bytes, NULL, 0);
    } else {
        eepi_etcd_text_base64(body, bytes, 1, write->value, write->size);
    }
    eepi_etcd_text_format(body, "\",\"lease\":\"%llu\",\"prev_kv\":true}}],",
                          (unsigned long long)write->lease);
    eepi_etcd_text_format(body, "\"failure\":[{\"request_range\":{");
    eepi_etcd_text_key(body, "key", full);
    eepi_etcd_text_format(body, "}}]}");
}

/* What one operation of a transaction answered. */
static const cJSON *answer_of(const cJSON *answer, const char *name)
{
    const cJSON *one = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(answer, "responses"), 0);
    return cJSON_GetObjectItemCaseSensitive(one, name);
}

/* Have we replaced a reference? */
static void note_base(const cJSON *answer, eepi_etcd_value *value)
{
    const cJSON *before =
        cJSON_GetObjectItemCaseSensitive(answer_of(answer, "response_put"), "prev_kv");
    eepi_etcd_entry entry = {0};
    if (before && eepi_etcd_api_entry(before, 0, &entry)) {
        value->has_base = eepi_etcd_reference_decode(entry.bytes, entry.size, &value->base);
        free_entry(&entry);
    }
}

/* The transaction failed. EEP_ERR_CONFLICT with what is there; EEP_ERR_TIMEOUT: the key is as
 * expected, so our document was collected: once more. */
static eep_status see_conflict(eepi_etcd_api *api, const eepi_etcd_write *write,
                               const cJSON *answer, eepi_etcd_value *value_out)
{
    const cJSON *kvs = cJSON_GetObjectItemCaseSensitive(answer_of(answer, "response_range"), "kvs");
    const cJSON *kv = cJSON_GetArrayItem(kvs, 0);
    eepi_etcd_entry entry = {0};
    eep_status status;
    if (!write->compares || (kv ? eepi_etcd_number(kv, "mod_revision") : 0) == write->expected) {
        return EEP_ERR_TIMEOUT;
    }
    *value_out = (eepi_etcd_value){0};
    if (!kv) {
        return EEP_ERR_CONFLICT;
    }
    if (!eepi_etcd_api_entry(kv, 0, &entry)) {
        return EEP_ERR_UNREACHABLE;
    }
    status = eepi_etcd_value_of(api, write->key, &entry, value_out);
    if (status == EEP_ERR_NOT_FOUND) {
        *value_out = (eepi_etcd_value){0};
    }
    return status == EEP_OK || status == EEP_ERR_NOT_FOUND ? EEP_ERR_CONFLICT : status;
}

eep_status eepi_etcd_value_commit(eepi_etcd_api *api, const eepi_etcd_write *write,
                                  const eepi_etcd_reference *reference, eepi_etcd_value *value_out)
{
    char full[EEPI_ETCD_KEY_BYTES];
    cJSON *answer = NULL;
    eep_status status;
    (void)eepi_etcd_key_of(api, write->key, full);
    make_transaction(api, write, full, reference);
    status = eepi_etcd_api_call(api, "/v3/kv/txn", &answer);
    if (status != EEP_OK) {
        return status;
    }
    if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(answer, "succeeded"))) {
        *value_out =
            (eepi_etcd_value){.revision = eepi_etcd_number(
                                  cJSON_GetObjectItemCaseSensitive(answer, "header"), "revision")};
        note_base(answer, value_out);
    } else {
        status = see_conflict(api, write, answer, value_out);
    }
    cJSON_Delete(answer);
    return status;
}

eep_status eepi_etcd_value_write(eepi_etcd_api *api, const eepi_etcd_write *write,
                                 eepi_etcd_value *value_out)
{
    const bool is_document = write->size > EEPI_ETCD_INLINE_BYTES;
    eep_status status = EEP_ERR_TIMEOUT;
    for (int i = 0; i < WRITE_TRIES && status == EEP_ERR_TIMEOUT; i++) {
        eepi_etcd_reference reference;
        status = EEP_OK;
        if (is_document) {
            status = eepi_etcd_document_put(api, write->key, write->value, write->size, &reference);
        }
        if (status == EEP_OK) {
            status = eepi_etcd_value_commit(api, write, is_document ? &reference : NULL, value_out);
        }
    }
    return status == EEP_ERR_TIMEOUT ? EEP_ERR_UNREACHABLE : status;
}

eep_status eepi_etcd_value_remove(eepi_etcd_api *api, const char *key)
{
    char full[EEPI_ETCD_KEY_BYTES];
    cJSON *answer = NULL;
    uint64_t num;
    eep_status status;
    (void)eepi_etcd_key_of(api, key, full);
    eepi_etcd_text_clear(&api->body);
    eepi_etcd_text_format(&api->body, "{");
    eepi_etcd_text_key(&api->body, "key", full);
    eepi_etcd_text_format(&api->body, "}");
    status = eepi_etcd_api_call(api, "/v3/kv/deleterange", &answer);
    if (status != EEP_OK) {
        return status;
    }
    num = eepi_etcd_number(answer, "deleted");
    cJSON_Delete(answer);
    return num > 0 ? EEP_OK : EEP_ERR_NOT_FOUND;
}
