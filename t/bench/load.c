/* load.c - both ends of a relay in one process, and the smallest relays
 *
 *	load bulk VIA [n=1] [way=up|down|both]	GB/s
 *	load pong VIA [n=1] [count=N]	64-byte round trips, closed loop
 *	load mixed VIA [n=16] [rate=100] [bulk=4]  paced, beside bulk
 *	load rate VIA [n=8] [count=N]	connect, a byte each way, close
 *	load shake VIA [key=FILE]	hello, proof if there is a key, refusal
 *	load urgent VIA [n=20]		rounds: one urgent byte in 3 MB
 *	load stall VIA			a receiver that stops reading
 *	load idle VIA [n=1000]		sessions, until a signal comes
 *	load park VIA [n=2000]		agents, until a signal comes
 *	load attack VIA kind=KIND [n=1000] [hosts=250]
 *					strangers, until a signal; see attacks[]
 *	load banner direct PORT | stdio CMD... | fdpass CMD... | none CMD...
 *					none: until CMD has ended, no banner
 *	load splice|rw PORT BACKEND	a minimal relay
 *	load pongs PORT			answers pings, the least that park needs
 *
 * VIA is tcp:PORT:BACKEND, a relay that dials BACKEND, where load listens;
 * mssh:PORT, a server to which load is agent and client; or
 * agent:PORT:BACKEND:NODE, a server and an agent that dials BACKEND.
 * s=SECONDS is how long to measure; pids=P,.. are the processes between the
 * ends, whose CPU time is read, their children's included.  Results are
 * name=value words; times are us, CPU is s.
 *
 * Both ends live in one thread, so that load has one CPU and the relay can
 * have another: left to the scheduler, one binary costs 0.1 s/GB or 0.3.  The
 * receiver discards without a copy (MSG_TRUNC), so that it is the relay that
 * is busy; what remains of the ends is the figure of "direct".
 */
#define _GNU_SOURCE
#include <sys/types.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../../proto.h"

#define LEN(a) (sizeof (a) / sizeof *(a))
#define SEC 1000000000LL
#define NONCE "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

enum {
	MSG = 64,		/* bytes */
	CHUNK = 65536,
	PIPE = 256 << 10,
	EVENTS = 64,
	WARM_MS = 100,		/* before a measurement: windows open */
	SPARE = 4,		/* that rate keeps parked for each client */
	DIALS = 256,		/* that park has under way at first */
	URGENT_LEN = 3000000,
	TAIL = 200
};

static struct {
	int n, rate, bulk, count, hosts;
	double s;
	char way[8], pids[256], key[256], kind[16];
} opt = { 0, 100, 4, 0, 250, 1, "up", "", "", "" };

static volatile sig_atomic_t stopped;
static char chunk[CHUNK];

static void
die(const char *fmt, ...)
{
	va_list ap;
	int e = errno;

	fputs("load: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	if (*fmt && fmt[strlen(fmt) - 1] == ':')
		fprintf(stderr, " %s", strerror(e));
	fputc('\n', stderr);
	exit(1);
}

static void
on_signal(int sig)
{
	(void)sig;
	stopped = 1;
}

static int64_t
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * SEC + ts.tv_nsec;
}

static void *
need(void *p)
{
	if (!p)
		die("no memory");
	return p;
}

/* ---- the relay's CPU time ---- */

static int family[4096];
static unsigned nfamily;

/* pid and, as they are now, its descendants */
static void
family_add(int pid)
{
	char path[64];
	FILE *f;
	int child;

	if (nfamily == LEN(family))
		return;
	family[nfamily++] = pid;
	snprintf(path, sizeof path, "/proc/%d/task/%d/children", pid, pid);
	if (!(f = fopen(path, "r")))
		return;
	while (fscanf(f, "%d", &child) == 1)
		family_add(child);
	fclose(f);
}

/* Time on a CPU so far.  schedstat has ns where stat has ticks of 10 ms. */
static double
cpu(void)
{
	char path[64];
	unsigned long long ns, sum = 0;
	unsigned i;
	FILE *f;

	for (i = 0; i < nfamily; i++) {
		snprintf(path, sizeof path, "/proc/%d/schedstat", family[i]);
		if (!(f = fopen(path, "r")))
			continue;
		if (fscanf(f, "%llu", &ns) == 1)
			sum += ns;
		fclose(f);
	}
	return (double)sum / SEC;
}

static double
cpu_start(void)
{
	const char *p = opt.pids;

	for (nfamily = 0; *p; p += strcspn(p, ","), p += *p == ',')
		family_add(atoi(p));
	return cpu();
}

/* ---- samples ---- */

static uint32_t *samples;
static size_t nsamples, room;

static void
sample(int64_t ns)
{
	if (nsamples == room) {
		room = room ? 2 * room : 65536;
		samples = need(realloc(samples, room * sizeof *samples));
	}
	samples[nsamples++] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
}

static int
by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static double
quantile(double q)
{
	return nsamples ? samples[(size_t)(q * (nsamples - 1))] / 1e3 :
	    INFINITY;
}

/* Prints and forgets them. */
static void
print_samples(const char *suffix)
{
	qsort(samples, nsamples, sizeof *samples, by_value);
	printf("p50%s=%.1f p99%s=%.1f p999%s=%.1f ", suffix, quantile(.5),
	    suffix, quantile(.99), suffix, quantile(.999));
	nsamples = 0;
}

/* ---- sockets ---- */

