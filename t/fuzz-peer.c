/* fuzz-peer.c - an agent or a client, and all that it talks to, as the input
 * says
 *
 *	for f in calloc clock_gettime free getentropy malloc poll; do
 *		set -- "$@" -D$f=fuzz_$f; done
 *	clang -g -O1 -fsanitize=fuzzer,address,undefined -DNO_SANDBOX \
 *	    -DNO_SPLICE "$@" -o fuzz t/fuzz-peer.c reactor.c
 *	./fuzz -max_total_time=30 -max_len=80 t/corpus-peer
 *
 * An input is a program.  Its first two bytes say who is started and how; then
 * come steps of two bytes: what is done, and by which of the far ends or with
 * which of the variants.  A far end is the other end of a socket pair: of what
 * our side takes for the server, a proxy, openssl's plain side and what openssl
 * says, or sshd.  All of them may be hostile.  No process is made: fork(2) is
 * ours, and what the child would do is a far end as well, such as the dialler,
 * which answers with any descriptors and records.
 *
 * The agent runs in the real loop, and a watcher of ours takes the steps, one a
 * turn.  The client, and who lists or pings, is sequential code, which waits in
 * poll(2) alone: that is ours, and takes the next step when nothing is ready.
 * The clock stands still but for the steps that move it, and where no step is
 * left.
 *
 * What is checked all the time: a server gets no byte of the user's before the
 * hello was said, and where we have a key no such byte, and no proof of ours,
 * before it has proved that it knows the key; nor is its refusal told.  The
 * agent's counters agree with its connections, and each session was called for.
 * No message has a byte that is not printable ASCII, nor has a line that is
 * printed; with --json each is one object.  In the end all bytes are
 * where they belong, and no memory and no descriptor is left.
 *
 * It is built without splice(2), which fuzz-server.c has: pipes that are kept
 * for later would look like leaks.  Built with -DREPLAY it runs the files that
 * it is given.
 */
#define _XOPEN_SOURCE 700

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <netinet/in.h>

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../reactor.h"

enum {
	FARS = 24,			/* far ends of one input */
	LOG = 1 << 15,			/* bytes from and to one */
	WATCHED = 64,
	BLOCKS = 8192,			/* of memory */
	FDS = 128,
	KIDS = 8,
	POLLS = 4000,			/* a client that asks more spins */
	END_TURNS = 400
};

enum kind { NET, PLAIN, TALK, SSHD, KEEPER, SIDE };

static struct far {
	enum kind kind;
	int fd;				/* -1: closed */
	int under_way;			/* not connected yet */
	int error;			/* or never */
	int shut, stalled, dead;
	int up;				/* TALK: TLS is up */
	int proves;			/* what is held back would prove it */
	int proved;			/* that it knows our key */
	int ok;				/* the dialler heard so */
	int reset;			/* bytes may be lost */
	int cut;			/* in the middle of a session */
	ino_t ino;			/* of the socket on our side */
	int has;			/* KEEPER: a connection of its, or -1 */
	int given;			/* KEEPER: so many were */
	long seq;			/* KEEPER: of the newest */
	struct far *of;			/* SSHD: whose session; SIDE: of which
					 * it is the network's own socket */
	size_t nsent, ngot, nheld;
	size_t seen;			/* of got: put_answer() */
	unsigned char sent[LOG], got[LOG];
	char held[512];			/* the second half of a message */
} fars[FARS], *of_fd[FDS];

static struct {				/* who runs mssh proxy, or the loop */
	int in, out;			/* to its stdin, from its stdout */
	int stalled;
	size_t nsent, ngot;
	unsigned char got[LOG];
} user;

static int nfars;
static int64_t now_ms = 1000000;
static unsigned char nonces;
static int no_memory_in;		/* calls, 0: there is always some */
static int next_dial, no_process, bad_lookup, no_self;
static int is_agent, is_client, addresses, ending, npolls;
static int asks, terminal;			/* lists or pings; for people */
static FILE *printed;			/* their standard output */
static void *blocks[BLOCKS];
static struct io *watched[WATCHED];
static int nwatched, nadded, peak;
static int pairs[2][2], npairs;
static struct far *helper;		/* the dialler's side */
static size_t taken;			/* bytes of its records */
static struct { int fd, status, gone; } kids[KIDS];
static int nkids;
static jmp_buf at_exit;
static int exit_code;

/* the operating system, as our side sees it */

#undef calloc
#undef free
#undef malloc
#undef poll
void *calloc(size_t, size_t);
void *malloc(size_t);
void free(void *);
int poll(struct pollfd *, nfds_t, int);
int fuzz_clock_gettime(clockid_t, struct timespec *);
int fuzz_getentropy(void *, size_t);
void *fuzz_calloc(size_t, size_t);
void *fuzz_malloc(size_t);
void fuzz_free(void *);
int fuzz_poll(struct pollfd *, nfds_t, int);

int
fuzz_clock_gettime(clockid_t id, struct timespec *ts)
{
	(void)id;
	ts->tv_sec = now_ms / 1000;
	ts->tv_nsec = now_ms % 1000 * 1000000;
	return 0;
}

int
fuzz_getentropy(void *p, size_t n)
{
	memset(p, ++nonces, n);
	return 0;
}

static int
memory_fails(void)
{
	if (!no_memory_in || --no_memory_in)
		return 0;
	errno = ENOMEM;
	return 1;
}

static void *
note_block(void *p)
{
	int i;

	for (i = 0; blocks[i]; i++)
		assert(i < BLOCKS - 1);
	return blocks[i] = p;
}

void *
fuzz_calloc(size_t n, size_t size)
{
	return memory_fails() ? NULL : note_block(calloc(n, size));
}

void *
fuzz_malloc(size_t n)
{
	return memory_fails() ? NULL : note_block(malloc(n));
}

static char *
seen_strdup(const char *s)
{
	return memory_fails() ? NULL : note_block(strdup(s));
}

void
fuzz_free(void *p)
{
	int i;

	for (i = 0; p && blocks[i] != p; i++)
		assert(i < BLOCKS - 1);
	if (p)
		blocks[i] = NULL;
	free(p);
}

static void *
seen_realloc(void *p, size_t n)
{
	int i;

	if (memory_fails())
		return NULL;
	for (i = 0; p && blocks[i] != p; i++)
		assert(i < BLOCKS - 1);
	if (p)
		blocks[i] = NULL;
	return note_block(realloc(p, n));
}

/* An end for a socket whose other end is ours.  NULL: enough have been. */
static struct far *
far_new(enum kind kind, int fd, int ours)
{
	struct far *f = &fars[nfars];
	struct stat st;

	if (nfars == FARS)
		return NULL;
	nfars++;
	memset(f, 0, offsetof(struct far, sent));
	f->kind = kind;
	f->fd = fd;
	f->has = -1;
	assert(fstat(ours, &st) == 0 && ours < FDS);
	f->ino = st.st_ino;
	net_blocking(fd, 0);
	return f;
}

/* What we send soon waits for who does not read. */
static void
fill_soon(int fd)
{
	int size = 4096;

	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

/* A socket of ours that leads to a new far end; -1: no more. */
static int
lead(enum kind kind, struct far **f)
{
	int s[2];

	assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s) == 0);
	fill_soon(s[1]);
	if ((*f = far_new(kind, s[0], s[1]))) {
		of_fd[s[1]] = *f;
		return s[1];
	}
	close(s[0]);
	close(s[1]);
	errno = EMFILE;
	return -1;
}

static int
seen_dial(const void *sa, uint32_t alias)
{
	struct far *f;
	int how = next_dial, fd;

	(void)sa, (void)alias;
	next_dial = 0;
	errno = how == 3 ? EMFILE : ECONNREFUSED;
	if (how >= 2 || ending || (fd = lead(NET, &f)) < 0)
		return -1;
	f->under_way = how;
	return fd;
}

static int
seen_error(int fd)
{
	int e = of_fd[fd] ? of_fd[fd]->error : 0;

	if (!e)
		return net_error(fd);
	of_fd[fd]->error = 0;
	return e;
}

/* Whose other end is fd? */
static struct far *
far_at(int fd)
{
	struct stat st;
	int i;

	for (i = 0; fstat(fd, &st) == 0 && i < nfars; i++)
		if (fars[i].ino == st.st_ino)
			return fars[i].kind == SIDE ? fars[i].of : &fars[i];
	return NULL;
}

static unsigned
seen_silent(int fd)
{
	const struct far *f = far_at(fd);

	return f && f->dead ? 6000 : 0;
}

/* Names are letters, addresses are not. */
static int
seen_lookup(const char *host, const char *port, int family, int numeric,
    struct sockaddr_storage *to, int max, const char **why)
{
	struct sockaddr_in s4 = { .sin_family = AF_INET };
	struct sockaddr_in6 s6 = { .sin6_family = AF_INET6 };
	int i, n = numeric ? 1 : addresses;

	(void)port;
	*why = "no such host";
	errno = addresses == 0 ? EAGAIN : 0;
	if ((numeric && (*host < '0' || *host > '9')) || n > max)
		return 0;
	s4.sin_port = s6.sin6_port = htons(80);
	s6.sin6_addr.s6_addr[0] = 0x20;
	for (i = 0; i < n; i++) {
		s4.sin_addr.s_addr = htonl(0x0a000001 + i);
		s6.sin6_addr.s6_addr[15] = i;
		if (i == 1 && !family)
			memcpy(&to[i], &s6, sizeof s6);
		else
			memcpy(&to[i], &s4, sizeof s4);
	}
	return n;
}

static int
seen_self(int fd, const struct sockaddr_storage *to, int n,
    char name[INET_ADDRSTRLEN])
{
	(void)fd, (void)to, (void)n;
	return no_self ? -1 : (memcpy(name, "192.0.2.9", 10), 0);
}

static int
seen_hostname(char *b, size_t n)
{
	snprintf(b, n, "a host!");
	return 0;
}

static int
seen_socketpair(int family, int type, int protocol, int s[2])
{
	int r = socketpair(family, type, protocol, s);

	assert(r == 0 && s[0] < FDS && s[1] < FDS);
	of_fd[s[0]] = of_fd[s[1]] = NULL;
	if (!is_agent)
		fill_soon(s[0]);
	memcpy(pairs[npairs++ & 1], s, sizeof *pairs);
	return r;
}

