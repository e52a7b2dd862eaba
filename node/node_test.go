package node

import (
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"holdfast/server"
)

// TestOpenTellsWhy opens nodes that cannot be opened, one for its address and one for its member, and expects the reason.
func TestOpenTellsWhy(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{ClientURLs: []url.URL{{Scheme: "http", Host: "127.0.0.1:99999"}}}, "--listen-client-urls"},
		{Config{Server: server.Config{Log: log}}, "DataDir"},
	} {
		n, err := Open(c.cfg)
		if n != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("opened %v with error %v, wanted one about %s", n, err, c.want)
		}
	}
}
