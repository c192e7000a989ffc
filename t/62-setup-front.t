#!/bin/sh
# 62-setup-front.t - systemd/setup server --front: what it writes, whether the
# fronts take it as it is, and whether a hello gets through them to the server.
# shellcheck disable=SC2154,SC2016	# rc and others: lib.sh; a$b
. t/lib.sh
. t/setup.sh

t/need systemd-analyze perl openssl nginx caddy ||
    bail 'part of this test is missing'
command -v systemctl >/dev/null || bail 'systemctl is missing: it is in systemd'

site=rdv.example.com
snippets=$D/etc/mssh

# has_line TEXT FILE: such a line, whatever stands before it
has_line()
{
	sed 's/^[ 	]*//' "$2" | grep -Fx -e "$1"
}

# only FILE...: in etc/mssh
only()
{
	[ "$(cd "$snippets" && echo *)" = "$*" ]
}

# ---- what is refused

ok 'an unknown front is refused' refuses 'caddy or nginx' \
    server --front apache $site
ok 'a front without a name is refused' refuses 'the name' \
    server --front caddy
ok 'an option is no name' refuses 'not a host name' \
    server --front caddy --port 80
for n in a..b .a a. -a.b a-.b a.-b a_b 'a b' 'a;b' 'a{b' "a\"b" "a'b" \
    'a/b' 'a\b' 'a$b' 'a#b' '*.a' a:80 '[::1]' 'a
b'; do
	ok "\"$n\" is no name" refuses 'not a host name' \
	    server --front nginx "$n"
done
ok 'an address is no name' refuses 'certificates are for names' \
    server --front nginx 192.0.2.1
long=$(printf '%063d' 0)
ok '64 characters between dots are refused' refuses 'more than 63' \
    server --front nginx "x$long.example.com"
ok '254 characters are refused' refuses 'at most 253' \
    server --front nginx "$long.$long.$long.$long.com"
ok '--front comes first' refuses 'before all other' \
    server --port 80 --front caddy $site
ok '--front is for the server' refuses 'is for the server' \
    agent --front caddy $site
ok 'the port must be known' refuses 'known beforehand' \
    server --front caddy $site --port 0
ok 'the address must be known' refuses 'needs an address' \
    server --front caddy $site --host localhost
ok '--proxy-protocol does not go with it' refuses 'address in HTTP' \
    server --front nginx $site --proxy-protocol
ok 'nothing was written so far' [ ! -e "$D" ]

# ---- what is written

ok 'setup server' set_up server
ok 'without --front nothing of it is written' [ ! -e "$snippets" ]

ok 'setup server --front caddy' set_up server --front caddy $site --drain 9
ok 'the server listens on loopback only, and trusts it' \
    arrives mssh-server SERVER_OPTS --host 127.0.0.1 --trusted 127.0.0.1 \
    --drain 9
ok 'the port is the usual one' has_line 'reverse_proxy 127.0.0.1:8443 {' \
    "$snippets/front.caddy"
ok 'there is no other file' only front.caddy
ok 'all can read it' mode_is 644 "$snippets/front.caddy"
ok 'the rest is told' told ': import /etc/mssh/front.caddy'
ok 'the reload too' told 'systemctl reload caddy'
ok 'and the URL' told "use --server https://$site/mssh"
ok 'a folder that all can enter is no matter' [ -z "$(told chmod)" ]
ok 'a second run changes nothing' again server --front caddy $site --drain 9
chmod 700 "$snippets"
ok 'a folder that only root can enter' again server --front caddy $site \
    --drain 9
ok 'is told' told 'chmod o+x /etc/mssh'
chmod 755 "$snippets"

ok 'setup server --front nginx' set_up server --front nginx RDV.example.com \
    --port 9443
ok 'the server listens on loopback only, and trusts it' \
    arrives mssh-server SERVER_OPTS --host 127.0.0.1 --trusted 127.0.0.1 \
    --port 9443
ok 'the port is that of --port' has_line 'proxy_pass http://127.0.0.1:9443;' \
    "$snippets/front.nginx"
ok 'capitals are not in names of certificates' has_line \
    "ssl_certificate /etc/letsencrypt/live/$site/fullchain.pem;" \
    "$snippets/front.nginx"
ok 'the rest is told' told 'ln -s /etc/mssh/front.nginx'
ok 'the reload too' told 'systemctl reload nginx'
ok 'and the URL' told "use --server https://$site/mssh"
ok 'the other front keeps its file' only front.caddy front.nginx
ok 'a second run changes nothing' again server --front nginx \
    RDV.example.com --port 9443

ok '--host' set_up server --front nginx $site --host :: --port 9443
ok 'is taken as it is' arrives mssh-server SERVER_OPTS --trusted ::1 \
    --host :: --port 9443
ok 'nginx goes there' has_line 'proxy_pass http://[::1]:9443;' \
    "$snippets/front.nginx"
ok '--trusted' set_up server --front caddy $site --trusted=10.0.0.0/8
ok 'is taken as it is' arrives mssh-server SERVER_OPTS --host 127.0.0.1 \
    --trusted=10.0.0.0/8
ok '--listen' set_up server --front nginx $site --listen unix:/run/mssh/sock
ok 'is taken as it is' arrives mssh-server SERVER_OPTS --trusted unix \
    --listen unix:/run/mssh/sock
ok 'nginx goes there' has_line 'proxy_pass http://unix:/run/mssh/sock;' \
    "$snippets/front.nginx"
ok '--listen, caddy' set_up server --front caddy $site \
    --listen=unix:/run/mssh/sock
ok 'caddy goes there' has_line 'reverse_proxy unix//run/mssh/sock {' \
    "$snippets/front.caddy"
