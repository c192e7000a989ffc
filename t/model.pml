/* model.pml - the states of mssh-proto(7), for spin(1)
 *
 * One node, the connections that its agents open one after the other, and its
 * clients.  Each connection is two queues of messages, one process for the
 * server's side of it and one for the peer's.  Who pings is a process without
 * queues, since nothing it says can be astray.  A handler of the server is one
 * atomic step, since the server is one loop: settle() ends each, and does
 * what the handlers of mssh.c do by calling each other.
 *
 * Time is a deadline that may pass whenever its phase has one.  A byte of a
 * session is a raw message that carries the client's number and its place, so
 * that a byte at the wrong peer, lost, twice or out of order is an assertion,
 * as is a line among the bytes and a byte where a line was due.
 *
 * Left out: version 1, several nodes, the limits' numbers, lists by age (any
 * parked connection may be called or pinged), who lists, what TCP does below.
 *
 * init picks one of five scenes; -DONLY=n leaves one.  -DLIVE is a smaller
 * model, of a client that never leaves and must be served or refused.  Rules
 * to break, for 80-model.t: -DPONG_AFTER_GO -DPUSH_OUT -DDEAF_PROBE
 * -DEAT_COPY -DPARK_AGAIN -DANY_PROOF -DCALLED_STAYS -DMUTE_CLIENT -DPONG_LOST
 * -DNO_DEADLINE.
 *
 * -DRESUME is another model, of one session that goes on by other connections.
 * Rules to break there: -DANY_SEQ -DANY_KEY -DOLD_STAYS -DRESEND_ALL
 * -DNOT_SYNCED.
 */
#ifdef RESUME
/* A session and its connections: the proxy dials one after the other, and each
 * reaches the agent when it likes, or never.  A connection may be cut at any time, and
 * what is under way is lost.  A byte of a stream is its place in
 * it, which the wire does not carry: whoever takes one that is not the next
 * breaks an assertion.  F_END is the last byte of each stream.  A stranger who
 * knows the token, but has another key, comes as well. */
# define DIALS 3
# define LAST(e) (3 - (e))	/* of what e sends; it is F_END */
# define STRANGER DIALS
# define NONE (DIALS + 1)
# define PROXY 0
# define KEEPER 1

mtype = { data, gone };
chan way[2 * DIALS + 2] = [2] of { mtype, byte, byte }; /* what, place, received */
bit dialled[DIALS + 1];		/* on its way to the agent */
bit cut[DIALS + 1];

byte fd[2] = NONE;		/* by which connection an end goes on */
bit synced[2], over[2], first[2];
byte sent[2], acked[2], received[2], told[2];
byte dials;			/* so many were */
byte newest;			/* of those that the keeper was given */
bit kept;			/* there is a session */
byte old = NONE;		/* that the keeper had before */

/* Nobody reads what is for e in its old connection; that spares states. */
inline forget(e) {
	do
	:: fd[e] != NONE && nempty(way[2 * fd[e] + 1 - e]) ->
		way[2 * fd[e] + 1 - e]?m,_,_
	:: fd[e] == NONE || empty(way[2 * fd[e] + 1 - e]) -> break
	od;
	m = 0
}

/* mssh.c: resumable_attach */
inline resumable_attach(e, k, sync) {
# ifdef OLD_STAYS
	if
	:: e == KEEPER && fd[e] != NONE -> old = fd[e]
	:: else
	fi;
# else
	forget(e);
# endif
	fd[e] = k;
	synced[e] = sync;
	first[e] = 1
}

/* mssh.c: resumable_detach */
inline resumable_detach(e) {
	forget(e);
	fd[e] = NONE;
	synced[e] = 0;
	first[e] = 0
}

/* mssh.c: frame_heard */
inline frame_heard(e, r) {
	if
	:: !synced[e] ->
		assert(r >= acked[e] && r <= LAST(e));
		synced[e] = 1;
# ifdef RESEND_ALL
		sent[e] = acked[e]
# else
		sent[e] = r
# endif
	:: else
	fi;
	assert(r >= acked[e] && r <= sent[e]);
	acked[e] = r
}

/* mssh.c: frames_take */
inline frames_take(e, k) {
	way[2 * k + 1 - e]?m,n,r;
	if
	:: m == gone ->		/* mssh.c: close_take */
		over[e] = 1;
		resumable_detach(e)
	:: else ->
		frame_heard(e, r);
		if
		:: n ->
			assert(n == received[e] + 1);
			received[e]++
		:: else
		fi
	fi;
	m = 0; n = 0; r = 0
}

