package utl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/config"
	"holdfast/ctl/exit"
	"holdfast/ctl/term"
	"holdfast/etcdfile"
	"holdfast/kv"
	"holdfast/membership"
	"holdfast/server"
	"holdfast/util/urllist"
)

// bumpDefault is by how much `holdfast utl` raises the revision: more than any cluster writes between a snapshot and its loss,
// at 10,000 writes a second for a day, and a billionth of what there is.
const bumpDefault = 1_000_000_000

// resolveTimeout bounds how long the names in URLs may take to be found, as in etcd.
const resolveTimeout = 30 * time.Second

// restore is what the flags of `snapshot restore` say.
type restore struct {
	dataDir, walDir      string
	name, cluster, token string
	peerURLs             string
	skipHashCheck        bool
	memoryMap            uint64
	bump                 uint64
	markCompacted        bool
}

func (t *tool) snapshotRestore() *cobra.Command {
	var r restore
	cmd := &cobra.Command{
		Use:   "restore <filename> --data-dir {output dir} [options]",
		Short: "Restores an etcd member snapshot to an etcd directory",
		Long: `Makes the data directory of one member of a new cluster that begins with what the snapshot holds. Run it once for each
member, with the same --initial-cluster. The directory is in etcd's files: Holdfast and etcd both start from it.

What was written after the snapshot was taken is gone, and the revisions that it had would come again for other changes. Whoever
remembers one of them (a watch, a cache, a compare in a transaction) would be misled. --bump-revision raises the revision above
all of them, and marks what lies below as compacted, so that it is noticed instead.`,
		Example: "  " + t.name() + " snapshot restore backup.db --data-dir default.etcd --bump-revision 1000000000 --mark-compacted\n" +
			"  " + t.name() + " snapshot restore backup.db --data-dir a.etcd --name a --initial-advertise-peer-urls http://10.0.0.1:2380 \\\n" +
			"      --initial-cluster a=http://10.0.0.1:2380,b=http://10.0.0.2:2380 --bump-revision 1000000000 --mark-compacted",
		RunE: action(func(cmd *cobra.Command, args []string) error { return t.restore(cmd, r, args) }),
	}
	f := cmd.Flags()
	f.StringVar(&r.dataDir, "data-dir", "", "Path to the output data directory")
	f.StringVar(&r.walDir, "wal-dir", "", "Path to the WAL directory (use --data-dir if none given)")
	f.StringVar(&r.cluster, "initial-cluster", "default=http://localhost:2380", "Initial cluster configuration for restore bootstrap")
	f.StringVar(&r.token, "initial-cluster-token", "etcd-cluster", "Initial cluster token for the etcd cluster during restore bootstrap")
	f.StringVar(&r.peerURLs, "initial-advertise-peer-urls", "http://localhost:2380", "List of this member's peer URLs to advertise to the rest of the cluster")
	f.StringVar(&r.name, "name", "default", "Human-readable name for this member")
	f.BoolVar(&r.skipHashCheck, "skip-hash-check", false, "Ignore snapshot integrity hash value (required if copied from data directory)")
	f.Uint64Var(&r.memoryMap, "initial-memory-map-size", 10<<30, "Initial memory map size of the database in bytes. It has no effect: the database is written in order")
	bump, compacted := uint64(0), false
	if !t.etcd {
		bump, compacted = bumpDefault, true
	}
	f.Uint64Var(&r.bump, "bump-revision", bump, "How much to increase the latest revision after restore")
	f.BoolVar(&r.markCompacted, "mark-compacted", compacted, "Mark the latest revision after restore as the point of scheduled compaction (required if --bump-revision > 0, disallowed otherwise)")
	must(cmd.MarkFlagDirname("data-dir"))
	must(cmd.MarkFlagDirname("wal-dir"))
	return cmd
}

