package bench

import (
	"fmt"
	"time"
)

// turn is one round of a row: both sides, one after the other.
type turn struct {
	row   row
	round int
}

// roundsPromised is how often the promised rows are measured before any other: as often as makes a median.
const roundsPromised = 3

// turns is everything that is to be measured, in order: what is promised first, then a round of everything else, then the rest. A run that is cut
// off knows most of what matters most, and one round of a row is followed by those of others, so that a bad moment of the machine moves none much.
func (s *suite) turns() []turn {
	var first, others, rest []turn
	for round := 1; round <= s.roundsMax(); round++ {
		for _, r := range s.rows {
			_, isPromised := promised[r.name]
			switch t := (turn{r, round}); {
			case round > s.rounds(r):
			case isPromised && round <= roundsPromised:
				first = append(first, t)
			case round == 1:
				others = append(others, t)
			default:
				rest = append(rest, t)
			}
		}
	}
	return append(append(first, others...), rest...)
}

func (s *suite) roundsMax() (n int) {
	for _, r := range s.rows {
		n = max(n, s.rounds(r))
	}
	return n
}

// rounds is how often a row is measured: those that vary a promised one, as often as heavy ones.
func (s *suite) rounds(r row) int {
	_, isPromised := promised[r.name]
	switch {
	case r.once:
		return 1
	case s.cfg.Rounds > 0:
		return s.cfg.Rounds
	case r.heavy || !isPromised:
		return roundsHeavy
	}
	return roundsLight
}

// takesLight is what a measurement of one side takes, takes what those of other rows do, and prepares what making their stock takes in the first one:
// rough figures of two cores, for rows of which nothing was measured yet.
const takesLight = 6 * time.Second

var takes = map[string]time.Duration{
	"load": 48 * time.Second, "put-members-3": 20 * time.Second, "put-members-5": 30 * time.Second, "restart": 21 * time.Second,
	"compact-idle": 15 * time.Second, "defragment": 20 * time.Second, "failover": 170 * time.Second, "put-half": 12 * time.Second,
	"lease-grant-1000": 10 * time.Second, "kube-mixed": 20 * time.Second, "watch-10000": 13 * time.Second, "compact-serving": 90 * time.Second,
	"ranges-40": 25 * time.Second, "idle": 22 * time.Second, "idle-members-3": 22 * time.Second, "leases": 100 * time.Second,
	"load-sequential": 90 * time.Second, "load-10m": 240 * time.Second,
}

var prepares = map[string]time.Duration{
	"compact-idle": 45 * time.Second, "defragment": 30 * time.Second, "list-10000": 15 * time.Second, "ranges-40": 8 * time.Second,
	"kube-mixed": 10 * time.Second,
}

// expect is what a turn takes: what the row took last, or else what it takes somewhere. What was measured before takes nothing.
func (s *suite) expect(t turn) (total time.Duration) {
	for _, p := range s.sides {
		if s.done(t, p) {
			continue
		}
		took, known := s.results.lastTook(t.row.name, p)
		switch first := takes[t.row.name]; {
		case known:
			total += took
		case first > 0:
			total += first
		default:
			total += takesLight
		}
		if !known && t.round == 1 {
			total += prepares[t.row.name]
		}
	}
	return total
}

// done tells whether a side need not be measured in a turn: it was, or it has failed.
func (s *suite) done(t turn, p side) bool {
	return s.failed[t.row.name+" "+p.name] || s.results.has(t.row.name, p, t.round)
}

// left is what turns take, and what there is for them.
func (s *suite) left(turns []turn) string {
	var left time.Duration
	for _, t := range turns {
		left += s.expect(t)
	}
	if s.until.IsZero() {
		return fmt.Sprintf("%.0f min left", left.Minutes())
	}
	return fmt.Sprintf("%.0f min left, for %.0f", max(0, time.Until(s.until).Minutes()), left.Minutes())
}
