/* SPDX-License-Identifier: Apache-2.0 */
/* What the links between ranks carry, and what it costs to move weights over them. Pure data and
 * pure functions: no clock, no I/O, no random numbers. Rates are bytes per second.
 *
 * A transfer occupies every link of its path at once, and takes as long as its slowest one:
 *
 *   slot of a rank:   rank out -> PCIe out -> NIC out  ~~>  NIC in -> PCIe in -> rank in
 *   backup:           host -> rank out -> NIC out      ~~>  NIC in -> PCIe in -> rank in
 *   file:             file -> rank out -> NIC out      ~~>  NIC in -> PCIe in -> rank in
 *
 * Between ranks of one node there are no NICs, and a slot's bytes cross no PCIe link either
 * (NVLink, or shared memory). A rank's own backup and its own file have no "rank out". A NIC
 * belongs to one rank, or several ranks of a node share it: as long as nothing else is known, all
 * ranks of a node share one.
 *
 * Each link is a resource with a number. No rate is ever 0, so nobody divides by it: an unknown
 * rate is its default, and a link that is down is EEPI_LINKS_DOWN_RATE. */
#ifndef EEPI_LINK_COSTS_H
#define EEPI_LINK_COSTS_H

#include "membership/view/view.h"

enum {
    EEPI_LINKS_MAX_PATH = 6,
    /* Weights may still find a way where a NIC is down, by another network. So such a source is the
     * last resort, and not excluded: a plan without a source would fail closed. */
    EEPI_LINKS_DOWN_RATE = 1000000,
};

/* What a transfer reads from. */
typedef enum eepi_link_kind {
    EEPI_LINK_SLOT,        /* a slot of the source seat */
    EEPI_LINK_BACKUP,      /* a backup in host memory that the process in the source seat gives */
    EEPI_LINK_NODE_BACKUP, /* a backup that a node keeps; source: any seat of that node */
    EEPI_LINK_FILE,        /* a checkpoint file that the rank in the source seat reads */
    EEPI_LINK_KINDS
} eepi_link_kind;

/* Kinds of resources: six of each seat, then two of each node. */
typedef enum eepi_link {
    EEPI_LINK_RANK_OUT, /* what the rank gives to others, whatever the way */
    EEPI_LINK_RANK_IN,  /* what it takes in */
    EEPI_LINK_PCIE_OUT, /* from its device */
    EEPI_LINK_PCIE_IN,  /* to its device */
    EEPI_LINK_NIC_OUT,  /* of the NIC that the rank, perhaps with others, uses */
    EEPI_LINK_NIC_IN,
    EEPI_LINK_OF_SEAT,                  /* number of those */
    EEPI_LINK_HOST = EEPI_LINK_OF_SEAT, /* host memory of a node that is read */
    EEPI_LINK_FILES,                    /* files that a node reads */
    EEPI_LINK_TYPES
} eepi_link;

/* The numbers that a rank tells of itself, in its member record: MB/s (10^6 bytes per second). */
typedef enum eepi_rate {
    EEPI_RATE_OUT,    /* rank out */
    EEPI_RATE_IN,     /* rank in */
    EEPI_RATE_NIC,    /* each way, the NIC that it uses: the active ports of it */
    EEPI_RATE_PCIE,   /* each way */
    EEPI_RATE_FILE,   /* reading */
    EEPI_RATE_NIC_AT, /* no rate: which NIC that is on its node, by any number; 0: unknown */
    EEPI_NUM_RATES
} eepi_rate;
/* 0: unknown. Of rates, nothing between these two is one: */
#define EEPI_RATE_MAX  ((uint32_t)100000000) /* 100 TB/s */
#define EEPI_RATE_DOWN UINT32_MAX            /* that link is known to be down */
bool eepi_rates_are_sane(const uint32_t *rates);

typedef struct eepi_links eepi_links;

/* Links of an instance, all with default rates. NULL: no memory. */
eepi_links *eepi_links_new(const eepi_view_shape *shape);
void eepi_links_free(eepi_links *links);

