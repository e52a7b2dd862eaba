package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"holdfast/test/etcd"
)

// call is one request to a member that has no leader.
type call struct {
	name string
	do   func(ctx context.Context, m *member) (answer any, err error)
}

// callsWithoutQuorum has every method of the API that decides or reads something.
var callsWithoutQuorum = []call{
	{"Range", func(ctx context.Context, m *member) (any, error) {
		return m.kv().Range(ctx, &pb.RangeRequest{Key: []byte("k")})
	}},
	{"Range, serializable", func(ctx context.Context, m *member) (any, error) {
		r, err := m.kv().Range(ctx, &pb.RangeRequest{Key: []byte("k"), Serializable: true})
		return r.GetKvs(), err
	}},
	{"Range, serializable, with a leader", func(ctx context.Context, m *member) (any, error) {
		return m.kv().Range(needLeader(ctx), &pb.RangeRequest{Key: []byte("k"), Serializable: true})
	}},
	{"RangeStream", func(ctx context.Context, m *member) (any, error) {
		s, err := m.kv().RangeStream(ctx, &pb.RangeRequest{Key: []byte("k")})
		return first(s, err)
	}},
	{"RangeStream, serializable", func(ctx context.Context, m *member) (any, error) {
		s, err := m.kv().RangeStream(ctx, &pb.RangeRequest{Key: []byte("k"), Serializable: true})
		r, err := first(s, err)
		return r.GetRangeResponse().GetKvs(), err
	}},
	{"Put", func(ctx context.Context, m *member) (any, error) {
		return m.kv().Put(ctx, &pb.PutRequest{Key: []byte("k"), Value: []byte("new")})
	}},
	{"Put, with a leader", func(ctx context.Context, m *member) (any, error) {
		return m.kv().Put(needLeader(ctx), &pb.PutRequest{Key: []byte("k"), Value: []byte("new")})
	}},
	{"DeleteRange", func(ctx context.Context, m *member) (any, error) {
		return m.kv().DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte("k")})
	}},
	{"Txn that writes", func(ctx context.Context, m *member) (any, error) {
		return m.kv().Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("k")}}}}})
	}},
	{"Txn that reads", func(ctx context.Context, m *member) (any, error) { return m.kv().Txn(ctx, readTxn(false)) }},
	{"Txn that reads, serializable", func(ctx context.Context, m *member) (any, error) {
		r, err := m.kv().Txn(ctx, readTxn(true))
		return r.GetResponses(), err
	}},
	{"Compact", func(ctx context.Context, m *member) (any, error) {
		return m.kv().Compact(ctx, &pb.CompactionRequest{Revision: 2})
	}},
	{"Watch", func(ctx context.Context, m *member) (any, error) { return watchOnce(ctx, m) }},
	{"Watch, with a leader", func(ctx context.Context, m *member) (any, error) { return watchOnce(needLeader(ctx), m) }},
	{"LeaseGrant", func(ctx context.Context, m *member) (any, error) {
		return m.leases().LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: 99, TTL: 60})
	}},
	{"LeaseRevoke", func(ctx context.Context, m *member) (any, error) {
		return m.leases().LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: 1})
	}},
	{"LeaseKeepAlive", func(ctx context.Context, m *member) (any, error) {
		s, err := m.leases().LeaseKeepAlive(ctx)
		if err != nil {
			return nil, err
		}
		if err := s.Send(&pb.LeaseKeepAliveRequest{ID: 1}); err != nil {
			return nil, err
		}
		return s.Recv()
	}},
	{"LeaseTimeToLive", func(ctx context.Context, m *member) (any, error) {
		return m.leases().LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: 1})
	}},
	{"LeaseLeases", func(ctx context.Context, m *member) (any, error) {
		r, err := m.leases().LeaseLeases(ctx, &pb.LeaseLeasesRequest{})
		return r.GetLeases(), err
	}},
	{"MemberAdd", func(ctx context.Context, m *member) (any, error) {
		return m.membership().MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: []string{"http://127.0.0.1:1"}})
	}},
	{"MemberAdd, learner", func(ctx context.Context, m *member) (any, error) {
		return m.membership().MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: []string{"http://127.0.0.1:1"}, IsLearner: true})
	}},
	{"MemberRemove", func(ctx context.Context, m *member) (any, error) {
		return m.membership().MemberRemove(ctx, &pb.MemberRemoveRequest{ID: m.id.Load()})
	}},
	{"MemberRemove of nobody", func(ctx context.Context, m *member) (any, error) {
		return m.membership().MemberRemove(ctx, &pb.MemberRemoveRequest{ID: 1})
	}},
	{"MemberUpdate", func(ctx context.Context, m *member) (any, error) {
		return m.membership().MemberUpdate(ctx, &pb.MemberUpdateRequest{ID: m.id.Load(), PeerURLs: []string{m.peerURL()}})
	}},
	{"MemberPromote", func(ctx context.Context, m *member) (any, error) {
		return m.membership().MemberPromote(ctx, &pb.MemberPromoteRequest{ID: m.id.Load()})
	}},
	{"MemberList", func(ctx context.Context, m *member) (any, error) {
		r, err := m.membership().MemberList(ctx, &pb.MemberListRequest{})
		return len(r.GetMembers()), err
	}},
	{"MemberList, linearizable", func(ctx context.Context, m *member) (any, error) {
		return m.membership().MemberList(ctx, &pb.MemberListRequest{Linearizable: true})
	}},
	{"Alarm", func(ctx context.Context, m *member) (any, error) {
		r, err := m.maintenance().Alarm(ctx, &pb.AlarmRequest{})
		return r.GetAlarms(), err
	}},
	{"Alarm raised", func(ctx context.Context, m *member) (any, error) {
		return m.maintenance().Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: m.id.Load(), Alarm: pb.AlarmType_NOSPACE})
	}},
	{"Alarm disarmed", func(ctx context.Context, m *member) (any, error) {
		return m.maintenance().Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, Alarm: pb.AlarmType_NOSPACE})
	}},
	{"Status", func(ctx context.Context, m *member) (any, error) {
		r, err := m.maintenance().Status(ctx, &pb.StatusRequest{})
		return fmt.Sprintf("leader %d, errors %q", r.GetLeader(), r.GetErrors()), err
	}},
	{"Defragment", func(ctx context.Context, m *member) (any, error) {
		_, err := m.maintenance().Defragment(ctx, &pb.DefragmentRequest{})
		return "done", err
	}},
	{"Hash", func(ctx context.Context, m *member) (any, error) {
		_, err := m.maintenance().Hash(ctx, &pb.HashRequest{})
		return "a hash", err
	}},
	{"HashKV", func(ctx context.Context, m *member) (any, error) {
		r, err := m.maintenance().HashKV(ctx, &pb.HashKVRequest{Revision: 2})
		return fmt.Sprintf("hash %x of revision %d", r.GetHash(), r.GetHashRevision()), err
	}},
	{"Snapshot", func(ctx context.Context, m *member) (any, error) {
		s, err := m.maintenance().Snapshot(ctx, &pb.SnapshotRequest{})
		_, err = first(s, err)
		return "a snapshot", err
	}},
	{"MoveLeader", func(ctx context.Context, m *member) (any, error) {
		return m.maintenance().MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: m.id.Load()})
	}},
	{"GET /health", func(_ context.Context, m *member) (any, error) { return get(m, "/health") }},
	{"GET /health?serializable=true", func(_ context.Context, m *member) (any, error) { return get(m, "/health?serializable=true") }},
	{"GET /version", func(_ context.Context, m *member) (any, error) { return get(m, "/version") }},
}

