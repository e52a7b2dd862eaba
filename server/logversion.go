package server

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/versionpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/runtime/protoimpl"

	"holdfast/kv"
	"holdfast/raftlog"
	"holdfast/util/version"
)

// LogVersion is the oldest version of etcd that understands a raft log: each message, field and value that the entries behind
// the last snapshot record use has one. The zero version stands for a log without entries there.
func LogVersion(disk vfs.FS, dir string) (version.Minor, error) {
	sum, err := raftlog.Verify(disk, dir)
	if err != nil {
		return version.Minor{}, err
	}
	var from uint64
	if n := len(sum.Snapshots); n > 0 {
		from = sum.Snapshots[n-1].Index
	}
	rec, err := raftlog.ReadAfter(disk, dir, from)
	if err != nil {
		return version.Minor{}, err
	}
	var newest version.Minor
	for _, e := range rec.Entries {
		v, err := entryVersion(e)
		if err != nil {
			return version.Minor{}, fmt.Errorf("read entry %d: %w", e.GetIndex(), err)
		}
		newest = newer(newest, v)
	}
	return newest, nil
}

func newer(a, b version.Minor) version.Minor {
	if a.Below(b) {
		return b
	}
	return a
}

// entryVersion is the oldest version of etcd that understands an entry.
func entryVersion(e *raftpb.Entry) (version.Minor, error) {
	switch e.GetType() {
	case raftpb.EntryConfChange:
		return version.Minor{Major: 3}, nil
	case raftpb.EntryConfChangeV2:
		return version.Minor{Major: 3, Minor: 4}, nil
	}
	q := new(pb.InternalRaftRequest)
	if err := proto.Unmarshal(e.GetData(), q); err != nil {
		if c, old := kv.DecodeCommand(e.GetData()); old == nil { // written by etcd up to 3.5 in a form of its own
			return messageVersion(c.Cold.ProtoReflect())
		}
		return version.Minor{}, err
	}
	v, err := messageVersion(q.ProtoReflect())
	if err != nil || q.DowngradeVersionTest == nil {
		return v, err
	}
	asked, err := version.ParseMinor(q.DowngradeVersionTest.Ver)
	return newer(v, asked), err
}

// messageVersion looks at what is set in a message. As in etcd, what lies in lists is not looked at.
func messageVersion(m protoreflect.Message) (newest version.Minor, err error) {
	take := func(v version.Minor, failed error) bool {
		newest, err = newer(newest, v), failed
		return failed == nil
	}
	if !take(annotated(m.Descriptor(), versionpb.E_EtcdVersionMsg)) {
		return newest, err
	}
	m.Range(func(f protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if !take(annotated(f, versionpb.E_EtcdVersionField)) {
			return false
		}
		switch v := value.Interface().(type) {
		case protoreflect.Message:
			return take(messageVersion(v))
		case protoreflect.EnumNumber:
			if !take(annotated(f.Enum(), versionpb.E_EtcdVersionEnum)) {
				return false
			}
			if d := f.Enum().Values().ByNumber(v); d != nil {
				return take(annotated(d, versionpb.E_EtcdVersionEnumValue))
			}
		}
		return true
	})
	return newest, err
}

// annotated is the version that etcd's definition of a message, field or value names; the zero one if none.
func annotated(d protoreflect.Descriptor, kind *protoimpl.ExtensionInfo) (version.Minor, error) {
	text, _ := proto.GetExtension(d.Options(), kind).(string)
	if text == "" {
		return version.Minor{}, nil
	}
	return version.ParseMinor(text + ".0")
}
