// Package run starts server programs for whole-system tests: one process with a data folder of its own, on loopback
// ports of its own, killed and started again at will.
//
// The programs may be ours or etcd's: both take the same flags and answer the same gRPC. A process is ended by its own
// id only, and always before the test ends.
//
//	Shape   <dir>/data        --data-dir
//	        <dir>/server.log  standard output and error of every start, one after the other
//	Errors  a start that ends or stays silent returns the last lines of the log
package run

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"holdfast/test/etcd"
)

// startTimeout bounds the time from exec to the first answer. A server needs about a second; the rest is for a machine
// that compiles beside the test.
const startTimeout = 30 * time.Second

// Config says what to start. A zero Env inherits the environment of the test.
type Config struct {
	Binary string   // path of the program
	Dir    string   // folder for data and log; must exist
	Args   []string // flags beside those of the ports and the data folder
	Env    []string // added to the environment, "NAME=value"
	Within []string // a command that becomes the program: it is given the path and the flags

	// StartTimeout bounds the time from exec to the first answer; startTimeout when 0.
	StartTimeout time.Duration

	// Name is the member's; "m" when empty. Cluster is its --initial-cluster; the member alone when empty.
	Name    string
	Cluster string

	// AdvertisePeer and AdvertiseClient are advertised in place of the real addresses when set. Members whose
	// advertised peer URLs, names and tokens agree get the same member and cluster id.
	AdvertisePeer   string
	AdvertiseClient string

	// TLS is that of a client; with it the client port is https. SecurePeers makes the peer port https. The flags that name the
	// files are the caller's.
	TLS         *tls.Config
	SecurePeers bool
}

// scheme is that of a port.
func scheme(secure bool) string {
	if secure {
		return "https://"
	}
	return "http://"
}

// PeerURL is under what other members reach this one, unless it advertises something else.
func (s *Server) PeerURL() string { return scheme(s.cfg.SecurePeers) + s.Peer }

// ClientURL is under what clients reach the member, unless it advertises something else.
func (s *Server) ClientURL() string { return scheme(s.cfg.TLS != nil) + s.Client }

// TLS is what a client needs to reach the client port; nil where it speaks no TLS.
func (s *Server) TLS() *tls.Config { return s.cfg.TLS }

// Binary is the program.
func (s *Server) Binary() string { return s.cfg.Binary }

// Dial connects to the client port.
func (s *Server) Dial() (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if s.cfg.TLS != nil {
		creds = credentials.NewTLS(s.cfg.TLS)
	}
	return grpc.NewClient(s.Client, grpc.WithTransportCredentials(creds))
}

// Server is one member: a place for data, two ports, and at most one process.
type Server struct {
	Process
	Client string // address of the client port, "127.0.0.1:port"
	Peer   string // address of the peer port
	Data   string // the data folder

	cfg Config
}

// Start picks free ports, starts the program and returns once it answers a linearizable read.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	s, err := Place(cfg)
	if err != nil {
		return nil, err
	}
	if err := s.Restart(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Place picks free ports and starts nothing: what the members of a cluster need before the first of them can start.
func Place(cfg Config) (*Server, error) {
	ports, err := etcd.FreeAddresses(2)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", cfg.Binary, err)
	}
	return &Server{
		Process: Process{Log: filepath.Join(cfg.Dir, "server.log")},
		Client:  ports[0],
		Peer:    ports[1],
		Data:    filepath.Join(cfg.Dir, "data"),
		cfg:     cfg,
	}, nil
}

// Join sets the value of --initial-cluster for the starts to come.
func (s *Server) Join(cluster string) { s.cfg.Cluster = cluster }

// Restart starts the program again on the same data and ports and returns once it answers. The previous process must
// have ended.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.Launch(); err != nil {
		return err
	}
	if err := s.waitReady(ctx); err != nil {
		s.Kill()
		return fmt.Errorf("start %s: %w\n%s", s.cfg.Binary, err, s.LogTail(20))
	}
	return nil
}

// Launch is Restart without the wait: a member of a cluster answers only when others run too.
func (s *Server) Launch() error {
	return s.Exec(slices.Concat(s.cfg.Within, []string{s.cfg.Binary}, s.args()), s.cfg.Env)
}

// args joins the flags of the ports with those of the caller, which come last and so win.
func (s *Server) args() []string {
	advertisePeer, advertiseClient := s.cfg.AdvertisePeer, s.cfg.AdvertiseClient
	if advertisePeer == "" {
		advertisePeer = s.PeerURL()
	}
	if advertiseClient == "" {
		advertiseClient = s.ClientURL()
	}
	name, cluster := cmp.Or(s.cfg.Name, "m"), s.cfg.Cluster
	if cluster == "" {
		cluster = name + "=" + advertisePeer
	}
	return append([]string{
		"--name=" + name,
		"--data-dir=" + s.Data,
		"--listen-client-urls=" + s.ClientURL(),
		"--advertise-client-urls=" + advertiseClient,
		"--listen-peer-urls=" + s.PeerURL(),
		"--initial-advertise-peer-urls=" + advertisePeer,
		"--initial-cluster=" + cluster,
	}, s.cfg.Args...)
}

// waitReady returns once the server answers a linearizable read, or when its process ends first.
func (s *Server) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(s.cfg.StartTimeout, startTimeout))
	defer cancel()
	conn, err := s.Dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	for {
		attempt, stop := context.WithTimeout(ctx, time.Second)
		_, err := pb.NewKVClient(conn).Range(attempt, &pb.RangeRequest{Key: []byte{0}})
		stop()
		if err == nil {
			return nil
		}
		select {
		case <-s.done:
			return errors.New("it ended before it answered")
		case <-ctx.Done():
			return fmt.Errorf("no answer: %w", err)
		case <-time.After(20 * time.Millisecond):
			conn.ResetConnectBackoff()
			conn.Connect()
		}
	}
}
