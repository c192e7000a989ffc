/* mssh - reach the SSH server of a machine behind NAT
 *
 * One program, four roles.  A session's life, all parties in step:
 *
 *	agent   dials the server, says hello, is parked           (IDLE)
 *	server  PARKED: answers pings, forgets who is silent
 *	client  proxy dials the server, says hello, what ssh has behind it
 *	server  HELLO: finds the node's newest parked connection  (PAIRED)
 *	        sends it GO and a copy of the client's first bytes (CALLED)
 *	agent   dials a new spare at once, then sshd              (HELD, DIAL)
 *	agent   READY, and raw bytes from here
 *	server  OK to the client, and raw bytes from here         (RELAY)
 *	        ... until both directions have ended, or one side is dead
 *
 * Every connection is a struct conn with one owner: the list or the partner
 * that points at it; drop() ends it from any phase and settles what hung on
 * it.  Events change phases, through enter() alone.  Start reading at main().
 */
#define _XOPEN_SOURCE 700

#include <sys/types.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <netinet/in.h>
#include <arpa/inet.h>

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proto.h"
#include "reactor.h"

#ifndef VERSION
# define VERSION "0.1"
#endif

#define LEN(a) (sizeof(a) / sizeof *(a))
#define SPLIT_MS(ms) (ms) / 1000, (ms) % 1000 / 100

/* Limits and times, ms unless said otherwise; mssh(1) lists them. */
enum {
	MAX_HOSTS = 16,		/* --host, --listen, listening sockets */
	MAX_TRUSTED = 16,	/* --trusted */
	MAX_SPARE = 64,		/* parked connections of a node */
	MAX_SILENT = 4,		/* sessions of a node, client without a word */
	SILENT_BURST = 20,	/* of those in a row, and then */
	SILENT_EVERY = 100,	/* one per so many ms */
	MAX_SEEN = 1024,	/* offline nodes remembered */
	MAX_ADDRS = 8,		/* of one name */
	MAX_ACCEPT = 16,	/* in one turn, for which relays wait */
	SOURCES = 4096,		/* counters for the addresses of strangers */
	MAX_DISCARD = 1 << 20,	/* bytes of whoever was refused */

	PING_EVERY = 25000,	/* below the 60 s of most fronts; --ping */
	CALL_ACK = 2000,	/* GO must be acknowledged by TCP */
	CALL_MAX = 10000,	/* and answered */
	LOST_MS = 20000,	/* a client waits for a node lost so long ago */
	LEFT_MS = 5000,		/* or that closed its connection itself */
	START_MS = 3000,	/* or for any after the server's start */
	LAST_MS = 60000,	/* for the last bytes through TLS */
	TICK = 5000,		/* a relay looks whether its peers live: */
	STRIKES = 7,		/* so many without an ACK, dead in 30 to 40 s */
	SILENT_MAX = 10000,	/* a session whose client says nothing */
	HELD_MS = 5000,		/* a registration that held resets backoff */
	BACKOFF_MIN = 500,
	BACKOFF_MAX = 15000,	/* a server that answers */
	BACKOFF_NET = 2000,	/* a network that does not */
	PAUSE = 100,		/* no accept(2) after EMFILE */
	FILES = 64		/* descriptors that are no connections */
};

/* exit codes */
enum {
	X_FAIL = 1, X_USAGE, X_UNREACHABLE, X_OFFLINE, X_DENIED, X_SSHD,
	X_TIMEOUT, X_BUSY, X_PROTOCOL, X_TLS
};

enum phase_id {
	BIRTH,
	/* server */
	FRONT, HELLO, HEAD, PROOF, LINGER, CLAIM, PARKED, CALLED, SPEAK,
	WAITING, PAIRED,
	/* agent and proxy */
	LOOKUP, DIAL, OPEN, TUNNEL, SOCKS, UPGRADE, GREET, IDLE, PINGED, HELD,
	CHILD, ASK, STDIO,
	/* all */
	RELAY
};

enum { TUNNELLED = 1, SEALED, WEB };	/* by a proxy or --connect, TLS, HTTP */
enum { NETWORK = 1, OPENSSL };		/* the sides of a carrier */

struct peer {			/* an address: IPv4 is mapped into IPv6 */
	unsigned char ip[16];
	uint16_t port;
};

struct list {			/* a ring of conns; tail is head->prev */
	struct conn *head;
	int n;
};

/* Ten thousand agents are parked for each one that serves a session, so a
 * connection is small, and what it needs beyond that comes when it is paired
 * (or dials). */
struct conn {
	struct io io;
	struct half *half;	/* its half of a session, or NULL */
	struct conn *next, *prev;
	struct list *in;	/* the list I am in, or NULL */
	struct node *node;	/* server: counted in node->refs */
	uint64_t run;		/* an agent's; a session's id afterwards;
				 * LINGER: bytes discarded */
	int64_t since;		/* beginning of the phase that counts */
	struct peer peer;
	uint16_t copied;	/* client bytes the agent has already; in
				 * strangers: its counter in startups[] */
	uint8_t phase;
	uint8_t version;	/* of the peer, 0: not known yet */
	unsigned slot : 6;	/* agent: which spare */
	unsigned agent : 1;	/* counted in node->agents */
	unsigned silent : 1;	/* counted in node->silent */
	unsigned early : 1;	/* the client has its OK, or wants none */
	unsigned ssh : 1;	/* and is an SSH client, by its own word */
	unsigned first : 1;	/* ended its side first */
	unsigned sshd : 1;	/* agent: the connection to sshd */
	unsigned layer : 2;	/* the last of the transport's that is up */
	unsigned carrier : 2;	/* TLS of another connection goes through */
};

struct key {			/* an entry of the server's keys file */
	struct key *next;	/* removed ones: the names stay, for the log */
	struct secret secret;
	unsigned roles;		/* as in struct right */
	int gone;
	int parked, clients;	/* connections that are here by it */
	char nodes[];
};

struct proof {			/* while a peer has to prove its key */
	struct hello h;
	struct key *key;	/* server: whose, or &unknown */
	unsigned char mac[MAC_LEN];	/* server: what the proof must be */
};

struct half {
	struct duct out;	/* my bytes on their way to to */
	struct conn *to, *from;	/* whose bytes come to me: from */
	struct proof *proof;	/* or NULL: none is wanted, or it was given */
	struct key *key;	/* server: a client's, or NULL */
	int16_t err;		/* what became of the last address */
	uint8_t try;		/* addresses tried */
	uint8_t strikes;	/* looks in a row that found it silent */
	int32_t pid;		/* agent: who serves the session, and */
	int32_t fd;		/* our copy of the child's socket */
	uint32_t source;	/* agent: the hash of sshd's client */
};

struct queue {			/* what few nodes have */
	struct list waiting;		/* clients, oldest at the head */
	struct list claims;		/* agents of another run */
};

struct node {
	struct node *chain;
	union {
		struct list parked;	/* refs > 0; newest at the tail */
		struct node *off[2];	/* refs == 0: newer, older */
	} u;
	struct queue *queue;		/* or &nobody */
	struct key *key;		/* the agents', or NULL */
	uint64_t run;			/* whose the node is */
	int64_t seen;			/* last agent connection ended */
	int32_t refs;			/* conns that point here */
	int32_t agents;			/* of them agents: parked to relay */
	uint32_t refill;		/* silent clients: the bucket's time */
	uint16_t grace;			/* ms after seen that clients wait */
	int8_t silent, tokens;
	char id[];
};

struct target {			/* a name to dial */
	char host[HOST_LEN + 1], port[33];
	struct sockaddr_storage addr[MAX_ADDRS];
	int n, good;		/* addresses, and which worked last */
	int numeric;
	struct io io;		/* added: a lookup is under way, until then */
	unsigned asked;		/* how often */
	char why[80];		/* why there are none */
};

struct query {			/* to the helper process */
	enum { Q_SERVER, Q_SSHD, Q_TLS, Q_CONNECT } what;
	unsigned asked;
};

struct answer {
	struct query q;
	int n;			/* of addr or descriptors, or 0 and why */
	char why[80];
	struct sockaddr_storage addr[MAX_ADDRS];
};

/* in the order in which they happen */
static void on_front(struct conn *);
static void on_hello(struct conn *);
static void on_head(struct conn *);
static void on_proof(struct conn *);
static void on_linger(struct conn *);
static void on_claim(struct conn *);
static void on_parked(struct conn *);
static void on_called(struct conn *);
static void on_speak(struct conn *);
static void on_waiting(struct conn *);
static void on_paired(struct conn *);
static void on_lookup(struct conn *);
static void on_dial(struct conn *);
static void on_open(struct conn *);
static void on_tunnel(struct conn *);
static void on_socks(struct conn *);
static void on_upgrade(struct conn *);
static void on_greet(struct conn *);
static void on_idle(struct conn *);
static void on_held(struct conn *);
static void on_child(struct conn *);
static void on_ask(struct conn *);
static void on_stdio(struct conn *);
static void on_relay(struct conn *);

static const struct phase {
	const char *name;
	void (*fn)(struct conn *);
	int ms;				/* deadline on entry */
} phases[] = {
	[FRONT] = { "front", on_front, 5000 },
	[HELLO] = { "hello", on_hello, 5000 },
	[HEAD] = { "head", on_head, 5000 },
	[PROOF] = { "proof", on_proof, 5000 },
	[LINGER] = { "linger", on_linger, 1000 },
	[CLAIM] = { "claim", on_claim, 3000 },
	[PARKED] = { "parked", on_parked, 60000 },
	[CALLED] = { "called", on_called, CALL_ACK },
	[SPEAK] = { "speak", on_speak, 10000 },
	[WAITING] = { "waiting", on_waiting, LOST_MS },
	[PAIRED] = { "paired", on_paired, 30000 },
	[LOOKUP] = { "lookup", on_lookup, 15000 },
	[DIAL] = { "dial", on_dial, 4000 },
	[OPEN] = { "open", on_open, 15000 },
	[TUNNEL] = { "tunnel", on_tunnel, 10000 },
	[SOCKS] = { "socks", on_socks, 10000 },
	[UPGRADE] = { "upgrade", on_upgrade, 10000 },
	[GREET] = { "greet", on_greet, 10000 },
	[IDLE] = { "idle", on_idle, -1 },	/* --ping */
	[PINGED] = { "pinged", on_idle, 4000 },
	[HELD] = { "held", on_held, 60000 },
	[CHILD] = { "child", on_child, TICK },
	[ASK] = { "ask", on_ask, 35000 },
	[STDIO] = { "stdio", on_stdio, -1 },
	[RELAY] = { "relay", on_relay, TICK },
};

static void drop(struct conn *, const char *why);
static void wrap_left(struct conn *);
static int forsaken(const struct conn *);
static void carrier_end(struct conn *, const char *why);
static void carrier_cut(struct conn *, const char *why);
static void dial(struct conn *);
static void connected(struct conn *);	/* dial() came through */
static void reached(struct conn *);	/* so did a layer above it, */
static void arrived(struct conn *);	/* and the last one */
static void undialled(struct conn *, int code, const char *why);
static void proxy_end(const char *why);
static int proxy_idle(void);
static void begin(struct conn *, struct conn *);
static void pair(struct conn *);
static void claims_win(struct node *);
static int agent_leaves(struct conn *);
static void node_lost(struct node *, const struct peer *);

/* the command line; one role runs, so there is one of each */
static struct {
	const char *role;
	const char *host[MAX_HOSTS], *path[MAX_HOSTS];
	int nhost, npath;
	struct net trusted[MAX_TRUSTED];
	int ntrusted, trust_unix;
	const char *server, *ssh_host, *exec, *identity;
	const char *key, *keys, *allow, *source, *user, *try;
	const char *cafile, *cert, *certkey, *connect, *proxy;
	long port, ssh_port, spare, drain, wait, ping;
	long connections, startups, source_startups;
	long parked, key_parked, waiting, sessions, key_sessions;
	int fdpass, verbose, strict, proxied;
	char node[NODE_LEN + 1];
} cfg = { .port = -1, .ssh_port = 22, .spare = 1, .parked = MAX_SPARE,
    .waiting = 64, .ssh_host = "127.0.0.1",
    .ping = PING_EVERY / 1000 };

static struct list live;		/* one conn of each session */
static int nconns;			/* connections, in any phase */
static int nwaiting, max_waiting;	/* clients in WAITING, of all nodes */
static struct list strangers;		/* up to PROOF; oldest at the head */
static uint16_t startups[SOURCES + 1];	/* of them, by hash of the address;
					 * the last: of fronts */
static struct list leaving;		/* LINGER; oldest at the head */
static int max_leaving;
static struct target server, sshd;
static struct url url;			/* of --server */
static struct proxy proxy;		/* host "": none */
static unsigned char sip_key[16];	/* new at each start */
static struct secret mine;		/* agent, proxy: name "": no key */
static uint64_t next_id;
static int is_daemon, halting;

/* messages */

/* UTC as RFC 3339 writes it.  Not strftime(3), which brings a libc's time
 * zones with it: 7 KiB in a static binary.  Days to date after E. G. Richards
 * (Explanatory Supplement to the Astronomical Almanac, 3rd ed., 15.11.3). */
static int
timestamp(char *b, size_t size)
{
	long t = (long)time(NULL), s = t % 86400;
	long f = t / 86400 + 2440588 + 1401, e, h, d, m, y;

	f += (4 * (t / 86400 + 2440588) + 274277) / 146097 * 3 / 4 - 38;
	e = 4 * f + 3;
	h = 5 * (e % 1461 / 4) + 2;
	d = h % 153 / 5 + 1;
	m = (h / 153 + 2) % 12 + 1;
	y = e / 1461 - 4716 + (14 - m) / 12;
	return snprintf(b, size, "%04ld-%02ld-%02ldT%02ld:%02ld:%02ldZ ",
	    y, m, d, s / 3600, s / 60 % 60, s % 60);
}

static void
vsay_log(const char *fmt, va_list ap)
{
	char b[1024];
	struct pollfd p = { 2, POLLOUT, 0 };
	int n = 0;

	if (is_daemon && !getenv("JOURNAL_STREAM"))
		n = timestamp(b, sizeof b);
	n += snprintf(b + n, sizeof b - n, "mssh: ");
	n += vsnprintf(b + n, sizeof b - n - 1, fmt, ap);
	if (n > (int)sizeof b - 2)
		n = sizeof b - 2;
	b[n++] = '\n';
	/* whoever does not read our messages must not stop us */
	if (is_daemon && poll(&p, 1, 0) != 1)
		return;
	if (write(2, b, n) < 0)
		return;
}

static void
say_log(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsay_log(fmt, ap);
	va_end(ap);
}

static void
die(int code, const char *fmt, ...)
{
	char b[512];
	va_list ap;
	size_t n;
	int e = errno;

	va_start(ap, fmt);
	vsnprintf(b, sizeof b, fmt, ap);
	va_end(ap);
	n = strlen(b);
	if (n && b[n - 1] == ':')
		snprintf(b + n, sizeof b - n, " %s", strerror(e));
	is_daemon = 0;
	say_log("%s", b);
	exit(code);
}

/* What strangers can cause: so many lines a second, the rest is counted. */
enum noise_kind { N_REFUSAL, N_NODE, N_SESSION };

static struct {
	const char *what;
	unsigned max, said, more;
	int64_t second;
} noises[] = {
	[N_REFUSAL] = { "refusals", 10, 0, 0, 0 },
	[N_NODE] = { "nodes that came or went", 100, 0, 0, 0 },
	[N_SESSION] = { "sessions that ended", 100, 0, 0, 0 },
};

static void
noise_count(enum noise_kind k)
{
	if (noises[k].more)
		say_log("%u more %s", noises[k].more, noises[k].what);
	noises[k].more = 0;
}

static void
noise(enum noise_kind k, const char *fmt, ...)
{
	va_list ap;

	if (reactor_now() - noises[k].second >= 1000) {
		noises[k].second = reactor_now();
		noises[k].said = 0;
		noise_count(k);
	}
	if (noises[k].said++ >= noises[k].max && !halting) {
		noises[k].more++;
		return;
	}
	va_start(ap, fmt);
	vsay_log(fmt, ap);
	va_end(ap);
}

/* The socket of sd_notify(3), for as long as we run: no other can be had
 * later. */
static int notify_fd = -1;

static void
notify_open(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un sa;
	size_t n;
	int fd;

	if (!path || (*path != '/' && *path != '@'))
		return;
	if ((n = strlen(path)) >= sizeof sa.sun_path)
		return;
	memset(&sa, 0, sizeof sa);
	sa.sun_family = AF_UNIX;
	memcpy(sa.sun_path, path, n);
	if (*path == '@')
		sa.sun_path[0] = '\0';
	if ((fd = socket(AF_UNIX, SOCK_DGRAM, 0)) < 0)
		return;
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	net_blocking(fd, 0);
	if (connect(fd, (struct sockaddr *)&sa,
	    offsetof(struct sockaddr_un, sun_path) + n) == 0)
		notify_fd = fd;
	else
		close(fd);
}

static void
notify(const char *fmt, ...)
{
	char b[256];
	va_list ap;

	if (notify_fd < 0)
		return;
	va_start(ap, fmt);
	vsnprintf(b, sizeof b, fmt, ap);
	va_end(ap);
	send(notify_fd, b, strlen(b), MSG_NOSIGNAL);
}

static const char *
ago(int64_t ms)
{
	static char b[32];
	long long s = ms / 1000;

	if (s < 120)
		snprintf(b, sizeof b, "%lld s", s);
	else if (s < 7200)
		snprintf(b, sizeof b, "%lld min", s / 60);
	else if (s < 172800)
		snprintf(b, sizeof b, "%lld h", s / 3600);
	else
		snprintf(b, sizeof b, "%lld days", s / 86400);
	return b;
}

/* addresses */

static void
peer_set(struct peer *p, const struct sockaddr_storage *ss)
{
	const struct sockaddr_in6 *s6 = (const struct sockaddr_in6 *)ss;
	const struct sockaddr_in *s4 = (const struct sockaddr_in *)ss;

	memset(p, 0, sizeof *p);
	if (ss->ss_family == AF_INET6) {
		memcpy(p->ip, &s6->sin6_addr, 16);
		p->port = ntohs(s6->sin6_port);
	} else if (ss->ss_family == AF_INET) {
		p->ip[10] = p->ip[11] = 0xff;
		memcpy(p->ip + 12, &s4->sin_addr, 4);
		p->port = ntohs(s4->sin_port);
	}
}

static int
is_ipv4(const struct peer *p)
{
	static const unsigned char map[12] = { [10] = 0xff, [11] = 0xff };

	return !memcmp(p->ip, map, 12);
}

/* Who came by a Unix socket has no address. */
static int
is_unix(const struct peer *p)
{
	static const unsigned char none[16];

	return !p->port && !memcmp(p->ip, none, sizeof none);
}

/* ADDR:PORT, [ADDR]:PORT for IPv6, or without a port that is not known;
 * valid until the fourth call after. */
static const char *
peer_str(const struct peer *p)
{
	static char ring[4][INET6_ADDRSTRLEN + 10];
	static unsigned at;
	char a[INET6_ADDRSTRLEN], *b = ring[at++ % 4];
	int v4 = is_ipv4(p);

	if (is_unix(p))
		return "unix";
	if (!inet_ntop(v4 ? AF_INET : AF_INET6, p->ip + (v4 ? 12 : 0), a,
	    sizeof a))
		strcpy(a, "?");
	snprintf(b, sizeof *ring, !p->port ? v4 ? "%s" : "[%s]" :
	    v4 ? "%s:%u" : "[%s]:%u", a, p->port);
	return b;
}

/* May p say for whom it speaks (--trusted)? */
static int
is_front(const struct peer *p)
{
	int i;

	if (is_unix(p))
		return cfg.trust_unix;
	for (i = 0; i < cfg.ntrusted; i++)
		if (net_has(&cfg.trusted[i], p->ip))
			return 1;
	return 0;
}

static socklen_t
sa_len(const struct sockaddr_storage *ss)
{
	return ss->ss_family == AF_UNIX ? sizeof(struct sockaddr_un) :
	    ss->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) :
	    sizeof(struct sockaddr_in);
}

static const char *
target_str(const struct target *t)
{
	static char b[ADDR_LEN + 32];
	int v6 = strchr(t->host, ':') != NULL;

	snprintf(b, sizeof b, "%s%s%s:%s", v6 ? "[" : "", t->host,
	    v6 ? "]" : "", t->port);
	return b;
}

/* SipHash-2-4 (Aumasson, Bernstein 2012): ids come from strangers */

#define ROTL(x, b) ((x) << (b) | (x) >> (64 - (b)))

static void
sip_round(uint64_t v[4])
{
	v[0] += v[1]; v[1] = ROTL(v[1], 13) ^ v[0]; v[0] = ROTL(v[0], 32);
	v[2] += v[3]; v[3] = ROTL(v[3], 16) ^ v[2];
	v[0] += v[3]; v[3] = ROTL(v[3], 21) ^ v[0];
	v[2] += v[1]; v[1] = ROTL(v[1], 17) ^ v[2]; v[2] = ROTL(v[2], 32);
}

/* In the machine's own byte order: nobody else has to get the same. */
static uint64_t
sip_word(const unsigned char *p, size_t n)
{
	uint64_t w = 0;

	memcpy(&w, p, n);
	return w;
}

