package server

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/storage"
	"holdfast/transport"
)

// shortLog makes members keep few entries, so that one that was away for a moment needs a state.
func shortLog(_ int, cfg *Config) { cfg.SnapshotEvery, cfg.CatchUpEntries = 20, 5 }

// inForm has members exchange states in a form.
func inForm(form transport.Form) func(int, *Config) {
	return func(_ int, cfg *Config) { cfg.NoCheckpoints = form == transport.Database }
}

// putMany puts n keys at a member.
func (m *member) putMany(prefix string, n int) {
	for i := range n {
		m.put(fmt.Sprintf("%s%03d", prefix, i), strings.Repeat("v", 100))
	}
}

// letRelease lets the time pass in which members make their stores durable and release their logs.
func letRelease() { time.Sleep(storage.FlushAge + 5*time.Second) }

// TestCatchUp: a member that was away while the others released their logs is sent the state, goes on from it while it is
// read and watched, and holds the same as the others. So it does after a restart.
func TestCatchUp(t *testing.T) {
	for _, form := range []transport.Form{transport.Database, transport.Checkpoint} {
		t.Run(form.String(), func(t *testing.T) { testCatchUp(t, form) })
	}
}

func testCatchUp(t *testing.T, form transport.Form) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3, shortLog, inForm(form))
		c.members[0].putMany("before", 10)
		c.awaitEqual()
		away := c.follower()
		c.stop(away)
		leader := c.members[c.leader()]
		leader.putMany("while", 100)
		leader.grant(7, 1000)
		leader.putLeased("leased", 7)
		letRelease()
		c.start(away)
		c.awaitReady()
		c.awaitEqual()
		back := c.members[away]
		if got := back.CatchUpStats().Imported.Done; (got == 1) != (form == transport.Database) {
			t.Errorf("%d databases were imported", got)
		}
		if got := back.CatchUpStats(); got.InForce != 1 || got.Received.Done != 1 || got.Received.Bytes == 0 {
			t.Errorf("the member that was away counts %+v", got)
		}
		if got := back.get("while099"); got != strings.Repeat("v", 100) {
			t.Errorf("it reads %q", got)
		}
		if keys := back.leases.Keys(7); len(keys) != 1 || string(keys[0]) != "leased" {
			t.Errorf("on the lease hang %q", keys)
		}
		c.members[c.leader()].putMany("after", 10)
		c.awaitEqual()
		c.kill(away)
		c.members[c.leader()].putMany("again", 3)
		c.start(away)
		c.awaitReady()
		c.awaitEqual()
		c.onlyOneStore(away)
	})
}

// onlyOneStore looks for what a transfer may have left on the disk of member i.
func (c *cluster) onlyOneStore(i int) {
	c.t.Helper()
	m := c.members[i]
	c.eventually("there is one store, and nothing temporary", func() bool {
		stores, err := m.dir.otherStores("")
		if err != nil {
			c.t.Fatal(err)
		}
		temp, err := m.dir.fs.List(m.dir.path("tmp"))
		if err != nil {
			c.t.Fatal(err)
		}
		return len(stores) == 1 && len(temp) == 0
	})
}

// TestCatchUpByLog: no state is sent where the log covers what a member missed.
func TestCatchUpByLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3, func(_ int, cfg *Config) { cfg.SnapshotEvery, cfg.CatchUpEntries = 20, 1000 })
		c.members[0].putMany("before", 10)
		c.awaitEqual()
		away := c.follower()
		c.stop(away)
		c.members[c.leader()].putMany("while", 100)
		letRelease()
		c.start(away)
		c.awaitReady()
		c.awaitEqual()
		for _, m := range c.running() {
			if got := m.CatchUpStats(); got != (CatchUpStats{}) {
				t.Errorf("%s counts %+v", m.cfg.Name, got)
			}
		}
	})
}
