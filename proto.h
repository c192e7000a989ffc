/* proto.h - what mssh says on the wire and reads in files
 *
 * Pure functions: no I/O, no allocation, no clock, no errno.  Whatever a
 * stranger can send is parsed here, so one include is one fuzz target.
 *
 * Theory.  A conversation is lines of printable ASCII that end in LF (a CR
 * before it is dropped), then raw bytes that belong to somebody else.  The
 * reader peeks, hands what it sees to line_take(), and consumes exactly what
 * that used, so no byte behind a line is ever touched.  A line is words with
 * one or more blanks between them; words name=value may stand in any order,
 * and an unknown one is ignored: that is how the protocol grows.
 *
 * Parsers return >0: bytes used, 0: more is needed, -1: malformed; those
 * that take a whole string return 0 or -1.
 */
#ifndef PROTO_H
#define PROTO_H

#include <sys/socket.h>
#include <arpa/inet.h>

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	LINE_LEN = 512,		/* longest line, its LF included */
	NODE_LEN = 64,		/* longest node id */
	HOST_LEN = 253,		/* longest host name (RFC 1035 2.3.4) */
	ADDR_LEN = HOST_LEN + 9,	/* "[host]:65535" and NUL */
	PORT = 8443,		/* the server's, when none is given */
	COPY_LEN = 4096,	/* client bytes that travel behind GO */
	HEAD_LEN = 4096,	/* longest head of HTTP, or PROXY header */
	PATH_LEN = 256,		/* of a URL */
	WAIT_MAX = 86400,	/* longest wait= of a client, s */
	MAC_LEN = 32,		/* HMAC-SHA256; secrets and nonces, too */
	B64_LEN = 43,		/* that in base64url */
	KEY_LEN = 32,		/* longest name of a key */
	KEYS_LEN = 1024		/* longest line of a keys file */
};

/* Why something was refused; the name is the word on the wire. */
enum code {
	C_OK, C_SYNTAX, C_DENIED, C_OFFLINE, C_BUSY, C_EXISTS,
	C_UNREACHABLE, C_TIMEOUT, C_LIMIT, C_MAX
};

static const char *const code_names[C_MAX] = {
	"ok", "syntax", "denied", "offline", "busy", "exists",
	"unreachable", "timeout", "limit"
};

/* Takes one line from n peeked bytes into line, NUL-terminated and without
 * its end.  A byte that is not printable ASCII is malformed at once, so that
 * binary noise need not wait for the deadline. */
static inline int
line_take(const char *buf, size_t n, char line[LINE_LEN])
{
	size_t i, len;

	for (i = 0; i < n && i < LINE_LEN; i++) {
		unsigned char c = buf[i];

		if (c == '\n') {
			len = i && buf[i - 1] == '\r' ? i - 1 : i;
			memcpy(line, buf, len);
			line[len] = '\0';
			return i + 1;
		}
		if (i && buf[i - 1] == '\r')
			return -1;
		if ((c < ' ' || c > '~') && c != '\r')
			return -1;
	}
	return i == LINE_LEN ? -1 : 0;
}

/* Copies the next word of *s to out and moves *s behind it.  Returns its
 * length, 0 at the end of the line, -1 if it does not fit. */
static inline int
word_next(const char **s, char *out, size_t size)
{
	const char *p = *s;
	size_t n;

	p += strspn(p, " ");
	n = strcspn(p, " ");
	*s = p + n;
	if (n >= size)
		return -1;
	memcpy(out, p, n);
	out[n] = '\0';
	return n;
}

/* Finds name=value among the words of line; the first one counts.  Returns
 * the value's length, or -1 where it is missing or longer than out. */
static inline int
word_get(const char *line, const char *name, char *out, size_t size)
{
	size_t n = strlen(name), len;

	while (*(line += strspn(line, " "))) {
		len = strcspn(line, " ");
		if (len > n && !memcmp(line, name, n) && line[n] == '=') {
			len -= n + 1;
			if (len >= size)
				return -1;
			memcpy(out, line + n + 1, len);
			out[len] = '\0';
			return len;
		}
		line += len;
	}
	return -1;
}

/* Is word the first one of line? */
static inline int
word_is(const char *line, const char *word)
{
	size_t n = strlen(word);

	line += strspn(line, " ");
	return !strncmp(line, word, n) && (line[n] == ' ' || !line[n]);
}

/* A decimal number from lo to hi, and nothing else. */
static inline int
num_parse(const char *s, long lo, long hi, long *out)
{
	long v = 0;

	if (!*s)
		return -1;
	for (; *s; s++) {
		if (*s < '0' || *s > '9' || v > hi / 10)
			return -1;
		v = v * 10 + (*s - '0');
	}
	if (v < lo || v > hi)
		return -1;
	*out = v;
	return 0;
}

/* 1 to 16 hexadecimal digits. */
static inline int
hex_parse(const char *s, uint64_t *out)
{
	static const char dig[] = "0123456789abcdefABCDEF";
	const char *p;
	uint64_t v = 0;
	int n;

	for (n = 0; s[n]; n++) {
		if (n == 16 || !(p = strchr(dig, s[n])))
			return -1;
		v = v << 4 | (uint64_t)(p - dig < 16 ? p - dig : p - dig - 6);
	}
	*out = v;
	return n ? 0 : -1;
}

/* node ids */

static inline int
is_alnum(int c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
	    (c >= 'A' && c <= 'Z');
}

static inline int
is_node_char(int c)
{
	return is_alnum(c) || c == '.' || c == '_' || c == '-';
}

static inline int
has_suffix(const char *s, const char *suf)
{
	size_t n = strlen(s), m = strlen(suf);

	return n >= m && !strcmp(s + n - m, suf);
}

/* Lower-cases a valid id into out, because ssh lower-cases host names.  The
 * ending .mssh belongs to ssh_config and is dropped where drop is set.
 * Returns NULL, or the reason why s is no node id. */
static inline const char *
node_parse(const char *s, char out[NODE_LEN + 1], int drop)
{
	size_t i;

	for (i = 0; i <= NODE_LEN + 5 && s[i]; i++)
		if (!is_node_char((unsigned char)s[i]))
			return "it may hold letters, digits, '.', '_' and '-'";
	if (!i)
		return "it is empty";
	if (!is_alnum((unsigned char)s[0]))
		return "it must start with a letter or a digit";
	if (i > NODE_LEN + 5)
		return "it is longer than 64 characters";
	{
		char tmp[NODE_LEN + 6];
		size_t j;

		for (j = 0; j <= i; j++)
			tmp[j] = s[j] >= 'A' && s[j] <= 'Z' ?
			    s[j] | 0x20 : s[j];
		if (drop && i > 5 && has_suffix(tmp, ".mssh"))
			tmp[i -= 5] = '\0';
		if (i > 5 && has_suffix(tmp, ".mssh"))
			return "the ending .mssh is reserved";
		if (i > NODE_LEN)
			return "it is longer than 64 characters";
		memcpy(out, tmp, i + 1);
	}
	return NULL;
}

