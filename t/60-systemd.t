#!/bin/sh
# 60-systemd.t - the units, systemd/setup, sd_notify(3), socket activation;
# and, for root, all of it together under a systemd of its own.
#
# That systemd is process 1 of new namespaces, on a read-only root with fresh
# /run, /tmp, /etc and /usr/local: it neither sees nor changes anything of the
# machine's, and is killed at the end.
# shellcheck disable=SC2154,SC2016	# rc: lib.sh; sh -c and perl -e
. t/lib.sh
. t/setup.sh

t/need systemd-analyze setpriv shellcheck perl ||
    bail 'part of this test is missing'
for cmd in systemctl systemd-socket-activate; do
	command -v $cmd >/dev/null || bail "$cmd is missing: it is in systemd"
done

U=$PWD/systemd
UNITS='mssh-server.service mssh-server.socket mssh-agent.service
    mssh-agent@.service'

skip()			# WHY NAME
{
	tests=$((tests + 1))
	echo "ok $tests - $2 # SKIP $1" >&9
}

# ---- the units

# units_in DIR: all of them, for this binary; the template as mssh-agent@home
units_in()
{
	mkdir -p "$1"
	for u in $UNITS; do
		sed "s,/usr/local/bin/mssh,$MSSH,g" "$U/$u" >"$1/$u"
	done
	mv "$1/mssh-agent@.service" "$1/mssh-agent@home.service"
}

# secure UNIT [LEVEL]: exposure level LEVEL / 10 or less, 1.2 if not given
secure()
{
	systemd-analyze security --offline=true --threshold="${2:-12}" \
	    "$1" >"$T/security" 2>&1
	rc=$?
	note "$(sed -n 's/.*Overall/overall/p' "$T/security")"
	[ "$rc" -eq 0 ] || cat "$T/security"
	return "$rc"
}

# The two agent units differ in what is run, not in how it is locked in.
sandbox()
{
	sed -n '/^Restart=/,$p' "$U/$1"
}

same_sandbox()
{
	[ -n "$(sandbox mssh-agent.service)" ] &&
	    [ "$(sandbox mssh-agent.service)" = \
	    "$(sandbox mssh-agent@.service)" ]
}

# make install replaces this very string.
paths()
{
	for u in mssh-server mssh-agent mssh-agent@; do
		grep -q '^ExecStart=/usr/local/bin/mssh ' "$U/$u.service" ||
		    return 1
	done
}

units_in "$T/units"
for u in "$T"/units/*; do
	ok "verify ${u##*/}" verified "$u"
done
for u in "$T"/units/*.service; do
	ok "exposure of ${u##*/} is at most 1.2" secure "$u"
done
ok 'both agent units have the same sandbox' same_sandbox
ok 'ExecStart= is as make install expects it' paths
ok 'shellcheck' shellcheck -x -s sh -e SC2317 systemd/setup \
    t/60-systemd.t t/62-setup-front.t

# ---- setup, on a root of its own

drop_in=$D/etc/systemd/system/mssh-agent.service.d/50-setup.conf

# A machine without systemd: what setup needs, and no systemctl.
no_systemctl()
{
	mkdir "$T/bin" || return
	for c in sh cat cmp cp dirname id mkdir mv rm sed tr wc; do
		ln -s "$(command -v "$c")" "$T/bin/$c"
	done
	DESTDIR=$D PATH=$T/bin "$setup" server >"$T/said" 2>&1
	rc=$?
	cat "$T/said"
	[ "$rc" -eq 1 ] && grep '^mssh setup: systemctl is missing' "$T/said"
}

not_root()
{
	if [ "$(id -u)" -eq 0 ]; then
		set -- setpriv --reuid=65534 --regid=65534 --clear-groups
	fi
	# From a folder that everybody may be in.
	(cd / && exec "$@" sh -s server) <"$setup" >"$T/said" 2>&1
	rc=$?
	cat "$T/said"
	[ "$rc" -eq 1 ] && grep '^mssh setup: only root can' "$T/said"
}

ok '--help' usage_rc 0 --help
ok 'no arguments: usage' usage_rc 2
ok 'neither server nor agent: usage' usage_rc 2 proxy
ok 'an empty argument is refused' refused server --host ''
ok 'a newline is refused' refused agent home --server 'a
b'
ok 'a control character is refused' refused agent home --server \
    "$(printf 'a\033b')"
ok 'an invalid node id is refused' refused agent 'a b' --server x
ok 'an option without its value is refused' refused server --port
ok 'a port that is no number is refused' refused server --port 84x3
ok 'an agent without a server is refused' refused agent home
ok '--user is refused for the server' refuses 'a user of its own' \
    server --user nobody
ok 'and for the agent' refuses 'a user of its own' agent --server x \
    --user=nobody
for l in /run/mssh/sock unix:/run/sock unix:/run/systemd/sock \
    unix:/run/mssh/ unix:/run/mssh/.. unix:/run/mssh/a/b '1 2'; do
	ok "--listen $l is refused" refuses unix:/run/mssh/NAME \
	    server --listen "$l"
done
ok 'no systemctl: said' no_systemctl
ok 'not root: said' not_root
ok 'nothing was written so far' [ ! -e "$D" ]

ok 'setup server' set_up server --port 8443 --drain 20
ok 'the server is enabled' enabled mssh-server.service
ok 'its arguments are stored' arrives mssh-server SERVER_OPTS \
    --port 8443 --drain 20
