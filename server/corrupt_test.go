package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"holdfast/apply"
	"holdfast/kv"
	"holdfast/membership"
	"holdfast/mvcc"
)

// lies are what members with these names add to the hashes they tell others. A bubble at a time has some.
var lies atomic.Pointer[map[string]uint32]

func lie(t *testing.T, about map[string]uint32) {
	lies.Store(&about)
	t.Cleanup(func() { lies.Store(nil) })
}

// hashHandler stands for package api on the peer URLs, with a member that tells the truth or not.
func hashHandler(s *Server) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q pb.HashKVRequest
		body, _ := io.ReadAll(r.Body)
		_ = json.Unmarshal(body, &q)
		h, err := s.HashKV(r.Context(), kv.Revision(q.Revision))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if about := lies.Load(); about != nil {
			h.Sum += (*about)[s.cfg.Name]
		}
		_ = json.NewEncoder(w).Encode(&pb.HashKVResponse{
			Header: &pb.ResponseHeader{Revision: int64(s.Header().Revision)},
			Hash:   h.Sum, CompactRevision: int64(h.Compact), HashRevision: int64(h.Revision),
		})
	})
}

// TestFindings is the table of what the periodic check holds against whom.
func TestFindings(t *testing.T) {
	leader := mvcc.Hash{Sum: 7, Revision: 10, Compact: 5}
	for name, c := range map[string]struct {
		after mvcc.Hash
		peer  peerHash
		want  string
	}{
		"all equal":                         {leader, peerHash{hash: leader, revision: 10}, ""},
		"the leader went on":                {mvcc.Hash{Sum: 8, Revision: 11, Compact: 5}, peerHash{hash: leader, revision: 11}, ""},
		"the leader compacted":              {mvcc.Hash{Sum: 8, Revision: 10, Compact: 6}, peerHash{hash: leader, revision: 10}, ""},
		"the peer compacted with it":        {mvcc.Hash{Sum: 8, Revision: 10, Compact: 6}, peerHash{hash: mvcc.Hash{Sum: 8, Compact: 6}, revision: 10}, ""},
		"the peer has yet to compact":       {leader, peerHash{hash: mvcc.Hash{Sum: 9, Compact: 4}, revision: 10}, ""},
		"the peer did not answer":           {leader, peerHash{err: errors.New("down")}, ""},
		"the leader contradicts itself":     {mvcc.Hash{Sum: 8, Revision: 10, Compact: 5}, peerHash{hash: leader, revision: 10}, "1 found hash mismatch"},
		"the peer differs":                  {leader, peerHash{hash: mvcc.Hash{Sum: 8, Compact: 5}, revision: 10}, "2 same compact revision then hashes must match"},
		"the peer is ahead":                 {leader, peerHash{hash: leader, revision: 12}, "2 revision from follower must be less than or equal to leader's"},
		"the peer has compacted by itself":  {leader, peerHash{hash: mvcc.Hash{Sum: 8, Compact: 6}, revision: 10}, "2 compact revision from follower must be less than or equal to leader's"},
		"both contradict, the leader first": {mvcc.Hash{Sum: 8, Revision: 10, Compact: 5}, peerHash{hash: leader, revision: 12}, "1 found hash mismatch; 2 revision from follower must be less than or equal to leader's"},
	} {
		t.Run(name, func(t *testing.T) {
			c.peer.id = 2
			var got []string
			for _, f := range findings(1, leader, c.after, max(c.after.Revision, 10), []peerHash{c.peer}) {
				got = append(got, fmt.Sprintf("%d %s", uint64(f.member), f.text))
			}
			if strings.Join(got, "; ") != c.want {
				t.Errorf("found %q, want %q", got, c.want)
			}
		})
	}
}

// TestChecksLookAtToday: a compaction at 0 has every HashKV at 0 answered with what was remembered then, and one at the present
// revision that of now. The checks ask for neither: who has started since computes, and would seem corrupt.
func TestChecksLookAtToday(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, _ := memoryConfig()
		m := start(t, cfg)
		compact := func(rev kv.Revision) {
			t.Helper()
			if _, err := m.Compact(t.Context(), kv.CompactRequest{Revision: rev, Physical: true}); err != nil {
				t.Fatal(err)
			}
		}
		m.put("a", "1")
		compact(0)
		m.put("b", "2")
		for _, rev := range []kv.Revision{0, m.Header().Revision} {
			if rev > 0 {
				compact(rev)
			}
			remembered, err := m.HashKV(t.Context(), rev)
			if err != nil || remembered.Revision == m.Header().Revision && remembered.Compact == m.keys.Compacted() {
				t.Fatalf("at %d: %+v, %v; nothing is shown", rev, remembered, err)
			}
			today, err := m.keys.HashCurrent(t.Context())
			if err != nil || today.Revision != m.Header().Revision || today.Compact != m.keys.Compacted() {
				t.Errorf("today: %+v, %v; remembered %+v", today, err, remembered)
			}
		}
	})
}

