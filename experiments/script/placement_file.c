/* SPDX-License-Identifier: Apache-2.0 */
/* The file of a placement: JSON, with an entry for each rank that is given something. */
#include "experiments/script/placement_file.h"
#include "experiments/script/json_quote.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILE_BYTES = 1 << 24 };
static const double MAX_NUMBER = 9007199254740992; /* 2^53: what a double holds exactly */

typedef struct reader {
    const char *name; /* of the file */
    const placement_shape *shape;
    placement_order *order;
    bool *told;  /* [num_layers, max_ranks]: it has had its entry */
    int entry;   /* of `ranks`, which is read; -1: none */
    char *error; /* PLACEMENT_ERROR_BYTES */
} reader;

static __attribute__((format(printf, 2, 3))) eep_status fail(const reader *self, const char *format,
                                                             ...)
{
    char what[PLACEMENT_ERROR_BYTES - VERB_FILE_BYTES - 32], entry[24] = "";
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    if (self->entry >= 0) {
        snprintf(entry, sizeof entry, " ranks[%d]:", self->entry);
    }
    snprintf(self->error, PLACEMENT_ERROR_BYTES, "%.255s:%s %s", self->name, entry, what);
    return EEP_ERR_INVALID;
}

static eep_status fail_memory(const reader *self)
{
    (void)fail(self, "out of memory");
    return EEP_ERR_NO_MEMORY;
}

/* ---------------------------------------------------------------- values */

static bool is_whole(const cJSON *item, double least, double most)
{
    return cJSON_IsNumber(item) && item->valuedouble == floor(item->valuedouble) &&
           item->valuedouble >= least && item->valuedouble <= most;
}

/* An object with these keys and no others, each once. */
static eep_status check_keys(const reader *self, const cJSON *object, const char *const *keys,
                             int num_keys, const char *allowed)
{
    char text[JSON_QUOTED_BYTES + 1];
    const cJSON *item = NULL;
    if (!cJSON_IsObject(object)) {
        return fail(self, "%s is no object with %s", json_quote(object, text), allowed);
    }
    cJSON_ArrayForEach(item, object)
    {
        bool known = false;
        for (int i = 0; i < num_keys; i++) {
            known |= strcmp(item->string, keys[i]) == 0;
        }
        if (!known) {
            return fail(self, "unknown key '%.40s'; allowed are %s", item->string, allowed);
        }
        if (cJSON_GetObjectItemCaseSensitive(object, item->string) != item) {
            return fail(self, "the key '%.40s' stands twice", item->string);
        }
    }
    return EEP_OK;
}

/* ---------------------------------------------------------------- one entry */

static eep_status read_seat(const reader *self, const cJSON *entry, int *seat_out)
{
    char text[JSON_QUOTED_BYTES + 1];
    const cJSON *rank = cJSON_GetObjectItemCaseSensitive(entry, "rank");
    if (!rank) {
        return fail(self, "'rank' is missing");
    }
    if (!is_whole(rank, 0, self->shape->max_ranks - 1)) {
        return fail(self, "rank %s: the ranks are 0 to %d", json_quote(rank, text),
                    self->shape->max_ranks - 1);
    }
    *seat_out = (int)rank->valuedouble;
    return EEP_OK;
}

/* Layers *first_out to *last_out: one, or all of them. */
static eep_status read_layers(const reader *self, const cJSON *entry, int *first_out, int *last_out)
{
    char text[JSON_QUOTED_BYTES + 1];
    const cJSON *layer = cJSON_GetObjectItemCaseSensitive(entry, "layer");
    *first_out = 0;
    *last_out = self->shape->num_layers - 1;
    if (layer && !is_whole(layer, 0, self->shape->num_layers - 1)) {
        return fail(self, "layer %s: the layers are 0 to %d, and without one all are meant",
                    json_quote(layer, text), self->shape->num_layers - 1);
    }
    if (layer) {
        *first_out = *last_out = (int)layer->valuedouble;
    }
    return EEP_OK;
}

/* True or false for all slots, or a list of as many as there are experts. */
static eep_status check_pinned(const reader *self, const cJSON *pinned, int num_experts)
{
    const cJSON *item = NULL;
    if (!pinned || cJSON_IsBool(pinned)) {
        return EEP_OK;
    }
    if (!cJSON_IsArray(pinned) || cJSON_GetArraySize(pinned) != num_experts) {
        return fail(self, "'pinned' is true, false, or a list of %d of them, as many as 'experts'",
                    num_experts);
    }
    cJSON_ArrayForEach(item, pinned)
    {
        if (!cJSON_IsBool(item)) {
            return fail(self, "an entry of 'pinned' is neither true nor false");
        }
    }
    return EEP_OK;
}

