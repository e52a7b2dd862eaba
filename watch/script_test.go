package watch

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"holdfast/kv"
)

// TestScripts plays the scripts in testdata: each says what a client sees of one rule. The streams are pulled only
// where the script says so.
//
//	hub [log=BYTES] [fragment=BYTES] [block=BYTES] [rev=N]   start anew
//	apply [large] [lost]      one revision a line, its operations apart by ";": "a=1" puts, "a" deletes; large
//	                          ones are not in the log, lost ones not even appended
//	head N                    the head jumps, as when a snapshot has replaced the store
//	compact N, fail           the history is cut; its next read fails
//	create s=N [key=] [end=] [start=] [id=] [prev] [notify] [fragment] [noput] [nodelete]
//	cancel s=N id=N, refuse s=N, progress s=N, tick s=N, close s=N
//	next s=N [max=BYTES]      pull one response; drain pulls all
//	stats
//
// Requests answer with "wake" if they woke the stream. In keys and ends, \0 stands for the zero byte.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		p := newPlayer()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return p.play(t, d) })
	})
}

type player struct {
	history *history
	hub     *Hub
	streams map[int]*Stream
	woken   []int
}

func newPlayer() *player {
	p := &player{}
	p.start(Config{LogBytes: 1 << 20, FragmentBytes: 1 << 20}, 0)
	return p
}

func (p *player) start(cfg Config, block int) {
	p.history = newHistory()
	p.history.blockBytes = block
	cfg.History = p.history
	p.hub = New(cfg)
	p.streams = make(map[int]*Stream)
}

func (p *player) stream(n int) *Stream {
	if p.streams[n] == nil {
		p.streams[n] = p.hub.NewStream(func() { p.woken = append(p.woken, n) })
	}
	return p.streams[n]
}

func (p *player) play(t *testing.T, d *datadriven.TestData) string {
	p.woken = nil
	number := func(key string, otherwise int) int {
		d.MaybeScanArgs(t, key, &otherwise)
		return otherwise
	}
	text := func(key string) []byte {
		var s string
		d.MaybeScanArgs(t, key, &s)
		return []byte(strings.ReplaceAll(s, `\0`, "\x00"))
	}
	s := p.stream(number("s", 0))
	switch d.Cmd {
	case "hub":
		p.start(Config{LogBytes: number("log", 1<<20), FragmentBytes: number("fragment", 1<<20)}, number("block", 0))
		for rev := number("rev", 1); int(p.history.rev) < rev; {
			p.history.apply(op{"old", fmt.Sprint(p.history.rev)})
		}
		p.hub.SetHead(p.history.rev)
		return fmt.Sprintf("head=%d", p.hub.Head())
	case "apply":
		var changes []kv.Change
		for _, line := range strings.Split(d.Input, "\n") {
			c := p.history.apply(parseOps(line)...)
			if d.HasArg("large") {
				c.Large, c.Events = true, nil
			}
			changes = append(changes, c)
		}
		if !d.HasArg("lost") {
			p.hub.Append(changes)
		}
		return fmt.Sprintf("head=%d", p.hub.Head()) + p.wakes()
	case "head":
		p.hub.SetHead(p.history.rev)
		return fmt.Sprintf("head=%d", p.hub.Head()) + p.wakes()
	case "compact":
		p.history.compact(kv.Revision(number("rev", 0)))
		return "ok"
	case "fail":
		p.history.fail = errors.New("disk on fire")
		return "ok"
	case "create":
		s.Create(&kv.WatchCreate{
			KeyRange:       kv.KeyRange{Key: text("key"), End: text("end")},
			Start:          kv.Revision(number("start", 0)),
			ID:             int64(number("id", 0)),
			PrevKV:         d.HasArg("prev"),
			ProgressNotify: d.HasArg("notify"),
			Fragment:       d.HasArg("fragment"),
			NoPut:          d.HasArg("noput"),
			NoDelete:       d.HasArg("nodelete"),
		})
		return "ok" + p.wakes()
	case "refuse":
		s.Refuse("rpc error: code = PermissionDenied desc = etcdserver: permission denied")
	case "cancel":
		s.Cancel(int64(number("id", 0)))
	case "progress":
		s.RequestProgress()
	case "tick":
		s.Tick()
	case "close":
		s.Close()
	case "next":
		return p.next(s, number("max", 1<<20))
	case "drain":
		var lines []string
		for {
			line := p.next(s, number("max", 1<<20))
			if line == "nothing" && len(lines) > 0 {
				return strings.Join(lines, "\n")
			}
			lines = append(lines, line)
			if line == "nothing" {
				return line
			}
		}
	case "stats":
		st := p.hub.Stats()
		return fmt.Sprintf("streams=%d watchers=%d groups=%d slow=%d lagging=%d pending=%d lag=%d ",
			st.Streams, st.Watchers, st.Groups, st.SlowWatchers, st.LaggingWatchers, st.Pending, st.Lag) +
			fmt.Sprintf("log=%d..%d events=%d matches=%d encodings=%d reads=%d",
				st.LogFirst, st.Head, st.Events, st.Matches, st.Encodings, st.HistoryReads)
	default:
		t.Fatalf("%s: unknown command %s", d.Pos, d.Cmd)
	}
	return "ok" + p.wakes()
}

func (p *player) next(s *Stream, maxBytes int) string {
	r, ok, err := s.Next(maxBytes)
	switch {
	case err != nil:
		return "error: " + err.Error()
	case !ok:
		return "nothing"
	}
	return show(r)
}

func (p *player) wakes() string {
	if len(p.woken) == 0 {
		return ""
	}
	return fmt.Sprintf(" wake=%d", p.woken)
}

func parseOps(line string) []op {
	var ops []op
	for _, f := range strings.Split(line, ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(f), "=")
		ops = append(ops, op{key, value})
	}
	return ops
}
