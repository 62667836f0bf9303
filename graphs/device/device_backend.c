/* SPDX-License-Identifier: Apache-2.0 */
/* Which backend a device has, and where its plugin is. */
#include "graphs/device/device_internal.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static const char plugin_file[] = "libeep_cuda.so";

/* Write the plugin's path beside the file that this code was loaded from; 0 if that is unknown. */
static int path_beside_libeep(char *path_out, size_t path_bytes)
{
    Dl_info info;
    const char *slash;
    int length;

    if (!dladdr(plugin_file, &info) || !info.dli_fname) {
        return 0;
    }
    slash = strrchr(info.dli_fname, '/');
    if (!slash) {
        return 0;
    }
    length = snprintf(path_out, path_bytes, "%.*s/%s", (int)(slash - info.dli_fname),
                      info.dli_fname, plugin_file);
    return length > 0 && (size_t)length < path_bytes;
}

/* Look where the loader looks, then beside libeep. */
static void *plugin_open(char *why_out, size_t why_bytes)
{
    char path[4096], first[200];
    void *library = dlopen(plugin_file, RTLD_NOW | RTLD_LOCAL);

    if (library) {
        return library;
    }
    snprintf(first, sizeof(first), "%s", dlerror());
    if (!path_beside_libeep(path, sizeof path)) {
        snprintf(why_out, why_bytes, "the CUDA plugin cannot be loaded: %s", first);
        return NULL;
    }
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(why_out, why_bytes, "the CUDA plugin cannot be loaded: %s; beside libeep: %.250s",
                 first, dlerror());
    }
    return library;
}

/* A plugin that was accepted stays loaded: graphs and contexts may refer to its kernels. */
static const eepi_device_backend *plugin_backend(char *why_out, size_t why_bytes)
{
    void *library = plugin_open(why_out, why_bytes);
    const eepi_device_backend *(*get)(void);
    const eepi_device_backend *backend;

    if (!library) {
        return NULL;
    }
    get = (const eepi_device_backend *(*)(void))(uintptr_t)dlsym(library, EEPI_CUDA_BACKEND_SYMBOL);
    backend = get ? get() : NULL;
    if (!backend) {
        snprintf(why_out, why_bytes, "%s does not export a backend (%s)", plugin_file,
                 EEPI_CUDA_BACKEND_SYMBOL);
    } else if (backend->version != EEPI_BACKEND_VERSION) {
        snprintf(why_out, why_bytes, "%s has backend version %u, libeep needs %u", plugin_file,
                 (unsigned)backend->version, (unsigned)EEPI_BACKEND_VERSION);
    } else if (backend->num_kernels != EEPI_NUM_KERNELS) {
        snprintf(why_out, why_bytes, "%s has %u kernels, libeep needs %u", plugin_file,
                 (unsigned)backend->num_kernels, (unsigned)EEPI_NUM_KERNELS);
    } else {
        return backend;
    }
    dlclose(library);
    return NULL;
}

eep_status eepi_device_find_backend(const char *name, const eepi_device_backend **backend_out,
                                    char *why_out, size_t why_bytes)
{
    if (name && strcmp(name, "host") == 0) {
        *backend_out = &eepi_host_backend;
        return EEP_OK;
    }
    if (name && strcmp(name, "guarded") == 0) {
        *backend_out = &eepi_guarded_backend;
        return EEP_OK;
    }
    if (name && strcmp(name, "cuda") == 0) {
        const eepi_device_backend *backend = plugin_backend(why_out, why_bytes);

        if (!backend) {
            return EEP_ERR_UNSUPPORTED;
        }
        *backend_out = backend;
        return EEP_OK;
    }
    snprintf(why_out, why_bytes, "unknown device backend \"%.64s\": host, guarded or cuda",
             name ? name : "");
    return EEP_ERR_INVALID;
}
