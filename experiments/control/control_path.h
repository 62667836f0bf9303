/* SPDX-License-Identifier: Apache-2.0 */
/* Where the control socket of a run is, for those who open it and those who look for it. */
#ifndef EEPX_CONTROL_PATH_H
#define EEPX_CONTROL_PATH_H

#include "eep/status.h"
#include "experiments/base/private_dir.h"

enum {
    CONTROL_PATH_BYTES = 108, /* of sockaddr_un.sun_path, with its NUL */
    CONTROL_PATH_ERROR_BYTES = 512,
};

/* A place for the socket of the run that writes into `out_dir`: `given` (NULL: the user named
 * none), else OUT/control.sock, else, where that is too long for a socket, a file in a new folder
 * of mode 0700 below $XDG_RUNTIME_DIR, $TMPDIR or /tmp, which is then in `*dir`. If it is not
 * OUT/control.sock, OUT/control.path is written and names it. EEP_ERR_INVALID (`given` is too
 * long), EEP_ERR_SYSTEM. */
EEP_MUST_CHECK eep_status control_path_choose(const char *out_dir, const char *given,
                                              private_dir *dir, char path_out[CONTROL_PATH_BYTES],
                                              char error[CONTROL_PATH_ERROR_BYTES]);
/* The folder of its own, whatever the length: OUT may be where no socket can be. EEP_ERR_SYSTEM. */
EEP_MUST_CHECK eep_status control_path_elsewhere(const char *out_dir, private_dir *dir,
                                                 char path_out[CONTROL_PATH_BYTES],
                                                 char error[CONTROL_PATH_ERROR_BYTES]);
/* Where the run that writes into `out_dir` has its socket; whether somebody listens there is not
 * looked at. EEP_ERR_INVALID, EEP_ERR_SYSTEM. */
EEP_MUST_CHECK eep_status control_path_find(const char *out_dir, char path_out[CONTROL_PATH_BYTES],
                                            char error[CONTROL_PATH_ERROR_BYTES]);
/* Remove what control_path_choose made, after the socket is gone. */
void control_path_forget(const char *out_dir, private_dir *dir);
#endif
