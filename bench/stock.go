package bench

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// stock is data that several rows start from. It is made once per binary, stopped in good order, and copied by every row
// that changes it: loading a million keys anew for each measurement would take most of the time there is.
type stock struct {
	name string
	args []string // flags of the servers that are to live with so much data
	fill func(ctx context.Context, t *task, m *members) error
}

// stocked returns the folder with st for this task's side, which it makes if it is not there yet.
func (t *task) stocked(ctx context.Context, st stock) (string, error) {
	dir := t.stockDir(st.name)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	began := time.Now()
	defer func() { t.record.Stock += time.Since(began).Seconds() }()
	making := &task{suite: t.suite, side: t.side, what: t.what}
	making.record = newRecord()
	var err error
	if making.dir, err = os.MkdirTemp(t.scratch, "stock-"); err != nil {
		return "", fmt.Errorf("make room for data: %w", err)
	}
	m, err := making.start(ctx, setup{args: st.args})
	if err != nil {
		return "", err
	}
	defer m.kill()
	t.status("preparing %s", st.name)
	if err := st.fill(ctx, making, m); err != nil {
		return "", err
	}
	return dir, t.stockUp(making.dir, dir, m)
}

// stockUp stops the members and makes what is in the folder made the stock.
func (t *task) stockUp(made, dir string, m *members) error {
	if err := m.stop(); err != nil {
		return err
	}
	if err := syncAll(made); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("make room for data: %w", err)
	}
	return os.Rename(made, dir)
}

func (t *task) stockDir(name string) string {
	return filepath.Join(t.stockRoot(), fmt.Sprintf("%s-%s-%s", t.side.name, t.side.build, name))
}

// stockRoot is where stock is: within the scratch, and so gone with it, when there is little of it.
func (s *suite) stockRoot() string {
	if s.cfg.short {
		return filepath.Join(s.scratch, "stock")
	}
	return filepath.Join(s.cfg.Dir, "stock")
}

// copyOf copies stock into the task's folder, and waits until the disk has it: what it has to write later would be felt by what is measured.
func (t *task) copyOf(stock string) error {
	t.status("copying")
	if err := copyTree(stock, t.dir); err != nil {
		return fmt.Errorf("copy what was prepared: %w", err)
	}
	return syncAll(t.dir)
}

// copyTree copies folders and regular files, with their rights: neither server starts on a folder that others may read.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		below, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, below)
		switch {
		case d.IsDir():
			if err := os.MkdirAll(target, 0o700); err != nil {
				return err
			}
			return os.Chmod(target, info.Mode().Perm())
		case info.Mode().IsRegular():
			return copyFile(path, target, info.Mode().Perm())
		}
		return nil
	})
}

func copyFile(from, to string, mode fs.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close() // the copy is given up
		return err
	}
	return out.Close()
}

// syncAll waits until the file system that dir is on has nothing left to write.
func syncAll(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
