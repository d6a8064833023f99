/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Runs code in a container by every route that the measurer knows of.
 *
 *   soak EXECS WORKERS SEED
 *
 * In the container's root: /tiny (the program that is executed), /files (a
 * directory on the overlay), /volume (a tmpfs), /lib (files of the lower layer:
 * libraries, and a program for each worker). WORKERS processes share EXECS
 * executions; between them they map files. What happened is printed at the end, "KIND TIMES" a line; "new" is how
 * many contents were executed or mapped that no file had before. Exit status 1
 * and a message: something did not go as it must.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096
#define LARGE (1 << 20)
#define MAX_KINDS 40
#define MAX_LIBS 16
#define SHARED "/files/shared"

struct kind {
	const char *name;
	void (*run)(void);
	int execs; /* of 64 executions, so many are of this kind */
};

static uint8_t tiny[PAGE];
static size_t tiny_size;
static char libs[MAX_LIBS][PATH_MAX];
static int lib_count;

/* Shared by the workers. */
static struct counts {
	unsigned long times[MAX_KINDS], new, serial;
} *counts;

static unsigned int seed;
static char mine[64];

static void fail(const char *what)
{
	fprintf(stderr, "soak: %s: %s: %s\n", mine, what, strerror(errno));
	_exit(1);
}

static int must(int value, const char *what)
{
	if (value < 0)
		fail(what);
	return value;
}

static unsigned int below(unsigned int limit)
{
	return rand_r(&seed) % limit;
}

/* ---- files ---- */

/* A program that nobody has executed yet: its last bytes are a number of its own. */
static size_t fresh(uint8_t *content, size_t size)
{
	uint64_t serial = __atomic_add_fetch(&counts->serial, 1, __ATOMIC_RELAXED);

	memset(content, 0, size);
	memcpy(content, tiny, tiny_size);
	memcpy(content + size - 16, &serial, sizeof(serial));
	memcpy(content + size - 8, &seed, sizeof(seed));
	__atomic_add_fetch(&counts->new, 1, __ATOMIC_RELAXED);
	return size;
}

/* Nobody can tell whether, or when, the latest fresh content is measured. */
static void not_new(void)
{
	__atomic_sub_fetch(&counts->new, 1, __ATOMIC_RELAXED);
}

static void fill(int file, const void *content, size_t size)
{
	const uint8_t *at = content;

	while (size) {
		ssize_t done = write(file, at, size);

		must(done, "write");
		at += done;
		size -= done;
	}
}

static void put(const char *path, const void *content, size_t size)
{
	int file = must(open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755), path);

	fill(file, content, size);
	close(file);
}

static void put_fresh(const char *path)
{
	uint8_t content[2 * PAGE];

	put(path, content, fresh(content, tiny_size + 16 + below(PAGE)));
}

static const char *named(const char *directory, const char *name)
{
	static char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s-%s", directory, name, mine);
	return path;
}

/* ---- execution ---- */

static int status_of(pid_t child)
{
	int status;

	must(waitpid(child, &status, 0), "waitpid");
	return status;
}

static void run_at(int file, const char *path, int flags, int wanted)
{
	char *argv[] = { "it", NULL }, *none[] = { NULL };
	pid_t child = must(fork(), "fork");
	int status;

	if (!child) {
		syscall(SYS_execveat, file, path, argv, none, flags);
		_exit(errno);
	}
	status = status_of(child);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != wanted) {
		errno = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
		fail(path);
	}
}

static void run(const char *path)
{
	run_at(AT_FDCWD, path, 0, 0);
}

static void exec_new(void)
{
	const char *path = named("/files", "new");

	put_fresh(path);
	run(path);
	must(unlink(path), path);
}

/* The same inode and size, one byte of another value. */
static void exec_changed(void)
{
	const char *path = named("/files", "changed");
	uint8_t content[2 * PAGE];
	int file;

	fresh(content, sizeof(content));
	file = must(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0755), path);
	must(pwrite(file, content, sizeof(content), 0), path);
	close(file);
	run(path);
}

