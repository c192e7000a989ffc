#!/bin/sh
# 54-confine.t - what server and agent have given up after their start, and
# that they work all the same; --user.  What neither seccomp nor Landlock
# forbids here is left out, with a note.
# shellcheck disable=SC1091,SC2016,SC2034	# lib.sh; sh -c
t/need setpriv perl || exit 1
. t/lib.sh

umask 077
service
SSHD_PORT=$SVC
U=nobody G=$(id -gn nobody)

# in force: as --version has it, and as the log has to
sandbox=$("$MSSH" --version | sed 's/.*, //; s/)$//')
log="confined by $sandbox"
[ "$sandbox" != 'no sandbox' ] || log='not confined: this system or build has'
seccomp='' landlock=''
case $sandbox in *seccomp*) seccomp=y ;; *) note 'no seccomp here' ;; esac
case $sandbox in *Landlock*) landlock=y ;; *) note 'no Landlock here' ;; esac

# ---- what seccomp leaves, and why that is not too much

cat >"$T/reasons" <<'END'
read write readv writev splice pipe2 close: what is open, and bytes in it
accept4 shutdown getsockopt setsockopt getsockname: sockets that are open
recv recvfrom send: likewise, and no address is given
sendto: likewise, as it is left without an address only
poll ppoll 414 epoll_wait epoll_pwait epoll_ctl: waiting for what is open
timerfd_settime 411: a timer that is open
clock_gettime 403 gettimeofday time getrandom geteuid geteuid32: reading
sigreturn rt_sigreturn rt_sigaction restart_syscall: our own signals
brk munmap mremap madvise: memory; nothing becomes executable by these
mmap mmap2 mprotect: likewise, as PROT_EXEC is not left
exit_group: our own end
fstat fstat64: what is open; no path is given
lseek _llseek: likewise; sys_resident(), and stdio in keys_load()
fcntl fcntl64: flags, and how much a pipe holds; not F_SETOWN, no copies
openat: the directory of --keys, and for reading; Landlock sees to the path
recvmsg: descriptors that the dialler sends
sendmsg: descriptors for keepers; no address, as sockets are connected
wait4: our own children
END
reasons() {
	sed 's/:.*//' "$T/reasons" | tr ' ' '\n' | sort >"$T/want"
	sed -n '/^enum { FCNTL/,/^static struct ins/p' reactor.c |
	    grep -oE 'SYS_[a-z0-9_]+|FIRST \+ [0-9]+' |
	    sed 's/SYS_//; s/.* //' | sort -u >"$T/have"
	diff "$T/want" "$T/have"
}
ok 'each system call that is left has a reason here' reasons

# ---- what is forbidden kills, or fails

"$MSSH" keygen any >"$T/any.key"
mkdir "$T/dir"
echo "both * $(cat "$T/any.key")" >"$T/dir/keys"

# try WHAT COMMAND...: tries it within the sandbox, and sets said: killed, or
# what the last line is.
try() {
	what_=$1
	shift
	{
		(exec "$MSSH" "$@" --self-test "$what_" >"$T/tried" 2>&1)
		rc=$?
	} 2>/dev/null		# sh says that it was killed
	said=$(tail -n 1 "$T/tried" | sed 's/.*mssh: //')
	[ $rc -le 128 ] || [ "$(kill -l $rc)" != SYS ] || said=killed
}

# forbidden WHO WORD COMMAND...: by what is in force.  seccomp kills, but knows
# no path; Landlock knows files, and in newer kernels TCP's connections.
forbidden() {
	who=$1 w=$2
	shift 2
	try "$w" "$@"
	case ${seccomp:-n}${landlock:-n}$w in
	?youtside | nyopen | nywrite | nyexec)
		is "$rc $said" "0 $w: Permission denied" "$who: $w" ;;
	?noutside | n*) ;;
	*) is "$said" killed "$who: $w" ;;
	esac
}
for w in open connect unix fork exec map stat; do
	forbidden server $w server --port 0
done
for w in open connect unix fork exec map write stat outside; do
	forbidden 'server with keys' $w server --port 0 --keys "$T/dir/keys"
done
for w in open connect unix fork exec map stat; do
	forbidden agent $w agent web --server 127.0.0.1 --key "$T/any.key"
done
forbidden 'agent with a name to resolve' open agent web --server localhost
ok 'the log says what --version does' grep -q "$log" "$T/tried"
try open agent web --server 127.0.0.1 --exec cat
is "$rc ${said%%:*}" '1 open' 'agent with --exec: not confined'
ok 'and says so' grep -q 'not confined, as what --exec runs' "$T/tried"
ok 'help does not mention the test' [ "$("$MSSH" server --help |
    grep -c self-test)" = 0 ]

# ---- at work

# status NAME FIELD
status() {
	sed -n "s/^$2:[[:space:]]*//p" "/proc/$(pid "$1")/status"
}

# session: through server and agent, and back.
session() {
	(echo echo; echo hello; sleep 0.3) | "$MSSH" proxy web \
	    --server "$SRV" --key "$T/any.key" | tail -n 1
}
server --keys "$T/dir/keys" --metrics "unix:$T/metrics"
agent web --server "localhost:$PORT" --key "$T/any.key"
is "$(session)" hello 'a session, and a name was resolved'
for who in server agent-web; do
	[ -z "$seccomp$landlock" ] ||
	    is "$(status $who NoNewPrivs)" 1 "$who: no new privileges"
	[ -z "$seccomp" ] || is "$(status $who Seccomp)" 2 "$who: seccomp"
	ok "$who: the log says so" log_has $who "$log"
