package apply

import (
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"holdfast/auth"
	"holdfast/kv"
	"holdfast/lease"
	"holdfast/membership"
	"holdfast/mvcc"
	"holdfast/storage/storagetest"
)

// BenchmarkPut applies puts of 256 bytes over 1000 keys in runs of 64, as they come under load: without authentication, as root,
// and as a user with ten permissions. Expected: nothing without, some hundred nanoseconds with.
func BenchmarkPut(b *testing.B) {
	for _, who := range []string{"", auth.Root, "user"} {
		b.Run("as "+who, func(b *testing.B) {
			m, revision := benchMachine(b, who != "")
			benchRuns(b, m, 1000, func(at int) *pb.InternalRaftRequest {
				return &pb.InternalRaftRequest{
					Header: &pb.RequestHeader{ID: 1, Username: who, AuthRevision: revision},
					Put:    &pb.PutRequest{Key: fmt.Appendf(nil, "%d/key%03d", at%10, at), Value: make([]byte, 256)},
				}
			})
		})
	}
}

// BenchmarkUpdate applies what an API server asks for: put 1 KB if the key is not newer than a revision, among 100,000 keys, whose rows no cache
// holds. The compare asks nothing of the row: expected is a put, and a look into a table in memory.
func BenchmarkUpdate(b *testing.B) {
	m, _ := benchMachine(b, false)
	benchRuns(b, m, 100_000, func(at int) *pb.InternalRaftRequest {
		key := fmt.Appendf(nil, "key%06d", at*7919%100_000)
		return &pb.InternalRaftRequest{Header: &pb.RequestHeader{ID: 1}, Txn: &pb.TxnRequest{
			Compare: []*pb.Compare{{Key: key, Target: pb.Compare_MOD, Result: pb.Compare_LESS, TargetUnion: &pb.Compare_ModRevision{ModRevision: 1 << 60}}},
			Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key, Value: make([]byte, 1<<10)}}}},
			Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: key}}}},
		}}
	})
}

// benchRuns applies n commands in runs of 64, again and again.
func benchRuns(b *testing.B, m *Machine, n int, command func(at int) *pb.InternalRaftRequest) {
	b.Helper()
	var runs [][]Entry
	for at := range n {
		if at%64 == 0 {
			runs = append(runs, nil)
		}
		payload, err := proto.Marshal(command(at))
		if err != nil {
			b.Fatal(err)
		}
		runs[len(runs)-1] = append(runs[len(runs)-1], Entry{Term: 1, Payload: payload})
	}
	apply := func(run []Entry) {
		for i := range run {
			run[i].Index = m.index + 1 + kv.Index(i)
		}
		results, err := m.Apply(run)
		if err != nil || results[0].Err != nil {
			b.Fatal(err, results[0].Err)
		}
	}
	for _, run := range runs {
		apply(run)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; {
		run := runs[n/64%len(runs)]
		apply(run)
		n += len(run)
	}
}

// BenchmarkAuthorize is what authentication adds to a put there.
func BenchmarkAuthorize(b *testing.B) {
	for _, who := range []string{"", auth.Root, "user"} {
		b.Run("as "+who, func(b *testing.B) {
			m, revision := benchMachine(b, who != "")
			r := run{Machine: m}
			c := kv.Command{
				CommandHeader: kv.CommandHeader{ID: 1, Username: who, AuthRevision: revision},
				Put:           &kv.PutRequest{Key: []byte("7/key100")},
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := r.authorize(&c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// benchMachine makes a machine with a user who may write what begins with "0/" to "9/", ten permissions that do not touch.
func benchMachine(b *testing.B, on bool) (m *Machine, revision uint64) {
	b.Helper()
	store := storagetest.Open(b)
	cfg := Config{Store: store, Publish: func([]kv.Change) {}, Watch: noLeases{}, Wanted: func(uint64) bool { return true }}
	var err error
	if cfg.Keys, err = mvcc.Open(store, mvcc.Config{}); err != nil {
		b.Fatal(err)
	}
	if cfg.Leases, err = lease.Load(store, 1); err != nil {
		b.Fatal(err)
	}
	if cfg.Auth, err = auth.Load(store); err != nil {
		b.Fatal(err)
	}
	if cfg.Cluster, err = membership.Load(store, 1); err != nil {
		b.Fatal(err)
	}
	batch := store.NewBatch()
	a := cfg.Auth
	errs := []error{
		a.AddUser(batch, auth.Root, "", false), a.GrantRole(batch, auth.Root, auth.Root),
		a.AddUser(batch, "user", "", false), a.AddRole(batch, "role"), a.GrantRole(batch, "user", "role"),
	}
	for i := range 10 {
		p := &authpb.Permission{PermType: authpb.WRITE, Key: fmt.Appendf(nil, "%d/", i), RangeEnd: fmt.Appendf(nil, "%d0", i)}
		errs = append(errs, a.GrantPermission(batch, "role", p))
	}
	if on {
		errs = append(errs, a.Enable(batch))
	}
	for _, err := range append(errs, batch.Commit(), batch.Close()) {
		if err != nil {
			b.Fatal(err)
		}
	}
	a.Publish()
	return New(cfg), a.State().Revision()
}

// noLeases listens to nothing.
type noLeases struct{}

// Granted implements Leases.
func (noLeases) Granted(lease.Lease) {}

// Revoked implements Leases.
func (noLeases) Revoked(kv.LeaseID) {}

// Checkpointed implements Leases.
func (noLeases) Checkpointed(lease.Lease) {}
