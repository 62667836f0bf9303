/* SPDX-License-Identifier: Apache-2.0 */
/* A rank's own region of backups, and those of its node that it has mapped. */
#include "membership/backup/backups.h"

#include "graphs/base/clock.h"
#include "graphs/base/descriptors.h"
#include "membership/backup/backup_index.h"
#include "membership/backup/backup_memory.h"
#include "repair/checksum.h"
#include "transport/holder/holder_session.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    HOLDER_US = 2000000, /* longest wait for the holder */
    KEEP_PART = 8,       /* of the descriptors that there may be, as duplicates of others' memory */
    PIECES_PER_COUNT = 16, /* of descriptors, see has_many_descriptors */
    ENTRIES_AT_ONCE = 64,  /* that the list of own ones grows by */
    LOOK_US = 20000,       /* a member's memory that was not found is looked for again, */
    LOOK_MOST_US = 2000000 /* and ever more seldom */
};

/* A region that this rank has mapped. */
typedef struct region {
    const unsigned char *base;
    uint64_t bytes;
    eepi_backup_layout layout;
    eepi_backup_entry *entries;
    uint64_t num_entries;
    int32_t seat; /* whose it is */
    uint32_t generation;
    bool is_judged; /* by the checksums of a view */
    char name[EEPI_HOLDER_NAME_BYTES];
} region;

struct eepi_backups {
    int32_t seat;
    uint32_t generation;
    eepi_view_shape shape;
    eepi_backup_layout layout; /* num_tensors 0: not known yet */
    uint64_t wait_us;
    void (*note)(void *user, const char *text);
    void *user;
    eepi_holder_session *session;
    char prefix[EEPI_HOLDER_NAME_BYTES];
    /* this rank's own, until it is sealed: then it is one of the regions */
    eepi_backup_memory memory;
    eepi_backup_entry *entries;
    uint64_t num_entries, max_entries;
    bool is_sealed, is_full; /* more regions than can be mapped: that was noted */
    region regions[EEPI_BACKUP_REGIONS_MAX];
    int num_regions;
    uint64_t may_keep; /* descriptors of others' memory, for the next holder */
    int num_kept;
    uint32_t num_looks; /* whether there are many descriptors */
    bool has_many;
    uint64_t digest;                 /* of the last view that was followed */
    uint32_t members[EEP_MAX_RANKS]; /* of it, on this node: generations by seat */
    bool is_lacking;            /* nothing of one of them was found: it has nothing there, or */
    uint64_t look_us, pause_us; /* will put it there again for the next holder */
    bool has_news;
};

