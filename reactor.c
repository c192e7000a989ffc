/* reactor.c - the operating system, see reactor.h
 *
 * Theory.  A turn of the loop fetches what the kernel has, folds every event
 * into its watcher's ready bits, and only then runs callbacks from a queue.
 * So there never is a fetched event that a callback could make stale: taking
 * a watcher out of the queue is all that io_del() has to do.
 *
 * An event is an edge.  A bit of ready stays set until its owner has seen
 * EAGAIN (or a short read, which says the same at half the price), hence one
 * registration per descriptor, and no interest masks to get wrong.
 */
#define _GNU_SOURCE		/* splice, pipe2, accept4, TCP_INFO */
#define _DARWIN_C_SOURCE

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <arpa/inet.h>
#include <netinet/tcp.h>

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <netdb.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#if defined(__linux__) && !defined(USE_KQUEUE)
# include <sys/epoll.h>
# include <sys/timerfd.h>
#else
# include <sys/event.h>
#endif
#ifdef __linux__
# include <sys/prctl.h>
# include <sys/syscall.h>
#endif
#ifdef __FreeBSD__
# include <sys/capsicum.h>
#endif
#ifdef __APPLE__
# include <sys/random.h>
# define TCP_KEEPIDLE TCP_KEEPALIVE
#endif

#include "reactor.h"

#if defined(__linux__) && !defined(NO_SPLICE)
# define HAVE_SPLICE 1
# define COPIES "splice"
#else
# define HAVE_SPLICE 0
# define COPIES "read/write"
#endif

/* The calls that Linux has since 5.1 have the same numbers on all machines, but
 * for where they count from: FIRST.  ARCH is its name for a machine that has a
 * table of calls below (AUDIT_ARCH_*), MODE the word of struct stat64 that is
 * st_mode, and LOW where the low half of an argument is. */
#ifdef SYS_pidfd_send_signal
# define FIRST (SYS_pidfd_send_signal - 424)
#else
# define FIRST 0
#endif
#if defined(__x86_64__) && !defined(__ILP32__)
# define ARCH 0xc000003e
#elif defined(__aarch64__) && !defined(__ILP32__) && !defined(__AARCH64EB__)
# define ARCH 0xc00000b7
#elif defined(__ARM_EABI__) && defined(__ARMEL__)
# define ARCH 0x40000028
# define MODE 4
#elif defined(__mips__) && _MIPS_SIM == _ABIO32
# define ARCH (0x40000008 - LOW * 0x10000000)	/* 0x8 if big-endian */
# define MODE 6
#else
# define ARCH 0
#endif
#define LOW (4 * (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__))

#define LEN(a) (sizeof (a) / sizeof *(a))

enum {
	EVENTS = 256,			/* fetched in one turn */
	SMALL = 16 << 10,		/* a read that fills it turns bulk */
	BIG = 256 << 10,		/* best pipe, measured */
	BUDGET = 256 << 10,		/* bytes one callback may move */
	POOL = 64,			/* idle pipes kept */
	LOWAT = 128 << 10,		/* unsent bytes in the kernel */
	LAZY_MS = 200,			/* how long the lazy ones gather */
	TURN = 64			/* callbacks in one turn */
};

struct deadline {
	int64_t at;
	struct io *io;
};

/* The run queues are rings with a sentinel that is never run.  A turn runs TURN
 * of quick at most and then one of bulk: a keystroke waits for one budget,
 * however many copies there are.  turn_end goes to quick's end before, so what
 * callbacks add waits for a turn: no two keep the loop from fetching events. */
static struct io quick = { .next = &quick, .prev = &quick };
static struct io bulk = { .next = &bulk, .prev = &bulk };
static struct io turn_end;

static struct deadline *heap;
static size_t nheap, nadded, room;
static int64_t clock_ms;
static int halted, maxfd = 2, forked;
void (*reactor_turn)(int64_t us);

static struct io sigio;
static int sigpipe[2] = { -1, -1 };
int net_probes = 9, duct_fds;
static void (*sigfn[NSIG])(void);

/* run queues: a watcher is in one of them, or next is NULL */

static void
unlink_io(struct io *io)
{
	if (!io->next)
		return;
	io->next->prev = io->prev;
	io->prev->next = io->next;
	io->next = io->prev = NULL;
}

static void
append(struct io *q, struct io *io)
{
	if (io->next)
		return;
	io->next = q;
	io->prev = q->prev;
	q->prev->next = io;
	q->prev = io;
}

static void
note(struct io *io, unsigned bits)
{
	io->ready |= bits;
	append(io->bulk ? &bulk : &quick, io);
}

/* backends: each defines backend_open, _add, _del, _wait */

#if defined(__linux__) && !defined(USE_KQUEUE)

const char reactor_name[] = "epoll, " COPIES;

enum { SHORT_IS_EMPTY = 1 };	/* EPOLLPRI tells of an urgent mark */

/* What may wait a little is in an epoll set of its own, which is an event of
 * the main one, once (EPOLLONESHOT): then a timer starts, and when it runs out
 * all that has gathered is handled in one go, and the set is armed again.  Ten
 * thousand pings cost ten thousand reads, but not as many wake-ups, which are
 * the dear part.  A watcher that stops being lazy moves to the main set, where
 * epoll_ctl(2) reports at once what is there already. */
static int ep = -1, lazy = -1;
static struct io lazyio, resume;

/* A timer far away that is cancelled when the clock is set, as the kernel does
 * on resume (timerfd_create(2)): a laptop that wakes up looks at its deadlines
 * at once.  Nothing is lost where this fails. */
static void
on_resume(struct io *io)
{
	struct itimerspec far = { .it_value.tv_sec = time(NULL) + 31536000 };
	uint64_t n;

	if (read(io->fd, &n, sizeof n) >= 0 || errno == ECANCELED ||
	    errno == EAGAIN)
		timerfd_settime(io->fd, TFD_TIMER_ABSTIME |
		    TFD_TIMER_CANCEL_ON_SET, &far, NULL);
}

static int
lazy_arm(int op)
{
	struct epoll_event e = { EPOLLIN | EPOLLONESHOT, { &lazyio } };

	return epoll_ctl(ep, op, lazy, &e);
}

static int
backend_add(struct io *io)
{
	struct epoll_event e = { EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI |
	    EPOLLET, { io } };

	return epoll_ctl(io->lazy ? lazy : ep, EPOLL_CTL_ADD, io->fd, &e);
}

/* A forked child may keep the description open, and with it a registration
 * that would point at a watcher long gone. */
static void
backend_del(struct io *io)
{
	epoll_ctl(io->lazy ? lazy : ep, EPOLL_CTL_DEL, io->fd, NULL);
}

/* What an edge says becomes bits that stay.  An error makes both directions
 * ready, as only a call that fails can tell which error it is.  IO_H and IO_U
 * are never cleared: they change what a short read means, see io_short(). */
