/* SPDX-License-Identifier: Apache-2.0 */
#include "membership/store/etcd/etcd_http.h"

#include "graphs/base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef EEP_HAS_CURL
#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/socket.h>

enum {
    URL_BYTES = 256,
    SLICE_MS = 50,
    STREAM_MAX_BYTES = 256 << 20,
    CONNECT_MS = 200, /* with its certificates; twice as long in the next round of endpoints, */
    MOST_CONNECT_MS = 700, /* and so long at most */
    UNHEARD_MS = 400 /* the endpoint's kernel acknowledges nothing for so long: its host is gone */
};

static struct curl_calls {
    CURLcode (*global_init)(long flags);
    CURL *(*easy_init)(void);
    CURLcode (*easy_setopt)(CURL *easy, CURLoption option, ...);
    void (*easy_reset)(CURL *easy);
    void (*easy_cleanup)(CURL *easy);
    struct curl_slist *(*slist_append)(struct curl_slist *list, const char *text);
    void (*slist_free_all)(struct curl_slist *list);
    CURLM *(*multi_init)(void);
    CURLMcode (*multi_add_handle)(CURLM *multi, CURL *easy);
    CURLMcode (*multi_remove_handle)(CURLM *multi, CURL *easy);
    CURLMcode (*multi_perform)(CURLM *multi, int *running);
    CURLMcode (*multi_poll)(CURLM *multi, struct curl_waitfd fds[], unsigned int num_fds,
                            int timeout_ms, int *num_out);
    CURLMsg *(*multi_info_read)(CURLM *multi, int *left);
    CURLMcode (*multi_cleanup)(CURLM *multi);
} calls;
static bool has_calls;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static bool find(void *library, const char *name, void *call_out)
{
    void *found = dlsym(library, name);
    memcpy(call_out, &found, sizeof found);
    return found != NULL;
}

static void load(void)
{
    const struct {
        const char *name;
        void *call;
    } wanted[] = {
        {"curl_global_init", &calls.global_init},
        {"curl_easy_init", &calls.easy_init},
        {"curl_easy_setopt", &calls.easy_setopt},
        {"curl_easy_reset", &calls.easy_reset},
        {"curl_easy_cleanup", &calls.easy_cleanup},
        {"curl_slist_append", &calls.slist_append},
        {"curl_slist_free_all", &calls.slist_free_all},
        {"curl_multi_init", &calls.multi_init},
        {"curl_multi_add_handle", &calls.multi_add_handle},
        {"curl_multi_remove_handle", &calls.multi_remove_handle},
        {"curl_multi_perform", &calls.multi_perform},
        {"curl_multi_poll", &calls.multi_poll},
        {"curl_multi_info_read", &calls.multi_info_read},
        {"curl_multi_cleanup", &calls.multi_cleanup},
    };
    void *library = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);
    bool has_all = library != NULL;
    for (size_t i = 0; has_all && i < sizeof wanted / sizeof *wanted; i++) {
        has_all = find(library, wanted[i].name, wanted[i].call);
    }
    has_calls = has_all && calls.global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
}

/* One transfer. */
typedef struct transfer {
    CURL *easy;
    struct curl_slist *headers;
    eepi_etcd_text body, answer;
    bool runs, failed;
    bool is_refused; /* by a certificate: asking again would not help */
    uint64_t began_us;
    char why[CURL_ERROR_SIZE];
} transfer;

struct eepi_etcd_http {
    const eepi_store_url *url;
    const int *stop;
    int endpoint;
    int num_moves; /* as many rounds as the last answer took, and those since */
    CURLM *multi;
    transfer request, stream;
    size_t read; /* of the stream's answer: what was given out as lines */
    bool streams;
    char name[URL_BYTES];
};

static size_t take_bytes(char *bytes, size_t one, size_t num, void *user)
{
    transfer *t = user;
    if (t->answer.size + num > STREAM_MAX_BYTES) {
        return 0;
    }
    eepi_etcd_text_add(&t->answer, bytes, num);
    (void)one; /* always 1 */
    return t->answer.failed ? 0 : num;
}

static void end_transfer(eepi_etcd_http *http, transfer *t)
{
    if (t->runs) {
        (void)calls.multi_remove_handle(http->multi, t->easy);
        t->runs = false;
    }
    calls.slist_free_all(t->headers);
    t->headers = NULL;
}

