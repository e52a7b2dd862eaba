package api

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"holdfast/kv"
	"holdfast/server"
)

// A client that asks for much and reads slowly must not make the member hold what it asked for. So all answers to ranges that are
// being made or sent share one bound, in bytes:
//
//   - Up to smallAnswer they wait for nobody, as long as all of those together hold less than a quarter of the bound.
//   - A larger one first gets room for two pieces, and waits for that. Then it takes what there is, up to an eighth of the bound; the
//     rest is only measured, and read piece by piece when the connection asks for it (mvcc.Rest). Few are measured at a time, so that the first are
//     being sent before the last are measured.
//   - What cannot be read in pieces, because it is sorted, is made alone, and may hold half of the bound. So are transactions and
//     deletions that may return much (whole.go), whatever they hold then.
//   - What nobody has read of for parkAfter gives everything back. It is read again when its client goes on; a sorted answer is lost
//     then, with its connection. That is also how answers end whose connection died: gRPC does not say so.

const (
	// smallAnswer is what a thousand calls at once may take without being asked.
	smallAnswer = 64 << 10
	// workBytes is what an answer needs to be sent in pieces: the one being sent and the next.
	workBytes = 2 * kv.ChunkMax
	// measuredMost is how many answers are measured at the same time. It takes a tenth of a second of a core for 100 MB, and its caller gets nothing meanwhile.
	measuredMost = 6
	// roomTimeout is how long a range waits for room before it is refused, unless its client gives up earlier.
	roomTimeout = 30 * time.Second
	// parkCheck is how often it is looked which answers rest. After so many looks they give their room back; the second is for what cannot
	// be read again, and for those of which nobody will hear any more.
	parkCheck  = time.Second
	parkAfter  = 5
	fixedAfter = 60
	// resumeTimeout is how long a parked answer waits for room when it is read again, and its connection with it: until others that
	// rest have been parked, and as long again.
	resumeTimeout = 2 * parkAfter * parkCheck
)

// answers are those that are being made or sent.
type answers struct {
	max    int64 // bytes
	log    *slog.Logger
	budget *semaphore.Weighted
	again  *semaphore.Weighted // a quarter more, for what was parked and is read again: it must not wait behind what is new
	whole  chan struct{}       // holds one token: an answer that has to be whole takes it
	turns  chan struct{}       // holds measuredMost tokens: an answer that is measured takes one
	pace   pace
	// life ends when nothing is to be sent any more, by giveUp.
	life   context.Context
	giveUp context.CancelFunc

	mu     sync.Mutex // guards the fields below; taken after that of an answer
	small  int64      // bytes of answers that did not wait
	live   map[*answer]struct{}
	ticks  int // of parkCheck
	closed bool
}

func newAnswers(bytesMax int64, writes func() uint64, log *slog.Logger) *answers {
	if bytesMax <= 0 {
		bytesMax = server.AnswerBytesDefault
	}
	s := &answers{max: bytesMax, log: log, budget: semaphore.NewWeighted(bytesMax), whole: make(chan struct{}, 1), turns: make(chan struct{}, measuredMost), live: map[*answer]struct{}{}}
	s.pace.writes = writes
	s.again = semaphore.NewWeighted(max(bytesMax/4, workBytes))
	s.life, s.giveUp = context.WithCancel(context.Background())
	s.whole <- struct{}{}
	for range measuredMost {
		s.turns <- struct{}{}
	}
	return s
}

// takeSmall gives room for n bytes to an answer that does not wait.
func (s *answers) takeSmall(n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.small+n > s.max/4 {
		return false
	}
	s.small += n
	return true
}

func (s *answers) giveSmall(n int64) {
	s.mu.Lock()
	s.small -= n
	s.mu.Unlock()
}

// now is the time in ticks, for how long an answer rests.
func (s *answers) now() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ticks
}

// add begins to look after w, and tells whether it may be sent.
func (s *answers) add(w *answer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.live[w] = struct{}{}
	}
	return !s.closed
}

func (s *answers) remove(w *answer) {
	s.mu.Lock()
	delete(s.live, w)
	s.mu.Unlock()
}

// tend takes their room from answers that rest, until ctx ends.
func (s *answers) tend(ctx context.Context) error {
	tick := time.NewTicker(parkCheck)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.park()
		case <-ctx.Done():
			return nil
		}
	}
}

// park lets time go on by a tick.
func (s *answers) park() {
	s.mu.Lock()
	s.ticks++
	now := s.ticks
	all := make([]*answer, 0, len(s.live))
	for w := range s.live {
		all = append(all, w)
	}
	s.mu.Unlock()
	for _, w := range all {
		w.parkIfResting(now)
	}
}

// close takes everything from every answer: the store is about to be closed.
func (s *answers) close() {
	s.giveUp()
	s.mu.Lock()
	s.closed = true
	all := s.live
	s.live = map[*answer]struct{}{}
	s.mu.Unlock()
	for w := range all {
		w.park(true)
	}
}
