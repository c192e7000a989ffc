#!/bin/sh
# 70-docs.t - the documents say what the program does, and nothing else
#
# Works on the text of the pages as a reader sees it.  Patterns are fixed
# words taken from the sources, so a new option, exit code, error code or
# keyword that nobody wrote down fails here.
# shellcheck source=t/lib.sh
# shellcheck disable=SC2317	# ok calls the functions
. t/lib.sh

ok 'mandoc and ssh are here' t/need mandoc ssh || finish

# page NAME: its text into $T/NAME.txt, without overstriking.
page() {
	mandoc -T ascii -O width=1000 "man/$1" |
	    sed "s/.$(printf '\b')//g" >"$T/$1.txt" && [ -s "$T/$1.txt" ]
}

# options: the long options among the words of standard input.
options() {
	grep -oE '(^|[^[:alnum:]-])--[a-z][a-z-]*' | sed 's/^[^-]*//' | sort -u
}

# only_in A B: prints the lines that stand in A and not in B; true if none.
only_in() {
	grep -vxF -f "$2" "$1"
	[ $? -eq 1 ]
}

# items NAME: the tags of a page's lists, word by word.
items() {
	sed -n 's/^\.It //p' "man/$1" | tr ' ' '\n'
}

# ---- the pages themselves

pages='mssh.1 mssh-list.1 mssh-ping.1 mssh.conf.5 mssh-proto.7 mssh-front.7
    mssh-metrics.7 mssh-resume.7 mssh-fleets.7'
for p in $pages; do
	ok "$p is clean" mandoc -T lint -W warning "man/$p"
	ok "$p can be read" page "$p"
done
pages_known() {
	(cd man && ls ./*.[1-9]) | sed 's,^\./,,' >"$T/man"
	# shellcheck disable=SC2086	# a list
	printf '%s\n' $pages >"$T/pages"
	only_in "$T/man" "$T/pages"
}
ok 'no page is left out here' pages_known

# ---- options: mssh(1) and --help

helps() {
	: >"$T/help"
	for c in '' server agent proxy list ping ssh config keygen; do
		# shellcheck disable=SC2086	# the first is no word
		"$MSSH" $c --help >"$T/help.one" 2>"$T/help.err" || {
			echo "mssh $c --help: exit code $?"
			return 1
		}
		[ -s "$T/help.one" ] || {
			echo "mssh $c --help prints nothing"
			return 1
		}
		cat "$T/help.err"
		[ ! -s "$T/help.err" ] || return 1
		options <"$T/help.one" >"$T/help.$c"
		cat "$T/help.one" >>"$T/help"
	done
	options <"$T/help" >"$T/help.opt"
	options <"$T/mssh.1.txt" >"$T/man.opt"
	[ "$(wc -l <"$T/help.opt")" -ge 10 ]
}
ok 'every command explains itself' helps
ok 'every option of --help stands in mssh(1)' \
    only_in "$T/help.opt" "$T/man.opt"
ok 'every option of mssh(1) stands in --help' \
    only_in "$T/man.opt" "$T/help.opt"

# of_command NAME: the options of mssh-NAME(1)'s own list are those of NAME.
of_command() {
	sed -n '/^\.Sh DESCRIPTION/,/^\.El/p' "man/mssh-$1.1" |
	    sed -n '/^\.It/s/ Fl \(c , Fl \)*-/ --/gp' | options >"$T/own"
	printf -- '--%s\n' cafile cert certkey proxy connect >>"$T/own"
	only_in "$T/own" "$T/help.$1" && only_in "$T/help.$1" "$T/own"
}
ok 'mssh-list(1) has the options of mssh list' of_command list
ok 'mssh-ping(1) has the options of mssh ping' of_command ping

variables() {
	grep -ohE 'getenv\("[A-Z_]+"\)' mssh.c reactor.c |
	    sed 's/[^A-Z_]//g' | sort -u >"$T/env"
	grep -ohE '"(MSSH_[A-Z_]+|[A-Za-z]+_(proxy|PROXY))"' mssh.c |
	    tr -d '"' | sort -u >>"$T/env"
	items mssh.1 >"$T/tags"
	[ -s "$T/env" ] && only_in "$T/env" "$T/tags"
}
ok 'every environment variable stands in mssh(1)' variables

# ---- codes, keywords, limits

# strings NAME FILE: the strings of an array NAME[...] = { "a", "b" };
strings() {
	sed -n "/[* ]$1[][A-Z0-9_]* =/,/;/p" "$2" | grep -oE '"[^"]*"' | tr -d '"'
}

exit_codes() {
	sed -n '/^EXIT STATUS/,/^EXAMPLES/p' "$T/mssh.1.txt" >"$T/exit"
	for n in 0 1 2 3 4 5 6 7 8 9 10 11 12; do
		grep -qE "^ +$n  +[A-Z]" "$T/exit" || {
			echo "exit code $n is not explained"
			return 1
		}
	done
	grep -qw 255 "$T/exit"
}
ok 'every exit code stands in mssh(1)' exit_codes

error_codes() {
	strings code_names proto.h | grep -v '^ok$' | sort >"$T/codes"
	items mssh-proto.7 >"$T/tags"
	[ "$(wc -l <"$T/codes")" -ge 8 ] && only_in "$T/codes" "$T/tags" &&
	    sed -n '/^code  /,/^ping  /p' man/mssh-proto.7 >"$T/abnf" &&
	    while read -r c; do
		grep -qF "%s\"$c\"" "$T/abnf" || { echo "$c"; return 1; }
	done <"$T/codes"
}
ok 'every error code stands in mssh-proto(7) and its grammar' error_codes

keywords() {
	strings 'names' proto.h | sed '/^$/d' | sort >"$T/keys"
	items mssh.conf.5 >"$T/tags"
	[ "$(wc -l <"$T/keys")" -ge 3 ] && only_in "$T/keys" "$T/tags"
}
ok 'every keyword stands in mssh.conf(5)' keywords

# enum_is NAME: the value of a constant of proto.h.
enum_is() {
	sed -n "s/^	$1 = \\([0-9]*\\).*/\\1/p" proto.h
}

limits() {
	for c in LINE_LEN NODE_LEN NODES_LEN COPY_LEN HEAD_LEN PORT WAIT_MAX; do
		v=$(enum_is "$c")
		echo "$c = $v"
		[ -n "$v" ] || return 1
		grep -qw "$v" "$T/mssh-proto.7.txt" || return 1
	done
}
ok 'the limits of proto.h stand in mssh-proto(7)' limits

# seconds NAME: a phase's deadline, or a constant of mssh.c, in seconds.
seconds() {
	ms=$(sed -n "s/^	\\[$1\\] = {.*, \\([0-9A-Z_]*\\) },\$/\\1/p
	    s/^	$1 = \\([0-9]*\\).*/\\1/p" mssh.c)
	case $ms in
	'' | *[!0-9]*) echo "no $1 in mssh.c" ;;
	*) echo $((ms / 1000)) ;;
	esac
}

