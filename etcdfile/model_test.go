package etcdfile

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/etcd/api/v3/authpb"
	"google.golang.org/protobuf/proto"

	"holdfast/kv"
)

// model is a member's state as plain slices: the naive judge of what Write and Open make of it.
type model struct {
	meta    Meta
	rows    []Row
	leases  []Lease
	alarms  []Alarm
	members []Member
	removed []kv.MemberID
	users   []Account
	roles   []Account
	err     error // ends every part after its items
}

func (m *model) Meta() (Meta, error)                           { return m.meta, nil }
func (m *model) Rows() iter.Seq2[Row, error]                   { return items(m.rows, m.err) }
func (m *model) Leases() iter.Seq2[Lease, error]               { return items(m.leases, m.err) }
func (m *model) Alarms() iter.Seq2[Alarm, error]               { return items(m.alarms, m.err) }
func (m *model) Members() iter.Seq2[Member, error]             { return items(m.members, m.err) }
func (m *model) RemovedMembers() iter.Seq2[kv.MemberID, error] { return items(m.removed, m.err) }
func (m *model) Users() iter.Seq2[Account, error]              { return items(m.users, m.err) }
func (m *model) Roles() iter.Seq2[Account, error]              { return items(m.roles, m.err) }

func items[T any](all []T, err error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, item := range all {
			if !yield(item, nil) {
				return
			}
		}
		if err != nil {
			var none T
			yield(none, err)
		}
	}
}

// readBack collects a source into a model, copying what is only valid until the next step.
func readBack(t *testing.T, src Source) *model {
	t.Helper()
	meta, err := src.Meta()
	if err != nil {
		t.Fatal(err)
	}
	m := &model{meta: meta}
	m.rows = gather(t, src.Rows(), func(r Row) Row { r.Encoded = slices.Clone(r.Encoded); return r })
	m.leases = gather(t, src.Leases(), same)
	m.alarms = gather(t, src.Alarms(), same)
	m.members = gather(t, src.Members(), same)
	m.removed = gather(t, src.RemovedMembers(), same)
	m.users = gather(t, src.Users(), func(a Account) Account { a.Encoded = slices.Clone(a.Encoded); return a })
	m.roles = gather(t, src.Roles(), func(a Account) Account { a.Encoded = slices.Clone(a.Encoded); return a })
	return m
}

func same[T any](v T) T { return v }

func gather[T any](t *testing.T, all iter.Seq2[T, error], keep func(T) T) []T {
	t.Helper()
	var got []T
	for item, err := range all {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, keep(item))
	}
	return got
}

