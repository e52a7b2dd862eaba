package api

import (
	"encoding/binary"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"

	"holdfast/api/calls"
	"holdfast/api/port"
	"holdfast/kv"
	"holdfast/watch"
)

// watchOut sends the responses of a stream of watches. The same events for several watchers go to gRPC together (port.SeveralOf).
type watchOut struct {
	stream  grpc.ServerStream
	several func(mem.BufferSlice) error // nil: responses go one by one
	stats   *calls.Stats
	began   time.Duration // when what is sent next was begun to be found

	message watchMessage

	// The burst: responses that have not been sent.
	text     *[]byte // of watchBuffer, each with its prefix; nil: there are none
	messages int
	events   int
}

// burstBytesMax is how long a burst is at most: as a frame of HTTP/2, behind which others of the connection have their turn.
const burstBytesMax = 16 << 10

func (a *API) newWatchOut(stream grpc.ServerStream) *watchOut {
	o := &watchOut{stream: stream, stats: a.stats}
	if a.cfg.Tracing == nil { // who traces sees each message
		o.several = port.SeveralOf(stream.Context())
	}
	return o
}

// begin is called when responses are about to be looked for.
func (o *watchOut) begin() { o.began = o.stats.Time() }

// send sends r under h, after those that wait, or lets it wait for the next one, which comes at once.
func (o *watchOut) send(h kv.Header, r *watch.Response) error {
	if o.several != nil && len(r.Events) > 0 && (r.Followers > 0 || o.text != nil) && watchHeadMax+r.EventBytes <= watchCopyMax {
		return o.bundle(h, r)
	}
	if err := o.flush(); err != nil {
		return err
	}
	o.message.write(h, r)
	failpointBeforeSendWatchResponse()
	if err := o.stream.SendMsg(&o.message); err != nil {
		return o.failed(err)
	}
	o.stats.WatchSent(r, o.took())
	return nil
}

// bundle adds r to the burst, which is sent if it is full or nobody follows.
func (o *watchOut) bundle(h kv.Header, r *watch.Response) error {
	var room [watchHeadMax]byte
	head := r.Append(room[:0], &h)
	size := port.PrefixBytes + len(head) + r.EventBytes
	if o.text != nil && len(*o.text)+size > cap(*o.text) {
		if err := o.flush(); err != nil {
			return err
		}
	}
	if o.text == nil {
		o.text = watchBuffer(max(size, min(size*(1+r.Followers), burstBytesMax)))
		*o.text = (*o.text)[:0]
	}
	text := append(*o.text, 0) // not compressed
	text = binary.BigEndian.AppendUint32(text, uint32(len(head)+r.EventBytes))
	text = append(text, head...)
	for _, event := range r.Events {
		text = append(text, event...)
	}
	*o.text = text
	o.messages++
	o.events += len(r.Events)
	if r.Followers > 0 {
		return nil
	}
	return o.flush()
}

// flush sends what waits.
func (o *watchOut) flush() error {
	if o.text == nil {
		return nil
	}
	n, events := o.messages, o.events
	bytes := len(*o.text) - n*port.PrefixBytes
	burst := mem.BufferSlice{mem.NewBuffer(o.text, watchBuffers)}
	o.text, o.messages, o.events = nil, 0, 0
	failpointBeforeSendWatchResponse()
	err := o.several(burst)
	burst.Free()
	if err != nil {
		return o.failed(err)
	}
	o.stats.WatchSentTogether(pb.Watch_Watch_FullMethodName, n, events, bytes, o.took())
	return nil
}

func (o *watchOut) failed(err error) error {
	o.stats.Failed(o.stream.Context(), "send", "watch", err)
	return err
}

// took is how long it took to find and send what was sent just now.
func (o *watchOut) took() time.Duration {
	before := o.began
	o.began = o.stats.Time()
	return o.began - before
}
