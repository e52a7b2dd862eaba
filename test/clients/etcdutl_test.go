package clients

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"holdfast/test/cli"
	"holdfast/test/etcd"
	"holdfast/test/run"
)

// raw is the gRPC API of one server, for what etcdctl cannot ask.
type raw struct {
	kv          pb.KVClient
	lease       pb.LeaseClient
	maintenance pb.MaintenanceClient
}

func dial(t *testing.T, s *run.Server) raw {
	t.Helper()
	conn := connect(t, s.Client)
	return raw{pb.NewKVClient(conn), pb.NewLeaseClient(conn), pb.NewMaintenanceClient(conn)}
}

// hash returns the server's hash of everything up to a revision; 0 is the current one.
func (r raw) hash(t *testing.T, revision int64) *pb.HashKVResponse {
	t.Helper()
	h, err := r.maintenance.HashKV(t.Context(), &pb.HashKVRequest{Revision: revision})
	if err != nil {
		t.Fatalf("hash at revision %d: %v", revision, err)
	}
	return h
}

// fill writes history with tombstones around a compaction, leases with keys, and a user. It returns the revision
// compacted at.
func (r raw) fill(t *testing.T) int64 {
	t.Helper()
	ctx := t.Context()
	ok := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	put := func(key, value string, lease int64) {
		t.Helper()
		ok(r.kv.Put(ctx, &pb.PutRequest{Key: []byte(key), Value: []byte(value), Lease: lease}))
	}
	remove := func(key, end string) {
		t.Helper()
		ok(r.kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end)}))
	}
	for _, id := range []int64{11, 12, 13} {
		ok(r.lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: id, TTL: 1000 * id}))
	}
	for i := range 300 {
		put(fmt.Sprintf("history/%02d", i%30), strings.Repeat("v", i), 0)
	}
	remove("history/03", "")
	remove("history/10", "history/15")
	compacted, err := r.kv.Put(ctx, &pb.PutRequest{Key: []byte("history/03"), Value: []byte("back")})
	ok(compacted, err)
	put("after", "1", 0)
	remove("after", "")
	for i := range 200 {
		put(fmt.Sprintf("history/%02d", i%20), fmt.Sprint(i), int64(i%2)*11)
	}
	ok(r.kv.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{
		{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("txn/a"), Value: []byte("1"), Lease: 12}}},
		{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("history/15"), RangeEnd: []byte("history/18")}}},
		{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("txn/b")}}},
	}}))
	ok(r.kv.Compact(ctx, &pb.CompactionRequest{Revision: compacted.Header.Revision, Physical: true}))
	put("history/03", "once more", 0)
	return compacted.Header.Revision
}

// write changes keys of its own until ctx ends; with only deletes when nothing else is allowed. It returns the number of
// changes.
func (r raw) write(ctx context.Context, t *testing.T, writer int, deletesOnly bool) int64 {
	for n := int64(0); ; n++ {
		key := fmt.Appendf(nil, "busy/%d%02d", writer, n%100)
		var err error
		if deletesOnly {
			_, err = r.kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: key})
		} else {
			_, err = r.kv.Put(ctx, &pb.PutRequest{Key: key, Value: fmt.Append(nil, n)})
		}
		if ctx.Err() != nil {
			return n
		}
		if err != nil {
			t.Errorf("write while the snapshot is taken: %v", err)
			return n
		}
	}
}

// TestEtcdutl takes snapshots while keys are written, lets etcd's etcdutl read and restore them, and starts etcd on
// what it restored: at the snapshot's revision etcd must give the hash that the server under test gives, and know the
// leases, alarms, users and history that were there.
func TestEtcdutl(t *testing.T) {
	server := serve(t, binary(t))
	ctl := cli.New(t, etcd.Binary(t, "etcdctl"), server)
	api := dial(t, server)
	compacted := api.fill(t)
	users := !unserved(t, ctl)["users"]
	if users {
		for _, line := range []string{"user add alice:pw", "role add reader", "role grant-permission reader read a z", "user grant-role alice reader"} {
			ctl.OK(t, strings.Fields(line)...)
		}
	}
	for i := range 1000 { // something for the second round to delete
		if _, err := api.kv.Put(t.Context(), &pb.PutRequest{Key: fmt.Appendf(nil, "busy/%03d", i), Value: []byte("0")}); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("writing", func(t *testing.T) { snapshotAndRestore(t, server, round{compacted: compacted, users: users}) })
	alarm := &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, Alarm: pb.AlarmType_NOSPACE, MemberID: api.hash(t, 0).Header.MemberId}
	if _, err := api.maintenance.Alarm(t.Context(), alarm); err != nil {
		t.Fatal(err)
	}
	t.Run("out of space and deleting", func(t *testing.T) {
		snapshotAndRestore(t, server, round{compacted: compacted, users: users, deletesOnly: true})
	})
}

// round is what holds while one snapshot is taken.
type round struct {
	compacted   int64 // the revision compacted at
	users       bool  // there are users
	deletesOnly bool  // there is an alarm, so that nothing but deletes is allowed
}

