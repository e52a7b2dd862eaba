package sim

import (
	"cmp"
	"math"
	"slices"
)

// ordered asks that the order of the log explains the history: who calls after somebody else has an answer comes behind him.
// It finds what porcupine would, in a moment and with names; porcupine does not need to be told of the log.
func (j *judge) ordered() {
	type end struct {
		at    int64 // moment
		place int
		o     *op
	}
	var ends []end
	var calls []*op
	for _, o := range j.ops {
		first, last := j.place(o)
		if last == 0 {
			continue // never happened
		}
		calls = append(calls, o)
		if o.answer > 0 {
			ends = append(ends, end{o.answer, first, o})
		}
	}
	slices.SortFunc(ends, func(a, b end) int { return cmp.Compare(a.at, b.at) })
	slices.SortFunc(calls, func(a, b *op) int { return cmp.Compare(a.call, b.call) })
	var furthest end
	for _, o := range calls {
		for len(ends) > 0 && ends[0].at < o.call {
			if ends[0].place > furthest.place {
				furthest = ends[0]
			}
			ends = ends[1:]
		}
		if _, last := j.place(o); last < furthest.place {
			j.w.fail("%v (%v) stands at entry %d, but %v (%v) at entry %d had its answer before it was called",
				o, j.shown(o), last, furthest.o, j.shown(furthest.o), furthest.place)
		}
	}
}

func (j *judge) shown(o *op) result {
	if o.answer > 0 {
		return o.got
	}
	return j.results[o.id]
}

// place is where in the log a request stands: a command at its entry, a question anywhere in the revision it tells of.
func (j *judge) place(o *op) (first, last int) {
	if o.payload != nil {
		at := j.places[o.id]
		return at, at
	}
	rev := int(o.got.revision)
	if rev+1 < len(j.begins) {
		return j.begins[rev], j.begins[rev+1] - 1
	}
	return j.begins[rev], math.MaxInt
}
