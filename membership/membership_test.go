package membership

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"holdfast/kv"
	"holdfast/storage"
	"holdfast/storage/storagetest"
)

// roll is a cluster over a store in memory. Every change is a batch of its own.
type roll struct {
	t     *testing.T
	store *storage.Store
	*Cluster
}

func openRoll(t *testing.T) *roll {
	r := &roll{t: t, store: storagetest.Open(t)}
	r.load()
	return r
}

func (r *roll) load() {
	r.t.Helper()
	c, err := Load(r.store, 1)
	if err != nil {
		r.t.Fatal(err)
	}
	r.Cluster = c
}

func (r *roll) do(change func(*storage.Batch)) {
	r.t.Helper()
	storagetest.Commit(r.t, r.store, change)
}

func (r *roll) apply(changes ...Change) {
	r.t.Helper()
	for _, c := range changes {
		if err := r.Check(c); err != nil {
			r.t.Fatalf("%+v: %v", c, err)
		}
		r.do(func(b *storage.Batch) { r.Apply(b, c) })
	}
}

// text writes down everything that a cluster knows.
func (r *roll) text() string {
	var out strings.Builder
	for _, m := range r.Members() {
		fmt.Fprintf(&out, "%d %v learner=%t name=%q clients=%v\n", uint64(m.ID), m.PeerURLs, m.IsLearner, m.Name, m.ClientURLs)
	}
	if d, ever := r.Downgrade(); ever {
		fmt.Fprintf(&out, "downgrade to %q: %t\n", d.TargetVersion, d.Enabled)
	}
	fmt.Fprintf(&out, "removed %d version %q alarms %v voters %d\n", r.RemovedMembers(), r.Version(), r.Alarms(AlarmNone), r.Voters())
	return out.String()
}

func member(id kv.MemberID, urls ...string) Member { return Member{ID: id, PeerURLs: urls} }

// TestIDsAreEtcds compares derived ids with those that etcd 3.7 gave to members started with the same flags: everything
// that stores or shows them must find the same numbers.
func TestIDsAreEtcds(t *testing.T) {
	id := MemberID([]string{"http://localhost:2380"}, "etcd-cluster", 0)
	if id != 0x8e9e05c52164694d {
		t.Errorf("the default member is %x", uint64(id))
	}
	if cluster := ClusterID([]kv.MemberID{id}); cluster != 0xcdf818194e3a8c32 {
		t.Errorf("the default cluster is %x", cluster)
	}
	// The three members of etcd's documentation on local clusters.
	var ids []kv.MemberID
	for port, want := range map[int]kv.MemberID{12380: 0x8211f1d0f64f3269, 22380: 0x91bc3c398fb3c146, 32380: 0xfd422379fda50e48} {
		id := MemberID([]string{fmt.Sprint("http://127.0.0.1:", port)}, "etcd-cluster-1", 0)
		if id != want {
			t.Errorf("the member at port %d is %x, want %x", port, uint64(id), uint64(want))
		}
		ids = append(ids, id)
	}
	if got := ClusterID(ids); got != 0xef37ad9dc622a7c4 {
		t.Errorf("the cluster of three is %x", got)
	}
}

// TestIDsDependOnWhatTheyShould: not on the order of URLs and members, but on each URL, the token and the time of adding.
func TestIDsDependOnWhatTheyShould(t *testing.T) {
	urls := []string{"http://b:1", "http://a:1"}
	id := MemberID(urls, "token", 0)
	if again := MemberID([]string{"http://a:1", "http://b:1"}, "token", 0); again != id {
		t.Errorf("another order of URLs made %v of %v", again, id)
	}
	if urls[0] != "http://b:1" {
		t.Error("the caller's URLs were sorted")
	}
	seen := map[kv.MemberID]bool{id: true}
	for _, other := range []kv.MemberID{
		MemberID(urls[:1], "token", 0), MemberID(urls, "other", 0), MemberID(urls, "", 0), MemberID(urls, "", 1), MemberID(urls, "", 2),
	} {
		if seen[other] {
			t.Errorf("%v came twice", other)
		}
		seen[other] = true
	}
	if ClusterID([]kv.MemberID{1, 2}) != ClusterID([]kv.MemberID{2, 1}) || ClusterID([]kv.MemberID{1}) == ClusterID([]kv.MemberID{2}) {
		t.Error("a cluster's id follows from its set of members")
	}
}

