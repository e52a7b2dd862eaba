package metrics

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"holdfast/test/run"
)

// patience bounds every wait of these tests for members.
const patience = time.Minute

// startMembers runs a cluster of n members and waits until each answers.
func startMembers(t *testing.T, binary string, n int, more ...string) []*run.Server {
	t.Helper()
	var members []*run.Server
	var cluster []string
	for i := range n {
		dir := filepath.Join(t.TempDir(), fmt.Sprint(i))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		m, err := run.Place(run.Config{Binary: binary, Dir: dir, Name: fmt.Sprintf("m%d", i), Args: append([]string{"--metrics=extensive"}, more...)})
		if err != nil {
			t.Fatal(err)
		}
		members, cluster = append(members, m), append(cluster, fmt.Sprintf("m%d=http://%s", i, m.Peer))
	}
	for _, m := range members {
		m.Join(strings.Join(cluster, ","))
		if err := m.Launch(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Kill)
	}
	for _, m := range members {
		awaitMember(t, m)
	}
	return members
}

func awaitMember(t *testing.T, m *run.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := dial(t, m)
	defer c.Close()
	for {
		asking, stop := context.WithTimeout(ctx, time.Second)
		_, err := c.Get(asking, "none")
		stop()
		if err == nil {
			return
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("the member does not answer: %v\n%s", err, m.LogTail(20))
		}
	}
}

func dial(t *testing.T, m *run.Server) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{m.Client}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// load does a little of everything through one member, as clients do it.
func load(t *testing.T, m *run.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := dial(t, m)
	defer c.Close()
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	watching := c.Watch(ctx, "k", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-watching
	lease, err := c.Grant(ctx, 60)
	must("grant", err)
	_, err = c.KeepAliveOnce(ctx, lease.ID)
	must("keep alive", err)
	var last int64
	for i := range 20 {
		r, err := c.Put(ctx, fmt.Sprintf("k%d", i%5), "value", clientv3.WithLease(lease.ID))
		must("put", err)
		last = r.Header.Revision
		<-watching
	}
	_, err = c.Get(ctx, "k", clientv3.WithPrefix())
	must("get", err)
	_, err = c.Get(ctx, "k", clientv3.WithRev(1<<40))
	if err == nil {
		t.Fatal("a future revision is answered")
	}
	_, err = c.Txn(ctx).If(clientv3.Compare(clientv3.Version("k1"), ">", 0)).Then(clientv3.OpPut("k1", "v"), clientv3.OpGet("k2")).Commit()
	must("txn", err)
	<-watching // each change is seen before the next, so that none share a message
	_, err = c.Delete(ctx, "k3")
	must("delete", err)
	<-watching
	_, err = c.Compact(ctx, last, clientv3.WithCompactPhysical())
	must("compact", err)
	_, err = c.HashKV(ctx, m.Client, 0)
	must("hash", err)
	_, err = c.Defragment(ctx, m.Client)
	must("defragment", err)
	snapshot, err := c.Snapshot(ctx)
	must("snapshot", err)
	_, err = io.Copy(io.Discard, snapshot)
	must("snapshot", err)
	_, err = c.MemberList(ctx)
	must("list members", err)
	if _, err = c.MemberPromote(ctx, 12345); err == nil {
		t.Fatal("nobody is promoted")
	}
	_, err = c.Revoke(ctx, lease.ID)
	must("revoke", err)
	<-watching
	for _, path := range []string{"/health", "/livez", "/readyz"} {
		r, err := http.Get("http://" + m.Client + path)
		must(path, err)
		must(path, r.Body.Close())
	}
}
