/* SPDX-License-Identifier: Apache-2.0 */
/* RDMA devices of a test: ports with rates and states that the test sets, and asynchronous events
 * that it writes. One set per process; any thread. */
#ifndef FAKE_VERBS_H
#define FAKE_VERBS_H

#include "transport/ibverbs.h"

enum { FAKE_VERBS_DEVICES = 4, FAKE_VERBS_PORTS = 2 };

/* So many devices named fake_0, fake_1, ... of so many ports each, all active with 4 lanes of 25
 * Gbit/s. Nothing is open. */
void fake_verbs_begin(int num_devices, int ports_per_device);
/* Closes what begin opened; how many contexts the code under test left open. */
int fake_verbs_end(void);
const eepi_verbs *fake_verbs(void);

/* ibv_port_state, and the codes of width and speed; no event tells of it. */
void fake_verbs_set(int device, int port, int state, int width, int speed);
/* The device tells of something: ibv_event_type. */
void fake_verbs_tell(int device, int port, int event_type);
/* Both: the port is down, or active as before. */
void fake_verbs_port_down(int device, int port);
void fake_verbs_port_up(int device, int port);
/* Reading its events fails from now on, as after the device was taken out. */
void fake_verbs_remove(int device);
/* The same, as from a libibverbs that registers no dma-buf. */
const eepi_verbs *fake_verbs_without_dmabuf(void);
/* Registering memory fails from now on, with that errno; 0: no more. */
void fake_verbs_refuse(int error);
/* Registered memory and protection domains that are left; the access that was asked for last. */
int fake_verbs_num_regions(int *access_out);
/* Events that were told and not acknowledged. */
int fake_verbs_unacknowledged(void);
#endif
