package server

import (
	"errors"
	"math/bits"
	"testing"
	"time"

	"holdfast/kv"
	"holdfast/membership"
	"holdfast/replica"
)

// TestElectorate is the table of etcd's strict checks. Members are numbered from 1; the one asked is 1. started and touched
// say, a bit for each member from the lowest, who has a name and who has been connected for long enough.
func TestElectorate(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, c := range []struct {
		voters           int
		started, touched uint
		add, learner     error
		promote          error
		remove           map[kv.MemberID]error
	}{
		{1, 0b1, 0b0, nil, nil, nil, map[kv.MemberID]error{1: ErrNotEnoughStarted, 9: nil}},
		{1, 0b0, 0b0, ErrNotEnoughStarted, nil, ErrNotEnoughStarted, map[kv.MemberID]error{1: ErrNotEnoughStarted, 9: ErrNotEnoughStarted}},
		// A third member may come only where both others work.
		{2, 0b11, 0b10, nil, nil, nil, map[kv.MemberID]error{1: nil, 2: nil}},
		{2, 0b11, 0b00, ErrUnhealthy, ErrUnhealthy, nil, map[kv.MemberID]error{1: ErrUnhealthy, 2: nil}},
		{2, 0b01, 0b00, ErrNotEnoughStarted, ErrUnhealthy, nil, map[kv.MemberID]error{1: ErrNotEnoughStarted, 2: nil}},
		{3, 0b111, 0b110, nil, nil, nil, map[kv.MemberID]error{1: nil, 2: nil, 3: nil}},
		{3, 0b111, 0b010, ErrUnhealthy, ErrUnhealthy, nil, map[kv.MemberID]error{1: ErrUnhealthy, 2: ErrUnhealthy, 3: nil}},
		{3, 0b011, 0b010, ErrNotEnoughStarted, ErrUnhealthy, nil, map[kv.MemberID]error{1: ErrNotEnoughStarted, 2: ErrNotEnoughStarted, 3: nil}},
		{3, 0b001, 0b000, ErrNotEnoughStarted, ErrUnhealthy, ErrNotEnoughStarted, map[kv.MemberID]error{2: ErrNotEnoughStarted}},
		{4, 0b1111, 0b0110, nil, nil, nil, map[kv.MemberID]error{1: nil, 2: nil, 4: nil}},
		{4, 0b1111, 0b0010, ErrUnhealthy, ErrUnhealthy, nil, map[kv.MemberID]error{1: ErrUnhealthy, 2: ErrUnhealthy, 4: nil}},
		{4, 0b1111, 0b1110, nil, nil, nil, map[kv.MemberID]error{1: nil, 4: nil}},
		{5, 0b11111, 0b00110, ErrUnhealthy, ErrUnhealthy, nil, map[kv.MemberID]error{2: ErrUnhealthy, 5: nil}},
		{5, 0b11111, 0b01110, nil, nil, nil, map[kv.MemberID]error{1: nil, 2: nil, 5: nil}},
	} {
		e := electorate{self: 1, now: now, activeSince: func(id kv.MemberID) time.Time {
			if c.touched>>(id-1)&1 == 1 {
				return now.Add(-healthyFor - 1)
			}
			return time.Time{}
		}}
		for i := range c.voters {
			m := membership.Member{ID: kv.MemberID(i + 1)}
			if c.started>>i&1 == 1 {
				m.Name = "m"
			}
			e.voters = append(e.voters, m)
		}
		check := func(what string, err, want error) {
			if !errors.Is(err, want) || want == nil && err != nil {
				t.Errorf("%d voters, started %b, touched %b: %s: %v, want %v", c.voters, c.started, c.touched, what, err, want)
			}
		}
		check("add", e.mayAdd(false), c.add)
		check("add learner", e.mayAdd(true), c.learner)
		check("promote", e.mayPromote(), c.promote)
		for id, want := range c.remove {
			check("remove "+id.String(), e.mayRemove(id), want)
		}
		if got := e.connected(); got != 1+bits.OnesCount(c.touched) {
			t.Errorf("touched %b: %d connected", c.touched, got)
		}
	}
}

// TestConnectedForAWhile: a member counts when it has been connected for longer than healthyFor, and one that was only just
// found again can be counted out, not removed as if it were down.
func TestConnectedForAWhile(t *testing.T) {
	now := time.Unix(1000, 0)
	e := electorate{self: 1, now: now, voters: []membership.Member{{ID: 1, Name: "a"}, {ID: 2, Name: "b"}, {ID: 3, Name: "c"}}}
	for _, c := range []struct {
		since  time.Time
		count  int
		remove error
	}{
		{now.Add(-healthyFor - 1), 3, nil},
		{now.Add(-healthyFor), 1, ErrUnhealthy},
		{now, 1, ErrUnhealthy},
		{time.Time{}, 1, nil},
	} {
		e.activeSince = func(kv.MemberID) time.Time { return c.since }
		if got := e.connected(); got != c.count {
			t.Errorf("since %v: %d connected, want %d", c.since, got, c.count)
		}
		if err := e.mayRemove(2); !errors.Is(err, c.remove) {
			t.Errorf("since %v: remove: %v, want %v", c.since, err, c.remove)
		}
	}
}

// TestLearnerReady: nine tenths of the leader's log are enough, and a learner is judged by what is known to be durable there.
func TestLearnerReady(t *testing.T) {
	for _, c := range []struct {
		leader, learner uint64
		want            error
	}{{100, 90, nil}, {100, 89, ErrLearnerNotReady}, {100, 0, ErrLearnerNotReady}, {10, 9, nil}, {5, 4, ErrLearnerNotReady}, {5, 5, nil}, {0, 0, nil}} {
		table := map[uint64]replica.Progress{1: {Match: c.leader}, 2: {Match: c.learner, Learner: true}}
		if err := caughtUp(table, 1, 2); !errors.Is(err, c.want) {
			t.Errorf("%d of %d: %v, want %v", c.learner, c.leader, err, c.want)
		}
		if err := caughtUp(table, 1, 3); !errors.Is(err, membership.ErrNotFound) {
			t.Errorf("nobody: %v", err)
		}
	}
}
