/*
 * The first program of the image `sizes`, without a C library:
 *
 *   sizes NAME...     executes each /usr/bin/NAME twice and prints a line for
 *                     each: "NAME BYTES FIRST AGAIN", bytes of the file and CPU
 *                     time of the container's cgroup in microseconds
 *
 * Each program is started with LD_TRACE_LOADED_OBJECTS, so its dynamic linker
 * maps the program's libraries, lists them and ends: none of the program's own
 * code runs, whatever the program is for. What it prints goes to /dev/null.
 *
 * Before that, each file is read, so that no execution waits for the disk, and
 * each library is mapped as code once, so that a measurer knows it: the first
 * execution then costs what the program itself costs, not what it links to.
 *
 * A child makes the execution. The first process reads the account before it
 * forks the child and after it has waited for it: the kernel adds a task's time
 * to the account when the task gives up the processor.
 */
#include <asm/unistd.h>

#define STDOUT 1
#define READ 0
#define WRITE 1
#define CODE 5 /* PROT_READ | PROT_EXEC */
#define MAP_PRIVATE 2
#define REGULAR 8 /* DT_REG */
#define PROGRAMS "/usr/bin"
#define LIBRARIES "/usr/lib/x86_64-linux-gnu"
#define ACCOUNT "/sys/fs/cgroup/cpu.stat"

struct entry {
	unsigned long inode;
	long next;
	unsigned short length;
	unsigned char type;
	char name[];
};

static char path[512], listing[1 << 16], text[1 << 16], page[1 << 16];
static long used;

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

__attribute__((noreturn)) static void end(int status)
{
	call(__NR_exit_group, status, 0, 0, 0, 0, 0);
	__builtin_unreachable();
}

static void put(const char *words)
{
	while (*words && used < (long)sizeof(text))
		text[used++] = *words++;
}

static void put_number(unsigned long number)
{
	char digits[24];
	int n = sizeof(digits);

	digits[--n] = 0;
	do
		digits[--n] = '0' + number % 10;
	while (number /= 10);
	put(digits + n);
}

static const char *path_of(const char *directory, const char *name)
{
	long n = 0;

	while (*directory)
		path[n++] = *directory++;
	path[n++] = '/';
	while (*name && n < (long)sizeof(path) - 1)
		path[n++] = *name++;
	path[n] = 0;
	return path;
}

/* Read all of a file, map it as code if it is a library; return its bytes. */
static long known(const char *file, int library)
{
	long fd = call(__NR_open, (long)file, READ, 0, 0, 0, 0), bytes = 0, got;

	while ((got = call(__NR_read, fd, (long)page, sizeof(page), 0, 0, 0)) > 0)
		bytes += got;
	if (got)
		end(2);
	if (library) {
		long at = call(__NR_mmap, 0, bytes, CODE, MAP_PRIVATE, fd, 0);

		if ((at < 0 && at > -4096) || call(__NR_munmap, at, bytes, 0, 0, 0, 0))
			end(3);
	}
	call(__NR_close, fd, 0, 0, 0, 0, 0);
	return bytes;
}

/* Make the files of a directory known; return how many there are. */
static int all_of(const char *directory, int libraries)
{
	long fd = call(__NR_open, (long)directory, READ, 0, 0, 0, 0), got;
	int count = 0;

	while ((got = call(__NR_getdents64, fd, (long)listing, sizeof(listing), 0, 0, 0)) > 0)
		for (long at = 0; at < got;) {
			struct entry *entry = (struct entry *)(listing + at);

			if (entry->type == REGULAR) {
				known(path_of(directory, entry->name), libraries);
				count++;
			}
			at += entry->length;
		}
	if (got)
		end(4);
	call(__NR_close, fd, 0, 0, 0, 0, 0);
	return count;
}

/* The first line of the account is "usage_usec N". */
static long account(void)
{
	static long fd = -1;
	long usage = 0, got;

	if (fd < 0)
		fd = call(__NR_open, (long)ACCOUNT, READ, 0, 0, 0, 0);
	got = call(__NR_pread64, fd, (long)page, 64, 0, 0, 0);
	for (int i = sizeof("usage_usec"); i < got && page[i] >= '0' && page[i] <= '9'; i++)
		usage = 10 * usage + page[i] - '0';
	return usage;
}

static long execution(const char *program)
{
	const char *argv[] = { program, 0 }, *env[] = { "LD_TRACE_LOADED_OBJECTS=1", 0 };
	long begin = account(), child = call(__NR_fork, 0, 0, 0, 0, 0, 0);
	int status = -1;

	if (!child) {
		long nowhere = call(__NR_open, (long)"/dev/null", WRITE, 0, 0, 0, 0);

		call(__NR_dup2, nowhere, STDOUT, 0, 0, 0, 0);
		call(__NR_execve, (long)program, (long)argv, (long)env, 0, 0, 0);
		end(127);
	}
	if (child < 0 || call(__NR_wait4, child, (long)&status, 0, 0, 0, 0) != child || status)
		end(5);
	return account() - begin;
}

static int work(int count, char **names)
{
	all_of(LIBRARIES, 1);
	/* Each program of the image is executed, and none that is not in it. */
	if (all_of(PROGRAMS, 0) != count)
		return 6;
	for (int i = 0; i < count; i++) {
		const char *program = path_of(PROGRAMS, names[i]);
		long bytes = known(program, 0);

		put(names[i]);
		put(" ");
		put_number(bytes);
		put(" ");
		put_number(execution(program));
		put(" ");
		put_number(execution(program));
		put("\n");
	}
	return call(__NR_write, STDOUT, (long)text, used, 0, 0, 0) != used;
}

__attribute__((noreturn, used)) static void begin(long *stack)
{
	end(work(*stack - 1, (char **)stack + 2));
}

/* The kernel leaves the number of arguments, then the arguments, where the stack ends. */
__asm__(".globl _start\n_start:\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall begin\n");
