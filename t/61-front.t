#!/bin/sh
# 61-front.t - behind nginx, haproxy, Caddy and stunnel, with the configurations
# that mssh-front(7) shows, and with certificates that are not good
#
# All fronts run at once.  Each has an agent of its own, parked through it, and
# left alone for longer than the front's idle limit: that is 1 d in the
# configurations, and LIMIT seconds in the copies of them that run here.
# shellcheck disable=SC2016	# quoted programs
t/need sshd ssh openssl nginx haproxy caddy stunnel4 socat ss ps perl || exit 1
# shellcheck source=t/lib.sh
. t/lib.sh

LIMIT=6
# Those of Upgrade, those with a port of their own; in the order of the ports.
http='nginx-http nginx-unix haproxy-http caddy'
tcp='nginx-stream haproxy-tcp haproxy-proxy stunnel'
all="$http $tcp"

# file FRONT: its configuration.
file() {
	case $1 in
	caddy) echo Caddyfile ;;
	nginx-unix) echo nginx-http.conf ;;
	nginx-*) echo "$1.conf" ;;
	haproxy-*) echo "$1.cfg" ;;
	*) echo "$1.conf" ;;
	esac
}

# ---- the page has the files

# block FILE: what mssh-front(7) shows of it.
block() {
	awk -v mark=".\\\\\" t/fronts/$1" '
	/^\.Ed/ { on = 0 }
	on == 2 { print }
	on == 1 { on = 2 }
	$0 == mark { on = 1 }' man/mssh-front.7
}

# A quote, an accent or a backslash would look different on the page.
shown() {
	block "$1" | diff - "t/fronts/$1" && ! grep "['\`\\\\]" "t/fronts/$1"
}
for f in t/fronts/*; do
	ok "mssh-front(7) shows ${f##*/}" shown "${f##*/}"
done

# ---- certificates

# ca NAME
ca() {
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
	    -keyout "$T/$1.key" -out "$T/$1.pem" -subj "/CN=$1" -days 2
}

# cert NAME SUBJECTALTNAME [openssl options]: by the first of the two.
cert() {
	out=$T/$1
	printf 'subjectAltName=%s\n' "$2" >"$T/ext"
	shift 2
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
	    -keyout "$out.key" -out "$out.csr" -subj /CN=test &&
	    openssl x509 -req -in "$out.csr" -CA "$T/ca.pem" \
	    -CAkey "$T/ca.key" -CAcreateserial -extfile "$T/ext" \
	    -out "$out.crt" "$@" && cat "$out.crt" "$out.key" >"$out.pem"
}

certs() {
	ca ca && ca other && cert good DNS:localhost,IP:127.0.0.1 -days 2 &&
	    cert named DNS:rdv.example.com -days 2 &&
	    cert old DNS:localhost,IP:127.0.0.1 -days -1
}
certs >"$T/certs" 2>&1 || bail "no certificates: $(cat "$T/certs")"

# ---- two servers: one is told by X-Forwarded-For, one by PROXY headers

sshd_start
start proxied "$MSSH" server --host 127.0.0.1 --port 0 --trusted 127.0.0.1 \
    --proxy-protocol
wait_log proxied 'listening on ' || bail 'no server'
PROXIED=$(sed -n 's/.*listening on .*://p' "$T/proxied.log")
server --trusted 127.0.0.1 --trusted unix --listen "unix:$T/mssh.sock"
DIRECT=$(sed -n 's/.*listening on 127.*://p' "$T/server.log")

# of FRONT: the name of its server.
of() {
	case $1 in
	*-stream | *-proxy | stunnel) echo proxied ;;
	*) echo server ;;
	esac
}

# ---- the fronts

# shellcheck disable=SC2046	# numbers
set -- $(ports 11)
web=$1 named=$2 old=$3
shift 3
: >"$T/ports"
for f in $all; do
	echo "$f $1" >>"$T/ports"
	shift
done

# port FRONT
port() {
	sed -n "s/^$1 //p" "$T/ports"
}

# url FRONT
url() {
	case " $http " in
	*" $1 "*) echo "https://localhost:$(port "$1")/mssh" ;;
	*) echo "tls://localhost:$(port "$1")" ;;
	esac
}

# conf FRONT [PORT [CERT]]: the configuration as it runs here.  Only names,
# ports, paths and idle limits differ, and all of it stays on loopback.
conf() {
	back=$DIRECT cert=${3:-good}
	[ "$(of "$1")" = server ] || back=$PROXIED
	case $1 in
	caddy) listen=localhost ;;
	*) listen=127.0.0.1 ;;
	esac
	case $1 in
	nginx-unix)
		sed '/proxy_pass http:..127/d; s/#proxy_pass/proxy_pass/' \
		    "t/fronts/$(file "$1")" ;;
	*)
		cat "t/fronts/$(file "$1")" ;;
	esac | sed -e "s/rdv.example.com:443/$listen:443/" \
	    -e "s,/etc/[a-z/]*/rdv.example.com.key,$T/$cert.key," \
	    -e "s,/etc/[a-z/]*/rdv.example.com.pem,$T/$cert.pem," \
	    -e 's/rdv.example.com/localhost/' \
	    -e "s/listen 443/listen $listen:443/" \
	    -e "s/bind :443/bind $listen:443/" \
	    -e "s/accept = 443/accept = $listen:443/" \
	    -e "s/:443/:${2:-$(port "$1")}/" \
	    -e "s/:8443/:$back/; s/:8080/:$web/" \
	    -e "s,/run/mssh.sock,$T/mssh.sock,; s,/var/www/html,$T/www," \
	    -e "s/\\(timeout.*\\) 1d/\\1 ${LIMIT}s/; s/86400/$LIMIT/"
}

