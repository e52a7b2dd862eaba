package server

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"holdfast/apply"
	"holdfast/kv"
	"holdfast/membership"
	"holdfast/raftlog"
)

const mib = 1 << 20

// TestSpaceGuard is the table of disks: how much is kept free on each, and how large files of the raft log become.
func TestSpaceGuard(t *testing.T) {
	for _, c := range []struct {
		name    string
		total   uint64
		reserve uint64
		segment int64
	}{
		{"tiny", 8 * mib, mib, mib},
		{"small", 512 * mib, 64 * mib, 16 * mib},
		{"just enough", 2048 * mib, 256 * mib, raftlog.SegmentBytesDefault},
		{"large", 1 << 50, 256 * mib, raftlog.SegmentBytesDefault},
	} {
		cfg, _ := memoryConfig()
		disk := &fullFS{FS: cfg.FS, total: c.total, free: c.total}
		g, err := newSpaceGuard(disk, "data", "wal")
		if err != nil {
			t.Fatal(err)
		}
		if g.store.reserve != c.reserve || g.segmentBytes() != c.segment {
			t.Errorf("%s: keeps %d free, segments of %d", c.name, g.store.reserve, g.segmentBytes())
		}
		for _, step := range []struct {
			free uint64
			low  bool
		}{{c.reserve, false}, {c.reserve - 1, true}, {0, true}, {c.reserve, false}} {
			disk.set(step.free, nil)
			if err := g.look(slog.New(slog.DiscardHandler)); err != nil {
				t.Fatal(err)
			}
			if g.low.Load() != step.low {
				t.Errorf("%s: with %d free low is %t", c.name, step.free, g.low.Load())
			}
		}
	}
}

// TestSpaceGuardWhereTheDiskDoesNotTell: nothing is known of a file system in memory, and nothing is refused.
func TestSpaceGuardWhereTheDiskDoesNotTell(t *testing.T) {
	cfg, _ := memoryConfig()
	g, err := newSpaceGuard(cfg.FS, "data", "wal")
	if err != nil || g.low.Load() || g.segmentBytes() != raftlog.SegmentBytesDefault {
		t.Errorf("%+v, %v", g, err)
	}
	if err := g.watch(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if _, err := newSpaceGuard(&fullFS{FS: cfg.FS, err: errors.New("no such disk")}, "data", "wal"); err == nil {
		t.Error("a disk that cannot be asked is accepted")
	}
}

func (m *member) tryDelete(key string) error {
	m.t.Helper()
	q, d := draft(m.t, kv.KindDeleteRange, &pb.DeleteRangeRequest{Key: []byte(key)}, kv.DecodeDeleteRange)
	_, err := m.DeleteRange(m.t.Context(), q, d)
	return err
}

func (m *member) tryTxn(ops ...*pb.RequestOp) error {
	m.t.Helper()
	q, d := draft(m.t, kv.KindTxn, &pb.TxnRequest{Success: ops}, kv.DecodeTxn)
	_, err := m.Txn(m.t.Context(), q, d)
	return err
}

func opPut(key, value string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key), Value: []byte(value)}}}
}

func opDelete(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key)}}}
}

// TestFullDisk fills the disk up and empties it: what needs space is refused meanwhile, what gives space back is not, no
// alarm stays behind, and a disk that cannot be asked any more ends the member.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, fs := memoryConfig()
		disk := &fullFS{FS: fs, total: 1 << 40, free: 1 << 40}
		cfg.FS = disk
		m := start(t, cfg)
		m.put("k", "v")
		disk.set(mib, nil)
		time.Sleep(spaceCheck + time.Millisecond)
		_, grantErr := m.LeaseGrant(t.Context(), kv.LeaseGrantRequest{TTL: 10})
		_, putErr := m.tryPut(t.Context(), "k", "w", 0)
		for what, err := range map[string]error{"put": putErr, "grant": grantErr, "txn": m.tryTxn(opPut("k", "w"))} {
			if !errors.Is(err, apply.ErrNoSpace) {
				t.Errorf("%s on a full disk: %v", what, err)
			}
		}
		if s := m.Status(); len(s.Errors) != 1 || !strings.Contains(s.Errors[0], "disk is nearly full") {
			t.Errorf("status says %q", s.Errors)
		}
		_, compactErr := m.Compact(t.Context(), kv.CompactRequest{Revision: 2, Physical: true})
		for what, err := range map[string]error{"delete": m.tryDelete("k"), "compact": compactErr, "txn": m.tryTxn(opDelete("k"))} {
			if err != nil {
				t.Errorf("%s on a full disk: %v", what, err)
			}
		}
		disk.set(1<<40, nil)
		time.Sleep(spaceCheck + time.Millisecond)
		m.put("k", "x")
		if s := m.Status(); len(s.Errors) != 0 {
			t.Errorf("status says %q with space again", s.Errors)
		}
		disk.set(0, errors.New("gone"))
		time.Sleep(spaceCheck + time.Millisecond)
		select {
		case <-m.Stopped():
		default:
			t.Error("the member goes on with a disk that cannot be asked")
		}
		m.wantRunError = true
	})
}

