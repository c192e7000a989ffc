/* fuzz.c - feeds every parser of proto.h (libFuzzer)
 *
 *	clang -g -O1 -fsanitize=fuzzer,address,undefined -o fuzz t/fuzz.c
 *	./fuzz -max_total_time=30 -max_len=1200 t/corpus
 *
 * The input goes to each parser whole: as bytes, as a line, as a string.
 * Copies lie in blocks of their exact size, so that the sanitizer sees a
 * step beside them; what a parser promises is asserted.  Built with -DREPLAY
 * it runs the files that it is given through the same, without clang.
 */
#include <assert.h>
#include <limits.h>

#include "../proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static void *
dup(const void *b, size_t n, size_t more)
{
	char *p = malloc(n + more + !(n + more));

	assert(p);
	if (n)
		memcpy(p, b, n);
	memset(p + n, 0, more);
	return p;
}

static void
fuzz_words(const char *line)
{
	static const char *const names[] = { "run", "slot", "wait", "id",
	    "from", "a" };
	char w[LINE_LEN], small[8], lead[24];
	const char *s = line, *was;
	size_t i;
	int n;

	while ((n = word_next(&s, w, sizeof w)) > 0) {
		assert(strlen(w) == (size_t)n && !strchr(w, ' '));
		assert(s <= line + strlen(line));
	}
	assert(n == 0 && !*s && !*w);
	for (s = line; *s; ) {
		was = s;
		n = word_next(&s, small, sizeof small);
		assert(n < (int)sizeof small && s >= was);
		assert(n != 0 || !*s);
	}
	for (i = 0; i < sizeof names / sizeof *names; i++) {
		n = word_get(line, names[i], w, sizeof w);
		assert(n == -1 || strlen(w) == (size_t)n);
		if (n == -1)
			continue;
		assert(!strchr(w, ' '));
		snprintf(lead, sizeof lead, "%s=", names[i]);
		assert((s = strstr(line, lead)) && (s == line ||
		    s[-1] == ' ' || strstr(s + 1, lead)));
		n = word_get(line, names[i], small, sizeof small);
		assert(n == -1 || (n < 8 && !strcmp(small, w)));
	}
}

static void
fuzz_numbers(const char *s)
{
	char again[32];
	uint64_t h;
	long v = 7;

	if (!num_parse(s, 0, 63, &v))
		assert(v >= 0 && v <= 63 &&
		    strspn(s, "0123456789") == strlen(s));
	else
		assert(v == 7);
	if (!num_parse(s, 1, 65535, &v))
		assert(v >= 1 && v <= 65535);
	if (!num_parse(s, 0, INT_MAX, &v))
		assert(v == strtol(s, NULL, 10));
	if (!hex_parse(s, &h)) {
		assert(*s && strlen(s) <= 16 &&
		    strspn(s, "0123456789abcdefABCDEF") == strlen(s));
		snprintf(again, sizeof again, "%016llx",
		    (unsigned long long)h);
		while (strlen(again) > strlen(s)) {
			assert(*again == '0');
			memmove(again, again + 1, strlen(again));
		}
		for (; *s; s++)
			assert(again[strlen(again) - strlen(s)] ==
			    (*s >= 'A' && *s <= 'F' ? *s + 32 : *s));
	}
}

static void
fuzz_node(const char *s)
{
	char *out = malloc(NODE_LEN + 1), *two = malloc(NODE_LEN + 1);
	int drop;

	assert(out && two);
	for (drop = 0; drop < 2; drop++) {
		if (node_parse(s, out, drop))
			continue;
		assert(*out && strlen(out) <= NODE_LEN);
		assert(strlen(out) <= strlen(s));
		assert(!node_parse(out, two, 0) && !strcmp(out, two));
	}
	node_suggest(s, out);
	assert(!node_parse(out, two, 0) && !strcmp(out, two));
	free(out);
	free(two);
}

