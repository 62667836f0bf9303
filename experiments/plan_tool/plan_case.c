/* SPDX-License-Identifier: Apache-2.0 */
/* Making an instance: first placement, backups on nodes, links, and who is lost. */
#include "experiments/plan_tool/plan_case.h"

#include "experiments/base/random.h"
#include "repair/placement.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((format(printf, 3, 4))) static eep_status fail(char *error, eep_status status,
                                                             const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(error, PLAN_CASE_ERROR_BYTES, format, args);
    va_end(args);
    return status;
}

/* ---------------------------------------------------------------- document */

/* Backups of an expert are on so many nodes, neighbours on the ring of nodes; which is the first
 * goes round with the number of the expert. */
static void set_backups(eepi_view *view, int copies)
{
    const eepi_view_shape *s = &view->shape;
    const int nodes = eepi_view_num_nodes(s);

    for (int i = 0; i < s->num_layers * s->num_experts; i++) {
        const int layer = i / s->num_experts, expert = i % s->num_experts;
        for (int seat = 0; seat < s->max_ranks; seat++) {
            const int node = eepi_view_node_of(s, seat);
            if ((node - (expert + layer) % nodes + nodes) % nodes < copies) {
                eepi_view_set_backup(view, seat, layer, expert, true);
            }
        }
    }
}

static eep_status make_view(const plan_case_options *o, plan_case *self, char *error)
{
    const eepi_view_shape shape = {.max_ranks = o->ranks,
                                   .num_layers = o->layers,
                                   .num_experts = o->experts,
                                   .num_slots = o->slots,
                                   .ranks_per_node = o->ranks_per_node,
                                   .spread = o->spread};

    if (eepi_view_bytes(&shape) == 0) {
        return fail(error, EEP_ERR_INVALID, "the shape is out of bounds");
    }
    self->before = eepi_view_new(&shape);
    if (!self->before) {
        return fail(error, EEP_ERR_NO_MEMORY, "out of memory");
    }
    for (int seat = 0; seat < shape.max_ranks; seat++) {
        *eepi_view_seat_at(self->before, seat) =
            (eepi_view_seat){.generation = 1, .state = EEP_SEAT_ACTIVE};
    }
    if (eepi_plan_initial(self->before) != EEP_OK) {
        return fail(error, EEP_ERR_UNCOVERED, "%d ranks with %d slots cannot hold %d experts",
                    o->ranks, o->slots, o->experts);
    }
    set_backups(self->before, o->backups);
    return EEP_OK;
}

/* The whole file, in memory that is aligned to 8 bytes; NULL with errno. */
static void *read_file(const char *path, size_t *size_out)
{
    FILE *file = fopen(path, "rb");
    long size = -1;
    void *bytes = NULL;

    if (file && fseek(file, 0, SEEK_END) == 0 && (size = ftell(file)) >= 0 &&
        fseek(file, 0, SEEK_SET) == 0 && (bytes = malloc((size_t)size + 1)) != NULL &&
        fread(bytes, 1, (size_t)size, file) != (size_t)size) {
        errno = errno ? errno : EIO;
        free(bytes);
        bytes = NULL;
    }
    if (file) {
        fclose(file);
    }
    *size_out = (size_t)size;
    return bytes;
}

static eep_status read_view(const char *path, plan_case *self, char *error)
{
    const char *why = "";
    size_t size;

    errno = 0;
    self->before = read_file(path, &size);
    if (!self->before) {
        return fail(error, EEP_ERR_INVALID, "%s: %s", path, strerror(errno));
    }
    if (eepi_view_check(self->before, size, &why) != EEP_OK) {
        return fail(error, EEP_ERR_INVALID, "%s: %s", path, why);
    }
    return EEP_OK;
}

/* ---------------------------------------------------------------- who is lost */

void plan_case_lose(eepi_view *view, const bool *lost)
{
    const eepi_view_shape *s = &view->shape;

    for (int seat = 0; seat < s->max_ranks; seat++) {
        if (lost[seat]) {
            eepi_view_seat_at(view, seat)->state = EEP_SEAT_VACANT;
        }
    }
    eepi_plan_empty_nonmembers(view);
}

