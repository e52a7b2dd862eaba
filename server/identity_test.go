package server

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"holdfast/auth"
	"holdfast/kv"
)

// as gives the context of a call by a user who is looked up whenever that is asked for, as with a simple token.
func (m *member) as(user string) context.Context {
	return WithIdentity(m.t.Context(), func() (Identity, error) {
		return Identity{User: user, Revision: m.Auth().Revision()}, nil
	})
}

// asOf is as for a user who was looked up at a revision, as with a signed token.
func (m *member) asOf(user string, revision uint64) context.Context {
	return WithIdentity(m.t.Context(), func() (Identity, error) { return Identity{User: user, Revision: revision}, nil })
}

// guardedCluster makes three members with the users of setUpUsers.
func guardedCluster(t *testing.T) *cluster {
	c := startCluster(t, 3)
	c.setUpUsers()
	return c
}

// setUpUsers switches authentication on: there are root, and "user" who may read r.. and write w.. only.
func (c *cluster) setUpUsers() {
	c.t.Helper()
	m, ctx := c.members[c.leader()], c.t.Context()
	for i, err := range []error{
		m.UserAdd(ctx, auth.Root, []byte("hash"), false), m.UserGrantRole(ctx, auth.Root, auth.Root),
		m.UserAdd(ctx, "user", []byte("hash"), false), m.RoleAdd(ctx, "role"), m.UserGrantRole(ctx, "user", "role"),
		m.RoleGrantPermission(ctx, "role", &authpb.Permission{PermType: authpb.READ, Key: []byte("r"), RangeEnd: []byte("s")}),
		m.RoleGrantPermission(ctx, "role", &authpb.Permission{PermType: authpb.WRITE, Key: []byte("w"), RangeEnd: []byte("x")}),
		m.AuthEnable(ctx),
	} {
		if err != nil {
			c.t.Fatal(i, err)
		}
	}
	c.awaitLevel()
}

// TestReadsAreGuarded: whatever does not go through the log is decided on what users and roles are at the member asked, and
// refused without a user, for a user looked up too early, and beyond what the user may.
func TestReadsAreGuarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := guardedCluster(t)
		root := c.members[c.leader()]
		if _, err := root.LeaseGrant(root.as(auth.Root), kv.LeaseGrantRequest{ID: 5, TTL: 1000}); err != nil {
			t.Fatal(err)
		}
		if _, err := root.tryPut(root.as(auth.Root), "w1", "v", 5); err != nil {
			t.Fatal(err)
		}
		c.awaitEqual()
		between := func(key, end string) kv.KeyRange { return kv.KeyRange{Key: []byte(key), End: []byte(end)} }
		for _, m := range c.members {
			old := m.Auth().Revision() - 1
			get := func(serializable bool, key, end string) func(context.Context) error {
				return func(ctx context.Context) error {
					_, err := m.Range(ctx, &kv.RangeRequest{KeyRange: between(key, end), Serializable: serializable})
					return err
				}
			}
			txn := func(compare, get string) func(context.Context) error {
				return func(ctx context.Context) error {
					_, err := m.Txn(ctx, &kv.TxnRequest{
						Compare: []kv.Compare{{KeyRange: between(compare, "")}},
						Failure: []kv.Op{{Range: &kv.RangeRequest{KeyRange: between(get, "")}}},
					}, kv.Draft{})
					return err
				}
			}
			watch := func(key, end string) func(context.Context) error {
				return func(ctx context.Context) error {
					return m.CheckWatch(ctx, &kv.WatchCreate{KeyRange: between(key, end)})
				}
			}
			timeToLive := func(keys bool) func(context.Context) error {
				return func(ctx context.Context) error { _, err := m.LeaseTimeToLive(ctx, 5, keys); return err }
			}
			for _, test := range []struct {
				name string
				call func(context.Context) error
				user error // what "user" is told
				none error // what nobody is told
			}{
				{"range", get(false, "r", "rz"), nil, auth.ErrUserEmpty},
				{"serializable range", get(true, "r", "s"), nil, auth.ErrUserEmpty},
				{"range beyond", get(false, "r", "s\x00"), auth.ErrPermissionDenied, auth.ErrUserEmpty},
				{"range from a key", get(true, "r", "\x00"), auth.ErrPermissionDenied, auth.ErrUserEmpty},
				{"range of writable keys", get(true, "w", ""), auth.ErrPermissionDenied, auth.ErrUserEmpty},
				{"txn", txn("r", "r1"), nil, auth.ErrUserEmpty},
				{"txn with another compare", txn("a", "r1"), auth.ErrPermissionDenied, auth.ErrUserEmpty},
				{"txn with another range", txn("r", "a"), auth.ErrPermissionDenied, auth.ErrUserEmpty},
				{"txn of nothing", func(ctx context.Context) error { _, err := m.Txn(ctx, &kv.TxnRequest{}, kv.Draft{}); return err }, nil, nil},
				{"watch", watch("r", "s"), nil, auth.ErrUserEmpty},
				{"watch from a key", watch("r", "\x00"), auth.ErrPermissionDenied, auth.ErrUserEmpty},
				{"watch of all", watch("", "\x00"), auth.ErrPermissionDenied, auth.ErrUserEmpty},
				{"time to live", timeToLive(false), nil, auth.ErrUserEmpty},
				{"time to live with keys", timeToLive(true), auth.ErrPermissionDenied, auth.ErrUserEmpty},
				{"leases", func(ctx context.Context) error { _, err := m.Leases(ctx); return err }, auth.ErrPermissionDenied, auth.ErrUserEmpty},
				{"renewal", func(ctx context.Context) error { _, err := m.LeaseRenew(ctx, 5); return err }, nil, auth.ErrUserEmpty},
			} {
				if err := test.call(m.as("user")); !errors.Is(err, test.user) || (err != nil && test.user == nil) {
					t.Errorf("%s: %s for the user: %v, want %v", m.cfg.Name, test.name, err, test.user)
				}
				if err := test.call(m.as(auth.Root)); err != nil {
					t.Errorf("%s: %s for root: %v", m.cfg.Name, test.name, err)
				}
				if err := test.call(t.Context()); !errors.Is(err, test.none) {
					t.Errorf("%s: %s for nobody: %v, want %v", m.cfg.Name, test.name, err, test.none)
				}
				if err := test.call(m.asOf("user", old)); test.user != nil && !errors.Is(err, auth.ErrOldRevision) {
					t.Errorf("%s: %s for who was looked up earlier: %v", m.cfg.Name, test.name, err)
				}
			}
		}
	})
}