/* A file that is changed through a mapping, without a write(). */
static void exec_stored(void)
{
	const char *path = named("/files", "stored");
	uint8_t content[2 * PAGE];
	int file = must(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0755), path);
	void *memory;

	must(ftruncate(file, sizeof(content)), path);
	memory = mmap(NULL, sizeof(content), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (memory == MAP_FAILED)
		fail(path);
	fresh(content, sizeof(content));
	memcpy(memory, content, sizeof(content));
	munmap(memory, sizeof(content));
	close(file);
	run(path);
}

static void exec_known(void)
{
	run("/tiny");
}

/* From the lower layer, then from the upper one. */
static void exec_copied_up(void)
{
	const char *path = named("/lib", "lower");
	struct stat found;
	uint64_t serial = __atomic_add_fetch(&counts->serial, 1, __ATOMIC_RELAXED);
	int file;

	if (stat(path, &found)) {
		run("/tiny");
		return;
	}
	run(path);
	file = must(open(path, O_WRONLY | O_APPEND | O_CLOEXEC), path);
	fill(file, &serial, sizeof(serial));
	close(file);
	run(path);
	if (found.st_size > 64 * 1024)
		must(truncate(path, tiny_size), path);
}

static void exec_script(void)
{
	const char *path = named("/files", "script");
	char text[100];
	int size = snprintf(text, sizeof(text), "#!/tiny\n# %lu %u\n",
			    __atomic_add_fetch(&counts->serial, 1, __ATOMIC_RELAXED), seed);

	put(path, text, size);
	__atomic_add_fetch(&counts->new, 1, __ATOMIC_RELAXED);
	run(path);
	must(unlink(path), path);
}

/* A script whose interpreter is a script. */
static void exec_script_of_script(void)
{
	char inner[100], text[110];
	const char *outer = named("/files", "outer");
	int size;

	snprintf(inner, sizeof(inner), "/volume/inner-%s", mine);
	put(inner, "#!/tiny\n", 8);
	size = snprintf(text, sizeof(text), "#!%s\n", inner);
	put(outer, text, size);
	run(outer);
	must(unlink(outer), outer);
}

static void exec_unlinked(void)
{
	const char *path = named("/files", "unlinked");
	int file;

	put_fresh(path);
	file = must(open(path, O_RDONLY | O_CLOEXEC), path);
	must(unlink(path), path);
	run_at(file, "", AT_EMPTY_PATH, 0);
	close(file);
}

static void exec_memfd(void)
{
	uint8_t content[2 * PAGE];
	int file = must(memfd_create("soak", MFD_CLOEXEC), "memfd_create");

	fill(file, content, fresh(content, tiny_size + 16 + below(PAGE)));
	run_at(file, "", AT_EMPTY_PATH, 0);
	close(file);
}

static void exec_tmpfs(void)
{
	const char *path = named("/volume", "new");

	put_fresh(path);
	run(path);
	must(unlink(path), path);
}

/* A path of 1,500 bytes, named from its middle. */
static void exec_deep(void)
{
	char name[201];
	int levels = 7, here = must(open("/files", O_PATH | O_CLOEXEC), "/files");
	uint8_t content[2 * PAGE];
	size_t size = fresh(content, tiny_size + 16);
	int file;

	memset(name, 'd', 200);
	name[200] = 0;
	memcpy(name, mine, strlen(mine));
	while (levels--) {
		int next;

		if (mkdirat(here, name, 0755) && errno != EEXIST)
			fail("mkdirat");
		next = must(openat(here, name, O_PATH | O_CLOEXEC), "deep");
		close(here);
		here = next;
	}
	file = must(openat(here, "x", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755), "deep");
	fill(file, content, size);
	close(file);
	run_at(here, "x", 0, 0);
	must(unlinkat(here, "x", 0), "deep");
	close(here);
}

/* Refused by the kernel when it has been measured. */
static void exec_nonsense(void)
{
	const char *path = named("/files", "nonsense");

	put(path, "\1\2\3\4", 4);
	run_at(AT_FDCWD, path, 0, ENOEXEC);
}

static void exec_in_namespaces(void)
{
	const char *path = named("/files", "unshared");
	pid_t child;

	put_fresh(path);
	child = must(fork(), "fork");
	if (!child) {
		must(unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWUTS), "unshare");
		run(path);
		_exit(0);
	}
	if (status_of(child))
		fail("unshare");
}

