/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The program that bench.c forks and executes: as small as one can be, without
 * a C library, so that what the measurer adds is not lost in what it does.
 */
#include <asm/unistd.h>

__attribute__((noreturn)) void _start(void)
{
	__asm__ volatile("syscall" : : "a"(__NR_exit_group), "D"(0));
	__builtin_unreachable();
}
