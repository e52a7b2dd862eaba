package apply

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"holdfast/kv"
)

// TestReadTxnSeesOneRevision reads two keys that always change together, while they change and the history is cut right
// behind: every read sees both as they were at one revision, and no compaction makes one fail.
func TestReadTxnSeesOneRevision(t *testing.T) {
	b := newBench(t)
	defer func() { b.close() }()
	b.apply("txn [] [put a 0; put b 0]")
	get := func(key string) kv.Op { return kv.Op{Range: &kv.RangeRequest{KeyRange: kv.KeyRange{Key: []byte(key)}}} }
	q := &kv.TxnRequest{
		Compare: []kv.Compare{{KeyRange: kv.KeyRange{Key: []byte("a"), End: []byte("c")}, Target: kv.CompareVersion, Result: kv.CompareGreater, Union: 4}},
		Success: []kv.Op{get("a"), get("b")},
	}
	var stop atomic.Bool
	var readers sync.WaitGroup
	var reads atomic.Int64
	for range 4 {
		readers.Go(func() {
			for !stop.Load() {
				answer, err := ReadTxn(context.Background(), b.keys, q)
				if err != nil || !answer.Succeeded {
					t.Errorf("%+v, %v", answer, err)
					return
				}
				var mods []kv.Revision
				for _, r := range answer.Responses {
					for row := range r.Range.Rows.All() {
						mods = append(mods, decode(row).Mod)
					}
				}
				if len(mods) != 2 || mods[0] != mods[1] || mods[0] != answer.Revision {
					t.Errorf("at revision %v the keys are of %v", answer.Revision, mods)
				}
				reads.Add(1)
			}
		})
	}
	for i := range 500 {
		b.apply(fmt.Sprintf("txn [] [put a %d; put b %d]", i, i), fmt.Sprintf("compact %d", i+3))
		if _, err := b.keys.CompactStep(1000); err != nil {
			t.Fatal(err)
		}
	}
	stop.Store(true)
	readers.Wait()
	t.Logf("%d reads", reads.Load())
}
