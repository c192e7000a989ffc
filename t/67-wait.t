#!/bin/sh
# 67-wait.t - what a client is told of a node that it does not get, and what
# --wait shows on a terminal until it does: the line, Ctrl-C, and its end.
# shellcheck disable=SC1091,SC2016,SC2034,SC2154	# lib.sh; perl and sh -c
t/need sshd ssh perl ps script tmux || exit 1
. t/lib.sh

umask 077
unset TMUX TMUX_PANE
TMUX_TMPDIR=$T
export TMUX_TMPDIR

# fails STATUS ERROR NAME words...: mssh WORDS fails so.
fails() {
	want="$1 mssh: $2" what=$3
	shift 3
	echo x | "$MSSH" "$@" --server "$SRV" >"$T/out" 2>"$T/err"
	is "$? $(sed 's/seen [0-9]* s/seen N s/' "$T/err")" "$want" "$what"
}

# parked NODE [STEP]...: a raw agent, which stays.
parked() {
	node_=$1
	shift
	as "a-$node_" "send=MSSH/2 agent $node_ run=1\\n" line=OK tell=parked \
	    "$@" gone
	wait_log "a-$node_" parked
}

# ---- answers

sshd_start
server --sessions 1 --verbose
for n in prod-db-2 prod-db-3 web-1 web-2 web-3 web-4; do
	parked $n
done
stop a-prod-db-3
wait_log server 'prod-db-3 is offline'
fails 4 'prod-db-1 is unknown here; similar: prod-db-2, prod-db-3' \
    'a typing error: who is meant, offline or not' proxy prod-db-1
is "$(msh prod-db-1 true 2>"$T/err"; grep -o 'mssh: .*' "$T/err" |
    tr -d '\r')" \
    'mssh: prod-db-1 is unknown here; similar: prod-db-2, prod-db-3' \
    'by ssh, too' || note "$(cat "$T/err")"
fails 4 'web-9 is unknown here; similar: web-1, web-2, web-3' \
    'three at most' ping web-9
while read -r typed what; do
	fails 4 "$typed is unknown here; similar: prod-db-2" "$what" \
	    ping "$typed"
done <<'END'
prdo-db-2 two that changed places
prod-db2 one that was left out
rod-db-2 the first, too
prood-db-2 one too many
xprod-db-2 at the beginning
prod-db-2x at the end
prad-db-2 another one
orod-db-2 at the beginning
END
fails 4 'prod-db- is unknown here; similar: prod-db-2, prod-db-3' \
    'the last was left out' ping prod-db-
for typed in prdo-bd-2 od-db-2 prod-db; do
	fails 4 "$typed is unknown here" "two errors: $typed" ping $typed
done
long=$(printf 'n%063d' 0)
parked "$long"
fails 4 "m${long#?} is unknown here; similar: $long" 'the longest name' \
    ping "m${long#?}"
fails 4 "${long#?} is unknown here; similar: $long" 'without its first' \
    ping "${long#?}"
stop "a-$long"

# By HTTP anybody may come, so nobody is told what there is.
"$MSSH" ping web-9 --server "http://$SRV" >"$T/out" 2>"$T/err"
is "$? $(cat "$T/err")" '4 mssh: web-9 is unknown here' \
    'who is not local learns no names'

parked full line=GO 'send=READY\n'
as again 'send=MSSH/2 agent full run=1 slot=1\n' line=OK tell=parked \
    line=GO 'send=READY\n' gone
wait_log again parked
as one 'send=MSSH/2 client full\nx' line=OK tell=in gone
wait_log one in
fails 8 'full is at its limit of 1 sessions (--sessions), try later' \
    'a node that serves as many as it may' proxy full
for n in one a-full again; do
	stop $n >/dev/null
done

# An agent that hangs is found out by a ping, and then it is said.
agent hangs
kill -STOP "$(pid agent-hangs)"
start ping "$MSSH" ping hangs --server "$SRV"
ok 'an agent that answers no more' wait_log server 'no answer to PING' 60
"$MSSH" ping hangs --server "$SRV" >"$T/out" 2>"$T/err"
is "$? $(sed 's/for [0-9]* s/for N s/' "$T/err")" \
    '4 mssh: hangs is offline: its agent has not answered for N s' \
    'is told as such'
mark server
kill -CONT "$(pid agent-hangs)"
ok 'it comes back' wait_log server 'hangs registered'
stop agent-hangs
fails 4 'hangs is offline (last seen N s ago)' 'one that left is no such' \
    ping hangs
stop server
for n in prod-db-2 web-1 web-2 web-3 web-4; do
	stop a-$n >/dev/null
done

# Names are told to those who may list them.
for k in all some more; do
	"$MSSH" keygen $k >"$T/$k.key"
