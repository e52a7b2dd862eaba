package crash

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"holdfast/test/run"
)

// diskBytes is the size of the small disk.
const diskBytes = 64 << 20

// smallDisk mounts a file as an ext4 disk and returns where. It skips the test where that is not possible.
func smallDisk(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting a small disk needs root")
	}
	image, at := filepath.Join(t.TempDir(), "disk"), filepath.Join(t.TempDir(), "mount")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, diskBytes); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{{"mkfs.ext4", "-q", "-F", image}, {"mount", "-o", "loop", image, at}} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Skipf("this machine mounts no small disk: %s: %v: %s", command[0], err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", at).CombinedOutput(); err != nil {
			t.Errorf("umount %s: %v: %s", at, err, out)
		}
	})
	return at
}

// tenant is a member on a small disk.
type tenant struct {
	*run.Server
	t    *testing.T
	disk string
	kv   pb.KVClient
	// held are the keys that were acknowledged and not deleted.
	held map[string]bool
}

func newTenant(t *testing.T) *tenant {
	disk := smallDisk(t)
	s, err := run.Start(t.Context(), run.Config{Binary: run.Holdfast(t), Dir: t.TempDir(), Args: []string{"--data-dir=" + filepath.Join(disk, "data")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	conn, err := grpc.NewClient(s.Client, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &tenant{Server: s, t: t, disk: disk, kv: pb.NewKVClient(conn), held: map[string]bool{}}
}

// valueBytes is the size of every value: large, so that the disk is full soon.
const valueBytes = 200_000

// valueOf is a value that no other key has, and that does not shrink on the disk.
func valueOf(key string) []byte {
	value := make([]byte, valueBytes)
	rng := rand.NewChaCha8(sha256.Sum256([]byte(key)))
	if _, err := rng.Read(value); err != nil {
		panic(err) // it never fails
	}
	return value
}

func (m *tenant) put(key string) error {
	ctx, cancel := context.WithTimeout(m.t.Context(), answerTimeout)
	defer cancel()
	_, err := m.kv.Put(ctx, &pb.PutRequest{Key: []byte(key), Value: valueOf(key)})
	if err == nil {
		m.held[key] = true
	}
	return err
}

// fullAfter is how long writes are refused before the disk counts as full: the member may need a moment to give back what its log
// holds.
const fullAfter = 3 * time.Second

// fill writes until the member refuses for good, which it must do in etcd's words.
func (m *tenant) fill() {
	m.t.Helper()
	var refused time.Time
	for i := 0; i < 2*diskBytes/valueBytes; {
		err := m.put(fmt.Sprintf("key/%05d", i))
		switch {
		case err == nil:
			refused = time.Time{}
			i++
			continue
		case status.Code(err) != codes.ResourceExhausted || status.Convert(err).Message() != "etcdserver: mvcc: database space exceeded":
			m.t.Fatalf("put %d on a filling disk: %v\n%s", i, err, m.LogTail(5))
		case refused.IsZero():
			refused = time.Now()
		case time.Since(refused) > fullAfter:
			m.t.Logf("refused after %d puts of %d bytes, with %d bytes free", i, valueBytes, m.free())
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	m.t.Fatal("a full disk refuses nothing")
}

// holdsAll reads everything that was acknowledged.
func (m *tenant) holdsAll() {
	m.t.Helper()
	for key := range m.held {
		r, err := m.kv.Range(m.t.Context(), &pb.RangeRequest{Key: []byte(key)}, grpc.WaitForReady(true))
		if err != nil {
			m.t.Fatalf("read %s: %v\n%s", key, err, m.LogTail(5))
		}
		if len(r.GetKvs()) != 1 || !bytes.Equal(r.GetKvs()[0].GetValue(), valueOf(key)) {
			m.t.Fatalf("%s, which was acknowledged, is not there", key)
		}
	}
}

func (m *tenant) free() uint64 {
	m.t.Helper()
	var s syscall.Statfs_t
	if err := syscall.Statfs(m.disk, &s); err != nil {
		m.t.Fatal(err)
	}
	return s.Bavail * uint64(s.Bsize)
}

// roomTimeout is how soon deleted and compacted space must be back.
const roomTimeout = time.Minute

// awaitRoom writes until a write is accepted.
func (m *tenant) awaitRoom() {
	m.t.Helper()
	began := time.Now()
	for {
		err := m.put("key/new")
		if err == nil {
			m.t.Logf("accepted again after %v", time.Since(began).Round(time.Millisecond))
			return
		}
		if time.Since(began) > roomTimeout {
			m.t.Fatalf("%s after the space was freed (%d bytes are free): %v\n%s", roomTimeout, m.free(), err, m.LogTail(5))
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// Goal: a disk that fills up makes the member refuse writes, in etcd's words, and nothing worse: reads, deletions and compactions
// go on and are the way out. Method: the shipped binary on a disk of 64 MB with nothing set that has to do with space.
func TestFullDiskRefusesWrites(t *testing.T) {
	m := newTenant(t)
	m.fill()
	if stored := len(m.held) * valueBytes; stored < diskBytes/3 {
		t.Errorf("refused with %d bytes stored on a disk of %d", stored, diskBytes)
	}
	m.holdsAll()
	var last int64
	for key := range m.held {
		if key >= "key/00040" {
			r, err := m.kv.DeleteRange(t.Context(), &pb.DeleteRangeRequest{Key: []byte(key)})
			if err != nil {
				t.Fatalf("delete %s on a full disk: %v\n%s", key, err, m.LogTail(5))
			}
			delete(m.held, key)
			last = r.GetHeader().GetRevision()
		}
	}
	if _, err := m.kv.Compact(t.Context(), &pb.CompactionRequest{Revision: last, Physical: true}); err != nil {
		t.Fatalf("compact on a full disk: %v\n%s", err, m.LogTail(5))
	}
	m.awaitRoom()
	m.holdsAll()
	m.Kill()
	if err := m.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.holdsAll()
	if err := m.put("key/last"); err != nil {
		t.Fatal(err)
	}
}

// Goal: when something else takes the last byte of the disk, so that the member cannot write at all, it stops with one sentence,
// and nothing is lost. Method: a file takes all that is free; deletions of keys that do not exist, which no shortage refuses,
// make the raft log grow until it has no room.
func TestDiskWithoutAByteStopsTheMember(t *testing.T) {
	m := newTenant(t)
	for i := range 40 {
		if err := m.put(fmt.Sprintf("key/%05d", i)); err != nil {
			t.Fatal(err)
		}
	}
	ballast := filepath.Join(m.disk, "ballast")
	takeAll(t, ballast)
	key := bytes.Repeat([]byte("none/"), 200_000)
	ctx, cancel := context.WithTimeout(t.Context(), answerTimeout)
	defer cancel()
	for n := 0; ; n++ {
		if _, err := m.kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: key}); err != nil {
			t.Logf("after %d deletions: %v", n, err)
			break
		}
	}
	select {
	case <-m.Ended():
	case <-ctx.Done():
		t.Fatalf("it goes on without a byte on the disk\n%s", m.LogTail(5))
	}
	m.Kill() // takes note of its end
	var last struct{ Level, Error string }
	if err := json.Unmarshal([]byte(m.LogTail(1)), &last); err != nil {
		t.Fatalf("its last line is no log line: %v\n%s", err, m.LogTail(20))
	}
	if last.Level != "fatal" || !strings.Contains(last.Error, "no space left on device") || strings.Contains(last.Error, "\n") {
		t.Errorf("its last words are %s: %q, wanted one sentence about the space", last.Level, last.Error)
	}
	t.Logf("last words: %s", last.Error)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := m.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.holdsAll()
	if err := m.put("key/last"); err != nil {
		t.Fatal(err)
	}
}

// takeAll writes a file until the disk has no room.
func takeAll(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size >= 1<<10; size /= 2 {
		for err == nil {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		err = nil
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}
