/* fuzz-server.c - a server and its peers in one process, as the input says
 *
 *	clang -g -O1 -fsanitize=fuzzer,address,undefined -DNO_SANDBOX \
 *	    -Dclock_gettime=fuzz_clock -Daccept4=fuzz_accept \
 *	    -Dgetentropy=fuzz_random -o fuzz t/fuzz-server.c reactor.c
 *	./fuzz -max_total_time=30 -max_len=80 t/corpus-server
 *
 * An input is a program.  Its first byte says how the server is started; then
 * come steps of two bytes: what is done, and by which of the guests or with
 * which of the variants.  Guests are agents, clients, those who list or ping,
 * scrapers and strangers at the other ends of socket pairs; some come through a
 * front, with a PROXY header or an HTTP Upgrade before what they say.  Our own
 * watcher runs the program, a step for each turn of the real loop (or several,
 * where the step says so), so the server sees all of it as it would see the
 * network.  The clock stands still but for the steps that move it, and nothing
 * sleeps.
 *
 * After each turn the server's lists and counters are compared with its
 * connections.  In the end the guests leave, time passes, and nobody may be
 * left; then what each guest got is compared with what the others sent.
 * Built with -DREPLAY it runs the files that it is given.
 */
#define _XOPEN_SOURCE 700

#include <sys/socket.h>
#include <netinet/in.h>

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../reactor.h"

enum {
	GUESTS = 16,
	LOG = 1 << 16,			/* bytes from and to a guest */
	WATCHED = 64,
	FDS = 1024,
	CROWD = 150,			/* nodes that were here before */
	END_TURNS = 200			/* all are gone by then */
};

static struct guest {
	int fd;				/* -1: not here, or not any more */
	int theirs;			/* not accepted yet, or -1 */
	int shut;			/* has said its last byte */
	int dead;			/* for TCP: it acknowledges nothing */
	int key;			/* in secrets[], -1: none */
	int proved;			/* that it has it */
	int begun;			/* its session */
	int refused;			/* its front's words are no good */
	int web;			/* HTTP, no 101 yet */
	int by_web;			/* HTTP, at any time */
	int scrapes;			/* has come to --metrics */
	int narrow;			/* there is little room for it */
	int is_parked;			/* when the server stopped */
	int left;			/* before the end */
	size_t nfront;			/* bytes of its front, still to send */
	unsigned char from[16];		/* who it is to the server */
	size_t nsent, ngot, npending;
	unsigned char sent[LOG], got[LOG];
	char pending[512];		/* the second half of a line */
} guests[GUESTS], nobody_yet = { .fd = -1, .theirs = -1, .key = -1 };

static int nguests;			/* so many have come */
static int64_t now_ms = 1000000;
static unsigned char nonces;
static int no_fds;			/* accept(2) fails so often */
static int no_memory_in;		/* calls, 0: there is always some */
static int scraper_wanted;		/* by accept(2) */
static struct guest *of_fd[FDS];
static struct guest *unheard;		/* a ping for it was not sent */
static int pinged = -1;			/* so was the last line, to that fd */
static struct io *watched[WATCHED];
static int nwatched;

/* the operating system, as the server sees it */

int fuzz_clock(clockid_t, struct timespec *);
int fuzz_accept(int, struct sockaddr *, socklen_t *, int);
int fuzz_random(void *, size_t);

int
fuzz_clock(clockid_t id, struct timespec *ts)
{
	(void)id;
	ts->tv_sec = now_ms / 1000;
	ts->tv_nsec = now_ms % 1000 * 1000000;
	return 0;
}

/* The port is the guest's number; some share an address, some are here. */
static void
address(int i, struct sockaddr *sa, socklen_t *len)
{
	struct sockaddr_in s4;
	struct sockaddr_in6 s6;

	memset(&s4, 0, sizeof s4);
	memset(&s6, 0, sizeof s6);
	s4.sin_family = AF_INET;
	s4.sin_port = htons(1 + i);
	s4.sin_addr.s_addr = htonl(0xc0000201 + i / 8);
	s6.sin6_family = AF_INET6;
	s6.sin6_port = htons(1 + i);
	s6.sin6_addr.s6_addr[0] = 0x20;
	if (i % 8 == 2)
		s4.sin_addr.s_addr = htonl(INADDR_LOOPBACK + i / 8);
	if (i % 4 == 3)
		memcpy(sa, &s6, *len = sizeof s6);
	else
		memcpy(sa, &s4, *len = sizeof s4);
}

int
fuzz_accept(int lfd, struct sockaddr *sa, socklen_t *len, int flags)
{
	int i, fd;

	(void)lfd, (void)flags;
	if (no_fds && no_fds--) {
		errno = EMFILE;
		return -1;
	}
	for (i = 0; i < nguests; i++) {
		if ((fd = guests[i].theirs) < 0 ||
		    guests[i].scrapes != scraper_wanted)
			continue;
		guests[i].theirs = -1;
		address(i, sa, len);
		assert(fd < FDS);
		of_fd[fd] = &guests[i];
		return fd;
	}
	errno = EAGAIN;
	return -1;
}

int
fuzz_random(void *p, size_t n)
{
	memset(p, ++nonces, n);
	return 0;
}

static int
silent(int fd)
{
	return of_fd[fd]->dead ? 6000 : 0;
}

/* Is there no room for a ping, where an agent lives that does not read? */
static ssize_t
seen_send(int fd, const void *b, size_t n, int flags)
{
	ssize_t r = send(fd, b, n, flags);
	int is_ping = n > 4 && !memcmp(b, "PING", 4);

	pinged = r > 0 && is_ping ? fd : -1;
	if (r < 0 && errno == EAGAIN && is_ping)
		unheard = of_fd[fd];
	return r;
}

static ssize_t
seen_recv(int fd, void *b, size_t n, int flags)
{
	pinged = -1;
	return recv(fd, b, n, flags);
}

static int
memory_fails(void)
{
	if (!no_memory_in || --no_memory_in)
		return 0;
	errno = ENOMEM;
	return 1;
}

static void
(*seen_signal(int sig, void (*fn)(int)))(int)
{
	(void)sig, (void)fn;
	return SIG_IGN;
}

static int
seen_poll(struct pollfd *p, nfds_t n, int ms)
{
	(void)p, (void)n, (void)ms;
	return 0;
}

static char *
seen_strdup(const char *s)
{
	return memory_fails() ? NULL : strdup(s);
}

static void *
seen_calloc(size_t n, size_t size)
{
	return memory_fails() ? NULL : calloc(n, size);
}

static int
seen_add(struct io *io, int fd, void (*fn)(struct io *))
{
	int r;

	if (memory_fails()) {
		errno = ENOMEM;
		return -1;
	}
	if ((r = io_add(io, fd, fn)) == 0) {
		assert(nwatched < WATCHED);
		watched[nwatched++] = io;
	}
	return r;
}

/* Nobody is closed for having been pinged; one whose time is over may be. */
static void
seen_close(struct io *io)
{
	int i;

	assert(pinged < 0 || pinged != io->fd || io->heap < 0);
	for (i = 0; i < nwatched; i++)
		if (watched[i] == io) {
			watched[i] = watched[--nwatched];
			break;
		}
	io_close(io);
}

