/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that is registered with a device, and the addresses that a capture has recorded: each must
 * lie in such memory, and must still do so at a replay. */
#include "graphs/device/capture_check.h"

#include <stdbool.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

typedef struct range {
    uintptr_t begin, end;
    uint64_t serial; /* memory freed and given again is not the same memory */
    uint32_t holders;
    uint8_t is_ours, is_given_up; /* given up: gone for graphs, and freed with the last holder */
    uint8_t kind;                 /* eep_memory, once it is given up */
} range;

struct eepi_registered {
    pthread_mutex_t lock;
    range *ranges;
    size_t num, capacity;
    uint64_t removals, serials;
};

/* ------------------------------------------------------------------ memory that stays */

eepi_registered *eepi_registered_open(void)
{
    eepi_registered *registered = calloc(1, sizeof *registered);

    if (registered) {
        pthread_mutex_init(&registered->lock, NULL);
    }
    return registered;
}

void eepi_registered_close(eepi_registered *registered)
{
    if (!registered) {
        return;
    }
    pthread_mutex_destroy(&registered->lock);
    free(registered->ranges);
    free(registered);
}

/* Room for one more element. */
static bool grow(void **elements, size_t num, size_t *capacity, size_t bytes)
{
    size_t wanted = *capacity ? 2 * *capacity : 64;
    void *larger;

    if (num < *capacity) {
        return true;
    }
    larger = realloc(*elements, wanted * bytes);
    if (!larger) {
        return false;
    }
    *elements = larger;
    *capacity = wanted;
    return true;
}

eep_status eepi_registered_add(eepi_registered *registered, const void *memory, size_t bytes,
                               int is_ours)
{
    uintptr_t begin = (uintptr_t)memory;
    int added;

    if (!memory || bytes == 0 || begin + bytes < begin) {
        return EEP_ERR_INVALID;
    }
    pthread_mutex_lock(&registered->lock);
    added =
        grow((void **)&registered->ranges, registered->num, &registered->capacity, sizeof(range));
    if (added) {
        registered->ranges[registered->num++] = (range){.begin = begin,
                                                        .end = begin + bytes,
                                                        .serial = ++registered->serials,
                                                        .is_ours = is_ours != 0};
    }
    pthread_mutex_unlock(&registered->lock);
    return added ? EEP_OK : EEP_ERR_NO_MEMORY;
}

/* The newest one that begins there; NULL: none does. With the lock. */
static range *beginning_at(eepi_registered *registered, const void *memory, int is_ours)
{
    for (size_t at = registered->num; at > 0; at--) {
        range *r = &registered->ranges[at - 1];
        if (r->begin == (uintptr_t)memory && r->is_ours == is_ours) {
            return r;
        }
    }
    return NULL;
}

/* Ours that has the address; NULL: none has. With the lock. */
static range *ours_with(eepi_registered *registered, const void *address)
{
    for (size_t at = registered->num; at > 0; at--) {
        range *r = &registered->ranges[at - 1];
        if (r->is_ours && (uintptr_t)address >= r->begin && (uintptr_t)address < r->end) {
            return r;
        }
    }
    return NULL;
}

/* With the lock. */
static void drop_range(eepi_registered *registered, range *r)
{
    size_t at = (size_t)(r - registered->ranges);

    memmove(r, r + 1, (registered->num - at - 1) * sizeof(range));
    registered->num--;
}

eep_status eepi_registered_remove(eepi_registered *registered, const void *memory)
{
    range *r;

    pthread_mutex_lock(&registered->lock);
    r = beginning_at(registered, memory, 0);
    if (r) {
        drop_range(registered, r);
        registered->removals++;
    }
    pthread_mutex_unlock(&registered->lock);
    return r ? EEP_OK : EEP_ERR_NOT_FOUND;
}

eep_status eepi_registered_give_up(eepi_registered *registered, const void *memory, eep_memory kind)
{
    eep_status status = EEP_ERR_NOT_FOUND;
    range *r;

    pthread_mutex_lock(&registered->lock);
    r = beginning_at(registered, memory, 1);
    if (r) {
        status = r->holders ? EEP_ERR_STATE : EEP_OK;
        r->is_given_up = 1;
        r->kind = (uint8_t)kind;
        registered->removals++;
    }
    if (status == EEP_OK) {
        drop_range(registered, r);
    }
    pthread_mutex_unlock(&registered->lock);
    return status;
}

void eepi_registered_hold(eepi_registered *registered, const void *address)
{
    range *r;

    pthread_mutex_lock(&registered->lock);
    r = ours_with(registered, address);
    if (r) {
        r->holders++;
    }
    pthread_mutex_unlock(&registered->lock);
}

void *eepi_registered_release(eepi_registered *registered, const void *address,
                              eep_memory *kind_out)
{
    void *memory = NULL;
    range *r;

    pthread_mutex_lock(&registered->lock);
    r = ours_with(registered, address);
    if (r && r->holders > 0 && --r->holders == 0 && r->is_given_up) {
        memory = (void *)r->begin;
        *kind_out = (eep_memory)r->kind;
        drop_range(registered, r);
    }
    pthread_mutex_unlock(&registered->lock);
    return memory;
}

/* The serial of the newest memory that has the address; 0: none has. With the lock. */
static uint64_t serial_of(const eepi_registered *registered, const void *address)
{
    for (size_t i = registered->num; i > 0; i--) {
        const range *r = &registered->ranges[i - 1];
        if ((uintptr_t)address >= r->begin && (uintptr_t)address < r->end && !r->is_given_up) {
            return r->serial;
        }
    }
    return 0;
}

