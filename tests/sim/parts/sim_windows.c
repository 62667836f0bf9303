/* SPDX-License-Identifier: Apache-2.0 */
/* Windows of simulated processes, with memory per colour. */
#include "tests/sim/sim.h"

#include "membership/context/context.h"
#include "transport/window/window.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A mapped window has memory of its owner's, and its own list of it. */
struct eepi_window {
    uint8_t *host;
    struct {
        uint8_t *at;
        uint32_t serial; /* 0: none */
    } memory[EEPK_COLOURS][EEPK_MEMORIES_KEPT];
    uint32_t dropped[EEPK_COLOURS];
    eepi_window_spec spec;
    sim_process *owner;
    eepi_window *owners; /* its owner's; NULL: it is that */
};

eepi_window_spec eepi_window_spec_of(const eepk_shape *shape, uint32_t seat, uint32_t generation)
{
    return (eepi_window_spec){seat, generation, shape->window_bytes, shape->off_combine_tag};
}

static uint8_t *window_memory(size_t bytes)
{
    uint8_t *memory = aligned_alloc(EEPK_LINE_BYTES, bytes);

    if (!memory) {
        abort();
    }
    memset(memory, 0, bytes);
    return memory;
}

/* The index; -1: it is not there. */
static int find_memory(const eepi_window *window, uint32_t colour, uint32_t serial)
{
    for (int i = 0; i < EEPK_MEMORIES_KEPT; i++) {
        if (window->memory[colour][i].serial == serial) {
            return i;
        }
    }
    return -1;
}

/* The store has forgotten all, and those who came since have begun an instance. A process that
 * waited to be let in by the members before may be in it or join it, and has other memory by now.
 */
static int is_begun_behind(const sim_process *p)
{
    return p->epoch == 0 && p->started_us < sim->begun_us;
}

/* P7: what was dropped is never there again, and no more is kept than there should be. */
static int place_for(const eepi_window *window, uint32_t colour, uint32_t serial)
{
    const int at = find_memory(window, colour, 0);

    SIM_MUST(at >= 0, "P7", "%d.%u keeps more memory of colour %u than %d", window->spec.seat,
             window->spec.generation, colour, EEPK_MEMORIES_KEPT);
    SIM_MUST(serial > window->dropped[colour], "P7", "memory %u of colour %u of %d.%u comes back",
             serial, colour, window->spec.seat, window->spec.generation);
    return at;
}

/* Once a process has no more memory for its window, that lasts until the world heals. */
static int lacks_memory(sim_process *p)
{
    if (!(sim->kinds >> SIM_MEMORY & 1u) || sim->healed || !p->rank.joined) {
        return 0;
    }
    p->no_memory |= sim_random(3) == 0;
    if (p->no_memory) {
        p->disturbed_us = sim->now_us;
        p->lacks_from_us = p->lacks_from_us != 0 ? p->lacks_from_us : sim->now_us;
    }
    return p->no_memory;
}

/* The memory outlives its owner, as a memfd that is mapped does: a zombie stores into it still. */
eep_status eepi_window_renew(eepi_window *window, uint32_t colour, uint32_t serial, char *why_out,
                             size_t why_bytes)
{
    int at;

    snprintf(why_out, why_bytes, "it is full");
    if (find_memory(window, colour, serial) >= 0) {
        return EEP_OK;
    }
    if (serial <= window->dropped[colour] && is_begun_behind(window->owner)) {
        snprintf(why_out, why_bytes, "memory %u of colour %u was dropped", serial, colour);
        return EEP_ERR_STATE;
    }
    at = place_for(window, colour, serial);
    if (sim->failed) {
        return EEP_ERR_STATE;
    }
    if (lacks_memory(window->owner)) {
        return EEP_ERR_NO_MEMORY;
    }
    window->memory[colour][at].at = window_memory(window->spec.bytes);
    window->memory[colour][at].serial = serial;
    sim->memories++;
    return EEP_OK;
}

eep_status eepi_window_create(eep_device *device, const eepi_window_spec *spec,
                              const uint32_t serial[EEPK_COLOURS], char *why_out, size_t why_bytes,
                              eepi_window **window_out)
{
    eepi_window *window = calloc(1, sizeof *window);

    (void)device;
    if (!window) {
        return EEP_ERR_NO_MEMORY;
    }
    window->host = window_memory(spec->host_bytes);
    window->spec = *spec;
    window->owner = sim_self();
    for (uint32_t colour = 0; colour < EEPK_COLOURS; colour++) {
        if (eepi_window_renew(window, colour, serial[colour], why_out, why_bytes) != EEP_OK) {
            return EEP_ERR_STATE;
        }
    }
    *window_out = window;
    return EEP_OK;
}

