#!/bin/sh
# 10-login.t - real work through real ssh and sshd: shells, files, forwarding,
# and a node that has been parked for long
# shellcheck disable=SC2016	# quoted programs
t/need ssh scp sftp ssh-agent ssh-add sshd rsync git script perl ps plink \
    dbclient paramiko || exit 1
# shellcheck source=t/lib.sh
. t/lib.sh

# The key exchange that OpenSSH likes best is among them here.
sshd_start 'KexAlgorithms +curve25519-sha256'
server
agent demo

# A second node, whose sshd gives half a minute to log in (a busy machine needs
# seconds), is parked until the end.
port=$SSHD_PORT
SSHD=grace
sshd_start 'LoginGraceTime 30' "SetEnv WHO=idle HOME=$HOME"
agent idle
clock
since=$clock_
SSHD_PORT=$port

# ssh_config for the programs that call ssh: over a descriptor, over stdio.
stanza() {
	cat <<-END
	Host *.mssh
		User $USER
		ProxyCommand '$MSSH' proxy $* --server $SRV -- %n
		IdentityFile $T/key
		IdentitiesOnly yes
		BatchMode yes
		StrictHostKeyChecking accept-new
		UserKnownHostsFile $T/known
	END
}
{ stanza --fdpass; echo '	ProxyUseFdpass yes'; } >"$T/fd"
stanza >"$T/stdio"

status() {
	"$@"
	echo $?
}

# ---- one command

for via in msh psh; do
	is "$($via demo 'echo "$((6 * 7))"')" 42 "$via: a command's output"
	is "$(status $via demo 'exit 37')" 37 "$via: its exit code"
	is "$(echo in and out | $via demo cat)" 'in and out' \
	    "$via: standard input"
	is "$($via demo 'echo err >&2' 2>&1 >/dev/null | grep -v Warning)" err \
	    "$via: standard error"
	is "$(seq 300000 | $via demo cat | cksum)" "$(seq 300000 | cksum)" \
	    "$via: 2 MB there and back"
	is "$($via demo -tt 'tty | cut -c1-9; stty size >/dev/null && echo pty' \
	    2>/dev/null | tr -d '\r' | tr '\n' ' ')" '/dev/pts/ pty ' \
	    "$via: a pty"
	is "$($via demo 'kill -9 $$' 2>/dev/null; echo $?)" 255 \
	    "$via: a shell that a signal ends"
done

# A person at a terminal.
cat >"$T/type" <<'END'
echo is-$((40 + 2))
tty
exit 5
END
printf '%s\n' "$T/msh demo" >"$T/line"
is "$(status script -qec "sh $T/line" "$T/typescript" <"$T/type" \
    2>/dev/null | tail -n 1)" 5 'a shell on a terminal: its exit code'
ok 'a shell on a terminal: what it said' grep -q 'is-42' "$T/typescript"

# ---- eight at once: each waits in its session until it sees all others

cat >"$T/meet" <<'END'
: >"$1/here.$2"
for i in $(seq 1200); do
	set -- "$1" "$2" "$1"/here.*
	[ $# -eq 10 ] && echo met && exit
	sleep 0.05
done
echo "alone: $*"
END
for i in 1 2 3 4 5 6 7 8; do
	start "s$i" "$T/msh" demo "sh $T/meet $T $i"
done
met=0
for i in 1 2 3 4 5 6 7 8; do
	wait_gone "s$i" 90 && log_has "s$i" met && met=$((met + 1))
done >/dev/null
is "$met" 8 '8 sessions on one node at the same time'

# ---- files

sha() {
	sha256sum "$@" | cut -d ' ' -f 1
}

same() {
	is "$(sha "$T/got")" "$sum" "$1"
	rm -f "$T/got"
}

head -c 67108864 /dev/urandom >"$T/file"
sum=$(sha "$T/file")
ok 'scp to the node (fd)' scp -q -F "$T/fd" "$T/file" "demo.mssh:$T/got"
same 'scp: 64 MB arrive'
ok 'scp from the node (stdio)' scp -q -F "$T/stdio" "demo.mssh:$T/file" \
    "$T/got"
same 'scp: 64 MB come back'
echo "put $T/file $T/got" >"$T/batch"
ok 'sftp to the node (stdio)' sftp -q -F "$T/stdio" -b "$T/batch" demo.mssh
same 'sftp: 64 MB arrive'
echo "get $T/file $T/got" >"$T/batch"
ok 'sftp from the node (fd)' sftp -q -F "$T/fd" -b "$T/batch" demo.mssh
same 'sftp: 64 MB come back'
ok 'rsync to the node (fd)' rsync -W -e "ssh -F $T/fd" "$T/file" \
    "demo.mssh:$T/got"
same 'rsync: 64 MB arrive'
ok 'rsync from the node (stdio)' rsync -W -e "ssh -F $T/stdio" \
    "demo.mssh:$T/file" "$T/got"
same 'rsync: 64 MB come back'
rm "$T/file"

git init -q "$T/repo"
git -C "$T/repo" -c user.name=t -c user.email=t@t commit -q --allow-empty -m one
ok 'git clone' env GIT_SSH_COMMAND="ssh -F $T/fd" \
    git clone -q "demo.mssh:$T/repo" "$T/clone"
is "$(git -C "$T/clone" log --format=%s)" one 'git: the commit is there'

# ---- forwarding

start keys ssh-agent -D -a "$T/agent.sock"
wait_for 30 test -S "$T/agent.sock"
SSH_AUTH_SOCK=$T/agent.sock ssh-add -q "$T/key" 2>/dev/null
fp=$(ssh-keygen -lf "$T/key" | cut -d ' ' -f 2)
for via in msh psh; do
	ok "$via: agent forwarding" sh -c "
	    SSH_AUTH_SOCK=$T/agent.sock $T/$via demo -A ssh-add -l |
	    grep -F '$fp'"
done

# say PORT TEXT: what a listener there answers.
say() {
	perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(
	    PeerAddr => "127.0.0.1", PeerPort => $ARGV[0], Timeout => 30)
	    or exit 1; print $s "$ARGV[1]\n"; print scalar <$s>' "$1" "$2"
}

back=$(free_port)
start echo perl -MIO::Socket::INET -e 'my $l = IO::Socket::INET->new(
    Listen => 5, LocalAddr => "127.0.0.1", LocalPort => $ARGV[0],
    ReuseAddr => 1) or die; $| = 1; print "up\n";
    while (my $c = $l->accept) { my $x = <$c>; print $c "echo $x" }' "$back"
