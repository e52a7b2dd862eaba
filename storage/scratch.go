package storage

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Scratch is a file system in which the closed store in dir can be opened and written to while nothing happens to it: its tables
// are read where they are, and all that is made, changed and removed is so in memory only. What is committed there is held in
// memory until the file system is forgotten.
func Scratch(base vfs.FS, dir string) (vfs.FS, error) {
	s := &scratch{MemFS: vfs.NewMem(), base: base, dir: dir, tables: map[string]bool{}}
	if err := s.fill(); err != nil {
		return nil, fmt.Errorf("look at the store in %s: %w", dir, err)
	}
	return s, nil
}

type scratch struct {
	*vfs.MemFS
	base vfs.FS
	dir  string

	mu     sync.Mutex      // guards tables; released before I/O
	tables map[string]bool // files of the store that are read from base
}

// holdsRows tells the files that hold rows, which may be many and large and never change, from those that say which count.
func holdsRows(name string) bool {
	return strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".blob")
}

// fill copies the small files.
func (s *scratch) fill() error {
	names, err := s.base.List(s.dir)
	if err != nil {
		return err
	}
	if err := s.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	for _, name := range names {
		path := s.PathJoin(s.dir, name)
		if holdsRows(name) {
			s.tables[path] = true
			continue
		}
		if err := s.copy(path); err != nil {
			return err
		}
	}
	return nil
}

func (s *scratch) copy(path string) (err error) {
	from, err := s.base.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	info, err := from.Stat()
	if err != nil || info.IsDir() {
		return err
	}
	to, err := s.MemFS.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}

func (s *scratch) onDisk(path string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tables[path]
}

// Open implements vfs.FS.
func (s *scratch) Open(path string, opts ...vfs.OpenOption) (vfs.File, error) {
	if s.onDisk(path) {
		return s.base.Open(path, opts...)
	}
	return s.MemFS.Open(path, opts...)
}

// Stat implements vfs.FS.
func (s *scratch) Stat(path string) (vfs.FileInfo, error) {
	if s.onDisk(path) {
		return s.base.Stat(path)
	}
	return s.MemFS.Stat(path)
}

// List implements vfs.FS.
func (s *scratch) List(dir string) ([]string, error) {
	names, err := s.MemFS.List(dir)
	if err != nil || s.PathJoin(dir) != s.PathJoin(s.dir) {
		return names, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for path := range s.tables {
		names = append(names, s.PathBase(path))
	}
	return names, nil
}

// Remove implements vfs.FS: of a table only the name here goes.
func (s *scratch) Remove(path string) error {
	s.mu.Lock()
	was := s.tables[path]
	delete(s.tables, path)
	s.mu.Unlock()
	if was {
		return nil
	}
	return s.MemFS.Remove(path)
}
