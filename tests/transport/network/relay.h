/* SPDX-License-Identifier: Apache-2.0 */
/* A network between a rank and its peers that a test holds, cuts and lets go: connections to its
 * port go on to another one, by a thread of its own. */
#ifndef RELAY_H
#define RELAY_H

#include "transport/proxy/lane_address.h"

#include <stdint.h>

typedef struct relay relay;

/* To that address; the relay's own is for those who connect, and it takes little ahead. */
relay *relay_open(const eepi_lane_address *to, eepi_lane_address *own_out);
void relay_close(relay *r);
/* Nothing is passed on in either direction, and nothing is read: as a host that has stopped. */
void relay_hold(relay *r, int is_held);
/* A connection is reset once it has passed on so many bytes from the one that connected; those
 * that it has read beyond are lost. The second one passes on twice as many, and so on, so that what
 * is sent again gets through some day. 0: none is reset. */
void relay_cut_after(relay *r, uint64_t bytes);
/* Each connection is reset once it has passed on so many; 0: as relay_cut_after says. */
void relay_cut_each(relay *r, uint64_t bytes);
/* Connections are reset, and nobody listens any more; or somebody does again. */
void relay_refuse(relay *r, int is_refusing);
/* Of the first connections, so many, a bit is changed of what the other end answers. */
void relay_spoil(relay *r, int num);
/* How many connections there were. */
int relay_num_connections(relay *r);
#endif
