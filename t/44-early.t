#!/bin/sh
# 44-early.t - a client that is an SSH client from its first byte on (early=1):
# no round trip is added to a login, and a refusal is a sentence in SSH
# shellcheck disable=SC2016	# quoted programs
t/need ssh sshd perl ps plink puttygen dbclient paramiko || exit 1
# shellcheck source=t/lib.sh
. t/lib.sh

sshd_start
server
agent web
agent shut --ssh-port "$(free_port)"

# $T/early NODE: what --fdpass says, for clients that take no descriptor.
cat >"$T/early" <<'END'
#!/usr/bin/perl
use strict; use warnings; use IO::Socket::INET; use IO::Select;
my $s = IO::Socket::INET->new($ENV{SRV}) or die;
syswrite $s, "MSSH/2 client $ARGV[0] wait=0 early=1\n";
my $both = IO::Select->new(\*STDIN, $s);
while ($both->count) {
	for my $f ($both->can_read) {
		my $n = sysread $f, my $b, 65536;
		exit if !$n && $f == $s;
		if (!$n) { shutdown $s, 1; $both->remove($f); next }
		syswrite $f == $s ? \*STDOUT : $s, $b;
	}
}
END
chmod 755 "$T/early"
puttygen "$T/key" -O private -o "$T/key.ppk"
dropbearconvert openssh dropbear "$T/key" "$T/key.db" 2>/dev/null
fp=$(ssh-keygen -lf "$T/hostkey" | cut -d ' ' -f 2)
cat >"$T/para.py" <<'END'
import paramiko, sys
proxy, user, key = sys.argv[1:]
c = paramiko.SSHClient()
c.set_missing_host_key_policy(paramiko.AutoAddPolicy())
try:
    c.connect("x", username=user, sock=paramiko.ProxyCommand(proxy),
        pkey=paramiko.Ed25519Key.from_private_key_file(key),
        allow_agent=False, look_for_keys=False, timeout=60,
        banner_timeout=60, auth_timeout=60)
except Exception as e:
    print(type(e).__name__, e)
    sys.exit(1)
print(c.exec_command("echo hi")[1].read().decode().strip())
END

openssh() {
	msh "$1" 'echo hi' 2>&1
}

by_plink() {
	plink -batch -ssh -i "$T/key.ppk" -proxycmd "$T/early $1" \
	    -hostkey "$fp" "$USER@$1" 'echo hi' </dev/null 2>&1
}

by_dbclient() {
	dbclient -y -y -i "$T/key.db" -J "$T/early $1" "$USER@$1" 'echo hi' \
	    </dev/null 2>&1
}

by_paramiko() {
	timeout 90 /usr/bin/python3 -W ignore "$T/para.py" "$T/early $1" \
	    "$USER" "$T/key" 2>&1
}

for c in openssh by_plink by_dbclient by_paramiko; do
	is "$($c web | tail -n 1)" hi "$c: a login"
	said=$($c nosuch)
	st=$?
	note "$c, offline:" "$said"
	case $c in
	by_dbclient)	# exits with 0 on any disconnect, without its reason
		ok "$c: an unknown node: it says that it was cut" sh -c \
		    'printf "%s\n" "$1" | grep "Disconnect received"' - \
		    "$said" ;;
	*)
		ok "$c: an unknown node: it fails" [ $st -ne 0 ] ;;
	esac
	case $c in
	openssh | by_plink)
		ok "$c: and says why" sh -c 'printf "%s\n" "$1" |
		    grep "mssh: nosuch is unknown here"' - "$said" ;;
	esac
done
ok 'ssh: an sshd that refuses: it says why' sh -c \
    '"$T/msh" shut true 2>&1 | grep "mssh: shut: cannot reach sshd at"'
is "$("$T/msh" nosuch true >/dev/null 2>&1; echo $?)" 255 'ssh: exits with 255'
# ControlPersist discards what a proxy says; what SSH says it shows.
ok 'ssh with ControlPersist: says why, too' sh -c \
    '"$T/msh" nosuch -o ControlMaster=auto -o ControlPersist=5 \
    -o ControlPath="$T/%C" true 2>&1 |
    grep "mssh: nosuch is unknown here"'

# ---- the wire

ok 'no OK: the first byte is the node'\''s' talk \
    'send=MSSH/2 client web early=1\nSSH-2.0-test\r\n' \
    'expect=SSH-2.0-OpenSSH'
