#!/bin/sh
# 43-corners.t - what happens when two things meet: a queue and a hang-up, a
# deadline and a line, an end of file and a reset, a proxy and a shared file
# shellcheck disable=SC2016	# quoted programs
t/need script perl ps socat cc || exit 1
# shellcheck source=t/lib.sh
. t/lib.sh

tree=$MSSH

# fine NAME: it came to its end as it should.
fine() {
	wait_gone "$1" 60 && cat "$T/$1.log" && [ "$rc" = 0 ]
}

service
SSHD_PORT=$SVC
server -v
agent web

# ---- lines

ok 'PING with words is a PING' talk 'send=MSSH/2 agent words run=1\n' \
    line=OK 'send=PING t=1 x\n' line=PONG 'send= PING \n' line=PONG
ok 'PINGED is no PING' talk 'send=MSSH/2 agent words run=1\n' \
    line=OK 'send=PINGED\n' quiet=300
ok 'a bad hello of version 1 is answered in version 1' \
    talk 'send=CLIENT a/b\n' 'line=ERROR: ' eof

# ---- a node that is lost

# Its agent does not say that it goes: clients wait for 20 s.  They are told at
# the end of this server.
as lost 'send=MSSH/2 agent lost run=1\n' line=OK tell=parked line=PING gone
ok 'an agent is there' wait_log lost parked
as other 'send=MSSH/2 agent lost run=2\n' 'line=ERROR exists ' eof
ok 'it does not answer, and is lost' wait_log server 'lost is offline' 60
as asks 'send=MSSH/2 client lost\nx' \
    'line=ERROR offline lost is offline: its agent has not answered for 2' eof

# ---- the queue

# A client begins with its first byte (RFC 4253 4.2).  40 that are silent use up
# no parked connection, and the node's service hears of none.
waiting() {
	[ "$(log_count server '-> waiting')" -ge "$1" ]
}
silent() {
	[ "$(log_count server '-> await client')" -ge "$1" ]
}
strangers crowd 38 'MSSH/2 client quiet wait=300\n'
as silent2 'send=MSSH/2 client quiet wait=300\n' line=OK eof
as silentssh 'send=MSSH/2 client quiet wait=300 early=1\n' \
    'line=SSH-2.0-mssh' 'until=sent nothing for 10 s' gone
ok '40 silent clients wait for their node' wait_for 30 waiting 40
agent quiet
ok 'the node comes: each of them must speak first' wait_for 30 silent 40
as silent1 'send=CLIENT quiet\n' line=OK tell=begin eof
ok 'one of version 1 is told that it may' wait_log silent1 begin
mkfifo "$T/speak"
start speaks sh -c 'exec "$MSSH" proxy quiet --server "$SRV" <"$T/speak"'
exec 7>"$T/speak"
ok 'one more is silent' wait_for 30 silent 42
ok 'who speaks is served meanwhile' talk 'send=MSSH/2 client quiet\necho\nx' \
    line=OK expect=x fin eof
is "$(log_count agent-quiet ': to sshd') $(log_count server 'go sent')" \
    '1 2' 'nobody else has been called'
printf 'echo\nx' >&7
ok 'who speaks after all is served' wait_log speaks x
exec 7>&-
ok 'to the end' fine speaks
for name in silent2 silentssh silent1; do
	ok "$name: a client that stays silent is refused" fine $name
done
refused() {
	[ "$(log_count server 'await client -> linger')" -ge "$1" ]
}
ok 'all of them are' wait_for 60 refused 41
ok 'the log says why' log_has server \
    ': the client sent nothing for 10 s; an SSH client speaks first'
is "$(log_count agent-quiet ': to sshd') $(log_count agent-quiet parked)" \
    '2 3' 'the node has heard of two clients in all'
stop crowd
stop agent-quiet

# Who was called in vain is the first in the queue again, from its first byte.
as dies 'send=MSSH/2 agent row run=1\n' line=OK tell=parked line=GO \
    tell=called line=x
wait_log dies parked
mark server
as one 'send=MSSH/2 client row wait=300\none' line=OK expect=1
wait_log dies called
as two 'send=MSSH/2 client row wait=300\ntwo' line=OK expect=2
wait_for 30 waiting 1
stop dies
as lives 'send=MSSH/2 agent row run=2\n' line=OK line=GO expect=one \
    'send=READY\n1' tell=served gone
