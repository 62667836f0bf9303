/* SPDX-License-Identifier: Apache-2.0 */
/* Link costs: a table of what each rank told, and what follows from it for each link. */
#include "repair/link_costs.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MEGABYTE ((uint64_t)1000000)
#define NS_PER_S ((uint64_t)1000000000)

/* One transfer of so many bytes moves an estimate half of the way. */
#define HALF_WAY_BYTES ((uint64_t)16 << 20)
enum { SLOWER_PART = 8 };

typedef struct seat_links {
    uint32_t told[EEPI_NUM_RATES];
    int32_t nic_seat; /* the lowest seat that uses the same NIC: the NIC's links are that seat's */
} seat_links;

struct eepi_links {
    eepi_view_shape shape;
    int32_t num_seats, num_nodes;
    uint32_t host;     /* MB/s; 0: the default */
    seat_links *seats; /* [num_seats] */
    uint64_t *rates;   /* [count]: of each resource */
};

/* Of hardware that is common in 2025: host memory and files as of a small server, PCIe of the
 * fourth generation with 16 lanes, a NIC of 100 Gbit/s. What matters is the order: within a node
 * costs less than between nodes, and a file most. */
uint64_t eepi_links_default_rate(eepi_link type)
{
    static const uint32_t rates[EEPI_LINK_TYPES] = {
        [EEPI_LINK_RANK_OUT] = 20000, [EEPI_LINK_RANK_IN] = 20000, [EEPI_LINK_PCIE_OUT] = 25000,
        [EEPI_LINK_PCIE_IN] = 25000,  [EEPI_LINK_NIC_OUT] = 12500, [EEPI_LINK_NIC_IN] = 12500,
        [EEPI_LINK_HOST] = 50000,     [EEPI_LINK_FILES] = 1000};

    return rates[type] * MEGABYTE;
}

static int node_of(const eepi_links *links, int seat)
{
    return eepi_view_node_of(&links->shape, seat);
}

static int first_of_node(const eepi_links *links, int node)
{
    return node * links->shape.ranks_per_node;
}

static int end_of_node(const eepi_links *links, int node)
{
    int end = first_of_node(links, node) + links->shape.ranks_per_node;

    return links->shape.ranks_per_node && end < links->num_seats ? end : links->num_seats;
}

int32_t eepi_links_count(const eepi_links *links)
{
    return links->num_seats * EEPI_LINK_OF_SEAT +
           links->num_nodes * (EEPI_LINK_TYPES - EEPI_LINK_OF_SEAT);
}

/* A NIC's resources are those of the lowest seat that uses it. */
int32_t eepi_links_resource(const eepi_links *links, int seat, eepi_link type)
{
    assert(seat >= 0 && seat < links->num_seats);
    if (type >= EEPI_LINK_OF_SEAT) {
        return links->num_seats * EEPI_LINK_OF_SEAT +
               node_of(links, seat) * (EEPI_LINK_TYPES - EEPI_LINK_OF_SEAT) +
               ((int32_t)type - EEPI_LINK_OF_SEAT);
    }
    if (type == EEPI_LINK_NIC_OUT || type == EEPI_LINK_NIC_IN) {
        seat = links->seats[seat].nic_seat;
    }
    return seat * EEPI_LINK_OF_SEAT + (int32_t)type;
}

uint64_t eepi_links_rate(const eepi_links *links, int32_t resource)
{
    assert(resource >= 0 && resource < eepi_links_count(links));
    return links->rates[resource];
}

void eepi_links_name(const eepi_links *links, int32_t resource, char *text_out, size_t bytes)
{
    static const char *const names[EEPI_LINK_TYPES] = {
        "rank %d out",        "rank %d in",        "PCIe of rank %d out",    "PCIe of rank %d in",
        "NIC of rank %d out", "NIC of rank %d in", "host memory of node %d", "files of node %d"};
    const int32_t of_seats = links->num_seats * EEPI_LINK_OF_SEAT;
    const int32_t per_node = EEPI_LINK_TYPES - EEPI_LINK_OF_SEAT;
    const bool is_of_node = resource >= of_seats;
    const int32_t type = is_of_node ? EEPI_LINK_OF_SEAT + (resource - of_seats) % per_node
                                    : resource % EEPI_LINK_OF_SEAT;
    const char *name = names[type], *number = strchr(name, '%');

    assert(resource >= 0 && resource < eepi_links_count(links));
    snprintf(text_out, bytes, "%.*s%d%s", (int)(number - name), name,
             is_of_node ? (resource - of_seats) / per_node : resource / EEPI_LINK_OF_SEAT,
             number + 2);
}

