// Package ctl holds our etcdctl against etcd's: the same calls, each tool on a server of its own, the two servers of one kind and
// with the same history. First both servers are etcd, then both are Holdfast.
//
// What etcd's tool does is found out by running it; nothing here was written by hand. What is meant to differ stands in
// docs/differences-ctl.txt.
package ctl

import (
	"os"
	"path/filepath"
	"testing"

	"holdfast/test/cli"
	"holdfast/test/etcd"
	"holdfast/test/run"
)

// TestScript makes the calls that test/clients holds the servers against each other with.
func TestScript(t *testing.T) {
	onBothServers(t, func(t *testing.T, sides [2]*cli.Tool) {
		calls := cli.Commands("DIR")
		readDifferences(t).compare(t, sides, calls)
		t.Logf("%d calls", len(calls))
	}, flags("--quota-backend-bytes=2147483648")) // it is reported, and the defaults differ
}

// onBothServers runs a test with etcd's tool and ours, on servers of etcd and on Holdfast; in the short form on Holdfast alone.
func onBothServers(t *testing.T, test func(t *testing.T, sides [2]*cli.Tool), settings ...func(*run.Config)) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts servers and tools")
	}
	if !*long { // one server each leaves room for another test
		t.Parallel()
	}
	ours := oursAsEtcdctl(t)
	d := readDifferences(t)
	for _, kind := range kinds(t) {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			var sides [2]*cli.Tool
			for i, path := range []string{etcd.Binary(t, "etcdctl"), ours} {
				sides[i] = cli.New(t, path, serve(t, kind.binary, settings))
				sides[i].Drop = d.texts
			}
			test(t, sides)
		})
	}
}

// kind is a kind of server.
type kind struct{ name, binary string }

// kinds are etcd and Holdfast, in the short form Holdfast alone.
func kinds(t *testing.T) []kind {
	t.Helper()
	all := []kind{{"etcd", etcd.Binary(t, "etcd")}, {"holdfast", run.Holdfast(t)}}
	if !*long {
		return all[1:]
	}
	return all
}

// flags are given to the server.
func flags(args ...string) func(*run.Config) {
	return func(cfg *run.Config) { cfg.Args = append(cfg.Args, args...) }
}

// oursAsEtcdctl returns our program under the name that makes it etcdctl.
func oursAsEtcdctl(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "etcdctl")
	if err := os.Symlink(run.Holdfast(t), path); err != nil {
		t.Fatal(err)
	}
	return path
}

// serve starts a server on an empty folder and stops it with the test. Equal addresses give equal ids of member and cluster.
func serve(t *testing.T, binary string, settings []func(*run.Config)) *run.Server {
	t.Helper()
	cfg := run.Config{Binary: binary, Dir: t.TempDir(), AdvertisePeer: "http://127.0.0.1:12380", AdvertiseClient: "http://127.0.0.1:12379"}
	for _, set := range settings {
		set(&cfg)
	}
	s, err := run.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the server's last words:\n%s", s.LogTail(15))
		}
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}