static eep_status check_experts(const reader *self, const cJSON *entry, const cJSON *experts)
{
    char text[JSON_QUOTED_BYTES + 1];
    const placement_shape *shape = self->shape;
    const cJSON *item = NULL, *pinned = cJSON_GetObjectItemCaseSensitive(entry, "pinned");
    int slot = 0;
    if (!cJSON_IsArray(experts)) {
        return fail(self, "'experts' is missing, or no list");
    }
    if (cJSON_GetArraySize(experts) > shape->num_slots) {
        return fail(self, "%d experts are too many: a rank has %d slots in a layer",
                    cJSON_GetArraySize(experts), shape->num_slots);
    }
    eep_status status = check_pinned(self, pinned, cJSON_GetArraySize(experts));
    if (status != EEP_OK) {
        return status;
    }
    const cJSON *pin = cJSON_IsArray(pinned) ? pinned->child : NULL;
    cJSON_ArrayForEach(item, experts)
    {
        if (!is_whole(item, -1, shape->num_experts - 1)) {
            return fail(self,
                        "slot %d: expert %s is unknown: they are 0 to %d, and -1: libeep decides",
                        slot, json_quote(item, text), shape->num_experts - 1);
        }
        if (pin && cJSON_IsTrue(pin) && item->valuedouble < 0) {
            return fail(self, "slot %d is pinned and has no expert", slot);
        }
        pin = pin ? pin->next : NULL;
        slot++;
    }
    return EEP_OK;
}

static void fill_slots(const reader *self, const cJSON *entry, const cJSON *experts, size_t first)
{
    const cJSON *item = NULL, *pinned = cJSON_GetObjectItemCaseSensitive(entry, "pinned");
    const cJSON *pin = cJSON_IsArray(pinned) ? pinned->child : NULL;
    cJSON_ArrayForEach(item, experts)
    {
        bool is_pinned = pin ? cJSON_IsTrue(pin) : cJSON_IsTrue(pinned);
        self->order->experts[first] = (int32_t)item->valuedouble;
        self->order->pinned[first] = is_pinned && item->valuedouble >= 0;
        pin = pin ? pin->next : NULL;
        first++;
    }
}

static eep_status read_entry(const reader *self, const cJSON *entry)
{
    static const char *const keys[] = {"layer", "rank", "experts", "pinned"};
    const placement_shape *shape = self->shape;
    const cJSON *experts = cJSON_GetObjectItemCaseSensitive(entry, "experts");
    int seat = 0, first = 0, last = 0;
    eep_status status = check_keys(self, entry, keys, 4, "layer, rank, experts and pinned");
    if (status == EEP_OK) {
        status = read_seat(self, entry, &seat);
    }
    if (status == EEP_OK) {
        status = read_layers(self, entry, &first, &last);
    }
    if (status == EEP_OK) {
        status = check_experts(self, entry, experts);
    }
    for (int layer = first; layer <= last && status == EEP_OK; layer++) {
        size_t at = (size_t)layer * (size_t)shape->max_ranks + (size_t)seat;
        if (self->told[at]) {
            return fail(self, "rank %d has an entry for layer %d already", seat, layer);
        }
        self->told[at] = true;
        fill_slots(self, entry, experts, at * (size_t)shape->num_slots);
    }
    return status;
}

/* ---------------------------------------------------------------- the whole */

/* Experts that the layer gives to no slot find one: as eep_placement_set counts it, for which an
 * expert that stands twice in a rank is given once. */
static eep_status check_layer(const reader *self, int layer, int32_t *seat_of)
{
    const placement_shape *shape = self->shape;
    const size_t first = (size_t)layer * (size_t)(shape->max_ranks * shape->num_slots);
    int free_slots = shape->num_members * shape->num_slots, left = shape->num_experts, lacks = -1;
    memset(seat_of, 0xff, (size_t)shape->num_experts * sizeof *seat_of);
    for (int i = 0; i < shape->num_members * shape->num_slots; i++) {
        int32_t expert = self->order->experts[first + (size_t)i];
        if (expert >= 0 && seat_of[expert] != i / shape->num_slots) {
            left -= seat_of[expert] < 0;
            seat_of[expert] = i / shape->num_slots;
            free_slots--;
        }
    }
    for (int expert = shape->num_experts - 1; expert >= 0; expert--) {
        lacks = seat_of[expert] < 0 ? expert : lacks;
    }
    if (left > free_slots) {
        return fail(self,
                    "layer %d: expert %d is left without a slot: %d experts are given none, and %d "
                    "slots of %d ranks are free",
                    layer, lacks, left, free_slots, shape->num_members);
    }
    return EEP_OK;
}

