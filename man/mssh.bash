# mssh.bash - completion for mssh in bash 4 or newer, with or without the
# package bash-completion
#
# The commands and options are those that --help prints.  The node names are
# those that "mssh list --names" prints within a second; it gets the options on
# the command line that say how to reach the server.  Otherwise bash completes
# files.
# shellcheck shell=bash

# _mssh_split LINE: sets words, without quotes.  COMP_WORDS would not do: bash
# also splits at '=', ':' and '@'.  Nothing but a leading ~/ is expanded.
_mssh_split()
{
	local line=$1 n=0
	local bare=$'^([^ \t\n\'"\\\\]+)' escaped='^\\(.?)'
	local single="^'([^']*)'?" double='^"([^"]*)"?'

	words=('')
	while [[ $line ]]; do
		if [[ $line =~ ^[[:space:]]+ ]]; then
			words[++n]=''
		elif [[ $line =~ $bare || $line =~ $single ||
		    $line =~ $double || $line =~ $escaped ]]; then
			words[n]+=${BASH_REMATCH[1]}
		fi
		line=${line:${#BASH_REMATCH[0]}}
	done
	for n in "${!words[@]}"; do
		[[ ${words[n]} != \~/* ]] || words[n]=$HOME${words[n]:1}
	done
}

# _mssh_nodes PROGRAM OPTION...: prints the node names.  They come from the
# network, so only valid names pass.  There are none if an option holds a
# variable, which is not expanded here, or a password, which ps(1) would show.
_mssh_nodes()
{
	[[ $* != *[\$\`]* && $* != *://*@* ]] &&
	    type -P timeout >/dev/null &&
	    timeout 1 "$1" list --names "${@:2}" 2>/dev/null </dev/null |
	    LC_ALL=C sed -n '/^[A-Za-z0-9][A-Za-z0-9._-]*$/p'
}

# _mssh COMMAND WORD: bash replaces WORD, which may be only the end of the word
# before the cursor.
_mssh()
{
	local IFS=$' \t\n' cmd=ssh value='' found='' user='' plain=0 i=1
	local words where=() help word cur n
	local takes='BbcDEeFIiJLlmOoPpQRSWw'	# ssh's options with a value
	local to='^--(server|proxy|connect|key|cafile|cert|certkey)='

	_mssh_split "${COMP_LINE:0:COMP_POINT}"
	n=$((${#words[@]} - 1)) cur=${words[${#words[@]} - 1]}
	if [[ n -eq 1 && $cur != -* && $cur != *@* ]]; then
		cmd=''
	elif [[ n -gt 1 && ${words[1]} =~ ^[a-z][a-z-]*$ ]]; then
		cmd=${words[i++]}
	fi
	help=$("${words[0]}" ${cmd:+"$cmd"} --help 2>/dev/null </dev/null)
	while ((i < n)); do
		word=${words[i++]}
		if [[ $word != -* ]]; then
			((++plain))
		elif [[ $help =~ $'\n'"  ${word%%=*} "([^ ]+) ]]; then
			if [[ $word != *=* ]]; then
				((i < n)) || value=${BASH_REMATCH[1]}
				word="$word=${words[i++]}"
			fi
			[[ ! $word =~ $to ]] || where+=("$word")
		elif [[ $word =~ ^-[^-$takes]*[$takes]$ ]]; then
			((++i))
		fi
	done
	[[ $cur == --*=* && $help =~ $'\n'"  ${cur%%=*} "([^ ]+) ]] &&
	    value=${BASH_REMATCH[1]}

	# a file, or a word of ssh's command
	[[ $value == FILE || ${value:+${cur#--*=}} == unix:* ||
	    plain -gt 1 ]] && return
	if [[ $value ]]; then
		compopt +o default
	elif [[ $cur == -* ]]; then
		found=$(sed -n 's/^  \(--[^ ]*\).*/\1/p' <<<"$help")
	elif [[ ! $cmd ]]; then
		compopt +o default
		found=$(sed -n 's/^  mssh \[*\([a-z][a-z-]*\).*/\1/p' \
		    <<<"$help")
	elif [[ plain -eq 0 && ${help%%$'\n'*} == *[\ @]node* ]]; then
		compopt +o default
		user=${cur%"${cur##*@}"}
		found=$(_mssh_nodes "${words[0]}" "${where[@]}")
	fi
	for word in $found; do
		word=$user$word
		[[ $word != "$cur"* ]] ||
		    COMPREPLY+=("${word#"${cur%"$2"}"}")
	done
}

complete -o default -F _mssh mssh