ok 'its file can be read by all' mode_is 644 "$D/etc/default/mssh-server"
ok 'the server needs no drop-in' [ ! -e \
    "$D/etc/systemd/system/mssh-server.service.d/50-setup.conf" ]
ok 'a second run changes nothing' again server --port 8443 --drain 20
ok 'setup server, otherwise' set_up server --port=443 --drain=600
ok 'the arguments are replaced' arrives mssh-server SERVER_OPTS \
    --port=443 --drain=600
conf=$D/etc/systemd/system/mssh-server.service.d/50-setup.conf
ok 'a low port gets its capability' grep -q \
    '^AmbientCapabilities=CAP_NET_BIND_SERVICE$' "$conf"
ok 'the stop timeout follows --drain' grep -q '^TimeoutStopSec=610$' "$conf"
ok 'that server unit is valid' root_verified mssh-server.service
ok 'a second run changes nothing' again server --port=443 --drain=600

no_line()		# REGEX FILE
{
	[ -e "$2" ] && ! grep -qx "$1" "$2"
}

# With the socket enabled: in $D, so that nothing of it is left after.
with_socket()
{
	cp systemd/mssh-server.socket "$D/usr/local/lib/systemd/system" &&
	    systemctl --quiet --root="$D" enable mssh-server.socket &&
	    set_up server && grep -qx PrivateNetwork=yes "$conf" &&
	    grep -qx Requires=mssh-server.socket "$conf" &&
	    root_verified mssh-server.service &&
	    mkdir -p "$T/score/mssh-server.service.d" &&
	    cp "$D/usr/local/lib/systemd/system/mssh-server.service" \
	    "$T/score" && cp "$conf" "$T/score/mssh-server.service.d" &&
	    secure "$T/score/mssh-server.service" 5
}
ok 'behind its socket the server has no network' with_socket

# The socket listens where the arguments say.
socket_conf=$D/etc/systemd/system/mssh-server.socket.d/50-setup.conf
socket_at()		# ListenStream=... ARGS...
{
	printf '%s\n' ListenStream= "$1" >"$T/want"
	shift
	set_up server "$@" && root_verified mssh-server.socket &&
	    grep ^Listen "$socket_conf" | diff "$T/want" -
}
ok 'without arguments it is where it was' [ ! -e "$socket_conf" ]
ok '--port is for the socket' socket_at ListenStream=9000 --port 9000
ok 'a second run changes nothing' again server --port 9000
ok '--host, too' socket_at ListenStream=192.0.2.1:8443 --host 192.0.2.1
ok '--host in brackets' socket_at 'ListenStream=[2001:db8::1]:443' \
    --host '[2001:db8::1]' --port 443
ok '--listen' socket_at ListenStream=/run/mssh/sock \
    --listen unix:/run/mssh/sock
ok 'the directory is not the unit'"'"'s, whose stop would remove it' \
    no_line RuntimeDirectory=mssh "$conf"
ok 'a path for --metrics' set_up server --metrics unix:/run/mssh/metrics
ok 'its directory is made, and stays' sh -c 'grep -qx RuntimeDirectory=mssh \
    "$1" && grep -qx RuntimeDirectoryPreserve=yes "$1" &&
    grep -qx PrivateNetwork=yes "$1"' - "$conf"
ok '--metrics by TCP' set_up server --metrics 127.0.0.1:9000
ok 'needs the network' no_line PrivateNetwork=yes "$conf"
ok 'a path elsewhere is refused' refused server --metrics unix:/tmp/metrics
ok 'two' socket_at 'ListenStream=192.0.2.1:900
ListenStream=[::1]:900' --host 192.0.2.1 --host ::1 --port 900
ok 'of which that for IPv6 leaves IPv4 alone' grep -qx \
    BindIPv6Only=ipv6-only "$socket_conf"
ok '- is none' refuses 'needs an address' server --host -
ok 'a low port of the socket needs no capability' no_line 'Ambient.*' "$conf"
ok 'cafe is no address either' refuses 'needs an address' server --host cafe
ok 'a name is no address' refuses 'needs an address' server --host localhost
ok 'port 0 is none' refuses 'known beforehand' server --port 0
ok 'without arguments again' set_up server
ok 'it is where it was' [ ! -e "$socket_conf" ]
ok 'disabled' systemctl --quiet --root="$D" disable mssh-server.socket
ok 'it is of no account' set_up server --port 9000
ok 'and gets nothing' [ ! -e "$socket_conf" ]

ok 'setup server --keys' set_up server --port 8443 --keys /etc/mssh/keys
ok 'it gets a copy' arrives mssh-server SERVER_OPTS --port 8443 \
    --keys /run/credentials/mssh-server.service/key
ok 'of that file' grep -qx 'LoadCredential=key:/etc/mssh/keys' "$conf"
ok 'which no reload makes newer' grep -qx 'ExecReload=' "$conf"
ok 'that server unit is valid' root_verified mssh-server.service
ok 'a second run changes nothing' again server --port 8443 \
    --keys /etc/mssh/keys
mkdir -p "$D/etc/mssh"
echo x >"$D/etc/mssh/keys"
chmod 644 "$D/etc/mssh/keys"
ok 'keys that others can read are refused' refuses \
    'others can read or change /etc/mssh/keys: chmod 600 /etc/mssh/keys' \
    server --keys /etc/mssh/keys
