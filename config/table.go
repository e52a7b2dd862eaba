package config

import (
	"slices"
	"strings"
)

// Kind is what became of a flag.
type Kind int

const (
	// Live acts as in etcd 3.7.
	Live Kind = iota
	// Idle is a flag of etcd 3.7 that tunes what Holdfast does not have: checked, then named once at start.
	Idle
	// Renamed is an old name of another flag.
	Renamed
	// Gated is an old switch that became a feature gate.
	Gated
	// Ignored is an old flag that only tuned something, or that etcd itself ignores: named once at start.
	Ignored
	// Refused is an old flag that asks for what etcd 3.7 no longer does: it ends the start, unless its value asks for nothing.
	Refused
)

func (k Kind) String() string {
	return [...]string{"live", "idle", "renamed", "gate", "ignored", "refused"}[k]
}

// Flag is a row of the table: one name, and what it means here.
type Flag struct {
	Name  string
	Since string // first of etcd's minor versions, from 3.4 on, that has it; own: none has
	Until string // the last one; "" means that 3.7 has it
	Kind  Kind
	Group string // heading in the help; "" is not listed there
	Usage string // one or more lines of help

	Shown  string // default as the help shows it, where the flag's own text would mislead
	Became string // Renamed: the flag; Gated: the feature gate
	Why    string // Idle, Ignored: why it changes nothing. Refused: what it asks for and what to do instead

	bind   binding               // none: that of the flag it became
	file   string                // its place in a file: "" is its name, noFile none, else the path of keys
	asks   func(string) bool     // Refused: whether a value asks for something
	apply  func(*Config, string) // Renamed, where the old value has another meaning: what it does, over the new flag
	secret bool                  // the value is not logged
}

// noFile marks a flag that etcd reads from the command line and the environment only.
const noFile = "-"

// Headings of the help, in etcd's order.
const (
	groupMember     = "Member"
	groupClustering = "Clustering"
	groupSecurity   = "Security"
	groupAuth       = "Auth"
	groupMonitoring = "Profiling and Monitoring"
	groupLogging    = "Logging"
	groupTracing    = "Distributed tracing"
	groupFeatures   = "Features"
	groupUnsafe     = "Unsafe feature"
	groupOwn        = "Holdfast's own"
)

var groups = []string{groupMember, groupClustering, groupSecurity, groupAuth, groupMonitoring, groupLogging, groupTracing,
	groupFeatures, groupUnsafe, groupOwn}

// table has every flag, in the order of the help.
var table = slices.Concat(memberFlags, clusterFlags, securityFlags, operationFlags, ownFlags, oldFlags)

// Table is every flag etcd has had since 3.4, in the order of the help.
func Table() []Flag { return slices.Clone(table) }

var byName = func() map[string]*Flag {
	m := make(map[string]*Flag, len(table))
	for i := range table {
		m[table[i].Name] = &table[i]
	}
	return m
}()

// variable is the name of the environment variable that sets a flag.
func (f *Flag) variable() string {
	return "ETCD_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
}

// target is the row that acts for f: itself, or the flag it became.
func (f *Flag) target() *Flag {
	if f.Kind == Renamed {
		return byName[f.Became]
	}
	return f
}

// binding is how the flag reads its value.
func (f *Flag) binding() binding {
	if f.bind.register == nil {
		return f.target().bind
	}
	return f.bind
}
