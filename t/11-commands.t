#!/bin/sh
# 11-commands.t - the command line: help, exit codes, configuration, quoting
# shellcheck disable=SC2016,SC2088	# hostile strings must not expand
t/need ssh scp sshd script perl ps || exit 1
# shellcheck source=t/lib.sh
. t/lib.sh

# run cmd...: its exit code in st, standard output and error in out and err.
run() {
	st=0
	"$@" >"$T/out" 2>"$T/err" || st=$?
	out=$(cat "$T/out")
	err=$(cat "$T/err")
}

# fails CODE TEXT cmd...: exits CODE, and says TEXT (an ERE) or its usage.
fails() {
	code=$1 text=$2
	shift 2
	run "$@"
	if [ "$st" = "$code" ] && printf '%s\n' "$err" | grep -Eqi -e "$text" &&
	    printf '%s\n' "$err" | grep -Eq '^(mssh|usage): ?'; then
		verdict 0 "$code: $*"
		return
	fi
	note "status $st, not $code; or nothing with \"$text\":"
	note "$err"
	verdict 1 "$code: $*"
}

m() {
	"$MSSH" "$@"
}

# ---- help and version

run m --version
is "$st" 0 '--version'
ok '--version: a number on standard output' sh -c \
    'printf "%s\n" "$1" | grep -Eq "^mssh [0-9]+(\.[0-9]+)*"' - "$out"
run m --help
is "$st:$err" 0: '--help: on standard output'
for c in server agent proxy ssh config; do
	ok "--help names $c" grep -q "mssh.*$c" "$T/out"
done
helps() {
	command=$1
	shift
	run m "$command" --help
	is "$st:$err" 0: "$command --help"
	for o; do
		ok "$command --help: $o" grep -q -e "$o" "$T/out"
	done
}
helps server --host --port --drain
helps agent --server --ssh-port --ssh-host --spare --exec
helps proxy --server --wait --fdpass
helps ssh --server --identity --wait
helps config init
long=$(for c in server agent proxy ssh config; do m $c --help; done |
    awk 'length > 80')
is "$long" '' 'no line of help is longer than 80'

# ---- 2: usage

fails 2 'usage|command' m
fails 2 'nonsense' m nonsense
fails 2 'nonsense' m --nonsense
fails 2 'nonsense' m server --nonsense
fails 2 'port' m server --port
for p in '' x 65536 -1 1x 99999999999999999999; do
	fails 2 'port' m server --port="$p"
done
fails 2 'host|address|resolve|name' m server --host '' --port 0
fails 2 'drain' m server --drain x --port 0
fails 2 'server' m server extra
fails 2 'server' m agent demo
fails 2 'server' m agent demo --server
fails 2 'server' m agent demo --server ''
fails 2 'spare' m agent demo --server 127.0.0.1 --spare 0
fails 2 'spare' m agent demo --server 127.0.0.1 --spare 65
fails 2 'port' m agent demo --server 127.0.0.1 --ssh-port 0
fails 2 'nonsense' m agent demo --server 127.0.0.1 --nonsense
fails 2 'extra' m agent demo extra --server 127.0.0.1
fails 2 'node' m proxy
fails 2 'server' m proxy demo
fails 2 'wait' m proxy demo --server 127.0.0.1 --wait x
fails 2 'wait' m proxy demo --server 127.0.0.1 --wait -5
fails 2 'extra' m proxy demo extra --server 127.0.0.1
fails 2 'server' m someone@demo
fails 2 '^usage: .*user@node' m ssh
fails 2 '^usage: .*config init' m config
fails 2 '^usage: .*config init' m config nonsense
fails 2 'terminal' m config init
is "$(find "$T/config" "$T/home" -type f)" '' 'config init left no file'

for o in source-startups parked key-parked waiting key-sessions; do
	fails 2 "^mssh: --$o is gone: .* (may|wait)" m server --$o 5
done

