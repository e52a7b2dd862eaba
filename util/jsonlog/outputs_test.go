package jsonlog

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Goal: a wrong setting gives etcd's sentence. Method: one row per rule.
func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name string
		c    Config
		want string // part of the error; "" means none
	}{
		{"nothing set", Config{}, ""},
		{"stderr and a file", Config{Outputs: []string{Stderr, "a.log"}}, ""},
		{"default and more", Config{Outputs: []string{Default, "a.log"}}, `multi logoutput for "default" is not supported yet`},
		{"journal and more", Config{Outputs: []string{Journal, "a.log"}}, "running with systemd/journal but other '--log-outputs' values"},
		{"journal", Config{Outputs: []string{Journal}}, ""},
		{"format", Config{Format: "konsole"}, "unknown log format: konsole, supported values json, console"},
		{"level", Config{Level: "x"}, `unrecognized level: "x"`},
		{"rotation of stderr", Config{Outputs: []string{Stderr}, Rotate: true}, ErrRotationOutput.Error()},
		{"rotation of nothing", Config{Rotate: true}, ErrRotationOutput.Error()},
		{"rotation of two", Config{Outputs: []string{"a", "b"}, Rotate: true}, ErrRotationOutput.Error()},
		{"rotation of one", Config{Outputs: []string{"a", Stdout}, Rotate: true, Rotation: DefaultRotation}, ""},
		{"rotation not JSON", Config{Outputs: []string{"a"}, Rotate: true, Rotation: "{"}, "improperly formatted log rotation config: unexpected end of JSON input"},
		{"rotation syntax", Config{Outputs: []string{"a"}, Rotate: true, Rotation: `{"maxsize": }`}, "improperly formatted log rotation config: "},
		{"rotation type", Config{Outputs: []string{"a"}, Rotate: true, Rotation: `{"maxsize": "x"}`}, "invalid log rotation config: "},
		{"rotation unread", Config{Outputs: []string{"a"}, Rotation: "{"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.c.Check()
			if (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestSeveralFilesGetEveryLine(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	logger, out, err := Open(Config{Outputs: []string{b, a, a}})
	if err != nil {
		t.Fatal(err)
	}
	logger.Info("hello")
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{a, b} {
		if got := read(t, name); strings.Count(got, "\n") != 1 || !strings.Contains(got, `"msg":"hello"`) {
			t.Errorf("%s holds %q", name, got)
		}
	}
}

func TestDevNullSilencesTheOthers(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a")
	logger, out, err := Open(Config{Outputs: []string{name, "/dev/null"}})
	if err != nil {
		t.Fatal(err)
	}
	logger.Info("hello")
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file was opened: %v", err)
	}
}

func TestOpenSaysWhichOutput(t *testing.T) {
	_, _, err := Open(Config{Outputs: []string{filepath.Join(t.TempDir(), "no", "such", "a.log")}})
	if err == nil || !strings.Contains(err.Error(), `a.log"`) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestLostLinesAreCounted(t *testing.T) {
	out := NewOutputs(brokenWriter{}, slog.LevelInfo)
	slog.New(NewHandler(out, out, JSON)).Info("hello")
	if out.Lost() != 1 {
		t.Errorf("lost %d, want 1", out.Lost())
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

// Goal: the journal gets etcd's fields, and what it does not take reaches the fallback. Method: a socket of our own.
func TestJournal(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	pc, err := net.ListenPacket("unixgram", socket)
	if err != nil {
		t.Skip(err)
	}
	var fallback bytes.Buffer
	j, err := openJournal(socket, &fallback)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.write(slog.LevelWarn, "dir/file.go:1", []byte("{\"a\":1}\n")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, _, err := pc.ReadFrom(b)
	if err != nil {
		t.Fatal(err)
	}
	want := "PRIORITY=4\nPACKAGE=dir\nSYSLOG_IDENTIFIER=" + filepath.Base(os.Args[0]) + "\nMESSAGE={\"a\":1}\n"
	if got := string(b[:n]); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := pc.Close(); err != nil {
		t.Fatal(err)
	}
	if err := j.write(slog.LevelWarn, "", []byte("late\n")); err != nil || fallback.String() != "late\n" {
		t.Errorf("fallback holds %q, %v", fallback.String(), err)
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	again, err := net.ListenPacket("unixgram", socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.write(slog.LevelInfo, "", []byte("back\n")); err != nil {
		t.Fatal(err)
	}
	if n, _, err := again.ReadFrom(b); err != nil || !strings.HasSuffix(string(b[:n]), "MESSAGE=back\n") {
		t.Errorf("after a restart the journal got %q, %v", b[:n], err)
	}
	if err := errors.Join(j.Close(), again.Close()); err != nil {
		t.Error(err)
	}
}

func TestJournalField(t *testing.T) {
	if got := string(journalField(nil, "A", "x\ny")); got != "A\n\x03\x00\x00\x00\x00\x00\x00\x00x\ny\n" {
		t.Errorf("%q", got)
	}
}

func TestJournalMissing(t *testing.T) {
	_, err := openJournal(filepath.Join(t.TempDir(), "none"), io.Discard)
	if err == nil || !strings.HasPrefix(err.Error(), "can't find journal (") {
		t.Errorf("%v", err)
	}
}

// Goal: a full file moves away, old ones are compressed and only the newest stay. Method: one-megabyte files and lines of
// 600 KB, so that every second line rotates; time is an argument.
func TestRotation(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	set, err := parseRotation(`{"maxsize": 1, "maxbackups": 2, "compress": true}`)
	if err != nil {
		t.Fatal(err)
	}
	r, err := openRotated(filepath.Join(dir, "etcd.log"), set, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		r.tidying.Wait() // now is read by the goroutine that tidies
		now = now.Add(time.Hour)
		if err := r.write(slog.LevelInfo, "", bytes.Repeat([]byte{byte('0' + i)}, 600<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.write(slog.LevelInfo, "", make([]byte, 2<<20)); err == nil {
		t.Error("a line above the size of a file was taken")
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	want := []string{"etcd-2026-01-02T07-04-05.000.log.gz", "etcd-2026-01-02T08-04-05.000.log.gz", "etcd.log"}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range entries {
		if i >= len(want) || e.Name() != want[i] {
			t.Fatalf("files %v, want %v", entries, want)
		}
	}
	if got := read(t, filepath.Join(dir, "etcd.log")); got[0] != '4' || len(got) != 600<<10 {
		t.Errorf("the live file holds %d bytes from line %c", len(got), got[0])
	}
	f, err := os.Open(filepath.Join(dir, want[1]))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(z); err != nil || len(b) != 600<<10 || b[0] != '3' {
		t.Errorf("newest backup: %d bytes, %v", len(b), err)
	}
}

func TestRotationByAge(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a-2026-01-01T00-00-00.000.log", "a-2026-01-09T00-00-00.000.log", "a-notes.log", "b.log"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	now := func() time.Time { return time.Date(2026, 1, 10, 0, 0, 0, 0, time.UTC) }
	r, err := openRotated(filepath.Join(dir, "a.log"), rotation{MaxAge: 5}, now)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.tidyOnce(); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 4 || filepath.Base(left[0]) != "a-2026-01-09T00-00-00.000.log" {
		t.Errorf("left: %v", left)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
