# lib.sh - what the tests share.  Sourced from the repository's top: . t/lib.sh
#
# TAP:   plan N | finish;  ok NAME cmd...;  is GOT WANT NAME;  note text;
#        bail text
# Parts: server, sshd_start, agent and msh build the whole chain on loopback;
#        greet is mssh proxy with the first line of an SSH client;
#        talk, as, service and strangers are peers without ssh: $T/peer, which
#        does what sh cannot, or not as cheaply (t/peer.c);
#        start, stop, wait_log and wait_gone deal with any other process.
#
# All files live in $T, which goes away at exit together with every process
# that start() began and all descendants of it: by pid, also after a failure
# or a signal.  MSSH=path tests another binary.  The variable IN is a prefix
# for everything that start() runs, for example IN="ip netns exec home".
# shellcheck shell=sh
# shellcheck disable=SC2034	# PORT, rc and others are for the tests

LC_ALL=C
MSSH=${MSSH:-./mssh}
case $MSSH in
/*) ;;
*) MSSH=$PWD/$MSSH ;;
esac
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
USER=$(id -un)
IN=${IN:-}
SRV='' PORT='' SSHD_PORT='' rc='' planned='' tests=0 fails=0
T=$(mktemp -d "${TMPDIR:-/tmp}/mssh.XXXXXX") || exit 1

# Nothing of the person who runs the tests may change what they find.
for v in $(env | sed -n 's/^\(MSSH_[A-Z_]*\)=.*/\1/p'); do
	unset "$v"
done
unset v JOURNAL_STREAM NOTIFY_SOCKET LISTEN_FDS LISTEN_PID WATCHDOG_USEC \
    SSH_AUTH_SOCK SSH_ASKPASS DISPLAY SSL_CERT_FILE SSL_CERT_DIR TMUX \
    TMUX_PANE COLUMNS LINES http_proxy HTTP_PROXY https_proxy HTTPS_PROXY \
    all_proxy ALL_PROXY no_proxy NO_PROXY
umask 022
HOME=$T/home XDG_CONFIG_HOME=$T/config
# A small quarantine, so that memory can be compared under ASan as well.
ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}log_path=$T/san:quarantine_size_mb=1
UBSAN_OPTIONS=${UBSAN_OPTIONS:+$UBSAN_OPTIONS:}log_path=$T/san
export LC_ALL MSSH PATH USER HOME XDG_CONFIG_HOME T SRV ASAN_OPTIONS \
    UBSAN_OPTIONS
mkdir "$HOME" "$XDG_CONFIG_HOME"
: >"$T/pids"
: >"$T/.ports"
exec 9>&1 </dev/null

# ---- the end

# tree PID...: those of the processes named that are children of this shell,
# and all their descendants.  The number of a process that is gone may by now
# be a stranger's, but never a child's of ours.
tree() {
	ps -A -o pid= -o ppid= | awk -v want="$*" -v me=$$ '
	{ kids[$2] = kids[$2] " " $1; parent[$1] = $2 }
	END {
		m = split(want, k, " ")
		for (i = 1; i <= m; i++)
			if (k[i] in parent && parent[k[i]] == me)
				q[++n] = k[i]
		for (i = 1; i <= n; i++) {
			print q[i]
			m = split(kids[q[i]], k, " ")
			for (j = 1; j <= m; j++)
				q[++n] = k[j]
		}
	}'
}

# strays: processes that carry our HOME and have lost their parents, such as a
# command that sshd left behind (where there is a /proc to see that).
strays() {
	grep -slF "HOME=$T/home" /proc/[0-9]*/environ | sed 's/[^0-9]//g' |
	    grep -vx $$
}

# alive PID...: is any of them there?
alive() {
	for p; do
		if kill -0 "$p" 2>/dev/null; then
			return 0
		fi
	done
	return 1
}

# end_all: ends what start() began, politely at first.
end_all() {
	# shellcheck disable=SC2046	# a list of numbers
	set -- $(tree $(cat "$T/pids")) $(strays)
	[ $# -gt 0 ] || return 0
	kill "$@" 2>/dev/null
	for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
		alive "$@" || return 0
		sleep 0.05
	done
	kill -9 "$@" 2>/dev/null
}

quit() {
	status=$?
	trap - EXIT
	trap '' HUP INT TERM
	end_all
	xargs rm -f <"$T/.ports"
	for f in "$T"/san.*; do
		[ -s "$f" ] || continue
		sed 's/^/# /' "$f" >&9
		status=1
	done
	if [ "$fails" -gt 0 ]; then
		for f in "$T"/*.log; do
			[ -s "$f" ] || continue
			echo "# the end of ${f##*/}:" >&9
			tail -n 15 "$f" | sed 's/^/#   /' >&9
		done
		[ "$status" -ne 0 ] || status=1
	fi
	if [ -n "${KEEP:-}" ]; then
		echo "# kept $T" >&9
	else
		rm -rf "$T"
	fi
	exit "$status"
}
trap quit EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# ---- TAP

