/* SPDX-License-Identifier: Apache-2.0 */
#include "membership/store/store_url.h"

#include "transport/secure/tcp_socket.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ETCD_PORT = 2379, TIMEOUT_MS = 1500, TIMEOUT_MOST_MS = 60 * 1000, WHY_BYTES = 320 };
#define DEFAULT_PREFIX "eep/"

/* What is left of the text, and where to say what is wrong with it. */
typedef struct reader {
    char text[EEPI_STORE_URL_BYTES];
    char *why;
    size_t why_bytes;
} reader;

__attribute__((format(printf, 2, 3))) static eep_status wrong(const reader *r, const char *format,
                                                              ...)
{
    if (r->why && r->why_bytes > 0) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(r->why, r->why_bytes, format, arguments);
        va_end(arguments);
    }
    return EEP_ERR_INVALID;
}

static eep_status take_path(const reader *r, const char *text, char path_out[])
{
    size_t bytes = strlen(text);
    if (bytes == 0 || bytes >= EEPI_STORE_SOCKET_BYTES) {
        return wrong(r, "the path of a store has 1 to %d bytes, this one has %zu",
                     EEPI_STORE_SOCKET_BYTES - 1, bytes);
    }
    memcpy(path_out, text, bytes + 1);
    return EEP_OK;
}

static bool copy(char *to, size_t bytes, const char *from)
{
    size_t length = strlen(from);
    if (length >= bytes) {
        return false;
    }
    memcpy(to, from, length + 1);
    return true;
}

/* HOST:PORT, [ADDRESS]:PORT; without a port the default, if there is one. */
static eep_status take_endpoint(const reader *r, char *text, int default_port, eepi_store_url *url)
{
    eepi_store_endpoint *endpoint = &url->endpoint[url->num_endpoints];
    char *host = text, *port = NULL, *end = NULL;
    long number = default_port;
    if (url->num_endpoints == EEPI_STORE_ENDPOINTS_MAX) {
        return wrong(r, "more than %d endpoints", EEPI_STORE_ENDPOINTS_MAX);
    }
    if (*text == '[') {
        host = text + 1;
        end = strchr(host, ']');
        if (!end || (end[1] != '\0' && end[1] != ':')) {
            return wrong(r, "'%s': an address in brackets is [ADDRESS]:PORT", text);
        }
        port = end[1] == ':' ? end + 2 : NULL;
    } else if ((end = strchr(text, ':'))) {
        port = end + 1;
    }
    if (port) {
        char *after = NULL;
        number = strtol(port, &after, 10);
        if (*port < '0' || *port > '9' || *after != '\0') {
            number = 0;
        }
    }
    if (number < 1 || number > 65535) {
        return wrong(r, "'%s': a port is a number from 1 to 65535", text);
    }
    if (end) {
        *end = '\0';
    }
    if (*host == '\0' || !copy(endpoint->host, sizeof endpoint->host, host) ||
        strpbrk(host, "/?#@\\ \t\"")) {
        return wrong(r, "'%.80s' is no host", host);
    }
    endpoint->port = (uint16_t)number;
    url->num_endpoints++;
    return EEP_OK;
}

/* A parameter that is a text. false: there is none of that name. */
static bool take_text(const reader *r, const char *name, const char *value, eepi_store_url *url,
                      eep_status *status_out)
{
    const struct {
        eepi_store_scheme scheme;
        const char *name;
        char *to;
        size_t bytes;
    } texts[] = {
        {EEPI_STORE_ETCD, "password-file", url->password_file, sizeof url->password_file},
        {EEPI_STORE_ETCD, "ca", url->ca, sizeof url->ca},
        {EEPI_STORE_ETCD, "cert", url->cert, sizeof url->cert},
        {EEPI_STORE_ETCD, "key", url->key, sizeof url->key},
        {EEPI_STORE_TCP, "key-file", url->key_file, sizeof url->key_file},
        {EEPI_STORE_TCP, "instance", url->instance, sizeof url->instance},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (texts[i].scheme == url->scheme && strcmp(name, texts[i].name) == 0) {
            *status_out = copy(texts[i].to, texts[i].bytes, value)
                              ? EEP_OK
                              : wrong(r, "%s has more than %zu bytes", name, texts[i].bytes - 1);
            return true;
        }
    }
    return false;
}

static eep_status take_parameter(const reader *r, char *text, eepi_store_url *url)
{
    char *value = strchr(text, '=');
    eep_status status = EEP_OK;
    if (!value || value[1] == '\0') {
        return wrong(r, "'%s': a parameter is NAME=VALUE", text);
    }
    *value++ = '\0';
    if (strcmp(text, "local") == 0) {
        return take_path(r, value, url->path);
    }
    if (url->scheme == EEPI_STORE_ETCD && strcmp(text, "tls") == 0) {
        url->tls = strcmp(value, "1") == 0;
        return url->tls || strcmp(value, "0") == 0 ? EEP_OK : wrong(r, "tls is 0 or 1");
    }
    if (url->scheme == EEPI_STORE_ETCD && strcmp(text, "timeout-ms") == 0) {
        char *end = NULL;
        unsigned long ms = strtoul(value, &end, 10);
        url->timeout_ms = (uint32_t)ms;
        return *value >= '0' && *value <= '9' && *end == '\0' && ms > 0 && ms <= TIMEOUT_MOST_MS
                   ? EEP_OK
                   : wrong(r, "timeout-ms is 1 to %d", TIMEOUT_MOST_MS);
    }
    return take_text(r, text, value, url, &status)
               ? status
               : wrong(r, "'%s' is no parameter of such a store", text);
}