ok 'so is a key for TLS' refuses 'chmod 600 /etc/mssh/keys' agent \
    --server a --certkey=/etc/mssh/keys
echo '-----BEGIN PRIVATE KEY-----' >"$D/etc/mssh/cert"
ok 'and a certificate with its key in it' refuses 'chmod 600 /etc/mssh/cert' \
    agent --server a --cert=/etc/mssh/cert
rm "$D/etc/mssh/cert"
chmod 640 "$D/etc/mssh/keys"
ok 'a group of root may read them' again server --port 8443 \
    --keys /etc/mssh/keys
if [ "$(id -u)" = 0 ]; then
	chown 65534 "$D/etc/mssh/keys"
	ok "somebody else's are refused" refuses 'belongs to another user' \
	    server --keys /etc/mssh/keys
fi
rm "$D/etc/mssh/keys"
ok 'a path that is not absolute is refused' refused server --keys keys
ok 'a path with a % is refused' refused agent --server a --key=/etc/%n
ok 'setup agent@key' set_up agent@key --server example.net --key=/etc/k
ok 'it gets its own' arrives mssh-agent@key AGENT_OPTS --server example.net \
    --key=/run/credentials/mssh-agent@key.service/key

# The unit's own folder, and no network, since the server opens no port.
ok 'setup server --listen' set_up server --listen unix:/run/mssh/sock \
    --listen=unix:/run/mssh/sock2 --trusted unix
ok 'it is stored' arrives mssh-server SERVER_OPTS \
    --listen unix:/run/mssh/sock --listen=unix:/run/mssh/sock2 --trusted unix
ok 'its folder is made' grep -qx RuntimeDirectory=mssh "$conf"
ok 'there is no network' grep -qx PrivateNetwork=yes "$conf"
ok 'that server unit is valid' root_verified mssh-server.service
ok 'a port beside it' set_up server --listen unix:/run/mssh/sock --port 8443
ok 'needs one' no_line PrivateNetwork=yes "$conf"

copies()		# NAME...: those and no others, of /x/NAME
{
	printf 'LoadCredential=%s\n' "$@" | sed 's,=\(.*\),=\1:/x/\1,' \
	    >"$T/want"
	grep '^LoadCredential=' "$drop_in" | diff "$T/want" -
}
cred=/run/credentials/mssh-agent.service
ok 'setup agent with files' set_up agent home --server tls://example.org \
    --cafile /x/cafile --cert=/x/cert --certkey /x/certkey --key=/x/key \
    --ping 20 --allow --key
ok 'it gets copies' arrives mssh-agent AGENT_OPTS --server tls://example.org \
    --cafile $cred/cafile --cert=$cred/cert --certkey $cred/certkey \
    --key=$cred/key --ping 20 --allow --key
ok 'of those files' copies key cafile cert certkey
ok 'that agent unit is valid' root_verified mssh-agent.service
ok 'a relative path is refused' refuses 'begins with /' agent --server x \
    --cafile ca.pem
ok 'setup agent --cert' set_up agent home --server x --cert /x/cert
ok 'needs that copy only' copies cert

url='http://joe:p$w"d@proxy.example.net:1080'
env_file=$D/etc/default/mssh-agent
ok 'setup agent, a proxy with a password' set_up agent home \
    --proxy http://first --server example.org "--proxy=$url"
ok 'keeps it from the arguments' arrives mssh-agent AGENT_OPTS \
    --server example.org
ok 'has it in the environment' grep -Fx \
    'MSSH_PROXY="http://joe:p\$w\"d@proxy.example.net:1080"' "$env_file"
ok 'for root only' mode_is 600 "$env_file"
ok 'a second run changes nothing' again agent home --proxy http://first \
    --server example.org --proxy "$url"
ok 'setup agent, a proxy without' set_up agent home --server example.org \
    --proxy http://proxy.example.net:1080 --connect 'nc %h %p'
ok 'is an argument like others' arrives mssh-agent AGENT_OPTS \
    --server example.org --proxy http://proxy.example.net:1080 \
    --connect 'nc %h %p'
ok 'and the password is gone' no_line 'MSSH_PROXY=.*' "$env_file"
ok 'but where the old file is, for root only' mode_is 600 "$env_file~mssh"
ok 'all can read the new one' mode_is 644 "$env_file"

jump='ssh -W %h:%p jump.example.net'
ok 'ssh for --connect needs a user' refuses 'useradd -r' agent home \
    --server example.org --connect "$jump"
echo 'mssh-agent:x:999:999::/var/lib/mssh-agent:/usr/sbin/nologin' \
    >"$D/etc/passwd"
ok 'setup agent, through ssh' set_up agent home --server example.org \
    --connect "$jump"
ok 'runs as that' grep -qx User=mssh-agent "$drop_in"
ok 'that agent unit is valid' root_verified mssh-agent.service
rm "$D/etc/passwd"
ok 'however it is called' refuses 'useradd -r' agent home \
    --server example.org --connect "exec /usr/bin/$jump"
ok 'another command needs none' set_up agent home --server example.org \
    --connect 'nc %h %p'
ok 'nor a drop-in' [ ! -e "$drop_in" ]

ok 'setup agent' set_up agent home --server example.org
ok 'the agent is enabled' enabled mssh-agent.service
ok 'its node id is stored' arrives mssh-agent AGENT_NODE home
ok 'its arguments are stored' arrives mssh-agent AGENT_OPTS \
    --server example.org
