package mvcc

import (
	"testing"

	"holdfast/kv"
)

// TestEventOfKeyChangedTwice sets and deletes a key within one command, which etcd's check for duplicate keys lets pass in
// some forms: a watcher is told the value before the revision, whether the event comes from the run or from the history.
func TestEventOfKeyChangedTwice(t *testing.T) {
	st, s := openMem(t)
	key := []byte("k")
	write(t, st, s, func(c *Command) { c.Put(key, []byte("old"), 0) })
	live := write(t, st, s, func(c *Command) {
		c.Put(key, []byte("new"), 0)
		c.DeleteRange(kv.KeyRange{Key: key}, nil)
	})[0].Events
	read, _, err := s.Events(kv.Rev{Main: 3}, 3, 1<<20, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, events := range [][]kv.Event{live, read} {
		if len(events) != 2 {
			t.Fatalf("%d events", len(events))
		}
		for i, e := range events {
			v, err := kv.DecodeKeyValue(e.Prev)
			if err != nil || string(v.Value) != "old" {
				t.Errorf("event %d says that %q was there before (%v)", i, v.Value, err)
			}
		}
	}
}

// TestEventOfKeyMadeAnew deletes and sets a key within one command: the put is a creation, and nothing was there before a
// creation.
func TestEventOfKeyMadeAnew(t *testing.T) {
	st, s := openMem(t)
	key := []byte("k")
	write(t, st, s, func(c *Command) { c.Put(key, []byte("old"), 0) })
	live := write(t, st, s, func(c *Command) {
		c.DeleteRange(kv.KeyRange{Key: key}, nil)
		c.Put(key, []byte("new"), 0)
	})[0].Events
	read, _, err := s.Events(kv.Rev{Main: 3}, 3, 1<<20, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, events := range [][]kv.Event{live, read} {
		if len(events) != 2 || events[0].Prev == nil || events[1].Prev != nil {
			t.Errorf("events %v", events)
		}
	}
}
