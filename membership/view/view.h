/* SPDX-License-Identifier: Apache-2.0 */
/* The view document: who is active, in which generation, and which slot holds which expert.
 *
 * One flat blob of fixed layout, so that its bytes are its wire form, its digest and its value in
 * the register at once:
 *
 *   eepi_view            header
 *   eepi_view_seat       seat[max_ranks]
 *   eepi_view_slot       slot[num_layers][max_ranks][num_slots]
 *   uint64_t             checksum[num_layers][num_experts]     of each expert's weights; 0: unknown
 *   uint64_t             backup[num_nodes][num_layers][words]  bit e: that node has e in host
 * memory
 *   wishes                                                     membership/view/wishes.h
 *
 * Pure data: no clock, no I/O (must 5). */
#ifndef EEPI_VIEW_H
#define EEPI_VIEW_H

#include "eep/eep.h"
#include "membership/view/shape.h"

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum eepi_view_phase {
    EEPI_VIEW_SERVING = 1,
    EEPI_VIEW_REPAIRING = 2, /* nobody steps; FILLING slots are being filled */
} eepi_view_phase;

typedef enum eepi_view_cause {
    EEPI_VIEW_INITIAL = 1,  /* the first view of the instance */
    EEPI_VIEW_FAULT = 2,    /* wedge, expel, start again at first_step */
    EEPI_VIEW_REPAIRED = 3, /* SERVING after REPAIRING */
    EEPI_VIEW_PLANNED = 4,  /* join, retire, rebalance: staged, then flipped in-band */
} eepi_view_cause;

typedef enum eepi_slot_state {
    EEPI_SLOT_EMPTY = 0,
    EEPI_SLOT_HOLDS = 1,
    EEPI_SLOT_FILLING = 2, /* never a source, never a target of routing */
} eepi_slot_state;

/* No epoch and no step number comes near: a document that says more was not written by a rank. */
#define EEPI_VIEW_MAX_NUMBER ((uint64_t)1 << 62)
enum {
    EEPI_NO_SEAT = 0xffff,
    /* Of a FILLING slot: the checkpoint file that its own rank reads, */
    EEPI_SOURCE_FILE = 0xfffe,
    /* or, with a seat added, that which the rank in that seat reads and sends. */
    EEPI_SOURCE_FILE_OF = 0x8000,
    EEPI_VIEW_MAGIC = 0x45455056
};
static_assert(EEPI_SOURCE_FILE_OF + EEP_MAX_RANKS <= EEPI_SOURCE_FILE, "a source is one thing");

enum eepi_seat_flag {
    EEPI_SEAT_HAS_CHECKPOINT = 1, /* it reads every expert from a checkpoint file, for others too */
    /* Of a seat without a member: its last process reaches members through their gates alone (rule
     * N7). The seat is free, whether that process lives or not. */
    EEPI_SEAT_IS_FENCED = 2,
};

/* Rule P7: what processes that are out of the view may still store into. A process stores into the
 * windows of the colour that its last view had. */
typedef struct eepi_view_seat {
    uint32_t generation; /* latest that was ever in the view; 0: never taken */
    uint8_t state;       /* VACANT, ACTIVE, RETIRING or QUARANTINED of eep_seat_state */
    uint8_t reach;  /* of no member: 1 + the colour that this generation may store into; or 0 */
    uint8_t former; /* a bit for each colour that older generations may store into */
    uint8_t flags;  /* bits of eepi_seat_flag */
    uint64_t host;  /* that this generation runs on, or did (rule N9) */
} eepi_view_seat;

typedef struct eepi_view_slot {
    uint16_t expert; /* EEPI_NO_EXPERT when EMPTY */
    uint16_t source; /* FILLING: the seat that it is filled from, or a file */
    uint8_t state;   /* eepi_slot_state */
    uint8_t pad;
    uint16_t share; /* HOLDS: weight among its expert's replicas; all 0, or all equal: equal */
} eepi_view_slot;

