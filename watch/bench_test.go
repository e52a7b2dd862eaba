package watch

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/kv"
)

// BenchmarkFanout asks what one event costs for each watcher it is delivered to, from Append to the response in the
// hands of the API: all watchers watch one key, on a number of streams. Expected: tens of nanoseconds where many
// watchers share a stream, for they share a cursor; a few hundred where each has a stream of its own, mostly for
// taking the lock twice and going through the wake.
func BenchmarkFanout(b *testing.B) {
	for _, size := range []struct{ watchers, streams int }{
		{1000, 10}, {10000, 100}, {10000, 10}, {1000, 1000}, {10000, 10000},
	} {
		b.Run(fmt.Sprintf("watchers=%d/streams=%d", size.watchers, size.streams), func(b *testing.B) {
			fanOut(b, size.watchers, size.streams, func(int) []byte { return []byte("key") })
		})
	}
}

// BenchmarkFanoutRanges is the same with watchers of different prefixes around the key, so that each is a group of
// its own.
func BenchmarkFanoutRanges(b *testing.B) {
	fanOut(b, 1000, 10, func(i int) []byte { return []byte(fmt.Sprintf("a%04d", i)) })
}

func fanOut(b *testing.B, watchers, streams int, key func(int) []byte) {
	var woken []int
	hub := New(Config{LogBytes: 64 << 20, FragmentBytes: 2 << 20, History: newHistory()})
	all := make([]*Stream, streams)
	for i := range all {
		all[i] = hub.NewStream(func() { woken = append(woken, i) })
	}
	drain := func() (delivered int) {
		for _, i := range woken {
			for {
				r, ok, err := all[i].Next(1 << 20)
				if err != nil {
					b.Fatal(err)
				}
				if !ok {
					break
				}
				delivered += len(r.Events)
			}
		}
		woken = woken[:0]
		return delivered
	}
	for i := range watchers {
		q := kv.WatchCreate{KeyRange: kv.KeyRange{Key: key(i)}}
		if string(q.Key) != "key" {
			q.End = []byte{0}
		}
		all[i%streams].Create(&q)
	}
	drain()
	value := kv.KeyValue{Key: []byte("key"), Value: make([]byte, 1024), Create: 2, Version: 1}
	delivered := 0
	b.ResetTimer()
	b.ReportAllocs()
	for i := range b.N {
		rev := kv.Revision(i + 2)
		value.Mod = rev
		e := kv.Event{Rev: kv.Rev{Main: rev}, KV: value.Append(nil)}
		e.Key = e.KV[2:5]
		hub.Append([]kv.Change{{Revision: rev, Events: []kv.Event{e}}})
		delivered += drain()
	}
	b.StopTimer()
	if delivered != b.N*watchers {
		b.Fatalf("%d delivered, want %d", delivered, b.N*watchers)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(delivered), "ns/delivery")
}

// BenchmarkAppend asks what an event costs the applier. It should not depend on how many watch other keys, nor on how
// many watch this key without pulling.
func BenchmarkAppend(b *testing.B) {
	for _, watchers := range []int{0, 10, 10000} {
		for _, same := range []bool{false, true} {
			b.Run(fmt.Sprintf("watchers=%d/same=%v", watchers, same), func(b *testing.B) {
				hub := New(Config{LogBytes: 64 << 20, FragmentBytes: 2 << 20, History: newHistory()})
				for i := range watchers {
					s := hub.NewStream(func() {})
					key := []byte("key")
					if !same {
						key = fmt.Appendf(nil, "other-%d", i)
					}
					s.Create(&kv.WatchCreate{KeyRange: kv.KeyRange{Key: key}})
				}
				value := kv.KeyValue{Key: []byte("key"), Value: make([]byte, 256), Create: 2, Version: 1}
				body := value.Append(nil)
				b.ReportAllocs()
				for i := range b.N {
					rev := kv.Revision(i + 2)
					e := kv.Event{Rev: kv.Rev{Main: rev}, KV: body, Key: body[2:5]}
					hub.Append([]kv.Change{{Revision: rev, Events: []kv.Event{e}}})
				}
			})
		}
	}
}

// BenchmarkAppendContended asks how long the applier waits for the lock while every stream pulls from a goroutine of
// its own: it appends as soon as all have got the event before. The lock is held for a fraction of a microsecond at a
// time, so the mean should stay near that of waking the streams.
func BenchmarkAppendContended(b *testing.B) {
	for _, streams := range []int{10, 1000} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) { contend(b, streams) })
	}
}

func contend(b *testing.B, streams int) {
	hub := New(Config{LogBytes: 64 << 20, FragmentBytes: 2 << 20, History: newHistory()})
	var delivered atomic.Int64
	level := make(chan struct{}, 1)
	var all sync.WaitGroup
	target := atomic.Int64{}
	stop := make(chan struct{})
	for range streams {
		woken := make(chan struct{}, 1)
		s := hub.NewStream(func() {
			select {
			case woken <- struct{}{}:
			default:
			}
		})
		s.Create(&kv.WatchCreate{KeyRange: kv.KeyRange{Key: []byte("key")}})
		all.Go(func() {
			for {
				select {
				case <-woken:
				case <-stop:
					return
				}
				for {
					r, ok, err := s.Next(1 << 20)
					if err != nil {
						b.Error(err)
						return
					}
					if !ok {
						break
					}
					if n := int64(len(r.Events)); n > 0 && delivered.Add(n) == target.Load() {
						level <- struct{}{}
					}
				}
			}
		})
	}
	value := kv.KeyValue{Key: []byte("key"), Value: make([]byte, 256), Create: 2, Version: 1}
	body := value.Append(nil)
	var appending, longest time.Duration
	b.ResetTimer()
	for i := range b.N {
		rev := kv.Revision(i + 2)
		target.Add(int64(streams))
		e := kv.Event{Rev: kv.Rev{Main: rev}, KV: body, Key: body[2:5]}
		began := time.Now()
		hub.Append([]kv.Change{{Revision: rev, Events: []kv.Event{e}}})
		took := time.Since(began)
		appending += took
		longest = max(longest, took)
		<-level
	}
	b.StopTimer()
	b.ReportMetric(float64(appending.Nanoseconds())/float64(b.N), "ns/append")
	b.ReportMetric(float64(longest.Microseconds()), "µs/longest")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*streams), "ns/delivery")
	close(stop)
	all.Wait()
}