/* mssh.c: frame_next */
inline frame_next(e, place) {
	if
	:: cut[fd[e]]
	:: else -> way[2 * fd[e] + e]!data(place, received[e])
	fi;
	told[e] = received[e];
	first[e] = 0
}

/* mssh.c: is_complete */
# define COMPLETE(e) (received[e] == LAST(1 - (e)) && \
	acked[e] == LAST(e) && told[e] == received[e] && !first[e])

# ifdef NOT_SYNCED
#  define MAY_SEND(e) true
# else
#  define MAY_SEND(e) synced[e]
# endif

/* mssh.c: resumable_run */
proctype end_of(byte e)
{
	mtype m;
	byte n, r;

end:	do
	:: atomic { !over[e] && fd[e] != NONE && COMPLETE(e) ->
		/* the other has all as well, and has said all */
		assert(received[1 - e] == LAST(e) &&
		    sent[1 - e] == LAST(1 - e));
		over[e] = 1;	/* what it has sent still arrives */
		fd[e] = NONE }
	:: atomic { !over[e] && fd[e] != NONE && nfull(way[2 * fd[e] + e]) &&
	    MAY_SEND(e) && sent[e] < LAST(e) ->
		sent[e]++;
		frame_next(e, sent[e]) }
	:: atomic { !over[e] && fd[e] != NONE && nfull(way[2 * fd[e] + e]) &&
	    (first[e] || told[e] != received[e]) ->
		frame_next(e, 0) }
	/* mssh.c: frames_receive */
	:: atomic { !over[e] && fd[e] != NONE &&
	    nempty(way[2 * fd[e] + 1 - e]) -> frames_take(e, fd[e]) }
	:: atomic { !over[e] && e == KEEPER && old != NONE &&
	    nempty(way[2 * old + 1 - e]) -> frames_take(e, old) }
	/* it thinks so, or it is; the keeper waits for the next as well */
	:: atomic { !over[e] && fd[e] != NONE && (cut[fd[e]] || e == PROXY) ->
		resumable_detach(e) }
	/* mssh.c: session_redial */
	:: atomic { e == PROXY && !over[e] && fd[e] == NONE &&
	    dials < DIALS ->
		dialled[dials] = 1;
		resumable_attach(e, dials, !dials);
		if
		:: dials -> frame_next(e, 0)	/* mssh.c: early_send */
		:: else
		fi;
		dials++ }
	od
}

# ifdef ANY_SEQ
#  define IS_NEWER(k) true
# else
#  define IS_NEWER(k) (k > newest)
# endif
# ifdef ANY_KEY
#  define HAS_KEY(k) true
# else
#  define HAS_KEY(k) (k != STRANGER)
# endif

/* It gives each connection that comes to the keeper, or to nobody. */
/* mssh.c: session_resume */
proctype agent()
{
	byte k;
	mtype m;

end:	do
	:: atomic {
		if
		:: dialled[0] -> k = 0
		:: dialled[1] -> k = 1
		:: dialled[2] -> k = 2
		:: dialled[STRANGER] && kept -> k = STRANGER
		fi;
		dialled[k] = 0;
		if
		/* mssh.c: session_keep */
		:: k == 0 && !kept ->
			kept = 1;
			resumable_attach(KEEPER, 0, 1)
		:: kept && !over[KEEPER] && k > 0 && IS_NEWER(k) &&
		    HAS_KEY(k) ->
			assert(k != STRANGER);
			newest = k;
			/* what it was sent is older than its end */
			resumable_attach(KEEPER, k, 0)
		:: else ->
			if
			:: k == STRANGER || cut[k]
			:: else -> way[2 * k + KEEPER]!gone(0, 0)
			fi
		fi;
		k = 0 }
	od
}

/* All that is under way in a connection is lost. */
proctype network()
{
	byte k;
	mtype m;

end:	atomic {
		if
		:: dials > 0 -> k = 0
		:: dials > 1 -> k = 1
		fi;
		cut[k] = 1;
		do
		:: way[2 * k]?m,_,_
		:: way[2 * k + 1]?m,_,_
		:: empty(way[2 * k]) && empty(way[2 * k + 1]) -> break
		od;
		m = 0;
		k = 0 }
}

