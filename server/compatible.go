package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/membership"
	"holdfast/util/version"
)

// minor is a version without its patch level: all that decides who can be in one cluster.
type minor struct{ major, minor int }

// minorMin is the oldest version of a cluster that a member can join, as in etcd.
var minorMin = minor{3, 0}

// readMinor reads a version such as 3.7.0.
func readMinor(text string) (minor, error) {
	first, rest, _ := strings.Cut(text, ".")
	second, _, _ := strings.Cut(rest, ".")
	major, err := strconv.Atoi(first)
	if err != nil {
		return minor{}, fmt.Errorf("version %q: %w", text, err)
	}
	m, err := strconv.Atoi(second)
	if err != nil {
		return minor{}, fmt.Errorf("version %q: %w", text, err)
	}
	return minor{major, m}, nil
}

func (m minor) less(o minor) bool {
	return m.major < o.major || m.major == o.major && m.minor < o.minor
}

func (m minor) String() string { return fmt.Sprintf("%d.%d", m.major, m.minor) }

// checkVersions asks whether a member of this version can be in the cluster: at least one member says at which version the
// cluster runs, and nobody names one that is too old or too new. A cluster that is being downgraded takes those of the next
// lower version, and no others.
func (b *Bootstrap) checkVersions(ctx context.Context, j *Joined) error {
	ctx, cancel := context.WithTimeout(ctx, silentPatience)
	defer cancel()
	peers := newPeerClient(peerClientConfig{DialTimeout: b.DialTimeout})
	defer peers.close()
	own, err := readMinor(version.EtcdVersion)
	if err != nil {
		panic(fmt.Sprintf("server: our own version: %v", err))
	}
	var (
		mu          sync.Mutex // guards what is below
		decided     bool
		downgrading bool
		least       = minor{1<<31 - 1, 0}
		most        minor
	)
	var g errgroup.Group
	for _, m := range j.Peers {
		if m.ID == j.ID {
			continue
		}
		g.Go(func() error {
			cluster, down, err := b.clusterVersion(ctx, peers, m)
			if err != nil {
				b.Log.Warn("failed to get version", "remote-member-id", m.ID.String(), "error", err)
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			decided, downgrading = true, downgrading || down
			if cluster.less(least) {
				least = cluster
			}
			if most.less(cluster) {
				most = cluster
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	low, high := minorMin, own
	if downgrading {
		high.minor++
		low = high
	}
	switch {
	case !decided:
		return errors.New("incompatible with current running cluster: no member says at which version it runs")
	case least.less(low) || high.less(most):
		return fmt.Errorf("incompatible with current running cluster: it runs at versions %v to %v, this member needs %v to %v", least, most, low, high)
	}
	return nil
}

// clusterVersion asks a member at which version its cluster runs, until it is decided, and whether it is being downgraded.
func (b *Bootstrap) clusterVersion(ctx context.Context, peers *peerClient, m membership.Member) (cluster minor, downgrading bool, err error) {
	for {
		var versions struct {
			Cluster string `json:"etcdcluster"`
		}
		answer, err := peers.ask(ctx, m.PeerURLs, peerRequest{method: http.MethodGet, path: "/version"})
		if err == nil {
			err = json.Unmarshal(answer.body, &versions)
		}
		if err != nil {
			return minor{}, false, err
		}
		if cluster, err = readMinor(versions.Cluster); err == nil {
			break
		}
		select {
		case <-time.After(askInterval):
		case <-ctx.Done():
			return minor{}, false, err
		}
	}
	answer, err := peers.ask(ctx, m.PeerURLs, peerRequest{method: http.MethodGet, path: "/downgrade/enabled"})
	if err != nil {
		b.Log.Warn("failed to get downgrade enabled status from peer", "remote-member-id", m.ID.String(), "error", err)
		return cluster, false, nil
	}
	return cluster, string(answer.body) == "true", nil
}
