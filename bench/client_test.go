package bench

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

func TestQuantile(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1))
	}
	for _, c := range []struct {
		of   []time.Duration
		q    float64
		want time.Duration
	}{
		{nil, 0.5, 0},
		{hundred[:1], 0.99, 1},
		{hundred, 0.50, 50},
		{hundred, 0.99, 99},
		{hundred, 1, 100},
		{hundred[:10], 0.99, 10},
	} {
		if got := quantile(c.of, c.q); got != c.want {
			t.Errorf("quantile %v of %d values is %d, want %d", c.q, len(c.of), got, c.want)
		}
	}
}

// TestLoopCountsWhatEndsWhileMeasuring lets one caller go through all phases, one call each.
func TestLoopCountsWhatEndsWhileMeasuring(t *testing.T) {
	step := make(chan struct{})
	l := start(t.Context(), []caller{func(context.Context) error {
		<-step
		return nil
	}})
	step <- struct{}{} // warming: does not count
	step <- struct{}{} // taken when the first call is over, so the phase may change now; may still count as warming
	l.phase.Store(measuring)
	for range 5 {
		step <- struct{}{}
	}
	close(step)
	took, err := l.end()
	if err != nil {
		t.Fatal(err)
	}
	if len(took) < 4 {
		t.Errorf("%d calls counted, at least 4 ended while measuring", len(took))
	}
	if !slices.IsSorted(took) {
		t.Error("not sorted")
	}
}

// TestLoopStopsAllWhenOneFails expects the error and that nobody waits for the others for ever.
func TestLoopStopsAllWhenOneFails(t *testing.T) {
	broken := errors.New("broken")
	l := start(t.Context(), []caller{
		func(ctx context.Context) error { return pause(ctx, time.Hour) },
		func(context.Context) error { return broken },
	})
	if _, err := l.wait(); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// puts remembers which keys it was given.
type puts struct {
	pb.KVClient
	mu   sync.Mutex // guards the field below
	keys map[string]int
}

func (p *puts) Put(_ context.Context, q *pb.PutRequest, _ ...grpc.CallOption) (*pb.PutResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys[string(q.Key)]++
	return &pb.PutResponse{}, nil
}

// TestEachOnce expects that callers together write every key exactly once, for the numbers of keys that are used.
func TestEachOnce(t *testing.T) {
	for n, batch := range map[int]int{keysShort: manyBatch, keysFew: 0, keysMembers: manyBatch} {
		store := &puts{keys: map[string]int{}}
		c := &clients{kvs: []pb.KVClient{store, store, store, store}}
		if _, err := start(t.Context(), writes{n: n, batch: batch}.callers(c)).wait(); err != nil {
			t.Fatal(err)
		}
		if len(store.keys) != n {
			t.Errorf("%d different keys of %d", len(store.keys), n)
		}
		for k, times := range store.keys {
			if times != 1 {
				t.Errorf("%s written %d times", k, times)
			}
		}
	}
}

func (p *puts) Txn(ctx context.Context, q *pb.TxnRequest, _ ...grpc.CallOption) (*pb.TxnResponse, error) {
	for _, op := range q.Success {
		if _, err := p.Put(ctx, op.GetRequestPut()); err != nil {
			return nil, err
		}
	}
	return &pb.TxnResponse{}, nil
}

// TestPacedChargesForStalls lets each call wait for the one before: calls that come every millisecond and take five must wait longer and
// longer, which a closed loop would not notice.
func TestPacedChargesForStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := make(chan struct{}, 1) // a mutex does not let time go on in a bubble
		ctx, cancel := context.WithTimeout(t.Context(), 99500*time.Microsecond)
		defer cancel()
		all, err := paced{1000, func(context.Context, int) error {
			server <- struct{}{}
			defer func() { <-server }()
			time.Sleep(5 * time.Millisecond)
			return nil
		}}.run(ctx)
		if err != nil {
			t.Fatal(err)
		}
		took := tookIn(all, 0, time.Hour)
		if len(all) != 100 || took[0] != 5*time.Millisecond || took[99] < 350*time.Millisecond {
			t.Errorf("%d calls, the shortest %v, the longest %v", len(all), took[0], took[len(took)-1])
		}
		if early := tookIn(all, 0, 10*time.Millisecond); len(early) != 10 {
			t.Errorf("%d calls in the first 10 ms", len(early))
		}
	})
}

// TestPacedEndsWithAnError expects the error and the end.
func TestPacedEndsWithAnError(t *testing.T) {
	broken := errors.New("broken")
	if _, err := (paced{1000, func(context.Context, int) error { return broken }}).run(t.Context()); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestValuesDiffer(t *testing.T) {
	seen := map[string]bool{}
	for n := range 4000 {
		v := value(n, valueBytes)
		if len(v) != valueBytes || seen[string(v)] {
			t.Fatalf("value %d: %d bytes, seen %v", n, len(v), seen[string(v)])
		}
		seen[string(v)] = true
	}
}
