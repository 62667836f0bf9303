/* SPDX-License-Identifier: Apache-2.0 */
/* The distance between replicas, on the ring of seats. */
#include "repair/spread.h"

static int at_least_one(int value)
{
    return value > 1 ? value : 1;
}

int eepi_spread_distance(const eepi_view_shape *shape, int num_members)
{
    const int most = at_least_one(num_members / 2);
    int distance = shape->spread;

    if (distance == 0 && eepi_view_num_nodes(shape) == 1) {
        distance = num_members / 4;
    } else if (distance == 0) {
        const int third = num_members / 3;
        distance = shape->ranks_per_node < third ? shape->ranks_per_node : third;
    }
    distance = at_least_one(distance);
    return distance < most ? distance : most;
}

int eepi_spread_between(const eepi_view_shape *shape, int a, int b)
{
    const int forward = a < b ? b - a : a - b;
    const int back = shape->max_ranks - forward;

    return forward < back ? forward : back;
}

bool eepi_spread_is_apart(const eepi_view_shape *shape, int distance, int a, int b)
{
    return eepi_spread_between(shape, a, b) >= distance && !eepi_view_are_mates(shape, a, b) &&
           (eepi_view_num_nodes(shape) == 1 ||
            eepi_view_node_of(shape, a) != eepi_view_node_of(shape, b));
}
