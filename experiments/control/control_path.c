/* SPDX-License-Identifier: Apache-2.0 */
/* Where the socket of a run lies: in its folder, or elsewhere with a file that says where. */
#include "experiments/control/control_path.h"

#include "experiments/base/run_file.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char SOCKET_NAME[] = "/control.sock", POINTER_NAME[] = "/control.path";

/* `dir` and `name` in one text; false: it does not fit. */
static bool join(char *text_out, size_t bytes, const char *dir, const char *name)
{
    return snprintf(text_out, bytes, "%s%s", dir, name) < (int)bytes;
}

/* OUT/control.path: a line with the absolute path of the socket. */
static bool write_pointer(const char *out_dir, const char *path)
{
    char here[PATH_MAX] = "";
    if (*path != '/' && !getcwd(here, sizeof here)) {
        return false;
    }
    FILE *file = run_file_create(out_dir, POINTER_NAME + 1);
    bool good = file && fprintf(file, "%s%s%s\n", here, *here ? "/" : "", path) > 0;
    return file && fclose(file) == 0 && good;
}

static void remove_pointer(const char *out_dir)
{
    char name[PATH_MAX];
    if (join(name, sizeof name, out_dir, POINTER_NAME)) {
        (void)unlink(name);
    }
}

static eep_status keep_pointer(const char *out_dir, private_dir *dir, const char *path,
                               char error[CONTROL_PATH_ERROR_BYTES])
{
    if (write_pointer(out_dir, path)) {
        return EEP_OK;
    }
    snprintf(error, CONTROL_PATH_ERROR_BYTES, "cannot write '%.256s%s': %s", out_dir, POINTER_NAME,
             strerror(errno));
    control_path_forget(out_dir, dir);
    return EEP_ERR_SYSTEM;
}

eep_status control_path_elsewhere(const char *out_dir, private_dir *dir,
                                  char path_out[CONTROL_PATH_BYTES],
                                  char error[CONTROL_PATH_ERROR_BYTES])
{
    static_assert((int)CONTROL_PATH_ERROR_BYTES >= (int)PRIVATE_DIR_ERROR_BYTES, "one buffer");
    size_t longest = CONTROL_PATH_BYTES - sizeof SOCKET_NAME;
    if (private_dir_make("eep-ctl", longest, dir, error) != 0) {
        return EEP_ERR_SYSTEM;
    }
    if (!join(path_out, CONTROL_PATH_BYTES, dir->path, SOCKET_NAME)) {
        return EEP_ERR_INVALID; /* not of that length */
    }
    return keep_pointer(out_dir, dir, path_out, error);
}

eep_status control_path_choose(const char *out_dir, const char *given, private_dir *dir,
                               char path_out[CONTROL_PATH_BYTES],
                               char error[CONTROL_PATH_ERROR_BYTES])
{
    *dir = (private_dir){.held = -1, .dir = -1};
    remove_pointer(out_dir); /* of a run that did not end well */
    if (!given) {
        bool fits = join(path_out, CONTROL_PATH_BYTES, out_dir, SOCKET_NAME);
        return fits ? EEP_OK : control_path_elsewhere(out_dir, dir, path_out, error);
    }
    if (!join(path_out, CONTROL_PATH_BYTES, given, "")) {
        snprintf(error, CONTROL_PATH_ERROR_BYTES,
                 "--control: '%.128s' has %zu bytes, a socket's path at most %d", given,
                 strlen(given), CONTROL_PATH_BYTES - 1);
        return EEP_ERR_INVALID;
    }
    return keep_pointer(out_dir, dir, path_out, error);
}

eep_status control_path_find(const char *out_dir, char path_out[CONTROL_PATH_BYTES],
                             char error[CONTROL_PATH_ERROR_BYTES])
{
    char line[PATH_MAX] = "";
    FILE *file = run_file_open(out_dir, POINTER_NAME + 1);
    if (!file && errno == ENAMETOOLONG) {
        snprintf(error, CONTROL_PATH_ERROR_BYTES, "--out: '%.128s...' is too long", out_dir);
        return EEP_ERR_INVALID;
    }
    if (!file && errno == EINVAL) {
        snprintf(error, CONTROL_PATH_ERROR_BYTES,
                 "'%.256s%s' is no regular file; give the control socket with --socket", out_dir,
                 POINTER_NAME);
        return EEP_ERR_INVALID;
    }
    if (file) {
        if (!fgets(line, sizeof line, file)) {
            line[0] = '\0';
        }
        fclose(file);
        line[strcspn(line, "\n")] = '\0';
    } else if (!join(line, sizeof line, out_dir, SOCKET_NAME)) {
        line[0] = '\0';
    }
    if (*line == '\0' || !join(path_out, CONTROL_PATH_BYTES, line, "")) {
        snprintf(error, CONTROL_PATH_ERROR_BYTES,
                 "'%.256s' names no control socket; give it with --socket", out_dir);
        return EEP_ERR_INVALID;
    }
    return EEP_OK;
}

void control_path_forget(const char *out_dir, private_dir *dir)
{
    private_dir_remove(dir);
    remove_pointer(out_dir);
}
