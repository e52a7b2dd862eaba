package peer

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// snapshots takes one from each server, checks its digest and the count of what remains, and asks etcd's own tool for the
// hash it holds, which has to be the server's. A put comes first: at a revision just compacted HashKV answers from a cache
// that no file has.
func (w *world) snapshots() error {
	write := &call{path: put, requests: []proto.Message{&pb.PutRequest{Key: []byte("snapshot")}}}
	if err := write.run(w); err != nil {
		return err
	}
	for t, target := range w.targets {
		file, err := w.snapshot(target)
		if err != nil {
			return err
		}
		if w.etcdutl == "" {
			continue
		}
		hash, err := w.hashIn(file)
		if err != nil {
			return err
		}
		r, ok := w.targets[t].call(0, hashKV, nil, &pb.HashKVRequest{Revision: w.current}).only().(*pb.HashKVResponse)
		if !ok || r.Hash != hash {
			return w.differ("the snapshot of %s holds the hash %d, HashKV says %s", target.name, hash, short(r))
		}
	}
	w.tally.hit("the snapshot's digest is right")
	if w.etcdutl != "" {
		w.tally.hit("the snapshot holds the hash HashKV gives")
	}
	return nil
}

// snapshot writes what a server streams into a file and checks the stream: what remains falls by what came, the version is
// in every part, and the last 32 bytes are the digest of all others.
func (w *world) snapshot(t *target) (string, error) {
	a := t.call(0, "/etcdserverpb.Maintenance/Snapshot", nil, &pb.SnapshotRequest{})
	if a.text != "" || len(a.messages) < 2 {
		return "", w.differ("snapshot of %s: %s in %d parts", t.name, a.text, len(a.messages))
	}
	var file bytes.Buffer
	for i, m := range a.messages {
		r := m.(*pb.SnapshotResponse)
		file.Write(r.Blob)
		if r.Header != nil {
			return "", w.differ("snapshot of %s: part %d has a header", t.name, i)
		}
		if i > 0 {
			before := a.messages[i-1].(*pb.SnapshotResponse)
			if i < len(a.messages)-1 && before.RemainingBytes-uint64(len(r.Blob)) != r.RemainingBytes {
				return "", w.differ("snapshot of %s: %d bytes remain after part %d of %d, %d before it", t.name,
					r.RemainingBytes, i, len(r.Blob), before.RemainingBytes)
			}
		}
	}
	if last := a.messages[len(a.messages)-1].(*pb.SnapshotResponse); last.RemainingBytes != 0 {
		return "", w.differ("snapshot of %s ends with %d bytes to come", t.name, last.RemainingBytes)
	}
	body, digest := file.Bytes()[:file.Len()-sha256.Size], file.Bytes()[file.Len()-sha256.Size:]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], digest) {
		return "", w.differ("the digest at the end of %s's snapshot is %x, that of its content %x", t.name, digest, sum)
	}
	name := filepath.Join(t.dir, "snapshot.db")
	if err := os.WriteFile(name, file.Bytes(), 0o600); err != nil {
		return "", fmt.Errorf("keep the snapshot: %w", err)
	}
	return name, nil
}

// hashIn asks etcdutl for the hash of the keys in a snapshot.
func (w *world) hashIn(file string) (uint32, error) {
	out, err := exec.Command(w.etcdutl, "hashkv", file, "-w", "json").Output()
	if err != nil {
		return 0, w.differ("etcdutl hashkv %s: %v\n%s", file, err, out)
	}
	var r struct{ Hash uint32 }
	if err := json.Unmarshal(out, &r); err != nil {
		return 0, w.differ("etcdutl hashkv %s: %v in %s", file, err, out)
	}
	return r.Hash, nil
}
