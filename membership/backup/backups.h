/* SPDX-License-Identifier: Apache-2.0 */
/* Backups of experts in the host memory of a node, as one rank sees them: what it puts there, and
 * what others of its node have put there, also those that have ended. The holder retains all of it
 * (transport/holder), so that it outlives ranks.
 *
 * The rank thread uses this until eepi_backups_seal has returned, the service thread from then on.
 */
#ifndef EEPI_BACKUPS_H
#define EEPI_BACKUPS_H

#include "membership/view/view.h"

enum {
    EEPI_BACKUP_REGIONS_MAX = 128, /* that a rank maps; of a node with more it reads the others
                                    * through its peers */
    EEPI_BACKUP_WHY_BYTES = 256
};

typedef struct eepi_backups eepi_backups;

typedef struct eepi_backups_config {
    const char *holder_path; /* read during the call only */
    uint64_t instance;       /* backups of another one are passed over */
    int32_t seat;
    uint32_t generation;
    const eepi_view_shape *shape;
    uint64_t wait_us;                           /* longest wait for the holder; 0: 2 s */
    void (*note)(void *user, const char *text); /* something that should be known */
    void *user;
} eepi_backups_config;

/* Meet the holder, and map what the node has; waits for a holder for at most wait_us. Without one
 * the rank has its own backups alone, and they end with it. EEP_ERR_SYSTEM, EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_backups_open(const eepi_backups_config *config,
                                            eepi_backups **backups_out);
void eepi_backups_close(eepi_backups *backups);

/* Memory for an expert's tensors, whose bytes are set and whose data is written; the same again if
 * it is asked for again. The first call fixes the sizes. EEP_ERR_NO_MEMORY, EEP_ERR_SYSTEM,
 * EEP_ERR_UNSUPPORTED (this kernel cannot seal memory), and a text. */
EEP_MUST_CHECK eep_status eepi_backups_give(eepi_backups *backups, int32_t layer, int32_t expert,
                                            eep_tensor *tensors, int32_t num_tensors,
                                            char why_out[EEPI_BACKUP_WHY_BYTES]);
/* What was given is filled: compute checksums, seal it, have it held; waits for the holder for at
 * most wait_us. The memory stays where it is, and can only be read. */
EEP_MUST_CHECK eep_status eepi_backups_seal(eepi_backups *backups,
                                            char why_out[EEPI_BACKUP_WHY_BYTES]);

/* The checksum of this rank's own backup of an expert; 0: it has none, or is not sealed. */
uint64_t eepi_backups_own(const eepi_backups *backups, int32_t layer, int32_t expert);
/* Where the expert's weights with that checksum are, by what was said when they were put there:
 * tensors_out[EEP_MAX_TENSORS]. How many; 0: there are none here. */
int eepi_backups_find(const eepi_backups *backups, int32_t layer, int32_t expert, uint64_t checksum,
                      eep_tensor *tensors_out);

/* What the holder has to say; poll fd for reading and call progress when it is, and at the wake
 * time. Nonzero: there was work. */
int eepi_backups_fd(const eepi_backups *backups);
int eepi_backups_progress(eepi_backups *backups);
uint64_t eepi_backups_wake_us(const eepi_backups *backups);
/* Since the last call of this: regions were mapped, or a view named checksums, so that more can be
 * read than was claimed. */
bool eepi_backups_take_news(eepi_backups *backups);
/* A view was committed. The node may have new backups; those of which none has the view's checksum
 * are of an earlier instance, and the holder lets go of them. */
void eepi_backups_follow(eepi_backups *backups, const eepi_view *view);
/* The instance has ended: its backups are let go of. */
void eepi_backups_end(eepi_backups *backups);

typedef struct eepi_backups_facts {
    uint64_t own_bytes;      /* that this rank has put there */
    uint64_t node_bytes;     /* that it can read, its own included */
    uint64_t retained_bytes; /* of these, of processes that are in the view no more */
    uint32_t num_regions, num_retained;
} eepi_backups_facts;
eepi_backups_facts eepi_backups_facts_of(const eepi_backups *backups, const eepi_view *view);
#endif
