package security

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"holdfast/test/etcd"
	"holdfast/test/run"
	"holdfast/tlsconf/tlstest"
)

// settleTimeout bounds the waits for a cluster to come to terms.
const settleTimeout = 60 * time.Second

// TestPeersOverTLS runs clusters of etcd and Holdfast whose members demand certificates of each other, check names and have a list of
// revoked certificates; and one in which they make their certificates themselves. Each member takes writes that all the others show, also
// after the leader was killed. Then authorities change under the running cluster, as far as it is ours.
func TestPeersOverTLS(t *testing.T) {
	ours, theirs := run.Holdfast(t), etcd.Binary(t, "etcd")
	for name, c := range map[string]struct {
		binaries []string
		flags    func(p *party) []string
	}{
		"certificates": {[]string{theirs, ours, ours}, func(p *party) []string {
			return []string{
				"--peer-cert-file=" + p.path("server.pem"), "--peer-key-file=" + p.path("server-key.pem"), "--peer-client-cert-auth",
				"--peer-trusted-ca-file=" + p.path("ca.pem"), "--peer-crl-file=" + p.path("crl"), "--peer-cert-allowed-cn=member",
			}
		}},
		"made by themselves": {[]string{ours, theirs, ours}, func(*party) []string { return []string{"--peer-auto-tls"} }},
	} {
		t.Run(name, func(t *testing.T) {
			p := newParty(t)
			ms := p.cluster(c.binaries, func(int) []string { return c.flags(p) })
			everyWriteIsEverywhere(t, ms, "a")
			leader := leaderOf(t, ms)
			ms[leader].Kill()
			rest := append(append([]*run.Server{}, ms[:leader]...), ms[leader+1:]...)
			everyWriteIsEverywhere(t, rest, "b")
			if err := ms[leader].Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			everyWriteIsEverywhere(t, ms, "c")
		})
	}
}

// TestPeersFollowFiles changes the authority of a running cluster, and turns a member away whose certificate was revoked.
func TestPeersFollowFiles(t *testing.T) {
	p := newParty(t)
	ours := run.Holdfast(t)
	leaf := tlstest.Leaf{Name: "member", Hosts: []string{"127.0.0.1"}}
	issue := func(by *tlstest.Pair) {
		for i := range 3 {
			by.Issue(t, leaf).Files(t, p.dir, fmt.Sprint("member", i))
		}
	}
	issue(p.ca)
	ms := p.cluster([]string{ours, ours, ours}, func(i int) []string {
		own := p.path(fmt.Sprint("member", i))
		return []string{"--peer-cert-file=" + own + ".pem", "--peer-key-file=" + own + "-key.pem",
			"--peer-client-cert-auth", "--peer-trusted-ca-file=" + p.path("ca.pem"), "--peer-crl-file=" + p.path("crl")}
	})
	next := tlstest.NewCA(t, "next")
	tlstest.Write(t, p.path("ca.pem"), append(p.ca.CertPEM(), next.CertPEM()...))
	issue(next)
	tlstest.Write(t, p.path("ca.pem"), next.CertPEM())
	for i, m := range ms { // every connection is made anew, by the next authority alone
		m.Kill()
		if err := m.Restart(t.Context()); err != nil {
			t.Fatalf("member %d: %v", i, err)
		}
	}
	everyWriteIsEverywhere(t, ms, "a")

	// The last member shows a certificate that was revoked. It is refused when it connects, and nobody connects to it.
	stolen := next.Issue(t, leaf)
	last := ms[2]
	last.Kill()
	tlstest.Write(t, p.path("crl"), next.Revoke(t, stolen))
	stolen.Files(t, p.dir, "member2")
	if err := last.Launch(); err != nil {
		t.Fatal(err)
	}
	await(t, "the revoked member is turned away", func() error {
		for _, m := range ms[:2] {
			if log := m.LogTail(400); !strings.Contains(log, "rejected connection on peer endpoint") || !strings.Contains(log, "revoked") {
				return errors.New("no word of it")
			}
		}
		return nil
	})
	everyWriteIsEverywhere(t, ms[:2], "b")
	if err := once(t, last, func(ctx context.Context, kv pb.KVClient) error {
		_, err := kv.Range(ctx, &pb.RangeRequest{Key: []byte("b0")})
		return err
	}); err == nil {
		t.Error("the revoked member serves reads of the cluster")
	}
}

// cluster starts members whose peer ports are https, and waits for all.
func (p *party) cluster(binaries []string, flags func(i int) []string) []*run.Server {
	p.t.Helper()
	var ms []*run.Server
	var initial []string
	for i, binary := range binaries {
		name := fmt.Sprint("m", i)
		dir := p.path(name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			p.t.Fatal(err)
		}
		m, err := run.Place(run.Config{Binary: binary, Dir: dir, Name: name, SecurePeers: true, Args: flags(i)})
		if err != nil {
			p.t.Fatal(err)
		}
		p.t.Cleanup(m.Kill)
		ms, initial = append(ms, m), append(initial, name+"="+m.PeerURL())
	}
	for _, m := range ms {
		m.Join(strings.Join(initial, ","))
		if err := m.Launch(); err != nil {
			p.t.Fatal(err)
		}
	}
	return ms
}

// everyWriteIsEverywhere writes to each member, and reads from all.
func everyWriteIsEverywhere(t *testing.T, ms []*run.Server, key string) {
	t.Helper()
	for i, m := range ms {
		key := fmt.Sprint(key, i)
		await(t, "write "+key, func() error {
			return once(t, m, func(ctx context.Context, kv pb.KVClient) error {
				_, err := kv.Put(ctx, &pb.PutRequest{Key: []byte(key), Value: []byte("v")})
				return err
			})
		})
		for _, other := range ms {
			await(t, "read "+key, func() error {
				return once(t, other, func(ctx context.Context, kv pb.KVClient) error {
					r, err := kv.Range(ctx, &pb.RangeRequest{Key: []byte(key)})
					if err == nil && len(r.Kvs) != 1 {
						err = errors.New("not there")
					}
					return err
				})
			})
		}
	}
}

// once makes one call to a member within a second or two.
func once(t *testing.T, m *run.Server, call func(context.Context, pb.KVClient) error) error {
	t.Helper()
	conn, err := m.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	return call(ctx, pb.NewKVClient(conn))
}

// leaderOf is the place of the leader among ms.
func leaderOf(t *testing.T, ms []*run.Server) (leader int) {
	t.Helper()
	await(t, "a leader", func() error {
		for i, m := range ms {
			conn, err := m.Dial()
			if err != nil {
				return err
			}
			defer conn.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			r, err := pb.NewMaintenanceClient(conn).Status(ctx, &pb.StatusRequest{}, grpc.WaitForReady(true))
			if err != nil {
				return err
			}
			if r.Leader == r.Header.MemberId {
				leader = i
				return nil
			}
		}
		return errors.New("nobody leads")
	})
	return leader
}

// await repeats try until it works.
func await(t *testing.T, what string, try func() error) {
	t.Helper()
	deadline := time.Now().Add(settleTimeout)
	for err := try(); err != nil; err = try() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
