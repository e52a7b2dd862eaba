//go:build plant_double_apply || plant_all

package sim

import (
	"context"
	"slices"
)

// The mistake double-apply proposes a command twice, rarely, as a member would that tries again without asking.
func init() { plants["double-apply"] = slips{proposed: proposeAgain} }

func proposeAgain(ctx context.Context, l *life, payload []byte) {
	if l.w.rnd.IntN(300) > 0 {
		return
	}
	if err := l.replica.Propose(ctx, slices.Clone(payload)); err != nil {
		l.w.note("%s could not propose twice: %v", l.member, err)
	}
}
