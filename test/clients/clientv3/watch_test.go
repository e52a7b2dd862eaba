package clientv3

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// follow reads n events from a watch and prints them.
func follow(ctx context.Context, t *testing.T, watch clientv3.WatchChan, n int) string {
	t.Helper()
	var text []string
	for len(text) < n {
		select {
		case <-ctx.Done():
			t.Fatalf("the watch stays silent after %q", text)
		case r, ok := <-watch:
			if !ok || r.Err() != nil {
				t.Fatalf("the watch ended after %q: %v", text, r.Err())
			}
			for _, e := range r.Events {
				line := fmt.Sprintf("%s %s=%s v%d", e.Type, e.Kv.Key, e.Kv.Value, e.Kv.Version)
				if e.IsCreate() {
					line += " new"
				}
				if e.PrevKv != nil {
					line += " was " + string(e.PrevKv.Value)
				}
				text = append(text, line)
			}
		}
	}
	return strings.Join(text, ", ")
}

func TestWatch(t *testing.T) {
	ctx, c := connect(t)
	began := must[*clientv3.PutResponse](t)(c.Put(ctx, "watch/a", "1")).Header.Revision
	must[*clientv3.PutResponse](t)(c.Put(ctx, "watch/a", "2"))
	prefix := []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithRev(began)}
	plain := c.Watch(ctx, "watch/", prefix...)
	withOld := c.Watch(ctx, "watch/", append(prefix, clientv3.WithPrevKV())...)
	noPuts := c.Watch(ctx, "watch/", append(prefix, clientv3.WithFilterPut(), clientv3.WithPrevKV())...)
	noDeletes := c.Watch(ctx, "watch/", append(prefix, clientv3.WithFilterDelete())...)
	must[*clientv3.DeleteResponse](t)(c.Delete(ctx, "watch/a"))
	must[*clientv3.TxnResponse](t)(c.Txn(ctx).Then(clientv3.OpPut("watch/b", "1"), clientv3.OpPut("watch/c", "1")).Commit())
	must[*clientv3.PutResponse](t)(c.Put(ctx, "watch/b", "2"))

	equal(t, "all", "PUT watch/a=1 v1 new, PUT watch/a=2 v2, DELETE watch/a= v0, PUT watch/b=1 v1 new, PUT watch/c=1 v1 new, PUT watch/b=2 v2",
		follow(ctx, t, plain, 6))
	equal(t, "with the previous value", "PUT watch/a=1 v1 new, PUT watch/a=2 v2 was 1, DELETE watch/a= v0 was 2, PUT watch/b=1 v1 new, PUT watch/c=1 v1 new, PUT watch/b=2 v2 was 1",
		follow(ctx, t, withOld, 6))
	equal(t, "without puts", "DELETE watch/a= v0 was 2", follow(ctx, t, noPuts, 1))
	equal(t, "without deletes", "PUT watch/a=1 v1 new, PUT watch/a=2 v2, PUT watch/b=1 v1 new, PUT watch/c=1 v1 new, PUT watch/b=2 v2",
		follow(ctx, t, noDeletes, 5))
}

// TestWatchProgress asks how far the watch has come and must be told a revision not behind the last write.
func TestWatchProgress(t *testing.T) {
	ctx, c := connect(t)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watch := c.Watch(ctx, "progress/a", clientv3.WithCreatedNotify())
	if r := <-watch; !r.Created {
		t.Fatalf("the first answer is %+v", r)
	}
	at := must[*clientv3.PutResponse](t)(c.Put(ctx, "progress/elsewhere", "x")).Header.Revision
	if err := c.RequestProgress(ctx); err != nil {
		t.Fatal(err)
	}
	r := <-watch
	if !r.IsProgressNotify() || r.Header.Revision < at {
		t.Errorf("progress %t at %d, the last write was at %d", r.IsProgressNotify(), r.Header.Revision, at)
	}
	cancel()
	for range watch { // ends when the client has cancelled the watch
	}
}

// TestManyWatches opens many watches on one stream; each must see its own key and nothing else.
func TestManyWatches(t *testing.T) {
	ctx, c := connect(t)
	const watches = 300
	began := must[*clientv3.PutResponse](t)(c.Put(ctx, "many", "")).Header.Revision
	var all []clientv3.WatchChan
	for i := range watches {
		all = append(all, c.Watch(ctx, fmt.Sprintf("many/%03d", i), clientv3.WithRev(began)))
	}
	for i := range watches {
		must[*clientv3.PutResponse](t)(c.Put(ctx, fmt.Sprintf("many/%03d", i), fmt.Sprint(i)))
	}
	for i, watch := range all {
		equal(t, "watch", fmt.Sprintf("PUT many/%03d=%d v1 new", i, i), follow(ctx, t, watch, 1))
	}
}

// TestLargeHistory lets a watch catch up with more than fits in one message.
func TestLargeHistory(t *testing.T) {
	ctx, c := connect(t)
	const writes = 12
	began := must[*clientv3.PutResponse](t)(c.Put(ctx, "history", "")).Header.Revision
	for range writes {
		must[*clientv3.PutResponse](t)(c.Put(ctx, "history/a", strings.Repeat("x", 1<<20)))
	}
	for _, opts := range [][]clientv3.OpOption{nil, {clientv3.WithFragment()}} {
		watch := c.Watch(ctx, "history/a", append(opts, clientv3.WithRev(began))...)
		seen := 0
		for seen < writes {
			r := <-watch
			if r.Err() != nil || len(r.Events) == 0 {
				t.Fatalf("after %d events: %v", seen, r.Err())
			}
			for _, e := range r.Events {
				seen++
				equal(t, "version", seen, e.Kv.Version)
			}
		}
	}
}

func TestCompaction(t *testing.T) {
	ctx, c := connect(t)
	var revs []int64
	for i := range 5 {
		revs = append(revs, must[*clientv3.PutResponse](t)(c.Put(ctx, "compact/a", fmt.Sprint(i))).Header.Revision)
	}
	must[*clientv3.CompactResponse](t)(c.Compact(ctx, revs[3], clientv3.WithCompactPhysical()))
	_, err := c.Get(ctx, "compact/a", clientv3.WithRev(revs[2]))
	wants(t, "read of what was compacted", rpctypes.ErrCompacted, err)
	_, err = c.Compact(ctx, revs[3])
	wants(t, "second compaction", rpctypes.ErrCompacted, err)
	_, err = c.Compact(ctx, revs[4]+1000)
	wants(t, "compaction of the future", rpctypes.ErrFutureRev, err)
	equal(t, "at the compacted revision", "compact/a=3", pairs(must[*clientv3.GetResponse](t)(c.Get(ctx, "compact/a", clientv3.WithRev(revs[3])))))

	watch := c.Watch(ctx, "compact/a", clientv3.WithRev(revs[0]))
	r := <-watch
	if r.CompactRevision != revs[3] || !r.Canceled {
		t.Errorf("a watch from before: canceled %t, compacted at %d, want %d", r.Canceled, r.CompactRevision, revs[3])
	}
	wants(t, "watch from before", rpctypes.ErrCompacted, r.Err())
}
