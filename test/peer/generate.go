package peer

import (
	"bytes"
	"fmt"
	"math/rand/v2"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// The paths of the methods operations call.
const (
	kvRange         = "/etcdserverpb.KV/Range"
	rangeStream     = "/etcdserverpb.KV/RangeStream"
	put             = "/etcdserverpb.KV/Put"
	deleteRange     = "/etcdserverpb.KV/DeleteRange"
	txn             = "/etcdserverpb.KV/Txn"
	compact         = "/etcdserverpb.KV/Compact"
	leaseGrant      = "/etcdserverpb.Lease/LeaseGrant"
	leaseRevoke     = "/etcdserverpb.Lease/LeaseRevoke"
	watchPath       = "/etcdserverpb.Watch/Watch"
	leaseKeepAlive  = "/etcdserverpb.Lease/LeaseKeepAlive"
	leaseTimeToLive = "/etcdserverpb.Lease/LeaseTimeToLive"
	leaseLeases     = "/etcdserverpb.Lease/LeaseLeases"
	alarm           = "/etcdserverpb.Maintenance/Alarm"
	memberStatus    = "/etcdserverpb.Maintenance/Status"
	defragment      = "/etcdserverpb.Maintenance/Defragment"
	hash            = "/etcdserverpb.Maintenance/Hash"
	hashKV          = "/etcdserverpb.Maintenance/HashKV"
	moveLeader      = "/etcdserverpb.Maintenance/MoveLeader"
	downgrade       = "/etcdserverpb.Maintenance/Downgrade"
	memberAdd       = "/etcdserverpb.Cluster/MemberAdd"
	memberRemove    = "/etcdserverpb.Cluster/MemberRemove"
	memberUpdate    = "/etcdserverpb.Cluster/MemberUpdate"
	memberPromote   = "/etcdserverpb.Cluster/MemberPromote"
	memberList      = "/etcdserverpb.Cluster/MemberList"
)

// keyNames are the names operations use: prefixes of one another, neighbours, and bytes at the ends of the alphabet.
var keyNames = []string{"a", "ab", "abc", "b", "b\x00", "ba", "c", "ca", "cb", "cc", "d", "d\xff", "e", "ea", "eb", "f", "fa",
	"\x00g", "g\x00\x00", "\xff"}

// A gen draws the operations of one episode from its seed. It sees no answer: revisions and ids in what it draws are
// symbols.
type gen struct {
	rng      *rand.Rand
	settings settings
	drawn    int     // calls so far; makes values differ
	deck     []scene // scenes not dealt yet
	dealt    int     // scenes dealt so far
}

// generate returns the operations of an episode: at least n of them, and every scene at least once.
func generate(seed uint64, n int, s settings) []op {
	g := &gen{rng: newRand(seed), settings: s}
	ops := g.opening(seed%2 == 0)
	for len(ops) < n {
		ops = append(ops, g.next()...)
	}
	for g.dealt < len(scenes) { // a short episode has not come to them all
		ops = append(ops, g.deal()...)
	}
	return ops
}

// newRand returns the source of randomness a seed stands for.
func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0x686f6c6466617374)) }

// next draws the next operation or scene. A third of the calls are txns drawn at random; scenes, dealt from a shuffled
// deck so that each is met equally often, are one draw in sixteen but almost half of the calls, as most have several.
func (g *gen) next() []op {
	switch p := g.rng.IntN(1000); {
	case p < 1:
		return []op{restart{kill: g.chance(2)}}
	case p < 60:
		return g.deal()
	case p < 440:
		return []op{g.call(txn, g.randomTxn(3, map[string]bool{}))}
	case p < 650:
		return []op{g.call(kvRange, g.randomRange())}
	case p < 690:
		return []op{g.call(rangeStream, g.randomStreamRange())}
	case p < 860:
		return []op{g.call(put, g.randomPut(g.key()))}
	case p < 905:
		return []op{g.call(deleteRange, g.randomDelete())}
	case p < 940:
		return []op{g.createWatch(g.randomWatch())}
	case p < 945:
		return []op{cancelOne{slot: g.rng.IntN(streamSlots), nth: g.rng.IntN(8)}}
	case p < 947:
		return []op{stall{slot: g.rng.IntN(streamSlots)}}
	case p < 950:
		return []op{g.compact(atMiddle(g.rng.Int64N(900)), g.rng.IntN(2) == 0)}
	case p < 960:
		return []op{g.hashKV(g.revision())}
	default:
		return []op{g.randomLease()}
	}
}

