package port

import (
	"bytes"
	"encoding/binary"
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// written is a connection that notes each write.
type written struct {
	net.Conn
	mu     sync.Mutex // guards the field below
	writes [][]byte
}

func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writes = append(w.writes, bytes.Clone(p))
	return len(p), nil
}

func (w *written) SetWriteDeadline(time.Time) error { return nil }
func (w *written) Close() error                     { return nil }

func (w *written) expect(t *testing.T, when string, want ...string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	got := make([]string, len(w.writes))
	for i, one := range w.writes {
		got[i] = string(one)
	}
	if len(got) != len(want) {
		t.Fatalf("%s: wrote %q, want %q", when, got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("%s: wrote %q, want %q", when, got, want)
		}
	}
}

func say(t *testing.T, b *bundled, text string) {
	t.Helper()
	if n, err := b.Write([]byte(text)); n != len(text) || err != nil {
		t.Fatalf("wrote %d of %q: %v", n, text, err)
	}
}

// TestBundle holds a connection in every way that there is and looks when what is written arrives. Time is simulated.
func TestBundle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &written{}
		b := &bundled{Conn: w}
		alone := &Hold{conn: b}
		b.streams.Store(1)
		alone.Take()
		say(t, b, "alone, ")
		w.expect(t, "held by the only stream", "alone, ")
		w.writes = nil
		b.streams.Store(3)
		one, other := &Hold{conn: b}, &Hold{conn: b}
		say(t, b, "free")
		w.expect(t, "held by nobody", "free")
		one.Take()
		one.Take() // is one hold
		other.Take()
		say(t, b, "a")
		say(t, b, "b")
		one.Give()
		w.expect(t, "held by one", "free")
		say(t, b, "c")
		other.Give()
		w.expect(t, "released by all", "free", "abc")

		one.Take()
		say(t, b, "d")
		time.Sleep(bundlePatience)
		synctest.Wait()
		w.expect(t, "held for long", "free", "abc", "d")
		say(t, b, "e")
		w.expect(t, "held for longer", "free", "abc", "d", "e")
		one.Give()
		one.Take()
		say(t, b, "f")
		w.expect(t, "held again", "free", "abc", "d", "e")
		one.End()
		w.expect(t, "ended", "free", "abc", "d", "e", "f")
		one.Take()
		say(t, b, "g")
		w.expect(t, "taken after the end", "free", "abc", "d", "e", "f", "g")

		w.writes = nil
		other.Take()
		long := string(make([]byte, bundleBytesMax))
		say(t, b, "h")
		say(t, b, long)
		w.expect(t, "much", "h"+long)
		say(t, b, "bye")
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		w.expect(t, "closed", "h"+long, "bye")
	})
}

// TestBundleLosesNothing lets one goroutine write, as gRPC's does, and many hold and release, in bursts. When a burst is over everything has
// arrived in order, before any patience could have ended: no time passes.
func TestBundleLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &written{}
		b := &bundled{Conn: w}
		began, sent := time.Now(), uint32(0)
		b.streams.Store(1) // and those below
		for range 300 {
			var burst sync.WaitGroup
			for range 8 {
				burst.Go(func() {
					h := &Hold{conn: b}
					b.streams.Add(1)
					for range 20 {
						h.Take()
						runtime.Gosched()
						h.Give()
					}
					h.End()
				})
			}
			burst.Go(func() {
				for range 50 {
					if _, err := b.Write(binary.BigEndian.AppendUint32(nil, sent)); err != nil {
						t.Error(err)
					}
					sent++
				}
			})
			burst.Wait()
			all := bytes.Join(w.writes, nil)
			if len(all) != 4*int(sent) || binary.BigEndian.Uint32(all[len(all)-4:]) != sent-1 {
				t.Fatalf("%d of %d bytes arrived", len(all), 4*sent)
			}
		}
		all := bytes.Join(w.writes, nil)
		for i := range sent {
			if got := binary.BigEndian.Uint32(all[4*i:]); got != i {
				t.Fatalf("word %d is %d", i, got)
			}
		}
		if passed := time.Since(began); passed != 0 {
			t.Errorf("took %v of simulated time", passed)
		}
	})
}