/* No message is written, as nobody reads them. */
#define poll seen_poll
#define proc_raise() 1024
#define reactor_signal(sig, fn) ((void)(fn))
#define signal seen_signal
#define calloc seen_calloc
#define strdup seen_strdup
#define io_add seen_add
#define io_close seen_close
#define net_silent silent
#define send seen_send
#define recv seen_recv
#define net_accept(fd, sa, len) seen_accept(io, sa, len)
static int seen_accept(struct io *, struct sockaddr *, socklen_t *);
int mssh_main(int, char *[]);
#define main mssh_main
#include "../mssh.c"
#undef main
#undef poll
#undef send
#undef recv
#undef net_accept
#undef io_close
#undef io_add
#undef calloc
#undef strdup

/* What is below finds nothing new by being followed. */
#ifdef __clang__
# pragma clang attribute push (__attribute__((no_sanitize("coverage"))), \
    apply_to = function)
#endif

static unsigned char born[sizeof cfg];	/* cfg before any option */
static FILE *keys_file;
static struct io driver;
static int calm, gone;			/* turns, at the end */
static int stopped;			/* it had so many connections, plus 1 */

static struct node *known[2 * GUESTS + CROWD];
static int nknown;

static int
seen_accept(struct io *io, struct sockaddr *sa, socklen_t *len)
{
	scraper_wanted = io >= listeners + metrics_from;
	return net_accept(io->fd, sa, len);
}

/* the input */

static const uint8_t *program;
static size_t left;

static unsigned
next_byte(void)
{
	if (!left)
		return 0;
	left--;
	return *program++;
}

/* keys */

static const char *const key_names[] = { "ka", "kb", "kc", "unknown" };
static struct secret secrets[LEN(key_names)];
static char spelled[LEN(key_names)][B64_LEN + 1];

static const struct {
	const char *format;
	int keys[3];
} files[] = {
	{ "both * ka %s\nclient * kb %s\nagent b kc %s\n", { 0, 1, 2 } },
	{ "# a\nagent a,b.* ka %s\nclient b* ka %s\n", { 0, 0, 0 } },
	{ "both * kb %s\nclient a kc %s\n", { 1, 2, 0 } },
	{ "agent * ka %s\nclient a ka %s\nboth * kc %s\n", { 0, 1, 2 } },
	{ "both * ka %s\nagent\n", { 0, 0, 0 } },
	{ "", { 0, 0, 0 } },
	{ "agent * ka %s\n\nclient * kb %s", { 2, 1, 0 } },
};

static unsigned files_used;		/* bits */

/* Does one of the files that were there let that key see the node? */
static int
key_sees(const char *key, const char *node)
{
	char b[512], *line, *end;
	const char *bad;
	struct right r;
	unsigned i;

	for (i = 0; i < LEN(files); i++) {
		if (!(files_used >> i & 1))
			continue;
		snprintf(b, sizeof b, files[i].format,
		    spelled[files[i].keys[0]], spelled[files[i].keys[1]],
		    spelled[files[i].keys[2]]);
		for (line = b; *line; line = end) {
			end = line + strcspn(line, "\n");
			if (*end)
				*end++ = '\0';
			if (right_parse(line, &r, &bad) == 0 && r.roles &&
			    !strcmp(r.secret.name, key) &&
			    r.roles & (1 << R_CLIENT | 1 << R_LIST) &&
			    glob_list(r.nodes, node, 0))
				return 1;
		}
	}
	return 0;
}

static void
keys_write(unsigned which)
{
	static unsigned now = LEN(files);
	char b[512];
	const int *k = files[which % LEN(files)].keys;
	int n = snprintf(b, sizeof b, files[which % LEN(files)].format,
	    spelled[k[0]], spelled[k[1]], spelled[k[2]]);

	files_used |= 1 << which % LEN(files);
	if (which % LEN(files) == now)
		return;
	now = which % LEN(files);
	assert(n < (int)sizeof b);
	assert(pwrite(fileno(keys_file), b, n, 0) == n);
	assert(ftruncate(fileno(keys_file), n) == 0);
}

/* guests */

static struct guest *
come(int scrapes)
{
	struct guest *g = &guests[nguests];
	struct sockaddr_storage ss;
	socklen_t len;
	struct peer p;
	int s[2];

	if (nguests == GUESTS || !nlisten)
		return NULL;
	assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s) == 0);
	g->fd = s[0];
	g->theirs = s[1];
	g->shut = g->dead = g->proved = g->begun = g->web = g->by_web = 0;
	g->narrow = g->is_parked = g->left = 0;
	g->scrapes = scrapes;
	g->refused = cfg.proxied;
	address(nguests, (struct sockaddr *)&ss, &len);
	peer_set(&p, &ss);
	memcpy(g->from, p.ip, sizeof g->from);
	g->nfront = 0;
	g->key = -1;
	g->nsent = g->ngot = g->npending = 0;
	nguests++;
	io_again(&listeners[scrapes]);
	return g;
}

static int
number(const struct guest *g)
{
	return g == &nobody_yet ? 0 : g - guests;
}

static void
leave(struct guest *g)
{
	if (g->fd >= 0)
		close(g->fd);
	g->fd = -1;
}

static void
put(struct guest *g, const void *b, size_t n)
{
	size_t skip;
	ssize_t r;

	if (!n || g->fd < 0 || g->shut || n > LOG - g->nsent)
		return;
	if ((r = send(g->fd, b, n, MSG_NOSIGNAL)) <= 0)
		return;
	skip = (size_t)r < g->nfront ? (size_t)r : g->nfront;
	g->nfront -= skip;
	memcpy(g->sent + g->nsent, (const char *)b + skip, r - skip);
	g->nsent += r - skip;
}

/* The second half is sent when the guest does something again. */
static void
put_two(struct guest *g, const char *b, size_t n, int in_two)
{
	size_t k = in_two ? n / 2 : n;

	put(g, b, k);
	memcpy(g->pending, b + k, n - k);
	g->npending = n - k;
}

static void
put_line(struct guest *g, const char *line, int in_two)
{
	put_two(g, line, strlen(line), in_two);
}

static void
put_rest(struct guest *g)
{
	put(g, g->pending, g->npending);
	g->npending = 0;
}

static const char switching[] = "HTTP/1.1 101 Switching Protocols\r\n"
    "Connection: Upgrade\r\nUpgrade: mssh\r\n\r\n";

static size_t
take(struct guest *g, size_t most)
{
	const size_t k = sizeof switching - 1;
	ssize_t n = 0;

	if (most > LOG - g->ngot)
		most = LOG - g->ngot;
	if (g->fd >= 0 && most &&
	    (n = recv(g->fd, g->got + g->ngot, most, 0)) > 0)
		g->ngot += n;
	if (g->web && g->ngot >= k && !memcmp(g->got, switching, k)) {
		g->web = 0;
		memmove(g->got, g->got + k, g->ngot -= k);
	}
	return n > 0 ? n : 0;
}

/* All that has come for anybody. */
static size_t
take_all(void)
{
	struct pollfd p[GUESTS];
	size_t n = 0;
	int i, here = 0;

	for (i = 0; i < nguests; i++) {
		p[i].fd = guests[i].fd;
		p[i].events = POLLIN;
		here += guests[i].fd >= 0;
	}
	if (here && poll(p, nguests, 0) > 0)
		for (i = 0; i < nguests; i++)
			if (p[i].revents)
				n += take(&guests[i], LOG);
	return n;
}

/* fronts */

/* Claims to be 198.51.100.1 or 2001:db8::1, with the guest's own port, or says
 * nothing about it.  1: it claims something. */
