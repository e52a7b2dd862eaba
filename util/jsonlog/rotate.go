package jsonlog

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// DefaultRotation is the default of etcd's --log-rotation-config-json.
const DefaultRotation = `{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}`

// rotationBytesDefault is the size of a file when the settings name none.
const rotationBytesDefault = 100 << 20

// backupLayout stands between the name and the extension of a file that was rotated away. It sorts by time.
const backupLayout = "2006-01-02T15-04-05.000"

// rotation is the JSON that etcd takes.
type rotation struct {
	MaxSize    int  `json:"maxsize"`    // MB a file may reach; 0 means 100
	MaxAge     int  `json:"maxage"`     // days a rotated file stays; 0 means for ever
	MaxBackups int  `json:"maxbackups"` // rotated files that stay; 0 means all
	LocalTime  bool `json:"localtime"`  // name them by local time instead of UTC
	Compress   bool `json:"compress"`   // gzip them
}

func parseRotation(s string) (rotation, error) {
	if s == "" {
		s = DefaultRotation
	}
	var r rotation
	err := json.Unmarshal([]byte(s), &r)
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case err == nil:
		return r, nil
	case errors.As(err, &syntax):
		return r, fmt.Errorf("improperly formatted log rotation config: %w", err)
	case errors.As(err, &typ):
		return r, fmt.Errorf("invalid log rotation config: %w", err)
	}
	return r, fmt.Errorf("fail to unmarshal log rotation config: %w", err)
}

func (r rotation) bytes() int64 {
	if r.MaxSize <= 0 {
		return rotationBytesDefault
	}
	return int64(r.MaxSize) << 20
}

// rotated is a file that makes room when it is full: it is renamed to name-<time>.ext and a new one begins. Old files are
// compressed and deleted by a goroutine of its own, because gzip of 100 MB must not hold up who logs; Close waits for it.
type rotated struct {
	path string
	set  rotation
	now  func() time.Time

	f    *os.File // guarded by Outputs.mu, as size
	size int64    // bytes in f

	tidying sync.WaitGroup
	one     sync.Mutex // held by the goroutine that tidies
	failed  error      // guarded by one: first failure of tidying, returned by Close
}

func openRotated(path string, set rotation, now func() time.Time) (*rotated, error) {
	r := &rotated{path: path, set: set, now: now}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	return r, r.open()
}

func (r *rotated) open() error {
	f, err := os.OpenFile(r.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	r.f, r.size = f, info.Size()
	return nil
}

func (r *rotated) write(_ slog.Level, _ string, line []byte) error {
	n := int64(len(line))
	if n > r.set.bytes() {
		return fmt.Errorf("write length %d exceeds maximum file size %d", n, r.set.bytes())
	}
	if r.f == nil { // an earlier rotation failed half way
		if err := r.open(); err != nil {
			return err
		}
	}
	if r.size > 0 && r.size+n > r.set.bytes() {
		if err := r.rotate(); err != nil {
			return err
		}
	}
	written, err := r.f.Write(line)
	r.size += int64(written)
	return err
}

func (r *rotated) rotate() error {
	err := r.f.Close()
	r.f = nil
	if err != nil {
		return err
	}
	if err := os.Rename(r.path, r.backupName()); err != nil {
		return err
	}
	if err := r.open(); err != nil {
		return err
	}
	r.tidying.Go(r.tidy)
	return nil
}

// backupName is free: two rotations within a millisecond must not overwrite each other.
func (r *rotated) backupName() string {
	ext := filepath.Ext(r.path)
	t := r.now()
	if !r.set.LocalTime {
		t = t.UTC()
	}
	for ; ; t = t.Add(time.Millisecond) {
		name := strings.TrimSuffix(r.path, ext) + "-" + t.Format(backupLayout) + ext
		_, err := os.Lstat(name)
		_, zipped := os.Lstat(name + ".gz")
		if errors.Is(err, os.ErrNotExist) && errors.Is(zipped, os.ErrNotExist) {
			return name
		}
	}
}

func (r *rotated) tidy() {
	r.one.Lock()
	defer r.one.Unlock()
	if err := r.tidyOnce(); err != nil && r.failed == nil {
		r.failed = fmt.Errorf("tidy rotated log files: %w", err)
	}
}

func (r *rotated) tidyOnce() error {
	backups, err := r.backups()
	if err != nil {
		return err
	}
	var errs error
	for i, b := range backups { // newest first
		old := r.set.MaxAge > 0 && r.now().Sub(b.at) > time.Duration(r.set.MaxAge)*24*time.Hour
		switch {
		case old || (r.set.MaxBackups > 0 && i >= r.set.MaxBackups):
			errs = errors.Join(errs, os.Remove(b.path))
		case r.set.Compress && !strings.HasSuffix(b.path, ".gz"):
			errs = errors.Join(errs, compress(b.path))
		}
	}
	return errs
}

type backup struct {
	path string
	at   time.Time
}

// backups are the rotated files, newest first; other files in the folder are left alone.
func (r *rotated) backups() ([]backup, error) {
	dir, base := filepath.Split(r.path)
	ext := filepath.Ext(base)
	prefix := strings.TrimSuffix(base, ext) + "-"
	if dir == "" {
		dir = "."
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	zone := time.UTC
	if r.set.LocalTime {
		zone = time.Local
	}
	var found []backup
	for _, e := range entries {
		middle, ok := strings.CutPrefix(strings.TrimSuffix(e.Name(), ".gz"), prefix)
		if !ok || !strings.HasSuffix(middle, ext) {
			continue
		}
		at, err := time.ParseInLocation(backupLayout, strings.TrimSuffix(middle, ext), zone)
		if err == nil && !e.IsDir() {
			found = append(found, backup{filepath.Join(dir, e.Name()), at})
		}
	}
	slices.SortFunc(found, func(a, b backup) int { return b.at.Compare(a.at) })
	return found, nil
}

// compress writes path.gz and removes path. A half-written one from a crash is overwritten.
func compress(path string) (err error) {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close() // only read from
	out, err := os.OpenFile(path+".gz", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	z := gzip.NewWriter(out)
	_, err = io.Copy(z, in)
	if err = errors.Join(err, z.Close(), out.Close()); err != nil {
		return errors.Join(err, os.Remove(path+".gz"))
	}
	return os.Remove(path)
}

// Close closes the file and waits until old ones are tidied.
func (r *rotated) Close() error {
	var err error
	if r.f != nil {
		err = r.f.Close()
	}
	r.tidying.Wait()
	r.one.Lock()
	defer r.one.Unlock()
	return errors.Join(err, r.failed)
}
