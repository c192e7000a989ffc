#!/bin/sh
# 53-attack.t - strangers without a key, as quick as they can, from one address
# and from 250: whoever has a key gets in meanwhile, and nothing is left behind.
# t/bench/run --only attack has the times.
# shellcheck disable=SC1091,SC2016	# sources lib.sh; sh -c
. t/lib.sh

umask 077
sshd_start
"$MSSH" keygen me >"$T/me.key" || bail 'keygen fails'
mkdir "$XDG_CONFIG_HOME/mssh"
cp "$T/me.key" "$XDG_CONFIG_HOME/mssh/key"
echo "both * $(cat "$T/me.key")" >"$T/keys"

# Strangers may have a thousand descriptors, and those who were refused an
# eighth of all; the honest, a few.
server_=$MSSH
cat >"$T/few" <<END
#!/bin/sh
ulimit -n 4096
exec "$server_" "\$@"
END
chmod 755 "$T/few"
MSSH=$T/few
server --keys "$T/keys" --startups 1000
most=$((1000 + 4096 / 8 + 50))
MSSH=$server_
agent web
agent say --exec 'read -r _; echo in'

fds() {
	find "/proc/$(pid server)/fd" -mindepth 1 | wc -l
}

# settled: it has the descriptors that it had before.
settled() {
	[ "$(fds)" -eq "$fds0" ]
}

# sessions: some, each of which makes the agent register once more.
sessions() {
	peak=0
	for i in 1 2 3 4 5 6; do
		n=$(fds)
		[ "$n" -le "$peak" ] || peak=$n
		timeout 120 "$T/greet" say --server "$SRV" >"$T/said" 2>&1
		[ "$(cat "$T/said")" = in ] && continue
		echo "session $i: $(cat "$T/said")"
		return 1
	done
}

# registers: a node that was not there.
registers() {
	node_=node-$((tests))
	start "$node_" "$MSSH" agent "$node_" --server "$SRV" --exec true
	wait_log "$node_" 'parked at' 60 && stop "$node_"
}

# terse: 10 lines a second, one for what was left out, and no more.
terse() {
	n=$(log_has server refus | wc -l)
	clock
	s=$((clock_ - began))
	echo "$n lines in $s s"
	[ "$n" -le $((11 * (s + 2))) ]
}

# begun: so many that some were sent away, or left again
begun() {
	log_has server 'more refusals' || log_has crowd 'are connected'
}

# besieged KIND COUNT HOSTS: under so many strangers at once (no more than a
# thousand, and they never rest), who come 500 times at the least: they have
# what others leave of the machine, and that may be little.
besieged() {
	what_="$1 from $3"
	mark server
	clock
	began=$clock_
	start crowd nice -n 19 "$T/peer" crowd "$SRV" "$2" "$1" web "$3"
	wait_for 60 begun
	ok "$what_: six sessions" sessions
	ok "$what_: a node registers" registers
	ok "$what_: a login" timeout 120 "$T/msh" web true
	ok "$what_: they really tried" wait_log crowd 'tried 500' 120
	stop crowd
	n=$(sed -n 's/^begun \([0-9]*\).*/\1/p' "$T/crowd.log")
	note "$n connections"
	note "$peak descriptors"
	ok "$what_: they had no more than they may" [ "$peak" -le $most ]
	ok "$what_: the log is bounded" terse
	ok "$what_: the descriptors are back" wait_for 60 settled
}

rss0=$(rss server) fds0=$(fds)
besieged stay 5000 1
besieged mute 5000 250
besieged guess 800 250
besieged deaf 5000 250
besieged flash 800 250
rss1=$(rss server)
note "$rss0 kB before, $rss1 kB afterwards"
ok 'and so is the memory' [ $((rss1 - rss0)) -le 2048 ]
stop agent-web
stop agent-say
ok 'the server ends' stop server
finish
