/* Folders for what programs leave behind. */
#ifndef EEPX_FOLDER_H
#define EEPX_FOLDER_H

/* mkdir with parents; an existing folder is fine. -1 with errno. */
int folder_make(const char *dir);
#endif
