/* SPDX-License-Identifier: Apache-2.0 */
/* Loads of late, of this rank and of all members. Service thread. */
#ifndef EEPI_GATHER_H
#define EEPI_GATHER_H

#include "eep/eep.h"
#include "transport/bulk/bulk.h"

#include <stdbool.h>

struct eepi_gather;

/* The layer of the blob that is a rank's loads of late; its expert is 0. */
enum { EEPI_LOADS_LAYER = -1 };

/* Where the copier of a peer is asked; 0 bytes: not known. */
typedef size_t (*eepi_copier_address_fn)(void *context, int32_t seat, const void **address_out);

/* EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_gather_open(eep_context *context);
void eepi_gather_close(eep_context *context);
/* Go on, if it is time. True: the membership core is to be told of *loads_out (NULL: nothing is
 * known), which stays as it is until the next call. */
bool eepi_gather_go_on(eep_context *context, eepi_copier_address_fn address,
                       const uint32_t **loads_out);
/* Loads as bytes for others, until the next call; and back. NULL: they are of another shape. */
const void *eepi_gather_say(eep_context *context, const uint32_t *loads, size_t *bytes_out);
const uint32_t *eepi_gather_read(const eep_config *config, const void *bytes, size_t size);
/* A transfer has ended. False: it is another one's. */
bool eepi_gather_fetched(eep_context *context, uint64_t transfer, eep_status status);
/* Name what a peer asks for; that is read no more. */
int eepi_gather_serve(eep_context *context, eepi_bulk_part *parts_out);
void eepi_gather_served(eep_context *context, const eepi_bulk_part *parts, int num_parts);
#endif
