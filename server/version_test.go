package server

import (
	"errors"
	"testing"

	"holdfast/kv"
)

// TestNextVersion is the table of what the leader proposes. Against etcd it was seen that a cluster whose members all answer
// goes to their version at once, and one that lacks a member is at 3.0.0 until that one comes.
func TestNextVersion(t *testing.T) {
	for _, c := range []struct {
		now     string
		members []string
		want    string // empty: no change
	}{
		{"", []string{"3.7.3", "3.7.3", "3.7.3"}, "3.7.0"},
		{"", []string{"3.7.3"}, "3.7.0"},
		{"", []string{"3.7.3", "3.6.8", "3.7.3"}, "3.6.0"},
		{"", []string{"3.7.3", "", "3.7.3"}, "3.0.0"},
		{"", []string{"3.7.3", "nonsense"}, "3.0.0"},
		{"", nil, "3.0.0"},
		{"3.0.0", []string{"3.7.3", "", "3.7.3"}, ""},
		{"3.0.0", []string{"3.7.3", "3.7.3", "3.7.3"}, "3.7.0"},
		{"3.6.0", []string{"3.7.3", "3.6.8"}, ""},
		{"3.6.0", []string{"3.7.3", "3.8.0"}, "3.7.0"},
		{"3.7.0", []string{"3.7.3", "3.7.0"}, ""},
		{"3.7.0", []string{"3.7.3", "3.6.8"}, ""},
		{"3.9.0", []string{"3.10.0", "3.10.1"}, "3.10.0"},
		{"3.7.0", []string{"4.0.0"}, ""},
	} {
		got, change := nextVersion(c.now, c.members)
		if got != c.want || change != (c.want != "") {
			t.Errorf("at %q with %q: %q, %t, want %q", c.now, c.members, got, change, c.want)
		}
	}
}

// TestCheckVersions is the table of clusters that may be joined.
func TestCheckVersions(t *testing.T) {
	at := func(versions ...string) (all []memberVersions) {
		for _, v := range versions {
			all = append(all, memberVersions{Cluster: v})
		}
		return all
	}
	for _, c := range []struct {
		members []memberVersions
		ok      bool
	}{
		{at("3.7.0", "3.7.0"), true},
		{at("3.6.0"), true},
		{at("", "3.0.0", "not_decided"), true},
		{at("3.7.0", "3.8.0"), false},
		{at("2.3.0", "3.7.0"), false},
		{at("not_decided"), false},
		{at("", ""), false},
		{nil, false},
	} {
		if err := checkVersions(c.members); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.members, err)
		}
	}
	for cluster, ok := range map[string]bool{"": true, "3.0.0": true, "3.7.0": true, "3.8.0": false, "4.0.0": false} {
		if err := checkVersion(cluster); errors.Is(err, errVersionTooLow) == ok {
			t.Errorf("a cluster at %q: %v", cluster, err)
		}
	}
}

// TestStorageVersion is what a cluster of etcds that lacked a member for a while was seen to say.
func TestStorageVersion(t *testing.T) {
	for _, c := range []struct {
		cluster string
		applied kv.Index
		want    string
	}{{"", 0, ""}, {"", 3, "3.5.0"}, {"3.0.0", 5, "3.5.0"}, {"3.7.0", 9, "3.7.0"}, {"3.6.0", 9, "3.6.0"}} {
		if got := storageVersion(c.cluster, c.applied > 0); got != c.want {
			t.Errorf("cluster at %q, applied %d: %q, want %q", c.cluster, c.applied, got, c.want)
		}
	}
}