askers() {
	v=$(sed -n 's/^	MAX_ASKERS = \([0-9]*\).*/\1/p' mssh.c)
	[ -n "$v" ] && grep -qE "^ +peers that list or ping +$v\$" \
	    "$T/mssh-proto.7.txt" && grep -q "^ *8 *.*$v peers" \
	    "$T/mssh-list.1.txt"
}
ok 'how many may ask stands in the pages' askers

# Each row of LIMITS against its source, so that neither moves alone.
deadlines() {
	sed -n '/^LIMITS/,/^VERSION 1/p' "$T/mssh-proto.7.txt" |
	    sed 's/  */ /g' >"$T/limits"
	status=0
	while IFS=: read -r name row; do
		want="$row $(seconds "$name") s"
		grep -qE "^ $want(,| |\$)" "$T/limits" || {
			echo "$name: mssh-proto(7) lacks: $want"
			status=1
		}
	done <<-'END'
	FRONT:header of the PROXY protocol
	HEAD:head of a request
	ANSWER_MAX:peer waits for 101
	ANSWER_MAX:peer waits for a proxy
	HELLO:hello
	PROOF:proof of a key
	CONNECT_MAX:agent dials its server
	REGISTERING:agent waits for OK
	PING_EVERY:PING interval
	PINGED:agent waits for PONG
	PARKED:server receives nothing from an agent
	CALL_ACK:GO acknowledged
	CALL_MAX:GO answered
	PROBED:holder answers PING
	HOLD_MS:node held with nothing parked
	CLIENT_MAX:client waits for an answer
	LOST_MS:client waits for a busy node
	LOST_MS:client waits for a node lost silently
	LEFT_MS:client waits for a node that closed
	START_MS:client waits after the server's start
	AWAIT_CLIENT:first byte of a client
	LISTING:peer takes more of a list
	PINGING:peer sends the next PING
	ANSWER_MAX:peer waits for the next line
	LINGER:discard after a refusal
	END
	return "$status"
}
ok 'the deadlines of mssh.c stand in mssh-proto(7)' deadlines

