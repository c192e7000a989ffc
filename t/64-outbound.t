#!/bin/sh
# 64-outbound.t - the ways out: proxies, commands, TLS, and all of them at once;
# what each says when it fails, and what it leaves behind
# shellcheck disable=SC2016,SC2046	# quoted programs; lists of numbers
t/need ssh sshd perl ps openssl haproxy tinyproxy microsocks ncat curl \
    prlimit setpriv socat ||
    exit 1
# shellcheck source=t/lib.sh
. t/lib.sh
umask 077

# ---- the cast

read -r TLS WEB NAME OLD SELF CA2 MUTUAL OPEN AUTH SOCKS SAUTH NOBODY <<END
$(ports 12)
END

# cert NAME SAN DAYS CA: makes $T/NAME.pem, certificate and key.
cert() {
	echo "subjectAltName=$2" >"$T/$1.ext"
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
	    -subj "/CN=$1" -keyout "$T/$1.key" -out "$T/$1.csr" 2>"$T/cert" ||
	    bail "no request: $(cat "$T/cert")"
	openssl x509 -req -in "$T/$1.csr" -days "$3" -CA "$T/$4.ca" \
	    -CAkey "$T/$4.ca" -CAcreateserial -extfile "$T/$1.ext" \
	    -out "$T/$1.crt" 2>"$T/cert" ||
	    bail "no certificate: $(cat "$T/cert")"
	cat "$T/$1.crt" "$T/$1.key" >"$T/$1.pem"
}
for ca in our other; do
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 \
	    -nodes -subj "/CN=$ca" -keyout "$T/ca.key" -out "$T/ca.crt" \
	    2>"$T/cert" || bail "no CA: $(cat "$T/cert")"
	cat "$T/ca.crt" "$T/ca.key" >"$T/$ca.ca"
done
cert good DNS:localhost,IP:127.0.0.1 9 our
cert name DNS:elsewhere.test 9 our
cert old DNS:localhost -1 our
cert ca2 DNS:localhost 9 other
cert me DNS:me 9 our
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
    -subj /CN=self -addext subjectAltName=DNS:localhost \
    -keyout "$T/self.key" -out "$T/self.crt" 2>"$T/cert" ||
    bail "no certificate: $(cat "$T/cert")"
cat "$T/self.crt" "$T/self.key" >"$T/self.pem"
openssl ec -aes128 -passout pass:secret -in "$T/me.key" -out "$T/locked.key" \
    2>"$T/cert" || bail "no key: $(cat "$T/cert")"

# $T/svc: a service that echoes a line, says N bytes (down N), or counts what
# comes up.
cat >"$T/svc" <<'END'
use strict;
use warnings;
use IO::Socket::INET;
$| = 1;
$SIG{CHLD} = 'IGNORE';
my $l = IO::Socket::INET->new(Listen => 99, LocalAddr => '127.0.0.1') or die;
print "listening on ", $l->sockport, "\n";
while (1) {
	my $c = $l->accept or next;
	next if fork;
	my $what = <$c> // '';
	print $c scalar <$c> if $what eq "echo\n";
	print $c 'x' x $1 if $what =~ /^down (\d+)/;
	my $n = 0;
	while ($what eq "up\n" && (my $r = read $c, my $b, 65536)) { $n += $r }
	print "got $n\n" if $what eq "up\n";
	exit 0;
}
END
start svc perl "$T/svc"

# $T/ask REQUEST LINES CMD...: says REQUEST to CMD, prints so many lines of
# the answer, or (0; slow: after a while) how long it is; then it closes, and
# exits as CMD does.
cat >"$T/ask" <<'END'
use strict;
use warnings;
$| = 1;
my ($say, $lines, @cmd) = @ARGV;
pipe my $in, my $to or die;
pipe my $from, my $out or die;
my $pid = fork // die;
if (!$pid) {
	open STDIN, '<&', $in or die;
	open STDOUT, '>&', $out or die;
	close $_ for $in, $out, $to, $from;
	exec @cmd or die;
}
close $_ for $in, $out;
$SIG{PIPE} = 'IGNORE';
syswrite $to, eval "qq{$say}" or die;
my ($n, $l) = 0;
if ($lines eq 'slow') { select undef, undef, undef, 0.7; $lines = 0 }
for (1 .. $lines) { print $l if defined($l = <$from>) }
while (!$lines && (my $r = read $from, my $b, 65536)) { $n += $r }
print "$n\n" unless $lines;
close $to;
waitpid $pid, 0;
exit $? >> 8;
END

