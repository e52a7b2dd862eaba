package token

import (
	"crypto/rand"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	prefixBytes = 16
	letters     = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

	// TTLDefault is etcd's life of a token that is not used.
	TTLDefault = 300 * time.Second
	// SimpleMaxDefault lets 5,000 logins a second, each thrown away, live for TTLDefault. A table that is full takes about
	// 200 MB; then the token that was given first goes.
	SimpleMaxDefault = 2 << 20

	// simpleShards spreads the table: indexes count up, so they fill it evenly.
	simpleShards = 32
	// slabEntries is by how many a shard grows. A growth copies nothing: it happens while entries of the log are applied.
	slabEntries = 1024
	// lifeStep is how much longer than its TTL a token may live: a call gives it its whole life again only if that is at least so
	// much more than it has, not at each of a thousand calls a second. etcd looks for tokens that are over as seldom.
	lifeStep = time.Second
	// sweepStep is how many tokens are looked at under one hold of a shard's lock.
	sweepStep = 256
)

// SimpleConfig is what a table of simple tokens is made of.
type SimpleConfig struct {
	TTL time.Duration    // of a token that is not used, which lives up to a second longer; 0 is TTLDefault
	Max int              // how many are kept; 0 is SimpleMaxDefault
	Now func() time.Time // nil is time.Now
}

// Simple is the table of simple tokens of one member. Looking a token up costs the same however many there are, and
// nothing walks the table under a lock: a user loses all tokens in one step, and what is over is forgotten in small steps,
// each token about once in its life.
type Simple struct {
	ttl    time.Duration
	now    func() time.Time
	shards [simpleShards]shard

	mu      sync.Mutex // guards the field below
	holders map[string]*holder
}

// holder is a user's hold on tokens; dropped takes all of them away.
type holder struct {
	user    string
	dropped atomic.Bool
}

// key is a token in the form of the table.
type key struct {
	prefix [prefixBytes]byte
	index  uint64
}

// shard is a part of the table: a map to places in a list, in the order in which they are to be looked at next.
type shard struct {
	mu    sync.RWMutex // guards the fields below; held to write for at most sweepStep tokens
	at    map[key]uint32
	slabs []*[slabEntries]entry
	used  uint32 // entries ever used
	free  uint32 // first unused one, by next; none is noEntry
	head  uint32 // first to be looked at, by next
	tail  uint32
	max   int
}

const noEntry = ^uint32(0)

type entry struct {
	key    key
	holder *holder
	until  atomic.Int64 // Unix nanoseconds; moved by who finds the token
	// look is until as it was when the entry joined the list: before then it is certainly good.
	look int64
	next uint32
}

