#!/bin/sh
# 56-list.t - mssh list: what it says of a node in each state, to whom, in
# which forms; thousands of nodes, and readers that stop.
# shellcheck disable=SC1091,SC2016,SC2034,SC2154	# lib.sh; perl and sh -c
t/need perl json_pp ps script setpriv unshare nsenter ip || exit 1
. t/lib.sh

umask 077
service
SSHD_PORT=$SVC
version=$("$MSSH" --version | awk '{ print $2 }')

list() {
	"$MSSH" list --server "$SRV" "$@" 2>"$T/err"
}

# says STATUS ERROR NAME list's words...: it fails so, and prints nothing.
says() {
	want="$1 $2" what=$3
	shift 3
	list "$@" >"$T/out"
	is "$? $(cat "$T/err" "$T/out")" "$want" "$what"
}

# row NODE: what is said of it, with the time as N and the port as P.
row() {
	list "$1" | sed 's/	[0-9][0-9]*	/	N	/
	    s/:[0-9][0-9]*	/:P	/' | tr '\t' ' '
}

# becomes NODE ROW: it is so soon; prints what it is.
becomes() {
	wait_for 60 same "$@"
	row "$1"
}

same() {
	[ "$(row "$1")" = "$2" ]
}

# objects PERL [PATTERN...]: is that true of each object, in $_?
objects() {
	true_of=$1
	shift
	list --json "$@" | perl -MJSON::PP -e '
	    my $check = eval "sub { $ARGV[0] }" or die;
	    while (my $line = <STDIN>) {
		$_ = JSON::PP->new->decode($line);
		$check->() or die $line;
		$n++;
	    }
	    exit !$n' "$true_of"
}

# ---- nobody

server --verbose
is "$(list; echo "$? $(cat "$T/err")")" '0 ' 'no node: nothing, and no error'
says 4 'mssh: the server knows no node web-1' 'but for who asks for one' web-1

# ---- states

agent web-1 --spare 3
is "$(becomes web-1 "web-1 online N 127.0.0.1:P $version 3 0 0")" \
    "web-1 online N 127.0.0.1:P $version 3 0 0" 'online: three are parked'

# hold NAME NODE: a session that has begun, and stays.
hold() {
	as "$1" "send=MSSH/2 client $2\\necho\\nhello\\n" 'until=hello\n' \
	    tell=begun gone
	wait_log "$1" begun
}
ok 'a session begins' hold one web-1
is "$(becomes web-1 "web-1 online N 127.0.0.1:P $version 3 1 0")" \
    "web-1 online N 127.0.0.1:P $version 3 1 0" 'and counts'
stop one
is "$(becomes web-1 "web-1 online N 127.0.0.1:P $version 3 0 0")" \
    "web-1 online N 127.0.0.1:P $version 3 0 0" 'as long as it lasts'

