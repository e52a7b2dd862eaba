package bench

import (
	"context"
	"errors"
	"math/rand/v2"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// loginCallers is how many log in at once: enough that the log takes many logins in one write. Of etcd few ask: each call is
// some 60 ms of a core there, and none of so many would end while it is measured.
const loginCallers, loginCallersEtcd = 256, 4

// strangerCallers is how many puts with a connection and a login of their own are under way: as many as a script runs side by side.
const strangerCallers = 16

// loginUser logs in.
const loginUser, loginPassword = "root", "a password of usual length"

// login measures how many tokens one user gets per second for its password, at the default cost of a hash.
func login(ctx context.Context, t *task) error {
	n := loginCallers
	if t.side.name == theirs {
		n = loginCallersEtcd
	}
	return calls{
		callers: n,
		prepare: withAuth,
		caller: func(_ *task, c *clients, i int, _ *rand.Rand) caller {
			auth := pb.NewAuthClient(c.conns[i%len(c.conns)])
			return func(ctx context.Context) error {
				_, err := auth.Authenticate(ctx, &pb.AuthenticateRequest{Name: loginUser, Password: loginPassword})
				return err
			}
		},
	}.run(ctx, t)
}

// strangers put one key each over a connection of their own, after a login, as a command in a script does.
func strangers(ctx context.Context, t *task) error {
	return calls{
		callers: strangerCallers,
		prepare: withAuth,
		params:  map[string]any{"value_bytes": valueBytes, "keys": keysFew},
		caller: func(_ *task, c *clients, i int, r *rand.Rand) caller {
			addr := c.conns[i%len(c.conns)].Target()
			return func(ctx context.Context) error { return putAsStranger(ctx, addr, r) }
		},
	}.run(ctx, t)
}

func putAsStranger(ctx context.Context, addr string, r *rand.Rand) error {
	conn, err := grpc.NewClient(addr, plaintext)
	if err != nil {
		return err
	}
	defer conn.Close()
	token, err := pb.NewAuthClient(conn).Authenticate(ctx, &pb.AuthenticateRequest{Name: loginUser, Password: loginPassword})
	if err != nil {
		return err
	}
	ctx = metadata.AppendToOutgoingContext(ctx, "token", token.Token)
	_, err = pb.NewKVClient(conn).Put(ctx, &pb.PutRequest{Key: key(r.IntN(keysFew)), Value: value(r.IntN(1<<20), valueBytes)})
	return err
}

// withAuth makes loginUser and lets nobody in without a login.
func withAuth(ctx context.Context, _ *task, m *members) error {
	c, err := m.dial(1)
	if err != nil {
		return err
	}
	defer c.close()
	auth := pb.NewAuthClient(c.conns[0])
	_, added := auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: loginUser, Password: loginPassword})
	_, granted := auth.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: loginUser, Role: "root"})
	_, enabled := auth.AuthEnable(ctx, &pb.AuthEnableRequest{})
	return errors.Join(added, granted, enabled)
}
