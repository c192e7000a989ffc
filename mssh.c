/* mssh - reach the SSH server of a machine behind NAT
 *
 * One program, its roles are in roles[].  A session's life, all in step:
 *
 *	agent   dials the server, says hello, is parked           (IDLE)
 *	server  PARKED: answers pings, forgets who is silent
 *	client  proxy dials the server, says hello, then ssh's first bytes
 *	server  HELLO: finds the node's newest parked connection  (PAIRED)
 *	        sends it GO and a copy of the client's first bytes (GO_SENT)
 *	agent   dials sshd, and at once a new spare           (HELD, DIALLING)
 *	agent   READY, and raw bytes from here
 *	server  OK to the client, and raw bytes from here         (RELAY)
 *	        ... until both directions have ended, or one side is dead
 *
 * In server and agent a connection is a struct conn with one owner: the list,
 * the slot or the partner that points at it; drop() ends it from any phase and
 * settles what hung on it.  Events change phases, through enter() alone.  Start
 * reading at main().
 */
#define _XOPEN_SOURCE 700

#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <time.h>
#include <unistd.h>

#include "proto.h"
#include "reactor.h"

#ifndef VERSION
# define VERSION "0.1"
#endif

#define LEN(a) (sizeof(a) / sizeof *(a))
#define SPLIT_MS(ms) (int)((ms) / 1000), (int)((ms) % 1000 / 100)
/* valid until the end of the block in which it stands */
#define peer_str(p) peer_write(p, (char[PEER_LEN]){ 0 })
#define host_port(h, p) host_write(h, p, (char[ADDR_LEN + 40]){ 0 })

/* Limits and times, ms unless said otherwise; mssh(1) lists them. */
enum {
	MAX_HOSTS = 16,		/* --host, --listen, listening sockets */
	MAX_TRUSTED = 16,	/* --trusted */
	MAX_SPARE = 64,		/* parked connections of a node */
	AGENT_SESSIONS = 64,	/* of one agent; --sessions */
	MAX_KEPT = 65536,	/* of those: resumable */
	MAX_WAITING = 64,	/* clients that wait for one node */
	MAX_ASKERS = 64,	/* peers that list or ping */
	LIST_US = 500,		/* us: a list may take in one turn */
	PING_MIN = 200,		/* between two pings of an asker */
	RETRY = -1,		/* asked of one that has gone */
	MAX_SEEN = 1024,	/* offline nodes remembered */
	MAX_SERVERS = 8,	/* --server */
	MAX_ADDRS = 8,		/* of one name */
	LOOKUP_MAX = 10,	/* s: a name server answers */
	DIAL_MAX = 40,		/* s: or the dialler gives up */
	CONNECT_MAX = 4000,	/* one address */
	RACE_EVERY = 250,	/* until the next is tried too (RFC 8305 5) */
	ANSWER_MAX = 10000,	/* a proxy, TLS, HTTP, the hello of an agent, */
	HELLO_MORE = 5000,	/* hello, if other addresses are left, */
	CLIENT_MAX = 35000,	/* of a client, --wait added */
	MAX_ACCEPT = 16,	/* in one turn, for which relays wait */
	SOURCES = 4096,		/* counters for the addresses of peers */
	CHAINS = 1 << 15,	/* of the table of nodes, in BSS: pages of it
				 * that no node hashes to cost nothing */
	MAX_DISCARD = 1 << 20,	/* bytes of a refused peer */

	PING_EVERY = 25000,	/* below the 60 s of most fronts; --ping */
	PROBE_V1 = 5000,	/* version 1: acknowledged by TCP */
	HOLD_MS = 3000,		/* a node is held with nothing parked */
	CALL_ACK = 2000,	/* GO must be acknowledged by TCP */
	CALL_MAX = 10000,	/* and answered */
	LOST_MS = 20000,	/* clients wait so long for a lost node */
	LEFT_MS = 5000,		/* or one that closed its connection */
	START_MS = 3000,	/* or for any after the server's start */
	PATIENCE = 120,		/* s without an ACK: a session's peer is dead */
	TICK = 5000,		/* a relay looks whether its peers live */
	HELD_MS = 5000,		/* a registration that held resets backoff */
	BACKOFF_MIN = 500,
	BACKOFF_MAX = 15000,	/* a server that answers */
	BACKOFF_NET = 2000,	/* a network that does not */
	PAUSE = 100,		/* no accept(2) after EMFILE, or when full */
	STOP_MS = 200,		/* agents come back after a stop, not sooner, */
	STOP_RATE = 3000,	/* and so many a second, */
	STOP_MAX = 600000,	/* but at last then */
	FIRST_BYTE = 2000,	/* a client may wait for OK before it speaks */
	CHUNK = 1 << 16,	/* bytes: a backlog grows by so many, */
	CHUNKS = 64,		/* at most, for each direction; and a program */
	RING = 2 * CHUNKS + 8,	/* that takes nothing may say so many: it may
				 * have to say more before it takes what has
				 * the acknowledgements behind it */
	ACK_AFTER = 100,	/* what came is acknowledged */
	ALIVE_EVERY = 3000,	/* while nothing can be taken */
	QUIET_MAX = 10000,	/* nothing came: a ping asks, */
	PONG_MAX = 5000,	/* and is answered */
	RESUME_FOR = 600,	/* s: --resume-for */
	RESUME_MIB = 64,	/* --resume-memory */
	CUT = 2,		/* eof of a duct whose end broke */
	FILES = 64		/* descriptors that are no connections */
};

enum phase_id {
	BIRTH,
	/* server */
	FRONT, HELLO, HEAD, PROOF, LINGER, PARKED, PROBED, GO_SENT,
	AWAIT_CLIENT, WAITING, PAIRED, LISTING, PINGING,
	/* agent */
	DIALLING, REGISTERING, IDLE, PINGED, HELD, CHILD, KEPT,
	/* all */
	RELAY
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
	struct relay_end *end;	/* its half of a session, or NULL */
	struct conn *next, *prev;
	struct list *in;	/* the list I am in, or NULL */
	struct node *node;	/* server: counted in node->refs */
	union {
		uint64_t run;		/* server: of an agent's process */
		uint64_t id;		/* of a client, or a session */
		uint64_t discarded;	/* LINGER: bytes */
		int64_t asked;		/* PINGING: when, us, 0 or RETRY */
	} u;
	union {
		int64_t since;		/* beginning of the phase that counts */
		int64_t until;		/* a client may wait */
	} t;
	struct peer peer;
	union {
		uint16_t source;	/* up to the proof or first byte: in
					 * startups[] */
		uint16_t copied;	/* client: bytes its agent has */
		uint16_t looks;		/* PINGING: waits for SSHD */
		uint16_t server;	/* agent: of servers */
	} s;
	uint8_t phase;
	uint8_t version;	/* of the peer, 0: not known yet */
	unsigned slot : 6;	/* agent: which spare */
	unsigned agent : 1;	/* counted in node->agents */
	unsigned early : 1;	/* the client has its OK, or wants none */
	unsigned ssh : 1;	/* and is an SSH client, by its own word */
	unsigned first : 1;	/* ended its side first */
	unsigned sshd : 1;	/* agent: the connection to sshd */
	unsigned web : 1;	/* server: it came by HTTP */
	unsigned scrape : 1;	/* server: it came to --metrics */
	unsigned late : 1;	/* client: says nothing before its OK */
	unsigned frames : 1;	/* server: an agent that resumes sessions */
};

struct key {			/* an entry of the server's keys file */
	struct key *chain;
	struct secret secret;
	unsigned roles;		/* as in struct right */
	int gone;		/* it is in the file no more, or not yet */
	int read;		/* it is in the file that is being read */
	int refs;		/* set by key_point() alone */
	int parked, clients;	/* connections that are here by it */
	char nodes[];
};

struct proof {			/* while a peer has to prove its key */
	struct hello h;
	struct key *key;	/* server: whose, NULL: unknown */
	unsigned char mac[MAC_LEN];	/* server: what the proof must be */
};

/* What a peer is told of the nodes.  It has no session, and its duct's stash is
 * this. */
struct listing {
	unsigned chain, row;	/* the next: which of a chain of the table */
	unsigned count;		/* so far */
	unsigned off, len;	/* what of b is still to be sent */
	char patterns[NODES_LEN + 1];
	char b[4096];
};

struct relay_end {
	struct duct out;	/* my bytes on their way to to */
	struct conn *to;	/* the other half's connection */
	struct proof *proof;	/* or NULL: none is wanted, or it was given */
	struct key *key;	/* server: that brought it here, or NULL */
	union {
		char *words;		/* server: a client's for GO, or NULL */
		struct kept *kept;	/* agent: from GO on */
	} resume;
	uint8_t strikes;	/* looks in a row that found it silent */
	int32_t pid;		/* agent: who serves the session */
	int32_t net;		/* agent: the network's own socket, or -1:
				 * it is io.fd */
	union {
		uint32_t ask;	/* agent: which request to the dialler */
		int64_t came;	/* client: when, us */
	} u;
};

struct kept {			/* agent: what a keeper's session is found by */
	char token[TOKEN_LEN + 1], key[KEY_LEN + 1];
	long seq;		/* of the newest connection */
	int64_t lost;		/* when that was lost, or 0 */
	volatile uint32_t *held;	/* its cell of memory.held, which
					 * end_free() gives back */
	int ending;		/* another one needs its place */
};

struct node {
	struct node *chain;
	union {
		struct list parked;	/* refs > 0; newest at the tail */
		struct node *off[2];	/* refs == 0: newer, older */
	} u;
	struct list waiting;		/* clients, oldest at the head */
	struct key *key;		/* the agents', or NULL */
	uint64_t run;			/* whose the node is */
	int64_t seen;			/* an agent was parked last, or the
					 * last connection of one ended */
	unsigned refs : 24;		/* conns that point here */
	unsigned major : 8, minor : 8;	/* its agent's version, 0: unknown */
	unsigned agents : 24;		/* of refs: agents, parked to relay */
	unsigned since : 31;		/* s after started: it was registered */
	unsigned lost : 1;		/* clients wait LOST_MS, not LEFT_MS */
	char id[];
};

/* in the order in which they happen */
typedef void handler(struct conn *);
static handler on_front, on_hello, on_head, on_proof, on_linger, on_parked,
    on_go_sent, on_pending, on_waiting, on_listing, on_pinging, on_dialling,
    on_registering, on_idle, on_child, on_kept, on_relay, pair;
static void hello_answered(struct conn *, const char *line, int r);

static const struct phase {
	char name[13];
	handler *fn;
	int ms;				/* deadline on entry */
} phases[] = {
	[BIRTH] = { "new", NULL, -1 },
	[FRONT] = { "front", on_front, 5000 },
	[HELLO] = { "hello", on_hello, 5000 },
	[HEAD] = { "head", on_head, 5000 },
	[PROOF] = { "proof", on_proof, 5000 },
	[LINGER] = { "linger", on_linger, 1000 },
	[PARKED] = { "parked", on_parked, 60000 },
	[PROBED] = { "probed", on_parked, 3000 },
	[GO_SENT] = { "go sent", on_go_sent, CALL_ACK },
	[AWAIT_CLIENT] = { "await client", on_pending, 10000 },
	[WAITING] = { "waiting", on_waiting, LOST_MS },
	[PAIRED] = { "paired", on_pending, 30000 },
	[LISTING] = { "listing", on_listing, 10000 },
	[PINGING] = { "pinging", on_pinging, 20000 },
	[DIALLING] = { "dialling", on_dialling, 50000 },
	[REGISTERING] = { "registering", on_registering, 10000 },
	[IDLE] = { "idle", on_idle, -1 },	/* --ping */
	[PINGED] = { "pinged", on_idle, 4000 },
	[HELD] = { "held", on_dialling, 60000 },
	[CHILD] = { "child", on_child, TICK },
	[KEPT] = { "kept", on_kept, -1 },
	[RELAY] = { "relay", on_relay, TICK },
};

static void drop(struct conn *, const char *why);
static void agent_hello(struct conn *, const struct hello *, struct key *);
static void client_hello(struct conn *, const struct hello *, struct key *);
static int go_send(struct conn *, struct conn *, ssize_t);
static void ask_begin(struct conn *, const struct hello *);
static void askers_tell(const struct conn *, const char *line);
static void askers_retry(const struct node *);

static struct server {		/* one of --server; srv is at work */
	struct io retry;	/* agent: calls fill() */
	struct url url;
	struct proxy proxy;	/* to get there; host "": none */
	struct conn *slots[MAX_SPARE];	/* agent: parked, or on the way there */
	int parked;		/* of them: in IDLE or PINGED */
	int fails;		/* in a row */
	int64_t retry_at;	/* when the pause after them ends */
	int64_t hurried;	/* retry_at of the one that a change of the
				 * network has cut short */
	char refusal[300];	/* last one told, so as to tell it once */
} servers[MAX_SERVERS], *srv = servers;
static int nservers;

/* the command line; one role runs, so there is one of each */
static struct config {
	const char *listen[MAX_HOSTS + 1];	/* unix:PATH or an address */
	int nlisten, npaths;
	struct net trusted[MAX_TRUSTED];
	int ntrusted, trust_unix;
	const char *server, *ssh_host, *exec, *identity;
	const char *key, *keys, *allow, *source, *user, *try;
	const char *cafile, *cert, *certkey, *connect, *proxy, *metrics;
	const char *keep;			/* --resume-for, before it is a
						 * number */
	long port, ssh_port, spare, drain, wait, ping, patience;
	long connections, startups, sessions, resume_for, resume_memory;
	int fdpass, verbose, strict, proxied, json, names, no_sshd;
	int resume, no_resume;
	long count;
	char node[NODE_LEN + 1], patterns[NODES_LEN + 1];
	const char *about;			/* one of both: for the hello */
} cfg = { .port = -1, .ssh_host = "127.0.0.1", .ssh_port = 22,
    .source = "client", .spare = 1, .ping = PING_EVERY / 1000,
    .patience = PATIENCE, .resume_for = RESUME_FOR,
    .resume_memory = RESUME_MIB };

static struct list live;		/* the client of each session */
static struct list pending;		/* clients in PAIRED, and those with a
					 * key in AWAIT_CLIENT */
static struct list askers;		/* peers that list or ping */
static int nconns;			/* connections, in any phase */
static int nwaiting;			/* clients in WAITING, of all nodes */
static int held;			/* agent: in HELD */
static struct {				/* rules: see limits() */
	int source_startups;		/* unauthenticated, of one address */
	int key_parked;			/* connections of a key */
	int key_sessions;		/* of a client's key, or waiting */
	int waiting;			/* clients in WAITING, of all nodes */
} caps;
static struct list evictable;		/* up to PROOF, LINGER, and AWAIT_CLIENT
					 * without a key: a new
					 * connection may have their place;
					 * oldest at the head */
static int startups[SOURCES + 1];	/* of them, by hash of the address;
					 * the last: of fronts */
static char sshd_host[HOST_LEN + 1], sshd_port[33];
static unsigned char hash_key[16];	/* new at each start */
static struct secret mine;		/* agent, proxy: name "": no key */
static uint64_t next_id;
static void (*status)(void);		/* tells systemctl how it is */
static int is_daemon, halting;

/* messages */

static int is_line;	/* the terminal has one that has not ended */

static void
line_clear(void)
{
	if (is_line && write(2, "\r\033[K", 4) > 0)
		is_line = 0;
}

/* A fmt that ends in ':' goes on with what errno says. */
static void
vsay_log(const char *fmt, va_list ap)
{
	char b[1024];
	struct pollfd p = { 2, POLLOUT, 0 };
	int e = errno, n = 0, max = sizeof b - 1;

	line_clear();
	if (is_daemon && !getenv("JOURNAL_STREAM"))
		n = time_str(time(NULL), b, sizeof b);
	n += snprintf(b + n, max - n, "mssh: ");
	n += vsnprintf(b + n, max - n, fmt, ap);
	if (n < max && fmt[strlen(fmt) - 1] == ':')
		n += snprintf(b + n, max - n, " %s", strerror(e));
	if (n >= max)
		n = max - 1;
	b[n++] = '\n';
	/* a reader of our messages that stops must not stop us */
	if ((!is_daemon || poll(&p, 1, 0) == 1) && write(2, b, n) < 0)
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
	va_list ap;

	is_daemon = 0;
	va_start(ap, fmt);
	vsay_log(fmt, ap);
	va_end(ap);
	exit(code);
}

/* What unauthenticated peers can cause: so many lines a second, the rest is
 * counted. */
enum limit_kind { N_REFUSAL, N_NODE, N_SESSION };

static struct {
	const char *what;
	unsigned max, n;	/* n this second */
} limited[] = {
	[N_REFUSAL] = { "refusals", 10, 0 },
	[N_NODE] = { "nodes that came or went", 100, 0 },
	[N_SESSION] = { "lines about sessions", 100, 0 },
};

static void
log_left_out(void)
{
	size_t k;

	for (k = 0; k < LEN(limited); k++) {
		if (limited[k].n > limited[k].max)
			say_log("%u more %s", limited[k].n - limited[k].max,
			    limited[k].what);
		limited[k].n = 0;
	}
}

static void
log_limited(enum limit_kind k, const char *fmt, ...)
{
	static int64_t second;
	va_list ap;

	if (reactor_now() - second >= 1000) {
		second = reactor_now();
		log_left_out();
	}
	if (!halting && ++limited[k].n > limited[k].max)
		return;
	va_start(ap, fmt);
	vsay_log(fmt, ap);
	va_end(ap);
}

/* metrics: counters count where things happen; gauges are set for a scrape */

enum {
	M_ONLINE, M_BUSY, M_OFFLINE, M_PARKED, M_WAITING, M_SESSIONS,
	M_CLIENT, M_NODE, M_BROKEN, M_SERVER,	/* what ended a session */
	M_UP, M_DOWN,				/* bytes to the node, from it */
	M_REFUSED, M_HELLO = M_REFUSED + C_MAX,	/* and an enum code */
	M_PAUSES = M_HELLO + C_MAX, M_FDS, M_MAX_FDS, M_RESIDENT, M_START,
	M_BUILD, M_PAIRING, M_TURNS = M_PAIRING + 18, M_LEN = M_TURNS + 18
};

static unsigned long long metric[M_LEN];
static int nagents, noffline;		/* nodes that have agents; had some */
static int first_fds;			/* descriptors before any connection */

#define CODES "syntax,denied,offline,busy,exists,unreachable,timeout,limit," \
	"gone,unsupported"
/* of a histogram in seconds, and in microseconds; its sum is behind the last */
#define BOUNDS "0.0001,0.00025,0.0005,0.001,0.002,0.005,0.01,0.025,0.05,0.1," \
	"0.25,0.5,1,2.5,5,10,+Inf"
static const int bounds[] = { 100, 250, 500, 1000, 2000, 5000, 10000, 25000,
    50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000 };

static const struct family {
	char kind;			/* gauge, counter or histogram */
	uint8_t first;			/* in metric, of values or only one */
	const char *name, *help, *label, *values;
} families[] = {
	{ 'g', M_ONLINE, "mssh_nodes", "Nodes that the server knows.",
	    "state", "online,busy,offline" },
	{ 'g', M_PARKED, "mssh_parked_connections",
	    .help = "Parked connections of agents." },
	{ 'g', M_WAITING, "mssh_waiting_clients",
	    .help = "Clients that wait for a node." },
	{ 'g', M_SESSIONS, "mssh_sessions", .help = "Sessions now." },
	{ 'c', M_CLIENT, "mssh_ended_sessions", "What ended sessions.",
	    "by", "client,node,network,server" },
	{ 'c', M_UP, "mssh_session_bytes", "Bytes to nodes and from them.",
	    "direction", "up,down" },
	{ 'c', M_REFUSED + 1, "mssh_refusals", "Peers that were refused.",
	    "reason", CODES },
	{ 'c', M_HELLO, "mssh_handshakes", "What was said to hellos.",
	    "result", "ok," CODES },
	{ 'c', M_PAUSES, "mssh_accept_pauses",
	    .help = "Pauses in which no connection was accepted." },
	{ 'h', M_PAIRING, "mssh_pairing_seconds",
	    "From a client's hello to the answer of its node.", "le", BOUNDS },
	{ 'h', M_TURNS, "mssh_loop_turn_seconds",
	    "How long a turn of the event loop took.", "le", BOUNDS },
	{ 'g', M_FDS, "process_open_fds", .help = "Open descriptors." },
	{ 'g', M_MAX_FDS, "process_max_fds", .help = "As many may be open." },
	{ 'g', M_RESIDENT, "process_resident_memory_bytes",
	    .help = "Memory in use." },
	{ 'g', M_START, "process_start_time_seconds",
	    .help = "When the server was started, in seconds since 1970." },
	{ 'g', M_BUILD, "mssh_build_info", "The program's version.",
	    "version", VERSION },
};

static void
observe(int first, int64_t us)
{
	size_t i = 0;

	while (i < LEN(bounds) && us > bounds[i])
		i++;
	metric[first + i]++;
	metric[first + LEN(bounds) + 1] += us;
}

static void
on_turn(int64_t us)
{
	observe(M_TURNS, us);
}

/* connections */

static void
list_del(struct conn *c)
{
	struct list *l = c->in;

	if (!l)
		return;
	if (l == &evictable && c->phase != LINGER)
		startups[c->s.source]--;
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
	if (!l->head)
		l->head = c->next = c->prev = c;
	c->next = l->head;
	c->prev = l->head->prev;
	c->prev->next = c->next->prev = c;
	c->in = l;
	l->n++;
}

static void
dispatch(struct io *io)
{
	struct conn *c = (struct conn *)io;	/* its first member */

	if (nservers)
		srv = &servers[c->s.server];
	phases[c->phase].fn(c);
}

static int
is_parked(int phase)
{
	return phase == PARKED || phase == PROBED;
}

static int
is_idle(int phase)
{
	return phase == IDLE || phase == PINGED;
}

/* The counters that follow from phases: c goes from one to the other, and is
 * in its list or out of it already. */
static void
count(const struct conn *c, int from, int to)
{
	int more = is_parked(to) - is_parked(from);

	if (more) {
		metric[M_PARKED] += more;
		metric[M_ONLINE] += more > 0 ? c->node->u.parked.n == 1 :
		    -!c->node->u.parked.n;
	}
	held += (to == HELD) - (from == HELD);
	nwaiting += (to == WAITING) - (from == WAITING);
	servers[nservers ? c->s.server : 0].parked += is_idle(to) -
	    is_idle(from);
	if (from == PARKED || to == GO_SENT)
		c->node->seen = reactor_now();
	if (more && c->node->key)
		c->node->key->parked += more;
}

/* The one place that changes a phase; it also sets the deadline. */
static void
enter(struct conn *c, enum phase_id to)
{
	if (cfg.verbose && c->phase != to)
		say_log("fd %d: %s -> %s", c->io.fd,
		    phases[c->phase].name, phases[to].name);
	count(c, c->phase, to);
	c->phase = to;
	io_after(&c->io, to == IDLE ? (int)cfg.ping * 1000 : phases[to].ms);
}

/* Makes *at point to k.  A key that is gone is freed with the last pointer. */
static void
key_point(struct key **at, struct key *k)
{
	struct key *old = *at;

	if (k)
		k->refs++;
	*at = k;
	if (old && !--old->refs && old->gone)
		free(old);
}

static void
proof_free(struct conn *c)
{
	struct proof *p = c->end->proof;

	if (!p)
		return;
	key_point(&p->key, NULL);
	wipe(p, sizeof *p);
	free(p);
	c->end->proof = NULL;
}

static void
end_free(struct conn *c)
{
	struct relay_end *h = c->end;

	if (!h)
		return;
	proof_free(c);
	duct_end(&h->out);
	if (h->net >= 0)
		close(h->net);
	key_point(&h->key, NULL);
	if (nservers && h->resume.kept)
		*h->resume.kept->held = 0;
	free(h->resume.words);
	free(h);
	c->end = NULL;
}

/* Gives c its half of a session, if it has none yet.  0, or -1: no memory. */
static int
end_get(struct conn *c)
{
	if (c->end)
		return 0;
	if (!(c->end = calloc(1, sizeof *c->end)))
		return -1;
	duct_init(&c->end->out);
	c->end->net = -1;
	return 0;
}

/* Room for what a proof needs: 0, or -1: no memory. */
static int
proof_get(struct conn *c)
{
	return end_get(c) == 0 &&
	    (c->end->proof = calloc(1, sizeof *c->end->proof)) ? 0 : -1;
}

/* A connection that owns fd (-1: none yet), and has what get() gives it, unless
 * that is NULL.  NULL: no memory, fd is closed. */
static struct conn *
conn_new(int fd, int (*get)(struct conn *))
{
	struct conn *c = calloc(1, sizeof *c);

	if (c && (!get || get(c) == 0) && io_add(&c->io, fd, dispatch) == 0) {
		c->t.since = reactor_now();
		nconns++;
		return c;
	}
	if (c)
		end_free(c);
	free(c);
	close(fd);
	return NULL;
}

/* Was the key that brought c here removed? */
static int
is_revoked(const struct conn *c)
{
	const struct key *k = is_parked(c->phase) ? c->node->key :
	    c->end ? c->end->key : NULL;

	return k && k->gone;
}

/* Sends one line at once, or not at all: -1. */
static int
line_send(struct conn *c, const char *fmt, ...)
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

/* Whatever has to come whole (a line, a PROXY header, the head of a request) is
 * peeked at, parsed and then consumed, so that bytes behind it stay where the
 * next phase, or a relay, finds them. */
static unsigned char peeked[COPY_LEN];

/* Peeks at what is here.  >0 bytes are in peeked; 0: none yet; -1: end of file;
 * -2: an error. */
static ssize_t
peek(struct conn *c)
{
	ssize_t n = recv(c->io.fd, peeked, sizeof peeked, MSG_PEEK);

	if (n > 0 && n < COPY_LEN)
		io_short(&c->io);	/* an edge will tell of more */
	if (n >= 0)
		return n ? n : -1;
	if (errno == EAGAIN) {
		c->io.ready &= ~IO_R;
		return 0;
	}
	c->io.ready &= ~IO_H;		/* an error is no last byte */
	return -2;
}

/* Takes n bytes that were peeked at.  0, -1. */
static int
consume(struct conn *c, int n)
{
	return recv(c->io.fd, peeked, n, 0) == n ? 0 : -1;
}

/* As line_read(), but leaves the line where it is. */
static int
line_peek(struct conn *c, char line[LINE_LEN])
{
	ssize_t n;
	int used;

	if (!(c->io.ready & IO_R) || !(n = peek(c)))
		return 0;
	if (n < 0)
		return -1;
	used = line_take((char *)peeked, n, line);
	if (used < 0)
		return -2;
	if (!used && c->io.ready & IO_H)
		return -1;
	if (!used)
		c->io.ready &= ~IO_R;
	else if (used < n)
		c->io.ready |= IO_R;
	if (c->io.ready & IO_R)
		io_again(&c->io);	/* the next line in the next turn */
	return used;
}

/* Takes one line, and not a byte more.  >0: it is in line; 0: not here yet;
 * -1: end of file or error; -2: malformed, the bytes are still there. */
static int
line_read(struct conn *c, char line[LINE_LEN])
{
	int used = line_peek(c, line);

	return used > 0 && consume(c, used) < 0 ? -1 : used;
}

/* Ends the loop when nobody has a session, or still reads why he has none. */
static void
halt_if_done(void)
{
	if (halting && !live.n && !evictable.n)
		reactor_halt();
}

/* Ends gracefully: what was said arrives, what still comes is discarded. */
static void
linger(struct conn *c)
{
	list_add(&evictable, c);
	if (c->end)
		duct_end(&c->end->out);
	c->t.since = reactor_now();
	c->u.discarded = 0;
	shutdown(c->io.fd, SHUT_WR);
	enter(c, LINGER);
	io_again(&c->io);
}

static void
on_linger(struct conn *c)
{
	ssize_t n = c->io.ready & IO_R ? peek(c) : 0;

	if (n > 0) {
		c->u.discarded += n;
		n = consume(c, n);
	}
	if (n < 0 || io_expired(&c->io) || c->u.discarded > MAX_DISCARD) {
		drop(c, "done");
		halt_if_done();
	} else if (c->io.ready & IO_R)
		io_again(&c->io);
}

/* relay */

static void
session_log(struct conn *c, const char *why)
{
	struct conn *client = c->agent || c->sshd ? c->end->to : c;
	struct conn *node = client->end->to;
	struct key *k = client->end->key;

	metric[why ? halting || is_revoked(client) || is_revoked(node) ?
	    M_SERVER : M_BROKEN : client->first ? M_CLIENT : M_NODE]++;
	if (!why)
		why = client->first ? "closed by the client" :
		    "closed by the node";
	log_limited(N_SESSION, "session %016llx %s from %s%s%s up %llu down "
	    "%llu in %d.%d s: %s", (unsigned long long)client->u.id,
	    client->node ? client->node->id : cfg.node,
	    peer_str(&client->peer), k ? " key " : "", k ? k->secret.name : "",
	    (unsigned long long)client->end->out.total,
	    (unsigned long long)node->end->out.total,
	    SPLIT_MS(reactor_now() - client->t.since), why);
}