ok 'setup agent without a node id' set_up agent --server '[2001:db8::1]:443'
ok 'it has none' [ -z "$(grep AGENT_NODE "$D/etc/default/mssh-agent")" ]
ok 'the agent needs no drop-in' [ ! -e "$drop_in" ]
ok 'setup agent@second' set_up agent@second --server example.net
ok 'its instance is enabled' enabled mssh-agent@second.service
ok 'its arguments are in a file of its own' \
    arrives mssh-agent@second AGENT_OPTS --server example.net
ok 'the first agent has kept its own' arrives mssh-agent AGENT_OPTS \
    --server '[2001:db8::1]:443'

ok 'setup agent --exec' set_up agent home --server example.org \
    --exec '/usr/sbin/sshd -i'
ok 'the space survives; sshd finds its directory' arrives mssh-agent \
    AGENT_OPTS --server example.org \
    --exec 'mkdir -p /run/sshd && /usr/sbin/sshd -i'
ok 'which is not the affair of the unit' sh -c \
    '! grep -q "^RuntimeDirectory=" "$1"' - "$drop_in"
if [ "$(id -u)" = 0 ]; then
	keys
	# shellcheck disable=SC2016	# sh -c expands them
	ok 'even after ssh.service has deleted it' unshare -m sh -c '
	    mount -t tmpfs none /run && ! "$1" -t -f /dev/null -h "$2" &&
	    mkdir -p /run/sshd && exec "$1" -t -f /dev/null -h "$2"' - \
	    /usr/sbin/sshd "$T/hostkey"
fi
ok 'the sandbox is open for --exec' grep -q '^DynamicUser=no$' "$drop_in"
ok 'that agent unit is valid' root_verified mssh-agent.service
ok 'a second run changes nothing' again agent home --server example.org \
    --exec '/usr/sbin/sshd -i'
ok 'setup agent without --exec' set_up agent home --server example.org
ok 'the sandbox is closed again' [ ! -e "$drop_in" ]

# shellcheck disable=SC1003	# these are as they shall be
hostile()		# CMD...: with arguments that somebody might expand
{
	"$@" --server 'a  b' --exec 'echo "$HOME" ${HOME} $$ `id` $(id)' \
	    --exec '%n %% %i %h' --exec '\' --exec '\\n\x41\' --exec '"' \
	    --exec "'" --exec "it's \"so\"" --exec '; # | & < > ~ * ? !' \
	    --exec ' lead' --exec 'trail ' --exec '[v6]{a,b}=c'
}

ok 'hostile arguments are stored' hostile set_up agent home
ok 'each survives as it was' hostile arrives mssh-agent AGENT_OPTS
ok 'a second run changes nothing' hostile again agent home

# ---- remove

# made: all that is in $D, but for folders and what these tests put there
made()
{
	(cd "$D" && find . ! -type d ! -path './usr/local/bin/*' \
	    ! -path './bin/*' | sort)
}

# removes WHAT: setup remove WHAT, and what is left is what was there before
removes()
{
	set_up remove "$1" && made | diff "$T/made" -
}

rm -r "$D"
mkdir -p "$D/etc/default" "$D/etc/systemd/system/other.service.d"
echo 'SERVER_OPTS=mine' >"$D/etc/default/mssh-server"
made >"$T/made"
ok 'nothing is there to remove' set_up remove server
ok 'which is said' told 'nothing to remove'
ok 'setup with all its files' set_up server --front caddy rdv.example.com \
    --drain 60 --keys /etc/mssh/keys
ok 'again, otherwise' set_up server --front nginx rdv.example.com --drain 90
ok 'remove server' removes server
is "$(cat "$D/etc/default/mssh-server")" 'SERVER_OPTS=mine' \
    'the file that was there before is back'
ok 'setup agent' set_up agent a --server x --exec 'echo a'
made >"$T/made"
ok 'setup agent@one' set_up agent@one --server x --exec 'echo one'
ok 'setup agent@two' set_up agent@two --server x --exec 'echo two'
ok 'remove agent@two' set_up remove agent@two
ok 'leaves agent@one its unit' root_verified mssh-agent@one.service
ok 'remove agent@one' removes agent@one
ok 'a second time there is nothing to remove' set_up remove agent@one
ok 'which is said' told 'nothing to remove'
echo ./etc/default/mssh-server >"$T/made"
ok 'remove agent' removes agent
# names that look like backups, and what others wrote
ok 'setup agent@web.old' set_up agent@web.old --server old.example.com
ok 'setup agent@web' set_up agent@web --server one.example.com
ok 'again' set_up agent@web --server two.example.com
ok 'the other node has kept its own' arrives mssh-agent@web.old AGENT_OPTS \
    --server old.example.com
set_up remove agent@web.old
set_up remove agent@web
printf '%s\n' '# mine' "# Written by mssh's systemd/setup: no" \
    >"$D/etc/default/mssh-agent"
