/* SPDX-License-Identifier: GPL-2.0 */
/* All differences between kernels on the BPF side. */
#ifndef TESTBED_COMPAT_BPF_H
#define TESTBED_COMPAT_BPF_H

/* Constants are no types, so vmlinux.h does not have them. */
#define PROT_EXEC 0x4
#define VM_EXEC 0x4

/*
 * Is there a file? lsm.s/mmap_file gets NULL for every anonymous mapping, but
 * from 6.2 until December 2025 (6.12.117 included) the verifier takes the
 * argument for trusted, hence not NULL, and deletes a plain test; a kfunc that
 * then reads the pointer oopses. A probe read is beyond its reasoning. The plain
 * test stays for the verifiers that ask for it.
 */
static __always_inline bool have_file(struct file *file)
{
	struct inode *inode = NULL;

	if (!file)
		return false;
	if (bpf_probe_read_kernel(&inode, sizeof(inode), &file->f_inode))
		return false;
	return inode != NULL;
}

/* A mount namespace's number that is not used again in a boot. */
struct ns_common___with_id {
	__u64 ns_id;
} __attribute__((preserve_access_index));

struct mnt_namespace___with_seq {
	__u64 seq;
} __attribute__((preserve_access_index));

struct mnt_namespace___with_id {
	struct ns_common___with_id ns;
} __attribute__((preserve_access_index));

static __always_inline __u64 mntns_unique(struct mnt_namespace *ns)
{
	struct mnt_namespace___with_seq *with_seq = (void *)ns;
	struct mnt_namespace___with_id *with_id = (void *)ns;

	/* 6.1 to 6.17; later all namespaces have a number, in ns_common. */
	if (bpf_core_field_exists(with_seq->seq))
		return BPF_CORE_READ(with_seq, seq);
	if (bpf_core_field_exists(with_id->ns.ns_id))
		return BPF_CORE_READ(with_id, ns.ns_id);
	return 0;
}

#endif
