#!/bin/sh
# 51-keys.t - keys: what they are made of, who gets in with them and who does
# not, what the log says, and what happens when the file changes.
# shellcheck disable=SC1091,SC2016,SC2034	# sources lib.sh; perl and sh -c
t/need openssl perl setpriv || exit 1
. t/lib.sh

umask 077
service
SSHD_PORT=$SVC

# ---- HMAC against another's

cat >"$T/mac.c" <<END
#include "$PWD/proto.h"

/* mac FILE...: HMAC-SHA256 of each, by the key in the file before it */
int
main(int argc, char *argv[])
{
	static unsigned char key[64], data[4096];
	unsigned char out[MAC_LEN];
	struct sha256 s;
	size_t n, i;
	FILE *f;

	for (; argc > 2; argc -= 2, argv += 2) {
		if (!(f = fopen(argv[1], "rb")))
			return 1;
		hmac_init(&s, key, n = fread(key, 1, sizeof key, f), 0x36);
		fclose(f);
		if (!(f = fopen(argv[2], "rb")))
			return 1;
		sha256_add(&s, data, fread(data, 1, sizeof data, f));
		fclose(f);
		hmac_end(&s, key, n, out);
		for (i = 0; i < sizeof out; i++)
			printf("%02x", out[i]);
		putchar('\n');
	}
	return 0;
}
END
"${CC:-cc}" -w -o "$T/mac" "$T/mac.c" || bail 'mac.c does not compile'
perl -e '
	open my $r, "<", "/dev/urandom" or die;
	sub rnd { read $r, my $b, $_[0]; $b }
	for my $k (0 .. 49) {
		my $key = rnd 1 + unpack("C", rnd 1) % 64;
		open my $f, ">", "$ARGV[0]/k$k" or die;
		print $f $key;
		close $f;
		my @d;
		for my $i (0 .. 19) {
			open $f, ">", "$ARGV[0]/d$k.$i" or die;
			print $f rnd unpack("S", rnd 2) % 300;
			close $f;
			push @d, "$ARGV[0]/d$k.$i";
		}
		my $hex = unpack "H*", $key;
		print join(" ", $hex, "$ARGV[0]/k$k", @d), "\n";
	}' "$T" >"$T/list"
while read -r hex key data; do
	# shellcheck disable=SC2086	# a list of files
	{
		openssl dgst -sha256 -mac HMAC -macopt "hexkey:$hex" $data |
		    sed 's/.*= *//' >>"$T/theirs"
		for d in $data; do
			set -- "${@}" "$key" "$d"
		done
		"$T/mac" "$@" >>"$T/ours"
		set --
	}
done <"$T/list"
is "$(wc -l <"$T/theirs" | tr -d ' ')" 1000 'openssl made 1000 HMACs'
ok 'ours are the same' cmp "$T/ours" "$T/theirs"

# ---- keygen

key() {
	"$MSSH" keygen "$1" >"$T/$1.key"
}
for k in web bob eve two; do
	key "$k" || bail 'keygen fails'
done
ok 'keygen prints a name and 43 characters' \
    grep -Eqx 'web [A-Za-z0-9_-]{43}' "$T/web.key"
ok 'and others each time' [ "$("$MSSH" keygen x)" != "$("$MSSH" keygen x)" ]
(umask 022 && "$MSSH" keygen x >"$T/x.key" 2>"$T/out")
is "$? $(wc -c <"$T/x.key")" '2 0' 'none into a file that others can read'
"$MSSH" keygen 'a b' >"$T/out" 2>&1
is "$?" 2 'a name with a blank is refused'
"$MSSH" keygen >"$T/out" 2>&1
is "$?" 2 'and none'
"$MSSH" keygen x >/dev/full 2>"$T/out"
is "$?" 1 'a full disk is an error'

# ---- who gets in

entries() {
	{
		echo '# who may what'
		echo
		echo "agent web $(cat "$T/web.key")"
		echo "client web,lab-* $(cat "$T/bob.key")"
		echo "both two,tw* $(cat "$T/two.key")"
	} >"$T/keys"
}
entries
server --keys "$T/keys" -v
ok 'the server counts its keys' log_has server '3 keys read'
agent web --key "$T/web.key"
ok 'the log names the key of an agent' \
    wait_log server 'web registered from 127.0.0.1'
ok 'by its name' log_has server ' key web ('

