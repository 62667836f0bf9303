/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that the holder retains: it outlives the client that put it there. */
#include "transport/holder/holder_table.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool begins_with(const char *name, const char *begin)
{
    return strncmp(name, begin, strlen(begin)) == 0;
}

/* How much of a name says of which instance its memory is: what comes before its second '/'. */
static size_t instance_bytes(const char *name)
{
    const char *slash = strchr(name, '/');
    slash = slash != NULL ? strchr(slash + 1, '/') : NULL;
    return slash != NULL ? (size_t)(slash - name) + 1 : 0;
}

/* Both name memory of the same kind, and of two instances. */
static bool is_of_another_instance(const char *name, const char *other)
{
    size_t bytes = instance_bytes(name), other_bytes = instance_bytes(other);
    const char *slash = strchr(name, '/');
    if (bytes == 0 || other_bytes == 0 || strncmp(name, other, (size_t)(slash - name) + 1) != 0) {
        return false;
    }
    return bytes != other_bytes || strncmp(name, other, bytes) != 0;
}

static void free_piece(eepi_holder *holder, holder_held **link)
{
    holder_held *piece = *link;
    *link = piece->next;
    holder->num_retained--;
    holder->retained_bytes -= piece->bytes;
    close(piece->fd);
    free(piece);
}

/* The client that put the memory there has ended. */
static bool is_left(const eepi_holder *holder, const holder_held *piece)
{
    return eepi_holder_find_client(holder, piece->identity) == NULL;
}

static void drop_other_instances(eepi_holder *holder, const char *name)
{
    for (holder_held **link = &holder->retained; *link != NULL;) {
        if (is_of_another_instance(name, (*link)->name) && is_left(holder, *link)) {
            free_piece(holder, link);
        } else {
            link = &(*link)->next;
        }
    }
}

/* Let go of the oldest whose owner has ended. The ranks that have it mapped read it still. */
static bool drop_oldest(eepi_holder *holder)
{
    for (holder_held **link = &holder->retained; *link != NULL; link = &(*link)->next) {
        if (is_left(holder, *link)) {
            free_piece(holder, link);
            return true;
        }
    }
    return false;
}

static bool make_room(eepi_holder *holder, uint64_t bytes)
{
    const eepi_holder_limits *limits = &holder->limits;
    if (bytes > limits->max_retained_bytes) {
        return false;
    }
    while (holder->num_retained >= limits->max_retained ||
           holder->retained_bytes > limits->max_retained_bytes - bytes) {
        if (!drop_oldest(holder)) {
            return false;
        }
    }
    return true;
}

eep_status eepi_holder_retain(eepi_holder *holder, holder_client *from,
                              const eepi_holder_message *message, int fd)
{
    holder_held **link = &holder->retained;
    if (eepi_holder_find_retained(holder, message->name) != NULL) {
        return EEP_ERR_CONFLICT;
    }
    drop_other_instances(holder, message->name);
    holder_held *piece = make_room(holder, message->bytes) ? calloc(1, sizeof *piece) : NULL;
    if (piece == NULL) {
        return EEP_ERR_NO_MEMORY;
    }
    piece->fd = fd;
    piece->bytes = message->bytes;
    piece->sequence = ++holder->last_sequence;
    piece->seat = from->seat;
    piece->generation = from->generation;
    memcpy(piece->identity, from->identity, sizeof piece->identity);
    memcpy(piece->name, message->name, sizeof piece->name);
    while (*link != NULL) {
        link = &(*link)->next;
    }
    *link = piece;
    holder->num_retained++;
    holder->retained_bytes += piece->bytes;
    from->has_retained = true;
    return EEP_OK;
}

const holder_held *eepi_holder_next_retained(const eepi_holder *holder, const char *name,
                                             uint64_t sequence)
{
    for (const holder_held *piece = holder->retained; piece != NULL; piece = piece->next) {
        if (piece->sequence > sequence && begins_with(piece->name, name)) {
            return piece;
        }
    }
    return NULL;
}

const holder_held *eepi_holder_find_retained(const eepi_holder *holder, const char *name)
{
    for (const holder_held *piece = holder->retained; piece != NULL; piece = piece->next) {
        if (strcmp(piece->name, name) == 0) {
            return piece;
        }
    }
    return NULL;
}

eep_status eepi_holder_release_retained(eepi_holder *holder, const char *name)
{
    eep_status status = EEP_ERR_NOT_FOUND;
    for (holder_held **link = &holder->retained; *link != NULL;) {
        if (begins_with((*link)->name, name)) {
            free_piece(holder, link);
            status = EEP_OK;
        } else {
            link = &(*link)->next;
        }
    }
    return status;
}