static int
proxy_header(int i, unsigned how, char *b, size_t *n, unsigned char ip[16])
{
	static const char *const lines[] = {
		"PROXY TCP4 198.51.100.1 192.0.2.1 %d 1\r\n",
		"PROXY TCP6 2001:db8::1 ::1 %d 1\r\n",
		"PROXY UNKNOWN\r\n", "PROXY TCP4 198.51.100.1\r\n" };
	static const unsigned char kinds[] = { 0x11, 0x21, 0x00 };
	const int v6 = how == 2 || how == 5;
	struct peer o;

	memset(b, 0, 80);
	assert(!origin_parse("198.51.100.1", 12, &o));
	if (v6)
		assert(!origin_parse("2001:db8::1", 11, &o));
	memcpy(ip, o.ip, 16);
	if (how < 4 || how == 7) {
		*n = sprintf(b, lines[how < 4 ? how - 1 : 3], 1 + i);
		return how < 3;
	}
	memcpy(b, "\r\n\r\n\0\r\nQUIT\n", 12);
	b[12] = how == 6 ? 0x20 : 0x21;
	b[13] = kinds[how - 4];
	b[15] = how == 4 ? 12 : how == 5 ? 36 : 0;
	memcpy(b + 16, o.ip + (v6 ? 0 : 12), v6 ? 16 : 4);
	b[how == 4 ? 25 : 49] = 1 + i;
	*n = 16 + b[15];
	return how < 6;
}

/* Likewise, as 203.0.113.1 or 2001:db8:1::1. */
static int
http_head(int i, unsigned how, char *b, size_t *n, unsigned char ip[16])
{
	const char *path = how == 6 ? "/healthz" : "/x";
	char p[8], f[160] = "";
	struct peer o;

	assert(!origin_parse("203.0.113.1", 11, &o));
	snprintf(p, sizeof p, "%d", 1 + i);
	if (how == 3)
		assert(!origin_parse("2001:db8:1::1", 13, &o));
	memcpy(ip, o.ip, 16);
	if (how > 1 && how != 6)
		snprintf(f, sizeof f, "X-Forwarded-For: %s%s:%s\r\n",
		    how == 5 || how == 7 ? "6.6.6.6:9, " : "", how == 3 ?
		    "[2001:db8:1::1]" : "203.0.113.1", p);
	*n = sprintf(b, "GET %s HTTP/1.1\r\nHost: x\r\n%s%s\r\n", path, f,
	    how == 6 ? "" : "Connection: Upgrade\r\nUpgrade: mssh\r\n");
	return how > 1 && how != 6;
}

static int
is_trusted(const unsigned char ip[16])
{
	return net_has(cfg.trusted, cfg.ntrusted, ip);
}

/* how: 0 to 2 PROXY, 3 to 5 HTTP, 6 in two.  1: all of it was sent. */
static int
put_front(struct guest *g, unsigned how)
{
	unsigned proxy = how & 7, http = how >> 3 & 7;
	unsigned char ip[16];
	char b[512];
	size_t n = 0, k = 0;

	if (g->fd < 0 || g->nsent || g->web || g->refused || g->npending ||
	    g->shut || g->scrapes)
		return 0;
	g->refused = cfg.proxied && (!is_trusted(g->from) || !proxy);
	if (proxy) {
		g->refused |= !cfg.proxied || proxy == 7;
		if (proxy_header(number(g), proxy, b, &n, ip) && !g->refused)
			memcpy(g->from, ip, sizeof ip);
	}
	if (http) {
		if (http_head(number(g), http, b + n, &k, ip) && !g->refused &&
		    is_trusted(g->from))
			memcpy(g->from, ip, sizeof ip);
		g->refused |= http == 6;
		g->web = g->by_web = http != 6;
	}
	g->nfront = n + k;
	put_two(g, b, n + k, how & 64);
	return !(how & 64);
}

/* Some are fronts, and all have to come through one, as the input says; before
 * anybody has come. */
static void
hire(unsigned how)
{
	static const char *const nets[] = { "192.0.2.1", "192.0.2.0/24",
	    "2000::/16" };
	unsigned i;

	if (nguests)
		return;
	cfg.proxied = how & 1;
	cfg.ntrusted = 0;
	for (i = 0; i < LEN(nets); i++)
		if (how & 2 << i)
			net_parse(nets[i], &cfg.trusted[cfg.ntrusted++]);
}

/* Bytes that tell whose they are, and which. */
static void
put_payload(struct guest *g, unsigned how)
{
	static const int sizes[] = { 1, 2, 40, 700, 4095, 4097, 17000, 30000 };
	static unsigned char b[30000];
	int i, n = sizes[how % LEN(sizes)];

	if (how & 8) {
		put(g, "SSH-2.0-x\r\n", 11);
		return;
	}
	for (i = 0; i < n; i++)
		b[i] = number(g) << 4 | ((g->nsent + i) * 7 >> 3 & 15);
	put(g, b, n);
}

/* what: 0 to 3 role and version, and 8 where an agent says what program it is,
 * or a client which session it goes on with; 12 to 15 list or ping; then bits.
 */
static void
put_hello(struct guest *g, unsigned what, unsigned who)
{
	char own[] = { 'n', 'a' + number(g), '\0' };
	const char *const nodes[] = { "a", "b", "B.x", own };
	static const char *const patterns[] = { "*", "a,B*", "n?,!na", "m0*" };
	static const char *const asks[] = { "MSSH/2 list", "MSSH/2 ping" };
	static const char *const runs[] = { "", " run=1", " run=2 slot=1",
	    " run=1 slot=5" };
	static const char *const waits[] = { "", " wait=1", " early=1",
	    " wait=60 early=1" };
	static const char *const heads[] = { "MSSH/2 agent", "MSSH/2 client",
	    "AGENT", "CLIENT" };
	static const char *const knows[] = { "", " v=1.2 frames=1", " frames=1",
	    " v=1.2" };
	static const char *const resumes[] = { " seq=0", " wait=1 seq=1",
	    " late=1 seq=0", " wait=60 early=1 seq=999999999" };
	char key[128] = "", nonce[B64_LEN + 1], b[LINE_LEN], more[80] = "";

	int asks_as = what >= 12, old = what & 2 && !asks_as;

	if (!old && what & 1 && what & 8)
		snprintf(more, sizeof more, "%s resume=%s%s", resumes[who >> 2 &
		    3], who & 64 ? "00ff00ff" : "0123abcd",
		    "4567890123456789abcdef01");
	else if (!old && what & 1)
		snprintf(more, sizeof more, "%s", waits[who >> 2 & 3]);
	else if (!old)
		snprintf(more, sizeof more, "%s%s", runs[who >> 2 & 3],
		    knows[(what >> 3 & 1) | (who >> 5 & 2)]);

	if (!old && cfg.keys) {
		g->key = who >> 4 & 3;
		memset(b, 'n', MAC_LEN);
		b64_write((unsigned char *)b, nonce);
		snprintf(key, sizeof key, " key=%s nonce=%s",
		    key_names[g->key], nonce);
	}
	if (asks_as)
		snprintf(b, sizeof b, "%s %s%s%s\n", asks[what & 1],
		    what & 1 ? nodes[who & 3] : patterns[who & 3],
		    waits[who >> 2 & 3], key);
	else
		snprintf(b, sizeof b, "%s %s%s%s%s", heads[what & 3],
		    nodes[who & 3], more, key, who & 64 ? "\r\n" : "\n");
	put_line(g, b, who & 128);
}

static int
hello_of(const struct guest *g, struct hello *h)
{
	char line[LINE_LEN];
	const char *why;

	if (g->refused || g->scrapes)
		return -1;
	return line_take((const char *)g->sent, g->nsent, line) > 0 ?
	    hello_parse(line, h, &why) : -1;
}

