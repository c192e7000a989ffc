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

#include <sys/types.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
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
#endif

#include "reactor.h"

#if defined(__linux__) && !defined(NO_SPLICE)
# define HAVE_SPLICE 1
#else
# define HAVE_SPLICE 0
#endif

enum {
	EVENTS = 256,			/* fetched in one turn */
	SMALL = 16 << 10,		/* a read that fills it turns bulk */
	BIG = 256 << 10,		/* best pipe, measured */
	BUDGET = 256 << 10,		/* bytes one callback may move */
	POOL = 64,			/* idle pipes kept */
	LOWAT = 128 << 10,		/* unsent bytes in the kernel */
	LAZY_MS = 200			/* how long the lazy ones gather */
};

struct deadline {
	int64_t at;
	struct io *io;
};

static struct io queues[3];		/* sentinels */
#define Q_RUN  (&queues[0])		/* this turn's */
#define Q_NEXT (&queues[1])		/* interactive */
#define Q_BULK (&queues[2])		/* one a turn */

static struct deadline *heap;
static size_t nheap, nadded, room;
static int64_t clock_ms;
static int halted, maxfd = 2, forked;

static struct io sigio;
static int sigpipe[2] = { -1, -1 };
static void (*sigfn[NSIG])(int);

static void note(struct io *io, unsigned bits);

/* backends: each defines backend_open, _add, _del, _wait */

#if defined(__linux__) && !defined(USE_KQUEUE)

# if HAVE_SPLICE
const char reactor_name[] = "epoll, splice";
# else
const char reactor_name[] = "epoll, read/write";
# endif

enum { SHORT_IS_EMPTY = 1 };	/* EPOLLPRI tells of an urgent mark */

/* What may wait a little is in an epoll set of its own, which is an event of
 * the main one, once: then a timer runs out, and all that has gathered there
 * is handled in one go.  Ten thousand pings cost ten thousand reads that way,
 * but not ten thousand wake-ups, which are the dear part. */
static int ep = -1, suspend = -1, lazy = -1;
static struct io lazyio;

static void on_lazy(struct io *);

/* A real-time timer far away that is cancelled when the clock is set, which
 * the kernel does on resume (timerfd_create(2)): a laptop that wakes up looks
 * at its deadlines at once.  Nothing is lost where this fails. */
static void
watch_suspend(void)
{
	struct itimerspec far = { { 0, 0 }, { INT_MAX, 0 } };
	uint64_t n;

	if (suspend < 0)
		return;
	if (read(suspend, &n, sizeof n) < 0 && errno != ECANCELED &&
	    errno != EAGAIN)
		return;
	timerfd_settime(suspend, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET,
	    &far, NULL);
}

static int
lazy_arm(int op)
{
	struct epoll_event e = { EPOLLIN | EPOLLONESHOT, { &lazyio } };

	return epoll_ctl(ep, op, lazy, &e);
}

static int
backend_open(void)
{
	struct epoll_event e = { EPOLLIN | EPOLLET, { NULL } };

	if ((ep = epoll_create1(EPOLL_CLOEXEC)) < 0 ||
	    (lazy = epoll_create1(EPOLL_CLOEXEC)) < 0)
		return -1;
	io_init(&lazyio);
	if (io_add(&lazyio, -1, on_lazy) < 0 || lazy_arm(EPOLL_CTL_ADD) < 0)
		return -1;
	suspend = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
	watch_suspend();
	if (suspend >= 0)
		epoll_ctl(ep, EPOLL_CTL_ADD, suspend, &e);
	return 0;
}

static int
backend_add(struct io *io)
{
	struct epoll_event e;

	e.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET;
	e.data.ptr = io;
	return epoll_ctl(io->lazy ? lazy : ep, EPOLL_CTL_ADD, io->fd, &e);
}

/* A forked child may keep the description open, and with it a registration
 * that would point at a watcher long gone. */
static void
backend_del(struct io *io)
{
	epoll_ctl(io->lazy ? lazy : ep, EPOLL_CTL_DEL, io->fd, NULL);
}

