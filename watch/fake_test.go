package watch

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"holdfast/kv"
)

// op is one change of a key; an empty value deletes it.
type op struct{ key, value string }

// history is a store in memory: it makes changes out of operations and answers for them as long as they are not
// compacted away.
type history struct {
	mu        sync.Mutex
	rev       kv.Revision
	changes   []kv.Change // of revision 2 and up
	current   map[string]kv.KeyValue
	compacted kv.Revision
	fail      error // what the next read answers
	// blockBytes, if set, overrides the size a read is asked for.
	blockBytes int
}

func newHistory() *history {
	return &history{rev: 1, compacted: -1, current: make(map[string]kv.KeyValue)}
}

// apply makes the next revision of ops.
func (h *history) apply(ops ...op) kv.Change {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rev++
	c := kv.Change{Revision: h.rev}
	for i, o := range ops {
		e := kv.Event{Rev: kv.Rev{Main: h.rev, Sub: int64(i)}}
		old, had := h.current[o.key]
		if had {
			e.Prev = old.Append(nil)
		}
		value := kv.KeyValue{Key: []byte(o.key), Mod: h.rev}
		if o.value == "" {
			e.Type = kv.EventDelete
			delete(h.current, o.key)
		} else {
			value.Value, value.Version, value.Create = []byte(o.value), 1, h.rev
			if had {
				value.Version, value.Create = old.Version+1, old.Create
			}
			h.current[o.key] = value
		}
		e.KV = value.Append(nil)
		e.Key = e.KV[2 : 2+len(o.key)]
		c.Events = append(c.Events, e)
	}
	h.changes = append(h.changes, c)
	return c
}

// bare is c as it comes when nobody wants to know what was there before.
func bare(c kv.Change) kv.Change {
	c.Events = slices.Clone(c.Events)
	for i := range c.Events {
		if e := &c.Events[i]; e.Prev != nil {
			e.Prev, e.NoPrev = nil, true
		}
	}
	return c
}

func (h *history) compact(rev kv.Revision) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.compacted = rev
}

func (h *history) Compacted() kv.Revision {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.compacted
}

var errCompacted = errors.New("compacted")

func (h *history) Events(from kv.Rev, upTo kv.Revision, maxBytes int, withPrev bool) ([]kv.Event, kv.Rev, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.fail; err != nil {
		h.fail = nil
		return nil, kv.Rev{}, err
	}
	if from.Main < h.compacted {
		return nil, kv.Rev{}, errCompacted
	}
	if from.Main > upTo || upTo > h.rev {
		panic(fmt.Sprintf("read from %s up to %d at revision %d", from, upTo, h.rev))
	}
	if h.blockBytes > 0 {
		maxBytes = h.blockBytes
	}
	var events []kv.Event
	size := 0
	for rev := max(from.Main, 2); rev <= upTo; rev++ {
		for _, e := range h.changes[rev-2].Events {
			if e.Rev.Less(from) {
				continue
			}
			if size += len(e.KV); len(events) > 0 && size > maxBytes {
				return events, e.Rev, nil
			}
			if !withPrev || e.Rev.Main-1 < h.compacted {
				e.Prev = nil
			}
			events = append(events, e)
		}
	}
	return events, kv.Rev{Main: upTo + 1}, nil
}

// decode reads a response as a client would.
func decode(r Response) *pb.WatchResponse {
	raw := r.WatchAnswer.Append(nil, &kv.Header{Revision: r.Revision})
	size := 0
	for _, e := range r.Events {
		raw = append(raw, e...)
		size += len(e)
	}
	if size != r.EventBytes {
		panic(fmt.Sprintf("events of %d bytes said to be %d", size, r.EventBytes))
	}
	m := new(pb.WatchResponse)
	if err := proto.Unmarshal(raw, m); err != nil {
		panic(err)
	}
	return m
}

// show writes a response on one line.
func show(r Response) string {
	m := decode(r)
	var b strings.Builder
	fmt.Fprintf(&b, "id=%d rev=%d", m.WatchId, m.Header.GetRevision())
	for _, f := range []struct {
		set  bool
		name string
	}{{m.Created, "created"}, {m.Canceled, "canceled"}, {m.Fragment, "fragment"}} {
		if f.set {
			b.WriteString(" " + f.name)
		}
	}
	if m.CompactRevision != 0 {
		fmt.Fprintf(&b, " compact=%d", m.CompactRevision)
	}
	if m.CancelReason != "" {
		fmt.Fprintf(&b, " reason=%q", m.CancelReason)
	}
	for _, e := range m.Events {
		fmt.Fprintf(&b, " | %s %s", strings.ToLower(e.Type.String()), e.Kv.Key)
		if len(e.Kv.Value) > 0 {
			fmt.Fprintf(&b, "=%s", e.Kv.Value)
		}
		fmt.Fprintf(&b, "@%d", e.Kv.ModRevision)
		if e.Kv.Version > 0 {
			fmt.Fprintf(&b, " v%d", e.Kv.Version)
		}
		if e.PrevKv != nil {
			fmt.Fprintf(&b, " was %s@%d", e.PrevKv.Value, e.PrevKv.ModRevision)
		}
	}
	return b.String()
}
