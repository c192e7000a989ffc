#!/bin/sh
# 65-client.t - what a client is told and who is blamed; what it inherits and
# leaves behind; proxies of every kind; who waits, and whom ssh takes for whom
# shellcheck disable=SC2016,SC2317	# quoted programs; called by others
t/need ssh sshd perl ps openssl haproxy tinyproxy microsocks socat prlimit \
    setpriv paramiko || exit 1
# shellcheck source=t/lib.sh
. t/lib.sh

# ---- names: ssh is a program that says what it was given

mkdir "$T/fake"
cat >"$T/fake/ssh" <<'END'
#!/bin/sh
printf '%s\n' "$@"
END
chmod 755 "$T/fake/ssh"
# name WHERE [options]: the HostName that ssh gets for node n there, as it is
# then for ssh, which does not tell upper from lower case
name() {
	where=$1
	shift
	PATH=$T/fake:$PATH "$MSSH" u@n --server "$where" "$@" 2>&1 |
	    sed -n 's/^-oHostName=//p' | tr -d '"' | tr '[:upper:]' '[:lower:]'
}
# differ WHERE WHERE: one name each, and ssh takes both
differ() {
	one=$(name "$1") two=$(name "$2")
	ok "$1 and $2 are two hosts" [ -n "$one" -a -n "$two" -a \
	    "$one" != "$two" ] || note "both: $one"
}
is "$(name rdv.example.com)" n.rdv.example.com.mssh 'a plain HOST'
is "$(name RDV.example.com)" n.rdv.example.com.mssh 'written otherwise'
is "$(name rdv.example.com:8443)" n.rdv.example.com.mssh \
    'with the port that is meant anyway'
differ http://h/a/b http://h/a-b
differ http://h/a/b 'http://h/a?b'
differ http://h/a-b 'http://h/a?b'
differ https://h/Team https://h/team
differ tls://h https://h
differ tls://h http://h:443
differ https://h http://h:443
differ tls://h h:443
differ http://h h:80
differ unix:/run/a/b unix:/run/a-b
differ h:8444 h.8444
differ '[::1]' '[::2]'
differ '[2001:db8::1]' 2001-db8--1
is "$(name tls://H)" "$(name tls://h:443)" 'one server, written otherwise'
for where in h h:8444 tls://h; do
	none=$(name $where)
	one=$(name $where --connect 'nc one %p')
	two=$(name $where --connect 'nc two %p')
	ok "$where: --connect leads to another host" [ -n "$one" -a \
	    "$one" != "$none" -a "$one" != "$two" ] ||
	    note "$none, $one, $two"
	is "$(MSSH_CONNECT='nc one %p' name $where)" "$one" \
	    "$where: however it was told"
done
for where in h h:8444 tls://h https://h/Team unix:/run/a/b '[::1]' \
    '[fe80::1%eth0]'; do
	n=$(name "$where")
	is "$(ssh -G -F none -o "HostName=\"$n\"" x 2>&1 |
	    sed -n 's/^hostname //p')" "$n" "$where: ssh takes the name"
done

# ---- the cast

read -r TLS WEB HTTP PXTLS PXBAD SOCKS DYN RAWTLS NOBODY <<END
$(ports 9)
END
px=127.0.0.1
for who in good bad; do
	[ $who = bad ] && san=elsewhere.test || san=localhost
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 \
	    -nodes -days 2 -subj "/CN=$who" -keyout "$T/$who.key" \
	    -addext "subjectAltName=DNS:$san" -out "$T/$who.crt" \
	    2>"$T/openssl" || bail "no certificate: $(cat "$T/openssl")"
	cat "$T/$who.crt" "$T/$who.key" >"$T/$who.pem"
done
cat "$T/good.crt" "$T/bad.crt" >"$T/ca.pem"
MSSH_CAFILE=$T/ca.pem
export MSSH_CAFILE
server
cat >"$T/haproxy.cfg" <<END
defaults
	mode tcp
	timeout connect 5s
	timeout client 1h
	timeout server 1h
listen tls
	bind $px:$TLS ssl crt $T/good.pem strict-sni
	server one $px:$PORT
