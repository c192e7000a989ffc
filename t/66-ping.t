#!/bin/sh
# 66-ping.t - mssh ping: three hops and who is blamed when one fails; sshd is
# touched once, a parked connection not at all; and with it: a client is paired
# at its first byte.
# shellcheck disable=SC1091,SC2016,SC2034,SC2154	# lib.sh; perl and sh -c
t/need ssh sshd perl json_pp ps openssl socat microsocks || exit 1
. t/lib.sh

umask 077
ms='[0-9]+\.[0-9]{3} ms'

ping() {
	"$MSSH" ping --server "$SRV" "$@" 2>"$T/err"
}

# pings REGEX NAME ping's words...: it succeeds, and says that.
pings() {
	want=$1 what=$2
	shift 2
	ping "$@" >"$T/out"
	rc=$?
	ok "$what" eval '[ $rc = 0 ] && grep -Eqx "$want" "$T/out"' ||
	    note "$rc $(cat "$T/out" "$T/err")"
}

# fails STATUS ERROR NAME ping's words...
fails() {
	want="$1 mssh: $2" what=$3
	shift 3
	ping "$@" >"$T/out"
	is "$? $(cat "$T/err")" "$want" "$what"
}

# in_back NAME ping's words...: one that takes long; ended tells how it ended.
in_back() {
	name_=$1
	shift
	start "$name_" "$MSSH" ping --server "$SRV" "$@"
}

ended() {
	wait_gone "$1" 60 >/dev/null
	is "$rc $(cat "$T/$1.log")" "$2" "$3"
}

# parked NAME HELLO STEP...: a raw agent, which stays.
parked() {
	name_=$1 hello_=$2
	shift 2
	as "$name_" "send=$hello_\\n" line=OK tell=parked "$@" gone
	wait_log "$name_" parked
}
v2='run=1 v=0.2'

# banner TEXT: what is in sshd's place says that.
banner() {
	printf '%s\n' "$1" >"$T/banner"
}

# $T/fake: in sshd's place; says what is in $T/banner, with perl's escapes.
cat >"$T/fake" <<'END'
use IO::Socket::INET;
my $l = IO::Socket::INET->new(Listen => 9, LocalAddr => '127.0.0.1') or die;
$| = 1;
$SIG{PIPE} = 'IGNORE';
print 'listening on ', $l->sockport, "\n";
while (my $s = $l->accept) {
	open my $f, '<', $ARGV[0] or die;
	chomp(my $text = do { local $/; <$f> });
	syswrite $s, eval "qq{$text}";
}
END

# ---- those that take ten seconds begin now

sshd_start
banner 'SSH-2.0-fake\r\n'
start fake perl "$T/fake" "$T/banner"
wait_log fake 'listening on' || bail 'no fake'
FAKE=$(sed -n 's/listening on //p' "$T/fake.log")
server --verbose --listen "unix:$T/sock"
start hang perl -MIO::Socket::INET -e '$| = 1;
    my $l = IO::Socket::INET->new(Listen => 9, LocalAddr => "127.0.0.1") or die;
    print "listening on ", $l->sockport, "\n"; sleep 1000'
wait_log hang 'listening on' || bail 'nothing hangs'
HANG=$(sed -n 's/listening on //p' "$T/hang.log")
agent fake --ssh-port "$FAKE"
agent hang --ssh-port "$HANG"
agent web --spare 2

parked mute "MSSH/2 agent mute $v2"
parked half "MSSH/2 agent half $v2" line=PING 'send=PONG\n'
in_back mute-ping mute
in_back half-ping half
in_back hang-ping hang
as silent 'send=MSSH/2 client web\n' line=OK eof
mkfifo "$T/mutes"
start mutes sh -c 'exec "$MSSH" proxy web --server "$SRV" <"$T/mutes"'
exec 8>"$T/mutes"