# $T/box: whoever is on the way, and means no good: one port for each way to
# answer.
cat >"$T/box" <<'END'
use strict;
use warnings;
use IO::Socket::INET;
use IO::Select;
$| = 1;
$SIG{CHLD} = $SIG{PIPE} = 'IGNORE';
my $go = "HTTP/1.1 101 x\r\nUpgrade: mssh\r\n\r\n";
my %say = (silent => ['', 99], shut => ['', 0],
    alert => ["\x15\3\1\0\2\2\x46", 0], part => ["HTTP/1.1 20", 0],
    late => ["HTTP/1.1 200 OK\r\n", 99], more => ["HTTP/1.1 100 x\r\n\r\n"],
    long => ["HTTP/1.1 200 OK\r\nX: ", 0, 'a' x 65536],
    noise => ["\0\377\1HTTP/1.1 200 OK\r\n\r\n", 0],
    esc => ["HTTP/1.1 403 \e[2Jno\7\r\n\r\n", 0],
    both => ["HTTP/1.1 200 OK\r\n\r\n${go}OK\nhello\n", 99],
    sock => ["\5\0\5\0\0\1\0\0\0\0\0\0OK\nhello\n", 99],
    sock4 => ["\0\132\0\0\0\0\0\0", 99], sockpart => ["\5\0\5\0\0", 0],
    sockbad => ["\5\0\5\0\0\7\0\0\0\0\0\0", 99],
    sockno => ["\5\377", 99], sockpw => ["\5\2", 99],
    sockref => ["\5\0\5\5\0\1\0\0\0\0\0\0", 99],
    down => ["HTTP/1.1 502 Bad Gateway\r\n\r\n", 0],
    other => ["HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n", 99],
    page => ["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 0]);
my (%l, $s);
for (sort keys %say) {
	$s = IO::Socket::INET->new(Listen => 99, LocalAddr => '127.0.0.1');
	$l{$s} = $_;
	print "$_=", $s->sockport, "\n";
	$s = IO::Select->new($s) unless $l{select};
	$l{select} ? $l{select}->add($s) : ($l{select} = $s);
}
print "up\n";
while (1) {
	for ($l{select}->can_read) {
		my $c = $_->accept or next;
		next if fork;
		my ($first, $wait, $again) = @{$say{$l{$_}}};
		my $b = '';
		sysread $c, $b, 4096 if $l{$_} ne 'shut';
		print "got $_\n" for split /\r\n/, $b;
		syswrite $c, $first;
		$again //= $first unless defined $wait;
		while ($again) { syswrite $c, $again or exit }
		shutdown $c, 1 if !$wait;
		alarm 99;
		1 while sysread $c, $b, 4096;
		exit;
	}
}
END
start box perl "$T/box"

# The server, and what stands before it.
server --trusted 127.0.0.1
cat >"$T/haproxy.cfg" <<END
global
	log stderr local0
defaults
	timeout connect 5s
	timeout client 60s
	timeout server 60s
	timeout tunnel 60s
backend mssh
	server s 127.0.0.1:$PORT
frontend web
	mode http
	bind 127.0.0.1:$WEB ssl crt $T/good.pem alpn http/1.1
	default_backend web
backend web
	mode http
	option forwardfor
	server s 127.0.0.1:$PORT
END
front() {
	cat <<-END
	frontend f$1
		mode tcp
		bind 127.0.0.1:$1 ssl crt $T/$2
		default_backend mssh
	END
}
{
	front "$TLS" good.pem
	front "$NAME" name.pem
	front "$OLD" old.pem
	front "$SELF" self.pem
	front "$CA2" ca2.pem
	front "$MUTUAL" "good.pem ca-file $T/ours.crt verify required"
} >>"$T/haproxy.cfg"
openssl x509 -in "$T/our.ca" -out "$T/ours.crt"
start haproxy haproxy -db -f "$T/haproxy.cfg"

# Somebody else's proxies.
tiny() {
	port=$1
	name=$2
	shift 2
	for line in "Port $port" 'Listen 127.0.0.1' 'LogLevel Connect' \
	    'Timeout 60' 'MaxClients 200' "$@"; do
		echo "$line"
	done >"$T/$name.conf"
	start "$name" tinyproxy -d -c "$T/$name.conf"
}
tiny "$OPEN" tiny
tiny "$AUTH" tinyauth "BasicAuth me plain-pw" "ConnectPort $PORT" \
    "ConnectPort $TLS" "ConnectPort $WEB"
PW='p@s:w%d' CODED=p%40s%3Aw%25d	# what must be encoded
start socks microsocks -i 127.0.0.1 -p "$SOCKS"
start sauth microsocks -i 127.0.0.1 -p "$SAUTH" -u me -P "$PW"

wait_log svc 'listening on' || bail 'no service'
SVC=$(sed -n 's/listening on //p' "$T/svc.log")
wait_log box up || bail 'no box'
# box NAME: its port
box() {
	sed -n "s/^$1=//p" "$T/box.log"
}
sshd_start
# up PORT...: does something listen there?
up() {
	for port; do
		perl -MIO::Socket::INET -e 'exit !IO::Socket::INET->new(
		    "127.0.0.1:$ARGV[0]")' "$port" || return 1
	done
}
for port in "$TLS" "$OPEN" "$AUTH" "$SOCKS" "$SAUTH"; do
	wait_for 30 up "$port" || bail "nothing listens on port $port"
done
for who in haproxy tiny tinyauth socks sauth; do
	! gone "$(pid $who)" || bail "$who has ended: $(cat "$T/$who.log")"
done

# ---- each way, to each kind of server

mkdir "$T/tmp"
export TMPDIR="$T/tmp"
proxy() {
	"$MSSH" proxy "$@"
}
# ways: NAME, and what leads there
ways() {
	cat <<-END
	direct
	http --proxy http://127.0.0.1:$OPEN
	httppw --proxy http://me:plain%2dpw@127.0.0.1:$AUTH
	socks --proxy socks5h://127.0.0.1:$SOCKS
	sockspw --proxy socks5://me:$CODED@127.0.0.1:$SAUTH/
	ncat --connect $T/ncat
	ncatpx --connect $T/ncatpx
	jump --connect $T/jump
	END
}
# Commands of one word each, for the table's sake.
cat >"$T/cmds" <<END
ncat ncat %h %p
ncatpx ncat --proxy 127.0.0.1:$OPEN --proxy-type http %h %p
jump ssh -F none -i $T/key -o BatchMode=yes -o IdentitiesOnly=yes \
-o StrictHostKeyChecking=accept-new -o UserKnownHostsFile=$T/known.jump \
-p $SSHD_PORT -W %h:%p $USER@127.0.0.1
END
servers() {
	cat <<-END
	tcp 127.0.0.1:$PORT
	tls tls://localhost:$TLS
	web http://localhost:$PORT/any
	https https://127.0.0.1:$WEB/any
	END
}

# go ROLE NODE URL WAY...: sets the arguments of a role, and starts it.
agent_start() {
	node=$1
	shift
	start "agent-$node" "$MSSH" agent "$node" --ssh-port "$SVC" \
	    --cafile "$T/ours.crt" "$@"
}
# command FILE: the command it stands for
command_of() {
	sed -n "s/^${1##*/} //p" "$T/cmds"
}
# each FUNCTION: calls it with NODE --server URL and the way's options
each() {
	ways | while read -r way opt arg; do
		servers | while read -r kind url; do
			case $way-$kind in
			http-web | socks-web | ncatpx-web | jump-web | \
			    http-https | socks-https | ncatpx-https | \
			    jump-https)
				continue ;;	# others stand for them
			esac
			echo "$way $kind $url $opt $arg"
		done
	done >"$T/each"
	while read -r way kind url opt arg <&3; do
		[ "$opt" != --connect ] || arg=$(command_of "$arg")
		"$1" "$way-$kind" --server "$url" ${opt:+"$opt" "$arg"}
	done 3<"$T/each"
}
call_start() {
	node=$1
	shift
	start "call-$node" perl "$T/ask" "echo\\nhello $node\\n" 1 "$MSSH" \
	    proxy "$node" --cafile "$T/ours.crt" "$@"
}
judge() {
	ok "$1: parked" wait_log "agent-$1" 'parked at' 60
	log_has "agent-$1" 'confined by seccomp' >/dev/null ||
	    loose="$loose $1"
	wait_gone "call-$1" 60 >/dev/null
	is "$rc $(cat "$T/call-$1.log")" "0 hello $1" "$1: a session"
}
parked() {
	wait_log "agent-$1" 'parked at' 60 >/dev/null
}
# What takes seconds begins here.
cat >"$T/stubborn" <<'END'
trap '' HUP TERM
sleep 300 <&- >&- &
ncat "$1" "$2"
exec sleep 300 <&- >&-
END
STUBBORN="sh $T/stubborn %h %p"
slow() {
	start "agent-$1" env MARK="$1" "$MSSH" agent "$1" --ssh-port "$SVC" \
	    --cafile "$T/ours.crt" -v --server "$2" ${3:+--connect "$3"}
}
slow stopped "127.0.0.1:$PORT" "$STUBBORN"
slow killed "tls://localhost:$TLS" "$STUBBORN"
slow mute "tls://localhost:$(box silent)"
slow mutes "http://localhost:$(box late)"
slow frozen "tls://127.0.0.1:$TLS"
start muteweb "$MSSH" proxy x --server "https://localhost:$(box silent)"
start mutepx "$MSSH" proxy x --server a:1 \
    --proxy "http://127.0.0.1:$(box silent)"