static const char *given_or(const char *given, const char *variable)
{
    const char *text = getenv(variable);
    return given[0] || !text ? given : text;
}

/* A certificate of etcd's that this end does not believe, ours that etcd does not, or none. An
 * alert of TLS 1.3 about ours comes behind the handshake, with the first bytes that are read. */
static bool is_refusal(CURLcode result, const char *why)
{
    switch (result) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
        return true;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
        return strstr(why, "alert") != NULL && (strstr(why, "certificate") || strstr(why, " ca"));
    default:
        return false;
    }
}

/* false: a certificate has no key, or a key none. */
static bool set_tls(const eepi_etcd_http *http, CURL *easy)
{
    const char *ca = given_or(http->url->ca, "EEP_ETCD_CA");
    const char *cert = given_or(http->url->cert, "EEP_ETCD_CERT");
    const char *key = given_or(http->url->key, "EEP_ETCD_KEY");
    if (ca[0]) {
        (void)calls.easy_setopt(easy, CURLOPT_CAINFO, ca);
    }
    if (cert[0] && key[0]) {
        (void)calls.easy_setopt(easy, CURLOPT_SSLCERT, cert);
        (void)calls.easy_setopt(easy, CURLOPT_SSLKEY, key);
    }
    return !cert[0] == !key[0];
}

static bool add_header(transfer *t, const char *text)
{
    struct curl_slist *longer = calls.slist_append(t->headers, text);
    t->headers = longer ? longer : t->headers;
    return longer != NULL;
}

/* An etcd that is busy, or elects, is waited for: its kernel acknowledges what is sent. One whose
 * host is gone does not (rule N18): the connection ends, and libcurl would make another one to
 * where nobody is. */
static int take_socket(void *user, curl_socket_t fd, curlsocktype purpose)
{
    const transfer *t = user;
    const unsigned int unheard_ms = UNHEARD_MS;
    (void)purpose;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unheard_ms, sizeof unheard_ms);
    return eepi_now_us() - t->began_us < UNHEARD_MS * 1000u ? CURL_SOCKOPT_OK : CURL_SOCKOPT_ERROR;
}

/* Where a host is gone nobody refuses: its endpoint must not hold up the way to the next one. */
static long connect_ms(const eepi_etcd_http *http)
{
    const int round = http->num_moves / http->url->num_endpoints;
    return round < 2 ? (long)CONNECT_MS << round : MOST_CONNECT_MS;
}

static bool begin(eepi_etcd_http *http, transfer *t, const char *path, const char *body,
                  const char *token)
{
    char url[URL_BYTES * 2], authorization[1024];
    end_transfer(http, t);
    eepi_etcd_text_clear(&t->answer);
    eepi_etcd_text_clear(&t->body);
    eepi_etcd_text_add(&t->body, body, strlen(body));
    t->failed = t->is_refused = false;
    t->began_us = eepi_now_us();
    t->why[0] = '\0';
    snprintf(url, sizeof url, "%s://%s%s", http->url->tls ? "https" : "http", http->name, path);
    snprintf(authorization, sizeof authorization, "Authorization: %s", token);
    if (t->body.failed || !add_header(t, "Content-Type: application/json") ||
        !add_header(t, "Expect:") || (token[0] && !add_header(t, authorization)) ||
        (t == &http->stream && !add_header(t, "Grpc-Metadata-hasleader: true"))) {
        return false;
    }
    calls.easy_reset(t->easy);
    (void)calls.easy_setopt(t->easy, CURLOPT_URL, url);
    (void)calls.easy_setopt(t->easy, CURLOPT_PROXY, "");
    (void)calls.easy_setopt(t->easy, CURLOPT_NOSIGNAL, 1L);
    (void)calls.easy_setopt(t->easy, CURLOPT_CONNECTTIMEOUT_MS, connect_ms(http));
    (void)calls.easy_setopt(t->easy, CURLOPT_SOCKOPTFUNCTION, take_socket);
    (void)calls.easy_setopt(t->easy, CURLOPT_SOCKOPTDATA, t);
    (void)calls.easy_setopt(t->easy, CURLOPT_TCP_KEEPALIVE, 1L);
    (void)calls.easy_setopt(t->easy, CURLOPT_TCP_KEEPIDLE, 2L);
    (void)calls.easy_setopt(t->easy, CURLOPT_TCP_KEEPINTVL, 1L);
    (void)calls.easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->headers);
    (void)calls.easy_setopt(t->easy, CURLOPT_POSTFIELDS, t->body.bytes);
    (void)calls.easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)t->body.size);
    (void)calls.easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, take_bytes);
    (void)calls.easy_setopt(t->easy, CURLOPT_WRITEDATA, t);
    (void)calls.easy_setopt(t->easy, CURLOPT_ERRORBUFFER, t->why);
    if (http->url->tls && !set_tls(http, t->easy)) {
        snprintf(t->why, sizeof t->why, "EEP_ETCD_CERT and EEP_ETCD_KEY are given together");
        t->is_refused = true;
        return false;
    }
    t->runs = calls.multi_add_handle(http->multi, t->easy) == CURLM_OK;
    return t->runs;
}

