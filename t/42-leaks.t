#!/bin/sh
# 42-leaks.t - sessions of every outcome, 2,000 of them: afterwards server and
# agents hold as many descriptors and as much memory as before.
# shellcheck disable=SC1091,SC2154	# rc: lib.sh
. t/lib.sh

ROUNDS=${ROUNDS:-10}	# of a hundred sessions twice
ROOM=300		# kB
# Under ASan what was freed stays in quarantine; its own search for leaks at
# exit is the sharper one anyway.
! grep -q __asan_init "$MSSH" || ROOM=2048

# many N STEP...: N conversations, one after the other.
many() {
	n_=$1
	shift
	count=$((count + n_))
	"$T/peer" -n "$n_" talk "$SRV" "$@" >"$T/many.out" 2>&1 || {
		failed="$failed
$*: $(cat "$T/many.out")"
		return 1
	}
}

# fds NAME: its descriptors, but for pipes: up to 64 of those are kept idle on
# purpose, as many as were ever needed at one time.
fds() {
	find "/proc/$(pid "$1")/fd" -mindepth 1 ! -lname 'pipe:*' | wc -l |
	    tr -d ' '
}

# few_pipes NAME: a leak would show as hundreds.
few_pipes() {
	pipes_=$(find "/proc/$(pid "$1")/fd" -lname 'pipe:*' | wc -l)
	echo "$pipes_ ends of pipes"
	[ "$pipes_" -le 24 ]
}

# A node that takes a client and dies in the session, N times, or while it
# is being paired (HOW: fin, rst).
mortal() {
	start "mortal$3" "$T/peer" -n "$1" talk "$SRV" \
	    'send=MSSH/2 agent mortal run=77 slot=0\n' line=OK line=GO \
	    "$2" wait=1 "$3"
	many "$1" 'send=MSSH/2 client mortal wait=60\necho\nabc' "$4" gone
	wait_gone "mortal$3"
}

# round: about two hundred sessions.
round() {
	# what goes well
	many 20 'send=MSSH/2 client web\necho\nhello' line=OK expect=hello \
	    fin eof
	many 10 'send=CLIENT web\necho\nhello' line=OK expect=hello fin eof
	many 5 'send=MSSH/2 client web\necho\n' line=OK send=x expect=x \
	    bytes=200000 same=200000 fin eof
	many 5 'send=MSSH/2 client exec\necho\nhello' line=OK expect=hello \
	    fin eof
	# half-closed, from either end
	many 10 'send=MSSH/2 client web\nlate\n' line=OK line=bye eof send=x \
	    fin
	many 10 'send=MSSH/2 client web\nsink\nabc' fin line=OK 'line=3 b' eof
	# resets, from either end, and one with bytes stuck in the middle
	many 10 'send=MSSH/2 client web\nhold\n' line=OK rst
	many 10 'send=MSSH/2 client web\nrst\n' line=OK reset
	many 5 'send=MSSH/2 client web\nxfer 30000000 0\n' line=OK wait=30 rst
	many 5 'send=MSSH/2 client exec\nhold\n' line=OK rst
	# the client leaves: before its first byte, when paired, in the queue
	many 10 'send=MSSH/2 client web\n'
	many 10 'send=MSSH/2 client web\n' rst
	many 5 'send=CLIENT web\n' line=OK
	many 10 'send=MSSH/2 client web\nx' rst
	many 5 'send=MSSH/2 client web\nhold\n' fin
	many 10 'send=MSSH/2 client nobody wait=60\n' wait=2
	many 10 'send=MSSH/2 client nobody wait=60\n' wait=2 rst
	# nobody is there
	many 10 'send=MSSH/2 client nobody\nx' 'line=ERROR offline' gone
	many 10 'send=MSSH/2 client shut\nx' 'line=ERROR unreachable' gone
	# strangers
	many 10 'send=what?\n' 'line=ERROR syntax' eof
	many 5 'send=\x16\x03\x01\x02\x00\x01' gone
	many 5 'send=GET / HTTP/1.0\r\n\r\n' 'line=HTTP/1.1 426' gone
	many 5 'send=SSH-2.0-x\r\n' line=SSH-2.0 gone
	many 5 rst
	many 5 'send=MSSH/2 age' rst
	# nodes come and go, and go in the wrong moment
	many 5 'send=MSSH/2 agent brief run=5 slot=1\n' line=OK 'send=PING\n' \
	    line=PONG rst
	many 5 'send=AGENT old\n' line=OK fin gone
	mortal 5 'send=READY\n' rst line=OK
	mortal 5 'send=READY\nbye\n' fin line=OK
	mortal 5 'send=ERROR unreachable no\n' fin 'line=ERROR unreach'
}

