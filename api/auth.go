package api

import (
	"context"
	"encoding/base64"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"holdfast/auth"
	"holdfast/kv"
	"holdfast/server"
)

// accounts serves users, roles and logins.
type accounts struct {
	*API
	pb.UnimplementedAuthServer
}

// AuthEnable implements pb.AuthServer.
func (s *accounts) AuthEnable(ctx context.Context, _ *pb.AuthEnableRequest) (*pb.AuthEnableResponse, error) {
	if err := s.member.AuthEnable(ctx); err != nil {
		return nil, toWire(err)
	}
	return &pb.AuthEnableResponse{Header: s.header()}, nil
}

// AuthDisable implements pb.AuthServer.
func (s *accounts) AuthDisable(ctx context.Context, _ *pb.AuthDisableRequest) (*pb.AuthDisableResponse, error) {
	if err := s.member.AuthDisable(ctx); err != nil {
		return nil, toWire(err)
	}
	return &pb.AuthDisableResponse{Header: s.header()}, nil
}

// AuthStatus implements pb.AuthServer. Everybody may ask, but not with a token that is worth nothing.
func (s *accounts) AuthStatus(ctx context.Context, _ *pb.AuthStatusRequest) (*pb.AuthStatusResponse, error) {
	if _, err := s.whoAsks(ctx); err != nil {
		return nil, toWire(err)
	}
	state, err := s.member.AuthState(ctx)
	if err != nil {
		return nil, toWire(err)
	}
	return &pb.AuthStatusResponse{Header: s.header(), Enabled: state.Enabled(), AuthRevision: state.Revision()}, nil
}

// Authenticate implements pb.AuthServer. It is not asked who asks: a client comes here because its token is worth nothing.
func (s *accounts) Authenticate(ctx context.Context, q *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error) {
	ctx = server.WithIdentity(ctx, func() (server.Identity, error) { return server.Identity{}, nil })
	text, err := s.cfg.Logins.Authenticate(ctx, s.member, q.Name, q.Password)
	if err != nil {
		return nil, toWire(err)
	}
	return &pb.AuthenticateResponse{Header: s.header(), Token: text}, nil
}

// hash makes the hash of a new password. That takes a core for a while: it is done for an administrator only. Who is none
// by what this member knows is asked again once it knows what the others do.
func (s *accounts) hash(ctx context.Context, password string) ([]byte, error) {
	if s.member.CheckAdmin(ctx) != nil {
		if _, err := s.member.AuthState(ctx); err != nil {
			return nil, err
		}
		if err := s.member.CheckAdmin(ctx); err != nil {
			return nil, err
		}
	}
	return s.cfg.Logins.Hash(ctx, password)
}

// UserAdd implements pb.AuthServer.
func (s *accounts) UserAdd(ctx context.Context, q *pb.AuthUserAddRequest) (*pb.AuthUserAddResponse, error) {
	var hash []byte
	if !q.Options.GetNoPassword() {
		var err error
		if hash, err = s.hash(ctx, q.Password); err != nil {
			return nil, toWire(err)
		}
	}
	if err := s.member.UserAdd(ctx, q.Name, hash, q.Options.GetNoPassword()); err != nil {
		return nil, toWire(err)
	}
	return &pb.AuthUserAddResponse{Header: s.header()}, nil
}

// UserGet implements pb.AuthServer.
func (s *accounts) UserGet(ctx context.Context, q *pb.AuthUserGetRequest) (*pb.AuthUserGetResponse, error) {
	roles, err := s.member.UserGet(ctx, q.Name)
	if err != nil {
		return nil, toWire(err)
	}
	return &pb.AuthUserGetResponse{Header: s.header(), Roles: roles}, nil
}

// UserList implements pb.AuthServer.
func (s *accounts) UserList(ctx context.Context, _ *pb.AuthUserListRequest) (*pb.AuthUserListResponse, error) {
	users, err := s.member.Users(ctx)
	if err != nil {
		return nil, toWire(err)
	}
	return &pb.AuthUserListResponse{Header: s.header(), Users: users}, nil
}

// UserDelete implements pb.AuthServer.
func (s *accounts) UserDelete(ctx context.Context, q *pb.AuthUserDeleteRequest) (*pb.AuthUserDeleteResponse, error) {
	if err := s.member.UserDelete(ctx, q.Name); err != nil {
		return nil, toWire(err)
	}
	return &pb.AuthUserDeleteResponse{Header: s.header()}, nil
}