// answerTimeout is longer than any of the members' own: etcd's reads take twice its seven seconds.
const answerTimeout = 16 * time.Second

func needLeader(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "hasleader", "true")
}

func readTxn(serializable bool) *pb.TxnRequest {
	return &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("k"), Serializable: serializable}}}}}
}

// first is the first message of a stream.
func first[A any](s grpc.ServerStreamingClient[A], err error) (*A, error) {
	if err != nil {
		return nil, err
	}
	return s.Recv()
}

// watchOnce tells how a watch from the beginning goes on: the events there are, and then its end, if it comes.
func watchOnce(ctx context.Context, m *member) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*election)
	defer cancel()
	s, err := pb.NewWatchClient(m.conn).Watch(ctx)
	if err != nil {
		return nil, err
	}
	create := &pb.WatchCreateRequest{Key: []byte("k"), StartRevision: 1}
	if err := s.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}); err != nil {
		return nil, err
	}
	var said []string
	for {
		r, err := s.Recv()
		// The member knows the deadline too, and may end the stream a moment before.
		if errors.Is(ctx.Err(), context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded {
			return append(said, "goes on"), nil
		}
		if err != nil {
			return nil, fmt.Errorf("after %v: %w", said, err)
		}
		said = append(said, fmt.Sprintf("created %v, canceled %v %q, %d events", r.GetCreated(), r.GetCanceled(), r.GetCancelReason(), len(r.GetEvents())))
	}
}

