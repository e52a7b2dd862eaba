package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"holdfast/ctl/term"
	"holdfast/util/jsonlog"
)

func (t *tool) snapshot() *cobra.Command {
	c := &cobra.Command{
		Use:     "snapshot <subcommand>",
		Short:   "Manages etcd node snapshots",
		Example: t.examples("ctl snapshot save /backup/etcd-snapshot.db"),
	}
	c.AddCommand(t.snapshotSave())
	return c
}

func (t *tool) snapshotSave() *cobra.Command {
	return &cobra.Command{
		Use:   "save <filename>",
		Short: "Stores an etcd node backend snapshot to a given file",
		Long: "Stores what one member has in a file, which must not be there half: it is written under another name (.part), verified, and renamed.\n" +
			"Only its owner may read it. It takes as long as it takes, unless --command-timeout is given.",
		Example: t.examples("ctl snapshot save /backup/etcd-snapshot.db",
			"ctl snapshot save --endpoints=10.0.0.1:2379 /backup/etcd_$(date +%Y%m%d_%H%M%S).db"),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return badArgs("snapshot save expects one argument <filename>")
			}
			spec, err := t.clientSpec(cmd)
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			if cmd.Flags().Changed("command-timeout") {
				var cancel context.CancelFunc
				ctx, cancel = t.limit(ctx)
				defer cancel()
			}
			version, err := t.saveSnapshot(ctx, spec, args[0])
			if err != nil {
				return fail(exitInterrupted, err)
			}
			return t.tellSaved(args[0], version)
		}),
	}
}

func (t *tool) tellSaved(path, version string) error {
	text := fmt.Sprintf("Snapshot saved at %s\n", path)
	if version != "" { // etcd before 3.6 does not say
		text += fmt.Sprintf("Server version %s\n", version)
	}
	_, err := io.WriteString(t.env.Stdout, text)
	return fail(exitIO, err)
}

// saveSnapshot stores what a member sends at path, and returns the version that its data has. A person sees a bar meanwhile,
// everybody else etcd's lines in the log.
func (t *tool) saveSnapshot(ctx context.Context, spec *clientv3.ConfigSpec, path string) (version string, err error) {
	if len(spec.Endpoints) != 1 {
		return "", fmt.Errorf("snapshot must be requested to one selected node, not multiple %v", spec.Endpoints)
	}
	log, endpoint := t.log(), spec.Endpoints[0]
	c, err := t.dial(spec)
	if err != nil {
		return "", err
	}
	defer t.close(c)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream
	start := time.Now()
	size, err := writeSnapshot(path, func(w io.Writer) error {
		log.Info("created temporary db file", "path", path+".part")
		if err := t.connected(ctx, c.ActiveConnection()); err != nil {
			return err
		}
		stream, first, err := openSnapshot(ctx, c.ActiveConnection())
		if err != nil {
			return err
		}
		version = first.Version
		log.Info("fetching snapshot", "endpoint", endpoint)
		progress := term.NewProgress(t.env.Stderr, "snapshot", 0, term.Bytes)
		defer progress.Done()
		return receiveSnapshot(stream, first, progress, w)
	})
	if err != nil {
		return "", err
	}
	log.Info("fetched snapshot", "endpoint", endpoint, "size", humanize.Bytes(uint64(size)), "took", time.Since(start).String(), "etcd-version", version)
	log.Info("saved", "path", path)
	return version, nil
}

// log writes etcd's lines to standard error, unless a person sits there.
func (t *tool) log() *slog.Logger {
	if term.Is(t.env.Stderr) {
		return slog.New(slog.DiscardHandler)
	}
	out := jsonlog.NewOutputs(t.env.Stderr, slog.LevelInfo)
	return slog.New(jsonlog.NewHandler(out, out.Level(), jsonlog.JSON))
}

// connected waits until the connection stands. Without it, a snapshot without a time limit would wait for ever.
func (t *tool) connected(ctx context.Context, conn *grpc.ClientConn) error {
	wait := max(t.flags.dialTimeout, t.flags.commandTimeout)
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if conn.WaitForStateChange(limited, state) {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("no connection within %v: %w%s", wait, context.DeadlineExceeded, whyNot(ctx, conn))
	}
	return nil
}

// whyNot says why there is no connection, as a call does that does not wait for one; nothing if nothing is known.
func whyNot(ctx context.Context, conn *grpc.ClientConn) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err := pb.NewMaintenanceClient(conn).Status(ctx, &pb.StatusRequest{}, grpc.WaitForReady(false))
	if status.Code(err) != codes.Unavailable {
		return ""
	}
	return ": " + status.Convert(err).Message()
}

// openSnapshot asks for a snapshot and waits for its first piece. The stream ends with ctx.
func openSnapshot(ctx context.Context, conn *grpc.ClientConn) (pb.Maintenance_SnapshotClient, *pb.SnapshotResponse, error) {
	stream, err := pb.NewMaintenanceClient(conn).Snapshot(ctx, &pb.SnapshotRequest{}, grpc.MaxCallRecvMsgSize(math.MaxInt32))
	if err != nil {
		return nil, nil, err
	}
	first, err := stream.Recv()
	return stream, first, err
}

// receiveSnapshot writes a snapshot to w, of which the first piece is here already.
func receiveSnapshot(stream pb.Maintenance_SnapshotClient, piece *pb.SnapshotResponse, progress *term.Progress, w io.Writer) error {
	var err error
	for received := int64(0); err == nil; piece, err = stream.Recv() {
		received += int64(len(piece.Blob))
		progress.SetTotal(received + int64(piece.RemainingBytes))
		progress.Add(int64(len(piece.Blob)))
		if _, err := w.Write(piece.Blob); err != nil {
			return fmt.Errorf("could not write snapshot: %w", err)
		}
	}
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("could not write snapshot: %w", err)
	}
	return nil
}
