package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"holdfast"
	"holdfast/kv"
	"holdfast/test/etcd"
)

// stores run a store for members to register in, and return its endpoint.
var stores = map[string]func(t *testing.T) string{"etcd": startEtcd, "holdfast": startHoldfast}

func startHoldfast(t *testing.T) string {
	m, err := holdfast.Start(t.Context(), holdfast.Config{DataDir: t.TempDir(), ListenClient: []string{"http://127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Stop(); err != nil {
			t.Error(err)
		}
	})
	return m.ClientAddrs()[0].String()
}

func startEtcd(t *testing.T) string {
	return strings.TrimPrefix(runEtcd(t, etcd.FreeURL(t)), "http://")
}

// runEtcd starts an etcd until the test ends, and returns the URL for clients.
func runEtcd(t *testing.T, peer string, flags ...string) string {
	t.Helper()
	client := etcd.FreeURL(t)
	cmd := exec.Command(etcd.Binary(t, "etcd"), append([]string{
		"--name", "e", "--data-dir", t.TempDir(), "--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--unsafe-no-fsync",
	}, flags...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // it was killed, and says so
	})
	return client
}

// put writes as whoever prepares a cluster does.
func put(t *testing.T, endpoint, key, value string) {
	t.Helper()
	conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := pb.NewKVClient(conn).Put(t.Context(), &pb.PutRequest{Key: []byte(key), Value: []byte(value)}, grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
}

func service(token string, endpoints ...string) *Service {
	return &Service{
		Endpoints: endpoints, Token: token, Plain: true, DialTimeout: 2 * time.Second, RequestTimeout: 5 * time.Second,
		KeepAliveTime: 2 * time.Second, KeepAliveTimeout: 6 * time.Second, Log: slog.New(slog.DiscardHandler),
	}
}

func pair(i int) string { return fmt.Sprintf("m%d=http://host%d:2380", i, i) }

// TestService: as many members as the cluster is to have find each other, in one order; later ones are refused, and whoever
// comes again hears the same.
func TestService(t *testing.T) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			endpoint := open(t)
			down := etcd.FreeAddress(t)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			put(t, endpoint, "/_etcd/registry/bad/_config/size", "three")
			put(t, endpoint, "/_etcd/registry/zero/_config/size", "0")
			for token, want := range map[string]error{"none": ErrSizeNotFound, "bad": ErrBadSize, "zero": ErrBadSize} {
				if got, err := service(token, endpoint).Join(ctx, 1, pair(1)); !errors.Is(err, want) {
					t.Errorf("%s: %q, %v", token, got, err)
				}
			}
			put(t, endpoint, "/_etcd/registry/t/_config/size", "3")
			put(t, endpoint, "/_etcd/registry/t/members/trash", "no member")
			put(t, endpoint, "/_etcd/registry/t/members2/ff", "x=http://x:1")
			clusters := make([]string, 3)
			var g errgroup.Group
			for i := range clusters {
				g.Go(func() (err error) {
					time.Sleep(time.Duration(i) * 100 * time.Millisecond) // so that the first ones wait
					clusters[i], err = service("t", down, "http://"+endpoint).Join(ctx, kv.MemberID(0xa0+i), pair(i))
					return err
				})
			}
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
			members := strings.Split(clusters[0], ",")
			slices.Sort(members)
			if clusters[1] != clusters[0] || clusters[2] != clusters[0] || !slices.Equal(members, []string{pair(0), pair(1), pair(2)}) {
				t.Errorf("members see %q", clusters)
			}
			if _, err := service("t", endpoint).Join(ctx, 0xa3, pair(3)); !errors.Is(err, ErrFull) {
				t.Errorf("a fourth member of three: %v", err)
			}
			if again, err := service("t", endpoint).Join(ctx, 0xa1, pair(1)); err != nil || again != clusters[0] {
				t.Errorf("a member comes again and sees %q, %v", again, err)
			}
			put(t, endpoint, "/_etcd/registry/one/_config/size", "1")
			if got, err := service("one", endpoint).Join(ctx, 1, "m=nowhere"); !errors.Is(err, ErrInvalidURL) {
				t.Errorf("without a URL: %q, %v", got, err)
			}
		})
	}
}

// TestServiceWithEtcd: an etcd that registers in the same list and this member see each other.
func TestServiceWithEtcd(t *testing.T) {
	endpoint, peer := startHoldfast(t), etcd.FreeURL(t)
	put(t, endpoint, "/_etcd/registry/both/_config/size", "2")
	runEtcd(t, peer, "--discovery-token", "both", "--discovery-endpoints", "http://"+endpoint)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got, err := service("both", endpoint).Join(ctx, 0xa0, pair(0))
	members := strings.Split(got, ",")
	slices.Sort(members)
	if err != nil || !slices.Equal(members, []string{"e=" + peer, pair(0)}) {
		t.Errorf("%q, %v", got, err)
	}
}

// TestServiceIsWaitedFor: a service that is not there is asked again, until the member is told to end.
func TestServiceIsWaitedFor(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	if _, err := service("t", etcd.FreeAddress(t)).Join(ctx, 1, pair(1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// TestServiceOverTLS: a URL of https, or the setting, speaks TLS; a certificate that nobody vouches for is refused unless the
// setting takes any.
func TestServiceOverTLS(t *testing.T) {
	client := "https://" + etcd.FreeAddress(t)
	runEtcd(t, etcd.FreeURL(t), "--auto-tls", "--listen-client-urls", client, "--advertise-client-urls", client)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s := service("none", client)
	s.SkipVerify = true
	if got, err := s.Join(ctx, 1, pair(1)); !errors.Is(err, ErrSizeNotFound) {
		t.Errorf("by the URL: %q, %v", got, err)
	}
	s = service("none", strings.TrimPrefix(client, "https://"))
	s.Plain, s.SkipVerify = false, true
	if got, err := s.Join(ctx, 1, pair(1)); !errors.Is(err, ErrSizeNotFound) {
		t.Errorf("by the setting: %q, %v", got, err)
	}
	short, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if got, err := service("none", client).Join(short, 1, pair(1)); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("unverified: %q, %v", got, err)
	}
}