func get(m *member, path string) (any, error) {
	r, err := (&http.Client{Timeout: 15 * time.Second}).Get("http://" + m.cluster.net.clientAddress(m.name) + path)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	return fmt.Sprintf("%d %s", r.StatusCode, strings.TrimSpace(string(text))), err
}

// survivor is a cluster of three of which two are down: the leader and another, or both others.
func survivor(t *testing.T, p program, leads bool) (*cluster, *member) {
	t.Helper()
	c := startCluster(t, p, 3, false)
	ctx, cancel := context.WithTimeout(t.Context(), readyTimeout)
	defer cancel()
	leader, err := c.leader()
	if err != nil {
		t.Fatal(err)
	}
	m := leader
	if !leads {
		m = c.others(leader)[0]
	}
	if _, err := m.leases().LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: 1, TTL: leaseLong}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.kv().Put(ctx, &pb.PutRequest{Key: []byte("k"), Value: []byte("v"), Lease: 1}); err != nil {
		t.Fatal(err)
	}
	if err := endAll(c.others(m), false); err != nil {
		t.Fatal(err)
	}
	for {
		r, err := m.maintenance().Status(ctx, &pb.StatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if r.GetLeader() == 0 {
			return c, m
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// answers are what a member without a quorum says to each call, all of them made at once.
func answers(m *member) (said map[string]string, took map[string]time.Duration) {
	said, took = map[string]string{}, map[string]time.Duration{}
	var mu sync.Mutex // guards said and took
	var calls sync.WaitGroup
	for _, one := range callsWithoutQuorum {
		calls.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
			defer cancel()
			began := time.Now()
			answer, err := one.do(ctx, m)
			text := fmt.Sprint(answer)
			if err != nil {
				text = fmt.Sprintf("%s: %s", status.Code(err), status.Convert(err).Message())
			}
			mu.Lock()
			defer mu.Unlock()
			said[one.name], took[one.name] = text, time.Since(began)
		})
	}
	calls.Wait()
	return said, took
}

// Goal (A11): a member that has lost the majority answers every method as etcd's does, with the same codes and words: it serves
// those who do not ask for the newest, refuses the others, and goes on when the majority is back. Method: the same calls to a
// Holdfast and an etcd that are left alone. How long they take is recorded.
func TestA11WithoutQuorum(t *testing.T) {
	t.Parallel()
	if *programFlag == "etcd" {
		t.Skip("compares Holdfast with etcd")
	}
	for _, leads := range []bool{false, true} {
		if leads && !long() {
			continue // a leader that has lost the others is like a follower once it knows
		}
		t.Run(fmt.Sprintf("leader %v", leads), func(t *testing.T) {
			t.Parallel()
			ours, m := survivor(t, holdfastProgram(t), leads)
			_, other := survivor(t, etcdProgram(t), leads)
			var got, want map[string]string
			var gotTook, wantTook map[string]time.Duration
			var both sync.WaitGroup
			both.Go(func() { got, gotTook = answers(m) })
			both.Go(func() { want, wantTook = answers(other) })
			both.Wait()
			for _, one := range callsWithoutQuorum {
				t.Logf("%-36s %5.2f s, etcd %5.2f s: %.120s", one.name, gotTook[one.name].Seconds(), wantTook[one.name].Seconds(), want[one.name])
				if got[one.name] != want[one.name] {
					t.Errorf("%s\n  says %s\n  etcd %s", one.name, got[one.name], want[one.name])
				}
			}
			for _, back := range ours.others(m) {
				if err := back.launch(); err != nil {
					t.Fatal(err)
				}
			}
			if err := ours.awaitAll(); err != nil {
				t.Fatal(err)
			}
			h := newHistory()
			h.leases[1] = &leaseLife{id: 1, ttl: leaseLong}
			h.leases[99] = &leaseLife{id: 99, ttl: 60}
			if err := ours.disarm(); err != nil { // what was asked for may have happened since
				t.Fatal(err)
			}
			if _, err := ours.settle(h); err != nil {
				t.Fatal(err)
			}
			if err := ours.breached(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Goal (A12): three members survive the loss of one, five of two, whichever they are. Method: each member of three, then pairs of
// five, the leader always among the first, are killed and come back, while clients work and are judged.
func TestA12Survive(t *testing.T) {
	t.Parallel()
	for _, size := range []int{3, 5} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			r := newRound(t, startCluster(t, chosen(t), size, false), 12)
			if err := r.judged(func() error { return r.killEvery((size - 1) / 2) }); err != nil {
				r.fail(err, "go test ./test/cluster -run TestA12Survive")
			}
		})
	}
}

// killEvery kills so many members at once: first the leader and those after it, then the next. All others must serve meanwhile.
func (r *round) killEvery(count int) error {
	leader, err := r.cluster.leader()
	if err != nil {
		return err
	}
	members := r.cluster.present()
	at := slices.Index(members, leader)
	for n := range len(members) {
		var down []*member
		for i := range count {
			down = append(down, members[(at+n+i)%len(members)])
		}
		r.note("%v are down", down)
		began := time.Now()
		if err := endAll(down, false); err != nil {
			return err
		}
		if err := r.cluster.awaitAll(); err != nil {
			return fmt.Errorf("with %v down: %w", down, err)
		}
		r.note("the others serve, %v later", time.Since(began).Round(time.Millisecond))
		for _, m := range down {
			if err := m.launch(); err != nil {
				return err
			}
		}
		if err := r.cluster.awaitAll(); err != nil {
			return err
		}
	}
	return nil
}

// Goal (E3): a write sent to a follower is answered when a majority has it, and not before; without a majority it is an error, and
// nobody sees it. Method: with no way between the members, a write to a follower and one to the leader have no answer, and
// nothing is read anywhere; when the ways are back, both are answered or fail, and all members agree on which.
func TestE3WritePath(t *testing.T) {
	t.Parallel()
	c := startCluster(t, chosen(t), 3, false)
	leader, err := c.leader()
	if err != nil {
		t.Fatal(err)
	}
	var ways []way
	for _, a := range c.present() {
		for _, b := range c.others(a) {
			ways = append(ways, way{a.name, b.name})
		}
	}
	if err := c.net.set(condition{cut: true}, ways...); err != nil {
		t.Fatal(err)
	}
	type result struct {
		key string
		err error
	}
	results := make(chan result, 2)
	for key, m := range map[string]*member{"k/leader": leader, "k/follower": c.others(leader)[0]} {
		go func() { // ends with the answer
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			_, err := m.kv().Put(ctx, &pb.PutRequest{Key: []byte(key), Value: []byte("v")})
			results <- result{key, err}
		}()
	}
	select {
	case r := <-results:
		if r.err == nil {
			t.Fatalf("the write of %s was acknowledged by a member that nobody hears", r.key)
		}
		results <- r
	case <-time.After(election / 2):
	}
	for _, m := range c.present() {
		r, err := m.kv().Range(t.Context(), &pb.RangeRequest{Key: []byte(everything.key), RangeEnd: everything.rangeEnd(), Serializable: true})
		if err != nil || len(r.GetKvs()) > 0 {
			t.Fatalf("%s shows what is not decided: %v, %v", m, r.GetKvs(), err)
		}
	}
	if err := c.net.heal(false); err != nil {
		t.Fatal(err)
	}
	outcome := map[string]error{}
	for range 2 {
		r := <-results
		outcome[r.key] = r.err
		t.Logf("%s: %v", r.key, r.err)
	}
	if _, err := c.settle(newHistory()); err != nil {
		t.Fatal(err)
	}
	r, err := leader.kv().Range(t.Context(), &pb.RangeRequest{Key: []byte(everything.key), RangeEnd: everything.rangeEnd()})
	if err != nil {
		t.Fatal(err)
	}
	for key, err := range outcome {
		there := slices.ContainsFunc(rowsOf(r.GetKvs()), func(e event) bool { return e.key == key })
		if err == nil && !there {
			t.Errorf("%s was acknowledged and is not there", key)
		}
	}
	if err := c.breached(); err != nil {
		t.Fatal(err)
	}
}

// Goal (A2): with one of three down at any time, clients go on, and a snapshot taken meanwhile is a state that there was. Method:
// one member after the other is killed while a member that is up streams its snapshot; etcdutl restores it, and its hash is that of
// the cluster at the revision of the snapshot.
func TestA2SnapshotWhileMembersFall(t *testing.T) {
	t.Parallel()
	r := newRound(t, startCluster(t, chosen(t), 3, false), 2)
	if err := r.judged(func() error {
		for _, down := range r.cluster.present() {
			time.Sleep(election) // something to have in the snapshot
			down.kill()
			if err := r.cluster.awaitAll(); err != nil {
				return err
			}
			if err := r.snapshotAndRestore(r.cluster.others(down)[0], etcd.Binary(t, "etcdutl")); err != nil {
				return fmt.Errorf("with %s down: %w", down, err)
			}
			if err := down.launch(); err != nil {
				return err
			}
			if err := r.cluster.awaitAll(); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		r.fail(err, "go test ./test/cluster -run TestA2SnapshotWhileMembersFall")
	}
}
