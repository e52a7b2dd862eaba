package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"holdfast/test/names"
)

// TestSRV asks zones as members do, with their advertised URLs.
func TestSRV(t *testing.T) {
	const plain, secure = "_etcd-server._tcp.example.com", "_etcd-server-ssl._tcp.example.com"
	three := []string{"0 0 2380 c.example.com", "0 0 2380 a.example.com", "0 0 2380 b.example.com"}
	addresses := map[string]string{"a.example.com": "10.0.0.1", "b.example.com": "10.0.0.2", "c.example.com": "10.0.0.3", "alias.example.com": "10.0.0.2"}
	for name, c := range map[string]struct {
		zone       names.Zone
		name       string // --discovery-srv-name
		advertised string
		want       string // the cluster, or with "!" before it a part of the error
	}{
		"plain": {names.Zone{SRV: map[string][]string{plain: three}, Addresses: addresses}, "", "http://b.example.com:2380",
			"0=http://a.example.com:2380,me=http://b.example.com:2380,2=http://c.example.com:2380"},
		"secure": {names.Zone{SRV: map[string][]string{secure: three}, Addresses: addresses}, "", "https://b.example.com:2380",
			"0=https://a.example.com:2380,me=https://b.example.com:2380,2=https://c.example.com:2380"},
		"a named service": {names.Zone{SRV: map[string][]string{"_etcd-server-green._tcp.example.com": three[:1], plain: three}, Addresses: addresses}, "green", "http://c.example.com:2380",
			"me=http://c.example.com:2380"},
		"advertised under another name": {names.Zone{SRV: map[string][]string{plain: three}, Addresses: addresses}, "", "http://alias.example.com:2380",
			"0=http://a.example.com:2380,me=http://b.example.com:2380,2=http://c.example.com:2380"},
		"advertised as an address": {names.Zone{SRV: map[string][]string{plain: three}, Addresses: addresses}, "", "http://10.0.0.3:2380",
			"0=http://a.example.com:2380,1=http://b.example.com:2380,me=http://c.example.com:2380"},
		"no name resolves": {names.Zone{SRV: map[string][]string{plain: three}}, "", "http://b.example.com:2380",
			"0=http://a.example.com:2380,me=http://b.example.com:2380,2=http://c.example.com:2380"},
		"another's name does not resolve": {names.Zone{SRV: map[string][]string{plain: append(three, "0 0 2380 dead.example.com")}, Addresses: addresses}, "", "http://10.0.0.1:2380",
			"me=http://a.example.com:2380,1=http://b.example.com:2380,2=http://c.example.com:2380,3=http://dead.example.com:2380"},
		"both services": {names.Zone{SRV: map[string][]string{plain: three[:2], secure: three}, Addresses: addresses}, "", "http://a.example.com:2380",
			"me=http://a.example.com:2380,1=https://b.example.com:2380,2=http://c.example.com:2380"},
		"own record of the other scheme": {names.Zone{SRV: map[string][]string{secure: three}, Addresses: addresses}, "", "http://a.example.com:2380",
			"!bootstrap at https://a.example.com:2380 from DNS for etcd-server-ssl has scheme mismatch with expected peer http://a.example.com:2380"},
		"no own record": {names.Zone{SRV: map[string][]string{plain: three}, Addresses: addresses}, "", "http://x.example.com:2380",
			`!cannot find local etcd member "me" in SRV records`},
		"another port": {names.Zone{SRV: map[string][]string{plain: three}, Addresses: addresses}, "", "http://10.0.0.1:1",
			`!cannot find local etcd member "me" in SRV records`},
		"no records": {names.Zone{}, "", "http://a.example.com:2380",
			"!error querying DNS SRV records for _etcd-server-ssl"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			advertised, err := url.Parse(c.advertised)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			srv := SRV{Domain: "example.com", Name: c.name, Resolver: c.zone.Resolver(t), Log: slog.New(slog.DiscardHandler)}
			got, err := srv.InitialCluster(ctx, "me", []url.URL{*advertised})
			if err != nil {
				got = fmt.Sprint("!", err)
			}
			if got != c.want && (c.want[0] != '!' || !strings.Contains(got, c.want[1:])) {
				t.Errorf("%s\nwant %s", got, c.want)
			}
		})
	}
}
