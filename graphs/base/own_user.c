/* SPDX-License-Identifier: Apache-2.0 */
/* Whose a user id is: our own, root's, or one that tells nothing. */
#include "graphs/base/own_user.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OVERFLOW_UID = 65534 }; /* unless the administrator has chosen another one */

#define ALL_USERS 4294967295ull

/* The beginning of a small file as text; false if it cannot be read. */
static bool read_text(const char *path, char *text_out, size_t bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, text_out, bytes - 1) : -1;
    if (fd >= 0) {
        close(fd);
    }
    text_out[got > 0 ? got : 0] = '\0';
    return got > 0;
}

static unsigned long long overflow_uid(void)
{
    char text[32], *end;
    if (!read_text("/proc/sys/kernel/overflowuid", text, sizeof text)) {
        return OVERFLOW_UID;
    }
    unsigned long long uid = strtoull(text, &end, 10);
    return end != text ? uid : OVERFLOW_UID;
}

/* Lines of "first-inside first-outside how-many". More than fit here map not all of them. */
static bool maps_all_users(void)
{
    char text[4096];
    unsigned long long num = 0;
    if (!read_text("/proc/self/uid_map", text, sizeof text)) {
        return false;
    }
    for (char *at = text, *end = NULL;; at = end) {
        (void)strtoull(at, &end, 10);
        (void)strtoull(end, &end, 10);
        unsigned long long more = strtoull(end, &end, 10);
        if (end == at || more == 0) {
            return num >= ALL_USERS;
        }
        num += more;
    }
}

bool eepi_user_is_anybody(uid_t uid)
{
    int error = errno;
    bool is_anybody = uid == overflow_uid() && !maps_all_users();
    errno = error;
    return is_anybody;
}

bool eepi_user_is_own(uid_t uid)
{
    return uid == geteuid() && !eepi_user_is_anybody(uid);
}

bool eepi_user_is_trusted(uid_t uid)
{
    return (uid == geteuid() || uid == 0) && !eepi_user_is_anybody(uid);
}