# Without its dialler an agent parks no other connection.
agent full --exec 'read -r x; echo hello; exec cat'
dialler=$(ps -A -o pid= -o ppid= | awk -v a="$(pid agent-full)" '
    $2 == a { print $1 }')
kill -STOP "$dialler"
ok 'the session of --exec' hold two full
is "$(row full)" "full busy N - $version 0 1 0" 'busy: nothing is parked'
as three 'send=MSSH/2 client full wait=600\nx\n' 'until=hello\n' gone
is "$(becomes full "full busy N - $version 0 1 1")" \
    "full busy N - $version 0 1 1" 'a client that waits'
as four 'send=MSSH/2 client never wait=600\nx\n' gone
ok 'another waits for a node that nobody has seen' \
    wait_log server 'hello -> waiting'
says 4 'mssh: the server knows no node never' 'which is no node so' never
kill -CONT "$dialler"
is "$(becomes full "full online N 127.0.0.1:P $version 1 2 0")" \
    "full online N 127.0.0.1:P $version 1 2 0" 'it is served, too'
for name in two three four; do
	stop $name
done

agent gone
agent dead
stop agent-gone
stop agent-dead KILL
for n in gone dead; do
	is "$(becomes $n "$n offline N - $version 0 0 0")" \
	    "$n offline N - $version 0 0 0" "offline: $n"
done
agent gone
is "$(row gone)" "gone online N 127.0.0.1:P $version 1 0 0" 'and back'
stop agent-gone

# Raw ones: before v=, with another one, and what is none.
as older 'send=MSSH/2 agent older run=1\n' line=OK tell=parked gone
as newer 'send=MSSH/2 agent newer run=1 v=12.34.5\n' line=OK tell=parked gone
as first 'send=AGENT first\n' line=OK tell=parked gone
for n in older newer first; do
	wait_log $n parked
done
is "$(row older)" 'older online N 127.0.0.1:P - 1 0 0' 'an agent without v='
is "$(row newer)" 'newer online N 127.0.0.1:P 12.34 1 0 0' 'a version'
is "$(row first)" 'first online N 127.0.0.1:P - 1 0 0' 'version 1'
for v in x 1 . -1.0 256.0 0.256 99999999999999999999.0 1e9; do
	ok "v=$v is none" talk "send=MSSH/2 agent bad run=1 v=$v\\n" \
	    'line=ERROR syntax v= needs a version' eof
done

# ---- forms

tab=$(printf '\t')
list >"$T/all"
is "$(cut -f 1 "$T/all" | tr '\n' ' ')" \
    'dead first full gone newer older web-1 ' 'all of them, sorted'
ok 'eight fields each, tabs between them' perl -ne '
    exit 1 unless 7 == tr/\t//; exit 1 if / |\t\t/' "$T/all"
list 'web-*' newer 'G*[a-f]' >"$T/out"
is "$? $(cut -f 1 "$T/out" | tr '\n' ' ')" '0 gone newer web-1 ' 'patterns'
list 'web-*,newer' >"$T/out"
is "$? $(cut -f 1 "$T/out" | tr '\n' ' ')" '0 newer web-1 ' \
    'patterns with a comma'
is "$(list --names 'web-*' older)" 'older
web-1' '--names'
says 4 'mssh: the server knows no node *-9' 'a pattern for none' '*-9'
list --names web-1 'nope*' >"$T/out"
is "$? $(cat "$T/out" "$T/err")" \
    '4 web-1
mssh: the server knows no node nope*' 'one of two: the other is shown'
says 4 'mssh: the server knows no node full2' 'a name is no prefix' full2

ok '--json' objects 'my $o = $_; "$_->{name} $_->{state}" =~
    /^[a-z0-9-]+ (online|offline)$/ && !grep { $o->{$_} !~ /^[0-9]+$/ }
    qw(since parked sessions waiting)'
is "$(list --json | wc -l | tr -d ' ')" 7 'an object a line'
ok 'what is not known is left out' objects '"@{[sort keys %$_]}" eq
    "address name parked sessions since state waiting"' older
ok 'a version is no number' objects '$_->{version} eq "12.34"' newer
ok 'numbers are' objects 'JSON::PP->new->canonical->encode($_) =~
    /"parked":1,"sessions":0,"since":[0-9]+,"state":"online",/' newer
list --json nope >"$T/out"
is "$? $(cat "$T/out")" '4 ' '--json and a pattern for none'

on_tty() {
	script -qec "'$MSSH' list --server '$SRV' $1" /dev/null </dev/null |
	    tr -d '\r'
}
on_tty >"$T/out"
is "$(sed q "$T/out" | tr -s ' ')" \
    'name state since address version parked sessions waiting' \
    'a terminal: titles'
ok 'aligned' perl -ne '
	if ($. == 1) { push @at, $-[0] while /\S+/g; $n = @at; next }
	$rows++;
	for my $at (@at) {
		exit 1 if substr($_, $at, 1) !~ /\S/ or
		    $at && substr($_, $at - 2, 2) ne "  ";
	}
	exit 1 if split(/  +/) != $n || /\t|\s\n/;
	END { exit 1 unless $rows == 7 && $n == 8 }' "$T/out"
ok 'a time has its unit' grep -Eq '^web-1 +online +[0-9]+ (s|min) ' "$T/out"
is "$(on_tty '--names older')" older '--names on a terminal'
is "$(on_tty '--json older' | cut -c 1-15)" '{"name":"older"' 'and --json'
for form in --names --json ''; do
	# shellcheck disable=SC2086	# or none
	"$MSSH" list --server "$SRV" $form >/dev/full 2>"$T/err"
	is "$? $(sed 's/:[^:]*$//' "$T/err")" '1 mssh: cannot write the list' \
	    "a full disk $form"
done
for bad in 'a b' 'a/b' "$(printf '%0256d' 1)" '$(id)' ''; do
	list -- "$bad" >"$T/out"
	is "$?" 2 "no pattern: '$bad'"
done
list --no-sshd 2>"$T/out"
is "$?" 2 'an option of ping'

# ---- the protocol

talk 'send=MSSH/2 list *\n' print >"$T/raw"
ok 'OK, a line NODE each, END and how many' perl -ne '
    $ok = /^OK( |$)/ if $. == 1;
    $n++ if /^NODE [a-z0-9-]+( [a-z]+=\S+)+$/;
    $end = /^END (\d+)$/ && $1 == $n if eof;
    END { exit !($ok && $end && $n == 7 && $. == 9) }' "$T/raw"
ok 'none that match' talk 'send=MSSH/2 list x*\n' line=OK 'line=END 0' eof
ok 'a hello byte by byte' talk 'drip=MSSH/2 list OLDER,x\n' line=OK \
    'line=NODE older ' 'line=END 1' eof
for words in '' '$(id)' "$(printf '%0256d' 1)"; do
	ok "refused: list $words" talk "send=MSSH/2 list $words\\n" \
	    'line=ERROR syntax list needs patterns' eof
done
ok 'version 1 has no list' talk 'send=LIST *\n' 'line=ERROR syntax' eof

# rogue TEXT STATUS ANSWER NAME: what the client makes of a server that says
# so.
rogue() {
	start rogue perl -MIO::Socket::INET -e '
		$| = 1;
		my $l = IO::Socket::INET->new(Listen => 5,
		    LocalAddr => "127.0.0.1") or die;
		print "port ", $l->sockport, "\n";
		my $s = $l->accept;
		<$s>;
		print $s eval "qq{$ARGV[0]}"' "$1"
	wait_log rogue port
	at=127.0.0.1:$(sed -n 's/^port //p' "$T/rogue.log")
	"$MSSH" list --json --server "$at" >"$T/out" 2>"$T/err"
	is "$? $(sed "s/$at/S/" "$T/out" "$T/err")" "$2 $3" "$4"
	wait_gone rogue
}
rogue 'OK\nNODE a state=x\n' 9 'mssh: the server S closed the connection' \
    'a list without its end is none'
rogue 'OK\nNODE a state=\e[31mx\nEND 1\n' 9 \
    'mssh: what answers at S is not an mssh server: NODE a '\
'state=\x1b[31mx\x0aEND 1\x0a' \
    'a list may not write to the terminal'
rogue 'OK\nNODE a state=\"\\x\nEND 1\n' 0 '{"name":"a","state":"??x"}' \
    'and is JSON, whatever a server says'
rogue 'OK\nERROR busy so it is\n' 8 'mssh: so it is' \
    'it may be refused in the middle'

for name in older newer first agent-web-1 agent-full; do
	stop $name
done
stop server

# ---- who is local

only='only a peer on the server'"'"'s own machine may list its nodes, as the'
only="$only server has no --keys"
# seen WHERE: the names that are listed there.
seen() {
	$IN "$MSSH" list --names --server "$1" 2>"$T/err"
	echo "$?$(cat "$T/err")"
}
who_is_local() {
	start ns unshare -n sh -c 'ip link set lo up &&
	    ip addr add 203.0.113.9/32 dev lo && echo up && exec sleep 1000'
	ok 'a network of our own' wait_log ns up
	IN="nsenter -t $(pid ns) -n"
	server --host 0.0.0.0 --listen "unix:$T/sock" --trusted 127.0.0.1
	wait_log server "listening on unix:$T/sock"
	as web 'send=MSSH/2 agent web-1 run=1\n' line=OK tell=parked gone
	wait_log web parked
	is "$(seen "127.0.0.1:$PORT")" 'web-1
0' 'loopback is local'
	is "$(seen "127.9.8.7:$PORT")" 'web-1
0' 'all of it'
	is "$(seen "unix:$T/sock")" 'web-1
0' 'a Unix socket is'
	is "$(seen "203.0.113.9:$PORT")" "5mssh: $only" 'another address is not'
	is "$(seen "http://127.0.0.1:$PORT")" "5mssh: $only" \
	    'a reverse proxy is not, even here'
	as raw \
	    'send=GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 127.0.0.1\r\n' \
	    'send=Connection: Upgrade\r\nUpgrade: mssh\r\n\r\nMSSH/2 list *\n' \
	    'until=\r\n\r\n' "line=ERROR denied $only" eof
	ok 'nor who says that it is' wait_gone raw
	is "$rc" 0 'it is told why'
	stop web
	stop server

	server --host 0.0.0.0 --proxy-protocol --trusted 127.0.0.1
	for from in 203.0.113.7 192.0.2.1; do
		as raw "send=PROXY TCP4 $from 192.0.2.9 1 2\\r\\n" \
		    'send=MSSH/2 list *\n' \
		    'line=ERROR denied only a peer' eof
		wait_gone raw
		is "$rc" 0 "a PROXY header with $from is not"
	done
	stop server
	if $IN grep -q ' lo$' /proc/net/if_inet6; then
		server --host ::
		is "$(seen "[::1]:$PORT")" 0 'IPv6 loopback is'
		is "$(seen "127.0.0.1:$PORT")" 0 'IPv4 by an IPv6 socket is'
		is "$(seen "203.0.113.9:$PORT")" "5mssh: $only" 'another is not'
		stop server
	fi
	IN=''
	stop ns
}
if [ "$(id -u)" = 0 ]; then
	who_is_local
else
	note 'only root can make a network: who is local was not tested'
fi

# ---- rights

for k in all cl li bo ag mix; do
	"$MSSH" keygen $k >"$T/$k.key"
done
{
	echo "agent * $(cat "$T/all.key")"
	echo "client web-* $(cat "$T/cl.key")"
	echo "client db-1 $(cat "$T/cl.key")"
	echo "list lab-*,web-2 $(cat "$T/li.key")"
	echo "both two-* $(cat "$T/bo.key")"
	echo "agent web-* $(cat "$T/ag.key")"
	echo "client web-1 $(cat "$T/mix.key")"
	echo "agent lab-* $(cat "$T/mix.key")"
	echo "list db-* $(cat "$T/mix.key")"
} >"$T/keys"
cp "$T/keys" "$T/keys.all"
server --keys "$T/keys" --listen "unix:$T/sock"
wait_log server '9 keys read'
for n in web-1 web-2 db-1 lab-1 two-1; do
	agent $n --key "$T/all.key"
done

# names KEY [PATTERN...]: what it sees, in one line.
names() {
	k=$1
	shift
	list --names --key "$T/$k.key" "$@" | tr '\n' ' '
}
is "$(names cl)" 'db-1 web-1 web-2 ' 'client: its nodes, of two lines'
is "$(names li)" 'lab-1 web-2 ' 'list: all of its patterns'
is "$(names bo)" 'two-1 ' 'both'
is "$(names mix)" 'db-1 web-1 ' 'a client here, list there: not as an agent'
is "$(names cl 'web-*' db-1)" 'db-1 web-1 web-2 ' 'patterns choose among them'
says 5 'mssh: the key ag is not good for list * here' \
    'agent-only: denied' --key "$T/ag.key"
says 5 'mssh: the key ag is not good for list web-1 here' \
    'for a name that it may register, too' --key "$T/ag.key" web-1
says 4 'mssh: the server knows no node lab-1' \
    'what a key may not see is not there' --key "$T/cl.key" lab-1
says 4 'mssh: the server knows no node lab-1' \
    'nor for who may register it' --key "$T/mix.key" lab-1
says 5 'mssh: this server needs a key (see --key in mssh(1))' \
    'without a key, though it is local'
"$MSSH" list --server "unix:$T/sock" >"$T/out" 2>"$T/err"
is "$? $(cat "$T/err")" \
    '5 mssh: this server needs a key (see --key in mssh(1))' \
    'nor by a Unix socket'
is "$(list --names --key "$T/cl.key" --server "http://$SRV" | tr '\n' ' ')" \
    'db-1 web-1 web-2 ' 'with a key HTTP will do'
"$MSSH" keygen new >"$T/new.key"
list --key "$T/new.key" >"$T/out"
is "$?" 5 'a key that the server does not know'
echo x | "$MSSH" proxy web-2 --server "$SRV" --key "$T/li.key" >"$T/out" \
    2>"$T/err"
is "$? $(cat "$T/err")" \
    '5 mssh: the key li is not good for client web-2 here' 'list: no session'
"$MSSH" ping web-2 --server "$SRV" --key "$T/li.key" >"$T/out" 2>"$T/err"
is "$? $(cat "$T/err")" \
    '5 mssh: the key li is not good for ping web-2 here' 'and no ping'
"$MSSH" ping two-1 --no-sshd --server "$SRV" --key "$T/bo.key" >"$T/out" \
    2>"$T/err"
is "$?" 0 'both may'
nonce=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
ok 'a list without a proof is none' talk \
    "send=MSSH/2 list * key=cl nonce=$nonce\\n" line=CHALLENGE \
    "send=PROOF mac=$nonce\\n" 'line=ERROR denied the key cl is not' eof
for n in web-1 web-2 db-1 lab-1 two-1; do
	stop agent-$n >/dev/null
done
is "$(names cl)" 'db-1 web-1 web-2 ' 'offline nodes are seen the same way'
is "$(names li)" 'lab-1 web-2 ' 'by all'
stop server

# ---- thousands; a reader that stops

# one NODE line has some 90 bytes: more than a Unix socket holds
n=3000
server --verbose --listen "unix:$T/sock"
wait_log server "listening on unix:$T/sock"
start park "$T/peer" park "$SRV" $n
ok "$n agents" wait_log park "parked $n" 120
list >"$T/out"
is "$? $(wc -l <"$T/out" | tr -d ' ')" "0 $n" 'are listed'
ok 'sorted' sort -c "$T/out"
is "$(cut -f 1 "$T/out" | uniq | wc -l | tr -d ' ')" "$n" 'each once'
is "$(list --names 'node-0001?' | wc -l | tr -d ' ')" 10 'ten of them'
talk 'send=MSSH/2 list *\n' print >"$T/raw"
is "$(tail -n 1 "$T/raw")" "END $n" 'the protocol says how many'

# readers COUNT: lists that nobody reads, by the Unix socket.
readers() {
	start readers perl -MIO::Socket::UNIX -e '
	    my ($path, $n, @all) = @ARGV;
	    $SIG{USR1} = sub {
		for (@all) {
			local $/; my $l = <$_>;
			print $l =~ /\nEND \d+\n\z/ ? "whole\n" : "cut\n";
		}
		exit };
	    $| = 1;
	    while (@all < $n) {
		my $s = IO::Socket::UNIX->new(Peer => $path) or die;
		syswrite $s, "MSSH/2 list *\n";
		sysread $s, my $b, 3 or die;
		die $b unless $b =~ /^OK/;
		push @all, $s;
	    }
	    print "up\n"; sleep 60 while 1' "$T/sock" "$1"
	wait_log readers up
}
# idlers: 48 that ping, from three other addresses.
idlers() {
	start idlers perl -MIO::Socket::INET -e '
	    for my $i (0 .. 47) {
		my $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$ARGV[0]",
		    LocalAddr => "127.0.0." . (2 + $i % 3)) or die;
		syswrite $s, "MSSH/2 ping node-00001\n";
		sysread $s, my $b, 3 or die;
		push @all, $s;
	    }
	    $| = 1;
	    print "up\n";
	    while (1) { sleep 5; syswrite $_, "PING\n" for @all }' "$PORT"
	wait_log idlers up
}
full='by the same key or from the same address; try later'
before=$(rss server)
ok '16 readers that stop' readers 16
SRV_=$SRV SRV=unix:$T/sock
list >"$T/out"
is "$? $(cat "$T/err")" "8 mssh: 16 peers list or ping already, 16 $full" \
    'there can be no more of one address'
