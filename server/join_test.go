package server

import (
	"errors"
	"testing"
	"testing/synctest"

	"holdfast/membership"
	"holdfast/raftlog"
)

// TestJoinIsTakenUpAgain crashes before each operation on the disk while a member that joins makes its log, and starts it
// again with settings that would found a cluster: it has either nothing yet, or waits under the ids that it was given.
func TestJoinIsTakenUpAgain(t *testing.T) {
	seed := drawSeed(t)
	disk := newCrashingFS(seed)
	cfg := testConfig("data")
	cfg.FS = disk
	joining := cfg
	joining.Joined = &Joined{ClusterID: 7, ID: 8, Peers: []membership.Member{{ID: 8}, {ID: 9, PeerURLs: []string{"http://localhost:1"}}}}
	open := func(cfg Config) *Server {
		s, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	shut := func(s *Server) {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	first := open(joining)
	n := disk.crash()
	crashes := disk.crashes[:n+2]
	shut(first)
	fresh, waiting := 0, 0
	for i, fs := range crashes {
		cfg.FS = fs
		had, err := raftlog.Exists(fs, "data/member/wal")
		if err != nil {
			t.Fatal(err)
		}
		s := open(cfg)
		switch {
		case !had && s.ID() == cfg.Founders[0].ID && s.ClusterID() == cfg.clusterID():
			fresh++
		case had && s.ID() == 8 && s.ClusterID() == 7 && s.raftLog.Stats().Last == 0:
			waiting++
		default:
			t.Errorf("crash %d: a log was there: %v; came up as %v of %x", i, had, s.ID(), s.ClusterID())
		}
		shut(s)
	}
	if fresh == 0 || waiting == 0 {
		t.Errorf("%d crashes before the log was there, %d after: the test shows nothing", fresh, waiting)
	}
}

// TestOpenAsksForAnOrigin: a member without data has to be told what it belongs to.
func TestOpenAsksForAnOrigin(t *testing.T) {
	cfg, _ := memoryConfig()
	cfg.Founders = nil
	if s, err := Open(cfg); err == nil {
		t.Error("opened without founders and without a cluster to join", errors.Join(s.Close()))
	}
}

// TestJoinGoesOnAfterACrash: a member that was added made its log and heard nothing before it was killed. Started with settings
// that would found a cluster, and told of nobody, it joins as if nothing had been.
func TestJoinGoesOnAfterACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, func(i int, cfg *Config) {
			if i < 2 {
				cfg.Founders = cfg.Founders[:2]
			}
		})
		c.start(0)
		c.start(1)
		c.awaitReady()
		c.members[0].put("k", "v")
		m := c.members[2]
		var added membership.Member
		c.eventually("the cluster takes a third member", func() (done bool) {
			var peers []membership.Member
			var err error
			added, peers, err = c.members[0].MemberAdd(t.Context(), m.cfg.PeerURLs, false)
			m.cfg.Joined = &Joined{ClusterID: c.members[0].ClusterID(), ID: added.ID, Peers: peers}
			return err == nil
		})
		m.cfg.FS = m.fs
		s, err := Open(m.cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		m.cfg.Joined = nil
		c.start(2)
		c.awaitReady()
		if got := m.get("k"); got != "v" || m.ID() != added.ID || m.ClusterID() != c.members[0].ClusterID() {
			t.Errorf("reads %q as %v of %x", got, m.ID(), m.ClusterID())
		}
		c.awaitEqual()
	})
}
