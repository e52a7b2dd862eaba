package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"holdfast/util/queue"
)

const (
	// snapshotStallMax is how long a transfer may stand still, because of a network or a disk. etcd has no bound when it
	// sends and 5 s when it receives.
	snapshotStallMax = time.Minute
	// snapshotAnswerMax is how long a receiver may take to make a snapshot durable after its last byte.
	snapshotAnswerMax = 10 * time.Minute
	// snapshotRetryPause stands between a failed snapshot and the report of it, for raft then asks for another at once.
	snapshotRetryPause = time.Second
	// snapshotMessageBytesMax bounds what comes before the database. etcd's number.
	snapshotMessageBytesMax = 64 << 20
)

// Snapshots has the states that belong to messages of type MsgSnap: the message names one, too large for it to hold.
type Snapshots interface {
	// Open gives the state to send for m, or a later one, in a form. ctx ends when it is no longer wanted, also while it is
	// read.
	Open(ctx context.Context, m *raftpb.Message, form Form) (*Snapshot, error)
	// Receive keeps what comes for the snapshot in m, durably. raft gets m once Receive has returned nil; if it
	// returns an error, what was kept is its to remove. A body that breaks off ends with an error other than io.EOF.
	Receive(ctx context.Context, m *raftpb.Message, in Incoming) error
}

// Form is how a state travels.
type Form int

const (
	// Database is an etcd database: every member, of whatever kind, takes it.
	Database Form = iota
	// Checkpoint is what Config.Checkpoints names: it goes only to a member that names the same.
	Checkpoint
)

func (f Form) String() string {
	if f == Checkpoint {
		return "checkpoint"
	}
	return "database"
}

// path is where a state of this form is posted. An etcd has never heard of the second and answers 404: what it could not
// read never gets into its hands, even if it has taken the place of a member that could.
func (f Form) path() string {
	if f == Checkpoint {
		return pathCheckpoint
	}
	return pathSnapshot
}

// Incoming is a state on its way in.
type Incoming struct {
	Form Form
	Size int64 // of Body; -1 if the sender does not say
	Body io.Reader
}

// Snapshot is a state on its way out.
type Snapshot struct {
	// Message is the one to send: that of Open, with the index, term and configuration of the state.
	Message *raftpb.Message
	Body    io.ReadCloser // of the form asked for, with the same index, term and configuration
	Size    int64         // of Body
}

// snapshotSender sends one snapshot at a time to a peer. A newer one takes its place: raft asks for it only when it has
// given up the one before.
type snapshotSender struct {
	p    *peer
	wake chan struct{}

	mu     sync.Mutex // guards the fields below
	next   *raftpb.Message
	cancel func() // ends the transfer under way
}

func (s *snapshotSender) init(p *peer) {
	s.p, s.wake, s.cancel = p, make(chan struct{}, 1), func() {}
}

// put makes m the snapshot to send.
func (s *snapshotSender) put(m *raftpb.Message) {
	if s.p.remote || s.p.t.cfg.Snapshots == nil {
		s.p.t.cfg.Raft.ReportSnapshot(s.p.id, false)
		return
	}
	s.mu.Lock()
	s.next = m
	s.cancel()
	s.mu.Unlock()
	queue.Wake(s.wake)
}

// run sends until ctx ends or the peer says that this member was removed.
func (s *snapshotSender) run(ctx context.Context) error {
	for {
		select {
		case <-s.wake:
		case <-ctx.Done():
			return nil
		}
		sending, cancel := context.WithCancel(ctx)
		m := s.begin(cancel)
		var err error
		if m != nil {
			err = s.sendOne(sending, m)
		}
		cancel()
		if errors.Is(err, ErrRemoved) {
			return err
		}
	}
}

// begin takes the snapshot to send. cancel ends it.
func (s *snapshotSender) begin(cancel func()) *raftpb.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.next
	s.next, s.cancel = nil, cancel
	return m
}