mkdir "$T/www"
echo '<p>a web page' >"$T/www/index.html"
stream=/usr/lib/nginx/modules/ngx_stream_module.so
{
	[ ! -e $stream ] || echo "load_module $stream;"
	[ "$(id -u)" != 0 ] || echo 'user root;'
	echo "daemon off; pid $T/nginx.run; error_log stderr notice;"
	echo "events { } http { access_log off; default_type text/html;"
	for t in client_body proxy fastcgi uwsgi scgi; do
		echo "${t}_temp_path $T/nginx.$t;"
	done
	echo "server { listen 127.0.0.1:$web; root $T/www; }"
	conf nginx-http
	conf nginx-unix
	conf nginx-http "$named" named
	conf nginx-http "$old" old
	echo '} stream {'
	conf nginx-stream
	echo '}'
} >"$T/nginx.conf"
{
	# As in the file that Debian installs.
	echo 'defaults'
	echo '	timeout connect 5000'
	echo '	timeout client 50000'
	echo '	timeout server 50000'
	for f in haproxy-http haproxy-tcp haproxy-proxy; do
		conf $f
	done
} >"$T/haproxy.cfg"
{
	echo '{'
	echo "	admin unix/$T/caddy.sock"
	echo '	auto_https disable_redirects'
	echo '	default_bind 127.0.0.1'
	echo '}'
	conf caddy
} >"$T/Caddyfile"
{
	echo 'foreground = yes'
	echo 'pid ='
	conf stunnel
} >"$T/stunnel.conf"
start nginx nginx -e stderr -c "$T/nginx.conf"
start haproxy haproxy -W -f "$T/haproxy.cfg"
start caddy env XDG_DATA_HOME="$T" caddy run --config "$T/Caddyfile" \
    --adapter caddyfile
start stunnel stunnel4 "$T/stunnel.conf"

listens() {
	[ "$(ss -ltnH "sport = :$1")" ]
}
for f in $all; do
	wait_for 60 listens "$(port "$f")" ||
	    bail "$f does not listen: $(tail -n 5 "$T"/[nhcs]*[yxl].log)"
done

# ---- agents and logins

MSSH_CAFILE=$T/ca.pem
export MSSH_CAFILE
for f in $all; do
	start "agent-$f" "$MSSH" agent "$f" --server "$(url "$f")" --ping 1 \
	    --ssh-port "$SSHD_PORT"
done
for f in $all; do
	ok "$f: an agent parks" wait_log "agent-$f" 'parked at' 60
done

# through FRONT [ssh options] [command]: the same as msh.
through() {
	SRV=$(url "$1")
	msh "$@"
}

# The person who logs in has an address of his own, to be told from the agents
# and from the front.
login() {
	SRV=$(url "$1")
	MSSH_CONNECT="socat - TCP:127.0.0.1:%p,bind=127.0.0.99" \
	    msh "$1" 'echo "$((6 * 7))"' 2>"$T/err"
}

for f in $all; do
	is "$(login "$f")" 42 "$f: a login" || note "$(cat "$T/err")"
	client=127.0.0.99
	[ "$f" != haproxy-tcp ] || client=127.0.0.1
	ok "$f: the server knows the client as $client" \
	    wait_log "$(of "$f")" " $f from $client"
	ok "$f: the agent knows the client as $client" \
	    wait_log "agent-$f" " from $client"
done

# Silent sessions, which show below that the idle limits are at work here.
for f in $all; do
	SRV=$(url "$f")
	start "idle-$f" "$T/msh" "$f" 'echo up; exec sleep 1000'
done
clock
began=$clock_

# ---- the web site goes on

page() {
	printf '%s\r\n' 'GET / HTTP/1.1' 'Host: localhost' \
	    'Connection: close' '' |
	    openssl s_client -quiet -CAfile "$T/ca.pem" -verify_return_error \
	    -connect "127.0.0.1:$(port "$1")" -servername localhost \
	    2>"$T/err" | tail -n 1 | tr -d '\r'
}
for f in $http; do
	is "$(page "$f")" '<p>a web page' "$f: the page at / is still there"
done

# ---- certificates that are not good