# as_client KEY NODE: a session that echoes a line.
as_client() {
	(echo echo; echo hello; sleep 0.3) |
	    "$MSSH" proxy "$2" --server "$SRV" --key "$T/$1.key" 2>"$T/err"
}
is "$(as_client bob web | tail -n 1)" hello 'a client with a right gets in'
ok 'the log names its key' wait_log server ' key bob up '
ok 'so does that of the agent' wait_log agent-web ' key bob'

# denied KEY NODE TEXT NAME
denied() {
	greet "$2" --server "$SRV" ${1:+--key "$T/$1.key"} >"$T/out" 2>"$T/err"
	is "$? $(cat "$T/err")" "5 mssh: $3" "$4"
}
denied '' web 'this server needs a key (see --key in mssh(1))' 'without a key'
denied bob other 'the key bob is not good for client other here' \
    'with a right for other nodes'
denied web web 'the key web is not good for client web here' \
    'an agent as a client'
not_known='is not the one that you mean'
denied eve web "the server $SRV does not know the key eve, or $not_known" \
    'with a key that the server does not know'
mv "$T/bob.key" "$T/real.key"
key bob
denied bob web "the server $SRV does not know the key bob, or $not_known" \
    'with the wrong secret'
mv "$T/real.key" "$T/bob.key"
ok 'the log has that too' \
    wait_log server 'it left without a proof of the key bob'
ok 'a client of version 1 is refused' talk 'send=CLIENT web\n' \
    'line=ERROR: this server needs a key' eof
ok 'an agent of version 1' talk 'send=AGENT new\n' \
    'line=ERROR: this server needs a key' eof

# What a stranger hears does not tell a known name from an unknown one.
nonce=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
for k in bob nobody; do
	ok "a guess at the key $k" talk \
	    "send=MSSH/2 client web key=$k nonce=$nonce\n" line=CHALLENGE \
	    "send=PROOF mac=$nonce\n" \
	    "line=ERROR denied the key $k is not good for client web here" eof
done
ok 'a proof without a mac' talk \
    "send=MSSH/2 client web key=bob nonce=$nonce\n" line=CHALLENGE \
    'send=PROOF\n' 'line=ERROR denied' eof
ok 'a nonce that is too short' talk \
    'send=MSSH/2 client web key=bob nonce=AAA\n' 'line=ERROR syntax' eof
ok 'a key without a nonce' talk 'send=MSSH/2 client web key=bob\n' \
    'line=ERROR syntax' eof

# The server's own proof is no peer's: sent back, it opens nothing.
ok 'reflection' perl -MIO::Socket::INET -e '
	my $s = IO::Socket::INET->new($ARGV[0]) or die;
	print $s "MSSH/2 client web key=bob nonce=$ARGV[1]\n";
	my ($mac) = <$s> =~ /mac=(\S+)/ or die "no challenge";
	print $s "PROOF mac=$mac\n";
	my $l = <$s>;
	die $l unless $l =~ /^ERROR denied/' "$SRV" "$nonce"

# An early client is ssh by now: it hears a refusal in SSH.
ok 'an early client without a key is refused in SSH' talk \
    'send=MSSH/2 client web early=1\n' 'line=SSH-2.0-mssh'

# ---- the server must prove itself, too

rogue() {
	start rogue perl -MIO::Socket::INET -e '
		$| = 1;
		my $l = IO::Socket::INET->new(Listen => 5,
		    LocalAddr => "127.0.0.1") or die;
		print "port ", $l->sockport, "\n";
		while (my $s = $l->accept) {
			<$s>;
			print $s $ARGV[0];
			1 while <$s>;
		}' "$1"
	wait_log rogue port
	rogue_port=$(sed -n 's/^port //p' "$T/rogue.log")
}
honest=$SRV
rogue 'OK
'
SRV=127.0.0.1:$rogue_port
denied bob web "the server $SRV gives no proof that it knows the key bob: it has no keys, or $not_known" \
    'a server without a proof is left'
(echo secret; sleep 0.3) | "$MSSH" proxy web --server "$SRV" \
    --key "$T/bob.key" >"$T/out" 2>&1
ok 'and has not got a byte of the session' \
    sh -c "! grep -q secret '$T/rogue.log'"
stop rogue
rogue 'ERROR offline it is gone, ask evil.example
'
SRV=127.0.0.1:$rogue_port
denied bob web "the server $SRV gives no proof that it knows the key bob: it has no keys, or $not_known" \
    'one that refuses without a proof, too: neither its text nor its code'
stop rogue
rogue "CHALLENGE nonce=$nonce mac=$nonce
"
SRV=127.0.0.1:$rogue_port
denied bob web "the server $SRV does not know the key bob, or $not_known" \
    'one with a wrong proof, too'