/* Moves from's bytes on.  0: goes on; 1: this direction has ended; -1. */
static int
flow(struct conn *from, struct conn *to)
{
	struct duct *d = &from->end->out;
	int net = from->end->net, r;
	uint64_t before = d->total;

	if (d->eof)
		return 1;
	/* close(2) will pass the second end of file on; what ends behind
	 * openssl may be a cut */
	d->keep = to->end->out.eof || net >= 0;
	r = duct_move(d, &from->io, &to->io);
	metric[from->agent ? M_DOWN : M_UP] += d->total - before;
	switch (r) {
	case DUCT_MORE:
		from->io.bulk = 1;
		io_again(&from->io);
		return 0;
	case DUCT_DONE:
		if (to->end->out.eof == CUT || (net >= 0 && net_is_cut(net))) {
			errno = ECONNRESET;
			return -1;
		}
		if (net >= 0)
			shutdown(to->io.fd, SHUT_WR);
		from->first = !to->end->out.eof;
		return 1;
	case DUCT_DEAD:
		/* to takes no more, but its last bytes are still to be read:
		 * the session lasts for as long, or for --patience.  It ends
		 * well only where to is openssl or the command of --connect.
		 */
		if (!d->held || (errno != EPIPE && errno != ECONNRESET))
			return -1;
		if (!to->sshd && (to->end->net >= 0 || cfg.connect))
			d->eof = 1;
		else if (!to->end->out.eof &&
		    poll(&(struct pollfd){ to->io.fd, 0, 0 }, 1, 0) == 1) {
			d->eof = CUT;
			from->end->strikes = 0;
		} else
			return -1;
		return 1;
	}
	return 0;
}

/* Where the network begins, for keepalives and to look whether it is there. */
static int
net_of(const struct conn *c)
{
	return c->end->net >= 0 ? c->end->net : c->io.fd;
}

/* Asked once a TICK: why is the session's network gone?  NULL: it is not, as
 * far as data tells that waits for an acknowledgement. */
static const char *
net_lost(struct relay_end *h, int fd)
{
	static char why[80];

	/* nor may the last bytes of a side that broke take for ever */
	h->strikes = net_silent(fd) >= TICK || h->out.eof == CUT ?
	    h->strikes + 1 : 0;
	/* the first may be of a byte that was just sent */
	if ((h->strikes - 1) * TICK < cfg.patience * 1000)
		return NULL;
	snprintf(why, sizeof why, h->out.eof == CUT ? "it did not take the "
	    "last bytes in %ld s" : "the network is gone (no acknowledgement "
	    "for %ld s)", cfg.patience);
	return why;
}

static void
on_relay(struct conn *c)
{
	struct relay_end *h = c->end;
	struct conn *p = h->to, *bad = c;	/* whose network is at fault */
	const char *why = NULL;
	char text[120];
	int in = 0, out = 0, e;

	if (io_expired(&c->io)) {
		io_after(&c->io, TICK);
		/* nobody reads it any more, so nobody else would notice */
		if (h->out.eof && (e = net_error(c->io.fd)))
			why = strerror(e);
		else
			why = net_lost(h, net_of(c));
	}
	/* what is held could not be written */
	if (!why && (out = flow(c, p)) < 0) {
		why = strerror(errno);
		bad = h->out.held ? p : c;
	}
	if (!why && (in = flow(p, c)) < 0) {
		why = strerror(errno);
		bad = p->end->out.held ? c : p;
	}
	if (why || (in && out)) {
		snprintf(text, sizeof text, "%s: %s", bad->sshd ? "sshd" :
		    bad->agent ? "the node" : bad->node ? "the client" :
		    "the server's side", why ? why : "");
		drop(c, why ? text : NULL);
		return;
	}
	c->io.bulk = p->io.bulk = h->out.bulk || p->end->out.bulk;
}

/* server: nodes */

static struct node *table[CHAINS];	/* of nodes, by hash of the id */
static size_t nnodes;
static struct node *newest, *oldest;	/* offline, remembered */
static int nseen;
static struct io listeners[MAX_HOSTS];
static int nlisten;
static int metrics_from = MAX_HOSTS;	/* those from here on are for that */
static int64_t started;
static struct io housekeeping, drained;

/* Where the table points at the node of that id, or would. */
static struct node **
node_at(const char *id)
{
	struct node **p = &table[siphash(hash_key, id, strlen(id)) % CHAINS];

	while (*p && strcmp((*p)->id, id))
		p = &(*p)->chain;
	return p;
}

static struct node *
node_get(const char *id)
{
	struct node **p = node_at(id), *n = *p;
	size_t len = strlen(id) + 1;

	if (n || !(n = calloc(1, offsetof(struct node, id) + len)))
		return n;
	memcpy(n->id, id, len);
	nnodes++;
	return *p = n;
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

static void
node_free(struct node *n)
{
	unremember(n);
	noffline -= n->seen != 0;
	*node_at(n->id) = n->chain;
	nnodes--;
	key_point(&n->key, NULL);
	free(n);
}

/* Nobody points at the node: one that was here is remembered for a while. */
static void
remember(struct node *n)
{
	if (!n->seen) {
		node_free(n);
		return;
	}
	key_point(&n->key, NULL);
	n->u.off[1] = newest;
	*(newest ? &newest->u.off[0] : &oldest) = n;
	newest = n;
	if (++nseen > MAX_SEEN)
		node_free(oldest);
}

/* server: keys
 *
 * An entry lives for as long as it is in the file, and then until nothing
 * points at it.  A connection is bound to the entry that it proved: a proof
 * that is under way by end->proof->key, a client by end->key, an agent by its
 * node's while it is parked (all of one run have the same) and by end->key
 * from GO on.
 */

static struct key *keys[1 << 12];		/* by hash of the name */
static struct secret unknown;		/* stands for each that we have not */
static int keys_dir = -1;		/* where --keys is, */
static const char *keys_name;		/* under that name */

/* node is NULL where any will do. */
static int
key_allows(const struct key *k, enum role role, const char *node)
{
	return !k->gone && k->roles & role_rights[role] &&
	    (!node || glob_list(k->nodes, node, 0));
}

static struct key **
key_chain(const char *name)
{
	return &keys[siphash(hash_key, name, strlen(name)) % LEN(keys)];
}

/* The entry of that name that allows it, or else another one of that name, or
 * NULL. */
static struct key *
key_find(const char *name, enum role role, const char *node)
{
	struct key *k, *other = NULL;

	for (k = *key_chain(name); k; k = k->chain)
		if (!strcmp(k->secret.name, name)) {
			if (key_allows(k, role, node))
				return k;
			other = k;
		}
	return other;
}

/* The file that is being read has this entry.  One that is not new stays where
 * it is, since nodes, proofs and ends of sessions point at it.  NULL, or why it
 * cannot be. */
static const char *
key_read(const struct right *r)
{
	struct key **at = key_chain(r->secret.name), *k, *same = NULL;
	size_t len = strlen(r->nodes) + 1;

	for (k = *at; k; k = k->chain) {
		if (strcmp(k->secret.name, r->secret.name))
			continue;
		if (!mac_differs(k->secret.key, r->secret.key)) {
			if (k->roles == r->roles && !strcmp(k->nodes, r->nodes))
				same = k;
		} else if (k->read)
			return "this key has another secret in a line above";
	}
	if (!same) {
		if (!(same = calloc(1, sizeof *same + len)))
			return "no memory";
		same->secret = r->secret;
		same->roles = r->roles;
		same->gone = 1;
		memcpy(same->nodes, r->nodes, len);
		same->chain = *at;
		*at = same;
	}
	same->read = 1;
	return NULL;
}

/* What was read counts from now on, if all is good.  What is gone leaves: its
 * secrets now, its names (for the log) with the last pointer.  Returns how many
 * stay. */
static int
keys_settle(int good)
{
	struct key **at, *k;
	size_t i;
	int n = 0;

	for (i = 0; i < LEN(keys); i++)
		for (at = &keys[i]; (k = *at);) {
			if (good)
				k->gone = !k->read;
			k->read = 0;
			if (!k->gone) {
				at = &k->chain;
				n++;
				continue;
			}
			*at = k->chain;
			wipe(k->secret.key, sizeof k->secret.key);
			if (!k->refs)
				free(k);
		}
	return n;
}

static const char *
keys_line(char *line)
{
	struct right r;
	const char *bad;

	if (right_parse(line, &r, &bad) == 0)
		bad = r.roles ? key_read(&r) : NULL;
	wipe(&r, sizeof r);
	return bad;
}

/* Reads --keys.  NULL, or an error (static): the keys are as they were. */
static const char *
keys_load(void)
{
	static char why[PATH_MAX + 200];
	int n, bad;

	bad = file_lines(cfg.keys, keys_dir, keys_name, 1, keys_line, why,
	    sizeof why);
	n = keys_settle(!bad);
	if (bad)
		return why;
	say_log("%d keys read from %s", n, cfg.keys);
	return NULL;
}

/* server: refusals */

/* Counts and logs it. */
static void
note_refusal(const struct conn *c, enum code code, const char *why,
    const char *more)
{
	log_limited(N_REFUSAL, "refused %s: %.140s%s", peer_str(&c->peer), why,
	    more);
	metric[M_REFUSED + code]++;
	if (c->in == &evictable && c->phase < LINGER)
		metric[M_HELLO + code]++;
}

/* Says why, in the peer's own protocol, and closes.  A client is unlinked from
 * the agent that was called for it. */
static void
refuse(struct conn *c, enum code code, const char *fmt, ...)
{
	unsigned char ssh[512];
	char why[300];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof why, fmt, ap);
	va_end(ap);
	note_refusal(c, code, why, "");
	if (c->end && c->end->to)
		c->end->to = c->end->to->end->to = NULL;
	if (c->early && c->end && c->end->resume.words)
		send(c->io.fd, ssh, close_write(ssh, code, why), MSG_NOSIGNAL);
	else if (c->early) {
		if (c->ssh || (peek(c) >= 4 && !memcmp(peeked, "SSH-", 4)))
			send(c->io.fd, ssh, ssh_refusal(ssh, why),
			    MSG_NOSIGNAL);
	} else if (c->version == 1)
		line_send(c, "ERROR: %s", why);
	else
		line_send(c, "ERROR %s %s", code_names[code], why);
	linger(c);
}

static void
no_memory(struct conn *c)
{
	refuse(c, C_LIMIT, "the server is out of memory, try later");
}

/* server: accept
 *
 * An unauthenticated peer, and a refused one that is still reading, is in
 * evictable.  A new connection is refused only where too many of its own
 * address are there; otherwise the oldest is evicted, so that a flood cannot
 * keep others out.  The number of all others is bounded where they begin.
 */

/* May p say for whom it speaks (--trusted)? */
static int
is_front(const struct peer *p)
{
	return is_unix(p) ? cfg.trust_unix :
	    net_has(cfg.trusted, cfg.ntrusted, p->ip);
}

/* The counter of unauthenticated connections of p (IPv6: of its network), or
 * -1: too many there have not said who they are.  Two addresses may share one,
 * but nobody knows which: the hash is keyed.  One from a reverse proxy has no
 * address of its own yet. */
static int
source_of(const struct peer *p)
{
	int bucket = is_front(p) || is_unix(p) ? SOURCES :
	    siphash(hash_key, p->ip, is_ipv4(p) ? 16 : 8) % SOURCES;

	if (bucket == SOURCES || startups[bucket] < caps.source_startups)
		return bucket;
	metric[M_REFUSED + C_LIMIT]++;
	log_limited(N_REFUSAL, "refused %s: %d connections of its address have "
	    "not said who they are (2/3 of --startups)", peer_str(p),
	    startups[bucket]);
	return -1;
}

/* There is no room: the oldest that may be evicted is, or no connection is
 * accepted for a moment. */
static void
accept_pause(struct io *io)
{
	static int64_t said = INT64_MIN / 2;
	struct conn *c = evictable.head;

	if (c && (c->phase == AWAIT_CLIENT ||
	    reactor_now() - c->t.since >= 1000)) {
		drop(c, "evicted");
		io_again(io);
		return;
	}
	io_after(io, PAUSE);
	metric[M_PAUSES]++;
	if (reactor_now() - said < 1000)
		return;
	said = reactor_now();
	if (nconns >= cfg.connections)
		say_log("%d connections: not accepting for %d ms (raise "
		    "--connections)", nconns, PAUSE);
	else
		say_log("out of descriptors or memory: not accepting for %d ms "
		    "(raise LimitNOFILE or ulimit -n)", PAUSE);
}

/* Where too many are unauthenticated, or were refused and are still here, or
 * all connections are in use, the oldest is evicted.  It has had the
 * time of as many others to say a line or to read one; the honest need one
 * round trip for that, so a flood has to be quicker. */
static void
evict_oldest(void)
{
	struct conn *c;
	int many;

	while ((c = evictable.head) && ((many = evictable.n >= cfg.startups) ||
	    nconns >= cfg.connections)) {
		metric[M_REFUSED + C_LIMIT]++;
		log_limited(N_REFUSAL, many ? "refused %s: %d connections have "
		    "not said who they are (--startups)" : "refused %s: all %d "
		    "connections are in use (--connections)",
		    peer_str(&c->peer), many ? evictable.n : nconns);
		drop(c, "evicted");
	}
}

static void
on_listen(struct io *io)
{
	struct sockaddr_storage ss;
	struct peer p;
	struct conn *c;
	socklen_t len;
	int i, fd, bucket;

	if (io->heap >= 0)	/* see accept_pause() */
		return;
	io_expired(io);
	for (i = 0; i < MAX_ACCEPT; i++) {
		if (nconns >= cfg.connections && !evictable.n)
			break;
		len = sizeof ss;
		fd = net_accept(io->fd, (struct sockaddr *)&ss, &len);
		if (fd < 0 && errno == EAGAIN) {
			io->ready &= ~IO_R;
			return;
		}
		if (fd < 0 && (errno == EMFILE || errno == ENFILE ||
		    errno == ENOBUFS || errno == ENOMEM))
			break;
		if (fd < 0)
			continue;	/* that peer is gone */
		peer_set(&p, &ss);
		if ((bucket = source_of(&p)) < 0) {
			close(fd);
			continue;
		}
		evict_oldest();
		if (!(c = conn_new(fd, NULL)))
			break;
		c->io.sole = 1;
		c->peer = p;
		list_add(&evictable, c);
		startups[c->s.source = bucket]++;
		c->scrape = io >= listeners + metrics_from;
		enter(c, c->scrape ? HEAD : cfg.proxied ? FRONT : HELLO);
		if (cfg.proxied && !c->scrape && !is_front(&p))
			refuse(c, C_DENIED, "this server takes connections "
			    "from its reverse proxy only (--trusted)");
	}
	if (i < MAX_ACCEPT)
		accept_pause(io);
	else
		io_again(io);
}

/* server: PROXY headers and HTTP */

/* Not all of what c has to say first is here; has it left? */
static void
not_yet(struct conn *c, int left, const char *what, const char *of)
{
	if (io_expired(&c->io))
		refuse(c, C_TIMEOUT, "no %s%s within %d s", what, of,
		    phases[c->phase].ms / 1000);
	else if (left)
		drop(c, "gone");
}

/* A reverse proxy says whose connection c is.  0: c is gone. */
static int
set_client_addr(struct conn *c, const struct peer *p)
{
	int bucket;

	if (!has_addr(p))
		return 1;
	if ((bucket = source_of(p)) < 0) {
		drop(c, "too many unauthenticated connections of its address");
		return 0;
	}
	if (cfg.verbose)
		say_log("fd %d: %s is %s", c->io.fd, peer_str(&c->peer),
		    peer_str(p));
	startups[c->s.source]--;
	startups[c->s.source = bucket]++;
	c->peer = *p;
	return 1;
}

/* Goes on with the hello behind the bytes that were used so far. */
static void
resume_hello(struct conn *c, int used)
{
	if (consume(c, used) < 0) {
		drop(c, "gone");
		return;
	}
	c->io.ready |= IO_R;	/* what peek() saw behind it is still there */
	enter(c, HELLO);
	io_again(&c->io);
}

static void
on_front(struct conn *c)
{
	struct peer p;
	ssize_t n = peek(c);
	int r = n > 0 ? proxy_take((char *)peeked, n, &p) : 0;

	if (r > 0 && set_client_addr(c, &p))
		resume_hello(c, r);
	else if (r < 0)
		refuse(c, C_SYNTAX, "the connection does not begin with a "
		    "PROXY header (--proxy-protocol)");
	else if (r == 0)
		not_yet(c, n < 0 || c->io.ready & IO_H, "PROXY header", "");
}

static char page[12 << 10];
static int page_len;

#define page_add(...) (page_len += snprintf(page + page_len, \
    sizeof page - page_len, __VA_ARGS__))

/* One family, in OpenMetrics or in Prometheus' own format: there a counter's
 * suffix is part of the family's name. */
static void
page_family(const struct family *f, int open)
{
	const char *suffix = f->kind == 'c' ? "_total" :
	    f->kind == 'h' ? "_bucket" : "", *v = f->values;
	const char *more = f->kind == 'c' && !open ? suffix : "";
	unsigned long long n = 0, *m = metric + f->first;
	int len = 0;

	page_add("# HELP %s%s %s\n# TYPE %s%s %s\n", f->name, more, f->help,
	    f->name, more, f->kind == 'c' ? "counter" : f->kind == 'h' ?
	    "histogram" : "gauge");
	if (!v)
		page_add("%s%s %llu\n", f->name, suffix, *m);
	for (; v && (len = list_next(&v)); v += len) {
		n = *m++ + (f->kind == 'h' ? n : 0);
		page_add("%s%s{%s=\"%.*s\"} %llu\n", f->name, suffix, f->label,
		    len, v, n);
	}
	if (f->kind == 'h')
		page_add("%s_sum %llu.%06llu\n%s_count %llu\n", f->name,
		    *m / 1000000, *m % 1000000, f->name, n);
}

static void
page_write(int open)
{
	const struct family *f;

	page_len = 0;
	metric[M_BUSY] = nagents - metric[M_ONLINE];
	metric[M_OFFLINE] = noffline;
	metric[M_WAITING] = nwaiting;
	metric[M_SESSIONS] = live.n;
	metric[M_FDS] = first_fds + nconns + duct_fds;
	metric[M_RESIDENT] = sys_resident();
	page_add("HTTP/1.1 200 OK\r\nContent-Type: %s; charset=utf-8\r\n"
	    "Connection: close\r\n\r\n", open ? "application/openmetrics-text; "
	    "version=1.0.0" : "text/plain; version=0.0.4");
	for (f = families; f < families + LEN(families); f++)
		page_family(f, open);
	page_add("%s", open ? "# EOF\n" : "");
}

/* The head of an HTTP request: it ends in our protocol, or in an answer that
 * an HTTP client understands. */
static void
on_head(struct conn *c)
{
	struct request q = { .why = NULL };
	struct peer p = { .port = 0 };
	ssize_t n = peek(c);
	int r = request_take((char *)peeked, n > 0 ? n : 0,
	    io_expired(&c->io), &q);

	if (!q.status) {
		if (n < 0 || c->io.ready & IO_H)
			drop(c, "gone");
		return;
	}
	/* at --metrics there is no protocol of ours to switch to */
	if (c->scrape && (q.status == 426 || q.status == 101)) {
		q.status = q.metrics ? 200 : 404;
		q.why = "there are /metrics and /healthz";
	} else if (!c->scrape) {
		if (r > 0 && is_front(&c->peer))
			head_origin(q.fields, cfg.trusted, cfg.ntrusted, &p);
		if (!set_client_addr(c, &p))
			return;
		if (q.status != 200 && q.status != 101)
			note_refusal(c, C_SYNTAX, "HTTP: ", q.why);
	}
	if (q.status == 200 && q.metrics)
		page_write(q.open);
	else
		page_len = http_answer(&q, page, sizeof page);
	/* it is less than a new socket takes */
	n = send(c->io.fd, page, page_len, MSG_NOSIGNAL);
	if (q.status != 101)
		linger(c);
	else if (n < 0)
		drop(c, "gone");
	else {
		c->web = 1;
		resume_hello(c, r);
	}
}

/* server: hello and proof */

/* Not a line of the protocol: whose is it?  An HTTP request may lead to ours,
 * once. */
static void
no_hello(struct conn *c, const char *why)
{
	static const char text[] = "this is an mssh server, not an SSH "
	    "server: use mssh user@node --server HOST";
	/* an alert: protocol_version (RFC 8446 6) */
	unsigned char b[512] = "\x15\x03\x01\x00\x02\x02\x46";
	ssize_t n = peek(c);
	enum tongue t = sniff(peeked, n > 0 ? n : 0);

	if (t == T_HTTP && !c->web) {
		enter(c, HEAD);
		on_head(c);
	} else if (t == T_TLS || t == T_SSH) {
		note_refusal(c, C_SYNTAX, t == T_TLS ? "a TLS client" :
		    "an SSH client", "");
		send(c->io.fd, b, t == T_TLS ? 7 : ssh_refusal(b, text),
		    MSG_NOSIGNAL);
		linger(c);
	} else
		refuse(c, C_SYNTAX, "%s", why);
}

/* The node that h is about, or NULL: what it lists depends on the key. */
static const char *
node_of(const struct hello *h)
{
	return h->role == R_LIST ? NULL : h->node;
}

/* Proves that we know the peer's key, and asks for as much.  One that we do
 * not know is treated like any other, with a key that nobody has. */
static void
challenge(struct conn *c, const struct hello *h)
{
	unsigned char nonce[MAC_LEN], mac[MAC_LEN];
	char n64[B64_LEN + 1], m64[B64_LEN + 1];
	struct key *k = key_find(h->key, h->role, node_of(h));
	const struct secret *s = k ? &k->secret : &unknown;
	struct proof *p = c->end->proof;

	p->h = *h;
	key_point(&p->key, k);
	if (!k)				/* as long to hash as one we know */
		memcpy(unknown.name, h->key, sizeof h->key);
	sys_random(nonce, sizeof nonce);
	proof_mac(s, LABEL_SERVER, h->role, h->node, h->nonce, nonce, mac);
	proof_mac(s, LABEL_PEER, h->role, h->node, h->nonce, nonce, p->mac);
	b64_write(nonce, n64);
	b64_write(mac, m64);
	if (line_send(c, "CHALLENGE nonce=%s mac=%s", n64, m64) < 0)
		drop(c, "gone");
	else
		enter(c, PROOF);
}

/* The last eighth of all connections is for agents that are known, by their
 * key or from before: a full server still lets them back in.  Those that
 * may be evicted take up nothing. */
static int
is_full(void)
{
	return nconns - evictable.n >= cfg.connections - cfg.connections / 8;
}

static void
refuse_full(struct conn *c)
{
	refuse(c, C_LIMIT, "the server is full (--connections), try later");
}

static void
welcome(struct conn *c, const struct hello *h, struct key *k)
{
	int agent = h->role == R_AGENT, full = is_full();
	struct node *n = agent && full ? *node_at(h->node) : NULL;

	if (full && !(agent && (k || (n && (n->agents || n->seen)))))
		refuse_full(c);
	else if (h->role != R_LIST && !n && !(n = node_get(h->node)))
		no_memory(c);
	else {
		list_del(c);
		metric[M_HELLO]++;
		if (n) {
			unremember(n);
			c->node = n;
			n->refs++;
		}
		(agent ? agent_hello : client_hello)(c, h, k);
	}
}

static void
on_hello(struct conn *c)
{
	struct hello h;
	const char *why = "the first line is not an mssh hello";
	char line[LINE_LEN];
	int r = line_peek(c, line);

	if (r > 0) {
		if (hello_parse(line, &h, &why) < 0)
			r = -2;
		else
			c->early = c->ssh = h.early;
		c->version = h.version;
		c->late = h.late || h.version == 1;
		c->frames = h.frames;
	}
	if (r == -2)
		no_hello(c, why);
	else if (r <= 0 || consume(c, r) < 0)
		not_yet(c, r, "hello", "");
	else if (!cfg.keys)
		welcome(c, &h, NULL);
	else if (!*h.key)
		refuse(c, C_DENIED, "this server needs a key (see --key in "
		    "mssh(1))");
	else if (proof_get(c) < 0)
		no_memory(c);
	else
		challenge(c, &h);
}

/* Waits for PROOF.  All refusals are the same, whatever was wrong. */
static void
on_proof(struct conn *c)
{
	struct proof *p = c->end->proof;
	struct hello h = p->h;
	struct key *k = p->key;
	unsigned char mac[MAC_LEN];
	char line[LINE_LEN], w[B64_LEN + 1];
	int r = line_read(c, line), ok;

	if (r == -1)
		note_refusal(c, C_DENIED, "it left without a proof of the key ",
		    h.key);
	if (r == 0 || r == -1) {
		not_yet(c, r, "proof of the key ", h.key);
		return;
	}
	ok = r > 0 && word_is(line, "PROOF") &&
	    word_get(line, "mac", w, sizeof w) > 0 && b64_parse(w, mac) == 0 &&
	    !mac_differs(mac, p->mac) && k &&
	    key_allows(k, h.role, node_of(&h));
	end_free(c);
	if (ok)
		welcome(c, &h, k);
	else
		refuse(c, C_DENIED, "the key %s is not good for %s %s here",
		    h.key, role_names[h.role], h.node);
}

/* server: agents park
 *
 * A node begins with the first hello for it and belongs to the run (a process
 * of an agent) that parks there first.  It lasts for as long as connections
 * point at it (refs): agents, from parked to the end of their sessions
 * (agents), and clients.  Then it is remembered as offline, one of MAX_SEEN,
 * or freed if no agent was ever here.
 *
 *	hello --> PARKED --> GO_SENT --> RELAY	until the session ends
 *	hello --> error exists			another run holds the node
 *	PARKED --> PROBED --> PARKED		another run wants it: PING, and
 *						a line came
 *	PROBED --> closed			none came
 */

/* Does another run hold n?  Its connections are parked there; while they serve
 * sessions there may be none for a moment, until it has dialled.  Version 1 has
 * no runs, but parks one connection at a time. */
static int
is_held(const struct node *n, const struct conn *c)
{
	if (!n->agents ||
	    (!n->u.parked.n && reactor_now() - n->seen >= HOLD_MS))
		return 0;
	return c->version == 1 ? n->run || n->u.parked.n :
	    !c->u.run || c->u.run != n->run;
}

/* Another agent wants the node: the parked connections have to show that they
 * live, or are dropped, and the next try of the other one succeeds. */
static void
probe_parked(struct node *n)
{
	struct conn *a = n->u.parked.head;
	int i;

	for (i = n->u.parked.n; i > 0; i--, a = a->next) {
		if (a->phase == PROBED)
			continue;	/* its deadline stands */
		enter(a, PROBED);
		if (a->version == 1) {
			net_keepalive(a->io.fd, 1, 1, 3);
			io_after(&a->io, PROBE_V1);
		} else
			line_send(a, "PING");
	}
}

static void
park(struct conn *c, struct key *k, uint16_t v)
{
	struct node *n = c->node;
	struct conn *a;
	int i, known = n->agents && n->run == c->u.run;

	if (n->key)
		n->key->parked -= n->u.parked.n;
	if (k)
		k->parked += n->u.parked.n;
	key_point(&n->key, k);
	if (!known)
		n->since = (reactor_now() - started) / 1000;
	n->run = c->u.run;
	n->major = v >> 8;
	n->minor = v & 255;
	if (!n->agents++) {
		nagents++;
		noffline -= n->seen != 0;
	}
	c->agent = 1;
	for (a = n->u.parked.head, i = n->u.parked.n; i > 0; i--, a = a->next)
		if (c->u.run && a->u.run == c->u.run && a->slot == c->slot) {
			drop(a, "replaced by its own agent");
			break;
		}
	list_add(&n->u.parked, c);
	enter(c, PARKED);
	if (c->version == 1)	/* has no pings: TCP keepalive watches it */
		net_keepalive(c->io.fd, 30, 10, 3);
	io_again(&c->io);
	if (!known)
		log_limited(N_NODE, "%s registered from %s%s%s (%d parked)",
		    n->id, peer_str(&c->peer), k ? " key " : "",
		    k ? k->secret.name : "", n->u.parked.n);
	while (n->waiting.n && n->u.parked.n)
		pair(n->waiting.head);
}