/* Number of resources: they are 0 .. count-1. */
int32_t eepi_links_count(const eepi_links *links);
/* The resource of that kind that a seat uses (of its node; the shared one, for a NIC). */
int32_t eepi_links_resource(const eepi_links *links, int seat, eepi_link type);
/* Its bytes per second, at least 1. */
uint64_t eepi_links_rate(const eepi_links *links, int32_t resource);
/* What a link of that kind carries while nothing is known of it. */
uint64_t eepi_links_default_rate(eepi_link type);
/* "rank 3 out", "NIC of rank 8 in", "host memory of node 1". */
void eepi_links_name(const eepi_links *links, int32_t resource, char *text_out, size_t bytes);

/* What the rank in `seat` says of itself: rates[EEPI_NUM_RATES] as above. Ranks of a node that name
 * the same NIC share it from then on, at the lowest rate that one of them names; ranks that name
 * none share one NIC. The files of a node have the highest rate that a rank of it names. */
void eepi_links_set_seat(eepi_links *links, int seat, const uint32_t *rates);
/* Nothing is known of the rank in `seat` any more: another process will take it. */
void eepi_links_forget_seat(eepi_links *links, int seat);
/* Reading the host memory of each node carries so much, in MB/s, which no rank tells. For models.
 */
void eepi_links_set_host(eepi_links *links, uint32_t megabytes);
/* The links of a seat, as numbers of resources: what a path is put together from. */
typedef struct eepi_seat_links {
    int32_t seat, node;
    int32_t rank_out, rank_in, pcie_out, pcie_in, nic_out, nic_in, host, files;
} eepi_seat_links;
eepi_seat_links eepi_links_of_seat(const eepi_links *links, int seat);
/* The resources that such a transfer occupies, in order from the source on, without duplicates;
 * returns their number, at least 1. Inline: a planner asks for each fill. */
static inline int eepi_seat_links_path(const eepi_seat_links *from, const eepi_seat_links *to,
                                       eepi_link_kind kind,
                                       int32_t resources_out[EEPI_LINKS_MAX_PATH])
{
    const bool crosses = from->node != to->node;
    int num = 0;

    if (kind != EEPI_LINK_SLOT) {
        resources_out[num++] = kind == EEPI_LINK_FILE ? from->files : from->host;
    }
    if (kind != EEPI_LINK_NODE_BACKUP && from->seat != to->seat) {
        resources_out[num++] = from->rank_out;
    }
    if (crosses && kind == EEPI_LINK_SLOT) {
        resources_out[num++] = from->pcie_out;
    }
    if (crosses) {
        resources_out[num++] = from->nic_out;
        resources_out[num++] = to->nic_in;
    }
    if (crosses || kind != EEPI_LINK_SLOT) {
        resources_out[num++] = to->pcie_in;
    }
    resources_out[num++] = to->rank_in;
    return num;
}
/* The same between two seats in range. */
int eepi_links_path(const eepi_links *links, int source, int target, eepi_link_kind kind,
                    int32_t resources_out[EEPI_LINKS_MAX_PATH]);
/* `bytes` at `rate` (0 counts as 1), rounded up. */
uint64_t eepi_links_time_ns(uint64_t bytes, uint64_t rate);

/* An estimate of bytes per second from transfers: exponentially weighted, each transfer by its
 * length, so that many short ones count no more than a long one. A transfer that is slower than the
 * estimate counts an eighth: another link of its path may have held it back. `estimate` 0: the
 * first. Transfers that are too short to say anything (bytes or ns 0, less than
 * EEPI_LINKS_SAMPLE_BYTES) change nothing. Never answers 0 for an estimate that was not. */
enum { EEPI_LINKS_SAMPLE_BYTES = 65536 };
uint64_t eepi_links_refine(uint64_t estimate, uint64_t bytes, uint64_t ns);
/* Bytes per second as one of the numbers above, and back: 0 is 0, a rate below 1 MB/s is 1, one
 * above EEPI_RATE_MAX is that. */
uint32_t eepi_links_megabytes(uint64_t rate);
#endif
