package peer

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc/codes"
)

// rules are the rules of etcd's API an episode has to meet, by the section of the API they belong to: 1.3 headers, 1.5
// range, 1.6 put and delete, 1.7 txn, 1.8 compaction and hashes, 1.9 watch, 1.10 lease. A rule counts when etcd showed
// it; ours was compared at the same moment.
var rules = []string{
	"1.3 a range at an old revision has the current one in its header",
	"1.3 a nested header holds only the revision",
	"1.3 the header of a defragmentation is absent",
	"1.3 the revision of a cluster answer is 0",
	"1.3 hasleader is served",

	"1.5 single key",
	"1.5 single key, absent",
	"1.5 range_end 0 is everything from the key on",
	"1.5 key 0 and range_end 0 are everything",
	"1.5 range_end not above key is empty",
	"1.5 a negative revision is the latest",
	"1.5 old revision",
	"1.5 the compacted revision itself",
	"1.5 count is not cut by limit",
	"1.5 count is not cut by filters",
	"1.5 count_only",
	"1.5 limit with more",
	"1.5 limit without more",
	"1.5 limit is applied after filters, more too",
	"1.5 no order with another target: limit+1 read by key, then sorted",
	"1.5 descending by key",
	"1.5 sorted by version",
	"1.5 sorted by create revision",
	"1.5 sorted by mod revision",
	"1.5 sorted by value",
	"1.5 equal sort values",
	"1.5 min_mod_revision",
	"1.5 max_mod_revision",
	"1.5 min_create_revision",
	"1.5 max_create_revision",
	"1.5 keys_only",
	"1.5 keys_only hides the lease",
	"1.5 keys_only sorted by value",
	"1.5 serializable",
	"1.5 stream in several chunks",
	"1.5 stream, count_only",
	"1.5 stream with limit",
	"1.5 stream at an old revision",
	"1.5 stream refuses a sort order",
	"1.5 stream refuses filters",
	"1.5 unknown fields are ignored",

	"1.6 put",
	"1.6 put over a key",
	"1.6 put makes a deleted key anew",
	"1.6 ignore_value",
	"1.6 ignore_lease",
	"1.6 ignore_value with a value",
	"1.6 ignore_lease with a lease",
	"1.6 ignore_value on an absent key",
	"1.6 ignore_lease on an absent key",
	"1.6 put with an unknown lease",
	"1.6 put changes the lease",
	"1.6 put without lease detaches",
	"1.6 prev_kv of a put",
	"1.6 prev_kv of the first put is absent",
	"1.6 delete that matches nothing makes no revision",
	"1.6 delete of several keys in one revision",
	"1.6 prev_kvs of a delete",
	"1.6 delete detaches the lease",

	"1.7 too many operations",
	"1.7 too many compares",
	"1.7 a nested txn has what its parent left",
	"1.7 three levels deep",
	"1.7 put twice in a branch",
	"1.7 put inside a deleted range",
	"1.7 deletes may overlap",
	"1.7 success and failure may share a key",
	"1.7 branches of a nested txn may share a key",
	"1.7 nested put against a sibling",
	"1.7 nested put inside a deleted range of the parent",
	"1.7 an operation without content",
	"1.7 nested operation without content",
	"1.7 empty key in an operation",
	"1.7 empty key in a compare",
	"1.7 bad sort option in an operation",
	"1.7 value on an absent key is false",
	"1.7 version on an absent key is 0",
	"1.7 create revision on an absent key is 0",
	"1.7 mod revision on an absent key is 0",
	"1.7 lease on an absent key is 0",
	"1.7 compare of a range needs every key",
	"1.7 compare of an empty range is that of an absent key",
	"1.7 an unknown compare result is true",
	"1.7 an unknown compare target",
	"1.7 compare without a value to compare with",
	"1.7 nested compares see the state before the txn",
	"1.7 ranges see earlier writes",
	"1.7 several changes, one revision",
	"1.7 nothing written, no revision",
	"1.7 an unknown lease stops everything",
	"1.7 a compacted range stops everything",
	"1.7 a future range stops everything",
	"1.7 ignore_value on an absent key stops everything",
	"1.7 the branch not taken is not checked",
	"1.7 a negative revision below the compacted one",
	"1.7 read-only",
	"1.7 read-only serializable",
	"1.7 empty",

	"1.8 compact",
	"1.8 compact physically",
	"1.8 first compaction at 0",
	"1.8 compact at the compacted revision",
	"1.8 compact below it",
	"1.8 compact in the future",
	"1.8 HashKV of a store never compacted has compact_revision -1",
	"1.8 HashKV at 0",
	"1.8 HashKV at the current revision",
	"1.8 HashKV in between",
	"1.8 HashKV remembers the compacted revision",
	"1.8 HashKV below the compacted revision",
	"1.8 HashKV in the future",
	"1.8 Hash",
	"1.8 a tombstone at the compacted revision is still watched",

	"1.9 ids count from 0",
	"1.9 ids skip the used ones",
	"1.9 chosen id",
	"1.9 duplicate id",
	"1.9 empty range",
	"1.9 empty key",
	"1.9 from key on",
	"1.9 from now on",
	"1.9 from the past",
	"1.9 from the future",
	"1.9 negative start",
	"1.9 start below the compacted revision",
	"1.9 several events of one revision",
	"1.9 fragments",
	"1.9 prev_kv",
	"1.9 no prev_kv of a creation",
	"1.9 no prev_kv below the compacted revision",
	"1.9 filter NOPUT",
	"1.9 filter NODELETE",
	"1.9 both filters",
	"1.9 an unknown filter",
	"1.9 a delete event has key and revision only",
	"1.9 expiry is an ordinary delete event",
	"1.9 progress_notify",
	"1.9 progress answer",
	"1.9 no progress answer without watches",
	"1.9 no progress answer before the start revision is reached",
	"1.9 no progress answer before a watch a compaction cancelled is cancelled once more",
	"1.9 a watch a compaction cancelled is cancelled once more",
	"1.9 cancel",
	"1.9 cancelling an unknown id says nothing",
	"1.9 a request that asks for nothing is ignored",
	"1.9 a half-closed stream goes on delivering",
	"1.9 a slow reader loses nothing",

	"1.10 grant with an id",
	"1.10 grant with an id the server chooses",
	"1.10 a short TTL is raised",
	"1.10 a TTL below 1 is raised",
	"1.10 revoke takes the keys in one revision",
	"1.10 revoke without keys makes no revision",
	"1.10 keep alive",
	"1.10 keep alive of an unknown lease has TTL 0",
	"1.10 time to live",
	"1.10 time to live with keys",
	"1.10 time to live of an unknown lease is -1",
	"1.10 list",
	"1.10 a lease expires",
	"1.10 an expired lease takes its keys, sorted, in one revision",

	"NOSPACE: deletes and reads are served",
	"NOSPACE: disarmed, puts are served",
	"NOSPACE: reached by writing",
	"CORRUPT: member list and status are served",
	"CORRUPT: disarmed, puts are served",
	"a restart keeps everything",
	"a kill keeps everything",
	"the snapshot's digest is right",
	"the snapshot holds the hash HashKV gives",
	"several clients at once",
}

