#!/bin/sh
# 40-relay.t - every byte arrives, once, in order, both ways, and ends where
# it ended: through splice(2), through the portable relay, through stdio and
# --exec, with urgent data, and with first bytes that overtake the answer.
# shellcheck disable=SC1091,SC2154	# rc: lib.sh
. t/lib.sh

GB=1000000000
tree=$MSSH

# shellcheck disable=SC2086	# the flags are words
${CC:-cc} -std=c99 ${CFLAGS:--O2} ${CPPFLAGS:-} -DNO_SPLICE -o "$T/portable" \
    mssh.c reactor.c ${LDFLAGS:-} || bail 'no build with -DNO_SPLICE'

# call NODE STEP...: a version 2 client's conversation.
call() {
	hello_="send=MSSH/2 client $1\\n"
	shift
	"$T/peer" talk "$SRV" "$hello_" "$@"
}

begin() {
	began=$(date +%s)
	cpu0=$(cpu server)
	cpu1=$(cpu agent-web)
}

# used: what it took since begin.
used() {
	echo "$(($(date +%s) - began)) s, CPU: server $(($(cpu server) -
	    cpu0)) ms, agent $(($(cpu agent-web) - cpu1)) ms"
}

# idle: neither works while nothing happens.
idle() {
	begin
	sleep 2
	used
	[ $(($(cpu server) - cpu0)) -lt 200 ] &&
	    [ $(($(cpu agent-web) - cpu1)) -lt 200 ]
}

dead_talk() {
	call dead 'send=echo\nSSH-2.0-x\r\n' line=OK 'expect=SSH-2.0-x\r\n' \
	    send=after expect=after fin eof
}

# dead_first HOW: of two parked connections the first fails.
dead_first() {
	start pair "$T/peer" pair "$SRV" dead "$1"
	wait_log pair parked && dead_talk && wait_gone pair && [ "$rc" = 0 ]
}

half_close() {
	ok "$1: the client's end of file reaches the node, the answer returns" \
	    call web 'send=sink\n' line=OK bytes=300000 fin \
	    'line=300000 bytes' eof
	mark svc
	ok "$1: the node's end of file reaches the client" \
	    call web 'send=late\n' line=OK line=bye eof \
	    'send=still here' fin
	ok "$1: what the client says after it arrives" \
	    wait_log svc 'the end: still here'
	ok "$1: the client resets its connection" \
	    call web 'send=late\n' line=OK line=bye rst
	ok "$1: that is no end of file" wait_log svc 'a reset: '
	ok "$1: a reset by the node reaches the client" \
	    call web 'send=rst\n' line=OK reset
}

gigabyte() {
	begin
	ok "$1: 1 GB each way at once" "$T/peer" xfer "$SRV" web $GB
	note "$1: $(used)"
}

both_here() {
	wait_log held here && wait_log held2 here
}

urgent() {
	begin
	ok "$1: an urgent byte costs no other (20 rounds)" \
	    "$T/peer" -n 20 xfer "$SRV" web 3145928 3145728
	ok "$1: nor do 60 of them, each way" \
	    "$T/peer" xfer "$SRV" web 60000000 999983
	ok "$1: nor does one every 20 kB" \
	    "$T/peer" xfer "$SRV" web 4000000 20011
	note "$1: $(used)"
	start held "$T/peer" talk "$SRV" \
	    'send=MSSH/2 client web\necho\n' line=OK send=a oob=! send=b \
	    until=b tell=here wait=15000
	start held2 "$T/peer" talk "$SRV" \
	    'send=MSSH/2 client web\nurgent\n' line=OK until=b tell=here wait=15000
	ok "$1: urgent bytes in sessions that go on" both_here
	ok "$1: they make nothing spin" idle
	stop held
	stop held2
}

