package config

import (
	"slices"
	"testing"
)

// TestMasked: passwords are hidden in every way in which a flag takes its value, and nothing else is.
func TestMasked(t *testing.T) {
	got := Masked([]string{
		"etcd", "--name", "m1", "--discovery-password", "p1", "--discovery-password=p2", "-discovery-password", "p3", "-discovery-user=u:p4",
		"--discovery-password", "--name", "--initial-cluster=m1=http://h:1", "discovery-password=no flag",
	})
	want := []string{
		"etcd", "--name", "m1", "--discovery-password", "***", "--discovery-password=***", "-discovery-password", "***", "-discovery-user=***",
		"--discovery-password", "***", "--initial-cluster=m1=http://h:1", "discovery-password=no flag",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
