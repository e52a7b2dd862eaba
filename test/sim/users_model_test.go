package sim

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"holdfast/auth"
	"holdfast/kv"
)

// users is who may do what, and who is logged in, at one moment. It is never changed; a command makes a new one. Like state it is as
// plain as it can be: permissions are looked through one by one.
type users struct {
	enabled  bool
	revision uint64
	roles    map[string][]grant
	of       map[string][]string // the roles of each user
	logins   map[string]string   // the user of each token; no member may know another
}

// grant is a permission on the keys from key on to before end.
type grant struct {
	key, end string
	right    kv.Right
}

func nobody() *users {
	return &users{revision: 1, roles: map[string][]grant{}, of: map[string][]string{}, logins: map[string]string{}}
}

// interval gives the keys of a range as from and before; without an end it is one key.
func interval(key, end []byte) (from, before string) {
	if len(end) == 0 {
		return string(key), string(key) + "\x00"
	}
	return string(key), string(end)
}

func (u *users) isRoot(name string) bool { return slices.Contains(u.of[name], auth.Root) }

// admin is whether a user may change users.
func (u *users) admin(name string) error {
	_, known := u.of[name]
	switch {
	case !u.enabled || u.isRoot(name):
		return nil
	case name == "":
		return auth.ErrUserEmpty
	case !known:
		return auth.ErrUserNotFound
	}
	return auth.ErrPermissionDenied
}

// permit is whether a user, looked up at a revision, may do all that is wanted.
func (u *users) permit(name string, revision uint64, wants []kv.Access) error {
	switch {
	case !u.enabled || len(wants) == 0:
		return nil
	case revision == 0:
		return auth.ErrUserEmpty
	case revision < u.revision:
		return auth.ErrOldRevision
	case u.isRoot(name):
		return nil
	}
	for _, a := range wants {
		for _, right := range []kv.Right{kv.Read, kv.Write} {
			if a.Right&right != 0 && !u.covers(name, a.KeyRange, right) {
				return auth.ErrPermissionDenied
			}
		}
	}
	return nil
}

// covers is whether the permissions of a user leave no gap in a range: from its first key on each step goes to the end of one that holds
// it.
func (u *users) covers(name string, r kv.KeyRange, right kv.Right) bool {
	at, before := interval(r.Key, r.End)
	for at < before {
		furthest := at
		for _, role := range u.of[name] {
			for _, g := range u.roles[role] {
				if g.right&right != 0 && g.key <= at && g.end > furthest {
					furthest = g.end
				}
			}
		}
		if furthest == at {
			return false
		}
		at = furthest
	}
	return true
}

// wants is what a command does with keys; the keys of a lease count unless root asks.
func (n *next) wants(c *kv.Command) (all []kv.Access) {
	ofLease := func(id kv.LeaseID) {
		for _, key := range sortedKeys(n.keys) {
			if n.keys[key].Lease == id && id != 0 && !n.users.isRoot(c.Username) {
				all = append(all, kv.Access{KeyRange: kv.KeyRange{Key: []byte(key)}, Right: kv.Write})
			}
		}
	}
	var txn func(*kv.TxnRequest)
	op := func(q kv.Op) {
		switch {
		case q.Range != nil:
			all = append(all, kv.Access{KeyRange: q.Range.KeyRange, Right: kv.Read})
		case q.Put != nil:
			all = append(all, kv.Access{KeyRange: kv.KeyRange{Key: q.Put.Key}, Right: writes(q.Put.PrevKV)})
			ofLease(q.Put.Lease)
		case q.DeleteRange != nil:
			all = append(all, kv.Access{KeyRange: q.DeleteRange.KeyRange, Right: writes(q.DeleteRange.PrevKV)})
		case q.Txn != nil:
			txn(q.Txn)
		}
	}
	txn = func(q *kv.TxnRequest) {
		for _, compare := range q.Compare {
			all = append(all, kv.Access{KeyRange: compare.KeyRange, Right: kv.Read})
		}
		for _, q := range slices.Concat(q.Success, q.Failure) {
			op(q)
		}
	}
	op(kv.Op{Put: c.Put, DeleteRange: c.DeleteRange, Txn: c.Txn})
	if c.LeaseRevoke != nil {
		ofLease(c.LeaseRevoke.ID)
	}
	return all
}

// writes is the right for a write, which with the previous version is also a read.
func writes(prev bool) kv.Right {
	if prev {
		return kv.Write | kv.Read
	}
	return kv.Write
}

// manage carries out a command about users, if it is one.
func (n *next) manage(c *kv.Command) error {
	u := &users{n.users.enabled, n.users.revision, maps.Clone(n.users.roles), maps.Clone(n.users.of), maps.Clone(n.users.logins)}
	if q := c.Cold.Authenticate; q != nil {
		switch _, known := u.of[q.Name]; {
		case !u.enabled:
			return auth.ErrNotEnabled
		case !known:
			return auth.ErrFailed
		}
		u.logins[q.SimpleToken] = q.Name
		n.users = u
		return nil
	}
	changed, is, err := u.change(c.Cold)
	if !is {
		return nil
	}
	if refused := n.users.admin(c.Username); refused != nil {
		return refused
	}
	if changed {
		u.revision++
	}
	if err == nil {
		n.users = u
	}
	return err
}

