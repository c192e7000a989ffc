/* event.h - as much of kqueue(2) as reactor.c uses, for a Linux that tests it;
 * kqueue.c implements it on epoll(7) */
#ifndef KQUEUE_EVENT_H
#define KQUEUE_EVENT_H

#include <stdint.h>
#include <time.h>

enum { EVFILT_READ = -1, EVFILT_WRITE = -2 };
enum { EV_ADD = 0x1, EV_DELETE = 0x2, EV_CLEAR = 0x20, EV_EOF = 0x8000 };

struct kevent {
	uintptr_t ident;
	int16_t filter;
	uint16_t flags;
	uint32_t fflags;
	int64_t data;
	void *udata;
};

#define EV_SET(k, i, fi, fl, ff, d, u) do { \
	(k)->ident = (uintptr_t)(i); \
	(k)->filter = (fi); \
	(k)->flags = (fl); \
	(k)->fflags = (ff); \
	(k)->data = (d); \
	(k)->udata = (u); \
} while (0)

int kqueue(void);
int kevent(int, const struct kevent *, int, struct kevent *, int,
    const struct timespec *);

#endif