/* Where the nth line ends, at most. */
static size_t
behind(const unsigned char *b, size_t n, int lines)
{
	size_t i = 0;

	for (; lines && i < n; i++)
		lines -= b[i] == '\n';
	return i;
}

static void
put_proof(struct guest *g, unsigned how)
{
	unsigned char nonce[MAC_LEN], mac[MAC_LEN];
	char line[LINE_LEN], w[B64_LEN + 1], b[LINE_LEN];
	struct hello h;

	take(g, LOG);
	if (g->key < 0 || hello_of(g, &h) < 0 ||
	    line_take((char *)g->got, g->ngot, line) <= 0 ||
	    word_get(line, "nonce", w, sizeof w) < 0 ||
	    b64_parse(w, nonce) < 0)
		return;
	proof_mac(&secrets[g->key], how & 1 ? LABEL_SERVER : LABEL_PEER,
	    h.role, h.node, h.nonce, nonce, mac);
	g->proved |= !(how & 1) && strcmp(key_names[g->key], "unknown");
	b64_write(mac, w);
	snprintf(b, sizeof b, "PROOF mac=%s\n", w);
	put_line(g, b, how & 2);
}

static void
put_word(struct guest *g, unsigned which)
{
	static const char *const words[] = { "READY\n", "PING\n", "PONG\n",
	    "OK\n", "ERROR busy no sshd\n", "ERROR unreachable\n", "READY",
	    "\n", "READY\nSSH-2.0-y\r\n", "PING\nREADY\n", "what is this\n",
	    "\x16\x03\x01\x02", "GET / HTTP/1.1\r\n\r\n", "MSSH/2 ",
	    "ERROR nonsense \n", "OK id=1\r\n" };

	put(g, words[which % LEN(words)], strlen(words[which % LEN(words)]));
}

/* What those say who ping, or are pinged. */
static void
put_ask(struct guest *g, unsigned which)
{
	static const char *const words[] = { "PING\n", "PING sshd=1\n",
	    "PONG\n", "SSHD us=12 SSH-2.0-x\n", "PONG\nSSHD error no\n",
	    "PING  sshd=1   x\nPING\n", "SSHD\n", "PONG\nREADY\n",
	    "SSHD us=1\nPONG\r\nPING\n", "END\nAGENT us=1\n",
	    "PING\nPING\nPING\nPING\nPING\nPING\nPING\nPING\n" };
	char line[LINE_LEN];

	if (which < LEN(words)) {
		put(g, words[which], strlen(words[which]));
		return;
	}
	memset(line, 'x', sizeof line);
	memcpy(line, which & 1 ? "PING " : "SSHD ", 5);
	line[sizeof line - 1] = '\n';
	put(g, line, sizeof line);
}

/* What is asked for at --metrics. */
static void
put_scrape(struct guest *g, unsigned which)
{
	static const char *const heads[] = { "GET /metrics HTTP/1.1\r\n"
	    "Host: x\r\n\r\n", "GET /metrics HTTP/1.1\r\nHost: x\r\n"
	    "Accept: application/openmetrics-text\r\n\r\n",
	    "GET / HTTP/1.0\r\n\r\n", "HEAD /metrics HTTP/1.0\r\n\r\n",
	    "GET /healthz HTTP/1.0\r\n\r\n", "GET /metrics HTTP/1.1\r\n",
	    "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
	    "Upgrade: mssh\r\n\r\nMSSH/2 agent a\n", "MSSH/2 list *\n" };

	put_line(g, heads[which % LEN(heads)], which & 8);
}

static void
put_raw(struct guest *g)
{
	size_t n = next_byte() % 64;

	if (n > left)
		n = left;
	put(g, program, n);
	program += n;
	left -= n;
}

/* what the server believes */

static struct conn *
conn_of(int i)
{
	return watched[i]->fn != dispatch ? NULL : (struct conn *)
	    ((char *)watched[i] - offsetof(struct conn, io));
}

/* Who lists has a list, and nobody else keeps one; who has a session has said
 * something first, and wanted one. */
static void
check_role(const struct conn *c)
{
	const struct guest *g = &guests[c->peer.port - 1];
	int asks = c->phase == LISTING || c->phase == PINGING;
	const struct listing *l = c->phase != LISTING ? NULL :
	    (const void *)c->end->out.stash;
	struct hello h;

	assert((c->in == &askers) == asks && c->scrape == g->scrapes);
	assert(!l == (c->phase != LISTING));
	assert(!l || (l->off <= l->len && l->len <= sizeof l->b));
	assert(!c->node == (c->phase == LISTING || (c->in == &evictable &&
	    c->phase != AWAIT_CLIENT)) || c->phase == LINGER);
	assert(!c->scrape || c->phase == HEAD || c->phase == LINGER);
	if (c->agent || (c->phase != PAIRED && c->phase != RELAY && !asks))
		return;
	assert(hello_of(g, &h) == 0);
	assert(h.role == (c->phase == LISTING ? R_LIST : asks ? R_PING :
	    R_CLIENT));
	if (!asks && c->end->to->version != 1)
		assert(behind(g->sent, g->nsent, cfg.keys ? 2 : 1) < g->nsent);
}

/* Is c where its phase says? */
static void
check_conn(const struct conn *c)
{
	int session = c->phase == GO_SENT || c->phase == PAIRED ||
	    c->phase == RELAY;

	assert(c->phase > BIRTH && (c->phase <= PINGING || c->phase == RELAY));
	assert(c->io.fn && c->io.fd >= 0);
	assert(c->io.heap >= 0 || c->io.ready & IO_T);
	assert((c->in == &evictable) == (c->phase == FRONT ||
	    c->phase == HELLO || c->phase == HEAD || c->phase == PROOF ||
	    c->phase == LINGER || (c->phase == AWAIT_CLIENT && !c->end->key)));
	assert((c->in == &pending) == ((c->phase == AWAIT_CLIENT &&
	    c->end->key) || c->phase == PAIRED));
	assert(c->phase != FRONT || (cfg.proxied && !c->web));
	assert(c->phase != HEAD || !c->web);
	if (c->in == &evictable && c->phase != LINGER)
		assert(startups[c->s.source] && c->s.source ==
		    (is_front(&c->peer) || is_unix(&c->peer) ? SOURCES :
		    siphash(hash_key, c->peer.ip, is_ipv4(&c->peer) ? 16 : 8) %
		    SOURCES));
	else if (c->phase != LINGER)
		assert(!memcmp(c->peer.ip, guests[c->peer.port - 1].from, 16));
	assert(!c->agent || is_parked(c->phase) || c->phase == GO_SENT ||
	    c->phase == RELAY || c->phase == LINGER);
	assert(session == (c->end && c->end->to));
	if (session) {
		assert(c->end->to->end->to == c);
		assert(c->node && c->end->to->node == c->node);
		assert(c->agent != c->end->to->agent);
	}
	if (is_parked(c->phase))
		assert(c->in == &c->node->u.parked && c->agent);
	if (c->phase == WAITING)
		assert(c->in == &c->node->waiting);
	if (c->in == &live)
		assert(c->phase == RELAY && !c->agent);
	check_role(c);
}

/* No session begins by a key that is gone: keys go between two checks only
 * where a step of ours says so, after the first of them. */
static void
check_begun(const struct conn *c)
{
	struct guest *g = &guests[c->peer.port - 1];

	if (c->phase != RELAY || g->begun)
		return;
	g->begun = 1;
	assert(!is_revoked(c));
}

