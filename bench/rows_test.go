package bench

import (
	"os"
	"path/filepath"
	"testing"

	"holdfast/test/run"
)

// TestEveryRow puts each question to our side for a moment, on little data, and expects every figure that the row is to show.
func TestEveryRow(t *testing.T) {
	dir := t.TempDir()
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	s, err := newSuite(Config{Holdfast: run.Holdfast(t), Dir: dir, Results: filepath.Join(dir, "results"), Out: out, short: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for _, row := range s.rows {
		t.Run(row.name, func(t *testing.T) {
			one, err := s.measure(t.Context(), row, s.sides[0], 1)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range row.show {
				if _, has := one.Values[name]; !has {
					t.Errorf("no %s", name)
				}
			}
			t.Logf("%.1f s: %v", one.Seconds, one.Values)
		})
	}
}
