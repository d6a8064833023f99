/*
 * The programs of the image `alive`, without a C library, so that a container
 * that runs one of them is hardly more than its own start.
 *
 *   wait      waits until it is killed
 *   nothing   ends
 *   again     starts `nothing` TIMES times, one after the other
 */
#include <asm/unistd.h>

#define TIMES 20
#define STDOUT 1

static long call(long number, long a, long b, long c, long d)
{
	register long fourth __asm__("r10") = d;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth)
			 : "rcx", "r11", "memory");
	return result;
}

#ifdef PROGRAM_wait
static int work(void)
{
	/* It returns after a signal only, and then with an error. */
	while (call(__NR_pause, 0, 0, 0, 0) < 0)
		;
	return 1;
}
#endif

#ifdef PROGRAM_nothing
static int work(void)
{
	return 0;
}
#endif

#ifdef PROGRAM_again
static int start_one(void)
{
	static const char path[] = "/alive/nothing";
	const char *argv[] = { path, 0 };
	long child = call(__NR_fork, 0, 0, 0, 0);
	int status = -1;

	if (!child) {
		call(__NR_execve, (long)path, (long)argv, 0, 0);
		call(__NR_exit_group, 127, 0, 0, 0);
	}
	if (child < 0 || call(__NR_wait4, child, (long)&status, 0, 0) != child)
		return 1;
	return status != 0;
}

static int work(void)
{
	static const char done[] = "done\n";

	for (int i = 0; i < TIMES; i++)
		if (start_one())
			return 1;
	return call(__NR_write, STDOUT, (long)done, sizeof(done) - 1, 0) != sizeof(done) - 1;
}
#endif

/* No call came here, so the stack is aligned as none of these functions expects it. */
__attribute__((noreturn, force_align_arg_pointer)) void _start(void)
{
	call(__NR_exit_group, work(), 0, 0, 0);
	__builtin_unreachable();
}
