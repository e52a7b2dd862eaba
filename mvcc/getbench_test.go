package mvcc

import (
	"context"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"

	"holdfast/kv"
	"holdfast/storage"
)

// BenchmarkGet: what does a get of one of a million keys of 256 B cost, when most of them are in no cache, and beside puts? Expected: a search in
// some five tables, and the read of a block of 8 KB for three of four. One op is one get; cpu-ns is what all of the process took for it.
func BenchmarkGet(b *testing.B) {
	const keys = 1_000_000
	st, s := openScattered(b, keys)
	for _, hot := range []struct {
		name string
		keys int
	}{{"cold", keys}, {"hot", 10_000}} {
		b.Run(hot.name, func(b *testing.B) { getEach(b, s, hot.keys, nil) })
	}
	b.Run("beside-puts", func(b *testing.B) {
		getEach(b, s, keys, func(n int64) {
			putRun(b, st, s, int(n*7919%keys), 1, make([]byte, 256))
			if n%getFlushEvery == 0 {
				if err := st.Flush(); err != nil {
					b.Fatal(err)
				}
			}
		})
	})
}

// getsPerPut is how many gets there are for a put that they are beside of.
const getsPerPut = 10

// getFlushEvery is after how many puts the server flushes, about.
const getFlushEvery = 25_000

func getEach(b *testing.B, s *Store, keys int, put func(n int64)) {
	var mu sync.Mutex // guards what follows
	var gets, puts int64
	b.SetParallelism(8)
	b.ReportAllocs()
	before := cpuTime(b)
	b.RunParallel(func(p *testing.PB) {
		random := rand.New(rand.NewPCG(rand.Uint64(), 0))
		for p.Next() {
			r, err := s.Range(context.Background(), &kv.RangeRequest{KeyRange: kv.KeyRange{Key: benchKey(random.IntN(keys))}})
			if err != nil || r.Rows.Len() != 1 {
				b.Errorf("%d rows (%v)", r.Rows.Len(), err)
				return
			}
			if put == nil {
				continue
			}
			mu.Lock()
			if gets++; gets%getsPerPut == 0 {
				puts++
				put(puts)
			}
			mu.Unlock()
		}
	})
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
}

// cpuTime is what the process has taken of processors, in ns.
func cpuTime(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// openScattered opens a store in which so many keys were written in no order, and flushed as often as the server does.
func openScattered(b *testing.B, keys int) (*storage.Store, *Store) {
	st, s := openBench(b, 0, 0)
	for i := 0; i < keys; i += 100 {
		value := make([]byte, 256)
		for j := range value {
			value[j] = byte(rand.Uint32())
		}
		putEach(b, st, s, 100, value, func(j int) []byte { return benchKey((i + j) * 7919 % keys) })
		if i%getFlushEvery == 0 || i == keys-100 {
			if err := st.Flush(); err != nil {
				b.Fatal(err)
			}
		}
	}
	return st, s
}
