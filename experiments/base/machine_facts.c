/* SPDX-License-Identifier: Apache-2.0 */
/* CPU, memory, kernel and GPUs, as the kernel tells them. */
#include "experiments/base/machine_facts.h"

#include <glob.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

/* The value of the first line "NAME <blanks>: VALUE" of a file; "": there is none. */
static void find_value(const char *path, const char *name, char value_out[MACHINE_TEXT_BYTES])
{
    char line[512];
    const size_t length = strlen(name);
    FILE *file = fopen(path, "re");
    *value_out = '\0';
    while (file && *value_out == '\0' && fgets(line, sizeof line, file)) {
        const char *colon = strchr(line, ':');
        const bool named = strncmp(line, name, length) == 0 && colon &&
                           strspn(line + length, " \t") == (size_t)(colon - line) - length;
        if (named) {
            const char *value = colon + 1 + strspn(colon + 1, " \t");
            snprintf(value_out, MACHINE_TEXT_BYTES, "%.*s", (int)strcspn(value, "\n"), value);
        }
    }
    if (file) {
        fclose(file);
    }
}

static void find_gpus(machine_facts *facts)
{
    glob_t found;
    if (glob("/proc/driver/nvidia/gpus/*/information", 0, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc && facts->num_gpus < MACHINE_MAX_GPUS; i++) {
            find_value(found.gl_pathv[i], "Model", facts->gpu[facts->num_gpus]);
            facts->num_gpus += facts->gpu[facts->num_gpus][0] != '\0';
        }
    }
    globfree(&found);
}

machine_facts machine_facts_now(void)
{
    machine_facts facts = {.num_cores = (int)sysconf(_SC_NPROCESSORS_ONLN)};
    struct utsname name = {0};
    cpu_set_t allowed;
    const long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) {
        facts.num_cores = CPU_COUNT(&allowed);
    }
    if (pages > 0 && page_bytes > 0) {
        facts.memory_bytes = (uint64_t)pages * (uint64_t)page_bytes;
    }
    if (uname(&name) == 0) {
        snprintf(facts.kernel, sizeof facts.kernel, "%.40s %.80s", name.sysname, name.release);
    }
    find_value("/proc/cpuinfo", "model name", facts.cpu);
    find_gpus(&facts);
    return facts;
}