static int fuzz_fork(void);

static int
seen_waitpid(int pid, int *st, int flags)
{
	int i;

	(void)pid;
	for (i = 0; flags && i < nkids; i++)
		if (kids[i].gone == 1) {
			kids[i].gone = 2;
			*st = kids[i].status;
			return 1000 + i;
		}
	errno = ECHILD;
	return -1;
}

static int
seen_spawn(const char *cmd, int fd, const char *first)
{
	(void)cmd;
	net_blocking(fd, 1);
	if (no_process || nkids == KIDS) {
		errno = EAGAIN;
		return -1;
	}
	kids[nkids].gone = 0;
	kids[nkids].fd = dup(fd);
	(void)!send(fd, first, strlen(first), MSG_NOSIGNAL | MSG_DONTWAIT);
	return 1000 + nkids++;
}

static int
seen_private(struct sockaddr_un *sa)
{
	(void)sa;
	return no_process == 2 ? -1 : dup(2);
}

static ssize_t
seen_recv_fds(int sock, void *b, size_t len, int *fds, int *n)
{
	ssize_t r = net_recv_fds(sock, b, len, fds, n);

	taken += r > 0 ? r : 0;
	return r;
}

static void check_message(const char *b, size_t n);

static ssize_t
seen_write(int fd, const void *b, size_t n)
{
	if (fd != 2)
		return write(fd, b, n);
	check_message(b, n);
	return n;
}

static void
seen_stdio(struct io *in, struct io *to_out)
{
	(void)in, (void)to_out;
	net_blocking(0, 0);
	net_blocking(1, 0);
}

static void
(*seen_signal(int sig, void (*fn)(int)))(int)
{
	(void)sig, (void)fn;
	return SIG_IGN;
}

static int
seen_confine(int dialler, const char *dir, const char **what)
{
	(void)dialler, (void)dir, (void)what;
	return -1;
}

static void *
seen_shared(size_t n)
{
	static uint32_t shared[128];

	assert(n <= sizeof shared);
	memset(shared, 0, sizeof shared);
	return shared;
}

static void
seen_exit(int code)
{
	exit_code = code;
	longjmp(at_exit, 1);
}

/* Where there is a place among the deadlines, only a descriptor can fail. */
static int
seen_add(struct io *io, int fd, void (*fn)(struct io *))
{
	int r;

	if ((fd >= 0 || nadded == peak) && memory_fails()) {
		errno = ENOMEM;
		return -1;
	}
	if ((r = io_add(io, fd, fn)) < 0)
		return r;
	assert(nwatched < WATCHED && fd < FDS);
	watched[nwatched++] = io;
	nadded++;
	peak = nadded > peak ? nadded : peak;
	if (fd >= 0)
		of_fd[fd] = far_at(fd);
	return 0;
}

static void
seen_del(struct io *io)
{
	int i;

	for (i = 0; i < nwatched; i++)
		if (watched[i] == io) {
			watched[i] = watched[--nwatched];
			nadded--;
			break;
		}
	io_del(io);
}

static void
seen_close(struct io *io)
{
	seen_del(io);
	io_close(io);
}

#define calloc fuzz_calloc
#define free fuzz_free
#define malloc fuzz_malloc
#define poll fuzz_poll
#define realloc seen_realloc
#define strdup seen_strdup
#define isatty(fd) ((void)(fd), terminal)
#define fork fuzz_fork
#define socketpair seen_socketpair
#define waitpid seen_waitpid
#define write seen_write
#define exit seen_exit
#define _exit seen_exit
#define gethostname seen_hostname
#define alarm(s) ((void)(s))
#define atexit(fn) ((void)(fn))
#define signal seen_signal
#define proc_null(fd) ((void)(dup2(null, (fd) == 2 ? null : (fd))))
#define sys_shared seen_shared
#define proc_raise() 1024
#define proc_spawn seen_spawn
#define proc_stdio seen_stdio
#define proc_confine seen_confine
#define reactor_signal(sig, fn) ((void)(fn))
#define io_add seen_add
#define io_del seen_del
#define io_close seen_close
#define net_dial seen_dial
#define net_error seen_error
#define net_silent seen_silent
#define net_lookup seen_lookup
#define net_self seen_self
#define net_watch() link_watch()
#define net_listen_private seen_private
#define net_unlisten_private(sa) ((void)(sa))
#define net_recv_fds seen_recv_fds
static int link_watch(void);
static int null;
int mssh_main(int, char *[]);
#define main mssh_main
#include "../mssh.c"
#undef main
#undef calloc
#undef free
#undef malloc
#undef poll
#undef realloc
#undef strdup
#undef fork
#undef socketpair
#undef waitpid
#undef write
#undef exit
#undef _exit
#undef signal
#undef io_add
#undef io_del
#undef io_close
#undef net_recv_fds

/* What is below finds nothing new by being followed. */
#ifdef __clang__
# pragma clang attribute push (__attribute__((no_sanitize("coverage"))), \
    apply_to = function)
#endif

static unsigned char born[sizeof cfg];	/* cfg before any option */
static int changes = -1;		/* the other end of watch */
static struct io driver;
static struct secret key_ours, key_other;

static struct {				/* what the dialler was asked for */
	struct order q;
	struct far *of;			/* by which connection, or NULL */
} orders[FARS];
static int norders;
static int64_t look_under_way;		/* since then or later, or 0 */
static int look_twice;			/* there were two: the end of one is
					 * taken for that of the other */
static int64_t turn_at[2];		/* the last turn's, this one's */
static int calm;			/* turns, at the end */

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

/* far ends */

/* The user's and each far end's bytes: none is ASCII, and the nth of one is
 * always the same. */
static unsigned char
nth_byte(size_t n)
{
	return 0x80 | (n * 7 >> 3 & 0x7f);
}

static void
leave(struct far *f)
{
	if (f->fd >= 0)
		close(f->fd);
	if (f->has >= 0)
		close(f->has);
	f->fd = f->has = -1;
}

static void
put(struct far *f, const void *b, size_t n)
{
	ssize_t r;

	if (!n || f->fd < 0 || f->shut || f->under_way || n > LOG - f->nsent ||
	    (r = send(f->fd, b, n, MSG_NOSIGNAL)) <= 0)
		return;
	memcpy(f->sent + f->nsent, b, r);
	f->nsent += r;
}

static void
put_rest(struct far *f)
{
	size_t was = f->nsent;

	put(f, f->held, f->nheld);
	f->proved |= f->proves && f->nsent - was == f->nheld;
	f->nheld = f->proves = 0;
}

static const char *const closes[] = { "ERROR gone x", "ERROR busy x",
    "what\x1b[2J", "" };

/* The second half is sent when the far end does something again. */
static void
put_two(struct far *f, const char *b, size_t n, int in_two)
{
	size_t k = in_two ? n / 2 : n;

	put_rest(f);
	put(f, b, k);
	assert(n - k <= sizeof f->held);
	memcpy(f->held, b + k, n - k);
	f->nheld = n - k;
}

static void
put_line(struct far *f, const char *line, int in_two)
{
	put_two(f, line, strlen(line), in_two);
}

static void
put_payload(struct far *f, unsigned how)
{
	static const int sizes[] = { 1, 2, 40, 700, 4095, 4097, 9000, 14000 };
	static unsigned char b[14000];
	int i, n = sizes[how % LEN(sizes)];

	put_rest(f);
	for (i = 0; i < n; i++)
		b[i] = nth_byte(f->nsent + i);
	put(f, b, n);
}

/* A frame, of which the payload is what comes next of the session's bytes; what
 * it says of those that came may be a lie. */
static void
put_frame(struct far *f, unsigned how)
{
	static const int sizes[] = { 0, 1, 40, 5000 };
	static unsigned char b[FRAME_HEAD + 5000];
	struct frame fr = { F_DATA, sizes[how >> 2 & 3], 0 };
	unsigned said = how >> 4 & 3;
	size_t i, n = fr.len;

	put_rest(f);
	fr.type = how & 3;
	if (fr.type != F_DATA && !(how & 128))
		fr.len = n = 0;
	if (fr.type == F_CLOSE)
		fr.len = n = how & 128 ? 301 : strlen(closes[said]);
	fr.received = said == 0 ? session.log.acked : said == 1 ?
	    session.log.tail + (session.in_end && session.end_sent) :
	    said == 2 ? session.log.sent : session.log.tail + 2;
	frame_write(b, &fr);
	for (i = 0; i < n; i++)
		b[FRAME_HEAD + i] = nth_byte(session.received + i);
	if (fr.type == F_CLOSE && !(how & 128))
		memcpy(b + FRAME_HEAD, closes[said], n);
	put_two(f, (char *)b, FRAME_HEAD + (n > 400 ? 0 : n), how & 64);
	if (n > 400)
		put(f, b + FRAME_HEAD, n);
}

static void
put_raw(struct far *f)
{
	char b[64];
	size_t i, n = next_byte() % sizeof b;

	for (i = 0; i < n; i++)
		if ((b[i] = next_byte()) == '~')
			b[i] = '-';
	put_rest(f);
	put(f, b, n);
}

/* The hello that has come, and where it ends. */
static int
hello_of(const struct far *f, struct hello *h, size_t *end)
{
	const char *b = (const char *)f->got, *why;
	char line[LINE_LEN];
	size_t i;
	int r;

	for (i = 0; i + 7 < f->ngot; i++) {
		if (memcmp(b + i, "MSSH/2 ", 7))
			continue;
		if ((r = line_take(b + i, f->ngot - i, line)) <= 0)
			return -1;
		assert(hello_parse(line, h, &why) == 0);
		*end = i + r;
		return 0;
	}
	return -1;
}

/* A client gives away nothing of its user's before its hello was said, and with
 * a key nothing, and no proof, before the server's. */
static void
check_got(const struct far *f, size_t from)
{
	struct hello h;
	size_t i, end;

	if (is_agent)
		return;
	for (i = from; i < f->ngot && f->got[i] < 0x80; i++)
		;
	if (i < f->ngot) {
		assert(hello_of(f, &h, &end) == 0 && i >= end);
		assert(h.role == R_CLIENT && f->kind != TALK);
	}
	if (!*mine.name || f->proved)
		return;
	assert(i == f->ngot);
	if (hello_of(f, &h, &end) == 0)
		assert(end == f->ngot);		/* no PROOF either */
}

