/* SPDX-License-Identifier: Apache-2.0 */
/* Connections between simulated processes, by simulated descriptors. All are called in a fiber. */
#ifndef SIM_LINES_H
#define SIM_LINES_H

#include "tests/sim/sim.h"

#include <sys/types.h>

enum { SIM_ADDRESS_BYTES = 64 };

typedef struct sim_line_end sim_line_end;

void sim_lines_open(void);
/* Where several processes listen at one address the newest one is reached. */
int sim_line_listen(const char *address);
void sim_line_unlisten(int fd);
/* -1 with errno: nobody waits. */
int sim_line_accept(int fd);
/* -1 with errno: nobody listens there. */
int sim_line_connect(const char *address);
/* False: it has ended. The descriptor (-1: none) is copied. */
bool sim_line_send(int fd, const void *bytes, size_t size, int passed_fd);
/* The message's bytes; 0: it has ended; -1 with errno: nothing has come. */
ssize_t sim_line_receive(int fd, void *bytes, size_t size, int *passed_out);
size_t sim_line_unsent(int fd);
bool sim_line_is_open(int fd);
/* An identity for this end, which is copied: its process may end before what it has sent arrives.
 * That of the other end; NULL: not known yet. */
enum { SIM_LINE_NAME_BYTES = 256 };
void sim_line_name(int fd, const void *who, size_t bytes);
const void *sim_line_peer(int fd);
void sim_line_close(int fd);
#endif
