#!/bin/sh
# 68-resume.t - sessions outlive their connections: the server is killed again
# and again, another takes over, the client's process dies, the agent ends, a
# reverse proxy stands between, a peer without the right wants the session
# shellcheck disable=SC1091,SC2016,SC2034,SC2154	# lib.sh; perl and sh -c
t/need sshd ssh scp sftp rsync perl ps script openssl haproxy nginx \
    tinyproxy microsocks socat || exit 1
. t/lib.sh
umask 077
RESUME=''	# what a person has
export RESUME

# ---- tools

# serve NAME [options]: a server as NAME; sets SRV.
serve() {
	name_=$1
	shift
	# the one that takes over has the same port
	has --port "$@" || set -- --port "$(ports 1)" "$@"
	start "$name_" "$MSSH" server --host 127.0.0.1 "$@"
	wait_log "$name_" 'listening on ' ||
	    bail "$name_ does not start: $(cat "$T/$name_.log")"
	SRV=$(sed -n 's/.*listening on //p' "$T/$name_.log" | sed q)
}

# again NAME [SIGNAL [options]]: that server dies and is back at its port.
again() {
	name_=$1 sig_=${2:-KILL}
	addr_=$(sed -n 's/.*listening on //p' "$T/$1.log" | sed q)
	shift
	[ $# = 0 ] || shift
	stop "$name_" "$sig_"
	serve "$name_" --port "${addr_##*:}" "$@"
}

# fine NAME: it came to its end with status 0.
fine() {
	wait_gone "$1" 60 && [ "$rc" = 0 ] && return 0
	echo "$1: status $rc"
	tail -n 5 "$T/$1.log"
	return 1
}

# proxy_of NAME: the mssh proxy of an ssh that runs as NAME.
proxy_of() {
	ps -A -o ppid= -o pid= | awk -v p="$(pid "$1")" '$1 == p { print $2 }'
}

# logins SSHD N: that sshd has had N connections since the mark.
logins() {
	is "$(log_count "$1" 'Connection from')" "$2" "$3"
}

# stay NAME NODE [options]: mssh proxy to a real sshd; it says its first line
# and stays.
stay() {
	name_=$1
	shift
	mkfifo "$T/$name_.in"
	start "$name_-in" sh -c 'exec >"$0"; printf "SSH-2.0-x\r\n"
	    exec sleep 600' "$T/$name_.in"
	start "$name_" sh -c 'exec <"$0.in" >"$0.out"
	    exec "$MSSH" proxy --resume "$@"' "$T/$name_" "$@"
	wait_for 60 grep -a '^SSH-2.0-OpenSSH' "$T/$name_.out"
}

gone_pid() {
	! kill -0 "$1"
}

# over NAME STATUS TEXT WHAT: it ended so, and said so.
over() {
	wait_gone "$1" 60 >/dev/null
	is "$rc" "$2" "$4: exit code $2"
	ok "$4: it says why" log_has "$1" "$3"
}

# $T/count GATE: numbers, until that file is there, then some more and "end".
cat >"$T/count" <<'END'
use strict;
use warnings;
$| = 1;
my ($n, $last) = (0, 0);
while (!$last) {
	$last = -e $ARGV[0];
	print map { ++$n . "\n" } 1 .. ($last ? 3000 : 300);
	select undef, undef, undef, 0.02;
}
print "end\n";
END
# $T/counted FILE: is that each number once, in its order?
cat >"$T/counted" <<'END'
use strict;
use warnings;
my ($n, $end) = (0, 0);
while (<STDIN>) {
	s/\r?\n$//;
	next if !$n && $_ ne '1';
	if ($_ eq 'end') { $end = 1; last }
	die "'$_' behind $n\n" if $_ ne ++$n;
}
die "$n, and no end\n" unless $end;
print "$n lines\n";
END
counted() {
	perl "$T/counted" <"$1"
}
count=/usr/bin/perl
count="$count $T/count"

sshd_start
MAIN=$SSHD_PORT

# ---- (a) the server is killed 10 times, and stopped 10 times

ROUNDS=20
SIZE=$((5000000 * (ROUNDS + 1)))
openssl enc -aes-128-ctr -K "$(printf %032d 1)" -iv "$(printf %032d 2)" \
    -in /dev/zero 2>/dev/null | head -c $SIZE >"$T/big"
head -c 30000000 "$T/big" >"$T/30"

# $T/pace: 5 MB of standard input, then more each time that go.N comes
cat >"$T/pace" <<'END'
use strict;
use warnings;
$| = 1;
my ($k, $left, $b) = (0);
while (read STDIN, $b, 5000000) {
	print $b;
	$k++;
	select undef, undef, undef, 0.01 until -e "$ENV{T}/go.$k" || eof STDIN;
}
END
# $T/lines: 200 numbers, then more each time that go.N comes
cat >"$T/lines" <<END
T=$T i=0
while [ \$i -lt $((200 * (ROUNDS + 1))) ]; do
	i=\$((i + 1))
	echo \$i
	[ \$((i % 200)) != 0 ] || [ \$i = $((200 * (ROUNDS + 1))) ] ||
	    until [ -e \$T/go.\$((i / 200)) ]; do sleep 0.05; done
done
END
# $T/rounds: the server, which dies when a part of what go.N allows has come
cat >"$T/rounds" <<'END'
use strict;
use warnings;
my ($mssh, $port, $rounds) = @ARGV;
my ($pid, $t) = (0, $ENV{T});
$| = 1;
sub serve {
	return if $pid = fork;
	exec $mssh, 'server', '--host', '127.0.0.1', '--port', $port;
}
sub has {
	my ($n) = @_;
	for my $f ('read', 'write') {
		for (my $i = 0; (-s "$t/$f.out" || 0) < $n; $i++) {
			die "$f: not more than ", -s "$t/$f.out", "\n"
			    if $i > 36000;
			select undef, undef, undef, 0.005;
		}
	}
}
serve();
for my $k (1 .. $rounds) {
	has(5000000 * $k);
	open my $go, '>', "$t/go.$k" or die;
	has(5000000 * $k + 4000000 * $k / $rounds);
	kill $k % 2 ? 'KILL' : 'TERM', $pid;
	waitpid $pid, 0;
	select undef, undef, undef, 0.4 if $k % 3 == 0;
	serve();
	print "round $k\n";
}
print "all rounds\n";
$SIG{TERM} = sub { kill 'TERM', $pid };
waitpid $pid, 0;
END
APORT=$(ports 1)
SRV=127.0.0.1:$APORT
start rounds perl "$T/rounds" "$MSSH" "$APORT" $ROUNDS
agent box
cat >"$T/ssh.conf" <<END
Host *
	ProxyCommand "$MSSH" proxy --resume %h
	User $USER
	IdentityFile $T/key
	IdentitiesOnly yes
	BatchMode yes
	UserKnownHostsFile $T/known
	StrictHostKeyChecking accept-new
END
MSSH_SERVER=$SRV
export MSSH_SERVER
for i in 1 2 3 4 5; do
	tty=-T
	[ $i -gt 2 ] || tty=-tt
	start "lines-$i" ssh $tty -F "$T/ssh.conf" box "sh $T/lines"
done
start read sh -c 'exec ssh -F "$T/ssh.conf" box "T=$T perl $T/pace <$T/big" \
    >"$T/read.out"'
start write sh -c 'perl "$T/pace" <"$T/big" |
    ssh -F "$T/ssh.conf" box "cat >$T/write.out"'
start scp scp -q -l 16000 -F "$T/ssh.conf" "$T/30" "box:$T/scp.out"
echo "get $T/30 $T/sftp.out" >"$T/batch"
start sftp sftp -q -l 16000 -F "$T/ssh.conf" -b "$T/batch" box
unset MSSH_SERVER

# ---- sessions that are idle, which nobody disturbs until the end of this file

serve calm
CALM=$SRV
agent calm
start idle "$T/msh" calm 'echo up; exec sleep 600'
mkfifo "$T/echo.in"
start echo sh -c 'exec "$T/msh" calm "$1" <"$0"' "$T/echo.in" \
    'while read -r x; do echo "$x"; [ "$x" != more ] || exit 0; done'
exec 6>"$T/echo.in"
echo hello >&6
ok 'an idle session' wait_log idle up 60
ok 'one that has echoed a line' wait_log echo hello 60
# ssh is stopped while data flow both ways: who cannot take them is not lost
start stopped sh -c 'exec "$T/msh" calm "$0" </dev/zero >/dev/null' \
    'echo up >&2; cat >/dev/null & exec cat /dev/zero'
ok 'one that moves data both ways' wait_log stopped up 60
kill -STOP "$(pid stopped)"
clock
CALM_SINCE=$clock_

# ---- (b) two servers

SSHD=sshd-b
sshd_start
unset SSHD
serve b1
B1=$SRV
serve b2
B2=$SRV
# words TEXT: its tabs as blanks
words() {
	tr '\t' ' ' | cut -d ' ' "$@"
}
cat >"$T/notified" <<'END'
use IO::Socket::UNIX;
my $s = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => shift) or die $!;
$| = 1;
print "listening\n";
print "$m\n" while defined $s->recv($m, 4096);
END
start notify perl "$T/notified" "$T/notify"
wait_log notify listening || bail 'perl cannot listen'
start agent-two env NOTIFY_SOCKET="$T/notify" WATCHDOG_USEC=200000 "$MSSH" \
    agent two --server "$B1" --server "$B2" --ssh-port "$SSHD_PORT"