static void
agent_hello(struct conn *c, const struct hello *h, struct key *k)
{
	struct node *n = c->node;
	const struct key *old = n->agents ? n->key : NULL;
	int others;

	c->u.run = h->run;
	c->slot = h->slot;
	/* n's own parked ones do not count: this may replace one */
	others = !k ? 0 : k->parked - (n->key == k ? n->u.parked.n : 0);
	if (k && others + h->slot >= caps.key_parked)
		refuse(c, C_LIMIT, "the key %s has %d connections parked (half "
		    "of --connections)", k->secret.name, others);
	/* one name is one secret; and a removed key holds nothing any more */
	else if (k && old && !old->gone &&
	    strcmp(k->secret.name, old->secret.name))
		refuse(c, C_EXISTS, "another key holds the node %s", n->id);
	else if (is_held(n, c)) {
		refuse(c, C_EXISTS, "another agent holds the node %s; if it "
		    "is gone, the next try succeeds", n->id);
		probe_parked(n);
	} else if (line_send(c, "OK") < 0)
		drop(c, "gone");
	else
		park(c, k, h->v);
}

static void
on_parked(struct conn *c)
{
	char line[LINE_LEN];
	int r;

	if (c->version == 1) {	/* what it sends belongs to the session */
		if (c->io.ready & IO_H) {
			if ((r = net_error(c->io.fd)))
				c->io.ready &= ~IO_H;	/* not its own end */
			drop(c, r ? strerror(r) : "closed");
		} else if (io_expired(&c->io)) {	/* TCP says it lives */
			enter(c, PARKED);
			net_keepalive(c->io.fd, 30, 10, 3);
		}
		return;
	}
	if ((r = line_read(c, line)) > 0) {
		askers_tell(c, line);
		enter(c, PARKED);
		/* one that is called at once is not worth two calls */
		if (io_lazy(&c->io, 1) < 0 || (word_is(line, "PING") &&
		    line_send(c, "PONG") < 0))
			r = -1;
	}
	if (r < 0)
		drop(c, r == -2 ? "not a line of the protocol" :
		    c->io.ready & IO_H ? "closed" : strerror(errno));
	else if (!r && io_expired(&c->io))
		drop(c, c->phase == PROBED ? "no answer to PING" :
		    "silent for 60 s");
}

/* server: clients are paired
 *
 *	hello --> AWAIT_CLIENT --> PAIRED	its first bytes came
 *	PAIRED --> RELAY			READY came
 *	hello --> WAITING --> AWAIT_CLIENT	nothing was parked
 *	PAIRED --> PAIRED or WAITING		it was called in vain
 *
 * One that says nothing gets no parked connection and costs sshd no process.
 * Each side of SSH begins by itself (RFC 4253 4.2); but some clients wait for
 * OK before they pass the first bytes on, those of version 1 among them.
 *
 * A client that is paired points at the agent's connection (end->to), and that
 * at the client; from its GO on the two are linked as in a session, but in the
 * phases GO_SENT and PAIRED.
 */

static void
client_hello(struct conn *c, const struct hello *h, struct key *k)
{
	if (k && k->clients >= caps.key_sessions)
		refuse(c, C_BUSY, "the key %s has %d sessions, or clients "
		    "that wait for one (1/16 of --connections), try later",
		    k->secret.name, k->clients);
	else if (end_get(c) < 0 ||
	    (*h->resume && !(c->end->resume.words = strdup(h->resume))))
		no_memory(c);
	else {
		key_point(&c->end->key, k);
		if (k)
			k->clients++;
		c->u.id = next_id++;
		c->end->u.came = reactor_us();
		c->t.until = reactor_now() + h->wait * 1000;
		if (h->role == R_CLIENT)
			pair(c);
		else
			ask_begin(c, h);
	}
}

/* Tells a client that it may begin, if it does not know yet.  0, -1. */
static int
client_ok(struct conn *c)
{
	if (c->early)
		return 0;
	c->early = 1;
	return c->version == 1 ? line_send(c, "OK") :
	    line_send(c, "OK id=%016llx%s", (unsigned long long)c->u.id,
	    c->end->resume.words ? " frames=1" : "");
}

/* Have first bytes of c come, n of them?  Until they do, one without a key may
 * be evicted.  0: no, and c may be gone. */
static int
has_begun(struct conn *c, ssize_t n)
{
	if (n > 0)
		return 1;
	if (n == -2 || (n == -1 && c->version == 2))
		drop(c, "the client gave up");
	else if (c->late && client_ok(c) < 0)
		drop(c, "gone");
	else {
		list_add(c->end->key ? &pending : &evictable, c);
		startups[c->s.source] += !c->end->key;
		enter(c, AWAIT_CLIENT);
		if (!c->early)
			io_after(&c->io, FIRST_BYTE);
	}
	return 0;
}

/* Does c learn that there is such a node?  Without keys all may connect to all
 * nodes, but what they are called is told on this machine only. */
static int
may_see(const struct conn *c, const char *node)
{
	const struct key *k = c->end->key;

	if (!k)
		return is_local(&c->peer) && !c->web && !cfg.proxied;
	k = key_find(k->secret.name, R_LIST, node);
	return k && key_allows(k, R_LIST, node);
}

/* Nodes whose names are one typing error away, of those that c may see: ";
 * similar: a, b", or "". */
static const char *
similar(const struct conn *c)
{
	static char b[4 * NODE_LEN];
	char name[NODE_LEN + 1];
	const struct node *n;
	unsigned i;
	static int64_t last;		/* thousands of names: once a turn */
	int len = 0, found = 0;

	*b = '\0';
	if (last == reactor_now() || (!c->end->key && !may_see(c, "")))
		return b;
	last = reactor_now();
	for (i = 0; found < 3 && name_variant(c->node->id, i, name); i++)
		if (*name && (n = *node_at(name)) && (n->agents || n->seen) &&
		    may_see(c, name))
			len += snprintf(b + len, sizeof b - len, "%s%s",
			    found++ ? ", " : "; similar: ", name);
	return b;
}

static void
offline(struct conn *c)
{
	struct node *n = c->node;
	char t[AGO_LEN];

	ago(reactor_now() - n->seen, t);
	if (n->agents)
		refuse(c, C_BUSY, "%s is busy or gone: it has %d sessions, and "
		    "has parked no connection for %s; try again", n->id,
		    n->agents, t);
	else if (n->seen && n->lost && reactor_now() - n->seen < 2 * LOST_MS)
		refuse(c, C_OFFLINE, "%s is offline: its agent has not "
		    "answered for %s", n->id, t);
	else if (n->seen)
		refuse(c, C_OFFLINE, "%s is offline (last seen %s ago)", n->id,
		    t);
	else
		refuse(c, C_OFFLINE, "%s is unknown here%s", n->id, similar(c));
}

/* c waits until a connection is parked: as long as it wants to, or since the
 * node was here so lately.  One that was called in vain keeps its place. */
static void
wait_parked(struct conn *c)
{
	struct node *n = c->node;
	int64_t now = reactor_now(), until = n->agents ? now + LOST_MS :
	    n->seen ? n->seen + (n->lost ? LOST_MS : LEFT_MS) : 0;
	int again = c->phase == PAIRED || c->phase == WAITING;

	if (until < started + START_MS)
		until = started + START_MS;
	if (until < c->t.until)
		until = c->t.until;
	if (until <= now)
		offline(c);
	/* a client that has left takes no place from the others */
	else if (c->io.ready & IO_H)
		drop(c, "the client gave up");
	else if (!again && n->waiting.n >= MAX_WAITING)
		refuse(c, C_BUSY, "%d clients wait for %s already, try later",
		    n->waiting.n, n->id);
	else if (!again && nwaiting >= caps.waiting)
		refuse(c, C_BUSY, "%d clients wait for nodes already, try "
		    "later", nwaiting);
	else {
		list_add(&n->waiting, c);
		if (again)
			n->waiting.head = c;
		enter(c, WAITING);
		io_after(&c->io, (int)(until - now));
	}
}

/* Finds a parked connection for c; a dead one costs it nothing. */
static void
pair(struct conn *c)
{
	struct node *n = c->node;
	struct conn *a;
	ssize_t got;
	int full = c->in == &evictable && is_full();

	list_del(c);
	if (halting || is_revoked(c)) {
		refuse(c, halting ? C_BUSY : C_DENIED, halting ? "the server "
		    "is stopping, try again" : "its key was removed");
		return;
	}
	if (full) {
		refuse_full(c);
		return;
	}
	if (n->agents - n->u.parked.n >= cfg.sessions) {
		refuse(c, C_BUSY, "%s is at its limit of %ld sessions "
		    "(--sessions), try later", n->id, cfg.sessions);
		return;
	}
	while (n->u.parked.n) {
		a = n->u.parked.head->prev;
		if (c->end->resume.words && !a->frames) {
			refuse(c, C_UNSUPPORTED, "the agent of %s does not "
			    "resume sessions", n->id);
			return;
		}
		got = peek(c);
		if (!has_begun(c, got))
			return;
		if (end_get(a) < 0) {
			no_memory(c);
			return;
		}
		if (go_send(a, c, got) == 0)
			return;
		drop(a, "closed before GO");
	}
	wait_parked(c);
}

static void
on_waiting(struct conn *c)
{
	if (c->io.ready & IO_H)
		drop(c, "the client gave up");
	else if (io_expired(&c->io))
		offline(c);
}

/* AWAIT_CLIENT: its first bytes come; PAIRED: its agent is the one to talk. */
static void
on_pending(struct conn *c)
{
	int mute = c->phase == AWAIT_CLIENT;
	ssize_t n = mute || c->io.ready & IO_H ? peek(c) : 0;

	if (mute && n > 0)
		pair(c);
	else if (n < 0)
		drop(c, "the client gave up");
	else if (io_expired(&c->io) && !mute)
		drop(c, "its agent did not answer");
	else if (c->io.heap < 0 && !c->early) {
		io_after(&c->io, phases[AWAIT_CLIENT].ms);
		if (client_ok(c) < 0)
			drop(c, "gone");
	} else if (c->io.heap < 0)
		refuse(c, C_TIMEOUT, "the client sent nothing for %d s; an SSH "
		    "client speaks first", phases[AWAIT_CLIENT].ms / 1000);
}

/* server: call and session
 *
 * GO and the client's first bytes go out in one write, so that sshd has them
 * without another round trip; they are only peeked at until READY, since a call
 * that comes to nothing is made again to another connection.
 */

/* Both sides are ready: from here they are on their own. */
static void
begin(struct conn *c, struct conn *a)
{
	if (client_ok(c) < 0 ||
	    (c->s.copied && consume(c, c->s.copied) < 0)) {
		drop(c, "gone");
		return;
	}
	if (!c->s.copied)		/* what peek() saw is still there */
		c->io.ready |= IO_R;
	c->end->out.total = c->s.copied;
	metric[M_UP] += c->s.copied;
	c->t.since = reactor_now();
	observe(M_PAIRING, reactor_us() - c->end->u.came);
	if (a->version == 1)
		net_keepalive(a->io.fd, 30, 10, net_probes);
	list_add(&live, c);
	enter(c, RELAY);
	enter(a, RELAY);
	on_relay(c);
}

/* Tells a parked agent that a client is here, n of whose first bytes were
 * peeked at.  -1: it is gone already. */
static int
go_send(struct conn *a, struct conn *c, ssize_t n)
{
	char b[LINE_LEN + COPY_LEN];
	int len;

	list_del(a);
	c->s.copied = 0;
	if (io_lazy(&a->io, 0) < 0)
		return -1;
	if (a->version == 2) {
		len = snprintf(b, LINE_LEN, "GO from=%s id=%016llx%s%s%s\n",
		    peer_str(&c->peer), (unsigned long long)c->u.id,
		    c->end->key ? " key=" : "",
		    c->end->key ? c->end->key->secret.name : "",
		    c->end->resume.words ? c->end->resume.words : "");
		c->s.copied = n;
		memcpy(b + len, peeked, c->s.copied);
		len += c->s.copied;
		if (send(a->io.fd, b, len, MSG_NOSIGNAL) != len)
			return -1;
	} else if (a->io.ready & IO_H)
		return -1;
	a->end->to = c;
	c->end->to = a;
	key_point(&a->end->key, c->node->key);	/* the node's may change */
	a->t.since = reactor_now();
	list_add(&pending, c);
	enter(a, GO_SENT);
	enter(c, PAIRED);
	if (a->version == 1)
		begin(c, a);
	return 0;
}

static void
on_go_sent(struct conn *a)
{
	struct conn *c = a->end->to;
	const char *text;
	char line[LINE_LEN];
	int r = line_read(a, line), code = r > 0 ? reply_parse(line, &text) : 0;

	if (code < 0)			/* a ping's answer has crossed GO */
		askers_tell(a, line);
	if (r > 0 && code == C_OK)
		begin(c, a);
	else if (code > 0) {
		refuse(c, code, "%s: %s", c->node->id, text);
		linger(a);
	} else if (r < 0)
		drop(a, "gone when it was called");
	else if (!io_expired(&a->io))
		;			/* perhaps a ping that crossed GO */
	else if (net_silent(a->io.fd) >= CALL_ACK / 2)
		drop(a, "did not acknowledge GO");
	else if (reactor_now() - a->t.since < CALL_MAX)
		io_after(&a->io, CALL_ACK);
	else {
		if (!c->node->u.parked.n)
			refuse(c, C_TIMEOUT, "%s did not answer in %d s",
			    c->node->id, CALL_MAX / 1000);
		drop(a, "no answer to GO");
	}
}

/* server: list and ping
 *
 * In LISTING a peer gets a line NODE for each node, as the socket takes them,
 * then END.  In PINGING it says PING and gets PONG at once, AGENT when the
 * node has said PONG, and what that says of its sshd.  A parked connection that
 * is pinged stays parked and does not know for whom: what it says goes to all
 * who ask about its node.
 */

static int
row_write(char *b, size_t size, const struct node *n)
{
	const struct conn *a = n->refs ? n->u.parked.head : NULL;
	int idle = a ? n->u.parked.n : 0, busy = (int)n->agents - idle;
	int64_t now = reactor_now();
	char v[20] = "";

	if (n->major | n->minor)
		snprintf(v, sizeof v, " version=%u.%u", (unsigned)n->major,
		    (unsigned)n->minor);
	return snprintf(b, size, "NODE %s state=%s since=%lld parked=%d "
	    "sessions=%d waiting=%d%s%s%s\n", n->id, a ? "online" :
	    n->agents ? "busy" : "offline", (long long)(n->agents ?
	    (now - started) / 1000 - n->since : (now - n->seen) / 1000), idle,
	    busy, n->waiting.n, v, a ? " address=" : "",
	    a ? peer_str(&a->prev->peer) : "");
}

/* Writes the next rows, for LIST_US at most.  A node that comes or goes during
 * the list may be missed. */
static void
rows_fill(struct conn *c, struct listing *l)
{
	int64_t until = reactor_us() + LIST_US;
	const struct node *n;
	unsigned i;

	l->off = l->len = 0;
	for (; l->chain < CHAINS; l->chain++, l->row = 0) {
		if (reactor_us() > until)
			return;
		for (n = table[l->chain], i = 0; n; n = n->chain, i++) {
			if (i < l->row || !(n->agents || n->seen) ||
			    !glob_list(l->patterns, n->id, 0) ||
			    !may_see(c, n->id))
				continue;
			if (l->len + LINE_LEN > sizeof l->b) {
				l->row = i;
				return;
			}
			l->len += row_write(l->b + l->len, LINE_LEN, n);
			l->count++;
		}
	}
	if (l->chain++ == CHAINS)
		l->len += snprintf(l->b + l->len, sizeof l->b - l->len,
		    "END %u\n", l->count);
}

static void
on_listing(struct conn *c)
{
	struct listing *l = (void *)c->end->out.stash;
	ssize_t n;

	if (l->off == l->len && is_revoked(c)) {
		refuse(c, C_DENIED, "its key was removed");
		return;
	}
	if (l->off == l->len)
		rows_fill(c, l);
	if (!l->len && l->chain > CHAINS) {
		linger(c);
		return;
	}
	n = send(c->io.fd, l->b + l->off, l->len - l->off, MSG_NOSIGNAL);
	if (n >= 0) {
		l->off += n;
		enter(c, LISTING);
		c->io.bulk = 1;
		io_again(&c->io);
	} else if (errno != EAGAIN || io_expired(&c->io))
		drop(c, "it did not read the list");
}

/* Begins what is not a session. */
static void
ask_begin(struct conn *c, const struct hello *h)
{
	struct listing *l = NULL;
	struct conn *o = askers.head, *idle = NULL;
	int i, same = 0;

	for (i = askers.n; i > 0; i--, o = o->next) {
		same += c->end->key ? o->end->key == c->end->key :
		    !memcmp(o->peer.ip, c->peer.ip, is_ipv4(&c->peer) ? 16 : 8);
		if (!idle && o->phase == PINGING && !o->u.asked)
			idle = o;
	}
	if (askers.n >= MAX_ASKERS && same < MAX_ASKERS / 4 && idle)
		drop(idle, "evicted");
	if (askers.n >= MAX_ASKERS || same >= MAX_ASKERS / 4)
		refuse(c, C_BUSY, "%d peers list or ping already, %d by the "
		    "same key or from the same address; try later", askers.n,
		    same);
	else if (h->role == R_LIST && !c->end->key && !may_see(c, ""))
		refuse(c, C_DENIED, "only a peer on the server's own machine "
		    "may list its nodes, as the server has no --keys");
	else if (h->role == R_LIST && !(l = calloc(1, sizeof *l)))
		no_memory(c);
	else if (h->role == R_PING && !c->node->u.parked.n)
		offline(c);		/* before OK: the client may have other
					 * servers to ask */
	else {
		list_add(&askers, c);
		c->t.since = 0;
		if (h->role == R_LIST) {
			memcpy(l->patterns, h->node, sizeof l->patterns);
			c->end->out.stash = (void *)l;
		}
		c->u.asked = c->s.looks = 0;
		enter(c, h->role == R_LIST ? LISTING : PINGING);
		io_again(&c->io);
		if (line_send(c, "OK") < 0)
			drop(c, "gone");
	}
}

/* Pings c's node for it, by its newest parked connection. */
static void
ping_node(struct conn *c, int sshd)
{
	struct node *n = c->node;
	struct conn *a = n->u.parked.n ? n->u.parked.head->prev : NULL;

	if (!a)
		offline(c);
	else if (a->version == 1)
		refuse(c, C_SYNTAX, "%s cannot be pinged: its agent speaks "
		    "version 1 of the protocol", n->id);
	else if (sshd && !(n->major | n->minor))
		refuse(c, C_SYNTAX, "%s cannot look at its sshd: its agent is "
		    "too old (see --no-sshd)", n->id);
	else {
		if (a->phase != PROBED) {
			enter(a, PROBED);	/* who asks gives up first */
			io_after(&a->io, ANSWER_MAX + TICK);
		}
		c->u.asked = reactor_us();
		c->t.since = reactor_now();
		c->s.looks |= sshd;
		errno = 0;		/* as if half a line was sent; a full
					 * buffer is judged by PROBED */
		if (io_lazy(&a->io, 0) < 0 || (line_send(a, sshd ?
		    "PING sshd=1" : "PING") < 0 && errno != EAGAIN))
			drop(a, "gone");
	}
}

/* A parked connection says what some may have asked for: each of those gets its
 * AGENT and SSHD once. */
static void
askers_tell(const struct conn *a, const char *line)
{
	struct conn *c = askers.head;
	int i, pong = word_is(line, "PONG") != NULL;
	int sshd = word_is(line, "SSHD") != NULL;

	for (i = askers.n; i > 0; i--, c = c->next)
		if (c->node != a->node || c->phase != PINGING)
			;
		else if (pong && c->u.asked > 0) {
			line_send(c, "AGENT us=%llu", (unsigned long long)
			    reactor_us() - (unsigned long long)c->u.asked);
			c->u.asked = 0;
		} else if (sshd && c->s.looks) {
			line_send(c, "%s", line);
			c->s.looks = 0;
		}
}

/* A parked connection of n has gone, perhaps without an answer: who waits for
 * one pings another, or hears that there is none, in the next turn. */
static void
askers_retry(const struct node *n)
{
	struct conn *c = askers.head;
	int i;

	for (i = askers.n; i > 0; i--, c = c->next)
		if (c->node == n && c->u.asked) {
			c->u.asked = RETRY;
			io_again(&c->io);
		}
}

static void
on_pinging(struct conn *c)
{
	char line[LINE_LEN], w[2];
	int r = line_read(c, line);

	if (r < 0 || io_expired(&c->io))
		drop(c, "it asks no more");
	else if (is_revoked(c))
		refuse(c, C_DENIED, "its key was removed");
	else if (r == 0 && c->u.asked == RETRY)
		ping_node(c, c->s.looks);
	else if (r > 0 && word_is(line, "PING")) {
		enter(c, PINGING);
		if (c->u.asked || reactor_now() - c->t.since < PING_MIN)
			refuse(c, C_LIMIT, "the next ping may follow the "
			    "answer, and %d ms after the last", PING_MIN);
		else if (line_send(c, "PONG") < 0)
			drop(c, "gone");
		else
			ping_node(c, word_get(line, "sshd", w, sizeof w) > 0);
	}
}

/* ending connections */

/* c is gone, and counts no more.  Clients wait longer for a node that was lost
 * than for one that closed its connection. */
static void
conn_release(struct conn *c, const char *why)
{
	struct node *n = c->node;

	if (!c->agent && c->end && c->end->key)
		c->end->key->clients--;
	if (c->agent && !--n->agents) {
		nagents--;
		noffline++;
		n->seen = reactor_now();
		n->lost = !(c->io.ready & IO_H);
		if (!halting)
			log_limited(N_NODE, "%s is offline (last connection, "
			    "from %s: %s)", n->id, peer_str(&c->peer),
			    why ? why : "closed");
	}
	nconns--;
	list_del(c);
	if (is_parked(c->phase))
		askers_retry(n);
	count(c, c->phase, BIRTH);
	end_free(c);
	io_close(&c->io);
	free(c);
	if (n && --n->refs == 0)
		remember(n);
}

/* Ends a connection in any phase, and what depends on it.  Of a session why is
 * NULL where both sides said their last byte.  The order matters:
 *
 * 1. The two of a pair are parted, so that neither ends the other again.
 * 2. c is freed; with the last reference its node is freed or remembered.
 * 3. An agent that was called is counted out before its client looks for
 *    another connection: how long it waits depends on who is left.
 * 4. The one that was called for a client goes too: what it was told cannot be
 *    taken back.  It may have sent its first bytes, so it gets a reset. */
static void
drop(struct conn *c, const char *why)
{
	struct conn *p = c->end ? c->end->to : NULL;
	int phase = c->phase;

	if (cfg.verbose)
		say_log("fd %d: %s, dropped: %s", c->io.fd,
		    phases[phase].name, why ? why : "done");
	if (p && phase == RELAY) {
		session_log(c, why);
		if (why) {	/* it must not look like an end of file */
			net_cut(net_of(c));
			net_cut(net_of(p));
		}
	}
	if (p)
		c->end->to = p->end->to = NULL;
	conn_release(c, why);
	if (p && phase == GO_SENT)
		pair(p);
	else if (p) {
		if (p->phase == GO_SENT)
			net_reset(p->io.fd);
		drop(p, why);
	} else if (phase == RELAY)
		halt_if_done();
}

/* server: reload and stop */

static void
drop_all(struct list *l, const char *why)
{
	while (l->n)
		drop(l->head, why);
}

static uint32_t stop_spread;		/* ms; set when the stop begins */

/* Ends those of l whose key is gone, and whom an agent serves whose key is; or
 * all of l, if the server stops.  pair() refuses a client and says why (it may
 * try again, elsewhere or later), or finds another agent.  A parked agent is
 * told when to come back: all of them at STOP_RATE a second, so that the next
 * start of the server, or its neighbour, is not overrun.
 * Returns how many there were. */
static int
sweep(struct list *l)
{
	const char *why = halting ? "the server stops" : "its key was removed";
	struct conn *c = l->head, *a, *next;
	int i, n = 0;
	uint32_t r;

	for (i = l->n; i > 0; i--, c = next) {
		next = c->next;
		a = c->agent ? c : c->end ? c->end->to : NULL;
		if (!halting && !is_revoked(c) && !(a && is_revoked(a)))
			continue;
		n++;
		if (a && halting && is_parked(a->phase) && a->version == 2) {
			sys_random(&r, sizeof r);
			line_send(a, "STOP in=%d", STOP_MS +
			    (int)(r % stop_spread));
		}
		if (a)
			drop(a, why);
		else
			pair(c);
	}
	return n;
}

/* The same for all clients that have no session, and all parked agents.  A node
 * may go with the last of them, and another one that was remembered. */
static void
sweep_all(void)
{
	struct node *n;
	size_t b;

	for (b = 0; b < CHAINS; b++)
		for (n = table[b]; n;)
			n = n->refs && (sweep(&n->u.parked) ||
			    sweep(&n->waiting)) ? table[b] : n->chain;
	sweep(&pending);
}

/* SIGHUP: the keys anew.  Sessions go on, unless --strict-reload. */
static void
on_reload(void)
{
	const char *why = keys_load();

	if (why)
		say_log("the keys stay as they were: %s", why);
	else
		sweep_all();
	if (cfg.strict)
		sweep(&live);
}

static void
finish(struct io *io)
{
	(void)io;
	drop_all(&live, "the server stopped");
	reactor_halt();
}

static void
on_term(void)
{
	if (halting) {
		finish(NULL);
		return;
	}
	halting = 1;
	stop_spread = STOP_MS + nconns * 1000LL / STOP_RATE;
	if (stop_spread > STOP_MAX - STOP_MS)
		stop_spread = STOP_MAX - STOP_MS;
	sys_notify("STOPPING=1");
	say_log("stopping: %d sessions may continue for %ld s", live.n,
	    cfg.drain);
	while (nlisten)
		io_close(&listeners[--nlisten]);
	drop_all(&evictable, "the server stops");
	drop_all(&askers, "the server stops");
	sweep_all();
	if (!cfg.drain)
		drop_all(&live, "the server stopped");
	io_after(&drained, cfg.drain ? (int)cfg.drain * 1000 :
	    phases[LINGER].ms);
	halt_if_done();
}

/* server: start */

/* fd is listening, or could not listen, on what is called name. */
static void
listen_fd(int fd, const char *name)
{
	struct sockaddr_storage ss;
	struct peer p;
	socklen_t n = sizeof ss;

	if (fd < 0 && errno == ENAMETOOLONG)
		die(X_USAGE, "--listen: the path of a Unix socket has at most "
		    "%d characters",
		    (int)sizeof ((struct sockaddr_un *)0)->sun_path - 1);
	if (fd < 0)
		die(X_FAIL, "cannot listen on %s:", name);
	if (nlisten == MAX_HOSTS)
		die(X_USAGE, "more than %d addresses to listen on", MAX_HOSTS);
	if (getsockname(fd, (struct sockaddr *)&ss, &n) < 0)
		die(X_FAIL, "cannot read the address of a socket:");
	peer_set(&p, &ss);
	if (p.port)
		cfg.port = p.port;	/* the kernel's choice holds for all */
	if (io_add(&listeners[nlisten++], fd, on_listen) < 0)
		die(X_FAIL, "cannot watch a socket:");
	say_log("%s %s", nlisten > metrics_from ? "metrics at" :
	    "listening on", name && is_unix(&p) ? name : peer_str(&p));
}

static void
listen_host(const char *host, int v6only)
{
	struct sockaddr_storage to[MAX_HOSTS];
	struct peer p;
	const char *why = "";
	char bare[64];
	size_t len = strlen(host);
	int i, n;

	if (len > 2 && len < sizeof bare && *host == '[' &&
	    host[len - 1] == ']') {
		snprintf(bare, sizeof bare, "%.*s", (int)len - 2, host + 1);
		host = bare;
	}
	if (!(n = net_lookup(host, NULL, AF_UNSPEC, 0, to, MAX_HOSTS, &why)))
		die(X_USAGE, "--host %s: %s", host, why);
	for (i = 0; i < n; i++) {
		/* where the port was 0: the one that the first socket got */
		((struct sockaddr_in *)&to[i])->sin_port = htons(cfg.port);
		peer_set(&p, &to[i]);
		listen_fd(net_listen(&to[i], v6only), peer_str(&p));
	}
}

static void
listen_metrics(void)
{
	char host[HOST_LEN + 1], port[33];

	metrics_from = nlisten;
	if (begins(cfg.metrics, "unix:"))
		listen_fd(net_listen_unix(cfg.metrics + 5), cfg.metrics);
	else if (host_split(cfg.metrics, strlen(cfg.metrics), host, port, -1) <
	    0 || num_parse(port, 0, 65535, &cfg.port) < 0)
		die(X_USAGE, "--metrics needs ADDR:PORT or unix:PATH");
	else
		listen_host(host, 1);
	sys_resident();
	metric[M_START] = time(NULL);
	metric[M_BUILD] = 1;
	reactor_turn = on_turn;
}