start mutesocks "$MSSH" proxy x --server a:1 \
    --proxy "socks5://127.0.0.1:$(box silent)"
start more "$MSSH" proxy x --server a:1 --proxy "http://127.0.0.1:$(box more)"

# dialler_of NODE: the process that does what the agent must not
dialler_of() {
	ps -A -o ppid= -o pid= -o comm= |
	    awk -v p="$(pid "agent-$1")" '$1 == p && $3 == "mssh" { print $2 }'
}
# marked NAME: the processes that agent has begun, and it
marked() {
	grep -slF "HOME=$T/home" /proc/[0-9]*/environ |
	    xargs -r grep -slF "MARK=$1"
}
nobody_left() {
	[ -z "$(marked "$1")" ]
}
# zombies NAME: children of those that nobody waits for
zombies() {
	marked "$1" | sed 's/[^0-9]//g' >"$T/parents"
	ps -A -o ppid= -o stat= -o comm= | while read -r ppid stat comm; do
		case $stat in
		Z*) grep -qx "$ppid" "$T/parents" && echo "$comm" ;;
		esac
	done
}

# Who has just ended is one until its parent looks.
no_zombies() {
	[ -z "$(zombies "$1")" ]
}

ok 'frozen: parked' wait_log agent-frozen 'parked at'
mark agent-frozen
kill -STOP "$(dialler_of frozen)"
kill -HUP "$(pid agent-frozen)"

for who in stopped killed; do
	ok "$who: parked" wait_log agent-$who 'parked at'
done
start call env MARK=proxy perl "$T/ask" 'echo\nhi\n' 1 "$MSSH" proxy \
    stopped --server "127.0.0.1:$PORT" --connect "$STUBBORN"
ok 'a session through a command that does not end' wait_log call hi
kill -9 "$(pid agent-killed)"
kill "$(pid agent-stopped)"

loose=''
export MARK=ways
each agent_start
unset MARK
each parked
each call_start
each judge
is "$loose" '' 'each agent is confined'
ok 'nobody has left a zombie' wait_for 30 no_zombies ways ||
    note "$(zombies ways)"
odd=0
each_end() {
	odd=$((1 - odd))
	if [ "$odd" = 1 ]; then
		kill "$(pid "agent-$1")"
	else
		kill -9 "$(pid "agent-$1")"
	fi
}
each each_end
ok 'all agents stopped or killed: nothing of them stays' wait_for 60 \
    nobody_left ways

# ---- commands that do not end by themselves

ok 'SIGTERM: it has gone with the agent' wait_for 60 nobody_left stopped
ok 'SIGKILL: so it has' wait_for 60 nobody_left killed
ok 'SIGTERM: the agent ends' wait_gone agent-stopped
is "$rc" 0 'with 0'
ok 'proxy: it ends' wait_gone call 60
is "$rc" 0 'with 0'
ok 'proxy: its command has gone with it' wait_for 60 nobody_left proxy

# ---- what is said when there is no way

# fails CODE TEXT NAME options...: a client that gets nowhere
fails() {
	code=$1 text=$2 name=$3
	shift 3
	has --server "$@" || set -- --server "127.0.0.1:$PORT" "$@"
	greet nobody "$@" >"$T/out" 2>"$T/err"
	rc=$?
	case $(cat "$T/err") in
	*"$text"*) is $rc "$code" "$name" ;;
	*) is "$rc $(cat "$T/err" "$T/out")" "$code ...$text" "$name" ;;
	esac
}
tls=tls://localhost
px=127.0.0.1
fails 3 "the proxy $px:$OPEN says: HTTP/1.1 500" 'CONNECT: refused' \
    --server "$px:$NOBODY" --proxy "http://$px:$OPEN"
