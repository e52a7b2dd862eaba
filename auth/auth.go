// Package auth keeps users, roles and permissions, and decides who may do what.
//
// It is part of the replicated state: every change comes out of the raft log and is written in the batch of its entry. The
// decision is one function, State.Check, over the list of accesses that package kv makes of any request; apply asks it for
// each command, server for reads, watches and leases. It knows no passwords, only their hashes, and compares none: that is
// slow on purpose and has no place behind the log.
//
//	Shape    table auth:      "authEnabled" -> 0 or 1 (1 B), "authRevision" -> revision (8 B, big endian)
//	         table auth_user: name -> encoded authpb.User
//	         table auth_role: name -> encoded authpb.Role
//	Units    the auth revision counts changes of users and roles, from 1
//	Errors   below
//	Source   etcd v3 API, service Auth; etcd 3.7 for the order of checks and for the rows
//
// It reads no clock, starts no goroutine and draws no random number.
package auth

import (
	"errors"
	"fmt"
	"maps"
	"sync/atomic"

	"holdfast/storage"
)

// Root is the user that must exist, and the role it must have, while authentication is on. Who has the role may do everything.
const Root = "root"

// The reasons why a request or a change is refused.
var (
	// ErrRootUserNotExist and ErrRootRoleNotExist say what is missing before authentication can be switched on.
	ErrRootUserNotExist = errors.New("auth: root user does not exist")
	ErrRootRoleNotExist = errors.New("auth: root user does not have root role")
	// ErrUserExists and ErrUserNotFound say that a user's name is taken, or that nobody has it.
	ErrUserExists   = errors.New("auth: user already exists")
	ErrUserNotFound = errors.New("auth: user not found")
	// ErrUserEmpty says that a user has no name: nobody is logged in, or a new user is to have none.
	ErrUserEmpty = errors.New("auth: user name is empty")
	// ErrRoleExists, ErrRoleNotFound and ErrRoleEmpty are the same for roles.
	ErrRoleExists   = errors.New("auth: role already exists")
	ErrRoleNotFound = errors.New("auth: role not found")
	ErrRoleEmpty    = errors.New("auth: role name is empty")
	// ErrRoleNotGranted says that a user does not have the role to be taken away.
	ErrRoleNotGranted = errors.New("auth: role is not granted to the user")
	// ErrPermissionNotGiven says that a grant names no permission.
	ErrPermissionNotGiven = errors.New("auth: permission not given")
	// ErrPermissionNotGranted says that a role does not have the permission to be taken away.
	ErrPermissionNotGranted = errors.New("auth: permission is not granted to the role")
	// ErrPermissionDenied refuses a request that does more than its user may.
	ErrPermissionDenied = errors.New("auth: permission denied")
	// ErrInvalidManagement refuses what would lock everybody out, and permissions on ranges that hold no key.
	ErrInvalidManagement = errors.New("auth: invalid auth management")
	// ErrNotEnabled answers who wants to log in while authentication is off.
	ErrNotEnabled = errors.New("auth: authentication is not enabled")
	// ErrFailed answers who cannot log in. It does not tell a wrong name from a wrong password.
	ErrFailed = errors.New("auth: authentication failed, invalid user ID or password")
	// ErrNoPasswordUser says that a password came for a user who has none, or in no form that could be one.
	ErrNoPasswordUser = errors.New("auth: authentication failed, password was given for no password user")
	// ErrOldRevision says that users or roles have changed since the user of a request was looked up: it may be tried again.
	ErrOldRevision = errors.New("auth: revision in header is old")
	// ErrInvalidToken says that nobody, or nobody any more, goes by a token.
	ErrInvalidToken = errors.New("auth: invalid auth token")
)

// firstRevision is that of a cluster that never had a user.
const firstRevision = 1

// Store holds the state of now. Changes come from one goroutine, each with the batch that makes it durable, and are seen by
// others from Publish on; questions may come from any.
type Store struct {
	current   *State // what the changes have led to
	published atomic.Pointer[State]
}

// Load reads the users and roles that a view of the store holds.
func Load(view storage.View) (*Store, error) {
	rows, err := Export(view)
	s := new(Store)
	if err == nil {
		s.current, err = rows.State()
	}
	if err != nil {
		return nil, fmt.Errorf("load users and roles: %w", err)
	}
	s.Publish()
	return s, nil
}

// State is the published state.
func (s *Store) State() *State { return s.published.Load() }

// Current is the state after the last change, published or not. It belongs to who makes the changes.
func (s *Store) Current() *State { return s.current }

// Publish shows the state to everybody. The batches of its changes have been committed.
func (s *Store) Publish() {
	if s.published.Load() != s.current {
		s.published.Store(s.current)
	}
}

// Suspend has everybody ask again until Replace: keys and users change places one after the other then, and nobody is to see the
// keys of one state with the permissions of the other. Where both states let everybody do everything it does nothing.
func (s *Store) Suspend(next *Store) {
	if !s.current.enabled && !next.current.enabled {
		return
	}
	between := *s.current
	between.enabled, between.suspended = true, true
	s.published.Store(&between)
}

// Replace puts the users and roles of next, another state of the same history, in the place of those there are. next must not
// be used any more.
func (s *Store) Replace(next *Store) {
	s.current = next.current
	s.Publish()
}

// begin starts a change: a state of its own that differs in nothing yet.
func (s *Store) begin() *State {
	next := *s.current
	next.users, next.roles = maps.Clone(next.users), maps.Clone(next.roles)
	return &next
}

// finish ends a change.
func (s *Store) finish(b *storage.Batch, next *State) {
	next.revision++
	putRevision(b, next.revision)
	s.current = next
}
