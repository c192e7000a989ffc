/* reactor.h - wait for descriptors and deadlines, move bytes between them
 *
 * One thread, edge-triggered, one callback per watcher.  The contract:
 *
 * 1. A struct io lives inside its owner and does not move while it is added.
 *    Before, it is all zeros, and nothing but io_add() may have it.
 * 2. Each descriptor is registered once, for everything.  ready gathers what
 *    the kernel reported; only the owner clears a bit, when a call said
 *    EAGAIN.  fn runs when something was reported, when the deadline passed,
 *    or after io_again().
 * 3. After io_del() fn is not called again, not even for an event that was
 *    already fetched.  Any callback may free any owner at once.
 * 4. Descriptors are closed by io_close() only: delete first, then close.
 * 5. A deadline is one-shot.  io_after() replaces it and cannot fail.
 * 6. Watchers with bulk set run one a turn, after 64 that have it not: that
 *    is how keystrokes overtake copies.  Whoever has spent its budget sets
 *    bulk, calls io_again() and returns.
 */
#ifndef REACTOR_H
#define REACTOR_H

#include <sys/types.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <netinet/in.h>

#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum {
	IO_R = 1,	/* readable, or end of file, or an error to read */
	IO_W = 2,	/* writable, or connected */
	IO_U = 4,	/* urgent data was here: no splice, no short cut */
	IO_H = 8,	/* the peer has sent its last byte */
	IO_T = 16	/* the deadline passed: see io_expired() */
};

