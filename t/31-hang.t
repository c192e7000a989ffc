#!/bin/sh
# 31-hang.t - no ssh hangs, whatever dies; nothing dies that only waits.
#
# Two cables are cut at the start and six sessions stop reading.  While those
# take their time, the quick cases run on loopback.
# shellcheck disable=SC1091,SC2016,SC2153,SC2154	# net, srv4: net.sh
. t/lib.sh
. t/net.sh

HOLD=70		# s that a receiver does not read: above every deadline

not()
{
	! "$@"
}

# live NAME msh|psh NODE COMMAND [INPUT]: a session in the background, fed by
# the command INPUT; it notes when it began and when ssh ended
cat >"$T/live" <<'END'
#!/bin/sh
eval "${5:-:}" | "$T/$2" "$3" "touch $T/up.$1; $4"
rc=$?
read -r up _ </proc/uptime
echo "${up%.*}${up#*.}0" >"$T/end.$1"		# as now(): net.sh
exit $rc
END
chmod 755 "$T/live"
live()
{
	rm -f "$T/up.$1"
	start "$1" sh -c '[ "${1%-reads}" = "$1" ] || exec >/dev/null
	    exec "$T/live" "$@"' - "$@"
}

up()
{
	for n_; do
		wait_for 60 test -e "$T/up.$n_" || {
			echo "session $n_ does not begin: $(cat "$T/$n_.log")"
			return 1
		}
	done
}

# lasted NAME START: what ssh said at its end, and when
lasted()
{
	d_=$((($(cat "$T/end.$1") - $2 + 50) / 100))
	note "$1: after $((d_ / 10)).$((d_ % 10)) s:" \
	    "$(tail -n 1 "$T/$1.log" | tr -d '\r')"
}

# ended NAME START BOUND: ssh gives up, and says that it failed
ended()
{
	ok "$1: ssh ends" wait_gone "$1" "$3" && lasted "$1" "$2"
	is "$rc" 255 "$1: with 255"
}

# rest: how many seconds a cut session may still take
rest()
{
	r_=$((240 - ($(now) - tc) / 1000))
	[ $r_ -gt 0 ] || r_=0
	echo $r_
}

# sessions LOG PATTERN N: at least N have ended there, says the log
sessions()
{
	[ "$(ends "$1" "$2" | wc -l)" -ge "$3" ]
}

ends()
{
	grep "session [0-9a-f]* $2.* up [0-9]* .* s: " "$T/$1.log"
}

# show LOG PATTERN: those, in seconds after the cut
show()
{
	ends "$1" "$2" | while read -r at_ line_; do
		note "$(($(date -d "$at_" +%s) - cut_at)) s:" \
		    "${line_#*session *session }"
	done
}

# ---- the parts: box behind the router, near beside the server

net_up
at node
sshd_start
BOX=$SSHD_PORT
at srv
sshd_start
NEAR=$SSHD_PORT
server --host 0.0.0.0 --port 8443 --patience 30
SRV=$srv4:8443
at node
SSHD_PORT=$BOX
agent box --patience 30
at srv
SSHD_PORT=$NEAR
agent near --spare 4 --patience 30

# ---- receivers that stop reading, and read on when $T/release is there

