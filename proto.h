/* proto.h - what mssh says on the wire and reads in files
 *
 * Pure functions: no I/O, no allocation, no clock, no errno.  Whatever an
 * unauthenticated peer can send is parsed here, so one include is one fuzz
 * target.  In this order:
 *
 *	wire		lines, words, numbers, ids, hello and replies, frames
 *	keys		SHA-256, HMAC, SipHash, secrets and proofs
 *	addresses	networks, peers, HOST:PORT
 *	HTTP		heads, requests, answers, PROXY headers
 *	ways out	URLs, proxies, CONNECT, SOCKS, what openssl says
 *	configuration	names and quotes for ssh, patterns, the file
 *
 * Theory.  A conversation is lines of printable ASCII that end in LF (a CR
 * before it is dropped), then raw bytes that belong to somebody else.  The
 * reader peeks, hands what it sees to line_take(), and consumes exactly what
 * that used, so no byte behind a line is ever touched.  A line is words with
 * blanks between them; words name=value may stand in any order, and an unknown
 * one is ignored: that is how the protocol grows.
 *
 * Parsers return >0: bytes used, 0: more is needed, -1: malformed; those that
 * take a whole string return 0 or -1. */
#ifndef PROTO_H
#define PROTO_H

#include <sys/socket.h>
#include <netinet/in.h>
#include <arpa/inet.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
	LINE_LEN = 512,		/* longest line, its LF included */
	NODE_LEN = 64,		/* longest node id */
	NODES_LEN = 255,	/* longest list of patterns in a hello */
	HOST_LEN = 253,		/* longest host name (RFC 1035 2.3.4) */
	ADDR_LEN = HOST_LEN + 9,	/* "[host]:65535" and NUL */
	PORT = 8443,		/* the server's, when none is given, */
	COPY_LEN = 4096,	/* client bytes that travel behind GO */
	HEAD_LEN = 4096,	/* longest head of HTTP, or PROXY header */
	PATH_LEN = 256,		/* of a URL */
	WAIT_MAX = 86400,	/* longest wait= of a client, s */
	MAC_LEN = 32,		/* HMAC-SHA256; secrets and nonces, too */
	B64_LEN = 43,		/* that in base64url */
	KEY_LEN = 32,		/* longest name of a key */
	KEYS_LEN = 1024,	/* longest line of a keys file */
	TOKEN_LEN = 32,		/* hex digits: of a session that survives */
	RESUME_LEN = TOKEN_LEN + 30,	/* " resume=TOKEN seq=N" and NUL */
	FRAME_HEAD = 12,	/* bytes of a frame in front of its payload */
	FRAME_TEXT = 300,	/* longest payload of F_CLOSE */
	/* sizes of strings that are written here, with their NUL */
	PEER_LEN = INET6_ADDRSTRLEN + 10,
	URL_LEN = HOST_LEN + PATH_LEN + 50,
	NAME_LEN = NODE_LEN + HOST_LEN + 50,
	AGO_LEN = 32
};

#define PORT_STR "8443"		/* and in words */
#define KEY_RULE "the name of a key has 1 to 32 letters, digits, '.', '_' " \
	"and '-', a letter or digit first"
#define BLANKS " \t\r\n"	/* on the wire there is only the first */
#define DIGITS "0123456789"
#define ALNUM "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" DIGITS
#define NAME_CHARS ALNUM "._-"	/* of a node or a key */
#define PATTERN_CHARS NAME_CHARS "*?[]!^,"

/* Why something was refused; the name is the word on the wire. */
enum code {
	C_OK, C_SYNTAX, C_DENIED, C_OFFLINE, C_BUSY, C_EXISTS,
	C_UNREACHABLE, C_TIMEOUT, C_LIMIT, C_GONE, C_UNSUPPORTED, C_MAX
};

static const char *const code_names[C_MAX] = {
	"ok", "syntax", "denied", "offline", "busy", "exists",
	"unreachable", "timeout", "limit", "gone", "unsupported"
};

/* exit codes, and which a client makes of a refusal */
enum {
	X_FAIL = 1, X_USAGE, X_UNREACHABLE, X_OFFLINE, X_DENIED, X_SSHD,
	X_TIMEOUT, X_BUSY, X_PROTOCOL, X_TLS, X_GONE, X_LOST
};

static const unsigned char code_exits[C_MAX] = {
	[C_SYNTAX] = X_PROTOCOL, [C_DENIED] = X_DENIED,
	[C_OFFLINE] = X_OFFLINE, [C_BUSY] = X_BUSY, [C_EXISTS] = X_DENIED,
	[C_UNREACHABLE] = X_SSHD, [C_TIMEOUT] = X_TIMEOUT, [C_LIMIT] = X_BUSY,
	[C_GONE] = X_GONE, [C_UNSUPPORTED] = X_PROTOCOL
};

/* wire */

