package auth

import (
	"maps"
	"slices"
	"sync"

	"go.etcd.io/etcd/api/v3/authpb"

	"holdfast/kv"
)

// State is what users and roles are at one auth revision. It is never modified, and what did not change is shared with the
// states before and after.
type State struct {
	enabled  bool
	revision uint64
	// suspended says that another state is about to take the place of this one, see Suspend.
	suspended bool
	users     map[string]*user
	roles     map[string]*role
}

// user is a row of table auth_user with the permissions of its roles.
type user struct {
	row  *authpb.User // roles in order
	root bool
	// permits are made when they are asked for first: most users of a large set ask for nothing between two changes.
	permits func() permits
}

// role is a row of table auth_role.
type role struct {
	row *authpb.Role // permissions in the order of their keys
}

func newRole(row *authpb.Role) *role { return &role{row: row} }

// newUser makes a user with what the roles are now: a user is made anew when one of its roles changes.
func newUser(row *authpb.User, roles map[string]*role) *user {
	var has []*role
	for _, name := range row.Roles {
		if r := roles[name]; r != nil {
			has = append(has, r)
		}
	}
	_, root := slices.BinarySearch(row.Roles, Root)
	return &user{row: row, root: root, permits: sync.OnceValue(func() permits { return merge(has) })}
}

// Enabled tells whether authentication is on. While it is off, everybody may do everything.
func (s *State) Enabled() bool { return s.enabled }

// Revision counts the changes of users and roles. Switching authentication off counts, switching it on does not.
func (s *State) Revision() uint64 { return s.revision }

// Check decides: may a user, looked up at a revision, do all that is wanted? Revision 0 is that of nobody. A request that
// wants nothing of the keys is allowed to everybody.
func (s *State) Check(name string, revision uint64, wants []kv.Access) error {
	if !s.enabled || len(wants) == 0 {
		return nil
	}
	if s.suspended {
		return ErrOldRevision
	}
	if revision == 0 {
		return ErrUserEmpty
	}
	if revision < s.revision {
		return ErrOldRevision
	}
	u := s.users[name]
	switch {
	case u == nil:
		return ErrPermissionDenied
	case u.root:
		return nil
	}
	may := u.permits()
	for i := range wants {
		if !may.allow(&wants[i]) {
			return ErrPermissionDenied
		}
	}
	return nil
}

// CheckAdmin decides whether a user may do what only administrators may: change users and roles, and work on the cluster.
// Unlike Check it does not ask how long ago the user was looked up, as in etcd.
func (s *State) CheckAdmin(name string) error {
	if !s.enabled {
		return nil
	}
	if name == "" {
		return ErrUserEmpty
	}
	u := s.users[name]
	switch {
	case u == nil:
		return ErrUserNotFound
	case !u.root:
		return ErrPermissionDenied
	}
	return nil
}

// User is what is known of one user. Nothing in it may be modified.
type User struct {
	// Roles are the names of its roles, in order.
	Roles []string
	// Hash is the bcrypt hash of its password; with an empty one it cannot log in.
	Hash []byte
	// NoPassword says that it never logs in: it is known by the certificate of its connection.
	NoPassword bool
}

// User finds a user.
func (s *State) User(name string) (User, bool) {
	u := s.users[name]
	if u == nil {
		return User{}, false
	}
	return User{Roles: u.row.Roles, Hash: u.row.Password, NoPassword: u.row.Options.GetNoPassword()}, true
}

// Users are the names of all users, in order.
func (s *State) Users() []string { return slices.Sorted(maps.Keys(s.users)) }

// Roles are the names of all roles, in order.
func (s *State) Roles() []string { return slices.Sorted(maps.Keys(s.roles)) }

// HasRole tells whether there is such a user and it has the role.
func (s *State) HasRole(name, role string) bool {
	u := s.users[name]
	return u != nil && slices.Contains(u.row.Roles, role)
}

// everything is what the role root may do, whatever its row says.
var everything = []*authpb.Permission{{PermType: authpb.Permission_READWRITE, Key: []byte{}, RangeEnd: []byte{0}}}

// Role gives the permissions of a role, which must not be modified.
func (s *State) Role(name string) (permissions []*authpb.Permission, found bool) {
	r := s.roles[name]
	switch {
	case r == nil:
		return nil, false
	case name == Root:
		return everything, true
	}
	return r.row.KeyPermission, true
}
