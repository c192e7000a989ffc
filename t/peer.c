/* peer.c - raw peers of mssh, for what sh cannot do
 *
 *	peer serve                      a service on 127.0.0.1; says its port
 *	peer stdio                      the same on standard input and output
 *	peer xfer ADDR NODE N [EVERY]   through a session: N bytes each way
 *	peer pipe N CMD...              the same through a command's stdio
 *	peer [-n TIMES] talk ADDR STEP...  a conversation; see steps[]
 *	peer -t SECONDS xfer...         any of these, ended by SIGALRM
 *	peer crowd ADDR COUNT KIND [NODE [HOSTS]]  many at once; see crowds[];
 *	                                HOSTS is from how many addresses
 *	peer pair ADDR NODE HOW         two parked connections; the first that
 *	                                is used fails (rst, fin or mute)
 *	peer park ADDR COUNT            COUNT agents that ping every 25 s
 *	peer restart ADDR COUNT         the same; each comes back when the
 *	                                server has said STOP, and says when
 *	peer bench TIMES PORT CMD...    time to a banner: direct and through CMD
 *	peer run CMD...                 in a process group of its own, whose
 *	                                signals are as they are for a person
 *	peer log FILE N TEXT SECONDS    prints the lines behind the first N that
 *	                                hold TEXT; waits for one so long
 *
 * ADDR is 127.0.0.1:PORT.  Every wait is bounded (PATIENCE); a failure is
 * one sentence on stderr and status 1.
 *
 * The service reads one line, then does what it says: echo; sink; late;
 * xfer N EVERY; urgent; rst; close; hold.  A stream of N bytes is a function
 * of the position, so both ends check every byte in place.  At each multiple
 * of EVERY one urgent byte lies between the others, the complement of the
 * byte behind it: a receiver passes over it if it is there, and misses
 * nothing if it is not.
 */
#define _POSIX_C_SOURCE 200809L
#include <sys/types.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LEN(a) (sizeof (a) / sizeof *(a))
#define NONCE "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define GUESS "PROOF mac=" NONCE "\n"

enum {
	CHUNK = 65536,
	PATIENCE = 120000,	/* ms without any progress */
	DIALING = 64,		/* connections a crowd opens at once */
	PARALLEL = 200		/* connections of crowd garbage */
};

static volatile sig_atomic_t stopped;

static void
die(const char *fmt, ...)
{
	va_list ap;

	fputs("peer: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	if (*fmt && fmt[strlen(fmt) - 1] == ':')
		fprintf(stderr, " %s", strerror(errno));
	fputc('\n', stderr);
	exit(1);
}

static int64_t
now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void
nap(int ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000L };

	nanosleep(&ts, NULL);
}

static void
on_term(int sig)
{
	(void)sig;
	stopped = 1;
}

