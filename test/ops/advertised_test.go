package ops

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/test/run"
)

// TestB13WrongAddresses starts three members of which one tells the others a peer address where nobody listens, and clients the
// address of another member. It says so by itself, and names the flags; those that are right say nothing.
func TestB13WrongAddresses(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	names := []string{"a", "b", "c"}
	var members []*run.Server
	var pairs []string
	place := func(name string, cfg run.Config) {
		cfg.Binary, cfg.Dir, cfg.Name = run.Holdfast(t), t.TempDir(), name
		m, err := run.Place(cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Kill)
		members = append(members, m)
		pairs = append(pairs, fmt.Sprintf("%s=http://%s", name, m.Peer))
	}
	place("a", run.Config{})
	place("b", run.Config{})
	unused, err := run.Place(run.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	place("c", run.Config{AdvertisePeer: "http://" + unused.Peer, AdvertiseClient: "http://" + members[0].Client})
	pairs[2] = "c=http://" + unused.Peer
	for _, m := range members {
		m.Join(strings.Join(pairs, ","))
		if err := m.Launch(); err != nil {
			t.Fatal(err)
		}
	}
	log := func(i int) string {
		text, err := os.ReadFile(filepath.Join(filepath.Dir(members[i].Data), "server.log"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	eventually(t, "the warnings", func() error {
		words := log(2)
		for _, want := range []string{
			`"flag":"advertise-client-urls","url":"http://` + members[0].Client + `"`,
			`"flag":"initial-advertise-peer-urls","urls":["http://` + unused.Peer + `"]`,
		} {
			if !strings.Contains(words, want) {
				return fmt.Errorf("no %s", want)
			}
		}
		return nil
	})
	for i := range members[:2] {
		if words := log(i); strings.Contains(words, `"flag":"advertise-client-urls"`) || strings.Contains(words, `"flag":"initial-advertise-peer-urls"`) {
			t.Errorf("member %s, whose addresses are right, says\n%s", names[i], members[i].LogTail(30))
		}
	}
}
