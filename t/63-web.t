#!/bin/sh
# 63-web.t - the server behind a front: HTTP Upgrade, what it answers to other
# HTTP, X-Forwarded-For, PROXY headers, Unix sockets.
# shellcheck disable=SC1091,SC2016,SC2154	# rc: lib.sh
t/need sshd ssh curl socat perl || exit 1
. t/lib.sh

get='GET / HTTP/1.1\r\n'
upgrade='Host: x\r\nConnection: Upgrade\r\nUpgrade: mssh\r\n'
head=$get$upgrade
switch='HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: '
switch="${switch}mssh\\r\\n\\r\\n"
# A hello that has its answer at once: there is no such node.
client='MSSH/2 client -x\n'
said='ERROR syntax it must start'

# answered STATUS TEXT: what is sent is answered with that, whole, and the end.
answered() {
	talk "send=$2" print >"$T/got" || return 1
	cat "$T/got"
	judge "$1" "$2"
}

# judge STATUS REQUEST: is $T/got an answer with that?  HEAD's has no body.
judge() {
	perl -0777 -e 'my ($status, $method, $file) = @ARGV;
	    open my $f, "<", $file or die; $_ = <$f>;
	    my ($n) = /^Content-Length: (\d+)\r$/m or exit 1;
	    my ($body) = /\r\n\r\n(.*)\z/s or exit 1;
	    exit !(/\AHTTP\/1\.1 $status [^\r\n]+\r\n/ &&
		/^Connection: close[\r,]/m && $n > 0 &&
		length $body == ($method =~ /^HEAD/ ? 0 : $n))' \
	    "$1" "$2" "$T/got"
}

# splits: the head and a hello behind it in two parts, cut at each byte.
splits() {
	perl -MIO::Socket::INET -MTime::HiRes=sleep -e '
	    my ($to, $in, $out) = map { s/\\r/\r/gr =~ s/\\n/\n/gr } @ARGV;
	    my @s;
	    for my $k (1 .. length($in) - 1) {
		my $s = IO::Socket::INET->new($to) or die "connect: $!";
		syswrite $s, substr $in, 0, $k;
		push @s, [$s, $k];
	    }
	    sleep 0.1;
	    for (@s) { syswrite $_->[0], substr $in, $_->[1] }
	    for (@s) {
		my ($s, $k) = @$_;
		local $/;
		my $got = <$s>;
		$got =~ /^\Q$out\EERROR syntax it must/ or die "at $k: $got\n";
	    }' "$SRV" "$head\\r\\n$client" "$switch"
}

# padded BYTES: a head that is so long, with its end.
padded() {
	printf '%sPad: %0*d\\r\\n\\r\\n' "$head" \
	    $(($1 - $(printf %b "$head" | wc -c) - 9)) 0
}

web() {
	server --startups 750
	start half "$T/peer" talk "$SRV" "send=${get}Host:" \
	    'line=HTTP/1.1 408 ' gone
	ok 'an Upgrade in one segment with the hello' talk \
	    "send=$head\\r\\n$client" "expect=$switch" "line=$said" eof
	ok 'an Upgrade byte by byte' talk "drip=$head\\r\\n$client" \
	    "expect=$switch" "line=$said" eof
	ok 'an Upgrade in two parts, cut anywhere' splits
	ok 'the 101 comes before the hello' talk "send=$head\\r\\n" \
	    "expect=$switch" "send=$client" "line=$said" eof
	ok 'version 1 behind an Upgrade' talk \
	    "send=$head\\r\\nCLIENT -x\\n" "expect=$switch" \
	    'line=ERROR: it must' eof
	ok 'a second Upgrade is none' talk "send=$head\\r\\n$head\\r\\n" \
	    "expect=$switch" 'line=ERROR syntax the first line is not an mssh' eof
	ok 'half a request and the end' talk "send=$get" fin gone
	answers
	long
	health
	with_curl
	wait_gone half
	is "$rc" 0 'half a head: 408 at the deadline'
	ok 'what a head says is not in the log as it is' log_is_clean
	stop server
}

log_is_clean() {
	if grep -n -e '[^ -~]' -e evil "$T/server.log"; then
		return 1
	fi
	grep -q 'refused 127.0.0.1:[0-9]*: HTTP: ' "$T/server.log"
}

