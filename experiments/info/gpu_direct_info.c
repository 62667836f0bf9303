/* SPDX-License-Identifier: Apache-2.0 */
#include "experiments/info/gpu_direct_info.h"

#include "transport/nic_memory.h"

#include <stdio.h>
#include <unistd.h>

enum { SHARE_BYTES = 2 << 20, WHY_BYTES = 512 };

static void collect_nics(cJSON *found, eep_device *device, const eepi_share *share)
{
    cJSON *nics = cJSON_AddArrayToObject(found, "nics");
    eepi_ports *ports = NULL;
    if (eepi_ports_open(eepi_verbs_system(), &ports) != EEP_OK) {
        return;
    }
    for (int i = 0, last = -1; i < eepi_ports_count(ports); i++) {
        const eepi_port *port = eepi_ports_at(ports, i);
        eepi_nic_memory *memory = NULL;
        char why[WHY_BYTES] = "";
        if (port->device_at == last) {
            continue; /* its other port */
        }
        last = port->device_at;
        cJSON *nic = cJSON_CreateObject();
        cJSON_AddItemToArray(nics, nic);
        cJSON_AddStringToObject(nic, "nic", port->device);
        bool takes =
            eepi_nic_memory_open(ports, last, device, share, why, sizeof why, &memory) == EEP_OK;
        cJSON_AddBoolToObject(nic, "registers", takes);
        if (!takes) {
            cJSON_AddStringToObject(nic, "why", why);
        }
        eepi_nic_memory_close(memory);
    }
    eepi_ports_close(ports);
}

void gpu_direct_collect(cJSON *entry, eep_device *device)
{
    eepi_share share = {.fd = -1};
    char why[WHY_BYTES] = "";
    int fd = -1;
    if (!eepi_device_is_cuda(device)) {
        return;
    }
    cJSON *found = cJSON_AddObjectToObject(entry, "gpu_direct");
    bool exports = eepi_share_make(device, SHARE_BYTES, &share, why, sizeof why) == EEP_OK &&
                   eepi_share_dmabuf(device, &share, &fd, why, sizeof why) == EEP_OK;
    cJSON_AddBoolToObject(found, "exports", exports);
    if (exports) {
        close(fd);
        collect_nics(found, device, &share);
    } else {
        cJSON_AddStringToObject(found, "why", why);
    }
    eepi_share_close(device, &share);
}

static const char *text_of(const cJSON *object, const char *name)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
    return text ? text : "";
}

void gpu_direct_print(const cJSON *entry)
{
    const cJSON *found = cJSON_GetObjectItemCaseSensitive(entry, "gpu_direct"), *nic = NULL;
    const cJSON *nics = cJSON_GetObjectItemCaseSensitive(found, "nics");
    if (found == NULL) {
        return;
    }
    printf("          GPUDirect RDMA: ");
    if (!cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(found, "exports"))) {
        printf("no: %s\n", text_of(found, "why"));
        return;
    }
    printf("its memory can be handed to network cards%s\n",
           cJSON_GetArraySize(nics) == 0 ? ", of which there is none" : "");
    cJSON_ArrayForEach(nic, nics)
    {
        bool takes = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(nic, "registers"));
        printf("          %s %s%s\n", text_of(nic, "nic"),
               takes ? "takes it" : "does not take it: ", takes ? "" : text_of(nic, "why"));
    }
}
