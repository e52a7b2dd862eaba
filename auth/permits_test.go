package auth

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"

	"holdfast/kv"
)

var seedFlag = flag.Uint64("auth.seed", 0, "seed of the random tests; 0 draws one")

func random(t *testing.T) *rand.Rand {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("go test ./auth -run %s -auth.seed=%d", t.Name(), seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// Keys of one or two letters of three, so that ranges share, touch, hold and miss each other all the time. A range between two
// of them holds others that the list does not have; what lies between two neighbours of the list is permitted as a whole or
// not at all, but for the keys right behind one, which "\x00" stands for.
var someKeys = func() (keys []string) {
	letters := []string{"", "\x00", "a", "b", "c"}
	for _, first := range letters[2:] {
		for _, second := range letters {
			keys = append(keys, first+second)
		}
	}
	return keys
}()

func randomRange(r *rand.Rand) kv.KeyRange {
	q := kv.KeyRange{Key: []byte(someKeys[r.IntN(len(someKeys))])}
	switch r.IntN(6) {
	case 0, 1:
	case 2:
		q.End = []byte{0}
	default:
		q.End = []byte(someKeys[r.IntN(len(someKeys))])
	}
	return q
}

// TestPermitsCover holds the merged permissions against the definition: a range is covered if each key in it lies in the range
// of some permission of that kind.
func TestPermitsCover(t *testing.T) {
	r := random(t)
	covered := 0
	for range 20_000 {
		var given []*authpb.Permission
		for range r.IntN(6) {
			q := randomRange(r)
			if isValidRange(q.Key, q.End) {
				given = append(given, &authpb.Permission{Key: q.Key, RangeEnd: q.End, PermType: authpb.Permission_Type(r.IntN(3))})
			}
		}
		may := merge([]*role{newRole(&authpb.Role{KeyPermission: given})})
		want := kv.Access{KeyRange: randomRange(r), Right: kv.Right(1 + r.IntN(3))}
		if want.IsEmpty() {
			continue
		}
		naive := true
		for _, right := range []kv.Right{kv.Read, kv.Write} {
			naive = naive && (want.Right&right == 0 || naiveCover(given, want.KeyRange, right))
		}
		if got := may.allow(&want); got != naive {
			t.Fatalf("%q of %v: %v, want %v", want, given, got, naive)
		}
		if naive {
			covered++
		}
	}
	if covered < 1000 {
		t.Fatalf("only %d ranges were covered: the draw is no test", covered)
	}
}

// naiveCover asks for every key that could make a difference: those of the list, those right behind them, and one above all.
func naiveCover(given []*authpb.Permission, q kv.KeyRange, right kv.Right) bool {
	for _, key := range append([]string{"d"}, someKeys...) {
		for _, key := range []string{key, key + "\x00"} {
			if q.Contains([]byte(key)) && !naivePermits(given, []byte(key), right) {
				return false
			}
		}
	}
	return true
}

func naivePermits(given []*authpb.Permission, key []byte, right kv.Right) bool {
	for _, p := range given {
		kind := map[authpb.Permission_Type]kv.Right{authpb.READ: kv.Read, authpb.WRITE: kv.Write, authpb.READWRITE: kv.Read | kv.Write}[p.PermType]
		if kind&right != 0 && (kv.KeyRange{Key: p.Key, End: p.RangeEnd}).Contains(key) {
			return true
		}
	}
	return false
}
