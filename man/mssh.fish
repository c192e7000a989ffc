# mssh.fish - completion for mssh in fish 3.1 or newer
#
# The commands, options and descriptions are those that --help prints.  The node
# names are those that "mssh list --names" prints within a second; it gets the
# options on the command line that say how to reach the server.  Otherwise fish
# completes files.

# __mssh_nodes PROGRAM OPTION...: prints the node names.  They come from the
# network, so only valid names pass.  There are none if an option holds a
# variable, which is not expanded here, or a password, which ps(1) would show.
function __mssh_nodes
	string match -qr '[$(]|://.*@' -- $argv; and return
	command -sq timeout; or return
	timeout 1 $argv[1] list --names $argv[2..-1] 2>/dev/null </dev/null |
	    LC_ALL=C sed -n '/^[A-Za-z0-9][A-Za-z0-9._-]*$/p'
end

# __mssh_commands LINE...: prints the commands in these lines of --help, each
# with a tab and its description, which is the next line.
function __mssh_commands
	set -l name
	for line in $argv
		test -z "$name"
		or printf '%s\t%s\n' $name (string trim -- $line)
		set name (string match -r '^  mssh \[?([a-z]\S*)' -- $line)[2]
	end
end

# __mssh_look: sets __mssh_found, the possible words; false if they are files.
function __mssh_look
	set -l takes BbcDEeFIiJLlmOoPpQRSWw	# ssh's options with a value
	set -l to '^--(server|proxy|connect|key|cafile|cert|certkey)='
	set -l words (commandline -opc | string replace -r '^~/' $HOME/)
	set -l cur (commandline -ct | string unescape)
	set -l cmd ssh
	set -l i 2
	set -l plain 0
	set -l at
	set -l m
	set -l value
	set -l server
	set -l options
	set -l names
	set -l values

	set -g __mssh_found
	command -sq $words[1]; or return 0
	if test (count $words) -eq 1; and not string match -qr '^-|@' -- "$cur"
		set cmd
	else if string match -qr '^[a-z][a-z-]*$' -- "$words[2]"
		set cmd $words[2]
		set i 3
	end
	set -l help ($words[1] $cmd --help 2>/dev/null </dev/null)
	for line in $help
		set m (string match -r '^  (--\S+)( \S+|) +(.*)' -- $line)
		or continue
		set -a options $m[2]\t$m[4]
		test -n "$m[3]"; or continue
		set -a names $m[2]
		set -a values $m[3]
	end
	while test $i -le (count $words)
		set -l word $words[$i]
		set -l name (string replace -r '=.*' '' -- $word)
		set i (math $i + 1)
		if not string match -q -- '-*' $word
			set plain (math $plain + 1)
		else if set at (contains -i -- $name $names)
			if test $word = $name
				test $i -le (count $words)
				or set value $values[$at]
				set word "$word=$words[$i]"
				set i (math $i + 1)
			end
			string match -qr $to -- $word; and set -a server $word
		else if string match -qr "^-[^-$takes]*[$takes]\$" -- $word
			set i (math $i + 1)
		end
	end
	set m (string match -r '^(--[^=]+)=(.*)' -- "$cur")
	and set at (contains -i -- $m[2] $names)
	and set value $values[$at]
	and set cur $m[3]

	set -l user (string replace -r '[^@]*$' '' -- "$cur")
	if test "$value" = ' FILE' -o $plain -gt 1
		or string match -q ' *,unix:*' -- "$value,$cur"
		return 1
	else if test -n "$value"
		return 0
	else if string match -q -- '-*' "$cur"
		set __mssh_found $options
	else if test -z "$cmd"
		set __mssh_found (__mssh_commands $help)
	else if test $plain -eq 0; and string match -qr '[ @]node' -- "$help[1]"
		set __mssh_found $user(__mssh_nodes $words[1] $server)
	else
		return 1
	end
	return 0
end

complete -c mssh -n __mssh_look -f -a '(printf "%s\n" $__mssh_found)'
