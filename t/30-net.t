#!/bin/sh
# 30-net.t - a node behind NAT stays reachable: its mapping is lost, its cable
# pulled, its power cut, its twin appears, name service is dead.
#
# The seconds are measured and printed.  A test fails at a bound that is
# several times what mssh promises, so a slow machine breaks nothing: that a
# mapping is lost shows at the next ping, 29 s later at most.
# shellcheck disable=SC1091,SC2154	# net, srv4, srv6: net.sh
. t/lib.sh
. t/net.sh

# A login on box from the client host; a client that is never served shows.
reach()
{
	net_do cli timeout "${1:-60}" "$T/msh" box true
}

# box: its agent, in the node's namespace
box()
{
	at node
	start agent-box "$MSSH" agent box --server "$SRV" --ssh-port "$SSHD_PORT"
}

# back WHAT START: box has registered anew, and a login works at once
back()
{
	ok "$1: box registers again" wait_log agent-box 'parked at' 60
	note "$1: reachable after $(took "$2") s"
	ok "$1: a login works" reach
}

# logins_in NAME N: agent NAME has had N sessions since the mark
logins_in()
{
	[ "$(log_count "$1" ': to sshd at ')" -eq "$2" ]
}

# held: the server has a connection from the client host
held()
{
	net_do srv ss -Htn state established 'sport = :8443' 'dst 203.0.113.2' |
		grep -q .
}

not()
{
	! "$@"
}

# call NODE OPTION...: a client, as "caller"; in a while, served: it gets its
# session
call()
{
	wait_for 30 not held
	at cli
	start caller "$T/msh" "$@" echo here
}

served()
{
	ok "$1: the client is served" wait_gone caller 60
	is "$rc $(tail -n 1 "$T/caller.log")" '0 here' "$1: and has its session"
}

# tried N: the second agent has been refused N times
tried()
{
	[ "$(log_count server 'another agent')" -ge "$1" ]
}

from()
{
	grep -F " box registered from $1:" "$T/server.log"
}

net_up
at node
sshd_start
at srv
server --host 0.0.0.0 --host :: --port 8443
SRV=$srv4:8443

# ---- parked behind the router

box
t0=$(now)
ok 'a node behind NAT registers' wait_log agent-box 'parked at'
ok 'it comes from the outer address of its router' wait_for 30 from 192.0.2.2
ok 'a login through the router' reach
note "from the agent's start to the end of the first login: $(took "$t0") s"

# ---- the mapping is lost; "called" has a client in that very moment

at node
agent called
for how in drop reset; do
	mark agent-box
	t0=$(now)
	net_forget $how
	call called --wait 60
	back "mapping lost, $how" "$t0"
	served "mapping lost, $how, a client at once"
	note "mapping lost, $how: it waited $(took "$t0") s at most"
done
stop agent-called

# ---- the cable is pulled: for a moment, and until the agent has noticed

for how in unplug cut; do
	mend=plug
	[ $how = unplug ] || mend=mend
	net_$how node
	call box
	ok "$how for a moment: a client comes" wait_for 30 held
	t0=$(now)
	net_$mend node
	served "$how for a moment"
	note "$how for a moment: served after $(took "$t0") s"

	mark agent-box
	t0=$(now)
	net_$how node
	ok "$how: the agent notices" wait_log agent-box ' lost ' 60
	note "$how: noticed after $(took "$t0") s"
	ok "$how: and cannot return" wait_log agent-box 'cannot register' 60
	mark agent-box
	t0=$(now)
	net_$mend node
	back "$how" "$t0"
done

# ---- the agent dies and returns

kill -9 "$(pid agent-box)"
wait_gone agent-box
t0=$(now)
box
back 'agent killed' "$t0"

# Power loss.  A client that comes while nobody knows yet is not burned.
for addr in 2 3; do
	net_gone
	wait_gone agent-box
	wait_gone sshd
	call box
	ok 'power loss: a client waits' wait_for 30 held
	net_node $addr
	at node
	sshd_start
	t0=$(now)
	box
	served 'power loss'
	note "power loss, back as .$addr: served after $(took "$t0") s"
	ok "power loss: a login works" reach
done
# The same without a client that stirs the server.
net_gone
wait_gone agent-box
wait_gone sshd
net_node 2
at node
sshd_start
t0=$(now)
box
back 'power loss, nobody called' "$t0"

# ---- two live agents with one id

at node
mark agent-box
mark server
start agent-twin "$MSSH" agent box --server "$SRV" --ssh-port "$SSHD_PORT"
ok 'a second live agent is told' wait_log agent-twin 'cannot register box'
note "$(log_has agent-twin 'cannot register box' | sed q)"
for i in 1 2 3; do
	ok "login $i reaches the first" reach