ok 'two servers: parked at the first' wait_log agent-two "parked at $B1"
ok 'two servers: and at the second' wait_log agent-two "parked at $B2"
agent only --server "$B2"
ok 'STATUS= counts them' wait_log notify 'and 2 of 2 servers for '

# rows [options]: what mssh list says of nodes, states, parked and servers
rows() {
	"$MSSH" list "$@" | words -f 1,2,6,9
}
parked="only online 1 $B2
two online 1 $B1
two online 1 $B2"
sorted="$(printf '%s\n' "$parked" | sort)"
is "$(rows --server "$B1" --server "$B2" | sort)" "$sorted" \
    'list: both, and which server knows it'
is "$(MSSH_SERVER="$B1 $B2" rows | sort)" "$sorted" 'as words of MSSH_SERVER'
mkdir -p "$XDG_CONFIG_HOME/mssh"
CONF=$XDG_CONFIG_HOME/mssh/config
printf 'server %s\nserver %s\n' "$B1" "$B2" >"$CONF"
is "$(rows | sort)" "$sorted" 'as two lines of a file'
is "$("$MSSH" "$USER@only" -F none -i "$T/key" -o BatchMode=yes \
    -o UserKnownHostsFile="$T/known" -o StrictHostKeyChecking=accept-new \
    'echo in')" in 'a login by the file, to a node that one server has'
rm "$CONF"