// NewSimple makes an empty table.
func NewSimple(cfg SimpleConfig) *Simple {
	if cfg.TTL <= 0 {
		cfg.TTL = TTLDefault
	}
	if cfg.Max <= 0 {
		cfg.Max = SimpleMaxDefault
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Simple{ttl: cfg.TTL, now: cfg.Now, holders: map[string]*holder{}}
	for i := range s.shards {
		s.shards[i].max = max(cfg.Max/simpleShards, 1)
		s.shards[i].clear()
	}
	return s
}

// Prefix draws the part of a token that is secret.
func (s *Simple) Prefix() string {
	var out [prefixBytes]byte
	var draw [4 * prefixBytes]byte // almost always enough
	for n := 0; n < len(out); {
		_, _ = rand.Read(draw[:]) // never fails
		for _, b := range draw {
			// Only numbers below the largest multiple of len(letters): every letter is equally likely.
			if n < len(out) && int(b) < 256/len(letters)*len(letters) {
				out[n] = letters[int(b)%len(letters)]
				n++
			}
		}
	}
	return string(out[:])
}

// Grant gives a user the token of a prefix and the index of the entry that asks for it.
func (s *Simple) Grant(user, prefix string, index uint64) (text string, err error) {
	if len(prefix) != prefixBytes {
		return "", ErrPrefix
	}
	k := key{index: index}
	copy(k.prefix[:], prefix)
	s.shard(k).add(k, s.holder(user), s.end(s.now()))
	return prefix + "." + strconv.FormatUint(index, 10), nil
}

// Find tells whose token this is, and gives it its whole life again.
func (s *Simple) Find(text string) (user string, found bool) {
	k, ok := parse(text)
	if !ok {
		return "", false
	}
	now := s.now()
	return s.shard(k).find(k, now.UnixNano(), s.end(now))
}

// end is when the life of a token is over that is used now, in Unix nanoseconds.
func (s *Simple) end(now time.Time) int64 { return now.Add(s.ttl + lifeStep).UnixNano() }

// Index is the index of the entry that gave a token, if text has the form of one.
func Index(text string) (index uint64, ok bool) {
	k, ok := parse(text)
	return k.index, ok
}

func parse(text string) (key, bool) {
	prefix, number, ok := strings.Cut(text, ".")
	if !ok || len(prefix) != prefixBytes || strings.HasPrefix(number, "0") && number != "0" {
		return key{}, false
	}
	k := key{}
	copy(k.prefix[:], prefix)
	var err error
	k.index, err = strconv.ParseUint(number, 10, 64)
	return k, err == nil
}

// DropUser takes all tokens of a user away.
func (s *Simple) DropUser(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.holders[user]; h != nil {
		h.dropped.Store(true)
		delete(s.holders, user)
	}
}

// Clear takes all tokens away.
func (s *Simple) Clear() {
	for i := range s.shards {
		s.shards[i].mu.Lock()
		s.shards[i].clear()
		s.shards[i].mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.holders)
}

// Len is how many tokens are kept, those included that are over and not yet forgotten.
func (s *Simple) Len() int {
	n := 0
	for i := range s.shards {
		s.shards[i].mu.RLock()
		n += len(s.shards[i].at)
		s.shards[i].mu.RUnlock()
	}
	return n
}

// Sweep forgets tokens that are over. A token that was used at the right moments stays up to its TTL longer than that.
func (s *Simple) Sweep() {
	now := s.now().UnixNano()
	for i := range s.shards {
		for s.shards[i].sweep(now) {
		}
	}
}

func (s *Simple) shard(k key) *shard { return &s.shards[k.index%simpleShards] }

func (s *Simple) holder(user string) *holder {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.holders[user]
	if h == nil {
		h = &holder{user: user}
		s.holders[user] = h
	}
	return h
}

func (s *shard) clear() {
	s.at, s.slabs, s.used = map[key]uint32{}, nil, 0
	s.free, s.head, s.tail = noEntry, noEntry, noEntry
}

func (s *shard) entry(i uint32) *entry { return &s.slabs[i/slabEntries][i%slabEntries] }

// add makes a token its holder's. The same one is not given twice: its index is that of one entry of the log.
func (s *shard) add(k key, h *holder, until int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, ok := s.at[k]; ok { // the log is applied again
		e := s.entry(i)
		e.holder = h
		e.until.Store(until)
		return
	}
	if len(s.at) >= s.max {
		s.forget(s.pop())
	}
	i := s.take()
	e := s.entry(i)
	e.key, e.holder = k, h
	e.until.Store(until)
	s.at[k] = i
	s.push(i)
}

func (s *shard) find(k key, now, until int64) (user string, found bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	i, ok := s.at[k]
	if !ok {
		return "", false
	}
	e := s.entry(i)
	was := e.until.Load()
	if was <= now || e.holder.dropped.Load() {
		return "", false
	}
	if until-was >= int64(lifeStep) {
		e.until.CompareAndSwap(was, until)
	}
	return e.holder.user, true
}

// sweep takes a step and tells whether there may be more to do.
func (s *shard) sweep(now int64) (more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range sweepStep {
		if s.head == noEntry || s.entry(s.head).look > now {
			return false
		}
		i := s.pop()
		if e := s.entry(i); e.until.Load() > now && !e.holder.dropped.Load() {
			s.push(i)
			continue
		}
		s.forget(i)
	}
	return true
}

// take finds an entry that is not used.
func (s *shard) take() uint32 {
	if i := s.free; i != noEntry {
		s.free = s.entry(i).next
		return i
	}
	if s.used%slabEntries == 0 {
		s.slabs = append(s.slabs, new([slabEntries]entry))
	}
	s.used++
	return s.used - 1
}

// push puts an entry at the end of the list of those to look at.
func (s *shard) push(i uint32) {
	e := s.entry(i)
	e.look, e.next = e.until.Load(), noEntry
	if s.tail == noEntry {
		s.head = i
	} else {
		s.entry(s.tail).next = i
	}
	s.tail = i
}

func (s *shard) pop() uint32 {
	i := s.head
	s.head = s.entry(i).next
	if s.head == noEntry {
		s.tail = noEntry
	}
	return i
}

// forget gives an entry back that is not in the list.
func (s *shard) forget(i uint32) {
	e := s.entry(i)
	delete(s.at, e.key)
	e.holder = nil
	e.next, s.free = s.free, i
}
