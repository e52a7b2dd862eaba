package transport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

const (
	// batchBytes is when a batch of messages is written though more wait: enough that a system call's cost disappears.
	batchBytes = 256 << 10
	// keptBatchBytes is the largest buffer kept for the next batch: raft's usual message and what fits beside it.
	keptBatchBytes = 2 << 20
	// writeBytes is written within Config.WriteTimeout, or the connection is given up.
	writeBytes = 64 << 10
)

// sender writes one stream to a peer, on whichever connection the peer opened last. The goroutine that serves the peer's
// request does the writing.
type sender struct {
	p    *peer
	kind stream
	box  *outbox
	turn chan struct{} // holds a token while a connection is written to

	mu      sync.Mutex // guards the field below
	replace func()     // ends the connection served, or waiting for its turn
}

func newSender(p *peer, kind stream) *sender {
	return &sender{p: p, kind: kind, box: newOutbox(streamMessagesMax), turn: make(chan struct{}, 1), replace: func() {}}
}

// serve writes to w until ctx ends, the peer opens another connection or ends, or writing fails.
func (s *sender) serve(ctx context.Context, w http.ResponseWriter) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	s.replace()
	s.replace = cancel
	s.mu.Unlock()
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return
	case <-s.p.done:
		return
	}
	c := &answer{w: w, control: http.NewResponseController(w), bound: s.p.t.cfg.WriteTimeout}
	err := c.begin()
	if err == nil {
		err = s.write(ctx, c)
	}
	if err == nil {
		s.p.log.Info("closed TCP streaming connection with remote peer", "stream-writer-type", s.String())
		return
	}
	s.p.activity.down("write", s.String(), err)
	s.p.lost(1)
	s.p.log.Warn("lost TCP streaming connection with remote peer", "stream-writer-type", s.String(), "error", err)
}

// String names the stream in the log.
func (s *sender) String() string { return s.kind.String() }

// String names the stream in the log, as etcd does.
func (s stream) String() string {
	if s == streamMsgApp {
		return "stream MsgApp v2"
	}
	return "stream Message"
}

// write sends what waits, and a sign of life when the time for it has come.
func (s *sender) write(ctx context.Context, c *answer) error {
	s.box.open()
	defer func() { s.p.lost(s.box.shut()) }()
	s.p.activity.up()
	s.p.log.Info("established TCP streaming connection with remote peer", "stream-writer-type", s.String())
	enc := s.kind.encoder()
	heartbeat := time.NewTicker(heartbeatInterval)
	defer heartbeat.Stop()
	var buf []byte
	for {
		var err error
		select {
		case m := <-s.box.c:
			buf, err = s.batch(enc, buf[:0], m)
		case <-heartbeat.C:
			buf, err = enc.encode(buf[:0], linkHeartbeat)
		case <-ctx.Done():
			return nil
		case <-s.p.done:
			return nil
		}
		if err == nil {
			err = c.write(buf)
		}
		if err != nil {
			return err
		}
		s.p.count.sentBytes.Add(uint64(len(buf)))
		if cap(buf) > keptBatchBytes {
			buf = nil
		}
	}
}

// batch encodes m and what waits behind it.
func (s *sender) batch(enc encoder, buf []byte, m *raftpb.Message) ([]byte, error) {
	for {
		s.box.sent(m)
		var err error
		if buf, err = enc.encode(buf, m); err != nil {
			return buf, fmt.Errorf("encode %v: %w", m.GetType(), err)
		}
		if len(buf) >= batchBytes {
			return buf, nil
		}
		select {
		case m = <-s.box.c:
		default:
			return buf, nil
		}
	}
}

// answer is the body of an answer that never ends.
type answer struct {
	w       http.ResponseWriter
	control *http.ResponseController
	bound   time.Duration // for each write
}

// begin tells the peer that the stream is open.
func (a *answer) begin() error {
	err := errors.Join(a.control.SetReadDeadline(time.Time{}), a.control.SetWriteDeadline(time.Now().Add(a.bound)))
	if err != nil {
		return err
	}
	a.w.WriteHeader(http.StatusOK)
	return a.control.Flush()
}

// write sends b at once. The connection may take the bound for each piece.
func (a *answer) write(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), writeBytes)
		if err := a.control.SetWriteDeadline(time.Now().Add(a.bound)); err != nil {
			return err
		}
		if _, err := a.w.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return a.control.Flush()
}
