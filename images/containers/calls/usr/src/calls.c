/*
 * The programs of the image `calls`, without a C library, so that a container
 * that runs them is hardly more than the system calls that it makes.
 *
 *   nothing   ends
 *   calls     makes system calls, each kind many times, and prints what each
 *             kind took: a line "KIND TIMES took MICROSECONDS us"
 *
 * What a kind took is CPU time of the container's cgroup. A child makes the
 * calls, and the first process reads the account before it forks the child and
 * after it has waited for it: the kernel adds a task's time to the account when
 * the task gives up the processor, so nothing is left out, whatever its clock's
 * ticks did. So a kind contains one fork, one exit and one wait.
 */
#include <asm/unistd.h>

#define STDOUT 1
#define AT_CWD (-100)
/* Values of x86-64: O_RDONLY, O_WRONLY | O_CREAT | O_EXCL, PROT_READ, MAP_SHARED. */
#define READ 0
#define CREATE (01 | 0100 | 0200)
#define PROT_READ 1
#define MAP_SHARED 1
#define MODE 0600
#define ACCOUNT "/sys/fs/cgroup/cpu.stat"
#define NOTHING "/calls/nothing"
#define SUBJECT "/calls/data"
#define MADE "/tmp/made"
#define SIZE (64 << 10)
/* As lmbench's lat_mmap: one page of sixteen KiB is touched. */
#define STEP (16 << 10)
#define UNCOUNTED 20

static long call(long number, long a, long b, long c, long d, long e, long f)
{
	register long fourth __asm__("r10") = d;
	register long fifth __asm__("r8") = e;
	register long sixth __asm__("r9") = f;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth), "r"(sixth)
			 : "rcx", "r11", "memory");
	return result;
}

#ifdef PROGRAM_nothing
static int work(void)
{
	return 0;
}
#endif

#ifdef PROGRAM_calls
/* Each returns 0 if its calls did what they had to. */

static int open_close(void)
{
	long fd = call(__NR_open, (long)SUBJECT, READ, 0, 0, 0, 0);

	return fd < 0 || call(__NR_close, fd, 0, 0, 0, 0, 0);
}

static int stat_one(void)
{
	static long room[64];

	return call(__NR_stat, (long)SUBJECT, (long)room, 0, 0, 0, 0) != 0;
}

static int create_unlink(void)
{
	long fd = call(__NR_open, (long)MADE, CREATE, MODE, 0, 0, 0);

	return fd < 0 || call(__NR_close, fd, 0, 0, 0, 0, 0) || call(__NR_unlink, (long)MADE, 0, 0, 0, 0, 0);
}

static int map_file(void)
{
	static long fd = -1;
	volatile const char *at;
	long where;

	if (fd < 0)
		fd = call(__NR_open, (long)SUBJECT, READ, 0, 0, 0, 0);
	where = call(__NR_mmap, 0, SIZE, PROT_READ, MAP_SHARED, fd, 0);
	if (where < 0 && where > -4096)
		return 1;
	at = (volatile const char *)where;
	for (int i = 0; i < SIZE; i += STEP)
		(void)at[i];
	return call(__NR_munmap, where, SIZE, 0, 0, 0, 0) != 0;
}

static int wait_for(long child)
{
	int status = -1;

	return child < 0 || call(__NR_wait4, child, (long)&status, 0, 0, 0, 0) != child || status;
}

static int fork_exit(void)
{
	long child = call(__NR_fork, 0, 0, 0, 0, 0, 0);

	if (!child)
		call(__NR_exit_group, 0, 0, 0, 0, 0, 0);
	return wait_for(child);
}

static int fork_execve(void)
{
	const char *argv[] = { NOTHING, 0 };
	long child = call(__NR_fork, 0, 0, 0, 0, 0, 0);

	if (!child) {
		call(__NR_execve, (long)NOTHING, (long)argv, 0, 0, 0, 0);
		call(__NR_exit_group, 127, 0, 0, 0, 0, 0);
	}
	return wait_for(child);
}

static const struct kind {
	const char *name;
	int times;
	int (*once)(void);
} kinds[] = {
	{ "open/close", 8000, open_close },
	{ "stat", 15000, stat_one },
	{ "create/unlink", 1500, create_unlink },
	{ "mmap", 2500, map_file },
	{ "fork", 500, fork_exit },
	{ "execve", 250, fork_execve },
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static char text[512];
static long used;

static void put(const char *words)
{
	while (*words)
		text[used++] = *words++;
}

static void put_number(unsigned long number)
{
	char digits[20];
	int n = 0;

	do
		digits[n++] = '0' + number % 10;
	while (number /= 10);
	while (n)
		text[used++] = digits[--n];
}

/* The first line of the account is "usage_usec N". */
static long account(void)
{
	static char read[64];
	long fd = call(__NR_open, (long)ACCOUNT, READ, 0, 0, 0, 0), usage = 0;
	long got = call(__NR_read, fd, (long)read, sizeof(read), 0, 0, 0);

	call(__NR_close, fd, 0, 0, 0, 0, 0);
	for (int i = sizeof("usage_usec"); i < got && read[i] >= '0' && read[i] <= '9'; i++)
		usage = 10 * usage + read[i] - '0';
	return usage;
}

static int in_child(const struct kind *kind, int times)
{
	long child = call(__NR_fork, 0, 0, 0, 0, 0, 0);

	if (!child) {
		int failed = 0;

		for (int i = 0; i < times && !failed; i++)
			failed = kind->once();
		call(__NR_exit_group, failed, 0, 0, 0, 0, 0);
	}
	return wait_for(child);
}

static int work(void)
{
	for (unsigned i = 0; i < KINDS; i++) {
		const struct kind *kind = &kinds[i];
		long begin, end;

		/* So that all files are known, and the kernel has the memory it needs. */
		if (in_child(kind, UNCOUNTED))
			return 1;
		begin = account();
		if (in_child(kind, kind->times))
			return 1;
		end = account();
		put(kind->name);
		put(" ");
		put_number(kind->times);
		put(" took ");
		put_number(end - begin);
		put(" us\n");
	}
	return call(__NR_write, STDOUT, (long)text, used, 0, 0, 0) != used;
}
#endif

/* No call came here, so the stack is aligned as none of these functions expects it. */
__attribute__((noreturn, force_align_arg_pointer)) void _start(void)
{
	call(__NR_exit_group, work(), 0, 0, 0, 0, 0);
	__builtin_unreachable();
}
