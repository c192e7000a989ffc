#!/bin/sh
# 57-answers.t - every exit code and every sentence in the tables of mssh(1):
# what is written there is what the programs say
#
# The tables are read from man/mssh.1.  A row of DIAGNOSTICS becomes a pattern:
# its words in capitals stand for something, all others are compared.  exits
# and says compare what a program did with a row, and note the row.  In the end
# each row must have been noted, so a new row needs a new provocation.  A row
# that is reworded needs no change here, as long as it keeps the few words by
# which says finds it.
# shellcheck disable=SC2016	# scripts in quotes
t/need ssh-keygen sshd openssl haproxy socat perl ps || exit 1
# shellcheck source=t/lib.sh
. t/lib.sh
umask 077
page=man/mssh.1

# ---- the tables

# section NAME: its lines.
section() {
	sed -n "/^\\.Sh $1\$/,/^\\.Sh /p" "$page"
}

section 'EXIT STATUS' >"$T/status"
section DIAGNOSTICS >"$T/diag"
sed -n 's/^\.It \([0-9]*\)$/\1/p' "$T/status" >"$T/codes"
sed -n 's/^\.It "\(.*\)"$/\1/p' "$T/diag" >"$T/rows"
: >"$T/codes.done"
: >"$T/rows.done"

# all_read ITEMS ROWS: each .It of a table is a row that we understand.
all_read() {
	[ -s "$2" ] && ! grep -F "\\" "$2" && [ -z "$(sort "$2" | uniq -d)" ] &&
	    [ "$(grep -c '^\.It' "$1")" = "$(wc -l <"$2" | tr -d ' ')" ]
}
ok 'EXIT STATUS can be read' all_read "$T/status" "$T/codes"
ok 'DIAGNOSTICS can be read' all_read "$T/diag" "$T/rows"

# meaning CODE: how the page explains it.
meaning() {
	awk -v code="$1" '/^\./ && !/^\.Nm$/ { on = 0 }
	    on { s = s " " ($0 == ".Nm" ? "mssh" : $0) }
	    $0 == ".It " code { on = 1 }
	    END { print substr(s, 2) }' "$T/status"
}

# pattern ROW [WORD=TEXT]...: an ERE for the whole line.  WORD stands for TEXT,
# or else for anything that can be meant.
pattern() {
	awk 'function plain(s) {
		gsub(/[][\\.^$*+?(){}|]/, "\\\\&", s)
		return s
	}
	BEGIN {
		re["ADDR"] = "([0-9.]+|\\[[0-9a-f:.]+\\])"
		re["PORT"] = re["N"] = "[0-9]+"
		re["HOST"] = "[A-Za-z0-9.-]+"
		re["NODE"] = re["NAME"] = re["KEY"] = "[A-Za-z0-9._-]+"
		re["ROLE"] = "(agent|client)"
		re["WHERE"] = re["FILE"] = "[^ ]+"
		re["ID"] = "[0-9a-f]{16}"
		re["T"] = "[0-9]+ (s|min|h|days)"
		re["WHY"] = ".+"
		for (i = 2; i < ARGC; i++) {
			n = index(ARGV[i], "=")
			w = substr(ARGV[i], 1, n - 1)
			re[w] = plain(substr(ARGV[i], n + 1))
		}
		p = "([0-9T:-]+Z )?mssh: "	# the time: in a log
		for (s = ARGV[1]; match(s, /[A-Za-z]+/);
		    s = substr(s, RSTART + RLENGTH)) {
			w = substr(s, RSTART, RLENGTH)
			p = p plain(substr(s, 1, RSTART - 1)) \
			    (w in re ? re[w] : w)
		}
		p = p plain(s)
		gsub(/\\\.\\\.\\\./, ".+", p)
		print p
	}' "$@"
}

# ---- comparing

# client NODE [options]: mssh proxy, with the first line of an SSH client; its
# exit code is in st, what it said in the file err.
cat >"$T/say" <<'END'
#!/bin/sh
echo SSH-2.0-test | "$MSSH" proxy "$@"
END
chmod 755 "$T/say"
client() {
	st=0 err=$T/err
	timeout 120 "$T/say" "$@" >"$T/out" 2>"$err" || st=$?
}

# ended NAME: the same for a client that start has started.
ended() {
	rc='' err=$T/$1.log
	wait_gone "$1" 120 >>"$err"
	st=$rc
}