ok 'that server unit is valid' root_verified mssh-server.service

# In $D, so that nothing of it is left after.
activated()
{
	cp systemd/mssh-server.socket "$D/usr/local/lib/systemd/system" &&
	    systemctl --quiet --root="$D" enable mssh-server.socket &&
	    set_up server --front caddy "$site" --port 9443 &&
	    grep -qx ListenStream=127.0.0.1:9443 "$socket_conf" &&
	    systemctl --quiet --root="$D" disable mssh-server.socket
}
socket_conf=$D/etc/systemd/system/mssh-server.socket.d/50-setup.conf
ok 'where systemd listens, it does so there' activated

# ---- what the fronts say

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
    -subj "/CN=$site" -addext "subjectAltName=DNS:$site" \
    -keyout "$T/key.pem" -out "$T/cert.pem" 2>"$T/req" ||
    bail "openssl makes no certificate: $(cat "$T/req")"

# Beside a server block of the kind that certbot leaves.  The ports stay but
# where only root could have them.
nginx_files()		# [port]
{
	set -- "${1:-443}"
	[ "$1" != 443 ] || [ "$(id -u)" -eq 0 ] || set -- "$(free_port)"
	sed -e "s,/etc/letsencrypt/live/$site/fullchain.pem,$T/cert.pem," \
	    -e "s,/etc/letsencrypt/live/$site/privkey.pem,$T/key.pem," \
	    -e "s,443 ssl;,$1 ssl;," "$snippets/front.nginx" >"$T/front.nginx"
	cat >"$T/all.conf" <<-END
	daemon off;
	master_process off;
	pid $T/front.pid;
	error_log stderr;
	events { }
	http {
		access_log off;
		client_body_temp_path $T/body;
		proxy_temp_path $T/proxy;
		fastcgi_temp_path $T/fastcgi;
		uwsgi_temp_path $T/uwsgi;
		scgi_temp_path $T/scgi;
		server {
			listen $1 ssl backlog=100;
			listen [::]:$1 ssl ipv6only=on;
			server_name www.example.com;
			ssl_certificate $T/cert.pem;
			ssl_certificate_key $T/key.pem;
		}
		include $T/front.nginx;
	}
	END
	# where there is no IPv6, nginx wants no such line
	sed '/listen \[::\]/ d' "$T/front.nginx" >"$T/front.four"
	sed "/listen \[::\]/ d; s,front.nginx,front.four," "$T/all.conf" \
	    >"$T/four.conf"
	conf=$T/all.conf
	[ -e /proc/net/if_inet6 ] || conf=$T/four.conf
}

# Caddy has a CA of its own for certificates, in $T.
caddy_files()		# [port]
{
	HOME=$T XDG_DATA_HOME=$T XDG_CONFIG_HOME=$T
	export HOME XDG_DATA_HOME XDG_CONFIG_HOME
	cat >"$T/Caddyfile" <<-END
	{
		admin off
		local_certs
		skip_install_trust
		auto_https disable_redirects
		https_port ${1:-443}
	}
	import $snippets/front.caddy
	END
}

valid_nginx()
{
	nginx_files && nginx -t -e stderr -p "$T" -c "$conf"
}

valid_caddy()
{
	caddy_files && caddy validate --adapter caddyfile \
	    --config "$T/Caddyfile"
}

for f in caddy nginx; do
	ok "$f takes it with --listen" valid_$f
	ok "setup server --front $f" set_up server --front $f $site
	ok "$f takes it" valid_$f
done

# ---- what gets through

# Says hello through the front, as somebody who lies about his address.
cat >"$T/via.pl" <<'END'
use IPC::Open2;
my ($port, $name, $path) = @ARGV;
alarm 30;
open2(my $in, my $out, "openssl", "s_client", "-quiet", "-connect",
    "127.0.0.1:$port", "-servername", $name) or die;
$out->autoflush(1);
print $out "GET $path HTTP/1.1\r\nHost: $name\r\nConnection: Upgrade\r\n",
    "Upgrade: mssh\r\nX-Forwarded-For: 6.6.6.6\r\n",
    "Forwarded: for=6.6.6.6\r\n\r\n";
while (<$in>) {
	print;
	last if /^\r?\n/;
}
print $out "MSSH/2 client nobody\n";
print scalar <$in>;
END

via()			# PORT PATH
{
	perl "$T/via.pl" "$1" "$site" "$2" 2>/dev/null >"$T/via"
	cat "$T/via"
}

reaches()
{
	via "$1" /mssh && grep -q '^HTTP/1.1 101 ' "$T/via" &&
	    grep -q '^ERROR offline ' "$T/via"
}

elsewhere()
{
	via "$1" /mssh/x && grep -q '^HTTP/1.1 404 ' "$T/via"
}

live()			# FRONT COMMAND...
{
	front=$1
	shift
	start "$front" "$@"
	ok "$front lets a hello through" wait_for 90 reaches "$at"
	ok "$front says 404 to all else" elsewhere "$at"
	ok "$front does not pass on what the client says of itself" \
	    [ "$(log_count server 6.6.6.6)" -eq 0 ]
	stop "$front" || note "$front had to be killed"
}

server --host 127.0.0.1 --trusted 127.0.0.1 --verbose
for f in caddy nginx; do
	set_up server --front "$f" $site --port "$PORT" >/dev/null
done
# A front takes a while to listen.
at=$(ports 1)
nginx_files "$at"
live nginx nginx -e stderr -p "$T" -c "$conf"
at=$(ports 1)
caddy_files "$at"
live caddy caddy run --adapter caddyfile --config "$T/Caddyfile"

finish