static void
check_list(const struct list *l)
{
	const struct conn *c = l->head;
	int i;

	assert(l->n >= 0 && !c == !l->n);
	for (i = 0; i < l->n; i++, c = c->next)
		assert(c->in == l && c->next->prev == c);
	assert(c == l->head);
}

static void
check_node(const struct node *n)
{
	int i, refs = 0, agents = 0;
	struct conn *c;

	for (i = 0; i < nwatched; i++)
		if ((c = conn_of(i)) && c->node == n) {
			refs++;
			agents += c->agent;
		}
	assert(n->refs == refs && n->agents == agents);
	if (refs)
		check_list(&n->u.parked);
	else
		assert(halting || (n->seen && !n->waiting.n));
	check_list(&n->waiting);
	assert(!n->waiting.n || !n->u.parked.n || halting);
}

/* All nodes: somebody is there, or they are remembered.  The table is walked
 * only where a server that stops has left others. */
static void
find_nodes(void)
{
	struct node *n;
	struct conn *c;
	size_t b;
	int i, j;

	nknown = 0;
	for (i = 0; i < nwatched; i++) {
		if (!(c = conn_of(i)) || !c->node)
			continue;
		for (j = 0; j < nknown && known[j] != c->node; j++)
			;
		if (j == nknown)
			known[nknown++] = c->node;
	}
	for (n = newest; n; n = n->u.off[1]) {
		assert(nknown < (int)LEN(known));
		known[nknown++] = n;
	}
	if ((size_t)nknown == nnodes)
		return;
	assert(halting);
	nknown = 0;
	for (b = 0; b < CHAINS; b++)
		for (n = table[b]; n; n = n->chain)
			known[nknown++] = n;
}

static void
check_key(const struct key *k)
{
	int i, held = 0, clients = 0, refs = 0;
	struct conn *c;

	for (i = 0; i < nknown; i++)
		refs += known[i]->key == k;
	for (i = 0; i < nwatched; i++)
		if ((c = conn_of(i))) {
			held += is_parked(c->phase) && c->node->key == k;
			clients += !c->agent && c->end &&
			    c->end->key == k;
			refs += (c->end && c->end->key == k) +
			    (c->end && c->end->proof &&
			    c->end->proof->key == k);
		}
	assert(k->parked == held && k->clients == clients && k->refs == refs);
	assert(!k->gone && !k->read);
}

/* What --metrics says of the nodes, and who pings uses up nobody. */
static void
check_counts(void)
{
	unsigned long long online = 0, parked_all = 0;
	int i, agents = 0, off = 0, here = 0;
	struct conn *c;

	for (i = 0; i < nknown; i++) {
		agents += known[i]->agents > 0;
		off += !known[i]->agents && known[i]->seen;
		if (!known[i]->refs)
			continue;
		online += known[i]->u.parked.n > 0;
		parked_all += known[i]->u.parked.n;
	}
	assert(metric[M_ONLINE] == online && metric[M_PARKED] == parked_all);
	assert(nagents == agents && noffline == off);
	if (!unheard)
		return;
	for (i = 0; i < nwatched; i++)
		here |= (c = conn_of(i)) && of_fd[c->io.fd] == unheard;
	assert(here || unheard->fd < 0 || unheard->shut || unheard->dead);
	unheard = NULL;
}

static void
check(void)
{
	int i, n[RELAY + 1] = { 0 }, all = 0, fronts = 0, mute = 0;
	const struct key *k;
	struct conn *c;
	size_t b;

	for (i = 0; i < nwatched; i++)
		if ((c = conn_of(i))) {
			check_conn(c);
			check_begun(c);
			fronts += c->in == &evictable &&
			    c->phase != LINGER && c->s.source == SOURCES;
			mute += c->phase == AWAIT_CLIENT && !c->end->key;
			n[c->phase]++;
			all++;
		}
	assert(nconns == all && nwaiting == n[WAITING]);
	assert(evictable.n == n[FRONT] + n[HELLO] + n[HEAD] + n[PROOF] +
	    n[LINGER] + mute && pending.n == n[AWAIT_CLIENT] - mute +
	    n[PAIRED]);
	assert(startups[SOURCES] == fronts);
	assert(2 * live.n == n[RELAY] && n[GO_SENT] == n[PAIRED]);
	assert(askers.n == n[LISTING] + n[PINGING] && askers.n <= MAX_ASKERS);
	assert(metric[M_PARKED] ==
	    (unsigned long long)n[PARKED] + n[PROBED]);
	check_list(&askers);
	check_list(&evictable);
	check_list(&pending);
	check_list(&live);
	find_nodes();
	for (i = 0; i < nknown; i++)
		check_node(known[i]);
	assert(nnodes == (size_t)nknown && nseen <= nknown);
	check_counts();
	for (b = 0; b < LEN(keys); b++)
		for (k = keys[b]; k; k = k->chain)
			check_key(k);
}

/* what the guests got */

static int
starts(const unsigned char *b, size_t n, const char *with)
{
	return n >= strlen(with) && !memcmp(b, with, strlen(with));
}

/* Likewise, but whoever left early may not have all of it. */
static int
seems(const unsigned char *b, size_t n, const char *with)
{
	size_t len = strlen(with);

	return !memcmp(b, with, n < len ? n : len);
}

/* Is b what follows in g's log from off on, and all of it? */
static int
agrees(const struct guest *g, size_t off, const unsigned char *b, size_t n,
    int whole)
{
	size_t m = g->nsent - off;

	return (whole ? n == m : n <= m) && !memcmp(g->sent + off, b, n);
}

/* Does b come from agent a, once it was ready?  One of version 1 is that when
 * it is parked. */
static int
from_agent(const struct guest *a, const unsigned char *b, size_t n, int whole)
{
	struct hello h;
	size_t off, was;
	const char *text;
	char line[LINE_LEN];
	int r;

	if (hello_of(a, &h) < 0 || h.role != R_AGENT)
		return 0;
	off = behind(a->sent, a->nsent, cfg.keys ? 2 : 1);
	if (h.version == 1)
		return agrees(a, off, b, n, whole);
	for (was = off; (r = line_take((const char *)a->sent + was,
	    a->nsent - was, line)) > 0; was += r)
		if (reply_parse(line, &text) == C_OK &&
		    agrees(a, was + r, b, n, whole))
			return 1;
	return 0;
}

static int
from_client(const struct guest *c, const unsigned char *b, size_t n,
    int whole)
{
	struct hello h;

	return hello_of(c, &h) == 0 && h.role == R_CLIENT && agrees(c,
	    behind(c->sent, c->nsent, cfg.keys ? 2 : 1), b, n, whole);
}

/* The guest whose number is the port of from=. */
static struct guest *
caller(const char *line)
{
	char w[LINE_LEN];
	struct peer o;
	long port;

	assert(word_get(line, "from", w, sizeof w) > 0 && strrchr(w, ':'));
	assert(num_parse(strrchr(w, ':') + 1, 1, nguests, &port) == 0);
	assert(!origin_parse(w, strlen(w), &o));
	assert(!memcmp(o.ip, guests[port - 1].from, 16));
	return &guests[port - 1];
}

/* When to come back: not sooner, and not all at once. */
static void
check_stop(const char *line)
{
	char w[LINE_LEN];
	long ms;

	assert(stopped && word_get(line, "in", w, sizeof w) > 0);
	assert(num_parse(w, STOP_MS, 2 * STOP_MS + stopped * 1000L / STOP_RATE,
	    &ms) == 0);
}

