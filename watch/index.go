package watch

import (
	"slices"

	"holdfast/kv"
)

// index finds groups: those around a key, and the one of a range with options.
type index struct {
	keys   map[string]*slot
	ranges tree
}

// slot holds the groups of one range; they differ in their options.
type slot struct{ groups []*group }

// match appends every group whose range holds key, in an order that depends only on what came and went before.
func (x *index) match(dst []*group, key []byte) []*group {
	if s := x.keys[string(key)]; s != nil {
		dst = append(dst, s.groups...)
	}
	return x.ranges.stab(dst, key)
}

func (x *index) slot(span kv.KeyRange) *slot {
	if span.IsSingle() {
		return x.keys[string(span.Key)]
	}
	return x.ranges.find(span.Bounds())
}

func (x *index) find(span kv.KeyRange, opts options) *group {
	s := x.slot(span)
	if s == nil {
		return nil
	}
	for _, g := range s.groups {
		if g.opts == opts {
			return g
		}
	}
	return nil
}

func (x *index) add(g *group) {
	s := x.slot(g.span)
	if s == nil {
		s = new(slot)
		if g.span.IsSingle() {
			x.keys[string(g.span.Key)] = s
		} else {
			lo, hi := g.span.Bounds()
			x.ranges.insert(lo, hi, s)
		}
	}
	s.groups = append(s.groups, g)
}

func (x *index) remove(g *group) {
	s := x.slot(g.span)
	i := slices.Index(s.groups, g)
	s.groups = slices.Delete(s.groups, i, i+1)
	switch {
	case len(s.groups) > 0:
	case g.span.IsSingle():
		delete(x.keys, string(g.span.Key))
	default:
		x.ranges.remove(g.span.Bounds())
	}
}