// sorted puts the small parts into the order of the file.
func (m *model) sorted() *model {
	slices.SortFunc(m.alarms, func(a, b Alarm) int {
		return strings.Compare(string(appendAlarm(nil, a)), string(appendAlarm(nil, b)))
	})
	slices.SortFunc(m.members, func(a, b Member) int { return strings.Compare(a.ID.String(), b.ID.String()) })
	slices.SortFunc(m.removed, func(a, b kv.MemberID) int { return strings.Compare(a.String(), b.String()) })
	slices.SortFunc(m.users, func(a, b Account) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(m.roles, func(a, b Account) int { return cmp.Compare(a.Name, b.Name) })
	return m
}

// seeded returns the random source of a test and has a failure print its seed.
func seeded(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if s := testSeed; s != 0 {
		seed = s
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("repeat with -seed=%d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 0))
}

// randomModel draws a state whose keys have a history of about rows revisions.
func randomModel(r *rand.Rand, rows int) *model {
	m := &model{meta: randomMeta(r)}
	m.rows = randomRows(r, rows)
	for id := range randomIDs(r, r.IntN(300)) {
		m.leases = append(m.leases, Lease{ID: kv.LeaseID(id >> 1), TTL: r.Int64N(1e9) + 1, Remaining: r.Int64N(2) * r.Int64N(1e6)})
	}
	slices.SortFunc(m.leases, func(a, b Lease) int { return cmp.Compare(a.ID, b.ID) })
	for id := range randomIDs(r, r.IntN(4)) {
		m.alarms = append(m.alarms, Alarm{Member: kv.MemberID(id), Kind: 1 + r.Int32N(2)})
	}
	for id := range randomIDs(r, r.IntN(8)) {
		m.members = append(m.members, Member{
			ID: kv.MemberID(id), PeerURLs: []string{fmt.Sprintf("http://10.0.0.%d:2380", id%256)},
			IsLearner: r.IntN(3) == 0, Name: []string{"", "a&b", "ä"}[r.IntN(3)],
		})
	}
	for id := range randomIDs(r, r.IntN(200)) {
		m.removed = append(m.removed, kv.MemberID(id))
	}
	for i := range r.IntN(100) {
		m.users = append(m.users, account(&authpb.User{Name: fmt.Appendf(nil, "user%d", i), Password: randomBytes(r, 60)}))
		m.roles = append(m.roles, account(&authpb.Role{Name: fmt.Appendf(nil, "role%d", i), KeyPermission: []*authpb.Permission{
			{PermType: authpb.READWRITE, Key: randomBytes(r, 1+r.IntN(30))},
		}}))
	}
	return m
}

func randomMeta(r *rand.Rand) Meta {
	m := Meta{
		Applied: kv.Index(r.Uint64()), Term: kv.Term(1 + r.Uint64N(100)), StorageVersion: "3.7.0",
		ScheduledCompact: NeverCompacted, FinishedCompact: NeverCompacted, ClusterVersion: "3.7.0",
		AuthEnabled: r.IntN(2) == 0, AuthRevision: r.Uint64(),
	}
	if r.IntN(2) == 0 {
		m.FinishedCompact = kv.Revision(r.Int64N(100))
		m.ScheduledCompact = m.FinishedCompact + kv.Revision(r.Int64N(2))
	}
	if r.IntN(4) > 0 {
		m.ConfState = &ConfState{Voters: []uint64{1, r.Uint64()}, AutoLeave: r.IntN(2) == 0}
	}
	if r.IntN(4) == 0 {
		m.Downgrade = &Downgrade{TargetVersion: "3.6.0", Enabled: true}
	}
	return m
}

// randomRows draws a history of puts, overwrites and deletes, several per revision now and then, some of them large.
func randomRows(r *rand.Rand, n int) []Row {
	type version struct{ create, version int64 }
	living := map[string]version{}
	var rows []Row
	rev := kv.Rev{Main: 2}
	changed := map[string]kv.Revision{}
	for range n {
		key := fmt.Sprintf("key%d", r.IntN(n/3+1))
		if changed[key] == rev.Main { // etcd changes a key at most once per revision
			rev = kv.Rev{Main: rev.Main + 1}
		}
		changed[key] = rev.Main
		v, lives := living[key]
		if lives && r.IntN(4) == 0 {
			delete(living, key)
			rows = append(rows, Row{Rev: rev, Tombstone: true, Encoded: (&kv.KeyValue{Key: []byte(key)}).Append(nil)})
		} else {
			if !lives {
				v.create = int64(rev.Main)
			}
			v.version++
			living[key] = v
			rows = append(rows, Row{Rev: rev, Encoded: (&kv.KeyValue{
				Key: []byte(key), Value: randomBytes(r, randomSize(r)), Create: kv.Revision(v.create), Mod: rev.Main,
				Version: v.version, Lease: kv.LeaseID(r.Int64N(3)),
			}).Append(nil)})
		}
		if r.IntN(5) == 0 {
			rev.Sub++
		} else {
			rev = kv.Rev{Main: rev.Main + 1 + kv.Revision(r.Int64N(3))}
		}
	}
	return rows
}

// randomSize draws mostly small sizes, some around a page and some of many pages.
func randomSize(r *rand.Rand) int {
	switch r.IntN(40) {
	case 0:
		return r.IntN(40000)
	case 1, 2:
		return pageSize - 100 + r.IntN(200)
	default:
		return r.IntN(120)
	}
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, 0, n+8)
	for len(b) < n {
		b = binary.LittleEndian.AppendUint64(b, r.Uint64())
	}
	return b[:n]
}

func randomIDs(r *rand.Rand, n int) iter.Seq[uint64] {
	ids := map[uint64]bool{math.MaxUint64: true}
	for len(ids) < n {
		ids[r.Uint64()&^1|2] = true
	}
	return maps.Keys(ids)
}

func account(m accountMessage) Account {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return Account{Name: string(m.GetName()), Encoded: b}
}

// openMem writes src into a file in memory and opens it.
func openMem(t *testing.T, src Source) (*Database, vfs.FS) {
	t.Helper()
	disk := vfs.NewMem()
	if _, err := Write(disk, "db", src); err != nil {
		t.Fatal(err)
	}
	d, err := Open(disk, "db")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d, disk
}

var errBoom = errors.New("boom")