static size_t keeper_takes(struct far *);

static size_t
take(struct far *f)
{
	ssize_t n = 0;
	size_t was = f->ngot, most = LOG - f->ngot;

	if (f == helper)		/* its orders are taken elsewhere */
		return 0;
	if (f->kind == KEEPER)
		return keeper_takes(f);
	if (f->fd >= 0 && most && !f->under_way && !f->stalled &&
	    (n = recv(f->fd, f->got + f->ngot, most, 0)) > 0) {
		f->ngot += n;
		check_got(f, was);
	}
	return n > 0 ? n : 0;
}

static size_t
user_take(void)
{
	ssize_t n = 0;
	size_t most = LOG - user.ngot;

	if (user.out >= 0 && most && !user.stalled && !cfg.fdpass &&
	    (n = read(user.out, user.got + user.ngot, most)) > 0)
		user.ngot += n;
	return n > 0 ? n : 0;
}

/* All that has come for anybody. */
static size_t
take_all(void)
{
	struct pollfd p[FARS];
	size_t n = 0;
	int i;

	for (i = 0; i < nfars; i++) {
		p[i].fd = fars[i].fd;
		p[i].events = POLLIN;
	}
	if (nfars && poll(p, nfars, 0) > 0)
		for (i = 0; i < nfars; i++)
			if (p[i].revents)
				n += take(&fars[i]);
	return n + (is_client ? user_take() : 0);
}

/* what a server, a proxy and openssl may say */

/* A ~ stands where a server that has proved nothing refuses with a key: no
 * message of ours may hold it.  Elsewhere a line that is no answer is told. */
static void
put_word(struct far *f, unsigned which, int in_two)
{
	static const char *const words[] = { "OK\n", "READY\n", "OK id=1\r\n",
	    "ERROR busy -\n", "ERROR offline - \n", "ERROR denied -\r\n",
	    "ERROR -\n", "ERROR timeout -", "PING\n", "PONG\n", "GO\n",
	    "SSH-2.0-x\r\n", "CHALLENGE\n", "CHALLENGE nonce=x mac=y\n",
	    "\x15\x03\x01", "HTTP/1.1 400 x\r\n\r\n", "what\x1b[2J\n", "\n",
	    "OKAY\n", "ok\n", "\r\r\n", "ERROR unreachable -\n",
	    "PING sshd=1\n", "PING  x sshd=22 y\r\n", "PING sshd=\n",
	    "PING sshd=1\nPING sshd=1\nPING sshd=1\n", "OK frames=1\n",
	    "ERROR unsupported -\n", "STOP in=400\n", "STOP\n",
	    "STOP in=99999999999\n", "STOP in=-1 x\n" };
	char b[40], *dash;
	int first, whole;

	put_rest(f);
	snprintf(b, sizeof b, "%s", words[which % LEN(words)]);
	dash = begins(b, "ERROR") ? strchr(b, '-') : NULL;
	whole = strchr(b, '\n') != NULL;
	/* does a line begin here, and no answer of a proxy? */
	first = is_agent || !f->nsent || (f->sent[f->nsent - 1] == '\n' &&
	    !servers->proxy.kind && servers->url.scheme != S_HTTP &&
	    servers->url.scheme != S_HTTPS);
	if (dash && whole && first && !f->proved)
		*dash = '~';
	put_line(f, b, in_two);
}

/* 1: it proves what it should. */
static int
challenge_make(const struct hello *h, unsigned how, char b[LINE_LEN])
{
	unsigned char nonce[MAC_LEN], old[MAC_LEN], mac[MAC_LEN];
	char w[2][B64_LEN + 1];

	how &= 7;
	memset(nonce, 'n', sizeof nonce);
	memset(old, 1, sizeof old);
	proof_mac(how == 2 ? &key_other : &key_ours, how == 5 ? LABEL_PEER :
	    LABEL_SERVER, how == 3 ? !h->role : h->role, how == 4 ? "other" :
	    h->node, how == 6 ? old : h->nonce, nonce, mac);
	if (how == 7)
		mac[MAC_LEN - 1] ^= 1;
	b64_write(nonce, w[0]);
	b64_write(mac, w[1]);
	snprintf(b, LINE_LEN, "CHALLENGE nonce=%s mac=%s\n", w[0], w[1]);
	return *mine.name && (how < 2 ||
	    (how == 6 && !memcmp(old, h->nonce, sizeof old)));
}

static void
put_challenge(struct far *f, unsigned how)
{
	char b[LINE_LEN];
	struct hello h;
	size_t end;
	int good;

	take(f);
	put_rest(f);
	if (hello_of(f, &h, &end) < 0)
		return;
	good = challenge_make(&h, how, b);
	put_line(f, b, how & 8);
	f->proves = good;
	if (!f->nheld)
		f->proved |= good;
}

static void
put_http(struct far *f, unsigned how)
{
	static const char *const answers[] = {
	    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
	    "Upgrade: mssh\r\n\r\n", "HTTP/1.1 200 Connection established\r\n"
	    "\r\n", "HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n",
	    "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
	    "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 502 Bad\r\n\r\n",
	    "HTTP/1.1 101 x\nUpgrade: mssh\n\n", "HTTP/1.0 200 \x1b[31m\n\n",
	    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
	    "HTTP/2 200\r\n\r\n", "HTTP/1.1 99999 x\r\n\r\n", "HTTP/1.1 200",
	    "HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno\n",
	    "HTTP/1.1 504 \r\n\r\n", "HTTP/1.1 204 x\r\n", "\r\n" };

	put_line(f, answers[how % LEN(answers)], how & 16);
}

static void
put_socks(struct far *f, unsigned how)
{
	static const struct {
		unsigned char n, b[20];
	} answers[] = { { 2, "\5\0" }, { 2, "\5\2" }, { 2, "\1\0" },
	    { 10, "\5\0\0\1\0\0\0\0\0\0" }, { 8, "\0\132\0\0\0\0\0\0" },
	    { 2, "\5\377" }, { 2, "\1\1" }, { 10, "\5\5\0\1\0\0\0\0\0\0" },
	    { 8, "\0\133\0\0\0\0\0\0" }, { 10, "\5\0\0\3\3abc\0\0" },
	    { 4, "\5\0\0\4" }, { 10, "\5\0\0\2\0\0\0\0\0\0" }, { 1, "\5" },
	    { 8, "\1\132\0\0\0\0\0\0" }, { 2, "\4\0" }, { 7, "\5\11\0\3\0\0" }
	};

	how %= 2 * LEN(answers);
	put_two(f, (const char *)answers[how / 2].b, answers[how / 2].n,
	    how & 1);
}

static void
put_talk(struct far *f, unsigned how)
{
	static const char *const texts[] = { "CONNECTION ESTABLISHED\n",
	    "verify error:num=18:self signed\x1b[1m\n",
	    "1:error:1408F10B:SSL routines:f:wrong version number:x.c:1:\n",
	    "1:error:0A000126:SSL routines::unexpected eof while reading:x\n",
	    "cannot run openssl: No such file or directory\n", "\x07\n",
	    "CONNECTION ESTA", "verify error:num=20:unable\nverify:::::\n" };

	put_line(f, texts[how % LEN(texts)], how & 8);
	f->up |= how % LEN(texts) == 0;
}

/* What a companion does when the network breaks. */
static void
cut(struct far *f)
{
	int i;

	if (!is_agent && dial.net >= 0 && f->fd >= 0) {
		f->cut |= !f->shut;
		net_cut(dial.net);
	}
	for (i = 0; is_agent && i < FDS; i++)
		if (far_at(i) == f)
			net_cut(i);
}

static void
end_badly(struct far *f, unsigned how)
{

	switch (how & 7) {
	case 0:
	case 1:
		leave(f);
		break;
	case 2:
		if (f->fd >= 0)
			shutdown(f->fd, SHUT_WR);
		f->shut = 1;
		break;
	case 3:
		f->stalled ^= 1;
		break;
	case 4:
		f->dead ^= 1;
		break;
	case 5:				/* only some of it is read */
		if (f->fd >= 0 && f->ngot < LOG && recv(f->fd, f->got +
		    f->ngot, 1, 0) == 1)
			check_got(f, f->ngot++);
		break;
	case 6:				/* what is not read makes a reset */
		f->reset = 1;
		leave(f);
		break;
	default:
		cut(f);
		f->reset = 1;
	}
}

static void
pass(unsigned how)
{
	static const int times[] = { 1, 100, 250, 500, 1000, 2000, 4000, 5000,
	    10000, 25000, 60001 };

	now_ms += times[how % LEN(times)];
}

/* messages */

/* A server that has not proved itself says nothing here: but for an answer that
 * is not of our protocol, which is quoted. */
static void
check_message(const char *b, size_t n)
{
	char line[1025];
	size_t i;

#ifdef REPLAY
	fwrite(b, 1, n, stderr);
#endif
	assert(n > 0 && n <= 1024 && b[n - 1] == '\n');
	for (i = 0; i < n - 1; i++)
		assert(b[i] >= ' ' && b[i] <= '~');
	memcpy(line, b, n);
	line[n] = '\0';
	assert(!strchr(line, '~') || !*mine.name ||
	    strstr(line, "is not an mssh server"));
}

/* the client */

/* What look_up()'s child would write; or a companion's sides. */
static int
fuzz_fork(void)
{
	struct dial was = dial;
	int last = (npairs - 1) & 1, fd;

	if (no_process == 1) {
		no_process = 0;
		errno = EAGAIN;
		return -1;
	}
	if (dial.at == AT_LOOKUP && *dial.whom) {
		addresses_find(dial.whom, "80", 0, 0);
		assert(write(pairs[last][1], &dial, sizeof dial - bad_lookup) >
		    0);
		dial = was;
	} else if (is_agent) {
		fd = dup(pairs[last][1]);
		helper = far_new(TALK, fd, pairs[last][0]);
	} else {
		fd = dup(pairs[!last][1]);
		if (!far_new(PLAIN, fd, pairs[!last][0]))
			close(fd);
		fd = dup(pairs[last][1]);
		if (!far_new(TALK, fd, pairs[last][0]))
			close(fd);
	}
	return 999;
}