typedef struct eepi_view {
    uint32_t magic;
    uint32_t version;
    uint64_t bytes;  /* of the whole blob */
    uint64_t digest; /* XXH64 of the blob with this field 0 */
    uint64_t epoch;
    uint64_t base_digest; /* of the document that this one replaced; 0 for the first */
    uint64_t first_step;  /* FAULT, REPAIRED, INITIAL: the step that the members start with;
                           * PLANNED: one that its proposer had begun, for joiners */
    eepi_view_shape shape;
    uint8_t phase, cause;
    uint8_t colour; /* of the windows that its steps use (rule P7) */
    uint8_t pad0;
    int32_t proposer;
    uint64_t order_number; /* of the placement that an engine gave (wishes.h); 0: none */
    uint64_t order_digest; /* of its wishes, as they were given */
    /* of the memory that the windows of each colour are; what has another serial is used no more */
    uint32_t serial[EEPI_VIEW_COLOURS];
    /* FAULT, REPAIRED, INITIAL: the newest collective that has ended for its members (rule P13); a
     * planned view has that of the one before */
    uint64_t collective;
} eepi_view;

/* A source that is a checkpoint file, whoever reads it. */
static inline bool eepi_source_is_file(int source)
{
    return source >= EEPI_SOURCE_FILE_OF && source != EEPI_NO_SEAT;
}

/* The seat whose rank reads a source, for a slot of `target`. */
static inline int eepi_source_seat(int source, int target)
{
    if (source == EEPI_SOURCE_FILE) {
        return target;
    }
    return eepi_source_is_file(source) ? source - EEPI_SOURCE_FILE_OF : source;
}

/* The checkpoint file that the rank in seat `reader` reads for a slot of `target`. */
static inline int eepi_source_file_of(int reader, int target)
{
    return reader == target ? EEPI_SOURCE_FILE : EEPI_SOURCE_FILE_OF + reader;
}

/* A seat, or a file by the one name that it has for that target. */
static inline bool eepi_source_is_sane(int source, int target, int max_ranks)
{
    const int seat = eepi_source_seat(source, target);

    return seat < max_ranks &&
           (!eepi_source_is_file(source) || eepi_source_file_of(seat, target) == source);
}

/* Bytes of a document of that shape; 0 if the shape is out of bounds. */
size_t eepi_view_bytes(const eepi_view_shape *shape);
/* A new document, all seats VACANT, all slots EMPTY, epoch 0, not sealed. NULL: no memory. free().
 */
eepi_view *eepi_view_new(const eepi_view_shape *shape);
eepi_view *eepi_view_copy(const eepi_view *view);
/* Compute the digest after the last change. */
void eepi_view_seal(eepi_view *view);
/* Check bytes from outside: size, magic, version, shape, digest, every enum and index, and that
 * HOLDS slots of experts are in range. EEP_ERR_PROTOCOL with a reason, else EEP_OK. The bytes must
 * be 8-byte aligned. */
EEP_MUST_CHECK eep_status eepi_view_check(const void *bytes, size_t size, const char **why_out);

/* Node of a seat, and the number of nodes. */
int eepi_view_node_of(const eepi_view_shape *shape, int seat);
int eepi_view_num_nodes(const eepi_view_shape *shape);

/* Two seats of one group (eepi_view_shape.seats_per_group), or one seat. */
static inline bool eepi_view_are_mates(const eepi_view_shape *shape, int a, int b)
{
    return a == b ||
           (shape->seats_per_group > 1 && a / shape->seats_per_group == b / shape->seats_per_group);
}

eepi_view_seat *eepi_view_seat_at(const eepi_view *view, int seat);
eepi_view_slot *eepi_view_slot_at(const eepi_view *view, int layer, int seat, int slot);
uint64_t *eepi_view_checksum_at(const eepi_view *view, int layer, int expert);
/* The node of the seat has the expert in host memory, which outlives the ranks that put it there:
 * a member on that node can read it, and sends it to others. */
