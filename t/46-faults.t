#!/bin/sh
# 46-faults.t - each system call that a server or an agent makes fails once.
# At its start the program says what is wrong and ends, or it works all the
# same.  Later it goes on: the next session is served, no byte is ever wrong,
# nobody spins, and no descriptor stays behind.
#
# A first run of a scene, under strace(1), finds the calls; then the scene is
# played again with one failure at a time, in several worlds at once: each is
# a server, an agent for a service, and one with --exec that looks a name up.
# shellcheck disable=SC2154	# rc: lib.sh
t/need strace perl || exit 1
# shellcheck source=t/lib.sh
. t/lib.sh

WORLDS=${WORLDS:-9}
hz=$(getconf CLK_TCK)

# Traced from its start to its end, nobody can look for leaks as well.
asan=
if grep -q __asan_init "$MSSH"; then
	asan=1
	ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0
fi

# ---- which calls fail, where, and how

# pick HOW MAX TRACE: prints CALL:ERROR:POSITION:COUNT for each failure.  Of
# each call, MAX times or so: the first of each shape (what stands in it but
# for numbers and bytes), one in the middle and one towards the end, with its
# errors in turn.  HOW: run, all of the trace; start, what main() does before
# its loop, and the pipes of its relay.
#
# A call that strace(1) lets fail was not made.  So there is no close(2),
# which always closes; no EAGAIN for what is readable or writable, since
# the kernel would owe us an edge; no SO_LINGER, which makes a cut differ
# from an end; of shutdown(2) only the one of a refusal, as it fails for a
# connection alone that is dead already; and nothing on the pipe that carries
# our signals, which nobody else has.
cat >"$T/pick" <<'END'
my ($how, $max, $file) = @ARGV;
my %errors = (
	accept4 => "EMFILE ECONNABORTED ENFILE ENOMEM EINTR",
	bind => "EADDRINUSE EACCES",
	clone => "EAGAIN ENOMEM",
	clone3 => "EAGAIN ENOMEM",
	connect => "ETIMEDOUT ECONNREFUSED ENETUNREACH EADDRNOTAVAIL",
	epoll_create1 => "EMFILE ENOMEM",
	epoll_ctl => "ENOMEM ENOSPC",
	epoll_pwait => "EINTR",
	epoll_wait => "EINTR",
	fcntl => "EPERM",
	getrandom => "EINTR",
	getsockname => "ENOBUFS",
	getsockopt => "ENOBUFS",
	kill => "ESRCH",
	listen => "EADDRINUSE",
	openat => "EMFILE ENOENT",
	pipe2 => "EMFILE ENFILE",
	poll => "ENOMEM EINTR",
	ppoll => "ENOMEM EINTR",
	prlimit64 => "EPERM",
	read => "EINTR ECONNRESET ETIMEDOUT",
	recvfrom => "EINTR ECONNRESET ETIMEDOUT ENOMEM",
	sendto => "EPIPE ECONNRESET EAGAIN EINTR ENOBUFS",
	setsockopt => "ENOBUFS",
	shutdown => "ENOTCONN",
	socket => "EMFILE ENFILE ENOBUFS",
	splice => "EINTR ECONNRESET EPIPE ENOMEM EINVAL",
	timerfd_create => "EMFILE ENODEV",
	wait4 => "EINTR",
	write => "EINTR EPIPE ECONNRESET",
	map { $_ => "" } qw(close execve exit_group restart_syscall
	    rt_sigaction rt_sigprocmask rt_sigreturn set_robust_list),
);
my (%n, %at, %all, %seen);
my $on = $how eq "run";
open my $f, "<", $file or die "$file: $!\n";
while (<$f>) {
	if ($how eq "start") {
		$on = 1 if /^getrandom\(.*, 16, /;
		last if /^--- SIGTERM/;
		$on = 0 if /^epoll_p?wait/;
	}
	next unless /^(\w+)\((.*)/;
	my ($call, $shape) = ($1, $2);
	$n{$call}++;
	my $on = $on || /^pipe2|F_SETPIPE_SZ/;
	next if !$on || /^(?:read|write)\(\d+, "\\\d+", 1\)/;
	next if /SO_LINGER/ || $how eq "run" && /F_SETPIPE_SZ/;
	$shape =~ s/ = \S+( E[A-Z]+)?( \(.*\))?$//;
	$shape =~ s/"([A-Z]{2,}|)(?:[^"\\]|\\.)*"(?:\.\.\.)?/$1/g;
	$shape =~ s/(?<!^)\b(?:0x[0-9a-f]+|\d+)\b/#/g;
	$shape =~ s/^\d+/#/ if $call ne "epoll_ctl";
	$shape = "" if $call =~ /^epoll_p?wait/;
	push @{$all{$call}}, $n{$call};
	push @{$at{$call}}, $n{$call} if !$seen{"$call $shape"}++;
}
for my $call (sort keys %all) {
	my @e = split " ", $errors{$call} // "ENOMEM" or next;
	my @a = @{$all{$call}};
	my @p = @{$at{$call}};
	splice @e, $max if $max < 3;
	my $most = $max > @e ? $max : @e;
	splice @p, $most - 2 if @p > $most - 2 && $most > 2;
	push @p, $a[@a / 2], $a[@a > 20 ? @a * .7 : -1];
	my %had;
	@p = grep { !$had{$_}++ } @p;
	splice @p, $most;
	@p = 1 if $call eq "shutdown";
	push @p, $a[@p * @a * .7 / @e] while @p < @e;
	print "$call:$e[$_ % @e]:$p[$_]:$n{$call}\n" for 0 .. $#p;
}
END