fails 3 "the proxy $px:$AUTH says: HTTP/1.1 403" 'CONNECT: port not allowed' \
    --server "$px:1" --proxy "http://me:plain-pw@$px:$AUTH"
fails 3 "the proxy $px:$AUTH says: HTTP/1.0 407" 'CONNECT: no password' \
    --proxy "http://$px:$AUTH"
fails 3 "the proxy $px:$AUTH says: HTTP/1.0 401" 'CONNECT: wrong password' \
    --proxy "http://me:other@$px:$AUTH"
fails 3 "the proxy $px:$NOBODY: Connection refused" 'no proxy there' \
    --proxy "http://$px:$NOBODY"
fails 3 'asks for a user and a password' 'SOCKS: no password' \
    --proxy "socks5h://$px:$SAUTH"
fails 3 'the user or the password is wrong' 'SOCKS: wrong password' \
    --proxy "socks5h://me:x@$px:$SAUTH"
fails 3 'says: the connection was refused' 'SOCKS: refused' \
    --server "$px:$NOBODY" --proxy "socks5h://$px:$SOCKS"
fails 3 'says: the connection was refused' 'SOCKS: with a name' \
    --server "a:1" --proxy "socks5h://$px:$(box sockref)"
fails 9 'does not speak SOCKS 5' 'SOCKS: HTTP answers' \
    --proxy "socks5h://$px:$(box page)"
fails 9 'does not speak SOCKS 5' 'SOCKS: version 4' \
    --proxy "socks5h://$px:$(box sock4)"
fails 9 'does not speak SOCKS 5' 'SOCKS: no kind of address' \
    --proxy "socks5h://$px:$(box sockbad)"
fails 3 'asks for a user and a password' 'SOCKS: no way to prove' \
    --proxy "socks5h://$px:$(box sockno)"
fails 3 'asks for another proof than a password' 'SOCKS: other ways' \
    --proxy "socks5h://a:b@$px:$(box sockno)"
fails 3 'asks for a user and a password' 'SOCKS: a password, unasked' \
    --proxy "socks5h://$px:$(box sockpw)"
fails 3 "the proxy $px:$(box sockpart) closed" 'SOCKS: half an answer' \
    --proxy "socks5h://$px:$(box sockpart)"
# It may be gone before we have said a word.
fails 3 "the proxy $px:$(box shut)" 'SOCKS: none' \
    --proxy "socks5h://$px:$(box shut)"
fails 3 "the proxy $px:$(box shut)" 'CONNECT: no answer' \
    --proxy "http://$px:$(box shut)"
fails 3 "the proxy $px:$(box part) closed" 'CONNECT: half an answer' \
    --proxy "http://$px:$(box part)"
fails 9 'does not speak HTTP' 'CONNECT: an answer without end' \
    --proxy "http://$px:$(box long)"
fails 9 'does not speak HTTP' 'CONNECT: noise' \
    --proxy "http://$px:$(box noise)"
fails 3 'says: HTTP/1.1 403 \x1b[2Jno\x07' 'CONNECT: no escapes' \
    --proxy "http://$px:$(box esc)"
fails 9 "http://$px:$(box page)/x is not an mssh server: HTTP/1.1 200" \
    'HTTP: a page' \
    --server "http://$px:$(box page)/x"
fails 3 "the reverse proxy at http://$px:$(box down)/x says: HTTP/1.1 502 Bad" \
    'HTTP: 502' \
    --server "http://$px:$(box down)/x"
fails 9 "http://$px:$(box other)/x is not an mssh server: HTTP/1.1 101" \
    'HTTP: another 101' \
    --server "http://$px:$(box other)/x"
fails 9 'the server closed the connection' 'HTTP: half an answer' \
    --server "http://$px:$(box part)"
fails 3 'the command of --connect ended' '--connect: no such command' \
    --connect "$T/nowhere %h %p"
fails 3 'the command of --connect ended' '--connect: ends at once' \
    --connect true
fails 3 'the command of --connect ended' '--connect: ends under TLS' \
    --connect true --server "$tls:$TLS"
fails 2 'knows %h, %p and %% only' '--connect: another letter' \
    --connect 'nc %x'
fails 2 'cannot reach a Unix socket' '--connect: a Unix socket' \
    --server unix:/x --connect 'nc %h %p'
fails 10 'is not good: hostname mismatch' 'TLS: wrong name' \
    --server "$tls:$NAME" --cafile "$T/ours.crt"
fails 10 'is not good: IP address mismatch' 'TLS: wrong address' \
    --server "tls://$px:$NAME" --cafile "$T/ours.crt"
fails 10 "certificate of localhost:$OLD is not good: certificate has expired" \
    'TLS: expired' --server "$tls:$OLD" --cafile "$T/ours.crt"
fails 10 'is not good: self-signed certificate' 'TLS: self-signed' \
    --server "$tls:$SELF" --cafile "$T/ours.crt"
fails 10 'is not good: unable to get local issuer' 'TLS: another CA' \
    --server "$tls:$CA2" --cafile "$T/ours.crt"
fails 10 'is not good: unable to get local issuer' "TLS: the system's CAs" \
    --server "$tls:$TLS"
fails 10 'is not good: hostname mismatch' 'TLS: through a proxy' \
    --server "$tls:$NAME" --cafile "$T/ours.crt" --proxy "http://$px:$OPEN"
fails 9 "$px:$(box alert) speaks TLS: use tls:// or https://" \
    'plain: a TLS server' --server "$px:$(box alert)"
fails 10 "no TLS with localhost:$PORT: tlsv1 alert protocol" 'TLS: a plain server' \
    --server "$tls:$PORT"