listen web
	mode http
	bind $px:$WEB ssl crt $T/good.pem alpn http/1.1 strict-sni
	server one $px:$PORT
listen proxy
	bind $px:$PXTLS ssl crt $T/good.pem
	server one $px:$HTTP
listen other
	bind $px:$PXBAD ssl crt $T/bad.pem
	server one $px:$HTTP
END
start haproxy haproxy -db -f "$T/haproxy.cfg"
for line in "Port $HTTP" "Listen $px" 'LogLevel Connect' 'Timeout 60' \
    'MaxClients 200'; do
	echo "$line"
done >"$T/tiny.conf"
start tiny tinyproxy -d -c "$T/tiny.conf"
start socks microsocks -i $px -p "$SOCKS"
start rawtls openssl s_server -accept "$RAWTLS" -cert "$T/good.crt" \
    -key "$T/good.key" -quiet -naccept 99
sshd_start
start dyn ssh -F none -N -D "$px:$DYN" -i "$T/key" -o BatchMode=yes \
    -o IdentitiesOnly=yes -o StrictHostKeyChecking=accept-new \
    -o UserKnownHostsFile="$T/known.dyn" -p "$SSHD_PORT" "$USER@$px"
up() {
	perl -MIO::Socket::INET -e 'exit !IO::Socket::INET->new(
	    "127.0.0.1:$ARGV[0]")' "$1"
}
for port in "$TLS" "$HTTP" "$SOCKS" "$RAWTLS" "$DYN"; do
	wait_for 60 up "$port" || bail "nothing listens on port $port"
done
agent box
agent echo --exec cat

# $T/two NAME CMD...: a session with a node that echoes: a line at once, and
# another one when there is $T/go.NAME (none, if that is -); prints what comes
# back, exits as CMD.
cat >"$T/two" <<'END'
use strict;
use warnings;
$| = 1;
my ($name, @cmd) = @ARGV;
pipe my $in, my $to or die;
pipe my $from, my $out or die;
my $pid = fork // die;
if (!$pid) {
	open STDIN, '<&', $in or die;
	open STDOUT, '>&', $out or die;
	close $_ for $in, $out, $to, $from;
	exec @cmd or die;
}
close $_ for $in, $out;
$SIG{PIPE} = 'IGNORE';
syswrite $to, "one\n";
print scalar(<$from>) // "cut\n";
if ($name ne '-') {
	select undef, undef, undef, 0.05 until -e "$ENV{T}/go.$name";
	syswrite $to, "two\n";
	print scalar(<$from>) // "cut\n";
}
close $to;
waitpid $pid, 0;
exit $? >> 8;
END
cat >"$T/pe" <<'END'
#!/bin/sh
exec "$MSSH" proxy echo "$@"
END
chmod 755 "$T/pe"
# line [VAR=VALUE]... CMD...: the exit code, and what comes back of a line;
# what was said is in $T/err
line() {
	out_=$(env T="$T" timeout 90 perl "$T/two" - env "$@" 2>"$T/err")
	echo "$? ${out_%cut}"
}
# blame options...: a client that gets nowhere
blame() {
	timeout 90 "$T/pe" "$@" >"$T/out" 2>"$T/err" <"$T/greeting"
	rc=$?
}
# told NAME REGEX: that was said; untold: that was not
told() {
	ok "$1: said" grep -Eie "$2" "$T/err" || note "$(cat "$T/err")"
}
untold() {
	is "$(grep -Eie "$2" "$T/err")" '' "$1: not said"
}

# ---- what takes seconds begins here

# $T/blocked CMD...: every signal blocked, SIGCHLD and SIGHUP ignored
cat >"$T/blocked" <<'END'
use POSIX;
my $all = POSIX::SigSet->new;
$all->fillset;
$SIG{CHLD} = $SIG{HUP} = 'IGNORE';
POSIX::sigprocmask(SIG_BLOCK, $all);
exec @ARGV or die;
END
cat >"$T/mute" <<'END'
use strict;
use warnings;
use IO::Socket::INET;
$| = 1;
my $l = IO::Socket::INET->new(Listen => 9, LocalAddr => '127.0.0.1') or die;
print "listening on ", $l->sockport, "\n";
my @all;
while (my $c = $l->accept) { push @all, $c }
END
start mute perl "$T/mute"
wait_log mute 'listening on' || bail 'no peer'
MUTE=$(sed -n 's/listening on //p' "$T/mute.log")
start deaf perl "$T/blocked" "$T/pe" --server "http://$px:$MUTE/"
start deaftls perl "$T/blocked" "$T/pe" --server "https://localhost:$MUTE/"

