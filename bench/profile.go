package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"holdfast/test/run"
)

// profileArg lets our side show its profiles.
const profileArg = "--enable-pprof"

// profiled tells whether this measurement also takes profiles: of our side, when asked for. The figures are then those of a member
// that is interrupted a hundred times a second.
func (t *task) profiled() bool { return t.cfg.Profiles != "" && t.side.name == ours }

// profile takes a profile of each member's CPU while the row is measured. The function returned waits until all are written.
func (t *task) profile(ctx context.Context, m *members) (wait func() error) {
	done := make(chan error, len(m.servers))
	for i, s := range m.servers {
		name := fmt.Sprintf("%s-%d-%d.pb.gz", t.record.Row, t.record.Round, i)
		go func() {
			done <- saveProfile(ctx, s, t.span(measureFor, time.Second), filepath.Join(t.cfg.Profiles, name))
		}()
	}
	return func() (first error) {
		for range m.servers {
			if err := <-done; first == nil {
				first = err
			}
		}
		return first
	}
}

// saveProfile writes what the member did with its CPU in the time to come.
func saveProfile(ctx context.Context, s *run.Server, length time.Duration, path string) error {
	url := fmt.Sprintf("%s/debug/pprof/profile?seconds=%.0f", s.ClientURL(), length.Seconds())
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	c := http.Client{Transport: &http.Transport{TLSClientConfig: s.TLS(), DisableKeepAlives: true}}
	answer, err := c.Do(q)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("profile: %s: %s", answer.Status, text)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	return nil
}
