/* The rank process of eep-run: what `eep-run --rank-process` runs. */
#ifndef EEPX_RANK_MAIN_H
#define EEPX_RANK_MAIN_H

/* How a rank process ends. */
enum {
    RANK_EXIT_OK = 0,        /* told to stop, or drained */
    RANK_EXIT_EVICTED = 3,   /* expelled from the view */
    RANK_EXIT_UNCOVERED = 4, /* experts lost all copies: the instance fails closed */
    RANK_EXIT_FAILED = 5,    /* anything else; the reason is on standard error */
};

/* Names of its environment variables besides EEP_RANK, EEP_SIZE and EEP_STORE. */
#define RANK_ENV_CONTROL_FD "EEP_CONTROL_FD"  /* wire.h's socket */
#define RANK_ENV_OPTIONS    "EEP_RUN_OPTIONS" /* options_to_rank_text */
#define RANK_ENV_JOINER     "EEP_RUN_JOINER"  /* "1": the job serves already */

/* Nice value of a rank that prepares itself beside a serving job. */
enum { RANK_JOINER_NICE = 10 };

/* Serve until told to stop; returns the exit code. The process has no other work. */
int rank_main(void);
#endif