/* Carry on with both transfers. */
static void perform(eepi_etcd_http *http)
{
    CURLMsg *message;
    int running = 0, left = 0;
    (void)calls.multi_perform(http->multi, &running);
    while ((message = calls.multi_info_read(http->multi, &left))) {
        transfer *t = message->easy_handle == http->request.easy ? &http->request : &http->stream;
        if (message->msg == CURLMSG_DONE) {
            t->failed = message->data.result != CURLE_OK;
            t->is_refused = t->failed && is_refusal(message->data.result, t->why);
            end_transfer(http, t);
        }
    }
}

static void name_endpoint(eepi_etcd_http *http)
{
    const eepi_store_endpoint *endpoint = &http->url->endpoint[http->endpoint];
    const bool is_v6 = strchr(endpoint->host, ':') != NULL;
    snprintf(http->name, sizeof http->name, "%s%s%s:%u", is_v6 ? "[" : "", endpoint->host,
             is_v6 ? "]" : "", (unsigned)endpoint->port);
}

eep_status eepi_etcd_http_open(const eepi_store_url *url, const int *stop,
                               eepi_etcd_http **http_out)
{
    eepi_etcd_http *http;
    (void)pthread_once(&once, load);
    if (!has_calls) {
        errno = ELIBACC;
        return EEP_ERR_SYSTEM;
    }
    http = calloc(1, sizeof *http);
    if (!http) {
        return EEP_ERR_NO_MEMORY;
    }
    http->url = url;
    http->stop = stop;
    http->multi = calls.multi_init();
    http->request.easy = calls.easy_init();
    http->stream.easy = calls.easy_init();
    name_endpoint(http);
    if (!http->multi || !http->request.easy || !http->stream.easy) {
        eepi_etcd_http_close(http);
        return EEP_ERR_NO_MEMORY;
    }
    *http_out = http;
    return EEP_OK;
}

static void free_transfer(eepi_etcd_http *http, transfer *t)
{
    end_transfer(http, t);
    if (t->easy) {
        calls.easy_cleanup(t->easy);
    }
    eepi_etcd_text_free(&t->body);
    eepi_etcd_text_free(&t->answer);
}

void eepi_etcd_http_close(eepi_etcd_http *http)
{
    if (!http) {
        return;
    }
    free_transfer(http, &http->request);
    free_transfer(http, &http->stream);
    if (http->multi) {
        (void)calls.multi_cleanup(http->multi);
    }
    free(http);
}

void eepi_etcd_http_move(eepi_etcd_http *http)
{
    eepi_etcd_http_end_stream(http);
    http->endpoint = (http->endpoint + 1) % http->url->num_endpoints;
    http->num_moves += http->num_moves < 3 * http->url->num_endpoints;
    name_endpoint(http);
}

const char *eepi_etcd_http_endpoint(const eepi_etcd_http *http)
{
    return http->name;
}

eep_status eepi_etcd_http_post(eepi_etcd_http *http, const char *path, const char *body,
                               const char *token, uint64_t timeout_us, const char **answer_out)
{
    const uint64_t end_us = eepi_now_us() + timeout_us;
    if (!begin(http, &http->request, path, body, token)) {
        return http->request.is_refused ? EEP_ERR_STATE : EEP_ERR_UNREACHABLE;
    }
    perform(http);
    while (http->request.runs) {
        int num = 0;
        if (eepi_now_us() >= end_us || __atomic_load_n(http->stop, __ATOMIC_ACQUIRE)) {
            end_transfer(http, &http->request);
            return EEP_ERR_UNREACHABLE;
        }
        (void)calls.multi_poll(http->multi, NULL, 0, SLICE_MS, &num);
        perform(http);
    }
    if (http->request.is_refused) {
        return EEP_ERR_STATE;
    }
    if (http->request.failed || !http->request.answer.bytes) {
        return EEP_ERR_UNREACHABLE;
    }
    http->num_moves -= http->num_moves % http->url->num_endpoints; /* the patience that it took */
    *answer_out = http->request.answer.bytes;
    return EEP_OK;
}