static inline int
fold(int c, int exact)
{
	return !exact && c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

static inline int
is_alnum(int c)
{
	return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
}

/* Do n bytes say word, without regard to case? */
static inline int
says(const char *s, size_t n, const char *word)
{
	return strlen(word) == n && !strncasecmp(s, word, n);
}

static inline int
begins(const char *s, const char *with)
{
	return !strncasecmp(s, with, strlen(with));
}

static inline int
has_suffix(const char *s, const char *suf)
{
	size_t n = strlen(s), m = strlen(suf);

	return n >= m && !strcmp(s + n - m, suf);
}

/* Copies n bytes to out, a NUL-terminated string of size, with all that is
 * not plain print escaped: fit for a log line or a terminal. */
static inline char *
escape(char *out, size_t size, const void *in, size_t n)
{
	const unsigned char *b = in;
	size_t i, o = 0;

	for (i = 0; i < n && o + 5 < size; i++)
		if (b[i] >= ' ' && b[i] <= '~' && b[i] != '\\')
			out[o++] = b[i];
		else
			o += snprintf(out + o, 5, "\\x%02x", b[i]);
	out[o] = '\0';
	return out;
}

/* UTC as RFC 3339 writes it.  Not gmtime_r(3): a libc's time zones are 4 KiB in
 * a static binary, and a file that the sandbox forbids.  Days to date after the
 * Explanatory Supplement to the Astronomical Almanac, 3rd ed., 15.11.3. */
static inline int
time_str(int64_t t, char *b, size_t size)
{
	int s = t % 86400, day = t / 86400 + 2440588;
	int f = day + 1401 + (4 * day + 274277) / 146097 * 3 / 4 - 38;
	int e = 4 * f + 3, h = 5 * (e % 1461 / 4) + 2;
	int m = (h / 153 + 2) % 12 + 1;

	return snprintf(b, size, "%04d-%02d-%02dT%02d:%02d:%02dZ ",
	    e / 1461 - 4716 + (14 - m) / 12, m, h % 153 / 5 + 1,
	    s / 3600, s / 60 % 60, s % 60);
}

/* A time that has passed, in the unit that says most. */
static inline const char *
ago(int64_t ms, char out[AGO_LEN])
{
	static const char unit[][5] = { "s", "min", "h", "days" };
	static const unsigned char next[] = { 60, 60, 24 };
	long long n = ms / 1000;
	int i;

	for (i = 0; i < 3 && n >= 2 * next[i]; i++)
		n /= next[i];
	snprintf(out, AGO_LEN, "%lld %.4s", n, unit[i]);
	return out;
}

/* Copies n bytes of s to out, as a string.  Returns n, or -1: too long. */
static inline int
str_copy(char *out, size_t size, const char *s, size_t n)
{
	if (n >= size)
		return -1;
	memcpy(out, s, n);
	out[n] = '\0';
	return n;
}

/* Takes one line from n peeked bytes into line, without its end.  What is not
 * printable ASCII is malformed at once: noise need not await the deadline. */
static inline int
line_take(const char *buf, size_t n, char line[LINE_LEN])
{
	size_t i;
	int cr = 0;			/* was the last byte one? */

	for (i = 0; i < n && i < LINE_LEN; i++) {
		if (buf[i] == '\n') {
			str_copy(line, LINE_LEN, buf, i - cr);
			return i + 1;
		}
		if (cr || ((buf[i] < ' ' || buf[i] > '~') && buf[i] != '\r'))
			return -1;
		cr = buf[i] == '\r';
	}
	return i == LINE_LEN ? -1 : 0;
}

/* Copies the next word of *s to out and moves *s behind it.  Returns its
 * length, 0 at the end of the line, -1 if it does not fit. */
static inline int
word_next(const char **s, char *out, size_t size)
{
	const char *p = *s + strspn(*s, BLANKS);

	*s = p + strcspn(p, BLANKS);
	return str_copy(out, size, p, *s - p);
}

/* Finds name=value among the words of line; the first one counts.  Returns
 * the value's length, or -1 where it is missing or longer than out. */
static inline int
word_get(const char *line, const char *name, char *out, size_t size)
{
	size_t n = strlen(name), len;

	while (*(line += strspn(line, " "))) {
		len = strcspn(line, " ");
		if (len > n && !memcmp(line, name, n) && line[n] == '=')
			return str_copy(out, size, line + n + 1, len - n - 1);
		line += len;
	}
	return -1;
}

/* Is word the first one of line?  Returns what stands behind it, or NULL. */
static inline const char *
word_is(const char *line, const char *word)
{
	size_t n = strlen(word);

	line += strspn(line, " ");
	if (strncmp(line, word, n) || (line[n] && line[n] != ' '))
		return NULL;
	return line + n + strspn(line + n, " ");
}

/* A decimal number from lo, at least 0, to hi, and nothing else. */
static inline int
num_parse(const char *s, long lo, long hi, long *out)
{
	unsigned long v = 0, max = hi;
	const char *p;

	for (p = s; *p >= '0' && *p <= '9' && v <= max / 10; p++)
		v = v * 10 + (*p - '0');
	if (p == s || *p || v < (unsigned long)lo || v > max)
		return -1;
	*out = v;
	return 0;
}

/* 1 to 16 hexadecimal digits. */
static inline int
hex_parse(const char *s, uint64_t *out)
{
	size_t n = strspn(s, "0123456789abcdefABCDEF");

	if (!n || n > 16 || s[n])
		return -1;
	*out = strtoull(s, NULL, 16);
	return 0;
}

/* base64url without padding and base64 with it (RFC 4648 5, 4): what stands
 * behind the 64 digits is the padding, if there is any */
static const char b64_digits[] = ALNUM "-_";
static const char basic_digits[] = ALNUM "+/=";

static inline void
base64_write(const void *in, size_t n, const char *dig, char *out)
{
	const unsigned char *b = in;
	size_t i, o;
	unsigned two;

	for (o = 0; o * 6 < n * 8; o++) {	/* 6 bits of bytes i, i + 1 */
		i = o * 6 / 8;
		two = b[i] << 8 | (i + 1 < n ? b[i + 1] : 0);
		out[o] = dig[two >> (10 - o * 6 % 8) & 63];
	}
	while (dig[64] && o % 4)
		out[o++] = dig[64];
	out[o] = '\0';
}

/* 32 bytes are 43 characters. */
#define b64_write(in, out) base64_write(in, MAC_LEN, b64_digits, out)

/* Reads exactly 43 characters, and the one spelling of each value.  0, -1. */
static inline int
b64_parse(const char *s, unsigned char out[MAC_LEN])
{
	const char *p;
	uint32_t acc = 0;
	int i, n = 0;

	for (i = 0; i < B64_LEN; i++) {
		if (!s[i] || !(p = strchr(b64_digits, s[i])))
			return -1;
		acc = acc << 6 | (uint32_t)(p - b64_digits);
		if (i % 4)
			out[n++] = acc >> (6 - i % 4 * 2) & 0xff;
	}
	return s[i] || acc & 3 ? -1 : 0;
}

/* Lower-cases a valid id into out, because ssh lower-cases host names.  The
 * ending .mssh is ssh_config's: drop takes it off.  NULL, or what is wrong. */
static inline const char *
node_parse(const char *s, char out[NODE_LEN + 1], int drop)
{
	size_t n = 0, i;

	/* not strspn(3), which makes a table first */
	while (is_alnum(s[n]) || s[n] == '.' || s[n] == '_' || s[n] == '-')
		n++;
	if (s[n])
		return "it may hold letters, digits, '.', '_' and '-'";
	if (!n)
		return "it is empty";
	if (!is_alnum(*s))
		return "it must start with a letter or a digit";
	if (drop && n > 5 && begins(s + n - 5, ".mssh"))
		n -= 5;
	if (n > 5 && begins(s + n - 5, ".mssh"))
		return "the ending .mssh is reserved";
	if (n > NODE_LEN)
		return "it is longer than 64 characters";
	for (i = 0; i < n; i++)
		out[i] = fold(s[i], 0);
	out[n] = '\0';
	return NULL;
}

/* Makes a valid id that looks like s. */
static inline void
node_suggest(const char *s, char out[NODE_LEN + 1])
{
	size_t n = 0;

	for (; *s && n < NODE_LEN; s++)
		if (is_alnum(*s))
			out[n++] = fold(*s, 0);
		else if (n && out[n - 1] != '-')
			out[n++] = *s == '.' || *s == '_' ? *s : '-';
	do {
		while (n && !is_alnum(out[n - 1]))
			n--;
		out[n] = '\0';
	} while (has_suffix(out, ".mssh") && (n -= 5));
	if (!n)
		memcpy(out, "node-1", 7);
}

/* Writes the i-th name that one typing error makes of s (one character more,
 * another or missing, two that change places), or "".  Returns 0 at the end. */
static inline int
name_variant(const char *s, unsigned i, char out[NODE_LEN + 1])
{
	static const char chars[] = "abcdefghijklmnopqrstuvwxyz" DIGITS "-._";
	const unsigned m = sizeof chars - 1, n = strlen(s);
	unsigned at = i / (2 * m + 2), what = i % (2 * m + 2);
	unsigned rest = at + (what >= m) + (what > 2 * m);
	char x[3] = "";

	*out = '\0';
	if (rest > n || (what < m && n == NODE_LEN))
		return at <= n;
	if (what < 2 * m)
		x[0] = chars[what % m];
	else if (what > 2 * m)
		memcpy(x, (char[]){ s[at + 1], s[at] }, 2);
	if (s[at] != (*x ? *x : s[at + 1]))	/* else it is not new */
		strcat(strcpy((char *)memcpy(out, s, at) + at, x), s + rest);
	return 1;
}

/* The name of a key: letters, digits, '.', '_', '-'; 1 to 32 of them. */
static inline int
key_name_ok(const char *s)
{
	size_t n = strspn(s, NAME_CHARS);

	return n <= KEY_LEN && !s[n] && is_alnum(*s);
}

enum role { R_AGENT, R_CLIENT, R_LIST, R_PING, R_MAX };
static const char *const role_names[] = { "agent", "client", "list", "ping" };
static const unsigned char role_rights[] = { 1, 2, 2 | 4, 2 };	/* 1 << role */

struct hello {
	int version;			/* 1 or 2; 0: no hello at all */
	enum role role;
	char node[NODES_LEN + 1];	/* lower case; list: patterns */
	uint16_t v;			/* agent: its program's, 0 unknown */
	uint64_t run;			/* agent: which process; 0 unknown */
	long slot;			/* agent: which of its connections */
	long wait;			/* client: s it would wait */
	long early, late;		/* client: is ssh by now; awaits OK */
	long frames;			/* agent: it can resume sessions */
	char resume[RESUME_LEN];	/* client: " resume=TOKEN seq=N", "" */
	char key[KEY_LEN + 1];		/* "": none */
	unsigned char nonce[MAC_LEN];
};

/* Patterns of nodes, in lower case.  NULL, or what is wrong. */
static inline const char *
patterns_parse(const char *s, char out[NODES_LEN + 1])
{
	size_t n = strspn(s, PATTERN_CHARS), i;

	for (i = 0; i <= n && n <= NODES_LEN; i++)
		out[i] = fold(s[i], 0);
	return n && !s[n] && n <= NODES_LEN ? NULL :
	    "list needs patterns like web-*,db-1, of at most 255 characters";
}

/* Of a version: 256 times its first number, and the second.  0, -1. */
static inline int
version_parse(const char *s, uint16_t *v)
{
	char *end;
	unsigned long a = strtoul(s, &end, 10);
	unsigned long b = end > s && *end == '.' && end[1] >= '0' &&
	    end[1] <= '9' ? strtoul(end + 1, NULL, 10) : 256;

	*v = a << 8 | b;
	return a > 255 || b > 255 ? -1 : 0;
}

/* Which session a client wants to resume, and how often it was attached before.
 * 1; 0: none; -1: malformed. */
static inline int
resume_parse(const char *line, char token[TOKEN_LEN + 1], long *seq)
{
	char w[LINE_LEN];

	if (word_get(line, "resume", w, sizeof w) < 0)
		return 0;
	if (strspn(w, "0123456789abcdef") != TOKEN_LEN || w[TOKEN_LEN])
		return -1;
	memcpy(token, w, TOKEN_LEN + 1);
	return word_get(line, "seq", w, sizeof w) > 0 &&
	    num_parse(w, 0, 999999999, seq) == 0 ? 1 : -1;
}

/* What an agent's hello says of it.  NULL, or what is wrong. */
static inline const char *
agent_words(const char *s, struct hello *h)
{
	char w[LINE_LEN];

	if (word_get(s, "v", w, sizeof w) >= 0 && version_parse(w, &h->v) < 0)
		return "v= needs a version, like 0.1";
	if (word_get(s, "run", w, sizeof w) >= 0 && hex_parse(w, &h->run) < 0)
		return "run= needs up to 16 hex digits";
	if (word_get(s, "slot", w, sizeof w) >= 0 &&
	    num_parse(w, 0, 63, &h->slot) < 0)
		return "slot= needs 0 to 63";
	if (word_get(s, "frames", w, sizeof w) >= 0 &&
	    num_parse(w, 0, 1, &h->frames) < 0)
		return "frames= needs 0 or 1";
	return NULL;
}

/* And all others' hellos. */
static inline const char *
client_words(const char *s, struct hello *h)
{
	char w[LINE_LEN];
	long seq;
	int r;

	if (word_get(s, "wait", w, sizeof w) >= 0 &&
	    num_parse(w, 0, WAIT_MAX, &h->wait) < 0)
		return "wait= needs seconds, at most 86400";
	if ((word_get(s, "early", w, sizeof w) >= 0 &&
	    num_parse(w, 0, 1, &h->early) < 0) ||
	    (word_get(s, "late", w, sizeof w) >= 0 &&
	    num_parse(w, 0, 1, &h->late) < 0))
		return "early= and late= need 0 or 1";
	if ((r = resume_parse(s, w, &seq)) < 0)
		return "resume= needs 32 hex digits, and seq=";
	if (r)
		snprintf(h->resume, sizeof h->resume, " resume=%.32s seq=%ld",
		    w, seq);
	return NULL;
}

/* Parses the first line of a peer.  On -1 *why says what is wrong with it. */
static inline int
hello_parse(const char *line, struct hello *h, const char **why)
{
	static const char v1[][7] = { "AGENT", "CLIENT" };
	const char *v2 = word_is(line, "MSSH/2"), *s = NULL;
	char w[LINE_LEN] = "";
	int i, n = v2 ? R_MAX : R_LIST;

	memset(h, 0, sizeof *h);
	h->version = v2 ? 2 : 0;
	*why = v2 ? "MSSH/2 needs agent, client, list or ping, then a node" :
	    "the first line is not an mssh hello";
	for (i = 0; i < n && !s; i++)
		s = word_is(v2 ? v2 : line, v2 ? role_names[i] : v1[i]);
	if (!s)
		return -1;
	h->role = i - 1;
	h->version = v2 ? 2 : 1;
	word_next(&s, w, sizeof w);
	if ((*why = h->role == R_LIST ? patterns_parse(w, h->node) :
	    node_parse(w, h->node, 0)))
		return -1;
	if (!v2)
		return 0;
	if ((*why = (h->role == R_AGENT ? agent_words : client_words)(s, h)))
		return -1;
	if (word_get(s, "key", w, sizeof w) < 0)
		return 0;
	if (!key_name_ok(w))
		return *why = "key= needs the name of a key", -1;
	memcpy(h->key, w, strlen(w) + 1);
	if (word_get(s, "nonce", w, sizeof w) < 0 || b64_parse(w, h->nonce) < 0)
		return *why = "nonce= needs 43 characters of base64url", -1;
	return 0;
}

/* The code of "OK ..." or "ERROR code text", and *text behind it; -1: neither.
 * An unknown code counts as denied, so that old peers stop on new reasons. */
static inline int
reply_parse(const char *line, const char **text)
{
	const char *s;
	int i;

	if ((*text = word_is(line, "OK")) || (*text = word_is(line, "READY")))
		return C_OK;
	if (!(*text = word_is(line, "ERROR")))
		return -1;
	for (i = 1; i < C_MAX; i++)
		if ((s = word_is(*text, code_names[i]))) {
			*text = s;
			return i;
		}
	return C_DENIED;
}

/* A session that survives its connections is frames in both directions: a type,
 * the length of the payload in 3 bytes, and in 8 bytes how much the sender has
 * received of the other's stream in all.  In that an F_END, behind which no
 * more comes, counts as one byte, other frames as their F_DATA's payload. */
enum frame_type {
	F_DATA,			/* without a payload: an acknowledgement */
	F_END,
	F_PING,			/* wants an F_DATA soon */
	F_CLOSE,		/* the session is over: "ERROR code text" */
	F_MAX
};

struct frame {
	enum frame_type type;
	uint32_t len;		/* of the payload */
	uint64_t received;
};

static inline void
frame_write(unsigned char b[FRAME_HEAD], const struct frame *f)
{
	int i;

	b[0] = f->type;
	for (i = 0; i < 3; i++)
		b[3 - i] = f->len >> 8 * i & 0xff;
	for (i = 0; i < 8; i++)
		b[11 - i] = f->received >> 8 * i & 0xff;
}

/* FRAME_HEAD, 0 or -1; the payload follows. */
static inline int
frame_parse(const unsigned char *b, size_t n, struct frame *f)
{
	int i;

	if (n && (b[0] >= F_MAX))
		return -1;
	if (n < FRAME_HEAD)
		return 0;
	f->type = b[0];
	f->len = f->received = 0;
	for (i = 1; i < 4; i++)
		f->len = f->len << 8 | b[i];
	for (; i < FRAME_HEAD; i++)
		f->received = f->received << 8 | b[i];
	return f->len && (f->type == F_END || f->type == F_PING ||
	    (f->type == F_CLOSE && f->len > FRAME_TEXT)) ? -1 : FRAME_HEAD;
}

/* F_CLOSE: how many bytes it has. */
static inline int
close_write(unsigned char b[FRAME_HEAD + FRAME_TEXT], enum code code,
    const char *why)
{
	struct frame f = { F_CLOSE, 0, 0 };

	f.len = snprintf((char *)b + FRAME_HEAD, FRAME_TEXT, "ERROR %s %.270s",
	    code_names[code], why);
	frame_write(b, &f);
	return FRAME_HEAD + f.len;
}

/* Whose protocol a peer's first bytes are: it gets an answer it understands. */
enum tongue { T_UNKNOWN, T_MSSH, T_TLS, T_HTTP, T_SSH };

static inline enum tongue
sniff(const unsigned char *b, size_t n)
{
	/* the first: a handshake record, version 3.x (RFC 8446 5.1) */
	static const char known[][11] = { "\x16\3", "SSH-", "MSSH/2", "AGENT ",
	    "CLIENT", "GET ", "POST ", "HEAD ", "PUT ", "OPTIONS ", "DELETE ",
	    "CONNECT ", "PATCH ", "TRACE ", "PRI * HTTP" };
	static const char is[] = { T_TLS, T_SSH, T_MSSH, T_MSSH, T_MSSH };
	size_t i, k;

	for (i = 0; i < sizeof known / sizeof *known; i++) {
		k = strlen(known[i]);
		if (n >= k && !memcmp(b, known[i], k))
			return i < sizeof is / sizeof *is ? is[i] : T_HTTP;
	}
	return T_UNKNOWN;
}

/* An SSH server's identification and a plain SSH_MSG_DISCONNECT that carries
 * "mssh: text" (RFC 4253 4.2, 6, 11.1; reason 7: service not available).  ssh
 * shows it to its user.  Returns the length; out must have 512 bytes. */
static inline size_t
ssh_refusal(unsigned char *out, const char *text)
{
	unsigned char *p = out + snprintf((char *)out, 15, "SSH-2.0-mssh\r\n");
	size_t len, pay, pad;

	snprintf((char *)p + 14, 400, "mssh: %s", text);
	len = strlen((char *)p + 14);
	pay = 1 + 4 + 4 + len + 4;
	pad = 11 - pay % 8;		/* 4 to 11: 5 + pay + pad are 8 n */
	memcpy(p, "\0\0\0\0\0\1\0\0\0\7\0\0\0", 14);
	memset(p + 14 + len, 0, 4 + pad);
	p[2] = (1 + pay + pad) >> 8;
	p[3] = (1 + pay + pad) & 0xff;
	p[4] = pad;
	p[12] = len >> 8;
	p[13] = len & 0xff;
	return p + 5 + pay + pad - out;
}

/* keys */

/* Forgets n bytes, whatever the compiler thinks of stores before the end. */
static inline void
wipe(void *p, size_t n)
{
	volatile unsigned char *b = p;

	while (n--)
		*b++ = 0;
}

struct sha256 {			/* FIPS 180-4; HMAC: RFC 2104, FIPS 198-1 */
	uint32_t h[8];
	uint64_t len;		/* bytes so far */
	unsigned char block[64];
};

static const struct sha256 sha256_start = { .h = { /* FIPS 180-4, 5.3.3 */
	0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c,
	0x1f83d9ab, 0x5be0cd19 } };

#define ROR(x, n) ((x) >> (n) | (x) << (8 * sizeof(x) - (n)))
#define ROL(x, n) ((x) << (n) | (x) >> (8 * sizeof(x) - (n)))

static const uint32_t sha256_k[64] = {	/* FIPS 180-4, 4.2.2 */
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1,
	0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3,
	0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
	0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
	0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
	0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
	0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
	0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
	0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2
};

static inline void
sha256_block(struct sha256 *s, const unsigned char *b)
{
	uint32_t w[64], v[8], t, u;
	int i;

	for (i = 0; i < 16; i++, b += 4)
		w[i] = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 |
		    (uint32_t)b[2] << 8 | b[3];
	for (; i < 64; i++) {
		t = w[i - 15];
		u = w[i - 2];
		w[i] = w[i - 16] + w[i - 7] +
		    (ROR(t, 7) ^ ROR(t, 18) ^ t >> 3) +
		    (ROR(u, 17) ^ ROR(u, 19) ^ u >> 10);
	}
	memcpy(v, s->h, sizeof v);
	for (i = 0; i < 64; i++) {
		t = v[7] + (ROR(v[4], 6) ^ ROR(v[4], 11) ^ ROR(v[4], 25)) +
		    ((v[4] & v[5]) ^ (~v[4] & v[6])) + sha256_k[i] + w[i];
		u = (ROR(v[0], 2) ^ ROR(v[0], 13) ^ ROR(v[0], 22)) +
		    ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
		memmove(v + 1, v, 7 * sizeof *v);
		v[4] += t;
		v[0] = t + u;
	}
	for (i = 0; i < 8; i++)
		s->h[i] += v[i];
	wipe(w, sizeof w);
	wipe(v, sizeof v);
}

static inline void
sha256_add(struct sha256 *s, const void *data, size_t n)
{
	const unsigned char *p = data;

	while (n--) {
		s->block[s->len++ % 64] = *p++;
		if (s->len % 64 == 0)
			sha256_block(s, s->block);
	}
}

/* Ends s, which is wiped. */
static inline void
sha256_end(struct sha256 *s, unsigned char out[MAC_LEN])
{
	unsigned char pad[64 + 8] = { 0x80 };
	size_t n = 64 - (s->len + 8) % 64;
	uint64_t bits = s->len * 8;
	int i;

	for (i = 0; i < 8; i++)
		pad[n + i] = bits >> (56 - 8 * i) & 0xff;
	sha256_add(s, pad, n + 8);
	for (i = 0; i < MAC_LEN; i++)
		out[i] = s->h[i / 4] >> (24 - i % 4 * 8) & 0xff;
	wipe(s, sizeof *s);
}

/* Begins an HMAC; its key has 64 bytes at most.  pad: 0x36, outside 0x5c. */
static inline void
hmac_init(struct sha256 *s, const unsigned char *key, size_t n, int pad)
{
	unsigned char b[64];
	size_t i;

	for (i = 0; i < sizeof b; i++)
		b[i] = (i < n ? key[i] : 0) ^ pad;
	*s = sha256_start;
	sha256_add(s, b, sizeof b);
	wipe(b, sizeof b);
}

static inline void
hmac_end(struct sha256 *s, const unsigned char *key, size_t n,
    unsigned char out[MAC_LEN])
{
	sha256_end(s, out);
	hmac_init(s, key, n, 0x5c);
	sha256_add(s, out, MAC_LEN);
	sha256_end(s, out);
}

/* 1 if they differ, in a time that does not depend on where. */
static inline int
mac_differs(const unsigned char a[MAC_LEN], const unsigned char b[MAC_LEN])
{
	volatile unsigned char d = 0;
	int i;

	for (i = 0; i < MAC_LEN; i++)
		d |= a[i] ^ b[i];
	return d != 0;
}

/* SipHash-2-4 (Aumasson, Bernstein 2012), in the machine's own byte order: no
 * other has to get the same.  Who chooses the data does not know the key. */
static inline void
sip_rounds(uint64_t v[4], int n)
{
	while (n-- > 0) {
		v[0] += v[1]; v[1] = ROL(v[1], 13) ^ v[0]; v[0] = ROL(v[0], 32);
		v[2] += v[3]; v[3] = ROL(v[3], 16) ^ v[2];
		v[0] += v[3]; v[3] = ROL(v[3], 21) ^ v[0];
		v[2] += v[1]; v[1] = ROL(v[1], 17) ^ v[2]; v[2] = ROL(v[2], 32);
	}
}

static inline uint64_t
siphash(const unsigned char key[16], const void *data, size_t n)
{
	const unsigned char *p = data;
	uint64_t k[2], w, v[4] = { 0x736f6d6570736575u, 0x646f72616e646f6du,
	    0x6c7967656e657261u, 0x7465646279746573u };
	size_t i, left;

	memcpy(k, key, 16);
	for (i = 0; i < 4; i++)
		v[i] ^= k[i & 1];
	for (i = 0; i <= n; i += 8) {	/* the last has less than 8 bytes */
		left = n - i;
		w = left < 8 ? (uint64_t)n << 56 : 0;
		memcpy(&w, p + i, left < 8 ? left : 8);
		v[3] ^= w;
		sip_rounds(v, 2);
		v[0] ^= w;
	}
	v[2] ^= 0xff;
	sip_rounds(v, 4);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

struct secret {			/* what both sides know */
	char name[KEY_LEN + 1];
	unsigned char key[MAC_LEN];
};

/* What a server's and a peer's proof are made of: each label is of one use,
 * each part has its length before it, so no two transcripts are alike. */
static inline void
proof_mac(const struct secret *k, const char *label, enum role role,
    const char *node, const unsigned char peer_nonce[MAC_LEN],
    const unsigned char server_nonce[MAC_LEN], unsigned char out[MAC_LEN])
{
	const void *part[] = { label, role_names[role], node, k->name,
	    peer_nonce, server_nonce };
	size_t len[] = { strlen(label), strlen(role_names[role]),
	    strlen(node), strlen(k->name), MAC_LEN, MAC_LEN };
	struct sha256 s;
	unsigned char b;
	size_t i;

	hmac_init(&s, k->key, sizeof k->key, 0x36);
	for (i = 0; i < sizeof len / sizeof *len; i++) {
		b = len[i];
		sha256_add(&s, &b, 1);
		sha256_add(&s, part[i], len[i]);
	}
	hmac_end(&s, k->key, sizeof k->key, out);
}

#define LABEL_SERVER "mssh 2 server"
#define LABEL_PEER "mssh 2 peer"

/* What line, a CHALLENGE, proves of k to a peer that said h; out is the answer.
 * -1: the server does not know k. */
static inline int
proof_answer(const struct secret *k, const struct hello *h, const char *line,
    char out[LINE_LEN])
{
	unsigned char nonce[MAC_LEN], mac[MAC_LEN], want[MAC_LEN];
	char w[B64_LEN + 1];

	if (word_get(line, "nonce", w, sizeof w) < 0 ||
	    b64_parse(w, nonce) < 0 ||
	    word_get(line, "mac", w, sizeof w) < 0 || b64_parse(w, mac) < 0)
		return -1;
	proof_mac(k, LABEL_SERVER, h->role, h->node, h->nonce, nonce, want);
	if (mac_differs(mac, want))
		return -1;
	proof_mac(k, LABEL_PEER, h->role, h->node, h->nonce, nonce, mac);
	b64_write(mac, w);
	snprintf(out, LINE_LEN, "PROOF mac=%s\n", w);
	return 0;
}

/* "NAME SECRET" at *s, and nothing behind it.  0, or -1 with *why. */
static inline int
secret_parse(const char *s, struct secret *k, const char **why)
{
	char w[KEYS_LEN];
	int bad;

	memset(k, 0, sizeof *k);
	*why = KEY_RULE;
	if (word_next(&s, w, sizeof w) <= 0 || !key_name_ok(w))
		return -1;
	memcpy(k->name, w, strlen(w) + 1);
	bad = word_next(&s, w, sizeof w) <= 0 || b64_parse(w, k->key) < 0;
	wipe(w, sizeof w);
	*why = bad ? "a secret has 43 characters, as 'mssh keygen' prints them"
	    : "there is a word too many behind the secret";
	return bad || s[strspn(s, BLANKS)] ? -1 : 0;
}

struct right {			/* a line of the server's keys file */
	unsigned roles;			/* bits 1 << enum role; 0: no entry */
	char nodes[KEYS_LEN];		/* patterns with commas between them */
	struct secret secret;
};

/* "ROLE PATTERNS NAME SECRET"; no roles: a blank line or a comment.  0, -1. */
static inline int
right_parse(const char *s, struct right *r, const char **why)
{
	char w[8] = "";

	memset(r, 0, sizeof *r);
	s += strspn(s, BLANKS);
	if (!*s || *s == '#')
		return 0;
	*why = "a line begins with agent, client, both or list";
	word_next(&s, w, sizeof w);
	r->roles = !strcmp(w, "agent") ? 1 << R_AGENT :
	    !strcmp(w, "client") ? 1 << R_CLIENT :
	    !strcmp(w, "list") ? 1 << R_LIST :
	    !strcmp(w, "both") ? 1 << R_AGENT | 1 << R_CLIENT : 0;
	if (!r->roles)
		return -1;
	*why = "node patterns are missing, like web-*,db-1";
	if (word_next(&s, r->nodes, sizeof r->nodes) <= 0)
		return -1;
	return secret_parse(s, &r->secret, why);
}

/* addresses, IPv4 mapped into IPv6 (RFC 4291 2.5.5.2) */

static const unsigned char ip_map[12] = { [10] = 0xff, [11] = 0xff };
static const unsigned char ip_none[16];

static inline int
ip_parse(const char *s, unsigned char ip[16])
{
	if (inet_pton(AF_INET6, s, ip) == 1)
		return 0;
	memcpy(ip, ip_map, sizeof ip_map);
	return inet_pton(AF_INET, s, ip + 12) == 1 ? 0 : -1;
}

struct net {			/* the addresses that begin with its bits */
	unsigned char ip[16];
	int bits;
};

/* ADDR or ADDR/BITS.  0, -1. */
static inline int
net_parse(const char *s, struct net *net)
{
	char a[64];
	size_t n = strcspn(s, "/");
	int v4 = !memchr(s, ':', n);
	long bits = v4 ? 32 : 128;

	if (str_copy(a, sizeof a, s, n) < 0 || ip_parse(a, net->ip) < 0 ||
	    (s[n] && num_parse(s + n + 1, 0, bits, &bits) < 0))
		return -1;
	net->bits = v4 ? bits + 96 : bits;
	return 0;
}

/* Is ip in one of count networks?  Those of IPv6 do not hold mapped IPv4. */
static inline int
net_has(const struct net *net, int count, const unsigned char ip[16])
{
	int n, left;

	for (; count > 0; count--, net++) {
		n = net->bits / 8;
		left = net->bits % 8;
		if ((net->bits >= 96 || memcmp(ip, ip_map, sizeof ip_map)) &&
		    !memcmp(net->ip, ip, n) &&
		    (!left || !((net->ip[n] ^ ip[n]) >> (8 - left))))
			return 1;
	}
	return 0;
}

struct peer {			/* whom we talk to */
	unsigned char ip[16];
	uint16_t port;			/* 0: not known */
};

static inline void
peer_set(struct peer *p, const struct sockaddr_storage *ss)
{
	const struct sockaddr_in6 *s6 = (const struct sockaddr_in6 *)ss;
	const struct sockaddr_in *s4 = (const struct sockaddr_in *)ss;

	memset(p, 0, sizeof *p);
	if (ss->ss_family == AF_INET6) {
		memcpy(p->ip, &s6->sin6_addr, 16);
		p->port = ntohs(s6->sin6_port);
	} else if (ss->ss_family == AF_INET) {
		memcpy(p->ip, ip_map, sizeof ip_map);
		memcpy(p->ip + 12, &s4->sin_addr, 4);
		p->port = ntohs(s4->sin_port);
	}
}

static inline int
is_ipv4(const struct peer *p)
{
	return !memcmp(p->ip, ip_map, sizeof ip_map);
}

static inline int
has_addr(const struct peer *p)
{
	return memcmp(p->ip, ip_none, sizeof ip_none) != 0;
}

/* Peers on a Unix socket have no IP address. */
static inline int
is_unix(const struct peer *p)
{
	return !p->port && !has_addr(p);
}

/* On this machine. */
static inline int
is_local(const struct peer *p)
{
	return is_unix(p) || (is_ipv4(p) && p->ip[12] == 127) ||
	    !memcmp(p->ip, (unsigned char[16]){ [15] = 1 }, 16);
}

/* ADDR:PORT, [ADDR]:PORT for IPv6, or without a port that is not known. */
static inline const char *
peer_write(const struct peer *p, char out[PEER_LEN])
{
	char a[INET6_ADDRSTRLEN] = "?";
	int v4 = is_ipv4(p);

	if (is_unix(p))
		return "unix";
	inet_ntop(v4 ? AF_INET : AF_INET6, p->ip + (v4 ? 12 : 0), a, sizeof a);
	snprintf(out, PEER_LEN, !p->port ? v4 ? "%s" : "[%s]" :
	    v4 ? "%s:%u" : "[%s]:%u", a, p->port);
	return out;
}

/* Splits host, host:port, [v6]:port or a bare v6 address, of n bytes; def is
 * the port where there is none.  port may be a service name.  A name holds
 * nothing that means something to a shell.  Returns 0, -1. */
static inline int
host_split(const char *s, size_t n, char host[HOST_LEN + 1], char port[33],
    int def)
{
	char all[ADDR_LEN + 40];
	const char *h = all, *p;
	long num;

	if (str_copy(all, sizeof all, s, n) < 0)
		return -1;
	if (*all == '[')
		n = strcspn(++h, "]");
	else if ((p = strchr(h, ':')) && !strchr(p + 1, ':'))
		n = p - h;
	p = h + n;
	if ((*all == '[' && *p++ != ']') || (*p && *p != ':') || !n ||
	    str_copy(host, HOST_LEN + 1, h, n) < 0 || *host == '-' ||
	    host[strspn(host, NAME_CHARS ":%")])
		return -1;
	if (!*p)
		return snprintf(port, 33, "%d", def), 0;
	if (!*++p || *p == '-' || p[strspn(p, ALNUM "-")] ||
	    (!p[strspn(p, DIGITS)] && num_parse(p, 1, 65535, &num) < 0))
		return -1;
	return str_copy(port, 33, p, strlen(p)) < 0 ? -1 : 0;
}

/* HTTP/1.1 (RFC 9110, RFC 9112), and whom a reverse proxy says it speaks for */

#define TCHARS ALNUM "!#$%&'*+-.^_`|~"	/* RFC 9110 5.6.2 */

struct field {			/* slices of a head */
	const char *name, *value;
	size_t name_len, len;
};

/* The length of what goes from s to one of stop, without blanks at its end. */
static inline size_t
trimmed(const char *s, const char *stop)
{
	size_t n = strcspn(s, stop);

	while (n && strchr(BLANKS, s[n - 1]))
		n--;
	return n;
}

/* The next field of a whole head at *s, which moves; 0 at the empty line. */
static inline int
field_next(const char **s, struct field *f)
{
	if (!strncmp(*s, "\r\n", 2))
		return 0;
	f->name = *s;
	f->name_len = strcspn(*s, ":\n");
	f->value = *s + f->name_len + ((*s)[f->name_len] == ':');
	f->value += strspn(f->value, " \t");
	f->len = trimmed(f->value, "\n");
	*s = (const char *)memchr(*s, '\n', HEAD_LEN) + 1;
	return 1;
}

/* The length of the next element of a list with commas at *s, which moves
 * there; 0 at the line's end.  Empty ones do not count (RFC 9110 5.6.1). */
static inline size_t
list_next(const char **s)
{
	*s += strspn(*s, ", \t");
	return trimmed(*s, ",\n");
}

/* Is it the field name, and word one of the elements of its list? */
static inline int
field_has(const struct field *f, const char *name, const char *word)
{
	const char *s = f->value;
	size_t n;

	if (says(f->name, f->name_len, name))
		for (; (n = list_next(&s)); s += n)
			if (says(s, n, word))
				return 1;
	return 0;
}

/* Takes a whole head from n peeked bytes, the empty line included.  What two
 * readers could see differently is malformed: a CR or LF alone, control
 * characters, white space before a field (which would go on, RFC 9112 5.2) or
 * before its colon (5.1).  -2: it is too long. */
static inline int
head_take(const char *b, size_t n, const char **why)
{
	size_t i, k, line = 0;

	for (i = 0; i < n && i < HEAD_LEN; i++) {
		unsigned char c = b[i];
		int cr = i && b[i - 1] == '\r';

		if (cr && c == '\n') {
			if (line && line == i - 1)
				return i + 1;
			*why = line ? "a line is not a header field" :
			    "the first line is empty";
			k = strspn(b + line, TCHARS);
			if (line ? !k || b[line + k] != ':' : i == 1)
				return -1;
			line = i + 1;
			continue;
		}
		*why = cr ? "a CR without LF" : "a line ends in LF without CR";
		if (cr || c == '\n')
			return -1;
		*why = "a control character in the head";
		if ((c < ' ' && c != '\t' && c != '\r') || c == 0x7f)
			return -1;
	}
	*why = "the head is longer than 4 KiB";
	return i == HEAD_LEN ? -2 : 0;
}

struct request {
	int status;		/* what to answer: 101, 200, or an error */
	int head;		/* and without a body */
	int metrics;		/* it is for /metrics, and */
	int open;		/* knows OpenMetrics */
	const char *why;	/* the sentence for an error */
	const char *fields;	/* where they begin */
};

/* What a head that head_take() took asks of us. */
static inline void
request_parse(const char *b, struct request *q)
{
	const char *t = b + strspn(b, TCHARS) + 1, *s = t, *version, *v;
	int hosts = 0, lengths = 0, body = 0, asked = 0, hop = 0, sized;
	int get = !strncmp(b, "GET ", 4);
	struct field f;

	q->status = 400;
	q->why = "the first line is not METHOD TARGET HTTP/1.1";
	q->fields = b + strcspn(b, "\n") + 1;
	q->head = !strncmp(b, "HEAD ", 5);
	q->metrics = get && !strncmp(t, "/metrics", 8) &&
	    (t[8] == ' ' || t[8] == '?');
	while (*s > ' ' && *s <= '~')
		s++;
	if (t - 1 == b || t[-1] != ' ' || s == t || strncmp(s, " HTTP/", 6) ||
	    !strchr(DIGITS, s[6]) || s[7] != '.' || !strchr(DIGITS, s[8]) ||
	    s[9] != '\r')
		return;
	version = s + 6;
	for (s = q->fields; field_next(&s, &f);) {
		hosts += says(f.name, f.name_len, "Host");
		sized = says(f.name, f.name_len, "Content-Length");
		lengths += sized;
		body |= sized && (f.len != 1 || *f.value != '0');
		body |= says(f.name, f.name_len, "Transfer-Encoding");
		asked |= field_has(&f, "Upgrade", "mssh");
		hop |= field_has(&f, "Connection", "upgrade");
		for (v = f.value; says(f.name, f.name_len, "Accept") &&
		    (sized = list_next(&v)); v += sized)
			q->open |= begins(v, "application/openmetrics-text");
	}
	if (*version != '1') {
		q->status = 505;
		q->why = "this server speaks HTTP/1.1";
	} else if (hosts > 1 || (!hosts && version[2] != '0') || lengths > 1) {
		q->why = "a request has one Host and at most one "
		    "Content-Length";
	} else if (!strncmp(t, "/healthz ", 9) && !asked && (get || q->head)) {
		q->status = 200;
		q->why = NULL;
	} else if (!asked || !hop || !get || version[2] == '0') {
		q->status = 426;
		q->why = "this is a rendezvous server: mssh reaches it by an "
		    "HTTP Upgrade, see mssh(1)";
	} else if (body)
		q->why = "an Upgrade has no body";
	else
		q->status = 101;
}

/* The same of n peeked bytes, to which none will come if they are late.
 * Returns how many the head has, or 0: more is needed; q says what to
 * answer. */
static inline int
request_take(const char *b, size_t n, int late, struct request *q)
{
	int r = n ? head_take(b, n, &q->why) : 0;

	if (r > 0)
		request_parse(b, q);
	else if (r < 0)
		q->status = r == -2 ? 431 : 400;
	else if (late) {
		q->status = 408;
		q->why = "the head of the request did not arrive";
	}
	return r > 0 ? r : 0;
}

/* The answer to q.  Returns its length; 600 bytes are enough. */
static inline size_t
http_answer(const struct request *q, char *out, size_t size)
{
	static const char known[][36] = { "200 OK", "404 Not Found",
	    "408 Request Timeout",
	    "426 Upgrade Required", "431 Request Header Fields Too Large",
	    "505 HTTP Version Not Supported", "400 Bad Request" };
	const char *text = q->why ? q->why : "ok";
	size_t i = 0;

	if (q->status == 101)
		return snprintf(out, size, "HTTP/1.1 101 Switching Protocols"
		    "\r\nConnection: Upgrade\r\nUpgrade: mssh\r\n\r\n");
	while (atoi(known[i]) != q->status && atoi(known[i]) != 400)
		i++;
	return snprintf(out, size, "HTTP/1.1 %d%s\r\n"
	    "Content-Type: text/plain\r\nContent-Length: %zu\r\n"
	    "Connection: close%s\r\n\r\n%s%s", q->status, known[i] + 3,
	    strlen(text) + 1, q->status == 426 ? ", Upgrade\r\nUpgrade: mssh" :
	    "", q->head ? "" : text, q->head ? "" : "\n");
}

struct response {
	long status;
	char line[200];		/* the first line, escaped */
	int mssh;		/* it upgrades to our protocol */
};

/* Takes the whole head of an answer from n peeked bytes.  Proxies are many and
 * old, so only what we use of it must be right. */
static inline int
response_take(const char *b, size_t n, struct response *r)
{
	const char *s = b, *eol;
	char num[4];
	struct field f;

	memset(r, 0, sizeof *r);
	if (memcmp(b, "HTTP/1.", n < 7 ? n : 7))
		return -1;
	while ((eol = memchr(s, '\n', b + n - s)) && eol - s > (*s == '\r')) {
		if (s == b)
			escape(r->line, sizeof r->line, b, eol - b -
			    (eol[-1] == '\r'));
		r->mssh |= field_next(&s, &f) &&
		    field_has(&f, "Upgrade", "mssh");
	}
	if (!eol)
		return n < HEAD_LEN ? 0 : -1;
	s = r->line + 8;
	if (!strchr(DIGITS, s[-1]) || s[0] != ' ' || s[1] == ' ' ||
	    word_next(&s, num, sizeof num) < 0 ||
	    num_parse(num, 100, 599, &r->status) < 0)
		return -1;
	return eol + 1 - b;
}

/* An address as such headers have it: v4, v4:port, v6, [v6], [v6]:port.  On -1
 * p has none; :: is nobody's. */
static inline int
origin_parse(const char *s, size_t n, struct peer *p)
{
	char host[HOST_LEN + 1], port[33];
	unsigned char ip[16];
	long num;

	memset(p, 0, sizeof *p);
	if (host_split(s, n, host, port, 0) < 0 || ip_parse(host, ip) < 0 ||
	    num_parse(port, 0, 65535, &num) < 0 || !memcmp(ip, ip_none, 16))
		return -1;
	memcpy(p->ip, ip, 16);
	p->port = num;
	return 0;
}

/* What GO says of a client: the session, its address and its key, "" or :: for
 * what is not there. */
static inline void
go_parse(const char *line, uint64_t *id, struct peer *p, char key[KEY_LEN + 1])
{
	char w[ADDR_LEN];

	*id = 0;
	if (word_get(line, "id", w, sizeof w) > 0)
		hex_parse(w, id);
	memset(p, 0, sizeof *p);
	if (word_get(line, "from", w, sizeof w) > 0)
		origin_parse(w, strlen(w), p);
	if (word_get(line, "key", key, KEY_LEN + 1) < 0 || !key_name_ok(key))
		*key = '\0';
}

/* Whom X-Forwarded-For, in a head that head_take() took, says it is for: the
 * last one counts that is not a trusted reverse proxy itself.  Where all are,
 * the first one.  Behind "unknown", or nonsense, nothing is known. */
static inline void
head_origin(const char *fields, const struct net *trusted, int ntrusted,
    struct peer *p)
{
	const char *s;
	struct peer hop;
	struct field f;
	size_t n;

	memset(p, 0, sizeof *p);
	while (field_next(&fields, &f)) {
		if (!says(f.name, f.name_len, "X-Forwarded-For"))
			continue;
		for (s = f.value; (n = list_next(&s)); s += n)
			if (origin_parse(s, n, &hop) < 0 || !has_addr(p) ||
			    !net_has(trusted, ntrusted, hop.ip))
				*p = hop;
	}
}

/* Takes version 1 of the PROXY protocol: a line with one blank between its
 * words, two addresses and two ports among them. */
static inline int
proxy_line(const char *b, size_t n, struct peer *p)
{
	char line[LINE_LEN], w[INET6_ADDRSTRLEN];
	int used = line_take(b, n < 107 ? n : 107, line), v6, i;
	const char *s = line + 11;
	unsigned char ip[2][16];
	long port[2];

	if (used <= 0 || b[used - 2] != '\r')
		return used || n >= 107 ? -1 : 0;
	if (!strncmp(line, "PROXY UNKNOWN", 13) && strchr(" ", line[13]))
		return used;
	v6 = !strncmp(line, "PROXY TCP6 ", 11);
	if ((!v6 && strncmp(line, "PROXY TCP4 ", 11)) || strstr(line, "  "))
		return -1;
	for (i = 0; i < 4; i++)
		if (word_next(&s, w, sizeof w) <= 0 || (i < 2 ?
		    !!strchr(w, ':') != v6 || ip_parse(w, ip[i]) < 0 :
		    num_parse(w, 0, 65535, &port[i - 2]) < 0) || (i > 2 && *s))
			return -1;
	memcpy(p->ip, ip[0], 16);
	p->port = port[0];
	return used;
}

/* Takes a header of the PROXY protocol (haproxy's doc/proxy-protocol.txt, of
 * 2020/03/05), version 1 or 2, from n peeked bytes.  p has no address where the
 * reverse proxy speaks for itself (LOCAL), or of another network. */
static inline int
proxy_take(const char *b, size_t n, struct peer *p)
{
	static const char sig[12] = "\r\n\r\n\0\r\nQUIT\n";
	static const unsigned char need[4] = { 0, 12, 36, 216 };
	const unsigned char *u = (const unsigned char *)b;
	size_t len;
	int kind;

	memset(p, 0, sizeof *p);
	if (!memcmp(b, "PROXY ", n < 6 ? n : 6))
		return proxy_line(b, n, p);
	if (memcmp(b, sig, n < 12 ? n : 12))
		return -1;
	if (n < 16)
		return 0;
	len = u[14] << 8 | u[15];
	if (u[12] >> 4 != 2 || (u[12] & 15) > 1 || 16 + len > HEAD_LEN)
		return -1;
	if (n < 16 + len)
		return 0;
	kind = u[12] & 15 ? u[13] : 0;
	if (kind >> 4 > 3 || (kind & 15) > 2 || len < need[kind >> 4])
		return -1;
	if (kind == 0x11) {
		memcpy(p->ip, ip_map, sizeof ip_map);
		memcpy(p->ip + 12, u + 16, 4);
		p->port = u[24] << 8 | u[25];
	} else if (kind == 0x21) {
		memcpy(p->ip, u + 16, 16);
		p->port = u[48] << 8 | u[49];
	}
	return 16 + len;
}

/* ways out: where a server is, and how to get there */

enum scheme { S_TCP, S_TLS, S_HTTP, S_HTTPS, S_UNIX };

struct url {
	enum scheme scheme;
	char host[HOST_LEN + 1], port[33];	/* S_UNIX: "unix", "" */
	char path[PATH_LEN];			/* of HTTP, or the socket's */
};

static const char schemes[][9] = { "", "tls://", "http://", "https://",
    "unix:" };
static const short scheme_ports[] = { PORT, 443, 80, 443, 0 };

#define URL_FORMS "HOST, HOST:PORT, [IPv6]:PORT, tls://HOST, " \
	"http://HOST/PATH, https://HOST/PATH or unix:/PATH"

static inline int
url_parse(const char *s, struct url *u)
{
	const char *path, *p;
	size_t n;
	int i;

	memset(u, 0, sizeof *u);
	for (i = S_UNIX; !begins(s, schemes[i]);)
		i--;
	u->scheme = i;
	s += strlen(schemes[i]);
	n = strcspn(s, i == S_TCP ? "" : "/?#");
	path = s + n + (s[n] == '/');
	for (p = s + n; *p && *p != '#'; p++)
		if (p == s + n + PATH_LEN - 2 || *p <= ' ' || *p > '~')
			return -1;
	if ((i == S_TLS && *path) || (i == S_UNIX && *s != '/'))
		return -1;
	if (i != S_TCP)
		snprintf(u->path, PATH_LEN, "/%.*s", (int)(p - path), path);
	memcpy(u->host, "unix", 5);
	return i == S_UNIX ? 0 :
	    host_split(s, n, u->host, u->port, scheme_ports[i]);
}

/* "host:port"; port "": without. */
static inline const char *
host_write(const char *host, const char *port, char out[ADDR_LEN + 40])
{
	int v6 = strchr(host, ':') != NULL;

	snprintf(out, ADDR_LEN + 40, "%s%s%s%s%s", v6 ? "[" : "", host,
	    v6 ? "]" : "", *port ? ":" : "", port);
	return out;
}

/* As HTTP has it; always: with a port that goes without saying. */
static inline const char *
authority(const struct url *u, int always, char out[ADDR_LEN + 40])
{
	const char *def = u->scheme == S_HTTPS ? "443" : "80";

	return host_write(u->host, always || strcmp(u->port, def) ? u->port :
	    "", out);
}

/* WHERE in its normal form; out has URL_LEN bytes. */
static inline const char *
url_str(const struct url *u, char *out, size_t size)
{
	char to[ADDR_LEN + 40];

	snprintf(out, size, "%s%s%s", schemes[u->scheme],
	    u->scheme == S_UNIX ? "" : authority(u, 1, to),
	    u->scheme == S_TLS ? "" : u->path);
	return out;
}

/* Any text, for a message: what may be a user and a password, which is all up
 * to the last @ but a scheme where there is a ':', is not shown. */
static inline const char *
url_mask(const char *in, char *out, size_t size)
{
	const char *at = strchr(in, ':') ? strrchr(in, '@') : NULL;
	size_t n = 0;

	if (at) {
		n = strspn(in, NAME_CHARS "+");
		n = n && !strncmp(in + n, "://", 3) ? n + 3 : 0;
		n = strlen(escape(out, size, in, n));
		n += strlen(escape(out + n, size - n, "***", 3));
		in = at;
	}
	escape(out + n, size - n, in, strlen(in));
	return out;
}

/* The host in certificates and SNI (RFC 6066 3): without the dot at its end. */
static inline const char *
tls_name(const struct url *u, char out[HOST_LEN + 1])
{
	str_copy(out, HOST_LEN + 1, u->host, strlen(u->host) -
	    has_suffix(u->host, "."));
	return out;
}

enum proxy_kind {
	PX_NONE, PX_HTTP, PX_HTTPS, PX_SOCKS4, PX_SOCKS4A, PX_SOCKS5
};

struct proxy {			/* that somebody else runs */
	enum proxy_kind kind;
	char host[HOST_LEN + 1], port[33];
	char user[128], pass[128];	/* decoded; "": none */
};

/* %XX of n bytes at s; nothing that could end a header line.  0, -1. */
static inline int
percent_decode(const char *s, size_t n, char *out, size_t size)
{
	char hex[3] = "";
	uint64_t v;
	size_t i, o = 0;

	for (i = 0; i < n; i++) {
		v = (unsigned char)s[i];
		if (s[i] == '%' && (n - i < 3 ||
		    hex_parse(memcpy(hex, s + i + 1, 2), &v) < 0))
			return -1;
		i += s[i] == '%' ? 2 : 0;
		if (v < ' ' || v == 0x7f || o + 1 >= size)
			return -1;
		out[o++] = (char)v;
	}
	out[o] = '\0';
	return 0;
}

/* [SCHEME://][user[:pass]@]host[:port][/], the default port as in curl(1).
 * socks:// is what GNOME writes; that the proxy shall look the name up, which
 * socks5h:// says, is the rule here.  0, or -1 with *why. */
static inline int
proxy_parse(const char *s, struct proxy *x, const char **why)
{
	static const char known[][11] = { "http://", "https://", "socks4://",
	    "socks4a://", "socks://", "socks5://", "socks5h://", "" };
	static const char kinds[] = { PX_HTTP, PX_HTTPS, PX_SOCKS4,
	    PX_SOCKS4A, PX_SOCKS5, PX_SOCKS5, PX_SOCKS5, PX_HTTP };
	const char *at, *colon, *pass;
	size_t n, i = 0;

	memset(x, 0, sizeof *x);
	*why = "a proxy is http://, https://, socks4a:// or "
	    "socks5h://HOST:PORT";
	while (!begins(s, known[i]))
		i++;
	if (!*known[i] && strstr(s, "://"))
		return -1;
	s += strlen(known[i]);
	n = strcspn(s, "/?#");
	*why = "the user or password of the proxy is too long, or badly "
	    "encoded (a % is written %25, a @ %40, a / %2F)";
	if (strchr(s + n, '@'))
		return -1;
	for (at = s + n; at > s && at[-1] != '@';)
		at--;
	if (at > s) {
		if (!(colon = memchr(s, ':', at - s)))
			colon = at - 1;
		pass = colon + (*colon == ':');
		if (percent_decode(s, colon - s, x->user, sizeof x->user) < 0 ||
		    percent_decode(pass, at - 1 - pass, x->pass,
		    sizeof x->pass) < 0)
			return -1;
		n -= at - s;
	}
	*why = "the proxy's host or port is missing or bad";
	if (host_split(at, n, x->host, x->port, kinds[i] == PX_HTTPS ? 443 :
	    1080) < 0)
		return -1;
	x->kind = kinds[i];
	return 0;
}

/* what curl(1) calls no_proxy: names with all that is below them, addresses and
 * networks, with commas or blanks between them; or a * alone, for all */
static inline int
no_proxy_has(const char *list, const char *host)
{
	unsigned char ip[16];
	int is_ip = ip_parse(host, ip) == 0;
	size_t n, k, m = strlen(host) - has_suffix(host, ".");
	char w[HOST_LEN + 2];
	struct net net;

	if (!strcmp(list, "*"))
		return 1;
	for (; *(list += strspn(list, ", \t")); list += n) {
		n = strcspn(list, ", \t");
		k = n - (*list == '.');
		if (str_copy(w, sizeof w, list + n - k, k) < 0)
			continue;
		k -= has_suffix(w, ".");
		w[k] = '\0';
		if (is_ip ? net_parse(w, &net) == 0 && net_has(&net, 1, ip) :
		    k && k <= m && !strncasecmp(host + m - k, w, k) &&
		    (k == m || host[m - k - 1] == '.'))
			return 1;
	}
	return 0;
}

/* Asks an HTTP proxy for a tunnel (RFC 9110 9.3.6), and says who we are if it
 * is told (RFC 7617).  Returns the length; 1500 bytes are always enough. */
static inline size_t
connect_request(const struct url *u, const struct proxy *x, char *out,
    size_t size)
{
	char to[ADDR_LEN + 40], both[260], auth[360] = "";

	if (*x->user) {
		snprintf(both, sizeof both, "%s:%s", x->user, x->pass);
		base64_write(both, strlen(both), basic_digits, auth);
		wipe(both, sizeof both);
	}
	authority(u, 1, to);
	snprintf(out, size, "CONNECT %s HTTP/1.1\r\nHost: %s%s%s\r\n\r\n", to,
	    to, *auth ? "\r\nProxy-Authorization: Basic " : "", auth);
	wipe(auth, sizeof auth);
	return strlen(out);
}

/* Asks for our protocol at u's path (RFC 9110 7.8), likewise. */
static inline size_t
upgrade_request(const struct url *u, const char *version, char *out,
    size_t size)
{
	char host[ADDR_LEN + 40];

	return snprintf(out, size, "GET %s HTTP/1.1\r\nHost: %s\r\n"
	    "Connection: Upgrade\r\nUpgrade: mssh\r\n"
	    "User-Agent: mssh/%s\r\n\r\n", u->path, authority(u, 0, host),
	    version);
}

/* SOCKS version 5 (RFC 1928, RFC 1929) */

/* A request to connect.  Returns the length; out has 1500 bytes. */
static inline size_t
socks_connect(const char *host, unsigned port, unsigned char *out)
{
	size_t n = 4 + 16;

	memcpy(out, "\5\1\0\4", 4);
	if (inet_pton(AF_INET6, host, out + 4) != 1) {
		out[3] = inet_pton(AF_INET, host, out + 4) == 1 ? 1 : 3;
		n = out[3] == 1 ? 4 + 4 : 4 + snprintf((char *)out + 4, 257,
		    "%c%.255s", (int)strlen(host), host);
	}
	return n + snprintf((char *)out + n, 3, "%c%c", port >> 8 & 0xff,
	    port & 0xff);
}

/* Takes the answer to it; *why is NULL where it is connected. */
static inline int
socks_take(const unsigned char *b, size_t n, const char **why)
{
	static const char *const known[] = { NULL, "it failed",
	    "its rules do not allow it", "the network is unreachable",
	    "the host is unreachable", "the connection was refused",
	    "the time to live expired", "it cannot connect",
	    "it does not know that kind of address" };
	size_t need;

	if (n && b[0] != 5)
		return -1;
	if (n < 5)
		return 0;
	*why = b[1] < sizeof known / sizeof *known ? known[b[1]] : known[1];
	need = 6 + (b[3] == 1 ? 4 : b[3] == 4 ? 16 : 1 + b[4]);
	if (b[3] != 1 && b[3] != 3 && b[3] != 4)
		return -1;
	return n < need ? 0 : (int)need;
}

/* SOCKS version 4 and 4A (openssh.com/txt/socks4.protocol, socks4a.protocol):
 * to ip4, or without it to a name.  It knows users, but no passwords. */
static inline size_t
socks4_connect(const struct proxy *x, const char *host, unsigned port,
    const unsigned char ip4[4], unsigned char *out)
{
	memcpy(out, "\4\1", 2);
	out[2] = port >> 8 & 0xff;
	out[3] = port & 0xff;
	memcpy(out + 4, ip4 ? ip4 : (const unsigned char *)"\0\0\0\1", 4);
	return 8 + snprintf((char *)out + 8, 600, "%s%c%s", x->user, 0,
	    ip4 ? "" : host) + !ip4;
}

/* Takes the answer; *why is NULL where it is connected. */
static inline int
socks4_take(const unsigned char *b, size_t n, const char **why)
{
	if (n && b[0])
		return -1;
	if (n < 8)
		return 0;
	*why = b[1] == 90 ? NULL : b[1] == 92 || b[1] == 93 ?
	    "it does not accept our user" : "it refuses, or it failed";
	return 8;
}

enum { SOCKS_LAST = 3 };

/* The next message for a SOCKS proxy, whose last answer is b (not at step 0).
 * Version 5 asks how we prove who we are before it takes a request; version 4
 * knows the server by ip4.  Returns its length; 0 when there is none, with *why
 * where the proxy is of no use; -1: it is no such proxy. */
static inline int
socks_next(const struct proxy *x, const struct url *to,
    const unsigned char ip4[4], int *step, const char b[2], unsigned char *out,
    const char **why)
{
	unsigned port = atoi(to->port);
	int was = *step;

	*step = was == SOCKS_LAST ? 0 : x->kind != PX_SOCKS5 ? SOCKS_LAST :
	    was == 0 ? 1 : was == 1 && b[1] == 2 ? 2 : SOCKS_LAST;
	if (was == SOCKS_LAST)
		return 0;
	if (x->kind != PX_SOCKS5)
		return socks4_connect(x, to->host, port,
		    x->kind == PX_SOCKS4 ? ip4 : NULL, out);
	if (was == 0) {		/* no proof, or by a password */
		memcpy(out, *x->user ? "\5\2\0\2" : "\5\1\0", 4);
		return *x->user ? 4 : 3;
	}
	if (was == 1 && *b != 5)
		return -1;
	if (was == 1 && b[1] && !*x->user)
		*why = "asks for a user and a password";
	else if (was == 1 && b[1] && b[1] != 2)
		*why = "asks for another proof than a password";
	else if (was == 2 && b[1])
		*why = "says: the user or the password is wrong";
	else if (*step == 2)	/* each with its length before it */
		return snprintf((char *)out, 514, "\1%c%s%c%s",
		    (int)strlen(x->user), x->user, (int)strlen(x->pass),
		    x->pass);
	else
		return socks_connect(to->host, port, out);
	return 0;
}

enum answer { A_LINE, A_HTTP, A_SOCKS4, A_SOCKS5, A_PAIR };

/* Is the answer in b, of which the last byte is new, whole?  > 0; 0; -1: it is
 * malformed. */
static inline int
answer_take(enum answer kind, const char *b, size_t n, void *to)
{
	if (kind == A_LINE)
		return line_take(b, n, to);
	if (kind == A_HTTP)
		return b[n - 1] == '\n' || n == HEAD_LEN || n < 8 ?
		    response_take(b, n, to) : 0;
	if (kind != A_PAIR)
		return (kind == A_SOCKS5 ? socks_take : socks4_take)(
		    (const unsigned char *)b, n, to);
	memcpy(to, b, n);
	return n == 2;
}

enum { TLS_ARGS = 25 };

/* The arguments of openssl(1), for a connection to host through a Unix socket.
 * It ends when its standard input does (-no_ign_eof), reads no commands
 * (-nocommands) nor a passphrase (-pass) there, says when it has shaken hands
 * (-brief), and checks what it would only print.  The files may be NULL. */
static inline void
tls_args(char *argv[TLS_ARGS], const char *path, const char *host, int https,
    const char *cafile, const char *cert, const char *certkey)
{
	int is_ip = ip_parse(host, (unsigned char[16]){ 0 }) == 0;
	const char *const all[TLS_ARGS - 1] = { "openssl", "s_client",
	    "-brief", "-no_ign_eof", "-nocommands", "-verify_return_error",
	    "-pass", "pass:", "-unix", path,
	    is_ip ? "-verify_ip" : "-verify_hostname", host,
	    is_ip ? "-noservername" : "-servername", is_ip ? NULL : host,
	    https ? "-alpn" : NULL, https ? "http/1.1" : NULL,
	    cafile ? "-CAfile" : NULL, cafile, cert ? "-cert" : NULL, cert,
	    cert ? "-cert_chain" : NULL, cert,
	    cert ? "-key" : NULL, cert && certkey ? certkey : cert };
	size_t i, n = 0;

	for (i = 0; i < TLS_ARGS - 1; i++)
		if (all[i])
			argv[n++] = (char *)all[i];
	argv[n] = NULL;
}

/* What openssl s_client(1) wrote to stderr, as one reason: what is wrong with
 * the certificate, or else OpenSSL's own reason (the fifth part of a line of
 * ERR_print_errors(3)).  Returns 1, 2 or 0: nothing was found. */
static inline int
tls_reason(const char *text, char *out, size_t size)
{
	const char *p, *e, *s, *eol;
	int i, found = 0;

	for (p = text; *p; p = eol + (*eol == '\n')) {
		eol = p + strcspn(p, "\n");
		for (e = p, i = 1; i <= 5; i++) {
			e += strcspn(e, ":\n");
			e += *e == ':';
			if (i == 2 && !strncmp(p, "verify error:num=", 17) &&
			    e[-1] == ':') {
				escape(out, size, e, eol - e);
				return 1;
			}
		}
		s = strstr(p, ":error:");
		if (!found && e < eol && s && s < eol) {
			escape(out, size, e, strcspn(e, ":\n"));
			found = 2;
		}
	}
	return found;
}

/* The same as a sentence about whom, in out.  0: openssl is not to blame, nor,
 * with early, where its peer ended too soon. */
static inline int
tls_blame(const char *text, const char *whom, int early, char *out,
    size_t size)
{
	char b[120] = "";
	int kind = tls_reason(text, b, sizeof b);
	int eof = strstr(b, "eof") != NULL;

	if (!strncmp(text, "cannot run", 10))
		snprintf(out, size, "%s (OpenSSL makes TLS for us, to be "
		    "installed; or see --connect)", escape(b, sizeof b, text,
		    strcspn(text, "\n")));
	else if (kind == 1)
		snprintf(out, size, "the certificate of %.140s is not good: "
		    "%s", whom, b);
	else if (kind && !(early && eof))
		snprintf(out, size, "no TLS with %.100s: %s%s", whom, b, eof ||
		    strstr(b, "version") ? " (does it expect plain TCP? Then "
		    "leave tls:// out)" : "");
	else
		return 0;
	return 1;
}

/* configuration */

/* Expands %h, %p and %% in a command.  host_split() made host and port safe for
 * a shell.  0, or -1: too long, or another letter. */
static inline int
command_expand(const char *cmd, const char *host, const char *port, char *out,
    size_t size)
{
	char one[2] = "";
	const char *w;
	size_t o = 0;

	for (*out = '\0'; (*one = *cmd); cmd++) {
		w = one;
		if (*cmd == '%' && *++cmd != '%')
			w = *cmd == 'h' ? host : *cmd == 'p' ? port : NULL;
		if (!w || o + strlen(w) >= size)
			return -1;
		o += snprintf(out + o, strlen(w) + 1, "%s", w);
	}
	return 0;
}

/* The HostName that ssh shall use: its own for each node and server, so that
 * known_hosts and ControlPath never mix two machines, and never a number:
 * NODE.HOST.mssh, and NODE.HOST=PORT.mssh where the port is not the usual one.
 * Behind a node with a dot stands a '+', which neither part can hold: a.b at
 * c is not a at b.c.  What is more than a host and a port is told apart by a
 * hash of it, NODE.HOST=PORT=HASH.mssh: a name holds few characters. */
static inline void
host_name(const char *node, const struct url *u, const char *connect,
    char out[NAME_LEN])
{
	unsigned char sum[MAC_LEN];
	char host[HOST_LEN + 1], hash[10] = "", text[URL_LEN], *p;
	int hashed = u->scheme != S_TCP || connect || strpbrk(u->host, ":%");
	int port = hashed || strcmp(u->port, PORT_STR);
	struct sha256 s;

	tls_name(u, host);
	for (p = host; *p && *p != '%'; p++)
		*p = fold(*p, 0);
	if (hashed) {
		snprintf(text, sizeof text, "%d %s %s %s ", u->scheme, host,
		    u->port, u->path);
		s = sha256_start;
		sha256_add(&s, text, strlen(text));
		sha256_add(&s, connect, connect ? strlen(connect) : 0);
		sha256_end(&s, sum);
		snprintf(hash, sizeof hash, "=%02x%02x%02x%02x", sum[0],
		    sum[1], sum[2], sum[3]);
	}
	snprintf(out, NAME_LEN, "%s%c%s%s%s%s.mssh", node,
	    strchr(node, '.') ? '+' : '.', host, port ? "=" : "",
	    port ? u->port : "", hash);
	while ((p = strpbrk(out, ":%")))
		*p = '-';
}

/* Quotes s for a POSIX shell and for ssh's own percent expansion.  Returns
 * the length, or -1 where out is too small. */
static inline int
shell_quote(const char *s, char *out, size_t size)
{
	char one[2] = "";
	size_t o = 1;

	if (size < 3)
		return -1;
	*out = '\'';
	for (; (*one = *s); s++) {
		if (o + 6 > size)
			return -1;
		o += snprintf(out + o, 5, "%s", *s == '\'' ? "'\\''" :
		    *s == '%' ? "%%" : one);
	}
	return o + snprintf(out + o, 2, "'");
}

/* ssh's options that take an argument (ssh(1), OpenSSH 10.0).  Returns 1 if it
 * is the next word, 0 if it is inside this one or there is none. */
static inline int
ssh_takes_next(const char *opt)
{
	const char *p = strpbrk(opt + 1, "BbcDEeFIiJLlmOoPpQRSWw");

	return p && !p[1];
}

/* Does what *p begins with, which moves behind it, match c?  A set may begin
 * with a ']'; one without an end is a '['. */
static inline int
glob_one(const char **p, int c, int exact)
{
	const char *s = *p, *end = NULL;
	int negate = s[1] == '!' || s[1] == '^', hit = 0, low;

	c = fold(c, exact);
	if (*s == '[' && s[1 + negate])
		end = strchr(s + 2 + negate, ']');
	if (!end) {
		++*p;
		return *s == '?' || fold(*s, exact) == c;
	}
	for (s += 1 + negate; s < end; s++) {
		low = fold(*s, exact);
		if (s[1] == '-' && s + 2 < end)
			s += 2;
		hit |= low <= c && c <= fold(*s, exact);
	}
	*p = end + 1;
	return hit != negate;
}

/* A shell pattern (*, ?, [a-z], [!x]): without case for nodes, exact for keys.
 * Not fnmatch(3), which costs a static binary a libc's character tables. */
static inline int
glob_match(const char *p, const char *s, int exact)
{
	const char *star = NULL, *back = NULL;

	while (*s) {
		if (*p == '*') {
			star = ++p;
			back = s;
		} else if (*p && glob_one(&p, *s, exact)) {
			s++;
		} else if (star) {
			p = star;
			s = ++back;
		} else
			return 0;
	}
	return !p[strspn(p, "*")];
}

/* Does one of the patterns, with commas between them, match s? */
static inline int
glob_list(const char *list, const char *s, int exact)
{
	char p[KEYS_LEN];
	size_t n;

	do {
		n = strcspn(list, ",");
		if (str_copy(p, sizeof p, list, n) > 0 &&
		    glob_match(p, s, exact))
			return 1;
		list += n;
	} while (*list++);
	return 0;
}

enum keyword {
	K_NONE, K_SERVER, K_IDENTITY, K_KEY, K_CAFILE, K_CERT, K_CERTKEY,
	K_CONNECT, K_PROXY, K_RESUME_FOR, K_NODE
};

/* Parses one line: *arg is the argument in it, without blanks and quotes around
 * it.  The keyword, K_NONE: the line is blank or a comment, or -1 with *why. */
static inline int
conf_parse(char *line, char **arg, const char **why)
{
	static const char names[][11] = { "", "server", "identity", "key",
	    "cafile", "cert", "certkey", "connect", "proxy", "resume-for",
	    "node" };
	char *p = line + strspn(line, " \t"), *e = p + trimmed(p, "");
	size_t n;
	int k;

	*e = '\0';
	if (!*p || *p == '#')
		return K_NONE;
	n = strcspn(p, " \t=");
	for (k = K_NODE; k && (strncmp(names[k], p, n) || names[k][n]);)
		k--;
	if (!k)
		return *why = "unknown keyword (server, identity, key, "
		    "cafile, cert, certkey, connect, proxy, resume-for, "
		    "node)", -1;
	p += n + strspn(p + n, " \t");
	if (*p == '=')
		p += 1 + strspn(p + 1, " \t");
	if (*p == '"' && e > p + 1 && e[-1] == '"') {
		p++;
		*--e = '\0';
	}
	if (!*p)
		return *why = "the keyword needs an argument", -1;
	*arg = p;
	return k;
}

#endif /* PROTO_H */
