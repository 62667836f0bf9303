/* SPDX-License-Identifier: Apache-2.0 */
/* The shapes of a context's steps (rule P6). */
#ifndef EEPI_STEP_SHAPES_H
#define EEPI_STEP_SHAPES_H

#include "eep/shapes.h"

/* EEP_ERR_INVALID, with a text: the context has no such shape. Rank thread. */
EEP_MUST_CHECK eep_status eepi_shape_check(eep_context *context, const char *call, int32_t shape);
#endif
