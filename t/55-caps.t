#!/bin/sh
# 55-caps.t - how much one node, one key and all together may take up, what
# whoever meets such a limit is told, and who gets in all the same.
# shellcheck disable=SC1091,SC2016,SC2034	# lib.sh; sh -c
t/need perl || exit 1
. t/lib.sh

umask 077
service
SSHD_PORT=$SVC
for k in fleet other alice; do
	"$MSSH" keygen $k >"$T/$k.key"
done
{
	echo "agent * $(cat "$T/fleet.key")"
	echo "agent * $(cat "$T/other.key")"
	echo "client * $(cat "$T/alice.key")"
} >"$T/keys"

# hold NAME NODE [options]: a session of a client that stays
hold() {
	name_=$1 node_=$2
	shift 2
	start "$name_" sh -c '(echo echo; echo up; sleep 3600) |
	    "$MSSH" proxy "$@"' sh "$node_" --server "$SRV" "$@"
}
# let_go NAME: all of it, sh and proxy.
let_go() {
	kill -9 "-$(pid "$1")"
	wait_gone "$1"
} >/dev/null
# end NAME NODE: the same, and the server has seen the session's end.
end() {
	mark server
	let_go "$1"
	wait_log server " $2 from "
}
# held NAME NODE [options]: it has begun, or is refused
held() {
	hold "$@"
	wait_for 30 [ -s "$T/$1.log" ] && log_has "$1" up
}

# refused CODE TEXT NODE [options]
refused() {
	code_=$1 text_=$2 node_=$3
	shift 3
	greet "$node_" --server "$SRV" "$@" >"$T/out" 2>&1
	rc=$?
	cat "$T/out"
	[ "$rc" -eq "$code_" ] && grep -F -e "$text_" "$T/out"
}

# ---- of a node

server --sessions 2 -v
agent web
held one web
held two web
ok '--sessions: the third is refused' refused 8 \
    'web is at its limit of 2 sessions (--sessions), try later' web
wait_log server '(--sessions)'
is "$(log_count server '(--sessions)')" 1 'the log has it'
end one web
ok 'when one has ended another may begin' wait_for 60 held three web
strangers crowd 63 'MSSH/2 client later wait=60\n'
hold w1 later --wait 60
waiting() {
	[ "$(log_count server '> waiting')" -eq "$1" ]
}
wait_for 30 waiting 64
ok '64 clients wait for one node: the next is refused' refused 8 \
    '64 clients wait for later already, try later' later --wait 1
stop crowd
agent later
ok 'one of them is served' wait_log w1 up
let_go w1
stop agent-later >/dev/null
stop agent-web >/dev/null
stop server >/dev/null

# ---- of a key

# wire: a port before the server, WIRE, that does not tell it when an agent has
# gone: as if the network had died.
wire() {
	start wire perl -MIO::Socket::INET -MIO::Select -e '
	    $| = 1;
	    $SIG{PIPE} = "IGNORE";
	    my $l = IO::Socket::INET->new(Listen => 99,
		LocalAddr => "127.0.0.1") or die;
	    print "port ", $l->sockport, "\n";
	    my $s = IO::Select->new($l);
	    my %to;
	    while (my @r = $s->can_read) {
		for (@r) {
			if ($_ == $l) {
				my $a = $l->accept;
				my $b = IO::Socket::INET->new($ARGV[0])
				    or die;
				@to{$a, $b} = ($b, $a);
				$s->add($a, $b);
			} elsif (sysread $_, my $d, 4096) {
				syswrite $to{$_}, $d;
			} else {
				$s->remove($_);
			}
		}
	    }' "$SRV"
	wait_log wire port
	WIRE=127.0.0.1:$(sed -n 's/^port //p' "$T/wire.log")
}

# parked N: so many connections have been parked since the start
parked() {
	[ "$(log_count server '> parked')" -ge "$1" ]
}
server --keys "$T/keys" --connections 256 -v
wire
agent n1 --key "$T/fleet.key" --spare 64 --server "$WIRE"
agent n2 --key "$T/fleet.key" --spare 64
wait_for 60 parked 128
start agent-n3 "$MSSH" agent n3 --server "$SRV" --key "$T/fleet.key"
ok 'a key has half of all connections parked: another node is refused' \
    wait_log agent-n3 \
    'the key fleet has 128 connections parked (half of --connections)'
agent n4 --key "$T/other.key"
ok 'not one of another key' wait_log server 'n4 registered'
stop agent-n3 >/dev/null	# it would come in between
mark server
mark agent-n1
kill -HUP "$(pid agent-n1)"
ok 'an agent that dials again is let in' wait_log agent-n1 'n1 parked'
ok 'with all its connections' wait_for 60 parked 64
ok 'none of which was refused' [ "$(log_count agent-n1 'cannot')" -eq 0 ]
stop wire >/dev/null
stop agent-n1 >/dev/null
mark server
agent n1 --key "$T/fleet.key" --spare 64
wait_for 60 parked 64
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
	hold s$i n1 --key "$T/alice.key"
