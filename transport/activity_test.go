package transport

import (
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"
)

// TestActivity counts a disconnection once, however many channels fail until something arrives again.
func TestActivity(t *testing.T) {
	now, lost := time.Unix(100, 0), atomic.Uint64{}
	a := activity{log: slog.New(slog.DiscardHandler), id: 2, now: func() time.Time { return now }, lost: &lost}
	check := func(what string, since time.Time, count uint64) {
		t.Helper()
		if got := a.since(); !got.Equal(since) {
			t.Errorf("%s: active since %v, want %v", what, got, since)
		}
		if got := lost.Load(); got != count {
			t.Errorf("%s: %d disconnections were counted, want %d", what, got, count)
		}
	}
	broken := errors.New("broken")

	a.down("dial", "stream Message", broken)
	check("never connected", time.Time{}, 0)
	a.up()
	first := now
	now = now.Add(time.Second)
	a.up()
	check("heard of twice", first, 0)
	a.down("read", "stream Message", broken)
	a.down("read", "stream MsgApp v2", broken)
	check("both channels failed", time.Time{}, 1)
	a.up()
	a.down("read", "stream Message", broken)
	check("failed again", time.Time{}, 2)
}