plan() {
	planned=$1
	echo "1..$1" >&9
}

# finish: the plan, where it was not known before.
finish() {
	[ -n "$planned" ] || echo "1..$tests" >&9
	exit 0
}

note() {
	printf '%s\n' "$*" | sed 's/^/# /' >&9
}

bail() {
	echo "Bail out! $*" >&9
	exit 255
}

# verdict STATUS NAME
verdict() {
	tests=$((tests + 1))
	case $2 in
	*[!\ -~]* | *'#'*)
		set -- "$1" "$(printf %s "$2" | tr -c ' -"$-~' '?')" ;;
	esac
	if [ "$1" -eq 0 ]; then
		printf 'ok %d - %s\n' "$tests" "$2" >&9
	else
		printf 'not ok %d - %s\n' "$tests" "$2" >&9
		fails=$((fails + 1))
	fi
	return "$1"
}

# ok NAME cmd...: runs cmd (in this shell); its output shows if it fails.
ok() {
	what=$1
	shift
	"$@" >"$T/ok.out" 2>&1 && verdict 0 "$what" && return 0
	note "status $?: $*"
	tail -n 40 "$T/ok.out" | sed 's/^/# /' >&9
	verdict 1 "$what"
}

is() {
	[ "$1" = "$2" ] && verdict 0 "$3" && return 0
	note "got:  $1"
	note "want: $2"
	verdict 1 "$3"
}

# ---- conditions

# clock: sets clock_, in seconds; without a process where it can be.
clock() {
	if read -r clock_ 2>/dev/null </proc/uptime; then
		clock_=${clock_%%.*}
	else
		clock_=$(date +%s)
	fi
}

# wait_for SECONDS cmd...: polls until cmd succeeds, at a gentler pace when
# it takes long.  The bound only ends a test that failed: a machine that has
# other work may take half a minute for what else takes none.
wait_for() {
	clock
	until_=$((clock_ + $1 + 1))
	shift
	nap_=0.02 naps_=0
	until "$@" >/dev/null 2>&1; do
		clock
		[ "$clock_" -lt "$until_" ] || return 1
		sleep $nap_
		naps_=$((naps_ + 1))
		[ $naps_ -lt 25 ] || nap_=0.1
	done
}

# log_has NAME TEXT [SECONDS]: prints the lines that hold TEXT, since the last
# mark; waits for the first of them.
log_has() {
	mark_=0
	[ ! -f "$T/$1.mark" ] || read -r mark_ <"$T/$1.mark"
	"$T/peer" log "$T/$1.log" "$mark_" "$2" "${3:-0}"
}

# log_count NAME TEXT: prints how many lines hold TEXT, since the last mark.
log_count() {
	echo $(($(log_has "$1" "$2" | wc -l)))
}

# mark NAME: log_has and wait_log look only at what comes from now on.
mark() {
	wc -l <"$T/$1.log" >"$T/$1.mark"
}

# wait_log NAME TEXT [SECONDS]
wait_log() {
	log_has "$1" "$2" "${3:-30}" >/dev/null && return 0
	echo "no \"$2\" in the log of $1"
	return 1
}

# ---- processes

# pid NAME
pid() {
	read -r pid_ <"$T/$1.pid"
	echo "$pid_"
}

# start NAME cmd...: in the background, in a process group of its own (whose
# number is its pid), with HUP, INT and QUIT as they are for a person; cmd is a
# program, not a function.  Not from a subshell: it has to be our own child.
start() {
	name=$1
	shift
	: >"$T/$name.log"
	[ ! -e "$T/$name.mark" ] || rm "$T/$name.mark"
	# shellcheck disable=SC2086	# IN is words
	"$T/peer" run $IN "$@" >>"$T/$name.log" 2>&1 9>&- &
	echo $! >"$T/$name.pid"
	echo $! >>"$T/pids"
}

# wait_gone NAME [SECONDS]: sets rc to its exit status.
wait_gone() {
	rc=''
	read -r pid_ <"$T/$1.pid"
	if wait_for "${2:-30}" gone "$pid_"; then
		wait "$pid_" 2>/dev/null
		rc=$?
		return 0
	fi
	echo "$1 (process $pid_) still runs"
	return 1
}