/* Killed somewhere between fork and exit: while a large file is hashed, most often. */
static void exec_killed(void)
{
	const char *path = named("/files", "large");
	static uint8_t content[LARGE];
	pid_t child;

	put(path, content, fresh(content, sizeof(content)));
	not_new();
	child = must(fork(), "fork");
	if (!child) {
		execl(path, "it", NULL);
		_exit(1);
	}
	usleep(below(20000));
	kill(child, SIGKILL);
	status_of(child);
}

/*
 * All workers write, execute, map, cut and remove one file. What becomes of each
 * try is open; that the kernel lives is not.
 */
static void exec_raced(void)
{
	uint8_t content[2 * PAGE];
	size_t size = fresh(content, tiny_size + 16 + below(PAGE));
	int file = open(SHARED, O_RDWR | O_CREAT | O_CLOEXEC, 0755);
	pid_t child;

	not_new();
	if (file >= 0) {
		/* May be too short or refused: somebody executes it. */
		if (pwrite(file, content, size, 0) < 0 && errno != ETXTBSY)
			fail("pwrite");
		close(file);
	}
	child = must(fork(), "fork");
	if (!child) {
		execl(SHARED, "it", NULL);
		_exit(0);
	}
	if (below(4) == 0)
		unlink(SHARED);
	else if (below(4) == 0 && truncate(SHARED, below(PAGE)) && errno != ENOENT && errno != ETXTBSY)
		fail("truncate");
	status_of(child);
}

/* ---- mappings ---- */

static void map(int file, size_t size, int prot)
{
	void *memory = mmap(NULL, size, prot, MAP_PRIVATE, file, 0);

	if (memory == MAP_FAILED)
		fail("mmap");
	munmap(memory, size);
}

static void map_new(void)
{
	const char *path = named("/files", "mapped");
	int file;

	put_fresh(path);
	file = must(open(path, O_RDONLY | O_CLOEXEC), path);
	map(file, PAGE, PROT_READ | PROT_EXEC);
	close(file);
	must(unlink(path), path);
}

static void map_library(void)
{
	const char *path = libs[below(lib_count)];
	int file = must(open(path, O_RDONLY | O_CLOEXEC), path);

	map(file, PAGE, PROT_READ | PROT_EXEC);
	close(file);
}

/* Data first, code later. */
static void map_then_protect(void)
{
	const char *path = named("/files", "protected");
	void *memory;
	int file;

	put_fresh(path);
	not_new();
	file = must(open(path, O_RDONLY | O_CLOEXEC), path);
	memory = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, file, 0);
	if (memory == MAP_FAILED)
		fail("mmap");
	close(file);
	must(unlink(path), path);
	must(mprotect(memory, PAGE, PROT_READ | PROT_EXEC), "mprotect");
	munmap(memory, PAGE);
}

/* While somebody may write. */
static void map_written(void)
{
	const char *path = named("/volume", "written");
	void *memory;
	int file;

	put_fresh(path);
	file = must(open(path, O_RDWR | O_CLOEXEC), path);
	memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (memory == MAP_FAILED)
		fail("mmap");
	map(file, PAGE, PROT_READ | PROT_EXEC);
	munmap(memory, PAGE);
	close(file);
}

static void map_direct(void)
{
	const char *path = libs[below(lib_count)];
	int file = must(open(path, O_RDONLY | O_DIRECT | O_CLOEXEC), path);

	map(file, PAGE, PROT_READ | PROT_EXEC);
	close(file);
}

static void map_anonymous(void)
{
	void *memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		fail("mmap");
	munmap(memory, PAGE);
}

static void map_zero(void)
{
	int file = must(open("/dev/zero", O_RDWR | O_CLOEXEC), "/dev/zero");

	map(file, PAGE, PROT_READ | PROT_EXEC);
	close(file);
}

/* Whatever may be read may be executed. */
static void map_implied(void)
{
	pid_t child = must(fork(), "fork");

	if (!child) {
		must(personality(READ_IMPLIES_EXEC), "personality");
		map_library();
		_exit(0);
	}
	if (status_of(child))
		fail("personality");
}

