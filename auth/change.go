package auth

import (
	"bytes"
	"encoding/base64"
	"slices"
	"sort"

	"go.etcd.io/etcd/api/v3/authpb"
	"google.golang.org/protobuf/proto"

	"holdfast/storage"
)

// Each change asks its questions in etcd's order: the first that fails is the answer.

// Enable switches authentication on; while it is on nothing happens.
func (s *Store) Enable(b *storage.Batch) error {
	root, found := s.current.User(Root)
	switch {
	case s.current.enabled:
		return nil
	case !found:
		return ErrRootUserNotExist
	case !slices.Contains(root.Roles, Root):
		return ErrRootRoleNotExist
	}
	next := *s.current
	next.enabled = true
	putEnabled(b, true)
	s.current = &next
	return nil
}

// Disable switches authentication off; while it is off nothing happens.
func (s *Store) Disable(b *storage.Batch) {
	if !s.current.enabled {
		return
	}
	next := *s.current
	next.enabled = false
	putEnabled(b, false)
	s.finish(b, &next)
}

// AddUser makes a user. hash is the bcrypt hash of its password in base64, as the command carries it; without one the user
// cannot log in. A user with noPassword never has one.
func (s *Store) AddUser(b *storage.Batch, name, hash string, noPassword bool) error {
	if name == "" {
		return ErrUserEmpty
	}
	if s.current.users[name] != nil {
		return ErrUserExists
	}
	row := &authpb.User{Name: []byte(name), Options: &authpb.UserAddOptions{NoPassword: noPassword}}
	if err := setPassword(row, hash); err != nil {
		return err
	}
	s.storeUser(b, row)
	return nil
}

// setPassword puts a hash in base64 into row, unless that never has a password.
func setPassword(row *authpb.User, hash string) error {
	row.Password = nil
	if row.Options.GetNoPassword() {
		return nil
	}
	password, err := base64.StdEncoding.DecodeString(hash)
	if err != nil {
		return ErrNoPasswordUser
	}
	row.Password = password
	return nil
}

func (next *State) putUser(b *storage.Batch, row *authpb.User) {
	next.users[string(row.Name)] = newUser(row, next.roles)
	b.Set(userKey(string(row.Name)), encode(row))
}

// putRole stores a role and has its users go by it.
func (next *State) putRole(b *storage.Batch, row *authpb.Role) {
	next.roles[string(row.Name)] = newRole(row)
	b.Set(roleKey(string(row.Name)), encode(row))
	for name, u := range next.users {
		if slices.Contains(u.row.Roles, string(row.Name)) {
			next.users[name] = newUser(u.row, next.roles)
		}
	}
}

// DeleteUser removes a user.
func (s *Store) DeleteUser(b *storage.Batch, name string) error {
	if s.current.enabled && name == Root {
		return ErrInvalidManagement
	}
	if s.current.users[name] == nil {
		return ErrUserNotFound
	}
	next := s.begin()
	delete(next.users, name)
	b.Delete(userKey(name))
	s.finish(b, next)
	return nil
}

// ChangePassword gives a user another password, whose hash comes as in AddUser. One without password stays so.
func (s *Store) ChangePassword(b *storage.Batch, name, hash string) error {
	row, err := s.copyOfUser(name)
	if err != nil {
		return err
	}
	if err := setPassword(row, hash); err != nil {
		return err
	}
	s.storeUser(b, row)
	return nil
}

// storeUser is a change that consists of the row of one user, new or a changed copy.
func (s *Store) storeUser(b *storage.Batch, row *authpb.User) {
	next := s.begin()
	next.putUser(b, row)
	s.finish(b, next)
}

// copyOfUser gives the row of a user, to be changed.
func (s *Store) copyOfUser(name string) (*authpb.User, error) {
	u := s.current.users[name]
	if u == nil {
		return nil, ErrUserNotFound
	}
	return proto.Clone(u.row).(*authpb.User), nil
}

// GrantRole gives a user a role. The role root need not exist. A role that it has already changes nothing, the revision
// included.
func (s *Store) GrantRole(b *storage.Batch, name, role string) error {
	row, err := s.copyOfUser(name)
	if err != nil {
		return err
	}
	if role != Root && s.current.roles[role] == nil {
		return ErrRoleNotFound
	}
	at, has := slices.BinarySearch(row.Roles, role)
	if has {
		return nil
	}
	row.Roles = slices.Insert(row.Roles, at, role)
	s.storeUser(b, row)
	return nil
}

