//go:build plant_lost_event || plant_all

package sim

import (
	"slices"

	"holdfast/kv"
)

// The mistake lost-event leaves one event out, rarely.
func init() { plants["lost-event"] = slips{publish: loseEvent} }

func loseEvent(l *life, changes []kv.Change) []kv.Change {
	if !l.w.chance(1) {
		return changes
	}
	changes = slices.Clone(changes)
	c := &changes[l.w.rnd.IntN(len(changes))]
	if len(c.Events) > 0 {
		c.Events = slices.Delete(slices.Clone(c.Events), 0, 1)
	}
	return changes
}
