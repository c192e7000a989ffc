#!/bin/sh
# 33-dial.t - names and addresses: a name is looked up at each dial; an address
# is good once the hello was answered there, and else the next one is tried;
# broken IPv6 and links that come and go are no reason to wait, or to hurry.
#
# Seconds are printed, not judged: what is counted is dials and SYNs.
# shellcheck disable=SC1091,SC2154	# net, srv4, srv6: net.sh; rc: lib.sh
t/need ssh sshd perl haproxy microsocks openssl || exit 1
. t/lib.sh
. t/net.sh

net_up

# $T/bad ADDR PORT KIND: a peer that answers TCP, but no hello.  It says each
# line that it gets.  KIND: page (a web server), shut (closes when the hello is
# there) or mute.
cat >"$T/bad" <<'END'
use strict;
use warnings;
use IO::Socket::INET;
use IO::Select;
$| = 1;
$SIG{PIPE} = 'IGNORE';
my ($addr, $port, $kind) = @ARGV;
my $l = IO::Socket::INET->new(Listen => 99, LocalAddr => $addr,
    LocalPort => $port, ReuseAddr => 1) or die "$addr:$port: $!\n";
print "up\n";
my $all = IO::Select->new($l);
while (1) {
	for my $s ($all->can_read) {
		if ($s == $l) { $all->add($l->accept // next); next }
		my $n = sysread $s, my $b, 4096;
		print "got $_\n" for $n ? split /\r?\n/, $b : ();
		next if $n && $kind eq 'mute';
		syswrite $s, "HTTP/1.1 400 Bad Request\r\nContent-Length: 2" .
		    "\r\nConnection: close\r\n\r\nhi" if $n && $kind eq 'page';
		$all->remove($s);
		close $s;
	}
}
END
bad() {
	start "bad-$3" perl "$T/bad" "$1" "$2" "$3"
	wait_log "bad-$3" up || bail "no peer: $(cat "$T/bad-$3.log")"
}

# $T/who PORT ADDR...: services that say at which address they were reached,
# as soon as a line has come.
cat >"$T/who" <<'END'
use strict;
use warnings;
use IO::Socket::INET;
use IO::Select;
$| = 1;
$SIG{CHLD} = 'IGNORE';
my ($port, @addr) = @ARGV;
my $all = IO::Select->new(map { IO::Socket::INET->new(Listen => 9,
    LocalAddr => $_, LocalPort => $port, ReuseAddr => 1) or die "$_: $!\n"
    } @addr);
print "up\n";
while (1) {
	for my $l ($all->can_read) {
		my $c = $l->accept // next;
		next if fork;
		alarm 60;
		my $line = <$c>;
		print $c $l->sockhost, "\n";
		exit 0;
	}
}
END

# ---- the cast, all of it on the host cli: there 127.0.0.1 is the wrong one,
# 127.0.0.5 the right one

at cli
sshd_start
server --host 127.0.0.5 --port 8443
bad 127.0.0.1 8443 page
bad 127.0.0.1 8444 shut
bad 127.0.0.1 8445 mute
for who in right wrong; do
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 \
	    -nodes -days 2 -subj "/CN=$who" -keyout "$T/$who.key" \
	    -addext subjectAltName=DNS:move.test,DNS:two.test,DNS:meet.test \
	    -out "$T/$who.crt" 2>"$T/openssl.log" ||
	    bail "no certificate: $(cat "$T/openssl.log")"
	cat "$T/$who.crt" "$T/$who.key" >"$T/$who.pem"
done
cat >"$T/front.cfg" <<END
defaults
	mode tcp
	timeout connect 5s
	timeout client 1h
	timeout server 1h
listen plain
	bind 127.0.0.5:8444
	bind 127.0.0.5:8445
	bind 127.0.0.5:443 ssl crt $T/right.pem
	server one 127.0.0.5:8443
listen wrong
	bind 127.0.0.1:443 ssl crt $T/wrong.pem
	server one 127.0.0.1:8443
END
start front haproxy -db -f "$T/front.cfg"
MSSH_CAFILE=$T/right.crt
export MSSH_CAFILE
listens() {
	net_do cli ss -Htln "src $1" | grep -q .
}
ok 'the fronts listen' wait_for 30 listens 127.0.0.5:8445

# where KIND: the port that 127.0.0.1 answers so
port_of() {
	case $1 in
	page) echo :8443 ;;
	shut) echo :8444 ;;
	mute) echo :8445 ;;
	esac
}
url_of() {
	case $2 in
	tls) echo "tls://$1" ;;
	*) echo "$1$(port_of "$2")" ;;
	esac
}
# try SECONDS COMMAND...: where at() says
try() {
	# shellcheck disable=SC2086	# IN is words
	$IN timeout "$@"
}
node_start() {
	start "agent-$1" "$MSSH" agent "$1" --server "$2" \
	    --ssh-port "$SSHD_PORT"
}