# $T/rogue: a server that says OK, and then what is asked for, per line.
cat >"$T/rogue" <<'END'
use IO::Socket::INET;
my $l = IO::Socket::INET->new(Listen => 9, LocalAddr => '127.0.0.1') or die;
$| = 1;
print 'listening on ', $l->sockport, "\n";
my $s = $l->accept;
for (@ARGV) {
	my $hello = <$s>;
	syswrite $s, eval "qq{$_}";
}
print "said\n";
1 while <$s>;
END

# rogue NAME ANSWER...: a ping of such a server, in the background.
rogue() {
	n=$1
	shift
	start "$n-server" perl "$T/rogue" "$@"
	wait_log "$n-server" 'listening on'
	was=$SRV
	SRV=127.0.0.1:$(sed -n 's/listening on //p' "$T/$n-server.log")
	in_back "$n" web
	eval "${n}_at=\$SRV"
	SRV=$was
}
rogue dumb 'OK\n'
rogue deaf 'OK\n' 'PONG\n'

# ---- a session takes the pinged connection just then

# PONG that crosses GO still counts.
for spare in 1 2; do
	agent "go$spare" --spare $spare
	mark server
	mark sshd
	# The client is there already: a ping that is under way has 3 s.
	mkfifo "$T/go$spare.in"
	start "go$spare-ssh" sh -c 'exec "$MSSH" proxy "$0" --server "$SRV" \
	    <"$T/$0.in"' "go$spare"
	eval "exec $((5 + spare))<>'$T/go$spare.in'"
	wait_log server 'hello -> await client'
	kill -STOP "$(pid "agent-go$spare")"
	in_back "go$spare-ping" "go$spare"
	ok "a ping is under way, $spare parked" \
	    wait_log server 'parked -> probed'
	echo SSH-2.0-x >"$T/go$spare.in"
	ok 'a session takes its connection' \
	    wait_log server 'probed -> go sent'
	kill -CONT "$(pid "agent-go$spare")"
	ok 'it begins' wait_log "go$spare-ssh" SSH-2.0-OpenSSH
done

# ---- a node with a real sshd

