// Package quiet bounds what is logged about strangers: who may do something as often as they like must not fill the disk.
package quiet

import (
	"log/slog"
	"sync"
	"time"
)

// LinesMax is how many lines there are in a second.
const LinesMax = 10

// Bound counts lines. The others of a second are summed up in one line when the next one is asked for.
type Bound struct {
	now    func() time.Time
	log    *slog.Logger
	others string

	mu           sync.Mutex // guards the fields below
	second       int64
	said, unsaid int
}

// New makes a bound; others is what the line says that sums up. A nil now is time.Now.
func New(log *slog.Logger, others string, now func() time.Time) *Bound {
	if now == nil {
		now = time.Now
	}
	return &Bound{now: now, log: log, others: others}
}

// Say tells whether there is room for one more line.
func (b *Bound) Say() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now := b.now().Unix(); now != b.second {
		if b.unsaid > 0 {
			b.log.Warn(b.others, "others", b.unsaid)
		}
		b.second, b.said, b.unsaid = now, 0, 0
	}
	if b.said >= LinesMax {
		b.unsaid++
		return false
	}
	b.said++
	return true
}
