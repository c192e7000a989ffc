#!/bin/sh
# 47-restart.t - a server that stops says when to come back, and systemd's
# socket keeps those who come meanwhile.
# shellcheck disable=SC1091,SC2016,SC2154	# rc: lib.sh
. t/lib.sh

# As systemd does it: the socket stays, the server behind it changes.  SIGUSR1
# stops the server and starts another; SIGTERM ends both.
cat >"$T/unit" <<'END'
use IO::Socket::INET;
$^F = 10;
my $s = IO::Socket::INET->new(Listen => 4096, LocalAddr => "127.0.0.1",
    LocalPort => 0, ReuseAddr => 1) or die "no socket";
print STDERR "socket ", $s->sockport, "\n";
my ($pid, $again) = (0, 0);
$SIG{USR1} = sub { $again = 1; kill "TERM", $pid };
$SIG{TERM} = sub { $again = 0; kill "TERM", $pid };
do {
	$again = 0;
	if (!($pid = fork)) {
		open my $keep, "<&=", $s;
		POSIX::dup2(fileno $s, 3);
		@ENV{"LISTEN_FDS", "LISTEN_PID"} = (1, $$);
		exec @ARGV;
	}
	1 while waitpid($pid, 0) != $pid;
} while ($again);
END

sshd_start
start server perl -MPOSIX "$T/unit" "$MSSH" server --drain 0
wait_log server 'socket ' || bail 'no socket'
PORT=$(sed -n 's/^socket //p' "$T/server.log")
SRV=127.0.0.1:$PORT
wait_log server 'listening on' || bail 'no server'

# again: the unit is restarted: one server stops, the next one listens.
again() {
	n_=$(grep -c 'listening on' "$T/server.log")
	kill -USR1 "$(pid server)"
	wait_for 60 log_count server 'listening on' $((n_ + 1))
}

log_count() {
	[ "$(grep -c "$2" "$T/$1.log")" -ge "$3" ]
}

figure() {
	sed -n "s/.* \\([0-9]*\\) $1.*/\\1/p" "$T/crowd.log"
}

# ---- two thousand agents

start crowd "$T/peer" restart "$SRV" 2000
ok '2,000 agents are parked' wait_log crowd 'parked 2000' 60
ok 'the server is restarted' again
ok 'all are back' wait_log crowd 'back 2000' 60
wait_gone crowd 60
note "$(tail -n 1 "$T/crowd.log")"
is "$(figure 'refused')" 0 'no connect was refused'
is "$(figure 'without STOP')" 0 'each was told when to come back'

# ---- real agents and sessions

start agent-web "$MSSH" agent web --server "$SRV" --ssh-port "$SSHD_PORT"
wait_log agent-web 'parked at' || bail 'no agent'

# count NAME: a shell that prints a line when it begins, waits, and then 1000.
count() {
	start "$1" sh -c 'RESUME=; export RESUME; exec "$T/msh" web \
	    "echo begun; while [ ! -e $T/go ]; do sleep 0.2; done; seq 1000"'
}

export T MSSH SRV USER
for i in 1 2 3; do
	count "shell$i"
done
for i in 1 2 3; do
	ok "session $i has begun" wait_log "shell$i" begun 60
done
for i in 1 2 3; do
	ok "restart $i" again
	ok 'the agent was told' wait_log agent-web 'stops, next try in' 60
	ok 'and is back' wait_log agent-web 'parked at' 60
	ok 'a login' env RESUME= "$T/msh" web true
done
ok 'three sessions were resumed' \
    wait_for 60 log_count agent-web 'resumed after' 3
: >"$T/go"
for i in 1 2 3; do
	wait_gone "shell$i" 60
	is "$rc" 0 "session $i ends with 0"
	is "$(grep -c '^[0-9]*$' "$T/shell$i.log")" 1000 'and no line is lost'
done

# ---- a client that waits, a server that says nothing of when

start waiter "$T/peer" talk "$SRV" 'send=MSSH/2 client none wait=60\nx' \
    tell=said 'line=ERROR busy the server is stopping' eof
wait_log waiter said
# a connection that comes later is answered later
ok 'a client waits' talk 'send=MSSH/2 client -x\n' 'line=ERROR syntax'
ok 'another restart' again
wait_gone waiter 60
is "$rc" 0 'it is told, too'

stop agent-web
is "$rc" 0 'the agent ends with 0'
stop server
finish
