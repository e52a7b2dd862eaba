package watch

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"holdfast/kv"
)

// TestConcurrent runs an applier, streams that pull, and requests on those streams side by side, for the race
// detector and for the one promise that only shows here: a watch created at revision H sees every later event, and
// each once. Revision r puts key r modulo raceKeys, so a client knows which revision is due next.
func TestConcurrent(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	history := newHistory()
	hub := New(Config{LogBytes: 20_000, FragmentBytes: 600, History: history})
	var applier, clients sync.WaitGroup
	applied := make(chan struct{})
	applier.Go(func() {
		defer close(applied)
		for rev := kv.Revision(2); rev <= raceHead; rev++ {
			c := history.apply(op{raceKey(rev), "value"})
			if rev%50 == 0 {
				c.Events, c.Large = nil, true
			}
			if !hub.WantsPrev() {
				c = bare(c)
			}
			hub.Append([]kv.Change{c})
		}
	})
	for i := range 8 {
		clients.Go(func() { raceClient(t, hub, applied, rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	applier.Wait()
	clients.Wait()
	if st := hub.Stats(); st.Streams+st.Watchers+st.Groups > 0 {
		t.Errorf("left after the end: %+v", st)
	}
}

const (
	raceKeys = 5
	raceHead = 3000
)

func raceKey(rev kv.Revision) string { return fmt.Sprintf("k%d", rev%raceKeys) }

// raceWatch is a watch as the client sees it: the next revision due, and the step to the one after.
type raceWatch struct{ start, due, step, class kv.Revision }

// raceClient makes requests in one goroutine, until the applier is through, and pulls in another, until everything
// has come.
func raceClient(t *testing.T, hub *Hub, applied <-chan struct{}, rnd *rand.Rand) {
	woken := make(chan struct{}, 1)
	s := hub.NewStream(func() {
		select {
		case woken <- struct{}{}:
		default:
		}
	})
	defer s.Close()
	level := make(chan struct{}, 1)
	var mu sync.Mutex // guards the fields below
	asked := make(map[int64]*raceWatch)
	stopped := false

	var requests sync.WaitGroup
	requests.Go(func() {
		for id := int64(1); ; id++ {
			select {
			case <-applied:
				mu.Lock()
				stopped = true
				mu.Unlock()
				s.Create(&kv.WatchCreate{KeyRange: kv.KeyRange{Key: []byte("last")}, ID: id})
				return
			default:
			}
			q := kv.WatchCreate{
				ID: id, KeyRange: kv.KeyRange{Key: []byte("k"), End: []byte("l")},
				Fragment: rnd.IntN(2) == 0, PrevKV: rnd.IntN(2) == 0, ProgressNotify: true,
			}
			w := &raceWatch{step: 1}
			if class := kv.Revision(rnd.IntN(2 * raceKeys)); class < raceKeys {
				w.step, w.class = raceKeys, class
				q.KeyRange = kv.KeyRange{Key: []byte(raceKey(class))}
			}
			if rnd.IntN(2) == 0 {
				q.Start = max(1, hub.Head()+kv.Revision(rnd.IntN(400))-300)
			}
			w.start = q.Start
			mu.Lock()
			asked[id] = w
			mu.Unlock()
			s.Create(&q)
			s.RequestProgress()
			if rnd.IntN(4) > 0 {
				s.Cancel(1 + rnd.Int64N(id))
			}
			if rnd.IntN(10) == 0 {
				s.Tick()
				hub.Stats()
			}
			if s.Pending() > 10 {
				select { // until the stream has been pulled empty
				case <-level:
				case <-applied:
				}
			}
		}
	})

	live := make(map[int64]*raceWatch)
	for pulling := true; pulling; {
		<-woken
		for {
			r, ok, err := s.Next(1000)
			if err != nil {
				t.Error(err)
				return
			}
			if !ok {
				select {
				case level <- struct{}{}:
				default:
				}
				break
			}
			mu.Lock()
			raceResponse(t, r, asked, live)
			mu.Unlock()
		}
		mu.Lock()
		pulling = !stopped || s.Pending() > 0
		mu.Unlock()
	}
	requests.Wait()
	for {
		r, ok, err := s.Next(1000)
		if err != nil {
			t.Error(err)
		}
		if !ok {
			break
		}
		raceResponse(t, r, asked, live)
	}
	for id, w := range live {
		if w.due <= raceHead {
			t.Errorf("watch %d: revision %d never came", id, w.due)
		}
	}
}

func raceResponse(t *testing.T, r Response, asked, live map[int64]*raceWatch) {
	id := r.WatchID
	switch w := live[id]; {
	case r.Created && asked[id] == nil:
		// the last one, which only wakes the stream
	case r.Created:
		w = asked[id]
		if w.due = w.start; w.due == 0 {
			w.due = r.Revision + 1
		}
		w.due = max(w.due, 2)
		for w.step > 1 && w.due%raceKeys != w.class {
			w.due++
		}
		live[id] = w
	case r.Canceled:
		delete(live, id)
	case len(r.Events) == 0 && id == NoID:
		for id, w := range live {
			w.checkProgress(t, id, r.Revision)
		}
	case len(r.Events) == 0:
		w.checkProgress(t, id, r.Revision)
	case w == nil:
		t.Errorf("events for %d, which is not watched", id)
	default:
		for _, e := range decode(r).Events {
			if got := kv.Revision(e.Kv.ModRevision); got != w.due {
				t.Errorf("watch %d got revision %d where %d is due", id, got, w.due)
			}
			w.due += w.step
		}
	}
}

// checkProgress allows for a cancel that has been sent but not answered: what it kept back is not due any more. The
// random model test is exact there; here it is enough that no progress goes back.
func (w *raceWatch) checkProgress(t *testing.T, id int64, rev kv.Revision) {
	if w.due-w.step > rev {
		t.Errorf("watch %d: progress to %d after revision %d", id, rev, w.due-w.step)
	}
}
