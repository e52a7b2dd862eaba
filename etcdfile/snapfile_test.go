package etcdfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// TestSnapFile reads a real etcd's .snap file, writes it anew, and compares its dump of the membership with the one
// we make from the database of the same cluster.
func TestSnapFile(t *testing.T) {
	content := unzipped(t, "members.snap.gz")
	data, err := DecodeSnap(content)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(EncodeSnap(data), content) {
		t.Error("written anew, the file differs")
	}

	// Field 1 of a raftpb.Snapshot is its data.
	_, _, n := protowire.ConsumeTag(data)
	theirs, m := protowire.ConsumeBytes(data[n:])
	if m < 0 {
		t.Fatal("no dump")
	}
	d, _ := golden(t, "members")
	state := readBack(t, d)
	ours, err := V2Membership(state.members, state.removed, state.meta.ClusterVersion)
	if err != nil {
		t.Fatal(err)
	}
	if want, got := v2Tree(t, theirs), v2Tree(t, ours); !reflect.DeepEqual(want, got) {
		t.Errorf("etcd dumps\n%+v\nwe\n%+v", want, got)
	}
}

// v2Tree returns the values of a dump by path; folders end in a slash.
func v2Tree(t *testing.T, dump []byte) map[string]string {
	t.Helper()
	var store struct {
		Root           *v2Node
		CurrentVersion int
	}
	if err := json.Unmarshal(dump, &store); err != nil {
		t.Fatal(err)
	}
	if store.CurrentVersion != 2 {
		t.Errorf("version %d", store.CurrentVersion)
	}
	tree := map[string]string{}
	var visit func(*v2Node)
	visit = func(n *v2Node) {
		if n.Children == nil {
			tree[n.Path] = n.Value
			return
		}
		tree[n.Path+"/"] = ""
		for _, child := range n.Children {
			visit(child)
		}
	}
	visit(store.Root)
	return tree
}

// TestSnapFileDamaged cuts the file everywhere and flips every bit: damage is noticed, unless it lies in what is
// skipped.
func TestSnapFileDamaged(t *testing.T) {
	content := EncodeSnap([]byte("what raft keeps of a snapshot"))
	for at := range content {
		if _, err := DecodeSnap(content[:at]); !errors.Is(err, ErrBadSnap) {
			t.Errorf("cut at %d: %v", at, err)
		}
	}
	for bit := range len(content) * 8 {
		damaged := bytes.Clone(content)
		damaged[bit/8] ^= 1 << (bit % 8)
		if _, err := DecodeSnap(damaged); !errors.Is(err, ErrBadSnap) {
			t.Errorf("bit %d flipped: %v", bit, err)
		}
	}
}
