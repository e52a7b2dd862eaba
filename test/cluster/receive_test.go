package cluster

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// receiveFailpoints are where a member that takes in another's state can be ended. It is made to sleep there and killed: the first
// one is reached in a request, and the server of HTTP would catch a panic.
var receiveFailpoints = []string{"snapDBRenameBeforeDirSync", "applyBeforeOpenSnapshot", "applyAfterOpenSnapshot"}

// reachWait is ample for a member to come from a state that is named to the failpoint.
const reachWait = time.Second

// Goal: a member that dies while it takes in a state starts with the old one or the new one, whole, and comes level. Method: a
// follower is away until the log no longer covers it, comes back, is killed at a failpoint, and comes back once more.
func TestEndsWhileAStateComes(t *testing.T) {
	if p := chosen(t); p.name != "holdfast" {
		t.Skip("failpoints of the program are needed, and only ours is built with them")
	}
	t.Parallel()
	for _, at := range receiveFailpoints {
		t.Run(at, func(t *testing.T) { // a cluster each: after a transfer the log is kept for a while, and needs no state
			t.Parallel()
			endsWhileAStateComes(t, at)
		})
	}
}

func endsWhileAStateComes(t *testing.T, failpoint string) {
	p := restlessHoldfast(t)
	p.args = []string{"--snapshot-count=20", "--snapshot-catchup-entries=5"}
	c := startCluster(t, p, 3, false)
	leader, err := c.leader()
	if err != nil {
		t.Fatal(err)
	}
	m := c.others(leader)[0]
	m.kill()
	if err := leader.fill(t.Context(), 60); err != nil {
		t.Fatal(err)
	}
	time.Sleep(releaseWait)
	m.env = []string{"GOFAIL_FAILPOINTS=storeFlushDue=return(true);" + failpoint + "=sleep(120000)"}
	if err := m.endWithState(); err != nil {
		t.Fatalf("%v\n%s", err, c.logs(10))
	}
	m.env = nil
	if err := m.launch(); err != nil {
		t.Fatal(err)
	}
	if err := m.awaitRevision(t.Context(), leader); err != nil {
		t.Fatalf("%v\n%s", err, c.logs(10))
	}
	if _, err := c.settle(newHistory()); err != nil {
		t.Fatal(err)
	}
	if err := c.breached(); err != nil {
		t.Fatal(err)
	}
}

// endWithState starts the member and kills it once it has received a state and come to its failpoint.
func (m *member) endWithState() error {
	before, err := m.states()
	if err != nil {
		return err
	}
	if err := m.launch(); err != nil {
		return err
	}
	for until := time.Now().Add(readyTimeout); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		now, err := m.states()
		if err != nil {
			return err
		}
		if slices.ContainsFunc(now, func(s string) bool { return !slices.Contains(before, s) }) {
			time.Sleep(reachWait)
			m.kill()
			return nil
		}
	}
	return fmt.Errorf("%s received nothing beside %q", m, before)
}

// states are the states that the member has received to their end.
func (m *member) states() ([]string, error) {
	all, err := filepath.Glob(filepath.Join(m.data, "member", "store-*"))
	return slices.DeleteFunc(all, func(path string) bool { return strings.Contains(filepath.Base(path), ".") }), err
}
