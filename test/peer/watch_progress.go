package peer

import (
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// askProgress asks a stream how far its watches are. The answer comes only when all are level with the store, which a
// server may find out up to a tenth of a second late, so the question is repeated.
type askProgress struct{ slot int }

func (p askProgress) String() string { return fmt.Sprintf("stream %d progress request", p.slot) }

func (p askProgress) run(w *world) error {
	pair, err := w.stream(p.slot)
	if err != nil {
		return err
	}
	if err := w.barrier(); err != nil {
		return err
	}
	if live := w.liveIDs(p.slot); len(live) > 0 && len(pair[0].unconfirmed()) > 0 {
		if err := w.askUnconfirmed(p.slot, pair); err != nil {
			return err
		}
		w.tally.hit("1.9 no progress answer before a watch a compaction cancelled is cancelled once more")
	}
	if err := w.confirm(p.slot); err != nil {
		return err
	}
	live, future := w.liveIDs(p.slot), false
	pair[0].mu.Lock()
	for _, l := range pair[0].live() {
		future = future || l.request.StartRevision > w.current
	}
	pair[0].mu.Unlock()
	if len(live) == 0 || future {
		if err := w.expectSilence(p.slot, progressRequest); err != nil {
			return err
		}
		if future {
			w.tally.hit("1.9 no progress answer before the start revision is reached")
		} else {
			w.tally.hit("1.9 no progress answer without watches")
		}
		return nil
	}
	for t, s := range pair {
		if err := w.progressOn(t, s); err != nil {
			return err
		}
	}
	w.tally.hit("1.9 progress answer")
	return nil
}

// askUnconfirmed asks for progress on a stream with a watch that a compaction cancelled and the client has not: etcd is
// silent, and ours too unless differences.txt says that it answers.
func (w *world) askUnconfirmed(slot int, pair *[2]*stream) error {
	name := progressRequest.GetProgressRequest().ProtoReflect().Descriptor().FullName()
	if w.cluster != nil {
		return nil // what is right depends on the kind of the member
	}
	if w.answered[name] == "" {
		return w.expectSilence(slot, progressRequest)
	}
	if err := w.silent(slot, pair[:1], progressRequest); err != nil {
		return err
	}
	for _, id := range w.liveIDs(slot) {
		if w.startOf(slot, id) > w.current { // which keeps both silent
			return nil
		}
	}
	if err := w.progressOn(1, pair[1]); err != nil {
		return err
	}
	w.tally.hit(lineRow(name))
	return nil
}

var progressRequest = &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}

// settleLimit bounds the wait for late answers. A server that answers at all does so within a few milliseconds.
const settleLimit = 4 * silence

// settle waits for the late answers to a question that was repeated, or they would be taken for those to the next. There
// need not be as many: etcd drops a question while a watch is not level with the store.
func (s *stream) settle() {
	answers := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.progress)
	}
	within(settleLimit, func() bool { return answers() >= s.asked })
	s.asked = answers()
}

// progressOn repeats the question on one server until it is answered and checks the revision: nothing is being written.
func (w *world) progressOn(t int, s *stream) error {
	s.settle()
	before, asked := s.asked, time.Time{}
	var lost answer
	answered := eventually(func() bool {
		if time.Since(asked) > silence {
			asked = time.Now()
			s.asked++
			if a, ok := s.ask(progressRequest); !ok {
				lost = a
				return true
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.progress) > before
	})
	if !answered || lost.text != "" {
		return w.differ("no progress answer from %s: %s", w.targets[t].name, lost)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if got := s.progress[len(s.progress)-1]; got != w.current {
		return w.differ("progress on %s is at %d, the store at %d", w.targets[t].name, got, w.current)
	}
	return nil
}
