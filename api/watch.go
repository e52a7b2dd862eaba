package api

import (
	"cmp"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"

	"holdfast/api/port"
	"holdfast/auth"
	"holdfast/kv"
	"holdfast/util/queue"
	"holdfast/watch"
)

// watchService is etcdserverpb.Watch with our own messages.
var watchService = grpc.ServiceDesc{
	ServiceName: "etcdserverpb.Watch",
	HandlerType: (*any)(nil),
	Streams: []grpc.StreamDesc{{StreamName: "Watch", ServerStreams: true, ClientStreams: true, Handler: func(srv any, stream grpc.ServerStream) error {
		return srv.(*API).watch(stream)
	}}},
	Metadata: "rpc.proto",
}

// watchBatchBytes is how many bytes of events are put together in one response while a watcher catches up. A single
// revision may be larger.
const watchBatchBytes = 1 << 20

// watchPendingMax is how many answers may wait for a client before its requests are left unread. A client that sends
// without reading feels the flow control of its connection then.
const watchPendingMax = 1000

// watch serves one stream of watches: one goroutine takes requests, another sends what there is. The stream ends with the
// first of them.
func (a *API) watch(stream grpc.ServerStream) error {
	hold, beside := port.HoldOf(stream.Context())
	defer hold.End()
	wake := make(chan struct{}, 1)
	w := &waker{of: a.rounds, wake: func() {
		hold.Take() // the streams of one connection are mostly woken together, and what they send goes out together
		queue.Wake(wake)
	}}
	defer w.rest()
	s := a.member.NewWatchStream(w.ask)
	defer s.Close()
	s.Beside(beside)
	g, ctx := errgroup.WithContext(stream.Context())
	g.Go(func() error {
		return a.sendWatch(ctx, stream, s, wake, func() {
			hold.Give()
			w.rest()
		})
	})
	g.Go(func() error { return a.receive(ctx, func() error { return a.receiveWatch(ctx, stream, s) }) })
	err := g.Wait()
	if errors.Is(err, context.Canceled) {
		return cause(stream.Context(), rpctypes.ErrGRPCWatchCanceled)
	}
	return toWire(err)
}

// receive runs take, which waits for the client of a stream, until it returns, the stream's context ends or the API stops.
// Waiting for a client can only be interrupted by the end of the stream: take ends when the handler has returned.
func (a *API) receive(ctx context.Context, take func() error) error {
	taken := make(chan error, 1)
	go func() { taken <- take() }()
	select {
	case err := <-taken:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-a.stopping:
		return rpctypes.ErrGRPCStopped
	}
}

// cause is why a stream's context ended: what the server ended it with, or else otherwise.
func cause(ctx context.Context, otherwise error) error {
	if why := context.Cause(ctx); why != nil && !errors.Is(why, context.Canceled) {
		return toWire(why)
	}
	return otherwise
}

// receiveWatch takes the client's requests. A client that has said all it wanted goes on receiving events, as with etcd.
func (a *API) receiveWatch(ctx context.Context, stream grpc.ServerStream, s *watch.Stream) error {
	for {
		var q watchCall
		if err := stream.RecvMsg(&q); err != nil {
			if errors.Is(err, io.EOF) {
				<-ctx.Done()
				return ctx.Err()
			}
			a.stats.Failed(stream.Context(), "receive", "watch", err)
			return err
		}
		switch {
		case q.Create != nil:
			a.createWatch(stream.Context(), s, q.Create)
		case q.Cancel != nil:
			s.Cancel(*q.Cancel)
		case q.Progress:
			s.RequestProgress()
		}
		if err := awaitReader(ctx, s); err != nil {
			return err
		}
	}
}

// createWatch starts a watch that is permitted. A start that is negative is refused before that is asked, as in etcd.
func (a *API) createWatch(ctx context.Context, s *watch.Stream, q *kv.WatchCreate) {
	if q.Start >= 0 {
		if err := a.member.CheckWatch(ctx, q); err != nil {
			s.Refuse(watchRefusal(err))
			return
		}
	}
	a.traceWatch(ctx, q)
	s.Create(q)
}

