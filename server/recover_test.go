package server

import (
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/membership"
)

// TestNewer: terms decide, then length; of equals the first stays.
func TestNewer(t *testing.T) {
	at := func(term, index uint64) Survivor { return Survivor{LogState: LogState{LastTerm: term, Last: index}} }
	for _, c := range []struct {
		a, b Survivor
		want bool
	}{
		{at(3, 10), at(2, 99), true}, {at(2, 99), at(3, 10), false},
		{at(3, 11), at(3, 10), true}, {at(3, 10), at(3, 11), false}, {at(3, 10), at(3, 10), false},
	} {
		if got := c.a.newer(c.b); got != c.want {
			t.Errorf("%+v newer than %+v: %v", c.a.LogState, c.b.LogState, got)
		}
	}
}

// TestRecoverRefuses is the table of directories that no cluster can be made of.
func TestRecoverRefuses(t *testing.T) {
	disk := newCrashingFS(drawSeed(t))
	cfg, _ := threeWithTail(t, disk)
	for _, copied := range []string{"twin", "broken"} {
		if _, err := vfs.Clone(disk, disk, "data", copied); err != nil {
			t.Fatal(err)
		}
	}
	if err := disk.RemoveAll("broken/member/wal"); err != nil {
		t.Fatal(err)
	}
	other := testConfig("other")
	other.FS, other.Name = disk, "other"
	other.Founders = []membership.Member{{ID: 5, Name: "other", PeerURLs: []string{"http://x:1"}}}
	s, err := Open(other)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	into := Refounding{DataDir: "new", Founders: []membership.Member{{ID: 9, Name: "new", PeerURLs: []string{"http://new:1"}}}, Self: 9, Bump: 1}
	for _, c := range []struct {
		founders []membership.Member
		dirs     []string
		want     string
	}{
		{into.Founders, nil, "name the data directories"},
		{into.Founders, []string{"data", "twin"}, "are both of member"},
		{into.Founders, []string{"data", "other"}, "nothing in common"},
		{into.Founders, []string{"data", "broken"}, "do not name it"},
		{into.Founders, []string{"nowhere"}, "no data directory of a member"},
		{cfg.Founders, []string{"data"}, "the id of the old one"},
	} {
		r := Recovery{FS: disk, Into: into, Log: cfg.Log}
		r.Into.Founders = c.founders
		for _, dir := range c.dirs {
			r.Survivors = append(r.Survivors, Survivor{DataDir: dir})
		}
		if found, err := r.Run(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %+v, %v, want %q", c.dirs, found, err, c.want)
		}
	}
	r := Recovery{FS: disk, Into: into, Log: cfg.Log, DryRun: true, Survivors: []Survivor{{DataDir: "data"}}}
	found, err := r.Run()
	if err != nil || found.Committed != 4 || found.CommittedRevision != 2 || found.Revision != 4 || found.NewRevision != 5 || found.Voters != 3 || found.VotersLeft != 1 || found.Complete() {
		t.Errorf("%+v, %v", found, err)
	}
	for _, name := range []string{"new", "new.part"} {
		if !absentIn(disk, name) {
			t.Errorf("%s is there after a dry run", name)
		}
	}
}
