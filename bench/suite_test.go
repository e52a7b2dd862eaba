package bench

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// testSuite is a suite over rows that start no server, with results in a file that outlives it.
func testSuite(t *testing.T, path, build string, rounds int, rows ...row) *suite {
	t.Helper()
	r, err := openResults(path, header{Commit: "c"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	return &suite{
		cfg:     Config{Rounds: rounds, Dir: t.TempDir()},
		rows:    rows,
		sides:   []side{{name: "holdfast", build: build}, {name: "etcd", build: "e"}},
		scratch: t.TempDir(),
		results: r,
		out:     newProgress(out),
	}
}

// recorder is a row that remembers in which order it ran and finds the values that it is given, one after the other.
func recorder(name string, once bool, ran *[]string, found ...float64) row {
	return row{name: name, once: once, show: []string{"x"}, run: func(_ context.Context, t *task) error {
		if len(*ran) == len(found) {
			return errors.New("no more")
		}
		t.record.Values["x"] = found[len(*ran)]
		*ran = append(*ran, t.side.name)
		return nil
	}}
}

// TestSuiteTakesTurns expects both sides in turn in each round, and one round where one is enough.
func TestSuiteTakesTurns(t *testing.T) {
	var often, once []string
	s := testSuite(t, filepath.Join(t.TempDir(), "r"), "a", 2,
		recorder("often", false, &often, 1, 2, 3, 4), recorder("once", true, &once, 5, 6))
	if err := s.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"holdfast", "etcd", "holdfast", "etcd"}; !slices.Equal(often, want) {
		t.Errorf("often: %v", often)
	}
	if want := []string{"holdfast", "etcd"}; !slices.Equal(once, want) {
		t.Errorf("once: %v", once)
	}
	if got := s.results.valuesOf("often", "x", s.sides[0]); !slices.Equal(got, []float64{1, 3}) {
		t.Errorf("values of our side: %v", got)
	}
	if left, err := os.ReadDir(s.scratch); err != nil || len(left) > 0 {
		t.Errorf("left in the scratch folder: %v, %v", left, err)
	}
}

// TestSuiteGoesOn fails in the middle, tears the last line as a kill would, and expects the next run to measure exactly
// what is missing; a run of another build measures its own side anew.
func TestSuiteGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r")
	var first, second, third []string
	s := testSuite(t, path, "a", 2, recorder("row", false, &first, 1, 2, 3))
	if err := s.run(t.Context()); err == nil || !strings.Contains(err.Error(), "row: etcd, round 2: no more") {
		t.Fatalf("the failure of the fourth measurement: %v", err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	torn := text[:len(text)-10] // the third measurement
	if err := os.WriteFile(path, torn, 0o644); err != nil {
		t.Fatal(err)
	}
	s = testSuite(t, path, "a", 2, recorder("row", false, &second, 3, 4))
	if err := s.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"holdfast", "etcd"}; !slices.Equal(second, want) {
		t.Errorf("second run: %v", second)
	}
	s = testSuite(t, path, "b", 2, recorder("row", false, &third, 5, 6))
	if err := s.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"holdfast", "holdfast"}; !slices.Equal(third, want) {
		t.Errorf("run of another build: %v", third)
	}
}

func TestSummary(t *testing.T) {
	sides := []side{{name: "holdfast", build: "a"}, {name: "etcd", build: "e"}}
	r := &results{}
	for i, v := range []float64{10, 30, 20, 40} {
		r.all = append(r.all, record{Row: "row", Side: "holdfast", Build: "a", Round: i + 1, Values: values{"x": v}})
	}
	r.all = append(r.all,
		record{Row: "row", Side: "holdfast", Build: "old", Round: 1, Values: values{"x": 999}},
		record{Row: "row", Side: "etcd", Build: "e", Round: 1, Values: values{"x": 50}})
	var out bytes.Buffer
	if err := summarize(&out, r, []row{{name: "row", asks: "what?", aim: "little", show: []string{"x", "y"}}}, sides); err != nil {
		t.Fatal(err)
	}
	want := "\nrow: what?\naim: little\n  x  holdfast 25.0 (10.0-40.0)  etcd 50.0  ratio 0.50\n  y  holdfast -                 etcd -\n"
	if out.String() != want {
		t.Errorf("got %q\nwant %q", out.String(), want)
	}
}

// TestRows checks what the schedule relies on.
func TestRows(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range rows() {
		if r.name == "" || r.asks == "" || r.run == nil || len(r.show) == 0 || seen[r.name] {
			t.Errorf("row %q is not complete or not the only one", r.name)
		}
		seen[r.name] = true
	}
}

func TestStamped(t *testing.T) {
	for text, want := range map[string]string{
		"etcd Version: 3.7.3\nGit SHA: 0123456789abcdef\nGo Version: go1.26\n":       "0123456789",
		"etcd Version: 3.7.3\nGit SHA: 0123456789abcdef-dirty\nGo Version: go1.26\n": "0123456789-dirty",
		"Git SHA: Not provided\n": "",
		"":                        "",
	} {
		if got := stamped(text); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// TestSteps feeds a whole load and expects the rate of each step.
func TestSteps(t *testing.T) {
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	s := newSteps(&task{suite: &suite{out: newProgress(out)}}, time.Now(), keysBase)
	const step = keysBase / loadSteps
	for n := int64(1); n <= keysBase; n++ {
		if n%step == step/2 {
			s.memory(float64(n / step))
		}
		s.written(n)
	}
	r := record{Values: values{}, Series: map[string][]float64{}}
	s.into(&r)
	if got := r.Series["anonymous_load_mb"]; !slices.Equal(got, []float64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}) {
		t.Errorf("memory per step: %v", got)
	}
	if len(r.Series["keys_per_s"]) != loadSteps || r.Values["first_per_s"] <= 0 || r.Values["anonymous_max_mb"] != 9 {
		t.Errorf("%+v", r)
	}
}