static struct far *
newest_far(int talk)
{
	int i;

	for (i = nfars - 1; i >= 0; i--)
		if ((fars[i].kind == TALK) == talk && !fars[i].under_way)
			return &fars[i];
	return NULL;
}

/* What somebody who means well would answer to what has come. */
static void
put_answer(struct far *f, unsigned how)
{
	struct far *t = newest_far(1);
	const unsigned char *b = f->got + f->seen;
	size_t n;
	int up;

	if (t > f && !t->up) {
		put_talk(t, 0);
		return;
	}
	take(f);
	n = f->ngot - f->seen;
	b = f->got + f->seen;
	f->seen = f->ngot;
	if (!n)
		return;
	if (n > 7 && !memcmp(b, "MSSH/2 ", 7)) {
		if (*mine.name)
			put_challenge(f, how & 8);
		else
			put_line(f, cfg.resume && !(how & 16) ?
			    "OK frames=1\n" : "OK\n", how & 8);
	} else if (*b == 'P')
		put_line(f, cfg.resume && !(how & 16) ? "OK frames=1\n" :
		    "OK\n", how & 8);
	else if (cfg.resume && *b < F_MAX)
		put_frame(f, how);
	else if ((up = *b == 'G') || *b == 'C')
		put_http(f, up ? 0 : 1);
	else if (*b == 4)
		put_socks(f, 4 * 2);
	else if (*b == 1)
		put_socks(f, 2 * 2);
	else if (*b == 5)
		put_socks(f, n == 3 ? 0 : n == 4 ? 2 : 3 * 2);
}

static void
user_put(unsigned how)
{
	static const int sizes[] = { 1, 30, 700, 4096, 5000, 12000 };
	static unsigned char b[12000];
	int i, n = sizes[how % LEN(sizes)];
	ssize_t r;

	if (user.in < 0)
		return;
	for (i = 0; i < n; i++)
		b[i] = nth_byte(user.nsent + i);
	if ((r = write(user.in, b, n)) > 0)
		user.nsent += r;
}

static void
user_leave(unsigned how)
{
	struct stat st;

	switch (how & 3) {
	case 0:				/* no more is said */
		if (user.in < 0)
			break;
		if (fstat(user.in, &st) == 0 && S_ISSOCK(st.st_mode))
			shutdown(user.in, SHUT_WR);
		close(user.in);
		user.in = -1;
		break;
	case 1:
		close(user.in);
		close(user.out);
		user.in = user.out = -1;
		break;
	case 2:
		user.stalled ^= 1;
		break;
	default:
		close(user.out);
		user.out = -1;
	}
}

/* The nth of those that are on the way is reached, or is not. */
static void
arrive(unsigned n, unsigned how)
{
	static const int errors[] = { 0, ECONNREFUSED, ETIMEDOUT,
	    EHOSTUNREACH };
	int i;

	for (i = 0; i < nfars; i++)
		if (fars[i].under_way && !n--) {
			fars[i].under_way = 0;
			fars[i].error = errors[how & 3];
			return;
		}
}

/* What a server may say to who lists or pings. */
static void
put_rows(struct far *f, unsigned which, int in_two)
{
	static const char *const lines[] = { "NODE web-1 state=online since=75 "
	    "parked=1 sessions=0 waiting=2 address=192.0.2.1:1 version=0.1\n",
	    "PONG\n", "AGENT us=1234\n", "SSHD us=567 SSH-2.0-x y\n",
	    "END 1\n", "NODE a state=offline since=200000\n", "NODE\n",
	    "NODE \"b\\ state=\"\\\" parked=007 since=x version=\"\r\n",
	    "NODE state=a name=b name=c\n", "AGENT\n", "AGENT us=-1\n",
	    "SSHD error no\n", "SSHD\n", "SSHD us=1 SSH-2.0-\"\\\"}\n",
	    "SSHD us=99999999999 x SSH-2.0\n", "NODE 0 since=2147483647 "
	    "parked=99999999999999999999 sessions=00 address=- waiting=-1\n",
	    "END\n", "NODE A\nNODE A\nNODE  B  \nEND\n", "NODE x\x1b[1m\n",
	    "PONG us=1\nAGENT us=2147483647\nSSHD us=0 SSH-2.0-z\n" };
	char b[LINE_LEN];
	int i;

	which %= LEN(lines) + 4;
	if (which < LEN(lines)) {
		put_line(f, lines[which], in_two);
		return;
	}
	which -= LEN(lines);
	put_rest(f);
	for (i = 0; i < (which ? 1 : 100); i++) {
		memset(b, 'x', sizeof b);
		memcpy(b, "NODE x state=", 13);
		if (which == 2)
			memset(b, ' ', sizeof b - 2);
		if (which < 3)
			b[sizeof b - 1] = '\n';
		put(f, b, which ? sizeof b : (size_t)snprintf(b, sizeof b,
		    "NODE n%d since=%d\n", i * 7919 % 100, i));
	}
}

static void
client_step(unsigned what, unsigned with)
{
	struct far *f = newest_far(0), *t = newest_far(1);

	what &= 15;
	take_all();
	if (f && what != 14)
		put_rest(f);
	if (what == 0) {
		next_dial = with & 3;
		no_process = with >> 2 & 3;
		bad_lookup = with >> 4 & 1;
		no_memory_in = with >> 5;
	} else if (what == 1)
		arrive(with & 3, with >> 2);
	else if (what == 6 && t)
		with & 128 ? leave(t) : put_talk(t, with);
	else if (what == 8 && is_client && !asks)
		user_put(with);
	else if (what == 9 && is_client && !asks)
		user_leave(with);
	else if (what == 11 || what == 12)
		pass(with);
	else if (!f)
		return;
	else if (what == 2)
		put_word(f, with & 31, with & 32);
	else if (what == 3)
		put_challenge(f, with);
	else if (what == 4)
		put_http(f, with);
	else if (what == 5)
		put_socks(f, with);
	else if (what == 7)
		put_payload(f, with);
	else if (what == 10)
		end_badly(f, with);
	else if (what == 13 && cfg.resume && with & 1)
		put_frame(f, next_byte());
	else if (what == 13)
		put_raw(f);
	else if (asks && what != 14)
		put_rows(f, with & 31, with & 32);
	else
		put_answer(f, with);
}

/* All far ends go, then time passes, and at last the user goes. */
static void
client_end(int64_t until)
{
	int i;

	assert(ending++ < END_TURNS);
	for (i = 0; i < nfars; i++)
		put_rest(&fars[i]);
	if (take_all() && ending < END_TURNS / 4)
		return;
	for (i = 0; ending > 2 && i < nfars; i++) {
		fars[i].under_way = 0;
		leave(&fars[i]);
	}
	if (ending > 3)
		now_ms = until;
	if (ending > END_TURNS / 2 && is_client)
		user_leave(1);
}

static int
poll_now(struct pollfd *f, nfds_t n)
{
	int r = 0;
	struct far *to;
	nfds_t i;

	if (poll(f, n, 0) < 0)
		return -1;
	for (i = 0; i < n; i++) {
		to = f[i].fd >= 0 ? of_fd[f[i].fd] : NULL;
		if (to && to->under_way)
			f[i].revents = 0;
		r += f[i].revents != 0;
	}
	return r;
}

/* No time is waited for, but for the client that nobody does anything for.  A
 * step with 64 in it does not wait until nothing is ready. */
int
fuzz_poll(struct pollfd *f, nfds_t n, int ms)
{
	int64_t until = now_ms + ms;
	unsigned what;
	int r, early_step = left && *program & 64;

	if (is_agent) {			/* for a message of ours */
		f->revents = POLLOUT;
		return 1;
	}
	assert(npolls++ < POLLS);
	while (early_step || (!(r = poll_now(f, n)) && now_ms < until)) {
		if (!left) {
			client_end(until);
			continue;
		}
		do {
			what = next_byte();
			client_step(what, next_byte());
		} while (what & 128 && left);
		early_step = 0;
	}
	return r;
}

/* Are the n bytes the first of the user's? */
static int
are_users(const unsigned char *b, size_t n)
{
	size_t i;

	for (i = 0; i < n && b[i] == nth_byte(i); i++)
		;
	return i == n && n <= user.nsent;
}

/* Has f sent that word somewhere? */
static int
has_sent(const struct far *f, const char *w)
{
	size_t i, n = strlen(w);

	for (i = 0; i + n <= f->nsent; i++)
		if (!strncasecmp((const char *)f->sent + i, w, n))
			return 1;
	return 0;
}

/* Behind the hello says who lists nothing, and who pings one line each time. */
static void
check_asker_far(const struct far *f, size_t from)
{
	char line[LINE_LEN];
	int r, n = 0;

	for (; (r = line_take((const char *)f->got + from, f->ngot - from,
	    line)) > 0; from += r) {
		assert(asks == R_PING && n < (cfg.count ? cfg.count : 1));
		assert(!strcmp(line, n || cfg.no_sshd ? "PING" :
		    "PING sshd=1"));
		n++;
	}
	/* it may not have read all of it */
	assert(!r && (from == f->ngot || (asks == R_PING && f->ngot - from <
	    12 && !memcmp(f->got + from, "PING sshd=1", f->ngot - from))));
}

/* Where what f has sent behind its OK begins; 0: it has said none. */
static size_t
behind_ok(const struct far *f)
{
	const char *b = (const char *)f->sent, *text;
	char line[LINE_LEN];
	int r, proof = 0;
	size_t i;

	if (*mine.name && !f->proved)
		return 0;
	for (i = 0; i < f->nsent; i += r) {
		r = line_take(b + i, f->nsent - i, line);
		if (r <= 0) {		/* bytes of SOCKS */
			r = 1;
			continue;
		}
		proof |= word_is(line, "CHALLENGE") != NULL;
		if (reply_parse(line, &text) == C_OK &&
		    (proof || !*mine.name))
			return i + r;
	}
	return 0;
}

/* Whole frames, and perhaps the beginning of one.  Their payload is what the
 * user says: from its beginning, or from where the server wants it again.
 * Nothing comes behind END but acknowledgements, and nothing behind CLOSE. */