init {
	atomic {
		dialled[STRANGER] = 1;
		run end_of(PROXY);
		run end_of(KEEPER);
		run agent();
		run network()
	}
}
#else
#ifdef LIVE
# define ONLY 4
# define NA 2			/* connections of agents, in all */
# define NC 1			/* clients */
#else
# define NA 3
# define NC 2
#endif
#define N (NA + NC)		/* clients come behind the agents */
#define ASKER N
#define NONE (N + 1)
#define BYTES 2			/* of a client; the copy behind GO has one */
#define RAW(sid, n) ((sid) * 4 + (n))

/* phases: the server's, the agent's, the client's */
mtype = { BIRTH, HELLO, PROOF, LINGER, PARKED, PROBED, GO_SENT, AWAIT_CLIENT,
	WAITING, PAIRED, PINGING, RELAY, CLOSED, DIAL, REGISTERING, IDLE,
	PINGED, HELD, ASK };
/* lines, then what is none */
mtype = { hello, challenge, proof, ok, error, ping, pong, go, ready, raw,
	disconnect };
/* what a handler has decided */
mtype = { DROP, REFUSE, PARK };

/* the wire */
chan up[N] = [5] of { mtype, byte };	/* to the server */
chan down[N] = [6] of { mtype, byte };
bit hup[N];		/* the peer has ended its side */
bit deaf[N];		/* the peer reads no more: closed, or cut off */
bit cut[N];		/* the network is gone, and says nothing */
byte fin[N];		/* the server ended its side: 1, by a reset: 2 */

/* the server */
mtype phase[N + 1] = BIRTH;	/* and that of who pings */
byte mate[N] = NONE;	/* GO_SENT and PAIRED, RELAY */
bit agent[N];		/* counted in agents */
bit early[N];		/* a client that wants no OK */
bit copied[N];		/* its first byte went behind GO */
bit asked;		/* who pings has no answer yet */
byte holder;		/* the run that holds the node */
byte agents;
bit keys;
chan waiting = [NC] of { byte };
chan vain = [NC] of { byte };	/* to be paired: new, or called in vain */
chan todo = [8] of { mtype, byte };	/* empty between two steps */

/* the peers */
byte owner[NA];		/* an agent's run */
bit slot[NA];
bit want[N];		/* is to be dialled */
bit good[N];		/* has the right key */
bit revoked[N];		/* which is gone since; an agent's with its run's */
byte reloads;		/* how many more there may be */
byte fresh;		/* the next connection of whoever dials again */
bit late;		/* clients come when the agents are there */
byte pings;		/* how many more there may be, of agents */
byte asks;		/* and of who pings the node */
byte faults;		/* how many more peers may fail by themselves */

/* what only assertions look at */
#define IS_PARKED(d) (phase[d] == PARKED || phase[d] == PROBED)
bit heard[N];		/* it has answered since it was asked */
bit began[N];		/* in a session, from the server's OK on */
byte sent[N];		/* bytes for the other side */

/* ---- the server */

inline drain(ch) {
	do
	:: ch?_,_
	:: empty(ch) -> break
	od
}

/* At the head of a queue. */
inline push(ch, d) {
	ch!d;
	i = len(ch) - 1;
	do
	:: i > 0 -> ch?x; ch!x; i--
	:: else -> break
	od
}

/* A line to a peer that is gone is lost, which the server cannot know. */
/* mssh.c: line_send */
inline line_send(d, m, arg) {
	if
	:: deaf[d]
	:: else ->
		assert(nfull(down[d]));
		down[d]!m(arg)
	fi
}

/* mssh.c: list_del */
inline list_del(d) {
	if
	:: waiting??[eval(d)] -> waiting??eval(d)
	:: else
	fi
}

/* end->to of both */
inline conn_unlink(d, e) {
	mate[d] = NONE;
	mate[e] = NONE
}

/* An error ends both sides of a session with a reset; who was called in vain
 * gets another connection; who was called for a client that left is dropped,
 * since it can not be parked again. */
/* mssh.c: drop */
inline drop(d) {
	p = mate[d];
	if
	:: p != NONE ->
		conn_unlink(d, p);
		if
		:: phase[d] == RELAY ->
			fin[d] = 2;
			fin[p] = 2;
			todo!DROP(p)
		:: phase[d] == GO_SENT -> push(vain, p)
#ifdef PARK_AGAIN
		:: phase[d] == PAIRED -> phase[p] = PARKED
#else
		:: phase[d] == PAIRED -> todo!DROP(p)
#endif
		fi
	:: else
	fi;
	/* mssh.c: conn_release */
	list_del(d);
	if
	:: agent[d] ->
		agent[d] = 0;
		agents--
	:: else
	fi;
	if
	:: fin[d] == 0 -> fin[d] = 1
	:: else
	fi;
	phase[d] = CLOSED;
	early[d] = 0;
	copied[d] = 0;
	heard[d] = 0;
	drain(up[d])
}