/* An agent of version 2 hears OK before all else, and GO once; behind that
 * stands what its client has said, and nothing else.  Only one that knows frames
 * hears of a session that goes on. */
static void
check_agent(const struct guest *g, const struct hello *h, size_t off,
    int whole)
{
	char line[LINE_LEN], w[LINE_LEN];
	struct guest *c;
	struct hello ch;
	int ok = 0, r;

	while ((r = line_take((const char *)g->got + off, g->ngot - off,
	    line)) > 0) {
		off += r;
		if (word_is(line, "ERROR")) {
			assert(off == g->ngot);
			return;
		}
		if (!strcmp(line, "OK")) {
			assert(!ok);
			ok = 1;
			continue;
		}
		assert(ok);
		if (word_is(line, "PING") || !strcmp(line, "PONG"))
			continue;
		if (word_is(line, "STOP")) {
			check_stop(line);
			assert(off == g->ngot);
			return;
		}
		assert(word_is(line, "GO"));
		assert(!g->is_parked);
		c = caller(line);
		assert(hello_of(c, &ch) == 0 && !strcmp(ch.node, h->node));
		assert(!*ch.resume == (word_get(line, "resume", w,
		    sizeof w) < 0));
		assert(!*ch.resume || (h->frames && strstr(line, ch.resume)));
		assert(from_client(c, g->got + off, g->ngot - off, whole));
		return;
	}
	assert(!r);
	/* it had time to read it */
	assert(!g->is_parked || g->narrow || g->shut || g->dead || g->left ||
	    g->ngot == LOG);
}

/* Is that a frame that ends a session, or the beginning of one? */
static int
is_close(const unsigned char *b, size_t n)
{
	static const char error[] = "ERROR ";
	struct frame f;
	int r = frame_parse(b, n, &f);

	return r >= 0 && n && *b == F_CLOSE && (!r || (!f.received &&
	    n - r <= f.len && seems(b + r, n - r < 6 ? n - r : 6, error)));
}

/* A client gets OK (if it wants one), then what an agent has sent; or it is
 * refused, in a frame where it expects frames by now. */
static void
check_client(const struct guest *g, const struct hello *h, size_t off,
    int whole)
{
	char line[LINE_LEN], w[LINE_LEN];
	int i, framed = *h->resume && h->early;
	struct hello a;
	const unsigned char *b;
	size_t n;

	if (!h->early && starts(g->got + off, g->ngot - off, "OK")) {
		if (line_take((const char *)g->got + off, g->ngot - off,
		    line) > 0) {
			framed = word_get(line, "frames", w, sizeof w) > 0;
			assert(framed == !!*h->resume);
		}
		off += behind(g->got + off, g->ngot - off, 1);
	}
	b = g->got + off;
	n = g->ngot - off;
	assert(!starts(b, n, "ERROR unsupported") || *h->resume);
	if (!whole && framed && (!n || is_close(b, n)))
		return;
	/* no client of ours says both early= and resume= */
	if (!whole && (!framed || h->early) && (seems(b, n, "ERROR") ||
	    seems(b, n, "SSH-2.0-mssh\r\n") || seems(b, n, "OK")))
		return;
	for (i = 0; i < nguests; i++)
		if (&guests[i] != g && from_agent(&guests[i], b, n, whole) &&
		    (!*h->resume || (hello_of(&guests[i], &a) == 0 &&
		    a.frames)))
			return;
	assert(!"bytes that no agent has sent");
}

static void
check_old_agent(const struct guest *g, int whole)
{
	size_t off = starts(g->got, g->ngot, "OK\n") ? 3 : 0;
	int i;

	if (!whole && (g->ngot == off || seems(g->got, g->ngot, "ERROR") ||
	    seems(g->got, g->ngot, "OK\n")))
		return;
	assert(off);
	for (i = 0; i < nguests; i++)
		if (from_client(&guests[i], g->got + off, g->ngot - off,
		    whole))
			return;
	assert(!"bytes that no client has sent");
}

/* May g know that there is such a node? */
static void
check_sees(const struct guest *g, const char *node)
{
	char id[NODE_LEN + 1];
	struct hello h;

	assert(!node_parse(node, id, 0) && !strcmp(node, id));
	if (cfg.keys)
		assert(hello_of(g, &h) == 0 && g->proved &&
		    key_sees(h.key, node));
	else
		assert(g->from[12] == 127 && !g->by_web &&
		    !memcmp(g->from, ip_map, 12));
}

/* Where w ends in b, or n. */
static size_t
find(const unsigned char *b, size_t n, const char *w)
{
	size_t i, k = strlen(w);

	for (i = 0; i + k <= n; i++)
		if (!memcmp(b + i, w, k))
			return i + k;
	return n;
}

/* The names that a refusal tells. */
static void
check_similar(const struct guest *g)
{
	static const char word[] = "; similar: ";
	size_t i = find(g->got, g->ngot, word), k;
	const struct guest *p;
	char id[NODE_LEN + 1];

	for (p = guests; i < g->ngot && p < guests + nguests; p++)
		if (find(p->sent, p->nsent, word) < p->nsent)
			return;		/* not a refusal */
	for (; i < g->ngot; i += 2) {
		for (k = 0; i < g->ngot && k < NODE_LEN && strchr(NAME_CHARS,
		    g->got[i]) && g->got[i];)
			id[k++] = g->got[i++];
		id[k] = '\0';
		check_sees(g, id);
		if (i + 1 >= g->ngot || g->got[i] != ',')
			break;
	}
}

static void
check_row(const struct guest *g, const struct hello *h, const char *row)
{
	static const char *const numbers[] = { "since", "parked", "sessions",
	    "waiting" };
	char id[LINE_LEN], w[LINE_LEN];
	const char *s = row;
	size_t i;
	long n, here = 0;

	assert(word_next(&s, id, sizeof id) > 0);
	check_sees(g, id);
	assert(glob_list(h->node, id, 0));
	for (i = 0; i < LEN(numbers); i++) {
		assert(word_get(row, numbers[i], w, sizeof w) > 0);
		assert(num_parse(w, 0, INT_MAX, &n) == 0);
		here = i == 1 ? n : here;
	}
	assert(word_get(row, "state", w, sizeof w) > 0);
	assert(!strcmp(w, here ? "online" : *w == 'b' ? "busy" : "offline"));
	assert((word_get(row, "address", w, sizeof w) > 0) == (here > 0));
}

/* It is the last line; who said early=1 is refused in SSH's words. */
static int
is_refusal(const struct hello *h, const char *line, int is_last)
{
	if (h->early && word_is(line, "SSH-2.0-mssh"))
		return 1;
	assert(!word_is(line, "ERROR") || is_last);
	return word_is(line, "ERROR") != NULL;
}

/* OK, the rows, and how many there were; or it is cut, or refused. */
static void
check_lister(const struct guest *g, const struct hello *h, size_t off)
{
	char line[LINE_LEN], b[32];
	int rows = 0, ok = 0, r;
	const char *row;

	for (; (r = line_take((const char *)g->got + off, g->ngot - off,
	    line)) > 0; off += r) {
		if (is_refusal(h, line, off + r == g->ngot))
			return;
		assert(ok == !!strcmp(line, "OK"));
		if (!ok++)
			continue;
		ok = 1;
		if ((row = word_is(line, "NODE"))) {
			check_row(g, h, row);
			rows++;
			continue;
		}
		snprintf(b, sizeof b, "END %d", rows);
		/* a key may go between END and the close */
		assert(!strcmp(line, b) && (off + r == g->ngot ||
		    seems(g->got + off + r, g->ngot - off - r,
		    "ERROR denied its key was removed\n")));
		ok = 2;
	}
	assert(!r);
}

