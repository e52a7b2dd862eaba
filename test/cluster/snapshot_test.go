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

// snapshotAndRestore takes a snapshot of a member, restores it with etcd's tool, and compares hashes. A compaction in between changes
// the member's, and asks for another snapshot.
func (r *round) snapshotAndRestore(m *member, etcdutl string) error {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	for {
		got, err := r.restored(ctx, m, etcdutl)
		if err != nil {
			return err
		}
		r.note("the snapshot of %s, restored, has hash %+v", m, got)
		answer, err := m.maintenance().HashKV(ctx, &pb.HashKVRequest{Revision: got.revision})
		if err != nil {
			return err
		}
		want := hashed{answer.GetHashRevision(), answer.GetCompactRevision(), answer.GetHash()}
		switch {
		case got == want:
			return nil
		case got.compacted == want.compacted:
			return fmt.Errorf("the restored snapshot has hash %+v, %s has %+v", got, m, want)
		}
	}
}

// restored is the hash of a snapshot of a member after etcd's tool has restored it.
func (r *round) restored(ctx context.Context, m *member, etcdutl string) (hashed, error) {
	dir, err := os.MkdirTemp(r.t.TempDir(), "snapshot")
	if err != nil {
		return hashed{}, err
	}
	file, restored := filepath.Join(dir, "snapshot.db"), filepath.Join(dir, "restored")
	if err := m.snapshot(ctx, file); err != nil {
		return hashed{}, fmt.Errorf("snapshot of %s: %w", m, err)
	}
	if out, err := exec.CommandContext(ctx, etcdutl, "snapshot", "restore", file, "--data-dir", restored).CombinedOutput(); err != nil {
		return hashed{}, fmt.Errorf("restore the snapshot of %s: %w\n%s", m, err, out)
	}
	out, err := exec.CommandContext(ctx, etcdutl, "hashkv", filepath.Join(restored, "member", "snap", "db"), "-w", "json").Output()
	if err != nil {
		return hashed{}, fmt.Errorf("hash of the restored snapshot: %w", err)
	}
	var got struct {
		Hash            uint32 `json:"hash"`
		HashRevision    int64  `json:"hashRevision"`
		CompactRevision int64  `json:"compactRevision"`
	}
	if err := json.Unmarshal(out, &got); err != nil {
		return hashed{}, fmt.Errorf("hash of the restored snapshot: %w: %s", err, out)
	}
	return hashed{got.HashRevision, got.CompactRevision, got.Hash}, nil
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