/* What lies behind the question mark. */
static eep_status take_parameters(const reader *r, char *text, eepi_store_url *url)
{
    char *rest = NULL;
    eep_status status = EEP_OK;
    for (char *one = text ? strtok_r(text, "&", &rest) : NULL; one && status == EEP_OK;
         one = strtok_r(NULL, "&", &rest)) {
        status = take_parameter(r, one, url);
    }
    return status;
}

static eep_status take_tcp(const reader *r, char *text, eepi_store_url *url)
{
    char *parameters = strchr(text, '?'), why[WHY_BYTES];
    const char *key_file = getenv("EEP_KEY_FILE");
    eep_status status;
    if (parameters) {
        *parameters++ = '\0';
    }
    url->scheme = EEPI_STORE_TCP;
    status = take_endpoint(r, text, 0, url);
    if (status == EEP_OK) {
        status = take_parameters(r, parameters, url);
    }
    if (status == EEP_OK && url->key_file[0] == '\0' && key_file &&
        !copy(url->key_file, sizeof url->key_file, key_file)) {
        status = wrong(r, "EEP_KEY_FILE has more than %zu bytes", sizeof url->key_file - 1);
    }
    for (const char *at = url->instance; status == EEP_OK && *at; at++) {
        if (*at < 0x20 || *at > 0x7e) {
            status = wrong(r, "an instance is named with printable ASCII characters");
        }
    }
    if (status == EEP_OK && eepi_tcp_check_host(url->endpoint[0].host, url->key_file[0] != '\0',
                                                why, sizeof why) != EEP_OK) {
        status = wrong(r, "tcp://%s", why);
    }
    return status;
}

static eep_status take_prefix(const reader *r, const char *text, eepi_store_url *url)
{
    size_t bytes = strlen(text);
    const bool has_slash = bytes > 0 && text[bytes - 1] == '/';
    if (bytes == 0) {
        return EEP_OK;
    }
    if (bytes + !has_slash >= sizeof url->prefix) {
        return wrong(r, "a prefix of more than %zu bytes", sizeof url->prefix - 2);
    }
    snprintf(url->prefix, sizeof url->prefix, "%s%s", text, has_slash ? "" : "/");
    return EEP_OK;
}

static eep_status take_etcd(const reader *r, char *text, eepi_store_url *url)
{
    char *parameters = strchr(text, '?'), *prefix, *user, *rest = NULL;
    eep_status status = EEP_OK;
    if (parameters) {
        *parameters++ = '\0';
    }
    prefix = strchr(text, '/');
    if (prefix) {
        *prefix++ = '\0';
    }
    user = strchr(text, '@');
    if (user) {
        *user++ = '\0';
        if (strchr(text, ':')) {
            return wrong(r, "a password stands in a file of mode 0600 (password-file=PATH), or in "
                            "EEP_ETCD_PASSWORD, and never in an address");
        }
        if (*text == '\0' || !copy(url->user, sizeof url->user, text)) {
            return wrong(r, "a user has 1 to %zu bytes", sizeof url->user - 1);
        }
        text = user;
    }
    url->scheme = EEPI_STORE_ETCD;
    url->timeout_ms = TIMEOUT_MS;
    strcpy(url->prefix, DEFAULT_PREFIX);
    for (char *one = strtok_r(text, ",", &rest); one && status == EEP_OK;
         one = strtok_r(NULL, ",", &rest)) {
        status = take_endpoint(r, one, ETCD_PORT, url);
    }
    if (status == EEP_OK && url->num_endpoints == 0) {
        return wrong(r, "etcd:// names no host");
    }
    if (status == EEP_OK && prefix) {
        status = take_prefix(r, prefix, url);
    }
    status = status == EEP_OK ? take_parameters(r, parameters, url) : status;
    if (status == EEP_OK && (url->cert[0] == '\0') != (url->key[0] == '\0')) {
        return wrong(r, "cert and key are given together");
    }
    if (status == EEP_OK && !url->tls && (url->ca[0] || url->cert[0])) {
        return wrong(r, "ca, cert and key need tls=1");
    }
    return status;
}

eep_status eepi_store_url_parse(const char *text, eepi_store_url *url_out, char *why,
                                size_t why_bytes)
{
    reader r = {.why = why, .why_bytes = why_bytes};
    eepi_store_url url = {.scheme = EEPI_STORE_UNIX};
    const char *colon = strstr(text, "://");
    eep_status status;
    if (!colon || strchr(text, '/') < colon) { /* a path, even where it contains such a thing */
        status = take_path(&r, strncmp(text, "unix:", 5) == 0 ? text + 5 : text, url.path);
    } else if (!copy(r.text, sizeof r.text, text)) {
        status = wrong(&r, "an address has at most %d bytes", EEPI_STORE_URL_BYTES - 1);
    } else if (strncmp(text, "tcp://", 6) == 0) {
        status = take_tcp(&r, r.text + 6, &url);
    } else if (strncmp(text, "etcd://", 7) == 0) {
        status = take_etcd(&r, r.text + 7, &url);
    } else if (strncmp(text, "unix://", 7) == 0) {
        status = take_path(&r, text + 7, url.path);
    } else {
        status = wrong(&r, "'%.*s' is no kind of store: a path, unix:PATH, tcp:// or etcd://",
                       (int)(colon - text), text);
    }
    if (status == EEP_OK) {
        *url_out = url;
    }
    return status;
}