static void
nonblock(int fd)
{
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static int
set(int fd, int level, int name)
{
	int one = 1;

	return setsockopt(fd, level, name, &one, sizeof one);
}

static struct sockaddr_in
loopback(unsigned host, int port)
{
	struct sockaddr_in a;

	memset(&a, 0, sizeof a);
	a.sin_family = AF_INET;
	a.sin_port = htons((uint16_t)port);
	a.sin_addr.s_addr = htonl(0x7f000001 + (host << 8));
	return a;
}

/* From 127.x.x.1, since one address has ports for some 28,000 only.  -1:
 * see errno. */
static int
dial(unsigned host, int port, int flags)
{
	struct sockaddr_in to = loopback(0, port), from = loopback(host, 0);
	struct timeval patience = { 20, 0 };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

	if (fd < 0)
		die("socket:");
	set(fd, IPPROTO_TCP, TCP_NODELAY);
	set(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	if (bind(fd, (struct sockaddr *)&from, sizeof from) < 0)
		die("bind:");
	if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0 &&
	    errno != EINPROGRESS) {
		close(fd);
		return -1;
	}
	return fd;
}

static int
must_dial(unsigned host, int port)
{
	int fd = dial(host, port, 0);

	if (fd < 0)
		die("connect to port %d:", port);
	return fd;
}

static int
listen_on(int port)
{
	struct sockaddr_in a = loopback(0, port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	set(fd, SOL_SOCKET, SO_REUSEADDR);
	set(fd, IPPROTO_TCP, TCP_NODELAY);
	if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0 ||
	    listen(fd, 4096) < 0)
		die("listen on port %d:", port);
	return fd;
}

static void
put(int fd, const void *b, size_t n)
{
	const char *p = b;
	ssize_t r;

	for (; n; p += r, n -= (size_t)r)
		if ((r = send(fd, p, n, MSG_NOSIGNAL)) < 0)
			die("send:");
}

static void
say(int fd, const char *fmt, ...)
{
	char b[256];
	va_list ap;

	va_start(ap, fmt);
	put(fd, b, (size_t)vsnprintf(b, sizeof b, fmt, ap));
	va_end(ap);
}

/* Takes a line that begins with want, and not a byte more. */
static void
expect(int fd, const char *want)
{
	char b[600];
	size_t n = 0;

	while (n + 1 < sizeof b && recv(fd, b + n, 1, 0) == 1 &&
	    b[n] != '\n')
		n++;
	b[n] = '\0';
	if (strncmp(b, want, strlen(want)))
		die("no %s but: %s", want, b);
}

static int
epoll_of(void)
{
	int ep = epoll_create1(EPOLL_CLOEXEC);

	if (ep < 0)
		die("epoll_create1:");
	return ep;
}

static void
watch(int ep, int fd, unsigned events, void *ptr)
{
	struct epoll_event ev;

	ev.events = events;
	ev.data.ptr = ptr;
	if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) < 0)
		die("epoll_ctl:");
}

/* ---- what is measured, and how a pair of ends comes to be through it ---- */

static struct {
	int port;
	int lfd;		/* the backend, -1: we are the agent */
	int client;		/* the client's end says a hello */
	char node[65];
} via;

struct pair { int c, b; };	/* the client's end, the backend's */

static void
via_open(const char *s)
{
	int back = 0;

	via.lfd = -1;
	/* A name of its own for each process: what the one before left behind
	 * would be of another run, and the server would have to probe it. */
	snprintf(via.node, sizeof via.node, "load-%d", (int)getpid());
	if (sscanf(s, "agent:%d:%d:%64s", &via.port, &back, via.node) == 3 ||
	    sscanf(s, "mssh:%d", &via.port) == 1)
		via.client = 1;
	else if (sscanf(s, "tcp:%d:%d", &via.port, &back) != 2)
		die("%s is no VIA", s);
	if (back)
		via.lfd = listen_on(back);
}

static int
register_agent(int slot)
{
	int fd = must_dial(0, via.port);

	say(fd, "MSSH/2 agent %s run=%x slot=%d\n", via.node, getpid(), slot);
	return fd;
}

/* One after the other, so that no two can be mixed up.  The first byte is
 * the client's: a server may ask for it, and it shows that the way is open. */
static void
open_pair(struct pair *p)
{
	char c;

	p->b = -1;
	if (via.lfd < 0) {
		p->b = register_agent(0);
		expect(p->b, "OK");
	}
	p->c = must_dial(0, via.port);
	if (via.client)
		say(p->c, "MSSH/2 client %s\nX", via.node);
	else
		put(p->c, "X", 1);
	if (via.lfd < 0) {
		expect(p->b, "GO");
		say(p->b, "READY\n");
	} else if ((p->b = accept4(via.lfd, NULL, NULL, SOCK_CLOEXEC)) < 0)
		die("accept:");
	if (via.client)
		expect(p->c, "OK");
	if (recv(p->b, &c, 1, 0) != 1 || c != 'X')
		die("the first byte is lost");
	nonblock(p->c);
	nonblock(p->b);
}

static void
close_pair(struct pair *p)
{
	close(p->c);
	close(p->b);
}

/* ---- the engine: bulk flows and small messages in one loop ---- */

struct end {
	int fd;
	int echo;		/* the backend's: sends everything back */
	int64_t due;		/* paced: when the next is to be sent */
	size_t got;
	int64_t msg[MSG / 8];	/* [0]: when it was sent, or ought to be */
};

struct flow { int src, dst; };

static struct flow flows[256];
static int nflows;
static int ep_bulk = -1, ep_fast = -1;
static struct end *ends;
static int nends, paced;	/* paced: ns between two of one stream */
static uint64_t sent, received, offered, trips;

static void
flows_open(int n, const char *way)
{
	struct pair p;

	for (; n > 0; n--) {
		open_pair(&p);
		if (*way != 'd') {
			flows[nflows].src = p.c;
			flows[nflows++].dst = p.b;
		}
		/* epoll knows a descriptor once: with bulk both ways it is
		 * a source and a destination */
		if (*way != 'u') {
			flows[nflows].src = *way == 'b' ? dup(p.b) : p.b;
			flows[nflows++].dst = *way == 'b' ? dup(p.c) : p.c;
		}
	}
}

static void
flows_watch(int sources, int drains)
{
	int i;

	ep_bulk = epoll_of();
	for (i = 0; i < nflows; i++) {
		if (sources)
			watch(ep_bulk, flows[i].src, EPOLLOUT, &flows[i].src);
		if (drains)
			watch(ep_bulk, flows[i].dst, EPOLLIN, &flows[i].dst);
	}
}

