package apply

import (
	"strconv"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/membershippb"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Commands of the scripts, as text. Each becomes the bytes that etcd's generated code would put into the log, so the
// decoders are part of what is tested.
//
//	put k v [lease=n] [prev] [ignore-value] [ignore-lease]
//	del k [end] [prev]
//	get k [end] [rev=n] [limit=n]                      in transactions and reads
//	txn [compare; ...] [op; ...] [op; ...]             compares, then, else; an op may be a txn
//	compact rev, grant id ttl, revoke id, checkpoint id remaining
//	alarm get|on|off NONE|NOSPACE|CORRUPT [member]
//	version 3.7.0, downgrade 3.6.0|off, attributes member name url
//	auth enable|disable|ask, login user prefix
//	user add name [no-password], user delete|password name, user grant|revoke name role
//	role add|delete name, role grant name read|write|both k [end], role revoke name k [end]
//
// "as name@revision" before a command is the user it runs for.
// A compare is "k[..end] target[/union] op operand"; union names the operand sent if it is not the target's, op is one of
// = != > < ? (which the protocol does not know). The operand "" is the empty value. "quiet" before a command means that
// nobody waits for it.
type parser struct {
	t      *testing.T
	tokens []string
}

func newParser(t *testing.T, line string) *parser {
	for _, c := range []string{"[", "]", ";"} {
		line = strings.ReplaceAll(line, c, " "+c+" ")
	}
	return &parser{t: t, tokens: strings.Fields(line)}
}

func (p *parser) peek() string {
	if len(p.tokens) == 0 {
		return ""
	}
	return p.tokens[0]
}

func (p *parser) next() string {
	p.t.Helper()
	if len(p.tokens) == 0 {
		p.t.Fatal("a command ends too early")
	}
	token := p.tokens[0]
	p.tokens = p.tokens[1:]
	return token
}

func (p *parser) number() int64 { return number(p.t, p.next()) }

func number(t *testing.T, text string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// words are the rest of one operation.
func (p *parser) words() (words []string) {
	for p.peek() != "" && p.peek() != ";" && p.peek() != "]" {
		words = append(words, p.next())
	}
	return words
}

// command reads one line into the payload of an entry.
func (p *parser) command(id uint64) []byte {
	q := &pb.InternalRaftRequest{Header: &pb.RequestHeader{ID: id}}
	if p.peek() == "quiet" {
		p.next()
		q.Header = nil
	}
	if p.peek() == "as" {
		p.next()
		name, revision, _ := strings.Cut(p.next(), "@")
		q.Header.Username, q.Header.AuthRevision = name, uint64(number(p.t, revision))
	}
	switch p.peek() {
	case "auth", "login", "user", "role":
		p.auth(q)
	case "put", "del", "txn":
		op := p.op()
		q.Put, q.DeleteRange, q.Txn = op.GetRequestPut(), op.GetRequestDeleteRange(), op.GetRequestTxn()
	case "compact":
		p.next()
		q.Compaction = &pb.CompactionRequest{Revision: p.number()}
	case "grant":
		p.next()
		q.LeaseGrant = &pb.LeaseGrantRequest{ID: p.number(), TTL: p.number()}
	case "revoke":
		p.next()
		q.LeaseRevoke = &pb.LeaseRevokeRequest{ID: p.number()}
	case "checkpoint":
		p.next()
		q.LeaseCheckpoint = &pb.LeaseCheckpointRequest{Checkpoints: []*pb.LeaseCheckpoint{{ID: p.number(), Remaining_TTL: p.number()}}}
	case "alarm":
		q.Alarm = p.alarm()
	case "version":
		p.next()
		q.ClusterVersionSet = &membershippb.ClusterVersionSetRequest{Ver: p.next()}
	case "downgrade":
		p.next()
		q.DowngradeInfoSet = &membershippb.DowngradeInfoSetRequest{Enabled: p.peek() != "off", Ver: p.next()}
	case "attributes":
		p.next()
		q.ClusterMemberAttrSet = &membershippb.ClusterMemberAttrSetRequest{Member_ID: uint64(p.number()),
			MemberAttributes: &membershippb.Attributes{Name: p.next(), ClientUrls: []string{p.next()}}}
	case "range":
		p.next()
		q.Range = &pb.RangeRequest{Key: []byte(p.next())}
	case "unknown":
		p.next()
		q.Header = &pb.RequestHeader{ID: 1}
	default:
		p.t.Fatalf("unknown command %q", p.peek())
	}
	payload, err := proto.Marshal(q)
	if err != nil {
		p.t.Fatal(err)
	}
	return payload
}

func (p *parser) alarm() *pb.AlarmRequest {
	p.next()
	action := map[string]pb.AlarmRequest_AlarmAction{"get": 0, "on": 1, "off": 2}
	q := &pb.AlarmRequest{Action: action[p.next()], Alarm: pb.AlarmType(pb.AlarmType_value[p.next()])}
	if p.peek() != "" {
		q.MemberID = uint64(p.number())
	}
	return q
}

// op reads one operation of a transaction.
func (p *parser) op() *pb.RequestOp {
	verb := p.next()
	if verb == "txn" {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: p.txn()}}
	}
	words := p.words()
	if len(words) == 0 {
		p.t.Fatalf("%s of no key", verb)
	}
	key := []byte(words[0])
	switch verb {
	case "put":
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: p.put(key, words[1:])}}
	case "del":
		q := &pb.DeleteRangeRequest{Key: key}
		for _, w := range words[1:] {
			if w == "prev" {
				q.PrevKv = true
			} else {
				q.RangeEnd = end(w)
			}
		}
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: q}}
	case "get":
		q := &pb.RangeRequest{Key: key}
		for _, w := range words[1:] {
			switch name, value, _ := strings.Cut(w, "="); {
			case name == "rev":
				q.Revision = number(p.t, value)
			case name == "limit":
				q.Limit = number(p.t, value)
			case name == "count-only":
				q.CountOnly = true
			default:
				q.RangeEnd = end(w)
			}
		}
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: q}}
	}
	p.t.Fatalf("unknown operation %q", verb)
	return nil
}

