/* SPDX-License-Identifier: Apache-2.0 */
/* poll over those descriptors of a list that are open. */
#include "experiments/base/poll_open.h"

#include <assert.h>
#include <errno.h>
#include <time.h>

enum { FAILED_PAUSE_NS = 10 * 1000 * 1000 };

int poll_open(struct pollfd *set, nfds_t num, double longest_ms)
{
    struct pollfd open[POLL_OPEN_MOST];
    nfds_t at[POLL_OPEN_MOST], num_open = 0;
    assert(num <= POLL_OPEN_MOST);
    for (nfds_t i = 0; i < num; i++) {
        set[i].revents = 0;
        if (set[i].fd >= 0) {
            at[num_open] = i;
            open[num_open++] = set[i];
        }
    }
    struct timespec timeout = {.tv_sec = (time_t)(longest_ms / 1e3)};
    timeout.tv_nsec = (long)((longest_ms - (double)timeout.tv_sec * 1e3) * 1e6);
    int ready = ppoll(open, num_open, &timeout, NULL);
    if (ready < 0 && errno != EINTR) {
        int failure = errno;
        const struct timespec pause = {.tv_nsec = FAILED_PAUSE_NS};
        nanosleep(&pause, NULL);
        errno = failure;
    }
    for (nfds_t i = 0; ready > 0 && i < num_open; i++) {
        set[at[i]].revents = open[i].revents;
    }
    return ready;
}