static void
ends_open(int n)
{
	struct pair p;
	int i;

	ends = need(calloc((size_t)n * 2, sizeof *ends));
	ep_fast = epoll_of();
	for (i = 0; i < n; i++) {
		open_pair(&p);
		ends[2 * i].fd = p.c;
		ends[2 * i + 1].fd = p.b;
		ends[2 * i + 1].echo = 1;
		watch(ep_fast, p.c, EPOLLIN, &ends[2 * i]);
		watch(ep_fast, p.b, EPOLLIN, &ends[2 * i + 1]);
	}
	nends = 2 * n;
}

static void
bulk_turn(int max, int ms)
{
	struct epoll_event ev[EVENTS];
	ssize_t r;
	int i, n, *fd;

	n = epoll_wait(ep_bulk, ev, max, ms);
	for (i = 0; i < n; i++) {
		fd = ev[i].data.ptr;
		if (ev[i].events & EPOLLOUT) {
			r = send(*fd, chunk, CHUNK, MSG_NOSIGNAL);
			sent += r > 0 ? (uint64_t)r : 0;
		} else {
			r = recv(*fd, NULL, 1 << 20, MSG_TRUNC);
			received += r > 0 ? (uint64_t)r : 0;
		}
		if (!r || (r < 0 && errno != EAGAIN))
			die("a bulk stream broke:");
	}
}

static void
message_send(struct end *e, int64_t stamp)
{
	int64_t m[MSG / 8] = { stamp };

	offered++;
	if (send(e->fd, m, MSG, MSG_NOSIGNAL) != MSG && errno != EAGAIN)
		die("send:");
}

static void
message_echo(struct end *e)
{
	char b[4096];
	ssize_t r = recv(e->fd, b, sizeof b, 0);

	if (r > 0)
		put(e->fd, b, (size_t)r);
	else if (!r || errno != EAGAIN)
		die("a stream broke:");
}

static void
message_back(struct end *e, int64_t begin)
{
	ssize_t r = recv(e->fd, (char *)e->msg + e->got, MSG - e->got, 0);

	if (r <= 0) {
		if (r < 0 && errno == EAGAIN)
			return;
		die("a stream broke:");
	}
	if ((e->got += (size_t)r) < MSG)
		return;
	e->got = 0;
	if (e->msg[0] >= begin) {
		sample(now() - e->msg[0]);
		trips++;
	}
	if (!paced)
		message_send(e, now());
}

/* Sends what is due, and returns when the next will be. */
static int64_t
pace(int64_t t)
{
	int64_t next = INT64_MAX;
	int i;

	for (i = 0; i < nends; i += 2) {
		for (; ends[i].due <= t; ends[i].due += paced)
			message_send(&ends[i], ends[i].due);
		if (ends[i].due < next)
			next = ends[i].due;
	}
	return next;
}

/* Who watches the clock is never far away: bulk gets a few calls a turn. */
static void
fast_turn(int64_t begin, int64_t until)
{
	struct epoll_event ev[EVENTS];
	struct pollfd p = { ep_fast, POLLIN, 0 };
	struct timespec ts;
	struct end *e;
	int64_t next;
	int i, n;

	if (paced && (next = pace(now())) < until)
		until = next;
	n = epoll_wait(ep_fast, ev, EVENTS, 0);
	for (i = 0; i < n; i++) {
		if (!(e = ev[i].data.ptr))
			bulk_turn(4, 0);
		else if (e->echo)
			message_echo(e);
		else
			message_back(e, begin);
	}
	next = until - now();
	if (n > 0 || next <= 0)
		return;
	ts.tv_sec = next / SEC;		/* epoll_wait(2) knows ms only */
	ts.tv_nsec = next % SEC;
	ppoll(&p, 1, &ts, NULL);
}

static void
engine(double seconds)
{
	int64_t begin = now(), until = begin + (int64_t)(seconds * SEC);

	while (now() < until && (!opt.count || trips < (uint64_t)opt.count))
		if (ep_fast < 0)
			bulk_turn(EVENTS, 100);
		else
			fast_turn(begin, until);
}

/* Warms up, measures, prints what is common. */
static void
measure(void)
{
	int64_t t0;
	double c0, s;

	engine(opt.count ? 0 : WARM_MS / 1e3);
	c0 = cpu_start();
	sent = received = offered = trips = 0;
	nsamples = 0;
	t0 = now();
	engine(opt.s);
	s = (double)(now() - t0) / SEC;
	printf("cpu=%.6f s=%.4f gb=%.6f gbs=%.4f trips=%llu rate=%.0f "
	    "offered=%llu ", cpu() - c0, s, received / 1e9, received / 1e9 / s,
	    (unsigned long long)trips, trips / s, (unsigned long long)offered);
}

static int
do_bulk(void)
{
	flows_open(opt.n, opt.way);
	flows_watch(1, 1);
	measure();
	return 0;
}

static void
pong_start(void)
{
	int i;

	for (i = 0; i < nends; i += 2)
		message_send(&ends[i], now());
}

static int
do_pong(void)
{
	ends_open(opt.n);
	pong_start();
	measure();
	print_samples("");
	return 0;
}

/* The bulk streams alone, then with the paced ones beside them: by the same
 * loop, which costs something itself. */
static int
do_mixed(void)
{
	int64_t t;
	int i;

	flows_open(opt.bulk, "up");
	flows_watch(1, 1);
	ends_open(opt.n);
	watch(ep_fast, ep_bulk, EPOLLIN, NULL);
	paced = (int)(SEC / opt.rate);
	for (i = 0; i < nends; i += 2)
		ends[i].due = INT64_MAX;
	engine(WARM_MS / 1e3);
	t = now();
	received = 0;
	engine(opt.s / 2);
	printf("alone=%.4f ", received / 1e9 / ((double)(now() - t) / SEC));
	for (t = now(), i = 0; i < nends; i += 2)
		ends[i].due = t + (int64_t)paced * i / nends;
	measure();
	print_samples("");
	return 0;
}

