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
	WAIT_MAX = 86400	/* longest wait= of a client, s */
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

/* hello and replies */

enum role { R_AGENT, R_CLIENT };

struct hello {
	int version;			/* 1 or 2; 0: no hello at all */
	enum role role;
	char node[NODE_LEN + 1];	/* lower case */
	uint64_t run;			/* agent: which process; 0 unknown */
	long slot;			/* agent: which of its connections */
	long wait;			/* client: s it would wait */
	long early;			/* client: 1: it is ssh by now */
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
	    "OPTIONS ", "DELETE ", "CONNECT ", "PATCH ", "PRI * HTTP" };
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

/* Splits host, host:port, [v6]:port or a bare v6 address.  port may be a
 * service name.  Names hold letters, digits, '.', '-', '_', ':' and '%' (a
 * zone) only, so they can never mean something to a shell.  Returns 0, -1. */
static inline int
addr_split(const char *s, char host[HOST_LEN + 1], char port[33])
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
		return snprintf(port, 33, "%d", PORT), 0;
	for (c = p; *c; c++)
		if (!is_alnum((unsigned char)*c) && *c != '-')
			return -1;
	if (*p == '-' || (p[strspn(p, "0123456789")] == '\0' &&
	    num_parse(p, 1, 65535, &num) < 0))
		return -1;
	memcpy(port, p, strlen(p) + 1);
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
lower(int c)
{
	return c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

/* Does the set that *p points behind the '[' of hold c?  Moves *p behind its
 * ']'; a set without an end is -1. */
static inline int
set_match(const char **p, int c)
{
	const char *s = *p;
	int negate = *s == '!' || *s == '^', hit = 0;

	for (s += negate; *s && (*s != ']' || s == *p + negate); s++) {
		if (s[1] == '-' && s[2] && s[2] != ']') {
			hit |= lower(*s) <= c && c <= lower(s[2]);
			s += 2;
		} else
			hit |= lower(*s) == c;
	}
	if (!*s)
		return -1;
	*p = s + 1;
	return hit != negate;
}

/* A shell pattern (*, ?, [a-z], [!x]) against a node id, without case.  Not
 * fnmatch(3), which costs a static binary a libc's character tables. */
static inline int
glob_match(const char *p, const char *s)
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
		if (*p == '[' && (hit = set_match(&set, lower(*s))) >= 0) {
			if (hit) {
				p = set;
				s++;
				continue;
			}
		} else if (*p && (*p == '?' || lower(*p) == lower(*s))) {
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

enum keyword { K_NONE, K_SERVER, K_IDENTITY, K_NODE };

/* Parses one line: blank or comment gives K_NONE, otherwise *arg points at
 * the argument inside line, its end trimmed and quotes around it dropped.
 * Returns the keyword, or -1 with *why. */
static inline int
conf_parse(char *line, char **arg, const char **why)
{
	static const char *const names[] =
	    { "", "server", "identity", "node" };
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
		return *why = "unknown keyword (server, identity, node)", -1;
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

#endif /* PROTO_H */
