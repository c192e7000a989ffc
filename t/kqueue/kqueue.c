/* kqueue.c - kqueue(2) on epoll(7), so that the backend of the BSDs runs here
 *
 *	make CPPFLAGS='-DUSE_KQUEUE -DNO_SPLICE -It/kqueue' LDFLAGS=kqueue.o
 *
 * One queue, two filters: each is an epoll set of its own, and both are in a
 * third one that is waited for.  As on the BSDs a filter reports edges only
 * (EV_CLEAR), EVFILT_READ tells of the peer's last byte, and EVFILT_WRITE
 * has EV_EOF where this side can send no more, its own shutdown(2) included.
 */
#include <sys/epoll.h>
#include <sys/event.h>

#include <errno.h>
#include <unistd.h>

enum { READ, WRITE, BOTH };

static int set[3] = { -1, -1, -1 };

int
kqueue(void)
{
	struct epoll_event e = { EPOLLIN, { 0 } };
	int i;

	for (i = READ; i <= BOTH; i++)
		if ((set[i] = epoll_create1(EPOLL_CLOEXEC)) < 0)
			return -1;
	for (i = READ; i <= WRITE; i++)
		if (epoll_ctl(set[BOTH], EPOLL_CTL_ADD, set[i], &e) < 0)
			return -1;
	return set[BOTH];
}

static int
change(const struct kevent *k)
{
	struct epoll_event e;
	int which = k->filter == EVFILT_READ ? READ : WRITE;

	e.events = EPOLLET | (which == READ ? EPOLLIN | EPOLLRDHUP : EPOLLOUT);
	e.data.ptr = k->udata;
	return epoll_ctl(set[which], k->flags & EV_DELETE ? EPOLL_CTL_DEL :
	    EPOLL_CTL_ADD, (int)k->ident, &e);
}

static int
fetch(int which, struct kevent *k, int n)
{
	struct epoll_event e[64];
	int i, eof = which == READ ? EPOLLRDHUP | EPOLLHUP | EPOLLERR :
	    EPOLLHUP | EPOLLERR;

	n = epoll_wait(set[which], e, n < 64 ? n : 64, 0);
	for (i = 0; i < n; i++)
		EV_SET(&k[i], 0, which == READ ? EVFILT_READ : EVFILT_WRITE,
		    e[i].events & (uint32_t)eof ? EV_EOF : 0, 0, 0,
		    e[i].data.ptr);
	return n < 0 ? 0 : n;
}

int
kevent(int kq, const struct kevent *ch, int nch, struct kevent *ev, int nev,
    const struct timespec *ts)
{
	struct epoll_event e[2];
	int n, ms = ts ? (int)(ts->tv_sec * 1000 + ts->tv_nsec / 1000000) : -1;

	for (; nch > 0; nch--, ch++)
		if (change(ch) < 0)
			return -1;
	if (nev < 2)
		return 0;
	if ((n = epoll_wait(kq, e, 2, ms)) <= 0)
		return n;
	n = fetch(READ, ev, nev / 2);
	return n + fetch(WRITE, ev + n, nev - n);
}
