package mixed

import (
	"context"
	"fmt"

	"holdfast/test/peer"
)

// A plan is what happens to a cluster during an episode: one step after every so many operations, over and over.
type plan struct {
	every int
	steps []step
}

// A step is something done to a cluster between two operations.
type step struct {
	name      string
	reconnect bool // another set of members serves afterwards
	forgets   bool // a member loses what it only remembers
	do        func(ctx context.Context, c *Cluster) error
}

// at returns what the plan has for a place in the list of operations.
func (p plan) at(place int, c *Cluster) *peer.Disturbance {
	if len(p.steps) == 0 || place == 0 || place%p.every != 0 {
		return nil
	}
	s := p.steps[(place/p.every-1)%len(p.steps)]
	return &peer.Disturbance{Name: s.name, Reconnect: s.reconnect, Forgets: s.forgets, Do: func(ctx context.Context) error {
		if err := s.do(ctx, c); err != nil {
			return err
		}
		return c.Agree(ctx)
	}}
}

// lead moves leadership to a member of a kind, to another one if that kind has it already.
func lead(k Kind) step {
	return step{name: fmt.Sprintf("leadership to a member of %s", k), do: func(ctx context.Context, c *Cluster) error {
		leader, err := c.Leader(ctx)
		if err != nil {
			return err
		}
		for _, m := range c.running() {
			if m != leader && m.Kind == k {
				return c.MoveLeader(ctx, m)
			}
		}
		return nil
	}}
}

// down ends a member of a kind, by a kill or by asking.
func down(k Kind, kill bool) step {
	return step{name: fmt.Sprintf("a member of %s ends, kill=%t", k, kill), reconnect: true, forgets: true,
		do: func(ctx context.Context, c *Cluster) error {
			for _, m := range c.running() {
				if m.Kind != k {
					continue
				}
				if kill {
					m.Kill()
					return c.settle(ctx)
				}
				if err := m.Stop(); err != nil {
					return err
				}
				return c.settle(ctx)
			}
			return fmt.Errorf("no member of %s runs", k)
		}}
}

// back starts what does not run.
func back() step {
	return step{name: "who is down comes back", reconnect: true, forgets: true,
		do: func(ctx context.Context, c *Cluster) error { return c.Restart(ctx) }}
}

// move gives a member of a kind another address for the others: they are told, then it starts there.
func move(k Kind) step {
	return step{name: fmt.Sprintf("a member of %s moves to another address", k), reconnect: true, forgets: true,
		do: func(ctx context.Context, c *Cluster) error {
			for _, m := range c.running() {
				if m.Kind == k {
					return c.Move(ctx, m)
				}
			}
			return fmt.Errorf("no member of %s runs", k)
		}}
}

// swap puts a member of a kind in the place of one of the other kind: that one ends, is removed, and a new one joins, as a
// learner that is promoted or as a voter at once.
func swap(k Kind, learner bool) step {
	return step{name: fmt.Sprintf("a member becomes one of %s, first a learner=%t", k, learner), reconnect: true, forgets: true,
		do: func(ctx context.Context, c *Cluster) error {
			for _, m := range c.running() {
				if m.Kind == k {
					continue
				}
				if err := m.Stop(); err != nil {
					return err
				}
				if err := c.Remove(ctx, m); err != nil {
					return err
				}
				added, err := c.Add(ctx, k, learner)
				if err != nil || !learner {
					return err
				}
				return c.Promote(ctx, added)
			}
			return fmt.Errorf("every member that runs is one of %s", k)
		}}
}
