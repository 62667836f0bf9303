/* SPDX-License-Identifier: Apache-2.0 */
/* Captures and graphs. A captured stream's work is kept, arguments by value, and runs in order as
 * one entry of a queue. */
#include "tests/fake_gpu/fake_internal.h"

#include <stdlib.h>
#include <string.h>

struct CUgraph_st {
    fake_work *nodes;
    size_t num_nodes, capacity;
};

struct CUgraphExec_st {
    uint32_t refs; /* under the lock */
    uint32_t at;   /* the node that runs, for messages */
    size_t num_nodes;
    fake_work nodes[];
};

static _Thread_local enum cudaStreamCaptureMode own_mode = cudaStreamCaptureModeGlobal;

/* ------------------------------------------------------------------ what captures forbid */

static void spoil(cudaStream_t stream)
{
    if (stream->capture == cudaStreamCaptureStatusActive) {
        fake.count.captures_spoiled++;
    }
    stream->capture = cudaStreamCaptureStatusInvalidated;
}

/* Does the capture of this stream forbid unsafe calls to the calling thread? */
static int forbids(cudaStream_t stream)
{
    int is_own = pthread_equal(stream->capturer, pthread_self());

    if (stream->capture == cudaStreamCaptureStatusNone ||
        own_mode == cudaStreamCaptureModeRelaxed) {
        return 0;
    }
    if (is_own) {
        return stream->mode != cudaStreamCaptureModeRelaxed;
    }
    return own_mode == cudaStreamCaptureModeGlobal && stream->mode == cudaStreamCaptureModeGlobal;
}

cudaError_t fake_capture_allows(void)
{
    cudaError_t error = cudaSuccess;

    for (cudaStream_t stream = fake_streams; stream; stream = stream->next) {
        if (forbids(stream)) {
            spoil(stream);
            error = cudaErrorStreamCaptureUnsupported;
        }
    }
    return error;
}

cudaError_t fake_capture_spoil(cudaStream_t stream)
{
    spoil(stream);
    return cudaErrorStreamCaptureUnsupported;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode)
{
    cudaError_t error = fake_enter(FAKE_ASKS);
    enum cudaStreamCaptureMode before = own_mode;

    if (error != cudaSuccess) {
        return error;
    }
    own_mode = *mode;
    *mode = before;
    return cudaSuccess;
}

/* ------------------------------------------------------------------ captures */

cudaError_t fake_graph_add(cudaStream_t stream, const fake_work *work)
{
    struct CUgraph_st *graph = stream->graph;

    if (stream->capture == cudaStreamCaptureStatusInvalidated) {
        return cudaErrorStreamCaptureInvalidated;
    }
    if (work->kind != FAKE_KERNEL && work->kind != FAKE_COPY && work->kind != FAKE_MEMSET) {
        return fake_capture_spoil(stream); /* graphs in graphs, frees */
    }
    if (graph->num_nodes == graph->capacity) {
        graph->capacity = graph->capacity ? 2 * graph->capacity : 16;
        graph->nodes = realloc(graph->nodes, graph->capacity * sizeof *graph->nodes);
        FAKE_REQUIRE(graph->nodes != NULL);
    }
    graph->nodes[graph->num_nodes++] = *work;
    return cudaSuccess;
}

static void drop_graph(struct CUgraph_st *graph)
{
    if (graph) {
        free(graph->nodes);
    }
    free(graph);
}

void fake_capture_drop(cudaStream_t stream)
{
    drop_graph(stream->graph);
    stream->graph = NULL;
    stream->capture = cudaStreamCaptureStatusNone;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    cudaError_t error = fake_enter(FAKE_WORKS);

    if (error != cudaSuccess) {
        return error;
    }
    pthread_mutex_lock(&fake.lock);
    if (!fake_stream_is_known(stream)) {
        error = cudaErrorInvalidResourceHandle;
    } else if (stream->capture != cudaStreamCaptureStatusNone) {
        error = cudaErrorIllegalState;
    } else {
        stream->graph = calloc(1, sizeof *stream->graph);
        FAKE_REQUIRE(stream->graph != NULL);
        stream->capture = cudaStreamCaptureStatusActive;
        stream->mode = mode;
        stream->capturer = pthread_self();
        fake.count.captures++;
    }
    pthread_mutex_unlock(&fake.lock);
    return error;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status)
{
    cudaError_t error = fake_enter(FAKE_WORKS);

    if (error != cudaSuccess) {
        return error;
    }
    pthread_mutex_lock(&fake.lock);
    if (fake_stream_is_known(stream)) {
        *status = stream->capture;
    } else {
        error = cudaErrorInvalidResourceHandle;
    }
    pthread_mutex_unlock(&fake.lock);
    return error;
}

