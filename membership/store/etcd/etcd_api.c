/* SPDX-License-Identifier: Apache-2.0 */
#include "membership/store/etcd/etcd_api.h"

#include "graphs/base/own_user.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { US_PER_MS = 1000, PASSWORD_BYTES = 256 };

#define NO_TLS "it ends the connection without an answer: does it want tls=1?"

/* The codes of gRPC that say that nothing was done. */
enum {
    GRPC_INVALID = 3,
    GRPC_NOT_FOUND = 5,
    GRPC_DENIED = 7,
    GRPC_EXHAUSTED = 8,
    GRPC_PRECONDITION = 9,
    GRPC_UNAUTHENTICATED = 16
};

eep_status eepi_etcd_api_open(const eepi_store_url *url, const int *stop, eepi_etcd_api *api_out)
{
    *api_out = (eepi_etcd_api){.url = url};
    return eepi_etcd_http_open(url, stop, &api_out->http);
}

void eepi_etcd_api_close(eepi_etcd_api *api)
{
    eepi_etcd_http_close(api->http);
    eepi_etcd_text_free(&api->body);
    eepi_etcd_text_free(&api->mine);
    free(api->document);
    explicit_bzero(api, sizeof *api);
}

static void say_why(eepi_etcd_api *api, const char *text)
{
    snprintf(api->why, sizeof api->why, "etcd at %s: %s", eepi_etcd_http_endpoint(api->http), text);
}

static eep_status status_of(uint64_t code)
{
    switch (code) {
    case GRPC_INVALID:
        return EEP_ERR_INVALID;
    case GRPC_NOT_FOUND:
        return EEP_ERR_NOT_FOUND;
    case GRPC_DENIED:
    case GRPC_UNAUTHENTICATED:
        return EEP_ERR_STATE;
    case GRPC_EXHAUSTED:
        return EEP_ERR_NO_MEMORY;
    case GRPC_PRECONDITION:
        return EEP_ERR_CONFLICT;
    default:
        return EEP_ERR_UNREACHABLE;
    }
}

/* Another cluster than the one that we know has forgotten all that we know (rule N19). */
static eep_status check_cluster(eepi_etcd_api *api, const cJSON *answer)
{
    const cJSON *header = cJSON_GetObjectItemCaseSensitive(answer, "header");
    uint64_t cluster = eepi_etcd_number(header, "cluster_id");
    if (cluster != 0 && api->cluster != 0 && cluster != api->cluster) {
        snprintf(api->why, sizeof api->why,
                 "etcd at %s has forgotten: its cluster is %llx, and was %llx",
                 eepi_etcd_http_endpoint(api->http), (unsigned long long)cluster,
                 (unsigned long long)api->cluster);
        return EEP_ERR_STATE;
    }
    api->cluster = api->cluster ? api->cluster : cluster;
    return EEP_OK;
}

static eep_status post(eepi_etcd_api *api, const char *path, const char *body, uint64_t *code_out,
                       cJSON **answer_out)
{
    const char *text = NULL;
    const cJSON *error;
    cJSON *answer;
    eep_status status = eepi_etcd_http_post(api->http, path, body, api->token,
                                            (uint64_t)api->url->timeout_ms * US_PER_MS, &text);
    *code_out = 0;
    if (status != EEP_OK) {
        const char *why = eepi_etcd_http_why(api->http);
        say_why(api, !why[0]                                                  ? "no answer"
                     : !api->url->tls && strncmp(why, "Empty reply", 11) == 0 ? NO_TLS
                                                                              : why);
        return status;
    }
    answer = cJSON_Parse(text);
    if (!answer) {
        snprintf(api->why, sizeof api->why, "etcd at %s: an answer that is no JSON: %.*s",
                 eepi_etcd_http_endpoint(api->http), (int)strcspn(text, "\r\n"), text);
        /* its gateway takes no name from a certificate, and refuses one that has it */
        return strstr(text, "CommonName") ? EEP_ERR_STATE : EEP_ERR_UNREACHABLE;
    }
    error = cJSON_GetObjectItemCaseSensitive(answer, "error");
    if (error) {
        *code_out = eepi_etcd_number(answer, "code");
        say_why(api, cJSON_IsString(error) ? error->valuestring : "an error");
        status = status_of(*code_out);
        cJSON_Delete(answer);
        return status;
    }
    status = check_cluster(api, answer);
    if (status != EEP_OK) {
        cJSON_Delete(answer);
        return status;
    }
    *answer_out = answer;
    return EEP_OK;
}

