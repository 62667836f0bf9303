/* SPDX-License-Identifier: Apache-2.0 */
/* What ranks of several hosts tell each other of their collectives (rule P13): what would lie in
 * their memory, if they shared any. Each rank has a mirror of each peer of another host.
 *
 *     state      `at`, the ledger's word, and the heads of what it gives and has not ended
 *     bytes      a piece of such a contribution, from front to back
 *
 * A state says all, and a newer one replaces an older one. On a new connection all is said anew.
 * So it does not matter what was lost with the one before, nor what comes twice. */
#ifndef EEPI_COLLECTIVE_WORDS_H
#define EEPI_COLLECTIVE_WORDS_H

#include "membership/collective/collective_state.h"
#include "transport/proxy/network.h"

/* For the network (eepi_network_talk); `user` is the context. */
size_t eepi_collective_say(void *user, uint32_t seat, uint32_t generation, bool is_anew,
                           void *bytes_out);
bool eepi_collective_hear(void *user, uint32_t seat, uint32_t generation, const void *bytes,
                          size_t num);
#endif