SRV=$honest
stop rogue

# ---- files

file() {
	"$MSSH" proxy web --server "$SRV" --key "$2" </dev/null 2>"$T/err"
	is "$? $(cat "$T/err")" "2 mssh: $3" "$1"
}
cp "$T/bob.key" "$T/open.key"
chmod 644 "$T/open.key"
file 'a key that others can read' "$T/open.key" \
    "others can read $T/open.key: chmod 600 $T/open.key"
file 'a directory' "$T" "$T is not a regular file"
file 'no file' "$T/none" "$T/none: No such file or directory"
echo bob >"$T/short.key"
file 'no secret' "$T/short.key" \
    "$T/short.key:1: a secret has 43 characters, as 'mssh keygen' prints them"
if [ "$(id -u)" = 0 ]; then
	cp "$T/bob.key" "$T/other.key"
	chown 12345 "$T/other.key"
	file "another user's key" "$T/other.key" \
	    "$T/other.key belongs to another user: chown it to yours"
fi
found() {
	(echo echo; echo "$1"; sleep 0.3) | "$MSSH" proxy web \
	    --server "$SRV" 2>"$T/err" | tail -n 1
}
mkdir -p "$XDG_CONFIG_HOME/mssh"
cp "$T/bob.key" "$XDG_CONFIG_HOME/mssh/key"
is "$(found one)" one 'the key in the configuration directory is found'
mv "$XDG_CONFIG_HOME/mssh/key" "$HOME/bobs"
echo 'key ~/bobs' >"$XDG_CONFIG_HOME/mssh/config"
is "$(found two)" two 'and one that the configuration names'
rm "$XDG_CONFIG_HOME/mssh/config"
is "$(MSSH_KEY_FILE=$T/bob.key found three)" three 'and MSSH_KEY_FILE'

# ---- only the same key replaces

agent two --key "$T/two.key"
"$MSSH" keygen thief >"$T/thief.key"
echo "agent tw* $(cat "$T/thief.key")" >>"$T/keys"
mark server
kill -HUP "$(pid server)"
ok 'SIGHUP reads the keys' wait_log server '4 keys read'
start thief "$MSSH" agent two --server "$SRV" --key "$T/thief.key"
ok 'another key does not get a node that is held' \
    wait_log thief 'another key holds the node two'
stop thief

# ---- the file changes

mark server
echo 'agent web' >>"$T/keys"
kill -HUP "$(pid server)"
ok 'a bad file is reported with its line' wait_log server \
    "the keys stay as they were: $T/keys:7: the name of a key"
is "$(as_client bob web | tail -n 1)" hello 'and changes nothing'
entries
echo "client x bob $(cut -d' ' -f2 "$T/eve.key")" >>"$T/keys"
mark server
kill -HUP "$(pid server)"
ok 'one name with two secrets' wait_log server \
    "this key has another secret in a line above"

# session NAME: one that bytes have gone through both ways, until its end.
mkfifo "$T/say"
session() {
	"$MSSH" proxy web --server "$SRV" --key "$T/bob.key" \
	    <"$T/say" >"$T/lives" 2>&1 &
	lives=$!
	exec 7>"$T/say"
	printf 'echo\nbegun\n' >&7
	ok "$1" wait_for 60 grep begun "$T/lives"
}

# over: ends it; sets rc.
over() {
	echo late >&7
	exec 7>&-
	wait $lives
	rc=$?
}
session 'a session'
entries
grep -v ' web ' "$T/keys" >"$T/keys2"
grep -v ' bob ' "$T/keys2" >"$T/keys"
mark server
kill -HUP "$(pid server)"
ok 'a removed key: its agent goes, and stays away' \
    wait_log server 'it left without a proof of the key web' 60
mark agent-web
entries
kill -HUP "$(pid server)"
ok 'it is back, and so is the agent, beside its session' \
    wait_log agent-web 'web parked at' 60
over
is "$rc $(tail -n 1 "$T/lives")" '0 late' 'which goes on'
is "$(as_client bob web | tail -n 1)" hello 'and the client'
# Another line with the same key is no other key; a new one follows a removed.
mark server
sed 's/^agent web /&web,db /; s/web web,db web/web,db web/' "$T/keys" \
    >"$T/keys2"
cp "$T/keys2" "$T/keys"
session 'another session'
mark agent-web
kill -HUP "$(pid server)"
ok 'a changed entry: the same key is let in again' \
    wait_log agent-web 'parked at' 60
over

