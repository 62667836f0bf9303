#include "graphs/device/capture_guard.h"

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

struct eepi_fixed {
    pthread_mutex_t lock;
    range *ranges;
    size_t num, capacity;
    uint64_t removals, serials;
};

/* ------------------------------------------------------------------ memory that stays */

eepi_fixed *eepi_fixed_open(void)
{
    eepi_fixed *fixed = calloc(1, sizeof *fixed);

    if (fixed) {
        pthread_mutex_init(&fixed->lock, NULL);
    }
    return fixed;
}

void eepi_fixed_close(eepi_fixed *fixed)
{
    if (!fixed) {
        return;
    }
    pthread_mutex_destroy(&fixed->lock);
    free(fixed->ranges);
    free(fixed);
}

/* Room for one more element. */
static int grow(void **elements, size_t num, size_t *capacity, size_t bytes)
{
    size_t wanted = *capacity ? 2 * *capacity : 64;
    void *larger;

    if (num < *capacity) {
        return 1;
    }
    larger = realloc(*elements, wanted * bytes);
    if (!larger) {
        return 0;
    }
    *elements = larger;
    *capacity = wanted;
    return 1;
}

eep_status eepi_fixed_add(eepi_fixed *fixed, const void *memory, size_t bytes, int is_ours)
{
    uintptr_t begin = (uintptr_t)memory;
    int added;

    if (!memory || bytes == 0 || begin + bytes < begin) {
        return EEP_ERR_INVALID;
    }
    pthread_mutex_lock(&fixed->lock);
    added = grow((void **)&fixed->ranges, fixed->num, &fixed->capacity, sizeof(range));
    if (added) {
        fixed->ranges[fixed->num++] = (range){.begin = begin,
                                              .end = begin + bytes,
                                              .serial = ++fixed->serials,
                                              .is_ours = is_ours != 0};
    }
    pthread_mutex_unlock(&fixed->lock);
    return added ? EEP_OK : EEP_ERR_NO_MEMORY;
}

/* The newest one that begins there; NULL: none does. With the lock. */
static range *beginning_at(eepi_fixed *fixed, const void *memory, int is_ours)
{
    for (size_t at = fixed->num; at > 0; at--) {
        range *r = &fixed->ranges[at - 1];
        if (r->begin == (uintptr_t)memory && r->is_ours == is_ours) {
            return r;
        }
    }
    return NULL;
}

/* Ours that has the address; NULL: none has. With the lock. */
static range *ours_with(eepi_fixed *fixed, const void *address)
{
    for (size_t at = fixed->num; at > 0; at--) {
        range *r = &fixed->ranges[at - 1];
        if (r->is_ours && (uintptr_t)address >= r->begin && (uintptr_t)address < r->end) {
            return r;
        }
    }
    return NULL;
}

/* With the lock. */
static void drop_range(eepi_fixed *fixed, range *r)
{
    size_t at = (size_t)(r - fixed->ranges);

    memmove(r, r + 1, (fixed->num - at - 1) * sizeof(range));
    fixed->num--;
}

eep_status eepi_fixed_remove(eepi_fixed *fixed, const void *memory)
{
    range *r;

    pthread_mutex_lock(&fixed->lock);
    r = beginning_at(fixed, memory, 0);
    if (r) {
        drop_range(fixed, r);
        fixed->removals++;
    }
    pthread_mutex_unlock(&fixed->lock);
    return r ? EEP_OK : EEP_ERR_NOT_FOUND;
}

eep_status eepi_fixed_give_up(eepi_fixed *fixed, const void *memory, eep_memory kind)
{
    eep_status status = EEP_ERR_NOT_FOUND;
    range *r;

    pthread_mutex_lock(&fixed->lock);
    r = beginning_at(fixed, memory, 1);
    if (r) {
        status = r->holders ? EEP_ERR_STATE : EEP_OK;
        r->is_given_up = 1;
        r->kind = (uint8_t)kind;
        fixed->removals++;
    }
    if (status == EEP_OK) {
        drop_range(fixed, r);
    }
    pthread_mutex_unlock(&fixed->lock);
    return status;
}

void eepi_fixed_hold(eepi_fixed *fixed, const void *address)
{
    range *r;

    pthread_mutex_lock(&fixed->lock);
    r = ours_with(fixed, address);
    if (r) {
        r->holders++;
    }
    pthread_mutex_unlock(&fixed->lock);
}

void *eepi_fixed_release(eepi_fixed *fixed, const void *address, eep_memory *kind_out)
{
    void *memory = NULL;
    range *r;

    pthread_mutex_lock(&fixed->lock);
    r = ours_with(fixed, address);
    if (r && r->holders > 0 && --r->holders == 0 && r->is_given_up) {
        memory = (void *)r->begin;
        *kind_out = (eep_memory)r->kind;
        drop_range(fixed, r);
    }
    pthread_mutex_unlock(&fixed->lock);
    return memory;
}