static int
fetch(int set, int ms)
{
	static struct epoll_event events[EVENTS];
	int i, end, n = epoll_wait(set, events, EVENTS, ms);
	unsigned e;

	for (i = 0; i < n; i++) {
		e = events[i].events;
		end = (e & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
		note(events[i].data.ptr,
		    (e & (EPOLLIN | EPOLLPRI) || end ? IO_R : 0) |
		    (e & (EPOLLOUT | EPOLLHUP | EPOLLERR) ? IO_W : 0) |
		    (e & EPOLLPRI ? IO_U : 0) | (end ? IO_H : 0));
	}
	return n;
}

static int
backend_wait(int ms)
{
	return fetch(ep, ms) < 0 && errno != EINTR ? -1 : 0;
}

static void
on_lazy(struct io *io)
{
	if (io_expired(io)) {
		while (fetch(lazy, 0) == EVENTS)
			;
		if (lazy_arm(EPOLL_CTL_MOD) == 0)
			return;		/* else they were never heard again */
	}
	io_after(io, LAZY_MS);
}

static int
backend_open(void)
{
	int fd;

	if ((ep = epoll_create1(EPOLL_CLOEXEC)) < 0 ||
	    (lazy = epoll_create1(EPOLL_CLOEXEC)) < 0 ||
	    io_add(&lazyio, -1, on_lazy) < 0 || lazy_arm(EPOLL_CTL_ADD) < 0)
		return -1;
	fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
	if (fd >= 0 && io_add(&resume, fd, on_resume) == 0)
		on_resume(&resume);
	return 0;
}

#else /* kqueue: the lazy ones are as quick as the others */

const char reactor_name[] = "kqueue, " COPIES;

enum { SHORT_IS_EMPTY = 0 };

static int kq = -1;

static int
backend_open(void)
{
	return (kq = kqueue()) < 0 ? -1 : fcntl(kq, F_SETFD, FD_CLOEXEC);
}

static int
change(struct io *io, int filter, int flags)
{
	struct kevent k;

	EV_SET(&k, io->fd, filter, flags, 0, 0, io);
	return kevent(kq, &k, 1, NULL, 0, NULL);
}

static void
backend_del(struct io *io)
{
	change(io, EVFILT_READ, EV_DELETE);
	change(io, EVFILT_WRITE, EV_DELETE);
}

static int
backend_add(struct io *io)
{
	struct stat st;
	int r, w;

	/* no event would tell of an empty file, or of a file's end */
	if (fstat(io->fd, &st) == 0 && S_ISREG(st.st_mode))
		return errno = EPERM, -1;
	r = change(io, EVFILT_READ, EV_ADD | EV_CLEAR);
	w = change(io, EVFILT_WRITE, EV_ADD | EV_CLEAR);
	/* one filter alone may fail, as on a pipe whose other end is closed */
	if (r == 0 || w == 0) {
		if ((r == 0 && w == 0) || errno != ENOMEM)
			return 0;
		backend_del(io);
		errno = ENOMEM;
	} else if (errno != ENOMEM && errno != EBADF)
		errno = EPERM;		/* no filter knows such a file */
	return -1;
}

static int
backend_wait(int ms)
{
	static struct kevent ev[EVENTS];
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000L };
	unsigned b;
	int i, n;

	n = kevent(kq, NULL, 0, ev, EVENTS, ms < 0 ? NULL : &ts);
	for (i = 0; i < n; i++) {
		b = ev[i].filter == EVFILT_READ ? IO_R : IO_W;
		/* of a write filter it may be our own half-close */
		if (ev[i].flags & EV_EOF)
			b |= b == IO_R ? IO_H : IO_R;
		note(ev[i].udata, b);
	}
	return n < 0 && errno != EINTR ? -1 : 0;
}

#endif

/* Deadlines: a binary heap, the next one at its root; the two children of i are
 * 2i + 1 and 2i + 2, and none is earlier than its parent.  Each watcher knows
 * its index, so a deadline is moved or removed in O(log n) steps without being
 * looked for.  The times stand in the heap itself: comparing touches no
 * watcher. */
static void
heap_put(size_t i, struct deadline d)
{
	heap[i] = d;
	d.io->heap = i;
}

/* Place i is free: d goes there, or up or down from there.  After a step up no
 * child is earlier than d, and the second loop ends at once. */
static void
heap_sift(size_t i, struct deadline d)
{
	size_t k;

	for (; i && heap[(i - 1) / 2].at > d.at; i = (i - 1) / 2)
		heap_put(i, heap[(i - 1) / 2]);
	for (; (k = 2 * i + 1) < nheap; i = k) {
		if (k + 1 < nheap && heap[k + 1].at < heap[k].at)
			k++;
		if (heap[k].at >= d.at)
			break;
		heap_put(i, heap[k]);
	}
	heap_put(i, d);
}

static void
heap_remove(struct io *io)
{
	size_t i = io->heap;

	io->heap = -1;
	if (i != --nheap)
		heap_sift(i, heap[nheap]);
}

/* the loop */

#ifndef CLOCK_BOOTTIME
# define CLOCK_BOOTTIME CLOCK_MONOTONIC
#endif

int64_t
reactor_now(void)
{
	return clock_ms;
}

int64_t
reactor_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t
reactor_clock(void)
{
	return clock_ms = reactor_us() / 1000;
}

static void
expire(void)
{
	struct io *io;

	while (nheap && heap[0].at <= clock_ms) {
		io = heap[0].io;
		heap_remove(io);
		note(io, IO_T);
	}
}

static int
timeout(void)
{
	int64_t ms;

	if (quick.next != &quick || bulk.next != &bulk)
		return 0;
	if (!nheap)
		return -1;
	ms = heap[0].at - clock_ms;	/* at most what io_after() was told */
	return ms < 0 ? 0 : (int)ms;
}

static void
run_first(struct io *q)
{
	struct io *io = q->next;

	unlink_io(io);
	io->fn(io);
}

int
reactor_run(void)
{
	int64_t began = 0, now, n;

	for (halted = 0; !halted;) {
		clock_ms = (now = reactor_us()) / 1000;
		if (reactor_turn && began)
			reactor_turn(now - began);
		if (backend_wait(timeout()) < 0)
			return -1;
		began = reactor_us();
		clock_ms = began / 1000;
		expire();
		append(&quick, &turn_end);
		for (n = 0; quick.next != &turn_end && !halted && n < TURN; n++)
			run_first(&quick);
		unlink_io(&turn_end);
		if (bulk.next != &bulk && !halted)
			run_first(&bulk);
	}
	return 0;
}

void
reactor_halt(void)
{
	halted = 1;
}

/* signals: the handler writes the number to a pipe, the loop reads it */

static void
caught(int sig)
{
	unsigned char c = sig;
	int saved = errno;

	(void)!write(sigpipe[1], &c, 1);	/* full: enough is said */
	errno = saved;
}

static void
on_signal(struct io *io)
{
	unsigned char c;

	while (read(io->fd, &c, 1) == 1)
		sigfn[c]();
	io->ready &= ~IO_R;
}

int
reactor_signal(int sig, void (*fn)(void))
{
	struct sigaction sa = { .sa_handler = caught, .sa_flags = SA_RESTART };

	sigfn[sig] = fn;
	sigemptyset(&sa.sa_mask);
	return sigaction(sig, &sa, NULL);
}

