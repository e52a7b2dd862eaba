package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"holdfast/config"
	"holdfast/discovery"
	"holdfast/membership"
	"holdfast/server"
	"holdfast/util/urllist"
)

// resolveTimeout bounds how long names may take to appear when a member without data compares URLs; etcd's number.
const resolveTimeout = 30 * time.Second

// resolveInterval stands between two attempts to resolve a name; etcd's number.
const resolveInterval = time.Second

// origin is how a member without data comes to its cluster: what its settings, DNS or a discovery service name, once the
// others have been asked what they know of it. A member with data is not asked, and its settings are not checked.
type origin struct {
	cfg config.Config
	tls func(host string) *tls.Config // towards other members; nil: the system's
	log *slog.Logger
}

// bootstrap is for node.Config.
func (o origin) bootstrap(ctx context.Context, to *server.Config) error {
	switch d := o.cfg.Discovery; {
	case d.SRV != "":
		srv := discovery.SRV{Domain: d.SRV, Name: d.SRVName, Log: o.log}
		cluster, err := srv.InitialCluster(ctx, o.cfg.Name, o.cfg.AdvertisePeerURLs)
		if err != nil {
			return fmt.Errorf("error setting up initial cluster: %w", err)
		}
		o.cfg.InitialCluster = cluster
	case len(d.Endpoints) > 0: // until the service has told the others, this member is all there is
		o.cfg.InitialCluster, o.cfg.InitialClusterToken = o.cfg.OwnCluster(), d.Token
	}
	if o.cfg.InitialClusterState == config.ClusterExisting {
		return o.join(ctx, to)
	}
	return o.found(ctx, to)
}

// join finds the place that a running cluster has for this member.
func (o origin) join(ctx context.Context, to *server.Config) error {
	if err := o.cfg.CheckJoin(); err != nil {
		return err
	}
	members, err := o.members()
	if err != nil {
		return err
	}
	to.Joined, err = o.ask(members).Join(ctx)
	return err
}

// found names the members of a new cluster, unless one of them remembers this member.
func (o origin) found(ctx context.Context, to *server.Config) error {
	resolving, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	if err := o.cfg.CheckBootstrap(resolving, o.resolve); err != nil {
		return err
	}
	members, err := o.members()
	if err == nil && len(o.cfg.Discovery.Endpoints) > 0 {
		members, err = o.discover(ctx, members[0])
	}
	if err != nil {
		return err
	}
	to.Founders = members
	return o.ask(members).MayFound(ctx)
}

// discover registers this member with the discovery service and waits for the others.
func (o origin) discover(ctx context.Context, self membership.Member) ([]membership.Member, error) {
	d := o.cfg.Discovery
	service := discovery.Service{
		Endpoints: d.Endpoints, Token: d.Token, DialTimeout: d.DialTimeout, RequestTimeout: d.RequestTimeout,
		KeepAliveTime: d.KeepAliveTime, KeepAliveTimeout: d.KeepAliveTimeout, Plain: d.InsecureTransport, SkipVerify: d.SkipTLSVerify,
		Cert: d.Cert, Key: d.Key, CACert: d.CACert, User: d.User, Password: d.Password,
		Log: o.log.With("discovery-token", d.Token),
	}
	cluster, err := service.Join(ctx, self.ID, o.cfg.InitialCluster)
	switch {
	case errors.Is(err, discovery.ErrFull):
		return nil, fmt.Errorf("failed to join discovery cluster (%w): do not reuse a discovery token; make a new one for a new cluster, or join the one that is there with etcdctl member add and --initial-cluster-state=existing", err)
	case errors.Is(err, discovery.ErrSizeNotFound), errors.Is(err, discovery.ErrBadSize):
		return nil, fmt.Errorf("failed to join discovery cluster (%w): say how many members the cluster is to have: etcdctl --endpoints=%s put /_etcd/registry/%s/_config/size 3",
			err, strings.Join(d.Endpoints, ","), d.Token)
	case err != nil:
		return nil, fmt.Errorf("failed to join discovery cluster (%w)", err)
	}
	o.log.Info("discovery joined cluster successfully", "cluster", cluster)
	o.cfg.InitialCluster = cluster
	if err := o.cfg.CheckDiscovered(); err != nil {
		return nil, err
	}
	return o.members()
}

// members are those of --initial-cluster, under the ids they have if they found it.
func (o origin) members() ([]membership.Member, error) {
	initial, err := o.cfg.InitialMembers()
	if err != nil {
		return nil, err
	}
	var members []membership.Member
	for name, urls := range initial {
		members = append(members, founder(name, urls, o.cfg.InitialClusterToken))
	}
	return members, nil
}

func founder(name string, urls []url.URL, token string) membership.Member {
	peers := urllist.Texts(urls)
	return membership.Member{ID: membership.MemberID(peers, token, 0), Name: name, PeerURLs: peers}
}

// ask is what this member, which is among members, asks the others.
func (o origin) ask(members []membership.Member) *server.Bootstrap {
	b := &server.Bootstrap{LearnersMax: o.cfg.MaxLearners, DialTimeout: time.Second + o.cfg.ElectionTimeout(), PeerTLS: o.tls, Log: o.log}
	for _, m := range members {
		if m.Name == o.cfg.Name {
			b.Self = m
		} else {
			b.Others = append(b.Others, m)
		}
	}
	b.SameURLs = func(ctx context.Context, x, y []string) error { return config.SameURLs(ctx, o.resolve, x, y) }
	return b
}

// resolve looks a name up until it is there, or ctx ends.
func (o origin) resolve(ctx context.Context, hostPort string) (string, error) {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return "", err
	}
	for {
		addrs, err := net.DefaultResolver.LookupHost(ctx, host)
		if err == nil {
			return net.JoinHostPort(addrs[0], port), nil
		}
		o.log.Warn("failed to resolve URL Host", "host", hostPort, "retry-interval", resolveInterval, "error", err)
		select {
		case <-time.After(resolveInterval):
		case <-ctx.Done():
			return "", err
		}
	}
}