done
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
	wait_log s$i up
done
ok 'sessions take no place of spares' wait_for 30 parked 80
ok 'nor is any of them refused' [ "$(log_count agent-n1 'cannot')" -eq 0 ]
ok 'a key has a sixteenth of them in sessions: the next is refused' \
    refused 8 'the key alice has 16 sessions, or clients that wait for one' \
    n4 --key "$T/alice.key"
end s2 n1
hold w1 gone --wait 60 --key "$T/alice.key"
wait_log server '> waiting'
ok 'who waits counts' wait_for 30 refused 8 'the key alice has 16 sessions' \
    n4 --key "$T/alice.key"
let_go w1
end s1 n1
ok 'and no more when it has left' wait_for 60 held four n4 --key "$T/alice.key"
for i in 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
	let_go s$i
done
start agent-n3 "$MSSH" agent n3 --server "$SRV" --key "$T/fleet.key"
wait_log agent-n3 'the key fleet has'
stop agent-n2 >/dev/null
ok 'a node that leaves gives its place' wait_log agent-n3 'n3 parked' 60
for n in n1 n3 n4; do
	stop agent-$n >/dev/null
done
let_go four
stop wire >/dev/null
stop server >/dev/null

# An entry of a key that a node comes back with has its parked connections, and
# the one that it came with has not.
server --keys "$T/keys" --connections 32 -v
wire
agent n1 --key "$T/fleet.key" --spare 8 --server "$WIRE"
wait_for 60 parked 8
echo "agent n1,n2,n3 $(cat "$T/fleet.key")" >>"$T/keys"
kill -HUP "$(pid server)"
wait_log server '4 keys read'
mark server
kill -HUP "$(pid agent-n1)"
wait_for 60 parked 8
agent n2 --key "$T/fleet.key" --spare 8
wait_for 60 parked 16
start agent-n3 "$MSSH" agent n3 --server "$SRV" --key "$T/fleet.key"
ok 'another entry of the key takes what is parked with it' wait_log agent-n3 \
    'the key fleet has 16 connections parked'
stop agent-n3 >/dev/null
mark server
agent n4 --key "$T/fleet.key" --spare 10
ok 'the entry that was left has nothing of it' wait_for 30 parked 10
is "$(log_count agent-n4 cannot)" 0 'and nothing was refused'
for n in n1 n2 n4; do
	stop agent-$n >/dev/null
done
stop wire >/dev/null
stop server >/dev/null

# ---- of an agent, whose server calls without end

start rogue perl -MIO::Socket::INET -MIO::Select -e '
	$| = 1;
	my $l = IO::Socket::INET->new(Listen => 99,
	    LocalAddr => "127.0.0.1") or die;
	print "port ", $l->sockport, "\n";
	my $s = IO::Select->new($l);
	my %said;
	while (my @r = $s->can_read) {
		for (@r) {
			if ($_ == $l) { $s->add($l->accept); next }
			sysread($_, my $b, 4096) or $s->remove($_), next;
			print "got $b" if $said{$_};
			syswrite $_, "OK\nGO from=192.0.2.1:5 id=7\n"
			    if !$said{$_}++;
		}
	}'
wait_log rogue port
start agent-busy "$MSSH" agent busy --sessions 3 --exec 'exec sleep 999' \
    --server "127.0.0.1:$(sed -n 's/^port //p' "$T/rogue.log")"
ok 'more than --sessions calls are refused' wait_for 30 eval \
    '[ "$(log_count rogue "got ERROR busy it has all the sessions")" -ge 5 ]'
# each of those begins when its process does
served() {
	[ "$(log_count rogue 'got READY')" -ge 3 ] &&
	    [ "$(pgrep -c -P "$(pid agent-busy)" sleep)" -ge 3 ]
}
wait_for 30 served
is "$(log_count rogue 'got READY')" 3 'so many are served'
is "$(pgrep -c -P "$(pid agent-busy)" sleep)" 3 \
    'by so many processes'
stop agent-busy >/dev/null
stop rogue >/dev/null

# ---- of all

server --connections 16
agent web
strangers crowd 40 ''
ok 'strangers fill the server and are evicted' wait_log server '(--connections)'
held one web
ok 'an honest client comes in all the same' log_has one up
ok 'and an agent' agent next
stop crowd >/dev/null
for i in 3 4 5 6; do
	held h$i web
done
held h7 web			# 2 parked and 6 sessions: 14 connections
ok 'the last eighth is not for clients' wait_for 30 refused 8 \
    'the server is full (--connections), try later' web
start agent-new "$MSSH" agent new --server "$SRV"
ok 'nor for agents that nobody knows' wait_log agent-new \
    'the server is full (--connections)'
kill -9 "$(pid agent-next)"
agent next
ok 'but for those that were here' log_has agent-next 'next parked'
finish
