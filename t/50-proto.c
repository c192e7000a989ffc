/* 50-proto.c - unit tests of proto.h; prints TAP
 *
 * Every parser is given good lines, bad lines and the ones on the border.
 * Buffers that a parser writes to lie between two rows of canaries.
 */
#define _POSIX_C_SOURCE 200809L
#include <sys/types.h>
#include <sys/wait.h>

#include <limits.h>
#include <stdarg.h>
#include <time.h>
#include <unistd.h>

#include "../proto.h"

#define LEN(a) (sizeof (a) / sizeof *(a))
#define S43 "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"

static int count, failed;
static uint32_t seed = 2463534242u;

static void
ok(int good, const char *fmt, ...)
{
	va_list ap;

	printf("%sok %d - ", good ? "" : "not ", ++count);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	failed += !good;
}

static void
is(const char *got, const char *want, const char *what)
{
	int good = got && want ? !strcmp(got, want) : got == want;

	ok(good, "%s", what);
	if (!good)
		printf("#  got: %s\n# want: %s\n", got ? got : "(null)",
		    want ? want : "(null)");
}

static void
is_num(long got, long want, const char *what)
{
	ok(got == want, "%s", what);
	if (got != want)
		printf("#  got: %ld\n# want: %ld\n", got, want);
}

static uint32_t
rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 17;
	return seed ^= seed << 5;
}

/* n times c, in one of four buffers */
static const char *
rep(char c, size_t n)
{
	static char buf[4][1024];
	static int i;
	char *s = buf[i++ & 3];

	memset(s, c, n);
	s[n] = '\0';
	return s;
}

/* a, then b: in one of four buffers */
static const char *
cat(const char *a, const char *b)
{
	static char buf[4][2048];
	static int i;
	char *s = buf[i++ & 3];

	memmove(s, a, strlen(a) + 1);	/* may be one of the others */
	memmove(s + strlen(s), b, strlen(b) + 1);
	return s;
}

/* ---- lines ---- */

static void
test_line_take(void)
{
	static const struct {
		const char *in;
		int n, got;
		const char *line;
	} t[] = {
		{ "", 0, 0, NULL },
		{ "\n", 1, 1, "" },
		{ "\r\n", 2, 2, "" },
		{ "a\n", 2, 2, "a" },
		{ "a\r\n", 3, 3, "a" },
		{ "a b~\nSSH-2.0", 12, 5, "a b~" },
		{ "a\n\xff\xfe", 4, 2, "a" },
		{ "a\n\0\0", 4, 2, "a" },
		{ "a", 1, 0, NULL },
		{ "a\r", 2, 0, NULL },
		{ "\r", 1, 0, NULL },
		{ "a\rb\n", 4, -1, NULL },
		{ "a\r\r\n", 4, -1, NULL },
		{ "\r\r", 2, -1, NULL },
		{ "\t\n", 2, -1, NULL },
		{ "\x7f\n", 2, -1, NULL },
		{ "a\x80\n", 3, -1, NULL },
		{ "\xff", 1, -1, NULL },
		{ "ab\0c\n", 5, -1, NULL },
		{ "\x1b[2J\n", 5, -1, NULL },
		{ "\x16\x03\x01", 3, -1, NULL },
	};
	char line[LINE_LEN], esc[64], buf[LINE_LEN + 8];
	size_t i;
	int got;

	for (i = 0; i < LEN(t); i++) {
		memset(line, 'Z', sizeof line);
		got = line_take(t[i].in, t[i].n, line);
		escape(esc, sizeof esc, t[i].in, t[i].n);
		ok(got == t[i].got && (got <= 0 || !strcmp(line, t[i].line)),
		    "line_take \"%s\": %d", esc, t[i].got);
	}
	memset(buf, 'x', sizeof buf);
	is_num(line_take(buf, LINE_LEN - 1, line), 0,
	    "line_take: 511 bytes without an end wait for more");
	is_num(line_take(buf, LINE_LEN, line), -1,
	    "line_take: 512 bytes without an end are malformed");
	is_num(line_take(buf, sizeof buf, line), -1,
	    "line_take: and so are more of them");
	buf[LINE_LEN - 1] = '\n';
	got = line_take(buf, LINE_LEN, line);
	ok(got == LINE_LEN && strlen(line) == LINE_LEN - 1,
	    "line_take: 512 bytes with their LF are the longest line");
	buf[LINE_LEN - 2] = '\r';
	got = line_take(buf, LINE_LEN, line);
	ok(got == LINE_LEN && strlen(line) == LINE_LEN - 2,
	    "line_take: 512 bytes with CR and LF as well");
	memset(buf, 'x', sizeof buf);
	buf[LINE_LEN] = '\n';
	is_num(line_take(buf, LINE_LEN + 1, line), -1,
	    "line_take: 513 bytes with their LF are one too many");
}

/* A reader that gets the bytes piecemeal ends where one that gets them at
 * once does: every prefix asks for more until the whole is decided. */
static void
test_line_split(void)
{
	static const char alpha[] = "ab =\r\n~ \x01\xff";
	char buf[LINE_LEN + 64], one[LINE_LEN], two[LINE_LEN];
	size_t n, i, k;
	int whole, part = 0, bad = 0, round;

	for (round = 0; round < 4000; round++) {
		n = rnd() % (round % 8 ? 24 : sizeof buf);
		for (i = 0; i < n; i++)
			buf[i] = round % 8 ? alpha[rnd() % 10] : 'a';
		if (n && rnd() % 2)
			buf[rnd() % n] = '\n';
		whole = line_take(buf, n, one);
		for (k = 0; k <= n; k++)
			if ((part = line_take(buf, k, two)))
				break;
		if (part != whole || (whole > 0 && (strcmp(one, two) ||
		    k != (size_t)whole)))
			bad++;
	}
	is_num(bad, 0, "line_take: split anywhere equals whole (4000 lines)");
}

static void
test_words(void)
{
	char w[8], g[16];
	const char *s = "  one  two three456 x ";
	const char *l = "x run= run=2 running=3 slot=17 =5 wait";

	is_num(word_next(&s, w, sizeof w), 3, "word_next: its length");
	is(w, "one", "word_next: the word");
	is_num(word_next(&s, w, sizeof w), 3, "word_next: the next");
	is(w, "two", "word_next: and it is two");
	is_num(word_next(&s, w, sizeof w), -1,
	    "word_next: 8 characters do not fit in 8 bytes");
	is_num(word_next(&s, w, sizeof w), 1, "word_next: goes on behind it");
	is(w, "x", "word_next: and finds x");
	is_num(word_next(&s, w, sizeof w), 0, "word_next: 0 at the end");
	is_num(word_next(&s, w, sizeof w), 0, "word_next: 0 again");
	is(w, "", "word_next: and an empty word");
	s = "1234567";
	is_num(word_next(&s, w, sizeof w), 7,
	    "word_next: 7 characters fit in 8 bytes");

	is_num(word_get(l, "run", g, sizeof g), 0, "word_get: the first counts");
	is(g, "", "word_get: an empty value is one");
	is_num(word_get(l, "running", g, sizeof g), 1, "word_get: running");
	is(g, "3", "word_get: is another name than run");
	is_num(word_get(l, "slot", g, sizeof g), 2, "word_get: slot");
	is(g, "17", "word_get: slot's value");
	is_num(word_get(l, "wait", g, sizeof g), -1,
	    "word_get: a word without = is no value");
	is_num(word_get(l, "lot", g, sizeof g), -1,
	    "word_get: a name's tail is not the name");
	is_num(word_get(l, "sl", g, sizeof g), -1,
	    "word_get: nor is its beginning");
	is_num(word_get("", "run", g, sizeof g), -1, "word_get: an empty line");
	is_num(word_get("   ", "run", g, sizeof g), -1, "word_get: blanks");
	is_num(word_get("a=b=c", "a", g, sizeof g), 3,
	    "word_get: = may stand in a value");
	is(g, "b=c", "word_get: a value with =");
	is_num(word_get("a=123456789012345", "a", g, sizeof g), 15,
	    "word_get: 15 characters fit in 16 bytes");
	is_num(word_get("a=1234567890123456", "a", g, sizeof g), -1,
	    "word_get: 16 do not");
}

static void
test_numbers(void)
{
	static const char *const good[] = { "0", "5", "63", "0063" };
	static const char *const bad[] = { "", "64", "-1", "+1", " 1", "1 ",
	    "0x1", "1a", "99999999999999999999", "18446744073709551616" };
	char big[32], what[96];
	uint64_t h;
	long v;
	size_t i;

	for (i = 0; i < LEN(good); i++)
		ok(!num_parse(good[i], 0, 63, &v) && v == atol(good[i]),
		    "num_parse \"%s\"", good[i]);
	for (i = 0; i < LEN(bad); i++) {
		v = 77;
		ok(num_parse(bad[i], 0, 63, &v) == -1 && v == 77,
		    "num_parse \"%s\" is refused, nothing written", bad[i]);
	}
	ok(num_parse("4", 5, 9, &v) == -1, "num_parse: below the lower end");
	snprintf(big, sizeof big, "%ld", (long)INT_MAX);
	ok(!num_parse(big, 0, INT_MAX, &v) && v == INT_MAX,
	    "num_parse: the upper end itself");

	ok(!hex_parse("0", &h) && !h, "hex_parse 0");
	ok(!hex_parse("fFaA09", &h) && h == 0xffaa09, "hex_parse fFaA09");
	ok(!hex_parse("ffffffffffffffff", &h) && h == UINT64_MAX,
	    "hex_parse: 16 digits");
	ok(!hex_parse("0000000000000001", &h) && h == 1,
	    "hex_parse: 16 digits, zeros in front");
	ok(hex_parse("00000000000000001", &h) == -1, "hex_parse: 17 are many");
	ok(hex_parse("", &h) == -1, "hex_parse: none are few");
	for (i = 0, v = 0; i < 256; i++) {
		char s[3] = { 'a', 0, 0 };

		s[1] = (char)i;
		if (i && !strchr("0123456789abcdefABCDEF", (int)i))
			v += hex_parse(s, &h) == 0;
	}
	snprintf(what, sizeof what, "hex_parse: no other byte is a digit");
	is_num(v, 0, what);
}

/* ---- node ids ---- */

static void
test_node_parse(void)
{
	static const struct {
		const char *in, *out;
	} t[] = {
		{ "prod-db-1", "prod-db-1" },
		{ "a", "a" },
		{ "7", "7" },
		{ "10.0.0.5", "10.0.0.5" },
		{ "PROD-DB.eu_1", "prod-db.eu_1" },
		{ "a-", "a-" },
		{ "mssh", "mssh" },
		{ "xmssh", "xmssh" },
		{ "", NULL },
		{ ".a", NULL },
		{ "-a", NULL },
		{ "-oProxyCommand=x", NULL },
		{ "_a", NULL },
		{ "a b", NULL },
		{ "a/b", NULL },
		{ "a\nb", NULL },
		{ "a;id", NULL },
		{ "a%h", NULL },
		{ "a$b", NULL },
		{ "a'b", NULL },
		{ "a\"b", NULL },
		{ "a@b", NULL },
		{ "a:1", NULL },
		{ "b\xc3\xbc", NULL },
		{ "a\x7f", NULL },
		{ ".mssh", NULL },
	};
	char out[NODE_LEN + 1];
	const char *why, *s;
	size_t i;
	int d;

	for (d = 0; d < 2; d++)
		for (i = 0; i < LEN(t); i++) {
			why = node_parse(t[i].in, out, d);
			ok(t[i].out ? !why && !strcmp(out, t[i].out) :
			    why && *why, "node_parse %zu%s: %s", i,
			    d ? " drop" : "", t[i].out ? t[i].out : why);
		}
	ok(!node_parse(s = rep('a', 64), out, 0) && !strcmp(s, out),
	    "node_parse: 64 characters");
	for (i = 65; i < 80; i++)
		if (!node_parse(rep('a', i), out, 0) ||
		    !node_parse(rep('a', i), out, 1))
			break;
	is_num((long)i, 80, "node_parse: 65 to 79 characters are too many");
	ok(!!node_parse(rep('a', 1000), out, 1), "node_parse: 1000 as well");
	ok(!!node_parse("web.mssh", out, 0), "node_parse: .mssh is reserved");
	ok(!!node_parse("web.MSSH", out, 0), "node_parse: .MSSH as well");
	ok(!node_parse("web.mssh", out, 1) && !strcmp(out, "web"),
	    "node_parse drops .mssh");
	ok(!node_parse("Web.MsSh", out, 1) && !strcmp(out, "web"),
	    "node_parse drops .MsSh");
	ok(!node_parse(cat(rep('a', 64), ".mssh"), out, 1) &&
	    strlen(out) == 64, "node_parse: 64 characters and .mssh");
	ok(!!node_parse(cat(rep('a', 65), ".mssh"), out, 1),
	    "node_parse: 65 characters and .mssh are too many");
	ok(node_parse("web.mssh.mssh", out, 1) || !node_parse(out, out, 0),
	    "node_parse: .mssh twice is refused, or gives a valid id");
}

static void
test_node_suggest(void)
{
	static const struct {
		const char *in, *out;
	} t[] = {
		{ "prod-db-1", "prod-db-1" },
		{ "Bob's Laptop", "bob-s-laptop" },
		{ "", "node-1" },
		{ "---", "node-1" },
		{ "\xff\xfe", "node-1" },
		{ ".mssh", "mssh" },
		{ "web.mssh", "web" },
		{ "  x  ", "x" },
		{ "host.local.", "host.local" },
	};
	static const char alpha[] = "aZ9._-. @/\x80mssh";
	char out[NODE_LEN + 1], ref[NODE_LEN + 1], in[100], esc[128];
	const char *why;
	size_t i, n;
	int bad = 0, round, k;

	for (i = 0; i < LEN(t); i++) {
		node_suggest(t[i].in, out);
		is(out, t[i].out, "node_suggest");
	}
	node_suggest(rep('q', 1000), out);
	is_num((long)strlen(out), 64, "node_suggest: at most 64 characters");
	node_suggest(cat(rep('a', 59), ".mssh.x"), out);
	ok(!node_parse(out, ref, 0),
	    "node_suggest: cut so that it would end in .mssh");
	node_suggest("a.mssh.mssh", out);
	ok(!node_parse(out, ref, 0), "node_suggest: .mssh twice");
	for (round = 0; round < 100000; round++) {
		n = rnd() % (sizeof in - 1);
		for (i = 0; i < n; i++)
			in[i] = alpha[rnd() % (sizeof alpha - 1)];
		in[n] = '\0';
		for (k = rnd() % 4; k && strlen(in) + 6 < sizeof in; k--)
			strcat(in, ".mssh");
		node_suggest(in, out);
		why = node_parse(out, ref, 0);
		if ((why || strcmp(out, ref)) && !bad++)
			printf("# %s -> %s\n", escape(esc, sizeof esc, in,
			    strlen(in)), out);
	}
	is_num(bad, 0, "node_suggest: every suggestion is valid (100000)");
	for (i = 0, bad = 0; i < LEN(t); i++) {
		node_suggest(t[i].in, ref);
		node_suggest(ref, out);
		bad += !!strcmp(out, ref);
	}
	is_num(bad, 0, "node_suggest: leaves a valid id as it is");
}

/* Is it one typing error from a to b?  Slow, and not how name_variant() does
 * it: what they begin and end with alike is taken away. */
static int
is_typo(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b);

	for (; n && m && *a == *b; a++, b++, n--, m--)
		;
	for (; n && m && a[n - 1] == b[m - 1]; n--, m--)
		;
	return (n <= 1 && m <= 1 && n + m) || (n == 2 && m == 2 &&
	    a[0] == b[1] && a[1] == b[0]);
}

static char variants[6000][NODE_LEN + 1];

