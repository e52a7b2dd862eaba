package clientv3

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/namespace"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // registers the compressor
)

// testTimeout bounds one test. None needs more than a few seconds; the rest is for a busy machine.
const testTimeout = 40 * time.Second

// connect returns a client and a context that ends before go test would.
func connect(t *testing.T, opts ...grpc.DialOption) (context.Context, *clientv3.Client) {
	t.Helper()
	return connectAs(t, "", "", opts...)
}

func connectAs(t *testing.T, user, password string, opts ...grpc.DialOption) (context.Context, *clientv3.Client) {
	t.Helper()
	endpoint := os.Getenv("HOLDFAST_ENDPOINT")
	if endpoint == "" {
		t.Fatal("HOLDFAST_ENDPOINT names no server; these tests are started by the package above")
	}
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{endpoint}, DialTimeout: 10 * time.Second, DialOptions: opts, Username: user, Password: password,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	t.Cleanup(func() {
		cancel()
		if err := c.Close(); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	return ctx, c
}

// serves says whether the server has a part of the protocol. HOLDFAST_UNSERVED lists those that it has been seen to
// refuse.
func serves(part string) bool {
	for _, refused := range strings.Split(os.Getenv("HOLDFAST_UNSERVED"), ",") {
		if refused == part {
			return false
		}
	}
	return true
}

// must fails the test when a call did.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// wants fails the test when an error is not the one with that text.
func wants(t *testing.T, what string, want, got error) {
	t.Helper()
	if got == nil || rpctypes.ErrorDesc(got) != rpctypes.ErrorDesc(want) {
		t.Errorf("%s: error %v, want %v", what, got, want)
	}
}

// equal fails the test when two values print differently.
func equal(t *testing.T, what string, want, got any) {
	t.Helper()
	if fmt.Sprint(want) != fmt.Sprint(got) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// pairs prints the keys and values of an answer.
func pairs(r *clientv3.GetResponse) string {
	var text []string
	for _, kv := range r.Kvs {
		text = append(text, string(kv.Key)+"="+string(kv.Value))
	}
	return strings.Join(text, " ")
}

func TestPutGetDelete(t *testing.T) {
	ctx, c := connect(t)
	first := must[*clientv3.PutResponse](t)(c.Put(ctx, "kv/a", "1"))
	if first.PrevKv != nil {
		t.Errorf("previous value %v although none was asked for", first.PrevKv)
	}
	second := must[*clientv3.PutResponse](t)(c.Put(ctx, "kv/a", "2", clientv3.WithPrevKV()))
	equal(t, "previous value", "1", string(second.PrevKv.Value))
	equal(t, "revisions between two puts", 1, second.Header.Revision-first.Header.Revision)
	must[*clientv3.PutResponse](t)(c.Put(ctx, "kv/b", "x"))
	must[*clientv3.PutResponse](t)(c.Put(ctx, "kv/c", "0"))

	get := func(opts ...clientv3.OpOption) *clientv3.GetResponse {
		t.Helper()
		return must[*clientv3.GetResponse](t)(c.Get(ctx, "kv/", append([]clientv3.OpOption{clientv3.WithPrefix()}, opts...)...))
	}
	equal(t, "prefix", "kv/a=2 kv/b=x kv/c=0", pairs(get()))
	equal(t, "serializable", "kv/a=2 kv/b=x kv/c=0", pairs(get(clientv3.WithSerializable())))
	equal(t, "descending by value", "kv/b=x kv/a=2 kv/c=0", pairs(get(clientv3.WithSort(clientv3.SortByValue, clientv3.SortDescend))))
	limited := get(clientv3.WithLimit(2))
	equal(t, "limit", "kv/a=2 kv/b=x 3 true", fmt.Sprint(pairs(limited), " ", limited.Count, limited.More))
	counted := get(clientv3.WithCountOnly())
	equal(t, "count only", "0 3", fmt.Sprint(len(counted.Kvs), counted.Count))
	equal(t, "keys only", "kv/a= kv/b= kv/c=", pairs(get(clientv3.WithKeysOnly())))
	equal(t, "at the first revision", "kv/a=1", pairs(get(clientv3.WithRev(first.Header.Revision))))
	equal(t, "changed since", "kv/b=x kv/c=0", pairs(get(clientv3.WithMinModRev(second.Header.Revision+1))))
	equal(t, "created until", "kv/a=2", pairs(get(clientv3.WithMaxCreateRev(first.Header.Revision))))

	deleted := must[*clientv3.DeleteResponse](t)(c.Delete(ctx, "kv/a", clientv3.WithRange("kv/c"), clientv3.WithPrevKV()))
	equal(t, "deleted", "2 2", fmt.Sprint(deleted.Deleted, len(deleted.PrevKvs)))
	equal(t, "left", "kv/c=0", pairs(get()))
	nothing := must[*clientv3.DeleteResponse](t)(c.Delete(ctx, "kv/a"))
	equal(t, "revision of a delete of nothing", deleted.Header.Revision, nothing.Header.Revision)
}

func TestErrors(t *testing.T) {
	ctx, c := connect(t)
	_, err := c.Put(ctx, "", "x")
	wants(t, "empty key", rpctypes.ErrEmptyKey, err)
	_, err = c.Get(ctx, "errors/a", clientv3.WithRev(1<<40))
	wants(t, "future revision", rpctypes.ErrFutureRev, err)
	_, err = c.Put(ctx, "errors/a", "x", clientv3.WithLease(12345))
	wants(t, "unknown lease", rpctypes.ErrLeaseNotFound, err)
	_, err = c.Put(ctx, "errors/none", "", clientv3.WithIgnoreValue())
	wants(t, "value of no key", rpctypes.ErrKeyNotFound, err)
	_, err = c.Txn(ctx).Then(clientv3.OpPut("errors/a", "1"), clientv3.OpPut("errors/a", "2")).Commit()
	wants(t, "key twice", rpctypes.ErrDuplicateKey, err)
	ops := make([]clientv3.Op, 129)
	for i := range ops {
		ops[i] = clientv3.OpGet("errors/a")
	}
	_, err = c.Txn(ctx).Then(ops...).Commit()
	wants(t, "129 operations", rpctypes.ErrTooManyOps, err)
	_, err = c.Put(ctx, "errors/a", strings.Repeat("x", 1<<20+1<<19))
	wants(t, "1.5 MiB", rpctypes.ErrRequestTooLarge, err)
	_, err = c.Revoke(ctx, 12345)
	wants(t, "revoke of no lease", rpctypes.ErrLeaseNotFound, err)
	if serves("members") {
		_, err = c.MemberRemove(ctx, 12345)
		wants(t, "removal of no member", rpctypes.ErrMemberNotFound, err)
	}
}

func TestTxn(t *testing.T) {
	ctx, c := connect(t)
	swap := func(old, new string) *clientv3.TxnResponse {
		t.Helper()
		return must[*clientv3.TxnResponse](t)(c.Txn(ctx).
			If(clientv3.Compare(clientv3.Value("txn/a"), "=", old)).
			Then(clientv3.OpPut("txn/a", new), clientv3.OpGet("txn/a")).
			Else(clientv3.OpGet("txn/a")).Commit())
	}
	created := must[*clientv3.TxnResponse](t)(c.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision("txn/a"), "=", 0), clientv3.Compare(clientv3.Version("txn/a"), "=", 0)).
		Then(clientv3.OpPut("txn/a", "1"), clientv3.OpPut("txn/b", "1")).Commit())
	equal(t, "create", true, created.Succeeded)
	done := swap("1", "2")
	equal(t, "swap", "true 2", fmt.Sprint(done.Succeeded, " ", string(done.Responses[1].GetResponseRange().Kvs[0].Value)))
	refused := swap("1", "3")
	equal(t, "swap from an old value", "false 2", fmt.Sprint(refused.Succeeded, " ", string(refused.Responses[0].GetResponseRange().Kvs[0].Value)))
	nested := must[*clientv3.TxnResponse](t)(c.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision("txn/"), ">", 0).WithPrefix()).
		Then(clientv3.OpTxn(
			[]clientv3.Cmp{clientv3.Compare(clientv3.Value("txn/b"), "!=", "1")},
			[]clientv3.Op{clientv3.OpPut("txn/c", "then")},
			[]clientv3.Op{clientv3.OpPut("txn/c", "else"), clientv3.OpDelete("txn/b")})).Commit())
	inner := nested.Responses[0].GetResponseTxn()
	equal(t, "nested", "true false 1", fmt.Sprint(nested.Succeeded, inner.Succeeded, " ", inner.Responses[1].GetResponseDeleteRange().Deleted))
	equal(t, "after", "txn/a=2 txn/c=else", pairs(must[*clientv3.GetResponse](t)(c.Get(ctx, "txn/", clientv3.WithPrefix()))))
}

