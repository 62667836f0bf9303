/* SPDX-License-Identifier: Apache-2.0 */
/* What of a JSON item stands in a message. */
#ifndef EEPX_JSON_QUOTE_H
#define EEPX_JSON_QUOTE_H

#include <cjson/cJSON.h>
#include <stdio.h>

enum { JSON_QUOTED_BYTES = 31 };

/* The beginning of the item's text; returns `text_out`. */
static inline const char *json_quote(const cJSON *item, char text_out[JSON_QUOTED_BYTES + 1])
{
    char *text = cJSON_PrintUnformatted(item);
    snprintf(text_out, JSON_QUOTED_BYTES + 1, "%s", text ? text : "?");
    cJSON_free(text);
    return text_out;
}
#endif
