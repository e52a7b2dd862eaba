package mvcc

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/kv"
	"holdfast/storage"
)

// Expected, from Pebble's own numbers: a put is two records at 1.5 µs and the encoding; a key of a range is one step
// of an iterator (0.2 µs) and a copy; a count is a few steps in the census.

func openBench(b *testing.B, keys, valueBytes int) (*storage.Store, *Store) {
	return openBenchWith(b, Config{}, keys, valueBytes)
}

func openBenchWith(b *testing.B, cfg Config, keys, valueBytes int) (*storage.Store, *Store) {
	st, err := storage.Open(storage.Config{FS: vfs.Default, Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := st.Close(); err != nil {
			b.Fatal(err)
		}
	})
	s, err := Open(st, cfg)
	if err != nil {
		b.Fatal(err)
	}
	value := make([]byte, valueBytes)
	for i := 0; i < keys; i += 64 {
		putRun(b, st, s, i, min(64, keys-i), value)
	}
	if err := st.Flush(); err != nil {
		b.Fatal(err)
	}
	return st, s
}

func benchKey(i int) []byte { return fmt.Appendf(nil, "/registry/pods/default/pod-%08d", i) }

// putRun writes n keys from i on, one command each, in one run.
func putRun(b *testing.B, st *storage.Store, s *Store, i, n int, value []byte) {
	putEach(b, st, s, n, value, func(j int) []byte { return benchKey(i + j) })
}

