#include "calc.h"

/* CRC-32 of IEEE 802.3, four bits at a time: what each of them adds to the sum. */
#define BIT(n, bit, sum) ((n) >> (bit) & 1 ? (sum) : 0u)
#define ENTRY(n) (BIT(n, 0, 0x1db71064u) ^ BIT(n, 1, 0x3b6e20c8u) ^ BIT(n, 2, 0x76dc4190u) ^ BIT(n, 3, 0xedb88320u))
#define FOUR(n) ENTRY(n), ENTRY((n) + 1), ENTRY((n) + 2), ENTRY((n) + 3)

const uint32_t crc_table[16] TABLE = { FOUR(0), FOUR(4), FOUR(8), FOUR(12) };

uint32_t crc(const void *data, size_t size)
{
	const uint8_t *at = data;
	uint32_t sum = ~0u;

	for (; size--; at++) {
		sum = crc_table[(sum ^ *at) & 0xf] ^ sum >> 4;
		sum = crc_table[(sum ^ *at >> 4) & 0xf] ^ sum >> 4;
	}
	return ~sum;
}
