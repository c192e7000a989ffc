/* gen.c - load for a relay: plays both ends of it, so that only what lies
 * between is measured; and the simplest relays, to stand for the limit
 *
 *	gen bulk LINK STREAMS up|down|both SECONDS     GB/s
 *	gen pong LINK STREAMS SECONDS                  us: p50 p99 p99.9, rt/s
 *	gen mixed LINK SECONDS         the same beside 4 bulk streams, and GB/s
 *	gen mixed0 LINK SECONDS        as good as alone: 1 stream beside them
 *	gen rate LINK CLIENTS SECONDS                  sessions
 *	gen idle LINK COUNT                            until a signal comes
 *	gen urgent LINK ROUNDS                         losses
 *	gen stall LINK                                 bytes taken, us beside it
 *	gen park PORT COUNT            agents that ping, and come back; a line
 *	                               for every time all are there or gone
 *	gen splice|rw PORT BACKEND     a minimal relay
 *
 * LINK is tcp:PORT:BACKEND, a relay that connects PORT with BACKEND, where
 * gen listens; or mssh:PORT, a server to which gen is client and agent.
 */
#define _GNU_SOURCE
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 65536, MSG = 64, PIPE = 256 << 10, SAMPLES = 1 << 21 };

struct link {
	int port, backend;		/* backend 0: mssh */
	int lfd;
	char node[32];
	unsigned run;
};

struct pair { int c, n; };		/* the client's end and the node's */

static volatile sig_atomic_t stopped;
static char buf[1 << 20];
static uint32_t samples[SAMPLES];
static size_t nsamples;

static void
die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("gen: ", stderr);
	vfprintf(stderr, fmt, ap);
	fprintf(stderr, ": %s\n", strerror(errno));
	va_end(ap);
	exit(1);
}

static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void
on_signal(int sig)
{
	(void)sig;
	stopped = 1;
}

/* Whoever measures the relay begins now. */
static void
ready(void)
{
	puts("ready");
	fflush(stdout);
}