/* Has an agent of that node said that line? */
static int
agent_said(const char *node, const char *what, int only_word)
{
	char line[LINE_LEN];
	struct guest *a;
	struct hello h;
	size_t off;
	int r;

	for (a = guests; a < guests + nguests; a++)
		for (off = 0; hello_of(a, &h) == 0 && h.role == R_AGENT &&
		    !strcmp(h.node, node) && (r = line_take((const char *)
		    a->sent + off, a->nsent - off, line)) > 0; off += r)
			if (only_word ? word_is(line, what) != NULL :
			    !strcmp(line, what))
				return 1;
	return 0;
}

/* OK, then PONG for each PING; AGENT where an agent of its node said PONG, and
 * what that said of its sshd. */
static void
check_pinger(const struct guest *g, const struct hello *h, size_t off)
{
	char line[LINE_LEN];
	int pongs = 0, agents = 0, ok = 0, r;

	for (; (r = line_take((const char *)g->got + off, g->ngot - off,
	    line)) > 0; off += r)
		if (is_refusal(h, line, off + r == g->ngot))
			return;
		else if (!ok++)
			assert(!strcmp(line, "OK"));
		else if (!strcmp(line, "PONG"))
			pongs++;
		else if (word_is(line, "AGENT")) {
			assert(++agents <= pongs);
			assert(agent_said(h->node, "PONG", 1));
		} else
			assert(word_is(line, "SSHD") &&
			    agent_said(h->node, line, 0));
	assert(!r);
}

/* A page, or an error; nothing of our protocol. */
static void
check_scraper(const struct guest *g)
{
	static const char eof[] = "# EOF\n", open[] = "openmetrics";
	const char *b = (const char *)g->got;
	struct response r;
	int n = response_take(b, g->ngot, &r);

	assert(seems(g->got, g->ngot, "HTTP/1.1 ") && n >= 0);
	if (!n)
		return;
	assert(r.status >= 200 && !r.mssh);
	if (r.status != 200 || !strncmp((const char *)g->sent, "GET /h", 6))
		return;
	assert(starts(g->sent, g->nsent, "GET /metrics "));
	assert(b[g->ngot - 1] == '\n');
	if (g->nsent > 60 && !memcmp(g->sent + g->nsent - 20, open, 11))
		assert(!memcmp(b + g->ngot - 6, eof, 6));
}

static void
check_guest(const struct guest *g, int whole)
{
	struct hello h;
	size_t off = 0;

	if (g->scrapes) {
		check_scraper(g);
		return;
	}
	check_similar(g);
	if (hello_of(g, &h) < 0) {
		assert(seems(g->got, g->ngot, "ERROR") ||
		    (seems(g->got, g->ngot, "HTTP/1.1 ") &&
		    (g->ngot < 10 || !g->refused || g->got[9] != '1')) ||
		    seems(g->got, g->ngot, "SSH-2.0-mssh\r\n") ||
		    seems(g->got, g->ngot, "\x15\x03\x01"));
		return;
	}
	if (g->web) {
		assert(seems(g->got, g->ngot, switching) ||
		    seems(g->got, g->ngot, "HTTP/1.1 408") ||
		    seems(g->got, g->ngot, "ERROR"));
		return;
	}
	if (cfg.keys && seems(g->got, g->ngot, "CHALLENGE "))
		off = behind(g->got, g->ngot, 1);
	else	/* nobody gets past that */
		assert(!cfg.keys || seems(g->got, g->ngot, "ERROR") ||
		    (h.early && seems(g->got, g->ngot, "SSH-2.0-mssh")));
	assert(!cfg.keys || g->proved ||
	    seems(g->got + off, g->ngot - off, "ERROR") ||
	    seems(g->got + off, g->ngot - off, "SSH-2.0-mssh"));
	if (h.role == R_CLIENT)
		check_client(g, &h, off, whole);
	else if (h.role == R_LIST)
		check_lister(g, &h, off);
	else if (h.role == R_PING)
		check_pinger(g, &h, off);
	else if (h.version == 2)
		check_agent(g, &h, off, whole);
	else
		check_old_agent(g, whole);
}

/* For whoever looks into a failure: what was said. */
static void
show(void)
{
#ifdef REPLAY
	char b[400];
	int i;

	for (i = 0; i < nguests; i++) {
		printf("guest %d sent %zu: %s\n", i, guests[i].nsent, escape(b,
		    sizeof b, guests[i].sent, guests[i].nsent));
		printf("guest %d got %zu: %s\n", i, guests[i].ngot, escape(b,
		    sizeof b, guests[i].got, guests[i].ngot));
	}
#endif
}

/* Everything arrives where both sides of a session are well, and each list has
 * got to its end: not at a guest whose log is full, as it reads no more. */
static void
check_sessions(void)
{
	struct guest *g, *p;
	struct conn *c;
	int i;

	show();
	for (i = 0; i < nwatched; i++) {
		c = conn_of(i);
		if (!c || (c->phase != RELAY && c->phase != LISTING))
			continue;
		g = &guests[c->peer.port - 1];
		if (c->phase == LISTING) {
			assert(g->ngot == LOG || g->shut);
			continue;
		}
		p = &guests[c->end->to->peer.port - 1];
		if (g->fd >= 0 && p->fd >= 0 && !g->shut && !p->shut)
			check_guest(g, g->ngot < LOG);
	}
}

/* the program */

/* Nodes that were here, so that a list does not fit in one go. */
static void
crowd(void)
{
	struct node *n;
	char id[8];
	int i;

	for (i = 0; i < CROWD; i++) {
		snprintf(id, sizeof id, "m%03d", i);
		if (!(n = node_get(id)) || n->seen)
			continue;
		n->seen = reactor_now();
		n->lost = 0;
		noffline++;
		remember(n);
	}
}

/* The server has little room for what g does not read.  A scraper's page fits
 * into any new socket. */
static void
narrow(struct guest *g)
{
	int i, size = 1;

	g->narrow = 1;
	for (i = 0; i < nwatched; i++)
		if (conn_of(i) && of_fd[watched[i]->fd] == g && !g->scrapes)
			setsockopt(watched[i]->fd, SOL_SOCKET, SO_SNDBUF,
			    &size, sizeof size);
}

static void
ask_step(struct guest *g, unsigned how)
{
	if (how == 14)
		narrow(g);
	else if (how == 13 && next_byte() & 1)
		crowd();
	else if (how == 13) {
		if ((g = come(1)))
			put_scrape(g, next_byte());
	} else
		put_ask(g, how);
}

/* Who is parked learns of it. */
static void
stop(void)
{
	struct conn *c;
	int i;

	for (i = 0; i < nwatched && !halting; i++)
		if ((c = conn_of(i)) && is_parked(c->phase) &&
		    c->version == 2)
			of_fd[c->io.fd]->is_parked = 1;
	if (!stopped)
		stopped = 1 + nconns;
	on_term();
}

