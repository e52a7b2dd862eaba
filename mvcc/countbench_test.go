package mvcc

import (
	"context"
	"fmt"
	"testing"

	"holdfast/kv"
	"holdfast/storage"
)

// openAmong is a store of 100,000 keys among others, so that neither end of their range is an end of all keys.
func openAmong(b *testing.B) (*storage.Store, *Store, kv.KeyRange) {
	st, s := openBench(b, 100_000, 256)
	for _, kind := range []string{"configmaps", "secrets"} {
		write(b, st, s, func(c *Command) {
			for i := range 2000 {
				c.Put(fmt.Appendf(nil, "/registry/%s/%06d", kind, i), make([]byte, 256), 0)
			}
		})
	}
	if err := st.Flush(); err != nil {
		b.Fatal(err)
	}
	return st, s, kv.KeyRange{Key: []byte("/registry/pods/"), End: []byte("/registry/pods0")}
}

// BenchmarkCount100k: what does counting 100,000 keys cost at the newest revision, at an older one that is remembered,
// and without the census?
func BenchmarkCount100k(b *testing.B) {
	st, s, pods := openAmong(b)
	ctx := context.Background()
	count := func(b *testing.B, revision kv.Revision) {
		for b.Loop() {
			r, err := s.Range(ctx, &kv.RangeRequest{KeyRange: pods, Revision: revision, CountOnly: true})
			if err != nil || r.Count != 100_000 {
				b.Fatalf("%d keys (%v)", r.Count, err)
			}
		}
	}
	b.Run("newest", func(b *testing.B) { count(b, 0) })
	b.Run("scan", func(b *testing.B) {
		lo, hi := pods.Bounds()
		for b.Loop() {
			now := s.published.Load()
			c := counter{v: &view{s: s, now: now, at: now.revision, ctx: ctx}}
			n, err := c.scan(lo, hi)
			if err = c.close(err); err != nil || n != 100_000 {
				b.Fatalf("%d keys (%v)", n, err)
			}
		}
	})
	before := s.Revision()
	for i := range 100 {
		write(b, st, s, func(c *Command) { c.DeleteRange(kv.KeyRange{Key: benchKey(i * 777)}, nil) })
	}
	b.Run("older", func(b *testing.B) { count(b, before) })
	b.Run("older/first", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if i%95 == 0 {
				// Nothing is remembered any more.
				for rev := range kv.Revision(100) {
					s.past.Remember(-rev, s.published.Load().census)
				}
			}
			if _, err := s.Range(ctx, &kv.RangeRequest{KeyRange: pods, Revision: before + kv.Revision(i%95), CountOnly: true}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkPage500of100k: what does a page of 500 keys with the count of all cost, for the first page and those in the
// middle of a list?
func BenchmarkPage500of100k(b *testing.B) {
	_, s, pods := openAmong(b)
	ctx := context.Background()
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			r, err := s.Range(ctx, &kv.RangeRequest{KeyRange: pods, Limit: 500})
			if err != nil || r.Count != 100_000 || r.Rows.Len() != 500 {
				b.Fatalf("%d of %d keys (%v)", r.Rows.Len(), r.Count, err)
			}
		}
	})
	b.Run("middle", func(b *testing.B) {
		q := &kv.RangeRequest{KeyRange: pods, Limit: 500, Revision: s.Revision()}
		for i := 0; b.Loop(); i++ {
			from := 500 * (i % 199)
			q.Key = append(benchKey(from), 0)
			r, err := s.Range(ctx, q)
			if err != nil || r.Count != int64(100_000-from-1) || r.Rows.Len() != 500 {
				b.Fatalf("%d of %d keys from %d (%v)", r.Rows.Len(), r.Count, from, err)
			}
		}
	})
}

// BenchmarkPutRandom: what does a new key cost that comes between others, a run of 64 among 100,000?
func BenchmarkPutRandom(b *testing.B) {
	const keys, size = 100_000, 64
	st, s := openBench(b, keys, 256)
	value := make([]byte, 256)
	b.ResetTimer()
	for i := 0; i < b.N; i += size {
		batch := st.NewBatch()
		run := s.Begin(batch)
		for j := range size {
			c := run.Command()
			c.Put(fmt.Appendf(benchKey((i+j)*7919%keys), "-%d", i), value, 0)
			c.End()
		}
		if err := run.Seal(); err != nil {
			b.Fatal(err)
		}
		if err := batch.Commit(); err != nil {
			b.Fatal(err)
		}
		run.Publish()
		if err := batch.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
