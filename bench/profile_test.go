package bench

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"holdfast/test/run"
)

// TestProfiles measures a row of several members and one over TLS, and expects a profile of each member.
func TestProfiles(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for make test: a profile takes three seconds")
	}
	dir := t.TempDir()
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	s, err := newSuite(Config{
		Holdfast: run.Holdfast(t), Rows: regexp.MustCompile("^(put-members-3|watch-tls-1000)$"), Dir: dir, Results: filepath.Join(dir, "results"),
		Profiles: filepath.Join(dir, "profiles"), Out: out, Rounds: 1, short: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if err := s.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"put-members-3-1-0", "put-members-3-1-1", "put-members-3-1-2", "watch-tls-1000-1-0"} {
		text, err := os.ReadFile(filepath.Join(s.cfg.Profiles, name+".pb.gz"))
		if err != nil {
			t.Error(err)
		} else if !bytes.HasPrefix(text, []byte{0x1f, 0x8b}) {
			t.Errorf("%s: no gzip: %q", name, text)
		}
	}
}
