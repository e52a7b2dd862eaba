package bench

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"holdfast/test/run"
)

// ofEachKind are rows that together go through nearly all of the package: as many as a check of two minutes has time for.
var ofEachKind = []string{"restart", "put-tls-1000", "put-members-3", "put-half", "get-serializable", "list-10000", "json-get-16", "kube-mixed",
	"watch-tls-1000", "watch-10000", "compact-serving", "ranges-40", "put-strangers", "idle-members-3"}

// TestEveryRow puts each question to our side for a moment, on little data, and expects every figure that the row is to show, or a target asks for.
// With -short there is one row of each kind.
func TestEveryRow(t *testing.T) {
	dir := t.TempDir()
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	s, err := newSuite(Config{Holdfast: run.Holdfast(t), Dir: dir, Results: filepath.Join(dir, "results"), Out: out, short: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for _, row := range s.rows {
		if testing.Short() && !slices.Contains(ofEachKind, row.name) {
			continue
		}
		t.Run(row.name, func(t *testing.T) {
			one, err := s.measure(t.Context(), row, s.sides[0], 1)
			for range 10 { // a moment is short where others compute
				if errors.Is(err, errNothing) {
					one, err = s.measure(t.Context(), row, s.sides[0], 1)
				}
			}
			if errors.Is(err, errNoGroups) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range row.show {
				if _, has := one.Values[name]; !has {
					t.Errorf("no %s", name)
				}
			}
			t.Logf("%.1f s: %v", one.Seconds, one.Values)
		})
	}
}

// TestDiscard reads an answer of several frames, and the status of one that is refused.
func TestDiscard(t *testing.T) {
	server, err := run.Start(t.Context(), run.Config{Binary: run.Holdfast(t), Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Kill()
	m := &members{servers: []*run.Server{server}, creds: insecure.NewCredentials()}
	const n, size = 100, 10 << 10
	if err := fill(t.Context(), m, writes{n: n, turn: func(i int) *pb.PutRequest {
		return &pb.PutRequest{Key: objectKey(i), Value: value(i, size)}
	}}); err != nil {
		t.Fatal(err)
	}
	ask := func(q *pb.RangeRequest) (came int, err error) {
		request, err := proto.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		err = discard(t.Context(), server.Client, pb.KV_Range_FullMethodName, request, func(n int) { came += n })
		return came, err
	}
	if came, err := ask(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}); err != nil || came < n*size {
		t.Errorf("%d bytes, %v", came, err)
	}
	if _, err := ask(&pb.RangeRequest{Key: []byte("k"), Revision: 1 << 40}); status.Code(err) != codes.OutOfRange {
		t.Errorf("a revision of the future: %v", err)
	}
}
