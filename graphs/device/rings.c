/* SPDX-License-Identifier: Apache-2.0 */
/* One allocation for all rings, one for the kernels' side of them. */
#include "graphs/device/rings.h"

uint32_t eepi_ring_least_slots(const eepk_shape *s)
{
    const uint32_t dispatch = 2 * s->num_max_tokens + 1; /* rows, stretches of the list, header */
    const uint32_t combine = s->num_max_tokens * eepk_rows_per_token(s);

    return (dispatch > combine ? dispatch : combine) + 1; /* the tag */
}

eep_status eepi_rings_open(eep_device *device, const eepk_shape *s, eep_stream *stream,
                           uint64_t timeout_us, eepi_rings *rings_out)
{
    const uint64_t ring_bytes = eepk_ring_bytes(s->ring_slots, eepk_slot_bytes(s));
    const uint64_t queue_bytes = s->num_queues * sizeof(eepk_queue);
    const uint64_t bytes = s->num_queues * ring_bytes + queue_bytes;
    eepk_queue *image;
    eep_status status;

    if (s->num_queues == 0) {
        return EEP_OK;
    }
    if (s->ring_slots < eepi_ring_least_slots(s)) {
        return EEP_ERR_INVALID;
    }
    status = eep_device_alloc(device, EEP_MEMORY_PINNED, bytes, (void **)&rings_out->pinned);
    if (status == EEP_OK) {
        status =
            eep_device_alloc(device, EEP_MEMORY_DEVICE, queue_bytes, (void **)&rings_out->queue);
    }
    if (status != EEP_OK) {
        return status;
    }
    image = (eepk_queue *)(rings_out->pinned + s->num_queues * ring_bytes);
    for (uint32_t i = 0; i < s->num_queues; i++) {
        image[i].ring = rings_out->pinned + i * ring_bytes;
    }
    status = eep_copy_async(stream, rings_out->queue, image, queue_bytes);
    return status == EEP_OK ? eep_stream_synchronize(stream, timeout_us) : status;
}

void eepi_rings_close(eep_device *device, eepi_rings *rings)
{
    eep_device_free(device, EEP_MEMORY_PINNED, rings->pinned);
    eep_device_free(device, EEP_MEMORY_DEVICE, rings->queue);
}
