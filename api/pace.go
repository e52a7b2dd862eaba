package api

import (
	"runtime"
	"sync"
	"time"
)

// Answers that are sent in pieces could take all cores for minutes, and Go's scheduler knows no ranks: forty of them left writes 7 % of
// their rate. So while there are writes, one piece follows the other at a distance, whosever they are: they take some half of a
// machine then, and writes kept 92 % of their rate. Without writes they run free.

const (
	// pieceCost is the CPU time that a piece takes here and at a client on the same machine, with all that belongs to it: 0.2 ms
	// when nothing else runs, three times that when others share the caches. For twice as long as all cores need for it, no other piece
	// is begun. Forty ranges of 200 MB at once left puts 0.45 of their rate with 500 µs and 0.58 with 700 µs, and took 16 and 22 s.
	pieceCost = 700 * time.Microsecond
	// sendCost and measureCost are the parts of sending and of measuring in that, in quarters.
	sendCost    = 3
	measureCost = 1
	// writesWithin is for how long a write lets pieces go slowly: two writes a second are to be felt by nobody, ten are load.
	writesWithin = 100 * time.Millisecond
)

// pace keeps pieces apart while there are writes.
type pace struct {
	writes func() uint64 // how many there have been

	mu    sync.Mutex // guards the fields below
	seen  uint64     // of writes
	wrote time.Time  // when seen was seen to grow
	next  time.Time  // when the next piece may begin
}

// wait waits for the turn of so many quarters of a piece.
func (p *pace) wait(quarters int) {
	if at := p.turn(time.Now(), quarters); at > 0 {
		time.Sleep(at)
	}
}

// turn takes a turn, and tells how long to wait for it.
func (p *pace) turn(now time.Time, quarters int) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := p.writes(); n != p.seen {
		p.seen, p.wrote = n, now
	}
	if now.Sub(p.wrote) > writesWithin {
		return 0
	}
	at := now
	if p.next.After(now) {
		at = p.next
	}
	p.next = at.Add(2 * pieceCost * time.Duration(quarters) / time.Duration(4*runtime.GOMAXPROCS(0)))
	return at.Sub(now)
}