static int
set_fd(int fd)
{
	return fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ? -1 :
	    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

int
reactor_open(void)
{
	reactor_clock();
	if (backend_open() < 0 || pipe(sigpipe) < 0 ||
	    set_fd(sigpipe[0]) < 0 || set_fd(sigpipe[1]) < 0)
		return -1;
	return io_add(&sigio, sigpipe[0], on_signal);
}

/* watchers */

int
io_add(struct io *io, int fd, void (*fn)(struct io *))
{
	struct deadline *p;

	assert(!io->fn);
	/* a place among the deadlines: so io_after() cannot fail */
	if (nadded == room) {
		if (!(p = realloc(heap, (room * 5 / 4 + 64) * sizeof *p)))
			return -1;
		heap = p;
		room = room * 5 / 4 + 64;
	}
	io->ready = io->lazy = io->sole = 0;
	io->heap = -1;
	io->fd = fd;
	if (fd >= 0 && backend_add(io) < 0) {
		if (errno != EPERM)
			return io->fd = -1;
		note(io, IO_R | IO_W | IO_U);	/* a plain file */
	}
	if (fd > maxfd)
		maxfd = fd;
	io->fn = fn;
	nadded++;
	return 0;
}

int
io_lazy(struct io *io, int on)
{
	if (io->lazy == on)
		return 0;
	backend_del(io);
	io->lazy = on;
	return backend_add(io);
}

void
io_after(struct io *io, int ms)
{
	struct deadline d = { clock_ms + ms, io };

	assert(io->fn);
	io->ready &= ~IO_T;
	if (ms >= 0)
		heap_sift(io->heap < 0 ? nheap++ : (size_t)io->heap, d);
	else if (io->heap >= 0)
		heap_remove(io);
}

int
io_expired(struct io *io)
{
	int yes = io->ready & IO_T;

	io->ready &= ~IO_T;
	return yes != 0;
}

void
io_again(struct io *io)
{
	note(io, 0);
}

/* A short read says the same as EAGAIN: the buffer is empty, and the next byte
 * is a new edge.  Not so after IO_U, as a read stops at an urgent mark with
 * bytes behind it.  And not after IO_H: the end of file was reported together
 * with the bytes, and no edge will tell of it again. */
void
io_short(struct io *io)
{
	if (SHORT_IS_EMPTY && !(io->ready & (IO_U | IO_H)))
		io->ready &= ~IO_R;
}

void
io_del(struct io *io)
{
	if (!io->fn)
		return;
	if (io->fd >= 0)
		backend_del(io);
	unlink_io(io);
	if (io->heap >= 0)
		heap_remove(io);
	io->fn = NULL;
	nadded--;
}

void
io_close(struct io *io)
{
	int fd = io->fd;

	/* close(2) alone takes it out of the set, unless there are copies */
	if (io->sole && !forked)
		io->fd = -1;
	io_del(io);
	if (fd >= 0)
		close(fd);
	io->fd = -1;
}

/* sockets */

static void
opt(int fd, int level, int name, int v)
{
	setsockopt(fd, level, name, &v, sizeof v);
}

void
net_keepalive(int fd, int idle, int interval, int count)
{
	opt(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
#ifdef TCP_KEEPIDLE
	opt(fd, IPPROTO_TCP, TCP_KEEPIDLE, idle);
	opt(fd, IPPROTO_TCP, TCP_KEEPINTVL, interval);
	opt(fd, IPPROTO_TCP, TCP_KEEPCNT, count);
#endif
}

/* What every connection gets; accepted ones inherit it.  An urgent byte stays
 * in line, so that a relay passes it on as data instead of losing it. */
static void
net_tune(int fd)
{
	opt(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	opt(fd, SOL_SOCKET, SO_OOBINLINE, 1);
#ifdef TCP_NOTSENT_LOWAT
	opt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, LOWAT);
#endif
	net_keepalive(fd, 30, 10, net_probes);
}

/* Returns -1 with the errno of what failed before. */
static int
give_up(int fd)
{
	int e = errno;

	close(fd);
	errno = e;
	return -1;
}

static int
new_socket(int family, int type)
{
	int fd = socket(family, type, 0);

	return fd >= 0 && set_fd(fd) < 0 ? give_up(fd) : fd;
}

static socklen_t
length(const struct sockaddr *sa)
{
	return sa->sa_family == AF_UNIX ? sizeof(struct sockaddr_un) :
	    sa->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) :
	    sizeof(struct sockaddr_in);
}

int
net_listen(const void *to, int v6only)
{
	const struct sockaddr *sa = to;
	int fd = new_socket(sa->sa_family, SOCK_STREAM);

	if (fd < 0)
		return -1;
	opt(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (sa->sa_family == AF_INET6)
		opt(fd, IPPROTO_IPV6, IPV6_V6ONLY, v6only);
	net_tune(fd);
	return bind(fd, sa, length(sa)) < 0 || listen(fd, 4096) < 0 ?
	    give_up(fd) : fd;
}

int
net_listen_unix(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct flock all = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char lock[sizeof sa.sun_path + 5];
	struct stat st;
	mode_t before;
	int fd;

	if (strlen(path) >= sizeof sa.sun_path)
		return errno = ENAMETOOLONG, -1;
	memcpy(sa.sun_path, path, strlen(path));
	/* Locked until we end, if we may: on a BSD a full queue refuses a
	 * connection as a stale socket does. */
	snprintf(lock, sizeof lock, "%s.lock", path);
	fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd >= 0 && fcntl(fd, F_SETLK, &all) < 0 &&
	    (errno == EAGAIN || errno == EACCES))
		return errno = EADDRINUSE, give_up(fd);
	if ((fd = net_dial(&sa, 0)) >= 0)
		close(fd);
	else if (errno == ECONNREFUSED && stat(path, &st) == 0 &&
	    S_ISSOCK(st.st_mode))
		unlink(path);
	before = umask(0111);
	fd = net_listen(&sa, 0);
	umask(before);
	return fd;
}

int
net_inherited(int *bad)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	int n = fds ? atoi(fds) : 0, fd, on;
	socklen_t len = sizeof on;

	if (!pid || atoi(pid) != (int)getpid())
		return 0;
	for (fd = 3; fd < 3 + n; fd++) {
		if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) < 0 ||
		    !on)
			return *bad = fd, -1;
		set_fd(fd);
		net_tune(fd);
	}
	return n > 0 ? n : 0;
}

int
net_listen_private(struct sockaddr_un *sa)
{
	const char *tmp = getenv("TMPDIR");
	int n, fd;

	*sa = (struct sockaddr_un){ .sun_family = AF_UNIX };
	n = snprintf(sa->sun_path, sizeof sa->sun_path - 2, "%s/mssh.XXXXXX",
	    tmp && *tmp == '/' ? tmp : "/tmp");
	errno = ENAMETOOLONG;
	if (n > (int)sizeof sa->sun_path - 3 || !mkdtemp(sa->sun_path))
		return -1;
	memcpy(sa->sun_path + n, "/s", 3);
	if ((fd = net_listen(sa, 0)) < 0) {
		n = errno;
		net_unlisten_private(sa);
		errno = n;
	}
	return fd;
}

void
net_unlisten_private(struct sockaddr_un *sa)
{
	unlink(sa->sun_path);
	*strrchr(sa->sun_path, '/') = '\0';
	rmdir(sa->sun_path);
}

#ifdef __linux__

int
net_accept(int lfd, struct sockaddr *sa, socklen_t *len)
{
	return accept4(lfd, sa, len, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

unsigned
net_silent(int fd)
{
	struct tcp_info i;
	socklen_t len = sizeof i;

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len) < 0)
		return 0;
	/* one probe is under way in any quiet connection now and then */
	return i.tcpi_unacked || i.tcpi_probes >= 2 ? i.tcpi_last_ack_recv : 0;
}

/* The groups, as musl has no linux/rtnetlink.h: link, IPv4 and IPv6 address. */
int
net_watch(void)
{
	struct { sa_family_t family; uint16_t pad; uint32_t pid, groups; }
	    nl = { AF_NETLINK, 0, 0, 0x1 | 0x10 | 0x100 };
	int fd = new_socket(AF_NETLINK, SOCK_RAW);

	return fd >= 0 && bind(fd, (struct sockaddr *)&nl, sizeof nl) < 0 ?
	    give_up(fd) : fd;
}

#else

int
net_accept(int lfd, struct sockaddr *sa, socklen_t *len)
{
	int fd = accept(lfd, sa, len);

	return fd >= 0 && set_fd(fd) < 0 ? give_up(fd) : fd;
}

unsigned
net_silent(int fd)
{
	return (void)fd, 0;
}

int
net_watch(void)
{
	return new_socket(PF_ROUTE, SOCK_RAW);
}