static long
at_least(long v, long min)
{
	return v > min ? v : min;
}

/* n descriptors may be open.  What no option has set follows from that, and
 * the rules from the options: one address or one key never gets all that there
 * is.  The least values let a small server work. */
static void
limits(long n)
{
	if (!cfg.startups)
		cfg.startups = at_least(n / 2, 3);
	if (!cfg.connections)
		cfg.connections = at_least(n > 2 * FILES ? n - FILES : n, 1);
	if (!cfg.sessions)
		cfg.sessions = at_least(cfg.connections / 8, 16);
	caps.source_startups = at_least(cfg.startups * 2 / 3, 1);
	caps.key_parked = at_least(cfg.connections / 2, 16);
	caps.key_sessions = at_least(cfg.connections / 16, 16);
	caps.waiting = n / 4;
}

/* Root's rights end here. */
static void
drop_privileges(void)
{
	if (cfg.user && geteuid() != 0)
		die(X_USAGE, "--user: only root can become another user");
	if (cfg.user && proc_user(cfg.user) < 0)
		die(errno ? X_FAIL : X_USAGE, errno ? "cannot become %s:" :
		    "--user: there is no user %s", cfg.user);
	proc_hide(1);
}

/* And here all the others that are not needed any more.  Returns a descriptor
 * of dir, or -1. */
static int
confine(int with_dialler, const char *dir)
{
	const char *what = NULL;
	int fd = cfg.exec ? -1 : proc_confine(with_dialler, dir, &what);

	if (fd < 0 && dir)
		die(X_USAGE, "%s:", dir);
	if (what)
		say_log("confined by %s", what);
	else
		say_log("not confined%s", cfg.exec ?
		    ", as what --exec runs would be" :
		    ": this system or build has nothing for it");
	if (cfg.try)
		die(proc_try(cfg.try, fd) < 0 ? 0 : X_FAIL, "%s:", cfg.try);
	return fd;
}

/* systemd's watchdog, and a status line for systemctl */
static void
on_housekeeping(struct io *io)
{
	io_expired(io);
	log_left_out();
	if (!halting)
		status();
	io_after(io, sys_watchdog());
}

static void
server_status(void)
{
	sys_notify("STATUS=%d sessions, %zu nodes known, %d of them offline",
	    live.n, nnodes, nseen);
}

static void
daemon_start(void (*on_stop)(void))
{
	is_daemon = 1;
	sys_notify_open();
	limits(metric[M_MAX_FDS] = proc_raise());
	if (io_add(&housekeeping, -1, on_housekeeping) < 0 ||
	    io_add(&drained, -1, finish) < 0)
		die(X_FAIL, "no memory:");
	reactor_signal(SIGTERM, on_stop);
	reactor_signal(SIGINT, on_stop);
	signal(SIGHUP, SIG_IGN);	/* until somebody here has a use */
}

static int
run_server(void)
{
	char dir[PATH_MAX];
	const char *why, *slash = cfg.keys ? strrchr(cfg.keys, '/') : NULL;
	int i, bad, v6only = 0, n = net_inherited(&bad);

	status = server_status;
	daemon_start(on_term);
	started = reactor_now();
	if (cfg.proxied && !cfg.ntrusted && !cfg.trust_unix)
		die(X_USAGE, "--proxy-protocol needs --trusted: the reverse "
		    "proxy's address");
	if (n < 0)
		die(X_USAGE, "LISTEN_FDS: descriptor %d is not a listening "
		    "socket (ListenStream=, Accept=no)", bad);
	if (cfg.nlisten == cfg.npaths && (!cfg.npaths || cfg.port >= 0))
		cfg.listen[cfg.nlisten++] = "0.0.0.0";
	if (cfg.port < 0)
		cfg.port = PORT;
	for (i = 0; i < n; i++)
		listen_fd(3 + i, NULL);
	for (i = 0; !n && i < cfg.nlisten; i++)
		v6only |= !strchr(cfg.listen[i], ':');
	for (i = 0; !n && i < cfg.nlisten; i++)
		if (begins(cfg.listen[i], "unix:"))
			listen_fd(net_listen_unix(cfg.listen[i] + 5),
			    cfg.listen[i]);
		else
			listen_host(cfg.listen[i], v6only);
	if (cfg.metrics)
		listen_metrics();
	keys_name = slash ? slash + 1 : cfg.keys;
	snprintf(dir, sizeof dir, "%.*s", slash && slash != cfg.keys ?
	    (int)(slash - cfg.keys) : 1, slash ? cfg.keys : ".");
	drop_privileges();
	keys_dir = confine(0, cfg.keys ? dir : NULL);
	if (cfg.keys) {
		sys_random(unknown.key, sizeof unknown.key);
		if ((why = keys_load()))
			die(X_USAGE, "%s", why);
		reactor_signal(SIGHUP, on_reload);
	} else
		say_log("no keys: any peer may register and reach any "
		    "node (see --keys in mssh(1))");
	for (i = 0; i < FILES; i++)
		first_fds += fcntl(i, F_GETFL) >= 0;
	sys_notify("READY=1");
	on_housekeeping(&housekeeping);
	if (reactor_run() < 0)
		die(X_FAIL, "the event loop failed:");
	say_log("stopped");
	return 0;
}

static void
plain(char *s)
{
	for (; *s; s++)
		if (*s < ' ' || *s > '~')
			*s = '?';
}

/* resumption
 *
 * Theory.  A session that can be resumed is two streams between mssh proxy and
 * a keeper on the node, a process of its own that has the connection to sshd,
 * in frames over what the server relays.  Each end keeps what the other has not
 * acknowledged.  When the connection is lost, the proxy dials anew and names
 * the session's token; the agent passes the new connection to the keeper; the
 * first frame in each direction says from where on to send again.  An end of
 * file may be that of a server or a proxy: only F_END in both directions, or
 * F_CLOSE, ends the session.  Both ends run resumable_run().
 *
 *	detached --> attached --> detached ...	resumable_attach(), _detach()
 *	attached --> over			F_END both ways and acknowledged
 *	attached, detached --> over		F_CLOSE; resumable_end()
 */

/* Bytes that are kept until they are acknowledged.  Positions count from the
 * beginning of the stream: acked <= sent <= tail.  Byte n is in
 * chunk[n / CHUNK % RING].  A chunk is allocated when its first byte comes
 * and freed with its last acknowledgement, or when nothing is left to be
 * acknowledged, so an idle session holds none. */
struct backlog {
	unsigned char *chunk[RING];
	uint64_t acked, sent, tail;
};

static struct {
	volatile uint32_t *held;	/* of each session 1 + its chunks, or 0:
					 * free; a keeper writes its own, all
					 * read it */
	int n, mine;
	uint32_t max;
} memory = { &(uint32_t){ 1 }, 1, 0, RING };

static int
memory_full(void)
{
	uint32_t sum = 0;
	int i;

	for (i = 0; i < memory.n; i++)
		sum += memory.held[i] ? memory.held[i] - 1 : 0;
	return sum >= memory.max;
}

static void
chunk_free(struct backlog *l, uint64_t at)
{
	unsigned char **c = &l->chunk[at / CHUNK % RING];

	if (*c)
		memory.held[memory.mine]--;
	free(*c);
	*c = NULL;
}

/* Is the memory of all used up?  Each may have one chunk nevertheless. */
static int
backlog_starves(const struct backlog *l)
{
	return l->tail != l->acked && !l->chunk[l->tail / CHUNK % RING] &&
	    memory_full();
}

static int
backlog_full(const struct backlog *l, int most)
{
	return l->tail / CHUNK - l->acked / CHUNK >= (unsigned)most ||
	    backlog_starves(l);
}

/* Where the next bytes of the stream go: how many are *at; 0: no memory.  It is
 * not full. */
static size_t
backlog_room(struct backlog *l, unsigned char **at)
{
	unsigned char **c = &l->chunk[l->tail / CHUNK % RING];

	if (!*c) {
		if (!(*c = malloc(CHUNK)))
			return 0;
		memory.held[memory.mine]++;
	}
	*at = *c + l->tail % CHUNK;
	return CHUNK - l->tail % CHUNK;
}

/* The next bytes to be sent: how many are *at. */
static size_t
backlog_next(const struct backlog *l, unsigned char **at)
{
	uint64_t n = l->tail - l->sent, piece = CHUNK - l->sent % CHUNK;

	*at = l->chunk[l->sent / CHUNK % RING] + l->sent % CHUNK;
	return n < piece ? n : piece;
}

/* The other end has all up to that position, which is from acked to sent. */
static void
backlog_ack(struct backlog *l, uint64_t to)
{
	while (l->acked / CHUNK < to / CHUNK) {
		chunk_free(l, l->acked);
		l->acked += CHUNK - l->acked % CHUNK;
	}
	if ((l->acked = to) == l->tail)
		chunk_free(l, to);
}

enum event { E_LOST, E_BACK, E_FULL };	/* E_FULL: memory is used up */

struct resumable {
	int in, out;		/* of ssh or sshd; out -1: takes no more */
	int fd;			/* the connection, or -1: detached */
	int net;		/* the network's own socket, which may be fd */
	int also;		/* may be readable as well, or -1 */
	struct backlog log;	/* what came from in */
	int in_end, end_sent, end_acked;	/* F_END behind the backlog */
	int synced;		/* it is known from where on to send */
	uint64_t received, told;	/* of the other's stream: given to out,
				 * and that in the last frame */
	int out_end;		/* F_END came; it is counted in received */

	unsigned char b[CHUNK];	/* what came from fd: from off to have */
	size_t have, off;
	uint32_t left;		/* of the payload that is being received */
	int blocked;		/* out takes no more for now */

	unsigned char head[FRAME_HEAD], *data;	/* the frame that is sent */
	size_t size, gone;	/* 0: none; of it */
	uint32_t len;

	/* ms: since when it is detached, or 0; when something must have come;
	 * when F_PING, and an acknowledgement, are sent.  INT64_MAX: never */
	int64_t lost_at, due, ping_at, ack_at;
	int64_t since;			/* it is attached */
	int64_t moved_at;		/* in said something, out has ended, or
					 * it was attached */
	int ping_ms, keep_ms;		/* keep_ms: it is kept while detached */
	int starved;
	int64_t full_at;		/* E_FULL may come again */
	void (*on_also)(struct resumable *);
	void (*on_event)(struct resumable *, enum event, const char *why);

	int attached;			/* keeper: once at least; client: 0 */
	int over, tell;		/* tell: by F_CLOSE */
	int ssh_gone;		/* client: that is why */
	int heard;		/* a frame */
	int in_error;		/* errno: in broke; the rest is sent still */
	enum code code;		/* why it is over; C_OK: both have ended */
	char why[FRAME_TEXT];
};

static void
resumable_init(struct resumable *r, int in, int out)
{
	memset(r, 0, sizeof *r);
	r->in = in;
	r->out = out;
	r->fd = r->also = -1;
	r->due = r->ping_at = r->ack_at = INT64_MAX;
	r->ping_ms = QUIET_MAX;
}

/* Ends the session; tell: the other end has to be told, if it can be. */
static void
resumable_end(struct resumable *r, int tell, enum code code, const char *fmt,
    ...)
{
	va_list ap;

	if (r->over)
		return;
	va_start(ap, fmt);
	vsnprintf(r->why, sizeof r->why - 20, fmt, ap);
	va_end(ap);
	r->over = 1;
	r->tell = tell;
	r->code = code;
}

/* Goes on by fd.  synced: neither end has received a byte before; else the
 * session is lost until the first frame has come. */
static void
resumable_attach(struct resumable *r, int fd, int synced)
{
	if (r->fd >= 0)
		close(r->fd);
	net_blocking(r->fd = r->net = fd, 0);
	r->have = r->off = r->size = r->left = 0;
	r->blocked = 0;
	r->synced = synced;
	r->since = r->moved_at = r->ack_at = reactor_clock();
	r->due = r->ack_at + ANSWER_MAX;
	r->ping_at = r->ack_at + r->ping_ms;
}

static void
resumable_detach(struct resumable *r, const char *why)
{
	close(r->fd);
	r->fd = -1;
	r->blocked = 0;
	r->due = r->ping_at = r->ack_at = INT64_MAX;
	if (!r->lost_at)
		r->lost_at = reactor_clock();
	r->on_event(r, E_LOST, why);
}

/* The next frame, if one has to be sent; it says what was received. */
static void
frame_next(struct resumable *r, int64_t now)
{
	struct frame f = { F_DATA, 0, r->received };

	r->len = 0;
	if (r->over && !(r->ssh_gone && r->synced &&	/* b is free now */
	    r->log.sent < r->log.tail)) {
		r->size = close_write(r->b, r->code, r->why);
		memcpy(r->head, r->b, FRAME_HEAD);
		r->data = r->b + FRAME_HEAD;
		r->len = r->size - FRAME_HEAD;
		r->gone = 0;
		return;
	} else if (r->synced && r->log.sent < r->log.tail &&
	    (r->over || r->log.sent - r->log.acked < CHUNKS * CHUNK))
		r->len = backlog_next(&r->log, &r->data);
	else if (r->synced && r->in_end && !r->in_error && !r->end_sent &&
	    r->log.sent == r->log.tail)
		f.type = F_END;
	else if (now >= r->ping_at)
		f.type = F_PING;
	else if (now < r->ack_at && r->received - r->told < CHUNK)
		return;
	f.len = r->len;
	frame_write(r->head, &f);
	r->size = FRAME_HEAD + r->len;
	r->gone = 0;
	r->told = r->received;
	r->ack_at = r->blocked ? now + ALIVE_EVERY : INT64_MAX;
	if (f.type == F_PING)
		r->ping_at = now + r->ping_ms;
	if (f.type != F_DATA || f.len) {
		r->end_sent |= f.type == F_END;
		if (r->due == INT64_MAX && !r->blocked)
			r->due = now + (f.type == F_PING ? PONG_MAX :
			    ANSWER_MAX);
	}
}

/* Sends what can be sent.  0: all; 1: more can be later; -1: see errno. */
static int
frames_send(struct resumable *r)
{
	struct iovec v[2];
	size_t at;
	ssize_t n;

	for (;;) {
		if (!r->size)
			frame_next(r, reactor_clock());
		if (!r->size)
			return 0;
		at = r->gone < FRAME_HEAD ? 0 : r->gone - FRAME_HEAD;
		v[0].iov_len = r->gone < FRAME_HEAD ? FRAME_HEAD - r->gone : 0;
		v[0].iov_base = r->head + FRAME_HEAD - v[0].iov_len;
		v[1].iov_base = r->len ? r->data + at : NULL;
		v[1].iov_len = r->len - at;
		n = writev(r->fd, v + !v[0].iov_len, 1 + (v[0].iov_len &&
		    r->len));
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 1 : -1;
		if ((r->gone += n) < r->size)
			continue;
		r->size = 0;
		if (*r->head == F_CLOSE) {
			r->tell = 0;
			return 0;
		}
		r->log.sent += r->len;
	}
}

/* What a frame says of our own stream.  0, -1. */
static int
frame_heard(struct resumable *r, const struct frame *f)
{
	struct backlog *l = &r->log;
	uint64_t got = f->received;

	r->heard = 1;
	r->lost_at = 0;
	if (!r->synced) {		/* send again from there on */
		if (got < l->acked || got > l->tail + r->in_end)
			return -1;
		r->end_sent = got > l->tail;
		l->sent = got - r->end_sent;
		r->on_event(r, E_BACK, "");
		r->synced = 1;
	}
	/* a frame under way may be acknowledged in part */
	if (got > l->sent + (r->size && r->gone > FRAME_HEAD ?
	    r->gone - FRAME_HEAD : 0) + r->end_sent || got < l->acked +
	    r->end_acked)
		return -1;
	r->end_acked = got > l->tail;
	backlog_ack(l, got > l->sent ? l->sent : got);
	return 0;
}

/* Gives the payload to out.  0: out takes no more; 1 */
static int
payload_write(struct resumable *r)
{
	size_t n = r->have - r->off < r->left ? r->have - r->off : r->left;
	ssize_t put = r->out < 0 ? (ssize_t)n : write(r->out, r->b + r->off, n);
	int64_t now;

	if (put < 0 && (errno == EAGAIN || errno == EINTR)) {
		now = reactor_clock() + ALIVE_EVERY;
		if (r->ack_at > now)
			r->ack_at = now;
		r->blocked = 1;
		return 0;
	}
	if (put < 0) {		/* it closed; what it says still counts */
		r->out = -1;
		put = n;
	}
	r->blocked = 0;
	r->off += put;
	r->left -= put;
	r->received += put;
	if (r->ack_at > (now = reactor_clock() + ACK_AFTER))
		r->ack_at = now;
	return 1;
}

/* The stream of the other end is over. */
static void
out_end(struct resumable *r)
{
	r->out_end = 1;
	r->received++;
	r->ack_at = 0;
	r->moved_at = reactor_clock();
	if (r->out >= 0 && shutdown(r->out, SHUT_WR) < 0 && errno == ENOTSOCK)
		proc_null(r->out);
	if (!r->attached)
		r->out = -1;
}

/* The other end says that the session is over.  Before its first frame that is
 * the server, or the agent: another try may succeed, unless it is gone. */
static const char *
close_take(struct resumable *r, char text[FRAME_TEXT + 1])
{
	const char *why = text;
	int code;

	plain(text);
	if ((code = reply_parse(text, &why)) < 0)
		why = text;
	if ((!r->synced || (!r->attached && r->lost_at && !r->heard)) &&
	    code != C_GONE && code != C_DENIED)
		return memmove(text, why, strlen(why) + 1);
	resumable_end(r, 0, code > 0 ? code : C_SYNTAX, "%s", why);
	return NULL;
}

/* Takes the frames, or a piece of a payload, that came.  NULL, or why the
 * connection is lost (static). */
static const char *
frames_take(struct resumable *r)
{
	static char text[FRAME_TEXT + 1];
	struct frame f = { F_DATA, 0, 0 };
	size_t n;
	int used = 0;

	while (!r->over && (n = r->have - r->off)) {
		if (r->left) {
			if (!payload_write(r))
				break;
			continue;
		}
		used = frame_parse(r->b + r->off, n, &f);
		if (used <= 0 || (f.type == F_CLOSE && n - used < f.len))
			break;
		r->off += used;
		if (f.type == F_CLOSE) {
			memcpy(text, r->b + r->off, f.len);
			text[f.len] = '\0';
			return close_take(r, text);
		}
		if ((used = frame_heard(r, &f)) < 0 ||
		    (used = r->out_end && (f.type == F_END || f.len) ? -1 : 0))
			break;
		if (f.type == F_DATA)
			r->left = f.len;
		else if (f.type == F_END)
			out_end(r);
		else
			r->ack_at = 0;
	}
	if (used < 0)
		resumable_end(r, 1, C_SYNTAX, "what came is not a frame of "
		    "this session");
	return NULL;
}

/* Receives once.  NULL, or why the connection is lost.  While out is blocked
 * nothing is read, so no answer is waited for. */
static const char *
frames_receive(struct resumable *r)
{
	int64_t now = reactor_clock();
	const char *why;
	ssize_t n;

	if (!r->blocked) {
		memmove(r->b, r->b + r->off, r->have -= r->off);
		r->off = 0;
		n = recv(r->fd, r->b + r->have, sizeof r->b - r->have, 0);
		if (n <= 0)
			return n == 0 ? "closed" : errno == EAGAIN ||
			    errno == EINTR ? NULL : strerror(errno);
		r->have += n;
		r->ping_at = now + r->ping_ms;
	}
	why = frames_take(r);
	r->due = !r->blocked && (r->log.acked < r->log.tail ||
	    r->in_end > r->end_acked) ? now + ANSWER_MAX : INT64_MAX;
	return why;
}

/* What in says goes to the backlog. */
static void
backlog_read(struct resumable *r)
{
	unsigned char *at;
	size_t room = backlog_room(&r->log, &at);
	ssize_t n = room ? read(r->in, at, room) : -1;

	if (n > 0) {
		r->log.tail += n;
		r->moved_at = reactor_clock();
	} else if (room && (n == 0 || (errno != EAGAIN && errno != EINTR))) {
		r->in_end = 1;
		/* a command may end with unread bytes */
		r->in_error = n && r->attached && !cfg.exec ? errno : 0;
	}
	if (!room)
		poll(NULL, 0, PAUSE);	/* it is still to be read */
	if (n <= 0 && r->log.acked == r->log.tail)
		chunk_free(&r->log, r->log.tail);
}

/* ssh has gone: what it has said is sent still. */
static void
resumable_left(struct resumable *r)
{
	struct pollfd p = { r->in, POLLIN, 0 };
	uint64_t was;

	do {
		was = r->log.tail;
		if (!r->in_end && !backlog_full(&r->log, CHUNKS) &&
		    poll(&p, 1, 0) > 0)
			backlog_read(r);
	} while (r->log.tail != was);
	resumable_end(r, 1, C_OFFLINE, "the client has ended");
	r->ssh_gone = 1;
}

/* The node's side has ended, and ssh has nothing to say to that: it goes on
 * only as long as it moves, as in client_relay(). */
static int
is_left(const struct resumable *r, int64_t now)
{
	struct pollfd p = { r->in, POLLIN, 0 };

	return !r->attached && r->out_end && !r->in_end &&
	    r->log.acked == r->log.tail && now >= r->moved_at + 2 * TICK &&
	    poll(&p, 1, 0) == 0;
}

/* Both streams have ended, and both ends know. */
static int
is_complete(const struct resumable *r)
{
	return r->out_end && r->end_acked && r->told == r->received &&
	    !r->size;
}

/* The last frames arrive, for which a second is enough: a socket that is closed
 * with unread bytes sends a reset. */
static void
resumable_leave(struct resumable *r)
{
	int64_t until = reactor_clock() + 1000;
	struct pollfd p = { r->fd, POLLOUT, 0 };

	if (r->fd < 0)
		return;
	while (r->tell && frames_send(r) > 0 && reactor_clock() < until)
		poll(&p, 1, 100);
	shutdown(r->fd, SHUT_WR);
	p.events = POLLIN;
	while (reactor_clock() < until && poll(&p, 1, 100) >= 0)
		if (p.revents && recv(r->fd, r->b, sizeof r->b, 0) <= 0)
			break;
	close(r->fd);
	r->fd = -1;
}

/* How many ms nothing has to be done, if nothing comes. */
static int
resumable_idle(struct resumable *r, int64_t now)
{
	int64_t at = r->due;

	/* what is due has to wait for the frame that is being sent */
	if (!r->size && r->ping_at < at)
		at = r->ping_at;
	if (!r->size && r->ack_at < at)
		at = r->ack_at;
	if (r->fd < 0)
		at = r->lost_at + r->keep_ms;
	if (r->starved && at > now + PAUSE)
		at = now + PAUSE;
	return at <= now ? 0 : at - now < TICK ? (int)(at - now) : TICK;
}

static void
resumable_wait(struct resumable *r, int more)
{
	int full = !r->in_end && backlog_full(&r->log, r->blocked ? RING :
	    CHUNKS);
	struct pollfd p[4] = {
		{ r->fd, (r->blocked ? 0 : POLLIN) | (more ? POLLOUT : 0), 0 },
		{ r->in_end || full ? -1 : r->in, POLLIN, 0 },
		{ !r->blocked && (r->in == r->out || full) ? -1 : r->out,
		    r->blocked ? POLLOUT : 0, 0 },
		{ r->also, POLLIN, 0 }
	};
	const char *why;

	r->starved = full && backlog_starves(&r->log);
	/* one that is detached may wait, one that has chunks goes on */
	if (r->starved && r->fd >= 0 && memory.held[memory.mine] <= 2 &&
	    reactor_clock() >= r->full_at) {
		r->on_event(r, E_FULL, "");
		r->full_at = reactor_clock() + 1000;
	}
	/* acknowledgements may be behind what out does not take: another
	 * connection begins with one */
	if (r->blocked && full && !r->starved && r->due == INT64_MAX)
		r->due = reactor_clock() + PATIENCE * 1000;
	if (poll(p, LEN(p), resumable_idle(r, reactor_clock())) < 0)
		return;
	if (p[1].revents)
		backlog_read(r);
	if (!r->attached && p[2].revents & (POLLERR | POLLHUP | POLLNVAL) &&
	    !(p[1].revents & POLLIN))
		resumable_left(r);
	if (r->fd >= 0 && r->blocked && p[0].revents & (POLLERR | POLLHUP))
		resumable_detach(r, "closed");	/* what is here comes again */
	else if (r->fd >= 0 && (p[0].revents || (r->blocked &&
	    p[2].revents)) && (why = frames_receive(r)))
		resumable_detach(r, why);
	if (p[3].revents)
		r->on_also(r);
}

/* Something was due.  It may have come while we were stopped. */
static void
resumable_late(struct resumable *r)
{
	struct pollfd p = { r->fd, POLLIN, 0 };
	const char *why = "no answer";

	if (r->blocked || poll(&p, 1, 0) != 1 || (why = frames_receive(r)))
		resumable_detach(r, why);
}

/* The connection takes no more.  What came before still counts: it may end with
 * an F_CLOSE. */
static void
resumable_broken(struct resumable *r, const char *why)
{
	char b;

	while (!r->over && !r->blocked && recv(r->fd, &b, 1, MSG_PEEK) > 0 &&
	    !frames_receive(r))
		;
	if (!r->over)
		resumable_detach(r, why);
}

static volatile sig_atomic_t interrupted;

/* Runs the session until it is over; r->code and r->why say why. */
static void
resumable_run(struct resumable *r)
{
	int more = 0;
	int64_t now;

	while (!r->over) {
		now = reactor_clock();
		if (interrupted)
			resumable_left(r);
		else if (r->in_error && r->log.acked == r->log.tail)
			resumable_end(r, 1, C_GONE, "sshd: %s",
			    strerror(r->in_error));
		else if (r->fd < 0 && now >= r->lost_at + r->keep_ms)
			resumable_end(r, 0, C_MAX, "its connection did not "
			    "come back in %d s", r->keep_ms / 1000);
		else if (is_left(r, now))
			resumable_left(r);
		else if (r->fd >= 0 && now >= r->due)
			resumable_late(r);
		else if (r->fd >= 0 && r->blocked &&
		    net_silent(r->net) >= ANSWER_MAX)
			resumable_detach(r, "no acknowledgement");
		else if (r->fd >= 0 && (more = frames_send(r)) < 0)
			resumable_broken(r, strerror(errno));
		else if (is_complete(r))
			r->over = 1;
		else
			resumable_wait(r, more > 0);
	}
	resumable_leave(r);
}

/* dialling
 *
 * Theory.  A connection to the server or to sshd is made by sequential code
 * that may wait: it looks the name up, connects to the addresses, talks to a
 * proxy, runs openssl, asks for an Upgrade and says hello, each with a deadline
 * of its own.  mssh proxy calls it.  The agent's loop may neither wait nor make
 * a socket, so it asks the dialler, a process that is older than the sandbox.
 * That passes the order to a child, which waits for one already; the child
 * answers with a connected descriptor, or an exit code and a sentence.
 *
 *	loop ---- struct order ----> dialler ---- order ---> child
 *	loop <--- struct dial, descriptors ----------------- child
 *
 * Names are looked up for each dial, and an address is good when the hello was
 * answered there; until then the next one is tried.
 */

enum step {		/* what goes wrong later tells more */
	AT_LOOKUP, AT_CONNECT, AT_PROXY, AT_TLS, AT_HTTP, AT_HELLO, AT_END,
	AT_SSHD, AT_TALK, AT_AGENT
};

struct order {			/* what the dialler is asked for */
	unsigned id;			/* which the answer repeats */
	uint32_t source;		/* hash of sshd's client, who so gets a
					 * loopback address of its own: sshd,
					 * its penalties and fail2ban tell
					 * clients apart; 0: to the server */
	int look;			/* only at sshd: what does it say? */
	int server;			/* of servers */
	int index;			/* in memory.held */
	int keep;			/* a keeper is wanted: words are GO's */
	char node[NODE_LEN + 1];	/* "": the machine's address */
	char words[LINE_LEN / 2];	/* of the hello, behind the node */
};

/* The dial under way: a process has one at a time.  It is the answer to the
 * order as well. */
static struct dial {
	struct order q;
	enum step at, failed_at;
	char whom[URL_LEN];	/* this step is about */
	int fd;			/* what the next layer is talked through */
	int net;		/* the network's own socket, which may be fd */
	int nfds;		/* answer: of those two; 0: the dial failed */
	int talk;		/* from the program in between, or -1 */
	int leash;		/* from another one, which is not heard */
	struct peer peer;

	/* addresses, and the sockets that are on their way there */
	struct sockaddr_storage addr[MAX_ADDRS];
	struct pollfd sock[MAX_ADDRS];
	int64_t until;		/* the last one gives up */
	int naddr, next, left, named;	/* left: may still be reached */

