/* 48-cuts.c - sessions that are cut everywhere; prints TAP
 *
 *	t/.cache/48-cuts [SEED [SECONDS]]
 *
 * Both ends of a resumable session run here, in turn, with the real
 * resumable_run(), and keeper_take() and keeper_tell() at the node's.  Where it
 * would wait in poll(2), ours jumps out of it, and it is called again when the
 * other end, the programs behind both ends and the network have had their turn:
 * what it knows is in struct resumable.  The clock moves only when nothing else
 * does.  So nothing sleeps, and a seed says all that happens.
 *
 * The network is two socket pairs, between which bytes are carried and counted.
 * It breaks behind a given byte of a direction, in one of the ways of enum cut.
 *
 * What is checked: each byte arrives once and in order, both ends of both
 * streams are seen, no memory and no descriptor is left, and nobody is busy
 * without a reason.
 */
#define _XOPEN_SOURCE 700

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../reactor.h"

static int cut_poll(struct pollfd *, nfds_t, int);
static int64_t cut_clock(void);
int mssh_main(int, char *[]);

#define poll cut_poll
#define reactor_clock cut_clock
#define main mssh_main
#include "../mssh.c"
#undef main
#undef poll
#undef reactor_clock

enum { FDS = 200, KEEP = 600000, ROUNDS = 200000 };

enum cut {
	CLOSED,			/* what was carried arrives, then the end */
	LOSSY,			/* what was sent is lost, then the end */
	NODE_OPEN,		/* the node hears nothing of it */
	CLIENT_OPEN,		/* the client does not */
	SILENT,			/* neither does */
	CUTS
};

static const char *const cut_names[] = { "closed", "lossy", "node open",
    "client open", "silent" };

static struct end {
	struct resumable r;
	int done;
	int64_t wake;			/* it waits until then */
	int lost, back, full;		/* how often it said so */
	int spins;			/* polls in this turn */
} client, node, *running;

struct app {			/* ssh or sshd */
	int w, r;		/* to and from its end, -1: closed */
	size_t wrote, want, got;
	size_t most;		/* bytes in a turn */
	unsigned char salt, own;	/* what it reads and writes begins so */
	int64_t stalled;	/* reads nothing until then */
	int pause;		/* ms after each read */
	int echo;		/* writes what it has read, as cat(1) */
	size_t held;
	int ended;		/* ends its side when it was told the end */
	int saw_end, bad;
};

static struct wire {		/* the newest connection, and older ones */
	int c, n;		/* our sides: of the client's and the node's */
	size_t moved[2];	/* bytes to the node, to the client */
	int agent;		/* of one that was refused: it lingers */
	int shut[2];
	int cut;		/* is it? */
} wires[64];
static int nwires;

static struct plan {		/* the ith connection breaks like this */
	int dir;
	size_t at;
	enum cut how;
} plan[64];
static int nplan;

static struct app apps[2];	/* ssh, sshd */
static int64_t now_ms = 1000000;
static int ntests, failed, agent = -1, wanted, eager, is_stuck, moves;
static size_t piece;		/* bytes that the network carries at a time */
static int random_turns;
static int by_hand;			/* one end is ours to play */
static uint32_t seed = 1;
static jmp_buf turn;
static const char *wrong;
static char wrong_b[200];

static void
ok(int good, const char *fmt, ...)
{
	va_list ap;

	printf("%sok %d - ", good ? "" : "not ", ++ntests);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
	failed += !good;
}

static void
fault(const char *fmt, ...)
{
	va_list ap;

	if (wrong)
		return;
	va_start(ap, fmt);
	vsnprintf(wrong_b, sizeof wrong_b, fmt, ap);
	va_end(ap);
	wrong = wrong_b;
}

static uint32_t
rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 17;
	return seed ^= seed << 5;
}

static unsigned char
nth_byte(size_t n, unsigned char salt)
{
	return (n * 7 ^ n >> 8 ^ n >> 16) + salt;
}

static int64_t
cut_clock(void)
{
	return now_ms;
}

static int
cut_poll(struct pollfd *p, nfds_t n, int ms)
{
	int r;

	if (!running)			/* a message */
		return poll(p, n, ms);
	r = poll(p, n, 0);
	if (r > 0 && !(random_turns && rnd() % 4 == 0)) {
		if (++running->spins < 20000)
			return r;
		fault("it is busy: poll() says %d, %d, %d", p[0].revents,
		    n > 1 ? p[1].revents : 0, n > 2 ? p[2].revents : 0);
	}
	if (r <= 0 && ms > 0 && is_stuck && running->r.over) {
		now_ms += ms;		/* resumable_leave() */
		return 0;
	}
	if (r <= 0 && ms == 0) {
		if (++running->spins < 100)
			return 0;
		fault("it is busy while it could wait");
		ms = 1;
	}
	running->wake = now_ms + (r > 0 ? 0 : ms);
	longjmp(turn, 1);
}

static void
end_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void
end_run(struct end *e)
{
	if (e->done)
		return;
	running = e;
	e->spins = 0;
	if (setjmp(turn) == 0) {
		resumable_run(&e->r);
		e->done = 1;
		if (e == &node)
			end_close(&node.r.also);
		moves++;
	}
	running = NULL;
}

/* the network */

static void
pair_open(int s[2])
{
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, s) < 0)
		abort();
	net_blocking(s[0], 0);
	net_blocking(s[1], 0);
}

static void
wire_close(struct wire *w)
{
	end_close(&w->c);
	end_close(&w->n);
	end_close(&w->agent);
	w->cut = 1;
}

/* All that was sent is read, and lost. */
static void
swallow(int fd)
{
	static char b[1 << 16];

	while (fd >= 0 && recv(fd, b, sizeof b, 0) > 0)
		moves++;
}

/* A connection, of which the client has one end and the agent gives the other
 * to the keeper; if that has ended, it says so. */