fails 10 "no TLS with localhost:$(box page): wrong version number" 'TLS: none there' \
    --server "$tls:$(box page)"
fails 10 "no TLS with localhost:$(box shut): unexpected eof" 'TLS: closed at once' \
    --server "$tls:$(box shut)" --cafile "$T/ours.crt"
fails 10 'certificate required' 'TLS: our certificate is wanted' \
    --server "$tls:$MUTUAL" --cafile "$T/ours.crt"
# "bad decrypt", but for one salt in 256 or so the padding is right by chance
fails 10 "no TLS with localhost:$MUTUAL: " 'TLS: a key with a passphrase' \
    --server "$tls:$MUTUAL" --cafile "$T/ours.crt" --cert "$T/me.crt" \
    --certkey "$T/locked.key"
fails 2 "$T/no.crt: No such file" 'TLS: no --cafile' \
    --server "$tls:$TLS" --cafile "$T/no.crt"
fails 2 "$T/no.crt: No such file" 'TLS: no --cert' \
    --server "$tls:$TLS" --cert "$T/no.crt"
fails 2 '--certkey needs --cert' 'TLS: a key without a certificate' \
    --server "$tls:$TLS" --certkey "$T/me.key"
TMPDIR=$T/nowhere
fails 1 'no socket in $TMPDIR or /tmp: No such file' 'TLS: no TMPDIR' \
    --server "$tls:$TLS" --cafile "$T/ours.crt"
TMPDIR=$T/tmp
mkdir "$T/bin"
ln -s "$(command -v sh)" "$(command -v cat)" "$T/bin"
all=$PATH PATH=$T/bin
fails 10 'cannot run openssl: No such file or directory (OpenSSL makes TLS' \
    'TLS: no openssl' --server "$tls:$TLS"
PATH=$all

# What answers at once, and goes on in the same breath, is not lost.
fails 0 '' 'CONNECT, Upgrade: bytes behind the answer' --server http://a/ \
    --proxy "http://$px:$(box both)"
is "$(cat "$T/out")" hello 'belong to the next layer'
clock
since=$clock_
fails 0 '' 'SOCKS: bytes behind the answer' --server a:1 \
    --proxy "socks5://$px:$(box sock)"
clock
# or else it is the bound of 10 s that ends it, with an error
is "$(cat "$T/out") $((clock_ - since < 60))" 'hello 1' \
    'belong to the next layer, and are taken at once'

# ---- the end of a session

# down N CMD..., up CMD...: how much arrives
fds() {
	find "/proc/$(pid "agent-$1")/fd" -type l | wc -l
}
crew() {
	marked "$1" | wc -l
}
settled() {
	[ "$(fds "$1") $(crew "$1")" = "$2" ]
}
# sessions N NODE URL WAY...: 2 N of them and what they leave; 5 MB each way
sessions() {
	count=$1 node=$2 n=0
	shift 2
	export MARK="$node"
	agent_start "$node" --server "$@"
	unset MARK
	set -- "$node" --cafile "$T/ours.crt" --server "$@"
	wait_log "agent-$node" 'parked at'
	before="$(fds "$node") $(crew "$node")"
	while [ $n -lt "$count" ]; do
		n=$((n + 1))
		start one perl "$T/ask" 'echo\none\n' 1 "$MSSH" proxy "$@"
		start two perl "$T/ask" 'echo\ntwo\n' 1 "$MSSH" proxy \
		    "$@" --wait 5
		wait_gone one && wait_gone two
		cat "$T/one.log" "$T/two.log"
	done >"$T/sessions"
	is "$(sort "$T/sessions" | uniq -c | tr -s ' \n' ' ')" \
	    " $n one $n two " "$node: $((2 * n)) sessions"
	ok "$node: no descriptor and no process stays" wait_for 30 \
	    settled "$node" "$before"
	is "$(perl "$T/ask" 'down 5000000\n' 0 "$MSSH" proxy "$@")" \
	    5000000 "$node: 5 MB down, and the end: all arrives"
	is "$(perl "$T/ask" 'down 150000\n' slow "$MSSH" proxy "$@" 2>&1)" \
	    150000 "$node: so it does when it is read late"
	mark svc
	{ echo up; head -c 5000000 /dev/zero; } | "$MSSH" proxy "$@"
	ok "$node: 5 MB up, and the end: all arrives" wait_log svc \
	    'got 5000000'
}
sessions 3 plain "$px:$PORT" --connect 'socat - TCP:%h:%p'
sessions 10 calm "tls://localhost:$TLS"
sessions 5 deep "https://localhost:$WEB/" --connect 'ncat %h %p'
sessions 3 mutual "tls://localhost:$MUTUAL" --cert "$T/me.crt" \
    --certkey "$T/me.key" --proxy "http://$px:$OPEN"
# an agent that is about to park again has a socket there for a moment
empty() {
	[ -z "$(ls "$1")" ]
}
ok 'nothing stays in $TMPDIR' wait_for 30 empty "$T/tmp" ||
    note "$(ls "$T/tmp")"

# ---- the dialler

plain="$(fds plain) $(crew plain)"
mark agent-plain
prlimit --pid "$(dialler_of plain)" --nofile=4:
kill -HUP "$(pid agent-plain)"	# a child waits for this one already
wait_log agent-plain 'parked at'
mark agent-plain
kill -HUP "$(pid agent-plain)"
ok 'the dialler has no descriptors: said' wait_log agent-plain \
    'no process for it: Too many open files'
prlimit --pid "$(dialler_of plain)" --nofile=64:
kill -HUP "$(pid agent-plain)"
ok 'it has some: parked' wait_log agent-plain 'parked at'
mark agent-plain
prlimit --pid "$(pid agent-plain)" --nofile=8:
kill -HUP "$(pid agent-plain)"
ok 'the agent has none: said' wait_log agent-plain \
    'cannot open a connection: Too many open files'