# An id that cannot be one: why, and one that can.
suggests() {
	run m agent "$1" --server 127.0.0.1:1
	is "$st" 2 "agent '$1' is refused"
	ok "agent '$1': try $2" grep -q -e "[^a-z0-9]$2[^a-z0-9]*\$" "$T/err"
}
suggests 'prod db 1' prod-db-1
suggests 'a/b' a-b
suggests '.x' x
suggests 'host$(id)' host-id
for node in '' 'a b' '-x' '../x' 'a/b' 'a%h' "a'b" 'a;b' 'a$b' '.x' 'é' \
    "$(printf 'a\nb')" "$(printf '%065d' 1)"; do
	fails 2 'node|id|option|usage' m proxy --server 127.0.0.1:1 "$node"
	fails 2 'node|id|option|usage' m ssh --server 127.0.0.1:1 -- "$node"
done
for s in 'a -b' '-x' 'a;b' '$(id)' "a'b" 'host:' ':22' 'host:1 y:' \
    'host:99999' '[::1' 'a/b' "$(printf 'a\001b')" '1 2 3 4 5 6 7 8 9'; do
	fails 2 'server|address|port|host' m proxy demo --server="$s"
done

# ---- 3, 4, 6, 7, 8, 9

closed=$(free_port)
server -v
sshd_start
agent demo
agent dead --ssh-port "$closed"
fails 3 "127.0.0.1:$closed.*refused" m proxy demo --server "127.0.0.1:$closed"
fails 4 'nosuch is unknown here$' greet nosuch --server "$SRV"
fails 4 'nosuch is unknown here$' greet nosuch.mssh --server "$SRV"
fails 4 'deom is unknown here; similar: demo$' greet deom --server "$SRV"
fails 6 'dead.*(sshd|reach|refused)' greet dead --server "$SRV"
fails 2 'standard input is empty, .*\(see mssh ping\)' m proxy demo \
    --server "$SRV"

# listener NAME CODE: a server that does CODE to each connection $c.
listener() {
	listens=$(free_port)
	start "$1" perl -MIO::Socket::INET -e 'my $l = IO::Socket::INET->new(
	    Listen => 9, LocalAddr => "127.0.0.1", LocalPort => $ARGV[0],
	    ReuseAddr => 1) or die; $| = 1; print "up\n"; my @all;
	    while (my $c = $l->accept) { push @all, $c; eval $ARGV[1] }' \
	    "$listens" "$2"
	wait_log "$1" up
}
listener mute ''
mute=$listens
listener web 'sysread $c, my $x, 1;
    print $c "HTTP/1.1 400 Bad Request\r\n\r\n"; close $c'
web=$listens
listener smtp 'print $c "220 mail.example ESMTP\r\n"'
smtp=$listens
listener closer 'sysread $c, my $x, 1; close $c'
closer=$listens
start quiet "$T/greet" demo --server "127.0.0.1:$mute"
fails 9 '(not|no).*mssh' greet demo --server "127.0.0.1:$web"
fails 9 '(not|no).*mssh' greet demo --server "127.0.0.1:$smtp"
fails 9 '(not|no).*mssh' greet demo --server "127.0.0.1:$SSHD_PORT"
run greet demo --server "127.0.0.1:$closer"
ok 'a server that hangs up: 3 or 9, and a sentence' sh -c \
    '[ "$1" = 3 ] || [ "$1" = 9 ] && grep -q "^mssh: ..* ..*" "$2"' - \
    "$st" "$T/err"

# 64 wait for one node; the next is told.
strangers crowd 64 'MSSH/2 client later wait=600\n'
queued() {
	[ "$(log_count server '-> waiting')" -ge "$1" ]
}
wait_for 30 queued 64
full() {
	run greet later --wait 1 --server "$SRV"
	[ "$st" = 8 ]
}
ok '8: the 65th client that waits for a node' full
ok 'told in words' grep -Eq '^mssh: .* .*' "$T/err"
stop crowd >/dev/null

# ---- ssh's exit code is ours

for c in 0 1 5 127 255; do
	run msh demo "exit $c"
	is "$st" "$c" "mssh user@node: exit code $c"
