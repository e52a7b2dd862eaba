// Package lease keeps the leases of a cluster: which exist, how long each lives, which keys hang on each.
//
// It reads no clock: the leader's expiry loop (package server) finds that a lease is over and proposes to revoke it;
// this package carries it out the same way on every member. Attachments are rows of their own, written in the batch of
// the put that makes them, so nothing is rebuilt from the keys at start.
//
//	Shape    table lease:     id (8 B, big endian) -> ttl (varint) remaining (varint)
//	         table lease_key: id (8 B, big endian) key -> empty
//	Units    ttl and remaining in whole seconds; remaining 0 is the full ttl
//	Errors   ErrNotFound, ErrExists, ErrTTLTooLarge
//	Source   etcd v3 API, service Lease; raft dissertation, section 6.3 (expiry must be agreed, not observed)
package lease

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"holdfast/kv"
	"holdfast/storage"
)

// TTLMax is the longest life of a lease in seconds, as in etcd: about 285 years.
const TTLMax = 9_000_000_000

// The caller's mistakes.
var (
	// ErrNotFound says that no lease has the id, or that the id is 0.
	ErrNotFound = errors.New("lease not found")
	// ErrExists says that a lease with the id is there already.
	ErrExists = errors.New("lease already exists")
	// ErrTTLTooLarge says that the ttl asked for exceeds TTLMax.
	ErrTTLTooLarge = errors.New("too large lease TTL")
)

// Lease is what is known of one lease.
type Lease struct {
	ID kv.LeaseID
	// TTL is the life after each renewal, in seconds.
	TTL int64
	// Remaining is the life that was left at the last checkpoint, in seconds; 0 if there was none since the last
	// renewal.
	Remaining int64
}

// entry is a lease with its keys.
type entry struct {
	Lease
	keys map[string]struct{}
}

// Set holds all leases. Changes come from one goroutine, each with the batch that makes it durable; questions may come
// from any.
type Set struct {
	ttlMin int64

	mu     sync.RWMutex // guards leases and what it holds; released before I/O
	leases map[kv.LeaseID]*entry
}

// Load reads the leases that a view of the store holds. ttlMin raises shorter grants, in seconds; every member of a cluster must
// use the same.
func Load(view storage.View, ttlMin int64) (*Set, error) {
	s := &Set{ttlMin: ttlMin, leases: map[kv.LeaseID]*entry{}}
	if err := s.loadLeases(view); err != nil {
		return nil, fmt.Errorf("load leases: %w", err)
	}
	if err := s.loadKeys(view); err != nil {
		return nil, fmt.Errorf("load the keys of leases: %w", err)
	}
	return s, nil
}

// Replace puts the leases of next, another state of the same history, in the place of those there are. next must not be
// used any more.
func (s *Set) Replace(next *Set) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leases = next.leases
}

// Restore puts a lease in as it was somewhere else. Move then attaches its keys.
func (s *Set) Restore(b *storage.Batch, l Lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	restored := &entry{Lease: l, keys: map[string]struct{}{}}
	s.leases[l.ID] = restored
	restored.store(b)
}

// idLen is the length of an encoded lease id.
const idLen = 8

func (s *Set) loadLeases(view storage.View) error {
	return view.Each(storage.TableLease, func(body, value []byte) error {
		if len(body) != idLen {
			return fmt.Errorf("lease id of %d bytes", len(body))
		}
		ttl, n := binary.Varint(value)
		if n <= 0 {
			return fmt.Errorf("lease %x: no ttl", body)
		}
		remaining, m := binary.Varint(value[n:])
		if m <= 0 {
			return fmt.Errorf("lease %x: no remaining ttl", body)
		}
		id := kv.LeaseID(binary.BigEndian.Uint64(body))
		s.leases[id] = &entry{Lease: Lease{ID: id, TTL: ttl, Remaining: remaining}, keys: map[string]struct{}{}}
		return nil
	})
}

