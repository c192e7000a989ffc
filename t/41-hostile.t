#!/bin/sh
# 41-hostile.t - strangers: silent, slow, many, loud, of another tongue, and
# those who take a node again and again.  The honest log in meanwhile.
# shellcheck disable=SC1091,SC2016,SC2154	# rc: lib.sh
. t/lib.sh

tree=$MSSH

# grown KB: the server has not grown by more than that since rss0 was taken.
grown() {
	now_=$(rss server)
	echo "$rss0 kB before, $now_ kB now"
	[ $((now_ - rss0)) -le "$1" ]
}

# figure NAME WORD: the number behind WORD in what a crowd said at its end.
figure() {
	sed -n "s/.*$2 \\([0-9]*\\).*/\\1/p" "$T/$1.log"
}

crowd() {
	start crowd "$T/peer" crowd "$SRV" "$@"
}

# crowd_cut: the crowd ends by itself, at the deadline of 5 s or later: how much
# later the machine decides.
crowd_cut() {
	wait_gone crowd 120 || return 1
	cat "$T/crowd.log"
	[ "$rc" = 0 ] && [ "$(figure crowd ended)" = 5000 ] &&
	    [ "$(figure crowd most)" -le 60000 ]
}

# patient KIND: 5000 of them come and stay as long as they may.
patient() {
	rss0=$(rss server)
	crowd 5000 "$1"
	ok "5000 $1: all are connected" wait_log crowd 'all 5000' 60
	ok "5000 $1: the server grows by 2 MB at most" grown 2048
	ok "5000 $1: a login meanwhile" msh web true
	ok "5000 $1: cut at the deadline" crowd_cut
	note "$(tail -n 1 "$T/crowd.log"); server $rss0 -> $(rss server) kB"
	ok "5000 $1: nor has it grown afterwards" grown 2048
}

# few: as $MSSH, with 64 descriptors.
few() {
	cat >"$T/few" <<-END
	#!/bin/sh
	ulimit -n 64
	exec "$tree" "\$@"
	END
	chmod 755 "$T/few"
	MSSH=$T/few
	server "$@"
	MSSH=$tree
}

# crowded: with 300 at the door it neither spins nor chatters.
crowded() {
	took_=$(ms)
	lines_=$(wc -l <"$T/server.log")
	cpu_=$(cpu server)
	sleep 4
	cpu_=$(($(cpu server) - cpu_))
	lines_=$(($(wc -l <"$T/server.log") - lines_))
	took_=$(($(ms) - took_))
	echo "$cpu_ ms of $took_, $lines_ lines meanwhile"
	[ "$cpu_" -lt 200 ] && [ "$lines_" -le $((took_ / 1000 + 1)) ]
}

ms() {
	perl -MTime::HiRes=clock_gettime,CLOCK_MONOTONIC -e \
	    'print int(clock_gettime(CLOCK_MONOTONIC) * 1000), "\n"'
}

# recovered: a login comes through; sets left, ms that it took.
recovered() {
	left=$(ms)
	wait_for 60 msh web true || return 1
	left=$(($(ms) - left))
}

descriptors() {
	few --startups 1000
	agent web
	crowd 300 stay
	ok '300 with 64 descriptors: all at the door' \
	    wait_log crowd 'all 300' 60
	ok '300 with 64 descriptors: the log says so' \
	    wait_log server 'out of descriptors' 60
	ok '300 with 64 descriptors: no spin, a line a second' crowded
	stop crowd
	ok '300 with 64 descriptors: a login when they have left' recovered
	note "the login took $left ms"
	stop agent-web
	stop server
}

# Half of the descriptors are never a stranger's.  The crowd comes from many
# addresses, and again whenever it is sent away.
startups() {
	few
	agent web
	crowd 300 stay web 250
	ok '300 and --startups: all came' wait_log crowd 'all 300' 60
	ok '300 and --startups: the log says so' \
	    wait_log server '(--startups)' 60
	n=$(find "/proc/$(pid server)/fd" -mindepth 1 | wc -l)
	note "$n of 64 descriptors"
	ok '300 and --startups: descriptors are left' [ "$n" -le 48 ]
	# full: one try in ten or so comes through
	ok '300 and --startups: a login meanwhile' wait_for 180 msh web true
	stop crowd
	stop agent-web
	stop server
	few --startups 5
	crowd 4 stay web 1	# they stay 5 s, and come again
	ok 'a fourth of one address is turned away' \
	    wait_log server '(2/3 of --startups)' 60
	ok 'any other as well' talk gone
	ok 'somebody else is not' perl -MIO::Socket::INET -e '
		my $s = IO::Socket::INET->new(PeerAddr => $ARGV[0],
		    LocalAddr => "127.0.0.9") or die "no connection";
		print $s "MSSH/2 client nosuch\n";
		exit !(<$s> =~ /^ERROR offline/)' "$SRV"
	stop crowd
	stop server
}

# fits STEP...: the conversation comes to its end: after 5 s, if the machine
# has time for it.
fits() {
	began=$(ms)
	talk "$@" || return 1
	began=$(($(ms) - began))
	echo "$began ms"
	[ "$began" -lt 60000 ]
}

