#!/bin/sh
# 54-confine.t - what server and agent have given up after their start, and
# that they work all the same; --user.
# shellcheck disable=SC1091,SC2034	# lib.sh
t/need setpriv perl || exit 1
. t/lib.sh

umask 077
service
SSHD_PORT=$SVC
U=nobody G=$(id -gn nobody)

case $("$MSSH" --version) in
*'no sandbox'*) bail 'this build has no sandbox' ;;
*'no seccomp'*) bail 'this machine has no table of system calls' ;;
esac

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
	[ $rc -ne 159 ] || said=killed
}
set -- server --port 0
for w in open connect unix fork exec map; do
	try $w "$@"
	is "$said" killed "server: $w"
done
set -- server --port 0 --keys "$T/dir/keys"
for w in open connect unix fork exec map write; do
	try $w "$@"
	is "$said" killed "server with keys: $w"
done
try outside "$@"
case $(cat "$T/tried") in
*Landlock*)
	is "$rc $said" '0 outside: Permission denied' \
	    'server with keys: a file elsewhere' ;;
*)
	note 'no Landlock in this kernel' ;;
esac
set -- agent web --server 127.0.0.1 --key "$T/any.key"
for w in open unix fork exec map; do
	try $w "$@"
	is "$said" killed "agent: $w"
done
try connect "$@"
is "${said%%:*} $rc" 'connect 1' 'agent: connect is left to it'
try open agent web --server localhost
is "$said" killed 'agent with a name to resolve: open'
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
server --keys "$T/dir/keys"
agent web --server "localhost:$PORT" --key "$T/any.key"
is "$(session)" hello 'a session, and a name was resolved'
for who in server agent-web; do
	is "$(status $who NoNewPrivs)" 1 "$who: no new privileges"
	is "$(status $who Seccomp)" 2 "$who: seccomp"
	ok "$who: the log says so" log_has $who 'confined by seccomp'
	ok "$who: nobody else looks in" [ "$(setpriv --reuid=$U --clear-groups \
	    --regid="$G" cat "/proc/$(pid $who)/environ" 2>&1 |
	    grep -c denied)" = 1 ]
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
ok 'not through a link out of its directory' wait_log server \
    'keys stay as they were'
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
	! pgrep -g "$1"
}
ok 'nothing of it stays' wait_for 5 empty "$(pid agent-web)"
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
finish