func (t *tool) restore(cmd *cobra.Command, r restore, args []string) (err error) {
	if len(args) != 1 {
		return exit.Misuse("snapshot restore requires exactly one argument")
	}
	if !t.etcd && r.bump == 0 && !cmd.Flags().Changed("mark-compacted") {
		r.markCompacted = false
	}
	if (r.bump > 0) != r.markCompacted {
		return exit.Misuse("--mark-compacted required if --revision-bump > 0")
	}
	if r.bump > 1<<62 {
		return exit.Misuse("--bump-revision=%d leaves no revisions to come", r.bump)
	}
	founders, err := r.founders()
	if err != nil {
		return err
	}
	if err := r.place(); err != nil {
		return err
	}
	log := logger(cmd)
	told := []any{"path", args[0], "wal-dir", r.walDir, "data-dir", r.dataDir, "snap-dir", filepath.Join(r.dataDir, "member", "snap"), "initial-memory-map-size", r.memoryMap}
	log.Info("restoring snapshot", told...)
	if f, err := os.Open(args[0]); err != nil {
		return err
	} else if err := f.Close(); err != nil {
		return err
	}
	db, err := t.openDatabase(args[0])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := r.checkDigest(db); err != nil {
		return err
	}
	if r.bump == 0 {
		log.Warn("the revision goes back to that of the snapshot: compares, watches and caches that remember later ones will be misled; restore with --bump-revision=1000000000 --mark-compacted unless nobody can remember any")
	}
	bar := term.NewProgress(cmd.ErrOrStderr(), "restore", db.Size(), term.Bytes)
	was, is, err := server.Restore{
		Snapshot: db, DataDir: r.dataDir, WALDir: r.walDir, Founders: founders, Name: r.name, Bump: kv.Revision(r.bump), Imported: bar.Add, Log: log,
	}.Run()
	bar.Done()
	if err != nil {
		return err
	}
	if err := os.Chmod(filepath.Join(r.dataDir, database), 0o600); err != nil {
		return err
	}
	log.Info("restored snapshot", append(told, "snapshot-revision", int64(was), "revision", int64(is))...)
	return nil
}

// founders are the members of the new cluster.
func (r restore) founders() ([]membership.Member, error) {
	advertised, err := urllist.Parse(strings.Split(r.peerURLs, ","))
	if err != nil {
		return nil, err
	}
	cfg := config.Config{Name: r.name, InitialCluster: r.cluster, InitialClusterToken: r.token, AdvertisePeerURLs: advertised}
	members, err := cfg.InitialMembers()
	if err != nil {
		return nil, cmp.Or(errors.Unwrap(err), err) // a server says before it what it was about to do
	}
	ctx, cancel := context.WithTimeout(context.Background(), resolveTimeout)
	defer cancel()
	if err := cfg.CheckBootstrap(ctx, resolve); err != nil {
		return nil, err
	}
	var founders []membership.Member
	for name, urls := range members {
		peers := urllist.Texts(urls)
		founders = append(founders, membership.Member{ID: membership.MemberID(peers, r.token, 0), Name: name, PeerURLs: peers})
	}
	return founders, nil
}

// resolve looks a host up, once: whoever restores is there to try again.
func resolve(ctx context.Context, hostPort string) (string, error) {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return "", err
	}
	addresses, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(addresses[0], port), nil
}

// place fills in where the directories are, and asks that they are free.
func (r *restore) place() error {
	if r.dataDir == "" {
		r.dataDir = r.name + ".etcd"
	}
	if names, err := os.ReadDir(r.dataDir); !os.IsNotExist(err) && (err != nil || len(names) > 0) {
		return fmt.Errorf("data-dir %q not empty or could not be read", r.dataDir)
	}
	if r.walDir == "" {
		r.walDir = filepath.Join(r.dataDir, "member", "wal")
	} else if _, err := os.Stat(r.walDir); !os.IsNotExist(err) {
		return fmt.Errorf("wal-dir %q exists", r.walDir)
	}
	return nil
}

// checkDigest finds damage in a snapshot.
func (r restore) checkDigest(db *etcdfile.Database) error {
	if r.skipHashCheck {
		return nil
	}
	err := db.CheckDigest()
	if errors.Is(err, etcdfile.ErrNoDigest) {
		return errors.New("snapshot missing hash but --skip-hash-check=false: this is no whole snapshot; restore another one, or with --skip-hash-check if it is a copy of member/snap/db")
	}
	return err
}

// nothing discards what a member would log.
var nothing = slog.New(slog.DiscardHandler)
