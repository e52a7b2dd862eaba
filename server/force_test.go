package server

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"holdfast/kv"
	"holdfast/membership"
	"holdfast/raftlog"
)

// TestForceNewCluster kills three members and starts one alone: it has what was acknowledged, serves, and is the only member
// under the old ids. The setting may stay, or go; the others hear that they were removed.
func TestForceNewCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3)
		follower := c.follower()
		c.members[follower].put("k", "v")
		cluster, id := c.members[follower].ClusterID(), c.members[follower].ID()
		for i := range c.members {
			c.kill(i)
		}
		m := c.members[follower]
		for _, force := range []bool{true, true, false} {
			m.cfg.ForceNewCluster = force
			c.start(follower)
			c.awaitReady()
			if got := m.get("k"); got != "v" || m.ID() != id || m.ClusterID() != cluster {
				t.Errorf("forced: %v: %q at %v of %x", force, got, m.ID(), m.ClusterID())
			}
			m.put("alone", fmt.Sprint(force))
			members, err := m.Members(t.Context(), true)
			if err != nil || len(members) != 1 || members[0].ID != id {
				t.Errorf("forced: %v: members %+v, %v", force, members, err)
			}
			if !force {
				break
			}
			c.kill(follower)
		}
		other := (follower + 1) % 3
		c.start(other)
		c.members[other].wantRunError = true
		select {
		case <-c.members[other].Stopped():
		case <-time.After(patience):
			t.Error("another member comes back and does not hear that it was removed")
		}
	})
}

// TestForceSurvivesCrashes crashes before each operation on the disk while a member of three is forced. Started as before it
// has nothing of the force in its log, or all of it; forced again it is alone, with all that its log had.
func TestForceSurvivesCrashes(t *testing.T) {
	disk := newCrashingFS(drawSeed(t))
	cfg, log := threeWithTail(t, disk)
	disk.crashes = nil
	cfg.ForceNewCluster = true
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n := disk.crash()
	crashes := disk.crashes[:n+2]
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	before, forced := 0, 0
	for i, fs := range crashes {
		log.FS = fs
		l, rec, err := raftlog.OpenAfter(log, 0)
		if err != nil {
			t.Fatalf("crash %d: %v", i, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		switch {
		case rec.Last == 6 && rec.State.Commit == 4:
			before++
		case rec.Last == 8 && rec.State == raftlog.HardState{Term: 3, Vote: uint64(cfg.Founders[0].ID), Commit: 8}:
			forced++
		default:
			t.Errorf("crash %d: the log ends at %d, with %+v", i, rec.Last, rec.State)
		}
	}
	if before == 0 || forced == 0 {
		t.Errorf("%d crashes before, %d after: the test shows nothing", before, forced)
	}
	for _, at := range []int{0, len(crashes) / 2, len(crashes) - 1} {
		synctest.Test(t, func(t *testing.T) {
			cfg.FS = crashes[at]
			m := start(t, cfg)
			members, err := m.Members(t.Context(), true)
			if err != nil || len(members) != 1 || m.get("known") != "yes" || m.get("tail") != "yes" {
				t.Errorf("crash %d: members %+v, %v; keys %q, %q", at, members, err, m.get("known"), m.get("tail"))
			}
		})
	}
}

// threeWithTail leaves on a disk a founder of three whose log has a put that it knows to be committed, and two more.
func threeWithTail(t *testing.T, disk *crashingFS) (Config, raftlog.Config) {
	t.Helper()
	cfg := testConfig("data")
	cfg.FS = disk
	for i := range 2 {
		url := fmt.Sprintf("http://other%d:2380", i)
		cfg.Founders = append(cfg.Founders, membership.Member{ID: membership.MemberID([]string{url}, "", 0), Name: url, PeerURLs: []string{url}})
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	save := raftlog.Save{State: raftlog.HardState{Term: 2, Commit: 4}}
	for i, put := range []string{"known", "tail", "tail"} {
		data, err := proto.Marshal(&pb.InternalRaftRequest{
			Header: &pb.RequestHeader{ID: uint64(i + 1)}, Put: &pb.PutRequest{Key: []byte(put), Value: []byte("yes")},
		})
		if err != nil {
			t.Fatal(err)
		}
		save.Entries = append(save.Entries, &raftpb.Entry{Term: proto.Uint64(2), Index: proto.Uint64(uint64(4 + i)), Data: data})
	}
	if err := s.raftLog.Append(save); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return cfg, raftlog.Config{Dir: "data/member/wal", Log: cfg.Log, SegmentBytes: cfg.SegmentBytes}
}

// TestForcedChanges is the table of what has to change for a member to be alone.
func TestForcedChanges(t *testing.T) {
	entry := func(typ raftpb.ConfChangeType, id uint64) *raftpb.Entry {
		data, err := proto.Marshal(&raftpb.ConfChange{Type: typ.Enum(), NodeId: proto.Uint64(id)})
		if err != nil {
			t.Fatal(err)
		}
		return &raftpb.Entry{Type: raftpb.EntryConfChange.Enum(), Data: data}
	}
	for name, c := range map[string]struct {
		voters, learners []uint64
		committed        []*raftpb.Entry
		want             []string // "refused", or the changes
	}{
		"alone":                   {[]uint64{1}, nil, nil, nil},
		"a voter of three":        {[]uint64{3, 1, 2}, nil, nil, []string{"remove 2", "remove 3"}},
		"with a learner":          {[]uint64{1}, []uint64{9}, nil, []string{"remove 9"}},
		"a learner":               {[]uint64{2}, []uint64{1}, nil, []string{"add 1", "remove 2"}},
		"one comes, one goes":     {[]uint64{1, 2}, nil, []*raftpb.Entry{entry(raftpb.ConfChangeAddNode, 3), entry(raftpb.ConfChangeRemoveNode, 2)}, []string{"remove 3"}},
		"a learner comes":         {[]uint64{1}, nil, []*raftpb.Entry{entry(raftpb.ConfChangeAddLearnerNode, 3), {Data: []byte("put")}}, []string{"remove 3"}},
		"it is promoted itself":   {[]uint64{2}, []uint64{1}, []*raftpb.Entry{entry(raftpb.ConfChangeAddNode, 1)}, []string{"remove 2"}},
		"another has another URL": {[]uint64{1, 2}, nil, []*raftpb.Entry{entry(raftpb.ConfChangeUpdateNode, 2)}, []string{"remove 2"}},
		"removed":                 {[]uint64{1, 2}, nil, []*raftpb.Entry{entry(raftpb.ConfChangeRemoveNode, 1)}, []string{"refused"}},
		"not heard of itself":     {[]uint64{2, 3}, nil, nil, []string{"refused"}},
	} {
		changes, err := forcedChanges(1, &raftpb.ConfState{Voters: c.voters, Learners: c.learners}, c.committed)
		var got []string
		for _, change := range changes {
			verb := map[raftpb.ConfChangeType]string{raftpb.ConfChangeAddNode: "add", raftpb.ConfChangeRemoveNode: "remove"}[change.GetType()]
			got = append(got, fmt.Sprint(verb, " ", change.GetNodeId()))
			read, err := readChange(change)
			if err != nil || read.Member.ID != kv.MemberID(change.GetNodeId()) || verb == "add" && read.Kind != membership.Promote {
				t.Errorf("%s: applied as %+v, %v", name, read, err)
			}
		}
		if err != nil {
			got = []string{"refused"}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