/* A flow at full speed, until its receiver stops; what has been taken then
 * lies in buffers.  Beside it a ping-pong goes on. */
static int
do_stall(void)
{
	uint64_t was;

	flows_open(1, "up");
	flows_watch(1, 1);
	engine(opt.s / 4);
	epoll_ctl(ep_bulk, EPOLL_CTL_DEL, flows[0].dst, NULL);
	do {
		was = sent;
		engine(.2);
	} while (sent != was);
	printf("held=%llu ", (unsigned long long)(sent - received));
	ends_open(1);
	pong_start();
	measure();
	print_samples("");
	putchar('\n');
	fflush(stdout);
	while (!stopped)		/* somebody may look at the sockets */
		pause();
	return 0;
}

static int
do_idle(void)
{
	struct pair p;
	int i;

	for (i = 0; i < opt.n; i++)
		open_pair(&p);
	puts("open");
	fflush(stdout);
	while (!stopped)
		pause();
	return 0;
}

/* ---- urgent ---- */

/* Returns how many bytes came before the end, or before 200 ms of silence. */
static long
urgent_round(struct pair *p)
{
	long out = 0, in = 0, all = URGENT_LEN + TAIL, part;
	struct pollfd f[2] = { { p->c, POLLOUT, 0 }, { p->b, POLLIN, 0 } };
	ssize_t r;

	set(p->b, SOL_SOCKET, SO_OOBINLINE);
	while (poll(f, 2, 200) > 0) {
		if (f[0].revents) {
			part = out < URGENT_LEN / 2 ? URGENT_LEN / 2 - out :
			    out < URGENT_LEN ? URGENT_LEN - out : all - out;
			r = send(p->c, chunk, part < CHUNK ? (size_t)part :
			    CHUNK, MSG_NOSIGNAL);
			if (r < 0 && errno != EAGAIN)
				break;
			out += r > 0 ? r : 0;
			if (r > 0 && out == URGENT_LEN / 2)
				send(p->c, "!", 1, MSG_OOB | MSG_NOSIGNAL);
			if (out == all) {
				shutdown(p->c, SHUT_WR);
				f[0].fd = -1;
			}
		}
		if (!f[1].revents)
			continue;
		if ((r = recv(p->b, NULL, 1 << 20, MSG_TRUNC)) <= 0)
			break;
		in += r;
	}
	return in;
}

static int
do_urgent(void)
{
	int i, lost = 0, spins = 0;
	struct pair p;
	double c;

	for (i = 0; i < opt.n; i++) {
		open_pair(&p);
		lost += urgent_round(&p) < URGENT_LEN + TAIL;
		c = cpu_start();
		poll(NULL, 0, 60);
		spins += cpu() - c > .03;
		close_pair(&p);
	}
	printf("lost=%d spins=%d ", lost, spins);
	return 0;
}

/* ---- rate ---- */

struct visit {
	int fd, agent, up, slot;
	int64_t since;
	size_t len;
	char b[600];
};

static int ep;
static unsigned long sessions, failures, all;

static void
visit_add(int fd, int agent, int slot)
{
	struct visit *v = need(calloc(1, sizeof *v));

	v->fd = fd;
	v->agent = agent;
	v->slot = slot;
	v->since = now();
	nonblock(fd);
	watch(ep, fd, EPOLLIN, v);
}

static void
visit_park(int slot)
{
	visit_add(register_agent(slot), 1, slot);
}

static void
visit_client(void)
{
	int64_t t = now();
	static unsigned i;
	int fd = must_dial(i++ % 16, via.port);
	struct visit *v;

	if (via.client)
		say(fd, "MSSH/2 client %s\nX", via.node);
	else
		put(fd, "X", 1);
	v = need(calloc(1, sizeof *v));
	v->fd = fd;
	v->since = t;
	nonblock(fd);
	watch(ep, fd, EPOLLIN, v);
}

static void
visit_end(struct visit *v)
{
	close(v->fd);
	free(v);
}

/* The session is over for the client when the byte has come back. */
static void
visit_answer(struct visit *v)
{
	char *eol = via.client ? memchr(v->b, '\n', v->len) : v->b;

	if (via.client && (!eol || eol + 1 == v->b + v->len))
		return;
	if (via.client && strncmp(v->b, "OK", 2))
		failures++;
	else {
		sample(now() - v->since);
		sessions++;
		all++;
	}
	visit_end(v);
	visit_client();
}

/* An agent dials the next spare when it is called, as mssh's does. */
static void
visit_called(struct visit *v)
{
	char *eol;

	if (via.lfd >= 0) {
		put(v->fd, "Y", 1);
		v->up = 1;
		return;
	}
	while (!v->up && (eol = memchr(v->b, '\n', v->len))) {
		if (!strncmp(v->b, "GO ", 3)) {
			put(v->fd, "READY\nY", 7);
			v->up = 1;
			visit_park(v->slot);
		} else if (strncmp(v->b, "OK", 2))
			die("no agent: %.60s", v->b);
		v->len -= (size_t)(++eol - v->b);
		memmove(v->b, eol, v->len);
	}
}

static void
visit_read(struct visit *v)
{
	ssize_t r = recv(v->fd, v->b + v->len, sizeof v->b - v->len, 0);

	if (r <= 0) {
		if (r < 0 && errno == EAGAIN)
			return;
		if (!v->agent) {
			failures++;
			visit_client();
		} else if (!v->up && via.lfd < 0)
			visit_park(v->slot);
		visit_end(v);
		return;
	}
	v->len += v->up ? 0 : (size_t)r;
	if (!v->agent)
		visit_answer(v);
	else if (!v->up)
		visit_called(v);
}

