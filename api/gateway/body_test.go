package gateway

import (
	"errors"
	"io"
	"strings"
	"testing"
)

// TestBodies: what requests hold together is bounded, whether they end or not, and given back.
func TestBodies(t *testing.T) {
	all := newBodies(100, 250)
	held := func(text string) *body {
		b := &body{from: io.NopCloser(strings.NewReader(text)), all: all}
		b.next()
		return b
	}
	first, second, third := held(strings.Repeat("a", 99)), held(strings.Repeat("b", 100)), held(strings.Repeat("c", 60))
	if _, err := io.ReadAll(first); err != nil {
		t.Fatalf("a message as long as allowed: %v", err)
	}
	if _, err := io.ReadAll(second); !errors.Is(err, errMessageTooLarge) || second.why() == nil {
		t.Fatalf("a longer one: %v", err)
	}
	if _, err := io.ReadAll(third); !errors.Is(err, errBodiesHeld) {
		t.Fatalf("one too many: %v", err)
	}
	first.release()
	first.release()
	if free := all.free.Load(); free != 150 {
		t.Errorf("%d free with 100 held", free)
	}
	stream := held(strings.Repeat("d", 240))
	for range 4 {
		stream.next()
		if _, err := io.CopyN(io.Discard, stream, 60); err != nil {
			t.Fatal(err)
		}
	}
	if stream.held != 60 {
		t.Errorf("a stream of messages of 60 holds %d", stream.held)
	}
	second.release()
	third.release()
	stream.release()
	if free := all.free.Load(); free != 250 {
		t.Errorf("%d free in the end", free)
	}
	if _, err := stream.Read(make([]byte, 1)); err == nil {
		t.Error("read after the end")
	}
}

// TestDefaults: without a setting for it there is room for as many bodies as the default says, not for one.
func TestDefaults(t *testing.T) {
	g, err := New(Config{MessageBytesMax: 100})
	if err != nil {
		t.Fatal(err)
	}
	if free := g.bodies.free.Load(); free != bodyBytesDefault {
		t.Errorf("room for %d bytes of bodies, want %d", free, bodyBytesDefault)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
}