static void
fuzz_hello(const char *line)
{
	struct hello h;
	const char *why = NULL, *text = NULL;
	char two[NODE_LEN + 1];
	int code;

	if (hello_parse(line, &h, &why) < 0)
		assert(why && *why);
	else {
		assert(h.version == 1 || h.version == 2);
		assert(h.role == R_AGENT || h.role == R_CLIENT);
		assert(!node_parse(h.node, two, 0) && !strcmp(h.node, two));
		assert(h.slot >= 0 && h.slot <= 63);
		assert(h.wait >= 0 && h.wait <= WAIT_MAX);
		assert(h.early == 0 || h.early == 1);
		assert(h.version == 2 || (!h.run && !h.slot && !h.wait &&
		    !h.early));
	}
	code = reply_parse(line, &text);
	assert(code >= -1 && code < C_MAX);
	if (code >= 0)
		assert(text && text >= line && text <= line + strlen(line));
}

/* Any prefix either waits for more or says what the whole says. */
static void
fuzz_line(const char *b, size_t n)
{
	char *one = malloc(LINE_LEN), *two = malloc(LINE_LEN);
	size_t k;
	char *copy;
	int got = line_take(b, n, one), r = 0;

	assert(two && got >= -1 && got <= (int)n && got <= LINE_LEN);
	assert(got || n < LINE_LEN);
	for (k = 0; k <= n && k <= LINE_LEN; k++) {
		copy = dup(b, k, 0);
		r = line_take(copy, k, two);
		free(copy);
		if (r)
			break;
	}
	assert(r == got);
	if (got > 0) {
		assert(b[got - 1] == '\n' && !strcmp(one, two));
		assert(strlen(one) + 1 == (size_t)got ||
		    strlen(one) + 2 == (size_t)got);
		for (k = 0; one[k]; k++)
			assert(one[k] >= ' ' && one[k] <= '~');
		fuzz_words(one);
		fuzz_hello(one);
	}
	free(one);
	free(two);
}

static void
fuzz_refusal(const char *s)
{
	unsigned char *out = malloc(512), *p;
	size_t len = strlen(s), n = ssh_refusal(out, s);

	len = len > 393 ? 399 : len + 6;	/* "mssh: " in front */
	assert(n <= 512 && (p = memchr(out, '\n', n)));
	n -= (size_t)(++p - out);
	assert(n % 8 == 0 && ((size_t)p[2] << 8 | p[3]) == n - 4);
	assert(p[4] >= 4 && 18 + len + p[4] == n);
	assert(((size_t)p[12] << 8 | p[13]) == len);
	assert(!memcmp(p + 14, "mssh: ", 6) && !memcmp(p + 20, s, len - 6));
	free(out);
}

static void
fuzz_escape(const char *b, size_t n)
{
	size_t size, i, len;
	char *out;

	for (size = 1; size < 4 * n + 8; size = size * 2 + 1) {
		out = malloc(size);
		assert(out && escape(out, size, b, n) == out);
		len = strlen(out);
		assert(len < size);
		for (i = 0; i < len; i++)
			assert(out[i] >= ' ' && out[i] <= '~');
		free(out);
	}
	size = 4 * n + 8;
	out = malloc(size);
	escape(out, size, b, n);
	for (i = len = 0; i < n; i++, len++)
		if (out[len] == '\\')
			len += 3;
	assert(strlen(out) == len);
	free(out);
}

static void
fuzz_addr(const char *s)
{
	static const char safe[] = "abcdefghijklmnopqrstuvwxyz"
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:%";
	char *host = malloc(HOST_LEN + 1), *port = malloc(33), *out;
	size_t size;

	if (!addr_split(s, host, port)) {
		assert(*host && strlen(host) <= HOST_LEN && *host != '-');
		assert(strspn(host, safe) == strlen(host));
		assert(*port && strlen(port) <= 32 && *port != '-');
		assert(strspn(port, safe) == strlen(port));
		for (size = 1; size < 512; size += 83) {
			out = malloc(size);
			host_name("node", host, port, out, size);
			assert(strlen(out) < size && !strpbrk(out, ":%"));
			free(out);
		}
	}
	free(host);
	free(port);
}

