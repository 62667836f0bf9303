/* The last step of a child that becomes another program. */
#ifndef EEPX_EXEC_OR_TELL_H
#define EEPX_EXEC_OR_TELL_H

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { EXEC_FAILED = 127 };

static inline void exec_write(const char *text)
{
    if (write(STDERR_FILENO, text, strlen(text)) < 0) {
        return; /* nobody is there to be told */
    }
}

/* Become the program, or say which one could not be started and why, and end with EXEC_FAILED.
 * Async-signal-safe, since it stands between fork and exec. */
static inline _Noreturn void exec_or_tell(const char *file, char *const arguments[],
                                          char *const variables[])
{
    execve(file, arguments, variables);
    const char *why = strerrordesc_np(errno);
    exec_write("eep-run: cannot start ");
    exec_write(file);
    exec_write(": ");
    exec_write(why ? why : "unknown error");
    exec_write(strncmp(file, "/proc/", 6) == 0 ? ": is /proc mounted?\n" : "\n");
    _exit(EXEC_FAILED);
}
#endif