done
run msh nosuch true
is "$st" 255 'mssh user@node: a node that is unknown'
ok 'its sentence' grep -q 'mssh: nosuch is unknown here' "$T/err"
run msh dead true
is "$st" 255 'mssh user@node: a dead sshd'
ok 'its sentence' grep -q 'mssh: .*dead' "$T/err"

# ---- --wait

mark server
start early "$T/msh" soon --wait 60 'echo it came'
start early2 "$T/greet" soon --server "$SRV" --wait=60
ok 'two clients wait' wait_for 30 queued 2
agent soon
ok '--wait: ends' wait_gone early 60
ok '--wait: served when the node appears' log_has early 'it came'
ok '--wait on proxy: as well' wait_log early2 SSH-2.0
stop early2 >/dev/null
fails 4 'never is unknown' greet never --wait 1 --server "$SRV"

# ---- known_hosts

msh demo true 2>/dev/null
ok 'host key under NODE.HOST=PORT.mssh' \
    grep -q "^demo.127.0.0.1=$PORT.mssh " "$T/known"
msh demo -o StrictHostKeyChecking=yes true
is $? 0 'and found there'
msh soon true 2>/dev/null
ok 'each node its own' grep -q "^soon.127.0.0.1=$PORT.mssh " "$T/known"
is "$(grep -c localhost "$T/known")" 0 'none is localhost'
agent 42
is "$(msh 42 echo number 2>/dev/null)" number 'a node whose id is a number'
agent 010.1.1.1
is "$(msh 010.1.1.1 echo address 2>/dev/null)" address \
    'a node whose id looks like an address'
is "$(msh DEMO echo upper 2>/dev/null)" upper 'a node in capitals'
is "$(msh demo.mssh echo suffix 2>/dev/null)" suffix 'node.mssh is node'

# A shared connection has a name with all that in it.
share="-o ControlPath=$T/%r@%h"
# shellcheck disable=SC2086	# two words
{
msh demo -M -f -N $share
ok 'a socket for ControlPath' test -S "$T/$USER@demo.127.0.0.1=$PORT.mssh"
is "$(msh demo $share -O check 2>&1 | tr -d '\r' | sed 's/ (.*//')" \
    'Master running' 'is found again'
is "$(msh demo $share echo shared)" shared 'and serves'
msh demo $share --connect 'false %h' -O check 2>/dev/null
is $? 255 'but not another way to the server'
msh demo $share -O exit 2>/dev/null
}

# ---- what ssh is given

mkdir "$T/fake"
cat >"$T/fake/ssh" <<'END'
#!/bin/sh
for a; do
	printf '%s\n' "$a"
done >"$T/argv"
printf '%s\n' "$SHELL" >"$T/shell"
env | grep ^MSSH_ >"$T/env"
exit 43
END
chmod 755 "$T/fake/ssh"

# fake args...: mssh with an ssh that only tells what it got.
fake() {
	rm -f "$T/argv" "$T/env"
	PATH=$T/fake:$PATH SHELL=/bin/false m "$@"
}

# words args...: the arguments of that ssh on one line, after ours.
words() {
	fake "$@" 2>/dev/null
	[ $? -eq 43 ] || echo 'ssh was not run, or its code got lost'
	tr '\n' '|' <"$T/argv" |
	    sed -e 's/^.*|-oHostName="[^|]*"|//' -e \
	    's/-oConnectTimeout=35|-oServerAliveCountMax=1000000|--|/--|/'
}

