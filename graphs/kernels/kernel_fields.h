/* SPDX-License-Identifier: Apache-2.0 */
/* What each byte of the kernels' arguments is, for the capture check. A new member of a struct in
 * kernel_args.h must be declared here, or no graph with it can be captured. Values that change with
 * the view belong into tables, never here (must 1). */
#ifndef EEPI_KERNEL_FIELDS_H
#define EEPI_KERNEL_FIELDS_H

#include "graphs/kernels/kernels.h"

typedef struct eepi_kernel_fields {
    const eep_kernel_arg *args;
    uint32_t num_args;
} eepi_kernel_fields;

extern const eepi_kernel_fields eepi_kernel_fields_of[EEPI_NUM_KERNELS];
#endif
