/* SPDX-License-Identifier: Apache-2.0 */
/* UCX's manners in a process that is not ours. libucs, when it is loaded, takes SIGILL, SIGBUS,
 * SIGFPE and SIGSEGV to print a backtrace, takes SIGHUP to stop and wait for a debugger, and logs
 * to stdout. A library must do none of that to its user, so as soon as libeep is loaded the
 * handlers go back to what they were and what UCX logs goes to stderr, fatal lines only: a peer's
 * death is an error to UCX and daily business here, told by status. Whoever sets UCX's own
 * variables (UCX_HANDLE_ERRORS, UCX_ERROR_SIGNALS, UCX_DEBUG_SIGNO, UCX_LOG_FILE, UCX_LOG_LEVEL,
 * UCX_WARN_UNUSED_ENV_VARS) keeps what they say. */
#include "transport/ucx/ucx_process.h"

#include "graphs/base/say.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucs/config/global_opts.h>
#include <ucs/debug/debug.h>
#include <ucs/debug/log_def.h>
#include <unistd.h>

/* Whether the handler of a signal lies in libucs. */
static bool is_ucx_handler(int signal_number)
{
    struct sigaction action;
    Dl_info info;
    if (sigaction(signal_number, NULL, &action) != 0 || action.sa_handler == SIG_DFL ||
        action.sa_handler == SIG_IGN) {
        return false;
    }
    void *code = (action.sa_flags & SA_SIGINFO) != 0 ? (void *)(uintptr_t)action.sa_sigaction
                                                     : (void *)(uintptr_t)action.sa_handler;
    return dladdr(code, &info) != 0 && info.dli_fname != NULL &&
           strstr(info.dli_fname, "libucs") != NULL;
}

static ucs_log_func_rc_t log_to_stderr(const char *file, unsigned line, const char *function,
                                       ucs_log_level_t level,
                                       const ucs_log_component_config_t *component,
                                       const char *format, va_list arguments)
{
    if (level > UCS_LOG_LEVEL_FATAL && getenv("UCX_LOG_LEVEL") == NULL) {
        return UCS_LOG_FUNC_RC_STOP;
    }
    char text[1024], out[1280];
    const char *name = strrchr(file, '/');
    (void)function;
    (void)component;
    vsnprintf(text, sizeof text, format, arguments);
    int bytes = snprintf(out, sizeof out, "ucx: %s %s:%u %s\n", ucs_log_level_names[level],
                         name ? name + 1 : file, line, text);
    if (bytes >= (int)sizeof out) {
        bytes = (int)sizeof out - 1;
        out[bytes - 1] = '\n';
    }
    /* A reader that has stopped holds up no rank, nor does another thread that waits for it. */
    if (bytes > 0) {
        eepi_say(STDERR_FILENO, out, (size_t)bytes);
    }
    return UCS_LOG_FUNC_RC_STOP;
}

void eepi_ucx_quiet(void)
{
    if (getenv("UCX_HANDLE_ERRORS") != NULL || getenv("UCX_ERROR_SIGNALS") != NULL) {
        return;
    }
    for (int signal_number = 1; signal_number < SIGRTMIN; signal_number++) {
        bool wanted = signal_number == SIGHUP && getenv("UCX_DEBUG_SIGNO") != NULL;
        if (!wanted && is_ucx_handler(signal_number)) {
            ucs_debug_disable_signal(signal_number);
        }
    }
}

/* Runs after the constructor of libucs, which this library depends on. */
__attribute__((constructor)) static void quiet_at_load(void)
{
    eepi_ucx_quiet();
    if (getenv("UCX_HANDLE_ERRORS") == NULL && getenv("UCX_ERROR_SIGNALS") == NULL) {
        ucs_global_opts_set_value("HANDLE_ERRORS", "none");
    }
    if (getenv("UCX_WARN_UNUSED_ENV_VARS") == NULL) {
        ucs_global_opts_set_value(UCS_GLOBAL_OPTS_WARN_UNUSED_CONFIG, "n");
    }
    if (getenv("UCX_LOG_FILE") == NULL) {
        ucs_log_push_handler(log_to_stderr);
    }
}

/* The handler's code goes away with this library. */
__attribute__((destructor)) static void restore_at_unload(void)
{
    if (getenv("UCX_LOG_FILE") == NULL) {
        ucs_log_pop_handler();
    }
}
