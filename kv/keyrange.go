package kv

import "bytes"

// KeyRange is a set of neighbouring keys as the etcd API writes it: an empty End means the single key Key, the End
// "\x00" means every key from Key on, any other End means [Key, End).
type KeyRange struct {
	Key, End []byte
}

// fromKey is the End that leaves a range open above.
var fromKey = []byte{0}

// IsSingle tells whether r names one key rather than an interval.
func (r KeyRange) IsSingle() bool { return len(r.End) == 0 }

// IsFrom tells whether r has no upper bound.
func (r KeyRange) IsFrom() bool { return bytes.Equal(r.End, fromKey) }

// IsEmpty tells whether no key can lie in r: an interval whose end does not come after its start.
func (r KeyRange) IsEmpty() bool {
	return !r.IsSingle() && !r.IsFrom() && bytes.Compare(r.Key, r.End) >= 0
}

// Contains tells whether key lies in r.
func (r KeyRange) Contains(key []byte) bool {
	if r.IsSingle() {
		return bytes.Equal(r.Key, key)
	}
	return bytes.Compare(r.Key, key) <= 0 && (r.IsFrom() || bytes.Compare(key, r.End) < 0)
}

// Bounds gives r as a half-open interval: lo is included, hi is not, a nil hi is no upper bound. The hi of a single
// key is a fresh slice; the others alias r.
func (r KeyRange) Bounds() (lo, hi []byte) {
	switch {
	case r.IsSingle():
		hi = make([]byte, len(r.Key)+1)
		copy(hi, r.Key)
		return r.Key, hi
	case r.IsFrom():
		return r.Key, nil
	}
	return r.Key, r.End
}
