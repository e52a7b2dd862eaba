package server

import (
	"context"
	"errors"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/membershippb"

	"holdfast/util/version"
)

// A cluster goes back by one minor version. First it notes where to; then the leader lowers the cluster's version and each
// member says that what it stores has that version; then members are replaced, one by one, by ones of the older version. When
// none is left that is newer, the leader notes that it is over. Until then it can be cancelled: the version rises again.

// DowngradeValidate tells whether the cluster can go back to a version, written as 3.6 or 3.6.0, and which one it has now.
func (s *Server) DowngradeValidate(ctx context.Context, target string) (cluster string, err error) {
	v, err := parseTarget(target)
	if err == nil {
		err = s.checkTarget(ctx, v)
	}
	if err != nil {
		return "", err
	}
	return s.cluster.Version(), nil
}

// DowngradeEnable begins to go back to a version.
func (s *Server) DowngradeEnable(ctx context.Context, target string) (cluster string, err error) {
	v, err := parseTarget(target)
	if err == nil {
		err = s.checkTarget(ctx, v)
	}
	if err == nil {
		_, err = s.proposeCold(ctx, downgradeRequest(&membershippb.DowngradeInfoSetRequest{Enabled: true, Ver: v.String()}))
	}
	if err != nil {
		s.log.Warn("reject downgrade request", "error", err)
		return "", err
	}
	return s.cluster.Version(), nil
}

// DowngradeCancel ends a downgrade. As in etcd it is answered as done whatever became of it; the log says why it was not.
func (s *Server) DowngradeCancel(ctx context.Context) (cluster string, err error) {
	if err := s.endDowngrade(ctx); err != nil {
		s.log.Warn("failed to cancel downgrade", "error", err)
	}
	if cluster = s.cluster.Version(); cluster == "" {
		return "", ErrNoClusterVersion
	}
	return cluster, nil
}

// DowngradeEnabled tells whether the cluster is going back to an older version, as of when it was asked.
func (s *Server) DowngradeEnabled(ctx context.Context) (bool, error) {
	if err := s.awaitCommitted(ctx); err != nil {
		return false, err
	}
	d, _ := s.cluster.Downgrade()
	return d.Enabled, nil
}

func downgradeRequest(q *membershippb.DowngradeInfoSetRequest) *pb.InternalRaftRequest {
	return &pb.InternalRaftRequest{DowngradeInfoSet: q}
}

// parseTarget reads a version with or without a patch number, which does not count.
func parseTarget(text string) (version.Minor, error) {
	v, err := version.ParseMinor(text)
	if err != nil {
		v, err = version.ParseMinor(text + ".0")
	}
	if err != nil {
		return v, ErrDowngradeFormat
	}
	return v, nil
}

// checkTarget asks whether a downgrade to target may begin.
func (s *Server) checkTarget(ctx context.Context, target version.Minor) error {
	if s.cluster.Version() == "" {
		return ErrNoClusterVersion
	}
	if err := s.awaitCommitted(ctx); err != nil {
		return err
	}
	now, err := version.ParseMinor(s.cluster.Version())
	if err != nil {
		return err
	}
	if target != now.Previous() {
		return ErrDowngradeTarget
	}
	if d, _ := s.cluster.Downgrade(); d.Enabled {
		return ErrDowngradeInProgress
	}
	return nil
}

func (s *Server) endDowngrade(ctx context.Context) error {
	if err := s.awaitCommitted(ctx); err != nil {
		return err
	}
	if d, _ := s.cluster.Downgrade(); !d.Enabled {
		return ErrNoDowngrade
	}
	_, err := s.proposeCold(ctx, downgradeRequest(&membershippb.DowngradeInfoSetRequest{}))
	return err
}

// tendDowngrade is the leader's: it ends a downgrade when every member has the older version. One of this version waits for
// others to take the place of it and its like.
func (s *Server) tendDowngrade(ctx context.Context) {
	if s.cfg.DowngradeCheck <= 0 {
		return
	}
	tick := time.NewTicker(s.cfg.DowngradeCheck)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		s.finishDowngrade(ctx)
	}
}

func (s *Server) finishDowngrade(ctx context.Context) {
	d, _ := s.cluster.Downgrade()
	if !d.Enabled {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.requestTimeout())
	defer cancel()
	members := s.cluster.Members()
	for i, v := range s.askVersions(ctx, members) {
		if !atVersion(v.Server, d.TargetVersion) {
			s.log.Warn("remotes server has mismatching etcd version", "remote-member-id", members[i].ID.String(),
				"current-server-version", v.Server, "target-version", d.TargetVersion)
			return
		}
	}
	s.log.Info("the cluster has been downgraded", "cluster-version", d.TargetVersion)
	if err := s.endDowngrade(ctx); err != nil && !errors.Is(err, ErrStopped) && !errors.Is(err, context.Canceled) {
		s.log.Warn("failed to cancel downgrade", "error", err)
	}
}

// atVersion tells whether a server has the minor version of target; one that is unknown has not.
func atVersion(server, target string) bool {
	v, err := version.ParseMinor(server)
	if err != nil {
		return false
	}
	want, err := version.ParseMinor(target)
	return err == nil && v == want
}

// storageVersion is the version of what is stored, as etcd tells it: it follows the cluster's once all members are known. Before
// that it is that of the oldest form with a raft configuration, or none for a store in which nothing is applied.
func storageVersion(cluster string, applied bool) string {
	switch {
	case cluster != "" && cluster != version.OldestCluster:
		return cluster
	case applied:
		return "3.5.0"
	}
	return ""
}

// etcdStorage is the version of the files this member writes if the cluster's is not decided, without patch number as etcd says it.
var etcdStorage = version.EtcdMinor() + ".0"

// fileVersion is the version of an etcd database written in a cluster of some version. An etcd of that version has to read it.
func fileVersion(cluster string) string {
	if v := storageVersion(cluster, false); v != "" {
		return v
	}
	return etcdStorage
}

// recordedVersion is what such a database says of itself: nothing before etcd 3.6.
func recordedVersion(cluster string) string {
	v := fileVersion(cluster)
	if version.MustParseMinor(v).Below(version.Minor{Major: 3, Minor: 6}) {
		return ""
	}
	return v
}

// tellStored says in the log at which version the cluster was, and whether it was going back, when this member stopped.
func (s *Server) tellStored() (told string) {
	if told = s.cluster.Version(); told == "" {
		return ""
	}
	s.log.Info("set cluster version from store", "cluster-version", told)
	if d, _ := s.cluster.Downgrade(); d.Enabled {
		s.log.Info("cluster is downgrading to target version", "target-cluster-version", d.TargetVersion, "current-server-version", version.EtcdVersion)
	}
	return told
}

// tellVersion says in the log what became of the version of the cluster. from is the last one told.
func (s *Server) tellVersion(from string) (told string) {
	to := s.cluster.Version()
	switch {
	case to == from:
		return from
	case from == "":
		s.log.Info("set initial cluster version", "cluster-version", to)
	default:
		s.log.Info("updated cluster version", "from", from, "to", to)
	}
	s.log.Info("enabled capabilities for version", "cluster-version", to)
	if d, _ := s.cluster.Downgrade(); d.Enabled && d.TargetVersion == to {
		s.log.Info("The server is ready to downgrade", "target-version", d.TargetVersion, "server-version", version.EtcdVersion)
	}
	return to
}