#endif

/* Linux owns all of 127/8; elsewhere the kernel refuses, and the plain address
 * serves. */
int
net_dial(const void *to, uint32_t alias)
{
	const struct sockaddr *sa = to;
	struct sockaddr_in from;
	int fd = new_socket(sa->sa_family, SOCK_STREAM);

	if (fd < 0)
		return -1;
	net_tune(fd);
	memcpy(&from, to, sizeof from);
	if (alias && sa->sa_family == AF_INET &&
	    ntohl(from.sin_addr.s_addr) >> 24 == 127) {
		from.sin_port = 0;
		from.sin_addr.s_addr = htonl(0x7f800000 | (alias & 0x7fff00) |
		    (alias % 254 + 1));
		(void)bind(fd, (struct sockaddr *)&from, sizeof from);
	}
	return connect(fd, sa, length(sa)) < 0 && errno != EINPROGRESS ?
	    give_up(fd) : fd;
}

/* Families in turn (RFC 8305 4). */
int
net_lookup(const char *host, const char *port, int family, int numeric,
    struct sockaddr_storage *to, int max, const char **why)
{
	struct addrinfo hint = { .ai_socktype = SOCK_STREAM,
	    .ai_family = family, .ai_flags = numeric ? AI_NUMERICHOST : 0 };
	struct addrinfo *list, *a, *next[2];
	int e, n = 0, turn = 0;

	if ((e = getaddrinfo(host, port, &hint, &list))) {
		*why = e == EAI_SYSTEM ? strerror(errno) : gai_strerror(e);
		errno = e == EAI_AGAIN ? EAGAIN : 0;
		return 0;
	}
	for (next[0] = next[1] = list; n < max && (next[0] || next[1]);
	    turn = !turn) {
		for (a = next[turn]; a && (a->ai_family == list->ai_family) ==
		    turn;)
			a = a->ai_next;
		if (a)
			memcpy(&to[n++], a->ai_addr, a->ai_addrlen);
		next[turn] = a ? a->ai_next : NULL;
	}
	freeaddrinfo(list);
	return n;
}

/* Connecting a datagram socket sends nothing, but chooses the address. */
int
net_self(int fd, const struct sockaddr_storage *to, int n,
    char out[INET_ADDRSTRLEN])
{
	struct sockaddr_in in = { .sin_family = AF_UNSPEC };
	socklen_t len = sizeof in;
	int i, udp;

	getsockname(fd, (struct sockaddr *)&in, &len);
	for (i = 0; in.sin_family != AF_INET && i < n; i++) {
		udp = to[i].ss_family == AF_INET ?
		    new_socket(AF_INET, SOCK_DGRAM) : -1;
		len = sizeof in;
		if (udp >= 0 && connect(udp, (const struct sockaddr *)&to[i],
		    len) == 0)
			getsockname(udp, (struct sockaddr *)&in, &len);
		close(udp);
	}
	return in.sin_family == AF_INET && inet_ntop(AF_INET, &in.sin_addr,
	    out, INET_ADDRSTRLEN) ? 0 : -1;
}

int
net_error(int fd)
{
	int e = 0;
	socklen_t len = sizeof e;

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len) < 0 ? errno : e;
}

void
net_user_timeout(int fd, int ms)
{
#ifdef TCP_USER_TIMEOUT
	opt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, ms);
#else
	(void)fd, (void)ms;
#endif
}

void
net_reset(int fd)
{
	struct linger l = { 1, 0 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
}

/* A relay must pass on that a connection broke, or half a file looks like a
 * whole one.  Where a companion carries the connection (TLS), the loop has a
 * copy of its socket, and either side may learn of the end first.  Linger of
 * 0 s makes the last close(2) send a reset; it belongs to the socket, so it is
 * also the sign by which the processes that share one tell each other of a cut.
 * That it can be read no more wakes the one that waits for it. */
void
net_cut(int net)
{
	net_reset(net);
	shutdown(net, SHUT_RD);
}

int
net_is_cut(int net)
{
	struct linger l = { 0, 0 };
	socklen_t len = sizeof l;

	return getsockopt(net, SOL_SOCKET, SO_LINGER, &l, &len) == 0 &&
	    l.l_onoff && l.l_linger == 0;
}

int
net_blocking(int fd, int on)
{
	int fl = fcntl(fd, F_GETFL);

	if (fl >= 0)
		fcntl(fd, F_SETFL, on ? fl & ~O_NONBLOCK : fl | O_NONBLOCK);
	return fl;
}

/* Descriptors come with the first byte of a message on a Unix socket, however
 * many calls its bytes take.  The flags of a description travel with it,
 * close-on-exec does not.  This is the room for them, aligned as cmsg(3) wants
 * it. */
union fds {
	struct cmsghdr align;
	char buf[CMSG_SPACE(NET_FDS * sizeof(int))];
};

int
net_send_fds(int sock, const void *data, size_t len, const int *fds, int n)
{
	union fds u = { .buf = "" };
	struct iovec v = { (void *)data, len };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1,
	    .msg_control = u.buf,
	    .msg_controllen = n ? CMSG_SPACE(n * sizeof *fds) : 0 };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	if (c) {
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof *fds);
		memcpy(CMSG_DATA(c), fds, n * sizeof *fds);
	}
	return sendmsg(sock, &m, MSG_NOSIGNAL) == (ssize_t)len ? 0 : -1;
}

ssize_t
net_recv_fds(int sock, void *data, size_t len, int *fds, int *n)
{
	union fds u;
	struct iovec v = { data, len };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1,
	    .msg_control = u.buf, .msg_controllen = sizeof u.buf };
	ssize_t got = recvmsg(sock, &m, 0);
	struct cmsghdr *c;
	int i, more, fd;

	if (got <= 0 || !(c = CMSG_FIRSTHDR(&m)) ||
	    c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
		return got;
	more = (c->cmsg_len - CMSG_LEN(0)) / sizeof *fds;
	for (i = 0; i < more; i++) {	/* those too many are closed */
		memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
		*n < NET_FDS ? set_fd(fds[(*n)++] = fd) : close(fd);
	}
	return got;
}

void
sys_random(void *p, size_t n)
{
	if (getentropy(p, n) < 0)	/* only in a kernel without it */
		abort();
}

/* the service manager, private files */

static int notify_fd = -1;

void
sys_notify_open(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	size_t n = path ? strlen(path) : 0;
	int fd;

	if (!n || n >= sizeof sa.sun_path || (*path != '/' && *path != '@'))
		return;
	memcpy(sa.sun_path, path, n);
	if (*path == '@')
		sa.sun_path[0] = '\0';
	fd = new_socket(AF_UNIX, SOCK_DGRAM);
	notify_fd = connect(fd, (struct sockaddr *)&sa,
	    offsetof(struct sockaddr_un, sun_path) + n) < 0 ? give_up(fd) : fd;
}

void
sys_notify(const char *fmt, ...)
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

int64_t
sys_resident(void)
{
	static int fd = -2;	/* opened before the sandbox, or never */
	long pages = 0;
	char b[64] = "";

	if (fd == -2)
		fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	if (lseek(fd, 0, SEEK_SET) == 0 && read(fd, b, sizeof b - 1) > 0)
		pages = strtol(b + strcspn(b, " "), NULL, 10);
	return (int64_t)pages * sysconf(_SC_PAGESIZE);
}

