package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
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
	"holdfast/transport"
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
	// end stops the member, or kills it; wantRunError says that Run is to have failed then.
	end          func(kill bool)
	wantRunError bool
	result       chan error // of Run
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
		if testing.Verbose() {
			m.cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil)).With("at", m.cfg.Name)
		}
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
	m.cfg.FS, m.cfg.Dial = m.fs, c.net.dialFrom(m.address)
	s, err := Open(m.cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	listener := c.net.listen(m.address)
	peers := &http.Server{Handler: peerHandler(s)}
	ctx, cancel := context.WithCancel(context.Background())
	served, result := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(served)
		_ = peers.Serve(listener) // ends when closed
	}()
	go func() { result <- s.Run(ctx) }()
	m.member, m.result, m.wantRunError = &member{Server: s, t: c.t}, result, false
	var once sync.Once
	buried := make(chan struct{})
	m.end = func(kill bool) {
		once.Do(func() {
			if kill {
				c.net.hangUp(m.address) // first: what the others hear from it must be on its disk
				m.fs = m.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(1, 2))})
			}
			m.member = nil
			cancel()
			bury := func() {
				defer close(buried)
				err := <-result
				result <- err
				if !kill && (err != nil) != m.wantRunError {
					c.t.Errorf("run m%d: %v", i, err)
				}
				_ = peers.Close()
				<-served
				if err := s.Close(); err != nil {
					c.t.Errorf("close m%d: %v", i, err)
				}
			}
			if kill {
				go bury() // what goes on until then nobody sees
				return
			}
			bury()
			c.net.hangUp(m.address)
		})
	}
	end := m.end
	c.t.Cleanup(func() { end(false); <-buried })
}

// runError waits until Run has returned.
func (m *clusterMember) runError() error {
	err := <-m.result
	m.result <- err
	return err
}

// shownToken is what clients show that promote members.
const shownToken = "a token"

// peerHandler serves what members ask each other: what package api makes of it, in short.
func peerHandler(s *Server) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/raft", s.RaftHandler())
	mux.Handle("/raft/", s.RaftHandler())
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"etcdserver":%q,"etcdcluster":%q}`, version.EtcdVersion, s.ClusterVersion())
	})
	mux.HandleFunc("POST /members/promote/{id}", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != shownToken { // a token is worth nothing to who promotes if it does not get there
			http.Error(w, "no token", http.StatusInternalServerError)
			return
		}
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
	mux.Handle(PathHashKV, hashHandler(s))
	mux.Handle(PathLeases, leaseHandler(s))
	mux.Handle(PathLeasesInternal, leaseHandler(s))
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

// awaitLevel waits until all running members have applied the same, and returns them.
func (c *cluster) awaitLevel() []*clusterMember {
	c.t.Helper()
	running := c.running()
	c.eventually("all have applied the same", func() bool {
		synctest.Wait() // nobody applies any more until time passes, so that they can be compared
		for _, m := range running {
			if m.Status().Applied != running[0].Status().Applied {
				return false
			}
		}
		return true
	})
	return running
}

// awaitEqualKeys is awaitEqual for members of which one may have got an etcd's database with a compacted history: its records cannot
// tell which of the versions that are gone they superseded. The sum that members compare does not ask for that.
func (c *cluster) awaitEqualKeys() {
	c.t.Helper()
	running := c.awaitLevel()
	want, err := running[0].HashKV(c.t.Context(), 0)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, m := range running {
		if got, err := m.HashKV(c.t.Context(), 0); err != nil || got != want {
			c.t.Errorf("%s holds keys that sum to %+v, %s to %+v (%v)", running[0].cfg.Name, want, m.cfg.Name, got, err)
		}
	}
}

// awaitEqual waits until all running members have applied the same, and compares what they hold.
func (c *cluster) awaitEqual() {
	c.t.Helper()
	running := c.awaitLevel()
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

// TestRemovedMemberLeaves removes a follower, the leader, and one that is down: each ends with etcd's words, when it hears of
// it, and does not start again.
func TestRemovedMemberLeaves(t *testing.T) {
	for _, which := range []string{"follower", "leader", "absent"} {
		synctest.Test(t, func(t *testing.T) {
			c := startCluster(t, 3)
			time.Sleep(6 * time.Second) // members count as healthy when they have been connected for five seconds
			i := c.follower()
			if which == "leader" {
				i = c.leader()
			}
			m, id := c.members[i], c.members[i].ID()
			if which == "absent" {
				c.kill(i)
			}
			by := c.members[(i+1)%3]
			if _, err := by.MemberRemove(t.Context(), id); err != nil {
				t.Fatalf("%s: %v", which, err)
			}
			if which == "absent" {
				c.start(i)
			}
			c.expectRemoved(i)
			c.members[c.leader()].put("k", "v")
			c.awaitEqual()
			m.cfg.FS = m.fs
			s, err := Open(m.cfg)
			if err == nil { // it has heard of its removal from the others only, and hears it again
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				c.start(i)
				c.expectRemoved(i)
			} else if !errors.Is(err, transport.ErrRemoved) {
				t.Errorf("%s: opening again: %v", which, err)
			}
		})
	}
}

// expectRemoved waits until member i has ended because the cluster has removed it.
func (c *cluster) expectRemoved(i int) {
	c.t.Helper()
	m := c.members[i]
	m.wantRunError = true
	select {
	case <-m.Stopped():
	case <-time.After(patience):
		c.t.Fatalf("%s goes on although it was removed", m.cfg.Name)
	}
	if err := m.runError(); !errors.Is(err, transport.ErrRemoved) {
		c.t.Errorf("%s ended with %v", m.cfg.Name, err)
	}
	c.stop(i)
}