# touched: how many connections sshd has had.
touched() {
	echo $(($(log_count sshd 'Connection from') + 0))
}
ssh_id=$(perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(
    "127.0.0.1:$ARGV[0]") or die; print <$s> =~ /([^\r\n]+)/' "$SSHD_PORT")
wait_log sshd 'Connection from'
mark sshd
row() {
	"$MSSH" list "$1" --server "$SRV" | awk '{ print $2, $4, $6, $7, $8 }'
}
two_parked() {
	[ "$(row web | awk '{ print $3 }')" = 2 ]
}
wait_for 60 two_parked
before=$(row web)
id=$(printf %s "$ssh_id" | sed 's/[][().*+?\\]/\\&/g')
pings "web: server $ms, agent $ms, sshd $ms \\($id\\)" \
    'three hops, and what sshd is' web
is "$(wc -l <"$T/out" | tr -d ' ')" 1 'one line, no summary'
pings "web: server $ms, agent $ms" '--no-sshd' web --no-sshd
pings "web: server $ms, agent $ms, sshd $ms \\($id\\)" '-c 3' web -c 3
cp "$T/out" "$T/three"
is "$(grep -c sshd "$T/three") $(wc -l <"$T/three" | tr -d ' ')" '1 5' \
    'three lines and two of summary; sshd once'
ok 'min, median and max are those of the lines' perl -ne '
	/: server ([0-9.]+) ms, agent ([0-9.]+) ms/ and
	    (push(@{$t{server}}, $1), push @{$t{agent}}, $2), next;
	m,^web: (server|agent) min/median/max ([0-9./]+) ms$, or die $_;
	$n++;
	$want = join "/", sort { $a <=> $b } @{$t{$1}};
	die "$_ want $want" if $2 ne $want;
	END { exit($n != 2) }' "$T/three"
pings "web: server $ms, agent $ms" '--count=2 --no-sshd' web --count=2 \
    --no-sshd
pings ".*" 'a name in capitals' WEB
ok 'three commands that may touch sshd' wait_for 30 eval '[ "$(touched)" = 3 ]'
pings ".*" 'and one more' web
wait_for 30 eval '[ "$(touched)" -ge 4 ]'
is "$(touched)" 4 'exactly once per command, and never with --no-sshd'

ok '--json' eval 'ping web --json --count 2 >"$T/out"'
ok 'two objects; sshd in the first' perl -MJSON::PP -ne '
	$o = JSON::PP->new->canonical->decode($_);
	$keys .= join(" ", sort keys %$o) . "\n";
	die $_ if $o->{node} ne "web" or
	    grep { /_ms$/ && $o->{$_} !~ /^[0-9.]+$/ } keys %$o;
	die if /"[a-z]+_ms":"/;
	BEGIN { $id = pop }
	die $_ if $. == 1 && $o->{sshd} ne $id;
	END { exit($keys ne "agent_ms node server_ms sshd sshd_ms\n" .
	    "agent_ms node server_ms\n") }' "$T/out" "$ssh_id" ||
	note "$(cat "$T/out")"

# ---- parked connections

is "$(row web)" "$before" 'after all that the same connections are parked'
ok 'a second ping at once is refused' talk 'send=MSSH/2 ping web\n' line=OK \
    'send=PING\n' line=PONG 'line=AGENT us=' 'send=PING\n' 'line=ERROR limit'
twenty() {
	i=0
	while [ "$i" -lt 20 ]; do
		i=$((i + 1))
		talk 'send=MSSH/2 ping web\n' line=OK 'send=PING\n' \
		    line=PONG 'line=AGENT us=' || return
	done
}
ok 'twenty pings' twenty
is "$(row web)" "$before" 'after twenty pings, too'
in_back long web --no-sshd -c 1000
ok 'one pings all the time' wait_log long 'web: server'
is "$(msh web 'echo in' 2>"$T/err")" in 'a session works meanwhile' ||
    note "$(cat "$T/err")"
mark long
ok 'and the pings go on' wait_log long 'web: server'
wait_for 60 two_parked
is "$(row web | awk '{ print $1, $3, $4 }')" 'online 2 0' 'as many are parked'
stop long INT
is "$rc" 130 'Ctrl-C ends it'

# ---- an agent that has gone, and answers in another order

agent dies
pings 'dies: server .* ms, agent .* ms' 'it is there' dies --no-sshd
stop agent-dies KILL
ping dies --no-sshd >"$T/out"
is "$? $(sed 's/ (last.*//' "$T/err")" '4 mssh: dies is offline' 'it is not' ||
    note "$(cat "$T/err")"
as flips "send=MSSH/2 agent flips $v2\n" line=OK tell=parked 'line=PING sshd=1' \
    'send=SSHD us=5 SSH-2.0-first\nPONG\n' gone
wait_log flips parked
pings 'flips: .*, sshd 0\.005 ms \(SSH-2\.0-first\)' 'SSHD before PONG' flips
stop flips

# ---- two at once

parked slow "MSSH/2 agent slow $v2" line=PING line=PING 'send=PONG\nPONG\n' \
    tell=answered
for who in a b; do
	as $who 'send=MSSH/2 ping slow\n' line=OK 'send=PING\n' line=PONG \
	    tell=asked 'line=AGENT us='
done
ok 'two ping one node' wait_gone a
is "$rc" 0 'and one has its answer'
wait_gone b
is "$rc" 0 'the other, too'

# ---- who cannot be pinged

as old 'send=AGENT old\n' line=OK tell=parked 'expect=hello' 'send=there\n'
wait_log old parked
fails 9 'old cannot be pinged: its agent speaks version 1 of the protocol' \
    'version 1' old
fails 9 'old cannot be pinged: its agent speaks version 1 of the protocol' \
    'version 1 with --no-sshd' old --no-sshd
ok 'it has heard nothing of it' talk 'send=MSSH/2 client old\nhello' \
    line=OK line=there
parked before "MSSH/2 agent before run=1" 'until=PING' 'until=\n' \
    'send=PONG\n' tell=pinged
fails 9 'before cannot look at its sshd: its agent is too old (see --no-sshd)' \
    'an agent without v=' before
is "$(log_count before pinged)" 0 'has heard nothing of it'
pings "before: server $ms, agent $ms" 'but says PONG' before --no-sshd

fails 4 'never is unknown here' 'a node that was never here' never
fails 4 'wev is unknown here; similar: web' 'one typing error' wev
parked left "MSSH/2 agent left $v2"
stop left
wait_log server 'left is offline'
ping left >"$T/out"
is "$? $(sed 's/seen [0-9]* s/seen N s/' "$T/err")" \
    '4 mssh: left is offline (last seen N s ago)' 'one that has left'

parked one "MSSH/2 agent one $v2" line=GO 'send=READY\n' tell=called
as client 'send=MSSH/2 client one\nx' line=OK tell=in gone
wait_log client in
ping one >"$T/out"
is "$? $(sed 's/for .*;/for N;/' "$T/err")" "8 mssh: one is busy or gone: it\
 has 1 sessions, and has parked no connection for N; try again" 'a busy one'
as waits 'send=MSSH/2 client one wait=600\nx' gone
ok 'a client waits for it' wait_log server 'hello -> waiting'
ping one >"$T/out"
is "$?" 8 'it is told no other way then'
stop waits
stop client

# ---- sshd

agent down --ssh-port "$(free_port)"
ping down >"$T/out"
is "$? $(sed 's/127.0.0.1:[0-9]*/H/' "$T/err")" \
    '6 mssh: down: cannot reach sshd at H: Connection refused' 'sshd is down'
pings "down: server $ms, agent $ms" 'which --no-sshd does not mind' down \
    --no-sshd
agent runs --exec "touch $T/ran; exec cat"
fails 6 'runs: its agent runs a command for each session (--exec)' '--exec' \
    runs
pings "runs: server $ms, agent $ms" '--exec and --no-sshd' runs --no-sshd
ok 'no command was run' [ ! -e "$T/ran" ]

pings "fake: server $ms, agent $ms, sshd $ms \\(SSH-2.0-fake\\)" \
    'any SSH server will do' fake
banner 'SSH-2.0-x"\\y $T`%s%n\r\n'
pings "fake: .* ms \\(SSH-2\\.0-x\\?\\?y .*%s%n\\)" 'quotes and such' fake
ok 'in JSON' eval 'ping fake --json >"$T/out"'
ok 'which stays JSON' perl -MJSON::PP -ne '
    exit(JSON::PP->new->decode($_)->{sshd} !~ /^SSH-2.0-x..y .*%s%n$/)' \
    "$T/out"
# bad TEXT WHY NAME
bad() {
	banner "$1"
	ping fake >"$T/out"
	is "$? $(sed 's/127.0.0.1:[0-9]*/H/' "$T/err")" \
	    "6 mssh: fake: cannot reach sshd at H: it$2" "$3"
	ok 'nothing of it is shown' sh -c '! grep -q "[^ -~]" "$1" "$2"' - \
	    "$T/out" "$T/err"
}
bad '220 mail.example ESMTP\r\n' ' closed the connection' 'no SSH server'
banner 'Welcome\r\nto this host\r\nSSH-2.0-last\r\n'
pings 'fake: .* ms \(SSH-2\.0-last\)' 'other lines may come first' fake
bad 'SSH-2.0-\e[31mred\r\n' ' does not speak SSH' 'one with escapes'
bad 'SSH-2.0-\x00\xff\r\n' ' does not speak SSH' 'bytes'
bad 'SSH-2.0-@{["x" x 600]}\r\n' ' does not speak SSH' 'one that is too long'
bad 'SSH-2.0-x' ' closed the connection' 'one that ends in its first line'
banner 'SSH-2.0-@{["x" x 247]}\r\n'
pings "fake: .* ms \\(SSH-2\\.0-x{247}\\)" 'the longest (RFC 4253 4.2)' fake

# What an agent says of its sshd is not believed either.
# lies ANSWER WANT NAME: SSHD is said so.
lies() {
	[ ! -e "$T/liar.pid" ] || stop liar
	parked liar "MSSH/2 agent liar $v2" line=PING "send=PONG\\nSSHD $1\\n"
	ping liar >"$T/out"
	is "$? $(sed 's/[0-9.]* ms/N ms/g' "$T/out" "$T/err")" "$2" "$3"
}
times='liar: server N ms, agent N ms, sshd N ms'
lies 'us=7 SSH-2.0-x' "0 $times (SSH-2.0-x)" 'an agent that answers by hand'
lies 'us=-7 SSH-2.0-\\"' "0 $times (SSH-2.0-??)" \
    'a time before the question'
lies 'error it is broken' '6 mssh: liar: it is broken' 'an error'
lies '' '6 mssh: liar: its sshd is unknown' 'nothing'
stop liar

# ---- what the time includes

includes() {
	what=$1 want=$2
	shift 2
	"$MSSH" ping web --no-sshd "$@" >"$T/out" 2>"$T/err"
	is "$? $(sed 's/[0-9.]* ms/N ms/g' "$T/out")" \
	    "0 ${want:+web: the time to the server includes $want
}web: server N ms, agent N ms" "$what" || note "$(cat "$T/err")"
}
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
    -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
    -keyout "$T/tls.key" -out "$T/tls.crt" 2>"$T/openssl" ||
    bail 'no certificate'
