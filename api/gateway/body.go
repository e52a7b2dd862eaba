package gateway

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// bodyFactor is how much longer a message may be in JSON than gRPC lets it be: base64 takes a third more, names of fields and
// blanks the rest.
const bodyFactor = 2

// bodyBytesDefault bounds what JSON requests hold together: sixteen of the largest, of which each takes some four times its length
// until it is decoded.
const bodyBytesDefault = 64 << 20

// bodies is what the bodies of JSON requests may hold in memory together. The decoder keeps a message until it has all of it, so
// that endless or very slow ones would otherwise take whatever there is.
type bodies struct {
	messageMax int64 // a message of so many bytes is refused
	together   int64 // what all may hold
	free       atomic.Int64
}

func newBodies(messageMax, together int64) *bodies {
	b := &bodies{messageMax: messageMax, together: max(together, messageMax)}
	b.free.Store(b.together)
	return b
}

func (b *bodies) held() int64 { return b.together - b.free.Load() }

// body is what one HTTP request sends: one message, or several one after the other. It may be read while it is released.
type body struct {
	from io.ReadCloser
	all  *bodies
	// onEnd is called when the client has sent everything; may be nil.
	onEnd func()

	mu       sync.Mutex // guards the fields below; not held while from is read
	read     int64      // bytes of the message being decoded
	held     int64      // taken from all: the longest message so far, since the decoder keeps its buffer
	refused  error      // a status that says why no more is read
	released bool
}

// next says that another message begins.
func (b *body) next() {
	b.mu.Lock()
	b.read = 0
	b.mu.Unlock()
}

// why is the status to answer with if the body was refused, nil if it was not.
func (b *body) why() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refused
}

var (
	errMessageTooLarge = status.Error(codes.ResourceExhausted, "holdfast: the JSON request is longer than any that could be accepted")
	errBodiesHeld      = status.Error(codes.ResourceExhausted, "holdfast: too many large JSON requests at the same time")
	errBodyReleased    = errors.New("api: the request is over")
)

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	left, err := b.left()
	if err != nil {
		return 0, err
	}
	n, err := b.from.Read(p[:min(int64(len(p)), left)])
	if err == io.EOF && b.onEnd != nil {
		b.onEnd()
	}
	if refused := b.take(int64(n)); refused != nil {
		return n, refused
	}
	return n, err
}

// Close implements io.Closer.
func (b *body) Close() error { return b.from.Close() }

// left is how many more bytes the message may have.
func (b *body) left() (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	left := b.all.messageMax - b.read
	if b.refused == nil && left <= 0 {
		b.refused = errMessageTooLarge
	}
	return left, b.refused
}

// take counts n bytes that were read.
func (b *body) take(n int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.read += n
	more := b.read - b.held
	switch {
	case b.released:
		return errBodyReleased
	case b.refused != nil || more <= 0:
		return b.refused
	case b.all.free.Add(-more) < 0:
		b.all.free.Add(more)
		b.refused = errBodiesHeld
		return b.refused
	}
	b.held = b.read
	return nil
}

// release gives back what the body held. Nothing is read afterwards.
func (b *body) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.released {
		b.all.free.Add(b.held)
		b.released = true
	}
}