static void
attach(int first)
{
	unsigned char b[FRAME_HEAD + FRAME_TEXT];
	int s[2], t[2], i;
	struct wire *w;

	if (nwires == LEN(wires)) {
		fault("too many connections");
		return;
	}
	for (i = 0; i < nwires; i++)		/* newest wins */
		end_close(&wires[i].c);
	w = &wires[nwires++];
	pair_open(s);
	pair_open(t);
	*w = (struct wire){ .c = s[1], .n = t[1], .agent = -1 };
	if (!first) {				/* early_send() */
		frame_write(b, &(struct frame){ F_DATA, 0,
		    client.r.received });
		(void)!send(s[0], b, FRAME_HEAD, MSG_NOSIGNAL);
	}
	resumable_attach(&client.r, s[0], first);
	if (net_send_fds(agent, "", 1, t, 1) < 0) {
		(void)!send(t[0], b, close_write(b, C_GONE, "unknown"),
		    MSG_NOSIGNAL);
		shutdown(t[0], SHUT_WR);
		w->agent = t[0];
	} else
		close(t[0]);
	wanted = 0;
	moves++;
}

static void
wire_cut(struct wire *w, enum cut how)
{
	if (how != CLOSED) {
		swallow(w->c);
		swallow(w->n);
	}
	if (how == CLOSED || how == LOSSY || how == NODE_OPEN)
		end_close(&w->c);
	if (how == CLOSED || how == LOSSY || how == CLIENT_OPEN)
		end_close(&w->n);
	w->cut = 1;
	moves++;
}

/* One direction.  Bytes are carried only where they fit. */
static void
carry(struct wire *w, int dir, size_t most)
{
	static char b[1 << 16];
	int from = dir ? w->n : w->c, to = dir ? w->c : w->n;
	ssize_t n, put;

	if (most > sizeof b)
		most = sizeof b;
	if (!most || from < 0 || to < 0)
		return;
	n = recv(from, b, most, MSG_PEEK);
	if (n > 0 && (put = send(to, b, n, MSG_NOSIGNAL)) > 0) {
		(void)!recv(from, b, put, 0);
		w->moved[dir] += put;
		moves++;
	} else if (n > 0 && errno != EAGAIN) {
		swallow(from);		/* nobody is there any more */
	} else if (n == 0 && !w->shut[dir]) {
		shutdown(to, SHUT_WR);
		w->shut[dir] = 1;
		moves++;
	}
}

static void
carry_all(void)
{
	struct plan *p;
	struct wire *w;
	size_t left;
	int i, dir;

	for (i = 0; i < nwires; i++) {
		w = &wires[i];
		swallow(w->agent);
		if (w->cut) {
			swallow(w->c);
			swallow(w->n);
			continue;
		}
		for (dir = 0; dir < 2 && !w->cut; dir++) {
			left = piece;
			p = i < nplan ? &plan[i] : NULL;
			if (p && p->dir == dir && p->at - w->moved[dir] < left)
				left = p->at - w->moved[dir];
			carry(w, dir, left);
			if (p && p->dir == dir && w->moved[dir] >= p->at)
				wire_cut(w, p->how);
		}
	}
}

/* both ends, and what is behind them */

static void
on_client(struct resumable *r, enum event e, const char *why)
{
	struct end *was = running;

	(void)r, (void)why;
	client.lost += e == E_LOST;
	client.back += e == E_BACK;
	client.full += e == E_FULL;
	if (e == E_LOST && eager)	/* as session_redial() */
		attach(0);
	else if (e == E_LOST)
		wanted = 1;
	running = was;
}

static void
on_node(struct resumable *r, enum event e, const char *why)
{
	node.lost += e == E_LOST;
	node.back += e == E_BACK;
	node.full += e == E_FULL;
	keeper_tell(r, e, why);
}

static void
app_read(struct app *a)
{
	static unsigned char b[1 << 16];
	size_t most = a->most < sizeof b ? a->most : sizeof b;
	ssize_t n, i;

	if (a->r < 0 || a->saw_end || now_ms < a->stalled ||
	    (a->echo && a->held))
		return;
	n = read(a->r, b, 1 + (most > 1 ? rnd() % most : 0));
	for (i = 0; i < n; i++)
		if (b[i] != nth_byte(a->got + i, a->salt))
			a->bad = 1;
	if (n >= 0)
		moves++;
	a->got += n > 0 ? n : 0;
	if (a->echo && n > 0)
		a->held = n;
	a->saw_end = n == 0;
	if (a->pause)
		a->stalled = now_ms + a->pause;
	if (a->bad)
		fault("a byte that is not the next one");
}

static void
app_write(struct app *a)
{
	static unsigned char b[1 << 16];
	size_t n = a->want - a->wrote, i;
	ssize_t put;

	if (a->w < 0)
		return;
	if (n > a->most)
		n = a->most;
	if (n > sizeof b)
		n = sizeof b;
	if (n > 1)
		n = 1 + rnd() % n;
	if (a->echo)
		n = a->held;
	for (i = 0; i < n; i++)
		b[i] = nth_byte(a->wrote + i, a->own);
	put = n ? write(a->w, b, n) : 0;
	if (put > 0) {
		a->wrote += put;
		a->held -= a->echo ? put : 0;
		moves++;
	}
	if ((a->echo ? !a->saw_end || a->held : a->wrote < a->want) ||
	    (a->ended && !a->saw_end))
		return;
	if (a->w == a->r)
		shutdown(a->w, SHUT_WR);
	else
		close(a->w);
	a->w = -1;
	moves++;
}

static int
fds_open(void)
{
	int i, n = 0;

	for (i = 0; i < FDS; i++)
		n += fcntl(i, F_GETFD) >= 0;
	return n;
}