func snapshotAndRestore(t *testing.T, server *run.Server, r round) {
	ctl, api, dir := cli.New(t, etcd.Binary(t, "etcdctl"), server), dial(t, server), t.TempDir()
	file, restored := filepath.Join(dir, "snapshot.db"), filepath.Join(dir, "data")
	etcdutl := etcd.Binary(t, "etcdutl")

	ctx, stop := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	var changes atomic.Int64
	for writer := range 4 {
		writing.Go(func() { changes.Add(api.write(ctx, t, writer, r.deletesOnly)) })
	}
	ctl.OK(t, "snapshot", "save", file)
	stop()
	writing.Wait()

	var status struct{ Revision, TotalKey, TotalSize int64 }
	out := execute(t, dir, nil, etcdutl, "snapshot", "status", copyOf(t, file), "-w", "json")
	if err := json.Unmarshal([]byte(lastLine(out)), &status); err != nil {
		t.Fatalf("read %q: %v", out, err)
	}
	now := api.hash(t, 0)
	t.Logf("%d changes beside the snapshot, which is of revision %d; the store is at %d", changes.Load(), status.Revision, now.Header.Revision)
	if changes.Load() == 0 || status.Revision <= r.compacted || status.Revision > now.Header.Revision {
		t.Fatalf("the snapshot's revision is not between %d and %d", r.compacted, now.Header.Revision)
	}
	want := api.hash(t, status.Revision)
	line := fmt.Sprintf("%d, %d, %d", want.Hash, status.Revision, want.CompactRevision)
	if got := lastLine(execute(t, dir, nil, etcdutl, "hashkv", copyOf(t, file))); got != line {
		t.Errorf("etcdutl hashkv says %q, the server %q", got, line)
	}

	execute(t, dir, nil, etcdutl, "snapshot", "restore", file, "--data-dir="+restored,
		"--name=m", "--initial-cluster=m="+restoredPeer, "--initial-advertise-peer-urls="+restoredPeer)
	peer := serveWith(t, run.Config{Binary: etcd.Binary(t, "etcd"), Dir: dir, AdvertisePeer: restoredPeer})
	there, back := dial(t, peer), cli.New(t, etcd.Binary(t, "etcdctl"), peer)
	if got := there.hash(t, 0); got.Hash != want.Hash || got.HashRevision != status.Revision || got.CompactRevision != want.CompactRevision {
		t.Errorf("etcd on the restored folder: hash %d of revision %d compacted at %d, want %s",
			got.Hash, got.HashRevision, got.CompactRevision, line)
	}
	questions := []string{
		"get --prefix history/ -w json --rev=REVISION", "get txn/ --prefix -w json --rev=REVISION", "get busy/ --prefix -w json --rev=REVISION",
		"get history/03 -w json --rev=COMPACTED", "get --prefix history/ -w json --rev=MIDDLE", "get history/03 --rev=2",
		"lease list", "lease timetolive 000000000000000b --keys", "lease timetolive 000000000000000c --keys", "lease timetolive 000000000000000d --keys",
	}
	if r.users {
		questions = append(questions, "user get alice --detail", "user list", "role get reader")
	}
	for _, question := range questions {
		question = strings.NewReplacer("REVISION", fmt.Sprint(status.Revision), "COMPACTED", fmt.Sprint(r.compacted),
			"MIDDLE", fmt.Sprint(r.compacted+100)).Replace(question)
		c := cli.Call{Args: strings.Fields(question)}
		if want, got := withoutHeader(ctl.Run(t, c)), withoutHeader(back.Run(t, c)); sorted(want) != sorted(got) {
			t.Errorf("etcdctl %s\n--- under test\n%s\n--- etcd on the restored folder\n%s", question, want, got)
		}
	}
	alarms := back.OK(t, "alarm", "list")
	if strings.Contains(alarms, "NOSPACE") != r.deletesOnly {
		t.Errorf("etcd on the restored folder has the alarms %q", alarms)
	}
}

const restoredPeer = "http://127.0.0.1:12480"

// copyOf copies a file, because etcdutl changes those it looks at: their checksum is wrong afterwards.
func copyOf(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), filepath.Base(file))
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndex(text, "\n")+1:]
}

// withoutHeader drops the header of an answer in JSON, which tells of the server and the present.
func withoutHeader(text string) string {
	code, body, _ := strings.Cut(text, "\n")
	var answer map[string]json.RawMessage
	if json.Unmarshal([]byte(body), &answer) != nil {
		return text // not JSON
	}
	delete(answer, "header")
	rest, err := json.Marshal(answer)
	if err != nil {
		return err.Error()
	}
	return code + "\n" + string(rest)
}

// sorted brings the attached keys of a lease, which etcd lists in any order, into one.
func sorted(text string) string {
	head, list, ok := strings.Cut(text, "attached keys([")
	if !ok {
		return text
	}
	keys, tail, _ := strings.Cut(list, "])")
	fields := strings.Fields(keys)
	slices.Sort(fields)
	return head + strings.Join(fields, " ") + tail
}