# answers: one line for each, STATUS TEXT.
answers() {
	te='Transfer-Encoding: chunked\r\n'
	while read -r status text; do
		[ -n "$status" ] || continue
		ok "$status: $text" answered "$status" "$text"
	done <<-END
	426 ${get}Host: x\\r\\n\\r\\n
	426 GET / HTTP/1.0\\r\\n\\r\\n
	426 GET / HTTP/1.0\\r\\n$upgrade\\r\\n
	426 POST / HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 4\\r\\n\\r\\nevil
	426 HEAD / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n
	426 ${get}Host: x\\r\\nContent-Length: 4\\r\\n$te\\r\\n0\\r\\n\\r\\n
	426 ${get}Host: x\\r\\nConnection: Upgrade\\r\\nUpgrade: h2c\\r\\n\\r\\n
	505 PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n
	505 GET / HTTP/3.0\\r\\n$upgrade\\r\\n
	400 ${get}Connection: Upgrade\\r\\nUpgrade: mssh\\r\\n\\r\\n
	400 ${head}Host: y\\r\\n\\r\\n
	400 $head folded\\r\\n\\r\\n
	400 ${head}A : b\\r\\n\\r\\n
	400 ${head}evil\\r\\n\\r\\n
	400 ${head}Content-Length: 0\\r\\nContent-Length: 0\\r\\n\\r\\n
	400 ${head}Content-Length: 4\\r\\n\\r\\nevil
	400 $head$te\\r\\n0\\r\\n\\r\\n
	400 ${head}Content-Length: 0\\r\\n$te\\r\\n
	400 ${head}A: b\\rc\\r\\n\\r\\n
	400 ${head}A: b\\nC: d\\r\\n\\r\\n
	400 ${head}\\n
	400 ${head}A: \\x00\\r\\n\\r\\n
	400 ${head}A: evil\\x1b[31m\\r\\n\\r\\n
	400 GET /evil\\xff HTTP/1.1\\r\\n$upgrade\\r\\n
	400 GET /evil\\x09x HTTP/1.1\\r\\n$upgrade\\r\\n
	400 GET /evil\\r\\n$upgrade\\r\\n
	END
	ok 'not 101: an agent in the body of a POST' unserved
}

unserved() {
	talk "send=POST / HTTP/1.1\\r\\n$upgrade\\r\\nMSSH/2 agent evil\\n" \
	    print >"$T/got"
	cat "$T/got"
	judge 426 POST && [ "$(log_count server registered)" = 0 ]
}

long() {
	text=$(padded 4096)
	is "$(printf %b "$text" | wc -c | tr -d ' ')" 4096 \
	    'a head of 4096 bytes'
	ok 'it is taken' talk "send=$text$client" "expect=$switch" \
	    "line=$said" eof
	text=$(padded 4097)
	ok 'one of 4097 is not' answered 431 "$text"
	text=$(padded 4100)
	ok 'nor is 4096 bytes of one' answered 431 "${text%????????}"
	ok 'a bad one is bad, however long' answered 400 \
	    "${head}A: b\\n$(padded 4097)"
}

health() {
	for method in GET HEAD; do
		for minor in '0\r\n' '1\r\nHost: x\r\n'; do
			text="$method /healthz HTTP/1.$minor\\r\\n"
			ok "200: $text" answered 200 "$text"
		done
	done
	ok 'health is not in the log' [ "$(log_count server /healthz)" = 0 ]
}

with_curl() {
	url=http://$SRV
	is "$(curl -sS --http1.1 "$url/healthz")" ok 'curl: health'
	is "$(curl -sS --http1.1 -I -o /dev/null -w '%{http_code}' \
	    "$url/healthz")" 200 'curl: health by HEAD'
	is "$(curl -sS --http1.1 -o "$T/got" -w '%{http_code}' "$url/")" 426 \
	    'curl: 426'
	ok 'curl: and a sentence' grep -q 'mssh(1)' "$T/got"
	is "$(curl -sS --http2-prior-knowledge -o /dev/null "$url/" 2>&1 |
	    wc -l | tr -d ' ')" 1 'curl: HTTP/2 without asking fails at once'
	# it is open until curl has had enough
	for most in 0.3 3 30; do
		curl_upgrades "$url/" >/dev/null && break
	done
	ok 'curl: an Upgrade' curl_upgraded
}

curl_upgrades() {
	curl -sS -m "$most" --http1.1 -i -H 'Connection: Upgrade' \
	    -H 'Upgrade: mssh' "$1" >"$T/got" 2>&1
	curl_upgraded
}

