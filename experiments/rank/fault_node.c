/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes of the captured graph that halt, and the thread on the host that then acts. */
#include "experiments/rank/fault_node.h"
#include "graphs/device/device_ops.h"
#include "membership/step/capture.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_NS = 20000, HALT_THREADS = 128 };

/* ---------------------------------------------------------------- the nodes */

static eep_status put_node(const fault_node *self, eep_stream *stream, fault_kernel_id id,
                           const void *args, size_t bytes)
{
    model_bodies kernel = {MODEL_PLUGIN_FIRST_FAULT + id, &fault_kernels[id]};
    const char *why = NULL;
    return model_plugin_put(self->plugin, eep_device_ordinal(self->device), stream, kernel, 1,
                            HALT_THREADS, args, bytes, &why);
}

/* In the middle of a send the halt stores the send's rows, by the send's arguments. */
static eep_status put_halt(const fault_node *self, eep_stream *stream, verb_place place,
                           uint32_t chain, const void *send)
{
    const fault_halt_args halt = {self->words, self->world,
                                  (uint32_t)place + chain * NUM_PLACES_OF_CHAIN, 0};
    if (place == PLACE_DISPATCH) {
        const fault_halt_dispatch_args args = {halt, *(const eepk_dispatch_node_args *)send};
        return put_node(self, stream, FAULT_KERNEL_halt_dispatch, &args, sizeof args);
    }
    if (place == PLACE_COMBINE) {
        const fault_halt_combine_args args = {halt, *(const eepk_combine_node_args *)send};
        return put_node(self, stream, FAULT_KERNEL_halt_combine, &args, sizeof args);
    }
    return put_node(self, stream, FAULT_KERNEL_halt, &halt, sizeof halt);
}

static eep_status at_node(void *user, eep_stream *stream, eepi_kernel_id id, const void *args,
                          bool is_behind)
{
    const fault_node *self = user;
    const eepk_dispatch_node_args *dispatch = args;
    const eepk_combine_node_args *combine = args;
    if (id == EEPI_KERNEL_dispatch_send && !is_behind && dispatch->layer == self->victim_layer) {
        return put_halt(self, stream, PLACE_DISPATCH, dispatch->chain, args);
    }
    if ((id == EEPI_KERNEL_unpack || id == EEPI_KERNEL_unpack_formed) && is_behind &&
        dispatch->layer == self->victim_layer) {
        return put_halt(self, stream, PLACE_EXPERTS, dispatch->chain, NULL);
    }
    if ((id == EEPI_KERNEL_combine_send || id == EEPI_KERNEL_combine_send_formed) && !is_behind &&
        combine->layer == self->victim_layer) {
        return put_halt(self, stream, PLACE_COMBINE, combine->chain, args);
    }
    return EEP_OK;
}

/* ---------------------------------------------------------------- the halt */

/* A stop of this thread stops them all, this one before it can let the node go on. */
static bool halt_process(void *user, bool stops)
{
    (void)user;
    if (stops) {
        raise(SIGSTOP);
        return true;
    }
    kill(getpid(), SIGKILL);
    for (;;) {
        pause();
    }
}

static void *watch(void *argument)
{
    fault_node *self = argument;
    const struct timespec look = {0, LOOK_NS};
    while (eepk_load_acquire(&self->words->reached) == 0) {
        if (__atomic_load_n(&self->ends, __ATOMIC_ACQUIRE)) {
            return NULL;
        }
        nanosleep(&look, NULL);
    }
    bool goes_on = self->on_halt(self->user, self->stops);
    eepk_store_release(&self->words->armed, 0);
    eepk_store_release(&self->words->go_on, goes_on ? FAULT_GO_ON : FAULT_GO_DEAD);
    eepk_doorbell_ring(self->words->bell);
    return NULL;
}

eep_status fault_node_arm(fault_node *self, verb_place place, bool stops)
{
    fault_node_disarm(self);
    self->words->reached = self->words->go_on = 0;
    self->stops = stops;
    self->ends = false;
    int error = pthread_create(&self->watcher, NULL, watch, self);
    self->is_watched = error == 0;
    if (!self->is_watched) {
        errno = error;
        return EEP_ERR_SYSTEM;
    }
    eepk_store_release(&self->words->armed, (uint64_t)place + 1);
    return EEP_OK;
}

bool fault_node_is_armed(const fault_node *self)
{
    return eepk_load_acquire(&self->words->armed) != 0 &&
           eepk_load_acquire(&self->words->reached) == 0;
}

void fault_node_disarm(fault_node *self)
{
    if (!self->is_watched) {
        return;
    }
    eepk_store_release(&self->words->armed, 0);
    __atomic_store_n(&self->ends, true, __ATOMIC_RELEASE);
    pthread_join(self->watcher, NULL);
    self->is_watched = false;
}

/* ---------------------------------------------------------------- life */

eep_status fault_node_init(fault_node *self, eep_context *context, eep_device *device,
                           int32_t num_layers, fault_node_on_halt on_halt, void *user)
{
    char why[256];
    void *words = NULL;
    *self = (fault_node){.world = eepi_capture_world(context),
                         .device = device,
                         .on_halt = on_halt ? on_halt : halt_process,
                         .user = user,
                         .victim_layer = (uint32_t)num_layers / 2};
    if (strcmp(eep_device_backend(device), "cuda") == 0) {
        self->plugin = model_plugin_open(eep_device_ordinal(device), why, sizeof why);
        if (!self->plugin) {
            return EEP_ERR_UNSUPPORTED;
        }
    }
    eep_status status =
        eep_device_alloc(device, EEP_MEMORY_PINNED, sizeof(fault_halt_words), &words);
    if (status == EEP_OK) {
        self->words = words;
        eepi_capture_watch(context, at_node, self);
    }
    return status;
}

void fault_node_close(fault_node *self)
{
    if (self->words) {
        fault_node_disarm(self);
        eep_device_free(self->device, EEP_MEMORY_PINNED, self->words);
        self->words = NULL;
    }
}