// An apiError is an error of the API: its code and its whole text.
type apiError struct {
	code codes.Code
	text string
}

// apiErrors are the errors one member can be made to answer.
var apiErrors = []apiError{
	{codes.InvalidArgument, "etcdserver: key is not provided"},
	{codes.InvalidArgument, "etcdserver: key not found"},
	{codes.InvalidArgument, "etcdserver: value is provided"},
	{codes.InvalidArgument, "etcdserver: lease is provided"},
	{codes.InvalidArgument, "etcdserver: too many operations in txn request"},
	{codes.InvalidArgument, "etcdserver: duplicate key given in txn request"},
	{codes.InvalidArgument, "etcdserver: invalid client api version"},
	{codes.InvalidArgument, "etcdserver: invalid sort option"},
	{codes.InvalidArgument, "etcdserver: given member URLs are invalid"},
	{codes.InvalidArgument, "etcdserver: request is too large"},
	{codes.InvalidArgument, "etcdserver: user name is empty"},
	{codes.InvalidArgument, "etcdserver: role name is empty"},
	{codes.InvalidArgument, "etcdserver: permission not given"},
	{codes.InvalidArgument, "etcdserver: wrong downgrade target version format"},
	{codes.InvalidArgument, "etcdserver: invalid downgrade target version"},
	{codes.OutOfRange, "etcdserver: mvcc: required revision has been compacted"},
	{codes.OutOfRange, "etcdserver: mvcc: required revision is a future revision"},
	{codes.OutOfRange, "etcdserver: too large lease TTL"},
	{codes.ResourceExhausted, "etcdserver: mvcc: database space exceeded"},
	{codes.NotFound, "etcdserver: requested lease not found"},
	{codes.NotFound, "etcdserver: member not found"},
	{codes.FailedPrecondition, "etcdserver: lease already exists"},
	{codes.FailedPrecondition, "etcdserver: Peer URLs already exists"},
	{codes.FailedPrecondition, "etcdserver: can only promote a learner member"},
	{codes.FailedPrecondition, "etcdserver: can only promote a learner member which is in sync with leader"},
	{codes.FailedPrecondition, "etcdserver: too many learner members in cluster"},
	{codes.Unknown, "etcdserver: re-configuration failed due to not enough started members"},
	{codes.FailedPrecondition, "etcdserver: root user does not exist"},
	{codes.FailedPrecondition, "etcdserver: root user does not have root role"},
	{codes.FailedPrecondition, "etcdserver: user name already exists"},
	{codes.FailedPrecondition, "etcdserver: user name not found"},
	{codes.FailedPrecondition, "etcdserver: role name already exists"},
	{codes.FailedPrecondition, "etcdserver: role name not found"},
	{codes.FailedPrecondition, "etcdserver: role is not granted to the user"},
	{codes.FailedPrecondition, "etcdserver: permission is not granted to the role"},
	{codes.FailedPrecondition, "etcdserver: authentication is not enabled"},
	{codes.FailedPrecondition, "etcdserver: bad leader transferee"},
	{codes.FailedPrecondition, "etcdserver: cluster has a downgrade job in progress"},
	{codes.DataLoss, "etcdserver: corrupt cluster"},
	{codes.InvalidArgument, "etcdserver: authentication failed, invalid user ID or password"},
	{codes.InvalidArgument, "etcdserver: invalid auth management"},
	{codes.PermissionDenied, "etcdserver: permission denied"},
	{codes.Unauthenticated, "etcdserver: invalid auth token"},
	{codes.Unimplemented, "RangeStream does not support custom sort orders"},
	{codes.Unimplemented, "RangeStream does not support revision filters"},
}