eep_status eepi_window_map(eep_device *device, const eepi_window_descriptor *descriptor,
                           const eepi_window_spec *spec, char *why_out, size_t why_bytes,
                           eepi_window **window_out)
{
    eepi_window *owners, *window;

    (void)device;
    snprintf(why_out, why_bytes, "its process is gone, or it is another's");
    memcpy(&owners, descriptor->bytes, sizeof owners);
    if (!owners || !owners->owner->alive || memcmp(&owners->spec, spec, sizeof *spec) != 0) {
        return EEP_ERR_UNREACHABLE;
    }
    SIM_MUST(owners->owner->host == sim_self()->host, "N9",
             "%d.%u maps the window of %d.%u of host %d", sim_self()->seat, sim_self()->generation,
             owners->owner->seat, owners->owner->generation, owners->owner->host);
    window = calloc(1, sizeof *window);
    if (!window) {
        return EEP_ERR_NO_MEMORY;
    }
    *window = (eepi_window){
        .host = owners->host, .spec = *spec, .owner = owners->owner, .owners = owners};
    *window_out = window;
    return EEP_OK;
}

/* What the descriptor does not say yet is not found: it follows in another record. */
static bool is_named(const eepi_window_descriptor *descriptor, uint32_t colour, uint32_t serial)
{
    uint32_t named[EEPK_COLOURS][EEPK_MEMORIES_KEPT];

    memcpy(named, descriptor->bytes + sizeof(void *), sizeof named);
    for (int i = 0; i < EEPK_MEMORIES_KEPT; i++) {
        if (named[colour][i] == serial) {
            return true;
        }
    }
    return false;
}

eep_status eepi_window_reach(eepi_window *window, const eepi_window_descriptor *descriptor,
                             uint32_t colour, uint32_t serial, char *why_out, size_t why_bytes)
{
    const int from = find_memory(window->owners, colour, serial);
    int at;

    snprintf(why_out, why_bytes, "memory %u of colour %u is not there", serial, colour);
    if (find_memory(window, colour, serial) >= 0) {
        return EEP_OK;
    }
    if (from < 0 || !window->owner->alive || !is_named(descriptor, colour, serial)) {
        return EEP_ERR_NOT_FOUND;
    }
    at = place_for(window, colour, serial);
    if (sim->failed) {
        return EEP_ERR_STATE;
    }
    window->memory[colour][at].at = window->owners->memory[colour][from].at;
    window->memory[colour][at].serial = serial;
    return EEP_OK;
}

/* Freed with its world: whoever stores into it later finds it. What the live bank names stays. */
void eepi_window_drop(eepi_window *window, uint32_t colour, uint32_t serial, uint32_t but)
{
    const eep_context *context = sim_self()->rank.context;
    const eepi_live *live = context ? &context->stepper.live : NULL;

    for (int i = 0; i < EEPK_MEMORIES_KEPT; i++) {
        const uint32_t has = window->memory[colour][i].serial;
        if (has != 0 && has < serial && has != but) {
            SIM_MUST(!live || live->colour != colour || live->serial != has, "P7",
                     "%d.%u runs in memory %u of colour %u, and drops it", sim_self()->seat,
                     sim_self()->generation, has, colour);
            window->dropped[colour] = has > window->dropped[colour] ? has : window->dropped[colour];
            window->memory[colour][i].serial = 0;
        }
    }
}

void eepi_window_close(eepi_window *window)
{
    (void)window; /* freed with its world */
}

eepk_window_header *eepi_window_header(const eepi_window *window)
{
    return (eepk_window_header *)window->host;
}

void *eepi_window_memory(const eepi_window *window, uint32_t colour, uint32_t serial)
{
    const int at = serial ? find_memory(window, colour, serial) : -1;

    return at < 0 ? NULL : window->memory[colour][at].at;
}

bool eepi_window_has_all(const eepi_window *window, const uint32_t serial[EEPK_COLOURS])
{
    for (uint32_t colour = 0; colour < EEPK_COLOURS; colour++) {
        if (!eepi_window_memory(window, colour, serial[colour])) {
            return false;
        }
    }
    return true;
}

bool eepi_window_has_dropped(const eepi_window *window, const uint32_t serial[EEPK_COLOURS])
{
    for (uint32_t colour = 0; colour < EEPK_COLOURS; colour++) {
        if (serial[colour] <= window->dropped[colour]) {
            return true;
        }
    }
    return false;
}

bool eepi_window_is_discrete(const eepi_window *window)
{
    (void)window;
    return sim->options.windows_discrete;
}

void eepi_window_describe(const eepi_window *window, eepi_window_descriptor *descriptor_out)
{
    uint32_t named[EEPK_COLOURS][EEPK_MEMORIES_KEPT];

    for (uint32_t colour = 0; colour < EEPK_COLOURS; colour++) {
        for (int i = 0; i < EEPK_MEMORIES_KEPT; i++) {
            named[colour][i] = window->memory[colour][i].serial;
        }
    }
    memset(descriptor_out, 0, sizeof *descriptor_out);
    memcpy(descriptor_out->bytes, &window, sizeof window);
    memcpy(descriptor_out->bytes + sizeof window, named, sizeof named);
}
