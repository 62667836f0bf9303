/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors are copied with pidfd_getfd (Linux 5.6). /proc/<pid>/fd would not do: it opens the
 * file anew, which what a GPU's driver exports does not allow.
 *
 * pidfd_getfd needs the right to trace the other process, in three places:
 *   user       the same one, and a process that may be dumped (not one with more rights than us)
 *   Yama       kernel.yama.ptrace_scope 1 (Debian, Ubuntu): only who is allowed, which
 *              eepi_peer_descriptors_allow does; 2: only with CAP_SYS_PTRACE; 3: nobody
 *   container  seccomp filters refuse it without CAP_SYS_PTRACE (Docker, Podman), and processes of
 *              two containers must share a pid namespace to have a number for each other */
#include "transport/window/peer_descriptor.h"
#include "graphs/base/descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

void eepi_peer_descriptors_allow(void)
{
    /* refused with EINVAL where there is no Yama, and then not needed */
    (void)prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
}

static eep_status refused(int32_t pid, const char *call, char *why_out, size_t why_bytes)
{
    int error = errno;
    char text[160];

    if (error == ENOSYS) {
        snprintf(
            why_out, why_bytes,
            "%s of process %d: %s: this kernel or sandbox has no such call, so ranks cannot be "
            "processes here; as threads of one process (eep-run --threads) they need none",
            call, pid, strerror(error));
        return EEP_ERR_UNSUPPORTED;
    }
    if (error == EPERM || error == EACCES) {
        snprintf(why_out, why_bytes,
                 "%s of process %d: %s: ranks must run as one user in one pid namespace, with "
                 "kernel.yama.ptrace_scope below 2; in a container with --cap-add=SYS_PTRACE. "
                 "Threads of one process (eep-run --threads) need none of that",
                 call, pid, strerror(error));
        return EEP_ERR_UNSUPPORTED;
    }
    snprintf(why_out, why_bytes, "%s of process %d: %s", call, pid,
             eepi_descriptors_error(error, text, sizeof text));
    return error == EMFILE || error == ENFILE ? EEP_ERR_SYSTEM : EEP_ERR_UNREACHABLE;
}

static int copy_of(int pidfd, int32_t fd)
{
    return pidfd < 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0)
                     : (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0); /* close-on-exec by itself */
}

eep_status eepi_peer_descriptors_copy(int32_t pid, const int32_t *fds, int count, int *copies_out,
                                      char *why_out, size_t why_bytes)
{
    int is_own = pid == (int32_t)getpid();
    int pidfd = is_own ? -1 : (int)syscall(SYS_pidfd_open, pid, 0);
    eep_status status = EEP_OK;
    int done = 0;

    if (!is_own && pidfd < 0) {
        return refused(pid, "pidfd_open", why_out, why_bytes);
    }
    while (done < count) {
        int copy = copy_of(pidfd, fds[done]);
        if (copy < 0) {
            break;
        }
        copies_out[done++] = copy;
    }
    if (done < count) {
        status = refused(pid, is_own ? "copying a descriptor" : "pidfd_getfd", why_out, why_bytes);
        while (done > 0) {
            close(copies_out[--done]);
        }
    }
    if (pidfd >= 0) {
        close(pidfd);
    }
    return status;
}
