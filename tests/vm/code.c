// SPDX-License-Identifier: GPL-2.0
/*
 * The ways by which a container gets code, or changes it, one a command. Built
 * statically by test_code.py, and run in a container whose image knows nothing of it.
 * Exit status: 0 done, 1 it could not be done (the errno is said).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096

static long must(long result, const char *what)
{
	if (result == -1) {
		perror(what);
		exit(1);
	}
	return result;
}

static int opened(const char *path, int flags)
{
	return must(open(path, flags), path);
}

static void *mapped(int fd, int prot, int flags)
{
	void *at = mmap(NULL, PAGE, prot, flags, fd, 0);

	must((long)at, "mmap");
	return at;
}

/* Executable by mprotect only, and twice: the second time nothing is new. */
static void late(const char *path)
{
	int fd = opened(path, O_RDONLY);
	void *at = mapped(fd, PROT_READ, MAP_PRIVATE);

	must(mprotect(at, PAGE, PROT_READ | PROT_EXEC), "mprotect");
	must(mprotect(at, PAGE, PROT_READ), "mprotect");
	must(mprotect(at, PAGE, PROT_READ | PROT_EXEC), "mprotect");
}

/* Many mappings become executable in one call. */
static void many(const char *path, int n)
{
	int fd = opened(path, O_RDONLY);
	char *at = mmap(NULL, (size_t)n * 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	must((long)at, "mmap");
	for (int i = 0; i < 2 * n; i++)
		must((long)mmap(at + (size_t)i * PAGE, PAGE, PROT_READ,
				(i % 2 ? MAP_SHARED : MAP_PRIVATE) | MAP_FIXED, fd, 0), "mmap");
	must(mprotect(at, (size_t)n * 2 * PAGE, PROT_READ | PROT_EXEC), "mprotect");
}

/* The kernel measures first and refuses the module then. */
static void module(const char *path)
{
	syscall(SYS_finit_module, opened(path, O_RDONLY), "", 0);
	if (errno == EPERM || errno == ENOSYS)
		must(-1, "finit_module");
}

static void module_from_memory(void)
{
	static const char nothing[PAGE];

	syscall(SYS_init_module, nothing, sizeof(nothing), "");
	if (errno == EPERM || errno == ENOSYS)
		must(-1, "init_module");
}

/* Executable while somebody, here the same task, has it open for writing. */
static void written(const char *path)
{
	int writer = opened(path, O_WRONLY);

	mapped(opened(path, O_RDONLY), PROT_READ | PROT_EXEC, MAP_PRIVATE);
	close(writer);
}

/* Executable while a writable mapping is all that is left of the writer. */
static void shared(const char *path)
{
	int writer = opened(path, O_RDWR);

	mapped(writer, PROT_READ | PROT_WRITE, MAP_SHARED);
	close(writer);
	mapped(opened(path, O_RDONLY), PROT_READ | PROT_EXEC, MAP_PRIVATE);
}

/* Code in use, then opened for writing; nothing is written. */
static void used(const char *path)
{
	int fd = opened(path, O_RDONLY);

	mapped(fd, PROT_READ | PROT_EXEC, MAP_PRIVATE);
	close(fd);
	close(opened(path, O_WRONLY));
}

/* Code in use, then truncated by its name, to the size that it has. */
static void cut(const char *path)
{
	int fd = opened(path, O_RDONLY);
	struct stat st;

	mapped(fd, PROT_READ | PROT_EXEC, MAP_PRIVATE);
	must(fstat(fd, &st), "fstat");
	close(fd);
	must(truncate(path, st.st_size), "truncate");
}

/* Code in use until the file @flag, which is made as soon as it is, is gone. */
static void hold(const char *path, const char *flag)
{
	int fd = opened(path, O_RDONLY);

	mapped(fd, PROT_READ | PROT_EXEC, MAP_PRIVATE);
	close(fd);
	close(must(open(flag, O_CREAT | O_WRONLY, 0600), flag));
	while (access(flag, F_OK) == 0)
		usleep(10000);
}

static void copy_self(int to)
{
	int from = opened("/proc/self/exe", O_RDONLY);
	char buf[PAGE];
	ssize_t got;

	while ((got = must(read(from, buf, sizeof(buf)), "read")))
		must(write(to, buf, got), "write");
	close(from);
}

static void run(int fd)
{
	char *const argv[] = { "true", NULL }, *const envp[] = { NULL };

	must(fexecve(fd, argv, envp), "fexecve");
}

static void memfd(const char *name)
{
	int fd = must(memfd_create(name, 0), "memfd_create");

	copy_self(fd);
	run(fd);
}

static void sealed(const char *name)
{
	int fd = must(memfd_create(name, MFD_ALLOW_SEALING), "memfd_create");

	copy_self(fd);
	must(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW), "F_ADD_SEALS");
	run(fd);
}

static void unlinked(const char *path)
{
	int fd = must(open(path, O_CREAT | O_WRONLY, 0700), path);

	copy_self(fd);
	close(fd);
	fd = opened(path, O_RDONLY);
	must(unlink(path), path);
	run(fd);
}

/* The kernel adds PROT_EXEC itself, in mmap and in mprotect. */
static void implied(const char *path, const char *other)
{
	must(personality(READ_IMPLIES_EXEC), "personality");
	mapped(opened(path, O_RDONLY), PROT_READ, MAP_PRIVATE);
	must(mprotect(mapped(opened(other, O_RDONLY), PROT_NONE, MAP_PRIVATE), PAGE, PROT_READ),
	     "mprotect");
}

int main(int argc, char **argv)
{
	const char *command = argc > 1 ? argv[1] : "true", *path = argc > 2 ? argv[2] : "";

	if (!strcmp(command, "late"))
		late(path);
	else if (!strcmp(command, "many") && argc > 3)
		many(path, atoi(argv[3]));
	else if (!strcmp(command, "module"))
		module(path);
	else if (!strcmp(command, "module-from-memory"))
		module_from_memory();
	else if (!strcmp(command, "written"))
		written(path);
	else if (!strcmp(command, "shared"))
		shared(path);
	else if (!strcmp(command, "used"))
		used(path);
	else if (!strcmp(command, "cut"))
		cut(path);
	else if (!strcmp(command, "hold") && argc > 3)
		hold(path, argv[3]);
	else if (!strcmp(command, "memfd"))
		memfd(path);
	else if (!strcmp(command, "sealed"))
		sealed(path);
	else if (!strcmp(command, "unlinked"))
		unlinked(path);
	else if (!strcmp(command, "implied") && argc > 3)
		implied(path, argv[3]);
	else if (strcmp(command, "true"))
		return 1;
	return 0;
}