# logs_in URL msh|psh NODE: a login, bounded
logs_in() {
	SRV=$1
	is "$(try 60 "$T/$2" "$3" 'echo hi' 2>&1 | tail -n 1)" hi "$4"
}
agent near

# Two addresses: the first one is the wrong one.
net_hosts cli '127.0.0.1 two.test' '127.0.0.5 two.test' '127.0.0.1 move.test'
is "$(net_do cli getent ahostsv4 two.test | sed -n 's/ .*STREAM.*//p' |
    tr '\n' ' ')" '127.0.0.1 127.0.0.5 ' 'the wrong address is tried first'
for k in page shut tls; do
	node_start "move-$k" "$(url_of move.test $k)"
done
for k in page shut tls mute; do
	node_start "two-$k" "$(url_of two.test $k)"
done
for k in page shut; do
	ok "move, $k: the agent is at the wrong address" \
	    wait_log "bad-$k" "agent move-$k"
done
for k in page shut tls; do
	ok "move, $k: that is said" wait_log "agent-move-$k" 'cannot register'
done

# ---- a name moves, and nobody says so

net_hosts cli '127.0.0.1 two.test' '127.0.0.5 two.test' '127.0.0.5 move.test'
t0=$(now)
# left SECONDS: how many of those are left since t0, at least one
left() {
	l_=$(($1 - ($(now) - t0) / 1000))
	[ $l_ -gt 1 ] || l_=1
	echo $l_
}
for k in page shut tls; do
	ok "move, $k: the agent follows the name" \
	    wait_log "agent-move-$k" 'parked at' "$(left 60)"
	note "after $(took "$t0") s"
	logs_in 127.0.0.5:8443 msh "move-$k" "move, $k: a login"
done

# ---- one name, two addresses

for k in page shut tls; do
	ok "two, $k: the agent parks at the second" \
	    wait_log "agent-two-$k" 'parked at' "$(left 60)"
	for how in msh psh; do
		logs_in "$(url_of two.test $k)" $how near \
		    "two, $k, $how: a login"
	done
done
for k in page shut; do
	ok "two, $k: the first was asked by the agent" \
	    wait_log "bad-$k" "agent two-$k"
	is "$(($(log_count "bad-$k" 'client near') >= 2))" 1 \
	    "two, $k: and by both clients"
done
# What a server with a word for us says is not asked of another one.
SRV=two.test:8443
$IN timeout 60 "$T/greet" nosuch --server "$SRV" >"$T/out" 2>"$T/err"
is "$? $(grep -c 'nosuch is unknown here' "$T/err")" '4 1' \
    'two, page: who asks for an unknown node is told so'

# ---- sshd is another host: for each session its name is looked up

net_hosts cli '127.0.0.1 sshd.test'
for a in 127.0.0.1 127.0.0.5; do
	start "who-$a" perl "$T/who" 2222 $a
	wait_log "who-$a" up || bail "no service: $(cat "$T/who-$a.log")"
done
SRV=127.0.0.5:8443
agent hop --ssh-host sshd.test --ssh-port 2222
# session: what the node's service says.  ip(8) has a word to say if somebody
# replaces this machine's /etc/resolv.conf meanwhile.
session() {
	echo hello | try 60 "$MSSH" proxy hop --server "$SRV" 2>&1 |
	    grep -v '^Bind /etc/netns/'
}
is "$(session)" 127.0.0.1 'sshd: the first session'
net_hosts cli '127.0.0.5 sshd.test'
is "$(session)" 127.0.0.5 'sshd: its name has moved, the next one follows'
net_hosts cli '127.0.0.9 sshd.test' '127.0.0.5 sshd.test'
is "$(session)" 127.0.0.5 'sshd: two addresses, one refuses'
net_hosts cli
session >"$T/out"
ok 'sshd: its name is gone: that is said' grep 'sshd.test' "$T/out"
net_hosts cli '127.0.0.1 sshd.test'
is "$(session)" 127.0.0.1 'sshd: its name is back, and so is the session'

