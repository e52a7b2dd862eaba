package server

import (
	"errors"
	"time"

	"holdfast/kv"
	"holdfast/membership"
	"holdfast/replica"
)

// Why a change of the membership is refused before it is proposed.
var (
	// ErrNotEnoughStarted says that those who have started would be no majority of those who vote.
	ErrNotEnoughStarted = errors.New("re-configuration failed due to not enough started members")
	// ErrUnhealthy says that too few of those who vote have been in touch with this member for a while.
	ErrUnhealthy = errors.New("unhealthy cluster")
	// ErrLearnerNotReady says that a learner has too little of the leader's log to get a vote.
	ErrLearnerNotReady = errors.New("can only promote a learner member which is in sync with leader")
)

// healthyFor is how long a member must have been connected without a break to count on it. etcd's number.
const healthyFor = 5 * time.Second

// readyShare is how much of the leader's log a learner must have to be promoted. etcd's number.
const readyShare = 0.9

// electorate is who votes, and which of them this member has been in touch with. The questions are those of etcd's
// --strict-reconfig-check: would the members that work be a majority after the change?
type electorate struct {
	self   kv.MemberID
	voters []membership.Member
	// activeSince tells since when a member has been connected; the zero time if it is not.
	activeSince func(kv.MemberID) time.Time
	now         time.Time
}

func majority(n int) int { return n/2 + 1 }

// started counts the voters that have told the cluster their name.
func (e *electorate) started() (n int) {
	for i := range e.voters {
		if e.voters[i].Name != "" {
			n++
		}
	}
	return n
}

// connected counts the voters that were connected all of the last healthyFor, this member included.
func (e *electorate) connected() (n int) {
	for i := range e.voters {
		id := e.voters[i].ID
		since := e.activeSince(id)
		if id == e.self || !since.IsZero() && since.Before(e.now.Add(-healthyFor)) {
			n++
		}
	}
	return n
}

// mayAdd asks whether a member may be added. A sole member may always get a second one: data is restored that way.
func (e *electorate) mayAdd(learner bool) error {
	sole := len(e.voters) == 1
	if !learner && e.started() < majority(len(e.voters)+1) && !(sole && e.started() == 1) {
		return ErrNotEnoughStarted
	}
	if !sole && e.connected() < majority(len(e.voters)+1) {
		return ErrUnhealthy
	}
	return nil
}

// mayPromote asks whether one more member, which works, may vote.
func (e *electorate) mayPromote() error {
	if e.started()+1 < majority(len(e.voters)+1) {
		return ErrNotEnoughStarted
	}
	return nil
}

// mayRemove asks whether a member that votes may be removed. One that is down takes nothing away.
func (e *electorate) mayRemove(id kv.MemberID) error {
	rest := electorate{}
	for i := range e.voters {
		if e.voters[i].ID != id {
			rest.voters = append(rest.voters, e.voters[i])
		}
	}
	if rest.started() < majority(len(rest.voters)) {
		return ErrNotEnoughStarted
	}
	if id != e.self && e.activeSince(id).IsZero() {
		return nil
	}
	if e.connected()-1 < majority(len(e.voters)-1) {
		return ErrUnhealthy
	}
	return nil
}

// caughtUp asks, of what the leader knows, whether a learner has enough of the log. etcd asks the same of a member that
// votes, before it says that there is nothing to promote.
func caughtUp(table map[uint64]replica.Progress, leader, id kv.MemberID) error {
	learner, found := table[uint64(id)]
	if !found {
		return membership.ErrNotFound
	}
	if float64(learner.Match)/float64(table[uint64(leader)].Match) < readyShare {
		return ErrLearnerNotReady
	}
	return nil
}