void *
sys_shared(size_t n)
{
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANON,
	    -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* Twice in the time that systemd allows (sd_watchdog_enabled(3)). */
int
sys_watchdog(void)
{
	const char *us = getenv("WATCHDOG_USEC");
	unsigned long long ms = us ? strtoull(us, NULL, 10) / 2000 : 0;

	if (ms)
		sys_notify("WATCHDOG=1");
	return !ms || ms > INT_MAX ? 10000 : (int)ms;
}

/* By number: a libc may call newfstatat(2) or statx(2), whose path no filter
 * can judge.  On 32 bits its struct stat is not the kernel's. */
#if defined(__linux__) && defined(MODE)
static int
file_stat(int fd, struct stat *st)
{
	uint32_t k[32];
	int r = syscall(SYS_fstat64, fd, k);

	st->st_mode = k[MODE];
	st->st_uid = k[MODE + 2];
	return r;
}
# define fstat file_stat
#elif defined(__linux__) && ARCH
# define fstat(fd, st) syscall(SYS_fstat, fd, st)
#endif

/* Opens a file, if nobody else can read it (a secret) or change it.  What is no
 * file, like /dev/null, holds no secret and nothing that could be changed. */
static FILE *
file_open(const char *path, int dir, const char *name, int secret, char *why,
    size_t size)
{
	struct stat st;
	FILE *f = NULL;
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | (secret ?
	    O_NONBLOCK : 0)), e = 0;

	if (fd < 0 || fstat(fd, &st) < 0 || !(f = fdopen(fd, "r")))
		snprintf(why, size, "%s: %s", path, strerror(e = errno));
	else if (!S_ISREG(st.st_mode) && secret)
		snprintf(why, size, "%s is not a regular file", path);
	else if (S_ISREG(st.st_mode) && st.st_uid && st.st_uid != geteuid())
		snprintf(why, size, "%s belongs to another user: chown it to "
		    "yours", path);
	else if (S_ISREG(st.st_mode) && st.st_mode & (!secret ? 022 :
	    st.st_uid ? 077 : 037))
		snprintf(why, size, "others can %s %s: chmod %s %s", secret ?
		    "read" : "change", path, !secret ? "go-w" :
		    st.st_uid == geteuid() ? "600" : "640", path);
	else
		return f;
	if (f)
		fclose(f);
	else if (fd >= 0)
		close(fd);
	errno = e;
	return NULL;
}

/* Secrets were there: volatile, or the compiler leaves the call out. */
static void *(*volatile forget)(void *, int, size_t) = memset;

int
file_lines(const char *path, int dir, const char *name, int secret,
    const char *(*fn)(char *line), char *why, size_t size)
{
	char line[1024], ahead[1024];
	const char *bad = NULL;
	int n, e = 0;
	FILE *f = file_open(path, dir, name, secret, why, size);

	if (!f)
		return -1;
	setvbuf(f, ahead, _IOFBF, sizeof ahead);
	for (n = 1; !bad && fgets(line, sizeof line, f); n++)
		if ((bad = strchr(line, '\n') || feof(f) ? fn(line) :
		    "the line is too long"))
			snprintf(why, size, "%s:%d: %s", path, n, bad);
	if (!bad && (e = ferror(f)))
		snprintf(why, size, "%s: %s", path, strerror(errno));
	fclose(f);
	forget(line, 0, sizeof line);
	forget(ahead, 0, sizeof ahead);
	errno = 0;
	return bad || e ? -1 : 0;
}

/* children */

void
proc_start(void)
{
	sigset_t none;
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= 2);
	if (fd > 2)
		close(fd);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGCHLD, SIG_DFL);
	signal(SIGPIPE, SIG_IGN);	/* splice has no MSG_NOSIGNAL */
}

/* As many descriptors as there may be, for us alone: a child may use select(2).
 */
static struct rlimit old_limit;		/* rlim_max 0: not raised */

int
proc_raise(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &old_limit) < 0)
		return 64;
	r.rlim_cur = r.rlim_max = old_limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &r) < 0)
		r = old_limit;
	return r.rlim_cur > INT_MAX ? INT_MAX : (int)r.rlim_cur;
}

void
proc_hide(int hide)
{
#ifdef PR_SET_DUMPABLE
	prctl(PR_SET_DUMPABLE, (long)!hide, 0L, 0L, 0L);
#else
	struct rlimit none = { 0, 0 };

	if (hide)
		setrlimit(RLIMIT_CORE, &none);
#endif
}

/* A terminal or a file shares its flags with others: they are put back. */
static int stdio_flags[2] = { -1, -1 };

static void
stdio_restore(void)
{
	int fd;

	for (fd = 1; fd >= 0; fd--)	/* the older ones last */
		if (stdio_flags[fd] >= 0)
			fcntl(fd, F_SETFL, stdio_flags[fd]);
}

static void
on_quit(int sig)
{
	stdio_restore();
	_exit(128 + sig);
}

void
proc_stdio(struct io *in, struct io *to_out)
{
	static const int quit[] = { SIGINT, SIGTERM, SIGHUP };
	size_t i;

	atexit(stdio_restore);
	for (i = 0; i < LEN(quit); i++)		/* nohup(1)'s stay ignored */
		if (signal(quit[i], SIG_IGN) != SIG_IGN)
			signal(quit[i], on_quit);
	stdio_flags[0] = net_blocking(0, 0);
	stdio_flags[1] = net_blocking(1, 0);
	in->ready |= isatty(0) ? IO_U : 0;
	to_out->ready |= isatty(1) || (stdio_flags[1] >= 0 &&
	    stdio_flags[1] & O_APPEND) ? IO_U : 0;
}

/* No watcher ever had a descriptor above maxfd; 64 more have none.  What is
 * above was inherited: close_range(2) closes it where there is such a call. */
void
proc_keep(const int *keep, int n)
{
	int i, k, end = maxfd + 64;

	for (k = 0; k < n; k++)
		if (keep[k] >= end)
			end = keep[k] + 1;
	for (i = 3; i < end; i++) {
		for (k = 0; k < n && keep[k] != i; k++)
			;
		if (k == n)
			close(i);
	}
#ifdef SYS_close_range
	syscall(SYS_close_range, (unsigned)end, ~0u, 0);
#endif
}

void
proc_null(int fd)
{
	int null = open("/dev/null", O_RDWR);

	dup2(null, fd);
	if (null > 2)
		close(null);
}

void
proc_oom_normal(void)
{
	int fd;
	char c;

	proc_hide(0);		/* else it would be root's */
	fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
	if (fd >= 0 && read(fd, &c, 1) == 1 && c == '-')
		(void)!write(fd, "0", 1);	/* at any offset */
	proc_hide(1);
}

/* fork(2) for another program, with fd as standard input and output: no handler
 * of ours may run in it, and a copy of our descriptors may be open from now on
 * (io_close()). */
static int
proc_fork(int fd)
{
	static const int ours[] = { SIGTERM, SIGINT, SIGHUP, SIGCHLD,
	    SIGALRM, SIGPIPE };
	sigset_t all, old;
	size_t i;
	int pid;

	net_blocking(fd, 1);
	forked = 1;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &old);
	if ((pid = fork()) == 0) {
		for (i = 0; i < LEN(ours); i++)
			signal(ours[i], SIG_DFL);
		if (old_limit.rlim_max)
			setrlimit(RLIMIT_NOFILE, &old_limit);
		proc_oom_normal();
		if (dup2(fd, 0) < 0 || dup2(fd, 1) < 0)
			_exit(127);
	}
	sigprocmask(SIG_SETMASK, &old, NULL);
	return pid;
}

int
proc_spawn(const char *cmd, int fd, const char *first)
{
	int pid = proc_fork(fd);

	if (pid != 0)
		return pid;
	if (write(1, first, strlen(first)) == (ssize_t)strlen(first))
		execl("/bin/sh", "sh", "-c", cmd, (char *)NULL);
	_exit(127);
}