static void
set_nonblock(int fd)
{
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static void
set_linger0(int fd)
{
	struct linger l = { 1, 0 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
}

/* No more output: half-close of a socket, close of a pipe. */
static void
finish(int fd)
{
	if (shutdown(fd, SHUT_WR) < 0 && errno == ENOTSOCK)
		close(fd);
}

/* 1 when fd is ready, 0 after ms */
static int
ready(int fd, short events, int ms)
{
	struct pollfd p = { fd, events, 0 };
	int n;

	do
		n = poll(&p, 1, ms);
	while (n < 0 && errno == EINTR && !stopped);
	return n > 0;
}

static struct sockaddr_in
addr_of(const char *s)
{
	struct sockaddr_in a;
	const char *c = strrchr(s, ':');
	char host[64];

	memset(&a, 0, sizeof a);
	a.sin_family = AF_INET;
	snprintf(host, sizeof host, "%.*s", (int)(c ? c - s : 0), s);
	if (!c || inet_pton(AF_INET, host, &a.sin_addr) != 1)
		die("%s is no ADDR:PORT", s);
	a.sin_port = htons((uint16_t)atoi(c + 1));
	return a;
}

/* From 127.0.(1 + host).1, if there is a host, and then it does not wait. */
static int
dial_from(const struct sockaddr_in *to, int host)
{
	struct sockaddr_in from;
	int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0)
		return -1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (host >= 0) {
		set_nonblock(fd);
		memset(&from, 0, sizeof from);
		from.sin_family = AF_INET;
		from.sin_addr.s_addr =
		    htonl(0x7f000101 + (uint32_t)host * 256);
		if (bind(fd, (struct sockaddr *)&from, sizeof from) < 0)
			die("bind:");
	}
	if (connect(fd, (const struct sockaddr *)to, sizeof *to) < 0 &&
	    errno != EINPROGRESS) {
		close(fd);
		return -1;
	}
	return fd;
}

static int
dial(const char *s)
{
	struct sockaddr_in a = addr_of(s);
	int fd = dial_from(&a, -1);

	if (fd < 0)
		die("connect %s:", s);
	return fd;
}

/* Blocking, as a whole. */
static int
put(int fd, const void *b, size_t n)
{
	const char *p = b;
	ssize_t r;

	for (; n; p += r, n -= (size_t)r)
		if ((r = write(fd, p, n)) < 0) {
			if (errno != EINTR && errno != EAGAIN)
				return -1;
			ready(fd, POLLOUT, 100);
			r = 0;
		}
	return 0;
}

static int
say(int fd, const char *s)
{
	return put(fd, s, strlen(s));
}

/* One byte, within PATIENCE: 1, 0 at the end, -1 with errno */
static int
get(int fd, char *c)
{
	ssize_t r;

	do {
		if (!ready(fd, POLLIN, PATIENCE)) {
			errno = ETIMEDOUT;
			return -1;
		}
		r = read(fd, c, 1);
	} while (r < 0 && (errno == EINTR || errno == EAGAIN));
	return (int)r;
}

/* A line without its end, byte by byte so that nothing behind it is taken.
 * -1 at the end of the stream. */
static int
get_line(int fd, char *b, size_t size)
{
	size_t n = 0;
	char c;

	while (get(fd, &c) == 1) {
		if (c == '\n') {
			b[n] = '\0';
			return (int)n;
		}
		if (n + 1 < size)
			b[n++] = c;
	}
	b[n] = '\0';
	return -1;
}

static void
print_escaped(FILE *f, const char *b, size_t n)
{
	for (; n; n--, b++)
		if (*b >= ' ' && *b <= '~' && *b != '\\')
			fputc(*b, f);
		else
			fprintf(f, "\\x%02x", (unsigned char)*b);
	fputc('\n', f);
}

/* ---- streams ---- */

/* The word at a position (splitmix64). */
static uint64_t
word_at(uint64_t i, uint64_t seed)
{
	uint64_t z = (i + seed + 1) * 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static void
fill(unsigned char *b, size_t n, uint64_t pos, uint64_t seed)
{
	uint64_t w;
	size_t k;

	while (n) {
		w = word_at(pos / 8, seed);
		if (pos % 8 == 0 && n >= 8) {
			memcpy(b, &w, k = 8);
		} else {
			k = 8 - pos % 8;
			if (k > n)
				k = n;
			memcpy(b, (unsigned char *)&w + pos % 8, k);
		}
		b += k;
		n -= k;
		pos += k;
	}
}

struct stream {
	int in, out;
	int service;			/* the far end: says ok at last */
	uint64_t n, every;
	uint64_t sent, got;
	uint64_t oob_sent, oob_got;	/* positions done */
	unsigned char chunk[CHUNK];	/* to be sent: off..len */
	size_t off, len;
	char tail[8];			/* what came behind the n bytes */
	size_t ntail;
	int eof, done;
};

/* How many bytes from pos on lie before the next urgent byte and the end. */
static size_t
run_from(const struct stream *s, uint64_t pos, size_t max)
{
	uint64_t n = s->n - pos;

	if (s->every && s->every - pos % s->every < n)
		n = s->every - pos % s->every;
	return n < max ? (size_t)n : max;
}

static int
is_urgent(const struct stream *s, uint64_t pos)
{
	return s->every && pos && pos < s->n && pos % s->every == 0;
}

/* Sends what fits.  Returns 0, or -1 with errno. */
static int
stream_send(struct stream *s)
{
	unsigned char c;
	ssize_t r;

	if (s->sent == s->n) {
		if (s->service && !s->eof)
			return 0;
		if (s->service && say(s->out, "ok\n") < 0)
			return -1;
		finish(s->out);
		s->done = 1;
		return 0;
	}
	if (is_urgent(s, s->sent) && s->oob_sent != s->sent) {
		fill(&c, 1, s->sent, (uint64_t)s->service);
		c = (unsigned char)~c;
		if (send(s->out, &c, 1, MSG_OOB) != 1)
			return errno == EAGAIN ? 0 : -1;
		s->oob_sent = s->sent;
	}
	if (s->off == s->len) {
		s->off = 0;
		s->len = run_from(s, s->sent, CHUNK);
		fill(s->chunk, s->len, s->sent, (uint64_t)s->service);
	}
	r = write(s->out, s->chunk + s->off, s->len - s->off);
	if (r < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	s->off += (size_t)r;
	s->sent += (size_t)r;
	return 0;
}

/* Checks n received bytes. */
static void
stream_check(struct stream *s, const unsigned char *b, size_t n)
{
	static unsigned char want[CHUNK];
	size_t k;

	while (n && s->got < s->n) {
		k = run_from(s, s->got, n);
		fill(want, k, s->got, (uint64_t)!s->service);
		if (is_urgent(s, s->got) && s->oob_got != s->got) {
			s->oob_got = s->got;
			if (*b == (unsigned char)~*want) {
				b++;
				n--;
				continue;
			}
		}
		if (memcmp(b, want, k)) {
			for (k = 0; b[k] == want[k]; k++)
				;
			die("%s: byte %llu of %llu is wrong",
			    s->service ? "service" : "client",
			    (unsigned long long)(s->got + k),
			    (unsigned long long)s->n);
		}
		s->got += k;
		b += k;
		n -= k;
	}
	for (; n; n--, b++)
		if (s->ntail < sizeof s->tail - 1)
			s->tail[s->ntail++] = (char)*b;
}

static int
stream_recv(struct stream *s)
{
	static unsigned char b[CHUNK];
	ssize_t r = read(s->in, b, sizeof b);

	if (r < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	if (!r)
		s->eof = 1;
	stream_check(s, b, (size_t)r);
	return 0;
}

/* Both ways at once, n bytes each.  The client ends its direction behind
 * them; the service then says ok.  So half-close has to travel, too. */
static void
stream_run(int in, int out, uint64_t n, uint64_t every, int service)
{
	static struct stream s;
	struct pollfd p[2];
	const char *who = service ? "service" : "client";

	memset(&s, 0, sizeof s);
	s.in = in;
	s.out = out;
	s.n = n;
	s.every = every;
	s.service = service;
	set_nonblock(in);
	set_nonblock(out);
	while (!s.eof || !s.done) {
		p[0].fd = s.eof ? -1 : in;
		p[0].events = POLLIN;
		p[1].fd = s.done || (service && s.sent == n && !s.eof) ? -1 :
		    out;
		p[1].events = POLLOUT;
		if (poll(p, 2, PATIENCE) == 0)
			die("%s: stalled at %llu sent, %llu received", who,
			    (unsigned long long)s.sent,
			    (unsigned long long)s.got);
		if (p[1].fd >= 0 && p[1].revents && stream_send(&s) < 0)
			die("%s: sent %llu:", who, (unsigned long long)s.sent);
		if (p[0].fd >= 0 && p[0].revents && stream_recv(&s) < 0)
			die("%s: received %llu:", who,
			    (unsigned long long)s.got);
	}
	if (s.got != n || strcmp(s.tail, service ? "" : "ok\n"))
		die("%s: %llu of %llu bytes, then \"%s\"", who,
		    (unsigned long long)s.got, (unsigned long long)n, s.tail);
}

/* ---- the service ---- */

static void
serve_copy(int in, int out, int echo)
{
	static char b[CHUNK];
	char sum[32];
	uint64_t n = 0;
	ssize_t r;

	while ((r = read(in, b, sizeof b)) > 0) {
		if (echo && put(out, b, (size_t)r) < 0)
			return;
		n += (uint64_t)r;
	}
	if (r < 0)
		return;
	snprintf(sum, sizeof sum, "%llu bytes\n", (unsigned long long)n);
	if (!echo)
		say(out, sum);
	finish(out);
}

/* Ends its own direction first, and tells the log what still came. */
static void
serve_late(int in, int out)
{
	char b[512];
	size_t n = 0;
	ssize_t r = 0;

	say(out, "bye\n");
	finish(out);
	while (n < sizeof b && (r = read(in, b + n, sizeof b - n)) > 0)
		n += (size_t)r;
	printf("late, then %s: ", r < 0 ? "a reset" : "the end");
	print_escaped(stdout, b, n);
	fflush(stdout);
}

static void
serve(int in, int out)
{
	unsigned long long n, every = 0;
	char line[128], c;

	if (get_line(in, line, sizeof line) < 0)
		return;
	if (!strcmp(line, "echo") || !strcmp(line, "sink"))
		serve_copy(in, out, *line == 'e');
	else if (!strcmp(line, "late"))
		serve_late(in, out);
	else if (sscanf(line, "xfer %llu %llu", &n, &every) == 2)
		stream_run(in, out, n, every, 1);
	else if (!strcmp(line, "urgent")) {
		say(out, "a");
		send(out, "!", 1, MSG_OOB);
		say(out, "b");
		while (read(in, &c, 1) > 0)
			;
	} else if (!strcmp(line, "rst"))
		set_linger0(out);
	else if (!strcmp(line, "hold"))
		while (read(in, &c, 1) > 0)
			;
}

static int
do_stdio(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	serve(0, 1);
	return 0;
}

static int
do_serve(int argc, char **argv)
{
	struct sockaddr_in a = addr_of("127.0.0.1:0");
	socklen_t len = sizeof a;
	int l = socket(AF_INET, SOCK_STREAM, 0), fd;

	(void)argc;
	(void)argv;
	if (l < 0 || bind(l, (struct sockaddr *)&a, sizeof a) < 0 ||
	    listen(l, 1024) < 0)
		die("listen:");
	getsockname(l, (struct sockaddr *)&a, &len);
	printf("listening on %d\n", ntohs(a.sin_port));
	fflush(stdout);
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		if ((fd = accept(l, NULL, NULL)) < 0)
			continue;
		switch (fork()) {
		case 0:
			close(l);
			serve(fd, fd);
			return 0;
		case -1:
			die("fork:");
		}
		close(fd);
	}
}

/* ---- clients ---- */

static int
do_xfer(int argc, char **argv)
{
	char line[256];
	int fd;

	if (argc < 3)
		die("xfer ADDR NODE N [EVERY]");
	fd = dial(argv[0]);
	snprintf(line, sizeof line, "MSSH/2 client %s\nxfer %s %s\n", argv[1],
	    argv[2], argc > 3 ? argv[3] : "0");
	say(fd, line);
	if (get_line(fd, line, sizeof line) < 0 || strncmp(line, "OK", 2))
		die("the server says: %s", line);
	stream_run(fd, fd, strtoull(argv[2], NULL, 10),
	    argc > 3 ? strtoull(argv[3], NULL, 10) : 0, 0);
	return 0;
}

/* Starts argv with pipes; returns its pid. */
static pid_t
spawn(char **argv, int *in, int *out)
{
	int to[2], from[2];
	pid_t pid = -1;

	if (pipe(to) < 0 || pipe(from) < 0 || (pid = fork()) < 0)
		die("fork:");
	if (!pid) {
		dup2(to[0], 0);
		dup2(from[1], 1);
		close(to[0]);
		close(to[1]);
		close(from[0]);
		close(from[1]);
		execvp(argv[0], argv);
		die("%s:", argv[0]);
	}
	close(to[0]);
	close(from[1]);
	*in = from[0];
	*out = to[1];
	return pid;
}

static int
do_pipe(int argc, char **argv)
{
	char line[64];
	int in, out, st;
	pid_t pid;

	if (argc < 2)
		die("pipe N CMD...");
	pid = spawn(argv + 1, &in, &out);
	snprintf(line, sizeof line, "xfer %s 0\n", argv[0]);
	say(out, line);
	stream_run(in, out, strtoull(argv[0], NULL, 10), 0, 0);
	if (waitpid(pid, &st, 0) != pid || !WIFEXITED(st))
		die("%s did not exit", argv[1]);
	if (WEXITSTATUS(st))
		die("%s: status %d", argv[1], WEXITSTATUS(st));
	return 0;
}

/* ---- talk ---- */

/* \n \r \\ and \xHH, in place; returns the length */
static size_t
unescape(char *s)
{
	char *o = s, *from = s, hex[3] = "";

	for (; *s; s++) {
		if (*s != '\\') {
			*o++ = *s;
		} else if (s[1] == 'x' && s[2] && s[3]) {
			memcpy(hex, s + 2, 2);
			*o++ = (char)strtol(hex, NULL, 16);
			s += 3;
		} else {
			s++;
			*o++ = *s == 'n' ? '\n' : *s == 'r' ? '\r' : *s;
		}
	}
	*o = '\0';
	return (size_t)(o - from);
}

static int
step_send(int fd, char *arg, size_t n)
{
	return put(fd, arg, n);
}

static int
step_drip(int fd, char *arg, size_t n)
{
	for (; n; n--, arg++) {
		if (put(fd, arg, 1) < 0)
			return -1;
		nap(5);
	}
	return 0;
}

static int
step_oob(int fd, char *arg, size_t n)
{
	return send(fd, arg, n, MSG_OOB) == (ssize_t)n ? 0 : -1;
}

/* the next bytes are exactly these */
static int
step_expect(int fd, char *arg, size_t n)
{
	char c, *s = arg;

	for (; n; n--, s++)
		if (get(fd, &c) != 1 || c != *s)
			return -1;
	return 0;
}

/* the next line begins like this */
static int
step_line(int fd, char *arg, size_t n)
{
	char line[1024];

	if (get_line(fd, line, sizeof line) >= 0 && !strncmp(line, arg, n))
		return 0;
	fputs("peer: got: ", stderr);
	print_escaped(stderr, line, strlen(line));
	return -1;
}

/* skip bytes up to and with these */
static int
step_until(int fd, char *arg, size_t n)
{
	char b[256], c;
	size_t have = 0;

	while (n && n < sizeof b && get(fd, &c) == 1) {
		if (have == n)
			memmove(b, b + 1, --have);
		b[have++] = c;
		if (have == n && !memcmp(b, arg, n))
			return 0;
	}
	return -1;
}

/* nothing more, and no error: the end of file */
static int
step_eof(int fd, char *arg, size_t n)
{
	char c;

	(void)arg;
	(void)n;
	return get(fd, &c) == 0 ? 0 : -1;
}

/* whatever comes, it ends: end of file or reset */
static int
step_gone(int fd, char *arg, size_t n)
{
	char c;
	int r;

	(void)arg;
	(void)n;
	while ((r = get(fd, &c)) == 1)
		;
	return r == 0 || errno == ECONNRESET || errno == EPIPE ? 0 : -1;
}

static int
step_reset(int fd, char *arg, size_t n)
{
	char c;
	int r;

	(void)arg;
	(void)n;
	while ((r = get(fd, &c)) == 1)
		;
	return r < 0 && errno == ECONNRESET ? 0 : -1;
}

/* nothing comes for so many ms */
static int
step_quiet(int fd, char *arg, size_t n)
{
	(void)n;
	return ready(fd, POLLIN, atoi(arg)) ? -1 : 0;
}

static int
step_wait(int fd, char *arg, size_t n)
{
	(void)fd;
	(void)n;
	nap(atoi(arg));
	return 0;
}

/* prints it, for whoever waits for this moment */
static int
step_tell(int fd, char *arg, size_t n)
{
	(void)fd;
	(void)n;
	puts(arg);
	return fflush(stdout);
}

static int
step_fin(int fd, char *arg, size_t n)
{
	(void)arg;
	(void)n;
	return shutdown(fd, SHUT_WR);
}

static int
step_rst(int fd, char *arg, size_t n)
{
	(void)arg;
	(void)n;
	set_linger0(fd);
	return 0;
}

/* prints the rest */
static int
step_print(int fd, char *arg, size_t n)
{
	char c;

	(void)arg;
	(void)n;
	while (get(fd, &c) == 1)
		putchar(c);
	fflush(stdout);
	return 0;
}

/* sends so many stream bytes / receives them */
static int
step_bytes(int fd, char *arg, size_t n)
{
	static unsigned char b[CHUNK];
	uint64_t pos = 0, all = strtoull(arg, NULL, 10);

	for (; pos < all; pos += n) {
		n = all - pos < CHUNK ? (size_t)(all - pos) : CHUNK;
		fill(b, n, pos, 5);
		if (put(fd, b, n) < 0)
			return -1;
	}
	return 0;
}

static int
step_same(int fd, char *arg, size_t n)
{
	static unsigned char b[CHUNK], want[CHUNK];
	uint64_t pos = 0, all = strtoull(arg, NULL, 10);
	ssize_t r;

	for (; pos < all; pos += (size_t)r) {
		n = all - pos < CHUNK ? (size_t)(all - pos) : CHUNK;
		if (!ready(fd, POLLIN, PATIENCE))
			break;
		if ((r = read(fd, b, n)) <= 0)
			break;
		fill(want, (size_t)r, pos, 5);
		if (memcmp(b, want, (size_t)r))
			break;
	}
	if (pos < all)
		fprintf(stderr, "peer: wrong after %llu of %s\n",
		    (unsigned long long)pos, arg);
	return pos < all ? -1 : 0;
}

/* up to so many bytes without a line end, until the peer has enough; says
 * how many it took */
static int
step_flood(int fd, char *arg, size_t n)
{
	static char b[CHUNK];
	uint64_t sent = 0, all = strtoull(arg, NULL, 10);
	int64_t until = now_us() + PATIENCE * 1000;
	ssize_t r = 0;

	(void)n;
	memset(b, 'A', sizeof b);
	set_nonblock(fd);
	while (sent < all && now_us() < until) {
		if (!ready(fd, POLLOUT, 100))
			continue;
		if ((r = write(fd, b, sizeof b)) < 0)
			break;
		sent += (uint64_t)r;
	}
	printf("%llu\n", (unsigned long long)sent);
	fflush(stdout);
	return r < 0 ? 0 : -1;
}

static const struct {
	const char *name;
	int (*fn)(int, char *, size_t);
} steps[] = {
	{ "send=", step_send }, { "drip=", step_drip }, { "oob=", step_oob },
	{ "bytes=", step_bytes }, { "same=", step_same },
	{ "expect=", step_expect }, { "line=", step_line },
	{ "until=", step_until }, { "quiet=", step_quiet },
	{ "wait=", step_wait }, { "tell=", step_tell },
	{ "flood=", step_flood }, { "eof", step_eof }, { "gone", step_gone },
	{ "reset", step_reset }, { "fin", step_fin }, { "rst", step_rst },
	{ "print", step_print },
};

static void
take_step(int fd, const char *what)
{
	char *s = strdup(what), *arg;
	size_t i, n;

	for (i = 0; i < LEN(steps); i++) {
		n = strlen(steps[i].name);
		if (strncmp(s, steps[i].name, n) ||
		    (steps[i].name[n - 1] != '=' && s[n]))
			continue;
		arg = s + n;
		n = unescape(arg);
		errno = 0;
		if (steps[i].fn(fd, arg, n) < 0)
			die("step %s:", what);
		free(s);
		return;
	}
	die("no such step: %s", what);
}

static int
do_talk(int argc, char **argv)
{
	int i, fd;

	if (argc < 2)
		die("talk ADDR STEP...");
	fd = dial(argv[0]);
	for (i = 1; i < argc; i++)
		take_step(fd, argv[i]);
	close(fd);
	return 0;
}

/* ---- crowds ---- */

struct one {
	int fd;
	int up;				/* connected */
	int64_t at;			/* when, us */
	int64_t next;			/* when to do something */
	char got[64];
	size_t n;
	int guessed;
};

struct crowd {
	struct sockaddr_in to;
	int count, refused, cut, wrong, resets;
	int64_t least, most;		/* us from connect to the end */
	char hello[160];
	const char *want;		/* how the answer begins */
	int forever;			/* come back after the end */
	int total;			/* connections there shall be */
	int begun;
	int drip, hang;			/* a byte a second; leave at once */
	int guess;			/* answers a challenge, wrongly */
	int stay;			/* does not read, and leaves after ms */
	int hosts;			/* addresses they come from, 0: one for
					 * each 200 in a row */
};

static void
crowd_dial(struct crowd *w, struct one *c)
{
	memset(c, 0, sizeof *c);
	c->fd = dial_from(&w->to, w->hosts ? w->begun % w->hosts :
	    w->begun % 10000 / 200);
	w->begun++;
	if (w->begun == 50 || w->begun == 100 || w->begun == 500) {
		printf("tried %d\n", w->begun);
		fflush(stdout);
	}
	if (c->fd < 0)
		w->refused++;
}

static void
crowd_up(struct crowd *w, struct one *c)
{
	c->up = 1;
	c->at = now_us();
	c->next = c->at + 1000000;
	if (*w->hello && write(c->fd, w->hello, strlen(w->hello)) < 0)
		w->resets++;
	if (w->hang) {
		if (w->begun % 3 == 0)
			set_linger0(c->fd);
		close(c->fd);
		c->fd = -1;
		w->cut++;
	}
}

static void
crowd_read(struct crowd *w, struct one *c)
{
	char b[512];
	ssize_t r = read(c->fd, b, sizeof b);
	size_t k;
	int64_t t;

	if (r < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (r > 0 && !w->stay) {
		k = sizeof c->got - 1 - c->n;
		if (k > (size_t)r)
			k = (size_t)r;
		memcpy(c->got + c->n, b, k);
		c->n += k;
		if (w->guess && !c->guessed++ &&
		    write(c->fd, GUESS, strlen(GUESS)) < 0)
			w->resets++;
		return;
	}
	t = now_us() - c->at;
	if (t > w->most)
		w->most = t;
	if (!w->least || t < w->least)
		w->least = t;
	w->resets += r < 0;
	if (w->want && strncmp(c->got, w->want, strlen(w->want)) &&
	    !w->wrong++) {
		fputs("peer: answer: ", stderr);
		print_escaped(stderr, c->got, c->n);
	}
	close(c->fd);
	c->fd = -1;
	w->cut++;
}

/* Keeps count connections open until total have ended.  Sweeps with poll. */
static void
crowd_run(struct crowd *w)
{
	struct one *c = calloc((size_t)w->count, sizeof *c);
	struct pollfd *p = calloc((size_t)w->count, sizeof *p);
	int64_t quiet = now_us(), said = 0;
	int i, dialing, open, most = w->stay ? 4 * DIALING : DIALING;

	for (i = 0; i < w->count; i++)
		c[i].fd = -1;
	while (!stopped) {
		for (i = dialing = open = 0; i < w->count; i++)
			dialing += c[i].fd >= 0 && !c[i].up;
		for (i = 0; i < w->count; i++) {
			if (c[i].fd < 0 && dialing < most &&
			    (w->forever || w->begun < w->total)) {
				crowd_dial(w, &c[i]);
				dialing++;
			}
			p[i].fd = c[i].fd;
			p[i].events = !c[i].up ? POLLOUT :
			    w->stay ? 0 : POLLIN;
			open += c[i].fd >= 0;
		}
		if (!open && !w->forever && w->begun >= w->total)
			break;
		/* those that came first may have been cut by now */
		if (!said && (w->hang ? w->cut > w->count : !dialing &&
		    (w->forever ? open == w->count : w->begun >= w->total))) {
			printf("all %d are connected\n", w->count);
			fflush(stdout);
			said = 1;
		}
		if (poll(p, (nfds_t)w->count, 100) > 0)
			quiet = now_us();
		else if (now_us() - quiet > PATIENCE * (int64_t)1000)
			die("%d are still connected", open);
		for (i = 0; i < w->count; i++) {
			if (c[i].fd < 0)
				continue;
			if (!c[i].up && p[i].revents)
				crowd_up(w, &c[i]);
			else if (w->stay ? now_us() - c[i].at >
			    w->stay * 1000 : p[i].revents)
				crowd_read(w, &c[i]);
			if (c[i].fd >= 0 && w->drip && c[i].up &&
			    now_us() >= c[i].next) {
				(void)!write(c[i].fd, "A", 1);
				c[i].next += 1000000;
			}
		}
		if (w->count > 1000)
			nap(20);
	}
	free(c);
	free(p);
}

static const struct {
	const char *name;
	const char *hello;
	const char *want;
	int forever, drip, hang, guess, stay;
} crowds[] = {
	{ "silent", "", NULL, 0, 0, 0, 0, 0 },
	{ "stay", "", NULL, 1, 0, 0, 0, 0 },
	{ "drip", "", NULL, 0, 1, 0, 0, 0 },
	{ "garbage", "\x01\xff\x80\x7f nonsense \x02", "ERROR syntax", 0, 0,
	    0, 0, 0 },
	{ "loop2", "MSSH/2 client %s\n", NULL, 1, 0, 1, 0, 0 },
	{ "loop1", "CLIENT %s\n", NULL, 1, 0, 1, 0, 0 },
	{ "hold2", "MSSH/2 client %s\n", NULL, 1, 0, 0, 0, 0 },
	{ "hold1", "CLIENT %s\n", NULL, 1, 0, 0, 0, 0 },
	{ "byte2", "MSSH/2 client %s\nS", NULL, 1, 0, 1, 0, 0 },
	{ "guess", "MSSH/2 client %s key=nobody nonce=" NONCE "\n", NULL, 1, 0,
	    0, 1, 0 },
	{ "mute", "MSSH/2 client %s key=nobody nonce=" NONCE "\n", NULL, 1, 0,
	    0, 0, 0 },
	{ "deaf", "GET /%s HTTP/1.0\r\n\r\n", NULL, 1, 0, 0, 0, 1500 },
	{ "flash", "", NULL, 1, 0, 1, 0, 0 },
};

static int
do_crowd(int argc, char **argv)
{
	static struct crowd w;
	struct rlimit lim;
	size_t i;

	if (argc < 3)
		die("crowd ADDR COUNT KIND [NODE [HOSTS]]");
	getrlimit(RLIMIT_NOFILE, &lim);
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
	w.to = addr_of(argv[0]);
	w.total = w.count = atoi(argv[1]);
	for (i = 0; i < LEN(crowds) && strcmp(argv[2], crowds[i].name); i++)
		;
	if (i == LEN(crowds))
		die("no such crowd: %s", argv[2]);
	snprintf(w.hello, sizeof w.hello, crowds[i].hello,
	    argc > 3 ? argv[3] : "");
	w.want = crowds[i].want;
	w.forever = crowds[i].forever;
	w.drip = crowds[i].drip;
	w.hang = crowds[i].hang;
	w.guess = crowds[i].guess;
	w.stay = crowds[i].stay;
	w.hosts = argc > 4 ? atoi(argv[4]) : 0;
	if (w.want && w.count > PARALLEL)
		w.count = PARALLEL;
	signal(SIGTERM, on_term);
	crowd_run(&w);
	printf("begun %d ended %d refused %d wrong %d resets %d "
	    "least %lld ms most %lld ms\n", w.begun, w.cut, w.refused,
	    w.wrong, w.resets, (long long)w.least / 1000,
	    (long long)w.most / 1000);
	return w.wrong != 0;
}

/* ---- agents ---- */

static int
park(const char *to, const char *node, int slot)
{
	char line[256];
	int fd = dial(to);

	snprintf(line, sizeof line, "MSSH/2 agent %s run=abc slot=%d\n", node,
	    slot);
	say(fd, line);
	if (get_line(fd, line, sizeof line) < 0 || strncmp(line, "OK", 2))
		die("the server says: %s", line);
	return fd;
}

/* Which of the two gets GO?  PING is answered meanwhile. */
static int
await_go(const int fd[2])
{
	struct pollfd p[2];
	char line[512];
	int i;

	for (;;) {
		p[0].fd = fd[0];
		p[1].fd = fd[1];
		p[0].events = p[1].events = POLLIN;
		if (poll(p, 2, PATIENCE) <= 0)
			die("no GO came");
		for (i = 0; i < 2; i++) {
			if (fd[i] < 0 || !p[i].revents)
				continue;
			if (get_line(fd[i], line, sizeof line) < 0)
				die("a parked connection was dropped");
			if (!strncmp(line, "GO ", 3))
				return i;
			if (!strcmp(line, "PING"))
				say(fd[i], "PONG\n");
		}
	}
}

static int
do_pair(int argc, char **argv)
{
	int fd[2], i, dead;

	if (argc < 3)
		die("pair ADDR NODE rst|fin|mute");
	fd[0] = park(argv[0], argv[1], 0);
	fd[1] = park(argv[0], argv[1], 1);
	printf("parked\n");
	fflush(stdout);
	i = await_go(fd);
	dead = fd[i];
	fd[i] = -1;
	if (!strcmp(argv[2], "rst"))
		set_linger0(dead);
	if (strcmp(argv[2], "mute"))
		close(dead);
	i = await_go(fd);
	say(fd[i], "READY\n");
	serve(fd[i], fd[i]);
	return 0;
}

/* Everyone in turn: takes what came, sends PING.  25 s for a round. */
static int
do_park(int argc, char **argv)
{
	struct sockaddr_in to;
	struct rlimit lim;
	char b[256];
	int i, n, *fd, lost = 0, mute = 0;
	ssize_t r;
	int64_t at, start;

	if (argc < 2)
		die("park ADDR COUNT");
	getrlimit(RLIMIT_NOFILE, &lim);
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
	to = addr_of(argv[0]);
	n = atoi(argv[1]);
	fd = calloc((size_t)n, sizeof *fd);
	for (i = 0; i < n; i++) {
		if ((fd[i] = dial_from(&to, i / 200)) < 0 ||
		    !ready(fd[i], POLLOUT, PATIENCE))
			die("connect:");
		snprintf(b, sizeof b, "MSSH/2 agent node-%05d run=%x slot=0\n",
		    i, i + 1);
		say(fd[i], b);
		if (get_line(fd[i], b, sizeof b) < 0 || strncmp(b, "OK", 2))
			die("agent %d: %s", i, b);
	}
	printf("parked %d\n", n);
	fflush(stdout);
	signal(SIGTERM, on_term);
	start = now_us();
	for (i = 0; !stopped; i++) {
		at = start + (int64_t)i * 25000000 / n;
		if (at > now_us())
			nap((int)((at - now_us()) / 1000));
		r = read(fd[i % n], b, sizeof b);
		if (r == 0 || (r < 0 && errno != EAGAIN))
			lost++;
		else if (i >= n && (r < 5 || memcmp(b, "PONG\n", 5)))
			mute++;
		say(fd[i % n], "PING\n");
	}
	printf("pings %d lost %d unanswered %d\n", i, lost, mute);
	free(fd);
	return lost || mute;
}

/* ---- agents of a server that is started anew ---- */

enum { BUCKETS = 120 };			/* of 250 ms */

struct back {
	int64_t *at;			/* us: it dials then; 0: it is parked */
	struct pollfd *p;
	struct sockaddr_in to;
	int n, left, refused, silent, tries[BUCKETS];
	int64_t stop;			/* the first STOP came */
};

/* Agent i lost its connection: by STOP, in ms, or without a word. */
static void
back_later(struct back *b, int i, const char *line)
{
	const char *in = strstr(line, "STOP in=");
	int ms = in ? atoi(in + 8) : 500 + rand() % 500;

	if (!b->stop)
		b->stop = now_us();
	b->silent += !in;
	b->at[i] = now_us() + ms * 1000LL;
	close(b->p[i].fd);
	b->p[i].fd = -1;
}

static void
back_dial(struct back *b, int i)
{
	int64_t k = (now_us() - b->stop) / 250000;
	char line[80];

	b->tries[k < BUCKETS ? k : BUCKETS - 1]++;
	b->p[i].fd = dial_from(&b->to, i / 200);
	snprintf(line, sizeof line, "MSSH/2 agent node-%05d run=%x slot=0\n",
	    i, i + 1);
	if (b->p[i].fd < 0 || !ready(b->p[i].fd, POLLOUT, PATIENCE) ||
	    send(b->p[i].fd, line, strlen(line), MSG_NOSIGNAL) < 0) {
		b->refused++;
		close(b->p[i].fd);
		b->p[i].fd = -1;
		b->at[i] = now_us() + (500 + rand() % 500) * 1000LL;
	} else
		b->at[i] = -1;		/* OK is to come */
}

static void
back_event(struct back *b, int i)
{
	char line[512];
	ssize_t r = recv(b->p[i].fd, line, sizeof line - 1, MSG_DONTWAIT);

	if (r < 0 && errno == EAGAIN)
		return;
	line[r > 0 ? r : 0] = '\0';
	if (b->at[i] == -1 && r > 2 && !memcmp(line, "OK", 2)) {
		b->at[i] = 0;
		b->left--;
	} else if (strstr(line, "STOP in=") || r <= 0) {
		b->left += !b->at[i];
		back_later(b, i, line);
	}
}

static int
do_restart(int argc, char **argv)
{
	struct back b = { .stop = 0 };
	struct rlimit lim;
	int i, k, peak = 0, sum;

	if (argc < 2)
		die("restart ADDR COUNT");
	getrlimit(RLIMIT_NOFILE, &lim);
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
	b.to = addr_of(argv[0]);
	b.n = b.left = atoi(argv[1]);
	b.at = calloc((size_t)b.n, sizeof *b.at);
	b.p = calloc((size_t)b.n, sizeof *b.p);
	for (i = 0; i < b.n; i++) {
		b.p[i].fd = -1;
		b.p[i].events = POLLIN;
		back_dial(&b, i);
	}
	signal(SIGTERM, on_term);
	memset(b.tries, 0, sizeof b.tries);
	b.refused = 0;
	for (k = 0; k < 2; k++) {	/* parked, and parked anew */
		while (!stopped && (b.left || (k && !b.stop))) {
			if (poll(b.p, (nfds_t)b.n, 2) > 0)
				for (i = 0; i < b.n; i++)
					if (b.p[i].revents)
						back_event(&b, i);
			for (i = 0; i < b.n; i++)
				if (b.at[i] > 0 && b.at[i] <= now_us())
					back_dial(&b, i);
		}
		printf("%s %d\n", k ? "back" : "parked", b.n - b.left);
		fflush(stdout);
	}
	for (k = 0; k + 4 <= BUCKETS; k++) {
		for (sum = 0, i = 0; i < 4; i++)
			sum += b.tries[k + i];
		if (sum > peak)
			peak = sum;
	}
	printf("all were back after %lld ms, at most %d connects a second, %d "
	    "refused, %d without STOP\n", (long long)(now_us() - b.stop) /
	    1000, peak, b.refused, b.silent);
	free(b.at);
	free(b.p);
	return b.left != 0;
}

/* ---- time ---- */

static int
by_value(const void *a, const void *b)
{
	const int64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* A client that speaks first, as ssh does, until the banner is whole. */
static int64_t
banner(int in, int out, int64_t t)
{
	char line[512];

	say(out, "SSH-2.0-bench\r\n");
	if (get_line(in, line, sizeof line) < 0 || strncmp(line, "SSH-", 4))
		die("no banner: %s", line);
	t = now_us() - t;
	close(in);
	if (in != out)
		close(out);
	return t;
}

static int
do_bench(int argc, char **argv)
{
	int64_t *a, *b, t;
	char addr[32];
	int i, n = argc ? atoi(argv[0]) : 0, in, out;
	pid_t pid;

	if (argc < 3 || n < 1)
		die("bench TIMES PORT CMD...");
	snprintf(addr, sizeof addr, "127.0.0.1:%s", argv[1]);
	a = calloc((size_t)n, sizeof *a);
	b = calloc((size_t)n, sizeof *b);
	for (i = 0; i < n; i++) {
		t = now_us();
		in = dial(addr);
		a[i] = banner(in, in, t);
		nap(50);
		t = now_us();
		pid = spawn(argv + 2, &in, &out);
		b[i] = banner(in, out, t);
		waitpid(pid, NULL, 0);
		nap(50);
	}
	qsort(a, (size_t)n, sizeof *a, by_value);
	qsort(b, (size_t)n, sizeof *b, by_value);
	printf("direct %lld us, proxy %lld us, ratio %.2f\n",
	    (long long)a[n / 2], (long long)b[n / 2],
	    (double)b[n / 2] / (double)a[n / 2]);
	free(a);
	free(b);
	return 0;
}

/* ---- what sh needs all the time ---- */

static int
do_run(int argc, char **argv)
{
	if (argc < 1)
		die("run CMD...");
	setpgid(0, 0);
	signal(SIGHUP, SIG_DFL);	/* nohup(1) may run the tests */
	signal(SIGINT, SIG_DFL);
	signal(SIGQUIT, SIG_DFL);
	signal(SIGPIPE, SIG_DFL);
	execvp(*argv, argv);
	die("%s:", *argv);
	return 1;
}

/* Prints what matches, and says how much did. */
static int
matches(const char *file, long skip, const char *text)
{
	FILE *f = fopen(file, "r");
	char *line = NULL;
	size_t size = 0;
	int found = 0;

	if (!f)
		return 0;
	while (getline(&line, &size, f) > 0)
		if (skip-- <= 0 && strstr(line, text)) {
			fputs(line, stdout);
			found++;
		}
	free(line);
	fclose(f);
	return found;
}

static int
do_log(int argc, char **argv)
{
	int64_t until;
	struct stat st;
	off_t size = -1;

	if (argc < 4)
		die("log FILE N TEXT SECONDS");
	until = now_us() + atoi(argv[3]) * (int64_t)1000000;
	for (;;) {
		if (!stat(argv[0], &st) && st.st_size != size) {
			size = st.st_size;
			if (matches(argv[0], atol(argv[1]), argv[2]))
				return 0;
		}
		if (now_us() >= until)
			return 1;
		nap(5);
	}
}

static const struct {
	const char *name;
	int (*fn)(int, char **);
} commands[] = {
	{ "serve", do_serve }, { "stdio", do_stdio }, { "xfer", do_xfer },
	{ "pipe", do_pipe }, { "talk", do_talk }, { "crowd", do_crowd },
	{ "pair", do_pair }, { "park", do_park },
	{ "restart", do_restart }, { "bench", do_bench },
	{ "run", do_run }, { "log", do_log },
};

int
main(int argc, char **argv)
{
	int times = 1, r = 0;
	size_t i;

	signal(SIGPIPE, SIG_IGN);
	if (argc > 3 && !strcmp(argv[1], "-t")) {
		alarm((unsigned)atoi(argv[2]));
		argc -= 2;
		argv += 2;
	}
	if (argc > 3 && !strcmp(argv[1], "-n")) {
		times = atoi(argv[2]);
		argc -= 2;
		argv += 2;
	}
	if (argc < 2)
		die("which command?");
	for (i = 0; i < LEN(commands); i++)
		if (!strcmp(argv[1], commands[i].name)) {
			while (times-- > 0 && !r)
				r = commands[i].fn(argc - 2, argv + 2);
			return r;
		}
	die("no such command: %s", argv[1]);
	return 1;
}