// RevokeRole takes a role from a user.
func (s *Store) RevokeRole(b *storage.Batch, name, role string) error {
	if s.current.enabled && name == Root && role == Root {
		return ErrInvalidManagement
	}
	row, err := s.copyOfUser(name)
	if err != nil {
		return err
	}
	if !without(row, role) {
		return ErrRoleNotGranted
	}
	s.storeUser(b, row)
	return nil
}

// without takes a role out of a user's row and tells whether it was there.
func without(row *authpb.User, role string) bool {
	had := len(row.Roles)
	row.Roles = slices.DeleteFunc(row.Roles, func(name string) bool { return name == role })
	return len(row.Roles) < had
}

// AddRole makes a role that permits nothing.
func (s *Store) AddRole(b *storage.Batch, name string) error {
	if name == "" {
		return ErrRoleEmpty
	}
	if s.current.roles[name] != nil {
		return ErrRoleExists
	}
	s.storeRole(b, &authpb.Role{Name: []byte(name)})
	return nil
}

// DeleteRole removes a role and takes it from its users.
func (s *Store) DeleteRole(b *storage.Batch, name string) error {
	if s.current.enabled && name == Root {
		return ErrInvalidManagement
	}
	if s.current.roles[name] == nil {
		return ErrRoleNotFound
	}
	next := s.begin()
	delete(next.roles, name)
	b.Delete(roleKey(name))
	for _, u := range s.current.users {
		if slices.Contains(u.row.Roles, name) {
			row := proto.Clone(u.row).(*authpb.User)
			without(row, name)
			next.putUser(b, row)
		}
	}
	s.finish(b, next)
	return nil
}

// GrantPermission adds a permission to a role, or gives the one on the same range another kind.
func (s *Store) GrantPermission(b *storage.Batch, name string, p *authpb.Permission) error {
	if p == nil {
		return ErrPermissionNotGiven
	}
	if !isValidRange(p.Key, p.RangeEnd) {
		return ErrInvalidManagement
	}
	row, err := s.copyOfRole(name)
	if err != nil {
		return err
	}
	grant(row, p)
	s.storeRole(b, row)
	return nil
}

// storeRole is a change that consists of the row of one role, new or a changed copy.
func (s *Store) storeRole(b *storage.Batch, row *authpb.Role) {
	next := s.begin()
	next.putRole(b, row)
	s.finish(b, next)
}

// copyOfRole gives the row of a role, to be changed.
func (s *Store) copyOfRole(name string) (*authpb.Role, error) {
	r := s.current.roles[name]
	if r == nil {
		return nil, ErrRoleNotFound
	}
	return proto.Clone(r.row).(*authpb.Role), nil
}

// grant puts p into a role as etcd does, which every member must: of the permissions that begin at the same key it looks at
// the first only, so one on another range that begins there stays as it is and p is added once more; and those are in the
// order that an unstable sort leaves them in.
func grant(row *authpb.Role, p *authpb.Permission) {
	all := row.KeyPermission
	at := sort.Search(len(all), func(i int) bool { return bytes.Compare(all[i].Key, p.Key) >= 0 })
	if at < len(all) && bytes.Equal(all[at].Key, p.Key) && bytes.Equal(all[at].RangeEnd, p.RangeEnd) {
		all[at].PermType = p.PermType
		return
	}
	all = append(all, &authpb.Permission{Key: p.Key, RangeEnd: p.RangeEnd, PermType: p.PermType})
	sort.Slice(all, func(i, j int) bool { return bytes.Compare(all[i].Key, all[j].Key) < 0 })
	row.KeyPermission = all
}

// RevokePermission takes the permissions on a range from a role.
func (s *Store) RevokePermission(b *storage.Batch, name string, key, end []byte) error {
	row, err := s.copyOfRole(name)
	if err != nil {
		return err
	}
	had := len(row.KeyPermission)
	row.KeyPermission = slices.DeleteFunc(row.KeyPermission, func(p *authpb.Permission) bool {
		return bytes.Equal(p.Key, key) && bytes.Equal(p.RangeEnd, end)
	})
	if len(row.KeyPermission) == had {
		return ErrPermissionNotGranted
	}
	s.storeRole(b, row)
	return nil
}