ok 'the one that was called first is served first' fine one
ok 'its first bytes arrive once' wait_log lives served
as lives2 'send=MSSH/2 agent row run=2 slot=1\n' line=OK line=GO expect=two \
    'send=READY\n2' gone
ok 'then the next one' fine two

# The same where the one that takes over is of version 1.
as dies 'send=MSSH/2 agent mix run=1\n' line=OK tell=parked line=GO \
    tell=called line=x
wait_log dies parked
as one 'send=MSSH/2 client mix wait=300\none' line=OK expect=1
wait_log dies called
mark server
stop dies
wait_for 30 waiting 1
as old 'send=AGENT mix\n' line=OK expect=one send=1 gone
ok 'called in vain, then an agent of version 1: all bytes arrive' fine one

# Who leaves while it is being called does not wait for another connection.  (An
# end of file behind the first bytes is no reason to end the call: it may be all
# that the client has to say.)
as mute 'send=MSSH/2 agent left run=1\n' line=OK tell=parked line=GO \
    tell=called gone
wait_log mute parked
mark server
as leaver 'send=MSSH/2 client left wait=60\nx' line=OK
wait_log mute called
stop leaver
stop mute
ok 'a client leaves while it is called, in vain: the server sees it' \
    wait_log server 'the client gave up'
is "$(log_count server '-> waiting')" 0 'it is not in the queue'

# One that leaves before its first byte calls nobody.
as mute 'send=MSSH/2 agent left run=1\n' line=OK tell=parked line=GO
wait_log mute parked
for how in fin rst; do
	set --
	[ $how = fin ] || set -- rst
	mark server
	as leaver 'send=MSSH/2 client left wait=60\n' "$@" line=OK
	wait_log server '-> await client'
	stop leaver
	ok "a client leaves before its first byte ($how): it is dropped" \
	    wait_log server 'await client, dropped: the client gave up'
	is "$(log_count server 'go sent')" 0 "nobody was called ($how)"
done
stop mute

# ---- half-closed, then reset: nobody reads that side any more

agent job --exec 'exec 1>&-; cat >/dev/null; sleep 100'
as half 'send=MSSH/2 client job\nx' line=OK fin wait=300 rst
ok 'a half-closed client resets: the session ends' \
    wait_log server ' job from ' 60
ok 'and the log says why' sh -c 'grep " job from " "$T/server.log" |
    grep -e "Connection reset" -e "Broken pipe"'

# ---- the log says why a parked connection went, and whose side was reset

for how in fin rst; do
	mark server
	as gone-$how "send=MSSH/2 agent gone-$how run=1\\n" line=OK $how
	wait_gone gone-$how
done
ok 'a parked connection is reset: why' wait_log server \
    'gone-rst is offline (last connection, from 127.0.0.1'
ok 'by its peer' sh -c 'grep "gone-rst is offline.*: Connection reset" \
    "$T/server.log"'
ok 'or closed' sh -c 'grep "gone-fin is offline.*: closed)" "$T/server.log"'
for who in client agent; do
	a_=gone c_=gone
	[ $who = client ] && c_=rst || a_=rst
	as a-$who "send=MSSH/2 agent side-$who run=1\\n" line=OK line=GO \
	    'send=READY\ny' expect=x $a_
	wait_log server "side-$who registered"
	as c-$who "send=MSSH/2 client side-$who\\nx" line=OK expect=y $c_
	ok "reset by the $who: the session ends" \
	    wait_log server " side-$who from "
done
ok 'the log says which side: the client' sh -c \
    'grep " side-client from .*the client: Connection reset" "$T/server.log"'
ok 'and the node' sh -c \
    'grep " side-agent from .*the node: Connection reset" "$T/server.log"'

# A session of --exec outlives its agent, and does not keep the next one out.
as lasting 'send=MSSH/2 client job\nx' line=OK tell=inside gone
wait_log lasting inside
stop agent-job KILL
agent job
ok 'an agent is killed beside a session of --exec: the next one is let in' \
    log_has agent-job 'parked at'
ok 'and the session goes on' kill -0 "$(pid lasting)"
stop lasting
stop agent-job

# ---- a server that says OK and closes does not make a storm of dials

start closer perl -MIO::Socket::INET -e 'my $l = IO::Socket::INET->new(
    Listen => 99, LocalAddr => "127.0.0.1") or die; $| = 1;
    print "port ", $l->sockport, "\n";
    while (my $c = $l->accept) { my $x = <$c>; print $c "OK\n"; close $c;
	print "served\n" }'