# picked HOW ROLE MAX: the same from ROLE's trace into $T/ROLE.faults.
picked() {
	perl "$T/pick" "$1" "$3" "$T/$2.trace" >"$T/$2.faults"
	if [ -n "$asan" ]; then
		grep -v -e ^brk -e ^m[ru]*n*e*map "$T/$2.faults" >"$T/f"
		mv "$T/f" "$T/$2.faults"
	fi
	[ -s "$T/$2.faults" ] || bail "no calls of $2"
}

# take FAULT: sets call, err, at and of.
take() {
	call=${1%%:*}
	set -- "${1#*:}"
	err=${1%%:*}
	at=${1#*:}
	of=${at#*:}
	at=${at%:*}
}

# how: the same as strace(1) wants it; the kernel's brk(2) knows no errno.
how() {
	if [ "$call" = brk ]; then
		echo brk:retval=0
	else
		echo "$call:error=$err"
	fi
}

# complain TEXT: the failure that take() took was not borne.
complain() {
	echo "$err at $at of $of: $*" >>"$T/bad.$role.$call"
}

# hits I: writes down that it was injected, and how often.
hits() {
	echo "$err at $at of $of ($(grep -c INJECTED "$T/hits$1") hit)" \
	    >>"$T/done.$role.$call"
}

survived() {
	[ ! -s "$T/bad.$1" ] || cat "$T/bad.$1"
	[ ! -s "$T/bad.$1" ] && grep -v '(0 hit)' "$T/done.$1"
}

# judge ROLE: one result for each call.
judge() {
	for call in $(sed 's/:.*//' "$T/$1.faults" | uniq); do
		note "$1, $call: $(tr '\n' ',' <"$T/done.$1.$call" |
		    sed 's/,$//; s/,/, /g')"
		ok "$1: $call fails" survived "$1.$call"
	done
}

# in_turn CMD ROLE: runs CMD ROLE FAULT... for as many faults as there are
# worlds, until all have had their turn.
in_turn() {
	some=''
	# shellcheck disable=SC2013,SC2086	# words
	for fault in $(cat "$T/$2.faults"); do
		some="$some $fault"
		set -- "$1" "$2" $some
		if [ $# -eq $((WORLDS + 2)) ]; then
			"$@"
			some=''
		fi
	done
	# shellcheck disable=SC2086
	[ -z "$some" ] || "$1" "$2" $some
	judge "$2"
}

# ---- worlds

# scene ROLE ADDR PID: sessions small and large, urgent, of version 1, cut off;
# for the server a refusal, a stranger, a parked connection that pings; for the
# agent with --exec a name looked up again.
cat >"$T/scene" <<'END'
#!/bin/sh
to=$2
talk() {
	"$T/peer" -t 8 talk "$to" "$@"
}
xfer() {
	"$T/peer" -t 8 xfer "$to" "$@"
}
case $1 in
server)
	talk 'send=MSSH/2 client none\nx' 'line=ERROR offline' gone
	talk 'send=MSSH/2 agent idle run=1\n' line=OK 'send=PING\n' \
	    line=PONG 'send=PING\n' line=PONG &
	talk 'send=what?\n' 'line=ERROR syntax' gone ;;
exec)
	kill -HUP "$3"
	xfer 'job wait=5' 1000
	xfer 'job wait=5' 100000
	talk 'send=MSSH/2 client job\nhold\n' line=OK rst
	exit ;;
