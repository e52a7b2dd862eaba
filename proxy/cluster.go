package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
)

// clusterService tells clients that the proxies are the members: a client that looks for members finds proxies.
type clusterService struct {
	pb.UnimplementedClusterServer
	*Proxy
}

// MemberList implements pb.ClusterServer.
func (s *clusterService) MemberList(ctx context.Context, q *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	if s.cfg.Advertise == "" {
		return pb.NewClusterClient(s.conn).MemberList(outgoing(ctx), q)
	}
	members, err := s.others.list()
	return &pb.MemberListResponse{Members: members}, err
}

// others are the proxies that have registered under the same prefix.
type others struct {
	advertise string

	mu sync.Mutex // guards the field below
	by map[string]endpoints.Endpoint
}

func newOthers(advertise string) *others {
	return &others{advertise: advertise, by: map[string]endpoints.Endpoint{}}
}

// list are all that are known, or this one alone.
func (o *others) list() (members []*pb.Member, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range o.by {
		var about registration
		if err := json.Unmarshal([]byte(fmt.Sprint(e.Metadata)), &about); err != nil { // other proxies write it as text
			return nil, err
		}
		members = append(members, &pb.Member{Name: about.Name, ClientURLs: []string{e.Addr}})
	}
	if len(members) == 0 {
		members = append(members, &pb.Member{Name: hostname(), ClientURLs: []string{o.advertise}})
	}
	return members, nil
}

func (o *others) update(updates []*endpoints.Update) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, u := range updates {
		switch u.Op {
		case endpoints.Add:
			o.by[u.Key] = u.Endpoint
		case endpoints.Delete:
			delete(o.by, u.Key)
		}
	}
}

// registration is what a proxy says of itself at the cluster.
type registration struct {
	Name string `json:"name"`
}

// hostname is the machine's name; without one, none.
func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}

// retryPause is the rest before the cluster is asked again for what concerns the proxies themselves, as in etcd.
const retryPause = time.Second

// again repeats what the cluster may fail to do, until ctx ends.
func (p *Proxy) again(ctx context.Context, what string, do func(context.Context) error) {
	for ctx.Err() == nil {
		if err := do(ctx); err != nil && ctx.Err() == nil {
			p.log.Warn(what, "error", err)
		}
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
		}
	}
}

// register keeps this proxy's address at the cluster until ctx ends.
func (p *Proxy) register(ctx context.Context) error {
	session, err := concurrency.NewSession(p.client, concurrency.WithTTL(p.cfg.ResolverTTL), concurrency.WithContext(ctx))
	if err != nil {
		return err
	}
	defer p.unregister(session)
	manager, err := endpoints.NewManager(p.client, p.cfg.ResolverPrefix)
	if err != nil {
		return err
	}
	about, err := json.Marshal(registration{hostname()})
	if err != nil {
		return err
	}
	own := endpoints.Endpoint{Addr: p.cfg.Advertise, Metadata: string(about)}
	if err := manager.AddEndpoint(ctx, p.cfg.ResolverPrefix+"/"+p.cfg.Advertise, own, clientv3.WithLease(session.Lease())); err != nil {
		return err
	}
	p.log.Info("registered session with lease", "addr", p.cfg.Advertise, "lease-ttl", p.cfg.ResolverTTL)
	select {
	case <-session.Done():
		if ctx.Err() == nil {
			p.log.Warn("session expired; possible network partition or server restart")
		}
	case <-ctx.Done():
	}
	return nil
}

// unregisterTimeout bounds the goodbye. Without it the address goes with its lease.
const unregisterTimeout = time.Second

func (p *Proxy) unregister(session *concurrency.Session) {
	session.Orphan()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), unregisterTimeout)
	defer cancel()
	if _, err := p.client.Revoke(ctx, session.Lease()); err != nil {
		p.log.Info("could not take back the registration; it goes with its lease", "error", err)
	}
}

// follow learns which proxies there are, until the watch or ctx ends.
func (p *Proxy) follow(ctx context.Context) error {
	manager, err := endpoints.NewManager(p.client, p.cfg.ResolverPrefix)
	if err != nil {
		return err
	}
	updates, err := manager.NewWatchChannel(ctx)
	if err != nil {
		return err
	}
	for more := range updates {
		p.others.update(more)
	}
	return nil
}