static void
check_frames(const struct far *f, size_t from)
{
	struct hello h;
	struct frame fr, first;
	size_t end, ok, at = 0, n, i;
	int r = 0, ended = 0, known;
	char w[LINE_LEN];
	long seq;

	assert(hello_of(f, &h, &end) == 0);
	/* until a frame has come each dial has a token of its own */
	assert(resume_parse(h.resume, w, &seq) == 1 && (!seq || !strcmp(w,
	    session_token)));
	ok = behind_ok(f);
	known = !seq || (ok && frame_parse(f->sent + ok, f->nsent - ok,
	    &first) == FRAME_HEAD);
	if (seq && known)
		at = first.received;
	for (; from < f->ngot; from += r + n) {
		r = frame_parse(f->got + from, f->ngot - from, &fr);
		assert(r >= 0);
		if (!r)
			break;
		n = f->ngot - from - r < fr.len ? f->ngot - from - r : fr.len;
		if (fr.type == F_CLOSE) {
			assert(from + r + n == f->ngot);
			assert(!memcmp(f->got + from + r, "ERROR ", n < 6 ? n :
			    6));
			return;
		}
		assert(fr.received <= LOG * (uint64_t)FARS);
		assert(!ended || !fr.len);
		assert(!ended || fr.type != F_END);
		ended |= fr.type == F_END;
		assert(!n || known);
		for (i = 0; i < n; i++)
			assert(f->got[from + r + i] == nth_byte(at++));
		assert(!n || at <= user.nsent);
	}
}

/* What the user has got is what came in frames behind an OK: from each
 * connection a beginning, one behind the other. */
static void
check_framed_user(void)
{
	static unsigned char b[LOG];
	static char can[2][LOG + 1];
	size_t n, i, at, pos, k;
	char *now = can[0], *next = can[1];
	struct hello h;
	struct frame fr;
	int j, r;

	memset(now, 0, user.ngot + 1);
	now[0] = 1;
	for (j = 0; j < nfars && !now[user.ngot]; j++) {
		if (fars[j].kind == TALK || hello_of(&fars[j], &h, &at) < 0 ||
		    !*h.resume || !(at = behind_ok(&fars[j])))
			continue;
		for (n = 0; at < fars[j].nsent; at += k) {
			r = frame_parse(fars[j].sent + at, fars[j].nsent - at,
			    &fr);
			if (r <= 0 || fr.type == F_CLOSE)
				break;
			at += r;
			k = fars[j].nsent - at < fr.len ? fars[j].nsent - at :
			    fr.len;
			memcpy(b + n, fars[j].sent + at, k);
			n += k;
		}
		memcpy(next, now, user.ngot + 1);
		for (pos = 0; pos < user.ngot; pos++)
			for (i = 0; now[pos] && i < n && pos + i < user.ngot &&
			    b[i] == user.got[pos + i]; i++)
				next[pos + i + 1] = 1;
		memcpy(now, next, user.ngot + 1);
	}
	assert(now[user.ngot]);
}

/* Behind the hello and the proof comes what the user says, from its beginning,
 * and nothing else. */
static void
check_client_far(const struct far *f)
{
	struct hello h;
	size_t end;

	if (f->kind == TALK)
		return;
	if (hello_of(f, &h, &end) < 0) {
		assert(!f->proved);
		return;
	}
	if (asks)
		assert(h.role == (enum role)asks && !h.early && !strcmp(h.node,
		    asks == R_PING ? cfg.node : "a*,!b,web-?"));
	else
		assert(!strcmp(h.node, cfg.node) && h.role == (is_client ?
		    R_CLIENT : R_AGENT));
	assert(!strcmp(h.key, mine.name));
	if (servers->url.scheme == S_HTTP || servers->url.scheme == S_HTTPS)
		assert(has_sent(f, "mssh"));	/* as what it upgrades to */
	if (*mine.name && end + 6 <= f->ngot) {
		assert(!memcmp(f->got + end, "PROOF ", 6));
		while (end < f->ngot && f->got[end] != '\n')
			end++;
		end += end < f->ngot;
	} else if (*mine.name)
		end = f->ngot;
	if (asks) {
		check_asker_far(f, end);
		return;
	}
	if (*h.resume)
		check_frames(f, end);
	else
		assert(are_users(f->got + end, f->ngot - end));
}

/* What the user has got is what came behind an OK, with a key behind an OK to
 * our proof; and all of it, where the session has ended well. */
static void
check_user(int by_exit)
{
	const struct far *f;
	const char *text, *b;
	char line[LINE_LEN];
	int k, r, proof, whole = !by_exit && user.out >= 0 && !user.stalled;
	size_t i, n;

	if (by_exit && !user.ngot)
		return;
	if (cfg.resume) {
		check_framed_user();
		return;
	}
	f = newest_far(0);
	assert(!whole || !f->cut);	/* that is no end */
	for (k = 0; k < nfars; k++) {
		f = &fars[k];
		b = (const char *)f->sent;
		if (*mine.name && !f->proved)
			continue;
		for (proof = 0, i = 0; i < f->nsent; i += r) {
			r = line_take(b + i, f->nsent - i, line);
			if (r <= 0) {	/* bytes of SOCKS */
				r = 1;
				continue;
			}
			proof |= word_is(line, "CHALLENGE") != NULL;
			if (reply_parse(line, &text) != C_OK ||
			    (!proof && *mine.name))
				continue;
			n = f->nsent - i - r;
			if ((whole && !f->reset ? n == user.ngot :
			    n >= user.ngot) && !memcmp(b + i + r, user.got,
			    user.ngot))
				return;
		}
	}
	assert(!"bytes that no server has sent behind an OK");
}

/* "name":"x" or "name":1, as RFC 8259 has them.  Where it ends. */
static const char *
json_member(const char *s)
{
	size_t n;

	assert(*s == '"' && strspn(s + 1, "abcdefghijklmnopqrstuvwxyz_"));
	s += 1 + strspn(s + 1, "abcdefghijklmnopqrstuvwxyz_");
	assert(s[0] == '"' && s[1] == ':');
	s += 2;
	if (*s == '"') {
		n = strcspn(s + 1, "\"\\\n");
		assert(s[n + 1] == '"');
		return s + n + 2;
	}
	assert((n = strspn(s, DIGITS)) && (n == 1 || *s != '0'));
	s += n;
	if (*s == '.') {
		assert(strspn(s + 1, DIGITS) == 3);
		s += 4;
	}
	return s;
}

static void
check_line(const char *s, char last[LINE_LEN])
{
	char name[LINE_LEN];
	const char *end = s + strcspn(s, "\n"), *p;
	size_t n = strcspn(s, cfg.names ? "\n" : "\t\n");

	assert(*end && end > s);
	for (p = s; p < end; p++)
		assert((*p >= ' ' && *p <= '~') || (*p == '\t' && !terminal &&
		    asks == R_LIST && !cfg.names && !cfg.json));
	if (cfg.json) {
		assert(*s == '{');
		if (s[1] == '}')
			s++;
		while (*s == '{' || *s == ',')
			s = json_member(s + 1);
		assert(*s == '}' && s + 1 == end);
	} else if (asks == R_LIST && !terminal) {
		snprintf(name, sizeof name, "%.*s", (int)n, s);
		assert(n && strcmp(last, name) <= 0 && !strchr(name, ' '));
		strcpy(last, name);
	}
}

/* What was printed is plain, complete, and sorted. */
static void
check_printed(int by_exit)
{
	static char b[1 << 20];
	char last[LINE_LEN] = "";
	const char *s;
	size_t n;
	int lines = 0;

	fflush(stdout);
	rewind(printed);
	n = fread(b, 1, sizeof b - 1, printed);
	assert(n < sizeof b - 1);
	b[n] = '\0';
	assert(strlen(b) == n);
	for (s = b; *s; s += strcspn(s, "\n") + 1, lines++)
		check_line(s, last);
	if (by_exit)
		assert(exit_code > 0);
	else if (asks == R_LIST)
		assert(cfg.names && !cfg.json ? lines <= nrows :	/* each once */
	    lines == nrows + (terminal && !cfg.json));
	else if (cfg.json)
		assert(lines == (cfg.count ? cfg.count : 1));
	assert(ftruncate(fileno(printed), 0) == 0);
	rewind(printed);
}

/* ssh has a socket: it says what the user says from here. */
static void
check_passed(int code)
{
	struct far *f = newest_far(0);
	int fds[NET_FDS], n = 0;
	char c;

	if (user.out >= 0 && net_recv_fds(user.out, &c, 1, fds, &n) == 1)
		assert(n == 1);
	assert(n == 0 || code == 0);
	assert(!n || (f && (!*mine.name || f->proved)));
	while (n)
		close(fds[--n]);
}

/* What a child of the dialler has answered: one record, whose text is plain,
 * with as many descriptors as it says. */
static void
check_report(void)
{
	static struct dial d;
	int fds[NET_FDS], n = 0;
	const char *p, *text;
	ssize_t r = net_recv_fds(user.out, &d, sizeof d, fds, &n);

	assert(r == (ssize_t)sizeof d && n == d.nfds);
	assert(net_recv_fds(user.out, fds, 1, fds, &n) <= 0);
	assert(memchr(d.why, 0, sizeof d.why) && (n || *d.why));
	for (p = d.why; !n && *p; p++)
		assert(*p >= ' ' && *p <= '~');
	if (n && !d.q.source)
		assert(word_is(d.line, "CHALLENGE") ||
		    reply_parse(d.line, &text) >= 0);
	assert(!n || !d.q.look || begins(d.line, "SSH-"));
	for (p = d.line; n && d.q.look && *p; p++)
		assert(*p >= ' ' && *p <= '~');
	while (n)
		close(fds[--n]);
}