# The agent has been called when the client's key goes: no session begins.
kill -STOP "$(pid agent-web)"
mark server
start called "$T/greet" web --server "$SRV" --key "$T/bob.key"
ok 'a client is paired' wait_log server '-> paired'
grep -v ' bob ' "$T/keys" >"$T/keys2"
cp "$T/keys2" "$T/keys"
kill -HUP "$(pid server)"
ok 'a key is removed while its client is paired' \
    wait_log server 'keys read'
kill -CONT "$(pid agent-web)"
ok 'that client ends' wait_gone called
is "$rc $(cat "$T/called.log")" '5 mssh: its key was removed' 'and hears why'
entries

# So it is for the agent's: whoever was called with a key that is gone serves
# nobody, and the client gets the agent that has the node by then.
"$MSSH" keygen ka >"$T/ka.key"
"$MSSH" keygen kb >"$T/kb.key"
for k in ka kb; do
	echo "agent lab-1 $(cat "$T/$k.key")" >>"$T/keys"
done
mark server
kill -HUP "$(pid server)"
ok 'two keys for one node' wait_log server '5 keys read'
start a "$MSSH" agent lab-1 --server "$SRV" --key "$T/ka.key" \
    --exec 'read -r _; echo A'
ok 'one has it' wait_log a 'parked at'
kill -STOP "$(pid a)"
mark server
start called "$T/greet" lab-1 --server "$SRV" --key "$T/bob.key"
ok 'a client is paired with it' wait_log server '-> paired'
grep -v ' ka ' "$T/keys" >"$T/keys2"
cp "$T/keys2" "$T/keys"
kill -HUP "$(pid server)"
ok 'its key is removed when it has been called' wait_log server '4 keys read'
start b "$MSSH" agent lab-1 --server "$SRV" --key "$T/kb.key" \
    --exec 'read -r _; echo B'
ok 'the other has it' wait_log b 'parked at' 60
kill -CONT "$(pid a)"
ok 'the client is served' wait_gone called 60
is "$(cat "$T/called.log")" B 'by that'
stop a
stop b
entries
stop server
stop agent-web
stop agent-two

server --keys "$T/keys" --strict-reload -v
agent web --key "$T/web.key"
session 'a session with --strict-reload'
grep -v ' bob ' "$T/keys" >"$T/keys2"
cp "$T/keys2" "$T/keys"
kill -HUP "$(pid server)"
wait $lives
is "$? $(grep -c 'lost' "$T/lives")" '1 1' 'ends when its key is removed'
exec 7>&-
ok 'and the log says why' wait_log server ': its key was removed'

# ---- the owner's last word

entries
kill -HUP "$(pid server)"
start agent-lab-1 "$MSSH" agent lab-1 --server "$SRV" --key "$T/web.key"
ok 'a right for one node is none for another' \
    wait_log agent-lab-1 'the key web is not good for agent lab-1 here'
stop agent-lab-1
stop agent-web
agent web --key "$T/web.key" --allow 'al*,x'
ok 'the agent is there' wait_log agent-web 'parked at'
denied bob web 'web: its owner does not allow the key bob' '--allow refuses'
stop agent-web
agent web --key "$T/web.key" --allow 'al*,bo?' \
    --exec 'echo "$MSSH_CLIENT_KEY at $MSSH_NODE"'
ok 'the agent is back' wait_log agent-web 'parked at'
is "$(as_client bob web)" 'bob at web' '--allow lets in; --exec is told who'

# ---- secrets stay where they are

ok 'no secret is in a log or a command line' sh -c '
	for k in web bob two; do
		s=$(cut -d" " -f2 "$T/$k.key")
		! grep -F "$s" "$T"/*.log /proc/[0-9]*/cmdline || exit 1
	done'
if [ "$(id -u)" = 0 ]; then
	chmod 711 "$T"
	cp "$MSSH" "$T/mssh"
	mkdir -m 755 "$T/open"
	cp "$T/bob.key" "$T/open/key"
	chown -R 12345 "$T/open"
	chmod 755 "$T/mssh"
	mark server
	start hidden sh -c 'exec "$@" <"$T/greeting"' - setpriv \
	    --reuid 12345 --clear-groups "$T/mssh" proxy lab-9 --wait 60 \
	    --server "$SRV" --key "$T/open/key"
	ok 'a process with a key waits' wait_log server '-> waiting'
	is "$(stat -c %u "/proc/$(pid hidden)/environ")" 0 \
	    'a process with a key leaves no core to its user'
	stop hidden
fi
stop server
finish
