/* SPDX-License-Identifier: Apache-2.0 */
/* etcd's calls, one at a time: what is sent, what an answer means, who may ask. Keys are those of
 * etcd, with the prefix. One thread. */
#ifndef EEPI_ETCD_API_H
#define EEPI_ETCD_API_H

#include "membership/store/etcd/etcd_http.h"

enum {
    EEPI_ETCD_KEY_BYTES = 320,
    EEPI_ETCD_WHY_BYTES = 240,
    EEPI_ETCD_TOKEN_BYTES = 768,
    EEPI_ETCD_DIGEST_BYTES = 32
}; /* SHA-256 */

typedef struct eepi_etcd_api {
    const eepi_store_url *url;
    eepi_etcd_http *http;
    char token[EEPI_ETCD_TOKEN_BYTES]; /* "": none yet, or no user */
    uint64_t cluster;                  /* the first that answered; 0: none has */
    uint64_t revision;                 /* the highest that a linearizable answer has shown */
    eepi_etcd_text body;               /* of the next call */
    eepi_etcd_text mine;               /* for whoever makes a value of several parts */
    char why[EEPI_ETCD_WHY_BYTES];     /* the last call that was refused, or not answered */
    /* The document that was written or read last (etcd_documents.h). */
    unsigned char cached[EEPI_ETCD_DIGEST_BYTES];
    unsigned char *document;
    size_t document_bytes;
} eepi_etcd_api;

/* A key as etcd has it. */
typedef struct eepi_etcd_entry {
    char *key;            /* without the prefix that was asked for */
    unsigned char *bytes; /* of its value */
    size_t size;
    uint64_t revision; /* of its last write */
} eepi_etcd_entry;

EEP_MUST_CHECK eep_status eepi_etcd_api_open(const eepi_store_url *url, const int *stop,
                                             eepi_etcd_api *api_out);
void eepi_etcd_api_close(eepi_etcd_api *api);
/* What `body` says to `path`. EEP_OK: the answer, for cJSON_Delete. Definitely without effect are
 * EEP_ERR_NO_MEMORY (full, or too many requests), EEP_ERR_INVALID (too big), EEP_ERR_STATE (this
 * user may not, or this cluster has forgotten), EEP_ERR_NOT_FOUND (a lease), EEP_ERR_CONFLICT (a
 * lease that is there). EEP_ERR_UNREACHABLE: nobody knows. */
EEP_MUST_CHECK eep_status eepi_etcd_api_call(eepi_etcd_api *api, const char *path,
                                             cJSON **answer_out);
/* It answers, by a quorum, it is the cluster that it was, and it has forgotten nothing. */
EEP_MUST_CHECK eep_status eepi_etcd_api_probe(eepi_etcd_api *api);
/* The value of a key; its bytes are for free(). EEP_ERR_NOT_FOUND. */
EEP_MUST_CHECK eep_status eepi_etcd_api_get(eepi_etcd_api *api, const char *key,
                                            eepi_etcd_entry *entry_out);
/* What a JSON key-value pair says; `skip` bytes of the key are left out. false: no memory, or
 * nonsense. Both parts are for free(). */
bool eepi_etcd_api_entry(const cJSON *kv, size_t skip, eepi_etcd_entry *entry_out);
/* EEP_OK: the lease lives for ttl_s from when this was sent, new or renewed. */
EEP_MUST_CHECK eep_status eepi_etcd_api_lease(eepi_etcd_api *api, uint64_t lease, uint64_t ttl_s);
/* EEP_ERR_NOT_FOUND: it had ended. */
EEP_MUST_CHECK eep_status eepi_etcd_api_renew(eepi_etcd_api *api, uint64_t lease);
#endif
