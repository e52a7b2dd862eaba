package apply

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"holdfast/auth"
	"holdfast/kv"
	"holdfast/storage"
)

// Tokens is told, in the order of the log, what decides over who is logged in. It may draw randomness and read clocks, which
// this package may not.
type Tokens interface {
	// Switched says that authentication was switched on or off, or that entries were skipped: nobody is logged in any more.
	Switched(on bool)
	// Authenticated says that an entry has logged a user in. prefix is what the member that compared the password has drawn for
	// the user's token; it is a secret, and empty where tokens are signed. index is the number in the token: every member must
	// come to the same, and with etcd it is that of the entry before.
	Authenticated(user, prefix string, index kv.Index)
	// Forget says that a user's password has changed, or that the user is gone: its logins are over.
	Forget(user string)
	// Changed says that something else about a user has changed: its logins go on.
	Changed(user string)
}

// noTokens is where nobody logs in.
type noTokens struct{}

// Switched implements Tokens.
func (noTokens) Switched(bool) {}

// Authenticated implements Tokens.
func (noTokens) Authenticated(string, string, kv.Index) {}

// Forget implements Tokens.
func (noTokens) Forget(string) {}

// Changed implements Tokens.
func (noTokens) Changed(string) {}

// authorize decides whether the user that a command runs for may do all that it does with keys. What members propose for
// themselves has no user and does nothing with keys, but for the end of a lease, which they propose as root.
func (r *run) authorize(c *kv.Command) error {
	state := r.Auth.Current()
	if !state.Enabled() {
		return nil
	}
	r.wants = c.Accesses(r.wants[:0], func(id kv.LeaseID) [][]byte {
		// To an administrator the keys of a lease do not count, however old the revision is, as in etcd.
		if state.CheckAdmin(c.Username) == nil {
			return nil
		}
		return r.Leases.Keys(id)
	})
	err := state.Check(c.Username, c.AuthRevision, r.wants)
	clear(r.wants) // they alias the payload
	return err
}

// manage carries out a command that changes users and roles, which only an administrator may; is is false for another one.
func (r *run) manage(c *kv.Command) (is bool, err error) {
	change := r.changeOf(c.Cold)
	if change == nil {
		return false, nil
	}
	before := r.Auth.Current()
	if err := before.CheckAdmin(c.Username); err != nil {
		return true, err
	}
	if err := change(r.batch); err != nil {
		return true, err
	}
	if now := r.Auth.Current(); now != before {
		r.permits = true
		r.tellTokens(c.Cold, now.Enabled() != before.Enabled())
	}
	return true, nil
}

// changeOf finds what a command changes in users and roles, nil if nothing. A password that etcd before 3.5 has put into the
// log itself is not looked at: to hash it would take every member long and lead each to another hash. Its user cannot log in.
func (r *run) changeOf(q *pb.InternalRaftRequest) func(*storage.Batch) error {
	a := r.Auth
	switch {
	case q.AuthEnable != nil:
		return a.Enable
	case q.AuthDisable != nil:
		return func(b *storage.Batch) error { a.Disable(b); return nil }
	case q.AuthUserAdd != nil:
		u := q.AuthUserAdd
		return func(b *storage.Batch) error { return a.AddUser(b, u.Name, u.HashedPassword, u.Options.GetNoPassword()) }
	case q.AuthUserDelete != nil:
		return func(b *storage.Batch) error { return a.DeleteUser(b, q.AuthUserDelete.Name) }
	case q.AuthUserChangePassword != nil:
		u := q.AuthUserChangePassword
		return func(b *storage.Batch) error { return a.ChangePassword(b, u.Name, u.HashedPassword) }
	case q.AuthUserGrantRole != nil:
		return func(b *storage.Batch) error {
			return a.GrantRole(b, q.AuthUserGrantRole.User, q.AuthUserGrantRole.Role)
		}
	case q.AuthUserRevokeRole != nil:
		return func(b *storage.Batch) error {
			return a.RevokeRole(b, q.AuthUserRevokeRole.Name, q.AuthUserRevokeRole.Role)
		}
	case q.AuthRoleAdd != nil:
		return func(b *storage.Batch) error { return a.AddRole(b, q.AuthRoleAdd.Name) }
	case q.AuthRoleDelete != nil:
		return func(b *storage.Batch) error { return a.DeleteRole(b, q.AuthRoleDelete.Role) }
	case q.AuthRoleGrantPermission != nil:
		p := q.AuthRoleGrantPermission
		return func(b *storage.Batch) error { return a.GrantPermission(b, p.Name, p.Perm) }
	case q.AuthRoleRevokePermission != nil:
		p := q.AuthRoleRevokePermission
		return func(b *storage.Batch) error { return a.RevokePermission(b, p.Role, p.Key, p.RangeEnd) }
	}
	return nil
}

// tellTokens tells what a change that was carried out means for logins.
func (r *run) tellTokens(q *pb.InternalRaftRequest, switched bool) {
	switch {
	case switched:
		r.told = append(r.told, func() { r.Tokens.Switched(q.AuthEnable != nil) })
	case q.AuthUserDelete != nil:
		r.told = append(r.told, func() { r.Tokens.Forget(q.AuthUserDelete.Name) })
	case q.AuthUserChangePassword != nil:
		r.told = append(r.told, func() { r.Tokens.Forget(q.AuthUserChangePassword.Name) })
	case q.AuthUserGrantRole != nil:
		r.told = append(r.told, func() { r.Tokens.Changed(q.AuthUserGrantRole.User) })
	case q.AuthUserRevokeRole != nil:
		r.told = append(r.told, func() { r.Tokens.Changed(q.AuthUserRevokeRole.Name) })
	}
}

// TokenIndex is the number in the token that the entry at index gives.
func TokenIndex(index kv.Index) kv.Index { return index - 1 }

// authenticate logs a user in whose password has been compared before. The user may be gone since.
func (r *run) authenticate(q *pb.InternalAuthenticateRequest) error {
	state := r.Auth.Current()
	if !state.Enabled() {
		return auth.ErrNotEnabled
	}
	u, found := state.User(q.Name)
	if !found || u.NoPassword {
		return auth.ErrFailed
	}
	name, prefix, index := q.Name, q.SimpleToken, TokenIndex(r.index)
	r.told = append(r.told, func() { r.Tokens.Authenticated(name, prefix, index) })
	return nil
}

// asksAuth tells whether a command only asks about users and roles. etcd puts such questions into the log; here they are
// answered without it.
func asksAuth(q *pb.InternalRaftRequest) bool {
	return q.AuthStatus != nil || q.AuthUserGet != nil || q.AuthUserList != nil || q.AuthRoleGet != nil || q.AuthRoleList != nil
}
