#include <stdio.h>

#include "calc.h"

int main(int argc, char **argv)
{
	int64_t result;
	int i;

	for (i = 1; i < argc; i++) {
		if (evaluate(argv[i], &result)) {
			fprintf(stderr, "%s: not a sum: %s\n", argv[0], argv[i]);
			return 1;
		}
		printf("%lld crc %08x\n", (long long)result, crc(&result, sizeof(result)));
	}
	return 0;
}