wait_log echo up
l=$(free_port)
r=$(free_port)
start forward "$T/msh" demo -N -L "$l:127.0.0.1:$back" \
    -R "$r:127.0.0.1:$back" -o ExitOnForwardFailure=yes
ok 'a port forwarded to the node (-L)' wait_for 30 say "$l" x
is "$(say "$l" left)" 'echo left' '-L: the answer'
is "$(say "$r" right)" 'echo right' '-R: the answer'
stop forward >/dev/null

# ---- one connection, many sessions

start master "$T/msh" demo -M -N -o ControlPath="$T/cm"
wait_for 30 test -S "$T/cm"
before=$(log_count agent-demo dialling)
is "$(msh demo -o ControlPath="$T/cm" echo shared)" shared 'ControlMaster'
is "$(log_count agent-demo dialling)" "$before" \
    'ControlMaster: no second connection'
ssh -F none -o ControlPath="$T/cm" -O exit any 2>/dev/null
ok 'ControlMaster: ends' wait_gone master

# ---- other clients

ppk() {
	puttygen "$T/key" -O private -o "$T/key.ppk"
}
proxy="'$MSSH' proxy demo --server $SRV"
ok 'a key for PuTTY' ppk
is "$(plink -batch -ssh -i "$T/key.ppk" -proxycmd "$proxy" -hostkey \
    "$(ssh-keygen -lf "$T/hostkey" | cut -d ' ' -f 2)" \
    "$USER@demo" 'echo plink; exit 4' </dev/null 2>"$T/plink.err"
    echo $?)" 'plink
4' 'plink'
dropbearconvert openssh dropbear "$T/key" "$T/key.db" 2>/dev/null
is "$(dbclient -y -y -i "$T/key.db" -J "$proxy" "$USER@demo" \
    'echo dropbear; exit 4' </dev/null 2>"$T/dbclient.err"; echo $?)" \
    'dropbear
4' 'dbclient'
cat >"$T/para.py" <<'END'
import paramiko, sys
proxy, user, key = sys.argv[1:]
c = paramiko.SSHClient()
c.set_missing_host_key_policy(paramiko.AutoAddPolicy())
c.connect("demo", username=user, sock=paramiko.ProxyCommand(proxy),
    pkey=paramiko.Ed25519Key.from_private_key_file(key),
    allow_agent=False, look_for_keys=False, timeout=60,
    banner_timeout=60, auth_timeout=60)
_, out, _ = c.exec_command("echo paramiko; exit 4")
print(out.read().decode().strip(), out.channel.recv_exit_status())
c.close()
END
is "$(/usr/bin/python3 -W ignore "$T/para.py" "$proxy" "$USER" "$T/key" \
    2>"$T/paramiko.err")" 'paramiko 4' 'paramiko'

# ---- two nodes are two hosts

who() {
	msh "$1" -o ControlMaster=auto -o ControlPath="$T/%C" \
	    -o ControlPersist=20 'echo "${WHO:-demo}"' 2>/dev/null
}

# ---- parked for twice LoginGraceTime

parked_for() {
	clock
	[ $((clock_ - since)) -gt "$1" ]
}

note "waiting until the node has been parked for 60 s"
ok 'parked for 60 s' wait_for 120 parked_for 60
is "$(log_count grace 'Connection from')" 0 'no connection to sshd meanwhile'
is "$(log_count agent-idle 'parked at')" 1 'parked once'
is "$(msh idle 'echo at once' 2>/dev/null)" 'at once' \
    'the first login works'
is "$(log_count grace 'Connection from')" 1 'one connection to sshd'
is "$(log_count grace 'Timeout before auth')" 0 'LoginGraceTime never struck'

is "$(who demo) $(who idle) $(who demo)" 'demo idle demo' \
    'ControlPath %C keeps two nodes apart'
for s in "$T"/*; do
	[ ! -S "$s" ] || ssh -F none -o ControlPath="$s" -O exit any
done 2>/dev/null

ok 'the server stops' stop server
is "$rc" 0 'its exit code'
ok 'the agent stops' stop agent-demo
is "$rc" 0 'its exit code'
finish
