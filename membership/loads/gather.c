/* SPDX-License-Identifier: Apache-2.0 */
/* Loads of late. Each period a rank takes over what its kernels have counted since, and what it
 * knew fades. The member that would plan the next change of view asks the others for theirs, one
 * after the other, by bulk copies. The other members go by their own, which are a sample: one of
 * them plans when that member has ended. What a planner knows it also puts into the store, where a
 * process that opens finds it. */
#include "membership/loads/gather.h"

#include "membership/context/context.h"
#include "membership/loads/loads.h"

#include <stdlib.h>
#include <string.h>

enum {
    FADE_SHIFT = 3, /* what was known fades by an eighth each period */
    FETCH_BOUND_US = 1000000,
    /* Below so many tokens per expert a layer's loads are chance: it counts as unknown. */
    LEAST_TOKENS = 128,
    BLOB_MAGIC = 0x4c454550,
};

/* A rank's loads of late, as they go to a peer: [num_layers][num_experts] follow. */
typedef struct blob_header {
    uint32_t magic, num_layers, num_experts, pad;
} blob_header;

struct eepi_gather {
    size_t num; /* num_layers * num_experts */
    size_t blob_bytes;
    uint64_t next_us;           /* of the next period; 0: none came yet */
    uint64_t *counts, *counted; /* now, and when the last period began */
    blob_header *own;           /* this rank's; not written while it is sent */
    int num_sent;
    uint32_t *loads; /* what the core was told last, */
    bool are_known;  /* and whether that was anything */
    bool were_set;   /* by the engine */
    /* gathering */
    bool gathers;
    int asks;          /* the seat that is asked, or the last one that was */
    uint64_t transfer; /* 0: none runs */
    blob_header *theirs;
    uint64_t *sum;
    blob_header *said; /* to others, by eepi_gather_say */
};

eep_status eepi_gather_open(eep_context *context)
{
    struct eepi_gather *g = calloc(1, sizeof *g);

    context->observed.loads->gather = g;
    if (!g) {
        return EEP_ERR_NO_MEMORY;
    }
    g->num = (size_t)context->config.num_layers * (size_t)context->config.num_experts;
    g->blob_bytes = sizeof(blob_header) + g->num * sizeof(uint32_t);
    g->counts = calloc(g->num, sizeof *g->counts);
    g->counted = calloc(g->num, sizeof *g->counted);
    g->sum = calloc(g->num, sizeof *g->sum);
    g->loads = calloc(g->num, sizeof *g->loads);
    g->own = calloc(1, g->blob_bytes);
    g->theirs = calloc(1, g->blob_bytes);
    g->said = calloc(1, g->blob_bytes);
    if (!g->counts || !g->counted || !g->sum || !g->loads || !g->own || !g->theirs || !g->said) {
        return EEP_ERR_NO_MEMORY;
    }
    *g->own = *g->said = (blob_header){BLOB_MAGIC, (uint32_t)context->config.num_layers,
                                       (uint32_t)context->config.num_experts, 0};
    return EEP_OK;
}

void eepi_gather_close(eep_context *context)
{
    struct eepi_gather *g = context->observed.loads ? context->observed.loads->gather : NULL;

    if (g) {
        free(g->counts);
        free(g->counted);
        free(g->sum);
        free(g->loads);
        free(g->own);
        free(g->theirs);
        free(g->said);
    }
    free(g);
}

static uint32_t *values_of(blob_header *blob)
{
    return (uint32_t *)(blob + 1);
}

const void *eepi_gather_say(eep_context *context, const uint32_t *loads, size_t *bytes_out)
{
    struct eepi_gather *g = context->observed.loads->gather;

    memcpy(values_of(g->said), loads, g->num * sizeof *loads);
    *bytes_out = g->blob_bytes;
    return g->said;
}

const uint32_t *eepi_gather_read(const eep_config *config, const void *bytes, size_t size)
{
    const blob_header *blob = bytes;
    const size_t num = (size_t)config->num_layers * (size_t)config->num_experts;

    return blob && size == sizeof *blob + num * sizeof(uint32_t) && blob->magic == BLOB_MAGIC &&
                   blob->num_layers == (uint32_t)config->num_layers &&
                   blob->num_experts == (uint32_t)config->num_experts
               ? (const uint32_t *)(blob + 1)
               : NULL;
}

/* A period is over: new counts come in, what was known fades. */
static void fold(eep_context *context, struct eepi_gather *g)
{
    uint32_t *own = values_of(g->own);

    eepi_loads_read(context, g->counts);
    if (g->num_sent > 0) { /* next time, then: it is being read */
        return;
    }
    for (size_t i = 0; i < g->num; i++) {
        uint64_t load = own[i] - (own[i] >> FADE_SHIFT) + (g->counts[i] - g->counted[i]);
        own[i] = load < UINT32_MAX ? (uint32_t)load : UINT32_MAX;
        g->counted[i] = g->counts[i];
    }
}

