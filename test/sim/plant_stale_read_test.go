//go:build plant_stale_read || plant_all

package sim

// The mistake stale-read answers some reads without asking the cluster.
func init() { plants["stale-read"] = slips{unasked: func(l *life) bool { return l.w.chance(10) }} }
