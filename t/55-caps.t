#!/bin/sh
# 55-caps.t - how much one node, one key and all together may take up, what
# whoever meets such a limit is told, and who gets in all the same.
# shellcheck disable=SC1091,SC2016,SC2034	# lib.sh; sh -c
t/need perl || exit 1
. t/lib.sh

umask 077
service
SSHD_PORT=$SVC
for k in fleet other alice; do
	"$MSSH" keygen $k >"$T/$k.key"
done
{
	echo "agent * $(cat "$T/fleet.key")"
	echo "agent * $(cat "$T/other.key")"
	echo "client * $(cat "$T/alice.key")"
} >"$T/keys"

# hold NAME NODE [options]: a session of a client that stays
hold() {
	name_=$1 node_=$2
	shift 2
	start "$name_" sh -c '(echo echo; echo up; sleep 60) |
	    "$MSSH" proxy "$@"' sh "$node_" --server "$SRV" "$@"
}
# let_go NAME: all of it, sh and proxy.
let_go() {
	kill -9 "-$(pid "$1")"
	wait_gone "$1"
} >/dev/null
# end NAME NODE: the same, and the server has seen the session's end.
end() {
	mark server
	let_go "$1"
	wait_log server " $2 from "
}
held() {
	hold "$@" && wait_log "$1" up
}

# refused CODE TEXT NODE [options]
refused() {
	code_=$1 text_=$2 node_=$3
	shift 3
	"$MSSH" proxy "$node_" --server "$SRV" "$@" </dev/null >"$T/out" 2>&1
	rc=$?
	cat "$T/out"
	[ "$rc" -eq "$code_" ] && grep -F -e "$text_" "$T/out"
}

# ---- of a node

server --parked 2 --waiting 2 --sessions 2 -v
agent web --spare 3
ok '--parked: the third spare is refused' wait_log server \
    'a node may park 2 connections here (--parked)'
ok 'and the agent says why' wait_log agent-web '(--parked)'
stop agent-web >/dev/null
agent web
held one web
held two web
ok '--sessions: the third is refused' refused 8 \
    'web has 2 sessions (--sessions), try later' web
is "$(log_count server '(--sessions)')" 1 'the log has it'
end one web
ok 'when one has ended another may begin' wait_for 10 held three web
hold w1 later --wait 60
hold w2 later --wait 60
waiting() {
	[ "$(log_count server '> waiting')" -eq 2 ]
}
wait_for 10 waiting
ok '--waiting: the third is refused' refused 8 \
    '2 clients wait for later already (--waiting)' later --wait 1
agent later
ok 'the others are served' wait_log w1 up
ok 'both' wait_log w2 up
stop agent-later >/dev/null
stop agent-web >/dev/null
stop server >/dev/null

# ---- of a key

server --keys "$T/keys" --key-parked 2 --key-sessions 2 -v
agent n1 --key "$T/fleet.key"
agent n2 --key "$T/fleet.key"
start agent-n3 "$MSSH" agent n3 --server "$SRV" --key "$T/fleet.key"
ok '--key-parked: the third node is refused' wait_log agent-n3 \
    'the key fleet has 2 connections parked (--key-parked)'
agent n4 --key "$T/other.key"
ok 'not one of another key' log_has server 'n4 registered'
mark agent-n1
kill -HUP "$(pid agent-n1)"
ok 'an agent that dials again is let in' wait_log agent-n1 'n1 parked'
held one n1 --key "$T/alice.key"
held two n1 --key "$T/alice.key"
parked() {
	[ "$(log_count agent-n1 'n1 parked')" -eq 3 ]
}
ok 'sessions take no place of spares' wait_for 10 parked
ok '--key-sessions: the third is refused, at any node' refused 8 \
    'the key alice has 2 sessions, or clients that wait for one' n4 \
    --key "$T/alice.key"
end two n1
hold w1 gone --wait 60 --key "$T/alice.key"
wait_log server '> waiting'
ok 'who waits counts' wait_for 10 refused 8 'the key alice has 2 sessions' n4 \
    --key "$T/alice.key"
let_go w1
end one n1
ok 'and no more when it has left' wait_for 10 held four n4 --key "$T/alice.key"
stop agent-n2 >/dev/null
ok 'a node that leaves makes room' wait_log agent-n3 'n3 parked' 30
for n in n1 n3 n4; do
	stop agent-$n >/dev/null
done
let_go four
stop server >/dev/null

# ---- of all

server --connections 16
agent web
strangers crowd 40 ''
ok 'strangers fill the server and make room' wait_log server '(--connections)'
held one web
ok 'an honest client comes in all the same' log_has one up
ok 'and an agent' agent next
stop crowd >/dev/null
for i in 3 4 5 6; do
	held h$i web
done
held h7 web			# 2 parked and 6 sessions: 14 connections
ok 'the last eighth is not for clients' wait_for 10 refused 8 \
    'the server is full (--connections), try later' web
start agent-new "$MSSH" agent new --server "$SRV"
ok 'nor for agents that nobody knows' wait_log agent-new \
    'the server is full (--connections)'
kill -9 "$(pid agent-next)"
agent next
ok 'but for those that were here' log_has agent-next 'next parked'
finish
