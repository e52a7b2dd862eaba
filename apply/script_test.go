package apply

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"

	"holdfast/auth"
	"holdfast/kv"
	"holdfast/lease"
	"holdfast/membership"
	"holdfast/mvcc"
	"holdfast/storage"
)

// bench is a machine over a store in memory, with everything it tells written down.
type bench struct {
	t     *testing.T
	fs    *vfs.MemFS
	quota int64
	term  kv.Term

	store   *storage.Store
	keys    *mvcc.Store
	leases  *lease.Set
	auth    *auth.Store
	cluster *membership.Cluster
	machine *Machine
	told    []string
}

// ttlMin is the shortest life of a lease in these tests.
const ttlMin = 2

func newBench(t *testing.T) *bench {
	b := &bench{t: t, fs: vfs.NewCrashableMem(), term: 1}
	b.open()
	return b
}

func (b *bench) open() {
	b.t.Helper()
	var err error
	if b.store, err = storage.Open(storage.Config{FS: b.fs, Dir: "store"}); err != nil {
		b.t.Fatal(err)
	}
	if b.keys, err = mvcc.Open(b.store, mvcc.Config{}); err != nil {
		b.t.Fatal(err)
	}
	if b.leases, err = lease.Load(b.store, ttlMin); err != nil {
		b.t.Fatal(err)
	}
	if b.auth, err = auth.Load(b.store); err != nil {
		b.t.Fatal(err)
	}
	if b.cluster, err = membership.Load(b.store, 1); err != nil {
		b.t.Fatal(err)
	}
	b.machine = New(Config{
		Store: b.store, Keys: b.keys, Leases: b.leases, Auth: b.auth, Cluster: b.cluster, Quota: b.quota,
		Publish: b.publish, Watch: b, Tokens: b, Wanted: func(id uint64) bool { return id != 0 },
	})
}

func (b *bench) close() {
	if err := b.store.Close(); err != nil {
		b.t.Error(err)
	}
}

// publish notes changes. Readers must see them already.
func (b *bench) publish(changes []kv.Change) {
	for _, c := range changes {
		line := fmt.Sprintf("change %s:", c.Revision)
		for _, e := range c.Events {
			line += fmt.Sprintf(" %s %s", map[kv.EventType]string{kv.EventPut: "put", kv.EventDelete: "del"}[e.Type], e.Key)
		}
		if b.keys.Revision() < c.Revision {
			line += " (before readers see it)"
		}
		b.told = append(b.told, line)
	}
}

// Granted implements Leases.
func (b *bench) Granted(l lease.Lease) {
	b.told = append(b.told, fmt.Sprintf("granted %d ttl=%d", int64(l.ID), l.TTL))
}

// Revoked implements Leases.
func (b *bench) Revoked(id kv.LeaseID) {
	b.told = append(b.told, fmt.Sprintf("revoked %d", int64(id)))
}

// Checkpointed implements Leases.
func (b *bench) Checkpointed(l lease.Lease) {
	b.told = append(b.told, fmt.Sprintf("checkpointed %d remaining=%d", int64(l.ID), l.Remaining))
}

// Switched implements Tokens.
func (b *bench) Switched(on bool) { b.told = append(b.told, fmt.Sprintf("authentication on: %v", on)) }

// Authenticated implements Tokens.
func (b *bench) Authenticated(user, prefix string, index kv.Index) {
	b.told = append(b.told, fmt.Sprintf("authenticated %s with %s at %d", user, prefix, index))
}

// Forget implements Tokens.
func (b *bench) Forget(user string) { b.told = append(b.told, "forget "+user) }

// Changed implements Tokens.
func (b *bench) Changed(user string) { b.told = append(b.told, "changed "+user) }

// apply applies commands as neighbouring entries in one call.
func (b *bench) apply(lines ...string) []Result {
	b.t.Helper()
	entries := make([]Entry, len(lines))
	for i, line := range lines {
		index := b.machine.index + 1 + kv.Index(i)
		entries[i] = Entry{Index: index, Term: b.term}
		if line != "empty" {
			entries[i].Payload = newParser(b.t, line).command(uint64(index))
		}
	}
	results, err := b.machine.Apply(entries)
	if err != nil {
		b.t.Fatal(err)
	}
	return results
}