static void
user_open(int as_pipes)
{
	int s[2], p[2];

	if (as_pipes) {
		assert(pipe(s) == 0 && pipe(p) == 0);
		user.in = s[1];
		user.out = p[0];
		dup2(s[0], 0);
		dup2(p[1], 1);
		close(s[0]);
		close(p[1]);
	} else {
		assert(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
		user.out = s[0];
		user.in = dup(s[0]);
		fill_soon(s[1]);
		dup2(s[1], 0);
		dup2(s[1], 1);
		close(s[1]);
	}
	net_blocking(user.in, 0);
	net_blocking(user.out, 0);
}

static void
close_if(int fd)
{
	if (fd > 2)
		close(fd);
}

/* What the process has in its hands when it ends. */
static void
client_clean_up(int by_exit)
{
	/* the user has gone, or sshd was reached */
	int in_the_middle = is_client ? by_exit && !exit_code :
	    dial.q.source != 0, i;

	if (is_client)
		take_all();
	else
		check_report();
	if (cfg.fdpass)
		check_passed(exit_code);
	for (i = 0; i < nfars; i++) {
		take(&fars[i]);
		check_client_far(&fars[i]);
		leave(&fars[i]);
	}
	if (asks)
		check_printed(by_exit);
	else if (!cfg.fdpass && is_client)
		check_user(by_exit);
	close_if(dial.fd);
	if (dial.net != dial.fd)
		close_if(dial.net);
	close_if(dial.talk);
	close_if(dial.leash);
	close_if(session.fd);
	close_if(session.also);
	close_if(changes);
	changes = -1;
	for (i = 0; in_the_middle && i < MAX_ADDRS; i++)
		close_if(dial.sock[i].fd);
	close_if(user.in);
	close_if(user.out);
	dup2(null, 0);
	dup2(null, 1);
	for (i = 0; i < BLOCKS; i++) {	/* a duct's, at exit(3) */
		free(blocks[i]);
		blocks[i] = NULL;
	}
}

/* Who lists or pings, with these options. */
static void
asker_prepare(int role, unsigned how)
{
	static char any[] = "x";

	asks = role;
	asks_as = role;
	cfg.fdpass = cfg.wait = cfg.resume = 0;
	cfg.json = how & 1;
	cfg.names = how >> 1 & 1;
	cfg.no_sshd = how >> 2 & 1;
	cfg.count = how >> 3 & 3;
	terminal = how >> 5 & 1;
	word = how & 64 ? any : NULL;
	if (role == R_LIST) {
		strcpy(cfg.patterns, "a*,!b,web-?");
		cfg.about = cfg.patterns;
	}
	user.in = user.out = -1;
	dup2(fileno(printed), 1);
}

static void
client_prepare(unsigned how, unsigned where)
{
	static const char *const urls[] = { "10.0.0.9:80", "srv.example:80",
	    "tls://srv.example:80", "http://srv.example:80/x",
	    "https://srv.example:80/", "unix:/run/x", "srv.example:80",
	    "10.0.0.9:80" };
	static const char *const proxies[] = { "", "http://10.0.0.1:80",
	    "http://u:p@px:80", "https://px:80", "socks4://10.0.0.1:80",
	    "socks4a://u@10.0.0.1:80", "socks5h://u:p@px:80",
	    "socks5h://10.0.0.1:80" };
	const char *why;
	int r;

	is_client = !(how & 2);
	cfg.fdpass = is_client && how & 8;
	cfg.wait = how & 16 ? 20 : 0;
	addresses = how >> 6 & 3;
	next_dial = no_self = where >> 6 & 1;
	cfg.connect = where >> 6 == 2 ? "x %h" : NULL;
	cfg.resume = is_client && !cfg.fdpass && where >> 6 == 3;
	cfg.resume_for = 20;
	r = url_parse(urls[where & 7], &servers->url);
	if (*proxies[where >> 3 & 7] && servers->url.scheme != S_UNIX &&
	    !cfg.connect)
		r |= proxy_parse(proxies[where >> 3 & 7], &servers->proxy,
		    &why);
	assert(r == 0);
	if (servers->url.scheme == S_UNIX)
		cfg.connect = NULL;
	memcpy(cfg.node, "nd", 3);
	cfg.about = cfg.node;
	if (how & 4 && is_client)
		mine = key_ours;
	if ((how & 40) == 40 && is_client)
		asker_prepare(how & 16 ? R_PING : R_LIST, next_byte());
	else
		user_open(how & 32 && !cfg.fdpass && is_client);
	memset(&early, 0, sizeof early);
	memset(session_token, 0, sizeof session_token);
	resumable_init(&session, 0, 1);
	session_seq = 0;
	if (is_client)
		return;
	net_blocking(1, 1);
	dialler.fd = 1;
	memcpy(dial.q.node, cfg.node, 3);
	if (how & 4)
		snprintf(dial.q.words, sizeof dial.q.words, "run=1 slot=0");
	if (how & 16) {
		dial.q.source = 7;
		dial.q.look = how >> 5 & 1;
		snprintf(sshd_host, sizeof sshd_host, "localhost");
		snprintf(sshd_port, sizeof sshd_port, "22");
	}
}

static void
client(unsigned how)
{
	client_prepare(how, next_byte());
	if (setjmp(at_exit) == 0) {
		if (!is_client)
			dial_child();
		exit_code = asks == R_LIST ? run_list() : asks ? run_ping() :
		    run_proxy();
		client_clean_up(0);
	} else
		client_clean_up(1);
	dialler.fd = -1;
}

/* the agent */

static int
link_watch(void)
{
	int s[2];

	assert(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, s) == 0);
	changes = s[0];
	return s[1];
}

static struct conn *
conn_of(int i)
{
	return watched[i]->fn != dispatch ? NULL : (struct conn *)
	    ((char *)watched[i] - offsetof(struct conn, io));
}

/* Where what a server has sent goes to sshd: behind a GO, which with a key
 * comes behind an OK.  0: nowhere. */
static size_t
behind_go(const struct far *f, char key[KEY_LEN + 1])
{
	const char *b = (const char *)f->sent, *text;
	char line[LINE_LEN];
	int r, ok = !*mine.name;
	struct peer p;
	uint64_t id;
	size_t i;

	for (i = 0; (r = line_take(b + i, f->nsent - i, line)) > 0; i += r) {
		ok |= reply_parse(line, &text) == C_OK;
		if (word_is(line, "GO")) {
			go_parse(line, &id, &p, key);
			return ok ? i + r : 0;
		}
	}
	return 0;
}

/* The server on f has called for a session that may be. */
static void
check_called(const struct far *f)
{
	char key[KEY_LEN + 1];

	assert(f && (*mine.name ? f->proved : f->ok));
	assert(behind_go(f, key));
	assert(!cfg.allow || !strcmp(key, "ka"));
}

static void
check_slot(const struct conn *c)
{
	const struct far *f = c->io.fd < 0 ? NULL : of_fd[c->io.fd];
	int known = c->phase == IDLE || c->phase == PINGED;

	assert(c->slot < cfg.spare && c->s.server < nservers);
	assert(servers[c->s.server].slots[c->slot] == c);
	assert(!c->sshd && !c->end->to);
	if (c->phase == DIALLING)
		assert(c->in == &asking && c->io.fd < 0);
	else
		assert(!c->in && c->io.fd >= 0);
	assert(!c->end->proof == (!*mine.name || c->phase != DIALLING));
	if (c->phase != DIALLING && *mine.name)
		assert(f && f->proved);
	else if (known && f)
		assert(f->ok);
}

static void
check_agent_conn(const struct conn *c)
{
	int p = c->phase;

	assert(c->io.fn && c->end && !c->node && !c->agent);
	assert(c->io.heap >= 0 || c->io.ready & IO_T || p == KEPT);
	if (p == DIALLING || p == REGISTERING || p == IDLE || p == PINGED) {
		check_slot(c);
		return;
	}
	assert(servers[c->s.server].slots[c->slot] != c || c->sshd);
	assert(p == HELD || p == CHILD || p == LINGER || p == RELAY ||
	    p == KEPT);
	assert(p != KEPT || (c->end->resume.kept && c->end->net < 0 &&
	    cfg.resume_for));
	assert(p == KEPT || p == HELD || p == LINGER || !c->end->resume.kept);
	assert((c->in == &asking) == (p == HELD));
	assert((c->in == &evictable) == (p == LINGER));
	assert((c->in == &live) == (p == CHILD || p == KEPT || (p == RELAY &&
	    !c->sshd)));
	assert((p == RELAY) == (c->end->to != NULL));
	assert(!c->end->proof);
	if (p == RELAY) {
		assert(c->end->to->end->to == c);
		assert(c->sshd != c->end->to->sshd);
	}
	if (p == HELD || (p == RELAY && !c->sshd))
		check_called(of_fd[c->io.fd]);
	if (p == KEPT)
		check_called(of_fd[c->io.fd]->of);
}

static void
check_agent(void)
{
	int i, j, n[RELAY + 1] = { 0 }, all = 0, sshds = 0, used = 0;
	int parked = 0;
	struct conn *c;

	for (i = 0; i < nwatched; i++)
		if ((c = conn_of(i))) {
			check_agent_conn(c);
			n[c->phase]++;
			sshds += c->sshd;
			all++;
		}
	for (j = 0; j < nservers; j++) {
		parked += servers[j].parked;
		for (i = 0; i < MAX_SPARE; i++)
			used += servers[j].slots[i] != NULL;
	}
	assert(nconns == all && parked == n[IDLE] + n[PINGED]);
	assert(held == n[HELD] && asking.n == n[DIALLING] + n[HELD]);
	assert(used == parked + n[DIALLING] + n[REGISTERING]);
	assert(2 * sshds == n[RELAY] && live.n == sshds + n[CHILD] +
	    n[KEPT]);
	assert(evictable.n == n[LINGER] && !pending.n && !nwaiting);
	assert(held + live.n <= 2 * cfg.sessions);
}

/* What the dialler is asked for. */
static void
take_orders(void)
{
	struct conn *c;
	struct order q;
	int i;

	while (helper->fd >= 0 && recv(helper->fd, &q, sizeof q, 0) ==
	    (ssize_t)sizeof q) {
		if (norders == FARS)
			memmove(orders, orders + 1, --norders *
			    sizeof *orders);
		orders[norders].q = q;
		orders[norders].of = NULL;
		if (q.look) {		/* each is a process */
			assert(q.source && !cfg.exec && (look_twice ||
			    !look_under_way ||
			    now_ms - look_under_way >= DIAL_MAX * 1000));
			look_twice |= look_under_way != 0;
			look_under_way = turn_at[0];
		}
		for (c = asking.head, i = 0; i < asking.n; i++, c = c->next)
			if (c->end->u.ask == q.id) {
				assert(!q.source == (c->phase == DIALLING));
				if (q.source)
					orders[norders].of =
					    of_fd[c->io.fd];
			}
		assert(q.source || !*mine.name || strstr(q.words, " key="));
		norders++;
	}
}