// UserChangePassword implements pb.AuthServer. As with etcd an empty password leaves the hash to the client.
func (s *accounts) UserChangePassword(ctx context.Context, q *pb.AuthUserChangePasswordRequest) (*pb.AuthUserChangePasswordResponse, error) {
	hash, err := base64.StdEncoding.DecodeString(q.HashedPassword)
	if q.Password != "" {
		hash, err = s.hash(ctx, q.Password)
	} else if err != nil {
		err = auth.ErrNoPasswordUser // etcd's answer to what is no base64
	}
	if err != nil {
		return nil, toWire(err)
	}
	if err := s.member.UserChangePassword(ctx, q.Name, hash); err != nil {
		return nil, toWire(err)
	}
	return &pb.AuthUserChangePasswordResponse{Header: s.header()}, nil
}

// UserGrantRole implements pb.AuthServer.
func (s *accounts) UserGrantRole(ctx context.Context, q *pb.AuthUserGrantRoleRequest) (*pb.AuthUserGrantRoleResponse, error) {
	if err := s.member.UserGrantRole(ctx, q.User, q.Role); err != nil {
		return nil, toWire(err)
	}
	return &pb.AuthUserGrantRoleResponse{Header: s.header()}, nil
}

// UserRevokeRole implements pb.AuthServer.
func (s *accounts) UserRevokeRole(ctx context.Context, q *pb.AuthUserRevokeRoleRequest) (*pb.AuthUserRevokeRoleResponse, error) {
	if err := s.member.UserRevokeRole(ctx, q.Name, q.Role); err != nil {
		return nil, toWire(err)
	}
	return &pb.AuthUserRevokeRoleResponse{Header: s.header()}, nil
}

// RoleAdd implements pb.AuthServer.
func (s *accounts) RoleAdd(ctx context.Context, q *pb.AuthRoleAddRequest) (*pb.AuthRoleAddResponse, error) {
	if err := s.member.RoleAdd(ctx, q.Name); err != nil {
		return nil, toWire(err)
	}
	return &pb.AuthRoleAddResponse{Header: s.header()}, nil
}

// RoleGet implements pb.AuthServer.
func (s *accounts) RoleGet(ctx context.Context, q *pb.AuthRoleGetRequest) (*pb.AuthRoleGetResponse, error) {
	permissions, err := s.member.RoleGet(ctx, q.Role)
	if err != nil {
		return nil, toWire(err)
	}
	return &pb.AuthRoleGetResponse{Header: s.header(), Perm: permissions}, nil
}

// RoleList implements pb.AuthServer.
func (s *accounts) RoleList(ctx context.Context, _ *pb.AuthRoleListRequest) (*pb.AuthRoleListResponse, error) {
	roles, err := s.member.Roles(ctx)
	if err != nil {
		return nil, toWire(err)
	}
	return &pb.AuthRoleListResponse{Header: s.header(), Roles: roles}, nil
}

// RoleDelete implements pb.AuthServer.
func (s *accounts) RoleDelete(ctx context.Context, q *pb.AuthRoleDeleteRequest) (*pb.AuthRoleDeleteResponse, error) {
	if err := s.member.RoleDelete(ctx, q.Role); err != nil {
		return nil, toWire(err)
	}
	return &pb.AuthRoleDeleteResponse{Header: s.header()}, nil
}

// RoleGrantPermission implements pb.AuthServer.
func (s *accounts) RoleGrantPermission(ctx context.Context, q *pb.AuthRoleGrantPermissionRequest) (*pb.AuthRoleGrantPermissionResponse, error) {
	if err := s.member.RoleGrantPermission(ctx, q.Name, q.Perm); err != nil {
		return nil, toWire(err)
	}
	return &pb.AuthRoleGrantPermissionResponse{Header: s.header()}, nil
}

// RoleRevokePermission implements pb.AuthServer.
func (s *accounts) RoleRevokePermission(ctx context.Context, q *pb.AuthRoleRevokePermissionRequest) (*pb.AuthRoleRevokePermissionResponse, error) {
	if err := s.member.RoleRevokePermission(ctx, q.Role, kv.KeyRange{Key: q.Key, End: q.RangeEnd}); err != nil {
		return nil, toWire(err)
	}
	return &pb.AuthRoleRevokePermissionResponse{Header: s.header()}, nil
}