prlimit --pid "$(pid agent-plain)" --nofile=64:
kill -HUP "$(pid agent-plain)"
ok 'it has some: parked' wait_log agent-plain 'parked at'
ok 'and no command more than before' wait_for 30 settled plain "$plain"
as_nobody() {
	setpriv --reuid=nobody --regid="$(id -gn nobody)" --clear-groups "$@"
}
if [ "$(id -u)" = 0 ]; then
	start agent-poor "$MSSH" agent poor --server "$px:$PORT" \
	    --user nobody --connect 'socat - TCP:%h:%p'
	wait_log agent-poor 'parked at'
	mark agent-poor
	as_nobody prlimit --pid "$(dialler_of poor)" --nproc=1:
	kill -HUP "$(pid agent-poor)"	# a child waits for this one already
	wait_log agent-poor 'parked at'
	mark agent-poor
	kill -HUP "$(pid agent-poor)"
	ok 'no processes left: said' wait_log agent-poor \
	    'no process for it: Resource temporarily unavailable'
	as_nobody prlimit --pid "$(dialler_of poor)" --nproc=999:
	kill -HUP "$(pid agent-poor)"
	ok 'there are some: parked' wait_log agent-poor 'parked at'
fi
kill -9 "$(dialler_of calm)"
ok 'no dialler: no agent' wait_gone agent-calm
is "$rc $(log_count agent-calm 'the dialler has ended')" '1 1' \
    'that is said'
ok 'and nothing else stays of it' wait_for 30 nobody_left calm

# ---- who is confined

for w in open connect unix fork exec map; do
	("$MSSH" agent web --self-test $w --server "$tls:$TLS" >"$T/out" 2>&1)
	is $? 159 "with TLS: $w is forbidden"
	("$MSSH" agent web --self-test $w --server "$px" --connect true \
	    >"$T/out" 2>&1)
	is $? 159 "with --connect: $w is forbidden"
done 2>/dev/null

# ---- passwords

sshd_port=$SSHD_PORT
SRV=https://$px:$WEB/any
start agent-demo "$MSSH" agent demo -v --server "$SRV" --cafile "$T/ours.crt" \
    --ssh-port "$sshd_port" --proxy "http://me:plain%2dpw@$px:$AUTH"
ok 'demo: parked' wait_log agent-demo 'parked at'
msh demo -v --cafile "$T/ours.crt" \
    --proxy="http://me:plain%2dpw@$px:$AUTH" 'ps -A -ww -o args=' \
    >"$T/ps" 2>"$T/ssh.log"
ok 'who is at work while there is a session: us' \
    [ "$(grep -c "xxx@$px:$AUTH" "$T/ps")" -ge 2 ]
ok 'and openssl' [ "$(grep -c "s_client.*$T/tmp" "$T/ps")" -ge 3 ]
# The list has all other tests' processes, too.
is "$(grep -c -e plain%2dpw -e plain-pw "$T/ps")" 0 \
    'no password in the list of processes'
secret=$(printf me:plain-pw | openssl base64)
is "$(grep -l -e plain%2dpw -e plain-pw -e "$secret" "$T"/agent-demo.log \
    "$T/ssh.log" "$T/server.log")" '' 'nor in a log'
MSSH_CONFIG=$T/conf
export MSSH_CONFIG
echo "proxy http://me:plain%2dpw@$px:$AUTH" >"$MSSH_CONFIG"
chmod 604 "$MSSH_CONFIG"
fails 2 'others can read the password of the proxy: chmod o-r' \
    'a file that others can read'
chmod 600 "$MSSH_CONFIG"
fails 4 'nobody is unknown here' 'a file that they cannot read'
for mode in 620 602; do
	chmod $mode "$MSSH_CONFIG"
	fails 2 "others can change $MSSH_CONFIG: chmod go-w $MSSH_CONFIG" \
	    "a file of mode $mode"
done
chmod 600 "$MSSH_CONFIG"
if [ "$(id -u)" = 0 ]; then
	chown nobody "$MSSH_CONFIG"
	fails 2 "$MSSH_CONFIG belongs to another user" "another user's file"
	chown root "$MSSH_CONFIG"
fi
unset MSSH_CONFIG
fails 2 '--proxy: the user or password of the proxy is too long, or badly' \
    'a % that is none' --proxy "http://me:100%@$px:1"
fails 2 '--proxy: a proxy is http://, https://, ' 'another kind of proxy' \
    --proxy "ftp://$px:1"
fails 2 "--proxy: the proxy's host or port is missing or bad" 'no host' \
    --proxy 'http://me:pw@'
fails 2 '--proxy: a proxy is http://, https://, ' 'the user in front' \
    --proxy "me:pw@http://$px:1"
mark box
greet x --server a.test:1 2>/dev/null \
    --proxy "http://m%20e:p%40s%3Aw%25d@$px:$(box page)"
ok 'CONNECT: host and port' wait_log box 'got CONNECT a.test:1 HTTP/1.1'
ok 'CONNECT: decoded, and encoded again' wait_log box \
    "got Proxy-Authorization: Basic $(printf 'm e:p@s:w%%d' |
    openssl base64)"

# ---- user@node: who can hand a descriptor over

# dialler options...: what ssh says it runs, and what came
dialler() {
	msh demo -v --cafile "$T/ours.crt" "$@" echo hi >"$T/out" 2>"$T/err"
	echo "$(cat "$T/out")," $(sed -n \
	    's/.*Executing proxy \(.*\)command: exec.*/\1/p' "$T/err")
}
is "$(dialler)" 'hi, dialer' 'TLS: a descriptor'
SRV=$px:$PORT
is "$(dialler --connect 'ncat %h %p')" 'hi, dialer' '--connect: one, too'
is "$(dialler)" 'hi, dialer' 'plain TCP: one, too'
is "$(dialler --proxy "http://$px:$OPEN")" 'hi, dialer' 'CONNECT: one, too'
is "$(dialler --proxy "socks5://me:$CODED@$px:$SAUTH")" 'hi, dialer' \
    'SOCKS: one, too'
