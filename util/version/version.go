// Package version says which Holdfast this is and which etcd it answers for.
//
// Two versions stand side by side. EtcdVersion is what clients, tools and peers of etcd are told wherever etcd tells
// its own: they compare it, and an etcd peer crashes on text that is no semantic version. Holdfast and Commit are ours.
//
//	Errors  none; what a build does not know is said in words, never left empty
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// EtcdVersion is the etcd whose behaviour this server has. It equals the etcd that the peer tests run against.
const EtcdVersion = "3.7.3"

// OldestCluster is the oldest version of a cluster in which that etcd takes part.
const OldestCluster = "3.0.0"

// unknownCommit stands where a build carries no commit, as in a test binary or a build outside a checkout.
const unknownCommit = "Not provided"

// holdfast is set by the linker in a release: -X holdfast/util/version.holdfast=1.2.3
var holdfast = "devel"

// Holdfast is our own version: "devel" outside a release.
func Holdfast() string { return holdfast }

// Commit is the commit this binary was built from, with "-dirty" when the checkout had changes.
func Commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return unknownCommit
	}
	return commitOf(info.Settings)
}

func commitOf(settings []debug.BuildSetting) string {
	commit, dirty := unknownCommit, ""
	for _, s := range settings {
		switch {
		case s.Key == "vcs.revision" && s.Value != "":
			commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if commit == unknownCommit {
		return commit
	}
	return commit + dirty
}

// EtcdMinor is EtcdVersion without its patch number, the form in which etcd names a cluster's version.
func EtcdMinor() string {
	return EtcdVersion[:strings.LastIndexByte(EtcdVersion, '.')]
}

// Text is what `holdfast version` prints: our version, then what etcd says of itself.
func Text() string { return fmt.Sprintf("Holdfast Version: %s\n", Holdfast()) + Lines() }

// Lines is what `etcd --version` prints: four lines that scripts cut by their labels.
func Lines() string {
	return fmt.Sprintf("etcd Version: %s\nGit SHA: %s\nGo Version: %s\nGo OS/Arch: %s/%s\n",
		EtcdVersion, Commit(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
