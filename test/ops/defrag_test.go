package ops

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// worker writes through a member and notes how long each put takes.
type worker struct {
	took []time.Duration
	err  error
}

func (w *worker) run(ctx context.Context, c *client, key string) {
	for ctx.Err() == nil && w.err == nil {
		began := time.Now()
		if err := c.put(key, noise(1000)); err != nil {
			w.err = err
		}
		w.took = append(w.took, time.Since(began))
		time.Sleep(2 * time.Millisecond) // a load, not a race for the machine
	}
}

func (w *worker) quantile(q float64) time.Duration {
	took := slices.Clone(w.took)
	slices.Sort(took)
	return took[int(float64(len(took)-1)*q)]
}

// load writes through every member while something is done.
func load(t *testing.T, clients []*client, what func()) []*worker {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var working sync.WaitGroup
	workers := make([]*worker, len(clients))
	for i, c := range clients {
		workers[i] = &worker{}
		working.Go(func() { workers[i].run(ctx, c, fmt.Sprint("load", i)) })
	}
	what()
	stop()
	working.Wait()
	for i, w := range workers {
		if w.err != nil {
			t.Errorf("a put through member %d: %v", i, w.err)
		}
		if len(w.took) == 0 {
			t.Fatalf("nothing was written through member %d", i)
		}
	}
	return workers
}

// defragmentations is what a member tells of them: how many, and how many seconds they took.
func defragmentations(t *testing.T, c *client) (count, seconds float64) {
	t.Helper()
	r, err := http.Get("http://" + c.conn.Target() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for line := range strings.Lines(string(body)) {
		for name, v := range map[string]*float64{"sum": &seconds, "count": &count} {
			if n, _ := fmt.Sscanf(line, "etcd_disk_backend_defrag_duration_seconds_"+name+" %g", v); n == 1 {
				found++
			}
		}
	}
	if found != 2 {
		t.Fatal("the metrics do not tell of defragmentations")
	}
	return count, seconds
}

// TestA8Defragment defragments one of three members again and again while all of them are written to: no request fails at any, and
// the time in which the member was held up is measured and exported. It is none.
func TestA8Defragment(t *testing.T) {
	const times, pause = 50, 20 * time.Millisecond
	clients := three(t)
	for i := range 200 {
		if err := clients[0].put(fmt.Sprint("key", i), noise(40000)); err != nil {
			t.Fatal(err)
		}
	}
	quiet := load(t, clients, func() { time.Sleep(times * pause) })
	busy := load(t, clients, func() {
		for range times {
			if _, err := clients[0].Defragment(t.Context(), &pb.DefragmentRequest{}); err != nil {
				t.Error(err)
			}
			time.Sleep(pause)
		}
	})
	for i := range clients {
		t.Logf("member %d: p99 of a put %v, while member 0 is defragmented %v (%d and %d puts)", i,
			quiet[i].quantile(0.99), busy[i].quantile(0.99), len(quiet[i].took), len(busy[i].took))
	}
	if count, seconds := defragmentations(t, clients[0]); count != times || seconds != 0 {
		t.Errorf("of %d defragmentations %v are told of, which took %v s", times, count, seconds)
	}
	if count, _ := defragmentations(t, clients[1]); count != 0 {
		t.Errorf("a member that was not defragmented tells of %v", count)
	}
}