func TestNamespace(t *testing.T) {
	ctx, c := connect(t)
	inside := namespace.NewKV(c.KV, "ns/")
	must[*clientv3.PutResponse](t)(inside.Put(ctx, "a", "1"))
	equal(t, "inside", "a=1", pairs(must[*clientv3.GetResponse](t)(inside.Get(ctx, "", clientv3.WithFromKey()))))
	equal(t, "outside", "ns/a=1", pairs(must[*clientv3.GetResponse](t)(c.Get(ctx, "ns/a"))))
}

// TestGzip sends and receives compressed: what is large must come back whole.
func TestGzip(t *testing.T) {
	ctx, c := connect(t, grpc.WithDefaultCallOptions(grpc.UseCompressor("gzip")))
	value := strings.Repeat("compressible ", 80_000)
	must[*clientv3.PutResponse](t)(c.Put(ctx, "gzip/a", value))
	got := must[*clientv3.GetResponse](t)(c.Get(ctx, "gzip/a"))
	if string(got.Kvs[0].Value) != value {
		t.Errorf("%d bytes went in, %d other ones came out", len(value), len(got.Kvs[0].Value))
	}
	watch := c.Watch(ctx, "gzip/a", clientv3.WithRev(got.Kvs[0].ModRevision))
	if r := <-watch; len(r.Events) != 1 || string(r.Events[0].Kv.Value) != value {
		t.Errorf("the watch delivered %d events, error %v", len(r.Events), r.Err())
	}
}

// TestLargeAnswer lists more than gRPC's usual 4 MiB.
func TestLargeAnswer(t *testing.T) {
	ctx, c := connect(t)
	const keys = 8
	for i := range keys {
		must[*clientv3.PutResponse](t)(c.Put(ctx, fmt.Sprintf("large/%d", i), strings.Repeat("x", 1<<20)))
	}
	got := must[*clientv3.GetResponse](t)(c.Get(ctx, "large/", clientv3.WithPrefix()))
	equal(t, "keys", keys, len(got.Kvs))
	must[*clientv3.DeleteResponse](t)(c.Delete(ctx, "large/", clientv3.WithPrefix()))
}
