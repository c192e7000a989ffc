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
	char *line = copy("", 0, LINE_LEN);
	int got = line_take(b, n, line), i;

	assert(got >= -1 && got <= (int)n && got <= LINE_LEN);
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
		at = s + strspn(s, BLANKS);
		was = strcspn(at, BLANKS);
		r = word_next(&s, w, size);
		assert(s == at + was && s <= line + n);
		if (was >= size) {
			assert(r == -1);
			continue;
		}
		assert((size_t)r == was && strlen(w) == was);
		assert(!memcmp(w, at, was) && !strpbrk(w, BLANKS));
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
	p = word_is(line, name);
	assert(!!p == (strcspn(at, " ") == k && !memcmp(at, name, k)));
	assert(!p || p == at + k + strspn(at + k, " "));
	free(w);
}

/* What it says is the same when it is written again. */
static void
fuzz_version(const char *s)
{
	char b[16];
	uint16_t v, two;

	if (version_parse(s, &v) < 0)
		return;
	snprintf(b, sizeof b, "%d.%d", v >> 8, v & 255);
	assert(version_parse(b, &two) == 0 && v == two);
	assert(strtol(s, NULL, 10) == v >> 8 && strchr(s, '.'));
	assert(strtol(strchr(s, '.') + 1, NULL, 10) == (v & 255));
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
	fuzz_version(s);
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

/* One error from s: the rest begins and ends as s does. */
static void
check_variant(const char *s, unsigned i)
{
	char *out = malloc(NODE_LEN + 1);
	size_t n = strlen(s), m, k = 0, j = 0;
	int more = name_variant(s, i, out);

	assert(out && more == (i < (n + 1) * 80));
	m = strlen(out);
	if (more && m) {
		assert(m <= NODE_LEN && m + 1 >= n && m <= n + 1);
		for (; s[k] && s[k] == out[k]; k++)
			;
		for (; j < n - k && j < m - k &&
		    s[n - 1 - j] == out[m - 1 - j]; j++)
			;
		n -= k + j;
		m -= k + j;
		assert((n <= 1 && m <= 1 && n + m) || (n == 2 && m == 2 &&
		    s[k] == out[k + 1] && s[k + 1] == out[k]));
	}
	free(out);
}

static void
fuzz_node(char *s, size_t n, unsigned knob)
{
	char *out = malloc(NODE_LEN + 1), two[NODE_LEN + 1];
	unsigned i;

	assert(out);
	if (!node_parse(s, out, knob & 1)) {
		assert(*out && strlen(out) <= NODE_LEN);
		assert(strlen(out) == n || (knob & 1 && strlen(out) + 5 == n));
		assert(!node_parse(out, two, 0) && !strcmp(out, two));
		assert(!node_parse(s, two, 1));
		for (i = knob; i < 256 + 80 * NODE_LEN; i += 256)
			check_variant(out, i);
	}
	node_suggest(s, out);
	assert(!node_parse(out, two, 0) && !strcmp(out, two));
	free(out);
}

/* In lower case, as they are in the line, and no blank, quote or comma of
 * another list. */
static void
check_patterns(const char *line, const char *s)
{
	char two[NODES_LEN + 1];
	size_t n = strlen(s), i;

	assert(n && n <= NODES_LEN && strspn(s, PATTERN_CHARS) == n);
	assert(!patterns_parse(s, two) && !strcmp(s, two));
	for (; *line; line++) {
		for (i = 0; i < n && fold(line[i], 0) == s[i];)
			i++;
		if (i == n)
			return;
	}
	assert(!"patterns from nowhere");
}

/* The words for GO fit, and say the same again. */
static void
check_resume(const char *words)
{
	char token[TOKEN_LEN + 1], again[RESUME_LEN];
	long seq = -1;

	assert(strlen(words) < RESUME_LEN && *words == ' ');
	assert(resume_parse(words, token, &seq) == 1);
	snprintf(again, sizeof again, " resume=%s seq=%ld", token, seq);
	assert(!strcmp(words, again));
}

static void
fuzz_resume(char *line, size_t n, unsigned knob)
{
	char *token = copy("", 0, TOKEN_LEN + 1), b[RESUME_LEN];
	long seq = -1;
	int r = resume_parse(line, token, &seq);

	(void)n, (void)knob;
	assert(r >= -1 && r <= 1);
	if (r)
		assert(strstr(line, "resume="));
	if (r > 0) {
		assert(strlen(token) == TOKEN_LEN && strstr(line, token));
		assert(strspn(token, "0123456789abcdef") == TOKEN_LEN);
		assert(seq >= 0 && seq <= 999999999);
		snprintf(b, sizeof b, " resume=%s seq=%ld", token, seq);
		check_resume(b);
	}
	free(token);
}

/* The head of a frame: all of it, or a prefix, which says no more than all;
 * what is written is what was read.  And what close_write() makes of b. */
static void
fuzz_frame(const char *b, size_t n, unsigned knob)
{
	unsigned char *p = (unsigned char *)copy(b, n, 0), *out, *part;
	size_t k = size_of(knob, n < FRAME_HEAD ? n : FRAME_HEAD);
	enum code code = 1 + knob % (C_MAX - 1);
	struct frame f, two;
	int r, len, q;
	char *s = copy(b, n, 1);

	r = frame_parse(p, n, &f);
	assert(r == -1 || r == 0 || r == FRAME_HEAD);
	assert(n < FRAME_HEAD || r);
	assert(r == 0 || n);
	part = (unsigned char *)copy(b, k, 0);
	q = frame_parse(part, k, &two);
	assert(q == r || !q);
	assert(q || !k || *part < F_MAX);
	free(part);
	out = (unsigned char *)copy("", 0, FRAME_HEAD);
	if (r > 0) {
		assert(f.type < F_MAX && f.len <= 0xffffff);
		assert(!f.len || f.type == F_DATA || f.type == F_CLOSE);
		assert(f.type != F_CLOSE || f.len <= FRAME_TEXT);
		frame_write(out, &f);
		assert(!memcmp(out, p, FRAME_HEAD));
	}
	free(out);
	out = (unsigned char *)copy("", 0, FRAME_HEAD + FRAME_TEXT);
	len = close_write(out, code, s);
	assert(len >= FRAME_HEAD && len < FRAME_HEAD + FRAME_TEXT);
	assert(frame_parse(out, len, &two) == FRAME_HEAD);
	assert(two.type == F_CLOSE && (int)two.len == len - FRAME_HEAD);
	assert(begins((char *)out + FRAME_HEAD, "ERROR "));
	free(out);
	free(p);
	free(s);
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
	assert(h.role < (h.version == 1 ? R_LIST : R_MAX));
	if (h.role == R_LIST)
		check_patterns(line, h.node);
	else
		assert(!node_parse(h.node, two, 0) && !strcmp(h.node, two));
	assert(h.slot >= 0 && h.slot <= 63);
	assert(h.wait >= 0 && h.wait <= WAIT_MAX);
	assert(h.early == 0 || h.early == 1);
	assert(h.version == 2 || (!h.run && !h.slot && !h.wait &&
	    !h.early && !*h.key && !h.v));
	assert(!h.v || strstr(line, "v="));
	assert(h.frames == 0 || h.frames == 1);
	assert(h.version == 2 || (!h.frames && !*h.resume));
	if (*h.resume)
		check_resume(h.resume);
	assert(!*h.resume || strstr(line, "resume="));
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
	struct url u = { .scheme = S_TCP };

	host = malloc(HOST_LEN + 1);
	port = malloc(33);
	if (!host_split(s, n, host, port, PORT)) {
		assert(*host && strlen(host) <= HOST_LEN && *host != '-');
		assert(strspn(host, safe) == strlen(host));
		assert(*port && strlen(port) <= 32 && *port != '-');
		assert(strspn(port, safe) == strlen(port));
		out = malloc(NAME_LEN);
		memcpy(u.host, host, strlen(host));
		memcpy(u.port, port, strlen(port));
		host_name(knob & 1 ? "a.b" : "node", &u, knob & 2 ? "nc" : NULL,
		    out);
		assert(strlen(out) < NAME_LEN && has_suffix(out, ".mssh"));
		assert(!strpbrk(out, ":% "));
		assert(out[knob & 1 ? 3 : 4] == (knob & 1 ? '+' : '.'));
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
		ok = ok && strchr(NAME_CHARS, s[i]);
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
		line += strspn(line, BLANKS);
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

/* In any two parts it is the same hash; SipHash is it at any address. */
static void
fuzz_hash(const char *b, size_t n, unsigned knob)
{
	static const unsigned char key[16] = { 1 };
	struct sha256 s;
	unsigned char whole[MAC_LEN], parts[MAC_LEN], odd[132];
	size_t k;

	n = n > 130 ? 130 : n;
	k = size_of(knob, n);
	s = sha256_start;
	sha256_add(&s, b, n);
	sha256_end(&s, whole);
	s = sha256_start;
	sha256_add(&s, b, k);
	sha256_add(&s, b + k, n - k);
	sha256_end(&s, parts);
	assert(!mac_differs(whole, parts));
	memcpy(odd + 1, b, n);
	assert(siphash(key, b, n) == siphash(key, odd + 1, n));
	odd[1 + k] ^= 1;
	assert(k == n || siphash(key, b, n) != siphash(key, odd + 1, n));
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

/* Whoever knows the key gets a proof, whatever else is in the line; nobody else
 * does.  Of two words with one name the first one counts. */
static void
fuzz_challenge(char *s, size_t n, unsigned knob)
{
	static const struct secret k = { "k", { 1 } };
	struct hello h = { .version = 2, .role = knob & 1, .node = "web" };
	unsigned char nonce[MAC_LEN], mac[MAC_LEN];
	char *out = malloc(LINE_LEN), line[LINE_LEN], w[LINE_LEN];
	char m[B64_LEN + 1];
	int r, theirs;

	assert(out);
	s[n > 300 ? 300 : n] = '\0';
	theirs = word_get(s, "nonce", w, sizeof w) >= 0 ||
	    word_get(s, "mac", w, sizeof w) >= 0;
	memset(nonce, knob, sizeof nonce);
	proof_mac(&k, LABEL_SERVER, h.role, h.node, h.nonce, nonce, mac);
	b64_write(nonce, w);
	b64_write(mac, m);
	snprintf(line, sizeof line, "%.300s nonce=%.43s mac=%s", s, w, m);
	r = proof_answer(&k, &h, line, out);
	assert(r == 0 || (r == -1 && theirs));
	if (r == 0) {
		assert(word_get(line, "nonce", w, B64_LEN + 1) == B64_LEN);
		assert(!b64_parse(w, nonce));
		r = line_take(out, strlen(out), line);
		assert(r == (int)strlen(out));
		assert(!strncmp(out, "PROOF mac=", 10));
		proof_mac(&k, LABEL_PEER, h.role, h.node, h.nonce, nonce, mac);
		b64_write(mac, m);
		assert(!strcmp(line + 10, m));
	}
	/* not the key: no proof */
	proof_mac(&k, LABEL_SERVER, h.role, h.node, h.nonce, nonce, mac);
	mac[knob % MAC_LEN] ^= 1 << knob / MAC_LEN;
	b64_write(nonce, w);
	b64_write(mac, m);
	snprintf(line, sizeof line, "nonce=%.43s mac=%s %.300s", w, m, s);
	assert(proof_answer(&k, &h, line, out) == -1);
	assert(theirs || proof_answer(&k, &h, s, out) == -1);
	free(out);
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
		assert(f.name[f.name_len] == ':' && strchr(TCHARS, *f.name));
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
			assert(strchr(TCHARS, b[i + 1]) ||
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

/* It fits, and says the status to whoever reads it. */
static void
check_status(const struct request *q)
{
	char b[600];
	size_t k = http_answer(q, b, sizeof b);
	struct response r;
	int head;

	assert(k < sizeof b - 1 && k == strlen(b));
	head = response_take(b, k, &r);
	assert(head > 0 && r.status == q->status);
	assert(r.mssh == (q->status == 101 || q->status == 426));
	assert((head == (int)k) == (q->status == 101 || q->head));
}

/* Where metrics are, it may be another one. */
static void
check_answer(const struct request *q)
{
	struct request other = *q;

	check_status(q);
	if (q->status != 426)
		return;
	other.status = 404;
	check_status(&other);
}

static void
fuzz_request(const char *b, size_t n, unsigned knob)
{
	static const char *const lines[] = { "", "GET / HTTP/1.1\r\n",
	    "GET /healthz HTTP/1.1\r\nHost: x\r\n", "GET ",
	    "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n" };
	char *p = head_behind(knob == 255 ? "GET /metrics HTTP/1.1\r\n"
	    "Host: x\r\nAccept: " : lines[knob % LEN(lines)], b, n);
	const char *end;
	struct request q = { .why = NULL };

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
	check_answer(&q);
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
	assert(q.metrics == (!strncmp(p, "GET /metrics", 12) &&
	    (p[12] == ' ' || p[12] == '?')));
	assert(!q.open || (mentions(p, end, "\naccept:") &&
	    mentions(p, end, "application/openmetrics-text")));
	free(p);
}

/* Too little waits until it is late; what is decided stays so. */
static void
fuzz_web(const char *b, size_t n, unsigned knob)
{
	struct request q = { .why = NULL }, two = q;
	const char *why;
	size_t k = size_of(knob, n);
	char *p = copy(b, k, 0);
	int late = knob & 1, r, part, whole = head_take(b, n, &why);

	part = request_take(p, k, 0, &two);
	r = request_take(b, n, late, &q);
	assert(r == (whole > 0 ? whole : 0) && r <= (int)n);
	if (r > 0)
		assert(q.status && q.fields > b && q.fields <= b + r - 2);
	else if (whole < 0)
		assert(q.status == (whole == -2 ? 431 : 400));
	else
		assert(q.status == (late ? 408 : 0));
	assert(q.status < 400 || (q.why && *q.why));
	if (two.status)
		assert(part == r && two.status == q.status &&
		    two.head == q.head && (!r || two.fields - p ==
		    q.fields - b));
	else
		assert(!part && (!r || k < (size_t)r));
	if (q.status)
		check_answer(&q);
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

/* It is the same peer as a socket has it, and when it is read again. */
static void
check_peer(const struct peer *p)
{
	static const unsigned char v4[16] = { [10] = 255, 255, 127 };
	struct sockaddr_storage ss = { 0 };
	struct sockaddr_in *s4 = (struct sockaddr_in *)&ss;
	struct sockaddr_in6 *s6 = (struct sockaddr_in6 *)&ss;
	char *b = malloc(PEER_LEN);
	const char *s;
	struct peer two;

	assert(b);
	s = peer_write(p, b);
	assert(strlen(s) < PEER_LEN);
	if (is_unix(p))
		assert(!strcmp(s, "unix"));
	else
		assert(!origin_parse(s, strlen(s), &two) &&
		    !memcmp(two.ip, p->ip, 16) && two.port == p->port);
	assert(is_local(p) == (is_unix(p) || !memcmp(p->ip, v4, 13) ||
	    begins(s, "[::1]")));
	if (is_ipv4(p)) {
		ss.ss_family = AF_INET;
		memcpy(&s4->sin_addr, p->ip + 12, 4);
		s4->sin_port = htons(p->port);
	} else if (!is_unix(p)) {
		ss.ss_family = AF_INET6;
		memcpy(&s6->sin6_addr, p->ip, 16);
		s6->sin6_port = htons(p->port);
	}
	peer_set(&two, &ss);
	assert(!memcmp(two.ip, p->ip, 16) && two.port == p->port);
	free(b);
}

/* What of a client is understood is the same when it is written again. */
static void
fuzz_go(char *line, size_t n, unsigned knob)
{
	static const char *const words[] = { "id", "from", "key" };
	char *key = malloc(KEY_LEN + 1), two[KEY_LEN + 1], b[PEER_LEN];
	char again[200];
	const char *from;
	struct peer p, q;
	uint64_t id, id2;

	(void)n;
	assert(key);
	go_parse(line, &id, &p, key);
	assert(!id || strstr(line, "id="));
	assert(has_addr(&p) || !p.port);
	assert(is_unix(&p) || strstr(line, "from="));
	assert(!*key || (key_name_ok(key) && strstr(line, key)));
	check_peer(&p);
	from = peer_write(&p, b);
	snprintf(again, sizeof again, "GO key=%s from=%s id=%llx", key, from,
	    (unsigned long long)id);
	go_parse(again, &id2, &q, two);
	assert(id == id2 && !memcmp(p.ip, q.ip, 16) && p.port == q.port &&
	    !strcmp(key, two));
	/* one that is empty before all of them */
	snprintf(again, sizeof again, "%s= key=%s from=%s id=%llx",
	    words[knob % 3], key, from, (unsigned long long)id);
	go_parse(again, &id2, &q, two);
	assert(id2 == (knob % 3 == 0 ? 0 : id));
	assert(is_unix(&q) == (knob % 3 == 1 || is_unix(&p)));
	assert(!strcmp(two, knob % 3 == 2 ? "" : key));
	free(key);
}

/* An address, or nothing is known; ADDR/BITS has what begins with it. */
static void
fuzz_net(char *s, size_t n, unsigned knob)
{
	struct net net;
	struct peer o;
	unsigned char ip[16];
	char *p = copy(s, n, 0);
	int bit, other, r;

	r = origin_parse(p, n, &o);
	assert(r == (has_addr(&o) ? 0 : -1));
	assert(has_addr(&o) || !o.port);
	check_peer(&o);
	free(p);
	if (net_parse(s, &net) < 0)
		return;
	assert(net.bits >= 0 && net.bits <= 128);
	assert(strspn(s, "0123456789abcdefABCDEF:./") == n);
	memcpy(ip, net.ip, 16);
	other = net.bits < 96;		/* nothing of IPv4 is in it */
	assert(net_has(&net, 1, ip) == !(other && !memcmp(ip, ip_map, 12)));
	bit = knob & 127;
	ip[bit / 8] ^= 0x80 >> bit % 8;
	assert(net_has(&net, 1, ip) == (bit >= net.bits &&
	    !(other && !memcmp(ip, ip_map, 12))));
}

/* Fields of a front: fronts are what begins with knob's bits.  Whoever comes
 * out of it stands there, and is no front unless all of them are; a front's
 * own word behind all else is the one that counts. */
static void
fuzz_origin(const char *b, size_t n, unsigned knob)
{
	static const char *const last[] = { "X-Forwarded-For: 192.0.2.77\r\n",
	    "X-Forwarded-For: [2001:db8::77]:7\r\n" };
	struct net fronts[2];
	struct peer o, two;
	const char *f, *end;
	char *p = head_behind("GET / HTTP/1.1\r\n", b, n), *q;
	char line[INET6_ADDRSTRLEN];
	int nfronts = knob & 3, more = knob >> 2 & 1;
	size_t k;

	if (!p)
		return;
	assert(net_parse("10.0.0.0/8", &fronts[0]) == 0);
	assert(net_parse("::1", &fronts[1]) == 0);
	nfronts = nfronts > 2 ? 2 : nfronts;
	f = p + 16;
	head_origin(f, fronts, nfronts, &o);
	for (end = f; *end != '\r'; end = strchr(end, '\n') + 1)
		;
	if (has_addr(&o))
		assert(mentions(f - 1, end, "\nx-forwarded-for:"));
	if (has_addr(&o) && is_ipv4(&o) &&
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
	head_origin(q, fronts, nfronts, &two);
	if (end - f + k + 2 + 16 <= HEAD_LEN)
		assert(two.ip[0] == (more ? 0x20 : 0) &&
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
	struct peer o;
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
	assert(r > 0 || is_unix(&o));
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
		assert(!proxy_take(p, r - 1, &o) && is_unix(&o));
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
		assert(strchr(NAME_CHARS ":%", *p));
	for (p = port; *p; p++)
		assert(is_alnum(*p) || *p == '-');
}

/* Its normal form is the same server. */
static void
check_url(const struct url *u)
{
	char a[URL_LEN], b[URL_LEN], name[HOST_LEN + 1];
	struct url two;

	if (u->scheme == S_TCP && says(u->host, strlen(u->host), "unix"))
		return;			/* "unix:8443" is another thing */
	assert(url_parse(url_str(u, a, sizeof a), &two) == 0);
	assert(!strcmp(a, url_str(&two, b, sizeof b)) &&
	    u->scheme == two.scheme && !strcmp(u->host, two.host));
	tls_name(u, name);
	assert(!strncmp(name, u->host, strlen(name)) &&
	    strlen(u->host) - strlen(name) <= 1);
}

/* No byte that may be of a password is shown. */
static void
check_mask(const char *s, size_t size)
{
	char *out = malloc(size + 1), *p = out;
	const char *at = strrchr(s, '@');

	assert(out);
	url_mask(s, out, size + 1);
	assert(strlen(out) <= size);
	if (at && strchr(s, ':') && size > 4 * strlen(s) + 8) {
		p += strspn(p, NAME_CHARS "+");
		p = p > out && !strncmp(p, "://", 3) ? p + 3 : out;
		assert(!strncmp(p, "***@", 4) && !strchr(p + 4, '@'));
	}
	for (p = out; *p; p++)
		assert(*p >= ' ' && *p <= '~');
	free(out);
}

/* NULL is the last; nothing that a host may be is taken for an option. */
static void
check_args(const char *host, unsigned knob)
{
	char **argv = malloc(TLS_ARGS * sizeof *argv);
	unsigned char ip[16];
	int n, hosts = 0;

	assert(argv);
	tls_args(argv, "/s", host, knob & 1, knob & 2 ? "ca" : NULL,
	    knob & 4 ? "cert" : NULL, knob & 8 ? "key" : NULL);
	for (n = 0; argv[n]; n++)
		if (argv[n] == host) {
			assert(n && *argv[n - 1] == '-');
			hosts++;
		}
	assert(hosts == (ip_parse(host, ip) < 0 ? 2 : 1));
	assert(n < TLS_ARGS && n == 12 + hosts + (knob & 1 ? 2 : 0) +
	    (knob & 2 ? 2 : 0) + (knob & 4 ? 6 : 0));
	free(argv);
}

/* What a proxy is told: one head, or as many bytes as it says. */
static void
check_requests(const struct proxy *x)
{
	static const unsigned char ip[4] = { 1, 2, 3, 4 };
	size_t u = strlen(x->user), p = strlen(x->pass), n;
	struct proxy five = *x;
	const char *why;
	struct url to;
	char b[1500];
	unsigned char *o = (unsigned char *)b;
	int step = 0;

	assert(url_parse("https://server.test/x", &to) == 0);
	memcpy(to.host, x->host, sizeof to.host);
	n = connect_request(&to, x, b, sizeof b);
	assert(head_take(b, n, &why) == (int)n);
	assert(!!strstr(b, "\r\nProxy-Authorization: ") == !!u);
	n = upgrade_request(&to, "1", b, sizeof b);
	assert(head_take(b, n, &why) == (int)n);
	five.kind = PX_SOCKS5;
	assert(socks_next(&five, &to, ip, &step, NULL, o, &why) ==
	    (u ? 4 : 3) && b[1] == (u ? 2 : 1));
	n = socks_next(&five, &to, ip, &step, "\5\2", o, &why);
	assert(n == (u ? 3 + u + p : 0));
	assert(!u || (o[1] == u && o[2 + u] == p));
	assert(socks4_connect(x, x->host, 1, ip, o) == 9 + u);
	n = socks4_connect(x, x->host, 1, NULL, o);
	assert(n == 10 + u + strlen(x->host) && !b[n - 1] && !b[8 + u]);
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
		check_url(&u);
		check_args(u.host, knob);
	}
	if (knob & 1)
		check_mask(s, k);
	assert(!proxy_parse(s, &x, &why) == (x.kind != PX_NONE));
	if (x.kind) {
		check_host(x.host, x.port);
		check_requests(&x);
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
	r = socks4_take((const unsigned char *)b, n, &why);
	assert(r == (n && b[0] ? -1 : n < 8 ? 0 : 8));
	assert(r <= 0 || !why == (b[1] == 90));
}

/* What answer_take() fills, each in a block of its own. */
static void *
answer_room(enum answer kind)
{
	static const size_t size[] = { [A_LINE] = LINE_LEN,
	    [A_HTTP] = sizeof(struct response), [A_PAIR] = 2,
	    [A_SOCKS4] = sizeof(char *), [A_SOCKS5] = sizeof(char *) };

	return copy("", 0, size[kind]);
}

/* Takes an answer byte by byte, as it comes.  Returns how many it has, 0 where
 * it wants more, or -1. */
static int
answer_feed(enum answer kind, const char *b, size_t n, void *to)
{
	size_t k = 0;
	int r = 0;

	while (!r && k < n) {
		k++;
		r = answer_take(kind, b, k, to);
		assert(r >= -1 && r <= (int)k);
	}
	return r > 0 ? (int)k : r;
}

/* The same as all of it at once, and none of the bytes behind it. */
static void
fuzz_answer(const char *b, size_t n, unsigned knob)
{
	enum answer kind = knob % 5;
	void *to = answer_room(kind), *all = answer_room(kind);
	size_t k = size_of(knob, n);
	char *p = copy(b, k, 0);
	struct response *x = to, *y = all;
	int part, r, whole;

	n = n > HEAD_LEN ? HEAD_LEN : n;
	r = answer_feed(kind, b, n, to);
	whole = kind == A_LINE ? line_take(b, n, all) :
	    kind == A_HTTP ? response_take(b, n, all) :
	    kind == A_SOCKS5 ? socks_take((const unsigned char *)b, n, all) :
	    kind == A_SOCKS4 ? socks4_take((const unsigned char *)b, n, all) :
	    n < 2 ? 0 : 2;
	assert(r == whole);
	if (r > 0 && kind == A_LINE)
		assert(!strcmp(to, all));
	else if (r > 0 && kind == A_HTTP)
		assert(x->status == y->status && x->mssh == y->mssh &&
		    !strcmp(x->line, y->line));
	else if (r > 0)
		assert(!memcmp(to, kind == A_PAIR ? b : all, kind == A_PAIR ?
		    2 : sizeof(char *)));
	part = answer_feed(kind, p, k, all);
	assert(part == r || (!part && (r < 0 || k < (size_t)r)));
	free(to);
	free(all);
	free(p);
}

/* One message of ours: it is of its version, and names where we want to go. */
static void
check_message(const struct proxy *x, const struct url *to, int step,
    const unsigned char *b, size_t n)
{
	size_t k = strlen(to->host);

	assert(n >= 3 && n <= 1500);
	assert(*b == (x->kind != PX_SOCKS5 ? 4 : step == 2 ? 1 : 5));
	if (step == 2)
		assert(n == 3 + strlen(x->user) + strlen(x->pass));
	else if (x->kind == PX_SOCKS4)
		assert(n == 9 + strlen(x->user) && b[4] == 1 && b[7] == 4);
	else if (x->kind == PX_SOCKS4A)
		assert(!memcmp(b + n - 1 - k, to->host, k + 1));
	else if (step == SOCKS_LAST && x->kind == PX_SOCKS5)
		assert(b[3] == 1 || b[3] == 4 || (b[4] == k &&
		    !memcmp(b + 5, to->host, k)));
}

/* Talks to a proxy that answers the n bytes of b.  Returns how many were
 * needed, with what is wrong with them in *why; 0: more; -1: it is none. */
static int
dialogue(const struct proxy *x, const struct url *to, const char *b, size_t n,
    const char **why)
{
	static const unsigned char ip[4] = { 1, 2, 3, 4 };
	enum answer last = x->kind == PX_SOCKS5 ? A_SOCKS5 : A_SOCKS4;
	const char *said = NULL;
	unsigned char *out = malloc(1500);
	char *pair = malloc(2);
	int step = 0, sent = 0, used = 0, r = 1, len;

	assert(out && pair);
	*why = NULL;
	while (r > 0 && (len = socks_next(x, to, ip, &step, pair, out, why))) {
		if (len < 0) {
			r = -1;
			break;
		}
		check_message(x, to, step, out, len);
		assert(++sent <= 3 && step >= 1 && step <= SOCKS_LAST);
		r = answer_feed(step == SOCKS_LAST ? last : A_PAIR, b + used,
		    n - used, step == SOCKS_LAST ? (void *)&said : pair);
		used += r > 0 ? r : 0;
	}
	assert(r <= 0 || *why || !step);
	free(out);
	free(pair);
	if (said && r > 0)
		*why = said;
	return r > 0 ? used : r;
}

/* A prefix wants more, or gets what the whole gets; only a proxy that says so
 * has connected. */
static void
fuzz_dialogue(const char *b, size_t n, unsigned knob)
{
	static const char *const hosts[] = { "a.test", "192.0.2.1", "::1" };
	struct proxy x = { .kind = PX_SOCKS4 + knob % 3 };
	struct url to = { .port = "443" };
	const char *why, *two;
	size_t k = size_of(knob, n);
	char *p = copy(b, k, 0);
	int r, part, at = 0;

	strcpy(to.host, hosts[knob / 3 % 3]);
	strcpy(x.user, knob & 32 ? "me" : "");
	strcpy(x.pass, knob & 64 ? "pw" : "");
	r = dialogue(&x, &to, b, n, &why);
	part = dialogue(&x, &to, p, k, &two);
	assert(r >= -1 && r <= (int)n);
	if (r > 0)
		assert(part == (k < (size_t)r ? 0 : r) && (!part ||
		    why == two));
	else
		assert(!part || part == r);
	if (r > 0 && !why && x.kind == PX_SOCKS5) {
		assert(b[0] == 5 && (!b[1] || b[1] == 2));
		at = b[1] ? 4 : 2;
		assert(at == 2 || (*x.user && !b[3]));
		assert(b[at] == 5 && !b[at + 1] && r >= at + 7);
	} else if (r > 0 && !why)
		assert(r == 8 && !b[0] && b[1] == 90);
	free(p);
}

/* A sentence, or nothing is written; an early end is not always to blame. */
static void
check_blame(const char *s, int early, size_t size, int kind)
{
	static const char whom[] = "a.test:443";
	char *out = copy("#", 1, size - 1), *p;
	int r = tls_blame(s, whom, early, out, size);

	assert(r == 0 || r == 1);
	if (!r)
		assert(!strcmp(out, "#") && (!kind || (early && kind == 2 &&
		    strstr(s, "eof"))));
	else {
		assert(strlen(out) < size);
		assert(kind || !strncmp(s, "cannot run", 10));
		assert(size < 180 || strstr(out, "OpenSSL") ||
		    strstr(out, whom));
	}
	for (p = out; *p; p++)
		assert(*p >= ' ' && *p <= '~');
	free(out);
}

/* What openssl says comes in part from whoever answers it. */
static void
fuzz_tls(char *s, size_t n, unsigned knob)
{
	char out[120] = "", *p;
	size_t k = size_of(knob, sizeof out - 8) + 8;
	int r = tls_reason(s, out, k);

	(void)n;
	check_blame(s, knob & 1, 3 * k, r);
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
	{ NULL, fuzz_challenge },	/* 0x7f */
	{ fuzz_web, NULL },
	{ NULL, fuzz_go },		/* 0x81 */
	{ fuzz_answer, NULL },
	{ fuzz_dialogue, NULL },	/* 0x83 */
	{ fuzz_frame, NULL },
	{ NULL, fuzz_resume },		/* 0x85 */
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