"$MSSH" ping node-00001 --server "$SRV" --no-sshd >"$T/out" 2>"$T/err"
is "$? $(cat "$T/err")" "8 mssh: 16 peers list or ping already, 16 $full" \
    'nor one that pings'
SRV=$SRV_
list >"$T/out"
is "$? $(wc -l <"$T/out" | tr -d ' ')" "0 $n" 'but of another'
after=$(rss server)
ok '48 from others' idlers
list >"$T/out"
is "$? $(wc -l <"$T/out" | tr -d ' ')" "0 $n" 'the oldest idle one is evicted'
ok 'as the log says' wait_log server 'pinging, dropped: evicted'
stop idlers
ok 'the server keeps no list for them' [ $((after - before)) -lt 4000 ] ||
    note "$before kB, $after kB"
ok 'agents come meanwhile' talk 'send=MSSH/2 agent late run=1\n' line=OK
ok 'who stops is cut' wait_log server \
    'listing, dropped: it did not read the list' 60
all_cut() {
	[ "$(log_count server 'dropped: it did not read the list')" = 16 ]
}
ok 'all of them' wait_for 60 all_cut
kill -USR1 "$(pid readers)"
wait_gone readers >/dev/null
is "$(grep -c cut "$T/readers.log") $(grep -c whole "$T/readers.log")" \
    '16 0' 'they miss the end, and know'