head -c 67108864 /dev/urandom >"$T/blob"
sum=$(sha256sum <"$T/blob")
cat >"$T/held" <<END
#!/bin/sh
# held TAG: stops, then reads all its input
T='$T'
END
cat >>"$T/held" <<'END'
touch "$T/held.$1"
perl -e 'select undef, undef, undef, 0.2 until -e $ARGV[0]' "$T/release"
exec sha256sum
END
cat >"$T/blurt" <<END
#!/bin/sh
# blurt TAG: sends the blob when a line has come, and leaves a mark when it
# begins and at the end
T='$T'
END
cat >>"$T/blurt" <<'END'
read -r _
touch "$T/begun.$1"
cat "$T/blob" && touch "$T/sent.$1"
END
cat >"$T/raw" <<'END'
#!/usr/bin/perl
# raw TAG ADDR PORT NODE: a client of its own, which reads only when told
use strict; use warnings; use IO::Socket::INET; use Digest::SHA;
my ($tag, $addr, $port, $node) = @ARGV;
my $s = IO::Socket::INET->new(PeerAddr => $addr, PeerPort => $port) or die;
syswrite $s, "MSSH/2 client $node\ngo\n";
my $l = '';
while ($l !~ /\n/) { sysread $s, $l, 1, length $l or die "end: $l" }
die $l unless $l =~ /^OK/;
open my $f, '>', "$ENV{T}/held.$tag"; close $f;
select undef, undef, undef, 0.2 until -e "$ENV{T}/release";
my $d = Digest::SHA->new(256);
while (1) {
	my $n = sysread $s, my $b, 65536;
	die "read: $!\n" unless defined $n;
	last unless $n;
	$d->add($b);
}
print $d->hexdigest, "  -\n";
END
chmod 755 "$T/held" "$T/blurt" "$T/raw"
CONNECT=60	# six logins at once, and a machine that has other work
export T SRV CONNECT
at srv
agent blurt --spare 2 --exec "$T/blurt \$MSSH_SESSION"
agent sink --exec "$T/held sink"
# Downwards: a raw client, mssh proxy, ssh.  Upwards: mssh proxy, ssh.
start raw "$T/raw" raw "$srv4" 8443 blurt
start down sh -c 'echo go | "$MSSH" proxy blurt --server "$SRV" | "$T/held" down'
start pshdown sh -c 'echo go | "$T/psh" near "$T/blurt pshdown" | "$T/held" pshdown'
start mshdown sh -c 'echo go | "$T/msh" near "$T/blurt mshdown" | "$T/held" mshdown'
start sinkup sh -c '"$MSSH" proxy sink --server "$SRV" <"$T/blob"'
start mshup sh -c '"$T/msh" near "$T/held mshup" <"$T/blob"'
for n in raw down pshdown mshdown sink mshup; do
	ok "$n: holds" wait_for 60 test -e "$T/held.$n"
done
# The receiver of a pipe holds before ssh has even connected.
for n in pshdown mshdown; do
	ok "$n: its sender has begun" wait_for 60 test -e "$T/begun.$n"
done
th=$(now)
held_enough()
{
	[ $(($(now) - th)) -ge $((HOLD * 1000)) ]
}

# ---- two cables are cut

trickle='exec perl -e "\$| = 1;
    select undef, undef, undef, 0.1 while print qq(x\n)"'
flood='exec cat /dev/zero'
at cli
live cut-client-msh-idle msh near 'sleep 1000'
live cut-client-psh-idle psh near 'sleep 1000'
live cut-client-msh-sends msh near 'cat >/dev/null' "$trickle"
live cut-client-psh-sends psh near 'cat >/dev/null' "$trickle"
live cut-client-msh-reads msh near "$trickle"
at srv
live cut-node-msh-idle msh box 'sleep 1000'
live cut-node-psh-idle psh box 'sleep 1000'
live cut-node-psh-sends psh box 'cat >/dev/null' "$trickle"
live cut-node-msh-reads msh box "$trickle"
cut=$(cd "$T" && echo cut-*.log | sed 's/\.log//g')
# shellcheck disable=SC2086
ok 'sessions through both cables' up $cut
at cli
live cut-client-psh-reads psh near "$flood"
live cut-client-msh-floods msh near 'cat >/dev/null' "$flood"
at srv
live cut-node-psh-floods psh box 'cat >/dev/null' "$flood"
floods='cut-client-psh-reads cut-client-msh-floods cut-node-psh-floods'
# shellcheck disable=SC2086
ok 'and some that are full' up $floods
at cli
start lost "$T/raw" lost "$srv4" 8443 blurt
ok 'and one that does not read' wait_for 60 test -e "$T/held.lost"
net_cut cli
net_cut node
tc=$(now)
cut_at=$(date +%s)

# ---- meanwhile, on this machine: killed parts

slow=$T/slow.log
mv "$T/server.log" "$slow"
far=$SRV
at here
sshd_start
server
agent here

pair()
{
	live msh msh here 'sleep 1000'
	live psh psh here 'sleep 1000'
	up msh psh
}

ok 'two sessions' pair
# shellcheck disable=SC2046
kill -9 $(tree "$(pid sshd)" | sed 1d)
t0=$(now)
note 'sshd killed'
ended msh "$t0" 60
ended psh "$t0" 60