/* mssh.c: refuse */
inline refuse(d) {
	if
	:: early[d] -> line_send(d, disconnect, 0)	/* SSH's */
	:: early[d]				/* whose first bytes are not */
	:: !early[d] -> line_send(d, error, 0)
	fi;
	linger(d)
}

/* mssh.c: linger */
inline linger(d) {
	list_del(d);
	fin[d] = 1;
	drain(up[d]);
	phase[d] = LINGER
}

/* mssh.c: park */
inline park(d) {
	line_send(d, ok, 0);
	holder = owner[d];
	if
	:: !agent[d] ->
		agent[d] = 1;
		agents++
	:: else
	fi;
	phase[d] = PARKED;
	for (i : 0 .. NA - 1) {
		/* one run at most holds a node */
		assert(!IS_PARKED(i) || owner[i] == holder);
		if
		:: i != d && IS_PARKED(i) && slot[i] == slot[d] ->
			todo!DROP(i)
		:: else
		fi
	}
}

#ifdef LIVE
# define PARKED_ANY (IS_PARKED(0) || IS_PARKED(1))
#else
# define PARKED_ANY (IS_PARKED(0) || IS_PARKED(1) || IS_PARKED(2))
#endif

/* Its deadline stands where it is under way. */
/* mssh.c: probe_parked */
inline probe_parked() {
	for (i : 0 .. NA - 1) {
		if
		:: phase[i] == PARKED ->
			phase[i] = PROBED;
			heard[i] = 0;
			line_send(i, ping, 0)
		:: else
		fi
	}
}

/* With agents but nothing parked the node is held for a moment: as time has
 * it. */
/* mssh.c: is_held */
/* mssh.c: agent_hello */
inline agent_hello(d) {
	if
#ifdef PUSH_OUT
	:: true -> todo!PARK(d)
#endif
	:: agents == 0 || owner[d] == holder || !PARKED_ANY -> todo!PARK(d)
	:: agents > 0 && owner[d] != holder ->	/* mssh.c: is_held */
		probe_parked();
		todo!REFUSE(d)
	fi
}

/* mssh.c: client_ok */
inline client_ok(d) {
	if
	:: early[d]
	:: else -> line_send(d, ok, 0)
	fi
}

/* From here the server passes on whatever comes, lines too. */
/* mssh.c: begin */
inline begin(d, e) {
	assert(!revoked[d] && !revoked[e]);
	assert(copied[d]);	/* a session that nobody began costs sshd one */
	client_ok(d);
#ifndef EAT_COPY
	up[d]?raw,_;
#endif
	began[d] = 1;
	began[e] = 1;
	copied[d] = 0;
	early[d] = 0;
	phase[d] = RELAY;
	phase[e] = RELAY
}

/* One that has closed may be found out when GO is sent, or later. */
/* mssh.c: go_send */
inline go_send(d, c1) {
	if
	:: hup[d] ->
		todo!DROP(d);
		push(vain, c1)
	:: true ->
		line_send(d, go, c1);
		copied[c1] = 0;
		if
		:: up[c1]?[raw] ->
			up[c1]?<raw,x>;		/* mssh.c: peek */
			copied[c1] = 1;
			line_send(d, raw, x);
#ifdef EAT_COPY
			up[c1]?raw,_;
#endif
#ifdef MUTE_CLIENT
		:: empty(up[c1])
#endif
		fi;
		mate[d] = c1;
		mate[c1] = d;
		phase[d] = GO_SENT;
		phase[c1] = PAIRED
	fi
}

/* Whose node is lost may wait or hear so at once, as time has it; whose node
 * has agents waits. */
/* mssh.c: wait_parked */
inline wait_parked(d) {
	if
	:: hup[d] -> todo!DROP(d)
	:: !hup[d] && (phase[d] == PAIRED || phase[d] == WAITING) ->
		push(waiting, d);
		phase[d] = WAITING
	:: !hup[d] && phase[d] != PAIRED && phase[d] != WAITING ->
		waiting!d;
		phase[d] = WAITING
	:: agents == 0 -> todo!REFUSE(d)	/* mssh.c: offline */
	fi
}

#ifdef MUTE_CLIENT
# define HAS_BEGUN(d) (nempty(up[d]) || !hup[d])
#else
# define HAS_BEGUN(d) nempty(up[d])
#endif

