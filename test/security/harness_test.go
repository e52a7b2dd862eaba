package security

import (
	"context"
	"crypto/tls"
	"flag"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"holdfast/test/run"
	"holdfast/tlsconf/tlstest"
)

var long = flag.Bool("security.long", false, "run the long forms")

// callTimeout bounds one call. A machine that compiles beside the test is slow.
const callTimeout = 30 * time.Second

// party is a member with TLS, its files, and its clients.
type party struct {
	t   *testing.T
	dir string // of the files
	ca  *tlstest.Pair
	*run.Server
	me atomic.Pointer[tls.Config] // what clients show and believe from now on
}

func (p *party) path(name string) string { return filepath.Join(p.dir, name) }

// newParty makes files: a CA, the certificate of a server, an empty list of revoked certificates, and those of a client.
func newParty(t *testing.T) *party {
	t.Helper()
	p := &party{t: t, dir: t.TempDir(), ca: tlstest.NewCA(t, "first")}
	p.ca.Issue(t, tlstest.Leaf{Name: "member", Hosts: []string{"127.0.0.1", "localhost"}}).Files(t, p.dir, "server")
	tlstest.Write(t, p.path("ca.pem"), p.ca.CertPEM())
	tlstest.Write(t, p.path("crl"), p.ca.Revoke(t))
	p.me.Store(p.client("client", p.ca, p.ca))
	return p
}

// client is somebody with a certificate of one authority who believes others.
func (p *party) client(name string, by *tlstest.Pair, believes ...*tlstest.Pair) *tls.Config {
	p.t.Helper()
	return p.configOf(by.Issue(p.t, tlstest.Leaf{Name: name, ClientOnly: true}), believes...)
}

func (p *party) configOf(pair *tlstest.Pair, believes ...*tlstest.Pair) *tls.Config {
	p.t.Helper()
	cert, err := tls.X509KeyPair(pair.CertPEM(), pair.KeyPEM(p.t))
	if err != nil {
		p.t.Fatal(err)
	}
	return &tls.Config{RootCAs: tlstest.Pool(believes...), ServerName: "127.0.0.1", Certificates: []tls.Certificate{cert}}
}

// start runs a member that demands certificates of its clients.
func (p *party) start(args ...string) {
	p.t.Helper()
	p.startAs(p.demanding(args...))
}

// demanding are the settings of a member that demands certificates of its clients.
func (p *party) demanding(args ...string) run.Config {
	return run.Config{TLS: p.me.Load(), Args: append([]string{
		"--cert-file=" + p.path("server.pem"), "--key-file=" + p.path("server-key.pem"), "--client-cert-auth",
		"--trusted-ca-file=" + p.path("ca.pem"), "--client-crl-file=" + p.path("crl"),
	}, args...)}
}

func (p *party) startAs(cfg run.Config) {
	p.t.Helper()
	cfg.Dir = p.t.TempDir()
	if cfg.Binary == "" {
		cfg.Binary = run.Holdfast(p.t)
	}
	var err error
	if p.Server, err = run.Start(p.t.Context(), cfg); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(p.Kill)
}

// put writes once over a connection.
func put(ctx context.Context, conn *grpc.ClientConn, key string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := pb.NewKVClient(conn).Put(ctx, &pb.PutRequest{Key: []byte(key), Value: []byte("v")})
	return err
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