/* ---------------------------------------------------------------- who asks */

/* false: there is none that may be used, and `why` says so. */
static bool read_password(eepi_etcd_api *api, char password_out[PASSWORD_BYTES])
{
    const char *given = getenv("EEP_ETCD_PASSWORD");
    struct stat info;
    ssize_t got;
    int fd;
    if (!api->url->password_file[0]) {
        snprintf(password_out, PASSWORD_BYTES, "%s", given ? given : "");
        return true;
    }
    fd = open(api->url->password_file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || (info.st_mode & 0077) != 0 ||
        !eepi_user_is_trusted(info.st_uid)) {
        say_why(api, "the password's file cannot be read, or others can read it (mode 0600)");
        if (fd >= 0) {
            close(fd);
        }
        return false;
    }
    got = read(fd, password_out, PASSWORD_BYTES - 1);
    close(fd);
    password_out[got > 0 ? got : 0] = '\0';
    password_out[strcspn(password_out, "\r\n")] = '\0';
    return true;
}

static const char *user_of(const eepi_etcd_api *api)
{
    const char *given = getenv("EEP_ETCD_USER");
    return api->url->user[0] || !given ? api->url->user : given;
}

/* A token for the user of the address. */
static eep_status authenticate(eepi_etcd_api *api)
{
    char password[PASSWORD_BYTES] = "";
    uint64_t code;
    char *body = NULL;
    cJSON *answer = NULL, *ask = cJSON_CreateObject();
    eep_status status = EEP_ERR_STATE;
    api->token[0] = '\0';
    if (ask && read_password(api, password) && cJSON_AddStringToObject(ask, "name", user_of(api)) &&
        cJSON_AddStringToObject(ask, "password", password)) {
        body = cJSON_PrintUnformatted(ask);
    }
    cJSON_Delete(ask);
    explicit_bzero(password, sizeof password);
    if (body) {
        status = post(api, "/v3/auth/authenticate", body, &code, &answer);
        status = status == EEP_ERR_INVALID ? EEP_ERR_STATE : status;
        explicit_bzero(body, strlen(body));
        cJSON_free(body);
    }
    if (status == EEP_OK) {
        const cJSON *token = cJSON_GetObjectItemCaseSensitive(answer, "token");
        const char *text = cJSON_IsString(token) ? token->valuestring : "";
        if (!text[0] || strlen(text) >= sizeof api->token) {
            say_why(api, "no token for the user");
            status = EEP_ERR_STATE;
        } else {
            strcpy(api->token, text);
        }
        cJSON_Delete(answer);
    }
    return status;
}

eep_status eepi_etcd_api_call(eepi_etcd_api *api, const char *path, cJSON **answer_out)
{
    uint64_t code = 0;
    eep_status status = EEP_OK;
    if (api->body.failed) {
        say_why(api, "out of memory");
        return EEP_ERR_NO_MEMORY;
    }
    if (user_of(api)[0] && !api->token[0]) {
        status = authenticate(api);
    }
    if (status == EEP_OK) {
        status = post(api, path, api->body.bytes, &code, answer_out);
    }
    if (status != EEP_OK && code == GRPC_UNAUTHENTICATED && user_of(api)[0]) {
        status = authenticate(api); /* tokens end; nothing was done */
        status = status == EEP_OK ? post(api, path, api->body.bytes, &code, answer_out) : status;
    }
    return status;
}

/* ---------------------------------------------------------------- what is asked */

