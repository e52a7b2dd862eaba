package server

import (
	"context"
	"encoding/base64"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"holdfast/apply"
	"holdfast/auth"
	"holdfast/kv"
)

// AuthEnable switches authentication on.
func (s *Server) AuthEnable(ctx context.Context) error {
	return s.account(ctx, &pb.InternalRaftRequest{AuthEnable: &pb.AuthEnableRequest{}})
}

// AuthDisable switches authentication off.
func (s *Server) AuthDisable(ctx context.Context) error {
	return s.account(ctx, &pb.InternalRaftRequest{AuthDisable: &pb.AuthDisableRequest{}})
}

// account proposes a change of users and roles.
func (s *Server) account(ctx context.Context, q *pb.InternalRaftRequest) error {
	_, err := s.proposeCold(ctx, q)
	return err
}

// UserAdd makes a user. hash is the bcrypt hash of its password; it takes tens of milliseconds to make, so ask CheckAdmin
// before. One with noPassword is known by the certificate of its connection alone.
func (s *Server) UserAdd(ctx context.Context, name string, hash []byte, noPassword bool) error {
	return s.account(ctx, &pb.InternalRaftRequest{AuthUserAdd: &pb.AuthUserAddRequest{
		Name: name, HashedPassword: base64.StdEncoding.EncodeToString(hash), Options: &authpb.UserAddOptions{NoPassword: noPassword},
	}})
}

// UserChangePassword gives a user another password, by its hash; with an empty one the user cannot log in any more.
func (s *Server) UserChangePassword(ctx context.Context, name string, hash []byte) error {
	return s.account(ctx, &pb.InternalRaftRequest{AuthUserChangePassword: &pb.AuthUserChangePasswordRequest{
		Name: name, HashedPassword: base64.StdEncoding.EncodeToString(hash),
	}})
}

// UserDelete removes a user.
func (s *Server) UserDelete(ctx context.Context, name string) error {
	return s.account(ctx, &pb.InternalRaftRequest{AuthUserDelete: &pb.AuthUserDeleteRequest{Name: name}})
}

// UserGrantRole gives a user a role.
func (s *Server) UserGrantRole(ctx context.Context, name, role string) error {
	return s.account(ctx, &pb.InternalRaftRequest{AuthUserGrantRole: &pb.AuthUserGrantRoleRequest{User: name, Role: role}})
}

// UserRevokeRole takes a role from a user.
func (s *Server) UserRevokeRole(ctx context.Context, name, role string) error {
	return s.account(ctx, &pb.InternalRaftRequest{AuthUserRevokeRole: &pb.AuthUserRevokeRoleRequest{Name: name, Role: role}})
}

// RoleAdd makes a role.
func (s *Server) RoleAdd(ctx context.Context, name string) error {
	return s.account(ctx, &pb.InternalRaftRequest{AuthRoleAdd: &pb.AuthRoleAddRequest{Name: name}})
}

// RoleDelete removes a role.
func (s *Server) RoleDelete(ctx context.Context, name string) error {
	return s.account(ctx, &pb.InternalRaftRequest{AuthRoleDelete: &pb.AuthRoleDeleteRequest{Role: name}})
}

// RoleGrantPermission gives a role a permission; nil is refused as any wrong one.
func (s *Server) RoleGrantPermission(ctx context.Context, role string, p *authpb.Permission) error {
	return s.account(ctx, &pb.InternalRaftRequest{AuthRoleGrantPermission: &pb.AuthRoleGrantPermissionRequest{Name: role, Perm: p}})
}

// RoleRevokePermission takes the permissions on a range from a role.
func (s *Server) RoleRevokePermission(ctx context.Context, role string, r kv.KeyRange) error {
	return s.account(ctx, &pb.InternalRaftRequest{AuthRoleRevokePermission: &pb.AuthRoleRevokePermissionRequest{Role: role, Key: r.Key, RangeEnd: r.End}})
}

// LogIn makes every member know a user, whose password the caller has compared, by a token: prefix is what begins it, empty
// where tokens are signed. It returns the number in the token.
func (s *Server) LogIn(ctx context.Context, name, prefix string) (kv.Index, error) {
	r, err := s.proposeCold(ctx, &pb.InternalRaftRequest{Authenticate: &pb.InternalAuthenticateRequest{Name: name, SimpleToken: prefix}})
	return apply.TokenIndex(r.Index), err
}

// AuthState is what users and roles were when it was asked for, or later. Unlike etcd, which puts the question into the log,
// it is asked for like any linearizable read.
func (s *Server) AuthState(ctx context.Context) (*auth.State, error) {
	if err := s.awaitCommitted(ctx); err != nil {
		return nil, err
	}
	return s.auth.State(), nil
}

// UserGet gives the roles of a user, to an administrator or the user.
func (s *Server) UserGet(ctx context.Context, name string) (roles []string, err error) {
	state, err := s.asked(ctx, func(state *auth.State, who string) bool { return who == name })
	if err != nil {
		return nil, err
	}
	u, found := state.User(name)
	if !found {
		return nil, auth.ErrUserNotFound
	}
	return u.Roles, nil
}

// RoleGet gives the permissions of a role, which must not be modified, to an administrator or who has the role.
func (s *Server) RoleGet(ctx context.Context, name string) ([]*authpb.Permission, error) {
	state, err := s.asked(ctx, func(state *auth.State, who string) bool { return state.HasRole(who, name) })
	if err != nil {
		return nil, err
	}
	permissions, found := state.Role(name)
	if !found {
		return nil, auth.ErrRoleNotFound
	}
	return permissions, nil
}

// Users and Roles give all names, in order, to an administrator.
func (s *Server) Users(ctx context.Context) ([]string, error) {
	state, err := s.asked(ctx, nobody)
	if err != nil {
		return nil, err
	}
	return state.Users(), nil
}

// Roles is like Users.
func (s *Server) Roles(ctx context.Context) ([]string, error) {
	state, err := s.asked(ctx, nobody)
	if err != nil {
		return nil, err
	}
	return state.Roles(), nil
}

func nobody(*auth.State, string) bool { return false }

// asked is AuthState for administrators, and others whom too allows.
func (s *Server) asked(ctx context.Context, too func(state *auth.State, who string) bool) (*auth.State, error) {
	state, err := s.AuthState(ctx)
	if err != nil {
		return nil, err
	}
	who, err := s.identity(ctx)
	if err != nil {
		return nil, err
	}
	if err := state.CheckAdmin(who.User); err != nil && !too(state, who.User) {
		return nil, err
	}
	return state, nil
}
