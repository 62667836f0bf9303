/* SPDX-License-Identifier: Apache-2.0 */
/* The commit that a program was built of, for the rows that it writes. */
#ifndef EEPX_COMMIT_H
#define EEPX_COMMIT_H

/* Twelve digits, with a '+' behind them if files were changed; "unknown" if the build does not
 * say. */
const char *commit_text(void);
#endif