static void
visits(double seconds)
{
	struct epoll_event ev[EVENTS];
	int64_t until = now() + (int64_t)(seconds * SEC);
	int i, n, fd;

	while (now() < until && (!opt.count || all < (unsigned)opt.count)) {
		n = epoll_wait(ep, ev, EVENTS, 100);
		for (i = 0; i < n; i++)
			if (ev[i].data.ptr)
				visit_read(ev[i].data.ptr);
			else if ((fd = accept(via.lfd, NULL, NULL)) >= 0)
				visit_add(fd, 1, 0);
	}
}

static int
do_rate(void)
{
	int i;
	int64_t t0;
	double c0, s;

	ep = epoll_of();
	if (via.lfd >= 0)
		watch(ep, via.lfd, EPOLLIN, NULL);
	else
		for (i = 0; i < SPARE * opt.n; i++)
			visit_park(i);
	for (i = 0; i < opt.n; i++)
		visit_client();
	visits(WARM_MS / 1e3);
	sessions = failures = 0;
	nsamples = 0;
	c0 = cpu_start();
	t0 = now();
	visits(opt.s);
	s = (double)(now() - t0) / SEC;
	printf("sessions=%lu rate=%.0f failures=%lu all=%lu cpu=%.6f s=%.4f ",
	    sessions, sessions / s, failures, all, cpu() - c0, s);
	print_samples("");
	return 0;
}

/* ---- shake: what a peer costs before it is anybody ---- */

static struct secret secret;

static void
secret_load(const char *path)
{
	char b[KEYS_LEN];
	const char *why = "cannot be read";
	FILE *f = fopen(path, "r");

	if (!f || !fgets(b, sizeof b, f))
		die("%s %s", path, why);
	b[strcspn(b, "\n")] = '\0';
	if (secret_parse(b, &secret, &why) < 0)
		die("%s: %s", path, why);
	fclose(f);
}

/* Reads one line, and a byte more only if the other side speaks too soon. */
static void
line_of(int fd, char b[LINE_LEN])
{
	ssize_t r = recv(fd, b, LINE_LEN - 1, 0);

	b[r > 0 ? r : 0] = '\0';
	b[strcspn(b, "\n")] = '\0';
}

/* A client of a node that is offline; the nonce need not be secret. */
static void
shake(void)
{
	unsigned char mine[MAC_LEN] = "load", theirs[MAC_LEN], mac[MAC_LEN];
	char b[LINE_LEN], w[B64_LEN + 1];
	int fd = must_dial(sessions % 16, via.port);

	if (!*opt.key)
		say(fd, "MSSH/2 client load\n");
	else {
		memcpy(mine + 8, &sessions, sizeof sessions);
		b64_write(mine, w);
		say(fd, "MSSH/2 client load key=%s nonce=%s\n", secret.name,
		    w);
		line_of(fd, b);
		if (word_get(b, "nonce", w, sizeof w) < 0 ||
		    b64_parse(w, theirs) < 0)
			die("no CHALLENGE but: %s", b);
		proof_mac(&secret, LABEL_PEER, R_CLIENT, "load", mine, theirs,
		    mac);
		b64_write(mac, w);
		say(fd, "PROOF mac=%s\n", w);
	}
	line_of(fd, b);
	if (strncmp(b, "ERROR offline", 13))
		die("no ERROR offline but: %s", b);
	close(fd);
	sessions++;
}

static int
do_shake(void)
{
	int64_t until, t0;
	double c0, s;

	if (*opt.key)
		secret_load(opt.key);
	until = now() + WARM_MS * 1000000LL;
	while (now() < until)
		shake();
	sessions = 0;
	c0 = cpu_start();
	t0 = now();
	until = t0 + (int64_t)(opt.s * SEC);
	while (now() < until)
		shake();
	s = (double)(now() - t0) / SEC;
	printf("sessions=%lu rate=%.0f cpu=%.6f s=%.4f ", sessions,
	    sessions / s, cpu() - c0, s);
	return 0;
}

/* ---- park: agents as they are (mssh-proto(7), Registering) ---- */

enum { DOWN, DIALING, GREETING, PARKED, PINGED };

static struct agent {
	int fd;
	uint8_t state, pinged;
	uint16_t bound;		/* ms, of the backoff */
	int64_t due, since;
} *agents;

static int nparked, ndialing;

static void
agent_enter(struct agent *a, int state, int64_t due)
{
	nparked += (state >= PARKED) - (a->state >= PARKED);
	ndialing += (state == DIALING || state == GREETING) -
	    (a->state == DIALING || a->state == GREETING);
	a->state = (uint8_t)state;
	a->due = due;
}

/* One that held is dialled again at once, others after a random time. */
static void
agent_down(struct agent *a)
{
	int64_t t = now(), delay = 0;

	if (a->fd >= 0)
		close(a->fd);
	a->fd = -1;
	if (a->state >= PARKED && t - a->since > 5 * SEC)
		a->bound = 500;
	else {
		delay = (int64_t)(drand48() * a->bound * 1e6);
		a->bound = a->bound > 7500 ? 15000 : a->bound * 2;
	}
	agent_enter(a, DOWN, t + delay);
}

static void
agent_dial(struct agent *a, int i)
{
	a->fd = dial(1 + (unsigned)i / 250, via.port, SOCK_NONBLOCK);
	agent_enter(a, DIALING, now() + 10 * SEC);
	if (a->fd < 0)
		agent_down(a);
	else
		watch(ep, a->fd, EPOLLIN | EPOLLOUT | EPOLLET, a);
}

/* A server that is killed resets what waits to be accepted, maybe between the
 * event and this: that is one connection lost, as any other. */
static int
agent_hello(struct agent *a)
{
	char b[64];
	int n = snprintf(b, sizeof b, "MSSH/2 agent park-%d run=%x slot=0\n",
	    (int)(a - agents), getpid());

	if (send(a->fd, b, (size_t)n, MSG_NOSIGNAL) != n)
		return -1;
	agent_enter(a, GREETING, now() + 10 * SEC);
	return 0;
}

