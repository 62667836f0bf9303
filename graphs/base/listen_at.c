/* SPDX-License-Identifier: Apache-2.0 */
#include "graphs/base/listen_at.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* The folder of `path`, and where its file name begins. -1 with errno. */
static int open_folder(const char *path, const char **name_out)
{
    const char *slash = strrchr(path, '/');
    char folder[PATH_MAX] = ".";

    *name_out = slash ? slash + 1 : path;
    if (slash) {
        const size_t bytes = slash == path ? 1 : (size_t)(slash - path);

        if (bytes >= sizeof folder) {
            errno = ENAMETOOLONG;
            return -1;
        }
        memcpy(folder, path, bytes);
        folder[bytes] = '\0';
    }
    return open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* Some file systems know no rename that spares what is there. */
static int rename_to_free(int folder, const char *from, const char *to)
{
    if (renameat2(folder, from, folder, to, RENAME_NOREPLACE) == 0) {
        return 0;
    }
    return errno == EINVAL || errno == ENOSYS ? renameat(folder, from, folder, to) : -1;
}

int eepi_listen_at(int fd, const char *path, int backlog, struct stat *info_out)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *name;
    char unready[64];
    int error = 0;
    const int folder = open_folder(path, &name);

    if (folder < 0) {
        return -1;
    }
    /* a path through the folder's descriptor is short, however long that of the folder is */
    snprintf(unready, sizeof unready, ".listen-%ld-%d", (long)getpid(), fd);
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", folder, unready);
    if (bind(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        error = errno;
    } else if (listen(fd, backlog) != 0 ||
               fstatat(folder, unready, info_out, AT_SYMLINK_NOFOLLOW) != 0 ||
               rename_to_free(folder, unready, name) != 0) {
        error = errno;
        unlinkat(folder, unready, 0);
    }
    close(folder);
    errno = error;
    return error == 0 ? 0 : -1;
}
