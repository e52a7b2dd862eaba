package server

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"go.etcd.io/etcd/api/v3/authpb"

	"holdfast/auth"
	"holdfast/etcdfile"
	"holdfast/kv"
	"holdfast/transport"
)

// heard notes what a member is told of logins.
type heard struct{ lines []string }

// Switched implements apply.Tokens.
func (h *heard) Switched(on bool) { h.lines = append(h.lines, fmt.Sprint("switched ", on)) }

// Authenticated implements apply.Tokens.
func (h *heard) Authenticated(user, prefix string, index kv.Index) {
	h.lines = append(h.lines, fmt.Sprintf("%s is %s.%d", user, prefix, index))
}

// Forget implements apply.Tokens.
func (h *heard) Forget(user string) { h.lines = append(h.lines, "forget "+user) }

// Changed implements apply.Tokens.
func (h *heard) Changed(user string) { h.lines = append(h.lines, "changed "+user) }

// TestCatchUpWithUsers: a member that was away when users and roles changed, or before there were any, knows them from the state
// it is sent, in either form, asks everybody to log in again, and decides as the others do; so it does after a restart.
func TestCatchUpWithUsers(t *testing.T) {
	for _, form := range []transport.Form{transport.Database, transport.Checkpoint} {
		t.Run(form.String(), func(t *testing.T) { testCatchUpWithUsers(t, form) })
	}
}

func testCatchUpWithUsers(t *testing.T, form transport.Form) {
	synctest.Test(t, func(t *testing.T) {
		var tokens [3]heard
		c := startCluster(t, 3, shortLog, inForm(form), func(i int, cfg *Config) { cfg.Tokens = &tokens[i] })
		c.setUpUsers()
		away := c.follower()
		c.stop(away)
		tokens[away] = heard{}
		m := c.members[c.leader()]
		root := m.as(auth.Root)
		if err := m.RoleGrantPermission(root, "role", &authpb.Permission{PermType: authpb.READWRITE, Key: []byte("new"), RangeEnd: []byte("nex")}); err != nil {
			t.Fatal(err)
		}
		index, err := m.LogIn(root, "user", "prefix")
		if err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			if _, err := m.tryPut(m.as("user"), fmt.Sprintf("new%03d", i), strings.Repeat("v", 100), 0); err != nil {
				t.Fatal(err)
			}
		}
		letRelease()
		c.start(away)
		c.awaitReady()
		c.awaitEqual()
		back := c.members[away]
		if got := back.CatchUpStats(); got.InForce != 1 {
			t.Fatalf("the member that was away counts %+v", got)
		}
		login := fmt.Sprintf("user is prefix.%d", index)
		if got := tokens[c.leader()].lines; got[len(got)-1] != login {
			t.Errorf("the leader has heard %q, want %q at last", got, login)
		}
		if got := tokens[away].lines; !slices.Equal(got, []string{"switched true"}) {
			t.Errorf("the member that was away has heard %q", got)
		}
		c.decidesAlike(away)
		c.stop(away)
		c.start(away)
		c.awaitReady()
		c.decidesAlike(away)
	})
}

// decidesAlike asks member i what the user of setUpUsers may do by now.
func (c *cluster) decidesAlike(i int) {
	c.t.Helper()
	m, leader := c.members[i], c.members[c.leader()]
	if got, want := m.Auth().Revision(), leader.Auth().Revision(); got != want || !m.Auth().Enabled() {
		c.t.Errorf("it is at auth revision %d, the leader at %d", got, want)
	}
	for _, test := range []struct {
		key string
		err error
	}{{"new1", nil}, {"w", nil}, {"nex", auth.ErrPermissionDenied}, {"r", auth.ErrPermissionDenied}} {
		if _, err := m.tryPut(m.as("user"), test.key, "v", 0); !errors.Is(err, test.err) {
			c.t.Errorf("put %s: %v, want %v", test.key, err, test.err)
		}
	}
	if _, err := m.Range(m.as("user"), &kv.RangeRequest{KeyRange: kv.KeyRange{Key: []byte("new"), End: []byte("nex")}, Serializable: true}); err != nil {
		c.t.Errorf("read: %v", err)
	}
}

// TestSnapshotHoldsTheAuthRevision: so it does before there was any user.
func TestSnapshotHoldsTheAuthRevision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, fs := memoryConfig()
		m := start(t, cfg)
		if _, err := m.exportTo(t.Context(), "none.db"); err != nil {
			t.Fatal(err)
		}
		db, err := etcdfile.Open(fs, "none.db")
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if meta, err := db.Meta(); err != nil || meta.AuthEnabled || meta.AuthRevision != 1 {
			t.Errorf("the file says %+v, %v", meta, err)
		}
	})
}

// TestSnapshotHoldsUsers: the database of a snapshot has the rows of users and roles as they are stored.
func TestSnapshotHoldsUsers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := guardedCluster(t)
		m := c.members[c.leader()]
		if _, err := m.exportTo(t.Context(), "users.db"); err != nil {
			t.Fatal(err)
		}
		db, err := etcdfile.Open(m.dir.fs, "users.db")
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		meta, err := db.Meta()
		if err != nil || !meta.AuthEnabled || meta.AuthRevision != m.Auth().Revision() {
			t.Errorf("the file says %+v, %v", meta, err)
		}
		want, err := auth.Export(m.store)
		if err != nil {
			t.Fatal(err)
		}
		users, err := accountRows(db.Users())
		if err != nil {
			t.Fatal(err)
		}
		roles, err := accountRows(db.Roles())
		if err != nil {
			t.Fatal(err)
		}
		same := func(a, b auth.Row) bool { return a.Name == b.Name && string(a.Encoded) == string(b.Encoded) }
		if !slices.EqualFunc(users, want.Users, same) || !slices.EqualFunc(roles, want.Roles, same) || len(users) != 2 || len(roles) != 1 {
			t.Errorf("the file has %d users and %d roles, the store %d and %d", len(users), len(roles), len(want.Users), len(want.Roles))
		}
	})
}