bool eepi_view_has_backup(const eepi_view *view, int seat, int layer, int expert);
void eepi_view_set_backup(eepi_view *view, int seat, int layer, int expert, bool has);
/* The document's wishes: [eepi_wishes_bytes]. */
void *eepi_view_wishes(const eepi_view *view);
/* A member that reads any expert from a checkpoint file, for its own slots and for others. */
bool eepi_view_has_checkpoint(const eepi_view *view, int seat);
/* EEPI_SEAT_IS_FENCED. */
bool eepi_view_is_fenced(const eepi_view *view, int seat);
/* Rule N21: it has no members, since the leases of those of the view before had lapsed. All seats
 * are fenced. (Members that leave in order are in quarantine.) */
bool eepi_view_has_lapsed(const eepi_view *view);
/* That process was left out, and the view does not show its end: the seat is in quarantine, or
 * fenced. */
bool eepi_view_may_live_outside(const eepi_view *view, int seat, uint32_t generation);
/* Words of a layer's backup bits. */
int eepi_view_backup_words(const eepi_view_shape *shape);
/* What a rank claims to have as backups in a layer: XXH64 of (expert, checksum) of each expert in
 * `bits` [words], with checksums [num_experts]; 0: of none. */
uint64_t eepi_view_claim_digest(const uint64_t *bits, const uint64_t *checksums, int num_experts);
/* Whether such a claim counts: all of its checksums are the document's, and known (rule N24). */
bool eepi_view_claim_counts(const eepi_view *view, int layer, const uint64_t *bits,
                            uint64_t digest);
/* The node of the seat has those of `bits` [words] too. */
void eepi_view_add_backups(eepi_view *view, int seat, int layer, const uint64_t *bits);
/* The node of the seat has none. */
void eepi_view_clear_backups(eepi_view *view, int seat);
/* Nobody can read the backups of a node without members: they are in the document no more. */
void eepi_view_drop_gone_backups(eepi_view *view);
/* Each backup in the document is of a node with members, and its checksum is known. */
bool eepi_view_backups_are_sound(const eepi_view *view);

/* In the view (ACTIVE or RETIRING), whatever its generation. */
bool eepi_view_is_member(const eepi_view *view, int seat);
/* In the view with exactly that generation. */
bool eepi_view_has(const eepi_view *view, int seat, uint32_t generation);
int eepi_view_num_active(const eepi_view *view);
/* What is wrong with the colour, the serials and what is said of seats' former processes
 * [max_ranks]; NULL: nothing. Of a document whose shape is sane. */
const char *eepi_view_check_colours(const eepi_view *view, const eepi_view_seat *seats);
/* Experts of a layer (or of any layer for layer -1) without a HOLDS slot on a member. */
int eepi_view_num_uncovered(const eepi_view *view, int layer);
/* Nothing is known of the experts' weights any more. */
void eepi_view_forget_checksums(eepi_view *view);
/* A slot of the seat HOLDS the expert. */
bool eepi_view_holds(const eepi_view *view, int layer, int seat, int expert);
/* HOLDS slots of the expert on members. */
int eepi_view_num_replicas(const eepi_view *view, int layer, int expert);
/* "epoch 7 SERVING fault: 0.1 1.1 -2.1 3.2 ..." (seat.generation) for whoever debugs a test. */
void eepi_view_print(const eepi_view *view, char *text_out, size_t size);

/* Some process that is out of the view may still store into the windows of that colour (P7). */
static inline bool eepi_view_is_tainted(const eepi_view *view, int colour)
{
    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        const eepi_view_seat *s = eepi_view_seat_at(view, seat);
        if (s->reach == colour + 1 || s->former >> colour & 1u) {
            return true;
        }
    }
    return false;
}

/* That colour's windows are other memory from now on, which nobody who is out can name. */
static inline void eepi_view_renew_colour(eepi_view *view, int colour)
{
    view->serial[colour]++;
    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        eepi_view_seat *s = eepi_view_seat_at(view, seat);
        s->former &= (uint8_t) ~(1u << colour);
        s->reach = s->reach == colour + 1 ? 0 : s->reach;
    }
}
#endif
