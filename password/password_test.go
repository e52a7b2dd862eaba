package password

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

func hash(t testing.TB, c *Checker, password string) []byte {
	t.Helper()
	h, err := c.Hash(t.Context(), password)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestCheck: who is right is checked at full cost once, who is wrong each time, and so is who does not exist. What was
// remembered ends with the hash it was remembered for.
func TestCheck(t *testing.T) {
	c := New(bcrypt.MinCost)
	alice, bob := hash(t, c, "one"), hash(t, c, "two")
	later := hash(t, c, "three")
	none := []byte(nil)
	for i, step := range []struct {
		user, password string
		hash           []byte
		err            error
		checked        uint64 // so far, at full cost
	}{
		{"alice", "one", alice, nil, 1},
		{"alice", "one", alice, nil, 1},
		{"alice", "two", alice, ErrWrong, 2},
		{"alice", "two", alice, ErrWrong, 3},
		{"alice", "one", alice, nil, 3},
		{"bob", "one", bob, ErrWrong, 4},
		{"bob", "two", bob, nil, 5},
		{"alice", "one", bob, ErrWrong, 6}, // with another hash nothing is remembered
		{"alice", "one", later, ErrWrong, 7},
		{"alice", "three", later, nil, 8},
		{"alice", "one", later, ErrWrong, 9},
		{"alice", "three", later, nil, 9},
		{"nobody", "one", none, ErrWrong, 10},
		{"nobody", "one", none, ErrWrong, 11},
		{"alice", "", later, ErrWrong, 12},
		{"alice", "one", []byte{}, ErrWrong, 13}, // etcd's row of a user without password
	} {
		if err := c.Check(t.Context(), step.user, step.hash, step.password); !errors.Is(err, step.err) {
			t.Errorf("%d: %s with %q: %v, want %v", i, step.user, step.password, err, step.err)
		}
		if n := c.Checked(); n != step.checked {
			t.Fatalf("%d: %s with %q: %d at full cost, want %d", i, step.user, step.password, n, step.checked)
		}
	}
	c.Forget("alice")
	c.Forget("carol")
	if err := c.Check(t.Context(), "alice", later, "three"); err != nil || c.Checked() != 14 {
		t.Errorf("%v, %d at full cost: what was remembered of a user that changed is still there", err, c.Checked())
	}
	if err := c.Check(t.Context(), "bob", bob, "two"); err != nil || c.Checked() != 14 {
		t.Errorf("%v, %d at full cost: what was remembered of another user is gone", err, c.Checked())
	}
	c.ForgetAll()
	if err := c.Check(t.Context(), "bob", bob, "two"); err != nil || c.Checked() != 15 {
		t.Errorf("%v, %d at full cost", err, c.Checked())
	}
}

// TestUnknownUserCostsTheSame: bcrypt is run at the same cost for a user that there is not.
func TestUnknownUserCostsTheSame(t *testing.T) {
	c := New(bcrypt.MinCost + 1)
	cost, err := bcrypt.Cost(c.nobody())
	if err != nil || cost != bcrypt.MinCost+1 {
		t.Errorf("cost %d, %v", cost, err)
	}
}

// TestManyAtOnce: clients that come with the same password at once cost one check.
func TestManyAtOnce(t *testing.T) {
	c := New(bcrypt.MinCost)
	h := hash(t, c, "one")
	all := c.cores
	held := int64(0)
	for all.TryAcquire(1) {
		held++
	}
	var g sync.WaitGroup
	for range 100 {
		g.Go(func() {
			if err := c.Check(t.Context(), "alice", h, "one"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Release(1) // one after the other
	g.Wait()
	if c.Checked() != 1 {
		t.Errorf("%d checks", c.Checked())
	}
	all.Release(held - 1)
}

// TestCoresAreLeft: however many log in at once, half of the cores compute hashes, and at least one.
func TestCoresAreLeft(t *testing.T) {
	for _, test := range []struct{ cores, hashing int }{{1, 1}, {2, 1}, {3, 1}, {8, 4}} {
		was := runtime.GOMAXPROCS(test.cores)
		c := New(bcrypt.MinCost)
		runtime.GOMAXPROCS(was)
		held := 0
		for c.cores.TryAcquire(1) {
			held++
		}
		if held != test.hashing {
			t.Errorf("of %d cores %d hash, want %d", test.cores, held, test.hashing)
		}
		var g sync.WaitGroup
		for range 20 { // all wait, wrong passwords and new ones
			g.Go(func() {
				if err := c.Check(t.Context(), "nobody", nil, "x"); !errors.Is(err, ErrWrong) {
					t.Error(err)
				}
				if _, err := c.Hash(t.Context(), "x"); err != nil {
					t.Error(err)
				}
			})
		}
		for c.Waiting() < 20 {
			runtime.Gosched()
		}
		if c.Checked() != 0 {
			t.Errorf("%d were checked beside those that hold all", c.Checked())
		}
		c.cores.Release(int64(held))
		g.Wait()
		if c.Waiting() != 0 || c.Checked() != 20 {
			t.Errorf("%d wait, %d were checked", c.Waiting(), c.Checked())
		}
	}
}

// TestBounds: nobody waits behind waitingMax others, who waits can give up, and memory does not follow the users.
func TestBounds(t *testing.T) {
	c := New(bcrypt.MinCost)
	h := hash(t, c, "one")
	c.waiting.Store(waitingMax)
	if err := c.Check(t.Context(), "alice", h, "one"); !errors.Is(err, ErrBusy) {
		t.Errorf("behind %d others: %v", waitingMax, err)
	}
	if _, err := c.Hash(t.Context(), "one"); !errors.Is(err, ErrBusy) {
		t.Errorf("behind %d others: %v", waitingMax, err)
	}
	c.waiting.Store(0)
	for c.cores.TryAcquire(1) {
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Check(ctx, "alice", h, "one"); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	for i := range 3 * rememberedMax {
		c.remember(fmt.Sprint(i), sum{})
	}
	if n := len(c.young) + len(c.old); n > 2*rememberedMax {
		t.Errorf("%d users are remembered", n)
	}
	if !c.remembers(fmt.Sprint(3*rememberedMax-1), sum{}) || c.remembers("0", sum{}) {
		t.Error("not the users that came last are remembered")
	}
}

// TestLongPassword: bcrypt takes no more than 72 bytes, and says so in words that hold nothing of the password.
func TestLongPassword(t *testing.T) {
	c := New(bcrypt.MinCost)
	if _, err := c.Hash(t.Context(), strings.Repeat("secret", 13)); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
}

func BenchmarkCheckRemembered(b *testing.B) {
	c := New(bcrypt.MinCost)
	h := hash(b, c, "one")
	for b.Loop() {
		if err := c.Check(b.Context(), "alice", h, "one"); err != nil {
			b.Fatal(err)
		}
	}
}
