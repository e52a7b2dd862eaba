package config

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"holdfast/util/urllist"
)

// Goal: a member begins or joins a cluster only as a part of it. Method: one row per rule; names are resolved by a table.
func TestCheckBootstrap(t *testing.T) {
	const dup = "initial cluster a=http://10.0.0.1:1,b=http://10.0.0.1:1 has duplicate url"
	for _, c := range []struct {
		what, cluster, advertise string
		want                     string // error; "" means none
	}{
		{"equal", "a=http://10.0.0.1:1,b=http://10.0.0.2:1", "http://10.0.0.1:1", ""},
		{"two URLs in another order", "a=http://10.0.0.2:1,a=http://10.0.0.1:1", "http://10.0.0.1:1,http://10.0.0.2:1", ""},
		{"name that resolves", "a=http://one:1", "http://10.0.0.1:1", ""},
		{"IPv6 spelled twice", "a=http://[::1]:1", "http://[0:0::1]:1", ""},
		{"localhost is not resolved", "a=http://localhost:1", "http://localhost:1", ""},
		{"not in it", "b=http://10.0.0.1:1", "http://10.0.0.1:1", `couldn't find local name "a" in the initial cluster configuration`},
		{"listed URL not advertised", "a=http://10.0.0.1:1,a=http://10.0.0.2:1", "http://10.0.0.1:1",
			`--initial-cluster has a=http://10.0.0.2:1 but missing from --initial-advertise-peer-urls=http://10.0.0.1:1 ` +
				`(len(["http://10.0.0.1:1"]) != len(["http://10.0.0.1:1" "http://10.0.0.2:1"]))`},
		{"advertised URL not listed", "a=http://10.0.0.1:1", "http://10.0.0.1:1,http://10.0.0.2:1",
			`--initial-advertise-peer-urls has http://10.0.0.2:1 but missing from --initial-cluster=a=http://10.0.0.1:1,a=http://10.0.0.2:1`},
		{"other address", "a=http://10.0.0.2:1", "http://10.0.0.1:1",
			`--initial-cluster has a=http://10.0.0.2:1 but missing from --initial-advertise-peer-urls=http://10.0.0.1:1 ` +
				`(resolved urls: "http://10.0.0.1:1" != "http://10.0.0.2:1")`},
		{"name that nobody knows", "a=http://nobody:1", "http://10.0.0.1:1",
			`--initial-cluster has a=http://nobody:1 but missing from --initial-advertise-peer-urls=http://10.0.0.1:1 ` +
				`(failed to resolve "http://nobody:1" (no such host))`},
		{"duplicate", "a=http://10.0.0.1:1,b=http://10.0.0.1:1", "http://10.0.0.1:1", dup},
		{"no URL", "a=", "http://10.0.0.1:1", "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: "},
	} {
		t.Run(c.what, func(t *testing.T) {
			cfg, _, err := Parse(Sources{Args: []string{"--name=a", "--initial-cluster=" + c.cluster, "--initial-advertise-peer-urls=" + c.advertise}})
			if err != nil {
				t.Fatal(err)
			}
			resolve := func(_ context.Context, hostPort string) (string, error) {
				switch host, port, _ := strings.Cut(hostPort, ":"); host {
				case "one":
					return "10.0.0.1:" + port, nil
				case "nobody":
					return "", errors.New("no such host")
				}
				return hostPort, nil
			}
			if err := cfg.CheckBootstrap(context.Background(), resolve); fmt.Sprint(err) != orNil(c.want) {
				t.Errorf("got  %v\nwant %s", err, orNil(c.want))
			}
		})
	}
}

func orNil(s string) string {
	if s == "" {
		return "<nil>"
	}
	return s
}

func TestCheckJoin(t *testing.T) {
	for cluster, want := range map[string]string{
		"a=http://x:1,b=http://y:1": "<nil>",
		"b=http://y:1":              `couldn't find local name "a" in the initial cluster configuration`,
		"a=http://x:1,b=http://x:1": "initial cluster a=http://x:1,b=http://x:1 has duplicate url",
	} {
		c := Default()
		c.Name, c.InitialCluster = "a", cluster
		if err := c.CheckJoin(); fmt.Sprint(err) != want {
			t.Errorf("%s: %v, want %s", cluster, err, want)
		}
	}
	c := Default()
	c.Discovery.Endpoints = []string{"d:1"}
	if err := c.CheckJoin(); err == nil {
		t.Error("discovery is no way to join")
	}
}

func TestCheckDiscovered(t *testing.T) {
	for cluster, want := range map[string]string{
		"a=http://x:1,b=http://y:1":              "<nil>",
		"a=http://x:1,b=http://x:1":              "discovery: initial cluster a=http://x:1,b=http://x:1 has duplicate url",
		"a=http://x:1,a=http://y:1,b=http://z:1": `discovery cluster a=http://x:1,a=http://y:1,b=http://z:1 has another member with the name "a" of this one: give each member its own --name, and use a new token`,
	} {
		c := Default()
		c.Name, c.InitialCluster = "a", cluster
		var err error
		if c.AdvertisePeerURLs, err = urllist.Parse([]string{"http://x:1"}); err != nil {
			t.Fatal(err)
		}
		if err := c.CheckDiscovered(); fmt.Sprint(err) != want {
			t.Errorf("%s: %v, want %s", cluster, err, want)
		}
	}
}

func TestDefaultInterface(t *testing.T) {
	const routes = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n" +
		"eth1\t0000A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n" +
		"wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n" +
		"eth0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
	if got, err := defaultInterface(routes); got != "eth0" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := defaultInterface("Iface\nlo 0000007F 0 1 0 0 0 000000FF\n"); err == nil {
		t.Error("a route was found where there is none")
	}
}
