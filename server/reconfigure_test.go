package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/kv"
	"holdfast/membership"
)

// TestChangesAtOnce makes changes of the membership from many callers at the same time. raft lets a change come to nothing
// while another is under way; here each must take effect, or be refused for what it is, and be answered.
func TestChangesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, _ := memoryConfig()
		m := start(t, cfg)
		learner, _, err := m.MemberAdd(t.Context(), []string{"http://127.0.0.1:9"}, true)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var wg sync.WaitGroup
		for i := range 30 {
			wg.Go(func() {
				if i%3 == 0 {
					if _, err := m.MemberRemove(ctx, 77); !errors.Is(err, membership.ErrNotFound) {
						t.Errorf("remove nobody: %v", err)
					}
					return
				}
				url := fmt.Sprint("http://127.0.0.1:", 100+i)
				if _, err := m.MemberUpdate(ctx, learner.ID, []string{url}); err != nil {
					t.Errorf("update %d: %v", i, err)
				}
			})
		}
		wg.Wait()
	})
}

// TestMembershipSurvives: what was changed is there after a restart, and so is the memory of who was removed.
func TestMembershipSurvives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, _ := memoryConfig()
		m := start(t, cfg)
		gone, _, err := m.MemberAdd(t.Context(), []string{"http://127.0.0.1:8"}, true)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.MemberRemove(t.Context(), gone.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // ids of added members contain the second
		stays, all, err := m.MemberAdd(t.Context(), []string{"http://127.0.0.1:8"}, true)
		if err != nil || len(all) != 2 || stays.ID == gone.ID {
			t.Fatalf("the address came back as %v of %v, was %v: %v", stays.ID, all, gone.ID, err)
		}
		m.stop()
		m = start(t, cfg)
		if got, err := m.Members(t.Context(), true); err != nil || len(got) != 2 || !m.cluster.IsLearner(stays.ID) || !m.cluster.Removed(gone.ID) {
			t.Errorf("after the restart: %+v, %v", got, err)
		}
		if _, err := m.MemberRemove(t.Context(), gone.ID); !errors.Is(err, membership.ErrRemoved) {
			t.Errorf("remove again: %v", err)
		}
		if _, err := m.MemberRemove(t.Context(), stays.ID); err != nil {
			t.Error(err)
		}
		m.put("k", "v")
	})
}

// TestLooseChecks: without the strict check it is the state alone that refuses.
func TestLooseChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, _ := memoryConfig()
		cfg.StrictReconfigCheck = false
		m := start(t, cfg)
		if _, err := m.MemberRemove(t.Context(), m.ID()); !errors.Is(err, membership.ErrLastVoter) {
			t.Errorf("remove the only voter: %v", err)
		}
		m.put("k", "v")
		m.stop()
		m = start(t, cfg) // the refused entry is in the log
		if got := m.get("k"); got != "v" {
			t.Errorf("after the restart k is %q", got)
		}
	})
}

// TestChangeWithoutQuorum: a change that nobody can confirm is answered when its caller's patience ends, and so are those
// that wait for their turn behind it; what needs no quorum goes on.
func TestChangeWithoutQuorum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, _ := memoryConfig()
		m := start(t, cfg)
		m.put("k", "v")
		second, all, err := m.MemberAdd(t.Context(), []string{"http://127.0.0.1:9"}, false) // and nobody ever runs there
		if err != nil || len(all) != 2 {
			t.Fatal(all, err)
		}
		if _, _, err := m.MemberAdd(t.Context(), []string{"http://127.0.0.1:10"}, false); !errors.Is(err, ErrNotEnoughStarted) {
			t.Errorf("one more: %v", err)
		}
		if _, _, err := m.MemberAdd(t.Context(), []string{"http://127.0.0.1:10"}, true); !errors.Is(err, ErrUnhealthy) {
			t.Errorf("a learner: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				_, err := m.MemberRemove(ctx, second.ID)
				if !errors.Is(err, ErrTimeout) && !errors.Is(err, ErrTimeoutLeaderFail) && !errors.Is(err, ErrTimeoutConnectionLost) {
					t.Errorf("remove: %v", err)
				}
			})
		}
		wg.Wait()
		if time.Since(deadlineOf(ctx)) > time.Second {
			t.Error("an answer came late")
		}
		r, err := m.Range(t.Context(), &kv.RangeRequest{KeyRange: kv.KeyRange{Key: []byte("k")}, Serializable: true})
		if err != nil || r.Count != 1 {
			t.Errorf("serializable read: %v, %v", r, err)
		}
	})
}

func deadlineOf(ctx context.Context) time.Time {
	at, _ := ctx.Deadline()
	return at
}

// TestReadPromoted is the table of what a leader may say to a promotion; what is not listed in etcd's protocol is tried again.
func TestReadPromoted(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
		want   error
		count  int
	}{
		{http.StatusOK, `[{"id":1,"peerURLs":["http://a:1"],"name":"a"},{"id":2,"peerURLs":null}]` + "\n", nil, 2},
		{http.StatusOK, "{", errNotForwarded, 0},
		{http.StatusNotFound, "membership: ID not found\n", membership.ErrNotFound, 0},
		{http.StatusPreconditionFailed, "etcdserver: can only promote a learner member which is in sync with leader\n", ErrLearnerNotReady, 0},
		{http.StatusPreconditionFailed, "membership: can only promote a learner member\n", membership.ErrNotLearner, 0},
		{http.StatusPreconditionFailed, "something else", errNotForwarded, 0},
		{http.StatusRequestTimeout, "etcdserver: request timed out\n", errNotForwarded, 0},
		{http.StatusInternalServerError, `{"message":"Internal Server Error"}`, errNotForwarded, 0},
	} {
		members, err := readPromoted(&peerAnswer{status: c.status, body: []byte(c.body)})
		if !errors.Is(err, c.want) || c.want == nil && err != nil || len(members) != c.count {
			t.Errorf("%d %q: %v, %v", c.status, c.body, members, err)
		}
	}
}