// TestCompareCompaction is the table of whom the members' memory of a compaction speaks against. Member 1 leads with the sum
// a; b and c are others, - compacted differently before, ! did not answer.
func TestCompareCompaction(t *testing.T) {
	for _, c := range []struct {
		peers    string // 2, 3, ...
		complete bool
		suspects []kv.MemberID
	}{
		{"aa", true, nil},
		{"a-", false, nil},
		{"a!", false, nil},
		{"--", false, nil},
		{"ab", true, []kv.MemberID{3}},
		{"bb", true, []kv.MemberID{1}},
		{"bc", true, []kv.MemberID{0}},
		{"b", true, []kv.MemberID{0}},
		{"b!", false, []kv.MemberID{0}},
		{"b-", false, []kv.MemberID{0}},
		{"aab", true, []kv.MemberID{4}},
		{"abb", true, []kv.MemberID{0}},
		{"aabc", true, []kv.MemberID{4, 5}},
		{"bbb!", false, []kv.MemberID{1}},
		{"ab!!", false, []kv.MemberID{0}},
	} {
		own := mvcc.Hash{Sum: 'a', Revision: 10, Compact: 5}
		var peers []peerHash
		for i, what := range c.peers {
			p := peerHash{id: kv.MemberID(i + 2), hash: mvcc.Hash{Sum: uint32(what), Revision: 10, Compact: 5}}
			switch what {
			case '-':
				p.hash.Compact = 4
			case '!':
				p = peerHash{id: p.id, err: errors.New("down")}
			}
			peers = append(peers, p)
		}
		v := compareCompaction(1, own, peers)
		if v.complete != c.complete || v.differ != (c.suspects != nil) || !slices.Equal(v.suspects, c.suspects) {
			t.Errorf("a%s: %+v, want suspects %v", c.peers, v, c.suspects)
		}
	}
}

// checking lets members compare themselves often.
func checking(_ int, cfg *Config) {
	cfg.Corruption = CorruptionChecks{Initial: true, Every: 2 * time.Second, Compactions: true, CompactionsEvery: 3 * time.Second}
}

// corrupt are the members for which the alarm stands.
func (m *member) corrupt() (ids []kv.MemberID) {
	for _, a := range m.cluster.Alarms(membership.AlarmCorrupt) {
		ids = append(ids, a.Member)
	}
	return ids
}

// TestEqualMembersRaiseNoAlarm writes, deletes and compacts while members compare themselves all the time, are killed, and
// start with a comparison.
func TestEqualMembersRaiseNoAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3, checking)
		for round := range 12 {
			m := c.members[round%3]
			for i := range 20 {
				m.put(fmt.Sprint("k", i%7), fmt.Sprint(round))
				time.Sleep(50 * time.Millisecond)
			}
			if round%2 == 1 {
				if _, err := m.Compact(t.Context(), kv.CompactRequest{Revision: m.Header().Revision - 5}); err != nil {
					t.Fatal(err)
				}
			}
			if round%4 == 2 {
				c.kill(round % 3)
				c.leader()
				time.Sleep(5 * time.Second)
				c.start(round % 3)
				c.awaitReady()
			}
		}
		time.Sleep(10 * time.Second)
		for _, m := range c.members {
			if ids := m.corrupt(); len(ids) != 0 {
				t.Errorf("%s knows of corrupt members: %v", m.cfg.Name, ids)
			}
		}
		c.awaitEqual()
	})
}

