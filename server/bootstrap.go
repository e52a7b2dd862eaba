package server

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/kv"
	"holdfast/membership"
)

// Bootstrap is what a member without data asks the others before it begins: whether the cluster that it is to found is
// there already and remembers it, or what its place is in the one it is to join.
//
// A founder that has lost its data looks like a new one. Were it to found again, it would vote a second time in elections it
// has voted in, and acknowledge nothing of what it had acknowledged; with a second one like it there would be two clusters.
type Bootstrap struct {
	// Self and Others are the members that the settings name, under the ids they have if they found the cluster.
	Self   membership.Member
	Others []membership.Member
	// LearnersMax is how many learners the cluster may have.
	LearnersMax int
	// SameURLs compares peer URLs by what their names resolve to, and says why they differ.
	SameURLs func(ctx context.Context, a, b []string) error
	// DialTimeout bounds name lookup and connect; 0: 2 s.
	DialTimeout time.Duration
	// PeerTLS is that of Config.
	PeerTLS func(host string) *tls.Config
	Log     *slog.Logger

	limits askLimits // zero: the constants
}

// askLimits are how long those are asked again who do not give the answer.
type askLimits struct{ refused, silent, behind time.Duration }

// The limits of one who founds. Members that start together find each other within the first of these; the others are
// paid once in the life of a cluster, and only if a founder is not there then.
const (
	// refusedPatience is for a machine that is there and says that nobody listens, and for a name that does not exist.
	refusedPatience = 500 * time.Millisecond
	// silentPatience lets a second attempt to connect through, which TCP makes after one second.
	silentPatience = 3 * time.Second
	// behindPatience is for a member that has not applied yet what another has: of its cluster's founding, or of a member add.
	behindPatience = 2 * time.Second
	// joinPatience is how long one who joins waits for a silent member, etcd's number.
	joinPatience = 10 * time.Second
	// askInterval stands between two questions to the same member.
	askInterval = 50 * time.Millisecond
	// resolvePatience is how long names that are needed to tell members apart may take to appear, etcd's number.
	resolvePatience = 30 * time.Second
)

// view is a cluster as one of its members sees it.
type view struct {
	url       string // of the member that was asked
	clusterID uint64
	members   []membership.Member // none: it has not heard of them yet
}

// What members answer who can say nothing of their cluster yet.
const (
	// StartingHeader is in the answer, 503, of a member that has not opened its data yet.
	StartingHeader = "X-Holdfast-Starting"
	// StartingNew and StartingData tell whether it has data to open.
	StartingNew  = "new"
	StartingData = "data"
)

var (
	errNoData  = errors.New("the member has no data yet")
	errOpening = errors.New("the member is opening its data")
)

// look asks a member for its cluster.
func (b *Bootstrap) look(ctx context.Context, peers *peerClient, urls []string) (view, error) {
	answer, err := peers.ask(ctx, urls, peerRequest{method: http.MethodGet, path: "/members"})
	if err != nil {
		return view{}, err
	}
	switch answer.header.Get(StartingHeader) {
	case StartingNew:
		return view{}, errNoData
	case StartingData:
		return view{}, errOpening
	}
	v := view{url: answer.url}
	if answer.status != http.StatusOK {
		return view{}, fmt.Errorf("GET %s/members: status %d", answer.url, answer.status)
	}
	if v.clusterID, err = strconv.ParseUint(answer.header.Get(HeaderClusterID), 16, 64); err != nil {
		return view{}, fmt.Errorf("GET %s/members: cluster id: %w", answer.url, err)
	}
	if err := json.Unmarshal(answer.body, &v.members); err != nil {
		return view{}, fmt.Errorf("GET %s/members: %w", answer.url, err)
	}
	return v, nil
}

// judge makes something of what a member has said. Again asks for another answer, in case that member is behind; an error
// ends the whole inquiry.
type judge func(view) (again bool, err error)

