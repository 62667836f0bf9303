/* SPDX-License-Identifier: Apache-2.0 */
/* A channel's bytes on a socket that does not block. One thread at a time. */
#ifndef EEPI_SECURE_SOCKET_H
#define EEPI_SECURE_SOCKET_H

#include "transport/secure/secure_channel.h"

/* Random bytes for eepi_secure_begin. EEP_ERR_SYSTEM: there are none. */
EEP_MUST_CHECK eep_status eepi_secure_nonce(unsigned char nonce_out[EEPI_SECURE_NONCE_BYTES]);
/* Both at once: a channel that begins now. */
EEP_MUST_CHECK eep_status eepi_secure_start(eepi_secure_channel *channel,
                                            const eepi_secure_config *config);
/* Send what is unsent, as far as the socket takes it. EEP_ERR_UNREACHABLE: it takes no more, ever.
 * Poll for writing while eepi_secure_unsent says more than 0. */
EEP_MUST_CHECK eep_status eepi_secure_flush(eepi_secure_channel *channel, int fd);
/* Read once what has arrived; eepi_secure_next has to have said EEP_ERR_TIMEOUT before.
 * EEP_ERR_TIMEOUT: nothing has. EEP_ERR_UNREACHABLE: the other end is gone. EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_secure_receive(eepi_secure_channel *channel, int fd);
/* The next message, reading and sending as needed: EEP_OK, EEP_ERR_TIMEOUT (none now),
 * EEP_ERR_UNREACHABLE (gone), EEP_ERR_PROTOCOL (refused: the channel's fault), EEP_ERR_NO_MEMORY.
 * Where the other end was there, and is gone before the channel is open, the fault is
 * EEPI_SECURE_UNPROVEN. */
EEP_MUST_CHECK eep_status eepi_secure_take(eepi_secure_channel *channel, int fd,
                                           const void **payload_out, size_t *bytes_out);
/* Wait until the channel is open, at most `timeout_us`: for start-up code that has nothing else to
 * do. EEP_ERR_TIMEOUT and as above. */
EEP_MUST_CHECK eep_status eepi_secure_open(eepi_secure_channel *channel, int fd,
                                           uint64_t timeout_us);
#endif