/* The serial of the newest memory that has the address; 0: none has. With the lock. */
static uint64_t serial_of(const eepi_fixed *fixed, const void *address)
{
    for (size_t i = fixed->num; i > 0; i--) {
        const range *r = &fixed->ranges[i - 1];
        if ((uintptr_t)address >= r->begin && (uintptr_t)address < r->end && !r->is_given_up) {
            return r->serial;
        }
    }
    return 0;
}

/* Is that memory still there? With the lock. */
static int stays(const eepi_fixed *fixed, eepi_held_address held)
{
    for (size_t i = 0; i < fixed->num; i++) {
        if (fixed->ranges[i].serial == held.serial) {
            return !fixed->ranges[i].is_given_up;
        }
    }
    return 0;
}

/* ------------------------------------------------------------------ what a capture holds */

void eepi_held_free(eepi_held *held)
{
    free(held->address);
    *held = (eepi_held){0};
}

static eep_status hold(eepi_held *held, eepi_fixed *fixed, const void *address)
{
    eep_status status = EEP_OK;
    uint64_t serial;

    pthread_mutex_lock(&fixed->lock);
    if (held->num == 0) {
        held->removals = fixed->removals;
    }
    serial = serial_of(fixed, address);
    if (serial == 0) {
        status = EEP_ERR_INVALID;
    } else if (!grow((void **)&held->address, held->num, &held->capacity, sizeof *held->address)) {
        status = EEP_ERR_NO_MEMORY;
    } else {
        held->address[held->num++] = (eepi_held_address){address, serial};
    }
    pthread_mutex_unlock(&fixed->lock);
    return status;
}

static eep_status hold_named(eepi_held *held, eepi_fixed *fixed, const void *address,
                             const char *node, const char *name, char *why_out, size_t why_bytes)
{
    eep_status status = hold(held, fixed, address);

    if (status == EEP_ERR_INVALID) {
        snprintf(why_out, why_bytes,
                 "%s: %s is %p, no memory of this device that is known to stay: allocate it with "
                 "eep_device_alloc, or name it with eep_memory_register before the capture",
                 node, name, address);
    }
    return status;
}

static void mark(eepi_held *held, const void *bytes, size_t size)
{
    held->fingerprint = XXH64(bytes, size, held->fingerprint + 1);
    held->fingerprint += held->fingerprint == 0;
}

/* The declared arguments come in order and cover all bytes. */
static eep_status take_arguments(eepi_held *held, eepi_fixed *fixed, const eep_kernel *kernel,
                                 const uint8_t *args, size_t args_bytes, char *why_out,
                                 size_t why_bytes)
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
            status = hold_named(held, fixed, address, kernel->name, arg->name, why_out, why_bytes);
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

eep_status eepi_held_take_launch(eepi_held *held, eepi_fixed *fixed, const eep_kernel *kernel,
                                 uint32_t num_blocks, const void *args, size_t args_bytes,
                                 char *why_out, size_t why_bytes)
{
    mark(held, kernel->name, strlen(kernel->name));
    mark(held, &num_blocks, sizeof num_blocks);
    if (!kernel->args) { /* its bytes may be padding, which is never the same */
        return EEP_OK;
    }
    if (args_bytes) {
        mark(held, args, args_bytes);
    }
    return take_arguments(held, fixed, kernel, args, args_bytes, why_out, why_bytes);
}

eep_status eepi_held_take_copy(eepi_held *held, eepi_fixed *fixed, const void *to, const void *from,
                               size_t bytes, char *why_out, size_t why_bytes)
{
    const void *const ends[2] = {to, from};
    eep_status status;

    mark(held, ends, sizeof ends);
    mark(held, &bytes, sizeof bytes);
    status = hold_named(held, fixed, to, "copy", "the target", why_out, why_bytes);
    if (status == EEP_OK) {
        status = hold_named(held, fixed, from, "copy", "the source", why_out, why_bytes);
    }
    return status;
}

eep_status eepi_held_check(eepi_held *held, eepi_fixed *fixed, char *why_out, size_t why_bytes)
{
    const void *gone = NULL;

    pthread_mutex_lock(&fixed->lock);
    for (size_t i = 0; i < held->num && held->removals != fixed->removals && !gone; i++) {
        if (!stays(fixed, held->address[i])) {
            gone = held->address[i].address;
        }
    }
    if (!gone) {
        held->removals = fixed->removals;
    }
    pthread_mutex_unlock(&fixed->lock);
    if (!gone) {
        return EEP_OK;
    }
    snprintf(why_out, why_bytes, "the graph holds %p, memory that was freed since", gone);
    return EEP_ERR_STATE;
}
