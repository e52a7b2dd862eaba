package output

import (
	"fmt"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"
)

// answered is an answer that says nothing but that something is done.
type answered interface {
	proto.Message
	GetHeader() *pb.ResponseHeader
}

// done shows such an answer; said is its line in the format simple.
func done(m answered, said string) Answer {
	return Answer{
		message: m,
		simple:  func(w *page) { w.line("%s", said) },
		fields:  func(w *page) { w.header(m.GetHeader()) },
	}
}

// RoleAdded is the answer to role add.
func RoleAdded(r *clientv3.AuthRoleAddResponse, role string) Answer {
	return done((*pb.AuthRoleAddResponse)(r), "Role "+role+" created")
}

// RoleDeleted is the answer to role delete.
func RoleDeleted(r *clientv3.AuthRoleDeleteResponse, role string) Answer {
	return done((*pb.AuthRoleDeleteResponse)(r), "Role "+role+" deleted")
}

// PermissionGranted is the answer to role grant-permission.
func PermissionGranted(r *clientv3.AuthRoleGrantPermissionResponse, role string) Answer {
	return done((*pb.AuthRoleGrantPermissionResponse)(r), "Role "+role+" updated")
}

// PermissionRevoked is the answer to role revoke-permission for a key, or a range of them that ends before end.
func PermissionRevoked(r *clientv3.AuthRoleRevokePermissionResponse, role, key, end string) Answer {
	what := "key " + key
	if end != "" {
		what = "range " + keyRange(key, end)
	}
	return done((*pb.AuthRoleRevokePermissionResponse)(r), "Permission of "+what+" is revoked from role "+role)
}

// UserAdded is the answer to user add.
func UserAdded(r *clientv3.AuthUserAddResponse, user string) Answer {
	return done((*pb.AuthUserAddResponse)(r), "User "+user+" created")
}

// UserDeleted is the answer to user delete.
func UserDeleted(r *clientv3.AuthUserDeleteResponse, user string) Answer {
	return done((*pb.AuthUserDeleteResponse)(r), "User "+user+" deleted")
}

// PasswordChanged is the answer to user passwd.
func PasswordChanged(r *clientv3.AuthUserChangePasswordResponse) Answer {
	return done((*pb.AuthUserChangePasswordResponse)(r), "Password updated")
}

// RoleGranted is the answer to user grant-role.
func RoleGranted(r *clientv3.AuthUserGrantRoleResponse, user, role string) Answer {
	return done((*pb.AuthUserGrantRoleResponse)(r), "Role "+role+" is granted to user "+user)
}

// RoleRevoked is the answer to user revoke-role.
func RoleRevoked(r *clientv3.AuthUserRevokeRoleResponse, user, role string) Answer {
	return done((*pb.AuthUserRevokeRoleResponse)(r), "Role "+role+" is revoked from user "+user)
}

// rootRole may do everything, whatever it was granted.
const rootRole = "root"

// Role is the answer to role get.
func Role(answer *clientv3.AuthRoleGetResponse, name string) Answer {
	r := (*pb.AuthRoleGetResponse)(answer)
	return Answer{
		message: r,
		simple: func(w *page) {
			perms := r.GetPerm()
			if name == rootRole && perms == nil {
				perms = []*authpb.Permission{{PermType: authpb.Permission_READWRITE, RangeEnd: []byte(openEnd)}}
			}
			w.line("Role %s", name)
			w.permissions("KV Read:", perms, authpb.Permission_READ)
			w.permissions("KV Write:", perms, authpb.Permission_WRITE)
		},
		fields: func(w *page) {
			w.header(r.GetHeader())
			for _, perm := range r.GetPerm() {
				w.line("%q :  %v", "PermType", perm.GetPermType()) // with two blanks, as in etcd
				w.quoted("Key", string(perm.GetKey()))
				w.quoted("RangeEnd", string(perm.GetRangeEnd()))
			}
		},
	}
}

// permissions lists those of one kind.
func (w *page) permissions(head string, perms []*authpb.Permission, kind authpb.Permission_Type) {
	w.line("%s", head)
	for _, perm := range perms {
		if perm.GetPermType() == kind || perm.GetPermType() == authpb.Permission_READWRITE {
			w.line("\t%s", permitted(string(perm.GetKey()), string(perm.GetRangeEnd())))
		}
	}
}

// openEnd as the end of a range is the end of all keys.
const openEnd = "\x00"

// permitted names the keys of a permission: one, or a range.
func permitted(key, end string) string {
	if end == "" {
		return key
	}
	name := keyRange(key, end)
	if key != "" && clientv3.GetPrefixRangeEnd(key) == end {
		name += " (prefix " + key + ")"
	}
	return name
}

func keyRange(key, end string) string {
	if end == openEnd {
		return "[" + key + ", <open ended>"
	}
	return "[" + key + ", " + end + ")"
}

// Roles is the answer to role list.
func Roles(answer *clientv3.AuthRoleListResponse) Answer {
	r := (*pb.AuthRoleListResponse)(answer)
	return Answer{
		message: r,
		simple:  func(w *page) { w.lines(r.GetRoles()) },
		fields: func(w *page) {
			w.header(r.GetHeader())
			text := ""
			for _, role := range r.GetRoles() {
				text += fmt.Sprintf(" %q", role)
			}
			w.line("%q :%s", "Roles", text)
		},
	}
}

// User is the answer to user get.
func User(answer *clientv3.AuthUserGetResponse, name string) Answer {
	r := (*pb.AuthUserGetResponse)(answer)
	return Answer{message: r, simple: func(w *page) {
		roles := ""
		for _, role := range r.GetRoles() {
			roles += " " + role
		}
		w.line("User: %s\nRoles:%s", name, roles)
	}}
}

// Users is the answer to user list.
func Users(answer *clientv3.AuthUserListResponse) Answer {
	r := (*pb.AuthUserListResponse)(answer)
	return Answer{message: r, simple: func(w *page) { w.lines(r.GetUsers()) }}
}

// AuthStatus is the answer to auth status.
func AuthStatus(answer *clientv3.AuthStatusResponse) Answer {
	r := (*pb.AuthStatusResponse)(answer)
	return Answer{message: r, simple: func(w *page) {
		w.line("Authentication Status: %v\nAuthRevision: %d", r.GetEnabled(), r.GetAuthRevision())
	}}
}