cat "$T/tls.crt" "$T/tls.key" >"$T/tls.pem"
TLS=$(ports 1)
opts=bind=127.0.0.1,reuseaddr,fork,verify=0
start tls socat "OPENSSL-LISTEN:$TLS,$opts,cert=$T/tls.pem" "TCP:$SRV"
SOCKS=$(ports 1)
start socks microsocks -i 127.0.0.1 -p "$SOCKS"
up() {
	perl -MIO::Socket::INET -e 'exit !IO::Socket::INET->new(
	    "127.0.0.1:$ARGV[0]")' "$1"
}
wait_for 30 up "$TLS"
wait_for 30 up "$SOCKS"
includes 'straight: nothing' '' --server "$SRV"
includes 'http://' "http://$SRV/" --server "http://$SRV"
includes 'tls://' "tls://localhost:$TLS" --server "tls://localhost:$TLS" \
    --cafile "$T/tls.crt"
includes 'https://' "https://localhost:$TLS/" \
    --server "https://localhost:$TLS" --cafile "$T/tls.crt"
includes '--proxy' "the proxy and $SRV" --server "$SRV" \
    --proxy "socks5://127.0.0.1:$SOCKS"
includes '--connect' "--connect to $SRV" --server "$SRV" \
    --connect "socat - TCP:$SRV"
