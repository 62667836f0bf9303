/* SPDX-License-Identifier: Apache-2.0 */
#include "experiments/plan_tool/plan_constants.h"

static const struct {
    const char *name;
    double value;
    const char *unit, *source;
} rows[PLAN_NUM_CONSTANTS] = {
#define PLAN_CONSTANT_ROW(id, name, value, unit, source) {name, value, unit, source},
    PLAN_CONSTANTS(PLAN_CONSTANT_ROW)
#undef PLAN_CONSTANT_ROW
};

double plan_constant_value(plan_constant which)
{
    return rows[which].value;
}

cJSON *plan_constants_json(void)
{
    cJSON *list = cJSON_CreateArray();

    for (int i = 0; i < PLAN_NUM_CONSTANTS; i++) {
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "name", rows[i].name);
        cJSON_AddNumberToObject(item, "value", rows[i].value);
        cJSON_AddStringToObject(item, "unit", rows[i].unit);
        cJSON_AddStringToObject(item, "source", rows[i].source);
        cJSON_AddItemToArray(list, item);
    }
    return list;
}
