// SPDX-License-Identifier: GPL-2.0
/*
 * The OCI hook: tell the kernel of config.json before a container's first program
 * starts. A runtime gives a hook the container's state as JSON on its standard
 * input (OCI runtime specification, "State"); of it `pid` and `bundle` are read.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "loader.h"
#include "measurer.h"

#define STATE_MAX 65536

static const char *skip_space(const char *at)
{
	return at + strspn(at, " \t\r\n");
}

/* Skip a string that begins behind its quote. NULL: it does not end. */
static const char *skip_string(const char *at)
{
	for (; *at && *at != '"'; at++)
		if (*at == '\\' && at[1])
			at++;
	return *at ? at + 1 : NULL;
}

/* Copy a string that begins behind its quote. No path needs \n or \uXXXX: they are refused. */
static int copy_string(const char *at, char *to, size_t room)
{
	size_t length = 0;

	for (; *at != '"'; at++) {
		if (*at == '\\' && !strchr("\"\\/", *++at))
			return -EINVAL;
		if (!*at || length + 1 >= room)
			return -EINVAL;
		to[length++] = *at;
	}
	to[length] = '\0';
	return 0;
}

/* The value of @key in the object that @text is, not in one inside it; NULL if there is none. */
static const char *find_value(const char *text, const char *key)
{
	const char *at = text;
	int depth = 0;

	while (*at) {
		const char *name = at + 1;

		if (*at == '{' || *at == '[')
			depth++;
		else if (*at == '}' || *at == ']')
			depth--;
		if (*at++ != '"')
			continue;
		at = skip_string(name);
		if (!at)
			return NULL;
		if (depth == 1 && (size_t)(at - 1 - name) == strlen(key) &&
		    !strncmp(name, key, strlen(key)) && *skip_space(at) == ':')
			return skip_space(skip_space(at) + 1);
	}
	return NULL;
}

static int parse_state(const char *state, __u32 *pid, char bundle[PATH_MAX])
{
	const char *number = find_value(state, "pid"), *path = find_value(state, "bundle");
	unsigned long value;
	char *end;

	if (!number || !path || *path != '"' || copy_string(path + 1, bundle, PATH_MAX))
		return -EINVAL;
	value = strtoul(number, &end, 10);
	if (end == number || !value || value > INT_MAX)
		return -EINVAL;
	*pid = value;
	return 0;
}

static int hand_in(const char *dir, struct testbed_claim claim)
{
	int prog = open_pin(dir, "prog", "claim"), err;

	if (prog < 0)
		return EXIT_LACKING;
	err = run_program(prog, &claim, sizeof(claim));
	close(prog);
	return err ? lacking("the kernel took no claim about process %u: %s", claim.pid,
			     strerror(-err)) : 0;
}

int claim_config(const char *dir)
{
	char bundle[PATH_MAX], path[PATH_MAX + sizeof("/config.json")];
	static char state[STATE_MAX];
	struct testbed_claim claim = {};
	int err;

	state[fread(state, 1, sizeof(state) - 1, stdin)] = '\0';
	if (parse_state(state, &claim.pid, bundle))
		return lacking("standard input: want a container's state with `pid` and `bundle`, "
			       "as a runtime gives it to a hook");
	snprintf(path, sizeof(path), "%s/config.json", bundle);
	claim.fd = open(path, O_RDONLY | O_CLOEXEC);
	if (claim.fd < 0)
		return lacking("%s: %s", path, strerror(errno));
	err = hand_in(dir, claim);
	close(claim.fd);
	return err;
}