# killed: a real agent is killed in mid-session; its successor takes over.
killed() {
	agent doomed --ssh-port "$SVC"
	start inside "$T/peer" talk "$SRV" \
	    'send=MSSH/2 client doomed\nhold\n' line=OK tell=inside gone
	wait_log inside inside || return 1
	stop agent-doomed KILL
	wait_gone inside && [ "$rc" = 0 ]
	count=$((count + 1))
}

# settled NAME FDS: all its sessions are over: the descriptors are as before.
settled() {
	wait_for 60 has_fds "$1" "$2" && return 0
	echo "$2 before, $(fds "$1") now"
	ls -l "/proc/$(pid "$1")/fd"
	return 1
}

has_fds() {
	[ "$(fds "$1")" = "$2" ]
}

# quiet: nothing is under way in the server any more: what the agents park is
# parked, 4 and 1 and 1, and a number that stays for a second is taken for the
# rest.
quiet() {
	[ "$("$MSSH" list --server "$SRV" | awk -F '\t' '
	    { n += $6; m += $7 + $8 } END { print n, m }')" = '6 0' ] || return
	a_=$(fds server)
	sleep 1.5
	[ "$(fds server)" = "$a_" ]
}

# no_fatter NAME KB
no_fatter() {
	now_=$(rss "$1")
	echo "$2 kB before, $now_ kB now"
	[ $((now_ - $2)) -le "$ROOM" ]
}

service

server
agent web --ssh-port "$SVC" --spare 4
agent exec --exec "exec $T/peer stdio"
agent shut --ssh-port "$(free_port)"

# The warm-up brings what is kept on purpose: idle pipes, the tables' room.
count=0 failed=
round
ok 'all outcomes are what they should be' test -z "$failed"
[ -z "$failed" ] || note "$failed"
"$T/peer" xfer "$SRV" web 20000000
round
ok 'warm: the server comes to rest' wait_for 60 quiet
fds_server=$(fds server) rss_server=$(rss server)
fds_web=$(fds agent-web) rss_web=$(rss agent-web)
fds_exec=$(fds agent-exec) rss_exec=$(rss agent-exec)
note "warm: server $fds_server descriptors, $rss_server kB;" \
    "agent $fds_web, $rss_web kB"

count=0 failed=
i=0
while [ $i -lt "$ROUNDS" ]; do
	round
	i=$((i + 1))
	[ $((i % 4)) = 0 ] && killed
done
is "$failed" '' "$count sessions, each with its outcome"
ok "there were 2,000" test "$count" -ge $((ROUNDS * 200))

ok 'server: descriptors are as before' settled server "$fds_server"
ok 'agent web: descriptors are as before' settled agent-web "$fds_web"
ok 'agent exec: descriptors are as before' settled agent-exec "$fds_exec"
for a in server agent-web agent-exec; do
	ok "$a: few idle pipes" few_pipes "$a"
done
ok 'server: memory is as before' no_fatter server "$rss_server"
ok 'agent web: memory is as before' no_fatter agent-web "$rss_web"
ok 'agent exec: memory is as before' no_fatter agent-exec "$rss_exec"
note "after $count: server $(fds server) descriptors, $(rss server) kB;" \
    "agent $(fds agent-web), $(rss agent-web) kB"
ok 'a session after all this' many 1 \
    'send=MSSH/2 client web\necho\nhello' line=OK expect=hello fin eof

for a in web exec shut; do
	stop "agent-$a"
	is "$rc" 0 "agent $a ends with 0"
done
stop server
is "$rc" 0 'the server ends with 0'

# Keys that are gone, and that nobody holds, are freed: 40,000 that took 5 MB.
# ring N: 400 other keys
ring() {
	perl -e 'printf "agent n%d k%d %042d%s\n", $_, $_, $_ + 400 * $ARGV[0],
	    "A" for 1 .. 400' "$1" >"$T/keys"
	chmod 600 "$T/keys"
	mark server
	kill -HUP "$(pid server)"
	wait_log server '400 keys read' || failed="$failed $1"
}
(umask 077 && echo "agent a a $(printf '%043d' 0)" >"$T/keys")
server --keys "$T/keys"
failed=
i=0
while [ $i -lt 120 ]; do
	ring $i
	i=$((i + 1))
	[ $i -ne 20 ] || keys_rss=$(rss server)
done
is "$failed" '' 'keys are read 120 times'
ok 'none of the old ones stays' no_fatter server "$keys_rss"
stop server
finish
