/* SPDX-License-Identifier: Apache-2.0 */
/* Where the network of a rank is reached: bytes of a fixed size for member records. Pure. */
#ifndef EEPI_LANE_ADDRESS_H
#define EEPI_LANE_ADDRESS_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EEPI_LANE_NONE, EEPI_LANE_TCP, EEPI_LANE_UCX, EEPI_NUM_LANE_KINDS };
enum { EEPI_LANE_TEXT_BYTES = 64, EEPI_MAX_PATHS = 4 };

/* One interface of the rank. */
typedef struct eepi_lane_path {
    uint8_t ip[16];
    uint16_t port;    /* a number, not in the network's order */
    uint8_t ip_bytes; /* 4 or 16 of `ip` */
    uint8_t pad;
} eepi_lane_path;

/* All zero: no network. */
typedef struct eepi_lane_address {
    uint8_t kind;
    uint8_t num_paths; /* in the order in which they are taken */
    uint8_t pad[6];
    eepi_lane_path path[EEPI_MAX_PATHS];
} eepi_lane_address;
static_assert(sizeof(eepi_lane_address) == 88, "on the wire");

/* No rank of this version has another one. */
bool eepi_lane_address_is_sane(const eepi_lane_address *address);
/* Another host cannot reach it. */
bool eepi_lane_path_is_loopback(const eepi_lane_path *path);
/* "10.0.0.3:4711"; `text` is returned. */
const char *eepi_lane_path_text(const eepi_lane_path *path, char text[EEPI_LANE_TEXT_BYTES]);
#endif
