/* SPDX-License-Identifier: Apache-2.0 */
/* The eep-run of one round: its command, its process, and what it leaves. */
#ifndef EEPX_CHAOS_COMMAND_H
#define EEPX_CHAOS_COMMAND_H

#include "experiments/base/args.h"
#include "experiments/chaos/chaos.h"

#include <limits.h>
#include <stdio.h>
#include <sys/types.h>

enum {
    CHAOS_MAX_ARGUMENTS = 2 * CHAOS_MAX_FLAGS + 128,
    CHAOS_MAX_RUN_FLAGS = 64,
    CHAOS_NUMBER_BYTES = 32,
};

/* What all rounds of a campaign have in common. */
typedef struct chaos_setup {
    chaos_config faults;
    const char *program, *hosts_path; /* eep-run; the file of --hosts, or NULL */
    const char *out_dir;              /* as it was given: to tell */
    const char *out_at;               /* the same by its descriptor: the name may come to lead
                                       * elsewhere */
    args_rest run_flags;
} chaos_setup;

typedef struct chaos_command {
    char *argument[CHAOS_MAX_ARGUMENTS];
    int num;
    char number[8][CHAOS_NUMBER_BYTES];
    int num_numbers;
    char dir[PATH_MAX], log[PATH_MAX];       /* to tell */
    char dir_at[PATH_MAX], log_at[PATH_MAX]; /* the same by out_at */
} chaos_command;

/* The texts of the campaign and the round are borrowed. */
void chaos_command_make(const chaos_setup *setup, const chaos_round *round, chaos_command *out);
/* For a shell; behind it, with --hosts, what eep-ctl does to the run. */
void chaos_command_print(FILE *file, const chaos_command *self, const chaos_round *round);
/* How long the round may take, without its oracle. */
double chaos_command_bound_ms(const chaos_round *round);

/* Start eep-run, which writes into `dir` and whose output goes to the round's log; its pid, or -1,
 * which is told. */
pid_t chaos_command_start(const chaos_command *self, const char *dir, int *pidfd_out);
/* Its end, or that at the bound; its exit code, or minus the signal that ended it. A signal of
 * `signal_fd` is passed on, and noted. `pidfd` is closed. */
int chaos_command_end(pid_t pid, int pidfd, int signal_fd, double until_ms, bool *interrupted_io);
/* What it said, on standard error. */
void chaos_command_print_log(const chaos_command *self);
/* A round that passed leaves its line only. */
void chaos_command_remove_rows(const chaos_command *self);
#endif
