#!/bin/sh
# 59-metrics.t - --metrics: the page, what makes its numbers change, who may
# ask and how, a real Prometheus and the queries of the manual; STATUS= of the
# agent.
# shellcheck disable=SC1091,SC2016,SC2034,SC2154	# lib.sh; perl and sh -c
t/need sshd ssh perl json_pp ps curl promtool prometheus prlimit || exit 1
. t/lib.sh

umask 077
born=$(date +%s)
service
SSHD_PORT=$SVC
version=$("$MSSH" --version | awk '{ print $2 }')

# measured [options]: a server with --metrics at $M.
measured() {
	M=${PM:-127.0.0.1:$(ports 1)}
	server --metrics "$M" "$@"
	wait_log server "metrics at $M" || bail 'no metrics'
}

# scrape: into $T/page, by TCP or the Unix socket.
SOCKET=''
scrape() {
	curl -sS -m 60 ${SOCKET:+--unix-socket "$SOCKET"} \
	    "http://$M/metrics" >"$T/page"
}

# value NAME: what a fresh page says.
value() {
	scrape
	awk -v n="$1" '$1 == n { print $2 }' "$T/page"
}

# now NAME WANT: it is so soon (a connection may be about to end).
now() {
	wait_for 30 has_value "$@"
	is "$(value "$1")" "$2" "$1 is $2"
}
has_value() {
	[ "$(value "$1")" = "$2" ]
}

# sum FAMILY FILE: of its values; timeouts, which come when they do, apart.
sum() {
	awk -v n="$1" 'index($1, n "{") == 1 && !/timeout/ { s += $2 }
	    END { print s + 0 }' "$2"
}
all_of() {
	scrape
	sum "$1" "$T/page"
}

# ---- the page

server
is "$(log_count server 'listening on ')" 1 'off by default'
is "$(curl -sS -o "$T/out" -w '%{http_code}' "http://$SRV/metrics")" 426 \
    'and never at the port for all'
stop server

measured --verbose
# both have a deadline of five seconds
start slow "$T/peer" talk "$M" 'send=GET /metrics HTTP/1.1\r\nHost:' \
    'line=HTTP/1.1 408 ' gone
start late "$T/peer" talk "$SRV" 'send=MSSH/2 cli' 'line=ERROR timeout' eof
is "$(curl -sS -o "$T/out" -w '%{http_code}' "http://$SRV/metrics")" 426 \
    'nor is it with --metrics'
ok 'a page' scrape
is "$(promtool check metrics <"$T/page" 2>&1; echo $?)" 0 'promtool likes it'
is "$(curl -sS -o "$T/out" -w '%{http_code} %{content_type}' \
    "http://$M/metrics")" '200 text/plain; version=0.0.4; charset=utf-8' \
    "Prometheus' text format"
accept='Accept: application/openmetrics-text; version=1.0.0,text/plain;q=0.5'
is "$(curl -sS -H "$accept" -o "$T/open" -w '%{http_code} %{content_type}' \
    "http://$M/metrics")" \
    '200 application/openmetrics-text; version=1.0.0; charset=utf-8' \
    'OpenMetrics for who asks for it'
