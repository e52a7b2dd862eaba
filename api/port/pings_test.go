package port

import (
	"encoding/binary"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// frame is one as gRPC writes it.
func frame(kind http2.FrameType, flags http2.Flags, body string) string {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(body))<<8|uint32(kind))
	return string(append(head, byte(flags), 0, 0, 0, 0)) + body
}

// TestPingsWait answers pings and looks when the answers arrive: with what is written once they have rested, alone after their patience, at
// once if there are many or they come seldom, behind what is held, and never within a frame. Time is simulated.
func TestPingsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &written{}
		b := &bundled{Conn: w}
		after := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		expect := func(when string, want ...string) {
			t.Helper()
			w.expect(t, when, want...)
			w.mu.Lock()
			w.writes = nil
			w.mu.Unlock()
		}
		one, two := frame(http2.FramePing, http2.FlagPingAck, "12345678"), frame(http2.FramePing, http2.FlagPingAck, "abcdefgh")
		call, long := frame(http2.FrameData, 0, "call"), frame(http2.FrameData, 0, "a long one, "+one+", that is cut")

		say(t, b, one)
		expect("the first", one)
		after(pingPatience + 1)
		say(t, b, one)
		expect("where they come seldom", one)
		say(t, b, one)
		say(t, b, call)
		expect("beside an answer", call)
		after(pingRest)
		say(t, b, call+call)
		expect("after a rest", one+call+call)
		say(t, b, call)
		expect("after that", call)
		after(pingPatience)
		expect("when nothing waits")

		say(t, b, one)
		expect("after a time without pings", one)
		say(t, b, one)
		after(pingRest / 2)
		say(t, b, two)
		after(pingPatience - pingRest/2 - 1)
		expect("before the patience is over")
		after(1)
		expect("alone", one+two)

		say(t, b, one)
		after(pingRest)
		say(t, b, call)
		after(1)
		say(t, b, two)
		expect("one after the other", one+call)
		after(pingPatience - pingRest - 1) // the timer of the first
		expect("a new one when the timer of an old one ends")
		after(pingPatience)
		expect("a new one", two)

		say(t, b, one)
		expect("after a longer time", one)
		say(t, b, one)
		at := len("a long one, ") + frameHeadBytes
		for _, part := range []string{long[:3], long[3:at], one, long[at+len(one):]} {
			say(t, b, part)
			expect("within a frame", part)
			if part != long[at+len(one):] {
				after(pingRest)
			}
		}
		say(t, b, call)
		expect("between two", one+call)
		after(pingPatience)

		much := frame(http2.FrameData, 0, string(make([]byte, pingBytes)))
		say(t, b, one)
		expect("and a longer one", one)
		say(t, b, one)
		say(t, b, much)
		expect("with much", one+much)
		say(t, b, much)
		say(t, b, one)
		say(t, b, two)
		expect("after much", much, one)
		after(pingPatience)
		expect("after little", two)

		var all string
		for range pingAcksMax {
			say(t, b, one)
			all += one
		}
		expect("several")
		say(t, b, two)
		expect("many", two)
		b.streams.Store(2)
		h := &Hold{conn: b}
		h.Take()
		say(t, b, call)
		after(bundlePatience)
		expect("held for long", call)
		after(pingRest)
		h.Give()
		h.Take()
		say(t, b, call)
		expect("held")
		h.Give()
		expect("behind what is held", all+call)
		say(t, b, call+two)
		expect("not alone", call+two)
		say(t, b, one)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
