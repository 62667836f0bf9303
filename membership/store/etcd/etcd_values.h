/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of a store as etcd holds them: below PREFIX k/, small values in place, big ones as
 * documents. A value's revision is the key's mod revision. One thread. */
#ifndef EEPI_ETCD_VALUES_H
#define EEPI_ETCD_VALUES_H

#include "membership/store/etcd/etcd_documents.h"

typedef struct eepi_etcd_write {
    const char *key; /* the store's, without the prefix */
    const void *value;
    size_t size;
    bool compares;
    uint64_t expected; /* revision; 0: no such key */
    uint64_t lease;    /* 0: none */
} eepi_etcd_write;

/* A value for its user. */
typedef struct eepi_etcd_value {
    uint64_t revision;
    const unsigned char *bytes;
    size_t size;
    eepi_etcd_entry entry; /* what `bytes` may point into */
    bool has_base;         /* a write has replaced `base`: what is older may be collected */
    eepi_etcd_reference base;
} eepi_etcd_value;

/* The key as etcd has it; returns its bytes. */
size_t eepi_etcd_key_of(const eepi_etcd_api *api, const char *key,
                        char key_out[EEPI_ETCD_KEY_BYTES]);
/* What an entry of etcd says; takes the entry over. A reference whose document is gone is read
 * again: *value_out may be of a newer revision. EEP_ERR_NOT_FOUND: the key is gone meanwhile.
 * EEP_ERR_PROTOCOL: it is no value of this store, or a piece is missing twice at one revision.
 * Otherwise *value_out is for _free; its bytes are valid until the next call about values. */
EEP_MUST_CHECK eep_status eepi_etcd_value_of(eepi_etcd_api *api, const char *key,
                                             eepi_etcd_entry *entry, eepi_etcd_value *value_out);
void eepi_etcd_value_free(eepi_etcd_value *value);
EEP_MUST_CHECK eep_status eepi_etcd_value_get(eepi_etcd_api *api, const char *key,
                                              eepi_etcd_value *value_out);
/* EEP_OK with the new revision. EEP_ERR_CONFLICT with the present value in *value_out, for _free;
 * revision 0: there is none. EEP_ERR_NOT_FOUND: no such lease. As eepi_etcd_api_call otherwise. */
EEP_MUST_CHECK eep_status eepi_etcd_value_write(eepi_etcd_api *api, const eepi_etcd_write *write,
                                                eepi_etcd_value *value_out);
/* The second half of a write of a document, or all of a small one's (reference NULL).
 * EEP_ERR_TIMEOUT: nothing is written, since the document is not there any more (rule N15). */
EEP_MUST_CHECK eep_status eepi_etcd_value_commit(eepi_etcd_api *api, const eepi_etcd_write *write,
                                                 const eepi_etcd_reference *reference,
                                                 eepi_etcd_value *value_out);
/* EEP_ERR_NOT_FOUND: there was none. */
EEP_MUST_CHECK eep_status eepi_etcd_value_remove(eepi_etcd_api *api, const char *key);
/* All keys below a prefix, in byte order, as of one revision of the store. */
EEP_MUST_CHECK eep_status eepi_etcd_value_list(eepi_etcd_api *api, const char *prefix,
                                               cJSON **answer_out, uint64_t *revision_out);
#endif