// TestScripts tells in scripts what commands do: etcd's rules for keys, transactions, leases and alarms, over the real
// store in memory. The commands of a block "apply" are neighbouring entries of the log, applied in one call.
//
//	apply            one command a line, see command_test.go; "empty" is an entry of raft's own
//	read             one transaction a line that takes the way without the log
//	users            whether authentication is on, users with roles, roles with permissions, as readers see them
//	state            leases with their keys, alarms, members, version, index
//	told             what watchers and the lease clock have heard since the last time
//	quota n          bounds the store
//	change           one configuration change a line: add|learner|promote|remove|update id url ...
//	fails            one command, which ends the member: shows the panic
//	reopen, crash    make the store durable and open it again; lose what was not made durable
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		b := newBench(t)
		defer func() { b.close() }()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			b.t = t
			return b.do(d)
		})
	})
}

func (b *bench) do(d *datadriven.TestData) string {
	lines := strings.Split(strings.TrimSpace(d.Input), "\n")
	var out strings.Builder
	switch d.Cmd {
	case "apply":
		results := b.apply(lines...)
		for _, line := range lines {
			if line == "empty" {
				out.WriteString("-\n")
				continue
			}
			out.WriteString(showResult(results[0]) + "\n")
			results = results[1:]
		}
	case "read":
		for _, line := range lines {
			out.WriteString(b.read(line) + "\n")
		}
	case "state":
		return b.state()
	case "users":
		return b.users()
	case "told":
		told := strings.Join(b.told, "\n")
		b.told = nil
		return told + "\n"
	case "quota":
		b.quota = number(b.t, d.CmdArgs[0].Key)
		b.machine.Quota = b.quota
	case "change":
		for _, line := range lines {
			out.WriteString(b.change(strings.Fields(line)) + "\n")
		}
	case "fails":
		return b.fails(lines[0])
	case "reopen", "crash":
		b.restart(d.Cmd == "reopen")
		applied := b.store.Applied()
		return fmt.Sprintf("entry %d of term %d, configuration %q\n", applied.Index, applied.Term, applied.ConfState)
	default:
		return "unknown command " + d.Cmd
	}
	if out.Len() == 0 {
		return "ok\n"
	}
	return out.String()
}

// restart opens the store again as it lies on the disk: with everything if it is made durable before.
func (b *bench) restart(durable bool) {
	if durable {
		if err := b.store.Flush(); err != nil {
			b.t.Fatal(err)
		}
	}
	fs := b.fs.CrashClone(vfs.CrashCloneCfg{})
	b.close()
	b.fs = fs
	b.open()
}

// fails applies a line and shows what it panics with. The store is left as it was before.
func (b *bench) fails(line string) (out string) {
	index := b.machine.index
	defer func() {
		out = fmt.Sprintf("panic: %v\n", recover())
		b.machine.index = index
	}()
	if skip, ok := strings.CutPrefix(line, "gap "); ok {
		b.machine.index += kv.Index(number(b.t, skip))
		entry := Entry{Index: index + 1, Term: b.term}
		_, err := b.machine.Apply([]Entry{entry})
		return fmt.Sprint(err)
	}
	return fmt.Sprint(b.apply(line))
}

func (b *bench) read(line string) string {
	p := newParser(b.t, line)
	p.next()
	body, err := proto.Marshal(p.txn())
	if err != nil {
		b.t.Fatal(err)
	}
	var q kv.TxnRequest
	if err := kv.DecodeTxn(body, &q); err != nil {
		b.t.Fatal(err)
	}
	answer, err := ReadTxn(context.Background(), b.keys, &q)
	if err != nil {
		return "error: " + err.Error()
	}
	return fmt.Sprintf("rev=%s %s", answer.Revision, showTxn(answer))
}

func showResult(r Result) string {
	text := "rev=" + r.Revision.String()
	switch {
	case r.Err != nil:
		return text + " error: " + r.Err.Error()
	case r.Put != nil:
		return text + showPut(r.Put)
	case r.DeleteRange != nil:
		return text + " " + showDelete(r.DeleteRange)
	case r.Txn != nil:
		return text + " " + showTxn(r.Txn)
	case r.Lease.ID != 0:
		return text + fmt.Sprintf(" lease=%d ttl=%d", int64(r.Lease.ID), r.Lease.TTL)
	}
	for _, a := range r.Alarms {
		text += fmt.Sprintf(" %s@%d", a.Type, uint64(a.Member))
	}
	return text
}

