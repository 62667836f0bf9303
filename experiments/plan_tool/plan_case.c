/* SPDX-License-Identifier: Apache-2.0 */
/* Making an instance: first placement, backups on nodes, links, and who is lost. */
#include "experiments/plan_tool/plan_case.h"

#include "experiments/base/expert_loads.h"
#include "experiments/base/random.h"
#include "repair/placement.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EVEN_LOAD = 1000 }; /* of each expert, where all are alike */

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

static eep_status draw_loads(const plan_case_options *o, plan_case *self)
{
    const size_t experts = (size_t)o->experts;
    uint64_t random = o->seed;
    eep_status status = EEP_OK;

    self->loads = calloc((size_t)o->layers * experts, sizeof *self->loads);
    for (int layer = 0; self->loads && status == EEP_OK && layer < o->layers; layer++) {
        uint32_t *loads = self->loads + (size_t)layer * experts;
        for (size_t expert = 0; self->is_even && expert < experts; expert++) {
            loads[expert] = EVEN_LOAD;
        }
        status = self->is_even ? EEP_OK : expert_loads_draw(o->loads, o->experts, &random, loads);
    }
    return self->loads ? status : EEP_ERR_NO_MEMORY;
}

const uint32_t *plan_case_loads(const plan_case *self, int layer)
{
    return self->loads ? self->loads + (size_t)layer * (size_t)self->before->shape.num_experts
                       : NULL;
}

eep_status plan_case_place(const plan_case *self, eepi_view *view)
{
    const eepi_plan_wish wish = {.goal = EEPI_PLACE_MIXED, .loads = self->loads};

    return self->is_even || !self->loads ? eepi_plan_initial(view) : eepi_plan_fresh(view, &wish);
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
    self->is_even = strcmp(o->loads, "even") == 0;
    if (draw_loads(o, self) != EEP_OK) {
        return fail(error, EEP_ERR_NO_MEMORY, "out of memory");
    }
    if (plan_case_place(self, self->before) != EEP_OK) {
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

static bool can_lose(const eepi_view *view, const bool *lost, int seat)
{
    return eepi_view_is_member(view, seat) && !lost[seat];
}

/* Up to `num` seats from `from` to before `end`, each set with the same chance. */
static int lose_any(const eepi_view *view, int from, int end, int num, uint64_t *random, bool *lost)
{
    int left = 0, chosen = 0;

    for (int seat = from; seat < end; seat++) {
        left += can_lose(view, lost, seat);
    }
    for (int seat = from; seat < end; seat++) {
        if (!can_lose(view, lost, seat)) {
            continue;
        }
        if (random_next(random) % (uint64_t)left-- < (uint64_t)(num - chosen)) {
            lost[seat] = true;
            chosen++;
        }
        if (chosen == num) {
            break;
        }
    }
    return chosen;
}

static void lose_neighbours(const eepi_view *view, int num, uint64_t *random, bool *lost)
{
    const int ranks = view->shape.max_ranks;
    const int from = (int)(random_next(random) % (uint64_t)ranks);

    for (int i = 0; i < ranks && num > 0; i++) {
        const int seat = (from + i) % ranks;
        num -= can_lose(view, lost, seat);
        lost[seat] |= can_lose(view, lost, seat);
    }
}

static void lose_nodes(const eepi_view *view, int num, uint64_t *random, bool *lost)
{
    const eepi_view_shape *s = &view->shape;
    const int nodes = eepi_view_num_nodes(s);
    bool seen[EEP_MAX_RANKS] = {false};

    for (int i = 0; i < nodes && num > 0; i++) {
        int skip = (int)(random_next(random) % (uint64_t)(nodes - i)), node = 0;
        while (seen[node] || skip-- > 0) {
            node++;
        }
        seen[node] = true;
        const int width = s->ranks_per_node ? s->ranks_per_node : s->max_ranks;
        const int end = (node + 1) * width < s->max_ranks ? (node + 1) * width : s->max_ranks;
        num -= lose_any(view, node * width, end, num, random, lost);
    }
}

void plan_case_choose(const eepi_view *view, const char *how, int num, uint64_t *random_io,
                      bool *lost_io)
{
    if (num == 0) {
        return;
    }
    if (strcmp(how, "adjacent") == 0) {
        lose_neighbours(view, num, random_io, lost_io);
    } else if (strcmp(how, "nodes") == 0) {
        lose_nodes(view, num, random_io, lost_io);
    } else {
        (void)lose_any(view, 0, view->shape.max_ranks, num, random_io, lost_io);
    }
}

/* ---------------------------------------------------------------- links */

static void set_links(const plan_case_options *o, eepi_links *links, int ranks, uint64_t *random)
{
    const bool by_chance = strcmp(o->rates, "random") == 0;

    if (o->host_mbs) {
        eepi_links_set_host(links, (uint32_t)o->host_mbs);
    }
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
    eep_status status =
        options->view ? read_view(options->view, &self, error) : make_view(options, &self, error);

    if (status != EEP_OK) {
        goto out;
    }
    const int ranks = self.before->shape.max_ranks;
    self.view = eepi_view_copy(self.before);
    self.links = eepi_links_new(&self.before->shape);
    self.can_read_file = calloc((size_t)ranks, sizeof *self.can_read_file);
    self.lost = calloc((size_t)ranks, sizeof *self.lost);
    if (!self.view || !self.links || !self.can_read_file || !self.lost) {
        status = fail(error, EEP_ERR_NO_MEMORY, "out of memory");
        goto out;
    }
    status = options->lost ? read_lost(options->lost, ranks, self.lost, error) : EEP_OK;
    if (status != EEP_OK) {
        goto out;
    }
    plan_case_choose(self.view, options->how, options->failed, &random, self.lost);
    plan_case_lose(self.view, self.lost);
    set_links(options, self.links, ranks, &random);
    for (int seat = 0; seat < ranks; seat++) {
        self.can_read_file[seat] = options->checkpoint || eepi_view_has_checkpoint(self.view, seat);
    }
    self.given = (eepi_plan_given){.links = self.links,
                                   .expert_bytes = options->expert_bytes,
                                   .can_read_file = self.can_read_file};
out:
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
    free(self->loads);
    free(self->can_read_file);
    free(self->lost);
}