static cudaError_t end_capture(cudaStream_t stream, cudaGraph_t *graph_out)
{
    if (!fake_stream_is_known(stream)) {
        return cudaErrorInvalidResourceHandle;
    }
    if (stream->capture == cudaStreamCaptureStatusNone) {
        return cudaErrorIllegalState;
    }
    if (stream->mode != cudaStreamCaptureModeRelaxed &&
        !pthread_equal(stream->capturer, pthread_self())) {
        return cudaErrorStreamCaptureWrongThread;
    }
    if (stream->capture == cudaStreamCaptureStatusInvalidated) {
        fake_capture_drop(stream);
        return cudaErrorStreamCaptureInvalidated;
    }
    *graph_out = stream->graph;
    stream->graph = NULL;
    stream->capture = cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph_out)
{
    cudaError_t error = fake_enter(FAKE_WORKS);

    if (error != cudaSuccess) {
        return error;
    }
    *graph_out = NULL;
    pthread_mutex_lock(&fake.lock);
    error = end_capture(stream, graph_out);
    pthread_mutex_unlock(&fake.lock);
    return error;
}

/* ------------------------------------------------------------------ graphs */

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    cudaError_t error = fake_enter(FAKE_WORKS);

    if (error == cudaSuccess) {
        drop_graph(graph);
    }
    return error;
}

/* `nodes` NULL: how many there are. */
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *num_nodes)
{
    cudaError_t error = fake_enter(FAKE_WORKS);

    if (error != cudaSuccess) {
        return error;
    }
    if (nodes) {
        return cudaErrorNotSupported;
    }
    *num_nodes = graph->num_nodes;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *exec_out, cudaGraph_t graph,
                                          unsigned long long flags)
{
    cudaError_t error = fake_enter(FAKE_WORKS);
    cudaGraphExec_t exec;

    (void)flags;
    if (error != cudaSuccess) {
        return error;
    }
    exec = malloc(sizeof *exec + graph->num_nodes * sizeof exec->nodes[0]);
    if (!exec) {
        return cudaErrorMemoryAllocation;
    }
    exec->refs = 1;
    exec->at = 0;
    exec->num_nodes = graph->num_nodes;
    if (graph->num_nodes) {
        memcpy(exec->nodes, graph->nodes, graph->num_nodes * sizeof exec->nodes[0]);
    }
    *exec_out = exec;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec_out, cudaGraph_t graph,
                                 unsigned long long flags)
{
    return cudaGraphInstantiateWithFlags(exec_out, graph, flags);
}

void fake_exec_keep(struct CUgraphExec_st *exec)
{
    exec->refs++;
}

void fake_exec_release(struct CUgraphExec_st *exec)
{
    if (--exec->refs == 0) {
        free(exec);
    }
}

void fake_exec_run(struct CUgraphExec_st *exec)
{
    for (size_t i = 0; i < exec->num_nodes; i++) {
        __atomic_store_n(&exec->at, (uint32_t)i, __ATOMIC_RELAXED);
        fake_work_run(&exec->nodes[i]);
    }
}

const char *fake_exec_at(const struct CUgraphExec_st *exec)
{
    return exec->num_nodes ? fake_work_name(&exec->nodes[exec->at]) : "nothing";
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    cudaError_t error = fake_enter(FAKE_WORKS);

    if (error != cudaSuccess) {
        return error;
    }
    pthread_mutex_lock(&fake.lock);
    fake_exec_release(exec);
    pthread_mutex_unlock(&fake.lock);
    return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t stream)
{
    fake_work work = {.kind = FAKE_NOTHING, .exec = exec};

    return fake_put(stream, &work, "cudaGraphUpload");
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    fake_work work = {.kind = FAKE_GRAPH, .exec = exec};

    return fake_put(stream, &work, "cudaGraphLaunch");
}