// watchRefusal is why a watch is not permitted, in etcd's words: the text of a status. etcd knows three reasons by name.
func watchRefusal(err error) string {
	for _, known := range []error{auth.ErrInvalidToken, auth.ErrOldRevision, auth.ErrUserEmpty} {
		if errors.Is(err, known) {
			return toWire(known).Error()
		}
	}
	return toWire(auth.ErrPermissionDenied).Error()
}

// awaitReader holds the requests of a client back that does not read its answers.
func awaitReader(ctx context.Context, s *watch.Stream) error {
	for s.Pending() > watchPendingMax {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// sendWatch sends what the stream has. A client that does not read holds up nobody but itself.
func (a *API) sendWatch(ctx context.Context, stream grpc.ServerStream, s *watch.Stream, wake <-chan struct{}, rest func()) error {
	out := a.newWatchOut(stream)
	progress := time.NewTimer(a.progressInterval())
	defer progress.Stop()
	for {
		if err := a.drain(out, s, rest); err != nil {
			return err
		}
		rest()
		select {
		case <-wake:
		case <-progress.C:
			s.Tick()
			progress.Reset(a.progressInterval())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// progressInterval is the interval of progress notifications, up to a tenth longer so that many streams do not come at
// once.
func (a *API) progressInterval() time.Duration {
	return a.cfg.WatchProgress + rand.N(a.cfg.WatchProgress/10+1)
}

// watchHeldMax is how many bytes of events are sent while the connection is held. gRPC takes twice as much before it waits for the client to read, for which
// the other streams of the connection must not wait.
const watchHeldMax = 32 << 10

// drain sends all that s has.
func (a *API) drain(out *watchOut, s *watch.Stream, rest func()) error {
	sent := 0
	out.begin()
	for {
		r, some, err := s.Next(watchBatchBytes)
		if err != nil || !some {
			return cmp.Or(out.flush(), err)
		}
		if sent += r.EventBytes; sent > watchHeldMax {
			rest()
		}
		if err := out.send(a.watchHeader(&r), &r); err != nil {
			return err
		}
	}
}

// watchHeader is the header of a response at this moment.
func (a *API) watchHeader(r *watch.Response) kv.Header {
	h := a.member.Header()
	h.Revision = r.Revision
	return h
}

// watchAnswer encodes a response under the header of this moment.
func (a *API) watchAnswer(r *watch.Response) outbound {
	h := a.watchHeader(r)
	parts := make([][]byte, 0, 1+len(r.Events))
	parts = append(parts, r.Append(make([]byte, 0, watchHeadMax), &h))
	return append(parts, r.Events...)
}

// watchHeadMax is more than a watch response takes without events and reasons.
const watchHeadMax = 80

// watchMessage is a response on its way to gRPC, used again for the next one: events go to many, so that what is allocated for each counts.
type watchMessage struct{ frames mem.BufferSlice }

// watchCopyMax is how long a response is at most that is written into a buffer of its own, which gRPC gives back. Copying less than
// that costs less than allocating references to it; longer ones refer to the bytes that all watchers share.
const watchCopyMax = 4 << 10

// write encodes r under h.
func (m *watchMessage) write(h kv.Header, r *watch.Response) {
	size := watchHeadMax + len(r.CancelReason) + r.EventBytes
	if size <= watchCopyMax {
		text := watchBuffer(size)
		*text = r.Append((*text)[:0], &h)
		for _, event := range r.Events {
			*text = append(*text, event...)
		}
		m.frames = mem.BufferSlice{mem.NewBuffer(text, watchBuffers)}
		return
	}
	m.frames = make(mem.BufferSlice, 0, 1+len(r.Events))
	m.frames = append(m.frames, mem.SliceBuffer(r.Append(make([]byte, 0, watchHeadMax), &h)))
	for _, event := range r.Events {
		m.frames = append(m.frames, mem.SliceBuffer(event))
	}
}

// watchBuffers keeps buffers for responses, of which each is filled at least by half, as what waits for a client is counted by what is filled.
var watchBuffers = mem.NewTieredBufferPool(2*watchPoolMin, watchCopyMax, 2*watchCopyMax, burstBytesMax)

// watchPoolMin is the length from which gRPC gives buffers back.
const watchPoolMin = 1 << 10

func watchBuffer(size int) *[]byte {
	if size <= watchPoolMin {
		text := make([]byte, 0, size)
		return &text
	}
	return watchBuffers.Get(size)
}