static void say(const eepi_backups *b, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void say(const eepi_backups *b, const char *format, ...)
{
    char text[512];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    b->note(b->user, text);
}

/* ---------------------------------------------------------------- regions of the node */

static const region *region_of(const eepi_backups *b, const char *name)
{
    for (int i = 0; i < b->num_regions; i++) {
        if (strcmp(b->regions[i].name, name) == 0) {
            return &b->regions[i];
        }
    }
    return NULL;
}

/* backup/INSTANCE/NODE/SEAT.GENERATION */
static bool whose(const eepi_backups *b, const char *name, int32_t *seat_out,
                  uint32_t *generation_out)
{
    const char *at = name + strlen(b->prefix);
    int used = 0;

    return sscanf(at, "%" SCNd32 ".%" SCNu32 "%n", seat_out, generation_out, &used) == 2 &&
           at[used] == '\0' && *seat_out >= 0 && *seat_out < b->shape.max_ranks;
}

/* Three quarters of the descriptors that this process may have are free. What is kept for the next
 * holder is never missed by anybody who cannot do without one. To count them takes as long as there
 * are many, and a node's ranks find each other's memory together: one count serves for some pieces.
 */
static bool has_many_descriptors(eepi_backups *b)
{
    if (b->num_looks++ % PIECES_PER_COUNT == 0) {
        const eepi_descriptors seen = eepi_descriptors_look();
        b->has_many = seen.open < seen.limit / 4;
    }
    return b->has_many;
}

/* Keep a descriptor for the next holder, unless this one ends with us. */
static void keep(eepi_backups *b, const eepi_holder_piece *piece)
{
    int fd;

    if (eepi_holder_session_is_own(b->session) || (uint64_t)b->num_kept >= b->may_keep ||
        !has_many_descriptors(b)) {
        return;
    }
    fd = eepi_backup_memory_duplicate(piece->fd);
    if (fd < 0) {
        return;
    }
    if (eepi_holder_session_hold(b->session, piece->name, fd, piece->bytes, true) != EEP_OK) {
        eepi_backup_memory_forget_fd(fd);
        return;
    }
    b->num_kept++;
}

static bool has_region_of(const eepi_backups *b, int32_t seat, uint32_t generation)
{
    for (int i = 0; i < b->num_regions; i++) {
        if (b->regions[i].seat == seat && b->regions[i].generation == generation) {
            return true;
        }
    }
    return false;
}

static void note_lack(eepi_backups *b)
{
    b->is_lacking = false;
    for (int seat = 0; seat < b->shape.max_ranks && !b->is_lacking; seat++) {
        b->is_lacking =
            b->members[seat] != 0 && seat != b->seat && !has_region_of(b, seat, b->members[seat]);
    }
}

static void on_found(void *user, const eepi_holder_piece *piece)
{
    eepi_backups *b = user;
    region *r = &b->regions[b->num_regions];
    const char *why = "it is not sealed";
    eep_status status;

    if (region_of(b, piece->name) != NULL) {
        return;
    }
    if (b->num_regions == EEPI_BACKUP_REGIONS_MAX) {
        if (!b->is_full) {
            say(b,
                "this node has more than %d regions of backups: the others are read through "
                "its other ranks",
                EEPI_BACKUP_REGIONS_MAX);
        }
        b->is_full = true;
        return;
    }
    *r = (region){.bytes = piece->bytes};
    snprintf(r->name, sizeof r->name, "%s", piece->name);
    if (!whose(b, piece->name, &r->seat, &r->generation)) {
        return;
    }
    status = eepi_backup_memory_map(piece->fd, piece->bytes, &r->base);
    if (status == EEP_ERR_SYSTEM) {
        why = "it cannot be mapped";
    }
    if (status == EEP_OK) {
        status = eepi_backup_index_read(r->base, r->bytes, &b->layout, &r->entries, &r->num_entries,
                                        &why);
        if (status == EEP_OK) {
            r->layout = ((const eepi_backup_head *)r->base)->layout;
            b->num_regions++;
            b->has_news = true;
            note_lack(b);
            keep(b, piece);
            return;
        }
        eepi_backup_memory_unmap(r->base, r->bytes);
    }
    say(b, "the backups %s are not used: %s", piece->name, why);
}

/* ---------------------------------------------------------------- open and close */

eep_status eepi_backups_open(const eepi_backups_config *config, eepi_backups **backups_out)
{
    eepi_backups *b = calloc(1, sizeof *b);
    eepi_holder_session_config session = {.path = config->holder_path,
                                          .seat = config->seat,
                                          .generation = config->generation,
                                          .found = on_found,
                                          .user = b};
    eep_status status;

    if (b == NULL) {
        return EEP_ERR_NO_MEMORY;
    }
    b->seat = config->seat;
    b->generation = config->generation;
    b->shape = *config->shape;
    b->layout = (eepi_backup_layout){.instance = config->instance,
                                     .num_layers = config->shape->num_layers,
                                     .num_experts = config->shape->num_experts};
    b->wait_us = config->wait_us != 0 ? config->wait_us : HOLDER_US;
    b->note = config->note;
    b->user = config->user;
    b->memory.fd = -1;
    b->may_keep = eepi_descriptors_share(KEEP_PART, EEPI_BACKUP_REGIONS_MAX);
    snprintf(b->prefix, sizeof b->prefix, "backup/%016" PRIx64 "/%d/", config->instance,
             eepi_view_node_of(config->shape, config->seat));
    session.name = b->prefix;
    status = eepi_holder_session_open(&session, &b->session);
    if (status != EEP_OK) {
        eepi_backups_close(b);
        return status;
    }
    status = eepi_holder_session_wait(b->session, eepi_now_us() + b->wait_us);
    if (status != EEP_OK) {
        say(b,
            "no holder retains backups of weights: %s; those of this rank end with it, unless "
            "one comes",
            eep_strerror(status));
    }
    *backups_out = b;
    return EEP_OK;
}

void eepi_backups_close(eepi_backups *b)
{
    if (b == NULL) {
        return;
    }
    eepi_holder_session_close(b->session);
    for (int i = 0; i < b->num_regions; i++) {
        free(b->regions[i].entries);
        if (b->regions[i].base != b->memory.base) {
            eepi_backup_memory_unmap(b->regions[i].base, b->regions[i].bytes);
        }
    }
    if (!b->is_sealed) {
        free(b->entries);
    }
    eepi_backup_memory_close(&b->memory);
    free(b);
}

/* ---------------------------------------------------------------- this rank's own */

static eepi_backup_entry *entry_of(const eepi_backups *b, int32_t layer, int32_t expert)
{
    for (uint64_t i = 0; i < b->num_entries; i++) {
        if (b->entries[i].layer == layer && b->entries[i].expert == expert) {
            return &b->entries[i];
        }
    }
    return NULL;
}

static eep_status add_entry(eepi_backups *b, int32_t layer, int32_t expert)
{
    const uint64_t stride = eepi_backup_stride(&b->layout);
    const uint64_t offset = EEPI_BACKUP_HEAD_BYTES + b->num_entries * stride;
    eep_status status;

    if (b->num_entries == b->max_entries) {
        eepi_backup_entry *more =
            realloc(b->entries, (b->max_entries + ENTRIES_AT_ONCE) * sizeof *more);
        if (more == NULL) {
            return EEP_ERR_NO_MEMORY;
        }
        b->entries = more;
        b->max_entries += ENTRIES_AT_ONCE;
    }
    status = eepi_backup_memory_grow(&b->memory,
                                     eepi_backup_region_bytes(&b->layout, b->num_entries + 1));
    if (status == EEP_OK) {
        b->entries[b->num_entries++] =
            (eepi_backup_entry){.layer = layer, .expert = expert, .offset = offset};
    }
    return status;
}

/* The first backup fixes the sizes of all. */
static eep_status set_layout(eepi_backups *b, const eep_tensor *tensors, int32_t num_tensors)
{
    const uint64_t most = (uint64_t)b->layout.num_layers * (uint64_t)b->layout.num_experts;
    uint64_t bytes = 0;
    eepi_backup_layout layout = b->layout;

    layout.num_tensors = num_tensors;
    for (int i = 0; i < num_tensors; i++) {
        layout.tensor_bytes[i] = tensors[i].bytes;
        if (tensors[i].bytes > UINT64_MAX / 2 / EEP_MAX_TENSORS / (most + 1)) {
            errno = ENOMEM;
            return EEP_ERR_NO_MEMORY;
        }
    }
    bytes = eepi_backup_region_bytes(&layout, most);
    const eep_status status = eepi_backup_memory_open(bytes, &b->memory);
    if (status == EEP_OK) {
        b->layout = layout;
    }
    return status;
}

eep_status eepi_backups_give(eepi_backups *b, int32_t layer, int32_t expert, eep_tensor *tensors,
                             int32_t num_tensors, char why_out[EEPI_BACKUP_WHY_BYTES])
{
    const eepi_backup_entry *entry;
    eep_status status = EEP_OK;

    if (b->memory.base == NULL) {
        status = set_layout(b, tensors, num_tensors);
    }
    entry = entry_of(b, layer, expert);
    if (status == EEP_OK && entry == NULL) {
        status = add_entry(b, layer, expert);
        entry = entry_of(b, layer, expert);
    }
    if (status != EEP_OK) {
        int error = errno;
        snprintf(why_out, EEPI_BACKUP_WHY_BYTES,
                 "no host memory for %" PRIu64 " backups of %" PRIu64 " bytes: %s",
                 b->num_entries + 1, eepi_backup_stride(&b->layout), strerror(error));
        return status;
    }
    eepi_backup_tensors(&b->layout, b->memory.base + entry->offset, tensors);
    return EEP_OK;
}

static size_t weights_bytes(const eepi_backup_layout *layout)
{
    size_t bytes = 0;

    for (int i = 0; i < layout->num_tensors; i++) {
        bytes += layout->tensor_bytes[i];
    }
    return bytes;
}

static eep_status seal_memory(eepi_backups *b)
{
    eepi_backup_head head;
    eepi_checksum *sum = eepi_checksum_new(weights_bytes(&b->layout));
    eep_status status = sum != NULL ? eepi_backup_memory_protect(&b->memory) : EEP_ERR_NO_MEMORY;

    for (uint64_t i = 0; i < b->num_entries && status == EEP_OK; i++) {
        eep_tensor tensors[EEP_MAX_TENSORS];
        eepi_backup_tensors(&b->layout, b->memory.base + b->entries[i].offset, tensors);
        eepi_checksum_begin(sum);
        for (int j = 0; j < b->layout.num_tensors; j++) {
            eepi_checksum_add(sum, tensors[j].data, tensors[j].bytes);
        }
        b->entries[i].checksum = eepi_checksum_end(sum);
    }
    eepi_checksum_free(sum);
    head = eepi_backup_head_of(&b->layout, b->entries, b->num_entries);
    if (status == EEP_OK) {
        status = eepi_backup_memory_write(&b->memory, head.entries_offset, b->entries,
                                          b->num_entries * sizeof *b->entries);
    }
    if (status == EEP_OK) {
        status = eepi_backup_memory_write(&b->memory, 0, &head, sizeof head);
    }
    return status == EEP_OK ? eepi_backup_memory_seal(&b->memory, head.bytes) : status;
}

/* The own region comes first: what is found then is never taken for missing. */
static void add_own_region(eepi_backups *b)
{
    if (b->num_regions == EEPI_BACKUP_REGIONS_MAX) { /* others can be read through peers */
        region *last = &b->regions[--b->num_regions];
        free(last->entries);
        eepi_backup_memory_unmap(last->base, last->bytes);
    }
    region *r = &b->regions[b->num_regions++];
    *r = (region){.base = b->memory.base,
                  .bytes = b->memory.bytes,
                  .layout = b->layout,
                  .entries = b->entries,
                  .num_entries = b->num_entries,
                  .seat = b->seat,
                  .generation = b->generation,
                  .is_judged = true};
    snprintf(r->name, sizeof r->name, "%.36s%d.%u", b->prefix, b->seat, b->generation);
    b->is_sealed = true;
}

eep_status eepi_backups_seal(eepi_backups *b, char why_out[EEPI_BACKUP_WHY_BYTES])
{
    eep_status status;
    int fd = b->memory.fd;

    if (b->num_entries == 0 || b->is_sealed) {
        return EEP_OK;
    }
    status = seal_memory(b);
    if (status != EEP_OK) {
        snprintf(why_out, EEPI_BACKUP_WHY_BYTES, "the backups cannot be sealed: %s",
                 strerror(errno));
        return status;
    }
    add_own_region(b);
    status = eepi_holder_session_hold(b->session, b->regions[b->num_regions - 1].name, fd,
                                      b->memory.bytes, false);
    if (status != EEP_OK) {
        snprintf(why_out, EEPI_BACKUP_WHY_BYTES, "no memory to have the backups held");
        return status;
    }
    b->memory.fd = -1; /* the session's now */
    status = eepi_holder_session_wait(b->session, eepi_now_us() + b->wait_us);
    if (status != EEP_OK) {
        say(b, "the holder does not retain the backups of this rank: %s; they end with it%s",
            eep_strerror(status),
            status == EEP_ERR_NO_MEMORY ? ": it retains as much as it takes" : "");
    }
    return EEP_OK;
}

/* ---------------------------------------------------------------- questions */

uint64_t eepi_backups_own(const eepi_backups *b, int32_t layer, int32_t expert)
{
    const eepi_backup_entry *entry =
        b->is_sealed ? eepi_backup_index_find(b->entries, b->num_entries, layer, expert) : NULL;

    return entry != NULL ? entry->checksum : 0;
}

int eepi_backups_find(const eepi_backups *b, int32_t layer, int32_t expert, uint64_t checksum,
                      eep_tensor *tensors_out)
{
    for (int i = b->num_regions - 1; i >= 0 && checksum != 0; i--) {
        const region *r = &b->regions[i];
        const eepi_backup_entry *entry =
            eepi_backup_index_find(r->entries, r->num_entries, layer, expert);
        if (entry != NULL && entry->checksum == checksum) {
            eepi_backup_tensors(&r->layout, r->base + entry->offset, tensors_out);
            return r->layout.num_tensors;
        }
    }
    return 0;
}

static bool is_of_member(const region *r, const eepi_view *view)
{
    return view != NULL && eepi_view_has(view, r->seat, r->generation);
}

eepi_backups_facts eepi_backups_facts_of(const eepi_backups *b, const eepi_view *view)
{
    eepi_backups_facts facts = {.num_regions = (uint32_t)b->num_regions};

    for (int i = 0; i < b->num_regions; i++) {
        const region *r = &b->regions[i];
        facts.node_bytes += r->bytes;
        if (r->base == b->memory.base) {
            facts.own_bytes = r->bytes;
        } else if (!is_of_member(r, view)) {
            facts.retained_bytes += r->bytes;
            facts.num_retained++;
        }
    }
    return facts;
}

/* ---------------------------------------------------------------- the service thread's */

int eepi_backups_fd(const eepi_backups *b)
{
    return eepi_holder_session_fd(b->session);
}

int eepi_backups_progress(eepi_backups *b)
{
    const uint64_t now_us = eepi_now_us();

    if (b->is_lacking && now_us >= b->look_us && eepi_holder_session_is_settled(b->session)) {
        b->look_us = now_us + b->pause_us;
        b->pause_us = 2 * b->pause_us < LOOK_MOST_US ? 2 * b->pause_us : LOOK_MOST_US;
        eepi_holder_session_look(b->session);
    }
    return eepi_holder_session_progress(b->session, now_us);
}

uint64_t eepi_backups_wake_us(const eepi_backups *b)
{
    const uint64_t wake_us = eepi_holder_session_wake_us(b->session);

    return b->is_lacking && b->look_us < wake_us && eepi_holder_session_is_settled(b->session)
               ? b->look_us
               : wake_us;
}

/* Memory that a process of an earlier instance has left there. */
static bool is_stale(const region *r, const eepi_view *view)
{
    if (is_of_member(r, view) || r->num_entries == 0) {
        return false;
    }
    for (uint64_t i = 0; i < r->num_entries; i++) {
        const eepi_backup_entry *e = &r->entries[i];
        if (*eepi_view_checksum_at(view, e->layer, e->expert) == e->checksum) {
            return false;
        }
    }
    return true;
}

/* A process is new in the view, on this node. */
static bool has_new_members(eepi_backups *b, const eepi_view *view)
{
    const int node = eepi_view_node_of(&b->shape, b->seat);
    bool is_new = false;

    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        const uint32_t generation = eepi_view_seat_at(view, seat)->generation;
        if (eepi_view_node_of(&view->shape, seat) != node || !eepi_view_is_member(view, seat)) {
            b->members[seat] = 0;
        } else if (b->members[seat] != generation) {
            b->members[seat] = generation;
            is_new |= seat != b->seat;
        }
    }
    return is_new;
}

void eepi_backups_follow(eepi_backups *b, const eepi_view *view)
{
    if (b->digest == view->digest) {
        return;
    }
    b->digest = view->digest;
    for (int i = 0; i < b->num_regions; i++) {
        region *r = &b->regions[i];
        if (!r->is_judged) {
            r->is_judged = !is_stale(r, view) || eepi_holder_session_release(b->session, r->name);
        }
    }
    if (has_new_members(b, view)) {
        b->pause_us = LOOK_US;
        b->look_us = eepi_now_us() + b->pause_us;
        b->has_news = true;
        eepi_holder_session_look(b->session);
    }
    note_lack(b);
}

bool eepi_backups_take_news(eepi_backups *b)
{
    const bool has_news = b->has_news && eepi_holder_session_is_settled(b->session);

    b->has_news &= !has_news;
    return has_news;
}

void eepi_backups_end(eepi_backups *b)
{
    (void)eepi_holder_session_release(b->session, b->prefix);
}