func showPut(r *kv.PutResult) string {
	if r.Prev != nil {
		return " prev " + showRow(r.Prev)
	}
	return ""
}

func showDelete(r *kv.DeleteRangeResult) string {
	text := fmt.Sprintf("deleted %d", r.Deleted)
	for row := range r.Prev.All() {
		text += " prev " + showRow(row)
	}
	return text
}

func showTxn(r *kv.TxnResult) string {
	text := map[bool]string{true: "then", false: "else"}[r.Succeeded]
	for _, one := range r.Responses {
		switch {
		case one.Range != nil:
			text += fmt.Sprintf(" [get rev=%s count=%d", one.Range.Revision, one.Range.Count)
			for row := range one.Range.Rows.All() {
				text += " " + showRow(row)
			}
			text += "]"
		case one.Put != nil:
			text += fmt.Sprintf(" [put rev=%s%s]", one.Put.Revision, showPut(one.Put))
		case one.DeleteRange != nil:
			text += fmt.Sprintf(" [del rev=%s %s]", one.DeleteRange.Revision, showDelete(one.DeleteRange))
		case one.Txn != nil:
			text += fmt.Sprintf(" [txn rev=%s %s]", one.Txn.Revision, showTxn(one.Txn))
		}
	}
	return text
}

// showRow writes a KeyValue as key=value(create,mod,version,lease).
func showRow(row []byte) string {
	v := decode(row)
	text := fmt.Sprintf("%s=%s(%s,%s,%d", v.Key, v.Value, v.Create, v.Mod, v.Version)
	if v.Lease != 0 {
		text += fmt.Sprintf(",lease %d", int64(v.Lease))
	}
	return text + ")"
}

func (b *bench) state() string {
	var out strings.Builder
	for _, l := range b.leases.All() {
		fmt.Fprintf(&out, "lease %d ttl=%d remaining=%d keys=%s\n", int64(l.ID), l.TTL, l.Remaining, b.leases.Keys(l.ID))
	}
	for _, a := range b.cluster.Alarms(membership.AlarmNone) {
		fmt.Fprintf(&out, "alarm %s of member %d\n", a.Type, uint64(a.Member))
	}
	for _, m := range b.cluster.Members() {
		fmt.Fprintf(&out, "member %d name=%q peers=%v clients=%v learner=%t\n", uint64(m.ID), m.Name, m.PeerURLs, m.ClientURLs, m.IsLearner)
	}
	for _, id := range b.cluster.RemovedMembers() {
		fmt.Fprintf(&out, "removed %d\n", uint64(id))
	}
	if d, ever := b.cluster.Downgrade(); ever {
		fmt.Fprintf(&out, "downgrade to %q: %t\n", d.TargetVersion, d.Enabled)
	}
	fmt.Fprintf(&out, "version=%q index=%d revision=%s keys=%d\n", b.cluster.Version(), b.machine.index, b.keys.Revision(), b.keys.Keys())
	return out.String()
}

// change applies a configuration change as the replica does: one that is refused moves only the index.
func (b *bench) change(args []string) string {
	kinds := map[string]membership.ChangeKind{
		"add": membership.AddVoter, "learner": membership.AddLearner, "promote": membership.Promote,
		"remove": membership.Remove, "update": membership.Update,
	}
	c := &membership.Change{Kind: kinds[args[0]], Member: membership.Member{ID: kv.MemberID(number(b.t, args[1])), PeerURLs: args[2:]}}
	text := "ok"
	if err := b.cluster.Check(*c); err != nil {
		c, text = nil, "refused: "+err.Error()
	}
	entry := Entry{Index: b.machine.index + 1, Term: b.term}
	if err := b.machine.ApplyConfChange(entry, c, []byte(fmt.Sprint("state ", entry.Index))); err != nil {
		return "error: " + err.Error()
	}
	return text
}
