package security

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"holdfast/test/etcd"
	"holdfast/test/run"
)

// TestNamesOfCertificates has clients ask whom their certificates name, with and without a token, over gRPC and as JSON. Ours
// and etcd tell each the same.
func TestNamesOfCertificates(t *testing.T) {
	ours := told(t, run.Holdfast(t))
	theirs := told(t, etcd.Binary(t, "etcd"))
	if !slices.Equal(ours, theirs) || len(ours) == 0 {
		t.Errorf("they differ")
		for i := range max(len(ours), len(theirs)) {
			t.Logf("etcd:     %v\nholdfast: %v", at(theirs, i), at(ours, i))
		}
	}
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return ""
}

// told is what clients of a server are told, line by line.
func told(t *testing.T, binary string) []string {
	t.Helper()
	p := newParty(t)
	cfg := p.demanding("--bcrypt-cost=4")
	cfg.Binary = binary
	p.startAs(cfg)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	clients := map[string]*tls.Config{}
	for _, name := range []string{"root", "alice", "stranger", ""} {
		clients[name] = p.client(name, p.ca, p.ca)
	}
	dial := func(name string) *grpc.ClientConn {
		conn, err := grpc.NewClient(p.Client, grpc.WithTransportCredentials(credentials.NewTLS(clients[name])))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() }) // fails only when closed already
		return conn
	}
	token := withUsers(ctx, t, pb.NewAuthClient(dial("root")))
	var lines []string
	note := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for _, name := range []string{"root", "alice", "stranger", ""} {
		conn := dial(name)
		for _, shown := range []string{"", token, "worth nothing"} {
			ctx := ctx
			if shown != "" {
				ctx = metadata.AppendToOutgoingContext(ctx, "token", shown)
			}
			_, err := pb.NewKVClient(conn).Put(ctx, &pb.PutRequest{Key: []byte("a")})
			note("%q, token %t: put a: %v", name, shown == token, err)
			_, err = pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte("k")})
			note("%q, token %t: get k: %v", name, shown == token, err)
			_, err = pb.NewMaintenanceClient(conn).HashKV(ctx, &pb.HashKVRequest{})
			note("%q, token %t: hash: %v", name, shown == token, err)
		}
		if name != "" { // etcd's gateway shows a certificate to its own member that does not do for a client
			note("%q as JSON: %s", name, post(ctx, t, clients[name], "https://"+p.Client+"/v3/kv/range", `{"key":"YQ=="}`))
		}
	}
	return lines
}

// withUsers makes alice, who may read and write a, and root, switches authentication on, and gives alice's token. The caller's
// certificate says root.
func withUsers(ctx context.Context, t *testing.T, auth pb.AuthClient) (token string) {
	t.Helper()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "root", Options: &authpb.UserAddOptions{NoPassword: true}}))
	must(auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "alice", Password: "a password"}))
	must(auth.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"}))
	must(auth.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: "a"}))
	must(auth.RoleGrantPermission(ctx, &pb.AuthRoleGrantPermissionRequest{Name: "a",
		Perm: &authpb.Permission{Key: []byte("a"), PermType: authpb.Permission_READWRITE}}))
	must(auth.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: "alice", Role: "a"}))
	must(auth.AuthEnable(ctx, &pb.AuthEnableRequest{}))
	r, err := auth.Authenticate(ctx, &pb.AuthenticateRequest{Name: "alice", Password: "a password"})
	must(r, err)
	return r.Token
}

// post gives the status and the body of an answer.
func post(ctx context.Context, t *testing.T, as *tls.Config, url, body string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: as}}
	defer client.CloseIdleConnections()
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	r, err := client.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	answer, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %s", r.StatusCode, answer)
}