// sendOne sends a snapshot and tells raft, unless another has taken its place.
func (s *snapshotSender) sendOne(ctx context.Context, m *raftpb.Message) error {
	p := s.p
	done := p.count.sent.begin(p.t.cfg.Now)
	err := s.transfer(ctx, m)
	done(err)
	if err == nil {
		p.activity.up()
		p.t.cfg.Raft.ReportSnapshot(p.id, true)
		return nil
	}
	p.log.Warn("failed to send database snapshot", "snapshot-index", m.GetSnapshot().GetMetadata().GetIndex(), "error", err)
	p.activity.down("post", "sendMsgSnap", err)
	p.lost(1)
	select {
	case <-time.After(snapshotRetryPause):
		p.t.cfg.Raft.ReportSnapshot(p.id, false)
	case <-ctx.Done():
	}
	return err
}

func (s *snapshotSender) transfer(ctx context.Context, m *raftpb.Message) error {
	p := s.p
	wanted, unwanted := context.WithCancel(ctx)
	defer unwanted()
	form := p.form()
	snapshot, err := p.t.cfg.Snapshots.Open(wanted, m, form)
	if err != nil {
		return fmt.Errorf("open the state to send: %w", err)
	}
	head, err := messageEncoder{}.encode(nil, snapshot.Message)
	if err != nil {
		return errors.Join(err, snapshot.Body.Close())
	}
	index := snapshot.Message.GetSnapshot().GetMetadata().GetIndex()
	p.log.Info("sending database snapshot", "snapshot-index", index, "form", form.String(), "bytes", snapshot.Size)
	began := p.t.cfg.Now()
	size := int64(len(head)) + snapshot.Size
	body := newSharedBody(io.MultiReader(bytes.NewReader(head), snapshot.Body), snapshot.Body)
	err = p.post(ctx, p.t.clients.snapshots, form.path(), "application/octet-stream", body, size)
	unwanted()
	if form == Checkpoint && errors.Is(err, errNotFound) {
		p.takes.Store(nil) // the next one goes as a database
	}
	if err = errors.Join(err, body.Close()); err != nil {
		return err
	}
	p.count.sentBytes.Add(uint64(size))
	took := p.t.cfg.Now().Sub(began)
	p.log.Info("sent database snapshot", "snapshot-index", index, "form", form.String(), "bytes", snapshot.Size,
		"took", took, "bytes-per-second", Rate(snapshot.Size, took))
	return nil
}

// Rate is bytes per second.
func Rate(bytes int64, took time.Duration) int64 {
	if took <= 0 {
		return 0
	}
	return int64(float64(bytes) / took.Seconds())
}

// form is how the peer takes states: checkpoints if it has said that it reads those of this member.
func (p *peer) form() Form {
	if takes := p.takes.Load(); takes != nil && p.t.cfg.Checkpoints != "" && *takes == p.t.cfg.Checkpoints {
		return Checkpoint
	}
	return Database
}

// sharedBody is a body that net/http may go on reading for a moment after it has returned.
type sharedBody struct {
	r      io.Reader
	closer io.Closer
	turn   chan struct{} // holds a token while somebody reads or closes
	closed bool          // belongs to whoever put the token there
}

func newSharedBody(r io.Reader, c io.Closer) *sharedBody {
	return &sharedBody{r: r, closer: c, turn: make(chan struct{}, 1)}
}

// Read reads unless the body is closed.
func (b *sharedBody) Read(p []byte) (int, error) {
	b.turn <- struct{}{}
	defer func() { <-b.turn }()
	if b.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	return b.r.Read(p)
}

// Close closes the body once nobody reads. Only the first call can fail.
func (b *sharedBody) Close() error {
	b.turn <- struct{}{}
	defer func() { <-b.turn }()
	if b.closed {
		return nil
	}
	b.closed = true
	return b.closer.Close()
}
