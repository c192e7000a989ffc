#!/bin/sh
# 58-complete.t - bash, zsh and fish complete mssh's words
#
# Each shell runs in a terminal of tmux, with the files where make install puts
# them.  The mssh that it finds notes its words and ends; only --help is mssh's
# own.  So a completed line shows as what the shell runs when it gets Enter.
# shellcheck disable=SC1003,SC2016	# quotes that are meant for others
t/need tmux bash bash-completion zsh fish timeout || exit 1
# shellcheck source=t/lib.sh
. t/lib.sh

ROOT=$T/root
export ROOT
ok 'make install' make -s DESTDIR="$ROOT" PREFIX=/usr install

mkdir "$T/bin" "$T/alt" "$T/few" "$T/dir"
: >"$T/dir/keyfile"
: >"$T/dir/sock"
server
for n in web-2 prod-db-1 web-1; do
	as "$n" "send=MSSH/2 agent $n\n" line=OK tell=parked gone
	wait_log "$n" parked || bail "no node $n"
done
# mssh: "list" asks our server, whatever the command line says; or it does what
# $T/mode says: hostile (also what is not a name) or hang.
cat >"$T/bin/mssh" <<'END'
#!/bin/sh
case $* in
--help | *' --help') exec "$MSSH" "$@" ;;
'list --names'*) ;;
*) (IFS='|'; echo "$*") >>"$T/ran"; exit ;;
esac
read -r mode <"$T/mode"
case $mode in
hang) echo $$ >"$T/hang.list"; exec sleep 1000 ;;
hostile) cat "$T/hostile" ;;
esac
exec "$MSSH" list --names --server "$SRV"
END
# timeout: notes its words.  A second may be too short for the answer when the
# machine is busy, so the bound is the real one only where mssh hangs.
cat >"$T/bin/timeout" <<'END'
#!/bin/sh
(IFS='|'; echo "$*") >>"$T/list"
read -r mode <"$T/mode"
if [ "$mode" = hang ]; then
	echo $$ >"$T/hang.timeout"
	exec "$TIMEOUT" "$@"
fi
shift
exec "$@"
END
TIMEOUT=$(command -v timeout)
export TIMEOUT
# Another mssh, with a command and an option that the real one does not have.
cat >"$T/alt/mssh" <<'END'
#!/bin/sh
case $* in
--help) printf 'usage:\n  mssh frobnicate node [options]\n\tdo it\n' ;;
'frobnicate --help') echo 'usage: mssh frobnicate node [options]'
	echo '  --zap FILE             what to zap' ;;
'list --names'*) echo alt-1 ;;
*) (IFS='|'; echo "$*") >>"$T/ran" ;;
esac
END
chmod 755 "$T/bin/mssh" "$T/bin/timeout" "$T/alt/mssh"
for p in sed sleep cat; do
	ln -s "$(command -v $p)" "$T/few/$p"
done
ln -s "$T/bin/mssh" "$T/few/mssh"
{
	printf '%s\n' 'x$(touch evil)' 'y`touch evil`' 'z;touch evil;' \
	    '$(touch evil)' ';touch evil' '-evil' 'evil name' 'evil*' \
	    "evil'" 'evil"' 'evil\' 'evil@evil' 'evil/evil' '~evil' '!evil'
	printf '\033]0;evil\007\nevil\033[31m\n\rweb-evil\nweb-evil\t\n'
} >"$T/hostile"

# ---- a shell in a terminal

cat >"$T/bashrc" <<'END'
PS1='$((++n))> '
END
cp "$T/bashrc" "$T/bashrc-bare"
echo '. /usr/share/bash-completion/bash_completion' >>"$T/bashrc"
echo '. "$ROOT/usr/share/bash-completion/completions/mssh"' >>"$T/bashrc-bare"
cat >"$HOME/.zshrc" <<'END'
setopt promptsubst
precmd() { ((++n)); }
PS1='$n> '
fpath=($ROOT/usr/share/zsh/site-functions $fpath)
autoload -U compinit
compinit -D -u
END
# Without that directory fish makes it, and fills it from all manuals.
mkdir -p "$XDG_CONFIG_HOME/fish" "$HOME/.local/share/fish/generated_completions"
cat >"$XDG_CONFIG_HOME/fish/config.fish" <<'END'
set -g fish_greeting
set -g fish_autosuggestion_enabled 0
set -g n 0
function count_prompts --on-event fish_prompt
	set n (math $n + 1)