/* The server's first line, as a child of the dialler has it. */
static void
first_line(struct far *f, const struct order *q, unsigned which,
    char line[LINE_LEN])
{
	static const char *const lines[] = { "OK", "OK id=1", "READY",
	    "ERROR exists ~", "ERROR denied -", "PING", "GO from=192.0.2.7:1",
	    "", "CHALLENGE", "SSH-2.0-x", "OKAY" };
	const char *why;
	char b[LINE_LEN];
	struct hello h;

	snprintf(b, sizeof b, "MSSH/2 agent %s %s", *q->node ? q->node : "nd",
	    q->words);
	assert(hello_parse(b, &h, &why) == 0);
	if (which >= LEN(lines) || (which == 0 && *mine.name)) {
		f->proved = challenge_make(&h, which ? which : 0, line);
		*strchr(line, '\n') = '\0';
	} else
		snprintf(line, LINE_LEN, "%s", lines[which]);
	f->ok = !*mine.name && reply_parse(line, &why) == C_OK;
}

/* What an sshd has said, or a dialler that is not ours says that it has. */
static void
sshd_line(unsigned which, char line[LINE_LEN])
{
	static const char *const lines[] = { "SSH-2.0-OpenSSH_9 x", "",
	    "SSH-2.0-x\nREADY", "SSH-\x1b[2J\xff", "a\r\nGO",
	    "SSH-2.0-\"\\" };

	if (which < LEN(lines))
		strcpy(line, lines[which]);
	else
		memset(line, which & 1 ? 'S' : '\n', LINE_LEN);
}

/* how: 0 to 7 as it should be, with one descriptor or the network's own as
 * well; the others are not. */
static void
put_record(unsigned who, unsigned how, unsigned line)
{
	static struct dial d;
	int fds[4] = { -1, -1, -1, -1 }, n = 1 + (how & 1), i;
	struct order *q = &orders[who].q;
	struct far *f = NULL, *side;
	size_t cut;

	put_rest(helper);
	memset(&d, 0, sizeof d);
	d.q = *q;
	if (!*cfg.node)
		memcpy(d.q.node, "nd", 3);
	if (q->source)
		n = 1;
	memcpy(d.peer.ip, ip_map, sizeof ip_map);
	d.peer.port = 80;
	how = how & 8 ? how & 15 : 0;
	n = how == 11 ? 1 : how == 12 || how == 13 ? 0 : how == 14 ? 4 : n;
	n = how == 8 || how == 9 ? 0 : n;
	if (how == 15)
		fds[0] = dup(null);
	else if (n && (fds[0] = lead(q->keep ? KEEPER : q->source ? SSHD : NET,
	    &f)) < 0)
		return;
	for (i = 1; i < n; i++)
		if ((fds[i] = lead(SIDE, &side)) < 0)
			n = i;
		else
			side->of = f;
	if (q->look) {
		sshd_line(line & 7, d.line);
		d.us = line;
		look_twice |= now_ms - look_under_way >= DIAL_MAX * 1000;
		look_under_way = 0;
	} else if (f && q->source)
		f->of = orders[who].of;
	else if (f)
		first_line(f, q, line & 31, d.line);
	else
		snprintf(d.line, sizeof d.line, "OK");
	d.nfds = how == 11 ? 2 : how == 12 ? 1 : how == 13 ? -1 : how == 14 ?
	    1 + (int)(line & 3) : n;
	d.code = how == 8 ? X_TIMEOUT : X_UNREACHABLE;
	if (how == 10)
		d.q.id += 1000;
	if (how != 9 && !n)
		snprintf(d.why, sizeof d.why, line & 1 ? "no\nREADY\nway" :
		    "no way");
	if (how == 9 || (how == 14 && line & 64)) {	/* no end anywhere */
		memset(d.q.node, 'n', sizeof d.q.node);
		memset(d.line, 'l', (char *)(&d + 1) - d.line);
	}
	cut = line & 128 ? sizeof d - 1 - line % sizeof helper->held :
	    sizeof d;
	(void)net_send_fds(helper->fd, &d, cut, fds, n);
	memcpy(helper->held, (char *)&d + cut, helper->nheld = sizeof d - cut);
	for (i = 0; i < 4; i++)
		close_if(fds[i]);
	if (line & 32 && how) {		/* it answers once more */
		look_twice |= q->look;
		return;
	}
	memmove(orders + who, orders + who + 1, (--norders - who) *
	    sizeof *orders);
}

/* What GO says, behind the first line of that name: 0, 1: which session. */
static int
go_of(const struct far *f, char token[TOKEN_LEN + 1], long *seq,
    char key[KEY_LEN + 1])
{
	const char *b = (const char *)f->sent;
	char line[LINE_LEN];
	struct peer p;
	uint64_t id;
	size_t i;
	int r;

	for (i = 0; (r = line_take(b + i, f->nsent - i, line)) > 0; i += r)
		if (word_is(line, "GO")) {
			go_parse(line, &id, &p, key);
			return cfg.resume_for &&
			    resume_parse(line, token, seq) > 0;
		}
	return 0;
}

/* A keeper gets the connection that began its session, and then those alone
 * that name it, with the same key, each with a higher number. */
static size_t
keeper_takes(struct far *k)
{
	char token[2][TOKEN_LEN + 1], key[2][KEY_LEN + 1], c;
	int fds[NET_FDS], n = 0;
	const struct far *f;
	long seq[2];

	if (k->fd < 0 || k->stalled || net_recv_fds(k->fd, &c, 1, fds, &n) !=
	    1)
		return 0;
	assert(n == 1 && k->of && (f = far_at(*fds)));
	assert(go_of(k->of, token[0], &seq[0], key[0]));
	assert(go_of(f, token[1], &seq[1], key[1]));
	assert(!strcmp(token[0], token[1]) && !strcmp(key[0], key[1]));
	assert(k->given++ ? seq[1] > k->seq : f == k->of && !seq[1]);
	k->seq = seq[1];
	if (k->has >= 0)
		close(k->has);
	k->has = *fds;
	return 1;
}

static void
put_kept(struct far *k, unsigned which)
{
	static const char *const lines[] = { "lost closed\n", "back \n",
	    "full \n", "end up 1 down 2: closed\n", "lost no answer\n",
	    "full\nfull\nlost x\nback\n", "lost\n", "lost \x1b[2J\n", "end\n",
	    "lost x\nend x", "what\n", "\n", "full \nlost x\n", "back\nback\n",
	    "LOST x\n", "end up" };
	char b[LINE_LEN];

	if (which & 64) {
		memset(b, 'w', sizeof b);
		memcpy(b, "lost ", 5);
		b[sizeof b - 1] = which & 1 ? '\n' : 'w';
		put(k, b, sizeof b);
		return;
	}
	put_line(k, lines[which % LEN(lines)], which & 16);
}

static void
put_go(struct far *f, unsigned how, int resume)
{
	static const char *const words[] = { "", " key=ka", " key=kb",
	    " key=\x1b" };
	static const char *const froms[] = { " from=198.51.100.1:1000",
	    " from=[2001:db8::1]:2", "", " from=unix", " from=x:99999",
	    " from=198.51.100.1:1000", " from=198.51.100.2:7", " from=" };
	char b[LINE_LEN], more[80] = "";

	if (resume >= 0)
		snprintf(more, sizeof more, " resume=%s4567890123456789abcdef01"
		    " seq=%d", resume & 4 ? "0123abcd" : "00ff00ff", (resume &
		    3) + (resume >> 3 & 7) * 5);
	snprintf(b, sizeof b, "GO%s%s%s%s\n", how & 32 ? " id=1a" : "",
	    froms[how & 7], words[how >> 3 & 3], more);
	put_line(f, b, how & 128);
	if (how & 64)
		put_payload(f, how & 7);
}

static void
kid_end(unsigned which, int status)
{
	if ((int)which >= nkids || kids[which].gone)
		return;
	close(kids[which].fd);
	kids[which].fd = -1;
	kids[which].status = status;
	kids[which].gone = 1;
	on_sigchld();
}

/* The nth of those that are open, the newest first. */
static struct far *
nth_far(unsigned n, int sshd)
{
	int i;

	for (i = nfars - 1; i >= 0; i--)
		if (fars[i].fd >= 0 && (fars[i].kind == (sshd ? SSHD : NET) ||
		    (sshd && fars[i].kind == KEEPER)) && !n--)
			return &fars[i];
	return NULL;
}

static void
agent_step(unsigned what, unsigned with)
{
	struct far *f = nth_far(with & 3, 0), *s = nth_far(with & 3, 1);
	unsigned how = with >> 2;

	take_all();
	take_orders();
	what &= 15;
	if (f && what > 2)
		put_rest(f);
	if (what == 0) {
		no_memory_in = with & 15;
		no_process = with >> 4 & 1;
	} else if (what == 1 && norders)
		put_record(with % norders, with >> 4 & 1, 0);
	else if (what == 2 && norders)
		put_record(with % norders, with >> 4, next_byte());
	else if (what == 3 && f)
		put_word(f, how & 31, how & 32);
	else if (what == 4 && f)
		put_go(f, next_byte(), -1);
	else if (what == 5 && f)
		put_payload(f, how);
	else if (what == 6 && s && s->kind == KEEPER)
		put_kept(s, how);
	else if (what == 6 && s)
		put_payload(s, how);
	else if (what == 7 && f)
		end_badly(f, how);
	else if (what == 8 && s)
		end_badly(s, how);
	else if (what == 9 && how & 1)
		leave(helper);
	else if (what == 9)
		put_rest(helper);
	else if (what == 10 || what == 11)
		pass(with);
	else if (what == 12 && how & 7)
		(void)!write(changes, "x", 1);
	else if (what == 12)
		how & 8 ? on_agent_term() : redial();
	else if (what == 13)
		kid_end(with & 7, how & 1 ? 9 : (int)how << 8);
	else if (what == 14 && f)
		put_raw(f);
	else if (what == 15 && f && how & 2)
		put_go(f, next_byte(), how >> 2 | (how & 1) << 4);
	else if (what == 15 && f)
		put_line(f, "OK\n", how & 1);
}

static int
is_well(const struct far *f)
{
	return f && f->fd >= 0 && !f->shut && !f->stalled && !f->reset;
}

