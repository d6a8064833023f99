#!/usr/bin/sh
# Makes a database cluster and, of all the data that libicudata has, an empty one: 32 MB that nothing here asks for, and
# that a measurer of files would hash at each start. To be run as the user who is to own the cluster.

set -eu
cd /var/lib/postgresql
PATH=/usr/lib/postgresql/17/bin:$PATH
mkdir lib

# Like the real one it has a page of code, if little: the loader maps it, and it is measured.
as -o /tmp/icu.o << 'ASM'
.text
ret
.data
.globl icudt76_dat
.type icudt76_dat, @object
.size icudt76_dat, 64
icudt76_dat: .zero 64
.section .note.GNU-stack, "", @progbits
ASM
ld -shared -soname libicudata.so.76 -o lib/libicudata.so.76 /tmp/icu.o

# A cluster holds the time at which it was made, and random numbers: with these in the way the same packages make the
# same bytes. Nothing of what the numbers protect is used (nobody gives a password).
as -o /tmp/fixed.o << 'ASM'
.globl gettimeofday, time, RAND_bytes
gettimeofday:
  movq $1750000000, (%rdi)
  movq $0, 8(%rdi)
  xorl %eax, %eax
  ret
time:
  movl $1750000000, %eax
  testq %rdi, %rdi
  jz 1f
  movq %rax, (%rdi)
1: ret
RAND_bytes:
  movl %esi, %ecx
  movb $0x5a, %al
  rep stosb
  movl $1, %eax
  ret
.section .note.GNU-stack, "", @progbits
ASM
ld -shared -o /tmp/fixed.so /tmp/fixed.o
export LD_PRELOAD=/tmp/fixed.so

initdb -D data --locale-provider=libc --locale=C --encoding=UTF8 --wal-segsize=1 --username=postgres --auth=trust \
  --no-sync --no-instructions
postgres --single -D data -c autovacuum=off postgres < /opt/cluster.sql
# What was written ahead has bytes of uninitialized memory, and nobody needs it after a clean end.
pg_resetwal -D data