static void
agent_event(struct agent *a, unsigned events)
{
	char b[256];
	ssize_t r;

	if (events & (EPOLLERR | EPOLLHUP) || (a->state == DIALING &&
	    events & EPOLLOUT && agent_hello(a) < 0)) {
		agent_down(a);
		return;
	}
	if (!(events & EPOLLIN))
		return;
	r = recv(a->fd, b, sizeof b - 1, 0);
	if (r < 0 && errno == EAGAIN)
		return;
	b[r > 0 ? r : 0] = '\0';
	if (r <= 0 || (a->state == GREETING && strncmp(b, "OK", 2))) {
		agent_down(a);
		return;
	}
	if (a->state == GREETING) {
		/* A first ping costs more than all that follow, and shall
		 * be over soon; then they lie anywhere in 25 s. */
		a->since = now();
		a->pinged = 0;
		agent_enter(a, PARKED, a->since + (int64_t)(drand48() * 2 *
		    SEC));
	} else if (a->state == PINGED) {
		agent_enter(a, PARKED, now() + (int64_t)(25 * SEC *
		    (a->pinged ? 1 : drand48())));
		a->pinged = 1;
	}
}

static void
agents_due(int n, int max)
{
	int64_t t = now();
	int i;

	for (i = 0; i < n; i++) {
		if (agents[i].due > t)
			continue;
		if (agents[i].state == PARKED) {
			send(agents[i].fd, "PING\n", 5, MSG_NOSIGNAL);
			agent_enter(&agents[i], PINGED, t + 4 * SEC);
		} else if (agents[i].state != DOWN)
			agent_down(&agents[i]);
		else if (ndialing < max)
			agent_dial(&agents[i], i);
	}
}

static int
do_park(void)
{
	struct epoll_event ev[EVENTS];
	int i, k, n = opt.n, full = 0, max = DIALS;
	int64_t t = now(), look = 0;

	ep = epoll_of();
	agents = need(calloc((size_t)n, sizeof *agents));
	for (i = 0; i < n; i++) {
		agents[i].fd = -1;
		agents[i].bound = 500;
	}
	while (!stopped) {
		/* a full look costs, so it is had 50 times a second only */
		if (now() - look > SEC / 50 || (!full && max == DIALS)) {
			agents_due(n, max);
			look = now();
		}
		k = epoll_wait(ep, ev, EVENTS, 10);
		for (i = 0; i < k; i++)
			agent_event(ev[i].data.ptr, ev[i].events);
		if (full || nparked < n)
			continue;
		full = 1;
		max = INT32_MAX;
		printf("registered=%d s=%.3f\n", n, (double)(now() - t) / SEC);
		fflush(stdout);
	}
	return 0;			/* all are closed at once */
}

/* ---- attack: nobody's friends, n at once and always n ---- */

static const struct attack {
	const char *name;
	const char *says[3];	/* when connected, in turn */
	int proof;		/* answers what it hears: wrongly */
	int64_t stay;		/* ns before it leaves, 0: when sent away */
	int flash;		/* does not even wait to be accepted */
} attacks[] = {
	{ "silent", { "", "", "" }, 0, 0, 0 },
	{ "proof", { "MSSH/2 client web key=nobody nonce=" NONCE "\n",
	    "MSSH/2 agent web run=1 slot=0 key=nobody nonce=" NONCE "\n",
	    "MSSH/2 client web key=load nonce=" NONCE "\n" }, 1, 0, 0 },
	/* reads no answer and leaves late: a refusal waits for its end */
	{ "stay", { "MSSH/2 client web\n", "?\n", "CLIENT web\n" }, 0,
	    3 * SEC / 2, 0 },
	{ "garbage", { "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello",
	    "GET / HTTP/1.1\r\nHost: web\r\n\r\n", "\xff\xfe nonsense\n" },
	    0, 0, 0 },
	{ "flash", { "", "", "" }, 0, 0, 1 },
}, *attack;

static struct stranger {
	int fd, up, answered;
	int64_t since;
	struct stranger *next;		/* if free */
} *strangers, *vacant;

static unsigned long dialled, made;

/* An RST, where it is the first to leave: its port is free at once. */
static void
stranger_end(struct stranger *s, int first)
{
	struct linger l = { 1, 0 };

	if (first)
		setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	close(s->fd);
	s->fd = -1;
	s->next = vacant;
	vacant = s;
}

static int
stranger_begin(struct stranger *s)
{
	int fd = dial(1 + (unsigned)(dialled++ % (unsigned)opt.hosts),
	    via.port, SOCK_NONBLOCK);

	if (fd < 0)
		return -1;
	vacant = s->next;
	s->fd = fd;
	s->up = s->answered = 0;
	s->since = now();
	watch(ep, fd, EPOLLIN | EPOLLOUT | EPOLLET, s);
	return 0;
}

static void
stranger_up(struct stranger *s)
{
	const char *b = attack->says[made++ % LEN(attack->says)];

	s->up = 1;
	if (*b)
		send(s->fd, b, strlen(b), MSG_NOSIGNAL);
	if (attack->flash)
		stranger_end(s, 1);
}

static void
stranger_event(struct stranger *s, unsigned events)
{
	static const char proof[] = "PROOF mac=" NONCE "\n";
	char b[LINE_LEN];
	ssize_t r;

	if (!s->up && events & (EPOLLERR | EPOLLHUP)) {
		stranger_end(s, 1);
		return;
	}
	if (!s->up && events & EPOLLOUT)
		stranger_up(s);
	if (s->fd < 0 || attack->stay || !(events & EPOLLIN))
		return;
	while ((r = recv(s->fd, b, sizeof b, 0)) > 0)
		if (attack->proof && !s->answered++)
			send(s->fd, proof, sizeof proof - 1, MSG_NOSIGNAL);
	if (r == 0 || errno != EAGAIN)
		stranger_end(s, 0);
}

