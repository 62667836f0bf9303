/* SPDX-License-Identifier: Apache-2.0 */
/* Which host a process runs on (rule N9). */
#ifndef EEPI_HOST_H
#define EEPI_HOST_H

#include <stdint.h>

/* Names the host in environments where a boot id and a pid namespace do not: one for each pod that
 * has a pid namespace of its own, or for each host of a laboratory on one machine. */
#define EEPI_HOST_VARIABLE "EEP_HOST_ID"

/* One number for all processes of a host, and another one for those of other hosts. It is made of
 * EEP_HOST_ID where that is set, else of the machine's boot id and the pid namespace. The same host
 * is necessary for memory that two processes share, and not enough: they must see each other's ends
 * as well (eepi_process_home). 0: it is not known. */
uint64_t eepi_host_id(void);
#endif