func putEach(b *testing.B, st *storage.Store, s *Store, n int, value []byte, key func(int) []byte) {
	batch := st.NewBatch()
	run := s.Begin(batch)
	run.Bare()
	for j := range n {
		c := run.Command()
		c.Set(key(j), value, 0, false)
		c.End()
	}
	if err := run.Seal(); err != nil {
		b.Fatal(err)
	}
	if err := batch.Commit(); err != nil {
		b.Fatal(err)
	}
	run.Publish()
	run.Drop()
	if err := batch.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkPut: what does a put of 256 B cost in a run of 64? One op is one put.
func BenchmarkPut(b *testing.B) {
	value := make([]byte, 256)
	b.Run("create", func(b *testing.B) {
		st, s := openBench(b, 0, 0)
		b.ResetTimer()
		for i := 0; i < b.N; i += 64 {
			putRun(b, st, s, i, 64, value)
		}
	})
	for _, keys := range []int{1000, 100_000} {
		b.Run(fmt.Sprintf("update/%d", keys), func(b *testing.B) {
			st, s := openBench(b, keys, 256)
			b.ResetTimer()
			for i := 0; i < b.N; i += 64 {
				putRun(b, st, s, i*7919%keys, 64, value)
			}
		})
	}
	// Of most keys nothing is in memory but what the database keeps: as after a restart, or among very many.
	b.Run("forgotten/100000", func(b *testing.B) {
		st, s := openBenchWith(b, Config{RecentBytes: -1, RowCacheBytes: 1 << 20}, 100_000, 256)
		random := rand.New(rand.NewPCG(1, 2))
		b.ReportAllocs()
		b.ResetTimer()
		for i := 0; i < b.N; i += 500 {
			putEach(b, st, s, 500, value, func(int) []byte { return benchKey(random.IntN(100_000)) })
		}
	})
	// What many clients send: keys in no order, in runs of as many as share a sync of the log.
	b.Run("scattered/100000", func(b *testing.B) {
		st, s := openBench(b, 0, 0)
		random := rand.New(rand.NewPCG(1, 2))
		b.ReportAllocs()
		b.ResetTimer()
		for i := 0; i < b.N; i += 500 {
			putEach(b, st, s, 500, value, func(int) []byte { return benchKey(random.IntN(100_000)) })
			if i%50_000 == 0 { // as often as the server does
				if err := st.Flush(); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}

// BenchmarkRecall: what does it cost to learn how a key stands, of 200,000 with values of 256 B that are read in their order? One op is one key.
func BenchmarkRecall(b *testing.B) {
	const keys = 200_000
	st, _ := openBench(b, keys, 256)
	for n := 0; n < b.N; n += keys {
		b.StopTimer()
		s, err := Open(st, Config{})
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		for done := false; !done; {
			if done, err = s.RecallStep(1000); err != nil {
				b.Fatal(err)
			}
		}
		if s.recent.living() != keys {
			b.Fatalf("%d keys are known", s.recent.living())
		}
	}
}

// BenchmarkRange: what does a key cost in lists, and a single get?
func BenchmarkRange(b *testing.B) {
	const keys = 100_000
	_, s := openBench(b, keys, 256)
	ctx := context.Background()
	run := func(name string, per int64, q func(i int) *kv.RangeRequest) {
		b.Run(name, func(b *testing.B) {
			for i := range b.N {
				r, err := s.Range(ctx, q(i))
				if err != nil || int64(r.Rows.Len()) != per && per > 0 {
					b.Fatalf("%d rows (%v)", r.Rows.Len(), err)
				}
			}
			if per > 0 {
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(per), "ns/key")
			}
		})
	}
	all := kv.KeyRange{Key: []byte{0}, End: []byte{0}}
	run("list10000", 10000, func(i int) *kv.RangeRequest {
		from := i * 7919 % (keys - 10000)
		return &kv.RangeRequest{KeyRange: kv.KeyRange{Key: benchKey(from), End: benchKey(from + 10000)}}
	})
	run("page500", 500, func(int) *kv.RangeRequest { return &kv.RangeRequest{KeyRange: all, Limit: 500} })
	run("keysOnly10000", 10000, func(int) *kv.RangeRequest {
		return &kv.RangeRequest{KeyRange: kv.KeyRange{Key: benchKey(0), End: benchKey(10000)}, KeysOnly: true}
	})
	run("count", 0, func(int) *kv.RangeRequest { return &kv.RangeRequest{KeyRange: all, CountOnly: true} })
	run("get/hot", 1, func(i int) *kv.RangeRequest {
		return &kv.RangeRequest{KeyRange: kv.KeyRange{Key: benchKey(i % 1000)}}
	})
	run("get/cold", 1, func(i int) *kv.RangeRequest {
		return &kv.RangeRequest{KeyRange: kv.KeyRange{Key: benchKey(i * 7919 % keys)}}
	})
	run("get/missing", 0, func(i int) *kv.RangeRequest {
		return &kv.RangeRequest{KeyRange: kv.KeyRange{Key: append(benchKey(i%keys), 'x')}}
	})
}

// BenchmarkHashKV: what does a change cost in a hash?
func BenchmarkHashKV(b *testing.B) {
	const keys = 100_000
	_, s := openBench(b, keys, 256)
	b.ResetTimer()
	for range b.N {
		if _, err := s.HashKV(context.Background(), 0); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/keys, "ns/change")
}

// BenchmarkCompact: what does a change cost in a compaction of which everything but the newest goes?
func BenchmarkCompact(b *testing.B) {
	for range b.N {
		b.StopTimer()
		st, s := openBench(b, 1000, 256)
		value := make([]byte, 256)
		for i := range 1000 {
			putRun(b, st, s, i*64%1000, 64, value)
		}
		compactAt(b, st, s, s.Revision())
		b.StartTimer()
		for done := false; !done; {
			var err error
			if done, err = s.CompactStep(10000); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/65000, "ns/change")
}

// BenchmarkPutBesideCompact: how long does a put take while a compaction goes on in steps of so many changes? What a step removes is one batch, behind
// which the put's waits. Each step is followed by a rest ten times as long.
func BenchmarkPutBesideCompact(b *testing.B) {
	for _, rows := range []int{1000, 100} {
		b.Run(fmt.Sprint(rows), func(b *testing.B) {
			st, s := openBench(b, 1000, 256)
			value := make([]byte, 256)
			for i := range 3000 {
				putRun(b, st, s, i*64%1000, 64, value)
			}
			compactAt(b, st, s, s.Revision())
			compacting := make(chan error, 1)
			var steps []time.Duration
			go func() { // ends with the compaction
				for {
					began := time.Now()
					done, err := s.CompactStep(rows)
					steps = append(steps, time.Since(began))
					if done || err != nil {
						compacting <- err
						return
					}
					time.Sleep(10 * time.Since(began))
				}
			}()
			var took []time.Duration
			b.ResetTimer()
			for b.Loop() {
				began := time.Now()
				putRun(b, st, s, len(took)%1000, 1, value)
				took = append(took, time.Since(began))
			}
			b.StopTimer()
			if len(compacting) > 0 {
				b.Log("the compaction was over before the puts")
			}
			if err := <-compacting; err != nil {
				b.Fatal(err)
			}
			slices.Sort(took)
			slices.Sort(steps)
			b.ReportMetric(float64(steps[len(steps)/2].Microseconds()), "step-us")
			for name, q := range map[string]float64{"p99-us": 0.99, "p999-us": 0.999} {
				b.ReportMetric(float64(took[int(q*float64(len(took)))].Microseconds()), name)
			}
		})
	}
}