	int ms;			/* the next answer comes within */
	void (*meanwhile)(int);	/* waits so many ms for it, or NULL */
	char line[LINE_LEN];	/* agent: the server's answer to the hello, or
				 * what sshd said, */
	int64_t us;		/* so long after the order came */
	int unframed;		/* server or agent know no frames */
	int code, closed;	/* why there is no connection */
	char why[300];
} dial;

static char tls_said[2048];	/* by openssl, for the address under way */

static const char *
server_str(void)
{
	static char b[URL_LEN];

	return url_str(&srv->url, b, sizeof b);
}

/* Notes why this dial fails, unless it got further before.  A fmt that begins
 * with ' ' goes on with whom this step is about.  Returns -1. */
static int
fail(int code, const char *fmt, ...)
{
	static const char *const whom[] = {
		"cannot look up the name %.200s: its name server", "%.200s",
		"the proxy %.200s", "no TLS with %.200s: it",
		"the web server %.200s", "the server %.200s",
		"the server %.200s",	/* AT_END, behind CHALLENGE */
		"%.200s", "the server %.200s", "the agent of %.200s"
	};
	const size_t size = sizeof dial.why;
	size_t n = 0;
	va_list ap;

	if (dial.at < dial.failed_at)
		return -1;
	dial.failed_at = dial.at;
	dial.code = code;
	dial.closed = 0;
	if (dial.at <= AT_CONNECT && srv->proxy.kind && !dial.q.source)
		n = snprintf(dial.why, size, "the proxy %.200s: ",
		    host_port(srv->proxy.host, srv->proxy.port));
	if (*fmt == ' ')
		n += snprintf(dial.why + n, size - n, whom[dial.at], dial.whom);
	va_start(ap, fmt);
	if (n < size)
		vsnprintf(dial.why + n, size - n, fmt, ap);
	va_end(ap);
	return -1;
}

static int
too_late(void)
{
	return fail(X_TIMEOUT, " does not answer");
}

static void
step_begin(enum step at, const char *whom)
{
	dial.at = at;
	snprintf(dial.whom, sizeof dial.whom, "%s", whom);
	dial.ms = ANSWER_MAX;
	dial.meanwhile = NULL;
}

/* Nothing else was wrong before. */
static void
dial_init(void)
{
	dial = (struct dial){ .q = dial.q, .fd = -1, .net = -1, .talk = -1,
	    .leash = -1 };
}

/* fork(2), with a socket between the two, of which each has its end.  -1: there
 * is no child, and no socket. */
static int
fork_with(int *sock)
{
	int s[2], pid;

	*sock = -1;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, s) < 0)
		return -1;
	fcntl(s[0], F_SETFD, FD_CLOEXEC);
	fcntl(s[1], F_SETFD, FD_CLOEXEC);
	if ((pid = fork()) < 0)
		close(s[0]);
	else
		*sock = s[pid == 0];
	close(s[pid != 0]);		/* the other's */
	return pid;
}

/* Sets the handler of signals that end us; nohup(1)'s stay ignored. */
static void
ends_catch(void (*fn)(int))
{
	static const int ends[] = { SIGINT, SIGTERM, SIGHUP };
	size_t i;

	for (i = 0; i < LEN(ends); i++)
		if (signal(ends[i], fn) == SIG_IGN)
			signal(ends[i], SIG_IGN);
}

/* names and addresses */

static int
addresses_find(const char *host, const char *port, int family, int numeric)
{
	const char *why;

	dial.left = dial.naddr = net_lookup(host, port, family, numeric,
	    dial.addr, MAX_ADDRS, &why);
	return dial.naddr ? 0 : fail(errno == EAGAIN ? X_TIMEOUT :
	    X_UNREACHABLE, "cannot look up the name %.140s: %s", host, why);
}

/* The addresses of a name; family 0: any.  getaddrinfo(3) has no deadline, so
 * a child asks, whose dial becomes ours, and alarm(2) may end it. */
static int
look_up(const char *host, const char *port, int family)
{
	int sock, pid, i;
	ssize_t got;

	step_begin(AT_LOOKUP, host);
	dial.named = addresses_find(host, port, family, 1) < 0;
	if (!dial.named)
		return 0;
	if ((pid = fork_with(&sock)) < 0)
		return fail(X_FAIL, "no process to look up the name %.140s: %s",
		    host, strerror(errno));
	if (pid == 0) {
		signal(SIGALRM, SIG_DFL);
		alarm(LOOKUP_MAX);
		for (i = 0; i < 3; i++)	/* it may outlive who asked */
			proc_null(i);
		addresses_find(host, port, family, 0);
		_exit(write(sock, &dial, sizeof dial) < 0);
	}
	while ((got = read(sock, &dial, sizeof dial)) < 0 && errno == EINTR &&
	    !interrupted)
		;
	close(sock);
	if (got < 0)
		kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	if (got != (ssize_t)sizeof dial)
		return too_late();
	return dial.naddr ? 0 : -1;
}

/* Address i was not reached. */
static void
address_lost(int i, int e)
{
	struct peer p;

	close(dial.sock[i].fd);
	dial.sock[i].fd = -1;
	dial.left--;
	peer_set(&p, &dial.addr[i]);
	fail(e == ETIMEDOUT || e == EHOSTUNREACH || e == ENETUNREACH ?
	    X_TIMEOUT : X_UNREACHABLE, "%s%s%s", dial.named ? peer_str(&p) :
	    "", dial.named ? ": " : "", strerror(e));
}

/* Connects to the next address that can be reached.  0, or -1: none is left.
 * Another one is tried when nothing has happened for 250 ms (RFC 8305 5), or
 * when one has failed, the last for ms; those that are under way stay so for
 * when this one turns out to be useless. */
static int
connect_next(int ms)
{
	int64_t wait;
	int i, e, n, more, begin = 1;

	for (step_begin(AT_CONNECT, "it"); dial.left && !interrupted;) {
		if (begin && dial.next < dial.naddr) {
			i = dial.next++;
			dial.until = reactor_clock() + ms;
			dial.sock[i].events = POLLOUT;
			dial.sock[i].fd = net_dial(&dial.addr[i],
			    *cfg.source == 'c' ? dial.q.source : 0);
			if (dial.sock[i].fd < 0) {
				address_lost(i, errno);
				continue;
			}
		}
		more = dial.next < dial.naddr;
		wait = more ? RACE_EVERY : dial.until - reactor_clock();
		n = poll(dial.sock, dial.next, wait > 0 ? (int)wait : 0);
		begin = n == 0;
		for (i = 0; n >= 0 && i < dial.next; i++) {
			if (dial.sock[i].fd < 0 || (n ? !dial.sock[i].revents :
			    more))
				continue;
			e = n ? net_error(dial.sock[i].fd) : ETIMEDOUT;
			if (e) {
				address_lost(i, e);
				begin = 1;
				continue;
			}
			dial.fd = dial.net = dial.sock[i].fd;
			dial.sock[i].fd = -1;
			dial.left--;
			peer_set(&dial.peer, &dial.addr[i]);
			return 0;
		}
	}
	return -1;
}

static void
dial_close(void)
{
	if (dial.net != dial.fd)
		close(dial.net);
	close(dial.fd);
	close(dial.talk);
	close(dial.leash);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;			/* companions of earlier dials */
	dial.fd = dial.net = dial.talk = dial.leash = -1;
	*tls_said = '\0';
}

/* what is in between */

/* What would be too long begins anew. */
static void
openssl_hear(void)
{
	size_t n = strlen(tls_said), max = sizeof tls_said - 1;
	ssize_t got;

	while ((got = read(dial.talk, tls_said + n, max - n)) > 0)
		n = (n + got) % max;
	tls_said[n] = '\0';
}

/* The other side has closed the connection before it said what it had to, or
 * openssl has ended.  Whose fault is it? */
static int
closed(void)
{
	const struct proxy *px = &srv->proxy;
	char b[300];

	openssl_hear();
	/* behind --connect an early end is that of the command */
	if (tls_blame(tls_said, dial.whom, cfg.connect != NULL, b, sizeof b))
		return fail(X_TLS, "%s", b);
	if (dial.at == AT_PROXY || dial.at == AT_SSHD)
		return fail(X_UNREACHABLE, " closed the connection");
	if (dial.at >= AT_TALK)
		return fail(X_PROTOCOL, "the server %s closed the connection",
		    server_str());
	if (cfg.connect)
		return fail(X_UNREACHABLE, "the command of --connect ended, or "
		    "closed its output, without an answer of the server");
	fail(X_PROTOCOL, "the server closed the connection without an answer "
	    "(%s%s%s)%s", server_str(), px->kind ? ", through the proxy " : "",
	    px->kind ? host_port(px->host, px->port) : "",
	    srv->url.scheme == S_TCP ? "; if it expects TLS, use tls://" :
	    srv->url.scheme == S_HTTP ? "; if it expects TLS, use https://" :
	    "");
	dial.closed = dial.at == dial.failed_at;
	return -1;
}

/* What answers is not our server: whose are the n bytes? */
static int
not_ours(const char *b, size_t n)
{
	char text[100];

	if (n && b[0] == 0x15)	/* an alert (RFC 8446 5.1) */
		return fail(X_PROTOCOL, " speaks TLS: use tls:// or https://");
	return fail(X_PROTOCOL, "what answers at %s is not an mssh server%s: "
	    "%s", server_str(), n > 5 && !memcmp(b, "HTTP/", 5) ? " (behind a "
	    "reverse proxy it is http://HOST/PATH or https://)" : "",
	    escape(text, sizeof text, b, n));
}

/* Sends what may hold a password. */
static int
transmit(void *b, size_t n)
{
	ssize_t sent = send(dial.fd, b, n, MSG_NOSIGNAL);

	wipe(b, n);
	return sent == (ssize_t)n ? 0 : closed();
}

/* Reads an answer into to, and takes not one byte of the next layer: lines are
 * peeked at, others come byte by byte.  0, or -1: the dial has failed. */
static int
receive(enum answer kind, void *to)
{
	static const char *const names[] = { "SSH", "HTTP", "SOCKS 4",
	    "SOCKS 5" };
	struct pollfd p = { dial.fd, POLLIN, 0 };
	int64_t left, until = reactor_clock() + dial.ms;
	char b[HEAD_LEN];
	size_t n = 0;
	ssize_t got;
	int r = 0, line = kind == A_LINE;

	while (!r) {
		if (interrupted)
			return fail(X_FAIL, "it was interrupted");
		if ((left = until - reactor_clock()) <= 0)
			return too_late();
		got = recv(dial.fd, b + n, line ? LINE_LEN - n : 1,
		    line ? MSG_PEEK : 0);
		if (got > 0) {
			r = answer_take(kind, b, n + got, to);
			if (line)
				recv(dial.fd, b + n,
				    r > 0 ? r - (int)n : got, 0);
			n += got;
		} else if (got == 0 || (errno != EAGAIN && errno != EINTR))
			return closed();
		else if (dial.meanwhile)
			dial.meanwhile((int)left);
		else
			poll(&p, 1, (int)left);
	}
	return r > 0 ? 0 : line && dial.at != AT_SSHD ? not_ours(b, n) :
	    fail(X_PROTOCOL, " does not speak %s", names[kind]);
}

/* Asks the proxy for a tunnel, or the web server for our protocol; of the
 * answers that come, few are interim.  Until 101 no byte may follow: some
 * reverse proxies would swallow it. */
static int
http_open(enum step at)
{
	int up = at == AT_HTTP, i;
	struct response r = { 0 };
	char b[1500];

	step_begin(at, up ? server_str() :
	    host_port(srv->proxy.host, srv->proxy.port));
	if (transmit(b, up ? upgrade_request(&srv->url, VERSION, b, sizeof b) :
	    connect_request(&srv->url, &srv->proxy, b, sizeof b)) < 0)
		return -1;
	for (i = 0; r.status < 200 && r.status != 101; i++) {
		if (i == 3)
			return too_late();
		if (receive(A_HTTP, &r) < 0)
			return -1;
	}
	if (up ? r.status == 101 && r.mssh : r.status >= 200 && r.status < 300)
		return 0;
	if (!up)
		return fail(X_UNREACHABLE, " says: %s", r.line);
	if (r.status >= 502 && r.status <= 504)
		return fail(X_UNREACHABLE, "the reverse proxy at %s says: %s",
		    server_str(), r.line);
	return fail(X_PROTOCOL, "%s is not an mssh server: %s",
	    server_str(), r.line);
}

static unsigned char target4[4];	/* the server, for SOCKS 4 */

static int
socks_open(void)
{
	const struct proxy *px = &srv->proxy;
	int n, step = 0, last = px->kind == PX_SOCKS5 ? A_SOCKS5 : A_SOCKS4;
	const char *why = NULL, *said = NULL;
	unsigned char out[1500];
	char b[2];

	step_begin(AT_PROXY, host_port(srv->proxy.host, srv->proxy.port));
	while ((n = socks_next(px, &srv->url, target4, &step, b, out,
	    &why)) > 0)
		if (transmit(out, n) < 0 || (step == SOCKS_LAST ?
		    receive(last, &said) : receive(A_PAIR, b)) < 0)
			return -1;
	if (n < 0)
		return fail(X_PROTOCOL, " does not speak SOCKS 5");
	return said ? fail(X_UNREACHABLE, " says: %s", said) :
	    why ? fail(X_UNREACHABLE, " %s", why) : 0;
}

/* programs that carry a connection
 *
 * openssl and the command of --connect run as children of a companion, which
 * copies bytes between them and the connection and ends when either side has;
 * but for that, it holds no descriptor of the process that dialled.
 *
 *	plain end <-> openssl <-> companion <-> network
 *	plain end <-> the companion <-> the command of --connect
 */

/* In the companion: openssl comes for its connection at a Unix socket, or ends
 * without. */
static void
openssl_run(struct companion *m, int plain, const char *host, int lfd,
    struct sockaddr_un *sa)
{
	char *argv[TLS_ARGS];
	struct pollfd p[2] = { { m->talk, 0, 0 }, { lfd, POLLIN, 0 } };

	tls_args(argv, sa->sun_path, host, srv->url.scheme == S_HTTPS,
	    cfg.cafile, cfg.cert, cfg.certkey);
	m->pid = proc_exec(argv, plain, m->talk);
	close(plain);
	while (m->pid > 0 && poll(p, 2, -1) < 0)
		;
	if (p[1].revents)
		m->far.fd = accept(lfd, NULL, NULL);
	close(lfd);
	net_unlisten_private(sa);
	if (m->pid < 0)
		_exit(1);
	if (m->far.fd < 0)
		proc_end(m->pid, 0);
}

static void
command_run(struct companion *m)
{
	char cmd[4096] = "exec ";	/* no shell lingers and holds it */
	char *argv[] = { "/bin/sh", "-c", cmd, NULL };
	int q[2], err[2];

	if (command_expand(cfg.connect, srv->url.host, srv->url.port, cmd + 5,
	    sizeof cmd - 5) < 0 || pipe(err) < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM, 0, q) < 0 ||
	    (m->pid = proc_exec(argv, q[1], err[1])) < 0)
		_exit(1);
	m->far.fd = q[0];
	m->err = err[0];
	close(q[1]);
	close(err[1]);
}

/* Puts a program between the connection and us: openssl for host, or the
 * command of --connect where host is NULL.  0, -1. */
static int
companion_start(const char *host)
{
	struct sockaddr_un sa;
	int plain[2] = { -1, -1 }, talk = -1, lfd = -1, pid = -1, i;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, plain) == 0 &&
	    (!host || (lfd = net_listen_private(&sa)) >= 0))
		pid = fork_with(&talk);
	if (pid == 0) {
		struct companion m = { .near.fd = host ? dial.fd : plain[1],
		    .far.fd = -1, .err = -1, .talk = talk,
		    .tls = host != NULL, .up = !host, .alone = !is_daemon,
		    .last_ms = cfg.patience * 1000 };
		int keep[] = { dial.fd, plain[1], talk, lfd };

		setsid();
		signal(SIGTERM, SIG_IGN);
		signal(SIGCHLD, SIG_IGN);	/* nobody waits */
		proc_keep(keep, LEN(keep));
		wipe(&mine, sizeof mine);
		for (i = 0; i < nservers; i++)
			wipe(servers[i].proxy.pass, sizeof srv->proxy.pass);
		proc_null(0);
		proc_null(1);
		if (host) {
			proc_null(2);
			openssl_run(&m, plain[1], host, lfd, &sa);
		} else
			command_run(&m);
		proc_carry(&m);		/* does not return */
	}
	if (pid < 0) {
		dial.at = AT_END;
		fail(X_FAIL, "cannot open a connection: %s%s", host && lfd < 0
		    && plain[1] >= 0 ? "no socket in $TMPDIR or /tmp: " : "",
		    strerror(errno));
		if (lfd >= 0)
			net_unlisten_private(&sa);
	}
	close(plain[1]);
	close(lfd);
	if (dial.fd != dial.net)
		close(dial.fd);
	if (dial.net < 0)
		dial.net = plain[0];
	net_blocking(dial.fd = plain[0], 0);
	dial.leash = dial.talk;
	net_blocking(dial.talk = talk, 0);
	return pid < 0 ? -1 : 0;
}

static int
tls_open(const char *host, const char *port)
{
	struct pollfd p[2] = { { -1, POLLIN, 0 }, { -1, 0, 0 } };
	int64_t left, until = reactor_clock() + ANSWER_MAX;

	step_begin(AT_TLS, host_port(host, port));
	*tls_said = '\0';
	if (companion_start(host) < 0)
		return -1;
	p[0].fd = dial.talk;
	p[1].fd = dial.fd;
	while (!strstr(tls_said, "CONNECTION ESTABLISHED")) {
		if (p[1].revents || p[0].revents & POLLHUP)
			return closed();	/* openssl has ended */
		if ((left = until - reactor_clock()) <= 0)
			return too_late();
		poll(p, 2, (int)left);
		openssl_hear();
	}
	return send(dial.talk, "+", 1, MSG_NOSIGNAL) == 1 ? 0 : closed();
}

/* the server */

/* All that lies between a connection and the answer to the hello.  0, -1. */
static int
layers_open(int (*say_hello)(void))
{
	const struct proxy *px = &srv->proxy;
	const struct url *u = &srv->url;
	int http = u->scheme == S_HTTP || u->scheme == S_HTTPS;
	int tls = u->scheme == S_TLS || u->scheme == S_HTTPS;
	char host[HOST_LEN + 1];

	if ((cfg.connect && companion_start(NULL) < 0) ||
	    (px->kind == PX_HTTPS && tls_open(px->host, px->port) < 0) ||
	    (px->kind && (px->kind >= PX_SOCKS4 ? socks_open() :
	    http_open(AT_PROXY)) < 0) ||
	    (tls && tls_open(tls_name(u, host), u->port) < 0) ||
	    (http && http_open(AT_HTTP) < 0) || say_hello() < 0) {
		dial_close();
		return -1;
	}
	return 0;
}

/* Connects to the server, and calls say_hello.  0: it was answered, or (early)
 * nobody waits for that.  -1: the dial has failed. */
static int
dial_server(int (*say_hello)(void))
{
	struct sockaddr_un *sa = (struct sockaddr_un *)&dial.addr[0];
	int r = -1, i;

	dial_init();
	if (cfg.connect)
		r = layers_open(say_hello);
	else if (srv->url.scheme == S_UNIX) {
		sa->sun_family = AF_UNIX;
		memcpy(sa->sun_path, srv->url.path, strlen(srv->url.path));
		dial.naddr = dial.left = 1;
	} else {
		/* version 4 of SOCKS takes no name */
		if (srv->proxy.kind == PX_SOCKS4) {
			if (look_up(srv->url.host, srv->url.port, AF_INET) < 0)
				return -1;
			memcpy(target4, &((struct sockaddr_in *)
			    &dial.addr[0])->sin_addr, sizeof target4);
		}
		if (look_up(srv->proxy.kind ? srv->proxy.host : srv->url.host,
		    srv->proxy.kind ? srv->proxy.port : srv->url.port, 0) < 0)
			return -1;
	}
	while (r < 0 && dial.failed_at != AT_END &&
	    connect_next(CONNECT_MAX) == 0)
		r = layers_open(say_hello);
	for (i = 0; i < dial.next; i++)
		close(dial.sock[i].fd);
	return r;
}

/* What the hello says of our key, "" where there is none; p is what the proof
 * needs. */
static void
hello_key(struct proof *p, enum role as, char b[KEY_LEN + B64_LEN + 20])
{
	char nonce[B64_LEN + 1];

	*b = '\0';
	if (!*mine.name)
		return;
	p->h.role = as;
	sys_random(p->h.nonce, MAC_LEN);
	b64_write(p->h.nonce, nonce);
	snprintf(b, KEY_LEN + B64_LEN + 20, " key=%s nonce=%s", mine.name,
	    nonce);
}

/* What a line of the server says to our hello; p is NULL where it need not
 * prove anything (more).  1: OK; 2: it knows our key, and out is our proof;
 * -1: the dial has failed. */
static int
reply_judge(const char *line, struct proof *p, char out[LINE_LEN])
{
	const char *text;
	int r;

	dial.at = AT_END;
	if (p)			/* an agent may have no name before */
		memcpy(p->h.node, cfg.about, strlen(cfg.about) + 1);
	if (p && word_is(line, "CHALLENGE"))
		return proof_answer(&mine, &p->h, line, out) == 0 ? 2 :
		    fail(X_DENIED, " does not know the key %s, or is not the "
		    "one that you mean", mine.name);
	r = reply_parse(line, &text);
	/* nor is anything else believed; a server without keys lets an early
	 * client's sshd speak at once */
	if (p && (r >= 0 || begins(line, "SSH-")))
		return fail(X_DENIED, " gives no proof that it knows the key "
		    "%s: it has no keys, or is not the one that you mean",
		    mine.name);
	if (r < 0) {
		dial.at = AT_HELLO;
		return not_ours(line, strlen(line));
	}
	return r == C_OK ? 1 : fail(code_exits[r], "%s", text);
}

/* the dialler process */

static struct io dialler;	/* the socket to it; in it: to the loop */
static int dialler_pid;

/* Says the agent's hello.  Any well-formed answer will do here: the loop judges
 * it. */
static int
agent_greet(void)
{
	char b[LINE_LEN + 1] = "node-1";	/* a machine without a name */
	const char *text;

	/* without a node id it is the address that leads to the server */
	if (!*dial.q.node && net_self(dial.net, dial.addr, dial.naddr,
	    dial.q.node) < 0) {
		gethostname(b, sizeof b - 1);
		node_suggest(b, dial.q.node);
	}
	step_begin(AT_HELLO, server_str());
	dial.ms = dial.left ? HELLO_MORE : ANSWER_MAX;
	snprintf(b, sizeof b, "MSSH/2 agent %s %s\n", dial.q.node,
	    dial.q.words);
	if (transmit(b, strlen(b)) < 0 || receive(A_LINE, dial.line) < 0)
		return -1;
	return word_is(dial.line, "CHALLENGE") || reply_parse(dial.line,
	    &text) >= 0 ? 0 : not_ours(dial.line, strlen(dial.line));
}

static void
report(int good)
{
	int fds[2] = { dial.fd, dial.net };

	dial.nfds = good ? 1 + (dial.net != dial.fd) : 0;
	net_send_fds(dialler.fd, &dial, sizeof dial, fds, dial.nfds);
}

/* All steps together took too long. */
static void
on_alarm(int sig)
{
	(void)sig;
	dial.failed_at = AT_LOOKUP;
	too_late();
	report(0);
	_exit(0);
}

/* sshd on loopback answers at once, so no process is needed for that. */
static int
dial_at_once(void)
{
	struct peer to;

	if (addresses_find(sshd_host, sshd_port, 0, 1) < 0)
		return 0;
	peer_set(&to, &dial.addr[0]);
	if (!is_local(&to) || connect_next(0) < 0)
		return 0;
	report(1);
	dial_close();
	return 1;
}

/* Connects to sshd, and looks what it says. */
static int
dial_sshd(void)
{
	int64_t began = reactor_us();
	int i;

	if (look_up(sshd_host, sshd_port, 0) < 0 ||
	    connect_next(CONNECT_MAX) < 0)
		return -1;
	if (!dial.q.look)
		return 0;
	step_begin(AT_SSHD, "it");
	dial.ms = CONNECT_MAX;
	for (i = 0; i < 20; i++) {	/* others come first (RFC 4253 4.2) */
		if (receive(A_LINE, dial.line) < 0)
			return -1;
		dial.us = reactor_us() - began;
		if (begins(dial.line, "SSH-"))
			return 0;
	}
	return fail(X_PROTOCOL, " does not speak SSH");
}

/* What --exec runs learns who its client is. */
static void
exec_env(const char *node, const struct peer *client, uint64_t id,
    const char *k)
{
	static char v[4][PEER_LEN + NODE_LEN];	/* in our own environment */
	int i;

	snprintf(v[0], sizeof *v, "MSSH_NODE=%s", node);
	snprintf(v[1], sizeof *v, "MSSH_CLIENT=%s", peer_str(client));
	snprintf(v[2], sizeof *v, "MSSH_SESSION=%016llx",
	    (unsigned long long)id);
	snprintf(v[3], sizeof *v, "MSSH_CLIENT_KEY=%s", k);
	for (i = 0; i < 4; i++)
		putenv(v[i]);
}

/* A keeper's socketpair in place of the connection to sshd. */
static int
exec_open(void)
{
	struct peer client;
	uint64_t id;
	char k[KEY_LEN + 1];
	int p[2];

	step_begin(AT_SSHD, "it");
	go_parse(dial.q.words, &id, &client, k);
	exec_env(dial.q.node, &client, id, k);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, p) < 0)
		return fail(X_FAIL, "%s", strerror(errno));
	fcntl(p[0], F_SETFD, FD_CLOEXEC);
	fcntl(p[1], F_SETFD, FD_CLOEXEC);
	dial.fd = dial.net = p[0];
	if (proc_spawn(cfg.exec, p[1], "") < 0)
		return fail(X_FAIL, "%s", strerror(errno));
	close(p[1]);
	return 0;
}

/* the keeper of a session: to sshd by r->in, to the agent's loop by r->also */

static void
keeper_take(struct resumable *r)
{
	int fd[NET_FDS], n = 0;
	char b = 0;
	ssize_t got = net_recv_fds(r->also, &b, 1, fd, &n);

	if (n > 0) {
		resumable_attach(r, fd[0], !r->attached);
		r->attached = 1;
	} else if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
		resumable_end(r, 1, C_GONE, "the agent has stopped, or has "
		    "closed the session");
}

static void
keeper_tell(struct resumable *r, enum event e, const char *why)
{
	static const char *const words[] = { "lost", "back", "full" };
	char b[LINE_LEN];
	int n = snprintf(b, sizeof b, "%s %s\n", words[e], why);

	send(r->also, b, n, MSG_NOSIGNAL);
}

static void
keeper_main(void)
{
	static struct resumable r;
	struct sockaddr_storage ss = { .ss_family = AF_UNSPEC };
	socklen_t len = sizeof ss;
	const char *what;
	char b[LINE_LEN];
	int sshd = dial.fd, p[2], i;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, p) < 0) {
		fail(X_FAIL, "%s", strerror(errno));
		report(0);
		_exit(0);
	}
	getsockname(sshd, (struct sockaddr *)&ss, &len);
	peer_set(&dial.peer, &ss);
	dial.fd = dial.net = p[0];
	report(1);
	ends_catch(SIG_IGN);
	proc_keep((const int[]){ sshd, p[1] }, 2);
	wipe(servers, sizeof servers);
	proc_oom_normal();
	proc_confine(1, NULL, &what);
	memory.mine = (unsigned)dial.q.index % memory.n;
	resumable_init(&r, sshd, sshd);
	r.also = p[1];
	r.on_also = keeper_take;
	r.on_event = keeper_tell;
	r.ping_ms = QUIET_MAX + PONG_MAX;	/* the client's come first */
	r.keep_ms = cfg.resume_for * 1000;
	r.lost_at = reactor_clock();
	net_blocking(sshd, 0);
	net_blocking(p[1], 0);
	/* until then its number may be that of another */
	poll(&(struct pollfd){ p[1], POLLIN, 0 }, 1, -1);
	keeper_take(&r);
	resumable_run(&r);
	i = snprintf(b, sizeof b, "end up %llu down %llu: %s\n",
	    (unsigned long long)r.received - r.out_end,
	    (unsigned long long)r.log.acked, *r.why ? r.why : "closed");
	send(p[1], b, i, MSG_NOSIGNAL);
	_exit(0);
}

