package watch

import (
	"strings"
	"testing"

	"holdfast/kv"
)

// TestShareOfMany: what a stream has in hand, and holds if its client does not read, gets smaller the more streams there are, whether it comes from the
// log or from the history.
func TestShareOfMany(t *testing.T) {
	const events, valueBytes = 3000, 1 << 10
	for name, logBytes := range map[string]int{"log": 64 << 20, "history": 0} {
		t.Run(name, func(t *testing.T) {
			h := newHistory()
			hub := New(Config{LogBytes: logBytes, History: h})
			create := func(start kv.Revision) *Stream {
				s := hub.NewStream(func() {})
				s.Create(&kv.WatchCreate{KeyRange: kv.KeyRange{Key: []byte("k")}, Start: start})
				if _, some, err := s.Next(1 << 20); !some || err != nil {
					t.Fatalf("not created: %v", err)
				}
				return s
			}
			live := create(0)
			for range events {
				hub.Append([]kv.Change{h.apply(op{"k", strings.Repeat("v", valueBytes)})})
			}
			took := func(s *Stream) (first, all int) {
				for {
					r, some, err := s.Next(1 << 20)
					if err != nil {
						t.Fatal(err)
					}
					if !some {
						return first, all
					}
					if first == 0 {
						first = r.EventBytes
					}
					all += len(r.Events)
				}
			}
			alone, all := took(create(2))
			if all != events || alone < 2*handsBytesMax/2000 {
				t.Errorf("with few streams: %d events, %d bytes at once", all, alone)
			}
			for range 2000 {
				hub.NewStream(func() {})
			}
			for what, s := range map[string]*Stream{"one that was there": live, "one from the past": create(2)} {
				if at, all := took(s); all != events || at > handsBytesMax/2000 || at < handBytesMin {
					t.Errorf("%s, with many streams: %d events, %d bytes at once", what, all, at)
				}
			}
		})
	}
}
