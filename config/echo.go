package config

import (
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"holdfast/util/urllist"
)

// v2Deprecation is the stage of the v2 store that etcd 3.7 reports whatever was asked.
const v2Deprecation = "write-only"

// Echo is the settings as etcd tells them in its start-up line ("starting an etcd server"): names, order and forms are those
// that tools look for there. initialized says whether the member has data, and the initial cluster therefore no meaning;
// localAddress is the address used towards members, "" for none.
func (c Config) Echo(initialized bool, localAddress string) []slog.Attr {
	cluster := ""
	if members, err := c.InitialMembers(); err == nil && !initialized {
		cluster = membersText(members)
	}
	token := c.InitialClusterToken
	if len(c.Discovery.Endpoints) > 0 {
		token = c.Discovery.Token
	}
	attrs := []slog.Attr{
		slog.String("name", c.Name),
		slog.String("data-dir", c.DataDir),
		slog.String("wal-dir", c.WALDir),
		slog.String("wal-dir-dedicated", c.WALDir),
		slog.String("member-dir", filepath.Join(c.DataDir, "member")),
		slog.Bool("force-new-cluster", c.ForceNewCluster),
		slog.Duration("heartbeat-interval", c.Heartbeat()),
		slog.Duration("election-timeout", c.ElectionTimeout()),
		slog.Bool("initial-election-tick-advance", c.ElectionTickAdvance),
		slog.Uint64("snapshot-count", c.SnapshotCount),
		slog.Uint64("max-wals", uint64(c.MaxWALs)),
		slog.Uint64("max-snapshots", uint64(c.MaxSnapshots)),
		slog.Uint64("snapshot-catchup-entries", c.SnapshotCatchUpEntries),
		slog.Any("initial-advertise-peer-urls", urllist.Texts(c.AdvertisePeerURLs)),
		slog.Any("listen-peer-urls", urllist.Texts(c.ListenPeerURLs)),
		slog.Any("advertise-client-urls", urllist.Texts(c.AdvertiseClientURLs)),
		slog.Any("listen-client-urls", urllist.Texts(c.ListenClientURLs)),
		slog.Any("listen-metrics-urls", urllist.Texts(c.ListenMetricsURLs)),
		slog.String("local-address", localAddress),
		slog.Any("cors", c.CORS),
		slog.Any("host-whitelist", c.HostAllow),
		slog.String("initial-cluster", cluster),
		slog.String("initial-cluster-state", c.InitialClusterState),
		slog.String("initial-cluster-token", token),
	}
	return append(append(attrs, c.echoLimits()...), c.echoDiscovery()...)
}

func (c Config) echoLimits() []slog.Attr {
	quota, _ := c.Quota()
	keep, revisions, _ := c.Compaction()         // checked by Parse
	retention := keep + time.Duration(revisions) // etcd shows revisions as a duration too
	return []slog.Attr{
		slog.Int64("quota-backend-bytes", quota),
		slog.Uint64("max-request-bytes", uint64(c.MaxRequestBytes)),
		slog.Uint64("max-concurrent-streams", uint64(c.MaxStreams)),
		slog.Bool("pre-vote", c.PreVote),
		slog.String("feature-gates", c.Gates.String()),
		slog.Bool("initial-corrupt-check", c.Gates.Enabled(InitialCorruptCheck)),
		slog.Duration("corrupt-check-time-interval", c.CorruptCheckTime),
		slog.Duration("compact-check-time-interval", c.CompactHashCheckTime),
		slog.String("auto-compaction-mode", c.AutoCompactionMode),
		slog.Duration("auto-compaction-retention", retention),
		slog.Duration("auto-compaction-interval", retention),
	}
}

// echoDiscovery leaves out the password, and what may hold one after a colon.
func (c Config) echoDiscovery() []slog.Attr {
	d := c.Discovery
	user, _, _ := strings.Cut(d.User, ":")
	return []slog.Attr{
		slog.String("discovery-token", d.Token),
		slog.String("discovery-endpoints", strings.Join(d.Endpoints, ",")),
		slog.Duration("discovery-dial-timeout", d.DialTimeout),
		slog.Duration("discovery-request-timeout", d.RequestTimeout),
		slog.Duration("discovery-keepalive-time", d.KeepAliveTime),
		slog.Duration("discovery-keepalive-timeout", d.KeepAliveTimeout),
		slog.Bool("discovery-insecure-transport", d.InsecureTransport),
		slog.Bool("discovery-insecure-skip-tls-verify", d.SkipTLSVerify),
		slog.String("discovery-cert", d.Cert),
		slog.String("discovery-key", d.Key),
		slog.String("discovery-cacert", d.CACert),
		slog.String("discovery-user", user),
		slog.Duration("downgrade-check-interval", c.DowngradeCheckTime),
		slog.Int("max-learners", c.MaxLearners),
		slog.String("v2-deprecation", v2Deprecation),
	}
}