# ---- --wait outlives the server

P2=$(ports 1)
again() {
	start again "$MSSH" server --host $px --port "$P2" -v
	wait_log again 'listening on' || bail "no server: $(cat "$T/again.log")"
}
again
SRV=$px:$P2
export CONNECT=335	# ssh's own patience is not what is tried
for how in term kill; do
	for who in stdio ssh; do
		set -- "$T/msh" "$how-ssh" --wait 300 'echo one; cat'
		[ $who = ssh ] || set -- perl "$T/two" late "$MSSH" proxy \
		    "$how-stdio" --wait 300 --server "$SRV"
		mark again
		start "$how-$who" "$@"
		ok "--wait, $how, $who: it waits" \
		    wait_log again '-> waiting'
	done
	# Whose time ends is told so, in spite of a server that comes and goes.
	mark again
	start "$how-never" "$T/greet" never --wait 6 --server "$SRV"
	wait_log again '-> waiting'
	case $how in
	term) stop again ;;
	kill) stop again KILL ;;
	esac
	again
	for who in stdio ssh; do
		case $who in
		stdio) start "agent-$how-$who" "$MSSH" agent "$how-$who" \
		    --server "$SRV" --exec cat ;;
		ssh) start "agent-$how-$who" "$MSSH" agent "$how-$who" \
		    --server "$SRV" --ssh-port "$SSHD_PORT" ;;
		esac
	done
done
: >"$T/go.late"

unset CONNECT

# ---- ssh dies hard, and the node is silent, and deaf

child_of() {
	ps -A -o ppid= -o pid= | awk -v p="$1" '$1 == p { print $2; exit }'
}
has_child() {
	[ -n "$(child_of "$1")" ]
}
# ended PID: it is no more, or a zombie that nobody waits for
ended() {
	case $(ps -o stat= -p "$1") in
	'' | Z*) ;;
	*) return 1 ;;
	esac
}
for how in tcp tls; do
	SRV=$px:$PORT
	agent silent-$how --exec 'exec sleep 3000'
	[ $how = tcp ] || SRV=tls://localhost:$TLS
	start hard "$T/psh" silent-$how true
	ok "$how: a session with a silent node" wait_log agent-silent-$how \
	    ': process '
	ok "$how: ssh has its proxy" wait_for 30 has_child "$(pid hard)"
	p=$(child_of "$(pid hard)")
	kill -9 "$(pid hard)"
	wait_gone hard
	ok "$how: ssh is killed: its proxy ends" wait_for 60 ended "$p"
done

# ---- who is blamed

long=nosuch$(printf %060d 0)	# no label of a name is so long: nobody is asked
blame --server "$px:$PORT" --proxy "http://$long.test:3128"
is $rc 3 'the name of the proxy is unknown: 3'
told 'the name of the proxy' "proxy.*$long"
untold 'the name of the server' "$px:$PORT"
blame --server "$long.test"
is $rc 3 'the name of the server is unknown: 3'
told 'the name of the server' "$long"
untold 'a proxy' proxy

# $T/shut: a proxy that says yes, and closes
cat >"$T/shut" <<'END'
use strict;
use warnings;
use IO::Socket::INET;
$| = 1;
$SIG{PIPE} = 'IGNORE';
my $l = IO::Socket::INET->new(Listen => 9, LocalAddr => '127.0.0.1') or die;
print "listening on ", $l->sockport, "\n";
while (my $c = $l->accept) {
	sysread $c, my $b, 4096;
	if ($b =~ /^\x05/) {
		syswrite $c, "\5\0";
		sysread $c, $b, 4096;
		syswrite $c, "\5\0\0\1\0\0\0\0\0\0";
	} else {
		syswrite $c, "HTTP/1.1 200 OK\r\n\r\n";
	}
	shutdown $c, 1;
	1 while sysread $c, $b, 4096;
}
END
start shut perl "$T/shut"
wait_log shut 'listening on' || bail 'no peer'
SHUT=$(sed -n 's/listening on //p' "$T/shut.log")
for kind in http socks5h; do
	blame --server "a.test:1" --proxy "$kind://$px:$SHUT"
	ok "$kind: a proxy that says yes and closes: it fails" [ $rc -ne 0 ]
	told "$kind: it was by the proxy" "proxy.*$px:$SHUT"
	told "$kind: and to the server" 'a\.test'