curl_upgraded() {
	cat "$T/got"
	grep -q '^HTTP/1.1 101 ' "$T/got"
}

# seen FROM PREFIX: the agent hears of a client at FROM, who sends PREFIX before
# its hello.
seen() {
	start ag "$T/peer" talk "$SRV" 'send=MSSH/2 agent web run=1\n' \
	    line=OK tell=parked "line=GO from=$1 id=" \
	    'send=READY\n' gone
	wait_log ag parked || return 1
	talk "send=$2MSSH/2 client web\\nx" 'until=OK id='
	wait_gone ag
	cat "$T/ag.log"
	[ "$rc" = 0 ]
}

# from FROM FIELDS: likewise, by an Upgrade with these fields.
from() {
	seen "$1" "$head$2\\r\\n"
}

# own FIELDS: nothing that these fields say is believed.
own() {
	start ag "$T/peer" talk "$SRV" 'send=MSSH/2 agent web run=1\n' \
	    line=OK tell=parked line=GO\ from=127.0.0.1: 'send=READY\n' gone
	wait_log ag parked || return 1
	talk "send=$head$1\\r\\nMSSH/2 client web\\nx" 'until=OK id='
	wait_gone ag
	cat "$T/ag.log"
	[ "$rc" = 0 ]
}

# logged LINE TEXT: who says TEXT is in the log so, if not at once: there are
# few such lines in a second.
logged() {
	wait_for 30 logs "$@"
}

logs() {
	talk "send=$2" 'wait=100'
	log_has server "$1"
}

xff='X-Forwarded-For: '
fwd='Forwarded: '
forwarded() {
	server
	ok 'no --trusted: X-Forwarded-For is not believed' \
	    own "${xff}203.0.113.7\\r\\n"
	stop server
	server --trusted 127.0.0.2 --trusted ::/64
	ok 'another is --trusted: not believed' own "${xff}203.0.113.7\\r\\n"
	stop server

	server --trusted 127.0.0.0/8 --trusted 10.0.0.0/8 --trusted fd00::/8
	ok 'X-Forwarded-For' from 203.0.113.7 "${xff}203.0.113.7\\r\\n"
	ok 'X-Forwarded-For: who came last counts' from 203.0.113.7 \
	    "${xff}6.6.6.6\\r\\n${xff}203.0.113.7\\r\\n"
	ok 'X-Forwarded-For: a chain of fronts' from 203.0.113.7:5 \
	    "${xff}6.6.6.6, 203.0.113.7:5, 10.0.0.1, fd00::1\\r\\n"
	ok 'X-Forwarded-For: one that is no address' own \
	    "${xff}6.6.6.6, x\\r\\n"
	ok 'X-Forwarded-For: no address at all is no Unix socket' own \
	    "${xff}::\\r\\n"
	ok 'X-Forwarded-For: IPv6' from '[2001:db8::1]:4711' \
	    "${xff}[2001:db8::1]:4711\\r\\n"
	ok 'Forwarded is not read' own "${fwd}for=6.6.6.6\\r\\n"
	ok 'no field: it is the front itself' own ''
	mark server
	ok 'the log has the real address of an agent' logged \
	    'box registered from 203.0.113.9' \
	    "$head${xff}203.0.113.9\\r\\n\\r\\nMSSH/2 agent box\\n"
	ok 'and of who is refused' logged 'refused 203.0.113.9: HTTP: ' \
	    "${get}Host: x\\r\\n${xff}203.0.113.9\\r\\n\\r\\n"
	stop server
}

# as_of NAME ADDR: a stranger from there who has not said a word.
as_of() {
	as "$1" "send=$head$xff$2\\r\\n\\r\\n" "expect=$switch" tell=here \
	    gone
	wait_log "$1" here
}

crowds() {
	server --trusted 127.0.0.1 --startups 3
	# unless the machine was so busy that the deadline came first: they go
	# after 5 s
	for _ in 1 2 3; do
		as_of one 203.0.113.7
		as_of two 203.0.113.7
		talk "send=$head${xff}203.0.113.7\\r\\n\\r\\n" print >"$T/got"
		[ -s "$T/got" ] || break
	done
	is "$(cat "$T/got")" '' 'a third of one address behind a front'
	ok 'the log says so' wait_log server \
	    'refused 203.0.113.7: 2 connections of its address'
	ok 'somebody else behind it' talk \
	    "send=$head${xff}203.0.113.8\\r\\n\\r\\n" "expect=$switch"
	ok 'so many as like from the front itself' as_of three 127.0.0.1
	ok 'and more' as_of four 127.0.0.1
	ok 'and more than two' as_of five 127.0.0.1
	stop one
	ok 'when one has gone another may come' wait_for 30 talk \
	    "send=$head${xff}203.0.113.7\\r\\n\\r\\n" "expect=$switch"
	for name in two three four five; do
		stop $name
	done
	stop server
}

