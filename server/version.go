package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/membershippb"

	"holdfast/membership"
	"holdfast/util/version"
)

// The version of the cluster is the lowest minor version of its members. The leader asks them and proposes it; it only rises, unless
// a downgrade is asked for (downgrade.go).

// versionInterval is how often the leader looks at the versions of the members. etcd's number.
const versionInterval = 4 * time.Second

// errVersionTooLow ends a member in a cluster whose version is above its own.
var errVersionTooLow = errors.New("the cluster runs at a version that this member does not speak")

// memberVersions is what a member says at /version; empty fields where it does not answer.
type memberVersions struct {
	Server  string `json:"etcdserver"`
	Cluster string `json:"etcdcluster"`
}

// followVersion tells in the log what becomes of the version of the cluster.
func (s *Server) followVersion(ctx context.Context) error {
	tick := time.NewTicker(versionInterval) // for a version that came with a received state
	defer tick.Stop()
	told := s.tellStored()
	for {
		told = s.tellVersion(told)
		select {
		case <-s.versionChanged:
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// tendVersion is the leader's: it keeps the version of the cluster, from the beginning of its term on.
func (s *Server) tendVersion(ctx context.Context) {
	tick := time.NewTicker(versionInterval)
	defer tick.Stop()
	for {
		s.decideVersion(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// decideVersion proposes the version that the cluster should have, if that is another one.
func (s *Server) decideVersion(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.requestTimeout())
	defer cancel()
	members := s.cluster.Members()
	servers := make([]string, len(members))
	for i, v := range s.askVersions(ctx, members) {
		servers[i] = v.Server
	}
	before := s.cluster.Version()
	to, change := nextVersion(before, servers)
	if d, _ := s.cluster.Downgrade(); d.Enabled && before != "" {
		var err error
		if to, change, err = lowerVersion(before, d.TargetVersion, servers); err != nil {
			s.log.Error("Failed to monitor cluster version", "error", err)
		}
	}
	if !change {
		return
	}
	s.log.Info("updating cluster version using v3 API", "from", before, "to", to)
	_, err := s.proposeCold(ctx, versionRequest(to))
	if err != nil && !errors.Is(err, ErrStopped) && !errors.Is(err, context.Canceled) { // the term has ended
		s.log.Warn("failed to update cluster version", "error", err)
	}
}

func versionRequest(v string) *pb.InternalRaftRequest {
	return &pb.InternalRaftRequest{ClusterVersionSet: &membershippb.ClusterVersionSetRequest{Ver: v}}
}

// nextVersion says to which version a cluster should go, given those of its members; one that is unknown is empty. As long as
// one is, a cluster without a version begins at the oldest there is, and others stay at theirs.
func nextVersion(now string, members []string) (to string, change bool) {
	lowest, known := lowestVersion(members)
	switch {
	case now == "" && known:
		return lowest.String(), true
	case now == "":
		return version.OldestCluster, true
	case !known:
		return "", false
	}
	present, err := version.ParseMinor(now)
	if err != nil || present.Major != lowest.Major || !present.Below(lowest) {
		return "", false
	}
	return lowest.String(), true
}

// lowerVersion is nextVersion while the cluster is going back to target: it gets there when every member is known and can keep
// what it stores in that version's form, as those of the version above can.
func lowerVersion(now, target string, members []string) (to string, change bool, err error) {
	lowest, known := lowestVersion(members)
	if !known || now == target {
		return "", false, nil
	}
	present, err := version.ParseMinor(now)
	if err != nil {
		return "", false, err
	}
	aim, err := version.ParseMinor(target)
	if err != nil {
		return "", false, err
	}
	if present.Previous() != aim || lowest.Previous() != aim {
		return "", false, fmt.Errorf("cannot go back to %s: the cluster's version is %s, the lowest of a member %s", target, now, lowest)
	}
	return target, true, nil
}

func lowestVersion(members []string) (lowest version.Minor, known bool) {
	for i, text := range members {
		v, err := version.ParseMinor(text)
		if err != nil {
			return version.Minor{}, false
		}
		if i == 0 || v.Below(lowest) {
			lowest = v
		}
	}
	return lowest, len(members) > 0
}

// askVersions asks members for their versions, all at once, until ctx ends. This member knows its own.
func (s *Server) askVersions(ctx context.Context, members []membership.Member) []memberVersions {
	versions := make([]memberVersions, len(members))
	var asking sync.WaitGroup
	for i := range members {
		m := &members[i]
		if m.ID == s.id {
			versions[i] = memberVersions{Server: version.EtcdVersion, Cluster: s.cluster.Version()}
			continue
		}
		asking.Go(func() {
			var err error
			if versions[i], err = s.peers.askVersion(ctx, m.PeerURLs); err != nil {
				s.log.Warn("failed to get version", "remote-member-id", m.ID.String(), "error", err)
			}
		})
	}
	asking.Wait()
	return versions
}

// askVersion asks a member for its version and its cluster's.
func (c *peerClient) askVersion(ctx context.Context, urls []string) (v memberVersions, err error) {
	answer, err := c.ask(ctx, urls, peerRequest{method: http.MethodGet, path: "/version"})
	if err != nil {
		return v, err
	}
	if answer.status != http.StatusOK {
		return v, fmt.Errorf("%s answers with status %d", answer.url, answer.status)
	}
	if err := json.Unmarshal(answer.body, &v); err != nil {
		return memberVersions{}, fmt.Errorf("read the version that %s tells: %w", answer.url, err)
	}
	return v, nil
}

// checkVersion finds that the cluster runs at a version that this member does not speak.
func checkVersion(cluster string) error {
	if cluster == "" {
		return nil
	}
	v, err := version.ParseMinor(cluster)
	if err != nil {
		return fmt.Errorf("read the version of the cluster: %w", err)
	}
	if version.MustParseMinor(version.EtcdVersion).Below(v) {
		return fmt.Errorf("%w: the cluster's is %s, this member's %s; start it with a version that is as new", errVersionTooLow, cluster, version.EtcdVersion)
	}
	return nil
}

// checkVersions asks of a cluster that is to be joined, by what its members say, whether this member speaks its version.
// Those that do not answer, or have not decided, do not count; but one must.
func checkVersions(members []memberVersions) error {
	asked := false
	for _, m := range members {
		v, err := version.ParseMinor(m.Cluster)
		if err != nil {
			continue
		}
		if v.Below(version.MustParseMinor(version.OldestCluster)) {
			return fmt.Errorf("the cluster runs at version %s, and this member speaks none below %s", m.Cluster, version.OldestCluster)
		}
		if err := checkVersion(m.Cluster); err != nil {
			return err
		}
		asked = true
	}
	if !asked {
		return errors.New("no member of the cluster says at which version it runs")
	}
	return nil
}

// ClusterVersion is the version the cluster runs at; empty while it is not decided.
func (s *Server) ClusterVersion() string { return s.cluster.Version() }
