package auth

import (
	"errors"
	"testing"

	"holdfast/kv"
	"holdfast/storage/storagetest"
)

// load makes a store with the user root, and authentication on or off.
func load(t *testing.T, on bool) *Store {
	t.Helper()
	st := storagetest.Open(t)
	s, err := Load(st)
	if err != nil {
		t.Fatal(err)
	}
	b := st.NewBatch()
	errs := []error{s.AddUser(b, Root, "", false), s.GrantRole(b, Root, Root)}
	if on {
		errs = append(errs, s.Enable(b))
	}
	for _, err := range append(errs, b.Commit(), b.Close()) {
		if err != nil {
			t.Fatal(err)
		}
	}
	s.Publish()
	return s
}

// TestSuspend: between two states nobody is let do anything, root neither, unless authentication is off in both; then the
// later one holds.
func TestSuspend(t *testing.T) {
	wants := []kv.Access{{KeyRange: kv.KeyRange{Key: []byte("k")}, Right: kv.Read}}
	for _, c := range []struct{ before, after bool }{{true, true}, {true, false}, {false, true}, {false, false}} {
		s, next := load(t, c.before), load(t, c.after)
		s.Suspend(next)
		want := ErrOldRevision
		if !c.before && !c.after {
			want = nil
		}
		for _, revision := range []uint64{0, s.State().Revision(), 1 << 63} {
			if err := s.State().Check(Root, revision, wants); !errors.Is(err, want) {
				t.Errorf("from %v to %v: at revision %d: %v, want %v", c.before, c.after, revision, err, want)
			}
		}
		s.Replace(next)
		if got := s.State(); got.Enabled() != c.after || got.Check(Root, got.Revision(), wants) != nil {
			t.Errorf("from %v to %v: on is %v", c.before, c.after, got.Enabled())
		}
	}
}

// TestBrokenRows: what cannot be read is said, without repeating it.
func TestBrokenRows(t *testing.T) {
	for _, c := range []struct {
		rows Rows
		want string
	}{
		{Rows{Users: []Row{{"ann", []byte("\x12\x0fsecret hash cut")}}}, `user "ann" is named "" in its row`},
		{Rows{Users: []Row{{"ann", []byte("\x12\xffsecret")}}}, `user "ann" cannot be read`},
		{Rows{Roles: []Row{{"r", []byte("\x0a\x01s")}}}, `role "r" is named "s" in its row`},
	} {
		if _, err := c.rows.State(); err == nil || err.Error() != c.want {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}
