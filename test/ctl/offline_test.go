package ctl

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/test/etcd"
	"holdfast/test/run"
)

// holdfast runs the program with some words and returns what it printed, and if it failed, why.
func holdfast(t *testing.T, words ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, run.Holdfast(t), words...).Output()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return string(out) + string(ended.Stderr), err
	}
	return string(out), err
}

// must is holdfast for what has to work.
func must(t *testing.T, words ...string) string {
	t.Helper()
	out, err := holdfast(t, words...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(words, " "), err, out)
	}
	return out
}

// three are members of one cluster, with their processes.
type three []*run.Server

func startThree(t *testing.T, binary string) three {
	t.Helper()
	var all three
	for i := range 3 {
		s, err := run.Place(run.Config{Binary: binary, Dir: t.TempDir(), Name: fmt.Sprint("m", i)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Kill)
		all = append(all, s)
	}
	all.launch(t)
	return all
}

// peers is what --initial-cluster is, with a separator of the caller's.
func (all three) peers(between string) string {
	var pairs []string
	for i, s := range all {
		pairs = append(pairs, fmt.Sprintf("m%d=%s", i, s.PeerURL()))
	}
	return strings.Join(pairs, between)
}

func (all three) launch(t *testing.T) {
	t.Helper()
	for _, s := range all {
		s.Join(all.peers(","))
		if err := s.Launch(); err != nil {
			t.Fatal(err)
		}
	}
}

// ctl asks one of the members again until it answers, within reason.
func (all three) ctl(t *testing.T, i int, words ...string) string {
	t.Helper()
	words = append([]string{"ctl", "--endpoints=" + all[i].Client, "--command-timeout=3s"}, words...)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		out, err := holdfast(t, words...)
		if err == nil {
			return out
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v\n%s\n%s", strings.Join(words, " "), err, out, all[i].LogTail(20))
		}
	}
}

