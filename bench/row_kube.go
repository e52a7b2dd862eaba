package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// What an API server does all day: it updates objects, each under the condition that nobody else has.
const (
	updateCallers  = 200
	updateObjects  = 10_000
	updateBytes    = 1 << 10
	updatesPerCall = 50 // objects of one caller: nobody else updates them, so that no update is refused
)

func kubeRows() []row {
	return []row{
		{
			name: "kube-update-200",
			asks: fmt.Sprintf("what does an update cost as a Kubernetes API server makes it, %d B, %d at a time?", updateBytes, updateCallers),
			show: showCalls,
			run: calls{
				callers: updateCallers,
				params:  map[string]any{"value_bytes": updateBytes, "keys": updateObjects},
				prepare: func(ctx context.Context, t *task, m *members) error {
					return fill(ctx, m, writes{n: t.n(updateObjects, updatesPerCall*50), turn: func(i int) *pb.PutRequest {
						return &pb.PutRequest{Key: objectKey(i), Value: value(i, updateBytes)}
					}})
				},
				caller: func(_ *task, c *clients, i int, r *rand.Rand) caller {
					u := updater{kv: c.kvs[i], bytes: updateBytes}
					for n := range updatesPerCall {
						u.objects = append(u.objects, object{key: objectKey(i*updatesPerCall + n)})
					}
					return func(ctx context.Context) error { return u.update(ctx, r.IntN(len(u.objects)), r.IntN(1<<20)) }
				},
			}.run,
		},
		{
			name:  "kube-mixed",
			asks:  "what does the life of 5,000 nodes cost, at its own rates: updates, paged lists, watches, leases?",
			heavy: true,
			show: []string{"server_cores", "client_cores", "update_p50_us", "update_p99_us", "update_max_us", "page_p50_us", "page_p99_us",
				"get_p99_us", "watch_p50_us", "watch_p99_us", "events_per_s", "anonymous_mb", "resident_mb", "disk_mb", "others_cores"},
			run: kubeMixed,
		},
	}
}

// object is one whose last revision is known.
type object struct {
	key      []byte
	revision int64 // of its last change; 0 when not known yet
}

// updater updates objects that are its own. One goroutine uses it.
type updater struct {
	kv      pb.KVClient
	bytes   int
	objects []object
}

// update is the transaction of the API server: put if the object is as known, else tell how it is.
func (u *updater) update(ctx context.Context, which, version int) error {
	return update(ctx, u.kv, &u.objects[which], value(version, u.bytes))
}

func update(ctx context.Context, kv pb.KVClient, o *object, v []byte) error {
	for range 2 { // the first may have to learn the revision
		a, err := kv.Txn(ctx, &pb.TxnRequest{
			Compare: []*pb.Compare{{
				Key: o.key, Target: pb.Compare_MOD, Result: pb.Compare_EQUAL, TargetUnion: &pb.Compare_ModRevision{ModRevision: o.revision},
			}},
			Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: o.key, Value: v}}}},
			Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: o.key}}}},
		})
		if err != nil {
			return err
		}
		if a.Succeeded {
			o.revision = a.Header.Revision
			return nil
		}
		found := a.Responses[0].GetResponseRange().Kvs
		if len(found) != 1 {
			return fmt.Errorf("update %s: %d objects", o.key, len(found))
		}
		o.revision = found[0].ModRevision
	}
	return errors.New("an object changed although only its owner updates it")
}