# A metric's name as a scrape shows it, its type, and its label, by mssh.c's
# table and by the page's tags.
metrics() {
	perl -0ne '/families\[\] = \{(.*?)^\};/ms or die;
	    my ($t, %type) = ($1, c => "counter", g => "gauge",
		h => "histogram");
	    while ($t =~ /\{\s\x27(.)\x27,[^"]*"([a-z_]+)",
		\s*(?:\.help\s=|"[^"]*",\s*"([a-z]+)")/gx) {
		print $2, $1 eq "c" ? "_total" : "", " $type{$1}",
		    $3 && $1 ne "h" ? " $3" : "", "\n" }' mssh.c |
	    sort >"$T/families"
	sed -n 's/ ; No label Cm / /; s/^\.It Li \([a-z_]*\) Pq /\1 /p' \
	    man/mssh-metrics.7 | sort >"$T/described"
	[ "$(wc -l <"$T/families")" -ge 10 ] &&
	    diff "$T/families" "$T/described"
}
ok 'mssh-metrics(7) has every metric, its type and its label' metrics

# ---- README

fenced() {		# language: those blocks, an empty line between two
	awk -v lang="\`\`\`$1" '$0 == "```" { on = 0 }
	    on { print }
	    $0 == lang { on = 1; print "" }' README.md
}

# stanza HOST: what ssh makes of HOST with the stanzas of README.
stanza() {
	fenced sshconfig >"$T/ssh_config"
	ssh -G -F "$T/ssh_config" "$1" >"$T/ssh.out" 2>&1 ||
	    cat "$T/ssh.out"
	sed -n 's/^proxycommand //p; s/^proxyusefdpass /fdpass /p' \
	    "$T/ssh.out" | sort | sed 's/%n/'"$1/"
}
is "$(stanza web-1.mssh)" 'fdpass yes
mssh proxy --fdpass -- web-1.mssh' 'the stanza for all nodes'
is "$(stanza prod-db-1)" 'fdpass yes
mssh proxy --fdpass --server rdv.example.com -- prod-db-1' \
    'the stanza for one host'
is "$(stanza www.example.com)" 'fdpass no' 'other hosts are left alone'

same_stanzas() {
	fenced sshconfig | sed '/^$/d' >"$T/readme.cfg"
	sed -n '/^Host /,/^\.Ed/p' man/mssh.1 | grep -v '^\.Ed' >"$T/man.cfg"
	sort "$T/readme.cfg" >"$T/a" && sort "$T/man.cfg" >"$T/b" &&
	    diff "$T/a" "$T/b"
}
ok 'mssh(1) has the same stanzas' same_stanzas

links() {
	grep -oE '\]\([^)]*\)' README.md | sed 's/^](//; s/)$//' |
	    grep -v '^https:' | sort -u >"$T/links"
	grep -owE '(man|systemd|t|\.ci)/[A-Za-z0-9@._-]*[A-Za-z0-9]' README.md |
	    sort -u >>"$T/links"
	grep -owE 'mssh-[a-z]+@?\.(service|socket)' README.md |
	    sed 's,^,systemd/,' >>"$T/links"
	[ -s "$T/links" ] || return 1
	status=0
	while read -r f; do
		[ -e "$f" ] || { echo "$f is not there"; status=1; }
	done <"$T/links"
	return "$status"
}
ok 'what README names is there' links

bench_links() {
	grep -oE '\]\([^)]*\)' t/bench/README.md |
	    sed 's/^](//; s/)$//' >"$T/links"
	[ -s "$T/links" ] || return 1
	while read -r f; do
		[ -e "t/bench/$f" ] || { echo "$f is not there"; return 1; }
	done <"$T/links"
}
ok 'what t/bench/README.md names is there' bench_links

# at_most N FILE: true if FILE has no more words.
at_most() {
	n=$(wc -w <"$2") && echo "$2: $((n)) words" && [ "$n" -le "$1" ]
}
ok 'README is short' at_most 1500 README.md
ok 'mssh(1) is not long' at_most 6500 man/mssh.1

plain() {
	! grep -rniE 'whoever|is no |stranger|makes room|stands in|who came by' \
	    README.md t/bench/README.md man systemd
}
ok 'the documents are plain English' plain

targets() {
	fenced sh | grep -oE '(^|&& )(sudo )?make [a-z]+' |
	    sed 's/.*make //' | sort -u >"$T/targets"
	[ -s "$T/targets" ] || return 1
	while read -r g; do
		grep -q "^${g}[ :]" Makefile || { echo "make $g"; return 1; }
	done <"$T/targets"
}
ok 'the targets README names are in the Makefile' targets

ok 'LICENSE is MIT' grep -qx 'MIT License' LICENSE

finish