/* "3,8-11" */
static eep_status read_lost(const char *text, int ranks, bool *lost, char *error)
{
    const char *at = text;

    while (*at) {
        char *end;
        const long first = strtol(at, &end, 10);
        long last = first;
        if (end != at && *end == '-') {
            at = end + 1;
            last = strtol(at, &end, 10);
        }
        if (end == at || first < 0 || last < first || last >= ranks || (*end && *end != ',')) {
            return fail(error, EEP_ERR_INVALID,
                        "--lost %s: not a list of ranks from 0 to %d, such as 3,8-11", text,
                        ranks - 1);
        }
        for (long seat = first; seat <= last; seat++) {
            lost[seat] = true;
        }
        at = *end ? end + 1 : end;
    }
    return EEP_OK;
}

static void lose_by_chance(const eepi_view *view, int num, uint64_t *random, bool *lost)
{
    const int ranks = view->shape.max_ranks;
    int left = 0;

    for (int seat = 0; seat < ranks; seat++) {
        left += eepi_view_is_member(view, seat) && !lost[seat];
    }
    for (num = num < left ? num : left; num > 0;) {
        const int seat = (int)(random_next(random) % (uint64_t)ranks);
        if (eepi_view_is_member(view, seat) && !lost[seat]) {
            lost[seat] = true;
            num--;
        }
    }
}

/* ---------------------------------------------------------------- links */

static void set_links(const plan_case_options *o, eepi_links *links, int ranks, uint64_t *random)
{
    const bool by_chance = strcmp(o->rates, "random") == 0;

    for (int seat = 0; seat < ranks; seat++) {
        uint32_t told[EEPI_NUM_RATES] = {0};
        for (int rate = 0; rate < EEPI_NUM_RATES; rate++) {
            /* from 2 to 40 GB/s; files a tenth of that */
            const uint32_t chance = 2000 + (uint32_t)(random_next(random) % 38000);
            if (by_chance && rate != EEPI_RATE_NIC_AT) {
                told[rate] = rate == EEPI_RATE_FILE ? chance / 10 : chance;
            }
            if (o->mbs[rate]) {
                told[rate] = (uint32_t)o->mbs[rate];
            }
        }
        if (o->mbs[EEPI_RATE_NIC_AT]) { /* NICs of a node, taken in turn */
            told[EEPI_RATE_NIC_AT] = 1 + (uint32_t)(seat % o->mbs[EEPI_RATE_NIC_AT]);
        }
        eepi_links_set_seat(links, seat, told);
    }
}

eep_status plan_case_open(const plan_case_options *options, plan_case *case_out,
                          char error[PLAN_CASE_ERROR_BYTES])
{
    plan_case self = {.before = NULL};
    uint64_t random = options->seed;
    bool *lost = NULL;
    eep_status status =
        options->view ? read_view(options->view, &self, error) : make_view(options, &self, error);

    if (status != EEP_OK) {
        goto out;
    }
    const int ranks = self.before->shape.max_ranks;
    self.view = eepi_view_copy(self.before);
    self.links = eepi_links_new(&self.before->shape);
    self.can_read_file = calloc((size_t)ranks, sizeof *self.can_read_file);
    lost = calloc((size_t)ranks, sizeof *lost);
    if (!self.view || !self.links || !self.can_read_file || !lost) {
        status = fail(error, EEP_ERR_NO_MEMORY, "out of memory");
        goto out;
    }
    status = options->lost ? read_lost(options->lost, ranks, lost, error) : EEP_OK;
    if (status != EEP_OK) {
        goto out;
    }
    lose_by_chance(self.view, options->lost_by_chance, &random, lost);
    plan_case_lose(self.view, lost);
    set_links(options, self.links, ranks, &random);
    for (int seat = 0; seat < ranks; seat++) {
        self.can_read_file[seat] = options->checkpoint || eepi_view_has_checkpoint(self.view, seat);
    }
    self.given = (eepi_plan_given){.links = self.links,
                                   .expert_bytes = options->expert_bytes,
                                   .can_read_file = self.can_read_file};
out:
    free(lost);
    if (status != EEP_OK) {
        plan_case_close(&self);
        return status;
    }
    *case_out = self;
    return EEP_OK;
}

void plan_case_close(plan_case *self)
{
    free(self->before);
    free(self->view);
    eepi_links_free(self->links);
    free(self->can_read_file);
}