static uint64_t
siphash(const void *data, size_t n)
{
	const unsigned char *p = data;
	uint64_t k0 = sip_word(sip_key, 8), k1 = sip_word(sip_key + 8, 8), w;
	uint64_t v[4] = { k0 ^ 0x736f6d6570736575u, k1 ^ 0x646f72616e646f6du,
	    k0 ^ 0x6c7967656e657261u, k1 ^ 0x7465646279746573u };
	size_t left;
	int i;

	for (left = n;; p += 8, left -= 8) {
		w = left >= 8 ? sip_word(p, 8) :
		    sip_word(p, left) | (uint64_t)n << 56;
		v[3] ^= w;
		sip_round(v);
		sip_round(v);
		v[0] ^= w;
		if (left < 8)
			break;
	}
	v[2] ^= 0xff;
	for (i = 0; i < 4; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* connections */

static void
list_del(struct conn *c)
{
	struct list *l = c->in;

	if (!l)
		return;
	if (l == &strangers) {
		startups[c->copied]--;
		c->copied = 0;
	}
	c->next->prev = c->prev;
	c->prev->next = c->next;
	if (l->head == c)
		l->head = c->next == c ? NULL : c->next;
	l->n--;
	c->in = NULL;
}

static void
list_add(struct list *l, struct conn *c)
{
	list_del(c);
	if (l->head) {
		c->next = l->head;
		c->prev = l->head->prev;
		c->prev->next = c->next->prev = c;
	} else
		l->head = c->next = c->prev = c;
	c->in = l;
	l->n++;
}

static void
dispatch(struct io *io)
{
	struct conn *c = (struct conn *)((char *)io -
	    offsetof(struct conn, io));

	phases[c->phase].fn(c);
}

/* The counters that follow from phases: c goes from one to the other. */
static void
count(const struct conn *c, int from, int to)
{
	struct key *k = from == PARKED || to == PARKED ? c->node->key : NULL;

	nwaiting += (to == WAITING) - (from == WAITING);
	if (k)
		k->parked += (to == PARKED) - (from == PARKED);
}

/* The one place that changes a phase; it also sets the deadline. */
static void
enter(struct conn *c, enum phase_id to)
{
	if (cfg.verbose)
		say_log("fd %d: %s -> %s", c->io.fd,
		    c->phase ? phases[c->phase].name : "new", phases[to].name);
	count(c, c->phase, to);
	c->phase = to;
	if (c->io.added)
		io_after(&c->io, to == IDLE ? (int)cfg.ping * 1000 :
		    phases[to].ms);
}

/* A connection that owns fd (-1: none yet).  NULL: no memory, fd is closed. */
static struct conn *
conn_new(int fd)
{
	struct conn *c = calloc(1, sizeof *c);

	if (!c) {
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	io_init(&c->io);
	c->since = reactor_now();
	if (io_add(&c->io, fd, dispatch) < 0) {
		if (fd >= 0)
			close(fd);
		free(c);
		return NULL;
	}
	nconns++;
	return c;
}

static void
proof_free(struct conn *c)
{
	if (c->half && c->half->proof) {
		wipe(c->half->proof, sizeof *c->half->proof);
		free(c->half->proof);
		c->half->proof = NULL;
	}
}

static void
half_free(struct conn *c)
{
	proof_free(c);
	if (c->half)
		duct_end(&c->half->out);
	if (c->half && c->half->key)
		c->half->key->clients--;
	free(c->half);
	c->half = NULL;
}

static void
conn_free(struct conn *c)
{
	nconns--;
	count(c, c->phase, BIRTH);
	wrap_left(c);
	list_del(c);
	half_free(c);
	io_close(&c->io);
	free(c);
}

/* Gives c its half of a session, if it has none yet.  0, or -1: no memory. */
static int
half_get(struct conn *c)
{
	if (c->half)
		return 0;
	if (!(c->half = calloc(1, sizeof *c->half)))
		return -1;
	duct_init(&c->half->out);
	return 0;
}

/* A connection that has its half from birth, as whoever dials needs it. */
static struct conn *
conn_whole(int fd)
{
	struct conn *c = conn_new(fd);

	if (!c || half_get(c) == 0)
		return c;
	conn_free(c);
	return NULL;
}

/* Room for what a proof needs: 0, or -1: no memory. */
static int
proof_get(struct conn *c)
{
	if (half_get(c) < 0)
		return -1;
	c->half->proof = calloc(1, sizeof *c->half->proof);
	return c->half->proof ? 0 : -1;
}

static void
join(struct conn *a, struct conn *b)
{
	a->half->to = a->half->from = b;
	b->half->to = b->half->from = a;
}

static void
part(struct conn *a, struct conn *b)
{
	a->half->to = a->half->from = b->half->to = b->half->from = NULL;
}

/* Exchanges the descriptor, for another address of the same target. */
static int
conn_fd(struct conn *c, int fd)
{
	io_close(&c->io);
	if (io_add(&c->io, fd, dispatch) == 0)
		return 0;
	if (fd >= 0)
		close(fd);
	io_add(&c->io, -1, dispatch);
	return -1;
}

/* Sends one line at once, or not at all: -1. */
static int
say(struct conn *c, const char *fmt, ...)
{
	char b[LINE_LEN + 1];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(b, sizeof b - 1, fmt, ap);
	va_end(ap);
	if (n > LINE_LEN - 1)
		n = LINE_LEN - 1;
	b[n++] = '\n';
	return send(c->io.fd, b, n, MSG_NOSIGNAL) == n ? 0 : -1;
}

/* As hear(), but leaves the line where it is. */
static int
overhear(struct conn *c, char line[LINE_LEN])
{
	char b[LINE_LEN];
	ssize_t n;
	int used;

	if (!(c->io.ready & IO_R))
		return 0;
	n = recv(c->io.fd, b, sizeof b, MSG_PEEK);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
		c->io.ready &= ~IO_R;
		return 0;
	}
	if (n < 0 && errno == EINTR)
		return overhear(c, line);
	if (n < 0)
		c->io.ready &= ~IO_H;	/* an error is no last byte */
	if (n <= 0)
		return -1;
	if ((used = line_take(b, n, line)) < 0)
		return -2;
	if (!used && c->io.ready & IO_H)
		return -1;
	if (!used)
		c->io.ready &= ~IO_R;
	else if (used == n && n < LINE_LEN)
		io_short(&c->io);
	if (c->io.ready & IO_R)
		io_again(&c->io);	/* the next line in the next turn */
	return used;
}

/* Takes n bytes that were seen before.  0, -1. */
static int
consume(struct conn *c, int n)
{
	char b[HEAD_LEN];

	return recv(c->io.fd, b, n, 0) == n ? 0 : -1;
}

/* Takes one line, and not a byte more.  >0: it is in line; 0: not here yet;
 * -1: end of file or error; -2: malformed, the bytes are still there. */
static int
hear(struct conn *c, char line[LINE_LEN])
{
	int used = overhear(c, line);

	return used > 0 && consume(c, used) < 0 ? -1 : used;
}

static int
expired(struct conn *c)
{
	return io_expired(&c->io);
}

/* Ends gracefully: what was said arrives, what still comes is discarded. */
static void
linger(struct conn *c)
{
	list_add(&leaving, c);
	c->run = 0;
	shutdown(c->io.fd, SHUT_WR);
	enter(c, LINGER);
	io_again(&c->io);
}

static void
on_linger(struct conn *c)
{
	char b[4096];
	ssize_t n = 1;
	int i;

	for (i = 0; i < 16 && c->io.ready & IO_R; i++) {
		if ((n = recv(c->io.fd, b, sizeof b, 0)) <= 0)
			break;
		c->run += n;
	}
	if (expired(c) || n == 0 || (n < 0 && errno != EAGAIN) ||
	    c->run > MAX_DISCARD)
		drop(c, "done");
	else if (n < 0)
		c->io.ready &= ~IO_R;
	else if (c->io.ready & IO_R)
		io_again(&c->io);
}

/* relay */

/* The node's side of a session, as opposed to the client's. */
static int
is_inner(const struct conn *c)
{
	return c->agent || c->sshd;
}

/* " key NAME" for the log, or "" */
static const char *
with_key(const struct key *k)
{
	static char b[KEY_LEN + 6];

	if (!k)
		return "";
	snprintf(b, sizeof b, " key %s", k->secret.name);
	return b;
}

static void
session_log(struct conn *c, const char *why)
{
	struct conn *client = is_inner(c) ? c->half->to : c;
	struct conn *node = client->half->to;
	int64_t ms = reactor_now() - client->since;

	if (!why)
		why = client->first ? "closed by the client" :
		    "closed by the node";
	noise(N_SESSION, "session %016llx %s from %s%s up %llu down %llu in "
	    "%d.%d s: %s", (unsigned long long)client->run,
	    client->node ? client->node->id : cfg.node,
	    peer_str(&client->peer), with_key(client->half->key),
	    (unsigned long long)client->half->out.total,
	    (unsigned long long)node->half->out.total, (int)(ms / 1000),
	    (int)(ms % 1000 / 100), why);
}

static void
set_bulk(struct conn *a, struct conn *b)
{
	int bulk = a->half->out.bulk || b->half->out.bulk;

	a->io.bulk = b->io.bulk = bulk;
}

/* Moves from's bytes on.  0: goes on; 1: this direction has ended; -1. */
static int
flow(struct conn *from, struct conn *to)
{
	int done = from->half->out.eof;

	/* close(2) will pass the second end of file on */
	if (is_daemon && to->half->out.eof)
		from->half->out.keep = 1;
	switch (duct_move(&from->half->out, &from->io, &to->io)) {
	case DUCT_MORE:
		from->io.bulk = 1;
		io_again(&from->io);
		return 0;
	case DUCT_DONE:
		if (!done && !to->half->out.eof)
			from->first = 1;
		return 1;
	case DUCT_DEAD:
		return -1;
	}
	return 0;
}

/* Is the peer at fd dead?  Asked once a TICK; only data that waits for an
 * acknowledgement tells. */
static int
struck(struct half *h, int fd)
{
	h->strikes = net_silent(fd) >= TICK ? h->strikes + 1 : 0;
	return h->strikes >= STRIKES;
}

static void
on_relay(struct conn *c)
{
	struct half *h = c->half;
	int in = 1, out = 1, e;

	if (expired(c)) {
		io_after(&c->io, TICK);
		/* nobody reads it any more, so nobody else would notice */
		if (h->out.eof && (e = net_error(c->io.fd))) {
			drop(c, strerror(e));
			return;
		}
		if (!is_daemon && !c->carrier && h->out.eof && proxy_idle()) {
			drop(c, NULL);
			return;
		}
		if (c->carrier == NETWORK && forsaken(c)) {
			drop(c, "nobody reads the last bytes");
			return;
		}
		if (struck(h, c->io.fd)) {
			drop(c, "the network is gone (no acknowledgement "
			    "for 30 s)");
			return;
		}
		if (c->silent && reactor_now() - c->since >= SILENT_MAX) {
			drop(c, "the client said nothing");
			return;
		}
	}
	if (h->to && (out = flow(c, h->to)) < 0) {
		drop(c, strerror(errno));
		return;
	}
	if (h->from && (in = flow(h->from, c)) < 0) {
		drop(c, strerror(errno));
		return;
	}
	/* behind openssl's last byte nobody is left to hear an answer */
	if ((in && out) || (c->carrier == OPENSSL && out) ||
	    (c->carrier == NETWORK && in)) {
		drop(c, NULL);
		return;
	}
	if (h->to && h->to == h->from)
		set_bulk(c, h->to);
	if (c->silent && h->out.total) {
		c->silent = 0;
		c->node->silent--;
	}
}

/* server: nodes */

static struct node **table;
static size_t buckets, nnodes;
static size_t mask;			/* the next power of two, less one */
static struct queue nobody;		/* stays empty */
static struct node *newest, *oldest;	/* offline, remembered */
static int nseen;
static struct io listeners[MAX_HOSTS];
static int nlisten;
static int64_t started;
static struct io beat, drained;

static size_t
bucket(const char *id)
{
	size_t h = siphash(id, strlen(id)) & mask;

	return h < buckets ? h : h & mask >> 1;
}

static struct node *
node_find(const char *id)
{
	struct node *n;

	for (n = buckets ? table[bucket(id)] : NULL; n; n = n->chain)
		if (!strcmp(n->id, id))
			return n;
	return NULL;
}

/* One chain more, into which one of the others is split: the table grows with
 * the nodes and never stops the loop for all of them (linear hashing: Litwin,
 * 1980).  Without memory the chains get longer, that is all. */
static void
table_grow(void)
{
	struct node **p, *n, **t = table;
	size_t old;

	if (!(buckets & (buckets - 1)) &&
	    !(t = realloc(table, (buckets ? 2 * buckets : 1) * sizeof *t)))
		return;
	table = t;
	table[buckets++] = NULL;
	if (buckets - 1 > mask)
		mask = 2 * mask + 1;
	old = (buckets - 1) & mask >> 1;
	for (p = &table[old]; (n = *p);) {
		if (bucket(n->id) == old) {
			p = &n->chain;
			continue;
		}
		*p = n->chain;
		n->chain = table[buckets - 1];
		table[buckets - 1] = n;
	}
}

static struct node *
node_get(const char *id)
{
	struct node *n = node_find(id);
	size_t len = strlen(id) + 1, b;

	if (n)
		return n;
	if (nnodes >= 2 * buckets)
		table_grow();
	if (!buckets || !(n = calloc(1, sizeof *n + len)))
		return NULL;
	memcpy(n->id, id, len);
	n->queue = &nobody;
	n->tokens = SILENT_BURST;
	b = bucket(id);
	n->chain = table[b];
	table[b] = n;
	nnodes++;
	return n;
}

/* A queue of n's own.  -1: no memory. */
static int
queue_get(struct node *n)
{
	struct queue *q;

	if (n->queue != &nobody)
		return 0;
	if (!(q = calloc(1, sizeof *q)))
		return -1;
	n->queue = q;
	return 0;
}

static void
queue_end(struct node *n)
{
	if (n->queue == &nobody || n->queue->waiting.n || n->queue->claims.n ||
	    halting)		/* on_term() walks the lists */
		return;
	free(n->queue);
	n->queue = &nobody;
}

static void
node_free(struct node *n)
{
	struct node **p = &table[bucket(n->id)];

	while (*p != n)
		p = &(*p)->chain;
	*p = n->chain;
	nnodes--;
	if (n->queue != &nobody)	/* queue_end() left it, halting */
		free(n->queue);
	free(n);
}

static void
unremember(struct node *n)
{
	struct node *newer = n->u.off[0], *older = n->u.off[1];

	if (n->refs || (!newer && newest != n))
		return;
	*(newer ? &newer->u.off[1] : &newest) = older;
	*(older ? &older->u.off[0] : &oldest) = newer;
	memset(&n->u, 0, sizeof n->u);
	nseen--;
}

/* Nobody points at the node: one that was here is remembered for a while. */
static void
remember(struct node *n)
{
	struct node *old = oldest;

	if (!n->seen) {
		node_free(n);
		return;
	}
	n->u.off[1] = newest;
	*(newest ? &newest->u.off[0] : &oldest) = n;
	newest = n;
	if (++nseen > MAX_SEEN) {
		unremember(old);
		node_free(old);
	}
}

static void
attach(struct conn *c, struct node *n)
{
	unremember(n);
	c->node = n;
	n->refs++;
}

/* secrets in files */

static char private_buf[KEYS_LEN];	/* what stdio has read ahead */

/* Opens a file that nobody else may read, one at a time: path, which is called
 * name in dir.  NULL: *why has a sentence. */
static FILE *
private_open(const char *path, int dir, const char *name, char *why,
    size_t size)
{
	struct stat st;
	FILE *f;
	int fd = openat(dir, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	*why = '\0';
	if (fd < 0 || fstat(fd, &st) < 0)
		snprintf(why, size, "%s: %s", path, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		snprintf(why, size, "%s is no regular file", path);
	else if (st.st_uid != geteuid() && st.st_uid != 0)
		snprintf(why, size, "%s belongs to another user: chown it to "
		    "yours", path);
	else if (st.st_mode & (st.st_uid ? 077 : 037))
		snprintf(why, size, "others can read %s: chmod %s %s", path,
		    st.st_uid == geteuid() ? "600" : "640", path);
	if (!*why) {
		if ((f = fdopen(fd, "r"))) {
			setvbuf(f, private_buf, _IOFBF, sizeof private_buf);
			return f;
		}
		snprintf(why, size, "%s: %s", path, strerror(errno));
	}
	if (fd >= 0)
		close(fd);
	return NULL;
}

static void
private_close(FILE *f)
{
	fclose(f);
	wipe(private_buf, sizeof private_buf);
}

/* server: keys */

static struct key **keys;		/* by name */
static size_t nkeys;
static struct key *removed;
static struct key unknown;		/* stands for each that we have not */
static int keys_dir = -1;		/* where --keys is, */
static const char *keys_name;		/* under that name */

static int
key_allows(const struct key *k, enum role role, const char *node)
{
	return !k->gone && k->roles >> role & 1 && glob_list(k->nodes, node, 0);
}

/* May agents of k take the place of those of old?  One name is one secret, in
 * however many lines; and a removed key holds nothing any more. */
static int
key_may_follow(const struct key *k, const struct key *old)
{
	return k == old || old->gone ||
	    !strcmp(k->secret.name, old->secret.name);
}

static int
by_name(const struct key *a, const struct key *b)
{
	return strcmp(a->secret.name, b->secret.name);
}

/* Lets the key at i sink to where it belongs in a heap of n. */
static void
keys_sift(struct key **list, size_t i, size_t n)
{
	struct key *k = list[i];
	size_t j;

	for (; (j = 2 * i + 1) < n; i = j) {
		j += j + 1 < n && by_name(list[j], list[j + 1]) < 0;
		if (by_name(k, list[j]) >= 0)
			break;
		list[i] = list[j];
	}
	list[i] = k;
}

/* Heapsort, since qsort(3) asks some systems for files and memory, which the
 * sandbox would not give. */
static void
keys_sort(struct key **list, size_t n)
{
	struct key *k;
	size_t i;

	for (i = n / 2; i--;)
		keys_sift(list, i, n);
	while (n-- > 1) {
		k = list[n];
		list[n] = list[0];
		list[0] = k;
		keys_sift(list, 0, n);
	}
}

/* Where the entries of that name begin. */
static size_t
key_first(const char *name)
{
	size_t lo = 0, hi = nkeys, mid;

	while (lo < hi) {
		mid = (lo + hi) / 2;
		if (strcmp(keys[mid]->secret.name, name) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* The entry of that name that allows it, or else another one of that name. */
static struct key *
key_find(const char *name, enum role role, const char *node)
{
	size_t lo = key_first(name), i;

	for (i = lo; i < nkeys && !strcmp(keys[i]->secret.name, name); i++)
		if (key_allows(keys[i], role, node))
			return keys[i];
	return i > lo ? keys[lo] : &unknown;
}

static void
keys_free(struct key **list, size_t n)
{
	while (n--) {
		wipe(&list[n]->secret, sizeof list[n]->secret);
		free(list[n]);
	}
	free(list);
}

static struct key *
key_new(const struct right *r)
{
	size_t n = strlen(r->nodes) + 1;
	struct key *k = calloc(1, sizeof *k + n);

	if (k) {
		k->secret = r->secret;
		k->roles = r->roles;
		memcpy(k->nodes, r->nodes, n);
	}
	return k;
}

/* Appends the entries of f to *list.  Returns 0, or the line that is bad. */
static int
keys_read(FILE *f, struct key ***list, size_t *n, const char **why)
{
	char line[KEYS_LEN];
	struct right r;
	struct key **more;
	int at = 0, bad = 0;

	*list = NULL;
	*n = 0;
	while (!bad && fgets(line, sizeof line, f)) {
		at++;
		*why = "the line is too long";
		bad = (!strchr(line, '\n') && !feof(f)) ||
		    right_parse(line, &r, why) < 0;
		if (bad || !r.roles)
			continue;
		*why = "no memory";
		bad = 1;
		if (!(more = realloc(*list, (*n + 1) * sizeof **list)))
			continue;
		*list = more;
		if (((*list)[*n] = key_new(&r))) {
			++*n;
			bad = 0;
		}
	}
	wipe(line, sizeof line);
	wipe(&r, sizeof r);
	return bad ? at : 0;
}

static int
key_same(const struct key *a, const struct key *b)
{
	return a->roles == b->roles && !strcmp(a->nodes, b->nodes) &&
	    !mac_differs(a->secret.key, b->secret.key);
}

/* Exchanges *new for the same entry of before, since nodes and clients point
 * at that one; what is left in keys at the end is what nobody wants. */
static void
key_keep(struct key **new)
{
	const char *name = (*new)->secret.name;
	struct key *k;
	size_t i;

	for (i = key_first(name); i < nkeys &&
	    !strcmp(keys[i]->secret.name, name); i++) {
		k = keys[i];
		if (!k->gone || !key_same(k, *new))
			continue;
		keys[i] = *new;
		*new = k;
		k->gone = 0;
		return;
	}
}

/* Puts list in the place of keys.  Of the removed ones only the secrets go:
 * nodes and clients may point at them, and the log names them. */
static void
keys_replace(struct key **list, size_t n)
{
	size_t i;

	for (i = 0; i < nkeys; i++)
		keys[i]->gone = 1;
	for (i = 0; i < n; i++)
		key_keep(&list[i]);
	for (i = 0; i < nkeys; i++) {
		wipe(keys[i]->secret.key, sizeof keys[i]->secret.key);
		if (!keys[i]->gone) {	/* never was in use */
			free(keys[i]);
			continue;
		}
		keys[i]->next = removed;
		removed = keys[i];
	}
	free(keys);
	keys = list;
	nkeys = n;
}

/* Reads --keys.  -1: nothing has changed, and why says why. */
static int
keys_load(char *why, size_t size)
{
	const char *bad = NULL;
	struct key **list;
	size_t n, i;
	FILE *f;
	int at;

	if (!(f = private_open(cfg.keys, keys_dir, keys_name, why, size)))
		return -1;
	at = keys_read(f, &list, &n, &bad);
	if (at)
		snprintf(why, size, "%s:%d: %s", cfg.keys, at, bad);
	else if (ferror(f))
		snprintf(why, size, "%s: %s", cfg.keys, strerror(errno));
	at |= ferror(f);
	private_close(f);
	keys_sort(list, n);
	for (i = 1; !at && i < n; i++)
		if (!by_name(list[i - 1], list[i]) && mac_differs(
		    list[i - 1]->secret.key, list[i]->secret.key)) {
			snprintf(why, size, "%s: the key %s has two secrets",
			    cfg.keys, list[i]->secret.name);
			at = 1;
		}
	if (at) {
		keys_free(list, n);
		return -1;
	}
	keys_replace(list, n);
	return 0;
}

/* server: refusals */

/* Says why, in the peer's own tongue, and closes. */
static void
refuse(struct conn *c, enum code code, const char *fmt, ...)
{
	unsigned char ssh[512];
	char why[300], b[4];
	va_list ap;
	size_t n;

	va_start(ap, fmt);
	vsnprintf(why, sizeof why, fmt, ap);
	va_end(ap);
	noise(N_REFUSAL, "refused %s: %.140s", peer_str(&c->peer), why);
	if (c->early) {
		n = c->ssh || (recv(c->io.fd, b, 4, MSG_PEEK) == 4 &&
		    !memcmp(b, "SSH-", 4)) ? ssh_refusal(ssh, why) : 0;
		if (n && send(c->io.fd, ssh, n, MSG_NOSIGNAL) < 0)
			n = 0;
	} else if (c->version == 1)
		say(c, "ERROR: %s", why);
	else
		say(c, "ERROR %s %s", code_names[code], why);
	linger(c);
}

static void
no_memory(struct conn *c)
{
	refuse(c, C_LIMIT, "the server is out of memory, try later");
}

/* The first bytes are no hello of ours: whose are they? */
static void
refuse_stranger(struct conn *c, const char *said, size_t n, const char *why)
{
	static const char text[] = "this is a rendezvous server: it speaks "
	    "neither SSH nor TLS by itself, see mssh(1)";
	static const char alert[] = "\x15\x03\x01\x00\x02\x02\x46";
	unsigned char b[512];
	int len = 0;

	switch (sniff((const unsigned char *)said, n)) {
	case T_TLS:		/* protocol_version (RFC 8446 6) */
		why = "a TLS client";
		memcpy(b, alert, len = sizeof alert - 1);
		break;
	case T_SSH:
		why = "an SSH client";
		len = ssh_refusal(b, text);
		break;
	default:
		refuse(c, C_SYNTAX, "%s", why);
		return;
	}
	noise(N_REFUSAL, "refused %s: %s", peer_str(&c->peer), why);
	send(c->io.fd, b, len, MSG_NOSIGNAL);
	linger(c);
}

/* server: agents */

/* Was the node here so lately that a client may wait for it?  ms, or 0. */
static int
grace(const struct node *n)
{
	int64_t until = n->seen ? n->seen + n->grace : 0;

	if (n->agents)
		return LOST_MS;
	if (until < started + START_MS)
		until = started + START_MS;
	return until > reactor_now() ? (int)(until - reactor_now()) : 0;
}

/* Serves the clients that wait, as far as the parked connections go. */
static void
serve_waiting(struct node *n)
{
	while (n->queue->waiting.n && n->u.parked.n)
		pair(n->queue->waiting.head);
}

static void
park(struct conn *c)
{
	struct node *n = c->node;
	struct conn *a, *next;
	int i, known = n->agents && n->run == c->run;

	if (say(c, "OK") < 0) {
		drop(c, "gone");
		return;
	}
	n->run = c->run;
	if (!c->agent)
		n->agents++;
	c->agent = 1;
	list_add(&n->u.parked, c);
	enter(c, PARKED);
	if (c->version == 1)	/* has no pings: TCP keepalive watches it */
		io_after(&c->io, -1);
	io_again(&c->io);
	a = n->u.parked.head;
	for (i = n->u.parked.n; i > 0; i--, a = next) {
		next = a->next;
		if (a != c && c->run && a->run == c->run && a->slot == c->slot)
			drop(a, "replaced by its own agent");
	}
	if (!known)
		noise(N_NODE, "%s registered from %s%s (%d parked)", n->id,
		    peer_str(&c->peer), with_key(n->key), n->u.parked.n);
	serve_waiting(n);
}

/* May an agent of k park a connection at n?  What n has parked itself does
 * not count, since this one may take its place. */
static int
may_park(struct conn *c, const struct node *n, int slot, const struct key *k)
{
	long others = !k ? 0 : k->parked - (n->key == k ? n->u.parked.n : 0);

	if (slot >= cfg.parked)
		refuse(c, C_LIMIT, "a node may park %ld connections here "
		    "(--parked)", cfg.parked);
	else if (others + slot >= cfg.key_parked)
		refuse(c, C_LIMIT, "the key %s has %ld connections parked "
		    "(--key-parked)", k->secret.name, others);
	else
		return 1;
	return 0;
}

/* The agents that hold the node have shown that they live. */
static void
claims_fail(struct node *n)
{
	while (n->queue->claims.n)
		refuse(n->queue->claims.head, C_EXISTS, "another agent holds "
		    "the node %s and is alive", n->id);
}

/* The node is free: the first claim takes it, with all of its run. */
static void
claims_win(struct node *n)
{
	uint64_t run;
	struct conn *c;

	if (!n->queue->claims.n)
		return;
	c = n->queue->claims.head;
	run = c->run;
	while (n->queue->claims.n) {
		c = n->queue->claims.head;
		list_del(c);
		if (c->run == run && (run || !n->agents)) {
			/* others of its key may have come meanwhile */
			if (may_park(c, n, c->slot, n->key))
				park(c);
		} else
			refuse(c, C_EXISTS, "another agent was first to take "
			    "the node %s", n->id);
	}
}

/* Another agent says it is this node: does the one that holds it live? */
static void
claim(struct conn *c)
{
	struct node *n = c->node;
	struct conn *a = n->u.parked.head, *next;
	int i, ms = phases[CLAIM].ms;

	if (n->queue->claims.n >= MAX_SPARE) {
		refuse(c, C_LIMIT, "too many agents want the node %s", n->id);
		return;
	}
	if (queue_get(n) < 0) {
		no_memory(c);
		return;
	}
	list_add(&n->queue->claims, c);
	enter(c, CLAIM);
	for (i = n->u.parked.n; i > 0; i--, a = next) {
		next = a->next;
		if (a->version == 1) {
			net_keepalive(a->io.fd, 1, 1, 3);
			ms = 5000;
		} else
			say(a, "PING");
	}
	io_after(&c->io, ms);
}

static void
on_claim(struct conn *c)
{
	struct node *n = c->node;
	char line[LINE_LEN];
	struct conn *a, *next;
	int i;

	if (!expired(c)) {
		if (hear(c, line) < 0)
			drop(c, "gone");
		return;
	}
	a = n->u.parked.head;
	for (i = n->u.parked.n; i > 0; i--, a = next) {
		next = a->next;
		if (a->version != 1)
			drop(a, "no answer to a ping");
		else {
			net_keepalive(a->io.fd, 30, 10, 3);
			io_after(&c->io, -1);
		}
	}
	if (!n->queue->claims.n)
		return;		/* settled, and nobody may be left of n */
	if (n->u.parked.n)
		claims_fail(n);
	else
		claims_win(n);
}

static void
on_parked(struct conn *c)
{
	char line[LINE_LEN];
	int r;

	if (expired(c)) {
		drop(c, "silent for 60 s");
		return;
	}
	if (c->version == 1) {	/* what it sends belongs to the session */
		if (c->io.ready & IO_H)
			drop(c, "closed");
		return;
	}
	if ((r = hear(c, line)) > 0) {
		io_after(&c->io, phases[PARKED].ms);
		claims_fail(c->node);
		/* it waits in earnest: only now that is worth two calls */
		if (io_lazy(&c->io, 1) < 0)
			r = -1;
		if (word_is(line, "PING") && say(c, "PONG") < 0)
			r = -1;
	}
	if (r < 0)
		drop(c, r == -2 ? "no line of the protocol" : "closed");
}

static void
node_key(struct node *n, struct key *k)
{
	if (n->key)
		n->key->parked -= n->u.parked.n;
	if (k)
		k->parked += n->u.parked.n;
	n->key = k;
}

static void
agent_hello(struct conn *c, const struct hello *h, struct key *k)
{
	struct node *n = node_get(h->node);

	if (!n) {
		no_memory(c);
		return;
	}
	list_del(c);
	attach(c, n);
	if (!may_park(c, n, h->slot, k))
		return;
	if (n->agents && !key_may_follow(k, n->key)) {
		refuse(c, C_EXISTS, "another key holds the node %s", n->id);
		return;
	}
	node_key(n, k);
	c->run = h->run;
	c->slot = h->slot;
	if (!n->agents || (c->run && c->run == n->run) ||
	    (c->version == 1 && !n->u.parked.n && !n->run)) {
		if (n->queue->claims.n && c->run == n->run)
			claims_fail(n);
		park(c);
	} else
		claim(c);
}

/* server: clients */

static unsigned char first[COPY_LEN];	/* a client's first bytes */

static ssize_t
peek(struct conn *c)
{
	ssize_t n = recv(c->io.fd, first, sizeof first, MSG_PEEK);

	if (n > 0 && n < COPY_LEN)
		io_short(&c->io);	/* an edge will tell of more */
	return n;
}

/* A client that has not said a word costs sshd a process, so there is little
 * room for such: the rest must speak first (every SSH client does). */
static int
gate(struct node *n)
{
	uint32_t now = reactor_now() / SILENT_EVERY, more = now - n->refill;
	uint32_t missing = SILENT_BURST - n->tokens;

	n->tokens += more < missing ? more : missing;
	n->refill = now;
	if (n->silent >= MAX_SILENT || n->tokens <= 0)
		return 0;
	n->tokens--;
	return 1;
}

static int
client_ok(struct conn *c)
{
	if (c->early)
		return 0;
	return c->version == 1 ? say(c, "OK") :
	    say(c, "OK id=%016llx", (unsigned long long)c->run);
}

/* Is one side here by a key that was removed? */
static int
key_gone(const struct conn *c)
{
	return (c->half && c->half->key && c->half->key->gone) ||
	    (c->node->key && c->node->key->gone);
}

/* Both sides are ready: from here they are on their own. */
static void
begin(struct conn *c, struct conn *a)
{
	if (key_gone(c)) {
		part(a, c);
		drop(a, "its key was removed");
		refuse(c, C_DENIED, "its key was removed");
		return;
	}
	if (client_ok(c) < 0) {
		drop(c, "gone");
		return;
	}
	if (c->copied && recv(c->io.fd, first, c->copied, 0) != c->copied) {
		drop(c, "gone");
		return;
	}
	if (!c->copied)		/* what peek() saw is still there */
		c->io.ready |= IO_R;
	c->half->out.total = c->copied;
	c->since = reactor_now();
	list_add(&live, c);
	enter(c, RELAY);
	enter(a, RELAY);
	on_relay(c);
}

/* Tells a parked agent that a client is here, n of whose first bytes are in
 * first.  -1: it is gone already. */
static int
call(struct conn *a, struct conn *c, ssize_t n)
{
	char b[LINE_LEN + COPY_LEN];
	int len;

	list_del(a);
	c->copied = 0;
	if (io_lazy(&a->io, 0) < 0)
		return -1;
	if (a->version == 2) {
		len = snprintf(b, LINE_LEN, "GO from=%s id=%016llx%s%s\n",
		    peer_str(&c->peer), (unsigned long long)c->run,
		    c->half->key ? " key=" : "",
		    c->half->key ? c->half->key->secret.name : "");
		c->copied = n > 0 ? n : 0;
		memcpy(b + len, first, c->copied);
		len += c->copied;
		if (send(a->io.fd, b, len, MSG_NOSIGNAL) != len)
			return -1;
	} else if (a->io.ready & IO_H)
		return -1;
	join(a, c);
	a->since = reactor_now();
	enter(a, CALLED);
	enter(c, PAIRED);
	if (a->version == 1)
		begin(c, a);
	return 0;
}

static void
offline(struct conn *c)
{
	struct node *n = c->node;

	if (n->agents)
		refuse(c, C_BUSY, "%s is busy: none of its connections became "
		    "free, try again", n->id);
	else if (n->seen)
		refuse(c, C_OFFLINE, "%s is offline (last seen %s ago)", n->id,
		    ago(reactor_now() - n->seen));
	else
		refuse(c, C_OFFLINE, "%s is offline (never seen here)", n->id);
}

/* May c, of whose first bytes n are here, be paired now?  One that has not said
 * a word may have to speak first, with its OK in hand.  0: no, and c may be
 * gone. */
static int
may_pair(struct conn *c, ssize_t n)
{
	if (c->silent || n > 0)
		return 1;
	if (n == 0 && c->version == 2) {
		drop(c, "the client gave up");
		return 0;
	}
	if (gate(c->node)) {
		c->silent = 1;
		c->node->silent++;
		return 1;
	}
	if (client_ok(c) < 0) {
		drop(c, "gone");
		return 0;
	}
	c->early = 1;
	enter(c, SPEAK);
	return 0;
}

/* c waits until a connection is parked, for ms at most.  Who was called in
 * vain keeps the first place. */
static void
wait_parked(struct conn *c, int ms)
{
	struct node *n = c->node;
	int again = c->phase == PAIRED || c->phase == WAITING;

	/* who has left takes no place from those who are here */
	if (c->io.ready & IO_H)
		drop(c, "the client gave up");
	else if (!again && n->queue->waiting.n >= cfg.waiting)
		refuse(c, C_BUSY, "%ld clients wait for %s already "
		    "(--waiting), try later", cfg.waiting, n->id);
	else if (!again && nwaiting >= max_waiting)
		refuse(c, C_BUSY, "%d clients wait for nodes already, try "
		    "later", nwaiting);
	else if (queue_get(n) < 0)
		no_memory(c);
	else {
		list_add(&n->queue->waiting, c);
		if (again)
			n->queue->waiting.head = c;
		enter(c, WAITING);
		io_after(&c->io, ms);
	}
}

/* Finds a parked connection for c; a dead one costs it nothing. */
static void
pair(struct conn *c)
{
	struct node *n = c->node;
	struct conn *a, *last = NULL;
	int64_t left = c->since - reactor_now();
	ssize_t got;

	list_del(c);
	if (c->half && c->half->key && c->half->key->gone) {
		refuse(c, C_DENIED, "its key was removed");
		return;
	}
	if (n->agents - n->u.parked.n >= cfg.sessions) {
		refuse(c, C_BUSY, "%s has %d sessions (--sessions), try later",
		    n->id, n->agents - n->u.parked.n);
		return;
	}
	while (n->u.parked.n && !last) {
		got = peek(c);
		if (!may_pair(c, got))
			return;
		a = n->u.parked.head->prev;
		if (half_get(a) < 0 || half_get(c) < 0) {
			no_memory(c);
			return;
		}
		if (call(a, c, got) == 0)
			return;
		if (agent_leaves(a))
			last = a;	/* a claim may win: c goes first */
		else
			drop(a, "gone when it was called");
	}
	if (left < grace(n))
		left = grace(n);
	if (left > 0)
		wait_parked(c, (int)left);
	else
		offline(c);
	if (last) {
		node_lost(n, &last->peer);
		drop(last, "gone when it was called");
	}
}

static void
client_hello(struct conn *c, const struct hello *h, struct key *k)
{
	struct node *n;

	c->early = c->ssh = h->early;
	if (k && k->clients >= cfg.key_sessions) {
		refuse(c, C_BUSY, "the key %s has %d sessions, or clients "
		    "that wait for one (--key-sessions), try later",
		    k->secret.name, k->clients);
		return;
	}
	if ((k && half_get(c) < 0) || !(n = node_get(h->node))) {
		no_memory(c);
		return;
	}
	if (k) {
		c->half->key = k;
		k->clients++;
	}
	list_del(c);
	attach(c, n);
	c->run = next_id++;
	c->since = reactor_now() + h->wait * 1000;	/* waits until then */
	pair(c);
}

static void
on_speak(struct conn *c)
{
	ssize_t n = peek(c);

	if (n > 0)
		pair(c);
	else if (n == 0 || errno != EAGAIN || expired(c))
		drop(c, "the client said nothing");
	else
		c->io.ready &= ~IO_R;
}

static void
on_waiting(struct conn *c)
{
	if (c->io.ready & IO_H)
		drop(c, "the client gave up");
	else if (expired(c))
		offline(c);
}

static void
on_paired(struct conn *c)
{
	ssize_t n = 1;

	if (c->io.ready & IO_H && (n = peek(c)) < 0 && errno == EAGAIN)
		n = 1;
	if (expired(c) || n < 0 || (n == 0 && c->version == 2))
		drop(c, "the client gave up");
}

static void
on_called(struct conn *a)
{
	struct conn *c = a->half->to;
	const char *text;
	char line[LINE_LEN];
	int r, code;

	if ((r = hear(a, line)) > 0) {
		claims_fail(c->node);	/* whoever speaks is alive */
		code = reply_parse(line, &text);
		if (code == C_OK) {
			begin(c, a);
			return;
		}
		if (code > 0) {
			part(a, c);
			refuse(c, code, "%s: %s", c->node->id, text);
			linger(a);
			return;
		}		/* else a ping that crossed GO */
	}
	if (r < 0) {
		drop(a, "gone when it was called");
		return;
	}
	if (!expired(a))
		return;
	if (net_silent(a->io.fd) >= CALL_ACK / 2)
		drop(a, "did not acknowledge a call");
	else if (reactor_now() - a->since < CALL_MAX)
		io_after(&a->io, CALL_ACK);
	else if (c->node->u.parked.n)
		drop(a, "no answer to a call");
	else {
		part(a, c);
		refuse(c, C_TIMEOUT, "%s did not answer in %d s", c->node->id,
		    CALL_MAX / 1000);
		drop(a, "no answer to a call");
	}
}

/* The last eighth of all connections is for agents that are known, by their
 * key or from before: a full server still lets them back in.  Who can be made
 * to leave takes up nothing. */
static int
crowded(const struct hello *h, const struct key *k)
{
	const struct node *n;

	if (nconns - strangers.n - leaving.n <
	    cfg.connections - cfg.connections / 8)
		return 0;
	if (h->role != R_AGENT)
		return 1;
	return !k && (!(n = node_find(h->node)) || !(n->agents || n->seen));
}

static void
welcome(struct conn *c, const struct hello *h, struct key *k)
{
	if (crowded(h, k)) {
		c->early = c->ssh = h->early;
		refuse(c, C_LIMIT, "the server is full (--connections), try "
		    "later");
	} else if (h->role == R_AGENT)
		agent_hello(c, h, k);
	else
		client_hello(c, h, k);
}

/* Proves that we know the peer's key, and asks for as much.  One that we do
 * not know is treated like any other, with a key that nobody has. */
static void
challenge(struct conn *c, const struct hello *h)
{
	unsigned char nonce[MAC_LEN], mac[MAC_LEN];
	char n64[B64_LEN + 1], m64[B64_LEN + 1];
	struct proof *p;

	if (!*h->key) {
		c->early = c->ssh = h->early;
		refuse(c, C_DENIED, "this server wants a key (see --key in "
		    "mssh(1))");
		return;
	}
	if (proof_get(c) < 0) {
		no_memory(c);
		return;
	}
	p = c->half->proof;
	p->h = *h;
	p->key = key_find(h->key, h->role, h->node);
	if (p->key == &unknown)		/* as long to hash as one we know */
		memcpy(unknown.secret.name, h->key, sizeof h->key);
	sys_random(nonce, sizeof nonce);
	proof_mac(&p->key->secret, LABEL_SERVER, h->role, h->node, h->nonce,
	    nonce, mac);
	proof_mac(&p->key->secret, LABEL_PEER, h->role, h->node, h->nonce,
	    nonce, p->mac);
	b64_write(nonce, n64);
	b64_write(mac, m64);
	if (say(c, "CHALLENGE nonce=%s mac=%s", n64, m64) < 0)
		drop(c, "gone");
	else
		enter(c, PROOF);
}

/* No line of ours: HTTP has a way to us, once. */
static void
no_hello(struct conn *c, const char *why)
{
	ssize_t n = peek(c);

	if (c->layer < WEB && n > 0 && sniff(first, n) == T_HTTP) {
		enter(c, HEAD);
		on_head(c);
	} else
		refuse_stranger(c, (char *)first, n > 0 ? n : 0, why);
}

static void
on_hello(struct conn *c)
{
	struct hello h;
	const char *why = "the first line is no mssh hello";
	char line[LINE_LEN];
	int r = overhear(c, line);

	if (r > 0 && hello_parse(line, &h, &why) < 0) {
		c->version = h.version;
		r = -2;
	}
	if (r == -2)
		no_hello(c, why);
	else if (r < 0 || (r > 0 && consume(c, r) < 0))
		drop(c, "gone");
	else if (r > 0) {
		c->version = h.version;
		if (cfg.keys)
			challenge(c, &h);
		else
			welcome(c, &h, NULL);
	} else if (expired(c))
		refuse(c, C_TIMEOUT, "no hello within %d s",
		    phases[HELLO].ms / 1000);
}

/* Waits for PROOF.  Whoever is refused hears the same, whatever was wrong. */
static void
on_proof(struct conn *c)
{
	struct proof *p = c->half->proof;
	struct hello h = p->h;
	struct key *k = p->key;
	unsigned char mac[MAC_LEN];
	char line[LINE_LEN], w[B64_LEN + 1];
	int r = hear(c, line), ok;

	if (r == -1) {
		noise(N_REFUSAL, "refused %s: it left without a proof of the "
		    "key %s", peer_str(&c->peer), h.key);
		drop(c, "gone");
		return;
	}
	if (r == 0 && expired(c)) {
		c->early = c->ssh = h.early;
		refuse(c, C_TIMEOUT, "no proof of the key %s within %d s",
		    h.key, phases[PROOF].ms / 1000);
	}
	if (r == 0)
		return;
	ok = r > 0 && word_is(line, "PROOF") &&
	    word_get(line, "mac", w, sizeof w) > 0 && b64_parse(w, mac) == 0 &&
	    !mac_differs(mac, p->mac) && key_allows(k, h.role, h.node);
	half_free(c);
	if (ok) {
		welcome(c, &h, k);
		return;
	}
	c->early = c->ssh = h.early;
	refuse(c, C_DENIED, "the key %s is not good for %s %s here", h.key,
	    role_names[h.role], h.node);
}

/* server: fronts and HTTP */

/* Where the strangers of an address are counted: of an IPv6 network, since
 * one host has 2^64 addresses there.  Two addresses may share a counter, but
 * nobody knows which (the hash is keyed).  Who comes through a front has no
 * address of its own yet. */
static unsigned
door_of(const struct peer *p)
{
	if (is_front(p) || is_unix(p))
		return SOURCES;
	return siphash(p->ip, is_ipv4(p) ? 16 : 8) % SOURCES;
}

/* Too many of this address that have not said who they are? */
static int
knocks(const struct peer *p, unsigned door)
{
	if (door == SOURCES || startups[door] < cfg.source_startups)
		return 0;
	noise(N_REFUSAL, "refused %s: %ld connections of its address have not "
	    "said who they are (--source-startups)", peer_str(p),
	    cfg.source_startups);
	return 1;
}

/* A front says whose connection c is.  0: c is gone. */
static int
introduce(struct conn *c, const struct origin *o)
{
	struct peer p;
	unsigned door;

	if (!o->known)
		return 1;
	memcpy(p.ip, o->ip, sizeof p.ip);
	p.port = o->port;
	door = door_of(&p);
	if (knocks(&p, door)) {
		drop(c, "too many of its address");
		return 0;
	}
	if (cfg.verbose)
		say_log("fd %d: %s is %s", c->io.fd, peer_str(&c->peer),
		    peer_str(&p));
	startups[c->copied]--;
	startups[c->copied = door]++;
	c->peer = p;
	return 1;
}

/* Goes on with the first line of what was used for now. */
static void
greet(struct conn *c, int used)
{
	if (consume(c, used) < 0) {
		drop(c, "gone");
		return;
	}
	c->io.ready |= IO_R;	/* what peek() saw behind it is still there */
	enter(c, HELLO);
	io_again(&c->io);
}

/* Peeks at what has to come whole before it can be used.  0: nothing is here;
 * -1: c is gone. */
static ssize_t
glance(struct conn *c)
{
	ssize_t n = peek(c);

	if (n > 0)
		return n;
	if (n == 0 || errno != EAGAIN) {
		drop(c, "gone");
		return -1;
	}
	c->io.ready &= ~IO_R;
	return 0;
}

static void
on_front(struct conn *c)
{
	struct origin o;
	ssize_t n = glance(c);
	int r = n > 0 ? proxy_take((char *)first, n, &o) : 0;

	if (n < 0)
		return;
	if (r > 0) {
		if (introduce(c, &o))
			greet(c, r);
	} else if (r < 0)
		refuse(c, C_SYNTAX, "the connection does not begin with a "
		    "PROXY header (--proxy-protocol)");
	else if (expired(c))
		refuse(c, C_TIMEOUT, "no PROXY header within %d s",
		    phases[FRONT].ms / 1000);
	else if (c->io.ready & IO_H)
		drop(c, "gone");
}

/* Answers a request, and closes. */
static void
http_say(struct conn *c, const struct request *q)
{
	static const struct {
		int status;
		const char *reason;
	} known[] = {
		{ 200, "OK" }, { 408, "Request Timeout" },
		{ 426, "Upgrade Required" },
		{ 431, "Request Header Fields Too Large" },
		{ 505, "HTTP Version Not Supported" }, { 400, "Bad Request" }
	};
	const char *text = q->why ? q->why : "ok";
	char b[600];
	size_t i = 0;

	while (known[i].status != q->status && i + 1 < LEN(known))
		i++;
	snprintf(b, sizeof b, "HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\n"
	    "Content-Length: %zu\r\nConnection: close%s\r\n\r\n%s%s",
	    q->status, known[i].reason, strlen(text) + 1,
	    q->status == 426 ? ", Upgrade\r\nUpgrade: mssh" : "",
	    q->head ? "" : text, q->head ? "" : "\n");
	if (q->status != 200)
		noise(N_REFUSAL, "refused %s: HTTP: %s", peer_str(&c->peer),
		    text);
	send(c->io.fd, b, strlen(b), MSG_NOSIGNAL);
	linger(c);
}

/* The head of an HTTP request: it ends in our protocol, or in an answer that
 * an HTTP client understands. */
static void
on_head(struct conn *c)
{
	static const char ok[] = "HTTP/1.1 101 Switching Protocols\r\n"
	    "Connection: Upgrade\r\nUpgrade: mssh\r\n\r\n";
	struct request q = { 400, 0, NULL, NULL };
	struct origin o = { .known = 0 };
	ssize_t n = glance(c);
	int r = n > 0 ? head_take((char *)first, n, &q.why) : 0;

	if (n < 0)
		return;
	if (r == -2)
		q.status = 431;
	if (r == 0 && expired(c)) {
		q.status = 408;
		q.why = "the head of the request did not come";
		r = -1;
	}
	if (r == 0 && c->io.ready & IO_H)
		drop(c, "gone");
	if (r == 0)
		return;
	if (r > 0)
		request_parse((char *)first, &q);
	if (r > 0 && is_front(&c->peer) && head_origin(q.fields, cfg.trusted,
	    cfg.ntrusted, &o) < 0) {
		q.status = 400;
		q.why = "X-Forwarded-For and Forwarded contradict each "
		    "other, or are malformed";
	}
	if (!introduce(c, &o))
		return;
	if (q.status != 101) {
		http_say(c, &q);
		return;
	}
	c->layer = WEB;
	if (send(c->io.fd, ok, sizeof ok - 1, MSG_NOSIGNAL) < 0)
		drop(c, "gone");
	else
		greet(c, r);
}

/* server: accept */

/* No room for a newcomer: the stranger that has kept us waiting the longest
 * makes some, or nobody is accepted for a moment. */
static void
full(struct io *io)
{
	static int64_t said = INT64_MIN / 2;
	struct conn *c = strangers.head;

	if (c && reactor_now() - c->since >= 1000) {
		drop(c, "made room");
		io_again(io);
		return;
	}
	if (reactor_now() - said < 1000)
		;
	else if (nconns >= cfg.connections)
		say_log("%d connections: not accepting for %d ms (raise "
		    "--connections)", nconns, PAUSE);
	else
		say_log("out of descriptors or memory: not accepting for %d ms "
		    "(raise LimitNOFILE or ulimit -n)", PAUSE);
	said = reactor_now() - said >= 1000 ? reactor_now() : said;
	io_after(io, PAUSE);
}

/* Too many that have not said who they are?  Of one address: the newcomer is
 * turned away.  Of all: the oldest makes room, which has had the time of as
 * many others to say a line; the honest say theirs in one round trip, so a
 * flood has to be quicker than that (sshd(8), whose MaxStartups turns the
 * newcomers away, must wait for people who type). */
static int
turned_away(const struct peer *p, unsigned door)
{
	if (knocks(p, door))
		return 1;
	if (strangers.n >= cfg.startups) {
		noise(N_REFUSAL, "refused %s: %d connections have not said "
		    "who they are (--startups)",
		    peer_str(&strangers.head->peer), strangers.n);
		drop(strangers.head, "made room");
	}
	return 0;
}

/* When all connections are in use (--connections) whoever was refused already
 * makes room, or who has not said a word for the longest time. */
static struct conn *
weakest(void)
{
	return leaving.n ? leaving.head : strangers.head;
}

static void
make_room(void)
{
	struct conn *c = weakest();

	/* who was refused and stays is no stranger any more, but holds a
	 * descriptor like one; the oldest has had the most time to read */
	while (leaving.n > max_leaving) {
		drop(leaving.head, "made room");
		c = weakest();
	}
	if (nconns < cfg.connections || !c)
		return;
	noise(N_REFUSAL, "dropped %s: all %d connections are in use "
	    "(--connections)", peer_str(&c->peer), nconns);
	drop(c, "made room");
}

static void
on_listen(struct io *io)
{
	struct sockaddr_storage ss;
	struct peer p;
	struct conn *c;
	socklen_t len;
	unsigned door = 0;
	int i, fd;

	if (io->heap >= 0)	/* pausing after EMFILE */
		return;
	io_expired(io);
	for (i = 0; i < MAX_ACCEPT; i++) {
		if (nconns >= cfg.connections && !weakest()) {
			full(io);
			return;
		}
		len = sizeof ss;
		fd = net_accept(io->fd, (struct sockaddr *)&ss, &len);
		if (fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			io->ready &= ~IO_R;
			return;
		}
		if (fd < 0 && errno != EMFILE && errno != ENFILE &&
		    errno != ENOBUFS && errno != ENOMEM)
			continue;	/* that peer is gone */
		if (fd >= 0) {
			peer_set(&p, &ss);
			door = door_of(&p);
			if (turned_away(&p, door)) {
				close(fd);
				continue;
			}
		}
		make_room();
		if (fd < 0 || !(c = conn_new(fd))) {
			full(io);
			return;
		}
		c->io.sole = 1;
		c->peer = p;
		list_add(&strangers, c);
		startups[c->copied = door]++;
		enter(c, cfg.proxied ? FRONT : HELLO);
		if (cfg.proxied && !is_front(&p))
			refuse(c, C_DENIED, "this server takes connections "
			    "from its front only (--trusted)");
	}
	io_again(io);
}

static void
listen_one(const struct sockaddr *sa, socklen_t len, int v6only)
{
	struct sockaddr_storage ss;
	struct peer p;
	socklen_t n = sizeof ss;
	int fd;

	if (nlisten == MAX_HOSTS)
		die(X_USAGE, "more than %d addresses to listen on", MAX_HOSTS);
	if ((fd = net_listen(sa, len, v6only)) < 0)
		die(X_FAIL, "cannot listen on port %ld:", cfg.port);
	if (getsockname(fd, (struct sockaddr *)&ss, &n) < 0)
		die(X_FAIL, "getsockname:");
	peer_set(&p, &ss);
	cfg.port = p.port;	/* the kernel's choice holds for all hosts */
	io_init(&listeners[nlisten]);
	if (io_add(&listeners[nlisten++], fd, on_listen) < 0)
		die(X_FAIL, "cannot watch a socket:");
	say_log("listening on %s", peer_str(&p));
}

/* A Unix socket that a front on the same host connects to.  One that nobody
 * listens on any more is replaced; the directory says who gets to it. */
static void
listen_unix(const char *path)
{
	struct sockaddr_un sa;
	mode_t before = umask(0111);
	int fd;

	memset(&sa, 0, sizeof sa);
	sa.sun_family = AF_UNIX;
	if (strlen(path) >= sizeof sa.sun_path)
		die(X_USAGE, "--listen: the path of a Unix socket has at most "
		    "%d characters", (int)sizeof sa.sun_path - 1);
	memcpy(sa.sun_path, path, strlen(path));
	if (nlisten == MAX_HOSTS)
		die(X_USAGE, "more than %d addresses to listen on", MAX_HOSTS);
	net_unlink_stale(&sa);
	if ((fd = net_listen((struct sockaddr *)&sa, sizeof sa, 0)) < 0)
		die(X_FAIL, "cannot listen on unix:%s:", path);
	umask(before);
	io_init(&listeners[nlisten]);
	if (io_add(&listeners[nlisten++], fd, on_listen) < 0)
		die(X_FAIL, "cannot watch a socket:");
	say_log("listening on unix:%s", path);
}

static int
has_ipv4(void)
{
	int i;

	for (i = 0; i < cfg.nhost; i++)
		if (!strchr(cfg.host[i], ':'))
			return 1;
	return 0;
}

static void
listen_host(const char *host)
{
	struct addrinfo hint, *list, *a;
	char port[8], bare[64];
	size_t n = strlen(host);
	int e;

	memset(&hint, 0, sizeof hint);
	hint.ai_socktype = SOCK_STREAM;
	hint.ai_flags = AI_PASSIVE;
	snprintf(port, sizeof port, "%ld", cfg.port);
	if (n > 2 && n < sizeof bare && *host == '[' && host[n - 1] == ']') {
		snprintf(bare, sizeof bare, "%.*s", (int)n - 2, host + 1);
		host = bare;
	}
	if ((e = getaddrinfo(host, port, &hint, &list)))
		die(X_USAGE, "--host %s: %s", host, gai_strerror(e));
	for (a = list; a; a = a->ai_next) {
		/* where the port was 0: the one that the first socket got */
		((struct sockaddr_in *)a->ai_addr)->sin_port = htons(cfg.port);
		listen_one(a->ai_addr, a->ai_addrlen, has_ipv4());
	}
	freeaddrinfo(list);
}

/* Sockets that systemd opened for us (sd_listen_fds(3)): from 3 on. */
static int
listen_inherited(void)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	struct sockaddr_storage ss;
	struct peer p;
	socklen_t len;
	long n, who;
	int fd, on;

	if (!pid || !fds || num_parse(pid, 1, INT_MAX, &who) < 0 ||
	    who != (long)getpid() || num_parse(fds, 1, MAX_HOSTS, &n) < 0)
		return 0;
	for (fd = 3; fd < 3 + n; fd++) {
		fcntl(fd, F_SETFD, FD_CLOEXEC);
		net_blocking(fd, 0);
		len = sizeof on;
		if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) < 0 ||
		    !on)
			die(X_USAGE, "LISTEN_FDS: descriptor %d is no "
			    "listening socket (ListenStream=, Accept=no)", fd);
		len = sizeof ss;
		if (getsockname(fd, (struct sockaddr *)&ss, &len) < 0)
			die(X_FAIL, "LISTEN_FDS: descriptor %d:", fd);
		net_tune(fd);
		peer_set(&p, &ss);
		io_init(&listeners[nlisten]);
		if (io_add(&listeners[nlisten++], fd, on_listen) < 0)
			die(X_FAIL, "LISTEN_FDS: descriptor %d:", fd);
		say_log("listening on %s", peer_str(&p));
	}
	return nlisten;
}

/* server: the end */

static void
finish(struct io *io)
{
	(void)io;
	while (live.n)
		drop(live.head, "the server stopped");
	reactor_halt();
}

static void
drop_all(struct list *l, const char *why)
{
	while (l->n)
		drop(l->head, why);
}

static void
on_term(int sig)
{
	struct node *n, *next;
	size_t i;

	(void)sig;
	if (halting) {
		finish(NULL);
		return;
	}
	halting = 1;
	notify("STOPPING=1");
	say_log("stopping: %d sessions have %ld s", live.n, cfg.drain);
	while (nlisten)
		io_close(&listeners[--nlisten]);
	drop_all(&strangers, "the server stops");
	for (i = 0; i < buckets; i++)
		for (n = table[i]; n; n = next) {
			next = n->chain;
			if (!n->refs)
				continue;	/* offline */
			n->refs++;	/* outlives its connections */
			drop_all(&n->queue->claims, "the server stops");
			drop_all(&n->queue->waiting, "the server stops");
			drop_all(&n->u.parked, "the server stops");
			n->refs--;
		}
	if (!live.n || !cfg.drain) {
		finish(NULL);
		return;
	}
	io_after(&drained, cfg.drain > INT_MAX / 1000 ? INT_MAX :
	    (int)cfg.drain * 1000);
}

/* Is there something of n that a removed key brought here? */
static struct conn *
stale(struct node *n)
{
	struct conn *c = n->queue->waiting.head;
	int i;

	if (!n->refs)
		return NULL;
	if (n->key && n->key->gone && n->queue->claims.n)
		return n->queue->claims.head;
	if (n->key && n->key->gone && n->u.parked.n)
		return n->u.parked.head;
	for (i = n->queue->waiting.n; i > 0; i--, c = c->next)
		if (c->half && c->half->key && c->half->key->gone)
			return c;
	return NULL;
}

static void
drop_stale(void)
{
	struct node *n;
	struct conn *c, *next;
	size_t b;
	int i;

	for (b = 0; b < buckets; b++)
		for (n = table[b]; n;)
			if ((c = stale(n))) {
				drop(c, "its key was removed");
				n = table[b];	/* the chain has changed */
			} else
				n = n->chain;
	c = live.head;
	for (i = cfg.strict ? live.n : 0; i > 0; i--, c = next) {
		next = c->next;
		if (key_gone(c))
			drop(c, "its key was removed");
	}
}

/* SIGHUP: the keys anew.  Sessions go on, unless --strict-reload. */
static void
on_reload(int sig)
{
	char why[PATH_MAX + 200];

	(void)sig;
	if (!cfg.keys)
		return;
	if (keys_load(why, sizeof why) < 0) {
		say_log("the keys stay as they were: %s", why);
		return;
	}
	say_log("%zu keys read from %s", nkeys, cfg.keys);
	drop_stale();
}

/* systemd's watchdog, and a status line for systemctl */
static void
on_beat(struct io *io)
{
	const char *us = getenv("WATCHDOG_USEC");
	size_t k;
	long v;

	io_expired(io);
	for (k = 0; k < LEN(noises); k++)
		noise_count(k);
	if (!us || num_parse(us, 1000, LONG_MAX, &v) < 0)
		v = 20000000;
	else
		notify("WATCHDOG=1");
	if (nlisten)
		notify("STATUS=%d sessions, %zu nodes known, %d of them "
		    "offline", live.n, nnodes, nseen);
	io_after(io, v / 2000 > INT_MAX ? INT_MAX : (int)(v / 2000));
}

static void
at_least(long *v, long n, long min)
{
	if (!*v)
		*v = n > min ? n : min;
}

/* What was not set follows from how many descriptors there are. */
static void
limits(long n)
{
	long *all = &cfg.connections;

	max_waiting = n / 4;
	max_leaving = n / 8;
	at_least(&cfg.startups, n / 2, 3);
	at_least(&cfg.source_startups, cfg.startups / 3 * 2, 1);
	if (cfg.source_startups > UINT16_MAX)
		cfg.source_startups = UINT16_MAX;
	at_least(all, n > 2 * FILES ? n - FILES : n, 1);
	at_least(&cfg.key_parked, *all / 2, 16);
	at_least(&cfg.sessions, *all / 8, 16);
	at_least(&cfg.key_sessions, *all / 16, 16);
}

/* Root's rights end here. */
static void
become(void)
{
	if (cfg.user && geteuid() != 0)
		die(X_USAGE, "--user: only root can become another user");
	if (cfg.user && proc_user(cfg.user) < 0)
		die(errno ? X_FAIL : X_USAGE, errno ? "cannot become %s:" :
		    "--user: there is no user %s", cfg.user);
	proc_hide();
}

/* And here all the others that are not needed any more.  Returns a descriptor
 * of dir, or -1. */
static int
confine(int dial, const char *dir)
{
	const char *what;
	int fd = -1;

	if (!cfg.exec)
		fd = proc_confine(dial, dir, notify_fd, &what);
	if (!cfg.exec && fd < 0 && dir)
		die(X_USAGE, "%s:", dir);
	if (cfg.exec)
		say_log("not confined, as what --exec runs would be");
	else if (what)
		say_log("confined by %s", what);
	else
		say_log("not confined: this system or build has nothing for "
		    "it");
	if (cfg.try)
		die(proc_try(cfg.try, fd) < 0 ? 0 : X_FAIL, "%s:", cfg.try);
	return fd;
}

static void
daemon_start(void)
{
	is_daemon = 1;
	notify_open();
	limits(proc_raise());
	io_init(&beat);
	io_init(&drained);
	if (io_add(&beat, -1, on_beat) < 0 || io_add(&drained, -1, finish) < 0)
		die(X_FAIL, "no memory:");
	reactor_signal(SIGTERM, on_term);
	reactor_signal(SIGINT, on_term);
	signal(SIGHUP, SIG_IGN);	/* the agent has a use for it */
}

static void
keys_start(void)
{
	char why[PATH_MAX + 200], dir[PATH_MAX] = ".";
	const char *slash = cfg.keys ? strrchr(cfg.keys, '/') : NULL;

	keys_name = slash ? slash + 1 : cfg.keys;
	if (slash)
		snprintf(dir, sizeof dir, "%.*s", (int)(slash - cfg.keys) +
		    (slash == cfg.keys), cfg.keys);
	become();
	keys_dir = confine(0, cfg.keys ? dir : NULL);
	if (!cfg.keys) {
		say_log("no keys: whoever gets here may be any node and reach "
		    "any (see --keys in mssh(1))");
		return;
	}
	sys_random(unknown.secret.key, sizeof unknown.secret.key);
	if (keys_load(why, sizeof why) < 0)
		die(X_USAGE, "%s", why);
	say_log("%zu keys read from %s", nkeys, cfg.keys);
	reactor_signal(SIGHUP, on_reload);
}

static int
run_server(void)
{
	int i;

	daemon_start();
	started = reactor_now();
	if (cfg.proxied && !cfg.ntrusted && !cfg.trust_unix)
		die(X_USAGE, "--proxy-protocol wants --trusted: the front's "
		    "address");
	if (!cfg.nhost && (!cfg.npath || cfg.port >= 0))
		cfg.host[cfg.nhost++] = "0.0.0.0";
	if (cfg.port < 0)
		cfg.port = PORT;
	if (!listen_inherited()) {
		for (i = 0; i < cfg.nhost; i++)
			listen_host(cfg.host[i]);
		for (i = 0; i < cfg.npath; i++)
			listen_unix(cfg.path[i]);
	}
	keys_start();
	notify("READY=1");
	on_beat(&beat);
	if (reactor_run() < 0)
		die(X_FAIL, "the event loop failed:");
	say_log("stopped");
	return 0;
}

/* ending connections */

/* c is none of its node's agent connections any more.  1: it was the last; a
 * crash or a lost network lets clients wait longer for the node than a
 * connection that was closed.  node_lost() has to follow. */
static int
agent_leaves(struct conn *c)
{
	struct node *n = c->node;

	if (!c->agent)
		return 0;
	c->agent = 0;
	if (--n->agents)
		return 0;
	n->seen = reactor_now();
	n->grace = c->io.ready & IO_H ? LEFT_MS : LOST_MS;
	return 1;
}

static void
node_lost(struct node *n, const struct peer *p)
{
	if (!halting && !n->queue->claims.n)
		noise(N_NODE, "%s is offline (last connection from %s closed)",
		    n->id, peer_str(p));
	claims_win(n);
}

static void
conn_release(struct conn *c)
{
	struct node *n = c->node;
	struct peer p = c->peer;
	int lost = agent_leaves(c);

	if (n && c->silent)
		n->silent--;
	conn_free(c);
	if (!is_daemon && halting && !nconns)
		exit(0);
	if (!n)
		return;
	if (lost)
		node_lost(n, &p);
	queue_end(n);
	if (--n->refs == 0)
		remember(n);
}

/* A session: why is NULL where both sides said their last byte.  A cut must
 * not look like an end of file, so it is an RST. */
static void
session_end(struct conn *c, const char *why)
{
	struct conn *p = c->half->to;

	if (c->carrier) {
		carrier_end(c, why);
		return;
	}
	if (!is_daemon) {
		proxy_end(why);
		return;
	}
	session_log(c, why);
	if (why) {
		carrier_cut(c, why);
		carrier_cut(p, why);
		net_reset(c->io.fd);
		net_reset(p->io.fd);
	}
	conn_release(c);
	conn_release(p);
	if (halting && !live.n)
		reactor_halt();
}

/* Ends a connection in any phase, and what depends on it. */
static void
drop(struct conn *c, const char *why)
{
	struct conn *p = c->half ? c->half->to : NULL;
	int phase = c->phase, lost;

	if (cfg.verbose)
		say_log("fd %d: %s, dropped: %s", c->io.fd, phases[phase].name,
		    why ? why : "done");
	if (phase == RELAY) {
		session_end(c, why);
		return;
	}
	if (p)
		part(c, p);
	if (p && phase == CALLED) {
		lost = agent_leaves(c);
		pair(p);	/* first in the queue when a claim wins */
		if (lost)
			node_lost(c->node, &c->peer);
	}
	conn_release(c);
	if (p && phase != CALLED) {
		if (p->phase == CALLED)	/* it may have begun: no clean end */
			net_reset(p->io.fd);
		drop(p, why);
	}
}

/* names and dialling, for agent and proxy */

static struct list lookups;		/* conns in LOOKUP */

static struct target *
target_of(const struct conn *c)
{
	return c->sshd ? &sshd : &server;
}

static void
target_add(struct target *t, const struct addrinfo *list, int family)
{
	for (; list && t->n < MAX_ADDRS; list = list->ai_next) {
		if (list->ai_family != family)
			continue;
		memset(&t->addr[t->n], 0, sizeof t->addr[0]);
		memcpy(&t->addr[t->n++], list->ai_addr, list->ai_addrlen);
	}
}

/* IPv6 first, then IPv4.  Returns getaddrinfo(3)'s code. */
static int
resolve(struct target *t, int flags)
{
	struct addrinfo hint, *list;
	int e;

	memset(&hint, 0, sizeof hint);
	hint.ai_socktype = SOCK_STREAM;
	hint.ai_flags = flags;
	if ((e = getaddrinfo(t->host, t->port, &hint, &list)))
		return e;
	t->n = 0;
	target_add(t, list, AF_INET6);
	target_add(t, list, AF_INET);
	freeaddrinfo(list);
	return t->n ? 0 : EAI_NONAME;
}

static void
target_init(struct target *t, const char *host, const char *port)
{
	io_init(&t->io);
	memcpy(t->host, host, strlen(host) + 1);
	memcpy(t->port, port, strlen(port) + 1);
	t->numeric = resolve(t, AI_NUMERICHOST) == 0;
}

static void
lookup_done(struct target *t)
{
	struct conn *c;
	int i;

	io_del(&t->io);
	t->good = 0;
	for (i = lookups.n; i > 0; i--) {
		c = lookups.head;
		list_del(c);
		if (target_of(c) != t)
			list_add(&lookups, c);
		else {
			c->half->try = 0;
			if (t->n)
				dial(c);
			else
				undialled(c, X_TIMEOUT, t->why);
		}
	}
}

static void
on_late(struct io *io)
{
	struct target *t = (struct target *)((char *)io -
	    offsetof(struct target, io));

	if (!io_expired(io))
		return;
	snprintf(t->why, sizeof t->why, "its name server does not answer");
	lookup_done(t);
}

/* What our sandbox leaves no room for is done by a process that is older: it
 * looks names up and runs the programs that transports need.  All that it
 * starts are its children, and nobody waits for them. */

static struct io helper;		/* the socket to it */
static struct answer answer_in;
static size_t answer_got;
static int answer_fds[NET_FDS], answer_nfds;
static struct list orders;		/* conns in OPEN */

static void transport_up(struct conn *, const struct answer *, int *fds,
    int n);

static void
name_answered(const struct answer *a)
{
	struct target *t = a->q.what == Q_SSHD ? &sshd : &server;

	if (a->n < 0 || a->n > MAX_ADDRS)
		die(X_FAIL, "the helper process is out of order");
	if (!t->io.added || a->q.asked != t->asked)
		return;			/* too late */
	t->n = a->n;
	memcpy(t->addr, a->addr, sizeof t->addr);
	snprintf(t->why, sizeof t->why, "%.79s", a->why);
	lookup_done(t);
}

static void
order_answered(const struct answer *a, int *fds, int n)
{
	struct conn *c = orders.head;
	int i;

	for (i = orders.n; i > 0 && c->run != a->q.asked; i--)
		c = c->next;
	if (i > 0) {
		list_del(c);
		c->run = 0;
		transport_up(c, a, fds, n);
		return;
	}
	while (n > 0)			/* too late */
		close(fds[--n]);
}

static void
on_answer(struct io *io)
{
	struct answer *a = &answer_in;
	ssize_t n = 0;
	int nfds;

	while (answer_got < sizeof *a && (n = net_recv_fds(io->fd,
	    (char *)a + answer_got, sizeof *a - answer_got, answer_fds,
	    &answer_nfds)) > 0)
		answer_got += n;
	if (answer_got < sizeof *a) {
		if (n == 0)
			die(X_FAIL, "the helper process has ended");
		if (errno == EAGAIN)
			io->ready &= ~IO_R;
		else
			io_again(io);
		return;
	}
	answer_got = 0;
	nfds = answer_nfds;
	answer_nfds = 0;
	io_again(io);
	if (a->q.what == Q_SERVER || a->q.what == Q_SSHD)
		name_answered(a);
	else
		order_answered(a, answer_fds, nfds);
}

/* Resolution blocks, and getaddrinfo(3) has no deadline, so each has a process
 * of its own. */
static void
look_up(int fd, const struct query *q)
{
	struct target *t = q->what == Q_SSHD ? &sshd : &server;
	struct answer a;
	int e;

	signal(SIGTERM, SIG_DFL);	/* nobody waits for it at the end */
	signal(SIGINT, SIG_DFL);
	signal(SIGALRM, SIG_DFL);
	alarm(10);
	memset(&a, 0, sizeof a);
	a.q = *q;
	if ((e = resolve(t, 0)))
		snprintf(a.why, sizeof a.why, "%s", gai_strerror(e));
	else
		a.n = t->n;
	memcpy(a.addr, t->addr, sizeof a.addr);
	_exit(send(fd, &a, sizeof a, MSG_NOSIGNAL) < 0);
}

/* s_client ends when we close its standard input (-no_ign_eof), reads no
 * commands there (-nocommands), nor a passphrase (-pass), and checks what it
 * would only print (the rest). */
static void
tls_exec(const struct sockaddr_un *sa, int fd, int err)
{
	const char *argv[32] = { "openssl", "s_client", "-quiet",
	    "-no_ign_eof", "-nocommands", "-verify_return_error", "-pass",
	    "pass:", "-unix", sa->sun_path };
	unsigned char ip[16];
	int n = 10, is_ip = ip_parse(url.host, ip) == 0;

	argv[n++] = is_ip ? "-verify_ip" : "-verify_hostname";
	argv[n++] = url.host;
	argv[n++] = is_ip ? "-noservername" : "-servername";
	if (!is_ip)
		argv[n++] = url.host;
	if (url.scheme == S_HTTPS) {
		argv[n++] = "-alpn";
		argv[n++] = "http/1.1";
	}
	if (cfg.cafile) {
		argv[n++] = "-CAfile";
		argv[n++] = cfg.cafile;
	}
	if (cfg.cert) {
		argv[n++] = "-cert";
		argv[n++] = cfg.cert;
		argv[n++] = "-cert_chain";
		argv[n++] = cfg.cert;
		argv[n++] = "-key";
		argv[n++] = cfg.certkey ? cfg.certkey : cfg.cert;
	}
	argv[n] = NULL;
	proc_exec((char *const *)argv, fd, err);
}

static void
connect_exec(int fd)
{
	char cmd[4096] = "exec ";	/* no shell lingers and holds fd */
	char *argv[] = { "/bin/sh", "-c", cmd, NULL };

	if (command_expand(cfg.connect, url.host, url.port, cmd + 5,
	    sizeof cmd - 5) == 0)
		proc_exec(argv, fd, -1);
	_exit(127);
}

/* Hands a transport over.  TLS: as soon as openssl has come for its connection,
 * or ended without.  A command may not notice that we have gone, so it is
 * ended then, with all that it has started. */
static void
hand_over(int sock, const struct query *q, int pid, const int *f,
    struct sockaddr_un *sa)
{
	struct pollfd p[2] = { { f[4], POLLIN, 0 }, { f[0], POLLIN, 0 } };
	struct pollfd leash = { f[3], 0, 0 };
	struct answer a;
	int fds[NET_FDS] = { f[0], f[2], -1 }, parent = getppid(), i;

	close(f[1]);
	memset(&a, 0, sizeof a);
	a.q = *q;
	a.n = 2;
	if (q->what == Q_TLS) {
		if (poll(p, 2, 10000) > 0 && p[0].revents &&
		    (fds[2] = accept(f[4], NULL, NULL)) >= 0)
			a.n = 3;
		net_unlisten_private(sa);
	}
	/* who does not get them lets go of the leash */
	net_send_fds(sock, &a, sizeof a, fds, a.n);
	if (q->what == Q_TLS)
		_exit(0);
	close(sock);		/* that of the helper, whose end shows by it */
	close(f[0]);
	close(f[2]);
	while (poll(&leash, 1, -1) < 0 && errno == EINTR)
		;
	/* what --exec said last may be on its way through it still; if the
	 * helper ends, everything does */
	for (i = 0; i < 100 && kill(-pid, 0) == 0 && getppid() == parent; i++)
		poll(NULL, 0, 100);
	kill(-pid, SIGTERM);
	for (i = 0; i < 10 && kill(-pid, 0) == 0; i++)
		poll(NULL, 0, 100);
	kill(-pid, SIGKILL);
	_exit(0);
}

/* Makes a transport and two children: what it runs on, and who hands it over.
 * -1: *what failed, see errno. */
static int
transport(int sock, const struct query *q, const char **what)
{
	struct sockaddr_un sa;
	int f[5] = { -1, -1, -1, -1, -1 };	/* our end and the child's; a
						 * pipe for its errors, or that
						 * breaks; where it listens */
	int pid = -1, keeper = -1, i, e;

	*what = "";
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, f) == 0 && pipe(f + 2) == 0 &&
	    q->what == Q_TLS && (f[4] = net_listen_private(&sa)) < 0)
		*what = "no socket in $TMPDIR or /tmp: ";
	if (f[3] >= 0 && !**what && (pid = fork()) == 0) {
		if (q->what == Q_TLS)
			tls_exec(&sa, f[1], f[3]);
		connect_exec(f[1]);
	}
	if (pid > 0 && (keeper = fork()) == 0)
		hand_over(sock, q, pid, f, &sa);
	e = errno;
	if (keeper < 0 && f[4] >= 0)
		net_unlisten_private(&sa);
	if (keeper < 0 && pid > 0)
		kill(pid, SIGKILL);
	for (i = 0; i < 5; i++)
		if (f[i] >= 0)
			close(f[i]);
	errno = e;
	return keeper;
}

static void
helper_main(int fd)
{
	static const int ignored[] = { SIGTERM, SIGINT, SIGHUP, SIGCHLD };
	struct answer a;
	struct query q;
	const char *what;
	size_t i;
	int null;

	for (i = 0; i < LEN(ignored); i++)
		signal(ignored[i], SIG_IGN);
	wipe(&mine, sizeof mine);	/* what it reads comes from afar */
	net_blocking(fd, 1);
	null = open("/dev/null", O_RDWR);
	dup2(null, 0);			/* ssh waits for its pipes to close */
	dup2(null, 1);
	close(null);
	while (recv(fd, &q, sizeof q, MSG_WAITALL) == (ssize_t)sizeof q) {
		if (q.what == Q_SERVER || q.what == Q_SSHD) {
			if (fork() == 0)
				look_up(fd, &q);
		} else if (transport(fd, &q, &what) < 0) {
			memset(&a, 0, sizeof a);
			a.q = q;
			snprintf(a.why, sizeof a.why, "%s%s", what,
			    strerror(errno));
			send(fd, &a, sizeof a, MSG_NOSIGNAL);
		}
	}
	close(fd);
	alarm(3);
	while (wait(NULL) > 0)		/* they have nothing left to do */
		;
	_exit(0);
}

static int helper_pid;

/* At the end: whoever works for us ends before us, and nobody is left to be
 * waited for. */
static void
helper_end(void)
{
	proc_keep(-1);			/* that is how they know */
	while (waitpid(helper_pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static int
helper_start(void)
{
	int p[2];

	if (helper.added)
		return 0;
	io_init(&helper);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, p) < 0)
		return -1;
	fcntl(p[0], F_SETFD, FD_CLOEXEC);
	net_blocking(p[0], 0);
	if (io_add(&helper, p[0], on_answer) < 0)
		goto bad;
	if ((helper_pid = proc_fork()) == 0) {
		proc_keep(p[1]);
		helper_main(p[1]);
	}
	if (helper_pid > 0) {
		close(p[1]);
		atexit(helper_end);
		return 0;
	}
	io_del(&helper);
bad:
	close(p[0]);
	close(p[1]);
	return -1;
}

static int
helper_ask(int what, unsigned id)
{
	struct query q = { what, id };

	return helper_start() < 0 || send(helper.fd, &q, sizeof q,
	    MSG_NOSIGNAL) != sizeof q ? -1 : 0;
}

static void
lookup(struct target *t)
{
	if (t->io.added)
		return;
	t->asked++;
	if (io_add(&t->io, -1, on_late) == 0 &&
	    helper_ask(t == &sshd ? Q_SSHD : Q_SERVER, t->asked) == 0) {
		io_after(&t->io, 10000);
		return;
	}
	snprintf(t->why, sizeof t->why, "%s", strerror(errno));
	lookup_done(t);
}

/* transports: what lies between dial() and the hello */

/* A transport that runs in a child of the helper. */
struct wrap {
	struct wrap *next;
	struct io io;			/* what it writes to stderr, */
	char said[1024];		/* that, as far as there is room, */
	size_t n;
	struct conn *of;		/* whose it is, or NULL: gone */
	struct conn *net;		/* TLS: the network side, or NULL */
	int heard;			/* something came from there */
};

static struct wrap *wraps;

static int
is_tls(void)
{
	return url.scheme == S_TLS || url.scheme == S_HTTPS;
}

static const char *
server_str(void)
{
	static const char *const begin[] = { "", "tls://", "http://",
	    "https://" };
	static char b[ADDR_LEN + 40 + PATH_LEN];
	int v6 = strchr(url.host, ':') != NULL;

	if (url.scheme == S_UNIX)
		snprintf(b, sizeof b, "unix:%s", url.path);
	else
		snprintf(b, sizeof b, "%s%s%s%s:%s%s", begin[url.scheme],
		    v6 ? "[" : "", url.host, v6 ? "]" : "", url.port,
		    url.scheme == S_TLS ? "" : url.path);
	return b;
}

/* Where what was dialled is, for the log. */
static const char *
via(const struct conn *c)
{
	static char b[100];

	if (cfg.connect)
		return "by --connect";
	snprintf(b, sizeof b, "%s%s", *proxy.host ? "proxy " : "",
	    peer_str(&c->peer));
	return b;
}

/* c cannot get to the server: it is gone, and in a proxy so are we. */
static void
fail(struct conn *c, int code, const char *fmt, ...)
{
	char why[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof why, fmt, ap);
	va_end(ap);
	undialled(c, code, why);
}

static struct wrap *
wrap_of(const struct conn *c)
{
	struct wrap *w;

	for (w = wraps; w && w->of != c; w = w->next)
		;
	return w;
}

static void
wrap_free(struct wrap *w)
{
	struct wrap **p = &wraps;

	while (*p != w)
		p = &(*p)->next;
	*p = w->next;
	io_close(&w->io);
	free(w);
}

/* Where the network begins, for keepalives. */
static int
wire(const struct conn *c)
{
	struct wrap *w = wrap_of(c);

	return w && w->net ? w->net->io.fd : c->io.fd;
}

/* c ends.  The last bytes of it are on their way through openssl still, which
 * ends by itself when they have gone. */
static void
wrap_left(struct conn *c)
{
	struct wrap *w;

	while ((w = wrap_of(c))) {	/* two, where seal() failed */
		w->of = NULL;
		if (w->net)
			w->net->since = reactor_now();
		if (!w->net)
			wrap_free(w);
		else if (c->phase >= OPEN && c->phase <= GREET)
			/* openssl, in a handshake still, would not notice */
			drop(w->net, "given up");
	}
}

static void
carrier_end(struct conn *c, const char *why)
{
	struct conn *net = c->carrier == NETWORK ? c : c->half->to;
	struct conn *tls = net->half->to;
	struct wrap *w = wraps;

	while (w->net != net)
		w = w->next;
	w->heard = net->half->out.total > 0;
	if (net->half->out.eof)
		why = NULL;	/* openssl said goodbye to nobody: no cut */
	w->net = NULL;
	part(net, tls);
	conn_release(tls);
	if (why) {
		net_reset(net->io.fd);
		conn_release(net);
	} else			/* what openssl said last shall arrive */
		linger(net);
	if (!w->of)
		wrap_free(w);
	else if (why && w->of->phase == RELAY)
		drop(w->of, why);	/* a cut, and no end of file */
}

/* Has a carrier nobody to carry for, and still not ended? */
static int
forsaken(const struct conn *net)
{
	struct wrap *w;

	for (w = wraps; w && w->net != net; w = w->next)
		;
	return w && !w->of && reactor_now() - net->since > LAST_MS;
}

/* openssl would make a clean end of a cut. */
static void
carrier_cut(struct conn *c, const char *why)
{
	struct wrap *w = wrap_of(c);

	if (!w || !w->net)
		return;
	w->of = NULL;
	drop(w->net, why);
}

static void
on_said(struct io *io)
{
	struct wrap *w = (struct wrap *)((char *)io -
	    offsetof(struct wrap, io));
	static char rest[512];
	size_t room;
	ssize_t n;
	int i = 0;

	do {
		room = sizeof w->said - 1 - w->n;
		n = read(io->fd, room ? w->said + w->n : rest,
		    room ? room : sizeof rest);
		if (n > 0 && room)
			w->n += n;
	} while (n > 0 && ++i < 16);
	if (n > 0)
		io_again(io);
	else if (n < 0 && errno == EAGAIN)
		io->ready &= ~IO_R;
	else
		io_close(io);
}

static const char *
proxy_str(void)
{
	static char b[ADDR_LEN + 50];

	snprintf(b, sizeof b, "the proxy %s:%s", proxy.host, proxy.port);
	return b;
}

/* The other end has closed c before it said what it had to: why?  Returns the
 * exit code. */
static int
lost_why(const struct conn *c, char *why, size_t size)
{
	struct wrap *w = wrap_of(c);
	char b[120];
	int kind;

	if (*proxy.host && c->layer < TUNNELLED) {
		snprintf(why, size, "%.260s closed the connection",
		    proxy_str());
		return X_UNREACHABLE;
	}
	snprintf(why, size, "the server closed the connection without an "
	    "answer");
	if (w && w->net)
		w->heard = w->net->half->out.total > 0;
	if (w && cfg.connect && !w->heard) {
		snprintf(why, size, "the command of --connect ended, or "
		    "closed its output, without an answer of the server");
		return X_UNREACHABLE;
	}
	if (!w)
		return X_PROTOCOL;
	if (w->io.fd >= 0)
		on_said(&w->io);
	w->said[w->n] = '\0';
	if (!(kind = tls_reason(w->said, b, sizeof b)) &&
	    !strncmp(w->said, "cannot run", 10)) {
		escape(b, sizeof b, w->said, strcspn(w->said, "\n"));
		snprintf(why, size, "%s (OpenSSL makes TLS for us, to be "
		    "installed; or see --connect)", b);
	} else if (!kind)
		return X_PROTOCOL;
	else if (kind == 1)
		snprintf(why, size, "the certificate of %.140s is not good: "
		    "%s", url.host, b);
	else
		snprintf(why, size, "no TLS with %.140s: %s", url.host, b);
	return X_TLS;
}

static void
lost(struct conn *c)
{
	char why[300];
	int code = lost_why(c, why, sizeof why);

	fail(c, code, "%s", why);
}

/* Has a child of the helper made for c. */
static void
order(struct conn *c, int what)
{
	static unsigned serial;

	c->run = ++serial;
	list_add(&orders, c);
	enter(c, OPEN);
	if (helper_ask(what, serial) < 0)
		fail(c, X_FAIL, "cannot ask the helper process: %s",
		    strerror(errno));
}

static void
on_open(struct conn *c)
{
	if (expired(c))
		fail(c, X_TIMEOUT, "the helper process does not answer");
}

/* openssl has the far ends of two sockets: at is for the plain bytes, and what
 * it writes to the other one is carried over the connection that c has made. */
static int
seal(struct conn *c, struct wrap *w, int at, int crypt)
{
	int fd = c->io.fd;
	struct conn *u = conn_whole(crypt);
	struct wrap *below;

	io_del(&c->io);
	c->io.fd = -1;
	w->net = conn_whole(fd);
	if (!u || !w->net || io_add(&c->io, at, dispatch) < 0) {
		close(at);
		if (u)
			conn_free(u);
		if (w->net)
			conn_free(w->net);
		w->net = NULL;
		return -1;
	}
	net_keepalive(fd, 30, 10, 3);
	for (below = w->next; below; below = below->next)
		if (below->of == c)	/* that of --connect */
			below->of = w->net;
	w->net->peer = c->peer;
	w->net->carrier = NETWORK;
	u->carrier = OPENSSL;
	join(w->net, u);
	enter(u, RELAY);
	enter(w->net, RELAY);
	on_relay(u);
	return 0;
}

/* The helper has answered: fds are ours now. */
static void
transport_up(struct conn *c, const struct answer *a, int *fds, int n)
{
	struct wrap *w = n >= 2 ? calloc(1, sizeof *w) : NULL;
	int tls = a->q.what == Q_TLS, bad, e;

	if (w) {
		io_init(&w->io);
		w->of = c;
		w->next = wraps;
		wraps = w;
	}
	if (!w || n < a->n || io_add(&w->io, fds[1], on_said) < 0) {
		e = n < a->n ? EMFILE : errno;	/* had we no room for all? */
		while (n > 0)
			close(fds[--n]);
		fail(c, X_FAIL, "cannot open a connection: %s",
		    *a->why ? a->why : strerror(e));
		return;
	}
	c->layer = tls ? SEALED : TUNNELLED;
	if (tls && n < 3) {
		close(fds[0]);
		lost(c);
		return;
	}
	bad = tls ? seal(c, w, fds[0], fds[2]) : conn_fd(c, fds[0]);
	if (bad < 0)
		fail(c, X_FAIL, "cannot open a connection: %s",
		    strerror(errno));
	else
		reached(c);
}

/* The head of an HTTP answer.  1: it was taken; 0: it is not here yet; -1: c
 * is gone. */
static int
web_answer(struct conn *c, struct response *r, const char *who)
{
	ssize_t n = peek(c);
	int used = 0;

	if (expired(c)) {	/* at first: 1xx may come without end */
		fail(c, X_TIMEOUT, "%s does not answer", who);
		return -1;
	}
	if (n > 0)
		used = response_take((char *)first, n, r);
	if (n == 0 || (n < 0 && errno != EAGAIN) ||
	    (used == 0 && c->io.ready & IO_H)) {
		if (c->phase == TUNNEL)
			fail(c, X_UNREACHABLE, "%s closed the connection", who);
		else
			lost(c);
		return -1;
	}
	if (n < 0)
		c->io.ready &= ~IO_R;
	if (used < 0) {
		fail(c, X_PROTOCOL, "%s does not speak HTTP", who);
		return -1;
	}
	if (used == 0)
		return 0;
	if (consume(c, used) < 0) {
		lost(c);
		return -1;
	}
	c->io.ready |= IO_R;
	io_again(&c->io);
	return 1;
}

static int
transmit(struct conn *c, const void *b, size_t n)
{
	if (send(c->io.fd, b, n, MSG_NOSIGNAL) == (ssize_t)n)
		return 0;
	lost(c);
	return -1;
}

/* "host:port" as HTTP has it */
static const char *
authority(int always)
{
	static char b[ADDR_LEN + 32];
	int v6 = strchr(url.host, ':') != NULL;
	int def = !strcmp(url.port, url.scheme == S_HTTPS ? "443" : "80");

	snprintf(b, sizeof b, "%s%s%s%s%s", v6 ? "[" : "", url.host,
	    v6 ? "]" : "", def && !always ? "" : ":",
	    def && !always ? "" : url.port);
	return b;
}

/* Asks the proxy for a way to the server. */
static void
tunnel(struct conn *c)
{
	char b[1400], auth[400] = "", both[260];

	c->copied = 0;			/* how far the talk has got */
	enter(c, proxy.socks ? SOCKS : TUNNEL);
	if (proxy.socks) {
		transmit(c, *proxy.user ? "\5\2\0\2" : "\5\1\0",
		    *proxy.user ? 4 : 3);
		return;
	}
	if (*proxy.user) {
		snprintf(both, sizeof both, "%s:%s", proxy.user, proxy.pass);
		memcpy(auth, "Proxy-Authorization: Basic ", 27);
		basic_write(both, strlen(both), auth + 27);
		memcpy(auth + strlen(auth), "\r\n", 3);
	}
	snprintf(b, sizeof b, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n",
	    authority(1), authority(1), auth);
	transmit(c, b, strlen(b));
	wipe(b, sizeof b);
	wipe(auth, sizeof auth);
	wipe(both, sizeof both);
}

static void
tunnelled(struct conn *c)
{
	c->layer = TUNNELLED;
	c->copied = 0;
	reached(c);
}

/* One step of the talk with a SOCKS proxy: how we may prove who we are, the
 * proof, the connection. */
static int
socks_step(struct conn *c, const unsigned char *b, size_t n)
{
	size_t u = strlen(proxy.user), p = strlen(proxy.pass);
	unsigned char out[600];
	const char *why = NULL;
	int used = c->copied < 2 ? 2 : socks_take(b, n, &why);

	if (used < 0 || (c->copied == 0 && n && b[0] != 5)) {
		fail(c, X_PROTOCOL, "%s does not speak SOCKS 5", proxy_str());
		return -1;
	}
	if (used == 0 || n < (size_t)used)
		return 0;
	if (c->copied == 0 && b[1] != 0 && (b[1] != 2 || !u)) {
		fail(c, X_UNREACHABLE, u ? "%s wants another proof than a "
		    "password" : "%s wants a user and a password", proxy_str());
		return -1;
	}
	if (c->copied == 1 && b[1] != 0)
		why = "the user or the password is wrong";
	if (why) {
		fail(c, X_UNREACHABLE, "%s says: %s", proxy_str(), why);
		return -1;
	}
	if (consume(c, used) < 0) {
		lost(c);
		return -1;
	}
	c->io.ready |= IO_R;
	io_again(&c->io);	/* more may have come with it */
	if (c->copied == 2) {
		tunnelled(c);
		return -1;
	}
	if (c->copied == 0 && b[1] == 2) {
		c->copied = 1;
		n = 3 + u + p;
		out[0] = 1;
		out[1] = u;
		memcpy(out + 2, proxy.user, u);
		out[2 + u] = p;
		memcpy(out + 3 + u, proxy.pass, p);
	} else {
		c->copied = 2;
		n = socks_connect(url.host, atoi(url.port), out);
	}
	return transmit(c, out, n);
}

static void
on_tunnel(struct conn *c)
{
	struct response r;

	if (web_answer(c, &r, proxy_str()) <= 0)
		return;
	if (r.status >= 200 && r.status < 300)
		tunnelled(c);
	else if (r.status >= 200)
		fail(c, X_UNREACHABLE, "%s says: %s", proxy_str(), r.line);
}

static void
on_socks(struct conn *c)
{
	ssize_t n = peek(c);

	if (n == 0 || (n < 0 && errno != EAGAIN)) {
		lost(c);
		return;
	}
	if (n < 0)
		c->io.ready &= ~IO_R;
	else if (socks_step(c, first, n) < 0)
		return;
	if (c->io.ready & IO_H && n > 0)
		lost(c);
	else if (expired(c))
		fail(c, X_TIMEOUT, "%s does not answer", proxy_str());
}

static void
upgrade(struct conn *c)
{
	char b[LINE_LEN + ADDR_LEN + PATH_LEN];

	snprintf(b, sizeof b, "GET %s HTTP/1.1\r\nHost: %s\r\n"
	    "Connection: Upgrade\r\nUpgrade: mssh\r\n"
	    "User-Agent: mssh/" VERSION "\r\n\r\n", url.path, authority(0));
	enter(c, UPGRADE);
	transmit(c, b, strlen(b));
}

/* Until 101 no byte may follow: some fronts would swallow it. */
static void
on_upgrade(struct conn *c)
{
	struct response r;

	if (web_answer(c, &r, "what answers") <= 0)
		return;
	if (r.status == 101 && r.mssh) {
		c->layer = WEB;
		reached(c);
	} else if (r.status >= 502 && r.status <= 504)
		fail(c, X_UNREACHABLE, "the front says: %s", r.line);
	else if (r.status == 101 || r.status >= 200)
		fail(c, X_PROTOCOL, "no mssh server behind that path: %s",
		    r.line);
}

/* The next layer, from below: proxy, TLS, HTTP; then it is a connection to the
 * server. */
static void
reached(struct conn *c)
{
	int web = url.scheme == S_HTTP || url.scheme == S_HTTPS;

	if (*proxy.host && c->layer < TUNNELLED)
		tunnel(c);
	else if (is_tls() && c->layer < SEALED)
		order(c, Q_TLS);
	else if (web && c->layer < WEB)
		upgrade(c);
	else
		arrived(c);
}

/* dialling */

/* A source address for this client: sshd, its penalties and fail2ban then
 * tell clients apart, who would all be 127.0.0.1 otherwise.  Linux owns all
 * of 127/8; elsewhere the kernel refuses, and the plain address serves. */
static int
dial_from(const struct conn *c, const struct sockaddr_storage *to)
{
	const struct sockaddr_in *s4 = (const struct sockaddr_in *)to;
	struct sockaddr_in from;
	uint32_t h = c->half->source;
	int fd;

	if (c->sshd && !cfg.source && to->ss_family == AF_INET &&
	    ntohl(s4->sin_addr.s_addr) >> 24 == 127) {
		memset(&from, 0, sizeof from);
		from.sin_family = AF_INET;
		from.sin_addr.s_addr = htonl(0x7f000000 | (h & 0x7fff00) |
		    0x800000 | (h % 254 + 1));
		fd = net_dial((const struct sockaddr *)to, sa_len(to),
		    (struct sockaddr *)&from, sizeof from);
		if (fd >= 0)
			return fd;
	}
	return net_dial((const struct sockaddr *)to, sa_len(to), NULL, 0);
}

/* No address is left; e tells whether the last one gave an answer. */
static void
give_up(struct conn *c, int e)
{
	char why[400];

	snprintf(why, sizeof why, "%s%s%s", *proxy.host && !c->sshd ?
	    proxy_str() : "", *proxy.host && !c->sshd ? ": " : "",
	    strerror(e));
	undialled(c, e == ETIMEDOUT || e == EHOSTUNREACH || e == ENETUNREACH ?
	    X_TIMEOUT : X_UNREACHABLE, why);
}

/* Tries the addresses of c's target in turn, the last good one first, and
 * ends in connected() or undialled(). */
static void
dial(struct conn *c)
{
	struct target *t = target_of(c);
	const struct sockaddr_storage *to;
	int fd, e = c->half->err;

	if (!c->sshd && cfg.connect) {
		order(c, Q_CONNECT);
		return;
	}
	if (!t->n) {
		list_add(&lookups, c);
		enter(c, LOOKUP);
		lookup(t);
		return;
	}
	for (; c->half->try < t->n; c->half->try++) {
		to = &t->addr[(t->good + c->half->try) % t->n];
		if ((fd = dial_from(c, to)) < 0 || conn_fd(c, fd) < 0) {
			e = errno;
			continue;
		}
		if (!c->sshd)
			peer_set(&c->peer, to);
		enter(c, DIAL);
		return;
	}
	if (!t->numeric)
		t->n = 0;	/* ask again next time */
	give_up(c, e);
}

static void
on_lookup(struct conn *c)
{
	if (expired(c)) {
		list_del(c);
		undialled(c, X_TIMEOUT, "its name server does not answer");
	}
}

static void
on_dial(struct conn *c)
{
	struct target *t = target_of(c);

	if (expired(c))
		c->half->err = ETIMEDOUT;
	else if (!(c->io.ready & IO_W))
		return;
	else
		c->half->err = net_error(c->io.fd);
	if (c->half->err) {
		c->half->try++;
		conn_fd(c, -1);
		if (t->n)
			dial(c);
		else	/* another one has tried them all meanwhile */
			give_up(c, c->half->err);
		return;
	}
	if (t->n)	/* a lookup may be under way again */
		t->good = (t->good + c->half->try) % t->n;
	connected(c);
}

/* agent */

static struct conn *slots[MAX_SPARE];	/* parked, or on the way there */
static struct io retry, nudge, watch;
static uint64_t run;
static int fails;		/* in a row */
static int parked;		/* slots in IDLE or PINGED */
static char refusal[300];	/* last one told, so as to tell it once */

static void
fill(int i)
{
	struct conn *c;

	if (slots[i] || halting)
		return;
	if (!(c = conn_whole(-1))) {
		say_log("cannot dial: %s", strerror(errno));
		io_after(&retry, BACKOFF_MAX);
		return;
	}
	c->slot = i;
	slots[i] = c;
	dial(c);
}

static void
fill_all(struct io *io)
{
	int i;

	io_expired(io);
	for (i = 0; i < cfg.spare; i++)
		fill(i);
}

/* Full jitter, so that a thousand agents do not come back in step.  Where
 * the network gave no answer nobody is hurt by asking soon. */
static int
backoff(int answered)
{
	int max = answered ? BACKOFF_MAX : BACKOFF_NET;
	int ms = fails < 6 ? BACKOFF_MIN << fails : max;
	uint32_t r;

	sys_random(&r, sizeof r);
	fails++;
	return 50 + r % (ms < max ? ms : max);
}

/* A spare is lost: another is dialled after a pause, or at once where this
 * one had served for some time. */
static void
slot_lost(struct conn *c, int answered, const char *why)
{
	static int ms;			/* the pause under way */
	int was = c->phase == IDLE || c->phase == PINGED;
	int held = was && reactor_now() - c->since >= HELD_MS;

	if (was) {
		parked--;
		say_log("lost %s: %s", server_str(), why);
	}
	slots[c->slot] = NULL;
	drop(c, why);
	if (held) {
		fails = 0;
		io_after(&retry, ms = 0);
	} else if (retry.heap < 0)
		io_after(&retry, ms = backoff(answered));
	if (!was && strcmp(refusal, why)) {
		snprintf(refusal, sizeof refusal, "%s", why);
		say_log("cannot register %s at %s: %s; next try in %d.%d s",
		    *cfg.node ? cfg.node : "this machine",
		    server_str(), why, SPLIT_MS(ms));
	}
	if (!parked)
		notify("STATUS=not registered at %s: %s", server_str(),
		    why);
}

/* Without a node id the IPv4 address that leads to the server is it. */
static void
name_self(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	struct peer p;
	char host[256], a[INET_ADDRSTRLEN];
	int i, u;

	memset(&p, 0, sizeof p);
	if (getsockname(fd, (struct sockaddr *)&ss, &len) == 0)
		peer_set(&p, &ss);
	for (i = 0; !is_ipv4(&p) && i < server.n; i++) {
		len = sizeof ss;
		if (server.addr[i].ss_family != AF_INET ||
		    (u = socket(AF_INET, SOCK_DGRAM, 0)) < 0)
			continue;
		if (connect(u, (struct sockaddr *)&server.addr[i],
		    sizeof(struct sockaddr_in)) == 0 &&
		    getsockname(u, (struct sockaddr *)&ss, &len) == 0)
			peer_set(&p, &ss);
		close(u);
	}
	if (is_ipv4(&p) && inet_ntop(AF_INET, p.ip + 12, a, sizeof a)) {
		snprintf(cfg.node, sizeof cfg.node, "%s", a);
		return;
	}
	if (gethostname(host, sizeof host) < 0)
		snprintf(host, sizeof host, "node-1");
	host[sizeof host - 1] = '\0';
	node_suggest(host, cfg.node);
}

/* What the hello of c says of our key: "" where there is none. */
static const char *
hello_key(struct conn *c, enum role role)
{
	static char b[KEY_LEN + B64_LEN + 20];
	char nonce[B64_LEN + 1];

	*b = '\0';
	if (!*mine.name)
		return b;
	if (proof_get(c) < 0)
		return NULL;
	c->half->proof->h.role = role;
	sys_random(c->half->proof->h.nonce, MAC_LEN);
	b64_write(c->half->proof->h.nonce, nonce);
	snprintf(b, sizeof b, " key=%s nonce=%s", mine.name, nonce);
	return b;
}

/* The server has to prove first that it knows our key.  -1: it does not. */
static int
prove(struct conn *c, const char *line)
{
	struct proof *p = c->half->proof;
	unsigned char nonce[MAC_LEN], mac[MAC_LEN], want[MAC_LEN];
	char w[B64_LEN + 1];

	if (word_get(line, "nonce", w, sizeof w) < 0 ||
	    b64_parse(w, nonce) < 0 ||
	    word_get(line, "mac", w, sizeof w) < 0 || b64_parse(w, mac) < 0)
		return -1;
	proof_mac(&mine, LABEL_SERVER, p->h.role, cfg.node, p->h.nonce, nonce,
	    want);
	if (mac_differs(mac, want))
		return -1;
	proof_mac(&mine, LABEL_PEER, p->h.role, cfg.node, p->h.nonce, nonce,
	    mac);
	b64_write(mac, w);
	if (say(c, "PROOF mac=%s", w) < 0)
		return -1;
	proof_free(c);
	return 0;
}

static void
slot_hello(struct conn *c)
{
	const char *k;

	if (!*cfg.node)
		name_self(c->io.fd);
	k = hello_key(c, R_AGENT);
	if (!k || say(c, "MSSH/2 agent %s run=%016llx slot=%d%s", cfg.node,
	    (unsigned long long)run, c->slot, k) < 0)
		slot_lost(c, 1, strerror(errno));
	else
		enter(c, GREET);
}

/* Reads a server's answer to a hello.  1: OK; 2: it has proved that it knows
 * our key, and has our proof; 0: not here yet; -1: *why, and the exit code. */
static int
answer(struct conn *c, int *code, char *why, size_t size)
{
	static const unsigned char exits[C_MAX] = {
		[C_SYNTAX] = X_PROTOCOL, [C_DENIED] = X_DENIED,
		[C_OFFLINE] = X_OFFLINE, [C_BUSY] = X_BUSY,
		[C_EXISTS] = X_DENIED, [C_UNREACHABLE] = X_SSHD,
		[C_TIMEOUT] = X_TIMEOUT, [C_LIMIT] = X_BUSY
	};
	const char *text;
	char line[LINE_LEN], b[200];
	int r = hear(c, line);

	*code = X_PROTOCOL;
	if (r == -2) {
		snprintf(why, size, "what answers is no mssh server");
		return -1;
	}
	if (r < 0) {
		*code = lost_why(c, why, size);
		return -1;
	}
	if (r == 0)
		return 0;
	if (c->half->proof && word_is(line, "CHALLENGE")) {
		if (prove(c, line) == 0)
			return 2;
		*code = X_DENIED;
		snprintf(why, size, "the server does not know the key %s, or "
		    "is not the one that you mean", mine.name);
		return -1;
	}
	r = reply_parse(line, &text);
	/* a server without keys lets an early client's sshd speak at once */
	if (c->half->proof && (r == C_OK || !strncmp(line, "SSH-", 4))) {
		*code = X_DENIED;
		snprintf(why, size, "the server gives no proof that it knows "
		    "the key %s: it has no keys, or is not the one that you "
		    "mean", mine.name);
		return -1;
	}
	if (r == C_OK)
		return 1;
	if (r < 0) {
		snprintf(why, size, "what answers is no mssh server: %s",
		    escape(b, sizeof b, line, strlen(line)));
		return -1;
	}
	*code = exits[r];
	snprintf(why, size, "%s", text);
	return -1;
}

static void
on_greet(struct conn *c)
{
	char why[300];
	int code, r = answer(c, &code, why, sizeof why);

	if (r < 0) {
		slot_lost(c, 1, why);
		return;
	}
	if (r == 0) {
		if (expired(c))
			slot_lost(c, 0, "the server does not answer");
		return;
	}
	if (r == 2) {
		enter(c, GREET);
		return;
	}
	c->since = reactor_now();
	/* a lost mapping shows in 14 s */
	net_keepalive(wire(c), 8, 3, 2);
	enter(c, IDLE);
	*refusal = '\0';
	if (!parked++)
		say_log("%s parked at %s (%s)", cfg.node, server_str(),
		    via(c));
	notify("STATUS=%s parked at %s", cfg.node, server_str());
	on_idle(c);
}

static void
ping(struct conn *c)
{
	if (say(c, "PING") < 0)
		slot_lost(c, 1, strerror(errno));
	else
		enter(c, PINGED);
}

static void
parse_from(struct peer *p, const char *line)
{
	struct sockaddr_storage ss;
	struct sockaddr_in *s4 = (struct sockaddr_in *)&ss;
	struct sockaddr_in6 *s6 = (struct sockaddr_in6 *)&ss;
	char w[ADDR_LEN], host[HOST_LEN + 1], port[33];

	memset(&ss, 0, sizeof ss);
	if (word_get(line, "from", w, sizeof w) > 0 &&
	    host_split(w, host, port, 0) == 0) {
		s4->sin_port = htons(atoi(port));
		if (inet_pton(AF_INET, host, &s4->sin_addr) == 1)
			ss.ss_family = AF_INET;
		else if (inet_pton(AF_INET6, host, &s6->sin6_addr) == 1)
			ss.ss_family = AF_INET6;
	}
	peer_set(p, &ss);
}

/* --exec: a child of its own has the socket, and no relay is left here.  We
 * keep a copy of the descriptor, to see whether the far side still lives. */
static void
serve_exec(struct conn *c, const char *k)
{
	char node[80], client[80], id[40], who[KEY_LEN + 20];
	char *env[] = { node, client, id, who, NULL };
	int fd = c->io.fd;

	snprintf(node, sizeof node, "MSSH_NODE=%s", cfg.node);
	snprintf(client, sizeof client, "MSSH_CLIENT=%s", peer_str(&c->peer));
	snprintf(id, sizeof id, "MSSH_SESSION=%016llx",
	    (unsigned long long)c->run);
	snprintf(who, sizeof who, "MSSH_CLIENT_KEY=%s", k);
	if ((c->half->pid = proc_spawn(cfg.exec, fd, "READY\n", env)) < 0) {
		say_log("cannot run --exec: %s", strerror(errno));
		say(c, "ERROR unreachable cannot run --exec: %s",
		    strerror(errno));
		net_blocking(fd, 0);
		linger(c);
		return;
	}
	io_del(&c->io);
	c->half->fd = fd;
	if (io_add(&c->io, -1, dispatch) < 0) {
		say_log("cannot watch --exec: %s", strerror(errno));
		c->io.fd = -1;
		close(fd);
		drop(c, "no memory");
		return;
	}
	list_add(&live, c);
	enter(c, CHILD);
	say_log("session %016llx from %s: process %d",
	    (unsigned long long)c->run, peer_str(&c->peer), (int)c->half->pid);
}

static void
child_end(struct conn *c, const char *why)
{
	int64_t ms = reactor_now() - c->since;

	say_log("session %016llx from %s: process %d ended after %d.%d s: %s",
	    (unsigned long long)c->run, peer_str(&c->peer), (int)c->half->pid,
	    (int)(ms / 1000), (int)(ms % 1000 / 100), why);
	close(c->half->fd);
	drop(c, why);
	if (halting && !live.n)
		reactor_halt();
}

static void
on_child(struct conn *c)
{
	if (!expired(c))
		return;
	io_after(&c->io, TICK);
	if (!struck(c->half, c->half->fd))
		return;
	net_reset(c->half->fd);
	shutdown(c->half->fd, SHUT_RDWR);
	child_end(c, "the network is gone (no acknowledgement for 30 s)");
}

static void
on_sigchld(int sig)
{
	struct conn *c;
	char why[40];
	int st, pid, i;

	(void)sig;
	while ((pid = waitpid(-1, &st, WNOHANG)) > 0) {
		for (c = live.head, i = live.n; i > 0; i--, c = c->next)
			if (c->half->pid == pid)
				break;
		if (i == 0)
			continue;
		snprintf(why, sizeof why, WIFEXITED(st) ? "exit code %d" :
		    "signal %d", WIFEXITED(st) ? WEXITSTATUS(st) :
		    WTERMSIG(st));
		child_end(c, why);
	}
}

/* A client is there: its connection becomes a session, and a new spare is
 * dialled in the same moment. */
static void
go(struct conn *c, const char *line)
{
	struct conn *s;
	char w[20], k[KEY_LEN + 1];
	int slot = c->slot;

	parked--;
	fails = 0;
	slots[slot] = NULL;
	c->run = 0;
	if (word_get(line, "id", w, sizeof w) > 0)
		hex_parse(w, &c->run);
	parse_from(&c->peer, line);
	if (word_get(line, "key", k, sizeof k) < 0 || !key_name_ok(k))
		*k = '\0';
	c->since = reactor_now();
	net_keepalive(wire(c), 30, 10, 3);
	enter(c, HELD);
	fill(slot);
	if (*k)
		say_log("session %016llx from %s key %s",
		    (unsigned long long)c->run, peer_str(&c->peer), k);
	if (cfg.allow && (!*k || !glob_list(cfg.allow, k, 1))) {
		say_log("session %016llx from %s refused: --allow %s",
		    (unsigned long long)c->run, peer_str(&c->peer), cfg.allow);
		say(c, "ERROR denied its owner does not allow %s%s",
		    *k ? "the key " : "clients without a key", k);
		linger(c);
		return;
	}
	if (cfg.exec) {
		serve_exec(c, k);
		return;
	}
	if (!(s = conn_whole(-1))) {
		say(c, "ERROR unreachable no descriptor or memory left");
		linger(c);
		return;
	}
	s->sshd = 1;
	s->half->source = *k ? siphash(k, strlen(k)) :
	    siphash(c->peer.ip, sizeof c->peer.ip);
	join(s, c);
	dial(s);
}

static void
on_idle(struct conn *c)
{
	char line[LINE_LEN];
	int r;

	if ((r = hear(c, line)) > 0) {
		if (word_is(line, "PONG") && c->phase == PINGED)
			enter(c, IDLE);
		else if (word_is(line, "PING") && say(c, "PONG") < 0)
			r = -1;
		else if (word_is(line, "GO")) {
			go(c, line);
			return;
		}
	}
	if (r < 0)
		slot_lost(c, 1, r == -2 ? "no line of the protocol" :
		    "the connection was closed");
	else if (!expired(c))
		return;
	else if (c->phase == IDLE)
		ping(c);
	else
		slot_lost(c, 0, "no answer to a ping");
}

/* While sshd is dialled: has the server taken the client back? */
static void
on_held(struct conn *c)
{
	if (expired(c) || c->io.ready & IO_H)
		drop(c, "the client gave up");
}

static void
sshd_up(struct conn *s)
{
	struct conn *c = s->half->to;
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	struct peer p;

	if (say(c, "READY") < 0 ||
	    getsockname(s->io.fd, (struct sockaddr *)&ss, &len) < 0) {
		drop(c, "gone");
		return;
	}
	peer_set(&p, &ss);	/* what sshd's own log calls the client */
	say_log("session %016llx from %s: to sshd at %s as %s",
	    (unsigned long long)c->run, peer_str(&c->peer),
	    target_str(&sshd), peer_str(&p));
	list_add(&live, c);
	enter(c, RELAY);
	enter(s, RELAY);
	on_relay(c);
}

static void
sshd_down(struct conn *s, const char *why)
{
	struct conn *c = s->half->to;

	say_log("session %016llx from %s: cannot reach sshd at %s: %s",
	    (unsigned long long)c->run, peer_str(&c->peer),
	    target_str(&sshd), why);
	say(c, "ERROR unreachable cannot reach sshd at %s: %s",
	    target_str(&sshd), why);
	part(c, s);
	linger(c);
	drop(s, why);
}

/* SIGHUP: all parked connections anew, now. */
static void
redial(int sig)
{
	int i;

	(void)sig;
	say_log("redialling %s", server_str());
	fails = 0;
	*refusal = '\0';
	if (!server.numeric)
		server.n = 0;
	for (i = 0; i < cfg.spare; i++)
		if (slots[i]) {
			if (slots[i]->phase == IDLE ||
			    slots[i]->phase == PINGED)
				parked--;
			drop(slots[i], "redial");
			slots[i] = NULL;
		}
	io_after(&retry, 0);
}

/* A link or an address has changed: parked connections are tested, and who
 * waits for the next try does not wait any longer.  Dials under way go on: a
 * link that flaps would stop them for ever. */
static void
on_nudge(struct io *io)
{
	int i, idle = 0;

	io_expired(io);
	for (i = 0; i < cfg.spare; i++)
		if (slots[i] && slots[i]->phase == IDLE) {
			idle++;
			ping(slots[i]);
		}
	if (idle < cfg.spare && !parked)
		io_after(&retry, 0);
}

static void
on_watch(struct io *io)
{
	char b[4096];
	ssize_t n;

	if (!(io->ready & IO_R))
		return;
	do	/* an overrun says that there was more than we know */
		n = recv(io->fd, b, sizeof b, 0);
	while (n > 0 || (n < 0 && errno == ENOBUFS));
	io->ready &= ~IO_R;
	if (nudge.heap < 0)
		io_after(&nudge, 500);
}

static void
on_agent_term(int sig)
{
	(void)sig;
	notify("STOPPING=1");
	say_log("stopping");
	reactor_halt();
}

/* What is dialled to get to the server: it, or a proxy. */
static void
server_init(void)
{
	struct sockaddr_un *sa = (struct sockaddr_un *)&server.addr[0];

	if (url.scheme != S_UNIX) {
		target_init(&server, *proxy.host ? proxy.host : url.host,
		    *proxy.host ? proxy.port : url.port);
		return;
	}
	if (strlen(url.path) >= sizeof sa->sun_path)
		die(X_USAGE, "the path of a Unix socket has at most %d "
		    "characters", (int)sizeof sa->sun_path - 1);
	sa->sun_family = AF_UNIX;
	memcpy(sa->sun_path, url.path, strlen(url.path));
	io_init(&server.io);
	server.n = server.numeric = 1;
}

static int
run_agent(void)
{
	char addr[ADDR_LEN + 8], host[HOST_LEN + 1], port[33], b[200];
	int fd;

	daemon_start();
	snprintf(addr, sizeof addr, strchr(cfg.ssh_host, ':') &&
	    *cfg.ssh_host != '[' ? "[%s]:%ld" : "%s:%ld", cfg.ssh_host,
	    cfg.ssh_port);
	if (addr_split(addr, host, port) < 0)
		die(X_USAGE, "--ssh-host '%s' is no HOST or IPv6 address",
		    escape(b, sizeof b, cfg.ssh_host, strlen(cfg.ssh_host)));
	server_init();
	target_init(&sshd, host, port);
	sys_random(&run, sizeof run);
	run |= 1;
	io_init(&retry);
	io_init(&nudge);
	io_init(&watch);
	if (io_add(&retry, -1, fill_all) < 0 ||
	    io_add(&nudge, -1, on_nudge) < 0)
		die(X_FAIL, "no memory:");
	if ((fd = net_watch()) >= 0 && io_add(&watch, fd, on_watch) < 0)
		close(fd);
	reactor_signal(SIGTERM, on_agent_term);
	reactor_signal(SIGINT, on_agent_term);
	reactor_signal(SIGHUP, redial);
	reactor_signal(SIGCHLD, on_sigchld);
	become();
	if ((!server.numeric || !sshd.numeric || is_tls() || cfg.connect) &&
	    helper_start() < 0)
		die(X_FAIL, "cannot start the helper process:");
	confine(url.scheme == S_UNIX ? PROC_DIAL | PROC_LOCAL : PROC_DIAL,
	    NULL);
	notify("READY=1\nSTATUS=dialling %s", server_str());
	on_beat(&beat);
	io_after(&retry, 0);
	if (reactor_run() < 0)
		die(X_FAIL, "the event loop failed:");
	while (live.n)
		drop(live.head, "the agent stopped");
	return 0;
}

/* proxy */

static struct conn *in, *out;		/* standard input and output */
static int in_flags = -1, out_flags = -1;

/* A terminal or a file shares its flags with others: put them back. */
static void
restore(void)
{
	net_flags(1, out_flags);
	net_flags(0, in_flags);	/* last: the older ones, where shared */
}

static void
on_quit(int sig)
{
	exit(128 + sig);
}

/* ssh has gone before us: that is how sessions end, and no news.  Through TLS
 * its last bytes may not be out yet. */
static void
proxy_end(const char *why)
{
	if (why && strcmp(why, strerror(EPIPE)))
		die(X_FAIL, "connection to %s lost: %s", cfg.node, why);
	if (why || !wraps)
		exit(0);
	halting = 1;
	restore();		/* while they are there */
	conn_free(in->half->to);
	conn_free(in);
	conn_free(out);
	if (!nconns)
		exit(0);
}

/* Has ssh sent nothing since the last look?  Asked after the far side's end
 * of file: a half-closed session goes on only as long as it moves. */
static int
proxy_idle(void)
{
	static uint64_t before;
	static int looks;
	uint64_t now = in ? in->half->out.total : 0;

	looks = now != before || (in && in->half->out.held) ? 0 : looks + 1;
	before = now;
	return looks >= 2;
}

static struct conn *
stdio(int fd, int *flags)
{
	struct conn *c;

	*flags = net_blocking(fd, 0);
	if (!(c = conn_whole(fd)))
		die(X_FAIL, "cannot use descriptor %d:", fd);
	enter(c, STDIO);
	return c;
}

/* Input and output are half connections; the socket's phase says what to do. */
static void
on_stdio(struct conn *c)
{
	c = c->half->to ? c->half->to : c->half->from;
	phases[c->phase].fn(c);
}

/* ssh gets the socket before the server has answered: what it says first is
 * on its way a round trip earlier, and a refusal is said in SSH. */
static void
pass(struct conn *c)
{
	int fd = c->io.fd;

	io_del(&c->io);
	net_keepalive(fd, 30, 10, 3);
	net_user_timeout(fd, 60000);
	net_blocking(fd, 1);
	if (net_pass(1, fd) < 0)
		die(X_FAIL, "cannot hand the connection to ssh:");
	exit(0);
}

/* ssh waits until whoever hands it a socket has ended.  Where the connection
 * needs one of us for as long as it lasts, that is a child, who is in the
 * background from here on. */
static int passed = -1;			/* the child: says that it has */

static void
background(void)
{
	int p[2], pid = -1, st;
	ssize_t n;
	char c;

	if (pipe(p) < 0 || (pid = fork()) < 0)
		die(X_FAIL, "cannot start a process:");
	if (pid == 0) {
		close(p[0]);
		fcntl(passed = p[1], F_SETFD, FD_CLOEXEC);
		return;
	}
	close(p[1]);
	while ((n = read(p[0], &c, 1)) < 0 && errno == EINTR)
		;
	if (n == 1)
		_exit(0);
	while (waitpid(pid, &st, 0) < 0 && errno == EINTR)
		;
	_exit(WIFEXITED(st) ? WEXITSTATUS(st) : X_FAIL);
}

/* Hands ssh one end of a pair: the other one is standard input and output. */
static void
pass_pair(void)
{
	int q[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, q) < 0 ||
	    net_pass(1, q[0]) < 0 || dup2(q[1], 0) < 0 || dup2(q[1], 1) < 0 ||
	    write(passed, "", 1) != 1)
		die(X_FAIL, "cannot hand the connection to ssh:");
	close(q[0]);
	close(q[1]);
	close(passed);
}

/* The server knows all that it wants to know: now ssh may speak. */
static void
asked(struct conn *c)
{
	if (cfg.fdpass && passed < 0)
		pass(c);
	if (cfg.fdpass)
		pass_pair();
	io_after(&c->io, phases[ASK].ms + (int)cfg.wait * 1000);
	/* what ssh has to say travels right behind the hello */
	in = stdio(0, &in_flags);
	in->half->to = c;
	c->half->from = in;
	in->half->out.keep = 1;	/* an end before OK would say: I gave up */
	if (isatty(0))
		in->io.ready |= IO_U;
}

static void
ask(struct conn *c)
{
	const char *k = hello_key(c, R_CLIENT);

	if (helper.added && !wraps)	/* it has done its work */
		io_close(&helper);
	if (!k)
		die(X_FAIL, "no memory:");
	if (say(c, "MSSH/2 client %s wait=%ld%s%s", cfg.node, cfg.wait,
	    cfg.fdpass && passed < 0 ? " early=1" : "", k) < 0) {
		if (wraps)
			lost(c);	/* it exits, and knows why */
		die(X_UNREACHABLE, "cannot reach the server %s:",
		    server_str());
	}
	enter(c, ASK);
	if (!*k)
		asked(c);
}

static void
on_ask(struct conn *c)
{
	char why[300];
	int code, r;

	if ((r = answer(c, &code, why, sizeof why)) < 0)
		die(code, "%s", why);
	if (r == 2) {
		asked(c);
		return;
	}
	if (r == 0 && expired(c))
		die(X_TIMEOUT, "the server %s does not answer",
		    server_str());
	if (r == 0) {
		r = c->half->from ? flow(c->half->from, c) : 0;
		if (r < 0)
			c->io.ready |= IO_R;	/* its answer says why */
		/* ssh has given up, and has no pid of ours to say so to */
		if (r > 0 && cfg.fdpass)
			exit(0);
		return;
	}
	in->half->out.keep = 0;
	if (in->half->out.eof)
		shutdown(c->io.fd, SHUT_WR);
	out = stdio(1, &out_flags);
	if (out->io.ready & IO_U || isatty(1))
		c->io.ready |= IO_U;	/* no splice(2), as with O_APPEND */
	out->half->from = c;
	c->half->to = out;
	enter(c, RELAY);
	on_relay(c);
}

static int
run_proxy(void)
{
	struct conn *c;
	socklen_t len = sizeof(int);
	int type;

	if (cfg.fdpass && getsockopt(1, SOL_SOCKET, SO_TYPE, &type, &len) < 0)
		die(X_USAGE, "--fdpass wants a socket as standard output: it "
		    "is for ssh with ProxyUseFdpass=yes");
	server_init();
	atexit(restore);
	reactor_signal(SIGINT, on_quit);
	reactor_signal(SIGTERM, on_quit);
	reactor_signal(SIGHUP, on_quit);
	if (!(c = conn_whole(-1)))
		die(X_FAIL, "no memory:");
	dial(c);
	if (reactor_run() < 0)
		die(X_FAIL, "the event loop failed:");
	return 0;
}

/* what dial() ends in, by role */

static void
connected(struct conn *c)
{
	if (c->sshd)
		sshd_up(c);
	else {
		if (!*cfg.node)
			name_self(c->io.fd);
		reached(c);
	}
}

static void
arrived(struct conn *c)
{
	if (is_daemon)
		slot_hello(c);
	else
		ask(c);
}

static void
undialled(struct conn *c, int code, const char *why)
{
	if (c->sshd)
		sshd_down(c, why);
	else if (is_daemon)
		slot_lost(c, code != X_TIMEOUT, why);
	else if (code == X_TIMEOUT || code == X_UNREACHABLE)
		die(X_UNREACHABLE, "cannot reach the server %s: %s",
		    server_str(), why);
	else
		die(code, "%s", why);
}

/* the configuration file */

static const char *
conf_home(char *b, size_t size, const char *name)
{
	const char *x = getenv("XDG_CONFIG_HOME"), *h = getenv("HOME");

	if (x && *x == '/')
		snprintf(b, size, "%s/mssh/%s", x, name);
	else
		snprintf(b, size, "%s/.config/mssh/%s", h ? h : "", name);
	return b;
}

static int
matches(char *patterns, const char *node)
{
	char *p, *save;

	for (p = strtok_r(patterns, " \t", &save); p;
	    p = strtok_r(NULL, " \t", &save))
		if (glob_match(p, node, 0))
			return 1;
	return 0;
}

/* The value of want for node in one file, or NULL: a stanza that matches
 * wins over what stands before the first stanza; the first of each counts. */
static char *
conf_file(const char *path, enum keyword want, const char *node)
{
	char line[1024], *arg, *val = NULL;
	const char *why = NULL;
	struct url u;
	struct stat st;
	int k, in_stanza = 0, hit = 1, found = 0, n = 0;
	FILE *f = fopen(path, "r");

	if (!f) {
		/* whoever wants none needs no right to it */
		if (errno != ENOENT && errno != ENOTDIR &&
		    (errno != EACCES || want <= K_KEY))
			die(X_USAGE, "%s:", path);
		return NULL;
	}
	while (fgets(line, sizeof line, f)) {
		n++;
		if (!strchr(line, '\n') && !feof(f))
			die(X_USAGE, "%s:%d: line too long", path, n);
		if ((k = conf_parse(line, &arg, &why)) < 0)
			die(X_USAGE, "%s:%d: %s", path, n, why);
		if (k == K_SERVER && url_parse(arg, &u) < 0)
			die(X_USAGE, "%s:%d: server wants " URL_FORMS, path,
			    n);
		if (k == K_PROXY && strchr(arg, '@') &&
		    (fstat(fileno(f), &st) < 0 || st.st_mode & 7))
			die(X_USAGE, "%s:%d: others can read the password of "
			    "the proxy: chmod o-r %s", path, n, path);
		if (k == K_NODE) {
			in_stanza = 1;
			hit = matches(arg, node);
		} else if (k == (int)want && hit && found < 1 + in_stanza) {
			free(val);
			val = strdup(arg);
			found = 1 + in_stanza;
		}
	}
	fclose(f);
	return val;
}

static char *
conf(enum keyword want, const char *node)
{
	const char *only = getenv("MSSH_CONFIG");
	char path[PATH_MAX], *v;

	if (only && *only)
		return conf_file(only, want, node);
	v = conf_file(conf_home(path, sizeof path, "config"), want, node);
	if (!v && want == K_KEY && access("/etc/mssh/config", R_OK) < 0)
		return NULL;	/* whoever wants none needs no right to it */
	return v ? v : conf_file("/etc/mssh/config", want, node);
}

static void
need_server(void)
{
	if (!cfg.server && (cfg.server = getenv("MSSH_SERVER")) && !*cfg.server)
		cfg.server = NULL;
	if (!cfg.server)
		cfg.server = conf(K_SERVER, cfg.node);
	if (!cfg.server)
		die(X_USAGE, "no server is known: use --server HOST[:PORT], "
		    "MSSH_SERVER, or run 'mssh config init'");
}

/* What no option has set is in the environment or a configuration file. */
static void
pick(const char **to, const char *name, enum keyword k)
{
	const char *h = getenv("HOME");
	char *v;

	if (*to || ((*to = getenv(name)) && **to))
		return;
	if (!(*to = v = conf(k, cfg.node)) || k == K_CONNECT ||
	    strncmp(v, "~/", 2) || !h)
		return;
	if (!(v = malloc(strlen(h) + strlen(*to))))
		die(X_FAIL, "no memory:");
	sprintf(v, "%s%s", h, *to + 1);
	*to = v;
}

/* The proxies of the environment, as curl(1) reads them: HTTP_PROXY is not
 * among them, since a web server sets that from what a client says. */
static const char *
proxy_env(const char **name)
{
	static const char *const names[][4] = {
		[S_TCP] = { NULL, NULL, "all_proxy", "ALL_PROXY" },
		[S_TLS] = { "https_proxy", "HTTPS_PROXY", "all_proxy",
		    "ALL_PROXY" },
		[S_HTTP] = { "http_proxy", NULL, "all_proxy", "ALL_PROXY" },
		[S_HTTPS] = { "https_proxy", "HTTPS_PROXY", "all_proxy",
		    "ALL_PROXY" }
	};
	const char *no = getenv("no_proxy"), *v;
	int i;

	if (!no || !*no)
		no = getenv("NO_PROXY");
	if (no && no_proxy_has(no, url.host))
		return NULL;
	for (i = 0; i < 4; i++)
		if ((*name = names[url.scheme][i]) && (v = getenv(*name)) &&
		    *v)
			return v;
	return NULL;
}

/* What --exec runs may be somebody else's shell: no passwords in there. */
static void
proxy_forget(void)
{
	static const char *const names[] = { "MSSH_PROXY", "https_proxy",
	    "HTTPS_PROXY", "http_proxy", "all_proxy", "ALL_PROXY" };
	const char *v;
	size_t i;

	if (cfg.proxy && !(cfg.proxy = strdup(cfg.proxy)))
		die(X_FAIL, "no memory:");
	for (i = 0; i < LEN(names); i++)
		if ((v = getenv(names[i])) && strchr(v, '@'))
			unsetenv(names[i]);
}

/* Nobody shall read a password in the list of processes. */
static void
proxy_hide(void)
{
	char *arg = (char *)cfg.proxy, *at = arg ? strrchr(arg, '@') : NULL;
	char *sep = at ? strstr(arg, "://") : NULL;

	if (!at)
		return;
	if (!(cfg.proxy = strdup(arg)))
		die(X_FAIL, "no memory:");
	arg = sep && sep + 3 < at ? sep + 3 : arg;
	memset(arg, 'x', at - arg);
}

/* openssl would not say which of them it is. */
static void
readable(const char *name, const char *file)
{
	if (file && access(file, R_OK) < 0)
		die(X_USAGE, "--%s %s:", name, file);
}

/* The way to the server. */
static void
way_load(void)
{
	const char *why, *name = "--proxy";
	char b[200];

	if (url_parse(cfg.server, &url) < 0)
		die(X_USAGE, "the server '%s' is no " URL_FORMS " (ports: 1 "
		    "to 65535)", escape(b, sizeof b, cfg.server,
		    strlen(cfg.server)));
	proxy_hide();
	pick(&cfg.cafile, "MSSH_CAFILE", K_CAFILE);
	pick(&cfg.cert, "MSSH_CERT", K_CERT);
	pick(&cfg.certkey, "MSSH_CERTKEY", K_CERTKEY);
	if (!cfg.proxy)		/* the command line has the last word */
		pick(&cfg.connect, "MSSH_CONNECT", K_CONNECT);
	pick(&cfg.proxy, "MSSH_PROXY", K_PROXY);
	if (cfg.connect && !strcmp(cfg.connect, "none"))
		cfg.connect = NULL;
	if (url.scheme == S_UNIX && cfg.connect)
		die(X_USAGE, "--connect cannot reach a Unix socket");
	if (cfg.connect && command_expand(cfg.connect, url.host, url.port,
	    (char[4000]){ 0 }, 4000) < 0)
		die(X_USAGE, "--connect knows %%h, %%p and %%%% only, and at "
		    "most 4000 characters");
	if (cfg.certkey && !cfg.cert)
		die(X_USAGE, "--certkey wants --cert");
	readable("cafile", cfg.cafile);
	readable("cert", cfg.cert);
	readable("certkey", cfg.certkey);
	if (!cfg.proxy && !cfg.connect && url.scheme != S_UNIX)
		cfg.proxy = proxy_env(&name);
	if (cfg.exec)
		proxy_forget();
	if (!cfg.proxy || !strcmp(cfg.proxy, "none") || cfg.connect ||
	    url.scheme == S_UNIX)
		return;
	if (proxy_parse(cfg.proxy, &proxy, &why) < 0)
		die(X_USAGE, "%s: %s (or none)", name, why);
	if (proxy.socks && url.port[strspn(url.port, "0123456789")])
		die(X_USAGE, "a SOCKS proxy wants a number as the server's "
		    "port");
}

/* The key file that is named, or lies where it is looked for; or NULL. */
static const char *
key_path(char *b, size_t size)
{
	const char *p = cfg.key, *h = getenv("HOME");
	struct stat st;
	char *c;
	int home;

	if (!p && (p = getenv("MSSH_KEY_FILE")) && !*p)
		p = NULL;
	if (!p && (c = conf(K_KEY, cfg.node))) {
		home = !strncmp(c, "~/", 2) && h;
		snprintf(b, size, "%s%s", home ? h : "", c + home);
		free(c);
		p = b;
	}
	/* ours must be good if it is there; the machine's may be another's */
	if (!p && lstat(conf_home(b, size, "key"), &st) == 0)
		p = b;
	if (!p && access("/etc/mssh/key", R_OK) == 0)
		p = "/etc/mssh/key";
	return p;
}

/* agent, proxy: reads the key, if there is one */
static void
key_load(void)
{
	char b[PATH_MAX], why[PATH_MAX + 200], line[KEYS_LEN];
	const char *path = key_path(b, sizeof b), *bad = "it is empty";
	char *p;
	FILE *f;
	int r = -1;

	if (!path)
		return;
	proc_hide();
	if (!(f = private_open(path, AT_FDCWD, path, why, sizeof why)))
		die(X_USAGE, "%s", why);
	while (r < 0 && fgets(line, sizeof line, f)) {
		if (!*(p = blanks(line)) || *p == '#')
			continue;
		r = secret_parse(p, &mine, &bad);
		break;
	}
	wipe(line, sizeof line);
	private_close(f);
	if (r < 0)
		die(X_USAGE, "%s: %s", path, bad);
}

static void
prompt(const char *text, char *b, size_t size)
{
	printf("%s", text);
	fflush(stdout);
	if (!fgets(b, size, stdin))
		die(X_FAIL, "nothing written");
	b[strcspn(b, "\n")] = '\0';
}

static void
make_parents(char *path)
{
	char *p;

	for (p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
		*p = '\0';
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			die(X_FAIL, "cannot make %s:", path);
		*p = '/';
	}
}

static int
run_config(void)
{
	char path[PATH_MAX], srv[600], id[300], yes[8];
	struct url u;
	FILE *f;
	int fd;

	if (!isatty(0))
		die(X_USAGE, "config init asks questions and wants a terminal; "
		    "see mssh.conf(5) to write the file yourself");
	conf_home(path, sizeof path, "config");
	if (access(path, F_OK) == 0) {
		printf("%s exists. ", path);
		prompt("Replace it? [y/N] ", yes, sizeof yes);
		if (*yes != 'y' && *yes != 'Y')
			die(X_FAIL, "nothing written");
	}
	do
		prompt("Server (HOST, HOST:PORT or https://HOST/PATH): ", srv,
		    sizeof srv);
	while (url_parse(srv, &u) < 0);
	prompt("Identity file for ssh (empty: ssh's own choice): ", id,
	    sizeof id);
	make_parents(path);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (!(f = fd < 0 ? NULL : fdopen(fd, "w")))
		die(X_FAIL, "cannot write %s:", path);
	fprintf(f, "# see mssh.conf(5)\nserver %s\n", srv);
	if (*id)
		fprintf(f, "identity %s\n", id);
	if (fclose(f) != 0)
		die(X_FAIL, "cannot write %s:", path);
	printf("Wrote %s\n", path);
	return 0;
}

static const char *new_key;	/* its name, from the command line */

/* A key for a person or a machine; the same line on both sides. */
static int
run_keygen(void)
{
	unsigned char secret[MAC_LEN];
	char b[B64_LEN + 1], line[KEY_LEN + B64_LEN + 3];
	struct stat st;
	int n;

	proc_hide();
	sys_random(secret, sizeof secret);
	b64_write(secret, b);
	if (fstat(1, &st) == 0 && S_ISREG(st.st_mode) && st.st_mode & 077)
		die(X_USAGE, "others can read that file: 'umask 077' before, "
		    "or chmod 600 it");
	n = snprintf(line, sizeof line, "%s %s\n", new_key, b);
	n -= write(1, line, n);		/* stdio would keep a copy */
	wipe(secret, sizeof secret);
	wipe(b, sizeof b);
	wipe(line, sizeof line);
	if (n)
		die(X_FAIL, "cannot write the key:");
	return 0;
}

/* the command line */

enum {
	SERVER = 1, AGENT = 2, PROXY = 4, SSH = 8, CONFIG = 16, KEYGEN = 32
};
enum { O_STR, O_NUM, O_HOST, O_FLAG, O_LISTEN, O_TRUST };

static const struct option {
	const char *name, *arg;
	int roles, kind;
	void *to;
	long lo, hi;
	const char *help;
} options[] = {
	{ "host", "ADDR", SERVER, O_HOST, NULL, 0, 0,
	    "listen on ADDR (0.0.0.0); may be repeated" },
	{ "port", "N", SERVER, O_NUM, &cfg.port, 0, 65535,
	    "listen on port N (8443); 0: a free one" },
	{ "listen", "unix:PATH", SERVER, O_LISTEN, NULL, 0, 0,
	    "listen on a Unix socket, and on no port without --host" },
	{ "trusted", "ADDR[/BITS]", SERVER, O_TRUST, NULL, 0, 0,
	    "a front that says whom it speaks for, or: unix" },
	{ "proxy-protocol", NULL, SERVER, O_FLAG, &cfg.proxied, 0, 0,
	    "a PROXY header begins each connection" },
	{ "drain", "SECONDS", SERVER, O_NUM, &cfg.drain, 0, 86400,
	    "let sessions end for so long after SIGTERM (0)" },
	{ "keys", "FILE", SERVER, O_STR, &cfg.keys, 0, 0,
	    "let only those in whose key FILE has" },
	{ "strict-reload", NULL, SERVER, O_FLAG, &cfg.strict, 0, 0,
	    "SIGHUP also ends the sessions of removed keys" },
	{ "connections", "N", SERVER, O_NUM, &cfg.connections, 8, INT_MAX,
	    "connections in all (what descriptors allow)" },
	{ "startups", "N", SERVER, O_NUM, &cfg.startups, 3, INT_MAX,
	    "strangers at a time (half of the descriptors)" },
	{ "source-startups", "N", SERVER, O_NUM, &cfg.source_startups, 1,
	    UINT16_MAX, "of them from one address (two thirds)" },
	{ "parked", "N", SERVER, O_NUM, &cfg.parked, 1, MAX_SPARE,
	    "parked connections of a node (64)" },
	{ "key-parked", "N", SERVER, O_NUM, &cfg.key_parked, 1, INT_MAX,
	    "of a key (half of --connections)" },
	{ "waiting", "N", SERVER, O_NUM, &cfg.waiting, 1, INT_MAX,
	    "clients that wait for a node (64)" },
	{ "sessions", "N", SERVER, O_NUM, &cfg.sessions, 1, INT_MAX,
	    "sessions of a node (1/8 of --connections)" },
	{ "key-sessions", "N", SERVER, O_NUM, &cfg.key_sessions, 1, INT_MAX,
	    "sessions of a client's key (1/16)" },
	{ "server", "WHERE", AGENT | PROXY | SSH, O_STR, &cfg.server, 0, 0,
	    "the rendezvous server: HOST[:PORT] (8443), tls://HOST,\n\t\t\t "
	    "http[s]://HOST/PATH, unix:PATH" },
	{ "cafile", "FILE", AGENT | PROXY | SSH, O_STR, &cfg.cafile, 0, 0,
	    "the CAs that may vouch for the server (the system's)" },
	{ "cert", "FILE", AGENT | PROXY | SSH, O_STR, &cfg.cert, 0, 0,
	    "our certificate, where TLS wants one" },
	{ "certkey", "FILE", AGENT | PROXY | SSH, O_STR, &cfg.certkey, 0, 0,
	    "its private key, if it is not in --cert" },
	{ "proxy", "URL", AGENT | PROXY | SSH, O_STR, &cfg.proxy, 0, 0,
	    "through http://HOST:PORT, socks5h://..., or none" },
	{ "connect", "CMD", AGENT | PROXY | SSH, O_STR, &cfg.connect, 0, 0,
	    "through CMD's standard input and output (%h %p)" },
	{ "ping", "SECONDS", AGENT, O_NUM, &cfg.ping, 1, 50,
	    "ask so often whether the server is there (25)" },
	{ "ssh-host", "ADDR", AGENT, O_STR, &cfg.ssh_host, 0, 0,
	    "sshd's address (127.0.0.1)" },
	{ "ssh-port", "N", AGENT, O_NUM, &cfg.ssh_port, 1, 65535,
	    "sshd's port (22)" },
	{ "spare", "N", AGENT, O_NUM, &cfg.spare, 1, MAX_SPARE,
	    "keep N connections parked (1)" },
	{ "exec", "CMD", AGENT, O_STR, &cfg.exec, 0, 0,
	    "serve each session by CMD, as inetd would" },
	{ "key", "FILE", AGENT | PROXY | SSH, O_STR, &cfg.key, 0, 0,
	    "prove who we are, and want the server to" },
	{ "allow", "PATTERNS", AGENT, O_STR, &cfg.allow, 0, 0,
	    "serve only clients whose key is named like that" },
	{ "source", "HOW", AGENT, O_STR, &cfg.source, 0, 0,
	    "client (one 127/8 address each) or fixed (127.0.0.1)" },
	{ "wait", "SECONDS", PROXY | SSH, O_NUM, &cfg.wait, 0, WAIT_MAX,
	    "wait so long for the node to appear (0)" },
	{ "fdpass", NULL, PROXY, O_FLAG, &cfg.fdpass, 0, 0,
	    "hand the socket to ssh (ProxyUseFdpass) and exit" },
	{ "identity", "FILE", SSH, O_STR, &cfg.identity, 0, 0,
	    "ssh's -i" },
	{ "user", "NAME", SERVER | AGENT, O_STR, &cfg.user, 0, 0,
	    "become that user, where root starts it" },
	{ "verbose", NULL, SERVER | AGENT, O_FLAG, &cfg.verbose, 0, 0,
	    "log every step" },
	{ "self-test", "WHAT", SERVER | AGENT, O_STR, &cfg.try, 0, 0, NULL },
};

static int run_ssh(void);

static const struct role_entry {
	const char *name;
	int bit;
	int (*run)(void);
	const char *usage, *help;
} roles[] = {
	{ "server", SERVER, run_server, "mssh server [options]",
	    "pair clients with nodes; runs on the public host" },
	{ "agent", AGENT, run_agent, "mssh agent [node] [options]",
	    "make this machine a node; runs behind NAT" },
	{ "proxy", PROXY, run_proxy, "mssh proxy node [options]",
	    "connect standard input and output to a node's sshd" },
	{ "ssh", SSH, run_ssh, "mssh [ssh] user@node [options] "
	    "[ssh options] [command]", "run ssh to a node" },
	{ "config", CONFIG, run_config, "mssh config init",
	    "write ~/.config/mssh/config by asking" },
	{ "keygen", KEYGEN, run_keygen, "mssh keygen name",
	    "print a new key, for --key and --keys" },
};

static const struct role_entry *role;
static int nargs;
static char **args;			/* what follows the command */
static const char *self;

static int
usage(FILE *f, int code)
{
	const struct option *o;
	char b[40];
	size_t i;

	if (!role) {
		fprintf(f, "usage:\n");
		for (i = 0; i < LEN(roles); i++)
			fprintf(f, "  %s\n\t%s\n", roles[i].usage,
			    roles[i].help);
		fprintf(f, "  mssh --version\n  mssh COMMAND --help\n");
		exit(code);
	}
	fprintf(f, "usage: %s\n%s\n", role->usage, role->help);
	for (o = options; o < options + LEN(options); o++) {
		if (!(o->roles & role->bit) || !o->help)
			continue;
		snprintf(b, sizeof b, "--%s%s%s", o->name, o->arg ? " " : "",
		    o->arg ? o->arg : "");
		fprintf(f, "  %-22s %s\n", b, o->help);
	}
	if (role->bit == SSH)
		fprintf(f, "  All other options and the command go to ssh.\n");
	exit(code);
}

/* Options that may be repeated. */
static void
option_list(const struct option *o, const char *v)
{
	char b[200];

	if (o->kind == O_TRUST && !strcmp(v, "unix"))
		cfg.trust_unix = 1;
	else if (o->kind == O_TRUST && cfg.ntrusted == MAX_TRUSTED)
		die(X_USAGE, "at most %d --trusted", MAX_TRUSTED);
	else if (o->kind == O_TRUST) {
		if (net_parse(v, &cfg.trusted[cfg.ntrusted++]) < 0)
			die(X_USAGE, "--trusted wants an address, a network "
			    "like 10.0.0.0/8 or unix, not '%s'",
			    escape(b, sizeof b, v, strlen(v)));
	} else if (cfg.nhost + cfg.npath == MAX_HOSTS)
		die(X_USAGE, "at most %d --host and --listen", MAX_HOSTS);
	else if (o->kind == O_HOST)
		cfg.host[cfg.nhost++] = v;
	else if (strncmp(v, "unix:", 5) || !v[5])
		die(X_USAGE, "--listen wants unix:PATH (for addresses there "
		    "are --host and --port)");
	else
		cfg.path[cfg.npath++] = v + 5;
}

/* Takes the option at args[*i], which starts with "--". */
static void
option(int *i)
{
	const char *a = args[*i] + 2, *v = strchr(a, '=');
	size_t n = v ? (size_t)(v - a) : strlen(a);
	const struct option *o;

	if (!strcmp(a, "help"))
		usage(stdout, 0);
	for (o = options; o < options + LEN(options); o++)
		if (o->roles & role->bit && strlen(o->name) == n &&
		    !strncmp(o->name, a, n))
			break;
	if (o == options + LEN(options))
		die(X_USAGE, "%s has no option --%.*s (see mssh %s --help)",
		    role->name, (int)n, a, role->name);
	if (o->kind == O_FLAG) {
		if (v)
			die(X_USAGE, "--%s takes no value", o->name);
		*(int *)o->to = 1;
		return;
	}
	if (v)
		v++;
	else if (++*i < nargs)
		v = args[*i];
	if (!v || !*v)
		die(X_USAGE, "--%s wants %s", o->name, o->arg);
	if (o->kind == O_NUM) {
		if (num_parse(v, o->lo, o->hi, o->to) < 0)
			die(X_USAGE, "--%s wants a number from %ld to %ld, "
			    "not '%s'", o->name, o->lo, o->hi, v);
	} else if (o->kind == O_STR)
		*(const char **)o->to = v;
	else
		option_list(o, v);
}

static void
set_node(const char *s)
{
	char hint[NODE_LEN + 1], b[200];
	const char *bad = node_parse(s, cfg.node, role->bit != AGENT);

	if (!bad)
		return;
	node_suggest(s, hint);
	die(X_USAGE, "'%s' is no node id: %s; try '%s'",
	    escape(b, sizeof b, s, strlen(s)), bad, hint);
}

/* all but ssh: options and at most one word */
static void
parse(void)
{
	const char *word = NULL;
	int i, words = 0;

	for (i = 0; i < nargs; i++) {
		if (!strcmp(args[i], "--") && !words)
			words = 1;
		else if (!words && (!strcmp(args[i], "-h")))
			usage(stdout, 0);
		else if (!words && !strcmp(args[i], "-v") &&
		    role->bit & (SERVER | AGENT))
			cfg.verbose = 1;
		else if (!words && !strncmp(args[i], "--", 2))
			option(&i);
		else if (!words && args[i][0] == '-' && args[i][1])
			die(X_USAGE, "%s has no option %s (see mssh %s --help)",
			    role->name, args[i], role->name);
		else if (word || role->bit == SERVER)
			die(X_USAGE, "'%s' is one word too many (see mssh %s "
			    "--help)", args[i], role->name);
		else
			word = args[i];
	}
	if (role->bit == CONFIG && (!word || strcmp(word, "init")))
		usage(stderr, X_USAGE);
	if (role->bit == PROXY && !word)
		die(X_USAGE, "proxy wants a node: %s", role->usage);
	if (role->bit == KEYGEN && !word)
		usage(stderr, X_USAGE);
	if (role->bit == KEYGEN && !key_name_ok(new_key = word))
		die(X_USAGE, "the name of a key has 1 to 32 letters, digits, "
		    "'.', '_' and '-', a letter or digit first");
	if (cfg.source && !strcmp(cfg.source, "client"))
		cfg.source = NULL;
	else if (cfg.source && strcmp(cfg.source, "fixed"))
		die(X_USAGE, "--source wants client or fixed, not '%s'",
		    cfg.source);
	if (role->bit & (AGENT | PROXY)) {
		if (word)
			set_node(word);
		need_server();
		way_load();
		key_load();
	}
}

/* The words of ssh's command line, in the order in which ssh wants them. */
static char **argv_ssh;
static int argc_ssh;

static void
push_arg(const char *a)
{
	argv_ssh[argc_ssh++] = (char *)a;
	argv_ssh[argc_ssh] = NULL;
}

static void
push_option(const char *fmt, ...)
{
	static char b[12 * PATH_MAX];
	char *copy;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(b, sizeof b, fmt, ap);
	va_end(ap);
	if (!(copy = strdup(b)))
		die(X_FAIL, "no memory:");
	push_arg("-o");
	push_arg(copy);
}

/* What tells this server from others, for ssh's HostName: its port, and its
 * path if it has one. */
static void
place(char *b, size_t size)
{
	size_t i, n;

	snprintf(b, size, "%s%s", url.port, strcmp(url.path, "/") ?
	    url.path : "");
	for (i = 0, n = strlen(b); i < n; i++)
		if (!is_node_char((unsigned char)b[i]))
			b[i] = '-';
}

/* --name FILE, quoted, for the ProxyCommand */
static const char *
file_arg(char b[2 * PATH_MAX], const char *name, const char *file)
{
	size_t n = sprintf(b, "--%s ", name);

	if (!file)
		*b = '\0';
	else if (shell_quote(file, b + n, 2 * PATH_MAX - n - 1) < 0)
		die(X_USAGE, "the path of --%s is too long", name);
	else
		strcat(b, " ");
	return b;
}

static void
push_proxy(void)
{
	char name[ADDR_LEN + 40 + PATH_LEN], me[PATH_MAX], where[PATH_LEN + 40];
	char q[2 * PATH_MAX], qs[1200], f[4][2 * PATH_MAX];
	int plain = !is_tls() && !cfg.connect;

	if (!strchr(self, '/') || !realpath(self, me))
		snprintf(me, sizeof me, "mssh");
	if (shell_quote(me, q, sizeof q) < 0 ||
	    shell_quote(cfg.server, qs, sizeof qs) < 0)
		die(X_USAGE, "the path of this program is too long");
	place(where, sizeof where);
	host_name(cfg.node, url.host, where, name, sizeof name);
	push_option("ProxyCommand=%s proxy %s--server %s --wait %ld "
	    "%s%s%s%s-- %s", q, plain ? "--fdpass " : "", qs, cfg.wait,
	    file_arg(f[0], "key", cfg.key),
	    file_arg(f[1], "cafile", cfg.cafile),
	    file_arg(f[2], "cert", cfg.cert),
	    file_arg(f[3], "certkey", cfg.certkey), cfg.node);
	if (plain)
		push_option("ProxyUseFdpass=yes");
	push_option("HostName=%s", name);
	/* ssh hands them on; nobody else reads what may hold a password */
	if (cfg.proxy && setenv("MSSH_PROXY", cfg.proxy, 1) < 0)
		die(X_FAIL, "no memory:");
	if (cfg.connect && setenv("MSSH_CONNECT", cfg.connect, 1) < 0)
		die(X_FAIL, "no memory:");
}

static int
run_ssh(void)
{
	const char *who = NULL, *at;
	char **opts, *id;
	int i, nopts = 0, k;

	argv_ssh = calloc(nargs + 24, sizeof *argv_ssh);
	opts = calloc(nargs + 1, sizeof *opts);
	if (!argv_ssh || !opts)
		die(X_FAIL, "no memory:");
	for (i = 0; i < nargs; i++) {
		if (!strcmp(args[i], "--")) {
			i++;
			if (!who && i < nargs)
				who = args[i++];
			break;
		}
		if (!strncmp(args[i], "--", 2))
			option(&i);
		else if (args[i][0] == '-' && args[i][1]) {
			opts[nopts++] = args[i];
			if (ssh_takes_next(args[i]) && i + 1 < nargs)
				opts[nopts++] = args[++i];
		} else if (!who)
			who = args[i];
		else
			break;
	}
	if (!who)
		usage(stderr, X_USAGE);
	at = strrchr(who, '@');
	if (at == who || *who == '-')
		die(X_USAGE, "'%s' is no user@node", who);
	set_node(at ? at + 1 : who);
	need_server();
	way_load();
	push_arg("ssh");
	push_proxy();
	id = cfg.identity ? (char *)cfg.identity : conf(K_IDENTITY, cfg.node);
	if (id) {
		push_arg("-i");
		push_arg(id);
	}
	for (k = 0; k < nopts; k++)
		push_arg(opts[k]);
	/* a server that says nothing must not hold ssh for ever; behind the
	 * options of the person, whose word counts first */
	push_option("ConnectTimeout=%ld", phases[ASK].ms / 1000 + cfg.wait);
	/* fronts cut what is silent for a minute, as a rule */
	if (url.scheme != S_TCP && url.scheme != S_UNIX)
		push_option("ServerAliveInterval=%d", PING_EVERY / 1000);
	push_arg("--");
	push_arg(who);
	for (; i < nargs; i++)
		push_arg(args[i]);
	setenv("SHELL", "/bin/sh", 1);	/* what ssh runs a ProxyCommand with */
	execvp("ssh", argv_ssh);
	die(X_FAIL, "cannot run ssh (OpenSSH's client, to be installed):");
	return 0;
}

int
main(int argc, char *argv[])
{
	size_t i;

	if (argc < 2)
		usage(stderr, X_USAGE);
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
		usage(stdout, 0);
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		printf("mssh %s (%s, %s)\n", VERSION, reactor_name,
		    confine_name);
		return 0;
	}
	for (i = 0; i < LEN(roles); i++)
		if (!strcmp(argv[1], roles[i].name))
			role = &roles[i];
	self = argv[0];
	nargs = argc - (role ? 2 : 1);
	args = argv + (role ? 2 : 1);
	if (!role) {
		if (*argv[1] != '-' && !strchr(argv[1], '@'))
			die(X_USAGE, "unknown command '%s' (mssh user@node "
			    "runs ssh; see mssh --help)", argv[1]);
		role = &roles[3];
	}
	if (role->bit == SSH)
		return run_ssh();
	parse();
	if (role->bit == CONFIG)
		return run_config();
	sys_random(sip_key, sizeof sip_key);
	sys_random(&next_id, sizeof next_id);
	if (cfg.fdpass && (is_tls() || cfg.connect))
		background();
	if (reactor_open() < 0)
		die(X_FAIL, "cannot start the event loop:");
	return role->run();
}
