# setup.sh - systemd/setup on a root of its own, $D.  Sourced: . t/setup.sh
# shellcheck shell=sh
# shellcheck disable=SC2034	# rc and others are for the tests

setup=$PWD/systemd/setup
D=$T/root

# verified UNIT...: systemd has nothing to say about it
verified()
{
	systemd-analyze verify --man=no --recursive-errors=no "$@" \
	    >"$T/verify" 2>&1 && [ ! -s "$T/verify" ] && return 0
	cat "$T/verify"
	return 1
}

set_up()		# ARGS...; its output is in $T/said
{
	DESTDIR=$D "$setup" "$@" >"$T/said" 2>&1
	rc=$?
	cat "$T/said"
	return "$rc"
}

# refused ARGS...: exit 2, with a sentence, and nothing written
refused()
{
	state >"$T/before"
	set_up "$@"
	[ "$rc" -eq 2 ] && grep -q '^mssh setup: ..' "$T/said" &&
	    state | cmp - "$T/before"
}

told()			# TEXT
{
	grep -F -e "$1" "$T/said"
}

# refuses TEXT ARGS...: for that reason
refuses()
{
	why=$1
	shift
	refused "$@" && told "$why"
}

# usage_rc RC ARGS...
usage_rc()
{
	want=$1
	shift
	set_up "$@"
	[ "$rc" -eq "$want" ] && grep -q '^usage: setup ' "$T/said"
}

# Names, contents, modes and times of all files.
state()
{
	[ -d "$D" ] || return 0
	find "$D" -printf '%p %m %T@ %i %l\n' | sort
	find "$D" -type f -exec cksum {} + | sort
}

# again ARGS...: does nothing, and says so
again()
{
	state >"$T/before"
	set_up "$@" && grep -q 'nothing to change' "$T/said" &&
	    state | cmp - "$T/before"
}

mode_is()		# MODE FILE
{
	[ "$(stat -c %a "$2")" = "$1" ]
}

enabled()
{
	[ -L "$D/etc/systemd/system/multi-user.target.wants/$1" ] &&
	    systemctl --root="$D" is-enabled "$1"
}

# What mssh would get from VAR in FILE: EnvironmentFile= and $VAR as
# systemd.exec(5) and systemd.service(5) have them, one argument a line.
cat >"$T/read.pl" <<'END'
my ($file, $var) = @ARGV;
open my $f, "<", $file or die "$file: $!";
my ($v) = map { /^\Q$var\E="(.*)"$/ ? $1 : () } <$f>;
die "no $var" if !defined $v;
die "not quoted" if $v =~ /(?:^|[^\\])(?:\\\\)*["`\$]/;
$v =~ s/\\(["\\`\$])/$1/g;
my $q = qr/'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"/;
while ($v =~ /\G\s*((?:$q|[^\s'"\\]|\\.)+)/gc) {
	my ($w, $out) = ($1, "");
	while ($w =~ /\G(?:$q|(\\?.))/gc) {
		my ($s) = grep { defined } $1, $2, $3;
		$s =~ s/\\(.)/$1/g;
		$out .= $s;
	}
	print "$out\n";
}
die "the rest is no word" if substr($v, pos $v || 0) =~ /\S/;
END

arrives()		# FILE VAR ARGS...
{
	file=$1 var=$2
	shift 2
	printf '%s\n' "$@" >"$T/want"
	perl "$T/read.pl" "$D/etc/default/$file" "$var" >"$T/got" &&
	    diff "$T/want" "$T/got"
}

# root_verified UNIT: as systemd would find it below $D
root_verified()
{
	mkdir -p "$D/usr/local/bin" "$D/bin"
	cp "$MSSH" "$D/usr/local/bin/mssh"
	cp /bin/kill /bin/sh "$D/bin"
	verified --root="$D" "$1"
}
