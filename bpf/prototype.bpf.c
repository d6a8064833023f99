// SPDX-License-Identifier: GPL-2.0
/*
 * The public prototypes, rule for rule: what their programs hook, and their identity.
 * A container is a task in another UTS namespace than process 1. Nothing is cached.
 * Their logs tell neither contents nor containers apart: docs/semantics.md.
 *
 *   lsm.s/bprm_check_security  prototype-image: the image of the task that executes a program
 *   lsm.s/mmap_file            prototype-file: what is mapped with PROT_EXEC
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "compat.bpf.h"
#include "counters.bpf.h"
#include "measurer.h"

char LICENSE[] SEC("license") = "GPL";

extern int testbed_prototype_file(struct file *file, __u32 utsns) __ksym;
extern int testbed_prototype_image(__u32 utsns) __ksym;

/* Set by the loader before the programs are verified. */
const volatile __u32 mode = TESTBED_MODE_PROTOTYPE_FILE;
const volatile __u32 host_utsns = 0;

/* The number by which the prototypes know a container, 0 for the host. */
static __always_inline __u32 namespace_of(struct task_struct *task)
{
	__u32 ns = BPF_CORE_READ(task, nsproxy, uts_ns, ns.inum);

	return ns == host_utsns ? 0 : ns;
}

SEC("lsm.s/bprm_check_security")
int BPF_PROG(prototype_exec, struct linux_binprm *bprm)
{
	__u32 ns;

	if (mode != TESTBED_MODE_PROTOTYPE_IMAGE)
		return 0;
	ns = namespace_of(bpf_get_current_task_btf());
	if (ns)
		add(testbed_prototype_image(ns), 1);
	return 0;
}

SEC("lsm.s/mmap_file")
int BPF_PROG(prototype_mmap, struct file *file, unsigned long reqprot, unsigned long prot,
	     unsigned long flags)
{
	__u32 ns;

	if (mode != TESTBED_MODE_PROTOTYPE_FILE || !(prot & PROT_EXEC))
		return 0;
	ns = namespace_of(bpf_get_current_task_btf());
	if (ns && have_file(file))
		add(testbed_prototype_file(file, ns), 1);
	return 0;
}
