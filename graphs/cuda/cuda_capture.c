/* SPDX-License-Identifier: Apache-2.0 */
/* Captures and graphs of the CUDA backend. No other file may call what begins a capture or makes a
 * graph, and none what changes one (tests/run/capture_calls.sh looks at the objects): so
 * graphs/device/device.c counts all captures there are, and a graph never holds anything but what
 * its capture saw. */
#include "graphs/cuda/cuda_backend.h"

#include <stdlib.h>

typedef struct cuda_graph {
    int ordinal;
    cudaGraphExec_t exec;
} cuda_graph;

/* End a capture that is still open and throw away what it recorded. */
void eepi_cuda_capture_drop(const cuda_stream *s)
{
    enum cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    cudaGraph_t graph = NULL;

    if (EEPI_CUDA_CHECKED(s->ordinal, cudaStreamIsCapturing(s->stream, &capture)) != EEP_OK ||
        capture == cudaStreamCaptureStatusNone) {
        return;
    }
    if (EEPI_CUDA_CHECKED(s->ordinal, cudaStreamEndCapture(s->stream, &graph)) == EEP_OK && graph) {
        (void)EEPI_CUDA_CHECKED(s->ordinal, cudaGraphDestroy(graph));
    }
}

/* Thread-local mode: other threads of the process may go on allocating meanwhile. */
eep_status eepi_cuda_capture_begin(void *stream)
{
    const cuda_stream *s = stream;
    eep_status status = eepi_cuda_use_device(s->ordinal);

    if (status == EEP_OK) {
        status = EEPI_CUDA_CHECKED(
            s->ordinal, cudaStreamBeginCapture(s->stream, cudaStreamCaptureModeThreadLocal));
    }
    return status;
}

/* All that a first launch would do lazily is done here, before any rank waits. */
static eep_status make_exec(const cuda_stream *s, cudaGraph_t graph, cudaGraphExec_t *exec_out,
                            size_t *num_nodes_out)
{
    eep_status status =
        EEPI_CUDA_CHECKED(s->ordinal, cudaGraphGetNodes(graph, NULL, num_nodes_out));

    if (status == EEP_OK) {
        status = EEPI_CUDA_CHECKED(s->ordinal, cudaGraphInstantiateWithFlags(exec_out, graph, 0));
    }
    if (status != EEP_OK) {
        return status;
    }
    status = EEPI_CUDA_CHECKED(s->ordinal, cudaGraphUpload(*exec_out, s->stream));
    if (status != EEP_OK) {
        (void)EEPI_CUDA_CHECKED(s->ordinal, cudaGraphExecDestroy(*exec_out));
    }
    return status;
}

eep_status eepi_cuda_capture_end(void *stream, void **graph_out, uint32_t *num_nodes_out)
{
    const cuda_stream *s = stream;
    cuda_graph *g = calloc(1, sizeof *g);
    cudaGraph_t graph = NULL;
    size_t num_nodes = 0;
    eep_status status = eepi_cuda_use_device(s->ordinal);

    if (status == EEP_OK) {
        status = EEPI_CUDA_CHECKED(s->ordinal, cudaStreamEndCapture(s->stream, &graph));
    }
    if (status == EEP_OK) {
        status = g ? make_exec(s, graph, &g->exec, &num_nodes) : EEP_ERR_NO_MEMORY;
    }
    if (graph) {
        (void)EEPI_CUDA_CHECKED(s->ordinal, cudaGraphDestroy(graph));
    }
    if (status != EEP_OK) {
        free(g);
        return status;
    }
    g->ordinal = s->ordinal;
    *graph_out = g;
    *num_nodes_out = (uint32_t)num_nodes;
    return EEP_OK;
}

eep_status eepi_cuda_graph_replay(void *graph, void *stream)
{
    const cuda_stream *s = stream;
    eep_status status = eepi_cuda_use_device(s->ordinal);

    if (status == EEP_OK) {
        status = EEPI_CUDA_CHECKED(s->ordinal,
                                   cudaGraphLaunch(((const cuda_graph *)graph)->exec, s->stream));
    }
    return status;
}

void eepi_cuda_graph_close(void *graph)
{
    cuda_graph *g = graph;

    eepi_cuda_park(CUDA_PARKED_GRAPH, g->ordinal, g->exec);
    free(g);
}
