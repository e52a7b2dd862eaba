package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"holdfast/util/urllist"
)

const (
	// electionMaxMS is etcd's bound: a longer timeout leaves a cluster without a leader for minutes.
	electionMaxMS = 50000
	// electionBeats is how many heartbeats a timeout must hold, so that one lost message starts no election.
	electionBeats = 5

	samplingMax = 1000000 // spans in a million
)

// validate checks the settings as etcd does, in its order, so that of several mistakes the same is named first.
func (c *Config) validate(notes *Notes) error {
	for _, check := range []func() error{
		c.Log.Check,
		c.checkListen,
		c.checkAdvertise,
		c.checkBootstrap,
		c.checkTicks,
		c.checkAdvertiseSet,
		c.checkCompaction,
		c.checkTracing,
		func() error { return c.checkLeaseGates(notes) },
		c.checkHashTime,
		c.checkTLS,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) checkListen() error {
	for _, urls := range [][]url.URL{c.ListenPeerURLs, c.ListenClientURLs, c.ListenClientHTTPURLs, c.ListenMetricsURLs} {
		for _, u := range urls {
			if err := checkBind(u); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkBind refuses names: which address to listen on must not depend on DNS.
func checkBind(u url.URL) error {
	if isUnix(u) {
		return nil
	}
	host, _, err := net.SplitHostPort(u.Host)
	if err != nil {
		return err
	}
	if host != "localhost" && net.ParseIP(host) == nil {
		return fmt.Errorf("expected IP in URL for binding (%s)", u.String())
	}
	return nil
}

func isUnix(u url.URL) bool { return u.Scheme == "unix" || u.Scheme == "unixs" }

func (c *Config) checkAdvertise() error {
	if err := checkHosts(c.AdvertisePeerURLs); err != nil {
		return fmt.Errorf(`--initial-advertise-peer-urls %q must be "host:port" (%w)`,
			strings.Join(urllist.Texts(c.AdvertisePeerURLs), ","), err)
	}
	if err := checkHosts(c.AdvertiseClientURLs); err != nil {
		return fmt.Errorf(`--advertise-client-urls %q must be in the format "host:port", "unix:/path/to/socket" or `+
			`"unixs:/path/to/socket" (%w)`, strings.Join(urllist.Texts(c.AdvertiseClientURLs), ","), err)
	}
	return nil
}

func checkHosts(urls []url.URL) error {
	for _, u := range urls {
		if isUnix(u) {
			continue
		}
		host, _, err := net.SplitHostPort(u.Host)
		if err != nil {
			return err
		}
		if host == "" {
			return fmt.Errorf("unexpected empty host (%s)", u.String())
		}
	}
	return nil
}

func (c *Config) checkBootstrap() error {
	if c.InitialClusterState != ClusterNew && c.InitialClusterState != ClusterExisting {
		return fmt.Errorf("unexpected clusterState %q", c.InitialClusterState)
	}
	ways := 0
	for _, used := range []bool{c.InitialCluster != "", c.Discovery.SRV != "", len(c.Discovery.Endpoints) > 0} {
		if used {
			ways++
		}
	}
	if ways > 1 {
		return ErrBootstrapConflict
	}
	if (c.Discovery.Token != "") != (len(c.Discovery.Endpoints) > 0) {
		return errors.New("both --discovery-token and --discovery-endpoints must be set")
	}
	for _, endpoint := range c.Discovery.Endpoints {
		if strings.TrimSpace(endpoint) == "" {
			return errors.New("--discovery-endpoints must not contain empty endpoints")
		}
	}
	return nil
}

func (c *Config) checkTicks() error {
	switch beat, election := c.HeartbeatMS, c.ElectionMS; {
	case beat == 0:
		return fmt.Errorf("--heartbeat-interval must be >0 (set to %dms)", beat)
	case election == 0:
		return fmt.Errorf("--election-timeout must be >0 (set to %dms)", election)
	case beat > electionMaxMS || electionBeats*beat > election:
		return fmt.Errorf("--election-timeout[%vms] should be at least as 5 times as --heartbeat-interval[%vms]", election, beat)
	case election > electionMaxMS:
		return fmt.Errorf("--election-timeout[%vms] is too long, and should be set less than %vms", election, electionMaxMS)
	}
	return nil
}

func (c *Config) checkAdvertiseSet() error {
	if len(c.ListenClientURLs) > 0 && len(c.AdvertiseClientURLs) == 0 {
		return ErrAdvertiseClientURLs
	}
	return nil
}

func (c *Config) checkCompaction() error {
	switch c.AutoCompactionMode {
	case CompactionPeriodic, CompactionRevision:
	case "":
		return errors.New("undefined auto-compaction-mode")
	default:
		return fmt.Errorf("unknown auto-compaction-mode %q", c.AutoCompactionMode)
	}
	_, _, err := c.Compaction()
	return err
}

// Compaction is how much history automatic compaction keeps: time in periodic mode, revisions in revision mode. Both zero
// means that there is none. As in etcd, a number without unit is hours, and in revision mode a duration counts as its
// nanoseconds.
func (c *Config) Compaction() (keep time.Duration, revisions int64, err error) {
	text := c.AutoCompactionRetention
	n, err := strconv.ParseInt(text, 10, 64)
	hours := err == nil && n >= 0
	if !hours {
		d, err := time.ParseDuration(text)
		if err != nil {
			return 0, 0, fmt.Errorf("error parsing CompactionRetention: %w", err)
		}
		n = int64(d)
	}
	switch {
	case n < 0:
		return 0, 0, fmt.Errorf("error parsing CompactionRetention: --auto-compaction-retention %q is negative", text)
	case c.AutoCompactionMode == CompactionRevision:
		return 0, n, nil
	case hours && n > int64(1<<63-1)/int64(time.Hour):
		return 0, 0, fmt.Errorf("error parsing CompactionRetention: --auto-compaction-retention %q hours are too many", text)
	case hours:
		return time.Duration(n) * time.Hour, 0, nil
	}
	return time.Duration(n), 0, nil
}

func (c *Config) checkTracing() error {
	if !c.Tracing.Enabled {
		return nil
	}
	switch rate := c.Tracing.PerMillion; {
	case rate < 0:
		return errors.New("distributed tracing configurition is not valid: (tracing sampling rate must be positive)")
	case rate > samplingMax:
		return fmt.Errorf("distributed tracing configurition is not valid: (tracing sampling rate must be less than %d)", samplingMax)
	}
	return nil
}

func (c *Config) checkLeaseGates(notes *Notes) error {
	switch on, kept := c.Gates.Enabled(LeaseCheckpoint), c.Gates.Enabled(LeaseCheckpointPersist); {
	case on && !kept:
		notes.warn("Detected that checkpointing is enabled without persistence. Consider enabling feature gate LeaseCheckpointPersist")
	case kept && !on:
		return errors.New("enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint")
	}
	return nil
}

func (c *Config) checkHashTime() error {
	if c.CompactHashCheckTime <= 0 {
		return fmt.Errorf("--compact-hash-check-time must be >0 (set to %v)", c.CompactHashCheckTime)
	}
	return nil
}
