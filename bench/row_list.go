package bench

import (
	"context"
	"fmt"
	"math/rand/v2"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// What the rows of lists read: whole objects below one prefix, and many more below another.
const (
	objectsAll, objectBytes = 10_000, 1 << 10
	objectsMany, pageKeys   = 100_000, 500
	objectsShort            = 1_000 // of both, in short forms
)

func objectKey(n int) []byte { return fmt.Appendf(nil, "/list/%08d", n) }

func manyKey(n int) []byte { return fmt.Appendf(nil, "/page/%08d", n) }

// listStock is both kinds of objects.
var listStock = &stock{name: "lists", fill: func(ctx context.Context, t *task, m *members) error {
	all, many := t.n(objectsAll, objectsShort), t.n(objectsMany, objectsShort)
	return fill(ctx, m, writes{n: all + many, turn: func(i int) *pb.PutRequest {
		if i < all {
			return &pb.PutRequest{Key: objectKey(i), Value: value(i, objectBytes)}
		}
		return &pb.PutRequest{Key: manyKey(i - all), Value: value(i, valueBytes)}
	}})
}}

// listLoad is ranges whose answers are not decoded.
type listLoad struct {
	name    string
	asks    string
	callers int
	ask     func(t *task, r *rand.Rand, q *pb.RangeRequest) (bytes int) // fills q, and says how large the answer is at least
}

func listRows() []row {
	var all []row
	for _, l := range []listLoad{
		{
			name:    "list-10000",
			asks:    fmt.Sprintf("what does a list of %d objects of %d B cost, 4 at a time?", objectsAll, objectBytes),
			callers: 4,
			ask: func(t *task, _ *rand.Rand, q *pb.RangeRequest) int {
				q.Key, q.RangeEnd = []byte("/list/"), []byte("/list0")
				return t.n(objectsAll, objectsShort) * objectBytes
			},
		},
		{
			name:    "page-500",
			asks:    fmt.Sprintf("what does a page of %d out of %d keys cost, their count included, 16 at a time?", pageKeys, objectsMany),
			callers: 16,
			ask: func(t *task, r *rand.Rand, q *pb.RangeRequest) int {
				q.Key, q.RangeEnd, q.Limit = manyKey(r.IntN(t.n(objectsMany, objectsShort)-pageKeys)), []byte("/page0"), pageKeys
				return pageKeys * valueBytes
			},
		},
		{
			name:    "count-100000",
			asks:    fmt.Sprintf("what does counting %d keys cost, 16 at a time?", objectsMany),
			callers: 16,
			ask: func(_ *task, _ *rand.Rand, q *pb.RangeRequest) int {
				q.Key, q.RangeEnd, q.CountOnly = []byte("/page/"), []byte("/page0"), true
				return 1
			},
		},
	} {
		all = append(all, row{name: l.name, asks: l.asks, show: showCalls, run: l.calls().run})
	}
	return all
}

func (l listLoad) calls() calls {
	return calls{
		setup:   setup{stock: listStock, inPlace: true},
		callers: l.callers,
		caller: func(t *task, c *clients, i int, r *rand.Rand) caller {
			conn := c.conns[i%len(c.conns)]
			return func(ctx context.Context) error {
				q := &pb.RangeRequest{}
				want := l.ask(t, r, q)
				got, err := rangeRaw(ctx, conn, q)
				if err == nil && got < want {
					err = fmt.Errorf("%s: %d bytes came, at least %d were to", l.name, got, want)
				}
				return err
			}
		},
	}
}
