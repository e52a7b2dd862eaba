package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/kv"
	"holdfast/membership"
	"holdfast/test/etcd"
)

// fakePeer answers GET /members as the members of a cluster do, with the next of its answers each time, and stays with the
// last. It tells its version as an etcd does.
type fakePeer struct {
	url     string
	asked   atomic.Int64
	answers []func(w http.ResponseWriter)
}

func newFakePeer(t *testing.T, answers ...func(http.ResponseWriter)) *fakePeer {
	p := &fakePeer{answers: answers}
	p.url, _ = peerServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/members":
			n := int(p.asked.Add(1))
			p.answers[min(n, len(p.answers))-1](w)
		case "/version":
			fmt.Fprint(w, `{"etcdserver":"3.7.3","etcdcluster":"3.7.0","storage":"3.7.0"}`)
		case "/downgrade/enabled":
			fmt.Fprint(w, "false")
		}
	})
	return p
}

// sees is the answer of a member of a cluster.
func sees(id uint64, members ...membership.Member) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.Header().Set("X-Etcd-Cluster-ID", fmt.Sprintf("%x", id))
		if err := json.NewEncoder(w).Encode(members); err != nil {
			panic(err)
		}
	}
}

// starting is the answer of a member that has not opened its data.
func starting(what string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.Header().Set(StartingHeader, what)
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

func foreign(w http.ResponseWriter) { fmt.Fprint(w, "<html>It works!</html>") }

func founderNamed(name, url string) membership.Member {
	return membership.Member{ID: membership.MemberID([]string{url}, "token", 0), Name: name, PeerURLs: []string{url}}
}

// newcomer is a member c without data, whose settings name peers a, b, ... besides.
func newcomer(urls ...string) *Bootstrap {
	b := &Bootstrap{
		Self: founderNamed("c", "http://127.0.0.1:1"), LearnersMax: 1, Log: slog.New(slog.DiscardHandler),
		SameURLs: func(context.Context, []string, []string) error { return errors.New("names are not looked up") },
		limits:   askLimits{refused: 50 * time.Millisecond, silent: 300 * time.Millisecond, behind: 300 * time.Millisecond},
	}
	for i, u := range urls {
		b.Others = append(b.Others, founderNamed(string(rune('a'+i)), u))
	}
	return b
}

// with adds what a member publishes once it runs.
func with(m membership.Member, clientURL string) membership.Member {
	m.ClientURLs = []string{clientURL}
	return m
}

// TestMayFound asks peers in every state they can be in. B14: whoever is remembered by one member that can be reached founds
// nothing, whatever the others say, and hears what to do.
func TestMayFound(t *testing.T) {
	const ours = "ours" // stands for the id of the cluster to be founded
	self := newcomer().Self
	renamed := membership.Member{ID: 77, PeerURLs: self.PeerURLs}
	stranger := with(founderNamed("x", "http://127.0.0.1:9"), "http://x:2379")
	for name, c := range map[string]struct {
		// what a says, given itself and the id of the cluster to be founded; b is not there
		a func(a membership.Member, founded uint64) []func(http.ResponseWriter)
		// wants are parts of the refusal; none: it may found
		wants []string
	}{
		"new to a founded cluster": {func(a membership.Member, founded uint64) []func(http.ResponseWriter) {
			return []func(http.ResponseWriter){sees(founded, with(a, "http://a:2379"), self)}
		}, nil},
		"a joined a cluster and knows nothing of it": {func(membership.Member, uint64) []func(http.ResponseWriter) {
			return []func(http.ResponseWriter){sees(5)}
		}, nil},
		"a is new as well": {func(membership.Member, uint64) []func(http.ResponseWriter) {
			return []func(http.ResponseWriter){starting(StartingNew)}
		}, nil},
		"a is behind in its own founding": {func(a membership.Member, founded uint64) []func(http.ResponseWriter) {
			return []func(http.ResponseWriter){sees(founded, a), sees(founded, a), sees(founded, a, self)}
		}, nil},
		"a is something else": {func(membership.Member, uint64) []func(http.ResponseWriter) {
			return []func(http.ResponseWriter){foreign}
		}, nil},
		"remembered": {func(a membership.Member, founded uint64) []func(http.ResponseWriter) {
			return []func(http.ResponseWriter){sees(founded, with(a, "http://a:2379"), with(self, "http://c:2379"))}
		}, []string{
			"member " + self.ID.String() + " has already been bootstrapped",
			"etcdctl --endpoints=http://a:2379 member remove " + self.ID.String() + ";",
			"etcdctl --endpoints=http://a:2379 member add c --peer-urls=http://127.0.0.1:1;", "--initial-cluster-state=existing",
		}},
		"remembered by one that opens its data": {func(a membership.Member, founded uint64) []func(http.ResponseWriter) {
			return append(slices.Repeat([]func(http.ResponseWriter){starting(StartingData)}, 9), sees(founded, a, with(self, "http://c:2379")))
		}, []string{"has already been bootstrapped"}},
		"remembered under a later id": {func(a membership.Member, _ uint64) []func(http.ResponseWriter) {
			return []func(http.ResponseWriter){sees(5, with(a, "http://a:2379"), with(renamed, "http://c:2379"))}
		}, []string{"member 4d has already been bootstrapped: cluster 5", "member remove 4d;"}},
		"added under a later id": {func(a membership.Member, _ uint64) []func(http.ResponseWriter) {
			return []func(http.ResponseWriter){sees(5, with(a, "http://a:2379"), renamed)}
		}, []string{"has added this member as 4d", "--initial-cluster-state=existing and --initial-cluster=a=http", "c=http://127.0.0.1:1"}},
		"removed": {func(a membership.Member, founded uint64) []func(http.ResponseWriter) {
			return []func(http.ResponseWriter){sees(founded, with(a, "http://a:2379"))}
		}, []string{"member " + self.ID.String() + " was removed from cluster " + ours, "member add c"}},
		"another cluster": {func(a membership.Member, _ uint64) []func(http.ResponseWriter) {
			return []func(http.ResponseWriter){sees(5, with(a, "http://a:2379"), stranger)}
		}, []string{"belongs to cluster 5 already, which is not the one", ours, "etcdctl --endpoints=http://a:2379,http://x:2379 member add c"}},
		"another cluster of founders with the same id": {func(a membership.Member, _ uint64) []func(http.ResponseWriter) {
			return []func(http.ResponseWriter){sees(5, a, self)}
		}, []string{"belongs to cluster 5 already"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newFakePeer(t, foreign)
			b := newcomer(a.url, etcd.FreeURL(t))
			founded := membership.ClusterID(b.ids())
			a.answers = c.a(b.Others[0], founded)
			err := b.MayFound(t.Context())
			if len(c.wants) == 0 && err != nil {
				t.Fatalf("refused: %v", err)
			}
			for _, want := range c.wants {
				want = strings.ReplaceAll(want, ours, fmt.Sprintf("%x", founded))
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v\ndoes not say %q", err, want)
				}
			}
		})
	}
}

