package main

import (
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"holdfast/test/etcd"
	"holdfast/test/run"
)

// side is one of the two programs that are compared.
type side struct {
	name   string
	binary string // a copy: a build beside the run must not change what is measured
	build  string // the start of the binary's SHA-256
}

// freeMBMin is what a run needs: a million keys on both sides, with etcd's logs and the room its file grows by.
const freeMBMin = 6000

// suite is one run over the chosen rows.
type suite struct {
	set     settings
	rows    []row
	sides   []side // ours first: ratios are ours to the other's
	scratch string // removed at the end
	results *results
	out     progress
	loaded  map[string]*run.Server // side -> a killed server with a million keys; filled by the row load
}

func newSuite(set settings, root string) (_ *suite, err error) {
	s := &suite{set: set, out: newProgress(os.Stdout), loaded: map[string]*run.Server{}}
	for _, r := range rows() {
		if set.rows.MatchString(r.name) {
			s.rows = append(s.rows, r)
		}
	}
	if len(s.rows) == 0 {
		return nil, fmt.Errorf("ROWS=%s matches no row", set.rows)
	}
	if err := os.MkdirAll(set.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make room for data: %w", err)
	}
	free, err := freeMB(set.dir)
	if err != nil {
		return nil, err
	}
	if free < freeMBMin {
		return nil, fmt.Errorf("%s has %.0f MB left, %d are needed; DIR names another place", set.dir, free, freeMBMin)
	}
	if s.scratch, err = os.MkdirTemp(set.dir, "run-"); err != nil {
		return nil, fmt.Errorf("make room for data: %w", err)
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err := s.copyBinaries(); err != nil {
		return nil, err
	}
	return s, s.openResults(root)
}

// copyBinaries takes both programs as they are now.
func (s *suite) copyBinaries() error {
	built, err := etcd.Build()
	if err != nil {
		return err
	}
	for _, p := range []side{
		{name: "holdfast", binary: s.set.holdfast},
		{name: "etcd", binary: filepath.Join(built, "etcd")},
	} {
		text, err := os.ReadFile(p.binary)
		if err != nil {
			return fmt.Errorf("copy %s (make build): %w", p.name, err)
		}
		sum := sha256.Sum256(text)
		p.build = hex.EncodeToString(sum[:6])
		p.binary = filepath.Join(s.scratch, p.name)
		if err := os.WriteFile(p.binary, text, 0o755); err != nil {
			return fmt.Errorf("copy %s: %w", p.name, err)
		}
		s.sides = append(s.sides, p)
	}
	return nil
}

func (s *suite) openResults(root string) error {
	m, err := thisMachine(s.scratch)
	if err != nil {
		return err
	}
	head := header{Commit: commit(root, s.sides[0].binary), At: time.Now().UTC(), Machine: m, Builds: map[string]string{}}
	for _, p := range s.sides {
		head.Builds[p.name] = p.build
	}
	if err := os.MkdirAll(s.set.results, 0o755); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	path := filepath.Join(s.set.results, time.Now().UTC().Format(time.DateOnly)+"-"+head.Commit+".jsonl")
	if s.results, err = openResults(path, head); err != nil {
		return err
	}
	s.out.line("%d cores, %d MB, %s, kernel %s; results in %s", m.Cores, m.MemoryMB, m.FileSystem, m.Kernel, path)
	if m.FileSystem == "tmpfs" {
		s.out.line("data is in memory, where a sync costs nothing: rates and latencies of writes mean little")
	}
	return nil
}

// commit names what the binary was built from: what the go tool noted in it or, where it noted nothing, the state of the
// checkout, which make builds from just before.
func commit(root, binary string) string {
	if info, err := buildinfo.ReadFile(binary); err == nil {
		if name := stamped(info.Settings); name != "" {
			return name
		}
	}
	out, err := exec.Command("git", "-C", root, "rev-parse", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	name := strings.TrimSpace(string(out))[:commitDigits]
	// Tests, results and words do not enter the binary.
	out, err = exec.Command("git", "-C", root, "status", "--porcelain", "--", "*.go", "go.mod", ":!*_test.go", ":!bench", ":!test").Output()
	if err != nil || len(out) > 0 {
		name += dirty
	}
	return name
}

// commitDigits of a hash are enough to find a commit; dirty follows it when files differed.
const (
	commitDigits = 10
	dirty        = "-dirty"
)

// stamped is the commit among the settings of a build, "" if there is none.
func stamped(settings []debug.BuildSetting) string {
	name, changed := "", ""
	for _, s := range settings {
		switch {
		case s.Key == "vcs.revision" && len(s.Value) >= commitDigits:
			name = s.Value[:commitDigits]
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = dirty
		}
	}
	if name == "" {
		return ""
	}
	return name + changed
}

// run makes every measurement that is missing: per row the rounds, per round one side after the other.
func (s *suite) run(ctx context.Context) error {
	var failed []error
	for _, row := range s.rows {
		rounds := s.set.rounds
		if row.once {
			rounds = 1
		}
		if err := s.runRow(ctx, row, rounds); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", row.name, err))
			s.out.line("FAIL %s: %v", row.name, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	if err := summarize(s.out.out, s.results, s.rows, s.sides); err != nil {
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

func (s *suite) runRow(ctx context.Context, row row, rounds int) error {
	for round := 1; round <= rounds; round++ {
		for _, p := range s.sides {
			if s.results.has(row.name, p, round) {
				s.out.line("%-12s %d %-9s measured before", row.name, round, p.name)
				continue
			}
			one, err := s.measure(ctx, row, p, round)
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", p.name, round, err)
			}
			if err := s.results.add(one); err != nil {
				return err
			}
			s.out.line("%s", lineOf(row, one))
		}
	}
	return nil
}

// measure makes one measurement in a folder of its own.
func (s *suite) measure(ctx context.Context, row row, p side, round int) (record, error) {
	load, err := load1()
	if err != nil {
		return record{}, err
	}
	dir, err := os.MkdirTemp(s.scratch, row.name+"-")
	if err != nil {
		return record{}, fmt.Errorf("make room for data: %w", err)
	}
	t := &task{suite: s, side: p, dir: dir, what: fmt.Sprintf("%-12s %d %-9s", row.name, round, p.name)}
	t.record = record{
		Row: row.name, Side: p.name, Build: p.build, Round: round, At: time.Now().UTC(), Load1: load,
		Params: map[string]any{}, Values: values{}, Series: map[string][]float64{},
	}
	err = row.run(ctx, t)
	t.record.Seconds = time.Since(t.record.At).Seconds()
	if s.loaded[p.name] == nil || filepath.Dir(s.loaded[p.name].Data) != dir {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return t.record, err
}

func lineOf(row row, one record) string {
	line := fmt.Sprintf("%-12s %d %-9s", one.Row, one.Round, one.Side)
	for _, name := range row.show {
		if v, has := one.Values[name]; has {
			line += fmt.Sprintf(" %s %s", name, short(v))
		}
	}
	return fmt.Sprintf("%s (%.0f s, load %.1f)", line, one.Seconds, one.Load1)
}

func (s *suite) close() {
	if s.results != nil {
		s.results.close()
	}
	if err := os.RemoveAll(s.scratch); err != nil {
		s.out.line("left behind: %v", err)
	}
}

// task is a measurement under way: what a row gets to work with.
type task struct {
	*suite
	side   side
	dir    string
	what   string // for progress
	record record // to be filled
}

// startServer starts the side's program on an empty folder, with its defaults.
func (t *task) startServer(ctx context.Context) (*run.Server, error) {
	return t.startServerWith(ctx, run.Config{})
}

// startServerWith is startServer with settings of the row's.
func (t *task) startServerWith(ctx context.Context, cfg run.Config) (*run.Server, error) {
	t.status("starting")
	cfg.Binary, cfg.Dir = t.side.binary, t.dir
	return run.Start(ctx, cfg)
}

// status says what is being done, to someone who watches.
func (t *task) status(format string, args ...any) {
	t.out.status(t.what + " " + fmt.Sprintf(format, args...))
}
