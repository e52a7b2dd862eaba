package node

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/api"
	"holdfast/membership"
	"holdfast/server"
	"holdfast/test/etcd"
)

// TestOpenTellsWhy opens nodes that cannot be opened, one for its address and one for its member, and expects the reason.
func TestOpenTellsWhy(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{ClientURLs: []url.URL{{Scheme: "http", Host: "127.0.0.1:99999"}}}, "--listen-client-urls"},
		{Config{Server: server.Config{Log: log}}, "DataDir"},
	} {
		n, err := Open(t.Context(), c.cfg)
		if n != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("opened %v with error %v, wanted one about %s", n, err, c.want)
		}
	}
}

// testConfig is a node on free ports of the loopback with its data in dir.
func testConfig(dir string) Config {
	log := slog.New(slog.DiscardHandler)
	peers := []string{"http://localhost:2380"}
	loopback := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	return Config{
		ClientURLs: loopback, PeerURLs: loopback, HTTPURLs: loopback, MetricsURLs: loopback, Log: log,
		Server: server.Config{
			DataDir: dir, Name: "default",
			Founders:  []membership.Member{{ID: membership.MemberID(peers, "etcd-cluster", 0), Name: "default", PeerURLs: peers}},
			Heartbeat: 10 * time.Millisecond, ElectionTicks: 10, PreVote: true,
			SnapshotEvery: 10000, CatchUpEntries: 5000, SegmentBytes: 1 << 20, RequestBytesMax: 1 << 20, LearnersMax: 1, Log: log,
		},
		API: api.Config{RequestBytesMax: 1 << 20, TxnOpsMax: 128, ElectionTimeout: 100 * time.Millisecond, Log: log},
	}
}

// occupied is an address on which somebody listens until the test ends.
func occupied(t *testing.T) url.URL {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return url.URL{Scheme: "http", Host: l.Addr().String()}
}

// free is an address on which nobody listens.
func free(t *testing.T) url.URL {
	t.Helper()
	return url.URL{Scheme: "http", Host: etcd.FreeAddress(t)}
}

// TestOpenLeavesNothingOpen: whatever the reason, the addresses taken before it are free again, and no data is touched
// because of an address.
func TestOpenLeavesNothingOpen(t *testing.T) {
	taken := occupied(t)
	for name, c := range map[string]struct {
		spoil func(t *testing.T, cfg *Config)
		want  string
		data  bool // the directory is made before the reason is found
	}{
		"a client address in use":  {func(_ *testing.T, cfg *Config) { cfg.ClientURLs = append(cfg.ClientURLs, taken) }, "--listen-client-urls", false},
		"a peer address in use":    {func(_ *testing.T, cfg *Config) { cfg.PeerURLs = []url.URL{taken} }, "--listen-peer-urls", false},
		"an HTTP address in use":   {func(_ *testing.T, cfg *Config) { cfg.HTTPURLs = []url.URL{taken} }, "--listen-client-http-urls", false},
		"a metrics address in use": {func(_ *testing.T, cfg *Config) { cfg.MetricsURLs = []url.URL{taken} }, "--listen-metrics-urls", false},
		"a directory of etcd": {func(t *testing.T, cfg *Config) {
			snap := filepath.Join(cfg.Server.DataDir, "member", "snap")
			if err := errors.Join(os.MkdirAll(snap, 0o755), os.WriteFile(filepath.Join(snap, "db"), nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		}, "belongs to etcd", true},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(filepath.Join(t.TempDir(), "d"))
			mine := free(t)
			cfg.ClientURLs = []url.URL{mine}
			c.spoil(t, &cfg)
			for range 2 {
				n, err := Open(t.Context(), cfg)
				if n != nil || err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("opened %v: %v", n, err)
				}
			}
			l, err := net.Listen("tcp", mine.Host)
			if err != nil {
				t.Fatalf("the address is still taken: %v", err)
			}
			l.Close()
			if _, err := os.Stat(cfg.Server.DataDir); (err == nil) != c.data {
				t.Errorf("the data directory: %v", err)
			}
		})
	}
}

// get asks an address over HTTP.
func get(t *testing.T, client *http.Client, url string) (int, string) {
	t.Helper()
	r, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(body)
}

