package config

import (
	"slices"
	"strings"
	"testing"

	"holdfast/util/urllist"
)

// TestE1Election: without settings a heartbeat comes every 100 ms and an election after 1000 ms, the variables of etcd change
// both, and what cannot work together is refused in etcd's words.
func TestE1Election(t *testing.T) {
	for _, c := range []struct {
		environ        []string
		beat, election uint
		ticks          int
		refused        string
	}{
		{environ: nil, beat: 100, election: 1000, ticks: 10},
		{environ: []string{"ETCD_HEARTBEAT_INTERVAL=100", "ETCD_ELECTION_TIMEOUT=1000"}, beat: 100, election: 1000, ticks: 10},
		{environ: []string{"ETCD_HEARTBEAT_INTERVAL=500", "ETCD_ELECTION_TIMEOUT=2500"}, beat: 500, election: 2500, ticks: 5},
		{environ: []string{"ETCD_ELECTION_TIMEOUT=50000"}, beat: 100, election: 50000, ticks: 500},
		{environ: []string{"ETCD_HEARTBEAT_INTERVAL=500"}, refused: "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[500ms]"},
		{environ: []string{"ETCD_ELECTION_TIMEOUT=499"}, refused: "--election-timeout[499ms] should be at least as 5 times as --heartbeat-interval[100ms]"},
		{environ: []string{"ETCD_ELECTION_TIMEOUT=50001"}, refused: "--election-timeout[50001ms] is too long, and should be set less than 50000ms"},
		{environ: []string{"ETCD_HEARTBEAT_INTERVAL=0"}, refused: "--heartbeat-interval must be >0 (set to 0ms)"},
	} {
		got, notes, err := Parse(Sources{Environ: c.environ})
		if c.refused != "" {
			if words := told(err, notes); !strings.Contains(words, c.refused) {
				t.Errorf("%v: %s, want %q", c.environ, words, c.refused)
			}
			continue
		}
		if err != nil || got.HeartbeatMS != c.beat || got.ElectionMS != c.election || got.ElectionTicks() != c.ticks {
			t.Errorf("%v: %d, %d, %d ticks, %v", c.environ, got.HeartbeatMS, got.ElectionMS, got.ElectionTicks(), err)
		}
	}
}

// TestC5HostNames: a name cannot be listened on, as in etcd since 3.2, and the refusal says what is wanted; it can be advertised.
func TestC5HostNames(t *testing.T) {
	const name = "http://etcd-0.etcd:2380"
	advertised := []string{"--initial-advertise-peer-urls=" + name, "--advertise-client-urls=http://etcd-0.etcd:2379", "--initial-cluster=default=" + name}
	for _, c := range []struct {
		args    []string
		refused string
	}{
		{[]string{"--listen-peer-urls=" + name}, "expected IP in URL for binding (" + name + ")"},
		{[]string{"--listen-client-urls=" + name}, "expected IP in URL for binding (" + name + ")"},
		{[]string{"--listen-metrics-urls=" + name}, "expected IP in URL for binding (" + name + ")"},
		{[]string{"--listen-client-http-urls=" + name}, "expected IP in URL for binding (" + name + ")"},
		{[]string{"--listen-peer-urls=http://localhost:2380", "--listen-client-urls=http://[::1]:2379"}, ""},
	} {
		got, notes, err := Parse(Sources{Args: append(slices.Clone(advertised), c.args...)})
		if c.refused != "" {
			if words := told(err, notes); !strings.Contains(words, c.refused) {
				t.Errorf("%v: %s, want %q", c.args, words, c.refused)
			}
			continue
		}
		if err != nil || urllist.Texts(got.AdvertisePeerURLs)[0] != name {
			t.Errorf("%v: advertises %v, %v", c.args, got.AdvertisePeerURLs, err)
		}
	}
}

// told is everything that a start says about wrong settings.
func told(err error, notes Notes) string {
	words := notes.String()
	if err != nil {
		words += err.Error()
	}
	if stop, ok := err.(*Stop); ok {
		words += stop.Notes.String() + stop.Stderr
	}
	return words
}

// TestB13AdvertisedAddresses: a start warns, by the name of the flag, of advertised addresses that can be no good to another machine.
func TestB13AdvertisedAddresses(t *testing.T) {
	const others = ",b=http://10.0.0.2:2380"
	for _, c := range []struct {
		peer, client, others string
		want                 []string // flags that are named
	}{
		{"http://10.0.0.1:2380", "http://10.0.0.1:2379", others, nil},
		{"http://localhost:2380", "http://localhost:2379", "", nil},
		{"http://127.0.0.1:2380", "http://127.0.0.1:2379", ",b=http://127.0.0.1:12380", nil},
		{"http://etcd-0:2380", "unix:/run/etcd", others, nil},
		{"http://10.0.0.1:2380", "http://127.0.0.1:2379", others, []string{"advertise-client-urls"}},
		{"http://127.0.0.1:2380", "http://10.0.0.1:2379", others, []string{"initial-advertise-peer-urls"}},
		{"http://localhost:2380", "http://[::1]:2379", others, []string{"initial-advertise-peer-urls", "advertise-client-urls"}},
		{"http://10.0.0.1:2380", "http://0.0.0.0:2379", "", []string{"advertise-client-urls"}},
		{"http://0.0.0.0:2380", "http://[::]:2379", others, []string{"initial-advertise-peer-urls", "advertise-client-urls"}},
	} {
		_, notes, err := Parse(Sources{Args: []string{
			"--name=a", "--initial-advertise-peer-urls=" + c.peer, "--advertise-client-urls=" + c.client, "--initial-cluster=a=" + c.peer + c.others,
		}})
		if err != nil {
			t.Fatal(err)
		}
		var named []string
		for _, n := range notes {
			if strings.HasPrefix(n.Msg, "an advertised address ") {
				named = append(named, n.Attrs[0].Value.String())
			}
		}
		if !slices.Equal(named, c.want) {
			t.Errorf("%s, %s with %q: %v are named, want %v", c.peer, c.client, c.others, named, c.want)
		}
	}
}
