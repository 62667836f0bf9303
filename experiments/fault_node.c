#include "experiments/fault_node.h"
#include "graphs/device_ops.h"
#include "membership/context.h"

#include <signal.h>
#include <unistd.h>

enum { FAULT_STOPS = 0x100 };

typedef struct strike_args {
    uint32_t *armed;
    const eepk_world *world;
    uint32_t place, pad;
} strike_args;

/* An aborted step sends nothing, so it has none of the places; the next one has them. */
static void strike(const void *raw, eep_grid grid)
{
    const strike_args *args = raw;
    (void)grid;
    uint32_t armed = __atomic_load_n(args->armed, __ATOMIC_ACQUIRE);
    if ((armed & ~(uint32_t)FAULT_STOPS) != args->place + 1 ||
        args->world->control->latch.aborted) {
        return;
    }
    if (armed & FAULT_STOPS) {
        __atomic_store_n(args->armed, 0, __ATOMIC_RELEASE);
        raise(SIGSTOP); /* to this thread: not one instruction of the next node before it stops */
        return;
    }
    kill(getpid(), SIGKILL);
    for (;;) {
        pause(); /* not one instruction of the next node */
    }
}

static const eep_kernel strike_kernel = {"strike", strike, NULL};

static eep_status put_strike(fault_node *self, eep_stream *stream, verb_place place)
{
    strike_args args = {&self->armed, self->world, (uint32_t)place, 0};
    return eep_launch(stream, &strike_kernel, 1, 1, &args, sizeof args);
}

/* A step begins with its latch, a layer with its route. */
static eep_status after_node(void *user, eep_stream *stream, eepi_kernel_id id)
{
    fault_node *self = user;
    if (id == EEPI_KERNEL_latch) {
        self->layer = -1;
    } else if (id == EEPI_KERNEL_route) {
        self->layer++;
    }
    if (self->layer != self->victim_layer) {
        return EEP_OK;
    }
    switch (id) {
    case EEPI_KERNEL_dispatch_send:
        return put_strike(self, stream, PLACE_DISPATCH);
    case EEPI_KERNEL_unpack:
        return put_strike(self, stream, PLACE_EXPERTS);
    case EEPI_KERNEL_combine_send:
        return put_strike(self, stream, PLACE_COMBINE);
    default:
        return EEP_OK;
    }
}

eep_status fault_node_init(fault_node *self, eep_context *context, const eep_device *device,
                           int32_t num_layers)
{
    if (eepi_device_kernel(device, EEPI_KERNEL_latch)->host == NULL) {
        return EEP_ERR_UNSUPPORTED; /* not in this process: the node could not end it */
    }
    *self = (fault_node){
        .world = eepi_tables_world(context->tables), .victim_layer = num_layers / 2, .layer = -1};
    eepi_capture_watch(context, after_node, self);
    return EEP_OK;
}

void fault_node_arm(fault_node *self, verb_place place)
{
    __atomic_store_n(&self->armed, (uint32_t)place + 1, __ATOMIC_RELEASE);
}

void fault_node_arm_stop(fault_node *self, verb_place place)
{
    __atomic_store_n(&self->armed, ((uint32_t)place + 1) | FAULT_STOPS, __ATOMIC_RELEASE);
}

int fault_node_is_armed(const fault_node *self)
{
    return __atomic_load_n(&self->armed, __ATOMIC_ACQUIRE) != 0;
}

void fault_node_disarm(fault_node *self)
{
    __atomic_store_n(&self->armed, 0, __ATOMIC_RELEASE);
}