/* Is that memory still there? With the lock. */
static bool stays(const eepi_registered *registered, eepi_captured_address captured)
{
    for (size_t i = 0; i < registered->num; i++) {
        if (registered->ranges[i].serial == captured.serial) {
            return !registered->ranges[i].is_given_up;
        }
    }
    return false;
}

/* ------------------------------------------------------------------ what a capture has recorded */

void eepi_captured_free(eepi_captured *captured)
{
    free(captured->address);
    *captured = (eepi_captured){0};
}

static eep_status add_address(eepi_captured *captured, eepi_registered *registered,
                              const void *address)
{
    eep_status status = EEP_OK;
    uint64_t serial;

    pthread_mutex_lock(&registered->lock);
    if (captured->num == 0) {
        captured->removals = registered->removals;
    }
    serial = serial_of(registered, address);
    if (serial == 0) {
        status = EEP_ERR_INVALID;
    } else if (!grow((void **)&captured->address, captured->num, &captured->capacity,
                     sizeof *captured->address)) {
        status = EEP_ERR_NO_MEMORY;
    } else {
        captured->address[captured->num++] = (eepi_captured_address){address, serial};
    }
    pthread_mutex_unlock(&registered->lock);
    return status;
}

static eep_status add_named(eepi_captured *captured, eepi_registered *registered,
                            const void *address, const char *node, const char *name, char *why_out,
                            size_t why_bytes)
{
    eep_status status = add_address(captured, registered, address);

    if (status == EEP_ERR_INVALID) {
        snprintf(why_out, why_bytes,
                 "%s: %s is %p, no memory of this device that is known to stay: allocate it with "
                 "eep_device_alloc, or name it with eep_memory_register before the capture",
                 node, name, address);
    }
    return status;
}

static void add_to_fingerprint(eepi_captured *captured, const void *bytes, size_t size)
{
    captured->fingerprint = XXH64(bytes, size, captured->fingerprint + 1);
    captured->fingerprint += captured->fingerprint == 0;
}

/* The declared arguments come in order and cover all bytes. */
static eep_status add_arguments(eepi_captured *captured, eepi_registered *registered,
                                const eep_kernel *kernel, const uint8_t *args, size_t args_bytes,
                                char *why_out, size_t why_bytes)
{
    eep_status status = EEP_OK;
    size_t covered = 0;

    for (uint32_t i = 0; i < kernel->num_args && status == EEP_OK; i++) {
        const eep_kernel_arg *arg = &kernel->args[i];
        const void *address;
        if (arg->offset != covered || arg->offset + (size_t)arg->bytes > args_bytes) {
            break;
        }
        covered += arg->bytes;
        if (arg->kind == EEP_ARG_CONSTANT) {
            continue;
        }
        memcpy(&address, args + arg->offset, sizeof address);
        if (address) {
            status = add_named(captured, registered, address, kernel->name, arg->name, why_out,
                               why_bytes);
        }
    }
    if (status == EEP_OK && covered != args_bytes) {
        snprintf(why_out, why_bytes,
                 "%s: argument byte %zu of %zu is neither a declared address nor a constant",
                 kernel->name, covered, args_bytes);
        status = EEP_ERR_INVALID;
    }
    return status;
}

eep_status eepi_captured_add_launch(eepi_captured *captured, eepi_registered *registered,
                                    const eep_kernel *kernel, uint32_t num_blocks, const void *args,
                                    size_t args_bytes, char *why_out, size_t why_bytes)
{
    add_to_fingerprint(captured, kernel->name, strlen(kernel->name));
    add_to_fingerprint(captured, &num_blocks, sizeof num_blocks);
    if (!kernel->args) { /* its bytes may be padding, which is never the same */
        return EEP_OK;
    }
    if (args_bytes) {
        add_to_fingerprint(captured, args, args_bytes);
    }
    return add_arguments(captured, registered, kernel, args, args_bytes, why_out, why_bytes);
}

eep_status eepi_captured_add_copy(eepi_captured *captured, eepi_registered *registered,
                                  const void *to, const void *from, size_t bytes, char *why_out,
                                  size_t why_bytes)
{
    const void *const ends[2] = {to, from};
    eep_status status;

    add_to_fingerprint(captured, ends, sizeof ends);
    add_to_fingerprint(captured, &bytes, sizeof bytes);
    status = add_named(captured, registered, to, "copy", "the target", why_out, why_bytes);
    if (status == EEP_OK) {
        status = add_named(captured, registered, from, "copy", "the source", why_out, why_bytes);
    }
    return status;
}

eep_status eepi_captured_check(eepi_captured *captured, eepi_registered *registered, char *why_out,
                               size_t why_bytes)
{
    const void *gone = NULL;

    pthread_mutex_lock(&registered->lock);
    for (size_t i = 0; i < captured->num && captured->removals != registered->removals && !gone;
         i++) {
        if (!stays(registered, captured->address[i])) {
            gone = captured->address[i].address;
        }
    }
    if (!gone) {
        captured->removals = registered->removals;
    }
    pthread_mutex_unlock(&registered->lock);
    if (!gone) {
        return EEP_OK;
    }
    snprintf(why_out, why_bytes, "the graph holds %p, memory that was freed since", gone);
    return EEP_ERR_STATE;
}
