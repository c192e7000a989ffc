# shellcheck shell=sh disable=SC2034,SC2015
# net.sh - a small internet in network namespaces; sourced after lib.sh
#
#    cli --.
#          inet -- nat -- node        inet only forwards; nat masquerades IPv4
#    srv --'                          and keeps strangers out on IPv6
#
# host   IPv4            IPv6
# srv    198.51.100.2    2001:db8:1::2
# cli    203.0.113.2     2001:db8:2::2
# nat    192.0.2.2       2001:db8:3::2     (the outside)
# node   192.168.77.2    2001:db8:77::2
#
# Nothing leaves the namespaces: none of them has a way out of this machine.

net=mssh$$
srv4=198.51.100.2
srv6=2001:db8:1::2

# at HOST: start, server, agent, sshd_start, msh and psh run there from now on;
# at here: on this machine
at()
{
	IN="ip netns exec $net-$1"
	[ "$1" != here ] || IN=
}

# net_up: makes all of it, or stops the test with a sentence
net_up()
{
	trap net_end EXIT
	for c in ip nft conntrack; do
		command -v $c >/dev/null ||
			net_die "no $c: install iproute2, nftables, conntrack"
	done
	[ "$(id -u)" = 0 ] || net_die 'network namespaces want root'
	for h in inet srv cli nat; do
		ip netns add $net-$h ||
			net_die 'cannot make a network namespace (CAP_SYS_ADMIN)'
		net_ns $h
	done
	net_link srv eth 198.51.100.2/24 2001:db8:1::2/64 \
	    inet srv 198.51.100.1/24 2001:db8:1::1/64
	net_link cli eth 203.0.113.2/24 2001:db8:2::2/64 \
	    inet cli 203.0.113.1/24 2001:db8:2::1/64
	net_link nat wan 192.0.2.2/24 2001:db8:3::2/64 \
	    inet nat 192.0.2.1/24 2001:db8:3::1/64
	net_route srv 198.51.100.1 2001:db8:1::1
	net_route cli 203.0.113.1 2001:db8:2::1
	net_route nat 192.0.2.1 2001:db8:3::1
	ip -n $net-inet -6 route add 2001:db8:77::/64 via 2001:db8:3::2 ||
		net_die 'cannot add a route'
	net_node 2
	net_do inet nft -f - <<-EOF || net_die 'cannot load nftables rules'
	$(net_cuts)
	EOF
	# A packet in mid-stream makes no new mapping, as in a home router.
	net_do nat nft -f - <<-EOF || net_die 'cannot load NAT rules'
	$(net_cuts)
	table ip nat {
		chain post {
			type nat hook postrouting priority srcnat
			oifname "wan" masquerade
		}
	}
	table inet wall {
		chain lost { drop; }
		chain in {
			type filter hook input priority filter
			ct state invalid goto lost
		}
		chain pass {
			type filter hook forward priority filter
			ct state invalid goto lost
			iifname "wan" ct state new drop
		}
	}
	EOF
	net_do nat sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0 ||
		net_die 'cannot set nf_conntrack_tcp_loose'
}

# net_node LAST: (makes) the host behind the router, 192.168.77.LAST
net_node()
{
	ip netns add $net-node || net_die 'cannot make a network namespace'
	net_ns node
	net_link node eth "192.168.77.$1/24" "2001:db8:77::$1/64" \
	    nat lan 192.168.77.1/24 2001:db8:77::1/64
	net_route node 192.168.77.1 2001:db8:77::1
}

# net_gone: power loss.  Nothing says goodbye: the cable goes before the
# processes, and their sockets go with the namespace.
net_gone()
{
	net_cut node
	ip -n $net-nat link del lan
	net_kill node
	ip netns del $net-node
	net_mend node
}

# net_do HOST COMMAND...: runs it there, whatever at() says
net_do()
{
	_h=$net-$1
	shift
	ip netns exec "$_h" "$@"
}

# net_cut inet|srv|cli|node: packets vanish, no interface notices
# net_mend HOST: and are back
net_cut()
{
	net_off add "$1"
}

net_mend()
{
	net_off delete "$1"
}

# net_unplug node, net_plug node: the carrier goes and returns
net_unplug()
{
	net_port down "$1"
}

net_plug()
{
	net_port up "$1"
}

# net_forget drop|reset: the router loses every mapping; what comes after is
# dropped, or answered with RST
net_forget()
{
	case $1 in
	drop) _r=drop ;;
	reset) _r='meta l4proto tcp reject with tcp reset' ;;
	esac
	net_do nat nft -f - <<-EOF
	flush chain inet wall lost
	add rule inet wall lost $_r
	EOF
	net_do nat conntrack -F 2>/dev/null
}