/* Makes a valid id that looks like s. */
static inline void
node_suggest(const char *s, char out[NODE_LEN + 1])
{
	size_t n = 0;

	for (; *s && n < NODE_LEN; s++) {
		unsigned char c = *s;

		if (is_alnum(c))
			out[n++] = c >= 'A' && c <= 'Z' ? c | 0x20 : c;
		else if (n && out[n - 1] != '-')
			out[n++] = c == '.' || c == '_' ? c : '-';
	}
	do {
		while (n && !is_alnum((unsigned char)out[n - 1]))
			n--;
		out[n] = '\0';
	} while (has_suffix(out, ".mssh") && (n -= 5));
	if (!n)
		memcpy(out, "node-1", 7);
}

/* SHA-256 (FIPS 180-4) and HMAC (RFC 2104, FIPS 198-1) */

struct sha256 {
	uint32_t h[8];
	uint64_t len;		/* bytes so far */
	unsigned char block[64];
};

/* Forgets n bytes, whatever the compiler thinks of stores before the end. */
static inline void
wipe(void *p, size_t n)
{
	volatile unsigned char *b = p;

	while (n--)
		*b++ = 0;
}

static inline uint32_t
sha256_ror(uint32_t x, int n)
{
	return x >> n | x << (32 - n);
}

