package auth

import (
	"flag"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"

	"holdfast/kv"
)

var exhaustive = flag.Bool("auth.exhaustive", false, "decide over every request, not over a random few")

// The keys fall into three cells, "a" to "c", each with all keys that begin with its letter. There are six permissions, to read
// and to write each cell, so a user is a set of six bits: 1<<cell to read, 8<<cell to write.
const (
	cells     = 3
	userMasks = 1 << (2 * cells)
)

func letter(cell int) string { return string(rune('a' + cell)) }

// target is what an operation names: one key of a cell, or all of the cells from one on up to another.
type target struct {
	r kv.KeyRange
	// cells it touches, a bit for each
	cells int
}

var singles, targets = func() (singles, targets []target) {
	for cell := range cells {
		singles = append(singles, target{kv.KeyRange{Key: []byte(letter(cell) + "1")}, 1 << cell})
	}
	targets = append(targets, singles...)
	for lo := range cells {
		for hi := lo + 1; hi <= cells; hi++ {
			targets = append(targets, target{kv.KeyRange{Key: []byte(letter(lo)), End: []byte(letter(hi))}, 1<<hi - 1<<lo})
		}
	}
	return singles, targets
}()

// tree is a request with what the definition says that it needs, as a mask of the permissions.
type tree struct {
	op    kv.Op
	needs int
}

func read(cells int) int  { return cells }
func write(cells int) int { return cells << 3 }

// keysOfCell is a lease for each cell, with one key in it, and one with a key in each.
func keysOfCell(id kv.LeaseID) (keys [][]byte) {
	for cell := range cells {
		if id&(1<<cell) != 0 {
			keys = append(keys, []byte(letter(cell)+"2"))
		}
	}
	return keys
}

// leaves are all operations that hold no other.
func leaves() (all []tree) {
	for _, t := range targets {
		all = append(all, tree{kv.Op{Range: &kv.RangeRequest{KeyRange: t.r}}, read(t.cells)})
		all = append(all, tree{kv.Op{DeleteRange: &kv.DeleteRangeRequest{KeyRange: t.r}}, write(t.cells)})
		all = append(all, tree{kv.Op{DeleteRange: &kv.DeleteRangeRequest{KeyRange: t.r, PrevKV: true}}, write(t.cells) | read(t.cells)})
	}
	for _, t := range singles {
		for _, id := range []kv.LeaseID{0, 1, 2, 4, 7} {
			needs := write(t.cells) | write(int(id))
			all = append(all, tree{kv.Op{Put: &kv.PutRequest{Key: t.r.Key, Lease: id}}, needs})
			all = append(all, tree{kv.Op{Put: &kv.PutRequest{Key: t.r.Key, Lease: id, PrevKV: true}}, needs | read(t.cells)})
		}
	}
	return all
}

// eachTxn calls do with every transaction that compares one range or none and holds, in each branch, one operation or none.
func eachTxn(ops []tree, do func(tree)) {
	ops = append([]tree{{}}, ops...)
	for compare := -1; compare < len(targets); compare++ {
		for i := range ops {
			for j := range ops {
				q, needs := &kv.TxnRequest{}, ops[i].needs|ops[j].needs
				if compare >= 0 {
					q.Compare = []kv.Compare{{KeyRange: targets[compare].r}}
					needs |= read(targets[compare].cells)
				}
				if i > 0 {
					q.Success = []kv.Op{ops[i].op}
				}
				if j > 0 {
					q.Failure = []kv.Op{ops[j].op}
				}
				do(tree{kv.Op{Txn: q}, needs})
			}
		}
	}
}

// judge is a state with a user for every set of permissions, each given in the roles of its bits.
func judge(t *testing.T) *State {
	t.Helper()
	rows := Rows{Enabled: true, Revision: 9}
	for bit := range 2 * cells {
		kind := authpb.READ
		if bit >= cells {
			kind = authpb.WRITE
		}
		role := &authpb.Role{Name: fmt.Append(nil, bit), KeyPermission: []*authpb.Permission{
			{PermType: kind, Key: []byte(letter(bit % cells)), RangeEnd: []byte(letter(bit%cells + 1))},
		}}
		rows.Roles = append(rows.Roles, Row{string(role.Name), encode(role)})
	}
	for mask := range userMasks {
		user := &authpb.User{Name: []byte(userOf(mask))}
		for bit := range 2 * cells {
			if mask&(1<<bit) != 0 {
				user.Roles = append(user.Roles, fmt.Sprint(bit))
			}
		}
		rows.Users = append(rows.Users, Row{string(user.Name), encode(user)})
	}
	s, err := rows.State()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func userOf(mask int) string { return fmt.Sprintf("%06b", mask) }

// TestEveryRequest holds the decision against its definition: a user may do a request if it has the permission for each cell
// that the request reads or writes anywhere. Requests are all operations, and all transactions of them with transactions in
// them, over three cells of keys; users are all 64 sets of permissions. All that is 88 million decisions; without
// -auth.exhaustive one in a thousand of the nested transactions is drawn.
func TestEveryRequest(t *testing.T) {
	r, s := random(t), judge(t)
	users := make([]string, userMasks)
	for mask := range users {
		users[mask] = userOf(mask)
	}
	var wants []kv.Access
	requests, allowed := 0, 0
	decide := func(q tree) {
		requests++
		c := kv.Command{Put: q.op.Put, DeleteRange: q.op.DeleteRange, Txn: q.op.Txn}
		wants = c.Accesses(wants[:0], keysOfCell)
		if q.op.Range != nil {
			wants = q.op.Range.Accesses(wants)
		}
		for mask, user := range users {
			err := s.Check(user, 9, wants)
			if (err == nil) != (q.needs&^mask == 0) {
				t.Fatalf("%s with %06b, which needs %06b: %v", show(q.op), mask, q.needs, err)
			}
			if err == nil {
				allowed++
			}
		}
	}
	ops := leaves()
	for _, q := range ops {
		decide(q)
	}
	var simple []tree
	eachTxn(ops, func(q tree) {
		decide(q)
		simple = append(simple, q)
	})
	nested := 0
	for _, q := range simple {
		if !*exhaustive && r.IntN(1000) > 0 {
			continue
		}
		nested++
		eachTxn([]tree{q}, decide)
	}
	t.Logf("%d requests, %d of them nested, for %d users: %d times allowed", requests, nested, len(users), allowed)
	if nested == 0 || allowed == 0 {
		t.Error("nothing was decided")
	}
}

// show writes an operation down.
func show(op kv.Op) string {
	switch {
	case op.Range != nil:
		return fmt.Sprintf("range %s", op.Range.KeyRange)
	case op.Put != nil:
		return fmt.Sprintf("put %s prev=%v lease=%d", op.Put.Key, op.Put.PrevKV, int64(op.Put.Lease))
	case op.DeleteRange != nil:
		return fmt.Sprintf("delete %s prev=%v", op.DeleteRange.KeyRange, op.DeleteRange.PrevKV)
	case op.Txn != nil:
		var parts []string
		for _, c := range op.Txn.Compare {
			parts = append(parts, fmt.Sprintf("if %s", c.KeyRange))
		}
		for _, ops := range [][]kv.Op{op.Txn.Success, op.Txn.Failure} {
			text := "["
			for _, one := range ops {
				text += show(one)
			}
			parts = append(parts, text+"]")
		}
		return "txn " + strings.Join(parts, " ")
	}
	return "nothing"
}
