#!/bin/sh
# 20-v1.t - old agents and old clients, which speak version 1 only
#
# v1peer stands in for them: AGENT id or CLIENT id, answered OK or ERROR:
# text, then raw bytes.  The old agent dials sshd as soon as it is registered,
# so sshd speaks before anybody has asked; and it knows nothing of parking
# more than one connection: it registers again when a session has ended.
# shellcheck disable=SC2016	# quoted programs
t/need ssh sshd perl ps || exit 1
# shellcheck source=t/lib.sh
. t/lib.sh

cat >"$T/v1peer" <<'END'
use strict;
use warnings;
use IO::Socket::INET;
use IO::Select;

# v1peer agent|client HOST:PORT ID [TARGET [late]]
$| = 1;
my ($role, $server, $id, $target, $late) = @ARGV;

sub dial {
	my ($to) = @_;
	return IO::Socket::INET->new(PeerAddr => $to, Timeout => 30)
	    || die "v1peer: $to: $!\n";
}

# The answer, a byte at a time: what follows it belongs to ssh.
sub answer {
	my ($s) = @_;
	my $line = '';
	while (sysread $s, my $c, 1) {
		return $line if $c eq "\n";
		$line .= $c;
	}
	return "$line(end of file)";
}

# Copies both ways until both have ended; a half-close is passed on.
sub relay {
	my @pair = @_;
	my %to = ($pair[0] => $pair[1], $pair[2] => $pair[3]);
	my $from = IO::Select->new($pair[0], $pair[2]);
	while ($from->count) {
		for my $s ($from->can_read) {
			my $n = sysread $s, my $buf, 65536;
			if (!$n) {
				$from->remove($s);
				my $t = $to{$s};
				$t->isa('IO::Socket') ? shutdown $t, 1 : close $t;
				return if $role eq 'client' && $s == $pair[2];
				next;
			}
			for (my $o = 0; $o < $n;) {
				$o += syswrite($to{$s}, $buf, $n - $o, $o)
				    // return;
			}
		}
	}
}

sub session {
	my $s = dial($server);
	syswrite $s, uc($role) . " $id\n";
	my $line = answer($s);
	print STDERR "answer: $line\n";
	return $line eq 'OK' ? $s : undef;
}

$SIG{PIPE} = 'IGNORE';
if ($role eq 'client') {
	my $s = session() or exit 1;
	my ($in, $out) = (IO::Handle->new_from_fd(0, 'r'),
	    IO::Handle->new_from_fd(1, 'w'));
	relay($in, $s, $s, $out);
	exit 0;
}
for (;;) {
	my $s = session() or exit 1;
	if ($late) {
		IO::Select->new($s)->can_read;
	}
	my $d = dial($target);
	relay($s, $d, $d, $s);
	close $s;
	print STDERR "session ended\n";
}
END

old_agent() {
	name=$1
	shift
	start "$name" perl "$T/v1peer" agent "$SRV" "$@"
}

# old_ssh NODE command...: ssh by an old client.
old_ssh() {
	node=$1
	shift
	ssh -F none -i "$T/key" -o IdentitiesOnly=yes -o BatchMode=yes \
	    -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
	    -o LogLevel=ERROR -o ConnectTimeout=60 \
	    -o ProxyCommand="perl $T/v1peer client $SRV $node 2>>$T/client.err" \
	    "$USER@$node" "$@"
}

# raw TEXT [LINES]: what the server says to it, until it hangs up.
raw() {
	perl -MIO::Socket::INET -e '$SIG{ALRM} = sub { print "(timeout)\n";
	    exit 1 }; alarm 60; my $s = IO::Socket::INET->new($ARGV[0])
	    or die; syswrite $s, $ARGV[1] . "\n";
	    while (<$s>) { print; last if !--$ARGV[2] }' "$SRV" "$1" "${2:-100}"
}