/* mssh.c: pair */
inline pair(d) {
	if
	:: revoked[d] -> todo!REFUSE(d)		/* mssh.c: is_revoked */
	:: !revoked[d] && !PARKED_ANY -> wait_parked(d)
	/* mssh.c: has_begun */
	:: !revoked[d] && PARKED_ANY && empty(up[d]) && hup[d] -> todo!DROP(d)
	:: !revoked[d] && PARKED_ANY && empty(up[d]) && !hup[d] ->
		assert(!sent[d]);	/* it is there until READY */
		phase[d] = AWAIT_CLIENT
	:: !revoked[d] && PARKED_ANY && HAS_BEGUN(d) ->
		if
		:: IS_PARKED(0) -> a = 0
		:: IS_PARKED(1) -> a = 1
#ifndef LIVE
		:: IS_PARKED(2) -> a = 2
#endif
		fi;
		go_send(a, d)
	fi
}

/* PONG came: to all who asked, of whom there is one. */
/* mssh.c: askers_tell */
inline askers_tell() {
	asked = 0
}

/* What mssh.c does by calling on: what ends, who takes the node, who waits for
 * a parked connection, who was called in vain or has just come. */
inline settle() {
	do
	:: len(todo) > 0 ->
		todo?m,b;
		if
		:: m == DROP -> drop(b)
		:: m == REFUSE -> refuse(b)
		:: m == PARK -> park(b)
		fi
	:: len(todo) == 0 && len(vain) > 0 ->	/* mssh.c: drop */
		vain?b;
		pair(b)
	:: len(todo) == 0 && len(vain) == 0 &&
	    len(waiting) > 0 && PARKED_ANY ->
		waiting?b;	/* mssh.c: park */
		pair(b)
	:: else -> break
	od;
	m = 0; x = 0; a = 0; b = 0; p = 0; i = 0
}

/* No wait is without end: a phase without a rule here is an error. */
inline expire(d) {
	if
	/* mssh.c: on_hello */
	:: phase[d] == HELLO -> todo!REFUSE(d)
	/* mssh.c: on_proof */
	:: phase[d] == PROOF ->
		early[d] = 0;
		todo!REFUSE(d)
	/* mssh.c: on_linger */
	/* mssh.c: on_parked */
	/* mssh.c: on_pending */
	:: phase[d] == PROBED ->
		assert(!heard[d]);	/* who has answered stays */
		todo!DROP(d)
	:: phase[d] == LINGER || phase[d] == PARKED || phase[d] == PAIRED ->
		todo!DROP(d)
	:: phase[d] == AWAIT_CLIENT -> todo!REFUSE(d)
#ifndef NO_DEADLINE
	/* mssh.c: on_waiting */
	:: phase[d] == WAITING -> todo!REFUSE(d)
#endif
	/* mssh.c: on_go_sent */
	:: phase[d] == GO_SENT ->
		if
		:: cut[d] || PARKED_ANY
		:: else ->
			p = mate[d];
			conn_unlink(d, p);
			todo!REFUSE(p)
		fi;
		todo!DROP(d)
	:: else -> assert(false)
	fi
}

#ifdef NO_DEADLINE
# define HAS_DEADLINE(d) (phase[d] != RELAY && phase[d] != CLOSED && \
	phase[d] != BIRTH && phase[d] != WAITING)
#else
# define HAS_DEADLINE(d) (phase[d] != RELAY && phase[d] != CLOSED && \
	phase[d] != BIRTH)
#endif

/* The peer has ended its side and all that it said is read. */
#define ENDED(d) (hup[d] && empty(up[d]))

