package etcdfile

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestStatusOf: the status of a source is that of the database which is made of it, without making it.
func TestStatusOf(t *testing.T) {
	r := seeded(t)
	for range 20 {
		m := randomModel(r, r.IntN(300))
		db, _ := openMem(t, m)
		want, err := db.Status()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := StatusOf(m); err != nil || got != want {
			t.Errorf("%+v, %v; the database's is %+v", got, err, want)
		}
	}
	if _, err := StatusOf(&model{err: fmt.Errorf("broken")}); err == nil {
		t.Error("a source that fails has a status")
	}
}

// TestRewrite copies etcd's own files and random ones: content, and so the hash, stays, and the free pages go. An edit changes its
// entry alone.
func TestRewrite(t *testing.T) {
	var all []*Database
	for _, name := range []string{"example", "golden", "bumped", "members"} {
		db, _ := golden(t, name)
		all = append(all, db)
	}
	r := seeded(t)
	for range 10 {
		db, _ := openMem(t, randomModel(r, r.IntN(300)))
		all = append(all, db)
	}
	rewrite := func(db *Database, edits ...Edit) *Database {
		t.Helper()
		disk := vfs.NewMem()
		if err := Rewrite(disk, "new", db, edits...); err != nil {
			t.Fatal(err)
		}
		fresh, err := Open(disk, "new")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { closeOrFail(t, fresh) })
		if err := fresh.Check(); err != nil {
			t.Error(err)
		}
		return fresh
	}
	for i, db := range all {
		want, err := db.Status()
		if err != nil {
			t.Fatal(err)
		}
		got, err := rewrite(db).Status()
		if err != nil || got.Size > want.Size {
			t.Errorf("database %d: %d bytes of %d, %v", i, got.Size, want.Size, err)
		}
		if got.Size = want.Size; got != want {
			t.Errorf("database %d: %+v, was %+v", i, got, want)
		}
		for _, version := range []string{"3.6.0", "", "3.7.0"} {
			db = rewrite(db, StorageVersion(version))
			meta, err := db.Meta()
			if err != nil || meta.StorageVersion != version {
				t.Errorf("database %d: version %q, %v; want %q", i, meta.StorageVersion, err, version)
			}
		}
		back, err := db.Status()
		if want.Version == "3.7.0" && (err != nil || back.Hash != want.Hash) {
			t.Errorf("database %d: at its old version again the hash is %x, %v, was %x", i, back.Hash, err, want.Hash)
		}
	}
}
