package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// keepsake is what must survive everything: who the members are, and what they hold.
type keepsake struct {
	view
	cluster uint64
}

// furnish puts some keys and leases into a cluster and returns what it then is.
func furnish(t *testing.T, c *cluster) keepsake {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), readyTimeout)
	defer cancel()
	m := c.present()[0]
	for n := range int64(5) {
		if _, err := m.leases().LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: n + 1, TTL: leaseLong}); err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			if _, err := m.kv().Put(ctx, &pb.PutRequest{Key: fmt.Appendf(nil, "k/%d/%d", n, i), Value: []byte("v"), Lease: n + 1}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return c.remember(t)
}

// remember waits until all members say the same, and returns it.
func (c *cluster) remember(t *testing.T) keepsake {
	t.Helper()
	h := newHistory()
	for n := range int64(5) {
		h.leases[n+1] = &leaseLife{id: n + 1, ttl: leaseLong, granted: true}
	}
	if _, err := c.settle(h); err != nil {
		t.Fatalf("%v\n%s", err, c.logs(10))
	}
	v, err := c.present()[0].view(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	v.leader = 0 // may be another
	return keepsake{v, c.id}
}

// same asks that a cluster is what it was.
func (k keepsake) same(t *testing.T, c *cluster) {
	t.Helper()
	now := c.remember(t)
	if err := k.differs(now.view); err != nil || k.cluster != now.cluster {
		t.Fatalf("cluster %x came back as %x: %v", k.cluster, now.cluster, err)
	}
	if err := c.breached(); err != nil {
		t.Fatal(err)
	}
}

// Goal (A14, C6): a cluster that is ended whole, at once, comes back as it was, whatever the order in which its members start:
// cluster and member ids, revision, content, leases. No member leaves the cluster because its process ended.
func TestA14C6FullStop(t *testing.T) {
	t.Parallel()
	c := startCluster(t, chosen(t), 3, false)
	before := furnish(t, c)
	s := &striker{cluster: c, rng: rand.New(rand.NewPCG(1, 1)), note: t.Logf}
	for _, graceful := range []bool{false, true} {
		if err := endAll(c.present(), graceful); err != nil {
			t.Fatal(err)
		}
		if err := s.startAll(c.present()); err != nil {
			t.Fatal(err)
		}
		if err := c.awaitAll(); err != nil {
			t.Fatal(err)
		}
		before.same(t, c)
	}
}

// Goal (C4): members whose addresses have all changed find each other by their names, also those that kept running.
func TestC4OtherAddresses(t *testing.T) {
	t.Parallel()
	c := startCluster(t, chosen(t), 3, false)
	before := furnish(t, c)
	members := c.present()
	if err := endAll(members[:2], true); err != nil {
		t.Fatal(err)
	}
	for _, m := range members[:2] {
		c.net.move(m.name)
	}
	if err := c.net.moveDoors(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for _, m := range members[:2] {
		if err := m.launch(); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.awaitAll(); err != nil {
		t.Fatalf("%v\n%s", err, c.logs(10))
	}
	t.Logf("all answered %v after the start of two of three with other addresses", time.Since(began).Round(time.Millisecond))
	before.same(t, c)
}

// Goal: members that know only a DNS domain find each other and found the cluster that they would found under their URLs, and come back
// when the domain says nothing any more, for what they have on their disks goes first. Method: each member's name server offers the
// service; the cluster's id is compared with that of a cluster told its members.
func TestServiceRecords(t *testing.T) {
	t.Parallel()
	p := chosen(t)
	c := newCluster(t, p, 3, false)
	var targets []target
	for _, m := range c.members {
		m.initialCluster, m.extra = "", []string{"--discovery-srv=" + domain[1:]}
		targets = append(targets, target{m.name + domain, peerPort})
	}
	c.net.offer("_etcd-server._tcp", targets)
	if err := c.start(); err != nil {
		t.Fatalf("%v\n%s", err, c.logs(10))
	}
	told := newCluster(t, p, 3, false)
	told.token = c.token
	if err := told.start(); err != nil {
		t.Fatalf("%v\n%s", err, told.logs(10))
	}
	if c.id != told.id {
		t.Errorf("found by service records the cluster is %x, told its members %x", c.id, told.id)
	}
	before := furnish(t, c)
	c.net.offer("_etcd-server._tcp", nil)
	if err := endAll(c.present(), true); err != nil {
		t.Fatal(err)
	}
	if err := c.start(); err != nil {
		t.Fatalf("without the records: %v\n%s", err, c.logs(10))
	}
	before.same(t, c)
}

// Goal (C7): a member whose name does not resolve, and never will, keeps nobody from serving.
func TestC7NameThatDoesNotResolve(t *testing.T) {
	t.Parallel()
	c := newCluster(t, chosen(t), 3, false)
	c.net.forget("", c.members[2].name)
	c.net.forget(c.members[2].name, c.members[0].name)
	began := time.Now()
	for _, m := range c.members[:2] {
		if err := m.launch(); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.awaitAll(); err != nil {
		t.Fatalf("%v\n%s", err, c.logs(10))
	}
	t.Logf("two of three answered after %v", time.Since(began).Round(time.Millisecond))
	for _, m := range c.members[:2] {
		if err := m.stop(); err != nil {
			t.Fatal(err)
		}
		if err := m.launch(); err != nil {
			t.Fatal(err)
		}
		if err := c.awaitAll(); err != nil {
			t.Fatalf("after a restart of %s: %v\n%s", m, err, c.logs(10))
		}
	}
	if err := c.breached(); err != nil {
		t.Fatal(err)
	}
}

// Goal (C1): a member that has lost the majority waits for it, for as long as it takes, and changes nothing: it serves what it has to
// those who do not ask for the newest, and founds no cluster of its own.
func TestC1MajorityAway(t *testing.T) {
	t.Parallel()
	c := startCluster(t, chosen(t), 3, false)
	before := furnish(t, c)
	members := c.present()
	if err := endAll(members[1:], false); err != nil {
		t.Fatal(err)
	}
	for until := time.Now().Add(6 * election); time.Now().Before(until); time.Sleep(election / 4) {
		ctx, cancel := context.WithTimeout(t.Context(), election/2)
		r, err := members[0].kv().Range(ctx, &pb.RangeRequest{Key: []byte(everything.key), RangeEnd: everything.rangeEnd(), Serializable: true})
		if err != nil || r.GetHeader().GetRevision() != before.revision || !slices.Equal(rowsOf(r.GetKvs()), before.rows) {
			t.Fatalf("a serializable read of the only one left: revision %d, %v", r.GetHeader().GetRevision(), err)
		}
		if _, err := members[0].kv().Put(ctx, &pb.PutRequest{Key: []byte("k/new")}); err == nil {
			t.Fatal("one of three acknowledged a write")
		}
		cancel()
	}
	// Half of what it takes does not help if it is the wrong half: the third of three is needed for nothing.
	if err := members[1].launch(); err != nil {
		t.Fatal(err)
	}
	if err := c.awaitAll(); err != nil {
		t.Fatal(err)
	}
	if err := members[2].launch(); err != nil {
		t.Fatal(err)
	}
	if err := c.awaitAll(); err != nil {
		t.Fatal(err)
	}
	after := c.remember(t)
	// What was asked for while nobody could decide may have happened since.
	if after.cluster != before.cluster || !slices.Equal(after.members, before.members) || !slices.Equal(after.leases, before.leases) || after.revision < before.revision {
		t.Fatalf("it was %+v and is %+v", before, after)
	}
}

// Goal (B14): a member whose data is gone founds no second cluster while another remembers it, says what to do, and that helps; with
// two of three emptied, the third keeps what it has and nobody acknowledges anything. Method: data directories are emptied and the
// members started as they were first, with --initial-cluster-state=new.
func TestB14EmptiedMembers(t *testing.T) {
	t.Parallel()
	if *programFlag == "etcd" {
		t.Skip("etcd lets an emptied member vote a second time")
	}
	c := startCluster(t, chosen(t), 3, false)
	before := furnish(t, c)
	refuse := func(m *member) {
		t.Helper()
		m.kill()
		if err := m.wipe(); err != nil {
			t.Fatal(err)
		}
		if err := m.launch(); err != nil {
			t.Fatal(err)
		}
		if err := m.awaitEnd(readyTimeout); err != nil {
			t.Fatalf("%s, emptied: %v\n%s", m, err, m.LogTail(5))
		}
		said := m.LogTail(1)
		for _, word := range []string{"has already been bootstrapped", fmt.Sprintf("%x", c.id), "member remove", "member add"} {
			if !strings.Contains(said, word) {
				t.Fatalf("%s, emptied, does not say %q in %s", m, word, said)
			}
		}
	}
	a, b, lost := c.members[0], c.members[1], c.members[2]
	refuse(lost)
	if err := c.remove(lost); err != nil {
		t.Fatal(err)
	}
	replacement, err := c.add(t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.awaitAll(); err != nil {
		t.Fatal(err)
	}
	after := c.remember(t)
	if after.cluster != before.cluster || !slices.Equal(after.rows, before.rows) || after.hash != before.hash || !slices.Equal(after.leases, before.leases) {
		t.Fatalf("with one member replaced, cluster %x is %x and holds other things", before.cluster, after.cluster)
	}

	refuse(b)
	replacement.kill()
	if err := replacement.wipe(); err != nil {
		t.Fatal(err)
	}
	if err := replacement.launch(); err != nil {
		t.Fatal(err)
	}
	replacement.expect(false) // it may end, or wait
	ctx, cancel := context.WithTimeout(t.Context(), 4*election)
	defer cancel()
	for _, m := range []*member{a, replacement} {
		if _, err := m.kv().Put(ctx, &pb.PutRequest{Key: []byte("k/new")}); err == nil {
			t.Fatalf("%s acknowledged a write", m)
		}
	}
	r, err := a.kv().Range(t.Context(), &pb.RangeRequest{Key: []byte(everything.key), RangeEnd: everything.rangeEnd(), Serializable: true})
	if err != nil || r.GetHeader().GetClusterId() != before.cluster || !slices.Equal(rowsOf(r.GetKvs()), before.rows) {
		t.Fatalf("the one that is left has lost something: %v", err)
	}
	if err := c.breached(); err != nil {
		t.Fatal(err)
	}
}