# two NODE [command]: a login by both.
two() {
	node_=$1
	shift
	SRV=$B1 msh "$node_" --server "$B2" "$@"
}
# once WHAT: one login, and what it costs: one connection of sshd, and of the
# servers that of one of them.
once() {
	mark sshd-b
	mark agent-two
	is "$(two two 'echo in')" in "$1: a login"
	wait_for 30 refilled
	logins sshd-b 1 "$1: sshd has had one connection"
	wait_log agent-two 'parked at'
	is "$(log_count agent-two 'parked at')" 1 \
	    "$1: one parked connection was used"
	is "$(rows --server "$B1" --server "$B2" | sort)" "$sorted" \
	    "$1: none is missing"
}
refilled() {
	[ "$(rows --server "$B1" --server "$B2" | sort)" = "$sorted" ]
}
once 'both are there'
# One that is slow: the other is asked, and the slow one finds the hello of a
# client that has gone.
kill -STOP "$(pid b1)"
mark sshd-b
mark agent-two
is "$(two two 'echo in')" in 'the first does not answer: a login by the second'
logins sshd-b 1 'one connection of sshd'
kill -CONT "$(pid b1)"
ok 'none is missing' wait_for 60 refilled
wait_log agent-two "parked at $B2"
is "$(log_count agent-two "parked at $B1") $(log_count agent-two \
    "parked at $B2")" '0 1' \
    'the slow one has not called the node'
once 'it is back'
is "$(two only 'echo in')" in 'a node that the second has alone'
pinged() {
	"$MSSH" ping two --server "$B1" --server "$B2" |
	    grep '^two: server .*SSH-2.0'
}
ok 'ping' pinged

for i in 1 2 3; do
	SRV=$B1
	start "two-$i" "$T/msh" two --server "$B2" "$count" "$T/b.go"
done
for i in 1 2 3; do
	ok "session $i by the first" wait_log "two-$i" 900 60
done
mark agent-two
stop b1 KILL
resumed() {
	[ "$(log_count "$1" ': resumed after')" -ge "$2" ]
}
ok 'the first is killed for good: all go on by the second' \
    wait_for 60 resumed agent-two 3
: >"$T/b.go"
for i in 1 2 3; do
	ok "session $i comes to its end" fine "two-$i"
	ok "session $i: each line once" counted "$T/two-$i.log"
done
ok 'STATUS= says so' wait_log notify 'and 1 of 2 servers for '
mark sshd-b
is "$(two two 'echo in')" in 'a login where the first is dead'
logins sshd-b 1 'one connection of sshd'
ok 'ping' pinged
parked="only online 1 $B2
two online 1 $B2"
is "$("$MSSH" list --server "$B1" --server "$B2" 2>"$T/err" |
    words -f 1,2,6,9 | sort)" "$parked" 'list: what the other says' ||
    note "$(cat "$T/err")"
note "list, of the dead one: $(cat "$T/err")"
serve b1 --port "${B1##*:}"
ok 'the first is back: the agent parks there' \
    wait_log agent-two "parked at $B1" 60

# One that is told to end while it waits for both.
marked() {
	grep -slF "MARK=$1." /proc/[0-9]*/environ
}
crowd() {
	[ "$(marked "$1" | wc -l)" -ge "$2" ]
}
nobody() {
	[ -z "$(marked "$1")" ]
}
start waits env MARK="waits-$$." "$MSSH" proxy nowhere --wait 600 \
    --server "$B1" --server "$B2"
ok 'a client that waits for a node at both' wait_for 60 crowd "waits-$$" 3
kill -HUP "$(pid waits)"
wait_gone waits >/dev/null
ok 'nothing of it stays' wait_for 60 nobody "waits-$$"
# One that dials in vain, by programs.
echo "echo >>$T/tries; exec socat - TCP:\$1:\$2" >"$T/way"
start zed env SRV="$B2" "$T/msh" only --connect "sh $T/way %h %p" \
    'echo up; exec sleep 600'
ok 'a session by --connect' wait_log zed up 60
tried() {
	[ "$(wc -l <"$T/tries")" -ge "$1" ]
}
zombies() {
	ps -A -o ppid= -o stat= | awk -v p="$(proxy_of zed)" '
	    $1 == p && $2 ~ /Z/ { n++ } END { exit n > 2 }'
}
stop b1 KILL
stop b2 KILL
ok 'the servers are killed: it dials' wait_for 60 tried 8
ok 'and leaves no zombies' wait_for 60 zombies
stop zed
for n in agent-two agent-only notify sshd-b; do
	stop $n
done
SSHD_PORT=$MAIN

# ---- (c) the agent ends; the session is not known any more

serve c
C=$SRV
agent stops
agent dies
agent forgets --resume-for 3
stay c-stops stops --server "$C"
stay c-dies dies --server "$C" --resume-for 5
start ssh-stops "$T/msh" stops 'echo up; exec sleep 600'
ok 'ssh: a session' wait_log ssh-stops up 60
stop agent-stops
over c-stops 11 'the session with stops is over: the agent has stopped' \
    'the agent stops'
over ssh-stops 255 'mssh: the session with stops is over: the agent has' \
    'and for ssh'
kill -9 "$(pid agent-dies)"
wait_gone c-dies 60
ok 'the agent is killed: exit code 11 or 12' eval \
    '[ "$rc" = 11 ] || [ "$rc" = 12 ]'
note "the agent is killed: $rc $(tail -n 1 "$T/c-dies.log")"

stay c-forgets forgets --server "$C"
stay c-patience forgets --server "$C" --resume-for 1
stop c KILL
ok 'the node keeps what is lost' wait_log agent-forgets \
    'connection lost (closed), kept for 3 s'