ok 'two, mute: the agent parks at the second' \
    wait_log agent-two-mute 'parked at' "$(left 120)"

# ---- IPv6 is broken: what is sent there disappears

at srv
stop server
server --host 0.0.0.0 --host :: --port 8443
start socks microsocks -i 0.0.0.0 -p 1080
cat >"$T/six.cfg" <<END
defaults
	mode tcp
	timeout connect 5s
	timeout client 1h
	timeout server 1h
listen tls
	bind $srv4:443 ssl crt $T/right.pem
	server one $srv4:8443
END
start six haproxy -db -f "$T/six.cfg"
SRV=meet.test:8443
# A counter for each host: the agent dials again whenever it is called.
net_do inet nft -f - <<END
add counter inet cut node
add counter inet cut cli
add rule inet cut six ip6 saddr 2001:db8:77::2 meta l4proto tcp \
    counter name node drop
add rule inet cut six ip6 saddr 2001:db8:2::2 meta l4proto tcp \
    counter name cli drop
END
for h in node cli; do
	# not there: an older kernel, which does so anyway
	net_do $h sysctl -qw net.ipv4.tcp_syn_linear_timeouts=0 2>/dev/null
	net_hosts $h "$srv6 meet.test" "$srv4 meet.test"
done
is "$(net_do cli getent ahosts meet.test | sed -n 's/ .*STREAM.*//p' | sed q)" \
    "$srv6" 'IPv6 is tried first'
# syns HOST: packets from it to there since the last time; the kernel sends one
# at once, and the third after 3 s
syns() {
	net_do inet nft reset counter inet cut "$1" |
	    sed -n 's/.*packets \([0-9]*\).*/\1/p'
}
# quick HOST WHAT: it has not been long enough for a third one
quick() {
	n=$(syns "$1")
	shift
	note "$1: $n SYNs to the broken address, $(took "$t0") s"
	is "$((n > 0 && n < 3))" 1 "$1: tried IPv6, but did not wait for it"
}
at node
sshd_start
at srv
ok 'the front listens' wait_for 30 sh -c \
    "ip netns exec $net-srv ss -Htln 'sport = :443' | grep -q ."
at node
t0=$(now)
start agent-box "$MSSH" agent box --server "$SRV" --ssh-port "$SSHD_PORT"
ok 'the agent parks' wait_log agent-box 'parked at' 60
quick node 'an agent'
at cli
for how in psh msh tls; do
	t0=$(now)
	[ $how != tls ] || SRV=tls://meet.test
	case $how in
	psh) prog=psh ;;
	*) prog=msh ;;
	esac
	is "$(try 60 "$T/$prog" box 'echo hi' 2>&1 | tail -n 1)" hi \
	    "$how: a login"
	quick cli $how
done
t0=$(now)
try 60 "$T/greet" nosuch --server "$srv4:8443" \
    --proxy socks5h://meet.test:1080 >"$T/out" 2>&1
ok 'a client, by a proxy: it is there' grep 'nosuch is unknown' "$T/out"
quick cli 'a client, by a proxy'

# ---- links come and go, and the server closes each connection

at srv
start bad-churn perl "$T/bad" 0.0.0.0 9000 shut
wait_log bad-churn up || bail 'no peer'
at node
start churn perl -e 'for (;;) {
    system "ip link add ch0 type veth peer name ch1";
    select undef, undef, undef, 0.5;
    system "ip link del ch0"; select undef, undef, undef, 0.5 }'
for h in node cli; do
	at $h
	start "agent-$h" "$MSSH" agent "at-$h" --server "$srv4:9000"
done
t0=$(now)
past() {
	[ $(($(now) - t0)) -ge "$1" ]
}
ok '20 seconds pass' wait_for 60 past 20000
churn=$(log_count bad-churn 'agent at-node')
calm=$(log_count bad-churn 'agent at-cli')
note "dials, links come and go: $churn; they do not: $calm"
# An event may bring a dial forward once; then the pause counts.  How long that
# is is random, but 30 are out of reach; one for each event would be 40.
is "$((churn > 0 && churn <= 30))" 1 \
    'links that come and go do not defeat the backoff'
finish
