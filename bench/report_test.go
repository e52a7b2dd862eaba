package bench

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestReport writes records of two builds, of which the newer counts, beside a file of another day and one of another kind, and reads tables and plots.
func TestReport(t *testing.T) {
	results, into := t.TempDir(), filepath.Join(t.TempDir(), "report")
	if err := os.WriteFile(filepath.Join(results, "2026-01-01-cluster.jsonl"), []byte(`{"test":"failover","gap":3}`+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := openResults(filepath.Join(results, "r.jsonl"), header{Commit: "abc", Builds: map[string]string{ours: "new"}, At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	before, err := openResults(filepath.Join(results, "a.jsonl"), header{Commit: "before", Builds: map[string]string{ours: "older"}})
	if err != nil {
		t.Fatal(err)
	}
	defer before.close()
	for _, side := range []string{ours, theirs} { // when the row asked something else
		one := record{Row: "put-1000", Side: side, Build: "e", Values: values{"server_us_per_op": 1}, At: time.Unix(1, 0)}
		if err := before.add(one); err != nil {
			t.Fatal(err)
		}
	}
	for i, one := range []record{
		{Side: ours, Build: "old", Values: values{"server_us_per_op": 99}},
		{Side: theirs, Build: "e", Values: values{"server_us_per_op": 40}},
		{Side: ours, Build: "new", Values: values{"server_us_per_op": 18}},
		{Side: ours, Build: "new", Values: values{"server_us_per_op": 22}},
	} {
		one.Row, one.At = "put-1000", time.Unix(int64(1000+i), 0)
		if err := r.add(one); err != nil {
			t.Fatal(err)
		}
	}
	if err := Report(results, into); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(into, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"commits abc", "### put-1000", "| server_us_per_op | 20.0 (18.0-22.0) | 40.0 | 0.50 |", "(cpu.svg)",
		"| put-1000 | server_us_per_op | 22.0 | 18.0 | 42.0 | 2 | 20.0 (18.0-22.0) | 40.0 | 0.50 | 0.52 | must | must |\n"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
	plot, err := os.Open(filepath.Join(into, "cpu.svg"))
	if err != nil {
		t.Fatal(err)
	}
	defer plot.Close()
	d, text := xml.NewDecoder(plot), ""
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if c, is := token.(xml.CharData); is {
			text += string(c)
		}
	}
	if !strings.Contains(text, "20.0 to 40.0 server_us_per_op") {
		t.Errorf("the plot says %q", text)
	}
	if _, err := os.Stat(filepath.Join(into, "disk.svg")); err == nil {
		t.Error("a plot of what was not measured")
	}
}
