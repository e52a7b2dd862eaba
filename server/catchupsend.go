package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"holdfast/checkpoint"
	"holdfast/etcdfile"
	"holdfast/kv"
	"holdfast/storage"
	"holdfast/transport"
)

// Open implements transport.Snapshots.
func (c *catchUp) Open(ctx context.Context, m *raftpb.Message, form transport.Form) (*transport.Snapshot, error) {
	flight := c.flying.begin(kv.Index(m.GetSnapshot().GetMetadata().GetIndex()))
	end := c.counts.exported.begin(c.cfg.Now)
	out, err := c.make(ctx, form)
	took := end(out.size, err)
	if err != nil {
		flight.drop()
		return nil, err
	}
	flight.to(out.at.Index)
	message, err := out.message(m)
	if err != nil {
		flight.drop()
		return nil, errors.Join(err, out.body.Close())
	}
	c.log.Info("made a state to send", "form", form.String(), "index", out.at.Index, "bytes", out.size,
		"took", took, "bytes-per-second", transport.Rate(out.size, took))
	sent := c.counts.sent.begin(c.cfg.Now)
	return &transport.Snapshot{Message: message, Size: out.size, Body: &flyingBody{
		outgoing: out, end: sent, flight: flight, stopped: func() error { return c.snapshotStopped(ctx) },
	}}, nil
}

// outgoing is a state ready to be sent.
type outgoing struct {
	body io.ReadCloser
	size int64
	at   storage.Applied
	// membership is what etcd carries in the message itself.
	membership []byte
}

// make writes the present state out in a form.
func (c *catchUp) make(ctx context.Context, form transport.Form) (outgoing, error) {
	if form == transport.Checkpoint {
		return c.makeCheckpoint()
	}
	return c.makeDatabase(ctx)
}

// checkpoints names the checkpoints that this program makes and reads: the form of the stream, of the files in it, and of what
// they hold. Where it is empty, states travel as databases.
func (s *Server) checkpoints() string {
	if s.cfg.NoCheckpoints {
		return ""
	}
	return checkpoint.Version + "." + storage.Format() + "." + formatVersion
}

func (c *catchUp) makeCheckpoint() (outgoing, error) {
	dir := c.dir.path("tmp", strconv.FormatUint(c.ids.draw(), 16)+".checkpoint")
	out, err := c.openCheckpoint(dir)
	if err != nil {
		return outgoing{}, fmt.Errorf("make a checkpoint: %w", errors.Join(err, c.dir.fs.RemoveAll(dir)))
	}
	return out, nil
}

func (c *catchUp) openCheckpoint(dir string) (out outgoing, err error) {
	if c.space.low.Load() { // its links keep from the disk what compactions would give back
		return outgoing{}, errNoSnapshotSpace
	}
	if err := c.store.Checkpoint(dir); err != nil {
		return outgoing{}, err
	}
	if out.at, err = storage.AppliedIn(storage.Config{FS: c.dir.fs, Dir: dir}); err != nil {
		return outgoing{}, err
	}
	r, err := checkpoint.NewReader(c.dir.fs, dir)
	if err != nil {
		return outgoing{}, err
	}
	out.size = r.Size()
	out.body = tempFile{Reader: r, close: func() error { return errors.Join(r.Close(), c.dir.fs.RemoveAll(dir)) }}
	return out, nil
}

func (c *catchUp) makeDatabase(ctx context.Context) (outgoing, error) {
	path := c.dir.path("tmp", strconv.FormatUint(c.ids.draw(), 16)+".db")
	out, err := c.exportDatabase(ctx, path)
	if err != nil {
		return outgoing{}, fmt.Errorf("write a database: %w", errors.Join(err, c.removeTemp(path)))
	}
	return out, nil
}

func (c *catchUp) exportDatabase(ctx context.Context, path string) (out outgoing, err error) {
	source, err := c.exportTo(ctx, path)
	if err != nil {
		return outgoing{}, err
	}
	out.at = source.applied
	if out.membership, err = source.membership(); err != nil {
		return outgoing{}, err
	}
	f, err := c.dir.fs.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return outgoing{}, err
	}
	info, err := f.Stat()
	if err != nil {
		return outgoing{}, errors.Join(err, f.Close())
	}
	out.size = info.Size()
	out.body = tempFile{Reader: f, close: func() error { return errors.Join(f.Close(), c.removeTemp(path)) }}
	return out, nil
}

// membership is etcd's dump of its old store, which holds nothing else.
func (e *exportSource) membership() ([]byte, error) {
	var members []etcdfile.Member
	for m, err := range e.Members() {
		if err != nil {
			return nil, err
		}
		members = append(members, m)
	}
	return etcdfile.V2Membership(members, e.cluster.RemovedMembers(), e.cluster.Version())
}

