package token

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"
)

// clock is a time that tests move.
type clock struct{ at time.Time }

func newClock() *clock { return &clock{time.Unix(1_000_000_000, 0)} }

func (c *clock) now() time.Time { return c.at }

func (c *clock) pass(d time.Duration) { c.at = c.at.Add(d) }

func grant(t testing.TB, s *Simple, user string, index uint64) string {
	t.Helper()
	text, err := s.Grant(user, s.Prefix(), index)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func holds(t *testing.T, s *Simple, text, user string) {
	t.Helper()
	if got, found := s.Find(text); got != user || found != (user != "") {
		t.Errorf("the token is %q's (%v), want %q", got, found, user)
	}
}

// TestPrefix: prefixes are letters, all of them, and no two are the same.
func TestPrefix(t *testing.T) {
	s := NewSimple(SimpleConfig{})
	seen, drawn := map[string]bool{}, map[rune]int{}
	const n = 2000
	for range n {
		p := s.Prefix()
		if len(p) != prefixBytes || seen[p] {
			t.Fatalf("prefix %q", p)
		}
		seen[p] = true
		for _, r := range p {
			drawn[r]++
		}
	}
	want := n * prefixBytes / len(letters)
	for _, r := range letters {
		if drawn[r] < want*3/4 || drawn[r] > want*5/4 {
			t.Errorf("%c was drawn %d times, expected about %d", r, drawn[r], want)
		}
	}
	if len(drawn) != len(letters) {
		t.Errorf("%d letters were drawn", len(drawn))
	}
}

// TestSimple: a token is good as long as it is used, its user is not dropped and the table is not cleared.
func TestSimple(t *testing.T) {
	c := newClock()
	s := NewSimple(SimpleConfig{TTL: 10 * time.Second, Now: c.now})
	a1, a2, b := grant(t, s, "alice", 7), grant(t, s, "alice", 8), grant(t, s, "bob", 9)
	if !strings.HasSuffix(a1, ".7") || len(a1) != prefixBytes+2 {
		t.Errorf("a token of another form than etcd's: %d letters", len(a1))
	}
	holds(t, s, a1, "alice")
	holds(t, s, a2, "alice")
	holds(t, s, b, "bob")
	other := strings.Replace(b, ".9", ".7", 1)
	for _, text := range []string{"", ".", "x.7", other, a1 + "0", a1 + ".7", a1 + "x", strings.Repeat("x", 16) + ".99", a1[:16]} {
		holds(t, s, text, "")
	}
	c.pass(9 * time.Second)
	holds(t, s, a1, "alice") // and gives it ten more
	c.pass(2 * time.Second)
	holds(t, s, a1, "alice")
	holds(t, s, a2, "")
	c.pass(lifeStep / 2)
	holds(t, s, a1, "alice") // used again soon after: it must not lose the half second
	c.pass(10*time.Second - 1)
	holds(t, s, a1, "alice")
	s.Sweep()
	if s.Len() != 1 {
		t.Errorf("%d tokens are kept", s.Len())
	}
	b = grant(t, s, "bob", 10)
	s.DropUser("alice")
	s.DropUser("nobody")
	holds(t, s, a1, "")
	holds(t, s, b, "bob")
	a3 := grant(t, s, "alice", 11)
	holds(t, s, a3, "alice")
	holds(t, s, a1, "")
	s.Clear()
	holds(t, s, a3, "")
	holds(t, s, b, "")
	if s.Len() != 0 {
		t.Errorf("%d tokens are kept", s.Len())
	}
	holds(t, s, grant(t, s, "alice", 12), "alice")
	if _, err := s.Grant("alice", "short", 13); err == nil {
		t.Error("a token without secret was given")
	}
	p := s.Prefix()
	for _, user := range []string{"alice", "bob"} { // the same entry, applied again to an earlier state
		text, err := s.Grant(user, p, 14)
		if err != nil {
			t.Fatal(err)
		}
		holds(t, s, text, user)
	}
}

// TestSimpleModel: random steps, and a map that does the same slowly.
func TestSimpleModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	c := newClock()
	const ttl = 20 * time.Second
	s := NewSimple(SimpleConfig{TTL: ttl, Now: c.now})
	type kept struct {
		user  string
		until time.Time
	}
	model, texts := map[string]kept{}, []string(nil)
	for step := range 20000 {
		switch user := fmt.Sprint("user", r.IntN(5)); r.IntN(40) {
		default:
			text := grant(t, s, user, uint64(step))
			model[text], texts = kept{user, c.at.Add(ttl)}, append(texts, text)
		case 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19:
			if len(texts) == 0 {
				continue
			}
			text := texts[len(texts)-1-r.IntN(min(len(texts), 200))]
			want := model[text]
			got, found := s.Find(text)
			switch inGrace := !c.at.Before(want.until) && c.at.Before(want.until.Add(lifeStep)); {
			case inGrace && !found: // a life ends between ttl and ttl+lifeStep after its last use
				want.user = ""
			case !inGrace && !c.at.Before(want.until):
				want.user = ""
			}
			if got != want.user || found != (want.user != "") {
				t.Fatalf("step %d: %q (%v), want %q", step, got, found, want.user)
			}
			if found {
				model[text] = kept{want.user, c.at.Add(ttl)}
			} else {
				delete(model, text)
			}
		case 20, 21, 22:
			c.pass(time.Duration(r.IntN(3000)) * time.Millisecond)
		case 23:
			s.Sweep()
			alive := 0
			for _, k := range model {
				if c.at.Before(k.until) {
					alive++
				}
			}
			if s.Len() < alive {
				t.Fatalf("step %d: %d tokens are kept and %d are good", step, s.Len(), alive)
			}
		case 24:
			s.DropUser(user)
			for text, k := range model {
				if k.user == user {
					delete(model, text)
				}
			}
		case 25:
			if r.IntN(10) == 0 {
				s.Clear()
				clear(model)
			}
		}
	}
	c.pass(2 * ttl)
	s.Sweep()
	s.Sweep()
	if s.Len() != 0 {
		t.Errorf("%d tokens are kept after the end of all", s.Len())
	}
}

