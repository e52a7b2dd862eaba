// Package metrics names what a member tells Prometheus, and holds the numbers that are counted while they happen.
//
// A Family is one name with its help, labels and buckets. The tables of this package are all there are: etcd's names in
// etcd_*.go, which dashboards and alerts rest on, and our own in holdfast.go. A Set is what one member shows. A family gets its
// numbers in one of two ways: it is held, and whoever asked the Set for it counts as things happen; or it is sampled, and a
// package's Stats are read when somebody looks. One without labels that gets them in neither way shows 0.
//
//	Units    seconds and bytes, but where etcd's name says otherwise
//	Source   etcd 3.7 for its names, types, labels and buckets
package metrics

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// Type is what the numbers of a family are, in the words of Prometheus.
type Type string

// The types.
const (
	TypeGauge     Type = "gauge"
	TypeCounter   Type = "counter"
	TypeHistogram Type = "histogram"
)

// Family is one name.
type Family struct {
	Name, Help string
	Type       Type
	Labels     []string
	Buckets    []float64 // of a histogram: the upper bounds, without the infinite one
	// Idle tells that the name describes a part of etcd that has no counterpart here. It shows 0 for good.
	Idle bool
	// Old tells that etcd itself gave the name up. It is shown only if asked for.
	Old bool

	desc *prometheus.Desc
}

var families []*Family

// Families are all families, sorted by name.
func Families() []*Family {
	sorted := slices.Clone(families)
	slices.SortFunc(sorted, func(a, b *Family) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return sorted
}

func declare(f Family) *Family {
	f.desc = prometheus.NewDesc(f.Name, f.Help, f.Labels, nil)
	families = append(families, &f)
	return &f
}

func gauge(name, help string, labels ...string) *Family {
	return declare(Family{Name: name, Help: help, Type: TypeGauge, Labels: labels})
}

func counter(name, help string, labels ...string) *Family {
	return declare(Family{Name: name, Help: help, Type: TypeCounter, Labels: labels})
}

func histogram(name, help string, buckets []float64, labels ...string) *Family {
	return declare(Family{Name: name, Help: help, Type: TypeHistogram, Labels: labels, Buckets: buckets})
}

// nothingHere ends the help of every idle family.
const nothingHere = " Holdfast has no such part: this stays 0."

func idle(f *Family) *Family {
	f.Idle, f.Help = true, f.Help+nothingHere
	f.desc = prometheus.NewDesc(f.Name, f.Help, f.Labels, nil)
	return f
}

func old(f *Family) *Family {
	f.Old = true
	return f
}

// doubling are n bounds, each twice the one before.
func doubling(first float64, n int) []float64 { return prometheus.ExponentialBuckets(first, 2, n) }
