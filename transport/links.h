/* SPDX-License-Identifier: Apache-2.0 */
/* Which of some network interfaces carry data now: what the kernel says of each, and, where an RDMA
 * device belongs to it, what libibverbs says of its port. A hint: a link that is up here may be cut
 * further on. One thread at a time uses a list. */
#ifndef EEPI_LINKS_H
#define EEPI_LINKS_H

#include "eep/status.h"
#include "transport/ibverbs.h"

#include <stdbool.h>
#include <stdint.h>

enum { EEPI_LINKS_MAX = 4, EEPI_LINK_FDS = 1 + EEPI_LINKS_MAX };

typedef struct eepi_links eepi_links;

/* An interface by name, or by an address of it. `device`: its RDMA device; "": the one that the
 * system names for it, if there is one. */
typedef struct eepi_link_name {
    const char *name, *device;
} eepi_link_name;

/* At most EEPI_LINKS_MAX. EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_links_open(const eepi_link_name *names, int num,
                                          const eepi_verbs *verbs, eepi_links **links_out);
void eepi_links_close(eepi_links *links); /* NULL is ignored */
/* Readable once something may have changed, for a poll that tells of edges: a device that was taken
 * out stays readable. Returns how many. */
int eepi_links_fds(const eepi_links *links, int fds_out[EEPI_LINK_FDS]);
/* Take what has been told, and look at each. Never waits. */
void eepi_links_look(eepi_links *links);
/* As of the last look. One that nothing is known of is up. */
bool eepi_links_is_up(const eepi_links *links, int link);
#endif
