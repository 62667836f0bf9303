/* Is a stream captured, and by whom? And a capture whose graph would lack something: whoever puts
 * nodes says what, and the end of the capture is refused. */
#include "graphs/device_internal.h"

#include <stdio.h>

/* Only a stream of the caller's can be captured by other means than ours. */
int eep_stream_is_capturing(const eep_stream *stream)
{
    if (!stream || stream->is_closed)
        return 0;
    return __atomic_load_n(&stream->capturer, __ATOMIC_ACQUIRE) ||
           (stream->is_adopted && stream->device->ops->stream_is_captured(stream->impl));
}

uint64_t eepi_stream_capture_number(const eep_stream *stream)
{
    return __atomic_load_n(&stream->capturer, __ATOMIC_ACQUIRE) ? stream->captures : 0;
}

eep_status eepi_stream_own(eep_stream *stream, const void *owner)
{
    const void *before = NULL;

    if (__atomic_compare_exchange_n(&stream->owner, &before, owner, 0, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE) ||
        before == owner)
        return EEP_OK;
    return EEP_ERR_STATE;
}

void eepi_stream_disown(eep_stream *stream, const void *owner)
{
    (void)!__atomic_compare_exchange_n(&stream->owner, &owner, NULL, 0, __ATOMIC_ACQ_REL,
                                       __ATOMIC_ACQUIRE);
}

void eepi_stream_note_step(eep_stream *stream, const void *owner)
{
    if (eepi_capturer_of(stream))
        stream->step_owner = owner;
}

void eepi_stream_note_lack(eep_stream *stream, const char *lacks)
{
    snprintf(stream->lacks, sizeof(stream->lacks), "%s", lacks ? lacks : "");
}

int eepi_stream_is_adopted(const eep_stream *stream)
{
    return stream->is_adopted;
}