// TestQuota reaches the quota: the request that would cross it raises the alarm and is refused, as all that need space
// are until there is space and the alarm is taken back.
func TestQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, _ := memoryConfig()
		cfg.Quota = 4096
		var said strings.Builder
		cfg.Log = slog.New(slog.NewTextHandler(&said, nil))
		m := start(t, cfg)
		var err error
		n := 0
		for ; err == nil && n < 100; n++ {
			_, err = m.tryPut(t.Context(), "k", strings.Repeat("x", 500), 0)
		}
		if !errors.Is(err, apply.ErrNoSpace) || n < 5 || n > 8 {
			t.Fatalf("put %d of 500 bytes with a quota of 4096: %v", n, err)
		}
		alarm := membership.Alarm{Member: m.ID(), Type: membership.AlarmNoSpace}
		if alarms, err := m.Alarm(t.Context(), AlarmGet, membership.Alarm{}); err != nil || len(alarms) != 1 || alarms[0] != alarm {
			t.Errorf("alarms %v, %v", alarms, err)
		}
		if s := m.Status(); s.SizeInUse >= 4096 || len(s.Errors) != 1 || !strings.Contains(s.Errors[0], "alarm:NOSPACE") {
			t.Errorf("%d bytes are in use, status says %q", s.SizeInUse, s.Errors)
		}
		if _, err := m.tryPut(t.Context(), "k", "", 0); !errors.Is(err, apply.ErrNoSpace) {
			t.Errorf("a small put under the alarm: %v", err)
		}
		if _, err := m.Compact(t.Context(), kv.CompactRequest{Revision: m.Header().Revision, Physical: true}); err != nil {
			t.Error(err)
		}
		if _, err := m.tryPut(t.Context(), "k", "", 0); !errors.Is(err, apply.ErrNoSpace) {
			t.Errorf("the alarm went by itself: %v", err)
		}
		if _, err := m.Alarm(t.Context(), AlarmDeactivate, alarm); err != nil {
			t.Error(err)
		}
		m.put("k", "y")
		m.stop()
		if n := strings.Count(said.String(), "the quota is reached"); n != 1 {
			t.Errorf("the log says %d times that the quota is reached", n)
		}
	})
}

// TestQuotaReachedInTheLog: an entry that was in the log when the quota was reached is carried out and answered with the
// refusal (package apply tests that), and its caller hears of it only when the alarm is in force.
func TestQuotaReachedInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, fs := memoryConfig()
		disk := newStuckFS(fs)
		cfg.FS = disk
		m := start(t, cfg)
		release := disk.stick()
		const id = 1
		w := m.waiters.add(t.Context(), id, time.Now(), time.Now().Add(time.Hour))
		m.answer(apply.Result{ID: id, Index: 1 << 40, Err: apply.ErrNoSpace, Full: true})
		time.Sleep(time.Second)
		if len(w.done) != 0 {
			t.Error("answered before the alarm is in the log")
		}
		release()
		if r := <-w.done; !errors.Is(r.Err, apply.ErrNoSpace) || !m.HasAlarm(membership.AlarmNoSpace) {
			t.Errorf("answered %v, the alarm is set: %t", r.Err, m.HasAlarm(membership.AlarmNoSpace))
		}
		w = m.waiters.add(t.Context(), id, time.Now(), time.Now().Add(time.Hour))
		m.answer(apply.Result{ID: id, Index: 1 << 40, Err: apply.ErrNoSpace, Full: true})
		if len(w.done) != 1 {
			t.Error("with the alarm set the answer waits")
		}
	})
}

// TestSizeIsNotBelowItsPart: values that compress well take less on disk than they count for the quota; what is said of the size
// is not below the part of it that is in use.
func TestSizeIsNotBelowItsPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, _ := memoryConfig()
		m := start(t, cfg)
		for range 20 {
			m.put("k", strings.Repeat("x", 50<<10))
		}
		if err := m.store.Flush(); err != nil {
			t.Fatal(err)
		}
		s := m.Status()
		if disk := m.store.Size(); disk >= s.SizeInUse {
			t.Fatalf("%d bytes on disk, %d in use: nothing is shown", disk, s.SizeInUse)
		}
		if s.Size < s.SizeInUse {
			t.Errorf("size %d, in use %d", s.Size, s.SizeInUse)
		}
	})
}