static void
strangers_leave(int64_t t)
{
	int i;

	for (i = 0; i < opt.n; i++)
		if (strangers[i].fd >= 0 && strangers[i].up &&
		    t - strangers[i].since > attack->stay)
			stranger_end(&strangers[i], 1);
}

static int
do_attack(void)
{
	struct epoll_event ev[EVENTS];
	int64_t begin = now(), look = begin, t;
	int i, k, said = 0;

	for (i = 0; i < (int)LEN(attacks); i++)
		if (!strcmp(opt.kind, attacks[i].name))
			attack = &attacks[i];
	if (!attack)
		die("no such attack: %s", opt.kind);
	ep = epoll_of();
	strangers = need(calloc((size_t)opt.n, sizeof *strangers));
	for (i = 0; i < opt.n; i++) {
		strangers[i].fd = -1;
		strangers[i].next = vacant;
		vacant = &strangers[i];
	}
	while (!stopped) {
		for (i = 0; i < EVENTS && vacant; i++)
			if (stranger_begin(vacant) < 0)
				break;
		k = epoll_wait(ep, ev, EVENTS, vacant ? 0 : 10);
		for (i = 0; i < k; i++)
			stranger_event(ev[i].data.ptr, ev[i].events);
		t = now();
		if (t - look < SEC / 50)
			continue;
		look = t;
		if (attack->stay)
			strangers_leave(t);
		if (!said && (!vacant || t - begin > SEC / 2)) {
			puts("begun");
			fflush(stdout);
			said = 1;
		}
	}
	printf("made=%lu dialled=%lu s=%.3f", made, dialled,
	    (double)(now() - begin) / SEC);
	return 0;
}

/* ---- the time to a banner ---- */

static int
pass_receive(int s)
{
	union { char b[CMSG_SPACE(sizeof(int))]; struct cmsghdr h; } u;
	char c;
	struct iovec iov = { &c, 1 };
	struct msghdr m;
	int fd = -1;

	memset(&m, 0, sizeof m);
	m.msg_iov = &iov;
	m.msg_iovlen = 1;
	m.msg_control = u.b;
	m.msg_controllen = sizeof u.b;
	if (recvmsg(s, &m, 0) == 1 && CMSG_FIRSTHDR(&m))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
	if (fd < 0)
		die("no descriptor was passed");
	return fd;
}

/* Starts argv with one end of a socket pair as its input and output. */
static pid_t
spawn(char **argv, int *fd)
{
	int s[2];
	pid_t pid = -1;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s) < 0 ||
	    (pid = fork()) < 0)
		die("fork:");
	if (!pid) {
		dup2(s[1], 0);
		dup2(s[1], 1);
		execvp(argv[0], argv);
		die("%s:", argv[0]);
	}
	close(s[1]);
	*fd = s[0];
	return pid;
}

/* As ssh does it: it speaks as soon as it can, and waits for the other. */
static int
do_banner(char **argv)
{
	int64_t t = now();
	int fd = -1, child = -1;
	pid_t pid = -1;
	char c = 'S';

	if (!argv[0] || !argv[1])
		die("banner direct|stdio|fdpass|none ...");
	if (*argv[0] == 'd')
		fd = must_dial(0, atoi(argv[1]));
	else {
		pid = spawn(argv + 1, &child);
		fd = *argv[0] == 'f' ? pass_receive(child) : child;
	}
	if (*argv[0] != 'n')
		put(fd, "SSH-2.0-load\r\n", 14);
	if (recv(fd, &c, 1, 0) != (*argv[0] != 'n') || c != 'S')
		die("no banner");
	printf("us=%.1f ", (double)(now() - t) / 1e3);
	close(fd);
	if (pid > 0) {
		kill(pid, SIGTERM);
		waitpid(pid, NULL, 0);
	}
	return 0;
}

/* ---- minimal relays ---- */

struct half {
	int fd, p[2];
	struct half *peer;
	struct duo *duo;
	char *b;
	size_t off, held;
	int hup, fin;
};

struct duo { struct half h[2]; struct duo *next; int dead; };

static int splicing;

static ssize_t
half_read(struct half *h)
{
	return splicing ? splice(h->fd, NULL, h->p[1], NULL, PIPE,
	    SPLICE_F_MOVE | SPLICE_F_NONBLOCK) : read(h->fd, h->b, CHUNK);
}

static ssize_t
half_write(struct half *h)
{
	return splicing ? splice(h->p[0], NULL, h->peer->fd, NULL, h->held,
	    SPLICE_F_MOVE | SPLICE_F_NONBLOCK) :
	    write(h->peer->fd, h->b + h->off, h->held);
}

/* Everything that h has to say.  A short read(2) has emptied the socket, a
 * short splice(2) need not have. */
static int
pump(struct half *h)
{
	size_t last = CHUNK;
	ssize_t n;

	for (;;) {
		for (; h->held; h->held -= (size_t)n, h->off += (size_t)n)
			if ((n = half_write(h)) < 0)
				return errno == EAGAIN ? 0 : -1;
		if (h->fin || (last < CHUNK && !splicing && !h->hup))
			return 0;
		if ((n = half_read(h)) < 0)
			return errno == EAGAIN ? 0 : -1;
		if (n == 0) {
			h->fin = 1;
			shutdown(h->peer->fd, SHUT_WR);
		}
		h->held = last = (size_t)n;
		h->off = 0;
	}
}

static void
duo_open(int fd, int backend)
{
	struct duo *d;
	int i, to = dial(0, backend, 0);

	if (to < 0) {
		close(fd);
		return;
	}
	d = need(calloc(1, sizeof *d));
	d->h[0].fd = fd;
	d->h[1].fd = to;
	for (i = 0; i < 2; i++) {
		d->h[i].peer = &d->h[!i];
		d->h[i].duo = d;
		nonblock(d->h[i].fd);
		if (!splicing)
			d->h[i].b = need(malloc(CHUNK));
		else if (pipe2(d->h[i].p, O_NONBLOCK) < 0)
			die("pipe:");
		else
			fcntl(d->h[i].p[0], F_SETPIPE_SZ, PIPE);
	}
	for (i = 0; i < 2; i++)
		watch(ep, d->h[i].fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP |
		    EPOLLET, &d->h[i]);
}

