/* SPDX-License-Identifier: GPL-2.0 */
/* What the BPF program writes and the loader reads. */
#ifndef EXECLOG_H
#define EXECLOG_H

#define EXECLOG_NAME 72 /* a runtime's id has 64 characters */
#define EXECLOG_PATH 256
#define EXECLOG_DIGEST 32 /* SHA-256 */

/* One program in one container. A key of the map: what is not used is zero. */
struct execlog_entry {
	char container[EXECLOG_NAME];
	char path[EXECLOG_PATH];
	unsigned char digest[EXECLOG_DIGEST];
};

#endif