static const struct kind kinds[] = {
	{ "exec-new", exec_new, 14 },
	{ "exec-changed", exec_changed, 6 },
	{ "exec-stored", exec_stored, 4 },
	{ "exec-known", exec_known, 6 },
	{ "exec-copied-up", exec_copied_up, 3 },
	{ "exec-script", exec_script, 6 },
	{ "exec-script-of-script", exec_script_of_script, 2 },
	{ "exec-unlinked", exec_unlinked, 5 },
	{ "exec-memfd", exec_memfd, 5 },
	{ "exec-tmpfs", exec_tmpfs, 3 },
	{ "exec-deep", exec_deep, 2 },
	{ "exec-nonsense", exec_nonsense, 1 },
	{ "exec-in-namespaces", exec_in_namespaces, 1 },
	{ "exec-killed", exec_killed, 1 },
	{ "exec-raced", exec_raced, 5 },
	{ "map-new", map_new, 0 },
	{ "map-library", map_library, 0 },
	{ "map-then-protect", map_then_protect, 0 },
	{ "map-written", map_written, 0 },
	{ "map-direct", map_direct, 0 },
	{ "map-anonymous", map_anonymous, 0 },
	{ "map-zero", map_zero, 0 },
	{ "map-implied", map_implied, 0 },
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))
_Static_assert(KINDS <= MAX_KINDS, "counts would overflow");

static void do_kind(size_t kind)
{
	kinds[kind].run();
	__atomic_add_fetch(&counts->times[kind], 1, __ATOMIC_RELAXED);
}

static void work(int number, int execs)
{
	uint8_t deck[64];
	size_t kind, size = 0;
	int done;

	snprintf(mine, sizeof(mine), "%d", number);
	seed = seed * 64 + number;
	for (kind = 0; kind < KINDS; kind++)
		for (done = 0; done < kinds[kind].execs; done++)
			deck[size++] = kind;
	for (done = 0; done < execs; done++) {
		size_t at = done % size;

		if (!at)
			for (kind = size - 1; kind; kind--) {
				size_t other = below(kind + 1);
				uint8_t kept = deck[kind];

				deck[kind] = deck[other];
				deck[other] = kept;
			}
		do_kind(deck[at]);
		if (done % 2)
			continue;
		do
			kind = below(KINDS);
		while (kinds[kind].execs);
		do_kind(kind);
	}
}

static void prepare(void)
{
	DIR *directory = opendir("/lib");
	struct dirent *found;
	int file = must(open("/tiny", O_RDONLY | O_CLOEXEC), "/tiny");
	ssize_t size = read(file, tiny, sizeof(tiny));

	if (size <= 0 || size == sizeof(tiny) || !directory)
		fail("/tiny, /lib");
	tiny_size = size;
	close(file);
	while (lib_count < MAX_LIBS && (found = readdir(directory)))
		if (strstr(found->d_name, ".so"))
			snprintf(libs[lib_count++], PATH_MAX, "/lib/%s", found->d_name);
	closedir(directory);
	if (!lib_count)
		fail("no library in /lib");
	counts = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (counts == MAP_FAILED)
		fail("mmap");
}

int main(int argc, char **argv)
{
	int execs, workers, number, failed = 0, status;
	size_t kind;

	if (argc != 4)
		fail("usage: soak EXECS WORKERS SEED");
	execs = atoi(argv[1]);
	workers = atoi(argv[2]);
	seed = strtoul(argv[3], NULL, 10);
	/* What ends by a signal here does so by design. */
	setrlimit(RLIMIT_CORE, &(struct rlimit){ 0 });
	prepare();
	for (number = 0; number < workers; number++) {
		pid_t child = must(fork(), "fork");

		if (!child) {
			work(number, execs / workers + (number < execs % workers));
			_exit(0);
		}
	}
	while (wait(&status) > 0)
		failed |= status;
	for (kind = 0; kind < KINDS; kind++)
		printf("%s %lu\n", kinds[kind].name, counts->times[kind]);
	printf("new %lu\n", counts->new);
	return failed != 0;
}