static void
duo_close(struct duo *d)
{
	int i;

	for (i = 0; i < 2; i++) {
		close(d->h[i].fd);
		free(d->h[i].b);
		if (splicing) {
			close(d->h[i].p[0]);
			close(d->h[i].p[1]);
		}
	}
	free(d);
}

/* No call that an event did not ask for: h is read when it is readable, its
 * peer is only when bytes waited for h to be writable. */
static int
half_event(struct half *h, unsigned events)
{
	int r = 0;

	h->hup |= events & EPOLLRDHUP;
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		r = pump(h);
	if (events & EPOLLOUT && h->peer->held)
		r |= pump(h->peer);
	return r < 0 || (h->fin && h->peer->fin && !h->held &&
	    !h->peer->held);
}

static int
relay(int port, int backend)
{
	struct epoll_event ev[EVENTS];
	struct duo *d, *dead;
	struct half *h;
	int i, n, fd, l = listen_on(port);

	ep = epoll_of();
	watch(ep, l, EPOLLIN, NULL);
	while (!stopped) {
		n = epoll_wait(ep, ev, EVENTS, -1);
		for (dead = NULL, i = 0; i < n; i++) {
			if (!(h = ev[i].data.ptr)) {
				if ((fd = accept(l, NULL, NULL)) >= 0)
					duo_open(fd, backend);
			} else if (!h->duo->dead &&
			    half_event(h, ev[i].events)) {
				h->duo->dead = 1;
				h->duo->next = dead;
				dead = h->duo;
			}
		}
		for (; (d = dead); duo_close(d))
			dead = d->next;
	}
	return 0;
}

/* ---- the least that answers pings ---- */

/* Where the agent is gone, the next event says so. */
static void
pongs_answer(int fd)
{
	char b[512];
	ssize_t n = recv(fd, b, sizeof b, 0);

	if (n > 0 && *b == 'P')
		send(fd, "PONG\n", 5, MSG_NOSIGNAL);
	else if (n > 0)
		send(fd, "OK\n", 3, MSG_NOSIGNAL);
	else if (n == 0 || errno != EAGAIN)
		close(fd);
}

static int
pongs(int port)
{
	struct epoll_event ev[EVENTS];
	int i, n, fd, l = listen_on(port);

	ep = epoll_of();
	watch(ep, l, EPOLLIN, (void *)(intptr_t)l);
	while (!stopped) {
		n = epoll_wait(ep, ev, EVENTS, -1);
		for (i = 0; i < n; i++) {
			fd = (int)(intptr_t)ev[i].data.ptr;
			if (fd != l)
				pongs_answer(fd);
			else if ((fd = accept4(l, NULL, NULL,
			    SOCK_NONBLOCK)) >= 0)
				watch(ep, fd, EPOLLIN | EPOLLET,
				    (void *)(intptr_t)fd);
		}
	}
	return 0;
}

/* ---- main ---- */

static const struct {
	const char *name;
	int (*fn)(void);
	int n;
} works[] = {
	{ "bulk", do_bulk, 1 },
	{ "pong", do_pong, 1 },
	{ "mixed", do_mixed, 16 },
	{ "rate", do_rate, 8 },
	{ "shake", do_shake, 1 },
	{ "urgent", do_urgent, 20 },
	{ "stall", do_stall, 1 },
	{ "idle", do_idle, 1000 },
	{ "park", do_park, 2000 },
	{ "attack", do_attack, 1000 }
};

static void
option(const char *a)
{
	if (sscanf(a, "n=%d", &opt.n) != 1 &&
	    sscanf(a, "s=%lf", &opt.s) != 1 &&
	    sscanf(a, "rate=%d", &opt.rate) != 1 &&
	    sscanf(a, "bulk=%d", &opt.bulk) != 1 &&
	    sscanf(a, "count=%d", &opt.count) != 1 &&
	    sscanf(a, "hosts=%d", &opt.hosts) != 1 &&
	    sscanf(a, "way=%7s", opt.way) != 1 &&
	    sscanf(a, "kind=%15s", opt.kind) != 1 &&
	    sscanf(a, "key=%255s", opt.key) != 1 &&
	    sscanf(a, "pids=%255s", opt.pids) != 1 && strcmp(a, "pids="))
		die("%s: no such option", a);
}

static void
prepare(void)
{
	struct sigaction sa;
	struct rlimit r;

	memset(&sa, 0, sizeof sa);
	sa.sa_handler = on_signal;
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
	getrlimit(RLIMIT_NOFILE, &r);
	r.rlim_cur = r.rlim_max;
	setrlimit(RLIMIT_NOFILE, &r);
	prctl(PR_SET_TIMERSLACK, 1UL);	/* paced messages leave on time */
	srand48((long)getpid());
}

int
main(int argc, char **argv)
{
	size_t i;
	int k, r;

	prepare();
	splicing = argc > 3 && !strcmp(argv[1], "splice");
	if (argc > 3 && (splicing || !strcmp(argv[1], "rw")))
		return relay(atoi(argv[2]), atoi(argv[3]));
	if (argc > 2 && !strcmp(argv[1], "pongs"))
		return pongs(atoi(argv[2]));
	if (argc > 2 && !strcmp(argv[1], "banner"))
		return do_banner(argv + 2);
	for (i = 0; argc > 2 && i < LEN(works); i++) {
		if (strcmp(argv[1], works[i].name))
			continue;
		opt.n = works[i].n;
		for (k = 3; k < argc; k++)
			option(argv[k]);
		via_open(argv[2]);
		r = works[i].fn();
		putchar('\n');
		return r;
	}
	die("usage stands at the top of t/bench/load.c");
	return 1;
}
