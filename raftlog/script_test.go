package raftlog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
)

// TestScripts runs the scripts in testdata/scripts. Each works on one directory of an in-memory disk:
//
//	create node=N cluster=N [segment=BYTES]    open [after=N]    close
//	append     one save a line: INDEX/TERM=DATA, INDEX/TERM*SIZE (zero bytes), INDEX/TERMxSIZE,
//	           snap=INDEX/TERM, state=TERM,VOTE,COMMIT, sync
//	release below=N            with the snap= of a save
//	entries lo=N hi=N [max=N]  stats    verify    files
//	records [from=SEQ]         what stands on disk, as Read sees it
//	zero file=NAME off=N n=N   overwrite with zeroes; flip file=NAME off=N bit=N; remove file=NAME
//	crash                      lose all that was not synced; reopen with open
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		s := script{mem: vfs.NewCrashableMem(), size: 1024}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			out, err := s.run(t, d)
			if err != nil {
				out += "error: " + err.Error() + "\n"
			}
			return out
		})
	})
}

type script struct {
	mem  *vfs.MemFS
	size uint64 // of segments
	log  *Log
}

func (s *script) config() Config {
	return Config{FS: s.mem, Dir: "wal", Log: quiet(), SegmentBytes: int64(s.size)}
}

func (s *script) run(t *testing.T, d *datadriven.TestData) (out string, err error) {
	num := func(key string) (n uint64) {
		d.MaybeScanArgs(t, key, &n)
		return n
	}
	var file string
	d.MaybeScanArgs(t, "file", &file)
	defer func() {
		if p := recover(); p != nil {
			out += fmt.Sprintf("panic: %v\n", p)
		}
	}()
	switch d.Cmd {
	case "create":
		s.size = 1024
		d.MaybeScanArgs(t, "segment", &s.size)
		var l *Log
		if l, err = Create(s.config(), Metadata{num("node"), num("cluster")}); err == nil {
			s.log = l
		}
	case "open":
		return s.open(d.HasArg("after"), num("after"))
	case "close":
		err = s.log.Close()
	case "append":
		err = s.log.Append(parseSaves(t, d.Input)...)
	case "release":
		save := parseSaves(t, d.Input)[0]
		var n int
		n, err = s.log.Release(*save.Snapshot, num("below"))
		out = fmt.Sprintf("removed %d\n", n)
	case "entries":
		most := uint64(1 << 20)
		d.MaybeScanArgs(t, "max", &most)
		var entries []*raftpb.Entry
		entries, err = s.log.Entries(num("lo"), num("hi"), most)
		out = showEntries(entries)
	case "stats":
		out = fmt.Sprintf("%+v\n", s.log.Stats())
	case "verify":
		var sum Summary
		if sum, err = Verify(s.mem, "wal"); err == nil {
			out = fmt.Sprintf("segments %d, %+v, snapshots %s, entries %d to %d, terms %v, torn %d bytes\n",
				len(sum.Segments), sum.State, showSnapshots(sum.Snapshots), sum.First, sum.Last, sum.Terms, sum.TornBytes)
		}
	case "files":
		out = s.mem.String()
	case "records":
		return s.records(num("from"))
	case "zero", "flip":
		data := must1(s.mem.UnsafeGetFileDataBuffer("wal/" + file))
		if d.Cmd == "flip" {
			data[num("off")] ^= 1 << num("bit")
		} else {
			clear(data[num("off"):min(uint64(len(data)), num("off")+num("n"))])
		}
	case "remove":
		err = s.mem.Remove("wal/" + file)
	case "crash":
		s.mem = s.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: int(num("percent")), RNG: rand.New(rand.NewPCG(1, 1))})
	default:
		t.Fatalf("unknown command %s", d.Cmd)
	}
	return out, err
}

