package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// postWaiting posts what waits in the pipeline, until ctx ends or the peer says that this member was removed.
func (p *peer) postWaiting(ctx context.Context) error {
	for {
		select {
		case m := <-p.pipeline.c:
			p.pipeline.sent(m)
			if err := p.postMessage(ctx, m); errors.Is(err, ErrRemoved) {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// postMessage posts m and reports how that went.
func (p *peer) postMessage(ctx context.Context, m *raftpb.Message) error {
	b, err := proto.Marshal(m)
	if err == nil {
		err = p.post(ctx, p.t.clients.posts, pathRaft, "application/protobuf", bytes.NewReader(b), int64(len(b)))
	}
	if err != nil {
		p.activity.down("write", "pipeline", err)
		p.lost(1)
		return err
	}
	p.activity.up()
	p.count.sentBytes.Add(uint64(len(b)))
	return nil
}

// post sends body, of size bytes, to the peer and returns nil if it was taken. It may be read from a little longer.
func (p *peer) post(ctx context.Context, client *http.Transport, path, contentType string, body io.Reader, size int64) error {
	u, err := p.urls.pick(path)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), body)
	if err != nil {
		return err
	}
	req.ContentLength = size
	p.t.setHeader(req.Header)
	req.Header.Set("Content-Type", contentType)
	resp, err := client.RoundTrip(req)
	if err == nil {
		err = checkAnswer(resp, http.StatusNoContent)
	}
	if err != nil {
		p.urls.failed(u)
		return fmt.Errorf("post to %s: %w", u.Host, err)
	}
	return resp.Body.Close()
}
