package load

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// slow is a store in which each write takes a time, and whose every nth write fails.
type slow struct {
	clientv3.KV
	takes    time.Duration
	failsNth int

	mu   sync.Mutex
	keys []string
}

func (s *slow) Put(_ context.Context, key, _ string, _ ...clientv3.OpOption) (*clientv3.PutResponse, error) {
	time.Sleep(s.takes)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = append(s.keys, key)
	if s.failsNth > 0 && len(s.keys)%s.failsNth == 0 {
		return nil, errors.New("full")
	}
	return &clientv3.PutResponse{}, nil
}

func clients(n int, kv clientv3.KV) []clientv3.KV {
	all := make([]clientv3.KV, n)
	for i := range all {
		all[i] = kv
	}
	return all
}

// The rate is kept while clients are free, and the load ends with its time.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := Run(t.Context(), clients(20, &slow{takes: 100 * time.Millisecond}),
			Plan{Time: 10 * time.Second, Rate: 100, KeySize: 16, Now: time.Now})
		if s.Writes < 990 || s.Writes > 1001 || s.Slowest != 100*time.Millisecond || s.Stddev != 0 || len(s.Errors) != 0 {
			t.Errorf("%d writes, slowest %v, deviation %v, errors %v", s.Writes, s.Slowest, s.Stddev, s.Errors)
		}
		if s.Rate < 98 || s.Rate > 101 {
			t.Errorf("%f writes a second", s.Rate)
		}
	})
}

// A cluster that is too slow is seen in the rate, not in a queue.
func TestTooSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := Run(t.Context(), clients(2, &slow{takes: 100 * time.Millisecond}),
			Plan{Time: 10 * time.Second, Rate: 100, KeySize: 16, Now: time.Now})
		if s.Rate < 19 || s.Rate > 21 || s.Total > 11*time.Second {
			t.Errorf("%f writes a second in %v, two clients of 100 ms make 20", s.Rate, s.Total)
		}
	})
}

// A number of keys is written whole, each another, and failures are counted apart.
func TestKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv := &slow{takes: time.Millisecond, failsNth: 10}
		highest := 0
		s := Run(t.Context(), clients(7, kv),
			Plan{Prefix: "p/", Keys: 100, KeySize: 20, Now: time.Now, Wrote: func(total int) { highest = max(highest, total) }})
		if s.Writes != 90 || s.Errors["full"] != 10 || highest != 100 {
			t.Errorf("%d writes, errors %v, %d told", s.Writes, s.Errors, highest)
		}
		seen := make(map[string]bool)
		for _, key := range kv.keys {
			if seen[key] || !strings.HasPrefix(key, "p/") || len(key) != 22 {
				t.Errorf("key %q", key)
			}
			seen[key] = true
		}
	})
}

// A stop lets the writes that are under way finish.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
		defer cancel()
		s := Run(ctx, clients(1, &slow{takes: 100 * time.Millisecond}), Plan{Keys: 100, KeySize: 16, Now: time.Now})
		if s.Writes != 2 || len(s.Errors) != 0 {
			t.Errorf("%d writes, errors %v", s.Writes, s.Errors)
		}
	})
}

func TestQuantile(t *testing.T) {
	var times []time.Duration
	if got := Quantile(times, 0.5); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
	for i := range 100 {
		times = append(times, time.Duration(i+1))
	}
	for q, want := range map[float64]time.Duration{0: 1, 0.5: 50, 0.99: 99, 1: 100} {
		if got := Quantile(times, q); got != want {
			t.Errorf("%v of 1 to 100 is %d, want %d", q, got, want)
		}
	}
}