static void
dial_child(void)
{
	int bad;

	srv = &servers[(unsigned)dial.q.server % MAX_SERVERS];
	signal(SIGTERM, SIG_DFL);	/* nobody waits for it at the end */
	signal(SIGINT, SIG_DFL);
	signal(SIGALRM, on_alarm);
	alarm(DIAL_MAX);
	dial_init();
	bad = (dial.q.keep && cfg.exec ? exec_open() : dial.q.source ?
	    dial_sshd() : dial_server(agent_greet)) < 0;
	alarm(0);
	if (!bad && dial.q.keep)
		keeper_main();
	report(!bad);
	_exit(0);
}

/* Makes a child that waits for an order: no session waits for fork(2).  Its
 * socket, or -1. */
static int
child_begin(void)
{
	int sock;

	if (fork_with(&sock) == 0) {
		if (recv(sock, &dial.q, sizeof dial.q, MSG_WAITALL) ==
		    (ssize_t)sizeof dial.q) {
			close(sock);
			dial_child();
		}
		_exit(0);
	}
	return sock;
}

static void
dialler_main(int fd)
{
	int child;

	ends_catch(SIG_IGN);
	signal(SIGCHLD, SIG_IGN);
	wipe(&mine, sizeof mine);	/* what it reads comes from afar */
	dialler.fd = fd;
	setpgid(0, 0);
	proc_null(0);
	proc_null(1);
	child = child_begin();
	while (recv(fd, &dial.q, sizeof dial.q, MSG_WAITALL) ==
	    (ssize_t)sizeof dial.q) {
		dial.q.node[NODE_LEN] = '\0';
		dial.q.words[sizeof dial.q.words - 1] = '\0';
		dial_init();
		if (dial.q.source && !dial.q.look && !dial.q.keep &&
		    dial_at_once())
			continue;
		if (child < 0)
			child = child_begin();
		if (child < 0 || send(child, &dial.q, sizeof dial.q,
		    MSG_NOSIGNAL) != (ssize_t)sizeof dial.q) {
			dial.at = AT_END;
			fail(X_FAIL, "cannot open a connection: no process "
			    "for it: %s", strerror(errno));
			report(0);
		}
		close(child);
		child = child_begin();
	}
	kill(0, SIGTERM);	/* what it has begun; not what it has made */
	_exit(0);
}