# exits CODE ERE: it did, and what it said is one sentence, which names what
# failed, or says what to do (ERE).
exits() {
	what=$(meaning "$1")
	what="exit code $1: ${what:-mssh(1) does not have it}"
	echo "$1" >>"$T/codes.done"
	if grep -qxF -e "$1" "$T/codes" && [ "$st" = "$1" ] &&
	    one_sentence "$1" "$2"; then
		verdict 0 "$what"
		return
	fi
	note "status: $st; it said:"
	note "$(cat "$err")"
	note "wanted in that: $2"
	verdict 1 "$what"
}

one_sentence() {
	if [ "$1" = 0 ]; then
		[ ! -s "$err" ]
		return
	fi
	[ "$(wc -l <"$err")" -eq 1 ] && grep -Eq -e "^mssh: .*$2" "$err"
}

# row_of FRAGMENT: sets row to the one that has FRAGMENT, and notes it.
row_of() {
	row=$(grep -F -e "$1" "$T/rows")
	if [ -z "$row" ] || [ "$(printf '%s\n' "$row" | wc -l)" -ne 1 ]; then
		note "the rows with \"$1\": ${row:-none}"
		verdict 1 "mssh(1) has one row with \"$1\""
		return
	fi
	printf '%s\n' "$row" >>"$T/rows.done"
}

# says FILE FRAGMENT [WORD=TEXT]...: a line in FILE is as the row is that has
# FRAGMENT.  Of a log this is one that may yet come.
says() {
	file=$1
	row_of "$2" || return
	shift 2
	pattern "$row" "$@" >"$T/pattern"
	[ "$file" = "$err" ] && patience=0 || patience=30
	if wait_for "$patience" grep -Eqx -f "$T/pattern" "$file"; then
		verdict 0 "$row"
		return
	fi
	note "no line is like: $(cat "$T/pattern")"
	note "$(tail -n 20 "$file")"
	verdict 1 "$row"
}

# ---- the cast

read -r FORBID WEB SHUT GOOD NAME OLD NOBODY <<END
$(ports 7)
END

# another NAME CMD...: one more server, runs as NAME; sets there, its address.
another() {
	start "$@"
	wait_log "$1" 'listening on ' || bail "no server: $(cat "$T/$1.log")"
	there=$(sed -n 's/.*listening on //p' "$T/$1.log")
}
server -v
sshd_start 'LoginGraceTime 0'
agent demo
agent dead --ssh-port "$NOBODY"

# What takes seconds begins here.

# An agent that is stopped does not answer, but its system acknowledges.
stopped() {
	case $(ps -o stat= -p "$1") in
	*T*) ;;
	*) return 1 ;;
	esac
}
agent frozen
kill -s STOP "$(pid agent-frozen)"
ok 'an agent is stopped' wait_for 30 stopped "$(pid agent-frozen)"
start mute "$T/say" frozen --server "$SRV"

# Two clients wait for a node.  Its agent can dial once: the first of them has
# a session until the server ends, and nothing is parked for the second.
cat >"$T/once" <<'END'
#!/bin/sh
mkdir "$T/dialled.$1" && exec socat - "TCP:$2:$3"
END
cat >"$T/hold" <<'END'
#!/bin/sh
exec "$MSSH" proxy "$@" <"$T/fifo" >"$T/held.out"
END
chmod 755 "$T/once" "$T/hold"
mkfifo "$T/fifo"
exec 7<>"$T/fifo"
second() {
	node=lost$seconds
	mark server
	start held "$T/hold" "$node" --server "$SRV" --wait 600
	echo SSH-2.0-test >&7
	wait_log server '-> waiting' || return
	mark server
	start late "$T/say" "$node" --server "$SRV" --wait "$seconds"
	wait_log server '-> waiting' || return
	agent "$node" --connect "$T/once $node %h %p"
	wait_for 60 grep -q SSH-2.0 "$T/held.out"
}
seconds=3
ok 'one client has a session, another one waits' second

# Certificates, and a proxy and web servers that do not do what we want.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
    -subj /CN=ours -keyout "$T/ca.key" -out "$T/ca.crt" 2>"$T/openssl" ||
    bail "no CA: $(cat "$T/openssl")"
