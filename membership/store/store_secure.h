/* SPDX-License-Identifier: Apache-2.0 */
/* The store over TCP where there is a key: its messages travel in a channel (transport/secure). A
 * stream of frames is cut into messages of the channel; either end puts them together again. */
#ifndef EEPI_STORE_SECURE_H
#define EEPI_STORE_SECURE_H

#include "membership/store/store_url.h"
#include "membership/store/store_wire.h"
#include "transport/secure/secure_channel.h"

enum {
    EEPI_STORE_RECORD_BYTES = 64 * 1024, /* of the stream, in one message of the channel */
};

/* What this end of a store's channel is. EEP_ERR_INVALID, EEP_ERR_SYSTEM: the key cannot be had,
 * `why` says why. Wipe it with eepi_secure_key_wipe. */
EEP_MUST_CHECK eep_status eepi_store_secure_config(const eepi_store_url *url, bool is_server,
                                                   eepi_secure_config *config_out, char *why,
                                                   size_t why_bytes);
/* This thread's text, of EEPI_SECURE_WHY_BYTES: why a connection with a key failed last; "": it did
 * not, or for want of a connection. */
char *eepi_store_secure_why(void);
/* Read once from the socket. What has arrived whole goes to the inbox; `bytes_out` counts it.
 * EEP_ERR_TIMEOUT: nothing has arrived. Else the connection is over; the channel's fault may say
 * why. What is unsent has been sent as far as the socket takes it. */
EEP_MUST_CHECK eep_status eepi_store_secure_receive(eepi_secure_channel *channel, int fd,
                                                    eepi_store_inbox *inbox, size_t *bytes_out);
/* Take as much of the parts into the channel as one message has, if nothing waits in it, and send.
 * The parts are cut to that. `bytes_out`: so many were taken. EEP_ERR_UNREACHABLE: the socket takes
 * no more, ever. */
EEP_MUST_CHECK eep_status eepi_store_secure_send(eepi_secure_channel *channel, int fd,
                                                 struct iovec *parts, size_t num_parts,
                                                 size_t *bytes_out);
#endif
