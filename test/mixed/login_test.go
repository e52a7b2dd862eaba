package mixed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// TestLogins has users log in at members of both kinds and use what they get at all others: tokens are good and end
// everywhere alike, simple ones and signed ones.
func TestLogins(t *testing.T) {
	if testing.Short() {
		t.Skip("starts clusters")
	}
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("shared by all members of the cluster"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"simple", "jwt,sign-method=HS256,ttl=10m,priv-key=" + key} {
		t.Run(kind[:3], func(t *testing.T) {
			cluster := open(t, []Kind{Etcd, Holdfast, Holdfast}, "--auth-token="+kind, "--bcrypt-cost=4")
			if err := cluster.logins(t.Context(), kind == "simple"); err != nil {
				t.Fatalf("%v\nlogs are kept in %s", err, keepLogs(t, cluster))
			}
			if err := cluster.Healthy(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// logins makes users, switches authentication on, and off again at the end. dropped tells whether a new password takes the tokens
// of before; signed ones are only too old then.
func (c *Cluster) logins(ctx context.Context, dropped bool) error {
	if err := makeUsers(ctx, pb.NewAuthClient(c.Members[0].conn)); err != nil {
		return err
	}
	root, err := c.Members[1].login(ctx, "root", "top")
	if err != nil {
		return err
	}
	for round := range len(c.Members) {
		given := c.Members[round]
		password := fmt.Sprint("password ", round)
		// At one member the password is changed, at another the user logs in, and at all it asks.
		_, err := pb.NewAuthClient(c.Members[(round+1)%3].conn).UserChangePassword(withToken(ctx, root), &pb.AuthUserChangePasswordRequest{Name: "alice", Password: password})
		if err != nil {
			return fmt.Errorf("change the password at %s: %w", c.Members[(round+1)%3], err)
		}
		if root, err = c.Members[(round+2)%3].login(ctx, "root", "top"); err != nil { // a signed token is too old by now
			return err
		}
		alice, err := given.login(ctx, "alice", password)
		if err != nil {
			return err
		}
		for _, m := range c.Members {
			if err := m.asks(ctx, alice); err != nil {
				return fmt.Errorf("a token of %s at %s: %w", given, m, err)
			}
		}
		_, err = pb.NewAuthClient(given.conn).UserChangePassword(withToken(ctx, root), &pb.AuthUserChangePasswordRequest{Name: "alice", Password: "other"})
		if err != nil {
			return err
		}
		if root, err = given.login(ctx, "root", "top"); err != nil {
			return err
		}
		want := rpctypes.ErrGRPCAuthOldRevision
		if dropped {
			want = rpctypes.ErrGRPCInvalidAuthToken
		}
		for _, m := range c.Members {
			err := c.await(ctx, "the token to end", func() error {
				_, err := m.put(ctx, alice, "a")
				if err == nil || err.Error() != want.Error() {
					return fmt.Errorf("%s: %v, want %v", m, err, want)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	_, err = pb.NewAuthClient(c.Members[1].conn).AuthDisable(withToken(ctx, root), &pb.AuthDisableRequest{})
	return err
}

func makeUsers(ctx context.Context, auth pb.AuthClient) error {
	for _, name := range []string{"root", "alice"} {
		if _, err := auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: name, Password: "top"}); err != nil {
			return err
		}
	}
	if _, err := auth.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: "letters"}); err != nil {
		return err
	}
	letters := &authpb.Permission{Key: []byte("a"), RangeEnd: []byte("b"), PermType: authpb.Permission_READWRITE}
	if _, err := auth.RoleGrantPermission(ctx, &pb.AuthRoleGrantPermissionRequest{Name: "letters", Perm: letters}); err != nil {
		return err
	}
	for user, role := range map[string]string{"root": "root", "alice": "letters"} {
		if _, err := auth.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: user, Role: role}); err != nil {
			return err
		}
	}
	_, err := auth.AuthEnable(ctx, &pb.AuthEnableRequest{})
	return err
}

func withToken(ctx context.Context, text string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, text)
}

// login gives a user a token at a member.
func (m *Member) login(ctx context.Context, user, password string) (string, error) {
	r, err := pb.NewAuthClient(m.conn).Authenticate(ctx, &pb.AuthenticateRequest{Name: user, Password: password})
	if err != nil {
		return "", fmt.Errorf("log in as %s at %s: %w", user, m, err)
	}
	return r.Token, nil
}

func (m *Member) put(ctx context.Context, token, key string) (*pb.PutResponse, error) {
	return pb.NewKVClient(m.conn).Put(withToken(ctx, token), &pb.PutRequest{Key: []byte(key), Value: []byte(m.Name)})
}

// tokenTries is how often an etcd is asked again that does not know a token yet: it waits for the entry before the one that gives it.
const tokenTries = 100

// asks does with alice's token what alice may and what she may not do.
func (m *Member) asks(ctx context.Context, alice string) error {
	_, err := m.put(ctx, alice, "a")
	for tries := 0; m.Kind == Etcd && errors.Is(rpctypes.Error(err), rpctypes.ErrInvalidAuthToken) && tries < tokenTries; tries++ {
		time.Sleep(50 * time.Millisecond)
		_, err = m.put(ctx, alice, "a")
	}
	if err != nil {
		return fmt.Errorf("put a: %w", err)
	}
	if _, err := m.put(ctx, alice, "k"); status.Code(err) != codes.PermissionDenied {
		return fmt.Errorf("put k: %w", err)
	}
	r, err := pb.NewKVClient(m.conn).Range(withToken(ctx, alice), &pb.RangeRequest{Key: []byte("a")})
	if err != nil || len(r.Kvs) != 1 || string(r.Kvs[0].Value) != m.Name {
		return fmt.Errorf("get a: %v, %w", r, err)
	}
	return nil
}
