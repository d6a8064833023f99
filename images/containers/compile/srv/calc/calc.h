/* A small calculator, which is only compiled: two units have a table each that the compiler must compute. */
#ifndef CALC_H
#define CALC_H

#include <stddef.h>
#include <stdint.h>

/* The section that is compared with what it must hold, whatever code the compiler made. */
#define TABLE __attribute__((section("tables"), used, aligned(8)))

extern const uint32_t crc_table[16];
extern const uint8_t classes[128];

uint32_t crc(const void *data, size_t size);
int evaluate(const char *text, int64_t *result);

#endif
