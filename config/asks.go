package config

import (
	"net/url"
	"slices"
	"strings"
)

// Ask is something that a configuration wants of the server beyond one plain member. A server that cannot do it yet refuses
// to start and says so, instead of running without.
type Ask string

// What can be asked for.
const (
	AskClientTLS    Ask = "client TLS"
	AskPeerTLS      Ask = "peer TLS"
	AskCluster      Ask = "several members"
	AskJoin         Ask = "joining a cluster"
	AskDiscovery    Ask = "discovery"
	AskDNSDiscovery Ask = "DNS discovery"
	AskUnixSocket   Ask = "unix sockets"
	AskHTTPPort     Ask = "a port for HTTP alone"
	AskMetricsPort  Ask = "a port for metrics"
	AskJWT          Ask = "JWT tokens"
	AskTracing      Ask = "distributed tracing"
	AskProfiles     Ask = "profiles"
	AskMemoryLock   Ask = "locked memory"
	AskForceNew     Ask = "a forced new cluster"
	AskNoFsync      Ask = "running without fsync"
	AskCorruptCheck Ask = "corruption checks"
	AskCheckpoints  Ask = "lease checkpoints"
	AskLocalAddress Ask = "a local address towards members"
)

// Asked is an Ask and the flag to name when refusing it.
type Asked struct {
	Ask  Ask
	Flag string
}

var asks = []struct {
	Asked
	of func(*Config) bool
}{
	{Asked{AskClientTLS, "listen-client-urls"}, func(c *Config) bool {
		return anyURL(isSecure, c.ListenClientURLs, c.ListenClientHTTPURLs, c.ListenMetricsURLs)
	}},
	{Asked{AskClientTLS, "cert-file"}, func(c *Config) bool { return c.Client.Given() }},
	{Asked{AskClientTLS, "auto-tls"}, func(c *Config) bool { return c.Client.Auto }},
	{Asked{AskPeerTLS, "listen-peer-urls"}, func(c *Config) bool { return anyURL(isSecure, c.ListenPeerURLs) }},
	{Asked{AskPeerTLS, "peer-cert-file"}, func(c *Config) bool { return c.Peer.Given() }},
	{Asked{AskPeerTLS, "peer-auto-tls"}, func(c *Config) bool { return c.Peer.Auto }},
	{Asked{AskCluster, "initial-cluster"}, func(c *Config) bool {
		members, err := c.InitialMembers()
		return err == nil && len(members) > 1
	}},
	{Asked{AskJoin, "initial-cluster-state"}, func(c *Config) bool { return c.InitialClusterState == ClusterExisting }},
	{Asked{AskDiscovery, "discovery-endpoints"}, func(c *Config) bool { return len(c.Discovery.Endpoints) > 0 }},
	{Asked{AskDNSDiscovery, "discovery-srv"}, func(c *Config) bool { return c.Discovery.SRV != "" }},
	{Asked{AskUnixSocket, "listen-client-urls"}, func(c *Config) bool {
		return anyURL(isUnix, c.ListenClientURLs, c.ListenClientHTTPURLs, c.ListenMetricsURLs)
	}},
	{Asked{AskUnixSocket, "listen-peer-urls"}, func(c *Config) bool { return anyURL(isUnix, c.ListenPeerURLs) }},
	{Asked{AskHTTPPort, "listen-client-http-urls"}, func(c *Config) bool { return len(c.ListenClientHTTPURLs) > 0 }},
	{Asked{AskMetricsPort, "listen-metrics-urls"}, func(c *Config) bool { return len(c.ListenMetricsURLs) > 0 }},
	{Asked{AskJWT, "auth-token"}, func(c *Config) bool { return strings.HasPrefix(c.AuthToken, "jwt") }},
	{Asked{AskTracing, "enable-distributed-tracing"}, func(c *Config) bool { return c.Tracing.Enabled }},
	{Asked{AskProfiles, "enable-pprof"}, func(c *Config) bool { return c.EnablePprof }},
	{Asked{AskMemoryLock, "memory-mlock"}, func(c *Config) bool { return c.MemoryLock }},
	{Asked{AskForceNew, "force-new-cluster"}, func(c *Config) bool { return c.ForceNewCluster }},
	{Asked{AskNoFsync, "unsafe-no-fsync"}, func(c *Config) bool { return c.UnsafeNoFsync }},
	{Asked{AskCorruptCheck, "corrupt-check-time"}, func(c *Config) bool { return c.CorruptCheckTime > 0 }},
	{Asked{AskCorruptCheck, "feature-gates"}, func(c *Config) bool {
		return c.Gates.Enabled(InitialCorruptCheck) || c.Gates.Enabled(CompactHashCheck)
	}},
	{Asked{AskCheckpoints, "feature-gates"}, func(c *Config) bool { return c.Gates.Enabled(LeaseCheckpoint) }},
	{Asked{AskLocalAddress, "feature-gates"}, func(c *Config) bool { return c.Gates.Enabled(SetMemberLocalAddr) }},
}

// Asks are what this configuration asks for, each once.
func (c Config) Asks() []Asked {
	var found []Asked
	for _, a := range asks {
		had := slices.ContainsFunc(found, func(f Asked) bool { return f.Ask == a.Ask })
		if !had && a.of(&c) {
			found = append(found, a.Asked)
		}
	}
	return found
}

func isSecure(u url.URL) bool { return u.Scheme == "https" || u.Scheme == "unixs" }

func anyURL(is func(url.URL) bool, lists ...[]url.URL) bool {
	return slices.ContainsFunc(lists, func(urls []url.URL) bool { return slices.ContainsFunc(urls, is) })
}