// TestMillionTokens: a million tokens take their share of memory and no more, a find costs the same as among few, nothing
// holds a lock for more than a step, and the table neither grows beyond its bound nor keeps what is over.
func TestMillionTokens(t *testing.T) {
	n := 1_000_000
	if testing.Short() {
		n = 100_000
	}
	c := newClock()
	before := heap()
	s := NewSimple(SimpleConfig{TTL: time.Minute, Max: n, Now: c.now})
	prefix := s.Prefix()
	for i := range uint64(n) {
		if _, err := s.Grant("alice", prefix, i); err != nil {
			t.Fatal(err)
		}
	}
	per := int(heap()-before) / n
	t.Logf("%d bytes per token", per)
	if s.Len() != n || per > 200 {
		t.Errorf("%d tokens of %d bytes", s.Len(), per)
	}
	first, last := fmt.Sprint(prefix, ".", 0), fmt.Sprint(prefix, ".", n-1)
	holds(t, s, first, "alice")
	holds(t, s, last, "alice")
	if allocs := testing.AllocsPerRun(100, func() { s.Find(last) }); allocs > 0 {
		t.Errorf("%v allocations per find", allocs)
	}
	for i := range uint64(simpleShards) { // beyond the bound the oldest of the shard goes
		grant(t, s, "bob", uint64(n)+i)
	}
	if s.Len() != n {
		t.Errorf("%d tokens, %d are the bound", s.Len(), n)
	}
	holds(t, s, first, "")
	holds(t, s, last, "alice")
	s.DropUser("alice")
	holds(t, s, last, "")
	c.pass(2 * time.Minute)
	steps := 0
	for s.shards[0].sweep(c.at.UnixNano()) {
		steps++
	}
	if want := n / simpleShards / sweepStep; steps < want || steps > want+1 {
		t.Errorf("a shard took %d steps, expected %d", steps, want)
	}
	s.Sweep()
	if s.Len() != 0 {
		t.Errorf("%d tokens are left", s.Len())
	}
	for i := range uint64(n / 2) { // entries are used again
		if _, err := s.Grant("alice", prefix, 2*uint64(n)+i); err != nil {
			t.Fatal(err)
		}
	}
	if slabs := len(s.shards[0].slabs); slabs > n/simpleShards/slabEntries+1 {
		t.Errorf("%d slabs", slabs)
	}
	runtime.KeepAlive(s)
}

// FuzzFind: whatever a client shows, nobody is found by it.
func FuzzFind(f *testing.F) {
	c := newClock()
	s := NewSimple(SimpleConfig{Now: c.now})
	given := grant(f, s, "alice", 7)
	j := secretJWT(f, c)
	signed, err := j.Sign("alice", 7)
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{"", ".", given + "0", given[:16] + ".07", signed + "x", strings.ToUpper(signed), "a.b.c", "eyJhbGciOiJub25lIn0.e30."} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if _, found := s.Find(text); found && text != given {
			t.Errorf("%q is somebody's", text)
		}
		if _, found := j.Find(text); found && text != signed {
			t.Errorf("%q is somebody's", text)
		}
		_, _ = ParseOptions(text) // says what it says; it must not panic
	})
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestFindTakesNoTurn: tokens are found, given and forgotten at the same time (run with -race).
func TestFindTakesNoTurn(t *testing.T) {
	s := NewSimple(SimpleConfig{TTL: time.Millisecond, Max: 500})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 200 {
			s.Sweep()
		}
	}()
	for i := range uint64(5000) {
		text := grant(t, s, "alice", i)
		s.Find(text)
		if i%1000 == 0 {
			s.DropUser("alice")
		}
	}
	<-done
}

func BenchmarkSimpleFind(b *testing.B) {
	for _, n := range []uint64{1, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := NewSimple(SimpleConfig{})
			p := s.Prefix()
			for i := range n {
				if _, err := s.Grant("alice", p, i); err != nil {
					b.Fatal(err)
				}
			}
			text := fmt.Sprint(p, ".", n/2)
			b.ResetTimer()
			b.RunParallel(func(b *testing.PB) {
				for b.Next() {
					if _, found := s.Find(text); !found {
						panic("the token is gone")
					}
				}
			})
		})
	}
}