flood() {
	taken=$(talk flood=1000000000 gone) || return 1
	[ "$taken" -lt 1000000000 ]
}

tls() {
	began=$(ms)
	openssl s_client -connect "$SRV" </dev/null >"$T/tls" 2>&1
	cat "$T/tls"
	[ $(($(ms) - began)) -lt 60000 ] && grep -qi 'alert' "$T/tls"
}

http() {
	perl -MHTTP::Tiny -e '$r = HTTP::Tiny->new(timeout => 60)->get(
	    "http://$ARGV[0]/"); print "$r->{status} $r->{content}";
	    exit !($r->{status} == 426 && $r->{content} =~ /mssh/)' "$SRV"
}

ssh_lost() {
	began=$(ms)
	ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=no \
	    -o UserKnownHostsFile=/dev/null -p "$PORT" 127.0.0.1 true \
	    >"$T/lost" 2>&1
	rc=$?
	cat "$T/lost"
	[ "$rc" = 255 ] && [ $(($(ms) - began)) -lt 60000 ] &&
	    grep -q 'mssh' "$T/lost"
}

# An agent's words are a stranger's, too.
bad_agent() {
	long=$(printf '%0450d' 0)
	start liar "$T/peer" talk "$SRV" \
	    'send=MSSH/2 agent liar run=1 slot=0\n' line=OK tell=parked \
	    line=GO "send=ERROR unreachable $long\\n" gone
	wait_log liar parked &&
	    talk 'send=MSSH/2 client liar\nx' 'line=ERROR unreachable' gone
}

garbage() {
	crowd 10000 garbage
	wait_gone crowd 120 || return 1
	cat "$T/crowd.log"
	[ "$rc" = 0 ] && [ "$(figure crowd ended)" = 10000 ]
}

log_is_clean() {
	if grep -n '[^ -~]' "$T/server.log"; then
		return 1
	fi
	awk 'length > 200 { print length ": " $0; bad = 1 }
	    END { exit bad }' "$T/server.log"
}

tongues() {
	rss0=$(rss server)
	for line in 'hello\n' 'MSSH/3 client web\n' 'MSSH/2 server web\n' \
	    'MSSH/2 client\n' 'MSSH/2 client -oProxyCommand=id\n' \
	    'MSSH/2 client web wait=x\n' 'MSSH/2 client \x1b[31mweb\n' \
	    'MSSH/2 agent web slot=64\n' '\xff\xfe' '\x00\n'; do
		ok "answered: $line" fits "send=$line" 'line=ERROR syntax' eof
	done
	ok 'answered: version 1, a bad node' fits 'send=CLIENT a/b\n' \
	    'line=ERROR' eof
	ok 'answered: half a hello, then nothing' fits 'send=MSSH/2 cli' \
	    'line=ERROR timeout' eof
	ok 'answered: half a hello, then the end' fits 'send=MSSH/2 cli' fin \
	    gone
	ok 'a hello of 1 GB without an end' flood
	note "it took ${taken:-?} bytes"
	ok 'a TLS client gets an alert' tls
	ok 'an HTTP client gets a 426 and a sentence' http
	ok 'an ssh client gets a sentence' ssh_lost
	ok '10,000 connections of binary garbage' garbage
	note "$(tail -n 1 "$T/crowd.log")"
	ok 'an agent that lies at length' bad_agent
	ok 'none of it made the server grow' grown 2048
	ok 'log lines are short and printable' log_is_clean
	ok 'a login after all this' msh web true
}

# honest NAME: five logins with the descriptor handed over, five through stdio.
honest() {
	for how in msh psh; do
		good=0 worst=0
		for i in 1 2 3 4 5; do
			began=$(ms)
			if timeout 120 "$T/$how" web true >"$T/login" 2>&1; then
				good=$((good + 1))
			else
				note "login $i: $(cat "$T/login")"
			fi
			began=$(($(ms) - began))
			[ $began -le $worst ] || worst=$began
		done
		is $good 5 "$1: 5 of 5 logins ($how)"
		note "the slowest took $worst ms"
	done
}

# besieged KIND COUNT LEAST: the honest among COUNT strangers who try LEAST
# times at the least.
besieged() {
	crowd "$2" "$1" web
	wait_log crowd 'are connected' 60
	honest "$2 strangers, $1"
	ok "$1: they really tried" wait_log crowd "tried $3" 120
	stop crowd
	note "strangers: $(figure crowd begun) connections"
	# else MaxStartups may count them against the next login
	wait_for 60 alone
}

# alone: nobody is on his way into sshd.
alone() {
	! pgrep -P "$(pid sshd)"
}

sshd_start 'MaxStartups 10:30:100'
server
agent web
ok 'a login before all this' msh web true

besieged loop2 4 500
besieged loop1 4 500
besieged hold2 100 100
besieged hold1 50 50
patient silent
patient drip
tongues
stop agent-web
is "$rc" 0 'the agent ends with 0'
stop server
is "$rc" 0 'the server ends with 0'

descriptors
startups
finish
