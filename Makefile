# mssh: see README.md
.POSIX:

VERSION = 0.1
PREFIX = /usr/local
MANPREFIX = $(PREFIX)/share/man
UNITDIR = $(PREFIX)/lib/systemd/system

CC = cc
CFLAGS = -Os -fno-asynchronous-unwind-tables
WARN = -std=c99 -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes \
	-Wmissing-prototypes -Wvla
ALL_CFLAGS = $(WARN) $(CPPFLAGS) -DVERSION='"$(VERSION)"' $(CFLAGS)

all: mssh

mssh: mssh.o reactor.o
	$(CC) $(LDFLAGS) -o $@ mssh.o reactor.o

mssh.o: mssh.c proto.h reactor.h
	$(CC) $(ALL_CFLAGS) -c mssh.c

reactor.o: reactor.c reactor.h
	$(CC) $(ALL_CFLAGS) -c reactor.c

clean:
	rm -f mssh mssh.o reactor.o