includes '--proxy and https://' "the proxy and https://localhost:$TLS/" \
    --server "https://localhost:$TLS" --cafile "$T/tls.crt" \
    --proxy "socks5h://127.0.0.1:$SOCKS"
"$MSSH" ping web --no-sshd --server "http://$SRV" --json >"$T/out"
ok '--json has no such line' perl -MJSON::PP -ne '
    JSON::PP->new->decode($_); END { exit($. != 1) }' "$T/out"

# ---- the command line

for words in '' 'web db' 'web -c 0' 'web -c x' 'web -c' 'web --names' 'a/b' \
    'web --count=' 'web -c -1' 'web -c 1000001'; do
	# shellcheck disable=SC2086	# words
	ping $words >"$T/out"
	is "$?" 2 "usage: ping $words"
done
"$MSSH" ping web --server "127.0.0.1:$(ports 1)" >"$T/out" 2>"$T/err"
is "$?" 3 'no server'
"$MSSH" ping web --server "127.0.0.1:$FAKE" >"$T/out" 2>"$T/err"
is "$?" 9 'a server that is none'
banner 'SSH-2.0-fake\r\n'

# ---- the first byte

mark server
mark sshd
parked quiet "MSSH/2 agent quiet $v2" line=GO 'send=READY\n' tell=called
as shy 'send=MSSH/2 client quiet\n' gone
for who in shy2 shy3; do
	as $who 'send=MSSH/2 client web\n' gone
