package discovery

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"holdfast/kv"
)

// The reasons, beside a service that cannot be reached, why a member does not find its cluster.
var (
	// ErrSizeNotFound says that nobody has told the service how many members the cluster is to have.
	ErrSizeNotFound = errors.New("discovery: size key not found")
	// ErrBadSize says that what the service holds is no number of members.
	ErrBadSize = errors.New("discovery: size key is bad")
	// ErrFull says that as many members as the cluster is to have were there before this one.
	ErrFull = errors.New("discovery: cluster is full")
	// ErrInvalidURL says that what members have put into the service is no list of members.
	ErrInvalidURL = errors.New("discovery: invalid peer URL")
)

// Service is an etcd, or a Holdfast, in which the members of a new cluster find each other.
type Service struct {
	Endpoints []string // host:port, or a URL
	Token     string   // names the cluster

	DialTimeout, RequestTimeout     time.Duration
	KeepAliveTime, KeepAliveTimeout time.Duration

	// Plain leaves out TLS, unless a certificate, an authority or a URL asks for it. SkipVerify takes any certificate.
	Plain, SkipVerify bool
	// Cert and Key are our certificate's files, CACert the authorities'. Empty: none, and the system's.
	Cert, Key, CACert string
	// User and Password are told to the service; an empty User is nobody.
	User, Password string

	Log *slog.Logger // required
}

// The pauses between attempts while the service does not answer.
const (
	pauseMin = time.Second
	pauseMax = 16 * time.Second
)

// Join registers a member and waits until the cluster is complete. own is what the member adds, name=url[,name=url];
// the result is the whole in the same form. A service that does not answer is asked again until ctx ends. Registering again,
// after a crash for example, changes nothing.
func (s *Service) Join(ctx context.Context, id kv.MemberID, own string) (string, error) {
	conn, err := s.dial()
	if err != nil {
		return "", err
	}
	cluster, err := (&joining{s, conn, path.Join("/_etcd/registry", s.Token), id.String(), own}).run(ctx)
	return cluster, errors.Join(err, conn.Close())
}

// joining is one Join.
type joining struct {
	*Service
	conn   *grpc.ClientConn
	prefix string
	id     string
	own    string
}

func (j *joining) sizeKey() string    { return j.prefix + "/_config/size" }
func (j *joining) membersKey() string { return j.prefix + "/members" }
func (j *joining) memberKey() string  { return j.membersKey() + "/" + j.id }

// list is who has registered, in the order in which they did.
type list struct {
	size     int
	members  []registered
	revision int64 // at which this was so
}

type registered struct {
	key, urls string
	created   int64 // revision
}

func (j *joining) run(ctx context.Context) (string, error) {
	if _, err := j.look(ctx); err != nil { // before anything is written: there may be no such cluster, or no place in it
		return "", err
	}
	if err := j.insist(ctx, "register member itself", j.register); err != nil {
		return "", err
	}
	for {
		l, err := j.look(ctx)
		if err != nil {
			return "", err
		}
		if len(l.members) >= l.size {
			return l.initialCluster()
		}
		j.Log.Info("waiting for peers from discovery service", "cluster-size", l.size, "found-peers", len(l.members))
		if err := j.insist(ctx, "watch for members", func(ctx context.Context) error { return j.await(ctx, l.revision+1) }); err != nil {
			return "", err
		}
	}
}

// look reads the list, and checks that this member has a place in it or may still get one.
func (j *joining) look(ctx context.Context) (l list, err error) {
	err = j.insist(ctx, "cluster status check", func(ctx context.Context) error {
		l, err = j.read(ctx)
		return err
	})
	if err != nil {
		return l, err
	}
	place := slices.IndexFunc(l.members, func(m registered) bool { return m.key == j.memberKey() })
	if place < 0 {
		place = len(l.members)
	}
	if place >= l.size {
		return l, fmt.Errorf("%w: %d of %d members registered before this one", ErrFull, place, l.size)
	}
	return l, nil
}

// insist repeats what the service does not answer. Answers that will not change end it.
func (j *joining) insist(ctx context.Context, what string, do func(context.Context) error) error {
	for pause := pauseMin; ; pause = min(2*pause, pauseMax) {
		err := do(ctx)
		if err == nil || errors.Is(err, ErrSizeNotFound) || errors.Is(err, ErrBadSize) {
			return err
		}
		j.Log.Warn("retry connecting to discovery service", "reason", what, "backoff", pause, "error", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", ctx.Err(), err)
		}
	}
}

// call bounds a request and says who asks.
func (j *joining) call(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, j.RequestTimeout)
	defer cancel()
	ctx, err := j.authenticated(ctx)
	if err != nil {
		return err
	}
	return do(ctx)
}

// authenticated carries a token of the user, if there is one.
func (j *joining) authenticated(ctx context.Context) (context.Context, error) {
	if j.User == "" {
		return ctx, nil
	}
	r, err := pb.NewAuthClient(j.conn).Authenticate(ctx, &pb.AuthenticateRequest{Name: j.User, Password: j.Password})
	if err != nil {
		return nil, fmt.Errorf("authenticate %s at the discovery service: %w", j.User, err)
	}
	return metadata.AppendToOutgoingContext(ctx, "token", r.GetToken()), nil
}