/* up and down: how much ssh and sshd say; small: sockets hold little. */
static void
start(size_t up, size_t down, int as_pipes, int small)
{
	int p[2], q[2], s[2], also[2], size = 4096;

	memset(&apps, 0, sizeof apps);
	memset(wires, 0, sizeof wires);
	nwires = wanted = is_stuck = by_hand = 0;
	wrong = NULL;
	memory.held[0] = 1;
	memory.max = 1000;
	now_ms = 1000000;
	pair_open(s);
	pair_open(also);
	if (as_pipes) {
		if (pipe(p) < 0 || pipe(q) < 0)
			abort();
	} else {
		pair_open(p);
		pair_open(q);
	}
	net_blocking(p[0], 0);
	net_blocking(p[1], 0);
	net_blocking(q[0], 0);
	net_blocking(q[1], 0);
	if (small) {
		setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
		setsockopt(s[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	}
	resumable_init(&client.r, p[0], q[1]);
	resumable_init(&node.r, s[0], s[0]);
	client.r.on_event = on_client;
	node.r.on_event = on_node;
	node.r.also = also[0];
	node.r.on_also = keeper_take;
	node.r.ping_ms = QUIET_MAX + PONG_MAX;
	client.r.keep_ms = node.r.keep_ms = KEEP;
	node.r.lost_at = now_ms;
	agent = also[1];
	apps[0] = (struct app){ .w = p[1], .r = q[0], .want = up, .most = 20,
	    .salt = 0x44, .own = 0x11 };
	apps[1] = (struct app){ .w = s[1], .r = s[1], .want = down, .most = 20,
	    .salt = 0x11, .own = 0x44 };
	client.done = node.done = client.lost = node.lost = 0;
	client.back = node.back = client.full = node.full = 0;
	client.spins = node.spins = 0;
	client.wake = node.wake = 0;
	attach(1);
}

static void
turns(void)
{
	int first = random_turns && rnd() & 1;

	end_run(first ? &node : &client);
	app_read(&apps[0]);
	app_write(&apps[0]);
	carry_all();
	end_run(first ? &client : &node);
	app_read(&apps[1]);
	app_write(&apps[1]);
	carry_all();
	swallow(agent);
	if (wanted && !client.done && !by_hand)
		attach(0);
}

/* To the next time at which somebody wakes. */
static void
pass(void)
{
	int64_t at = INT64_MAX;
	int i;

	if (!client.done && client.wake < at)
		at = client.wake;
	if (!node.done && node.wake < at)
		at = node.wake;
	for (i = 0; i < 2; i++)
		if (apps[i].stalled > now_ms && apps[i].stalled < at)
			at = apps[i].stalled;
	if (by_hand && at > now_ms + 100)
		at = now_ms + 100;
	now_ms = at > now_ms ? at : now_ms + 1;
}

/* Runs until all are done, or (ms) for that time, or (stop) what it says. */
static void
play(int64_t ms, int (*stop)(void))
{
	int64_t until = now_ms + ms;
	int calm = 0, n;

	for (n = 0; n < ROUNDS * 10 && !wrong; n++) {
		if (client.done && node.done)
			return;
		moves = 0;
		if ((ms && now_ms >= until) || (stop && stop()))
			return;
		turns();
		calm = moves ? 0 : calm + 1;
		is_stuck = calm > 2;
		if (calm > 1 && !((client.r.over && !client.done) ||
		    (node.r.over && !node.done)))
			pass();
	}
	if (n == ROUNDS * 10)
		fault("it does not end: %lu and %lu bytes, client %d, "
		    "node %d, %u chunks", (unsigned long)apps[0].got,
		    (unsigned long)apps[1].got, client.done, node.done,
		    (unsigned)memory.held[0] - 1);
}

/* What is left, as main() or keeper_main() would at the end. */
static void
clean(void)
{
	uint64_t i;

	for (i = 0; i < RING; i++) {
		chunk_free(&client.r.log, i * CHUNK);
		chunk_free(&node.r.log, i * CHUNK);
	}
	for (i = 0; i < (uint64_t)nwires; i++)
		wire_close(&wires[i]);
	end_close(&client.r.fd);
	end_close(&node.r.fd);
	close(client.r.in);
	/* out may be -1, but its number is that of the pipe */
	close(node.r.in);
	end_close(&node.r.also);
	end_close(&agent);
	for (i = 0; i < 2; i++) {
		if (apps[i].w != apps[i].r)
			end_close(&apps[i].w);
		end_close(&apps[i].r);
	}
}

/* Has all that was said arrived, once?  Of the ends one may not know, if the
 * last frame was lost. */
static void
check_whole(void)
{
	const struct resumable *c = &client.r, *n = &node.r;
	int i;

	do {				/* what their sockets hold */
		moves = 0;
		apps[0].stalled = apps[1].stalled = 0;
		app_read(&apps[0]);
		app_read(&apps[1]);
	} while (moves && !wrong);
	for (i = 0; i < 2; i++)
		if (!wrong && (!apps[i].saw_end ||
		    apps[i].got != apps[!i].wrote ||
		    apps[i].wrote != apps[i].want))
			fault("%s got %lu of %lu bytes, %s end", i ? "sshd" :
			    "ssh", (unsigned long)apps[i].got,
			    (unsigned long)apps[!i].want, apps[i].saw_end ?
			    "and the" : "without an");
	if (c->code != C_OK && !(c->code == C_GONE && n->code == C_OK &&
	    c->out_end))
		fault("the client ended with %d: %s", c->code, c->why);
	if (n->code != C_OK && !(n->code == C_MAX && c->code == C_OK))
		fault("the node ended with %d: %s", n->code, n->why);
	if (c->received != apps[1].want + 1 || n->received != apps[0].want + 1)
		fault("an END counts other than once");
	if (c->code == C_OK && n->code == C_OK && memory.held[0] != 1)
		fault("%u chunks are left", (unsigned)memory.held[0] - 1);
}

/* A whole session.  0, or 1: something was wrong, and was told. */
static int
session_cut(size_t up, size_t down, const char *what)
{
	int before = fds_open(), out, i;

	start(up, down, !(rnd() & 3), 0);
	out = client.r.out;
	play(0, NULL);
	check_whole();
	clean();
	close(out);
	if (!wrong && memory.held[0] != 1)
		fault("%u chunks are never freed",
		    (unsigned)memory.held[0] - 1);
	if (!wrong && fds_open() != before)
		fault("%d descriptors are left", fds_open() - before);
	if (!wrong)
		return 0;
	printf("# %s: %s\n", what, wrong);
	for (i = 0; i < nplan && i < nwires; i++)
		printf("#  connection %d: %s behind byte %lu to the %s\n", i,
		    cut_names[plan[i].how], (unsigned long)plan[i].at,
		    plan[i].dir ? "client" : "node");
	for (i = 0; i < FDS; i++)	/* to go on */
		if (i > 2 && fcntl(i, F_GETFD) >= 0 && fds_open() > before)
			close(i);
	return 1;
}

/* ---- at every byte ---- */

static void
test_once(void)
{
	size_t total[2], at;
	int dir, how, bad, n;

	piece = 7;
	nplan = 0;
	bad = session_cut(60, 60, "no cut");
	total[0] = wires[0].moved[0];
	total[1] = wires[0].moved[1];
	ok(!bad && nwires == 1, "a session that is not cut: %lu and %lu bytes",
	    (unsigned long)total[0], (unsigned long)total[1]);
	nplan = 1;
	for (how = 0; how < CUTS; how++)
		for (eager = 0; eager < 2; eager++) {
			for (bad = n = dir = 0; dir < 2; dir++)
				for (at = 0; at <= total[dir] && bad < 3;
				    at++, n++) {
					plan[0] = (struct plan){ dir, at, how };
					bad += session_cut(60, 60, "one cut");
				}
			ok(!bad, "cut at each byte (%s%s): %d sessions",
			    cut_names[how], eager ? ", redialled at once" : "",
			    n);
		}
}

static void
test_twice(void)
{
	size_t at, next;
	int dirs, how, bad, n;

	nplan = 2;
	for (dirs = 0; dirs < 4; dirs++) {
		for (bad = n = 0, at = dirs; at < 160; at += 3)
			for (next = 0; next < 150 && bad < 3; next++, n++) {
				how = rnd() % (CUTS * CUTS);
				eager = rnd() & 1;
				plan[0] = (struct plan){ dirs & 1, at,
				    how % CUTS };
				plan[1] = (struct plan){ dirs >> 1, next,
				    how / CUTS };
				bad += session_cut(60, 60, "two cuts");
			}
		ok(!bad, "and at each byte of the next (to the %s, then to "
		    "the %s): %d sessions", dirs & 1 ? "client" : "node",
		    dirs & 2 ? "client" : "node", n);
	}
}

/* ---- long ones ---- */

static int
session_long(uint32_t from)
{
	size_t up, down;
	int before = fds_open(), out, i, n, bad;
	char what[60];

	seed = from;
	up = rnd() % 4 ? rnd() % 4000000 : rnd() % 100;
	down = rnd() % 4 ? rnd() % 4000000 : rnd() % 100;
	nplan = rnd() % 12;
	for (i = 0; i < nplan; i++) {
		plan[i].dir = rnd() & 1;
		plan[i].at = rnd() % 3 ? rnd() % 800000 : rnd() % 60;
		plan[i].how = rnd() % CUTS;
	}
	piece = 500 + rnd() % (rnd() & 1 ? 65536 : 3000);
	eager = rnd() & 1;
	random_turns = rnd() & 1;
	start(up, down, rnd() & 1, rnd() & 1);
	if (rnd() % 4 == 0)
		memory.max = 1 + rnd() % 8;
	out = client.r.out;
	for (i = 0; i < 2; i++)
		apps[i].most = 500 + rnd() % (rnd() & 1 ? 65536 : 9000);
	apps[1].ended = rnd() & 1;
	for (n = 0; n < 12 && !wrong && !(client.done && node.done); n++) {
		play(1 + rnd() % 4000, NULL);
		i = rnd() & 1;
		/* behind the node's end, who says nothing for 10 s has left */
		if (rnd() & 1 && (i || !client.r.out_end))
			apps[i].stalled = now_ms + rnd() % (i ? 20000 : 9000);
	}
	play(0, NULL);
	random_turns = 0;
	check_whole();
	clean();
	close(out);
	if (!wrong && memory.held[0] != 1)
		fault("%u chunks are never freed",
		    (unsigned)memory.held[0] - 1);
	if (!wrong && fds_open() != before)
		fault("%d descriptors are left", fds_open() - before);
	bad = wrong != NULL;
	snprintf(what, sizeof what, "seed %lu", (unsigned long)from);
	if (bad)
		printf("# %s: %s; %d connections; up %lu, down %lu\n", what,
		    wrong, nwires, (unsigned long)up, (unsigned long)down);
	return bad;
}

static void
test_long(uint32_t from, int s)
{
	time_t until = time(NULL) + s;
	unsigned n = 0;
	int bad = 0;

	while (time(NULL) < until && bad < 3) {
		bad += session_long((from + 2654435761u * n) | 1);
		n++;
	}
	ok(!bad, "long sessions with cuts at random: %u (seed %lu)", n,
	    (unsigned long)from);
}

/* ---- hostile ends ---- */

static int far = -1;			/* the other end, which is ours */
static struct {				/* what came there */
	unsigned n[F_MAX];
	uint64_t bytes, received;
	char text[FRAME_TEXT + 1];
	int eof, malformed;
	unsigned char b[1 << 17];
	size_t have;
} heard;

static int answers = 1;			/* PING with DATA */
static uint64_t acked;			/* and with what it said last */

static void
say(int type, uint32_t len, uint64_t received, const void *payload, size_t n)
{
	unsigned char b[FRAME_HEAD];
	struct frame f;

	acked = received;
	f.type = F_DATA;
	f.len = len;
	f.received = received;
	frame_write(b, &f);
	*b = type;
	(void)!send(far, b, FRAME_HEAD, MSG_NOSIGNAL);
	if (n)
		(void)!send(far, payload, n, MSG_NOSIGNAL);
}

static void
hear(void)
{
	struct frame f;
	ssize_t n;
	int used;

	while (far >= 0 && !heard.eof && (n = recv(far, heard.b + heard.have,
	    sizeof heard.b - heard.have, 0)) >= 0) {
		heard.eof = n == 0;
		heard.have += n;
		moves++;
		while (heard.have && (used = frame_parse(heard.b, heard.have,
		    &f)) != 0) {
			if (used < 0) {
				heard.malformed = 1;
				return;
			}
			if (heard.have < used + f.len)
				break;
			heard.n[f.type]++;
			if (f.type == F_PING && answers)
				say(F_DATA, 0, acked, NULL, 0);
			if (f.type == F_DATA)
				heard.bytes += f.len;
			if (f.type == F_CLOSE)
				snprintf(heard.text, sizeof heard.text, "%.*s",
				    (int)f.len, heard.b + used);
			else
				heard.received = f.received;
			heard.have -= used + f.len;
			memmove(heard.b, heard.b + used + f.len, heard.have);
		}
	}
}

static int
far_turn(void)
{
	hear();
	return 0;
}

static int
not_read(void)
{
	return 0;
}

static void
far_attach(struct end *e, int synced)
{
	int s[2];

	end_close(&far);
	pair_open(s);
	memset(&heard, 0, sizeof heard);
	acked = 0;
	far = s[1];
	resumable_attach(&e->r, s[0], synced);
	e->r.attached = e == &node;
	wanted = 0;
}

static int before_fds;

/* One end alone; the other is ours to play. */
static void
alone(struct end *e, size_t want)
{
	struct end *other = e == &node ? &client : &node;
	int fd[NET_FDS], n = 0;
	char b;

	before_fds = fds_open();
	nplan = eager = 0;
	start(e == &client ? want : 0, e == &node ? want : 0, 1, 0);
	wire_close(&wires[0]);
	net_recv_fds(node.r.also, &b, 1, fd, &n);
	while (n > 0)
		close(fd[--n]);
	other->done = by_hand = 1;
	end_close(&other->r.fd);
	far_attach(e, 1);
	apps[0].most = apps[1].most = 1 << 16;
	if (e == &node)		/* the other's program says nothing */
		close(apps[0].w);
	apps[e == &client].w = -1;
	apps[e == &client ? 0 : 1].ended = 1;
}

static int client_out;

/* The end lives on in the sense of main(), unless it is over. */
static int
alone_end(const struct end *e, int good)
{
	if (wrong || !good)
		printf("# %s; over %d, code %d (%s), lost %d, back %d; heard "
		    "%u DATA, %u END, %u PING, %u CLOSE, %lu bytes, %lu "
		    "received\n", wrong ? wrong : "", e->r.over, e->r.code,
		    e->r.why, e->lost, e->back, heard.n[F_DATA],
		    heard.n[F_END], heard.n[F_PING], heard.n[F_CLOSE],
		    (unsigned long)heard.bytes, (unsigned long)heard.received);
	good &= !wrong;
	end_close(&far);
	if (apps[1].w < 0 && apps[1].r < 0)
		apps[1].r = -1;
	clean();
	end_close(&client_out);
	if (fds_open() != before_fds || memory.held[0] != 1) {
		printf("# %d descriptors, %u chunks are left\n", fds_open() -
		    before_fds, (unsigned)memory.held[0] - 1);
		return 0;
	}
	return good;
}

static void
settle(int64_t ms)
{
	play(ms ? ms : 1, far_turn);
	hear();
}

static const char *
end_name(const struct end *e)
{
	return e == &node ? "node" : "client";
}

static void
test_lies(struct end *e)
{
	static const struct {
		const char *what;
		int type;
		uint32_t len;
		uint64_t received;
		int type2;
		uint32_t len2;
		uint64_t received2;
	} t[] = {
		{ "received more than was sent", F_DATA, 0, 11, -1, 0, 0 },
		{ "received all that there is", F_DATA, 0, UINT64_MAX, -1, 0,
		    0 },
		{ "received goes back", F_DATA, 0, 10, F_DATA, 0, 9 },
		{ "END with a payload", F_END, 1, 10, -1, 0, 0 },
		{ "PING with a payload", F_PING, 1, 10, -1, 0, 0 },
		{ "CLOSE of 301 bytes", F_CLOSE, 301, 0, -1, 0, 0 },
		{ "an unknown type", F_MAX, 0, 10, -1, 0, 0 },
		{ "type 255", 255, 0, 10, -1, 0, 0 },
		{ "DATA after END", F_END, 0, 10, F_DATA, 4, 10 },
		{ "END twice", F_END, 0, 10, F_END, 0, 10 },
		{ "received in an END goes back", F_DATA, 0, 10, F_END, 0, 3 },
		{ "PING received too much", F_PING, 0, 11, -1, 0, 0 },
	};
	size_t i;
	int good;

	for (i = 0; i < LEN(t); i++) {
		alone(e, 10);
		client_out = client.r.out;
		apps[e == &node].ended = 1;
		settle(200);
		good = heard.bytes == 10;
		say(t[i].type, t[i].len, t[i].received, "1234", t[i].type ==
		    F_DATA ? t[i].len : 0);
		settle(200);
		if (t[i].type2 >= 0) {
			good &= !e->r.over;
			say(t[i].type2, t[i].len2, t[i].received2, "1234",
			    t[i].len2);
			settle(200);
		}
		good &= e->r.over && e->r.code == C_SYNTAX &&
		    heard.n[F_CLOSE] == 1 && begins(heard.text,
		    "ERROR syntax what came is not a frame") && !e->lost;
		good = alone_end(e, good);
		ok(good, "%s: %s", end_name(e), t[i].what);
	}
}

/* After a new connection. */
static void
test_first_frame(struct end *e)
{
	static const struct {
		const char *what, *text;
		uint64_t received;
		int over, lost;
		enum code code;
	} t[] = {
		{ "too much", NULL, 11, 1, 1, C_SYNTAX },
		{ "less than before", NULL, 3, 1, 1, C_SYNTAX },
		{ "as before", NULL, 4, 0, 1, C_OK },
		{ "all", NULL, 10, 0, 1, C_OK },
		{ "CLOSE gone", "ERROR gone x", 0, 1, 1, C_GONE },
		{ "CLOSE denied", "ERROR denied x\x1b", 0, 1, 1, C_DENIED },
		{ "CLOSE busy: try again", "ERROR busy x", 0, 0, 2, C_OK },
		{ "CLOSE without words", "", 0, 0, 2, C_OK },
		{ "CLOSE of no meaning", "what\x01", 0, 0, 2, C_OK },
		{ "CLOSE OK", "OK", 0, 0, 2, C_OK },
		{ "CLOSE later", "ERROR novelty x", 0, 1, 1, C_DENIED },
	};
	size_t i;
	int good;

	for (i = 0; i < LEN(t); i++) {
		alone(e, 10);
		client_out = client.r.out;
		settle(200);
		say(F_DATA, 0, 4, NULL, 0);
		settle(200);
		end_close(&far);
		settle(200);
		good = e->lost == 1 && e->r.fd < 0;
		far_attach(e, 0);
		settle(200);
		good &= !heard.bytes && heard.n[F_DATA] >= 1;
		if (t[i].text)
			say(F_CLOSE, strlen(t[i].text), 0, t[i].text,
			    strlen(t[i].text));
		else
			say(F_DATA, 0, t[i].received, NULL, 0);
		settle(200);
		good &= e->r.over == t[i].over && e->lost == t[i].lost &&
		    e->r.code == t[i].code;
		if (!t[i].over && !t[i].text)
			good &= heard.bytes == 10 - t[i].received &&
			    e->back == 1;
		good = alone_end(e, good);
		ok(good, "%s: a first frame after the loss: %s", end_name(e),
		    t[i].what);
	}
}

/* CLOSE in pieces, or with more to be sent than the other takes. */
static void
test_closes(struct end *e)
{
	static const char text[] = "ERROR busy no";
	unsigned char b[FRAME_HEAD + sizeof text];
	size_t i, n = FRAME_HEAD + sizeof text - 1;
	int good;

	frame_write(b, &(struct frame){ F_CLOSE, sizeof text - 1, 0 });
	memcpy(b + FRAME_HEAD, text, sizeof text);
	alone(e, 10);
	client_out = client.r.out;
	for (i = 0, good = 1; i < n; i++) {
		settle(10);
		good &= !e->r.over;
		(void)!send(far, b + i, 1, MSG_NOSIGNAL);
	}
	settle(10);
	good &= e->r.over && e->r.code == C_BUSY && !strcmp(e->r.why, "no") &&
	    !heard.n[F_CLOSE];
	good = alone_end(e, good);
	ok(good, "%s: CLOSE byte by byte", end_name(e));

	alone(e, 10);
	client_out = client.r.out;
	(void)!send(far, b, n - 1, MSG_NOSIGNAL);
	settle(10);
	end_close(&far);
	settle(10);
	good = !e->r.over && e->lost == 1;
	good = alone_end(e, good);
	ok(good, "%s: half of a CLOSE is a loss", end_name(e));

	alone(e, 3000000);		/* it goes with much unread */
	client_out = client.r.out;
	play(200, not_read);
	(void)!send(far, b, n, MSG_NOSIGNAL);
	end_close(&far);
	play(200, not_read);
	good = e->r.over && e->r.code == C_BUSY && !e->lost;
	good = alone_end(e, good);
	ok(good, "%s: CLOSE, while much is to be sent, and then a reset",
	    end_name(e));
}

static int ping_left;

static int
flood(void)
{
	unsigned char b[FRAME_HEAD];

	hear();
	frame_write(b, &(struct frame){ F_PING, 0, 0 });
	while (ping_left && send(far, b, FRAME_HEAD, MSG_NOSIGNAL) ==
	    FRAME_HEAD) {
		ping_left--;
		moves++;
	}
	return !ping_left;
}

static int64_t alive_at;

static int
alive(void)
{
	if (now_ms >= alive_at + 3000) {
		say(F_DATA, 0, 0, NULL, 0);
		alive_at = now_ms;
	}
	return 0;
}

static int
alive_hear(void)
{
	hear();
	return alive();
}

/* More than our program has room for. */
static void
far_floods(unsigned char salt)
{
	enum { N = 4096 };
	unsigned char b[FRAME_HEAD + N];
	int i, n;

	for (n = 0; n < 90; n++) {
		frame_write(b, &(struct frame){ F_DATA, N, acked });
		for (i = 0; i < N; i++)
			b[FRAME_HEAD + i] = nth_byte(n * N + i, salt);
		for (i = 0; i < 5 && send(far, b, sizeof b, MSG_NOSIGNAL) < 0;
		    i++)
			settle(1);
		if (i == 5)
			return;
	}
}

static void
test_patience(struct end *e)
{
	uint64_t most = (uint64_t)CHUNK * CHUNKS;
	int me = e == &node, good, i;
	unsigned n;
	size_t was;

	alone(e, 0);
	client_out = client.r.out;
	apps[me].ended = 1;
	ping_left = 100000;
	play(20000, flood);
	settle(10);
	good = !ping_left && !e->r.over && !e->lost && heard.n[F_DATA] > 0 &&
	    heard.n[F_DATA] <= 100010 && !heard.malformed;
	good = alone_end(e, good);
	ok(good, "%s: 100000 PING", end_name(e));

	alone(e, 6000000);		/* heard, but not acknowledged */
	client_out = client.r.out;
	alive_at = 0;
	play(60000, alive_hear);
	was = apps[me].wrote;
	good = !e->lost && heard.bytes <= most && heard.bytes > most - CHUNK &&
	    e->r.log.tail - e->r.log.acked <= most &&
	    memory.held[0] <= CHUNKS + 1 && was < most + 400000;
	play(60000, alive_hear);
	good &= apps[me].wrote < was + 65536 && !e->lost && !wrong;
	say(F_DATA, 0, heard.bytes, NULL, 0);
	was = apps[me].wrote;
	play(200, far_turn);
	good &= apps[me].wrote > was;
	good = alone_end(e, good);
	ok(good, "%s: the other never acknowledges: 4 MiB are kept, no more "
	    "is read", end_name(e));

	alone(e, 6000000);		/* reads nothing */
	client_out = client.r.out;
	alive_at = 0;
	play(60000, alive);
	good = !e->lost && !e->r.over && !wrong;
	alive_at = 0;
	alive();
	play(9000, not_read);
	good &= !e->lost;
	play(2000, not_read);
	good &= e->lost == 1;
	good = alone_end(e, good);
	ok(good, "%s: the other reads nothing: lost after 10 s of silence",
	    end_name(e));

	alone(e, 10);			/* our program reads nothing */
	client_out = client.r.out;
	settle(200);
	say(F_DATA, 0, 10, NULL, 0);
	apps[me].stalled = now_ms + 60000;
	far_floods(apps[me].salt);
	n = heard.n[F_DATA] + heard.n[F_PING];
	settle(50000);
	n = heard.n[F_DATA] + heard.n[F_PING] - n;
	good = !e->lost && !wrong && n >= 16 && n <= 20 && e->r.blocked;
	settle(20000);
	good &= !e->r.blocked && !wrong && apps[me].got == heard.received;
	good = alone_end(e, good);
	ok(good, "%s: a program that reads nothing: it is told every 3 s",
	    end_name(e));

	alone(e, 10);			/* and one that reads slowly */
	client_out = client.r.out;
	settle(200);
	say(F_DATA, 0, 10, NULL, 0);
	apps[me].most = 4000;
	apps[me].pause = 1500;
	far_floods(apps[me].salt);
	for (i = 0, good = 1; i < 10; i++) {
		n = heard.n[F_DATA] + heard.n[F_PING];
		settle(5000);
		good &= heard.n[F_DATA] + heard.n[F_PING] > n;
	}
	good &= e->r.blocked && !e->lost && !wrong;
	good = alone_end(e, good);
	ok(good, "%s: one that reads slowly: it is told, too", end_name(e));

	alone(e, 10);			/* and then the connection is reset */
	client_out = client.r.out;
	settle(200);
	say(F_DATA, 0, 10, NULL, 0);
	apps[me].stalled = now_ms + 60000;
	far_floods(apps[me].salt);
	settle(200);
	good = e->r.blocked;
	end_close(&far);
	settle(5000);
	good &= e->lost == 1 && !wrong;
	good = alone_end(e, good);
	ok(good, "%s: the same, and the connection is reset", end_name(e));

	alone(e, 0);			/* no word at all */
	client_out = client.r.out;
	apps[me].ended = 1;
	say(F_DATA, 0, 0, NULL, 0);
	settle(10);
	answers = 0;
	play(e->r.ping_ms - 1000, far_turn);
	good = !heard.n[F_PING];
	play(2000, far_turn);
	good &= heard.n[F_PING] == 1 && !e->lost;
	play(PONG_MAX - 2000, far_turn);
	good &= !e->lost;
	play(3000, far_turn);
	answers = 1;
	good &= e->lost == 1 && !e->r.over;
	play(KEEP - 5000, NULL);
	good &= !e->r.over;
	play(6000, NULL);
	good &= e->r.over && e->r.code == C_MAX && e->done;
	good = alone_end(e, good);
	ok(good, "%s: PING after %d s, lost %d s later, over after %d s",
	    end_name(e), e->r.ping_ms / 1000, PONG_MAX / 1000, KEEP / 1000);
}

/* How a session ends at its own end. */
static void
test_ends(void)
{
	int good;

	alone(&client, 10);
	client_out = client.r.out;
	say(F_DATA, 0, 0, NULL, 0);
	settle(200);
	end_close(&apps[0].w);
	end_close(&apps[0].r);
	settle(200);
	good = client.r.over && client.r.code == C_OFFLINE &&
	    begins(heard.text, "ERROR offline the client has ended");
	good = alone_end(&client, good);
	ok(good, "client: ssh has gone: %s", heard.text);

	alone(&client, 10);
	client_out = client.r.out;
	settle(200);
	interrupted = SIGTERM;
	settle(200);
	interrupted = 0;
	good = client.r.over && client.r.code == C_OFFLINE &&
	    begins(heard.text, "ERROR offline the client has ended");
	good = alone_end(&client, good);
	ok(good, "client: a signal: %s", heard.text);

	alone(&client, 10);		/* the network has changed */
	client_out = client.r.out;
	settle(200);
	say(F_DATA, 0, 10, NULL, 0);
	settle(200);
	answers = 0;
	session_watch(&client.r);
	settle(1900);
	answers = 1;
	good = heard.n[F_PING] == 1 && !client.lost;
	answers = 0;
	settle(300);
	answers = 1;
	good &= client.lost == 1;
	good = alone_end(&client, good);
	ok(good, "client: no answer for 2 s after a change of the network");

	alone(&node, 10);
	client_out = client.r.out;
	settle(200);
	end_close(&agent);
	settle(200);
	good = node.r.over && node.r.code == C_GONE &&
	    begins(heard.text, "ERROR gone the agent has stopped");
	good = alone_end(&node, good);
	ok(good, "node: the agent has gone: %s", heard.text);

	alone(&node, 10);		/* sshd dies with unread bytes */
	client_out = client.r.out;
	apps[1].stalled = INT64_MAX - 1;
	say(F_DATA, 5, 0, "hello", 5);
	settle(200);
	apps[1].w = -1;
	end_close(&apps[1].r);
	settle(200);
	good = !wrong && (heard.n[F_END] == 1 || node.r.in_error);
	say(F_DATA, 0, heard.bytes, NULL, 0);	/* it has all */
	settle(200);
	good &= heard.n[F_END] == 1 || (node.r.over &&
	    begins(heard.text, "ERROR gone sshd: "));
	good = alone_end(&node, good);
	ok(good, "node: sshd dies, what was sent is unread: %s", heard.text);

	alone(&node, 10);		/* and more comes for it */
	client_out = client.r.out;
	settle(200);
	apps[1].w = -1;
	end_close(&apps[1].r);
	say(F_DATA, 5, 10, "hello", 5);
	settle(200);
	say(F_DATA, 5, 10, "hello", 5);
	settle(200);
	good = !wrong && heard.received == 10 && heard.n[F_END] == 1;
	say(F_END, 0, 11, NULL, 0);
	settle(200);
	good &= node.r.over && node.r.code == C_OK && heard.received == 11;
	good = alone_end(&node, good);
	ok(good, "node: sshd has gone, and more comes for it");
}

/* The node's program has ended, and ssh does not end. */
static void
test_left(void)
{
	unsigned char b = nth_byte(0, 0x11);
	int good;

	alone(&client, 0);
	client_out = client.r.out;
	apps[0].want = 9;		/* it might still say something */
	apps[0].most = 0;
	say(F_END, 0, 0, NULL, 0);
	settle(2 * TICK - 1000);
	good = client.r.out_end && !client.r.over;
	(void)!write(apps[0].w, &b, 1);	/* and does */
	settle(100);
	say(F_DATA, 0, 1, NULL, 0);
	settle(2 * TICK - 1000);
	good &= heard.bytes == 1 && !client.r.over;
	settle(3000);
	good &= client.r.over && client.r.ssh_gone && heard.n[F_CLOSE] == 1;
	good = alone_end(&client, good);
	ok(good, "client: the node's side ends, and ssh says nothing for 10 s");
}

/* Two ends that have nothing to say; one side that has. */
static void
test_idle(void)
{
	int before = fds_open(), out, bad;

	nplan = eager = 0;
	piece = 1 << 16;
	start(60, 60, 1, 0);
	out = client.r.out;
	apps[0].want = apps[1].want = 61;	/* one byte is to come */
	apps[0].most = apps[1].most = 0;
	for (bad = 0; bad < 2; bad++) {
		apps[bad].most = 10;
		play(100, NULL);
		apps[bad].most = 0;
		play(7200000, NULL);
	}
	bad = client.lost || node.lost || wrong || nwires != 1;
	if (bad)
		printf("# lost %d times; %s\n", client.lost, wrong ? wrong :
		    "");
	ok(!bad, "nobody says a word for two hours, twice: not lost");
	apps[0].most = apps[1].most = 60;
	play(0, NULL);
	check_whole();
	clean();
	close(out);
	ok(!wrong && fds_open() == before, "and then it ends well");
}

/* A program that reads nothing while it cannot write: cat(1). */
static void
test_echo(void)
{
	size_t up = 24000000;
	int before = fds_open(), out, i;

	nplan = eager = 0;
	for (i = 0; i < 8; i++) {
		seed = 1 + i;
		piece = i & 1 ? 1 << 16 : 9000;
		start(up, up, i & 2, i & 4);
		out = client.r.out;
		apps[0].most = apps[1].most = 1 << 16;
		apps[0].salt = apps[1].own = apps[0].own;
		apps[1].echo = 1;
		apps[0].stalled = now_ms + (i & 4 ? 0 : 60000);
		play(3600000, NULL);
		if (!wrong && !(client.done && node.done))
			fault("after an hour ssh has %lu of %lu bytes",
			    (unsigned long)apps[0].got, (unsigned long)up);
		if (!wrong)
			check_whole();
		if (wrong)
			printf("# %s\n", wrong);
		/* acknowledgements are behind bytes that it does not take */
		ok(!wrong && !client.lost, "cat(1) behind the node, and ssh "
		    "reads %s (%d)", i & 4 ? "all" : "nothing for 60 s", i);
		clean();
		close(out);
	}
	ok(fds_open() == before, "no descriptor is left");
}

/* ---- the agent gives a connection to a keeper, or to nobody */

static void
test_agent(void)
{
	static const char t1[] = "0123456789abcdef0123456789abcdef",
	    t2[] = "0123456789abcdef0123456789abcdee";
	static const struct {
		const char *what, *token, *key;
		long seq;
		int dead;		/* its keeper has just ended */
		const char *why;	/* NULL: it is handed over */
	} t[] = {
		{ "its session", t1, "ka", 4, 0, NULL },
		{ "a later one", t1, "ka", 999999999, 0, NULL },
		{ "the same number again", t1, "ka", 3, 0, "has a newer" },
		{ "an older one", t1, "ka", 1, 0, "has a newer" },
		{ "another token", t2, "ka", 4, 0, "does not know" },
		{ "another key", t1, "kb", 4, 0, "does not know" },
		{ "no key", t1, "", 4, 0, "does not know" },
		{ "its keeper has just died", t1, "ka", 4, 1, "cannot take" },
		{ "a hello that was late", t1, "ka", 0, 0, "cannot take" },
	};
	int before, s[2], k[2], fd[NET_FDS], n, good, err = dup(2), null;
	char b[600], c1;
	size_t i;
	struct conn *s1, *c;
	struct frame f;
	ssize_t got;

	if (reactor_open() < 0 || (null = open("/dev/null", O_RDWR)) < 0)
		abort();
	before = fds_open();
	for (i = 0; i < LEN(t); i++) {
		pair_open(s);
		pair_open(k);
		dup2(null, 2);		/* messages */
		if (!(s1 = conn_new(k[0], end_get)) ||
		    !(c = conn_new(s[0], end_get)) ||
		    !(s1->end->resume.kept = calloc(1, sizeof(struct kept))))
			abort();
		strcpy(s1->end->resume.kept->token, t1);
		strcpy(s1->end->resume.kept->key, "ka");
		s1->end->resume.kept->seq = 3;
		s1->end->resume.kept->lost = 1;
		list_add(&live, s1);
		enter(s1, KEPT);
		enter(c, HELD);
		if (t[i].dead)
			end_close(&k[1]);
		session_resume(c, t[i].token, t[i].seq, t[i].key);
		got = recv(s[1], b, sizeof b - 1, 0);
		b[got > 0 ? got : 0] = '\0';
		n = 0;
		good = got >= 6 && !memcmp(b, "READY\n", 6);
		if (!t[i].why) {
			good &= got == 6 && net_recv_fds(k[1], &c1, 1, fd, &n)
			    == 1 && n == 1 &&
			    s1->end->resume.kept->seq == t[i].seq;
			good &= n && send(fd[0], "x", 1, 0) == 1 &&
			    recv(s[1], b, 9, 0) == 1 && *b == 'x';
			while (n)
				close(fd[--n]);
		} else {
			good = good && frame_parse((unsigned char *)b + 6, got
			    - 6, &f) == FRAME_HEAD && f.type == F_CLOSE &&
			    got == 6 + FRAME_HEAD + (ssize_t)f.len &&
			    begins(b + 6 + FRAME_HEAD, *t[i].why == 'c' ?
			    "ERROR busy " : "ERROR gone ") &&
			    strstr(b + 6 + FRAME_HEAD, t[i].why);
			good &= s1->end->resume.kept->seq == 3;
			if (!t[i].dead && net_recv_fds(k[1], &c1, 1, fd, &n)
			    > 0)
				good = 0;	/* c is no more */
			else
				drop(c, "the end");
			while (n)
				close(fd[--n]);
		}
		drop(s1, "the end");
		dup2(err, 2);
		close(s[1]);
		end_close(&k[1]);
		good &= fds_open() == before;
		ok(good, "agent: a connection for a session: %s%s", t[i].what,
		    t[i].why ? " (refused)" : "");
	}
	close(err);
	close(null);
}

int
main(int argc, char **argv)
{
	uint32_t from = argc > 1 ? (uint32_t)atol(argv[1]) :
	    (uint32_t)time(NULL);
	int i;

	signal(SIGPIPE, SIG_IGN);
	test_agent();
	test_ends();
	for (i = 0; i < 2; i++) {
		test_lies(i ? &client : &node);
		test_closes(i ? &client : &node);
		test_patience(i ? &client : &node);
		test_first_frame(i ? &client : &node);
	}
	test_left();
	test_idle();
	test_echo();
	test_once();
	test_twice();
	test_long(from, argc > 2 ? atoi(argv[2]) : 10);
	printf("1..%d\n", ntests);
	return failed != 0;
}