SRV=http://localhost:$PORT/x
is "$(dialler)" 'hi, dialer' 'HTTP: one, too'

# What the command line says counts in the proxy that ssh runs, too.
SRV=$px:$PORT
MSSH_CONFIG=$T/conf
export MSSH_CONFIG
echo 'connect false' >"$MSSH_CONFIG"
is "$(dialler)" ', dialer' 'a connect of the configuration'
is "$(dialler --connect none)" 'hi, dialer' 'stronger: --connect none'
is "$(dialler --proxy none)" 'hi, dialer' '--proxy none'
is "$(dialler --proxy "http://$px:$OPEN")" 'hi, dialer' '--proxy URL'
is "$(dialler --connect 'ncat %h %p')" 'hi, dialer' '--connect CMD'
is "$(MSSH_CONNECT=none dialler)" 'hi, dialer' 'MSSH_CONNECT=none'
is "$(MSSH_CONNECT=false dialler --connect none)" 'hi, dialer' \
    'and --connect none than MSSH_CONNECT'
echo "proxy http://$px:$NOBODY" >"$MSSH_CONFIG"
is "$(dialler)" ', dialer' 'a proxy of the configuration'
is "$(dialler --proxy none)" 'hi, dialer' 'stronger: --proxy none'
is "$(dialler --connect 'ncat %h %p')" 'hi, dialer' '--connect CMD'
is "$(export MSSH_PROXY="http://$px:$NOBODY"; dialler --proxy none)" \
    'hi, dialer' 'and --proxy none than MSSH_PROXY'
unset MSSH_CONFIG

# ---- the environment, as curl reads it

# Proxies are 127.0.0.2 and so on, where nobody listens: who is tried?
p() {
	echo "http://127.0.0.$1:$NOBODY"
}
# tried VAR=VALUE... URL [options]
tried() {
	env "$@" <"$T/greeting" 2>&1 |
	    sed -n -e 's/.*the proxy 127\.0\.0\.\([0-9]*\):.*/\1/p' \
	    -e 's/.*Trying 127\.0\.0\.\([2-9]\):.*/\1/p' | sed q
}
# row WANT SCHEME VAR=N...: and what curl says, who knows both schemes
row() {
	want=$1 scheme=$2
	shift 2
	name="$scheme, $*: ${want#-}"
	for v; do
		shift
		n=${v#*=}
		set -- "$@" "${v%%=*}=${n:+$(p "$n")}"
	done
	[ "$want" != - ] || want=''
	is "$(tried "$@" "$MSSH" proxy x --server "$scheme$px:$NOBODY")" \
	    "$want" "$name"
	case $scheme in
	http*)
		is "$(tried "$@" curl -sv "$scheme$px:$NOBODY")" "$want" \
		    "curl: $name" ;;
	esac
}
row 2 https:// https_proxy=2 HTTPS_PROXY=3 all_proxy=4 ALL_PROXY=5
row 3 https:// HTTPS_PROXY=3 all_proxy=4 ALL_PROXY=5
row 3 https:// https_proxy= HTTPS_PROXY=3
row 4 https:// all_proxy=4 ALL_PROXY=5 http_proxy=6
row 5 https:// ALL_PROXY=5 http_proxy=6
row - https:// http_proxy=6 HTTP_PROXY=7
row 6 http:// http_proxy=6 all_proxy=4
row 4 http:// HTTP_PROXY=7 all_proxy=4
row - http:// HTTP_PROXY=7 https_proxy=2
row 2 tls:// https_proxy=2 all_proxy=4
row 4 tls:// http_proxy=6 all_proxy=4 ALL_PROXY=5
row 4 '' https_proxy=2 http_proxy=6 all_proxy=4
row - '' https_proxy=2 http_proxy=6 HTTPS_PROXY=3
row 8 tls:// MSSH_PROXY=8 https_proxy=2 all_proxy=4
row 8 '' MSSH_PROXY=8 https_proxy=2 all_proxy=4
echo "proxy $(p 9)" >"$T/conf"
is "$(tried "MSSH_CONFIG=$T/conf" "https_proxy=$(p 2)" "$MSSH" proxy x \
    --server "https://$px:$NOBODY")" 9 'the file is stronger than those'
is "$(tried "MSSH_CONFIG=$T/conf" "MSSH_PROXY=$(p 8)" "$MSSH" proxy x \
    --server "https://$px:$NOBODY")" 8 'MSSH_PROXY is stronger than it'
is "$(tried "MSSH_CONFIG=$T/conf" "MSSH_PROXY=$(p 8)" "$MSSH" proxy x \
    --proxy "$(p 3)" --server "https://$px:$NOBODY")" 3 'and --proxy than all'
is "$(tried "MSSH_CONFIG=$T/conf" "MSSH_PROXY=$(p 8)" "all_proxy=$(p 4)" \
    "$MSSH" proxy x --proxy none --server "$px:$NOBODY")" '' '--proxy none'
is "$(tried "MSSH_PROXY=none" "all_proxy=$(p 4)" "$MSSH" proxy x \
    --server "$px:$NOBODY")" '' 'MSSH_PROXY=none'
is "$(tried "no_proxy=*" "MSSH_PROXY=$(p 8)" "$MSSH" proxy x \
    --server "$px:$NOBODY")" 8 'no_proxy is for those of the environment'

# unusable VAR=VALUE...: the exit code, and who is blamed for what
unusable() {
	env "$@" "$T/greet" x --server "$px:$NOBODY" >"$T/out" 2>&1
	echo "$?" $(sed -n 's/^mssh: \([A-Za-z_]*: [a-z]* [a-z]*\).*/\1/p' \
	    "$T/out")
}
is "$(tried "ALL_PROXY=socks://127.0.0.4:$NOBODY/" "$MSSH" proxy x \
    --server "$px:$NOBODY")" 4 'ALL_PROXY as GNOME sets it'