static void
fold(const struct epoll_event *ev)
{
	unsigned e = ev->events, b = 0;

	if (e & (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		b |= IO_R;
	if (e & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		b |= IO_W;
	if (e & EPOLLPRI)
		b |= IO_U;
	if (e & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		b |= IO_H;
	note(ev->data.ptr, b);
}

static struct epoll_event events[EVENTS];

static int
backend_wait(int ms)
{
	int i, n = epoll_wait(ep, events, EVENTS, ms);

	for (i = 0; i < n; i++) {
		if (!events[i].data.ptr)
			watch_suspend();
		else if (events[i].data.ptr == &lazyio)
			io_after(&lazyio, LAZY_MS);
		else
			fold(&events[i]);
	}
	return n < 0 && errno != EINTR ? -1 : 0;
}

/* Runs after the callbacks' events of this turn were folded, so the array is
 * free again. */
static void
on_lazy(struct io *io)
{
	int i, n;

	if (!io_expired(io))
		return;
	do {
		n = epoll_wait(lazy, events, EVENTS, 0);
		for (i = 0; i < n; i++)
			fold(&events[i]);
	} while (n == EVENTS);
	if (lazy_arm(EPOLL_CTL_MOD) < 0)
		io_after(io, LAZY_MS);	/* or the lazy are never heard again */
}

#else /* kqueue: the lazy ones are as quick as the others */

const char reactor_name[] = "kqueue, read/write";

enum { SHORT_IS_EMPTY = 0 };

static int kq = -1;

static int
backend_open(void)
{
	if ((kq = kqueue()) < 0)
		return -1;
	fcntl(kq, F_SETFD, FD_CLOEXEC);
	return 0;
}

static void
backend_del(struct io *io)
{
	struct kevent k;

	EV_SET(&k, io->fd, EVFILT_READ, EV_DELETE, 0, 0, NULL);
	kevent(kq, &k, 1, NULL, 0, NULL);
	EV_SET(&k, io->fd, EVFILT_WRITE, EV_DELETE, 0, 0, NULL);
	kevent(kq, &k, 1, NULL, 0, NULL);
}

static int
backend_add(struct io *io)
{
	struct stat st;
	struct kevent k;
	int r, w;

	/* no event would tell of an empty file, or of a file's end */
	if (fstat(io->fd, &st) == 0 && S_ISREG(st.st_mode)) {
		errno = EPERM;
		return -1;
	}
	EV_SET(&k, io->fd, EVFILT_READ, EV_ADD | EV_CLEAR, 0, 0, io);
	r = kevent(kq, &k, 1, NULL, 0, NULL);
	EV_SET(&k, io->fd, EVFILT_WRITE, EV_ADD | EV_CLEAR, 0, 0, io);
	w = kevent(kq, &k, 1, NULL, 0, NULL);
	/* one filter alone may fail, as on a pipe whose other end is closed */
	if (((r < 0 || w < 0) && errno == ENOMEM) ||
	    (r < 0 && w < 0 && errno == EBADF)) {
		r = errno;
		backend_del(io);
		errno = r;
		return -1;
	}
	if (r < 0 && w < 0)
		errno = EPERM;		/* no filter knows such a file */
	return r < 0 && w < 0 ? -1 : 0;
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

/* run queues */

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

static int
is_empty(const struct io *q)
{
	return q->next == q;
}

static void
note(struct io *io, unsigned bits)
{
	io->ready |= bits;
	append(io->bulk ? Q_BULK : Q_NEXT, io);
}

/* deadlines: a binary heap */

static void
heap_put(size_t i, struct deadline d)
{
	heap[i] = d;
	d.io->heap = i;
}

static void
heap_up(size_t i, struct deadline d)
{
	for (; i && heap[(i - 1) / 2].at > d.at; i = (i - 1) / 2)
		heap_put(i, heap[(i - 1) / 2]);
	heap_put(i, d);
}

static void
heap_down(size_t i, struct deadline d)
{
	size_t k;

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
heap_fix(size_t i, struct deadline d)
{
	if (i && heap[(i - 1) / 2].at > d.at)
		heap_up(i, d);
	else
		heap_down(i, d);
}

static void
heap_remove(struct io *io)
{
	size_t i = io->heap;

	io->heap = -1;
	if (i != --nheap)
		heap_fix(i, heap[nheap]);
}

/* the loop */

static void
tick(void)
{
	struct timespec ts;

#ifdef CLOCK_BOOTTIME
	clock_gettime(CLOCK_BOOTTIME, &ts);
#else
	clock_gettime(CLOCK_MONOTONIC, &ts);
#endif
	clock_ms = (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t
reactor_now(void)
{
	return clock_ms;
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

	if (!is_empty(Q_NEXT) || !is_empty(Q_BULK))
		return 0;
	if (!nheap)
		return -1;
	ms = heap[0].at - clock_ms;
	return ms < 0 ? 0 : ms > INT_MAX ? INT_MAX : (int)ms;
}

static void
run_one(struct io *q)
{
	struct io *io = q->next;

	unlink_io(io);
	io->fn(io);
}

int
reactor_run(void)
{
	struct io *first;

	for (halted = 0; !halted;) {
		tick();
		if (backend_wait(timeout()) < 0)
			return -1;
		tick();
		expire();
		if (!is_empty(Q_NEXT)) {
			/* this turn runs what is here now, and no more */
			first = Q_NEXT->next;
			unlink_io(Q_NEXT);
			Q_NEXT->next = Q_NEXT->prev = Q_NEXT;
			append(first, Q_RUN);
			while (!is_empty(Q_RUN) && !halted)
				run_one(Q_RUN);
			unlink_io(Q_RUN);
		}
		if (!is_empty(Q_BULK) && !halted)
			run_one(Q_BULK);
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

	if (write(sigpipe[1], &c, 1) < 0)
		c = 0;		/* full: that many signals say enough */
	errno = saved;
}

static void
on_signal(struct io *io)
{
	unsigned char c;

	while (read(io->fd, &c, 1) == 1)
		if (sigfn[c])
			sigfn[c](c);
	io->ready &= ~IO_R;
}

int
reactor_signal(int sig, void (*fn)(int))
{
	struct sigaction sa;

	sigfn[sig] = fn;
	memset(&sa, 0, sizeof sa);
	sa.sa_handler = caught;
	sa.sa_flags = SA_RESTART;
	sigemptyset(&sa.sa_mask);
	return sigaction(sig, &sa, NULL);
}

static int
set_fd(int fd)
{
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -1;
	return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

int
reactor_open(void)
{
	signal(SIGPIPE, SIG_IGN);	/* splice has no MSG_NOSIGNAL */
	Q_NEXT->next = Q_NEXT->prev = Q_NEXT;
	Q_BULK->next = Q_BULK->prev = Q_BULK;
	tick();
	if (backend_open() < 0 || pipe(sigpipe) < 0)
		return -1;
	if (set_fd(sigpipe[0]) < 0 || set_fd(sigpipe[1]) < 0)
		return -1;
	io_init(&sigio);
	return io_add(&sigio, sigpipe[0], on_signal);
}

/* watchers */

void
io_init(struct io *io)
{
	memset(io, 0, sizeof *io);
	io->fd = io->heap = -1;
}

/* A place among the deadlines comes with the watcher, so that io_after()
 * has nothing that could fail. */
static int
reserve(void)
{
	size_t n = room + room / 4 + 64;
	struct deadline *p;

	if (nadded < room)
		return 0;
	if (!(p = realloc(heap, n * sizeof *heap)))
		return -1;
	heap = p;
	room = n;
	return 0;
}

int
io_add(struct io *io, int fd, void (*fn)(struct io *))
{
	assert(!io->added);
	if (reserve() < 0)
		return -1;
	io->fn = fn;
	io->ready = io->lazy = io->sole = 0;
	io->fd = fd;
	if (fd >= 0 && backend_add(io) < 0) {
		if (errno != EPERM) {
			io->fd = -1;
			return -1;
		}
		note(io, IO_R | IO_W | IO_U);	/* a plain file */
	}
	if (fd > maxfd)
		maxfd = fd;
	io->added = 1;
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
	struct deadline d;

	assert(io->added);
	io->ready &= ~IO_T;
	if (ms < 0) {
		if (io->heap >= 0)
			heap_remove(io);
		return;
	}
	d.at = clock_ms + ms;
	d.io = io;
	if (io->heap >= 0)
		heap_fix(io->heap, d);
	else
		heap_up(nheap++, d);
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

static void
forget(struct io *io)
{
	if (!io->added)
		return;
	unlink_io(io);
	if (io->heap >= 0)
		heap_remove(io);
	io->added = 0;
	nadded--;
}

/* A short read says the same as EAGAIN, unless it stopped at an urgent mark
 * or the end of file was reported already. */
void
io_short(struct io *io)
{
	if (SHORT_IS_EMPTY && !(io->ready & (IO_U | IO_H)))
		io->ready &= ~IO_R;
}

void
io_del(struct io *io)
{
	if (io->added && io->fd >= 0)
		backend_del(io);
	forget(io);
}

/* close(2) takes a descriptor out of the set, where nobody has a copy. */
void
io_close(struct io *io)
{
	if (io->sole && !forked)
		forget(io);
	else
		io_del(io);
	if (io->fd >= 0)
		close(io->fd);
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
#elif defined(TCP_KEEPALIVE)
	opt(fd, IPPROTO_TCP, TCP_KEEPALIVE, idle);
#endif
#ifdef TCP_KEEPINTVL
	opt(fd, IPPROTO_TCP, TCP_KEEPINTVL, interval);
	opt(fd, IPPROTO_TCP, TCP_KEEPCNT, count);
#endif
}

/* What every connection gets; accepted ones inherit it.  An urgent byte stays
 * in line, so that a relay passes it on as data instead of losing it. */
void
net_tune(int fd)
{
	opt(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	opt(fd, SOL_SOCKET, SO_OOBINLINE, 1);
#ifdef TCP_NOTSENT_LOWAT
	opt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, LOWAT);
#endif
	net_keepalive(fd, 30, 10, 3);
}

static int
new_socket(int family)
{
	int fd = socket(family, SOCK_STREAM, 0);

	if (fd >= 0 && set_fd(fd) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

int
net_listen(const struct sockaddr *sa, socklen_t len, int v6only)
{
	int fd, e;

	if ((fd = new_socket(sa->sa_family)) < 0)
		return -1;
	opt(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (sa->sa_family == AF_INET6)
		opt(fd, IPPROTO_IPV6, IPV6_V6ONLY, v6only);
	net_tune(fd);
	if (bind(fd, sa, len) == 0 && listen(fd, 4096) == 0)
		return fd;
	e = errno;
	close(fd);
	errno = e;
	return -1;
}

void
net_unlink_stale(const struct sockaddr_un *sa)
{
	int fd = new_socket(AF_UNIX);
	struct stat st;

	/* whoever listens with a full queue says EAGAIN */
	if (fd >= 0 && stat(sa->sun_path, &st) == 0 && S_ISSOCK(st.st_mode) &&
	    connect(fd, (const struct sockaddr *)sa, sizeof *sa) < 0 &&
	    errno == ECONNREFUSED)
		unlink(sa->sun_path);
	if (fd >= 0)
		close(fd);
}

int
net_listen_private(struct sockaddr_un *sa)
{
	const char *tmp = getenv("TMPDIR");
	int n, fd;

	memset(sa, 0, sizeof *sa);
	sa->sun_family = AF_UNIX;
	n = snprintf(sa->sun_path, sizeof sa->sun_path - 2, "%s/mssh.XXXXXX",
	    tmp && *tmp == '/' ? tmp : "/tmp");
	if (n > (int)sizeof sa->sun_path - 3) {
		errno = ENAMETOOLONG;
		return -1;
	}
	if (!mkdtemp(sa->sun_path))
		return -1;
	memcpy(sa->sun_path + n, "/s", 3);
	if ((fd = net_listen((struct sockaddr *)sa, sizeof *sa, 0)) < 0) {
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

int
net_silent(int fd)
{
	struct tcp_info i;
	socklen_t len = sizeof i;

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len) < 0)
		return 0;
	/* one probe is under way in any quiet connection now and then */
	if (!i.tcpi_unacked && i.tcpi_probes < 2)
		return 0;
	return i.tcpi_last_ack_recv > INT_MAX ? INT_MAX :
	    i.tcpi_last_ack_recv ? (int)i.tcpi_last_ack_recv : 1;
}

/* Built by hand because musl has no linux/rtnetlink.h; values from
 * netlink(7) and rtnetlink(7). */
int
net_watch(void)
{
	struct {
		sa_family_t family;
		unsigned short pad;
		uint32_t pid, groups;
	} nl = { AF_NETLINK, 0, 0, 0x1 | 0x10 | 0x100 };
					/* link, IPv4 and IPv6 address */
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	if (bind(fd, (struct sockaddr *)&nl, sizeof nl) == 0)
		return fd;
	close(fd);
	return -1;
}

#else

int
net_accept(int lfd, struct sockaddr *sa, socklen_t *len)
{
	int fd = accept(lfd, sa, len);

	if (fd >= 0 && set_fd(fd) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

int
net_silent(int fd)
{
	(void)fd;
	return 0;
}

int
net_watch(void)
{
	int fd = socket(PF_ROUTE, SOCK_RAW, 0);

	if (fd >= 0 && set_fd(fd) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

#endif

int
net_dial(const struct sockaddr *to, socklen_t len, const struct sockaddr *from,
    socklen_t fromlen)
{
	int fd, e;

	if ((fd = new_socket(to->sa_family)) < 0)
		return -1;
	net_tune(fd);
	if (from && bind(fd, from, fromlen) < 0)
		goto bad;
	if (connect(fd, to, len) == 0 || errno == EINPROGRESS)
		return fd;
bad:
	e = errno;
	close(fd);
	errno = e;
	return -1;
}

int
net_error(int fd)
{
	int e = 0;
	socklen_t len = sizeof e;

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len) < 0)
		return errno;
	return e;
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

int
net_blocking(int fd, int on)
{
	int fl = fcntl(fd, F_GETFL);

	if (fl >= 0)
		fcntl(fd, F_SETFL, on ? fl & ~O_NONBLOCK : fl | O_NONBLOCK);
	return fl;
}

void
net_flags(int fd, int flags)
{
	if (flags >= 0)
		fcntl(fd, F_SETFL, flags);
}

/* A message with room for descriptors beside the n bytes at data. */
union fds {
	struct cmsghdr align;
	char buf[CMSG_SPACE(NET_FDS * sizeof(int))];
};

static void
msg_init(struct msghdr *m, struct iovec *v, void *data, size_t n,
    union fds *u)
{
	memset(m, 0, sizeof *m);
	memset(u, 0, sizeof *u);
	v->iov_base = data;
	v->iov_len = n;
	m->msg_iov = v;
	m->msg_iovlen = 1;
	m->msg_control = u->buf;
	m->msg_controllen = sizeof u->buf;
}

int
net_send_fds(int sock, void *data, size_t len, const int *fds, int n)
{
	struct msghdr m;
	struct iovec v;
	struct cmsghdr *c;
	union fds u;

	msg_init(&m, &v, data, len, &u);
	m.msg_controllen = n ? CMSG_SPACE(n * sizeof *fds) : 0;
	if ((c = CMSG_FIRSTHDR(&m))) {
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
	struct msghdr m;
	struct iovec v;
	struct cmsghdr *c;
	union fds u;
	ssize_t got;
	int i, more;

	msg_init(&m, &v, data, len, &u);
	if ((got = recvmsg(sock, &m, 0)) <= 0 || !(c = CMSG_FIRSTHDR(&m)) ||
	    c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
		return got;
	more = (c->cmsg_len - CMSG_LEN(0)) / sizeof *fds;
	for (i = 0; i < more && *n < NET_FDS; i++) {
		memcpy(&fds[*n], CMSG_DATA(c) + i * sizeof *fds, sizeof *fds);
		set_fd(fds[(*n)++]);
	}
	return got;
}

int
net_pass(int sock, int fd)
{
	char byte = 0;

	return net_send_fds(sock, &byte, 1, &fd, 1);
}

void
sys_random(void *p, size_t n)
{
	if (getentropy(p, n) < 0)	/* only in a kernel without it */
		abort();
}

/* children */

int
proc_fork(void)
{
	sigset_t all, old;
	int pid, i;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &old);
	forked = 1;
	if ((pid = fork()) == 0)
		for (i = 1; i < NSIG; i++)
			if (sigfn[i] || i == SIGPIPE)
				signal(i, SIG_DFL);
	sigprocmask(SIG_SETMASK, &old, NULL);
	return pid;
}

/* As many descriptors as the system allows, for us alone: a child may be a
 * login, or use select(2). */
static struct rlimit fds;
static int raised;

int
proc_raise(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &fds) < 0)
		return 64;
	r = fds;
	r.rlim_cur = r.rlim_max;
	raised = setrlimit(RLIMIT_NOFILE, &r) == 0;
	if (!raised)
		r.rlim_cur = fds.rlim_cur;
	return r.rlim_cur > INT_MAX ? INT_MAX : (int)r.rlim_cur;
}

void
proc_hide(void)
{
#ifdef PR_SET_DUMPABLE
	prctl(PR_SET_DUMPABLE, 0L, 0L, 0L, 0L);
#else
	struct rlimit none = { 0, 0 };

	setrlimit(RLIMIT_CORE, &none);
#endif
}

void
proc_keep(int fd)
{
	int i;

	for (i = 3; i <= maxfd + 8; i++)
		if (i != fd)
			close(i);
}

int
proc_spawn(const char *cmd, int fd, const char *first, char *const env[])
{
	int pid;

	net_blocking(fd, 1);
	if ((pid = proc_fork()) != 0)
		return pid;
	if (raised)
		setrlimit(RLIMIT_NOFILE, &fds);
	for (; *env; env++)
		putenv(*env);
	if (dup2(fd, 0) == 0 && dup2(fd, 1) == 1 &&
	    write(1, first, strlen(first)) == (ssize_t)strlen(first))
		execl("/bin/sh", "sh", "-c", cmd, (char *)NULL);
	_exit(127);
}

void
proc_exec(char *const argv[], int fd, int err)
{
	static const int ours[] = { SIGTERM, SIGINT, SIGHUP, SIGCHLD };
	size_t i;

	for (i = 0; i < sizeof ours / sizeof *ours; i++)
		signal(ours[i], SIG_DFL);
	if (raised)
		setrlimit(RLIMIT_NOFILE, &fds);
	setsid();
	net_blocking(fd, 1);
	if (dup2(fd, 0) == 0 && dup2(fd, 1) == 1 &&
	    (err < 0 || dup2(err, 2) == 2)) {
		proc_keep(-1);
		execvp(*argv, argv);
	}
	fprintf(stderr, "cannot run %s: %s\n", *argv, strerror(errno));
	fflush(stderr);
	_exit(127);
}

/* confinement */

static int fixed = -1;		/* a socket that stays connected as it is */

int
proc_user(const char *name)
{
	struct passwd *pw;

	errno = 0;
	if (!(pw = getpwnam(name)))
		return -1;
	if (initgroups(name, pw->pw_gid) < 0 || setgid(pw->pw_gid) < 0 ||
	    setuid(pw->pw_uid) < 0)
		return -1;
	errno = EPERM;		/* who can come back has not left */
	return pw->pw_uid && setuid(0) == 0 ? -1 : 0;
}

int
proc_try(const char *what, int dir)
{
	struct sockaddr_in sa;
	int fd = -1;

	memset(&sa, 0, sizeof sa);
	sa.sin_family = AF_INET;
	sa.sin_port = htons(9);
	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (!strcmp(what, "open"))
		fd = open("/etc/passwd", O_RDONLY);
	else if (!strcmp(what, "outside"))
		fd = openat(dir, "/etc/passwd", O_RDONLY);
	else if (!strcmp(what, "write"))
		fd = openat(dir, "new", O_WRONLY | O_CREAT, 0600);
	else if (!strcmp(what, "connect"))
		fd = net_dial((struct sockaddr *)&sa, sizeof sa, NULL, 0);
	else if (!strcmp(what, "unix"))
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
	else if (!strcmp(what, "fork"))
		fd = fork();
	else if (!strcmp(what, "exec"))
		execl("/bin/true", "true", (char *)NULL);
	else if (!strcmp(what, "map"))
		fd = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE |
		    MAP_ANON, -1, 0) == MAP_FAILED ? -1 : 0;
	return fd < 0 ? -1 : 0;
}

#if defined(__linux__) && !defined(NO_SANDBOX)

/* Landlock, see landlock(7).  Built by hand, as musl has no linux/landlock.h,
 * and the numbers are the same for all architectures that we know. */
enum {
	LL_CREATE = 444, LL_ADD, LL_RESTRICT,
	LL_VERSION = 1, LL_BENEATH = 1,
	LL_READ_FILE = 1 << 2,
	LL_NET = 3			/* to bind and to connect, TCP */
};

/* Everything in the file system that a version of Landlock can forbid. */
static const uint64_t ll_fs[] = {
	0, 0x1fff, 0x3fff, 0x7fff, 0x7fff, 0xffff
};

static int
landlock(int dial, int dir)
{
	struct {
		uint64_t fs, net;
	} a = { 0, 0 };
	struct {
		uint64_t may;
		int32_t fd;
	} in = { LL_READ_FILE, dir };
	long v = syscall(LL_CREATE, NULL, 0L, (long)LL_VERSION);
	int fd, r = -1;

	if (v <= 0)
		return -1;
	a.fs = ll_fs[v < 5 ? v : 5];
	a.net = v >= 4 && !dial ? LL_NET : 0;
	fd = syscall(LL_CREATE, &a, v >= 4 ? 16L : 8L, 0L);
	if (fd < 0)
		return -1;
	if (dir < 0 || syscall(LL_ADD, fd, (long)LL_BENEATH, &in, 0L) == 0)
		r = syscall(LL_RESTRICT, fd, 0L);
	close(fd);
	return r;
}

# if defined(__x86_64__) && !defined(__ILP32__)
#  define ARCH 0xc000003e		/* AUDIT_ARCH_X86_64 */
# elif defined(__aarch64__) && !defined(__ILP32__) && !defined(__AARCH64EB__)
#  define ARCH 0xc00000b7		/* AUDIT_ARCH_AARCH64 */
# endif

# ifdef ARCH

const char confine_name[] = "seccomp, Landlock";

/* The system calls that are left, and who needs them.  Those that a libc may
 * choose instead (for another kernel, another malloc) stand beside them. */
enum { KEYS = 1, DIAL = 2, LOCAL = 4 };	/* with a directory, with dial */

struct rule {
	int nr, who;
	struct {
		unsigned char arg;
		uint32_t mask, value;	/* (arg & mask) == value */
	} if_[2];
};

#define ALWAYS { { 0, 0, 0 }, { 0, 0, 0 } }
#define IF(arg, mask, value) { { arg, mask, value }, { 0, 0, 0 } }
#define ALL 0xffffffff
/* open(2)'s flags that change nothing; O_LARGEFILE is another bit for each */
#define READING (uint32_t)(O_NONBLOCK | O_CLOEXEC | 0x8000 | 0x20000)

static const struct rule rules[] = {
	/* sockets, ducts, hear(), on_signal(), messages */
	{ SYS_read, 0, ALWAYS },
	{ SYS_write, 0, ALWAYS },
	{ SYS_writev, 0, ALWAYS },		/* musl's stdio */
	{ SYS_splice, 0, ALWAYS },
	{ SYS_recvfrom, 0, ALWAYS },
	/* no address, so it goes where the socket is connected to */
	{ SYS_sendto, 0, IF(5, ALL, 0) },
	{ SYS_accept4, 0, ALWAYS },
	{ SYS_shutdown, 0, ALWAYS },
	{ SYS_close, 0, ALWAYS },
	{ SYS_getsockopt, 0, ALWAYS },
	{ SYS_setsockopt, 0, ALWAYS },
	{ SYS_getsockname, 0, ALWAYS },
	/* pipe_take(), set_fd(), private_open() */
	{ SYS_pipe2, 0, ALWAYS },
	{ SYS_fcntl, 0, IF(1, ALL, F_SETFD) },
	{ SYS_fcntl, 0, IF(1, ALL, F_GETFL) },
	{ SYS_fcntl, 0, IF(1, ALL, F_SETFL) },
	{ SYS_fcntl, 0, IF(1, ALL, F_SETPIPE_SZ) },
	/* the loop */
# ifdef SYS_epoll_wait
	{ SYS_epoll_wait, 0, ALWAYS },
# endif
	{ SYS_epoll_pwait, 0, ALWAYS },
	{ SYS_epoll_ctl, 0, ALWAYS },
	{ SYS_timerfd_settime, 0, ALWAYS },
	{ SYS_rt_sigreturn, 0, ALWAYS },
	{ SYS_restart_syscall, 0, ALWAYS },
	/* clocks, where the vDSO has none; vsay_log(); sys_random() */
	{ SYS_clock_gettime, 0, ALWAYS },
	{ SYS_gettimeofday, 0, ALWAYS },
# ifdef SYS_poll
	{ SYS_time, 0, ALWAYS },
	{ SYS_poll, 0, ALWAYS },
# endif
	{ SYS_ppoll, 0, ALWAYS },
	{ SYS_getrandom, 0, ALWAYS },
	/* malloc(3) */
	{ SYS_brk, 0, ALWAYS },
	{ SYS_munmap, 0, ALWAYS },
	{ SYS_mremap, 0, ALWAYS },
	{ SYS_madvise, 0, ALWAYS },
	{ SYS_mmap, 0, IF(2, PROT_EXEC, 0) },
	{ SYS_mprotect, 0, IF(2, PROT_EXEC, 0) },
	/* exit(3) */
	{ SYS_exit_group, 0, ALWAYS },
	/* signal(2) when the end begins */
	{ SYS_rt_sigaction, 0, ALWAYS },
	/* keys_load(): arg 0 becomes the directory */
	{ SYS_openat, KEYS, { { 0, ALL, 0 }, { 2, ~READING, 0 } } },
	{ SYS_fstat, KEYS, ALWAYS },
	{ SYS_newfstatat, KEYS, IF(3, 0x1000, 0x1000) },/* AT_EMPTY_PATH */
	{ SYS_lseek, KEYS, ALWAYS },
	{ SYS_readv, KEYS, ALWAYS },		/* musl's stdio */
	{ SYS_geteuid, KEYS, ALWAYS },
	/* net_dial(), name_self(), on_sigchld() */
	{ SYS_socket, DIAL, IF(0, ALL, AF_INET) },
	{ SYS_socket, DIAL, IF(0, ALL, AF_INET6) },
	{ SYS_socket, LOCAL, IF(0, ALL, AF_UNIX) },
	{ SYS_recvmsg, DIAL, ALWAYS },		/* of the helper process */
	{ SYS_bind, DIAL, ALWAYS },
	{ SYS_connect, DIAL, ALWAYS },
	{ SYS_uname, DIAL, ALWAYS },
	{ SYS_wait4, DIAL, ALWAYS },
	/* what is left of a call that strace(1) lets fail */
	{ -1, 0, ALWAYS },
};

/* See seccomp(2) and the kernel's networking/filter; likewise by hand. */
struct ins {
	uint16_t code;
	uint8_t yes, no;
	uint32_t k;
};

enum { LD = 0x20, JEQ = 0x15, AND = 0x54, RET = 0x06 };
#define KILL_PROCESS 0x80000000
#define ALLOW 0x7fff0000

static struct ins prog[512];
static unsigned nprog;

static void
emit(int code, int yes, int no, uint32_t k)
{
	struct ins i = { code, yes, no, k };

	assert(nprog < sizeof prog / sizeof *prog);
	prog[nprog++] = i;
}

/* The kernel remembers (since 5.11) what is allowed whatever its arguments
 * are: such a call costs no run of the program. */
static void
emit_rule(const struct rule *r, int dir)
{
	int n = 0, i;

	while (n < 2 && r->if_[n].mask)
		n++;
	emit(LD, 0, 0, 0);			/* the number */
	emit(JEQ, 0, 3 * n + 1, r->nr);
	for (i = 0; i < n; i++) {
		emit(LD, 0, 0, 16 + 8 * r->if_[i].arg);	/* its low half */
		emit(AND, 0, 0, r->if_[i].mask);
		emit(JEQ, 0, 3 * (n - 1 - i) + 1, r->nr == SYS_openat && !i ?
		    (uint32_t)dir : r->if_[i].value);
	}
	emit(RET, 0, 0, ALLOW);
}

static void
emit_fixed(int nr)
{
	if (fixed < 0)
		return;
	emit(LD, 0, 0, 0);
	emit(JEQ, 0, 3, nr);
	emit(LD, 0, 0, 16);
	emit(JEQ, 0, 1, fixed);
	emit(RET, 0, 0, KILL_PROCESS);
}

static int
seccomp(int dial, int dir)
{
	struct {
		unsigned short n;
		struct ins *p;
	} f = { 0, prog };
	int who = (dial ? DIAL : 0) | (dial & PROC_LOCAL ? LOCAL : 0) |
	    (dir >= 0 ? KEYS : 0);
	size_t i;

	nprog = 0;
	emit(LD, 0, 0, 4);			/* the architecture */
	emit(JEQ, 1, 0, ARCH);
	emit(RET, 0, 0, KILL_PROCESS);
	emit_fixed(SYS_connect);
	emit_fixed(SYS_bind);
	for (i = 0; i < sizeof rules / sizeof *rules; i++)
		if (!rules[i].who || rules[i].who & who)
			emit_rule(&rules[i], dir);
	emit(RET, 0, 0, KILL_PROCESS);
	f.n = nprog;
	/* SECCOMP_SET_MODE_FILTER; SPEC_ALLOW, as we run no foreign code that
	 * would need the slow mitigations of kernels before 5.16 */
	if (syscall(SYS_seccomp, 1L, 4L, &f) == 0)
		return 0;
	return prctl(PR_SET_SECCOMP, 2L, &f, 0L, 0L);
}

# else

const char confine_name[] = "Landlock, no seccomp";

static int
seccomp(int dial, int dir)
{
	(void)dial, (void)dir;
	return -1;
}

# endif

static const char *
confine(int dial, const char *path, int dir)
{
	static const char *const words[] = {
		NULL, "seccomp", "Landlock", "seccomp and Landlock"
	};
	int how = 0;

	(void)path;
	prctl(PR_SET_NO_NEW_PRIVS, 1L, 0L, 0L, 0L);
	if (landlock(dial, dir) == 0)
		how |= 2;
	if (seccomp(dial, dir) == 0)
		how |= 1;
	return words[how];
}

#elif defined(__OpenBSD__) && !defined(NO_SANDBOX)

const char confine_name[] = "pledge, unveil";

static const char *
confine(int dial, const char *path, int dir)
{
	if (path && unveil(path, "r") < 0)
		return NULL;
	return pledge(dir >= 0 ? "stdio inet rpath" : dial & PROC_LOCAL ?
	    "stdio inet unix recvfd" : dial ? "stdio inet recvfd" :
	    "stdio inet", NULL) < 0 ? NULL : "pledge and unveil";
}

#elif defined(__FreeBSD__) && !defined(NO_SANDBOX)

const char confine_name[] = "Capsicum";

/* In capability mode nobody connects, so it is for the server alone. */
static const char *
confine(int dial, const char *path, int dir)
{
	(void)path, (void)dir;
	return dial || cap_enter() < 0 ? NULL : "Capsicum";
}

#else

const char confine_name[] = "no sandbox";

static const char *
confine(int dial, const char *path, int dir)
{
	(void)dial, (void)path, (void)dir;
	return NULL;
}

#endif

#ifdef __linux__
# define DIR_ONLY O_PATH	/* search permission is enough */
#else
# define DIR_ONLY O_RDONLY
#endif

int
proc_confine(int dial, const char *dir, int sock, const char **what)
{
	int fd = -1;

	*what = NULL;
	fixed = sock;
	if (dir && (fd = open(dir, DIR_ONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return -1;
	proc_hide();
	*what = confine(dial, dir, fd);
	return fd;
}

/* ducts */

#if HAVE_SPLICE

static int pool[POOL][2], npool;

static int
pipe_take(int p[2])
{
	if (npool) {
		npool--;
		memcpy(p, pool[npool], sizeof pool[npool]);
		return 0;
	}
	if (pipe2(p, O_NONBLOCK | O_CLOEXEC) < 0) {
		p[0] = p[1] = -1;
		return -1;
	}
	fcntl(p[1], F_SETPIPE_SZ, BIG);	/* refused: smaller, and still right */
	return 0;
}

static void
pipe_kill(int p[2])
{
	close(p[0]);
	close(p[1]);
	p[0] = p[1] = -1;
}

static void
pipe_give(int p[2])
{
	if (npool == POOL) {
		pipe_kill(p);
		return;
	}
	memcpy(pool[npool++], p, sizeof pool[0]);
	p[0] = p[1] = -1;
}

static ssize_t
pipe_in(struct duct *d, int fd)
{
	return splice(fd, NULL, d->pipe[1], NULL, BIG, SPLICE_F_NONBLOCK);
}

static ssize_t
pipe_out(struct duct *d, int fd)
{
	return splice(d->pipe[0], NULL, fd, NULL, d->held, SPLICE_F_NONBLOCK);
}

static unsigned char buf[SMALL];

#else

static int
pipe_take(int p[2])
{
	(void)p;
	return -1;
}

static void pipe_kill(int p[2]) { (void)p; }
static void pipe_give(int p[2]) { (void)p; }

static ssize_t
pipe_in(struct duct *d, int fd)
{
	(void)d, (void)fd;
	return -1;
}

static ssize_t
pipe_out(struct duct *d, int fd)
{
	(void)d, (void)fd;
	return -1;
}

static unsigned char buf[BIG];

#endif

void
duct_init(struct duct *d)
{
	memset(d, 0, sizeof *d);
	d->pipe[0] = d->pipe[1] = -1;
}

/* Gives back what an empty duct does not need. */
static void
rest(struct duct *d)
{
	free(d->stash);
	d->stash = NULL;
	if (d->pipe[0] >= 0)
		pipe_give(d->pipe);
}

void
duct_end(struct duct *d)
{
	if (d->held && d->pipe[0] >= 0)
		pipe_kill(d->pipe);
	rest(d);
	d->held = 0;
}

static int
again(void)
{
	return errno == EAGAIN || errno == EWOULDBLOCK;
}

/* Sends what is held.  1: all of it, 0: to is full, -1: see errno. */
static int
push(struct duct *d, struct io *to)
{
	ssize_t n;

	while (d->held) {
		if (!(to->ready & IO_W))
			return 0;
		n = d->stash ? write(to->fd, d->stash + d->off, d->held) :
		    pipe_out(d, to->fd);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && again()) {
			to->ready &= ~IO_W;
			return 0;
		}
		if (n <= 0)
			return -1;
		d->held -= n;
		d->off += n;
		d->total += n;
	}
	free(d->stash);
	d->stash = NULL;
	return 1;
}

/* Both pulls: >0 bytes taken, 0 end of file, -1 see errno.  The duct is
 * empty before; what could not be sent at once is held after. */
static ssize_t
pull_read(struct duct *d, struct io *from, struct io *to)
{
	size_t size = d->bulk ? sizeof buf : SMALL;
	ssize_t n, w;

	do
		n = read(from->fd, buf, size);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n;
	d->bulk = n >= SMALL;
	if ((size_t)n < size)
		io_short(from);
	do
		w = write(to->fd, buf, n);
	while (w < 0 && errno == EINTR);
	if (w < 0 && again()) {
		to->ready &= ~IO_W;
		w = 0;
	}
	if (w < 0)
		return -1;
	d->total += w;
	if (w == n)
		return n;
	if (!(d->stash = malloc(n - w))) {
		errno = ENOMEM;
		return -1;
	}
	memcpy(d->stash, buf + w, n - w);
	d->held = n - w;
	d->off = 0;
	return n;
}

static ssize_t
pull_splice(struct duct *d, struct io *from, struct io *to)
{
	ssize_t n;

	if (d->pipe[0] < 0 && pipe_take(d->pipe) < 0)
		return pull_read(d, from, to);
	do
		n = pipe_in(d, from->fd);
	while (n < 0 && errno == EINTR);
	if (n > 0) {
		d->held = n;
		d->off = 0;
		d->bulk = n >= SMALL;
		return n;
	}
	if (n == 0 || errno == EINVAL) {
		/* 0 may be an urgent mark (see tcp(7)), EINVAL a terminal:
		 * only read(2) is to be believed */
		from->ready |= IO_U;
		return pull_read(d, from, to);
	}
	return -1;
}

/* Passes the end of file on.  A pipe that is closed may be shared: it gets its
 * flags back; nobody waits for the end of a terminal. */
static int
finish(struct duct *d, struct io *to)
{
	d->eof = 1;
	rest(d);
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
		if ((r = push(d, to)) < 0)
			return DUCT_DEAD;
		if (!r)
			return DUCT_IDLE;
		if (!(from->ready & IO_R) || !(to->ready & IO_W))
			break;
		if (moved >= BUDGET) {
			rest(d);
			return DUCT_MORE;
		}
		n = HAVE_SPLICE && d->bulk && !(from->ready & IO_U) ?
		    pull_splice(d, from, to) : pull_read(d, from, to);
		if (n == 0)
			return finish(d, to);
		if (n < 0 && again()) {
			from->ready &= ~IO_R;
			break;
		}
		if (n < 0)
			return DUCT_DEAD;
		moved += n;
	}
	rest(d);
	return DUCT_IDLE;
}
