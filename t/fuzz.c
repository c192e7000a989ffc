/* fuzz.c - feeds the parsers of proto.h (libFuzzer)
 *
 *	clang -g -O1 -fsanitize=fuzzer,address,undefined -o fuzz t/fuzz.c
 *	./fuzz -max_total_time=30 -max_len=1100 t/corpus
 *
 * The first byte of an input names the parser that gets it ('a' is the first
 * one in the table below), the second one is a size, a place to split, or
 * what else a parser wants to be told.  One parser for each input is what
 * makes millions of them cheap.  What is parsed ends where its block of
 * memory ends, so that the sanitizer sees a step beyond; what a parser
 * promises is asserted.  Built with -DREPLAY it runs the files that it is
 * given through the same, without clang.
 */
#include <assert.h>
#include <limits.h>

#include "../proto.h"

#define LEN(a) (sizeof(a) / sizeof *(a))

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);
const char *__asan_default_options(void);

/* Most of an execution would go into memory that is fresh each time. */
const char *
__asan_default_options(void)
{
	return "quarantine_size_mb=1:max_malloc_fill_size=0:"
	    "malloc_context_size=4";
}

static char *
copy(const void *b, size_t n, size_t more)
{
	char *p = malloc(n + more + !(n + more));

	assert(p);
	if (n)
		memcpy(p, b, n);
	memset(p + n, 0, more);
	return p;
}

/* A size for an output buffer, of those where something may happen. */
static size_t
size_of(unsigned knob, size_t most)
{
	return knob * most / 255;
}

/* A prefix waits for more or says what the whole says. */
static void
line_prefix(const char *b, size_t k, int whole, const char *line)
{
	char *p = copy(b, k, 0), two[LINE_LEN];
	int r = line_take(p, k, two);

	if (whole > 0 && (size_t)whole <= k)
		assert(r == whole && !strcmp(two, line));
	else if (whole > 0)
		assert(!r);
	else
		assert(!r || r == whole);
	free(p);
}

static void
fuzz_line(const char *b, size_t n, unsigned knob)
{
	char *line = malloc(LINE_LEN);
	int got = line_take(b, n, line), i;

	assert(line && got >= -1 && got <= (int)n && got <= LINE_LEN);
	assert(got || n < LINE_LEN);
	assert(!got || memchr(b, '\n', n) || got < 0);
	line_prefix(b, size_of(knob, n), got, line);
	if (got > 0) {
		assert(b[got - 1] == '\n');
		assert(!memchr(b, '\n', got - 1));
		assert(strlen(line) == (size_t)got - 1 -
		    (got > 1 && b[got - 2] == '\r'));
		assert(!memcmp(line, b, strlen(line)));
		for (i = 0; line[i]; i++)
			assert(line[i] >= ' ' && line[i] <= '~');
		line_prefix(b, got - 1, got, line);
		line_prefix(b, got, got, line);
	}
	free(line);
}

/* More bytes never change what is known. */
static void
fuzz_sniff(const char *b, size_t n, unsigned knob)
{
	size_t k = size_of(knob, n);
	char *p = copy(b, k, 0);
	enum tongue part = sniff((unsigned char *)p, k);
	enum tongue whole = sniff((const unsigned char *)b, n);

	assert(whole <= T_SSH && (part == T_UNKNOWN || part == whole));
	if (whole == T_SSH)
		assert(!memcmp(b, "SSH-", 4));
	if (whole == T_TLS)
		assert(n >= 2 && *b == 0x16);
	free(p);
}

static void
fuzz_next(char *line, size_t n, unsigned knob)
{
	size_t size = knob + 1, len = 0, was;
	char *w = malloc(size);
	const char *s = line, *at;
	int r;

	assert(w);
	do {
		at = s + strspn(s, " ");
		was = strcspn(at, " ");
		r = word_next(&s, w, size);
		assert(s == at + was && s <= line + n);
		if (was >= size) {
			assert(r == -1);
			continue;
		}
		assert((size_t)r == was && strlen(w) == was);
		assert(!memcmp(w, at, was) && !strchr(w, ' '));
		len += was;
	} while (r);
	assert(!*s && len <= n);
	free(w);
}

