package storage

import (
	"fmt"

	"holdfast/util/durable"
)

// Create makes an empty database in cfg.Dir, which must not exist. It appears whole: Pebble writes several files before a new
// database can be opened, and a crash between them would leave one that never can. What a crash does leave stands beside
// it, under another name, and is removed by the next try.
func Create(cfg Config) error {
	fresh := cfg
	fresh.Dir = cfg.Dir + ".new"
	if err := cfg.FS.RemoveAll(fresh.Dir); err != nil {
		return fmt.Errorf("create store in %s: remove what an earlier try left: %w", cfg.Dir, err)
	}
	s, err := Open(fresh)
	if err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return fmt.Errorf("create store in %s: %w", cfg.Dir, err)
	}
	if err := durable.Names(cfg.FS, fresh.Dir); err != nil {
		return fmt.Errorf("create store in %s: %w", cfg.Dir, err)
	}
	if err := cfg.FS.Rename(fresh.Dir, cfg.Dir); err != nil {
		return fmt.Errorf("create store in %s: %w", cfg.Dir, err)
	}
	if err := durable.Names(cfg.FS, cfg.FS.PathDir(cfg.Dir)); err != nil {
		return fmt.Errorf("create store in %s: %w", cfg.Dir, err)
	}
	return nil
}
