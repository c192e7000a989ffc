#!/bin/sh
# 69-resume-net.t - sessions on networks that change: the client's address, the
# router's memory, a cable on either side
#
# The seconds are measured and printed.  A test fails at a bound that is
# several times what mssh promises, so a slow machine breaks nothing.
# shellcheck disable=SC1091,SC2016,SC2034,SC2154	# net, srv4: net.sh
t/need sshd ssh perl ip nft conntrack || exit 1
. t/lib.sh
. t/net.sh

CUT=${RESUME_CUT:-15}	# seconds that a cable is pulled
RESUME=''
export RESUME

# $T/tick: a number every 50 ms, until $T/NAME.end is there
cat >"$T/tick" <<'END'
use strict;
use warnings;
$| = 1;
for (my $n = 1; ; $n++) {
	print "$n\n";
	if (-e $ARGV[0]) { print "end\n"; exit 0 }
	select undef, undef, undef, 0.05;
}
END
# $T/answer: says what it has heard
cat >"$T/answer" <<'END'
use strict;
use warnings;
$| = 1;
print "ready\n";
while (<STDIN>) { print "heard $_" }
print "end\n";
END

# ticks NAME: begins a session that prints, as NAME; quiet NAME: one that
# answers to what is said to it, and says nothing else.
ticks() {
	at cli
	start "$1" "$T/msh" box "perl $T/tick $T/$1.end"
	ok "$1: it begins" wait_log "$1" 10 60
}
quiet() {
	at cli
	mkfifo "$T/$1.in"
	start "$1" sh -c 'exec "$T/msh" box "perl $T/answer" <"$0"' "$T/$1.in"
	exec 7>"$T/$1.in"
	ok "$1: it begins" wait_log "$1" ready 60
}

# goes_on NAME START: it prints again; since when is printed.
goes_on() {
	ok "$1: it goes on" wait_log "$1" '' 60
	note "$1: $(took "$2") s until the counter goes on"
}

# answers NAME TEXT: what is said to it is answered
answers() {
	echo "$2" >&7
	ok "$1: it answers" wait_log "$1" "heard $2" 60
}

# ended NAME: it comes to its end; each number once, in its order
ended() {
	: >"$T/$1.end"
	ok "$1: it ends" wait_gone "$1" 60
	is "$rc" 0 "$1: with status 0"
	ok "$1: each line once" perl -ne 'BEGIN { $n = 0 } next unless /^\d/;
	    chomp; die "$_ behind $n\n" if $_ != ++$n; END { exit !$n }' \
	    "$T/$1.log"
	is "$(tail -n 1 "$T/$1.log")" end "$1: and its end"
}
closed() {
	exec 7>&-
	ok "$1: it ends" wait_gone "$1" 60
	is "$rc $(tail -n 1 "$T/$1.log")" '0 end' "$1: as it should"
}

# how many sessions of box are back since the mark
back() {
	[ "$(log_has agent-box ': resumed after' | sed 's/ from .*//; s/.* //' |
	    sort -u | wc -l)" -ge "$1" ]
}
no_news() {
	clock
	[ "$clock_" -ge $((since + CUT)) ]
}

# Both halves take a minute, most of it in waiting: the one with the cables has
# a process and a small internet of its own, and its results are ours.
HALF=${HALF:-}
[ -n "$HALF" ] || start cables env HALF=cables sh "$0"
half_judge() {
	ok 'the half with the cables' wait_gone cables 600
	is "$rc" 0 'its exit status'
	while read -r line; do
		case $line in
		'ok '*) verdict 0 "${line#*- }" ;;
		'not ok '*) verdict 1 "${line#*- }" ;;
		'# '*) note "${line#??}" ;;
		esac
	done <"$T/cables.log"
}

net_up
at node
sshd_start
at srv
server --host 0.0.0.0 --host :: --port 8443
SRV=$srv4:8443
at node
agent box

# ---- a cable is pulled for a while, and put back