/* What word_get() finds stands at the beginning or behind a blank, and
 * nothing like it stands before that. */
static void
fuzz_get(char *line, size_t n, unsigned knob)
{
	static const char *const names[] = { "run", "slot", "wait", "id", "a" };
	const char *name = names[knob % LEN(names)], *at = line, *p = NULL;
	size_t size = knob / LEN(names) + 1, len = 0, k = strlen(name);
	char *w = malloc(size);
	int r = word_get(line, name, w, size);

	(void)n;
	for (; *(at += strspn(at, " ")); at += len) {
		len = strcspn(at, " ");
		if (len > k && !strncmp(at, name, k) && at[k] == '=') {
			p = at + k + 1;
			len -= k + 1;
			break;
		}
	}
	if (!p || len >= size)
		assert(r == -1);
	else
		assert((size_t)r == len && strlen(w) == len &&
		    !memcmp(w, p, len));
	at = line + strspn(line, " ");
	r = word_is(line, name);
	assert(r == (strcspn(at, " ") == k && !memcmp(at, name, k)));
	free(w);
}

static void
fuzz_number(char *s, size_t n, unsigned knob)
{
	static const long hi[] = { 63, 65535, INT_MAX, WAIT_MAX, LONG_MAX };
	long top = hi[knob % LEN(hi)], lo = knob & 1, v = -7;

	if (num_parse(s, lo, top, &v) < 0) {
		assert(v == -7);
		/* what has so few digits is refused for its value alone */
		if (n && n < 10 && strspn(s, "0123456789") == n)
			assert(strtol(s, NULL, 10) < lo ||
			    strtol(s, NULL, 10) > top);
	} else {
		assert(v >= lo && v <= top && v == strtol(s, NULL, 10));
		assert(strspn(s, "0123456789") == n);
	}
}

static void
fuzz_hex(char *s, size_t n, unsigned knob)
{
	uint64_t h;
	int ok = n && n <= 16 && strspn(s, "0123456789abcdefABCDEF") == n;

	(void)knob;
	assert(hex_parse(s, &h) == (ok ? 0 : -1));
	if (ok)
		assert(h == strtoull(s, NULL, 16));
}

static void
fuzz_node(char *s, size_t n, unsigned knob)
{
	char *out = malloc(NODE_LEN + 1), two[NODE_LEN + 1];

	assert(out);
	if (!node_parse(s, out, knob & 1)) {
		assert(*out && strlen(out) <= NODE_LEN);
		assert(strlen(out) == n || (knob & 1 && strlen(out) + 5 == n));
		assert(!node_parse(out, two, 0) && !strcmp(out, two));
		assert(!node_parse(s, two, 1));
	}
	node_suggest(s, out);
	assert(!node_parse(out, two, 0) && !strcmp(out, two));
	free(out);
}

static void
fuzz_hello(char *line, size_t n, unsigned knob)
{
	struct hello h;
	const char *why = NULL;
	char two[NODE_LEN + 1], b[B64_LEN + 1];

	(void)n, (void)knob;
	if (hello_parse(line, &h, &why) < 0) {
		assert(why && *why);
		return;
	}
	assert(h.version == 1 || h.version == 2);
	assert(h.role == R_AGENT || h.role == R_CLIENT);
	assert(!node_parse(h.node, two, 0) && !strcmp(h.node, two));
	assert(h.slot >= 0 && h.slot <= 63);
	assert(h.wait >= 0 && h.wait <= WAIT_MAX);
	assert(h.early == 0 || h.early == 1);
	assert(h.version == 2 || (!h.run && !h.slot && !h.wait &&
	    !h.early && !*h.key));
	if (!*h.key)
		return;
	b64_write(h.nonce, b);
	assert(key_name_ok(h.key) && strstr(line, h.key) && strstr(line, b));
}