// change carries out what an administrator asks for; is tells whether it is such a thing, and changed whether it counts.
func (u *users) change(q *pb.InternalRaftRequest) (changed, is bool, err error) {
	switch {
	case q.AuthEnable != nil:
		return false, true, u.enable()
	case q.AuthDisable != nil:
		changed = u.enabled
		if changed {
			u.enabled, u.logins = false, map[string]string{}
		}
		return changed, true, nil
	case q.AuthUserAdd != nil:
		if _, known := u.of[q.AuthUserAdd.Name]; known {
			return false, true, auth.ErrUserExists
		}
		u.of[q.AuthUserAdd.Name] = nil
	case q.AuthUserDelete != nil:
		if _, known := u.of[q.AuthUserDelete.Name]; !known {
			return false, true, auth.ErrUserNotFound
		}
		delete(u.of, q.AuthUserDelete.Name)
		u.logOut(q.AuthUserDelete.Name)
	case q.AuthUserChangePassword != nil:
		if _, known := u.of[q.AuthUserChangePassword.Name]; !known {
			return false, true, auth.ErrUserNotFound
		}
		u.logOut(q.AuthUserChangePassword.Name)
	case q.AuthUserGrantRole != nil:
		changed, err = u.grantRole(q.AuthUserGrantRole.User, q.AuthUserGrantRole.Role)
		return changed, true, err
	case q.AuthUserRevokeRole != nil:
		name, role := q.AuthUserRevokeRole.Name, q.AuthUserRevokeRole.Role
		if _, known := u.of[name]; !known {
			return false, true, auth.ErrUserNotFound
		}
		if !slices.Contains(u.of[name], role) {
			return false, true, auth.ErrRoleNotGranted
		}
		u.of[name] = slices.DeleteFunc(slices.Clone(u.of[name]), func(has string) bool { return has == role })
	case q.AuthRoleAdd != nil:
		if _, known := u.roles[q.AuthRoleAdd.Name]; known {
			return false, true, auth.ErrRoleExists
		}
		u.roles[q.AuthRoleAdd.Name] = nil
	case q.AuthRoleGrantPermission != nil:
		return true, true, u.grantPermission(q.AuthRoleGrantPermission)
	case q.AuthRoleRevokePermission != nil:
		changed, err = u.revokePermission(q.AuthRoleRevokePermission)
		return changed, true, err
	default:
		return false, false, nil
	}
	return true, true, nil
}

func (u *users) enable() error {
	_, known := u.of[auth.Root]
	switch {
	case u.enabled:
	case !known:
		return auth.ErrRootUserNotExist
	case !u.isRoot(auth.Root):
		return auth.ErrRootRoleNotExist
	default:
		u.enabled, u.logins = true, map[string]string{}
	}
	return nil
}

func (u *users) logOut(name string) {
	maps.DeleteFunc(u.logins, func(_, user string) bool { return user == name })
}

func (u *users) grantRole(name, role string) (changed bool, err error) {
	if _, known := u.of[name]; !known {
		return false, auth.ErrUserNotFound
	}
	if _, known := u.roles[role]; !known && role != auth.Root {
		return false, auth.ErrRoleNotFound
	}
	if slices.Contains(u.of[name], role) {
		return false, nil
	}
	u.of[name] = append(slices.Clone(u.of[name]), role)
	return true, nil
}

// grantPermission adds a permission. No two that the administrator gives to a role begin at the same key, so that etcd's ways with those
// are not met here.
func (u *users) grantPermission(q *pb.AuthRoleGrantPermissionRequest) error {
	all, known := u.roles[q.Name]
	if !known {
		return auth.ErrRoleNotFound
	}
	key, end := interval(q.Perm.Key, q.Perm.RangeEnd)
	g := grant{key, end, map[authpb.Permission_Type]kv.Right{
		authpb.Permission_READ: kv.Read, authpb.Permission_WRITE: kv.Write, authpb.Permission_READWRITE: kv.Read | kv.Write,
	}[q.Perm.PermType]}
	u.roles[q.Name] = append(slices.DeleteFunc(slices.Clone(all), func(has grant) bool { return has.key == key && has.end == end }), g)
	return nil
}

func (u *users) revokePermission(q *pb.AuthRoleRevokePermissionRequest) (changed bool, err error) {
	all, known := u.roles[q.Role]
	if !known {
		return false, auth.ErrRoleNotFound
	}
	key, end := interval(q.Key, q.RangeEnd)
	left := slices.DeleteFunc(slices.Clone(all), func(has grant) bool { return has.key == key && has.end == end })
	if len(left) == len(all) {
		return false, auth.ErrPermissionNotGranted
	}
	u.roles[q.Role] = left
	return true, nil
}

// String shows everything but who is logged in.
func (u *users) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "on %t, revision %d", u.enabled, u.revision)
	for _, name := range sortedKeys(u.of) {
		fmt.Fprintf(&b, "; %s is %v", name, slices.Sorted(slices.Values(u.of[name])))
	}
	for _, name := range sortedKeys(u.roles) {
		var all []string
		for _, g := range u.roles[name] {
			all = append(all, fmt.Sprintf("%q-%q %d", g.key, g.end, g.right))
		}
		slices.Sort(all)
		fmt.Fprintf(&b, "; %s may %v", name, all)
	}
	return b.String()
}

// showUsers shows what a member holds in the words of the model.
func showUsers(s *auth.State) string {
	u := nobody()
	u.enabled, u.revision = s.Enabled(), s.Revision()
	for _, name := range s.Users() {
		one, _ := s.User(name)
		u.of[name] = one.Roles
	}
	for _, name := range s.Roles() {
		permissions, _ := s.Role(name)
		u.roles[name] = nil
		for _, p := range permissions {
			if err := u.grantPermission(&pb.AuthRoleGrantPermissionRequest{Name: name, Perm: p}); err != nil {
				panic(err)
			}
		}
	}
	return u.String()
}

// empty tells whether a range holds no key whatever there is; etcd decides over those by the shape of a tree.
func empty(key, end []byte) bool { return len(end) > 0 && bytes.Compare(key, end) >= 0 }