const char *eepi_etcd_http_why(const eepi_etcd_http *http)
{
    return http->request.why;
}

eep_status eepi_etcd_http_stream(eepi_etcd_http *http, const char *path, const char *body,
                                 const char *token)
{
    http->read = 0;
    http->streams = begin(http, &http->stream, path, body, token);
    if (!http->streams) {
        return EEP_ERR_UNREACHABLE;
    }
    perform(http);
    return EEP_OK;
}

void eepi_etcd_http_end_stream(eepi_etcd_http *http)
{
    end_transfer(http, &http->stream);
    eepi_etcd_text_clear(&http->stream.answer);
    http->read = 0;
    http->streams = false;
}

char *eepi_etcd_http_line(eepi_etcd_http *http)
{
    eepi_etcd_text *answer = &http->stream.answer;
    char *line = answer->bytes ? answer->bytes + http->read : NULL;
    char *end = line ? memchr(line, '\n', answer->size - http->read) : NULL;
    if (end) {
        *end = '\0';
        http->read = (size_t)(end + 1 - answer->bytes);
        return line;
    }
    if (http->read > 0) {
        answer->size -= http->read;
        memmove(answer->bytes, answer->bytes + http->read, answer->size + 1);
        http->read = 0;
    }
    return NULL;
}

bool eepi_etcd_http_stream_ended(const eepi_etcd_http *http)
{
    return http->streams && !http->stream.runs;
}

void eepi_etcd_http_wait(eepi_etcd_http *http, const int *fds, int num_fds, uint64_t timeout_us)
{
    struct curl_waitfd set[4];
    int num = 0;
    for (int i = 0; i < num_fds && i < 4; i++) {
        set[i] = (struct curl_waitfd){.fd = fds[i], .events = CURL_WAIT_POLLIN};
    }
    (void)calls.multi_poll(http->multi, set, (unsigned)num_fds, (int)((timeout_us + 999) / 1000),
                           &num);
    perform(http);
}
#else
eep_status eepi_etcd_http_open(const eepi_store_url *url, const int *stop,
                               eepi_etcd_http **http_out)
{
    (void)url, (void)stop, (void)http_out;
    errno = ELIBACC;
    return EEP_ERR_SYSTEM;
}
void eepi_etcd_http_close(eepi_etcd_http *http)
{
    (void)http;
}
void eepi_etcd_http_move(eepi_etcd_http *http)
{
    (void)http;
}
const char *eepi_etcd_http_endpoint(const eepi_etcd_http *http)
{
    (void)http;
    return "";
}
const char *eepi_etcd_http_why(const eepi_etcd_http *http)
{
    (void)http;
    return "";
}
eep_status eepi_etcd_http_post(eepi_etcd_http *http, const char *path, const char *body,
                               const char *token, uint64_t timeout_us, const char **answer_out)
{
    (void)http, (void)path, (void)body, (void)token, (void)timeout_us, (void)answer_out;
    return EEP_ERR_UNREACHABLE;
}
eep_status eepi_etcd_http_stream(eepi_etcd_http *http, const char *path, const char *body,
                                 const char *token)
{
    (void)http, (void)path, (void)body, (void)token;
    return EEP_ERR_UNREACHABLE;
}
void eepi_etcd_http_end_stream(eepi_etcd_http *http)
{
    (void)http;
}
char *eepi_etcd_http_line(eepi_etcd_http *http)
{
    (void)http;
    return NULL;
}
bool eepi_etcd_http_stream_ended(const eepi_etcd_http *http)
{
    (void)http;
    return true;
}
void eepi_etcd_http_wait(eepi_etcd_http *http, const int *fds, int num_fds, uint64_t timeout_us)
{
    (void)http, (void)fds, (void)num_fds, (void)timeout_us;
}
#endif
