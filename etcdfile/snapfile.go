package etcdfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"holdfast/kv"
)

// Field numbers of snappb.Snapshot, the envelope of a .snap file: crc is CRC-32C of data, data a raftpb.Snapshot.
const (
	fieldSnapCRC  protowire.Number = 1
	fieldSnapData protowire.Number = 2
)

// ErrBadSnap says that a .snap file is empty, damaged or something else.
var ErrBadSnap = errors.New("not an intact .snap file")

// EncodeSnap returns the content of a .snap file that holds an encoded raftpb.Snapshot.
func EncodeSnap(data []byte) []byte {
	b := protowire.AppendTag(nil, fieldSnapCRC, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(snapSum(data)))
	b = protowire.AppendTag(b, fieldSnapData, protowire.BytesType)
	return protowire.AppendBytes(b, data)
}

// DecodeSnap returns the encoded raftpb.Snapshot that a .snap file holds. It aliases b.
func DecodeSnap(b []byte) (data []byte, err error) {
	var sum uint64
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, fmt.Errorf("%w: %w", ErrBadSnap, errBadMessage)
		}
		b = b[n:]
		switch {
		case field == fieldSnapCRC && kind == protowire.VarintType:
			sum, n = protowire.ConsumeVarint(b)
		case field == fieldSnapData && kind == protowire.BytesType:
			data, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(field, kind, b)
		}
		if n < 0 {
			return nil, fmt.Errorf("%w: %w", ErrBadSnap, errBadMessage)
		}
		b = b[n:]
	}
	if len(data) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrBadSnap)
	}
	if got := snapSum(data); uint64(got) != sum {
		return nil, fmt.Errorf("%w: checksum %#x, the content has %#x", ErrBadSnap, sum, got)
	}
	return data, nil
}

func snapSum(data []byte) uint32 { return crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)) }

// v2Node is a node of etcd's old v2 store in its dump. A folder has children, if only an empty map; a value has none.
type v2Node struct {
	Path                        string
	CreatedIndex, ModifiedIndex uint64
	ExpireTime                  time.Time // zero: never
	Value                       string
	Children                    map[string]*v2Node
}

func newV2Folder(path string) *v2Node { return &v2Node{Path: path, Children: map[string]*v2Node{}} }

// put sets the value at a path relative to n and creates the folders on the way.
func (n *v2Node) put(path, value string) {
	name, rest, deeper := strings.Cut(path, "/")
	childPath := strings.TrimSuffix(n.Path, "/") + "/" + name
	if !deeper {
		n.Children[name] = &v2Node{Path: childPath, Value: value}
		return
	}
	if n.Children[name] == nil {
		n.Children[name] = newV2Folder(childPath)
	}
	n.Children[name].put(rest, value)
}

// V2Membership returns the dump of etcd's old v2 store that raftpb.Snapshot.Data carries: nothing but the cluster's
// membership. etcd up to 3.6 reads it when it starts; 3.7 still writes it.
func V2Membership(members []Member, removed []kv.MemberID, clusterVersion string) ([]byte, error) {
	root := newV2Folder("/")
	root.Children["0"], root.Children["1"] = newV2Folder("/0"), newV2Folder("/1")
	for _, m := range members {
		raft, err := json.Marshal(struct {
			PeerURLs  []string `json:"peerURLs"`
			IsLearner bool     `json:"isLearner,omitempty"`
		}{m.PeerURLs, m.IsLearner})
		if err != nil {
			return nil, fmt.Errorf("encode member %v: %w", m.ID, err)
		}
		root.put("0/members/"+m.ID.String()+"/raftAttributes", string(raft))
		if m.ClientURLs == nil {
			continue // it never published its attributes
		}
		attributes, err := json.Marshal(struct {
			Name       string   `json:"name,omitempty"`
			ClientURLs []string `json:"clientURLs,omitempty"`
		}{m.Name, m.ClientURLs})
		if err != nil {
			return nil, fmt.Errorf("encode member %v: %w", m.ID, err)
		}
		root.put("0/members/"+m.ID.String()+"/attributes", string(attributes))
	}
	for _, id := range removed {
		root.put("0/removed_members/"+id.String(), "")
	}
	if clusterVersion != "" {
		root.put("0/version", clusterVersion)
	}
	return json.Marshal(struct {
		Root           *v2Node
		CurrentIndex   uint64
		CurrentVersion int
	}{Root: root, CurrentVersion: 2})
}