# session WORDS: runs WORDS to get a login, an exit code and bytes both ways.
session() {
	is "$("$@" 'echo hello; exit 9' 2>/dev/null; echo $?)" 'hello
9' "$pair: a command and its exit code"
	is "$(seq 200000 | "$@" 'cat; echo end' 2>/dev/null | cksum)" \
	    "$({ seq 200000; echo end; } | cksum)" "$pair: 1.3 MB both ways"
}

# registered NAME N: has that old agent been told OK N times?
registered() {
	wait_for 30 answered "$@"
}

answered() {
	[ "$(log_count "$1" 'answer: OK')" -ge "$2" ]
}

sshd_start
server
S=127.0.0.1:$SSHD_PORT

# ---- the four pairs

old_agent old1 old1 "$S"
ok 'an old agent is registered' registered old1 1
ok 'the server says so' wait_log server 'old1 registered from'
pair='old agent, old client'
session old_ssh old1
pair='old agent, new client'
session msh old1
pair='old agent, new client (stdio)'
session psh old1

old_agent late late "$S" late
ok 'an old agent whose sshd waits' registered late 1
pair='late old agent, old client'
session old_ssh late
pair='late old agent, new client'
session msh late
pair='late old agent, new client (stdio)'
session psh late

agent new
pair='new agent, old client'
session old_ssh new
is "$(old_ssh NEW 'echo hi' 2>/dev/null)" hi 'new agent, old client: any case'

# ---- one session at a time, but a queue instead of an error

start a "$T/msh" old1 -tt 'echo in; sleep 1000'
ok 'a session on an old agent' wait_log a in
start b "$T/msh" old1 --wait 60 'echo second'
mark old1
stop a KILL
ok 'the old agent comes back' wait_log old1 'answer: OK'
ok 'the second session ends' wait_gone b 60
ok 'the second session was served' log_has b second

# ---- errors

is "$(raw 'CLIENT nosuch' | cut -c 1-7)" 'ERROR: ' \
    'a client for a node that is not there'
ok 'told in words' sh -c '[ "$(printf %s "$1" | wc -w)" -gt 2 ]' - \
    "$(raw 'CLIENT nosuch')"
for hello in AGENT CLIENT 'AGENT -x' 'CLIENT ../x' 'AGENT a/b' \
    'CLIENT $(id)'; do
	is "$(raw "$hello" | cut -c 1-5)" ERROR "refused: $hello"
done
ok 'the old client sees the error' sh -c "
    perl $T/v1peer client $SRV nosuch 2>&1 | grep '^answer: ERROR: .'"

# ---- two old agents with one id

old_agent first twin "$S"
ok 'the first is registered' registered first 1
old_agent second twin "$S"
ok 'the second is told' wait_log second 'answer: ERROR: ' 60
ok 'it gives up' wait_gone second
ok 'the first lives' kill -0 "$(pid first)"
is "$(old_ssh twin 'echo first' 2>/dev/null)" first 'the first serves'
registered first 2
stop first KILL
wait_log server 'twin is offline'
old_agent second twin "$S"
ok 'after its death the second is registered' registered second 1
is "$(msh twin 'echo second' 2>/dev/null)" second 'the second serves'

# ---- an old and a new one

registered second 2
start newcomer "$MSSH" agent twin --server "$SRV" --ssh-port "$SSHD_PORT"
ok 'a new agent with the id of an old one is told' \
    wait_log newcomer 'cannot register' 60
stop second KILL
ok 'it takes over when the old one is dead' wait_log newcomer 'parked at' 60
is "$(old_ssh twin 'echo new' 2>/dev/null)" new 'it serves old clients'
old_agent third twin "$S"
ok 'an old agent with the id of a new one is told' \
    wait_log third 'answer: ERROR: ' 60
is "$(old_ssh twin 'echo new' 2>/dev/null)" new 'the new one still serves'

# ---- the old agent's bytes before pairing are nobody else's

is "$(raw 'CLIENT old1
SSH-2.0-test' 2 | sed -n '1p;2s/-.*//p')" 'OK
SSH' 'OK, then sshd'\''s first line'

finish
