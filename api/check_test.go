package api

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"holdfast/kv"
)

// Short forms of operations.
func opRange(key string) kv.Op {
	return kv.Op{Range: &kv.RangeRequest{KeyRange: kv.KeyRange{Key: []byte(key)}}}
}

func opPut(key string) kv.Op { return kv.Op{Put: &kv.PutRequest{Key: []byte(key)}} }

func opDelete(key, end string) kv.Op {
	return kv.Op{DeleteRange: &kv.DeleteRangeRequest{KeyRange: kv.KeyRange{Key: []byte(key), End: []byte(end)}}}
}

func opTxn(then, other []kv.Op) kv.Op {
	return kv.Op{Txn: &kv.TxnRequest{Success: then, Failure: other}}
}

func list(ops ...kv.Op) []kv.Op { return ops }

// TestCheckRange, with what RangeStream refuses besides, is the table of ranges that are wrong by themselves.
func TestCheckRange(t *testing.T) {
	key := kv.KeyRange{Key: []byte("k")}
	for _, c := range []struct {
		q      kv.RangeRequest
		want   error
		stream codes.Code
	}{
		{kv.RangeRequest{}, rpctypes.ErrGRPCEmptyKey, codes.InvalidArgument},
		{kv.RangeRequest{KeyRange: key}, nil, codes.OK},
		{kv.RangeRequest{KeyRange: key, SortOrder: 3}, rpctypes.ErrGRPCInvalidSortOption, codes.InvalidArgument},
		{kv.RangeRequest{KeyRange: key, SortOrder: -1}, rpctypes.ErrGRPCInvalidSortOption, codes.InvalidArgument},
		{kv.RangeRequest{KeyRange: key, SortTarget: 5}, rpctypes.ErrGRPCInvalidSortOption, codes.InvalidArgument},
		{kv.RangeRequest{KeyRange: key, SortTarget: -1}, rpctypes.ErrGRPCInvalidSortOption, codes.InvalidArgument},
		{kv.RangeRequest{KeyRange: key, SortOrder: kv.SortAscend}, nil, codes.OK},
		{kv.RangeRequest{KeyRange: key, SortOrder: kv.SortDescend}, nil, codes.Unimplemented},
		{kv.RangeRequest{KeyRange: key, SortOrder: kv.SortAscend, SortTarget: kv.SortByValue}, nil, codes.Unimplemented},
		{kv.RangeRequest{KeyRange: key, SortTarget: kv.SortByValue}, nil, codes.OK},
		{kv.RangeRequest{KeyRange: key, MinMod: 1}, nil, codes.Unimplemented},
		{kv.RangeRequest{KeyRange: key, MaxMod: 1}, nil, codes.Unimplemented},
		{kv.RangeRequest{KeyRange: key, MinCreate: 1}, nil, codes.Unimplemented},
		{kv.RangeRequest{KeyRange: key, MaxCreate: 1}, nil, codes.Unimplemented},
		{kv.RangeRequest{KeyRange: key, Revision: -1, Limit: -1}, nil, codes.OK},
	} {
		if err := checkRange(&c.q); err != c.want {
			t.Errorf("%+v: %v, want %v", c.q, err, c.want)
		}
		if err := checkRangeStream(&c.q); status.Code(err) != c.stream {
			t.Errorf("stream of %+v: %v, want %v", c.q, err, c.stream)
		}
	}
}

// TestCheckPut is the table of puts and deletions that are wrong by themselves.
func TestCheckPut(t *testing.T) {
	key, value := []byte("k"), []byte("v")
	for _, c := range []struct {
		q    kv.PutRequest
		want error
	}{
		{kv.PutRequest{Value: value}, rpctypes.ErrGRPCEmptyKey},
		{kv.PutRequest{Key: key}, nil},
		{kv.PutRequest{Key: key, IgnoreValue: true}, nil},
		{kv.PutRequest{Key: key, IgnoreValue: true, Value: value}, rpctypes.ErrGRPCValueProvided},
		{kv.PutRequest{Key: key, IgnoreLease: true}, nil},
		{kv.PutRequest{Key: key, IgnoreLease: true, Lease: 1}, rpctypes.ErrGRPCLeaseProvided},
		{kv.PutRequest{Key: key, IgnoreLease: true, IgnoreValue: true}, nil},
	} {
		if err := checkPut(&c.q); err != c.want {
			t.Errorf("%+v: %v, want %v", c.q, err, c.want)
		}
	}
	if err := checkDelete(&kv.DeleteRangeRequest{KeyRange: kv.KeyRange{End: key}}); err != rpctypes.ErrGRPCEmptyKey {
		t.Errorf("deleting no key: %v", err)
	}
}

