package raftlog

import (
	"bytes"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Our encodings equal protobuf's, field by field, also where fields are absent or from a later version.
func TestEncodingsEqualProtobuf(t *testing.T) {
	confState := &raftpb.ConfState{Voters: []uint64{1, 1 << 63}, LearnersNext: []uint64{4}, AutoLeave: proto.Bool(true)}
	meta, err := proto.Marshal(&etcdserverpb.Metadata{NodeID: proto.Uint64(300), ClusterID: proto.Uint64(0)})
	must(err)
	if got := (Metadata{300, 0}).encode(); !bytes.Equal(got, meta) {
		t.Errorf("metadata %x, want %x", got, meta)
	}
	state, err := proto.Marshal(&raftpb.HardState{Term: proto.Uint64(7), Vote: proto.Uint64(0), Commit: proto.Uint64(1 << 40)})
	must(err)
	if got := (HardState{7, 0, 1 << 40}).encode(nil); !bytes.Equal(got, state) {
		t.Errorf("state %x, want %x", got, state)
	}
	// walpb.Snapshot has the fields of raftpb.SnapshotMetadata under other numbers: index 1, term 2, configuration 3.
	conf, err := proto.Marshal(confState)
	must(err)
	want := append([]byte{0x08, 9, 0x10, 5, 0x1a, byte(len(conf))}, conf...)
	got := must1(SnapshotRecord{Index: 9, Term: 5, ConfState: confState}.encode())
	if !bytes.Equal(got, want) {
		t.Errorf("snapshot record %x, want %x", got, want)
	}
	back, err := decodeSnapshot(got)
	if err != nil || back.Index != 9 || back.Term != 5 || !proto.Equal(back.ConfState, confState) {
		t.Errorf("read back: %v, %v", back, err)
	}
	for _, e := range sampleEntries() {
		checkEntry(t, e)
	}
}

func sampleEntries() []*raftpb.Entry {
	later := normal(3, 4, []byte("payload"))
	later.ProtoReflect().SetUnknown([]byte{0x98, 0x06, 0x01}) // field 99
	return []*raftpb.Entry{
		{},
		later,
		untyped(0, 0, nil),
		untyped(1, 1, []byte{}),
		normal(1<<63, 1<<64-1, bytes.Repeat([]byte("x"), 300)),
		typed(raftpb.EntryType_EntryConfChangeV2, 1, 2, nil),
		typed(-1, 1, 2, nil),
		{Index: proto.Uint64(5)},
	}
}

// checkEntry compares both directions with protobuf.
func checkEntry(t *testing.T, e *raftpb.Entry) {
	t.Helper()
	want, err := proto.Marshal(e)
	must(err)
	head, body, err := encodeEntry(nil, e)
	must(err)
	if got := append(bytes.Clone(head), body...); !bytes.Equal(got, want) {
		t.Errorf("%v: encoded %x, want %x", e, got, want)
	}
	checkEntryBytes(t, want)
}

// checkEntryBytes demands that we read from b what protobuf reads, or refuse it too.
func checkEntryBytes(t *testing.T, b []byte) {
	t.Helper()
	var want raftpb.Entry
	wantErr := proto.Unmarshal(b, &want)
	got, err := message(b)
	fields, ferr := parseEntry(b)
	if (err == nil) != (wantErr == nil) || (ferr == nil) != (wantErr == nil) {
		t.Fatalf("%x: %v and %v, protobuf says %v", b, err, ferr, wantErr)
	}
	if err != nil {
		return
	}
	if !proto.Equal(got, &want) {
		t.Fatalf("%x: %v, want %v", b, got, &want)
	}
	if fields.index != want.GetIndex() || fields.term != want.GetTerm() || fields.typ != want.GetType() || !bytes.Equal(fields.data, want.GetData()) {
		t.Fatalf("%x: %+v, want %v", b, fields, &want)
	}
}

func FuzzEntry(f *testing.F) {
	for _, e := range sampleEntries() {
		f.Add(must1(proto.Marshal(e)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		checkEntryBytes(t, b)
		var e raftpb.Entry
		if proto.Unmarshal(b, &e) == nil {
			checkEntry(t, &e)
		}
	})
}

// Any bytes may stand in a file. Reading them never panics, and what is taken for a frame is exactly what we would write.
func FuzzFrame(f *testing.F) {
	b, crc := appendRecord(nil, 0, TypeCRC, nil, nil)
	b, crc = appendRecord(b, crc, TypeState, HardState{1, 2, 3}.encode(nil), nil)
	b, _ = appendRecord(b, crc, TypeEntry, []byte("head"), bytes.Repeat([]byte{0}, 600))
	f.Add(b, uint32(0), uint16(0))
	f.Add(b[16:], uint32(0), uint16(504))
	f.Fuzz(func(t *testing.T, b []byte, crc uint32, off uint16) {
		if fr, ok := parseFrame(b); ok {
			again, _ := appendRecord(nil, crc, fr.typ, fr.data, nil)
			if int64(len(again)) > fr.size+8 || fr.follows(crc) && !bytes.Equal(again, b[:fr.size]) {
				t.Fatalf("read %v from %x, would write %x", fr, b[:fr.size], again)
			}
		}
		before := bytes.Clone(b)
		if len(b) > 0 {
			judgeTail(b, int64(off)/8*8, crc, 0)
		}
		if !bytes.Equal(b, before) {
			t.Fatal("judging changed the bytes")
		}
		_, _ = decodeMetadata(b)
		_, _ = decodeHardState(b)
		_, _ = decodeSnapshot(b)
	})
}

func BenchmarkEncodeEntry(b *testing.B) {
	e := normal(7, 1_000_000, make([]byte, 256))
	b.Run("hand", func(b *testing.B) {
		b.ReportAllocs()
		var buf [entryHeaderBytesMax]byte
		for b.Loop() {
			_, _, _ = encodeEntry(buf[:0], e)
		}
	})
	b.Run("protobuf", func(b *testing.B) {
		b.ReportAllocs()
		buf := make([]byte, 0, 512)
		for b.Loop() {
			_, _ = proto.MarshalOptions{}.MarshalAppend(buf, e)
		}
	})
}