/* The program leads a session, and so a process group, of its own: a key typed
 * at our terminal does not interrupt it, and kill(2) of -pid reaches it and all
 * that it has started.  Signal 0 fails when nobody is left: proc_end(), whose
 * caller ignores SIGCHLD, as a zombie would count as one. */
int
proc_exec(char *const argv[], int fd, int err)
{
	int pid = proc_fork(fd);

	if (pid != 0)
		return pid;
	setsid();
	if (dup2(err, 2) == 2) {
		proc_keep(NULL, 0);
		execvp(*argv, argv);
	}
	dprintf(2, "cannot run %s: %s\n", *argv, strerror(errno));
	_exit(127);
}

void
proc_end(int pid, int ds)
{
	int i;

	for (i = 0; i < ds + 10 && kill(-pid, i == ds ? SIGTERM : 0) == 0; i++)
		poll(NULL, 0, 100);
	kill(-pid, SIGKILL);
	_exit(0);
}

/* Confinement begins before the first byte of a peer is read.  What is needed
 * is open by then; names are looked up and connections made by a process that
 * is not confined.  Linux has two mechanisms; each works without the other.
 * seccomp sees calls and their numbers, but not where a pointer points to, so
 * it cannot judge a path.  Landlock judges paths and ports, but not calls.  A
 * call that is not in the table kills the process: no code of ours makes it. */

int
proc_user(const char *name)
{
	struct passwd *pw;

	errno = 0;
	if (!(pw = getpwnam(name)) || initgroups(name, pw->pw_gid) < 0 ||
	    setgid(pw->pw_gid) < 0 || setuid(pw->pw_uid) < 0)
		return -1;
	errno = EPERM;		/* who can come back has not left */
	return pw->pw_uid && setuid(0) == 0 ? -1 : 0;
}

int
proc_try(const char *what, int dir)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(9),
	    .sin_addr = { htonl(INADDR_LOOPBACK) } };
	struct stat st;

	return (!strcmp(what, "open") ? open("/etc/passwd", O_RDONLY) :
	    !strcmp(what, "outside") ? openat(dir, "/etc/passwd", O_RDONLY) :
	    !strcmp(what, "stat") ? fstatat(dir, "/etc/passwd", &st, 0x1000) :
	    !strcmp(what, "write") ? openat(dir, "new", O_WRONLY | O_CREAT,
	    0600) : !strcmp(what, "connect") ? net_dial(&sa, 0) :
	    !strcmp(what, "unix") ? socket(AF_UNIX, SOCK_STREAM, 0) :
	    !strcmp(what, "fork") ? fork() :
	    !strcmp(what, "exec") ? execl("/bin/true", "true", (char *)NULL) :
	    !strcmp(what, "map") && mmap(NULL, 4096, PROT_READ | PROT_EXEC,
	    MAP_PRIVATE | MAP_ANON, -1, 0) != MAP_FAILED ? 0 : -1) < 0 ? -1 : 0;
}

#if defined(__linux__) && !defined(NO_SANDBOX)

/* See landlock(7).  Built by hand, as musl has no linux/landlock.h. */
enum {
	LL_CREATE = FIRST + 444, LL_ADD, LL_RESTRICT,
	LL_BENEATH = 1, LL_READ_FILE = 1 << 2,
	LL_NET = 3			/* to bind and to connect, TCP */
};

/* Everything in the file system that a version of Landlock can forbid. */
static const uint16_t ll_fs[] = { 0, 0x1fff, 0x3fff, 0x7fff, 0x7fff, 0xffff };

# define landlock_version() syscall(LL_CREATE, NULL, 0L, 1L)

static int
landlock(int dir)
{
	long v = landlock_version();
	struct { uint64_t fs, net; } a = {
	    ll_fs[v < 0 ? 0 : v < 5 ? v : 5], v >= 4 ? LL_NET : 0 };
	struct { uint64_t may; int32_t fd; } in = { LL_READ_FILE, dir };
	int fd, r = -1;

	if (v <= 0 || (fd = syscall(LL_CREATE, &a, v >= 4 ? 16L : 8L, 0L)) < 0)
		return -1;
	if (dir < 0 || syscall(LL_ADD, fd, (long)LL_BENEATH, &in, 0L) == 0)
		r = syscall(LL_RESTRICT, fd, 0L);
	close(fd);
	return r;
}

# if ARCH

/* 32 bits have newer calls, for big files and for times after 2038; musl has
 * other names for the older of those. */
# ifdef SYS_clock_gettime32
#  define SYS_clock_gettime SYS_clock_gettime32
#  define SYS_gettimeofday SYS_gettimeofday_time32
#  define SYS_timerfd_settime SYS_timerfd_settime32
# endif
# ifdef MODE
enum { FCNTL = SYS_fcntl64, FSTAT = SYS_fstat64, MMAP = SYS_mmap2 };
# else
enum { FCNTL = SYS_fcntl, FSTAT = SYS_fstat, MMAP = SYS_mmap };
# endif

/* The system calls that are left, whatever their arguments are, each group with
 * those that make them.  The calls that a libc may choose instead (for another
 * kernel, another malloc) stand beside them.  A call that is new in the loop, a
 * duct or a callback needs an entry here, and its reason in t/54-confine.t. */
static const short for_all[] = {
	/* sockets, ducts, peek(), on_signal(), messages (musl: writev) */
	SYS_read, SYS_write, SYS_writev, SYS_splice, SYS_recvfrom, SYS_accept4,
	SYS_shutdown, SYS_close, SYS_getsockopt, SYS_setsockopt,
	SYS_getsockname, SYS_pipe2,
	/* the loop; poll(2) */
	SYS_epoll_pwait, SYS_epoll_ctl, SYS_timerfd_settime, SYS_rt_sigreturn,
	SYS_restart_syscall, SYS_ppoll,
# ifdef __x86_64__
	SYS_epoll_wait, SYS_poll, SYS_time,
# elif defined(MODE)
	SYS_epoll_wait, SYS_poll, SYS_sigreturn, SYS_send, SYS_recv,
	SYS__llseek,
	FIRST + 403, FIRST + 411, FIRST + 414,	/* the newer ones for times */
# endif
	/* clocks, where the vDSO has none; vsay_log(); sys_random() */
	SYS_clock_gettime, SYS_gettimeofday, SYS_getrandom,
	/* malloc(3) */
	SYS_brk, SYS_munmap, SYS_mremap, SYS_madvise,
	/* sys_resident(); stdio, in keys_load() */
	SYS_lseek,
	/* exit(3); signal(2) when the end begins */
	SYS_exit_group, SYS_rt_sigaction,
	/* what is left of a call that strace(1) lets fail */
	-1
};

/* keys_load() (musl: readv) */
static const short for_keys[] = {
	FSTAT, SYS_readv, SYS_geteuid,
# ifdef SYS_geteuid32
	SYS_geteuid32,
# endif
};

/* on_dialled(), keep(), on_sigchld() */
static const short for_dialler[] = { SYS_recvmsg, SYS_sendmsg, SYS_wait4 };

#define ALL 0xffffffff
/* open(2)'s flags that change nothing */
#define READING (uint32_t)(O_NONBLOCK | O_CLOEXEC | O_LARGEFILE)

/* And those that are left where (arg & mask) == value; the last one only with a
 * directory of keys, which seccomp() has made sure of by then. */