end
function fish_prompt
	echo "$n> "
end
END

# mux COMMAND...: tmux, for the shell of which is the turn
mux() {
	tmux -S "$T/tmux" "$@"
}

screen() {
	mux capture-pane -p -t "=$shell:"
}

# shell_start NAME COMMAND...: gives it a terminal; it becomes the shell that
# the others below deal with.
shell_start() {
	shell=$1
	shift
	n=0
	mux new-session -d -s "$shell" -x 100 -y 40 -c "$T/dir" \
	    "exec env PATH='$T/bin:$PATH' LC_ALL=C.UTF-8 \
	    XDG_DATA_DIRS='$ROOT/usr/share:/usr/share' $*" ||
	    bail "tmux starts no $shell"
	prompt || bail "no prompt of $shell: $(screen)"
}

# prompted: does the screen end with a new prompt, and an empty line after it?
prompted() {
	last=$(screen | sed '/^ *$/d' | tail -n 1)
	last=${last% }
	case ${last%>} in
	'' | "$last" | *[!0-9]*) return 1 ;;
	esac
	[ "${last%>}" -gt "$n" ]
}

# prompt: waits for the next prompt; each has a number.
prompt() {
	wait_for 60 prompted && n=${last%>}
}

# press TEXT: <TAB> is that key.
press() {
	mux send-keys -t "=$shell:" -l -- "$(printf %s "$1" |
	    sed "s/<TAB>/$(printf '\t')/g")"
}

# typed TEXT WANT NAME: TEXT and Enter lets the shell run mssh with WANT.
typed() {
	: >"$T/ran"
	: >"$T/list"
	press "$1"
	mux send-keys -t "=$shell:" Enter
	wait_for 60 test -s "$T/ran"
	is "$(cat "$T/ran")" "$2" "$shell: $3" || screen | sed 's/^/# /' >&9
	prompt || leave
}

# leave: empties the line.
leave() {
	mux send-keys -t "=$shell:" C-u Enter
	prompt || bail "no prompt of $shell: $(screen)"
}

has_text() {
	screen | grep -qF -e "$1"
}

# shows TEXT WANT NAME: while TEXT is typed, WANT is seen.
shows() {
	press "$1"
	ok "$shell: $3" wait_for 60 has_text "$2" || screen | sed 's/^/# /' >&9
}

# dead FILE...: is no process left of those whose numbers the files hold?
dead() {
	# shellcheck disable=SC2046	# numbers
	! alive $(cat "$@")
}