over c-patience 12 'did not come back in 1 s' 'the client gives up after a second'
ok 'the node ends it after three' wait_log agent-forgets \
    'its connection did not come back in 3 s' 60
serve c --port "${C##*:}"
over c-forgets 11 'the node does not know the session' 'the server is back'
ok 'the node says so as well' wait_log agent-forgets \
    'refused: the node does not know the session'
for n in agent-forgets c c-stops-in c-dies-in c-forgets-in c-patience-in; do
	gone "$(pid $n)" || stop $n
done

# ---- (d) the client ends

serve d
D=$SRV
agent short --resume-for 3
agent long
start killed "$T/msh" short 'echo up; exec sleep 600'
ok 'a session' wait_log killed up 60
kill -9 "$(proxy_of killed)"
ok 'its process is killed: the node keeps the session' \
    wait_log agent-short 'connection lost (closed), kept for 3 s'
ok 'and ends it' wait_log agent-short \
    'its connection did not come back in 3 s' 60

# leaves NAME WHAT: the node has ended that session at once.
leaves() {
	ok "$1: the node ends it at once" wait_log agent-long \
	    ': the client has ended' 60
	is "$(log_count agent-long 'connection lost')" 0 "$1: it was not lost"
	mark agent-long
}
for sig in HUP TERM INT KILL; do
	start left "$T/msh" long 'echo up; exec sleep 600'
	ok "SIG$sig: a session" wait_log left up 60
	mark agent-long
	stop left $sig
	leaves "SIG$sig for ssh"
done
stay left-proxy long --server "$D"
mark agent-long
stop left-proxy
is "$rc" 143 'SIGTERM for mssh proxy'
leaves 'SIGTERM for mssh proxy'
mkfifo "$T/typed"
start tilde sh -c 'exec script -qec "$T/msh long -tt \"echo up; exec sleep 600\"" \
    /dev/null <"$T/typed"'
exec 7>"$T/typed"
ok '~.: a session' wait_log tilde up 60
mark agent-long
printf '\r~.' >&7
leaves '~.'
wait_gone tilde
exec 7>&-

# While the server does not answer, ssh's end is the proxy's end.
start frozen "$T/msh" long 'echo up; exec sleep 600'
ok 'a session' wait_log frozen up 60
p=$(proxy_of frozen)
kill -STOP "$(pid d)"
stop frozen
ok 'ssh ends while the server hangs: so does its proxy' wait_for 60 gone_pid "$p"
kill -CONT "$(pid d)"
start frozen2 "$T/msh" long 'echo up; exec sleep 600'
ok 'a session' wait_log frozen2 up 60
p=$(proxy_of frozen2)
again d KILL --port "${D##*:}"
kill -STOP "$(pid d)"
SRV=$D
clock
t0=$clock_
stop frozen2
ok 'ssh ends while it is dialled again: so does its proxy' \
    wait_for 60 gone_pid "$p"
clock
note "after $((clock_ - t0)) s"
kill -CONT "$(pid d)"
wait_log agent-long 'parked at' 60

is "$(echo data | msh long cat)" data 'standard input ends'
is "$(msh long 'cat; echo done' </dev/null)" 'done' 'an empty one'
is "$(head -c 3000000 /dev/zero | msh long 'wc -c')" 3000000 'one of 3 MB'
is "$(msh long 'exec >&- 2>&-; sleep 0.2; exit 7'; echo $?)" 7 \
    'standard output ends before the command, whose status arrives'
mkdir "$T/from"
for i in 1 2 3 4 5 6 7 8 9; do
	head -c 300000 /dev/urandom >"$T/from/$i"
done
SSH_PROXY="ssh -F none -i $T/key -o UserKnownHostsFile=$T/known -o BatchMode=yes \
    -o StrictHostKeyChecking=accept-new -l $USER -o ProxyCommand='$MSSH proxy \
    --resume --server $D %h'"
ok 'rsync' rsync -a -e "$SSH_PROXY" "$T/from/" "long:$T/to"
ok 'rsync: as it was' diff -r "$T/from" "$T/to"

start master "$T/msh" long -M -S "$T/ctl" -N
ok 'ControlMaster' wait_for 60 [ -S "$T/ctl" ]
is "$(msh long -S "$T/ctl" 'echo one') $(msh long -S "$T/ctl" 'echo two')" \
    'one two' 'two sessions by it'
start by-master "$T/msh" long -S "$T/ctl" "$count" "$T/d.go"
ok 'one that lasts' wait_log by-master 900 60
again d KILL
: >"$T/d.go"
ok 'goes on when the server was killed' fine by-master
ok 'each line once' counted "$T/by-master.log"
ok 'its end' msh long -S "$T/ctl" -O exit
ok 'is the end of ssh' wait_gone master 60

port=$(ports 1)
start fork sh -c 'x=$("$T/msh" long -f -N -L "$0" 2>&1); s=$?; echo "$x"
    exit $s' "$port:127.0.0.1:$SSHD_PORT"