sig='\r\n\r\n\x00\r\nQUIT\n'
v1='PROXY TCP4 203.0.113.7 192.0.2.1 4711 8443\r\n'
v2="$sig\\x21\\x11\\x00\\x0c\\xcb\\x00\\x71\\x08\\xc0\\x00\\x02\\x01"
v2="$v2\\x12\\x67\\x20\\xfb"
loc="$sig\\x20\\x00\\x00\\x00"
v2tlv="$sig\\x21\\x11\\x00\\x13\\xcb\\x00\\x71\\x08\\xc0\\x00\\x02\\x01"
v2tlv="$v2tlv\\x12\\x67\\x20\\xfb\\x04\\x00\\x04\\n\\r\\x00x"

# passes PREFIX: whoever says that first is heard.
passes() {
	talk "send=$1$client" "line=$said" eof
}

refused() {
	talk "send=$1$client" 'line=ERROR syntax the connection does not' eof
}

# hops FROM PREFIX: who an agent behind the front, too, hears of.
hops() {
	start ag "$T/peer" talk "$SRV" "send=${v2}MSSH/2 agent web run=1\\n" \
	    line=OK tell=parked "line=GO from=$1" 'send=READY\n' gone
	wait_log ag parked || return 1
	talk "send=$2MSSH/2 client web\\nx" 'until=OK id='
	wait_gone ag
	cat "$T/ag.log"
	[ "$rc" = 0 ]
}

proxied() {
	near='PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n'
	server --proxy-protocol --trusted 127.0.0.1
	start mute "$T/peer" talk "$SRV" "send=PROXY TCP4" \
	    'line=ERROR timeout' eof
	for text in "$v1" "$v2" "$v2tlv" 'PROXY UNKNOWN\r\n' \
	    'PROXY TCP6 2001:db8::1 ::1 1 2\r\n' "$loc"; do
		ok "PROXY: $text" passes "$text"
	done
	for text in "$v1" "$v2"; do
		ok "PROXY, byte by byte: $text" talk "drip=$text$client" \
		    "line=$said" eof
	done
	ok 'without a PROXY header' refused ''
	ok 'an Upgrade without one' refused "$head\\r\\n"
	ok 'PROXY with two blanks' refused \
	    'PROXY  TCP4 1.2.3.4 1.2.3.5 1 2\r\n'
	ok 'version 2, too short for its family' refused \
	    "$sig\\x21\\x11\\x00\\x04\\xcb\\x00\\x71\\x08"
	ok 'a second PROXY header' talk "send=$v1$v1" \
	    'line=ERROR syntax the first line is not an mssh' eof
	ok 'PROXY 1: from' hops '203.0.113.7:4711 ' "$v1"
	ok 'PROXY 2: from' hops '203.0.113.8:4711 ' "$v2"
	ok 'PROXY LOCAL: from' hops 127.0.0.1: "$loc"
	ok 'PROXY UNKNOWN: from' hops 127.0.0.1: 'PROXY UNKNOWN 1.2.3.4\r\n'
	ok 'PROXY and HTTP' hops '203.0.113.7:4711 ' "$v1$head\\r\\n"
	ok 'PROXY and HTTP: a client that lies' hops '203.0.113.7:4711 ' \
	    "$v1$head${xff}6.6.6.6\\r\\n\\r\\n"
	ok 'PROXY and HTTP: two fronts' hops '203.0.113.9 ' \
	    "$near$head${xff}203.0.113.9\\r\\n\\r\\n"
	ok 'PROXY and health' curl -sS --http1.1 --haproxy-protocol \
	    -o "$T/got" "http://$SRV/healthz"
	is "$(cat "$T/got")" ok 'PROXY and health: ok'
	mark server
	ok 'the log has the real address' logged 'refused 203.0.113.7:4711: ' \
	    "$v1$client"
	proxy_login
	wait_gone mute
	is "$rc" 0 'half a PROXY header: an answer at the deadline'
	stop server
	server --proxy-protocol --trusted 127.0.0.2
	ok 'PROXY from whom nobody trusts' talk "send=$v1$client" \
	    'line=ERROR denied' gone
	stop server
}

