#!/bin/sh
# 52-source.t - sshd tells clients apart, by an address of 127/8 for each key:
# what it does about one does not lock out another; --source fixed ends that.
# shellcheck disable=SC1091,SC2016	# sources lib.sh; sh -c
t/need sshd ssh || exit 1
. t/lib.sh

umask 077
for k in web alice mallory; do
	"$MSSH" keygen $k >"$T/$k.key" || bail 'keygen fails'
done
{
	echo "agent web $(cat "$T/web.key")"
	echo "client web $(cat "$T/alice.key")"
	echo "client web $(cat "$T/mallory.key")"
} >"$T/keys"
# The installed sshd may be older than PerSourcePenalties (OpenSSH 9.8); a
# limit for each source shows the same.
sshd_start 'PerSourceMaxStartups 1' 'PerSourceNetBlockSize 32:128'
server --keys "$T/keys"

# hold NAME KEY: an SSH connection that never logs in.
hold() {
	mkfifo "$T/$1.in"
	start "$1" sh -c 'exec "$MSSH" proxy web --server "$SRV" --key "$1" \
	    <>"$2"' hold "$T/$2.key" "$T/$1.in"
	echo SSH-2.0-hold >"$T/$1.in"
	wait_for 30 grep -q '^SSH-2.0-' "$T/$1.log"
}

# login KEY: a real one.
login() {
	ssh -F none -i "$T/key" -o BatchMode=yes -o StrictHostKeyChecking=no \
	    -o UserKnownHostsFile=/dev/null -o ConnectTimeout=60 -o \
	    "ProxyCommand=$MSSH proxy --server $SRV --key $T/$1.key web" \
	    "$USER@web" 'echo in' 2>"$T/$1.err"
}

# source KEY: the address that the agent's log has for its last session.
source_of() {
	id=$(log_has agent-web " key $1" | sed -n \
	    '$s/.*session \([0-9a-f]*\) .*/\1/p')
	log_has agent-web "session $id" |
	    sed -n 's/.*to sshd at .* as \([0-9.]*\):\([0-9]*\).*$/\1 \2/p'
}

agent web --key "$T/web.key"
ok 'one client has all the startups it may have' hold held mallory
is "$(login mallory)" '' 'another connection of the same key is refused'
is "$(login alice)" in 'a client with another key logs in'
odd="$T/al %i's"
cp "$T/alice.key" "$odd.key"
is "$("$MSSH" "$USER@web" --server "$SRV" --key "$odd.key" -F none \
    -i "$T/key" -o BatchMode=yes -o StrictHostKeyChecking=no \
    -o UserKnownHostsFile=/dev/null 'echo in' 2>"$T/err")" in \
    'mssh user@node hands its --key on, whatever its name'
set -- "$(source_of mallory)" "$(source_of alice)"
note "mallory ${1%% *}, alice ${2%% *}"
ok 'both have addresses in 127/8, and not the same' sh -c '
	case "$1,$2" in
	127.*,127.*) [ "${1%% *}" != "${2%% *}" ] ;;
	*) false ;;
	esac' sh "$1" "$2"
ok 'the log of sshd has the one that the log of the agent has' \
    log_has sshd "Connection from ${2%% *} port ${2##* }"
stop held
again() {
	[ "$(login mallory)" = in ]
}
ok 'when it lets go it gets in' wait_for 60 again
stop agent-web

agent web --key "$T/web.key" --source fixed
ok 'with --source fixed' hold held2 mallory
is "$(login alice)" '' 'one client locks out the other'
log_has agent-web ' as 127.0.0.1:' >"$T/out"
ok 'since all come from 127.0.0.1' [ -s "$T/out" ]
stop held2
"$MSSH" agent web --server "$SRV" --source best 2>"$T/err"
is "$? $(cat "$T/err")" "2 mssh: --source needs client or fixed, not 'best'" \
    'a source that is none of both'
finish
