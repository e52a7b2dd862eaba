package utl

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"holdfast/test/etcd"
	"holdfast/test/run"
)

// TestSwapMembers takes a running cluster of three from etcd to Holdfast and back, one member after the other, on the same ports with
// the same flags. The others go on meanwhile; in the end all hold everything.
func TestSwapMembers(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a run without -short: six members are swapped, and each election takes its time")
	}
	theirs, mine, utl := etcd.Binary(t, "etcd"), run.Holdfast(t), ours(t, "etcdutl")
	dir := t.TempDir()
	program := func(i int) string { return filepath.Join(dir, fmt.Sprint("etcd-", i)) } // a link, moved from one binary to the other
	var cluster []string
	var servers []*run.Server
	for i := range 3 {
		if err := os.Symlink(theirs, program(i)); err != nil {
			t.Fatal(err)
		}
		name, home := fmt.Sprint("m", i), filepath.Join(dir, fmt.Sprint("home", i))
		if err := os.Mkdir(home, 0o700); err != nil {
			t.Fatal(err)
		}
		s, err := run.Place(run.Config{Binary: program(i), Dir: home, Name: name, Args: unfinished})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Kill)
		servers, cluster = append(servers, s), append(cluster, name+"="+s.PeerURL())
	}
	for _, s := range servers {
		s.Join(strings.Join(cluster, ","))
		if err := s.Launch(); err != nil {
			t.Fatal(err)
		}
	}
	c := dial(t, servers[0])
	c.populate()
	c.alarm(pb.AlarmRequest_DEACTIVATE) // so that there can be writes
	members := map[int]string{}
	for i, s := range servers {
		members[i] = dial(t, s).member()
	}
	swap := func(i int, binary string, move func(data string)) {
		t.Helper()
		s, other := servers[i], dial(t, servers[(i+1)%3])
		s.Kill()
		other.putSoon(fmt.Sprint("while ", i, " is away"))
		move(s.Data)
		if err := os.Remove(program(i)); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(binary, program(i)); err != nil {
			t.Fatal(err)
		}
		if err := s.Launch(); err != nil {
			t.Fatal(err)
		}
		back := dial(t, s)
		back.putSoon(fmt.Sprint("after ", i, " came back"))
		if got := back.member(); got != members[i] {
			t.Fatalf("member %d was %s and is %s", i, members[i], got)
		}
	}
	compare := func(when string) {
		t.Helper()
		want := dial(t, servers[0]).fingerprint()
		for i, s := range servers[1:] {
			mustEqual(t, fmt.Sprintf("%s: member %d", when, i+1), dial(t, s).fingerprint(), want)
		}
	}
	for i := range servers {
		swap(i, mine, func(data string) { must(t, dir, utl, "import", "--in-place", data) })
	}
	compare("all on Holdfast")
	for i := range servers {
		swap(i, theirs, func(data string) {
			must(t, dir, utl, "export", data, "--data-dir", data+".new")
			if err := os.Rename(data, data+".old"); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(data+".new", data); err != nil {
				t.Fatal(err)
			}
		})
		if err := os.RemoveAll(servers[i].Data + ".old"); err != nil {
			t.Fatal(err)
		}
	}
	compare("all on etcd again")
}

// putSoon tries as long as the cluster may be without a leader.
func (c *client) putSoon(key string) {
	c.t.Helper()
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(c.ctx, 2*time.Second)
		_, err := pb.NewKVClient(c.conn).Put(ctx, &pb.PutRequest{Key: []byte(key), Value: []byte("v")})
		cancel()
		if err == nil {
			return
		}
		if time.Since(began) > 30*time.Second {
			c.t.Fatalf("put %q: %v", key, err)
		}
	}
}
