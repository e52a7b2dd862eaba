package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Feature is the name of a feature gate.
type Feature string

// The gates of etcd 3.7.
const (
	AllAlpha                     Feature = "AllAlpha"
	AllBeta                      Feature = "AllBeta"
	CompactHashCheck             Feature = "CompactHashCheck"
	FastLeaseKeepAlive           Feature = "FastLeaseKeepAlive"
	InitialCorruptCheck          Feature = "InitialCorruptCheck"
	LeaseCheckpoint              Feature = "LeaseCheckpoint"
	LeaseCheckpointPersist       Feature = "LeaseCheckpointPersist"
	PriorityRequest              Feature = "PriorityRequest"
	SetMemberLocalAddr           Feature = "SetMemberLocalAddr"
	StopGRPCServiceOnDefrag      Feature = "StopGRPCServiceOnDefrag"
	TxnModeWriteWithSharedBuffer Feature = "TxnModeWriteWithSharedBuffer"
)

// Gate is what is known of a feature gate. The stages are etcd's.
type Gate struct {
	Name    Feature
	Stage   string // "ALPHA" or "BETA"
	Default bool
	Idle    string // why setting it changes nothing here; "" means that it acts
}

var gates = []Gate{
	{Name: AllAlpha, Stage: "ALPHA"},
	{Name: AllBeta, Stage: "BETA"},
	{Name: CompactHashCheck, Stage: "ALPHA"},
	{Name: FastLeaseKeepAlive, Stage: "BETA", Default: true, Idle: "a renewal waits for what was committed before it"},
	{Name: InitialCorruptCheck, Stage: "ALPHA"},
	{Name: LeaseCheckpoint, Stage: "ALPHA"},
	{Name: LeaseCheckpointPersist, Stage: "ALPHA"},
	{Name: PriorityRequest, Stage: "ALPHA", Idle: "the revocation of a lease that finds no room is proposed again until it does"},
	{Name: SetMemberLocalAddr, Stage: "ALPHA"},
	{Name: StopGRPCServiceOnDefrag, Stage: "ALPHA", Idle: "a defragmentation does not stop serving"},
	{Name: TxnModeWriteWithSharedBuffer, Stage: "BETA", Default: true, Idle: "a write transaction reads in one way only"},
}

// AllGates are the gates there are, by name.
func AllGates() []Gate { return slices.Clone(gates) }

func gateOf(name Feature) (Gate, bool) {
	i := slices.IndexFunc(gates, func(g Gate) bool { return g.Name == name })
	if i < 0 {
		return Gate{}, false
	}
	return gates[i], true
}

// Gates are the feature gates that were set; the zero value has every default.
type Gates struct{ set map[Feature]bool }

// Enabled reports whether a gate is on: its own setting, else that of its stage, else its default.
func (g Gates) Enabled(name Feature) bool {
	gate, ok := gateOf(name)
	if !ok {
		panic(fmt.Sprintf("config: feature gate %q does not exist", name))
	}
	if on, ok := g.set[name]; ok {
		return on
	}
	if on, ok := g.set[map[string]Feature{"ALPHA": AllAlpha, "BETA": AllBeta}[gate.Stage]]; ok {
		return on
	}
	return gate.Default
}

// IsSet reports whether the gate was set by name.
func (g Gates) IsSet(name Feature) bool {
	_, ok := g.set[name]
	return ok
}

// String is what was set, in the flag's form, sorted; etcd shows the gates of a bulk switch one by one, and so do we.
func (g Gates) String() string {
	var pairs []string
	for _, gate := range gates {
		bulk := (gate.Stage == "ALPHA" && g.IsSet(AllAlpha)) || (gate.Stage == "BETA" && g.IsSet(AllBeta))
		if g.IsSet(gate.Name) || bulk {
			pairs = append(pairs, fmt.Sprintf("%s=%t", gate.Name, g.Enabled(gate.Name)))
		}
	}
	return strings.Join(pairs, ",")
}

// with returns the gates with more of them set, from text like A=true,B=false; the receiver stays as it is.
func (g Gates) with(text string) (Gates, error) {
	set := map[Feature]bool{}
	for _, pair := range strings.Split(text, ",") {
		if pair == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok {
			return g, fmt.Errorf("missing bool value for %s", name)
		}
		on, err := strconv.ParseBool(value)
		if err != nil {
			return g, fmt.Errorf("invalid value of %s=%s, err: %w", name, value, err)
		}
		if _, ok := gateOf(Feature(name)); !ok {
			return g, fmt.Errorf("unrecognized feature gate: %s", name)
		}
		set[Feature(name)] = on
	}
	return g.and(set), nil
}

// and returns the gates with more of them set.
func (g Gates) and(more map[Feature]bool) Gates {
	set := maps.Clone(g.set)
	if set == nil {
		set = map[Feature]bool{}
	}
	maps.Copy(set, more)
	return Gates{set}
}

var gatesValue = value(formText,
	func(c *Config) string { return c.Gates.String() },
	func(c *Config, s string) error {
		g, err := c.Gates.with(s)
		c.Gates = g
		return err
	})