func (j *joining) read(ctx context.Context) (l list, err error) {
	err = j.call(ctx, func(ctx context.Context) error {
		store := pb.NewKVClient(j.conn)
		size, err := store.Range(ctx, &pb.RangeRequest{Key: []byte(j.sizeKey())})
		if err != nil {
			return err
		}
		if len(size.GetKvs()) == 0 {
			return fmt.Errorf("%w: %s", ErrSizeNotFound, j.sizeKey())
		}
		text := string(size.GetKvs()[0].GetValue())
		if l.size, err = strconv.Atoi(text); err != nil || l.size <= 0 {
			return fmt.Errorf("%w: %s is %q", ErrBadSize, j.sizeKey(), text)
		}
		members, err := store.Range(ctx, j.membersRange())
		if err != nil {
			return err
		}
		l.revision = members.GetHeader().GetRevision()
		for _, m := range members.GetKvs() {
			urls := strings.TrimSpace(string(m.GetValue()))
			if !strings.Contains(urls, "=") {
				j.Log.Warn("invalid peer info returned from discovery service", "member-key", string(m.GetKey()), "member-info", urls)
				continue
			}
			l.members = append(l.members, registered{string(m.GetKey()), urls, m.GetCreateRevision()})
		}
		return nil
	})
	slices.SortFunc(l.members, func(a, b registered) int { return cmp.Compare(a.created, b.created) })
	return l, err
}

// membersRange is all keys of members.
func (j *joining) membersRange() *pb.RangeRequest {
	first := j.membersKey() + "/"
	return &pb.RangeRequest{Key: []byte(first), RangeEnd: []byte(first[:len(first)-1] + "0")} // '0' follows '/'
}

func (j *joining) register(ctx context.Context) error {
	return j.call(ctx, func(ctx context.Context) error {
		_, err := pb.NewKVClient(j.conn).Put(ctx, &pb.PutRequest{Key: []byte(j.memberKey()), Value: []byte(j.own)})
		return err
	})
}

// await returns when a member has registered at a revision or later.
func (j *joining) await(ctx context.Context, revision int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ctx, err := j.authenticated(ctx)
	if err != nil {
		return err
	}
	w, err := pb.NewWatchClient(j.conn).Watch(ctx)
	if err != nil {
		return err
	}
	r := j.membersRange()
	create := &pb.WatchCreateRequest{Key: r.GetKey(), RangeEnd: r.GetRangeEnd(), StartRevision: revision}
	if err := w.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}); err != nil {
		return err
	}
	for {
		got, err := w.Recv()
		switch {
		case err != nil:
			return err
		case len(got.GetEvents()) > 0, got.GetCompactRevision() > 0:
			return nil // what it is the next look tells
		case got.GetCanceled():
			return fmt.Errorf("the discovery service ended the watch: %s", got.GetCancelReason())
		}
	}
}

// initialCluster are the members that have a place.
func (l list) initialCluster() (string, error) {
	var texts []string
	for _, m := range l.members[:l.size] {
		for _, pair := range strings.Split(m.urls, ",") {
			if _, url, _ := strings.Cut(pair, "="); !strings.Contains(url, "://") {
				return "", fmt.Errorf("%w: %s is %q", ErrInvalidURL, m.key, m.urls)
			}
		}
		texts = append(texts, m.urls)
	}
	return strings.Join(texts, ","), nil
}

// dial prepares connections to the endpoints, of which the first that can be reached is used.
func (s *Service) dial() (*grpc.ClientConn, error) {
	var state resolver.State
	secure := !s.Plain
	for _, e := range s.Endpoints {
		address := e
		if scheme, rest, found := strings.Cut(e, "://"); found {
			address, secure = rest, secure || scheme == "https"
		}
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("--discovery-endpoints: %q: %w", e, err)
		}
		state.Addresses = append(state.Addresses, resolver.Address{Addr: address, ServerName: host})
	}
	creds := insecure.NewCredentials()
	if secure || s.SkipVerify || s.Cert != "" || s.Key != "" || s.CACert != "" {
		config, err := s.tls()
		if err != nil {
			return nil, err
		}
		creds = credentials.NewTLS(config)
	}
	endpoints := manual.NewBuilderWithScheme("discovery")
	endpoints.InitialState(state)
	conn, err := grpc.NewClient(endpoints.Scheme()+":///", grpc.WithResolvers(endpoints), grpc.WithTransportCredentials(creds),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: s.DialTimeout}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: s.KeepAliveTime, Timeout: s.KeepAliveTimeout}))
	if err != nil {
		return nil, fmt.Errorf("connect to the discovery service: %w", err)
	}
	return conn, nil
}

func (s *Service) tls() (*tls.Config, error) {
	config := &tls.Config{InsecureSkipVerify: s.SkipVerify, MinVersion: tls.VersionTLS12}
	if s.Cert != "" || s.Key != "" {
		pair, err := tls.LoadX509KeyPair(s.Cert, s.Key)
		if err != nil {
			return nil, fmt.Errorf("--discovery-cert, --discovery-key: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	if s.CACert != "" {
		pem, err := os.ReadFile(s.CACert)
		if err != nil {
			return nil, fmt.Errorf("--discovery-cacert: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--discovery-cacert: %s holds no certificate", s.CACert)
		}
	}
	return config, nil
}