ok 'ssh -f in $( ) returns' fine fork
forwarded() {
	perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(
	    "127.0.0.1:$ARGV[0]") or exit 1; exit !(<$s> =~ /^SSH-2.0-Op/)' \
	    "$port"
}
ok 'and forwards' forwarded
again d KILL
ok 'also when the server was killed' forwarded
again d KILL
p=$(ps -A -o pid= -o comm= -o args= | awk -v l="$port:127" 'index($0, l) &&
    $2 == "ssh" { print $1; exit }')
kill "$p"
ok 'its end' wait_for 60 gone_pid "$p"

# ---- one server for the next three parts, which is killed once

serve x
X=$SRV
XPORT=${X##*:}
read -r TLS WEB PROXY SOCKS <<END
$(ports 4)
END
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
    -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
    -keyout "$T/tls.key" -out "$T/tls.crt" 2>"$T/cert" ||
    bail "no certificate: $(cat "$T/cert")"
cat "$T/tls.crt" "$T/tls.key" >"$T/tls.pem"
cat >"$T/haproxy.cfg" <<END
defaults
	timeout connect 5s
	timeout client 600s
	timeout server 600s
frontend f
	mode tcp
	bind 127.0.0.1:$TLS ssl crt $T/tls.pem
	default_backend mssh
backend mssh
	server s 127.0.0.1:$XPORT
END
start haproxy haproxy -db -f "$T/haproxy.cfg"
{
	[ "$(id -u)" != 0 ] || echo 'user root;'
	echo "daemon off; pid $T/nginx.run; error_log stderr notice;"
	echo 'events { } http { access_log off;'
	for t in client_body proxy fastcgi uwsgi scgi; do
		echo "${t}_temp_path $T/nginx.$t;"
	done
	sed -e "s/rdv.example.com:443/127.0.0.1:443/" \
	    -e "s,/etc/[a-z/]*/rdv.example.com.key,$T/tls.key," \
	    -e "s,/etc/[a-z/]*/rdv.example.com.pem,$T/tls.crt," \
	    -e 's/rdv.example.com/localhost/; s,/var/www/html,/nowhere,' \
	    -e "s/listen 443/listen 127.0.0.1:$WEB/; s/:8443/:$XPORT/" \
	    t/fronts/nginx-http.conf
	echo '}'
} >"$T/nginx.conf"
start nginx nginx -e stderr -c "$T/nginx.conf"
for line in "Port $PROXY" 'Listen 127.0.0.1' 'LogLevel Connect' \
    'Timeout 600' 'MaxClients 50'; do
	echo "$line"
done >"$T/tiny.conf"
start tiny tinyproxy -d -c "$T/tiny.conf"
start socks microsocks -i 127.0.0.1 -p "$SOCKS"
listens() {
	perl -MIO::Socket::INET -e 'exit !IO::Socket::INET->new(
	    "127.0.0.1:$ARGV[0]")' "$1"
}
for port in $TLS $WEB $PROXY $SOCKS; do
	wait_for 60 listens "$port" || bail "nothing listens on $port"
done

# (e) a command for each session
cat >"$T/inetd" <<END
env | grep '^MSSH_[CNS]' | sort >>$T/exec.env
exec $(command -v sshd) -i -e -f $T/sshd.conf 2>>$T/exec.err
END
agent exec --exec "sh $T/inetd"
# (g) one that does not resume, and one that comes through TLS itself
agent never --resume-for 0
MSSH_CAFILE=$T/tls.crt
export MSSH_CAFILE
agent web
start agent-tls "$MSSH" agent tls --server "tls://localhost:$TLS" \
    --ssh-port "$SSHD_PORT"
start agent-https "$MSSH" agent https --server "https://localhost:$WEB/mssh" \
    --ssh-port "$SSHD_PORT"
wait_log agent-tls 'parked at' 60
wait_log agent-https 'parked at' 60
ok '--exec: what the command is told' eval 'msh exec true &&
    grep -qx MSSH_NODE=exec "$T/exec.env" &&
    grep -qx "MSSH_CLIENT=127\.0\.0\.1:[0-9]*" "$T/exec.env" &&
    grep -qx "MSSH_SESSION=[0-9a-f]*" "$T/exec.env"' || note "$(cat "$T/exec.env")"

# way NAME NODE SERVER [options]: a session by that way
ways=''
way() {
	name_=by-$1 node_=$2
	SRV=$3
	shift 3
	ways="$ways $name_"
	start "$name_" "$T/msh" "$node_" "$@" "$count" "$T/x.go"
	SRV=$X
}
way direct web "$X"
way exec exec "$X"
way tls web "tls://localhost:$TLS"
way https web "https://localhost:$WEB/mssh"
way http web "http://$X/"
way connect web "$X" --connect 'socat -lf /dev/null - TCP:%h:%p'
way proxy web "$X" --proxy "http://127.0.0.1:$PROXY"
way socks web "$X" --proxy "socks5h://127.0.0.1:$SOCKS"
way tlsproxy web "tls://localhost:$TLS" --proxy "http://127.0.0.1:$PROXY"
way agent-by-tls tls "$X"
way agent-by-https https "https://localhost:$WEB/mssh"

# $T/column: is each of our two sentences a line of its own on that screen?
cat >"$T/column" <<'END'
my $nl = "\\r\\r?\\n";
my $lost = "mssh: connection to web lost \\([^)\\n]+\\), reconnecting; " .
    "~\\. ends ssh";
exit !(<> =~ /$nl$lost$nl(.*$nl)?mssh: connection to web is back$nl/s);
END
# (f) a terminal, where ssh has made it raw or not, and a file for errors
cat >"$T/tty" <<END
"$T/msh" web -tt "stty -opost; $count $T/x.go"
END
start raw script -qec "sh $T/tty" "$T/raw.tty"
start cooked script -qec "$T/msh web '$count $T/x.go'" "$T/cooked.tty"
start quiet sh -c 'exec "$T/msh" web "$1" >"$T/quiet.out" 2>"$T/quiet.err"' - \
    "$count $T/x.go"
# and a terminal that is held
mkfifo "$T/held.in"
start held sh -c 'exec script -qec "$T/msh web \"$1\" </dev/null \
    >$T/held.out" "$T/held.tty" <"$T/held.in"' - "$count $T/x.go"
exec 8>"$T/held.in"
for n in $ways; do
	ok "$n: a session" wait_log "$n" 900 60
done
for f in raw.tty cooked.tty quiet.out held.out; do
	ok "$f: a session" wait_for 60 grep -aq 900 "$T/$f"
done
cp "$T/quiet.err" "$T/quiet.before"

# a node that does not resume: the client comes again without
SSHD=sshd-never
sshd_start
unset SSHD
stop agent-never
agent never --resume-for 0
mark sshd-never
mark x
is "$(msh never 'echo in')" in 'a node that does not resume: a login'
logins sshd-never 1 'with one connection of sshd'
is "$(log_count x 'does not resume\|resume sessions')" 0 \
    'which no log complains of' || note "$(log_has x resume)"
SSHD_PORT=$MAIN
is "$(msh web --resume-for 0 'echo in')" in 'a client that does not want to'
mark agent-web
ok 'its session is an ordinary one' eval \
    '[ "$(log_count agent-web resumable)" = 0 ]'

mark agent-web
clock
t0=$clock_
printf '\023' >&8		# Ctrl-S
again x KILL
resumed() {
	[ "$(log_count "$1" ': resumed after')" -ge "$2" ]
}
ok 'the server is killed: sessions go on' wait_for 60 resumed agent-web 12
for a in exec tls https; do
	ok "the node $a, too" wait_for 60 resumed agent-$a 1
done
clock
note "all sessions are back after $((clock_ - t0)) s"
: >"$T/x.go"
for n in $ways; do
	ok "$n: comes to its end" fine "$n"
	ok "$n: each line once" counted "$T/$n.log"
done
for n in raw cooked; do
	ok "terminal, $n: comes to its end" fine $n
	tr -d '\r\0' <"$T/$n.tty" | sed 's/^^@//' | grep -a '^[0-9e]' \
	    >"$T/$n.out"
	ok "terminal, $n: each line once" counted "$T/$n.out"
	is "$(grep -ac 'mssh: ' "$T/$n.tty")" 2 "terminal, $n: mssh says two lines"
	ok "terminal, $n: each in a line of its own" perl -0777 "$T/column" \
	    "$T/$n.tty" || note "$(grep -a -A1 -B1 mssh: "$T/$n.tty" | cat -v)"
done
(trap '' PIPE && printf '\021' >&8)	# it may have ended without
ok 'terminal, held: comes to its end' fine held
ok 'terminal, held: each line once' counted "$T/held.out"
exec 8>&-
ok 'errors in a file: comes to its end' fine quiet
ok 'errors in a file: each line once' counted "$T/quiet.out"
ok 'errors in a file: there is nothing of it' \
    cmp "$T/quiet.err" "$T/quiet.before"
for n in agent-never agent-web agent-tls agent-https agent-exec haproxy nginx \
    tiny socks sshd-never x; do
	gone "$(pid $n)" || stop $n
done
unset MSSH_CAFILE

# ---- (h) keys

for k in box bob eve joe; do
	"$MSSH" keygen $k >"$T/$k.key"
done
allow() {
	echo "agent * $(cat "$T/box.key")" >"$T/keys"
	for k; do
		echo "client * $(cat "$T/$k.key")" >>"$T/keys"
	done
}
allow bob eve joe
serve h --keys "$T/keys"
H=$SRV
agent keyed --key "$T/box.key" --exec 'echo hello; exec cat'
agent login --key "$T/box.key"

# $T/frames: a client that speaks frames itself.  come KEY SEQ: a connection
# to the session; say: DATA; hear: what comes, until TEXT; as steps.
cat >"$T/frames" <<'END'
use strict;
use warnings;
use Digest::SHA qw(hmac_sha256);
use IO::Socket::INET;
use MIME::Base64 qw(encode_base64url decode_base64url);
my ($srv, $node, @steps) = @ARGV;
my ($token, $got, $s, $in) = (sprintf('%08x%08x%08x%08x', map { rand 2 ** 32 }
    1 .. 4), 0);
$| = 1;
$SIG{ALRM} = sub { die "nothing came\n" };
alarm 120;
sub mac {
	my ($name, $key, $label, $a, $b) = @_;
	return hmac_sha256(join('', map { chr(length) . $_ } $label, 'client',
	    $node, $name, $a, $b), $key);
}
sub frame {
	my ($type, $data, $at) = @_;
	syswrite $s, pack('CCnNN', $type, length($data) >> 16,
	    length($data) & 65535, 0, $at // $got) . $data;
}
# come KEY SEQ [RECEIVED]
sub come {
	my ($who, $seq, $at) = @_;
	open my $f, '<', "$ENV{T}/$who.key" or die $!;
	my ($name, $key) = split ' ', <$f>;
	my $nonce = join '', map { chr rand 256 } 1 .. 32;
	$s = IO::Socket::INET->new($srv) or die "no server: $!\n";
	$in = '';
	syswrite $s, "MSSH/2 client $node resume=$token seq=$seq key=$name " .
	    'nonce=' . encode_base64url($nonce) . "\n";
	my $line = line();
	my ($theirs) = $line =~ /nonce=(\S+)/ or die "no challenge: $line\n";
	syswrite $s, 'PROOF mac=' . encode_base64url(mac($name,
	    decode_base64url($key), 'mssh 2 peer', $nonce,
	    decode_base64url($theirs))) . "\n";
	frame(0, '', $at);
	$line = line();
	print "$line\n" unless $line =~ /^OK.* frames=1/;
}
sub line {
	more() or return 'eof' until $in =~ /\n/;
	my ($line, $rest) = split /\n/, $in, 2;
	$in = $rest;
	return $line;
}
sub more {
	sysread $s, $in, 65536, length $in;
}
# hear TEXT: what comes up to it, or to the end
sub hear {
	my ($want) = @_;
	my ($text, $said) = ('', '');
	while ($text !~ /$want/) {
		while (length $in < 12 || length $in < 12 + (unpack 'N',
		    "\0" . substr $in, 1, 3)) {
			if (!more()) { print "eof $text\n"; return }
		}
		my ($type, $h, $l, $z, $at) = unpack 'CCnNN', substr $in, 0, 12,
		    '';
		$text .= substr $in, 0, $l, '';
		$got += $l if $type == 0;
		$text = "CLOSE $text\n" if $type == 3;
		last if $type == 3;
	}
	print $text;
}
my %seen;
for (@steps) {
	my ($verb, @w) = split / /;
	if ($verb eq 'come') { come(@w) }
	elsif ($verb eq 'say') { frame(0, "@w\n") }
	elsif ($verb eq 'hear') { hear("@w") }
	elsif ($verb eq 'raw') { syswrite $s, pack 'H*', $w[0] }
	elsif ($verb eq 'frame') { frame($w[0], $w[2] // '', $w[1]) }
	elsif ($verb eq 'drop') { close $s }
	elsif ($verb eq 'keep') { $seen{$w[0]} = [$s, $in] }
	elsif ($verb eq 'use') { ($s, $in) = @{$seen{$w[0]}} }
	else { die "$verb\n" }
}
END
frames() {
	perl "$T/frames" "$H" keyed "$@" 2>&1
}
is "$(frames 'come bob 0' 'hear hello' 'say one' 'hear one' drop \
    'come bob 5' 'hear' 'say two' 'hear two')" 'hello
one
two' 'a session is resumed'
close='CLOSE ERROR gone'
is "$(frames 'come bob 0' 'hear hello' drop 'come eve 5' 'hear x' \
    drop 'come bob 6' 'say on' 'hear on')" "hello
$close the node does not know the session: it has ended, or the agent was restarted
on" 'another key with the right token is refused; its owner is not'
is "$(frames 'come bob 0' 'hear hello' drop 'come bob 5' 'say five' \
    'hear five' 'keep five' 'come bob 4' 'hear x' 'come bob 5' 'hear x' \
    'use five' 'say on' 'hear on')" "hello
five
$close the session has a newer connection
$close the session has a newer connection
on" 'a number that goes back, or is the same, is refused'
is "$(frames 'come bob 0' 'hear hello' 'keep old' 'come bob 1' 'say new' \
    'hear new' 'keep new' 'use old' 'hear x' 'use new' 'say on' 'hear on')" \
    'hello
new
eof 
on' 'a newer connection takes the session from an older one'
is "$(frames 'come bob 0' 'hear hello' 'keep it' 'come bob 0' 'hear x' \
    'use it' 'say on' 'hear on')" 'hello
CLOSE ERROR busy the node cannot take the connection now
on' 'a first hello that was late does not end the session'
is "$(frames 'come bob 0' 'hear hello' drop 'come bob 1' 'say one' 'hear one' \
    drop 'come bob 0' 'hear x' drop 'come bob 2' 'say two' 'hear two')" 'hello
one
CLOSE ERROR busy the node cannot take the connection now
two' 'nor one that comes while it is lost'
is "$(frames 'come bob 7' 'hear x')" "$close the node does not know the session: it has ended, or the agent was restarted" \
    'a session that never was'
bad='CLOSE ERROR syntax what came is not a frame of this session'
is "$(frames 'come bob 0' 'hear hello' drop 'come bob 1 999' 'hear x')" \
    "hello
$bad" 'one that says to have received what was not sent'
is "$(frames 'come bob 0' 'hear hello' 'say one' 'hear one' 'frame 0 2' \
    'hear x')" "hello
one
$bad" 'an acknowledgement that goes back'
is "$(frames 'come bob 0' 'hear hello' 'raw 090000000000000000000000' \
    'hear x')" "hello
$bad" 'a type that is not one'
is "$(frames 'come bob 0' 'hear hello' 'frame 1 6' 'frame 0 6 more' \
    'hear x')" "hello
$bad" 'data behind the end' || note "$(tail -n 3 "$T/agent-keyed.log")"
is "$(talk_seq() {
	talk "send=MSSH/2 client keyed resume=xyz seq=1\n" print
}; talk_seq 2>&1)" 'ERROR syntax resume= needs 32 hex digits, and seq=' \
    'a token that is not one'

asked() {
	for k; do
		grep "left without a proof of the key $k" "$T/h.log" || return
	done
}
start removed "$T/msh" login --key "$T/bob.key" --resume-for 30 \
    'echo up; exec sleep 600'
ok 'a login with a key' wait_log removed up 60
start stays "$T/msh" login --key "$T/eve.key" "$count" "$T/h.go"
ok 'and another' wait_log stays 900 60
stay other login --server "$H" --key "$T/joe.key"
mark agent-login
# The address leads to another server for a while.
echo "agent * $(cat "$T/box.key")" >"$T/other.keys"
for k in bob eve joe; do
	echo "client * $("$MSSH" keygen $k)" >>"$T/other.keys"
done
kill -TSTP "$(pid other)"	# as Ctrl-Z does, for ssh's sake: it goes on
again h KILL --keys "$T/other.keys"
ok 'a server with other keys is there: each client has asked it' \
    wait_for 60 asked bob eve joe
again h KILL --keys "$T/keys"
ok 'the right one is back: all sessions go on' wait_for 60 resumed agent-login 3
mark agent-login
allow eve
echo "client other $(cat "$T/joe.key")" >>"$T/keys"
again h KILL --keys "$T/keys"
over other 5 'is over: the key joe is not good for client login here' \
    'its right is taken away while it is lost'
over removed 255 "did not come back in 30 s: the server $H does not know" \
    'its key is removed, with ssh'
ok 'the other goes on' wait_log agent-login ': resumed after' 60
: >"$T/h.go"
ok 'and comes to its end' fine stays
ok 'each line once' counted "$T/stays.log"
for n in agent-login agent-keyed other-in h; do
	stop $n
done

# ---- (i) many sessions that are lost

serve i
agent few --sessions 4
for i in 1 2 3 4 5 6; do
	start few-$i "$T/msh" few 'echo up; exec sleep 600'
	ok "session $i of 4 begins" wait_log few-$i up 60
	kill -9 "$(proxy_of few-$i)"
	wait_gone few-$i
	lost() {
		[ "$(log_count agent-few 'connection lost')" = "$i" ]
	}
	wait_for 30 lost
done
made_room() {
	log_has agent-few 'closed (--sessions, --resume-memory)' |
	    sed 's/.*session \([0-9a-f]*\) .*/\1/'
}
first() {
	log_has agent-few ', resumable' | sed 's/.*session \([0-9a-f]*\) .*/\1/' |
	    sed 2q
}
is "$(made_room)" "$(first)" 'the two oldest are closed, and the log says so'
start few-live "$T/msh" few 'echo up; read -r x; echo "$x"'
ok 'and a third' wait_log few-live up 60
is "$(made_room | wc -l)" 3 'which is all'
wait_gone few-live
stop agent-few

# $T/print: 3 MB a second, for ever
cat >"$T/print" <<'END'
$| = 1;
for (;;) { print 'x' x 65536; select undef, undef, undef, 0.02 }
END
agent full --resume-memory 4
# family: the kB of the agent and of what it has forked
family() {
	tree "$(pid agent-full)" | while read -r p; do
		[ "$(readlink "/proc/$p/exe")" != "$(readlink -f "$MSSH")" ] ||
		    awk '/^Pss:/ { print $2 }' "/proc/$p/smaps_rollup"
	done 2>/dev/null | awk '{ n += $1 } END { print n + 0 }'
}
before=$(family)
prints() {
	start full-$i sh -c 'exec "$T/msh" full "echo up >&2; exec perl $T/print" \
	    >/dev/null'
	ok "session $i prints for ever" wait_log full-$i up 60
}
for i in 1 2 3 4 5 6; do
	prints
done
busy=$(family)
for i in 1 2 3 4 5 6; do
	kill -9 "$(proxy_of "full-$i")"
done
log_lost() {
	[ "$(log_count agent-full 'connection lost')" -ge "$1" ]
}
room() {
	log_has agent-full 'closed (--sessions'
}
ok 'their clients are killed' wait_for 60 log_lost 6
lost=0
for i in 1 2 3 4 5 6 7 8 9 10; do
	now_=$(family)
	[ "$now_" -le "$lost" ] || lost=$now_
	sleep 0.1
done
note "kB of the agent and its keepers: $before without sessions, $busy with 6," \
    "$lost with 6 lost ones; $(log_count agent-full 'closed (--sessions') ended"
i=7
prints
kill -STOP "$(pid full-7)"
ok 'one that is there needs memory: the oldest is closed' wait_for 60 room
kill -CONT "$(pid full-7)"
ok 'the memory is bounded' [ "$lost" -lt $((busy + 6144)) ]
is "$(msh full 'echo in')" in 'a login'
stop agent-full
stop i

# ---- the idle ones

# It takes 10 s to lose one, and 25 until a ping.
calm() {
	clock
	[ "$clock_" -gt $((CALM_SINCE + 28)) ]
}
wait_for 60 calm
is "$(log_count agent-calm 'connection lost')" 0 \
    'sessions that are idle, or stopped, are not lost' ||
    note "$(log_has agent-calm 'connection lost')"
kill -CONT "$(pid stopped)"
stop stopped
echo more >&6
ok 'the idle one answers' wait_log echo more 60
ok 'and ends' fine echo
exec 6>&-
stop agent-calm
stop calm

# ---- (a), its end

ok 'the server is killed 10 times, and stopped 10 times' \
    wait_log rounds 'all rounds' 300
for i in 1 2 3 4 5; do
	ok "counter $i comes to its end" fine "lines-$i"
	is "$(tr -d '\r' <"$T/lines-$i.log" | grep '^[0-9]' |
	    cksum)" "$(seq $((200 * (ROUNDS + 1))) | cksum)" \
	    "counter $i: each line once, in its order"
done
for i in read write scp sftp; do
	ok "$i comes to its end" fine $i
done
for i in read write; do
	ok "$i: each byte as it was" cmp "$T/big" "$T/$i.out"
done
for i in scp sftp; do
	ok "$i: each byte as it was" cmp "$T/30" "$T/$i.out"
done
note "sessions resumed: $(log_count agent-box ': resumed after')," \
    "the slowest after $(log_has agent-box ': resumed after' |
    sed 's/.*after //' | sort -n | tail -n 1)"
finish
