package transport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Why a snapshot is not received to its end.
var (
	errStaleSnapshot    = errors.New("a snapshot of a newer leader is being received")
	errSnapshotReplaced = errors.New("a newer snapshot takes this one's place")
	errStopping         = errors.New("the member is stopping")
)

// receiving lets one snapshot in at a time: there is room for one, and only the last is of use. A leader sends another
// only when it has given up the one before, and a leader of an older term is none.
type receiving struct {
	turn chan struct{} // holds a token while one is received

	mu      sync.Mutex // guards the fields below
	term    uint64     // of the one that was let in last
	replace func()     // ends it
	over    bool       // none is let in any more
}

func newReceiving() *receiving {
	return &receiving{turn: make(chan struct{}, 1), replace: func() {}}
}

// begin waits for the snapshot's turn, which ends at once what is under way. cancel is called when another one comes, or
// when the transport ends; done says that this one is over.
func (r *receiving) begin(ctx context.Context, term uint64, cancel func()) (done func(), err error) {
	if err := r.letIn(term, cancel); err != nil {
		return nil, err
	}
	select {
	case r.turn <- struct{}{}:
		return func() { <-r.turn }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (r *receiving) letIn(term uint64, cancel func()) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.over:
		return errStopping
	case term < r.term:
		return errStaleSnapshot
	}
	r.replace()
	r.term, r.replace = term, cancel
	return nil
}

// end ends what is being received and lets nothing in any more.
func (r *receiving) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	r.replace()
}

// serveSnapshot takes a message of type MsgSnap and the state behind it.
//
//	Shape   length (8 B, big endian) | raftpb.Message | database or checkpoint, to the end of the body
func (t *Transport) serveSnapshot(w http.ResponseWriter, r *http.Request, form Form) {
	count := t.counterFor(r)
	if !t.admitRequest(w, r, http.MethodPost) {
		count.received.failed.Add(1)
		return
	}
	t.addSender(r.Header)
	body := newTimedBody(w, r, snapshotStallMax)
	f := newFrames(body, snapshotMessageBytesMax)
	m, err := messageDecoder{f}.decode()
	if err != nil {
		count.received.failed.Add(1)
		count.receivedFailures.Add(1)
		t.cfg.Log.Warn("failed to decode Raft message", "remote-snapshot-sender-id", r.Header.Get(headerFrom), "error", err)
		fail(w, http.StatusBadRequest, fmt.Sprintf("failed to decode raft message (%v)", err))
		return
	}
	if m.GetType() != raftpb.MsgSnap || m.GetSnapshot().GetMetadata() == nil {
		count.received.failed.Add(1)
		fail(w, http.StatusBadRequest, "wrong raft message type")
		return
	}
	done := count.received.begin(t.cfg.Now)
	in := Incoming{Form: form, Size: -1, Body: f.r}
	if r.ContentLength >= 0 {
		in.Size = max(0, r.ContentLength-messageBytes(m))
	}
	err = t.receiveSnapshot(r.Context(), m, body, in)
	done(err)
	if err != nil {
		t.refuse(w, err, fmt.Sprintf("failed to save KV snapshot (%v)", err))
		return
	}
	count.receivedBytes.Add(uint64(max(0, r.ContentLength)))
	w.WriteHeader(http.StatusNoContent)
}

// messageBytes is what m takes in front of the state.
func messageBytes(m *raftpb.Message) int64 { return lengthBytes + int64(proto.Size(m)) }

// receiveSnapshot keeps the state that comes in and hands raft the message it belongs to.
func (t *Transport) receiveSnapshot(ctx context.Context, m *raftpb.Message, body *timedBody, in Incoming) error {
	if err := t.admit(m); err != nil {
		return err
	}
	if t.cfg.Snapshots == nil {
		return errors.New("this member takes no snapshots")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() { body.abandon(context.Cause(ctx)) })()
	over, err := t.taking.begin(ctx, m.GetTerm(), func() { cancel(errSnapshotReplaced) })
	if err != nil {
		return err
	}
	defer over()
	index := m.GetSnapshot().GetMetadata().GetIndex()
	log := t.cfg.Log.With("remote-snapshot-sender-id", hex(m.GetFrom()), "incoming-snapshot-index", index)
	log.Info("receiving database snapshot", "form", in.Form.String(), "bytes", in.Size)
	if err := t.cfg.Snapshots.Receive(ctx, m, in); err != nil {
		return fmt.Errorf("receive snapshot %d from %x: %w", index, m.GetFrom(), err)
	}
	log.Info("received and saved database snapshot")
	return t.step(m)
}