/* One word for sh, whose value is s after ssh has undone the percents. */
static void
fuzz_quote(const char *s)
{
	size_t n = strlen(s), size, o = 0;
	char *q = malloc(4 * n + 8);
	const char *p;
	int len, in = 0;

	len = shell_quote(s, q, 4 * n + 8);
	assert(len >= 2 && strlen(q) == (size_t)len);
	for (p = q; *p; p++) {
		if (*p == '\'') {
			in = !in;
			continue;
		}
		if (!in) {
			assert(p[0] == '\\' && p[1] == '\'');
			p++;
		} else if (*p == '%') {
			assert(p[1] == '%');
			p++;
		}
		assert(o < n && *p == s[o]);
		o++;
	}
	assert(!in && o == n);
	free(q);
	for (size = 0; size < 4 * n + 8; size = size * 2 + 1) {
		q = dup("", 0, size);
		len = shell_quote(s, q, size);
		assert(len == -1 || (strlen(q) == (size_t)len &&
		    (size_t)len < size));
		free(q);
	}
}

static void
fuzz_conf(const char *s, size_t n)
{
	char *line = dup(s, n, 1), *arg = NULL;
	const char *why = NULL;
	size_t len = strlen(line);
	int k = conf_parse(line, &arg, &why);

	assert(k >= -1 && k <= K_NODE);
	if (k == -1)
		assert(why && *why);
	if (k > 0) {
		assert(arg && arg > line && arg < line + len && *arg);
		assert(arg + strlen(arg) <= line + len);
	}
	free(line);
}

static void
fuzz_keys(const char *s, size_t n)
{
	char *line = dup(s, n, 1), b[B64_LEN + 1];
	unsigned char key[MAC_LEN];
	const char *why = NULL;
	struct right r;

	if (b64_parse(s, key) == 0) {
		b64_write(key, b);
		assert(!strcmp(s, b));
	}
	if (right_parse(line, &r, &why) < 0)
		assert(why && *why);
	else if (r.roles) {
		assert(r.roles < 8 && *r.nodes);
		assert(key_name_ok(r.secret.name));
		glob_list(r.nodes, r.secret.name, 0);
		b64_write(r.secret.key, b);
		assert(strstr(s, b));
	}
	free(line);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	char *b, *s;
	int k;

	if (n > 4096)
		return 0;
	b = dup(data, n, 0);
	fuzz_line(b, n);
	k = (int)sniff((unsigned char *)b, n);
	assert(k >= T_UNKNOWN && k <= T_SSH);
	fuzz_escape(b, n);
	free(b);

	s = dup(data, n, 1);
	fuzz_numbers(s);
	fuzz_node(s);
	fuzz_refusal(s);
	fuzz_addr(s);
	fuzz_quote(s);
	fuzz_conf((char *)s, n);
	fuzz_keys(s, n);
	if (*s)
		assert((unsigned)ssh_takes_next(s) <= 1);
	s[n < LINE_LEN ? n : LINE_LEN - 1] = '\0';
	fuzz_words(s);
	fuzz_hello(s);
	free(s);
	return 0;
}

#ifdef REPLAY
int
main(int argc, char **argv)
{
	static uint8_t buf[4096];
	FILE *f;
	int i;

	for (i = 1; i < argc; i++) {
		if (!(f = fopen(argv[i], "rb"))) {
			perror(argv[i]);
			return 1;
		}
		LLVMFuzzerTestOneInput(buf, fread(buf, 1, sizeof buf, f));
		fclose(f);
	}
	printf("%d inputs\n", argc - 1);
	return 0;
}
#endif