esac
xfer 'web wait=5' 1000
xfer 'web wait=5' 1500000
xfer 'web wait=5' 100000 9000
talk 'send=CLIENT web\necho\nhello' line=OK expect=hello fin eof
talk 'send=MSSH/2 client web\nxfer 3000000 0\n' line=OK wait=20 rst
wait
END

# after ROLE ADDR: all of these have to work.
cat >"$T/after" <<'END'
#!/bin/sh
set -e
case $1 in
exec)
	exec "$T/peer" -t 60 xfer "$2" 'job wait=50' 1000 ;;
esac
"$T/peer" -t 60 xfer "$2" 'web wait=50' 50000
[ "$1" = server ] || exit 0
"$T/peer" -t 60 xfer "$2" 'job wait=50' 1000
"$T/peer" -t 60 talk "$2" 'send=MSSH/2 client none\nx' \
    'line=ERROR offline' gone
"$T/peer" -t 60 talk "$2" 'send=MSSH/2 agent idle run=1\n' line=OK \
    'send=PING\n' line=PONG 'send=PING\n' line=PONG
END
chmod 755 "$T/scene" "$T/after"

# world I: a server, an agent for a service, an agent with --exec.
world() {
	start "svc$1" "$T/peer" serve
	start "server$1" "$MSSH" server --host 127.0.0.1 --port 0
	wait_log "svc$1" 'listening on ' || bail 'no service'
	wait_log "server$1" 'listening on ' || bail 'no server'
	sed -n 's/.*listening on //p' "$T/server$1.log" >"$T/addr$1"
	start "agent$1" "$MSSH" agent web --server "$(addr "$1")" \
	    --ssh-port "$(sed 's/.* //' "$T/svc$1.log")"
	start "exec$1" "$MSSH" agent job --exec "exec '$T/peer' stdio" \
	    --server "localhost:$(sed 's/.*://' "$T/addr$1")"
	wait_log "agent$1" 'parked at' || bail 'no agent'
	wait_log "exec$1" 'parked at' || bail 'no agent with --exec'
}

addr() {
	read -r addr_ <"$T/addr$1"
	echo "$addr_"
}

# all_of WORLD...: sets pids to those of their processes.
all_of() {
	pids=''
	for w; do
		for r in server agent exec; do
			read -r pid_ <"$T/$r$w.pid"
			pids="$pids $pid_"
		done
	done
}

# fds PID...: prints each and how many descriptors it has, but for the pipes
# of those that relay, some of which are kept idle.
fds() {
	# shellcheck disable=SC2046	# words
	find $(printf '/proc/%s/fd ' "$@") -mindepth 1 -printf '%h/%l\n' \
	    2>/dev/null | awk -F/ -v exact=" $(cat "$T"/exec?.pid | tr '\n' \
	    ' ')" '$5 !~ /^pipe:/ || index(exact, " " $3 " ") { n[$3]++ }
	    END { for (p in n) print p, n[p] }' | sort
}

# as_before PID...
as_before() {
	fds "$@" >"$T/fds.now"
	! comm -13 "$T/fds" "$T/fds.now" | grep .
}

traced() {
	grep -q "TracerPid:.*[1-9]" "/proc/$(pid "$1")/status"
}

# play CMD ROLE WORLD...: CMD in all these worlds at once, to their ends.
play() {
	cmd=$1 as=$2
	shift 2
	for w; do
		start "$cmd$w" "$T/$cmd" "$as" "$(addr "$w")" \
		    "$(pid "exec$w")"
	done
	for w; do
		wait "$(pid "$cmd$w")"
		echo $? >"$T/$cmd$w.rc"
	done
}

