/* reactor.h - wait for descriptors and deadlines, move bytes between them
 *
 * One thread, edge-triggered, one callback per watcher.  The contract:
 *
 * 1. A struct io lives inside its owner and does not move while it is added.
 *    From birth its fd is -1 (io_init).
 * 2. Each descriptor is registered once, for everything.  ready gathers what
 *    the kernel reported; only the owner clears a bit, when a call said
 *    EAGAIN.  fn runs when something was reported, when the deadline passed,
 *    or after io_again().
 * 3. After io_del() fn is not called again, not even for an event that was
 *    already fetched.  Any callback may free any owner at once.
 * 4. Descriptors are closed by io_close() only: delete first, then close.
 * 5. A deadline is one-shot.  io_after() replaces it and cannot fail.
 * 6. Watchers with bulk set run one a turn, after all that have it not: that
 *    is how keystrokes overtake copies.  Whoever has spent its budget sets
 *    bulk, calls io_again() and returns.
 */
#ifndef REACTOR_H
#define REACTOR_H

#include <sys/types.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <stddef.h>
#include <stdint.h>

enum {
	IO_R = 1,	/* readable, or end of file, or an error to read */
	IO_W = 2,	/* writable, or connected */
	IO_U = 4,	/* urgent data was here: no splice, no short cut */
	IO_H = 8,	/* the peer has sent its last byte */
	IO_T = 16	/* the deadline passed: see io_expired() */
};

struct io {
	void (*fn)(struct io *);
	struct io *next, *prev;		/* in a run queue, or NULL */
	int fd;				/* -1: a bare timer */
	int heap;			/* index among the deadlines, or -1 */
	uint8_t ready;			/* IO_*, cleared by the owner */
	uint8_t bulk;			/* set by the owner: see 6 */
	uint8_t added;
	uint8_t lazy;
	uint8_t sole;			/* set by the owner: the descriptor was
					 * made here, and no process was given
					 * a copy */
};

/* the loop */
int reactor_open(void);			/* -1: see errno */
int reactor_run(void);			/* 0 after reactor_halt(), else -1 */
void reactor_halt(void);
int64_t reactor_now(void);		/* ms, counts suspend, once a turn */
int reactor_signal(int sig, void (*fn)(int sig));  /* run from the loop */
extern const char reactor_name[];	/* "epoll, splice", for --version */
extern const char confine_name[];	/* "seccomp, Landlock", likewise */

/* watchers */
void io_init(struct io *);
int io_add(struct io *, int fd, void (*fn)(struct io *));
	/* takes fd (-1: a bare timer), makes it non-blocking; -1: fd is still
	 * the caller's.  A file that cannot be waited for is always ready. */
int io_lazy(struct io *, int on);	/* may be called 200 ms late; 0, -1 */
void io_after(struct io *, int ms);	/* ms < 0: no deadline */
int io_expired(struct io *);		/* 1 once after a deadline passed */
void io_again(struct io *);		/* call fn in the next turn */
void io_short(struct io *);		/* less came than asked for: clears
					 * IO_R where that means EAGAIN */
void io_del(struct io *);		/* safe to repeat; the fd stays open */
void io_close(struct io *);		/* io_del(), close(2), fd = -1 */

/* sockets, all of them non-blocking and close-on-exec */
int net_listen(const struct sockaddr *, socklen_t, int v6only);
void net_unlink_stale(const struct sockaddr_un *);
	/* a Unix socket on which nobody listens any more */
int net_listen_private(struct sockaddr_un *);
void net_unlisten_private(struct sockaddr_un *);
	/* a Unix socket in a new directory of $TMPDIR that is ours alone, whose
	 * path is filled in; unlisten removes both, not the descriptor */
int net_accept(int lfd, struct sockaddr *, socklen_t *);
int net_dial(const struct sockaddr *to, socklen_t, const struct sockaddr *from,
    socklen_t);		/* IO_W, then net_error(); from may be NULL */