list >"$T/out"
is "$? $(grep -c node- "$T/out")" "0 $n" 'there is room for others again'
stop park
is "$rc $(sed -n 's/.*\(lost.*\)/\1/p' "$T/park.log")" \
    '0 lost 0 unanswered 0' 'the pings of all agents were answered'
stop server

# ---- a key is removed when its list is half read

# The socket may have taken a part of a NODE line: ERROR goes out behind that
# line, not in it.

# $T/halfway FROM TO: relays one connection, but stops after 20,000 bytes of
# the answer until there is $T/go.
cat >"$T/halfway" <<'END'
use strict;
use warnings;
use Socket;
my ($port, $go) = @ARGV;
$| = 1;
socket my $l, PF_INET, SOCK_STREAM, 0;
bind $l, sockaddr_in(0, INADDR_LOOPBACK) or die;
listen $l, 1;
print 'port ', (sockaddr_in(getsockname $l))[0], "\n";
accept my $c, $l or die;
socket my $s, PF_INET, SOCK_STREAM, 0;
setsockopt $s, SOL_SOCKET, SO_RCVBUF, pack 'i', 2048;
connect $s, sockaddr_in($port, INADDR_LOOPBACK) or die;
if (!fork) {
	syswrite $s, $_ while sysread $c, $_, 4096;
	exit;
}
my ($n, $end) = (0, '');
while (sysread $s, $_, 1024) {
	syswrite $c, $_;
	$end = substr "$end$_", -200;
	$n += length;
	next if $n < 20000 || $n > 30000;
	print "half\n";
	select undef, undef, undef, 0.02 until -e $go;
	$n = 99999;
}
print "the last bytes: $end\n";
shutdown $c, 1;
END

