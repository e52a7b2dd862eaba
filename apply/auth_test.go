package apply

import (
	"encoding/base64"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// auth reads a command about users and roles.
func (p *parser) auth(q *pb.InternalRaftRequest) {
	verb := p.next() + " " + p.next()
	hash := func(name string) string { return base64.StdEncoding.EncodeToString([]byte("hash of " + name)) }
	switch verb {
	case "auth enable":
		q.AuthEnable = &pb.AuthEnableRequest{}
	case "auth disable":
		q.AuthDisable = &pb.AuthDisableRequest{}
	case "auth ask":
		q.AuthUserList = &pb.AuthUserListRequest{}
	case "user add":
		u := &pb.AuthUserAddRequest{Name: strings.Trim(p.next(), `"`)}
		switch p.peek() {
		case "no-password":
			p.next()
			u.Options = &authpb.UserAddOptions{NoPassword: true}
		case "plain":
			p.next()
			u.Password = "an old member's"
		case "no-base64":
			u.HashedPassword = p.next()
		default:
			u.HashedPassword = hash(u.Name)
		}
		q.AuthUserAdd = u
	case "user delete":
		q.AuthUserDelete = &pb.AuthUserDeleteRequest{Name: p.next()}
	case "user password":
		name := p.next()
		q.AuthUserChangePassword = &pb.AuthUserChangePasswordRequest{Name: name, HashedPassword: hash("new " + name)}
	case "user grant":
		q.AuthUserGrantRole = &pb.AuthUserGrantRoleRequest{User: p.next(), Role: p.next()}
	case "user revoke":
		q.AuthUserRevokeRole = &pb.AuthUserRevokeRoleRequest{Name: p.next(), Role: p.next()}
	case "role add":
		q.AuthRoleAdd = &pb.AuthRoleAddRequest{Name: strings.Trim(p.next(), `"`)}
	case "role delete":
		q.AuthRoleDelete = &pb.AuthRoleDeleteRequest{Role: p.next()}
	case "role grant":
		q.AuthRoleGrantPermission = &pb.AuthRoleGrantPermissionRequest{Name: p.next(), Perm: p.permission()}
	case "role revoke":
		r := &pb.AuthRoleRevokePermissionRequest{Role: p.next(), Key: []byte(p.next())}
		if p.peek() != "" {
			r.RangeEnd = end(p.next())
		}
		q.AuthRoleRevokePermission = r
	default:
		name, is := strings.CutPrefix(verb, "login ")
		if !is {
			p.t.Fatalf("unknown command %q", verb)
		}
		q.Authenticate = &pb.InternalAuthenticateRequest{Name: name, SimpleToken: p.next()}
	}
}

func (p *parser) permission() *authpb.Permission {
	if p.peek() == "" {
		return nil
	}
	kinds := map[string]authpb.Permission_Type{"read": authpb.READ, "write": authpb.WRITE, "both": authpb.READWRITE}
	kind, known := kinds[p.next()]
	if !known {
		p.t.Fatal("a permission is to read, write, or both")
	}
	m := &authpb.Permission{PermType: kind, Key: []byte(strings.Trim(p.next(), `"`))}
	if p.peek() != "" {
		m.RangeEnd = end(p.next())
	}
	return m
}

// users shows what readers see.
func (b *bench) users() string {
	s := b.auth.State()
	var out strings.Builder
	fmt.Fprintf(&out, "on: %v, revision %d\n", s.Enabled(), s.Revision())
	for _, name := range s.Users() {
		u, _ := s.User(name)
		fmt.Fprintf(&out, "user %s: %q", name, u.Hash)
		if u.NoPassword {
			out.WriteString(" no password")
		}
		fmt.Fprintf(&out, " %v\n", u.Roles)
	}
	for _, name := range s.Roles() {
		fmt.Fprintf(&out, "role %s:", name)
		permissions, _ := s.Role(name)
		for _, p := range permissions {
			fmt.Fprintf(&out, " %s %q", strings.ToLower(p.PermType.String()), p.Key)
			if len(p.RangeEnd) > 0 {
				fmt.Fprintf(&out, "..%q", p.RangeEnd)
			}
		}
		out.WriteString("\n")
	}
	return out.String()
}
