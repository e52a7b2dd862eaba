package raftlog

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
)

// A Record is one record as Read meets it. Data is good only during the call.
type Record struct {
	Segment string // file name
	Offset  int64
	Type    Type
	CRC     uint32
	Data    []byte
}

// Entry decodes the data of a TypeEntry record.
func (r Record) Entry() (*raftpb.Entry, error) { return message(r.Data) }

// State decodes the data of a TypeState record.
func (r Record) State() (HardState, error) { return decodeHardState(r.Data) }

// Snapshot decodes the data of a TypeSnapshot record.
func (r Record) Snapshot() (SnapshotRecord, error) { return decodeSnapshot(r.Data) }

// Metadata decodes the data of a TypeMetadata record.
func (r Record) Metadata() (Metadata, error) { return decodeMetadata(r.Data) }

// A Summary says what a log holds.
type Summary struct {
	Segments  []string // file names, oldest first
	Metadata  Metadata
	State     HardState
	Snapshots []SnapshotRecord // those at or below the commit index, oldest first
	First     uint64           // lowest entry kept; Last+1 when there is none
	Last      uint64           // index of the last entry, or of the snapshot the log begins after
	Terms     []TermRun        // of the entries First to Last
	End       int64            // where the records of the last segment end
	TornBytes int64            // from End on, left by a crash; Open zeroes them
}

// Read visits every record of the log in dir, oldest first, the overwritten ones too, and changes nothing. A torn tail is
// its end; anything else that cannot be read is a *DamageError. The log should not be in use: what is being
// written may be reported as torn.
func Read(fsys vfs.FS, dir string, visit func(Record) error) (Summary, error) {
	passes := 0
	s, err := scanLog(fsys, dir, func() visitor {
		if passes++; passes > 1 {
			return func(seen) error { return nil }
		}
		return func(r seen) error {
			return visit(Record{Segment: r.pos.seg.String(), Offset: r.pos.off, Type: r.frame.typ, CRC: r.frame.crc, Data: r.frame.data})
		}
	})
	if err != nil {
		return Summary{}, err
	}
	return s.summary()
}

// Verify reads the whole log in dir and reports what it holds, or how it is damaged.
func Verify(fsys vfs.FS, dir string) (Summary, error) {
	return Read(fsys, dir, func(Record) error { return nil })
}

func (s *scan) summary() (Summary, error) {
	meta, err := decodeMetadata(s.meta)
	if err != nil {
		return Summary{}, fmt.Errorf("metadata of raft log %s: %w", s.dir, err)
	}
	sum := Summary{
		Metadata:  meta,
		State:     s.hist.state,
		Snapshots: s.hist.validSnapshots(),
		First:     s.hist.base.Index + 1,
		Last:      s.hist.last,
		Terms:     s.hist.terms,
		End:       s.end,
		TornBytes: s.dirt,
	}
	if len(s.hist.terms) > 0 {
		sum.First = s.hist.terms[0].First
	}
	for _, seg := range s.segs {
		sum.Segments = append(sum.Segments, seg.String())
	}
	return sum, nil
}