func (s *script) open(applied bool, after uint64) (string, error) {
	var rec Recovered
	var err error
	if applied {
		s.log, rec, err = OpenAfter(s.config(), after)
	} else {
		s.log, rec, err = Open(s.config())
	}
	if err != nil {
		return "", err
	}
	out := fmt.Sprintf("%+v %+v, snapshots %s, entries %d to %d, terms %v, torn %d bytes; after %d:\n%s", rec.Metadata, rec.State,
		showSnapshots(rec.Snapshots), rec.First, rec.Last, rec.Terms, rec.TornBytes, rec.After, showEntries(rec.Entries))
	if err := rec.Check(rec.After); err != nil {
		out += "check: " + err.Error() + "\n"
	}
	return out, nil
}

func (s *script) records(from uint64) (string, error) {
	var b strings.Builder
	_, err := Read(s.mem, "wal", func(r Record) error {
		seg, ok := parseSegment(r.Segment)
		if !ok {
			return errors.New(r.Segment)
		}
		if seg.seq < from {
			return nil
		}
		fmt.Fprintf(&b, "%x/%x %5d %08x %v ", seg.seq, seg.index, r.Offset, r.CRC, r.Type)
		switch r.Type {
		case TypeEntry:
			b.WriteString(showEntries([]*raftpb.Entry{must1(r.Entry())}))
		case TypeState:
			fmt.Fprintf(&b, "%+v\n", must1(r.State()))
		case TypeSnapshot:
			fmt.Fprintf(&b, "%s\n", showSnapshots([]SnapshotRecord{must1(r.Snapshot())}))
		case TypeMetadata:
			fmt.Fprintf(&b, "%+v\n", must1(r.Metadata()))
		case TypeCRC:
			b.WriteString("\n")
		}
		return nil
	})
	return b.String(), err
}

func showEntries(entries []*raftpb.Entry) string {
	var b strings.Builder
	for _, e := range entries {
		data := string(e.GetData())
		if len(data) > 20 {
			data = fmt.Sprintf("(%d bytes)", len(data))
		}
		fmt.Fprintf(&b, "%d/%d=%s\n", e.GetIndex(), e.GetTerm(), data)
	}
	return b.String()
}

func showSnapshots(snaps []SnapshotRecord) string {
	var list []string
	for _, r := range snaps {
		list = append(list, fmt.Sprintf("%d/%d", r.Index, r.Term))
	}
	return "[" + strings.Join(list, " ") + "]"
}

func parseSaves(t *testing.T, input string) []Save {
	var saves []Save
	for line := range strings.Lines(input) {
		var s Save
		for _, word := range strings.Fields(line) {
			if word == "sync" {
				s.Sync = true
			} else if v, ok := strings.CutPrefix(word, "state="); ok {
				n := numbers(t, v, ",")
				s.State = HardState{n[0], n[1], n[2]}
			} else if v, ok := strings.CutPrefix(word, "snap="); ok {
				n := numbers(t, v, "/")
				s.Snapshot = &SnapshotRecord{Index: n[0], Term: n[1], ConfState: &raftpb.ConfState{Voters: []uint64{1}}}
			} else if at, size, ok := strings.Cut(word, "*"); ok {
				n := numbers(t, at, "/")
				s.Entries = append(s.Entries, normal(n[1], n[0], make([]byte, numbers(t, size, " ")[0])))
			} else if at, size, ok := strings.Cut(word, "x"); ok && !strings.Contains(at, "=") {
				n := numbers(t, at, "/")
				data := strings.Repeat("x", int(numbers(t, size, " ")[0]))
				s.Entries = append(s.Entries, normal(n[1], n[0], []byte(data)))
			} else {
				at, data, _ := strings.Cut(word, "=")
				n := numbers(t, at, "/")
				s.Entries = append(s.Entries, normal(n[1], n[0], []byte(data)))
			}
		}
		saves = append(saves, s)
	}
	return saves
}

func numbers(t *testing.T, s, sep string) []uint64 {
	var list []uint64
	for _, part := range strings.Split(s, sep) {
		n, err := strconv.ParseUint(part, 10, 64)
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		list = append(list, n)
	}
	return list
}
