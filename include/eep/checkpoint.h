/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints: safetensors files that weights are read from, at start and as the last source of a
 * repair. docs/INTEGRATION.md, "Checkpoints", has an example. */
#ifndef EEP_CHECKPOINT_H
#define EEP_CHECKPOINT_H

#include <stddef.h>
#include <stdint.h>

#include "eep/eep.h"
#include "eep/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    EEP_CHECKPOINT_DIMS = 8,         /* most dimensions of a tensor */
    EEP_CHECKPOINT_DTYPE_BYTES = 16, /* of a dtype's name, with its end */
    EEP_CHECKPOINT_NAME_BYTES = 512, /* of a tensor's name in eep_checkpoint_place, with its end */
};

typedef struct eep_checkpoint eep_checkpoint;

/* Open a safetensors file, an index (a file *.json with a weight_map), or a folder with
 * model.safetensors.index.json or model.safetensors. All headers are read and checked: each tensor
 * lies inside its file, shares no byte with another one, and has the bytes that its dtype and shape
 * take. No weight is read. One descriptor per file stays open, so a file that is replaced or
 * removed later is still the one that was opened; one that is cut off later gives an error where it
 * is read, and no signal. What cannot be used is refused, and `error_out` (may be NULL, at least
 * 256 bytes) names file, tensor and cause: EEP_ERR_NOT_FOUND (a file, or a tensor that the index
 * names), EEP_ERR_PROTOCOL (malformed, truncated), EEP_ERR_SYSTEM, EEP_ERR_NO_MEMORY. A header has
 * at most 100 MB, which take up to 3 GB while they are read. Any thread. Cost: that of reading the
 * headers. Source: the format's description in the README of safetensors. */
EEP_API EEP_MUST_CHECK eep_status eep_checkpoint_open(const char *path, char *error_out,
                                                      size_t error_bytes,
                                                      eep_checkpoint **checkpoint_out);
/* It may be closed before contexts that use it; it goes when they go. NULL: nothing. */
EEP_API void eep_checkpoint_close(eep_checkpoint *checkpoint);

typedef struct eep_checkpoint_tensor {
    uint32_t struct_bytes; /* set by the caller (EEP_SIZED) */
    int32_t num_dims;
    uint64_t bytes;
    uint64_t shape[EEP_CHECKPOINT_DIMS];    /* [num_dims], row-major; the others are 0 */
    char dtype[EEP_CHECKPOINT_DTYPE_BYTES]; /* safetensors' name: "F32", "BF16", "F8_E4M3", ... */
} eep_checkpoint_tensor;
/* What a tensor is. EEP_ERR_NOT_FOUND: there is none of that name (eep_error_text names it). Any
 * thread. */
EEP_API EEP_MUST_CHECK eep_status eep_checkpoint_find(const eep_checkpoint *checkpoint,
                                                      const char *name,
                                                      eep_checkpoint_tensor *tensor_out);
/* The name of tensor `index`, in the order of strcmp; NULL for one that is out of range. Valid
 * until eep_checkpoint_close. Any thread. */
EEP_API const char *eep_checkpoint_name(const eep_checkpoint *checkpoint, size_t index);
/* Read `bytes` bytes of a tensor, from its byte `offset` on, into host memory. EEP_ERR_NOT_FOUND,
 * EEP_ERR_INVALID (the tensor ends before), EEP_ERR_PROTOCOL (the file has been cut off),
 * EEP_ERR_SYSTEM (it cannot be read); then what `to_out` holds is not specified, and eep_error_text
 * names file and cause. Waits for the disk: not between eep_step_begin and eep_step_end. Any
 * thread. */
EEP_API EEP_MUST_CHECK eep_status eep_checkpoint_read(const eep_checkpoint *checkpoint,
                                                      const char *name, uint64_t offset,
                                                      size_t bytes, void *to_out);

/* ---------------------------------------------------------------- experts in a checkpoint */

/* Where the bytes of one tensor of an expert's slot lie. */
typedef struct eep_checkpoint_place {
    uint32_t struct_bytes; /* the library's */
    uint32_t reserved;     /* 0 */
    uint64_t offset;       /* from the beginning of the checkpoint's tensor, in bytes */
    uint64_t bytes;        /* 0: all behind the offset */
    char name[EEP_CHECKPOINT_NAME_BYTES];   /* of the checkpoint's tensor */
    char dtype[EEP_CHECKPOINT_DTYPE_BYTES]; /* that it must have; "": any */
} eep_checkpoint_place;
/* Fill `place_out`, which comes zeroed, for one tensor of an expert. Called by eep_checkpoint_set
 * alone, once for each layer (of MoE layers, from 0), expert and tensor. Any status but EEP_OK ends
 * eep_checkpoint_set with that status. It must not call libeep with the context. */
typedef eep_status (*eep_checkpoint_place_fn)(void *user, int32_t layer, int32_t expert,
                                              int32_t tensor, eep_checkpoint_place *place_out);

/* Say that the weights of all experts lie in a checkpoint, with `num_tensors` tensors each: those
 * of eep_slot_set, byte by byte. libeep then reads an expert from there where no rank and no backup
 * can give it, for this rank's slots and for those of others, on a thread of its own. Bytes are
 * checked against the instance's checksum. The checkpoint must hold every expert of every layer:
 * EEP_ERR_NOT_FOUND names the first tensor that it lacks, EEP_ERR_INVALID one with another dtype,
 * or without the bytes. eep_join is EEP_ERR_INVALID, by name, where a tensor's bytes are not those
 * of the slots. After eep_open, before eep_join; a second call replaces the first. Rank thread.
 * Memory: 16 bytes per tensor of an expert. */
EEP_API EEP_MUST_CHECK eep_status eep_checkpoint_set(eep_context *context,
                                                     eep_checkpoint *checkpoint,
                                                     int32_t num_tensors,
                                                     eep_checkpoint_place_fn place, void *user);
/* The same with a name per tensor of a slot, in which {expert} stands for the expert and {layer}
 * for first_layer + layer:
 * "model.layers.{layer}.mlp.experts.{expert}.gate_proj.weight". A tensor whose name has no {expert}
 * holds all experts: its first dimension has num_experts, and an expert is one row of it.
 * `first_layer` is the number that the first MoE layer has in the checkpoint. EEP_ERR_INVALID also
 * for a name that is too long. */
EEP_API EEP_MUST_CHECK eep_status eep_checkpoint_set_names(eep_context *context,
                                                           eep_checkpoint *checkpoint,
                                                           int32_t num_tensors,
                                                           const char *const *names,
                                                           int32_t first_layer);
/* Read an expert from the checkpoint that was set into host memory, to fill a slot or a backup
 * before eep_join: `tensors` have the bytes of the checkpoint's places, EEP_ERR_INVALID otherwise.
 * Errors as of eep_checkpoint_read, and EEP_ERR_STATE where no checkpoint was set. Rank thread. */
EEP_API EEP_MUST_CHECK eep_status eep_checkpoint_load(eep_context *context, int32_t layer,
                                                      int32_t expert, const eep_tensor *tensors,
                                                      int32_t num_tensors);

#ifdef __cplusplus
}
#endif
#endif
