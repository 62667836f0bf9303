/* SPDX-License-Identifier: Apache-2.0 */
/* Whose is it: ours, root's, or another user's? */
#ifndef EEPI_OWN_USER_H
#define EEPI_OWN_USER_H

#include <stdbool.h>
#include <sys/types.h>

/* In a user namespace that does not map all users, the kernel shows one number (overflowuid, 65534)
 * for each user that is not mapped. So that number proves nothing there, not even where it is our
 * own. This says whether `uid` is such a number. Leaves errno. */
bool eepi_user_is_anybody(uid_t uid);
/* What has this owner is our user's. */
bool eepi_user_is_own(uid_t uid);
/* It is our user's or root's. */
bool eepi_user_is_trusted(uid_t uid);
#endif