# burnt SECONDS PID...: prints those that used more than a fifth of them.
burnt() {
	time_=$1
	shift
	# shellcheck disable=SC2002,SC2046	# one may be gone; words
	for k in 1 2; do
		cat $(printf '/proc/%s/stat ' "$@") 2>/dev/null |
		    awk '{ pid = $1; sub(/.*\) /, "")
			print pid, $12 + $13 }'
		[ $k = 2 ] || sleep "$time_"
	done | awk -v most="$time_" -v hz="$hz" '
	    $1 in was && $2 - was[$1] > most * hz / 5 { print $1 }
	    { was[$1] = $2 }'
}

# check I: is the world as it was?  Where not, another one takes its place.
check() {
	said=''
	for r in server agent exec; do
		p=$(pid "$r$1")
		if gone "$p"; then
			wait_gone "$r$1"
			said="$said $r ended with $rc:
$(tail -n 2 "$T/$r$1.log")"
			continue
		fi
		# shellcheck disable=SC2086	# words
		has "$p" $spins && said="$said $r spins"
		as_before "$p" >/dev/null || said="$said $r has other
descriptors: $(grep "^$p " "$T/fds" "$T/fds.now")"
	done
	[ "$(cat "$T/after$1.rc")" = 0 ] ||
	    said="$said no session: $(cat "$T/after$1.log")"
	said=$said$(wrong_bytes "$1")
	[ -n "$said" ] || return
	complain "$said"
	for r in svc server agent exec; do
		gone "$(pid "$r$1")" || stop "$r$1" KILL >/dev/null
	done
	world "$1"
	play scene server "$1"
	play after server "$1"
	settle
}

# wrong_bytes WORLD...: prints what the peers have said of such, or of an
# end too early.
wrong_bytes() {
	for w; do
		set -- "$@" "$T/scene$w.log" "$T/after$w.log" \
		    "$T/exec$w.log" "$T/svc$w.log"
		shift
	done
	grep -h -e 'is wrong' -e 'bytes, then' "$@"
}

# rested WORLD: both nodes have parked what they park, and there is no session.
rested() {
	"$MSSH" list web job --server "$(addr "$1")" | awk -F '\t' '
	    { n += $6; m += $7 + $8 } END { exit n != 2 || m }'
}

# settle: what all of them hold when nothing is left to do.
settle() {
	for w in $(seq "$WORLDS"); do
		wait_for 30 rested "$w"
	done
	sleep 1
	# shellcheck disable=SC2046,SC2086	# words
	all_of $(seq "$WORLDS")
	# shellcheck disable=SC2086
	fds $pids >"$T/fds"
}

