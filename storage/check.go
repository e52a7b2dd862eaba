package storage

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Format names the form of the files: two programs that name the same read each other's.
func Format() string { return format.String() }

// AppliedIn reads the applied cursor of the closed store in cfg.Dir and changes nothing there.
func AppliedIn(cfg Config) (a Applied, err error) {
	cfg.readOnly = true
	cfg.CacheBytes, cfg.MemTableBytes = readOnlyBytes, readOnlyBytes
	s, err := Open(cfg)
	if err != nil {
		return Applied{}, err
	}
	return s.Applied(), s.Close()
}

// readOnlyBytes is what a store that is only looked at gets of each kind of memory.
const readOnlyBytes = 1 << 20

// Check reads all tables of the closed store in cfg.Dir and returns the first damage that a checksum shows, or that the
// database cannot be opened. stopped, asked before each table with its size, ends the check with its error.
func Check(cfg Config, stopped func(bytes int64) error) error {
	if _, err := AppliedIn(cfg); err != nil {
		return err
	}
	names, err := cfg.FS.List(cfg.Dir)
	if err != nil {
		return fmt.Errorf("check store in %s: %w", cfg.Dir, err)
	}
	cfg.CacheBytes, cfg.MemTableBytes = readOnlyBytes, readOnlyBytes
	g := generation{cfg: cfg}
	opts := g.options()
	opts.EnsureDefaults()
	defer opts.Cache.Unref()
	for _, name := range names {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		if err := checkTable(cfg.FS, cfg.FS.PathJoin(cfg.Dir, name), opts, stopped); err != nil {
			return fmt.Errorf("check store in %s: table %s: %w", cfg.Dir, name, err)
		}
	}
	return nil
}

func checkTable(fs vfs.FS, path string, opts *pebble.Options, stopped func(bytes int64) error) (err error) {
	f, err := fs.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		err = stopped(info.Size())
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	table, err := sstable.NewReader(context.Background(), readable, opts.MakeReaderOptions())
	if err != nil {
		return errors.Join(err, readable.Close())
	}
	return errors.Join(table.ValidateBlockChecksums(), table.Close())
}