/* A child that does not outlive us, however we end. */
static int
child(void)
{
	int pid = fork();

	if (pid == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

static void
nonblock(int fd)
{
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static void
nodelay(int fd)
{
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static struct sockaddr_in
loopback(unsigned host, int port)
{
	struct sockaddr_in a;

	memset(&a, 0, sizeof a);
	a.sin_family = AF_INET;
	a.sin_addr.s_addr = htonl(host);
	a.sin_port = htons((uint16_t)port);
	return a;
}

/* Every 20,000 connections come from an address of their own. */
static int
dial(int port, int i)
{
	struct sockaddr_in to = loopback(0x7f000001, port), from;
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	from = loopback(0x7f000101 + (unsigned)(i / 20000) * 256, 0);
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
	if (i >= 0 && bind(fd, (struct sockaddr *)&from, sizeof from) < 0)
		die("bind");
	if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0) {
		close(fd);
		return -1;
	}
	nodelay(fd);
	return fd;
}

static int
must_dial(int port)
{
	int fd = dial(port, -1);

	if (fd < 0)
		die("connect to port %d", port);
	return fd;
}

static int
listener(int port)
{
	struct sockaddr_in a = loopback(0x7f000001, port);
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	nodelay(fd);
	if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0 ||
	    listen(fd, 4096) < 0)
		die("listen on port %d", port);
	return fd;
}

static void
put(int fd, const void *b, size_t n)
{
	if (send(fd, b, n, MSG_NOSIGNAL) != (ssize_t)n)
		die("send");
}

/* Reads one line byte by byte, so that nothing behind it is taken. */
static int
line(int fd, const char *want)
{
	char b[600];
	size_t n = 0;

	while (n < sizeof b - 1 && recv(fd, b + n, 1, 0) == 1)
		if (b[n++] == '\n')
			break;
	b[n] = '\0';
	return strncmp(b, want, strlen(want)) ? -1 : 0;
}

static struct link
link_of(const char *s)
{
	struct link l;

	memset(&l, 0, sizeof l);
	l.run = (unsigned)getpid();
	snprintf(l.node, sizeof l.node, "bench%u", l.run);
	if (sscanf(s, "tcp:%d:%d", &l.port, &l.backend) == 2)
		l.lfd = listener(l.backend);
	else if (sscanf(s, "mssh:%d", &l.port) != 1)
		die("%s is no LINK", s);
	return l;
}

static int
park(struct link *l, int slot)
{
	char b[200];
	int fd = must_dial(l->port);

	put(fd, b, (size_t)snprintf(b, sizeof b,
	    "MSSH/2 agent %s run=%x slot=%d\n", l->node, l->run, slot));
	if (line(fd, "OK") < 0)
		die("the agent is refused");
	return fd;
}

/* The client's first byte travels behind its hello, as ssh's does. */
static int
call(struct link *l)
{
	char b[200];
	int fd = must_dial(l->port);

	if (!l->backend)
		put(fd, b, (size_t)snprintf(b, sizeof b,
		    "MSSH/2 client %s\nx", l->node));
	else
		put(fd, "x", 1);
	return fd;
}

/* The node's end of the next session. */
static int
answer(struct link *l, int parked)
{
	int fd = parked;
	char x;

	if (l->backend && (fd = accept(l->lfd, NULL, NULL)) < 0)
		die("accept");
	if (!l->backend && line(fd, "GO") < 0)
		die("no GO");
	if (recv(fd, &x, 1, 0) != 1)
		return -1;
	if (!l->backend)
		put(fd, "READY\n", 6);
	return fd;
}

static struct pair
pair_up(struct link *l)
{
	struct pair p;
	int parked = l->backend ? -1 : park(l, 0);

	p.c = call(l);
	p.n = answer(l, parked);
	if (p.n < 0 || (!l->backend && line(p.c, "OK") < 0))
		die("no session");
	nonblock(p.c);
	nonblock(p.n);
	return p;
}

static struct pair *
pairs(struct link *l, int n)
{
	struct pair *p = calloc((size_t)n, sizeof *p);
	int i;

	for (i = 0; i < n; i++)
		p[i] = pair_up(l);
	return p;
}

static void
watch(int ep, int fd, unsigned events, unsigned id)
{
	struct epoll_event e;

	e.events = events;
	e.data.u32 = id;
	epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
}

/* Bytes that arrived in s seconds, all streams; nobody copies them here. */
static double
bulk(struct pair *p, int n, const char *way, double s)
{
	int ep = epoll_create1(0), i, k, from, up = *way != 'd',
	    down = *way != 'u';
	struct epoll_event e[64];
	double end = now() + s, bytes = 0;
	ssize_t r;

	for (i = 0; i < n; i++) {
		watch(ep, p[i].c, (up ? EPOLLOUT : 0) | (down ? EPOLLIN : 0),
		    (unsigned)i * 2);
		watch(ep, p[i].n, (down ? EPOLLOUT : 0) | (up ? EPOLLIN : 0),
		    (unsigned)i * 2 + 1);
	}
	while (now() < end && !stopped) {
		k = epoll_wait(ep, e, 64, 100);
		for (i = 0; i < k; i++) {
			from = e[i].data.u32 & 1 ? p[e[i].data.u32 / 2].n :
			    p[e[i].data.u32 / 2].c;
			if (e[i].events & EPOLLIN && (r = recv(from, NULL,
			    sizeof buf, MSG_TRUNC)) > 0)
				bytes += (double)r;
			if (e[i].events & EPOLLOUT)
				send(from, buf, CHUNK, MSG_NOSIGNAL);
		}
	}
	close(ep);
	return bytes;
}

static int
by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static double
quantile(double q)
{
	return nsamples ? samples[(size_t)((double)(nsamples - 1) * q)] / 1e3
	    : 0;
}

static void
print_latency(double s)
{
	qsort(samples, nsamples, sizeof *samples, by_value);
	printf("%.1f %.1f %.1f %.1f\n", quantile(.5), quantile(.99),
	    quantile(.999), (double)nsamples / s);
	fflush(stdout);
}

static void
sample(double since)
{
	if (nsamples < SAMPLES)
		samples[nsamples++] = (uint32_t)((now() - since) * 1e9);
}

/* Messages of 64 bytes there and back; with every > 0 each stream sends one
 * every so many seconds, come what may, and the time counts from when it was
 * due. */
static void
pong(struct pair *p, int n, double s, double every)
{
	int ep = epoll_create1(0), i, k;
	struct epoll_event e[64];
	double start = now(), end = start + s, due = start, *sent, t;
	char m[4096];
	unsigned id;
	ssize_t r;

	sent = calloc((size_t)n, sizeof *sent);
	for (i = 0; i < n; i++) {
		watch(ep, p[i].c, EPOLLIN, (unsigned)i * 2);
		watch(ep, p[i].n, EPOLLIN, (unsigned)i * 2 + 1);
		if (every <= 0) {
			sent[i] = now();
			put(p[i].c, buf, MSG);
		}
	}
	for (i = 0; (t = now()) < end && !stopped;) {
		while (every > 0 && t >= due) {
			memcpy(buf, &due, sizeof due);
			put(p[i].c, buf, MSG);
			i = (i + 1) % n;
			due += every / n;
		}
		k = epoll_wait(ep, e, 64, every > 0 ? due - t > .002 : 100);
		while (k-- > 0) {
			id = e[k].data.u32;
			if (id & 1) {
				r = recv(p[id / 2].n, m, sizeof m, 0);
				if (r > 0)
					put(p[id / 2].n, m, (size_t)r);
				continue;
			}
			if (recv(p[id / 2].c, m, MSG, 0) != MSG)
				continue;
			if (every > 0)
				memcpy(&t, m, sizeof t);
			else
				t = sent[id / 2];
			sample(t);
			if (every > 0)
				continue;
			sent[id / 2] = now();
			put(p[id / 2].c, buf, MSG);
		}
	}
	print_latency(s);
	close(ep);
}

static int
do_bulk(char **a)
{
	struct link l = link_of(a[0]);
	int n = atoi(a[1]);
	struct pair *p = pairs(&l, n);

	ready();
	printf("%.3f\n", bulk(p, n, a[2], atof(a[3])) / atof(a[3]) / 1e9);
	return 0;
}

static int
do_pong(char **a)
{
	struct link l = link_of(a[0]);
	int n = atoi(a[1]);
	struct pair *p = pairs(&l, n);

	ready();
	pong(p, n, atof(a[2]), 0);
	return 0;
}

static int
mixed(char **a, int n)
{
	struct link l = link_of(a[0]);
	struct pair *small = pairs(&l, n), *big = pairs(&l, 4);
	double s = atof(a[1]);

	struct sched_param idle = { 0 };

	ready();
	if (child() == 0) {
		/* whoever keeps the time must not wait for this one */
		sched_setscheduler(0, SCHED_IDLE, &idle);
		printf("%.3f\n", bulk(big, 4, "up", s + .5) / (s + .5) / 1e9);
		return 0;
	}
	usleep(200000);
	pong(small, n, s, .01);
	wait(NULL);
	return 0;
}

static int
do_mixed(char **a)
{
	return mixed(a, 16);
}

static int
do_alone(char **a)
{
	return mixed(a, 1);
}

/* Agents and clients are processes of their own, each with one session at a
 * time; an agent parks the next connection before it answers. */
static void
rate_agent(struct link *l, int slot)
{
	int fd, next = l->backend ? -1 : park(l, slot);

	for (;;) {
		if ((fd = answer(l, next)) < 0)
			_exit(1);
		put(fd, "y", 1);
		if (!l->backend)
			next = park(l, slot);
		close(fd);
	}
}

static void
rate_client(struct link *l, double end, int out)
{
	unsigned long n = 0;
	char y;
	int fd;

	for (; now() < end; n++) {
		fd = call(l);
		if (!l->backend && line(fd, "OK") < 0)
			continue;
		if (recv(fd, &y, 1, 0) != 1)
			_exit(1);
		close(fd);
	}
	if (write(out, &n, sizeof n) < 0)
		_exit(1);
	_exit(0);
}

static int
do_rate(char **a)
{
	struct link l = link_of(a[0]);
	int n = atoi(a[1]), i, fds[2], *agents;
	double s = atof(a[2]);
	unsigned long got, sum = 0;

	agents = calloc((size_t)n * 2, sizeof *agents);
	if (pipe(fds) < 0)
		die("pipe");
	for (i = 0; i < 2 * n; i++)
		if ((agents[i] = child()) == 0)
			rate_agent(&l, i);
	usleep(500000);
	ready();
	for (i = 0; i < n; i++)
		if (child() == 0)
			rate_client(&l, now() + s, fds[1]);
	for (i = 0; i < n && read(fds[0], &got, sizeof got) == sizeof got; i++)
		sum += got;
	for (i = 0; i < 2 * n; i++)
		kill(agents[i], SIGKILL);
	printf("%.0f %lu\n", (double)sum / s, sum);
	return 0;
}

static int
do_idle(char **a)
{
	struct link l = link_of(a[0]);

	pairs(&l, atoi(a[1]));
	ready();
	while (!stopped)
		pause();
	return 0;
}

/* 3 MB with one urgent byte, a tail of 200 bytes, the end: what is missing? */
static int
urgent_round(struct link *l)
{
	struct pair p = pair_up(l);
	size_t left = 3145728 + 1 + 200, sent = 0;
	struct pollfd f = { p.n, POLLIN, 0 };
	ssize_t r;
	int oob = 0;

	setsockopt(p.n, SOL_SOCKET, SO_OOBINLINE, &(int){ 1 }, sizeof(int));
	while (left > 0) {
		if (sent < 3145728) {
			r = send(p.c, buf, 3145728 - sent < CHUNK ?
			    3145728 - sent : CHUNK, MSG_NOSIGNAL);
			sent += r > 0 ? (size_t)r : 0;
		} else if (!oob && send(p.c, "!", 1, MSG_OOB) == 1)
			oob = 1;
		else if (oob == 1 && send(p.c, buf, 200, MSG_NOSIGNAL) == 200) {
			shutdown(p.c, SHUT_WR);
			oob = 2;
		}
		if (poll(&f, 1, oob == 2 ? 2000 : 1) == 0 && oob == 2)
			break;
		if ((r = recv(p.n, buf, sizeof buf, 0)) == 0)
			break;
		left -= r > 0 ? (size_t)r : 0;
	}
	close(p.c);
	close(p.n);
	return left > 1;	/* the mark itself may be lost, no other */
}

static int
do_urgent(char **a)
{
	struct link l = link_of(a[0]);
	int i, bad = 0, n = atoi(a[1]);

	ready();
	for (i = 0; i < n; i++)
		bad += urgent_round(&l);
	printf("%d\n", bad);
	return 0;
}

/* A receiver that does not read: how much goes in, and what others feel. */
static int
do_stall(char **a)
{
	struct link l = link_of(a[0]);
	struct pair p = pair_up(&l), q = pair_up(&l);
	double last = now(), bytes = 0;
	ssize_t r;

	ready();
	while (now() - last < 1)
		if ((r = send(p.c, buf, CHUNK, MSG_NOSIGNAL)) > 0) {
			bytes += (double)r;
			last = now();
		} else
			usleep(1000);
	printf("%.0f\n", bytes);
	pong(&q, 1, 1, 0);
	return 0;
}

/* agents, many */

static int
agent_up(int port, int i, int ep)
{
	char b[100];
	int fd = dial(port, i);

	if (fd < 0)
		return -1;
	put(fd, b, (size_t)snprintf(b, sizeof b,
	    "MSSH/2 agent n%d run=%x\n", i, getpid()));
	nonblock(fd);
	watch(ep, fd, EPOLLIN | EPOLLRDHUP, (unsigned)i);
	return fd;
}

static int
do_park(char **a)
{
	int port = atoi(a[0]), n = atoi(a[1]), ep = epoll_create1(0), i, k;
	int *fd = calloc((size_t)n, sizeof *fd), up = 0, said = 0, next = 0;
	int at = 0;
	char *ok = calloc((size_t)n, 1), b[256];
	struct epoll_event e[256];
	double t0 = now(), step = 25.0 / n, due = t0;
	ssize_t r;

	memset(fd, -1, (size_t)n * sizeof *fd);
	while (!stopped) {
		for (k = 0; k < 500 && up < n; k++, at = (at + 1) % n)
			if (fd[at] < 0 &&
			    (fd[at] = agent_up(port, at, ep)) < 0) {
				usleep(20000);
				break;
			}
		for (; now() >= due; due += step, next = (next + 1) % n)
			if (ok[next])
				send(fd[next], "PING\n", 5, MSG_NOSIGNAL);
		k = epoll_wait(ep, e, 256, up < n ? 1 : 10);
		while (k-- > 0) {
			i = (int)e[k].data.u32;
			r = recv(fd[i], b, sizeof b, 0);
			if (r > 0 && !ok[i]) {
				ok[i] = 1;
				up++;
			} else if (r <= 0) {
				close(fd[i]);
				fd[i] = -1;
				up -= ok[i];
				ok[i] = 0;
				if (said) {
					t0 = now();
					said = 0;
				}
			}
		}
		if (up == n && !said) {
			printf("up %d %.3f\n", up, now() - t0);
			fflush(stdout);
			said = 1;
			due = now();
		}
	}
	return 0;
}

/* minimal relays: one epoll, edge-triggered, nothing that is not needed */

struct way {
	struct way *twin;		/* the other direction */
	char *b;			/* or a pipe */
	int in, out, pipe[2];
	size_t held, off;
	int eof;
};

/* Both directions have ended.  The memory stays for the next pair, since an
 * event for it may be under way. */
static struct way *spare;

static void
way_end(struct way *w)
{
	int i;

	for (i = 0; i < 2; i++, w = w->twin) {
		close(w->in);
		w->in = w->out = -1;
		if (w->pipe[0] > 0) {
			close(w->pipe[0]);
			close(w->pipe[1]);
		}
		free(w->b);
		w->b = NULL;
	}
	w = w->twin > w ? w : w->twin;
	w->twin->twin = spare;
	spare = w;
}

static void
way_eof(struct way *w)
{
	w->eof = 1;
	shutdown(w->out, SHUT_WR);
	if (w->twin->eof)
		way_end(w);
}

static void
move_splice(struct way *w)
{
	ssize_t n;

	for (;;) {
		while (w->held) {
			n = splice(w->pipe[0], NULL, w->out, NULL, w->held,
			    SPLICE_F_NONBLOCK);
			if (n <= 0)
				return;
			w->held -= (size_t)n;
		}
		n = splice(w->in, NULL, w->pipe[1], NULL, PIPE,
		    SPLICE_F_NONBLOCK);
		if (n == 0)
			way_eof(w);
		if (n <= 0)
			return;
		w->held = (size_t)n;
	}
}

static void
move_rw(struct way *w)
{
	ssize_t n;
	int again = 1;

	for (;;) {
		while (w->held) {
			n = send(w->out, w->b + w->off, w->held, MSG_NOSIGNAL);
			if (n <= 0)
				return;
			w->held -= (size_t)n;
			w->off += (size_t)n;
		}
		w->off = 0;
		if (!again)
			return;
		if ((n = recv(w->in, w->b, CHUNK, 0)) == 0)
			way_eof(w);
		if (n <= 0)
			return;
		w->held = (size_t)n;
		again = n == CHUNK;	/* a short one was the last */
	}
}

static void
relay_accept(int ep, int lfd, int backend, int use_pipe)
{
	struct epoll_event e;
	struct way *w;
	int fd = accept4(lfd, NULL, NULL, SOCK_NONBLOCK), to, i;

	if (fd < 0)
		return;
	if ((to = dial(backend, -1)) < 0) {
		close(fd);
		return;
	}
	nonblock(to);
	if ((w = spare))
		spare = w[1].twin;
	else
		w = malloc(2 * sizeof *w);
	memset(w, 0, 2 * sizeof *w);
	w[0].in = w[1].out = fd;
	w[1].in = w[0].out = to;
	for (i = 0; i < 2; i++) {
		w[i].twin = w + !i;
		w[i].b = use_pipe ? NULL : malloc(CHUNK);
		if (use_pipe && pipe2(w[i].pipe, O_NONBLOCK) == 0)
			fcntl(w[i].pipe[1], F_SETPIPE_SZ, PIPE);
		e.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
		e.data.ptr = w + i;
		epoll_ctl(ep, EPOLL_CTL_ADD, w[i].in, &e);
	}
}

static int
do_relay(char **a, void (*move)(struct way *), int use_pipe)
{
	int lfd = listener(atoi(a[0])), ep = epoll_create1(0), n;
	struct epoll_event e[64], l = { EPOLLIN, { NULL } };
	struct way *w;

	epoll_ctl(ep, EPOLL_CTL_ADD, lfd, &l);
	while (!stopped)
		for (n = epoll_wait(ep, e, 64, -1); n-- > 0;) {
			if (!(w = e[n].data.ptr)) {
				relay_accept(ep, lfd, atoi(a[1]), use_pipe);
				continue;
			}
			if (w->in >= 0 && !w->eof &&
			    e[n].events & ~(unsigned)EPOLLOUT)
				move(w);
			if (w->in >= 0 && w->twin->held &&
			    e[n].events & EPOLLOUT)
				move(w->twin);
		}
	return 0;
}

static int
do_splice(char **a)
{
	return do_relay(a, move_splice, 1);
}

static int
do_rw(char **a)
{
	return do_relay(a, move_rw, 0);
}

static const struct {
	const char *name;
	int args, (*run)(char **);
} commands[] = {
	{ "bulk", 4, do_bulk }, { "pong", 3, do_pong },
	{ "mixed", 2, do_mixed }, { "mixed0", 2, do_alone },
	{ "rate", 3, do_rate },
	{ "idle", 2, do_idle }, { "urgent", 2, do_urgent },
	{ "stall", 1, do_stall }, { "park", 2, do_park },
	{ "splice", 2, do_splice }, { "rw", 2, do_rw },
};

int
main(int argc, char **argv)
{
	struct rlimit r;
	size_t i;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
	for (i = 0; i < sizeof commands / sizeof *commands; i++)
		if (argc - 2 == commands[i].args &&
		    !strcmp(argv[1], commands[i].name))
			return commands[i].run(argv + 2);
	fputs("gen: see the top of gen.c\n", stderr);
	return 2;
}