// TestCheck is the table of changes that are refused: members 1 and 2 vote, 3 learns, 4 was removed.
func TestCheck(t *testing.T) {
	r := openRoll(t)
	r.apply(
		Change{AddVoter, member(1, "http://a:1", "http://a:2")},
		Change{AddVoter, member(2, "http://b:1")},
		Change{AddLearner, member(3, "http://c:1")},
		Change{AddVoter, member(4, "http://d:1")},
		Change{Remove, member(4)},
	)
	for _, c := range []struct {
		name   string
		change Change
		want   error
	}{
		{"add", Change{AddVoter, member(5, "http://e:1")}, nil},
		{"add at the address of a removed member", Change{AddVoter, member(5, "http://d:1")}, nil},
		{"add a present id", Change{AddVoter, member(1, "http://e:1")}, ErrExists},
		{"add a removed id", Change{AddVoter, member(4, "http://e:1")}, ErrRemoved},
		{"add a taken address", Change{AddVoter, member(5, "http://e:1", "http://a:2")}, ErrPeerURLExists},
		{"add a second learner", Change{AddLearner, member(5, "http://e:1")}, ErrTooManyLearners},
		{"add a second learner at a taken address", Change{AddLearner, member(5, "http://c:1")}, ErrPeerURLExists},
		{"add a present id as learner", Change{AddLearner, member(3, "http://c:1")}, ErrExists},
		{"promote the learner", Change{Promote, member(3)}, nil},
		{"promote a voter", Change{Promote, member(1)}, ErrNotLearner},
		{"promote nobody", Change{Promote, member(9)}, ErrNotFound},
		{"promote a removed member", Change{Promote, member(4)}, ErrRemoved},
		{"remove a voter", Change{Remove, member(1)}, nil},
		{"remove the learner", Change{Remove, member(3)}, nil},
		{"remove nobody", Change{Remove, member(9)}, ErrNotFound},
		{"remove twice", Change{Remove, member(4)}, ErrRemoved},
		{"update", Change{Update, member(1, "http://z:1")}, nil},
		{"update to what it has", Change{Update, member(1, "http://a:2")}, nil},
		{"update to another's address", Change{Update, member(1, "http://b:1")}, ErrPeerURLExists},
		{"update nobody", Change{Update, member(9, "http://z:1")}, ErrNotFound},
		{"update a removed member", Change{Update, member(4, "http://z:1")}, ErrRemoved},
	} {
		before := r.text()
		if err := r.Check(c.change); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if r.text() != before {
			t.Errorf("%s: asking changed the cluster", c.name)
		}
	}
}

// TestLastVoter: whoever votes alone is not removed, whatever learners there are. raft could not go on.
func TestLastVoter(t *testing.T) {
	r := openRoll(t)
	r.apply(Change{AddVoter, member(1, "http://a:1")}, Change{AddLearner, member(2, "http://b:1")})
	if err := r.Check(Change{Remove, member(1)}); !errors.Is(err, ErrLastVoter) {
		t.Errorf("the only voter: %v", err)
	}
	r.apply(Change{Promote, member(2)}, Change{Remove, member(1)})
	if err := r.Check(Change{Remove, member(2)}); !errors.Is(err, ErrLastVoter) {
		t.Errorf("the one that is left: %v", err)
	}
}

// TestWhatIsLoadedIsWhatWasKept makes every kind of change and compares the cluster in memory with one that is read back.
func TestWhatIsLoadedIsWhatWasKept(t *testing.T) {
	r := openRoll(t)
	for _, step := range []struct {
		name   string
		change func(*storage.Batch)
		want   string
	}{
		{"add", func(b *storage.Batch) {
			r.Apply(b, Change{AddVoter, member(1<<63+1, "http://a:1")})
			r.Apply(b, Change{AddLearner, member(2, "http://b:1")})
		}, "2 [http://b:1] learner=true name=\"\" clients=[]\n9223372036854775809 [http://a:1] learner=false name=\"\" clients=[]\n" +
			"removed [] version \"\" alarms [] voters 1\n"},
		{"promote, update, attributes", func(b *storage.Batch) {
			r.Apply(b, Change{Promote, member(2)})
			r.Apply(b, Change{Update, member(2, "http://b:2", "http://b:3")})
			r.SetAttributes(b, 2, "two", []string{"http://b:4"})
			r.SetAttributes(b, 99, "nobody", nil)
			r.SetVersion(b, "3.7.0")
		}, "2 [http://b:2 http://b:3] learner=false name=\"two\" clients=[http://b:4]\n9223372036854775809 [http://a:1] learner=false name=\"\" clients=[]\n" +
			"removed [] version \"3.7.0\" alarms [] voters 2\n"},
		{"alarms", func(b *storage.Batch) {
			for _, a := range []Alarm{{9, AlarmCorrupt}, {7, AlarmNoSpace}, {1 << 63, AlarmNoSpace}, {7, AlarmNoSpace}, {8, AlarmNoSpace}} {
				r.Raise(b, a)
			}
		}, "2 [http://b:2 http://b:3] learner=false name=\"two\" clients=[http://b:4]\n9223372036854775809 [http://a:1] learner=false name=\"\" clients=[]\n" +
			"removed [] version \"3.7.0\" alarms [{7 NOSPACE} {8 NOSPACE} {8000000000000000 NOSPACE} {9 CORRUPT}] voters 2\n"},
		{"downgrade", func(b *storage.Batch) {
			r.SetDowngrade(b, Downgrade{TargetVersion: "3.6.0", Enabled: true})
		}, "2 [http://b:2 http://b:3] learner=false name=\"two\" clients=[http://b:4]\n9223372036854775809 [http://a:1] learner=false name=\"\" clients=[]\n" +
			"downgrade to \"3.6.0\": true\n" +
			"removed [] version \"3.7.0\" alarms [{7 NOSPACE} {8 NOSPACE} {8000000000000000 NOSPACE} {9 CORRUPT}] voters 2\n"},
		{"remove, disarm, downgrade cancelled", func(b *storage.Batch) {
			r.Apply(b, Change{Remove, member(2)})
			r.SetDowngrade(b, Downgrade{})
			if !r.Disarm(b, Alarm{8, AlarmNoSpace}) || r.Disarm(b, Alarm{8, AlarmNoSpace}) || r.Disarm(b, Alarm{9, AlarmNoSpace}) {
				t.Error("an alarm can be taken back once, by member and type")
			}
		}, "9223372036854775809 [http://a:1] learner=false name=\"\" clients=[]\n" +
			"downgrade to \"\": false\nremoved [2] version \"3.7.0\" alarms [{7 NOSPACE} {8000000000000000 NOSPACE} {9 CORRUPT}] voters 1\n"},
	} {
		r.do(step.change)
		if got := r.text(); got != step.want {
			t.Fatalf("after %s:\n%swant\n%s", step.name, got, step.want)
		}
		r.load()
		if got := r.text(); got != step.want {
			t.Fatalf("after %s was read back:\n%swant\n%s", step.name, got, step.want)
		}
	}
	if got := r.Alarms(AlarmCorrupt); !slices.Equal(got, []Alarm{{9, AlarmCorrupt}}) || !r.HasAlarm(AlarmCorrupt) {
		t.Errorf("alarms of one type: %v", got)
	}
	if !r.Removed(2) || r.Removed(1) || r.IsLearner(2) {
		t.Error("member 2, and it alone, was removed")
	}
	if _, found := r.Member(2); found {
		t.Error("a removed member is still found")
	}
}