cp "$T/keys.all" "$T/keys"
server --keys "$T/keys" --verbose
# many raw agents need a key each time: one of them, many times
start crowd perl -MIO::Socket::INET -MDigest::SHA=hmac_sha256 \
    -MMIME::Base64=encode_base64,decode_base64 -e '
	my ($to, $n, $name, $secret) = @ARGV;
	sub b64 { my $t = encode_base64(shift, ""); $t =~ tr/+\/=/-_/d; $t }
	sub raw { my $t = shift; $t =~ tr/-_/+\//; decode_base64("$t=") }
	my ($key, $mine, @all) = (raw($secret), "M" x 32);
	$| = 1;
	for my $i (1 .. $n) {
		my $s = IO::Socket::INET->new($to) or die;
		my $node = sprintf "web-%060d", $i;
		print $s "MSSH/2 agent $node run=$i v=0.2 key=$name nonce=",
		    b64($mine), "\n";
		my ($nonce) = <$s> =~ /nonce=(\S+)/ or die;
		my $text = join "", map { pack "C/a*", $_ } "mssh 2 peer",
		    "agent", $node, $name, $mine, raw($nonce);
		print $s "PROOF mac=", b64(hmac_sha256($text, $key)), "\n";
		<$s> =~ /^OK/ or die;
		push @all, $s;
	}
	print "up\n"; sleep 1000' "$SRV" 2000 all \
    "$(cut -d' ' -f2 "$T/all.key")"
ok '2,000 agents with a key' wait_log crowd up 120
start half perl "$T/halfway" "$PORT" "$T/go"
wait_log half port
start reader "$MSSH" list --key "$T/cl.key" \
    --server "127.0.0.1:$(sed -n 's/^port //p' "$T/half.log")"
ok 'a list is half read' wait_log half half
grep -v ' cl ' "$T/keys.all" >"$T/keys"
mark server
kill -HUP "$(pid server)"
ok 'its key is removed' wait_log server '7 keys read'
: >"$T/go"
ok 'the list ends' wait_gone reader
is "$rc $(cat "$T/reader.log")" '5 mssh: its key was removed' \
    'and says why; nothing of it is printed'
stop half >/dev/null
stop crowd
stop server
finish