proctype conn(byte c)
{
	mtype m;
	byte x, p, a, b, i;

end:	do		/* its peer minds that it ends */
	:: atomic {
		if
		:: HAS_DEADLINE(c) -> expire(c)

		/* mssh.c: on_hello */
		:: phase[c] == HELLO && nempty(up[c]) ->
			up[c]?hello,x;
			early[c] = x;
			if
			:: keys ->		/* mssh.c: challenge */
				line_send(c, challenge, 0);
				phase[c] = PROOF
			:: else -> goto welcome
			fi
		/* mssh.c: on_proof */
		:: phase[c] == PROOF && nempty(up[c]) ->
			up[c]?proof,x;
#ifndef ANY_PROOF
			if
			:: !x || revoked[c] -> todo!REFUSE(c); goto settled
			:: else
			fi;
#endif
			goto welcome

		/* mssh.c: on_go_sent */
		:: phase[c] == GO_SENT && nempty(up[c]) ->
			up[c]?m,_;
			p = mate[c];
			if
			:: m == ready -> begin(p, c)
			:: m == error ->
				conn_unlink(c, p);
				todo!REFUSE(p);
				linger(c)
			:: m == pong ->		/* it crossed GO */
#ifndef PONG_LOST
				askers_tell();
#endif
				assert(!asked)
			:: m == ping ->		/* it crossed GO */
#ifdef PONG_AFTER_GO
				line_send(c, pong, 0);
#endif
				skip
			fi

		/* mssh.c: on_parked */
		:: IS_PARKED(c) && nempty(up[c]) ->
			up[c]?m,_;
			heard[c] = phase[c] == PROBED;
#ifndef DEAF_PROBE
			phase[c] = PARKED;
#endif
			if
			:: m == ping -> line_send(c, pong, 0)
			:: m == pong -> askers_tell()
			fi

		/* mssh.c: on_pending */
		:: phase[c] == AWAIT_CLIENT && nempty(up[c]) -> vain!c

		/* mssh.c: on_linger */
		/* mssh.c: on_waiting */
		:: (phase[c] == LINGER || phase[c] == WAITING) && hup[c] ->
			todo!DROP(c)
		/* mssh.c: on_pending */
		:: phase[c] != LINGER && phase[c] != WAITING &&
		    phase[c] != RELAY && phase[c] != CLOSED &&
		    phase[c] != BIRTH && ENDED(c) -> todo!DROP(c)

		/* mssh.c: on_relay */
		/* mssh.c: flow */
		:: phase[c] == RELAY && !fin[mate[c]] &&
		    (nempty(up[c]) || hup[c]) ->
			p = mate[c];
			do
			:: up[c]?m,x -> line_send(p, m, x)
			:: empty(up[c]) -> break
			od;
			if
			:: hup[c] -> fin[p] = 1
			:: else
			fi;
			if
			:: fin[p] && fin[c] ->
				conn_unlink(c, p);
				todo!DROP(c);
				todo!DROP(p)
			:: else
			fi
		/* nobody reads what is for it, or acknowledges */
		:: phase[c] == RELAY && deaf[c] &&
		    (cut[c] || nempty(up[mate[c]])) -> todo!DROP(c)
		fi;
		goto settled;
welcome:	/* mssh.c: welcome */
		assert(!keys || good[c]);
		if
		:: c < NA -> agent_hello(c)
		:: else -> vain!c	/* mssh.c: client_hello */
		fi;
settled:	settle()
	}
	od
}

/* Both sides of who pings: nobody in PROBED but by its own answer, or its
 * deadline, which stands; the parked connection stays parked. */
/* mssh.c: ask_begin */
/* mssh.c: on_pinging */
proctype asker()
{
	byte a, i;

	phase[ASKER] = PINGING;
end:	do
	/* mssh.c: ping_node */
	:: atomic { phase[ASKER] == PINGING && asks > 0 && PARKED_ANY ->
		asks--;
		if
		:: IS_PARKED(0) -> a = 0
		:: IS_PARKED(1) -> a = 1
#ifndef LIVE
		:: IS_PARKED(2) -> a = 2
#endif
		fi;
		if
		:: phase[a] == PARKED ->
			phase[a] = PROBED;
			heard[a] = 0
		:: else
		fi;
		asked = 1;
		line_send(a, ping, 0);
		a = 0 }
	/* no answer, or it has left */
	:: atomic { asked && asks == 0 -> asked = 0; phase[ASKER] = CLOSED;
		break }
	od
}

/* The key of an agent's run, or of a client, is removed. */
/* mssh.c: on_reload */
/* mssh.c: sweep_all */
proctype sighup()
{
	mtype m;
	byte x, p, a, b, i;

end:	atomic { reloads > 0 ->
		reloads--;
		select(b : 0 .. N - 1);
		for (i : 0 .. N - 1) {
			if
			:: i == b || (i < NA && b < NA &&
			    owner[i] == owner[b]) -> revoked[i] = 1
			:: else
			fi
		}
		for (i : 0 .. N - 1) {
			if
			:: revoked[i] && IS_PARKED(i) -> todo!DROP(i)
#ifndef CALLED_STAYS
			:: phase[i] == GO_SENT &&
			    (revoked[i] || revoked[mate[i]]) -> todo!DROP(i)
#endif
			:: revoked[i] && (phase[i] == WAITING ||
			    phase[i] == AWAIT_CLIENT) -> todo!REFUSE(i)
			:: else
			fi
		}
		settle()
	}
}