# cert NAME HOST DAYS
cert() {
	echo "subjectAltName=DNS:$2" >"$T/$1.ext"
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
	    -subj "/CN=$1" -keyout "$T/$1.key" -out "$T/$1.csr" \
	    2>"$T/openssl" || bail "no request: $(cat "$T/openssl")"
	openssl x509 -req -in "$T/$1.csr" -days "$3" -CA "$T/ca.crt" \
	    -CAkey "$T/ca.key" -CAcreateserial -extfile "$T/$1.ext" \
	    -out "$T/$1.crt" 2>"$T/openssl" ||
	    bail "no certificate: $(cat "$T/openssl")"
	cat "$T/$1.crt" "$T/$1.key" >"$T/$1.pem"
}
cert good localhost 9
cert name elsewhere.test 9
cert old localhost -1
cat >"$T/haproxy.cfg" <<END
defaults
	timeout connect 5s
	timeout client 60s
	timeout server 60s
frontend forbids
	mode http
	bind 127.0.0.1:$FORBID
	http-request deny
frontend elsewhere
	mode http
	bind 127.0.0.1:$WEB
	http-request return status 404
frontend closes
	mode tcp
	bind 127.0.0.1:$SHUT
	tcp-request inspect-delay 60s
	tcp-request content reject if { req.len gt 0 }
frontend tls
	mode http
	bind 127.0.0.1:$GOOD ssl crt $T/good.pem
	bind 127.0.0.1:$NAME ssl crt $T/name.pem
	bind 127.0.0.1:$OLD ssl crt $T/old.pem
	http-request deny
END
start haproxy haproxy -db -f "$T/haproxy.cfg"
up() {
	perl -MIO::Socket::INET -e 'exit !IO::Socket::INET->new(
	    "127.0.0.1:$ARGV[0]")' "$1"
}
for port in "$FORBID" "$WEB" "$SHUT" "$GOOD" "$NAME" "$OLD"; do
	wait_for 60 up "$port" || bail "nothing listens on port $port:" \
	    "$(cat "$T/haproxy.log")"
done

# ---- what server and agent log

client demo --server "$SRV"
ok 'a session: the banner of sshd' grep -q ^SSH-2.0 "$T/out"
exits 0 ''
says "$T/agent-demo.log" 'to sshd at'
[ "$(uname)" != Linux ] || ok 'the last address is a source alias' \
    grep -E ' to sshd at .* as 127\.[0-9.]*:[0-9]*$' "$T/agent-demo.log"

# Of parked agents each takes a descriptor.
another small sh -c 'ulimit -n 50 && exec "$@"' - "$MSSH" server \
    --host 127.0.0.1 --port 0 --connections 1000 --startups 1000
main=$SRV SRV=$there
ok '100 agents, 50 descriptors' strangers crowd 100 \
    'MSSH/2 agent n$_ run=0123456789abcdef slot=0\n'
says "$T/small.log" 'out of descriptors'
stop crowd
stop small
SRV=$main

# ---- what a client is told

client demo
exits 2 'use --server'
"$MSSH" keygen bob >"$T/bob.key"
cp "$T/bob.key" "$T/open.key"
chmod 644 "$T/open.key"
client demo --server "$SRV" --key "$T/open.key"
exits 2 'chmod 600'

client demo --server "127.0.0.1:$NOBODY"
exits 3 "127.0.0.1:$NOBODY"
client demo --server 192.0.2.1 --proxy "http://127.0.0.1:$FORBID"
exits 3 'the proxy'

echo "client lab-* $(cat "$T/bob.key")" >"$T/keys"
another keyed "$MSSH" server --host 127.0.0.1 --port 0 --keys "$T/keys"
client demo --server "$there"
exits 5 'see --key '
client demo --server "$there" --key "$T/bob.key"
why='the key bob is not good for client demo here'
exits 5 "$why"
says "$err" 'is not good for ROLE' NAME=bob ROLE=client NODE=demo
says "$T/keyed.log" 'refused ADDR' ADDR=127.0.0.1 "WHY=$why"

another fronted "$MSSH" server --host 127.0.0.1 --port 0 --proxy-protocol \
    --trusted 192.0.2.1
client demo --server "$there"
exits 5 '--trusted'
says "$err" 'its reverse proxy only'

client dead --server "$SRV"
exits 6 "127.0.0.1:$NOBODY"
says "$err" 'cannot reach sshd' NODE=dead ADDR=127.0.0.1 "PORT=$NOBODY"