// TestRun opens every kind of door, asks at each, and stops: the addresses are free and the data can be opened again.
func TestRun(t *testing.T) {
	cfg := testConfig(t.TempDir())
	socket := filepath.Join(t.TempDir(), "s")
	cfg.ClientURLs = append(cfg.ClientURLs, url.URL{Scheme: "unix", Path: socket})
	for _, own := range [][]url.URL{cfg.HTTPURLs, nil} { // HTTP has a door of its own, and shares one
		cfg.HTTPURLs = own
		n, err := Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- n.Run(ctx) }()
		overSocket := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}}}
		type question struct {
			client *http.Client
			at     net.Addr
			path   string
		}
		questions := map[string]question{
			"metrics": {http.DefaultClient, n.constant.Metrics[0].Addr(), "/metrics"}, "peers": {http.DefaultClient, n.constant.Peers[0].Addr(), "/members"},
		}
		if own != nil {
			questions["HTTP"] = question{http.DefaultClient, n.at.HTTP[0].Addr(), "/version"}
		} else {
			questions["clients"] = question{http.DefaultClient, n.ClientAddrs()[0], "/health"}
			questions["the socket"] = question{overSocket, n.constant.Metrics[0].Addr(), "/health"}
		}
		for what, c := range questions {
			if code, body := get(t, c.client, "http://"+c.at.String()+c.path); code != http.StatusOK {
				t.Errorf("%s: %d %s", what, code, body)
			}
		}
		cancel()
		if err := errors.Join(<-ended, n.Close()); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is still there: %v", err)
		}
	}
}

// TestServesWithoutQuorum runs one of three founders: it cannot be ready for clients, but other members and those who watch over it
// are answered, and it ends when it is told to.
func TestServesWithoutQuorum(t *testing.T) {
	cfg := testConfig(t.TempDir())
	for _, name := range []string{"b", "c"} { // names that never resolve
		urls := []string{"http://" + name + ".invalid:2380"}
		cfg.Server.Founders = append(cfg.Server.Founders, membership.Member{ID: membership.MemberID(urls, "etcd-cluster", 0), Name: name, PeerURLs: urls})
	}
	n, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	metrics, peers := "http://"+n.constant.Metrics[0].Addr().String(), "http://"+n.constant.Peers[0].Addr().String()
	if code, body := get(t, http.DefaultClient, metrics+"/health"); code != http.StatusServiceUnavailable || !strings.Contains(body, "RAFT NO LEADER") {
		t.Errorf("health: %d %s", code, body)
	}
	if code, body := get(t, http.DefaultClient, peers+"/version"); code != http.StatusOK {
		t.Errorf("version: %d %s", code, body)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) { // the founding is applied in a moment
		code, body := get(t, http.DefaultClient, peers+"/members")
		if code == http.StatusOK && strings.Contains(body, "b.invalid") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("members: %d %s", code, body)
		}
	}
	select {
	case <-n.Member().Ready():
		t.Error("ready without a quorum")
	default:
	}
	cancel()
	if err := errors.Join(<-ended, n.Close()); err != nil {
		t.Error(err)
	}
}

// TestUnixSockets: what a killed process left behind makes room; a socket that somebody serves, and a file that is no
// socket, stay.
func TestUnixSockets(t *testing.T) {
	dir := t.TempDir()
	file, served, left := filepath.Join(dir, "file"), filepath.Join(dir, "served"), filepath.Join(dir, "left")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{served, left} {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		defer l.Close()
		if path == left {
			l.Close()
		}
	}
	if _, err := (&Config{}).listen(url.URL{Scheme: "unix", Path: file}, "--flag"); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("on a file: %v", err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "precious" {
		t.Errorf("the file is %q, %v", text, err)
	}
	if _, err := (&Config{}).listen(url.URL{Scheme: "unix", Path: served}, "--flag"); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("on a socket that is served: %v", err)
	}
	l, err := (&Config{}).listen(url.URL{Scheme: "unix", Path: left}, "--flag")
	if err != nil {
		t.Fatalf("on a socket that was left: %v", err)
	}
	l.Close()
}