static const struct rule {
	short nr;
	char arg;
	uint32_t mask, value;
} rules[] = {
	/* no address, so it goes where the socket is connected to */
	{ SYS_sendto, 5, ALL, 0 },
	/* pipe_take(), set_fd(), file_open() */
	{ FCNTL, 1, ALL, F_SETFD },
	{ FCNTL, 1, ALL, F_GETFL },
	{ FCNTL, 1, ALL, F_SETFL },
	{ FCNTL, 1, ALL, F_SETPIPE_SZ },
	/* malloc(3) */
	{ MMAP, 2, PROT_EXEC, 0 },
	{ SYS_mprotect, 2, PROT_EXEC, 0 },
	/* keys_load() */
	{ SYS_openat, 2, ~READING, 0 },
};

/* See seccomp(2) and the kernel's networking/filter; likewise by hand. */
struct ins { uint16_t code; uint8_t yes, no; uint32_t k; };

enum { LD = 0x20, JEQ = 0x15, AND = 0x54, RET = 0x06 };
#define KILL_PROCESS 0x80000000
#define ALLOW 0x7fff0000

static struct ins prog[256];
static unsigned nprog;

static void
emit(int code, int yes, int no, uint32_t k)
{
	assert(nprog < LEN(prog));
	prog[nprog++] = (struct ins){ code, yes, no, k };
}

/* The number of the call is loaded.  The kernel remembers (since 5.11) what
 * needs no argument: such a call costs no run of the program. */
static void
allow(const short *nr, size_t n)
{
	for (; n; n--) {
		emit(JEQ, 0, 1, *nr++);
		emit(RET, 0, 0, ALLOW);
	}
}

/* Low halves of arguments are compared. */
static void
allow_if(const struct rule *r)
{
	emit(LD, 0, 0, 0);			/* the number */
	emit(JEQ, 0, 4, r->nr);
	emit(LD, 0, 0, 16 + LOW + 8 * r->arg);
	emit(AND, 0, 0, r->mask);
	emit(JEQ, 0, 1, r->value);
	emit(RET, 0, 0, ALLOW);
}

static int
seccomp(int dialler, int dir)
{
	struct { unsigned short n; struct ins *p; } f = { 0, prog };
	size_t i;

	emit(LD, 0, 0, 4);			/* the architecture */
	emit(JEQ, 1, 0, ARCH);
	emit(RET, 0, 0, KILL_PROCESS);
	emit(LD, 0, 0, 0);			/* the number */
	allow(for_all, LEN(for_all));
	allow(for_keys, dir >= 0 ? LEN(for_keys) : 0);
	allow(for_dialler, dialler ? LEN(for_dialler) : 0);
	emit(JEQ, 0, 3, SYS_openat);
	emit(LD, 0, 0, 16 + LOW);
	emit(JEQ, 1, 0, dir);			/* in any other it dies */
	emit(RET, 0, 0, KILL_PROCESS);
	for (i = 0; i < LEN(rules) - (dir < 0); i++)
		allow_if(&rules[i]);
	emit(RET, 0, 0, KILL_PROCESS);
	f.n = nprog;
	/* SECCOMP_SET_MODE_FILTER; SPEC_ALLOW, as we run no foreign code that
	 * would need the slow mitigations of kernels before 5.16 */
	return syscall(SYS_seccomp, 1L, 4L, &f) == 0 ? 0 :
	    prctl(PR_SET_SECCOMP, 2L, &f, 0L, 0L);
}

# else
#  define seccomp(dialler, dir) ((void)(dialler), -1)
# endif

static const char *const mechanisms[] = {
	"no sandbox", "seccomp", "Landlock", "seccomp and Landlock"
};

/* A kernel with seccomp looks first for the program, which is nowhere. */
const char *
proc_sandbox(void)
{
	return mechanisms[(ARCH && prctl(PR_SET_SECCOMP, 2L, NULL, 0L, 0L) < 0
	    && errno == EFAULT) | (landlock_version() > 0) << 1];
}

static const char *
confine(int dialler, const char *path, int dir)
{
	int how;

	(void)path;
	prctl(PR_SET_NO_NEW_PRIVS, 1L, 0L, 0L, 0L);
	how = landlock(dir) == 0 ? 2 : 0;
	how |= seccomp(dialler, dir) == 0;
	return how ? mechanisms[how] : NULL;
}

#elif defined(__OpenBSD__) && !defined(NO_SANDBOX)

# define SANDBOX "pledge and unveil"

static const char *
confine(int dialler, const char *path, int dir)
{
	if (path && unveil(path, "r") < 0)
		return NULL;
	return pledge(dir >= 0 ? "stdio inet rpath" : dialler ?
	    "stdio inet recvfd sendfd" : "stdio inet", NULL) < 0 ? NULL :
	    SANDBOX;
}

#else

# if defined(__FreeBSD__) && !defined(NO_SANDBOX)
#  define SANDBOX "Capsicum"
# else
#  define SANDBOX "no sandbox"
#  define cap_enter() (-1)
# endif

# define confine(dialler, path, dir) \
	((void)(dialler), cap_enter() < 0 ? NULL : SANDBOX)

#endif

#ifdef SANDBOX
const char *
proc_sandbox(void)
{
	return SANDBOX;
}
#endif

#ifndef O_PATH			/* search permission is enough */
# define O_PATH O_RDONLY
#endif