static int
variant_cmp(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* All of s, sorted.  Returns how many, -1 if one is wrong. */
static int
variants_of(const char *s)
{
	char out[NODE_LEN + 8];		/* one that is too long is seen */
	unsigned i;
	int n = 0, k, bad = 0;

	for (i = 0; name_variant(s, i, out); i++) {
		if (!*out)
			continue;
		bad += n == LEN(variants) || strlen(out) > NODE_LEN ||
		    !is_typo(s, out);
		if (bad)
			break;
		strcpy(variants[n++], out);
	}
	qsort(variants, n, sizeof *variants, variant_cmp);
	for (k = 1; k < n; k++)
		if (!strcmp(variants[k - 1], variants[k])) {
			printf("# %s twice\n", variants[k]);
			bad++;
		}
	return bad ? -1 : n;
}

/* Tries all strings up to one longer than s, of all characters or of some: is
 * each a variant if, and only if, it is one error away?  The number of those
 * that are not. */
static int
variants_wrong(const char *s, int n)
{
	const char *chars = strlen(s) < 3 ?
	    "abcdefghijklmnopqrstuvwxyz0123456789-._" : "abz09-._";
	char b[8] = "";
	size_t at[8] = { 0 };
	int len, k, wrong = 0, is_variant;

	for (len = 1; len <= (int)strlen(s) + 1; len++) {
		memset(at, 0, sizeof at);
		do {
			for (k = 0; k < len; k++)
				b[k] = chars[at[k]];
			b[len] = '\0';
			is_variant = bsearch(b, variants, n, sizeof *variants,
			    variant_cmp) != NULL;
			wrong += is_variant != is_typo(s, b);
			for (k = 0; k < len && ++at[k] == strlen(chars); k++)
				at[k] = 0;
		} while (k < len);
	}
	return wrong;
}

static void
test_name_variant(void)
{
	static const char *const t[] = { "a", "ab", "aa", "a-b", "aab", "aba" },
	    *const far[] = { "web1", "web-2", "bew-1", "wbe-1", "we-1",
	    "web-11", "xweb-1", "web.1", "w-eb-1", "ew-b1" };
	char b[200], out[NODE_LEN + 1];
	size_t i, round;
	int n, bad = 0;

	for (i = 0; i < LEN(t); i++) {
		n = variants_of(t[i]);
		ok(n > 0 && variants_wrong(t[i], n) == 0,
		    "name_variant: all that is one error away from %s: %d",
		    t[i], n);
	}
	n = variants_of("web-1");
	n = n < 0 ? 0 : n;
	for (i = 0; i < LEN(far); i++)
		ok(!bsearch(far[i], variants, n, sizeof *variants,
		    variant_cmp) == !is_typo("web-1", far[i]),
		    "name_variant: web-1 and %s", far[i]);
	for (round = 0; round < 200; round++) {
		n = 1 + rnd() % 64;
		for (i = 0; i < (size_t)n; i++)
			b[i] = "aab-1"[rnd() % 5];
		b[n] = '\0';
		if (variants_of(b) < 0 && !bad++)
			printf("# %s\n", b);
	}
	is_num(bad, 0, "name_variant: none twice, too long or far (200)");
	ok(variants_of(rep('a', 64)) > 0,
	    "name_variant: of 64 characters none is longer");
	ok(!name_variant("ab", 240, out) && !name_variant("ab", UINT_MAX, out),
	    "name_variant: there is an end");
	n = variants_of("");
	is_num(n, 39, "name_variant: of nothing, one character");
}

/* ---- hello and replies ---- */

static void
test_hello_good(void)
{
	static const struct {
		const char *in;
		int version;
		enum role role;
		const char *node;
		uint64_t run;
		long slot, wait;
	} t[] = {
		{ "MSSH/2 agent web run=1f slot=3", 2, R_AGENT, "web", 0x1f,
		    3, 0 },
		{ "MSSH/2 agent web", 2, R_AGENT, "web", 0, 0, 0 },
		{ "MSSH/2 client WEB wait=60", 2, R_CLIENT, "web", 0, 0, 60 },
		{ "MSSH/2 client web", 2, R_CLIENT, "web", 0, 0, 0 },
		{ "  MSSH/2   client   web  ", 2, R_CLIENT, "web", 0, 0, 0 },
		{ "MSSH/2 client web new=x wait=86400 y", 2, R_CLIENT, "web",
		    0, 0, WAIT_MAX },
		{ "MSSH/2 agent web slot=63 run=ffffffffffffffff", 2, R_AGENT,
		    "web", UINT64_MAX, 63, 0 },
		{ "MSSH/2 agent web run=1 run=zz", 2, R_AGENT, "web", 1, 0,
		    0 },
		{ "AGENT web", 1, R_AGENT, "web", 0, 0, 0 },
		{ "CLIENT Web", 1, R_CLIENT, "web", 0, 0, 0 },
		{ "AGENT web run=5 slot=x", 1, R_AGENT, "web", 0, 0, 0 },
	};
	struct hello h;
	const char *why;
	size_t i;

	for (i = 0; i < LEN(t); i++)
		ok(!hello_parse(t[i].in, &h, &why) &&
		    h.version == t[i].version && h.role == t[i].role &&
		    !strcmp(h.node, t[i].node) && h.run == t[i].run &&
		    h.slot == t[i].slot && h.wait == t[i].wait,
		    "hello_parse: %s", t[i].in);
	ok(!hello_parse(cat("MSSH/2 client ", rep('a', 64)), &h, &why) &&
	    strlen(h.node) == 64, "hello_parse: a node id of 64");
}

/* Who asks, and what an agent says of itself. */
static void
test_hello_asks(void)
{
	static const struct {
		const char *in;
		enum role role;
		const char *node;
		int v;
	} t[] = {
		{ "MSSH/2 list web", R_LIST, "web", 0 },
		{ "MSSH/2 list *", R_LIST, "*", 0 },
		{ "MSSH/2 list WEB-*,!web-1,Db[0-9]?,[^x].Y_z", R_LIST,
		    "web-*,!web-1,db[0-9]?,[^x].y_z", 0 },
		{ "MSSH/2 list -web", R_LIST, "-web", 0 },
		{ "MSSH/2 list web.mssh wait=3", R_LIST, "web.mssh", 0 },
		{ "MSSH/2 list , ", R_LIST, ",", 0 },
		{ "MSSH/2 ping Web", R_PING, "web", 0 },
		{ "MSSH/2 ping web wait=0 x", R_PING, "web", 0 },
		{ "MSSH/2 agent web v=0.1", R_AGENT, "web", 1 },
		{ "MSSH/2 agent web run=1 slot=2 v=1.2.3", R_AGENT, "web",
		    0x102 },
		{ "MSSH/2 agent web v=255.255", R_AGENT, "web", 0xffff },
		{ "MSSH/2 agent web v=0.0", R_AGENT, "web", 0 },
		{ "MSSH/2 agent web v=12.34-rc1", R_AGENT, "web", 0xc22 },
		{ "MSSH/2 agent web v=2.0 v=x", R_AGENT, "web", 0x200 },
		{ "MSSH/2 agent web version=x", R_AGENT, "web", 0 },
		{ "AGENT web v=x", R_AGENT, "web", 0 },
	};
	struct hello h;
	const char *why;
	size_t i;

	for (i = 0; i < LEN(t); i++)
		ok(!hello_parse(t[i].in, &h, &why) && h.role == t[i].role &&
		    !strcmp(h.node, t[i].node) && h.v == t[i].v,
		    "hello_parse: %s", t[i].in);
	ok(!hello_parse(cat("MSSH/2 list ", rep('?', NODES_LEN)), &h, &why) &&
	    strlen(h.node) == NODES_LEN, "hello_parse: patterns of 255");
	ok(hello_parse(cat("MSSH/2 list ", rep('?', NODES_LEN + 1)), &h,
	    &why) == -1 && why && strstr(why, "255"),
	    "hello_parse refuses patterns of 256");
	ok(hello_parse(cat("MSSH/2 list ", rep('a', 499)), &h, &why) == -1,
	    "hello_parse refuses patterns that fill the line");
	ok(hello_parse(cat("MSSH/2 ping ", rep('a', 65)), &h, &why) == -1,
	    "hello_parse refuses to ping a node id of 65");
	ok(!hello_parse("MSSH/2 list a key=bob nonce=" S43, &h, &why) &&
	    !strcmp(h.key, "bob") && !hello_parse("MSSH/2 ping a key=bob "
	    "nonce=" S43, &h, &why) && !strcmp(h.key, "bob"),
	    "hello_parse: a key of who lists or pings");
}

static void
test_patterns(void)
{
	static const char *const bad[] = { "", " ", "a b", "a/b", "a;b", "~",
	    "a\"", "a\\", "\x80", "a\n", "a=b", "{a}", "a%", "(a)", "a:1" };
	char all[] = PATTERN_CHARS, out[4][NODES_LEN + 1];
	size_t i;

	ok(!patterns_parse(all, out[1]) && strlen(out[1]) == sizeof all - 1 &&
	    !strpbrk(out[1], "ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
	    "patterns_parse: every character that may be, in lower case");
	for (i = 0; i < LEN(bad); i++)
		ok(patterns_parse(bad[i], out[1]) != NULL,
		    "patterns_parse refuses %d: %.2s", (int)i, bad[i]);
	memset(out, '#', sizeof out);
	patterns_parse(rep('*', NODES_LEN), out[1]);
	ok(out[0][NODES_LEN] == '#' && out[2][0] == '#' && !out[1][NODES_LEN],
	    "patterns_parse: 255 characters, and none behind them");
	memset(out, '#', sizeof out);
	ok(patterns_parse(rep('*', NODES_LEN + 20), out[1]) &&
	    out[2][0] == '#', "patterns_parse: more are refused");
}

static void
test_version(void)
{
	static const struct {
		const char *in;
		int v;			/* -1: bad */
	} t[] = {
		{ "0.1", 1 }, { "1.0", 0x100 }, { "0.0", 0 },
		{ "255.255", 0xffff }, { "255.0", 0xff00 }, { "3.10.7", 0x30a },
		{ "1.2x", 0x102 }, { "007.08", 0x708 },
		{ "", -1 }, { "1", -1 }, { "1.", -1 }, { ".1", -1 },
		{ "-99999999999999999999.1", -1 }, { "x", -1 },
		{ "1.x", -1 }, { "1.-1", -1 }, { "-1.1", -1 },
		{ "1. 1", -1 }, { "1.+1", -1 }, { "256.0", -1 },
		{ "1.256", -1 }, { "99999999999999999999.1", -1 },
		{ "1.99999999999999999999", -1 }, { "1,1", -1 },
	};
	struct hello h;
	const char *why;
	uint16_t v;
	size_t i;
	int r;

	for (i = 0; i < LEN(t); i++) {
		v = 0;
		r = version_parse(t[i].in, &v);
		ok(r == (t[i].v < 0 ? -1 : 0) && (r < 0 || v == t[i].v),
		    "version_parse \"%s\": %d", t[i].in, t[i].v);
		r = hello_parse(cat("MSSH/2 agent web v=", t[i].in), &h, &why);
		ok(t[i].v < 0 ? r == -1 && strstr(why, "v=") != NULL :
		    r == 0 && h.v == t[i].v, "hello_parse: v=%s", t[i].in);
	}
}

/* What a key may do, by the rights in a keys file. */
static void
test_role_rights(void)
{
	static const struct {
		int rights;
		const char *may;
	} t[] = {
		{ 0, "" }, { 1 << R_AGENT, "agent" },
		{ 1 << R_CLIENT, "client list ping" }, { 1 << R_LIST, "list" },
		{ 1 << R_AGENT | 1 << R_CLIENT, "agent client list ping" },
	};
	size_t i, role;

	for (i = 0; i < LEN(t); i++)
		for (role = 0; role < R_MAX; role++)
			ok(!(t[i].rights & role_rights[role]) ==
			    !strstr(t[i].may, role_names[role]),
			    "role_rights: %d and %s", t[i].rights,
			    role_names[role]);
}

static void
test_hello_bad(void)
{
	static const char *const bad[] = {
		"MSSH/2 list", "MSSH/2 list ", "MSSH/2 list a/b",
		"MSSH/2 list a;b", "MSSH/2 list key=x", "MSSH/2 list \"a\"",
		"MSSH/2 List a", "MSSH/2 LIST a", "MSSH/2 lists a",
		"LIST a", "PING a", "MSSH/2 ping", "MSSH/2 ping *",
		"MSSH/2 ping a,b", "MSSH/2 ping -a", "MSSH/2 ping a.mssh",
		"MSSH/2 list a wait=x", "MSSH/2 ping a wait=-1",
		"MSSH/2 agent web v=", "MSSH/2 agent web v=x",
		"", "   ", "MSSH/2", "MSSH/2 ", "MSSH/2 agent",
		"MSSH/2 client ", "MSSH/2 server web", "MSSH/2 Agent web",
		"MSSH/2 AGENT web", "MSSH/3 agent web", "mssh/2 agent web",
		"MSSH/2agent web", "MSSH/2 agent -web", "MSSH/2 agent w/b",
		"MSSH/2 agent web.mssh", "MSSH/2 agent run=1",
		"MSSH/2 agent web run=", "MSSH/2 agent web run=xyz",
		"MSSH/2 agent web run=11111111111111111",
		"MSSH/2 agent web slot=64", "MSSH/2 agent web slot=-1",
		"MSSH/2 agent web slot=", "MSSH/2 client web wait=86401",
		"MSSH/2 client web wait=1s", "MSSH/2 client web wait=-1",
		"MSSH/2 client web wait=99999999999999999999",
		"AGENT", "CLIENT", "AGENT ", "agent web", "client web",
		"CLIENT web/x", "GET / HTTP/1.1", "SSH-2.0-OpenSSH_9.2",
	};
	struct hello h;
	const char *why;
	size_t i;

	for (i = 0; i < LEN(bad); i++) {
		why = NULL;
		ok(hello_parse(bad[i], &h, &why) == -1 && why && *why,
		    "hello_parse refuses \"%s\": %s", bad[i],
		    why ? why : "(null)");
	}
	ok(hello_parse(cat("MSSH/2 client ", rep('a', 65)), &h, &why) == -1,
	    "hello_parse refuses a node id of 65");
	ok(hello_parse(cat("MSSH/2 client ", rep('a', 497)), &h, &why) == -1,
	    "hello_parse refuses a node id that fills the line");
	ok(hello_parse(rep('A', 511), &h, &why) == -1,
	    "hello_parse refuses one word of 511");
}

#define T32 "0123456789abcdef00ff00ff00ff00ff"

/* The words that name a session, and what a hello makes of them. */
static void
test_resume(void)
{
	static const struct {
		const char *in;
		int got;
		long seq;
	} t[] = {
		{ "resume=" T32 " seq=0", 1, 0 },
		{ "resume=" T32 " seq=1", 1, 1 },
		{ "seq=7 resume=" T32, 1, 7 },
		{ "GO id=1 from=192.0.2.1:2 resume=" T32 " seq=3", 1, 3 },
		{ "resume=" T32 " seq=999999999", 1, 999999999 },
		{ "resume=" T32 " seq=0001", 1, 1 },
		{ "resume=" T32 " seq=2 seq=x", 1, 2 },
		{ "resume=" T32 " resume=x seq=2", 1, 2 },
		{ "", 0, 0 },
		{ "seq=1", 0, 0 },
		{ "resume seq=1", 0, 0 },
		{ "Resume=" T32 " seq=1", 0, 0 },
		{ "xresume=" T32 " seq=1", 0, 0 },
		{ "resume= seq=1", -1, 0 },
		{ "resume=" T32, -1, 0 },
		{ "resume=" T32 " seq=", -1, 0 },
		{ "resume=" T32 " seq=-1", -1, 0 },
		{ "resume=" T32 " seq=1000000000", -1, 0 },
		{ "resume=" T32 " seq=99999999999999999999", -1, 0 },
		{ "resume=" T32 " seq=1x", -1, 0 },
		{ "resume=" T32 " Seq=1", -1, 0 },
		{ "resume=" T32 "0 seq=1", -1, 0 },
		{ "resume=0123456789abcdef00ff00ff00ff00f seq=1", -1, 0 },
		{ "resume=0123456789ABCDEF00ff00ff00ff00ff seq=1", -1, 0 },
		{ "resume=0123456789abcdef00ff00ff00ff00fg seq=1", -1, 0 },
		{ "resume=0123456789abcdef-0ff00ff00ff00ff seq=1", -1, 0 },
	};
	char b[TOKEN_LEN + 3];
	struct hello h;
	const char *why;
	size_t i;
	long seq;
	int r;

	for (i = 0; i < LEN(t); i++) {
		memset(b, '#', sizeof b);
		seq = -7;
		r = resume_parse(t[i].in, b + 1, &seq);
		ok(r == t[i].got && *b == '#' && b[TOKEN_LEN + 2] == '#' &&
		    (r < 1 || (!strcmp(b + 1, T32) && seq == t[i].seq)),
		    "resume_parse \"%s\": %d", t[i].in, t[i].got);
		r = hello_parse(cat("MSSH/2 client web ", t[i].in), &h, &why);
		ok(r == (t[i].got < 0 ? -1 : 0) && (r || !*h.resume ==
		    !t[i].got), "hello_parse: client web %s", t[i].in);
	}
	hello_parse("MSSH/2 client web x seq=9 resume=" T32 " y", &h, &why);
	is(h.resume, " resume=" T32 " seq=9", "hello_parse: the words for GO");
	is_num(hello_parse("MSSH/2 client web seq=999999999 resume=" T32, &h,
	    &why), 0, "hello_parse: the biggest seq=");
	ok(strlen(h.resume) < sizeof h.resume - 1 && resume_parse(h.resume,
	    b, &seq) == 1 && seq == 999999999, "it fits, and is read again");
	is_num(hello_parse("MSSH/2 agent web frames=1", &h, &why) ||
	    h.frames != 1, 0, "hello_parse: frames=1");
	is_num(hello_parse("MSSH/2 agent web", &h, &why) || h.frames ||
	    *h.resume, 0, "hello_parse: no frames=, no resume=");
	is_num(hello_parse("MSSH/2 agent web frames=0", &h, &why) || h.frames,
	    0, "hello_parse: frames=0");
	is_num(hello_parse("MSSH/2 agent web frames=2", &h, &why), -1,
	    "hello_parse: frames=2");
	is_num(hello_parse("MSSH/2 agent web frames=", &h, &why), -1,
	    "hello_parse: frames=");
	is_num(hello_parse("CLIENT web resume=x frames=9", &h, &why) ||
	    h.frames || *h.resume, 0, "hello_parse: version 1 knows none");
}

/* Written, then read again; in a block that ends where the bytes do. */
static void
test_frames(void)
{
	static const struct frame t[] = {
		{ F_DATA, 0, 0 }, { F_DATA, 1, 0 }, { F_DATA, 65536, 65535 },
		{ F_DATA, 0xffffff, UINT64_MAX }, { F_DATA, 0, UINT64_MAX },
		{ F_DATA, 0x010203, 0x0102030405060708 }, { F_END, 0, 7 },
		{ F_END, 0, UINT64_MAX }, { F_PING, 0, 1ULL << 63 },
		{ F_CLOSE, 0, 0 }, { F_CLOSE, 1, 5 },
		{ F_CLOSE, FRAME_TEXT, 255 }
	}, lies[] = {
		{ F_END, 1, 0 }, { F_END, 0xffffff, 0 }, { F_PING, 1, 0 },
		{ F_PING, 0x10000, 0 }, { F_CLOSE, FRAME_TEXT + 1, 0 },
		{ F_CLOSE, 0xffffff, 0 }, { F_MAX, 0, 0 }
	};
	unsigned char b[FRAME_HEAD + 2], *exact;
	struct frame f;
	size_t i, k;
	int r, good;

	for (i = 0; i < LEN(t); i++) {
		memset(b, '#', sizeof b);
		frame_write(b + 1, &t[i]);
		ok(*b == '#' && b[FRAME_HEAD + 1] == '#', "frame_write: "
		    "%d, %lu: no byte beyond", t[i].type,
		    (unsigned long)t[i].len);
		for (k = 0, good = 1; k <= FRAME_HEAD; k++) {
			exact = malloc(k + !k);
			memcpy(exact, b + 1, k);
			memset(&f, 0, sizeof f);
			r = frame_parse(exact, k, &f);
			good &= k < FRAME_HEAD ? r == 0 : r == FRAME_HEAD;
			free(exact);
		}
		ok(good && f.type == t[i].type && f.len == t[i].len &&
		    f.received == t[i].received, "frame_parse: the same, of "
		    "each length");
	}
	for (i = 0; i < LEN(lies); i++) {
		frame_write(b, &lies[i]);
		ok(frame_parse(b, FRAME_HEAD, &f) == -1 && (lies[i].type ==
		    F_MAX ? frame_parse(b, 1, &f) == -1 : frame_parse(b,
		    FRAME_HEAD - 1, &f) == 0), "frame_parse: type %d has no "
		    "%lu bytes", lies[i].type, (unsigned long)lies[i].len);
	}
	for (i = F_MAX, good = 1; i < 256; i++) {
		*b = i;
		good &= frame_parse(b, 1, &f) == -1;
	}
	ok(good, "frame_parse: an unknown type, at its first byte");
	frame_write(b, &(struct frame){ F_DATA, 0x010203,
	    0x1122334455667788 });
	ok(!memcmp(b, "\0\1\2\3\x11\x22\x33\x44\x55\x66\x77\x88",
	    FRAME_HEAD), "frame_write: the highest byte first");
}

static void
test_close(void)
{
	static const size_t lens[] = { 0, 1, 100, 269, 270, 271, 500, 1000 };
	unsigned char b[FRAME_HEAD + FRAME_TEXT + 1];
	const char *text;
	struct frame f;
	size_t i, k;
	int n, code, good;

	for (code = 1; code < C_MAX; code++) {
		for (i = 0, good = 1; i < LEN(lens); i++) {
			memset(b, '#', sizeof b);
			n = close_write(b, code, rep('w', lens[i]));
			good &= frame_parse(b, n, &f) == FRAME_HEAD &&
			    f.type == F_CLOSE && f.received == 0 &&
			    n == (int)(FRAME_HEAD + f.len) &&
			    f.len <= FRAME_TEXT && b[sizeof b - 1] == '#';
			b[n] = '\0';
			k = lens[i] < 270 ? lens[i] : 270;
			good &= reply_parse((char *)b + FRAME_HEAD, &text) ==
			    code && strlen(text) == k && strspn(text, "w") == k;
		}
		ok(good, "close_write: ERROR %s", code_names[code]);
	}
}

static void
test_reply(void)
{
	static const struct {
		const char *in;
		int code;
		const char *text;
	} t[] = {
		{ "OK", C_OK, "" },
		{ "OK id=00ff", C_OK, "id=00ff" },
		{ "READY", C_OK, "" },
		{ "ERROR syntax what was that", C_SYNTAX, "what was that" },
		{ "ERROR denied no", C_DENIED, "no" },
		{ "ERROR offline web is offline", C_OFFLINE,
		    "web is offline" },
		{ "ERROR busy  two", C_BUSY, "two" },
		{ "ERROR exists x", C_EXISTS, "x" },
		{ "ERROR unreachable x", C_UNREACHABLE, "x" },
		{ "ERROR timeout x", C_TIMEOUT, "x" },
		{ "ERROR limit", C_LIMIT, "" },
		{ "ERROR gone it has ended", C_GONE, "it has ended" },
		{ "ERROR unsupported x", C_UNSUPPORTED, "x" },
		{ "ERROR goner x", C_DENIED, "goner x" },
		{ "ERROR novelty of a later day", C_DENIED,
		    "novelty of a later day" },
		{ "ERROR ok x", C_DENIED, "ok x" },
		{ "ERROR", C_DENIED, "" },
		{ "ERROR a-word-of-more-than-sixteen-letters x", C_DENIED,
		    "a-word-of-more-than-sixteen-letters x" },
		{ "", -1, NULL },
		{ "  ", -1, NULL },
		{ "OKAY", -1, NULL },
		{ "ok", -1, NULL },
		{ "error denied", -1, NULL },
		{ "PING", -1, NULL },
		{ "HTTP/1.1 400 Bad Request", -1, NULL },
		{ "SSH-2.0-OpenSSH_9.2p1 Debian", -1, NULL },
	};
	const char *text;
	size_t i;
	int got;

	for (i = 0; i < LEN(t); i++) {
		text = NULL;
		got = reply_parse(t[i].in, &text);
		ok(got == t[i].code && (got < 0 || !strcmp(text, t[i].text)),
		    "reply_parse \"%s\": %d", t[i].in, t[i].code);
	}
}

/* EXIT STATUS in mssh(1) */
static void
test_exits(void)
{
	static const struct {
		const char *word;
		int want;
	} t[] = {
		{ "ok", 0 }, { "syntax", 9 }, { "denied", 5 },
		{ "offline", 4 }, { "busy", 8 }, { "exists", 5 },
		{ "unreachable", 6 }, { "timeout", 7 }, { "limit", 8 },
		{ "gone", 11 }, { "unsupported", 9 },
	};
	char line[40];
	const char *text;
	size_t i;
	int code;

	is_num((long)LEN(t), C_MAX, "code_exits: one for each code");
	for (i = 0; i < LEN(t); i++) {
		snprintf(line, sizeof line, i ? "ERROR %s x" : "OK %s x",
		    t[i].word);
		code = reply_parse(line, &text);
		is_num(code < 0 ? -1 : code_exits[code], t[i].want, line);
	}
}

static void
test_sniff(void)
{
	static const struct {
		const char *in;
		int n;
		enum tongue is;
	} t[] = {
		{ "", 0, T_UNKNOWN },
		{ "\x16", 1, T_UNKNOWN },
		{ "\x16\x03\x01\x02\x00\x01", 6, T_TLS },
		{ "\x16\x03\x03", 3, T_TLS },
		{ "\x16\x02", 2, T_UNKNOWN },
		{ "SSH-2.0-x", 9, T_SSH },
		{ "SSH-", 4, T_SSH },
		{ "SSH", 3, T_UNKNOWN },
		{ "ssh-2.0", 7, T_UNKNOWN },
		{ "GET / HTTP/1.1", 14, T_HTTP },
		{ "GET ", 4, T_HTTP },
		{ "GET", 3, T_UNKNOWN },
		{ "GETX", 4, T_UNKNOWN },
		{ "POST /x", 7, T_HTTP },
		{ "HEAD /", 6, T_HTTP },
		{ "CONNECT a:1", 11, T_HTTP },
		{ "OPTIONS *", 9, T_HTTP },
		{ "PRI * HTTP/2.0", 14, T_HTTP },
		{ "MSSH/2 agent", 12, T_MSSH },
		{ "MSSH/2", 6, T_MSSH },
		{ "MSSH/", 5, T_UNKNOWN },
		{ "AGENT x", 7, T_MSSH },
		{ "CLIENT x", 8, T_MSSH },
		{ "\0\0\0\0\0\0\0\0", 8, T_UNKNOWN },
	};
	char esc[64];
	size_t i;

	for (i = 0; i < LEN(t); i++) {
		unsigned char *b = malloc(t[i].n + 1);

		memcpy(b, t[i].in, t[i].n);
		escape(esc, sizeof esc, t[i].in, t[i].n);
		ok(sniff(b, t[i].n) == t[i].is, "sniff \"%s\": %d", esc,
		    (int)t[i].is);
		free(b);
	}
}

static unsigned long
be32(const unsigned char *p)
{
	return (unsigned long)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
}

/* RFC 4253 6: packet_length, padding_length, payload, padding; the sum is a
 * multiple of 8, the padding at least 4.  11.1: byte 1, uint32 reason,
 * string description, string language tag. */
static int
refusal_good(const unsigned char *b, size_t n, const char *text, size_t len)
{
	const unsigned char *p = memchr(b, '\n', n);
	size_t rest, plen, pad;
	char says[512];

	snprintf(says, sizeof says, "mssh: %.*s", (int)len, text);
	len += 6;

	if (!p || p == b || p[-1] != '\r' || memcmp(b, "SSH-2.0-", 8))
		return 0;
	rest = n - (size_t)(++p - b);
	plen = be32(p);
	pad = p[4];
	return plen + 4 == rest && rest % 8 == 0 && rest >= 16 && pad >= 4 &&
	    p[5] == 1 && be32(p + 6) == 7 && be32(p + 10) == len &&
	    !memcmp(p + 14, says, len) && be32(p + 14 + len) == 0 &&
	    1 + 13 + len + pad == plen;
}

static void
test_refusal(void)
{
	unsigned char buf[512 + 16];
	const char *text;
	size_t n, len, bad = 0;

	for (len = 0; len <= 393; len++) {
		memset(buf, 0xa5, sizeof buf);
		text = rep('t', len);
		n = ssh_refusal(buf, text);
		bad += n > 512 || !refusal_good(buf, n, text, len) ||
		    buf[n] != 0xa5;
	}
	is_num((long)bad, 0, "ssh_refusal: every length from 0 to 393");
	text = rep('t', 1000);
	memset(buf, 0xa5, sizeof buf);
	n = ssh_refusal(buf, text);
	ok(n <= 512 && refusal_good(buf, n, text, 393) && buf[n] == 0xa5,
	    "ssh_refusal: a longer text is cut at 393");
	n = ssh_refusal(buf, "web is offline");
	ok(refusal_good(buf, n, "web is offline", 14),
	    "ssh_refusal: says it");
}

static void
test_escape(void)
{
	unsigned char all[256];
	char out[2048], two[12];
	size_t i, bad;

	for (i = 0; i < 256; i++)
		all[i] = (unsigned char)i;
	escape(out, sizeof out, all, sizeof all);
	for (i = bad = 0; out[i]; i++)
		bad += out[i] < ' ' || out[i] > '~';
	is_num((long)bad, 0, "escape: all 256 bytes come out printable");
	is_num((long)strlen(out), 94 + 4 * 162, "escape: and none is lost");
	is(escape(out, sizeof out, "a\\b\n\x7f\x80 ~", 8),
	    "a\\x5cb\\x0a\\x7f\\x80 ~", "escape: backslash, LF, DEL, 0x80");
	is(escape(out, sizeof out, "", 0), "", "escape: nothing");
	is(escape(out, sizeof out, "a\0b", 3), "a\\x00b", "escape: NUL");
	for (i = 1, bad = 0; i <= sizeof two; i++) {
		memset(two, 'Z', sizeof two);
		escape(two, i, all, sizeof all);
		bad += !memchr(two, 0, i) ||
		    (i < sizeof two && two[i] != 'Z');
	}
	is_num((long)bad, 0, "escape: stays inside 1 to 12 bytes");
}

/* ---- addresses ---- */

static int
addr_split(const char *s, char *host, char *port)
{
	return host_split(s, strlen(s), host, port, PORT);
}

static void
test_addr(void)
{
	static const struct {
		const char *in, *host, *port;
	} t[] = {
		{ "relay.example.com", "relay.example.com", "8443" },
		{ "relay.example.com:443", "relay.example.com", "443" },
		{ "relay:https", "relay", "https" },
		{ "127.0.0.1:1", "127.0.0.1", "1" },
		{ "127.0.0.1", "127.0.0.1", "8443" },
		{ "[::1]:8444", "::1", "8444" },
		{ "[::1]", "::1", "8443" },
		{ "::1", "::1", "8443" },
		{ "2001:db8::5", "2001:db8::5", "8443" },
		{ "[fe80::1%eth0]:22", "fe80::1%eth0", "22" },
		{ "fe80::1%eth0", "fe80::1%eth0", "8443" },
		{ "[relay]:22", "relay", "22" },
		{ "a_b:iso-tsap", "a_b", "iso-tsap" },
		{ "", NULL, NULL },
		{ ":", NULL, NULL },
		{ ":22", NULL, NULL },
		{ "host:", NULL, NULL },
		{ "[::1", NULL, NULL },
		{ "[]:22", NULL, NULL },
		{ "[::1]22", NULL, NULL },
		{ "[::1]:", NULL, NULL },
		{ "[::1]:22:23", NULL, NULL },
		{ "[[::1]]", NULL, NULL },
		{ "host name", NULL, NULL },
		{ "host\n", NULL, NULL },
		{ "host;id", NULL, NULL },
		{ "$(id)", NULL, NULL },
		{ "`id`:22", NULL, NULL },
		{ "a'b", NULL, NULL },
		{ "a\"b", NULL, NULL },
		{ "a\\b", NULL, NULL },
		{ "a/b", NULL, NULL },
		{ "a@b", NULL, NULL },
		{ "-oProxyCommand", NULL, NULL },
		{ "host:-1", NULL, NULL },
		{ "host:2 2", NULL, NULL },
		{ "host:$x", NULL, NULL },
		{ "host:99999", NULL, NULL },
		{ "host:65536", NULL, NULL },
		{ "host:0", NULL, NULL },
		{ "h\xc3\xb6st", NULL, NULL },
	};
	char host[HOST_LEN + 1], port[33];
	const char *s;
	size_t i;
	int got;

	for (i = 0; i < LEN(t); i++) {
		got = addr_split(t[i].in, host, port);
		ok(t[i].host ? !got && !strcmp(host, t[i].host) &&
		    !strcmp(port, t[i].port) : got == -1,
		    "addr_split %s \"%s\"", t[i].host ? "takes" : "refuses",
		    strchr(t[i].in, '\n') ? "host, LF" : t[i].in);
	}
	s = rep('h', HOST_LEN);
	ok(!addr_split(s, host, port) && !strcmp(host, s),
	    "addr_split: a host of 253");
	ok(!addr_split(cat(s, ":22"), host, port) && !strcmp(port, "22"),
	    "addr_split: a host of 253 and a port");
	ok(addr_split(rep('h', HOST_LEN + 1), host, port) == -1,
	    "addr_split: a host of 254 is too long");
	ok(!addr_split(cat("h:", rep('p', 32)), host, port),
	    "addr_split: a service of 32");
	ok(addr_split(cat("h:", rep('p', 33)), host, port) == -1,
	    "addr_split: a service of 33 is too long");
}

static const char *
name_of(const char *node, const char *where, const char *connect)
{
	static char b[4][NAME_LEN + 1];
	static int i;
	char *s = b[i++ & 3];
	struct url u;

	s[NAME_LEN] = 'Z';
	*s = '\0';
	if (url_parse(where, &u) == 0)
		host_name(node, &u, connect, s);
	return s[NAME_LEN] == 'Z' ? s : NULL;
}

static void
test_host_name(void)
{
	static const struct {
		const char *node, *where, *want;
	} t[] = {
		{ "web", "relay.example.com", "web.relay.example.com.mssh" },
		{ "web", "Relay.example.com:8443",
		    "web.relay.example.com.mssh" },
		{ "web", "10.0.0.1:443", "web.10.0.0.1=443.mssh" },
		{ "web", "h:ssh", "web.h=ssh.mssh" },
		{ "a.b", "c", "a.b+c.mssh" }, { "a", "b.c", "a.b.c.mssh" },
		{ "10.0.0.5", "::1", "10.0.0.5+--1=8443=@" },
		{ "a", "fe80::1%eth0", "a.fe80--1-eth0=8443=@" },
		{ "a", "https://h/x", "a.h=443=@" },
		{ "a", "https://h./x", "a.h=443=@" },
		{ "a", "unix:/run/a", "a.unix==@" },
	};
	/* servers that are not the same: one name each */
	static const struct {
		const char *where, *connect;
	} other[] = {
		{ "h", NULL }, { "h:8444", NULL }, { "h.8444", NULL },
		{ "https://h/a/b", NULL }, { "https://h/a-b", NULL },
		{ "https://h/a?b", NULL }, { "https://h/Team", NULL },
		{ "https://h/team", NULL }, { "tls://h", NULL },
		{ "https://h", NULL }, { "http://h:443", NULL },
		{ "h:443", NULL }, { "unix:/run/a/b", NULL },
		{ "unix:/run/a-b", NULL }, { "h", "nc %h %p" },
		{ "h", "nc -x a %h %p" }, { "tls://h", "nc %h %p" },
		{ "::1", NULL }, { "[::1]:8444", NULL }, { "1--1", NULL },
		{ "fe80::1%a", NULL }, { "fe80::1%A", NULL },
		{ "fe80::1-a", NULL }, { "http://h", NULL },
		{ "http://h:8443", NULL }, { "unix", NULL },
	};
	/* and the same one, written in another way */
	static const char *const same[][2] = {
		{ "https://H./a", "https://h:443/a" },
		{ "TLS://h/", "tls://h" },
		{ "h:8443", "h" }, { "HTTP://h", "http://h:80/" },
		{ "[::1]", "::1" }, { "[::1]:8443", "::1" },
		{ "https://h#x", "https://h/" },
	};
	const char *a, *b;
	size_t i, j, n;

	for (i = 0; i < LEN(t); i++) {
		n = strcspn(t[i].want, "@");
		a = name_of(t[i].node, t[i].where, NULL);
		ok(!strncmp(a, t[i].want, n) && (!t[i].want[n] ||
		    (strspn(a + n, "0123456789abcdef") == 8 &&
		    !strcmp(a + n + 8, ".mssh"))), "host_name: %s", a);
	}
	/* printf '3 h 443 /x ' | sha256sum */
	is(name_of("a", "https://h/x", NULL), "a.h=443=007eb222.mssh",
	    "host_name: the hash stays what it is");
	for (i = 0; i < LEN(other); i++)
		for (j = 0; j < i; j++) {
			a = name_of("n", other[i].where, other[i].connect);
			b = name_of("n", other[j].where, other[j].connect);
			if (!*a || !*b || !strcmp(a, b))
				ok(0, "host_name: %s and %s", other[i].where,
				    other[j].where);
		}
	ok(1, "host_name: %d servers", (int)LEN(other));
	for (i = 0; i < LEN(same); i++)
		is(name_of("n", same[i][0], NULL), name_of("n", same[i][1],
		    NULL), "host_name: the same server");
	a = name_of(rep('n', 64), cat(cat("tls://", rep('h', 253)),
	    cat(":", rep('p', 32))), NULL);
	ok(a && strlen(a) == 64 + 1 + 253 + 1 + 32 + 9 + 5,
	    "host_name: the longest");
}

/* ---- the shell ---- */

/* ssh undoes %%, then hands the string to the shell */
static void
undo_percent(char *s)
{
	char *o = s;

	for (; *s; s++) {
		if (s[0] == '%' && s[1] == '%')
			s++;
		*o++ = *s;
	}
	*o = '\0';
}

/* what /bin/sh makes of the word */
static int
through_shell(const char *word, char *out, size_t size)
{
	char cmd[4096];
	size_t n = 0;
	ssize_t r;
	pid_t pid;
	int p[2], st;

	snprintf(cmd, sizeof cmd, "printf %%s %s", word);
	if (pipe(p) < 0 || (pid = fork()) < 0)
		return -1;
	if (!pid) {
		dup2(p[1], 1);
		close(p[0]);
		close(p[1]);
		execl("/bin/sh", "sh", "-c", cmd, (char *)NULL);
		_exit(127);
	}
	close(p[1]);
	while (n + 1 < size && (r = read(p[0], out + n, size - 1 - n)) > 0)
		n += (size_t)r;
	close(p[0]);
	out[n] = '\0';
	return waitpid(pid, &st, 0) == pid && !st ? 0 : -1;
}

static void
test_quote(void)
{
	static const char *const hostile[] = {
		"", "plain", "two words", "it's", "'", "''", "'\"'\"'",
		"$(touch x)", "`id`", "$HOME", "a\\b", "\\", "a;b&c|d>e<f",
		"*?[a]~", "!!", "#c", "-n", "%h %r %n %%", "%", "%%", "'%'",
		"a\nb", "\ta ", "\xc3\xbc\xff\x01", "{a,b}", "${IFS}x",
		"/usr/local/bin/mssh",
	};
	char q[512], back[512], esc[600], in[40];
	size_t i, n, k;
	int got, bad = 0;

	for (i = 0; i < LEN(hostile); i++) {
		got = shell_quote(hostile[i], q, sizeof q);
		k = strlen(q);
		undo_percent(q);
		ok(got == (int)k && !through_shell(q, back, sizeof back) &&
		    !strcmp(back, hostile[i]), "shell_quote: %s", escape(esc,
		    sizeof esc, hostile[i], strlen(hostile[i])));
	}
	for (i = 0; i < 100; i++) {
		n = rnd() % (sizeof in - 1);
		for (k = 0; k < n; k++)
			in[k] = (char)(1 + rnd() % 255);
		in[n] = '\0';
		shell_quote(in, q, sizeof q);
		undo_percent(q);
		if (through_shell(q, back, sizeof back) || strcmp(back, in))
			bad++;
	}
	is_num(bad, 0, "shell_quote: 100 random strings");
	for (i = 0; i < 3; i++)
		if (shell_quote("", q, i) != -1)
			break;
	is_num((long)i, 3, "shell_quote: an empty word needs 3 bytes");
	is_num(shell_quote("", q, 3), 2, "shell_quote: and fits there");
	for (i = 3, bad = 0; i < 40; i++) {
		memset(q, 'Z', sizeof q);
		got = shell_quote("a'%b'c", q, i);
		bad += q[i] != 'Z' || (got >= 0 && (size_t)got + 1 > i);
	}
	is_num(bad, 0, "shell_quote: never writes behind its room");
	ok(shell_quote(rep('\'', 200), q, sizeof q) == -1,
	    "shell_quote: too long is -1");
}

/* ---- files and options ---- */

static void
test_conf(void)
{
	static const struct {
		const char *in;
		int k;
		const char *arg;
	} t[] = {
		{ "", K_NONE, NULL },
		{ "\n", K_NONE, NULL },
		{ "  \t \r\n", K_NONE, NULL },
		{ "# server x", K_NONE, NULL },
		{ "   # x", K_NONE, NULL },
		{ "server relay:443\n", K_SERVER, "relay:443" },
		{ "server relay:443\r\n", K_SERVER, "relay:443" },
		{ "\tserver\t relay  ", K_SERVER, "relay" },
		{ "server=relay", K_SERVER, "relay" },
		{ "server = relay", K_SERVER, "relay" },
		{ "server =relay", K_SERVER, "relay" },
		{ "identity \"/home/a b/key\"", K_IDENTITY, "/home/a b/key" },
		{ "identity=\"k\"", K_IDENTITY, "k" },
		{ "identity \"k", K_IDENTITY, "\"k" },
		{ "node prod-* !prod-9 web", K_NODE, "prod-* !prod-9 web" },
		{ "node \"*\"", K_NODE, "*" },
		{ "server", -1, NULL },
		{ "server ", -1, NULL },
		{ "server =", -1, NULL },
		{ "server \"\"", -1, NULL },
		{ "=x", -1, NULL },
		{ "serverrelay", -1, NULL },
		{ "serve relay", -1, NULL },
		{ "port 22", -1, NULL },
		{ "host * # x", -1, NULL },
		{ "\"server\" x", -1, NULL },
	};
	char line[64], *arg;
	const char *why;
	size_t i;
	int k;

	for (i = 0; i < LEN(t); i++) {
		snprintf(line, sizeof line, "%s", t[i].in);
		arg = NULL;
		why = NULL;
		k = conf_parse(line, &arg, &why);
		ok(k == t[i].k && (k <= 0 || !strcmp(arg, t[i].arg)) &&
		    (k >= 0 || (why && *why)), "conf_parse %zu: %d", i,
		    t[i].k);
	}
}

static void
test_ssh_opts(void)
{
	/* ssh(1)'s synopsis, OpenSSH 10.0 */
	static const char with[] = "BbcDEeFIiJLlmOoPpQRSWw";
	static const char none[] = "1246AaCfGgKkMNnqsTtVvXxYy";
	char o[8];
	size_t i, bad = 0;

	for (i = 0; with[i]; i++) {
		snprintf(o, sizeof o, "-%c", with[i]);
		bad += !ssh_takes_next(o);
		snprintf(o, sizeof o, "-v%c", with[i]);
		bad += !ssh_takes_next(o);
		snprintf(o, sizeof o, "-%cx", with[i]);
		bad += ssh_takes_next(o);
		snprintf(o, sizeof o, "-N%cp", with[i]);
		bad += ssh_takes_next(o);
	}
	is_num((long)bad, 0, "ssh_takes_next: options with an argument");
	for (i = bad = 0; none[i]; i++) {
		snprintf(o, sizeof o, "-%c", none[i]);
		bad += ssh_takes_next(o);
		snprintf(o, sizeof o, "-%cv", none[i]);
		bad += ssh_takes_next(o);
	}
	is_num((long)bad, 0, "ssh_takes_next: options without one");
	ok(!ssh_takes_next("-"), "ssh_takes_next: a lone -");
	ok(!ssh_takes_next("-p22"), "ssh_takes_next: -p22");
	ok(ssh_takes_next("-tp"), "ssh_takes_next: -tp");
	ok(!ssh_takes_next("-L8080:localhost:80"), "ssh_takes_next: -L...");
}

/* keys */

static void
hex_is(const unsigned char *b, size_t n, const char *want, const char *what)
{
	char got[130];
	size_t i;

	for (i = 0; i < n; i++)
		snprintf(got + 2 * i, 3, "%02x", b[i]);
	is(got, want, what);
}

static void
sha(const void *data, size_t n, size_t times, unsigned char out[MAC_LEN])
{
	struct sha256 s = sha256_start;

	while (times--)
		sha256_add(&s, data, n);
	sha256_end(&s, out);
}

static void
test_sha256(void)
{
	/* FIPS 180-4's examples (NIST, Cryptographic Standards: SHA256.pdf),
	 * and its long message of a million a's */
	static const char two[] = "abcdbcdecdefdefgefghfghighijhijkijkljklm"
	    "klmnlmnomnopnopq";
	unsigned char out[MAC_LEN];

	sha("", 0, 1, out);
	hex_is(out, sizeof out, "e3b0c44298fc1c149afbf4c8996fb924"
	    "27ae41e4649b934ca495991b7852b855", "sha256: nothing");
	sha("abc", 3, 1, out);
	hex_is(out, sizeof out, "ba7816bf8f01cfea414140de5dae2223"
	    "b00361a396177a9cb410ff61f20015ad", "sha256: abc");
	sha(two, sizeof two - 1, 1, out);
	hex_is(out, sizeof out, "248d6a61d20638b8e5c026930c3e6039"
	    "a33ce45964ff2167f6ecedd419db06c1", "sha256: two blocks");
	sha("aaaaaaaaaa", 10, 100000, out);
	hex_is(out, sizeof out, "cdc76e5c9914fb9281a1c7e284d73e67"
	    "f1809a48a497200e046d39ccc7112cd0", "sha256: a million");
}

static void
test_hmac(void)
{
	/* RFC 4231, 4.2 to 4.8.  A key longer than a block is its own hash
	 * (RFC 2104, 2): ours never are, so that is done here. */
	static const char big[] = "This is a test using a larger than "
	    "block-size key and a larger than block-size data. The key needs "
	    "to be hashed before being used by the HMAC algorithm.";
	static const struct {
		int fill, nkey;
		const char *key, *data;
		int dfill, ndata, nmac;
		const char *mac;
	} t[] = {
		{ 0x0b, 20, 0, "Hi There", 0, 8, 32,
		    "b0344c61d8db38535ca8afceaf0bf12b"
		    "881dc200c9833da726e9376c2e32cff7" },
		{ 0, 4, "Jefe", "what do ya want for nothing?", 0, 28, 32,
		    "5bdcc146bf60754e6a042426089575c7"
		    "5a003f089d2739839dec58b964ec3843" },
		{ 0xaa, 20, 0, 0, 0xdd, 50, 32,
		    "773ea91e36800e46854db8ebd09181a7"
		    "2959098b3ef8c122d9635514ced565fe" },
		{ 0, 25, "\1\2\3\4\5\6\7\10\11\12\13\14\15\16\17"
		    "\20\21\22\23\24\25\26\27\30\31", 0, 0xcd, 50, 32,
		    "82558a389a443c0ea4cc819899f2083a"
		    "85f0faa3e578f8077a2e3ff46729665b" },
		{ 0x0c, 20, 0, "Test With Truncation", 0, 20, 16,
		    "a3b6167473100ee06e0c796c2955552b" },
		{ 0xaa, 131, 0, "Test Using Larger Than Block-Size Key - "
		    "Hash Key First", 0, 54, 32,
		    "60e431591ee0b67f0d8a26aacbf5b77f"
		    "8e0bc6213728c5140546040f0ee37f54" },
		{ 0xaa, 131, 0, big, 0, sizeof big - 1, 32,
		    "9b09ffa71b942fcb27635fbcd5b0e944"
		    "bfdc63644f0713938a7f51535c3a35e2" },
	};
	unsigned char key[131], data[200], out[MAC_LEN];
	struct sha256 s;
	char what[40];
	size_t i, n;

	for (i = 0; i < LEN(t); i++) {
		n = t[i].nkey;
		memset(key, t[i].fill, sizeof key);
		if (t[i].key)
			memcpy(key, t[i].key, n);
		memset(data, t[i].dfill, sizeof data);
		if (t[i].data)
			memcpy(data, t[i].data, t[i].ndata);
		if (n > 64) {
			sha(key, n, 1, key);
			n = MAC_LEN;
		}
		hmac_init(&s, key, n, 0x36);
		sha256_add(&s, data, t[i].ndata);
		hmac_end(&s, key, n, out);
		snprintf(what, sizeof what, "hmac: RFC 4231, case %d",
		    (int)i + 1);
		hex_is(out, t[i].nmac, t[i].mac, what);
	}
}

static void
test_mac(void)
{
	unsigned char a[MAC_LEN], b[MAC_LEN];
	size_t i, bad = 0;

	for (i = 0; i < MAC_LEN * 8; i++) {
		memset(a, 0x5a, sizeof a);
		memset(b, 0x5a, sizeof b);
		bad += mac_differs(a, b);
		b[i / 8] ^= 1 << i % 8;
		bad += !mac_differs(a, b);
	}
	is_num((long)bad, 0, "mac_differs: each single bit");
}

static void
test_b64(void)
{
	unsigned char in[MAC_LEN], out[MAC_LEN];
	char b[B64_LEN + 1], again[B64_LEN + 1];
	size_t i, k, bad = 0, spellings = 0;

	for (i = 0; i < 2000; i++) {
		for (k = 0; k < sizeof in; k++)
			in[k] = rnd() >> 8;
		b64_write(in, b);
		bad += strlen(b) != B64_LEN || b64_parse(b, out) ||
		    memcmp(in, out, sizeof in);
	}
	is_num((long)bad, 0, "b64: there and back, 2000 times");
	for (i = 0; i < 64; i++) {
		b[B64_LEN - 1] = b64_digits[i];
		if (b64_parse(b, out) == 0) {
			b64_write(out, again);
			spellings += !strcmp(b, again);
		}
	}
	is_num((long)spellings, 16, "b64: each value has one spelling");
	/* RFC 4648 5: 62 and 63 are - and _ */
	memset(in, 0xff, sizeof in);
	b64_write(in, b);
	is(b, "__________________________________________8", "b64: ones");
	b[7] = '+';
	is_num(b64_parse(b, out), -1, "b64: + belongs to another alphabet");
	b[7] = '\0';
	is_num(b64_parse(b, out), -1, "b64: too short");
	is_num(b64_parse("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
	    out), -1, "b64: too long");
}


static void
test_keys(void)
{
	static const struct {
		const char *line;
		int roles;		/* -1: malformed */
		const char *nodes;
	} t[] = {
		{ "", 0, "" }, { "  # agent", 0, "" }, { "\r\n", 0, "" },
		{ "agent web web " S43 "\n", 1, "web" },
		{ "client prod-*,lab-? bob " S43, 2, "prod-*,lab-?" },
		{ "\tboth\ta\tb\t" S43 "\r\n", 3, "a" },
		{ "list * ops " S43, 4, "*" },
		{ "Agent web web " S43, -1, 0 }, { "agent", -1, 0 },
		{ "agent web", -1, 0 }, { "agent web web", -1, 0 },
		{ "agent web web " S43 "A", -1, 0 },
		{ "agent web web " S43 " x", -1, 0 },
		{ "agent web .web " S43, -1, 0 },
		{ "agent web we/b " S43, -1, 0 },
		{ "agent web a23456789012345678901234567890123 " S43, -1, 0 },
	};
	struct right r;
	const char *why;
	char line[200];
	size_t i;
	int got;

	for (i = 0; i < LEN(t); i++) {
		why = NULL;
		snprintf(line, sizeof line, "%s", t[i].line);
		got = right_parse(line, &r, &why) < 0 ? -1 : (int)r.roles;
		ok(got == t[i].roles && (got < 0 ? why != NULL :
		    !strcmp(r.nodes, t[i].nodes)), "right_parse: %.40s",
		    *t[i].line == '\r' ? "CR LF" : t[i].line);
	}
	ok(glob_list("a,b*", "B9", 0) && glob_list("a,,c", "c", 0) &&
	    !glob_list("a,b", "a,b", 0) && !glob_list("", "a", 0), "glob_list");
	ok(glob_list("bob,[A-B]x", "Bx", 1) && !glob_list("bob,[A-B]x", "Bob", 1)
	    && !glob_list("[A-B]x", "bx", 1), "glob_list: with case");
}

/* No part of a transcript can be shifted into another one. */
static void
test_proof(void)
{
	struct secret k = { "k", { 1 } }, l = { "kk", { 1 } };
	unsigned char a[MAC_LEN] = { 1 }, b[MAC_LEN] = { 2 };
	unsigned char m[9][MAC_LEN];
	size_t i, j, same = 0;

	proof_mac(&k, LABEL_PEER, R_AGENT, "web", a, b, m[0]);
	proof_mac(&k, LABEL_SERVER, R_AGENT, "web", a, b, m[1]);
	proof_mac(&k, LABEL_PEER, R_CLIENT, "web", a, b, m[2]);
	proof_mac(&k, LABEL_PEER, R_AGENT, "webk", a, b, m[3]);
	proof_mac(&l, LABEL_PEER, R_AGENT, "web", a, b, m[4]);
	proof_mac(&k, LABEL_PEER, R_AGENT, "web", b, a, m[5]);
	proof_mac(&k, LABEL_PEER, R_AGENT, "web", a, a, m[6]);
	proof_mac(&l, LABEL_PEER, R_AGENT, "we", a, b, m[7]);
	k.key[31] ^= 1;
	proof_mac(&k, LABEL_PEER, R_AGENT, "web", a, b, m[8]);
	for (i = 0; i < LEN(m); i++)
		for (j = 0; j < i; j++)
			same += !mac_differs(m[i], m[j]);
	is_num((long)same, 0, "proof_mac: each part counts");
}

static void
test_proof_answer(void)
{
	/* what stands around the nonce and the mac */
	static const struct {
		const char *a, *b, *c;
		int got;
	} t[] = {
		{ "CHALLENGE nonce=", " mac=", "", 0 },
		{ "CHALLENGE  x nonce=", "  y= mac=", " z=1 ", 0 },
		{ "CHALLENGE nonce=", " mac=", " nonce=a mac=b", 0 },
		{ "CHALLENGE nonce=a nonce=", " mac=", "", -1 },
		{ "CHALLENGE mac= nonce=", " mac=", "", -1 },
		{ "CHALLENGE nonce=A", " mac=", "", -1 },
		{ "CHALLENGE nonce=", "A mac=", "", -1 },
		{ "CHALLENGE nonce=", " mac=A", "", -1 },
		{ "CHALLENGE nonce=", " mac=", "A", -1 },
		{ "CHALLENGE nonce=", " mac=", "=", -1 },
		{ "CHALLENGE Nonce=", " mac=", "", -1 },
		{ "CHALLENGE nonce=", " MAC=", "", -1 },
		{ "CHALLENGE nonce=", "mac=", "", -1 },
		{ "CHALLENGE ", " mac=", "", -1 },
		{ "CHALLENGE nonce=", " ", "", -1 },
	};
	static const char *const other[] = { "the secret", "the key's name",
	    "the role", "the node", "the peer's nonce", "the server's nonce" };
	const struct secret k = { "k", { 1 } };
	const struct hello h = { .version = 2, .role = R_CLIENT,
	    .node = "web", .nonce = { 2 } };
	struct secret k2;
	struct hello h2;
	unsigned char nonce[MAC_LEN] = { 3 }, mac[MAC_LEN];
	char n[B64_LEN + 1], m[B64_LEN + 1], line[LINE_LEN], want[64];
	char out[LINE_LEN];
	size_t i, bad;

	proof_mac(&k, LABEL_PEER, h.role, h.node, h.nonce, nonce, mac);
	b64_write(mac, m);
	snprintf(want, sizeof want, "PROOF mac=%s\n", m);
	proof_mac(&k, LABEL_SERVER, h.role, h.node, h.nonce, nonce, mac);
	b64_write(nonce, n);
	b64_write(mac, m);
	for (i = 0; i < LEN(t); i++) {
		snprintf(line, sizeof line, "%s%s%s%s%s", t[i].a, n, t[i].b,
		    m, t[i].c);
		strcpy(out, "-");
		ok(proof_answer(&k, &h, line, out) == t[i].got &&
		    !strcmp(out, t[i].got ? "-" : want),
		    "proof_answer: %s...%s...%s", t[i].a, t[i].b, t[i].c);
	}
	snprintf(line, sizeof line, "CHALLENGE mac=%s nonce=%s", m, n);
	ok(!proof_answer(&k, &h, line, out) && !strcmp(out, want),
	    "proof_answer: the words in another order");
	ok(proof_answer(&k, &h, "", out) == -1, "proof_answer: no words");
	n[B64_LEN - 1]++;		/* in bits that are not of the nonce */
	snprintf(line, sizeof line, "CHALLENGE nonce=%s mac=%s", n, m);
	ok(proof_answer(&k, &h, line, out) == -1,
	    "proof_answer: another spelling of the nonce");
	n[B64_LEN - 1]--;
	m[B64_LEN - 1]++;
	snprintf(line, sizeof line, "CHALLENGE nonce=%s mac=%s", n, m);
	ok(proof_answer(&k, &h, line, out) == -1,
	    "proof_answer: another spelling of the mac");
	m[B64_LEN - 1]--;
	for (i = 0; i < LEN(other); i++) {
		k2 = k;
		h2 = h;
		k2.key[31] = i == 0;
		k2.name[1] = i == 1 ? 'k' : '\0';
		h2.role = i == 2 ? R_AGENT : R_CLIENT;
		h2.node[3] = i == 3 ? '1' : '\0';
		h2.nonce[31] = i == 4;
		nonce[31] = i == 5;
		b64_write(nonce, n);
		snprintf(line, sizeof line, "CHALLENGE nonce=%s mac=%s", n, m);
		ok(proof_answer(&k2, &h2, line, out) == -1,
		    "proof_answer: %s is another", other[i]);
	}
	nonce[31] = 0;
	b64_write(nonce, n);
	for (i = bad = 0; i < MAC_LEN * 8; i++) {
		mac[i / 8] ^= 1 << i % 8;
		b64_write(mac, m);
		mac[i / 8] ^= 1 << i % 8;
		snprintf(line, sizeof line, "CHALLENGE nonce=%s mac=%s", n, m);
		bad += proof_answer(&k, &h, line, out) != -1;
	}
	is_num((long)bad, 0, "proof_answer: each bit of the mac counts");
	proof_mac(&k, LABEL_PEER, h.role, h.node, h.nonce, nonce, mac);
	b64_write(mac, m);
	snprintf(line, sizeof line, "CHALLENGE nonce=%s mac=%s", n, m);
	ok(proof_answer(&k, &h, line, out) == -1,
	    "proof_answer: what a peer proves is not a server's proof");
}

static void
test_hello_key(void)
{
	struct hello h;
	const char *why;

	ok(!hello_parse("MSSH/2 client web key=bob nonce=" S43, &h, &why) &&
	    !strcmp(h.key, "bob") && h.nonce[31] == 31, "hello: a key");
	ok(hello_parse("MSSH/2 client web key=bob", &h, &why) &&
	    hello_parse("MSSH/2 client web key= nonce=" S43, &h, &why) &&
	    hello_parse("MSSH/2 client web key=b/b nonce=" S43, &h, &why),
	    "hello: half a key");
}

/* ---- addresses, heads, fronts ---- */

/* A block that ends where its n bytes end, so that a sanitizer sees a step
 * beyond; the caller frees it. */
static char *
exact(const char *b, size_t n)
{
	char *p = malloc(n + !n);

	if (!p)
		abort();
	memcpy(p, b, n);
	return p;
}

static void
ip_str(const unsigned char ip[16], char out[INET6_ADDRSTRLEN])
{
	static const unsigned char map[12] = { [10] = 0xff, [11] = 0xff };
	int v4 = !memcmp(ip, map, 12);

	if (!inet_ntop(v4 ? AF_INET : AF_INET6, ip + (v4 ? 12 : 0), out,
	    INET6_ADDRSTRLEN))
		abort();
}

static void
test_net(void)
{
	static const struct {
		const char *net;
		int bits;		/* -1: refused */
		const char *in, *out;
	} t[] = {
		{ "10.0.0.1", 128, "10.0.0.1", "10.0.0.0" },
		{ "10.0.0.1", 128, "::ffff:10.0.0.1", "::10.0.0.1" },
		{ "10.0.0.1/32", 128, "10.0.0.1", "10.0.0.3" },
		{ "10.0.0.0/8", 104, "10.255.255.255", "11.0.0.0" },
		{ "10.1.2.3/8", 104, "10.0.0.0", "9.255.255.255" },
		{ "192.168.4.0/23", 119, "192.168.5.255", "192.168.6.0" },
		{ "192.168.4.0/31", 127, "192.168.4.1", "192.168.4.2" },
		{ "0.0.0.0/0", 96, "255.1.2.3", "2001:db8::1" },
		{ "0.0.0.0/1", 97, "127.1.2.3", "128.0.0.0" },
		{ "::1", 128, "::1", "::" },
		{ "::1/128", 128, "::1", "127.0.0.1" },
		{ "2001:db8::/32", 32, "2001:db8:ffff::1", "2001:db9::" },
		{ "2001:db8::/33", 33, "2001:db8:7fff::", "2001:db8:8000::" },
		{ "::/0", 0, "fe80::1", "10.0.0.1" },
		{ "::/64", 64, "::1", "10.0.0.1" },
		{ "::ffff:10.0.0.0/8", 8, "::1", "10.0.0.1" },
		{ "::ffff:10.0.0.0/104", 104, "10.9.9.9", "11.0.0.1" },
		{ "", -1, NULL, NULL }, { "/", -1, NULL, NULL },
		{ "/8", -1, NULL, NULL }, { "unix", -1, NULL, NULL },
		{ "10.0.0.0/", -1, NULL, NULL },
		{ "10.0.0.0/33", -1, NULL, NULL },
		{ "10.0.0.0/-1", -1, NULL, NULL },
		{ "10.0.0.0/8/8", -1, NULL, NULL },
		{ "10.0.0.0/8 ", -1, NULL, NULL },
		{ "10.0.0/8", -1, NULL, NULL }, { "10", -1, NULL, NULL },
		{ "010.0.0.1", -1, NULL, NULL },
		{ "0x7f.0.0.1", -1, NULL, NULL },
		{ "10.0.0.256", -1, NULL, NULL },
		{ "10.0.0.1:80", -1, NULL, NULL },
		{ "[::1]", -1, NULL, NULL }, { "fe80::1%lo", -1, NULL, NULL },
		{ "::/129", -1, NULL, NULL }, { ":::/8", -1, NULL, NULL },
		{ "localhost", -1, NULL, NULL },
	};
	unsigned char ip[16];
	struct net net;
	size_t i;
	int good, r;

	for (i = 0; i < LEN(t); i++) {
		r = net_parse(t[i].net, &net);
		good = r == (t[i].bits < 0 ? -1 : 0);
		if (!r && good)
			good = net.bits == t[i].bits &&
			    !ip_parse(t[i].in, ip) && net_has(&net, 1, ip) &&
			    (!t[i].out || (!ip_parse(t[i].out, ip) &&
			    !net_has(&net, 1, ip)));
		ok(good, "net_parse \"%s\": %d", t[i].net, t[i].bits);
	}
	ok(net_parse(rep('1', 64), &net) && net_parse(rep(':', 1000), &net),
	    "net_parse: much too long");
}

#define GET "GET / HTTP/1.1\r\n"
#define HOST "Host: x\r\n"
#define CONN "Connection: Upgrade\r\n"
#define UPGR "Upgrade: mssh\r\n"
#define WANT HOST CONN UPGR
#define END "\r\n"

/* A head that is taken is taken at its last byte and not before, whatever
 * follows it; one that is refused is so from some byte on. */
static int
take_split(const char *b, size_t n, int want)
{
	const char *why;
	size_t k;
	char *p;
	int r = 0, was = 0, good = 1;

	for (k = 0; k <= n; k++, was = r) {
		p = exact(b, k);
		why = NULL;
		r = head_take(p, k, &why);
		free(p);
		if (want > 0)
			good &= r == (k < (size_t)want ? 0 : want);
		else
			good &= r == 0 || (r == want && why && *why);
		good &= !was || r == was;
	}
	return good && r == want;
}

static void
test_head_take(void)
{
	static const struct {
		const char *in;
		int n, left;		/* bytes; of them, behind the head,
					 * -1: refused, -2: wants more */
	} t[] = {
#define H(s, left) { s, sizeof s - 1, left }
		H("", -2), H(GET, -2), H(GET HOST, -2), H(GET HOST "\r", -2),
		H(GET END, 0), H(GET HOST END, 0), H(GET WANT END, 0),
		H(GET END "MSSH/2 x\n", 9), H(GET END "\0\xff", 2),
		H(GET END END, 2), H("x\r\n\r\n", 0),
		H(GET "a:\r\n\r\n", 0), H(GET "a: \t \r\n\r\n", 0),
		H(GET "a:b\tc\xc3\xbc\r\n\r\n", 0),
		H(GET "a::\r\n\r\n", 0), H(GET "!#$%&'*+-.^_`|~9:\r\n\r\n", 0),
		H("\r\n", -1), H("\r\n\r\n", -1), H("\n", -1),
		H("GET / HTTP/1.1\n", -1), H(GET "\n", -1),
		H(GET "a: b\n\r\n", -1), H(GET HOST "\n", -1),
		H(GET "\rx", -1), H(GET "\r\r\n", -1), H(GET "a: b\rc\r\n", -1),
		H(GET "a: b\r\r\n", -1), H("GET /\r HTTP/1.1\r\n", -1),
		H(GET "a: b\0c\r\n", -1), H("GET /\0 HTTP/1.1", -1),
		H(GET "a: b\x01", -1), H(GET "a: \x1b[31m", -1),
		H(GET "a: \x7f", -1), H(GET "a: \v", -1), H(GET "a: \f", -1),
		H(GET "a\r\n", -1), H(GET "a b\r\n", -1),
		H(GET "a b: c\r\n", -1), H(GET "a : b\r\n", -1),
		H(GET "a\t: b\r\n", -1), H(GET ": b\r\n", -1),
		H(GET " a: b\r\n", -1), H(GET "\ta: b\r\n", -1),
		H(GET "a: b\r\n c\r\n", -1), H(GET "a: b\r\n\tc\r\n", -1),
		H(GET "a: b\r\n \r\n", -1), H(GET "\xc3\xbc: b\r\n", -1),
		H(GET "a(b): c\r\n", -1), H(GET "\"a\": b\r\n", -1),
		H(GET "a,b: c\r\n", -1), H(GET "a/b: c\r\n", -1),
		H(GET "[a]: c\r\n", -1), H(GET "a@b: c\r\n", -1),
#undef H
	};
	char esc[100], big[HEAD_LEN + 2];
	const char *why;
	size_t i;
	char *p;

	for (i = 0; i < LEN(t); i++)
		ok(take_split(t[i].in, t[i].n, t[i].left == -2 ? 0 :
		    t[i].left == -1 ? -1 : t[i].n - t[i].left),
		    "head_take \"%s\": %d", escape(esc, sizeof esc, t[i].in,
		    t[i].n), t[i].left);
	memset(big, 'x', sizeof big);
	memcpy(big, GET "a: ", sizeof GET + 2);
	memcpy(big + HEAD_LEN - 4, "\r\n\r\n", 4);
	p = exact(big, HEAD_LEN);
	is_num(head_take(p, HEAD_LEN, &why), HEAD_LEN,
	    "head_take: 4096 bytes are the longest head");
	is_num(head_take(p, HEAD_LEN - 1, &why), 0,
	    "head_take: without the last of them it wants that");
	free(p);
	memcpy(big + HEAD_LEN - 4, "x\r\n\r\n", 5);
	p = exact(big, HEAD_LEN + 1);
	is_num(head_take(p, HEAD_LEN + 1, &why), -2,
	    "head_take: 4097 bytes are one too many");
	is(why, "the head is longer than 4 KiB", "head_take: and says so");
	is_num(head_take(p, HEAD_LEN, &why), -2,
	    "head_take: nor does it wait for them");
	p[4000] = '\n';
	is_num(head_take(p, HEAD_LEN, &why), -1,
	    "head_take: a long one that is malformed is that");
	free(p);
}

static void
test_fields(void)
{
	static const struct {
		const char *value, *word;
		int has;
	} t[] = {
		{ "mssh", "mssh", 1 }, { "MsSh", "mssh", 1 },
		{ "a, mssh", "mssh", 1 }, { "mssh,a", "mssh", 1 },
		{ "a,\tmssh\t ,b", "mssh", 1 }, { ",, ,mssh,,", "mssh", 1 },
		{ "", "mssh", 0 }, { ",", "mssh", 0 }, { "msshx", "mssh", 0 },
		{ "mss", "mssh", 0 }, { "mss,h", "mssh", 0 },
		{ "ms sh", "mssh", 0 }, { "mssh x", "mssh", 0 },
		{ "xmssh", "mssh", 0 }, { "\"mssh\"", "mssh", 0 },
		{ "mssh;q=1", "mssh", 0 }, { "mssh/1", "mssh", 0 },
		{ "keep-alive, Upgrade", "upgrade", 1 },
	};
	static const char head[] = GET "Aa:b\r\nc: \t d e\t \r\n"
	    "f:\r\ng:   \r\nh: i:j\r\n\r\nk: l\r\n";
	static const char *const want[] = { "Aa", "b", "c", "d e", "f", "",
	    "g", "", "h", "i:j" };
	char *p = exact(head, sizeof head - 1 - 6), line[HEAD_LEN];
	const char *s = p + sizeof GET - 1;
	struct field f;
	size_t i;
	int r, good = 1;

	for (i = 0; i + 1 < LEN(want); i += 2) {
		r = field_next(&s, &f);
		good &= r == 1 && f.name_len == strlen(want[i]) &&
		    !memcmp(f.name, want[i], f.name_len) &&
		    f.len == strlen(want[i + 1]) &&
		    !memcmp(f.value, want[i + 1], f.len);
	}
	ok(good, "field_next: names and values without blanks around");
	ok(!field_next(&s, &f) && !field_next(&s, &f),
	    "field_next: 0 at the empty line, again and again");
	free(p);
	for (i = 0; i < LEN(t); i++) {
		snprintf(line, sizeof line, "a: %s\r\n", t[i].value);
		s = p = exact(line, strlen(line));
		ok(field_next(&s, &f) && field_has(&f, "A", t[i].word) ==
		    t[i].has && !field_has(&f, "b", t[i].word), "field_has: %s",
		    t[i].value);
		free(p);
	}
}

static void
test_request(void)
{
	static const struct {
		const char *in;
		int status, head;
	} t[] = {
		{ GET WANT END, 101, 0 },
		{ "GET /any?path=%20 HTTP/1.1\r\n" WANT END, 101, 0 },
		{ "GET http://x/y HTTP/1.1\r\n" WANT END, 101, 0 },
		{ "GET /healthz HTTP/1.1\r\n" WANT END, 101, 0 },
		{ GET "host:x\r\nCONNECTION:upgrade\r\nuPGRADE:MSSH\r\n" END,
		    101, 0 },
		{ GET HOST "Connection: keep-alive , Upgrade\r\n"
		    "Upgrade: websocket,, mssh\r\n" END, 101, 0 },
		{ GET HOST "Connection: a\r\nConnection: upgrade\r\n"
		    "Upgrade: b\r\nUpgrade: mssh\r\n" END, 101, 0 },
		{ GET HOST "Connection: upgrade\r\nConnection: a\r\n"
		    "Upgrade: mssh\r\nUpgrade: b\r\n" END, 101, 0 },
		{ "GET / HTTP/1.9\r\n" WANT END, 101, 0 },
		{ GET "Host:\r\n" CONN UPGR END, 101, 0 },
		{ GET WANT "Content-Length: 0\r\n" END, 101, 0 },

		{ GET HOST END, 426, 0 }, { GET HOST CONN END, 426, 0 },
		{ GET HOST UPGR END, 426, 0 },
		{ GET HOST UPGR "X: upgrade\r\n" END, 426, 0 },
		{ GET HOST CONN "Upgrade: websocket\r\n" END, 426, 0 },
		{ GET HOST CONN "Upgrade: mssh/3\r\n" END, 426, 0 },
		{ GET HOST CONN "X-Upgrade: mssh\r\n" END, 426, 0 },
		{ GET HOST "Connection: X-Upgrade\r\n" UPGR END, 426, 0 },
		{ "GET / HTTP/1.0\r\n" WANT END, 426, 0 },
		{ "GET / HTTP/1.0\r\n" END, 426, 0 },
		{ "POST / HTTP/1.1\r\n" WANT END, 426, 0 },
		{ "HEAD / HTTP/1.1\r\n" WANT END, 426, 1 },
		{ "OPTIONS * HTTP/1.1\r\n" WANT END, 426, 0 },
		{ "CONNECT x:1 HTTP/1.1\r\n" WANT END, 426, 0 },
		{ "get / HTTP/1.1\r\n" WANT END, 426, 0 },
		{ "head / HTTP/1.1\r\n" WANT END, 426, 0 },
		{ "GETT / HTTP/1.1\r\n" WANT END, 426, 0 },
		{ "POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n" END,
		    426, 0 },

		{ "GET /healthz HTTP/1.1\r\n" HOST END, 200, 0 },
		{ "HEAD /healthz HTTP/1.1\r\n" HOST END, 200, 1 },
		{ "GET /healthz HTTP/1.0\r\n" END, 200, 0 },
		{ "HEAD /healthz HTTP/1.0\r\n" END, 200, 1 },
		{ "GET /healthz HTTP/1.1\r\n" END, 400, 0 },
		{ "POST /healthz HTTP/1.1\r\n" HOST END, 426, 0 },
		{ "GET /healthz HTTP/1.1\r\n" HOST UPGR END, 426, 0 },
		{ "GET /Healthz HTTP/1.1\r\n" HOST END, 426, 0 },
		{ "GET /healthz/ HTTP/1.1\r\n" HOST END, 426, 0 },
		{ "GET /healthz? HTTP/1.1\r\n" HOST END, 426, 0 },
		{ "GET /health HTTP/1.1\r\n" HOST END, 426, 0 },

		{ GET CONN UPGR END, 400, 0 },
		{ GET WANT HOST END, 400, 0 },
		{ "GET / HTTP/1.0\r\n" HOST HOST END, 400, 0 },
		{ GET WANT "Content-Length: 0\r\nContent-Length: 0\r\n" END,
		    400, 0 },
		{ GET WANT "Content-Length: 5\r\n" END, 400, 0 },
		{ GET WANT "Content-Length: 00\r\n" END, 400, 0 },
		{ GET WANT "Content-Length: 0, 0\r\n" END, 400, 0 },
		{ GET WANT "Content-Length: \r\n" END, 400, 0 },
		{ GET WANT "Content-Length: -0\r\n" END, 400, 0 },
		{ GET WANT "content-length: 5\r\n" END, 400, 0 },
		{ GET WANT "Transfer-Encoding: chunked\r\n" END, 400, 0 },
		{ GET WANT "transfer-encoding:\r\n" END, 400, 0 },
		{ GET WANT "Content-Length: 0\r\n"
		    "Transfer-Encoding: chunked\r\n" END, 400, 0 },

		{ "PRI * HTTP/2.0\r\n" END, 505, 0 },
		{ "GET / HTTP/2.0\r\n" WANT END, 505, 0 },
		{ "GET / HTTP/0.9\r\n" WANT END, 505, 0 },
		{ "GET /healthz HTTP/3.0\r\n" HOST END, 505, 0 },

		{ "GET\r\n" WANT END, 400, 0 },
		{ "GET /\r\n" WANT END, 400, 0 },
		{ "GET \r\n" WANT END, 400, 0 },
		{ "GET  HTTP/1.1\r\n" WANT END, 400, 0 },
		{ "GET  / HTTP/1.1\r\n" WANT END, 400, 0 },
		{ "GET /  HTTP/1.1\r\n" WANT END, 400, 0 },
		{ "GET / HTTP/1.1 \r\n" WANT END, 400, 0 },
		{ " GET / HTTP/1.1\r\n" WANT END, 400, 0 },
		{ " / HTTP/1.1\r\n" WANT END, 400, 0 },
		{ "GET / / HTTP/1.1\r\n" WANT END, 400, 0 },
		{ "GET / HTTP/1.11\r\n" WANT END, 400, 0 },
		{ "GET / HTTP/1,1\r\n" WANT END, 400, 0 },
		{ "GET / HTTP/1.x\r\n" WANT END, 400, 0 },
		{ "GET / HTTP/x.1\r\n" WANT END, 400, 0 },
		{ "GET / http/1.1\r\n" WANT END, 400, 0 },
		{ "GET / HTTPS/1.1\r\n" WANT END, 400, 0 },
		{ "GET\t/ HTTP/1.1\r\n" WANT END, 400, 0 },
		{ "GET /\tHTTP/1.1\r\n" WANT END, 400, 0 },
		{ "GET /\tx HTTP/1.1\r\n" WANT END, 400, 0 },
		{ "GET /\xc3\xbc HTTP/1.1\r\n" WANT END, 400, 0 },
		{ "G(T / HTTP/1.1\r\n" WANT END, 400, 0 },
	};
	struct request q;
	const char *why;
	char esc[120], *p;
	size_t i, n;
	int good;

	for (i = 0; i < LEN(t); i++) {
		p = exact(t[i].in, n = strlen(t[i].in));
		good = head_take(p, n, &why) == (int)n;
		request_parse(p, &q);
		good &= q.status == t[i].status && q.head == t[i].head &&
		    (q.why || q.status < 400) &&
		    (!q.why || q.status != 200) &&
		    q.fields > p && q.fields < p + n && q.fields[-1] == '\n';
		ok(good, "request_parse: %d \"%s\"", t[i].status,
		    escape(esc, sizeof esc, p, n));
		free(p);
	}
}

/* /metrics, and in which format. */
static void
test_request_metrics(void)
{
	static const struct {
		const char *in;
		int metrics, open;
	} t[] = {
		{ "GET /metrics HTTP/1.1\r\n" HOST END, 1, 0 },
		{ "GET /metrics HTTP/1.0\r\n" END, 1, 0 },
		{ "GET /metrics/ HTTP/1.1\r\n" HOST END, 0, 0 },
		{ "GET /metrics? HTTP/1.1\r\n" HOST END, 1, 0 },
		{ "GET /metricsx HTTP/1.1\r\n" HOST END, 0, 0 },
		{ "GET /Metrics HTTP/1.1\r\n" HOST END, 0, 0 },
		{ "GET / HTTP/1.1\r\n" HOST END, 0, 0 },
		{ "HEAD /metrics HTTP/1.1\r\n" HOST END, 0, 0 },
		{ "POST /metrics HTTP/1.1\r\n" HOST END, 0, 0 },
		{ "GET /metrics HTTP/1.1\r\n" HOST
		    "Accept: application/openmetrics-text\r\n" END, 1, 1 },
		{ "GET /metrics HTTP/1.1\r\n" HOST "ACCEPT:a/b;q=1 , "
		    "application/openmetrics-text;version=1.0.0;q=0.5\r\n"
		    END, 1, 1 },
		{ "GET /metrics HTTP/1.1\r\n" HOST "Accept: text/plain\r\n"
		    "Accept: application/openmetrics-text\r\n" END, 1, 1 },
		{ "GET /metrics HTTP/1.1\r\n" HOST
		    "Accept: application/openmetrics\r\n" END, 1, 0 },
		{ "GET /metrics HTTP/1.1\r\n" HOST
		    "Accept: x/application/openmetrics-text\r\n" END, 1, 0 },
		{ "GET /metrics HTTP/1.1\r\n" HOST
		    "X-Accept: application/openmetrics-text\r\n" END, 1, 0 },
		{ "GET /metrics HTTP/1.1\r\n" HOST "Accept-Encoding: "
		    "application/openmetrics-text\r\n" END, 1, 0 },
		{ "GET /metrics HTTP/1.1\r\n" HOST "Accept:\r\n"
		    "Accept: ,, ,\r\n" END, 1, 0 },
	};
	struct request q;
	char esc[120], *p;
	size_t i, n;

	for (i = 0; i < LEN(t); i++) {
		p = exact(t[i].in, n = strlen(t[i].in));
		memset(&q, 0, sizeof q);
		ok(request_take(p, n, 0, &q) == (int)n &&
		    q.metrics == t[i].metrics && q.open == t[i].open,
		    "request: metrics %d, open %d \"%s\"", t[i].metrics,
		    t[i].open, escape(esc, sizeof esc, p, n));
		free(p);
	}
}

static void
test_request_take(void)
{
	static const struct {
		const char *in, *rest;		/* rest is not of the head */
		int late, whole, status;
	} t[] = {
		{ "", "", 0, 0, 0 }, { "", "", 1, 0, 408 },
		{ "G", "", 0, 0, 0 }, { "G", "", 1, 0, 408 },
		{ GET WANT, "", 0, 0, 0 }, { GET WANT, "", 1, 0, 408 },
		{ GET WANT "\r", "", 0, 0, 0 },
		{ GET WANT "\r", "", 1, 0, 408 },
		{ GET WANT END, "", 0, 1, 101 },
		{ GET WANT END, "", 1, 1, 101 },
		{ GET WANT END, "MSSH/2 agent a\n", 0, 1, 101 },
		{ GET WANT END, "\r\n\r\n", 1, 1, 101 },
		{ GET HOST END, "", 0, 1, 426 },
		{ "GET /healthz HTTP/1.1\r\n" HOST END, "\n", 0, 1, 200 },
		{ GET END, "", 0, 1, 400 },
		{ "PRI * HTTP/2.0\r\n" END, "SM\r\n", 0, 1, 505 },
		{ "GET / HTTP/1.1\n", "", 0, 0, 400 },
		{ "GET / HTTP/1.1\n", "", 1, 0, 400 },
		{ GET "a\r\n", "", 0, 0, 400 },
		{ GET " a: b\r\n", "", 0, 0, 400 },
		{ "\r\n", "", 0, 0, 400 }, { "\r", "", 0, 0, 0 },
		{ "GET /\33", "", 0, 0, 400 }, { "\r\r", "", 1, 0, 400 },
	};
	static char big[HEAD_LEN + 1];
	struct request q;
	char esc[120], *p;
	size_t i, k, n, m;
	int got, good;

	for (i = 0; i < LEN(t); i++) {
		n = strlen(t[i].in);
		p = exact(cat(t[i].in, t[i].rest), m = n + strlen(t[i].rest));
		q = (struct request){ .why = NULL };
		got = request_take(p, m, t[i].late, &q);
		good = got == (t[i].whole ? (int)n : 0) &&
		    q.status == t[i].status && (q.status < 400 || q.why);
		good &= !t[i].whole || q.fields == strchr(p, '\n') + 1;
		for (k = 0; t[i].whole && k < n; k++) {
			q.status = 0;
			good &= !request_take(p, k, 0, &q) && !q.status;
			good &= !request_take(p, k, 1, &q) && q.status == 408;
		}
		ok(good, "request_take: %d%s \"%s\"", t[i].status,
		    t[i].late ? ", late" : "", escape(esc, sizeof esc, p, m));
		free(p);
	}
	memset(big, 'x', sizeof big);
	for (i = 0; i < 2; i++) {
		q.status = 0;
		ok(!request_take(big, HEAD_LEN - 1, i, &q) &&
		    q.status == (i ? 408 : 0), "request_take: 4095 bytes%s",
		    i ? ", late" : "");
		q.status = 0;
		ok(!request_take(big, HEAD_LEN + i, i, &q) && q.status == 431,
		    "request_take: %d bytes are too long", HEAD_LEN + (int)i);
	}
}

static void
test_response(void)
{
	static const struct {
		const char *in;
		long status;		/* 0: none */
		int mssh;
	} t[] = {
		{ "HTTP/1.1 101 Switching Protocols\r\n" CONN UPGR END, 101,
		    1 },
		{ "HTTP/1.1 101 \r\nupgrade: x, MSSH\r\n" END, 101, 1 },
		{ "HTTP/1.1 101\r\n" UPGR END, 101, 1 },
		{ "HTTP/1.1 101 x\r\nUpgrade: websocket\r\n" END, 101, 0 },
		{ "HTTP/1.1 101 x\r\nX: Upgrade: mssh\r\n" END, 101, 0 },
		{ "HTTP/1.1 101 x\r\nX: mssh\r\n" END, 101, 0 },
		{ "HTTP/1.0 200 OK\r\n" END, 200, 0 },
		{ "HTTP/1.1 599 x\r\n" END, 599, 0 },
		{ "HTTP/1.1 100 x\r\n" END, 100, 0 },
		{ "HTTP/1.1 099 x\r\n" END, 0, 0 },
		{ "HTTP/1.1 600 x\r\n" END, 0, 0 },
		{ "HTTP/1.1 20 x\r\n" END, 0, 0 },
		{ "HTTP/1.1 2000 x\r\n" END, 0, 0 },
		{ "HTTP/1.1 +20 x\r\n" END, 0, 0 },
		{ "HTTP/1.1  200 x\r\n" END, 0, 0 },
		{ "HTTP/1.1\t200 x\r\n" END, 0, 0 },
		{ "HTTP/1.1 200\tx\r\n" END, 0, 0 },
		{ "HTTP/1.1 20\r\n" END, 0, 0 },
		{ "HTTP/1.\xff 200 x\r\n" END, 0, 0 },
		{ "HTTP/2.0 200 x\r\n" END, 0, 0 },
		{ "http/1.1 200 x\r\n" END, 0, 0 },
		{ "x\r\n" END, 0, 0 }, { "MSSH/2\r\n" END, 0, 0 },
	};
	struct response r;
	char esc[100], *p;
	size_t i, k, n;
	int good, got;

	for (i = 0; i < LEN(t); i++) {
		p = exact(t[i].in, n = strlen(t[i].in));
		got = response_take(p, n, &r);
		good = t[i].status ? got == (int)n && r.status == t[i].status &&
		    r.mssh == t[i].mssh : got == -1;
		for (k = 7; t[i].status && k < n; k++)
			good &= response_take(p, k, &r) == 0;
		ok(good, "response_take: %ld \"%s\"", t[i].status,
		    escape(esc, sizeof esc, p, n));
		free(p);
	}
	p = exact(t[0].in, strlen(t[0].in));
	p[20] = (char)0x9b;
	ok(response_take(p, strlen(t[0].in), &r) > 0 && !strcmp(r.line,
	    "HTTP/1.1 101 Switchi\\x9bg Protocols"),
	    "response_take: its first line is printable");
	free(p);
}

/* "addr port", or "-" */
static const char *
origin_str(const struct peer *o)
{
	static char buf[INET6_ADDRSTRLEN + 8];

	if (!has_addr(o))
		return "-";
	ip_str(o->ip, buf);
	sprintf(buf + strlen(buf), " %d", o->port);
	return buf;
}

static void
test_origin_parse(void)
{
	static const struct {
		const char *in, *want;
	} t[] = {
		{ "1.2.3.4", "1.2.3.4 0" }, { "1.2.3.4:5", "1.2.3.4 5" },
		{ "1.2.3.4:65535", "1.2.3.4 65535" },
		{ "::1", "::1 0" }, { "[::1]", "::1 0" },
		{ "[2001:DB8::1]:47011", "2001:db8::1 47011" },
		{ "::ffff:1.2.3.4", "1.2.3.4 0" },
		{ "[::ffff:1.2.3.4]:9", "1.2.3.4 9" },
		{ "1::", "1:: 0" }, { "1::1:80", "1::1:80 0" },
		{ "", "-" }, { "unknown", "-" }, { "_hidden", "-" },
		{ ":", "-" }, { ":1", "-" }, { "::", "-" }, { "[::]:1", "-" },
		{ "[", "-" }, { "[]", "-" }, { "]", "-" }, { "[::12", "-" },
		{ "1.2.3.4:_x9", "-" }, { "[::1]:_x", "-" },
		{ "::1]", "-" }, { "[::1]x", "-" }, { "[::1]:", "-" },
		{ "[[::1]]", "-" }, { "1.2.3.4:", "-" },
		{ "1.2.3.4:65536", "-" }, { "1.2.3.4:-1", "-" },
		{ "1.2.3.4:1:2", "-" }, { "1.2.3.4 ", "-" },
		{ " 1.2.3.4", "-" },
		{ "1.2.3.4x", "-" }, { "1.2.3", "-" }, { "1.2.3.04", "-" },
		{ "0x1.2.3.4", "-" }, { "16909060", "-" },
		{ "1.2.3.4/32", "-" }, { "fe80::1%lo", "-" },
		{ "localhost", "-" }, { "\"1.2.3.4\"", "-" },
		{ "1111:2222:3333:4444:5555:6666:7777:8888:9999", "-" },
	};
	struct peer o;
	char *p;
	size_t i;
	int r;

	for (i = 0; i < LEN(t); i++) {
		p = exact(t[i].in, strlen(t[i].in));
		r = origin_parse(p, strlen(t[i].in), &o);
		ok(!strcmp(origin_str(&o), t[i].want) && (r == 0) == has_addr(&o),
		    "origin_parse \"%s\": %s", t[i].in, t[i].want);
		free(p);
	}
	ok(origin_parse(rep('1', 63), 63, &o) && origin_parse(rep('[', 64), 64,
	    &o) && origin_parse(rep(':', 1000), 1000, &o),
	    "origin_parse: much too long");
}

static void
test_go_parse(void)
{
	static const struct {
		const char *in;
		uint64_t id;
		const char *from, *key;
	} t[] = {
		{ "GO id=1f from=1.2.3.4:5 key=k", 0x1f, "1.2.3.4:5", "k" },
		{ "GO  key=A.b_c-1  from=[2001:db8::1]:65535 id=F", 15,
		    "[2001:db8::1]:65535", "A.b_c-1" },
		{ "GO x=1 id=ffffffffffffffff from=1.2.3.4 y", UINT64_MAX,
		    "1.2.3.4", "" },
		{ "GO from=::1", 0, "[::1]", "" },
		{ "GO from=::ffff:1.2.3.4", 0, "1.2.3.4", "" },
		{ "GO key=k", 0, "unix", "k" }, { "GO id=1", 1, "unix", "" },
		{ "GO", 0, "unix", "" }, { "", 0, "unix", "" },
		{ "GO id= from= key=", 0, "unix", "" },
		{ "GO id from key", 0, "unix", "" },
		{ "GO xid=1 xfrom=::1 xkey=k", 0, "unix", "" },
		{ "GO id=1g from=1.2.3.4 key=k", 0, "1.2.3.4", "k" },
		{ "GO id=11111111111111111", 0, "unix", "" },
		{ "GO id=x id=1 from=x from=::1 key=/ key=k", 0, "unix", "" },
		{ "GO id=1 from=unix key=k", 1, "unix", "k" },
		{ "GO from=::", 0, "unix", "" },
		{ "GO from=[::]:5", 0, "unix", "" },
		{ "GO from=1.2.3.4:65536", 0, "unix", "" },
		{ "GO from=1.2.3:5", 0, "unix", "" },
		{ "GO from=a.test:5", 0, "unix", "" },
		{ "GO key=-k", 0, "unix", "" }, { "GO key=.k", 0, "unix", "" },
		{ "GO key=k/", 0, "unix", "" }, { "GO key=k*", 0, "unix", "" },
		{ "GO key=k=k", 0, "unix", "" },
	};
	char b[PEER_LEN], key[KEY_LEN + 2];
	struct peer p;
	uint64_t id;
	size_t i;

	for (i = 0; i < LEN(t); i++) {
		memset(&p, 'Z', sizeof p);
		memset(key, 'Z', sizeof key);
		id = 77;
		go_parse(t[i].in, &id, &p, key);
		ok(id == t[i].id && !strcmp(peer_write(&p, b), t[i].from) &&
		    !strcmp(key, t[i].key), "go_parse: \"%s\"", t[i].in);
	}
	key[KEY_LEN + 1] = 'Z';
	go_parse(cat("GO key=", rep('k', KEY_LEN)), &id, &p, key);
	ok(!strcmp(key, rep('k', KEY_LEN)) && key[KEY_LEN + 1] == 'Z',
	    "go_parse: a key of 32");
	go_parse(cat("GO key=", rep('k', KEY_LEN + 1)), &id, &p, key);
	ok(!*key && key[KEY_LEN + 1] == 'Z', "go_parse: a key of 33");
	go_parse(cat("GO from=", rep('1', ADDR_LEN)), &id, &p, key);
	ok(is_unix(&p), "go_parse: an address that is too long");
}

/* Fronts are 10.0.0.0/8 and fd00::/8. */
static void
test_head_origin(void)
{
	static const struct {
		const char *fields, *want;
	} t[] = {
#define X "X-Forwarded-For: "
		{ "", "-" }, { X "\r\n", "-" },
		{ X "1.2.3.4\r\n", "1.2.3.4 0" },
		{ "x-forwarded-FOR:1.2.3.4:5\r\n", "1.2.3.4 5" },
		{ X "9.9.9.9, 1.2.3.4\r\n", "1.2.3.4 0" },
		{ X "9.9.9.9\r\n" X "1.2.3.4\r\n", "1.2.3.4 0" },
		{ X "1.2.3.4, 10.0.0.1\t,10.2.2.2\r\n", "1.2.3.4 0" },
		{ X "1.2.3.4\r\n" X "10.0.0.1\r\n" X "fd00::1\r\n",
		    "1.2.3.4 0" },
		{ X "10.0.0.1, 9.9.9.9, 1.2.3.4, 10.0.0.2\r\n", "1.2.3.4 0" },
		{ X "10.0.0.1, 10.0.0.2\r\n", "10.0.0.1 0" },
		{ X "2001:db8::1\r\n", "2001:db8::1 0" },
		{ X ", 1.2.3.4, , 10.0.0.1,\r\n", "1.2.3.4 0" },
		{ X "nonsense, 1.2.3.4\r\n", "1.2.3.4 0" },
		{ X "1.2.3.4, nonsense\r\n", "-" },
		{ X "1.2.3.4\r\n" X "unknown\r\n", "-" },
		{ X "1.2.3.4\r\n" X "::\r\n", "-" },
		{ X "\"1.2.3.4\"\r\n", "-" },
		{ "X-Forwarded-Fo: 1.2.3.4\r\n", "-" },
		{ "X_Forwarded_For: 1.2.3.4\r\n", "-" },
		{ "X-Forwarded-For-: 1.2.3.4\r\n", "-" },
		{ "Forwarded: for=1.2.3.4\r\n", "-" },
#undef X
	};
	struct net fronts[2];
	struct peer o;
	const char *why;
	char esc[120], s[512], *p;
	size_t i, n;
	int good;

	if (net_parse("10.0.0.0/8", &fronts[0]) < 0 ||
	    net_parse("fd00::/8", &fronts[1]) < 0)
		abort();
	for (i = 0; i < LEN(t); i++) {
		n = snprintf(s, sizeof s, GET "%s" END, t[i].fields);
		p = exact(s, n);
		good = head_take(p, n, &why) == (int)n;
		memset(&o, 1, sizeof o);
		head_origin(p + sizeof GET - 1, fronts, 2, &o);
		good &= !strcmp(origin_str(&o), t[i].want);
		ok(good, "head_origin: %s \"%s\"", t[i].want, escape(esc,
		    sizeof esc, t[i].fields, strlen(t[i].fields)));
		free(p);
	}
}

/* As take_split(), for headers of the PROXY protocol. */
static int
proxy_split(const char *b, size_t n, int want, struct peer *o)
{
	size_t k;
	char *p;
	int r = 0, was = 0, good = 1;

	for (k = 0; k <= n; k++, was = r) {
		p = exact(b, k);
		memset(o, 1, sizeof *o);
		r = proxy_take(p, k, o);
		free(p);
		good &= want > 0 ? r == (k < (size_t)want ? 0 : want) :
		    r == 0 || r == want;
		good &= (!was || r == was) && (r > 0 || !has_addr(o));
	}
	return good && r == want;
}

static void
test_proxy_line(void)
{
	static const struct {
		const char *in, *want;		/* "-": unknown, NULL: -1 */
	} t[] = {
		{ "PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\nMSSH/2", "1.2.3.4 9" },
		{ "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
		    "255.255.255.255 65535" },
		{ "PROXY TCP6 2001:db8::1 ::1 0 0\r\n", "2001:db8::1 0" },
		{ "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
		    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
		    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535" },
		{ "PROXY TCP6 ::ffff:1.2.3.4 ::1 5 6\r\n", "1.2.3.4 5" },
		{ "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255 "
		    "::1 5 6\r\n",
		    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 5" },
		{ "PROXY TCP4 1.2.3.4 5.6.7.8 9 00000000000000000000000000000"
		    "00000000000000000000000000000000000001\r\n", NULL },
		{ "PROXY TCP6 :: :: 0 0\r\n", "-" },
		{ "PROXY UNKNOWN\r\n", "-" },
		{ "PROXY UNKNOWN 1.2.3.4 5.6.7.8 9 10\r\nx", "-" },
		{ "PROXY UNKNOWN anything at all\r\n", "-" },
		{ "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
		    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
		    "-" },
		{ "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
		    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 655356\r\n",
		    NULL },
		{ "PROXY UNKNOWNS\r\n", NULL }, { "PROXY\r\n", NULL },
		{ "PROXY \r\n", NULL }, { "PROXY TCP4\r\n", NULL },
		{ "PROXY TCP4 \r\n", NULL }, { "PROXY TCP5 1.2.3.4\r\n", NULL },
		{ "PROXY UDP4 1.2.3.4 5.6.7.8 9 10\r\n", NULL },
		{ "PROXY tcp4 1.2.3.4 5.6.7.8 9 10\r\n", NULL },
		{ "proxy TCP4 1.2.3.4 5.6.7.8 9 10\r\n", NULL },
		{ " PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n", NULL },
		{ "PROXY  TCP4 1.2.3.4 5.6.7.8 9 10\r\n", NULL },
		{ "PROXY TCP4  1.2.3.4 5.6.7.8 9 10\r\n", NULL },
		{ "PROXY TCP4 1.2.3.4  5.6.7.8 9 10\r\n", NULL },
		{ "PROXY TCP4 1.2.3.4 5.6.7.8 9 10 \r\n", NULL },
		{ "PROXY TCP4 1.2.3.4 5.6.7.8 9 10 11\r\n", NULL },
		{ "PROXY TCP4 1.2.3.4 5.6.7.8 9\r\n", NULL },
		{ "PROXY TCP4 1.2.3.4 5.6.7.8 9 \r\n", NULL },
		{ "PROXY TCP4 1.2.3.4 5.6.7.8 65536 10\r\n", NULL },
		{ "PROXY TCP4 1.2.3.4 5.6.7.8 9 65536\r\n", NULL },
		{ "PROXY TCP4 1.2.3.4 5.6.7.8 -9 10\r\n", NULL },
		{ "PROXY TCP4 1.2.3.4 ::1 9 10\r\n", NULL },
		{ "PROXY TCP4 ::1 1.2.3.4 9 10\r\n", NULL },
		{ "PROXY TCP6 1.2.3.4 5.6.7.8 9 10\r\n", NULL },
		{ "PROXY TCP6 ::1 5.6.7.8 9 10\r\n", NULL },
		{ "PROXY TCP6 [::1] ::1 9 10\r\n", NULL },
		{ "PROXY TCP4 1.2.3 5.6.7.8 9 10\r\n", NULL },
		{ "PROXY TCP4 1.2.3.4 5.6.7 9 10\r\n", NULL },
		{ "PROXY TCP4 01.2.3.4 5.6.7.8 9 10\r\n", NULL },
		{ "PROXY TCP4 1.2.3.4 5.6.7.8 9 10\n", NULL },
		{ "PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\r\n", NULL },
		{ "PROXY TCP4 1.2.3.4 5.6.7.8 9 10\rx", NULL },
		{ "PROXY TCP4 1.2.3.4\t5.6.7.8 9 10\r\n", NULL },
		{ "PROXY UNKNOWN \x1b[31m\r\n", NULL },
		{ "POST / HTTP/1.1\r\n", NULL }, { "PRI ", NULL },
		{ "GET / HTTP/1.1\r\n", NULL }, { "MSSH/2 x", NULL },
		{ "SSH-2.0-x\r\n", NULL }, { "\x16\x03\x01", NULL },
	};
	struct peer o;
	const char *end;
	char esc[120];
	size_t i;
	int good;

	for (i = 0; i < LEN(t); i++) {
		end = strchr(t[i].in, '\n');
		good = proxy_split(t[i].in, strlen(t[i].in), t[i].want ?
		    (int)(end - t[i].in) + 1 : -1, &o);
		ok(good && (!t[i].want || !strcmp(origin_str(&o), t[i].want)),
		    "proxy_take: %s \"%s\"", t[i].want ? t[i].want : "refused",
		    escape(esc, sizeof esc, t[i].in, strlen(t[i].in)));
	}
	ok(!proxy_take("PROXY TCP", 9, &o) &&
	    !proxy_take("PROXY UNKNOWN\r", 14, &o),
	    "proxy_take: half a line wants more");
	end = cat("PROXY UNKNOWN ", rep('x', 200));
	ok(proxy_split(end, 106, 0, &o) && proxy_split(end, 107, -1, &o),
	    "proxy_take: 107 bytes without an end are too many");
}

static void
test_proxy_block(void)
{
	static const struct {
		int command, family, len;
		const char *want;		/* "-": unknown, NULL: -1 */
	} t[] = {
		{ 0x21, 0x11, 12, "1.2.3.4 2314" },
		{ 0x21, 0x11, 40, "1.2.3.4 2314" },
		{ 0x21, 0x21, 36, "102:304:506:708:90a:b0c:d0e:f10 8482" },
		{ 0x21, 0x21, 99, "102:304:506:708:90a:b0c:d0e:f10 8482" },
		{ 0x21, 0x11, 4080, "1.2.3.4 2314" },
		{ 0x21, 0x00, 0, "-" }, { 0x21, 0x00, 50, "-" },
		{ 0x21, 0x01, 0, "-" }, { 0x21, 0x10, 12, "-" },
		{ 0x21, 0x12, 12, "-" }, { 0x21, 0x22, 36, "-" },
		{ 0x21, 0x31, 216, "-" }, { 0x21, 0x32, 217, "-" },
		{ 0x20, 0x00, 0, "-" }, { 0x20, 0x11, 12, "-" },
		{ 0x20, 0x11, 0, "-" }, { 0x20, 0xff, 7, "-" },
		{ 0x21, 0x11, 11, NULL }, { 0x21, 0x11, 0, NULL },
		{ 0x21, 0x21, 35, NULL }, { 0x21, 0x31, 215, NULL },
		{ 0x21, 0x13, 12, NULL }, { 0x21, 0x41, 40, NULL },
		{ 0x21, 0x1f, 12, NULL }, { 0x21, 0xf1, 12, NULL },
		{ 0x22, 0x11, 12, NULL }, { 0x2f, 0x00, 0, NULL },
		{ 0x11, 0x11, 12, NULL }, { 0x01, 0x11, 12, NULL },
		{ 0x31, 0x11, 12, NULL }, { 0x21, 0x11, 4081, NULL },
		{ 0x20, 0x00, 65535, NULL },
	};
	static char b[16 + 65535 + 3];
	struct peer o;
	size_t i, k, n;
	int good;

	memcpy(b, "\r\n\r\n\0\r\nQUIT\n", 12);
	for (i = 16; i < sizeof b; i++)
		b[i] = (char)(i - 15);
	for (i = 0; i < LEN(t); i++) {
		b[12] = (char)t[i].command;
		b[13] = (char)t[i].family;
		b[14] = (char)(t[i].len >> 8);
		b[15] = (char)t[i].len;
		n = 16 + t[i].len;
		good = proxy_split(b, n > 5000 ? 5000 : n + 3, t[i].want ?
		    (int)n : -1, &o);
		ok(good && (!t[i].want || !strcmp(origin_str(&o), t[i].want)),
		    "proxy_take: %x %x %d: %s", t[i].command, t[i].family,
		    t[i].len, t[i].want ? t[i].want : "refused");
	}
	b[12] = 0x21, b[13] = 0x11, b[14] = 0, b[15] = 12;
	for (i = 0, good = 1; i < 12; i++) {
		b[i] ^= 0x20;
		for (k = 0; k < 28; k++)
			good &= proxy_take(b, k, &o) == (k <= i ? 0 : -1);
		b[i] ^= 0x20;
	}
	ok(good, "proxy_take: another signature");
	memset(b + 16, 0, 36);
	b[13] = 0x21, b[15] = 36;
	ok(proxy_take(b, 52, &o) == 52 && !has_addr(&o),
	    "proxy_take: the address :: is nobody's");
}

/* ---- the way to a server ---- */

static void
test_url(void)
{
	static const struct {
		const char *in;
		int scheme;			/* -1: no URL of ours */
		const char *host, *port, *path;
	} t[] = {
		{ "a", S_TCP, "a", "8443", "" },
		{ "a:1", S_TCP, "a", "1", "" },
		{ "[::1]:1", S_TCP, "::1", "1", "" },
		{ "tls://a", S_TLS, "a", "443", "/" },
		{ "tls://a/", S_TLS, "a", "443", "/" },
		{ "tls://a:1", S_TLS, "a", "1", "/" },
		{ "tls://[::1]", S_TLS, "::1", "443", "/" },
		{ "http://a", S_HTTP, "a", "80", "/" },
		{ "http://a?x=1", S_HTTP, "a", "80", "/?x=1" },
		{ "http://a/b/c?d#e", S_HTTP, "a", "80", "/b/c?d" },
		{ "https://a:8/b", S_HTTPS, "a", "8", "/b" },
		{ "https://[2001:db8::1]/b", S_HTTPS, "2001:db8::1", "443",
		    "/b" },
		{ "unix:/run/x.sock", S_UNIX, "unix", "", "/run/x.sock" },
		{ "unix", S_TCP, "unix", "8443", "" },
		{ "http", S_TCP, "http", "8443", "" },
		{ "", -1, 0, 0, 0 }, { "tls://", -1, 0, 0, 0 },
		{ "tls://a/b", -1, 0, 0, 0 }, { "tls://a?b", -1, 0, 0, 0 },
		{ "https://", -1, 0, 0, 0 }, { "https:///x", -1, 0, 0, 0 },
		{ "https://u:p@a/", -1, 0, 0, 0 },
		{ "https://a:0/", -1, 0, 0, 0 },
		{ "https://a:/", -1, 0, 0, 0 },
		{ "https://-a/", -1, 0, 0, 0 },
		{ "https://a;id/", -1, 0, 0, 0 },
		{ "https://a/ b", -1, 0, 0, 0 },
		{ "https://a/\r\nX:", -1, 0, 0, 0 },
		{ "https://a/\x7f", -1, 0, 0, 0 },
		{ "https://a/\xc3\xa4", -1, 0, 0, 0 },
		{ "ws://a/", -1, 0, 0, 0 },
		{ "HTTP://a/", S_HTTP, "a", "80", "/" },
		{ "unix:", -1, 0, 0, 0 }, { "unix:x", -1, 0, 0, 0 },
	};
	struct url u;
	size_t i;
	int got;

	for (i = 0; i < LEN(t); i++) {
		got = url_parse(t[i].in, &u) < 0 ? -1 : (int)u.scheme;
		ok(got == t[i].scheme && (got < 0 ||
		    (!strcmp(u.host, t[i].host) && !strcmp(u.port, t[i].port) &&
		    !strcmp(u.path, t[i].path))), "url_parse: row %d",
		    (int)i + 1);
	}
	is_num(url_parse(cat("http://a/", rep('x', PATH_LEN - 3)), &u), 0,
	    "url_parse: the longest path");
	is_num(strlen(u.path), PATH_LEN - 2, "url_parse: all of it");
	is_num(url_parse(cat("http://a/", rep('x', PATH_LEN - 2)), &u), -1,
	    "url_parse: one longer");
	is_num(url_parse(cat("http://a", cat("?", rep('x', PATH_LEN - 3))),
	    &u), 0, "url_parse: the longest one without a /");
	is_num(strlen(u.path), PATH_LEN - 1, "url_parse: all of that");
	is_num(url_parse(cat("tls://", rep('a', HOST_LEN)), &u), 0,
	    "url_parse: the longest host");
	is_num(url_parse(cat("tls://", rep('a', HOST_LEN + 1)), &u), -1,
	    "url_parse: one longer");
	is_num(url_parse(cat("https://", rep('a', 900)), &u), -1,
	    "url_parse: much longer");
}

static void
test_proxy(void)
{
	static const struct {
		const char *in;
		enum proxy_kind kind;		/* PX_NONE: malformed */
		const char *host, *port, *user, *pass;
	} t[] = {
		{ "a", PX_HTTP, "a", "1080", "", "" },
		{ "a:3128", PX_HTTP, "a", "3128", "", "" },
		{ "http://a:3128/", PX_HTTP, "a", "3128", "", "" },
		{ "http://[::1]:3128", PX_HTTP, "::1", "3128", "", "" },
		{ "https://a", PX_HTTPS, "a", "443", "", "" },
		{ "HTTPS://u:p@a/", PX_HTTPS, "a", "443", "u", "p" },
		{ "https://u:p@[::1]:8443", PX_HTTPS, "::1", "8443", "u", "p" },
		{ "socks://127.0.0.1:1080/", PX_SOCKS5, "127.0.0.1", "1080",
		    "", "" },
		{ "socks://u:p@a", PX_SOCKS5, "a", "1080", "u", "p" },
		{ "socks5://a", PX_SOCKS5, "a", "1080", "", "" },
		{ "socks5h://a:1", PX_SOCKS5, "a", "1", "", "" },
		{ "socks5h://u:p%40@a", PX_SOCKS5, "a", "1080", "u", "p@" },
		{ "SOCKS5://a", PX_SOCKS5, "a", "1080", "", "" },
		{ "socks4://a", PX_SOCKS4, "a", "1080", "", "" },
		{ "socks4://u@a:9", PX_SOCKS4, "a", "9", "u", "" },
		{ "socks4a://a", PX_SOCKS4A, "a", "1080", "", "" },
		{ "socks4a://u:p@a/", PX_SOCKS4A, "a", "1080", "u", "p" },
		{ "http://u@a", PX_HTTP, "a", "1080", "u", "" },
		{ "http://u:@a", PX_HTTP, "a", "1080", "u", "" },
		{ "u:p@a:1", PX_HTTP, "a", "1", "u", "p" },
		{ "http://u:p:q@a", PX_HTTP, "a", "1080", "u", "p:q" },
		{ "http://u:p@q@a", PX_HTTP, "a", "1080", "u", "p@q" },
		{ "http://%75:%40%3a%2F%25@a", PX_HTTP, "a", "1080", "u",
		    "@:/%" },
		{ "http://:p@a", PX_HTTP, "a", "1080", "", "p" },
		{ "http://@a", PX_HTTP, "a", "1080", "", "" },
		{ "http://u:p%c3%a4@a", PX_HTTP, "a", "1080", "u",
		    "p\xc3\xa4" },
		{ "", 0, 0, 0, 0, 0 }, { "http://", 0, 0, 0, 0, 0 },
		{ "https://", 0, 0, 0, 0, 0 }, { "socks://", 0, 0, 0, 0, 0 },
		{ "ftp://a", 0, 0, 0, 0, 0 }, { "socks6://a", 0, 0, 0, 0, 0 },
		{ "socks4b://a", 0, 0, 0, 0, 0 }, { "://a", 0, 0, 0, 0, 0 },
		{ "direct://", 0, 0, 0, 0, 0 },
		{ "u:p@http://a", 0, 0, 0, 0, 0 },
		{ "http://u:p@", 0, 0, 0, 0, 0 },
		{ "http://u:p/q@a", 0, 0, 0, 0, 0 },
		{ "http://u:1/q@a", 0, 0, 0, 0, 0 },
		{ "http://u:p%0d%0a@a", 0, 0, 0, 0, 0 },
		{ "http://u%00:p@a", 0, 0, 0, 0, 0 },
		{ "http://u:100%@a", 0, 0, 0, 0, 0 },
		{ "http://u:%4@a", 0, 0, 0, 0, 0 },
		{ "http://u:%zz@a", 0, 0, 0, 0, 0 },
		{ "http://a:0", 0, 0, 0, 0, 0 },
		{ "http://a b", 0, 0, 0, 0, 0 },
	};
	struct proxy x;
	const char *why;
	size_t i;
	int got;

	for (i = 0; i < LEN(t); i++) {
		why = NULL;
		got = proxy_parse(t[i].in, &x, &why);
		ok(x.kind == t[i].kind && (got < 0) == !x.kind && (got < 0 ?
		    why != NULL :
		    (!strcmp(x.host, t[i].host) && !strcmp(x.port, t[i].port) &&
		    !strcmp(x.user, t[i].user) &&
		    !strcmp(x.pass, t[i].pass))), "proxy_parse: row %d",
		    (int)i + 1);
	}
	is_num(proxy_parse(cat(cat(rep('u', 127), ":"),
	    cat(rep('p', 127), "@a")), &x, &why), 0,
	    "proxy_parse: the longest");
	is_num(strlen(x.user) + strlen(x.pass), 254, "proxy_parse: all of it");
	is_num(proxy_parse(cat(rep('u', 128), "@a"), &x, &why), -1,
	    "proxy_parse: a longer user");
	is_num(proxy_parse(cat(cat("u:", rep('p', 128)), "@a"), &x, &why), -1,
	    "proxy_parse: a longer password");
	is_num(proxy_parse(rep('a', 900), &x, &why), -1,
	    "proxy_parse: a longer host");
}

static void
test_requests(void)
{
	static const struct {
		const char *where, *user, *pass, *connect, *upgrade;
	} t[] = {
		{ "http://a/x", "", "", "CONNECT a:80 HTTP/1.1\r\n"
		    "Host: a:80\r\n\r\n", "GET /x HTTP/1.1\r\nHost: a\r\n" },
		{ "https://a", "", "", "CONNECT a:443 HTTP/1.1\r\n"
		    "Host: a:443\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n" },
		{ "https://a:80/?q", "u", "", "CONNECT a:80 HTTP/1.1\r\n"
		    "Host: a:80\r\nProxy-Authorization: Basic dTo=\r\n\r\n",
		    "GET /?q HTTP/1.1\r\nHost: a:80\r\n" },
		{ "http://[::1]:443", "test", "123\xc2\xa3",
		    "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n"
		    "Proxy-Authorization: Basic dGVzdDoxMjPCow==\r\n\r\n",
		    "GET / HTTP/1.1\r\nHost: [::1]:443\r\n" },
		{ "[::1]", "", "p", "CONNECT [::1]:8443 HTTP/1.1\r\n"
		    "Host: [::1]:8443\r\n\r\n", NULL },
		{ "tls://a", "", "", "CONNECT a:443 HTTP/1.1\r\n"
		    "Host: a:443\r\n\r\n", NULL },
	};
	static const char rest[] = "Connection: Upgrade\r\n"
	    "Upgrade: mssh\r\nUser-Agent: mssh/0.9\r\n\r\n";
	struct proxy x = { .kind = PX_HTTP };
	struct url u;
	char b[1500];
	size_t i, n;

	for (i = 0; i < LEN(t); i++) {
		strcpy(x.user, t[i].user);
		strcpy(x.pass, t[i].pass);
		n = url_parse(t[i].where, &u) < 0 ? 0 :
		    connect_request(&u, &x, b, sizeof b);
		is(b, t[i].connect, "connect_request");
		is_num((long)n, (long)strlen(b), "connect_request: its length");
		if (!t[i].upgrade)
			continue;
		n = upgrade_request(&u, "0.9", b, sizeof b);
		is(b, cat(t[i].upgrade, rest), "upgrade_request");
		is_num((long)n, (long)strlen(b), "upgrade_request: its length");
	}
	memset(x.user, 'u', sizeof x.user - 1);
	memset(x.pass, 'p', sizeof x.pass - 1);
	url_parse(cat(cat("http://", rep('a', HOST_LEN)), cat(":",
	    cat(rep('1', 32), cat("/", rep('x', PATH_LEN - 3))))), &u);
	strcpy(u.host, rep('a', HOST_LEN));
	strcpy(u.port, rep('b', 32));
	strcpy(u.path, rep('x', PATH_LEN - 1));
	n = connect_request(&u, &x, b, sizeof b);
	ok(n < 1400 && !strcmp(b + n - 4, "\r\n\r\n"),
	    "connect_request: the longest");
	n = upgrade_request(&u, "10.10.10", b, sizeof b);
	ok(n < 1400 && !strcmp(b + n - 4, "\r\n\r\n"),
	    "upgrade_request: the longest");
}

static void
test_url_str(void)
{
	static const struct {
		const char *in, *want;
	} t[] = {
		{ "a", "a:8443" }, { "A.:1", "A.:1" }, { "::1", "[::1]:8443" },
		{ "[fe80::1%lo]:9", "[fe80::1%lo]:9" },
		{ "tls://a", "tls://a:443" }, { "TLS://a/", "tls://a:443" },
		{ "http://a", "http://a:80/" },
		{ "https://a?b#c", "https://a:443/?b" },
		{ "unix:/run/x", "unix:/run/x" },
	}, mask[] = {
		{ "https://bob:secret@host/x", "https://***@host/x" },
		{ "https://bob:sec/r@t@host/x", "https://***@host/x" },
		{ "https:/bob:secret@host", "***@host" },
		{ "bob:secret@host", "***@host" },
		{ "bob:sec://ret@host", "***@host" },
		{ "https//bob:secret@host", "***@host" },
		{ "https://a@b://c:d@host", "https://***@host" },
		{ "https://host/x y", "https://host/x y" },
		{ "secret@://x", "***@://x" }, { "://bob:x@y", "***@y" },
		{ "", "" }, { "@", "@" }, { "a@b", "a@b" }, { ":@", "***@" },
		{ "a:@", "***@" }, { "@:", "***@:" }, { "http://", "http://" },
		{ "\33:[2J@\33", "***@\\x1b" }, { "\33@", "\\x1b@" },
	};
	struct url u;
	char b[URL_LEN], c[24];
	size_t i;

	for (i = 0; i < LEN(t); i++) {
		ok(!url_parse(t[i].in, &u), "url_str: %s", t[i].in);
		is(url_str(&u, b, sizeof b), t[i].want, "url_str: normal form");
	}
	for (i = 0; i < LEN(mask); i++) {
		url_mask(mask[i].in, b, sizeof b);
		is(b, mask[i].want, "url_mask");
	}
	memset(c, '#', sizeof c);
	url_mask("https://bob:secret@host.example/x", c, 16);
	ok(strlen(c) < 16 && c[16] == '#' && !strstr(c, "secret"),
	    "url_mask: as far as there is room");
	url_parse("tls://a.b.", &u);
	is(tls_name(&u, b), "a.b", "tls_name: no dot at its end");
	url_parse("tls://a.b:1", &u);
	is(tls_name(&u, b), "a.b", "tls_name: as it is");
}

static void
test_authority(void)
{
	static const struct {
		const char *host, *port, *want;
	} t[] = {
		{ "a", "1", "a:1" }, { "a", "", "a" },
		{ "1.2.3.4", "ssh", "1.2.3.4:ssh" },
		{ "::1", "1", "[::1]:1" }, { "::1", "", "[::1]" },
		{ "fe80::1%lo", "22", "[fe80::1%lo]:22" },
		{ "unix", "", "unix" },
	};
	static const struct {
		enum scheme scheme;
		const char *host, *port, *want, *always;
	} a[] = {
		{ S_HTTP, "a", "80", "a", "a:80" },
		{ S_HTTP, "a", "443", "a:443", "a:443" },
		{ S_HTTP, "::1", "80", "[::1]", "[::1]:80" },
		{ S_HTTP, "a", "080", "a:080", "a:080" },
		{ S_HTTPS, "a", "443", "a", "a:443" },
		{ S_HTTPS, "a", "80", "a:80", "a:80" },
		{ S_HTTPS, "::1", "443", "[::1]", "[::1]:443" },
		{ S_HTTPS, "a", "4430", "a:4430", "a:4430" },
	};
	char b[ADDR_LEN + 40 + 1];
	struct url u = { 0 };
	size_t i;

	b[ADDR_LEN + 40] = 'Z';
	for (i = 0; i < LEN(t); i++)
		is(host_write(t[i].host, t[i].port, b), t[i].want,
		    "host_write");
	for (i = 0; i < LEN(a); i++) {
		u.scheme = a[i].scheme;
		strcpy(u.host, a[i].host);
		strcpy(u.port, a[i].port);
		is(authority(&u, 0, b), a[i].want, "authority");
		is(authority(&u, 1, b), a[i].always, "authority: always");
	}
	host_write(cat(":", rep('a', HOST_LEN - 1)), rep('p', 32), b);
	ok(strlen(b) == HOST_LEN + 35 && b[ADDR_LEN + 40] == 'Z',
	    "host_write: the longest");
}

static void
test_socks4(void)
{
	static const struct {
		const char *in;
		int n, got;
		const char *why;
	} t[] = {
		{ "", 0, 0, NULL }, { "\0", 1, 0, NULL },
		{ "\0\132\0\0\0\0\0", 7, 0, NULL },
		{ "\0\132\0\0\0\0\0\0", 8, 8, NULL },
		{ "\0\132\0\0\0\0\0\0MSSH", 12, 8, NULL },
		{ "\0\133\0\0\0\0\0\0", 8, 8, "it refuses, or it failed" },
		{ "\0\134\0\0\0\0\0\0", 8, 8,
		    "it does not accept our user" },
		{ "\0\135\0\0\0\0\0\0", 8, 8,
		    "it does not accept our user" },
		{ "\0\0\0\0\0\0\0\0", 8, 8, "it refuses, or it failed" },
		{ "\4", 1, -1, NULL }, { "\5\0", 2, -1, NULL },
		{ "HTTP/1.1", 8, -1, NULL },
	};
	static const unsigned char ip[4] = { 1, 2, 3, 4 };
	struct proxy x = { .kind = PX_SOCKS4A };
	unsigned char out[1500];
	const char *why;
	size_t i;
	int got;

	ok(socks4_connect(&x, "a.b", 443, NULL, out) == 13 &&
	    !memcmp(out, "\4\1\1\273\0\0\0\1\0a.b", 13),
	    "socks4_connect: a name");
	strcpy(x.user, "me");
	ok(socks4_connect(&x, "a.b", 443, ip, out) == 11 &&
	    !memcmp(out, "\4\1\1\273\1\2\3\4me", 11),
	    "socks4_connect: an address, as a user");
	ok(socks4_connect(&x, "a", 1, NULL, out) == 13 &&
	    !memcmp(out, "\4\1\0\1\0\0\0\1me\0a", 13),
	    "socks4_connect: a name, as a user");
	memset(x.user, 'u', sizeof x.user - 1);
	is_num((long)socks4_connect(&x, rep('a', HOST_LEN), 1, NULL, out),
	    8 + 128 + HOST_LEN + 1, "socks4_connect: the longest");
	for (i = 0; i < LEN(t); i++) {
		why = "-";
		got = socks4_take((const unsigned char *)t[i].in, t[i].n, &why);
		ok(got == t[i].got && (got <= 0 || (t[i].why ?
		    why && !strcmp(why, t[i].why) : !why)),
		    "socks4_take: row %d", (int)i + 1);
	}
}

static void
test_siphash(void)
{
	unsigned char key[16], in[64];
	const uint64_t one = 1;
	size_t i;

	for (i = 0; i < sizeof in; i++)
		in[i] = (unsigned char)i;
	memcpy(key, in, sizeof key);
	if (!*(const unsigned char *)&one) {
		printf("ok %d # SKIP its words are the machine's\n", ++count);
		return;
	}
	/* the paper's appendix A, and vectors.h of its authors */
	ok(siphash(key, in, 15) == 0xa129ca6149be45e5u &&
	    siphash(key, in, 0) == 0x726fdb47dd0e0e31u &&
	    siphash(key, in, 8) == 0x93f5f5799a932462u &&
	    siphash(key, in, 63) == 0x958a324ceb064572u, "siphash");
}

static void
test_peer(void)
{
	struct sockaddr_storage ss;
	struct sockaddr_in *s4 = (struct sockaddr_in *)&ss;
	struct sockaddr_in6 *s6 = (struct sockaddr_in6 *)&ss;
	struct peer p;
	char b[PEER_LEN];

	memset(&ss, 0, sizeof ss);
	ss.ss_family = AF_UNIX;
	peer_set(&p, &ss);
	is(peer_write(&p, b), "unix", "peer_write: a Unix socket");
	ss.ss_family = AF_INET;
	s4->sin_port = htons(65535);
	inet_pton(AF_INET, "255.255.255.255", &s4->sin_addr);
	peer_set(&p, &ss);
	ok(is_ipv4(&p) && !is_unix(&p), "peer_set: IPv4");
	is(peer_write(&p, b), "255.255.255.255:65535", "peer_write: IPv4");
	p.port = 0;
	is(peer_write(&p, b), "255.255.255.255", "peer_write: without a port");
	ss.ss_family = AF_INET6;
	inet_pton(AF_INET6, "1111:2222:3333:4444:5555:6666:7777:8888",
	    &s6->sin6_addr);
	peer_set(&p, &ss);
	ok(!is_ipv4(&p) && !is_unix(&p), "peer_set: IPv6");
	is(peer_write(&p, b), "[1111:2222:3333:4444:5555:6666:7777:8888]:65535",
	    "peer_write: IPv6");
	p.port = 0;
	is(peer_write(&p, b), "[1111:2222:3333:4444:5555:6666:7777:8888]",
	    "peer_write: IPv6 without a port");
	memset(p.ip, 0, sizeof p.ip);
	p.port = 1;
	is(peer_write(&p, b), "[::]:1", "peer_write: an address of zeros");
}

static void
test_is_local(void)
{
	static const struct {
		const char *ip;
		int local;
	} t[] = {
		{ "127.0.0.1", 1 }, { "127.255.255.254", 1 }, { "127.1.2.3", 1 },
		{ "::1", 1 }, { "::ffff:127.0.0.1", 1 },
		{ "126.0.0.1", 0 }, { "128.0.0.1", 0 }, { "0.0.0.0", 0 },
		{ "10.127.0.1", 0 }, { "192.168.0.127", 0 },
		{ "::", 0 }, { "::2", 0 }, { "1::1", 0 }, { "fe80::1", 0 },
		{ "::127.0.0.1", 0 }, { "7f00::1", 0 }, { "::1:0:0:1", 0 },
		{ "64:ff9b::127.0.0.1", 0 },
	};
	struct peer p;
	size_t i;

	memset(&p, 0, sizeof p);
	ok(is_local(&p), "is_local: a Unix socket");
	p.port = 1;
	ok(!is_local(&p), "is_local: an address of zeros is none");
	for (i = 0; i < LEN(t); i++) {
		memset(&p, 0, sizeof p);
		p.port = 7;
		ok(ip_parse(t[i].ip, p.ip) == 0 && is_local(&p) == t[i].local,
		    "is_local: %s", t[i].ip);
	}
}

static void
test_ago(void)
{
	static const struct {
		long long s;
		const char *want;
	} t[] = {
		{ 0, "0 s" }, { 119, "119 s" }, { 120, "2 min" },
		{ 7199, "119 min" }, { 7200, "2 h" }, { 172799, "47 h" },
		{ 172800, "2 days" }, { 9000000000000ll, "104166666 days" },
	};
	char b[AGO_LEN];
	size_t i;

	for (i = 0; i < LEN(t); i++)
		is(ago(t[i].s * 1000 + 999, b), t[i].want, "ago");
}

static int
time_good(int64_t at)
{
	time_t t = (time_t)at;
	char b[40], want[40];
	struct tm tm;
	int n;

	if (t != at || !gmtime_r(&t, &tm))
		return 1;		/* the libc does not know it */
	strftime(want, sizeof want, "%Y-%m-%dT%H:%M:%SZ ", &tm);
	n = time_str(at, b, sizeof b);
	return n == (int)strlen(want) && !strcmp(b, want);
}

static void
test_time_str(void)
{
	static const struct {
		int64_t t;
		const char *want;
	} t[] = {
		{ 0, "1970-01-01T00:00:00Z " },
		{ 68169599, "1972-02-28T23:59:59Z " },
		{ 951782399, "2000-02-28T23:59:59Z " },
		{ 951782400, "2000-02-29T00:00:00Z " },
		{ 951868799, "2000-02-29T23:59:59Z " },
		{ 951868800, "2000-03-01T00:00:00Z " },
		{ 2147483647, "2038-01-19T03:14:07Z " },
		{ 2147483648, "2038-01-19T03:14:08Z " },
		{ 4107542399, "2100-02-28T23:59:59Z " },
		{ 4107542400, "2100-03-01T00:00:00Z " },
		{ 32503679999, "2999-12-31T23:59:59Z " },
		{ 32503680000, "3000-01-01T00:00:00Z " },
	};
	char b[40];
	int64_t s;
	size_t i;
	int bad = 0;

	for (i = 0; i < LEN(t); i++) {
		is_num(time_str(t[i].t, b, sizeof b), 21,
		    "time_str: its length");
		is(b, t[i].want, "time_str");
		bad += !time_good(t[i].t);
	}
	/* each day, at a second that goes through all of a day's */
	for (s = 0; s < 32535216000; s += 86399)
		bad += !time_good(s);
	is_num(bad, 0, "time_str: gmtime_r(3) agrees, from 1970 to 3000");
}

#define PLAIN(n) "Content-Type: text/plain\r\nContent-Length: " n \
	"\r\nConnection: close"

static void
test_http_answer(void)
{
	static const struct {
		int status, head;
		const char *why, *want;
	} t[] = {
		{ 101, 0, NULL, "HTTP/1.1 101 Switching Protocols\r\n"
		    "Connection: Upgrade\r\nUpgrade: mssh\r\n\r\n" },
		{ 200, 0, NULL, "HTTP/1.1 200 OK\r\n" PLAIN("3")
		    "\r\n\r\nok\n" },
		{ 200, 1, NULL, "HTTP/1.1 200 OK\r\n" PLAIN("3") "\r\n\r\n" },
		{ 400, 0, "a b", "HTTP/1.1 400 Bad Request\r\n" PLAIN("4")
		    "\r\n\r\na b\n" },
		{ 400, 1, "a b", "HTTP/1.1 400 Bad Request\r\n" PLAIN("4")
		    "\r\n\r\n" },
		{ 404, 0, "no", "HTTP/1.1 404 Not Found\r\n" PLAIN("3")
		    "\r\n\r\nno\n" },
		{ 404, 1, "no", "HTTP/1.1 404 Not Found\r\n" PLAIN("3")
		    "\r\n\r\n" },
		{ 408, 0, "no", "HTTP/1.1 408 Request Timeout\r\n" PLAIN("3")
		    "\r\n\r\nno\n" },
		{ 426, 0, "no", "HTTP/1.1 426 Upgrade Required\r\n" PLAIN("3")
		    ", Upgrade\r\nUpgrade: mssh\r\n\r\nno\n" },
		{ 426, 1, "no", "HTTP/1.1 426 Upgrade Required\r\n" PLAIN("3")
		    ", Upgrade\r\nUpgrade: mssh\r\n\r\n" },
		{ 431, 0, "no", "HTTP/1.1 431 Request Header Fields Too Large"
		    "\r\n" PLAIN("3") "\r\n\r\nno\n" },
		{ 505, 0, "no", "HTTP/1.1 505 HTTP Version Not Supported\r\n"
		    PLAIN("3") "\r\n\r\nno\n" },
		{ 499, 0, "no", "HTTP/1.1 499 Bad Request\r\n" PLAIN("3")
		    "\r\n\r\nno\n" },
	};
	struct request q = { .why = NULL };
	char b[600];
	size_t i, n;

	for (i = 0; i < LEN(t); i++) {
		q.status = t[i].status;
		q.head = t[i].head;
		q.why = t[i].why;
		n = http_answer(&q, b, sizeof b);
		is(b, t[i].want, cat("http_answer: ", t[i].head ?
		    "to HEAD" : ""));
		is_num((long)n, (long)strlen(b), "http_answer: its length");
	}
}

static void
test_percent(void)
{
	char out[8] = "", before[8];

	is_num(percent_decode("a%62%25", 7, out, 4), 0, "percent_decode: fits");
	is(out, "ab%", "percent_decode: what");
	memset(out, '#', sizeof out);
	memcpy(before, out, sizeof out);
	is_num(percent_decode("abcd", 4, out, 4), -1, "percent_decode: full");
	ok(!memcmp(out + 4, before + 4, 4), "percent_decode: and no more");
	is_num(percent_decode("%622", 3, out, 4), 0, "percent_decode: the end");
	is(out, "b", "percent_decode: is not passed");
	is_num(percent_decode("%62", 2, out, 8), -1, "percent_decode: half");
	is_num(percent_decode("", 0, out, 1), 0, "percent_decode: nothing");
	ok(percent_decode("%1f", 3, out, 8) && percent_decode("\t", 1, out, 8)
	    && percent_decode("%7f", 3, out, 8) &&
	    percent_decode("%+1", 3, out, 8) &&
	    percent_decode("% 1", 3, out, 8),
	    "percent_decode: controls");
}

static void
test_basic(void)
{
	static const struct {		/* RFC 4648 10, RFC 7617 2 */
		const char *in, *want;
	} t[] = {
		{ "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" },
		{ "foo", "Zm9v" }, { "foob", "Zm9vYg==" },
		{ "fooba", "Zm9vYmE=" }, { "foobar", "Zm9vYmFy" },
		{ "Aladdin:open sesame", "QWxhZGRpbjpvcGVuIHNlc2FtZQ==" },
		{ "test:123\xc2\xa3", "dGVzdDoxMjPCow==" },
		{ "\xfb\xff\xbf", "+/+/" },
	};
	char out[64];
	size_t i;

	for (i = 0; i < LEN(t); i++) {
		base64_write(t[i].in, strlen(t[i].in), basic_digits, out);
		is(out, t[i].want, "base64_write");
	}
}

static void
test_command(void)
{
	static const struct {
		const char *in, *want;
	} t[] = {
		{ "nc %h %p", "nc host 42" }, { "%h%h", "hosthost" },
		{ "100%%", "100%" }, { "%%h", "%h" }, { "", "" },
		{ "%", NULL }, { "a %", NULL }, { "%x", NULL },
		{ "%H", NULL }, { "%%%", NULL },
	};
	char out[16];
	size_t i;
	int got;

	for (i = 0; i < LEN(t); i++) {
		got = command_expand(t[i].in, "host", "42", out, sizeof out);
		is(got < 0 ? NULL : out, t[i].want, "command_expand");
	}
	memset(out, '#', sizeof out);
	is_num(command_expand("ab %h", "host", "42", out, 8), 0,
	    "command_expand: fits");
	ok(out[8] == '#', "command_expand: and no more");
	is_num(command_expand("abc %h", "host", "42", out, 8), -1,
	    "command_expand: one more");
	ok(out[8] == '#', "command_expand: not written");
}

/* curl(1), no_proxy; CURLOPT_NOPROXY(3) */
static void
test_no_proxy(void)
{
	static const struct {
		const char *list, *host;
		int want;
	} t[] = {
		{ "", "a.test", 0 }, { "*", "a.test", 1 },
		{ "*", "::1", 1 }, { "b,*", "a.test", 0 },
		{ "*,b", "a.test", 0 }, { "*.test", "a.test", 0 },
		{ "a.test", "a.test", 1 }, { "a.test", "b.a.test", 1 },
		{ "a.test", "ba.test", 0 }, { "a.test", "a.test.b", 0 },
		{ ".a.test", "a.test", 1 }, { ".a.test", "b.a.test", 1 },
		{ ".a.test", "ba.test", 0 }, { "b.a.test", "a.test", 0 },
		{ "A.TEST", "b.a.Test", 1 }, { "x,a.test,y", "a.test", 1 },
		{ "x, a.test", "a.test", 1 }, { ",, a.test ,", "a.test", 1 },
		{ "x\ta.test", "a.test", 1 }, { ".", "a.test", 0 },
		{ ",", "a.test", 0 }, { "a.test:80", "a.test", 0 },
		{ "10.0.0.1", "10.0.0.1", 1 }, { "10.0.0.1", "10.0.0.11", 0 },
		{ "0.0.1", "10.0.0.1", 0 }, { "10.0.0.0/8", "10.9.9.9", 1 },
		{ "10.1.2.3/8", "10.9.9.9", 1 },
		{ "10.0.0.0/8", "11.0.0.1", 0 },
		{ "10.0.0.0/9", "10.128.0.1", 0 },
		{ "10.0.0.0/33", "10.0.0.0", 0 },
		{ "10.0.0.0/", "10.0.0.0", 0 },
		{ "10.0.0.0/8", "10.test", 0 }, { "::1", "::1", 1 },
		{ "0:0:0:0:0:0:0:1", "::1", 1 }, { "fe80::/10", "fe81::1", 1 },
		{ "fe80::/10", "::1", 0 }, { "localhost", "127.0.0.1", 0 },
		{ "localhost", "localhost", 1 },
	};
	size_t i;

	for (i = 0; i < LEN(t); i++)
		ok(no_proxy_has(t[i].list, t[i].host) == t[i].want,
		    "no_proxy_has: row %d", (int)i + 1);
	is_num(no_proxy_has(cat(rep('x', 900), ",a"), "a"), 1,
	    "no_proxy_has: behind a long word");
	is_num(no_proxy_has(rep('a', HOST_LEN), rep('a', HOST_LEN)), 1,
	    "no_proxy_has: the longest");
}

static void
test_socks(void)
{
	static const struct {
		const char *host;
		unsigned port;
		const char *want;
		size_t n;
	} c[] = {
		{ "a.b", 80, "\5\1\0\3\3" "a.b\0\120", 10 },
		{ "1.2.3.4", 0xff01, "\5\1\0\1\1\2\3\4\xff\1", 10 },
		{ "::1", 1,
		    "\5\1\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\1", 22 },
	};
	static const struct {
		const char *in;
		int n, got;
		const char *why;
	} t[] = {
		{ "", 0, 0, NULL }, { "\5\0\0\1", 4, 0, NULL },
		{ "\5\0\0\1\1\2\3\4\0\1", 10, 10, NULL },
		{ "\5\0\0\1\1\2\3\4\0\1MSSH", 14, 10, NULL },
		{ "\5\0\0\1\1\2\3\4\0", 9, 0, NULL },
		{ "\5\0\0\3\0\0\1", 7, 7, NULL },
		{ "\5\0\0\3\2ab\0\1", 9, 9, NULL },
		{ "\5\0\0\3\2ab\0", 8, 0, NULL },
		{ "\5\0\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\1",
		    22, 22, NULL },
		{ "\5\2\0\1\0\0\0\0\0\0", 10, 10, "its rules do not allow it" },
		{ "\5\5\0\1\0\0\0\0\0\0", 10, 10,
		    "the connection was refused" },
		{ "\5\10\0\1\0\0\0\0\0\0", 10, 10,
		    "it does not know that kind of address" },
		{ "\5\11\0\1\0\0\0\0\0\0", 10, 10, "it failed" },
		{ "\5\xff\0\1\0\0\0\0\0\0", 10, 10, "it failed" },
		{ "\4", 1, -1, NULL }, { "H", 1, -1, NULL },
		{ "\5\0\0\2\0", 5, -1, NULL }, { "\5\0\0\0\0", 5, -1, NULL },
	};
	unsigned char out[300];
	const char *why;
	size_t i;
	int got;

	for (i = 0; i < LEN(c); i++)
		ok(socks_connect(c[i].host, c[i].port, out) == c[i].n &&
		    !memcmp(out, c[i].want, c[i].n), "socks_connect: %s",
		    c[i].host);
	is_num((long)socks_connect(rep('a', HOST_LEN), 1, out), HOST_LEN + 7,
	    "socks_connect: the longest");
	for (i = 0; i < LEN(t); i++) {
		why = "-";
		got = socks_take((const unsigned char *)t[i].in, t[i].n, &why);
		ok(got == t[i].got && (got <= 0 || (t[i].why ?
		    why && !strcmp(why, t[i].why) : !why)),
		    "socks_take: row %d", (int)i + 1);
	}
}

/* Each message that socks_next() gives, and the step then; the answers to all
 * but a request are in, two bytes each. */
static void
test_socks_next(void)
{
	static const struct {
		enum proxy_kind kind;
		const char *user, *pass, *host, *port, *in;
		struct {
			int n;
			const char *b;
		} out[3];
		const char *steps;
		int end;
		const char *why;
	} t[] = {
#define NAME "\5\1\0\3\1a\1\273"
#define HELLO { 3, "\5\1\0" }
#define HELLO2 { 4, "\5\2\0\2" }
#define AUTH { 6, "\1\1u\2pw" }
		{ PX_SOCKS4, "", "", "a", "443", "",
		    { { 9, "\4\1\1\273\1\2\3\4\0" } }, "\3\0", 0, NULL },
		{ PX_SOCKS4, "me", "pw", "::1", "1", "",
		    { { 11, "\4\1\0\1\1\2\3\4me\0" } }, "\3\0", 0, NULL },
		{ PX_SOCKS4A, "", "", "a", "65535", "",
		    { { 11, "\4\1\377\377\0\0\0\1\0a\0" } }, "\3\0", 0, NULL },
		{ PX_SOCKS4A, "me", "", "b", "443", "",
		    { { 13, "\4\1\1\273\0\0\0\1me\0b\0" } }, "\3\0", 0, NULL },
		{ PX_SOCKS5, "", "", "a", "443", "\5\0",
		    { HELLO, { 8, NAME } }, "\1\3\0", 0, NULL },
		{ PX_SOCKS5, "", "pw", "1.2.3.4", "80", "\5\0",
		    { HELLO, { 10, "\5\1\0\1\1\2\3\4\0\120" } }, "\1\3\0", 0,
		    NULL },
		{ PX_SOCKS5, "", "", "::1", "1", "\5\0",
		    { HELLO, { 22, "\5\1\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1"
		    "\0\1" } }, "\1\3\0", 0, NULL },
		{ PX_SOCKS5, "u", "pw", "a", "443", "\5\0",
		    { HELLO2, { 8, NAME } }, "\1\3\0", 0, NULL },
		{ PX_SOCKS5, "u", "pw", "a", "443", "\5\2\1\0",
		    { HELLO2, AUTH, { 8, NAME } }, "\1\2\3\0", 0, NULL },
		{ PX_SOCKS5, "u", "", "a", "443", "\5\2\1\0",
		    { HELLO2, { 4, "\1\1u\0" }, { 8, NAME } }, "\1\2\3\0", 0,
		    NULL },
		/* wrong answers */
		{ PX_SOCKS5, "", "", "a", "1", "\4\0", { HELLO }, "\1", -1,
		    NULL },
		{ PX_SOCKS5, "", "", "a", "1", "\0\132", { HELLO }, "\1", -1,
		    NULL },
		{ PX_SOCKS5, "u", "", "a", "1", "HT", { HELLO2 }, "\1", -1,
		    NULL },
		{ PX_SOCKS5, "u", "", "a", "1", "\1\2", { HELLO2 }, "\1", -1,
		    NULL },
		{ PX_SOCKS5, "", "", "a", "1", "\5\2", { HELLO }, "\1", 0,
		    "asks for a user and a password" },
		{ PX_SOCKS5, "", "", "a", "1", "\5\377", { HELLO }, "\1", 0,
		    "asks for a user and a password" },
		{ PX_SOCKS5, "u", "", "a", "1", "\5\377", { HELLO2 }, "\1", 0,
		    "asks for another proof than a password" },
		{ PX_SOCKS5, "u", "", "a", "1", "\5\1", { HELLO2 }, "\1", 0,
		    "asks for another proof than a password" },
		{ PX_SOCKS5, "u", "pw", "a", "1", "\5\2\1\1", { HELLO2, AUTH },
		    "\1\2", 0, "says: the user or the password is wrong" },
		{ PX_SOCKS5, "u", "pw", "a", "1", "\5\2\1\377",
		    { HELLO2, AUTH }, "\1\2", 0,
		    "says: the user or the password is wrong" },
#undef NAME
#undef HELLO
#undef HELLO2
#undef AUTH
	};
	static const unsigned char ip[4] = { 1, 2, 3, 4 };
	unsigned char out[1501];
	struct proxy x;
	struct url u;
	const char *why;
	size_t i, j;
	int n, step, good;

	for (i = 0; i < LEN(t); i++) {
		memset(&x, 0, sizeof x);
		memset(&u, 0, sizeof u);
		x.kind = t[i].kind;
		strcpy(x.user, t[i].user);
		strcpy(x.pass, t[i].pass);
		strcpy(u.host, t[i].host);
		strcpy(u.port, t[i].port);
		why = NULL;
		step = 0;
		for (j = 0, good = 1; j < 4; j++) {
			memset(out, '#', sizeof out);
			n = socks_next(&x, &u, ip, &step, j ?
			    t[i].in + 2 * (j - 1) : NULL, out, &why);
			if (n <= 0 || j == 3)
				break;
			good &= n == t[i].out[j].n && step == t[i].steps[j] &&
			    !memcmp(out, t[i].out[j].b, n);
		}
		ok(good && n == t[i].end && (j == 3 || !t[i].out[j].n) &&
		    (t[i].why ? why && !strcmp(why, t[i].why) : !why) &&
		    (n < 0 || why || !step), "socks_next: row %d", (int)i + 1);
	}
	memset(&x, 0, sizeof x);
	x.kind = PX_SOCKS5;
	memset(x.user, 'u', sizeof x.user - 1);
	memset(x.pass, 'p', sizeof x.pass - 1);
	strcpy(u.host, rep('a', HOST_LEN));
	memset(out, '#', sizeof out);
	step = 1;
	is_num(socks_next(&x, &u, ip, &step, "\5\2", out, &why), 3 + 127 + 127,
	    "socks_next: the longest user and password");
	is_num(socks_next(&x, &u, ip, &step, "\1", out, &why), HOST_LEN + 7,
	    "socks_next: the longest name");
	x.kind = PX_SOCKS4A;
	step = 0;
	is_num(socks_next(&x, &u, ip, &step, NULL, out, &why),
	    8 + 128 + HOST_LEN + 1, "socks_next: the longest of version 4A");
	ok(out[1500] == '#', "socks_next: and no more");
}

#define ERR "40E7:error:0A000086:SSL routines:tls_post_process:"

static void
test_tls_reason(void)
{
	static const struct {
		const char *in;
		int got;
		const char *want;
	} t[] = {
		{ "", 0, "" }, { "\n\n", 0, "" }, { "depth=0 CN = a\n", 0, "" },
		{ "verify error:num=62:hostname mismatch\n", 1,
		    "hostname mismatch" },
		{ "depth=0\nverify error:num=10:it has expired", 1,
		    "it has expired" },
		{ "verify error:num=18:a: b\nx", 1, "a: b" },
		{ "verify error:num=18:\n", 1, "" },
		{ "verify error:num=18", 0, "" },
		{ "verify error:num=1:\33[2J\n", 1, "\\x1b[2J" },
		{ ERR "certificate verify failed:ssl/x.c:1889:\n", 2,
		    "certificate verify failed" },
		{ ERR "wrong version number", 2, "wrong version number" },
		{ ERR "first:a:1:\n" ERR "second:b:2:\n", 2, "first" },
		{ ERR "failed:a:1:\nverify error:num=62:mismatch\n", 1,
		    "mismatch" },
		{ "a:b:c:d:e:f\n", 0, "" }, { "a:error:c\n", 0, "" },
		{ "a:b:c:d:e:f\nx:error:y\n", 0, "" },
		{ "40E7:error:0A000086:SSL routines:fn:", 0, "" },
		{ ":::::\n", 0, "" },
		{ ERR "\33]0;x\7:f:1:\n", 2, "\\x1b]0;x\\x07" },
	};
	char out[64];
	size_t i;
	int got;

	for (i = 0; i < LEN(t); i++) {
		memset(out, '#', sizeof out);
		*out = '\0';
		got = tls_reason(t[i].in, out, sizeof out - 8);
		ok(got == t[i].got && !strcmp(out, t[i].want) &&
		    out[sizeof out - 8] == '#', "tls_reason: row %d",
		    (int)i + 1);
	}
	tls_reason(cat("verify error:num=1:", rep('x', 500)), out, 8);
	ok(strlen(out) < 8, "tls_reason: as far as there is room");
}

static void
test_tls_blame(void)
{
	static const struct {
		const char *in;
		int early, got;
		const char *want;
	} t[] = {
		{ "", 0, 0, "-" }, { "", 1, 0, "-" },
		{ "depth=0 CN = a\nDONE\n", 0, 0, "-" },
		{ "verify error:num=18:self-signed\n", 0, 1,
		    "the certificate of h is not good: self-signed" },
		{ "verify error:num=18:an eof\n", 1, 1,
		    "the certificate of h is not good: an eof" },
		{ "verify error:num=1:\33[2J\n", 0, 1,
		    "the certificate of h is not good: \\x1b[2J" },
		{ ERR "no shared cipher:x.c:1:\n", 0, 1,
		    "no TLS with h: no shared cipher" },
		{ ERR "no shared cipher:x.c:1:\n", 1, 1,
		    "no TLS with h: no shared cipher" },
		{ ERR "wrong version number:x.c:1:\n", 0, 1,
		    "no TLS with h: wrong version number (does it expect "
		    "plain TCP? Then leave tls:// out)" },
		{ ERR "wrong version number:x.c:1:\n", 1, 1,
		    "no TLS with h: wrong version number (does it expect "
		    "plain TCP? Then leave tls:// out)" },
		{ ERR "unexpected eof while reading:x.c:1:\n", 0, 1,
		    "no TLS with h: unexpected eof while reading (does it "
		    "expect plain TCP? Then leave tls:// out)" },
		{ ERR "unexpected eof while reading:x.c:1:\n", 1, 0, "-" },
		{ "cannot run openssl: No such file\nx\n", 0, 1,
		    "cannot run openssl: No such file (OpenSSL makes TLS for "
		    "us, to be installed; or see --connect)" },
		{ "cannot run\33", 1, 1, "cannot run\\x1b (OpenSSL makes TLS "
		    "for us, to be installed; or see --connect)" },
		{ "cannot ru", 0, 0, "-" }, { "\ncannot run x", 0, 0, "-" },
		{ "Cannot run x", 0, 0, "-" },
	};
	char out[308];
	size_t i;
	int got;

	for (i = 0; i < LEN(t); i++) {
		memset(out, '#', sizeof out);
		strcpy(out, "-");
		got = tls_blame(t[i].in, "h", t[i].early, out, 300);
		ok(got == t[i].got && !strcmp(out, t[i].want) &&
		    out[300] == '#', "tls_blame: row %d", (int)i + 1);
	}
	tls_blame("verify error:num=1:x", rep('q', 200), 0, out, 300);
	is_num((long)strspn(strchr(out, 'q'), "q"), 140,
	    "tls_blame: a long name, of a certificate");
	ok(!strcmp(out + strlen(out) - 3, ": x"),
	    "tls_blame: and the reason behind it");
	tls_blame(ERR "version", rep('q', 200), 0, out, 300);
	is_num((long)strspn(strchr(out, 'q'), "q"), 100,
	    "tls_blame: a long name, without TLS");
	ok(out[strlen(out) - 1] == ')',
	    "tls_blame: and all of the sentence behind it");
	memset(out, '#', sizeof out);
	tls_blame(cat("cannot run ", rep('x', 500)), "h", 0, out, 16);
	ok(strlen(out) == 15 && out[16] == '#',
	    "tls_blame: as far as there is room");
}

static void
test_tls_args(void)
{
	static const struct {
		const char *host;
		int https;
		const char *cafile, *cert, *key, *want;
	} t[] = {
#define FIRST "openssl s_client -brief -no_ign_eof -nocommands " \
	"-verify_return_error -pass pass: -unix /s"
#define NAMED FIRST " -verify_hostname a.b -servername a.b"
#define CERT(key) " -cert c.pem -cert_chain c.pem -key " key
		{ "a.b", 0, NULL, NULL, NULL, NAMED },
		{ "a.b", 1, NULL, NULL, NULL, NAMED " -alpn http/1.1" },
		{ "a.b", 0, "ca", NULL, NULL, NAMED " -CAfile ca" },
		{ "a.b", 0, NULL, "c.pem", NULL, NAMED CERT("c.pem") },
		{ "a.b", 0, NULL, "c.pem", "k.pem", NAMED CERT("k.pem") },
		{ "a.b", 0, NULL, NULL, "k.pem", NAMED },
		{ "a.b", 1, "ca", "c.pem", "k.pem", NAMED
		    " -alpn http/1.1 -CAfile ca" CERT("k.pem") },
		{ "1.2.3.4", 0, NULL, NULL, NULL, FIRST
		    " -verify_ip 1.2.3.4 -noservername" },
		{ "::1", 1, "ca", "c.pem", NULL, FIRST " -verify_ip ::1 "
		    "-noservername -alpn http/1.1 -CAfile ca" CERT("c.pem") },
		{ "1.2.3", 0, NULL, NULL, NULL, FIRST
		    " -verify_hostname 1.2.3 -servername 1.2.3" },
#undef FIRST
#undef NAMED
#undef CERT
	};
	char *argv[TLS_ARGS + 1], all[512], end;
	size_t i, n, most = 0;

	for (i = 0; i < LEN(t); i++) {
		for (n = 0; n <= TLS_ARGS; n++)
			argv[n] = &end;
		tls_args(argv, "/s", t[i].host, t[i].https, t[i].cafile,
		    t[i].cert, t[i].key);
		*all = '\0';
		for (n = 0; n < TLS_ARGS && argv[n]; n++)
			sprintf(all + strlen(all), "%s%s", n ? " " : "",
			    argv[n] == &end ? "(end)" : argv[n]);
		is(all, t[i].want, "tls_args");
		ok(n < TLS_ARGS && argv[TLS_ARGS] == &end,
		    "tls_args: NULL behind the last of %d", (int)n);
		most = n > most ? n : most;
	}
	is_num((long)most, TLS_ARGS - 1, "tls_args: room for all, and no more");
}

static void
test_answer(void)
{
	static const struct {
		const char *in;
		int got;		/* -2: all of it */
		long status;
		int mssh;
	} t[] = {
		{ "HTTP/1.1 200 OK\r\n\r\n", -2, 200, 0 },
		{ "HTTP/1.0 200\r\n\r\n", -2, 200, 0 },
		{ "HTTP/1.1 200 OK\n\n", -2, 200, 0 },
		{ "HTTP/1.1 200 OK\r\nA: b\r\n\r\nSSH-2.0", 25, 200, 0 },
		{ "HTTP/1.1 200 OK\r\n\r\n\r\n", 19, 200, 0 },
		{ "HTTP/1.1 101 x\r\nUpgrade: mssh\r\n\r\n", -2, 101, 1 },
		{ "HTTP/1.1 101 x\r\nupgrade:  a, MSSH \r\n\r\n", -2, 101, 1 },
		{ "HTTP/1.1 101 x\r\nUpgrade:mssh\r\n\r\nOK\n", 32, 101, 1 },
		{ "HTTP/1.1 101 x\r\nUpgrade: msshx\r\n\r\n", -2, 101, 0 },
		{ "HTTP/1.1 101 x\r\nUpgrade:\r\n\r\n", -2, 101, 0 },
		{ "HTTP/1.1 101 x\r\nXUpgrade: mssh\r\n\r\n", -2, 101, 0 },
		{ "HTTP/1.1 101 Upgrade: mssh\r\n\r\n", -2, 101, 0 },
		{ "HTTP/1.1 101 x\r\n\r\nUpgrade: mssh\r\n\r\n", 18, 101, 0 },
		{ "HTTP/1.1 407 Proxy\r\n\r\n", -2, 407, 0 },
		{ "HTTP/1.1 599 x\r\n\r\n", -2, 599, 0 },
		{ "", 0, 0, 0 }, { "H", 0, 0, 0 }, { "HTTP/1.", 0, 0, 0 },
		{ "HTTP/1.1 200 OK", 0, 0, 0 },
		{ "HTTP/1.1 200 OK\r\n", 0, 0, 0 },
		{ "HTTP/1.1 200 OK\r\n\r", 0, 0, 0 },
		{ "HTTP/1.1 200 OK\r\nA: b\r\n", 0, 0, 0 },
		{ "h", -1, 0, 0 }, { "HTTP/2", -1, 0, 0 },
		{ "SSH-2.0-x\r\n", -1, 0, 0 }, { "\r\n\r\n", -1, 0, 0 },
		{ "\n\n", -1, 0, 0 }, { "HTTP/1.1\r\n\r\n", -1, 0, 0 },
		{ "HTTP/1.1 20\r\n\r\n", -1, 0, 0 },
		{ "HTTP/1.1 099 x\r\n\r\n", -1, 0, 0 },
		{ "HTTP/1.1 600 x\r\n\r\n", -1, 0, 0 },
		{ "HTTP/1.1 2x0 x\r\n\r\n", -1, 0, 0 },
		{ "HTTP/1.1 -12 x\r\n\r\n", -1, 0, 0 },
		{ "HTTP/1.12200 x\r\n\r\n", -1, 0, 0 },
	};
	static char big[HEAD_LEN + 1] = "HTTP/1.1 200 OK\r\nX: ";
	struct response r;
	size_t i, n;
	int got;

	for (i = 0; i < LEN(t); i++) {
		n = strlen(t[i].in);
		got = response_take(t[i].in, n, &r);
		ok(got == (t[i].got == -2 ? (int)n : t[i].got) && (got <= 0 ||
		    (r.status == t[i].status && r.mssh == t[i].mssh)),
		    "response_take: row %d", (int)i + 1);
		while (got > 0 && n-- > 0 && n < (size_t)got)
			if (response_take(t[i].in, n, &r) != 0)
				ok(0, "response_take: row %d, %d bytes of it",
				    (int)i + 1, (int)n);
	}
	response_take("HTTP/1.1 403 \33[2J\r\n\r\n", 21, &r);
	is(r.line, "HTTP/1.1 403 \\x1b[2J", "response_take: the line, escaped");
	memset(big + 20, 'x', sizeof big - 20);
	is_num(response_take(big, HEAD_LEN - 1, &r), 0, "response_take: long");
	is_num(response_take(big, HEAD_LEN, &r), -1, "response_take: too long");
	memcpy(big + HEAD_LEN - 4, "\r\n\r\n", 4);
	is_num(response_take(big, HEAD_LEN, &r), HEAD_LEN,
	    "response_take: the longest");
}

/* Gives answer_take() one byte more each time, as it wants them, until it knows
 * what the answer is: *used are the bytes it has then. */
static int
answer_feed(enum answer kind, const char *b, size_t n, void *to, size_t *used)
{
	size_t k = 0;
	char *p;
	int r = 0;

	while (!r && k < n) {
		p = exact(b, ++k);
		r = answer_take(kind, p, k, to);
		free(p);
	}
	*used = k;
	return r < 0 ? -1 : r > 0;
}

static void
test_answer_take(void)
{
	static const struct {
		enum answer kind;
		const char *in;
		size_t n;
		int got;
		size_t used;		/* when it knew */
		const char *text;	/* what it has put there; NULL: none */
	} t[] = {
		{ A_LINE, "OK\n", 3, 1, 3, "OK" },
		{ A_LINE, "OK a\r\nSSH-2.0", 13, 1, 6, "OK a" },
		{ A_LINE, "\n", 1, 1, 1, "" }, { A_LINE, "OK", 2, 0, 2, NULL },
		{ A_LINE, "OK\r", 3, 0, 3, NULL },
		{ A_LINE, "\377OK\n", 4, -1, 1, NULL },
		{ A_LINE, "a\rb\n", 4, -1, 3, NULL },
		{ A_HTTP, "HTTP/1.1 200 OK\r\n\r\n", 19, 1, 19,
		    "HTTP/1.1 200 OK" },
		{ A_HTTP, "HTTP/1.1 101 x\nUpgrade: mssh\n\nOK\n", 33, 1, 30,
		    "HTTP/1.1 101 x" },
		{ A_HTTP, "HTTP/1.0 407\r\nA: b\r\n\r\nSSH-2.0-x\n", 32, 1, 22,
		    "HTTP/1.0 407" },
		{ A_HTTP, "HTTP/1.1 200 OK\r\nA: b\r\n\r", 24, 0, 24, NULL },
		{ A_HTTP, "HTTP/1.1 200 OK", 15, 0, 15, NULL },
		{ A_HTTP, "SSH-2.0-x\n", 10, -1, 1, NULL },
		{ A_HTTP, "HTTP/2 200\n", 11, -1, 6, NULL },
		{ A_HTTP, "HTTP/1x200", 10, -1, 7, NULL },
		{ A_HTTP, "HTTP/1.1 20\r\n\r\n", 15, -1, 15, NULL },
		{ A_HTTP, "HTTP/1.1 700 x\r\nA: b\r\n\r\nx", 25, -1, 24, NULL },
		{ A_SOCKS4, "\0\132\0\0\0\0\0\0MSSH", 12, 1, 8, NULL },
		{ A_SOCKS4, "\0\133\0\0\0\0\0\0", 8, 1, 8,
		    "it refuses, or it failed" },
		{ A_SOCKS4, "\0\132\0\0\0\0\0", 7, 0, 7, NULL },
		{ A_SOCKS4, "\5\0", 2, -1, 1, NULL },
		{ A_SOCKS5, "\5\0\0\1\1\2\3\4\0\1MSSH", 14, 1, 10, NULL },
		{ A_SOCKS5, "\5\0\0\3\2ab\0\1M", 10, 1, 9, NULL },
		{ A_SOCKS5, "\5\0\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\1M",
		    23, 1, 22, NULL },
		{ A_SOCKS5, "\5\5\0\1\0\0\0\0\0\0", 10, 1, 10,
		    "the connection was refused" },
		{ A_SOCKS5, "\5\0\0\1\1\2\3\4\0", 9, 0, 9, NULL },
		{ A_SOCKS5, "\5\0\0\2\0", 5, -1, 5, NULL },
		{ A_SOCKS5, "\0\132", 2, -1, 1, NULL },
		{ A_PAIR, "\5\2\1", 3, 1, 2, "\5\2" },
		{ A_PAIR, "HT", 2, 1, 2, "HT" },
		{ A_PAIR, "\5", 1, 0, 1, "\5" },
	};
	static char big[HEAD_LEN + 8] = "HTTP/1.1 200 OK\r\nX: ";
	struct response r;
	const char *why, *text;
	char line[LINE_LEN], pair[3];
	size_t i, used;
	int got, good;

	for (i = 0; i < LEN(t); i++) {
		why = NULL;
		memset(pair, 0, sizeof pair);
		got = answer_feed(t[i].kind, t[i].in, t[i].n, t[i].kind ==
		    A_LINE ? line : t[i].kind == A_HTTP ? (void *)&r :
		    t[i].kind == A_PAIR ? pair : (void *)&why, &used);
		text = t[i].kind == A_LINE ? line : t[i].kind == A_HTTP ?
		    r.line : t[i].kind == A_PAIR ? pair : why;
		good = got == t[i].got && used == t[i].used;
		if (t[i].text)
			good &= text && !strcmp(text, t[i].text);
		else if (got > 0)
			good &= !text;
		ok(good, "answer_take: row %d", (int)i + 1);
	}
	got = answer_feed(A_HTTP, t[8].in, t[8].n, &r, &used);
	ok(got == 1 && r.status == 101 && r.mssh,
	    "answer_take: status and protocol of an answer");
	got = answer_feed(A_LINE, rep('x', 600), 600, line, &used);
	ok(got == -1 && used == LINE_LEN, "answer_take: 512 bytes, no line");
	memset(big + 20, 'x', sizeof big - 20);
	got = answer_feed(A_HTTP, big, sizeof big, &r, &used);
	ok(got == -1 && used == HEAD_LEN, "answer_take: 4096 bytes, no head");
	memcpy(big + HEAD_LEN - 4, "\r\n\r\n", 4);
	got = answer_feed(A_HTTP, big, sizeof big, &r, &used);
	ok(got == 1 && used == HEAD_LEN && r.status == 200,
	    "answer_take: the longest head");
}

int
main(void)
{
	test_sha256();
	test_hmac();
	test_mac();
	test_b64();
	test_keys();
	test_proof();
	test_proof_answer();
	test_hello_key();
	test_line_take();
	test_line_split();
	test_words();
	test_numbers();
	test_node_parse();
	test_node_suggest();
	test_name_variant();
	test_hello_good();
	test_hello_asks();
	test_patterns();
	test_version();
	test_role_rights();
	test_hello_bad();
	test_resume();
	test_frames();
	test_close();
	test_reply();
	test_exits();
	test_sniff();
	test_refusal();
	test_escape();
	test_addr();
	test_host_name();
	test_quote();
	test_conf();
	test_ssh_opts();
	test_net();
	test_head_take();
	test_fields();
	test_request();
	test_request_metrics();
	test_request_take();
	test_response();
	test_origin_parse();
	test_go_parse();
	test_head_origin();
	test_proxy_line();
	test_proxy_block();
	test_url();
	test_proxy();
	test_siphash();
	test_peer();
	test_is_local();
	test_ago();
	test_time_str();
	test_http_answer();
	test_url_str();
	test_authority();
	test_requests();
	test_socks4();
	test_percent();
	test_basic();
	test_command();
	test_no_proxy();
	test_socks();
	test_socks_next();
	test_tls_reason();
	test_tls_blame();
	test_tls_args();
	test_answer();
	test_answer_take();
	printf("1..%d\n", count);
	return failed != 0;
}