H='--server 127.0.0.1:1'
# shellcheck disable=SC2086	# H is two words
{
is "$(words a@demo $H)" '--|a@demo|' 'ssh: target'
is "$(words a@demo $H uptime)" '--|a@demo|uptime|' 'ssh: a command'
is "$(words a@demo $H -L 8080:localhost:80 -N)" \
    '-L|8080:localhost:80|-N|--|a@demo|' 'ssh: options behind the target'
is "$(words $H -v -p 2222 a@demo -A uptime)" \
    '-v|-p|2222|-A|--|a@demo|uptime|' 'ssh: options before and after'
is "$(words -vvA -oA=b -o C=d a@demo $H)" '-vvA|-oA=b|-o|C=d|--|a@demo|' \
    'ssh: clustered and attached'
is "$(words a@demo $H ls -l --server x)" '--|a@demo|ls|-l|--server|x|' \
    'ssh: options of the command are the command'"'"'s'
is "$(words a@demo $H -- -l)" '--|a@demo|-l|' 'ssh: -- before the command'
is "$(words a@demo $H -t 'echo "a  b"' "c'd" '')" \
    "-t|--|a@demo|echo \"a  b\"|c'd||" 'ssh: words as they are'
is "$(words --identity /k/id a@demo $H -C)" '-i|/k/id|-C|--|a@demo|' \
    'ssh: --identity'
is "$(words a@demo $H --identity='/k/a b')" '-i|/k/a b|--|a@demo|' \
    'ssh: --identity=FILE'
is "$(words ssh a@demo $H -4)" '-4|--|a@demo|' 'mssh ssh: with a user'
is "$(words ssh demo $H -l me)" '-l|me|--|demo|' 'mssh ssh: without one'
is "$(words ssh $H -l me demo)" '-l|me|--|demo|' 'mssh ssh: options first'
is "$(words a@demo $H -J jump -W x:1)" '-J|jump|-W|x:1|--|a@demo|' \
    'ssh: options with an argument'
}
is "$(cat "$T/shell")" /bin/sh 'ssh: SHELL is /bin/sh'
for s in 127.0.0.1 tls://127.0.0.1; do
	for r in '' --no-resume; do
		# shellcheck disable=SC2086	# r may be none
		fake a@demo --server "$s" $r 2>/dev/null
		is "$(grep ServerAlive "$T/argv" | tr '\n' ' ')" \
		    "$([ "$r" ] || echo '-oServerAliveCountMax=1000000 ')$(
		    [ "$s" = 127.0.0.1 ] || echo '-oServerAliveInterval=25 ')" \
		    "ssh: what is unanswered, $s $r"
	done
done
fake a@demo --server 127.0.0.1 --wait 600 -o ConnectTimeout=7 2>/dev/null
is "$(grep -n ConnectTimeout= "$T/argv" | sed 's/.*:/:/; s/-o//' |
    tr '\n' ' ')" \
    ':ConnectTimeout=7 :ConnectTimeout=635 ' \
    'ssh: a time limit, --wait included, behind the options of the person'
fake a@demo --server 10.0.0.1 2>/dev/null
ok 'HostName without the usual port' grep -qx -- \
    '-oHostName="demo.10.0.0.1.mssh"' "$T/argv"
fake a@demo --server '[2001:db8::1]:99' 2>/dev/null
ok 'HostName of a v6 server' grep -Eqx -- \
    '-oHostName="demo.2001-db8--1=99=[0-9a-f]{8}.mssh"' "$T/argv"
fake a@demo --server 'fe80::1%eth0' 2>/dev/null
ok 'HostName with a zone' grep -Eqx -- \
    '-oHostName="demo.fe80--1-eth0=8443=[0-9a-f]{8}.mssh"' "$T/argv"
ok 'the server goes to the proxy' grep -qx 'MSSH_SERVER=fe80::1%eth0' "$T/env"
ok 'no other % there' sh -c '! grep ^-oProxyCommand "$1" | sed s/%%//g |
    grep %' - "$T/argv"
fake a@demo --server 10.0.0.1 --wait 7 2>/dev/null
ok '--wait goes to the proxy' grep -Eq '^-oProxyCommand=.*--wait[ =]'"'?7" \
    "$T/argv"

# ---- hostile strings: nothing of them runs, with a fake ssh or the real one