ok 'a file that somebody else wrote' set_up remove agent
ok 'stays' [ -e "$D/etc/default/mssh-agent" ]
rm "$D/etc/default/mssh-agent"
ok 'remove takes no other arguments' refused remove agent home
ok 'remove what?' usage_rc 2 remove
wants=$D/etc/systemd/system/multi-user.target.wants
sock=mssh-server.socket
set_up agent@x --server a >/dev/null
cp systemd/mssh-server.socket "$D/usr/local/lib/systemd/system"
systemctl --quiet --root="$D" enable mssh-server.socket
cat >"$T/want" <<'END'
mssh-agent@x.service is still enabled: run systemd/setup remove agent@x
mssh-server.socket is still enabled: run systemctl disable --now \
mssh-server.socket
END
make -s DESTDIR="$D" uninstall >"$T/said" 2>&1
is "$(sort "$T/said")" "$(perl -pe 's/\\\n//' "$T/want")" \
    'make uninstall tells what is enabled'
ok 'and remove disables what has no unit any more' set_up remove agent@x
ok 'it is gone' [ ! -L "$wants/mssh-agent@x.service" ]
ok "somebody else's socket stays" set_up remove server
ok 'enabled' [ -L "$D/etc/systemd/system/sockets.target.wants/$sock" ]
set_up server --port 8443 >/dev/null
rm "$D/usr/local/lib/systemd/system/$sock"
ok 'but not one before a server of ours' set_up remove server
ok 'even without its unit' [ ! -L \
    "$D/etc/systemd/system/sockets.target.wants/$sock" ]

# ---- sd_notify(3)

cat >"$T/listen.pl" <<'END'
use IO::Socket::UNIX;
my $at = shift;
$at =~ s/^\@/\0/;
my $s = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => $at)
    or die "$at: $!";
$| = 1;
print "listening\n";
while (defined $s->recv(my $m, 4096)) {
	print "$m\n";
}
END

# listen_at ADDRESS: the datagrams sent there are the log of "notify"
listen_at()
{
	start notify perl "$T/listen.pl" "$1"
	wait_log notify listening || bail 'perl cannot listen'
}

# notifies NAME ADDRESS STATUS ARGS...: runs mssh and checks what it says
notifies()
{
	name_=$1 at_=$2 status_=$3
	shift 3
	listen_at "$at_"
	start "$name_" env NOTIFY_SOCKET="$at_" WATCHDOG_USEC=200000 \
	    "$MSSH" "$@"
	ok "$name_: READY=1" wait_log notify READY=1
	ok "$name_: STATUS=$status_" wait_log notify "STATUS=$status_"
	ok "$name_: WATCHDOG=1" wait_log notify WATCHDOG=1
	mark notify
	ok "$name_: WATCHDOG=1 again and again" twice
	kill "$(pid "$name_")"
	ok "$name_: STOPPING=1" wait_log notify STOPPING=1
	ok "$name_: ends" wait_gone "$name_"
	is "$rc" 0 "$name_: exit status"
	stop notify KILL
}

twice()
{
	wait_for 30 beats
}

beats()
{
	[ "$(log_count notify WATCHDOG=1)" -ge 2 ]
}

notifies server "$T/notify" '0 sessions, 0 nodes known' server \
    --host 127.0.0.1 --port 0
# An agent is ready when it tries: the machine's start must not wait for it.
at=127.0.0.1:$(free_port)
notifies agent "@mssh-$$" \
    "not registered at $at: Connection refused, 0 sessions" agent home \
    --server "$at"
server
notifies agent "@mssh-$$" "home parked at $SRV for " agent home --server "$SRV"
stop server

listen_at "$T/notify2"
start quiet env NOTIFY_SOCKET="$T/notify2" "$MSSH" server --host 127.0.0.1 \
    --port 0
ok 'READY=1 without a watchdog' wait_log notify READY=1
stop quiet
ok 'no WATCHDOG=1 where nobody asked for it' [ \
    "$(log_count notify WATCHDOG=1)" -eq 0 ]
stop notify KILL
start deaf env NOTIFY_SOCKET="$T/nobody" WATCHDOG_USEC=200000 "$MSSH" \
    server --host 127.0.0.1 --port 0
ok 'a notify socket that is not there does no harm' wait_log deaf \
    'listening on'
ok 'it ends as ever' stop deaf
is "$rc" 0 'with exit status 0'

# ---- socket activation

# asks PORT: prints what the server says to a client
asks()
{
	perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(
	    PeerAddr => "127.0.0.1:$ARGV[0]", Timeout => 30) or exit 1;
	    print $s "MSSH/2 client nobody\n"; print <$s>' "$1"
}

answers()
{
	asks "$1" | grep '^ERROR offline '
}

p1=$(free_port)
p2=$(free_port)
start active systemd-socket-activate -l "127.0.0.1:$p1" -l "127.0.0.1:$p2" \
    "$MSSH" server --host 127.0.0.1 --port 0
ok 'LISTEN_FDS: the first connection is served' wait_for 30 answers "$p1"
ok 'LISTEN_FDS: the second socket too' answers "$p2"
is "$(log_count active 'listening on')" 2 \
    'LISTEN_FDS: the server opens none of its own'
stop active
is "$rc" 0 'LISTEN_FDS: exit status'

# Descriptors that were meant for somebody else stay alone.
start other env LISTEN_FDS=1 LISTEN_PID=1 "$MSSH" server --host 127.0.0.1 \
    --port 0
ok "somebody else's LISTEN_PID is not ours" wait_log other 'listening on'
stop other

# ---- all of it, under a systemd of its own

PID1=''
base=$T/up

