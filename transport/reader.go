package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// receive keeps a stream from the peer open and hands raft what comes.
func (p *peer) receive(ctx context.Context, kind stream) error {
	for ctx.Err() == nil {
		next := time.NewTimer(redialInterval)
		if err := p.receiveOnce(ctx, kind); errors.Is(err, ErrRemoved) {
			return err
		}
		select {
		case <-next.C:
		case <-ctx.Done():
			next.Stop()
		}
	}
	return nil
}

// receiveOnce opens the stream and reads until it ends.
func (p *peer) receiveOnce(ctx context.Context, kind stream) error {
	body, err := p.open(ctx, kind)
	if err != nil {
		if ctx.Err() == nil {
			p.activity.down("dial", kind.String(), err)
		}
		return err
	}
	p.refusals.opened()
	p.activity.up()
	p.log.Info("established TCP streaming connection with remote peer", "stream-reader-type", kind.String())
	err = p.read(kind.decoder(&counted{body, &p.count.receivedBytes}, p.t.cfg.ID, p.id, p.t.cfg.MessageBytesMax))
	p.refusals.closed()
	if closing := body.Close(); closing != nil {
		err = errors.Join(err, closing)
	}
	if ctx.Err() != nil {
		return nil
	}
	p.log.Warn("lost TCP streaming connection with remote peer", "stream-reader-type", kind.String(), "error", err)
	// A peer that closes a stream may be about to open a new one; whether it is gone, the next dial tells.
	if !errors.Is(err, io.EOF) {
		p.activity.down("read", kind.String(), err)
	}
	return err
}

// read hands over messages until the stream ends, and says why it did.
func (p *peer) read(dec decoder) error {
	for {
		m, err := dec.decode()
		if err != nil {
			return err
		}
		if isLinkHeartbeat(m) {
			continue
		}
		if err := p.t.step(m); err != nil {
			p.count.receivedFailures.Add(1)
			p.log.Warn("failed to process Raft message", "message-type", m.GetType().String(), "from", hex(m.GetFrom()), "error", err)
		}
	}
}

// counted counts what is read.
type counted struct {
	io.Reader
	bytes *atomic.Uint64
}

// Read reads and counts.
func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.bytes.Add(uint64(n))
	return n, err
}

// open asks the peer to begin a stream to us.
func (p *peer) open(ctx context.Context, kind stream) (io.ReadCloser, error) {
	u, err := p.urls.pick(pathStream + string(kind) + "/" + hex(p.t.cfg.ID))
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	p.t.setHeader(req.Header)
	req.Header.Set(headerTo, hex(p.id))
	resp, err := p.t.clients.streams.RoundTrip(req)
	if err != nil {
		p.urls.failed(u)
		if p.refusals.failed(u.Host, err, p.urls.hosts()) {
			p.log.Warn("the peer's machine refuses connections: the peer is down", "error", err)
			p.t.cfg.Refused(p.id)
		}
		return nil, err
	}
	if err := checkAnswer(resp, http.StatusOK); err != nil {
		p.urls.failed(u)
		return nil, fmt.Errorf("open %s at %s: %w", kind, u.Host, err)
	}
	return resp.Body, nil
}

// step hands raft what arrived, if it is for this member and from one that was not removed. The error's text is etcd's.
func (t *Transport) step(m *raftpb.Message) error {
	if err := t.admit(m); err != nil {
		return err
	}
	if err := t.cfg.Raft.Step(m); err != nil {
		return fmt.Errorf("step %v from %x: %w", m.GetType(), m.GetFrom(), err)
	}
	return nil
}

// Refusals that a sender gets as 403.
var (
	errFromRemoved = errors.New("cannot process message from removed member")
	errNotForUs    = errors.New("cannot process message to mismatch member")
)

func (t *Transport) admit(m *raftpb.Message) error {
	switch {
	case t.cfg.Raft.IsIDRemoved(m.GetFrom()):
		return errFromRemoved
	case m.GetTo() != t.cfg.ID:
		return errNotForUs
	}
	return nil
}