top=$PWD
mkdir "$T/inj"
cd "$T/inj" || bail "no $T/inj"
inject() {
	fake "$@" >/dev/null 2>&1
	timeout 60 "$MSSH" "$@" -F none -o BatchMode=yes -i "$T/key" \
	    -o IdentitiesOnly=yes -o UserKnownHostsFile="$T/known" \
	    >/dev/null 2>&1
	is "$(ls -A)" '' "harmless: $*"
	rm -rf "$T/inj/x"
}
for evil in '$(touch x)' '`touch x`' "';touch x;'" '";touch x;"' \
    '|touch x' '&touch x&' 'a b;touch x' '%h;touch x' '-oProxyCommand=touch x' \
    "$(printf 'a\ntouch x\n')" 'a\$(touch x)' '>x' '${IFS}touch${IFS}x'; do
	inject "$evil@demo" --server "$SRV"
	inject "a@$evil" --server "$SRV"
	inject a@demo --server="$evil"
	inject ssh --server "$SRV" -- "$evil"
	inject a@demo --server "$SRV" --identity="$evil"
	inject ssh -l "$evil" --server "$SRV" demo
done
for evil in '-oProxyCommand=touch x' '-Fx' '-Ex' --server=x; do
	inject "$evil@demo" --server "$SRV"
	run fake "$evil@demo" --server "$SRV"
	ok "a user with '-' in front is no option: $evil" sh -c \
	    '[ "$1" = 2 ] || grep -qx -e "$2@demo" "$3"' - "$st" "$evil" \
	    "$T/argv"
done
fake 'a$b c\d@demo' --server "$SRV" 2>/dev/null
ok 'a strange user as it is' grep -qxF 'a$b c\d@demo' "$T/argv"
fake 'corp\me@x@demo' --server "$SRV" 2>/dev/null
ok 'the last @ counts' grep -qxF 'corp\me@x@demo' "$T/argv"
dir="$T/a 'b\" %h \$(touch x) \\c"
mkdir "$dir"
cp "$MSSH" "$dir/mssh"
MSSH_=$MSSH MSSH=$dir/mssh
is "$(msh demo 'echo quoted' 2>"$T/err")" quoted \
    'a path of our own with everything in it'
MSSH=$MSSH_
is "$(ls -A)" '' 'nothing of it ran'
cd "$top" || bail "no $top"

# ---- MSSH_SERVER and the configuration

# picks ARGS...: the server that mssh a@NODE would use.
picks() {
	fake "$@" 2>/dev/null
	sed -n 's/^MSSH_SERVER=//p' "$T/env" 2>/dev/null
}
mkdir "$T/config/mssh"
conf=$T/config/mssh/config
cat >"$conf" <<'END'
# where things are
server default.example
identity "/k/the default"

node prod-* STAGE
	server=prod.example:99
	identity = /k/prod
node prod-db
	server never.example
node [0-9]*
	server [2001:db8::1]:7
END
is "$(picks a@other)" default.example 'config: the default'
ok 'config: identity in quotes' grep -qx '/k/the default' "$T/argv"
is "$(picks a@prod-db)" prod.example:99 'config: a stanza; the first one counts'
ok 'config: its identity' grep -qx /k/prod "$T/argv"
is "$(grep -c '^/k/' "$T/argv")" 1 'config: no second identity'
is "$(picks a@stage)" prod.example:99 'config: two patterns, any case'
is "$(picks a@7)" '[2001:db8::1]:7' 'config: a v6 address'
is "$(MSSH_SERVER=env.example:5 picks a@prod-db)" env.example:5 \
    'MSSH_SERVER beats the config'
is "$(MSSH_SERVER=env.example:5 picks a@prod-db --server opt.example:6)" \
    opt.example:6 '--server beats MSSH_SERVER'
is "$(XDG_CONFIG_HOME='' picks a@other)" '' 'no config where XDG is not'
mkdir -p "$HOME/.config"
cp -r "$T/config/mssh" "$HOME/.config/"
is "$(unset XDG_CONFIG_HOME; picks a@prod-db)" prod.example:99 \
    '~/.config/mssh/config'
rm -r "$HOME/.config"
echo 'server file.example:1' >"$T/other"
is "$(MSSH_CONFIG=$T/other picks a@prod-db)" file.example:1 'MSSH_CONFIG'

