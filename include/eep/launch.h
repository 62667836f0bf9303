/* SPDX-License-Identifier: Apache-2.0 */
/* How this process was launched: its rank, the number of ranks and its place on its host, as EEP_*
 * or the launcher's own variables say it. eep_config_init reads the same. docs/DEPLOY.md has the
 * variables, and recipes for launchers. */
#ifndef EEP_LAUNCH_H
#define EEP_LAUNCH_H

#include "eep/eep.h"

#ifdef __cplusplus
extern "C" {
#endif

/* As eep_config.rank: eep_open takes a seat that is free. One whose last process was on this host
 * and has ended comes first, then the lowest one that no process of this host has had. If each has
 * a process that has not wholly ended, eep_open is EEP_ERR_SEAT_TAKEN. eep_rank tells the seat.
 * For replacements, and for first processes where it does not matter who is whose neighbour: seats
 * belong to hosts where ranks_per_node says so. */
enum { EEP_RANK_ANY = -2 };

enum {
    EEP_LAUNCH_STORE_BYTES = 1024,
    EEP_LAUNCH_ADDRESS_BYTES = 256,
    EEP_LAUNCH_SOURCE_BYTES = 512,
};

/* Texts end with NUL, and are "" where no variable says anything. */
typedef struct eep_launch_info {
    uint32_t struct_bytes; /* set by the caller (EEP_SIZED) */
    int32_t rank;          /* the seat; EEP_RANK_ANY: a free one; -1: no variable says */
    int32_t num_ranks;     /* ranks of the first view; 0: no variable says */
    int32_t local_rank;    /* among the ranks of this host, from 0 on; -1: no variable says */
    int32_t local_size;    /* ranks of this host; 0: no variable says */
    int32_t reserved;      /* 0 */
    char store[EEP_LAUNCH_STORE_BYTES];     /* EEP_STORE: a path or an address (docs/STORES.md) */
    char address[EEP_LAUNCH_ADDRESS_BYTES]; /* EEP_NETWORK_INTERFACE: where peers reach this host */
    /* The host of rank 0: EEP_LEADER_ADDRESS, MASTER_ADDR or LWS_LEADER_ADDRESS, in this order.
     * libeep does not use it. */
    char leader[EEP_LAUNCH_ADDRESS_BYTES];
    /* Which variable each of these was read from, in words: "rank 2 from SLURM_PROCID, 4 ranks from
     * SLURM_STEP_NUM_TASKS". */
    char source[EEP_LAUNCH_SOURCE_BYTES];
} eep_launch_info;

/* Read the environment. Each number is that of the first source that says it: EEP_RANK, EEP_SIZE,
 * EEP_LOCAL_RANK and EEP_LOCAL_SIZE, then torchrun's variables, Open MPI's, PMIx's, those of PMI,
 * Slurm's and LWS's. Where EEP_LAUNCHER names one of them, or EEP_RANK is "any", the others are not
 * read. EEP_ERR_INVALID, where eep_error_text names the variables and their values: a value is
 * malformed, or two sources disagree about a number, or RANK stands without LOCAL_RANK (it may be
 * the index of a node), and nothing else tells the rank. Nothing is written then. A program that
 * sets rank and num_ranks itself need not mind; eep_open refuses with the same text where it has
 * left one to eep_config_init. Thread: any, as long as none changes the environment. */
EEP_API EEP_MUST_CHECK eep_status eep_launch_read(eep_launch_info *launch_out);

#ifdef __cplusplus
}
#endif
#endif
