package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
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
		failed:  map[string]bool{},
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

// TestTurns expects what is promised first, then everything else once, then the rest, and the longest once.
func TestTurns(t *testing.T) {
	s := &suite{rows: []row{{name: "other"}, {name: "heavy", heavy: true}, {name: "put-1000"}, {name: "failover", once: true}}}
	var got []string
	for _, t := range s.turns() {
		got = append(got, fmt.Sprint(t.row.name, " ", t.round))
	}
	want := []string{"put-1000 1", "failover 1", "put-1000 2", "put-1000 3", "other 1", "heavy 1",
		"other 2", "heavy 2", "other 3", "heavy 3", "put-1000 4", "put-1000 5"}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
}

// TestSuiteEndsInTime leaves out what would take too long and measures what would not, however late in the order.
func TestSuiteEndsInTime(t *testing.T) {
	var long, quick []string
	s := testSuite(t, filepath.Join(t.TempDir(), "r"), "a", 1, recorder("load-10m", true, &long, 1, 2), recorder("quick", true, &quick, 3, 4))
	s.until = time.Now().Add(time.Minute)
	if err := s.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(long) > 0 || len(quick) != 2 {
		t.Errorf("of the long one %d measurements, of the quick one %d", len(long), len(quick))
	}
	if left := s.left(s.turns()); !strings.HasSuffix(left, " min left, for 8") {
		t.Errorf("the two sides of the long one are left, 4 minutes each: %q", left)
	}
}

// TestSuiteFails lets a side fail in each round, and expects it to be asked once, the other side in every round, and both rows to be measured.
func TestSuiteFails(t *testing.T) {
	asked, well := 0, []string(nil)
	bad := row{name: "bad", show: []string{"x"}, run: func(_ context.Context, t *task) error {
		t.record.Values["x"] = 1
		if t.side.name == "etcd" {
			asked++
			return errors.New("killed")
		}
		return nil
	}}
	s := testSuite(t, filepath.Join(t.TempDir(), "r"), "a", 2, bad, recorder("good", false, &well, 1, 2, 3, 4))
	if err := s.run(t.Context()); err == nil || err.Error() != "bad: etcd, round 1: killed" {
		t.Errorf("%v", err)
	}
	if found := s.results.valuesOf("bad", "x", s.sides[0]); asked != 1 || len(found) != 2 || len(well) != 4 {
		t.Errorf("the bad side was asked %d times; of the other there are %v, of the other row %v", asked, found, well)
	}
}

// TestSuiteIsInterrupted ends a run in its second measurement, and expects the first to be kept and nothing to be blamed on the row.
func TestSuiteIsInterrupted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r")
	ctx, interrupt := context.WithCancel(t.Context())
	s := testSuite(t, path, "a", 2, row{name: "row", show: []string{"x"}, run: func(_ context.Context, t *task) error {
		if t.side.name == "etcd" {
			interrupt()
			return ctx.Err()
		}
		t.record.Values["x"] = 1
		return nil
	}})
	if err := s.run(ctx); !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "round") {
		t.Errorf("%v", err)
	}
	kept, err := openResults(path, header{})
	if err != nil {
		t.Fatal(err)
	}
	defer kept.close()
	if len(kept.all) != 1 || kept.all[0].Side != "holdfast" {
		t.Errorf("kept: %+v", kept.all)
	}
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
	out.Reset()
	if err := summarize(&out, r, []row{{name: "row", asks: "alone?", show: []string{"x"}}}, sides[:1]); err != nil || out.String() != "\nrow: alone?\n  x  holdfast 25.0 (10.0-40.0)\n" {
		t.Errorf("of one side: %q, %v", out.String(), err)
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
		for _, target := range targetsOf(r.name) {
			if !slices.Contains(r.show, target.value) {
				t.Errorf("row %s has a target for %s and does not show it", r.name, target.value)
			}
		}
	}
	for name := range promised {
		if !seen[name] || asked[name] != nil {
			t.Errorf("%s is promised, and no row or asked besides", name)
		}
	}
	for _, name := range slices.Concat(slices.Collect(maps.Keys(asked)), slices.Collect(maps.Keys(takes)), slices.Collect(maps.Keys(prepares))) {
		if !seen[name] {
			t.Errorf("%s is no row", name)
		}
	}
}

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		of              target
		own, etcd       float64
		absolute, ratio string
	}{
		{cpu(22, 18, 42), 20, 40, met, met},
		{cpu(22, 18, 42), 25, 62.5, missed, reached}, // 0.40 of etcd's, 0.43 is aimed at
		{cpu(22, 18, 42), 18, 0, reached, ""},
		{rate(1.6, 1.9), 150, 100, "", missed},
		{rate(1.6, 1.9), 195, 100, "", reached},
		{rate(3, 0), 310, 100, "", reached},
		{target{value: "killed"}, 1, 0, missed, ""},
		{target{value: "killed"}, 0, 0, reached, ""},
		{target{value: "succeeded", must: 40, least: true}, 39, 40, missed, ""},
	} {
		if absolute, ratio := c.of.verdict(c.own, c.etcd); absolute != c.absolute || ratio != c.ratio {
			t.Errorf("%v: %v beside %v: %q, %q; want %q, %q", c.of, c.own, c.etcd, absolute, ratio, c.absolute, c.ratio)
		}
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
