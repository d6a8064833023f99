/* SPDX-License-Identifier: GPL-2.0 */
/* Shared by the files of the loader. */
#ifndef TESTBED_LOADER_H
#define TESTBED_LOADER_H

#include <limits.h>

#include "measurer.h"

#define EXIT_LACKING 1
#define EXIT_USAGE 2

/* ---- measurer.c ---- */

/* Say what this machine lacks, and what to do. Return EXIT_LACKING. */
__attribute__((format(printf, 1, 2))) int lacking(const char *format, ...);

/* The path of what is pinned in @dir as KIND-NAME. */
int pin_path(char path[PATH_MAX], const char *dir, const char *kind, const char *name);

/* Open it. Complain and return a negative number if it is not there. */
int open_pin(const char *dir, const char *kind, const char *name);

int unpin_all(const char *dir);

/*
 * Times that the kernel skipped a program because it ran already on that processor.
 * `uncounted`: of programs that only count tasks, and measure nothing.
 */
struct skips {
	unsigned long long measuring;
	unsigned long long uncounted;
};

int sum_skipped(const char *dir, struct skips *skips);

/* ---- attach.c ---- */

int attach(enum testbed_mode mode, const char *dir, __u64 interval);

/* Run a pass over all tasks. Return 0 or a negative number. */
int run_pass(int link);

/* ---- beat.c ---- */

/* Run a program of the kind "syscall". Return what it returns, or a negative number. */
int run_program(int prog, void *argument, __u32 size);

int log_beat(int prog, struct testbed_beat_ask ask);
int ask_beat(const char *dir);

/* ---- claim.c ---- */

/* Run as an OCI hook. Return an exit status. */
int claim_config(const char *dir);

#endif