ok 'a refusal is SSH before the client has said a word' talk \
    'send=MSSH/2 client nosuch early=1\n' 'expect=SSH-2.0-mssh\r\n' gone
ok 'early=0 is as if it were not there' talk \
    'send=MSSH/2 client nosuch early=0\nx' 'line=ERROR offline' gone
ok 'early=2 is a syntax error' talk 'send=MSSH/2 client web early=2\n' \
    'line=ERROR syntax' gone

# A node may come later, and a node's server may never answer.
start later "$T/msh" later --wait 60 'echo it came'
agent later
ok '--wait with the descriptor handed over' wait_gone later 60
ok 'served' log_has later 'it came'
start mute perl -MIO::Socket::INET -e 'my $l = IO::Socket::INET->new(
    Listen => 9, LocalAddr => "127.0.0.1") or die; $| = 1;
    print "port ", $l->sockport, "\n"; my @all;
    while (my $c = $l->accept) { push @all, $c }'
wait_log mute port
SRV=127.0.0.1:$(sed -n 's/port //p' "$T/mute.log")
CONNECT=2
export CONNECT
start hang "$T/msh" web true
unset CONNECT
ok 'a server that says nothing: ssh gives up' wait_gone hang 60
is "$rc" 255 'with 255'

# ---- round trips: every chunk takes 0.15 s each way to the server and back,
# and is a step behind the last that had arrived when it was sent.  What a busy
# machine adds to that is no round trip.

# far PORT: a port that leads there; connecting costs nothing here.  It says how
# many steps each connection took.
far() {
	start "far-$1" perl -MIO::Socket::INET -MIO::Select -MTime::HiRes=time \
	    -e '
	my $l = IO::Socket::INET->new(Listen => 9, LocalAddr => "127.0.0.1")
	    or die; $| = 1; print "port ", $l->sockport, "\n";
	while (my $a = $l->accept) {
		next if fork;
		my $b = IO::Socket::INET->new("127.0.0.1:$ARGV[0]") or die;
		my (@q, %to, %step); %to = ($a => $b, $b => $a);
		%step = ($a => 0, $b => 0);
		my $s = IO::Select->new($a, $b);
		while ($s->count || @q) {
			my $t = @q ? $q[0][0] - time : 9;
			for my $f ($s->can_read($t < 0 ? 0 : $t)) {
				my $n = sysread $f, my $d, 65536;
				$s->remove($f) if !$n;
				push @q, [time + 0.15, $to{$f}, $n ? $d : undef,
				    $step{$f} + 1];
			}
			while (@q && $q[0][0] <= time) {
				my $e = shift @q;
				my ($t, $to, $d, $n) = @$e;
				if (!defined $d) {
					shutdown $to, 1;
					next;
				}
				syswrite $to, $d;
				$step{$to} = $n if $n > $step{$to};
			}
		}
		my ($m, $n) = @step{$a, $b};
		print "steps ", $m > $n ? $m : $n, "\n";
		exit;
	}' "$1"
	wait_log "far-$1" port
	far=$(sed -n 's/port //p' "$T/far-$1.log")
}

# steps PORT cmd...: the least of 3, each way counted, through far PORT.
steps() {
	log_=far-$1 best_=999999
	shift
	for try_ in 1 2 3; do
		mark "$log_"
		"$@" >/dev/null 2>&1 || { echo "$try_ failed"; return; }
		wait_log "$log_" steps 60 >/dev/null
		n_=$(log_has "$log_" steps | sed -n 's/steps //p' | tail -n 1)
		[ "$n_" -ge "$best_" ] || best_=$n_
	done
	echo "$best_"
}

direct() {
	ssh -F none -i "$T/key" -o StrictHostKeyChecking=no -o BatchMode=yes \
	    -o UserKnownHostsFile=/dev/null -o IdentitiesOnly=yes \
	    -p "$far" "$USER@127.0.0.1" true
}
far "$SSHD_PORT"
want=$(steps "$SSHD_PORT" direct)
note "ssh directly: $want steps, two a round trip"
far "$PORT"
SRV=127.0.0.1:$far
for via in msh psh; do
	took=$(steps "$PORT" "$via" web true)
	note "$via: $took steps"
	ok "$via adds less than one round trip" [ $((took - want)) -lt 2 ]
done
finish