// TestCorruptMemberIsFound: a follower that holds something else is found by each check, the alarm stands for it everywhere,
// and nothing changes the keys any more while they can be read.
func TestCorruptMemberIsFound(t *testing.T) {
	for name, checks := range map[string]CorruptionChecks{
		"everything":  {Every: 2 * time.Second},
		"compactions": {Compactions: true, CompactionsEvery: 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := startCluster(t, 3, func(_ int, cfg *Config) { cfg.Corruption = checks })
				bad := c.members[c.follower()]
				lie(t, map[string]uint32{bad.cfg.Name: 1})
				m := c.members[0]
				m.put("k", "v")
				m.put("k", "w")
				m.grant(1, 3)
				if _, err := m.Compact(t.Context(), kv.CompactRequest{Revision: 2, Physical: true}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(5 * time.Second)
				c.eventually("the alarm stands", func() bool { return len(m.corrupt()) > 0 })
				c.awaitEqual()
				for _, m := range c.members {
					if ids := m.corrupt(); len(ids) != 1 || ids[0] != bad.ID() {
						t.Errorf("%s has the alarm for %v, want %v", m.cfg.Name, ids, bad.ID())
					}
					if _, err := m.tryPut(t.Context(), "k", "x", 0); !errors.Is(err, apply.ErrCorrupt) {
						t.Errorf("%s put: %v", m.cfg.Name, err)
					}
					if got := m.get("k"); got != "w" {
						t.Errorf("%s reads %q", m.cfg.Name, got)
					}
				}
			})
		})
	}
}

// TestCorruptLeaderIsFound: where two followers agree against the leader, what they remember of a compaction convicts it.
func TestCorruptLeaderIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3, func(_ int, cfg *Config) {
			cfg.Corruption = CorruptionChecks{Compactions: true, CompactionsEvery: 2 * time.Second}
		})
		leader := c.members[c.leader()]
		about := map[string]uint32{}
		for _, m := range c.members {
			if m != leader {
				about[m.cfg.Name] = 1
			}
		}
		lie(t, about)
		leader.put("k", "v")
		leader.put("k", "w")
		if _, err := leader.Compact(t.Context(), kv.CompactRequest{Revision: 2, Physical: true}); err != nil {
			t.Fatal(err)
		}
		c.eventually("the alarm stands", func() bool { return len(leader.corrupt()) > 0 })
		if ids := leader.corrupt(); len(ids) != 1 || ids[0] != leader.ID() {
			t.Errorf("the alarm is for %v, want %v", ids, leader.ID())
		}
	})
}

// TestMemberThatDiffersDoesNotStart: a member whose keys differ from those of the others ends with etcd's words before it
// serves; once they agree it starts.
func TestMemberThatDiffersDoesNotStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3, checking)
		m := c.members[c.follower()]
		m.put("k", "v")
		c.awaitEqual()
		at := slices.Index(c.members, m)
		c.stop(at)
		lie(t, map[string]uint32{"m0": 1, "m1": 1, "m2": 1})
		c.start(at)
		m.wantRunError = true
		id := m.ID()
		if err := m.runError(); !errors.Is(err, errInconsistent) || err.Error() != id.String()+" found data inconsistency with peers" {
			t.Errorf("started: %v", err)
		}
		select {
		case <-m.Ready():
			t.Error("it served")
		default:
		}
		c.stop(at)
		lies.Store(nil)
		c.start(at)
		c.awaitReady()
	})
}

// TestPeerClientAsksForHashes: the request is etcd's, and each of its answers is understood.
func TestPeerClientAsksForHashes(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
		err    error
	}{
		{200, `{"header":{"revision":9},"hash":77,"compact_revision":-1,"hash_revision":8}`, nil},
		{400, "mvcc: required revision has been compacted\n", mvcc.ErrCompacted},
		{400, "mvcc: required revision is a future revision\n", mvcc.ErrFutureRevision},
		{412, "cluster ID mismatch\n", errPeerCluster},
	} {
		var asked string
		base, _ := peerServer(t, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			asked = fmt.Sprint(r.Method, " ", r.URL.Path, " ", r.Header.Get("X-Etcd-Cluster-ID"), " ", string(body))
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		})
		p := testPeerClient(t, peerClientConfig{}).hashKV(t.Context(), base, 0xabc, 8)
		if want := `GET /members/hashkv abc {"revision":8}`; asked != want {
			t.Errorf("asked %q, want %q", asked, want)
		}
		if want := (mvcc.Hash{Sum: 77, Revision: 8, Compact: -1}); c.err == nil && (p.err != nil || p.hash != want || p.revision != 9) {
			t.Errorf("understood %+v", p)
		}
		if !errors.Is(p.err, c.err) {
			t.Errorf("%d %q became %v", c.status, c.body, p.err)
		}
	}
	for _, answer := range []string{"500 oops", "200 {", "404 page not found", "400 other"} {
		base, _ := peerServer(t, func(w http.ResponseWriter, _ *http.Request) {
			var status int
			text, _ := strings.CutPrefix(answer[3:], " ")
			_, _ = fmt.Sscan(answer, &status)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
		})
		if p := testPeerClient(t, peerClientConfig{}).hashKV(t.Context(), base, 0xabc, 8); p.err == nil {
			t.Errorf("%q became %+v", answer, p)
		}
	}
}