wait_log closer port
start agent-eager "$MSSH" agent eager \
    --server "127.0.0.1:$(sed -n 's/port //p' "$T/closer.log")"
wait_log closer served
sleep 2
n=$(log_count closer served)
note "$n dials in 2 s"
ok 'OK and closed: dials stay few' [ "$n" -le 30 ]
stop agent-eager
stop closer

# ---- descriptors

cat >"$T/few" <<END
#!/bin/sh
ulimit -S -n \$FEW
exec "$tree" "\$@"
END
chmod 755 "$T/few"
FEW=512
export FEW
MSSH=$T/few
agent limit --exec 'ulimit -S -n'
ok '--exec gets the limit of descriptors that the agent was given' \
    talk 'send=MSSH/2 client limit\nx' line=OK line=512 gone
stop agent-limit
stop agent-web
ok 'a client of a lost node waits, and is told how long it is lost' fine asks
stop server
cat >"$T/few" <<END
#!/bin/sh
ulimit -n 64
exec "$tree" "\$@"
END
server -v --startups 1000
strangers crowd 60 'MSSH/2 client nobody$_ wait=86400\nx'
MSSH=$tree
agent web
ok 'with 64 descriptors, 60 clients that wait for a day leave room' \
    talk 'send=MSSH/2 client web\necho\nx' line=OK expect=x fin eof
ok 'the others were told' wait_log server 'clients wait for nodes already'
stop crowd

# A socket from systemd that does not listen would make accept(2) spin.
ok 'LISTEN_FDS: a socket that does not listen is refused' sh -c '
    perl -MIO::Socket::INET -e "my \$s = IO::Socket::INET->new(
	LocalAddr => q(127.0.0.1), Proto => q(udp)) or die;
	POSIX::dup2(fileno \$s, 3); \$ENV{LISTEN_PID} = \$\$;
	\$ENV{LISTEN_FDS} = 1; \$^F = 9; exec @ARGV" -MPOSIX "$MSSH" server \
	--port 0 2>"$T/listen"; [ $? = 2 ] && grep "not a listening" "$T/listen"'

# ---- what the proxy leaves behind

big() {
	"$T/peer" talk "$SRV" 'send=MSSH/2 client web\nxfer 3000000 0\n' \
	    line=OK "$@"
}
(printf 'xfer 3000000 0\n'; sleep 20) |
    "$MSSH" proxy web --server "$SRV" >>"$T/appended" 2>"$T/err" &
echo $! >>"$T/pids"
appended() {
	[ "$(wc -c <"$T/appended")" -eq 3000000 ]
}
ok 'proxy >>file: all bytes arrive' wait_for 30 appended
is "$(cat "$T/err")" '' 'proxy >>file: no complaint'

cat >"$T/flags" <<'END'
use Fcntl;
for (0, 1) {
	open my $f, "+<&=", $_;
	print fcntl($f, F_GETFL, 0) & O_NONBLOCK ? "nonblocking\n"
	    : "as it was\n";
}
END
# flags CMD: the flags of a terminal after CMD has run on it.
flags() {
	echo "{ $1; } 2>/dev/null; perl $T/flags" >"$T/line"
	script -qec "sh $T/line" /dev/null </dev/null | tr -d '\r' |
	    grep -e nonb -e was | sort | uniq -c | sed 's/^ *//'
}
p="$MSSH proxy web --server $SRV"
is "$(flags "$p </dev/null")" '2 as it was' \
    'a terminal after proxy </dev/null'
is "$(flags "timeout --foreground -s INT 1 $p")" '2 as it was' \
    'a terminal after an interrupt'
is "$(flags "$p <$T/line")" '2 as it was' 'a terminal after the far end'

# A command of --connect may have something to do when the connection is over.
cat >"$T/tidies" <<'END'
#!/bin/sh
socat - "TCP:$1:$2"
sleep 0.5
echo tidy >"$T/tidied"
END
chmod 755 "$T/tidies"
greet nosuch --server "$SRV" --connect "$T/tidies %h %p" >"$T/out" 2>&1
is "$?" 4 'by a command: an unknown node'
ok 'the command has time to end by itself' wait_for 30 [ -s "$T/tidied" ]

# ---- many spares and a name: no storm of dials

closed=$(free_port)
start agent-storm "$MSSH" agent storm --spare 16 -v \
    --server "localhost:$closed"
