/* SPDX-License-Identifier: Apache-2.0 */
/* What ranks write into the store, as bytes. Encoding fills a buffer that the caller frees;
 * decoding checks every length and index, and points into the given bytes (8-byte aligned). */
#ifndef EEPI_RECORDS_H
#define EEPI_RECORDS_H

#include "membership/core/core.h"
#include "transport/proxy/lane_address.h"
#include "transport/window/window.h"

#include <stdbool.h>

/* Keys. Those of a seat are followed by its number; reports and acknowledgements also by the
 * generation of whoever puts them (rule N20). */
#define EEPI_KEY_INSTANCE "instance"
#define EEPI_KEY_VIEW     "view"
#define EEPI_KEY_PLAN     "plan"
#define EEPI_KEY_MEMBER   "member/"
#define EEPI_KEY_WEDGE    "wedge"
#define EEPI_KEY_REPORT   "report/"
#define EEPI_KEY_ACK      "ack/"
#define EEPI_KEY_EXIT     "exit/"
#define EEPI_KEY_REFUSED  "refused/"
#define EEPI_KEY_LOADS    "loads"
#define EEPI_KEY_ORDER    "order/"
#define EEPI_KEY_PROBE    "probe/" /* written to see that the store takes it */
#define EEPI_KEY_LEASE    "lease/" /* of a seat and generation (rule N21) */

/* A process in a seat: how to reach it, and what it brings. */
typedef struct eepi_record {
    eepi_member member;
    int32_t pid;
    uint64_t pid_start;
    uint64_t home; /* where that pid means something */
    eepi_window_descriptor window;
    eepi_lane_address lane; /* of its network; all zero: it has none */
    const void *bulk_address;
    uint32_t bulk_address_bytes;
} eepi_record;

/* NULL: out of memory. */
void *eepi_record_encode(const eepi_record *record, const eepi_view_shape *shape,
                         size_t *bytes_out);
EEP_MUST_CHECK eep_status eepi_record_decode(const void *bytes, size_t size,
                                             const eepi_view_shape *shape, eepi_record *record_out);
/* Why bytes were refused: those of another version of libeep are named by their rank. */
void eepi_record_say_refused(const void *bytes, size_t size, char *text_out, size_t text_bytes);
void *eepi_report_encode(const eepi_report *report, size_t *bytes_out);
EEP_MUST_CHECK eep_status eepi_report_decode(const void *bytes, size_t size, int32_t max_ranks,
                                             eepi_report *report_out);
/* A placement that an engine ordered, with its wishes. */
void *eepi_order_encode(const eepi_order *order, const eepi_view_shape *shape, size_t *bytes_out);
EEP_MUST_CHECK eep_status eepi_order_decode(const void *bytes, size_t size,
                                            const eepi_view_shape *shape, eepi_order *order_out);
/* Acks, ends and wedges are their structs. */
EEP_MUST_CHECK eep_status eepi_ack_decode(const void *bytes, size_t size, int32_t max_ranks,
                                          eepi_ack *ack_out);
EEP_MUST_CHECK eep_status eepi_end_decode(const void *bytes, size_t size, int32_t max_ranks,
                                          eepi_end *end_out);
EEP_MUST_CHECK eep_status eepi_wedge_decode(const void *bytes, size_t size, int32_t max_ranks,
                                            eepi_wedge *wedge_out);

/* Why a process may not join, told to it by the planner. */
typedef struct eepi_refusal {
    int32_t seat;
    uint32_t generation;
    char why[EEPI_CORE_WHY_BYTES];
} eepi_refusal;
EEP_MUST_CHECK eep_status eepi_refusal_decode(const void *bytes, size_t size, int32_t max_ranks,
                                              eepi_refusal *refusal_out);

/* What must be the same on all ranks of an instance: put by the first that is opened. */
enum {
    EEPI_INSTANCE_NUMBERS = 22,
    EEPI_INSTANCE_ADVICE = 7,
    /* Of all that ranks of one instance tell each other: the document, records, reports, acks,
     * ends, wedges, windows, tags, collectives. Raised by one with each change of any of them. It
     * comes first, and each process compares it before it reads or writes anything else. Above
     * every max_ranks, which came first in records without it. */
    EEPI_PROTOCOL_VERSION = 2002,
};
typedef struct eepi_instance {
    int32_t numbers[EEPI_INSTANCE_NUMBERS];
    int32_t num_ranks;                     /* must be the same until the first view is there */
    uint64_t advice[EEPI_INSTANCE_ADVICE]; /* better the same: what differs is logged */
    uint64_t identity;                     /* of the instance, chosen by the rank that puts this */
} eepi_instance;
eepi_instance eepi_instance_of(const eep_config *config);
/* Its max_ranks, of any version; 0: nobody can tell. */
int32_t eepi_instance_seats(const void *bytes, size_t size);
/* The first piece of advice from `*at_out` on that differs, with both values; NULL: none does. */
const char *eepi_instance_advises(const eepi_instance *own, const eepi_instance *theirs,
                                  int *at_out);
enum { EEPI_INSTANCE_TEXT_BYTES = 160 };
/* Does a field of eep_config differ between `own` and the bytes in the store? If so, the text names
 * it with both values: "hidden is 16 here and 8 in the instance". */
bool eepi_instance_differs(const eepi_instance *own, const void *bytes, size_t size,
                           char text_out[EEPI_INSTANCE_TEXT_BYTES]);
#endif
