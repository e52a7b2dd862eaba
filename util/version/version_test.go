package version

import (
	"regexp"
	"runtime/debug"
	"testing"

	etcd "go.etcd.io/etcd/api/v3/version"
)

// Goal: what peers parse stays parseable and follows the etcd whose messages we use.
// Method: compare with the version constant of the required api module.
func TestEtcdVersionIsTheOneWeSpeak(t *testing.T) {
	if !regexp.MustCompile(`^3\.\d+\.\d+$`).MatchString(EtcdVersion) {
		t.Fatalf("EtcdVersion %q is not a semantic version of etcd 3", EtcdVersion)
	}
	if EtcdVersion != etcd.Version {
		t.Errorf("EtcdVersion is %q, the required api module is of %q", EtcdVersion, etcd.Version)
	}
	if got := EtcdMinor(); got != etcd.APIVersion {
		t.Errorf("EtcdMinor() = %q, want %q", got, etcd.APIVersion)
	}
}

func TestLinesHaveEtcdsLabels(t *testing.T) {
	form := regexp.MustCompile(`^etcd Version: 3\.7\.3\nGit SHA: .+\nGo Version: go.+\nGo OS/Arch: \w+/\w+\n$`)
	if got := Lines(); !form.MatchString(got) {
		t.Errorf("unexpected form:\n%s", got)
	}
}

func TestCommit(t *testing.T) {
	revision := debug.BuildSetting{Key: "vcs.revision", Value: "abc"}
	modified := debug.BuildSetting{Key: "vcs.modified", Value: "true"}
	for _, c := range []struct {
		settings []debug.BuildSetting
		want     string
	}{
		{nil, unknownCommit},
		{[]debug.BuildSetting{modified}, unknownCommit},
		{[]debug.BuildSetting{revision}, "abc"},
		{[]debug.BuildSetting{revision, modified}, "abc-dirty"},
	} {
		if got := commitOf(c.settings); got != c.want {
			t.Errorf("commitOf(%v) = %q, want %q", c.settings, got, c.want)
		}
	}
}
