#!/bin/sh
# 34-patience.t - a session outlives a network that is silent for a minute, and
# --patience says how long.
# shellcheck disable=SC1091,SC2016,SC2154	# net, srv4: net.sh; sh -c
. t/lib.sh
. t/net.sh

net_up
at node
service
at srv
server --host 0.0.0.0 --port 8443
SRV=$srv4:8443
at node
SSHD_PORT=$SVC
agent box
agent hasty --patience 10 --exec 'while sleep 0.1; do date; done'

# session NAME: a line comes every tenth of a second, through both networks
session()
{
	start "$1" sh -c '{ echo echo; while sleep 0.1; do date +%s%N; done; } |
	    exec "$MSSH" proxy "$1" --server "$2"' - "$1" "$SRV"
	ok "$1: a session" wait_for 60 test -s "$T/$1.log"
}
export MSSH
at cli
session box
session hasty
tc=$(now)
net_cut node
ok 'hasty: the agent gives up' wait_log agent-hasty \
    'no acknowledgement for 10 s' 60
minute()
{
	[ $(($(now) - tc)) -ge 60000 ]
}
ok 'a minute of silence' wait_for 120 minute
net_mend node
lines=$(wc -l <"$T/box.log")
more()
{
	[ "$(wc -l <"$T/box.log")" -gt "$((lines + 20))" ]
}
# TCP has tried again less and less often: a minute may go by until it does.
ok 'box: its session goes on' wait_for 150 more
is "$(log_count server ' box from .*gone')" 0 'box: nobody ended it'
is "$(grep -c lost "$T/box.log")" 0 'box: nor the client'
stop box >/dev/null
stop hasty >/dev/null
finish
