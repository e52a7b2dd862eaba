package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"holdfast/membership"
	"holdfast/util/version"
)

// checkVersions asks whether a member of this version can be in the cluster. One that is being downgraded takes members of the
// next lower version, and no others.
func (b *Bootstrap) checkVersions(ctx context.Context, j *Joined) error {
	ctx, cancel := context.WithTimeout(ctx, silentPatience)
	defer cancel()
	peers := newPeerClient(peerClientConfig{DialTimeout: b.DialTimeout, TLS: b.PeerTLS})
	defer peers.close()
	var (
		asking      sync.WaitGroup
		mu          sync.Mutex // guards what is below
		versions    []memberVersions
		downgrading bool
	)
	for _, m := range j.Peers {
		if m.ID == j.ID {
			continue
		}
		asking.Go(func() {
			v, down, err := b.clusterVersion(ctx, peers, m)
			if err != nil {
				b.Log.Warn("failed to get version", "remote-member-id", m.ID.String(), "error", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			versions, downgrading = append(versions, v), downgrading || down
		})
	}
	asking.Wait()
	check := checkVersions
	if downgrading {
		check = checkDowngrade
	}
	if err := check(versions); err != nil {
		return fmt.Errorf("incompatible with current running cluster: %w", err)
	}
	return nil
}

// checkDowngrade asks of a cluster that is being downgraded whether it is on its way to the version of this member.
func checkDowngrade(members []memberVersions) error {
	above := version.MustParseMinor(version.EtcdVersion)
	above.Minor++
	for _, m := range members {
		if v, err := version.ParseMinor(m.Cluster); err == nil && v != above {
			return fmt.Errorf("the cluster is being downgraded from version %s; a member of version %s can join on the way down from %v alone", m.Cluster, version.EtcdVersion, above)
		}
	}
	return nil
}

// downgradePatience is how long a member may take to say whether its cluster is being downgraded. It asks its leader first,
// and has none where the one that joins is needed for the majority; unanswered means no, as in etcd.
const downgradePatience = 500 * time.Millisecond

// clusterVersion asks a member at which version its cluster runs, until it is decided, and whether it is being downgraded.
func (b *Bootstrap) clusterVersion(ctx context.Context, peers *peerClient, m membership.Member) (v memberVersions, downgrading bool, err error) {
	for {
		if v, err = peers.askVersion(ctx, m.PeerURLs); err != nil {
			return v, false, err
		}
		if _, err := version.ParseMinor(v.Cluster); err == nil {
			break
		}
		select {
		case <-time.After(askInterval):
		case <-ctx.Done():
			return v, false, errors.New("the version of the cluster is not decided")
		}
	}
	ctx, cancel := context.WithTimeout(ctx, downgradePatience)
	defer cancel()
	answer, err := peers.ask(ctx, m.PeerURLs, peerRequest{method: http.MethodGet, path: "/downgrade/enabled"})
	if err != nil {
		b.Log.Warn("failed to get downgrade enabled status from peer", "remote-member-id", m.ID.String(), "error", err)
		return v, false, nil
	}
	return v, string(answer.body) == "true", nil
}
