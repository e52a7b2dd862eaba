package security

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"holdfast/test/etcd"
	"holdfast/test/run"
	"holdfast/tlsconf/tlstest"
)

// TestDiscoveryOverTLS founds a cluster of one through an etcd that demands certificates.
func TestDiscoveryOverTLS(t *testing.T) {
	p := newParty(t)
	p.ca.Issue(t, tlstest.Leaf{Name: "founder", ClientOnly: true}).Files(t, p.dir, "founder")
	service, err := run.Start(t.Context(), run.Config{Binary: etcd.Binary(t, "etcd"), Dir: t.TempDir(), TLS: p.me.Load(), Args: []string{
		"--cert-file=" + p.path("server.pem"), "--key-file=" + p.path("server-key.pem"), "--client-cert-auth", "--trusted-ca-file=" + p.path("ca.pem")}})
	if err != nil {
		t.Fatal(err)
	}
	defer service.Kill()
	conn, err := service.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	kv := pb.NewKVClient(conn)
	if _, err := kv.Put(t.Context(), &pb.PutRequest{Key: []byte("/_etcd/registry/token/_config/size"), Value: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	p.startAs(run.Config{Cluster: ",", Args: []string{"--initial-cluster=", "--discovery-token=token", "--discovery-endpoints=" + service.ClientURL(),
		"--discovery-insecure-transport=false", "--discovery-cacert=" + p.path("ca.pem"),
		"--discovery-cert=" + p.path("founder.pem"), "--discovery-key=" + p.path("founder-key.pem")}})
	r, err := kv.Range(t.Context(), &pb.RangeRequest{Key: []byte("/_etcd/registry/token/members/"), RangeEnd: []byte("/_etcd/registry/token/members0")})
	if err != nil || len(r.Kvs) != 1 {
		t.Fatalf("the service knows %v, %v", r, err)
	}
}