# front PREFIX: a front that says PREFIX for each connection, then waits for
# the end of a head; FRONT is its address.
cat >"$T/front" <<'END'
use IO::Socket::INET;
use IO::Select;
my ($to, $say) = @ARGV;
$say = eval "qq{$say}";
$SIG{CHLD} = 'IGNORE';
my $l = IO::Socket::INET->new(Listen => 9, LocalAddr => '127.0.0.1') or die;
$| = 1;
print 'listening on ', $l->sockport, "\n";
while (my $c = $l->accept) {
	next if fork;
	my $s = IO::Socket::INET->new($to) or die;
	my ($head, $n) = ('', 0);
	syswrite $s, $say;
	until ($head =~ /\r\n\r\n/) {
		sysread $s, $head, 1, length $head or die $head;
	}
	my $sel = IO::Select->new($c, $s);
	while ($sel->count) {
		for my $f ($sel->can_read) {
			my $o = $f == $c ? $s : $c;
			if (sysread $f, my $b, 65536) {
				syswrite $o, $b;
			} else {
				shutdown $o, 1;
				$sel->remove($f);
			}
		}
	}
	exit;
}
END

proxy_login() {
	start front perl "$T/front" "$SRV" "$v1$head\\r\\n"
	wait_log front 'listening on' || bail 'no front'
	direct=$SRV
	SRV=127.0.0.1:$(sed -n 's/listening on //p' "$T/front.log")
	agent web
	is "$(msh web 'echo in' 2>"$T/err")" in 'PROXY, HTTP and a login'
	ok 'its session has the real address' wait_log server \
	    'from 203.0.113.7:4711'
	stop agent-web
	stop front
	SRV=$direct
}

# sockets PID: how many TCP sockets it has.
sockets() {
	for fd in "/proc/$1/fd/"*; do
		readlink "$fd"
	done | sed -n 's/^socket:\[\(.*\)\]$/\1/p' >"$T/inodes"
	cat /proc/net/tcp /proc/net/tcp6 2>/dev/null |
	    awk 'NR == FNR { own[$1] = 1; next } $10 in own { n++ }
	    END { print n + 0 }' "$T/inodes" -
}

# unix [options]: a server on a Unix socket alone, as "server".
unix() {
	start server "$MSSH" server --listen "unix:$T/sock" "$@"
	wait_log server "listening on unix:$T/sock"
}

# says SOCKET TEXT: what comes back.
says() {
	printf %b "$2" | socat -t 60 - "UNIX-CONNECT:$1,shut-none"
}

unix_from() {
	start ag sh -c "printf 'MSSH/2 agent web run=1\\n' | socat -t 60 - \
	    'UNIX-CONNECT:$T/sock,shut-none'"
	wait_log ag OK || return 1
	printf %b "$head$2\\r\\nMSSH/2 client web\\nx" >"$T/say"
	start cl sh -c "socat -t 60 - 'UNIX-CONNECT:$T/sock,shut-none' \
	    <'$T/say'"
	wait_log ag "GO from=$1 id="
	was=$?
	stop ag
	stop cl
	return "$was"
}

refuses() {
	want=$1 text=$2
	shift 2
	timeout 60 "$MSSH" server "$@" >"$T/out" 2>&1
	rc=$?
	cat "$T/out"
	[ "$rc" = "$want" ] && grep -q -e "$text" "$T/out"
}

