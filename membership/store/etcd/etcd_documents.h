/* SPDX-License-Identifier: Apache-2.0 */
/* Big values: stored once by digest, in pieces; the key holds a reference (rules N15, N17).
 *
 *   PREFIX d/KEY/DIGEST/000000 ...   pieces, without a lease
 *   PREFIX d/KEY/DIGEST/m            the manifest, written last, in a transaction that has seen all
 *                                    pieces; KEY and DIGEST are digests
 *
 * A value begins with a byte: 0, and its own bytes follow; 1, and a reference follows. The
 * transaction that writes a reference compares that the manifest is the one of the reference. Who
 * has replaced a reference collects the documents of that key that are older than the one replaced:
 * readers may still need that one. One thread. */
#ifndef EEPI_ETCD_DOCUMENTS_H
#define EEPI_ETCD_DOCUMENTS_H

#include "membership/store/etcd/etcd_api.h"

enum {
    EEPI_ETCD_INLINE_BYTES = 32 * 1024, /* a value up to this stands in its key */
    EEPI_ETCD_PIECE_BYTES = 256 * 1024,
    EEPI_ETCD_REFERENCE_BYTES = 1 + EEPI_ETCD_DIGEST_BYTES + 8 + 8,
};

typedef struct eepi_etcd_reference {
    unsigned char digest[EEPI_ETCD_DIGEST_BYTES];
    uint64_t size;     /* bytes of the document */
    uint64_t manifest; /* revision of the manifest that the writer of the reference has seen */
} eepi_etcd_reference;

void eepi_etcd_reference_encode(const eepi_etcd_reference *reference,
                                unsigned char bytes_out[EEPI_ETCD_REFERENCE_BYTES]);
/* false: the value is no reference. */
bool eepi_etcd_reference_decode(const unsigned char *bytes, size_t size,
                                eepi_etcd_reference *reference_out);
/* Where the manifest is. */
void eepi_etcd_manifest_key(const eepi_etcd_api *api, const char *key,
                            const eepi_etcd_reference *reference,
                            char key_out[EEPI_ETCD_KEY_BYTES]);
/* Store the bytes as a document of `key`. */
EEP_MUST_CHECK eep_status eepi_etcd_document_put(eepi_etcd_api *api, const char *key,
                                                 const void *bytes, size_t size,
                                                 eepi_etcd_reference *reference_out);
/* All of the document, checked against its digest; borrowed until the next call about documents.
 * EEP_ERR_NOT_FOUND: a piece is missing, or is another's. */
EEP_MUST_CHECK eep_status eepi_etcd_document_get(eepi_etcd_api *api, const char *key,
                                                 const eepi_etcd_reference *reference,
                                                 const unsigned char **bytes_out);
/* Remove the documents of `key` that are older than `base`, whose successor we have committed. */
void eepi_etcd_documents_collect(eepi_etcd_api *api, const char *key,
                                 const eepi_etcd_reference *base);
#endif
