package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// weigh records the memory of the idle sessions after they have settled, and ends them:
// a server may close a submission that idles for 5 minutes (RFC 5321 section 4.5.3.2.7).
func (b *bench) weigh() error {
	if time.Since(b.idleSince) < b.settle {
		return nil
	}
	for _, i := range b.idle {
		kib, err := i.perSession(b.sessions)
		if err != nil {
			return err
		}
		b.results.add(i.kind.measure.title, i.instance.peer, kib)
	}
	b.idle = nil
	return nil
}

// idleKind is a kind of idle session; its name selects it in hold.
type idleKind struct {
	row, name string
	protocol  protocol
	measure   measure
}

var idleKinds = []idleKind{
	{"4", "idle", imap, idleMemory},
	{"9", "fetched", imap, fetchedMemory},
	{"9", "sent", smtp, sentMemory},
}

// idlers are the idle sessions of one peer, which does nothing else.
type idlers struct {
	kind     idleKind
	instance *instance
	base     int64 // KiB, before
	in       io.WriteCloser
	out      *bufio.Reader
}

// beginIdling starts one of each proxy, with a server of its own, and opens idle
// sessions there.
func (b *bench) beginIdling(kind idleKind) ([]*idlers, error) {
	var all []*idlers
	for _, peer := range b.peers {
		if peer == direct || peer == oursWriting {
			continue // no proxy, so no memory to measure
		}
		b.say("%d %s sessions at %s", b.sessions, kind.name, peer)
		tlsPort, ports, err := b.nothing(kind.protocol, 1)
		if err != nil {
			return nil, err
		}
		placed, err := b.place([]string{peer}, kind.protocol, func(int) int { return ports[0] }, tlsPort)
		if err != nil {
			return nil, err
		}
		i, err := b.idleAt(kind, placed[0])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", peer, err)
		}
		all = append(all, i)
	}
	return all, nil
}

func (b *bench) idleAt(kind idleKind, at *instance) (*idlers, error) {
	i := &idlers{kind: kind, instance: at}
	// Measured before any login: memory that the first login loads counts as the
	// sessions', and no earlier login has left memory that would count as the process's
	// own.
	if err := untilQuiet([]*instance{at}); err != nil {
		return nil, err
	}
	var err error
	if i.base, err = at.process.pss(); err != nil {
		return nil, err
	}
	p := &process{name: "holder", done: make(chan struct{})}
	p.cmd = exec.Command(b.self, "hold", kind.name, strconv.Itoa(at.port), strconv.Itoa(b.sessions))
	p.cmd.Stderr = os.Stderr
	if i.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Stdout = write
	if err := p.begin(); err != nil {
		return nil, err
	}
	write.Close()
	b.atEnd(p.stop)
	i.out = bufio.NewReader(read)
	return i, i.await("ready\n")
}

func (i *idlers) await(word string) error {
	line, err := i.out.ReadString('\n')
	if err != nil || line != word {
		return fmt.Errorf("the idle clients say %q: %w", line, cmp.Or(err, errors.New("not what was expected")))
	}
	return nil
}

// perSession returns the memory of one session in KiB, if all sessions still exist.
func (i *idlers) perSession(sessions int) (float64, error) {
	kib, err := i.instance.process.pss()
	if err != nil {
		return 0, err
	}
	i.in.Close()
	if err := i.await("all there\n"); err != nil {
		return 0, fmt.Errorf("%s: %w", i.instance.peer, err)
	}
	return float64(kib-i.base) / float64(sessions), nil
}
