package auth

import (
	"bytes"
	"slices"

	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/pkg/v3/adt"

	"holdfast/kv"
)

// permits is what a user may do: the union of what its roles permit.
type permits struct {
	read, write spans
	// roles are what the spans were made of.
	roles []*role
}

// spans are intervals of keys, in order, that neither overlap nor touch.
type spans []span

// span is the interval [lo, hi); a nil hi is no upper bound.
type span struct {
	lo, hi []byte
}

// merge makes the union of the permissions of roles. A permission of a kind not known here permits nothing.
func merge(roles []*role) permits {
	may := permits{roles: roles}
	for _, r := range roles {
		for _, p := range r.row.KeyPermission {
			if !isValidRange(p.Key, p.RangeEnd) { // old members of etcd let them in; they hold no key
				continue
			}
			var s span
			s.lo, s.hi = kv.KeyRange{Key: p.Key, End: p.RangeEnd}.Bounds()
			if p.PermType == authpb.Permission_READ || p.PermType == authpb.Permission_READWRITE {
				may.read = append(may.read, s)
			}
			if p.PermType == authpb.Permission_WRITE || p.PermType == authpb.Permission_READWRITE {
				may.write = append(may.write, s)
			}
		}
	}
	may.read, may.write = may.read.union(), may.write.union()
	return may
}

// isValidRange tells whether a permission can be granted on a range.
func isValidRange(key, end []byte) bool {
	return len(key) > 0 && !kv.KeyRange{Key: key, End: end}.IsEmpty()
}

// union brings any intervals into order and joins those that overlap or touch.
func (all spans) union() spans {
	slices.SortFunc(all, func(a, b span) int { return bytes.Compare(a.lo, b.lo) })
	joined := all[:0]
	for _, s := range all {
		last := len(joined) - 1
		if last >= 0 && !below(joined[last].hi, s.lo) {
			if !reaches(joined[last].hi, s.hi) {
				joined[last].hi = s.hi
			}
			continue
		}
		joined = append(joined, s)
	}
	return joined
}

// below tells whether an upper bound lies below a key.
func below(hi, key []byte) bool { return hi != nil && bytes.Compare(hi, key) < 0 }

// reaches tells whether an upper bound is not below another.
func reaches(hi, other []byte) bool {
	return hi == nil || (other != nil && bytes.Compare(hi, other) >= 0)
}

// allow decides over one access.
func (p *permits) allow(a *kv.Access) bool {
	if a.IsEmpty() {
		return p.allowEmpty(a)
	}
	return (a.Right&kv.Read == 0 || p.read.cover(a.KeyRange)) && (a.Right&kv.Write == 0 || p.write.cover(a.KeyRange))
}

// allowEmpty decides over a range that holds no key, as its end is not above its start. Nothing is read or written in it, but
// the rest of a transaction hangs on the answer, and every member must give the same: what etcd's answers depends on the shape
// of its tree of intervals, so that tree is asked, filled in etcd's order.
func (p *permits) allowEmpty(a *kv.Access) bool {
	for right, kinds := range map[kv.Right][2]authpb.Permission_Type{
		kv.Read:  {authpb.Permission_READ, authpb.Permission_READWRITE},
		kv.Write: {authpb.Permission_WRITE, authpb.Permission_READWRITE},
	} {
		if a.Right&right == 0 {
			continue
		}
		tree := adt.NewIntervalTree()
		for _, r := range p.roles {
			for _, given := range r.row.KeyPermission {
				if slices.Contains(kinds[:], given.PermType) && isValidRange(given.Key, given.RangeEnd) {
					lo, hi := kv.KeyRange{Key: given.Key, End: given.RangeEnd}.Bounds()
					tree.Insert(adt.NewBytesAffineInterval(lo, hi), nil)
				}
			}
		}
		if !tree.Contains(adt.NewBytesAffineInterval(a.Key, a.End)) {
			return false
		}
	}
	return true
}

// cover tells whether one span holds the whole range, which holds a key: since no spans touch, no two could share it.
func (all spans) cover(r kv.KeyRange) bool {
	n, found := slices.BinarySearchFunc(all, r.Key, func(s span, key []byte) int { return bytes.Compare(s.lo, key) })
	if !found {
		n-- // the last span that begins below the key
	}
	if n < 0 {
		return false
	}
	hi := all[n].hi
	switch {
	case hi == nil:
		return true
	case bytes.Compare(r.Key, hi) >= 0 || r.IsFrom():
		return false
	}
	return r.IsSingle() || bytes.Compare(r.End, hi) <= 0
}