# net_six open|drop|reset: IPv6 works; its packets vanish; nobody listens there
net_six()
{
	case $1 in
	open) _r=accept ;;
	drop) _r=drop ;;
	reset) _r='reject with tcp reset' ;;
	esac
	net_do inet nft -f - <<-EOF
	flush chain inet cut six
	add rule inet cut six meta nfproto ipv6 meta l4proto tcp $_r
	EOF
}

# net_hosts HOST LINE...: /etc/hosts there; net_dns HOST ADDR: its resolver.
# Programs see it that start later, and later changes as well.
net_hosts()
{
	_f=/etc/netns/$net-$1/hosts
	shift
	printf '%s\n' '127.0.0.1 localhost' '::1 localhost' "$@" >"$_f"
}

net_dns()
{
	printf 'options timeout:30 attempts:5\nnameserver %s\n' "$2" \
	    >"/etc/netns/$net-$1/resolv.conf"
}

# net_down: ends whatever still runs there, and takes all of it away
net_down()
{
	for h in srv cli node nat inet; do
		[ -e "/run/netns/$net-$h" ] || continue
		net_kill $h
		ip netns del $net-$h
	done
	for h in srv cli node nat inet; do
		rm -rf "/etc/netns/$net-$h"
	done
	rmdir /etc/netns 2>/dev/null || :
}

# now: ms of a clock that nobody sets; took START: seconds since then, with one
# digit behind the point
now()
{
	read -r _up _ </proc/uptime
	echo "${_up%.*}${_up#*.}0"
}

took()
{
	_d=$((($(now) - $1 + 50) / 100))
	echo $((_d / 10)).$((_d % 10))
}

# the rest is for the functions above

net_die()
{
	bail "$1"
}

# Politely at first, as quit does; then the namespaces; then quit itself.
net_end()
{
	status=$?
	trap '' HUP INT TERM
	end_all
	net_down
	(exit $status)
	quit
}

net_ns()
{
	mkdir -p "/etc/netns/$net-$1" || mkdir -p "/etc/netns/$net-$1"
	net_hosts "$1"
	: >"/etc/netns/$net-$1/resolv.conf"
	ip -n "$net-$1" link set lo up
	# Addresses are usable at once, and outlive their interface's sleep.
	net_do "$1" sysctl -qw net.ipv6.conf.all.accept_dad=0 \
	    net.ipv6.conf.default.accept_dad=0 \
	    net.ipv6.conf.all.keep_addr_on_down=1 \
	    net.ipv6.conf.default.keep_addr_on_down=1 \
	    net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 ||
		net_die 'cannot set sysctls in a network namespace'
}

# net_link NS IF V4 V6 NS IF V4 V6
net_link()
{
	ip -n "$net-$1" link add "$2" type veth peer name "$6" \
	    netns "$net-$5" || net_die 'cannot make a veth pair (CAP_NET_ADMIN)'
	for _i in 1 2; do
		ip -n "$net-$1" addr add "$3" dev "$2" &&
		ip -n "$net-$1" addr add "$4" dev "$2" nodad &&
		ip -n "$net-$1" link set "$2" up || net_die 'cannot set addresses'
		shift 4
	done
}

net_route()
{
	ip -n "$net-$1" route add default via "$2" &&
	ip -n "$net-$1" -6 route add default via "$3" ||
		net_die 'cannot add a route'
}

# What enters or leaves by an interface in the set disappears.
net_cuts()
{
	cat <<-EOF
	table inet cut {
		set off { type ifname; }
		chain six { }
		chain pre {
			type filter hook prerouting priority -310
			iifname @off drop
		}
		chain through {
			type filter hook forward priority -310
			oifname @off drop
			jump six
		}
		chain out {
			type filter hook output priority -310
			oifname @off drop
		}
	}
	EOF
}

net_off()
{
	case $2 in
	node) net_do nat nft "$1" element inet cut off '{ "lan" }' ;;
	*) net_do inet nft "$1" element inet cut off "{ \"$2\" }" ;;
	esac
}

net_port()
{
	case $2 in
	node) ip -n $net-nat link set lan "$1" ;;
	*) ip -n $net-inet link set "$2" "$1" ;;
	esac
}

net_kill()
{
	for _p in $(ip netns pids "$net-$1"); do
		kill -9 "$_p" 2>/dev/null
	done
	wait_for 30 net_empty "$1"
}

net_empty()
{
	[ -z "$(ip netns pids "$net-$1")" ]
}

