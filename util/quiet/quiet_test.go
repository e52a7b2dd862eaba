package quiet

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// TestBound: so many lines a second, and one that counts the rest.
func TestBound(t *testing.T) {
	at := time.Unix(1000, 0)
	var lines bytes.Buffer
	b := New(slog.New(slog.NewTextHandler(&lines, nil)), "more came", func() time.Time { return at })
	for second, calls := range []int{25, 3, 0, 12} {
		said := 0
		for range calls {
			if b.Say() {
				said++
			}
		}
		if want := min(calls, LinesMax); said != want {
			t.Errorf("second %d: %d of %d, want %d", second, said, calls, want)
		}
		at = at.Add(time.Second)
	}
	if got := lines.String(); strings.Count(got, "more came") != 1 || !strings.Contains(got, "others=15") {
		t.Errorf("%s", got)
	}
}