is "$(tail -n 1 "$T/open")" '# EOF' 'it ends as it has to'
ok 'each family has help and a type, and its own samples below' perl -ne '
	if (/^# HELP (\S+) \S/) { $help = $1 }
	elsif (/^# TYPE (\S+) (gauge|counter|histogram)$/) {
		($name, $type) = ($1, $2);
		die "$_ after $help" if $help ne $name || $seen{$name}++;
		die "$_" if $name =~ /_total$/;
	} elsif (/^# EOF$/) { $eof = eof }
	elsif (/^(\w+)(\{\w+="[\w.+]+"\})? ([0-9.]+)$/) {
		my %end = (gauge => "", counter => "_total",
		    histogram => "_(bucket|sum|count)");
		my ($n, $l) = ($1, $2 || "");
		die $_ unless $n =~ /^$name$end{$type}$/;
		die "twice: $_" if $sample{$n . $l}++;
	} else { die $_ }
	END { exit !($eof && 15 < keys %seen) }' "$T/open"
ok 'the same names in both' sh -c '
	grep -v "^#" "$1" | cut -d" " -f1 | sort >"$1.names"
	grep -v "^#" "$2" | cut -d" " -f1 | sort >"$2.names"
	diff "$1.names" "$2.names"' - "$T/page" "$T/open"
ok 'all that an operator was promised' sh -c 'while read -r n; do
	grep -qF "$n " "$1" || { echo "no $n"; exit 1; }
	done' - "$T/page" <<'END'
mssh_nodes{state="online"}
mssh_nodes{state="busy"}
mssh_nodes{state="offline"}
mssh_parked_connections
mssh_waiting_clients
mssh_sessions
mssh_ended_sessions_total{by="client"}
mssh_ended_sessions_total{by="node"}
mssh_ended_sessions_total{by="network"}
mssh_ended_sessions_total{by="server"}
mssh_session_bytes_total{direction="up"}
mssh_session_bytes_total{direction="down"}
mssh_refusals_total{reason="denied"}
mssh_handshakes_total{result="ok"}
mssh_accept_pauses_total
mssh_pairing_seconds_bucket{le="+Inf"}
mssh_pairing_seconds_sum
mssh_pairing_seconds_count
mssh_loop_turn_seconds_bucket{le="0.002"}
mssh_loop_turn_seconds_count
process_open_fds
process_max_fds
process_resident_memory_bytes
process_start_time_seconds
END
is "$(value "mssh_build_info{version=\"$version\"}")" 1 'its version'

# ---- nodes, sessions, bytes

# held NAME NODE [FINAL STEP]...: a session that stays.
held() {
	name_=$1 node_=$2
	shift 2
	as "$name_" "send=MSSH/2 client $node_\\necho\\nhello\\n" \
	    'until=hello\n' tell=begun "$@" gone
	wait_log "$name_" begun
}
agent zebra-1 --spare 2
agent zebra-2
parked_twice() {
	[ "$(value mssh_parked_connections)" = 3 ]
}
wait_for 60 parked_twice
now 'mssh_nodes{state="online"}' 2
now mssh_parked_connections 3
as only 'send=MSSH/2 agent zebra-3 run=1\n' line=OK tell=parked line=GO \
    'send=READY\nhello\n' tell=called gone
wait_log only parked
now 'mssh_nodes{state="online"}' 3
ok 'a session with the third' held on-only zebra-3
now 'mssh_nodes{state="busy"}' 1
now 'mssh_nodes{state="online"}' 2
now mssh_sessions 1
as waits 'send=MSSH/2 client zebra-3 wait=600\nx' gone
now mssh_waiting_clients 1
stop waits
now mssh_waiting_clients 0
stop agent-zebra-2
now 'mssh_nodes{state="offline"}' 1
now 'mssh_nodes{state="online"}' 1
ok 'a session with the first' held on-first zebra-1
now mssh_sessions 2
now mssh_parked_connections 2

# same_as_list: the page and mssh list agree.
same_as_list() {
	scrape
	"$MSSH" list --server "$SRV" | awk -F '\t' '
	{ n[$2]++; parked += $6; sessions += $7; waiting += $8 }
	END {
		for (s in n)
			print "mssh_nodes{state=\"" s "\"} " n[s]
		print "mssh_parked_connections", parked
		print "mssh_sessions", sessions
		print "mssh_waiting_clients", waiting
	}' >"$T/want"
	while read -r line; do
		grep -qxF "$line" "$T/page" || { echo "no $line"; return 1; }
	done <"$T/want"
}
ok 'the page says what mssh list says' same_as_list
# The page counts the connection that it is sent by; what a server has been
# given beyond the usual it does not know.
fds() {
	n=$(value process_open_fds)
	set -- "/proc/$(pid server)/fd/"*
	open=$#
	for fd in "/proc/$$/fd/"*; do
		[ "${fd##*/}" -lt 64 ] || [ ! -e "${1%/*}/${fd##*/}" ] ||
		    open=$((open - 1))
	done
	[ "$n" = $((open + 1)) ] || { echo "$n, not $((open + 1))"; return 1; }
}
ok 'descriptors are those that are open' wait_for 30 fds || note "$(fds)"
is "$(value process_max_fds)" "$(awk '/^Max open files/ { print $4 }' \
    "/proc/$(pid server)/limits")" 'and as many as may be'
is "$(value process_resident_memory_bytes | awk -v kb="$(rss server)" '{
    print ($1 > kb * 500 && $1 < kb * 2000) }')" 1 'memory, in bytes'
is "$(value process_start_time_seconds | awk -v a="$born" \
    -v b="$(date +%s)" '{ print ($1 >= a - 1 && $1 <= b + 1) }')" 1 \
    'when it was started'

down=$(value 'mssh_session_bytes_total{direction="down"}')
up=$(value 'mssh_session_bytes_total{direction="up"}')
ok 'a megabyte each way' "$T/peer" xfer "$SRV" zebra-1 1000000
now 'mssh_session_bytes_total{direction="up"}' $((up + 1000000 + 15))
now 'mssh_session_bytes_total{direction="down"}' $((down + 1000000 + 3))

# ---- how sessions end

# ends BY NAME: the session "s" counts as one that ended so.
ends() {
	now "mssh_ended_sessions_total{by=\"$1\"}" \
	    $(($(awk -v n="mssh_ended_sessions_total{by=\"$1\"}" '$1 == n {
		print $2 }' "$T/before") + 1))
	is "$(all_of mssh_ended_sessions_total)" $(($(sum \
	    mssh_ended_sessions_total "$T/before") + 1)) 'and as nothing else'
}
before() {
	scrape
	cp "$T/page" "$T/before"
}
before
talk 'send=MSSH/2 client zebra-1\necho\nhi\n' 'until=hi\n' fin eof
ends client
before
talk 'send=MSSH/2 client zebra-1\nclose\n' 'until=OK' gone
ends node
before
talk 'send=MSSH/2 client zebra-1\necho\nhi\n' 'until=hi\n' rst
ends network
before
stop only
ends node
stop on-first >/dev/null

# ---- handshakes and refusals

# counted REASON HANDSHAKE cmd...: that is refused so, once; HANDSHAKE is what
# the hello had as its result, or - for none.
counted() {
	reason=$1 result=$2
	shift 2
	before
	"$@" >"$T/out" 2>&1
	refusal="mssh_refusals_total{reason=\"$reason\"}"
	now "$refusal" $(($(was "$refusal") + 1))
	is "$(all_of mssh_refusals_total)" $(($(sum \
	    mssh_refusals_total "$T/before") + 1)) "$reason, nothing else" ||
	    note "$(cat "$T/out")"
	[ "$result" = - ] || is "$(value \
	    "mssh_handshakes_total{result=\"$result\"}")" \
	    $(($(was "mssh_handshakes_total{result=\"$result\"}") + 1)) \
	    "$reason: the hello was $result"
}
was() {
	awk -v n="$1" '$1 == n { print $2 }' "$T/before"
}
counted syntax syntax talk 'send=MSSH/2 client -x\n' 'line=ERROR syntax' eof
counted syntax syntax talk 'send=\x01\xff\n' 'line=ERROR syntax' eof
counted offline ok "$MSSH" ping never --server "$SRV"
counted exists ok talk 'send=MSSH/2 agent zebra-1 run=77\n' \
    'line=ERROR exists' eof
web='GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: mssh\r\n\r\n'
counted denied ok talk "send=${web}MSSH/2 list *\\n" \
    'until=ERROR denied' gone
agent zebra-5 --ssh-port "$(free_port)"
counted unreachable - talk 'send=MSSH/2 client zebra-5\nx' \
    'line=ERROR unreachable' eof
as busy 'send=MSSH/2 agent zebra-6 run=1\n' line=OK tell=parked line=GO \
    'send=READY\nhello\n' gone
wait_log busy parked
held on-busy zebra-6
counted busy ok "$MSSH" ping zebra-6 --server "$SRV"
stop on-busy
before
talk 'send=MSSH/2 agent zebra-7 run=1\n' line=OK
now 'mssh_handshakes_total{result="ok"}' \
    $(($(was 'mssh_handshakes_total{result="ok"}') + 1))
is "$(all_of mssh_refusals_total)" "$(sum mssh_refusals_total "$T/before")" \
    'who is let in is no refusal'

# ---- histograms

n=$(value mssh_pairing_seconds_count)
talk 'send=MSSH/2 client zebra-1\necho\nhi\n' 'until=hi\n' fin eof
now mssh_pairing_seconds_count $((n + 1))
echo x | "$MSSH" ping never --server "$SRV" 2>"$T/err"
now mssh_pairing_seconds_count $((n + 1))
scrape
ok 'buckets only grow, and the last has all' perl -ne '
	/^(\w+)_bucket\{le="(\S+)"\} (\d+)$/ and do {
		die $_ if $3 < ($last{$1} || 0);
		$last{$1} = $3; $n{$1}++;
	};
	/^(\w+)_sum (\d+\.\d{6})$/ and $sum{$1} = $2;
	/^(\w+)_count (\d+)$/ and $count{$1} = $2;
	END {
		for (qw(mssh_pairing_seconds mssh_loop_turn_seconds)) {
			die "$_ $last{$_} $count{$_}" if $n{$_} != 17 ||
			    $last{$_} != $count{$_} || $sum{$_} <= 0;
		}
	}' "$T/page"
n=$(value mssh_loop_turn_seconds_count)
ok 'turns of the loop are counted' [ \
    "$(value mssh_loop_turn_seconds_count)" -gt "$n" ]

# ---- who asks in other ways

# asks STATUS TEXT: what is said to that at the port of the metrics.
asks() {
	"$T/peer" talk "$M" "send=$2" print >"$T/got" || return 1
	cat "$T/got"
	perl -0777 -ne 'BEGIN { $want = shift } exit !/\AHTTP\/1\.1 $want /' \
	    "$1" "$T/got" && ! grep -q '^mssh_' "$T/got"
}
pad=$(printf '%04100d' 0)
while read -r status text; do
	[ "$text" != long ] || text="GET /metrics HTTP/1.1\\r\\nPad: $pad"
	ok "$status: $(printf %.50s "$text")" asks "$status" "$text"
done <<'END'
404 GET / HTTP/1.1\r\nHost: x\r\n\r\n
404 GET /metrics/ HTTP/1.1\r\nHost: x\r\n\r\n
404 GET /metricsx HTTP/1.1\r\nHost: x\r\n\r\n
40[45] POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx
40[45] DELETE /metrics HTTP/1.0\r\n\r\n
(200|40[45]) HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n
505 PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n
400 \x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03
400 MSSH/2 list *\n
400 MSSH/2 agent evil run=1\n
400 CLIENT zebra-1\n
400 GET /metrics\r\n\r\n
400 GET /metrics HTTP/1.1\r\nA: b\rc\r\n\r\n
431 long
END
ok 'nobody registers there' [ "$(log_count server 'evil registered')" = 0 ]
is "$(curl -sS "http://$M/healthz")" ok 'GET /healthz'
is "$(curl -sS -I -o "$T/out" -w '%{http_code}' "http://$M/healthz")" 200 \
    'HEAD /healthz'
is "$(curl -sS "http://$SRV/healthz")" ok 'GET /healthz at the port for all'
is "$(curl -sS -0 -o "$T/out" -w '%{http_code}' "http://$M/metrics")" 200 \
    'HTTP/1.0'
ok 'byte by byte' "$T/peer" talk "$M" \
    'drip=GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n' 'line=HTTP/1.1 200 ' \
    'until=mssh_nodes{state="online"} '
ok 'with more behind it' "$T/peer" talk "$M" \
    'send=GET /metrics HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n' \
    'line=HTTP/1.1 200 ' 'until=mssh_build_info' gone

kb=$(rss server)
was=$SRV
SRV=$M
ok '300 scrapers that do not read' strangers deaf 300 \
    'GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n'
SRV=$was
ok 'harm nobody: a page' scrape
ok 'and a session' talk 'send=MSSH/2 client zebra-1\necho\nhi\n' \
    'until=hi\n' fin eof
ok 'the server does not grow' [ $(($(rss server) - kb)) -lt 2000 ] ||
    note "$kb kB, $(rss server) kB"
stop deaf
ok 'and they leave no descriptor' wait_for 60 fds

talk "send=${web}MSSH/2 agent giraffe\\n" 'until=OK'
scrape
ok 'no name that somebody chose is in the page' sh -c \
    '! grep -E -e "zebra|giraffe|127\.0|never" "$1"' - "$T/page"
wait_gone slow
is "$rc" 0 'half a request: 408 at its deadline'
wait_gone late
is "$rc" 0 'half a hello'
is "$(value 'mssh_refusals_total{reason="timeout"}')" 1 'is a timeout, one'
is "$(value 'mssh_handshakes_total{result="timeout"}')" 1 'of a hello'
for n in zebra-1 zebra-5; do
	stop agent-$n
done
ok 'in the end the page still says what mssh list says' same_as_list
stop server

# Prometheus takes a while to start, and finds its target later.
PM=127.0.0.1:$(ports 1)
WEB=$(ports 1)
cat >"$T/prometheus.yml" <<END
global:
  scrape_interval: 1s
  scrape_timeout: 1s
scrape_configs:
  - job_name: mssh
    static_configs:
      - targets: ['$PM']
END
is "$(promtool check config "$T/prometheus.yml" >"$T/out" 2>&1; echo $?)" 0 \
    'a configuration for it'
start prometheus prometheus --config.file="$T/prometheus.yml" \
    --storage.tsdb.path="$T/tsdb" --web.listen-address="127.0.0.1:$WEB"

# ---- with keys, another user, PROXY headers; by a Unix socket

for k in lion tiger wrong; do
	"$MSSH" keygen $k >"$T/$k.key"
done
{
	echo "agent * $(cat "$T/lion.key")"
	echo "client * $(cat "$T/tiger.key")"
} >"$T/keys"
user=''
if [ "$(id -u)" = 0 ]; then
	user='--user nobody'
	chmod 711 "$T"
	chgrp "$(id -gn nobody)" "$T/keys"
	chmod 640 "$T/keys"
fi
# shellcheck disable=SC2086	# words
measured --keys "$T/keys" --strict-reload $user
sandbox=$("$MSSH" --version | sed 's/.*, //; s/)$//')
[ "$sandbox" = 'no sandbox' ] ||
    ok 'the server is confined' wait_log server "confined by $sandbox"
ok 'a page with keys' scrape
ok 'which has the memory, too' [ \
    "$(value process_resident_memory_bytes)" -gt 100000 ]
agent zebra-1 --key "$T/lion.key"
start with-key sh -c '(echo echo; echo hello; exec sleep 1000) |
    exec "$MSSH" proxy zebra-1 --server "$SRV" --key "$T/tiger.key"'
ok 'a session with a key' wait_log with-key hello
now mssh_sessions 1
before
echo "agent * $(cat "$T/lion.key")" >"$T/keys"
kill -HUP "$(pid server)"
ends server
ok 'no name of a key is in the page' sh -c \
    '! grep -E "lion|tiger|zebra" "$1"' - "$T/page"
counted denied denied talk 'send=MSSH/2 client zebra-1\n' \
    'line=ERROR denied' eof
nonce=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
counted denied denied talk \
    "send=MSSH/2 client zebra-1 key=tiger nonce=$nonce\\n" line=CHALLENGE \
    "send=PROOF mac=$nonce\\n" 'line=ERROR denied' eof
stop agent-zebra-1
stop with-key >/dev/null
stop server

measured --proxy-protocol --trusted 127.0.0.1
ok 'with --proxy-protocol no such header is wanted here' scrape
ok 'it is at the other port' talk "send=${web}" 'line=ERROR syntax'
stop server

server --metrics "unix:$T/metrics" --startups 3
wait_log server "listening on unix:$T/metrics"
M=localhost SOCKET=$T/metrics
ok 'unix:PATH' scrape
is "$(promtool check metrics <"$T/page" 2>&1; echo $?)" 0 'a page as any'
# Two of one address have not said a word; of three there may be two.
for n in one two; do
	as $n tell=here gone
	wait_log $n here
done
counted limit - talk gone
stop one
stop two
as crowd tell=here gone
wait_log crowd here
stop crowd

# With no descriptor left nobody is accepted for a moment.
is "$(value mssh_accept_pauses_total)" 0 'no pause so far'
most=$(value process_max_fds)
prlimit --pid "$(pid server)" --nofile="8:$most"
as crowd tell=here gone
ok 'no descriptor is left' wait_log server 'out of descriptors'
prlimit --pid "$(pid server)" --nofile="$most:$most"
ok 'there are some again' wait_for 60 scrape
ok 'there was a pause' [ "$(value mssh_accept_pauses_total)" -gt 0 ]
stop crowd
stop server
SOCKET=''

for where in x '' :1 127.0.0.1 127.0.0.1:65536 127.0.0.1:-1 127.0.0.1:x; do
	timeout 60 "$MSSH" server --port 0 --metrics "$where" >"$T/out" 2>&1
	is "$?" 2 "usage: --metrics '$where'"
done
measured
timeout 60 "$MSSH" server --host 127.0.0.1 --port 0 --metrics "$M" \
    >"$T/out" 2>&1
is "$? $(grep -c "cannot listen on" "$T/out")" '1 1' 'a port that is taken'
stop server

# ---- a real Prometheus

# query PROMQL: what it says, sorted, a line each: labels that are not of the
# target, and the value.
query() {
	curl -sS -m 60 -G --data-urlencode "query=$1" \
	    "http://127.0.0.1:$WEB/api/v1/query" | perl -MJSON::PP -0777 -ne '
	    my $r = JSON::PP->new->decode($_);
	    die $_ unless $r->{status} eq "success";
	    print sort map {
		my $m = $_->{metric};
		my $l = join ",", map "$_=$m->{$_}",
		    grep !/^(__name__|instance|job)$/, sort keys %$m;
		sprintf "%s%s%.4g\n", $l, $l && " ", $_->{value}[1];
	    } @{$r->{data}{result}}'
}
# answers WANT PROMQL: does it say so?
answers() {
	[ "$(query "$2")" = "$1" ]
}
# soon WANT NAME PROMQL: it will, when it has come for the page.
soon() {
	ok "$2" wait_for 60 answers "$1" "$3" || note "$(query "$3")"
}

measured
ok 'Prometheus starts' wait_log prometheus 'Server is ready' 60
soon 1 'it has the page' 'up{job="mssh"}'
soon 'version='"$version"' 1' 'as OpenMetrics' mssh_build_info
# A busy machine may miss a second, whose page is empty then.
soon 'reason=syntax 0' 'nobody was refused' \
    'mssh_refusals_total{reason="syntax"}'

# nodes that are down
agent up
for n in down1 down2; do
	agent $n
	stop agent-$n
done
soon 2 'query: nodes that are down' 'sum(mssh_nodes{state="offline"}) > 0'
# slow pairing: one session of four took more than 2.5 s
as slow 'send=MSSH/2 agent slow run=1\n' line=OK tell=parked line=GO \
    wait=2600 'send=READY\n' gone
wait_log slow parked
start slow-client "$T/peer" talk "$SRV" 'send=MSSH/2 client slow\nx' line=OK \
    tell=in gone
for n in 1 2 3; do
	talk 'send=MSSH/2 client up\necho\nhi\n' 'until=hi\n' fin eof
done
ok 'one that is slow' wait_log slow-client in
soon 0.25 'query: the share of slow pairings' '1 -
  sum(increase(mssh_pairing_seconds_bucket{le="2.5"}[5m]))
  / sum(increase(mssh_pairing_seconds_count[5m]))'
# refusals
for n in 1 2 3 4; do
	talk 'send=MSSH/2 client -x\n' 'line=ERROR syntax' eof
done
for n in 1 2; do
	talk "send=${web}MSSH/2 list *\\n" 'until=ERROR denied' gone
done
soon 'reason=denied 2
reason=syntax 4' 'it has all of the refusals' 'mssh_refusals_total > 0'
is "$(query 'sum by (reason) (increase(mssh_refusals_total[5m])) > 0' |
    awk '{ n[NR] = $2; l = l $1 }
    END { printf "%s %.1f", l, n[2] / n[1] }')" \
    'reason=deniedreason=syntax 2.0' 'query: refusals by reason'
soon 1 'and the numbers that all processes have' \
    'count(process_resident_memory_bytes > 100000)'
stop prometheus
stop server
stop agent-up

# ---- what systemctl shows of an agent

cat >"$T/notified" <<'END'
use IO::Socket::UNIX;
my $s = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => shift) or die $!;
$| = 1;
print "listening\n";
while (defined $s->recv(my $m, 4096)) {
	print "$m\n";
}
END
start notify perl "$T/notified" "$T/notify"
wait_log notify listening
server
start agent-web env NOTIFY_SOCKET="$T/notify" WATCHDOG_USEC=200000 \
    "$MSSH" agent web --server "$SRV" --exec 'read -r x; echo hello; exec cat'
ok 'STATUS=: where it is parked' wait_log notify \
    "STATUS=web parked at $SRV for "
# each second, but a busy machine may leave one out
ok 'and for how long' wait_for 30 \
    grep "parked at $SRV for [1-9][0-9]* s, 0 sessions" "$T/notify.log"
held on-web web
ok 'and its sessions' wait_log notify " s, 1 sessions"
mark notify
stop on-web
ok 'as they are' wait_log notify ' s, 0 sessions'
mark notify
stop server
ok 'or that it is not' wait_log notify "STATUS=not registered at $SRV: "
stop agent-web

# ---- refusals that are only in the log

measured
counted syntax syntax talk 'send=\x16\x03\x01\x02\x00\x01\x00\x01\xfc' gone
counted syntax syntax talk 'send=SSH-2.0-x\r\n' gone
counted syntax - talk 'send=GET / HTTP/1.1\r\nHost: x\r\n\r\n' gone
stop server
measured --keys "$T/keys"
counted denied denied "$MSSH" proxy x --server "$SRV" --key "$T/wrong.key"
# An Upgrade at the port of the metrics leads nowhere.
ok '404: an Upgrade' asks 404 "$web"
stop server
finish
