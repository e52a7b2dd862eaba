package proxy

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"holdfast/tlsconf"
	"holdfast/tlsconf/tlstest"
)

// side opens the files of a certificate that an authority has issued, and wants the same of others.
func side(t *testing.T, ca *tlstest.Pair, name string) *tlsconf.Side {
	t.Helper()
	dir := t.TempDir()
	caFile := filepath.Join(dir, "ca.pem")
	tlstest.Write(t, caFile, ca.CertPEM())
	cert, key := ca.Issue(t, tlstest.Leaf{Name: name, Hosts: []string{"127.0.0.1"}}).Files(t, dir, "leaf")
	s, err := tlsconf.Open(tlsconf.Options{
		CertFile: cert, KeyFile: key, TrustedCAFile: caFile, Protocols: []string{"h2", "http/1.1"}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestTLS: a proxy speaks TLS to clients and to what is behind it, and lets in nobody without a certificate.
func TestTLS(t *testing.T) {
	ca := tlstest.NewCA(t, "ca")
	inner := newFront(t, nil)
	quiet := slog.New(slog.DiscardHandler)
	_, behind := serve(t, Config{Endpoints: []string{inner.server.Client}, Log: quiet}, side(t, ca, "behind"))
	towards := side(t, ca, "")
	_, front := serve(t, Config{Endpoints: []string{"https://" + behind}, TLS: towards, Log: quiet}, side(t, ca, "front"))
	client := side(t, ca, "client").Client("127.0.0.1")
	connect := func(cfg *tls.Config) *grpc.ClientConn {
		c, err := grpc.NewClient(front, grpc.WithTransportCredentials(credentials.NewTLS(cfg)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	c := connect(client)
	put(t, c, "k", "v")
	if got := get(t, dial(t, inner.server.Client), &pb.RangeRequest{Key: []byte("k")}); string(got.Kvs[0].Value) != "v" {
		t.Errorf("at the cluster: %v", got)
	}
	r, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: client}}).Get("https://" + front + "/health")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if body, err := io.ReadAll(r.Body); err != nil || !strings.Contains(string(body), `"true"`) {
		t.Errorf("health over TLS: %s, %v", body, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	stranger := connect(&tls.Config{RootCAs: tlstest.Pool(ca)})
	if _, err := pb.NewKVClient(stranger).Range(ctx, &pb.RangeRequest{Key: []byte("k")}); err == nil {
		t.Error("a client without a certificate is served")
	}
}
