package security

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"holdfast/test/run"
)

// TestPromotionByName: an administrator who is known by a certificate has a learner promoted through a follower, which passes it on to the
// leader; others are refused. Where members show each other no certificates the leader takes nobody's word for it, and is asked itself.
func TestPromotionByName(t *testing.T) {
	for name, proven := range map[string]bool{"peers with certificates": true, "peers in the clear": false} {
		t.Run(name, func(t *testing.T) {
			p := newParty(t)
			root := p.client("root", p.ca, p.ca)
			c := &named{p: p, proven: proven, root: root}
			c.place("m0")
			c.place("m1")
			c.launch()
			everyWriteIsEverywhere(t, c.ms, "before")
			ctx := t.Context()
			leader := leaderOf(t, c.ms)
			lead, follower := c.ms[leader], c.ms[1-leader]
			withUsers(ctx, t, pb.NewAuthClient(dialTo(t, lead.Client, root)))
			url := c.place("m2").PeerURL()
			var added *pb.MemberAddResponse
			await(t, "the learner is added", func() (err error) { // members must have been connected for a while
				added, err = pb.NewClusterClient(dialTo(t, lead.Client, root)).MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: []string{url}, IsLearner: true})
				return err
			})
			c.launch()
			promote := func(at *run.Server, as *tls.Config) error {
				conn := dialTo(t, at.Client, as)
				var err error
				await(t, "the learner is ready", func() error { // which is asked only once it is known who asks
					ctx, cancel := context.WithTimeout(ctx, callTimeout)
					defer cancel()
					_, err = pb.NewClusterClient(conn).MemberPromote(ctx, &pb.MemberPromoteRequest{ID: added.Member.ID}, grpc.WaitForReady(true))
					if status.Code(err) == codes.FailedPrecondition && strings.Contains(err.Error(), "in sync") {
						return errors.New("not in sync")
					}
					return nil
				})
				return err
			}
			for _, at := range c.ms[:2] {
				if err := promote(at, p.client("alice", p.ca, p.ca)); status.Code(err) != codes.PermissionDenied {
					t.Errorf("for alice: %v", err)
				}
			}
			err := promote(follower, root)
			switch {
			case proven && err != nil:
				t.Errorf("through the follower: %v", err)
			case !proven && status.Code(err) != codes.PermissionDenied:
				t.Errorf("through a follower that cannot prove who asks: %v", err)
			case !proven:
				if err := promote(lead, root); err != nil {
					t.Errorf("at the leader: %v", err)
				}
			}
		})
	}
}

// named is a cluster whose clients are known by their certificates.
type named struct {
	p      *party
	proven bool // members show each other certificates
	root   *tls.Config
	ms     []*run.Server
}

// place makes room for one more member.
func (c *named) place(name string) *run.Server {
	t, p := c.p.t, c.p
	t.Helper()
	flags := p.demanding("--bcrypt-cost=4").Args
	if c.proven {
		flags = append(flags, "--peer-cert-file="+p.path("server.pem"), "--peer-key-file="+p.path("server-key.pem"),
			"--peer-client-cert-auth", "--peer-trusted-ca-file="+p.path("ca.pem"))
	}
	dir := p.path(name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if len(c.ms) >= 2 {
		flags = append(flags, "--initial-cluster-state=existing")
	}
	m, err := run.Place(run.Config{Binary: run.Holdfast(t), Dir: dir, Name: name, SecurePeers: c.proven, TLS: c.root, Args: flags})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Kill)
	c.ms = append(c.ms, m)
	return m
}

// launch starts the members that do not run.
func (c *named) launch() {
	c.p.t.Helper()
	var all []string
	for i, m := range c.ms {
		all = append(all, fmt.Sprintf("m%d=%s", i, m.PeerURL()))
	}
	for _, m := range c.ms {
		if m.Pid() != 0 {
			continue
		}
		m.Join(strings.Join(all, ","))
		if err := m.Launch(); err != nil {
			c.p.t.Fatal(err)
		}
	}
}
