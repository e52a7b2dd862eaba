package discovery

import (
	"fmt"
	"log/slog"
	"testing"

	"holdfast/test/names"
)

// TestClients: both services are asked, names lose their dot, and a domain without records is an error.
func TestClients(t *testing.T) {
	z := names.Zone{SRV: map[string][]string{
		"_etcd-client-ssl._tcp.example.com":  {"0 0 2379 a.example.com"},
		"_etcd-client._tcp.example.com":      {"0 0 2380 b.example.com", "0 0 2381 c.example.com"},
		"_etcd-client-blue._tcp.example.com": {"0 0 2379 d.example.com"},
	}}
	find := func(domain, name string) string {
		found, err := SRV{Domain: domain, Name: name, Resolver: z.Resolver(t), Log: slog.New(slog.DiscardHandler)}.Clients(t.Context())
		if err != nil {
			return "error"
		}
		var urls []string
		for _, e := range found {
			urls = append(urls, e.URL())
		}
		return fmt.Sprint(urls)
	}
	for _, c := range []struct{ domain, name, want string }{
		{"example.com", "", "[https://a.example.com:2379 http://b.example.com:2380 http://c.example.com:2381]"},
		{"example.com", "blue", "[http://d.example.com:2379]"},
		{"example.com", "green", "error"},
		{"example.org", "", "error"},
	} {
		if got := find(c.domain, c.name); got != c.want {
			t.Errorf("%s %q: %s, want %s", c.domain, c.name, got, c.want)
		}
	}
}