// TestCheckTxn is the table of transactions whose operations are wrong, too many, or touch a key twice. The last rule has
// gaps in etcd, which clients may rest on: they are part of the table.
func TestCheckTxn(t *testing.T) {
	dup, empty, many := rpctypes.ErrGRPCDuplicateKey, rpctypes.ErrGRPCEmptyKey, rpctypes.ErrGRPCTooManyOps
	for _, c := range []struct {
		name        string
		then, other []kv.Op
		want        error
	}{
		{"nothing", nil, nil, nil},
		{"an operation of no kind", list(kv.Op{}), nil, rpctypes.ErrGRPCKeyNotFound},
		{"a put of no key", list(opPut("")), nil, empty},
		{"in the other branch", nil, list(opPut("")), empty},
		{"a range of no key, nested", list(opTxn(nil, list(opRange("")))), nil, empty},
		{"a deletion of no key", list(opDelete("", "z")), nil, empty},

		{"two puts", list(opPut("a"), opPut("a")), nil, dup},
		{"two puts of two keys", list(opPut("a"), opPut("b")), nil, nil},
		{"one in each branch", list(opPut("a")), list(opPut("a")), nil},
		{"a put and a range", list(opPut("a"), opRange("a")), nil, nil},
		{"a put, then its deletion", list(opPut("a"), opDelete("a", "")), nil, dup},
		{"a deletion, then the put", list(opDelete("a", ""), opPut("a")), nil, dup},
		{"a put within a deleted range", list(opDelete("a", "c"), opPut("b")), nil, dup},
		{"a put at the end of a deleted range", list(opDelete("a", "c"), opPut("c")), nil, nil},
		{"two deletions", list(opDelete("a", "c"), opDelete("b", "")), nil, nil},
		{"a put within an inverted range", list(opDelete("c", "a"), opPut("b")), nil, nil},
		{"a deletion from a key on is not seen", list(opDelete("a", "\x00"), opPut("b")), nil, nil},
		{"a deletion of everything is not seen", list(opDelete("\x00", "\x00"), opPut("b")), nil, nil},

		{"then and else of one nested transaction", list(opTxn(list(opPut("a")), list(opPut("a")))), nil, nil},
		{"two nested transactions", list(opTxn(list(opPut("a")), nil), opTxn(list(opPut("a")), nil)), nil, dup},
		{"two nested transactions, both in else", list(opTxn(nil, list(opPut("a"))), opTxn(nil, list(opPut("a")))), nil, dup},
		{"then of one, else of the next", list(opTxn(list(opPut("a")), nil), opTxn(nil, list(opPut("a")))), nil, dup},
		{"a nested put and one beside it", list(opTxn(list(opPut("a")), nil), opPut("a")), nil, dup},
		{"a nested put in else and one beside it", list(opPut("a"), opTxn(nil, list(opPut("a")))), nil, dup},
		{"two levels down", list(opTxn(list(opTxn(list(opPut("a")), nil)), nil), opPut("a")), nil, dup},
		{"a nested put and a deletion beside it", list(opTxn(list(opPut("a")), nil), opDelete("a", "")), nil, dup},
		{"a nested deletion and a put beside it", list(opTxn(list(opDelete("a", "")), nil), opPut("a")), nil, dup},
		{"a nested deletion, and the put nested behind it", list(opTxn(list(opDelete("a", "")), nil), opTxn(list(opPut("a")), nil)), nil, dup},
		{"a nested deletion behind the nested put is not seen", list(opTxn(list(opPut("a")), nil), opTxn(list(opDelete("a", "")), nil)), nil, nil},
		{"deletion in then, put in else of one nested transaction", list(opTxn(list(opDelete("a", "")), list(opPut("a")))), nil, nil},
		{"two puts within a nested branch", list(opTxn(list(opPut("a"), opPut("a")), nil)), nil, dup},
		{"in the nested else", list(opTxn(nil, list(opPut("a"), opPut("a")))), nil, dup},
		{"of the outer else", nil, list(opTxn(nil, list(opPut("a"), opPut("a")))), dup},

		{"four operations", list(opPut("a"), opPut("b"), opPut("c"), opPut("d")), nil, nil},
		{"five", list(opPut("a"), opPut("b"), opPut("c"), opPut("d"), opPut("e")), nil, many},
		{"five in else", nil, list(opRange("a"), opRange("a"), opRange("a"), opRange("a"), opRange("a")), many},
		{"one and three nested", list(opTxn(list(opPut("a"), opPut("b"), opPut("c")), nil)), nil, nil},
		{"two and three nested", list(opTxn(list(opPut("a"), opPut("b"), opPut("c")), nil), opRange("z")), nil, many},
		{"four levels", list(opTxn(list(opTxn(list(opTxn(list(opPut("a")), nil)), nil)), nil)), nil, nil},
		{"five levels", list(opTxn(list(opTxn(list(opTxn(list(opTxn(list(opPut("a")), nil)), nil)), nil)), nil)), nil, many},
		{"two nested of two each", list(opTxn(list(opPut("a"), opPut("b")), nil), opTxn(list(opPut("c"), opPut("d")), nil)), nil, nil},
	} {
		q := &kv.TxnRequest{Success: c.then, Failure: c.other}
		if err := checkTxn(q, 4); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	compares := &kv.TxnRequest{Compare: []kv.Compare{{}}}
	if err := checkTxn(compares, 4); err != empty {
		t.Errorf("a compare of no key: %v", err)
	}
	for i := range 5 {
		compares.Compare = append(compares.Compare[:i:i], kv.Compare{KeyRange: kv.KeyRange{Key: []byte("k")}})
	}
	if err := checkTxn(compares, 4); err != many {
		t.Errorf("five compares: %v", err)
	}
}

// TestCheckTxnTakesLittle checks a transaction of 74,000 nested operations, half of them deletions, which a client may send
// in a megabyte. Comparing each put with each deletion took 13 s; a test that takes so long is noticed.
func TestCheckTxnTakesLittle(t *testing.T) {
	n := 0
	var top []kv.Op
	for range 42 {
		var middle []kv.Op
		for range 42 {
			var leaf []kv.Op
			for range 21 {
				leaf = append(leaf, opPut(fmt.Sprint("p", n)), opDelete(fmt.Sprint("d", n), fmt.Sprint("d", n, "x")))
				n++
			}
			middle = append(middle, opTxn(leaf, nil))
		}
		top = append(top, opTxn(middle, nil))
	}
	top = append(top, opPut("dz")) // behind all ranges
	if err := checkTxn(&kv.TxnRequest{Success: top}, 128); err != nil {
		t.Error(err)
	}
	top[42] = opPut("d7777w")
	if err := checkTxn(&kv.TxnRequest{Success: top}, 128); err != rpctypes.ErrGRPCDuplicateKey {
		t.Error(err)
	}
}

// TestSpans compares sets of random intervals with the intervals one by one.
func TestSpans(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	letter := func() string { return string(rune('a' + r.IntN(12))) }
	for range 2000 {
		var ops, others []kv.Op
		for range r.IntN(5) {
			ops = append(ops, opDelete(letter(), []string{"", "\x00", letter(), letter(), letter()}[r.IntN(5)]))
			others = append(others, opDelete(letter(), letter()))
		}
		both := deletedBy(ops).and(deletedBy(others))
		for key := "a"; key <= "l"; key = string(rune(key[0] + 1)) {
			want := false
			for _, op := range append(ops[:len(ops):len(ops)], others...) {
				want = want || !op.DeleteRange.IsFrom() && op.DeleteRange.Contains([]byte(key))
			}
			if got := both.contain(key); got != want {
				t.Fatalf("%s in %q: %t, want %t", key, both, got, want)
			}
		}
		for i := 1; i < len(both); i++ {
			if both[i].lo <= both[i-1].hi {
				t.Fatalf("%q meet", both)
			}
		}
	}
}
