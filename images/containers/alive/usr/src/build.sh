# Make the programs of this image in /alive. Runs when the image is built.
set -eu
flags='-O2 -std=gnu11 -static -nostdlib -ffreestanding -fno-stack-protector -fno-asynchronous-unwind-tables'
flags="$flags -Wall -Wextra -Werror -Wl,--build-id=none -Wl,-z,noseparate-code -s"
for program in wait nothing again; do
	gcc $flags -DPROGRAM_$program -o /alive/$program /usr/src/alive.c
done