# inject I: what take() took, into a process that runs.
inject() {
	start "strace$1" strace -qq -o "$T/hits$1" -e trace="$call" \
	    -e inject="$(how):when=$at" -p "$(pid "${role#end-}$1")"
}

# attached I...
attached() {
	for w; do
		wait_for 30 traced "${role#end-}$w" ||
		    bail "strace: $(cat "$T/strace$w.log")"
	done
}

# detach I...
detach() {
	for w; do
		kill -INT "$(pid "strace$w")"
		wait "$(pid "strace$w")"
	done
}

# fail ROLE FAULT...: one in each world.
fail() {
	role=$1
	shift
	all=$(seq $#)
	for i in $all; do
		eval "take \$$i"
		: >"$T/svc$i.log"
		: >"$T/exec$i.log"
		inject "$i"
	done
	# shellcheck disable=SC2086	# words
	attached $all
	# shellcheck disable=SC2086
	play scene "$role" $all
	# shellcheck disable=SC2086
	detach $all
	# shellcheck disable=SC2086
	play after "$role" $all
	# shellcheck disable=SC2086
	all_of $all
	# shellcheck disable=SC2086
	spins=$(burnt 0.3 $pids)
	# shellcheck disable=SC2086
	[ -z "$spins" ] || spins=$(burnt 1 $pids)
	# shellcheck disable=SC2086
	fine $pids || checked=$all
	for i in $all; do
		eval "take \$$i"
		hits "$i"
		[ -z "$checked" ] || check "$i"
	done
}

# fine PID...: there is nothing to complain of in any of the worlds.
fine() {
	checked=''
	# shellcheck disable=SC2086	# words
	[ -z "$spins" ] && kill -0 "$@" 2>/dev/null &&
	    wait_for 30 as_before "$@" &&
	    ! grep -qvx 0 "$T"/after*.rc &&
	    ! wrong_bytes $all >/dev/null
}

# ---- from the loop on

all=$(seq "$WORLDS")
for i in $all; do
	world "$i"
done
# shellcheck disable=SC2086	# words
play scene server $all
# shellcheck disable=SC2086
play after server $all
for role in server agent exec; do
	start strace strace -qq -s 16 -o "$T/$role.trace" \
	    -p "$(pid "${role}1")"
	wait_for 30 traced "${role}1" || bail 'strace attaches to nobody'
	play scene "$role" 1
	stop strace INT >/dev/null
done
picked run server 2
picked run agent 1
picked run exec 1
# those of a relay pass the end of a session on, and its pipes may be there
for role in server:pipe2 agent:pipe2 agent:shutdown; do
	grep -v "^${role#*:}" "$T/${role%:*}.faults" >"$T/f"
	mv "$T/f" "$T/${role%:*}.faults"
done
settle
for role in server agent exec; do
	in_turn fail "$role"
done

# ---- no memory at all, for a while

if [ -z "$asan" ]; then
	role=server call=memory err=ENOMEM at=all of=all
	SRV=$(addr 1)
	start strace strace -qq -o "$T/hits1" -e trace=brk,mmap,mremap \
	    -e inject=mmap,mremap:error=ENOMEM -e inject=brk:retval=0 \
	    -p "$(pid server1)"
	wait_for 30 traced server1
	# shellcheck disable=SC2016	# for strangers
	strangers crowd 900 'MSSH/2 client nobody$_ wait=60\nx'
	wait_log server1 'memory'
	spins=$(burnt 1 "$(pid server1)")
	stop crowd
	stop strace INT
	play after server 1
	hits 1
	all_of 1
	# shellcheck disable=SC2086	# words
	wait_for 30 as_before $pids
	check 1
	note "$(cat "$T/done.server.memory")"
	ok 'server: 900 clients, and no memory for them' \
	    survived server.memory
fi

# ---- the end, with guests in the house

# use ADDR: says "ready" after a session, and when there is one of each: a
# session, a client that waits, an agent that is parked.
cat >"$T/use" <<'END'
#!/bin/sh
to=$1
talk() {
	"$T/peer" -t 60 talk "$to" "$@"
}
talk 'send=MSSH/2 agent idle run=1\n' line=OK 'send=PING\n' line=PONG \
    'send=PING\n' line=PONG || exit
talk 'send=MSSH/2 agent parked run=1\n' line=OK gone &
talk 'send=MSSH/2 client none wait=60\n' gone &
talk 'send=MSSH/2 agent node run=1\n' line=OK line=GO expect=hello \
    'send=READY\nhi' bytes=400000 gone &
talk 'send=MSSH/2 client node wait=50\nhello' line=OK expect=hi \
    same=400000 tell=ready gone
wait
END
# use_node ADDR NODE
cat >"$T/use_node" <<'END'
#!/bin/sh
"$T/peer" -t 60 xfer "$1" "$2 wait=50" 400000 && echo ready
END
chmod 755 "$T/use" "$T/use_node"

# ready I: is use$I?
ready() {
	log_has "use$1" ready || gone "$(pid "use$1")"
}

# last ROLE FAULT...: one in each world, during its end.
last() {
	role=$1
	shift
	all=$(seq 2 $(($# + 1)))
	for i in $all; do
		eval "take \$$((i - 1))"
		inject "$i"
	done
	# shellcheck disable=SC2086	# words
	attached $all
	for i in $all; do
		eval "take \$$((i - 1))"
		stop "${role#end-}$i" >"$T/said" || complain "$(cat "$T/said")"
		[ "$rc" = 0 ] || complain "ended with $rc"
		wait "$(pid "strace$i")"
		hits "$i"
	done
}

for i in $(seq "$WORLDS"); do
	start "use$i" "$T/use" "$(addr "$i")"
done
for i in $(seq "$WORLDS"); do
	wait_for 90 ready "$i"
done
for role in end-agent end-exec end-server; do
	r=${role#end-}
	start strace strace -qq -s 16 -o "$T/$role.trace" -p "$(pid "${r}1")"
	wait_for 30 traced "${r}1"
	stop "${r}1"
	is "$rc" 0 "$r ends with 0"
	wait "$(pid strace)"
	picked run "$role" 1
	# a world for each: one of each call where there are more, and not those
	# that every turn of the loop makes
	if [ "$(wc -l <"$T/$role.faults")" -ge "$WORLDS" ]; then
		grep -v -e epoll -e ^poll "$T/$role.faults" |
		    awk -F: '!n[$1]++' | tail -n $((WORLDS - 1)) >"$T/f"
		mv "$T/f" "$T/$role.faults"
	fi
	# shellcheck disable=SC2046	# words
	last "$role" $(cat "$T/$role.faults")
	judge "$role"
done

# ---- start

# born ROLE I strace-options: as new$I, traced from its first call.
born() {
	who=$1 i=$2
	shift 2
	[ ! -e "$T/hits$i" ] || rm "$T/hits$i"
	serial=$((serial + 1))
	echo "node-$serial" >"$T/node$i"
	if [ "$who" = server-start ]; then
		start "new$i" strace -D -qq -s 16 -o "$T/hits$i" "$@" \
		    "$MSSH" server --host 127.0.0.1 --port 0
	else
		start "new$i" strace -D -qq -s 16 -o "$T/hits$i" "$@" \
		    "$MSSH" agent "node-$serial" --ssh-port "$SVC" \
		    --server "localhost:$PORT"
	fi
}

# up I: has it reached its loop, or its end?
up() {
	grep -q '^epoll_p*wait' "$T/hits$1" || gone "$(pid "new$1")"
}

# used ROLE I: starts what makes use of it.
used() {
	if [ "$1" = server-start ]; then
		start "use$2" "$T/use" 127.0.0.1:"$(sed -n \
		    's/^getsockname.*htons(\([0-9]*\)).*/\1/p' "$T/hits$2")"
	else
		start "use$2" "$T/use_node" "$SRV" "$(cat "$T/node$2")"
	fi
}

# end_of I: it was used, and gets its SIGTERM; or it has ended.
end_of() {
	if [ -f "$T/use$1.pid" ]; then
		wait_for 90 ready "$1"
		log_has "use$1" ready >/dev/null ||
		    complain "no use: $(cat "$T/use$1.log")"
		stop "new$1" >"$T/said" || complain "$(cat "$T/said")"
		[ "$rc" = 0 ] || complain "ended with $rc:" \
		    "$(tail -n 2 "$T/new$1.log")"
		wait_gone "use$1" 90
		rm "$T/use$1.pid"
		return
	fi
	wait_gone "new$1"
	case $rc in
	1 | 2) ;;
	*) complain "ended with $rc: $(tail -n 2 "$T/new$1.log")" ;;
	esac
	grep -q '^mssh: ..*' "$T/new$1.log" || complain "ended without a word"
}

# bear ROLE FAULT...: one process for each.
bear() {
	role=$1
	shift
	all=$(seq $#)
	for i in $all; do
		eval "take \$$i"
		born "$role" "$i" \
		    -e trace="$call,getsockname,/^epoll_p?wait" \
		    -e inject="$(how):when=$at"
	done
	for i in $all; do
		wait_for 30 up "$i"
		gone "$(pid "new$i")" || used "$role" "$i"
	done
	for i in $all; do
		eval "take \$$i"
		end_of "$i"
		hits "$i"
	done
}

rm "$T"/use*.pid
serial=0
service
server
WORLDS=8
for role in server-start agent-start; do
	call=nothing err=none at=0 of=0
	born "$role" 1
	wait_for 30 up 1
	used "$role" 1
	end_of 1
	[ ! -f "$T/bad.$role.nothing" ] || bail "$(cat "$T/bad.$role.nothing")"
	cp "$T/hits1" "$T/$role.trace"
	picked start "$role" 5
	in_turn bear "$role"
done
finish
