# Make the program that executes all others. Runs when the image is built.
set -eu
flags='-O2 -std=gnu11 -static -nostdlib -ffreestanding -fno-stack-protector -fno-asynchronous-unwind-tables'
flags="$flags -Wall -Wextra -Werror -Wl,--build-id=none -Wl,-z,noseparate-code -s"
gcc $flags -o /sizes/sizes /usr/src/sizes.c
