package ops

import (
	"flag"
	"fmt"
	"io/fs"
	"path/filepath"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// onDisk is what the store of a member takes.
func onDisk(t *testing.T, data string) (total int64) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(data, "member"), func(path string, e fs.DirEntry, err error) error {
		if e != nil && e.IsDir() && e.Name() == "wal" {
			return fs.SkipDir
		}
		if err != nil || e.IsDir() {
			return nil // a file may go while it is looked at
		}
		if info, err := e.Info(); err == nil {
			total += info.Size()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return total
}

const mega = 1 << 20

var megabytes = flag.Int64("ops.mb", 64, "how much is written to see the sizes that a member tells, in MiB")

// TestA6Sizes writes, deletes, compacts and defragments, and holds the sizes a member tells against what it was given and what its
// files take. Space comes back whether it is defragmented or not.
func TestA6Sizes(t *testing.T) {
	written := *megabytes * mega
	server := one(t, t.TempDir())
	c := dial(t, server.Client)
	for i := range written / mega {
		if err := c.put(fmt.Sprint("key", i), noise(mega)); err != nil {
			t.Fatal(err)
		}
	}
	full := c.status()
	if full.DbSizeInUse < written || full.DbSizeInUse > written*11/10 {
		t.Errorf("%d bytes are in use after %d were written", full.DbSizeInUse, written)
	}
	if files := onDisk(t, server.Data); full.DbSize < full.DbSizeInUse || full.DbSize > max(files, full.DbSizeInUse)*3/2 {
		t.Errorf("the size is %d, with %d in use and %d in files", full.DbSize, full.DbSizeInUse, files)
	}
	c.clear()
	compacted := c.status()
	if compacted.DbSizeInUse > mega {
		t.Errorf("%d bytes are in use when all is deleted and compacted", compacted.DbSizeInUse)
	}
	if compacted.DbSize < compacted.DbSizeInUse {
		t.Errorf("the size is %d, with %d in use", compacted.DbSize, compacted.DbSizeInUse)
	}
	t.Logf("%d bytes written: size %d, in use %d; when all is deleted and compacted: size %d, in use %d, in files %d",
		written, full.DbSize, full.DbSizeInUse, compacted.DbSize, compacted.DbSizeInUse, onDisk(t, server.Data))
	if _, err := c.Defragment(c.ctx, &pb.DefragmentRequest{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the space to come back", func() error {
		s, files := c.status(), onDisk(t, server.Data)
		return mustNot(s.DbSize > written/10 || files > written/10, "the size is %d, files take %d", s.DbSize, files)
	})
	if err := c.put("after", nil); err != nil {
		t.Error(err)
	}
}

// TestA7Quota fills three members of 64 MiB through one of them. All refuse what needs space, in etcd's words, and carry out what
// does not; once there is room and the alarm is disarmed, all write again.
func TestA7Quota(t *testing.T) {
	const quota = 64 * mega
	clients := three(t, fmt.Sprint("--quota-backend-bytes=", quota))
	refused := func(err error) bool {
		s := status.Convert(err)
		return s.Code() == codes.ResourceExhausted && s.Message() == "etcdserver: mvcc: database space exceeded"
	}
	n := 0
	var err error
	for ; err == nil && n <= 2*quota/mega; n++ {
		err = clients[0].put(fmt.Sprint("key", n), noise(mega))
	}
	if !refused(err) || n < quota/mega*9/10 {
		t.Fatalf("after %d MiB: %v", n, err)
	}
	for i, c := range clients {
		eventually(t, "the alarm everywhere", func() error {
			return mustNot(len(c.status().Errors) == 0, "member %d has none", i)
		})
		if err := c.put("small", []byte("v")); !refused(err) {
			t.Errorf("member %d: a put answers %v", i, err)
		}
		_, err := c.Txn(c.ctx, &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("k")}}}}})
		if !refused(err) {
			t.Errorf("member %d: a transaction that puts answers %v", i, err)
		}
		if _, err := pb.NewLeaseClient(c.conn).LeaseGrant(c.ctx, &pb.LeaseGrantRequest{TTL: 60}); !refused(err) {
			t.Errorf("member %d: a grant answers %v", i, err)
		}
		if r, err := c.Range(c.ctx, &pb.RangeRequest{Key: []byte("key5"), KeysOnly: true}); err != nil || len(r.Kvs) != 1 {
			t.Errorf("member %d: a range answers %v, %v", i, r, err)
		}
		if _, err := c.DeleteRange(c.ctx, &pb.DeleteRangeRequest{Key: fmt.Append(nil, "key", i)}); err != nil {
			t.Errorf("member %d: a deletion answers %v", i, err)
		}
		if _, err := c.Defragment(c.ctx, &pb.DefragmentRequest{}); err != nil {
			t.Errorf("member %d: a defragmentation answers %v", i, err)
		}
	}
	clients[1].clear()
	if err := clients[2].put("small", []byte("v")); !refused(err) {
		t.Errorf("before the alarm is disarmed a put answers %v", err)
	}
	alarms, err := clients[2].Alarm(clients[2].ctx, &pb.AlarmRequest{})
	if err != nil || len(alarms.Alarms) == 0 {
		t.Fatalf("alarms %v, %v", alarms, err)
	}
	for _, a := range alarms.Alarms {
		if a.Alarm != pb.AlarmType_NOSPACE {
			t.Errorf("an alarm %v", a)
		}
		if _, err := clients[2].Alarm(clients[2].ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: a.MemberID, Alarm: a.Alarm}); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range clients {
		if err := c.put(fmt.Sprint("again", i), noise(mega)); err != nil {
			t.Errorf("member %d: with room again a put answers %v", i, err)
		}
	}
}