// message is m with the position of the state that goes with it.
func (o *outgoing) message(m *raftpb.Message) (*raftpb.Message, error) {
	conf := new(raftpb.ConfState)
	if err := proto.Unmarshal(o.at.ConfState, conf); err != nil {
		return nil, fmt.Errorf("read the raft configuration: %w", err)
	}
	if wanted := m.GetSnapshot().GetMetadata().GetIndex(); uint64(o.at.Index) < wanted {
		return nil, fmt.Errorf("the store is at entry %d, raft wants the state at %d", o.at.Index, wanted)
	}
	m = proto.Clone(m).(*raftpb.Message)
	m.Snapshot = &raftpb.Snapshot{
		Data: o.membership,
		Metadata: &raftpb.SnapshotMetadata{
			Index: proto.Uint64(uint64(o.at.Index)), Term: proto.Uint64(uint64(o.at.Term)), ConfState: conf,
		},
	}
	return m, nil
}

// flyingBody is a state on its way.
type flyingBody struct {
	outgoing
	stopped func() error
	end     func(bytes int64, err error) time.Duration
	flight  *flight
	read    int64
}

// Read implements io.Reader.
func (b *flyingBody) Read(p []byte) (int, error) {
	if err := b.stopped(); err != nil {
		return 0, err
	}
	n, err := b.body.Read(p)
	b.read += int64(n)
	return n, err
}

// errCutShort is how a transfer counts that was not read to its end.
var errCutShort = errors.New("cut short")

// Close implements io.Closer.
func (b *flyingBody) Close() error {
	var err error
	if b.read < b.size {
		err = errCutShort
	}
	b.end(b.read, err)
	b.flight.land()
	return b.body.Close()
}

// flying are the states on their way to other members. The log is kept from there on: a member that has just got a state
// must find what follows it, or it would need another one at once, and another.
type flying struct {
	now func() time.Time

	mu      sync.Mutex // guards the field below
	flights map[*flight]bool
}

// flight is one state on its way.
type flight struct {
	in    *flying
	index kv.Index
	// until is how long the log is kept after it has landed; zero while it flies.
	until time.Time
}

// landedKept is how long the log is kept for a member that has got a state, as in etcd: time to put it in force and to ask for
// what follows.
const landedKept = 30 * time.Second

func newFlying(now func() time.Time) flying { return flying{now: now, flights: map[*flight]bool{}} }

// begin keeps the log behind index.
func (f *flying) begin(index kv.Index) *flight {
	f.mu.Lock()
	defer f.mu.Unlock()
	one := &flight{in: f, index: index}
	f.flights[one] = true
	return one
}

// lowest is the index of the oldest state whose receiver may need what follows it.
func (f *flying) lowest() (kv.Index, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	lowest, any := kv.Index(0), false
	for one := range f.flights {
		if !one.until.IsZero() && f.now().After(one.until) {
			delete(f.flights, one)
			continue
		}
		if !any || one.index < lowest {
			lowest, any = one.index, true
		}
	}
	return lowest, any
}

// to says which state it became.
func (o *flight) to(index kv.Index) {
	o.in.mu.Lock()
	defer o.in.mu.Unlock()
	o.index = index
}

// land says that the state has arrived, or been given up.
func (o *flight) land() {
	o.in.mu.Lock()
	defer o.in.mu.Unlock()
	o.until = o.in.now().Add(landedKept)
}

// drop says that nothing was sent.
func (o *flight) drop() {
	o.in.mu.Lock()
	defer o.in.mu.Unlock()
	delete(o.in.flights, o)
}

// CatchUpStats counts how states went to and came from other members.
type CatchUpStats struct {
	// Sent and Received are transfers, whatever became of them at the other end. Exported is what was made to be sent,
	// Imported the part of Received that is spent on databases once their last byte is there.
	Sent, Received, Exported, Imported WorkStats
	// InForce is how many received states took the place of this member's.
	InForce uint64
}

// WorkStats counts work of one kind.
type WorkStats struct {
	UnderWay     int64
	Done, Failed uint64
	Bytes        uint64        // of those done
	Took         time.Duration // those done, together
}

// CatchUpStats returns what was counted since the member started.
func (s *Server) CatchUpStats() CatchUpStats { return s.catchUp.counts.stats() }

type catchUpCounts struct {
	sent, received, exported, imported workCounts
	inForce                            atomic.Uint64
}

func (c *catchUpCounts) stats() CatchUpStats {
	return CatchUpStats{
		Sent: c.sent.stats(), Received: c.received.stats(), Exported: c.exported.stats(), Imported: c.imported.stats(),
		InForce: c.inForce.Load(),
	}
}

type workCounts struct {
	underWay, took      atomic.Int64
	done, failed, bytes atomic.Uint64
}

// begin counts one piece of work. end says how it ended and returns how long it took.
func (w *workCounts) begin(now func() time.Time) (end func(bytes int64, err error) time.Duration) {
	began := now()
	w.underWay.Add(1)
	return func(bytes int64, err error) time.Duration {
		took := now().Sub(began)
		w.underWay.Add(-1)
		if err != nil {
			w.failed.Add(1)
			return took
		}
		w.done.Add(1)
		w.bytes.Add(uint64(bytes))
		w.took.Add(int64(took))
		return took
	}
}

func (w *workCounts) stats() WorkStats {
	return WorkStats{
		UnderWay: w.underWay.Load(), Done: w.done.Load(), Failed: w.failed.Load(), Bytes: w.bytes.Load(), Took: time.Duration(w.took.Load()),
	}
}