is "$(unusable all_proxy=ftp://127.0.0.4:1)" '3 all_proxy: a proxy' \
    'another kind of proxy in the environment: told, and not used'
ok 'not used: the server itself is dialled' grep -q \
    "cannot reach the server $px:$NOBODY: " "$T/out"
is "$(unusable ALL_PROXY=http://me:100%@127.0.0.4:1)" '3 ALL_PROXY: the user' \
    'a bad password there: told, with the name'
is "$(unusable all_proxy=ftp://127.0.0.4:1 no_proxy=127.0.0.0/8)" 3 \
    'no_proxy: it does not matter'
is "$(unusable MSSH_PROXY=ftp://127.0.0.4:1)" '2 MSSH_PROXY: a proxy' \
    'MSSH_PROXY is for us: an error'
start agent-env env all_proxy=ftp://127.0.0.4:1 "$MSSH" agent env \
    --server "$px:$PORT"
ok 'agent: told, and parked' wait_log agent-env 'env parked at'
ok 'agent: told' log_has agent-env 'mssh: all_proxy: a proxy is '
for w in https://bob:secret@host/x bob:secret@host tls://bob:sec/ret@host; do
	fails 2 "the server '" "a password in --server $w" --server "$w"
	is "$(grep -c -e secret -e ret@ "$T/err")" 0 'is not printed'
done
fails 2 'one word too many' 'a URL in a wrong place' https://bob:secret@host
is "$(grep -c secret "$T/err")" 0 'its password is not printed'

cat >"$T/no" <<'END'
example.test|example.test
example.test|www.example.test
example.test|badexample.test
example.test|example.test.org
.example.test|example.test
.example.test|www.example.test
.example.test|badexample.test
www.example.test|example.test
EXAMPLE.test|www.example.TEST
*|example.test
*|127.9.9.9
a.test,*|example.test
a.test,example.test|example.test
a.test, example.test|example.test
,,example.test,|example.test
example.test:9|example.test
|example.test
127.9.9.9|127.9.9.9
127.0.0.0/8|127.9.9.9
127.9.9.0/24|127.9.9.9
127.9.9.200/24|127.9.9.9
127.9.9.8/32|127.9.9.9
127.8.0.0/16,127.9.0.0/16|127.9.9.9
127.0.0.0/33|127.9.9.9
9.9.9|127.9.9.9
.9.9|127.9.9.9
localhost|127.9.9.9
::1|[::1]
fe80::/10|[::1]
127.9.9.9|[::1]
END
n=0
while IFS='|' read -r no host; do
	n=$((n + 1))
	start "no$n" env "no_proxy=$no" "http_proxy=$(p 2)" "$MSSH" proxy x \
	    --server "http://$host:9/"
done <"$T/no"
n=0
while IFS='|' read -r no host <&3; do
	n=$((n + 1))
	wait_gone "no$n" 60 >/dev/null
	is "$(log_has "no$n" 'the proxy' | sed 's/.*the \(proxy\).*/\1/')" \
	    "$(env "no_proxy=$no" "http_proxy=$(p 2)" curl -gsv -m 60 \
	    --resolve "*:9:127.0.0.1" "http://$host:9/" 2>&1 |
	    sed -n 's/.*Trying 127\.0\.0\.2:.*/proxy/p')" \
	    "no_proxy \"$no\", $host: as curl does"
done 3<"$T/no"
row - http:// no_proxy= NO_PROXY= all_proxy=
is "$(tried no_proxy= "NO_PROXY=$px" "all_proxy=$(p 2)" "$MSSH" proxy x \
    --server "http://$px:$NOBODY")$(tried no_proxy= "NO_PROXY=$px" \
    "all_proxy=$(p 2)" curl -sv "http://$px:$NOBODY")" '' \
    'an empty no_proxy leaves it to NO_PROXY'
is "$(tried no_proxy=a "NO_PROXY=$px" "all_proxy=$(p 2)" "$MSSH" proxy x \
    --server "http://$px:$NOBODY")$(tried no_proxy=a "NO_PROXY=$px" \
    "all_proxy=$(p 2)" curl -sv "http://$px:$NOBODY")" 22 \
    'another one does not'

# ---- who said nothing

for who in muteweb mutepx mutesocks more; do
	ok "$who: ends" wait_gone $who 60
	is "$rc $(grep -c 'does not answer' "$T/$who.log")" '3 1' \
	    "$who: and says why"
done
ok 'HTTP: a server that keeps silent' wait_log agent-mutes \
    'register mutes at http://localhost' 60
ok 'TLS: a server that keeps silent' wait_log agent-mute \
    'register mute at tls://localhost' 60
for who in mute mutes; do
	is "$(log_has agent-$who 'cannot register' |
	    sed 's/.*: \(.*\);.*/\1/' | sort -u)" "$(
	    [ $who = mute ] && echo 'it does not answer' ||
	    echo "the web server http://localhost:$(box late)/ does not answer"
	    )" "$who: that is said"
done
ok 'the dialler hangs: said' wait_log agent-frozen \
    'the dialler does not answer' 60
mark agent-frozen
kill -CONT "$(dialler_of frozen)"
ok 'it goes on: parked' wait_log agent-frozen 'parked at'
crewed() {
	[ "$(crew "$1")" -le "$2" ]
}
ok 'nothing stays of what came too late' wait_for 60 crewed frozen 5 ||
    note "$(ps -ww -o pid,ppid,stat,args $(marked frozen |
    sed 's/[^0-9]//g'))"
ok 'no zombies' wait_for 30 no_zombies frozen
ok 'nor of mute' wait_for 30 no_zombies mute
finish
