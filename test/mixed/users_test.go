package mixed

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// addUsers makes a user called after what happens, who may write its own keys, and root if it is not there.
func (c *Cluster) addUsers(ctx context.Context, m *Member, name string) error {
	a := pb.NewAuthClient(m.conn)
	users, err := a.UserList(ctx, &pb.AuthUserListRequest{})
	if err != nil {
		return err
	}
	if len(users.Users) == 0 {
		if _, err := a.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "root", Password: "root"}); err != nil {
			return err
		}
		if _, err := a.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"}); err != nil {
			return err
		}
	}
	if _, err := a.UserAdd(ctx, &pb.AuthUserAddRequest{Name: name, Password: name}); err != nil {
		return err
	}
	if _, err := a.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: name}); err != nil {
		return err
	}
	own := &authpb.Permission{PermType: authpb.READWRITE, Key: []byte(name + "/"), RangeEnd: []byte(name + "0")}
	if _, err := a.RoleGrantPermission(ctx, &pb.AuthRoleGrantPermissionRequest{Name: name, Perm: own}); err != nil {
		return err
	}
	_, err = a.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: name, Role: name})
	return err
}

// guard switches authentication on at one member, has users of addUsers log in at every member and write with every token at
// every member what they may and may not, and switches it off again at another member.
func (c *Cluster) guard(ctx context.Context, at *Member, names ...string) error {
	if _, err := pb.NewAuthClient(at.conn).AuthEnable(ctx, &pb.AuthEnableRequest{}); err != nil {
		return err
	}
	members := c.running()
	last := members[len(members)-1]
	root, err := last.login(ctx, "root", "root")
	if err != nil {
		return err
	}
	for _, m := range members {
		for _, name := range names {
			token, err := m.login(ctx, name, name)
			if err != nil {
				return err
			}
			for _, other := range members {
				if err := c.writeAs(ctx, token, other, name); err != nil {
					return err
				}
			}
		}
	}
	_, err = pb.NewAuthClient(last.conn).AuthDisable(withToken(ctx, root), &pb.AuthDisableRequest{})
	return err
}

// writeAs puts what a user may, and sees that another key is refused. A token that another member has just given may be
// unknown to an etcd for a moment.
func (c *Cluster) writeAs(ctx context.Context, token string, m *Member, name string) error {
	err := c.await(ctx, fmt.Sprintf("%s to let %s write", m, name), func() error {
		_, err := m.put(ctx, token, name+"/k")
		return err
	})
	if err != nil {
		return err
	}
	if _, err := m.put(ctx, token, "k"); status.Code(err) != codes.PermissionDenied {
		return fmt.Errorf("%s puts k at %s: %w", name, m, err)
	}
	return nil
}