client demo --server "http://127.0.0.1:$WEB/x"
exits 9 'is not an mssh server'
says "$err" 'is not an mssh server' "WHERE=http://127.0.0.1:$WEB/x"
client demo --server "127.0.0.1:$SSHD_PORT"
exits 9 'is not an mssh server'
client demo --server "127.0.0.1:$SHUT"
exits 9 'use tls://'

client demo --server "tls://localhost:$PORT"
exits 10 'leave tls:// out'

# Each reason that the page quotes for a certificate.
sed -n '/^\.It "the certificate/,/^\.It "[^t]/p' "$T/diag" |
    sed -n 's/^\.Ql \([^,]*[^, ]\) *,*$/\1/p' >"$T/reasons"
ok 'mssh(1) quotes reasons' [ -s "$T/reasons" ]
while read -r why <&3; do
	set -- --cafile "$T/ca.crt"
	case $why in
	'hostname mismatch') port=$NAME ;;
	'certificate has expired') port=$OLD ;;
	'unable to get local issuer certificate') port=$GOOD; set -- ;;
	*)
		verdict 1 "nothing here provokes: $why"
		continue ;;
	esac
	client demo --server "tls://localhost:$port" "$@"
	exits 10 "$why"
	says "$err" 'the certificate of' "HOST=localhost:$port" "WHY=$why"
done 3<"$T/reasons"

# ---- what took seconds

# On a machine that was so busy that the agent came when the second client had
# left, once more.
ended late
while [ "$st" = 4 ] && [ "$seconds" -lt 60 ]; do
	note "after $seconds s: $(cat "$err")"
	stop held
	seconds=$((seconds * 3))
	ok 'once more: one client has a session, another one waits' second
	ended late
done
exits 8 'try again'
says "$err" 'busy or gone' "NODE=$node" N=1

# Each is one letter away from demo and dead.
client deao --server "$SRV"
exits 4 'deao is unknown here'
says "$err" 'is unknown here'
another limited "$MSSH" server --host 127.0.0.1 --port 0 --sessions 1
main=$node
agent one --server "$there"
node=$main
start holds "$T/peer" talk "$there" \
    'send=MSSH/2 client one\nSSH-2.0-x\r\n' line=OK tell=in gone
ok 'the only session is held' wait_log holds in
client one --server "$there"
exits 8 'try later'
says "$err" 'at its limit' NODE=one N=1

ended mute
exits 7 'frozen did not answer'
st=0 err=$T/err
"$MSSH" ping frozen --server "$SRV" >"$T/out" 2>"$err" || st=$?
exits 4 'has not answered'
says "$err" 'has not answered' NODE=frozen
kill -s CONT "$(pid agent-frozen)"

# ---- a session that can be resumed

cat >"$T/resume" <<'END'
#!/bin/sh
exec "$MSSH" proxy --resume "$@" <"$T/more" >"$T/resume.out"
END
chmod 755 "$T/resume"
mkfifo "$T/more"
exec 6<>"$T/more"
# resumable NAME NODE [options]: a client as NAME; its session has begun.
resumable() {
	name=$1
	shift
	: >"$T/resume.out"
	start "$name" "$T/resume" "$@"
	echo SSH-2.0-test >&6
	wait_for 60 grep -q SSH-2.0 "$T/resume.out"
}
another other "$MSSH" server --host 127.0.0.1 --port 0
main=$node
agent leaves --server "$there"
ok 'a session with leaves' resumable left leaves --server "$there"
stop agent-leaves
ended left
exits 11 'leaves is over: the agent has stopped'
says "$err" 'the session with' NODE=leaves

agent stays --server "$there"
ok 'a session with stays' resumable away stays --server "$there" \
    --resume-for 1
stop other KILL
ended away
exits 12 'stays is over: .* in 1 s'
says "$T/agent-stays.log" 'connection lost' N=600
node=$main

stop server
ended held
exits 1 "$node lost: ."

# ---- nothing is left over

# only_in A B: prints the lines that are in A and not in B; true if none.
only_in() {
	grep -vxF -f "$2" "$1"
	[ $? -eq 1 ]
}
ok 'each exit code of mssh(1) has a provocation' \
    only_in "$T/codes" "$T/codes.done"
ok 'each sentence of mssh(1) has a provocation' \
    only_in "$T/rows" "$T/rows.done"
finish
