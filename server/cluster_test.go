package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/kv"
	"holdfast/membership"
	"holdfast/util/version"
)

// cluster is some members on a network in memory. It belongs into a bubble of testing/synctest.
type cluster struct {
	t       *testing.T
	net     *network
	members []*clusterMember
}

// clusterMember is a place in the cluster, with a member that runs there or not.
type clusterMember struct {
	*member // nil while it is down
	cfg     Config
	fs      *vfs.MemFS
	address string
	// end stops the member, or kills it.
	end func(kill bool)
}

// newCluster describes n members that found a cluster together. None runs yet. change may alter their settings.
func newCluster(t *testing.T, n int, change ...func(i int, cfg *Config)) *cluster {
	t.Helper()
	c := &cluster{t: t, net: newNetwork()}
	var founders []membership.Member
	for i := range n {
		urls := []string{"http://" + clusterAddress(i)}
		founders = append(founders, membership.Member{ID: membership.MemberID(urls, "cluster", 0), Name: fmt.Sprint("m", i), PeerURLs: urls})
	}
	for i := range n {
		m := &clusterMember{cfg: testConfig("data"), fs: vfs.NewCrashableMem(), address: clusterAddress(i)}
		m.cfg.Name, m.cfg.Founders, m.cfg.PeerURLs = founders[i].Name, founders, founders[i].PeerURLs
		m.cfg.ClientURLs = []string{fmt.Sprintf("http://m%d:2379", i)}
		m.cfg.Dial = c.net.dialFrom(m.address)
		for _, f := range change {
			f(i, &m.cfg)
		}
		c.members = append(c.members, m)
	}
	return c
}

func clusterAddress(i int) string { return fmt.Sprintf("m%d:2380", i) }

// startCluster runs n members and waits until all are ready.
func startCluster(t *testing.T, n int, change ...func(i int, cfg *Config)) *cluster {
	t.Helper()
	c := newCluster(t, n, change...)
	for i := range n {
		c.start(i)
	}
	c.awaitReady()
	return c
}

// start runs member i on what its disk holds, until stop, kill or the end of the test.
func (c *cluster) start(i int) {
	c.t.Helper()
	m := c.members[i]
	m.cfg.FS = m.fs
	s, err := Open(m.cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	listener := c.net.listen(m.address)
	peers := &http.Server{Handler: peerHandler(s)}
	ctx, cancel := context.WithCancel(context.Background())
	served, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(served)
		_ = peers.Serve(listener) // ends when closed
	}()
	go func() { ended <- s.Run(ctx) }()
	m.member = &member{Server: s, t: c.t}
	var once sync.Once
	m.end = func(kill bool) {
		once.Do(func() {
			if kill {
				m.fs = m.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(1, 2))})
				c.net.hangUp(m.address)
			}
			cancel()
			if err := <-ended; (err != nil) != m.wantRunError {
				c.t.Errorf("run m%d: %v", i, err)
			}
			c.net.hangUp(m.address)
			_ = peers.Close()
			<-served
			if err := s.Close(); err != nil && !kill {
				c.t.Errorf("close m%d: %v", i, err)
			}
			m.member = nil
		})
	}
	c.t.Cleanup(func() { m.end(false) })
}