eep_status eepi_etcd_api_probe(eepi_etcd_api *api)
{
    cJSON *answer = NULL;
    uint64_t revision;
    eep_status status;
    eepi_etcd_text_clear(&api->body);
    eepi_etcd_text_format(&api->body, "{");
    eepi_etcd_text_key(&api->body, "key", api->url->prefix);
    eepi_etcd_text_format(&api->body, ",\"count_only\":true}");
    status = eepi_etcd_api_call(api, "/v3/kv/range", &answer);
    if (status != EEP_OK) { /* no user where one is needed is INVALID to etcd */
        return status == EEP_ERR_INVALID ? EEP_ERR_STATE : status;
    }
    revision = eepi_etcd_number(cJSON_GetObjectItemCaseSensitive(answer, "header"), "revision");
    cJSON_Delete(answer);
    if (revision < api->revision) {
        snprintf(api->why, sizeof api->why,
                 "etcd at %s has forgotten: its revision is %llu, and was %llu",
                 eepi_etcd_http_endpoint(api->http), (unsigned long long)revision,
                 (unsigned long long)api->revision);
        return EEP_ERR_STATE;
    }
    api->revision = revision;
    return EEP_OK;
}

bool eepi_etcd_api_entry(const cJSON *kv, size_t skip, eepi_etcd_entry *entry_out)
{
    size_t key_bytes = 0, size = 0;
    unsigned char *key = eepi_etcd_bytes(kv, "key", &key_bytes);
    unsigned char *bytes = eepi_etcd_bytes(kv, "value", &size);
    if (!key || !bytes || key_bytes < skip || strlen((char *)key) != key_bytes) {
        free(key);
        free(bytes);
        return false;
    }
    memmove(key, key + skip, key_bytes - skip + 1);
    *entry_out = (eepi_etcd_entry){.key = (char *)key,
                                   .bytes = bytes,
                                   .size = size,
                                   .revision = eepi_etcd_number(kv, "mod_revision")};
    return true;
}

eep_status eepi_etcd_api_get(eepi_etcd_api *api, const char *key, eepi_etcd_entry *entry_out)
{
    cJSON *answer = NULL;
    const cJSON *kv;
    eep_status status;
    eepi_etcd_text_clear(&api->body);
    eepi_etcd_text_format(&api->body, "{");
    eepi_etcd_text_key(&api->body, "key", key);
    eepi_etcd_text_format(&api->body, "}");
    status = eepi_etcd_api_call(api, "/v3/kv/range", &answer);
    if (status != EEP_OK) {
        return status;
    }
    kv = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(answer, "kvs"), 0);
    if (!kv) {
        status = EEP_ERR_NOT_FOUND;
    } else if (!eepi_etcd_api_entry(kv, 0, entry_out)) {
        say_why(api, "a value that cannot be read");
        status = EEP_ERR_UNREACHABLE;
    }
    cJSON_Delete(answer);
    return status;
}

eep_status eepi_etcd_api_renew(eepi_etcd_api *api, uint64_t lease)
{
    cJSON *answer = NULL;
    uint64_t ttl_s;
    eep_status status;
    eepi_etcd_text_clear(&api->body);
    eepi_etcd_text_format(&api->body, "{\"ID\":\"%llu\"}", (unsigned long long)lease);
    status = eepi_etcd_api_call(api, "/v3/lease/keepalive", &answer);
    if (status != EEP_OK) {
        return status;
    }
    ttl_s = eepi_etcd_number(cJSON_GetObjectItemCaseSensitive(answer, "result"), "TTL");
    cJSON_Delete(answer);
    return ttl_s > 0 ? EEP_OK : EEP_ERR_NOT_FOUND;
}

eep_status eepi_etcd_api_lease(eepi_etcd_api *api, uint64_t lease, uint64_t ttl_s)
{
    eep_status status = EEP_ERR_CONFLICT;
    for (int i = 0; i < 3 && status == EEP_ERR_CONFLICT; i++) {
        cJSON *answer = NULL;
        eepi_etcd_text_clear(&api->body);
        eepi_etcd_text_format(&api->body, "{\"ID\":\"%llu\",\"TTL\":\"%llu\"}",
                              (unsigned long long)lease, (unsigned long long)ttl_s);
        status = eepi_etcd_api_call(api, "/v3/lease/grant", &answer);
        if (status == EEP_OK) {
            cJSON_Delete(answer);
            return EEP_OK;
        }
        if (status == EEP_ERR_CONFLICT) { /* it lives: renew it, unless it ends just now */
            status = eepi_etcd_api_renew(api, lease);
            status = status == EEP_ERR_NOT_FOUND ? EEP_ERR_CONFLICT : status;
        }
    }
    return status == EEP_ERR_CONFLICT ? EEP_ERR_UNREACHABLE : status;
}
