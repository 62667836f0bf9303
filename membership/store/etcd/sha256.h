/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 (FIPS 180-4): the name of a document, and the proof that a reader has all of it. Pure. */
#ifndef EEPI_SHA256_H
#define EEPI_SHA256_H

#include <stddef.h>

enum { EEPI_SHA256_BYTES = 32 };

void eepi_sha256(const void *bytes, size_t size, unsigned char digest_out[EEPI_SHA256_BYTES]);
#endif