static void
fuzz_reply(char *line, size_t n, unsigned knob)
{
	const char *text = NULL;
	int code = reply_parse(line, &text);

	(void)knob;
	assert(code >= -1 && code < C_MAX);
	if (code >= 0)
		assert(text && text >= line && text <= line + n &&
		    *text != ' ');
	if (code > 0)
		assert(word_is(line, "ERROR"));
	if (code == C_OK)
		assert(word_is(line, "OK") || word_is(line, "READY"));
}

static void
fuzz_refusal(char *s, size_t len, unsigned knob)
{
	unsigned char *out = malloc(512), *p;
	size_t n = ssh_refusal(out, s);

	(void)knob;
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
fuzz_escape(const char *b, size_t n, unsigned knob)
{
	size_t size = 1 + size_of(knob, 4 * n + 8), i, o;
	char *out = malloc(size);

	assert(out && escape(out, size, b, n) == out);
	for (i = o = 0; out[o]; i++) {
		assert(i < n && o < size);
		if (out[o] == '\\') {
			assert(out[o + 1] == 'x' && out[o + 2] && out[o + 3]);
			assert(b[i] < ' ' || b[i] > '~' || b[i] == '\\');
			o += 4;
		} else
			assert(out[o++] == b[i]);
	}
	assert(i == n || o + 5 >= size);
	free(out);
}

static void
fuzz_addr(char *s, size_t n, unsigned knob)
{
	static const char safe[] = "abcdefghijklmnopqrstuvwxyz"
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:%";
	char *host, *port, *out;
	size_t size = 2 * knob + 1;

	(void)n;
	host = malloc(HOST_LEN + 1);
	port = malloc(33);
	if (!addr_split(s, host, port)) {
		assert(*host && strlen(host) <= HOST_LEN && *host != '-');
		assert(strspn(host, safe) == strlen(host));
		assert(*port && strlen(port) <= 32 && *port != '-');
		assert(strspn(port, safe) == strlen(port));
		out = malloc(size);
		host_name(knob & 1 ? "a.b" : "node", host, port, out, size);
		assert(strlen(out) < size && !strpbrk(out, ":%"));
		assert(size < 7 || out[knob & 1 ? 3 : 4] ==
		    (knob & 1 ? '+' : '.'));
		free(out);
	}
	free(host);
	free(port);
}

/* One word for sh, whose value is s after ssh has undone the percents. */
static void
fuzz_quote(char *s, size_t n, unsigned knob)
{
	size_t size = size_of(knob, 4 * n + 8), o = 0;
	char *q = malloc(size + !size);
	const char *p;
	int len = shell_quote(s, q, size), in = 0;

	assert(len == -1 || ((size_t)len == strlen(q) && (size_t)len < size));
	assert(len != -1 || size < 4 * n + 6);
	for (p = len < 0 ? "" : q; *p; p++) {
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
	assert(!in && (len < 0 || o == n));
	free(q);
}

static void
fuzz_conf(char *line, size_t n, unsigned knob)
{
	char *arg = NULL;
	const char *why = NULL;
	int k = conf_parse(line, &arg, &why);

	(void)knob;
	assert(k >= -1 && k <= K_NODE);
	if (k == -1)
		assert(why && *why);
	if (k > 0) {
		assert(arg && arg > line && arg < line + n && *arg);
		assert(arg + strlen(arg) <= line + n);
	}
}

/* Any 32 bytes come back; a string has no second spelling. */
static void
fuzz_b64(char *s, size_t n, unsigned knob)
{
	unsigned char in[MAC_LEN] = { 0 }, out[MAC_LEN];
	char b[B64_LEN + 1];

	(void)knob;
	memcpy(in, s, n < MAC_LEN ? n : MAC_LEN);
	b64_write(in, b);
	assert(strlen(b) == B64_LEN && !b64_parse(b, out));
	assert(!mac_differs(in, out));
	out[knob % MAC_LEN] ^= 1 << knob / MAC_LEN;
	assert(mac_differs(in, out));
	if (b64_parse(s, out) == 0) {
		b64_write(out, b);
		assert(!strcmp(s, b));
	}
}

static void
fuzz_secret(char *s, size_t n, unsigned knob)
{
	struct secret k;
	const char *why = NULL;
	char b[B64_LEN + 1];
	size_t i;
	int ok = n && n <= KEY_LEN && is_alnum((unsigned char)*s);

	(void)knob;
	for (i = 0; i < n; i++)
		ok = ok && is_node_char((unsigned char)s[i]);
	assert(key_name_ok(s) == ok);
	if (secret_parse(s, &k, &why) < 0) {
		assert(why && *why);
		return;
	}
	assert(key_name_ok(k.name) && strstr(s, k.name));
	b64_write(k.key, b);
	assert(strstr(s, b));
}

static void
fuzz_right(char *line, size_t n, unsigned knob)
{
	const char *why = NULL;
	char b[B64_LEN + 1];
	struct right r;

	(void)knob;
	if (right_parse(line, &r, &why) < 0) {
		assert(why && *why);
		return;
	}
	if (!r.roles) {
		line += strspn(line, " ");
		assert(!*line || *line == '#');
		return;
	}
	assert(r.roles < 8 && *r.nodes && strlen(r.nodes) < n);
	assert(!strchr(r.nodes, ' ') && key_name_ok(r.secret.name));
	b64_write(r.secret.key, b);
	assert(strstr(line, b));
}

/* A table of what matches what, for patterns without sets. */
static int
glob_slowly(const char *p, const char *s, int exact)
{
	char row[34] = { 1 };
	size_t n = strlen(s), j;
	int up, diagonal;

	for (; *p; p++) {
		diagonal = row[0];
		row[0] = row[0] && *p == '*';
		for (j = 1; j <= n; j++) {
			up = row[j];
			row[j] = *p == '*' ? up || row[j - 1] : diagonal &&
			    (*p == '?' || fold(*p, exact) ==
			    fold(s[j - 1], exact));
			diagonal = up;
		}
	}
	return row[n];
}

/* "PATTERNS STRING": a list matches if one of it does. */
static void
fuzz_glob(char *list, size_t n, unsigned knob)
{
	char *s = memchr(list, ' ', n), *p;
	int exact = knob & 1, hit = 0, all, r;

	if (n > 200 || !s || strlen(s + 1) > 32)
		return;
	*s++ = '\0';
	all = glob_list(list, s, exact);
	for (p = strtok(list, ","); p; p = strtok(NULL, ",")) {
		r = glob_match(p, s, exact);
		assert((r & ~1) == 0);
		assert(strchr(p, '[') || r == glob_slowly(p, s, exact));
		hit |= r;
	}
	assert(all == hit);
}

/* In any two parts it is the same hash. */
static void
fuzz_hash(const char *b, size_t n, unsigned knob)
{
	struct sha256 s;
	unsigned char whole[MAC_LEN], parts[MAC_LEN];
	size_t k;

	n = n > 130 ? 130 : n;
	k = size_of(knob, n);
	sha256_init(&s);
	sha256_add(&s, b, n);
	sha256_end(&s, whole);
	sha256_init(&s);
	sha256_add(&s, b, k);
	sha256_add(&s, b + k, n - k);
	sha256_end(&s, parts);
	assert(!mac_differs(whole, parts));
}

/* Each part of a proof counts. */
static void
fuzz_proof(char *s, size_t n, unsigned knob)
{
	static const char *const label[] = { LABEL_SERVER, LABEL_PEER };
	struct secret k = { "k", { 1 } };
	unsigned char a[MAC_LEN] = { 0 }, b[MAC_LEN] = { 0 }, one[MAC_LEN],
	    two[MAC_LEN];

	s[n < NODE_LEN ? n : NODE_LEN] = '\0';
	proof_mac(&k, label[0], R_AGENT, s, a, b, one);
	*(knob & 4 ? a : knob & 8 ? b : k.key) += knob >> 4;
	proof_mac(&k, label[knob & 1], knob & 2 ? R_CLIENT : R_AGENT, s, a, b,
	    two);
	assert(mac_differs(one, two) == (knob & 0xf3 ? 1 : 0));
}

static void
fuzz_option(char *s, size_t n, unsigned knob)
{
	size_t k;

	(void)knob;
	if (n < 2)
		return;
	k = 1 + strcspn(s + 1, "BbcDEeFIiJLlmOoPpQRSWw");
	assert(ssh_takes_next(s) == (k == n - 1));
}

/* What is known of a prefix stays: it wants more, or says the same. */
static void
head_prefix(const char *b, size_t k, int whole)
{
	const char *why = NULL;
	char *p = copy(b, k, 0);
	int r = head_take(p, k, &why);

	if (whole > 0)
		assert(r == (k < (size_t)whole ? 0 : whole));
	else
		assert(!r || r == whole);
	free(p);
}

/* Each field of a head is a slice of its own line, without blanks around. */
static void
head_fields(const char *b, int used, const char *s)
{
	struct field f;
	const char *at = s;

	while (field_next(&s, &f)) {
		assert(f.name == at && f.name_len && f.value > f.name);
		assert(f.name[f.name_len] == ':' && is_tchar(*f.name));
		assert(f.value + f.len + 2 <= s && s[-1] == '\n');
		assert(!memchr(f.name, '\r', f.value + f.len - f.name));
		assert(!f.len || (!strchr(" \t", *f.value) &&
		    !strchr(" \t", f.value[f.len - 1])));
		at = s;
	}
	assert(at == b + used - 2);
}

static void
fuzz_head(const char *b, size_t n, unsigned knob)
{
	const char *why = NULL;
	int r = head_take(b, n, &why), i;
	char *p;

	assert(r >= -2 && r <= (int)n && r <= HEAD_LEN);
	assert(r || n < HEAD_LEN);
	assert(r > 0 || (why && *why));
	head_prefix(b, size_of(knob, n), r);
	if (r <= 0)
		return;
	assert(r >= 5 && !memcmp(b + r - 4, "\r\n\r\n", 4));
	for (i = 0; i < r; i++) {
		assert(b[i] < 0 || b[i] >= ' ' || strchr("\t\r\n", b[i]));
		assert(b[i] && (b[i] == '\r') == (b[i + 1 < r ? i + 1 : i] ==
		    '\n' && b[i] != '\n'));
		if (b[i] == '\n' && i + 2 < r)
			assert(is_tchar((unsigned char)b[i + 1]) ||
			    i + 3 == r);
	}
	head_prefix(b, r - 1, r);
	head_prefix(b, r, r);
	p = copy(b, r, 0);
	head_fields(p, r, strchr(p, '\n') + 1);
	free(p);
}

/* Behind a first line of ours: what needs a whole head.  Returns that, which
 * ends where its block of memory does, or NULL. */
static char *
head_behind(const char *line, const char *b, size_t n)
{
	const char *why;
	size_t k = strlen(line);
	char *p = malloc(n + k + 1), *q = NULL;
	int r;

	assert(p);
	memcpy(p, line, k);
	memcpy(p + k, b, n);
	if ((r = head_take(p, n + k, &why)) > 0)
		q = copy(p, r, 0);
	free(p);
	return q;
}

/* Has the head a field with that in it?  Both in lower case, roughly. */
static int
mentions(const char *head, const char *end, const char *what)
{
	size_t n = strlen(what), i;

	for (; head + n <= end; head++) {
		for (i = 0; i < n && fold(head[i], 0) == what[i];)
			i++;
		if (i == n)
			return 1;
	}
	return 0;
}

static void
fuzz_request(const char *b, size_t n, unsigned knob)
{
	static const char *const lines[] = { "", "GET / HTTP/1.1\r\n",
	    "GET /healthz HTTP/1.1\r\nHost: x\r\n", "GET ",
	    "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n" };
	char *p = head_behind(lines[knob % LEN(lines)], b, n);
	const char *end;
	struct request q;

	if (!p)
		return;
	request_parse(p, &q);
	for (end = q.fields; *end != '\r'; end = strchr(end, '\n') + 1)
		;
	assert(q.fields == strchr(p, '\n') + 1);
	assert(q.status == 101 || q.status == 200 || q.status == 400 ||
	    q.status == 426 || q.status == 505);
	assert(q.status < 400 || (q.why && *q.why));
	assert(q.head == !memcmp(p, "HEAD ", 5));
	if (q.status == 101) {
		assert(!memcmp(p, "GET ", 4) && !memcmp(q.fields - 11,
		    " HTTP/1.", 8) && q.fields[-3] != '0');
		assert(mentions(p, end, "\nhost:"));
		assert(mentions(p, end, "\nupgrade:"));
		assert(mentions(p, end, "\nconnection:"));
		assert(!mentions(p, end, "\ntransfer-encoding:"));
		assert(!mentions(p, end, "\ncontent-length:") ||
		    mentions(p, end, "0\r") || mentions(p, end, "0 ") ||
		    mentions(p, end, "0\t"));
	}
	if (q.status == 200)
		assert(!memcmp(p + 3 + q.head, " /healthz HTTP/1.", 17));
	free(p);
}

static void
fuzz_response(const char *b, size_t n, unsigned knob)
{
	static const char *const lines[] = { "", "HTTP/1.1 101 x\r\n",
	    "HTTP/1." };
	size_t k = strlen(lines[knob % LEN(lines)]);
	char *p = malloc(n + k + 1), *q, *s;
	struct response r;
	int got, i;

	assert(p);
	memcpy(p, lines[knob % LEN(lines)], k);
	memcpy(p + k, b, n);
	q = copy(p, n + k, 0);
	free(p);
	p = q;
	got = response_take(p, n + k, &r);
	assert(got <= (int)(n + k));
	if (got > 0) {
		for (i = 1; i < got; i *= 2)
			assert(response_take(p, got - i, &r) == 0);
		assert(response_take(p, got, &r) == got);
		assert(r.status >= 100 && r.status <= 599);
		assert(r.status == strtol(p + 9, NULL, 10));
		assert(!memcmp(p, "HTTP/1.", 7));
		assert(strlen(r.line) < sizeof r.line);
		for (s = r.line; *s; s++)
			assert(*s >= ' ' && *s <= '~');
	}
	free(p);
}

static int
is_ipv4(const unsigned char ip[16])
{
	return !memcmp(ip, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);
}

/* An address, or nothing is known; ADDR/BITS has what begins with it. */
static void
fuzz_net(char *s, size_t n, unsigned knob)
{
	struct net net;
	struct origin o;
	unsigned char ip[16];
	char *p = copy(s, n, 0);
	int bit, other, r;

	r = origin_parse(p, n, &o);
	assert(r == (o.known ? 0 : -1));
	assert(o.known || !o.port);
	free(p);
	if (net_parse(s, &net) < 0)
		return;
	assert(net.bits >= 0 && net.bits <= 128);
	assert(strspn(s, "0123456789abcdefABCDEF:./") == n);
	memcpy(ip, net.ip, 16);
	other = net.bits < 96;		/* nothing of IPv4 is in it */
	assert(net_has(&net, ip) == !(other && is_ipv4(ip)));
	bit = knob & 127;
	ip[bit / 8] ^= 0x80 >> bit % 8;
	assert(net_has(&net, ip) == (bit >= net.bits &&
	    !(other && is_ipv4(ip))));
}

/* Fields of a front: fronts are what begins with knob's bits.  Whoever comes
 * out of it stands there, and is no front unless all of them are; a front's
 * own word behind all else is the one that counts. */
static void
fuzz_origin(const char *b, size_t n, unsigned knob)
{
	static const char *const last[] = { "X-Forwarded-For: 192.0.2.77\r\n",
	    "Forwarded: for=\"[2001:db8::77]:7\";host=\"a,b;c\"\r\n" };
	struct net fronts[2];
	struct origin o, two;
	const char *f, *end;
	char *p = head_behind("GET / HTTP/1.1\r\n", b, n), *q;
	char line[INET6_ADDRSTRLEN];
	int r, nfronts = knob & 3, more = knob >> 2 & 1;
	size_t k;

	if (!p)
		return;
	assert(net_parse("10.0.0.0/8", &fronts[0]) == 0);
	assert(net_parse("::1", &fronts[1]) == 0);
	nfronts = nfronts > 2 ? 2 : nfronts;
	f = p + 16;
	r = head_origin(f, fronts, nfronts, &o);
	assert(r == 0 || r == -1);
	assert(r == 0 || !o.known);
	for (end = f; *end != '\r'; end = strchr(end, '\n') + 1)
		;
	if (o.known)
		assert(mentions(f - 1, end, "\nx-forwarded-for:") ||
		    mentions(f - 1, end, "\nforwarded:"));
	if (o.known && is_ipv4(o.ip) &&
	    inet_ntop(AF_INET, o.ip + 12, line, sizeof line))
		assert(mentions(f, end, line) || mentions(f, end, "::") ||
		    mentions(f, end, ":ffff:"));
	/* the front adds a line of its own */
	k = strlen(last[more]);
	q = malloc(end - f + k + 2);
	assert(q);
	memcpy(q, f, end - f);
	memcpy(q + (end - f), last[more], k);
	memcpy(q + (end - f) + k, "\r\n", 2);
	if (end - f + k + 2 + 16 <= HEAD_LEN &&
	    head_origin(q, fronts, nfronts, &two) == 0)
		assert(two.known && two.ip[0] == (more ? 0x20 : 0) &&
		    two.ip[15] == (more ? 0x77 : 77));
	free(q);
	free(p);
}

/* Nothing is known but by a whole header, and a prefix of that wants more. */
static void
fuzz_proxy(const char *b, size_t n, unsigned knob)
{
	static const char sig[] = "\r\n\r\n\0\r\nQUIT\n\x21";
	size_t k;
	struct origin o;
	char *all = malloc(n + 13), *p;
	int r, part;

	assert(all);
	k = knob & 1 ? 13 : 0;		/* version 2, by far most of it */
	memcpy(all, sig, k);
	memcpy(all + k, b, n);
	n += k;
	p = copy(all, n, 0);
	r = proxy_take(p, n, &o);
	free(p);
	assert(r >= -1 && r <= (int)n && r <= HEAD_LEN);
	assert(r > 0 || !o.known);
	assert(o.known || !o.port);
	k = size_of(knob, n);
	p = copy(all, k, 0);
	part = proxy_take(p, k, &o);
	free(p);
	if (r > 0)
		assert(part == (k < (size_t)r ? 0 : r));
	else
		assert(!part || part == r);
	if (r > 0 && *all == 'P') {
		assert(r <= 107 && !memcmp(all + r - 2, "\r\n", 2));
		assert(!memcmp(all, "PROXY ", 6));
	} else if (r > 0)
		assert(r >= 16 && !memcmp(all, sig, 12));
	if (r > 0) {
		p = copy(all, r - 1, 0);
		assert(!proxy_take(p, r - 1, &o) && !o.known);
		free(p);
	}
	free(all);
}

static void
check_host(const char *host, const char *port)
{
	const char *p;

	assert(*host && *host != '-' && strlen(host) <= HOST_LEN);
	assert(*port && *port != '-' && strlen(port) <= 32);
	for (p = host; *p; p++)
		assert(is_node_char(*p) || *p == ':' || *p == '%');
	for (p = port; *p; p++)
		assert(is_alnum(*p) || *p == '-');
}

/* Where a server is, and the ways there: nothing in them ends a line or means
 * something to a shell. */
static void
fuzz_url(char *s, size_t n, unsigned knob)
{
	const char *why = NULL, *p;
	char out[200];
	struct proxy x;
	struct url u;
	size_t k = size_of(knob, sizeof out);

	(void)n;
	if (url_parse(s, &u) == 0) {
		if (u.scheme != S_UNIX)
			check_host(u.host, u.port);
		assert(!*u.path == (u.scheme == S_TCP));
		assert(!*u.path || *u.path == '/');
		for (p = u.path; *p; p++)
			assert(*p > ' ' && *p <= '~');
		if (command_expand(s, "h.x", "1", out, k) == 0)
			assert(strlen(out) < k);
		no_proxy_has(s, u.host);
	}
	if (proxy_parse(s, &x, &why) == 0) {
		check_host(x.host, x.port);
		for (p = x.user; *p; p++)
			assert((unsigned char)*p >= ' ' && *p != 0x7f);
		for (p = x.pass; *p; p++)
			assert((unsigned char)*p >= ' ' && *p != 0x7f);
	} else
		assert(why && *why);
	assert(!no_proxy_has(s, "a.b") || strchr(s, 'b') || strchr(s, 'B') ||
	    strchr(s, '*'));
}

static void
fuzz_socks(const char *b, size_t n, unsigned knob)
{
	const char *why = NULL;
	char *p = copy(b, n, 0);
	int r = socks_take((unsigned char *)p, n, &why), part;
	size_t k = size_of(knob, n);

	free(p);
	assert(r >= -1 && r <= (int)n);
	assert(r <= 0 || (b[0] == 5 && !why == !b[1]));
	p = copy(b, k, 0);
	part = socks_take((unsigned char *)p, k, &why);
	free(p);
	if (r > 0)
		assert(part == (k < (size_t)r ? 0 : r));
	else
		assert(!part || part == r);
}

/* What openssl says comes in part from whoever answers it. */
static void
fuzz_tls(char *s, size_t n, unsigned knob)
{
	char out[120] = "", *p;
	size_t k = size_of(knob, sizeof out - 8) + 8;
	int r = tls_reason(s, out, k);

	(void)n;
	assert(r >= 0 && r <= 2 && strlen(out) < k);
	assert(r || !*out);
	assert(r != 1 || strstr(s, "verify error:num="));
	for (p = out; *p; p++)
		assert(*p >= ' ' && *p <= '~');
}

static const struct {
	void (*bytes)(const char *, size_t, unsigned knob);
	void (*string)(char *, size_t, unsigned knob);
} parsers[] = {
	{ fuzz_line, NULL },		/* a */
	{ fuzz_sniff, NULL },
	{ NULL, fuzz_next },		/* c */
	{ NULL, fuzz_get },
	{ NULL, fuzz_number },
	{ NULL, fuzz_hex },		/* f */
	{ NULL, fuzz_node },
	{ NULL, fuzz_hello },
	{ NULL, fuzz_reply },		/* i */
	{ NULL, fuzz_refusal },
	{ fuzz_escape, NULL },
	{ NULL, fuzz_addr },		/* l */
	{ NULL, fuzz_quote },
	{ NULL, fuzz_conf },
	{ NULL, fuzz_b64 },		/* o */
	{ NULL, fuzz_secret },
	{ NULL, fuzz_right },
	{ NULL, fuzz_glob },		/* r */
	{ fuzz_hash, NULL },
	{ NULL, fuzz_proof },
	{ NULL, fuzz_option },		/* u */
	{ fuzz_head, NULL },
	{ fuzz_request, NULL },
	{ fuzz_response, NULL },	/* x */
	{ NULL, fuzz_net },
	{ fuzz_origin, NULL },
	{ fuzz_proxy, NULL },		/* { */
	{ NULL, fuzz_url },
	{ fuzz_socks, NULL },
	{ NULL, fuzz_tls },		/* ~ */
};

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const char *b = (const char *)data + 2;
	unsigned which;
	char *s;

	if (n < 2)
		return 0;
	which = (data[0] + LEN(parsers) * 256 - 'a') % LEN(parsers);
	n -= 2;
	if (parsers[which].bytes) {
		parsers[which].bytes(b, n, data[1]);
		return 0;
	}
	s = copy(b, n, 1);
	parsers[which].string(s, strlen(s), data[1]);
	free(s);
	return 0;
}

#ifdef REPLAY
int
main(int argc, char **argv)
{
	static uint8_t buf[4096];
	uint8_t *exact;
	FILE *f;
	size_t n;
	int i;

	for (i = 1; i < argc; i++) {
		if (!(f = fopen(argv[i], "rb"))) {
			perror(argv[i]);
			return 1;
		}
		n = fread(buf, 1, sizeof buf, f);
		exact = (uint8_t *)copy(buf, n, 0);
		LLVMFuzzerTestOneInput(exact, n);
		free(exact);
		fclose(f);
	}
	printf("%d inputs\n", argc - 1);
	return 0;
}
#endif
