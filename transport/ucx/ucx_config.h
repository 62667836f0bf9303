/* SPDX-License-Identifier: Apache-2.0 */
/* What UCX is told by libeep: see ucx_config.c. Any thread. */
#ifndef EEPI_UCX_CONFIG_H
#define EEPI_UCX_CONFIG_H

#include "eep/status.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <ucp/api/ucp.h>

/* Nothing of the job's UCX_ variables, the one interface, tcp (and copies out of GPU memory where
 * asked for), and what EEP_UCX_ variables say. The caller releases it. */
EEP_MUST_CHECK ucs_status_t eepi_ucx_config(const char *interface, bool asks_for_cuda,
                                            ucp_config_t **config_out);
/* Name the EEP_UCX_ variables that are set, as " (A=1, B=2)"; "" if none is. */
void eepi_ucx_variables(char *text, size_t text_bytes);
/* The IPv4 address of an interface, port 0. Returns 0 if it has one. */
int eepi_ucx_interface(const char *interface, struct sockaddr_in *address_out);
#endif