# ways: what mssh proxy is told to do for ssh.
ways() {
	fake a@demo --server 127.0.0.1:1 "$@" 2>/dev/null
	sed -n 's/.*proxy --\([a-z]*\) .*/\1/p' "$T/argv"
}
printf 'resume-for 0\nnode other\nresume-for 5\n' >"$T/resume"
is "$(ways)" resume 'mssh user@node resumes'
is "$(ways --no-resume)" fdpass 'not with --no-resume'
is "$(ways --resume-for 0)" fdpass 'nor with --resume-for 0'
is "$(MSSH_RESUME_FOR=0 ways)" fdpass 'nor with MSSH_RESUME_FOR=0'
is "$(MSSH_RESUME_FOR=0 ways --resume-for 9)" resume 'the option is stronger'
is "$(MSSH_CONFIG=$T/resume ways)" fdpass 'nor with resume-for 0 in a file'

# wrong TEXT LINE: a mistake in line 3 is named.
wrong() {
	printf '# one\n\n%s\n' "$1" >"$conf"
	fails 2 "^mssh: $conf:3: .+" m proxy demo
}
wrong 'sever typo.example'
wrong 'server'
wrong 'server a -b'
wrong 'server host:99999'
wrong 'server $(id)'
wrong 'node'
wrong 'identity ""'
wrong "$(printf 'server a\001b')"
wrong "server $(printf '%01000d' 1)"
printf 'server %s' "$SRV" >"$conf"
is "$(greet demo | head -c 4)" SSH- \
    'config: the last line may lack its end'
printf '\r\nserver %s \t\r\n\r\n' "$SRV" >"$conf"
is "$(greet demo | head -c 4)" SSH- 'config: CR LF'
start by-config "$MSSH" agent by-config --ssh-port "$SSHD_PORT"
ok 'agent uses the config' wait_log by-config 'parked at'
rm "$conf"
MSSH_SERVER=$SRV
export MSSH_SERVER
is "$(greet demo | head -c 4)" SSH- 'proxy uses MSSH_SERVER'
start by-env "$MSSH" agent by-env --ssh-port "$SSHD_PORT"
ok 'agent uses MSSH_SERVER' wait_log by-env 'parked at'
unset MSSH_SERVER

# ---- agent without an id

start named "$MSSH" agent --server "$SRV" --ssh-port "$SSHD_PORT"
ok 'agent without an id: the address it reaches the server with' \
    wait_log named '127.0.0.1 parked at'

# ---- config init

# on_tty cmd...: runs cmd on a terminal; the answers come on standard input.
on_tty() {
	printf '"%s" ' "$@" >"$T/line"
	script -qec "sh $T/line" "$T/typescript"
}
rmdir "$T/config/mssh"
printf '%s\n\n\n\n' "$SRV" | on_tty "$MSSH" config init >"$T/init.out" 2>&1
ok 'config init on a terminal: writes the file' test -s "$conf"
ok 'config init: the server' grep -Eq "^server[ =]+$SRV\$" "$conf"
is "$(greet demo | head -c 4)" SSH- 'config init: mssh reads it'
cp "$conf" "$T/first"
printf 'n\nn\nn\n' | on_tty "$MSSH" config init >"$T/init.out" 2>&1
ok 'config init: keeps what is there' cmp "$T/first" "$conf"
rm -r "$T/config/mssh"

# ---- ssh_config's stanza

cat >"$T/ssh_config" <<END
Host *.mssh
	ProxyCommand $MSSH proxy --fdpass --server $SRV %n
	ProxyUseFdpass yes
	User $USER
	IdentityFile $T/key
	IdentitiesOnly yes
	BatchMode yes
	StrictHostKeyChecking accept-new
	UserKnownHostsFile $T/known2
END
echo stanza >"$T/file"
ok 'scp with a Host *.mssh stanza' scp -q -F "$T/ssh_config" "$T/file" \
    "demo.mssh:$T/copy"
ok 'the file is there' cmp "$T/file" "$T/copy"
ok 'its host key' grep -q '^demo.mssh ' "$T/known2"

# ---- 7: a server that accepts and says nothing

ok 'proxy gives up on a mute server' wait_gone quiet 60
is "$rc" 7 '7: timeout'
ok 'told in words' grep -q "^mssh: .*127.0.0.1:$mute" "$T/quiet.log"

finish
