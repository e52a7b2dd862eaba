package mvcc

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/kv"
	"holdfast/storage"
)

// script is the state of one file in testdata.
type script struct {
	t  *testing.T
	fs *vfs.MemFS
	st *storage.Store
	s  *Store
}

// TestScripts runs the behaviour scripts in testdata. Their commands:
//
//	apply            one command a line: "put k v [lease=n]", "del k [end]", "compact rev", several joined by ";" in one
//	get [rev=n] ...  one range a line: "k" or "k end", the options of the block for all of them
//	events from= to= what a watcher reads
//	hash             one revision a line
//	compact-step     rows=n; compact-all
//	rows             what is physically there, with sizes
//	reopen, crash    close and open again; a crash loses what was not flushed
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		c := &script{t: t, fs: vfs.NewCrashableMem()}
		c.open()
		defer func() { c.close() }()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			c.t = t
			return c.do(d)
		})
	})
}

func (c *script) open() {
	var err error
	if c.st, err = storage.Open(storage.Config{FS: c.fs, Dir: "store"}); err != nil {
		c.t.Fatal(err)
	}
	if c.s, err = Open(c.st, Config{}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *script) close() {
	if err := c.st.Close(); err != nil {
		c.t.Fatal(err)
	}
}

func (c *script) do(d *datadriven.TestData) string {
	var out strings.Builder
	lines := func(do func(args []string)) string {
		for _, line := range strings.Split(strings.TrimSpace(d.Input), "\n") {
			do(strings.Fields(line))
		}
		return out.String()
	}
	switch d.Cmd {
	case "apply":
		for _, line := range strings.Split(d.Input, "\n") {
			fmt.Fprintf(&out, "%s\n", c.apply(line))
		}
		return out.String()
	case "get":
		return lines(func(args []string) { c.get(d, args, &out) })
	case "hash":
		return lines(func(args []string) {
			h, err := c.s.HashKV(context.Background(), parse[kv.Revision](c.t, args[0]))
			if err != nil {
				fmt.Fprintf(&out, "%s: %v\n", args[0], err)
				return
			}
			fmt.Fprintf(&out, "%s: %d revision=%s compact=%s\n", args[0], h.Sum, h.Revision, h.Compact)
		})
	case "events":
		return c.events(d)
	case "compact-step":
		var n int
		d.ScanArgs(c.t, "rows", &n)
		done, err := c.s.CompactStep(n)
		return fmt.Sprintf("done=%t %v\n", done, orOK(err))
	case "compact-all":
		for done := false; !done; {
			var err error
			if done, err = c.s.CompactStep(2); err != nil {
				return err.Error()
			}
		}
		return "ok\n"
	case "rows":
		return c.rows()
	case "flush":
		return orOK(c.st.Flush()) + "\n"
	case "reopen":
		if err := c.st.Flush(); err != nil {
			return err.Error()
		}
		c.close()
		c.open()
		return "revision " + c.s.Revision().String() + "\n"
	case "crash":
		fs := c.fs.CrashClone(vfs.CrashCloneCfg{})
		c.close()
		c.fs = fs
		c.open()
		return "revision " + c.s.Revision().String() + "\n"
	}
	return "unknown command " + d.Cmd
}

func orOK(err error) string {
	if err != nil {
		return "error: " + err.Error()
	}
	return "ok"
}

func parse[T ~int64](t *testing.T, s string) (n T) {
	if _, err := fmt.Sscan(s, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// apply runs one line as one run.
func (c *script) apply(line string) (out string) {
	batch := c.st.NewBatch()
	defer batch.Close()
	run := c.s.Begin(batch)
	defer run.Drop()
	if args := strings.Fields(line); args[0] == "compact" {
		if err := run.Compact(parse[kv.Revision](c.t, args[1])); err != nil {
			return "error: " + err.Error()
		}
		out = "ok"
	} else {
		cmd := run.Command()
		for _, op := range strings.Split(line, ";") {
			out += c.op(cmd, strings.Fields(op))
		}
		out += "revision " + cmd.End().String()
	}
	if err := run.Seal(); err != nil {
		return err.Error()
	}
	if err := batch.Commit(); err != nil {
		return err.Error()
	}
	run.Publish()
	return out
}

func (c *script) op(cmd *Command, args []string) string {
	switch args[0] {
	case "put":
		var lease kv.LeaseID
		if len(args) > 3 {
			lease = parse[kv.LeaseID](c.t, strings.TrimPrefix(args[3], "lease="))
		}
		cmd.Put([]byte(args[1]), []byte(args[2]), lease)
		return ""
	case "del":
		return fmt.Sprintf("deleted %d ", cmd.DeleteRange(keyRange(args[1:]), nil))
	}
	c.t.Fatalf("unknown operation %q", args)
	return ""
}

func keyRange(args []string) kv.KeyRange {
	r := kv.KeyRange{Key: []byte(args[0])}
	if len(args) > 1 {
		r.End = []byte(strings.ReplaceAll(args[1], `\0`, "\x00"))
	}
	return r
}

func (c *script) get(d *datadriven.TestData, args []string, out *strings.Builder) {
	q := &kv.RangeRequest{KeyRange: keyRange(args)}
	order, target := 0, 0
	d.MaybeScanArgs(c.t, "rev", (*int64)(&q.Revision))
	d.MaybeScanArgs(c.t, "limit", &q.Limit)
	d.MaybeScanArgs(c.t, "order", &order)
	d.MaybeScanArgs(c.t, "target", &target)
	d.MaybeScanArgs(c.t, "minmod", (*int64)(&q.MinMod))
	d.MaybeScanArgs(c.t, "maxcreate", (*int64)(&q.MaxCreate))
	q.SortOrder, q.SortTarget = kv.SortOrder(order), kv.SortTarget(target)
	q.KeysOnly, q.CountOnly = d.HasArg("keys-only"), d.HasArg("count-only")
	r, err := c.s.Range(context.Background(), q)
	if err != nil {
		fmt.Fprintf(out, "error: %v\n", err)
		return
	}
	fmt.Fprintf(out, "count=%d more=%t revision=%s\n", r.Count, r.More, r.Revision)
	for row := range r.Rows.All() {
		fmt.Fprintf(out, "  %s\n", show(decode(c.t, row)))
	}
}

func show(v kv.KeyValue) string {
	s := fmt.Sprintf("%s=%s create=%s mod=%s version=%d", v.Key, v.Value, v.Create, v.Mod, v.Version)
	if v.Lease != 0 {
		s += fmt.Sprintf(" lease=%d", int64(v.Lease))
	}
	return s
}

func (c *script) events(d *datadriven.TestData) string {
	var from, to kv.Revision
	d.ScanArgs(c.t, "from", (*int64)(&from))
	d.ScanArgs(c.t, "to", (*int64)(&to))
	limit := 1 << 20
	d.MaybeScanArgs(c.t, "bytes", &limit)
	events, next, err := c.s.Events(kv.Rev{Main: from}, to, limit, true)
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	var out strings.Builder
	for _, e := range events {
		fmt.Fprintf(&out, "%s type=%d %s", e.Rev, e.Type, show(decode(c.t, e.KV)))
		if e.Prev != nil {
			fmt.Fprintf(&out, " (was %s)", show(decode(c.t, e.Prev)))
		}
		out.WriteString("\n")
	}
	fmt.Fprintf(&out, "next %s\n", next)
	return out.String()
}

func (c *script) rows() string {
	var out strings.Builder
	export, err := c.s.Export()
	if err != nil {
		return err.Error()
	}
	defer export.Close()
	for row, err := range export.Rows() {
		if err != nil {
			return err.Error()
		}
		v := decode(c.t, row.Encoded)
		if row.Tombstone {
			fmt.Fprintf(&out, "%s %s deleted\n", row.Rev, v.Key)
		} else {
			fmt.Fprintf(&out, "%s %s\n", row.Rev, show(v))
		}
	}
	fmt.Fprintf(&out, "scheduled=%s finished=%s keys=%d size=%d\n",
		export.Scheduled, export.Finished, c.s.Keys(), c.s.SizeInUse())
	return out.String()
}