# pull HOST HOW: unplug (the carrier goes) or cut (no interface notices)
pull() {
	mend=plug
	[ "$2" = unplug ] || mend=mend
	ticks "$1-$2"
	quiet "idle-$1-$2"
	mark agent-box
	clock
	since=$clock_
	"net_$2" "$1"
	echo hello >&7		# it waits for an answer, and so is found out
	ok "$2, $1: $CUT s go by" wait_for 120 no_news
	mark "$1-$2"
	t0=$(now)
	"net_$mend" "$1"
	ok "idle-$1-$2: what was typed is answered" \
	    wait_log "idle-$1-$2" 'heard hello' 60
	note "idle-$1-$2: $(took "$t0") s after the network's return"
	goes_on "$1-$2" "$t0"
	note "$(log_has agent-box ': resumed after' | sed 's/.*: //')"
	ended "$1-$2"
	closed "idle-$1-$2"
}
if [ "$HALF" = cables ]; then
	pull cli cut
	pull node cut
	CUT=3
	pull cli unplug
	pull node unplug
	finish
fi

# ---- the client moves to another address

# move OLD NEW: the client's network is another one
move() {
	ip -n $net-cli addr del "$1/24" dev eth
	ip -n $net-inet addr del "${1%.*}.1/24" dev cli
	ip -n $net-inet addr add "${2%.*}.1/24" dev cli
	ip -n $net-cli addr add "$2/24" dev eth
	ip -n $net-cli route replace default via "${2%.*}.1"
}
ticks moves
quiet idle-moves
mark moves
mark agent-box
t0=$(now)
move 203.0.113.2 203.0.114.7
ok 'another network: both sessions are back' wait_for 60 back 2
note "both sessions are back $(took "$t0") s after the address changed"
mark moves
t1=$(now)
goes_on moves "$t1"
note "$(log_has agent-box ': resumed after')"
answers idle-moves hello
ended moves
closed idle-moves

# Another address in the same network, the old one goes: same link.
ticks readdressed
mark readdressed
mark agent-box
t0=$(now)
ip -n $net-cli addr add 203.0.114.8/24 dev eth
ip -n $net-cli addr del 203.0.114.7/24 dev eth
ip -n $net-cli addr show dev eth | grep -q 'inet 203.0.114.8' ||
    ip -n $net-cli addr add 203.0.114.8/24 dev eth
ip -n $net-cli route replace default via 203.0.114.1
ok 'another address: the session is back' wait_for 60 back 1
note "back after $(took "$t0") s"
mark readdressed
goes_on readdressed "$(now)"
ended readdressed

# The same while nobody reads what comes: no answer can be waited for.
cat >"$T/reader" <<'END'
$| = 1;
sub take { my ($n, $b) = $_[0]; $n -= read(STDIN, $b, 65536) || die while $n > 0 }
take(5e6);
print "begun\n";
select undef, undef, undef, 0.1 until -e $ARGV[0];
take(2e7);
print "more\n";
END
at node
agent flood --exec 'cat /dev/zero'
at cli
start held sh -c '{ echo; exec sleep 600; } | "$0" proxy flood --resume \
    --server "$1" | perl "$2/reader" "$2/go"' "$MSSH" "$SRV" "$T"
ok 'a reader that stops' wait_log held begun
mark agent-flood
t0=$(now)
move 203.0.114.8 203.0.113.2
ok 'another address: the session is back' wait_log agent-flood \
    ': resumed after' 60
note "back after $(took "$t0") s"
: >"$T/go"
ok 'it reads on' wait_log held more 60
stop held
at node
stop agent-flood

# ---- the router forgets

for how in drop reset; do
	ticks "nat-$how"
	quiet "idle-nat-$how"
	mark "nat-$how"
	mark agent-box
	t0=$(now)
	net_forget $how
	answers "idle-nat-$how" hello
	note "mapping lost, $how: what is typed is answered after $(took "$t0") s"
	ok "mapping lost, $how: the one that prints is back, too" \
	    wait_for 60 back 2
	note "mapping lost, $how: that one after $(took "$t0") s"
	note "$(log_has agent-box ': resumed after')"
	ended "nat-$how"
	closed "idle-nat-$how"
done

half_judge
finish