done
{
	echo "agent * $(cat "$T/all.key")"
	echo "client db-[19] $(cat "$T/some.key")"
	echo "client db-9 $(cat "$T/more.key")"
	echo "list db-3 $(cat "$T/more.key")"
	echo "agent db-* $(cat "$T/more.key")"
} >"$T/keys"
server --keys "$T/keys"
for n in db-1 db-2 db-3; do
	agent $n --key "$T/all.key"
done
fails 4 'db-9 is unknown here; similar: db-1' 'keys: what it may reach' \
    ping db-9 --key "$T/some.key"
fails 4 'db-9 is unknown here; similar: db-3' 'keys: what it may list' \
    ping db-9 --key "$T/more.key"
fails 5 'the key some is not good for ping db-8 here' \
    'keys: no names for who asks for one that is not his' \
    ping db-8 --key "$T/some.key"
for n in db-1 db-2 db-3; do
	stop agent-$n
done
stop server

# ---- a terminal

cat >"$T/tmux.conf" <<'END'
set -g default-shell /bin/sh
set -g status off
END
tm() {
	tmux -L t -f "$T/tmux.conf" "$@"
}

# $T/run NAME CMD...: on the terminal; $T/NAME.status says how it ended.
cat >"$T/run" <<'END'
use strict;
use warnings;
my $name = shift;
my $r = system @ARGV;
open my $f, '>', "$ENV{T}/$name.status.new" or die;
printf $f "signal %d status %d\n", $r & 127, $r >> 8;
close $f;
rename "$ENV{T}/$name.status.new", "$ENV{T}/$name.status" or die;
sleep 1000;
END

# on_tty NAME CMD...: on a terminal of its own, of 80 columns.
on_tty() {
	name_=$1
	cmd_=$(printf " '%s'" "$@")
	tm new-session -d -s "$name_" -x 80 -y 24 "perl '$T/run'$cmd_" ||
	    bail 'no tmux'
}
screen() {
	tm capture-pane -p -t "$1" | sed '/^$/d; s/ *$//'
}
has_text() {
	screen "$1" | grep -q -e "$2"
}
# shows NAME REGEX: it is on that screen soon.
shows() {
	wait_for 60 has_text "$1" "$2" && return 0
	screen "$1"
	return 1
}
press() {
	name_=$1
	shift
	tm send-keys -t "$name_" "$@"
}
# over NAME WANT WHAT: how it ended.
over() {
	wait_for 60 [ -s "$T/$1.status" ]
	is "$(cat "$T/$1.status")" "$2" "$3" || note "$(screen "$1")"
}
clean() {
	[ -z "$(screen "$1")" ]
}
# erased NAME WHAT: nothing is left on its screen.
erased() {
	wait_for 30 clean "$1"
	is "$(screen "$1")" '' "$2"
}

server --verbose --port "$(ports 1)"
on_tty int "$MSSH" proxy later --wait 600 --server "$SRV"
ok 'what it waits for, how long, and how long it will' \
    shows int '^mssh: waiting for later: [1-9][0-9]* of 600 s$'
first=$(screen int | sed 's/.*: \([0-9]*\) of.*/\1/')
on_tty ssh "$MSSH" "$USER@later" --wait 600 --server "$SRV" -F none \
    -o "UserKnownHostsFile=$T/known" -o BatchMode=yes -o ConnectTimeout=600
ok 'with ssh as its parent' \
    shows ssh '^mssh: waiting for later: [1-9][0-9]* of 600 s$'
goes_on() {
	n=$(screen int | sed 's/.*: \([0-9]*\) of.*/\1/')
	[ "${n:-0}" -gt "$first" ]
}
ok 'it goes on' wait_for 60 goes_on
is "$(screen int | wc -l | tr -d ' ')" 1 'in one line'
press int C-c
over int 'signal 2 status 0' 'Ctrl-C: ended by that'
erased int 'Ctrl-C: the line is gone'
press ssh C-c
wait_for 60 [ -s "$T/ssh.status" ]
case $(cat "$T/ssh.status") in
'signal 2 status 0' | 'signal 0 status 255') s=0 ;;
*) s=1 ;;
esac
ok 'Ctrl-C with ssh: as ssh ends then' [ $s = 0 ] ||
    note "$(cat "$T/ssh.status")"
no_line() {
	! has_text "$1" waiting
}
wait_for 30 no_line ssh
ok 'Ctrl-C with ssh: the line is gone' no_line ssh || note "$(screen ssh)"
waiting_none() {
	[ "$("$MSSH" list later --server "$SRV" 2>&1 | wc -l)" = 1 ] &&
	    [ "$(log_count server 'the client gave up')" = 2 ]
}
ok 'the server has let both go' wait_for 30 waiting_none

# what it waits for comes
echo hello >"$T/in"
on_tty comes sh -c 'exec "$1" proxy soon --wait 600 --server "$2" <"$3"' - \
    "$MSSH" "$SRV" "$T/in"