/* Waits for the dialler, so that we end last. */
static void
dialler_end(void)
{
	io_close(&dialler);		/* that is how it knows */
	while (waitpid(dialler_pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static void on_dialled(struct io *);

static void
dialler_start(void)
{
	int sock;

	if ((dialler_pid = fork_with(&sock)) == 0) {
		proc_keep(&sock, 1);
		dialler_main(sock);
	}
	if (dialler_pid < 0 || net_blocking(sock, 0) < 0 ||
	    io_add(&dialler, sock, on_dialled) < 0)
		die(X_FAIL, "cannot start the dialler:");
	atexit(dialler_end);
}

/* agent
 *
 *	fill() --> DIALLING --> REGISTERING	the dialler has said hello
 *	REGISTERING --> IDLE			the server has answered OK
 *	IDLE --> PINGED --> IDLE		PING, PONG
 *	IDLE --> HELD --> RELAY			GO came; sshd was dialled; READY
 *	IDLE --> CHILD				GO came; --exec serves it
 *	IDLE, HELD --> LINGER			--allow, or no sshd: ERROR
 *	all but HELD, RELAY, CHILD --> closed, and fill() after a pause
 */

static struct list asking;	/* conns that wait for the dialler */
static struct io watch;
static uint64_t run;
static int64_t looked;		/* when a look at sshd began, or 0 */

static const char *
session_str(const struct conn *c)
{
	static char b[PEER_LEN + 40];

	snprintf(b, sizeof b, "session %016llx from %s",
	    (unsigned long long)c->u.id, peer_str(&c->peer));
	return b;
}

static void
agent_status(void)
{
	int64_t since = reactor_now();
	struct server *s, *at = srv, *was = srv;
	char some[40] = "";
	int i, n = 0;

	for (s = servers; s < servers + nservers; s++) {
		if (s->parked && !n++)
			at = s;
		for (i = 0; i < cfg.spare; i++)
			if (s->slots[i] && is_idle(s->slots[i]->phase) &&
			    s->slots[i]->t.since < since)
				since = s->slots[i]->t.since;
	}
	if (nservers > 1)
		snprintf(some, sizeof some, " and %d of %d servers", n,
		    nservers);
	srv = at;
	if (n)
		sys_notify("STATUS=%s parked at %s%s for %s, %d sessions",
		    cfg.node, server_str(), some,
		    ago(reactor_now() - since, (char[AGO_LEN]){ 0 }), live.n);
	else
		sys_notify("STATUS=not registered at %s%s%s, %d sessions",
		    server_str(), *srv->refusal ? ": " : "", srv->refusal,
		    live.n);
	srv = was;
}

/* Why there is no session, or no sshd. */
static const char *
sshd_fault(const char *why)
{
	static char b[LINE_LEN - 40];

	snprintf(b, sizeof b, "cannot %s%s: %s", cfg.exec ? "run --exec" :
	    "reach sshd at ", cfg.exec ? "" : host_port(sshd_host, sshd_port),
	    why);
	return b;
}

/* There is nobody to serve the client. */
static void
session_fail(struct conn *c, const char *why)
{
	log_limited(N_SESSION, "%s: %s", session_str(c), sshd_fault(why));
	line_send(c, "ERROR unreachable %s", sshd_fault(why));
	linger(c);
}

/* What the dialler, or why, says of sshd goes out by a parked connection, to
 * each server. */
static void
sshd_tell(const struct dial *d, const char *why)
{
	struct server *s;
	int i;

	for (s = servers; s < servers + nservers; s++) {
		for (i = 0; i < cfg.spare; i++)
			if (s->slots[i] && is_idle(s->slots[i]->phase))
				break;
		if (i < cfg.spare && why)
			line_send(s->slots[i], "SSHD error %s", why);
		else if (i < cfg.spare)
			line_send(s->slots[i], "SSHD us=%lld %.255s",
			    (long long)d->us, d->line);
	}
}

/* A spare is lost, or the dial for it: another is dialled after a pause, or at
 * once where this one had been parked for some time.  In HELD it is a spare no
 * more: its session cannot begin.  The pause has full jitter, so that a
 * thousand agents do not come back in step.  Where the network gave no answer
 * nobody is hurt by asking soon.  A try that a change of the network has
 * brought forward does not lengthen the pause, nor can another one: links that
 * flap would defeat it. */
static void
slot_lost(struct conn *c, int answered, const char *why)
{
	int was = is_idle(c->phase), ms;
	int max = answered ? BACKOFF_MAX : BACKOFF_NET;
	int64_t now = reactor_now();
	uint32_t r;

	srv = &servers[c->s.server];
	ms = BACKOFF_MIN << (srv->fails < 5 ? srv->fails : 5);
	if (c->phase == HELD) {
		session_fail(c, why);
		return;
	}
	if (was)
		log_limited(N_NODE, "lost %s: %s", server_str(), why);
	if (was && now - c->t.since >= HELD_MS) {
		srv->fails = 0;
		io_after(&srv->retry, 0);
	} else if (srv->retry.heap < 0) {
		if (srv->retry_at <= now) {
			sys_random(&r, sizeof r);
			srv->retry_at = now + 50 + r % (ms < max ? ms : max);
			srv->fails++;
		}
		io_after(&srv->retry, (int)(srv->retry_at - now));
	}
	srv->slots[c->slot] = NULL;
	drop(c, why);
	if (!was && strcmp(srv->refusal, why)) {
		snprintf(srv->refusal, sizeof srv->refusal, "%s", why);
		say_log("cannot register %s at %s: %s; next try in %d.%d s",
		    *cfg.node ? cfg.node : "this machine", server_str(), why,
		    SPLIT_MS(srv->retry_at > now ? srv->retry_at - now : 0));
	}
	agent_status();
}

/* Asks the dialler for what q says; c waits for it. */
static void
dialler_ask(struct conn *c, struct order *q)
{
	q->id = c->end->u.ask = next_id++;
	list_add(&asking, c);
	if (send(dialler.fd, q, sizeof *q, MSG_NOSIGNAL) != sizeof *q)
		slot_lost(c, 1, "the dialler takes no request");
}

/* Dials for each slot that is empty. */
static void
fill(struct io *io)
{
	char key[KEY_LEN + B64_LEN + 20];
	struct order q = { 0 };
	struct conn *c;
	int i;

	srv = (struct server *)io;	/* its first member */
	for (i = 0; i < cfg.spare; i++) {
		if (srv->slots[i])
			continue;
		if (!(c = conn_new(-1, *mine.name ? proof_get : end_get))) {
			say_log("cannot dial: no memory");
			io_after(io, BACKOFF_MAX);
			return;
		}
		c->slot = i;
		c->s.server = q.server = srv - servers;
		srv->slots[i] = c;
		hello_key(c->end->proof, R_AGENT, key);
		memcpy(q.node, cfg.node, sizeof q.node);
		snprintf(q.words, sizeof q.words, "run=%016llx slot=%d v=%s"
		    "%s%s", (unsigned long long)run, i, VERSION,
		    cfg.resume_for ? " frames=1" : "", key);
		enter(c, DIALLING);
		dialler_ask(c, &q);
	}
}

static void
sshd_up(struct conn *c, int fd)
{
	struct sockaddr_storage ss = { .ss_family = AF_UNSPEC };
	socklen_t len = sizeof ss;
	struct conn *s;
	struct peer p;

	getsockname(fd, (struct sockaddr *)&ss, &len);
	if (!(s = conn_new(fd, end_get))) {
		session_fail(c, "no memory left");
		return;
	}
	s->sshd = 1;
	s->end->to = c;
	c->end->to = s;
	if (line_send(c, "READY") < 0) {
		drop(c, "gone");
		return;
	}
	peer_set(&p, &ss);	/* what sshd's own log calls the client */
	log_limited(N_SESSION, "%s: to sshd at %s as %s", session_str(c),
	    host_port(sshd_host, sshd_port), peer_str(&p));
	list_add(&live, c);
	enter(c, RELAY);
	enter(s, RELAY);
	on_relay(c);
}

/* A session's keeper gets c's connection, and c is the way to the keeper. */
static void
session_keep(struct conn *c, int fd, const struct peer *as)
{
	if (line_send(c, "READY") < 0 ||
	    net_send_fds(fd, "", 1, &c->io.fd, 1) < 0) {
		close(fd);
		drop(c, "gone");
		return;
	}
	io_close(&c->io);
	close(c->end->net);
	c->end->net = -1;
	if (io_add(&c->io, fd, dispatch) < 0) {
		close(fd);
		drop(c, "no memory");
		return;
	}
	log_limited(N_SESSION, "%s: to %s%s%s%s, resumable", session_str(c),
	    cfg.exec ? "--exec" : "sshd at ", cfg.exec ? "" :
	    host_port(sshd_host, sshd_port), cfg.exec ? "" : " as ",
	    cfg.exec ? "" : peer_str(as));
	list_add(&live, c);
	enter(c, KEPT);
}

/* Of the sessions without a connection (holds: that use memory), ends the
 * one that lost it first: its keeper has to end.  0: there is none. */
static int
kept_evict(int holds)
{
	struct conn *c = live.head, *old = NULL;
	struct kept *k;
	int i;

	for (i = live.n; i > 0; i--, c = c->next) {
		k = c->phase == KEPT ? c->end->resume.kept : NULL;
		if (k && k->ending && holds)
			return 1;	/* its memory comes first */
		if (k && k->lost && !k->ending &&
		    (!holds || *k->held > 1) &&
		    (!old || k->lost < old->end->resume.kept->lost))
			old = c;
	}
	if (!old)
		return 0;
	k = old->end->resume.kept;
	log_limited(N_SESSION, "%s: closed (--sessions, --resume-memory): its "
	    "connection was lost %d.%d s ago",
	    session_str(old), SPLIT_MS(reactor_now() - k->lost));
	k->ending = 1;
	shutdown(old->io.fd, SHUT_WR);
	return 1;
}

/* For a session that is to be kept; NULL: no memory. */
static struct kept *
kept_new(const char *token, const char *k)
{
	struct kept *p = calloc(1, sizeof *p);
	int i;

	for (i = 0; p && i < memory.n; i++)
		if (!memory.held[i]) {
			memory.held[i] = 1;
			p->held = &memory.held[i];
			memcpy(p->token, token, sizeof p->token);
			memcpy(p->key, k, sizeof p->key);
			return p;
		}
	free(p);
	return NULL;
}

/* What a keeper says. */
static void
on_kept(struct conn *c)
{
	struct kept *k = c->end->resume.kept;
	char line[LINE_LEN];
	const char *s;
	int r = line_read(c, line);

	if (r > 0 && (s = word_is(line, "lost"))) {
		if (k->lost)
			return;		/* a try that came to nothing */
		k->lost = reactor_now();
		log_limited(N_SESSION, "%s: connection lost (%s), kept for "
		    "%ld s", session_str(c), s, cfg.resume_for);
		if (memory_full())
			kept_evict(1);
	} else if (r > 0 && word_is(line, "back")) {
		log_limited(N_SESSION, "%s: resumed after %d.%d s",
		    session_str(c), SPLIT_MS(k->lost ? reactor_now() - k->lost :
		    0));
		k->lost = 0;
	} else if (r > 0 && word_is(line, "full"))
		kept_evict(1);
	else if (r != 0) {
		s = r > 0 ? word_is(line, "end") : NULL;
		log_limited(N_SESSION, "%s: ended after %d.%d s, %s",
		    session_str(c), SPLIT_MS(reactor_now() - c->t.since),
		    s ? s : "its keeper was killed");
		drop(c, "done");
	}
}

/* The newest session of that token and key, or NULL. */
static struct conn *
kept_find(const char *token, const char *k)
{
	struct conn *c = live.head, *found = NULL;
	int i;

	for (i = live.n; i > 0; i--, c = c->next)
		if (c->phase == KEPT && !strcmp(c->end->resume.kept->key, k) &&
		    !mac_differs((void *)c->end->resume.kept->token,
		    (const void *)token))
			found = c;
	return found;
}

/* c is to go on with a session.  0, or -1: it is refused. */
static int
session_resume(struct conn *c, const char *token, long seq, const char *k)
{
	static const char *const whys[] = {
		("the node does not know the session: it has ended, or the "
		    "agent was restarted"),
		"the session has a newer connection",
		"the node cannot take the connection now"
	};
	unsigned char b[FRAME_HEAD + FRAME_TEXT];
	struct conn *s = kept_find(token, k);
	int late = !s ? 0 : !seq ? 2 : seq <= s->end->resume.kept->seq;

	if (line_send(c, "READY") == 0 && s && !late &&
	    net_send_fds(s->io.fd, "", 1, &c->io.fd, 1) == 0) {
		s->peer = c->peer;
		s->end->resume.kept->seq = seq;
		drop(c, "handed over");
		return 0;
	}
	if (s && !late)
		late = 2;
	log_limited(N_SESSION, "%s refused: %s", session_str(c), whys[late]);
	send(c->io.fd, b, close_write(b, late == 2 ? C_BUSY : C_GONE,
	    whys[late]), MSG_NOSIGNAL);
	linger(c);
	return -1;
}

/* The answer to what c asked for, with n descriptors.  Those that are c's from
 * here are -1 in fds. */
static void
dialled(struct conn *c, const struct dial *d, int *fds, int n)
{
	const char *why = d->nfds ? NULL : d->why;
	int fd = *fds;

	list_del(c);
	srv = &servers[c->s.server];
	if (!why && (!n || n < d->nfds))	/* we had no room for all */
		why = "cannot open a connection: Too many open files";
	if (!why && c->phase == DIALLING) {
		io_close(&c->io);	/* a bare timer so far */
		if (io_add(&c->io, fd, dispatch) < 0)
			why = "cannot open a connection: no memory";
	}
	if (why) {
		slot_lost(c, d->code != X_TIMEOUT, why);
		return;
	}
	fds[0] = -1;
	if (c->phase == HELD) {
		if (c->end->resume.kept)
			session_keep(c, fd, &d->peer);
		else
			sshd_up(c, fd);
		return;
	}
	if (n > 1) {
		c->end->net = fds[1];
		fds[1] = -1;
	}
	c->peer = d->peer;
	if (*cfg.node && strcmp(cfg.node, d->q.node)) {
		slot_lost(c, 1, "another server gave this machine its name");
		return;
	}
	if (!*cfg.node)
		memcpy(cfg.node, d->q.node, sizeof d->q.node);
	enter(c, REGISTERING);
	hello_answered(c, d->line, 1);
}

static void
on_dialled(struct io *io)
{
	static struct dial d;
	static size_t got;
	static int fds[NET_FDS], nfds;
	struct conn *c = asking.head;
	ssize_t n;
	int i;

	n = net_recv_fds(io->fd, (char *)&d + got, sizeof d - got, fds, &nfds);
	if (n == 0) {
		say_log("the dialler has ended");
		reactor_halt();
		io_close(io);
		return;
	}
	if (n < 0 && errno == EAGAIN) {
		io->ready &= ~IO_R;
		return;
	}
	io_again(io);
	if (n < 0 || (got += n) < sizeof d)
		return;
	/* it has read what peers sent, outside of the sandbox: not trusted;
	 * what it says may go to the server, as one line */
	d.q.node[NODE_LEN] = d.line[LINE_LEN - 1] = d.why[sizeof d.why - 1] =
	    '\0';
	plain(d.line);
	plain(d.why);
	for (i = asking.n; i > 0 && c->end->u.ask != d.q.id; i--)
		c = c->next;
	if (d.q.look) {
		looked = 0;
		sshd_tell(&d, d.nfds ? NULL : sshd_fault(d.why));
	} else if (i > 0)			/* 0: too late */
		dialled(c, &d, fds, nfds);
	while (nfds > 0)
		close(fds[--nfds]);
	got = 0;
}

/* The dialler is at work.  HELD: has the server taken the client back? */
static void
on_dialling(struct conn *c)
{
	if (io_expired(&c->io))
		slot_lost(c, 0, "the dialler does not answer");
	else if (c->io.ready & IO_H)
		drop(c, "the client gave up");
}

/* The server's answer to the hello, or (r < 0) none. */
static void
hello_answered(struct conn *c, const char *line, int r)
{
	char out[LINE_LEN];

	dial_init();
	dial.fd = c->io.fd;
	step_begin(AT_HELLO, server_str());
	r = r > 0 ? reply_judge(line, c->end->proof, out) :
	    r == -2 ? not_ours("", 0) : closed();
	if (r == 2) {
		proof_free(c);
		r = transmit(out, strlen(out));
	}
	if (r < 0)
		slot_lost(c, 1, dial.why);
	if (r <= 0)
		return;
	c->t.since = reactor_now();
	/* a lost mapping shows in 14 s */
	net_keepalive(net_of(c), 8, 3, 2);
	enter(c, IDLE);
	*srv->refusal = '\0';
	if (srv->parked == 1)
		log_limited(N_NODE, "%s parked at %s (%s%s)", cfg.node,
		    server_str(), cfg.connect ? "by --connect" :
		    srv->proxy.kind ? "proxy " : "",
		    cfg.connect ? "" : peer_str(&c->peer));
	agent_status();
	on_idle(c);
}

/* Only with a key: the answer to our proof. */
static void
on_registering(struct conn *c)
{
	char line[LINE_LEN];
	int r = line_read(c, line);

	if (r != 0)
		hello_answered(c, line, r);
	else if (io_expired(&c->io))
		slot_lost(c, 0, "the server does not answer");
}

/* --exec: a child of its own has the socket, and no relay is left here.  We
 * keep a copy of the descriptor, to see whether the far side still lives. */
static void
serve_exec(struct conn *c, const char *k)
{
	int fd = c->io.fd;

	exec_env(cfg.node, &c->peer, c->u.id, k);
	if ((c->end->pid = proc_spawn(cfg.exec, fd, "READY\n")) < 0) {
		session_fail(c, strerror(errno));
		net_blocking(fd, 0);
		return;
	}
	io_del(&c->io);
	if (c->end->net < 0)
		c->end->net = fd;
	else
		close(fd);
	io_add(&c->io, -1, dispatch);	/* it has its place still */
	list_add(&live, c);
	enter(c, CHILD);
	log_limited(N_SESSION, "%s: process %d", session_str(c),
	    (int)c->end->pid);
}

static void
child_end(struct conn *c, const char *why)
{
	log_limited(N_SESSION, "%s: process %d ended after %d.%d s: %s",
	    session_str(c), (int)c->end->pid,
	    SPLIT_MS(reactor_now() - c->t.since), why);
	drop(c, why);
}

static void
on_child(struct conn *c)
{
	const char *why = net_lost(c->end, c->end->net);

	io_after(&c->io, TICK);
	if (!why)
		return;
	net_cut(c->end->net);
	shutdown(c->end->net, SHUT_RDWR);
	child_end(c, why);
}

static void
on_sigchld(void)
{
	struct conn *c;
	char why[40];
	int st, pid, i;

	while ((pid = waitpid(-1, &st, WNOHANG)) > 0) {
		snprintf(why, sizeof why, WIFEXITED(st) ? "exit code %d" :
		    "signal %d", WIFEXITED(st) ? WEXITSTATUS(st) :
		    WTERMSIG(st));
		c = live.head;
		for (i = live.n; i > 0 && c->end->pid != pid; i--)
			c = c->next;
		if (i > 0)
			child_end(c, why);
	}
}

/* Refuses a client.  The next spare comes a little later, so that a server that
 * calls for nothing does not keep us busy. */
static void
call_refuse(struct conn *c, const char *option, const char *value,
    const char *why, const char *key)
{
	log_limited(N_SESSION, "%s refused: %s %s", session_str(c), option,
	    value);
	line_send(c, "ERROR %s%s", why, key);
	linger(c);
	io_after(&srv->retry, PAUSE);
}

/* A client is there: its connection becomes a session, and a new spare is
 * dialled in the same moment. */
static void
go(struct conn *c, const char *line)
{
	struct order q = { 0 };
	char k[KEY_LEN + 1], token[TOKEN_LEN + 1];
	long seq = 0;
	int resumes, frames = cfg.resume_for &&
	    resume_parse(line, token, &seq) > 0;

	srv->fails = 0;
	srv->slots[c->slot] = NULL;
	go_parse(line, &c->u.id, &c->peer, k);
	c->t.since = reactor_now();
	net_keepalive(net_of(c), 30, 10, net_probes);
	enter(c, HELD);
	if (*k)
		log_limited(N_SESSION, "%s key %s", session_str(c), k);
	if (cfg.allow && (!*k || !glob_list(cfg.allow, k, 1))) {
		call_refuse(c, "--allow", cfg.allow, *k ? "denied its owner "
		    "does not allow the key " : "denied its owner does not "
		    "allow clients without a key", k);
		return;
	}
	/* a first hello may be late, and its session have a connection */
	resumes = frames && (seq || kept_find(token, k));
	if (!resumes && held + live.n > cfg.sessions && !kept_evict(0)) {
		call_refuse(c, "--sessions", "reached", "busy it has all the "
		    "sessions that it may have, try later", "");
		return;
	}
	if (resumes) {
		if (session_resume(c, token, seq, k) == 0)
			fill(&srv->retry);
		else			/* see call_refuse() */
			io_after(&srv->retry, PAUSE);
		return;
	}
	if (frames && !(c->end->resume.kept = kept_new(token, k)))
		session_fail(c, "no memory left");
	else if (cfg.exec && !frames)
		serve_exec(c, k);
	else {
		if ((q.keep = frames)) {
			q.index = c->end->resume.kept->held - memory.held;
			memcpy(q.node, cfg.node, sizeof q.node);
			snprintf(q.words, sizeof q.words, "from=%s id=%016llx "
			    "key=%s", peer_str(&c->peer),
			    (unsigned long long)c->u.id, k);
		}
		q.source = *k ? siphash(hash_key, k, strlen(k)) :
		    siphash(hash_key, c->peer.ip, sizeof c->peer.ip);
		q.source += !q.source;
		dialler_ask(c, &q);
	}
	fill(&srv->retry);
}

/* A ping wants to know of sshd, too: the dialler looks. */
static void
sshd_look(void)
{
	struct order q = { .source = 1, .look = 1 };

	if (cfg.exec)
		sshd_tell(NULL, "its agent runs a command for each session "
		    "(--exec)");
	else if (looked && reactor_now() - looked < DIAL_MAX * 1000)
		return;		/* what that look finds is told to all */
	else if (send(dialler.fd, &q, sizeof q, MSG_NOSIGNAL) != sizeof q)
		sshd_tell(NULL, "the dialler takes no request");
	else
		looked = reactor_now();
}

/* The server stops, and says when to come back. */
static void
slot_stop(struct conn *c, const char *line)
{
	char w[12];
	long ms = BACKOFF_MIN;

	if (word_get(line, "in", w, sizeof w) > 0)
		num_parse(w, STOP_MS, STOP_MAX, &ms);
	log_limited(N_NODE, "%s stops, next try in %ld.%ld s", server_str(),
	    ms / 1000, ms % 1000 / 100);
	srv->slots[c->slot] = NULL;
	if (reactor_now() - c->t.since >= HELD_MS)
		srv->fails = 0;
	drop(c, "the server stops");
	if (srv->retry.heap < 0) {
		srv->retry_at = reactor_now() + ms;
		io_after(&srv->retry, (int)ms);
	}
	agent_status();
}

static void
on_idle(struct conn *c)
{
	char line[LINE_LEN], w[2];
	int r = line_read(c, line);

	if (r > 0 && word_is(line, "GO")) {
		go(c, line);
		return;
	}
	if (r > 0 && word_is(line, "PONG") && c->phase == PINGED)
		enter(c, IDLE);
	if (r > 0 && word_is(line, "PING")) {
		if (line_send(c, "PONG") < 0)
			r = -1;
		else if (word_get(line, "sshd", w, sizeof w) > 0)
			sshd_look();
	}
	if (r > 0 && word_is(line, "STOP"))
		slot_stop(c, line);
	else if (r < 0)
		slot_lost(c, 1, r == -2 ? "not a line of the protocol" :
		    "the connection was closed");
	else if (!io_expired(&c->io))
		return;
	else if (c->phase == PINGED)
		slot_lost(c, 0, "no answer to a ping");
	else if (line_send(c, "PING") < 0)
		slot_lost(c, 1, strerror(errno));
	else
		enter(c, PINGED);
}

/* SIGHUP: all parked connections anew, now. */
static void
redial(void)
{
	int i;

	for (srv = servers; srv < servers + nservers; srv++) {
		say_log("redialling %s", server_str());
		srv->fails = srv->retry_at = 0;
		*srv->refusal = '\0';
		for (i = 0; i < cfg.spare; i++) {
			if (srv->slots[i])
				drop(srv->slots[i], "redial");
			srv->slots[i] = NULL;
		}
		io_after(&srv->retry, 0);
	}
	srv = servers;
}

/* A link or an address has changed.  Half a second later parked connections are
 * tested, and who waits for the next try does not wait any longer, once in each
 * pause.  Dials under way go on. */
static void
on_watch(struct io *io)
{
	int due = io_expired(io), i;
	ssize_t n;

	if (io->ready & IO_R) {
		do	/* an overrun says that there was more than we know */
			n = recv(io->fd, peeked, sizeof peeked, 0);
		while (n > 0 || (n < 0 && errno == ENOBUFS));
		io->ready &= ~IO_R;
		if (io->heap < 0)
			io_after(io, 500);
	}
	for (srv = servers; due && srv < servers + nservers; srv++) {
		for (i = 0; i < cfg.spare; i++)
			if (srv->slots[i] && srv->slots[i]->phase == IDLE)
				io_after(&srv->slots[i]->io, 0);
		if (!srv->parked && srv->hurried != srv->retry_at) {
			srv->hurried = srv->retry_at;
			io_after(&srv->retry, 0);
		}
	}
	srv = servers;
}

static void
on_agent_term(void)
{
	sys_notify("STOPPING=1");
	say_log("stopping");
	reactor_halt();
}

static int
run_agent(void)
{
	char b[200];
	int i;

	if (!cfg.sessions)
		cfg.sessions = AGENT_SESSIONS;
	daemon_start(on_agent_term);
	if (host_split(cfg.ssh_host, strlen(cfg.ssh_host), sshd_host,
	    sshd_port, cfg.ssh_port) < 0)
		die(X_USAGE, "--ssh-host '%s' is not a HOST or an IPv6 address",
		    escape(b, sizeof b, cfg.ssh_host, strlen(cfg.ssh_host)));
	sys_random(&run, sizeof run);
	for (srv = servers; srv < servers + nservers; srv++)
		if (io_add(&srv->retry, -1, fill) < 0)
			die(X_FAIL, "no memory:");
	srv = servers;
	if (io_add(&watch, net_watch(), on_watch) < 0)
		die(X_FAIL, "no memory:");
	reactor_signal(SIGHUP, redial);
	reactor_signal(SIGCHLD, on_sigchld);
	/* twice as many: those that are closed for others end later */
	memory.n = 2 * (cfg.sessions < MAX_KEPT ? cfg.sessions : MAX_KEPT);
	if (!(memory.held = sys_shared(memory.n * sizeof *memory.held)))
		die(X_FAIL, "no memory:");
	memory.max = cfg.resume_memory * ((1 << 20) / CHUNK);
	drop_privileges();
	dialler_start();
	confine(1, NULL);
	status = agent_status;
	sys_notify("READY=1");
	on_housekeeping(&housekeeping);
	for (i = 0; i < nservers; i++)
		io_after(&servers[i].retry, 0);
	if (reactor_run() < 0)
		die(X_FAIL, "the event loop failed:");
	drop_all(&live, "the agent stopped");
	return dialler.fd < 0 ? X_FAIL : 0;	/* it has ended before us */
}

/* proxy
 *
 * One thing after the other: dial, hello, proof, and then either ssh gets the
 * descriptor and we are gone, or two pumps copy until the end.
 *
 *	dial_server() --> client_greet() --> OK or ERROR
 *	      ^                 |
 *	      +---- --wait lasts, or another address is left
 */

static enum role asks_as = R_CLIENT;
static int64_t wait_until;

/* What ssh said before the server answered, which travels right behind the
 * hello, or the proof; it is kept for the next address. */
static struct {
	unsigned char b[COPY_LEN];
	size_t n, sent;
	int held;		/* the proof has to go first */
	int end;		/* ssh has said all */
	int framed;		/* the first frame was sent */
} early;

static struct resumable session;	/* --resume */
static char session_token[TOKEN_LEN + 1];
static long session_seq;	/* of its connections */
static int session_begun;	/* it was attached */
static int is_racing;		/* other servers are dialled as well */

/* The first frame tells the node what has come, if nothing else. */
static void
early_send(void)
{
	unsigned char b[FRAME_HEAD + COPY_LEN];
	size_t head = cfg.resume ? FRAME_HEAD : 0, n = early.n - early.sent;
	ssize_t r;

	if (early.held || is_racing || (!n && (!head || early.framed)))
		return;
	frame_write(b, &(struct frame){ F_DATA, n, session.received });
	memcpy(b + head, early.b + early.sent, n);
	r = send(dial.fd, b, head + n, MSG_NOSIGNAL) - head;
	early.sent += r > 0 ? r : 0;	/* or the answer says why not */
	early.framed = 1;
	if (head && r != (ssize_t)n)
		shutdown(dial.fd, SHUT_RDWR);
}

static void
on_interrupt(int sig)
{
	signal(sig, SIG_DFL);
	line_clear();
	raise(sig);
}

/* On a terminal one line says, once a second, what --wait waits for.  Returns
 * how many ms of ms may go until the next time. */
static int
wait_show(const char *what, int ms)
{
	static int64_t began;
	int64_t s = began ? (reactor_clock() - began) / 1000 : 0;
	char b[URL_LEN + 60];

	if (!cfg.wait || session_begun || !isatty(2))
		return ms;
	if (!began) {
		began = reactor_clock();
		atexit(line_clear);
		ends_catch(on_interrupt);
	}
	if (s > 0) {
		is_line = snprintf(b, sizeof b, "\rmssh: waiting for %.40s: "
		    "%lld of %ld s \033[K", what, (long long)s, cfg.wait);
		is_line = write(2, b, is_line) > 0;
	}
	return ms < 1000 ? ms : 1000;
}

/* Waits for what the server answers. */
static void
client_wait(int ms)
{
	int full = early.held || early.end || early.n == sizeof early.b ||
	    session_begun;
	struct pollfd f[3] = { { dial.fd, POLLIN, 0 },
	    { cfg.fdpass || full ? -1 : 0, POLLIN, 0 },
	    { session_begun ? session.out : 1, 0, 0 } };
	ssize_t r;

	if (poll(f, 3, wait_show(cfg.node, ms)) < 0)
		return;
	if (f[2].revents)	/* nobody reads what we would write */
		exit(0);
	if (!f[0].revents && f[1].revents) {
		r = read(0, early.b + early.n, sizeof early.b - early.n);
		early.n += r > 0 ? r : 0;
		/* told after OK: before, it would say: we gave up */
		early.end = r == 0 || (r < 0 && errno != EINTR &&
		    errno != EAGAIN);
	}
	early_send();
}

/* In a child: waits for an answer, for as long as anybody wants it. */
static void
race_wait(int ms)
{
	struct pollfd p[2] = { { dial.fd, POLLIN, 0 }, { dialler.fd, 0, 0 } };

	if (poll(p, 2, ms) > 0 && p[1].revents)
		_exit(0);
}

/* ssh can have the socket before the server has answered: what it says first
 * is on its way a round trip earlier, and a refusal is said in SSH.  Not where
 * the answer decides what happens next: whether another address is tried (with
 * a key the server's proof decides that), or --wait goes on. */
static int
client_greet(void)
{
	static struct proof proof;
	char key[KEY_LEN + B64_LEN + 20], b[LINE_LEN], line[LINE_LEN];
	int64_t now = reactor_clock(), left = wait_until - now + 999;
	int64_t until = now + (session_begun ? ANSWER_MAX : CLIENT_MAX +
	    cfg.wait * 1000);
	char resume[RESUME_LEN] = "", w[2];
	int is_early, r;

	is_early = cfg.fdpass && !cfg.wait && !is_racing &&
	    (*mine.name || !dial.left);
	hello_key(&proof, asks_as, key);
	early.held = *key != 0;
	early.sent = early.framed = 0;
	if (cfg.resume)
		snprintf(resume, sizeof resume, " resume=%s seq=%ld",
		    session_token, session_seq);
	step_begin(AT_HELLO, server_str());
	dial.meanwhile = is_racing ? race_wait : asks_as == R_CLIENT ?
	    client_wait : NULL;
	snprintf(b, sizeof b, "MSSH/2 %s %s wait=%ld%s%s%s\n",
	    role_names[asks_as], cfg.about, left > 0 ? (long)(left / 1000) : 0,
	    is_early ? " early=1" : cfg.fdpass || is_racing ? " late=1" : "",
	    resume, key);
	for (;;) {
		if (transmit(b, strlen(b)) < 0)
			return -1;
		if (is_early && !early.held)
			return 0;
		early_send();
		/* with a key a server of ours answers at once */
		dial.ms = early.held && dial.left ? HELLO_MORE :
		    (int)(until - reactor_clock());
		if (receive(A_LINE, line) < 0)
			return -1;
		r = reply_judge(line, early.held ? &proof : NULL, b);
		if (r < 0 && early.held && session_begun)
			dial.code = X_PROTOCOL;	/* another one may be ours */
		dial.unframed = cfg.resume && (begins(line,
		    "ERROR unsupported") || (r == 1 &&
		    word_get(line, "frames", w, sizeof w) < 0));
		if (r == 1 && dial.unframed)
			return fail(X_PROTOCOL, "the server %s does not resume "
			    "sessions", server_str());
		if (r != 2)
			return r == 1 ? 0 : -1;
		early.held = 0;
	}
}

static const struct dial no_child = { .code = X_FAIL, .fd = -1, .net = -1,
    .why = "there is no process to dial with" };

/* Is what this dial found nearer to a session than what that one found? */
static int
dial_better(const struct dial *d, const struct dial *than)
{
	/* one server's refusal does not end another's session */
	if (session_begun && than->code && (d->code == X_DENIED) !=
	    (than->code == X_DENIED))
		return than->code == X_DENIED;
	return d->unframed || !than->code ? 1 : d->failed_at !=
	    than->failed_at ?
	    d->failed_at > than->failed_at :
	    than->code == X_OFFLINE && d->code != X_OFFLINE;
}

/* In a child: dials one server and passes on what comes of it. */
static void
server_race(int i, int sock)
{
	srv = &servers[i];
	dialler.fd = sock;
	proc_keep(&sock, 1);
	ends_catch(SIG_DFL);
	report(dial_server(client_greet) == 0);
	_exit(0);
}

/* What came of dialling server i: if it is the best so far, *best is it.  1: it
 * is a connection. */
static int
race_take(int i, int sock, struct dial *best)
{
	struct dial d = no_child;
	int fds[NET_FDS], n = 0, won;

	if (net_recv_fds(sock, &d, sizeof d, fds, &n) != (ssize_t)sizeof d)
		d = no_child;
	won = d.nfds && n == d.nfds;
	if (!won && !dial_better(&d, best))
		return 0;
	*best = d;
	srv = &servers[i];
	best->fd = won ? fds[0] : -1;
	best->net = won ? fds[n - 1] : -1;
	return won;
}

/* A session that may have begun by a hello whose answer was lost is left to
 * itself, and its token with it. */
static void
token_new(void)
{
	uint64_t id[2];

	sys_random(id, sizeof id);
	snprintf(session_token, sizeof session_token, "%016llx%016llx",
	    (unsigned long long)id[0], (unsigned long long)id[1]);
}

/* Dials the servers in their order, each RACE_EVERY after the one before, or
 * when that has failed.  The first that says OK has it; it has not called the
 * node yet, nor have the others.  As dial_server(). */
static int
servers_dial(void)
{
	struct pollfd p[MAX_SERVERS + 1];
	struct dial best = { .fd = -1, .net = -1 };
	int pid[MAX_SERVERS], sock, begun = 0, left = 0, i, n;
	int won = 0, next = 1, over = 0;

	if (!session.heard)
		token_new();
	if (nservers == 1)
		return dial_server(client_greet);
	is_racing = 1;
	while (!won && !over && (left || begun < nservers)) {
		if (next && begun < nservers) {
			if ((pid[begun] = fork_with(&sock)) == 0)
				server_race(begun, sock);
			left += pid[begun] > 0;
			p[begun++] = (struct pollfd){ sock, POLLIN, 0 };
		}
		if (!left)
			continue;
		p[begun] = (struct pollfd){ session_begun ? session.out : 1,
		    0, 0 };
		n = poll(p, begun + 1, wait_show(cfg.node, begun < nservers ?
		    RACE_EVERY : DIAL_MAX * 1000));
		over = interrupted || (n > 0 && p[begun].revents);
		next = n == 0;
		for (i = 0; n > 0 && !won && i < begun; i++) {
			if (!p[i].revents)
				continue;
			won = race_take(i, p[i].fd, &best);
			close(p[i].fd);
			p[i].fd = -1;
			left--;
			next = 1;
		}
	}
	for (i = 0; i < begun; i++) {
		close(p[i].fd);
		if (pid[i] < 0)		/* that would be everybody */
			continue;
		kill(pid[i], SIGKILL);
		waitpid(pid[i], NULL, 0);
	}
	if (over && !interrupted)
		exit(0);		/* nobody reads what we would write */
	is_racing = 0;
	dial = best.code || won ? best : no_child;
	dial.talk = dial.leash = -1;
	return won ? 0 : -1;
}

/* Says why there is no connection.  Returns the exit code. */
static int
dial_told(void)
{
	int lost = (dial.code == X_UNREACHABLE || dial.code == X_TIMEOUT) &&
	    dial.failed_at < AT_HELLO;		/* on the way to it */
	const char *far = lost && (!srv->proxy.kind ||
	    dial.failed_at > AT_PROXY) ? "cannot reach the server " : "";
	const char *who = *far || nservers > 1 ? server_str() : "";

	say_log("%s%s%s%s", far, who, *who ? ": " : "", dial.why);
	return lost ? X_UNREACHABLE : dial.code;
}

/* Dials until a server has answered, or --wait is over. */
static void
client_dial(void)
{
	struct pollfd gone = { 1, 0, 0 };
	int ms = BACKOFF_MIN, told = 0, pause, lost;
	uint32_t r;

	wait_until = reactor_clock() + cfg.wait * 1000;
	while (servers_dial() < 0) {
		if (dial.unframed) {	/* then it is like any other */
			cfg.resume = 0;
			continue;
		}
		sys_random(&r, sizeof r);
		pause = ms / 2 + r % ms;
		lost = dial.code == X_UNREACHABLE || dial.code == X_TIMEOUT;
		if ((!lost && dial.code != X_BUSY && !dial.closed) ||
		    reactor_clock() + pause >= wait_until)
			exit(dial_told());
		if (!told++)
			say_log("%s: %s; trying again (--wait)",
			    server_str(), dial.why);
		if (poll(&gone, 1, wait_show(server_str(), pause)) > 0)
			exit(0);
		ms = ms < BACKOFF_NET ? 2 * ms : ms;
	}
}

/* Copies until both sides have ended.  NULL (also if ssh leaves first), or why
 * the session was lost.  One whose far side has ended goes on only as
 * long as it moves. */
static const char *
client_relay(void)
{
	struct io in = { .fd = 0 }, out = { .fd = 1 }, s = { .fd = dial.fd };
	struct relay_end h = { .net = dial.net };
	struct pollfd gone = { 1, 0, 0 };
	struct pump p[2];
	int64_t look = reactor_clock() + TICK;
	const char *why = NULL, *lost;
	int i, r, over;

	proc_stdio(&in, &s);
	pump_init(&p[0], &in, &s);
	pump_init(&p[1], &s, &out);
	if (early.end) {
		p[0].duct.eof = 1;
		shutdown(dial.fd, SHUT_WR);
	}
	while (!p[0].duct.eof || !p[1].duct.eof) {
		over = p[1].duct.eof && !p[0].duct.held && !(in.ready & IO_R);
		r = pumps_wait(p, &gone, 1, over ? 2 * TICK : TICK);
		if (r < 0)
			continue;
		if (gone.revents || (over && r == 0))
			break;
		for (i = 0; i < 2; i++) {
			if (duct_move(&p[i].duct, p[i].from, p[i].to) !=
			    DUCT_DEAD)
				continue;
			why = errno == EPIPE ? why : strerror(errno);
			if (i == 1 || !p[0].duct.held ||
			    (errno != EPIPE && errno != ECONNRESET))
				return why;
			p[0].duct.eof = 1;	/* its last bytes still come */
		}
		if (p[1].duct.eof && net_is_cut(dial.net))
			return "the network was cut";
		if (reactor_clock() < look)
			continue;
		look = reactor_clock() + TICK;
		if ((lost = net_lost(&h, h.net)))
			return lost;
	}
	if (p[1].duct.eof && !early.n && !p[0].duct.total && !p[1].duct.total)
		return "neither side sent a byte; an SSH client speaks first";
	return why;
}

/* A person sees what happens, also where ssh has made the terminal raw. */
static void
terminal_say(const char *fmt, ...)
{
	char b[300] = "\r\nmssh: ";
	va_list ap;

	/* one that is held (Ctrl-S) must not hold us */
	if (!isatty(2) || poll(&(struct pollfd){ 2, POLLOUT, 0 }, 1, 0) != 1)
		return;
	va_start(ap, fmt);
	vsnprintf(b + 8, sizeof b - 10, fmt, ap);
	va_end(ap);
	strcat(b, "\r\n");
	(void)!write(2, b, strlen(b));
}

/* The session's connection: dial keeps what belongs to it. */
static void
session_attach(int synced)
{
	int fd = dial.fd;

	if (dial.net == fd)
		dial.net = -1;
	dial.fd = -1;
	resumable_attach(&session, fd, synced);
	if (dial.net >= 0)
		session.net = dial.net;
}

/* A link or an address has changed: is the connection alive? */
static void
session_watch(struct resumable *r)
{
	int64_t now = reactor_clock();
	char b[4096];

	while (recv(r->also, b, sizeof b, 0) > 0)
		;
	r->ping_at = now;
	if (!r->blocked && r->due > now + CALL_ACK)
		r->due = now + CALL_ACK;
}

/* Dials until the session goes on, or is over. */
static void
session_redial(struct resumable *r, enum event e, const char *why)
{
	struct pollfd p[2] = { { r->out, 0, 0 }, { r->also, POLLIN, 0 } };
	uint32_t pause;
	int64_t left;

	if (e == E_BACK)
		terminal_say("connection to %s is back", cfg.node);
	if (e != E_LOST)
		return;
	if (r->synced)
		terminal_say("connection to %s lost (%s), reconnecting; ~. "
		    "ends ssh", cfg.node, why);
	pause = !r->synced || reactor_clock() - r->since < ALIVE_EVERY;
	for (;; pause = 1) {
		dial_close();
		left = r->lost_at + r->keep_ms - reactor_clock();
		if (left <= 0 || interrupted)
			return;
		if (pause) {
			sys_random(&pause, sizeof pause);
			pause = 200 + pause % 1800;
			poll(p, 2, pause < left ? (int)pause : (int)left);
		}
		if (p[0].revents) {
			resumable_left(r);
			return;
		}
		if (p[1].revents)
			session_watch(r);
		/* no frame came: the node may know nothing of it */
		session_seq += r->heard;
		r->log.sent = r->heard ? r->log.sent : 0;
		r->end_sent &= r->heard;
		if (servers_dial() == 0) {
			session_attach(!r->heard);
			return;
		}
		if (dial.code == X_DENIED) {
			resumable_end(r, 0, C_DENIED, "%s", dial.why);
			return;
		}
	}
}

static void
on_end(int sig)
{
	interrupted = sig;
}

/* Frames between ssh and the node, until the session is over. */
static void
session_run(void)
{
	struct resumable *r = &session;
	struct io in = { .fd = 0 }, out = { .fd = 1 };
	struct stat st;
	unsigned char *at;

	proc_stdio(&in, &out);
	/* who reads it may wait for its end, when ssh -f has gone already */
	if (fstat(2, &st) == 0 && (S_ISFIFO(st.st_mode) ||
	    S_ISSOCK(st.st_mode)))
		proc_null(2);
	ends_catch(on_end);
	signal(SIGTSTP, SIG_IGN);	/* ssh may be stopped for hours */
	resumable_init(r, 0, 1);
	r->also = net_watch();
	r->on_also = session_watch;
	r->on_event = session_redial;
	r->keep_ms = cfg.resume_for * 1000;
	if (early.n && backlog_room(&r->log, &at) < early.n)
		die(X_FAIL, "no memory:");
	if (early.n)
		memcpy(at, early.b, early.n);
	r->log.tail = early.n;
	r->log.sent = early.sent;
	r->in_end = early.end;
	early.n = early.sent = early.end = 0;
	session_begun = 1;
	session_attach(1);
	resumable_run(r);
	if (interrupted)
		exit(128 + interrupted);
	if (r->code == C_OK || r->ssh_gone || r->out_end)
		exit(0);
	if (r->code == C_MAX)
		die(X_LOST, "the session with %s is over: %s%s%s", cfg.node,
		    r->why, *dial.why ? ": " : "", dial.why);
	die(code_exits[r->code], "the session with %s is over: %s", cfg.node,
	    r->why);
}

static int
run_proxy(void)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	const char *why;

	if (cfg.fdpass || !cfg.resume_for)
		cfg.resume = 0;
	/* some programs give us a pipe all the same: then we stay */
	if (cfg.fdpass && (getsockname(1, (struct sockaddr *)&ss, &len) < 0 ||
	    ss.ss_family != AF_UNIX))
		cfg.fdpass = 0;
	client_dial();
	line_clear();
	if (early.end && !early.n)
		die(X_USAGE, "standard input is empty, but an SSH client "
		    "speaks first (see mssh ping)");
	if (cfg.resume)
		session_run();
	if (!cfg.fdpass && (why = client_relay()))
		die(X_FAIL, "connection to %s lost: %s", cfg.node, why);
	if (!cfg.fdpass)
		return 0;
	/* ssh gets the socket, and we are gone */
	net_user_timeout(dial.net, cfg.patience * 1000);
	net_blocking(dial.fd, 1);
	if (net_send_fds(1, "", 1, &dial.fd, 1) < 0)
		die(X_FAIL, "cannot hand the connection to ssh:");
	return 0;
}

/* config init, keygen */

static const char *word;	/* the one of the command line that is no
				 * option: a node, user@node, a key's name */

/* A copy that stays. */
static char *
text(const char *fmt, ...)
{
	char b[3 * PATH_MAX], *copy;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(b, sizeof b, fmt, ap);
	va_end(ap);
	if (!(copy = strdup(b)))
		die(X_FAIL, "no memory:");
	return copy;
}

/* Valid until the next call. */
static char *
conf_home(const char *name)
{
	static char b[PATH_MAX];
	const char *x = getenv("XDG_CONFIG_HOME"), *h = getenv("HOME");
	int xdg = x && *x == '/';

	snprintf(b, sizeof b, "%s%s/mssh/%s", xdg ? x : h ? h : "",
	    xdg ? "" : "/.config", name);
	return b;
}

static void
prompt(const char *question, char b[URL_LEN])
{
	fprintf(stdout, "%s", question);
	fflush(stdout);
	if (!fgets(b, URL_LEN, stdin))
		die(X_FAIL, "nothing was written");
	b[strcspn(b, "\n")] = '\0';
}

static int
run_config(void)
{
	char where[URL_LEN], b[URL_LEN], *path = conf_home("config"), *p;
	struct url u;
	FILE *f;

	if (!isatty(0))
		die(X_USAGE, "config init needs a terminal; see mssh.conf(5)");
	if (access(path, F_OK) == 0) {
		prompt(text("%s exists. Replace it? [y/N] ", path), b);
		if (*b != 'y' && *b != 'Y')
			die(X_FAIL, "nothing was written");
	}
	do
		prompt("Server (HOST, HOST:PORT or https://HOST/PATH): ",
		    where);
	while (url_parse(where, &u) < 0);
	prompt("Identity file for ssh (empty: ssh's own choice): ", b);
	umask(077);
	for (p = path; (p = strchr(p + 1, '/')); *p = '/') {
		*p = '\0';
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			die(X_FAIL, "cannot make %s:", path);
	}
	if (!(f = fopen(path, "w")) || fprintf(f, "# see mssh.conf(5)\n"
	    "server %s\n%s%s%s", where, *b ? "identity " : "", b,
	    *b ? "\n" : "") < 0 || fclose(f) != 0)
		die(X_FAIL, "cannot write %s:", path);
	fprintf(stdout, "Wrote %s\n", path);
	return 0;
}

/* A key for a person or a machine; the same line on both sides. */
static int
run_keygen(void)
{
	unsigned char secret[MAC_LEN];
	char line[KEY_LEN + B64_LEN + 3];
	struct stat st;
	int n;

	if (!key_name_ok(word))
		die(X_USAGE, KEY_RULE);
	proc_hide(1);
	if (fstat(1, &st) == 0 && S_ISREG(st.st_mode) && st.st_mode & 077)
		die(X_USAGE, "others could read the file that gets the key: "
		    "umask 077, or chmod 600");
	sys_random(secret, sizeof secret);
	n = snprintf(line, sizeof line, "%s ", word);
	b64_write(secret, line + n);
	n = strlen(strcat(line, "\n"));
	n -= write(1, line, n);		/* stdio would keep a copy */
	wipe(secret, sizeof secret);
	wipe(line, sizeof line);
	if (n)
		die(X_FAIL, "cannot write the key:");
	return 0;
}

/* list and ping */

/* Reads lines until one begins with first, or with other; in this step. */
static void
line_next(char line[LINE_LEN], const char *first, const char *other)
{
	int64_t until = reactor_clock() + ANSWER_MAX;
	const char *text;
	int code;

	do {
		dial.ms = (int)(until - reactor_clock());
		if (receive(A_LINE, line) < 0)
			die(dial.code, "%s", dial.why);
		if ((code = reply_parse(line, &text)) > 0)
			die(code_exits[code], "%s", text);
	} while (!word_is(line, first) && !word_is(line, other));
	while ((text = strpbrk(line, "\"\\")))	/* in JSON they mean more */
		line[text - line] = '?';
}

static const char columns[][9] = { "name", "state", "since", "address",
    "version", "parked", "sessions", "waiting", "server" };

static char **rows;		/* "name=web-1 state=online ..." */
static int nrows;

static int
row_cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Column i of a row (NULL: its title), in words for people; valid until the
 * next call. */
static const char *
cell(const char *row, size_t i, int words)
{
	static char b[LINE_LEN];
	long s;

	if (!row)
		return columns[i];
	if (word_get(row, columns[i], b, sizeof b) <= 0)
		return "-";
	if (words && i == 2 && num_parse(b, 0, INT_MAX, &s) == 0)
		ago(s * 1000LL, b);
	return b;
}

static void
row_json(const char *row)
{
	size_t i;
	long num;

	printf("{\"name\":\"%s\"", cell(row, 0, 0));
	for (i = 1; i < LEN(columns); i++)
		if (num_parse(cell(row, i, 0), 0, INT_MAX, &num) == 0)
			printf(",\"%s\":%ld", columns[i], num);
		else if (strcmp(cell(row, i, 0), "-"))
			printf(",\"%s\":\"%s\"", columns[i], cell(row, i, 0));
	printf("}\n");
}

/* Has another server the node of row k, too? */
static int
same_name(int k)
{
	char b[NODE_LEN + 1];

	memcpy(b, cell(rows[k - 1], 0, 0), sizeof b);
	return !strcmp(b, cell(rows[k], 0, 0));
}

/* For people in columns, below their titles; for programs with tabs. */
static void
rows_print(void)
{
	int people = isatty(1) && !cfg.names, wide[LEN(columns)] = { 0 };
	int last = cfg.names ? 0 : LEN(columns) - 1 - (nservers == 1);
	int pass, k, i, n;
	const char *s;

	for (pass = !people; pass < 2; pass++)
		for (k = -people; k < nrows; k++)
			for (i = cfg.names && k > 0 && same_name(k); i <= last;
			    i++) {
				s = cell(k < 0 ? NULL : rows[k], i, people);
				if (people && (n = strlen(s)) > wide[i])
					wide[i] = n;
				if (pass)
					printf("%-*s%s", i < last ? wide[i] : 0,
					    s, i == last ? "\n" : people ?
					    "  " : "\t");
			}
}

/* The rows of one server. */
static void
rows_read(void)
{
	char line[LINE_LEN], id[LINE_LEN], **more;
	const char *s;

	step_begin(AT_TALK, server_str());
	for (;; nrows++) {
		line_next(line, "NODE", "END");
		if (!(s = word_is(line, "NODE")))
			break;
		word_next(&s, id, sizeof id);
		if (node_parse(id, id, 0))
			die(X_PROTOCOL, "the server %s lists what is not a "
			    "node: %s", server_str(), id);
		if (nrows % 1024 == 0) {
			more = realloc(rows, (nrows + 1024) * sizeof *rows);
			if (!more)
				die(X_FAIL, "no memory:");
			rows = more;
		}
		rows[nrows] = nservers == 1 ? text("name=%s%s", id, s) :
		    text("name=%s server=%s%s", id, server_str(), s);
	}
}

static int
run_list(void)
{
	char *p;
	int i, good = 0, code = 0;

	asks_as = R_LIST;
	for (i = 0; i < nservers; i++) {
		srv = &servers[i];
		if (dial_server(client_greet) == 0) {
			rows_read();
			dial_close();
			good = 1;
		} else
			code = dial_told();
	}
	if (!good)
		exit(code);
	if (rows)
		qsort(rows, nrows, sizeof *rows, row_cmp);
	if (!cfg.json)
		rows_print();
	for (i = 0; i < nrows && cfg.json; i++)
		row_json(rows[i]);
	if (fflush(stdout) != 0)
		die(X_FAIL, "cannot write the list:");
	for (p = strtok(cfg.patterns, ","); p && word; p = strtok(NULL, ",")) {
		for (i = 0; i < nrows; i++)
			if (glob_match(p, cell(rows[i], 0, 0), 0))
				break;
		if (i == nrows)
			die(X_OFFLINE, "the server knows no node %s", p);
	}
	return code;
}

#define US(us) (long long)(us) / 1000, (int)((us) % 1000)

static int
us_cmp(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static int64_t
us_of(const char *line)
{
	char w[20] = "";
	long us = 0;

	if (word_get(line, "us", w, sizeof w) > 0)
		num_parse(w, 0, INT_MAX, &us);
	return us;
}

/* What the node says of its sshd, ready to print. */
static const char *
sshd_str(const char line[LINE_LEN])
{
	static char b[LINE_LEN];
	int64_t us = us_of(line);
	const char *s = strstr(line, " SSH-"), *e = word_is(line + 4, "error");

	if (!s)
		die(X_SSHD, "%s: %s", cfg.node, e ? e : "its sshd is unknown");
	snprintf(b, sizeof b, cfg.json ?
	    ",\"sshd_ms\":%lld.%03d,\"sshd\":\"%.255s\"" :
	    ", sshd %lld.%03d ms (%.255s)", US(us), s + 1);
	return b;
}

static int
run_ping(void)
{
	static int64_t *hop[2];
	char line[LINE_LEN], sshd[LINE_LEN];
	int i, k, look, n = cfg.count ? cfg.count : 1;
	int64_t began;

	asks_as = R_PING;
	client_dial();
	if (!(hop[0] = calloc(n, 2 * sizeof *hop[0])))
		die(X_FAIL, "no memory:");
	hop[1] = hop[0] + n;
	if (!cfg.json && (srv->proxy.kind || cfg.connect ||
	    srv->url.scheme != S_TCP))
		printf("%s: the time to the server includes %s%s%s\n", cfg.node,
		    srv->proxy.kind ? "the proxy and " : "", cfg.connect ?
		    "--connect to " : "", server_str());
	for (i = 0; i < n; i++) {
		if (i)
			poll(NULL, 0, 1000);
		look = !i && !cfg.no_sshd;
		k = snprintf(line, sizeof line, "PING%s\n",
		    look ? " sshd=1" : "");
		step_begin(AT_TALK, server_str());
		began = reactor_us();
		if (transmit(line, k) < 0)
			die(dial.code, "%s", dial.why);
		line_next(line, "PONG", "PONG");
		hop[0][i] = reactor_us() - began;
		step_begin(AT_AGENT, cfg.node);
		*sshd = '\0';
		do {			/* in any order */
			line_next(line, "AGENT", "SSHD");
			if (word_is(line, "SSHD"))
				memcpy(sshd, line, sizeof sshd);
		} while (!word_is(line, "AGENT"));
		if (look && !*sshd)
			line_next(sshd, "SSHD", "SSHD");
		hop[1][i] = us_of(line);
		printf(cfg.json ? "{\"node\":\"%s\",\"server_ms\":%lld.%03d,"
		    "\"agent_ms\":%lld.%03d%s}\n" : "%s: server %lld.%03d ms, "
		    "agent %lld.%03d ms%s\n", cfg.node, US(hop[0][i]),
		    US(hop[1][i]), look ? sshd_str(sshd) : "");
		if (fflush(stdout) != 0)
			die(X_FAIL, "cannot write:");
	}
	for (k = 0; k < 2 && n > 1 && !cfg.json; k++) {
		qsort(hop[k], n, sizeof *hop[k], us_cmp);
		printf("%s: %s min/median/max %lld.%03d/%lld.%03d/%lld.%03d "
		    "ms\n", cfg.node, k ? "agent" : "server",
		    US(hop[k][0]), US(hop[k][n / 2]), US(hop[k][n - 1]));
	}
	return 0;
}

/* options */

enum {
	SERVER = 1, AGENT = 2, PROXY = 4, SSH = 8, CONFIG = 16, KEYGEN = 32,
	LIST = 64, PING = 128, PEER = AGENT | PROXY | SSH | LIST | PING
};

enum {
	V_GONE,			/* the text says what holds in its place */
	V_STR, V_NUM, V_FLAG,	/* const char *, long, int; strings below */
	V_URL,			/* may hold a password */
	V_PATH,			/* ~/ in a configuration file is $HOME/ */
	V_FILE,			/* likewise, and we must be able to read it */
	V_HOST, V_LISTEN, V_TRUST	/* may be repeated */
};

#define TO(kind, field) V_##kind, .to = offsetof(struct config, field)
#define STR(field) TO(STR, field)
#define FLAG(field) TO(FLAG, field)
#define NUM(field, min, max) TO(NUM, field), .lo = min, .hi = max
#define GONE(text) { .name = text, .roles = SERVER }

/* All that can be said on the command line, and by an environment variable or
 * in a configuration file instead.  What has a variable is handed on to the
 * mssh proxy that ssh runs, by that variable: it needs no quotes, and nobody
 * else can read a password there.  A hop of ssh -J, if mssh serves it too,
 * inherits it all, MSSH_SERVER among it. */
static const struct option {
	const char *name;	/* NAME VALUE<tab>help; no help: not shown */
	uint8_t roles, kind;
	uint16_t to;		/* in cfg; a pointer would be a relocation */
	const char *env;
	enum keyword keyword;
	int lo, hi;
} options[] = {
	{ "host ADDR\tlisten on ADDR (0.0.0.0)", SERVER, TO(HOST, listen) },
	{ "port N\tthe port (8443); 0: any free", SERVER, NUM(port, 0, 65535) },
	{ "listen unix:PATH\ta Unix socket, and no port without --host",
	    SERVER, TO(LISTEN, listen) },
	{ "trusted ADDR[/BITS]\ta reverse proxy that names its client, or unix",
	    SERVER, TO(TRUST, trusted) },
	{ "proxy-protocol\ta PROXY header comes first", SERVER, FLAG(proxied) },
	{ "drain SECONDS\tafter SIGTERM sessions have so long to end (0)",
	    SERVER, NUM(drain, 0, 86400) },
	{ "keys FILE\tlet in only those whose key it has", SERVER, STR(keys) },
	{ "strict-reload\tSIGHUP also ends the sessions of removed keys",
	    SERVER, FLAG(strict) },
	{ "metrics WHERE\tanswer GET /metrics at ADDR:PORT or unix:PATH",
	    SERVER, STR(metrics) },
	{ "connections N\tconnections in all (what descriptors allow)",
	    SERVER, NUM(connections, 8, INT_MAX) },
	{ "startups N\tunauthenticated peers (half of the descriptors)",
	    SERVER, NUM(startups, 3, INT_MAX) },
	{ "sessions N\tsessions of a node (1/8 of --connections; agent: 64)",
	    SERVER | AGENT, NUM(sessions, 1, INT_MAX) },
	{ "server WHERE\t[tls://]HOST[:PORT], http[s]://HOST/PATH, unix:PATH",
	    PEER, TO(URL, server), "MSSH_SERVER", K_SERVER },
	{ "cafile FILE\tthe CAs that may vouch for the server (the system's)",
	    PEER, TO(FILE, cafile), "MSSH_CAFILE", K_CAFILE },
	{ "cert FILE\tour certificate, if the server asks for one",
	    PEER, TO(FILE, cert), "MSSH_CERT", K_CERT },
	{ "certkey FILE\tits private key, if it is not in --cert",
	    PEER, TO(FILE, certkey), "MSSH_CERTKEY", K_CERTKEY },
	{ "proxy URL\tthrough http[s]://HOST:PORT, socks5h://..., or none",
	    PEER, TO(URL, proxy), "MSSH_PROXY", K_PROXY },
	{ "connect CMD\tthrough CMD's standard input and output (%h %p)",
	    PEER, STR(connect), "MSSH_CONNECT", K_CONNECT },
	{ "ping SECONDS\ttime between pings (25)", AGENT, NUM(ping, 1, 50) },
	{ "ssh-host ADDR\tsshd's address (127.0.0.1)", AGENT, STR(ssh_host) },
	{ "ssh-port N\tsshd's port (22)", AGENT, NUM(ssh_port, 1, 65535) },
	{ "spare N\tconnections to park (1)", AGENT, NUM(spare, 1, MAX_SPARE) },
	{ "exec CMD\tserve sessions by CMD, as inetd would", AGENT, STR(exec) },
	{ "key FILE\tprove who we are; the server must, too",
	    PEER, TO(PATH, key), "MSSH_KEY_FILE", K_KEY },
	{ "allow PATTERNS\tserve only keys of such names", AGENT, STR(allow) },
	{ "source HOW\tclient (one 127/8 address each) or fixed (127.0.0.1)",
	    AGENT, STR(source) },
	{ "wait SECONDS\twait so long for the node to appear (0)",
	    PROXY | SSH, NUM(wait, 0, WAIT_MAX) },
	{ "json\tone object a line", LIST | PING, FLAG(json) },
	{ "names\tthe names only", LIST, FLAG(names) },
	{ "count N\tso many pings, a second apart (1)", PING,
	    NUM(count, 1, 1000000) },
	{ "no-sshd\tdo not look at the node's sshd", PING, FLAG(no_sshd) },
	{ "fdpass\tgive ssh the socket (ProxyUseFdpass)", PROXY, FLAG(fdpass) },
	{ "resume\tkeep the session when its connection is lost", PROXY,
	    FLAG(resume) },
	{ "no-resume\tthe session ends with its connection", SSH,
	    FLAG(no_resume) },
	{ "resume-for SECONDS\tso long (600); 0: not at all", AGENT | PROXY |
	    SSH, STR(keep), "MSSH_RESUME_FOR", K_RESUME_FOR },
	{ "resume-memory MIB\tfor what is not acknowledged (64)", AGENT,
	    NUM(resume_memory, 1, 65536) },
	{ "identity FILE\tssh's -i", SSH, STR(identity), NULL, K_IDENTITY },
	{ "patience SECONDS\tuntil a session's silent network is gone (120)",
	    SERVER | AGENT, NUM(patience, 10, 1200) },
	{ "user NAME\tas root, become NAME", SERVER | AGENT, STR(user) },
	{ "verbose\tlog every step", SERVER | AGENT, FLAG(verbose) },
	{ "self-test WHAT", SERVER | AGENT, STR(try) },
	GONE("source-startups\tone address may have two thirds of --startups"),
	GONE("parked\ta node may park 64 connections; --connections bounds "
	    "all"),
	GONE("key-parked\ta key may park half of --connections"),
	GONE("waiting\t64 clients may wait for a node"),
	GONE("key-sessions\ta key may have 1/16 of --connections as sessions"),
	{ .name = NULL }
};

static char **args;			/* what follows the command, and NULL */
static int nargs;			/* at most */
static int nopts;			/* ssh's options, first in args */
static int command;			/* where in args ssh's command begins */
static const char *self;

/* a word of the command line, fit for a message: valid as peer_str() */
#define shown(s) url_mask(s, (char[200]){ 0 }, 200)
/* where an option's value is */
#define VALUE(o, type) (*(type *)((char *)&cfg + (o)->to))
#define STRING(o) VALUE(o, const char *)

/* Becomes ssh, whose ProxyCommand is this program again. */
static int
run_ssh(void)
{
	char name[NAME_LEN], q[2 * PATH_MAX], **argv, **a;
	const struct option *o;
	const char *v, *me = !strchr(self, '/') ? "mssh" : *self == '/' ? self :
	    text("%s/%s", getcwd(q, sizeof q) ? q : ".", self);
	int i, resume = !cfg.no_resume && cfg.resume_for;

	if (!(a = argv = calloc(nargs + 24, sizeof *argv)))
		die(X_FAIL, "no memory:");
	if (shell_quote(me, q, sizeof q) < 0)
		die(X_USAGE, "the path of this program is too long");
	host_name(cfg.node, &srv->url, cfg.connect, name);
	if (!cfg.connect)
		cfg.connect = "none";	/* a file may say something else */
	for (o = options; o->name; o++)
		if (o->env && (v = STRING(o)) && setenv(o->env, v, 1) < 0)
			die(X_FAIL, "no memory:");
	*a++ = "ssh";
	*a++ = text("-oProxyCommand=%s proxy --%s --wait %ld -- %s", q,
	    resume ? "resume" : "fdpass", cfg.wait, cfg.node);
	*a++ = resume ? "-oProxyUseFdpass=no" : "-oProxyUseFdpass=yes";
	/* in quotes: ssh before 8.7 would split it at a '=' */
	*a++ = text("-oHostName=\"%s\"", name);
	if (cfg.identity) {
		*a++ = "-i";
		*a++ = (char *)cfg.identity;
	}
	for (i = 0; i < nopts; i++)
		*a++ = args[i];
	/* a server that says nothing must not hold ssh for ever; behind the
	 * options of the person, whose word counts first */
	*a++ = text("-oConnectTimeout=%ld", CLIENT_MAX / 1000 + cfg.wait);
	/* reverse proxies cut what is silent for a minute, as a rule */
	if (resume)		/* what is unanswered must not end it */
		*a++ = "-oServerAliveCountMax=1000000";
	if (srv->url.scheme != S_TCP && srv->url.scheme != S_UNIX)
		*a++ = text("-oServerAliveInterval=%d", PING_EVERY / 1000);
	*a++ = "--";
	*a++ = (char *)word;
	while (args[command])
		*a++ = args[command++];
	setenv("SHELL", "/bin/sh", 1);	/* what ssh runs a ProxyCommand with */
	execvp("ssh", argv);
	die(X_FAIL, "cannot run ssh (install OpenSSH's client):");
	return 0;
}

/* environment and configuration */

/* Takes what a file says of options that are not set yet: a stanza that matches
 * the node wins over what stands before the first stanza, and the first of
 * each counts. */
static struct conf {
	const char *path;
	int in_stanza, hit;		/* hit: what stands here is for us */
	char *early[K_NODE];		/* set before any stanza */
	char *servers;			/* set in this part: more may follow */
} conf;

/* The servers that s names, with blanks between them.  How many, or -1: one is
 * malformed. */
static int
servers_parse(const char *s)
{
	char w[URL_LEN];
	int n, r;

	for (n = 0; (r = word_next(&s, w, sizeof w)) != 0; n++) {
		if (n == MAX_SERVERS && r > 0)
			die(X_USAGE, "at most %d servers", MAX_SERVERS);
		if (r < 0 || url_parse(w, &servers[n].url) < 0)
			return -1;
	}
	return n ? n : -1;
}

static const char *
conf_line(char *line)
{
	const char *why = NULL, *home = getenv("HOME");
	const struct option *o = options;
	struct stat st;
	char *arg = line, *p;
	int k = conf_parse(line, &arg, &why), more, tilde;

	if (k == K_SERVER && servers_parse(arg) < 0)
		return "server needs " URL_FORMS;
	if (k == K_PROXY && strchr(arg, '@') &&
	    (stat(conf.path, &st) < 0 || st.st_mode & 7))
		return "others can read the password of the proxy: chmod o-r "
		    "this file";
	if (k == K_NODE) {
		conf.in_stanza = 1;
		conf.servers = NULL;
		for (p = arg; *(p += strcspn(p, " \t")); *p = ',')
			;
		conf.hit = glob_list(arg, cfg.node, 0);
	}
	if (why || k == K_NODE || k == K_NONE || !conf.hit)
		return why;
	while ((int)o->keyword != k)
		o++;
	more = k == K_SERVER && STRING(o) && STRING(o) == conf.servers;
	if (!more && STRING(o) != (conf.in_stanza ? conf.early[k] : NULL))
		return NULL;
	tilde = (o->kind == V_PATH || o->kind == V_FILE) && home &&
	    begins(arg, "~/");
	p = more ? text("%s %s", conf.servers, arg) :
	    text("%s%s", tilde ? home : "", arg + tilde);
	free(conf.early[k]);
	conf.early[k] = conf.in_stanza ? NULL : p;
	STRING(o) = p;
	if (k == K_SERVER)
		conf.servers = p;
	return NULL;
}

/* A file that we may not read is an error if we must. */
static void
conf_read(const char *path, int must)
{
	char why[PATH_MAX + 200];

	conf = (struct conf){ .path = path, .hit = 1 };
	if (file_lines(path, AT_FDCWD, path, 0, conf_line, why,
	    sizeof why) < 0 && errno != ENOENT && errno != ENOTDIR &&
	    (errno != EACCES || must))
		die(X_USAGE, "%s", why);
}

static const char proxy_vars[][12] = { "MSSH_PROXY", "https_proxy",
    "HTTPS_PROXY", "http_proxy", "all_proxy", "ALL_PROXY" };

/* Where the environment says so, as for curl(1).  HTTP_PROXY is not among the
 * variables, since a web server sets that from what a client says.  A proxy
 * that was asked for of us is used, or is an error.  The variables that were
 * set for other programs may hold what we cannot use: that is told, and stops
 * nobody. */
static void
proxy_load(void)
{
	int bits = srv->url.scheme == S_TCP ? 0x30 :	/* which of them */
	    srv->url.scheme == S_HTTP ? 0x38 : 0x36;		/* may count */
	const char *asked = cfg.proxy, *no = getenv("no_proxy"), *v;
	const char *why = NULL, *name = "--proxy", *use = asked;
	size_t i;

	if (!no || !*no)
		no = getenv("NO_PROXY");
	if (asked == getenv(proxy_vars[0]))
		name = proxy_vars[0];
	if (cfg.connect || srv->url.scheme == S_UNIX ||
	    (!asked && no && no_proxy_has(no, srv->url.host)))
		use = "none";
	for (i = 0; !use && i < LEN(proxy_vars); i++)
		if (bits >> i & 1 && (v = getenv(proxy_vars[i])) && *v)
			use = getenv(name = proxy_vars[i]);
	if (!use || !strcmp(use, "none"))
		return;
	if (proxy_parse(use, &srv->proxy, &why) == 0)
		why = srv->proxy.kind >= PX_SOCKS4 &&
		    srv->url.port[strspn(srv->url.port, DIGITS)] ?
		    "a SOCKS proxy needs a number as the server's port" : NULL;
	if (why && asked)
		die(X_USAGE, "%s: %s (or none)", name, why);
	if (why) {
		say_log("%s: %s; it is not used", name, why);
		memset(&srv->proxy, 0, sizeof srv->proxy);
	}
}

/* Where the server is, and the transport there.  What no option has set is in
 * the environment or a configuration file.  Our own file must be readable where
 * it matters who we are and where to; the machine's may be another's, whose key
 * is none of our business. */
static void
transport_load(void)
{
	const struct option *o;
	const char *only = getenv("MSSH_CONFIG"), *v;
	size_t i;

	/* a proxy that is asked for here is stronger than a command there */
	if (cfg.proxy && !cfg.connect)
		cfg.connect = "none";
	for (o = options; o->name; o++)
		if (o->env && !STRING(o) && (v = getenv(o->env)) && *v)
			STRING(o) = v;
	conf_read(only && *only ? only : conf_home("config"),
	    !cfg.server || !cfg.key);
	if (!only || !*only)
		conf_read("/etc/mssh/config", !cfg.server);
	for (o = options; o->name; o++)
		if (o->kind == V_FILE && STRING(o) &&
		    access(STRING(o), R_OK) < 0)
			die(X_USAGE, "--%.*s %s:", (int)strcspn(o->name, " "),
			    o->name, STRING(o));
	if (cfg.keep && num_parse(cfg.keep, 0, 2000000, &cfg.resume_for) < 0)
		die(X_USAGE, "--resume-for needs a number from 0 to 2000000, "
		    "not '%s'", shown(cfg.keep));
	if (!cfg.server)
		die(X_USAGE, "no server is known: use --server HOST[:PORT], "
		    "MSSH_SERVER, or run 'mssh config init'");
	if ((nservers = servers_parse(cfg.server)) < 0)
		die(X_USAGE, "the server '%s' is not " URL_FORMS " (ports: 1 "
		    "to 65535)", shown(cfg.server));
	if (cfg.connect && !strcmp(cfg.connect, "none"))
		cfg.connect = NULL;
	if (cfg.certkey && !cfg.cert)
		die(X_USAGE, "--certkey needs --cert");
	for (srv = servers; srv < servers + nservers; srv++) {
		if (srv->url.scheme == S_UNIX && cfg.connect)
			die(X_USAGE, "--connect cannot reach a Unix socket");
		if (cfg.connect && command_expand(cfg.connect, srv->url.host,
		    srv->url.port, (char[4000]){ 0 }, 4000) < 0)
			die(X_USAGE, "--connect knows %%h, %%p and %%%% only, "
			    "and at most 4000 characters");
		proxy_load();
	}
	srv = servers;
	/* what --exec runs may be somebody else's shell */
	for (i = 0; cfg.exec && i < LEN(proxy_vars); i++)
		if ((v = getenv(proxy_vars[i])) && strchr(v, '@'))
			unsetenv(proxy_vars[i]);	/* a password, maybe */
}

static const char *
key_line(char *line)
{
	const char *bad;

	line += strspn(line, BLANKS);
	return !*mine.name && *line && *line != '#' &&
	    secret_parse(line, &mine, &bad) < 0 ? bad : NULL;
}

/* agent, proxy: reads the key that is named, or lies where it is looked for.
 * Ours must be good if it is there; the machine's may be another's. */
static void
key_load(void)
{
	char why[PATH_MAX + 200];
	const char *path = cfg.key;
	struct stat st;

	if (!path && lstat(path = conf_home("key"), &st) < 0 &&
	    access(path = "/etc/mssh/key", R_OK) < 0)
		return;
	proc_hide(1);
	if (file_lines(path, AT_FDCWD, path, 1, key_line, why, sizeof why) < 0)
		die(X_USAGE, "%s", why);
	if (!*mine.name)
		die(X_USAGE, "%s holds no key (mssh keygen makes one)", path);
}

/* the command line */

static const struct role_entry {
	const char *name;
	int bit;
	int (*run)(void);
	const char *usage;
} roles[] = {
	{ "server", SERVER, run_server, "mssh server [options]\n\t"
	    "pair clients with nodes; runs on the public host" },
	{ "agent", AGENT, run_agent, "mssh agent [node] [options]\n\t"
	    "make this machine a node; runs behind NAT" },
	{ "proxy", PROXY, run_proxy, "mssh proxy node [options]\n\t"
	    "connect standard input and output to a node's sshd" },
	{ "list", LIST, run_list, "mssh list [pattern...] [options]\n\t"
	    "show the nodes that the server knows" },
	{ "ping", PING, run_ping, "mssh ping node [options]\n\t"
	    "time the way to a node and its sshd" },
	{ "config", CONFIG, run_config, "mssh config init\n\t"
	    "write ~/.config/mssh/config by asking" },
	{ "keygen", KEYGEN, run_keygen, "mssh keygen name\n\t"
	    "print a new key, for --key and --keys" },
	/* the last: it is meant where none is named */
	{ "ssh", SSH, run_ssh, "mssh [ssh] user@node [options] "
	    "[ssh options] [command]\n\trun ssh to a node" },
}, *role;

static void
usage(int code)
{
	FILE *f = code ? stderr : stdout;
	const struct option *o;
	const char *help;

	if (!role) {
		fprintf(f, "usage:\n");
		for (role = roles; role < roles + LEN(roles); role++)
			fprintf(f, "  %s\n", role->usage);
		fprintf(f, "  mssh --version\n  mssh COMMAND --help\n");
		exit(code);
	}
	fprintf(f, "usage: %s\n", role->usage);
	for (o = options; o->name; o++)
		if (o->roles & role->bit && o->kind != V_GONE &&
		    (help = strchr(o->name, '\t')))
			fprintf(f, "  --%-20.*s %s\n", (int)(help - o->name),
			    o->name, help + 1);
	if (role->bit == SSH)
		fprintf(f, "  All other options and the command go to ssh.\n");
	exit(code);
}

static void
option_set(const struct option *o, char *v)
{
	char *at, *sep;

	if (o->kind == V_NUM) {
		if (num_parse(v, o->lo, o->hi, &VALUE(o, long)) < 0)
			die(X_USAGE, "--%.*s needs a number from %d to %d, "
			    "not '%s'", (int)strcspn(o->name, " "), o->name,
			    o->lo, o->hi, shown(v));
	} else if (o->kind == V_TRUST) {
		if (!strcmp(v, "unix"))
			cfg.trust_unix = 1;
		else if (cfg.ntrusted == MAX_TRUSTED)
			die(X_USAGE, "at most %d --trusted", MAX_TRUSTED);
		else if (net_parse(v, &cfg.trusted[cfg.ntrusted++]) < 0)
			die(X_USAGE, "--trusted needs an address, a network "
			    "like 10.0.0.0/8 or unix, not '%s'", shown(v));
	} else if (o->kind == V_HOST || o->kind == V_LISTEN) {
		if (cfg.nlisten == MAX_HOSTS)
			die(X_USAGE, "at most %d --host and --listen",
			    MAX_HOSTS);
		if (o->kind == V_LISTEN && (!begins(v, "unix:") || !v[5]))
			die(X_USAGE, "--listen needs unix:PATH (for addresses "
			    "there are --host and --port)");
		cfg.npaths += o->kind == V_LISTEN;
		cfg.listen[cfg.nlisten++] = v;
	} else if (o->kind == V_URL && (at = strrchr(v, '@'))) {
		/* nobody shall see it in the list of processes */
		STRING(o) = text("%s", v);
		if ((sep = strstr(v, "://")) && sep + 3 < at)
			v = sep + 3;
		memset(v, 'x', at - v);
	} else if (o->keyword == K_SERVER && STRING(o))
		STRING(o) = text("%s %s", STRING(o), v);
	else
		STRING(o) = v;
}

/* Takes the option at args[*i] and its value. */
static void
option(int *i)
{
	char *a = args[*i], *v;
	const char *name = !strcmp(a, "-h") ? "--help" :
	    !strcmp(a, "-v") ? "--verbose" :
	    a[1] == 'c' && strchr(DIGITS, a[2]) ? "--count" : a;
	const struct option *o = options;
	int n;

	if (!strcmp(name, "--help"))
		usage(0);
	n = strcspn(name += 2, "=");
	while (o->name && (name[-1] != '-' || !(o->roles & role->bit) ||
	    strncmp(o->name, name, n) || !strchr(" \t", o->name[n])))
		o++;
	if (!o->name)
		die(X_USAGE, "%s has no option %.*s (see mssh %s --help)",
		    role->name, (int)strcspn(shown(a), "="), shown(a),
		    role->name);
	if (o->kind == V_GONE)
		die(X_USAGE, "--%.*s is gone: %s", n, name, o->name + n + 1);
	if (o->kind == V_FLAG) {
		if (name[n])
			die(X_USAGE, "--%.*s takes no value", n, name);
		VALUE(o, int) = 1;
		return;
	}
	v = name[n] ? strchr(a, '=') + 1 : a[1] == 'c' && a[2] ? a + 2 :
	    args[++*i];
	if (!v || !*v)
		die(X_USAGE, "--%.*s needs %.*s", n, name,
		    (int)strcspn(o->name + n + 1, "\t"), o->name + n + 1);
	option_set(o, v);
}

/* Sorts args: our options, the one word that may be among them, ssh's options,
 * which come first in args, and ssh's command, which begins with the second
 * word. */
static void
words_sort(void)
{
	int ssh = role->bit == SSH, rest = 0;
	char *a;

	for (; (a = args[command]); command++) {
		if (rest || *a != '-' || !a[1]) {
			if (word && ssh)
				break;
			if (word && role->bit == LIST)
				a = text("%s,%s", word, a);
			else if (word || role->bit == SERVER)
				die(X_USAGE, "'%s' is one word too many (see "
				    "mssh %s --help)", shown(a), role->name);
			word = a;
		} else if (!strcmp(a, "--"))
			rest = 1;
		else if (a[1] == '-' || !ssh)
			option(&command);
		else {
			args[nopts++] = a;
			if (ssh_takes_next(a) && args[command + 1])
				args[nopts++] = args[++command];
		}
	}
}

static void
parse(void)
{
	const char *node, *at, *bad;

	words_sort();
	if ((!word && !(role->bit & (SERVER | AGENT | LIST))) ||
	    (role->bit == CONFIG && strcmp(word, "init")))
		usage(X_USAGE);
	if (strcmp(cfg.source, "client") && strcmp(cfg.source, "fixed"))
		die(X_USAGE, "--source needs client or fixed, not '%s'",
		    shown(cfg.source));
	if (!(role->bit & PEER))
		return;
	node = role->bit == SSH && (at = strrchr(word, '@')) ? at + 1 : word;
	if (role->bit == SSH && (node == word + 1 || *word == '-'))
		die(X_USAGE, "'%s' is not user@node", shown(word));
	cfg.about = role->bit == LIST ? cfg.patterns : cfg.node;
	if (role->bit == LIST) {
		if ((bad = patterns_parse(node ? node : "*", cfg.patterns)))
			die(X_USAGE, "'%s': %s", shown(node), bad);
		node = NULL;
	}
	bad = node ? node_parse(node, cfg.node, role->bit != AGENT) : NULL;
	if (bad && !strcmp(node, "%n"))
		die(X_USAGE, "this ssh does not know %%n: write %%h instead");
	if (bad) {
		node_suggest(node, cfg.node);
		die(X_USAGE, "'%s' is not a node id: %s; try '%s'",
		    shown(node), bad, cfg.node);
	}
	transport_load();
	if (role->bit != SSH)
		key_load();
}

int
main(int argc, char *argv[])
{
	proc_start();
	if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
		usage(argc < 2 ? X_USAGE : 0);
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V"))
		return fprintf(stdout, "mssh %s (%s, %s)\n", VERSION,
		    reactor_name, proc_sandbox()) < 0;
	self = argv[0];
	args = argv + 1;
	nargs = argc;
	for (role = roles; role->bit != SSH && strcmp(*args, role->name);)
		role++;
	if (!strcmp(*args, role->name))
		args++;
	else if (**args != '-' && !strchr(*args, '@'))
		die(X_USAGE, "unknown command '%s' (mssh user@node runs ssh; "
		    "see mssh --help)", shown(*args));
	parse();
	sys_random(hash_key, sizeof hash_key);
	sys_random(&next_id, sizeof next_id);
	net_probes = cfg.patience < 40 ? 1 : (cfg.patience - 30) / 10;
	if (role->bit & (SERVER | AGENT) && reactor_open() < 0)
		die(X_FAIL, "cannot start the event loop:");
	return role->run();
}
