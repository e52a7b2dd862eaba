package crash

import (
	"strings"
	"testing"
	"time"
)

// Goal: the judge notices each kind of wrong. Method: a short history by hand, one fault in it at a time.
func TestJudgeNoticesFaults(t *testing.T) {
	put := func(key, value string, rev int64) event {
		return event{key: key, value: value, create: rev, mod: rev, version: 1}
	}
	both := &op{id: 1, answered: true, changed: true, revision: 2, actions: []action{{key: "a", value: "1"}, {key: "b", value: "1"}}}
	open := &op{id: 2, floor: 2, actions: []action{{key: "c", value: "2", lease: 7}}}
	leased := put("c", "2", 3)
	leased.lease = 7
	right := map[int64][]event{2: {put("a", "1", 2), put("b", "1", 2)}, 3: {leased}}
	for _, c := range []struct {
		name      string
		found     map[int64][]event
		compacted int64
		change    func(*judge)
		want      string
	}{
		{name: "nothing", found: right},
		{name: "an open operation that did not happen", found: map[int64][]event{2: right[2]}},
		{name: "half a transaction", found: map[int64][]event{2: right[2][:1], 3: right[3]}, want: "should have done"},
		{name: "another value", found: map[int64][]event{2: right[2], 3: {put("c", "x", 3)}}, want: "none of"},
		{name: "a gap", found: map[int64][]event{3: right[3]}, want: "revision 2 has no events"},
		{name: "a revision given twice", found: right, want: "was given to", change: func(j *judge) {
			j.ops = append(j.ops, &op{id: 3, answered: true, changed: true, revision: 2})
		}},
		{name: "other events than the watcher saw", found: right, want: "has changed", change: func(j *judge) {
			j.seen[3] = []event{put("c", "9", 3)}
		}},
		{name: "a compaction nobody asked for", found: map[int64][]event{3: right[3]}, compacted: 2, want: "nobody asked"},
		{name: "a compaction taken back", found: right, want: "went back", change: func(j *judge) { j.journal.compacted = 2 }},
		{name: "the end of a lease nobody asked for", want: "ends lease",
			found: map[int64][]event{2: right[2], 3: right[3], 4: {{deleted: true, key: "c", mod: 4}}}},
		{name: "the end of a lease in its time", change: func(j *judge) { j.journal.leases[7].until = time.Time{} },
			found: map[int64][]event{2: right[2], 3: right[3], 4: {{deleted: true, key: "c", mod: 4}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := newJudge()
			j.ops = []*op{both, open}
			j.journal.leases[7] = &leaseFact{granted: true, until: time.Now().Add(time.Hour)}
			if c.change != nil {
				c.change(j)
			}
			last := int64(1)
			for rev := range c.found {
				last = max(last, rev)
			}
			_, err := examination{judge: j}.replay(c.found, c.compacted, last)
			if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("the judge says %v, wanted %q", err, c.want)
			}
		})
	}
}

// A watch that leaves a revision out, or delivers one again, is noticed while it happens.
func TestJournalNoticesGapsAndRepeats(t *testing.T) {
	at := func(rev int64) []event { return []event{{key: "k", mod: rev}} }
	for name, second := range map[string]int64{"a gap": 4, "a repeat": 2} {
		j := newJournal()
		j.see(at(2))
		if j.see(at(second)); j.breached() == nil {
			t.Errorf("%s was not noticed", name)
		}
	}
	j := newJournal()
	j.see(append(at(2), at(3)...))
	j.freeze()
	j.see(at(9)) // of a member without a future
	if err := j.breached(); err != nil || j.lastSeen != 3 {
		t.Errorf("seen up to %d, %v", j.lastSeen, err)
	}
}