static uint64_t rate_of(uint32_t told, eepi_link type)
{
    if (told == 0) {
        return eepi_links_default_rate(type);
    }
    return told == EEPI_RATE_DOWN ? EEPI_LINKS_DOWN_RATE : told * MEGABYTE;
}

/* The lowest seat of the node that names the same NIC; those that name none share one. */
static int nic_seat_of(const eepi_links *links, int seat)
{
    const uint32_t nic = links->seats[seat].told[EEPI_RATE_NIC_AT];

    for (int other = first_of_node(links, node_of(links, seat)); other < seat; other++) {
        if (links->seats[other].told[EEPI_RATE_NIC_AT] == nic) {
            return other;
        }
    }
    return seat;
}

static void set_rates(eepi_links *links, int seat, eepi_link out, eepi_link in, uint64_t out_rate,
                      uint64_t in_rate)
{
    links->rates[eepi_links_resource(links, seat, out)] = out_rate;
    links->rates[eepi_links_resource(links, seat, in)] = in_rate;
}

/* A NIC at the lowest rate that a rank names which uses it: one that saw a port go down knows more
 * than one that did not. */
static void set_nics(eepi_links *links, int node)
{
    const int first = first_of_node(links, node), end = end_of_node(links, node);

    for (int seat = first; seat < end; seat++) {
        links->seats[seat].nic_seat = nic_seat_of(links, seat);
    }
    for (int seat = first; seat < end; seat++) {
        uint64_t least = 0;
        if (links->seats[seat].nic_seat != seat) {
            continue;
        }
        for (int other = seat; other < end; other++) {
            uint32_t told = links->seats[other].told[EEPI_RATE_NIC];
            uint64_t rate = rate_of(told, EEPI_LINK_NIC_OUT);
            if (links->seats[other].nic_seat == seat && told != 0 && (least == 0 || rate < least)) {
                least = rate;
            }
        }
        least = least ? least : eepi_links_default_rate(EEPI_LINK_NIC_OUT);
        set_rates(links, seat, EEPI_LINK_NIC_OUT, EEPI_LINK_NIC_IN, least, least);
    }
}

static void set_files(eepi_links *links, int node)
{
    const int first = first_of_node(links, node);
    uint64_t most = 0;

    for (int seat = first; seat < end_of_node(links, node); seat++) {
        uint32_t told = links->seats[seat].told[EEPI_RATE_FILE];
        uint64_t rate = told ? rate_of(told, EEPI_LINK_FILES) : 0;
        most = rate > most ? rate : most;
    }
    links->rates[eepi_links_resource(links, first, EEPI_LINK_FILES)] =
        most ? most : eepi_links_default_rate(EEPI_LINK_FILES);
    links->rates[eepi_links_resource(links, first, EEPI_LINK_HOST)] =
        rate_of(links->host, EEPI_LINK_HOST);
}

static void set_own(eepi_links *links, int seat)
{
    const uint32_t *told = links->seats[seat].told;

    set_rates(links, seat, EEPI_LINK_RANK_OUT, EEPI_LINK_RANK_IN,
              rate_of(told[EEPI_RATE_OUT], EEPI_LINK_RANK_OUT),
              rate_of(told[EEPI_RATE_IN], EEPI_LINK_RANK_IN));
    set_rates(links, seat, EEPI_LINK_PCIE_OUT, EEPI_LINK_PCIE_IN,
              rate_of(told[EEPI_RATE_PCIE], EEPI_LINK_PCIE_OUT),
              rate_of(told[EEPI_RATE_PCIE], EEPI_LINK_PCIE_IN));
}

void eepi_links_set_seat(eepi_links *links, int seat, const uint32_t *rates)
{
    assert(seat >= 0 && seat < links->num_seats);
    if (memcmp(links->seats[seat].told, rates, sizeof links->seats[seat].told) == 0) {
        return;
    }
    memcpy(links->seats[seat].told, rates, sizeof links->seats[seat].told);
    set_own(links, seat);
    set_nics(links, node_of(links, seat));
    set_files(links, node_of(links, seat));
}

void eepi_links_set_host(eepi_links *links, uint32_t megabytes)
{
    links->host = megabytes;
    for (int node = 0; node < links->num_nodes; node++) {
        set_files(links, node);
    }
}

void eepi_links_forget_seat(eepi_links *links, int seat)
{
    static const uint32_t unknown[EEPI_NUM_RATES];

    eepi_links_set_seat(links, seat, unknown);
}