void net_tune(int fd);			/* the options that all of ours have */
int net_error(int fd);			/* takes SO_ERROR: 0 or an errno */
void net_keepalive(int fd, int idle, int interval, int count);
	/* s, s, probes */
void net_user_timeout(int fd, int ms);	/* where there is one */
void net_reset(int fd);			/* close(2) will send RST, not FIN */
int net_silent(int fd);
	/* ms since the last ACK while something waits for one, else 0;
	 * always 0 where the system does not tell */
int net_watch(void);
	/* a descriptor that becomes readable when a link or an address of
	 * this machine changes; -1 where there is no such thing */
enum { NET_FDS = 3 };
int net_send_fds(int sock, void *, size_t, const int *fds, int n);
	/* all bytes, and n descriptors beside them (SCM_RIGHTS); 0, -1 */
ssize_t net_recv_fds(int sock, void *, size_t, int *fds, int *n);
	/* recv(2); appends the descriptors that came to the *n of fds, which
	 * has room for NET_FDS */
int net_pass(int sock, int fd);	/* one byte and fd; 0, -1 */
int net_blocking(int fd, int on);	/* the flags before, for net_flags() */
void net_flags(int fd, int flags);
void sys_random(void *, size_t);	/* from the kernel; cannot fail */

/* children */
int proc_raise(void);
	/* raises the soft limit of descriptors, which proc_spawn() lowers again
	 * in the child; returns how many there may be */
void proc_hide(void);	/* no core dump, and no other process looks in */
int proc_user(const char *name);
	/* root becomes that user, with its groups, for good; 0, or -1: see
	 * errno, which is 0 where there is no such user */
enum { PROC_DIAL = 1, PROC_LOCAL = 2 };
int proc_confine(int dial, const char *dir, int sock, const char **what);
	/* Gives up for good all that is not needed from here on: no program is
	 * run, no process made, no file opened; without PROC_DIAL in dial no
	 * connection either; PROC_LOCAL: by Unix sockets, too.  In dir, unless
	 * it is NULL, files can still be read: by openat(2), through the
	 * descriptor that is returned, which is -1 where there is no dir (or,
	 * errno says, no such one).  sock, a socket or -1, stays connected to
	 * whom it is.  *what says in words by what it is confined. */
int proc_try(const char *what, int dir);
	/* for tests: tries what proc_confine() forbids; 0: it works */
int proc_fork(void);
	/* fork(2); the child has default signals and, of the descriptors that
	 * are not close-on-exec, only what it had: call proc_keep() there */
void proc_keep(int fd);		/* in a child: close all above 2 but fd */
void proc_exec(char *const argv[], int fd, int err);
	/* In a child: becomes argv[0] of $PATH, in a session of its own, with
	 * fd as standard input and output and err (-1: as it was) as standard
	 * error.  Says why not, there. */
int proc_spawn(const char *cmd, int fd, const char *first, char *const env[]);
	/* /bin/sh -c cmd with fd as standard input and output, to which it
	 * writes first before, and env added to the environment; the pid, or
	 * -1.  fd stays open here, blocking. */

/* One direction of a relay.  It holds a pipe (Linux) or a buffer only while
 * bytes are stuck in it, so an idle session costs two descriptors.  Held
 * bytes forbid reading: that is what makes EAGAIN unambiguous. */
struct duct {
	uint64_t total;			/* bytes delivered, for the log */
	unsigned char *stash;		/* what a write left over, from off */
	int pipe[2];			/* or the pipe that holds it */
	uint32_t held, off;
	uint8_t bulk, eof;
	uint8_t keep;			/* an end of file is not passed on */
};

enum { DUCT_IDLE, DUCT_MORE, DUCT_DONE, DUCT_DEAD };

void duct_init(struct duct *);
int duct_move(struct duct *, struct io *from, struct io *to);
	/* IDLE: waits for an edge; MORE: budget spent, io_again() it;
	 * DONE: end of file passed on; DEAD: see errno */
void duct_end(struct duct *);		/* a pipe that holds bytes is closed */

#endif /* REACTOR_H */