func (all three) stop(t *testing.T) {
	t.Helper()
	for _, s := range all {
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSetURLs stops three members, gives all of them other addresses in each data directory, and starts them there: the same
// data, in the same cluster.
func TestSetURLs(t *testing.T) {
	all := startThree(t, run.Holdfast(t))
	all.ctl(t, 0, "put", "k", "v")
	before := all.ctl(t, 0, "member", "list", "-w", "json")
	if out, err := holdfast(t, "utl", "member", "set-urls", "--data-dir", all[1].Data, "m1=http://127.0.0.1:1"); err == nil || !strings.Contains(out, "in use by another process") {
		t.Errorf("while the member runs: %v\n%s", err, out)
	}
	all.stop(t)
	for _, s := range all {
		s.Peer = etcd.FreeAddress(t)
	}
	for _, s := range all {
		must(t, append([]string{"utl", "member", "set-urls", "--data-dir", s.Data}, strings.Fields(all.peers(" "))...)...)
	}
	all.launch(t)
	for i := range all {
		if got := all.ctl(t, i, "get", "k", "--print-value-only"); got != "v\n" {
			t.Errorf("m%d: k is %q", i, got)
		}
	}
	after := all.ctl(t, 2, "member", "list", "-w", "json")
	var was, is struct {
		Header  struct{ Cluster_id uint64 }
		Members []struct {
			Name     string
			PeerURLs []string
		}
	}
	if err := json.Unmarshal([]byte(before), &was); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(after), &is); err != nil {
		t.Fatal(err)
	}
	if was.Header.Cluster_id != is.Header.Cluster_id || len(is.Members) != 3 {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
	for _, m := range is.Members {
		if want := all[m.Name[1]-'0'].PeerURL(); m.PeerURLs[0] != want {
			t.Errorf("%s is at %v, want %s", m.Name, m.PeerURLs, want)
		}
	}
	all.ctl(t, 1, "put", "after", "v")
}

// TestRecover kills three members, loses two of them, and goes on with a new cluster made of what the third has left, which stays as
// it is.
func TestRecover(t *testing.T) {
	all := startThree(t, run.Holdfast(t))
	for i := range 20 {
		all.ctl(t, i%3, "put", fmt.Sprint("k", i), "v")
	}
	left, into := all[1].Data, filepath.Join(t.TempDir(), "new")
	if out, err := holdfast(t, "utl", "recover", left, "--data-dir", into); err == nil || !strings.Contains(out, "is running: stop it first") {
		t.Errorf("while the member runs: %v\n%s", err, out)
	}
	for _, s := range all {
		s.Kill()
	}
	sums := sumsOf(t, left)
	dry := must(t, "utl", "recover", left, "--data-dir", into, "--dry-run")
	for _, want := range []string{"taken", "Known to be committed: everything up to revision", "1 of 3 voting members left", "cannot be known", "Nothing was made"} {
		if !strings.Contains(dry, want) {
			t.Errorf("a dry run does not say %q:\n%s", want, dry)
		}
	}
	fresh, err := run.Place(run.Config{Binary: run.Holdfast(t), Dir: t.TempDir(), Name: "fresh"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fresh.Kill)
	out := must(t, "utl", "recover", left, "--data-dir", into, "-w", "json", "--name", "fresh",
		"--initial-cluster", "fresh="+fresh.PeerURL(), "--initial-advertise-peer-urls", fresh.PeerURL())
	var made struct {
		Revision, NewRevision int64
		Voters, VotersLeft    int
		Made                  bool
		Survivors             []struct{ Taken bool }
	}
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		t.Fatal(err)
	}
	if !made.Made || made.Voters != 3 || made.VotersLeft != 1 || made.NewRevision != made.Revision+1_000_000_000 || !made.Survivors[0].Taken {
		t.Errorf("%s", out)
	}
	if got := sumsOf(t, left); got != sums {
		t.Errorf("what was left has changed from\n%s\nto\n%s", sums, got)
	}
	fresh.Data = into
	if err := fresh.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	one := three{fresh}
	for i := range 20 { // nothing was written while a member was away, so all have all
		if got := one.ctl(t, 0, "get", fmt.Sprint("k", i), "--print-value-only"); got != "v\n" {
			t.Errorf("k%d is %q", i, got)
		}
	}
	one.ctl(t, 0, "put", "k", "new")
	if list := one.ctl(t, 0, "member", "list"); strings.Count(list, "\n") != 1 || !strings.Contains(list, fresh.PeerURL()) {
		t.Errorf("members\n%s", list)
	}
	if out, err := holdfast(t, "utl", "recover", left, "--data-dir", into); err == nil || !strings.Contains(out, "is there already") {
		t.Errorf("into what is there: %v\n%s", err, out)
	}
}

// TestRecoverEtcd makes a cluster of Holdfast of what two etcds have left, one of which has heard less, and leaves their files alone.
func TestRecoverEtcd(t *testing.T) {
	all := startThree(t, etcd.Binary(t, "etcd"))
	all.ctl(t, 0, "put", "k", "old")
	all[2].Kill()
	for i := range 20 {
		all.ctl(t, 0, "put", "k", fmt.Sprint(i))
	}
	all.ctl(t, 1, "get", "k") // it has heard of all
	for _, s := range all {
		s.Kill()
	}
	before := sumsOf(t, all[1].Data) + sumsOf(t, all[2].Data)
	fresh, err := run.Place(run.Config{Binary: run.Holdfast(t), Dir: t.TempDir(), Name: "default"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fresh.Kill)
	fresh.Data = filepath.Join(t.TempDir(), "new")
	out := must(t, "utl", "recover", all[2].Data, all[1].Data, "--data-dir", fresh.Data,
		"--initial-cluster", "default="+fresh.PeerURL(), "--initial-advertise-peer-urls", fresh.PeerURL())
	if !strings.Contains(out, "taken  "+all[1].Data) || !strings.Contains(out, "2 of 3 voting members are left, a majority") {
		t.Errorf("it says\n%s", out)
	}
	if after := sumsOf(t, all[1].Data) + sumsOf(t, all[2].Data); after != before {
		t.Errorf("the files of etcd have changed from\n%s\nto\n%s", before, after)
	}
	if err := fresh.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	one := three{fresh}
	if got := one.ctl(t, 0, "get", "k", "--print-value-only"); got != "19\n" {
		t.Errorf("k is %q", got)
	}
	if _, err := os.Stat(fresh.Data + ".import"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was imported is still there: %v", err)
	}
}

// sumsOf writes out the files below a directory, with sums, sizes and times.
func sumsOf(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			fmt.Fprintf(&b, "%s %x %v\n", path, sha256.Sum256(content), info.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
