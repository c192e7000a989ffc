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
#include <unistd.h>

#include "../proto.h"

#define LEN(a) (sizeof (a) / sizeof *(a))

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

	snprintf(s, sizeof *buf, "%s%s", a, b);
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

static void
test_hello_bad(void)
{
	static const char *const bad[] = {
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

static void
test_host_name(void)
{
	char out[NODE_LEN + HOST_LEN + 48], two[sizeof out], small[8];

	host_name("web", "relay.example.com", "8443", out, sizeof out);
	is(out, "web.relay.example.com.mssh", "host_name: default port");
	host_name("web", "relay.example.com", "443", out, sizeof out);
	is(out, "web.relay.example.com.443.mssh", "host_name: another port");
	host_name("10.0.0.5", "::1", "8443", out, sizeof out);
	is(out, "10.0.0.5+--1.mssh", "host_name: a v6 server");
	host_name("a", "fe80::1%eth0", "22", out, sizeof out);
	is(out, "a.fe80--1-eth0.22.mssh", "host_name: a zone");
	memset(small, 'Z', sizeof small);
	host_name("web", "::", "1", small, 6);
	ok(!strcmp(small, "web.-") && small[6] == 'Z',
	    "host_name: cut to its room");
	host_name(rep('n', 64), rep('h', 253), rep('p', 32), out, sizeof out);
	ok(strlen(out) == 64 + 1 + 253 + 1 + 32 + 5, "host_name: the longest");
	host_name("a.b", "c", "8443", out, sizeof out);
	host_name("a", "b.c", "8443", two, sizeof two);
	ok(!!strcmp(out, two),
	    "host_name: a.b at c is not a at b.c");
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
	struct sha256 s;

	sha256_init(&s);
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
		hmac_init(&s, key, n);
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

#define S43 "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"

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
			    !ip_parse(t[i].in, ip) && net_has(&net, ip) &&
			    (!t[i].out || (!ip_parse(t[i].out, ip) &&
			    !net_has(&net, ip)));
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
	char *p = exact(head, sizeof head - 1 - 6);
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
		f.value = p = exact(t[i].value, f.len = strlen(t[i].value));
		is_num(field_has(&f, t[i].word), t[i].has, t[i].value);
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
origin_str(const struct origin *o)
{
	static char buf[INET6_ADDRSTRLEN + 8];

	if (!o->known)
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
		{ "1.2.3.4:_x9", "1.2.3.4 0" }, { "[::1]:_x", "::1 0" },
		{ "", "-" }, { "unknown", "-" }, { "_hidden", "-" },
		{ ":", "-" }, { ":1", "-" }, { "::", "-" }, { "[::]:1", "-" },
		{ "[", "-" }, { "[]", "-" }, { "]", "-" }, { "[::12", "-" },
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
	struct origin o;
	char *p;
	size_t i;
	int r;

	for (i = 0; i < LEN(t); i++) {
		p = exact(t[i].in, strlen(t[i].in));
		r = origin_parse(p, strlen(t[i].in), &o);
		ok(!strcmp(origin_str(&o), t[i].want) && (r == 0) == o.known,
		    "origin_parse \"%s\": %s", t[i].in, t[i].want);
		free(p);
	}
	ok(origin_parse(rep('1', 63), 63, &o) && origin_parse(rep('[', 64), 64,
	    &o) && origin_parse(rep(':', 1000), 1000, &o),
	    "origin_parse: much too long");
}

/* Fronts are 10.0.0.0/8 and fd00::/8. */
static void
test_head_origin(void)
{
	static const struct {
		const char *fields, *want;	/* NULL: refused */
	} t[] = {
#define X "X-Forwarded-For: "
#define F "Forwarded: "
		{ "", "-" }, { X "\r\n", "-" }, { F "\r\n", "-" },
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

		{ F "for=1.2.3.4\r\n", "1.2.3.4 0" },
		{ F "FOR=\"1.2.3.4:5\"\r\n", "1.2.3.4 5" },
		{ F "for=\"[2001:db8::1]:4711\"\r\n", "2001:db8::1 4711" },
		{ F "for=[2001:db8::1]:4711\r\n", "2001:db8::1 4711" },
		{ F "for=\"[2001:db8::1]\";proto=https;by=10.0.0.1\r\n",
		    "2001:db8::1 0" },
		{ F "proto=https; by=10.0.0.1 ; for=1.2.3.4\r\n", "1.2.3.4 0" },
		{ F "for=9.9.9.9, for=1.2.3.4;by=1.1.1.1, for=10.1.1.1\r\n",
		    "1.2.3.4 0" },
		{ F "for=9.9.9.9\r\n" F "for=1.2.3.4\r\n", "1.2.3.4 0" },
		{ F ";for=1.2.3.4;, ,\r\n", "1.2.3.4 0" },
		{ F "by=10.0.0.1 \t;\tfor=1.2.3.4\r\n", "1.2.3.4 0" },
		{ F "for=1.2.3.4, for=unknown\r\n", "-" },
		{ F "for=1.2.3.4, for=\"_gazonk\"\r\n", "-" },
		{ F "for=1.2.3.4, proto=http\r\n", "-" },
		{ F "for=\"1.2.3.\\4\"\r\n", "-" },
		{ F "for=, for=\"\"\r\n", "-" },
		{ F "xfor=1.2.3.4\r\n", "-" }, { F "by=1.2.3.4\r\n", "-" },
		/* a Host of the client's, as its front hands it on */
		{ F "for=1.2.3.4;host=\"x,for=6.6.6.6;y\"\r\n", "1.2.3.4 0" },
		{ F "host=\"x;for=6.6.6.6;y\";for=1.2.3.4\r\n", "1.2.3.4 0" },
		{ F "for=1.2.3.4;host=\"\\\",for=6.6.6.6;\\\"\"\r\n",
		    "1.2.3.4 0" },
		{ F "for=1.2.3.4;host=\"\\\\\"\r\n", "1.2.3.4 0" },
		/* a field of the client's, that its front adds to */
		{ F "for=6.6.6.6;x=\", for=1.2.3.4\r\n", NULL },
		{ F "for=6.6.6.6;x=\", for=1.2.3.4;host=\"y\"\r\n", NULL },
		{ F "for=6.6.6.6;x=\"\\\r\n" F "for=1.2.3.4\r\n", NULL },
		{ F "for=\"6.6.6.6\\\", for=1.2.3.4\r\n", NULL },
		{ F "for=6.6.6.6;for=1.2.3.4\r\n", NULL },
		{ F "for=1.2.3.4;for=\r\n", NULL },
		{ F "for\r\n", NULL }, { F "for =1.2.3.4\r\n", NULL },
		{ F "=1.2.3.4\r\n", NULL }, { F "for=1.2.3.4 x\r\n", NULL },
		{ F "for=\"1.2.3.4\"x\r\n", NULL }, { F "\"\r\n", NULL },
		{ F "1.2.3.4\r\n", NULL }, { F "for=1.2.3.4\"\r\n", NULL },

		{ X "1.2.3.4\r\n" F "for=1.2.3.4\r\n", "1.2.3.4 0" },
		{ F "for=\"1.2.3.4:9\"\r\n" X "1.2.3.4:8, 10.0.0.1\r\n",
		    "1.2.3.4 8" },
		{ X "1.2.3.4\r\n" F "for=6.6.6.6\r\n", NULL },
		{ X "1.2.3.4\r\n" F "for=unknown\r\n", NULL },
		{ X "unknown\r\n" F "for=1.2.3.4\r\n", NULL },
		{ X "1.2.3.4\r\n" F "\r\n", NULL },
		{ X "nobody\r\n" F "for=unknown\r\n", "-" },
#undef X
#undef F
	};
	struct net fronts[2];
	struct origin o;
	const char *why;
	char esc[120], s[512], *p;
	size_t i, n;
	int r, good;

	if (net_parse("10.0.0.0/8", &fronts[0]) < 0 ||
	    net_parse("fd00::/8", &fronts[1]) < 0)
		abort();
	for (i = 0; i < LEN(t); i++) {
		n = snprintf(s, sizeof s, GET "%s" END, t[i].fields);
		p = exact(s, n);
		good = head_take(p, n, &why) == (int)n;
		memset(&o, 1, sizeof o);
		r = head_origin(p + sizeof GET - 1, fronts, 2, &o);
		good &= t[i].want ? !r && !strcmp(origin_str(&o), t[i].want) :
		    r == -1 && !o.known;
		ok(good, "head_origin: %s \"%s\"", t[i].want ? t[i].want :
		    "refused", escape(esc, sizeof esc, t[i].fields,
		    strlen(t[i].fields)));
		free(p);
	}
}

/* As take_split(), for headers of the PROXY protocol. */
static int
proxy_split(const char *b, size_t n, int want, struct origin *o)
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
		good &= (!was || r == was) && (r > 0 || !o->known);
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
	struct origin o;
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
	struct origin o;
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
	ok(proxy_take(b, 52, &o) == 52 && !o.known,
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
		int socks;			/* -1: none */
		const char *host, *port, *user, *pass;
	} t[] = {
		{ "a", 0, "a", "1080", "", "" },
		{ "a:3128", 0, "a", "3128", "", "" },
		{ "http://a:3128/", 0, "a", "3128", "", "" },
		{ "http://[::1]:3128", 0, "::1", "3128", "", "" },
		{ "socks5://a", 1, "a", "1080", "", "" },
		{ "socks5h://a:1", 1, "a", "1", "", "" },
		{ "http://u@a", 0, "a", "1080", "u", "" },
		{ "http://u:@a", 0, "a", "1080", "u", "" },
		{ "u:p@a:1", 0, "a", "1", "u", "p" },
		{ "http://u:p:q@a", 0, "a", "1080", "u", "p:q" },
		{ "http://u:p@q@a", 0, "a", "1080", "u", "p@q" },
		{ "http://%75:%40%3a%2F%25@a", 0, "a", "1080", "u", "@:/%" },
		{ "http://:p@a", 0, "a", "1080", "", "p" },
		{ "http://@a", 0, "a", "1080", "", "" },
		{ "http://u:p%c3%a4@a", 0, "a", "1080", "u", "p\xc3\xa4" },
		{ "", -1, 0, 0, 0, 0 }, { "http://", -1, 0, 0, 0, 0 },
		{ "https://a", -1, 0, 0, 0, 0 },
		{ "socks4://a", -1, 0, 0, 0, 0 },
		{ "u:p@http://a", -1, 0, 0, 0, 0 },
		{ "http://u:p@", -1, 0, 0, 0, 0 },
		{ "http://u:p/q@a", -1, 0, 0, 0, 0 },
		{ "http://u:1/q@a", -1, 0, 0, 0, 0 },
		{ "http://u:p%0d%0a@a", -1, 0, 0, 0, 0 },
		{ "http://u%00:p@a", -1, 0, 0, 0, 0 },
		{ "http://u:100%@a", -1, 0, 0, 0, 0 },
		{ "http://u:%4@a", -1, 0, 0, 0, 0 },
		{ "http://u:%zz@a", -1, 0, 0, 0, 0 },
		{ "http://a:0", -1, 0, 0, 0, 0 },
		{ "http://a b", -1, 0, 0, 0, 0 },
	};
	struct proxy x;
	const char *why;
	size_t i;
	int got;

	for (i = 0; i < LEN(t); i++) {
		why = NULL;
		got = proxy_parse(t[i].in, &x, &why) < 0 ? -1 : x.socks;
		ok(got == t[i].socks && (got < 0 ? why != NULL :
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
		basic_write(t[i].in, strlen(t[i].in), out);
		is(out, t[i].want, "basic_write");
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

int
main(void)
{
	test_sha256();
	test_hmac();
	test_mac();
	test_b64();
	test_keys();
	test_proof();
	test_hello_key();
	test_line_take();
	test_line_split();
	test_words();
	test_numbers();
	test_node_parse();
	test_node_suggest();
	test_hello_good();
	test_hello_bad();
	test_reply();
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
	test_response();
	test_origin_parse();
	test_head_origin();
	test_proxy_line();
	test_proxy_block();
	test_url();
	test_proxy();
	test_percent();
	test_basic();
	test_command();
	test_no_proxy();
	test_socks();
	test_tls_reason();
	test_answer();
	printf("1..%d\n", count);
	return failed != 0;
}