// peerHandler serves what members ask each other: what package api makes of it, in short.
func peerHandler(s *Server) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/raft", s.RaftHandler())
	mux.Handle("/raft/", s.RaftHandler())
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"etcdserver":%q,"etcdcluster":%q}`, version.EtcdVersion, s.ClusterVersion())
	})
	mux.HandleFunc("POST /members/promote/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, err := strconv.ParseUint(r.PathValue("id"), 10, 64)
		var members []membership.Member
		if err == nil {
			members, err = s.MemberPromote(r.Context(), kv.MemberID(id))
		}
		switch {
		case errors.Is(err, membership.ErrNotFound):
			http.Error(w, err.Error(), http.StatusNotFound)
		case err != nil:
			http.Error(w, err.Error(), http.StatusPreconditionFailed)
		default:
			_ = json.NewEncoder(w).Encode(members) // a member that went away hears nothing
		}
	})
	return mux
}

// stop ends member i in good order, kill at once, with what was not synced half lost.
func (c *cluster) stop(i int) { c.members[i].end(false) }
func (c *cluster) kill(i int) { c.members[i].end(true) }

// running are the members that are not down.
func (c *cluster) running() []*clusterMember {
	return slices.DeleteFunc(slices.Clone(c.members), func(m *clusterMember) bool { return m.member == nil })
}

// patience is far more than anything takes; only what is broken takes so long. The time of a bubble costs nothing.
const patience = time.Minute

func (c *cluster) awaitReady() {
	c.t.Helper()
	for _, m := range c.running() {
		select {
		case <-m.Ready():
		case <-m.Stopped():
			c.t.Fatalf("%s stopped before it was ready", m.cfg.Name)
		case <-time.After(patience):
			c.t.Fatalf("%s does not become ready", m.cfg.Name)
		}
	}
}

// eventually waits until something holds.
func (c *cluster) eventually(what string, holds func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("it never came about that %s", what)
		}
	}
}

// leader is the place of the member that leads; it waits for one on which all running members agree.
func (c *cluster) leader() int {
	c.t.Helper()
	at := -1
	c.eventually("all agree on a leader that runs", func() bool {
		running := c.running()
		id := running[0].Leader()
		for _, m := range running {
			if m.Leader() != id {
				return false
			}
		}
		at = slices.IndexFunc(c.members, func(m *clusterMember) bool { return m.member != nil && m.ID() == id })
		return at >= 0
	})
	return at
}

// follower is the place of a running member that does not lead.
func (c *cluster) follower() int {
	c.t.Helper()
	leader := c.leader()
	return slices.IndexFunc(c.members, func(m *clusterMember) bool { return m.member != nil && m.ID() != c.members[leader].ID() })
}

// awaitEqual waits until all running members have applied the same, and compares what they hold.
func (c *cluster) awaitEqual() {
	c.t.Helper()
	running := c.running()
	c.eventually("all have applied the same", func() bool {
		for _, m := range running {
			if m.Status().Applied != running[0].Status().Applied {
				return false
			}
		}
		return true
	})
	want, err := running[0].Hash(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	for _, m := range running {
		if got, err := m.Hash(c.t.Context()); err != nil || got != want {
			c.t.Errorf("%s holds what sums to %x, %s to %x (%v)", running[0].cfg.Name, want, m.cfg.Name, got, err)
		}
	}
}

// TestClusterForms: three members that know only each other's addresses become one cluster, under etcd's ids. What is
// written at one is read at all, one killed is not missed, and finds everything when it comes back.
func TestClusterForms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3)
		ids := make([]kv.MemberID, 3)
		for i, m := range c.members {
			ids[i] = m.ID()
			m.put(m.cfg.Name, "v")
			for _, reader := range c.members {
				if got := reader.get(m.cfg.Name); got != "v" {
					t.Errorf("%s reads %q of what %s has written", reader.cfg.Name, got, m.cfg.Name)
				}
			}
		}
		cluster := membership.ClusterID(ids)
		for _, m := range c.members {
			members, err := m.Members(t.Context(), true)
			if m.ClusterID() != cluster || err != nil || len(members) != 3 {
				t.Errorf("%s is of %x, want %x, with %+v (%v)", m.cfg.Name, m.ClusterID(), cluster, members, err)
			}
			for _, one := range members {
				if !strings.HasPrefix(one.Name, "m") || one.ClientURLs[0] != "http://"+one.Name+":2379" {
					t.Errorf("%s knows %+v", m.cfg.Name, one)
				}
			}
		}
		down := c.leader()
		c.kill(down)
		c.members[c.leader()].put("while", "away")
		c.start(down)
		c.awaitReady()
		if got := c.members[down].get("while"); got != "away" {
			t.Errorf("the member that was away reads %q", got)
		}
		c.awaitEqual()
	})
}

// TestClusterComesBack stops all members and starts them in another order: ids and revision are as before, and so is
// what was written.
func TestClusterComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3)
		c.members[1].put("k", "v")
		before := make([]kv.Header, 3)
		c.awaitEqual()
		for i, m := range c.members {
			before[i] = m.Header()
		}
		for i := range 3 {
			c.stop(i)
		}
		for _, i := range []int{2, 0, 1} {
			c.start(i)
			time.Sleep(3 * time.Second)
		}
		c.awaitReady()
		for i, m := range c.members {
			now := m.Header()
			if got := m.get("k"); got != "v" || now.MemberID != before[i].MemberID || now.ClusterID != before[i].ClusterID || now.Revision != before[i].Revision {
				t.Errorf("%s came back as %+v with %q, was %+v", m.cfg.Name, now, got, before[i])
			}
		}
	})
}