# cases: what all of them do
cases() {
	echo names >"$T/mode"
	typed 'mssh serv<TAB>' server 'a command'
	typed 'mssh agent --sp<TAB>' 'agent|--spare' 'an option'
	typed 'mssh alice@x --wa<TAB>' 'alice@x|--wait' \
	    'an option where no command is named'
	typed 'mssh server --keys ke<TAB>' 'server|--keys|keyfile' 'a file'
	typed 'mssh server --keys=ke<TAB>' 'server|--keys=keyfile' \
	    'a file behind ='
	typed 'mssh server --listen unix:so<TAB>' 'server|--listen|unix:sock' \
	    'the path of a socket'
	typed 'mssh agent --server=unix:so<TAB>' 'agent|--server=unix:sock' \
	    'the path of a socket behind ='
	typed 'mssh server --port ke<TAB>' 'server|--port|ke' \
	    'a number is not a file'
	typed 'mssh alice@pr<TAB>' 'alice@prod-db-1' 'a node'
	is "$(cat "$T/list")" '1|mssh|list|--names' \
	    "$shell: mssh list gives it, in a second"
	typed 'mssh proxy pr<TAB>' 'proxy|prod-db-1' 'a node without a user'
	typed 'mssh --server=h:1 alice@pr<TAB>' \
	    '--server=h:1|alice@prod-db-1' 'a node of some server'
	is "$(cat "$T/list")" '1|mssh|list|--names|--server=h:1' \
	    "$shell: mssh list gets --server"
	typed 'mssh --server h:1 --server=h:2 alice@pr<TAB>' \
	    '--server|h:1|--server=h:2|alice@prod-db-1' \
	    'a node of two servers'
	is "$(cat "$T/list")" '1|mssh|list|--names|--server=h:1|--server=h:2' \
	    "$shell: mssh list gets both"
	typed 'mssh proxy --resume-f<TAB>' 'proxy|--resume-for' \
	    'an option that another begins with'
	typed "mssh ssh --wait 5 --server 'tls://h' --key ~/k --cafile c \
--connect 'nc \"a b\" %p' --cert=d --certkey e --proxy none alice@pr<TAB>" \
	    "ssh|--wait|5|--server|tls://h|--key|$HOME/k|--cafile|c|\
--connect|nc \"a b\" %p|--cert=d|--certkey|e|--proxy|none|alice@prod-db-1" \
	    'a node, reached in all ways'
	is "$(cat "$T/list")" "1|mssh|list|--names|--server=tls://h|\
--key=$HOME/k|--cafile=c|--connect=nc \"a b\" %p|\
--cert=d|--certkey=e|--proxy=none" \
	    "$shell: mssh list gets them without quotes"
	typed 'mssh --proxy http://u:p@h alice@pr<TAB>' \
	    '--proxy|http://u:p@h|alice@pr' 'no node with a password'
	typed 'mssh --server=$HOME alice@pr<TAB>' "--server=$HOME|alice@pr" \
	    'no node of a server in a variable'
	is "$(cat "$T/list")" '' "$shell: mssh list is not asked then"

	typed 'mssh alice@x -p 22 --wa<TAB>' 'alice@x|-p|22|--wait' \
	    "an option behind ssh's"
	typed 'mssh alice@x -i ke<TAB>' 'alice@x|-i|keyfile' "a file of ssh's"
	typed 'mssh alice@x cat ke<TAB>' 'alice@x|cat|keyfile' \
	    "a file in ssh's command"
	typed 'mssh alice@x ls --serv<TAB>' 'alice@x|ls|--serv' \
	    "ssh's command is left alone"
	is "$(cat "$T/list")" '' "$shell: mssh list is not asked there"

	typed '../alt/mssh frob<TAB>' frobnicate 'a command of another mssh'
	typed '../alt/mssh frobnicate --z<TAB>' 'frobnicate|--zap' \
	    'its option'
	typed '../alt/mssh frobnicate --zap ke<TAB>' \
	    'frobnicate|--zap|keyfile' 'the value'
	typed '../alt/mssh frobnicate al<TAB>' 'frobnicate|alt-1' 'its node'

	shows 'mssh <TAB><TAB>' "$1" 'the commands are shown'
	leave
	shows 'mssh agent --ssh-<TAB><TAB>' "$2" 'the options are shown'
	leave

	echo hang >"$T/mode"
	rm -f "$T"/hang.*
	typed 'mssh alice@pr<TAB>X' 'alice@prX' 'mssh list hangs, the shell not'
	is "$(cat "$T/list")" '1|mssh|list|--names' "$shell: mssh list ran"
	ok "$shell: mssh list is ended" wait_for 60 dead "$T"/hang.*

	echo hostile >"$T/mode"
	mux pipe-pane -t "=$shell:" "cat >>'$T/$shell.out'"
	shows 'mssh alice@web-<TAB><TAB>' web-2 \
	    'nodes are shown from a hostile list'
	leave
	for c in x y z; do
		typed "mssh alice@$c<TAB>" "alice@$c" "$c... is not a node"
	done
	typed 'mssh alice@pr<TAB>' alice@prod-db-1 'a node from a hostile list'
	ok "$shell: the output is there" \
	    wait_for 60 grep -qF "$n>" "$T/$shell.out"
	is "$(grep -c evil "$T/$shell.out")" 0 "$shell: nothing else is shown"
	is "$(ls "$T/dir")" "$(printf 'keyfile\nsock')" "$shell: nor executed"

	echo names >"$T/mode"
	press 'export PATH=$T/few'
	mux send-keys -t "=$shell:" Enter
	prompt || bail "no prompt of $shell: $(screen)"
	typed 'mssh alice@pr<TAB>' alice@pr 'no node without timeout(1)'
	typed 'mssh serv<TAB>' server 'but a command'
	mux kill-session -t "=$shell"
}

start tmux tmux -D -f /dev/null -S "$T/tmux"
wait_for 30 test -S "$T/tmux" || bail 'tmux does not start'

shell_start bash bash --noprofile --rcfile "$T/bashrc"
cases keygen --ssh-port
shell_start bash-bare bash --noprofile --rcfile "$T/bashrc-bare"
cases keygen --ssh-port
shell_start zsh zsh
cases 'print a new key' "sshd's address"
shell_start fish fish
cases 'print a new key' "sshd's address"

finish
