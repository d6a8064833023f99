#include "calc.h"

enum kind { END, DIGIT, SIGN, OPEN, CLOSE, WRONG };

#define CLASS(c)                                                                                                       \
	((c) >= '0' && (c) <= '9'      ? DIGIT                                                                         \
	 : (c) == '+' || (c) == '-'    ? SIGN                                                                          \
	 : (c) == '('                  ? OPEN                                                                          \
	 : (c) == ')'                  ? CLOSE                                                                         \
	 : (c) == 0                    ? END                                                                           \
				       : WRONG)
#define FOUR(c) CLASS(c), CLASS((c) + 1), CLASS((c) + 2), CLASS((c) + 3)
#define SIXTEEN(c) FOUR(c), FOUR((c) + 4), FOUR((c) + 8), FOUR((c) + 12)

const uint8_t classes[128] TABLE = {
	SIXTEEN(0), SIXTEEN(16), SIXTEEN(32), SIXTEEN(48), SIXTEEN(64), SIXTEEN(80), SIXTEEN(96), SIXTEEN(112),
};

static int sum(const char **at, int64_t *result);

static enum kind kind(const char *at)
{
	return *at & 0x80 ? WRONG : classes[(unsigned char)*at];
}

static int atom(const char **at, int64_t *result)
{
	if (kind(*at) == OPEN) {
		++*at;
		return sum(at, result) || kind((*at)++) != CLOSE;
	}
	if (kind(*at) != DIGIT)
		return -1;
	for (*result = 0; kind(*at) == DIGIT; ++*at)
		*result = *result * 10 + (**at - '0');
	return 0;
}

static int sum(const char **at, int64_t *result)
{
	int64_t right;

	if (atom(at, result))
		return -1;
	while (kind(*at) == SIGN) {
		char sign = *(*at)++;

		if (atom(at, &right))
			return -1;
		*result += sign == '+' ? right : -right;
	}
	return 0;
}

int evaluate(const char *text, int64_t *result)
{
	return sum(&text, result) || kind(text) != END ? -1 : 0;
}
