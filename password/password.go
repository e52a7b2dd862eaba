// Package password makes and checks the hashes that stand for passwords. A check costs tens of milliseconds of a core, on
// purpose. What was checked and found right is remembered, so that a client that logs in again and again costs little.
//
//	Errors   ErrWrong, ErrBusy
//	Source   bcrypt (Provos and Mazieres 1999), in the form that etcd stores
//
// No password is kept, written or returned: what is remembered is a keyed hash, and the key dies with the process.
package password

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sync/semaphore"
)

var (
	// ErrWrong answers a password that is not the user's, and any for a user that there is not.
	ErrWrong = errors.New("wrong user or password")
	// ErrBusy answers a check or hash that would have to wait behind waitingMax others.
	ErrBusy = errors.New("too many passwords to check")
)

// CostDefault is etcd's cost of a hash: about 60 ms of a core.
const CostDefault = bcrypt.DefaultCost

// IsCost tells whether bcrypt knows a cost.
func IsCost(cost int) bool { return cost >= bcrypt.MinCost && cost <= bcrypt.MaxCost }

const (
	// waitingMax bounds who waits for a core: at CostDefault the last of so many waits about a minute with one core.
	waitingMax = 1000
	// rememberedMax is for how many users it is remembered which password was right, twice. Each takes about 150 bytes.
	rememberedMax = 4096
)

// Checker hashes and checks with a bounded part of the machine's cores.
type Checker struct {
	cost int
	// cores are those that hashing may use at once: half of them, for the other half goes on serving.
	cores   *semaphore.Weighted
	waiting atomic.Int64
	checked atomic.Uint64
	// nobody is a hash that no password is known for: checking it costs as much as checking a user's. It is made when it is
	// asked for first, which takes as long.
	nobody func() []byte
	key    [sha256.Size]byte

	mu         sync.Mutex // guards the fields below; no hash is computed under it
	young, old map[string]sum
}

// sum stands for a user's hash and the password that fits it.
type sum [sha256.Size]byte

// New makes a checker whose hashes cost this much; IsCost holds for it.
func New(cost int) *Checker {
	c := &Checker{
		cost: cost, cores: semaphore.NewWeighted(int64(max(1, runtime.GOMAXPROCS(0)/2))),
		young: map[string]sum{}, old: map[string]sum{},
	}
	_, _ = rand.Read(c.key[:]) // never fails
	c.nobody = sync.OnceValue(func() []byte {
		hash, err := bcrypt.GenerateFromPassword([]byte(rand.Text()), cost)
		if err != nil {
			panic(fmt.Sprintf("password: no hash at the cost %d: %v", cost, err))
		}
		return hash
	})
	return c
}

// Hash makes the hash that stands for a password.
func (c *Checker) Hash(ctx context.Context, password string) (hash []byte, err error) {
	if err := c.acquire(ctx); err != nil {
		return nil, err
	}
	defer c.cores.Release(1)
	return bcrypt.GenerateFromPassword([]byte(password), c.cost)
}

// Check tells whether password is the one of user, whose hash is given. Without a hash there is no such user, or one
// without a password: that costs and answers the same as a wrong password.
func (c *Checker) Check(ctx context.Context, user string, hash []byte, password string) error {
	known := len(hash) > 0
	s := c.sum(user, hash, password)
	if known && c.remembers(user, s) {
		return nil
	}
	if err := c.acquire(ctx); err != nil {
		return err
	}
	defer c.cores.Release(1)
	if known && c.remembers(user, s) { // another who came with it was first: all clients come at once when a member is back
		return nil
	}
	c.checked.Add(1)
	if !known {
		hash = c.nobody()
	}
	if bcrypt.CompareHashAndPassword(hash, []byte(password)) != nil || !known {
		return ErrWrong
	}
	c.remember(user, s)
	return nil
}

// Forget drops what is remembered of a user, who has changed.
func (c *Checker) Forget(user string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.young, user)
	delete(c.old, user)
}

// ForgetAll drops everything remembered.
func (c *Checker) ForgetAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.young)
	clear(c.old)
}

// Checked is how many passwords were checked at full cost.
func (c *Checker) Checked() uint64 { return c.checked.Load() }

// Waiting is how many wait for a core.
func (c *Checker) Waiting() int { return int(c.waiting.Load()) }

// acquire waits for a core.
func (c *Checker) acquire(ctx context.Context) error {
	defer c.waiting.Add(-1)
	if c.waiting.Add(1) > waitingMax {
		return ErrBusy
	}
	return c.cores.Acquire(ctx, 1)
}

// sum is a keyed hash of everything that makes a password right, each with its length in front. It holds for one hash only:
// when the user's changes, nothing remembered fits it any more.
func (c *Checker) sum(user string, hash []byte, password string) (s sum) {
	h := hmac.New(sha256.New, c.key[:])
	for _, part := range [][]byte{[]byte(user), hash, []byte(password)} {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part)))) // a hash never fails
		h.Write(part)
	}
	h.Sum(s[:0])
	return s
}

func (c *Checker) remembers(user string, s sum) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, kept := range []map[string]sum{c.young, c.old} {
		if right, ok := kept[user]; ok {
			return hmac.Equal(right[:], s[:])
		}
	}
	return false
}

// remember keeps one password per user. Of users that were not checked for long the older half goes.
func (c *Checker) remember(user string, s sum) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.young[user]; !ok && len(c.young) >= rememberedMax {
		c.young, c.old = make(map[string]sum), c.young
	}
	c.young[user] = s
}