eepi_links *eepi_links_new(const eepi_view_shape *shape)
{
    eepi_links *links = calloc(1, sizeof *links);
    const size_t seats = (size_t)shape->max_ranks;

    if (!links) {
        return NULL;
    }
    links->shape = *shape;
    links->num_seats = shape->max_ranks;
    links->num_nodes = eepi_view_num_nodes(shape);
    links->seats = calloc(seats, sizeof *links->seats);
    links->rates = calloc((size_t)eepi_links_count(links), sizeof *links->rates);
    if (!links->seats || !links->rates) {
        eepi_links_free(links);
        return NULL;
    }
    for (int seat = 0; seat < links->num_seats; seat++) {
        links->seats[seat].nic_seat = seat; /* so that the links of each have a rate */
        set_own(links, seat);
        set_rates(links, seat, EEPI_LINK_NIC_OUT, EEPI_LINK_NIC_IN,
                  eepi_links_default_rate(EEPI_LINK_NIC_OUT),
                  eepi_links_default_rate(EEPI_LINK_NIC_IN));
    }
    for (int node = 0; node < links->num_nodes; node++) {
        set_nics(links, node);
        set_files(links, node);
    }
    return links;
}

void eepi_links_free(eepi_links *links)
{
    if (!links) {
        return;
    }
    free(links->seats);
    free(links->rates);
    free(links);
}

eepi_seat_links eepi_links_of_seat(const eepi_links *links, int seat)
{
    return (eepi_seat_links){.seat = seat,
                             .node = node_of(links, seat),
                             .rank_out = eepi_links_resource(links, seat, EEPI_LINK_RANK_OUT),
                             .rank_in = eepi_links_resource(links, seat, EEPI_LINK_RANK_IN),
                             .pcie_out = eepi_links_resource(links, seat, EEPI_LINK_PCIE_OUT),
                             .pcie_in = eepi_links_resource(links, seat, EEPI_LINK_PCIE_IN),
                             .nic_out = eepi_links_resource(links, seat, EEPI_LINK_NIC_OUT),
                             .nic_in = eepi_links_resource(links, seat, EEPI_LINK_NIC_IN),
                             .host = eepi_links_resource(links, seat, EEPI_LINK_HOST),
                             .files = eepi_links_resource(links, seat, EEPI_LINK_FILES)};
}

int eepi_links_path(const eepi_links *links, int source, int target, eepi_link_kind kind,
                    int32_t resources_out[EEPI_LINKS_MAX_PATH])
{
    const eepi_seat_links from = eepi_links_of_seat(links, source);
    const eepi_seat_links to = eepi_links_of_seat(links, target);

    return eepi_seat_links_path(&from, &to, kind, resources_out);
}

uint64_t eepi_links_time_ns(uint64_t bytes, uint64_t rate)
{
    uint64_t whole, rest;

    rate = rate ? rate : 1;
    whole = bytes / rate;
    rest = bytes % rate;
    if (whole >= UINT64_MAX / NS_PER_S) {
        return UINT64_MAX;
    }
    /* where rest * 10^9 would not fit, nanoseconds of a rate so high are exact enough */
    while (rest > UINT64_MAX / NS_PER_S / 2) {
        rest = (rest + 1) / 2;
        rate /= 2;
    }
    rest *= NS_PER_S;
    return whole * NS_PER_S + rest / rate + (rest % rate != 0);
}

uint64_t eepi_links_refine(uint64_t estimate, uint64_t bytes, uint64_t ns)
{
    double rate, weight, refined;

    if (bytes < EEPI_LINKS_SAMPLE_BYTES || ns == 0) {
        return estimate;
    }
    rate = (double)bytes * (double)NS_PER_S / (double)ns;
    weight = (double)bytes / (double)(bytes + HALF_WAY_BYTES);
    weight = rate < (double)estimate ? weight / SLOWER_PART : weight;
    refined = estimate ? (double)estimate + weight * (rate - (double)estimate) : rate;
    return refined < 1 ? 1 : (uint64_t)refined;
}

uint32_t eepi_links_megabytes(uint64_t rate)
{
    const uint64_t megabytes = rate / MEGABYTE;

    if (rate == 0) {
        return 0;
    }
    return megabytes == 0 ? 1 : megabytes < EEPI_RATE_MAX ? (uint32_t)megabytes : EEPI_RATE_MAX;
}

bool eepi_rates_are_sane(const uint32_t *rates)
{
    for (int i = 0; i < EEPI_NUM_RATES; i++) {
        if (i != EEPI_RATE_NIC_AT && rates[i] > EEPI_RATE_MAX && rates[i] != EEPI_RATE_DOWN) {
            return false;
        }
    }
    return true;
}