wait_log agent-storm 'cannot register'
sleep 4
n=$(log_count agent-storm '-> dial')
note "$n dials in 4 s"
ok 'a host name and 16 spares: dials stay few' [ "$n" -le 200 ]
stop agent-storm

stop agent-web
is "$rc" 0 'the agent ends with 0'

# ---- who was called in vain is served before those who wait, whoever comes

mark server
as one 'send=MSSH/2 agent row run=1\n' line=OK tell=parked line=GO \
    tell=called line=x
wait_log one parked
as first 'send=MSSH/2 client row wait=200\nx' line=OK eof
wait_log one called
as second 'send=MSSH/2 client row wait=200\ny' line=OK eof
ok 'another client waits' wait_log server '-> waiting'
mark server
stop one KILL
ok 'so does the one that was called' wait_log server '-> waiting'
as two 'send=MSSH/2 agent row run=2\n' line=OK line=GO expect=x \
    tell=first 'send=READY\n' wait=500
ok 'another agent takes the node, and the first client first' \
    wait_log two first
stop first
stop second
stop two

# ---- the end of a server that has one of each: a node offline, a client that
# waits, an agent whose node another one wants, one that is called.  Clients are
# told that they may try again, each in its own form.

mark server
as holder 'send=MSSH/2 agent two run=1\n' line=OK line=PING eof
ok 'an agent holds a node' wait_log server 'two registered'
as other 'send=MSSH/2 agent two run=2\n' 'line=ERROR exists ' eof
ok 'another one is told, and it is asked whether it lives' fine other
stopping='the server is stopping, try again'
as late 'send=MSSH/2 client none wait=300\n' "line=ERROR busy $stopping" eof
ok 'a client waits for a third' wait_log server 'hello -> waiting'
as answers 'send=MSSH/2 agent slow run=1\n' line=OK tell=parked line=GO \
    tell=called gone
wait_log answers parked
as paired 'send=CLIENT slow\nx' "line=ERROR: $stopping" eof
ok 'one of version 1 is paired, and its agent called' wait_log answers called
mark server
start early perl -MIO::Socket::INET -e '
    my $s = IO::Socket::INET->new($ARGV[0]) or die; local $/;
    print $s "MSSH/2 client none wait=300 early=1\nSSH-2.0-x\r\n";
    ($_ = <$s>) =~ tr/ -~//cd; print "$_\n"' "$SRV"
ok 'one that speaks SSH waits' wait_log server 'hello -> waiting'
stop server
is "$rc" 0 'the server ends with 0'
ok 'who waited was told to try again' fine late
ok 'so was who was paired' fine paired
ok 'and in SSH who speaks SSH' wait_log early "$stopping"

# ---- the last words of a side that breaks

# sshd that has not read all when it closes sends a reset behind its last words.
# They arrive, although whoever is in between learns first that it takes no more:
# it was asleep when both came.
start abrupt perl -MIO::Socket::INET -e '
	$| = 1;
	my $l = IO::Socket::INET->new(Listen => 5,
	    LocalAddr => "127.0.0.1") or die;
	printf "port %d\n", $l->sockport;
	while (my $s = $l->accept) {
		my $c = "";
		1 while sysread $s, $c, 1 and $c ne "\n";
		print "has read\n";
		select undef, undef, undef, 0.05 until -e $ARGV[0];
		unlink $ARGV[0];
		syswrite $s, "said\n";
		close $s;
		print "closed\n";
	}' "$T/say"
wait_log abrupt port
server
agent web --ssh-port "$(sed -n 's/^port //p' "$T/abrupt.log")"
mkfifo "$T/in"
for who in client server agent-web; do
	mark abrupt
	start client sh -c 'exec "$1" proxy web --server "$2" <"$3"' - \
	    "$MSSH" "$SRV" "$T/in"
	exec 7>"$T/in"
	printf 'read\nnot read\n' >&7
	wait_log abrupt 'has read'
	kill -STOP "$(pid $who)"
	echo 'too late' >&7
	sleep 0.3	# so that it is there; the test may pass without
	: >"$T/say"
	ok "$who sleeps: sshd closes" wait_log abrupt closed
	kill -CONT "$(pid $who)"
	wait_gone client
	exec 7>&-
	is "$rc $(cat "$T/client.log")" '1 said
mssh: connection to web lost: Connection reset by peer' \
	    'its last words arrive, and that it broke'
done
stop agent-web

