# mssh: see README.md
.POSIX:

VERSION = 0.1
PREFIX = /usr/local
MANPREFIX = $(PREFIX)/share/man
UNITDIR = $(PREFIX)/lib/systemd/system
# where bash, zsh and fish look for completions
BASHDIR = $(PREFIX)/share/bash-completion/completions
ZSHDIR = $(PREFIX)/share/zsh/site-functions
FISHDIR = $(PREFIX)/share/fish/vendor_completions.d

CC = cc
CFLAGS = -Os -fno-asynchronous-unwind-tables
WARN = -std=c99 -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes \
	-Wmissing-prototypes -Wvla
ALL_CFLAGS = $(WARN) $(CPPFLAGS) -DVERSION='"$(VERSION)"' $(CFLAGS)
UNITS = mssh-server.service mssh-server.socket mssh-agent.service \
	mssh-agent@.service
# what make check runs, those that wait long first, and how many at a time
TESTS = t/[38]*.t t/43*.t t/6[014589]*.t t/44*.t t/4[016]*.t t/1*.t \
	t/.cache/48-cuts t/[!13468]*.t t/6[!014589]*.t t/4[!01346]*.t \
	t/.cache/50-proto
JOBS = 6
NEED = sshd ssh scp sftp rsync plink ip nft conntrack mandoc openssl \
	systemd-analyze script prove perl nginx haproxy caddy stunnel4 \
	socat curl tmux bash bash-completion zsh fish timeout prometheus \
	promtool

all: mssh

mssh: mssh.o reactor.o
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ mssh.o reactor.o

mssh.o: mssh.c proto.h reactor.h
	$(CC) $(ALL_CFLAGS) -c mssh.c

reactor.o: reactor.c reactor.h
	$(CC) $(ALL_CFLAGS) -c reactor.c

install: all
	mkdir -p $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(MANPREFIX)/man1 \
	    $(DESTDIR)$(MANPREFIX)/man5 $(DESTDIR)$(MANPREFIX)/man7 \
	    $(DESTDIR)$(UNITDIR) $(DESTDIR)$(BASHDIR) \
	    $(DESTDIR)$(ZSHDIR) $(DESTDIR)$(FISHDIR)
	cp -f mssh $(DESTDIR)$(PREFIX)/bin/mssh
	chmod 755 $(DESTDIR)$(PREFIX)/bin/mssh
	cp -f man/*.1 $(DESTDIR)$(MANPREFIX)/man1
	cp -f man/*.5 $(DESTDIR)$(MANPREFIX)/man5
	cp -f man/*.7 $(DESTDIR)$(MANPREFIX)/man7
	cp -f man/mssh.bash $(DESTDIR)$(BASHDIR)/mssh
	cp -f man/_mssh $(DESTDIR)$(ZSHDIR)
	cp -f man/mssh.fish $(DESTDIR)$(FISHDIR)
	for u in $(UNITS); do \
	    sed 's,/usr/local/bin,$(PREFIX)/bin,g' systemd/$$u \
	    >$(DESTDIR)$(UNITDIR)/$$u || exit 1; done

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/mssh $(DESTDIR)$(BASHDIR)/mssh \
	    $(DESTDIR)$(ZSHDIR)/_mssh $(DESTDIR)$(FISHDIR)/mssh.fish
	for p in man/*.[157]; do \
	    rm -f $(DESTDIR)$(MANPREFIX)/man$${p##*.}/$${p#man/}; done
	for u in $(UNITS); do rm -f $(DESTDIR)$(UNITDIR)/$$u; done
	@for u in $(DESTDIR)/etc/systemd/system/*.wants/mssh-*; do \
	    if [ -L "$$u" ]; then u=$${u##*/mssh-}; \
	    case $$u in *.service) fix="systemd/setup remove $${u%.service}";; \
	    *) fix="systemctl disable --now mssh-$$u";; esac; \
	    echo "mssh-$$u is still enabled: run $$fix"; fi; done

clean:
	rm -rf mssh mssh.o reactor.o t/.cache

# server, agent, sshd and a shell through them, on loopback; CMD='uname -a'
# runs that instead of a shell
demo: mssh
	t/demo $(CMD)

bench: mssh
	t/bench/run

bench-full: mssh
	t/bench/run --full

check: mssh t/.cache/50-proto t/.cache/48-cuts t/.cache/peer
	t/need $(NEED)
	prove -j $(JOBS) --timer --exec '' $(TESTS)

# the units on a systemd that boots in qemu, in a quarter of an hour
check-vm: mssh
	t/vm

t/.cache/50-proto: t/50-proto.c proto.h
	mkdir -p t/.cache
	$(CC) $(ALL_CFLAGS) -o $@ t/50-proto.c

# resumption without a network: it includes mssh.c
t/.cache/48-cuts: t/48-cuts.c mssh.c proto.h reactor.h reactor.o
	mkdir -p t/.cache
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ t/48-cuts.c reactor.o

# whole or not at all: tests that run alone make it, too
t/.cache/peer: t/peer.c
	mkdir -p t/.cache
	$(CC) $(WARN) -O2 -o $@.$$$$ t/peer.c && mv -f $@.$$$$ $@

.PHONY: all install uninstall clean demo bench bench-full check check-vm