/* Make of the sum what the core is told: layers with too few tokens are unknown, and the others
 * scaled until they fit. */
static void scale_layer(const eep_context *context, struct eepi_gather *g, size_t layer)
{
    const size_t experts = (size_t)context->config.num_experts, at = layer * experts;
    uint64_t all = 0, most = 0;
    int shift = 0;

    for (size_t i = at; i < at + experts; i++) {
        all += g->sum[i];
        most = g->sum[i] > most ? g->sum[i] : most;
    }
    while (most >> shift > UINT32_MAX) {
        shift++;
    }
    for (size_t i = at; i < at + experts; i++) {
        g->loads[i] = all < LEAST_TOKENS * experts ? 0 : (uint32_t)(g->sum[i] >> shift);
        g->are_known |= g->loads[i] != 0;
    }
}

/* What was gathered goes to the core, unless nothing is known now as before. */
static bool tell(eep_context *context, struct eepi_gather *g, const uint32_t **loads_out)
{
    const bool was_known = g->are_known || g->were_set;

    g->are_known = g->were_set = false;
    for (size_t layer = 0; layer < (size_t)context->config.num_layers; layer++) {
        scale_layer(context, g, layer);
    }
    *loads_out = g->are_known ? g->loads : NULL;
    return g->are_known || was_known;
}

static void add(struct eepi_gather *g, blob_header *blob)
{
    const uint32_t *values = values_of(blob);

    for (size_t i = 0; i < g->num; i++) {
        g->sum[i] += values[i];
    }
}

/* Ask the next member that can be asked; false: there is none left. */
static bool ask_next(eep_context *context, struct eepi_gather *g, eepi_copier_address_fn address)
{
    const eepi_view *view = eepi_core_view(context->core);
    const eepi_blob blob = {.epoch = view ? view->epoch : 0, .layer = EEPI_LOADS_LAYER};
    const void *to;

    while (view && ++g->asks < context->config.max_ranks) {
        size_t bytes = 0;
        if (g->asks != context->config.rank && eepi_view_is_member(view, g->asks)) {
            bytes = address(context, g->asks, &to);
        }
        if (bytes > 0 && eepi_bulk_fetch(context->bulk, to, bytes, &blob, g->theirs, g->blob_bytes,
                                         FETCH_BOUND_US, &g->transfer) == EEP_OK) {
            return true;
        }
    }
    return false;
}

bool eepi_gather_fetched(eep_context *context, uint64_t transfer, eep_status status)
{
    struct eepi_gather *g = context->observed.loads->gather;
    const blob_header *got = g->theirs;

    if (g->transfer == 0 || g->transfer != transfer) {
        return false;
    }
    g->transfer = 0; /* one that cannot be had is left out: all loads are a sample */
    if (status == EEP_OK && got->magic == BLOB_MAGIC && got->num_layers == g->own->num_layers &&
        got->num_experts == g->own->num_experts) {
        add(g, g->theirs);
    }
    return true;
}

/* A period begins, if it is time. */
static bool begin(eep_context *context, struct eepi_gather *g)
{
    const uint64_t period_us = context->config.loads_period_us, now_us = eepi_now_us();

    if (g->gathers || period_us == 0 || now_us < g->next_us) {
        return false;
    }
    g->next_us = now_us + period_us;
    fold(context, g);
    memset(g->sum, 0, g->num * sizeof *g->sum);
    add(g, g->own);
    g->asks = -1;
    g->gathers = true;
    return true;
}

bool eepi_gather_go_on(eep_context *context, eepi_copier_address_fn address,
                       const uint32_t **loads_out)
{
    struct eepi_gather *g = context->observed.loads->gather;
    const eepi_loads_set_state set = eepi_loads_read_set(context, g->loads);

    if (set == EEPI_LOADS_SET_ANEW) {
        g->were_set = true;
        *loads_out = g->loads;
        return true;
    }
    if (!g->gathers && !begin(context, g)) {
        return false;
    }
    if (g->transfer != 0 || (eepi_core_plans(context->core) && ask_next(context, g, address))) {
        return false;
    }
    g->gathers = false;
    return set == EEPI_LOADS_MEASURED && tell(context, g, loads_out);
}

int eepi_gather_serve(eep_context *context, eepi_bulk_part *parts_out)
{
    parts_out[0] = (eepi_bulk_part){context->observed.loads->gather->own,
                                    context->observed.loads->gather->blob_bytes};
    context->observed.loads->gather->num_sent++;
    return 1;
}

void eepi_gather_served(eep_context *context, const eepi_bulk_part *parts, int num_parts)
{
    struct eepi_gather *g = context->observed.loads->gather;

    if (num_parts == 1 && parts[0].data == g->own) {
        g->num_sent--;
    }
}
