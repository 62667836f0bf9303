/* SPDX-License-Identifier: Apache-2.0 */
/* What a rank knows of its own links, and tells the others in its record (eepi_rate of
 * link_costs.h):
 *
 *   NIC    the active ports of the NIC that is nearest to its device; where the device's place is
 *          not known, of all NICs, which the ranks of a node then share; where there is no RDMA,
 * the network interface of bulk copies PCIe   the link of its device, as hwloc reads it in, out,
 * file   measured on what it copies; unknown until then
 *
 * Service thread. */
#ifndef EEPI_OWN_LINKS_H
#define EEPI_OWN_LINKS_H

#include "repair/link_costs.h"
#include "transport/ports.h"

typedef struct eepi_own_links eepi_own_links;

typedef struct eepi_own_links_config {
    const eepi_verbs *verbs;
    const char *pci;       /* of this rank's device, as "0000:3b:00.0"; "": it has none */
    const char *interface; /* of bulk copies over the network; NULL: there are none */
} eepi_own_links_config;

/* Milliseconds, or tens of them for a device on PCI. EEP_ERR_NO_MEMORY. What the machine does not
 * say is unknown, and no failure. */
EEP_MUST_CHECK eep_status eepi_own_links_open(const eepi_own_links_config *config,
                                              eepi_own_links **own_out);
void eepi_own_links_close(eepi_own_links *own); /* NULL is ignored */

/* Descriptors that are readable once something has happened to a port, at most
 * EEPI_PORTS_MAX_DEVICES; returns their number. */
int eepi_own_links_fds(const eepi_own_links *own, int *fds_out);
/* The next port of this rank's NICs that has changed; false: none has. Never waits. */
bool eepi_own_links_next_port(eepi_own_links *own, eepi_port_change *change_out);
/* Active ports of this rank's NICs, of how many, and what they carry in MB/s. */
int eepi_own_links_active(const eepi_own_links *own, int *num_ports_out, uint32_t *rate_out);

/* This rank copied so much in so long, over that link with nothing that held it back: refines an
 * estimate (eepi_links_refine). Copies of less than EEPI_OWN_LINKS_SAMPLE_BYTES say more about the
 * time to begin one, and do not count. */
enum { EEPI_OWN_LINKS_SAMPLE_BYTES = 4 << 20 };
void eepi_own_links_measured(eepi_own_links *own, eepi_rate rate, uint64_t bytes, uint64_t ns);

/* The same for pieces of any size that follow each other, such as reads of a file. */
void eepi_own_links_piece(eepi_own_links *own, eepi_rate rate, uint64_t bytes, uint64_t ns);
/* The same for a fill of this rank's slots in a pause, from its start to its end: what this rank
 * takes in. A fill that was cancelled is forgotten by the next start. */
void eepi_own_links_fill_began(eepi_own_links *own, uint64_t now_us);
void eepi_own_links_fill_ended(eepi_own_links *own, uint64_t bytes, uint64_t now_us);

/* What the record is to say: numbers[EEPI_NUM_RATES], until the next eepi_own_links_tell. */
const uint32_t *eepi_own_links_rates(const eepi_own_links *own);
/* Are there other numbers to tell than before? Then eepi_own_links_rates has them. A NIC or PCIe
 * rate counts as other once it differs, and what was measured once it is twice or half of what was
 * told, so that noise writes no records; ten times a second at most. */
bool eepi_own_links_tell(eepi_own_links *own, uint64_t now_us);
#endif
