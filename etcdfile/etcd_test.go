package etcdfile

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/kv"
	"holdfast/test/etcd"
)

// TestEtcdAccepts gives files that we wrote to etcd's own tools and to a whole etcd: what they say must be what we
// say. Skipped by -short, as it may have to build etcd first.
func TestEtcdAccepts(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a real etcd")
	}
	r := seeded(t)
	sources := map[string]Source{}
	for _, name := range goldenNames {
		sources[name], _ = golden(t, name)
	}
	for _, rows := range []int{1, 300, 6000} {
		m := randomModel(r, rows)
		m.meta.AuthEnabled, m.meta.Downgrade, m.alarms = false, nil, nil // so that a client may ask what there is
		if last := m.rows[len(m.rows)-1].Rev.Main; m.meta.ScheduledCompact > last {
			m.meta.ScheduledCompact, m.meta.FinishedCompact = NeverCompacted, NeverCompacted
		}
		sources[fmt.Sprintf("%d rows", rows)] = m
	}
	sources["no key lives"] = emptied()
	for name, src := range sources {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "db")
			if _, err := Write(vfs.Default, path, src); err != nil {
				t.Fatal(err)
			}
			d, err := Open(vfs.Default, path)
			if err != nil {
				t.Fatal(err)
			}
			snapshot := saveSnapshot(t, path)
			compareStatus(t, d, snapshot)
			compareHashes(t, d, snapshot)
			dir := filepath.Join(t.TempDir(), "restored")
			utl(t, "snapshot", "restore", snapshot, "--data-dir", dir)
			meta, err := d.Meta()
			if err != nil {
				t.Fatal(err)
			}
			if !meta.AuthEnabled {
				compareServed(t, d, dir)
			}
			closeOrFail(t, d)
		})
	}
}

// emptied is a history at whose end no key lives: the one case in which HashKV counts rows that a compaction removes.
func emptied() *model {
	put := func(rev kv.Revision, version int64) Row {
		v := kv.KeyValue{Key: []byte("a"), Create: 2, Mod: rev, Version: version}
		return Row{Rev: kv.Rev{Main: rev}, Encoded: v.Append(nil)}
	}
	return &model{
		meta: Meta{Applied: 9, Term: 2, StorageVersion: "3.7.0", ScheduledCompact: 3, FinishedCompact: 3},
		rows: []Row{put(2, 1), put(3, 2), {
			Rev: kv.Rev{Main: 4}, Tombstone: true, Encoded: (&kv.KeyValue{Key: []byte("a")}).Append(nil),
		}},
	}
}

// saveSnapshot does what `etcdctl snapshot save` does with our stream.
func saveSnapshot(t *testing.T, path string) string {
	t.Helper()
	r, err := OpenSnapshot(vfs.Default, path)
	if err != nil {
		t.Fatal(err)
	}
	defer closeOrFail(t, r)
	saved, err := os.Create(path + ".snapshot")
	if err != nil {
		t.Fatal(err)
	}
	defer closeOrFail(t, saved)
	if _, err := saved.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	return saved.Name()
}

func utl(t *testing.T, args ...string) []byte {
	t.Helper()
	return run(t, etcd.Binary(t, "etcdutl"), args...)
}

func run(t *testing.T, program string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(program, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s%s", filepath.Base(program), args, err, out, stderr.String())
	}
	return out
}

func compareStatus(t *testing.T, d *Database, snapshot string) {
	t.Helper()
	var theirs struct {
		Hash      uint32
		Revision  kv.Revision
		TotalKey  int
		TotalSize int64
		Version   string
	}
	if err := json.Unmarshal(utl(t, "snapshot", "status", snapshot, "-w", "json"), &theirs); err != nil {
		t.Fatal(err)
	}
	ours, err := d.Status()
	if want := (Status{theirs.Hash, theirs.Revision, theirs.TotalKey, theirs.TotalSize, theirs.Version}); err != nil || ours != want {
		t.Errorf("status %+v %v, etcdutl says %+v", ours, err, want)
	}
}

// compareHashes asks for HashKV at about a dozen revisions, the ends included. etcdutl opens the file for writing and
// may compact it, so each question gets a copy.
func compareHashes(t *testing.T, d *Database, snapshot string) {
	t.Helper()
	latest, err := HashKV(d, 0)
	if err != nil {
		t.Fatal(err)
	}
	lowest := max(latest.Compact, 1)
	for rev := lowest; rev <= latest.Revision; rev += max(1, (latest.Revision-lowest)/10) {
		ours, err := HashKV(d, rev)
		if err != nil {
			t.Fatal(err)
		}
		copied := filepath.Join(t.TempDir(), "copy")
		content, err := os.ReadFile(snapshot)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(copied, content, 0o600); err != nil {
			t.Fatal(err)
		}
		var theirs struct {
			Hash                          uint32
			HashRevision, CompactRevision kv.Revision
		}
		if err := json.Unmarshal(utl(t, "hashkv", copied, "--rev", rev.String(), "-w", "json"), &theirs); err != nil {
			t.Fatal(err)
		}
		if want := (Hash{theirs.Hash, theirs.HashRevision, theirs.CompactRevision}); ours != want {
			t.Errorf("hash %+v, etcdutl says %+v", ours, want)
		}
	}
}

// compareServed starts an etcd on a restored folder and asks it over the network for the hash and the keys.
func compareServed(t *testing.T, d *Database, dir string) {
	t.Helper()
	client, peer := etcd.FreeURL(t), etcd.FreeURL(t)
	log, err := os.Create(dir + ".log")
	if err != nil {
		t.Fatal(err)
	}
	defer closeOrFail(t, log)
	server := exec.Command(etcd.Binary(t, "etcd"), "--data-dir", dir, "--listen-client-urls", client,
		"--advertise-client-urls", client, "--listen-peer-urls", peer)
	server.Stdout, server.Stderr = log, log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = server.Wait() // it was killed, and says so
	}()
	ctl := func(args ...string) []byte {
		t.Helper()
		return run(t, etcd.Binary(t, "etcdctl"), append([]string{"--endpoints", client, "--command-timeout", "30s", "-w", "json"}, args...)...)
	}
	var keys struct{ Count int }
	if err := json.Unmarshal(ctl("get", "", "--prefix", "--limit", "1"), &keys); err != nil {
		t.Fatal(err)
	}
	ours, err := d.Status()
	if err != nil {
		t.Fatal(err)
	}
	if keys.Count != ours.Keys {
		t.Errorf("etcd serves %d keys of %d", keys.Count, ours.Keys)
	}
	want, err := HashKV(d, 0)
	if err != nil {
		t.Fatal(err)
	}
	var hashes []struct{ HashKV struct{ Hash uint32 } }
	if err := json.Unmarshal(ctl("endpoint", "hashkv"), &hashes); err != nil {
		t.Fatal(err)
	}
	if len(hashes) != 1 || hashes[0].HashKV.Hash != want.Sum {
		t.Errorf("etcd answers HashKV with %+v, we with %d", hashes, want.Sum)
	}
	ctl("put", "it", "lives")
}