sockets_() {
	ok 'a Unix socket' unix
	is "$(log_count server 'listening on')" 1 'it listens on nothing else'
	[ ! -r /proc/self/fd ] ||
	    is "$(sockets "$(pid server)")" 0 'and has no TCP socket'
	is "$(find "$T/sock" -type s -perm 666)" "$T/sock" 'its mode is 0666'
	ok 'a live socket is not replaced' refuses 1 \
	    "cannot listen on unix:$T/sock: " --listen "unix:$T/sock"
	is "$(says "$T/sock" "$client" | cut -c 1-26)" \
	    "$said" 'and goes on'
	ok 'from a Unix socket' unix_from unix ''
	ok 'from a Unix socket that is not trusted' unix_from unix \
	    "${xff}203.0.113.7\\r\\n"
	port=$(ports 1)
	start relay socat "TCP-LISTEN:$port,bind=127.0.0.1,fork,reuseaddr" \
	    "UNIX-CONNECT:$T/sock"
	SRV=127.0.0.1:$port
	wait_for 30 talk "send=$client" 'line=ERROR'
	agent box
	is "$(msh box 'echo in' 2>"$T/err")" in 'a login through it'
	stop agent-box
	stop relay
	stop server KILL
	ok 'a stale socket is left' [ -S "$T/sock" ]
	ok 'and replaced' unix --trusted unix
	# on a BSD a full queue refuses connections, as this one does
	rm "$T/sock"
	perl -MSocket=:all -e 'socket my $l, PF_UNIX, SOCK_STREAM, 0;
	    bind $l, pack_sockaddr_un(shift) or die' "$T/sock"
	ok 'the socket of a server that lives is not stale' refuses 1 \
	    "cannot listen on unix:$T/sock: Address already in use" \
	    --listen "unix:$T/sock"
	ok 'and is still there' [ -S "$T/sock" ]
	stop server KILL
	ok 'when it has ended, it is' unix --trusted unix
	start full perl -MSocket=:all -e 'my ($ok, $l, $s, @all) = 1;
	    my $at = pack_sockaddr_un(shift);
	    socket $l, PF_UNIX, SOCK_STREAM, 0;
	    bind $l, $at or die;
	    listen $l, 1;
	    while ($ok) {
		socket $s, PF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0;
		$ok = connect $s, $at;
		push @all, $s;
		undef $s if $ok;
	    }
	    $| = 1; print "full: $!\n"; sleep 3600' "$T/full"
	ok 'a queue is full' wait_log full 'full: Resource temporarily'
	ok 'that socket is not stale' refuses 1 \
	    "cannot listen on unix:$T/full: " --listen "unix:$T/full"
	ok 'and is still there' [ -S "$T/full" ]
	stop full
	ok 'from a Unix socket that is trusted' unix_from 203.0.113.7 \
	    "${xff}203.0.113.7\\r\\n"
	stop server
	ok 'PROXY headers on a Unix socket' unix --trusted unix \
	    --proxy-protocol
	is "$(says "$T/sock" "$v1$client" | cut -c 1-26)" \
	    "$said" 'are taken'
	stop server
	ok 'PROXY headers, who is not trusted' unix --trusted 127.0.0.1 \
	    --proxy-protocol
	is "$(says "$T/sock" "$v1$client" | cut -c 1-17)" \
	    'ERROR denied this' 'are not'
	stop server
	server --listen "unix:$T/sock"
	ok 'a Unix socket and an address' wait_log server \
	    "listening on unix:$T/sock"
	ok 'by the address' talk "send=$client" "line=$said" eof
	is "$(says "$T/sock" "$client" | cut -c 1-26)" \
	    "$said" 'by the socket'
	stop server
	echo keep >"$T/file"
	ok 'a file is not replaced' refuses 1 \
	    "cannot listen on unix:$T/file: " --listen "unix:$T/file"
	is "$(cat "$T/file")" keep 'it is as it was'
}

usage() {
	long=$(printf '/%0107d' 0)
	ok 'a path of 108 characters' refuses 2 'at most 107' \
	    --listen "unix:$long"
	for text in "$T/sock" unix: tcp:1 ''; do
		ok "--listen '$text'" refuses 2 'needs unix:PATH' \
		    --listen "$text"
	done
	for text in x 10.0.0.0/33 10.0.0.1:1 :: /8 UNIX ''; do
		[ "$text" = :: ] ||
		    ok "--trusted '$text'" refuses 2 '--trusted needs' \
		    --trusted "$text"
	done
	ok '--proxy-protocol alone' refuses 2 'needs --trusted' \
	    --proxy-protocol
	set --
	while [ $# -lt 34 ]; do
		set -- "$@" --trusted 10.0.0.1
	done
	ok '17 --trusted' refuses 2 'at most 16 --trusted' "$@"
	set --
	while [ $# -lt 34 ]; do
		set -- "$@" --listen "unix:$T/s$#"
	done
	ok '17 --listen' refuses 2 'at most 16 --host and --listen' "$@"
	ok 'an agent has none of them' sh -c '! "$MSSH" agent x --trusted unix \
	    2>"$T/err" && ! "$MSSH" agent x --proxy-protocol 2>>"$T/err" &&
	    ! "$MSSH" agent x --listen unix:/x 2>>"$T/err"'
}

sshd_start
web
forwarded
crowds
proxied
sockets_
usage
finish
