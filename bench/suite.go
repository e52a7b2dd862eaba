package bench

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// The names of the two sides.
const ours, theirs = "holdfast", "etcd"

// side is one of the two programs that are compared.
type side struct {
	name   string
	binary string // a copy: a build beside the run must not change what is measured
	build  string // the start of the binary's SHA-256
}

// suite is one run over the chosen rows.
type suite struct {
	cfg     Config
	rows    []row
	sides   []side // ours first: ratios are ours to the other's
	scratch string // removed at the end
	results *results
	out     progress
	until   time.Time       // nothing is begun that would not be over by then; zero: everything is measured
	failed  map[string]bool // "row side" that are not tried again
}

func newSuite(cfg Config) (_ *suite, err error) {
	s := &suite{cfg: cfg, out: newProgress(cfg.Out), failed: map[string]bool{}}
	if cfg.Minutes > 0 {
		s.until = time.Now().Add(time.Duration(cfg.Minutes) * time.Minute)
	}
	for _, r := range rows() {
		if cfg.Rows == nil || cfg.Rows.MatchString(r.name) {
			s.rows = append(s.rows, r)
		}
	}
	if len(s.rows) == 0 {
		return nil, fmt.Errorf("no row is called %s", cfg.Rows)
	}
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make room for data: %w", err)
	}
	free, err := freeMB(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if need := s.needMB(); free < need {
		return nil, fmt.Errorf("%s has %.0f MB left, %.0f are needed", cfg.Dir, free, need)
	}
	if s.scratch, err = os.MkdirTemp(cfg.Dir, "run-"); err != nil {
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
	if err := s.dropStock(func(name string) bool { return s.ofThisRun(name) }); err != nil {
		return nil, err
	}
	return s, s.openResults()
}

// What a run needs on disk: what is prepared for both sides and a copy of it, or what the largest of its rows says.
const freeMBMin, freeMBShort = 12_000, 1_000

func (s *suite) needMB() float64 {
	if s.cfg.short {
		return freeMBShort
	}
	need := float64(freeMBMin)
	for _, r := range s.rows {
		need = max(need, r.needMB)
	}
	return need
}

// dropStock removes what was prepared, except what keep names.
func (s *suite) dropStock(keep func(name string) bool) error {
	entries, err := os.ReadDir(s.stockRoot())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for what was prepared: %w", err)
	}
	for _, e := range entries {
		if keep(e.Name()) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(s.stockRoot(), e.Name())); err != nil {
			return fmt.Errorf("remove what was prepared: %w", err)
		}
	}
	return nil
}

// ofThisRun tells whether stock was made by one of the binaries that are measured now.
func (s *suite) ofThisRun(name string) bool {
	return slices.ContainsFunc(s.sides, func(p side) bool { return strings.HasPrefix(name, p.name+"-"+p.build+"-") })
}

// copyBinaries takes both programs as they are now.
func (s *suite) copyBinaries() error {
	all := []side{{name: ours, binary: s.cfg.Holdfast}}
	if s.cfg.Etcd != "" {
		all = append(all, side{name: theirs, binary: s.cfg.Etcd})
	}
	for _, p := range all {
		text, err := os.ReadFile(p.binary)
		if err != nil {
			return fmt.Errorf("copy %s: %w", p.name, err)
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

func (s *suite) openResults() error {
	m, err := thisMachine(s.scratch)
	if err != nil {
		return err
	}
	head := header{Commit: commit(s.sides[0].binary), At: time.Now().UTC(), Machine: m, Builds: map[string]string{}}
	for _, p := range s.sides {
		head.Builds[p.name] = p.build
	}
	if err := os.MkdirAll(s.cfg.Results, 0o755); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	path := filepath.Join(s.cfg.Results, time.Now().UTC().Format(time.DateOnly)+"-"+head.Commit+".jsonl")
	if s.results, err = openResults(path, head); err != nil {
		return err
	}
	s.out.line("%d cores, %d MB, %s, kernel %s; results in %s", m.Cores, m.MemoryMB, m.FileSystem, m.Kernel, path)
	if m.FileSystem == "tmpfs" {
		s.out.line("data is in memory, where a sync costs nothing: rates and latencies of writes mean little")
	}
	return nil
}

// commit names what the binary was built from: what it says itself or, where it does not know, the state of the
// checkout in which this runs, which make builds from just before.
func commit(binary string) string {
	if text, err := exec.Command(binary, "version").Output(); err == nil {
		if name := stamped(string(text)); name != "" {
			return name
		}
	}
	out, err := exec.Command("git", "rev-parse", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	name := strings.TrimSpace(string(out))[:commitDigits]
	// Tests, results and words do not enter the binary.
	out, err = exec.Command("git", "status", "--porcelain", "--", "*.go", "go.mod", ":!*_test.go", ":!bench", ":!test").Output()
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

// stamp is the line of `holdfast version` that names a commit.
var stamp = regexp.MustCompile(`(?m)^Git SHA: ([0-9a-f]{10})[0-9a-f]*(-dirty)?$`)

// stamped is the commit that a program names as its version, "" if it names none.
func stamped(text string) string {
	found := stamp.FindStringSubmatch(text)
	if found == nil {
		return ""
	}
	return found[1] + found[2]
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

// n is how many, and span how long: in earnest, or only to see that it works.
func (s *suite) n(full, short int) int {
	if s.cfg.short {
		return short
	}
	return full
}

func (s *suite) span(full, short time.Duration) time.Duration {
	if s.cfg.short {
		return short
	}
	return full
}

// status says what is being done, to someone who watches.
func (t *task) status(format string, args ...any) {
	t.out.status(t.what + " " + fmt.Sprintf(format, args...))
}
