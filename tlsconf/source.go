package tlsconf

import (
	"crypto/sha256"
	"log/slog"
	"os"
	"time"
)

// settled is how old a file must be, when it is read, for its stamp to prove later that it is unchanged: a file may be
// written twice within one tick of the clock that stamps it.
const settled = 2 * time.Second

// patience is how long files may be at odds with each other before it is said: they are replaced one after the other.
const patience = 2 * time.Second

// source is something that is read from files, again and again. It is not safe for concurrent use.
type source[T any] struct {
	paths []string
	parse func(content [][]byte) (T, error)
	value T // the last good one

	seen    []stamp
	read    time.Time // when the files were read last
	sum     [sha256.Size]byte
	err     error     // what is wrong with the files as they are now; nil if nothing is
	failing time.Time // since when
	told    bool      // that has been logged
}

// stamp is what changes with a file.
type stamp struct {
	info os.FileInfo
}

func (s stamp) same(other stamp) bool {
	return os.SameFile(s.info, other.info) && s.info.Size() == other.info.Size() && s.info.ModTime().Equal(other.info.ModTime())
}

// open reads the files for the first time.
func (s *source[T]) open(now time.Time) error {
	if len(s.paths) == 0 {
		return nil
	}
	_, err := s.load(now)
	return err
}

// refresh reads the files again if they may have changed, and reports whether they hold something else than before. Broken ones
// change nothing and are logged once patience is over.
func (s *source[T]) refresh(now time.Time, log *slog.Logger) (changed bool) {
	if len(s.paths) == 0 {
		return false
	}
	if !s.unchanged() {
		broken := s.err != nil
		changed, s.err = s.load(now)
		if s.err != nil && !broken {
			s.failing = now
		}
	}
	switch {
	case s.err != nil && !s.told && now.Sub(s.failing) >= patience:
		log.Warn("files of TLS cannot be used; what they held before stays in force", "files", s.paths, "error", s.err)
		s.told = true
	case s.err == nil && s.told:
		log.Info("files of TLS can be used again", "files", s.paths)
		s.told = false
	}
	return changed
}

// unchanged tells whether the files are certainly those that were read.
func (s *source[T]) unchanged() bool {
	for i, path := range s.paths {
		info, err := os.Stat(path)
		if err != nil || i >= len(s.seen) || !s.seen[i].same(stamp{info}) || s.read.Sub(info.ModTime()) < settled {
			return false
		}
	}
	return true
}

// load reads and parses the files, and reports whether they hold something else than before.
func (s *source[T]) load(now time.Time) (changed bool, err error) {
	s.seen, s.read = s.seen[:0], now
	content, hash := make([][]byte, len(s.paths)), sha256.New()
	for i, path := range s.paths {
		info, err := os.Stat(path) // before it is read: a change in between is found next time
		if err != nil {
			return false, err
		}
		if content[i], err = os.ReadFile(path); err != nil {
			return false, err
		}
		s.seen = append(s.seen, stamp{info})
		part := sha256.Sum256(content[i])
		hash.Write(part[:])
	}
	sum := [sha256.Size]byte(hash.Sum(nil))
	if sum == s.sum {
		return false, nil
	}
	value, err := s.parse(content)
	if err != nil {
		return false, err
	}
	s.value, s.sum = value, sum
	return true, nil
}