// inquire asks all other members at once, until each has answered or was waited for long enough, or judge ends it.
func (b *Bootstrap) inquire(ctx context.Context, p askLimits, j judge) error {
	peers := newPeerClient(peerClientConfig{DialTimeout: b.DialTimeout, TLS: b.PeerTLS})
	defer peers.close()
	g, asking := errgroup.WithContext(ctx)
	for _, m := range b.Others {
		g.Go(func() error { return b.question(asking, peers, m, p, j) })
	}
	return g.Wait()
}

// question asks one member. That it cannot be reached is no error.
func (b *Bootstrap) question(ctx context.Context, peers *peerClient, m membership.Member, p askLimits, j judge) error {
	began := time.Now()
	for said := false; ; said = true {
		v, err := b.lookWithin(ctx, peers, m.PeerURLs, p.silent)
		enough := p.silent
		switch {
		case err == nil:
			again, err := j(v)
			if err != nil || !again {
				return err
			}
			enough = p.behind
		case errors.Is(err, errNoData):
			return nil
		case errors.Is(err, errOpening):
			if !said {
				b.Log.Info("waiting for a member that opens its data", "peer-urls", m.PeerURLs)
			}
			enough = time.Duration(1<<63 - 1) // it is there, and may remember
		case nobodyThere(err):
			enough = p.refused
		}
		if time.Since(began) >= enough {
			if err != nil {
				b.Log.Warn("failed to get cluster response", "peer-urls", m.PeerURLs, "error", err)
			}
			return nil
		}
		select {
		case <-time.After(askInterval):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (b *Bootstrap) lookWithin(ctx context.Context, peers *peerClient, urls []string, limit time.Duration) (view, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return b.look(ctx, peers, urls)
}

// nobodyThere tells certainty from silence: a machine that refuses, a name that does not exist.
func nobodyThere(err error) bool {
	var dns *net.DNSError
	return errors.Is(err, syscall.ECONNREFUSED) || errors.As(err, &dns) && dns.IsNotFound
}

// MayFound asks the other founders whether this member is new to them. The error says what to do instead.
func (b *Bootstrap) MayFound(ctx context.Context) error {
	p := b.limits
	if p == (askLimits{}) {
		p = askLimits{refusedPatience, silentPatience, behindPatience}
	}
	began := time.Now()
	return b.inquire(ctx, p, func(v view) (bool, error) {
		again, err := b.mayFoundBeside(v)
		if again && time.Since(began) < p.behind {
			return true, nil
		}
		return false, err
	})
}

// mayFoundBeside compares the cluster that a member sees with the one to be founded. With again, the error counts only if
// that member says so still when it had time to apply its own founding.
func (b *Bootstrap) mayFoundBeside(v view) (again bool, err error) {
	founded := membership.ClusterID(b.ids())
	at := slices.IndexFunc(v.members, b.isSelf)
	switch {
	case len(v.members) == 0:
		return false, nil
	case at >= 0 && len(v.members[at].ClientURLs) > 0:
		return false, b.lostData(v, v.members[at])
	case at >= 0 && v.clusterID == founded && v.members[at].ID == b.Self.ID:
		return false, nil
	case at >= 0 && v.members[at].ID != b.Self.ID:
		return false, fmt.Errorf("cluster %x at %s has added this member as %v and waits for it to join: start it with --initial-cluster-state=existing and --initial-cluster=%s",
			v.clusterID, v.url, v.members[at].ID, initialCluster(v.members, v.members[at].ID, b.Self.Name))
	case v.clusterID == founded:
		return true, fmt.Errorf("member %v was removed from cluster %x, which %s belongs to, and its id can not come back: %s",
			b.Self.ID, v.clusterID, v.url, b.howToAdd(v))
	}
	return false, fmt.Errorf("%s belongs to cluster %x already, which is not the one that --initial-cluster and --initial-cluster-token describe (%x): correct them if this member was to found a cluster together with that one; if it is to join it: %s",
		v.url, v.clusterID, founded, b.howToAdd(v))
}

// isSelf finds this member in a cluster that may know it under another id.
func (b *Bootstrap) isSelf(m membership.Member) bool {
	return m.ID == b.Self.ID || slices.ContainsFunc(m.PeerURLs, func(u string) bool { return slices.Contains(b.Self.PeerURLs, u) })
}

func (b *Bootstrap) ids() []kv.MemberID {
	ids := []kv.MemberID{b.Self.ID}
	for _, m := range b.Others {
		ids = append(ids, m.ID)
	}
	return ids
}

// lostData refuses to bring back a member that the cluster has seen at work.
func (b *Bootstrap) lostData(v view, known membership.Member) error {
	return fmt.Errorf("member %v has already been bootstrapped: cluster %x, which %s belongs to, remembers it at work, but there is no data here. "+
		"Without what it has acknowledged it must not take part under the same id. If --data-dir or --wal-dir is wrong, correct it; if the data is lost, replace the member: "+
		"%s member remove %v; %s", known.ID, v.clusterID, v.url, etcdctl(v.members, known.ID), known.ID, b.howToAdd(v))
}

// howToAdd is what makes this member one of the cluster that v shows.
func (b *Bootstrap) howToAdd(v view) string {
	return fmt.Sprintf("%s member add %s --peer-urls=%s; then start this one with an empty --data-dir, --initial-cluster-state=existing and the --initial-cluster which that prints",
		etcdctl(v.members, b.Self.ID), b.Self.Name, strings.Join(b.Self.PeerURLs, ","))
}

// etcdctl is the tool with the addresses of all members but one.
func etcdctl(members []membership.Member, but kv.MemberID) string {
	var urls []string
	for _, m := range members {
		if m.ID != but {
			urls = append(urls, m.ClientURLs...)
		}
	}
	if len(urls) == 0 {
		return "etcdctl"
	}
	return "etcdctl --endpoints=" + strings.Join(urls, ",")
}

// initialCluster is what --initial-cluster has to be for a cluster of these members, of which self has the given name. One
// that has not started yet has no name; its own settings will give it one, and any does here.
func initialCluster(members []membership.Member, self kv.MemberID, name string) string {
	var pairs []string
	for _, m := range members {
		switch {
		case m.ID == self:
			m.Name = name
		case m.Name == "":
			m.Name = m.ID.String()
		}
		for _, u := range m.PeerURLs {
			pairs = append(pairs, m.Name+"="+u)
		}
	}
	return strings.Join(pairs, ",")
}

// errPlaced ends an inquiry that has been answered.
var errPlaced = errors.New("placed")

// Join finds this member in the cluster that the others belong to, which must have added it before.
func (b *Bootstrap) Join(ctx context.Context) (*Joined, error) {
	p := b.limits
	if p == (askLimits{}) {
		p = askLimits{refusedPatience, joinPatience, behindPatience}
	}
	var (
		mu     sync.Mutex // guards what is below
		placed *Joined
		found  view
		unfit  error
	)
	err := b.inquire(ctx, p, func(v view) (bool, error) {
		if len(v.members) == 0 {
			return true, nil
		}
		id, err := b.place(ctx, v)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			unfit = err
			return true, nil
		}
		placed, found = &Joined{ClusterID: v.clusterID, ID: id, Peers: v.members}, v
		return false, errPlaced
	})
	switch {
	case err != nil && !errors.Is(err, errPlaced):
		return nil, err
	case placed != nil:
		return placed, b.mayJoin(ctx, placed, found)
	case unfit != nil:
		return nil, unfit
	}
	who := "no other member is named"
	if urls := b.otherURLs(); len(urls) > 0 {
		who = "none of " + strings.Join(urls, ", ") + " answered as a member"
	}
	return nil, fmt.Errorf("cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs: %s; --initial-cluster must name the running members of the cluster to join", who)
}

func (b *Bootstrap) otherURLs() []string {
	var urls []string
	for _, m := range b.Others {
		urls = append(urls, m.PeerURLs...)
	}
	slices.Sort(urls)
	return urls
}

// place finds the id that a cluster has for this member. Settings and cluster must name the same members.
func (b *Bootstrap) place(ctx context.Context, v view) (kv.MemberID, error) {
	initial := append([]membership.Member{b.Self}, b.Others...)
	if len(initial) != len(v.members) {
		return 0, b.invalid(v, errors.New("member count is unequal"))
	}
	match, err := b.matchMembers(ctx, v.members, initial)
	if err != nil {
		return 0, b.invalid(v, err)
	}
	self := slices.Index(match, 0)
	if self < 0 {
		return 0, b.invalid(v, fmt.Errorf("%v is not among its PeerURLs", b.Self.PeerURLs))
	}
	return v.members[self].ID, nil
}

// invalid is etcd's sentence, with what to do about it.
func (b *Bootstrap) invalid(v view, err error) error {
	remedy := b.howToAdd(v)
	if at := slices.IndexFunc(v.members, b.isSelf); at >= 0 {
		remedy = "start with --initial-cluster=" + initialCluster(v.members, v.members[at].ID, b.Self.Name)
	}
	return fmt.Errorf("error validating peerURLs %s: %w: %s", v, err, remedy)
}

// String is the form in which etcd writes a cluster.
func (v view) String() string {
	var members []string
	for _, m := range v.members {
		members = append(members, fmt.Sprintf("&{ID:%v RaftAttributes:{PeerURLs:%v IsLearner:%v} Attributes:{Name:%s ClientURLs:%v}}", m.ID, m.PeerURLs, m.IsLearner, m.Name, m.ClientURLs))
	}
	return fmt.Sprintf("{ClusterID:%x Members:[%s] RemovedMemberIDs:[]}", v.clusterID, strings.Join(members, " "))
}

// matchMembers finds for each existing member the initial one with the same peer URLs. Names are only looked up where URLs
// differ as text, all at once: one that never resolves keeps nobody else from being found.
func (b *Bootstrap) matchMembers(ctx context.Context, existing, initial []membership.Member) ([]int, error) {
	match := make([]int, len(existing))
	taken := make([]bool, len(initial))
	for i, e := range existing {
		match[i] = slices.IndexFunc(initial, func(m membership.Member) bool { return sameSet(m.PeerURLs, e.PeerURLs) })
		if match[i] >= 0 {
			taken[match[i]] = true
		}
	}
	ctx, cancel := context.WithTimeout(ctx, resolvePatience)
	defer cancel()
	var g errgroup.Group
	for i, e := range existing {
		if match[i] >= 0 {
			continue
		}
		g.Go(func() error {
			var err error
			if match[i], err = b.matchByName(ctx, e, initial, taken); err != nil {
				return fmt.Errorf("PeerURLs: no match found for existing member (%v, %v), last resolver error (%w)", e.ID, e.PeerURLs, err)
			}
			return nil
		})
	}
	return match, g.Wait()
}

// matchByName looks for a member among the initial ones that are not taken, by what names resolve to.
func (b *Bootstrap) matchByName(ctx context.Context, e membership.Member, initial []membership.Member, taken []bool) (int, error) {
	type result struct {
		at  int
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result, len(initial))
	asked := 0
	for at, m := range initial {
		if !taken[at] {
			asked++
			go func() { results <- result{at, b.SameURLs(ctx, e.PeerURLs, m.PeerURLs)} }() // ends with ctx
		}
	}
	err := errors.New("every member of --initial-cluster has another place")
	for range asked {
		r := <-results
		if r.err == nil {
			return r.at, nil
		}
		err = r.err
	}
	return -1, err
}

func sameSet(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// mayJoin checks what a cluster asks of a member that it has added.
func (b *Bootstrap) mayJoin(ctx context.Context, j *Joined, v view) error {
	learners := 0
	for _, m := range j.Peers {
		if m.ID == j.ID && len(m.ClientURLs) > 0 {
			return b.lostData(v, m)
		}
		if m.IsLearner {
			learners++
		}
	}
	if learners > b.LearnersMax {
		return fmt.Errorf("%w: the cluster has %d, --max-learners allows %d", membership.ErrTooManyLearners, learners, b.LearnersMax)
	}
	return b.checkVersions(ctx, j)
}
