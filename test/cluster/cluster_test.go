package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/sync/errgroup"
)

// The clock of the members. Holding it takes a machine on which a process waits less than 900 ms for its turn.
const (
	heartbeat = 100 * time.Millisecond
	election  = time.Second
)

// readyTimeout bounds the time until all members answer; on a machine with little to do it takes them two seconds.
const readyTimeout = 60 * time.Second

// A program that members run, ours or etcd's.
type program struct {
	name   string
	binary string
	args   []string // for every member, after all others
	env    []string
}

// cluster is some members on a network of their own.
type cluster struct {
	t       testing.TB
	program program
	dir     string
	net     *network
	token   string
	id      uint64 // of the cluster, once it is known
	onDisks bool   // members have disks of their own, which can be frozen and filled

	mu      sync.Mutex // guards the fields below
	members []*member  // those that are configured, in the order of their names
	born    int        // members that ever were
	broken  []error    // what was wrong while it ran
}

// newCluster places size members and starts none.
func newCluster(t testing.TB, p program, size int, onDisks bool) *cluster {
	t.Helper()
	c := &cluster{t: t, program: p, dir: t.TempDir(), onDisks: onDisks, token: fmt.Sprintf("token-%s", t.Name())}
	var err error
	if c.net, err = newNetwork(c.dir); err != nil {
		t.Skip(err)
	}
	t.Cleanup(c.net.close)
	for range size {
		m, err := c.place()
		if err != nil {
			t.Fatal(err)
		}
		c.members = append(c.members, m)
	}
	urls := c.initialCluster(c.members)
	for _, m := range c.members {
		m.initialCluster, m.initialState = urls, "new"
	}
	return c
}

// startCluster starts a cluster of size members and returns when all of them answer.
func startCluster(t testing.TB, p program, size int, onDisks bool) *cluster {
	t.Helper()
	c := newCluster(t, p, size, onDisks)
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
	return c
}

// place makes room for one more member.
func (c *cluster) place() (*member, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.born++
	m := &member{cluster: c, name: fmt.Sprintf("m%d", c.born)}
	m.Log = filepath.Join(c.dir, m.name+".log")
	m.data = filepath.Join(c.dir, m.name)
	if c.onDisks {
		m.disk = takeDisk(c.t)
		m.data = m.disk.data()
	}
	if err := c.net.add(m.name); err != nil {
		return nil, err
	}
	if err := m.connect(); err != nil {
		return nil, err
	}
	c.t.Cleanup(m.close)
	return m, nil
}

func (c *cluster) initialCluster(members []*member) string {
	var all []string
	for _, m := range members {
		all = append(all, m.name+"="+m.peerURL())
	}
	return strings.Join(all, ",")
}

// start starts all members that do not run and waits until all answer. It notes who they are.
func (c *cluster) start() error {
	for _, m := range c.present() {
		if !m.running() {
			if err := m.launch(); err != nil {
				return err
			}
		}
	}
	if err := c.awaitAll(); err != nil {
		return err
	}
	return c.identify()
}

// present are the members that are configured.
func (c *cluster) present() []*member {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*member(nil), c.members...)
}

// awaitAll waits until every running member answers a linearizable read.
func (c *cluster) awaitAll() error {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	var g errgroup.Group
	for _, m := range c.present() {
		if m.running() {
			g.Go(func() error { return m.await(ctx) })
		}
	}
	return g.Wait()
}

// identify learns the ids of the cluster and its members, which must never change from then on.
func (c *cluster) identify() error {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	for _, m := range c.present() {
		r, err := m.maintenance().Status(ctx, &pb.StatusRequest{})
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		if err := m.recognize(r.GetHeader()); err != nil {
			return err
		}
	}
	return nil
}

// leader is the member that leads, by the word of those that answer. It waits until there is one.
func (c *cluster) leader() (*member, error) {
	for deadline := time.Now().Add(readyTimeout); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		for _, m := range c.present() {
			if m.running() && m.leads() {
				return m, nil
			}
		}
	}
	return nil, errors.New("no member leads")
}

// others are all members but one.
func (c *cluster) others(not *member) []*member {
	var others []*member
	for _, m := range c.present() {
		if m != not {
			others = append(others, m)
		}
	}
	return others
}

// breach notes something that must not be.
func (c *cluster) breach(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken = append(c.broken, fmt.Errorf(format, args...))
}

// breached tells what was noted.
func (c *cluster) breached() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(c.broken...)
}

// logs are the last words of all members.
func (c *cluster) logs(lines int) string {
	var b strings.Builder
	for _, m := range c.present() {
		fmt.Fprintf(&b, "---- %s\n", m.name)
		for line := range strings.Lines(m.LogTail(lines)) {
			fmt.Fprintf(&b, "%.300s\n", strings.TrimSpace(line))
		}
	}
	return b.String()
}

// logged is how often members, also those that are gone, wrote something.
func (c *cluster) logged(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	times := 0
	for n := range c.born {
		text, err := os.ReadFile(filepath.Join(c.dir, fmt.Sprintf("m%d.log", n+1)))
		if err != nil {
			continue // it was never started
		}
		times += strings.Count(string(text), what)
	}
	return times
}
