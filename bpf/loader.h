/* SPDX-License-Identifier: GPL-2.0 */
/* Shared by the files of the loader. */
#ifndef TESTBED_LOADER_H
#define TESTBED_LOADER_H

#define EXIT_LACKING 1
#define EXIT_USAGE 2

/* Say what this machine lacks, and what to do. Return EXIT_LACKING. */
__attribute__((format(printf, 1, 2))) int lacking(const char *format, ...);

/* Open what is pinned in @dir as KIND-NAME. Complain and return a negative number if it is not. */
int open_pin(const char *dir, const char *kind, const char *name);

/* ---- claim.c ---- */

/* Run as an OCI hook. Return an exit status. */
int claim_config(const char *dir);

#endif
