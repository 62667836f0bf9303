/* SPDX-License-Identifier: Apache-2.0 */
/* All hosts of an instance, as its front has them: which host a seat is on, and a link to each.
 * One thread; none blocks but host_links_open and host_links_close. */
#ifndef EEPX_HOST_LINKS_H
#define EEPX_HOST_LINKS_H

#include "experiments/hosts/host_commands.h"
#include "experiments/hosts/host_link.h"
#include "experiments/setup/options.h"

typedef struct host_links host_links;

/* Is there a key for them? EEP_ERR_NOT_FOUND and others, with a line in `error`
 * (HOSTS_ERROR_BYTES). */
EEP_MUST_CHECK eep_status host_links_check_key(char *error);
/* Connect to the worker of each host of `given->hosts`, and start those that are not there, within
 * a minute. `signal_fd`: it is given up once that is readable. EEP_ERR_INVALID, EEP_ERR_UNREACHABLE
 * and others, with a line in `error` (HOSTS_ERROR_BYTES) that names the host and the cause. `given`
 * is borrowed. */
EEP_MUST_CHECK eep_status host_links_open(const options *given, int signal_fd,
                                          host_links **links_out, char *error);
/* Ends all ranks there. */
void host_links_close(host_links *self);
/* The host of the seat: of its rank, if it has one, else where its next one will be. */
int host_links_host_of(const host_links *self, int seat);
/* The seat's next rank is on that host. */
void host_links_move(host_links *self, int seat, int host);
/* Is the worker of that host connected? */
bool host_links_is_up(const host_links *self, int host);
/* The link of the seat's host; of a host. */
host_link *host_links_of_seat(const host_links *self, int seat);
host_link *host_links_of(const host_links *self, int host);
/* The commands of their file. */
host_commands *host_links_commands(const host_links *self);
#endif