done
ok 'it tries again, later' wait_for 60 tried 3
ok 'all logins were the first one'"'s" logins_in agent-box 3
ok 'none was the second one'"'s" logins_in agent-twin 0
mark agent-twin
t0=$(now)
stop agent-box
ok 'the first stops: the second takes over' wait_log agent-twin 'parked at' 60
note "the second took over after $(took "$t0") s"
ok 'and logins reach it' reach
ok 'they do' logins_in agent-twin 1
stop agent-twin
box
ok 'the first is back' wait_log agent-box 'parked at' 60

# ---- the server restarts, in order and after a power loss

mark agent-box
at srv
stop server
is "$rc" 0 'the server stops'
ok 'the agent is told' wait_log agent-box ' stops, next try '
t0=$(now)
server --host 0.0.0.0 --host :: --port 8443
SRV=$srv4:8443
back 'server restarted' "$t0"

mark agent-box
at srv
net_cut srv
kill -9 "$(pid server)"
wait_gone server
server --host 0.0.0.0 --host :: --port 8443
SRV=$srv4:8443
t0=$(now)
net_mend srv
back 'server lost power' "$t0"
stop agent-box

# ---- a server with two addresses

for h in node cli; do
	net_hosts $h "$srv4 meet.example" "$srv6 meet.example"
done
SRV=meet.example:8443
for how in open drop reset; do
	case $how in
	open) family=6 peer='[2001:db8:77::2]' ;;
	*) family=4 peer=192.0.2.2 ;;
	esac
	net_six $how
	mark server
	at node
	# An interface that flaps all the time must not stop the dialling.
	[ $how != drop ] || start flap perl -e 'for (;;) {
	    system "ip addr add 10.9.9.9/32 dev lo"; sleep 1;
	    system "ip addr del 10.9.9.9/32 dev lo"; sleep 1 }'
	t0=$(now)
	box
	ok "IPv6 $how: registers" wait_log agent-box 'parked at' 60
	note "IPv6 $how: registered after $(took "$t0") s"
	ok "IPv6 $how: over IPv$family" \
	    wait_log server " box registered from $peer:"
	t0=$(now)
	ok "IPv6 $how: a login works" reach 60
	note "IPv6 $how: a login took $(took "$t0") s"
	[ $how = reset ] || stop agent-box
	[ $how != drop ] || stop flap
done
net_six open

# ---- name service hangs under a live session

cat >"$T/echo" <<'END'
#!/usr/bin/perl
# Says a line, awaits it, 20 times a second; counts on standard output.
use strict; use warnings; use IPC::Open2; use Time::HiRes qw(time sleep);
$| = 1;
open2(my $in, my $out, "$ENV{T}/msh", "box", "cat");
my ($n, $max) = (0, 0);
while (1) {
	my $t = time;
	syswrite $out, "line $n\n";
	my $l = <$in>;
	last unless defined $l and $l eq "line $n\n";
	my $d = time - $t;
	$max = $d if $n and $d > $max;
	printf "%d %.3f\n", ++$n, $max;
	sleep 0.05;
}
END
chmod 755 "$T/echo"
echoes()
{
	[ "$(wc -l <"$T/echo.log")" -ge "$1" ]
}
asked()
{
	net_do nat nft list counter inet cut dns | grep 'packets [1-9]'
}

at cli
start echo "$T/echo"
ok 'a session that talks all the time' wait_for 60 echoes 10
net_do nat nft -f - <<END
add counter inet cut dns
add rule inet cut pre udp dport 53 counter name dns drop
END
net_hosts node
net_dns node 198.51.100.53
mark agent-box
n=$(wc -l <"$T/echo.log")
t0=$(now)
kill -HUP "$(pid agent-box)"
ok 'the agent asks a name server that never answers' wait_for 30 asked
ok 'the session goes on' wait_for 60 echoes $((n + 100))
ok 'the agent was still asking' not log_has agent-box 'parked at'
note "$(tail -n 1 "$T/echo.log" | sed 's/ / echoes, the slowest took /') s"
ok 'the agent says that it cannot resolve' \
    wait_log agent-box 'cannot register' 90
note "after $(took "$t0") s: $(log_has agent-box 'cannot register' | sed q)"
mark agent-box
t0=$(now)
net_hosts node "$srv4 meet.example" "$srv6 meet.example"
ok 'names work again: it parks' wait_log agent-box 'parked at' 90
note "names work again: parked after $(took "$t0") s"
ok 'a login works' reach
n=$(wc -l <"$T/echo.log")
ok 'the session still lives' wait_for 60 echoes $((n + 10))
stop echo
finish
