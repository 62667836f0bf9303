/* SPDX-License-Identifier: Apache-2.0 */
/* Read and write the files of a run: text, JSON, rows. */
#include "experiments/base/run_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CREATE_TRIES = 8 };

int run_file_new(const char *path)
{
    int fd = -1;
    /* again, if somebody puts something there in between */
    for (int tries = 0; fd < 0 && tries < CREATE_TRIES; tries++) {
        if (unlink(path) != 0 && errno != ENOENT) {
            return -1;
        }
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
        if (fd < 0 && errno != EEXIST) {
            return -1;
        }
    }
    return fd;
}

FILE *run_file_create(const char *dir, const char *name)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path) {
        errno = ENAMETOOLONG;
        return NULL;
    }
    int fd = run_file_new(path);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (fd >= 0 && !file) {
        close(fd);
    }
    return file;
}

int run_file_can_replace(const char *dir, const char *name)
{
    char path[PATH_MAX];
    struct stat folder, file;
    int failure = 0;
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path) {
        failure = ENAMETOOLONG;
    } else if (stat(dir, &folder) != 0) {
        return -1;
    } else if (lstat(path, &file) != 0) {
        failure = errno == ENOENT ? 0 : errno;
    } else if (S_ISDIR(file.st_mode)) {
        failure = EISDIR;
    } else if (faccessat(AT_FDCWD, dir, W_OK | X_OK, AT_EACCESS) != 0) {
        return -1;
    } else if (folder.st_mode & S_ISVTX && geteuid() != 0 && geteuid() != folder.st_uid &&
               geteuid() != file.st_uid) {
        failure = EPERM;
    }
    errno = failure ? failure : errno;
    return failure ? -1 : 0;
}

FILE *run_file_open(const char *dir, const char *name)
{
    char path[PATH_MAX];
    struct stat info;
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path) {
        errno = ENAMETOOLONG;
        return NULL;
    }
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    FILE *file = fd >= 0 && fstat(fd, &info) == 0 && S_ISREG(info.st_mode) ? fdopen(fd, "r") : NULL;
    if (fd >= 0 && !file) {
        close(fd);
    }
    if (!file && (fd >= 0 || errno == ENXIO)) { /* ENXIO: a socket */
        errno = EINVAL;
    }
    return file;
}

char *run_file_text(const char *dir, const char *name)
{
    FILE *file = run_file_open(dir, name);
    size_t bytes = 0, room = 0, got = 1;
    char *text = NULL;
    while (file && got > 0) {
        if (bytes + 1 >= room) {
            room = room ? 2 * room : 1 << 16;
            char *grown = realloc(text, room);
            if (!grown) {
                free(text);
                text = NULL;
                break;
            }
            text = grown;
        }
        got = fread(text + bytes, 1, room - 1 - bytes, file);
        bytes += got;
        text[bytes] = '\0';
    }
    if (file) {
        fclose(file);
    }
    return text;
}

cJSON *run_file_json(const char *dir, const char *name)
{
    char *text = run_file_text(dir, name);
    cJSON *root = text ? cJSON_Parse(text) : NULL;
    free(text);
    return root;
}

eep_status run_file_write_json(cJSON *root, const char *dir, const char *name)
{
    char *text = root ? cJSON_Print(root) : NULL;
    cJSON_Delete(root);
    if (!text) {
        return EEP_ERR_NO_MEMORY;
    }
    FILE *file = run_file_create(dir, name);
    int failed = !file;
    if (file) {
        failed |= fputs(text, file) < 0 || fputc('\n', file) < 0;
        failed |= fclose(file);
    }
    cJSON_free(text);
    return failed ? EEP_ERR_SYSTEM : EEP_OK;
}

void run_file_add_count(cJSON *object, const char *name, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, value);
    cJSON_AddRawToObject(object, name, text);
}

void run_file_add_ms(cJSON *object, const char *name, double value)
{
    char text[32];
    snprintf(text, sizeof text, "%.3f", value);
    cJSON_AddRawToObject(object, name, text);
}