done

blame --server "$px:$RAWTLS"
ok 'plain to a TLS port: it fails' [ $rc -ne 0 -a $rc -ne 124 ]
told 'plain to a TLS port: the address' "$px:$RAWTLS"
told 'plain to a TLS port: what would help' 'tls://'
blame --server "localhost:$TLS"
told 'plain to haproxy with TLS: what would help' 'tls://'
blame --server "http://localhost:$RAWTLS/x"
told 'http:// to a TLS port: what would help' 'https://'
start agent-lost "$MSSH" agent lost --server "$px:$RAWTLS"
ok 'plain to a TLS port: so says an agent' wait_log agent-lost 'tls://'
for url in "tls://localhost:$PORT" "tls://localhost:$SSHD_PORT"; do
	blame --server "$url"
	is $rc 10 "TLS to a plain port, $url: 10"
	told 'the address' "localhost:${url##*:}"
	told 'what would help' '(without|no|not|instead of|drop) tls://|plain'
done
"$MSSH" server --host $px --port "$PORT" 2>"$T/err"
is $? 1 'a port is taken: 1'
told 'the address and the port' "$px.*$PORT"

# fork(2) fails in the process that dials: it needs one for a name
if [ "$(id -u)" = 0 ]; then
	as_nobody() {
		setpriv --reuid=nobody --regid="$(id -gn nobody)" \
		    --clear-groups "$@"
	}
	start agent-poor "$MSSH" agent poor --server "localhost:$PORT" \
	    --user nobody --ssh-port "$SSHD_PORT"
	ok 'an agent that is not root parks' wait_log agent-poor 'parked at'
	dialler=$(ps -A -o ppid= -o pid= -o comm= |
	    awk -v p="$(pid agent-poor)" '$1 == p && $3 == "mssh" {
		print $2 }')
	mark agent-poor
	as_nobody prlimit --pid "$dialler" --nproc=1:
	kill -HUP "$(pid agent-poor)"	# a child waits for this one already
	wait_log agent-poor 'parked at'
	mark agent-poor
	kill -HUP "$(pid agent-poor)"
	ok 'no process to be had: said' wait_log agent-poor \
	    'Resource temporarily unavailable' 60
	is "$(log_count agent-poor 'name server')" 0 \
	    'no process to be had: the name server is not blamed'
	as_nobody prlimit --pid "$dialler" --nproc=999:
	ok 'there are some: it parks' wait_log agent-poor 'parked at' 60
fi

# ---- a trailing dot

for url in "tls://localhost.:$TLS" "https://localhost.:$WEB/x"; do
	is "$(line "$T/pe" --server "$url" \
	    --connect "socat - TCP:$px:%p")" '0 one' "$url" ||
	    note "$(cat "$T/err")"
done

# ---- proxies of every kind

via() {
	is "$(line "$@")" '0 one' "${1%%=*}=${1#*=}, ${4#*://}" ||
	    note "$(cat "$T/err")"
}
for url in "socks://$px:$SOCKS/" "socks5://$px:$SOCKS" \
    "socks5h://localhost:$SOCKS" "socks4://$px:$DYN" "socks4a://$px:$DYN/" \
    "socks5://$px:$DYN"; do
	for to in "$px:$PORT" "localhost:$PORT" "tls://localhost:$TLS"; do
		via "ALL_PROXY=$url" "$T/pe" --server "$to"
	done
	none=${url%:*}:$NOBODY
	is "$(line "ALL_PROXY=$none" "$T/pe" --server "$px:$PORT")" '3 ' \
	    "$none: it is that proxy that is asked"
	told "$none" "proxy.*:$NOBODY"