done
ok 'three clients that say nothing' eval \
    'wait_for 30 eval "[ \$(log_count server \"hello -> await client\") = 3 ]"'
is "$(row web | awk '{ print $1, $3, $4 }')" 'online 2 0' \
    'they take no connection'
is "$(log_count server 'go sent')" 0 'and nobody is called'
stop shy2
stop shy3
as speaks 'send=MSSH/2 client quiet\n' wait=50 'send=x' line=OK tell=in gone
ok 'one that speaks is served' wait_log speaks in
ok 'the agent was called for that' wait_log quiet called
is "$(touched)" 0 'sshd has heard nothing'
"$MSSH" proxy web --server "$SRV" </dev/null >"$T/out" 2>"$T/err"
is "$? $(cat "$T/err")" "2 mssh: standard input is empty, but an SSH client\
 speaks first (see mssh ping)" 'no input'

# ---- those that took ten seconds

ended mute-ping '7 mssh: the agent of mute does not answer' \
    'an agent without PONG: its hop'
ended half-ping '7 mssh: the agent of half does not answer' \
    'an agent without SSHD'
ended hang-ping "6 mssh: hang: cannot reach sshd at 127.0.0.1:$HANG: it does\
 not answer" 'sshd that says nothing: its hop'
ended dumb "7 mssh: the server $dumb_at does not answer" \
    'a server without PONG: its hop'
ended deaf '7 mssh: the agent of web does not answer' \
    'a server without AGENT'
ended mutes '1 mssh: connection to web lost: neither side sent a byte; an SSH'\
' client speaks first' 'proxy says so, too'
exec 8>&-
wait_gone silent
is "$rc" 0 'a client that says nothing is refused after a while'
for n in 1 2; do
	wait_gone "go$n-ping" 60 >/dev/null
	is "$rc $(sed 's/[0-9.]* ms/N ms/g' "$T/go$n-ping.log")" \
	    "0 go$n: server N ms, agent N ms, sshd N ms ($ssh_id)" \
	    "a ping whose connection was taken, one of $n"
done

# ---- the end

in_back last web --no-sshd -c 1000
ok 'a ping' wait_log last 'web: server'
at=$SRV
stop server
wait_gone last
is "$rc $(tail -n 1 "$T/last.log")" \
    "9 mssh: the server $at closed the connection" 'a server that stops'
for n in web fake down runs go1 go2; do
	stop agent-$n
done

for k in a c; do
	"$MSSH" keygen $k >"$T/$k.key"
done
echo "agent * $(cat "$T/a.key")" >"$T/keys"
cp "$T/keys" "$T/keys2"
echo "client we* $(cat "$T/c.key")" >>"$T/keys"
server --keys "$T/keys"
agent web --key "$T/a.key"
agent db --key "$T/a.key"
pings "web: server $ms, agent $ms" 'with a key' web --no-sshd \
    --key "$T/c.key"
fails 5 'the key c is not good for ping db here' 'with no right' db \
    --key "$T/c.key"
fails 5 'the key a is not good for ping db here' 'as an agent' db \
    --key "$T/a.key"
fails 5 'this server needs a key (see --key in mssh(1))' 'with none' db
fails 4 'wev is unknown here; similar: web' 'similar' wev --key "$T/c.key"
in_back last web --no-sshd -c 1000 --key "$T/c.key"
ok 'a ping with a key' wait_log last 'web: server'
cp "$T/keys2" "$T/keys"
kill -HUP "$(pid server)"
ok 'its key is removed' wait_log server '1 keys read'
wait_gone last
is "$rc $(tail -n 1 "$T/last.log")" '5 mssh: its key was removed' \
    'that ends it'
finish
