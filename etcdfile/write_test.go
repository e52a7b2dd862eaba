package etcdfile

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/authpb"

	"holdfast/kv"
)

var testSeed uint64

func init() { flag.Uint64Var(&testSeed, "seed", 0, "seed of the random tests; 0 draws one") }

// TestRoundTrip writes random states and compares what comes back with the model.
func TestRoundTrip(t *testing.T) {
	r := seeded(t)
	for _, rows := range []int{0, 1, 2, 10, 100, 1000, 20000} {
		want := randomModel(r, rows)
		d, _ := openMem(t, want)
		got := readBack(t, d)
		if want.sorted(); !reflect.DeepEqual(got, want) {
			t.Fatalf("with %d rows: what was read differs from what was written", rows)
		}
		if err := d.Check(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLargeValues writes values larger than the write buffer between small ones.
func TestLargeValues(t *testing.T) {
	r := seeded(t)
	want := &model{meta: randomMeta(r)}
	for i, size := range []int{10, 3 << 20, 20, writeBufferBytes, 5000, writeBufferBytes - pageHeaderSize, 2 << 20, 30} {
		rev := kv.Revision(i + 2)
		v := kv.KeyValue{Key: []byte{byte(i + 1)}, Value: randomBytes(r, size), Create: rev, Mod: rev, Version: 1}
		want.rows = append(want.rows, Row{Rev: kv.Rev{Main: rev}, Encoded: v.Append(nil)})
	}
	d, _ := openMem(t, want)
	if got := readBack(t, d); !reflect.DeepEqual(got.rows, want.rows) {
		t.Error("what was read differs from what was written")
	}
}

// TestBboltAccepts lets bbolt itself check files of many sizes, read them, delete from them in random order and check
// again: its own rules on pages hold, also those that only show when a tree shrinks.
func TestBboltAccepts(t *testing.T) {
	r := seeded(t)
	sizes := []int{0, 1, 30, 4000, 20000}
	for range 40 {
		sizes = append(sizes, r.IntN(300)) // many around the step from one leaf to a branch page
	}
	for _, rows := range sizes {
		m := randomModel(r, rows)
		path := filepath.Join(t.TempDir(), "db")
		if _, err := Write(vfs.Default, path, m); err != nil {
			t.Fatal(err)
		}
		db, err := bolt.Open(path, 0o600, &bolt.Options{NoSync: true, NoFreelistSync: true})
		if err != nil {
			t.Fatal(err)
		}
		checkBolt(t, db)
		for _, i := range r.Perm(len(m.rows)) {
			if i%97 == 0 {
				checkBolt(t, db)
			}
			err := db.Update(func(tx *bolt.Tx) error {
				b := tx.Bucket([]byte(bucketKey))
				key := appendRevision(nil, m.rows[i].Rev, m.rows[i].Tombstone)
				if got := b.Get(key); !bytes.Equal(got, m.rows[i].Encoded) {
					return fmt.Errorf("row %v reads %q", m.rows[i].Rev, got)
				}
				return b.Delete(key)
			})
			if err != nil {
				t.Fatal(err)
			}
			if rows > 1000 && i%10 == 0 {
				break // the large ones are about reading
			}
		}
		checkBolt(t, db)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func checkBolt(t *testing.T, db *bolt.DB) {
	t.Helper()
	if err := db.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			t.Error(err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// TestBranchesHaveChildren builds trees of long keys, where few children fit a branch page, and has bbolt delete
// everything: it panics below a branch page with a single child.
func TestBranchesHaveChildren(t *testing.T) {
	r := seeded(t)
	for n := range 60 {
		keyLen := []int{8, 500, 1000, 1300, 2000, 4000, 9000}[r.IntN(7)]
		m := &model{meta: randomMeta(r)}
		for i := range n {
			name := fmt.Sprintf("%05d", i) + strings.Repeat("x", keyLen)
			m.users = append(m.users, account(&authpb.User{Name: []byte(name)}))
		}
		path := filepath.Join(t.TempDir(), "db")
		if _, err := Write(vfs.Default, path, m); err != nil {
			t.Fatal(err)
		}
		db, err := bolt.Open(path, 0o600, &bolt.Options{NoSync: true, NoFreelistSync: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range r.Perm(n) {
			checkBolt(t, db)
			if err := db.Update(func(tx *bolt.Tx) error {
				return tx.Bucket([]byte(bucketAuthUsers)).Delete([]byte(m.users[i].Name))
			}); err != nil {
				t.Fatal(err)
			}
		}
		checkBolt(t, db)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWriteRefuses shows every rule of a source that Write watches over, and that nothing is left behind.
func TestWriteRefuses(t *testing.T) {
	row := func(main int64, mod kv.Revision) Row {
		v := kv.KeyValue{Key: []byte("k"), Create: 1, Mod: mod, Version: 1}
		return Row{Rev: kv.Rev{Main: kv.Revision(main)}, Encoded: v.Append(nil)}
	}
	good := Meta{Term: 1, StorageVersion: "3.7.0", ScheduledCompact: NeverCompacted, FinishedCompact: NeverCompacted}
	for _, c := range []struct {
		name string
		m    model
		want error
		text string
	}{
		{"order", model{meta: good, rows: []Row{row(3, 3), row(2, 2)}}, ErrSource, "does not ascend"},
		{"twice", model{meta: good, rows: []Row{row(3, 3), row(3, 3)}}, ErrSource, "does not ascend"},
		{"other revision", model{meta: good, rows: []Row{row(3, 4)}}, ErrSource, "modified at revision 4"},
		{"no message", model{meta: good, rows: []Row{{Rev: kv.Rev{Main: 2}, Encoded: []byte("k")}}}, ErrSource, "revision 2.0"},
		{"tombstone with a value", model{meta: good, rows: []Row{{Rev: kv.Rev{Main: 3}, Tombstone: true, Encoded: row(3, 3).Encoded}}}, ErrSource, "more than the key"},
		{"leases", model{meta: good, leases: []Lease{{ID: 2}, {ID: 1}}}, ErrSource, "bucket lease"},
		{"member twice", model{meta: good, members: []Member{{ID: 1}, {ID: 1}}}, ErrSource, "bucket members"},
		{"account", model{meta: good, users: []Account{{Name: "a"}}}, ErrSource, `account "a" is named ""`},
		{"schema", model{meta: Meta{Term: 1, StorageVersion: "3.8.0"}}, ErrUnsupportedSchema, `version "3.8.0"`},
		{"no schema", model{}, ErrUnsupportedSchema, "neither version nor raft term"},
		{"compaction", model{meta: Meta{Term: 1, FinishedCompact: 3, ScheduledCompact: 2}}, ErrSource, "finished at 3"},
		{"source fails", model{meta: good, rows: []Row{row(2, 2)}, err: errBoom}, errBoom, "boom"},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk := vfs.NewMem()
			_, err := Write(disk, "db", &c.m)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v", err)
			}
			if names, err := disk.List(""); err != nil || len(names) > 0 {
				t.Errorf("left behind: %v %v", names, err)
			}
		})
	}
}

// TestWriteErrors fails every access to the disk in turn: Write says so and leaves nothing behind.
func TestWriteErrors(t *testing.T) {
	m := randomModel(seeded(t), 20000) // several buffers full
	for n := 0; ; n++ {
		disk, accesses := vfs.NewMem(), 0
		failing := errorfs.Wrap(disk, errorfs.InjectorFunc(func(errorfs.Op) error {
			if accesses++; accesses == n+1 {
				return errBoom
			}
			return nil
		}))
		_, err := Write(failing, "db", m)
		if err == nil {
			if n < 7 { // look, open, two buffers or more, two headers, sync
				t.Errorf("only %d accesses", n)
			}
			return
		}
		if !errors.Is(err, errBoom) {
			t.Errorf("access %d: %v", n, err)
		}
		if names, err := disk.List(""); err != nil || len(names) > 0 {
			t.Errorf("access %d: left behind %v %v", n, names, err)
		}
	}
}

// TestCrashAfterWrite loses all that was not synced: once the folder is synced too, the file is whole.
func TestCrashAfterWrite(t *testing.T) {
	want := randomModel(seeded(t), 2000)
	disk := vfs.NewCrashableMem()
	if _, err := Write(disk, "db", want); err != nil {
		t.Fatal(err)
	}
	folder, err := disk.OpenDir("")
	if err != nil {
		t.Fatal(err)
	}
	if err := folder.Sync(); err != nil {
		t.Fatal(err)
	}
	d, err := Open(disk.CrashClone(vfs.CrashCloneCfg{}), "db")
	if err != nil {
		t.Fatal(err)
	}
	defer closeOrFail(t, d)
	if got := readBack(t, d); !reflect.DeepEqual(got, want.sorted()) {
		t.Error("after the crash, the content differs")
	}
}

// TestWriteKeepsOthers shows that an existing file is refused and stays.
func TestWriteKeepsOthers(t *testing.T) {
	d, disk := openMem(t, randomModel(seeded(t), 5))
	if _, err := Write(disk, "db", d); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
	if err := d.Check(); err != nil {
		t.Error(err)
	}
}

// BenchmarkWrite asks what a row of 256 B costs; expected is a copy, a check and its share of a sequential write,
// well below a microsecond. B/op must stay near 0: memory does not grow with the rows.
func BenchmarkWrite(b *testing.B) {
	m := benchmarkModel(b.N)
	b.ReportAllocs()
	b.ResetTimer()
	stats, err := Write(vfs.Default, filepath.Join(b.TempDir(), "db"), m)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(stats.Bytes / int64(b.N))
}

// BenchmarkRead asks the same of reading and decoding.
func BenchmarkRead(b *testing.B) {
	path := filepath.Join(b.TempDir(), "db")
	if _, err := Write(vfs.Default, path, benchmarkModel(b.N)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	d, err := Open(vfs.Default, path)
	if err != nil {
		b.Fatal(err)
	}
	defer closeOrFail(b, d)
	for _, err := range d.Rows() {
		if err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(d.Size() / int64(b.N))
}

func benchmarkModel(rows int) *model {
	m := &model{meta: Meta{Term: 1, ScheduledCompact: NeverCompacted, FinishedCompact: NeverCompacted}}
	value := make([]byte, 256)
	for i := range rows {
		rev := kv.Revision(i + 2)
		v := kv.KeyValue{Key: fmt.Appendf(nil, "key%08d", i), Value: value, Create: rev, Mod: rev, Version: 1}
		m.rows = append(m.rows, Row{Rev: kv.Rev{Main: rev}, Encoded: v.Append(nil)})
	}
	return m
}