/* ---- the peers */

#define GONE (phase[c] == CLOSED || phase[c] == LINGER)
#define CAN_TELL (GONE || nfull(up[c]))

/* A line or a byte to the server; nobody gets it where that has closed. */
inline tell(m1, arg) {
	if
	:: GONE
	:: !GONE && nfull(up[c]) -> up[c]!m1(arg)
	fi
}

inline bye() {
	hup[c] = 1;
	deaf[c] = 1;
	drain(down[c])
}

/* Those that have ended are all alike, which spares states. */
inline buried() {
	atomic { phase[c] == CLOSED ->
		hup[c] = 0;
		deaf[c] = 0;
		cut[c] = 0;
		good[c] = 0;
		fin[c] = 0;
		began[c] = 0;
		at = CLOSED;
		got = 0 }
}

/* The same run dials once more, if it has not dialled enough. */
/* mssh.c: fill */
inline fill() {
	if
	:: fresh < NA ->
		owner[fresh] = owner[c];
		slot[fresh] = slot[c];
		want[fresh] = 1;
		fresh++
	:: else
	fi
}

proctype agt(byte c)
{
	mtype at = DIAL, m;
	byte sid, got, x;

end:	want[c];
	do
	/* mssh.c: agent_greet */
	:: atomic { at == DIAL && (c != 1 || phase[0] != BIRTH) ->
		if
		:: keys -> good[c] = 1
		:: keys
		:: !keys
		fi;
		phase[c] = HELLO;	/* mssh.c: on_listen */
		up[c]!hello(0);
		at = REGISTERING }

	/* mssh.c: on_registering */
	:: atomic { at == REGISTERING && nempty(down[c]) && CAN_TELL ->
		down[c]?m,_;
		if
		:: m == challenge -> tell(proof, good[c])  /* mssh.c: reply_judge */
		:: m == ok -> at = IDLE
		:: m == error -> fill(); bye(); break
		:: else -> assert(false)
		fi;
		m = 0 }

	/* mssh.c: on_idle */
	:: atomic { at == IDLE && pings > 0 && CAN_TELL ->
		pings--;
		tell(ping, 0);
		at = PINGED }

	/* mssh.c: on_idle */
	:: atomic { (at == IDLE || at == PINGED) && nempty(down[c]) &&
	    CAN_TELL ->
		down[c]?m,x;
		if
		:: m == pong -> at = IDLE
		:: m == ping -> tell(pong, 0)
		:: m == go ->		/* mssh.c: go */
			sid = x;
			fill();
			at = HELD
		:: else -> assert(false)
		fi;
		m = 0;
		x = 0 }

	/* sshd speaks first, and ends its side */
	/* mssh.c: sshd_up */
	:: atomic { at == HELD && CAN_TELL ->
		tell(ready, 0);
		sent[c] = 1;
		tell(raw, RAW(sid, 1));
		hup[c] = 1;
		at = RELAY }
	/* mssh.c: session_fail */
	:: atomic { at == HELD && CAN_TELL ->
		tell(error, 0);
		bye();
		break }

	/* the session's bytes, each once and in order, and nothing else */
	:: atomic { at == RELAY && (nempty(down[c]) || fin[c] == 1) ->
		do
		:: down[c]?m,x ->
			got++;
			assert(m == raw && x == RAW(sid, got))
		:: empty(down[c]) -> break
		od;
		m = 0;
		x = 0;
		if
		:: fin[c] ->
			assert(!began[c] || fin[c] == 2 || got == sent[sid]);
			bye();
			break
		:: else
		fi }

	/* closed, or no answer in time */
	/* mssh.c: slot_lost */
	:: atomic { at != DIAL && at != HELD && at != RELAY &&
	    empty(down[c]) && (fin[c] || (faults > 0 && at != IDLE)) ->
		if
		:: fin[c]
		:: !fin[c] -> faults--
		fi;
		fill();
		bye();
		break }
	/* mssh.c: on_dialling */
	:: atomic { at == HELD && fin[c] -> bye(); break }
	:: atomic { fin[c] == 2 -> bye(); break }

	/* a silent end, of the network (it dials again) or of the machine */
	:: atomic { at != DIAL && faults > 0 ->
		faults--;
		cut[c] = 1;
		deaf[c] = 1;
		drain(down[c]);
		if
		:: at != HELD && at != RELAY -> fill()
		:: true
		fi;
		break }
	od;
	buried()
}

