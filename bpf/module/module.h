/* SPDX-License-Identifier: GPL-2.0 */
/* Shared by the files of the module. */
#ifndef TESTBED_MODULE_H
#define TESTBED_MODULE_H

#include <linux/types.h>

#include "measurer.h"

/* ---- main.c ---- */

/* Highest number of a container so far. */
u64 testbed_last_seq(void);

void testbed_fill_header(struct testbed_header *header, enum testbed_kind kind, u32 length,
			 u32 flags, const struct testbed_ident *ident);

/* Hand an entry to IMA. Return the counter of the outcome: @written if it is new. */
enum testbed_counter testbed_log_entry(const char *event, const void *entry, u32 length,
				       enum testbed_counter written);

/* ---- beat.c ---- */

/* kfuncs, which have no header elsewhere: they are listed in main.c. */
int testbed_beat(u32 event, u64 interval, u64 skipped);
void testbed_count_lost(u64 n);

/* No beat comes after this. */
void testbed_stop_beats(void);

#endif