// unreachable are the errors of the API that one member cannot be made to answer, with the reason.
var unreachable = map[string]string{
	"revision of auth store is old":              "needs a change of users between the check of a request and its application",
	"too many requests":                          "needs 5000 committed entries that are not applied",
	"member ID already exist":                    "ids contain the time; the same one cannot be drawn twice",
	"cluster ID mismatch":                        "spoken between members",
	"no inflight downgrade job":                  "etcd logs it and answers the cancellation with the cluster version",
	"not leader":                                 "the only member leads",
	"not capable":                                "needs a cluster version below 3.0",
	"rpc not supported for learner":              "the only member votes",
	"cluster version not found during downgrade": "the version is decided before the first request is served",
	"no leader":                                  "the only member leads",
	"leader changed":                             "the only member leads",
	"server stopped":                             "seen only while a process ends, at no certain moment",
	"request timed out":                          "needs a stalled disk",
	"request timed out, possibly due to previous leader failure":     "needs a second member",
	"request timed out, possibly due to connection lost":             "needs a second member",
	"request timed out, waiting for the applied index took too long": "needs a stalled apply",
	"unhealthy cluster":         "needs a second member",
	"watch canceled":            "sent to a client that has gone",
	"request canceled":          "sent to a client that has gone",
	"context deadline exceeded": "the client's own clock answers first",
}

// A Tally counts how often each rule and each error was met.
type Tally struct {
	mu     sync.Mutex // guards counts
	counts map[string]int
}

// NewTally returns a tally of the whole catalogue at 0.
func NewTally() *Tally {
	t := &Tally{counts: map[string]int{}}
	for _, r := range rules {
		t.counts[r] = 0
	}
	for _, e := range apiErrors {
		t.counts[e.String()] = 0
	}
	return t
}

func (e apiError) String() string { return fmt.Sprintf("1.4 %s: %s", e.code, e.text) }

// hit counts one meeting with a rule. A rule the catalogue does not know is a mistake of this package.
func (t *Tally) hit(rule string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.counts[rule]; !ok {
		panic(fmt.Sprintf("peer: no rule %q in the catalogue", rule))
	}
	t.counts[rule]++
}

// countError counts an answer if it is one of the catalogue's errors.
func (t *Tally) countError(code codes.Code, text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	name := apiError{code, text}.String()
	if _, ok := t.counts[name]; ok {
		t.counts[name]++
	}
}

// countRefusal counts an error that a watch names as the reason of its refusal; such a reason has no code.
func (t *Tally) countRefusal(reason string) {
	for _, e := range apiErrors {
		if e.text == reason {
			t.countError(e.code, e.text)
		}
	}
}

// Missing returns the rules and errors not met so far, in the order of the catalogue.
func (t *Tally) Missing() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var missing []string
	for _, name := range names() {
		if t.counts[name] == 0 {
			missing = append(missing, name)
		}
	}
	return missing
}

// Print writes the table: a count and a name per line, then what cannot be met and why.
func (t *Tally) Print(w io.Writer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range names() {
		fmt.Fprintf(w, "%8d  %s\n", t.counts[name], name)
	}
	var out []string
	for text, reason := range unreachable {
		out = append(out, fmt.Sprintf("       -  1.4 %s (%s)\n", text, reason))
	}
	slices.Sort(out)
	fmt.Fprint(w, strings.Join(out, ""))
}

// names returns all names of the catalogue: sections in order, the errors of 1.4 between 1.3 and 1.5.
func names() []string {
	var all []string
	at := slices.IndexFunc(rules, func(r string) bool { return !strings.HasPrefix(r, "1.3 ") })
	all = append(all, rules[:at]...)
	for _, e := range apiErrors {
		all = append(all, e.String())
	}
	return append(all, rules[at:]...)
}
