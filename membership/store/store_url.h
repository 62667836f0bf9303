/* SPDX-License-Identifier: Apache-2.0 */
/* Where a store is: the text that users give, taken apart (docs/STORES.md). Pure: no I/O. Any
 * thread.
 *
 *   PATH, unix:PATH                                          a unix socket of the embedded store
 *   tcp://HOST:PORT[?local=PATH]                             the embedded store over TCP
 *   etcd://[USER@]HOST[:PORT][,HOST[:PORT]...][/PREFIX][?NAME=VALUE[&NAME=VALUE]...]
 */
#ifndef EEPI_STORE_URL_H
#define EEPI_STORE_URL_H

#include "eep/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    EEPI_STORE_URL_BYTES = 1024, /* of a text, with the final NUL */
    EEPI_STORE_ENDPOINTS_MAX = 9,
    EEPI_STORE_HOST_BYTES = 128,
    EEPI_STORE_PREFIX_BYTES = 64,
    EEPI_STORE_FILE_BYTES = 256,
    EEPI_STORE_SOCKET_BYTES = 108, /* sun_path */
};

typedef enum eepi_store_scheme {
    EEPI_STORE_UNIX,
    EEPI_STORE_TCP,
    EEPI_STORE_ETCD,
} eepi_store_scheme;

typedef struct eepi_store_endpoint {
    char host[EEPI_STORE_HOST_BYTES]; /* a name or an address, without brackets */
    uint16_t port;
} eepi_store_endpoint;

typedef struct eepi_store_url {
    eepi_store_scheme scheme;
    /* UNIX: the socket. Otherwise `local`: the path that this host's own files are named after, as
     * PATH.seatN and PATH.holder; "": none is given. */
    char path[EEPI_STORE_SOCKET_BYTES];
    eepi_store_endpoint endpoint[EEPI_STORE_ENDPOINTS_MAX];
    int num_endpoints;
    /* TCP alone. */
    char key_file[EEPI_STORE_FILE_BYTES];   /* of the job's key, EEP_KEY_FILE included; "": none */
    char instance[EEPI_STORE_PREFIX_BYTES]; /* both ends say the same; "" */
    /* ETCD alone. */
    char prefix[EEPI_STORE_PREFIX_BYTES]; /* of all keys, with a slash at its end */
    char user[EEPI_STORE_PREFIX_BYTES];   /* "": none */
    char password_file[EEPI_STORE_FILE_BYTES];
    uint32_t timeout_ms; /* of a call */
    bool tls;
    char ca[EEPI_STORE_FILE_BYTES];   /* whom to believe; "": whom this machine believes */
    char cert[EEPI_STORE_FILE_BYTES]; /* ours, and its key; "": none */
    char key[EEPI_STORE_FILE_BYTES];
} eepi_store_url;

/* EEP_ERR_INVALID with the reason in `why`, which may be NULL with 0 bytes. */
EEP_MUST_CHECK eep_status eepi_store_url_parse(const char *text, eepi_store_url *url_out, char *why,
                                               size_t why_bytes);
#endif