# Stage 1, in a mount namespace: a control group, then the other namespaces.
mkdir -p "$base/cg" "$base/units" "$base/src"
cat >"$base/one" <<'END'
set -e
mount --make-rprivate /
mount -t cgroup2 none "$1/cg"
mkdir "$1/cg/mssh.$2"
echo $$ >"$1/cg/mssh.$2/cgroup.procs"
exec unshare --cgroup --uts --ipc --net --pid --mount --fork --kill-child \
    sh "$1/two" "$1"
END

# Stage 2, as process 1: the root, then systemd.
cat >"$base/two" <<'END'
set -e
read -r pid rest </proc/self/stat
mount --make-rprivate /
mount -t tmpfs none /run
mkdir /run/t /run/etc /run/dev /run/lock
mount --bind "$1" /run/t
for f in passwd group nsswitch.conf hosts ld.so.cache ld.so.conf \
    ld.so.conf.d login.defs; do
	[ ! -e /etc/$f ] || cp -R /etc/$f /run/etc/
done
echo 0123456789abcdef0123456789abcdef >/run/etc/machine-id
mkdir -p /run/etc/default /run/etc/systemd/system
cp /run/t/units/* /run/etc/systemd/system
mkdir /run/etc/systemd/system/mssh-.service.d
cat >/run/etc/systemd/system/mssh-.service.d/log.conf <<'EOF'
[Service]
StandardOutput=append:/run/t/log
StandardError=append:/run/t/log
EOF
mount --bind /run/etc /etc
for f in null zero full random urandom tty; do
	: >/run/dev/$f
	mount --bind /dev/$f /run/dev/$f
done
ln -s pts/ptmx /run/dev/ptmx
mount --rbind /run/dev /dev
for d in /tmp /var/tmp /usr/local; do
	mount -t tmpfs none $d
done
mkdir -p /usr/local/bin
cp /run/t/mssh /usr/local/bin/mssh
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -t cgroup2 none /sys/fs/cgroup
mount -o remount,bind,ro /
ip link set lo up 2>/dev/null || :
cd /
echo "$pid" >/run/t/pid1
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=mssh-test \
    SYSTEMD_UNIT_PATH=/etc/systemd/system:/usr/local/lib/systemd/system \
    "$(command -v /usr/lib/systemd/systemd || echo /lib/systemd/systemd)" \
    --unit=up.target --log-target=null --show-status=no
END

# Targets that want nothing: the machine's own would start its services.
for u in sysinit basic sockets shutdown multi-user network-online \
    nss-lookup up; do
	printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n' $u \
	    >"$base/units/$u.target"
done
cp systemd/* "$base/src"
cp "$MSSH" "$base/mssh"
# Says what it was given, then fails as for a wrong option.
cat >"$base/fake" <<'END'
#!/bin/sh
for last; do
	:
done
[ "$last" != --help ] || exit 0
shift 2
printf '%s\n' "$@"
exit 2
END
chmod 755 "$base/fake"

inside()
{
	nsenter -t "$PID1" -m -u -i -n -p -C env -i \
	    PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

# The control group is all that would outlive the processes.
down()
{
	status_=$?
	if [ -n "$PID1" ]; then
		kill -9 "$PID1"
		wait_gone up
	fi
	unshare --mount sh -c 'mount --make-rprivate / &&
	    mount -t cgroup2 none "$1/cg" && [ -d "$1/cg/mssh.$2" ] &&
	    find "$1/cg/mssh.$2" -depth -type d -exec rmdir {} \;' \
	    - "$base" $$ 2>/dev/null
	PID1=''
	(exit "$status_")
}

settled()
{
	[ -s "$base/pid1" ] || gone "$(pid up)"
}

booted()
{
	inside systemctl is-active up.target
}

# show UNIT PROPERTY
show()
{
	inside systemctl show -P "$2" "$1"
}

shows()			# UNIT PROPERTY TEXT
{
	show "$1" "$2" | grep -F -e "$3"
}

up_setup()
{
	inside timeout 60 sh /run/t/src/setup "$@" >"$T/said" 2>&1
	rc=$?
	cat "$T/said"
	return "$rc"
}

up_again()
{
	up_setup "$@" && grep 'nothing to change' "$T/said"
}

up_refused()
{
	up_setup "$@"
	[ "$rc" -eq 2 ] && grep 'has no option --prot' "$T/said"
}

logged()
{
	grep -F -e "$1" "$base/log"
}

kill_server()
{
	inside systemctl kill -s KILL --kill-who=main mssh-server.service
}

parked_again()
{
	wait_for 60 shows mssh-server.service NRestarts 1 &&
	    wait_for 60 shows mssh-agent.service StatusText 'parked at'
}

ask_inside()		# [PORT]
{
	inside perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(
	    PeerAddr => "127.0.0.1:$ARGV[0]", Timeout => 30) or exit 1;
	    print $s "MSSH/2 client nobody\n"; print <$s>' "${1:-8443}" |
	    grep '^ERROR offline '
}

# A session that only echoes lives through a restart of the server.
resumed()
{
	wait_for 60 shows mssh-agent.service StatusText 'home parked at' ||
	    return
	rm -f "$T/lines"
	mkfifo "$T/lines"
	start echo nsenter -t "$PID1" -n socat \
	    TCP-LISTEN:22,bind=127.0.0.1,fork,reuseaddr EXEC:cat
	wait_for 30 inside perl -MIO::Socket::INET -e 'exit
	    !IO::Socket::INET->new("127.0.0.1:22")' || return
	start kept sh -c 'exec nsenter -t "$1" -n "$2" proxy home --resume \
	    --server 127.0.0.1 <"$3"' - "$PID1" "$MSSH" "$T/lines"
	exec 7>"$T/lines"
	echo SSH-2.0-before >&7
	went=$(logged ': resumed after' | wc -l)
	wait_log kept SSH-2.0-before 60 &&
	    inside systemctl restart mssh-server.service &&
	    wait_for 60 resumptions "$((went + 1))" &&
	    echo after >&7 && wait_log kept after 60 &&
	    exec 7>&- && wait_gone kept 60 && [ "$rc" -eq 0 ] || return
	stop echo
}

resumptions()
{
	[ "$(logged ': resumed after' | wc -l)" -eq "$1" ]
}

# LoadCredential= wants ACLs on tmpfs, or systemd's own file system for them;
# not every kernel has that for a systemd in namespaces.
credentials()
{
	inside sh -c 'cat >/etc/systemd/system/cred.service <<-END
	[Service]
	Type=oneshot
	User=nobody
	LoadCredential=key:/etc/mssh/keys
	ExecStart=/bin/cat /run/credentials/cred.service/key
	END
	mkdir -p /etc/mssh; umask 077; echo x >/etc/mssh/keys
	systemctl daemon-reload; systemctl start cred.service'
}

with_keys()
{
	inside sh -c 'mkdir -p /etc/mssh; umask 077; cd /etc/mssh &&
	    mssh keygen home >key && echo "agent home $(cat key)" >keys' &&
	    up_setup server --keys /etc/mssh/keys &&
	    up_setup agent home --server localhost --key /etc/mssh/key &&
	    wait_for 60 logged '1 keys read' &&
	    wait_for 60 logged 'home registered from 127.0.0.1' &&
	    wait_for 60 logged 'key home' &&
	    wait_for 60 shows mssh-agent.service StatusText 'home parked at'
}

without_keys()
{
	up_setup server && up_setup agent home --server localhost &&
	    wait_for 60 shows mssh-agent.service StatusText 'home parked at'
}

activated()
{
	inside systemctl stop mssh-server.service &&
	    inside cp /run/t/src/mssh-server.socket \
	    /usr/local/lib/systemd/system &&
	    inside systemctl daemon-reload &&
	    inside systemctl start mssh-server.socket &&
	    ! inside systemctl is-active mssh-server.service &&
	    wait_for 30 ask_inside &&
	    inside systemctl is-active mssh-server.service
}

# The server that systemd has listened for needs no network.
alone()
{
	inside systemctl --quiet enable mssh-server.socket &&
	    inside systemctl stop mssh-server.socket mssh-server.service &&
	    up_setup server &&
	    shows mssh-server.service PrivateNetwork yes &&
	    wait_for 30 ask_inside &&
	    inside systemctl --quiet disable mssh-server.socket
}

# TLS is the work of a process that the agent starts in its sandbox; here the
# server's end of it is socat.
with_tls()
{
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
	    -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
	    -keyout "$base/tls.pem" -out "$base/ca.pem" 2>/dev/null &&
	    cat "$base/ca.pem" >>"$base/tls.pem" && inside sh -c \
	    'umask 022; cat /run/t/ca.pem >/etc/ca.pem' || return
	start front nsenter -t "$PID1" -n socat \
	    "OPENSSL-LISTEN:8444,fork,reuseaddr,verify=0,cert=$base/tls.pem" \
	    TCP:127.0.0.1:8443
	up_setup server && tls_agent tls://localhost:8444 &&
	    tls_agent https://localhost:8444/mssh && stop front &&
	    up_setup agent home --server localhost
}

tls_agent()		# URL
{
	: >"$base/log"
	# shellcheck disable=SC2086	# files is words
	up_setup agent home --server "$1" $files &&
	    wait_for 60 logged 'home registered from 127.0.0.1' &&
	    wait_for 60 shows mssh-agent.service StatusText 'home parked at' &&
	    logged 'confined by seccomp and Landlock'
}

# A server that cannot start does not close the port that systemd holds: when
# its file is good again it serves those who waited.  20 starts in 2 s would
# have closed it by the end of the sleep.
mended()
{
	inside systemctl --quiet enable mssh-server.socket &&
	    up_setup server || return
	: >"$base/log"
	inside sh -c 'cp /etc/default/mssh-server /tmp/good
	    echo SERVER_OPTS=--prot >/etc/default/mssh-server'
	inside systemctl stop mssh-server.service
	ask_inside &
	wait_for 60 failed_again && sleep 3 && inside systemctl is-active \
	    mssh-server.socket && inside cp /tmp/good \
	    /etc/default/mssh-server && wait $! &&
	    inside systemctl is-active mssh-server.service &&
	    inside systemctl --quiet disable mssh-server.socket
}

failed_again()
{
	[ "$(logged 'has no option --prot' | wc -l)" -ge 3 ]
}

# setup moves the socket, and a login finds it there.
moved()
{
	inside systemctl --quiet enable mssh-server.socket &&
	    up_setup server --port 8445 && ask_inside 8445 &&
	    up_setup server && ask_inside && ! ask_inside 8445 &&
	    inside systemctl --quiet disable mssh-server.socket
}

# A socket that everybody gets to, and a server without a network.
by_path()
{
	inside systemctl stop mssh-server.socket
	up_setup server --listen unix:/run/mssh/sock --trusted unix &&
	    shows mssh-server.service PrivateNetwork yes &&
	    wait_for 30 ask_path && inside systemctl restart \
	    mssh-server.service && wait_for 30 ask_path &&
	    inside systemctl stop mssh-server.service &&
	    ! inside test -e /run/mssh
}

ask_path()
{
	inside setpriv --reuid=65534 --regid=65534 --clear-groups \
	    perl -MIO::Socket::UNIX -e 'my $s = IO::Socket::UNIX->new(
	    Peer => "/run/mssh/sock") or exit 1;
	    print $s "MSSH/2 client nobody\n"; print <$s>' |
	    grep '^ERROR offline '
}

# The log is what the fake was given.
delivered()
{
	inside cp /run/t/fake /usr/local/bin/mssh.new &&
	    inside mv /usr/local/bin/mssh.new /usr/local/bin/mssh
	inside systemctl stop mssh-server.socket mssh-server.service \
	    mssh-agent.service
	: >"$base/log"
	hostile up_setup agent home
	hostile printf '%s\n' >"$T/want"
	wait_for 30 grep -q '{a,b}' "$base/log"
	diff "$T/want" "$base/log"
}

removed()		# server|agent
{
	inside systemctl start "mssh-$1.socket"
	up_setup remove "$1" && ! inside systemctl is-active \
	    "mssh-$1.service" "mssh-$1.socket" &&
	    ! inside systemctl is-enabled "mssh-$1.service" &&
	    [ -z "$(inside find /etc /usr/local/lib -name "*mssh-$1*" \
	    ! -name '*.socket*')" ]
}

# What is about to start again when it is removed would start without its
# arguments, on another port and without its keys.
not_again()
{
	start block nsenter -t "$PID1" -n socat \
	    TCP-LISTEN:9100,bind=127.0.0.1,fork,reuseaddr OPEN:/dev/null
	inside sh -c 'cp /run/t/mssh /usr/local/bin/mssh.new &&
	    mv /usr/local/bin/mssh.new /usr/local/bin/mssh'
	wait_for 30 inside perl -MIO::Socket::INET -e 'exit
	    !IO::Socket::INET->new("127.0.0.1:9100")' || return
	up_setup server --host 127.0.0.1 --port 9100
	[ "$rc" -eq 1 ] && wait_for 60 shows mssh-server.service SubState \
	    auto-restart && up_setup remove server || return
	stop block
	sleep 3		# RestartSec=1
	! inside systemctl is-active mssh-server.service
}

failed_once()
{
	shows mssh-agent.service Result exit-code &&
	    shows mssh-agent.service NRestarts 0
}

real()
{

	ok 'systemd is up' wait_for 60 booted || return
	ok 'setup server' up_setup server
	ok 'setup agent' up_setup agent home --server localhost
	ok 'they meet' wait_for 60 shows mssh-agent.service StatusText \
	    'home parked at'
	ok 'both are active' inside systemctl is-active mssh-server.service \
	    mssh-agent.service
	ok 'a second run changes nothing' up_again agent home \
	    --server localhost
	ok 'a wrong option is refused by mssh' up_refused server --prot 1
	ok 'reload' inside systemctl reload mssh-agent.service
	ok 'reload redials' wait_for 30 logged redialling
	ok 'reload of the server' inside systemctl reload mssh-server.service
	ok 'the server is killed' kill_server
	ok 'it is back, and the agent with it' parked_again
	ok 'systemctl restart: a session goes on' resumed
	files='--cafile /etc/ca.pem'
	if credentials >/dev/null 2>&1; then
		ok 'with keys that only root can read' with_keys
		ok 'and without again' without_keys
	else
		skip 'no credentials in this systemd' \
		    'with keys that only root can read, and without again'
		files=''
		inside sh -c 'mkdir -p /etc/mssh && echo cafile /etc/ca.pem \
		    >/etc/mssh/config'
	fi
	ok 'both confine themselves' [ "$(logged \
	    'confined by seccomp and Landlock' | wc -l)" -ge 2 ]
	ok 'an agent that speaks TLS' with_tls
	ok 'the socket unit starts the server' activated
	ok 'systemctl restart: a session goes on' resumed
	ok 'and then it needs no network of its own' alone
	ok 'a server that cannot start leaves the socket open' mended
	ok 'the socket listens where setup says' moved
	ok 'a server on a Unix socket only' by_path
	ok 'hostile arguments arrive as they were' delivered
	ok 'exit 2 is not tried again' failed_once
	ok 'remove stops the agent, and leaves nothing' removed agent
	ok 'nor of the server' removed server
	ok 'nor does what was about to start again' not_again
}

if [ "$(id -u)" -ne 0 ]; then
	skip 'a systemd of its own needs root' 'all of it together'
else
	t/need unshare nsenter ip openssl socat ||
	    bail 'part of this test is missing'
	trap 'down; quit' EXIT
	start up unshare --mount sh "$base/one" "$base" $$
	wait_for 30 settled
	if [ -s "$base/pid1" ]; then
		PID1=$(cat "$base/pid1")
		real
	else
		skip "no namespaces here: $(tail -n 1 "$T/up.log")" \
		    'all of it together'
	fi
fi

finish