int
proc_confine(int dialler, const char *dir, const char **what)
{
	int fd = -1;

	*what = NULL;
	if (dir && (fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
		return -1;
	*what = confine(dialler, dir, fd);
	return fd;
}

/* Ducts.  A duct is empty, or it holds bytes that the receiver did not take
 * yet: in its stash, when they came by read(2), or in its pipe, when they came
 * by splice(2), which moves bytes only into or out of a pipe.  It begins with
 * read(2), which is cheaper for a keystroke, and changes to splice(2) when a
 * read was SMALL or more, and back when less came.  Spliced bytes never enter
 * this process.
 *
 * splice(2) says EAGAIN when the socket has nothing, and when the pipe is full.
 * So nothing is spliced in before all that is held has gone out: then the pipe
 * is empty, the socket has nothing, and its IO_R ends.  On the way out the pipe
 * holds bytes, so EAGAIN means that the other socket is full.
 *
 * At the end of each move an empty duct gives its stash and pipe back, so an
 * idle session has neither.  POOL pipes stay open for the next transfer. */

static unsigned char buf[HAVE_SPLICE ? SMALL : BIG];

#if HAVE_SPLICE

static int pool[POOL][2], npool;

static int
pipe_take(struct duct *d)
{
	if (npool) {
		memcpy(d->pipe, pool[--npool], sizeof d->pipe);
		return 0;
	}
	if (pipe2(d->pipe, O_NONBLOCK | O_CLOEXEC) < 0)
		return -1;
	duct_fds += 2;
	/* refused: smaller, and still right */
	fcntl(d->pipe[1], F_SETPIPE_SZ, BIG);
	return 0;
}

/* The next one would deliver what is held to its own peer: such a pipe is
 * closed. */
static void
pipe_give(struct duct *d)
{
	if (d->held || npool == POOL) {
		close(d->pipe[0]);
		close(d->pipe[1]);
		duct_fds -= 2;
	} else
		memcpy(pool[npool++], d->pipe, sizeof d->pipe);
	d->pipe[0] = d->pipe[1] = -1;
}

static ssize_t
pipe_out(struct duct *d, int fd)
{
	return splice(d->pipe[0], NULL, fd, NULL, d->held, SPLICE_F_NONBLOCK);
}

#else /* what a write leaves over is in the stash, always */

# define pipe_give(d) ((void)0)
# define pipe_out(d, fd) ((ssize_t)-1)
# define pull_splice pull_read

#endif

/* Sends what is held, from data or else from the pipe.  1: all of it, 0: to is
 * full, -1: see errno. */
static int
push(struct duct *d, struct io *to, const unsigned char *data)
{
	ssize_t n;

	while (d->held) {
		if (!(to->ready & IO_W))
			return 0;
		n = data ? write(to->fd, data + d->off, d->held) :
		    pipe_out(d, to->fd);
		if (n > 0) {
			d->held -= n;
			d->off += n;
			d->total += n;
		} else if (n < 0 && errno == EAGAIN)
			to->ready &= ~IO_W;
		else if (n == 0 || errno != EINTR)
			return -1;
	}
	free(d->stash);
	d->stash = NULL;
	return 1;
}

/* Both pulls: >0 bytes taken, 0 end of file, -1 see errno.  The duct is empty
 * before; what could not be sent at once is held after. */
static ssize_t
pull_read(struct duct *d, struct io *from, struct io *to)
{
	size_t size = d->bulk ? sizeof buf : SMALL;
	ssize_t n = read(from->fd, buf, size);
	int r;

	if (n <= 0)
		return n;
	d->bulk = n >= SMALL;
	if ((size_t)n < size)
		io_short(from);
	d->held = n;
	d->off = 0;
	if ((r = push(d, to, buf)) != 0)
		return r < 0 ? -1 : n;
	if (!(d->stash = malloc(d->held)))
		return -1;
	memcpy(d->stash, buf + d->off, d->held);
	d->off = 0;
	return n;
}

#if HAVE_SPLICE

static ssize_t
pull_splice(struct duct *d, struct io *from, struct io *to)
{
	ssize_t n;

	if (d->pipe[0] < 0 && pipe_take(d) < 0)
		return pull_read(d, from, to);
	n = splice(from->fd, NULL, d->pipe[1], NULL, BIG, SPLICE_F_NONBLOCK);
	if (n == 0 || (n < 0 && errno == EINVAL)) {
		/* 0 may be an urgent mark (see tcp(7)), EINVAL a terminal:
		 * only read(2) is to be believed */
		from->ready |= IO_U;
		return pull_read(d, from, to);
	}
	d->held = n > 0 ? n : 0;
	d->bulk = n >= SMALL || n < 0;
	return n;
}

#endif

void
duct_init(struct duct *d)
{
	*d = (struct duct){ .pipe = { -1, -1 } };
}

void
duct_end(struct duct *d)
{
	free(d->stash);
	d->stash = NULL;
	if (d->pipe[0] >= 0)
		pipe_give(d);
	d->held = 0;
}

/* Passes the end of file on.  A pipe that is closed may be shared: it gets its
 * flags back; nobody waits for the end of a terminal. */
static int
finish(struct duct *d, struct io *to)
{
	d->eof = 1;
	duct_end(d);
	if (!d->keep && shutdown(to->fd, SHUT_WR) < 0 && errno == ENOTSOCK &&
	    !isatty(to->fd)) {
		net_blocking(to->fd, 1);
		io_close(to);
	}
	return DUCT_DONE;
}

int
duct_move(struct duct *d, struct io *from, struct io *to)
{
	size_t moved = 0;
	ssize_t n;
	int r;

	if (d->eof)
		return DUCT_DONE;
	for (;;) {
		if ((r = push(d, to, d->stash)) <= 0)
			return r < 0 ? DUCT_DEAD : DUCT_IDLE;
		if (!(from->ready & IO_R) || !(to->ready & IO_W) ||
		    moved >= BUDGET)
			break;
		n = d->bulk && !(from->ready & IO_U) ?
		    pull_splice(d, from, to) : pull_read(d, from, to);
		if (n == 0)
			return finish(d, to);
		if (n > 0)
			moved += n;
		else if (errno == EAGAIN)
			from->ready &= ~IO_R;
		else if (errno != EINTR)
			return DUCT_DEAD;
	}
	duct_end(d);
	return from->ready & IO_R && to->ready & IO_W ? DUCT_MORE : DUCT_IDLE;
}

/* pumps */

void
pump_init(struct pump *p, struct io *from, struct io *to)
{
	p->from = from;
	p->to = to;
	duct_init(&p->duct);
}

/* Level-triggered, so what was reported and not used is reported again. */
int
pumps_wait(struct pump p[2], struct pollfd *also, int n, int ms)
{
	struct pollfd f[8];
	struct io *io[4];
	int i, r;

	memcpy(f + 4, also, n * sizeof *f);
	for (i = 0; i < 4; i++) {
		struct duct *d = &p[i / 2].duct;
		int bit = i % 2 ? IO_W : IO_R;

		io[i] = i % 2 ? p[i / 2].to : p[i / 2].from;
		f[i].fd = d->eof || io[i]->ready & bit ||
		    (bit == IO_R && d->held) ? -1 : io[i]->fd;
		f[i].events = bit == IO_W ? POLLOUT : POLLIN | POLLPRI;
		if (i % 2 && !d->eof && io[i - 1]->ready & IO_R &&
		    io[i]->ready & IO_W)
			ms = 0;		/* its budget was spent */
	}
	r = poll(f, 4 + n, ms);
	for (i = 0; r > 0 && i < 4; i++)
		if (f[i].fd >= 0 && f[i].revents)
			io[i]->ready |= (i % 2 ? IO_W : IO_R) |
			    (f[i].revents & POLLPRI ? IO_U : 0);
	memcpy(also, f + 4, n * sizeof *f);
	return r;
}

/* Moves bytes in both directions.  A direction that broke is over; where the
 * network broke it, that must not look like an end.  1: all is over. */
static int
carry(struct companion *m, struct pump p[2])
{
	struct pollfd far = { m->far.fd, 0, 0 };
	int i;

	for (i = 0; i < 2; i++) {
		if (duct_move(&p[i].duct, p[i].from, p[i].to) != DUCT_DEAD)
			continue;
		if (m->tls && errno != EPIPE && (poll(&far, 1, 0) == 0 ||
		    !(far.revents & POLLHUP)))
			net_cut(m->near.fd);
		p[i].duct.eof = 1;
	}
	return m->tls && net_is_cut(m->near.fd);
}

/* Over when the program has gone; a command also when it had all that it will
 * ever get, and nobody takes what it says. */
void
proc_carry(struct companion *m)
{
	struct pump p[2];
	struct pollfd x[4] = { { m->err, POLLIN, 0 }, { m->talk, POLLIN, 0 } };
	char b[1024];
	ssize_t n;
	int over = 0;

	pump_init(&p[0], &m->near, &m->far);
	pump_init(&p[1], &m->far, &m->near);
	net_blocking(m->near.fd, 0);
	net_blocking(m->far.fd, 0);
	while (!over) {
		x[2].fd = p[0].duct.eof && !m->tls ? m->near.fd : -1;
		x[3].fd = p[1].duct.eof ? m->far.fd : -1;
		if (pumps_wait(p, x, 4, -1) < 0)
			continue;
		if (x[0].revents && (n = read(x[0].fd, b, sizeof b)) > 0)
			n = write(2, b, n);	/* or nobody cares */
		else if (x[0].revents) {
			close(x[0].fd);
			x[0].fd = -1;
		}
		if (x[1].revents && recv(x[1].fd, b, 1, 0) == 1)
			m->up = 1;
		else if (x[1].revents) {	/* who dialled has gone */
			if (!m->up)
				proc_end(m->pid, 0);
			close(x[1].fd);
			x[1].fd = -1;
			if (m->alone) {
				proc_null(2);
				net_user_timeout(m->near.fd, m->last_ms);
			}
		}
		over = carry(m, p) || x[2].revents || x[3].revents;
	}
	/* what openssl sent last arrives, or not for long */
	net_user_timeout(m->near.fd, m->last_ms);
	close(m->near.fd);
	close(m->far.fd);
	proc_null(2);
	proc_end(m->pid, 100);
}