done
# memory: what a scrape has of the server's, in bytes
memory() {
	perl -MIO::Socket::UNIX -e 'my $s = IO::Socket::UNIX->new($ARGV[0])
	    or die; print $s "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
	    print grep s/^process_resident_memory_bytes //, <$s>' "$T/metrics"
}
for n in first second; do	# a board has no perl
	command -v perl >/dev/null || break
	ok "--metrics: the $n scrape has the server's memory" \
	    [ "$(memory)" -gt 100000 ]
done
"$MSSH" keygen more >"$T/more.key"
echo "both * $(cat "$T/more.key")" >>"$T/dir/keys"
kill -HUP "$(pid server)"
ok 'SIGHUP: the keys are read again' wait_log server '2 keys read'
mv "$T/dir/keys" "$T/dir/old" && cp "$T/dir/old" "$T/dir/keys"
mark server
kill -HUP "$(pid server)"
ok 'from a file that took its place, too' wait_log server '2 keys read'
mkdir "$T/far"
cp "$T/dir/old" "$T/far/keys" && ln -sf "$T/far/keys" "$T/dir/keys"
mark server
kill -HUP "$(pid server)"
[ -z "$landlock" ] || ok 'not through a link out of its directory' \
    wait_log server 'keys stay as they were'
i=0
read -r _ any <"$T/any.key"
while [ $i -lt 3000 ]; do
	i=$((i + 1))
	echo "client n$i,m$((i * 7 % 1000)) any $any"
done >"$T/many"
cat "$T/dir/old" "$T/many" >"$T/dir/new" && mv "$T/dir/new" "$T/dir/keys"
mark server
kill -HUP "$(pid server)"
ok '3,000 of them' wait_log server '3002 keys read'
is "$(session)" hello 'and sessions go on'
kill -HUP "$(pid agent-web)"
ok 'SIGHUP: the agent resolves again' wait_log agent-web redialling
is "$(session)" hello 'and is there'
ok 'SIGTERM ends the agent' stop agent-web
is "$rc" 0 'with 0'
# the process that looks names up ignores signals, and ends by itself
empty() {
	! kill -s 0 -- "-$1"
}
ok 'nothing of it stays' wait_for 30 empty "$(pid agent-web)"
ok 'SIGTERM ends the server' stop server
is "$rc" 0 'with 0'

# ---- --user

if [ "$(id -u)" != 0 ]; then
	note 'only root can become another user'
	finish
fi
chmod 711 "$T" && chmod 755 "$T/dir"
chgrp "$G" "$T/dir/keys" && chmod 640 "$T/dir/keys"
server --keys "$T/dir/keys" --user $U
agent web --key "$T/any.key" --user $U
is "$(session)" hello '--user: a session'
for who in server agent-web; do
	is "$(status $who Uid | cut -f1-3)" \
	    "$(id -u $U | sed 's/.*/&	&	&/')" "$who is another"
	is "$(status $who Groups | tr -d ' ')" "$(id -G $U | tr -d ' ')" \
	    "$who: its groups, too"
	is "$(status $who CapEff)" 0000000000000000 "$who: no capability"
	# of a process that can be dumped it is the user's
	is "$(stat -c %U "/proc/$(pid $who)/fd")" root "$who: not dumpable"
done
mark server
kill -HUP "$(pid server)"
ok 'SIGHUP: he can read the keys again' wait_log server '3002 keys read'
stop server >/dev/null
stop agent-web >/dev/null
chmod 600 "$T/dir/keys"
"$MSSH" server --port 0 --keys "$T/dir/keys" --user $U >"$T/out" 2>&1
is "$? $(grep -c 'keys: Permission denied' "$T/out")" '2 1' \
    'keys that he cannot read: said at start'
"$MSSH" server --port 0 --user no-such-user >"$T/out" 2>&1
is "$? $(grep -c 'there is no user no-such-user' "$T/out")" '2 1' 'nobody'
cp "$MSSH" "$T/dir/mssh" && chmod 755 "$T/dir/mssh"
setpriv --reuid=$U --regid="$G" --clear-groups \
    "$T/dir/mssh" server --port 0 --user root >"$T/out" 2>&1
is "$? $(grep -c 'only root can become' "$T/out")" '2 1' 'and root nobody'

# Other processes of the user who runs them may not look into them either.
mssh=$MSSH
MSSH=$T/dir/mssh IN="setpriv --reuid=$U --regid=$G --clear-groups"
server
agent web
for who in server agent-web; do
	ok "$who: nobody else looks in" [ "$($IN cat \
	    "/proc/$(pid $who)/environ" 2>&1 | grep -c denied)" = 1 ]
	stop $who >/dev/null
done
MSSH=$mssh IN=

# ---- what the agent runs is none of the unit's OOMScoreAdjust=

mkdir -p "$T/proc/self"
echo -500 >"$T/proc/self/oom_score_adj"
if [ "$(id -u)" = 0 ]; then
	server
	start agent-dear unshare -m sh -c 'mount --bind "$1" /proc && shift &&
	    exec "$@"' - "$T/proc" "$MSSH" agent dear --server "$SRV" \
	    --exec 'cat >/dev/null'
	wait_log agent-dear 'dear parked'
	greet dear --server "$SRV"
	is "$(cat "$T/proc/self/oom_score_adj")" -000 \
	    'a child of the agent is no dearer than others'
	stop agent-dear >/dev/null
	echo -500 >"$T/proc/self/oom_score_adj"
	start agent-kept unshare -m sh -c 'mount --bind "$1" /proc && shift &&
	    exec "$@"' - "$T/proc" "$MSSH" agent kept --server "$SRV" \
	    --ssh-port "$PORT"
	wait_log agent-kept 'kept parked'
	greet kept --resume --server "$SRV" >/dev/null 2>&1
	is "$(cat "$T/proc/self/oom_score_adj")" -000 \
	    'nor is the process that keeps a session'
	stop agent-kept >/dev/null
fi
finish