func end(text string) []byte { return []byte(strings.ReplaceAll(text, `\0`, "\x00")) }

func (p *parser) put(key []byte, words []string) *pb.PutRequest {
	q := &pb.PutRequest{Key: key}
	for _, w := range words {
		switch {
		case w == "prev":
			q.PrevKv = true
		case w == "ignore-value":
			q.IgnoreValue = true
		case w == "ignore-lease":
			q.IgnoreLease = true
		case strings.HasPrefix(w, "lease="):
			q.Lease = number(p.t, w[len("lease="):])
		default:
			q.Value = []byte(w)
		}
	}
	return q
}

func (p *parser) txn() *pb.TxnRequest {
	q := &pb.TxnRequest{}
	p.list(func() { q.Compare = append(q.Compare, p.compare()) })
	p.list(func() { q.Success = append(q.Success, p.op()) })
	p.list(func() { q.Failure = append(q.Failure, p.op()) })
	return q
}

// list reads "[one; one]" and may be left out at the end.
func (p *parser) list(one func()) {
	if p.peek() != "[" {
		return
	}
	for p.next(); p.peek() != "]"; {
		one()
		if p.peek() == ";" {
			p.next()
		}
	}
	p.next()
}

func (p *parser) compare() *pb.Compare {
	w := p.words()
	if len(w) != 4 {
		p.t.Fatalf("a compare has four words, not %q", w)
	}
	c := &pb.Compare{}
	key, upper, _ := strings.Cut(w[0], "..")
	c.Key, c.RangeEnd = []byte(key), end(upper)
	target, union, other := strings.Cut(w[1], "/")
	c.Target = pb.Compare_CompareTarget(pb.Compare_CompareTarget_value[strings.ToUpper(target)])
	if !other {
		union = target
	}
	result, known := map[string]pb.Compare_CompareResult{"=": 0, ">": 1, "<": 2, "!=": 3, "?": 9}[w[2]]
	if !known {
		p.t.Fatalf("unknown compare %q", w[2])
	}
	c.Result = result
	switch union {
	case "value":
		c.TargetUnion = &pb.Compare_Value{Value: []byte(strings.Trim(w[3], `"`))}
	case "version":
		c.TargetUnion = &pb.Compare_Version{Version: number(p.t, w[3])}
	case "create":
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: number(p.t, w[3])}
	case "mod":
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: number(p.t, w[3])}
	case "lease":
		c.TargetUnion = &pb.Compare_Lease{Lease: number(p.t, w[3])}
	case "none":
	default:
		p.t.Fatalf("unknown operand %q", union)
	}
	return c
}
