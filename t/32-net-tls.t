#!/bin/sh
# 32-net-tls.t - behind a TLS front the network is lost, too: openssl has only
# pipes, so it is mssh that must notice, on the connection it carries for it.
#
# The seconds are measured and printed; the bounds are there to end the test.
# shellcheck disable=SC1091,SC2154	# net, srv4: net.sh; rc: lib.sh
. t/lib.sh
. t/net.sh

t/need haproxy openssl || bail 'no haproxy or openssl'

reach()
{
	net_do cli timeout 60 "$T/msh" box true
}

# openssls N: so many work for somebody here
openssls()
{
	[ "$(pgrep -fc "^openssl s_client.*$T/ca.pem")" -eq "$1" ]
}

net_up
at node
sshd_start
at srv
server --host 127.0.0.1 --trusted 127.0.0.1

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
    -days 2 -subj /CN=test -addext "subjectAltName=IP:$srv4" \
    -keyout "$T/front.key" -out "$T/ca.pem" 2>"$T/openssl.log" ||
    bail "no certificate: $(cat "$T/openssl.log")"
cat "$T/ca.pem" "$T/front.key" >"$T/front.pem"
cat >"$T/front.cfg" <<-END
	defaults
	    mode http
	    timeout connect 5s
	    timeout client 1h
	    timeout server 1h
	    option forwardfor
	listen front
	    bind $srv4:443 ssl crt $T/front.pem
	    server one 127.0.0.1:$PORT
END
start front haproxy -db -f "$T/front.cfg"
ok 'the front listens' wait_for 30 sh -c \
    "ip netns exec $net-srv ss -Htln 'sport = :443' | grep -q ."

SRV=https://$srv4/mssh
MSSH_CAFILE=$T/ca.pem
export SRV MSSH_CAFILE
at node
start agent-box "$MSSH" agent box --server "$SRV" --ssh-port "$SSHD_PORT" \
    --patience 30
ok 'a node behind NAT and a TLS front parks' wait_log agent-box 'parked at'
ok 'the server knows where it comes from' \
    wait_log server 'box registered from 192.0.2.2'
ok 'a login through both' reach

# Bytes go up in one session and down in another; ssh's own question whether
# the server lives is off in the first, so it is mssh that ends it.
at cli
start up sh -c "yes | exec '$T/msh' box -o ServerAliveInterval=0 \
    'echo began >&2; cat >/dev/null'"
start down sh -c "exec '$T/msh' box 'echo began >&2; yes' >/dev/null"
ok 'a session with bytes going up' wait_log up began 60
ok 'a session with bytes coming down' wait_log down began 60
sleep 1
mark agent-box
t0=$(now)
net_cut cli
net_cut node
ok 'the agent knows that it is not parked any more' \
    wait_log agent-box ' lost ' 60
note "after $(took "$t0") s"
ok 'the node is cut off: the agent ends the session' \
    wait_log agent-box ' box from 203.0.113.2 up ' 90
note "after $(took "$t0") s"
ok 'the client is cut off: its ssh ends' wait_gone up 240
note "after $(took "$t0") s"
note "its last words: $(tail -n 1 "$T/up.log")"
t0=$(now)
mark agent-box
net_mend node
net_mend cli
ok 'the network is back: it parks' wait_log agent-box 'parked at' 60
note "after $(took "$t0") s"
ok 'a login works' reach
stop down >/dev/null

ok 'nobody is left of what has ended' wait_for 60 openssls 1
at here
ok 'the agent stops' stop agent-box
is "$rc" 0 'with 0'
ok 'and openssl with it' wait_for 30 openssls 0
stop server
finish