# gone PID: is that process, a child of ours, no more?
gone() {
	if [ ! -r /proc/self/stat ]; then
		[ "$(ps -o ppid= -p "$1" | tr -d ' ')" != $$ ]
		return
	fi
	# Often asked, so without a process: pid (name) state ppid ...
	read -r stat_ 2>/dev/null <"/proc/$1/stat" || return 0
	stat_=${stat_##*) ? }
	[ "${stat_%% *}" != $$ ]
}

# stop NAME [SIGNAL]
stop() {
	read -r pid_ <"$T/$1.pid"
	if gone "$pid_"; then
		echo "$1 had ended before"
		return 1
	fi
	kill -s "${2:-TERM}" "$pid_" && wait_gone "$1"
}

# ports N: so many free ones, which nobody gets who lets the system choose, nor
# another test until this one has ended: a file holds each (for an hour at most,
# should somebody kill the test).
ports() {
	perl -MIO::Socket::INET -MFcntl -e '
	    my ($n, $held, $mine) = @ARGV; my @s;
	    open my $all, ">>", $mine or die "$mine: $!"; while (@s < $n) {
		my $port = 10000 + int rand 20000;
		unlink "$held.$port" if -e "$held.$port" && -M _ > 1 / 24;
		sysopen my $f, "$held.$port", O_CREAT | O_EXCL | O_WRONLY or
		    $!{EEXIST} ? next : die "$held.$port: $!";
		print $all "$held.$port\n";
		my $s = IO::Socket::INET->new(Listen => 1, ReuseAddr => 1,
		    LocalAddr => "127.0.0.1", LocalPort => $port);
		push @s, $s if $s }
	    print join(" ", map { $_->sockport } @s), "\n"' \
	    "$1" "${T%/*}/mssh-port" "$T/.ports"
}

# free_port: prints one.
free_port() {
	ports 1
}

# ---- the chain

# has WORD word...: is WORD (or WORD=value) among the words?
has() {
	word_=$1
	shift
	for w_; do
		case $w_ in
		"$word_" | "$word_"=*) return 0 ;;
		esac
	done
	return 1
}

# server [options]: runs as "server"; sets SRV=HOST:PORT and PORT.
server() {
	has --port "$@" || set -- --port 0 "$@"
	has --host "$@" || set -- --host 127.0.0.1 "$@"
	start server "$MSSH" server "$@"
	wait_log server 'listening on ' || bail "the server does not start:" \
	    "$(cat "$T/server.log")"
	SRV=$(sed -n 's/.*listening on //p' "$T/server.log" | sed q)
	PORT=${SRV##*:}
	case $SRV in
	0.0.0.0:*) SRV=127.0.0.1:$PORT ;;
	"[::]:"*) SRV="[::1]:$PORT" ;;
	esac
}

# keys: a host key and a user key to throw away.
keys() {
	[ -f "$T/key" ] && return
	for k in hostkey key; do
		ssh-keygen -q -t ed25519 -N '' -C test -f "$T/$k" ||
		    bail 'ssh-keygen makes no key'
	done
	cp "$T/key.pub" "$T/authorized"
}

# sshd_start [line of sshd_config]...: a private sshd, run as $SSHD (a name,
# "sshd" where it is not set); sets SSHD_PORT.  The lines come first, and the
# first wins.  The key exchange is one that costs a third of a login less CPU.
sshd_start() {
	keys
	daemon=${SSHD:-sshd}
	if [ "$(id -u)" = 0 ]; then
		mkdir -p /run/sshd && chmod 755 /run/sshd
	fi
	for try in 1 2 3; do
		SSHD_PORT=$(free_port)
		for line; do
			printf '%s\n' "$line"
		done >"$T/$daemon.conf"
		cat >>"$T/$daemon.conf" <<-END
		ListenAddress 127.0.0.1:$SSHD_PORT
		HostKey $T/hostkey
		AuthorizedKeysFile $T/authorized
		Subsystem sftp internal-sftp
		PidFile none
		StrictModes no
		UsePAM no
		PasswordAuthentication no
		KbdInteractiveAuthentication no
		PermitRootLogin prohibit-password
		PermitUserRC no
		SetEnv HOME=$HOME
		PrintMotd no
		MaxStartups 100:30:200
		MaxSessions 100
		LogLevel VERBOSE
		KexAlgorithms curve25519-sha256,curve25519-sha256@libssh.org
		END
		start "$daemon" "$(command -v sshd)" -D -e -f "$T/$daemon.conf"
		wait_for 60 sshd_settled &&
		    log_has "$daemon" 'Server listening' >/dev/null && return 0
	done
	bail "sshd does not start: $(cat "$T/$daemon.log")"
}

