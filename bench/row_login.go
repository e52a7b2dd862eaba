package main

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// loginCallers is how many log in at once: enough that the log takes many logins in one write. Of etcd few ask: each call is
// some 60 ms of a core there, and none of so many would end while it is measured.
const loginCallers, loginCallersEtcd = 256, 4

// loginUser logs in.
const loginUser, loginPassword = "root", "a password of usual length"

// login measures how many tokens one user gets per second for its password, at the default cost of a hash.
func login(ctx context.Context, t *task) error {
	server, err := t.startServer(ctx)
	if err != nil {
		return err
	}
	defer server.Kill()
	n := loginCallers
	if t.side.name == "etcd" {
		n = loginCallersEtcd
	}
	c, err := dial(server.Client, n)
	if err != nil {
		return err
	}
	defer c.close()
	if err := enableAuth(ctx, pb.NewAuthClient(c.conns[0])); err != nil {
		return err
	}
	callers := make([]caller, n)
	for i := range callers {
		auth := pb.NewAuthClient(c.conns[i%len(c.conns)])
		callers[i] = func(ctx context.Context) error {
			_, err := auth.Authenticate(ctx, &pb.AuthenticateRequest{Name: loginUser, Password: loginPassword})
			return err
		}
	}
	t.record.Params = map[string]any{"callers": n, "connections": len(c.conns), "measured_s": measureFor.Seconds()}
	return t.measureCalls(ctx, server.Pid(), callers)
}

func enableAuth(ctx context.Context, auth pb.AuthClient) error {
	_, added := auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: loginUser, Password: loginPassword})
	_, granted := auth.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: loginUser, Role: "root"})
	_, enabled := auth.AuthEnable(ctx, &pb.AuthEnableRequest{})
	return errors.Join(added, granted, enabled)
}