done
for to in "$px:$PORT" "tls://localhost:$TLS" "https://localhost:$WEB/x"; do
	mark tiny
	via "all_proxy=https://localhost:$PXTLS" "$T/pe" --server "$to"
	ok 'it went there' wait_log tiny 'CONNECT'
done
is "$(line "ALL_PROXY=https://localhost:$PXBAD" "$T/pe" \
    --server "$px:$PORT")" '10 ' "the proxy's certificate is another's"
told "the proxy's certificate" "localhost:$PXBAD|proxy"

for url in junk://x:1 ftp://bob:secret@h http:// socks5://h:99999 \
    'http://bob:secret%@h:1'; do
	is "$(line "ALL_PROXY=$url" "$T/pe" --server "$px:$PORT")" '0 one' \
	    "ALL_PROXY=$url: the way is direct"
	told "ALL_PROXY=$url" ALL_PROXY
	untold 'a password' secret
	is "$(line "ALL_PROXY=$url" "no_proxy=$px" "$T/pe" \
	    --server "$px:$PORT")" '0 one' "ALL_PROXY=$url with no_proxy"
	is "$(line "MSSH_PROXY=$url" "$T/pe" --server "$px:$PORT")" '2 ' \
	    "MSSH_PROXY=$url is an error"
	untold 'a password' secret
done
start agent-junk env all_proxy=junk://x:1 "$MSSH" agent junk \
    --server "$px:$PORT"
ok 'all_proxy=junk://x:1: an agent parks' wait_log agent-junk 'parked at'
ok 'all_proxy=junk://x:1: and says so' wait_log agent-junk all_proxy

for url in https://bob:secret@host/x tls://bob:secret@host bob:secret@host \
    ftp://bob:secret@host; do
	blame --server "$url"
	is $rc 2 "--server $url: 2"
	untold 'a password' secret
	is "$(line "MSSH_SERVER=$url" "$T/pe")" '2 ' "MSSH_SERVER=$url: 2"
	untold 'a password' secret
	"$MSSH" agent a --server "$url" 2>"$T/err"
	is $? 2 "agent --server $url: 2"
	untold 'a password' secret
	PATH=$T/fake:$PATH "$MSSH" u@n --server "$url" >"$T/err" 2>&1
	is $? 2 "u@n --server $url: 2"
	untold 'a password' secret
done

# ---- what is inherited

i=0
for to in "$px:$PORT" "tls://localhost:$TLS" "https://localhost:$WEB/x" \
    'ncat'; do
	i=$((i + 1))
	set -- "$T/pe" --server "$to"
	[ "$to" != ncat ] || set -- "$T/pe" --server "$px:$PORT" \
	    --connect 'ncat %h %p'
	start nohup$i sh -c 'trap "" HUP; exec "$@"' - perl "$T/two" nohup "$@"
done
while [ $i -gt 0 ]; do
	ok "nohup $i: a session" wait_log nohup$i one
	kill -s HUP -- "-$(pid nohup$i)"
	i=$((i - 1))
done
sleep 0.3
: >"$T/go.nohup"
for i in 1 2 3 4; do
	ok "nohup $i: it ends by itself" wait_gone nohup$i
	is "$rc $(tr '\n' ' ' <"$T/nohup$i.log")" '0 one two ' \
	    "nohup $i: SIGHUP was ignored"
done

start blockedsrv perl "$T/blocked" "$MSSH" server --host $px --port 0
ok 'signals blocked: a server' wait_log blockedsrv 'listening on'
B=$(sed -n 's/.*listening on //p' "$T/blockedsrv.log")
start agent-blocked perl "$T/blocked" "$MSSH" agent echo --server "$B" \
    --exec cat --connect 'socat - TCP:%h:%p'
ok 'signals blocked: an agent' wait_log agent-blocked 'parked at'
is "$(line perl "$T/blocked" "$T/pe" --server "$B" \
    --connect 'socat - TCP:%h:%p')" '0 one' 'signals blocked: a client'
for who in agent-blocked blockedsrv; do
	ok "signals blocked: $who ends" stop $who
	is "$rc" 0 'with 0'
