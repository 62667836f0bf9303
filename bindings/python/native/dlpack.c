/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of a device that several holders share, and its form as a DLPack tensor. A holder may drop
 * it from any thread, without Python's lock. Source of the layouts: the header of DLPack, versions
 * 0 and 1. */
#define Py_LIMITED_API 0x03090000
#include <Python.h>

#include "extension.h"

#include <stdlib.h>
#include <string.h>

struct eepy_memory {
    eep_device *device; /* lives as long as memory of it does, closed or not */
    void *data;
    int32_t kind, holders;
};

eepy_memory *eepy_memory_open(eepy_handle *device, int32_t kind, uint64_t bytes,
                              int32_t *status_out)
{
    eepy_memory *memory = calloc(1, sizeof *memory);
    void *it;

    if (!memory) {
        *status_out = EEP_ERR_NO_MEMORY;
        return NULL;
    }
    if (!eepy_enter(device, &it)) {
        *status_out = EEPY_CLOSED;
        free(memory);
        return NULL;
    }
    memory->device = it;
    memory->kind = kind;
    memory->holders = 1;
    *status_out = eep_device_alloc(it, (eep_memory)kind, bytes, &memory->data);
    eepy_leave(device);
    if (*status_out != EEP_OK) {
        free(memory);
        return NULL;
    }
    return memory;
}

void *eepy_memory_data(const eepy_memory *memory)
{
    return memory->data;
}

static void hold(eepy_memory *memory)
{
    __atomic_add_fetch(&memory->holders, 1, __ATOMIC_RELAXED);
}

void eepy_memory_drop(eepy_memory *memory)
{
    if (__atomic_sub_fetch(&memory->holders, 1, __ATOMIC_ACQ_REL) == 0) {
        eep_device_free(memory->device, (eep_memory)memory->kind, memory->data);
        free(memory);
    }
}

void eepy_memory_leak(eepy_memory *memory)
{
    hold(memory);
}

/* DLManagedTensor of version 0, and DLManagedTensorVersioned of version 1. */
typedef struct managed {
    eepy_dltensor tensor;
    void *manager_ctx;
    void (*deleter)(struct managed *self);
} managed;
typedef struct versioned {
    uint32_t major, minor;
    void *manager_ctx;
    void (*deleter)(struct versioned *self);
    uint64_t flags;
    eepy_dltensor tensor;
} versioned;

static void delete_managed(managed *self)
{
    eepy_memory_drop(self->manager_ctx);
    free(self->tensor.shape);
    free(self);
}

static void delete_versioned(versioned *self)
{
    eepy_memory_drop(self->manager_ctx);
    free(self->tensor.shape);
    free(self);
}

void *eepy_dlpack_new(eepy_memory *memory, int32_t device_type, int32_t device_id, uint8_t code,
                      uint8_t bits, int32_t ndim, const int64_t *shape, uint64_t byte_offset,
                      int is_versioned)
{
    eepy_dltensor tensor = {.data = memory->data,
                            .device_type = device_type,
                            .device_id = device_id,
                            .ndim = ndim,
                            .code = code,
                            .bits = bits,
                            .lanes = 1,
                            .byte_offset = byte_offset};
    void *made = calloc(1, is_versioned ? sizeof(versioned) : sizeof(managed));
    int64_t stride = 1;

    tensor.shape = calloc(2 * (size_t)ndim + 1, sizeof *tensor.shape);
    if (!made || !tensor.shape) {
        free(made);
        free(tensor.shape);
        return NULL;
    }
    tensor.strides = tensor.shape + ndim;
    for (int32_t at = ndim - 1; at >= 0; at--) {
        tensor.shape[at] = shape[at];
        tensor.strides[at] = stride;
        stride *= shape[at];
    }
    hold(memory);
    if (is_versioned) {
        *(versioned *)made = (versioned){.major = 1,
                                         .minor = 0,
                                         .manager_ctx = memory,
                                         .deleter = delete_versioned,
                                         .tensor = tensor};
    } else {
        *(managed *)made =
            (managed){.tensor = tensor, .manager_ctx = memory, .deleter = delete_managed};
    }
    return made;
}

const eepy_dltensor *eepy_dlpack_look(const void *made, int is_versioned)
{
    return is_versioned ? &((const versioned *)made)->tensor : &((const managed *)made)->tensor;
}

void eepy_capsule_end(void *capsule)
{
    if (PyCapsule_IsValid(capsule, "dltensor")) {
        managed *made = PyCapsule_GetPointer(capsule, "dltensor");

        made->deleter(made);
    } else if (PyCapsule_IsValid(capsule, "dltensor_versioned")) {
        versioned *made = PyCapsule_GetPointer(capsule, "dltensor_versioned");

        made->deleter(made);
    }
}