func (s *Set) loadKeys(view storage.View) error {
	return view.Each(storage.TableLeaseKey, func(body, _ []byte) error {
		if len(body) < idLen {
			return fmt.Errorf("key of a lease in %d bytes", len(body))
		}
		id := kv.LeaseID(binary.BigEndian.Uint64(body))
		l := s.leases[id]
		if l == nil {
			return fmt.Errorf("key %q hangs on lease %v, which does not exist", body[idLen:], id)
		}
		l.keys[string(body[idLen:])] = struct{}{}
		return nil
	})
}

func leaseKey(id kv.LeaseID) []byte {
	return storage.TableLease.Key(binary.BigEndian.AppendUint64(nil, uint64(id)))
}

func attachmentKey(id kv.LeaseID, key string) []byte {
	return storage.TableLeaseKey.Key(append(binary.BigEndian.AppendUint64(nil, uint64(id)), key...))
}

func (l *entry) store(b *storage.Batch) {
	b.Set(leaseKey(l.ID), binary.AppendVarint(binary.AppendVarint(nil, l.TTL), l.Remaining))
}

// Grant makes a lease that lives ttl seconds, at least the configured minimum.
func (s *Set) Grant(b *storage.Batch, id kv.LeaseID, ttl int64) (Lease, error) {
	if id == 0 {
		return Lease{}, ErrNotFound
	}
	if ttl > TTLMax {
		return Lease{}, ErrTTLTooLarge
	}
	l := &entry{Lease: Lease{ID: id, TTL: max(ttl, s.ttlMin)}, keys: map[string]struct{}{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leases[id] != nil {
		return Lease{}, ErrExists
	}
	s.leases[id] = l
	l.store(b)
	return l.Lease, nil
}

// Revoke ends a lease and returns its keys in order. The caller deletes them in the same batch.
func (s *Set) Revoke(b *storage.Batch, id kv.LeaseID) ([][]byte, error) {
	s.mu.Lock()
	l := s.leases[id]
	delete(s.leases, id)
	s.mu.Unlock()
	if l == nil {
		return nil, ErrNotFound
	}
	keys := l.sortedKeys()
	b.Delete(leaseKey(id))
	for _, key := range keys {
		b.Delete(attachmentKey(id, string(key)))
	}
	return keys, nil
}

func (l *entry) sortedKeys() [][]byte {
	keys := make([][]byte, 0, len(l.keys))
	for key := range l.keys {
		keys = append(keys, []byte(key))
	}
	slices.SortFunc(keys, bytes.Compare)
	return keys
}

// Move records that a key which hung on lease from hangs on lease to now; 0 is no lease. A lease that is gone is left
// out: revoking took its attachments along.
func (s *Set) Move(b *storage.Batch, key []byte, from, to kv.LeaseID) {
	if from == to {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.leases[from]; l != nil {
		delete(l.keys, string(key))
		b.Delete(attachmentKey(from, string(key)))
	}
	if l := s.leases[to]; l != nil {
		l.keys[string(key)] = struct{}{}
		b.Set(attachmentKey(to, string(key)), nil)
	}
}

// Checkpoint notes how many seconds of life a lease has left; 0 says that it was renewed. An unknown lease is ignored:
// it was revoked in between.
func (s *Set) Checkpoint(b *storage.Batch, id kv.LeaseID, remaining int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.leases[id]; l != nil {
		l.Remaining = remaining
		l.store(b)
	}
}

// Lookup finds a lease.
func (s *Set) Lookup(id kv.LeaseID) (Lease, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if l := s.leases[id]; l != nil {
		return l.Lease, true
	}
	return Lease{}, false
}

// Keys are the keys that hang on a lease, in order.
func (s *Set) Keys(id kv.LeaseID) [][]byte {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if l := s.leases[id]; l != nil {
		return l.sortedKeys()
	}
	return nil
}

// All are the leases, in the order of their rows: ids as unsigned numbers, negative ones last.
func (s *Set) All() []Lease {
	s.mu.RLock()
	all := make([]Lease, 0, len(s.leases))
	for _, l := range s.leases {
		all = append(all, l.Lease)
	}
	s.mu.RUnlock()
	slices.SortFunc(all, func(a, b Lease) int {
		return cmp.Compare(uint64(a.ID), uint64(b.ID))
	})
	return all
}

// Len is the number of leases.
func (s *Set) Len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.leases)
}