static eep_status read_number(const reader *self, const cJSON *root)
{
    char text[JSON_QUOTED_BYTES + 1];
    const cJSON *number = cJSON_GetObjectItemCaseSensitive(root, "number");
    if (!number) {
        return fail(self, "'number' is missing: the placement with the highest one counts");
    }
    if (!is_whole(number, 1, MAX_NUMBER)) {
        return fail(self, "number %s: whole numbers from 1 to 2^53 are possible",
                    json_quote(number, text));
    }
    self->order->number = (uint64_t)number->valuedouble;
    return EEP_OK;
}

static eep_status read_all(reader *self, const cJSON *root)
{
    static const char *const keys[] = {"number", "about", "ranks"};
    const cJSON *entry = NULL, *ranks = cJSON_GetObjectItemCaseSensitive(root, "ranks");
    int32_t *seat_of = malloc((size_t)self->shape->num_experts * sizeof *seat_of);
    eep_status status =
        seat_of ? check_keys(self, root, keys, 3, "number, about and ranks") : fail_memory(self);
    if (status == EEP_OK) {
        status = read_number(self, root);
    }
    if (status == EEP_OK && !cJSON_IsArray(ranks)) {
        status = fail(self, "'ranks' is missing, or no list");
    }
    self->entry = 0;
    for (entry = ranks ? ranks->child : NULL; entry && status == EEP_OK; entry = entry->next) {
        status = read_entry(self, entry);
        self->entry++;
    }
    self->entry = -1;
    for (int layer = 0; layer < self->shape->num_layers && status == EEP_OK; layer++) {
        status = check_layer(self, layer, seat_of);
    }
    free(seat_of);
    return status;
}

static eep_status fail_syntax(const reader *self, const char *text, const char *at)
{
    int line = 1;
    for (const char *c = text; c < at; c++) {
        line += *c == '\n';
    }
    return fail(self, "line %d is no JSON", line);
}

eep_status placement_parse(const char *name, const char *text, size_t bytes,
                           const placement_shape *shape, placement_order *order_out,
                           char error[PLACEMENT_ERROR_BYTES])
{
    const size_t ranks = (size_t)shape->num_layers * (size_t)shape->max_ranks;
    const size_t slots = ranks * (size_t)shape->num_slots;
    placement_order order = {.experts = malloc(slots * sizeof *order.experts),
                             .pinned = calloc(slots, sizeof *order.pinned)};
    reader self = {.name = name,
                   .shape = shape,
                   .order = &order,
                   .told = calloc(ranks, sizeof *self.told),
                   .entry = -1,
                   .error = error};
    const char *end = text + bytes, *at = text;
    eep_status status = EEP_OK;
    if (!order.experts || !order.pinned || !self.told) {
        status = fail_memory(&self);
    } else {
        memset(order.experts, 0xff, slots * sizeof *order.experts); /* -1 */
        cJSON *root = cJSON_ParseWithLengthOpts(text, bytes, &at, false);
        while (root && at < end && *at && strchr(" \t\r\n", *at)) {
            at++;
        }
        status = root && at == end ? read_all(&self, root) : fail_syntax(&self, text, at);
        cJSON_Delete(root);
    }
    free(self.told);
    if (status != EEP_OK) {
        placement_free(&order);
        return status;
    }
    *order_out = order;
    return EEP_OK;
}

eep_status placement_load(const char *file, const placement_shape *shape,
                          placement_order *order_out, char error[PLACEMENT_ERROR_BYTES])
{
    FILE *stream = fopen(file, "re");
    char *text = stream ? malloc(MAX_FILE_BYTES) : NULL;
    size_t bytes = text ? fread(text, 1, MAX_FILE_BYTES, stream) : 0;
    eep_status status = EEP_OK;
    if (!stream || (text && ferror(stream))) {
        snprintf(error, PLACEMENT_ERROR_BYTES, "%.255s: %s", file, strerror(errno));
        status = EEP_ERR_SYSTEM;
    } else if (!text) {
        snprintf(error, PLACEMENT_ERROR_BYTES, "%.255s: out of memory", file);
        status = EEP_ERR_NO_MEMORY;
    } else if (bytes == MAX_FILE_BYTES) {
        snprintf(error, PLACEMENT_ERROR_BYTES, "%.255s: more than %d MiB is no placement", file,
                 MAX_FILE_BYTES >> 20);
        status = EEP_ERR_INVALID;
    } else {
        status = placement_parse(file, text, bytes, shape, order_out, error);
    }
    if (stream) {
        fclose(stream);
    }
    free(text);
    return status;
}

void placement_free(placement_order *self)
{
    free(self->experts);
    free(self->pinned);
    *self = (placement_order){0};
}

const char *placement_first_of(const placement_first *self, int seat)
{
    const char *file = NULL;
    for (int i = 0; i < self->num; i++) {
        if (self->of[i].seat < 0 || self->of[i].seat == seat) {
            file = self->of[i].file;
        }
    }
    return file;
}
