package utl

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/spf13/cobra"

	"holdfast/ctl/exit"
	"holdfast/etcdfile"
	"holdfast/server"
	"holdfast/util/version"
)

// The versions of etcd whose storage differs: 3.6 began to record which it is. There is nothing to do between 3.6 and 3.7.
var (
	oldestStorage = version.Minor{Major: 3, Minor: 5}
	newestStorage = version.MustParseMinor(version.EtcdVersion)
)

// migration is what the flags of migrate say.
type migration struct {
	dataDir string
	target  version.Minor
	force   bool
}

func (t *tool) migrate() *cobra.Command {
	var (
		m      migration
		target string
	)
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Migrates schema of etcd data dir files to make them compatible with different etcd version",
		Long: `Changes the version that the database of an etcd's data directory has, so that an etcd of that version starts from it. A data
directory of Holdfast has none: export it first.`,
		Example: "  " + t.name() + " migrate --data-dir default.etcd --target-version 3.6",
		RunE: action(func(cmd *cobra.Command, _ []string) (err error) {
			if m.target, err = parseTarget(target); err != nil {
				return exit.With(exit.BadArgs, err)
			}
			return t.runMigration(cmd, m)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&m.dataDir, "data-dir", "", "Path to the etcd data dir")
	f.StringVar(&target, "target-version", "", `Target etcd version to migrate contents of data dir. Minimal value 3.5. Format "X.Y" for example 3.6.`)
	f.BoolVar(&m.force, "force", false, "Ignore migration failure and forcefully override storage version. Not recommended.")
	must(cmd.MarkFlagRequired("data-dir"))
	must(cmd.MarkFlagDirname("data-dir"))
	must(cmd.MarkFlagRequired("target-version"))
	return cmd
}

func parseTarget(text string) (version.Minor, error) {
	if strings.Count(text, ".") != 1 {
		return version.Minor{}, fmt.Errorf(`wrong target version format, expected "X.Y", got %q`, text)
	}
	major, minor, _ := strings.Cut(text, ".")
	var numbers [2]uint64
	for i, part := range []string{major, minor} {
		n, err := strconv.ParseInt(part, 10, 64)
		if err != nil {
			return version.Minor{}, fmt.Errorf("failed to parse target version: %w", err)
		}
		numbers[i] = uint64(n)
	}
	v := version.Minor{Major: numbers[0], Minor: numbers[1]}
	if v.Below(oldestStorage) {
		return v, fmt.Errorf(`target version %q not supported. Minimal "3.5"`, text)
	}
	return v, nil
}

func (t *tool) runMigration(cmd *cobra.Command, m migration) error {
	if isHoldfast(m.dataDir) {
		return fmt.Errorf("%s is a data directory of Holdfast, which has no version of etcd's storage: make an etcd's of it with %s export, and migrate that", m.dataDir, t.name())
	}
	log := logger(cmd)
	current, err := t.storedVersion(filepath.Join(m.dataDir, database))
	if err != nil {
		return err
	}
	if current == m.target {
		log.Info("storage version up-to-date", "storage-version", version.Short(current.String()))
		return nil
	}
	needed, err := server.LogVersion(vfs.Default, filepath.Join(m.dataDir, "member", "wal"))
	if err != nil {
		return fmt.Errorf("failed to read wal: %w", err)
	}
	steps, err := m.plan(current, needed)
	if err != nil {
		if !m.force {
			return err
		}
		log.Info("normal migrate failed, trying with force", "error", err)
	}
	if _, _, err := t.rewrite(filepath.Join(m.dataDir, database), etcdfile.StorageVersion(recorded(m.target))); err != nil {
		return err
	}
	if err != nil {
		tellForced(log, m.target)
	}
	for _, s := range steps {
		log.Info("updated storage version", "new-storage-version", s.String())
	}
	return nil
}

func tellForced(log *slog.Logger, v version.Minor) {
	if recorded(v) == "" {
		log.Warn("forcefully cleared storage version")
		return
	}
	log.Warn("forcefully set storage version", "storage-version", version.Short(v.String()))
}

// recorded is what a database of a version says of itself.
func recorded(v version.Minor) string {
	if v == oldestStorage {
		return ""
	}
	return v.String()
}

// storedVersion is that of a database.
func (t *tool) storedVersion(path string) (v version.Minor, err error) {
	db, err := t.openDatabase(path)
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	meta, err := db.Meta()
	switch {
	case err != nil:
		return v, err
	case meta.StorageVersion != "":
		return version.ParseMinor(meta.StorageVersion)
	case meta.Term == 0:
		return v, errors.New("missing term information")
	}
	return oldestStorage, nil
}

// plan is the versions that the database goes through, unless there is no way. The raft log wants needed or a newer one.
func (m migration) plan(current, needed version.Minor) (steps []version.Minor, err error) {
	if current.Major != m.target.Major {
		return nil, errors.New("cannot create migration plan: changing major storage version is not supported")
	}
	for v := current; v != m.target; {
		changed := v
		if v.Below(m.target) {
			v.Minor++
			changed = v
		} else {
			v.Minor--
		}
		if !oldestStorage.Below(changed) || newestStorage.Below(changed) {
			return nil, fmt.Errorf("cannot create migration plan: version %q is not supported", changed)
		}
		steps = append(steps, v)
	}
	if m.target.Below(current) && m.target.Below(needed) {
		return nil, fmt.Errorf("cannot downgrade storage, WAL contains newer entries, as the target version (%v) is lower than the version (%v) detected from WAL logs", m.target, needed)
	}
	return steps, nil
}
