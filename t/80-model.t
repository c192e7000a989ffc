#!/bin/sh
# 80-model.t - the states of mssh-proto(7): spin(1) goes through all of them,
# in t/model.pml, and finds each rule that is broken on purpose
# shellcheck disable=SC2317	# ok calls the functions
t/need spin gcc || exit 1
# shellcheck source=t/lib.sh
. t/lib.sh

model=$PWD/t/model.pml

# ---- the model speaks of this program

functions() {
	grep -oE 'mssh\.c: [a-z_0-9]+' "$model" | sed 's/.* //' | sort -u \
	    >"$T/functions"
	[ "$(wc -l <"$T/functions")" -ge 30 ] || return 1
	status=0
	while read -r f; do
		grep -q "^$f(" mssh.c || { echo "no $f()"; status=1; }
	done <"$T/functions"
	return "$status"
}
ok 'every function that the model names is one of mssh.c' functions

# phases: those of phases[] that belong to the server.
phases() {
	sed -n '/^enum phase_id/,/^};/p' mssh.c | tr ',' '\n' |
	    sed -n '/\* server/,/\* agent/p; /\* all/,$p' |
	    sed -n 's/^[^A-Z]*\([A-Z_][A-Z_]*\)$/\1/p' >"$T/ids"
	sed -n 's/^	\[\([A-Z_]*\)\] = { "[a-z ]*", on_.*/\1/p' mssh.c |
	    grep -xF -f "$T/ids"
}
phases_known() {
	phases >"$T/phases"
	cat "$T/phases"
	[ "$(wc -l <"$T/phases")" -ge 10 ] || return 1
	while read -r p; do
		# before a hello there is no node to go wrong with, and a list
		# changes none
		case $p in FRONT | HEAD | LISTING) continue ;; esac
		grep -q "phase\\[[a-zA-Z]*\\] == $p\\>" "$model" || {
			echo "$p is not in the model"
			return 1
		}
	done <"$T/phases"
}
ok "every phase of the server's is in the model" phases_known

# ---- and its rules hold

# verifier NAME FLAGS-OF-GCC [-DRULE]: makes $T/NAME/pan.
verifier() {
	mkdir "$T/$1" && cd "$T/$1" || return 1
	# shellcheck disable=SC2086	# words
	if ! spin -a $3 "$model" >spin.out 2>&1 || [ ! -s pan.c ]; then
		cat spin.out
		return 1
	fi
	# shellcheck disable=SC2086
	gcc $2 -w -o pan pan.c
}

# explore NAME pan's options...: to the end, and without an error.
explore() (
	name=$1
	shift
	cd "$T/$name" && timeout 900 ./pan "$@" >out 2>&1
	cat out
	grep -q 'errors: 0' out &&
	    ! grep -qiE '^pan:[0-9]|not completed|too small|out of mem' out
)

# figures NAME: states, seconds and memory, for people.
figures() {
	note "$1:" "$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1 states,/p
	    s/.*elapsed time \([0-9.]*\) seconds/\1 s,/p
	    s/^ *\([0-9.]*\)[^0-9]*total actual memory usage/\1 MB/p' \
	    "$T/$1/out" | tr '\n' ' ')"
}

all() (
	verifier all '-O2 -DSAFETY -DCOLLAPSE -DMEMLIM=1000' ''
)
ok 'spin and gcc make a verifier' all
ok 'no deadlock, no byte or line astray, one run a node' \
    explore all -m200000 -w22
figures all

live() (
	verifier live '-O0 -DCOLLAPSE -DNFAIR=3 -DMEMLIM=1000' -DLIVE
)
ok 'a verifier for what must happen' live
ok 'a client is served, refused or closed in the end' \
    explore live -a -f -m200000 -w22
figures live

again() (
	verifier again '-O2 -DSAFETY -DCOLLAPSE -DMEMLIM=1000' -DRESUME
)
ok 'a verifier for a session that goes on by other connections' again
ok 'each byte once and in order, the newest connection wins, no other key' \
    explore again -m200000 -w22
figures again

# ---- and it would find out

# broken RULE FLAGS 'WHAT SPIN SAYS': with that rule broken there is an error.
broken() (
	verifier "$1" '-O0 -DSAFETY -DNOCLAIM -DCOLLAPSE -DMEMLIM=1000' \
	    "-D$1 $2" || return 1
	timeout 900 ./pan -m200000 -w20 >out 2>&1
	cat out
	grep -q "^pan:1: $3" out && grep -q 'errors: 1' out
)
while IFS=: read -r rule flags says what; do
	ok "found: $what" broken "$rule" "$flags" "$says"
done <<'END'
PONG_AFTER_GO:-DONLY=4:assertion violated:a PING read after GO is answered
PUSH_OUT:-DONLY=2:assertion violated:an agent is parked beside another run
DEAF_PROBE:-DONLY=2:assertion violated:a holder that answered is dropped
EAT_COPY:-DONLY=4:assertion violated:the copy is taken from the client at GO
PARK_AGAIN:-DONLY=4:assertion violated:who was called in vain is parked again
ANY_PROOF:-DONLY=3:assertion violated:a wrong proof is good enough
CALLED_STAYS:-DONLY=5:assertion violated:a key that is removed after GO
MUTE_CLIENT:-DONLY=4:assertion violated:a client is paired without a byte
PONG_LOST:-DONLY=4:assertion violated:a ping's answer that crosses GO is lost
ANY_SEQ:-DRESUME:assertion violated:a connection that comes late is taken
ANY_KEY:-DRESUME:assertion violated:a session is resumed with another key
OLD_STAYS:-DRESUME:assertion violated:the old connection is still read
RESEND_ALL:-DRESUME:assertion violated:what was received is sent again
NOT_SYNCED:-DRESUME:assertion violated:bytes are sent before the first frame
NO_DEADLINE:-DLIVE:invalid end state:a client may wait for ever
END
finish
