/* SPDX-License-Identifier: Apache-2.0 */
/* What of the files of a folder is in the kernel's page cache. */
#ifndef EEPX_PAGE_CACHE_H
#define EEPX_PAGE_CACHE_H

/* Ask the kernel to drop the pages of the folder's regular files, for which no right is needed but
 * to read them. What a process has mapped stays, and so does all of a file system that lives in
 * memory. 0, or -1 with errno. */
int page_cache_drop(const char *dir);
/* The share of their bytes that is in the page cache, 0 to 1; < 0: it cannot be told (errno). Linux
 * tells it of the caller's own files and of files that the caller may write. */
double page_cache_share(const char *dir);
#endif
