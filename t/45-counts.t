#!/bin/sh
# 45-counts.t - what a message, a session and a parked agent cost, counted: in
# system calls, descriptors, bytes and instructions, whatever else the machine
# does.  A gain that gets lost fails here.
# shellcheck disable=SC2016,SC2154	# eval; rc: lib.sh
t/need strace valgrind perl ps faketime || exit 1
# shellcheck source=t/lib.sh
. t/lib.sh

INSTRUCTIONS=34200	# a session; gcc 12 -Os, x86_64, Debian 12's libc

"${CC:-cc}" -O2 -o "$T/load" t/bench/load.c || bail 'load.c does not compile'

# counted cmd...: runs cmd while strace(1) counts the server's system calls.
counted() {
	start strace strace -c -o "$T/calls" -p "$(pid server)"
	wait_for 60 attached || return 1
	"$@" >"$T/said"
	cat "$T/said"
	stop strace INT
	sed -n 3,30p "$T/calls"
}

attached() {
	grep -q "TracerPid:.*[1-9]" "/proc/$(pid server)/status"
}

# calls NAME...: how many of those there were; no name: all.
calls() {
	awk -v want=" $* " '$4 ~ /^[0-9]+$/ && $NF != "total" &&
	    (want == "  " || index(want, " " $NF " ")) { n += $4 }
	    END { print n + 0 }' "$T/calls"
}

# at_most A B X: A / B is at most X.
at_most() {
	awk -v a="$1" -v b="$2" -v x="$3" 'BEGIN {
	    printf "%.2f (%s)\n", a / b, x; exit !(b > 0 && a / b <= x) }'
}

server
PORT=${SRV##*:}
ok 'messages of 64 bytes, one stream' counted "$T/load" pong "mssh:$PORT" \
    count=2000 s=60
note "$(at_most "$(calls)" "$(calls write)" 3.1) system calls a message"
ok 'a message takes 3 system calls: wait, read, write' \
    at_most "$(calls)" "$(calls write)" 3.3

ok 'sessions, one after the other' counted "$T/load" rate "mssh:$PORT" \
    n=1 count=500 s=60
n=$(sed -n 's/.* all=\([0-9]*\).*/\1/p' "$T/said")
note "$n sessions: $(at_most "$(calls)" "$n" 30) system calls each"
ok 'a session and its parking take 30 system calls at most' \
    at_most "$(calls)" "$n" 30
# Those whose number no load changes: how often it waits is another matter.
fixed=$(calls recvfrom sendto shutdown close epoll_ctl)
note "$(at_most "$fixed" "$n" 16.5) that neither wait nor relay"
ok '16 of them neither wait nor relay' at_most "$fixed" "$n" 16.5
ok 'two of them epoll_ctl, one for each connection' \
    at_most "$(calls epoll_ctl)" "$n" 2.1

# ---- descriptors and bytes

fds() {
	find "/proc/$(pid server)/fd" -mindepth 1 | wc -l | tr -d ' '
}
stop server
server
before=$(fds)
start idle "$T/load" idle "mssh:${SRV##*:}" n=200
wait_log idle open 60
is $(($(fds) - before)) 400 '200 idle sessions hold 400 descriptors'
stop server
is "$(grep -c ' session .* the server stopped' "$T/server.log")" 200 \
    'it stops: no line about a session is lost'
stop idle

cat >"$T/size.c" <<END
#define main mssh_main
#include "$PWD/mssh.c"
#undef main
int
main(void)
{
	printf("%zu %zu %zu\n", sizeof(struct conn), sizeof(struct relay_end),
	    sizeof(struct node));
	return 0;
}
END
"${CC:-cc}" -w -I. -o "$T/size" "$T/size.c" reactor.c || bail 'no sizes'
is "$("$T/size")" '120 96 80' \
    'bytes of a connection, of its half of a session, and of a node'

# ---- instructions

# instructions N: sets took to those of the server from its start to its end,
# with N sessions.
instructions() {
	cat >"$T/grind" <<-END
	#!/bin/sh
	exec valgrind -q --tool=callgrind --callgrind-out-file="$T/out.$1" \\
	    "$T/open" "\$@"
	END
	chmod 755 "$T/grind"
	MSSH=$T/grind
	server
	MSSH=$tree
	# with one alone the node would now and then be offline in between
	agent web --spare 2
	"$T/peer" -n "$1" talk "$SRV" 'send=MSSH/2 client web\necho\nx' \
	    line=OK expect=x fin eof || bail 'a session failed'
	stop agent-web >/dev/null
	stop server >/dev/null
	took=$(sed -n 's/^summary: //p; s/^totals: //p' "$T/out.$1" | sed q)
}
tree=$MSSH
# the sandbox would not let valgrind work
"${CC:-cc}" -Os -fno-asynchronous-unwind-tables -DNO_SANDBOX -o "$T/open" \
    mssh.c reactor.c || bail 'no build without sandbox'
service
SSHD_PORT=$SVC
near() {
	[ $((each * 10)) -le $((INSTRUCTIONS * 11)) ] &&
	    [ $((each * 11)) -ge $((INSTRUCTIONS * 10)) ]
}
# Up to 100, since more in a second are not logged one by one.  A busy machine
# adds wakeups, so one of three may be it.
for _ in 1 2 3; do
	instructions 15
	few=$took
	instructions 95
	each=$(((took - few) / 80))
	note "$each instructions a session ($INSTRUCTIONS)"
	near && break
done
if [ "$("${CC:-cc}" -dumpmachine)$("${CC:-cc}" -dumpversion)" = \
    x86_64-linux-gnu12 ]; then	# another compiler counts otherwise
	ok 'instructions a session are within 10 % of what they were' near
fi
# ---- a clock beyond 2038

cat >"$T/later" <<END
#!/bin/sh
exec faketime '2040-01-01 00:00:00' strace -D -e trace=timerfd_settime \\
    -o "$T/settime" "$tree" "\$@"
END
chmod 755 "$T/later"
MSSH=$T/later
server
MSSH=$tree
agent late
ok 'in 2040: a session' "$T/peer" talk "$SRV" 'send=MSSH/2 client late\necho\nx' \
    line=OK expect=x fin eof
ok 'its log says so' log_has server '2040-01-01T00:00'
stop agent-late
stop server
# again only when somebody sets the clock
ok 'its timer is set, and not all the time' eval \
    'n=$(grep -c settime "$T/settime"); [ "$n" -ge 1 ] && [ "$n" -lt 5 ]'
finish