first_bytes() {
	ok 'first bytes behind the hello arrive once' \
	    call web 'send=echo\nSSH-2.0-test\r\n' line=OK \
	    'expect=SSH-2.0-test\r\n' quiet=300 send=more expect=more fin eof
	for n in 1 4090 4091 4092 8192 200000; do
		ok "first bytes: $((n + 5)) of them" \
		    call web 'send=echo\n' bytes=$n line=OK same=$n \
		    quiet=50 fin eof
	done
	ok 'first bytes, and the end of file right behind' \
	    call web 'send=sink\nabc' fin line=OK 'line=3 bytes' eof
	ok 'first bytes byte by byte' \
	    call web 'drip=echo\nSSH-2.0-test\r\n' line=OK \
	    'expect=SSH-2.0-test\r\n' quiet=300 fin eof
	ok 'no first bytes: OK all the same, after a moment' \
	    call web line=OK 'send=echo\nabc' expect=abc fin eof
	ok 'version 1: OK, although there are none' "$T/peer" talk "$SRV" \
	    'send=CLIENT web\n' line=OK 'send=echo\nabc' expect=abc fin eof
	for how in rst fin mute; do
		ok "first bytes when the first parked connection fails ($how)" \
		    dead_first $how
	done
}

hellos() {
	for hello in 'MSSH/2 client web\n' 'MSSH/2 client web\r\n' \
	    '  MSSH/2   client  WEB  wait=5 x=y \r\n' 'CLIENT web\n' \
	    'CLIENT web\r\n'; do
		ok "hello in one piece: $hello" "$T/peer" talk "$SRV" \
		    "send=$hello" 'send=echo\nabc' line=OK expect=abc fin eof
		ok "hello byte by byte: $hello" "$T/peer" talk "$SRV" \
		    "drip=$hello" 'send=echo\nabc' line=OK expect=abc fin eof
	done
	ok 'a hello of 512 bytes and 20 kB behind it' long_hello
	ok 'an agent says hello byte by byte' "$T/peer" talk "$SRV" \
	    'drip=MSSH/2 agent drip run=1 slot=0\r\n' line=OK \
	    'drip=PING\r\n' line=PONG
}

# A hello of exactly the longest length with everything else behind it, all
# of it there before the server looks.
long_hello() {
	kill -s STOP "$(pid server)"
	start long "$T/peer" talk "$SRV" \
	    "send=MSSH/2 client web x=$(printf '%0491d' 0)\\necho\\n" \
	    bytes=20000 tell=sent line=OK same=20000 fin eof
	wait_log long sent
	kill -s CONT "$(pid server)"
	wait_gone long && cat "$T/long.log" && [ "$rc" = 0 ]
}

# chain BINARY
chain() {
	MSSH=$1
	server
	agent web --ssh-port "$SVC"
}

unchain() {
	stop agent-web
	is "$rc" 0 "$1: the agent ends with 0"
	stop server
	is "$rc" 0 "$1: the server ends with 0"
}

service

chain "$tree"
note "$("$MSSH" --version | tr '\n' ' ')"
half_close relay
gigabyte relay
urgent relay
first_bytes
hellos
ok 'stdio: 300 MB each way through mssh proxy' \
    "$T/peer" pipe 300000000 "$MSSH" proxy web --server "$SRV"
agent exec --exec "exec $T/peer stdio"
ok '--exec: 1 GB each way' "$T/peer" xfer "$SRV" exec $GB
ok '--exec: half-close' call exec 'send=sink\n' line=OK bytes=300000 fin \
    'line=300000 bytes' eof
ok '--exec and stdio: 100 MB each way' \
    "$T/peer" pipe 100000000 "$MSSH" proxy exec --server "$SRV"
stop agent-exec
unchain relay

chain "$T/portable"
is "$("$MSSH" --version | grep -c read/write)" 1 'portable: it is that build'
half_close portable
gigabyte portable
urgent portable
ok 'portable stdio: 300 MB each way through mssh proxy' \
    "$T/peer" pipe 300000000 "$MSSH" proxy web --server "$SRV"
unchain portable
finish
