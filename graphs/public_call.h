/* What all public functions do with what a caller gives them: they refuse with a text, and look at
 * NULL, at structs of another version's header, and at handles that another process opened. */
#ifndef EEPI_PUBLIC_CALL_H
#define EEPI_PUBLIC_CALL_H

#include "eep/status.h"

#include <stddef.h>
#include <stdint.h>

enum { EEPI_ERROR_TEXT_BYTES = 512 };

/* This thread's text for eep_error_text, of EEPI_ERROR_TEXT_BYTES. */
char *eepi_error_buffer(void);
/* Set that text and return the status. */
eep_status eepi_refuse(eep_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* EEP_ERR_INVALID, and the text, if the argument `name` of the public function `call` is NULL. */
EEP_MUST_CHECK eep_status eepi_check_given(const char *call, const char *name,
                                           const void *argument);
/* EEP_ERR_STATE, and the text, in another process than the one that opened the `what`: a child of
 * fork has its memory, but neither its threads nor its place among the ranks. */
EEP_MUST_CHECK eep_status eepi_check_process(const char *call, const char *what, int32_t opened_by);

/* The caller's struct `theirs` into `ours`, which holds the defaults of what an older caller's
 * lacks. EEP_ERR_INVALID, and the text, if it is NULL, shorter than `least_bytes`, or has a value
 * in fields that came after this version. Both begin with struct_bytes; that of `ours` is set to
 * its size. */
EEP_MUST_CHECK eep_status eepi_struct_take(const char *call, const char *type, void *ours,
                                           size_t ours_bytes, size_t least_bytes,
                                           const void *theirs);
/* May `theirs` be written? As above. Before a function does anything. */
EEP_MUST_CHECK eep_status eepi_struct_check(const char *call, const char *type, const void *theirs);
/* `ours` into the caller's struct, as far as both reach; its struct_bytes stays. */
void eepi_struct_give(void *theirs, const void *ours, size_t ours_bytes);

/* `least`: the last field that every caller has. */
#define EEPI_STRUCT_TAKE(type, ours, least, theirs)                                                \
    eepi_struct_take(__func__, #type, (ours), sizeof(type),                                        \
                     offsetof(type, least) + sizeof(((type *)0)->least), (theirs))
#define EEPI_STRUCT_CHECK(type, theirs)      eepi_struct_check(__func__, #type, (theirs))
#define EEPI_STRUCT_GIVE(type, theirs, ours) eepi_struct_give((theirs), (ours), sizeof(type))
#endif