sshd_settled() {
	log_has "$daemon" 'Server listening' || gone "$(pid "$daemon")"
}

# agent NODE [options]: runs as "agent-NODE", and waits until it is parked.
agent() {
	node=$1
	shift
	has --server "$@" || set -- --server "$SRV" "$@"
	has --ssh-port "$@" || has --exec "$@" || [ -z "$SSHD_PORT" ] ||
	    set -- --ssh-port "$SSHD_PORT" "$@"
	start "agent-$node" "$MSSH" agent "$node" "$@"
	wait_log "agent-$node" 'parked at' 60 || bail "agent $node is not" \
	    "parked: $(cat "$T/agent-$node.log")"
}

# $T/msh NODE [ssh options] [command]: mssh USER@NODE with the test's key.  A
# program, so that start() can run it; msh calls it.  CONNECT is how many
# seconds it may take to connect (60).
cat >"$T/msh" <<'END'
#!/bin/sh
node=$1
shift
# RESUME= in a test: what a person has, who does not say --no-resume
exec "$MSSH" "$USER@$node" ${RESUME---no-resume} --server "$SRV" -F none -i "$T/key" \
    -o UserKnownHostsFile="$T/known" -o StrictHostKeyChecking=accept-new \
    -o BatchMode=yes -o IdentitiesOnly=yes \
    -o ConnectTimeout="${CONNECT:-60}" "$@"
END
# $T/psh: the same by ssh with mssh proxy on standard input and output.
cat >"$T/psh" <<'END'
#!/bin/sh
node=$1
shift
exec ssh -F none -i "$T/key" -o "HostKeyAlias=$node.psh" \
    -o ProxyCommand="'$MSSH' proxy '$node' --server '$SRV'" \
    -o UserKnownHostsFile="$T/known" -o StrictHostKeyChecking=accept-new \
    -o BatchMode=yes -o IdentitiesOnly=yes \
    -o ConnectTimeout="${CONNECT:-60}" \
    -l "$USER" "$node" "$@"
END
# $T/greet NODE [options]: mssh proxy for an SSH client that says its first line
# and has ended; greet calls it.
printf 'SSH-2.0-test\r\n' >"$T/greeting"
cat >"$T/greet" <<'END'
#!/bin/sh
exec "$MSSH" proxy "$@" <"$T/greeting"
END
chmod 755 "$T/msh" "$T/psh" "$T/greet"

msh() {
	# shellcheck disable=SC2086	# IN is words
	$IN "$T/msh" "$@"
}

psh() {
	# shellcheck disable=SC2086	# IN is words
	$IN "$T/psh" "$@"
}

greet() {
	# shellcheck disable=SC2086	# IN is words
	$IN "$T/greet" "$@"
}

# ---- raw peers

# talk STEP...: a conversation with the server.
talk() {
	"$T/peer" talk "$SRV" "$@"
}

# as NAME STEP...: a conversation in the background.
as() {
	name_=$1
	shift
	start "$name_" "$T/peer" talk "$SRV" "$@"
}

# service: a peer in sshd's place, as "svc"; sets SVC, its port.
service() {
	start svc "$T/peer" serve
	wait_log svc 'listening on' || bail 'no service'
	SVC=$(sed -n 's/listening on //p' "$T/svc.log")
}

# strangers NAME COUNT TEXT: so many connections that say TEXT (with perl's
# escapes; $_ counts them) and stay until they are stopped.
strangers() {
	# shellcheck disable=SC2016	# perl's own variables
	start "$1" perl -MIO::Socket::INET -e 'my ($to, $n, $text) = @ARGV;
	    my @all; for (1 .. $n) {
		my $s = IO::Socket::INET->new($to) or last; push @all, $s;
		syswrite $s, eval "qq{$text}" }
	    $| = 1; print "up\n"; sleep 3600' "$SRV" "$2" "$3"
	wait_log "$1" up
}

# rss NAME: kB.
rss() {
	awk '/^VmRSS/ { print $2 }' "/proc/$(pid "$1")/status"
}

# cpu NAME: ms that it has used.
cpu() {
	sed 's/.*) //' "/proc/$(pid "$1")/stat" |
	    awk -v hz="$(getconf CLK_TCK)" '{
		print int(($12 + $13) * 1000 / hz) }'
}

[ -x "$MSSH" ] || bail "no $MSSH: run make first"
# All tests share one t/peer; this is for those that run without make check.
[ -n "$(find t/.cache/peer -newer t/peer.c 2>/dev/null)" ] ||
    "${MAKE:-make}" -s t/.cache/peer >&2 || bail 't/peer.c does not compile'
ln -s "$PWD/t/.cache/peer" "$T/peer"
