package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// stampMark begins a stamp: eight bytes that noise does not hold, then the time in nanoseconds, big endian.
var stampMark = []byte("\x00stamp\x00\xff")

const stampBytes = 16

// timeStamped is the nth value of size bytes, with the time at its start: who receives it knows how long it was under way.
func timeStamped(n, size int) []byte {
	v := slices.Clone(value(n, size))
	copy(v, stampMark)
	binary.BigEndian.PutUint64(v[len(stampMark):], uint64(time.Now().UnixNano()))
	return v
}

// stampsIn calls f with the age of each stamp in an answer as it came.
func stampsIn(text []byte, now time.Time, f func(age time.Duration)) {
	for {
		at := bytes.Index(text, stampMark)
		if at < 0 || len(text) < at+stampBytes {
			return
		}
		sent := int64(binary.BigEndian.Uint64(text[at+len(stampMark):]))
		f(time.Duration(now.UnixNano() - sent))
		text = text[at+stampBytes:]
	}
}

// audience is watch streams whose events are counted and timed.
type audience struct {
	phase atomic.Int32 // events that come while measuring count
	heard atomic.Int64 // events, on all streams, ever
	stop  context.CancelFunc
	wg    sync.WaitGroup

	mu    sync.Mutex      // guards the fields below
	took  []time.Duration // from the call that caused an event to its arrival
	first error
}

// watchStream is one stream, with what it takes to end it.
type watchStream struct {
	grpc.ClientStream
	ctx context.Context
}

// openStream opens a stream that watches what requests say, and returns when all are in force.
func openStream(ctx context.Context, conn *grpc.ClientConn, requests []*pb.WatchCreateRequest) (watchStream, error) {
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, pb.Watch_Watch_FullMethodName, rawCall...)
	if err != nil {
		return watchStream{}, fmt.Errorf("watch: %w", err)
	}
	for _, q := range requests {
		if err := s.SendMsg(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: q}}); err != nil {
			return watchStream{}, fmt.Errorf("watch: %w", err)
		}
	}
	for range requests {
		if err := s.RecvMsg(&raw{}); err != nil {
			return watchStream{}, fmt.Errorf("watch: %w", err)
		}
	}
	return watchStream{s, ctx}, nil
}

// listen hears the events of streams until end.
func listen(stop context.CancelFunc, streams []watchStream) *audience {
	a := &audience{stop: stop}
	for _, s := range streams {
		a.wg.Go(func() { a.hear(s) })
	}
	return a
}

func (a *audience) hear(s watchStream) {
	var took []time.Duration
	var err error
	for {
		var r raw
		if err = s.RecvMsg(&r); err != nil {
			break
		}
		now, events := time.Now(), int64(0)
		counts := a.phase.Load() == measuring
		stampsIn(r.bytes, now, func(age time.Duration) {
			events++
			if counts {
				took = append(took, age)
			}
		})
		a.heard.Add(events)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.took = append(a.took, took...)
	if s.ctx.Err() == nil {
		a.first = errors.Join(a.first, fmt.Errorf("watch: %w", err))
	}
}

// await returns when n events have been heard, or none has come for too long.
func (a *audience) await(ctx context.Context, n int64) error {
	const patience = 20 * time.Second
	last, since := int64(-1), time.Now()
	for {
		heard := a.heard.Load()
		if heard >= n {
			return nil
		}
		if heard != last {
			last, since = heard, time.Now()
		}
		if time.Since(since) > patience {
			return fmt.Errorf("%d events of %d arrived, and no more for %v", heard, n, patience)
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
}

// end ends the streams and returns how long the events that count were under way, shortest first.
func (a *audience) end() ([]time.Duration, error) {
	a.stop()
	a.wg.Wait()
	slices.Sort(a.took)
	return a.took, a.first
}