// TestMayFoundWaitsForNobody: the patience with those who are not there, or are silent, ends; a context ends it at once.
func TestMayFoundWaitsForNobody(t *testing.T) {
	silent, _ := peerServer(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	b := newcomer(etcd.FreeURL(t), silent, "http://nobody.invalid:2380")
	if err := b.MayFound(t.Context()); err != nil {
		t.Errorf("beside nobody: %v", err)
	}
	opening := newFakePeer(t, starting(StartingData))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() { // it goes on to ask one that opens its data, until it is ended
		for opening.asked.Load() < 5 && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	if err := newcomer(opening.url).MayFound(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("beside one that opens its data: %v", err)
	}
}

// TestJoin finds the member's place by peer URLs, as etcd does, and refuses with etcd's sentences and what to do.
func TestJoin(t *testing.T) {
	self := newcomer().Self
	as := func(id kv.MemberID, m membership.Member) membership.Member {
		m.ID = id
		return m
	}
	learner := func(m membership.Member) membership.Member {
		m.IsLearner = true
		return m
	}
	added := membership.Member{ID: 77, PeerURLs: self.PeerURLs}
	for name, c := range map[string]struct {
		a     func(a, b membership.Member) []func(http.ResponseWriter)
		wants []string
	}{
		"added": {func(a, b membership.Member) []func(http.ResponseWriter) {
			return []func(http.ResponseWriter){sees(5, with(as(1, a), "http://a:2379"), as(2, b), added)}
		}, nil},
		"added, which a hears late": {func(a, b membership.Member) []func(http.ResponseWriter) {
			return []func(http.ResponseWriter){starting(StartingData), sees(5, a, b), sees(5, a, b), sees(5, a, b, added)}
		}, nil},
		"not added": {func(a, b membership.Member) []func(http.ResponseWriter) {
			return []func(http.ResponseWriter){sees(5, with(as(1, a), "http://a:2379"), as(2, b))}
		}, []string{
			"error validating peerURLs {ClusterID:5 Members:[&{ID:1 RaftAttributes:{PeerURLs:[http://127.0.0.1:", "IsLearner:false} Attributes:{Name:a ClientURLs:[http://a:2379]}} &{ID:2",
			"] RemovedMemberIDs:[]}: member count is unequal: etcdctl --endpoints=http://a:2379 member add c --peer-urls=http://127.0.0.1:1; then",
		}},
		"added, but the settings lack another": {func(a, b membership.Member) []func(http.ResponseWriter) {
			return []func(http.ResponseWriter){sees(5, as(1, a), as(2, b), added, with(founderNamed("x", "http://127.0.0.1:9"), "http://x:2379"))}
		}, []string{"member count is unequal: start with --initial-cluster=a=http://127.0.0.1:", "c=http://127.0.0.1:1,x=http://127.0.0.1:9"}},
		"under other URLs": {func(a, b membership.Member) []func(http.ResponseWriter) {
			return []func(http.ResponseWriter){sees(5, as(1, a), as(2, b), membership.Member{ID: 77, PeerURLs: []string{"http://127.0.0.1:3"}})}
		}, []string{"PeerURLs: no match found for existing member (4d, [http://127.0.0.1:3]), last resolver error (names are not looked up)"}},
		"remembered at work": {func(a, b membership.Member) []func(http.ResponseWriter) {
			return []func(http.ResponseWriter){sees(5, with(as(1, a), "http://a:2379"), as(2, b), with(added, "http://c:2379"))}
		}, []string{"member 4d has already been bootstrapped", "etcdctl --endpoints=http://a:2379 member remove 4d"}},
		"too many learners": {func(a, b membership.Member) []func(http.ResponseWriter) {
			return []func(http.ResponseWriter){sees(5, as(1, a), learner(as(2, b)), learner(added))}
		}, []string{"too many learner members in cluster", "--max-learners allows 1"}},
		"nobody answers": {func(membership.Member, membership.Member) []func(http.ResponseWriter) {
			return []func(http.ResponseWriter){foreign}
		}, []string{"cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newFakePeer(t, foreign)
			b := newcomer(a.url, etcd.FreeURL(t))
			a.answers = c.a(b.Others[0], b.Others[1])
			joined, err := b.Join(t.Context())
			if len(c.wants) == 0 && (err != nil || joined.ClusterID != 5 || joined.ID != 77 || len(joined.Peers) != 3) {
				t.Fatalf("placed as %+v: %v", joined, err)
			}
			for _, want := range c.wants {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v\ndoes not say %q", err, want)
				}
			}
		})
	}
}

// TestJoinByName: members are found by what their names resolve to where the URLs differ as text, and a name that never
// resolves costs only its own member (C7).
func TestJoinByName(t *testing.T) {
	b := newcomer("http://dead.example:2380", "http://b.example:2380")
	existing := []membership.Member{
		{ID: 1, PeerURLs: []string{"http://dead.example:2380"}},
		{ID: 2, PeerURLs: []string{"http://10.0.0.2:2380"}},
		{ID: 3, PeerURLs: []string{"http://c.example:2380"}},
	}
	b.SameURLs = func(ctx context.Context, x, y []string) error {
		address := map[string]string{
			"http://b.example:2380": "10.0.0.2", "http://10.0.0.2:2380": "10.0.0.2",
			"http://c.example:2380": "10.0.0.3", "http://127.0.0.1:1": "10.0.0.3",
		}
		for _, u := range []string{x[0], y[0]} {
			if address[u] == "" {
				<-ctx.Done()
				return ctx.Err()
			}
		}
		if address[x[0]] != address[y[0]] {
			return errors.New("they differ")
		}
		return nil
	}
	id, err := b.place(t.Context(), view{clusterID: 5, members: existing})
	if err != nil || id != 3 {
		t.Errorf("placed as %v: %v", id, err)
	}
	b.Others[0].PeerURLs = []string{"http://alive.example:2380"} // the dead name is needed now
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := b.place(ctx, view{clusterID: 5, members: existing}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("placed beside a member that is not known: %v", err)
	}
}

// TestVersionsThatFit: a member joins a cluster that runs at a version it speaks.
func TestVersionsThatFit(t *testing.T) {
	for name, c := range map[string]struct {
		versions  []string // of the cluster, as the members tell it
		downgrade string
		ok        bool
	}{
		"the same":            {[]string{"3.7.0"}, "false", true},
		"older":               {[]string{"3.5.0", "3.5.0"}, "false", true},
		"too new":             {[]string{"3.7.0", "3.8.0"}, "false", false},
		"too old":             {[]string{"2.3.0"}, "false", false},
		"not decided by one":  {[]string{"not_decided", "3.7.0"}, "false", true},
		"on the way down":     {[]string{"3.8.0"}, "true", true},
		"past this one":       {[]string{"3.7.0"}, "true", false},
		"not decided by any":  {[]string{"not_decided"}, "false", false},
		"nobody says a thing": {nil, "false", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := &Joined{ID: 77, Peers: []membership.Member{{ID: 77, PeerURLs: []string{"http://127.0.0.1:1"}}}}
			for i, v := range c.versions {
				url, _ := peerServer(t, func(w http.ResponseWriter, r *http.Request) {
					switch r.URL.Path {
					case "/version":
						fmt.Fprintf(w, `{"etcdserver":"3.7.3","etcdcluster":%q}`, v)
					case "/downgrade/enabled":
						fmt.Fprint(w, c.downgrade)
					}
				})
				j.Peers = append(j.Peers, membership.Member{ID: kv.MemberID(i + 1), PeerURLs: []string{url}})
			}
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			if err := newcomer().checkVersions(ctx, j); (err == nil) != c.ok {
				t.Error(err)
			}
		})
	}
}