# bad NAME URL WHY [CA]
bad() {
	where=${2#*://} where=${where%%/*}
	"$MSSH" proxy caddy --server "$2" --cafile "$T/${4:-ca}.pem" \
	    >"$T/out" 2>"$T/err"
	is "$?" 10 "$1: exit code 10"
	is "$(cat "$T/out" "$T/err")" \
	    "mssh: the certificate of $where is not good: $3" \
	    "$1: the sentence, and nothing else"
}

for path in /mssh ''; do
	kind=tls
	[ -z "$path" ] || kind=https
	bad "$kind, a wrong name" "$kind://localhost:$named$path" \
	    'hostname mismatch'
	bad "$kind, expired" "$kind://localhost:$old$path" \
	    'certificate has expired'
	bad "$kind, an unknown CA" "$kind://localhost:$(port caddy)$path" \
	    'unable to get local issuer certificate' other
done

# ---- a peer that is gone

probed() {
	ss -tnoH state established "sport = :$(port "$1")" |
	    grep -q 'timer:(keepalive'
}
for f in $all; do
	ok "$f: silent peers are probed" wait_for 30 probed "$f"
done

# ---- something to fetch later on

# FRONT_MB is for who works on something else in this file.
MB=${FRONT_MB:-200}
openssl enc -aes-128-ctr -K "$(printf %032d 1)" -iv "$(printf %032d 2)" \
    -in /dev/zero 2>/dev/null | head -c "${MB}000000" >"$T/file"
sum=$(openssl sha256 -r <"$T/file")

# ---- idle limits, now that the agents have been parked for a while

# cut NAME: the session did not end by itself.
cut() {
	wait_gone "$1" && cat "$T/$1.log" && [ "$rc" = 255 ]
}

past_limit() {
	clock
	[ $((clock_ - began)) -gt $((LIMIT + 1)) ]
}
ok 'all agents are parked for longer than the limit' wait_for 60 past_limit
for f in $all; do
	ok "$f: a silent session began" wait_log "idle-$f" up
	case $f in
	caddy) ok "$f: has no limit" stop "idle-$f" ;;
	*) ok "$f: the limit is at work" cut "idle-$f" ;;
	esac
	# When it came, after the login, and since the silent session.
	is "$(log_count "agent-$f" 'parked at')" 3 "$f: parked all the time"
done

# ssh wants a socket (ProxyUseFdpass): a process in the background is behind it.
fdpass() {
	ssh -F none -i "$T/key" -o UserKnownHostsFile="$T/known" \
	    -o StrictHostKeyChecking=accept-new -o BatchMode=yes \
	    -o IdentitiesOnly=yes -o ConnectTimeout=60 -o ProxyUseFdpass=yes \
	    -o ProxyCommand="'$MSSH' proxy --fdpass --server $(url "$1") $1" \
	    "$USER@$1.fdpass" 'echo "$((6 * 7))"'
}
is "$(fdpass nginx-http 2>"$T/err")" 42 'a socket for ssh, through TLS' ||
    note "$(cat "$T/err")"
ok 'nobody is left behind it' wait_for 30 sh -c \
    "! pgrep -f 'prox[y] --fdpass --server $(url nginx-http) '"

# ---- 200 MB, from nodes that were parked for longer than that

cat >"$T/fetch" <<'END'
"$T/msh" "$1" -c aes128-gcm@openssh.com "cat $T/file" |
    openssl sha256 -r
END
# Two at a time, since this is where the processors are needed.
fetch() {
	for g; do
		SRV=$(url "$g")
		start "fetch-$g" sh "$T/fetch" "$g"
	done
	for g; do
		wait_gone "fetch-$g" 300
		is "$(grep -v Warning "$T/fetch-$g.log")" "$sum" \
		    "$g: $MB MB arrive whole"
	done
}

fetch nginx-http haproxy-tcp
fetch haproxy-http haproxy-proxy
fetch caddy stunnel
fetch nginx-stream		# nginx-unix is nginx-http to its clients
rm "$T/file"

# ---- a reload

# Sessions that tell, once they may, that they are still there.
for f in $all; do
	SRV=$(url "$f")
	start "live-$f" "$T/msh" "$f" "while [ ! -e $T/go ]; do echo up
	    sleep 0.3; done; echo lives"
done
for f in $all; do
	ok "$f: a session runs" wait_log "live-$f" up
done
mark nginx
mark haproxy
mark stunnel
kill -s HUP "$(pid nginx)"
kill -s USR2 "$(pid haproxy)"
kill -s HUP "$(pid stunnel)"
ok 'Caddy reloads' env XDG_DATA_HOME="$T" caddy reload --force \
    --config "$T/Caddyfile" --adapter caddyfile --address "unix/$T/caddy.sock"
ok 'nginx reloads' wait_log nginx 'start worker process'
ok 'haproxy reloads' wait_log haproxy 'Loading success'
ok 'stunnel reloads' wait_log stunnel 'Configuration successful'
: >"$T/go"
for f in $all; do
	ok "$f: the running session came to an end" wait_gone "live-$f"
	if log_has "live-$f" lives >/dev/null; then
		note "$f: it went on"
	else
		note "$f: the reload cut it"
	fi
done

# answers FRONT: is the node there?
answers() {
	timeout 60 "$MSSH" ping "$1" --no-sshd --server "$(url "$1")"
}
for f in $all; do
	ok "$f: reachable after the reload" wait_for 60 answers "$f"
done

finish