// TestReadIsDecidedAgain: users and roles change while a read is under way; its answer is not given.
func TestReadIsDecidedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := guardedCluster(t)
		m := c.members[c.leader()]
		wants := func() []kv.Access { return []kv.Access{{KeyRange: kv.KeyRange{Key: []byte("r")}, Right: kv.Read}} }
		err := m.guard(m.as("user"), wants, func() error { return m.RoleAdd(m.as(auth.Root), "another") })
		if !errors.Is(err, auth.ErrOldRevision) {
			t.Errorf("read while a role was added: %v", err)
		}
		if err := m.guard(m.as("user"), wants, func() error { return m.AuthDisable(m.as(auth.Root)) }); !errors.Is(err, auth.ErrOldRevision) {
			t.Errorf("read while authentication was switched off: %v", err)
		}
		if err := m.guard(t.Context(), wants, func() error { return m.AuthEnable(t.Context()) }); !errors.Is(err, auth.ErrUserEmpty) {
			t.Errorf("read by nobody while authentication was switched on: %v", err)
		}
		if err := m.guard(t.Context(), func() []kv.Access { return nil }, func() error { return m.AuthDisable(m.as(auth.Root)) }); err != nil {
			t.Errorf("read of nothing while authentication was switched off: %v", err)
		}
		if err := m.guard(t.Context(), wants, func() error { return m.UserAdd(t.Context(), "late", nil, true) }); err != nil {
			t.Errorf("read without authentication while a user was added: %v", err)
		}
	})
}

// TestLeasesEndUnderAuth: a lease whose keys are guarded ends by itself, at the hand of the leader.
func TestLeasesEndUnderAuth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := guardedCluster(t)
		m := c.members[c.leader()]
		if _, err := m.LeaseGrant(m.as("user"), kv.LeaseGrantRequest{ID: 5, TTL: 10}); err != nil {
			t.Fatal(err)
		}
		if _, err := m.tryPut(m.as("user"), "w1", "v", 5); err != nil {
			t.Fatal(err)
		}
		if _, err := m.tryPut(m.as("user"), "a", "v", 5); !errors.Is(err, auth.ErrPermissionDenied) {
			t.Errorf("put beyond what the user may: %v", err)
		}
		time.Sleep(15 * time.Second)
		r, err := m.Range(m.as(auth.Root), &kv.RangeRequest{KeyRange: kv.KeyRange{Key: []byte("w1")}})
		if err != nil || r.Count != 0 {
			t.Errorf("the lease's key is there %d times after its end, %v", r.Count, err)
		}
	})
}

// TestRequestsCarryTheUser: the entry of a request says who asked, whichever member was asked.
func TestRequestsCarryTheUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := guardedCluster(t)
		for i, m := range c.members {
			del := func(ctx context.Context) error {
				q, d := draft(t, kv.KindDeleteRange, &pb.DeleteRangeRequest{Key: []byte("w")}, kv.DecodeDeleteRange)
				_, err := m.DeleteRange(ctx, q, d)
				return err
			}
			if _, err := m.tryPut(m.as("user"), fmt.Sprint("w", i), "v", 0); err != nil {
				t.Error(err)
			}
			if err := del(m.as("user")); err != nil {
				t.Error(err)
			}
			if err := del(t.Context()); !errors.Is(err, auth.ErrUserEmpty) {
				t.Errorf("delete by nobody: %v", err)
			}
			if err := del(m.asOf("user", 1)); !errors.Is(err, auth.ErrOldRevision) {
				t.Errorf("delete by who was looked up long ago: %v", err)
			}
			if err := del(m.as("no text \xff")); !errors.Is(err, auth.ErrPermissionDenied) {
				t.Errorf("delete by a name that cannot be written down: %v", err)
			}
			if err := m.UserDelete(m.as("user"), "user"); !errors.Is(err, auth.ErrPermissionDenied) {
				t.Errorf("delete a user as one without the role: %v", err)
			}
		}
	})
}
