/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Counts what single events cost, in guest instructions.
 *
 *   bench make DIR    files of all sizes, each with bytes of its own
 *   bench run DIR     events of a process: run it in a container
 *   bench floor DIR   the kernel's SHA-256 over the same cached pages
 *   bench fill COUNT  so many new entries of the IMA log; prints nothing
 *   bench log LENGTH COUNT             single entries of a log of this length, of
 *                                      which COUNT are by `fill`
 *   bench new DIR LENGTH               code of new small files: in a container
 *   bench tree DIR FILES BYTES         a tree of so many files of so many bytes
 *   bench verity DIR FILES BYTES       the same, each with fs-verity enabled
 *   bench child EVENT SIZE PROGRAM...  CPU time of a program and its children
 *
 * Each line printed is "EVENT SIZE VALUE", at the end and not in between.
 *
 * Under icount the time stamp counter counts instructions of the whole machine;
 * it is used for events that never wait. An event that may wait for the TPM is
 * counted by the thread's own CPU time, which waiting is no part of. That clock
 * was seen to show too little right after a wait, for a reason that is not known;
 * not so after some ticks of work, so such an event begins after them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fsverity.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#define PARAMETERS "/sys/module/testbed_floor/parameters/"
#define REPEATS 15
#define NEW_FILES 9
#define NEW_BYTES 64
/* Entries in one write: a second or so, when emulated. */
#define FILL_STEP 2000
#define COPIES 5
#define STARTS 1000
#define MAPS 1000
#define MAX_LINES 8192
/* Two ticks and more: HZ is 250 on Debian's kernels. */
#define TICKS 10000000ull

static const size_t sizes[] = {
	64, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20,
};

#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

static struct {
	const char *event;
	size_t size;
	uint64_t value;
} lines[MAX_LINES];
static int used;

static void fail(const char *what)
{
	fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void note(const char *event, size_t size, uint64_t value)
{
	if (used == MAX_LINES)
		fail("too many lines");
	lines[used].event = event;
	lines[used].size = size;
	lines[used++].value = value;
}

static uint64_t thread_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static void let_clock_settle(void)
{
	uint64_t begun = __rdtsc();

	while (__rdtsc() - begun < TICKS)
		;
}

static void name_of(char *path, size_t room, const char *dir, size_t size, int copy)
{
	snprintf(path, room, "%s/%zu-%d", dir, size, copy);
}

/* ---- make ---- */

static void make_file(const char *dir, size_t size, int copy)
{
	uint64_t state = size * 2654435761u + copy + 1, *words = malloc(size);
	char path[4096];
	int fd;

	if (!words)
		fail(dir);
	for (size_t i = 0; i < size / sizeof(*words); i++) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		words[i] = state;
	}
	name_of(path, sizeof(path), dir, size, copy);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0755);
	if (fd < 0 || write(fd, words, size) != (ssize_t)size || close(fd))
		fail(path);
	free(words);
}

static void enable_verity(const char *dir, size_t bytes, int copy)
{
	struct fsverity_enable_arg arg = {
		.version = 1,
		.hash_algorithm = FS_VERITY_HASH_ALG_SHA256,
		.block_size = 4096,
	};
	char path[4096];
	int fd;

	name_of(path, sizeof(path), dir, bytes, copy);
	fd = open(path, O_RDONLY);
	if (fd < 0 || ioctl(fd, FS_IOC_ENABLE_VERITY, &arg))
		fail(path);
	close(fd);
}

/* A hundred files a directory. */
static void make_tree(const char *dir, int files, size_t bytes, int verity)
{
	char below[4096] = "";

	for (int i = 0; i < files; i++) {
		if (i % 100 == 0) {
			snprintf(below, sizeof(below), "%s/%d", dir, i / 100);
			if (mkdir(below, 0755))
				fail(below);
		}
		make_file(below, bytes, i);
		if (verity)
			enable_verity(below, bytes, i);
	}
}

static void make(const char *dir)
{
	for (size_t i = 0; i < SIZES; i++)
		for (int copy = 0; copy < COPIES; copy++)
			make_file(dir, sizes[i], copy);
}

/* ---- events ---- */

/* Open a file and have all of its pages in the page cache. */
static int open_cached(const char *dir, size_t size, int copy)
{
	static char buf[1 << 16];
	char path[4096];
	int fd;

	name_of(path, sizeof(path), dir, size, copy);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		fail(path);
	while (read(fd, buf, sizeof(buf)) > 0)
		;
	return fd;
}

static void map_code(int fd, size_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);

	if (at == MAP_FAILED || munmap(at, size))
		fail("mmap");
}

static void map_cold(const char *dir, size_t size, int copy)
{
	int fd = open_cached(dir, size, copy);
	uint64_t begun;

	let_clock_settle();
	begun = thread_ns();
	map_code(fd, size);
	note("map-cold", size, thread_ns() - begun);
	close(fd);
}

/* The file was mapped before, unchanged since: nothing waits here. */
static void map_hot(const char *dir, size_t size)
{
	int fd = open_cached(dir, size, 0);

	for (int i = 0; i < MAPS; i++) {
		uint64_t begun = __rdtsc();

		map_code(fd, size);
		note("map-hot", 0, __rdtsc() - begun);
	}
	close(fd);
}