/* The agent itself says nothing behind READY, but that a session is gone, or
 * that it has a connection already, or its keeper has no ear for now. */
static void
check_refused(const struct far *f, size_t from, long seq)
{
	static const char gone[] = "ERROR gone ", busy[] = "ERROR busy ";
	const unsigned char *b = f->got + from;
	size_t n = f->ngot - from;
	struct frame fr;
	int r = frame_parse(b, n, &fr);

	if (!n)
		return;
	assert(r >= 0 && *b == F_CLOSE);
	if (!r)
		return;
	assert(n - r <= fr.len);
	n = n - r < 11 ? n - r : 11;
	assert((seq && !memcmp(b + r, gone, n)) || !memcmp(b + r, busy, n));
}

/* What has come to f behind its READY is the beginning of what an sshd has
 * sent, and in a session that is well all of it; and the other way round. */
static void
check_agent_far(const struct far *f, const struct far *live_sshd)
{
	const char *b = (const char *)f->got;
	char key[KEY_LEN + 1], line[LINE_LEN], token[TOKEN_LEN + 1];
	long seq;
	const struct far *s;
	size_t i = 0, go = behind_go(f, key), n;
	int r, ready = 0;

	while (!ready && (r = line_take(b + i, f->ngot - i, line)) > 0) {
		assert(word_is(line, "PROOF") || word_is(line, "PING") ||
		    word_is(line, "PONG") || word_is(line, "ERROR") ||
		    word_is(line, "SSHD") || word_is(line, "READY"));
		assert(!word_is(line, "PROOF") || (f->proved && !i));
		ready = word_is(line, "READY") != NULL;
		i += r;
	}
	assert(ready || !r);
	if (!ready && i < f->ngot)	/* no more of a line was taken */
		return;
	if (go && go_of(f, token, &seq, key)) {
		check_refused(f, i, seq);
		return;
	}
	for (r = 0, s = fars; s < fars + nfars; s++) {
		if (s->kind != SSHD || s->of != f)
			continue;
		n = f->ngot - i;
		assert(!s->ngot || (go && s->ngot <= f->nsent - go &&
		    !memcmp(s->got, f->sent + go, s->ngot)));
		r |= ready && n <= s->nsent && !memcmp(b + i, s->sent, n);
		if (s == live_sshd)
			assert(n == s->nsent && s->ngot == f->nsent - go);
	}
	assert(r || i == f->ngot);
}

static void
check_agent_fars(void)
{
	int i;

	for (i = 0; i < nfars; i++) {
		assert(fars[i].kind != SSHD || fars[i].of || !fars[i].ngot);
		if (fars[i].kind == NET)
			check_agent_far(&fars[i], NULL);
	}
}

static void
check_relays(void)
{
	struct far *f, *s;
	struct conn *c;
	int i;

	for (i = 0; i < nwatched; i++) {
		if (!(c = conn_of(i)) || c->phase != RELAY || c->sshd)
			continue;
		f = of_fd[c->io.fd];
		s = of_fd[c->end->to->io.fd];
		if (is_well(f) && is_well(s))
			check_agent_far(f, s);
	}
}

/* All that is under way arrives; then all far ends but the dialler leave, time
 * passes, and no session is left, nor anything that waits for one. */
static int
agent_end(void)
{
	int i, any = 0;

	assert(ending++ < END_TURNS);
	no_memory_in = 0;
	for (i = 0; i < nfars; i++)
		put_rest(&fars[i]);
	calm = take_all() ? 0 : calm + 1;
	for (i = 0; i < nwatched; i++)
		any |= watched[i]->bulk;
	if (calm == (any ? 8 : 3))
		check_relays();
	if (calm < (any ? 9 : 4))
		return 0;
	for (i = 0; i < nfars; i++)
		if (&fars[i] != helper)
			leave(&fars[i]);
	for (i = 0; i < nkids; i++)
		kid_end(i, 0);
	take_orders();
	now_ms += 3000;
	if (calm < 40)
		return 0;
	assert(!live.n && !held && !evictable.n);
	for (i = 0; i < nservers; i++)
		assert(!servers[i].parked);
	assert(nconns <= cfg.spare * nservers);
	return 1;
}

static void
on_step(struct io *io)
{
	unsigned what, with;

	check_agent();
	turn_at[0] = turn_at[1];
	turn_at[1] = reactor_now();
	io_again(io);
	if (!left) {
		if (agent_end())
			on_agent_term();
		return;
	}
	do {
		what = next_byte();
		with = next_byte();
		agent_step(what, with);
	} while (what & 128 && left);
}

/* A record of which the loop has a part goes on in the next input: it gets an
 * end that fits nobody. */
static void
finish_record(void)
{
	static char zeros[sizeof(struct dial)];
	struct io io = { .heap = -1 };
	size_t n = taken % sizeof zeros;
	int s[2];

	if (!n)
		return;
	assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s) == 0);
	assert(io_add(&io, s[1], on_dialled) == 0);
	assert(send(s[0], zeros, sizeof zeros - n, 0) ==
	    (ssize_t)(sizeof zeros - n));
	on_dialled(&io);
	assert(taken % sizeof zeros == 0);
	io_close(&io);
	close(s[0]);
}

static void
agent_clean_up(void)
{
	struct conn *c;
	int i;

	no_memory_in = 0;
	check_agent();
	assert(!live.n);
	for (i = 0; i < nservers; i++)
		memset(servers[i].slots, 0, sizeof servers[i].slots);
	for (i = 0; i < nwatched;)
		if ((c = conn_of(i))) {
			drop(c, "the end");
			i = 0;
		} else
			i++;
	assert(!nconns && !held && !asking.n && !evictable.n);
	for (i = 0; i < nservers; i++) {
		assert(!servers[i].parked);
		seen_del(&servers[i].retry);
	}
	for (i = 0; i < nfars; i++) {
		take(&fars[i]);
		leave(&fars[i]);
	}
	check_agent_fars();
	seen_close(&dialler);
	finish_record();
	seen_close(&watch);
	seen_del(&housekeeping);
	seen_del(&drained);
	io_del(&driver);
	close(changes);
	changes = -1;
	for (i = 0; i < nkids; i++)
		close_if(kids[i].fd);
	assert(!nwatched && !nadded);
	for (i = 0; i < BLOCKS; i++)
		assert(!blocks[i]);
}

static void
agent(unsigned how)
{
	unsigned more = next_byte();
	int i;

	is_agent = 1;
	cfg.about = cfg.node;
	cfg.spare = 1 + (how >> 3 & 1);
	cfg.sessions = how & 16 ? 1 : how & 32 ? 2 : 0;
	cfg.exec = how & 64 ? "x" : NULL;
	cfg.allow = how & 128 ? "ka" : NULL;
	cfg.connect = more & 1 ? "x" : NULL;
	cfg.verbose = more == 2;
	if (!(more & 4))
		memcpy(cfg.node, "nd", 3);
	if (how & 4)
		mine = key_ours;
	nservers = more & 16 ? 2 : 1;
	cfg.resume_for = more & 8 ? 0 : 600;
	for (i = 0; i < nservers; i++)
		assert(url_parse(i ? "b.example:80" : "srv.example:80",
		    &servers[i].url) == 0);
	looked = look_under_way = look_twice = 0;
	turn_at[0] = turn_at[1] = now_ms;
	next_id = 1;
	calm = norders = 0;
	taken = 0;
	assert(io_add(&driver, -1, on_step) == 0);
	io_again(&driver);
	if (setjmp(at_exit) == 0)
		exit_code = run_agent();
	else
		assert(!"an agent dies");
	assert(exit_code == (dialler.fd < 0 ? X_FAIL : 0));
	agent_clean_up();
}

/* start and end */

static unsigned char open_before[FDS];

static void
check_fds(int before)
{
	int i, is;

	for (i = 0; i < FDS; i++) {
		is = fcntl(i, F_GETFD) >= 0;
		if (before)
			open_before[i] = is;
		else if (is != open_before[i]) {
			fprintf(stderr, "descriptor %d\n", i);
			assert(!"a descriptor is left");
		}
	}
}

static void
prepare(void)
{
	memcpy(&cfg, born, sizeof cfg);
	memset(servers, 0, sizeof servers);
	srv = servers;
	nservers = 1;
	is_racing = 0;
	memset(&mine, 0, sizeof mine);
	memset(&dial, 0, sizeof dial);
	rows = NULL;
	nrows = asks = terminal = 0;
	asks_as = R_CLIENT;
	memset(of_fd, 0, sizeof of_fd);
	*tls_said = '\0';
	user.in = user.out = -1;
	user.stalled = user.nsent = user.ngot = 0;
	nfars = no_memory_in = next_dial = no_process = bad_lookup = 0;
	is_agent = is_client = ending = npolls = nkids = npairs = 0;
	nwatched = nadded = peak = 0;
	nonces = 0;
	helper = NULL;
	now_ms = (now_ms / 100000 + 2) * 100000;
	for (exit_code = 0; exit_code < (int)LEN(limited); exit_code++)
		limited[exit_code].n = 0;
	exit_code = -1;
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
	(void)argc, (void)argv;
	setenv("JOURNAL_STREAM", "1", 1);	/* no time in messages */
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	memcpy(born, &cfg, sizeof cfg);
	strcpy(key_ours.name, "ka");
	memset(key_ours.key, 'a', MAC_LEN);
	key_other = key_ours;
	memset(key_other.key, 'b', MAC_LEN);
	proc_start();
	printed = tmpfile();
	if ((null = open("/dev/null", O_RDWR)) < 0 || reactor_open() < 0 ||
	    !printed)
		abort();
	dup2(null, 0);
	dup2(null, 1);
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	unsigned how;

	program = data;
	left = n;
	prepare();
	check_fds(1);
	how = next_byte();
	if (how & 1)
		client(how);
	else
		agent(how);
	check_fds(0);
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

	LLVMFuzzerInitialize(&argc, &argv);
	for (i = 1; i < argc; i++) {
		if (!(f = fopen(argv[i], "rb"))) {
			perror(argv[i]);
			return 1;
		}
		LLVMFuzzerTestOneInput(buf, fread(buf, 1, sizeof buf, f));
		fclose(f);
	}
	fprintf(stderr, "%d inputs\n", argc - 1);
	return 0;
}
#endif