done
for who in deaf deaftls; do
	ok "signals blocked, nobody answers: $who ends" wait_gone $who 60
	is "$(log_count $who 'does not answer')" 1 'and says why'
done

start closed sh -c 'exec "$@" <&- >&- 2>&-' - "$MSSH" agent closed \
    --server "$px:$PORT" --exec cat
ok 'no descriptors 0 to 2: an agent' wait_log server 'closed registered'
is "$(line "$MSSH" proxy closed --server "$px:$PORT")" '0 one' \
    'it serves a session'
start closedtls sh -c 'exec "$@" <&- >&- 2>&-' - "$MSSH" agent closedtls \
    --server "tls://localhost:$TLS" --exec cat
ok 'no descriptors 0 to 2: an agent, TLS' wait_log server \
    'closedtls registered'
is "$(line "$MSSH" proxy closedtls --server "$px:$PORT")" '0 one' \
    'it serves a session'
is "$(line sh -c 'exec "$@" 2>&-' - "$T/pe" \
    --server "tls://localhost:$TLS")" '0 one' 'no standard error: a client'

# ---- what stays behind

marked() {
	grep -slF "HOME=$T/home" /proc/[0-9]*/environ |
	    xargs -r grep -slF "MARK=$1"
}
nobody_left() {
	[ -z "$(marked "$1")" ]
}
cat >"$T/fd" <<'END'
#!/bin/sh
exec ssh -F none -i "$T/key" -o "HostKeyAlias=box.fd" -o ProxyUseFdpass=yes \
    -o ProxyCommand="'$MSSH' proxy --fdpass --server '$SRV' -- box" \
    -o UserKnownHostsFile="$T/known" -o StrictHostKeyChecking=accept-new \
    -o BatchMode=yes -o IdentitiesOnly=yes -l "$USER" box "$@"
END
cat >"$T/back" <<'END'
#!/bin/sh
out=$("$@" -f -N -o ControlMaster=yes -o ControlPath="$T/cp" 2>&1)
echo "back: $? $out"
END
chmod 755 "$T/fd" "$T/back"
for to in "$px:$PORT" "tls://localhost:$TLS" "https://localhost:$WEB/x"; do
	SRV=$to
	for how in msh fd; do
		set -- "$T/fd"
		[ $how = fd ] || set -- "$T/msh" box
		start back env MARK=back "$T/back" "$@" -o LogLevel=ERROR
		ok "ssh -f, $how, $to: it returns" wait_gone back 60
		is "$(cat "$T/back.log")" 'back: 0 ' 'and said nothing'
		is "$(ssh -F none -o ControlPath="$T/cp" x 'echo hi' 2>&1)" \
		    hi 'there is a session behind it'
		ssh -F none -o ControlPath="$T/cp" -O exit x 2>/dev/null
		ok 'ssh ends: nobody is left' wait_for 30 nobody_left back
		for p in $(marked back | sed 's/[^0-9]//g'); do
			kill -9 "$p"
		done
		rm -f "$T/cp"
	done
done

# ---- --fdpass and a pipe

SRV=$px:$PORT
is "$(line "$T/pe" --server "$SRV" --fdpass)" '0 one' \
    '--fdpass, standard output is a pipe: it relays'
is "$(line "$T/pe" --server "tls://localhost:$TLS" --fdpass)" '0 one' \
    'so it does with TLS'
echo one | "$T/pe" --server "$SRV" --fdpass >"$T/out" 2>"$T/err"
is "$? $(cat "$T/out")" '0 one' 'so it does to a file'
cat >"$T/stanza" <<END
Host *.mssh
	ProxyCommand env "MSSH_SERVER=$SRV" "$MSSH" proxy --fdpass -- %h
	ProxyUseFdpass yes
	ConnectTimeout 35
END
cat >"$T/para.py" <<'END'
import paramiko, sys
conf, host, user, key = sys.argv[1:]
how = paramiko.SSHConfig.from_path(conf).lookup(host)
c = paramiko.SSHClient()
c.set_missing_host_key_policy(paramiko.AutoAddPolicy())
c.connect(how["hostname"], username=user, timeout=60,
    banner_timeout=60, auth_timeout=60,
    sock=paramiko.ProxyCommand(how["proxycommand"]),
    pkey=paramiko.Ed25519Key.from_private_key_file(key),
    allow_agent=False, look_for_keys=False)
