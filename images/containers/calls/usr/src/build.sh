# Make the programs of this image, and the file that they open, in /calls. Runs when the image is built.
set -eu
flags='-O2 -std=gnu11 -static -nostdlib -ffreestanding -fno-stack-protector -fno-asynchronous-unwind-tables'
flags="$flags -Wall -Wextra -Werror -Wl,--build-id=none -Wl,-z,noseparate-code -s"
for program in nothing calls; do
	gcc $flags -DPROGRAM_$program -o /calls/$program /usr/src/calls.c
done
head -c 65536 /dev/zero >/calls/data
