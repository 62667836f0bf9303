/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of a context share.
 *
 * Threads. The rank thread is the caller's. The service thread alone drives the core, the store
 * client, the bulk transport and the executor, and stages banks. The heartbeat thread only beats
 * and listens. They meet in two places: `lock` guards the fields between the braces below, and the
 * mailbox carries what the other threads tell the service thread.
 *
 * A part with a struct of its own belongs to the file of that name, in loads/, step/ or service/:
 * others call that file's functions. */
#ifndef EEPI_CONTEXT_H
#define EEPI_CONTEXT_H

#include "eep/eep.h"
#include "graphs/base/clock.h"
#include "graphs/device/tables.h"
#include "graphs/kernels/compiler_macros.h"
#include "membership/context/calls.h"
#include "membership/context/claim_end.h"
#include "membership/context/inbox.h"
#include "membership/context/last_error.h"
#include "membership/context/mailbox.h"
#include "membership/context/observed.h"
#include "membership/context/outcome.h"
#include "membership/context/retries.h"
#include "membership/context/wake.h"
#include "membership/core/core.h"
#include "membership/stepper/stepper.h"
#include "membership/process/detector.h"
#include "membership/process/process.h"
#include "membership/store/store_client.h"
#include "repair/executor/executor.h"
#include "transport/bulk/bulk.h"
#include "transport/topology.h"
#include "transport/window/window.h"

#include <limits.h>
#include <pthread.h>
#include <stdbool.h>

struct eep_context {
    /* made at open, fixed afterwards */
    eep_config config;
    uint32_t generation;
    eepi_view_shape view_shape;
    eepk_shape shape;
    eepi_process_name process; /* this one */
    char store_path[PATH_MAX]; /* eepi_store_socket_resolve: the seats' files lie beside it */
    eepi_topology *topology;   /* NULL: not bound */
    eepi_window *window;
    eepi_tables *tables;
    eepi_core *core;
    eepi_store_client *store;
    eepi_bulk *bulk;
    eepi_detector *detector;
    eepi_executor *executor; /* NULL before eep_join, which makes it; atomic */

    /* rank thread */
    eepi_calls calls; /* whose thread is in a call */
    bool has_joined;  /* eep_join was called, and began; under `lock` */
    struct eepi_weights *weights;
    struct eepi_capture *capture;
    struct eepi_steps *steps;
    char last_error[EEPI_ERROR_BYTES];

    /* service thread */
    eepi_claim claim;
    eepi_inbox *inbox; /* of the core */
    eepi_retries retries;
    struct eepi_peer *peers;
    struct eepi_fence *fence;
    struct eepi_rank_agent *agent;
    struct eepi_told *told;
    struct eepi_serving *serving;
    struct eepi_store_session *session;
    struct eepi_staging *staging;
    struct eepi_service *service;
    uint64_t known_epoch; /* of the newest document, for texts; 0: none; atomic */

    eepi_evidence *evidence; /* has a lock of its own */
    pthread_mutex_t lock;
    eepi_wake wake;
    /* { under `lock` */
    eepi_mailbox mailbox; /* with what the stepper has to say in its own */
    eepi_stepper stepper;
    eepi_outcome outcome;
    eepi_observed observed;
    struct eepi_arrivals *arrivals;
    /* } */
};
#endif
