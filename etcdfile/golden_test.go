package etcdfile

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/kv"
)

// The golden files come from a real etcd 3.7.3; testdata/make-golden.sh made them and says what is in them.
var goldenNames = []string{"example", "golden", "bumped", "members"}

// golden puts a golden database into memory and opens it.
func golden(t testing.TB, name string) (*Database, vfs.FS) {
	t.Helper()
	disk := vfs.NewMem()
	writeFileMem(t, disk, "db", goldenBytes(t, name))
	d, err := Open(disk, "db")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeOrFail(t, d) })
	return d, disk
}

func goldenBytes(t testing.TB, name string) []byte {
	t.Helper()
	return unzipped(t, name+".db.gz")
}

func unzipped(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer closeOrFail(t, f)
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeFileMem(t testing.TB, disk vfs.FS, path string, content []byte) {
	t.Helper()
	f, err := disk.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(bytes.Clone(content)); err != nil {
		t.Fatal(err)
	}
	closeOrFail(t, f)
}

func closeOrFail(t testing.TB, c io.Closer) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// verdict is what etcdutl said of a golden file: one status and HashKV at many revisions.
type verdict struct {
	status Status
	hashes []Hash
	latest uint32 // HashKV at revision 0
}

func goldenVerdict(t *testing.T, name string) verdict {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer closeOrFail(t, f)
	var v verdict
	for lines := bufio.NewScanner(f); lines.Scan(); {
		kind, rest, _ := strings.Cut(lines.Text(), " ")
		if kind == "status" {
			var s struct {
				Hash      uint32
				Revision  kv.Revision
				TotalKey  int
				TotalSize int64
				Version   string
			}
			if err := json.Unmarshal([]byte(rest), &s); err != nil {
				t.Fatal(err)
			}
			v.status = Status{Hash: s.Hash, Revision: s.Revision, Keys: s.TotalKey, Size: s.TotalSize, Version: s.Version}
			continue
		}
		var h Hash
		if _, err := fmt.Sscan(rest, &h.Revision, &h.Sum, &h.Compact); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		if h.Revision == 0 {
			v.latest = h.Sum
			continue
		}
		v.hashes = append(v.hashes, h)
	}
	if len(v.hashes) == 0 {
		t.Fatal("no hashes")
	}
	return v
}

// TestGolden reads a real etcd's files and compares with what etcdutl says of them, then writes them anew: the same
// content gives the same answers.
func TestGolden(t *testing.T) {
	for _, name := range goldenNames {
		t.Run(name, func(t *testing.T) {
			want := goldenVerdict(t, name)
			d, _ := golden(t, name)
			checkVerdict(t, d, want)
			if err := d.CheckDigest(); name == "bumped" && !errors.Is(err, ErrNoDigest) || name != "bumped" && err != nil {
				t.Errorf("digest: %v", err)
			}

			again, _ := openMem(t, d)
			if a, b := readBack(t, d), readBack(t, again); !reflect.DeepEqual(a, b) {
				t.Error("written anew, the content differs")
			}
			want.status.Size = again.Size()
			checkVerdict(t, again, want)
		})
	}
}

func checkVerdict(t *testing.T, d *Database, want verdict) {
	t.Helper()
	if err := d.Check(); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Status(); err != nil || got != want.status {
		t.Errorf("status %+v %v, etcdutl says %+v", got, err, want.status)
	}
	for _, h := range want.hashes {
		if got, err := HashKV(d, h.Revision); err != nil || got != h {
			t.Errorf("hash %+v %v, etcdutl says %+v", got, err, h)
		}
	}
	if got, err := HashKV(d, 0); err != nil || got.Sum != want.latest {
		t.Errorf("hash at the current revision %+v %v, etcdutl says %d", got, err, want.latest)
	}
	first, last := want.hashes[0], want.hashes[len(want.hashes)-1]
	if _, err := HashKV(d, last.Revision+1); !errors.Is(err, ErrFutureRevision) {
		t.Errorf("hash of the future: %v", err)
	}
	if _, err := HashKV(d, first.Compact-1); !errors.Is(err, ErrCompacted) {
		t.Errorf("hash below the compaction: %v", err)
	}
}

// TestGoldenFacts looks at what the golden history must have left, part by part.
func TestGoldenFacts(t *testing.T) {
	d, _ := golden(t, "golden")
	m := readBack(t, d)
	if minor, err := m.meta.SchemaMinor(); minor != 7 || err != nil {
		t.Errorf("schema 3.%d %v", minor, err)
	}
	if !m.meta.AuthEnabled || m.meta.AuthRevision == 0 || m.meta.ClusterVersion != "3.7.0" || m.meta.Downgrade != nil {
		t.Errorf("meta %+v", m.meta)
	}
	if c := m.meta.ConfState; c == nil || len(c.Voters) != 1 || len(c.Learners) != 1 {
		t.Errorf("ConfState %+v", c)
	}
	wantLeases := []Lease{{ID: 2, TTL: 77}, {ID: 1001, TTL: 3600}, {ID: 1<<63 - 1, TTL: 60000}}
	if !reflect.DeepEqual(m.leases, wantLeases) {
		t.Errorf("leases %+v", m.leases)
	}
	if len(m.members) != 2 || len(m.removed) != 1 || len(m.users) != 3 || len(m.roles) != 2 || len(m.alarms) != 2 {
		t.Errorf("%d members, %d removed, %d users, %d roles, %d alarms",
			len(m.members), len(m.removed), len(m.users), len(m.roles), len(m.alarms))
	}
	var atCompaction, sub, leased int
	for _, row := range m.rows {
		v, err := row.KeyValue()
		if err != nil {
			t.Fatal(err)
		}
		if row.Tombstone && row.Rev.Main == m.meta.Compacted() {
			atCompaction++
		}
		if row.Rev.Sub > 0 {
			sub++
		}
		if v.Lease != 0 {
			leased++
		}
	}
	if atCompaction != 1 || sub == 0 || leased != 3 {
		t.Errorf("%d tombstones at the compaction, %d later changes of a revision, %d keys on leases", atCompaction, sub, leased)
	}
}

// TestBumped finds what a restore with a raised revision leaves: a row that is no key, and a compaction to be done.
func TestBumped(t *testing.T) {
	d, _ := golden(t, "bumped")
	m := readBack(t, d)
	last := m.rows[len(m.rows)-1]
	if !last.Filler() || last.Rev.Main != m.meta.ScheduledCompact || m.meta.ScheduledCompact <= m.meta.FinishedCompact {
		t.Errorf("last row %+v, meta %+v", last, m.meta)
	}
}

// TestSchemaMinor shows which schemas are known.
func TestSchemaMinor(t *testing.T) {
	for _, c := range []struct {
		m     Meta
		minor int
	}{
		{Meta{StorageVersion: "3.7.0"}, 7}, {Meta{StorageVersion: "3.6.0"}, 6}, {Meta{Term: 2}, 5},
		{Meta{}, 0}, {Meta{StorageVersion: "3.8.0"}, 0}, {Meta{StorageVersion: "3.5.0"}, 0},
		{Meta{StorageVersion: "4.7.0"}, 0}, {Meta{StorageVersion: "3"}, 0}, {Meta{StorageVersion: "x"}, 0},
	} {
		minor, err := c.m.SchemaMinor()
		if minor != c.minor || (err == nil) != (c.minor != 0) || err != nil && !errors.Is(err, ErrUnsupportedSchema) {
			t.Errorf("%+v: %d %v", c.m, minor, err)
		}
	}
}
