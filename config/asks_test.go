package config

import (
	"reflect"
	"testing"
)

// Goal: a server learns all that is asked of it, and which flag to name. Method: one row per ask, and a plain member.
func TestAsks(t *testing.T) {
	seen := map[Ask]bool{}
	for _, c := range []struct {
		args []string
		want []Asked
	}{
		{nil, nil},
		{[]string{"--name=a", "--feature-gates=PriorityRequest=true"}, nil},
		{[]string{"--listen-client-urls=https://1.1.1.1:1", "--advertise-client-urls=https://a:1"}, []Asked{{AskClientTLS, "listen-client-urls"}}},
		{[]string{"--cert-file=/c", "--auto-tls"}, []Asked{{AskClientTLS, "cert-file"}}},
		{[]string{"--auto-tls", "--peer-auto-tls"}, []Asked{{AskClientTLS, "auto-tls"}, {AskPeerTLS, "peer-auto-tls"}}},
		{[]string{"--listen-peer-urls=unixs://s:1"}, []Asked{{AskPeerTLS, "listen-peer-urls"}, {AskUnixSocket, "listen-peer-urls"}}},
		{[]string{"--peer-key-file=/k"}, []Asked{{AskPeerTLS, "peer-cert-file"}}},
		{[]string{"--initial-cluster=default=http://a:1,b=http://b:1", "--initial-cluster-state=existing"},
			[]Asked{{AskCluster, "initial-cluster"}, {AskJoin, "initial-cluster-state"}}},
		{[]string{"--discovery-token=t", "--discovery-endpoints=e:1"}, []Asked{{AskDiscovery, "discovery-endpoints"}}},
		{[]string{"--discovery-srv=d"}, []Asked{{AskDNSDiscovery, "discovery-srv"}}},
		{[]string{"--listen-metrics-urls=unix://s:1", "--listen-client-http-urls=http://1.1.1.1:1"},
			[]Asked{{AskUnixSocket, "listen-client-urls"}, {AskHTTPPort, "listen-client-http-urls"}, {AskMetricsPort, "listen-metrics-urls"}}},
		{[]string{"--auth-token=jwt,sign-method=RS256"}, []Asked{{AskJWT, "auth-token"}}},
		{[]string{"--enable-distributed-tracing", "--enable-pprof", "--memory-mlock", "--force-new-cluster", "--unsafe-no-fsync"}, []Asked{
			{AskTracing, "enable-distributed-tracing"}, {AskProfiles, "enable-pprof"}, {AskMemoryLock, "memory-mlock"},
			{AskForceNew, "force-new-cluster"}, {AskNoFsync, "unsafe-no-fsync"}}},
		{[]string{"--corrupt-check-time=1h"}, []Asked{{AskCorruptCheck, "corrupt-check-time"}}},
		{[]string{"--feature-gates=CompactHashCheck=true,LeaseCheckpoint=true,SetMemberLocalAddr=true"},
			[]Asked{{AskCorruptCheck, "feature-gates"}, {AskCheckpoints, "feature-gates"}, {AskLocalAddress, "feature-gates"}}},
	} {
		cfg, _, err := Parse(Sources{Args: c.args})
		if err != nil {
			t.Fatalf("%v: %v", c.args, err)
		}
		if got := cfg.Asks(); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v asks for %v, want %v", c.args, got, c.want)
		}
		for _, a := range c.want {
			seen[a.Ask] = true
		}
	}
	for _, a := range asks {
		if !seen[a.Ask] {
			t.Errorf("%q has no case", a.Ask)
		}
		if byName[a.Flag] == nil {
			t.Errorf("%q names --%s, which is no flag", a.Ask, a.Flag)
		}
	}
}