ok 'one waits' shows comes '^mssh: waiting for soon: '
agent soon --exec 'read -r x; echo "$x is here"'
ok 'its node comes: it is served' shows comes '^hello is here$'
over comes 'signal 0 status 0' 'as ever'
is "$(screen comes)" 'hello is here' 'and the line is gone'
stop agent-soon

# it does not come
on_tty never "$MSSH" proxy never --wait 3 --server "$SRV"
over never 'signal 0 status 4' 'it does not come'
is "$(screen never)" 'mssh: never is unknown here' 'and that is all'

# a server that is not there
port=$(ports 1)
on_tty away "$MSSH" proxy web --wait 600 --server "127.0.0.1:$port"
ok 'no server: that is what it waits for' \
    shows away "^mssh: waiting for 127.0.0.1:$port: [1-9][0-9]* of 600 s\$"
on_tty back "$MSSH" proxy web --wait 600 --server "127.0.0.1:$port"
wait_for 60 has_text back 127.0.0.1
is "$(screen away | sed 's/[1-9][0-9]* of/N of/')" \
    "mssh: 127.0.0.1:$port: Connection refused; trying again (--wait)
mssh: waiting for 127.0.0.1:$port: N of 600 s" 'below what is wrong'
press away C-c
over away 'signal 2 status 0' 'Ctrl-C'
is "$(screen away)" \
    "mssh: 127.0.0.1:$port: Connection refused; trying again (--wait)" \
    'the line is gone, the sentence is not'

# ---- where there is no line

echo x | "$MSSH" proxy never --wait 2 --server "$SRV" >"$T/out" 2>"$T/err"
is "$? $(cat "$T/out" "$T/err")" '4 mssh: never is unknown here' \
    'none in a file'
# A server that has just begun lets clients wait.
stop server
server --port "$PORT"
# typed [options]: what such a client writes to a terminal, in $T/typed
typed() {
	script -qec "'$MSSH' proxy never --server '$SRV' $* <'$T/in'" \
	    "$T/typed" </dev/null >"$T/out"
	grep -q 'mssh: never is unknown here' "$T/typed"
}
ok 'without --wait' typed
ok 'none' sh -c '! grep -q waiting "$1"' - "$T/typed"
ok 'with --wait' typed --wait 3
ok 'one: written over, then erased' perl -0777 -ne '
    exit !/\rmssh: waiting for never: [12] of 3 s .*\r\e\[Kmssh: never is /' \
    "$T/typed"

# ---- a login that waits

# With --wait, and where the server has several addresses and no key is wanted,
# ssh gets the socket when the server has said OK: that must not wait for ssh.
agent box
on_tty there "$T/msh" box --wait 600 'echo "is here"'
ok 'a login with --wait to a node that is there' shows there '^is here$'
on_tty login "$T/msh" tower --wait 600 'echo "is here"'
ok 'a login waits' shows login 'waiting for tower: '
agent tower
ok 'its node comes: it is in' shows login '^is here$'
over login 'signal 0 status 0' 'as ever'
is "$(screen login | grep -c waiting)" 0 'and the line is gone, too'
if [ "$(id -u)" = 0 ]; then
	stop server
	mark agent-box
	server --host 0.0.0.0 --port "$PORT"
	{
		cat /etc/hosts
		echo '127.0.0.1 two.test'
		echo '127.0.0.2 two.test'
	} >"$T/hosts"
	wait_log agent-box 'parked at' 60
	is "$(SRV=two.test:$PORT unshare -m sh -c 'mount --bind "$T/hosts" \
	    /etc/hosts && exec "$T/msh" box "echo in"' 2>"$T/err")" in \
	    'a server of two addresses' || note "$(cat "$T/err")"
else
	note 'only root can give a server two addresses'
fi

# Who shall ignore Ctrl-C does.  A line fits the terminal, and covers the one
# before even if it is shorter.
on_tty ignores sh -c 'trap "" INT; "$1" proxy later --wait 600 \
    --server "$2"' - "$MSSH" "$SRV"
ok 'who shall ignore Ctrl-C' shows ignores 'waiting for later: '
press ignores C-c
ok 'goes on' shows ignores 'waiting for later: \([3-9]\|[0-9][0-9]\) of' ||
    note "$(cat "$T/ignores.status")"
long=$(printf 'n%063d' 0)
on_tty long "$MSSH" proxy "$long" --wait 600 --server "$SRV"
ok 'a node with a long name' shows long '\([3-9]\|[0-9][0-9]\) of 600 s'
is "$(screen long | grep -c waiting)" 1 'has one line, too'
press long C-c
over long 'signal 2 status 0' 'Ctrl-C'
erased long 'which is gone then'

stop server
server --port "$port"
ok 'a server that was away: next it waits for the node' \
    shows back '^mssh: waiting for web: [1-9][0-9]* of 600 s$'

tm kill-server
stop server
finish