proctype client(byte c)
{
	mtype at = DIAL, m;
	byte got, x, e;

end:	want[c];
	do
	/* mssh.c: client_greet */
	:: atomic { at == DIAL && (c == NA || phase[c - 1] != BIRTH) &&
	    (!late || (phase[1] != BIRTH && phase[1] != HELLO)) ->
		if
		:: keys -> good[c] = 1
		:: keys -> good[c] = 1; e = 1
		:: keys
		:: !keys
		fi;
		phase[c] = HELLO;	/* mssh.c: on_listen */
		up[c]!hello(e);
		if
		:: keys -> at = REGISTERING
		:: else -> at = ASK
		fi }

	/* mssh.c: client_greet */
	:: atomic { (at == ASK || at == REGISTERING) && nempty(down[c]) &&
	    CAN_TELL ->
		down[c]?m,_;
		if
		:: m == challenge && at == REGISTERING ->
			tell(proof, good[c]);
			if
			:: e -> at = RELAY	/* mssh.c: run_proxy */
			:: else -> at = ASK	/* mssh.c: client_greet */
			fi
		:: m == ok && at == ASK -> at = RELAY
		:: m == error || m == disconnect -> bye(); break
		:: else -> assert(false)
		fi;
		m = 0 }

	/* its first byte may come before the answer, or late */
	:: atomic { (at == ASK || at == RELAY) && sent[c] == 0 && CAN_TELL ->
		sent[c] = 1;
		tell(raw, RAW(c, 1)) }
	:: atomic { at == RELAY && sent[c] == 1 && CAN_TELL ->
		sent[c] = 2;
		tell(raw, RAW(c, 2));
		hup[c] = 1 }

	:: atomic { at == RELAY && (nempty(down[c]) || fin[c] == 1) ->
		do
		:: down[c]?m,x ->
			if
			:: m == disconnect -> assert(!began[c] && got == 0)
			/* a line may stand before SSH's (RFC 4253 4.2) */
			:: m == error -> assert(e && !began[c] && got == 0)
			:: else ->
				got++;
				assert(m == raw && x == RAW(c, got))
			fi
		:: empty(down[c]) -> break
		od;
		m = 0;
		x = 0;
		if
		:: fin[c] == 1 && (!began[c] || hup[c]) ->
			assert(!began[c] || got == 1);
			bye();
			break
		:: else
		fi }

	/* closed without an answer */
	:: atomic { (at == ASK || at == REGISTERING) && empty(down[c]) && fin[c] ->
		bye();
		break }
	:: atomic { fin[c] == 2 -> bye(); break }
#ifndef LIVE
	/* its user leaves, or its own deadline passes */
	:: atomic { faults > 0 && (at == ASK || at == REGISTERING) ->
		faults--;
		bye();
		break }
#endif
	od;
	buried()
}

#ifndef ONLY
# define ONLY 0
#endif
#define SCENE(n) (ONLY == 0 || ONLY == n)

init {
	byte k;

	atomic {
		owner[0] = 1;
		want[0] = 1;
		want[NA] = 1;
		fresh = NA;
		pings = 1;
		faults = 1;
		if
#if SCENE(1)
		/* one agent with two spares, two clients */
		:: owner[1] = 1; slot[1] = 1; want[1] = 1; want[N - 1] = 1;
			late = 1; pings = 0; faults = 0
#endif
#if SCENE(2)
		/* two agents for one node, and one who pings it */
		:: owner[1] = 2; want[1] = 1; asks = 1
#endif
#if SCENE(3)
		/* the same, each with the right key or a wrong one */
		:: owner[1] = 2; want[1] = 1; keys = 1
#endif
#if SCENE(5)
		/* two agents, and keys that are removed at any time */
		:: owner[1] = 2; want[1] = 1; keys = 1; reloads = 1; faults = 0;
			pings = 0
#endif
#if SCENE(4)
		/* an agent that dials again, and one who pings it */
		:: fresh = NA - 1;
# ifndef LIVE
			asks = 1
# endif
#endif
		fi;
		run sighup();
		run asker();
		for (k : 0 .. N - 1) {
			run conn(k);
			if
			:: k < NA -> run agt(k)
			:: else -> run client(k)
			fi
		}
		k = 0
	}
}

#ifdef LIVE
# define SETTLED (phase[NA] == RELAY || phase[NA] == LINGER || \
	phase[NA] == CLOSED)
ltl served { <> SETTLED }
#endif
#endif