static inline void
sha256_block(struct sha256 *s, const unsigned char *b)
{
	/* FIPS 180-4, 4.2.2 */
	static const uint32_t k[64] = {
		0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b,
		0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
		0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7,
		0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
		0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152,
		0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
		0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
		0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
		0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819,
		0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
		0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
		0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
		0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2
	};
	uint32_t w[64], v[8], t, u;
	int i;

	for (i = 0; i < 16; i++, b += 4)
		w[i] = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 |
		    (uint32_t)b[2] << 8 | b[3];
	for (; i < 64; i++) {
		t = w[i - 15];
		u = w[i - 2];
		w[i] = w[i - 16] + w[i - 7] + (sha256_ror(t, 7) ^
		    sha256_ror(t, 18) ^ t >> 3) + (sha256_ror(u, 17) ^
		    sha256_ror(u, 19) ^ u >> 10);
	}
	memcpy(v, s->h, sizeof v);
	for (i = 0; i < 64; i++) {
		t = v[7] + (sha256_ror(v[4], 6) ^ sha256_ror(v[4], 11) ^
		    sha256_ror(v[4], 25)) + ((v[4] & v[5]) ^
		    (~v[4] & v[6])) + k[i] + w[i];
		u = (sha256_ror(v[0], 2) ^ sha256_ror(v[0], 13) ^
		    sha256_ror(v[0], 22)) + ((v[0] & v[1]) ^
		    (v[0] & v[2]) ^ (v[1] & v[2]));
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
sha256_init(struct sha256 *s)
{
	/* FIPS 180-4, 5.3.3 */
	static const uint32_t h[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372,
	    0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };

	memcpy(s->h, h, sizeof s->h);
	s->len = 0;
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
	uint64_t bits = s->len * 8;
	unsigned char b = 0x80;
	int i;

	do {
		sha256_add(s, &b, 1);
		b = 0;
	} while (s->len % 64 != 56);
	for (i = 56; i >= 0; i -= 8) {
		b = bits >> i & 0xff;
		sha256_add(s, &b, 1);
	}
	for (i = 0; i < MAC_LEN; i++)
		out[i] = s->h[i / 4] >> (24 - i % 4 * 8) & 0xff;
	wipe(s, sizeof *s);
}

/* Begins an HMAC: pad is 0x36, or 0x5c for the outer hash. */
static inline void
hmac_pad(struct sha256 *s, const unsigned char *key, size_t n, int pad)
{
	unsigned char b[64];
	size_t i;

	for (i = 0; i < sizeof b; i++)
		b[i] = (i < n ? key[i] : 0) ^ pad;
	sha256_init(s);
	sha256_add(s, b, sizeof b);
	wipe(b, sizeof b);
}

/* The key has 64 bytes at most: ours have 32. */
static inline void
hmac_init(struct sha256 *s, const unsigned char *key, size_t n)
{
	hmac_pad(s, key, n, 0x36);
}

static inline void
hmac_end(struct sha256 *s, const unsigned char *key, size_t n,
    unsigned char out[MAC_LEN])
{
	unsigned char inner[MAC_LEN];

	sha256_end(s, inner);
	hmac_pad(s, key, n, 0x5c);
	sha256_add(s, inner, sizeof inner);
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

/* base64url without padding (RFC 4648 5): 32 bytes are 43 characters */

static const char b64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    "abcdefghijklmnopqrstuvwxyz0123456789-_";

static inline void
b64_write(const unsigned char in[MAC_LEN], char out[B64_LEN + 1])
{
	uint32_t acc = 0;
	int i, bits = 0, n = 0;

	for (i = 0; i < MAC_LEN; i++) {
		acc = acc << 8 | in[i];
		for (bits += 8; bits >= 6; bits -= 6)
			out[n++] = b64_digits[acc >> (bits - 6) & 63];
	}
	out[n++] = b64_digits[acc << 2 & 63];	/* 4 bits are left */
	out[n] = '\0';
}

/* Reads exactly 43 characters, and the one spelling of each value.  0, -1. */
static inline int
b64_parse(const char *s, unsigned char out[MAC_LEN])
{
	const char *p;
	uint32_t acc = 0;
	int i, bits = 0, n = 0;

	for (i = 0; i < B64_LEN; i++) {
		if (!s[i] || !(p = strchr(b64_digits, s[i])))
			return -1;
		acc = acc << 6 | (uint32_t)(p - b64_digits);
		if ((bits += 6) >= 8) {
			bits -= 8;
			out[n++] = acc >> bits & 0xff;
		}
	}
	return s[i] || acc & 3 ? -1 : 0;
}

/* keys */

enum role { R_AGENT, R_CLIENT, R_LIST };

static const char *const role_names[] = { "agent", "client", "list" };

/* The name of a key: letters, digits, '.', '_', '-'; 1 to 32 of them. */
static inline int
key_name_ok(const char *s)
{
	size_t n;

	for (n = 0; s[n]; n++)
		if (n == KEY_LEN || !is_node_char((unsigned char)s[n]))
			return 0;
	return n && is_alnum((unsigned char)*s);
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

	hmac_init(&s, k->key, sizeof k->key);
	for (i = 0; i < sizeof len / sizeof *len; i++) {
		b = len[i];
		sha256_add(&s, &b, 1);
		sha256_add(&s, part[i], len[i]);
	}
	hmac_end(&s, k->key, sizeof k->key, out);
}

#define LABEL_SERVER "mssh 2 server"
#define LABEL_PEER "mssh 2 peer"

/* "NAME SECRET" at *s, and nothing behind it.  0, or -1 with *why. */
static inline int
secret_parse(const char *s, struct secret *k, const char **why)
{
	char w[KEYS_LEN], rest[2];
	int bad;

	memset(k, 0, sizeof *k);
	*why = "the name of a key has 1 to 32 letters, digits, '.', '_', '-'";
	if (word_next(&s, w, sizeof w) <= 0 || !key_name_ok(w))
		return -1;
	memcpy(k->name, w, strlen(w) + 1);
	*why = "a secret has 43 characters, as 'mssh keygen' prints them";
	bad = word_next(&s, w, sizeof w) <= 0 || b64_parse(w, k->key) < 0;
	wipe(w, sizeof w);
	if (bad)
		return -1;
	*why = "there is a word too many behind the secret";
	return word_next(&s, rest, sizeof rest) ? -1 : 0;
}

/* Makes what separates words in a file a blank; where the first word is. */
static inline char *
blanks(char *line)
{
	char *p;

	for (p = line; *p; p++)
		if (*p == '\t' || *p == '\r' || *p == '\n')
			*p = ' ';
	return line + strspn(line, " ");
}

struct right {			/* a line of the server's keys file */
	unsigned roles;			/* bits 1 << enum role; 0: no entry */
	char nodes[KEYS_LEN];		/* patterns with commas between them */
	struct secret secret;
};

/* Parses "ROLE PATTERNS NAME SECRET"; a blank line or a comment has no roles.
 * Changes blanks in line.  0, or -1 with *why. */
static inline int
right_parse(char *line, struct right *r, const char **why)
{
	const char *s = line;
	char w[8];

	memset(r, 0, sizeof *r);
	line = blanks(line);
	if (!*line || *line == '#')
		return 0;
	*why = "a line begins with agent, client, both or list";
	if (word_next(&s, w, sizeof w) <= 0)
		return -1;
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

/* hello and replies */

struct hello {
	int version;			/* 1 or 2; 0: no hello at all */
	enum role role;
	char node[NODE_LEN + 1];	/* lower case */
	uint64_t run;			/* agent: which process; 0 unknown */
	long slot;			/* agent: which of its connections */
	long wait;			/* client: s it would wait */
	long early;			/* client: 1: it is ssh by now */
	char key[KEY_LEN + 1];		/* "": none */
	unsigned char nonce[MAC_LEN];
};

/* Parses the first line of a peer.  On -1 *why says what is wrong with it. */
static inline int
hello_parse(const char *line, struct hello *h, const char **why)
{
	char w[LINE_LEN];
	const char *s = line, *bad;

	memset(h, 0, sizeof *h);
	*why = "the first line is no mssh hello";
	if (word_next(&s, w, sizeof w) <= 0)
		return -1;
	if (!strcmp(w, "MSSH/2")) {
		h->version = 2;
		*why = "MSSH/2 wants agent or client, then a node";
		if (word_next(&s, w, sizeof w) <= 0)
			return -1;
	}
	if (!strcmp(w, h->version == 2 ? "agent" : "AGENT"))
		h->role = R_AGENT;
	else if (!strcmp(w, h->version == 2 ? "client" : "CLIENT"))
		h->role = R_CLIENT;
	else
		return -1;
	if (!h->version)
		h->version = 1;
	word_next(&s, w, sizeof w);
	if ((bad = node_parse(w, h->node, 0))) {
		*why = bad;
		return -1;
	}
	if (h->version == 1)
		return 0;
	if (word_get(s, "run", w, sizeof w) >= 0 && hex_parse(w, &h->run) < 0)
		return *why = "run= wants up to 16 hex digits", -1;
	if (word_get(s, "slot", w, sizeof w) >= 0 &&
	    num_parse(w, 0, 63, &h->slot) < 0)
		return *why = "slot= wants 0 to 63", -1;
	if (word_get(s, "wait", w, sizeof w) >= 0 &&
	    num_parse(w, 0, WAIT_MAX, &h->wait) < 0)
		return *why = "wait= wants seconds, at most 86400", -1;
	if (word_get(s, "early", w, sizeof w) >= 0 &&
	    num_parse(w, 0, 1, &h->early) < 0)
		return *why = "early= wants 0 or 1", -1;
	if (word_get(s, "key", w, sizeof w) < 0)
		return 0;
	if (!key_name_ok(w))
		return *why = "key= wants the name of a key", -1;
	memcpy(h->key, w, strlen(w) + 1);
	if (word_get(s, "nonce", w, sizeof w) < 0 || b64_parse(w, h->nonce) < 0)
		return *why = "nonce= wants 43 characters of base64url", -1;
	return 0;
}

/* Reads "OK ..." or "ERROR code text".  Returns the code and points *text
 * at the words behind it, or -1 for any other line.  An unknown code counts
 * as denied, so that old peers stop on new reasons. */
static inline int
reply_parse(const char *line, const char **text)
{
	char w[16];
	const char *s = line;
	int i;

	if (word_next(&s, w, sizeof w) <= 0)
		return -1;
	*text = s + strspn(s, " ");
	if (!strcmp(w, "OK") || !strcmp(w, "READY"))
		return C_OK;
	if (strcmp(w, "ERROR"))
		return -1;
	if (word_next(&s, w, sizeof w) > 0)
		for (i = 1; i < C_MAX; i++)
			if (!strcmp(w, code_names[i])) {
				*text = s + strspn(s, " ");
				return i;
			}
	return C_DENIED;
}

/* What a stranger is, by its first bytes: so that it gets an answer in its
 * own tongue. */
enum tongue { T_UNKNOWN, T_MSSH, T_TLS, T_HTTP, T_SSH };

static inline enum tongue
sniff(const unsigned char *b, size_t n)
{
	static const char *const http[] = { "GET ", "POST ", "HEAD ", "PUT ",
	    "OPTIONS ", "DELETE ", "CONNECT ", "PATCH ", "TRACE ",
	    "PRI * HTTP" };
	size_t i;

	/* handshake record, version 3.x (RFC 8446 5.1) */
	if (n >= 2 && b[0] == 0x16 && b[1] == 3)
		return T_TLS;
	if (n >= 4 && !memcmp(b, "SSH-", 4))
		return T_SSH;
	for (i = 0; i < sizeof http / sizeof *http; i++)
		if (n >= strlen(http[i]) &&
		    !memcmp(b, http[i], strlen(http[i])))
			return T_HTTP;
	if (n >= 6 && (!memcmp(b, "MSSH/2", 6) || !memcmp(b, "AGENT ", 6) ||
	    !memcmp(b, "CLIENT", 6)))
		return T_MSSH;
	return T_UNKNOWN;
}

/* An SSH server's identification and a plain SSH_MSG_DISCONNECT that carries
 * "mssh: text" (RFC 4253 4.2, 6, 11.1; reason 7: service not available).  ssh
 * shows it to its user.  Returns the length; out must have 512 bytes. */
static inline size_t
ssh_refusal(unsigned char *out, const char *text)
{
	static const char id[] = "SSH-2.0-mssh\r\n";
	char says[400];
	size_t n = sizeof id - 1, len, pay, pad;
	unsigned char *p = out + n;

	snprintf(says, sizeof says, "mssh: %s", text);
	len = strlen(says);
	memcpy(out, id, n);
	pay = 1 + 4 + 4 + len + 4;
	pad = 8 - (5 + pay) % 8;
	if (pad < 4)
		pad += 8;
	memset(p, 0, 5 + pay + pad);
	p[2] = (1 + pay + pad) >> 8;
	p[3] = (1 + pay + pad) & 0xff;
	p[4] = pad;
	p[5] = 1;
	p[9] = 7;
	p[12] = len >> 8;
	p[13] = len & 0xff;
	memcpy(p + 14, says, len);
	return n + 5 + pay + pad;
}

/* Copies n bytes to out, a NUL-terminated string of size, with all that is
 * not plain print escaped: fit for a log line or a terminal. */
static inline char *
escape(char *out, size_t size, const void *in, size_t n)
{
	static const char dig[] = "0123456789abcdef";
	const unsigned char *b = in;
	size_t i, o = 0;

	for (i = 0; i < n && o + 5 < size; i++) {
		if (b[i] >= ' ' && b[i] <= '~' && b[i] != '\\') {
			out[o++] = b[i];
			continue;
		}
		out[o++] = '\\';
		out[o++] = 'x';
		out[o++] = dig[b[i] >> 4];
		out[o++] = dig[b[i] & 15];
	}
	out[o] = '\0';
	return out;
}

/* addresses */

/* Splits host, host:port, [v6]:port or a bare v6 address; def is the port
 * where there is none.  port may be a service name.  Names hold letters,
 * digits, '.', '-', '_', ':' and '%' (a zone) only, so they can never mean
 * something to a shell.  Returns 0, -1. */
static inline int
host_split(const char *s, char host[HOST_LEN + 1], char port[33], int def)
{
	const char *h = s, *p = NULL, *c;
	size_t n;
	long num;

	if (*s == '[') {
		h = s + 1;
		if (!(c = strchr(h, ']')))
			return -1;
		n = c - h;
		if (c[1] == ':')
			p = c + 2;
		else if (c[1])
			return -1;
	} else if ((c = strchr(s, ':')) && !strchr(c + 1, ':')) {
		n = c - s;
		p = c + 1;
	} else
		n = strlen(s);
	if (!n || n > HOST_LEN || (p && (!*p || strlen(p) > 32)))
		return -1;
	memcpy(host, h, n);
	host[n] = '\0';
	for (c = host; *c; c++)
		if (!is_node_char((unsigned char)*c) && *c != ':' && *c != '%')
			return -1;
	if (*host == '-')
		return -1;
	if (!p)
		return snprintf(port, 33, "%d", def), 0;
	for (c = p; *c; c++)
		if (!is_alnum((unsigned char)*c) && *c != '-')
			return -1;
	if (*p == '-' || (p[strspn(p, "0123456789")] == '\0' &&
	    num_parse(p, 1, 65535, &num) < 0))
		return -1;
	memcpy(port, p, strlen(p) + 1);
	return 0;
}

static inline int
addr_split(const char *s, char host[HOST_LEN + 1], char port[33])
{
	return host_split(s, host, port, PORT);
}

/* where a server is, and how to get there */

/* Does s begin so, without regard to case? */
static inline int
begins(const char *s, const char *with)
{
	for (; *with; s++, with++)
		if ((*s >= 'A' && *s <= 'Z' ? *s | 0x20 : *s) != *with)
			return 0;
	return 1;
}

enum scheme { S_TCP, S_TLS, S_HTTP, S_HTTPS, S_UNIX };

struct url {
	enum scheme scheme;
	char host[HOST_LEN + 1], port[33];	/* S_UNIX: "unix", "" */
	char path[PATH_LEN];			/* of HTTP, or the socket's */
};

#define URL_FORMS "HOST, HOST:PORT, [IPv6]:PORT, tls://HOST, " \
	"http://HOST/PATH, https://HOST/PATH or unix:/PATH"

/* Copies what comes behind the authority of a URL at s, or "/".  0, -1. */
static inline int
path_parse(const char *s, char path[PATH_LEN])
{
	size_t n = strcspn(s, "#"), i;

	if (n >= PATH_LEN - 1)
		return -1;
	for (i = 0; i < n; i++)
		if (s[i] <= ' ' || s[i] > '~')
			return -1;
	*path = '/';
	memcpy(path + (*s != '/'), s, n);
	path[n + (*s != '/')] = '\0';
	return 0;
}

static inline int
url_parse(const char *s, struct url *u)
{
	static const struct {
		const char *begin;
		int port;
	} known[] = {
		[S_TCP] = { "", PORT }, [S_TLS] = { "tls://", 443 },
		[S_HTTP] = { "http://", 80 }, [S_HTTPS] = { "https://", 443 },
		[S_UNIX] = { "unix:", 0 }
	};
	char addr[ADDR_LEN + 32];
	size_t n;
	int i;

	memset(u, 0, sizeof *u);
	for (i = S_UNIX; !begins(s, known[i].begin);)
		i--;
	u->scheme = i;
	s += strlen(known[i].begin);
	if (i == S_UNIX) {
		memcpy(u->host, "unix", 5);
		return *s == '/' ? path_parse(s, u->path) : -1;
	}
	n = i == S_TCP ? strlen(s) : strcspn(s, "/?#");
	if (n >= sizeof addr || (i == S_TLS && s[n] && strcmp(s + n, "/")))
		return -1;
	memcpy(addr, s, n);
	addr[n] = '\0';
	if (i != S_TCP && path_parse(s + n, u->path) < 0)
		return -1;
	return host_split(addr, u->host, u->port, known[i].port);
}

struct proxy {			/* that somebody else runs */
	int socks;			/* 5, or HTTP's CONNECT */
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
		if (s[i] == '%') {
			if (n - i < 3)
				return -1;
			memcpy(hex, s + i + 1, 2);
			if (hex_parse(hex, &v) < 0)
				return -1;
			i += 2;
		}
		if (v < ' ' || v == 0x7f || o + 1 >= size)
			return -1;
		out[o++] = (char)v;
	}
	out[o] = '\0';
	return 0;
}

/* [http://|socks5h://|socks5://][user[:pass]@]host[:1080][/], the default port
 * as in curl(1).  0, or -1 with *why. */
static inline int
proxy_parse(const char *s, struct proxy *x, const char **why)
{
	char addr[ADDR_LEN + 32];
	const char *sep = strstr(s, "://"), *at, *colon;
	size_t n;

	memset(x, 0, sizeof *x);
	x->socks = begins(s, "socks5://") || begins(s, "socks5h://");
	*why = "a proxy is http://HOST:PORT or socks5h://HOST:PORT";
	if (sep && !x->socks && !begins(s, "http://"))
		return -1;
	if (sep)
		s = sep + 3;
	n = strcspn(s, "/?#");
	*why = "the user or password of the proxy is too long, or badly "
	    "encoded (a % is written %25, a @ %40, a / %2F)";
	if (strchr(s + n, '@'))
		return -1;
	for (at = s + n; at > s && at[-1] != '@';)
		at--;
	if (at > s) {
		if (!(colon = memchr(s, ':', at - 1 - s)))
			colon = at - 1;
		if (percent_decode(s, colon - s, x->user, sizeof x->user) < 0 ||
		    (colon < at - 1 && percent_decode(colon + 1,
		    at - 1 - (colon + 1), x->pass, sizeof x->pass) < 0))
			return -1;
		n -= at - s;
	}
	*why = "the proxy's host or port is missing or bad";
	if (n >= sizeof addr)
		return -1;
	memcpy(addr, at, n);
	addr[n] = '\0';
	return host_split(addr, x->host, x->port, 1080);
}

/* base64 with padding (RFC 4648 4), for Basic authentication */
static inline void
basic_write(const char *in, size_t n, char *out)
{
	static const char dig[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	    "abcdefghijklmnopqrstuvwxyz0123456789+/";
	const unsigned char *b = (const unsigned char *)in;
	uint32_t w;
	size_t i;

	for (i = 0; i < n; i += 3) {
		w = (uint32_t)b[i] << 16 | (i + 1 < n ? b[i + 1] << 8 : 0) |
		    (i + 2 < n ? b[i + 2] : 0);
		*out++ = dig[w >> 18];
		*out++ = dig[w >> 12 & 63];
		*out++ = i + 1 < n ? dig[w >> 6 & 63] : '=';
		*out++ = i + 2 < n ? dig[w & 63] : '=';
	}
	*out = '\0';
}

/* Expands %h, %p and %% in a command.  host and port came through
 * host_split(), so they are words to a shell.  0, or -1: too long, or another
 * letter. */
static inline int
command_expand(const char *cmd, const char *host, const char *port, char *out,
    size_t size)
{
	const char *w;
	char one[2] = "";
	size_t o = 0;

	for (; *cmd; cmd++) {
		one[0] = *cmd;
		w = one;
		if (*cmd == '%' && *++cmd != '%') {
			if (*cmd != 'h' && *cmd != 'p')
				return -1;
			w = *cmd == 'h' ? host : port;
		}
		if (o + strlen(w) >= size)
			return -1;
		memcpy(out + o, w, strlen(w));
		o += strlen(w);
	}
	out[o] = '\0';
	return 0;
}

/* The HostName that ssh shall use: its own for each node and server, so that
 * known_hosts and ControlPath never mix two machines, and never a number.
 * Behind a node with a dot stands a '+', which neither part can hold: a.b at
 * c is not a at b.c. */
static inline void
host_name(const char *node, const char *host, const char *port,
    char *out, size_t size)
{
	char def[8];
	size_t i, n;

	snprintf(def, sizeof def, "%d", PORT);
	n = snprintf(out, size, "%s%c%s%s%s.mssh", node,
	    strchr(node, '.') ? '+' : '.', host,
	    strcmp(port, def) ? "." : "", strcmp(port, def) ? port : "");
	for (i = 0; i < n && i + 1 < size; i++)
		if (out[i] == ':' || out[i] == '%')
			out[i] = '-';
}

/* Quotes s for a POSIX shell and for ssh's own percent expansion.  Returns
 * the length, or -1 where out is too small. */
static inline int
shell_quote(const char *s, char *out, size_t size)
{
	size_t o = 0;

	if (size < 3)
		return -1;
	out[o++] = '\'';
	for (; *s; s++) {
		if (o + 6 > size)
			return -1;
		if (*s == '\'') {
			memcpy(out + o, "'\\''", 4);
			o += 4;
			continue;
		}
		if (*s == '%')
			out[o++] = '%';
		out[o++] = *s;
	}
	out[o++] = '\'';
	out[o] = '\0';
	return o;
}

/* the configuration file */

static inline int
fold(int c, int exact)
{
	return !exact && c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

/* Does the set that *p points behind the '[' of hold c?  Moves *p behind its
 * ']'; a set without an end is -1. */
static inline int
set_match(const char **p, int c, int exact)
{
	const char *s = *p;
	int negate = *s == '!' || *s == '^', hit = 0;

	for (s += negate; *s && (*s != ']' || s == *p + negate); s++) {
		if (s[1] == '-' && s[2] && s[2] != ']') {
			hit |= fold(*s, exact) <= c && c <= fold(s[2], exact);
			s += 2;
		} else
			hit |= fold(*s, exact) == c;
	}
	if (!*s)
		return -1;
	*p = s + 1;
	return hit != negate;
}

/* A shell pattern (*, ?, [a-z], [!x]) against a node id, without case, or
 * exactly, against the name of a key.  Not fnmatch(3), which costs a static
 * binary a libc's character tables. */
static inline int
glob_match(const char *p, const char *s, int exact)
{
	const char *star = NULL, *back = NULL, *set;
	int hit;

	while (*s) {
		set = p + 1;
		if (*p == '*') {
			star = ++p;
			back = s;
			continue;
		}
		if (*p == '[' && (hit = set_match(&set,
		    fold(*s, exact), exact)) >= 0) {
			if (hit) {
				p = set;
				s++;
				continue;
			}
		} else if (*p && (*p == '?' || fold(*p, exact) ==
		    fold(*s, exact))) {
			p++;
			s++;
			continue;
		}
		if (!star)
			return 0;
		p = star;
		s = ++back;
	}
	while (*p == '*')
		p++;
	return !*p;
}

/* Does one of the patterns, with commas between them, match s? */
static inline int
glob_list(const char *list, const char *s, int exact)
{
	char p[KEYS_LEN];
	size_t n;

	for (;; list += n + 1) {
		n = strcspn(list, ",");
		if (n < sizeof p) {
			memcpy(p, list, n);
			p[n] = '\0';
			if (n && glob_match(p, s, exact))
				return 1;
		}
		if (!list[n])
			return 0;
	}
}

enum keyword {
	K_NONE, K_SERVER, K_IDENTITY, K_KEY, K_CAFILE, K_CERT, K_CERTKEY,
	K_CONNECT, K_PROXY, K_NODE
};

/* Parses one line: blank or comment gives K_NONE, otherwise *arg points at
 * the argument inside line, its end trimmed and quotes around it dropped.
 * Returns the keyword, or -1 with *why. */
static inline int
conf_parse(char *line, char **arg, const char **why)
{
	static const char *const names[] = { "", "server", "identity", "key",
	    "cafile", "cert", "certkey", "connect", "proxy", "node" };
	char *p, *e;
	size_t n;
	int k;

	for (e = line + strlen(line); e > line &&
	    (e[-1] == ' ' || e[-1] == '\t' || e[-1] == '\r' || e[-1] == '\n');)
		*--e = '\0';
	p = line + strspn(line, " \t");
	if (!*p || *p == '#')
		return K_NONE;
	n = strcspn(p, " \t=");
	for (k = K_SERVER; k <= K_NODE; k++)
		if (strlen(names[k]) == n && !memcmp(names[k], p, n))
			break;
	if (k > K_NODE)
		return *why = "unknown keyword (server, identity, key, "
		    "cafile, cert, certkey, connect, proxy, node)", -1;
	p += n;
	p += strspn(p, " \t");
	if (*p == '=')
		p += 1 + strspn(p + 1, " \t");
	if (*p == '"' && e > p + 1 && e[-1] == '"') {
		p++;
		*--e = '\0';
	}
	if (!*p)
		return *why = "the keyword wants an argument", -1;
	*arg = p;
	return k;
}

/* ssh's options that take an argument (ssh(1), OpenSSH 10.0).  Returns 1 if
 * the argument is the next word, 0 if it is inside this one or there is
 * none. */
static inline int
ssh_takes_next(const char *opt)
{
	const char *p;

	for (p = opt + 1; *p; p++)
		if (strchr("BbcDEeFIiJLlmOoPpQRSWw", *p))
			return !p[1];
	return 0;
}

/* addresses of peers, IPv4 mapped into IPv6 (RFC 4291 2.5.5.2) */

struct net {			/* the addresses that begin with its bits */
	unsigned char ip[16];
	int bits;
};

static const unsigned char ip_map[12] = { [10] = 0xff, [11] = 0xff };

static inline int
ip_parse(const char *s, unsigned char ip[16])
{
	if (inet_pton(AF_INET6, s, ip) == 1)
		return 0;
	memcpy(ip, ip_map, sizeof ip_map);
	return inet_pton(AF_INET, s, ip + 12) == 1 ? 0 : -1;
}

/* ADDR or ADDR/BITS.  0, -1. */
static inline int
net_parse(const char *s, struct net *net)
{
	char a[64];
	size_t n = strcspn(s, "/");
	long bits = 128;
	int v4 = !memchr(s, ':', n);

	if (n >= sizeof a)
		return -1;
	memcpy(a, s, n);
	a[n] = '\0';
	if (ip_parse(a, net->ip) < 0)
		return -1;
	if (s[n] && num_parse(s + n + 1, 0, v4 ? 32 : 128, &bits) < 0)
		return -1;
	net->bits = s[n] && v4 ? bits + 96 : bits;
	return 0;
}

/* A network of IPv6 has no address of IPv4, whatever it is mapped to. */
static inline int
net_has(const struct net *net, const unsigned char ip[16])
{
	int n = net->bits / 8, left = net->bits % 8;

	if (net->bits < 96 && !memcmp(ip, ip_map, sizeof ip_map))
		return 0;
	return !memcmp(net->ip, ip, n) &&
	    (!left || !((net->ip[n] ^ ip[n]) >> (8 - left)));
}

/* heads of HTTP/1.1 (RFC 9110, RFC 9112) */

struct field {			/* slices of a head */
	const char *name, *value;
	size_t name_len, len;
};

static inline int
is_tchar(int c)
{
	return is_alnum(c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

/* Do n bytes say word, without regard to case? */
static inline int
says(const char *s, size_t n, const char *word)
{
	size_t i;

	for (i = 0; i < n && word[i]; i++)
		if (fold(s[i], 0) != fold(word[i], 0))
			return 0;
	return i == n && !word[i];
}

/* The next field behind *s, which moves; 0 at the empty line.  The head must
 * have come through head_take(). */
static inline int
field_next(const char **s, struct field *f)
{
	const char *e = memchr(*s, '\r', HEAD_LEN), *v;

	if (e == *s)
		return 0;
	f->name = *s;
	f->name_len = (const char *)memchr(*s, ':', e - *s) - *s;
	*s = e + 2;
	for (v = f->name + f->name_len + 1; *v == ' ' || *v == '\t';)
		v++;
	while (e > v && (e[-1] == ' ' || e[-1] == '\t'))
		e--;
	f->value = v;
	f->len = e - v;
	return 1;
}

/* The next element of a list with commas, where *s points; 0 at its end.
 * Empty ones do not count (RFC 9110 5.6.1). */
static inline int
list_next(const char **s, const char *end, const char **word, size_t *n)
{
	const char *p = *s, *e, *t;

	while (p < end && (*p == ' ' || *p == '\t' || *p == ','))
		p++;
	for (e = p; e < end && *e != ',';)
		e++;
	for (t = e; t > p && (t[-1] == ' ' || t[-1] == '\t');)
		t--;
	*s = e;
	*word = p;
	*n = t - p;
	return t > p;
}

/* Is word one of the elements of a list with commas? */
static inline int
field_has(const struct field *f, const char *word)
{
	const char *s = f->value, *w;
	size_t n;

	while (list_next(&s, f->value + f->len, &w, &n))
		if (says(w, n, word))
			return 1;
	return 0;
}

/* Is a line of a head, of n bytes without its end, a field?  No white space
 * before it (obs-fold, RFC 9112 5.2), and none before the colon (5.1). */
static inline int
is_field(const char *s, size_t n)
{
	size_t i;

	for (i = 0; i < n && is_tchar((unsigned char)s[i]);)
		i++;
	return i && i < n && s[i] == ':';
}

/* Takes a whole head from n peeked bytes, the empty line included.  What two
 * readers could see differently is malformed: a CR or LF alone, control
 * characters, a field that goes on in the next line.  -2: it is too long. */
static inline int
head_take(const char *b, size_t n, const char **why)
{
	size_t i, line = 0;
	int lines = 0;

	for (i = 0; i < n && i < HEAD_LEN; i++) {
		unsigned char c = b[i];

		if (c == '\n') {
			*why = "a line ends in LF without CR";
			if (!i || b[i - 1] != '\r')
				return -1;
			if (i - 1 == line && lines)
				return i + 1;
			*why = lines ? "a line is no header field" :
			    "the first line is empty";
			if (lines ? !is_field(b + line, i - 1 - line) :
			    i - 1 == line)
				return -1;
			lines++;
			line = i + 1;
			continue;
		}
		*why = "a CR without LF";
		if (i && b[i - 1] == '\r')
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
	const char *why;	/* the sentence for an error */
	const char *fields;	/* where they begin */
};

/* What a head that head_take() took asks of us. */
static inline void
request_parse(const char *b, struct request *q)
{
	const char *eol = memchr(b, '\r', HEAD_LEN), *s, *t;
	size_t method, target;
	int hosts = 0, lengths = 0, body = 0, asked = 0, hop = 0, minor, get;
	struct field f;

	memset(q, 0, sizeof *q);
	q->status = 400;
	q->fields = eol + 2;
	q->why = "the first line is no METHOD TARGET HTTP/1.1";
	for (s = b; is_tchar((unsigned char)*s);)
		s++;
	method = s - b;
	get = method == 3 && !memcmp(b, "GET", 3);
	q->head = !memcmp(b, "HEAD ", 5);
	if (!method || *s != ' ')
		return;
	for (t = ++s; *s > ' ' && *s <= '~';)
		s++;
	target = s - t;
	if (!target || eol - s != 9 || memcmp(s, " HTTP/", 6) ||
	    s[6] < '0' || s[6] > '9' || s[7] != '.' || s[8] < '0' ||
	    s[8] > '9')
		return;
	q->status = 505;
	q->why = "this server speaks HTTP/1.1";
	if (s[6] != '1')
		return;
	minor = s[8] - '0';
	for (s = q->fields; field_next(&s, &f);) {
		hosts += says(f.name, f.name_len, "Host");
		if (says(f.name, f.name_len, "Content-Length")) {
			lengths++;
			body |= f.len != 1 || *f.value != '0';
		}
		body |= says(f.name, f.name_len, "Transfer-Encoding");
		if (says(f.name, f.name_len, "Upgrade"))
			asked |= field_has(&f, "mssh");
		if (says(f.name, f.name_len, "Connection"))
			hop |= field_has(&f, "upgrade");
	}
	q->status = 400;
	q->why = "a request has one Host and at most one Content-Length";
	if (hosts > 1 || (minor && !hosts) || lengths > 1)
		return;
	if (target == 8 && !memcmp(t, "/healthz", 8) && !asked &&
	    (get || q->head)) {
		q->status = 200;
		q->why = NULL;
		return;
	}
	q->status = 426;
	q->why = "this is a rendezvous server: mssh reaches it by an HTTP "
	    "Upgrade, see mssh(1)";
	if (!asked || !hop || !minor || !get)
		return;
	q->status = 400;
	q->why = "an Upgrade has no body";
	if (!body)
		q->status = 101;
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
	char num[4];
	size_t i, line = 0, end = 0;
	struct field f;

	memset(r, 0, sizeof *r);
	for (i = 0; i < n && i < 7; i++)
		if (b[i] != "HTTP/1."[i])
			return -1;
	for (i = 0; i < n; line = i) {
		while (i < n && b[i] != '\n')
			i++;
		if (i == n)
			return n < HEAD_LEN ? 0 : -1;
		end = i > line && b[i - 1] == '\r' ? i - 1 : i;
		i++;
		if (end == line)
			break;
		if (!line)
			escape(r->line, sizeof r->line, b, end);
		f.name = b + line;
		f.name_len = 8;
		f.value = f.name + f.name_len;
		f.len = end - line;
		if (line && f.len > 8 && says(f.name, 8, "Upgrade:")) {
			f.len -= 8;
			r->mssh |= field_has(&f, "mssh");
		}
	}
	if (end != line || !n)
		return n < HEAD_LEN ? 0 : -1;
	if (strlen(r->line) < 12 || r->line[7] < '0' || r->line[7] > '9' ||
	    r->line[8] != ' ' ||
	    (r->line[12] && r->line[12] != ' '))
		return -1;
	memcpy(num, r->line + 9, 3);
	num[3] = '\0';
	return num_parse(num, 100, 599, &r->status) < 0 ? -1 : (int)i;
}

/* whom a front says it speaks for */

struct origin {
	unsigned char ip[16];
	uint16_t port;		/* 0: not known */
	int known;
};

/* o->ip is whom it is for; :: is nobody's address. */
static inline void
origin_set(struct origin *o, long port)
{
	static const unsigned char none[16];

	o->known = !!memcmp(o->ip, none, sizeof none);
	o->port = o->known ? port : 0;
}

/* An address as such headers have it: v4, v4:port, v6, [v6], [v6]:port. */
static inline int
origin_parse(const char *s, size_t n, struct origin *o)
{
	char a[64], *p = a, *end;
	long port = 0;

	memset(o, 0, sizeof *o);
	if (n >= sizeof a)
		return -1;
	memcpy(a, s, n);
	a[n] = '\0';
	if (*a == '[') {
		p++;
		if (!(end = strchr(a, ']')))
			return -1;
		*end++ = '\0';
	} else
		end = (end = strchr(a, ':')) && !strchr(end + 1, ':') ? end :
		    a + n;
	if (*end == ':' && end[1] != '_' &&	/* hidden (RFC 7239 6) */
	    num_parse(end + 1, 0, 65535, &port) < 0)
		return -1;
	if (*end && *end != ':')
		return -1;
	*end = '\0';
	if (ip_parse(p, o->ip) < 0)
		return -1;
	origin_set(o, port);
	return o->known ? 0 : -1;
}

/* Takes what one element of the list says into o: the last one counts that is
 * no front itself.  Where all are, the first one. */
static inline void
origin_hop(struct origin *o, const char *s, size_t n, const struct net *fronts,
    int nfronts)
{
	struct origin hop;
	int i, front = 0;

	if (!s || origin_parse(s, n, &hop) < 0) {
		memset(o, 0, sizeof *o);	/* hidden, or nonsense */
		return;
	}
	for (i = 0; i < nfronts; i++)
		front |= net_has(&fronts[i], hop.ip);
	if (!front || !o->known)
		*o = hop;
}

static inline const char *
blanks_end(const char *s, const char *end)
{
	while (s < end && (*s == ' ' || *s == '\t'))
		s++;
	return s;
}

/* A value of Forwarded: a token, or a string in quotes, which may hold commas
 * and semicolons.  An address with colons has to stand in quotes, but not
 * everybody knows.  Moves *s behind it; -1: no end. */
static inline int
forwarded_value(const char **s, const char *end, const char **v, size_t *n)
{
	const char *p = *s;

	if (p == end || *p != '"') {
		*v = p;
		while (p < end && !strchr("\",; \t", *p))
			p++;
		*n = p - *v;
		*s = p;
		return 0;
	}
	for (*v = ++p; p < end && *p != '"'; p++)
		p += *p == '\\';
	if (p >= end)
		return -1;
	*n = p - *v;
	*s = p + 1;
	return 0;
}

/* The next element of Forwarded (RFC 7239 4), like
 * for="[::1]:4711";proto=https: what its for= says, v is NULL where it says
 * nothing.  1; 0: the end; -1: malformed.  What a client has put into a field
 * that the front copies, into its Host, may not look like a for= here. */
static inline int
forwarded_next(const char **s, const char *end, const char **v, size_t *n)
{
	const char *p = *s, *name, *value;
	size_t len, k;

	while ((p = blanks_end(p, end)) < end && *p == ',')
		p++;
	*v = NULL;
	*n = 0;
	if (p == end)
		return 0;
	for (;; p++) {
		for (name = p = blanks_end(p, end); p < end &&
		    is_tchar((unsigned char)*p);)
			p++;
		if ((len = p - name)) {
			if (p == end || *p++ != '=' ||
			    forwarded_value(&p, end, &value, &k) < 0)
				return -1;
			if (says(name, len, "for")) {
				if (*v)
					return -1;
				*v = value;
				*n = k;
			}
			p = blanks_end(p, end);
		}
		if (p == end || *p == ',')
			break;
		if (*p != ';')
			return -1;
	}
	*s = p;
	return 1;
}

/* Whom a head that head_take() took says it is for.  0, or -1 where that is
 * malformed, or two fields contradict each other: one of them is the client's
 * own invention. */
static inline int
head_origin(const char *fields, const struct net *fronts, int nfronts,
    struct origin *o)
{
	struct origin said[2];
	const char *s = fields, *p, *v;
	struct field f;
	int rfc, r, seen[2] = { 0, 0 };
	size_t n;

	memset(o, 0, sizeof *o);
	memset(said, 0, sizeof said);
	while (field_next(&s, &f)) {
		rfc = says(f.name, f.name_len, "Forwarded");
		if (!rfc && !says(f.name, f.name_len, "X-Forwarded-For"))
			continue;
		seen[rfc] = 1;
		p = f.value;
		while ((r = rfc ? forwarded_next(&p, f.value + f.len, &v, &n) :
		    list_next(&p, f.value + f.len, &v, &n)) > 0)
			origin_hop(&said[rfc], v, n, fronts, nfronts);
		if (r < 0)
			return -1;
	}
	if (seen[0] && seen[1] && (said[0].known != said[1].known ||
	    memcmp(said[0].ip, said[1].ip, 16)))
		return -1;
	*o = said[!seen[0]];
	return 0;
}

/* The PROXY protocol's version 1, without its line end: words with one blank
 * between them. */
static inline int
proxy_line(const char *s, struct origin *o)
{
	char w[4][46];		/* two addresses, two ports */
	unsigned char to[16];
	long port, port2;
	size_t n;
	int i, v6;

	if (!strncmp(s, "PROXY UNKNOWN", 13) && (!s[13] || s[13] == ' '))
		return 0;
	v6 = !strncmp(s, "PROXY TCP6 ", 11);
	if (!v6 && strncmp(s, "PROXY TCP4 ", 11))
		return -1;
	s += 11;
	for (i = 0; i < 4; i++, s += n) {
		s += i && *s == ' ';
		n = strcspn(s, " ");
		if (n >= sizeof w[i])
			return -1;
		memcpy(w[i], s, n);
		w[i][n] = '\0';
		if (i < 2 && !!strchr(w[i], ':') != v6)
			return -1;
	}
	if (*s || ip_parse(w[0], o->ip) < 0 || ip_parse(w[1], to) < 0 ||
	    num_parse(w[2], 0, 65535, &port) < 0 ||
	    num_parse(w[3], 0, 65535, &port2) < 0)
		return -1;
	origin_set(o, port);
	return 0;
}

/* The addresses of version 2.  Of a family or protocol that there is not, or
 * too short for it, they are malformed; other than TCP's, of no use to us. */
static inline int
proxy_block(const unsigned char *u, size_t len, int kind, struct origin *o)
{
	static const unsigned char need[4] = { 0, 12, 36, 216 };

	if (kind >> 4 > 3 || (kind & 15) > 2 || len < need[kind >> 4])
		return -1;
	if (kind == 0x11) {
		o->ip[10] = o->ip[11] = 0xff;
		memcpy(o->ip + 12, u, 4);
		origin_set(o, u[8] << 8 | u[9]);
	} else if (kind == 0x21) {
		memcpy(o->ip, u, 16);
		origin_set(o, u[32] << 8 | u[33]);
	}
	return 0;
}

/* Takes a header of the PROXY protocol (haproxy's doc/proxy-protocol.txt, of
 * 2020/03/05), version 1 or 2, from n peeked bytes.  o is unknown where the
 * front speaks for itself (LOCAL), or of another network. */
static inline int
proxy_take(const char *b, size_t n, struct origin *o)
{
	static const char sig[12] = "\r\n\r\n\0\r\nQUIT\n";
	const unsigned char *u = (const unsigned char *)b;
	char line[108];
	size_t i, len;

	memset(o, 0, sizeof *o);
	if (!n)
		return 0;
	if (*b == 'P') {
		if (memcmp(b, "PROXY ", n < 6 ? n : 6))
			return -1;
		for (i = 0; i < n && i < sizeof line - 1; i++) {
			if (i && b[i - 1] == '\r') {
				if (b[i] != '\n')
					return -1;
				memcpy(line, b, i - 1);
				line[i - 1] = '\0';
				return proxy_line(line, o) < 0 ? -1 :
				    (int)i + 1;
			}
			if ((u[i] < ' ' || u[i] > '~') && b[i] != '\r')
				return -1;
		}
		return i == sizeof line - 1 ? -1 : 0;
	}
	if (memcmp(b, sig, n < 12 ? n : 12))
		return -1;
	if (n < 16)
		return 0;
	len = u[14] << 8 | u[15];
	if (u[12] >> 4 != 2 || (u[12] & 15) > 1 || 16 + len > HEAD_LEN)
		return -1;
	if (n < 16 + len)
		return 0;
	if (u[12] & 15 && proxy_block(u + 16, len, u[13], o) < 0)
		return -1;
	return 16 + len;
}

/* what curl(1) calls no_proxy: names with all that is below them, addresses and
 * networks, with commas or blanks between them; or a * alone, for all */
static inline int
no_proxy_has(const char *list, const char *host)
{
	unsigned char ip[16];
	int is_ip = ip_parse(host, ip) == 0;
	size_t n, m = strlen(host) - has_suffix(host, ".");
	char w[HOST_LEN + 1];
	struct net net;
	const char *p;

	if (!strcmp(list, "*"))
		return 1;
	for (; *(list += strspn(list, ", \t")); list += n) {
		n = strcspn(list, ", \t");
		p = list + (*list == '.');
		if (n >= sizeof w)
			continue;
		snprintf(w, sizeof w, "%.*s", (int)(n - (p - list)), p);
		if (has_suffix(w, "."))
			w[strlen(w) - 1] = '\0';
		if (is_ip && net_parse(w, &net) == 0 && net_has(&net, ip))
			return 1;
		if (!is_ip && *w && strlen(w) <= m &&
		    says(host + m - strlen(w), strlen(w), w) &&
		    (strlen(w) == m || host[m - strlen(w) - 1] == '.'))
			return 1;
	}
	return 0;
}

/* SOCKS version 5 (RFC 1928, RFC 1929) */

/* Writes a request to connect.  Returns its length; out has 300 bytes. */
static inline size_t
socks_connect(const char *host, unsigned port, unsigned char *out)
{
	size_t n = 4, len = strlen(host);

	memcpy(out, "\5\1\0\3", 4);
	if (inet_pton(AF_INET, host, out + n) == 1) {
		out[3] = 1;
		n += 4;
	} else if (inet_pton(AF_INET6, host, out + n) == 1) {
		out[3] = 4;
		n += 16;
	} else {
		out[n++] = len;
		memcpy(out + n, host, len);
		n += len;
	}
	out[n++] = port >> 8 & 0xff;
	out[n++] = port & 0xff;
	return n;
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

/* What openssl s_client(1) wrote to stderr, as one reason: what is wrong with
 * the certificate, or else OpenSSL's own reason (the fifth part of a line of
 * ERR_print_errors(3)).  Returns 1, 2 or 0: nothing was found. */
static inline int
tls_reason(const char *text, char *out, size_t size)
{
	static const char bad[] = "verify error:num=";
	const char *p, *e, *eol;
	int i, found = 0;

	for (p = text; *p; p = eol + (*eol == '\n')) {
		eol = p + strcspn(p, "\n");
		if (!strncmp(p, bad, sizeof bad - 1) &&
		    (e = memchr(p + sizeof bad - 1, ':',
		    eol - p - (sizeof bad - 1)))) {
			escape(out, size, e + 1, eol - e - 1);
			return 1;
		}
		for (e = p, i = 0; i < 5 && e < eol; i++)
			e = memchr(e, ':', eol - e) ?
			    (const char *)memchr(e, ':', eol - e) + 1 : eol;
		if (!found && e < eol && strstr(p, ":error:") &&
		    strstr(p, ":error:") < eol) {
			escape(out, size, e, strcspn(e, ":\n"));
			found = 2;
		}
	}
	return found;
}

#endif /* PROTO_H */