# The same behind --connect, where nobody was asleep: it ends.
agent far --ssh-port "$(sed -n 's/^port //p' "$T/abrupt.log")" \
    --connect 'socat - TCP:%h:%p'
mark abrupt
start client sh -c 'exec "$1" proxy far --server "$2" <"$3"' - \
    "$MSSH" "$SRV" "$T/in"
exec 7>"$T/in"
printf 'read\nnot read\n' >&7
wait_log abrupt 'has read'
: >"$T/say"
ok 'behind --connect: the session ends' wait_gone client 60
ok 'its last words arrive' grep said "$T/client.log"
exec 7>&-
stop agent-far
stop server

# A client breaks when the node does not read: it may have the last bytes, but
# not for ever.
start sink perl -MIO::Socket::INET -e '
	$| = 1;
	my $l = IO::Socket::INET->new(Listen => 5,
	    LocalAddr => "127.0.0.1") or die;
	printf "port %d\n", $l->sockport;
	my $s = $l->accept;
	select undef, undef, undef, 0.05 until -e $ARGV[0];
	syswrite $s, "x" and select undef, undef, undef, 0.2 for 1 .. 3;
	sleep 600' "$T/broken"
wait_log sink port
server --patience 10
agent web --ssh-port "$(sed -n 's/^port //p' "$T/sink.log")"
perl -MIO::Socket::INET -MSocket=:all -e '
	my $s = IO::Socket::INET->new($ARGV[0]) or die;
	print $s "MSSH/2 client web\ny" and $s->flush;
	<$s> =~ /^OK/ or die;
	$s->blocking(0);
	my $stuck = 0;
	while ($stuck < 20) {
		$stuck = syswrite($s, "y" x 65536) ? 0 : $stuck + 1;
		select undef, undef, undef, 0.05 if $stuck;
	}
	setsockopt $s, SOL_SOCKET, SO_LINGER, pack "ii", 1, 0' "$SRV"
: >"$T/broken"
ok 'a node that does not read the last bytes: the session ends' \
    wait_log server 'did not take the last bytes in 10 s' 60
stop sink
stop agent-web
stop server

# A node with a queue goes away while the server waits for a session's end.
server -v --drain 3
agent web
as live 'send=MSSH/2 client web\nhold\nx' line=OK eof
ok 'a session' wait_log server 'go sent -> relay'
as late 'send=MSSH/2 client none wait=300\n' eof
as short 'send=MSSH/2 client none wait=1\n' line=ERR wait=9000
ok 'of two that wait, one is refused' wait_log server 'waiting -> linger'
stop server
is "$rc" 0 'a server that drains ends with 0'

# ---- no memory for what a peer needs beyond its connection

cat >"$T/scarce.c" <<'END'
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
void *scarce(size_t n, size_t size);
void *
scarce(size_t n, size_t size)
{
	void *p = size < BELOW && !access(getenv("SCARCE"), F_OK) ? NULL :
	    malloc(n * size);

	return p ? memset(p, 0, n * size) : NULL;
}
END
# a connection has 120 bytes (t/45-counts.t); the sandbox forbids access(2)
"${CC:-cc}" -w -DNO_SANDBOX -DBELOW=120 -Dcalloc=scarce -o "$T/scarce" \
    "$T/scarce.c" mssh.c reactor.c || bail 'no build without memory'
none='ERROR limit the server is out of memory, try later'
SCARCE=$T/none
export SCARCE
MSSH=$T/scarce
server
MSSH=$tree
agent web
as waits 'send=MSSH/2 client soon wait=60\nx' "line=$none" gone
ok 'while there is memory: a session' talk \
    'send=MSSH/2 client web\necho\nx' line=OK expect=x fin eof
: >"$T/none"
ok 'no memory: a client of a new node' talk 'send=MSSH/2 client new\nx' \
    "line=$none" gone
ok 'no memory: an agent of a new node' talk \
    'send=MSSH/2 agent new run=1\n' "line=$none" gone
ok 'no memory: a client of a node that is there' talk \
    'send=MSSH/2 client web\nx' "line=$none" gone
as soon 'send=MSSH/2 agent soon run=1\n' line=OK gone
ok 'no memory: a client that waited, when its agent comes' fine waits
rm "$T/none"
ok 'memory is back: a session' talk \
    'send=MSSH/2 client web\necho\nx' line=OK expect=x fin eof
stop server
is "$rc" 0 'and it ends with 0'
finish
