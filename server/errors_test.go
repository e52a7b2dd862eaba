package server

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/replica"
)

// TestEveryRefusalIsNamed reads the names of the replica's errors out of its source: each must become one of the server's,
// which have words on the wire. Others pass as they are.
func TestEveryRefusalIsNamed(t *testing.T) {
	source, err := os.ReadFile("../replica/replica.go")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]error{
		"ErrTooManyRequests": replica.ErrTooManyRequests, "ErrStopped": replica.ErrStopped, "ErrLeaderChanged": replica.ErrLeaderChanged,
		"ErrTimeout": replica.ErrTimeout, "ErrNotLeader": replica.ErrNotLeader, "ErrBadTransferee": replica.ErrBadTransferee,
		"ErrTransferTimeout": replica.ErrTransferTimeout,
	}
	names := regexp.MustCompile(`(?m)^\s+(Err\w+)\s+= errors\.New`).FindAllSubmatch(source, -1)
	if len(names) < len(known) {
		t.Fatalf("found %d errors: the search looks in the wrong place", len(names))
	}
	for _, name := range names {
		err, ok := known[string(name[1])]
		if !ok {
			t.Errorf("replica.%s is new: refusal must name it", name[1])
			continue
		}
		if got := refusal(fmt.Errorf("wrapped: %w", err)); strings.Contains(got.Error(), "replica") {
			t.Errorf("replica.%s is passed on as %v", name[1], got)
		}
	}
	other := errors.New("other")
	if refusal(other) != other || refusal(nil) != nil {
		t.Error("what is no error of the replica changes")
	}
}

// TestTimeoutReason: a request that was not answered is told what this member knows of the leader, in etcd's distinctions.
func TestTimeoutReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, _ := memoryConfig()
		m := start(t, cfg)
		began := time.Now()
		before, after := began.Add(-time.Second), began.Add(time.Second)
		if err := m.timeoutReason(began); err != ErrTimeout {
			t.Errorf("with a leader all the time: %v", err)
		}
		m.leaderLost.Store(&before)
		if err := m.timeoutReason(began); err != ErrTimeout {
			t.Errorf("with a leader lost before: %v", err)
		}
		m.leaderLost.Store(&after)
		if err := m.timeoutReason(began); err != ErrTimeoutLeaderFail {
			t.Errorf("with a leader lost meanwhile: %v", err)
		}
	})
	cfg, _ := memoryConfig()
	s, err := Open(cfg) // does not run, so there is no leader
	if err != nil {
		t.Fatal(err)
	}
	if err := s.timeoutReason(time.Now()); err != ErrTimeoutConnectionLost {
		t.Errorf("without a leader: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