// deal takes the next scene off the deck, which is shuffled anew when it is empty.
func (g *gen) deal() []op {
	if len(g.deck) == 0 {
		g.deck = append([]scene(nil), scenes...)
		g.rng.Shuffle(len(g.deck), func(i, j int) { g.deck[i], g.deck[j] = g.deck[j], g.deck[i] })
	}
	s := g.deck[0]
	g.deck = g.deck[1:]
	g.dealt++
	return s(g)
}

// call makes a call on a random connection.
func (g *gen) call(path string, requests ...proto.Message) *call {
	g.drawn++
	return &call{conn: g.rng.IntN(clients), path: path, requests: requests}
}

// meet makes a call that is there for a rule and meets it when the reference's answer satisfies met.
func (g *gen) meet(rule string, met func(*world, answer) bool, path string, requests ...proto.Message) *call {
	c := g.call(path, requests...)
	c.rule, c.met = rule, met
	return c
}

// saw makes a condition from one on the only message of an answer.
func saw[M proto.Message](f func(M) bool) func(*world, answer) bool {
	return func(_ *world, a answer) bool {
		m, ok := a.only().(M)
		return ok && a.text == "" && f(m)
	}
}

// failed is the condition that the answer is etcd's error of that text.
func failed(text string) func(*world, answer) bool {
	return func(_ *world, a answer) bool { return a.text == "etcdserver: "+text }
}

func (g *gen) key() []byte { return []byte(keyNames[g.rng.IntN(len(keyNames))]) }

// end draws the end of a range that starts at key.
func (g *gen) end(key []byte) []byte {
	switch g.rng.IntN(10) {
	case 0, 1, 2:
		return nil
	case 3:
		return []byte{0}
	case 4:
		return append(bytes.Clone(key), 0)
	case 5:
		return nextPrefix(key)
	default:
		return g.key()
	}
}

// nextPrefix returns the end of the range of keys that begin with prefix.
func nextPrefix(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return []byte{0}
}

// value draws a value: mostly short, at times empty, now and then up to 1 MB.
func (g *gen) value() []byte {
	g.drawn++
	switch p := g.rng.IntN(1000); {
	case p < 100:
		return nil
	case p < 400:
		return []byte{byte('a' + g.rng.IntN(4))}
	case p < 940:
		return fmt.Appendf(nil, "value %d", g.drawn)
	case p < 990:
		return g.filled(g.rng.IntN(4 << 10))
	case p < 998:
		return g.filled(g.rng.IntN(64 << 10))
	default:
		return g.filled(g.rng.IntN(1 << 20))
	}
}

// filled makes a value of n bytes that differs from draw to draw.
func (g *gen) filled(n int) []byte {
	g.drawn++
	v := bytes.Repeat([]byte{byte(g.drawn), byte(g.drawn >> 8), 'x', '\n'}, n/4+1)
	return v[:n]
}

// revision draws a revision to read or hash at: mostly the latest, at times an old, compacted, future or negative one.
func (g *gen) revision() int64 {
	switch g.rng.IntN(20) {
	case 0, 1, 2:
		return atMiddle(g.rng.Int64N(1001))
	case 3:
		return atCurrent(-g.rng.Int64N(4))
	case 4:
		return atCurrent(1 + g.rng.Int64N(3))
	case 5:
		return atCompacted(g.rng.Int64N(3) - 1)
	case 6:
		return 1
	case 7:
		return -g.rng.Int64N(3)
	default:
		return 0
	}
}

// compact makes a compaction. Watches have to be level before it, or chance decides which of them it cancels; and the one
// before it has to be carried out, or chance decides whether its hash is remembered.
func (g *gen) compact(rev int64, physical bool) *call {
	c := g.call(compact, &pb.CompactionRequest{Revision: rev, Physical: physical})
	c.before = func(w *world) error {
		if err := w.barrier(); err != nil {
			return err
		}
		if err := w.levelAll(); err != nil {
			return err
		}
		return w.waitCompacted()
	}
	c.after = func(w *world, want answer, rev int64) {
		if want.text == "" {
			w.compacted, w.hashReady, w.restarted, w.patchy = rev, false, false, false
			w.tally.hit("1.8 compact")
		}
	}
	return c
}

// hashKV makes a comparison of hashes, after the last compaction has left its own in the servers' caches.
func (g *gen) hashKV(rev int64) *call {
	c := g.call(hashKV, &pb.HashKVRequest{Revision: rev})
	c.before = (*world).waitCompacted
	return c
}