static void start(const char *event, const char *program)
{
	uint64_t begun = __rdtsc();
	pid_t child = fork();
	int status;

	if (!child) {
		char *const argv[] = { (char *)program, NULL };

		execve(program, argv, NULL);
		_exit(127);
	}
	if (child < 0 || waitpid(child, &status, 0) != child || status)
		fail(program);
	note(event, 0, __rdtsc() - begun);
}

static void run(const char *dir)
{
	for (size_t i = 0; i < SIZES; i++)
		for (int copy = 0; copy < COPIES; copy++)
			map_cold(dir, sizes[i], copy);
	map_hot(dir, 4 << 10);
	start("first-start", "/true");
	for (int i = 0; i < STARTS; i++)
		start("start", "/true");
}

static int open_parameter(const char *name)
{
	char path[128];
	int control;

	snprintf(path, sizeof(path), PARAMETERS "%s", name);
	control = open(path, O_WRONLY);
	if (control < 0)
		fail(path);
	return control;
}

static void set_parameter(int control, unsigned long long value, const char *event, size_t size)
{
	char text[24];
	int len = snprintf(text, sizeof(text), "%llu", value);
	uint64_t begun;

	if (event)
		let_clock_settle();
	begun = thread_ns();
	if (write(control, text, len) != len)
		fail("testbed_floor");
	if (event)
		note(event, size, thread_ns() - begun);
}

static void floor_one(const char *dir, size_t size, int copy)
{
	int fd = open_cached(dir, size, copy), control = open_parameter("fd");

	set_parameter(control, fd, "floor", size);
	close(control);
	close(fd);
}

static void all_floors(const char *dir)
{
	for (size_t i = 0; i < SIZES; i++)
		for (int copy = 0; copy < COPIES; copy++)
			floor_one(dir, sizes[i], copy);
}

/* ---- the length of the log ---- */

static void fill(unsigned long long count)
{
	int control = open_parameter("log_add");

	for (; count; count -= count < FILL_STEP ? count : FILL_STEP)
		set_parameter(control, count < FILL_STEP ? count : FILL_STEP, NULL, 0);
	close(control);
}

/* A new entry, one that is there (from the oldest to the newest), and the write alone. */
static void log_events(size_t length, unsigned long long filled)
{
	int add = open_parameter("log_add"), again = open_parameter("log_again");

	for (int i = 0; i < REPEATS; i++) {
		set_parameter(add, 0, "write", length);
		set_parameter(add, 1, "entry", length);
		set_parameter(again, filled * i / REPEATS, "again", length);
	}
	close(add);
	close(again);
}

static void new_files(const char *dir, size_t length)
{
	for (int copy = 0; copy < NEW_FILES; copy++) {
		int fd = open_cached(dir, NEW_BYTES, copy);
		uint64_t begun;

		let_clock_settle();
		begun = thread_ns();
		map_code(fd, NEW_BYTES);
		note("new-file", length, thread_ns() - begun);
		close(fd);
	}
}

/* What the kernel adds up is exact, and in microseconds: for what takes many. */
static void time_child(const char *event, size_t size, char **argv)
{
	struct rusage used_up;
	pid_t child;
	int status;

	let_clock_settle();
	child = fork();
	if (!child) {
		execvp(argv[0], argv);
		_exit(127);
	}
	if (child < 0 || wait4(child, &status, 0, &used_up) != child || status)
		fail(argv[0]);
	note(event, size,
	     (used_up.ru_utime.tv_sec + used_up.ru_stime.tv_sec) * 1000000000ull +
	     (used_up.ru_utime.tv_usec + used_up.ru_stime.tv_usec) * 1000ull);
}

int main(int argc, char **argv)
{
	if (argc < 3) {
		fputs("usage: see the head of bench.c\n", stderr);
		return 2;
	}
	if ((!strcmp(argv[1], "tree") || !strcmp(argv[1], "verity")) && argc == 5)
		make_tree(argv[2], atoi(argv[3]), strtoull(argv[4], NULL, 0), argv[1][0] == 'v');
	else if (!strcmp(argv[1], "child") && argc > 4)
		time_child(argv[2], strtoull(argv[3], NULL, 0), argv + 4);
	else if (!strcmp(argv[1], "fill"))
		fill(strtoull(argv[2], NULL, 0));
	else if (!strcmp(argv[1], "log") && argc == 4)
		log_events(strtoull(argv[2], NULL, 0), strtoull(argv[3], NULL, 0));
	else if (!strcmp(argv[1], "new") && argc == 4)
		new_files(argv[2], strtoull(argv[3], NULL, 0));
	else if (!strcmp(argv[1], "make"))
		make(argv[2]);
	else if (!strcmp(argv[1], "run"))
		run(argv[2]);
	else if (!strcmp(argv[1], "floor"))
		all_floors(argv[2]);
	else
		return 2;
	for (int i = 0; i < used; i++)
		printf("%s %zu %llu\n", lines[i].event, lines[i].size,
		       (unsigned long long)lines[i].value);
	return 0;
}