ok 'two sessions' pair
kill -9 "$(pid agent-here)"
t0=$(now)
note 'agent killed'
ended msh "$t0" 60
ended psh "$t0" 60
wait_gone agent-here
agent here

ok 'two sessions' pair
kill -9 "$(pid server)"
t0=$(now)
note 'server killed'
ended msh "$t0" 60
ended psh "$t0" 60
wait_gone server
stop agent-here
is "$rc" 0 'SIGTERM: the agent exits with 0'

# ---- SIGHUP and SIGTERM

# Its successors have the same port, which nobody may take in between.
port=$(ports 1)
server --port "$port" --drain 30
agent here
fin="until [ -e $T/fin ]; do sleep 0.1; done; echo done"
live last msh here "$fin"
ok 'a session' up last
mark agent-here
kill -HUP "$(pid agent-here)"
ok 'SIGHUP: the agent redials' wait_log agent-here 'parked at'
mark server
ok 'SIGHUP: a login works' msh here true
ok 'SIGHUP: and is over' wait_log server ' closed by '
ok 'SIGHUP: the session goes on' not gone "$(pid last)"

mark agent-here
kill "$(pid server)"
ok 'SIGTERM: the server says that it stops' \
    wait_log server 'stopping: 1 session'
ok 'SIGTERM: it lets its agents go' \
    wait_log agent-here ' stops, next try '
code=0
greet here --server "$SRV" 2>"$T/err" || code=$?
is "$code" 3 'SIGTERM: it accepts nobody'
note "$(cat "$T/err")"
ok 'SIGTERM: the session goes on' not gone "$(pid last)"
touch "$T/fin"
ok 'SIGTERM: it may end in peace' wait_gone last 60
is "$rc $(tail -n 1 "$T/last.log")" '0 done' 'SIGTERM: with its own exit code'
t0=$(now)
ok 'SIGTERM: then the server ends' wait_gone server 60
note "after $(took "$t0") s"
is "$rc" 0 'SIGTERM: with 0'
ok 'SIGTERM: it says so' log_has server stopped

for drain in 2 0; do
	mark agent-here
	server --port "$port" --drain $drain
	ok "--drain $drain: the agent is back" \
	    wait_log agent-here 'parked at' 60
	live last msh here 'sleep 1000'
	ok "--drain $drain: a session" up last
	t0=$(now)
	kill "$(pid server)"
	ok "--drain $drain: the server ends" wait_gone server 60
	note "--drain $drain: ended after $(took "$t0") s"
	is "$rc" 0 "--drain $drain: with 0"
	ended last "$t0" 60
done
stop agent-here

# ---- those that did not read

ok "$HOLD seconds pass" wait_for $((HOLD + 60)) held_enough
for n in raw down pshdown mshdown sinkup mshup; do
	ok "$n: waits" not gone "$(pid $n)"
done
ok 'their senders had to wait as well' not ls "$T"/sent.*
touch "$T/release"
t0=$(now)
for n in raw down pshdown mshdown sinkup mshup; do
	ok "$n: ends" wait_gone $n 60
	is "$rc $(tail -n 1 "$T/$n.log")" "0 $sum" "$n: has got every byte"
done
note "the rest came in $(took "$t0") s"

# ---- what became of the cut sessions

SRV=$far
for n in $cut $floods; do
	ended "$n" "$tc" "$(rest)"
done
ok 'the server has ended those of the vanished client' \
    wait_for "$(rest)" sessions slow 'near from 203.0.113.2' 7
show slow 'near from 203.0.113.2'
ok 'and the one that did not read before it vanished' \
    wait_for "$(rest)" sessions slow 'blurt from 203.0.113.2' 1
show slow 'blurt from 203.0.113.2'
stop lost
ok 'and those of the vanished node' \
    wait_for "$(rest)" sessions slow 'box from' 5
show slow 'box from'
ok 'the node behind the cut has ended its own' \
    wait_for "$(rest)" sessions agent-box 'box from' 5
show agent-box 'box from'
note "all cut sessions are gone everywhere: $(took "$tc") s after the cut"
finish