static void
take_step(unsigned what, unsigned with)
{
	static const int times[] = { 1, 100, 200, 1000, 2000, 3000, 5000,
	    10000, 20000, 60001 };
	int who = with & 7;
	unsigned how = with >> 3 & 15;
	struct guest *g;

	if (who == 7)			/* the latest */
		who = nguests - 1;
	g = who >= 0 && who < nguests ? &guests[who] : &nobody_yet;
	put_rest(g);
	switch (what) {
	case 0:
		no_fds = how & 1 ? with & 7 : no_fds;
		no_memory_in = how & 1 ? 0 : 1 + (with & 7);
		break;
	case 1:
		if ((g = come(0)) && with & 128)
			put_front(g, next_byte());
		break;
	case 2:
		if ((g = come(0)) && (!(with & 128) ||
		    put_front(g, next_byte())))
			put_hello(g, (with & 0x70) == 0x70 ? 12 | (with & 3) :
			    with & 11, next_byte());
		break;
	case 4:
		if (!(with & 128) || put_front(g, next_byte()))
			put_hello(g, how, next_byte());
		break;
	case 5:
		put_proof(g, how);
		break;
	case 6:
	case 7:
		put_word(g, how);
		break;
	case 8:
	case 9:
		put_payload(g, how);
		break;
	case 10:
		take(g, how & 1 ? LOG : how);
		break;
	case 11:
		if (how & 1) {
			g->left = 1;
			leave(g);
		} else if (how & 2)
			g->dead = 1;
		else if (g->fd >= 0) {
			shutdown(g->fd, SHUT_WR);
			g->shut = 1;
		}
		break;
	case 3:
	case 12:
	case 13:
		now_ms += times[(with & 127) % LEN(times)];
		break;
	case 14:
		if (with & 64) {
			put_raw(g);
			break;
		}
		keys_write(how);
		if (cfg.keys)
			on_reload();
		break;
	default:
		if (how == 15)
			stop();
		else if (nguests)
			ask_step(g, how);
		else
			hire(how);
	}
}

/* All that is under way arrives; then everybody leaves, time passes, and the
 * server has nobody left. */
static int
the_end(void)
{
	int i, any = 0, lists = 0;
	struct conn *c;

	no_fds = no_memory_in = 0;
	if (!gone) {
		for (i = 0; i < nguests; i++)
			put_rest(&guests[i]);
		calm = take_all() ? 0 : calm + 1;
		for (i = 0; i < nwatched; i++) {
			any |= watched[i]->bulk;
			lists |= (c = conn_of(i)) && c->phase == LISTING;
		}
		/* bulk ones run one a turn */
		if (calm < (lists || any ? 8 : nguests ? 3 : 1))
			return 0;
		check_sessions();
		for (i = 0; i < nguests; i++)
			leave(&guests[i]);
	}
	assert(gone++ < END_TURNS);
	if (gone > 2)
		now_ms += 3000;
	any = 0;
	for (i = 0; i < nwatched; i++)
		any |= conn_of(i) != NULL;
	return !any && gone > 1;
}

static void
on_step(struct io *io)
{
	unsigned what, with;

	check();
	io_again(io);
	if (!left) {
		if (the_end())
			on_term();
		return;
	}
	pinged = -1;
	do {
		what = next_byte();
		with = next_byte();
		take_step(what & 15, with);
	} while (what & 128 && left);
}

/* start and end */

static void
prepare(unsigned how)
{
	memcpy(&cfg, born, sizeof cfg);
	nguests = no_fds = no_memory_in = calm = gone = stopped = 0;
	unheard = NULL;
	pinged = -1;
	files_used = 0;
	nonces = 0;
	halting = 0;
	now_ms = (now_ms / 100000 + 2) * 100000;
	started = 0;
	nobody_yet.shut = nobody_yet.dead = 0;
	nobody_yet.key = -1;
	nobody_yet.npending = 0;
	if (how & 1) {			/* limits that can be reached */
		cfg.startups = 4;
		cfg.connections = 8;
		cfg.sessions = 1;
	}
	cfg.strict = how >> 1 & 1;
	cfg.drain = how & 4 ? 20 : 0;
	cfg.verbose = how == 8;		/* it is slow */
	status = server_status;
	daemon_start(on_term);
	if (how & 1) {
		caps.source_startups = 3;
		caps.waiting = caps.key_parked = caps.key_sessions = 2;
	}
	if (how & 16) {
		static char path[32];

		keys_write(how >> 5);
		snprintf(path, sizeof path, "/proc/self/fd/%d",
		    fileno(keys_file));
		cfg.keys = keys_name = path;
		keys_load();
	}
	on_housekeeping(&housekeeping);
	nlisten = 2;
	metrics_from = 1;
	assert(io_add(&listeners[0], -1, on_listen) == 0);
	assert(io_add(&listeners[1], -1, on_listen) == 0);
	assert(io_add(&driver, -1, on_step) == 0);
}

static void
forget_nodes(void)
{
	struct node *n;
	int i;

	find_nodes();
	for (i = 0; i < nknown; i++) {
		n = known[i];
		assert(!n->refs && !n->agents);
		unremember(n);
		node_free(n);
	}
	assert(!nnodes && !nseen && !newest);
}

static void
forget_keys(void)
{
	struct key *k;
	size_t i;

	for (i = 0; i < LEN(keys); i++)
		for (k = keys[i]; k; k = k->chain)
			assert(!k->parked && !k->clients && !k->refs);
	keys_settle(1);
}

static void
clean_up(void)
{
	static const int none[SOURCES + 1];
	struct conn *c;
	int i;

	no_fds = no_memory_in = 0;
	pinged = -1;
	/* where it was stopped in the middle */
	for (i = 0; i < nguests; i++) {
		take(&guests[i], LOG);
		leave(&guests[i]);
		if (guests[i].theirs >= 0)
			close(guests[i].theirs);
	}
	for (i = 0; i < nwatched;)
		if ((c = conn_of(i))) {
			drop(c, "the end");
			i = 0;
		} else
			i++;
	show();
	check();
	assert(!nconns && !nwaiting && !evictable.n && !live.n && !nlisten);
	assert(!askers.n && !nagents);
	assert(!memcmp(startups, none, sizeof none));
	for (i = 0; i < nguests; i++)
		check_guest(&guests[i], 0);
	forget_nodes();
	forget_keys();
	io_del(&housekeeping);
	io_del(&drained);
	io_del(&driver);
	nwatched = 0;
	for (i = 0; i < (int)LEN(limited); i++)
		limited[i].n = 0;
}

int LLVMFuzzerInitialize(int *, char ***);
int LLVMFuzzerTestOneInput(const uint8_t *, size_t);
const char *__asan_default_options(void);

const char *
__asan_default_options(void)
{
	return "quarantine_size_mb=1:max_malloc_fill_size=0:"
	    "malloc_context_size=4";
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	size_t i;

	(void)argc, (void)argv;
	setenv("JOURNAL_STREAM", "1", 1);	/* no time in messages */
	memcpy(born, &cfg, sizeof cfg);
	for (i = 0; i < LEN(secrets); i++) {
		strcpy(secrets[i].name, key_names[i]);
		memset(secrets[i].key, 'a' + i, MAC_LEN);
		b64_write(secrets[i].key, spelled[i]);
	}
	keys_file = tmpfile();
	proc_start();
	if (!keys_file || reactor_open() < 0)
		abort();
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	program = data;
	left = n;
	prepare(next_byte());
	io_again(&driver);
	assert(reactor_run() == 0);
	clean_up();
	return 0;
}

#ifdef __clang__
# pragma clang attribute pop
#endif

#ifdef REPLAY
int
main(int argc, char **argv)
{
	static uint8_t buf[4096];
	FILE *f;
	int i;

	setvbuf(stdout, NULL, _IONBF, 0);
	LLVMFuzzerInitialize(&argc, &argv);
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