// TestAnswersAreCopies changes what was answered: the cluster must not notice, nor what it took in change with the
// caller's slices.
func TestAnswersAreCopies(t *testing.T) {
	r := openRoll(t)
	given := member(1, "http://a:1")
	r.apply(Change{AddVoter, given})
	given.PeerURLs[0] = "changed"
	r.Members()[0].PeerURLs[0] = "changed"
	one, _ := r.Member(1)
	one.PeerURLs[0] = "changed"
	if got, _ := r.Member(1); !reflect.DeepEqual(got.PeerURLs, []string{"http://a:1"}) {
		t.Errorf("the member's URLs became %v", got.PeerURLs)
	}
	r.do(func(b *storage.Batch) { r.Raise(b, Alarm{1, AlarmNoSpace}) })
	held := r.Alarms(AlarmNone)
	r.do(func(b *storage.Batch) { r.Disarm(b, Alarm{1, AlarmNoSpace}) })
	r.do(func(b *storage.Batch) { r.Raise(b, Alarm{2, AlarmCorrupt}) })
	if !slices.Equal(held, []Alarm{{1, AlarmNoSpace}}) {
		t.Errorf("an answer given before changed to %v", held)
	}
}

// TestMemberHasEtcdsJSON: the form stands in the log and in database files, where etcd reads it.
func TestMemberHasEtcdsJSON(t *testing.T) {
	for _, c := range []struct {
		member Member
		want   string
	}{
		{Member{ID: 0x8e9e05c52164694d, PeerURLs: []string{"http://localhost:2380"}, Name: "default", ClientURLs: []string{"http://localhost:2379"}},
			`{"id":10276657743932975437,"peerURLs":["http://localhost:2380"],"name":"default","clientURLs":["http://localhost:2379"]}`},
		{Member{ID: 1, PeerURLs: []string{"http://a:1"}, IsLearner: true}, `{"id":1,"peerURLs":["http://a:1"],"isLearner":true}`},
		{Member{ID: 1}, `{"id":1,"peerURLs":null}`},
	} {
		got, err := json.Marshal(c.member)
		if err != nil || string(got) != c.want {
			t.Errorf("%s, %v\nwant %s", got, err, c.want)
		}
		var back Member
		if err := json.Unmarshal([]byte(c.want), &back); err != nil || !reflect.DeepEqual(back, c.member) {
			t.Errorf("%s is read as %+v, %v", c.want, back, err)
		}
	}
}

// TestLoadRefusesWhatNoClusterWrote puts broken rows into the tables.
func TestLoadRefusesWhatNoClusterWrote(t *testing.T) {
	for _, c := range []struct {
		table       storage.Table
		body, value string
	}{
		{storage.TableMember, "12345678", "{"},
		{storage.TableMemberRemoved, "1234567", ""},
		{storage.TableAlarm, "12345678901", ""},
	} {
		r := openRoll(t)
		r.do(func(b *storage.Batch) { b.Set(c.table.Key([]byte(c.body)), []byte(c.value)) })
		if _, err := Load(r.store, 1); err == nil || !strings.HasPrefix(err.Error(), "load membership: ") {
			t.Errorf("a row %q of table %s is loaded: %v", c.body, c.table, err)
		}
	}
}