print(c.exec_command("echo hi")[1].read().decode().strip())
c.close()
END
is "$(timeout 90 /usr/bin/python3 -W ignore "$T/para.py" "$T/stanza" box.mssh \
    "$USER" "$T/key" 2>&1 | tail -n 1)" hi 'paramiko, with that stanza'
is "$(timeout 90 ssh -F "$T/stanza" -i "$T/key" -o BatchMode=yes \
    -o IdentitiesOnly=yes -o UserKnownHostsFile="$T/known" \
    -o StrictHostKeyChecking=accept-new "$USER@box.mssh" 'echo hi' 2>&1 |
    tail -n 1)" hi 'ssh, with the same'

# ---- the command line is stronger than the configuration

cat >"$T/way" <<'END'
#!/bin/sh
: >"$T/mark"
exec socat - "TCP:$1:$2"
END
chmod 755 "$T/way"
# override WANT NAME options...: is the configuration's command run?
override() {
	want=$1 name=$2
	shift 2
	rm -f "$T/mark"
	is "$("$T/msh" box "$@" 'echo hi' 2>&1 | tail -n 1)" hi "$name: a login"
	[ -e "$T/mark" ] && did=1 || did=0
	is "$did" "$want" "$name"
}
overrides() {
	override 1 "$1" -o LogLevel=ERROR
	override 0 "$1, --proxy none" --proxy none
	override 0 "$1, --proxy URL" --proxy "socks5h://$px:$SOCKS"
	override 0 "$1, --connect none" --connect none
	override 0 "$1, another --connect" --connect 'socat - TCP:%h:%p'
	rm -f "$T/mark"
	is "$(line "$T/pe" --server "$SRV" --connect none) $(ls "$T/mark" \
	    2>/dev/null)" '0 one ' "$1, mssh proxy --connect none"
	is "$(line "$T/pe" --server "$SRV" --proxy none) $(ls "$T/mark" \
	    2>/dev/null)" '0 one ' "$1, mssh proxy --proxy none"
}
mkdir -p "$XDG_CONFIG_HOME/mssh"
echo "connect $T/way %h %p" >"$XDG_CONFIG_HOME/mssh/config"
overrides 'connect in the configuration'
rm "$XDG_CONFIG_HOME/mssh/config"
MSSH_CONNECT="$T/way %h %p"
export MSSH_CONNECT
overrides MSSH_CONNECT
unset MSSH_CONNECT
echo "proxy http://$px:$NOBODY" >"$XDG_CONFIG_HOME/mssh/config"
override 0 'proxy in the configuration, --proxy none' --proxy none
override 0 'proxy in the configuration, another --proxy' \
    --proxy "http://$px:$HTTP"
override 1 'proxy in the configuration, --connect' --connect "$T/way %h %p"
all_proxy=http://$px:$NOBODY
export all_proxy
rm "$XDG_CONFIG_HOME/mssh/config"
override 0 'all_proxy, --proxy none' --proxy none
unset all_proxy

# ---- who waited

for how in term kill; do
	ok "--wait, $how, stdio: it ends" wait_gone $how-stdio 60
	is "$rc $(grep -v 'trying again' "$T/$how-stdio.log" | tr '\n' ' ')" \
	    '0 one two ' \
	    "--wait, $how, stdio: with its session"
	ok "--wait, $how, ssh: it ends" wait_gone $how-ssh 60
	is "$rc $(grep -x one "$T/$how-ssh.log")" '0 one' \
	    "--wait, $how, ssh: with its session" ||
	    note "$(tail "$T/$how-ssh.log")"
	ok "--wait, $how: whose time has come ends" wait_gone $how-never 60
	ok "--wait, $how: and not with 0" [ "$rc" -ne 0 ]
	ok "--wait, $how: and says why" grep mssh: "$T/$how-never.log"
done

# The kernel keeps the half of a closed connection for a minute.
ok 'tcp: ssh was killed: so its session has ended' \
    wait_log server ' silent-tcp from' 180
finish
