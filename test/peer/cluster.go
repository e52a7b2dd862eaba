package peer

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// A Cluster takes the place of our one server: each operation is asked of one of its members, by turns, and the reference
// stays a single etcd. What was acknowledged by one member has to be seen on the next, so before an operation that is
// answered from a member's own state that member is given time to come as far as the one before.
type Cluster struct {
	// Open starts the members on empty folders under dir with flags; the side is ready to serve.
	Open func(ctx context.Context, dir string, flags []string) (Side, error)
	// Disturb is nil or returns what is done to the members before the operation at a place in the list, nil for nothing.
	Disturb func(place int) *Disturbance
	// Check looks at the members once all operations have run.
	Check func(ctx context.Context) error
	// Differences are lines as in differences.txt that hold for a cluster beside a single server.
	Differences string
	// ElectionMillis is the election timeout of both sides.
	ElectionMillis int
}

// A Disturbance is something done to a cluster between two operations, which may change nothing of what is compared.
type Disturbance struct {
	Name string
	// Reconnect says that another set of members serves afterwards: streams and connections of both sides are opened anew.
	Reconnect bool
	// Forgets says that some member lost what it only remembers: the hash of the last compaction.
	Forgets bool
	Do      func(ctx context.Context) error
}

// minTTL is the shortest life of a lease, in seconds, that follows from an election timeout.
func (c *Cluster) minTTL() int64 { return int64(math.Ceil(1.5 * float64(c.ElectionMillis) / 1000)) }

// disturb lets something happen to the cluster behind a barrier.
func (w *world) disturb(ctx context.Context, d *Disturbance) error {
	if err := w.barrier(); err != nil {
		return err
	}
	if err := w.waitCompacted(); err != nil {
		return err
	}
	if err := w.replay(); err != nil {
		return err
	}
	if d.Reconnect {
		w.closeStreams()
	}
	if err := d.Do(ctx); err != nil {
		return fmt.Errorf("%s: %w", d.Name, err)
	}
	w.patchy = w.patchy || d.Forgets
	// A new leader gives each lease its whole life again.
	w.slack = int64(time.Since(w.began).Seconds()) + 2*w.settings.minTTL
	if !d.Reconnect {
		return nil
	}
	for t := range w.targets {
		if err := w.connect(t); err != nil {
			return err
		}
	}
	w.replays = 0 // the new history begins further back; what it repeats leaves keys as they are
	return nil
}

// spared says whether a request is not made because members of a cluster need not agree on the answer: it asks for a hash
// that some no longer remember, or for a compaction at 0. After that one etcd takes the hash it remembers for revision 0
// for the newest, in its own comparison of members too, and calls the others corrupt.
func (w *world) spared(request proto.Message) bool {
	switch r := request.(type) {
	case *pb.HashKVRequest:
		return w.patchy && (r.Revision == w.compacted || r.Revision == 0 && w.current == w.compacted)
	case *pb.CompactionRequest:
		return w.cluster != nil && r.Revision == 0
	}
	return false
}

// memberID is what a member writes into its headers.
type memberID struct{ cluster, member uint64 }

// learnIDs remembers which member is behind each connection, to check the headers of its answers.
func (t *target) learnIDs() error {
	var ids []memberID
	for conn := range t.conns {
		a := t.call(conn, memberStatus, nil, &pb.StatusRequest{})
		r, ok := a.only().(*pb.StatusResponse)
		if !ok {
			return fmt.Errorf("status of %s, connection %d: %s", t.name, conn, a)
		}
		ids = append(ids, memberID{r.Header.ClusterId, r.Header.MemberId})
	}
	t.ids = ids
	return nil
}

// checkOrigin checks that the header of an answer is that of the member which was asked.
func (t *target) checkOrigin(conn int, m proto.Message) error {
	h, ok := m.(interface{ GetHeader() *header })
	if !ok || h.GetHeader() == nil || len(t.ids) == 0 {
		return nil
	}
	if got := (memberID{h.GetHeader().ClusterId, h.GetHeader().MemberId}); got != t.ids[conn] {
		return fmt.Errorf("peer: the header is that of %x, member %x has answered", got, t.ids[conn])
	}
	return nil
}

// catchUp waits until the member behind a connection has applied what the one asked before had applied. Requests that
// are answered only after that anyway are not held up.
func (w *world) catchUp(t *target, conn int, path string, requests []proto.Message) error {
	if t.members == 1 {
		return nil
	}
	last := t.last
	t.last = conn
	if last%t.members == conn%t.members || linearizable(path, requests) {
		return nil
	}
	want, err := t.applied(last)
	if err != nil {
		return err
	}
	reached := eventually(func() bool {
		var got uint64
		got, err = t.applied(conn)
		return err != nil || got >= want
	})
	if err == nil && !reached {
		err = w.differ("the member behind connection %d never applies entry %d, which another has applied", conn, want)
	}
	return err
}

// applied returns the last entry the member behind a connection has applied.
func (t *target) applied(conn int) (uint64, error) {
	a := t.call(conn, memberStatus, t.identity, &pb.StatusRequest{})
	r, ok := a.only().(*pb.StatusResponse)
	if !ok {
		return 0, fmt.Errorf("status of %s, connection %d: %s", t.name, conn, a)
	}
	return r.RaftAppliedIndex, nil
}

// linearizable says whether a request waits by itself for everything acknowledged before it.
func linearizable(path string, requests []proto.Message) bool {
	switch path {
	case put, deleteRange, compact, leaseGrant, leaseRevoke:
		return true
	case kvRange, rangeStream:
		return len(requests) == 1 && !requests[0].(*pb.RangeRequest).Serializable
	}
	// Users and roles are changed and read through the log. A txn of reads alone may be serializable.
	return strings.HasPrefix(path, authPath)
}
