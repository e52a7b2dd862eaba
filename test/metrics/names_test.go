package metrics

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"holdfast/test/etcd"
	"holdfast/test/run"
)

// absent are names that etcd shows and we do not, with the reason.
var absent = map[string]string{}

// TestA4NamesOfEtcd: under the same load, whatever a member of etcd shows, one of ours shows with the same type, labels and
// buckets. The order of the members does not matter: all of each kind are put together.
func TestA4NamesOfEtcd(t *testing.T) {
	if testing.Short() {
		t.Skip("starts clusters")
	}
	theirs, ours := etcd.Binary(t, "etcd"), run.Holdfast(t)
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			want, got := shapesOf(t, theirs, n), shapesOf(t, ours, n)
			if len(want) < 120 {
				t.Errorf("etcd shows %d names only", len(want))
			}
			for _, name := range slices.Sorted(maps.Keys(want)) {
				reason := absent[name]
				have, is := got[name]
				switch {
				case !is && reason == "":
					t.Errorf("%s is missing, which is a %v", name, want[name])
				case is && reason != "":
					t.Errorf("%s is shown, although %s", name, reason)
				case is && !have.equal(want[name]):
					t.Errorf("%s is a %v, want a %v", name, have, want[name])
				}
			}
			for name := range got {
				if _, known := want[name]; !known && !strings.HasPrefix(name, "holdfast_") {
					t.Logf("%s is shown by ours alone", name)
				}
			}
		})
	}
}

// shapesOf is what the members of a cluster show after some load.
func shapesOf(t *testing.T, binary string, n int) map[string]shape {
	t.Helper()
	members := startMembers(t, binary, n)
	for _, m := range members {
		load(t, m)
	}
	all := map[string]shape{}
	for _, m := range members {
		maps.Copy(all, shapes(t, scrape(t, m.Client)))
		m.Kill()
	}
	return all
}
