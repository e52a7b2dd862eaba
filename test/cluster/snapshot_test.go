package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// snapshotAndRestore takes a snapshot of a member, restores it with etcd's tool, and compares hashes.
func (r *round) snapshotAndRestore(m *member, etcdutl string) error {
	dir, err := os.MkdirTemp(r.t.TempDir(), "snapshot")
	if err != nil {
		return err
	}
	file, restored := filepath.Join(dir, "snapshot.db"), filepath.Join(dir, "restored")
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	if err := m.snapshot(ctx, file); err != nil {
		return fmt.Errorf("snapshot of %s: %w", m, err)
	}
	if out, err := exec.CommandContext(ctx, etcdutl, "snapshot", "restore", file, "--data-dir", restored).CombinedOutput(); err != nil {
		return fmt.Errorf("restore the snapshot of %s: %w\n%s", m, err, out)
	}
	out, err := exec.CommandContext(ctx, etcdutl, "hashkv", filepath.Join(restored, "member", "snap", "db"), "-w", "json").Output()
	if err != nil {
		return fmt.Errorf("hash of the restored snapshot: %w", err)
	}
	var got struct {
		Hash         uint32 `json:"hash"`
		HashRevision int64  `json:"hashRevision"`
	}
	if err := json.Unmarshal(out, &got); err != nil {
		return fmt.Errorf("hash of the restored snapshot: %w: %s", err, out)
	}
	want, err := m.maintenance().HashKV(ctx, &pb.HashKVRequest{Revision: got.HashRevision})
	if err != nil {
		return err
	}
	if got.Hash != want.GetHash() {
		return fmt.Errorf("the restored snapshot has hash %d at revision %d, %s has %d", got.Hash, got.HashRevision, m, want.GetHash())
	}
	r.note("the snapshot of %s, restored, has the hash of revision %d", m, got.HashRevision)
	return nil
}

// snapshot writes a snapshot to a file.
func (m *member) snapshot(ctx context.Context, file string) error {
	s, err := m.maintenance().Snapshot(ctx, &pb.SnapshotRequest{})
	if err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return f.Close()
		}
		if err == nil {
			_, err = f.Write(r.GetBlob())
		}
		if err != nil {
			return errors.Join(err, f.Close())
		}
	}
}
