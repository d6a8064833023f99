// SPDX-License-Identifier: GPL-2.0
/*
 * Logs what containers execute, by execve alone: of each script, interpreter and
 * program the name of the container's cgroup, the path and the SHA-256. Libraries
 * are mapped, not executed: it does not see them.
 *
 *   lsm.s/bprm_check_security  called for a script, then again for its interpreter
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "execlog.h"

#define HASH_ALGO_SHA256 4 /* include/uapi/linux/hash_info.h */

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct execlog_entry);
	__type(value, __u32); /* how often */
} entries SEC(".maps");

/* Executions that are not in the map: it was full, or IMA could not hash the file. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

static int lose(void)
{
	__u32 zero = 0;
	__u64 *count = bpf_map_lookup_elem(&lost, &zero);

	if (count)
		__sync_fetch_and_add(count, 1);
	return 0;
}

SEC("lsm.s/bprm_check_security")
int BPF_PROG(execlog, struct linux_binprm *bprm)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct execlog_entry entry = {};
	__u32 times = 1, *known;
	long length;

	/* The host's own programs are in the first PID namespace. */
	if (!BPF_CORE_READ(task, nsproxy, pid_ns_for_children, level))
		return 0;
	if (bpf_ima_file_hash(bprm->file, entry.digest, EXECLOG_DIGEST) != HASH_ALGO_SHA256)
		return lose();
	length = bpf_d_path(&bprm->file->f_path, entry.path, EXECLOG_PATH);
	if (length < 0)
		return lose();
	/* bpf_d_path() leaves bytes of its own behind the path. */
	for (int i = 0; i < EXECLOG_PATH; i++)
		if (i >= length)
			entry.path[i] = 0;
	bpf_probe_read_kernel_str(entry.container, EXECLOG_NAME,
				  BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, name));
	known = bpf_map_lookup_elem(&entries, &entry);
	if (known)
		__sync_fetch_and_add(known, 1);
	else if (bpf_map_update_elem(&entries, &entry, &times, BPF_ANY))
		return lose();
	return 0;
}