struct io {
	void (*fn)(struct io *);	/* NULL: it is not added */
	struct io *next, *prev;		/* in a run queue, or NULL */
	int fd;				/* -1: a bare timer */
	int heap;			/* index among the deadlines, or -1 */
	uint8_t ready;			/* IO_*, cleared by the owner */
	uint8_t bulk;			/* set by the owner: see 6 */
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
int64_t reactor_clock(void);		/* the same, read anew */
int64_t reactor_us(void);		/* that clock in microseconds */
extern void (*reactor_turn)(int64_t us);	/* told how long a turn took */
int reactor_signal(int sig, void (*fn)(void));	/* run from the loop */
extern const char reactor_name[];	/* "epoll, splice", for --version */

/* watchers */
int io_add(struct io *, int fd, void (*fn)(struct io *));
	/* takes fd (-1: a bare timer), which is non-blocking; -1: fd is
	 * still the caller's.  What cannot be waited for is always ready. */
int io_lazy(struct io *, int on);	/* may be called 200 ms late; 0, -1 */
void io_after(struct io *, int ms);	/* ms < 0: no deadline */
int io_expired(struct io *);		/* 1 once after a deadline passed */
void io_again(struct io *);		/* call fn in the next turn */
void io_short(struct io *);		/* less came than asked for: clears
					 * IO_R where that means EAGAIN */
void io_del(struct io *);		/* safe to repeat; the fd stays open */
void io_close(struct io *);		/* io_del(), close(2), fd = -1 */

/* sockets, all of them non-blocking and close-on-exec */
int net_listen(const void *sockaddr, int v6only);
int net_listen_unix(const char *path);
	/* all may connect whom the directory lets in; a socket on which nobody
	 * listens any more is replaced.  -1: see errno */
int net_inherited(int *bad);
	/* how many sockets systemd has opened for us (sd_listen_fds(3)), from
	 * descriptor 3 on; -1: *bad is not a listening socket */
int net_listen_private(struct sockaddr_un *);
void net_unlisten_private(struct sockaddr_un *);
	/* a Unix socket in a new directory of $TMPDIR that is ours alone, whose
	 * path is filled in; unlisten removes both, not the descriptor */
int net_accept(int lfd, struct sockaddr *, socklen_t *);
int net_dial(const void *sockaddr, uint32_t alias);
	/* IO_W, then net_error().  Where it is in 127/8 and alias is not 0 the
	 * source is another address there, made of alias, if the system has
	 * such.  -1: see errno */
int net_lookup(const char *host, const char *port, int family, int numeric,
    struct sockaddr_storage *to, int max, const char **why);
	/* the addresses of a name, families in turn: how many; 0: *why, and
	 * errno is EAGAIN where the name server gave no answer */
int net_self(int fd, const struct sockaddr_storage *to, int n,
    char out[INET_ADDRSTRLEN]);
	/* the IPv4 address of this end of fd, or else from which this machine
	 * would reach one of the n addresses; 0, -1 */
int net_error(int fd);			/* takes SO_ERROR: 0 or an errno */
extern int net_probes;			/* of TCP keepalive, after 30 s, 10 s
					 * apart, for a new socket */
void net_keepalive(int fd, int idle, int interval, int count);
	/* s, s, probes */
void net_user_timeout(int fd, int ms);	/* where there is one */
void net_reset(int fd);			/* close(2) will send RST, not FIN */
unsigned net_silent(int fd);
	/* ms since the last ACK while something waits for one, else 0;
	 * always 0 where the system does not tell */
int net_watch(void);
	/* a descriptor that becomes readable when a link or an address of
	 * this machine changes; -1 where there is no such thing */
enum { NET_FDS = 3 };
int net_send_fds(int sock, const void *, size_t, const int *fds, int n);
	/* all bytes, and n descriptors beside them (SCM_RIGHTS); 0, -1 */
void net_cut(int net);
	/* For a TCP connection that another process carries for us: what is
	 * left of it is not sent, and the peer sees a reset, once all have
	 * closed it. */
int net_is_cut(int net);		/* has any of its holders cut it? */
ssize_t net_recv_fds(int sock, void *, size_t, int *fds, int *n);
	/* recv(2); appends the descriptors that came to the *n of fds, which
	 * has room for NET_FDS */
int net_blocking(int fd, int on);	/* the flags before, or -1 */
void sys_random(void *, size_t);	/* from the kernel; cannot fail */
void sys_notify_open(void);
	/* Opens the socket of sd_notify(3), if there is one.  It stays open, as
	 * the sandbox lets no other be made. */
void sys_notify(const char *fmt, ...);	/* one message there, if it is open */
int64_t sys_resident(void);
	/* bytes of memory in use, 0: not known; once before proc_confine() */
void *sys_shared(size_t);
	/* memory of all zeros that this process will share with those that it
	 * forks; NULL: none is left */
int sys_watchdog(void);
	/* tells systemd's watchdog that we live; the ms until the next time */
int file_lines(const char *path, int dir, const char *name, int secret,
    const char *(*fn)(char *line), char *why, size_t size);
	/* Calls fn with each line of the file, until that returns what is wrong
	 * with one.  It is called name in dir, and nobody else may change it,
	 * nor read a secret, of which nothing stays in memory.  0, or -1: why
	 * has a sentence; errno says why it cannot be opened, or is 0. */

/* children */
int proc_raise(void);
	/* raises the soft limit of descriptors, which proc_spawn() lowers again
	 * in the child; returns how many there may be */
void proc_hide(int hide); /* no core dump, and no other process looks in */
/* a unit's OOMScoreAdjust= is for us, not for what others make us run */
void proc_oom_normal(void);
int proc_user(const char *name);
	/* root becomes that user, with its groups, for good; 0, or -1: see
	 * errno, which is 0 where there is no such user */
int proc_confine(int dialler, const char *dir, const char **what);
	/* Gives up for good all that is not needed from here on: no program is
	 * run, no process made, no file opened, no socket made or connected.
	 * With dialler, descriptors can be received, and children waited for.
	 * In dir, unless it is NULL, files can still be read: by openat(2),
	 * through the descriptor that is returned, which is -1 where there is
	 * no dir (or, errno says, no such one).  *what says by what. */
const char *proc_sandbox(void);
	/* what it would find here and now, for --version: "Landlock", say */
int proc_try(const char *what, int dir);
	/* for tests: tries what proc_confine() forbids; 0: it works */
void proc_start(void);
	/* first thing in main(): no signal is blocked, SIGPIPE is ignored, and
	 * descriptors 0 to 2 are open, if only to /dev/null */
void proc_stdio(struct io *in, struct io *to_out);
	/* standard input and output do not block until this process ends; IO_U
	 * where splice(2) cannot take from in, or to_out's bytes to output */
void proc_keep(const int *fds, int n);
	/* in a child: closes all above 2 but those n */
void proc_null(int fd);			/* fd becomes /dev/null */
int proc_exec(char *const argv[], int fd, int err);
	/* argv[0] of $PATH in a process and session of its own, with fd as
	 * standard input and output and err as standard error, where it says
	 * if it cannot be run.  The pid, or -1. */
void proc_end(int pid, int ds);
	/* Ends the process and all in its session, which have ds tenths of a
	 * second to end by themselves, and then ends this one. */
int proc_spawn(const char *cmd, int fd, const char *first);
	/* /bin/sh -c cmd with fd as standard input and output, to which it
	 * writes first before; the pid, or -1.  fd stays open here, blocking */

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

extern int duct_fds;			/* open descriptors of pipes */
void duct_init(struct duct *);
int duct_move(struct duct *, struct io *from, struct io *to);
	/* IDLE: waits for an edge; MORE: budget spent, io_again() it;
	 * DONE: end of file passed on; DEAD: see errno */
void duct_end(struct duct *);		/* a pipe that holds bytes is closed */

/* A relay without the loop, for a process that does nothing else. */
struct pump {
	struct io *from, *to;		/* never added; fds non-blocking */
	struct duct duct;
};

void pump_init(struct pump *, struct io *from, struct io *to);
int pumps_wait(struct pump p[2], struct pollfd *also, int n, int ms);
	/* poll(2) for what both need, and for the n of also; ms < 0: no end.
	 * As poll(2), but 0 only after ms. */

/* Carries a connection to and from a program, openssl or another. */
struct companion {
	struct io near, far;	/* the connection, and the program's side */
	int err;		/* what the program writes, or -1 */
	int talk;		/* of who dialled: closed when he has gone */
	int pid, tls, up;	/* up: who dialled has what he wanted */
	int alone;		/* nobody else watches it, once he has gone */
	int last_ms;		/* for the last bytes */
};

void proc_carry(struct companion *);
	/* until either has ended, and then ends this process */

#endif /* REACTOR_H */
